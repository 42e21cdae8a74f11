//! Standard input that can be interrupted.
//!
//! A read that waits for a writer who says nothing would not notice that a signal asked to stop: so we wait for at most a tenth of a
//! second at a time, and look.

use std::io::{self, Read};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::interrupt::Interrupt;

/// Between two looks.
const LOOK_INTERVAL: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// Standard input.
#[derive(Debug)]
pub(crate) struct Input {
    interrupt: Interrupt,
}

impl Input {
    /// Standard input, given up when `interrupt` is asked.
    pub(crate) fn new(interrupt: Interrupt) -> Self {
        Self { interrupt }
    }
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let stdin = io::stdin();
        loop {
            if self.interrupt.asked() {
                // Not `Interrupted`: readers take that for a reason to try again.
                return Err(io::Error::other("interrupted"));
            }
            match poll(&mut [PollFd::new(&stdin, PollFlags::IN)], Some(&LOOK_INTERVAL)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => continue,
                Ok(_) => {}
                Err(errno) => return Err(errno.into()),
            }
            match rustix::io::read(&stdin, &mut *buffer) {
                Err(rustix::io::Errno::INTR) => {}
                result => return result.map_err(Into::into),
            }
        }
    }
}
