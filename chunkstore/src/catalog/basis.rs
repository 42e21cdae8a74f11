//! What a run may build on when segments are lost: when no target has them any more, nor the outbox.
//!
//! The catalog still knows what they said, and nothing is missing as long as it lives. But whoever makes a catalog from the targets
//! reads neither a snapshot one of whose ancestors was in such a segment, nor contents one of whose lists was. So the next run of a timeline that may stand
//! on one says everything again, as the first of a timeline of its own; and as which list was in which segment is noted nowhere, no run
//! relies on lists from before. That a timeline does without a lost segment is noted in `meta`, or each of its runs would say everything.

use lsm::{Batch, Durability};

use crate::error::{Error, ErrorKind, Result};
use crate::id::TimelineId;
use crate::segment::SegmentName;
use crate::version::Timeline;

use super::Catalog;
use super::store;

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
}
