//! The rows of a memtable in order, as several sorted runs: what iterators share.
//!
//! Each new iterator sorts what was added since the last one, as a run of its own; runs of about one size are merged, so that there
//! are few, and a row is merged as often as the logarithm of their number.

use std::sync::Arc;

use super::sort::{Item, sort};
use super::{FixedMemtable, RowId};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Runs {
    /// Of older rows first, each more than twice as long as the next.
    runs: Vec<Arc<[RowId]>>,
    /// The first row that is in none.
    next: RowId,
}

impl Runs {
    /// Runs in which every row is that was there before the call.
    pub(super) fn catch_up(&mut self, memtable: &FixedMemtable) -> Vec<Arc<[RowId]>> {
        let (added, next) = sorted(memtable, self.next);
        self.next = next;
        if !added.is_empty() {
            self.runs.push(added.into());
        }
        while let [.., before, last] = self.runs.as_slice()
            && before.len() < 2 * last.len()
        {
            let merged = merge(memtable, before, last).into();
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

/// The rows from `from` on in order, and the one behind them.
pub(super) fn sorted(memtable: &FixedMemtable, from: RowId) -> (Vec<RowId>, RowId) {
    let mut items: Vec<Item> = Vec::new();
    let mut next = from;
    for (index, part) in memtable.parts().enumerate().skip(from.part()) {
        let start = if index == from.part() { from.number() } else { 0 };
        let count = part.count();
        items.reserve(count.saturating_sub(start) as usize);
        items.extend((start..count).map(|number| (part.row(number).prefix(), RowId::new(index, number).0)));
        next = RowId::new(index, count);
    }
    let sorted = sort(items, |a, b| compare(memtable, RowId(a.1), RowId(b.1)));
    (sorted.into_iter().map(|(_, id)| RowId(id)).collect(), next)
}

fn merge(memtable: &FixedMemtable, mut a: &[RowId], mut b: &[RowId]) -> Vec<RowId> {
    let mut merged = Vec::with_capacity(a.len() + b.len());
    while let (Some((first_a, rest_a)), Some((first_b, rest_b))) = (a.split_first(), b.split_first()) {
        if compare(memtable, *first_a, *first_b).is_lt() {
            merged.push(*first_a);
            a = rest_a;
        } else {
            merged.push(*first_b);
            b = rest_b;
        }
    }
    merged.extend_from_slice(a);
    merged.extend_from_slice(b);
    merged
}
