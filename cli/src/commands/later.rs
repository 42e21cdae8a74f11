//! For verbs that look at targets for hours: the catalog is read meanwhile, and held only for the moments in which what was seen is written down.
//!
//! So no backup fails for a verification. That something cannot be written down is said, and costs nothing but that it is not known later.

use std::time::{Duration, Instant};

use chunkstore::ErrorKind;
use chunkstore::monitor::{Event, Monitor};
use chunkstore::repository::Repository;
use chunkstore::verify::LaterHoldings;

use crate::exit::Failure;
use crate::reporter::Reporter;
use crate::session::Session;

/// How often what was seen is written down: what a crash may cost.
const INTERVAL: Duration = Duration::from_secs(60);
/// How long a backup that has the catalog is waited for at the end.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often it is asked whether it is done.
const ASK_INTERVAL: Duration = Duration::from_millis(300);

/// Does `work`, and has what it saw written down, also when it fails or is stopped.
///
/// # Errors
/// Those of `work` and of opening the catalog for reading.
pub(super) fn writing_down<T>(
    session: &Session,
    repository: &Repository,
    reporter: &Reporter,
    work: impl FnOnce(&LaterHoldings<'_>) -> chunkstore::Result<T>,
) -> Result<T, Failure> {
    let readable = session.readable(repository, reporter)?;
    if readable.is_temporary() {
        reporter.event(Event::Note("what is found now is reported, but not remembered"));
        let holdings = LaterHoldings::new(&readable.catalog, INTERVAL, &|_| {})?;
        return Ok(work(&holdings)?);
    }
    let to_write = session.at_moments(repository)?;
    let at_times = |holdings: &LaterHoldings<'_>| {
        // If it cannot be done now, it is done later.
        let _ = to_write.open().and_then(|catalog| holdings.write_to(&catalog));
    };
    let holdings = LaterHoldings::new(&readable.catalog, INTERVAL, &at_times)?;
    let done = work(&holdings);
    let begun = Instant::now();
    let mut has_told = false;
    while !holdings.is_empty() {
        let written = to_write.open().and_then(|catalog| holdings.write_to(&catalog));
        let Err(error) = written else { break };
        let may_wait = begun.elapsed() < PATIENCE && !session.interrupt.asked();
        if error.kind() == ErrorKind::Locked && may_wait {
            if !has_told {
                reporter.event(Event::Note(
                    "another process uses this machine's catalog: waiting to write down what was seen",
                ));
                has_told = true;
            }
            std::thread::sleep(ASK_INTERVAL);
            continue;
        }
        if error.is_catalog_damage() && session.give_up_catalog(&error) {
            continue;
        }
        reporter.event(Event::Note(&format!("what was seen is reported, but not remembered: {error}")));
        break;
    }
    Ok(done?)
}
