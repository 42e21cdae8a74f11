//! The `versions` program: arguments, progress, output, exit codes; everything else is the `chunkstore` library's.

mod args;
mod catalog;
mod commands;
mod cost;
mod descriptors;
mod exit;
mod input;
mod interrupt;
mod output;
mod password;
mod paths;
mod pattern;
mod render;
mod reporter;
mod selection;
mod session;
mod temporary;

use std::process::ExitCode;

use clap::Parser;

use crate::args::CommandLine;
use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::render::json;
use crate::render::path::show;

fn main() -> ExitCode {
    descriptors::raise_limit();
    let line = match CommandLine::try_parse() {
        Ok(line) => line,
        // Help and the version are no errors; they go to standard output, where nobody may be listening.
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { Exit::Failure } else { Exit::Success }.into();
        }
    };
    let output = Output::new(line.global.json, line.global.quiet, line.global.verbose);
    match commands::run(line, output) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            report(output, &failure);
            failure.exit().into()
        }
    }
}

/// Says why the program ends.
fn report(output: Output, failure: &Failure) {
    let exit = failure.exit();
    if exit == Exit::BrokenPipe {
        return;
    }
    let message = failure.to_string();
    if output.is_json() {
        output.json_error(&json::ExitError {
            message_type: "exit_error",
            code: exit as u8,
            message: &message,
        });
    } else {
        output.error_line(&format!("Fatal: {}", show(message.as_bytes())));
    }
}
