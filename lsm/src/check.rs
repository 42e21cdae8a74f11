//! Whether a database is sound, and why passing this means that it is.
//!
//! - Every byte of every table is read and verified, its entries are in order, within what the table says of itself, and known to its
//!   filter (the table's own check). What a table says of itself is what the manifest says of it.
//! - The levels are in order: level 0 by time, the runs below disjoint (checked on every install, and here again).
//! - For each key, what an upper place holds is newer than what a lower place does: all tables of a keyspace are merged once, and of the entries of
//!   one key each comes from the same place as the one before it, or a lower one; and no range tombstone lies above an entry that is newer than
//!   it. So the first answer that a lookup finds, or the first range tombstone over the key, is the newest.
//! - Every entry lies within the bounds of the reference that answers for it, and no sequence number is above the visible one.
//! - Every log that is named is there. (Its contents were verified when it was replayed, or are being written.)
//!
//! Files that nobody names are listed: they cost space, nothing else.

use std::path::Path;
use std::sync::Arc;

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::filename::{FileName, FileNumber};
use crate::iter::InternalIterator;
use crate::key::{SEQUENCE_MAX, SequenceNumber, parse_trailer, split};
use crate::levels::{KeyspaceView, OpenTable, RunIter};
use crate::merge::MergingIterator;
use crate::range::KeyRange;
use crate::range_tombstone::TombstoneCursor;
use crate::table::{CheckLevel, ReadMode, TableCheck};

/// Faults that are kept; of more, the count.
const FAULTS_MAX: usize = 100;

/// What a check found.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct CheckReport {
    /// Tables checked.
    pub tables: u64,
    /// What their own checks read.
    pub read: TableCheck,
    /// Faults, the first hundred.
    pub faults: Vec<Error>,
    /// How many faults there are.
    pub fault_count: u64,
    /// Files in the directory that nobody names.
    pub unknown_files: Vec<String>,
}

impl CheckReport {
    /// Whether no fault was found.
    pub fn is_clean(&self) -> bool {
        self.fault_count == 0
    }

    fn fault(&mut self, fault: Error) {
        self.fault_count += 1;
        if self.faults.len() < FAULTS_MAX {
            self.faults.push(fault);
        }
    }
}

pub(crate) fn check(engine: &Engine, level: CheckLevel) -> Result<CheckReport> {
    let mut report = CheckReport::default();
    // Edits wait while the list of files is compared with what they name; the View then holds the tables open.
    let (view, visible, levels, logs_in_use) = {
        let commit = engine.commit.lock();
        let unnamed = engine.unnamed_log(&commit);
        let next_log = engine.next_log.lock();
        let manifest = engine.manifest.lock();
        let (view, visible) = engine.read()?;
        // Nobody names them before they begin, and are settled.
        let logs = next_log.iter().map(|log| log.number()).chain(unnamed);
        check_files(engine, &manifest, logs, &mut report)?;
        let logs_in_use = commit.logs.iter().copied().filter(|number| Some(*number) != unnamed);
        (view, visible, Arc::clone(manifest.levels()), logs_in_use.collect::<Vec<_>>())
    };
    for number in logs_in_use {
        if !engine.read_only && !levels.logs.contains_key(&number) {
            report.fault(Error::corruption(format!("the manifest does not name {}", FileName::Log(number))));
        }
    }
    for (id, keyspace) in &view.keyspaces {
        match levels.keyspaces.get(id) {
            Some(record) if record.tree == keyspace.tables.tree => {}
            _ => report.fault(Error::corruption(format!(
                "keyspace {:?} is read as the manifest does not have it",
                keyspace.name
            ))),
        }
        if let Err(error) = keyspace.tables.tree.check() {
            report.fault(error);
        }
        for open in keyspace.tables.tables() {
            report.tables += 1;
            check_reference(open, visible, &mut report);
            let mut faults = Vec::new();
            report.read += open.table.check(level, &mut |fault| faults.push(fault));
            faults.into_iter().for_each(|fault| report.fault(fault));
        }
        if level == CheckLevel::Full
            && let Err(error) = check_order(keyspace, visible, &mut report)
        {
            report.fault(error);
        }
    }
    Ok(report)
}

/// Are the files there that are named, and are those named that are there?
fn check_files(
    engine: &Engine,
    manifest: &crate::manifest::Manifest,
    unnamed_logs: impl Iterator<Item = FileNumber>,
    report: &mut CheckReport,
) -> Result<()> {
    let levels = manifest.levels();
    let tables = levels.keyspaces.values().flat_map(|keyspace| keyspace.tree.tables());
    let mut named: Vec<FileName> = tables.map(|(_, table)| FileName::Table(table.file)).collect();
    named.extend(levels.logs.keys().map(|number| FileName::Log(*number)));
    let obsolete = engine.obsolete_files();
    let found = engine
        .fs
        .read_dir(&engine.directory)
        .map_err(|error| Error::io("list the directory", error).at(&engine.directory))?;
    let found: Vec<FileName> =
        found.iter().filter_map(|name| FileName::parse(Path::new(name.file_name()?))).collect();
    if !engine.read_only {
        for name in named.iter().filter(|name| !found.contains(name)) {
            let path = name.path(&engine.directory);
            report.fault(Error::corruption("the manifest names this file, and it is missing").at(path));
        }
    }
    named.extend(unnamed_logs.map(FileName::Log));
    named.extend(obsolete);
    let unknown = found.iter().filter(|name| name.number().is_some() && !named.contains(name));
    report.unknown_files = unknown.map(ToString::to_string).collect();
    Ok(())
}

/// Does the table say of itself what the manifest says of it?
fn check_reference(open: &OpenTable, visible: SequenceNumber, report: &mut CheckReport) {
    let (reference, summary) = (&open.reference, open.table.summary());
    let mut differs = |what: &str| {
        report.fault(
            Error::corruption(format!("the manifest says otherwise of its {what}")).at(open.table.path()),
        );
    };
    if !summary.bounds.encloses(&reference.bounds) {
        differs("bounds");
    }
    if (summary.sequence_min, summary.sequence_max) != (reference.sequence_min, reference.sequence_max) {
        differs("sequence numbers");
    }
    if (summary.entries, summary.deletions + summary.range_tombstones)
        != (reference.entries, reference.deletions)
    {
        differs("entries");
    }
    if reference.sequence_max > visible {
        report.fault(
            Error::corruption(format!(
                "sequence number {} is in a table, the last one given out is {visible}",
                reference.sequence_max
            ))
            .at(open.table.path()),
        );
    }
}

/// Merges all tables and looks at each key's entries, and at the range tombstones above them.
pub(crate) fn check_order(
    keyspace: &KeyspaceView,
    visible: SequenceNumber,
    report: &mut CheckReport,
) -> Result<()> {
    // Places from the newest to the oldest: each table of level 0, then each run. The numbers of the sources are their ranks.
    let mut sources = Vec::new();
    let mut tombstones: Vec<(usize, TombstoneCursor)> = Vec::new();
    let [newest, runs @ ..] = keyspace.tables.levels();
    let places = newest.iter().map(|open| Arc::from([open.clone()])).chain(runs.iter().cloned());
    for (rank, place) in places.enumerate() {
        let place: Arc<[OpenTable]> = place;
        let sets = place.iter().filter_map(|open| open.tombstones.as_ref());
        tombstones.extend(sets.map(|set| (rank, TombstoneCursor::new(Arc::clone(set), SEQUENCE_MAX))));
        sources.push(RunIter::new(place, ReadMode::Bypass, KeyRange::all()));
    }
    let mut merge = MergingIterator::new(sources);
    merge.seek_to_first()?;
    let mut last: Option<(Vec<u8>, usize)> = None;
    while let Some((rank, source)) = merge.source() {
        let name = |report: &mut CheckReport, message: String| {
            let error = Error::corruption(message);
            report.fault(match source.table() {
                Some(open) => error.at(open.table.path()),
                None => error,
            });
        };
        let (user, trailer) = split(merge.key())?;
        let (sequence, _) = parse_trailer(trailer)?;
        if sequence > visible {
            name(
                report,
                format!("sequence number {sequence} was not yet given out; key {}", user.escape_ascii()),
            );
        }
        match &mut last {
            Some((last_user, last_rank)) if last_user == user => {
                if rank < *last_rank {
                    let message = "holds an older entry of a key than one that lies below it: key";
                    name(report, format!("{message} {}", user.escape_ascii()));
                }
                *last_rank = rank;
            }
            last => *last = Some((user.to_vec(), rank)),
        }
        for (above, set) in tombstones.iter_mut().filter(|(above, _)| *above < rank) {
            // Only where one covers the key at all is it worth to ask for one that is older than the entry.
            if set.newest_covering(user) > 0 && set.tombstones().newest_covering(user, sequence) > 0 {
                let message = "holds an entry that is newer than a range tombstone in place";
                name(report, format!("{message} {above}, above it: key {}", user.escape_ascii()));
            }
        }
        merge.next()?;
    }
    Ok(())
}
