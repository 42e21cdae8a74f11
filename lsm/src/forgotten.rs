//! Logs that the manifest does not name: one that was not named yet, and those that it has forgotten, which are the proof that its end is damaged, and not torn by
//! a crash.
//!
//! *Not named yet* is the log that follows the newest one that is named, if no record in it knows anything of it to be durable: a turn from the one to the
//! other was not settled (`turn.rs`). If the log before it is whole up to where it was sealed, it counts. If not, the power was lost, and the log behind the
//! loss holds nothing that anybody was promised: it is set aside.
//!
//! Of any other log nothing is acknowledged before the edit that names it is durable, and it is named until everything in it is in tables. So one that holds a
//! batch above every mark, and is not named, was named by an edit that is gone. Without it a damaged last edit could not be told from one
//! that was being written when the power went, and acknowledged commits would be lost in silence.
//!
//! Numbers rise: a log below the newest one that is named was un-named by an edit, and not lost. Nobody reads it.

use std::path::Path;
use std::sync::Arc;

use crate::checksum::Identity;
use crate::error::{Error, ErrorKind, Result};
use crate::filename::{FileName, FileNumber};
use crate::fs::FileSystem;
use crate::journal::{Access, Cut, RecoveryMode, StrayLog, find_stray, is_whole, set_aside_whole};
use crate::key::SequenceNumber;
use crate::levels::{Change, Edit, Levels};
use crate::manifest::{self, ManifestReport};

/// What is to be opened, after a look for forgotten logs.
#[derive(Debug)]
pub(crate) struct Remembered {
    /// What the manifest says, and the logs that are taken in.
    pub(crate) levels: Levels,
    /// The changes that take them in.
    pub(crate) changes: Vec<Change>,
    /// Whether any log had been forgotten.
    pub(crate) is_lossy: bool,
    /// The largest sequence number in one of them, taken in or not.
    pub(crate) last_sequence: SequenceNumber,
}

/// Looks for forgotten logs among `names`, and does about them what the mode says.
///
/// # Errors
/// In the modes that allow no loss: Corruption, what is lost and what can be done; Io, if a log cannot be read that may be one. Those of reading otherwise.
pub(crate) fn remember(
    fs: &Arc<dyn FileSystem>,
    directory: &Path,
    names: &[FileName],
    found: &ManifestReport,
    mode: RecoveryMode,
    access: Access,
) -> Result<Remembered> {
    let may_lose = matches!(mode, RecoveryMode::Salvage | RecoveryMode::PointInTime);
    let Found { unnamed, logs: forgotten, unread } = find(fs, directory, names, found, may_lose)?;
    if let Some(log) = forgotten.first()
        && !may_lose
    {
        return Err(refused(directory, found, *log));
    }
    let mut remembered = Remembered {
        levels: found.levels.clone(),
        changes: Vec::new(),
        is_lossy: !forgotten.is_empty() || !unread.is_empty(),
        last_sequence: forgotten.iter().chain(&unnamed).map(|log| log.last).max().unwrap_or(0),
    };
    let mut is_lost = false;
    for log in unnamed {
        let Some(before) = log.previous else { continue };
        take_in(&mut remembered, log)?;
        is_lost = is_lost || !is_whole(fs.as_ref(), directory, &before, access)?;
        let cut = if !is_lost {
            Change::LogCut { number: before.number, cut: before.cut() }
        } else if mode == RecoveryMode::Salvage {
            // Whatever is whole.
            continue;
        } else {
            if access == Access::Write {
                set_aside_whole(fs.as_ref(), directory, log.number)?;
            }
            Change::LogCut { number: log.number, cut: Cut { offset: 0, last_sequence: log.last } }
        };
        remembered.add(vec![cut])?;
    }
    if mode == RecoveryMode::Salvage {
        for log in forgotten {
            take_in(&mut remembered, log)?;
        }
    }
    Ok(remembered)
}

impl Remembered {
    fn add(&mut self, changes: Vec<Change>) -> Result<()> {
        self.levels = self.levels.apply(&Edit { changes: changes.clone() })?;
        self.changes.extend(changes);
        Ok(())
    }
}

/// Logs that no edit names, or none any more, that could be their last one, in the order of their numbers.
#[derive(Debug, Default)]
struct Found {
    /// Those that follow the newest that is named, and were not named yet: each follows the one before it. A reader beside a writer may find more than one.
    unnamed: Vec<StrayLog>,
    /// Those that had been forgotten.
    logs: Vec<StrayLog>,
    /// Those that cannot be read.
    unread: Vec<FileNumber>,
}

/// A log that cannot be read is an error, unless it may be lost.
fn find(
    fs: &Arc<dyn FileSystem>,
    directory: &Path,
    names: &[FileName],
    found: &ManifestReport,
    may_lose: bool,
) -> Result<Found> {
    let levels = &found.levels;
    let mut numbers: Vec<FileNumber> = names
        .iter()
        .filter_map(|name| match name {
            FileName::Log(number) => Some(*number),
            _ => None,
        })
        .filter(|number| is_above(levels, *number))
        .collect();
    numbers.sort_unstable();
    let (mut strays, mut unread) = (Vec::new(), Vec::new());
    for number in numbers {
        match find_stray(fs.as_ref(), directory, number, levels.database, levels.flushed_any()) {
            Err(error) if may_lose && error.kind() == ErrorKind::Io => unread.push(number),
            looked => strays.extend(looked?),
        }
    }
    let found = sort_out(&strays, unread.clone(), levels, levels);
    if !(found.logs.is_empty() && found.unread.is_empty())
        && let Some(now) = manifest::read(fs, directory)?
    {
        // A writer may be at work, and have named (or flushed) a log after its manifest was read. What is in a log now as durable it
        // had named before.
        return Ok(sort_out(&strays, unread, levels, &now.levels));
    }
    Ok(found)
}

/// What logs that `levels` do not name are, if `now` is the newest that the manifest says.
fn sort_out(strays: &[StrayLog], unread: Vec<FileNumber>, levels: &Levels, now: &Levels) -> Found {
    let mut found = Found::default();
    let mut newest_here = newest(levels);
    let newest_now = newest(now);
    for log in strays {
        let was_known = !is_above(now, log.number) || log.first <= now.flushed_any();
        if comes_behind(log, newest_here) && (was_known || !log.was_named) {
            newest_here = Some((log.number, log.identity));
            found.unnamed.push(*log);
        } else if !was_known && (log.was_named || !comes_behind(log, newest_now)) {
            found.logs.push(*log);
        }
    }
    found.unread = unread.into_iter().filter(|number| is_above(now, *number)).collect();
    found
}

/// Whether a log lies above all that are named.
fn is_above(levels: &Levels, number: FileNumber) -> bool {
    levels.logs.last_key_value().is_none_or(|(last, _)| *last < number)
}

/// The newest log that is named, if nobody says yet where it ends.
fn newest(levels: &Levels) -> Option<(FileNumber, Identity)> {
    let (number, log) = levels.logs.last_key_value()?;
    log.cut.is_none().then_some((*number, log.identity))
}

/// Whether a log says that it follows another.
fn comes_behind(log: &StrayLog, before: Option<(FileNumber, Identity)>) -> bool {
    let told = log.previous.map(|end| (end.number, end.identity));
    told.is_some() && told == before
}

/// Names it: it lies above all that are named.
fn take_in(remembered: &mut Remembered, log: StrayLog) -> Result<()> {
    let levels = &remembered.levels;
    let mut changes = Vec::new();
    if log.number >= levels.next_file {
        let next = log.number.checked_add(1);
        changes.push(Change::NextFile(
            next.ok_or_else(|| Error::corruption("the numbers of files are used up"))?,
        ));
    }
    changes.push(Change::LogAdded { number: log.number, identity: log.identity });
    remembered.add(changes)
}

fn refused(directory: &Path, found: &ManifestReport, log: StrayLog) -> Error {
    Error::corruption(format!(
        "the manifest ends here and does not name {}, which holds what no table has: sequence numbers {} to {}. The edit that named it is lost, and \
         they would be lost with it. Restore the manifest from a copy, or open with recovery mode Salvage (takes in the log) or PointInTime \
         (sets it aside)",
        FileName::Log(log.number),
        log.first,
        log.last
    ))
    .at(FileName::Manifest.path(directory))
    .at_offset(found.end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::{LockMode, MemFs};
    use crate::{Background, Db, KeyspaceOptions};

    #[test]
    fn a_log_that_a_writer_named_meanwhile_is_not_forgotten() {
        let mem = MemFs::new();
        let fs: Arc<dyn FileSystem> = Arc::new(mem.clone());
        let directory = Path::new("/db");
        let db = Db::builder(directory)
            .file_system(Arc::clone(&fs))
            .background(Background::Manual)
            .open()
            .unwrap();
        let keyspace = db.keyspace("k", KeyspaceOptions::sorted()).unwrap();
        let before = manifest::read(&fs, directory).unwrap().unwrap();
        // As a reader does it: no log is removed meanwhile.
        let _opening = fs.try_lock(&FileName::Readers.path(directory), LockMode::Shared).unwrap().unwrap();
        let look = |mem: &MemFs, expected: usize| {
            let fs: Arc<dyn FileSystem> = Arc::new(mem.clone());
            let names = fs.read_dir(directory).unwrap();
            let names: Vec<FileName> =
                names.iter().filter_map(|name| FileName::parse(Path::new(name.file_name()?))).collect();
            let logs = names.iter().filter(|name| matches!(name, FileName::Log(_))).count();
            assert_eq!(logs, expected);
            remember(&fs, directory, &names, &before, RecoveryMode::Tail, Access::ReadOnly)
        };
        keyspace.put("a", "1").unwrap();
        assert!(!look(&mem, 1).unwrap().is_lossy, "named");
        db.flush().unwrap();
        assert!(!look(&mem, 1).unwrap().is_lossy, "named, and flushed");
        keyspace.put("a", "2").unwrap();
        assert!(!look(&mem, 2).unwrap().is_lossy, "both");
        // But with the manifest of that time the second one is.
        let path = FileName::Manifest.path(directory);
        let file = fs.open_read(&path).unwrap();
        let mut bytes = vec![0; usize::try_from(before.end).unwrap()];
        file.read_exact_at(&mut bytes, 0).unwrap();
        let damaged = mem.snapshot();
        damaged.remove_file(&path).unwrap();
        damaged.create_new(&path).unwrap().write_all_at(&bytes, 0).unwrap();
        look(&damaged, 2).unwrap_err();
    }
}
