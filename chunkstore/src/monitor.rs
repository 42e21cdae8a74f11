//! Progress and faults, reported as they happen: the library never prints and never decides an exit code.
//!
//! Walking, storing, verifying and healing hand each [`Fault`], with its place, to the [`Monitor`] and go on.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::Error;

/// On which side a fault lies: it decides the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FaultSide {
    /// Something to back up could not be read, or not as a whole.
    Source,
    /// A target could not be reached or written.
    Target,
    /// Bytes on a target are damaged or missing.
    Damage,
    /// Something could not be restored as it was.
    Destination,
}

/// One thing that went wrong while the rest went on.
#[derive(Clone, Debug)]
pub struct Fault {
    /// On which side it lies.
    pub side: FaultSide,
    /// What it is about: a path of the source or destination, fit to be shown ([`crate::shown`]), or `TARGET/OBJECT`.
    pub item: String,
    /// During what: `scan`, `read`, `put`, `verify`, `restore`, …
    pub during: &'static str,
    /// What happened.
    pub error: Error,
}

/// A step of a long operation, for progress bars and `--verbose`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A phase begins: its name, and its size in bytes and items where these are known or can be guessed beforehand.
    Phase {
        /// What is done now: `backup`, `restore`, `list`, `heal`, …
        name: &'a str,
        /// Bytes to go through, if known.
        bytes: Option<u64>,
        /// Items to go through, if known.
        items: Option<u64>,
    },
    /// Bytes and items done since the last such event.
    Advance {
        /// Bytes done.
        bytes: u64,
        /// Items done.
        items: u64,
    },
    /// An item is done: what happened to it (`new`, `modified`, `unchanged`, `restored`, `healed`, …) and its size.
    Item {
        /// The action.
        action: &'a str,
        /// Path or object, fit to be shown ([`crate::shown`]).
        item: &'a str,
        /// Its bytes.
        bytes: u64,
    },
    /// Something a person should know, that is no fault: a catalog that is rebuilt, an interrupted backup that goes on.
    Note(&'a str),
}

/// Who watches an operation. All methods may be called from many threads at once.
pub trait Monitor: Send + Sync {
    /// A thing went wrong; the operation goes on without it.
    fn fault(&self, fault: Fault);
    /// Progress was made.
    fn event(&self, event: Event<'_>);
    /// Whether the operation should stop as soon as it safely can.
    fn cancelled(&self) -> bool;
    /// Whether a backup should tell of each entry that stayed as it was: there may be millions, and naming them takes longer than
    /// passing them.
    fn wants_unchanged(&self) -> bool {
        false
    }
}

/// A monitor that keeps the faults and drops the rest: for tests and for callers who look at the end.
#[derive(Debug, Default)]
pub struct Collector {
    faults: parking_lot::Mutex<Vec<Fault>>,
    notes: parking_lot::Mutex<Vec<String>>,
    cancel: AtomicBool,
}

impl Collector {
    /// The faults so far.
    pub fn faults(&self) -> Vec<Fault> {
        self.faults.lock().clone()
    }

    /// The notes so far.
    pub fn notes(&self) -> Vec<String> {
        self.notes.lock().clone()
    }

    /// Asks the operation to stop.
    pub fn cancel(&self) {
        self.cancel.store(true, Ordering::Relaxed);
    }
}

impl Monitor for Collector {
    fn fault(&self, fault: Fault) {
        self.faults.lock().push(fault);
    }

    fn event(&self, event: Event<'_>) {
        if let Event::Note(note) = event {
            self.notes.lock().push(note.to_owned());
        }
    }

    fn cancelled(&self) -> bool {
        self.cancel.load(Ordering::Relaxed)
    }
}
