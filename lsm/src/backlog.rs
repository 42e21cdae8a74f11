//! What a writer pays while all memtables that may wait for their flush do wait: so that it slows down to what flushing manages, rather than run into a wall.
//!
//! The open memtables are being filled meanwhile, and when they are full there is nowhere to go: whoever writes then would stand for a whole flush. So the fuller
//! they are, the more a byte takes, in parts of what it takes to flush one, as the last flush showed: half of that where they are half full, all of it at six
//! tenths, without end when they are full. The thread that flushes has the next memtables waiting all the time: it is not kept from anything.
//!
//! Waits are few and of some milliseconds each, not many and short: a sleep costs more than it says, and one write in a thousand should not notice.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::sync::Mutex;

/// So much may be owed before a writer waits.
const CREDIT: Duration = Duration::from_millis(4);

/// The longest wait for a batch, and so much more for each mebibyte of it, up to a hundred milliseconds.
const WAIT_MAX: Duration = Duration::from_millis(6);
const LARGE_WAIT_MAX: Duration = Duration::from_millis(100);

/// What a flush manages at best and at worst, as far as writers are concerned, in nanoseconds for a mebibyte: four gigabytes and ten megabytes a second.
const NANOSECONDS_MIN: u64 = 250_000;
const NANOSECONDS_MAX: u64 = 100_000_000;

/// See the module.
#[derive(Debug)]
pub(crate) struct Backlog {
    /// Nanoseconds that a mebibyte of memtables took in the last flush.
    nanoseconds: AtomicU64,
    /// At this time everything is paid for.
    paid: Mutex<Duration>,
}

impl Default for Backlog {
    fn default() -> Self {
        Self { nanoseconds: AtomicU64::new(NANOSECONDS_MIN), paid: Mutex::default() }
    }
}

impl Backlog {
    /// So many bytes of memtables were flushed in such a time.
    pub(crate) fn flushed(&self, bytes: usize, time: Duration) {
        let mebibytes = (bytes >> 20) as u64;
        let Some(each) = u64::try_from(time.as_nanos()).ok().and_then(|time| time.checked_div(mebibytes))
        else {
            // So small a flush says nothing.
            return;
        };
        self.nanoseconds.store(each.clamp(NANOSECONDS_MIN, NANOSECONDS_MAX), Ordering::Relaxed);
    }

    /// How long whoever writes `bytes` at `now` waits, the open memtables being so full (1: full).
    pub(crate) fn pay(&self, bytes: usize, full: f64, now: Duration) -> Duration {
        let parts = price(full);
        #[expect(clippy::cast_precision_loss, reason = "a price: the last bits are no matter")]
        let mebibytes = bytes as f64 / f64::from(1 << 20);
        #[expect(clippy::cast_precision_loss, reason = "a price: the last bits are no matter")]
        let time = mebibytes * self.nanoseconds.load(Ordering::Relaxed) as f64 * parts;
        let parts_of_it = u32::try_from(bytes >> 20).unwrap_or(u32::MAX).saturating_add(1);
        let most = WAIT_MAX.saturating_mul(parts_of_it).min(LARGE_WAIT_MAX);
        let time = Duration::try_from_secs_f64(time / 1e9).unwrap_or(most).min(most);
        let mut paid = self.paid.lock();
        *paid = (*paid).max(now).saturating_add(time);
        let ahead = paid.saturating_sub(now);
        if ahead < CREDIT { Duration::ZERO } else { ahead.min(most) }
    }
}

/// What a byte takes, in parts of what it takes to flush it.
fn price(full: f64) -> f64 {
    if full >= 1.0 { f64::INFINITY } else { full * full / (1.0 - full) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_price_comes_to_what_a_flush_manages_before_the_wall() {
        assert_eq!(price(0.0), 0.0);
        assert!(price(0.3) < 0.15 && price(0.62) > 1.0 && price(0.95) > 15.0 && price(1.0).is_infinite());
        let backlog = Backlog::default();
        // A tenth of a second for 32 MiB.
        backlog.flushed(32 << 20, Duration::from_millis(100));
        let (mut now, mut full) = (Duration::ZERO, 0.0);
        for _ in 0..64 {
            // What is written comes in pieces of 16 KiB, and takes no time of its own; nothing is flushed in that time.
            now += backlog.pay(16 << 10, full, now);
            full += 0.5 / 1024.0;
        }
        assert!(now < Duration::from_millis(5), "at first hardly anything: {now:?}");
        while full < 0.97 {
            now += backlog.pay(16 << 10, full, now);
            full += 0.5 / 1024.0;
        }
        assert!(now > Duration::from_millis(100), "a flush is over before the memtables are full: {now:?}");
    }

    #[test]
    fn nobody_waits_long_or_for_little() {
        let backlog = Backlog::default();
        backlog.flushed(1 << 20, Duration::from_secs(100));
        let waits: Vec<Duration> = (0..1000).map(|_| backlog.pay(100, 0.9, Duration::ZERO)).collect();
        assert!(waits.iter().all(|wait| wait.is_zero() || (CREDIT..=WAIT_MAX).contains(wait)), "{waits:?}");
        assert_eq!(
            backlog.pay(1 << 20, 0.99, Duration::from_secs(1)),
            2 * WAIT_MAX,
            "a large one waits longer"
        );
        assert_eq!(backlog.pay(1 << 30, 0.99, Duration::from_secs(2)), LARGE_WAIT_MAX);
        assert_eq!(backlog.pay(usize::MAX, 1.0, Duration::from_secs(3)), LARGE_WAIT_MAX);
        backlog.flushed(1000, Duration::from_secs(1));
        assert_eq!(backlog.nanoseconds.load(Ordering::Relaxed), NANOSECONDS_MAX, "too small to say anything");
    }
}
