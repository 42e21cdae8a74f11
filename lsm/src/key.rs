//! Internal keys: a user's key with the sequence number and the kind of the write that made it.
//!
//! Order: user keys ascending as bytes; for one user key, sequence numbers *descending* (the newest first); for one
//! number, kinds descending. An internal key is the user's bytes followed by eight more: the complement of
//! `sequence << 8 | kind`, big-endian, so that the trailer itself sorts ascending as bytes. (The whole does not: one user key
//! may be a prefix of another. Compare with [`compare`].)

use std::cmp::Ordering;

use crate::error::{Error, Result};

/// The place of one operation in the history of all writes to a database; from 1 up to 2^56 - 1. Zero is "before everything".
pub type SequenceNumber = u64;

/// The largest sequence number there can be.
pub const SEQUENCE_MAX: SequenceNumber = (1 << 56) - 1;

/// Longest user key, in bytes. Longer ones are refused when they are written: an index block must hold a few of them.
pub const KEY_BYTES_MAX: usize = 1 << 20;

/// Longest value, in bytes. A value lies in one block, which is read and verified whole.
pub const VALUE_BYTES_MAX: usize = 1 << 28;

/// Bytes of an internal key behind the user's.
pub const TRAILER_BYTES: usize = 8;

/// What a write did. Zero is no valid kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Kind {
    /// The key has this value.
    Put = 1,
    /// The key is gone (a tombstone).
    Delete = 2,
}

impl Kind {
    /// The kind with this number.
    ///
    /// # Errors
    /// Corruption if there is none.
    pub fn from_u8(kind: u8) -> Result<Self> {
        match kind {
            1 => Ok(Self::Put),
            2 => Ok(Self::Delete),
            _ => Err(Error::corruption(format!("unknown kind of entry {kind}"))),
        }
    }
}

/// The trailer's eight bytes.
#[inline]
pub fn trailer(sequence: SequenceNumber, kind: Kind) -> [u8; TRAILER_BYTES] {
    debug_assert!(sequence <= SEQUENCE_MAX);
    (!(sequence << 8 | kind as u64)).to_be_bytes()
}

/// Sequence number and kind from a trailer.
///
/// # Errors
/// Corruption if the kind is unknown.
#[inline]
pub fn parse_trailer(bytes: [u8; TRAILER_BYTES]) -> Result<(SequenceNumber, Kind)> {
    let packed = !u64::from_be_bytes(bytes);
    Ok((packed >> 8, Kind::from_u8(packed.to_le_bytes()[0])?))
}

/// Splits an internal key into the user's key and the trailer.
///
/// # Errors
/// Corruption if it is shorter than a trailer.
#[inline]
pub fn split(internal: &[u8]) -> Result<(&[u8], [u8; TRAILER_BYTES])> {
    match internal.split_last_chunk::<TRAILER_BYTES>() {
        Some((user, trailer)) => Ok((user, *trailer)),
        None => Err(Error::corruption(format!("an internal key of {} bytes is too short", internal.len()))),
    }
}

/// Bytes that [`order`] compares by itself.
const OWN_BYTES: usize = 64;

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|word| u64::from_be_bytes(*word))
}

/// The order of two user keys: that of their bytes, as [`Ord`] has it.
///
/// Eight bytes at a time. The system's `memcmp`, which a comparison of slices calls, reads short keys in one piece and masks what is beyond: with a key that was
/// put together just before, as a lookup's mostly is, the processor must wait until it has been written. Measured (AMD Zen 4, glibc 2.36): half of the time of a
/// lookup that finds nothing.
#[inline]
pub fn order(a: &[u8], b: &[u8]) -> Ordering {
    let least = a.len().min(b.len());
    let mut at = 0;
    while at < least.min(OWN_BYTES) {
        match (word(a, at), word(b, at)) {
            (Some(word_a), Some(word_b)) if word_a == word_b => at += size_of::<u64>(),
            (Some(word_a), Some(word_b)) => return word_a.cmp(&word_b),
            _ => return tail_order(a, b, at),
        }
    }
    match least > at {
        true => a.get(at..).cmp(&b.get(at..)),
        false => a.len().cmp(&b.len()),
    }
}

/// Of two keys that begin with `at` equal bytes, and of which one has less than eight more.
#[inline]
fn tail_order(a: &[u8], b: &[u8], at: usize) -> Ordering {
    // The last eight bytes of the shorter one, most of which are known to be equal.
    let least = a.len().min(b.len());
    if let Some(start) = least.checked_sub(size_of::<u64>())
        && let (Some(word_a), Some(word_b)) = (word(a, start), word(b, start))
    {
        return word_a.cmp(&word_b).then_with(|| a.len().cmp(&b.len()));
    }
    let tail = |bytes| <[u8]>::get(bytes, at..).unwrap_or_default();
    let differing = tail(a).iter().zip(tail(b)).find(|(a, b)| a != b);
    differing.map_or_else(|| a.len().cmp(&b.len()), |(a, b)| a.cmp(b))
}

/// Whether two user keys are the same; see [`order`].
#[inline]
pub fn is_same(a: &[u8], b: &[u8]) -> bool {
    // Neighbours begin alike, and mostly end in different ways.
    match (a.last_chunk::<8>(), b.last_chunk::<8>()) {
        (Some(end_of_a), Some(end_of_b)) if end_of_a != end_of_b => false,
        _ => a.len() == b.len() && order(a, b) == Ordering::Equal,
    }
}

/// The order of internal keys. A key shorter than a trailer (damage that a checksum let pass) sorts by its bytes.
#[inline]
pub fn compare(a: &[u8], b: &[u8]) -> Ordering {
    match (a.split_last_chunk::<TRAILER_BYTES>(), b.split_last_chunk::<TRAILER_BYTES>()) {
        (Some((user_a, trailer_a)), Some((user_b, trailer_b))) => {
            order(user_a, user_b).then_with(|| trailer_a.cmp(trailer_b))
        }
        _ => a.cmp(b),
    }
}

/// The internal key at which a reader who sees `sequence` starts looking for `user`.
pub fn seek_key(user: &[u8], sequence: SequenceNumber) -> Vec<u8> {
    let mut key = Vec::with_capacity(user.len() + TRAILER_BYTES);
    key.extend_from_slice(user);
    key.extend_from_slice(&trailer_before(sequence));
    key
}

/// The trailer behind which, of one user key, the writes up to this number stand.
#[inline]
pub(crate) fn trailer_before(sequence: SequenceNumber) -> [u8; TRAILER_BYTES] {
    (!(sequence << 8 | 0xff)).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn internal(user: &[u8], sequence: SequenceNumber, kind: Kind) -> Vec<u8> {
        [user, &trailer(sequence, kind)].concat()
    }

    proptest! {
        #[test]
        fn keys_are_ordered_as_their_bytes(
            front in proptest::collection::vec(any::<u8>(), 0..80),
            a in proptest::collection::vec(0u8..3, 0..20),
            b in proptest::collection::vec(0u8..3, 0..20),
        ) {
            let (a, b) = ([&front[..], &a].concat(), [&front[..], &b].concat());
            prop_assert_eq!(order(&a, &b), a.cmp(&b));
            prop_assert_eq!(is_same(&a, &b), a == b);
            prop_assert_eq!(order(&a, &a), Ordering::Equal);
            prop_assert_eq!(order(&a, &[&a[..], &b].concat()), a.cmp(&[&a[..], &b].concat()));
        }
    }

    #[test]
    fn the_newest_write_of_a_key_sorts_first() {
        let mut keys = [
            internal(b"b", 1, Kind::Put),
            internal(b"a", 1, Kind::Put),
            internal(b"a", 9, Kind::Delete),
            internal(b"ab", 5, Kind::Put),
            internal(b"", 3, Kind::Put),
        ];
        keys.sort_by(|a, b| compare(a, b));
        let order: Vec<_> = keys
            .iter()
            .map(|key| {
                let (user, trailer) = split(key).unwrap();
                (user.to_vec(), parse_trailer(trailer).unwrap().0)
            })
            .collect();
        assert_eq!(
            order,
            [
                (b"".to_vec(), 3),
                (b"a".to_vec(), 9),
                (b"a".to_vec(), 1),
                (b"ab".to_vec(), 5),
                (b"b".to_vec(), 1)
            ]
        );
    }

    #[test]
    fn a_seek_lands_on_what_the_reader_may_see() {
        let at = seek_key(b"a", 5);
        assert_eq!(compare(&at, &internal(b"a", 5, Kind::Delete)), Ordering::Less);
        assert_eq!(compare(&at, &internal(b"a", 6, Kind::Put)), Ordering::Greater);
    }
}
