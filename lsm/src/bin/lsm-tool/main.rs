//! `lsm-tool`: looks into the files of a database, checks it, repairs it, compacts it, counts it.
//!
//! Exit codes: 0 all is well; 1 damage was found, or something was lost; 2 the command line is wrong; 3 it could not be done (nothing there, locked,
//! unreadable, of a newer version).

#![expect(clippy::print_stderr, reason = "a program tells its user what went wrong")]

mod args;
mod check;
mod compact;
mod dump;
mod output;
mod repair;
mod stats;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Arguments, Command};
use crate::output::{Failure, Output, advice};

/// Damage was found, or something was lost.
const DAMAGE: u8 = 1;
/// It could not be done.
const FAILED: u8 = 3;

/// What a command found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Finding {
    Sound,
    Damage,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut out = Output::new();
    let done = match &arguments.command {
        Command::Dump(arguments) => dump::run(arguments, &mut out),
        Command::Check(arguments) => check::run(arguments, &mut out),
        Command::Repair(arguments) => repair::run(arguments, &mut out),
        Command::Compact(arguments) => compact::run(arguments, &mut out),
        Command::Stats(arguments) => stats::run(arguments, &mut out),
    };
    let done = done.and_then(|finding| out.finish().map(|()| finding));
    match done {
        Ok(Finding::Sound) => ExitCode::SUCCESS,
        Ok(Finding::Damage) => ExitCode::from(DAMAGE),
        // Whoever reads the output has had enough.
        Err(Failure::Output(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(Failure::Output(error)) => {
            eprintln!("lsm-tool: the output cannot be written: {error}");
            ExitCode::from(FAILED)
        }
        Err(Failure::Database(error)) => {
            let _ = out.finish();
            eprintln!("lsm-tool: {error}");
            if let Some(advice) = advice(&error) {
                eprintln!("lsm-tool: {advice}");
            }
            ExitCode::from(if error.kind() == lsm::ErrorKind::Corruption { DAMAGE } else { FAILED })
        }
    }
}
