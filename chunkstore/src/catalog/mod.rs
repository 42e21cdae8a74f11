//! The catalog: everything known of a repository, in the engine's keyspaces; can be lost and made again from any one target.
//!
//! It is changed by applying segments and by nothing else (the same code when a backup ends and when the catalog is rebuilt); only what
//! each target holds ([`Holding`]) comes from acknowledged puts, listings and verification.

use std::collections::HashSet;
use std::fmt;
use std::ops::Range;
use std::path::PathBuf;

use crate::entry_key::{EntryKey, KeyRange};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{
    ChunkId, FileId, IntentId, ObjectHash, RepositoryId, SnapshotId, TimelineId, VersionId, WriterId,
};
use crate::metadata::{Kind, Metadata, Timestamp};
use crate::monitor::Monitor;
use crate::pack::FramePlace;
use crate::seal::Cipher;
use crate::secret::{Epoch, Secrets};
use crate::segment::{PackContents, SegmentObject};
use crate::target::{ObjectKey, Target};
use crate::version::{
    Contents, FileOrigin, Marks, Snapshot, SnapshotNumber, SnapshotStats, Timeline, Version,
};

/// Whether the catalog is opened for changing it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// One process at a time; what was left half done is finished.
    Write,
    /// Beside a writer: a view of the moment of opening.
    Read,
}

/// Where a catalog is and whose.
#[derive(Clone, Debug)]
pub struct CatalogOptions {
    /// The folder of this repository's local state: the engine goes to `catalog/` in it, the outbox to `outbox/`.
    pub dir: PathBuf,
    /// Which repository.
    pub repository: RepositoryId,
    /// Its secrets.
    pub secrets: Secrets,
    /// How new segments are sealed.
    pub cipher: Cipher,
    /// The epoch under whose secret new segments are sealed.
    pub epoch: Epoch,
    /// For reading or for writing.
    pub access: Access,
    /// The engine's memory budget in bytes; more makes lookups and large backups faster. 64 MiB is plenty for a million entries.
    pub memory_bytes: usize,
}

/// An open catalog; clones share it.
#[derive(Clone)]
pub struct Catalog {}

/// What [`Catalog::catch_up`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CatchUp {
    /// Segments read and applied.
    pub segments: u64,
    /// Snapshots that became visible.
    pub snapshots: u64,
    /// Segments that were damaged or missing; each was reported as a fault.
    pub faults: u64,
    /// Whether the catalog was made anew.
    pub rebuilt: bool,
}

/// What change detection and listing need of an entry's newest Version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CurrentEntry {
    /// The entry's place.
    pub key: EntryKey,
    /// What it is.
    pub kind: Kind,
    /// Permissions.
    pub mode: u16,
    /// Owner's number.
    pub uid: u32,
    /// Group's number.
    pub gid: u32,
    /// Bytes of contents.
    pub size: u64,
    /// When the contents changed last.
    pub mtime: Timestamp,
    /// When the inode changed last.
    pub ctime: Timestamp,
    /// The file system it was on.
    pub device: u64,
    /// Its inode there.
    pub inode: u64,
    /// How many names the inode had.
    pub links: u64,
    /// How the Version came to be.
    pub marks: Marks,
    /// The snapshot that bore the Version.
    pub birth: SnapshotNumber,
}

/// The entries of a timeline's newest snapshot in the order of their keys; owned, a view of the moment it was made.
#[derive(Debug)]
pub struct CurrentIter {}
/// The entries of a snapshot in the order of their keys; owned, a view of the moment it was made.
#[derive(Debug)]
pub struct StateIter {}
/// The chunk ids of some contents, in order.
#[derive(Debug)]
pub struct ContentsIter {}
/// The chunks of some contents with their places in the contents, in order.
#[derive(Debug)]
pub struct SpanIter {}

impl Iterator for CurrentIter {
    type Item = Result<CurrentEntry>;
    fn next(&mut self) -> Option<Self::Item> {
        None
    }
}
impl Iterator for StateIter {
    type Item = Result<(EntryKey, Version)>;
    fn next(&mut self) -> Option<Self::Item> {
        None
    }
}
impl Iterator for ContentsIter {
    type Item = Result<ChunkId>;
    fn next(&mut self) -> Option<Self::Item> {
        None
    }
}
impl Iterator for SpanIter {
    type Item = Result<ChunkSpan>;
    fn next(&mut self) -> Option<Self::Item> {
        None
    }
}

/// A chunk as a part of contents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChunkSpan {
    /// Its id.
    pub id: ChunkId,
    /// Where it begins, in bytes from the start of the contents (holes not counted).
    pub offset: u64,
    /// Its length in bytes.
    pub length: u32,
    /// Every place that holds it, those on a usable pack first.
    pub places: Vec<ChunkPlace>,
}

/// Where a chunk is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkPlace {
    /// The pack.
    pub pack: ObjectHash,
    /// The frame in it.
    pub frame: FramePlace,
    /// The chunk's place among the frame's chunks, from zero.
    pub index: u32,
    /// Where it begins in the decoded frame, in bytes.
    pub raw_offset: u32,
    /// Its length in bytes.
    pub length: u32,
    /// Whether a target is known to hold the pack, not known to be damaged.
    pub usable: bool,
}

/// A Version in the history of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// The timeline it is in.
    pub timeline: TimelineId,
    /// Where the file was.
    pub key: EntryKey,
    /// The snapshot that bore it, or first saw it gone.
    pub snapshot: Snapshot,
    /// The Version; `None`: gone from here.
    pub version: Option<Version>,
    /// What is different from the Version before.
    pub changed: Changed,
}

/// In what a Version differs from the one before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// There was none before.
    pub born: bool,
    /// It came here from another path.
    pub renamed: bool,
    /// It is gone.
    pub gone: bool,
    /// Another kind of entry.
    pub kind: bool,
    /// The bytes.
    pub contents: bool,
    /// Permissions.
    pub mode: bool,
    /// Owner or group.
    pub owner: bool,
    /// Modification time.
    pub mtime: bool,
    /// Extended attributes, ACLs, capabilities.
    pub xattrs: bool,
    /// Something else: links, device number, link target, birth time, holes.
    pub other: bool,
}

/// A Version some of whose bytes are in given chunks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The timeline.
    pub timeline: TimelineId,
    /// The host of the timeline.
    pub host: Vec<u8>,
    /// The entry.
    pub key: EntryKey,
    /// The Version.
    pub version: Version,
    /// The last snapshot that sees it.
    pub last: SnapshotNumber,
    /// Which bytes of the file, holes counted; empty if the lengths of the chunks before are not known any more.
    pub ranges: Vec<Range<u64>>,
}

/// An entry that had an inode when it was seen last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InodeMatch {
    /// Where it was.
    pub key: EntryKey,
    /// Its newest Version.
    pub version: Version,
}

/// A target's number in the catalog.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TargetNumber(pub u32);

/// How the last look at an object on a target ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Put or listed, never read.
    Unverified,
    /// Read whole, and good.
    Good,
    /// Read, and bad.
    Damaged,
    /// Not there though it should be.
    Missing,
}

/// What is known of an object on a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holding {
    /// Whether the target has it (damaged or not).
    pub held: bool,
    /// Its length there, in bytes.
    pub length: u64,
    /// When it was last read whole, in seconds since 1970; 0: never.
    pub verified: i64,
    /// How that ended.
    pub verdict: Verdict,
}

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

/// Writes one run: entries and packs in, segments out. Each segment is durable in the outbox when it is handed out.
#[derive(Debug)]
pub struct RunWriter {}

/// A committed run: durable in the outbox, not yet visible.
#[derive(Clone, Debug)]
pub struct CommittedRun {
    /// The piece that commits it, to be put on every target after those before it; then [`Catalog::apply`] makes the snapshot visible.
    pub segment: SegmentObject,
    /// The snapshot.
    pub snapshot: Snapshot,
}

fn unfinished<T>() -> Result<T> {
    Err(Error::new(ErrorKind::Local, "the catalog cannot do this yet"))
}

impl fmt::Debug for Catalog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Catalog")
    }
}

/// Opening, bringing up to date.
impl Catalog {
    /// Opens the catalog. One that is missing, damaged, of another layout or another repository is set aside and an empty one
    /// takes its place: [`Catalog::is_empty`] says so, [`Catalog::catch_up`] fills it.
    ///
    /// # Errors
    /// Locked, if another process writes; local, if the disk fails.
    pub fn open(_options: &CatalogOptions) -> Result<Self> {
        unfinished()
    }

    /// Whether nothing was ever applied: to be filled from a target before it is believed.
    pub fn is_empty(&self) -> bool {
        true
    }

    /// Applies what `target` has and the catalog does not: everything, if the catalog is empty. Damaged and missing segments are
    /// reported as faults that name them. An older state than was seen before is a fault (not the same).
    ///
    /// # Errors
    /// The target's; local, if the disk fails; cancelled.
    pub fn catch_up(&self, _target: &dyn Target, _monitor: &dyn Monitor) -> Result<CatchUp> {
        unfinished()
    }

    /// Forgets everything but what targets hold, and catches up.
    ///
    /// # Errors
    /// As [`Catalog::catch_up`].
    pub fn rebuild(&self, _target: &dyn Target, _monitor: &dyn Monitor) -> Result<CatchUp> {
        unfinished()
    }

    /// Applies a piece of a run: its index part at once, the versions parts of the whole run with the piece that commits.
    /// Doing it again changes nothing.
    ///
    /// # Errors
    /// Damage, naming the segment; local.
    pub fn apply(&self, _segment: &SegmentObject) -> Result<()> {
        unfinished()
    }

    /// The writer whose log this catalog continues; `None` before its first segment.
    ///
    /// # Errors
    /// Local.
    pub fn writer(&self) -> Result<Option<WriterId>> {
        unfinished()
    }

    /// Segments that wait in the outbox, oldest first: they may be missing on some targets.
    ///
    /// # Errors
    /// Local.
    pub fn outbox(&self) -> Result<Vec<SegmentObject>> {
        unfinished()
    }

    /// Makes room in the outbox: segments that are applied and that a target holds, but for the newest.
    ///
    /// # Errors
    /// Local.
    pub fn trim_outbox(&self) -> Result<()> {
        unfinished()
    }
}

/// Timelines and snapshots.
impl Catalog {
    /// The timeline that a backup of these roots of this host continues; a new one without a head if there is none.
    ///
    /// # Errors
    /// Local.
    pub fn timeline(&self, _host: &[u8], _roots: &[Vec<u8>]) -> Result<Timeline> {
        unfinished()
    }

    /// Every timeline.
    ///
    /// # Errors
    /// Local.
    pub fn timelines(&self) -> Result<Vec<Timeline>> {
        unfinished()
    }

    /// Every snapshot, the oldest first.
    ///
    /// # Errors
    /// Local.
    pub fn snapshots(&self) -> Result<Vec<Snapshot>> {
        unfinished()
    }

    /// A snapshot by its id.
    ///
    /// # Errors
    /// Local.
    pub fn snapshot(&self, _id: SnapshotId) -> Result<Option<Snapshot>> {
        unfinished()
    }

    /// A snapshot by its place.
    ///
    /// # Errors
    /// Local.
    pub fn snapshot_at(&self, _timeline: TimelineId, _number: SnapshotNumber) -> Result<Option<Snapshot>> {
        unfinished()
    }
}

/// Entries and their Versions.
impl Catalog {
    /// The entries of the newest snapshot of a timeline, in order: for the merge with a walk.
    ///
    /// # Errors
    /// Local.
    pub fn current(&self, _timeline: TimelineId) -> Result<CurrentIter> {
        unfinished()
    }

    /// The newest Version of an entry, whole; `None` if it is gone or never was.
    ///
    /// # Errors
    /// Local.
    pub fn latest(&self, _timeline: TimelineId, _key: &EntryKey) -> Result<Option<Version>> {
        unfinished()
    }

    /// Entries of a timeline's newest snapshot that had this inode when they were seen last: candidates for a rename.
    ///
    /// # Errors
    /// Local.
    pub fn by_inode(&self, _timeline: TimelineId, _device: u64, _inode: u64) -> Result<Vec<InodeMatch>> {
        unfinished()
    }

    /// The entries of a snapshot whose keys lie in `range`, in order. [`EntryKey::children`] and [`EntryKey::below`] give ranges.
    ///
    /// # Errors
    /// Local.
    pub fn state(&self, _snapshot: &Snapshot, _range: &KeyRange) -> Result<StateIter> {
        unfinished()
    }

    /// One entry of a snapshot.
    ///
    /// # Errors
    /// Local.
    pub fn entry(&self, _snapshot: &Snapshot, _key: &EntryKey) -> Result<Option<Version>> {
        unfinished()
    }

    /// What a snapshot changed: each entry that it bore, changed or lost, in order.
    ///
    /// # Errors
    /// Local.
    pub fn changes(&self, _snapshot: &Snapshot) -> Result<Vec<EntryKey>> {
        unfinished()
    }

    /// The history of the file at `key`, across renames, the oldest Version first. Costs its Versions, not the snapshots.
    ///
    /// # Errors
    /// Local.
    pub fn log(&self, _timeline: TimelineId, _key: &EntryKey) -> Result<Vec<LogEntry>> {
        unfinished()
    }

    /// Every Version of a File, wherever it was.
    ///
    /// # Errors
    /// Local.
    pub fn version(&self, _timeline: TimelineId, _key: &EntryKey, _id: VersionId) -> Result<Option<Version>> {
        unfinished()
    }

    /// Where a File was.
    ///
    /// # Errors
    /// Local.
    pub fn places_of(&self, _file: FileId) -> Result<Vec<(TimelineId, EntryKey)>> {
        unfinished()
    }
}

/// Contents, chunks and packs.
impl Catalog {
    /// The chunk ids of contents.
    ///
    /// # Errors
    /// Local.
    pub fn contents(&self, _contents: &Contents) -> Result<ContentsIter> {
        unfinished()
    }

    /// The chunks of contents with offsets, lengths and places, looked up in batches. An unknown chunk is an error of kind damage.
    ///
    /// # Errors
    /// Local.
    pub fn spans(&self, _contents: &Contents) -> Result<SpanIter> {
        unfinished()
    }

    /// For each id whether it need not be stored: a pack that holds it is on at least one target and not known to be damaged there.
    ///
    /// # Errors
    /// Local.
    pub fn known(&self, _ids: &[ChunkId]) -> Result<Vec<bool>> {
        unfinished()
    }

    /// For each id every place that holds it, usable ones first.
    ///
    /// # Errors
    /// Local.
    pub fn places(&self, _ids: &[ChunkId]) -> Result<Vec<Vec<ChunkPlace>>> {
        unfinished()
    }

    /// Every pack that a segment describes: its name and length.
    ///
    /// # Errors
    /// Local.
    pub fn packs(&self) -> Result<Vec<(ObjectHash, u64)>> {
        unfinished()
    }

    /// What a pack holds, as far as its segment said.
    ///
    /// # Errors
    /// Local.
    pub fn pack(&self, _name: ObjectHash) -> Result<Option<PackContents>> {
        unfinished()
    }

    /// Gives every Version that needs one of `chunks` to `visit`: reads the whole history once.
    ///
    /// # Errors
    /// Local; what `visit` returns.
    pub fn references(
        &self,
        _chunks: &HashSet<ChunkId>,
        _visit: &mut dyn FnMut(Reference) -> Result<()>,
    ) -> Result<()> {
        unfinished()
    }
}

/// What targets hold.
impl Catalog {
    /// The number of the target with this URL; given at the first call.
    ///
    /// # Errors
    /// Local.
    pub fn target(&self, _url: &str) -> Result<TargetNumber> {
        unfinished()
    }

    /// Every target that was ever seen.
    ///
    /// # Errors
    /// Local.
    pub fn targets(&self) -> Result<Vec<(TargetNumber, String)>> {
        unfinished()
    }

    /// Forgets a target and what it holds.
    ///
    /// # Errors
    /// Local.
    pub fn forget_target(&self, _target: TargetNumber) -> Result<()> {
        unfinished()
    }

    /// Notes what is known of objects on a target: one atomic change.
    ///
    /// # Errors
    /// Local.
    pub fn record_holdings(&self, _target: TargetNumber, _holdings: &[(ObjectKey, Holding)]) -> Result<()> {
        unfinished()
    }

    /// What is known of an object on a target.
    ///
    /// # Errors
    /// Local.
    pub fn holding(&self, _target: TargetNumber, _key: &ObjectKey) -> Result<Option<Holding>> {
        unfinished()
    }

    /// Everything known of the objects of a target whose keys start with `prefix`, in key order.
    ///
    /// # Errors
    /// Local.
    pub fn holdings(&self, _target: TargetNumber, _prefix: &str) -> Result<Vec<(ObjectKey, Holding)>> {
        unfinished()
    }
}

/// Writing a run.
impl Catalog {
    /// Begins a run on the timeline of its host and roots.
    ///
    /// # Errors
    /// Local.
    pub fn begin_run(&self, _run: NewRun) -> Result<RunWriter> {
        unfinished()
    }
}

impl RunWriter {
    /// The timeline.
    pub fn timeline(&self) -> TimelineId {
        TimelineId::from_bytes([0; 16])
    }

    /// The id that the snapshot will have.
    pub fn snapshot(&self) -> SnapshotId {
        SnapshotId::from_bytes([0; 16])
    }

    /// The number that the snapshot will have.
    pub fn number(&self) -> SnapshotNumber {
        SnapshotNumber(1)
    }

    /// The contents that are these chunks; lists of more than [`crate::version::INLINE_CHUNKS_MAX`] are written as records.
    ///
    /// # Errors
    /// Local.
    pub fn contents(&mut self, _chunks: &[ChunkId]) -> Result<Contents> {
        unfinished()
    }

    /// A new or changed entry. Each key at most once, ascending keys take the least room.
    ///
    /// # Errors
    /// Local.
    pub fn entry(&mut self, _entry: &NewEntry<'_>) -> Result<VersionId> {
        unfinished()
    }

    /// An entry whose Version is as before though its change-detection stamps are new.
    ///
    /// # Errors
    /// Local.
    pub fn seen(
        &mut self,
        _key: &EntryKey,
        _ctime: Timestamp,
        _inode: u64,
        _device: u64,
        _marks: Marks,
    ) -> Result<()> {
        unfinished()
    }

    /// An entry that is gone (itself only: each entry below it is to be named too).
    ///
    /// # Errors
    /// Local.
    pub fn gone(&mut self, _key: &EntryKey) -> Result<()> {
        unfinished()
    }

    /// A pack that was stored.
    ///
    /// # Errors
    /// Local.
    pub fn pack(&mut self, _pack: PackContents) -> Result<()> {
        unfinished()
    }

    /// Whether so much is gathered that a piece should be made.
    pub fn is_full(&self) -> bool {
        false
    }

    /// Makes a piece of what is gathered, durable in the outbox; `None` if nothing is. Put it on the targets, then [`Catalog::apply`] it: the
    /// chunks of its packs are known from then on, also if this run never commits.
    ///
    /// # Errors
    /// Local.
    pub fn flush(&mut self) -> Result<Option<SegmentObject>> {
        unfinished()
    }

    /// Ends the run.
    ///
    /// # Errors
    /// Local.
    pub fn commit(self, _summary: SnapshotSummary) -> Result<CommittedRun> {
        unfinished()
    }
}
