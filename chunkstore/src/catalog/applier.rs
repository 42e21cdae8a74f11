//! Writing the rows of one run, in batches of bounded size.
//!
//! All rows of an entry are in one batch. So when a run is applied again after a crash, an entry whose `current` row carries the run's number
//! already is done, and is passed over.

use std::collections::HashMap;

use lsm::{Batch, Durability};

use crate::entry_key::{EntryKey, KeyRange};
use crate::error::{Error, Result};
use crate::id::{FileId, SnapshotId, TimelineId};
use crate::metadata::Kind;
use crate::segment::{
    DigestRecord, ENTRY_RECORD_BYTES_MAX, EntryRecord, Record, RecordReader, SeenRecord, SegmentName,
};
use crate::version::{FileOrigin, SnapshotNumber};

use super::Catalog;
use super::apply::Applying;
use super::digest::StateDigest;
use super::row::{CurrentRow, FileRef, HistoryRow, SnapshotRow, TimelineRow, VersionRow};
use super::runs::CheckedRun;
use super::store::{self, TimelineNumber, local, meta};

/// How much is done at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// A batch is committed when it has so many bytes: bounds what the engine holds for it.
    pub(super) batch_bytes: usize,
    /// So many records are looked up together.
    pub(super) lookup_records: usize,
    /// No record of an entry is written that is longer.
    pub(super) record_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { batch_bytes: 4 << 20, lookup_records: 2048, record_bytes: ENTRY_RECORD_BYTES_MAX }
    }
}

/// A record that waits for the look-up of what stood at its entry.
enum Waiting {
    Entry(Box<EntryRecord>),
    Gone(EntryKey),
    Seen(SeenRecord),
}

impl Waiting {
    fn key(&self) -> &EntryKey {
        match self {
            Self::Entry(entry) => &entry.key,
            Self::Gone(key) => key,
            Self::Seen(seen) => &seen.key,
        }
    }
}

/// Writes the rows of one run.
pub(super) struct Applier<'a> {
    catalog: &'a Catalog,
    timeline: TimelineNumber,
    number: SnapshotNumber,
    /// Whether entries may have Versions already: the first run of a timeline looks nothing up.
    has_predecessors: bool,
    row: TimelineRow,
    commit: SegmentName,
    is_marked: bool,
    batch: Batch,
    births: HashMap<SnapshotNumber, SnapshotId>,
    waiting: Vec<Waiting>,
}

impl<'a> Applier<'a> {
    /// For `run` on the timeline of `row`; `is_marked` if a crash left it half applied.
    pub(super) fn new(
        catalog: &'a Catalog,
        timeline: TimelineNumber,
        row: TimelineRow,
        run: &CheckedRun,
        is_marked: bool,
    ) -> Self {
        Self {
            catalog,
            timeline,
            number: run.run.number,
            has_predecessors: row.head.is_some(),
            row,
            commit: run.commit_name,
            is_marked,
            batch: Batch::new(),
            births: HashMap::from([(run.run.number, run.run.snapshot)]),
            waiting: Vec::new(),
        }
    }

    /// The timeline's id.
    pub(super) fn timeline_id(&self) -> TimelineId {
        self.row.id
    }

    /// Copies the state that a fork starts from: each row as it was born, so that ids stay what they are.
    pub(super) fn copy_state(&mut self, base: TimelineNumber, shared: SnapshotNumber) -> Result<()> {
        let catalog = self.catalog;
        let mut state = catalog.state_in(base, shared, &KeyRange::all());
        while let Some((key, birth, row)) = state.next_row()? {
            let current = CurrentRow::new(birth, row.file, row.marks, &row.metadata);
            // After a crash behind the copying, the run's own rows may stand here already: they stay.
            if self.is_marked
                && catalog.current_row(self.timeline, &key)?.is_some_and(|row| row.birth == self.number)
            {
                continue;
            }
            self.put_version(&key, birth, &row, &current);
            self.commit_if_full()?;
        }
        // What follows looks these rows up.
        self.commit_batch()
    }

    fn put_version(&mut self, key: &EntryKey, birth: SnapshotNumber, row: &VersionRow, current: &CurrentRow) {
        let spaces = &self.catalog.inner.spaces;
        self.batch.put(&spaces.history, store::history(self.timeline, key.as_bytes(), birth), row.encode());
        self.batch.put(&spaces.current, store::current(self.timeline, key), current.encode());
        self.put_inode(key, current);
    }

    fn put_inode(&mut self, key: &EntryKey, current: &CurrentRow) {
        if current.kind == Kind::File {
            let row_key = store::inode(self.timeline, current.device, current.inode, key.as_bytes());
            self.batch.put(&self.catalog.inner.spaces.inodes, row_key, []);
        }
    }

    fn delete_inode(&mut self, key: &EntryKey, current: &CurrentRow) {
        if current.kind == Kind::File {
            let row_key = store::inode(self.timeline, current.device, current.inode, key.as_bytes());
            self.batch.delete(&self.catalog.inner.spaces.inodes, row_key);
        }
    }

    /// Writes the rows of one piece.
    pub(super) fn piece(&mut self, name: &SegmentName, records: &[u8]) -> Result<()> {
        let mut reader = RecordReader::new(records);
        while let Some(record) = reader.next_record().map_err(|error| error.at(name))? {
            match record {
                Record::Run(_) | Record::Commit(_) => {}
                Record::List(node) => {
                    let id = node.id(&self.catalog.inner.list_key);
                    self.batch.put(&self.catalog.inner.spaces.lists, id.as_bytes(), node.encode());
                    self.commit_if_full()?;
                }
                Record::Entry(entry) => self.wait(Waiting::Entry(entry))?,
                Record::Gone(key) => self.wait(Waiting::Gone(key))?,
                Record::Seen(seen) => self.wait(Waiting::Seen(seen))?,
            }
        }
        self.settle()
    }

    fn wait(&mut self, record: Waiting) -> Result<()> {
        self.waiting.push(record);
        if self.waiting.len() >= self.catalog.inner.limits.lookup_records { self.settle() } else { Ok(()) }
    }

    fn settle(&mut self) -> Result<()> {
        let waiting = std::mem::take(&mut self.waiting);
        let mut before = vec![None; waiting.len()];
        if self.has_predecessors || self.is_marked {
            let keys: Vec<Vec<u8>> =
                waiting.iter().map(|record| store::current(self.timeline, record.key())).collect();
            before = self.catalog.inner.spaces.current.multi_get(&keys)?;
        }
        for (record, before) in waiting.into_iter().zip(before) {
            let before = before.map(|row| CurrentRow::decode(&row).map_err(local("current"))).transpose()?;
            match record {
                Waiting::Entry(entry) => self.entry(*entry, before)?,
                Waiting::Gone(key) => self.gone(&key, before)?,
                Waiting::Seen(seen) => self.seen(&seen, before),
            }
            self.commit_if_full()?;
        }
        Ok(())
    }

    fn file_id(&mut self, key: &EntryKey, file: FileRef) -> Result<FileId> {
        match file {
            FileRef::Explicit(id) => Ok(id),
            FileRef::BornHere(number) => {
                let snapshot = match self.births.get(&number) {
                    Some(id) => *id,
                    None => {
                        let id = self.catalog.snapshot_id_at(self.timeline, number)?;
                        self.births.insert(number, id);
                        id
                    }
                };
                Ok(self.catalog.new_file_id(snapshot, key))
            }
        }
    }

    /// Notes that a File was at `key`: when it leaves the place, or when it came from elsewhere.
    fn put_file(&mut self, key: &EntryKey, file: FileId) {
        let row_key = store::file(&file, self.timeline, key.as_bytes());
        self.batch.put(&self.catalog.inner.spaces.files, row_key, []);
    }

    fn entry(&mut self, entry: EntryRecord, before: Option<CurrentRow>) -> Result<()> {
        if before.is_some_and(|row| row.birth == self.number) {
            return Ok(());
        }
        let file = match (entry.file, &before) {
            (FileOrigin::Explicit(id), _) => FileRef::Explicit(id),
            (FileOrigin::SameAsPredecessor, Some(row)) => row.file,
            (FileOrigin::SameAsPredecessor, None) | (FileOrigin::New, _) => FileRef::BornHere(self.number),
        };
        let current = CurrentRow::new(self.number, file, entry.marks, &entry.metadata);
        if let Some(before) = &before {
            if (before.device, before.inode, before.kind) != (current.device, current.inode, current.kind) {
                self.delete_inode(&entry.key, before);
            }
            if before.file != file && before.kind == Kind::File {
                let left = self.file_id(&entry.key, before.file)?;
                self.put_file(&entry.key, left);
            }
        }
        if let FileRef::Explicit(id) = file {
            self.put_file(&entry.key, id);
        }
        let EntryRecord { key, metadata, contents, marks, .. } = entry;
        let row = VersionRow { file, marks, contents, metadata };
        self.put_version(&key, self.number, &row, &current);
        self.put_change(&key);
        Ok(())
    }

    fn put_change(&mut self, key: &EntryKey) {
        if self.number.0 > 1 {
            let row_key = store::changes(self.timeline, self.number, key.as_bytes());
            self.batch.put(&self.catalog.inner.spaces.changes, row_key, []);
        }
    }

    fn gone(&mut self, key: &EntryKey, before: Option<CurrentRow>) -> Result<()> {
        // Nothing there: this was applied before the crash that made us come here again.
        let Some(before) = before else { return Ok(()) };
        let spaces = &self.catalog.inner.spaces;
        let row_key = store::history(self.timeline, key.as_bytes(), self.number);
        self.batch.put(&spaces.history, row_key, HistoryRow::Gone.encode());
        self.batch.delete(&spaces.current, store::current(self.timeline, key));
        self.delete_inode(key, &before);
        if before.kind == Kind::File {
            let file = self.file_id(key, before.file)?;
            self.put_file(key, file);
        }
        self.put_change(key);
        Ok(())
    }

    fn seen(&mut self, seen: &SeenRecord, before: Option<CurrentRow>) {
        let Some(before) = before else { return };
        let SeenRecord { key, ctime, inode, device, marks } = seen;
        let row = CurrentRow { ctime: *ctime, inode: *inode, device: *device, marks: *marks, ..before };
        if (before.device, before.inode) != (row.device, row.inode) {
            self.delete_inode(key, &before);
        }
        self.put_inode(key, &row);
        self.batch.put(&self.catalog.inner.spaces.current, store::current(self.timeline, key), row.encode());
    }

    fn commit_if_full(&mut self) -> Result<()> {
        if self.batch.encoded_bytes() >= self.catalog.inner.limits.batch_bytes {
            self.commit_batch()
        } else {
            Ok(())
        }
    }

    fn commit_batch(&mut self) -> Result<()> {
        let mut batch = std::mem::take(&mut self.batch);
        if !self.is_marked {
            let mark = Applying { timeline: self.timeline, commit: self.commit };
            batch.put(&self.catalog.inner.spaces.meta, meta::APPLYING, mark.encode());
            self.put_timeline(&mut batch);
            self.is_marked = true;
        }
        self.catalog.commit(batch, Durability::System)?;
        Ok(())
    }

    fn put_timeline(&self, batch: &mut Batch) {
        let spaces = &self.catalog.inner.spaces;
        batch.put(&spaces.timelines, store::numbered(self.timeline.0), self.row.encode());
        batch.put(&spaces.timelines, store::timeline_by_id(&self.row.id), self.timeline.0.to_be_bytes());
    }

    /// Makes the snapshot visible.
    pub(super) fn finish(mut self, run: &CheckedRun) -> Result<()> {
        let catalog = self.catalog;
        let spaces = &catalog.inner.spaces;
        let digest = match &run.commit.digest {
            DigestRecord::Lanes(lanes) => StateDigest::from_lanes(lanes.clone()),
            DigestRecord::SameAsParent if self.row.head.is_some() => {
                catalog.digest_of_parent(self.timeline, &self.row)?
            }
            DigestRecord::SameAsParent => {
                return Err(Error::damage(format!(
                    "{}: the digest of a parent that is none",
                    run.commit_name
                )));
            }
        };
        let mut commit = run.commit.clone();
        commit.digest = DigestRecord::SameAsParent;
        let row = SnapshotRow {
            writer: run.commit_name.writer,
            commit_sequence: run.commit_name.sequence,
            commit_hash: run.commit_name.hash,
            digest: digest.hash(),
            run: run.run.clone(),
            commit,
        };
        self.row.head = Some(self.number);
        let mut batch = std::mem::take(&mut self.batch);
        self.put_timeline(&mut batch);
        let place = [self.timeline.0.to_be_bytes(), self.number.0.to_be_bytes()].concat();
        batch.put(&spaces.snapshots, store::snapshot_by_number(self.timeline, self.number), row.encode());
        batch.put(&spaces.snapshots, store::snapshot_by_id(&run.run.snapshot), place);
        let lanes = [&self.number.0.to_be_bytes()[..], &digest.to_bytes()].concat();
        batch.put(&spaces.digests, self.timeline.0.to_be_bytes(), lanes);
        batch.delete(&spaces.meta, meta::APPLYING);
        batch.delete(&spaces.meta, store::waiting(&run.commit_name));
        catalog.commit(batch, Durability::Synced)?;
        Ok(())
    }
}
