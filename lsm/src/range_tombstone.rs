//! Range tombstones: "every key from here to there is gone, as of this sequence number".

use crate::error::Result;
use crate::key::SequenceNumber;
use crate::range::KeyRange;

/// One deleted range, as it is given to us.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RangeTombstone {
    /// The first key deleted.
    pub start: Vec<u8>,
    /// The first key no longer deleted; `None`: every key from `start` on is.
    pub end: Option<Vec<u8>>,
    /// Entries with smaller sequence numbers are deleted.
    pub sequence: SequenceNumber,
}

/// An immutable set of range tombstones, searched by key.
#[derive(Debug, Default)]
pub struct RangeTombstones {}

impl RangeTombstones {
    /// The set of these, in any order. Empty ranges are dropped.
    pub fn new(tombstones: impl IntoIterator<Item = RangeTombstone>) -> Self {
        let _ = tombstones.into_iter();
        Self {}
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        0
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        true
    }

    /// The newest tombstone over `key` that a reader at `read_sequence` sees: its sequence number, or 0 where there is none.
    pub fn newest_covering(&self, key: &[u8], read_sequence: SequenceNumber) -> SequenceNumber {
        let _ = (key, read_sequence);
        0
    }

    /// The tombstones as they were given, by start, then newest first.
    pub fn iter(&self) -> impl Iterator<Item = RangeTombstone> + '_ {
        std::iter::empty()
    }

    /// The parts that lie in `range`.
    pub fn clipped(&self, range: &KeyRange) -> Self {
        let _ = range;
        Self {}
    }

    /// The smallest range that encloses all; `None` where there are none.
    pub fn bounds(&self) -> Option<KeyRange> {
        None
    }

    /// The largest sequence number in it, 0 where there are none.
    pub fn sequence_max(&self) -> SequenceNumber {
        0
    }

    /// Bytes of memory it takes.
    pub fn memory_bytes(&self) -> usize {
        0
    }

    /// The set that [`Self::encode`] wrote.
    ///
    /// # Errors
    /// Corruption if it is not such a set.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let _ = bytes;
        Ok(Self {})
    }

    /// Appends the set to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let _ = out;
    }
}
