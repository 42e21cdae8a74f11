//! Merging while there is nothing else to do.
//!
//! When nothing was committed for [`Tuning::idle_after`] and no merge is due, merges are picked as if all limits were half of what they are: fewer tables and runs to
//! ask for whoever reads next, and room for the next burst of writes. It ends by itself, since what is below the lower limits is left alone; so a
//! database that rests does not write itself anew, and one that is written to now and then pays for it no more than it would with limits half as high.
//!
//! After some times as long, what was flushed too hastily to be compressed is ([`super::late`]): all of it may have to be written once more, so that a pause between
//! two bursts, or in which something is read, is no reason yet.

use std::time::Duration;

use crate::options::Tuning;

/// When the database is idle, and what is due then.
#[derive(Debug)]
pub(crate) struct Idle {
    after: Option<Duration>,
    tuning: Tuning,
    /// How many commits there were when one was last noticed, and when that was.
    last: Option<(u64, Duration)>,
    done: Done,
}

/// What of the work of a pause is done; something that is committed ends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Done {
    Nothing,
    Merges,
    All,
}

/// A pause so many times as long as the one before merges is a long one.
const LONG: u32 = 6;

impl Idle {
    pub(crate) fn new(tuning: &Tuning) -> Self {
        let half = Tuning {
            level0_tables: tuning.level0_tables.div_ceil(2).max(2),
            level1_bytes: (tuning.level1_bytes / 2).max(1),
            tier_runs: tuning.tier_runs.div_ceil(2).max(2),
            ..tuning.clone()
        };
        Self { after: tuning.idle_after, tuning: half, last: None, done: Done::Nothing }
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
                self.done = Done::Nothing;
                None
            }
        }
    }

    /// Whether the pause is a long one, in which there is time for more than merges.
    pub(crate) fn is_long(&self, now: Duration) -> bool {
        self.long_at().is_some_and(|long_at| now >= long_at)
    }

    fn long_at(&self) -> Option<Duration> {
        let (_, since) = self.last?;
        Some(since.saturating_add(self.after?.saturating_mul(LONG)))
    }

    /// Nothing is left to do now.
    pub(crate) fn done(&mut self, now: Duration) {
        self.done = if self.is_long(now) { Done::All } else { Done::Merges };
    }

    /// In how long to look again; `None`: not before something else happens.
    pub(crate) fn next_try(&self, now: Duration) -> Option<Duration> {
        let (_, since) = self.last?;
        let at = match self.done {
            Done::Nothing => since.saturating_add(self.after?),
            Done::Merges => self.long_at()?,
            Done::All => return None,
        };
        Some(at.saturating_sub(now))
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
        idle.done(3 * SECOND);
        assert!(!idle.is_long(6 * SECOND));
        assert_eq!(idle.next_try(4 * SECOND), Some(3 * SECOND), "until the pause is a long one");
        assert!(idle.is_long(7 * SECOND));
        idle.done(7 * SECOND);
        assert_eq!(idle.next_try(8 * SECOND), None);
        idle.tuning(2, 9 * SECOND);
        assert!(!idle.is_long(9 * SECOND));
        assert_eq!(idle.next_try(9 * SECOND), Some(SECOND));
    }

    #[test]
    fn it_can_be_turned_off() {
        let mut idle = idle(None);
        assert!(idle.tuning(1, SECOND).is_none() && idle.tuning(1, 100 * SECOND).is_none());
        assert!(!idle.is_long(1000 * SECOND));
        assert_eq!(idle.next_try(SECOND), None);
    }
}
