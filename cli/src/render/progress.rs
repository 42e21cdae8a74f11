//! A progress bar on a terminal.

use std::sync::Once;
use std::time::Duration;

use console::Term;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::margin::WithMargin;

/// How often it is drawn anew while nothing happens, for the clock in it.
const TICK: Duration = Duration::from_millis(100);

/// More than that no eye tells apart.
const DRAWS_A_SECOND: u8 = 20;

/// Columns that the rest of the line may need: what is left is the bar's.
const TEXT_COLUMNS: u16 = 84;

/// The bar, in columns.
const BAR_COLUMNS: std::ops::RangeInclusive<u16> = 10..=40;

/// A bar or a spinner on standard error. It comes with the first phase and vanishes at the end: what is answered at once, or asks something
/// first, is not preceded by one.
#[derive(Debug)]
pub(crate) struct Bar {
    bar: ProgressBar,
    begun: Once,
}

impl Bar {
    /// A bar that is not there yet.
    pub(crate) fn new() -> Self {
        Self { bar: ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden()), begun: Once::new() }
    }

    /// Begins anew for another phase.
    pub(crate) fn phase(&self, name: &str, bytes: Option<u64>, items: Option<u64>) {
        // A constant that is wrong shows itself in the tests; a person is better served by a plain bar than by none.
        if let Ok(style) = ProgressStyle::with_template(&template(bytes, items, Term::stderr().size().1)) {
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
        self.begun.call_once(|| {
            let mut target = ProgressDrawTarget::stderr();
            // It is hidden on terminals that cannot draw.
            if !target.is_hidden() {
                target =
                    ProgressDrawTarget::term_like_with_hz(Box::new(WithMargin::stderr()), DRAWS_A_SECOND);
            }
            self.bar.set_draw_target(target);
            self.bar.enable_steady_tick(TICK);
        });
    }

    /// Where it is.
    pub(crate) fn at(&self, position: u64, message: String) {
        // A length that was guessed may have been too short.
        if self.bar.length().is_some_and(|length| position > length) {
            self.bar.set_length(position);
        }
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

/// By bytes where they are known, by items where only these are. The line is shorter than the terminal is wide, or it would take up two.
fn template(bytes: Option<u64>, items: Option<u64>, columns: u16) -> String {
    let wide = columns.saturating_sub(TEXT_COLUMNS).clamp(*BAR_COLUMNS.start(), *BAR_COLUMNS.end());
    match (bytes, items) {
        (Some(_), _) => format!(
            "[{{elapsed}}] {{prefix}} [{{bar:{wide}}}] {{binary_bytes}} / {{binary_total_bytes}}, {{binary_bytes_per_sec}}, {{eta}} left, {{msg}}"
        ),
        (None, Some(_)) => {
            format!("[{{elapsed}}] {{prefix}} [{{bar:{wide}}}] {{pos}} / {{len}}, {{eta}} left{{msg}}")
        }
        (None, None) => {
            "[{elapsed}] {prefix} {spinner} {binary_bytes}, {binary_bytes_per_sec}, {msg}".to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_template_is_understood() {
        for (bytes, items) in [(Some(1), Some(1)), (Some(1), None), (None, Some(1)), (None, None)] {
            for columns in [0, 80, 200, u16::MAX] {
                ProgressStyle::with_template(&template(bytes, items, columns)).unwrap();
            }
        }
    }

    #[test]
    fn nothing_is_drawn_before_the_first_phase() {
        let bar = Bar::new();
        bar.at(1, "x".into());
        assert!(bar.bar.is_hidden() && !bar.begun.is_completed());
    }
}
