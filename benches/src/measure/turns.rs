//! What a thread waits for that is nobody's doing but the machine's: its turn at a processor, and, as long as it keeps that, what the machine's host takes of it.

use std::fs::File;
use std::os::unix::fs::FileExt;

use rustix::time::{ClockId, clock_gettime};

/// A thread's own account (Linux's /proc/thread-self/schedstat).
#[derive(Debug)]
pub(super) struct Turns(File);

/// The account as of now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Account {
    /// Nanoseconds on a processor. What the host took away is not among them where the host tells.
    ran: u64,
    /// Nanoseconds in which it could have run and was not let.
    waited: u64,
    /// How often it was given a processor.
    turns: u64,
}

impl Turns {
    /// That of the thread that calls; none where the system keeps none.
    pub(super) fn of_this_thread() -> Option<Self> {
        let turns = Self(File::open("/proc/thread-self/schedstat").ok()?);
        // Where nothing is counted there are zeros.
        (turns.now()?.turns > 0).then_some(turns)
    }

    /// To be called by the thread that it is of.
    pub(super) fn now(&self) -> Option<Account> {
        let mut text = [0; 64];
        let length = self.0.read_at(&mut text, 0).ok()?;
        let mut numbers = std::str::from_utf8(text.get(..length)?).ok()?.split_ascii_whitespace().skip(1);
        // The account's first number is as old as the last tick; this is exact.
        let time = clock_gettime(ClockId::ThreadCPUTime);
        let ran = u64::try_from(time.tv_sec).ok()? * 1_000_000_000 + u64::try_from(time.tv_nsec).ok()?;
        Some(Account { ran, waited: numbers.next()?.parse().ok()?, turns: numbers.next()?.parse().ok()? })
    }
}

impl Account {
    /// How much of what passed between two accounts was the thread's own: what it ran and slept. One that was not given a processor anew has not slept.
    pub(super) fn own_since(&self, before: &Self, passed: u64) -> u64 {
        if self.turns == before.turns {
            return passed.min(self.ran.saturating_sub(before.ran));
        }
        passed.saturating_sub(self.waited.saturating_sub(before.waited))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    #[test]
    fn what_was_slept_and_run_is_own_and_what_was_waited_is_not() {
        let before = Account { ran: 100, waited: 10, turns: 5 };
        let slept = Account { ran: 150, waited: 30, turns: 6 };
        assert_eq!(slept.own_since(&before, 1000), 980);
        let taken_away = Account { ran: 150, waited: 10, turns: 5 };
        assert_eq!(taken_away.own_since(&before, 1000), 50);
    }

    #[test]
    fn the_systems_account_goes_on() {
        // Not every system keeps one.
        let Some(turns) = Turns::of_this_thread() else { return };
        let (before, start) = (turns.now().unwrap(), Instant::now());
        std::thread::sleep(Duration::from_millis(20));
        let after = turns.now().unwrap();
        assert!(after.turns > before.turns, "{before:?} {after:?}");
        let passed = u64::try_from(start.elapsed().as_nanos()).unwrap();
        assert!(
            after.own_since(&before, passed) >= 10_000_000,
            "a sleep is the caller's own: {before:?} {after:?} {passed}"
        );
    }
}
