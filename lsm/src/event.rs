//! What happens inside, told to whoever asked to be told.
//!
//! Whoever acts puts an [`Event`] into a queue, which takes a moment and waits for nobody, whatever locks it holds. The listener is called from elsewhere: by
//! a thread of its own, or, where the database has no threads ([`crate::Background::Manual`], read-only), by the caller at the end of
//! a call, when no lock is held. One call at a time, in the order of the queue. So a listener that takes its time delays other events and
//! nothing else; when too many wait, some are lost, and that is told too. Its panics end with it.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::sync::{Condvar, Mutex};

use crate::error::Error;
use crate::filename::FileNumber;
use crate::journal::LogReport;
use crate::key::SequenceNumber;

/// Events that may wait for the listener.
const WAITING_MAX: usize = 10_000;

/// Something that happened. More kinds may come, and more may be said of each.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// The database was opened; again after a failure, if that is said.
    #[non_exhaustive]
    Opened {
        /// Whether it was [`Db::reopen`](crate::Db::reopen).
        again: bool,
        /// The logs that were read, each with its verdict.
        logs: Vec<LogReport>,
        /// The last sequence number that counts.
        last_sequence: SequenceNumber,
        /// Whether something may be lost that had been acknowledged.
        is_lossy: bool,
    },
    /// It was closed.
    #[non_exhaustive]
    Closed {
        /// Why not in order, if so.
        error: Option<Error>,
    },
    /// A write or a sync failed: nothing is acknowledged any more.
    #[non_exhaustive]
    Failed {
        /// The failure.
        error: Error,
    },
    /// A keyspace was made.
    #[non_exhaustive]
    KeyspaceMade {
        /// Its name.
        keyspace: Arc<str>,
    },
    /// A keyspace was dropped.
    #[non_exhaustive]
    KeyspaceDropped {
        /// Its name.
        keyspace: Arc<str>,
    },
    /// Memtables begin to be written to tables.
    #[non_exhaustive]
    FlushBegun {
        /// How many.
        memtables: usize,
        /// The memory that they take, in bytes.
        bytes: usize,
    },
    /// They are in tables.
    #[non_exhaustive]
    FlushDone {
        /// How many tables there are more.
        tables: usize,
        /// Bytes of those.
        bytes: u64,
        /// Everything up to this sequence number is in tables.
        through: SequenceNumber,
    },
    /// Tables begin to be merged.
    #[non_exhaustive]
    MergeBegun {
        /// Of this keyspace.
        keyspace: Arc<str>,
        /// How many.
        tables: usize,
        /// Their bytes.
        bytes: u64,
        /// The level that they are merged into.
        level: usize,
    },
    /// They are merged.
    #[non_exhaustive]
    MergeDone {
        /// The keyspace.
        keyspace: Arc<str>,
        /// Tables that came of it.
        tables: usize,
        /// Their bytes.
        bytes: u64,
        /// The level that they are in.
        level: usize,
    },
    /// A merge was not ended; what it had written goes, what it merged stays.
    #[non_exhaustive]
    MergeGivenUp {
        /// The keyspace.
        keyspace: Arc<str>,
        /// What could not be read. `None`: its keyspace was dropped, the database was closed or has failed.
        error: Option<Error>,
    },
    /// A table went to another level as it is.
    #[non_exhaustive]
    TableMoved {
        /// The keyspace.
        keyspace: Arc<str>,
        /// The number in the name of its file.
        file: FileNumber,
        /// The level that it is in now.
        level: usize,
    },
    /// A table is part of the database.
    #[non_exhaustive]
    TableMade {
        /// The keyspace.
        keyspace: Arc<str>,
        /// The number in the name of its file.
        file: FileNumber,
        /// The level that it is in.
        level: usize,
        /// Its bytes.
        bytes: u64,
    },
    /// The file of a table that nobody needs was removed.
    #[non_exhaustive]
    TableRemoved {
        /// The number in the name of the file.
        file: FileNumber,
    },
    /// A writer waits, and is not merely slowed.
    #[non_exhaustive]
    StallBegun {
        /// For what.
        cause: StallCause,
    },
    /// It goes on.
    #[non_exhaustive]
    StallEnded {
        /// What it waited for.
        cause: StallCause,
        /// How long.
        waited: Duration,
    },
    /// The listener took too long, and so many events were not told.
    #[non_exhaustive]
    Lost {
        /// How many.
        events: u64,
    },
}

/// What a writer waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StallCause {
    /// For a flush: all memory is taken that memtables may take.
    Flush,
    /// For a merge: there are too many tables in level 0.
    Merge,
}

/// Whoever is told.
#[derive(Clone)]
pub(crate) struct Listener(Arc<dyn Fn(&Event) + Send + Sync>);

impl Listener {
    pub(crate) fn new(listener: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        Self(Arc::new(listener))
    }
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Listener")
    }
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Event>,
    /// So many did not fit behind those that wait.
    lost: u64,
    /// Somebody is calling the listener.
    is_telling: bool,
    has_ended: bool,
}

impl Queue {
    fn next(&mut self) -> Option<Event> {
        self.waiting.pop_front().or_else(|| match std::mem::take(&mut self.lost) {
            0 => None,
            events => Some(Event::Lost { events }),
        })
    }
}

/// The queue, and the listener behind it. See the module.
#[derive(Debug)]
pub(crate) struct Events {
    listener: Option<Listener>,
    /// Whether a thread calls the listener, and nobody else.
    has_thread: bool,
    queue: Mutex<Queue>,
    came: Condvar,
    panics: AtomicU64,
}

impl Events {
    pub(crate) fn new(listener: Option<Listener>, has_thread: bool) -> Self {
        Self {
            has_thread: has_thread && listener.is_some(),
            listener,
            queue: Mutex::default(),
            came: Condvar::new(),
            panics: AtomicU64::new(0),
        }
    }

    /// Whether a thread is to run [`Self::run`].
    pub(crate) fn needs_thread(&self) -> bool {
        self.has_thread
    }

    /// Puts an event into the queue, if anybody is to be told. Whatever the caller holds is no matter.
    #[inline]
    pub(crate) fn tell(&self, event: impl FnOnce() -> Event) {
        if self.listener.is_some() {
            self.put(event());
        }
    }

    fn put(&self, event: Event) {
        {
            let mut queue = self.queue.lock();
            if queue.waiting.len() >= WAITING_MAX {
                queue.lost += 1;
                return;
            }
            match std::mem::take(&mut queue.lost) {
                0 => {}
                events => queue.waiting.push_back(Event::Lost { events }),
            }
            queue.waiting.push_back(event);
        }
        if self.has_thread {
            self.came.notify_one();
        }
    }

    /// Calls the listener with what waits, where no thread does it. The caller holds no lock. If somebody is at it already (a listener that uses the
    /// database, say), that one goes on until nothing waits.
    pub(crate) fn deliver(&self) {
        if self.listener.is_none() || self.has_thread {
            return;
        }
        let mut queue = self.queue.lock();
        if queue.is_telling {
            return;
        }
        queue.is_telling = true;
        while let Some(event) = queue.next() {
            drop(queue);
            self.call(&event);
            queue = self.queue.lock();
        }
        queue.is_telling = false;
    }

    /// Calls the listener until [`Self::end`], and for what waits then.
    pub(crate) fn run(&self) {
        let mut queue = self.queue.lock();
        loop {
            match queue.next() {
                Some(event) => {
                    drop(queue);
                    self.call(&event);
                    queue = self.queue.lock();
                }
                None if queue.has_ended => return,
                None => queue = self.came.wait(queue),
            }
        }
    }

    /// Nothing will be told any more, but for what waits.
    pub(crate) fn end(&self) {
        self.queue.lock().has_ended = true;
        self.came.notify_all();
        self.deliver();
    }

    fn call(&self, event: &Event) {
        if let Some(Listener(listener)) = &self.listener
            && catch_unwind(AssertUnwindSafe(|| listener(event))).is_err()
        {
            self.panics.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How often the listener panicked.
    pub(crate) fn panics(&self) -> u64 {
        self.panics.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Weak;

    use super::*;

    fn lost_or_file(event: &Event) -> (bool, u64) {
        match event {
            Event::Lost { events } => (true, *events),
            Event::TableRemoved { file } => (false, *file),
            _ => unreachable!("nothing else was told"),
        }
    }

    #[test]
    fn what_does_not_fit_is_counted_in_its_place() {
        let told = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&told);
        let events =
            Events::new(Some(Listener::new(move |event| sink.lock().push(lost_or_file(event)))), false);
        let max = WAITING_MAX as u64;
        (0..max + 5).for_each(|file| events.tell(|| Event::TableRemoved { file }));
        events.deliver();
        events.tell(|| Event::TableRemoved { file: max + 5 });
        events.deliver();
        let told = told.lock();
        assert_eq!(told.len(), WAITING_MAX + 2);
        assert_eq!(told[WAITING_MAX - 1..], [(false, max - 1), (true, 5), (false, max + 5)]);
    }

    #[test]
    fn a_listener_that_tells_is_told_behind() {
        let told = Arc::new(Mutex::new(Vec::new()));
        let (events, sink) = (Arc::new(Mutex::new(Weak::<Events>::new())), Arc::clone(&told));
        let own = Arc::clone(&events);
        let listener = Listener::new(move |event| {
            let (_, file) = lost_or_file(event);
            sink.lock().push(file);
            let events = own.lock().upgrade();
            if let Some(events) = events
                && file < 3
            {
                events.tell(|| Event::TableRemoved { file: file + 1 });
                events.deliver();
            }
        });
        let queue = Arc::new(Events::new(Some(listener), false));
        *events.lock() = Arc::downgrade(&queue);
        queue.tell(|| Event::TableRemoved { file: 0 });
        queue.deliver();
        assert_eq!(*told.lock(), [0, 1, 2, 3]);
    }

    #[test]
    fn nobody_asked_and_nothing_is_made() {
        let events = Events::new(None, true);
        events.tell(|| unreachable!("nobody is told"));
        events.deliver();
        assert!(!events.needs_thread());
    }
}
