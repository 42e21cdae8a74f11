//! Rows in the order they were written, and a hash table that finds the newest of each key.
//!
//! ```text
//! row    trailer u64 (sequence number << 8 | kind) | older u64 | key, in words | value, in words
//! slot   u32: eight bits of the hash | number of the row + 1, 24 bits; 0: nothing
//! ```
//!
//! The writer fills a row, then stores its number in a slot (release); whoever reads the slot (acquire) sees the whole row. `older` is the
//! row that the slot named before (plus one; 0: none): what a reader at an older sequence number looks for. Rows never move and never change; the capacity is
//! fixed when the part is made, with at most two slots in three in use.

use std::ops::Range;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

use crate::key::{Kind, SequenceNumber};
use crate::memory::{self, Cells};
use crate::row::Widths;

/// Most rows of a part: their numbers have 24 bits, one of which says "none".
pub(super) const ROWS_MAX: usize = (1 << 24) - 2;

/// Words of a row before its key.
const HEAD_WORDS: usize = 2;

/// How the rows of a keyspace lie in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    key_words: usize,
    row_words: usize,
}

impl Layout {
    pub(super) fn new(widths: Widths) -> Self {
        let key_words = widths.key().div_ceil(8);
        Self { key_words, row_words: HEAD_WORDS + key_words + widths.value().div_ceil(8) }
    }

    /// Bytes of a row.
    pub(super) fn row_bytes(self) -> usize {
        self.row_words * 8
    }
}

/// A word of a row: eight bytes of a key or value, zeros behind its end.
#[inline]
fn word(bytes: &[u8]) -> u64 {
    match bytes.first_chunk::<8>() {
        Some(chunk) => u64::from_le_bytes(*chunk),
        None => {
            let mut padded = [0; 8];
            for (to, from) in padded.iter_mut().zip(bytes) {
                *to = *from;
            }
            u64::from_le_bytes(padded)
        }
    }
}

fn put(words: &[AtomicU64], bytes: &[u8]) {
    for (to, from) in words.iter().zip(bytes.chunks(8)) {
        to.store(word(from), Ordering::Relaxed);
    }
}

fn take(words: &[AtomicU64], bytes: &mut [u8]) {
    for (to, from) in bytes.chunks_mut(8).zip(words) {
        let from = from.load(Ordering::Relaxed).to_le_bytes();
        to.copy_from_slice(from.get(..to.len()).unwrap_or_default());
    }
}

/// One row, as it was written.
#[derive(Clone, Copy)]
pub(super) struct Row<'a> {
    layout: Layout,
    words: &'a [AtomicU64],
}

impl Row<'_> {
    #[inline]
    fn word(&self, index: usize) -> u64 {
        self.words.get(index).map_or(0, |word| word.load(Ordering::Relaxed))
    }

    #[inline]
    pub(super) fn sequence(&self) -> SequenceNumber {
        self.word(0) >> 8
    }

    pub(super) fn kind(&self) -> Kind {
        if self.word(0) & 0xff == Kind::Put as u64 { Kind::Put } else { Kind::Delete }
    }

    fn older(&self) -> Option<u32> {
        u32::try_from(self.word(1)).ok()?.checked_sub(1)
    }

    #[inline]
    fn has_key(&self, key: &[u8]) -> bool {
        let stored = self.words.get(HEAD_WORDS..).unwrap_or_default();
        key.chunks(8).zip(stored).all(|(chunk, stored)| word(chunk) == stored.load(Ordering::Relaxed))
    }

    /// The first eight bytes of the key as a number.
    pub(super) fn prefix(&self) -> u64 {
        self.word(HEAD_WORDS).swap_bytes()
    }

    /// Copies the key; `out` is as long as keys are.
    pub(super) fn key(&self, out: &mut [u8]) {
        take(self.words.get(HEAD_WORDS..).unwrap_or_default(), out);
    }

    /// Copies the value; `out` is as long as values are.
    #[inline]
    pub(super) fn value(&self, out: &mut [u8]) {
        take(self.words.get(HEAD_WORDS + self.layout.key_words..).unwrap_or_default(), out);
    }

    /// The order of keys.
    pub(super) fn compare_keys(&self, other: &Self) -> std::cmp::Ordering {
        let words = HEAD_WORDS..HEAD_WORDS + self.layout.key_words;
        words
            .map(|index| self.word(index).swap_bytes().cmp(&other.word(index).swap_bytes()))
            .find(|order| order.is_ne())
            .unwrap_or(std::cmp::Ordering::Equal)
    }
}

/// Memory that is made ready at a time.
const PIECE_BYTES: usize = 1 << 20;

/// From nothing to `count` in steps.
fn pieces(count: usize, each: usize) -> impl Iterator<Item = Range<usize>> {
    let each = each.max(1);
    (0..count).step_by(each).map(move |start| start..start.saturating_add(each).min(count))
}

/// See the module.
#[derive(Debug)]
pub(super) struct Part {
    layout: Layout,
    rows: Cells<AtomicU64>,
    slots: Cells<AtomicU32>,
    capacity: usize,
    /// Rows that are whole.
    count: AtomicU32,
    /// Rows whose memory is there, of those to come too.
    ready: AtomicUsize,
}

impl Part {
    pub(super) fn new(layout: Layout, capacity: usize) -> Self {
        let capacity = capacity.clamp(1, ROWS_MAX);
        Self {
            layout,
            rows: Cells::zeroed(capacity * layout.row_words),
            slots: Cells::zeroed(Self::slot_count(capacity)),
            capacity,
            count: AtomicU32::new(0),
            ready: AtomicUsize::new(0),
        }
    }

    fn slot_count(capacity: usize) -> usize {
        (capacity + capacity / 2).next_power_of_two().max(8)
    }

    /// Bytes that one with room for so many rows takes when it is new and the first of them are there.
    pub(super) fn bytes_of_new(layout: Layout, capacity: usize, rows: usize) -> usize {
        Self::slot_count(capacity) * size_of::<AtomicU32>() + rows * layout.row_bytes()
    }

    pub(super) fn layout(&self) -> Layout {
        self.layout
    }

    /// Bytes that it takes: of its slots, and of the rows whose memory is there.
    pub(super) fn memory_bytes(&self) -> usize {
        self.slot_bytes() + self.ready.load(Ordering::Relaxed) * self.layout.row_bytes()
    }

    /// Has the system give the memory of its slots and of its first rows, so many, piece by piece, unless it is said that it is over; whether all of it is there.
    pub(super) fn make_ready_unless(&self, rows: usize, is_over: impl Fn() -> bool) -> bool {
        let mut slots = pieces(self.slots.as_slice().len(), PIECE_BYTES / size_of::<AtomicU32>());
        let mut rows = pieces(rows, PIECE_BYTES / self.layout.row_bytes().max(1));
        let are_slots_there = slots.all(|slots| {
            self.slots.make_ready(slots);
            !is_over()
        });
        are_slots_there
            && rows.all(|rows| {
                self.make_rows_ready(rows);
                !is_over()
            })
    }

    /// Those of the next rows, so many, whose memory is not there yet.
    pub(super) fn rows_not_ready(&self, rows: usize) -> Range<usize> {
        let count = self.count() as usize;
        let end = count.saturating_add(rows).min(self.capacity);
        self.ready.load(Ordering::Relaxed).max(count).min(end)..end
    }

    /// Has the system give the memory of these rows, of which a writer may take some meanwhile.
    pub(super) fn make_rows_ready(&self, rows: Range<usize>) {
        let words = self.layout.row_words;
        self.rows.make_ready(rows.start * words..rows.end * words);
    }

    /// The memory of so many rows is there, or will be at once; returns by how much it takes more.
    #[inline]
    pub(super) fn rows_are_ready(&self, rows: usize) -> usize {
        if rows <= self.ready.load(Ordering::Relaxed) {
            return 0;
        }
        let before = self.ready.fetch_max(rows, Ordering::Relaxed);
        rows.saturating_sub(before) * self.layout.row_bytes()
    }

    /// Makes it empty. Rows are overwritten when there are new ones; nobody reads one that no slot names.
    pub(super) fn clear(&mut self) {
        self.slots.clear();
        *self.count.get_mut() = 0;
    }

    /// Has a row fetched.
    #[inline]
    pub(super) fn prefetch_row(&self, number: u32) {
        let start = number as usize * self.layout.row_words;
        memory::prefetch_at(self.rows.as_slice(), start);
        memory::prefetch_at(self.rows.as_slice(), start + self.layout.row_words - 1);
    }

    /// Bytes that the slots take from the beginning.
    pub(super) fn slot_bytes(&self) -> usize {
        size_of_val(self.slots.as_slice())
    }

    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    /// How many rows there are.
    #[inline]
    pub(super) fn count(&self) -> u32 {
        self.count.load(Ordering::Acquire)
    }

    #[inline]
    pub(super) fn row(&self, number: u32) -> Row<'_> {
        let start = number as usize * self.layout.row_words;
        let words = self.rows.as_slice().get(start..start + self.layout.row_words).unwrap_or_default();
        Row { layout: self.layout, words }
    }

    /// The place of a key's slot, and what stands in its upper bits.
    #[inline]
    fn home(&self, hash: u64) -> (usize, u32) {
        let mask = self.slots.as_slice().len() - 1;
        let tag = u32::from(hash.to_le_bytes()[7]) << 24;
        (usize::try_from(hash & 0xffff_ffff).unwrap_or(0) & mask, tag)
    }

    /// Has the slot of a key fetched.
    #[inline]
    pub(super) fn prefetch(&self, hash: u64) {
        memory::prefetch_at(self.slots.as_slice(), self.home(hash).0);
    }

    /// The slot that names a row of the key, or the empty one where it would stand; and the number in it.
    #[inline]
    fn find(&self, key: &[u8], hash: u64) -> Option<(&AtomicU32, Option<u32>)> {
        let slots = self.slots.as_slice();
        let (home, tag) = self.home(hash);
        let (before, from) = slots.split_at_checked(home)?;
        for slot in from.iter().chain(before) {
            let found = slot.load(Ordering::Acquire);
            if found == 0 {
                return Some((slot, None));
            }
            if found & 0xff00_0000 == tag {
                let number = (found & 0x00ff_ffff) - 1;
                if self.row(number).has_key(key) {
                    return Some((slot, Some(number)));
                }
            }
        }
        None
    }

    /// Adds a row, unless the part is full; returns by how much it takes more. One caller at a time.
    pub(super) fn add(
        &self,
        key: &[u8],
        value: &[u8],
        hash: u64,
        sequence: SequenceNumber,
        kind: Kind,
    ) -> Option<usize> {
        let number = self.count.load(Ordering::Relaxed);
        if number as usize >= self.capacity {
            return None;
        }
        // There are more slots than rows, so one is empty.
        let (slot, older) = self.find(key, hash)?;
        let row = self.row(number);
        if let [trailer, link, rest @ ..] = row.words {
            trailer.store(sequence << 8 | kind as u64, Ordering::Relaxed);
            link.store(older.map_or(0, |older| u64::from(older) + 1), Ordering::Relaxed);
            let (keys, values) = rest.split_at_checked(self.layout.key_words).unwrap_or_default();
            put(keys, key);
            put(values, value);
        }
        slot.store(self.home(hash).1 | (number + 1), Ordering::Release);
        self.count.store(number + 1, Ordering::Release);
        Some(self.rows_are_ready(number as usize + 1))
    }

    /// The newest row of a key that a reader at `read_sequence` sees.
    #[inline]
    pub(super) fn get(&self, key: &[u8], hash: u64, read_sequence: SequenceNumber) -> Option<Row<'_>> {
        let (_, number) = self.find(key, hash)?;
        let mut row = self.row(number?);
        while row.sequence() > read_sequence {
            row = self.row(row.older()?);
        }
        Some(row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(capacity: usize) -> Part {
        Part::new(Layout::new(Widths::new(10, 3).unwrap()), capacity)
    }

    #[test]
    fn a_row_comes_back_as_it_was() {
        let part = part(4);
        assert_eq!(part.add(b"0123456789", b"abc", 77, 5, Kind::Put), Some(40));
        assert_eq!(part.add(b"0123456789", b"", 77, 6, Kind::Delete), Some(40));
        let row = part.get(b"0123456789", 77, 5).unwrap();
        let (mut key, mut value) = ([0; 10], [0; 3]);
        row.key(&mut key);
        row.value(&mut value);
        assert_eq!((&key, &value, row.sequence(), row.kind()), (b"0123456789", b"abc", 5, Kind::Put));
        assert_eq!(row.prefix(), u64::from_be_bytes(*b"01234567"));
        assert_eq!(part.get(b"0123456789", 77, 6).unwrap().kind(), Kind::Delete);
        assert!(part.get(b"0123456789", 77, 4).is_none());
        assert!(part.get(b"0123456788", 77, 9).is_none());
    }

    #[test]
    fn all_keys_with_one_hash_are_found_and_a_full_part_says_so() {
        let part = part(100);
        for number in 0..100u64 {
            let key = format!("{number:010}");
            assert!(part.add(key.as_bytes(), b"abc", u64::MAX, number + 1, Kind::Put).is_some());
        }
        assert!(part.add(b"9999999999", b"abc", 1, 200, Kind::Put).is_none());
        for number in 0..100u64 {
            let key = format!("{number:010}");
            assert_eq!(part.get(key.as_bytes(), u64::MAX, 500).unwrap().sequence(), number + 1);
        }
        assert!(part.get(b"9999999999", u64::MAX, 500).is_none());
    }
}
