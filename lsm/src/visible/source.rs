//! The sources of a scan: memtables, tables, runs of tables; and what of a deleted range each can leave out.
//!
//! Where a range tombstone is newer than everything in a source, that source holds nothing to see under it: it is set to where the deleted
//! range ends, and blocks and whole tables in between are never read. Of a run this is asked for all of its tables, and else for the one at hand.

use std::sync::Arc;

use super::skyline::Skyline;
use crate::error::Result;
use crate::iter::InternalIterator;
use crate::key::{SEQUENCE_MAX, SequenceNumber, seek_key};
use crate::levels::{KeyspaceView, OpenTable, OpenTree, RunIter};
use crate::memtable::{FixedIter, Memtable, SortedIter};
use crate::merge::MergingIterator;
use crate::range::KeyRange;
use crate::range_tombstone::RangeTombstones;
use crate::table::{AnyTableIter, ReadMode};
use crate::value::Value;

/// Any source of entries. An enum, so that the merge calls none through a pointer.
#[derive(Debug)]
pub enum Source {
    /// A memtable, and the largest sequence number of an entry in it that this reader may see.
    Memtable(SortedIter, SequenceNumber),
    /// Rows of a memtable. (Over rows there are no range tombstones.)
    Rows(FixedIter),
    /// A table, and the largest sequence number in it.
    Table(AnyTableIter, SequenceNumber),
    /// A run of tables, and likewise.
    Run(RunIter, SequenceNumber),
    /// One that has nothing more in the direction of the scan.
    Ended,
}

macro_rules! delegate {
    ($self:ident, $source:ident => $call:expr, $ended:expr) => {
        match $self {
            Source::Memtable($source, _) => $call,
            Source::Rows($source) => $call,
            Source::Table($source, _) => $call,
            Source::Run($source, _) => $call,
            Source::Ended => $ended,
        }
    };
}

impl InternalIterator for Source {
    fn seek_to_first(&mut self) -> Result<()> {
        delegate!(self, source => source.seek_to_first(), Ok(()))
    }

    fn seek_to_last(&mut self) -> Result<()> {
        delegate!(self, source => source.seek_to_last(), Ok(()))
    }

    fn seek(&mut self, internal: &[u8]) -> Result<()> {
        delegate!(self, source => source.seek(internal), Ok(()))
    }

    fn seek_for_prev(&mut self, internal: &[u8]) -> Result<()> {
        delegate!(self, source => source.seek_for_prev(internal), Ok(()))
    }

    #[inline]
    fn next(&mut self) -> Result<()> {
        delegate!(self, source => source.next(), Ok(()))
    }

    #[inline]
    fn prev(&mut self) -> Result<()> {
        delegate!(self, source => source.prev(), Ok(()))
    }

    #[inline]
    fn valid(&self) -> bool {
        delegate!(self, source => source.valid(), false)
    }

    #[inline]
    fn key(&self) -> &[u8] {
        delegate!(self, source => source.key(), &[])
    }

    #[inline]
    fn value(&self) -> &[u8] {
        delegate!(self, source => source.value(), &[])
    }

    #[inline]
    fn owned_value(&self) -> Value {
        delegate!(self, source => source.owned_value(), Value::new())
    }
}

/// Up to where a source has nothing to see, from where it stands.
enum Hidden {
    /// It has something.
    Nothing,
    /// All but what is older than this, wherever it stands.
    Older(SequenceNumber),
    /// Likewise, but only in the table at hand.
    InTable(SequenceNumber),
}

impl Source {
    /// Whether it ends by itself where the range of the scan does.
    pub(super) fn ends_with_range(&self) -> bool {
        matches!(self, Self::Table(..) | Self::Run(..) | Self::Ended)
    }

    /// What a range tombstone of number `covered` hides of it.
    fn hidden(&self, covered: SequenceNumber) -> Hidden {
        match self {
            Self::Memtable(_, newest) | Self::Table(_, newest) | Self::Run(_, newest)
                if *newest < covered =>
            {
                Hidden::Older(*newest)
            }
            Self::Run(run, _) => match run.table().map(|open| open.reference.sequence_max) {
                Some(newest) if newest < covered => Hidden::InTable(newest),
                _ => Hidden::Nothing,
            },
            _ => Hidden::Nothing,
        }
    }

    /// Goes on from an entry of `user` that a tombstone of number `covered` hides, upward past everything that is hidden likewise.
    pub(super) fn skip_forward(
        &mut self,
        user: &[u8],
        covered: SequenceNumber,
        skyline: &mut Skyline,
        range: &KeyRange,
    ) -> Result<()> {
        let (end, is_in_table) = match self.hidden(covered) {
            Hidden::Nothing => return self.next(),
            Hidden::Older(above) => (skyline.end_of_run(user, above, range), false),
            Hidden::InTable(above) => (skyline.end_of_run(user, above, range), true),
        };
        match (self, end) {
            (Self::Run(run, _), end) if is_in_table => match end.filter(|end| run.is_before_next(end)) {
                Some(end) => run.seek(&seek_key(&end, SEQUENCE_MAX)),
                None => run.next_table(),
            },
            (source, Some(end)) => source.seek(&seek_key(&end, SEQUENCE_MAX)),
            (source, None) => {
                *source = Self::Ended;
                Ok(())
            }
        }
    }

    /// Whether a tombstone of number `covered` hides what it holds where it stands.
    pub(super) fn has_hidden(&self, covered: SequenceNumber) -> bool {
        !matches!(self.hidden(covered), Hidden::Nothing)
    }

    /// As [`Self::skip_forward`], downward; for one that [`Self::has_hidden`].
    pub(super) fn skip_backward(
        &mut self,
        user: &[u8],
        covered: SequenceNumber,
        skyline: &mut Skyline,
        range: &KeyRange,
    ) -> Result<()> {
        let end = crate::range::successor(user);
        let (start, is_in_table) = match self.hidden(covered) {
            Hidden::Nothing => return self.prev(),
            Hidden::Older(above) => (skyline.start_of_run(&end, above, range), false),
            Hidden::InTable(above) => (skyline.start_of_run(&end, above, range), true),
        };
        match self {
            Self::Run(run, _) if is_in_table && run.is_in_previous(&start) => run.previous_table(),
            source if start <= range.lower => {
                *source = Self::Ended;
                Ok(())
            }
            // Nothing stands at this internal key itself: it is that of no kind.
            source => source.seek_for_prev(&seek_key(&start, SEQUENCE_MAX)),
        }
    }
}

/// The sources of a view that may say something about `range`, merged; and their range tombstones.
pub(super) fn sources(
    view: &KeyspaceView,
    range: &KeyRange,
    read_sequence: SequenceNumber,
) -> (MergingIterator<Source>, Skyline) {
    let mut sources = Vec::new();
    let mut skyline = Skyline::default();
    let keep = |skyline: &mut Skyline, set: &Arc<RangeTombstones>| {
        if set.bounds().is_some_and(|bounds| bounds.overlaps(range)) {
            skyline.add_set(set, read_sequence);
        }
    };
    for memtable in view.memtables() {
        let sorted = match memtable {
            Memtable::Sorted(sorted) => sorted,
            Memtable::Fixed(rows) => {
                sources.extend(rows.iters().into_iter().map(Source::Rows));
                continue;
            }
        };
        if sorted.entry_count() > 0 {
            // What comes in later is seen by nobody who reads at this number.
            sources.push(Source::Memtable(sorted.iter(), sorted.entry_sequence_max().min(read_sequence)));
        }
        if let Some((fragments, wide)) = sorted.tombstone_cursors(read_sequence) {
            skyline.add_fragments(fragments);
            wide.iter().for_each(|set| keep(&mut skyline, set));
        }
    }
    let table = |open: &OpenTable| {
        let iter = open.iter(ReadMode::Cached, range)?;
        Some(Source::Table(iter, open.reference.sequence_max))
    };
    let [newest, runs @ ..] = view.tables.levels();
    sources.extend(newest.iter().filter_map(table));
    let mut with_tombstones: Vec<&[OpenTable]> = vec![newest];
    for level in runs {
        let inside = OpenTree::overlapping(level, range);
        match inside {
            [] => {}
            [only] => sources.extend(table(only)),
            _ => {
                let newest = inside.iter().map(|open| open.reference.sequence_max).max().unwrap_or(0);
                let run = RunIter::new(Arc::clone(level), ReadMode::Cached, range.clone());
                sources.push(Source::Run(run, newest));
            }
        }
        with_tombstones.push(inside);
    }
    for set in with_tombstones.into_iter().flatten().filter_map(|open| open.tombstones.as_ref()) {
        keep(&mut skyline, set);
    }
    (MergingIterator::new(sources), skyline)
}
