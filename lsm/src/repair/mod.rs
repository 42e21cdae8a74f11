//! Repair: a database again, out of whatever verifies of one whose manifest or tables are missing or damaged; and a report of what could not be kept.
//!
//! 1. **Take stock** ([`survey`]): what can be read of the manifest, edit by edit; every table, in full. If the manifest can be trusted and all
//!    that it names is sound, nothing is done.
//! 2. **Whose is what** ([`items`]): the manifest says, or its readable edits do, or the table itself does, or else it gets a keyspace of its own. What an
//!    edit took out stays out.
//! 3. **Salvage** ([`crate::table`], [`logs`]): of a damaged table every block that verifies is written into a new one; logs that cannot be kept are read
//!    by the rules of [`RecoveryMode::Salvage`](crate::RecoveryMode::Salvage), and what counts goes to tables.
//! 4. **Order** ([`place`]): each entry carries its sequence number, so which table must stand above which is found out, not guessed; where that is
//!    contradictory, they are merged.
//! 5. **Install** ([`install`]): every file that is not kept as it is has a second name in `lost/` before anything changes; then the new manifest takes over
//!    by a rename.
//!
//! Nothing that a checksum does not vouch for is taken, nothing is deleted, and a crash at any point leaves something that can be repaired again with the
//! same result. What cannot be known is said: where the manifest is gone, a table that had been merged away and was not yet removed looks
//! like any other.
//!
//! Reading tolerates what the disk cannot read ([`tolerant`]). It reads every table twice, and the new ones once more.

mod install;
mod items;
mod keyspaces;
mod logs;
mod place;
mod rebuild;
mod replay;
mod report;
mod survey;
mod tolerant;
mod workshop;

use std::path::Path;
use std::sync::Arc;

pub use report::{Loss, LossKind, ManifestCondition, RepairReport, RepairedTable, TableFate};

use crate::db::Db;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::filename::FileName;
use crate::fs::{FileSystem, LockMode, OsFs};
use crate::options::Background;
use crate::recover::lock;
use crate::repair::rebuild::Rebuild;
use crate::repair::survey::Survey;
use crate::table::CheckLevel;

/// Each place where repair makes something durable.
pub mod sites {
    use crate::fs::SyncSite;

    /// The names in `lost/`, before others go.
    pub const ASIDE: SyncSite = SyncSite::new("repair-aside");
    /// The names of new tables, before the manifest names them.
    pub const TABLES: SyncSite = SyncSite::new("repair-tables");

    /// Logs and their names, before the manifest names them: one of them may not have been named yet.
    pub const LOGS: SyncSite = SyncSite::new("repair-logs");

    /// All of them.
    pub const ALL: [SyncSite; 3] = [ASIDE, TABLES, LOGS];
}

/// How a database is to be repaired.
#[derive(Clone, Debug)]
pub struct RepairOptions {
    fs: Arc<dyn FileSystem>,
    dry_run: bool,
    verify: bool,
}

impl Default for RepairOptions {
    fn default() -> Self {
        Self { fs: Arc::new(OsFs), dry_run: false, verify: true }
    }
}

impl RepairOptions {
    /// Repair on the operating system's files, with a check behind it.
    pub fn new() -> Self {
        Self::default()
    }

    /// The file system to work on. Default: the operating system's.
    #[must_use]
    pub fn file_system(mut self, fs: Arc<dyn FileSystem>) -> Self {
        self.fs = fs;
        self
    }

    /// Whether only to say what would be lost, and change nothing. Default: no.
    #[must_use]
    pub fn dry_run(mut self, yes: bool) -> Self {
        self.dry_run = yes;
        self
    }

    /// Whether to check in full what came out: [`RepairReport::check`]. Without, everything is read once less. Default: yes.
    #[must_use]
    pub fn verify(mut self, yes: bool) -> Self {
        self.verify = yes;
        self
    }
}

/// Repairs the database in a directory that nobody has open for writing. See the module for what that means. A sound database is not touched.
///
/// # Errors
/// Locked if somebody writes to it; NotFound where there is nothing; NewerFormat for files of a newer version; those of reading names and of writing:
/// then it can be repaired again. Damage is no error: it is in the report.
pub fn repair(directory: impl AsRef<Path>, options: &RepairOptions) -> Result<RepairReport> {
    let directory = directory.as_ref();
    let fs = &options.fs;
    if !fs.exists(directory).context("look for the directory", directory)? {
        return Err(Error::new(ErrorKind::NotFound, "there is no such directory").at(directory));
    }
    let mut report = {
        let _lock = match options.dry_run {
            // Whoever only looks makes no files.
            true if !fs
                .exists(&FileName::Lock.path(directory))
                .context("look for the lock", directory)? =>
            {
                None
            }
            _ => Some(lock(fs, directory)?),
        };
        let survey = Survey::take(fs, directory)?;
        if !options.dry_run {
            let readers = FileName::Readers.path(directory);
            fs.try_lock(&readers, LockMode::Shared).context("create the readers' lock", &readers)?;
        }
        Rebuild::new(survey)?.run(options.dry_run)?
    };
    if options.verify && !options.dry_run && !report.was_sound {
        let db = Db::builder(directory)
            .file_system(Arc::clone(fs))
            .background(Background::Manual)
            .read_only(true)
            .open()?;
        report.check = Some(db.check_at(CheckLevel::Full)?);
    }
    Ok(report)
}
