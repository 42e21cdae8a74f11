//! Taking stock: what the manifest says, what each table is like, and whether the manifest is to be trusted.
//!
//! It is trusted where it can be read whole and nothing beside it shows that edits are missing: no log that it has forgotten, no file with a number that
//! it had not given out, and, where its last bytes are torn, nothing amiss with what it names (an edit that is not there may have removed it).
//! Then it alone says what belongs to the database. Otherwise each file speaks for itself, but for those that an edit took out.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::cache::BlockCache;
use crate::checksum::Identity;
use crate::error::{Error, ErrorKind, Result};
use crate::filename::{FileName, FileNumber};
use crate::forgotten::remember;
use crate::fs::FileSystem;
use crate::journal::{Access, RecoveryMode, random_identity, start_of};
use crate::levels::Levels;
use crate::manifest::{Told, salvage};
use crate::ordered::{OrderedMap, OrderedSet};
use crate::recover::list;
use crate::repair::tolerant::TolerantFs;
use crate::table::{AnyTable, CheckLevel, TableScan, scan};

/// What a table is like.
#[derive(Debug)]
pub(super) enum Condition {
    /// Every byte verifies.
    Sound(AnyTable),
    /// Some does not; the first thing that is wrong.
    Damaged(Error),
    /// It is of another database.
    Foreign,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Survey {
    pub(super) fs: Arc<dyn FileSystem>,
    pub(super) tolerant: TolerantFs,
    pub(super) directory: PathBuf,
    pub(super) names: Vec<FileName>,
    pub(super) told: Option<Told>,
    pub(super) database: Identity,
    /// The tables that were looked at: all that are named, and the others if the manifest is not trusted.
    pub(super) tables: OrderedMap<FileNumber, Condition>,
    /// What the manifest says, and the log that it does not name yet if there is one; or why it is not trusted.
    pub(super) verdict: std::result::Result<Levels, String>,
    /// All faults that were found, the first hundred.
    pub(super) faults: Vec<Error>,
    cache: Arc<BlockCache>,
}

const FAULTS_MAX: usize = 100;

impl Survey {
    /// Takes stock of a directory that nobody else writes to.
    ///
    /// # Errors
    /// Io; NewerFormat; NotFound where there is nothing.
    pub(super) fn take(fs: &Arc<dyn FileSystem>, directory: &Path) -> Result<Self> {
        let tolerant = TolerantFs::new(Arc::clone(fs));
        let fs: Arc<dyn FileSystem> = Arc::new(tolerant.clone());
        let names = list(&fs, directory)?;
        let told = salvage(&fs, directory)?;
        if told.is_none() && !names.iter().any(|name| name.number().is_some()) {
            return Err(Error::new(
                ErrorKind::NotFound,
                "there is no database here, nor anything left of one",
            )
            .at(directory));
        }
        let database = match told.as_ref().and_then(|told| told.database) {
            Some(database) => database,
            None => vote(&fs, directory, &names)?,
        };
        let mut survey = Self {
            fs,
            tolerant,
            directory: directory.to_owned(),
            names,
            told,
            database,
            tables: OrderedMap::new(),
            verdict: Err(String::new()),
            faults: Vec::new(),
            cache: Arc::new(BlockCache::new(0)),
        };
        let named = survey.named_tables();
        survey.look_at(&named)?;
        survey.verdict = survey.judge(&named)?;
        if survey.verdict.is_err() {
            let told = survey.told.as_ref();
            let others = survey.names.iter().filter_map(|name| match name {
                FileName::Table(number) => Some(*number),
                _ => None,
            });
            let others: OrderedSet<FileNumber> = others
                .filter(|number| told.is_none_or(|told| !told.removed_tables.contains(number)))
                .filter(|number| !named.contains(number))
                .collect();
            survey.look_at(&others)?;
        }
        Ok(survey)
    }

    /// The files of the tables that the manifest names, as far as it can be read.
    pub(super) fn named_tables(&self) -> OrderedSet<FileNumber> {
        self.told.iter().flat_map(|told| told.tables.keys().map(|(file, _)| *file)).collect()
    }

    /// What the manifest says, where it is trusted.
    pub(super) fn trusted(&self) -> Option<&Levels> {
        self.verdict.as_ref().ok()
    }

    /// Why it is not.
    pub(super) fn distrust(&self) -> Option<&str> {
        self.verdict.as_ref().err().map(String::as_str)
    }

    pub(super) fn path(&self, name: FileName) -> PathBuf {
        name.path(&self.directory)
    }

    pub(super) fn fault(&mut self, fault: Error) {
        if self.faults.len() < FAULTS_MAX {
            self.faults.push(fault);
        }
    }

    fn look_at(&mut self, files: &OrderedSet<FileNumber>) -> Result<()> {
        for file in files.iter() {
            if self.names.contains(&FileName::Table(*file)) {
                let condition = self.condition(*file)?;
                if let Condition::Damaged(error) = &condition {
                    self.fault(error.clone());
                }
                self.tables.insert(*file, condition);
            }
        }
        Ok(())
    }

    fn condition(&self, file: FileNumber) -> Result<Condition> {
        let path = self.path(FileName::Table(file));
        let table = match AnyTable::open_unexpected(&self.fs, &path, &self.cache) {
            Ok(table) => table,
            Err(error) if error.kind() == ErrorKind::Corruption => return Ok(Condition::Damaged(error)),
            Err(error) => return Err(error),
        };
        if table.database() != self.database {
            return Ok(Condition::Foreign);
        }
        let mut first = None;
        table.check(CheckLevel::Full, &mut |fault| {
            first.get_or_insert(fault);
        });
        Ok(match first {
            Some(fault) => Condition::Damaged(fault),
            None if self.tolerant.unread_bytes(&path) > 0 => {
                Condition::Damaged(Error::corruption("bytes of the table cannot be read").at(&path))
            }
            None => Condition::Sound(table),
        })
    }

    /// What can be read of a damaged table, if it is not of another database.
    ///
    /// # Errors
    /// Io; NewerFormat.
    pub(super) fn scan(&self, file: FileNumber) -> Result<Option<TableScan>> {
        let references = self.told.as_ref().map(|told| told.references(file));
        let told = references.and_then(|mut told| told.next());
        let told = told.map(|told| (told.table.identity, told.table.sequence_max));
        let found = scan(&self.fs, &self.path(FileName::Table(file)), told)?;
        // A header that does not verify says nothing, and the file lies here.
        Ok(found.filter(|scan| !(scan.database.1 && scan.database.0 != self.database)))
    }

    fn judge(&self, named: &OrderedSet<FileNumber>) -> Result<std::result::Result<Levels, String>> {
        let manifest = self.path(FileName::Manifest);
        let Some(told) = &self.told else {
            return Ok(Err("there is no manifest".to_owned()));
        };
        let whole = match (&told.whole, &told.fault) {
            (Some(whole), _) => whole,
            (None, Some(fault)) => return Ok(Err(fault.to_string())),
            (None, None) => return Ok(Err("the manifest went away".to_owned())),
        };
        if self.tolerant.unread_bytes(&manifest) > 0 {
            return Ok(Err(format!("{}: bytes cannot be read", manifest.display())));
        }
        // A log that was not named yet counts as it does when the database is opened.
        let (mode, access) = (RecoveryMode::PointInTime, Access::ReadOnly);
        let remembered = remember(&self.fs, &self.directory, &self.names, whole, mode, access)?;
        if remembered.is_lossy {
            return Ok(Err(
                "a log holds what the manifest should know of: it is older than the log".to_owned()
            ));
        }
        for name in &self.names {
            let Some(number) = name.number().filter(|number| *number >= whole.levels.next_file) else {
                continue;
            };
            if self.is_ours(*name)? {
                return Ok(Err(format!(
                    "there is {name}, but the manifest has given out numbers below {} only ({number} is above): it is older than the file",
                    whole.levels.next_file
                )));
            }
        }
        if !whole.ends_clean {
            let is_bad = |file: &&FileNumber| !matches!(self.tables.get(file), Some(Condition::Sound(_)));
            if let Some(file) = named.iter().find(is_bad) {
                return Ok(Err(format!(
                    "the manifest ends in bytes that are no edit, and {}, which it names, is damaged or missing: the edit may have removed it",
                    FileName::Table(*file)
                )));
            }
            if let Some(log) =
                whole.levels.logs.keys().find(|log| !self.names.contains(&FileName::Log(**log)))
            {
                return Ok(Err(format!(
                    "the manifest ends in bytes that are no edit, and {}, which it names, is missing: the edit may have removed it",
                    FileName::Log(*log)
                )));
            }
        }
        Ok(Ok(remembered.levels))
    }

    /// Whether a file says of itself that it is of this database.
    fn is_ours(&self, name: FileName) -> Result<bool> {
        let path = self.path(name);
        match name {
            FileName::Table(_) => match AnyTable::open_unexpected(&self.fs, &path, &self.cache) {
                Ok(table) => Ok(table.database() == self.database),
                Err(error) if error.kind() == ErrorKind::Corruption => Ok(false),
                Err(error) => Err(error),
            },
            FileName::Log(number) => Ok(start_of(self.fs.as_ref(), &path)?
                .is_some_and(|start| start.number == number && start.database == self.database)),
            _ => Ok(false),
        }
    }
}

/// The database that most files say they are of; of several, that of the file with the smallest number.
fn vote(fs: &Arc<dyn FileSystem>, directory: &Path, names: &[FileName]) -> Result<Identity> {
    let mut votes: Vec<(Identity, u64)> = Vec::new();
    let cache = Arc::new(BlockCache::new(0));
    let mut names = names.to_vec();
    names.sort_by_key(|name| name.number());
    for name in names {
        let path = name.path(directory);
        let database = match name {
            FileName::Table(_) => match AnyTable::open_unexpected(fs, &path, &cache) {
                Ok(table) => Some(table.database()),
                Err(error) if error.kind() == ErrorKind::Corruption => {
                    scan(fs, &path, None)?.filter(|scan| scan.database.1).map(|scan| scan.database.0)
                }
                Err(error) => return Err(error),
            },
            FileName::Log(_) => start_of(fs.as_ref(), &path)?.map(|start| start.database),
            _ => None,
        };
        let Some(database) = database else { continue };
        match votes.iter_mut().find(|(known, _)| *known == database) {
            Some((_, count)) => *count += 1,
            None => votes.push((database, 1)),
        }
    }
    let most = votes.iter().map(|(_, count)| *count).max();
    match votes.into_iter().find(|(_, count)| Some(*count) == most) {
        Some((database, _)) => Ok(database),
        // Then no file will be asked for it either.
        None => random_identity(),
    }
}
