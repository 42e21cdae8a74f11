//! How long calls take: a histogram with two digits, small enough to stay in the cache beside what is measured.

use std::time::Instant;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::measure::turns::Turns;

const LONGEST_NANOSECONDS: u64 = 3_600_000_000_000;
const DIGITS: u8 = 2;

/// Counts a thread's operations, and times its calls or some of them: a clock costs 20 to 40 ns, which beside a lookup of 200 is too much.
#[derive(Debug)]
pub(crate) struct Recorder {
    histogram: Histogram<u64>,
    operations: u64,
    calls: u64,
    every: u32,
    until_next: u32,
    /// Of this thread, where it is asked for.
    turns: Option<Turns>,
    own_max: u64,
}

impl Recorder {
    /// Times every `every`-th call.
    #[expect(clippy::expect_used, reason = "constant bounds and digits that the library takes")]
    pub(crate) fn new(every: u32) -> Self {
        let histogram = Histogram::new_with_bounds(1, LONGEST_NANOSECONDS, DIGITS).expect("valid bounds");
        Self { histogram, operations: 0, calls: 0, every, until_next: 0, turns: None, own_max: 0 }
    }

    /// The same, and also how long calls take apart from waits for a processor; for calls of the thread that makes this.
    pub(crate) fn with_turns(every: u32, turns: bool) -> Self {
        Self { turns: turns.then(Turns::of_this_thread).flatten(), ..Self::new(every) }
    }

    /// Makes a call that does so many operations.
    #[inline]
    pub(crate) fn time<T>(&mut self, operations: u64, call: impl FnOnce() -> Result<T>) -> Result<T> {
        self.operations += operations;
        self.calls += 1;
        if self.until_next > 0 {
            self.until_next -= 1;
            return call();
        }
        self.until_next = self.every.saturating_sub(1);
        let before = self.turns.as_ref().and_then(Turns::now);
        let start = Instant::now();
        let result = call();
        let nanoseconds = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.histogram.saturating_record(nanoseconds.max(1));
        if let (Some(turns), Some(before)) = (&self.turns, before)
            && nanoseconds > self.own_max
            && let Some(after) = turns.now()
        {
            self.own_max = self.own_max.max(after.own_since(&before, nanoseconds));
        }
        result
    }

    /// Counts operations that a call turned out to have done.
    pub(crate) fn count(&mut self, operations: u64) {
        self.operations += operations;
    }

    /// Takes in another thread's.
    pub(crate) fn add(&mut self, other: &Self) {
        self.operations += other.operations;
        self.calls += other.calls;
        // The same bounds: nothing is left out.
        let _ = self.histogram.add(&other.histogram);
        self.own_max = self.own_max.max(other.own_max);
    }

    pub(crate) fn operations(&self) -> u64 {
        self.operations
    }

    pub(crate) fn latency(&self) -> Latency {
        let at = |quantile| self.histogram.value_at_quantile(quantile);
        Latency {
            calls: self.calls,
            timed: self.histogram.len(),
            p50: at(0.5),
            p99: at(0.99),
            p999: at(0.999),
            max: self.histogram.max(),
            own_max: self.own_max,
        }
    }
}

/// How long calls took, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Latency {
    /// Calls made: a batch is one.
    pub(crate) calls: u64,
    /// Of them, how many were timed.
    pub(crate) timed: u64,
    pub(crate) p50: u64,
    pub(crate) p99: u64,
    pub(crate) p999: u64,
    pub(crate) max: u64,
    /// The longest apart from waits for a processor, where that was asked for; 0 otherwise.
    #[serde(default)]
    pub(crate) own_max: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted_and_every_so_manyth_is_timed() {
        let mut recorder = Recorder::new(4);
        for _ in 0..9 {
            recorder.time(10, || Ok(())).unwrap();
        }
        recorder.count(5);
        let latency = recorder.latency();
        assert_eq!((recorder.operations(), latency.calls, latency.timed), (95, 9, 3));
    }

    #[test]
    fn a_slow_call_shows_in_the_maximum_alone() {
        let mut recorder = Recorder::new(1);
        for call in 0..1000 {
            recorder
                .time(1, || {
                    if call == 500 {
                        std::thread::sleep(std::time::Duration::from_millis(20));
                    }
                    Ok(())
                })
                .unwrap();
        }
        let latency = recorder.latency();
        assert!(latency.max >= 20_000_000, "{latency:?}");
        assert!(latency.p50 < 20_000_000 && latency.p50 <= latency.p99, "{latency:?}");
    }

    #[test]
    fn threads_are_added_up() {
        let (mut one, mut other) = (Recorder::new(1), Recorder::new(1));
        one.time(1, || Ok(())).unwrap();
        other.time(2, || Ok(())).unwrap();
        one.add(&other);
        assert_eq!((one.operations(), one.latency().calls, one.latency().timed), (3, 2, 2));
    }
}
