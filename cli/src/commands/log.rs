//! `versions log`: the Versions of one file.

use chunkstore::catalog::LogEntry;

use crate::args;
use crate::exit::{Exit, Failure};
use crate::paths::entry_key;
use crate::render::path::show_path;
use crate::render::version;
use crate::session::Session;

pub(super) fn run(session: &Session, args: &args::Log) -> Result<Exit, Failure> {
    let key = entry_key(&args.file)?;
    let reporter = session.reporter_of_question();
    let opened = session.open_for_reading(&reporter)?;
    let catalog = opened.catalog();
    let mut entries: Vec<LogEntry> = Vec::new();
    for timeline in catalog.timelines()? {
        if args.host.is_empty() || args.host.iter().any(|host| host.as_bytes() == timeline.host) {
            entries.extend(catalog.log(timeline.id, &key)?);
        }
    }
    // Each timeline's come in order; several are told as one story.
    entries.sort_by_key(|entry| entry.snapshot.time);
    reporter.finish();
    if entries.is_empty() {
        return Err(Failure::Usage(format!("no snapshot holds {}", show_path(&args.file))));
    }
    let rows = version::story(entries);
    let mut page = session.output.page();
    if session.output.is_json() {
        for row in &rows {
            page.json(&version::Json::new(row))?;
        }
    } else {
        page.text(&version::table(&rows, &key))?;
    }
    page.finish()?;
    Ok(reporter.exit_of_reading())
}
