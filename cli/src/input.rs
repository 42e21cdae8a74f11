//! Standard input that can be interrupted, if there is one.
//!
//! A read that waits for a writer who says nothing would not notice that a signal asked to stop: so we wait for at most a tenth of a
//! second at a time, and look.

use std::io::{self, Read};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, OFlags, fcntl_getfl, fstat, major, minor};

use crate::exit::Failure;
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
    ///
    /// # Errors
    /// If it is closed: an empty file would pass for a backup of what was meant to come in.
    pub(crate) fn new(interrupt: Interrupt) -> Result<Self, Failure> {
        if was_closed().unwrap_or(false) {
            return Err(Failure::Usage(
                "standard input is closed: there is nothing to back up (`< /dev/null` makes an empty file)"
                    .into(),
            ));
        }
        Ok(Self { interrupt })
    }
}

/// Whether standard input was closed when the program began. Rust's runtime has then put the null device in its place, open for reading and
/// writing; who passes the null device on purpose opens it for reading.
fn was_closed() -> io::Result<bool> {
    let stdin = io::stdin();
    let stat = fstat(&stdin)?;
    let is_null = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
        && (major(stat.st_rdev), minor(stat.st_rdev)) == (1, 3);
    Ok(is_null && fcntl_getfl(&stdin)? & OFlags::RWMODE == OFlags::RDWR)
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
