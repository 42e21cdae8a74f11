//! A progress bar on a terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// A bar or a spinner on standard error, which vanishes at the end.
#[derive(Debug)]
pub(crate) struct Bar {
    bar: ProgressBar,
}

impl Bar {
    /// A bar that nothing is known of yet.
    pub(crate) fn new() -> Self {
        let bar = ProgressBar::no_length();
        bar.enable_steady_tick(Duration::from_millis(100));
        Self { bar }
    }

    /// Begins anew for another phase.
    pub(crate) fn phase(&self, name: &str, bytes: Option<u64>, items: Option<u64>) {
        // By bytes where they are known, by items where only these are.
        let template = match (bytes, items) {
            (Some(_), _) => {
                "[{elapsed}] {prefix} {wide_bar:.cyan} {bytes} / {total_bytes}  {bytes_per_sec}  ETA {eta}  {msg}"
            }
            (None, Some(_)) => "[{elapsed}] {prefix} {wide_bar:.cyan} {pos} / {len}  ETA {eta}  {msg}",
            (None, None) => "[{elapsed}] {prefix} {spinner} {bytes}  {bytes_per_sec}  {msg}",
        };
        // A constant that is wrong shows itself in the tests; a person is better served by a plain bar than by none.
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.bar.set_style(style.progress_chars("=> "));
        }
        self.bar.set_prefix(name.to_owned());
        self.bar.set_message("");
        match bytes.or(items) {
            Some(length) => self.bar.set_length(length),
            None => self.bar.unset_length(),
        }
        self.bar.set_position(0);
        self.bar.reset_eta();
    }

    /// Where it is.
    pub(crate) fn at(&self, position: u64, message: String) {
        self.bar.set_position(position);
        self.bar.set_message(message);
    }

    /// Prints a line of text above the bar.
    pub(crate) fn above<T>(&self, print: impl FnOnce() -> T) -> T {
        self.bar.suspend(print)
    }

    /// Takes it away.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
