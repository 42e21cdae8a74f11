//! Applying segments: the only way in which the catalog changes. Doing it again changes nothing.
//!
//! A piece's index part is applied when the piece is; the versions parts of a run with the piece that commits it. First the whole run is
//! read and checked; then its rows are written in batches of bounded size, under a mark in `meta` that says which run is under way; the last
//! batch writes the snapshot's own row, moves the timeline's head and takes the mark away. Until then the rows carry the number of a
//! snapshot that nobody can see. After a crash the run is applied again from its front: an entry whose `current` row carries the run's number
//! already is passed over, for all its rows were in the same batch.
//!
//! Two runs that build on one snapshot: the one whose committing segment has the lower hash stays in the timeline; the other starts a derived one, with
//! a copy of the shared snapshot's state in front. So every catalog decides alike, whatever it saw first.

use std::collections::HashMap;

use lsm::{Batch, Durability};

use crate::codec::{Decoder, put_varint};
use crate::entry_key::{EntryKey, KeyRange};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{FileId, ObjectHash, SnapshotId, TimelineId};
use crate::metadata::Kind;
use crate::segment::{
    CommitRecord, DigestRecord, EntryRecord, PackContents, Record, RecordReader, RunRecord, SeenRecord,
    Segment, SegmentName, SegmentObject,
};
use crate::version::{FileOrigin, SnapshotNumber};

use super::Catalog;
use super::digest::StateDigest;
use super::row::{
    ChunkRow, CurrentRow, FileRef, FrameRow, HistoryRow, PackRow, SnapshotRow, TimelineRow, VersionRow,
};
use super::store::{self, PackNumber, TimelineNumber, bad_row, local, meta};
use super::writers::SegmentInfo;

/// How much is done at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// A batch is committed when it has so many bytes: bounds what the engine holds for it.
    pub(super) batch_bytes: usize,
    /// So many records are looked up together.
    pub(super) lookup_records: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { batch_bytes: 4 << 20, lookup_records: 2048 }
    }
}

/// Plaintexts of a run's pieces are kept between checking and applying up to this many bytes; beyond, they are read again.
const KEPT_BYTES_MAX: usize = 32 << 20;

/// Where the pieces of a run come from.
pub(super) trait PieceSource {
    /// A segment by its name, checked.
    fn piece(&self, name: &SegmentName) -> Result<Segment>;
}

/// The mark of a run that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Applying {
    pub(super) timeline: TimelineNumber,
    /// The piece that commits it.
    pub(super) commit: SegmentName,
}

impl Applying {
    fn encode(&self) -> Vec<u8> {
        let mut out = store::segment(&self.commit);
        put_varint(&mut out, u64::from(self.timeline.0));
        out
    }

    fn decode(bytes: &[u8]) -> Result<Self> {
        let mut from = Decoder::new(bytes);
        let commit = SegmentName {
            writer: crate::id::WriterId::from_bytes(from.array("writer")?),
            sequence: crate::segment::Sequence(u64::from_be_bytes(from.array("sequence")?)),
            hash: ObjectHash::from_bytes(from.array("hash")?),
        };
        let timeline = TimelineNumber(from.varint_u32("timeline")?);
        from.finish("mark of a run")?;
        Ok(Self { timeline, commit })
    }
}

/// A run that was read whole and checked.
pub(super) struct CheckedRun {
    pub(super) run: RunRecord,
    pub(super) commit_name: SegmentName,
    commit: CommitRecord,
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

/// The outbox as a source of pieces.
struct OutboxPieces<'a>(&'a Catalog);

impl PieceSource for OutboxPieces<'_> {
    fn piece(&self, name: &SegmentName) -> Result<Segment> {
        Segment::open(&self.0.outbox_ref()?.read(name)?)
    }
}

/// Where a run goes.
enum Placement {
    Here(TimelineNumber, TimelineRow),
    Fork { base: TimelineNumber, shared: Option<SnapshotNumber>, number: TimelineNumber, row: TimelineRow },
    Decided(RunApplied),
}

impl Catalog {
    /// Applies a piece of a run of this machine: its index part at once, the versions parts of the whole run, from the outbox, with the piece that
    /// commits. Doing it again changes nothing.
    ///
    /// # Errors
    /// Damage, naming the segment; not found, if a piece is not in the outbox; not the same, if another run took the place meanwhile
    /// ([`Catalog::catch_up`] sorts that out); local.
    pub fn apply(&self, object: &SegmentObject) -> Result<()> {
        let segment = Segment::open(object)?;
        self.apply_index(&segment)?;
        if !segment.header.flags.commits {
            return Ok(());
        }
        let info = SegmentInfo::of(&segment);
        let source = OutboxPieces(self);
        let run = self.read_run(&info, &source)?;
        match self.apply_run(&run, &source)? {
            RunApplied::Visible | RunApplied::Already | RunApplied::Forked(_) => Ok(()),
            RunApplied::OutOfOrder | RunApplied::ParentMissing(_) => Err(Error::new(
                ErrorKind::NotTheSame,
                format!("{}: the snapshot that it builds on is not the newest here", object.name),
            )),
        }
    }

    /// Whether a segment was applied: its index part, and its run if it commits one.
    ///
    /// # Errors
    /// Local.
    pub fn is_applied(&self, name: &SegmentName) -> Result<bool> {
        let Some(info) = self.segment_info(name)? else { return Ok(false) };
        Ok(!info.flags.commits || self.applied_commits()?.contains_key(&name.hash))
    }

    /// Removes segments from the outbox that are applied and that a target holds; the newest always stays.
    ///
    /// # Errors
    /// Local.
    pub fn trim_outbox(&self) -> Result<()> {
        let outbox = self.outbox_ref()?;
        let end = outbox.end()?;
        let newest = end.and_then(|end| Some((end.writer, end.newest?.0)));
        let commits = self.applied_commits()?;
        let targets = self.targets()?;
        // Pieces of a run that is not applied yet stay with it.
        let mut run_applied: HashMap<_, bool> = HashMap::new();
        for name in outbox.segments()?.into_iter().rev() {
            let Some(info) = self.segment_info(&name)? else { continue };
            if info.flags.commits {
                run_applied.insert(name.writer, commits.contains_key(&name.hash));
            }
            let applied = run_applied.get(&name.writer).copied().unwrap_or(false);
            let mut held = false;
            for (target, _) in &targets {
                held |= self.holding(*target, &name.key())?.is_some_and(|holding| holding.is_usable());
            }
            if applied && held && newest != Some((name.writer, name.sequence)) {
                outbox.remove(&name)?;
            }
        }
        Ok(())
    }

    /// The committing segments of all visible snapshots.
    pub(super) fn applied_commits(&self) -> Result<HashMap<ObjectHash, SnapshotId>> {
        let mut commits = HashMap::new();
        for row in self.inner.spaces.snapshots.prefix(store::all_numbered()) {
            let row = SnapshotRow::decode(&row?.1).map_err(local("snapshots"))?;
            commits.insert(row.commit_hash, row.run.snapshot);
        }
        Ok(commits)
    }

    pub(super) fn applying(&self) -> Result<Option<Applying>> {
        match self.inner.spaces.meta.get(meta::APPLYING)? {
            Some(mark) => Applying::decode(&mark).map(Some).map_err(local("meta")),
            None => Ok(None),
        }
    }

    /// Finishes a run that a crash left half applied, if the outbox has all of it.
    pub(super) fn finish_from_outbox(&self) -> Result<()> {
        let Some(mark) = self.applying()? else { return Ok(()) };
        let Some(info) = self.segment_info(&mark.commit)? else { return Ok(()) };
        let source = OutboxPieces(self);
        match self.read_run(&info, &source) {
            Ok(run) => self.apply_run(&run, &source).map(|_| ()),
            // Another machine's, or damaged here: a target has it.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Damage) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Applies an index part, and notes that the segment was read.
    pub(super) fn apply_index(&self, segment: &Segment) -> Result<()> {
        if self.has_segment(&segment.name)? {
            return Ok(());
        }
        let packs = segment.packs(&self.inner.segment_keys)?;
        let _guard = self.inner.change.lock();
        let mut batch = Batch::new();
        for pack in &packs {
            let is_new = self.pack_number(&pack.name)?.is_none();
            let number = self.apply_pack(pack, &mut batch)?;
            // The next pack must see this one: its number, and the first places of its chunks.
            self.commit(std::mem::take(&mut batch), Durability::System)?;
            if is_new {
                self.count_usable(number, &pack.name)?;
            }
        }
        let info = SegmentInfo::of(segment);
        batch.put(&self.inner.spaces.writers, store::segment(&segment.name), info.encode());
        self.commit(batch, Durability::System)?;
        Ok(())
    }

    fn next_number(&self, keyspace: &lsm::Keyspace) -> Result<u32> {
        match keyspace.prefix(store::all_numbered()).next_back() {
            None => Ok(0),
            Some(row) => {
                let (key, _) = row?;
                let last = key.last_chunk::<4>().map(|bytes| u32::from_be_bytes(*bytes));
                last.and_then(|last| last.checked_add(1))
                    .ok_or_else(|| bad_row(keyspace.name(), "no number is left"))
            }
        }
    }

    fn apply_pack(&self, pack: &PackContents, batch: &mut Batch) -> Result<PackNumber> {
        let spaces = &self.inner.spaces;
        let number = match self.pack_number(&pack.name)? {
            Some(number) => number,
            None => PackNumber(self.next_number(&spaces.packs)?),
        };
        let frame_count = u32::try_from(pack.toc.frames.len())
            .map_err(|_| Error::damage(format!("pack {}: too many frames", pack.name)))?;
        let row = PackRow {
            name: pack.name,
            stored_bytes: pack.stored_bytes,
            frame_count,
            chunk_count: pack.toc.chunk_count() as u64,
            raw_bytes: pack.toc.raw_bytes(),
        };
        batch.put(&spaces.packs, store::numbered(number.0), row.encode());
        batch.put(&spaces.packs, store::pack_by_name(&pack.name), number.0.to_be_bytes());
        let ids: Vec<[u8; 32]> =
            pack.toc.frames.iter().flat_map(|f| f.chunks.iter().map(|c| store::chunk(&c.id))).collect();
        let mut first = spaces.chunks.multi_get(&ids)?.into_iter();
        let mut value = Vec::with_capacity(20);
        for frame in &pack.toc.frames {
            let place = frame.place;
            let row = FrameRow {
                offset: place.offset,
                stored_bytes: place.stored_bytes,
                raw_bytes: frame.raw_bytes,
            };
            batch.put(&spaces.frames, store::frame(number, place.number), row.encode());
            let mut raw_offset = 0u32;
            for (index, chunk) in frame.chunks.iter().enumerate() {
                let too_long = || Error::damage(format!("pack {}: a frame is too long", pack.name));
                let row = ChunkRow {
                    pack: number.0,
                    frame: place.number,
                    index: u32::try_from(index).map_err(|_| too_long())?,
                    raw_offset,
                    length: chunk.length,
                };
                raw_offset = raw_offset.checked_add(chunk.length).ok_or_else(too_long)?;
                value.clear();
                row.put(&mut value);
                match first.next().flatten() {
                    Some(other) if ChunkRow::decode(&other).map_err(local("chunks"))?.pack != number.0 => {
                        batch.put(&spaces.chunks, store::chunk_elsewhere(&chunk.id, number), &value);
                    }
                    _ => batch.put(&spaces.chunks, store::chunk(&chunk.id), &value),
                }
            }
        }
        Ok(number)
    }

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
            Placement::Decided(decided) => return Ok(decided),
            Placement::Here(timeline, row) => (timeline, row, None),
            Placement::Fork { base, shared, number, row } => (number, row, Some((base, shared))),
        };
        let mut applier = Applier {
            catalog: self,
            timeline,
            number: run.run.number,
            has_predecessors: row.head.is_some(),
            row,
            commit: run.commit_name,
            is_marked: under_way.is_some(),
            batch: Batch::new(),
            births: HashMap::from([(run.run.number, run.run.snapshot)]),
            waiting: Vec::new(),
        };
        if let Some((base, Some(shared))) = fork {
            applier.copy_state(base, shared)?;
        }
        for (index, name) in run.pieces.iter().enumerate() {
            match run.kept.as_ref().and_then(|kept| kept.get(index)) {
                Some(records) => applier.piece(name, records)?,
                None => applier.piece(name, &source.piece(name)?.records(&self.inner.segment_keys)?)?,
            }
        }
        let id = applier.row.id;
        applier.finish(run)?;
        Ok(if fork.is_some() { RunApplied::Forked(id) } else { RunApplied::Visible })
    }

    /// The digest of a timeline's newest state.
    pub(super) fn digest_of_head(&self, timeline: TimelineNumber) -> Result<StateDigest> {
        let head = self.timeline_row(timeline)?.head;
        if let Some(row) = self.inner.spaces.digests.get(timeline.0.to_be_bytes())?
            && let Some((number, lanes)) = row.split_first_chunk::<4>()
            && head == Some(SnapshotNumber(u32::from_be_bytes(*number)))
        {
            return StateDigest::from_bytes(lanes).ok_or_else(|| bad_row("digests", "its length"));
        }
        self.compute_digest(timeline, head.unwrap_or(SnapshotNumber(0)))
    }

    /// The digest of a state, from its entries.
    pub(super) fn compute_digest(
        &self,
        timeline: TimelineNumber,
        number: SnapshotNumber,
    ) -> Result<StateDigest> {
        let mut digest = StateDigest::default();
        let mut state = self.state_in(timeline, number, &KeyRange::all());
        while let Some((key, _, row)) = state.next_row()? {
            digest.add(&self.inner.digest_key, &key, &row.metadata, &row.contents);
        }
        Ok(digest)
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
struct Applier<'a> {
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

impl Applier<'_> {
    /// Copies the state that a fork starts from: each row as it was born, so that ids stay what they are.
    fn copy_state(&mut self, base: TimelineNumber, shared: SnapshotNumber) -> Result<()> {
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

    fn piece(&mut self, name: &SegmentName, records: &[u8]) -> Result<()> {
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

    fn finish(mut self, run: &CheckedRun) -> Result<()> {
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
        catalog.commit(batch, Durability::Synced)?;
        Ok(())
    }
}

impl Catalog {
    /// The digest of the state that a run of `timeline` builds on, whose row is not changed yet.
    fn digest_of_parent(&self, timeline: TimelineNumber, row: &TimelineRow) -> Result<StateDigest> {
        match (row.forked_from, row.head) {
            (Some((base, shared)), Some(head)) if shared == head => self.compute_digest(base, shared),
            _ => self.digest_of_head(timeline),
        }
    }
}

impl SegmentInfo {
    /// What is noted of a segment.
    pub(super) fn of(segment: &Segment) -> Self {
        Self {
            name: segment.name,
            length: segment.object().bytes.len() as u64,
            predecessor: segment.header.predecessor,
            flags: segment.header.flags,
        }
    }
}
