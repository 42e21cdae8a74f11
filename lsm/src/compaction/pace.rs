//! Slowing writers while merging lags: smoothly, by a function of the debt, until they stand.
//!
//! The debt of a database is that of its worst keyspace: tables in level 0 beyond the number at which slowing begins. From there to
//! twice as many each byte takes more time, at first hardly any, in the end more than there is: then writers wait for a merge, or do it
//! themselves (`admit.rs`). So level 0 has a bound, and nobody runs into a wall on the way to it.
//!
//! All writers draw from one `Bucket`: what the debt lets through is what all of them write together, however many they are and
//! however large their batches. They pay piece by piece, in turns, so that a small batch waits shortly beside a large one.

use std::time::Duration;

use crate::filename::FileNumber;
use crate::levels::View;
use crate::options::Tuning;
use crate::row::KeyspaceKind;

/// What a byte takes where the debt is such that both terms of its price are one: a megabyte a second, which any merge keeps up with.
const SECONDS_PER_BYTE: f64 = 1e-6;

/// So much may be owed before a writer waits: the shortest sleep takes longer than many a small batch should.
const CREDIT: Duration = Duration::from_millis(1);

/// So long a writer waits before it asks for the debt again: it may be gone.
const SLICE: Duration = Duration::from_millis(10);

/// How far merging lags; 0: not at all, 1: so far that nobody writes until something is merged.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Debt(f64);

impl Debt {
    /// The debt of the worst keyspace. What stands in level 0 at or below a table that is `avoided` does not count: no merge can do anything about it.
    pub fn of(view: &View, tuning: &Tuning, avoided: impl Fn(FileNumber) -> bool) -> Self {
        let counts = view.keyspaces.values().map(|keyspace| {
            let tables = keyspace.tables.tree.level(0);
            if tables.len() <= tuning.level0_tables_slow {
                return 0;
            }
            let waiting = tables.iter().take_while(|table| !avoided(table.file));
            match keyspace.kind {
                KeyspaceKind::Sorted => waiting.count(),
                // There the number of runs that is no reason for anything yet is larger.
                KeyspaceKind::Fixed(_) => {
                    let mut epochs: Vec<u64> = waiting.map(|table| table.epoch).collect();
                    epochs.dedup();
                    epochs.len().saturating_sub(2 * tuning.tier_runs)
                }
            }
        });
        Self::of_tables(counts.max().unwrap_or(0), tuning)
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

    /// The debt as a number from 0 to 1 (or above, by what was under way when it came to 1).
    pub fn as_f64(self) -> f64 {
        self.0
    }

    /// What each byte takes.
    fn seconds_per_byte(self) -> f64 {
        match self.is_whole() {
            true => f64::INFINITY,
            false => SECONDS_PER_BYTE * self.0 * self.0 / (1.0 - self.0),
        }
    }
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
    fn a_small_batch_does_not_stand_behind_the_whole_of_a_large_one() {
        let mut bucket = Bucket::default();
        let (paid, _) = bucket.pay(1e9, debt(18), Duration::ZERO);
        assert!(paid < 1e6, "{paid}");
        let (paid, wait) = bucket.pay(100.0, debt(18), Duration::ZERO);
        assert!(paid == 100.0 && wait < 2 * SLICE, "{paid} {wait:?}");
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
