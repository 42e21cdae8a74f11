//! When the catalog turns out to be damaged in the middle of a verb: it is given up, and the verb begins again with a new one, once.
//!
//! Everything that a verb may have done by then it finds done: chunks that are stored, files that are restored, objects that are healed. What cannot
//! be done twice is to read standard input, and to give an answer on standard output.

use chunkstore::Error;

use super::once;
use crate::args::Command;
use crate::exit::{Exit, Failure};
use crate::output;
use crate::session::Session;

pub(super) fn run(session: &Session, command: &Command, error: Error) -> Result<Exit, Failure> {
    if !session.give_up_catalog(&error) {
        return Err(error.into());
    }
    let is_input_gone = matches!(command, Command::Backup(args) if args.stdin);
    if is_input_gone || output::has_answered() {
        return Err(error.at("this cannot be begun again here: run it once more").into());
    }
    once(session, command)
}
