//! `versions rebuild`: this machine's catalog, made anew from what the targets hold.

use chunkstore::{Error, ErrorKind};
use serde::Serialize;

use crate::args;
use crate::exit::{Exit, Failure};
use crate::render::words::count;
use crate::session::Session;

#[derive(Serialize)]
struct Json {
    message_type: &'static str,
    segments: u64,
    snapshots: usize,
}

pub(super) fn run(session: &Session, _args: &args::Rebuild) -> Result<Exit, Failure> {
    let reporter = session.reporter();
    let repository = session.open_repository(&reporter)?;
    // What is there is not asked for anything: it may be damaged.
    let catalog = session.anew(&repository, &reporter)?;
    let mut segments = 0;
    let mut rebuilt = false;
    let mut last = None;
    for (entry, target) in repository.reachable() {
        // The first that answers gives everything it has, the others what only they have.
        let result = if rebuilt {
            catalog.catch_up(&**target, &reporter)
        } else {
            catalog.rebuild(&**target, &reporter)
        };
        match result {
            Ok(done) => {
                segments += done.segments;
                rebuilt = true;
            }
            Err(error) if matches!(error.kind(), ErrorKind::Target | ErrorKind::NotFound) => {
                reporter.target_failed(entry, "rebuild", &error);
                last = Some(error);
            }
            Err(error) => return Err(error.into()),
        }
    }
    if !rebuilt {
        return Err(last.unwrap_or_else(|| Error::new(ErrorKind::Target, "no target can be reached")).into());
    }
    let snapshots = catalog.snapshots()?.len();
    reporter.finish();
    if session.output.is_json() {
        session.output.json_line(&Json { message_type: "summary", segments, snapshots });
    } else {
        session.output.summary(&format!(
            "made the catalog again from {}: {}\n",
            count(segments, "segment"),
            count(snapshots as u64, "snapshot")
        ));
    }
    Ok(reporter.exit())
}
