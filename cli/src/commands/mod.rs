//! The verbs, one a file: each turns arguments into a call of the library, and what comes back into output and an exit code.

use crate::args::CommandLine;
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
    session.repo()?;
    session.state_dir()?;
    drop(session.reporter());
    Err(Failure::Usage(format!("this build cannot do that yet: {:?}", line.command)))
}
