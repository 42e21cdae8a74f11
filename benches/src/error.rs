//! Failures: of an engine, of the machine, or of what was read. All of them end the run, with a sentence.

use std::fmt::Display;

/// A failure, as a sentence.
pub(crate) type Error = Box<dyn std::error::Error + Send + Sync>;

/// Or a failure.
pub(crate) type Result<T> = std::result::Result<T, Error>;

/// A failure that says this.
pub(crate) fn fault<T>(sentence: impl Display) -> Result<T> {
    Err(sentence.to_string().into())
}

/// What was tried, put before the reason why it failed.
pub(crate) trait Context<T> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Display> Context<T> for std::result::Result<T, E> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| format!("{}: {error}", what()).into())
    }
}
