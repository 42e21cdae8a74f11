//! `versions ls`: what a snapshot holds; all of it, or given directories.

use std::path::Path;

use chunkstore::catalog::Catalog;
use chunkstore::entry_key::{EntryKey, KeyRange};
use chunkstore::metadata::{Kind, Metadata};
use chunkstore::version::Snapshot;

use crate::args;
use crate::exit::{Exit, Failure};
use crate::output::Page;
use crate::paths::entry_key;
use crate::render::path::show_path;
use crate::render::{node, path, snapshot, time};
use crate::selection;
use crate::session::Session;

pub(super) fn run(session: &Session, args: &args::Ls) -> Result<Exit, Failure> {
    let reporter = session.reporter_of_question();
    let opened = session.open_for_reading(&reporter)?;
    let catalog = opened.catalog();
    let all = catalog.snapshots()?;
    let snapshot = selection::resolve(&all, &args.selection, &args.snapshot)?;
    reporter.finish();
    let ranges = ranges(catalog, snapshot, args)?;

    let mut page = session.output.page();
    if session.output.is_json() {
        page.json(&snapshot::Json::line(snapshot))?;
    } else if session.output.verbosity >= crate::output::Verbosity::Normal {
        // Above the list and apart from it, where a script that reads the list does not see it.
        session.output.error_line(&format!(
            "snapshot {} of {} at {}",
            snapshot::short(&snapshot.id),
            path::show(&snapshot.host),
            time::show(snapshot.time)
        ));
    }
    for range in ranges {
        for entry in catalog.state(snapshot, &range)? {
            let (key, version) = entry?;
            line(session, &mut page, args.long, &key, &version.metadata)?;
            session.interrupt.check()?;
        }
    }
    page.finish()?;
    Ok(reporter.exit_of_reading())
}

/// What to list: everything; or, for each path, itself and its entries, and what is below those if that is wanted.
fn ranges(catalog: &Catalog, snapshot: &Snapshot, args: &args::Ls) -> Result<Vec<KeyRange>, Failure> {
    if args.paths.is_empty() {
        return Ok(vec![KeyRange::all()]);
    }
    let mut ranges = Vec::new();
    for path in &args.paths {
        let key = entry_key(path)?;
        match catalog.entry(snapshot, &key)? {
            Some(version) if version.metadata.kind == Kind::Directory => {
                ranges.push(key.only());
                ranges.push(if args.recursive { key.below() } else { key.children() });
            }
            Some(_) => ranges.push(key.only()),
            // A directory above the roots has no Version of its own, but what is below it has.
            None if is_above_something(catalog, snapshot, &key)? => {
                ranges.push(if args.recursive { key.below() } else { key.children() });
            }
            None => return Err(missing(snapshot, path)),
        }
    }
    Ok(ranges)
}

fn is_above_something(catalog: &Catalog, snapshot: &Snapshot, key: &EntryKey) -> Result<bool, Failure> {
    Ok(catalog.state(snapshot, &key.below())?.next().transpose()?.is_some())
}

/// That a snapshot does not hold a path.
pub(super) fn missing(snapshot: &Snapshot, path: &Path) -> Failure {
    Failure::Usage(format!("{} is not in snapshot {}", show_path(path), snapshot::short(&snapshot.id)))
}

fn line(
    session: &Session,
    page: &mut Page,
    long: bool,
    key: &EntryKey,
    metadata: &Metadata,
) -> Result<(), Failure> {
    let full = key.path_bytes();
    if session.output.is_json() {
        page.json(&node::Node::new(&full, metadata))
    } else if long {
        page.line(&node::long(&full, metadata))
    } else {
        page.line(&path::show(&full))
    }
}
