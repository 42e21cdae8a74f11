//! The one who watches an operation for the person or the program outside: progress, faults, notes, and the wish to stop.
//!
//! Called from many threads at once. Counters are atomic; the state behind the mutex is touched once an event, and printing happens at
//! most ten times a second, so that reporting never slows what it reports on.

use std::io::{self, IsTerminal};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use chunkstore::Error;
use chunkstore::monitor::{Event, Fault, FaultSide, Monitor};
use chunkstore::repository::RepositoryTarget;

use crate::exit::{Exit, Tally, is_survived};
use crate::interrupt::{Answer, Interrupt};
use crate::output::{Output, Verbosity};
use crate::render::json;
use crate::render::path::show;
use crate::render::progress::Bar;
use crate::render::size;
use crate::render::words::count;

/// Between two status lines or redrawings: ten a second show motion, more would show nothing else.
const STATUS_INTERVAL: Duration = Duration::from_millis(100);

/// Watches one operation.
#[derive(Debug)]
pub(crate) struct Reporter {
    output: Output,
    interrupt: Interrupt,
    bar: Option<Arc<Bar>>,
    /// Says to a signal that it was heard, from when something is under way.
    answer: OnceLock<Option<Answer>>,
    /// Whether standard output is for the course of the operation; if not, its result is to stand there alone.
    tells_course: bool,
    started: Instant,
    bytes: AtomicU64,
    items: AtomicU64,
    /// Milliseconds after `started` at which the last status went out.
    last_status: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    phase: String,
    total_bytes: Option<u64>,
    total_items: Option<u64>,
    phase_started: Option<Instant>,
    tally: Tally,
}

impl State {
    /// What is counted: a backup counts the files, everything else all that it goes through.
    fn noun(&self) -> &'static str {
        if self.phase == "backup" { "file" } else { "item" }
    }
}

impl Reporter {
    /// A watcher of something that is done, which speaks through `output`.
    pub(crate) fn of_work(output: Output, interrupt: &Interrupt) -> Self {
        Self::new(output, interrupt, true)
    }

    /// A watcher of something that is looked up: standard output is left to the answer.
    pub(crate) fn of_question(output: Output, interrupt: &Interrupt) -> Self {
        Self::new(output, interrupt, false)
    }

    fn new(output: Output, interrupt: &Interrupt, tells_course: bool) -> Self {
        Self {
            tells_course,
            output,
            interrupt: interrupt.clone(),
            bar: output.draws().then(|| Arc::new(Bar::new())),
            answer: OnceLock::new(),
            started: Instant::now(),
            bytes: AtomicU64::new(0),
            items: AtomicU64::new(0),
            last_status: AtomicU64::new(0),
            state: Mutex::default(),
        }
    }

    /// How long it has been watching.
    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// The faults so far.
    pub(crate) fn tally(&self) -> Tally {
        self.state().tally
    }

    /// Reports that a target failed, once, and passes it over from now on.
    pub(crate) fn target_failed(&self, entry: &RepositoryTarget, during: &'static str, error: &Error) {
        if entry.fail(error.clone()) {
            let item = entry.url().to_owned();
            self.fault(Fault { side: FaultSide::Target, item, during, error: error.clone() });
        }
    }

    /// The exit code, if what was done came to its end.
    pub(crate) fn exit(&self) -> Exit {
        self.tally().exit()
    }

    /// The exit code, if what was asked or restored came to its end.
    pub(crate) fn exit_of_reading(&self) -> Exit {
        self.tally().exit_of_reading()
    }

    /// Says something that one who wants quiet must hear too.
    pub(crate) fn warn(&self, sentence: &str) {
        self.above(|| note(self.output, &format!("warning: {sentence}")));
    }

    /// Takes the bar away, so that a summary can be printed.
    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish();
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // A thread that panicked here left counters behind, which are whole numbers at every moment.
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Does something that prints, or asks, with the bar out of the way.
    pub(crate) fn above<T>(&self, print: impl FnOnce() -> T) -> T {
        match &self.bar {
            Some(bar) => bar.above(print),
            None => print(),
        }
    }

    /// From now on a signal is answered at once. Before anything is under way, and where something is only looked up, it just ends the program.
    fn answer_signals(&self) {
        if !self.tells_course || self.output.verbosity < Verbosity::Normal {
            return;
        }
        self.answer.get_or_init(|| {
            let (output, bar) = (self.output, self.bar.clone());
            // Without it a signal is heard all the same.
            Answer::to_signals(move || {
                let say = || note(output, &stopping());
                match bar {
                    Some(bar) => bar.above(say),
                    None => say(),
                }
            })
            .ok()
        });
    }

    fn status(&self, always: bool) {
        let prints = self.tells_course && self.output.is_json() && self.output.verbosity >= Verbosity::Normal;
        if self.bar.is_none() && !prints {
            return;
        }
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let last = self.last_status.load(Ordering::Relaxed);
        let due =
            always || now >= last.saturating_add(u64::try_from(STATUS_INTERVAL.as_millis()).unwrap_or(100));
        // Of several threads that find it due, one speaks.
        if !due || self.last_status.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_err()
        {
            return;
        }
        let (bytes, items) = (self.bytes.load(Ordering::Relaxed), self.items.load(Ordering::Relaxed));
        let state = self.state();
        if let Some(bar) = &self.bar {
            let position =
                if state.total_bytes.is_none() && state.total_items.is_some() { items } else { bytes };
            let mut message = match (state.total_bytes, state.total_items) {
                // The items are what the bar counts.
                (None, Some(_)) => String::new(),
                _ => count(items, state.noun()),
            };
            match state.tally.faults() {
                0 => {}
                errors => message.push_str(&format!(", {}", count(errors, "error"))),
            }
            drop(state);
            bar.at(position, message);
            return;
        }
        let restores = state.phase == "restore";
        let done =
            fraction(bytes, state.total_bytes).or_else(|| fraction(items, state.total_items)).unwrap_or(0.0);
        let in_phase = state.phase_started.map_or(Duration::ZERO, |start| start.elapsed());
        let message = json::Status {
            message_type: "status",
            phase: &state.phase,
            seconds_elapsed: self.started.elapsed().as_secs(),
            seconds_remaining: remaining(in_phase, done),
            percent_done: done,
            total_files: state.total_items,
            files_done: items,
            total_bytes: state.total_bytes,
            bytes_done: bytes,
            files_restored: restores.then_some(items),
            bytes_restored: restores.then_some(bytes),
            error_count: state.tally.faults(),
        };
        self.output.json_line(&message);
    }
}

/// What is said to the first signal.
fn stopping() -> String {
    let again = if io::stderr().is_terminal() { "Ctrl-C again" } else { "a second signal" };
    format!("stopping; what was done so far is kept ({again} stops at once)")
}

/// Says something that is neither a result nor an error.
fn note(output: Output, sentence: &str) {
    if output.is_json() {
        output.json_error(&json::Note { message_type: "note", message: sentence });
    } else {
        output.error_line(&show(sentence.as_bytes()));
    }
}

/// Part of a whole, from 0 to 1.
fn fraction(done: u64, total: Option<u64>) -> Option<f64> {
    #[expect(
        clippy::cast_precision_loss,
        reason = "a share for the eye: the first digits are all that is read"
    )]
    match total {
        None | Some(0) => None,
        Some(total) => Some((done as f64 / total as f64).min(1.0)),
    }
}

/// The time that is left if all goes on as it did.
fn remaining(elapsed: Duration, done: f64) -> Option<u64> {
    // In the first hundredth the guess is noise.
    if done < 0.01 {
        return None;
    }
    let seconds = elapsed.as_secs_f64() * (1.0 - done) / done;
    Duration::try_from_secs_f64(seconds).ok().map(|left| left.as_secs())
}

impl Monitor for Reporter {
    fn fault(&self, fault: Fault) {
        self.state().tally.count(&fault);
        let is_warning = is_survived(&fault) || (!self.tells_course && fault.side == FaultSide::Target);
        let label = if is_warning { "warning" } else { "error" };
        // The item is fit to be shown as it comes; what the system and the disk said need not be.
        let error = show(fault.error.to_string().as_bytes()).into_owned();
        self.above(|| {
            if self.output.is_json() {
                self.output.json_error(&json::Fault {
                    message_type: "error",
                    error: json::Sentence { message: &error },
                    during: fault.during,
                    item: &fault.item,
                    side: side_name(fault.side),
                });
            } else if error.contains(&fault.item) {
                self.output.error_line(&format!("{label}: {}: {error}", fault.during));
            } else {
                self.output.error_line(&format!("{label}: {}: {}: {error}", fault.during, fault.item));
            }
        });
    }

    fn event(&self, event: Event<'_>) {
        match event {
            Event::Phase { name, bytes, items } => {
                self.answer_signals();
                self.bytes.store(0, Ordering::Relaxed);
                self.items.store(0, Ordering::Relaxed);
                {
                    let mut state = self.state();
                    state.phase = name.to_owned();
                    (state.total_bytes, state.total_items) = (bytes, items);
                    state.phase_started = Some(Instant::now());
                }
                if let Some(bar) = &self.bar {
                    bar.phase(name, bytes, items);
                }
                self.status(true);
            }
            Event::Advance { bytes, items } => {
                self.bytes.fetch_add(bytes, Ordering::Relaxed);
                self.items.fetch_add(items, Ordering::Relaxed);
                self.status(false);
            }
            Event::Item { action, item, bytes } => {
                let wanted = if action == "unchanged" { Verbosity::All } else { Verbosity::Verbose };
                if self.output.verbosity < wanted || !self.tells_course {
                    return;
                }
                self.above(|| {
                    if self.output.is_json() {
                        self.output.json_line(&json::VerboseStatus {
                            message_type: "verbose_status",
                            action,
                            item,
                            data_size: bytes,
                            size: bytes,
                        });
                    } else {
                        self.output.summary(&format!("{action:<10} {item}, {}\n", size::show(bytes)));
                    }
                });
            }
            Event::Note(sentence) if self.output.verbosity >= Verbosity::Normal => {
                self.above(|| note(self.output, sentence));
            }
            // A note to one who wants quiet, and kinds of events that are newer than this program.
            _ => {}
        }
    }

    fn cancelled(&self) -> bool {
        self.interrupt.asked()
    }

    fn wants_unchanged(&self) -> bool {
        self.tells_course && self.output.verbosity >= Verbosity::All
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        self.finish();
    }
}

/// A side's name in JSON.
fn side_name(side: FaultSide) -> &'static str {
    match side {
        FaultSide::Source => "source",
        FaultSide::Target => "target",
        FaultSide::Damage => "damage",
        FaultSide::Destination => "destination",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_is_guessed_from_what_is_done() {
        assert_eq!(remaining(Duration::from_secs(10), 0.5), Some(10));
        assert_eq!(remaining(Duration::from_secs(10), 1.0), Some(0));
        assert_eq!(remaining(Duration::from_secs(10), 0.0), None);
        assert_eq!(fraction(1, Some(0)), None);
        assert_eq!(fraction(2, Some(1)), Some(1.0));
    }

    #[test]
    fn faults_are_counted_by_side() {
        let reporter = Reporter::of_work(Output::new(false, true, 0), &Interrupt::default());
        reporter.fault(Fault {
            side: FaultSide::Source,
            item: "/x".into(),
            during: "read",
            error: chunkstore::Error::new(chunkstore::ErrorKind::Source, "gone"),
        });
        assert_eq!(reporter.tally().source, 1);
        assert_eq!(reporter.exit(), Exit::Partial);
    }
}
