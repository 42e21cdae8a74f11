//! Applying runs: a run is read whole and checked, then it gets its place among the snapshots, then its rows are written.
//!
//! Two runs that build on one snapshot: the one whose committing segment has the lower hash stays in the timeline; the other starts a derived one, with
//! a copy of the shared snapshot's state in front. So every catalog decides alike, whatever it saw first.

use lsm::{Batch, Durability};

use crate::error::{Error, ErrorKind, Result};
use crate::id::{SnapshotId, TimelineId};
use crate::segment::{CommitRecord, Record, RecordReader, RunRecord, Segment, SegmentName};
use crate::version::SnapshotNumber;

use super::Catalog;
use super::applier::Applier;
use super::row::TimelineRow;
use super::store::{self, TimelineNumber};
use super::writers::SegmentInfo;

/// Plaintexts of a run's pieces are kept between checking and applying up to this many bytes; beyond, they are read again.
const KEPT_BYTES_MAX: usize = 32 << 20;

/// Where the pieces of a run come from.
pub(super) trait PieceSource {
    /// A segment by its name, checked.
    fn piece(&self, name: &SegmentName) -> Result<Segment>;
}

/// A run that was read whole and checked.
pub(super) struct CheckedRun {
    pub(super) run: RunRecord,
    pub(super) commit_name: SegmentName,
    pub(super) commit: CommitRecord,
    pieces: Vec<SegmentName>,
    /// The pieces' plaintexts, unless they are too many bytes.
    kept: Option<Vec<Vec<u8>>>,
}

/// What applying a run did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RunApplied {
    /// The snapshot is visible.
    Visible,
    /// It was before.
    Already,
    /// It is visible in a timeline of its own, which forked from this one.
    Forked(TimelineId),
    /// It has the better right to a place that another run has: the catalog is to be made again, in the right order.
    OutOfOrder,
    /// The snapshot that it builds on is not here.
    ParentMissing(SnapshotId),
}

/// Where a run goes.
enum Placement {
    Here(TimelineNumber, TimelineRow),
    Fork { base: TimelineNumber, shared: Option<SnapshotNumber>, number: TimelineNumber, row: TimelineRow },
    Decided(RunApplied),
}

impl Catalog {
    /// The pieces of the run that `commit` ends, from its first: their rows must be here.
    fn pieces_of(&self, commit: &SegmentInfo) -> Result<Vec<SegmentName>> {
        let mut pieces = vec![commit.name];
        let mut at = *commit;
        while !at.flags.begins {
            let before = self.segment_before(&at)?.ok_or_else(|| {
                Error::new(
                    ErrorKind::NotFound,
                    format!(
                        "{}: the piece before it in its run is missing, with the hash {}",
                        at.name, at.predecessor
                    ),
                )
            })?;
            if before.flags.commits {
                return Err(Error::damage(format!("{}: no piece begins its run", commit.name)));
            }
            pieces.push(before.name);
            at = before;
        }
        pieces.reverse();
        Ok(pieces)
    }

    /// What a run says first, from the piece that begins it.
    pub(super) fn read_run_record(
        &self,
        commit: &SegmentInfo,
        source: &dyn PieceSource,
    ) -> Result<RunRecord> {
        let pieces = self.pieces_of(commit)?;
        let first = pieces.first().copied().unwrap_or(commit.name);
        let records = source.piece(&first)?.records(&self.inner.segment_keys)?;
        match RecordReader::new(&records).next_record().map_err(|error| error.at(first))? {
            Some(Record::Run(run)) => Ok(run),
            _ => Err(Error::damage(format!("{first}: a run does not begin with what it is"))),
        }
    }

    /// Reads a run whole and checks it: every piece is there, every record makes sense, none is missing.
    pub(super) fn read_run(&self, commit_info: &SegmentInfo, source: &dyn PieceSource) -> Result<CheckedRun> {
        let pieces = self.pieces_of(commit_info)?;
        let mut run = None;
        let mut commit = None;
        let mut count = 0u64;
        let mut kept = Some(Vec::new());
        let mut kept_bytes = 0;
        for name in &pieces {
            let records = source.piece(name)?.records(&self.inner.segment_keys)?;
            let mut reader = RecordReader::new(&records);
            while let Some(record) = reader.next_record().map_err(|error| error.at(name))? {
                let misplaced = || Error::damage(format!("{name}: a record stands where it must not"));
                match (record, run.is_some(), commit.is_some()) {
                    (Record::Run(found), false, false) => run = Some(found),
                    (Record::Commit(found), true, false) => commit = Some(*found),
                    (Record::Run(_) | Record::Commit(_), _, _) | (_, false, _) | (_, _, true) => {
                        return Err(misplaced());
                    }
                    (Record::List(_), true, false) => {}
                    (Record::Entry(_) | Record::Gone(_) | Record::Seen(_), true, false) => count += 1,
                }
            }
            kept_bytes += records.len();
            if kept_bytes > KEPT_BYTES_MAX {
                kept = None;
            }
            if let Some(kept) = &mut kept {
                kept.push(records);
            }
        }
        let missing = |what: &str| Error::damage(format!("{}: {what}", commit_info.name));
        let run = run.ok_or_else(|| missing("a run does not begin with what it is"))?;
        let commit = commit.ok_or_else(|| missing("a run does not end with what it came to"))?;
        if commit.record_count != count {
            return Err(missing(&format!(
                "{} records in the run expected, {count} found",
                commit.record_count
            )));
        }
        Ok(CheckedRun { run, commit_name: commit_info.name, commit, pieces, kept })
    }

    fn place(&self, run: &CheckedRun) -> Result<Placement> {
        if self.snapshot_place(run.run.snapshot)?.is_some() {
            return Ok(Placement::Decided(RunApplied::Already));
        }
        let new_row = |id| TimelineRow {
            id,
            forked_from: None,
            head: None,
            host: run.run.host.clone(),
            roots: run.run.roots.clone(),
        };
        let (base, shared) = match run.run.parent {
            Some(parent) => match self.snapshot_place(parent)? {
                Some((base, shared)) => (Some(base), Some(shared)),
                None => return Ok(Placement::Decided(RunApplied::ParentMissing(parent))),
            },
            None => (self.timeline_number(run.run.timeline)?, None),
        };
        if run.run.number.0 != shared.map_or(1, |shared| shared.0 + 1) {
            return Err(Error::damage(format!(
                "{}: its snapshot has the number {} behind {}",
                run.commit_name,
                run.run.number.0,
                shared.map_or(0, |shared| shared.0)
            )));
        }
        let Some(base) = base else {
            let number = TimelineNumber(self.next_number(&self.inner.spaces.timelines)?);
            return Ok(Placement::Here(number, new_row(run.run.timeline)));
        };
        let base_row = self.timeline_row(base)?;
        let Some(sibling) = self.snapshot_row(base, run.run.number)? else {
            return Ok(Placement::Here(base, base_row));
        };
        if run.commit_name.hash < sibling.commit_hash {
            return Ok(Placement::Decided(RunApplied::OutOfOrder));
        }
        let id = self.forked_timeline_id(base_row.id, run.commit_name.hash);
        let (number, known) = match self.timeline_number(id)? {
            Some(number) => (number, Some(self.timeline_row(number)?)),
            None => (TimelineNumber(self.next_number(&self.inner.spaces.timelines)?), None),
        };
        let row = known.unwrap_or_else(|| TimelineRow {
            forked_from: shared.map(|shared| (base, shared)),
            head: shared,
            ..new_row(id)
        });
        Ok(Placement::Fork { base, shared, number, row })
    }

    /// Makes the snapshot of a run visible.
    pub(super) fn apply_run(&self, run: &CheckedRun, source: &dyn PieceSource) -> Result<RunApplied> {
        let _guard = self.inner.change.lock();
        let under_way = self.applying()?;
        if let Some(other) = under_way.filter(|mark| mark.commit != run.commit_name) {
            return Err(Error::new(
                ErrorKind::Local,
                format!("the local catalog: {} is half applied and comes first", other.commit),
            ));
        }
        let (timeline, row, fork) = match self.place(run)? {
            Placement::Decided(decided) => {
                if decided == RunApplied::Already {
                    let mut batch = Batch::new();
                    batch.delete(&self.inner.spaces.meta, store::waiting(&run.commit_name));
                    self.commit(batch, Durability::System)?;
                }
                return Ok(decided);
            }
            Placement::Here(timeline, row) => (timeline, row, None),
            Placement::Fork { base, shared, number, row } => (number, row, Some((base, shared))),
        };
        let mut applier = Applier::new(self, timeline, row, run, under_way.is_some());
        if let Some((base, Some(shared))) = fork {
            applier.copy_state(base, shared)?;
        }
        for (index, name) in run.pieces.iter().enumerate() {
            match run.kept.as_ref().and_then(|kept| kept.get(index)) {
                Some(records) => applier.piece(name, records)?,
                None => applier.piece(name, &source.piece(name)?.records(&self.inner.segment_keys)?)?,
            }
        }
        let id = applier.timeline_id();
        applier.finish(run)?;
        Ok(if fork.is_some() { RunApplied::Forked(id) } else { RunApplied::Visible })
    }
}
