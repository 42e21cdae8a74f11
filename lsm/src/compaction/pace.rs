//! Slowing writers while merging lags: smoothly, by a function of the debt.
//!
//! The debt of a database is that of its worst keyspace: tables in level 0 beyond the number at which slowing begins. From there to
//! twice as many, the delay for each byte grows with the square of the debt: the first tables too many are hardly felt, and nobody runs into a
//! wall. A delay is proportional to the batch, so a small write waits shortly, whatever the others do.

use std::time::Duration;

use crate::levels::View;
use crate::options::Tuning;

/// What a writer waits for each byte when the debt is one whole: a megabyte a second, which any merge keeps up with.
const NANOSECONDS_PER_BYTE: f64 = 1000.0;

/// The longest single delay: an interactive program must not seem to hang.
const DELAY_MAX: Duration = Duration::from_millis(100);

/// How far merging lags; 0: not at all, 1: as far as is planned for.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Debt(f64);

impl Debt {
    /// The debt of the worst keyspace.
    pub fn of(view: &View, tuning: &Tuning) -> Self {
        let tables = view.keyspaces.values().map(|keyspace| keyspace.tables.tree.level(0).len()).max();
        Self::of_tables(tables.unwrap_or(0), tuning)
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

    /// The debt as a number from 0 to 1 (or above, when it is worse than was planned for).
    pub fn as_f64(self) -> f64 {
        self.0
    }

    /// How long a batch of so many bytes waits before it is committed.
    pub fn delay(self, batch_bytes: usize) -> Duration {
        if !self.is_felt() {
            return Duration::ZERO;
        }
        #[expect(clippy::cast_precision_loss, reason = "a batch has at most 2^30 bytes")]
        let nanoseconds = self.0 * self.0 * NANOSECONDS_PER_BYTE * batch_bytes as f64;
        Duration::from_secs_f64(nanoseconds / 1e9).min(DELAY_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delay_grows_smoothly_from_nothing() {
        let tuning = Tuning { level0_tables_slow: 10, ..Tuning::for_memory(1 << 20) };
        let delay = |tables| Debt::of_tables(tables, &tuning).delay(10_000);
        assert_eq!(delay(10), Duration::ZERO);
        assert!(delay(11) > Duration::ZERO && delay(11) < Duration::from_micros(200));
        for tables in 10..30 {
            assert!(delay(tables) <= delay(tables + 1));
            assert!(delay(tables + 1) <= delay(tables) + Duration::from_millis(6), "no wall at {tables}");
        }
        assert!(delay(1000) <= DELAY_MAX);
    }
}
