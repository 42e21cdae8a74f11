//! Stamps and ranks: sequence number and kind of a write, as a block stores them and as they sort.

use crate::key::SequenceNumber;

/// Bits of a stamp that hold the kind.
const STAMP_KIND_BITS: u32 = 3;

/// A place in the order of internal keys with one user key: the trailer as a number. The newest write has the smallest.
pub(crate) type Rank = u64;

/// The stamp of a key in an index that stands after every write of its user key.
pub(crate) const STAMP_LAST: u64 = 0;

/// Sequence number and number of the kind.
#[inline]
pub(crate) fn split_stamp(stamp: u64) -> (SequenceNumber, u8) {
    let kind = stamp & ((1 << STAMP_KIND_BITS) - 1);
    (stamp >> STAMP_KIND_BITS, kind.to_le_bytes()[0])
}

/// The rank of a stamp.
#[inline]
pub(crate) fn rank_of_stamp(stamp: u64) -> Rank {
    let (sequence, kind) = split_stamp(stamp);
    !(sequence << 8 | u64::from(kind))
}

/// The stamp of a rank.
#[inline]
pub(crate) fn stamp_of_rank(rank: Rank) -> u64 {
    let packed = !rank;
    (packed >> 8) << STAMP_KIND_BITS | (packed & ((1 << STAMP_KIND_BITS) - 1))
}

/// The rank at which a reader who sees `sequence` starts looking.
#[inline]
pub(crate) const fn rank_seen_by(sequence: SequenceNumber) -> Rank {
    !(sequence << 8 | 0xff)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{Kind, SEQUENCE_MAX};

    #[test]
    fn stamps_and_ranks_are_the_same_thing() {
        for sequence in [0, 1, 77, SEQUENCE_MAX] {
            for kind in [Kind::Put, Kind::Delete] {
                let stamp = sequence << STAMP_KIND_BITS | u64::from(kind as u8);
                assert_eq!(split_stamp(stamp), (sequence, kind as u8));
                let rank = rank_of_stamp(stamp);
                assert_eq!(rank.to_be_bytes(), crate::key::trailer(sequence, kind));
                assert_eq!(stamp_of_rank(rank), stamp);
            }
        }
        assert_eq!(rank_of_stamp(STAMP_LAST), u64::MAX);
    }
}
