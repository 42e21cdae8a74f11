//! A place in a set of tombstones, for readers that go from key to key.

use std::sync::Arc;

use super::RangeTombstones;
use crate::key::SequenceNumber;

/// Asks a set about keys that come in order, or nearly: it remembers the fragment of the last one, so that most answers cost two comparisons.
#[derive(Debug)]
pub struct TombstoneCursor {
    tombstones: Arc<RangeTombstones>,
    read_sequence: SequenceNumber,
    /// How many boundaries are at or below the last key: its fragment is the one before.
    place: usize,
    newest: SequenceNumber,
}

impl TombstoneCursor {
    /// A cursor for a reader at `read_sequence`.
    pub fn new(tombstones: Arc<RangeTombstones>, read_sequence: SequenceNumber) -> Self {
        Self { tombstones, read_sequence, place: 0, newest: 0 }
    }

    /// The set.
    pub fn tombstones(&self) -> &Arc<RangeTombstones> {
        &self.tombstones
    }

    /// As [`RangeTombstones::newest_covering`].
    #[inline]
    pub fn newest_covering(&mut self, key: &[u8]) -> SequenceNumber {
        if self.tombstones.is_empty() || self.in_place(key) {
            return self.newest;
        }
        self.find(key)
    }

    #[inline]
    fn in_place(&self, key: &[u8]) -> bool {
        let boundaries = &self.tombstones.boundaries;
        let above = self
            .place
            .checked_sub(1)
            .is_none_or(|index| boundaries.get(index).is_some_and(|from| from <= key));
        above && boundaries.get(self.place).is_none_or(|until| key < until)
    }

    fn find(&mut self, key: &[u8]) -> SequenceNumber {
        self.place += 1; // The next fragment is where a scan goes.
        if self.place > self.tombstones.boundaries.len() || !self.in_place(key) {
            self.place = self.tombstones.boundaries.count_through(key);
        }
        self.settle()
    }

    /// The newest over the keys just before `key` (`None`: over the last of all), or 0.
    pub fn newest_before(&mut self, key: Option<&[u8]>) -> SequenceNumber {
        let boundaries = &self.tombstones.boundaries;
        self.place = match key {
            Some(key) => boundaries.count_while(|boundary| boundary < key),
            None => boundaries.len(),
        };
        self.settle()
    }

    fn settle(&mut self) -> SequenceNumber {
        self.newest = match self.place.checked_sub(1) {
            Some(fragment) => self.tombstones.newest_in(fragment, self.read_sequence),
            None => 0,
        };
        self.newest
    }

    /// The fragment of the key last asked about: everything in it has the same answer. `None`: there is no end on that side.
    pub fn fragment(&self) -> (Option<&[u8]>, Option<&[u8]>) {
        let boundaries = &self.tombstones.boundaries;
        (self.place.checked_sub(1).and_then(|index| boundaries.get(index)), boundaries.get(self.place))
    }

    /// Whether all of the set is seen, and newer than `above`.
    fn is_wholly(&self, above: SequenceNumber) -> bool {
        self.tombstones.sequence_min > above && self.tombstones.sequence_max <= self.read_sequence
    }

    /// Goes on from a fragment over which something newer than `above` lies, to the first over which nothing does; returns where that begins.
    /// `None`: there is none. It need not go further than where `is_far`.
    pub fn end_of_run(&mut self, above: SequenceNumber, is_far: impl Fn(&[u8]) -> bool) -> Option<&[u8]> {
        let island = self.place.checked_sub(1).and_then(|fragment| self.tombstones.island(fragment));
        match island {
            Some((_, end)) if self.is_wholly(above) => self.place = end,
            _ => {
                while !self.tombstones.boundaries.get(self.place).is_none_or(&is_far)
                    && self.tombstones.newest_in(self.place, self.read_sequence) > above
                {
                    self.place += 1;
                }
            }
        }
        // It stands in the last fragment of the run: what was asked of it is true of that one too.
        self.settle();
        self.tombstones.boundaries.get(self.place)
    }

    /// As [`Self::end_of_run`], backwards: where the run begins.
    pub fn start_of_run(&mut self, above: SequenceNumber, is_far: impl Fn(&[u8]) -> bool) -> Option<&[u8]> {
        let fragment = self.place.checked_sub(1)?;
        match self.tombstones.island(fragment) {
            Some((start, _)) if self.is_wholly(above) => self.place = start + 1,
            _ => {
                while let Some(before) = self.place.checked_sub(2)
                    && self.tombstones.newest_in(before, self.read_sequence) > above
                    && !self.fragment().0.is_none_or(&is_far)
                {
                    self.place -= 1;
                }
            }
        }
        self.settle();
        self.fragment().0
    }
}
