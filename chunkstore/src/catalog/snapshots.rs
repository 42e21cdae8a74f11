//! Timelines and snapshots: who has what history, numbered; and the ids that are derived from them.

use std::collections::BTreeMap;

use crate::codec::put_slice;
use crate::entry_key::EntryKey;
use crate::error::Result;
use crate::id::{FileId, ObjectHash, SnapshotId, TimelineId, VersionId};
use crate::metadata::Timestamp;
use crate::segment::Sequence;
use crate::version::{Snapshot, SnapshotNumber, Timeline};

use super::Catalog;
use super::row::{FileRef, SnapshotRow, TimelineRow};
use super::store::{self, TimelineNumber, bad_row, local};

/// What an id is derived for: the first byte of what is hashed.
#[derive(Clone, Copy)]
enum Derived {
    Timeline = 1,
    ForkedTimeline = 2,
    Version = 3,
    File = 4,
}

impl Catalog {
    fn derive(&self, what: Derived, parts: &[&[u8]]) -> [u8; 16] {
        let mut input = vec![what as u8];
        for part in parts {
            input.extend_from_slice(part);
        }
        let hash = self.inner.derived.hash(&[&input]);
        hash.first_chunk::<16>().copied().unwrap_or_default()
    }

    /// The bytes as a UUID of version 8.
    fn as_uuid(bytes: [u8; 16]) -> [u8; 16] {
        *uuid::Builder::from_custom_bytes(bytes).into_uuid().as_bytes()
    }

    /// The timeline of a host and its roots (sorted).
    pub(super) fn timeline_id(&self, host: &[u8], roots: &[Vec<u8>]) -> TimelineId {
        let mut input = Vec::new();
        put_slice(&mut input, host);
        for root in roots {
            put_slice(&mut input, root);
        }
        TimelineId::from_bytes(self.derive(Derived::Timeline, &[&input]))
    }

    /// The timeline that a run starts which lost its parent's place to another: named by its committing segment.
    pub(super) fn forked_timeline_id(&self, base: TimelineId, commit: ObjectHash) -> TimelineId {
        TimelineId::from_bytes(self.derive(Derived::ForkedTimeline, &[base.as_bytes(), commit.as_bytes()]))
    }

    pub(super) fn version_id(&self, snapshot: SnapshotId, key: &EntryKey) -> VersionId {
        VersionId::from_bytes(Self::as_uuid(
            self.derive(Derived::Version, &[snapshot.as_bytes(), key.as_bytes()]),
        ))
    }

    pub(super) fn new_file_id(&self, snapshot: SnapshotId, key: &EntryKey) -> FileId {
        FileId::from_bytes(Self::as_uuid(self.derive(Derived::File, &[snapshot.as_bytes(), key.as_bytes()])))
    }

    pub(super) fn timeline_row(&self, number: TimelineNumber) -> Result<TimelineRow> {
        let row = self.inner.spaces.timelines.get(store::numbered(number.0))?;
        let row = row.ok_or_else(|| bad_row("timelines", &format!("number {} is missing", number.0)))?;
        TimelineRow::decode(&row).map_err(local("timelines"))
    }

    pub(super) fn timeline_number(&self, id: TimelineId) -> Result<Option<TimelineNumber>> {
        let Some(row) = self.inner.spaces.timelines.get(store::timeline_by_id(&id))? else {
            return Ok(None);
        };
        let number = row.first_chunk::<4>().ok_or_else(|| bad_row("timelines", "a number of four bytes"))?;
        Ok(Some(TimelineNumber(u32::from_be_bytes(*number))))
    }

    pub(super) fn timeline_rows(&self) -> Result<Vec<(TimelineNumber, TimelineRow)>> {
        let mut rows = Vec::new();
        for row in self.inner.spaces.timelines.prefix(store::all_numbered()) {
            let (key, value) = row?;
            let number = key.last_chunk::<4>().ok_or_else(|| bad_row("timelines", "its key is too short"))?;
            rows.push((
                TimelineNumber(u32::from_be_bytes(*number)),
                TimelineRow::decode(&value).map_err(local("timelines"))?,
            ));
        }
        Ok(rows)
    }

    fn timeline_of_row(&self, row: TimelineRow) -> Result<Timeline> {
        let forked_from = match row.forked_from {
            Some((base, number)) => Some((self.timeline_row(base)?.id, number)),
            None => None,
        };
        Ok(Timeline { id: row.id, host: row.host, roots: row.roots, forked_from, head: row.head })
    }

    /// The timeline that a backup of these roots of this host continues; a new one without a head if there is none.
    ///
    /// After a fork, or when one began afresh, there are several: the one whose newest snapshot this machine wrote last, else the one whose newest snapshot
    /// is the latest.
    ///
    /// # Errors
    /// Local.
    pub fn timeline(&self, host: &[u8], roots: &[Vec<u8>]) -> Result<Timeline> {
        let mut roots = roots.to_vec();
        roots.sort();
        roots.dedup();
        let id = self.timeline_id(host, &roots);
        let writer = self.writer()?;
        // By the place in this machine's own log; only between those that others wrote by a clock.
        let mut best: Option<((Option<Sequence>, Timestamp), TimelineRow)> = None;
        for (number, row) in self.timeline_rows()? {
            if row.host != host || row.roots != roots {
                continue;
            }
            let head = match row.head {
                Some(head) => self.snapshot_row(number, head)?,
                None => None,
            };
            let Some(head) = head else { continue };
            let own = Some(head.commit_sequence).filter(|_| Some(head.writer) == writer);
            let rank = (own, head.run.time);
            if best.as_ref().is_none_or(|(known, _)| *known < rank) {
                best = Some((rank, row));
            }
        }
        match best {
            Some((_, row)) => self.timeline_of_row(row),
            None => Ok(Timeline { id, host: host.to_vec(), roots, forked_from: None, head: None }),
        }
    }

    /// Every timeline.
    ///
    /// # Errors
    /// Local.
    pub fn timelines(&self) -> Result<Vec<Timeline>> {
        self.timeline_rows()?.into_iter().map(|(_, row)| self.timeline_of_row(row)).collect()
    }

    pub(super) fn snapshot_row(
        &self,
        timeline: TimelineNumber,
        number: SnapshotNumber,
    ) -> Result<Option<SnapshotRow>> {
        match self.inner.spaces.snapshots.get(store::snapshot_by_number(timeline, number))? {
            Some(row) => SnapshotRow::decode(&row).map(Some).map_err(local("snapshots")),
            None => Ok(None),
        }
    }

    /// The id of a snapshot by its number, also of one that a forked timeline shares with its base.
    pub(super) fn snapshot_id_at(
        &self,
        timeline: TimelineNumber,
        number: SnapshotNumber,
    ) -> Result<SnapshotId> {
        let mut at = timeline;
        loop {
            if let Some(row) = self.snapshot_row(at, number)? {
                return Ok(row.run.snapshot);
            }
            match self.timeline_row(at)?.forked_from {
                Some((base, shared)) if number <= shared && base != at => at = base,
                _ => return Err(bad_row("snapshots", &format!("number {} is missing", number.0))),
            }
        }
    }

    pub(super) fn snapshot_place(&self, id: SnapshotId) -> Result<Option<(TimelineNumber, SnapshotNumber)>> {
        let Some(row) = self.inner.spaces.snapshots.get(store::snapshot_by_id(&id))? else { return Ok(None) };
        let (timeline, number) = match (row.first_chunk::<4>(), row.last_chunk::<4>(), row.len()) {
            (Some(timeline), Some(number), 8) => (*timeline, *number),
            _ => return Err(bad_row("snapshots", "eight bytes expected")),
        };
        Ok(Some((TimelineNumber(u32::from_be_bytes(timeline)), SnapshotNumber(u32::from_be_bytes(number)))))
    }

    pub(super) fn snapshot_of(&self, row: &SnapshotRow, timeline: TimelineId) -> Snapshot {
        let (run, commit) = (&row.run, &row.commit);
        Snapshot {
            id: run.snapshot,
            timeline,
            number: run.number,
            parent: run.parent,
            writer: row.writer,
            time: run.time,
            end: commit.end,
            host: run.host.clone(),
            user: commit.user.clone(),
            program: commit.program.clone(),
            roots: run.roots.clone(),
            tags: commit.tags.clone(),
            excludes: commit.excludes.clone(),
            partial: commit.partial,
            stats: commit.stats,
            digest: row.digest,
        }
    }

    /// Every snapshot, the oldest first.
    ///
    /// # Errors
    /// Local.
    pub fn snapshots(&self) -> Result<Vec<Snapshot>> {
        let names: BTreeMap<TimelineNumber, TimelineId> =
            self.timeline_rows()?.into_iter().map(|(number, row)| (number, row.id)).collect();
        let mut snapshots = Vec::new();
        for row in self.inner.spaces.snapshots.prefix(store::all_numbered()) {
            let (key, value) = row?;
            let timeline = key.get(1..5).and_then(|bytes| bytes.first_chunk::<4>());
            let timeline = timeline.ok_or_else(|| bad_row("snapshots", "its key is too short"))?;
            let id = names.get(&TimelineNumber(u32::from_be_bytes(*timeline)));
            // A timeline made after the first scan: its snapshot is newer than the moment that was asked about.
            let Some(id) = id else { continue };
            let row = SnapshotRow::decode(&value).map_err(local("snapshots"))?;
            snapshots.push(self.snapshot_of(&row, *id));
        }
        snapshots.sort_by_key(|snapshot| (snapshot.time, snapshot.number, snapshot.id));
        Ok(snapshots)
    }

    /// A snapshot by its id.
    ///
    /// # Errors
    /// Local.
    pub fn snapshot(&self, id: SnapshotId) -> Result<Option<Snapshot>> {
        match self.snapshot_place(id)? {
            Some((timeline, number)) => self.snapshot_in(timeline, number),
            None => Ok(None),
        }
    }

    pub(super) fn snapshot_in(
        &self,
        timeline: TimelineNumber,
        number: SnapshotNumber,
    ) -> Result<Option<Snapshot>> {
        let Some(row) = self.snapshot_row(timeline, number)? else { return Ok(None) };
        Ok(Some(self.snapshot_of(&row, self.timeline_row(timeline)?.id)))
    }

    /// A snapshot by its place.
    ///
    /// # Errors
    /// Local.
    pub fn snapshot_at(&self, timeline: TimelineId, number: SnapshotNumber) -> Result<Option<Snapshot>> {
        match self.timeline_number(timeline)? {
            Some(timeline) => self.snapshot_in(timeline, number),
            None => Ok(None),
        }
    }

    pub(super) fn file_id(&self, timeline: TimelineNumber, key: &EntryKey, file: FileRef) -> Result<FileId> {
        match file {
            FileRef::Explicit(id) => Ok(id),
            FileRef::BornHere(number) => Ok(self.new_file_id(self.snapshot_id_at(timeline, number)?, key)),
        }
    }
}
