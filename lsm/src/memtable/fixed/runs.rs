//! The rows of a memtable in order, as several sorted runs: what iterators share.
//!
//! Each new iterator sorts what was added since the last one, as a run of its own; runs of about one size are merged, so that there
//! are few, and a row is merged as often as the logarithm of their number.

use std::sync::Arc;

use super::sort::{Item, sort};
use super::{FixedMemtable, RowId};
use crate::memory::Bytes;

/// A list of rows. Those of a flush are long: their memory goes back to the system with them.
#[derive(Debug)]
pub(super) struct Run(Bytes);

impl Run {
    fn zeroed(count: usize) -> Self {
        Self(Bytes::scratch(count * size_of::<RowId>()))
    }

    fn numbers(&self) -> &[[u8; size_of::<RowId>()]] {
        self.0.as_chunks().0
    }

    fn numbers_mut(&mut self) -> &mut [[u8; size_of::<RowId>()]] {
        self.0.as_chunks_mut().0
    }

    pub(super) fn len(&self) -> usize {
        self.numbers().len()
    }

    #[inline]
    pub(super) fn get(&self, index: usize) -> Option<RowId> {
        self.numbers().get(index).map(decode)
    }

    /// How many rows stand before the first that is not `below`.
    pub(super) fn partition_point(&self, mut below: impl FnMut(RowId) -> bool) -> usize {
        self.numbers().partition_point(|number| below(decode(number)))
    }

    #[cfg(test)]
    fn to_vec(&self) -> Vec<RowId> {
        self.numbers().iter().map(decode).collect()
    }
}

fn decode(number: &[u8; size_of::<RowId>()]) -> RowId {
    RowId(u32::from_le_bytes(*number))
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Runs {
    /// Of older rows first, each more than twice as long as the next.
    runs: Vec<Arc<Run>>,
    /// The first row that is in none.
    next: RowId,
}

impl Runs {
    /// Runs in which every row is that was there before the call.
    pub(super) fn catch_up(&mut self, memtable: &FixedMemtable) -> Vec<Arc<Run>> {
        let (added, next) = sorted(memtable, self.next);
        self.next = next;
        if added.len() > 0 {
            self.runs.push(Arc::new(added));
        }
        while let [.., before, last] = self.runs.as_slice()
            && before.len() < 2 * last.len()
        {
            let merged = Arc::new(merge(memtable, before, last));
            self.runs.truncate(self.runs.len() - 2);
            self.runs.push(merged);
        }
        self.runs.clone()
    }
}

/// The order of internal keys: keys ascending, the newest first.
fn compare(memtable: &FixedMemtable, a: RowId, b: RowId) -> std::cmp::Ordering {
    match (memtable.row(a), memtable.row(b)) {
        (Some(row_a), Some(row_b)) => row_a.compare_keys(&row_b).then_with(|| b.cmp(&a)),
        _ => a.cmp(&b),
    }
}

/// About so many rows are sorted at once: what that takes beside their numbers is little, however many there are.
const PIECE_ROWS: usize = 1 << 12;

/// The rows from `from` on in order, and the one behind them.
pub(super) fn sorted(memtable: &FixedMemtable, from: RowId) -> (Run, RowId) {
    // Rows may be added meanwhile, which are not meant.
    let mut added: Vec<(usize, std::ops::Range<u32>)> = Vec::new();
    let mut next = from;
    for (index, part) in memtable.parts().enumerate().skip(from.part()) {
        let start = if index == from.part() { from.number() } else { 0 };
        let count = part.count();
        added.push((index, start..count));
        next = RowId::new(index, count);
    }
    let (mut run, ends) = dealt(memtable, &added);
    let mut start = 0;
    for end in ends {
        if let Some(piece) = run.numbers_mut().get_mut(start..end) {
            let item = |number| (prefix(memtable, decode(number)), decode(number).0);
            let items: Vec<Item> = piece.iter().map(item).collect();
            let sorted = sort(items, |a, b| compare(memtable, RowId(a.1), RowId(b.1)));
            for (place, (_, id)) in piece.iter_mut().zip(sorted) {
                *place = id.to_le_bytes();
            }
        }
        start = end;
    }
    (run, next)
}

fn prefix(memtable: &FixedMemtable, id: RowId) -> u64 {
    memtable.row(id).map_or(0, |row| row.prefix())
}

/// Rows of some parts dealt by their first bits into pieces, each in the order it had; and where the pieces end.
fn dealt(memtable: &FixedMemtable, added: &[(usize, std::ops::Range<u32>)]) -> (Run, Vec<usize>) {
    let ids = || added.iter().flat_map(|(part, rows)| rows.clone().map(|number| RowId::new(*part, number)));
    let count: usize = added.iter().map(|(_, rows)| rows.len()).sum();
    let bits = (count / PIECE_ROWS).max(1).ilog2();
    let piece = |id: RowId| match bits {
        0 => 0,
        bits => usize::try_from(prefix(memtable, id) >> (64 - bits)).unwrap_or(0),
    };
    let mut ends = vec![0usize; 1 << bits];
    for id in ids() {
        if let Some(count) = ends.get_mut(piece(id)) {
            *count += 1;
        }
    }
    let mut sum = 0;
    for end in &mut ends {
        // Where the piece begins, and once it is filled, where it ends.
        sum += std::mem::replace(end, sum);
    }
    let mut dealt = Run::zeroed(count);
    for id in ids() {
        if let Some(end) = ends.get_mut(piece(id)) {
            if let Some(place) = dealt.numbers_mut().get_mut(*end) {
                *place = id.0.to_le_bytes();
            }
            *end += 1;
        }
    }
    (dealt, ends)
}

fn merge(memtable: &FixedMemtable, a: &Run, b: &Run) -> Run {
    let mut merged = Run::zeroed(a.len() + b.len());
    let (mut a, mut b) = (a.numbers(), b.numbers());
    for place in merged.numbers_mut() {
        let (from_a, from_b) = (a.split_first(), b.split_first());
        let (first, rest) = match (from_a, from_b) {
            (Some((first_a, rest)), Some((first_b, _)))
                if compare(memtable, decode(first_a), decode(first_b)).is_lt() =>
            {
                (first_a, (rest, b))
            }
            (_, Some((first_b, rest))) => (first_b, (a, rest)),
            (Some((first_a, rest)), None) => (first_a, (rest, b)),
            (None, None) => break,
        };
        *place = *first;
        (a, b) = rest;
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Kind;
    use crate::row::Widths;

    #[test]
    fn many_rows_are_in_order_however_they_are_spread_and_the_newest_first() {
        for shift in [0, 1, 44, 63] {
            let memtable = FixedMemtable::new(Widths::new(10, 2).unwrap());
            let mut model: Vec<([u8; 10], RowId)> = Vec::new();
            let mut from = RowId::default();
            for round in 0..2u64 {
                for number in 0..20_000u64 {
                    // Every fourth key comes twice.
                    let number = number - u64::from(number % 4 == 3);
                    let mut key = [0; 10];
                    key[..8].copy_from_slice(
                        &(number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> shift).to_be_bytes(),
                    );
                    key[9] = u8::try_from(number % 3).unwrap();
                    memtable.add(&key, b"ab", round * 20_000 + number + 1, Kind::Put);
                }
                let (ids, next) = sorted(&memtable, from);
                assert_eq!(ids.len(), 20_000);
                from = next;
                let ids = ids.to_vec();
                let key = |id: &RowId| {
                    let mut key = [0; 10];
                    memtable.row(*id).unwrap().key(&mut key);
                    key
                };
                model.clear();
                model.extend(ids.iter().map(|id| (key(id), *id)));
                let is_before =
                    |a: &([u8; 10], RowId), b: &([u8; 10], RowId)| a.0 < b.0 || (a.0 == b.0 && a.1 > b.1);
                assert!(model.windows(2).all(|pair| is_before(&pair[0], &pair[1])), "{shift}");
                let mut all: Vec<RowId> = ids;
                all.sort_unstable();
                all.dedup();
                assert_eq!(all.len(), 20_000, "each row once");
            }
        }
    }
}
