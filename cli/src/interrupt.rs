//! SIGINT and SIGTERM: the first asks the operation to stop where it safely can, the second stops at once.
//!
//! Stopping at once is safe too, as any crash is; it only leaves more for the next run to do again.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::exit::{Exit, Failure};

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
        for signal in [SIGINT, SIGTERM, SIGHUP] {
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
