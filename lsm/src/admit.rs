//! Before a commit: a writer pays what merging lags behind, and waits while all that may be in memory is.
//!
//! Nobody waits for what nobody does: whoever would wait for a merge runs its steps, if no one else is at it; and where there is nothing that could
//! be merged, waiting would be for ever, so the writer goes on.

use std::time::Duration;

use crate::compaction::pace::Debt;
use crate::engine::{Engine, Progress};
use crate::error::Result;
use crate::event::{Event, StallCause};
use crate::levels::View;
use crate::options::{Background, Tuning};
use crate::write::buffered_bytes;

/// A writer that waits: counted and told when it begins to, and told when it goes on.
struct Stall<'a> {
    engine: &'a Engine,
    cause: StallCause,
    since: Duration,
}

impl<'a> Stall<'a> {
    fn new(engine: &'a Engine, cause: StallCause) -> Self {
        engine.counters.stalled();
        engine.events.tell(|| Event::StallBegun { cause });
        Self { engine, cause, since: engine.clock.now() }
    }
}

impl Drop for Stall<'_> {
    fn drop(&mut self) {
        let (cause, clock) = (self.cause, &self.engine.clock);
        self.engine
            .events
            .tell(|| Event::StallEnded { cause, waited: clock.now().saturating_sub(self.since) });
    }
}

impl Engine {
    /// How far merging lags.
    pub(crate) fn debt(&self) -> Debt {
        let view = self.view();
        let at_most = Debt::of(&view, &self.tuning, |_| false);
        if !at_most.is_felt() {
            // As nearly always: then it is no matter what merges keep away from.
            return at_most;
        }
        let now = self.clock.now();
        let avoided = self.avoided.lock();
        Debt::of(&view, &self.tuning, |file| avoided.contains(file, now))
    }

    /// Whether writers pay nothing and wait for nothing in a View; said once, when it is installed.
    pub(crate) fn is_easy(view: &View, tuning: &Tuning) -> bool {
        view.frozen.len() < tuning.frozen_max && !Debt::of(view, tuning, |_| false).is_felt()
    }

    /// Returns when a batch of so many bytes may be committed.
    ///
    /// # Errors
    /// Closed, Failed, if that comes while it waits; those of what it runs itself.
    pub(crate) fn admit(&self, batch_bytes: usize) -> Result<()> {
        if self.is_at_ease() {
            return Ok(());
        }
        match self.background {
            Background::Threads => self.pay(batch_bytes)?,
            Background::Manual => {
                if self.debt().is_felt() {
                    // Nothing, if somebody else is at it.
                    self.try_compaction_step()?;
                }
                if self.debt().is_whole() {
                    self.wait_for_merge()?;
                }
            }
        }
        let must_wait = |engine: &Self| {
            let view = engine.view();
            view.frozen.len() >= engine.tuning.frozen_max
                && buffered_bytes(&view, &engine.tuning) >= engine.tuning.write_buffer_bytes
        };
        if !must_wait(self) {
            self.pay_for_backlog(batch_bytes);
            return Ok(());
        }
        let _stall = Stall::new(self, StallCause::Flush);
        while must_wait(self) {
            match self.background {
                Background::Manual => {
                    self.flush_step()?;
                }
                Background::Threads => {
                    let done = || !must_wait(self) || self.check_writable().is_err();
                    self.wait_until(done, None);
                }
            }
            self.check_writable()?;
        }
        Ok(())
    }

    /// See [`Db::write_pressure`](crate::Db::write_pressure).
    pub(crate) fn write_pressure(&self) -> f64 {
        self.debt().as_f64().max(self.backlog_full())
    }

    /// Whether as many memtables wait for a flush as may before writers do.
    pub(crate) fn all_wait_that_may(&self, view: &View) -> bool {
        // Where only one may wait, none does behind it: the thread that flushes would be kept waiting for the next.
        view.frozen.len() >= self.tuning.frozen_max.max(2)
    }

    /// How full the open memtables are, 1 being full, where all that may wait for a flush do; else 0.
    fn backlog_full(&self) -> f64 {
        let view = self.view();
        if !self.all_wait_that_may(&view) {
            return 0.0;
        }
        #[expect(clippy::cast_precision_loss, reason = "a ratio: the last bits are no matter")]
        let full = buffered_bytes(&view, &self.tuning) as f64 / self.tuning.write_buffer_bytes.max(1) as f64;
        full.min(1.0)
    }

    /// Waits as long as is due for a batch while memtables wait for their flush (`backlog.rs`). Without threads the writer flushes when it must.
    fn pay_for_backlog(&self, batch_bytes: usize) {
        let full = self.backlog_full();
        if full == 0.0 || self.background == Background::Manual {
            return;
        }
        let wait = self.backlog.pay(batch_bytes, full, self.clock.now());
        if !wait.is_zero() {
            self.counters.delayed(wait);
            self.clock.sleep(wait);
        }
    }

    /// Waits as long as the debt demands for a batch: piece by piece, so that a small batch does not stand behind the whole of a large one.
    fn pay(&self, batch_bytes: usize) -> Result<()> {
        if !self.debt().is_felt() {
            return Ok(());
        }
        #[expect(clippy::cast_precision_loss, reason = "a batch has at most 2^30 bytes")]
        let mut left = batch_bytes as f64;
        loop {
            self.check_writable()?;
            let debt = self.debt();
            if debt.is_whole() && self.wait_for_merge()? {
                continue;
            }
            if left <= 0.0 || !debt.is_felt() || debt.is_whole() {
                return Ok(());
            }
            let (paid, wait) = self.bucket.lock().pay(left, debt, self.clock.now());
            left -= paid;
            if !wait.is_zero() {
                self.counters.delayed(wait);
                self.clock.sleep(wait);
            }
        }
    }

    /// Waits until the debt is less than whole; `false` where no merge can make it less.
    fn wait_for_merge(&self) -> Result<bool> {
        let _stall = Stall::new(self, StallCause::Merge);
        while self.debt().is_whole() {
            self.check_writable()?;
            match self.try_compaction_step()? {
                Some(Progress::Working) => {}
                // It may have become less meanwhile.
                Some(Progress::Idle) => return Ok(!self.debt().is_whole()),
                None => {
                    let may_go_on = || {
                        !self.debt().is_whole()
                            || self.check_writable().is_err()
                            || self.compaction_job.try_lock().is_some()
                    };
                    self.wait_until(may_go_on, None);
                }
            }
        }
        Ok(true)
    }
}
