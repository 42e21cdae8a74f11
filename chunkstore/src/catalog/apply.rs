//! Applying segments: the only way in which the catalog changes. Doing it again changes nothing.
//!
//! A piece's index part is applied when the piece is (`index`); the versions parts of a run with the piece that commits it (`runs`). First the whole run is
//! read and checked; then its rows are written in batches of bounded size (`applier`), under a mark in `meta` that says which run is under
//! way; the last batch writes the snapshot's own row, moves the timeline's head and takes the mark away. Until then the rows carry the number of a
//! snapshot that nobody can see. After a crash the run is applied again from its front.

use std::collections::HashMap;

use crate::codec::{Decoder, put_varint};
use crate::error::{Error, ErrorKind, Result};
use crate::segment::{Segment, SegmentName, SegmentObject};

use super::Catalog;
use super::runs::{PieceSource, RunApplied};
use super::store::{self, TimelineNumber, local, meta};
use super::targets::TargetNumber;
use super::writers::SegmentInfo;

/// The mark of a run that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Applying {
    pub(super) timeline: TimelineNumber,
    /// The piece that commits it.
    pub(super) commit: SegmentName,
}

impl Applying {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = store::segment(&self.commit);
        put_varint(&mut out, u64::from(self.timeline.0));
        out
    }

    fn decode(bytes: &[u8]) -> Result<Self> {
        let mut from = Decoder::new(bytes);
        let commit = SegmentName::from_row_key(from.bytes(store::SEGMENT_KEY_BYTES, "segment")?)?;
        let timeline = TimelineNumber(from.varint_u32("timeline")?);
        from.finish("mark of a run")?;
        Ok(Self { timeline, commit })
    }
}

/// The outbox as a source of pieces.
struct OutboxPieces<'a>(&'a Catalog);

impl PieceSource for OutboxPieces<'_> {
    fn piece(&self, name: &SegmentName) -> Result<Segment> {
        Segment::open(&self.0.outbox_ref()?.read(name)?)
    }
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
        Ok(self.has_segment(name)? && !self.inner.spaces.meta.contains(store::waiting(name))?)
    }

    /// Removes segments from the outbox that are applied and that every one of `targets` holds; the newest always stays. All of the repository's are to
    /// be named, also those that are away: if the others are lost by then, one that lacks a segment has nothing to build on but what is here.
    ///
    /// # Errors
    /// Local.
    pub fn trim_outbox(&self, targets: &[TargetNumber]) -> Result<()> {
        let outbox = self.outbox_ref()?;
        let end = outbox.end()?;
        let newest = end.and_then(|end| Some((end.writer, end.newest?.0)));
        // Pieces of a run that is not applied yet stay with it.
        let mut run_applied: HashMap<_, bool> = HashMap::new();
        for name in outbox.segments()?.into_iter().rev() {
            let Some(info) = self.segment_info(&name)? else { continue };
            if info.flags.commits {
                run_applied.insert(name.writer, self.is_applied(&name)?);
            }
            let applied = run_applied.get(&name.writer).copied().unwrap_or(false);
            let mut held = !targets.is_empty();
            for target in targets {
                held &= self.holding(*target, &name.key())?.is_some_and(|holding| holding.is_usable());
            }
            if applied && held && newest != Some((name.writer, name.sequence)) {
                outbox.remove(&name)?;
            }
        }
        Ok(())
    }

    /// The committing segments of runs that are not visible yet.
    pub(super) fn waiting_commits(&self) -> Result<Vec<SegmentInfo>> {
        let mut waiting = Vec::new();
        for row in self.inner.spaces.meta.prefix(meta::WAITING) {
            let (key, _) = row?;
            let key = key.get(meta::WAITING.len()..).unwrap_or_default();
            let name = SegmentName::from_row_key(key).map_err(local("meta"))?;
            waiting.extend(self.segment_info(&name)?);
        }
        Ok(waiting)
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
}
