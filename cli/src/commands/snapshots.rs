//! `versions snapshots`: the list, as a table or as one array of JSON.

use crate::args;
use crate::exit::{Exit, Failure};
use crate::render::snapshot;
use crate::selection;
use crate::session::Session;

pub(super) fn run(session: &Session, args: &args::Snapshots) -> Result<Exit, Failure> {
    let reporter = session.reporter_of_question();
    let opened = session.open_for_reading(&reporter)?;
    let all = opened.catalog().snapshots()?;
    let mut shown = if args.snapshots.is_empty() {
        selection::select(all, &args.selection)
    } else {
        let mut shown = Vec::new();
        for id in &args.snapshots {
            let one = selection::resolve(&all, &args.selection, id)?;
            if !shown.contains(one) {
                shown.push(one.clone());
            }
        }
        shown
    };
    if let Some(count) = args.latest {
        shown = selection::last_of_each(shown, count);
    }
    reporter.finish();
    let mut page = session.output.page();
    if session.output.is_json() {
        page.json(&shown.iter().map(snapshot::Json::element).collect::<Vec<_>>())?;
    } else {
        page.text(&snapshot::table(&shown))?;
    }
    page.finish()?;
    Ok(reporter.exit_of_reading())
}
