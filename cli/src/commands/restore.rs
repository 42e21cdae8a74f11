//! `versions restore`: a snapshot, a part of it, or one Version of a file, back on disk.

use std::fmt::Write as _;
use std::path::Path;

use chunkstore::entry_key::{EntryKey, KeyRange};
use chunkstore::metadata::Kind;
use chunkstore::restore::{self, RepositorySource, RestoreOptions, RestoreSummary};
use serde::Serialize;

use super::ls::missing;
use crate::args;
use crate::exit::{Exit, Failure};
use crate::paths::{absolute, entry_key, split_id};
use crate::render::path::show_path;
use crate::render::words::count;
use crate::render::{size, time};
use crate::reporter::Reporter;
use crate::selection::{self, Chosen};
use crate::session::{Opened, Session};

pub(super) fn run(session: &Session, args: &args::Restore) -> Result<Exit, Failure> {
    let (id, part) = split_id(&args.snapshot);
    let id =
        id.to_str().ok_or_else(|| Failure::Usage(format!("{id:?} is no id of a snapshot or Version")))?;
    if part.as_deref().is_some_and(|part| part.as_os_str().is_empty()) {
        return Err(Failure::Usage(format!("which part of {id}? Behind the colon a path is missing")));
    }
    let mut options = RestoreOptions::new(absolute(&args.target)?);
    options.include = args.include.clone();
    options.exclude = args.exclude.clone();
    options.dry_run = args.dry_run;
    options.verify = args.verify;
    let reporter = session.reporter();
    let opened = session.open_for_reading(&reporter)?;
    let source =
        source(session, &opened, args, &session.chosen_before(id), part.as_deref(), &mut options, &reporter)?;
    let summary = restore::restore(&source, &options, &reporter)?;
    reporter.finish();
    if session.output.is_json() {
        session.output.json_line(&Json::new(&summary, &reporter, args.dry_run));
    } else {
        session.output.summary(&text(&summary, &options, &reporter));
    }
    Ok(exit(&summary, reporter.exit_of_reading()))
}

/// The exit code: never that of success while something is not as the snapshot has it, on whichever side the faults were counted.
fn exit(summary: &RestoreSummary, told: Exit) -> Exit {
    if told == Exit::Success && summary.is_partial() { Exit::Partial } else { told }
}

/// What is restored, and what of its path goes to the target's top.
fn source<'a>(
    session: &Session,
    opened: &'a Opened,
    args: &args::Restore,
    id: &str,
    part: Option<&Path>,
    options: &mut RestoreOptions,
    reporter: &'a Reporter,
) -> Result<RepositorySource<'a>, Failure> {
    let (repository, catalog) = (&opened.repository, opened.catalog());
    let key = part.map(entry_key).transpose()?;
    let parent = |key: &EntryKey| key.parent().unwrap_or_else(EntryKey::root);
    let chosen = selection::choose(catalog, &args.selection, id, key.as_ref())?;
    if let Chosen::Snapshot(snapshot) = &chosen {
        session.choose(snapshot.id.to_string());
    }
    match (chosen, key, part) {
        (Chosen::Version(key, version), _, _) => {
            options.base = parent(&key);
            Ok(RepositorySource::version(repository, catalog, key, *version, reporter)?)
        }
        (Chosen::Snapshot(snapshot), Some(key), Some(part)) => {
            let range = match catalog.entry(&snapshot, &key)? {
                Some(version) if version.metadata.kind != Kind::Directory => {
                    options.base = parent(&key);
                    key.only()
                }
                found => {
                    let below = key.below();
                    if found.is_none() && catalog.state(&snapshot, &below)?.next().is_none() {
                        return Err(missing(&snapshot, part));
                    }
                    options.base = key;
                    below
                }
            };
            Ok(RepositorySource::snapshot(repository, catalog, &snapshot, range, reporter)?)
        }
        (Chosen::Snapshot(snapshot), _, _) => {
            Ok(RepositorySource::snapshot(repository, catalog, &snapshot, KeyRange::all(), reporter)?)
        }
    }
}

fn made(summary: &RestoreSummary) -> u64 {
    summary.files_restored + summary.files_updated + summary.directories + summary.hard_links + summary.others
}

fn text(summary: &RestoreSummary, options: &RestoreOptions, reporter: &Reporter) -> String {
    let mut text = String::new();
    let directories = match summary.directories {
        1 => "1 directory".to_owned(),
        number => format!("{number} directories"),
    };
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "{} {}, {directories}, {} ({}) to {} in {}",
        if options.dry_run { "would restore" } else { "restored" },
        count(summary.files_restored + summary.files_updated, "file"),
        count(summary.hard_links + summary.others, "other"),
        size::show(summary.bytes_restored),
        show_path(&options.target),
        time::duration(reporter.elapsed())
    );
    for (number, noun, what) in [
        (summary.files_unchanged, "file", " unchanged"),
        (summary.skipped, "item", " not touched"),
        (summary.files_verified, "file", " read again and compared"),
        (summary.faults, "error", ""),
    ] {
        if number > 0 {
            let _ = writeln!(text, "{}{what}", count(number, noun));
        }
    }
    text
}

/// restic's `summary`, with ours behind it.
#[derive(Serialize)]
struct Json {
    message_type: &'static str,
    seconds_elapsed: u64,
    total_files: u64,
    files_restored: u64,
    files_skipped: u64,
    total_bytes: u64,
    bytes_restored: u64,
    files_updated: u64,
    files_unchanged: u64,
    files_verified: u64,
    error_count: u64,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    dry_run: bool,
}

impl Json {
    fn new(summary: &RestoreSummary, reporter: &Reporter, dry_run: bool) -> Self {
        let files_restored = made(summary);
        let files_skipped = summary.skipped + summary.files_unchanged;
        Self {
            message_type: "summary",
            seconds_elapsed: reporter.elapsed().as_secs(),
            total_files: files_restored + files_skipped,
            files_restored,
            files_skipped,
            total_bytes: summary.bytes_restored,
            bytes_restored: summary.bytes_restored,
            files_updated: summary.files_updated,
            files_unchanged: summary.files_unchanged,
            files_verified: summary.files_verified,
            error_count: summary.faults,
            dry_run,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restore_with_faults_is_no_success() {
        let mut summary = RestoreSummary::default();
        assert_eq!(exit(&summary, Exit::Success), Exit::Success);
        summary.faults = 1;
        assert_eq!(exit(&summary, Exit::Success), Exit::Partial);
        assert_eq!(exit(&summary, Exit::Damage), Exit::Damage);
    }
}
