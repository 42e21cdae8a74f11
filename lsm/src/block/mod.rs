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
//! at a restart. The *stamp* is `sequence * 8 + kind`. It takes as many bytes as it needs, where an internal key's trailer takes eight.
//!
//! A block is decoded in place. When it is loaded its restarts are validated, and eight bytes of each restart's key, those after the prefix
//! that all restarts share, are put before it in memory: the binary search reads those and nothing else.

use std::ops::Range;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::key::{Kind, SEQUENCE_MAX};
use crate::memory;

mod buffers;
mod builder;
mod compress;
mod dictionary;
mod fences;
mod iter;
mod scratch;
mod search;
mod stamp;
mod trailer;

pub(crate) use buffers::{Buffers, zeros};
pub use builder::BlockBuilder;
pub use compress::{Codec, Compression, Payload};
pub(crate) use compress::{Compressor, LZ4_TIMES_MAX, unpack_with};
pub use dictionary::DICTIONARY_BYTES_MAX;
pub(crate) use dictionary::{Dictionary, DictionaryRef, check as check_dictionary, train};
pub(crate) use fences::Fences;
pub use iter::BlockIter;
pub use scratch::Scratch;
pub(crate) use stamp::{Rank, STAMP_LAST, rank_of_stamp, rank_seen_by, split_stamp, stamp_of_rank};
pub use trailer::{BlockKind, TRAILER_BYTES, open, seal};
pub(crate) use trailer::{open_with, stated_payload_bytes};

/// Largest payload, uncompressed. A value and its key fit ([`crate::key::VALUE_BYTES_MAX`]); offsets fit 32 bits.
pub const PAYLOAD_BYTES_MAX: usize = 1 << 29;

const _: () = assert!(crate::key::VALUE_BYTES_MAX + 2 * crate::key::KEY_BYTES_MAX < PAYLOAD_BYTES_MAX);

/// How many bytes `a` and `b` begin with alike.
#[inline]
pub(crate) fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    let mut length = 0;
    for (a, b) in a.as_chunks::<8>().0.iter().zip(b.as_chunks::<8>().0) {
        let differing = u64::from_le_bytes(*a) ^ u64::from_le_bytes(*b);
        if differing != 0 {
            return length + differing.trailing_zeros() as usize / 8;
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

/// A line of the processor's cache, in bytes, and how many of them a prefetch asks for: a block of the usual size, and no more than a part of the first cache.
const LINE_BYTES: usize = 64;
const PREFETCHED_LINES_MAX: usize = 128;

/// Bytes of memory for each restart, before the entries: [`prefix_number`] and place.
const PREFIX_BYTES: usize = 8;
const PLACE_BYTES: usize = 4;

/// A verified block, decoded in place; a clone shares it.
///
/// All of it is one allocation: for a sorted block the [`prefix_number`] of each restart's key behind what those keys begin with alike, the
/// restarts, then the entries, the first of them right there. A lookup in a block that is in no processor cache waits for memory three or four times.
#[derive(Clone)]
pub struct Block {
    bytes: Arc<[u8]>,
    /// Where the entries begin; they go to the end. In a block that is not sorted: 0, and there are none.
    start: u32,
    restarts: u32,
    /// How many bytes the keys of all restarts begin with alike.
    restart_skip: u32,
    /// Bytes at the end that mean nothing.
    spare: u16,
    /// The smallest number of a kind that may stand in it.
    kind_min: u8,
}

/// What a block is beside its bytes, for whoever keeps those elsewhere for a while.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    start: u32,
    restarts: u32,
    restart_skip: u32,
    kind_min: u8,
}

impl std::fmt::Debug for Block {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("Block");
        shown.field("bytes", &self.bytes.len()).field("restarts", &self.restarts).finish_non_exhaustive()
    }
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
    pub fn sorted(payload: &[u8], kind: BlockKind) -> Result<Self> {
        Self::sorted_in(payload, kind, zeros)
    }

    /// As [`Self::sorted`], in memory that `memory` gives, for so many bytes or a few more.
    pub(crate) fn sorted_in(
        payload: &[u8],
        kind: BlockKind,
        memory: impl FnOnce(usize) -> Arc<[u8]>,
    ) -> Result<Self> {
        let Some((rest, count)) = payload.split_last_chunk::<PLACE_BYTES>() else {
            return Err(Error::corruption(format!("a block of {} bytes is too short", payload.len())));
        };
        let count = u32::from_le_bytes(*count);
        let restart_bytes = (count as usize).checked_mul(PLACE_BYTES);
        let Some(entries_end) = restart_bytes.and_then(|bytes| rest.len().checked_sub(bytes)) else {
            return Err(Error::corruption(format!(
                "{count} restarts do not fit a block of {} bytes",
                rest.len()
            )));
        };
        let (entries, places) = rest.split_at(entries_end);
        let front_bytes = count as usize * (PREFIX_BYTES + PLACE_BYTES);
        let (Ok(start), true) = (u32::try_from(front_bytes), payload.len() <= PAYLOAD_BYTES_MAX) else {
            return Err(Error::corruption(format!("a block of {} bytes is too long", payload.len())));
        };
        let mut block = Self {
            bytes: Arc::default(),
            start,
            restarts: count,
            restart_skip: 0,
            spare: 0,
            kind_min: if kind == BlockKind::Data { 1 } else { 0 },
        };
        let mut before = None;
        let mut keys: Vec<&[u8]> = Vec::with_capacity(count as usize);
        for place in places.chunks_exact(PLACE_BYTES) {
            let place = place.try_into().map_or(0, u32::from_le_bytes);
            if (before.is_none() && place != 0) || before.is_some_and(|before| before >= place) {
                return Err(Error::corruption("the restarts of a block are not ascending, from 0"));
            }
            before = Some(place);
            match block.parse(entries, place as usize) {
                Some(entry) if entry.shared == 0 => keys.push(entries.get(entry.suffix).unwrap_or_default()),
                _ => return Err(malformed(place as usize, entries.len())),
            }
        }
        let (Some(first), Some(last)) = (keys.first(), keys.last()) else {
            return Err(Error::corruption("a block has no restart"));
        };
        let skip = common_prefix(first, last);
        // Made at its final place: a copy less, and no second allocation of this size.
        let (mut bytes, needed) = fitting(memory, front_bytes + entries.len());
        block.spare = u16::try_from(bytes.len() - needed).unwrap_or(0);
        if let Some(bytes) = Arc::get_mut(&mut bytes)
            && let Some(bytes) = bytes.get_mut(..needed)
            && let (front, to_entries) = bytes.split_at_mut(front_bytes)
            && let (prefixes, to_places) = front.split_at_mut(keys.len() * PREFIX_BYTES)
        {
            for (to, key) in prefixes.chunks_exact_mut(PREFIX_BYTES).zip(&keys) {
                // Of keys that are out of order (damage that has a good checksum) one may be shorter than what first and last share.
                to.copy_from_slice(&prefix_number(key.get(skip..).unwrap_or_default()).to_le_bytes());
            }
            to_places.copy_from_slice(places);
            to_entries.copy_from_slice(entries);
        }
        block.restart_skip = u32::try_from(skip).unwrap_or(0);
        block.bytes = bytes;
        Ok(block)
    }

    /// A block that is not sorted: no entries, only bytes.
    pub fn opaque(bytes: impl Into<Arc<[u8]>>) -> Self {
        Self { bytes: bytes.into(), start: 0, restarts: 0, restart_skip: 0, spare: 0, kind_min: 0 }
    }

    /// As [`Self::opaque`], in memory that `memory` gives, for so many bytes or a few more.
    pub(crate) fn opaque_in(payload: &[u8], memory: impl FnOnce(usize) -> Arc<[u8]>) -> Self {
        let (mut bytes, needed) = fitting(memory, payload.len());
        let spare = u16::try_from(bytes.len() - needed).unwrap_or(0);
        if let Some(bytes) = Arc::get_mut(&mut bytes)
            && let Some(bytes) = bytes.get_mut(..needed)
        {
            bytes.copy_from_slice(payload);
        }
        Self { spare, ..Self::opaque(bytes) }
    }

    /// What it is, its bytes not included.
    pub(crate) fn shape(&self) -> Shape {
        Shape {
            start: self.start,
            restarts: self.restarts,
            restart_skip: self.restart_skip,
            kind_min: self.kind_min,
        }
    }

    /// A block from a copy of its [`bytes`](Self::bytes), in memory that `memory` gives, for so many bytes or a few more.
    pub(crate) fn copied(shape: Shape, bytes: &[u8], memory: impl FnOnce(usize) -> Arc<[u8]>) -> Self {
        let Shape { start, restarts, restart_skip, kind_min } = shape;
        Self { start, restarts, restart_skip, kind_min, ..Self::opaque_in(bytes, memory) }
    }

    /// Its memory, for [`Buffers::give`].
    pub(crate) fn into_memory(self) -> Arc<[u8]> {
        self.bytes
    }

    /// The whole payload of a block that is not sorted, or what [`Value::from_block`](crate::Value::from_block) counts from in one that is.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.end()).unwrap_or_default()
    }

    /// Where what means something ends.
    #[inline]
    fn end(&self) -> usize {
        self.bytes.len().saturating_sub(usize::from(self.spare))
    }

    /// The memory of the block, kept alive by the caller.
    pub(crate) fn share(&self) -> Arc<[u8]> {
        Arc::clone(&self.bytes)
    }

    /// Bytes of memory it takes.
    pub fn memory_bytes(&self) -> usize {
        size_of::<Self>() + 2 * size_of::<usize>() + self.bytes.len()
    }

    /// Has the processor fetch it, all at once.
    #[inline]
    pub(crate) fn prefetch(&self) {
        prefetch_lines(&self.bytes, PREFETCHED_LINES_MAX);
    }

    /// Has the processor fetch where it begins, the first entry included, and the count of those who share it, which stands before that.
    #[inline]
    pub(crate) fn prefetch_front(&self) {
        let start = self.bytes.as_ptr();
        memory::prefetch_pointer(start.wrapping_sub(2 * size_of::<usize>()));
        memory::prefetch_pointer(start);
        let first = start.wrapping_add(self.start as usize);
        memory::prefetch_pointer(first);
        memory::prefetch_pointer(first.wrapping_add(LINE_BYTES / 2));
    }

    /// The entries, one behind the other.
    #[inline]
    fn entries(&self) -> &[u8] {
        if self.restarts == 0 {
            &[]
        } else {
            self.bytes.get(self.start as usize..self.end()).unwrap_or_default()
        }
    }

    /// Where the entries end.
    #[inline]
    fn entries_end(&self) -> usize {
        self.entries().len()
    }

    /// Where the entry of restart `index` stands.
    #[inline]
    fn restart_offset(&self, index: usize) -> usize {
        let start = self.restarts as usize * PREFIX_BYTES + index * PLACE_BYTES;
        let place = self.bytes.get(start..).and_then(|bytes| bytes.first_chunk::<PLACE_BYTES>());
        place.map_or(0, |place| u32::from_le_bytes(*place) as usize)
    }

    /// The last restart before `offset`.
    fn restart_under(&self, offset: usize) -> Option<usize> {
        let (mut low, mut high) = (0, self.restarts as usize);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.restart_offset(middle) < offset {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low.checked_sub(1)
    }

    fn restart_key(&self, index: usize) -> Result<&[u8]> {
        Ok(self.slice(self.entry(self.restart_offset(index))?.suffix))
    }

    /// The user key of the first entry.
    pub(crate) fn first_user_key(&self) -> &[u8] {
        if self.restarts == 0 { &[] } else { self.restart_key(0).unwrap_or_default() }
    }

    /// A range of the entries, as one of [`Self::bytes`].
    pub(crate) fn range_of(&self, range: Range<usize>) -> Range<usize> {
        let start = self.start as usize;
        start + range.start..start + range.end
    }

    /// Bytes of the entries; none where the range is not within them (ranges come from [`Self::entry`], which checks).
    #[inline]
    pub(crate) fn slice(&self, range: Range<usize>) -> &[u8] {
        self.entries().get(range).unwrap_or_default()
    }

    #[cold]
    fn malformed(&self, offset: usize) -> Error {
        malformed(offset, self.entries_end())
    }

    /// The entry that stands at `offset`.
    #[inline]
    pub(crate) fn entry(&self, offset: usize) -> Result<Entry> {
        self.parse(self.entries(), offset).ok_or_else(|| self.malformed(offset))
    }

    #[inline]
    fn parse(&self, entries: &[u8], offset: usize) -> Option<Entry> {
        let mut rest = entries.get(offset..)?;
        let (shared, suffix_length, value_length);
        match *rest {
            // Almost every entry: three lengths of one byte each.
            [a, b, c, ref after @ ..] if (a | b | c) < 0x80 => {
                (shared, suffix_length, value_length) = (usize::from(a), usize::from(b), usize::from(c));
                rest = after;
            }
            // Most others: a value of less than 16 KiB.
            [a, b, c, d, ref after @ ..] if (a | b | d) < 0x80 && d != 0 => {
                (shared, suffix_length) = (usize::from(a), usize::from(b));
                value_length = usize::from(c & 0x7f) | usize::from(d) << 7;
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
        let start = entries.len() - rest.len();
        let middle = start.checked_add(suffix_length)?;
        let next = middle.checked_add(value_length)?;
        if next > entries.len() {
            return None;
        }
        Some(Entry { shared, suffix: start..middle, stamp, value: middle..next, next })
    }
}

/// Has the processor fetch the first lines of these bytes, up to so many.
#[inline]
fn prefetch_lines(bytes: &[u8], lines_max: usize) {
    let lines = bytes.chunks(LINE_BYTES).take(lines_max);
    lines.filter_map(<[u8]>::first).for_each(memory::prefetch);
}

/// Memory for `needed` bytes from `memory`, which nobody else has; and `needed`, within it.
fn fitting(memory: impl FnOnce(usize) -> Arc<[u8]>, needed: usize) -> (Arc<[u8]>, usize) {
    let mut bytes = memory(needed);
    let spare = bytes.len().checked_sub(needed);
    if spare.is_none_or(|spare| spare > usize::from(u16::MAX)) || Arc::get_mut(&mut bytes).is_none() {
        bytes = zeros(needed);
    }
    (bytes, needed)
}

#[cold]
fn malformed(offset: usize, entries_bytes: usize) -> Error {
    Error::corruption(format!("the entry at {offset} of {entries_bytes} bytes of entries is malformed"))
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
    fn lengths_of_one_two_and_three_bytes_are_read_and_no_longer_than_they_need_be() {
        let block = |length: &[u8], value: usize| {
            let mut payload = [&[0, 1], length, &[9], b"k", &vec![7; value]].concat();
            payload.extend_from_slice(&[0, 0, 0, 0, 1, 0, 0, 0]);
            Block::sorted(&payload, BlockKind::Data)
        };
        for (length, value) in
            [(&[0x7f][..], 0x7f), (&[0x80, 1], 0x80), (&[0xff, 0x7f], 0x3fff), (&[0x80, 0x80, 1], 0x4000)]
        {
            let block = block(length, value).unwrap();
            assert_eq!(block.entry(0).unwrap().value.len(), value);
        }
        assert!(block(&[0x81, 0], 1).is_err());
        assert!(block(&[0x80, 0x81, 0], 0x80).is_err());
    }

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
    fn a_block_without_restarts_or_entries_is_refused() {
        for bytes in [vec![], vec![0; 4], vec![1, 0, 0, 0], vec![0, 0, 0, 0, 1, 0, 0, 0], vec![0xff; 64]] {
            assert!(Block::sorted(&bytes, BlockKind::Data).is_err());
        }
    }
}
