//! Writing a run: entries and packs in, segments out.
//!
//! A run changes nothing in the catalog. Its pieces are made durable in the outbox one after the other, each chained to the one before;
//! they become a part of the catalog by [`Catalog::apply`], as anybody else's do.

use std::collections::{HashSet, VecDeque};

use crate::entry_key::EntryKey;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{ChunkId, IntentId, ListId, SnapshotId, TimelineId, VersionId};
use crate::metadata::{Metadata, Timestamp};
use crate::pack::CONTENTS_BYTES_MAX;
use crate::segment::{
    CommitRecord, DigestRecord, Head, ListCutter, ListNode, LogEnd, NewSegment, PIECE_INDEX_BYTES,
    PIECE_VERSIONS_BYTES, PackContents, PieceFlags, RecordWriter, RunRecord, SeenRecord, SegmentObject,
    commit_record_bytes, entry_record_bytes,
};
use crate::version::{Contents, FileOrigin, Marks, Snapshot, SnapshotNumber, SnapshotStats, Timeline};

use super::Catalog;
use super::basis::Basis;
use super::digest::StateDigest;
use super::row::SnapshotRow;
use super::store::TimelineNumber;

/// A new run.
#[derive(Clone, Debug)]
pub struct NewRun {
    /// The host's name.
    pub host: Vec<u8>,
    /// The roots as absolute paths.
    pub roots: Vec<Vec<u8>>,
    /// The intent under which it writes.
    pub intent: IntentId,
    /// When it began.
    pub time: Timestamp,
    /// What it builds on.
    pub basis: Basis,
}

/// An entry that is new or changed.
#[derive(Clone, Debug)]
pub struct NewEntry<'a> {
    /// Its place.
    pub key: &'a EntryKey,
    /// Which File it is.
    pub file: FileOrigin,
    /// Everything but the contents.
    pub metadata: &'a Metadata,
    /// The contents, from [`RunWriter::contents`] or the previous Version.
    pub contents: Contents,
    /// How it came to be.
    pub marks: Marks,
}

/// What a snapshot says besides its entries.
#[derive(Clone, Debug, Default)]
pub struct SnapshotSummary {
    /// When it ended.
    pub end: Timestamp,
    /// Who ran it.
    pub user: Vec<u8>,
    /// Version of the program.
    pub program: Vec<u8>,
    /// Tags.
    pub tags: Vec<Vec<u8>>,
    /// Exclusion rules in force, as given.
    pub excludes: Vec<Vec<u8>>,
    /// Whether something could not be read.
    pub partial: bool,
    /// Counts and sums.
    pub stats: SnapshotStats,
}

/// Writes one run. Each segment is durable in the outbox when it is handed out.
///
/// Dropping it without [`RunWriter::commit`] gives the run up: packs that its pieces describe stay known, its entries never become visible.
#[derive(Debug)]
pub struct RunWriter {
    catalog: Catalog,
    intent: IntentId,
    timeline_id: TimelineId,
    /// `None` for the first snapshot of a new timeline.
    timeline: Option<TimelineNumber>,
    /// Whether lists that the catalog knows need not be written.
    knows_lists: bool,
    run: RunRecord,
    end: LogEnd,
    heads: Vec<Head>,
    /// Whether a piece was made already.
    begun: bool,
    /// Whether there are records beyond that the run begins.
    has_news: bool,
    records: RecordWriter,
    record_count: u64,
    packs: Vec<PackContents>,
    index_bytes: usize,
    /// Lists that this run wrote.
    lists: HashSet<ListId>,
    /// Where the chunks of the entry to come are gathered.
    cutter: ListCutter,
    digest: StateDigest,
    changed: bool,
    ready: VecDeque<SegmentObject>,
}

/// A committed run: durable in the outbox, not yet visible.
#[derive(Clone, Debug)]
pub struct CommittedRun {
    /// Pieces before the last that [`RunWriter::flush`] had not handed out, in order.
    pub earlier: Vec<SegmentObject>,
    /// The piece that commits it, to be put on every target after those before it; then [`Catalog::apply`] makes the snapshot visible.
    pub segment: SegmentObject,
    /// The snapshot.
    pub snapshot: Snapshot,
}

/// A piece is made without being asked for when a part of it would become so much larger than wanted: long contents come in one call.
const PIECE_FORCED_BYTES: usize = 4 * PIECE_VERSIONS_BYTES;
/// The longest index part. A pack whose table of contents is longer fits into no piece: earlier versions knew no bound, and may have left one.
const PIECE_INDEX_BYTES_MAX: usize = 4 * PIECE_INDEX_BYTES;
const _: () = assert!(CONTENTS_BYTES_MAX <= PIECE_INDEX_BYTES_MAX, "what is packed now can be told of");

impl Catalog {
    /// Begins a run on the timeline of its host and roots, on top of its newest snapshot; or, on the basis of nothing, in a new timeline of the
    /// same host and roots. Writes nothing yet.
    ///
    /// # Errors
    /// Local.
    pub fn begin_run(&self, new: NewRun) -> Result<RunWriter> {
        let mut timeline = self.timeline(&new.host, &new.roots)?;
        let mut name = self.timeline_id(&new.host, &timeline.roots);
        if new.basis == Basis::Nothing {
            // A name that nobody has: the other timeline of these roots keeps its own.
            name = TimelineId::random()?;
            timeline = Timeline { id: name, head: None, forked_from: None, ..timeline };
        }
        let number = self.timeline_number(timeline.id)?;
        let mut digest = StateDigest::default();
        let mut parent = None;
        if let (Some(at), Some(head)) = (number, timeline.head) {
            self.check_settled(at)?;
            parent = Some(self.snapshot_id_at(at, head)?);
            digest = self.digest_of_head(at)?;
        }
        let run = RunRecord {
            snapshot: SnapshotId::random()?,
            timeline: name,
            number: SnapshotNumber(timeline.head.map_or(1, |head| head.0 + 1)),
            parent,
            time: new.time,
            host: new.host,
            roots: timeline.roots,
        };
        let outbox = self.outbox_ref()?;
        let end = match outbox.end()? {
            Some(end) => end,
            None => outbox.begin_log()?,
        };
        let heads = self.heads()?.into_iter().filter(|head| head.writer != end.writer).collect();
        let mut records = RecordWriter::new();
        records.run(&run);
        Ok(RunWriter {
            catalog: self.clone(),
            intent: new.intent,
            timeline_id: timeline.id,
            timeline: number,
            knows_lists: new.basis == Basis::Whole,
            run,
            end,
            heads,
            begun: false,
            has_news: false,
            records,
            record_count: 0,
            packs: Vec::new(),
            index_bytes: 0,
            lists: HashSet::new(),
            cutter: ListCutter::new(self.inner.list_key.clone()),
            digest,
            changed: false,
            ready: VecDeque::new(),
        })
    }
}

impl RunWriter {
    /// The timeline.
    pub fn timeline(&self) -> TimelineId {
        self.timeline_id
    }

    /// The id that the snapshot will have.
    pub fn snapshot(&self) -> SnapshotId {
        self.run.snapshot
    }

    /// The snapshot that it builds on.
    pub fn parent(&self) -> Option<SnapshotId> {
        self.run.parent
    }

    /// The number that the snapshot will have.
    pub fn number(&self) -> SnapshotNumber {
        self.run.number
    }

    /// The next chunks of the contents to come, however many there are: what is longer than stays inline is written as lists on the way, unless
    /// they are known.
    ///
    /// # Errors
    /// Local.
    pub fn chunks(&mut self, ids: &[ChunkId]) -> Result<()> {
        self.with_cutter(|cutter, keep| ids.iter().try_for_each(|id| cutter.push(*id, keep)))
    }

    /// The contents that all chunks since the last call make.
    ///
    /// # Errors
    /// Local.
    pub fn contents(&mut self) -> Result<Contents> {
        self.with_cutter(|cutter, keep| cutter.finish(keep))
    }

    /// Forgets the chunks since the last contents: their entry could not be read to its end.
    pub fn discard_chunks(&mut self) {
        self.cutter.clear();
    }

    fn with_cutter<T>(
        &mut self,
        work: impl FnOnce(&mut ListCutter, &mut dyn FnMut(ListId, ListNode) -> Result<()>) -> Result<T>,
    ) -> Result<T> {
        // Apart while it works: it hands lists to the run.
        let mut cutter =
            std::mem::replace(&mut self.cutter, ListCutter::new(self.catalog.inner.list_key.clone()));
        let done = work(&mut cutter, &mut |id, node| self.list(id, &node));
        self.cutter = cutter;
        done
    }

    fn list(&mut self, id: ListId, node: &ListNode) -> Result<()> {
        let is_known = || self.catalog.inner.spaces.lists.contains(id.as_bytes());
        if self.lists.contains(&id) || (self.knows_lists && is_known()?) {
            return Ok(());
        }
        self.lists.insert(id);
        self.records.list(node);
        self.roll_if_forced()
    }

    fn predecessor(&self, key: &EntryKey) -> Result<Option<crate::version::Version>> {
        match self.timeline {
            Some(timeline) => self.catalog.latest_in(timeline, key),
            None => Ok(None),
        }
    }

    /// A new or changed entry. Each key at most once in a run, of `entry`, `seen` and `gone` together; ascending keys take the least room.
    ///
    /// # Errors
    /// Source, if more is to be kept of it than a record can be long: it is then not in the run; invalid argument, if the metadata break a rule, or the
    /// File is to be that of a predecessor and there is none; local.
    pub fn entry(&mut self, entry: &NewEntry<'_>) -> Result<VersionId> {
        entry.metadata.check().map_err(|error| error.with_kind(ErrorKind::InvalidArgument).at(entry.key))?;
        let (bytes, bytes_max) =
            (entry_record_bytes(entry.key, entry.metadata), self.catalog.inner.limits.record_bytes);
        if bytes > bytes_max {
            let what = format!("attributes, holes and the like take {bytes} bytes: {bytes_max} are the most");
            return Err(Error::new(ErrorKind::Source, what));
        }
        let before = self.predecessor(entry.key)?;
        if before.is_none() && entry.file == FileOrigin::SameAsPredecessor {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                format!("{}: there is no Version that it could follow", entry.key),
            ));
        }
        self.roll_before(bytes)?;
        let digest_key = &self.catalog.inner.digest_key;
        if let Some(before) = &before {
            self.digest.subtract(digest_key, entry.key, &before.metadata, &before.contents);
        }
        self.digest.add(digest_key, entry.key, entry.metadata, &entry.contents);
        self.changed = true;
        self.records.entry(entry.key, entry.file, entry.metadata, &entry.contents, entry.marks);
        self.record_count += 1;
        self.roll_if_forced()?;
        Ok(self.catalog.version_id(self.run.snapshot, entry.key))
    }

    /// An entry whose Version is as before though what change detection compares is new.
    ///
    /// # Errors
    /// Local.
    pub fn seen(
        &mut self,
        key: &EntryKey,
        ctime: Timestamp,
        inode: u64,
        device: u64,
        marks: Marks,
    ) -> Result<()> {
        self.records.seen(&SeenRecord { key: key.clone(), ctime, inode, device, marks });
        self.record_count += 1;
        self.roll_if_forced()
    }

    /// An entry that is gone (itself only: each entry below it is to be named too).
    ///
    /// # Errors
    /// Invalid argument, if there is no such entry; local.
    pub fn gone(&mut self, key: &EntryKey) -> Result<()> {
        let Some(before) = self.predecessor(key)? else {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                format!("{key}: cannot be gone, for it was not there"),
            ));
        };
        self.digest.subtract(&self.catalog.inner.digest_key, key, &before.metadata, &before.contents);
        self.changed = true;
        self.records.gone(key);
        self.record_count += 1;
        self.roll_if_forced()
    }

    /// A pack that was stored.
    ///
    /// # Errors
    /// Invalid argument, if it holds more chunks than a segment can tell of; local.
    pub fn pack(&mut self, pack: PackContents) -> Result<()> {
        let bytes = pack.toc.bytes_max();
        if bytes > PIECE_INDEX_BYTES_MAX {
            let what = format!("it holds {} chunks, more than a segment can tell of", pack.toc.chunk_count());
            return Err(Error::new(ErrorKind::InvalidArgument, what));
        }
        if self.index_bytes + bytes > PIECE_INDEX_BYTES_MAX {
            self.roll()?;
        }
        self.index_bytes += bytes;
        self.packs.push(pack);
        Ok(())
    }

    /// Whether so much is gathered that a piece should be made.
    pub fn is_full(&self) -> bool {
        !self.ready.is_empty()
            || self.records.len() >= PIECE_VERSIONS_BYTES
            || self.index_bytes >= PIECE_INDEX_BYTES
    }

    /// Makes a piece of what is gathered, durable in the outbox; `None` if nothing is: call again until then. Put it on the targets, then
    /// [`Catalog::apply`] it: the chunks of its packs are known from then on, also if this run never commits.
    ///
    /// # Errors
    /// Local.
    pub fn flush(&mut self) -> Result<Option<SegmentObject>> {
        if self.ready.is_empty() && (self.has_news || !self.packs.is_empty()) {
            self.roll()?;
        }
        Ok(self.ready.pop_front())
    }

    /// Forgets the entries that are in no piece yet: the run will not commit, and what counts of it are its packs.
    pub fn give_up_entries(&mut self) {
        self.records.take();
        self.has_news = false;
    }

    fn roll_if_forced(&mut self) -> Result<()> {
        self.has_news = true;
        if self.records.len() >= PIECE_FORCED_BYTES { self.roll() } else { Ok(()) }
    }

    /// Makes a piece if it has no room for so many more bytes of records: a part is never longer than that, or than its one record.
    fn roll_before(&mut self, bytes: usize) -> Result<()> {
        if self.has_news && self.records.len() + bytes > PIECE_FORCED_BYTES { self.roll() } else { Ok(()) }
    }

    fn roll(&mut self) -> Result<()> {
        let piece = self.piece(false)?;
        self.ready.push_back(piece);
        Ok(())
    }

    fn piece(&mut self, commits: bool) -> Result<SegmentObject> {
        let options = &self.catalog.inner.options;
        let new = NewSegment {
            cipher: options.cipher,
            epoch: options.epoch,
            writer: self.end.writer,
            sequence: self.end.next_sequence(),
            predecessor: self.end.predecessor(),
            intent: self.intent,
            flags: PieceFlags { begins: !self.begun, commits },
            salt: NewSegment::fresh_salt()?,
        };
        let records = self.records.take();
        let segment = new.encode(&self.catalog.inner.segment_keys, &self.packs, &self.heads, &records)?;
        self.catalog.outbox_ref()?.add(&segment)?;
        self.end.newest = Some((segment.name.sequence, segment.name.hash));
        self.begun = true;
        self.has_news = false;
        // Heads are told once, by the first piece.
        self.heads.clear();
        self.packs.clear();
        self.index_bytes = 0;
        Ok(segment)
    }

    /// Ends the run: its last piece is durable in the outbox.
    ///
    /// # Errors
    /// Local.
    pub fn commit(mut self, summary: SnapshotSummary) -> Result<CommittedRun> {
        let same = self.run.parent.is_some() && !self.changed;
        let lanes = || DigestRecord::Lanes(Box::new(*self.digest.lanes()));
        let commit = CommitRecord {
            end: summary.end,
            user: summary.user,
            program: summary.program,
            tags: summary.tags,
            excludes: summary.excludes,
            partial: summary.partial,
            stats: summary.stats,
            record_count: self.record_count,
            digest: if same { DigestRecord::SameAsParent } else { lanes() },
        };
        self.roll_before(commit_record_bytes(&commit))?;
        self.records.commit(&commit);
        let segment = self.piece(true)?;
        let row = SnapshotRow {
            writer: segment.name.writer,
            commit_sequence: segment.name.sequence,
            commit_hash: segment.name.hash,
            digest: self.digest.hash(),
            run: self.run.clone(),
            commit,
        };
        let snapshot = self.catalog.snapshot_of(&row, self.timeline_id);
        Ok(CommittedRun { earlier: self.ready.into(), segment, snapshot })
    }
}
