//! Opening: what the manifest says, what the logs add, and what is put in order before the first write.
//!
//! 1. Lock; read the manifest; look whether it has forgotten a log; open every table it names.
//! 2. Replay its logs into memtables ([`crate::journal::recover`] gives the verdicts). Operations that a keyspace's tables have already are passed over, and
//!    those of keyspaces that were dropped.
//! 3. After a clean end that is all: nothing is written, and the first commit makes the next log. Otherwise where each log was cut becomes an
//!    edit, durable before any further log exists.
//! 4. What earlier sessions left is removed when the session first writes: files that the manifest has given a number and does not name. Only
//!    if nothing was lost; files it knows nothing of, or of a lossy recovery, are moved to `lost/`.
//!
//! 5. After a recovery that lost something, by the caller's wish, what is left is flushed and the logs go: nobody is asked a second time.
//!
//! A read-only opening does 1 and 2 beside a live writer, with a shared lock on `READERS` while it does: the writer removes files only when it has that
//! lock alone.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::budget::Budget;
use crate::clock::Clock;
use crate::engine::{Engine, Parts, sites};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::event::Event;
use crate::filename::{FileName, FileNumber};
use crate::forgotten::{Remembered, remember};
use crate::fs::{FileSystem, Lock, LockMode};
use crate::journal::{Access, JournalRecovery, LogReport, RecoveryMode, Verdict, random_identity};
use crate::key::SequenceNumber;
use crate::levels::{Change, Edit, KeyspaceRecord, KeyspaceView, Levels, OpenTree, View};
use crate::manifest::{self, Manifest, ManifestReport, Standing};
use crate::memtable::Memtable;
use crate::options::{Options, Tuning};
use crate::replay::Logs;
use crate::table::{AnyTable, ExpectedTable};
use crate::write::CommitState;

/// How often, and how long, a reader asks for the lock that a writer holds while it removes files.
const READERS_TRIES: u32 = 2000;
const READERS_WAIT: Duration = Duration::from_millis(1);

/// How far above the numbers in use the name of a file may be and keep its number from being given out.
const NUMBERS_IN_REACH: FileNumber = 1 << 32;

/// What opening found.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RecoveryReport {
    /// Whether this opening made the database.
    pub is_new: bool,
    /// The logs that were read, each with its verdict.
    pub logs: Vec<LogReport>,
    /// Batches that were replayed from logs.
    pub batches: u64,
    /// The last sequence number that counts.
    pub last_sequence: SequenceNumber,
    /// Whether something may be lost that had been acknowledged as durable; only in the recovery modes that allow it.
    pub is_lossy: bool,
    /// Whether the manifest ends right behind an edit.
    pub manifest_ends_clean: bool,
}

impl RecoveryReport {
    /// Whether the last session closed the database in order.
    pub fn is_clean(&self) -> bool {
        self.manifest_ends_clean
            && self.logs.iter().all(|log| log.verdict == Verdict::CleanEnd && log.holes.is_empty())
    }

    pub(crate) fn event(&self, again: bool) -> Event {
        Event::Opened {
            again,
            logs: self.logs.clone(),
            last_sequence: self.last_sequence,
            is_lossy: self.is_lossy,
        }
    }
}

/// An engine, opened.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) engine: Arc<Engine>,
    pub(crate) report: RecoveryReport,
}

impl Opened {
    fn new(engine: Engine, report: RecoveryReport) -> Self {
        engine.events.tell(|| report.event(false));
        Self { engine: Arc::new(engine), report }
    }
}

/// Opens the database in `directory`.
pub(crate) fn open(directory: &Path, options: &Options) -> Result<Opened> {
    let tuning = options.checked_tuning()?;
    if options.read_only {
        open_read_only(directory, options, tuning)
    } else {
        open_to_write(directory, options, tuning)
    }
}

fn open_to_write(directory: &Path, options: &Options, tuning: Tuning) -> Result<Opened> {
    let fs = &options.fs;
    let manifest_path = FileName::Manifest.path(directory);
    let exists = fs.exists(&manifest_path).context("look for the manifest", &manifest_path)?;
    if !exists {
        fs.create_dir_all(directory, sites::DIRECTORY).context("create the directory", directory)?;
    }
    let lock = lock(fs, directory)?;
    let readers = FileName::Readers.path(directory);
    if !fs.exists(&readers).context("look for the readers' lock", &readers)? {
        // Before there is anything to read: a reader locks it, and makes nothing.
        fs.try_lock(&readers, LockMode::Shared).context("create the readers' lock", &readers)?;
    }
    let is_new = !fs.exists(&manifest_path).context("look for the manifest", &manifest_path)?;
    let found = match read_manifest(options, directory)? {
        Some(found) => found,
        None => create(fs, directory, &tuning)?,
    };
    let names = list(fs, directory)?;
    let next_file = next_file(&names, found.levels.next_file);
    let remembered = remember(fs, directory, &names, &found, options.recovery, Access::Write)?;
    let (replayed, budget) = replay(directory, options, &tuning, &remembered, Access::Write)?;
    let Replayed { view, recovery } = replayed;
    let mut manifest =
        Manifest::new(Arc::clone(fs), directory, found.levels.clone(), next_file, tuning.manifest_bytes);
    // What was visited lies in logs that are durable through it: those with a recorded or a last record's end always were, the newest was
    // synced before it was read.
    manifest.journal_is_durable(recovery.last_sequence);
    let report = RecoveryReport {
        is_new,
        batches: recovery.logs.iter().map(|log| log.batches).sum(),
        last_sequence: recovery.last_sequence,
        is_lossy: recovery.is_lossy,
        manifest_ends_clean: found.ends_clean,
        logs: recovery.logs.clone(),
    };
    let never_begun: Vec<FileNumber> =
        recovery.logs.iter().filter(|log| log.verdict == Verdict::NeverBegun).map(|log| log.number).collect();
    let leftovers =
        leftovers(&names, &remembered.levels, &never_begun, found.ends_clean && !recovery.is_lossy);
    if !recovery.cuts.is_empty() || !never_begun.is_empty() || !remembered.changes.is_empty() {
        let mut changes = remembered.changes;
        changes
            .extend(recovery.cuts.iter().map(|(number, cut)| Change::LogCut { number: *number, cut: *cut }));
        changes.extend(never_begun.iter().map(|number| Change::LogRemoved(*number)));
        changes.push(Change::NextSequence(recovery.next_sequence));
        manifest.commit(Edit { changes })?;
    }
    let commit = CommitState {
        journal: None,
        tended: 0,
        logs: manifest.levels().logs.keys().copied().collect(),
        previous: recovery.end,
        next_sequence: recovery.next_sequence.max(found.levels.next_sequence),
        dropped_bytes: 0,
    };
    let has_written = manifest.has_written();
    let engine = Engine::new(Parts {
        fs: Arc::clone(fs),
        directory: directory.to_owned(),
        database: found.levels.database,
        tuning,
        budget,
        clock: Arc::clone(&options.clock),
        background: options.background,
        read_only: false,
        recovery: options.recovery,
        events: options.events(),
        commit,
        manifest,
        view,
        visible: recovery.last_sequence,
        lock: Some(lock),
    });
    set_aside(fs, directory, &leftovers.unknown)?;
    engine.add_obsolete(leftovers.obsolete);
    if has_written {
        engine.remove_obsolete();
    }
    if report.is_lossy {
        engine.heal(&report.logs)?;
    }
    Ok(Opened::new(engine, report))
}

fn open_read_only(directory: &Path, options: &Options, tuning: Tuning) -> Result<Opened> {
    let fs = &options.fs;
    let _opening = lock_readers(fs, options.clock.as_ref(), directory)?;
    let Some(found) = read_manifest(options, directory)? else {
        return Err(Error::new(ErrorKind::NotFound, "there is no database here").at(directory));
    };
    let remembered = {
        let names = list(fs, directory)?;
        remember(fs, directory, &names, &found, options.recovery, Access::ReadOnly)?
    };
    let (replayed, budget) = replay(directory, options, &tuning, &remembered, Access::ReadOnly)?;
    let Replayed { view, recovery } = replayed;
    let report = RecoveryReport {
        is_new: false,
        batches: recovery.logs.iter().map(|log| log.batches).sum(),
        last_sequence: recovery.last_sequence,
        is_lossy: recovery.is_lossy,
        manifest_ends_clean: found.ends_clean,
        logs: recovery.logs,
    };
    let engine = Engine::new(Parts {
        fs: Arc::clone(fs),
        directory: directory.to_owned(),
        database: found.levels.database,
        commit: CommitState {
            journal: None,
            tended: 0,
            logs: Vec::new(),
            previous: None,
            next_sequence: recovery.next_sequence,
            dropped_bytes: 0,
        },
        manifest: Manifest::new(Arc::clone(fs), directory, remembered.levels, 0, tuning.manifest_bytes),
        tuning,
        budget,
        clock: Arc::clone(&options.clock),
        background: options.background,
        read_only: true,
        recovery: options.recovery,
        events: options.events(),
        view,
        visible: recovery.last_sequence,
        lock: None,
    });
    Ok(Opened::new(engine, report))
}

/// The right to write, or an error that names who has it.
pub(crate) fn lock(fs: &Arc<dyn FileSystem>, directory: &Path) -> Result<Box<dyn Lock>> {
    let path = FileName::Lock.path(directory);
    if let Some(lock) = fs.try_lock(&path, LockMode::Exclusive).context("lock the database", &path)? {
        return Ok(lock);
    }
    let holder = match fs.lock_holder(&path) {
        Some(pid) => format!("process {pid} has"),
        None => "another process, or another handle in this one, has".to_owned(),
    };
    Err(Error::new(ErrorKind::Locked, format!("{holder} the database open for writing")).at(&path))
}

/// Keeps the writer from removing files. `None` where nothing can be locked: on a medium that nobody can write to.
pub(crate) fn lock_readers(
    fs: &Arc<dyn FileSystem>,
    clock: &dyn Clock,
    directory: &Path,
) -> Result<Option<Box<dyn Lock>>> {
    let path = FileName::Readers.path(directory);
    if !fs.exists(&path).context("look for the readers' lock", &path)? {
        // Only a writer makes it: a reader writes nothing.
        return Ok(None);
    }
    for _ in 0..READERS_TRIES {
        if let Some(lock) = fs.try_lock(&path, LockMode::Shared).context("lock against removals", &path)? {
            return Ok(Some(lock));
        }
        clock.sleep(READERS_WAIT);
    }
    Err(Error::new(ErrorKind::Locked, "the writer has been removing files for seconds: try again").at(&path))
}

/// A new database.
fn create(fs: &Arc<dyn FileSystem>, directory: &Path, tuning: &Tuning) -> Result<ManifestReport> {
    if let Some(data) = list(fs, directory)?.into_iter().find(|name| name.number().is_some()) {
        return Err(Error::corruption(format!(
            "there is {data} here but no MANIFEST: the directory is damaged. Repair it (`lsm::repair`, `lsm-tool repair`), or restore it \
             from a copy"
        ))
        .at(directory));
    }
    let levels = Levels::new(random_identity()?);
    Manifest::new(Arc::clone(fs), directory, levels.clone(), 1, tuning.manifest_bytes).create()?;
    Ok(ManifestReport { levels, standing: Standing::Database, edits: 1, ends_clean: true, end: 0 })
}

/// What the manifest says; `None` if there is none.
fn read_manifest(options: &Options, directory: &Path) -> Result<Option<ManifestReport>> {
    let found = manifest::read(&options.fs, directory)?;
    match found {
        Some(found) if found.standing == Standing::Unfinished => Err(Error::new(
            ErrorKind::NotFound,
            "there is no database here: a checkpoint was begun and never finished. Make it again, or remove the directory",
        )
        .at(directory)),
        Some(found) if options.recovery == RecoveryMode::Strict && !found.ends_clean => {
            Err(Error::corruption(
                "the manifest does not end behind an edit: one is torn or damaged, and recovery mode Strict refuses that",
            )
            .at(FileName::Manifest.path(directory))
            .at_offset(found.end))
        }
        found => Ok(found),
    }
}

/// What is in the directory, of what has a meaning there.
pub(crate) fn list(fs: &Arc<dyn FileSystem>, directory: &Path) -> Result<Vec<FileName>> {
    let names = fs.read_dir(directory).context("list the directory", directory)?;
    Ok(names.iter().filter_map(|name| FileName::parse(Path::new(name.file_name()?))).collect())
}

/// The number behind those of all files in the directory, so that none is given out twice. A number far from those in use is none of
/// ours: its file is set aside, and costs no numbers.
pub(crate) fn next_file(names: &[FileName], known: FileNumber) -> FileNumber {
    let in_reach = known.saturating_add(NUMBERS_IN_REACH);
    let numbers = names.iter().filter_map(|name| name.number()).filter(|number| *number < in_reach);
    numbers.max().unwrap_or(0).saturating_add(1)
}

/// The state in memory.
struct Replayed {
    view: View,
    recovery: JournalRecovery,
}

/// Opens the tables, and replays the logs.
fn replay(
    directory: &Path,
    options: &Options,
    tuning: &Tuning,
    remembered: &Remembered,
    access: Access,
) -> Result<(Replayed, Budget)> {
    let levels = &remembered.levels;
    let is_fixed = |record: &KeyspaceRecord| matches!(record.kind, crate::row::KeyspaceKind::Fixed(_));
    let has_fixed = levels.keyspaces.values().any(is_fixed);
    let budget = Budget::new(options.memory_bytes, tuning.write_bytes_max(has_fixed));
    let mut view = View::empty(levels.keyspace_last);
    for (id, record) in &levels.keyspaces {
        let tree = OpenTree::new(Arc::clone(&record.tree), |reference| {
            let expected = ExpectedTable {
                identity: reference.identity,
                database: levels.database,
                file_bytes: reference.file_bytes,
            };
            let path = FileName::Table(reference.file).path(directory);
            AnyTable::open(&options.fs, &path, record.kind, expected, budget.cache()).map_err(|error| {
                match error.kind() {
                    ErrorKind::NotFound => Error::corruption(format!(
                        "a table of keyspace {:?} is missing: the manifest names it. Restore it from a copy, or repair the database \
                         (`lsm::repair`, `lsm-tool repair`)",
                        record.name
                    ))
                    .at(&path),
                    _ => error,
                }
            })
        })?;
        let tree = tree.settled(&OpenTree::default(), &budget);
        view.keyspaces.insert(
            *id,
            Arc::new(KeyspaceView {
                name: Arc::clone(&record.name),
                kind: record.kind,
                active: Memtable::charged(record.kind, 0, budget.memtables()),
                frozen: Vec::new(),
                tables: Arc::new(tree),
            }),
        );
    }
    let logs = Logs { fs: &options.fs, directory, mode: options.recovery, access };
    let mut recovery = logs.replay(levels, &view)?;
    recovery.next_sequence = recovery.next_sequence.max(remembered.last_sequence + 1);
    recovery.is_lossy |= remembered.is_lossy;
    Ok((Replayed { view, recovery }, budget))
}

/// Files that the manifest does not name.
#[derive(Debug, Default)]
pub(crate) struct Leftovers {
    /// It gave them a number, and whatever needed them is gone or never was.
    pub(crate) obsolete: Vec<FileName>,
    /// Nobody knows what they are worth.
    unknown: Vec<FileName>,
}

pub(crate) fn leftovers(
    names: &[FileName],
    levels: &Levels,
    never_begun: &[FileNumber],
    nothing_lost: bool,
) -> Leftovers {
    let mut leftovers = Leftovers::default();
    for name in names {
        let named = match name {
            FileName::Log(number) => levels.logs.contains_key(number) && !never_begun.contains(number),
            FileName::Table(number) => {
                let tables = levels.keyspaces.values().flat_map(|keyspace| keyspace.tree.tables());
                tables.into_iter().any(|(_, table)| table.file == *number)
            }
            FileName::ManifestNew => {
                leftovers.obsolete.push(*name);
                continue;
            }
            _ => continue,
        };
        let Some(number) = name.number() else { continue };
        if named {
            continue;
        }
        if nothing_lost && number < levels.next_file {
            leftovers.obsolete.push(*name);
        } else {
            leftovers.unknown.push(*name);
        }
    }
    leftovers
}

/// Moves files to `lost/`.
fn set_aside(fs: &Arc<dyn FileSystem>, directory: &Path, files: &[FileName]) -> Result<()> {
    if files.is_empty() {
        return Ok(());
    }
    let lost = FileName::Lost.path(directory);
    fs.create_dir_all(&lost, sites::LOST).context("create the directory", &lost)?;
    for file in files {
        let from = file.path(directory);
        let to = free_name(fs, &lost, *file)?;
        fs.rename(&from, &to).context("set aside an unknown file", &from)?;
    }
    fs.sync_dir(&lost, sites::LOST).context("sync the directory", &lost)?;
    fs.sync_dir(directory, sites::LOST).context("sync the directory", directory)
}

pub(crate) fn free_name(fs: &Arc<dyn FileSystem>, lost: &Path, file: FileName) -> Result<PathBuf> {
    let mut path = file.path(lost);
    let mut copy = 0u32;
    while fs.exists(&path).context("look for a free name", &path)? {
        copy += 1;
        path = lost.join(format!("{file}.{copy}"));
    }
    Ok(path)
}
