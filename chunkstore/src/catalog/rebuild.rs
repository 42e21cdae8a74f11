//! Bringing the catalog up to date from a target: what others wrote, or everything, when the catalog was lost.
//!
//! All segments of the target that were not read yet are read, in the order of their logs; index parts are applied at once. Then the runs that
//! committed are applied, parents first, and of several that build on one snapshot the one with the lowest hash first: so the outcome does not
//! depend on who is asked in which order. A damaged or missing segment costs what depends on it, and is named.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use lsm::{Batch, Durability};

use crate::error::{Error, ErrorKind, Result};
use crate::frame::Decompressor;
use crate::id::{ObjectHash, SnapshotId, TimelineId, WriterId};
use crate::monitor::{Event, Fault, FaultSide, Monitor};
use crate::pack::{ReadRanges, Reader};
use crate::repository::blame::blame;
use crate::repository::layout::{ObjectName, PACKS, SEGMENTS};
use crate::segment::{
    PackContents, RunRecord, SEGMENT_BYTES_MAX, Segment, SegmentName, SegmentObject, Sequence,
};
use crate::target::{ObjectInfo, Target};

use super::Catalog;
use super::runs::{PieceSource, RunApplied};
use super::store::{self, meta};
use super::writers::SegmentInfo;

/// What [`Catalog::catch_up`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CatchUp {
    /// Segments read and applied.
    pub segments: u64,
    /// Snapshots that became visible.
    pub snapshots: u64,
    /// Segments that were damaged or missing, and snapshots that could not be had; each was reported as a fault.
    pub faults: u64,
    /// Whether the catalog was made anew.
    pub rebuilt: bool,
    /// Whether a snapshot that a crash left half applied could not be finished from this target, nor anything be applied behind it: another target has
    /// it, or the catalog is to be made again ([`Catalog::rebuild`]).
    pub stuck: bool,
}

/// Segments that were fetched are kept up to this many bytes: most are looked at twice.
const KEPT_BYTES_MAX: usize = 128 << 20;

/// The segments of a target.
struct TargetPieces<'a> {
    target: &'a dyn Target,
    kept: RefCell<(HashMap<SegmentName, Segment>, usize)>,
}

impl PieceSource for TargetPieces<'_> {
    fn piece(&self, name: &SegmentName) -> Result<Segment> {
        if let Some(segment) = self.kept.borrow().0.get(name) {
            return Ok(segment.clone());
        }
        let bytes = self
            .target
            .get_at_most(&name.key(), SEGMENT_BYTES_MAX as u64)
            .map_err(|error| blame(self.target, error))?;
        let length = bytes.len();
        let segment = Segment::open(&SegmentObject { name: *name, bytes: bytes.into() })?;
        let mut kept = self.kept.borrow_mut();
        if kept.1 + length <= KEPT_BYTES_MAX {
            kept.0.insert(*name, segment.clone());
            kept.1 += length;
        }
        Ok(segment)
    }
}

/// A run that waits for its parent.
struct Candidate {
    info: SegmentInfo,
    run: RunRecord,
}

/// One pass over a target.
struct Pass<'a> {
    catalog: &'a Catalog,
    target: &'a dyn Target,
    monitor: &'a dyn Monitor,
    pieces: TargetPieces<'a>,
    done: CatchUp,
}

impl Catalog {
    /// Applies what `target` has and the catalog does not: everything, if the catalog is empty.
    ///
    /// Damaged and missing segments are reported as faults that name them. So is a target that does not have segments any more that it was
    /// known to hold: it serves an older state than was seen before.
    ///
    /// # Errors
    /// The target's; local, if the disk fails, or the catalog had to be made again and could not be; cancelled.
    pub fn catch_up(&self, target: &dyn Target, monitor: &dyn Monitor) -> Result<CatchUp> {
        self.outbox_ref()?;
        let mut pass = Pass::new(self, target, monitor);
        if pass.run()? {
            return Ok(pass.done);
        }
        monitor.event(Event::Note(
            "two backups built on the same snapshot; the local catalog is made again, so that it decides as all others do",
        ));
        // Not an error of the target any more: whoever goes on without it would go on with a catalog that is not whole.
        self.rebuild(target, monitor).map_err(|error| match error.kind() {
            ErrorKind::Cancelled => error,
            _ => error
                .with_kind(ErrorKind::Local)
                .at(format!("the local catalog could not be made again from {}", target.url())),
        })
    }

    /// Forgets everything but what targets hold, and reads everything again from one target.
    ///
    /// # Errors
    /// The target's; local, if the disk fails; cancelled. The catalog is then not whole: nothing may be built on it before another rebuild has ended, and
    /// the next opening begins anew.
    pub fn rebuild(&self, target: &dyn Target, monitor: &dyn Monitor) -> Result<CatchUp> {
        self.forget_everything()?;
        let mut pass = Pass::new(self, target, monitor);
        pass.done.rebuilt = true;
        if !pass.run()? {
            return Err(Error::new(
                ErrorKind::Local,
                "the local catalog: runs came out of order into an empty catalog; this is a bug, please report it",
            ));
        }
        pass.check_digests()?;
        let mut batch = Batch::new();
        batch.delete(&self.inner.spaces.meta, meta::REBUILDING);
        self.commit(batch, Durability::Synced)?;
        Ok(pass.done)
    }

    fn forget_everything(&self) -> Result<()> {
        self.outbox_ref()?;
        let _guard = self.inner.change.lock();
        let spaces = &self.inner.spaces;
        let mut batch = Batch::new();
        batch.put(&spaces.meta, meta::REBUILDING, []);
        self.commit(batch, Durability::Synced)?;
        self.forget_first_places()?;
        let mut batch = Batch::new();
        for space in [
            &spaces.elsewhere,
            &spaces.packs,
            &spaces.frames,
            &spaces.current,
            &spaces.history,
            &spaces.changes,
            &spaces.lists,
            &spaces.files,
            &spaces.inodes,
            &spaces.timelines,
            &spaces.snapshots,
            &spaces.digests,
            &spaces.writers,
        ] {
            batch.delete_prefix(space, []);
        }
        batch.delete(&spaces.meta, meta::APPLYING);
        batch.delete_prefix(&spaces.meta, meta::WAITING);
        batch.delete_prefix(&spaces.meta, meta::WITHOUT);
        batch.delete_prefix(&spaces.meta, meta::UNHARMED);
        batch.delete_prefix(&spaces.meta, meta::TOLD);
        self.commit(batch, Durability::Synced)?;
        *self.inner.usable.lock() = None;
        *self.inner.pack_cache.lock() = Default::default();
        Ok(())
    }

    /// Empties `chunks`: a keyspace of fixed widths has no deletion of a range, and one of each row may be more than a batch holds. So it goes in parts, which is
    /// as good as at once where the mark of a rebuild stands.
    fn forget_first_places(&self) -> Result<()> {
        let chunks = &self.inner.spaces.chunks;
        let at_once = (self.inner.limits.batch_bytes / store::CHUNK_KEY_BYTES).max(1);
        let mut rows = chunks.iter().peekable();
        while rows.peek().is_some() {
            let mut batch = Batch::new();
            for row in rows.by_ref().take(at_once) {
                batch.delete(chunks, &row?.0[..]);
            }
            self.commit(batch, Durability::System)?;
        }
        Ok(())
    }
}

impl<'a> Pass<'a> {
    fn new(catalog: &'a Catalog, target: &'a dyn Target, monitor: &'a dyn Monitor) -> Self {
        let pieces = TargetPieces { target, kept: RefCell::default() };
        Self { catalog, target, monitor, pieces, done: CatchUp::default() }
    }

    fn fault(&mut self, side: FaultSide, item: String, error: Error) {
        self.done.faults += 1;
        let item = format!("{}/{item}", self.target.url());
        self.monitor.fault(Fault { side, item, during: "catalog", error });
    }

    /// A segment is damaged or missing, or what stands on it cannot be had. Told once by this catalog: it concerns who wants what is lost, and
    /// verification tells of it each time.
    fn lost(&mut self, name: &SegmentName, error: Error) -> Result<()> {
        let row = store::told(name);
        if self.catalog.inner.spaces.meta.contains(&row)? {
            self.done.faults += 1;
            return Ok(());
        }
        self.fault(FaultSide::Damage, name.key().as_str().to_owned(), error);
        let mut batch = Batch::new();
        batch.put(&self.catalog.inner.spaces.meta, row, []);
        self.catalog.commit(batch, Durability::System)
    }

    fn check_cancelled(&self) -> Result<()> {
        if self.monitor.cancelled() {
            return Err(Error::new(ErrorKind::Cancelled, "stopped while the catalog was brought up to date"));
        }
        Ok(())
    }

    /// Whether all went in; false if runs are in the wrong order here.
    fn run(&mut self) -> Result<bool> {
        let listed = self.target.list(SEGMENTS)?;
        self.check_held(&listed)?;
        let known: HashSet<SegmentName> =
            self.catalog.segments()?.into_iter().map(|info| info.name).collect();
        let mut new = Vec::new();
        let mut names = BTreeSet::new();
        for info in &listed {
            let Some(name) = SegmentName::from_key(&info.key) else { continue };
            names.insert(name);
            if !known.contains(&name) {
                new.push((name, info.length));
            }
        }
        if known.is_empty() && !new.is_empty() {
            let mut batch = Batch::new();
            batch.put(&self.catalog.inner.spaces.meta, meta::MADE_AGAIN, []);
            self.catalog.commit(batch, Durability::System)?;
        }
        self.check_own_log(&names)?;
        let bytes = new.iter().map(|(_, length)| length).sum();
        if !new.is_empty() {
            self.monitor.event(Event::Phase {
                name: "catalog",
                bytes: Some(bytes),
                items: Some(new.len() as u64),
            });
        }
        new.sort();
        for (name, length) in &new {
            self.check_cancelled()?;
            self.read(name, *length)?;
            self.monitor.event(Event::Advance { bytes: *length, items: 1 });
        }
        self.check_chains(&new, &names)?;
        let in_order = self.apply_runs()?;
        // The end of a log may be lost without a trace: who knows nothing yet asks for all that no segment names.
        if self.done.faults > 0 || known.is_empty() {
            self.read_unnamed_packs()?;
        }
        Ok(in_order)
    }

    /// When segments are lost, or may be: asks the packs themselves that no segment describes what they hold, so that what other segments need
    /// of them can be read.
    fn read_unnamed_packs(&mut self) -> Result<()> {
        let mut decompressor = Decompressor::new();
        for info in self.target.list(PACKS)? {
            let Some(ObjectName::Pack(name)) = ObjectName::parse(&info.key) else { continue };
            if self.catalog.pack_number(&name)?.is_some() {
                continue;
            }
            self.check_cancelled()?;
            let read = |offset, length| self.target.get_range(&info.key, offset, length);
            let source = ReadRanges { length: info.length, read };
            let contents = Reader::open(&source, &self.catalog.inner.options.secrets)
                .and_then(|reader| reader.toc(&mut decompressor));
            match contents {
                Ok(found) => {
                    let pack = PackContents { name, stored_bytes: info.length, toc: found.toc };
                    self.catalog.apply_unlogged_pack(&pack)?;
                }
                // Nobody needs it for certain: verification tells of it.
                Err(error) => match blame(self.target, error) {
                    error if costs_only_itself(&error) => {}
                    error => return Err(error),
                },
            }
        }
        Ok(())
    }

    /// A target that lost what it was known to hold serves an older state.
    fn check_held(&mut self, listed: &[ObjectInfo]) -> Result<()> {
        let listed: HashSet<&str> = listed.iter().map(|info| info.key.as_str()).collect();
        let number = self.catalog.targets()?.into_iter().find(|(_, url)| url == self.target.url());
        let Some((number, _)) = number else { return Ok(()) };
        for (key, holding) in self.catalog.holdings(number, SEGMENTS)? {
            if holding.held && !listed.contains(key.as_str()) {
                let error = Error::new(
                    ErrorKind::NotTheSame,
                    "this target held it before and does not any more: it serves an older state, or lost the object",
                );
                self.fault(FaultSide::Target, key.as_str().to_owned(), error);
            }
        }
        Ok(())
    }

    /// Somebody else writes under this machine's name (a cloned machine, or a local state from an old copy): a new writer begins.
    fn check_own_log(&mut self, names: &BTreeSet<SegmentName>) -> Result<()> {
        let outbox = self.catalog.outbox_ref()?;
        let Some(end) = outbox.end()? else { return Ok(()) };
        let own = |name: &&SegmentName| name.writer == end.writer;
        let mut places: BTreeMap<Sequence, ObjectHash> = BTreeMap::new();
        for name in outbox.segments()?.iter().chain(names).filter(own) {
            let beyond = end.newest.is_none_or(|(newest, _)| name.sequence > newest);
            let other = places.insert(name.sequence, name.hash).is_some_and(|hash| hash != name.hash);
            if beyond || other {
                let writer = outbox.begin_log()?.writer;
                self.monitor.event(Event::Note(&format!(
                    "another machine writes as {} too (was this one copied, or its local state restored?): from now on this one is {writer}",
                    end.writer
                )));
                return Ok(());
            }
        }
        Ok(())
    }

    fn read(&mut self, name: &SegmentName, length: u64) -> Result<()> {
        let read = if length > SEGMENT_BYTES_MAX as u64 {
            Err(Error::damage(format!("{name}: {length} bytes are too many")))
        } else {
            self.pieces.piece(name).and_then(|segment| self.catalog.apply_index(&segment))
        };
        match read {
            Ok(()) => self.done.segments += 1,
            Err(error) if costs_only_itself(&error) => {
                self.lost(name, error)?;
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Names the segments that new ones stand on and that nobody has.
    fn check_chains(&mut self, new: &[(SegmentName, u64)], listed: &BTreeSet<SegmentName>) -> Result<()> {
        for (name, _) in new {
            let Some(info) = self.catalog.segment_info(name)? else { continue };
            if name.sequence.0 == 1 {
                continue;
            }
            let before = SegmentName {
                writer: name.writer,
                sequence: Sequence(name.sequence.0 - 1),
                hash: info.predecessor,
            };
            if !listed.contains(&before) && !self.catalog.has_segment(&before)? {
                let error = Error::damage(format!("missing, though {name} stands on it"));
                self.lost(&before, error)?;
            }
        }
        Ok(())
    }

    /// Applies the runs that committed and are not visible yet.
    fn apply_runs(&mut self) -> Result<bool> {
        // A run that a crash left half applied comes first.
        let mark = self.catalog.applying()?.map(|mark| mark.commit);
        if let Some(commit) = mark
            && !self.can_read_run(&commit)?
        {
            self.done.stuck = true;
            return Ok(true);
        }
        let mut waiting: HashMap<Option<SnapshotId>, Vec<Candidate>> = HashMap::new();
        for info in self.catalog.waiting_commits()? {
            match self.catalog.read_run_record(&info, &self.pieces) {
                Ok(run) => waiting.entry(run.parent).or_default().push(Candidate { info, run }),
                Err(error) if costs_only_itself(&error) => {
                    self.lost(&info.name, error)?;
                }
                Err(error) => return Err(error),
            }
        }
        let mut ready: BTreeMap<ObjectHash, Candidate> = BTreeMap::new();
        let parents: Vec<Option<SnapshotId>> = waiting.keys().copied().collect();
        for parent in parents {
            let is_here = match parent {
                Some(parent) => self.catalog.snapshot(parent)?.is_some(),
                None => true,
            };
            if is_here {
                let runs = waiting.remove(&parent).unwrap_or_default();
                ready.extend(runs.into_iter().map(|candidate| (candidate.info.name.hash, candidate)));
            }
        }
        let mark = mark.map(|commit| commit.hash);
        while let Some((_, candidate)) =
            mark.and_then(|hash| ready.remove_entry(&hash)).or_else(|| ready.pop_first())
        {
            self.check_cancelled()?;
            match self.apply_run(&candidate)? {
                Some(RunApplied::OutOfOrder) => return Ok(false),
                Some(_) => {
                    let runs = waiting.remove(&Some(candidate.run.snapshot)).unwrap_or_default();
                    ready.extend(runs.into_iter().map(|candidate| (candidate.info.name.hash, candidate)));
                }
                // Read once, and not a second time.
                None if self.catalog.applying()?.is_some() => {
                    self.done.stuck = true;
                    return Ok(true);
                }
                None => {}
            }
        }
        for (parent, candidates) in waiting {
            for candidate in candidates {
                let parent = parent.map(|id| id.to_string()).unwrap_or_default();
                let error = Error::damage(format!(
                    "its snapshot {} builds on snapshot {parent}, which is not here",
                    candidate.run.snapshot
                ));
                self.lost(&candidate.info.name, error)?;
            }
        }
        Ok(true)
    }

    /// Whether this target has all of a run.
    fn can_read_run(&self, commit: &SegmentName) -> Result<bool> {
        let Some(info) = self.catalog.segment_info(commit)? else { return Ok(false) };
        match self.catalog.read_run(&info, &self.pieces) {
            Ok(_) => Ok(true),
            Err(error) if costs_only_itself(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// `None` if the run is damaged or incomplete.
    fn apply_run(&mut self, candidate: &Candidate) -> Result<Option<RunApplied>> {
        let info = &candidate.info;
        let read = self.catalog.read_run(info, &self.pieces);
        let applied = match read.and_then(|run| self.catalog.apply_run(&run, &self.pieces)) {
            Ok(applied) => applied,
            Err(error) if costs_only_itself(&error) => {
                self.lost(&info.name, error)?;
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        match applied {
            RunApplied::Visible => self.done.snapshots += 1,
            RunApplied::Forked(timeline) => {
                self.done.snapshots += 1;
                self.tell_fork(candidate, info.name.writer, timeline);
            }
            RunApplied::Already | RunApplied::OutOfOrder | RunApplied::ParentMissing(_) => {}
        }
        Ok(Some(applied))
    }

    fn tell_fork(&self, candidate: &Candidate, writer: WriterId, timeline: TimelineId) {
        let host = String::from_utf8_lossy(&candidate.run.host);
        self.monitor.event(Event::Note(&format!(
            "two backups of {host} built on the same snapshot: snapshot {}, written by {writer}, goes on as timeline {timeline}",
            candidate.run.snapshot
        )));
    }

    /// Compares the newest state of each timeline, as it came out, with what its writer saw.
    fn check_digests(&mut self) -> Result<()> {
        for (number, row) in self.catalog.timeline_rows()? {
            let Some(head) = row.head else { continue };
            let Some(snapshot) = self.catalog.snapshot_row(number, head)? else { continue };
            if self.catalog.compute_digest(number, head)?.hash() != snapshot.digest {
                let error = Error::damage(format!(
                    "the state of snapshot {} came out other than it was written: its digest does not fit",
                    snapshot.run.snapshot
                ));
                self.fault(FaultSide::Damage, format!("segments/{}", snapshot.writer), error);
            }
        }
        Ok(())
    }
}

/// Whether an error of a segment costs what depends on it, and nothing else.
fn costs_only_itself(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Damage | ErrorKind::NotFound | ErrorKind::NewerFormat | ErrorKind::NotTheSame
    )
}
