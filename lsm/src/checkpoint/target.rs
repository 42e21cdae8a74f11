//! The directory that becomes a checkpoint: who may be replaced, and how it stays whole.
//!
//! A directory is what its manifest says it is. Before the first table a manifest is put there that every opener refuses ("unfinished"); the last step
//! of every checkpoint is the rename of one that names all tables and says "checkpoint". So at each moment there is nothing yet, the old
//! checkpoint or the new one; and tables that no manifest names, in such a directory, are known for leftovers of an attempt.
//!
//! Nothing is ever written over: a table gets the number that it has in the database, or, where a file of that name is there, a fresh one. (An
//! older checkpoint of a copy that went its own way has tables of the same numbers.) A session that writes to a checkpoint
//! begins with a manifest of its own, which says "checkpoint" no more: it is somebody's database then, and is not replaced.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Wanted, refused, sites};
use crate::cache::BlockCache;
use crate::checksum::Identity;
use crate::error::{Error, IoContext, Result};
use crate::filename::{FileName, FileNumber};
use crate::fs::{FileSystem, Lock, LockMode};
use crate::levels::{Change, Edit, TableReference};
use crate::manifest::{self, ManifestReport, Standing};
use crate::ordered::{OrderedMap, OrderedSet};
use crate::recover::{list, lock};
use crate::table::{AnyTable, ExpectedTable};

/// A directory, locked, that may become a checkpoint.
#[derive(Debug)]
pub(super) struct Target<'a> {
    fs: &'a Arc<dyn FileSystem>,
    directory: PathBuf,
    database: Identity,
    _lock: Box<dyn Lock>,
    /// Whether its manifest is yet to be made.
    is_new: bool,
    /// The tables of the checkpoint that is there, by identity.
    old: OrderedMap<[u8; 16], Arc<TableReference>>,
    /// The tables that the manifest in force names.
    named: OrderedSet<FileNumber>,
    /// The numbers of all files that are or were there.
    taken: OrderedSet<FileNumber>,
    next_file: FileNumber,
    /// For the tables that are opened to be verified: it keeps nothing.
    cache: Arc<BlockCache>,
}

impl<'a> Target<'a> {
    /// Locks the directory, made if it is not there, and sees whether it may become a checkpoint of `database`.
    ///
    /// # Errors
    /// InvalidArgument if it may not; Locked; Corruption of its manifest; those of reading, of making and of syncing a directory.
    pub(super) fn open(fs: &'a Arc<dyn FileSystem>, directory: &Path, database: Identity) -> Result<Self> {
        fs.create_dir_all(directory, sites::DIRECTORY).context("create the directory", directory)?;
        let lock = lock(fs, directory)?;
        let readers = FileName::Readers.path(directory);
        fs.try_lock(&readers, LockMode::Shared).context("create the readers' lock", &readers)?;
        // An attempt may have been killed behind the rename of its manifest: what is read now is durable, before anything goes because of it.
        fs.sync_dir(directory, sites::BEFORE).context("sync the directory", directory)?;
        let names = list(fs, directory)?;
        let found = manifest::read(fs, directory)?;
        check_replaceable(directory, database, found.as_ref(), &names)?;
        let mut target = Self {
            fs,
            directory: directory.to_owned(),
            database,
            _lock: lock,
            is_new: found.is_none(),
            old: OrderedMap::new(),
            named: OrderedSet::new(),
            taken: names.iter().filter_map(|name| name.number()).collect(),
            next_file: 1,
            cache: Arc::new(BlockCache::new(0)),
        };
        if let Some(found) = found {
            let trees = found.levels.keyspaces.values().map(|keyspace| &keyspace.tree);
            let tables: Vec<_> = trees.flat_map(|tree| tree.tables()).map(|(_, table)| table).collect();
            target.named = tables.iter().map(|table| table.file).collect();
            target.taken.extend(target.named.iter().copied());
            target.old = tables.iter().map(|table| (table.identity.to_bytes(), Arc::clone(table))).collect();
            target.next_file = found.levels.next_file;
        }
        Ok(target)
    }

    /// Removes what attempts left, and says of a new directory that it is no database yet.
    ///
    /// # Errors
    /// Those of writing.
    pub(super) fn begin(&mut self) -> Result<()> {
        if self.is_new {
            let changes = vec![Change::Database(self.database), Change::Unfinished];
            manifest::begin(self.fs, &self.directory, &Edit { changes })?;
            self.is_new = false;
        }
        self.remove_unnamed();
        Ok(())
    }

    pub(super) fn fs(&self) -> &Arc<dyn FileSystem> {
        self.fs
    }

    pub(super) fn path(&self, number: FileNumber) -> PathBuf {
        FileName::Table(number).path(&self.directory)
    }

    /// Opens a table that should be the one that is wanted.
    ///
    /// # Errors
    /// As [`AnyTable::open`].
    pub(super) fn open_table(&self, wanted: &Wanted, number: FileNumber) -> Result<AnyTable> {
        let reference = &wanted.reference;
        let expected = ExpectedTable {
            identity: reference.identity,
            database: self.database,
            file_bytes: reference.file_bytes,
        };
        AnyTable::open(self.fs, &self.path(number), wanted.kind, expected, &self.cache)
    }

    /// The number under which the older checkpoint has this table: if it is there, as long as it must be, and opens as this very table.
    pub(super) fn place_of(&self, wanted: &Wanted) -> Option<FileNumber> {
        let old = self.old.get(&wanted.reference.identity.to_bytes())?;
        // One that cannot be opened gets another beside it.
        self.open_table(wanted, old.file).ok().map(|_| old.file)
    }

    /// A number that no file has: `wanted`, if that is free.
    pub(super) fn free_number(&mut self, wanted: FileNumber) -> Result<FileNumber> {
        let number = match self.taken.insert(wanted) {
            true => wanted,
            false => {
                let fresh = self.next_file();
                self.taken.insert(fresh);
                fresh
            }
        };
        if number == FileNumber::MAX {
            return Err(Error::corruption("the numbers of files are used up").at(&self.directory));
        }
        Ok(number)
    }

    /// A number above all that were given out here.
    pub(super) fn next_file(&self) -> FileNumber {
        self.taken.last().map_or(1, |last| last.saturating_add(1)).max(self.next_file)
    }

    /// Lets a manifest that begins with `edit` take over; the tables that it names are there.
    ///
    /// # Errors
    /// Those of writing: then the old one is in force, or this one.
    pub(super) fn take_over(&mut self, edit: &Edit) -> Result<()> {
        self.fs.sync_dir(&self.directory, sites::NAMES).context("sync the directory", &self.directory)?;
        manifest::begin(self.fs, &self.directory, edit)?;
        let tables = edit.changes.iter().filter_map(|change| match change {
            Change::TableAdded { table, .. } => Some(table.file),
            _ => None,
        });
        self.named = tables.collect();
        Ok(())
    }

    /// Removes the tables that the manifest in force does not name, unless somebody is opening what is here; returns how many. What cannot be
    /// removed costs space, until the next checkpoint.
    pub(super) fn remove_unnamed(&mut self) -> u64 {
        let readers = FileName::Readers.path(&self.directory);
        let Ok(Some(_alone)) = self.fs.try_lock(&readers, LockMode::Exclusive) else { return 0 };
        let unnamed: Vec<FileNumber> = match list(self.fs, &self.directory) {
            Ok(names) => names
                .into_iter()
                .filter_map(|name| match name {
                    FileName::Table(number) if !self.named.contains(&number) => Some(number),
                    _ => None,
                })
                .collect(),
            Err(_) => return 0,
        };
        let mut removed = 0;
        for number in unnamed {
            if self.fs.remove_file(&self.path(number)).is_ok() {
                self.taken.remove(&number);
                removed += 1;
            }
        }
        removed
    }
}

/// Succeeds if a directory may become a checkpoint of `database`.
fn check_replaceable(
    directory: &Path,
    database: Identity,
    found: Option<&ManifestReport>,
    names: &[FileName],
) -> Result<()> {
    let Some(found) = found else {
        return match names.iter().find(|name| name.number().is_some()) {
            None => Ok(()),
            Some(data) => Err(refused(
                format!(
                    "there is {data} here but no MANIFEST: this is, or was, something else. Name an empty directory"
                ),
                directory,
            )),
        };
    };
    if found.levels.database != database {
        return Err(refused(
            format!(
                "there is another database here, {:?}, of which nothing is replaced by a checkpoint of {database:?}",
                found.levels.database
            ),
            directory,
        ));
    }
    match found.standing {
        Standing::Unfinished | Standing::Checkpoint => Ok(()),
        Standing::Database => Err(refused(
            "the database here is no checkpoint, or was written to since: what it holds alone would be lost. Name another directory",
            directory,
        )),
    }
}
