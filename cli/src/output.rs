//! Standard output and standard error: what goes where, and what happens when nobody listens.
//!
//! Results go to standard output, errors and notes to standard error. A reader that went away (`| head`) is no panic: a verb
//! whose output is its purpose ends, one that does something goes on doing it.

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;

use crate::exit::Failure;

/// Text for people or JSON for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// Text.
    Text,
    /// JSON, an object a line.
    Json,
}

/// How much is said besides results and errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verbosity {
    /// Nothing.
    Quiet,
    /// Progress on a terminal, notes, a summary.
    Normal,
    /// Each changed item too.
    Verbose,
    /// Each item.
    All,
}

/// How the program speaks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    /// To whom.
    pub(crate) format: Format,
    /// How much.
    pub(crate) verbosity: Verbosity,
}

impl Output {
    /// As the flags say.
    pub(crate) fn new(json: bool, quiet: bool, verbose: u8) -> Self {
        let verbosity = match (quiet, verbose) {
            (true, _) => Verbosity::Quiet,
            (false, 0) => Verbosity::Normal,
            (false, 1) => Verbosity::Verbose,
            (false, _) => Verbosity::All,
        };
        Self { format: if json { Format::Json } else { Format::Text }, verbosity }
    }

    /// Whether programs read it.
    pub(crate) fn is_json(self) -> bool {
        self.format == Format::Json
    }

    /// Whether bars may be drawn: for a person, who wants them, on a terminal.
    pub(crate) fn draws(self) -> bool {
        self.format == Format::Text && self.verbosity >= Verbosity::Normal && io::stderr().is_terminal()
    }

    /// A buffered standard output, for verbs whose output is their purpose; without [`Page::finish`] the end of it is not written.
    pub(crate) fn page(self) -> Page {
        Page { buffer: Vec::with_capacity(PAGE_BYTES) }
    }

    /// A result that is said only where it is wanted: text for people who did not ask for quiet.
    pub(crate) fn summary(self, text: &str) {
        if self.format == Format::Text && self.verbosity >= Verbosity::Normal {
            // The work is done: that nobody reads about it changes nothing.
            let _ = io::stdout().write_all(text.as_bytes());
        }
    }

    /// A line of JSON on standard output that accompanies work.
    pub(crate) fn json_line(self, message: &impl Serialize) {
        write_json(&mut io::stdout().lock(), message);
    }

    /// A line of JSON on standard error.
    pub(crate) fn json_error(self, message: &impl Serialize) {
        write_json(&mut io::stderr().lock(), message);
    }

    /// A line of text on standard error.
    pub(crate) fn error_line(self, text: &str) {
        let _ = writeln!(io::stderr().lock(), "{text}");
    }
}

fn write_json(out: &mut impl Write, message: &impl Serialize) {
    // One write for the whole line: several threads and processes may share the stream.
    if let Ok(mut line) = serde_json::to_vec(message) {
        line.push(b'\n');
        let _ = out.write_all(&line);
        let _ = out.flush();
    }
}

/// Whether some of a page was written: it cannot be begun again then.
static HAS_ANSWERED: AtomicBool = AtomicBool::new(false);

/// Whether something of an answer ([`Output::page`]) is on standard output.
pub(crate) fn has_answered() -> bool {
    HAS_ANSWERED.load(Ordering::Relaxed)
}

/// What is gathered before it is written.
const PAGE_BYTES: usize = 64 * 1024;

/// Standard output, buffered.
#[derive(Debug)]
pub(crate) struct Page {
    buffer: Vec<u8>,
}

impl Page {
    /// Writes text as it is.
    ///
    /// # Errors
    /// If nobody reads it, or the disk that it goes to is full.
    pub(crate) fn text(&mut self, text: &str) -> Result<(), Failure> {
        self.bytes(text.as_bytes())
    }

    /// Writes text and ends the line.
    ///
    /// # Errors
    /// As for [`Page::text`].
    pub(crate) fn line(&mut self, text: &str) -> Result<(), Failure> {
        self.bytes(text.as_bytes())?;
        self.bytes(b"\n")
    }

    /// Writes bytes.
    ///
    /// # Errors
    /// As for [`Page::text`].
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.write_all(bytes).map_err(Failure::Output)
    }

    /// Writes one value as a line of JSON.
    ///
    /// # Errors
    /// As for [`Page::text`].
    pub(crate) fn json(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        serde_json::to_writer(&mut *self, value).map_err(|error| Failure::Output(error.into()))?;
        self.bytes(b"\n")
    }

    /// Writes what is still in the buffer.
    ///
    /// # Errors
    /// As for [`Page::text`].
    pub(crate) fn finish(mut self) -> Result<(), Failure> {
        self.flush().map_err(Failure::Output)
    }
}

impl Write for Page {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.buffer.len() + bytes.len() > PAGE_BYTES {
            self.flush()?;
        }
        self.buffer.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        HAS_ANSWERED.store(true, Ordering::Relaxed);
        let mut out = io::stdout().lock();
        out.write_all(&std::mem::take(&mut self.buffer))?;
        out.flush()
    }
}
