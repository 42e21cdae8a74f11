//! One block: the unit that is read, verified, decompressed and cached.
//!
//! A sorted block's payload (FORMAT.md, "Tables"):
//!
//! ```text
//! entry*            shared: varint, suffix length: varint, value length: varint, stamp: varint, suffix, value
//! restart*          u32: where an entry stands whose shared is 0, every so many entries; the first is 0
//! restart count     u32
//! ```
//!
//! *Shared* is how many bytes of the user key are those of the entry before: exactly as many as there are (a search relies on it), but 0
//! at a restart. The *stamp* is `sequence * 8 + kind`. A sequence number of zero, which most entries of a last level have, takes one byte
//! where an internal key's trailer takes eight.
//!
//! A block is decoded in place. When it is loaded its restarts are validated, and eight bytes of each restart's key, those after the prefix
//! that all restarts share, are put in an array: the binary search reads that array and nothing else.

use std::cmp::Ordering;
use std::ops::Range;

use crate::error::{Error, Result};
use crate::key::{Kind, SEQUENCE_MAX, SequenceNumber};

mod builder;
mod compress;
mod iter;
mod trailer;

pub use builder::BlockBuilder;
pub(crate) use compress::Compressor;
pub use compress::{Codec, Compression};
pub use iter::BlockIter;
pub(crate) use trailer::open_slice;
pub use trailer::{BlockKind, TRAILER_BYTES, open, seal};

/// Largest payload, uncompressed. A value and its key fit ([`crate::key::VALUE_BYTES_MAX`]); offsets fit 32 bits.
pub const PAYLOAD_BYTES_MAX: usize = 1 << 29;

const _: () = assert!(crate::key::VALUE_BYTES_MAX + 2 * crate::key::KEY_BYTES_MAX < PAYLOAD_BYTES_MAX);

/// Bits of a stamp that hold the kind.
const STAMP_KIND_BITS: u32 = 3;

/// A place in the order of internal keys with one user key: the trailer as a number. The newest write has the smallest.
pub(crate) type Rank = u64;

/// The stamp of a write.
#[cfg(test)]
pub(crate) fn stamp(sequence: SequenceNumber, kind: Kind) -> u64 {
    sequence << STAMP_KIND_BITS | u64::from(kind as u8)
}

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

/// How many bytes `a` and `b` begin with alike.
#[inline]
pub(crate) fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    let mut length = 0;
    for (a, b) in a.chunks_exact(8).zip(b.chunks_exact(8)) {
        if a != b {
            break;
        }
        length += 8;
    }
    let tail = |bytes| <[u8]>::get(bytes, length..).unwrap_or_default();
    length + tail(a).iter().zip(tail(b)).take_while(|(a, b)| a == b).count()
}

/// The first eight bytes as a number that sorts as they do; shorter ones are filled up with zeros.
#[inline]
pub(crate) fn prefix_number(bytes: &[u8]) -> u64 {
    if let Some(first) = bytes.first_chunk::<8>() {
        return u64::from_be_bytes(*first);
    }
    let mut number = [0; 8];
    for (to, from) in number.iter_mut().zip(bytes) {
        *to = *from;
    }
    u64::from_be_bytes(number)
}

/// A verified block, decoded in place.
#[derive(Debug)]
pub struct Block {
    bytes: Vec<u8>,
    /// Where the entries end and the restarts begin; 0 in a block that is not sorted.
    entries_end: usize,
    restarts: Box<[u32]>,
    /// How many bytes the keys of all restarts begin with alike.
    restart_skip: usize,
    /// [`prefix_number`] of each restart's key behind those.
    restart_prefixes: Box<[u64]>,
    /// The smallest number of a kind that may stand in it.
    kind_min: u8,
}

/// One entry: where its parts lie in the block.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) shared: usize,
    pub(crate) suffix: Range<usize>,
    pub(crate) stamp: u64,
    pub(crate) value: Range<usize>,
    /// Where the next entry begins.
    pub(crate) next: usize,
}

impl Block {
    /// A sorted block. `kind` tells what may stand in it: an index has keys that stand after every write of their user key.
    ///
    /// # Errors
    /// Corruption if the restarts are not such as [`BlockBuilder`] writes, or there is no entry.
    pub fn sorted(bytes: Vec<u8>, kind: BlockKind) -> Result<Self> {
        let kind_min = if kind == BlockKind::Data { 1 } else { 0 };
        let mut block = Self { kind_min, ..Self::opaque(bytes) };
        let Some((rest, count)) = block.bytes.split_last_chunk::<4>() else {
            return Err(Error::corruption(format!("a block of {} bytes is too short", block.bytes.len())));
        };
        let count = u32::from_le_bytes(*count) as usize;
        let Some(entries_end) = count.checked_mul(4).and_then(|bytes| rest.len().checked_sub(bytes)) else {
            return Err(Error::corruption(format!(
                "{count} restarts do not fit a block of {} bytes",
                rest.len()
            )));
        };
        let restarts: Box<[u32]> = rest
            .get(entries_end..)
            .unwrap_or_default()
            .chunks_exact(4)
            .map(|bytes| bytes.try_into().map_or(0, u32::from_le_bytes))
            .collect();
        let ascending = restarts.windows(2).all(|pair| matches!(pair, [a, b] if a < b));
        let within = restarts.last().is_some_and(|last| (*last as usize) < entries_end);
        if restarts.first() != Some(&0) || !ascending || !within {
            return Err(Error::corruption("the restarts of a block are not ascending places of entries"));
        }
        block.entries_end = entries_end;
        block.restarts = restarts;
        block.index_restarts()?;
        Ok(block)
    }

    /// A block that is not sorted: no entries, only bytes.
    pub fn opaque(bytes: Vec<u8>) -> Self {
        Self {
            bytes,
            entries_end: 0,
            restarts: Box::default(),
            restart_skip: 0,
            restart_prefixes: Box::default(),
            kind_min: 0,
        }
    }

    /// The whole payload.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Bytes of memory it takes.
    pub fn memory_bytes(&self) -> usize {
        size_of::<Self>()
            + self.bytes.capacity()
            + self.restarts.len() * (size_of::<u32>() + size_of::<u64>())
    }

    fn index_restarts(&mut self) -> Result<()> {
        let first = self.restart_key(0)?;
        let last = self.restart_key(self.restarts.len().saturating_sub(1))?;
        let skip = common_prefix(first, last);
        let mut prefixes = Vec::with_capacity(self.restarts.len());
        for index in 0..self.restarts.len() {
            let key = self.restart_key(index)?;
            prefixes.push(prefix_number(key.get(skip..).unwrap_or_default()));
        }
        self.restart_skip = skip;
        self.restart_prefixes = prefixes.into_boxed_slice();
        Ok(())
    }

    /// Where the entry of restart `index` stands.
    #[inline]
    fn restart_offset(&self, index: usize) -> usize {
        self.restarts.get(index).map_or(self.entries_end, |offset| *offset as usize)
    }

    fn restart_key(&self, index: usize) -> Result<&[u8]> {
        let offset = self.restart_offset(index);
        let entry = self.entry(offset)?;
        if entry.shared != 0 {
            return Err(self.malformed(offset));
        }
        Ok(self.slice(entry.suffix))
    }

    /// The user key of the first entry.
    pub(crate) fn first_user_key(&self) -> &[u8] {
        self.restart_key(0).unwrap_or_default()
    }

    /// Bytes of the block; none where the range is not within it (ranges come from [`Self::entry`], which checks).
    #[inline]
    pub(crate) fn slice(&self, range: Range<usize>) -> &[u8] {
        self.bytes.get(range).unwrap_or_default()
    }

    #[cold]
    fn malformed(&self, offset: usize) -> Error {
        Error::corruption(format!(
            "the entry at {offset} of a block of {} bytes is malformed",
            self.bytes.len()
        ))
    }

    /// The entry that stands at `offset`.
    #[inline]
    pub(crate) fn entry(&self, offset: usize) -> Result<Entry> {
        self.parse(offset).ok_or_else(|| self.malformed(offset))
    }

    #[inline]
    fn parse(&self, offset: usize) -> Option<Entry> {
        let bytes = self.bytes.get(..self.entries_end)?;
        let mut rest = bytes.get(offset..)?;
        let (shared, suffix_length, value_length);
        match rest {
            // Almost every entry: three lengths of one byte each.
            &[a, b, c, ref after @ ..] if (a | b | c) < 0x80 => {
                (shared, suffix_length, value_length) = (usize::from(a), usize::from(b), usize::from(c));
                rest = after;
            }
            _ => {
                let mut length = || usize::try_from(varint(&mut rest)?).ok();
                (shared, suffix_length, value_length) = (length()?, length()?, length()?);
            }
        }
        let stamp = varint(&mut rest)?;
        let (sequence, kind) = split_stamp(stamp);
        if sequence > SEQUENCE_MAX || kind < self.kind_min || kind > Kind::Delete as u8 {
            return None;
        }
        let start = self.entries_end - rest.len();
        let middle = start.checked_add(suffix_length)?;
        let next = middle.checked_add(value_length)?;
        if next > self.entries_end {
            return None;
        }
        Some(Entry { shared, suffix: start..middle, stamp, value: middle..next, next })
    }

    /// The last restart whose key is below (`user`, `rank`); the first if none is. An entry at or above that key can only stand
    /// behind it, before or at the next restart.
    pub(crate) fn restart_before(&self, user: &[u8], rank: Rank) -> Result<usize> {
        let last = self.restarts.len().saturating_sub(1);
        if last == 0 {
            return Ok(0);
        }
        let shared = self.restart_key(0)?.get(..self.restart_skip).unwrap_or_default();
        let (head, tail) = user.split_at(user.len().min(self.restart_skip));
        match head.cmp(shared) {
            Ordering::Less => return Ok(0),
            Ordering::Greater => return Ok(last),
            Ordering::Equal => {}
        }
        let wanted = prefix_number(tail);
        let mut low = self.restart_prefixes.partition_point(|prefix| *prefix < wanted);
        let mut high = low;
        while self.restart_prefixes.get(high) == Some(&wanted) {
            high += 1;
        }
        // Those from `low` to `high` are alike in eight bytes: here the keys themselves decide.
        while low < high {
            let middle = low + (high - low) / 2;
            let entry = self.entry(self.restart_offset(middle))?;
            let below = match self.slice(entry.suffix).cmp(user) {
                Ordering::Equal => rank_of_stamp(entry.stamp) < rank,
                order => order == Ordering::Less,
            };
            if below {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low.saturating_sub(1))
    }

    /// The first entry at or above (`user`, `rank`), and whether it has that user key. `visit` sees each entry on the way and the one found: how
    /// many bytes it shares with the one before, and the rest of its key.
    ///
    /// No key is put together: of each entry on the way it is known that it lies below what is looked for and how many bytes the
    /// two have in common, so that the number of shared bytes mostly decides about the next one.
    #[inline]
    pub(crate) fn lower_bound(
        &self,
        user: &[u8],
        rank: Rank,
        mut visit: impl FnMut(usize, &Entry, &[u8]) -> Result<()>,
    ) -> Result<Option<(Entry, bool)>> {
        let mut offset = self.restart_offset(self.restart_before(user, rank)?);
        let mut matched = 0;
        while offset < self.entries_end {
            let entry = self.entry(offset)?;
            let suffix = self.slice(entry.suffix.clone());
            visit(offset, &entry, suffix)?;
            offset = entry.next;
            if entry.shared == 0 {
                matched = 0;
            }
            if entry.shared > matched {
                continue;
            }
            if entry.shared < matched {
                return Ok(Some((entry, false)));
            }
            let wanted = user.get(matched..).unwrap_or_default();
            let common = common_prefix(suffix, wanted);
            match (suffix.get(common), wanted.get(common)) {
                (None, None) if rank_of_stamp(entry.stamp) >= rank => return Ok(Some((entry, true))),
                (None, _) => matched += common,
                (Some(found), Some(wanted)) if found < wanted => matched += common,
                (Some(_), _) => return Ok(Some((entry, false))),
            }
        }
        Ok(None)
    }

    /// The newest write of `user` that a reader at `sequence` sees.
    pub(crate) fn get(&self, user: &[u8], sequence: SequenceNumber) -> Result<Option<Entry>> {
        let found = self.lower_bound(user, rank_seen_by(sequence), |_, _, _| Ok(()))?;
        Ok(found.and_then(|(entry, same)| same.then_some(entry)))
    }
}

/// The rank at which a reader who sees `sequence` starts looking.
#[inline]
pub(crate) fn rank_seen_by(sequence: SequenceNumber) -> Rank {
    !(sequence << 8 | 0xff)
}

/// Takes a varint from the front: as [`crate::codec::Decoder::varint`], without the words for what is wrong.
#[inline]
fn varint(rest: &mut &[u8]) -> Option<u64> {
    let (&first, after) = rest.split_first()?;
    if first < 0x80 {
        *rest = after;
        return Some(u64::from(first));
    }
    let mut value = u64::from(first & 0x7f);
    let mut bytes = after;
    for shift in (7..64).step_by(7) {
        let (&byte, after) = bytes.split_first()?;
        bytes = after;
        if shift == 63 && byte > 1 {
            return None;
        }
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            *rest = bytes;
            return (byte != 0).then_some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_prefixes_are_counted_exactly() {
        let a: Vec<u8> = (0..40).collect();
        for length in 0..40 {
            let mut b = a.clone();
            b[length] ^= 1;
            assert_eq!(common_prefix(&a, &b), length);
            assert_eq!(common_prefix(&a, &a[..length]), length);
        }
    }

    #[test]
    fn stamps_and_ranks_are_the_same_thing() {
        for sequence in [0, 1, 77, SEQUENCE_MAX] {
            for kind in [Kind::Put, Kind::Delete] {
                let stamp = stamp(sequence, kind);
                assert_eq!(split_stamp(stamp), (sequence, kind as u8));
                let rank = rank_of_stamp(stamp);
                assert_eq!(rank.to_be_bytes(), crate::key::trailer(sequence, kind));
                assert_eq!(stamp_of_rank(rank), stamp);
            }
        }
        assert_eq!(rank_of_stamp(STAMP_LAST), u64::MAX);
    }

    #[test]
    fn a_block_without_restarts_or_entries_is_refused() {
        for bytes in [vec![], vec![0; 4], vec![1, 0, 0, 0], vec![0, 0, 0, 0, 1, 0, 0, 0], vec![0xff; 64]] {
            assert!(Block::sorted(bytes, BlockKind::Data).is_err());
        }
    }
}
