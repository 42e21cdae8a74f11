//! A writer that is held to so many bytes a second.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::convert::float;

/// Whoever is ahead by less goes on: the system wakes nobody to the microsecond.
const AHEAD_MIN: Duration = Duration::from_millis(1);
/// A longer pause looks in between whether it is still wanted.
const NAP_MAX: Duration = Duration::from_millis(50);

/// What may be written by now.
pub(super) struct Pace {
    bytes_per_second: Option<u64>,
    began: Instant,
    bytes: u64,
}

impl Pace {
    /// From now on so many bytes a second; `None` or none: as fast as it goes.
    pub(super) fn new(bytes_per_second: Option<u64>) -> Self {
        let bytes_per_second = bytes_per_second.filter(|rate| *rate > 0);
        Self { bytes_per_second, began: Instant::now(), bytes: 0 }
    }

    /// Counts bytes that were written, and waits until they may have been, or until `stop`.
    pub(super) fn wait(&mut self, bytes: usize, stop: &AtomicBool) {
        let Some(rate) = self.bytes_per_second else { return };
        self.bytes += bytes as u64;
        let due = Duration::from_secs_f64(float(self.bytes) / float(rate));
        loop {
            let ahead = due.saturating_sub(self.began.elapsed());
            if ahead < AHEAD_MIN || stop.load(Ordering::Relaxed) {
                return;
            }
            std::thread::sleep(ahead.min(NAP_MAX));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_ahead_waits_unless_told_to_stop() {
        let (go_on, stop) = (AtomicBool::new(false), AtomicBool::new(true));
        let mut pace = Pace::new(Some(1_000_000));
        for _ in 0..300 {
            pace.wait(100, &go_on);
        }
        assert!(
            pace.began.elapsed() >= Duration::from_millis(28),
            "thirty milliseconds' worth, but for the last"
        );
        let mut years = Pace::new(Some(1));
        years.wait(1 << 40, &stop);
        Pace::new(None).wait(usize::MAX, &go_on);
        Pace::new(Some(0)).wait(1 << 40, &go_on);
    }
}
