//! The threads that an engine keeps: one that flushes, one that compacts, or two that take turns at it, and one that lets go of what nobody needs any more. They stop in
//! order when the database closes. (Loads, and merges of rows, start others for as long as they take.)
//!
//! Merging is work that can wait, so its thread lets others go first. A thread that is like any other does in its place what cannot wait: the last step of a merge, whose
//! locks others need, and, should it come to wait for so long that writers must be slowed, all of it until that is over.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::engine::{Engine, Progress};
use crate::error::{Error, ErrorKind, Result};
use crate::event::Events;
use crate::niceness;

/// After so long without a synced commit the journal says how much of it is durable.
const MARK_AFTER: Duration = Duration::from_millis(50);

/// From this debt on merges cannot wait: where writers begin to be slowed to what a disk can take.
const HURRY_DEBT: f64 = 0.2;

/// The threads.
#[derive(Debug, Default)]
pub(crate) struct Workers {
    handles: Vec<JoinHandle<()>>,
}

impl Workers {
    /// Starts them.
    ///
    /// # Errors
    /// Io if the system has no thread to give: one may run then, until the engine is closed.
    pub(crate) fn start(&mut self, engine: &Arc<Engine>) -> Result<()> {
        self.spawn("lsm-flush", engine, flush)?;
        self.spawn("lsm-sweep", engine, sweep)?;
        if gives_way(engine) {
            self.spawn("lsm-hurry", engine, |engine| compact(engine, is_hurried))?;
        }
        self.spawn("lsm-compact", engine, |engine| {
            if gives_way(engine) {
                niceness::lower(engine.tuning.merge_niceness);
                compact(engine, |engine| !is_hurried(engine));
            } else {
                compact(engine, |_| true);
            }
        })
    }

    pub(crate) fn spawn(&mut self, name: &str, engine: &Arc<Engine>, run: fn(&Engine)) -> Result<()> {
        let engine = Arc::clone(engine);
        let thread = std::thread::Builder::new().name(name.to_owned());
        let handle = thread
            .spawn(move || {
                // A panic is a bug of ours; it must not leave writers waiting for a thread that is no more.
                let _guard = FailOnPanic(&engine);
                run(&engine);
            })
            .map_err(|error| Error::io("start a thread", error))?;
        self.handles.push(handle);
        Ok(())
    }

    /// Waits until they have stopped, which they do once the engine is closed.
    pub(crate) fn join(&mut self) {
        for handle in self.handles.drain(..) {
            // Its panic is the engine's failure already.
            let _ = handle.join();
        }
    }
}

/// The thread that calls the listener to events, if one is needed.
#[derive(Debug, Default)]
pub(crate) struct Teller(Option<JoinHandle<()>>);

impl Teller {
    /// Starts it.
    ///
    /// # Errors
    /// Io if the system has no thread to give.
    pub(crate) fn start(events: &Arc<Events>) -> Result<Self> {
        if !events.needs_thread() {
            return Ok(Self(None));
        }
        let events = Arc::clone(events);
        let thread = std::thread::Builder::new().name("lsm-events".to_owned());
        let handle =
            thread.spawn(move || events.run()).map_err(|error| Error::io("start a thread", error))?;
        Ok(Self(Some(handle)))
    }

    /// Waits until everything was told, after [`Events::end`]; but not for itself, if it is the listener that closes the database.
    pub(crate) fn join(self) {
        if let Some(handle) = self.0
            && handle.thread().id() != std::thread::current().id()
        {
            let _ = handle.join();
        }
    }
}

struct FailOnPanic<'a>(&'a Engine);

impl Drop for FailOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fail(Error::new(ErrorKind::Failed, "a background thread panicked: a bug of this crate"));
        }
    }
}

fn may_stop(engine: &Engine) -> bool {
    engine.is_closed() || engine.check_healthy().is_err()
}

/// Flushes while there is something to flush; between, looks after the log and says what of it is durable, and gives back memory that was made ready when nothing is written.
fn flush(engine: &Engine) {
    while !may_stop(engine) {
        // Between the steps too: writers are at their fastest then.
        match engine.tend_log().and_then(|_| engine.flush_step()) {
            // Only a failure: it is remembered, and everybody is told.
            Err(_) => break,
            Ok(Progress::Working) => continue,
            Ok(Progress::Idle) => {}
        }
        let unneeded = engine.give_back_ready();
        let has_work = || may_stop(engine) || !engine.view().frozen.is_empty() || engine.is_tend_due();
        if engine.counters.is_mark_due() {
            if !engine.wait_until(has_work, Some(MARK_AFTER)) {
                engine.counters.marked();
                let journal = engine.commit.lock().journal.clone();
                if let Some(journal) = journal
                    && let Err(error) = journal.mark()
                    && error.kind() != ErrorKind::Closed
                {
                    engine.fail(error);
                }
            }
        } else {
            engine.wait_until(|| has_work() || engine.counters.is_mark_due(), unneeded);
        }
    }
    engine.keep_nothing_ready();
}

/// Lets go of what others are done with, and removes files.
fn sweep(engine: &Engine) {
    let is_over = || engine.is_closed() || engine.has_failed();
    engine.retired.serve(is_over, |tables_went| {
        if tables_went {
            engine.share_memory();
        }
        engine.make_memory_ready();
        engine.budget.give_back();
        engine.remove_some_obsolete()
    });
}

/// Whether merges are left to a thread that lets others go first.
fn gives_way(engine: &Engine) -> bool {
    niceness::IS_KNOWN && engine.tuning.merge_niceness > 0
}

fn is_hurried(engine: &Engine) -> bool {
    engine.merge_ends.load(Ordering::Relaxed) || engine.debt().as_f64() >= HURRY_DEBT
}

/// Compacts while there is something to compact and it is this thread's turn.
fn compact(engine: &Engine, is_own_turn: impl Fn(&Engine) -> bool) {
    while !may_stop(engine) {
        if !is_own_turn(engine) {
            // Whose turn it is may have changed by the time alone, and the other one may sleep.
            engine.notify();
            engine.wait_until(|| may_stop(engine) || is_own_turn(engine), None);
            continue;
        }
        // Before the step: what changes while it looks for something to do is a change too, and so is a pause that ends. The view is
        // told by its address, and not kept: its tables may go while the step waits.
        let view = Arc::downgrade(&engine.view());
        let now = engine.clock.now();
        match engine.compaction_step() {
            Err(_) => return,
            Ok(Progress::Working) => {}
            Ok(Progress::Idle) => {
                let times = [engine.avoided.lock().next_try(now), engine.idle.lock().next_try(now)];
                let next_try = times.into_iter().flatten().min();
                let has_changed = || !Weak::ptr_eq(&view, &Arc::downgrade(&engine.view()));
                engine.wait_until(|| may_stop(engine) || has_changed(), next_try);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::fs::{Fault, FaultCall, FaultEffect, FaultFs, FileSystem, MemFs};
    use crate::{Background, Db, KeyspaceOptions, Tuning};

    #[test]
    fn whose_turn_it_becomes_by_the_time_alone_is_woken() {
        let fs = FaultFs::new(Arc::new(MemFs::new()));
        let tuning = Tuning {
            level0_tables: 2,
            level0_tables_slow: 2,
            idle_after: None,
            ..Tuning::for_memory(1 << 20)
        };
        let db = Db::builder("/db")
            .file_system(Arc::new(fs.clone()))
            .background(Background::Manual)
            .memory_bytes(1 << 20)
            .tuning(tuning)
            .open()
            .unwrap();
        let keyspace = db.keyspace("a", KeyspaceOptions::sorted()).unwrap();
        let level0 = || db.stats().keyspaces.first().map_or(0, |a| a.level_tables[0]);
        // More than are slowed for and fewer than are waited for; and each overlaps the others: they must be read.
        for number in 0..3 {
            for key in ["first", "last"] {
                keyspace.put(key, format!("{number}")).unwrap();
            }
            db.flush().unwrap();
        }
        assert_eq!(level0(), 3);
        assert!(is_hurried(db.engine()));
        let names = fs.read_dir(Path::new("/db")).unwrap();
        let tables = names
            .iter()
            .filter_map(|name| name.file_name()?.to_str())
            .filter(|name| name.ends_with(".table"));
        let newest = tables.max().unwrap().to_owned();
        fs.inject(Fault::sticky(FaultCall::Read, 1, FaultEffect::Error).on(&newest));
        let mut workers = Workers::default();
        workers.start(db.engine()).unwrap();
        let wait = |is_done: &dyn Fn() -> bool| {
            (0..2000).any(|_| {
                std::thread::sleep(Duration::from_millis(10));
                is_done()
            })
        };
        assert!(wait(&|| db.stats().compaction_error.is_some()), "what is newest cannot be read");
        fs.clear();
        // Nobody writes, and nothing happens but that the pause ends, which brings the debt back.
        assert!(wait(&|| level0() == 0), "{:?}", db.stats().keyspaces);
        db.close().unwrap();
        workers.join();
    }
}
