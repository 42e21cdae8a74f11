//! The verbs, one a file: each turns arguments into a call of the library, and what comes back into output and an exit code.

mod again;
mod backup;
mod cat;
mod init;
mod key;
mod later;
mod log;
mod ls;
mod mirror;
mod rebuild;
mod restore;
mod snapshots;
mod stats;
mod target;
mod verify;

use crate::args::{Command, CommandLine};
use crate::exit::{Exit, Failure};
use crate::interrupt::Interrupt;
use crate::output::Output;
use crate::session::Session;

/// Does what the command line says.
///
/// # Errors
/// If it cannot be done to its end.
pub(crate) fn run(line: CommandLine, output: Output) -> Result<Exit, Failure> {
    let interrupt = Interrupt::install()
        .map_err(|error| Failure::Usage(format!("signals cannot be listened to: {error}")))?;
    let session = Session::new(&line.global, output, interrupt)?;
    match once(&session, &line.command) {
        Err(Failure::Library(error)) if error.is_catalog_damage() => {
            again::run(&session, &line.command, error)
        }
        done => done,
    }
}

fn once(session: &Session, command: &Command) -> Result<Exit, Failure> {
    match command {
        Command::Init(args) => init::run(session, args),
        Command::Backup(args) => backup::run(session, args),
        Command::Verify(args) => verify::run(session, args),
        Command::Mirror(args) => mirror::run(session, args),
        Command::Rebuild(args) => rebuild::run(session, args),
        Command::Stats(args) => stats::run(session, args),
        Command::Cat(args) => cat::run(session, args),
        Command::Restore(args) => restore::run(session, args),
        Command::Key(args) => key::run(session, args),
        Command::Target(args) => target::run(session, args),
        Command::Snapshots(args) => snapshots::run(session, args),
        Command::Ls(args) => ls::run(session, args),
        Command::Log(args) => log::run(session, args),
    }
}
