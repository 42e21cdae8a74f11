//! All the range tombstones that a scan asks, as one.
//!
//! A scan asks about keys in their order. Each source of tombstones says for how far its answer holds; as far as all of them hold, the answer is the same,
//! and costs two comparisons, however many sources there are.

use std::sync::Arc;

use crate::key::{self, SequenceNumber};
use crate::memtable::FragmentCursor;
use crate::range::KeyRange;
use crate::range_tombstone::{RangeTombstones, TombstoneCursor};

/// One source.
#[derive(Debug)]
enum Cover {
    Set(TombstoneCursor),
    Memtable(Box<FragmentCursor>),
}

macro_rules! delegate {
    ($self:ident, $cursor:ident => $call:expr) => {
        match $self {
            Cover::Set($cursor) => $call,
            Cover::Memtable($cursor) => $call,
        }
    };
}

impl Cover {
    fn newest_covering(&mut self, key: &[u8]) -> SequenceNumber {
        delegate!(self, cursor => cursor.newest_covering(key))
    }

    fn newest_before(&mut self, key: Option<&[u8]>) -> SequenceNumber {
        delegate!(self, cursor => cursor.newest_before(key))
    }

    fn fragment(&self) -> (Option<&[u8]>, Option<&[u8]>) {
        delegate!(self, cursor => cursor.fragment())
    }

    fn end_of_run(&mut self, above: SequenceNumber, is_far: impl Fn(&[u8]) -> bool) -> Option<&[u8]> {
        delegate!(self, cursor => cursor.end_of_run(above, is_far))
    }

    fn start_of_run(&mut self, above: SequenceNumber, is_far: impl Fn(&[u8]) -> bool) -> Option<Vec<u8>> {
        match self {
            Self::Set(cursor) => cursor.start_of_run(above, is_far).map(<[u8]>::to_vec),
            Self::Memtable(cursor) => cursor.start_of_run(above, is_far),
        }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Skyline {
    covers: Vec<Cover>,
    /// Between these the answer is `newest`.
    from: Vec<u8>,
    until: Option<Vec<u8>>,
    newest: SequenceNumber,
    is_placed: bool,
}

impl Skyline {
    /// Adds a set.
    pub(super) fn add_set(&mut self, set: &Arc<RangeTombstones>, read_sequence: SequenceNumber) {
        self.covers.push(Cover::Set(TombstoneCursor::new(Arc::clone(set), read_sequence)));
    }

    /// Adds those of a memtable.
    pub(super) fn add_fragments(&mut self, cursor: FragmentCursor) {
        self.covers.push(Cover::Memtable(Box::new(cursor)));
    }

    /// The newest over `key` that the reader sees, or 0.
    #[inline]
    pub(super) fn newest_covering(&mut self, key: &[u8]) -> SequenceNumber {
        if self.covers.is_empty() || (self.is_placed && self.holds(key)) {
            return self.newest;
        }
        self.place(key)
    }

    #[inline]
    fn holds(&self, key: &[u8]) -> bool {
        key::order(&self.from, key).is_le()
            && self.until.as_deref().is_none_or(|until| key::order(key, until).is_lt())
    }

    fn place(&mut self, key: &[u8]) -> SequenceNumber {
        let (mut from, mut until): (&[u8], Option<&[u8]>) = (&[], None);
        let mut newest = 0;
        for cover in &mut self.covers {
            newest = newest.max(cover.newest_covering(key));
            let (cover_from, cover_until) = cover.fragment();
            from = from.max(cover_from.unwrap_or_default());
            until = match (until, cover_until) {
                (Some(until), Some(cover_until)) => Some(until.min(cover_until)),
                (until, cover_until) => until.or(cover_until),
            };
        }
        self.newest = newest;
        self.from.clear();
        self.from.extend_from_slice(from);
        match until {
            Some(until) => {
                let kept = self.until.get_or_insert_default();
                kept.clear();
                kept.extend_from_slice(until);
            }
            None => self.until = None,
        }
        self.is_placed = true;
        newest
    }

    /// Where the keys end, from `key` on, over which tombstones newer than `above` lie without a gap. `None`: not before the end of `range`.
    pub(super) fn end_of_run(
        &mut self,
        key: &[u8],
        above: SequenceNumber,
        range: &KeyRange,
    ) -> Option<Vec<u8>> {
        let mut at = key.to_vec();
        let mut has_moved = true;
        while has_moved {
            has_moved = false;
            for cover in &mut self.covers {
                if cover.newest_covering(&at) > above {
                    let end = cover.end_of_run(above, |end| !range.is_before_end(end))?;
                    if !range.is_before_end(end) {
                        return None;
                    }
                    at.clear();
                    at.extend_from_slice(end);
                    has_moved = true;
                }
            }
        }
        Some(at)
    }

    /// As [`Self::end_of_run`], backwards: where the keys begin, with those just before `end` as the last. (Where they begin outside `range`, that is told
    /// too, or some place outside after it.)
    pub(super) fn start_of_run(&mut self, end: &[u8], above: SequenceNumber, range: &KeyRange) -> Vec<u8> {
        let mut at = end.to_vec();
        let mut has_moved = true;
        while has_moved && at > range.lower {
            has_moved = false;
            for cover in &mut self.covers {
                if cover.newest_before(Some(&at)) > above
                    && let Some(start) = cover.start_of_run(above, |start| start <= range.lower.as_slice())
                    && start < at
                {
                    at = start;
                    has_moved = true;
                }
            }
        }
        at
    }
}
