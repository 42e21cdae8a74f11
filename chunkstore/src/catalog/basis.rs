//! What a run may build on when segments are lost: when no target has them any more, nor the outbox.
//!
//! The catalog still knows what they said, and nothing is missing as long as it lives. But whoever makes a catalog from the targets
//! reads neither a snapshot one of whose ancestors was in such a segment, nor contents one of whose lists was. So the next run of a timeline that may stand
//! on one says everything again, as the first of a timeline of its own; and as which list was in which segment is noted nowhere, no run
//! relies on lists from before. That a timeline does without a lost segment is noted in `meta`, or each of its runs would say everything.

use std::collections::HashSet;

use lsm::{Batch, Durability};

use crate::error::{Error, ErrorKind, Result};
use crate::id::{ObjectHash, TimelineId};
use crate::segment::{Segment, SegmentName};
use crate::version::Timeline;

use super::Catalog;
use super::row::PackRow;
use super::store::{self, TimelineNumber, local};

/// In the place of a timeline: the packs that only lost segments told of are known to be such.
const OF_PACKS: TimelineNumber = TimelineNumber(u32::MAX);

/// What a run builds on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Basis {
    /// All that the catalog knows.
    #[default]
    Whole,
    /// The timeline's newest snapshot, but no list that was written before.
    WithoutLists,
    /// Nothing: all entries and lists are written again, into a timeline of its own.
    Nothing,
}

impl Catalog {
    /// What the next run of `timeline` may build on when the segments `lost` are on no target any more.
    ///
    /// # Errors
    /// Local.
    pub fn basis(&self, timeline: &Timeline, lost: &[SegmentName]) -> Result<Basis> {
        if lost.is_empty() {
            return Ok(Basis::Whole);
        }
        let Some(number) = self.timeline_number(timeline.id)?.filter(|_| timeline.head.is_some()) else {
            return Ok(Basis::WithoutLists);
        };
        for segment in lost {
            if !self.inner.spaces.meta.contains(store::without(number, segment))? {
                return Ok(Basis::Nothing);
            }
        }
        Ok(Basis::WithoutLists)
    }

    /// Notes that all snapshots of a timeline do without the segments `lost`: a run of it that built on nothing is visible.
    ///
    /// # Errors
    /// Local; also if there is no such timeline.
    pub fn note_without(&self, timeline: TimelineId, lost: &[SegmentName]) -> Result<()> {
        let number = self.timeline_number(timeline)?.ok_or_else(|| {
            Error::new(ErrorKind::Local, format!("the local catalog: there is no timeline {timeline}"))
        })?;
        let mut batch = Batch::new();
        for segment in lost {
            batch.put(&self.inner.spaces.meta, store::without(number, segment), []);
        }
        self.commit(batch, Durability::System)
    }

    /// Whether it is noted for each of the segments `lost` that no pack counts as told of because of it.
    ///
    /// # Errors
    /// Local.
    pub fn are_packs_untold(&self, lost: &[SegmentName]) -> Result<bool> {
        for segment in lost {
            if !self.inner.spaces.meta.contains(store::without(OF_PACKS, segment))? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Packs that none of `left`, all the segments that are not lost, names count as told of by no segment from now on: nothing is built on them before
    /// one tells of them again.
    ///
    /// # Errors
    /// What `left` gives; damage, if one of them is no segment; local.
    pub fn untell_packs(
        &self,
        lost: &[SegmentName],
        left: impl Iterator<Item = Result<Segment>>,
    ) -> Result<()> {
        let mut named: HashSet<ObjectHash> = HashSet::new();
        for segment in left {
            named.extend(segment?.packs(&self.inner.segment_keys)?.iter().map(|pack| pack.name));
        }
        let _guard = self.inner.change.lock();
        let mut batch = Batch::new();
        for row in self.inner.spaces.packs.prefix(store::all_numbered()) {
            let (key, value) = row?;
            let row = PackRow::decode(&value).map_err(local("packs"))?;
            if row.is_logged && !named.contains(&row.name) {
                batch.put(&self.inner.spaces.packs, &key[..], PackRow { is_logged: false, ..row }.encode());
            }
        }
        for segment in lost {
            batch.put(&self.inner.spaces.meta, store::without(OF_PACKS, segment), []);
        }
        self.commit(batch, Durability::System)?;
        *self.inner.pack_cache.lock() = Default::default();
        Ok(())
    }
}
