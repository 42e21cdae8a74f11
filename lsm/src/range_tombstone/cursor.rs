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
        self.newest = match self.place.checked_sub(1) {
            Some(fragment) => self.tombstones.newest_in(fragment, self.read_sequence),
            None => 0,
        };
        self.newest
    }

    /// The fragment of the key last asked about: everything in it has the same answer. A scan that finds it deleted goes on
    /// at its end (`None`: there is nothing more), one that goes backwards before its start (`None`: likewise).
    pub fn fragment(&self) -> (Option<&[u8]>, Option<&[u8]>) {
        let boundaries = &self.tombstones.boundaries;
        (self.place.checked_sub(1).and_then(|index| boundaries.get(index)), boundaries.get(self.place))
    }
}
