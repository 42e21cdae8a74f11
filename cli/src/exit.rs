//! Exit codes, and the failures that choose them.
//!
//! restic's numbers where restic has them, so that scripts written for it stay right; three of our own above them. When an
//! operation ends with several kinds of fault, the gravest decides: see [`Tally::exit`].

use std::fmt;
use std::io;

use chunkstore::ErrorKind;
use chunkstore::monitor::{Fault, FaultSide};

/// The table of exit codes, for `--help`.
pub(crate) const HELP: &str = "\
Exit codes:
    0  done
    1  failed: no snapshot was made, nothing (more) was done
    3  done, but something could not be read, kept or restored: the snapshot or restore is partial
   10  there is no repository
   11  another process uses this machine's catalog of the repository
   12  wrong password
   20  damage was found and is still there
   21  damage was found, and all of it was healed
   22  done, but a target could not be reached or written: it lacks what the others have
  130  interrupted; the next run goes on
Of several the gravest is given: 20, then 3, then 22, then 21.";

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// All was done.
    Success = 0,
    /// It failed.
    Failure = 1,
    /// Done, without what could not be read, kept or restored.
    Partial = 3,
    /// There is no repository.
    NoRepository = 10,
    /// Another process holds the local state.
    Locked = 11,
    /// No key opens with the password.
    WrongPassword = 12,
    /// Damage was found and is still there.
    Damage = 20,
    /// Damage was found and healed.
    Healed = 21,
    /// Done, but not on every target.
    TargetUnreachable = 22,
    /// A signal asked to stop.
    Interrupted = 130,
    /// Nobody reads our output any more: as if the signal had killed us, which is what `| head` expects.
    BrokenPipe = 141,
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a verb ended before its end.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The library says so.
    Library(chunkstore::Error),
    /// What was asked for makes no sense, or something around the program is missing: the sentence says what to do.
    Usage(String),
    /// Standard output could not be written.
    Output(io::Error),
    /// A signal asked to stop.
    Interrupted,
}

impl Failure {
    /// The exit code that it gives.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Usage(_) => Exit::Failure,
            Self::Interrupted => Exit::Interrupted,
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::BrokenPipe,
            Self::Output(_) => Exit::Failure,
            Self::Library(error) => match error.kind() {
                ErrorKind::NoRepository => Exit::NoRepository,
                ErrorKind::Locked => Exit::Locked,
                ErrorKind::WrongPassword => Exit::WrongPassword,
                ErrorKind::Damage => Exit::Damage,
                ErrorKind::Cancelled => Exit::Interrupted,
                // `TargetUnreachable` promises that the rest was done: a verb that ended for lack of targets failed.
                ErrorKind::Source
                | ErrorKind::Target
                | ErrorKind::TargetFull
                | ErrorKind::NotFound
                | ErrorKind::AlreadyExists
                | ErrorKind::NewerFormat
                | ErrorKind::NotTheSame
                | ErrorKind::Destination
                | ErrorKind::Local
                | ErrorKind::InvalidArgument => Exit::Failure,
                _ => Exit::Failure,
            },
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Library(error) => error.fmt(f),
            Self::Usage(sentence) => f.write_str(sentence),
            Self::Output(error) => write!(f, "standard output cannot be written: {error}"),
            Self::Interrupted => f.write_str("interrupted"),
        }
    }
}

impl From<chunkstore::Error> for Failure {
    fn from(error: chunkstore::Error) -> Self {
        Self::Library(error)
    }
}

/// Whether a damaged object was met while another target could still have it good: if none had, that is a fault of its own.
pub(crate) fn is_survived(fault: &Fault) -> bool {
    fault.side == FaultSide::Damage && fault.during == "read"
}

/// How many faults there were on each side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Of the source.
    pub(crate) source: u64,
    /// Of targets.
    pub(crate) target: u64,
    /// Damage that is still there.
    pub(crate) damage: u64,
    /// Of the destination of a restore.
    pub(crate) destination: u64,
    /// Damage that cost nothing, because another target had it good.
    pub(crate) fell_over: u64,
}

impl Tally {
    /// Counts a fault.
    pub(crate) fn count(&mut self, fault: &Fault) {
        let count = match fault.side {
            FaultSide::Source => &mut self.source,
            FaultSide::Target => &mut self.target,
            FaultSide::Damage if is_survived(fault) => &mut self.fell_over,
            FaultSide::Damage => &mut self.damage,
            FaultSide::Destination => &mut self.destination,
        };
        *count += 1;
    }

    /// All faults together, but for what cost nothing.
    pub(crate) fn faults(&self) -> u64 {
        self.source + self.target + self.damage + self.destination
    }

    /// The exit code of a question or a restore, which one target can answer: that another is away costs it nothing.
    pub(crate) fn exit_of_reading(self) -> Exit {
        Self { target: 0, ..self }.exit()
    }

    /// The exit code of an operation that came to its end: damage that remains before what is stored or restored nowhere,
    /// that before a target that lags behind.
    pub(crate) fn exit(&self) -> Exit {
        if self.damage > 0 {
            Exit::Damage
        } else if self.source + self.destination > 0 {
            Exit::Partial
        } else if self.target > 0 {
            Exit::TargetUnreachable
        } else {
            Exit::Success
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_restics() {
        let library = |kind| Failure::Library(chunkstore::Error::new(kind, "x")).exit() as u8;
        assert_eq!(library(ErrorKind::NoRepository), 10);
        assert_eq!(library(ErrorKind::Locked), 11);
        assert_eq!(library(ErrorKind::WrongPassword), 12);
        assert_eq!(library(ErrorKind::Cancelled), 130);
        assert_eq!(library(ErrorKind::NewerFormat), 1);
        assert_eq!(library(ErrorKind::Target), 1);
        assert_eq!(Failure::Interrupted.exit() as u8, 130);
        assert_eq!(Failure::Output(io::ErrorKind::BrokenPipe.into()).exit() as u8, 141);
        assert_eq!(Failure::Output(io::ErrorKind::StorageFull.into()).exit() as u8, 1);
    }

    #[test]
    fn the_gravest_fault_decides() {
        let mut tally = Tally::default();
        assert_eq!(tally.exit(), Exit::Success);
        let fault = |side, during| Fault {
            side,
            item: "x".into(),
            during,
            error: chunkstore::Error::new(ErrorKind::Target, "x"),
        };
        tally.count(&fault(FaultSide::Damage, "read"));
        assert_eq!(tally.exit(), Exit::Success);
        tally.count(&fault(FaultSide::Target, "open"));
        assert_eq!(tally.exit_of_reading(), Exit::Success);
        assert_eq!(tally.exit(), Exit::TargetUnreachable);
        tally.count(&fault(FaultSide::Source, "read"));
        assert_eq!(tally.exit(), Exit::Partial);
        tally.count(&fault(FaultSide::Damage, "restore"));
        assert_eq!(tally.exit(), Exit::Damage);
        assert_eq!(tally.faults(), 3);
    }

    #[test]
    fn every_code_is_in_the_help() {
        for exit in [
            Exit::Success,
            Exit::Failure,
            Exit::Partial,
            Exit::NoRepository,
            Exit::Locked,
            Exit::WrongPassword,
            Exit::Damage,
            Exit::Healed,
            Exit::TargetUnreachable,
            Exit::Interrupted,
        ] {
            let code = format!("{:>5}  ", exit as u8);
            assert!(HELP.lines().any(|line| line.starts_with(&code)), "{exit:?}");
        }
    }
}
