//! SIGINT and SIGTERM: the first asks the operation to stop where it safely can, the second stops at once.
//!
//! Stopping at once is safe too, as any crash is; it only leaves more for the next run to do again.
//!
//! What the first one asks for takes a moment: packs under way are finished. So it is answered with a sentence at once, by a thread of
//! its own, since a handler may not print, and whoever works looks for the signal only between two steps.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};

use crate::exit::{Exit, Failure};

/// The signals that ask to stop.
const SIGNALS: [i32; 3] = [SIGINT, SIGTERM, SIGHUP];

/// Whether a signal has asked to stop.
#[derive(Clone, Debug, Default)]
pub(crate) struct Interrupt {
    asked: Arc<AtomicBool>,
}

impl Interrupt {
    /// Listens from now on.
    ///
    /// # Errors
    /// If the system refuses the handlers.
    pub(crate) fn install() -> io::Result<Self> {
        let interrupt = Self::default();
        for signal in SIGNALS {
            // The order matters: the second signal must find the flag that the first one set.
            let code = i32::from(Exit::Interrupted as u8);
            signal_hook::flag::register_conditional_shutdown(signal, code, Arc::clone(&interrupt.asked))?;
            signal_hook::flag::register(signal, Arc::clone(&interrupt.asked))?;
        }
        Ok(interrupt)
    }

    /// Whether a signal came.
    pub(crate) fn asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }

    /// A failure if a signal came.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        if self.asked() { Err(Failure::Interrupted) } else { Ok(()) }
    }
}

/// Answers the first signal that comes while it lives.
#[derive(Debug)]
pub(crate) struct Answer {
    signals: Handle,
    thread: Option<JoinHandle<()>>,
}

impl Answer {
    /// Has `say` called when a signal comes, once.
    ///
    /// # Errors
    /// If the system refuses a handler or a thread.
    pub(crate) fn to_signals(say: impl FnOnce() + Send + 'static) -> io::Result<Self> {
        let mut signals = Signals::new(SIGNALS)?;
        let handle = signals.handle();
        let thread = thread::Builder::new().name("signals".into()).spawn(move || {
            // None comes when nobody waits for one any more.
            if signals.forever().next().is_some() {
                say();
            }
        })?;
        Ok(Self { signals: handle, thread: Some(thread) })
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.signals.close();
        if let Some(thread) = self.thread.take() {
            // Nothing in it panics but the printing, whose failure is nobody's concern now.
            let _ = thread.join();
        }
    }
}
