//! Rows in the order they came, dealt by their first bits: what is left to do when they are wanted in order is to sort each bucket for itself.
//!
//! Rows of a bucket lie in *chunks*, which are cut from slabs of memory; nothing is ever moved. Where keys are spread evenly a bucket is as large as fits into a
//! processor's cache, and sorting takes no memory to speak of. However they are spread the result is the same: if they all come into one bucket, that takes as much more
//! as sorting it does, which is counted from the beginning.

use std::sync::Arc;

use crate::charge::Charge;
use crate::error::Result;
use crate::memory::Bytes;
use crate::memtable::fixed::sort::{Item, sort};
use crate::row::{Widths, prefix, tail};

/// Most rows of a chunk.
const CHUNK_ROWS_MAX: usize = 256;

/// Chunks of a bucket that is as large as it is meant to become.
const CHUNKS_EACH: usize = 64;

/// Most buckets, as a power of two: each has a line of memory that is being written to.
const BUCKET_BITS_MAX: u32 = 10;

/// What sorting a row takes: it stands in two lists.
const SORT_BYTES: usize = 2 * size_of::<Item>();

/// Largest slab, and how many the buffer consists of where they are smaller.
const SLAB_BYTES_MAX: usize = 16 << 20;
const SLABS: usize = 16;

/// The rows that share their first bits.
#[derive(Clone, Debug, Default)]
struct Bucket {
    /// Numbers of its chunks; the last may have room.
    chunks: Vec<u32>,
    rows: usize,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Dealt {
    widths: Widths,
    row_bytes: usize,
    /// How many rows a chunk has; a power of two.
    chunk_rows: usize,
    slab_chunks: usize,
    bytes_max: usize,
    bucket_bits: u32,
    /// Memory that chunks are cut from.
    slabs: Vec<Bytes>,
    chunks_used: usize,
    buckets: Vec<Bucket>,
    rows: usize,
    /// Rows of the largest bucket.
    rows_largest: usize,
    charge: Arc<Charge>,
    charged: usize,
}

impl Dealt {
    /// An empty one that takes about so many bytes at most; they are charged as they are taken.
    pub(super) fn new(widths: Widths, bytes_max: usize, charge: Arc<Charge>) -> Self {
        let row_bytes = widths.key() + widths.value();
        // A small buffer has small chunks: each bucket leaves half of one unused.
        let fitting = bytes_max / row_bytes / CHUNKS_EACH;
        let chunk_rows = fitting.clamp(1, CHUNK_ROWS_MAX).next_power_of_two().min(CHUNK_ROWS_MAX);
        let chunk_bytes = chunk_rows * row_bytes;
        let bucket_bits = (bytes_max / (chunk_bytes * CHUNKS_EACH)).max(1).ilog2().min(BUCKET_BITS_MAX);
        let slab_chunks = ((bytes_max / SLABS).min(SLAB_BYTES_MAX) / chunk_bytes).max(1);
        Self {
            widths,
            row_bytes,
            chunk_rows,
            slab_chunks,
            bytes_max,
            bucket_bits,
            slabs: Vec::new(),
            chunks_used: 0,
            buckets: vec![Bucket::default(); 1 << bucket_bits],
            rows: 0,
            rows_largest: 0,
            charge,
            charged: 0,
        }
    }

    /// How many rows there are.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// Bytes of all rows.
    pub(super) fn row_bytes(&self) -> u64 {
        self.rows as u64 * self.row_bytes as u64
    }

    /// Whether one more row would be too much.
    pub(super) fn is_full(&self) -> bool {
        let slab_bytes = self.slab_chunks * self.chunk_rows * self.row_bytes;
        let next = match self.chunks_used < self.slabs.len() * self.slab_chunks {
            true => self.slabs.len(),
            false => self.slabs.len() + 1,
        };
        // Numbers of rows in a bucket have 32 bits.
        self.rows > 0
            && (next * slab_bytes + (self.rows_largest + 1) * SORT_BYTES > self.bytes_max
                || self.rows_largest >= u32::MAX as usize)
    }

    fn bucket_of(&self, key: &[u8]) -> usize {
        usize::try_from(prefix(key).checked_shr(64 - self.bucket_bits).unwrap_or(0)).unwrap_or(0)
    }

    /// Adds a row of the widths that all have. Returns whether it took memory for that.
    pub(super) fn add(&mut self, key: &[u8], value: &[u8]) -> bool {
        let number = self.bucket_of(key);
        let Some(bucket) = self.buckets.get_mut(number) else { return false };
        let in_chunk = bucket.rows & (self.chunk_rows - 1);
        let mut has_grown = false;
        if in_chunk == 0 {
            bucket.chunks.push(u32::try_from(self.chunks_used).unwrap_or(u32::MAX));
            self.chunks_used += 1;
            if self.chunks_used > self.slabs.len() * self.slab_chunks {
                self.slabs.push(Bytes::zeroed(self.slab_chunks * self.chunk_rows * self.row_bytes));
                has_grown = true;
            }
        }
        let chunk = bucket.chunks.last().copied().unwrap_or(0) as usize;
        bucket.rows += 1;
        self.rows += 1;
        self.rows_largest = self.rows_largest.max(bucket.rows);
        let at = ((chunk % self.slab_chunks) * self.chunk_rows + in_chunk) * self.row_bytes;
        let slab = self.slabs.get_mut(chunk / self.slab_chunks);
        if let Some((to_key, to_value)) = slab
            .and_then(|slab| slab.get_mut(at..at + self.row_bytes))
            .and_then(|row| row.split_at_mut_checked(key.len()))
        {
            to_key.copy_from_slice(key);
            to_value.copy_from_slice(value);
        }
        if has_grown {
            self.recharge();
        }
        has_grown
    }

    fn recharge(&mut self) {
        let slab_bytes = self.slab_chunks * self.chunk_rows * self.row_bytes;
        let now = self.slabs.len() * slab_bytes + self.rows_largest * SORT_BYTES;
        self.charge.add(now);
        self.charge.subtract(std::mem::replace(&mut self.charged, now));
    }

    /// Forgets all rows; the memory stays for the next.
    pub(super) fn clear(&mut self) {
        for bucket in &mut self.buckets {
            bucket.chunks.clear();
            bucket.rows = 0;
        }
        (self.rows, self.rows_largest, self.chunks_used) = (0, 0, 0);
        self.recharge();
    }

    /// Ranges of buckets with about as many rows in each, in their order: at most `count`, none empty.
    pub(super) fn cut(&self, count: usize) -> Vec<std::ops::Range<usize>> {
        let each = self.rows.div_ceil(count.max(1)).max(1);
        let mut ranges = Vec::new();
        let (mut start, mut rows) = (0, 0);
        for (number, bucket) in self.buckets.iter().enumerate() {
            rows += bucket.rows;
            if rows >= each {
                ranges.push(start..number + 1);
                (start, rows) = (number + 1, 0);
            }
        }
        if rows > 0 {
            ranges.push(start..self.buckets.len());
        }
        ranges
    }

    /// Gives the rows of some buckets to `use_row`, sorted, of each key the last.
    ///
    /// # Errors
    /// Those of `use_row`.
    pub(super) fn sorted(
        &self,
        buckets: std::ops::Range<usize>,
        mut use_row: impl FnMut(&[u8], &[u8]) -> Result<()>,
    ) -> Result<()> {
        for bucket in self.buckets.get(buckets).unwrap_or_default() {
            let items: Vec<Item> = (0..bucket.rows)
                .map(|number| (prefix(self.key(bucket, number)), u32::try_from(number).unwrap_or(u32::MAX)))
                .collect();
            let key = |item: &Item| self.key(bucket, item.1 as usize);
            // Of one key, the last first.
            let sorted = sort(items, |a, b| tail(key(a)).cmp(tail(key(b))).then_with(|| b.1.cmp(&a.1)));
            let mut last: Option<&Item> = None;
            for item in &sorted {
                let is_again = |last: &Item| last.0 == item.0 && key(last) == key(item);
                if !last.is_some_and(is_again) {
                    let (key, value) = self.row(bucket, item.1 as usize).split_at(self.widths.key());
                    use_row(key, value)?;
                    last = Some(item);
                }
            }
        }
        Ok(())
    }

    fn row(&self, bucket: &Bucket, number: usize) -> &[u8] {
        let chunk = bucket.chunks.get(number / self.chunk_rows).copied().unwrap_or(0) as usize;
        let in_slab = (chunk % self.slab_chunks) * self.chunk_rows + (number & (self.chunk_rows - 1));
        let at = in_slab * self.row_bytes;
        let slab = self.slabs.get(chunk / self.slab_chunks);
        slab.and_then(|slab| slab.get(at..at + self.row_bytes))
            .expect("a row that a bucket counts lies in a chunk of its, in a slab that was made for it")
    }

    fn key<'a>(&'a self, bucket: &Bucket, number: usize) -> &'a [u8] {
        self.row(bucket, number).get(..self.widths.key()).unwrap_or_default()
    }
}

impl Drop for Dealt {
    fn drop(&mut self) {
        self.charge.subtract(self.charged);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn all(dealt: &Dealt, ranges: usize) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut rows = Vec::new();
        for range in dealt.cut(ranges) {
            let before = rows.len();
            let add = |key: &[u8], value: &[u8]| {
                rows.push((key.to_vec(), value.to_vec()));
                Ok(())
            };
            dealt.sorted(range, add).unwrap();
            assert!(rows.len() > before, "no range is empty");
        }
        rows
    }

    fn expect_as_a_map(widths: (usize, usize), bytes_max: usize, keys: &[u64], ranges: usize) {
        let charge = Arc::<Charge>::default();
        let mut dealt = Dealt::new(Widths::new(widths.0, widths.1).unwrap(), bytes_max, Arc::clone(&charge));
        for round in 0..2u8 {
            let mut model = BTreeMap::new();
            for (number, key) in keys.iter().enumerate() {
                let mut key = key.to_be_bytes().to_vec();
                key.resize(widths.0, round);
                let mut value = u32::try_from(number).unwrap().to_le_bytes().to_vec();
                value.resize(widths.1, round);
                dealt.add(&key, &value);
                model.insert(key, value);
            }
            assert_eq!(dealt.rows(), keys.len());
            assert!(charge.bytes() >= keys.len() * (widths.0 + widths.1));
            assert_eq!(all(&dealt, ranges), model.into_iter().collect::<Vec<_>>());
            dealt.clear();
            assert!(all(&dealt, ranges).is_empty());
        }
        drop(dealt);
        assert_eq!(charge.bytes(), 0);
    }

    #[test]
    fn however_keys_are_spread() {
        let mixed = |number: u64| number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let keys: Vec<u64> = (0..30_000).map(mixed).collect();
        expect_as_a_map((32, 24), 4 << 20, &keys, 3);
        let narrow: Vec<u64> = (0..30_000).map(|number| mixed(number) >> 44).collect();
        expect_as_a_map((32, 24), 4 << 20, &narrow, 3);
        expect_as_a_map((2, 6), 4 << 20, &keys, 5);
        expect_as_a_map((9, 4), 1, &keys[..500], 1);
        expect_as_a_map((8, 4), 100_000, &[7; 3000], 4);
    }

    #[test]
    fn it_is_full_when_what_it_may_take_is_used_up_and_never_when_it_is_empty() {
        let widths = Widths::new(32, 24).unwrap();
        for bytes_max in [1, 4000, 1 << 20, 10 << 20] {
            for shift in [0, 60] {
                let charge = Arc::<Charge>::default();
                let mut dealt = Dealt::new(widths, bytes_max, Arc::clone(&charge));
                let mut number = 0u64;
                while !dealt.is_full() {
                    number += 1;
                    let prefix = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> shift;
                    let mut key = [0; 32];
                    key[..8].copy_from_slice(&prefix.to_be_bytes());
                    dealt.add(&key, &[0; 24]);
                    assert!(number < 1 << 20);
                }
                assert!(number >= 1 && charge.bytes() <= bytes_max.max(4 << 10), "{bytes_max}");
                let good = if shift == 0 { 56 * 5 / 4 } else { 56 + SORT_BYTES + 8 };
                assert!(
                    usize::try_from(number).unwrap() >= bytes_max / good * 3 / 4,
                    "{number} rows in {bytes_max}"
                );
            }
        }
    }

    proptest! {
        #[test]
        fn any_rows(keys in proptest::collection::vec(any::<u64>(), 1..400), shift in 0u32..64, bytes_max in 0usize..100_000, ranges in 1usize..5) {
            let keys: Vec<u64> = keys.into_iter().map(|key| key >> shift).collect();
            expect_as_a_map((10, 4), bytes_max, &keys, ranges);
        }
    }
}
