//! Slowing writers while merging lags: smoothly, by a function of the debt, until they stand.
//!
//! The debt of a database is that of its worst keyspace, and that is the worse of two:
//!
//! - tables in level 0 beyond the number at which slowing begins;
//! - bytes that wait in the levels below, beyond what those may hold, once they are as many as one level 2. Level 0 can be kept short for a long time while
//!   they grow; when their turn comes, merging out of level 0 waits behind them, and whoever writes would wait with it, all at once.
//!
//! From where it begins to twice as much each byte takes more time, at first hardly any, in the end more than there is: then writers wait for a merge, or do it
//! themselves (`admit.rs`). So all levels have a bound, and nobody runs into a wall on the way to it.
//!
//! All writers draw from one `Bucket`: what the debt lets through is what all of them write together, however many they are and
//! however large their batches. They pay piece by piece, in turns, so that a small batch waits shortly beside a large one.

use std::time::Duration;

use super::pick::level_bytes_max;
use crate::filename::FileNumber;
use crate::levels::{LEVEL_COUNT, Tree, View};
use crate::options::Tuning;
use crate::row::KeyspaceKind;

/// What a byte takes where the debt is such that both terms of its price are one: a megabyte a second, which any merge keeps up with.
const SECONDS_PER_BYTE: f64 = 1e-6;

/// So much may be owed before a writer waits. Waits are few and of some milliseconds each, not many and short: a sleep costs more than it says, and one write in a
/// thousand should not notice.
const CREDIT: Duration = Duration::from_millis(4);

/// So much a writer pays for at most before it asks for the debt again: it may be gone. With what was owed before, one that writes alone waits less than twice that.
const SLICE: Duration = CREDIT;

/// How far merging lags; 0: not at all, 1: so far that nobody writes until something is merged.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Debt(f64);

impl Debt {
    /// The debt of the worst keyspace. What no merge can do anything about, because of a table that is `avoided`, does not count: what stands in level 0 at or
    /// below one, and a level that has one, or has one in the next.
    pub fn of(view: &View, tuning: &Tuning, avoided: impl Fn(FileNumber) -> bool) -> Self {
        let debts = view.keyspaces.values().map(|keyspace| {
            let tree = &keyspace.tables.tree;
            let of_level0 = Self::of_tables(waiting_tables(tree, keyspace.kind, tuning, &avoided), tuning);
            match keyspace.kind {
                KeyspaceKind::Sorted => {
                    let of_levels = Self::of_bytes(waiting_bytes(tree, tuning, &avoided), tuning);
                    Self(of_level0.0.max(of_levels.0))
                }
                // There are no further levels.
                KeyspaceKind::Fixed(_) => of_level0,
            }
        });
        Self(debts.map(|debt| debt.0).fold(0.0, f64::max))
    }

    fn of_bytes(bytes: u64, tuning: &Tuning) -> Self {
        let slow = level_bytes_max(2, tuning).max(1);
        #[expect(clippy::cast_precision_loss, reason = "a ratio: the last bits are no matter")]
        Self(bytes.saturating_sub(slow) as f64 / slow as f64)
    }

    fn of_tables(tables: usize, tuning: &Tuning) -> Self {
        let slow = tuning.level0_tables_slow;
        #[expect(clippy::cast_precision_loss, reason = "a count of tables is far below 2^52")]
        Self(tables.saturating_sub(slow) as f64 / slow.max(1) as f64)
    }

    /// Whether writers are slowed at all.
    pub fn is_felt(self) -> bool {
        self.0 > 0.0
    }

    /// Whether writers wait until there is less.
    pub fn is_whole(self) -> bool {
        self.0 >= 1.0
    }

    /// The debt as a number from 0 to 1. (What was under way when it came to 1 may have added to it.)
    pub fn as_f64(self) -> f64 {
        self.0.min(1.0)
    }

    /// What each byte takes.
    fn seconds_per_byte(self) -> f64 {
        match self.is_whole() {
            true => f64::INFINITY,
            false => SECONDS_PER_BYTE * self.0 * self.0 / (1.0 - self.0),
        }
    }
}

/// Tables of level 0 that count.
fn waiting_tables(
    tree: &Tree,
    kind: KeyspaceKind,
    tuning: &Tuning,
    avoided: impl Fn(FileNumber) -> bool,
) -> usize {
    let tables = tree.level(0);
    if tables.len() <= tuning.level0_tables_slow {
        return 0;
    }
    let waiting = tables.iter().take_while(|table| !avoided(table.file));
    match kind {
        KeyspaceKind::Sorted => waiting.count(),
        // There the number of runs that is no reason for anything yet is larger.
        KeyspaceKind::Fixed(_) => {
            let mut epochs: Vec<u64> = waiting.map(|table| table.epoch).collect();
            epochs.dedup();
            epochs.len().saturating_sub(2 * tuning.tier_runs)
        }
    }
}

/// Bytes in levels 1 and below beyond what those may hold, of the levels that count.
fn waiting_bytes(tree: &Tree, tuning: &Tuning, avoided: impl Fn(FileNumber) -> bool) -> u64 {
    let has_avoided = |level: usize| tree.level(level).iter().any(|table| avoided(table.file));
    let excesses = (1..LEVEL_COUNT - 1).filter_map(|level| {
        let excess = tree.level_bytes(level).saturating_sub(level_bytes_max(level, tuning));
        (excess > 0 && !has_avoided(level) && !has_avoided(level + 1)).then_some(excess)
    });
    excesses.fold(0, u64::saturating_add)
}

/// What all writers have paid for, in turns.
#[derive(Debug, Default)]
pub(crate) struct Bucket {
    /// At this time everything is paid for.
    paid: Duration,
}

impl Bucket {
    /// Pays for some of `bytes`, which wait at `now`, at the price of `debt`: for as many as a short time is enough for. Returns how many, and how
    /// long to wait before going on.
    pub(crate) fn pay(&mut self, bytes: f64, debt: Debt, now: Duration) -> (f64, Duration) {
        let price = debt.seconds_per_byte();
        let paid = if price > 0.0 { bytes.min(SLICE.as_secs_f64() / price) } else { bytes };
        // At most a slice, so it is a time; what would be infinite times nothing is none.
        let time = Duration::try_from_secs_f64(paid * price).unwrap_or(SLICE);
        self.paid = self.paid.max(now).saturating_add(time);
        let ahead = self.paid.saturating_sub(now);
        (paid, if ahead < CREDIT { Duration::ZERO } else { ahead })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checksum::Identity;
    use crate::levels::TableReference;
    use crate::range::KeyRange;
    use std::sync::Arc;

    fn debt(tables: usize) -> Debt {
        Debt::of_tables(tables, &Tuning { level0_tables_slow: 10, ..Tuning::for_memory(1 << 20) })
    }

    #[test]
    fn the_price_grows_smoothly_from_nothing_and_without_end() {
        let price = |tables| debt(tables).seconds_per_byte();
        assert!(!debt(10).is_felt() && price(10) == 0.0);
        assert!(price(11) > 0.0 && price(11) < 2e-8, "the first is hardly felt: {}", price(11));
        for tables in 10..19 {
            assert!(price(tables) <= price(tables + 1));
            assert!(price(tables + 1) <= 5.0 * price(tables) + 2e-8, "no wall at {tables}");
        }
        assert!(debt(20).is_whole() && !debt(19).is_whole());
        assert_eq!(price(20), f64::INFINITY);
    }

    #[test]
    fn what_waits_in_any_level_counts_but_for_what_cannot_be_merged() {
        let tuning = Tuning { level1_bytes: 1000, level_growth: 10, ..Tuning::for_memory(1 << 20) };
        let table = |file, (lower, upper), file_bytes| {
            Arc::new(TableReference {
                file,
                identity: Identity::from_bytes([1; 16]),
                file_bytes,
                bounds: KeyRange::inclusive(lower, upper),
                sequence_min: file,
                sequence_max: file,
                epoch: file,
                entries: 10,
                deletions: 0,
            })
        };
        let tree_of = |first: u64, second: u64| {
            let tables = [
                (1, table(1, ("a", "m"), first)),
                (2, table(2, ("a", "c"), second)),
                (3, table(3, ("a", "z"), 50_000)),
            ];
            crate::levels::tests_tree(&tables)
        };
        let waiting =
            |first, second, bad: u64| waiting_bytes(&tree_of(first, second), &tuning, |file| file == bad);
        assert_eq!(waiting(1000, 10_000, 0), 0);
        assert_eq!(waiting(5000, 12_000, 0), 4000 + 2000);
        assert_eq!(waiting(5000, 12_000, 1), 2000, "level 1 cannot be merged");
        assert_eq!(waiting(5000, 12_000, 2), 0, "nor what is above such a table");
        assert_eq!(waiting(5000, 12_000, 3), 4000);
        assert!(!Debt::of_bytes(10_000, &tuning).is_felt());
        let price = |bytes| Debt::of_bytes(bytes, &tuning).seconds_per_byte();
        assert!(price(10_500) > 0.0 && price(10_500) < 1e-8 && price(15_000) < price(19_000));
        assert!(Debt::of_bytes(20_000, &tuning).is_whole());
        assert_eq!(Debt::of_bytes(u64::MAX, &tuning).as_f64(), 1.0);
    }

    #[test]
    fn a_small_batch_does_not_stand_behind_the_whole_of_a_large_one() {
        let mut bucket = Bucket::default();
        let (paid, _) = bucket.pay(1e9, debt(18), Duration::ZERO);
        assert!(paid < 1e6, "{paid}");
        let (paid, wait) = bucket.pay(100.0, debt(18), Duration::ZERO);
        assert!(paid == 100.0 && wait < 2 * SLICE, "{paid} {wait:?}");
    }

    #[test]
    fn one_that_writes_little_at_a_time_waits_seldom_and_not_for_little() {
        let mut bucket = Bucket::default();
        let mut now = Duration::ZERO;
        let waits: Vec<Duration> = (0..100_000)
            .map(|_| {
                let (_, wait) = bucket.pay(100.0, debt(15), now);
                now += wait;
                wait
            })
            .filter(|wait| !wait.is_zero())
            .collect();
        assert!(waits.iter().all(|wait| (CREDIT..CREDIT + SLICE).contains(wait)));
        assert!((100..2000).contains(&waits.len()), "one in some hundred: {}", waits.len());
    }

    /// Seconds that writers take who each write a batch, again and again, `total` bytes together.
    fn time_of(writers: usize, batch: f64, total: f64, debt: Debt) -> f64 {
        let mut bucket = Bucket::default();
        let mut now = Duration::ZERO;
        let mut left = vec![0.0; writers];
        let mut begun = 0.0;
        loop {
            let mut is_done = true;
            for left in &mut left {
                if *left <= 0.0 && begun < total {
                    *left = batch;
                    begun += batch;
                }
                if *left > 0.0 {
                    is_done = false;
                    let (paid, wait) = bucket.pay(*left, debt, now);
                    *left -= paid;
                    now += wait;
                }
            }
            if is_done {
                return now.as_secs_f64();
            }
        }
    }

    #[test]
    fn what_is_let_through_depends_on_the_debt_alone() {
        for tables in [12, 15, 18] {
            let expected = 16e6 * debt(tables).seconds_per_byte();
            for (writers, batch) in [(1, 100.0), (1, 4e6), (4, 1000.0), (4, 4e6)] {
                let taken = time_of(writers, batch, 16e6, debt(tables));
                assert!((taken / expected - 1.0).abs() < 0.05, "{writers} of {batch}: {taken} s, {expected}");
            }
        }
    }

    #[test]
    fn nobody_waits_for_long_before_the_debt_is_looked_at_again() {
        let mut bucket = Bucket::default();
        for tables in 10..30 {
            let now = Duration::from_secs(tables as u64);
            let (_, wait) = bucket.pay(1e9, debt(tables), now);
            assert!(wait <= SLICE, "{wait:?} at {tables}");
        }
    }
}
