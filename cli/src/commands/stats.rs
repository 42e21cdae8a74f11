//! `versions stats`: how much there is.

use std::fmt::Write as _;

use chunkstore::version::Snapshot;
use serde::Serialize;

use crate::args;
use crate::exit::{Exit, Failure};
use crate::render::size;
use crate::render::words::count;
use crate::selection;
use crate::session::Session;

/// What is counted; restic's names where it counts the same.
#[derive(Debug, Default, Serialize)]
struct Stats {
    message_type: &'static str,
    /// What a restore of each of the snapshots would write, together.
    total_size: u64,
    total_file_count: u64,
    snapshots_count: usize,
    /// Different hosts and sets of paths; ours.
    timelines_count: usize,
    /// Packs in the whole repository, and their bytes on one target; ours.
    packs_count: usize,
    packs_size: u64,
}

pub(super) fn run(session: &Session, args: &args::Stats) -> Result<Exit, Failure> {
    let reporter = session.reporter_of_question();
    let opened = session.open_for_reading(&reporter)?;
    let all = opened.catalog().snapshots()?;
    let chosen = if args.snapshots.is_empty() {
        selection::select(all, &args.selection)
    } else {
        let resolve = |id: &String| selection::resolve(&all, &args.selection, id).cloned();
        args.snapshots.iter().map(resolve).collect::<Result<Vec<_>, _>>()?
    };
    let packs = opened.catalog().packs()?;
    reporter.finish();
    let stats = sum(&chosen, packs.iter().map(|(_, length)| *length));
    let mut page = session.output.page();
    if session.output.is_json() {
        page.json(&stats)?;
    } else {
        page.text(&text(&stats))?;
    }
    page.finish()?;
    Ok(reporter.exit_of_reading())
}

fn sum(snapshots: &[Snapshot], packs: impl Iterator<Item = u64>) -> Stats {
    let mut stats = Stats { message_type: "stats", snapshots_count: snapshots.len(), ..Stats::default() };
    let mut timelines: Vec<_> = snapshots.iter().map(|snapshot| snapshot.timeline).collect();
    timelines.sort();
    timelines.dedup();
    stats.timelines_count = timelines.len();
    for snapshot in snapshots {
        stats.total_size = stats.total_size.saturating_add(snapshot.stats.bytes_total);
        stats.total_file_count = stats.total_file_count.saturating_add(snapshot.stats.files_total);
    }
    for length in packs {
        stats.packs_count += 1;
        stats.packs_size = stats.packs_size.saturating_add(length);
    }
    stats
}

fn text(stats: &Stats) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "snapshots:     {}, of {}",
        stats.snapshots_count,
        count(stats.timelines_count as u64, "timeline")
    );
    let _ = writeln!(
        text,
        "they restore:  {}, {}",
        count(stats.total_file_count, "file"),
        size::show(stats.total_size)
    );
    let _ = writeln!(
        text,
        "stored:        {} in {}, on each target",
        size::show(stats.packs_size),
        count(stats.packs_count as u64, "pack")
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counted() {
        let mut one = crate::selection::tests::snapshot(1, 1, "a", &[], &["/r"]);
        one.stats.bytes_total = 1000;
        one.stats.files_total = 2;
        let stats = sum(&[one.clone(), one], [10, u64::MAX].into_iter());
        assert_eq!((stats.snapshots_count, stats.timelines_count), (2, 1));
        assert_eq!((stats.total_size, stats.total_file_count), (2000, 4));
        assert_eq!((stats.packs_count, stats.packs_size), (2, u64::MAX));
        assert!(text(&stats).contains("16.00 EiB in 2 packs"));
    }
}
