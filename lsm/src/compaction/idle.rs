//! Merging while there is nothing else to do.
//!
//! When nothing was committed for [`Tuning::idle_after`] and no merge is due, merges are picked as if all limits were half of what they are: fewer tables and runs to
//! ask for whoever reads next, and room for the next burst of writes. It ends by itself, since what is below the lower limits is left alone; so a
//! database that rests does not write itself anew, and one that is written to now and then pays for it no more than it would with limits half as high.
//! Behind them what was flushed too hastily to be compressed is ([`super::late`]), once.

use std::time::Duration;

use crate::options::Tuning;

/// When the database is idle, and what is due then.
#[derive(Debug)]
pub(crate) struct Idle {
    after: Option<Duration>,
    tuning: Tuning,
    /// How many commits there were when one was last noticed, and when that was.
    last: Option<(u64, Duration)>,
    /// Whether nothing is left to do until something is committed.
    is_done: bool,
}

impl Idle {
    pub(crate) fn new(tuning: &Tuning) -> Self {
        let half = Tuning {
            level0_tables: tuning.level0_tables.div_ceil(2).max(2),
            level1_bytes: (tuning.level1_bytes / 2).max(1),
            tier_runs: tuning.tier_runs.div_ceil(2).max(2),
            ..tuning.clone()
        };
        Self { after: tuning.idle_after, tuning: half, last: None, is_done: false }
    }

    /// The limits to pick by, if nothing was committed for long enough.
    pub(crate) fn tuning(&mut self, commits: u64, now: Duration) -> Option<&Tuning> {
        let after = self.after?;
        match self.last {
            Some((seen, since)) if seen == commits => {
                (now.saturating_sub(since) >= after).then_some(&self.tuning)
            }
            _ => {
                self.last = Some((commits, now));
                self.is_done = false;
                None
            }
        }
    }

    /// Nothing is left to do by these limits.
    pub(crate) fn done(&mut self) {
        self.is_done = true;
    }

    /// In how long to look again; `None`: not before something else happens.
    pub(crate) fn next_try(&self, now: Duration) -> Option<Duration> {
        let (_, since) = self.last.filter(|_| !self.is_done)?;
        Some(since.saturating_add(self.after?).saturating_sub(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn idle(after: Option<Duration>) -> Idle {
        Idle::new(&Tuning { idle_after: after, ..Tuning::for_memory(64 << 20) })
    }

    #[test]
    fn it_is_idle_when_nothing_was_committed_for_long_enough() {
        let mut idle = idle(Some(10 * SECOND));
        assert!(idle.tuning(5, SECOND).is_none());
        assert_eq!(idle.next_try(3 * SECOND), Some(8 * SECOND));
        assert!(idle.tuning(5, 10 * SECOND).is_none());
        assert!(idle.tuning(6, 12 * SECOND).is_none(), "a commit came between");
        assert!(idle.tuning(6, 21 * SECOND).is_none());
        let tuning = idle.tuning(6, 22 * SECOND).unwrap();
        assert_eq!((tuning.level0_tables, tuning.tier_runs), (2, 6));
    }

    #[test]
    fn when_all_is_done_it_waits_for_the_next_commit() {
        let mut idle = idle(Some(SECOND));
        idle.tuning(1, SECOND);
        assert!(idle.tuning(1, 3 * SECOND).is_some());
        assert_eq!(idle.next_try(3 * SECOND), Some(Duration::ZERO));
        idle.done();
        assert_eq!(idle.next_try(4 * SECOND), None);
        idle.tuning(2, 5 * SECOND);
        assert_eq!(idle.next_try(5 * SECOND), Some(SECOND));
    }

    #[test]
    fn it_can_be_turned_off() {
        let mut idle = idle(None);
        assert!(idle.tuning(1, SECOND).is_none() && idle.tuning(1, 100 * SECOND).is_none());
        assert_eq!(idle.next_try(SECOND), None);
    }
}
