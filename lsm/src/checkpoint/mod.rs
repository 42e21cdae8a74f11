//! A copy of a running database: consistent, durable, complete or not there, and cheap where tables can be linked.
//!
//! What makes it simple is that tables never change, and that a flush moves the marks of all keyspaces together: the tables that the
//! manifest names behind it hold history up to the mark, whole batches over all keyspaces, and nothing else. So:
//!
//! 1. Flush: all that was committed before the call is in tables. Then the tables of one moment are the checkpoint, and it needs no logs. (A load that was
//!    finished meanwhile is in tables too, and what was committed before that perhaps not: then once more.)
//! 2. While the tables are linked, the shared lock on `READERS` keeps them from being removed, as it does for whoever opens. Those that cannot be
//!    linked (another device, a file system without links) are copied behind the lock from files that are open anyway; each copy is synced, dropped from
//!    the page cache, read back from the medium and checked down to the order of its entries.
//! 3. The names are made durable, then a manifest that names them takes over by its rename: [`target`] has who may be replaced, and what
//!    a crash leaves.
//!
//! The copy has the identity of the database, which is in each table. See FORMAT.md, "Checkpoints", for what that means.

mod target;

use std::path::Path;
use std::sync::Arc;

use self::target::Target;
use crate::engine::Engine;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::filename::{FileName, FileNumber};
use crate::fs::{Advice, File, Lock};
use crate::key::SequenceNumber;
use crate::levels::{Change, Edit, Levels, TableReference, View};
use crate::ordered::OrderedMap;
use crate::recover::lock_readers;
use crate::row::KeyspaceKind;
use crate::table::{AnyTable, CheckLevel};

/// Each place where a checkpoint makes something durable. Its manifest has [the manifest's](crate::manifest::sites).
pub mod sites {
    use crate::fs::SyncSite;

    /// The directory of a checkpoint.
    pub const DIRECTORY: SyncSite = SyncSite::new("checkpoint-directory");
    /// What an attempt before this one left, before anything is removed because of it.
    pub const BEFORE: SyncSite = SyncSite::new("checkpoint-before");
    /// A copied table.
    pub const TABLE: SyncSite = SyncSite::new("checkpoint-table");
    /// The names of tables, before a manifest names them.
    pub const NAMES: SyncSite = SyncSite::new("checkpoint-names");

    /// All of them.
    pub const ALL: [SyncSite; 4] = [DIRECTORY, BEFORE, TABLE, NAMES];
}

/// How much is copied at a time: few calls, little memory.
const COPY_BYTES: usize = 1 << 20;

/// What a checkpoint holds, and how it came there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CheckpointInfo {
    /// Everything up to this sequence number is in it, and nothing behind it. (Of two with the same number the later one may have what was loaded between them.)
    pub sequence: SequenceNumber,
    /// Tables in it.
    pub tables: u64,
    /// Bytes of all of them.
    pub bytes: u64,
    /// Tables that an older checkpoint had in this place already.
    pub kept: u64,
    /// Tables that were linked.
    pub linked: u64,
    /// Tables that were copied.
    pub copied: u64,
    /// Bytes of those.
    pub copied_bytes: u64,
    /// Tables of the older checkpoint that were removed. (Those that are in the way of a reader who is opening it are removed by the next checkpoint.)
    pub removed: u64,
}

/// A table that is to be in the checkpoint.
#[derive(Debug)]
struct Wanted {
    reference: Arc<TableReference>,
    /// That of its keyspace.
    kind: KeyspaceKind,
}

impl Wanted {
    fn new(reference: &Arc<TableReference>, kind: KeyspaceKind) -> Self {
        Self { reference: Arc::clone(reference), kind }
    }
}

/// Under which number each table's file stands in the target.
type Places = OrderedMap<FileNumber, FileNumber>;

impl Engine {
    /// Makes `to` a checkpoint. See [`crate::Db::checkpoint`].
    pub(crate) fn checkpoint(&self, to: &Path) -> Result<CheckpointInfo> {
        self.check_writable()?;
        let mut target = Target::open(&self.fs, to, self.database)?;
        target.begin()?;
        let mut info = CheckpointInfo::default();
        let filled = self.fill(&mut target, &mut info);
        if filled.is_err() {
            // Space may be what was missing. What cannot be removed is so by the next attempt.
            target.remove_unnamed();
        }
        let (levels, places) = filled?;
        target.take_over(&edit(&levels, &places, target.next_file()))?;
        info.removed = target.remove_unnamed();
        // What was to be removed here meanwhile waited.
        self.remove_obsolete();
        Ok(info)
    }

    /// Flushes, and takes the tables that there are then: all that was committed before the call, whole batches in their order.
    fn moment(&self) -> Result<Moment> {
        loop {
            let loads = self.load_count();
            self.flush()?;
            let held = lock_readers(&self.fs, self.clock.as_ref(), &self.directory)?;
            let manifest = self.manifest.lock();
            self.check_writable()?;
            // What is loaded is in tables before what was committed earlier is: then that is flushed too.
            if self.load_count() == loads {
                return Ok(Moment { held, levels: Arc::clone(manifest.levels()), view: self.view() });
            }
        }
    }

    /// Brings every table to its place in the target.
    fn fill(&self, target: &mut Target<'_>, info: &mut CheckpointInfo) -> Result<(Arc<Levels>, Places)> {
        let Moment { held, levels, view } = self.moment()?;
        // Several references may share a file.
        let tables: OrderedMap<FileNumber, Wanted> = levels
            .keyspaces
            .values()
            .flat_map(|keyspace| {
                keyspace.tree.tables().map(|(_, table)| (table.file, Wanted::new(table, keyspace.kind)))
            })
            .collect();
        let in_tables = tables.values().map(|wanted| wanted.reference.sequence_max).max();
        info.sequence = levels.flushed_every().max(in_tables.unwrap_or(0));
        info.tables = tables.len() as u64;
        info.bytes = tables.values().map(|wanted| wanted.reference.file_bytes).sum();
        let mut places = Places::new();
        let mut unlinked = Vec::new();
        for (file, wanted) in &tables {
            if let Some(place) = target.place_of(wanted) {
                places.insert(*file, place);
                info.kept += 1;
                continue;
            }
            let place = target.free_number(*file)?;
            places.insert(*file, place);
            let from = FileName::Table(*file).path(&self.directory);
            match self.fs.hard_link(&from, &target.path(place)) {
                Ok(()) => info.linked += 1,
                // Another device, too many links, a file system that has none: whatever it is, a copy may do. What
                // stands in its way too is told by it.
                Err(_) => unlinked.push((wanted, place)),
            }
        }
        drop(held);
        for (wanted, place) in unlinked {
            copy(open_table(&view, &wanted.reference)?, wanted, target, place)?;
            info.copied += 1;
            info.copied_bytes += wanted.reference.file_bytes;
        }
        Ok((levels, places))
    }
}

/// The tables of one moment, and what keeps them from being removed.
struct Moment {
    held: Option<Box<dyn Lock>>,
    levels: Arc<Levels>,
    view: Arc<View>,
}

/// The open table of a reference: the View is of the moment that the reference was taken.
fn open_table<'a>(view: &'a View, reference: &TableReference) -> Result<&'a AnyTable> {
    let found = view.keyspaces.values().find_map(|keyspace| keyspace.tables.table(reference.file));
    found.ok_or_else(|| Error::corruption(format!("{} is not open", FileName::Table(reference.file))))
}

/// Copies a table, and proves that the copy is good.
fn copy(table: &AnyTable, wanted: &Wanted, target: &Target<'_>, place: FileNumber) -> Result<()> {
    let path = target.path(place);
    let to = target.fs().create_new(&path).context("create the copy of a table", &path)?;
    copy_bytes(table, wanted.reference.file_bytes, to.as_ref(), &path)?;
    to.sync_data(sites::TABLE).context("sync the copy of a table", &path)?;
    // Read back is what the medium has.
    to.advise(Advice::DontNeed, 0, 0);
    drop(to);
    let copied = target.open_table(wanted, place)?;
    let mut fault = None;
    let check = copied.check(CheckLevel::Full, &mut |error| {
        fault.get_or_insert(error);
    });
    match fault {
        None => Ok(()),
        Some(error) => Err(Error::corruption(format!(
            "the copy of this table has {} faults, and there is no checkpoint with it. If `check` finds them in the table too, it was damaged before: \
             {error}",
            check.faults
        ))
        .at(table.path())),
    }
}

fn copy_bytes(table: &AnyTable, bytes: u64, to: &dyn File, path: &Path) -> Result<()> {
    let from = table.file();
    let mut buffer = vec![0; COPY_BYTES.min(usize::try_from(bytes).unwrap_or(COPY_BYTES))];
    let mut offset = 0;
    while offset < bytes {
        let left = usize::try_from(bytes - offset).unwrap_or(usize::MAX);
        let (part, _) = buffer.split_at_mut(left.min(COPY_BYTES));
        from.read_exact_at(part, offset).context("read a table to copy it", table.path())?;
        to.write_all_at(part, offset).context("write the copy of a table", path)?;
        offset += part.len() as u64;
    }
    Ok(())
}

/// The one edit of the checkpoint's manifest: what the levels say, without the logs, each table under the number that it has there.
fn edit(levels: &Levels, places: &Places, next_file: FileNumber) -> Edit {
    let place = |file: FileNumber| *places.get(&file).expect("every table of the levels was given a place");
    let mut changes = Vec::new();
    for change in levels.to_edit().changes {
        match change {
            Change::Database(_) => changes.extend([change, Change::Checkpoint]),
            Change::NextFile(number) => changes.push(Change::NextFile(number.max(next_file))),
            Change::NextSequence(_) => changes.push(Change::NextSequence(levels.sequence_max() + 1)),
            Change::TableAdded { keyspace, level, table } => {
                let table =
                    Arc::new(TableReference { file: place(table.file), ..TableReference::clone(&table) });
                changes.push(Change::TableAdded { keyspace, level, table });
            }
            Change::LogAdded { .. } | Change::LogCut { .. } => {}
            change => changes.push(change),
        }
    }
    Edit { changes }
}

/// The error of a directory that may not become a checkpoint.
fn refused(what: impl Into<String>, directory: &Path) -> Error {
    Error::new(ErrorKind::InvalidArgument, what).at(directory)
}
