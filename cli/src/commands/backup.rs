//! `versions backup`: one more snapshot, of directories or of standard input.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use chunkstore::ErrorKind;
use chunkstore::backup::{self, BackupOptions, BackupSummary};
use chunkstore::metadata::Timestamp;
use chunkstore::repository::Repository;
use chunkstore::source::RuleOptions;
use chunkstore::target::url::TargetUrl;
use serde::Serialize;

use super::init;
use crate::args;
use crate::exit::{Exit, Failure};
use crate::input::Input;
use crate::paths;
use crate::render::path::show_path;
use crate::render::{size, snapshot, time};
use crate::reporter::Reporter;
use crate::session::{Session, snapshot_host, target_url};

pub(super) fn run(session: &Session, args: &args::Backup) -> Result<Exit, Failure> {
    let roots = roots(args)?;
    let input = args.stdin.then(|| Input::new(session.interrupt.clone())).transpose()?;
    let reporter = session.reporter();
    let mut repository = open(session, args, &reporter)?;
    for mirror in &args.targets.mirror {
        add_mirror(&mut repository, &target_url(mirror)?, &reporter)?;
    }
    repository.notice_ages(&reporter)?;
    let catalog = session.writable(&repository, &reporter)?;
    let options = options(session, args, roots, &repository)?;
    let summary = match input {
        Some(input) => {
            let path = stdin_path(&args.stdin_filename)?;
            backup::backup_stream(&repository, &catalog, &options, &path, Box::new(input), &reporter)
        }
        None => backup::backup(&repository, &catalog, &options, &reporter),
    };
    // A read of standard input that was given up for a signal fails as a read; it is the signal that counts.
    let summary = summary
        .map_err(|error| if session.interrupt.asked() { Failure::Interrupted } else { error.into() })?;
    reporter.finish();
    if session.output.is_json() {
        session.output.json_line(&Json::new(&summary, args.dry_run));
    } else {
        session.output.summary(&text(&summary, args.dry_run));
    }
    if let Some(error) = &summary.catalog_error {
        reporter.warn(&format!(
            "the snapshot is on the targets, but this machine's catalog could not take it in: the next command does ({error})"
        ));
        drop(catalog);
        if error.is_catalog_damage() {
            session.give_up_catalog(error);
        }
    }
    Ok(reporter.exit())
}

/// What to back up, as it is kept; at least one of them must be there.
fn roots(args: &args::Backup) -> Result<Vec<PathBuf>, Failure> {
    let mut roots = args.paths.iter().map(|path| paths::absolute(path)).collect::<Result<Vec<_>, _>>()?;
    roots.sort();
    roots.dedup();
    if !args.stdin && roots.iter().all(|root| root.symlink_metadata().is_err()) {
        let names: Vec<_> = roots.iter().map(|root| show_path(root)).collect();
        return Err(Failure::Usage(format!("nothing to back up: {} cannot be found", names.join(", "))));
    }
    Ok(roots)
}

/// The place of standard input in the snapshot, whatever directory the program runs in.
fn stdin_path(name: &Path) -> Result<PathBuf, Failure> {
    let path = Path::new("/").join(name);
    // `file_name` looks through `.` at the end, which stands for the directory all the same.
    if path.file_name().is_none() || name.as_os_str().as_encoded_bytes().ends_with(b"/.") {
        return Err(Failure::Usage(format!("{} is no name for a file", show_path(name))));
    }
    Ok(path)
}

/// Opens the repository; makes it, if that is wanted and there is none.
fn open(session: &Session, args: &args::Backup, reporter: &Reporter) -> Result<Repository, Failure> {
    match session.open_repository(reporter) {
        Err(Failure::Library(error)) if error.kind() == ErrorKind::NoRepository && args.init => {
            if init::is_remembered(session)? {
                return Err(Failure::Library(error.at("--init makes no repository in the place of another")));
            }
            reporter.above(|| init::make(session, &args.targets.mirror, args.password_cost.into()))
        }
        other => other,
    }
}

/// A further target that is asked for on each run is added by the first.
fn add_mirror(repository: &mut Repository, url: &str, reporter: &Reporter) -> Result<(), Failure> {
    let listed = repository.target_list()?.iter().any(|target| target.url == url && target.listed);
    if !listed {
        repository.add_target(url, reporter)?;
    }
    Ok(())
}

fn options(
    session: &Session,
    args: &args::Backup,
    roots: Vec<PathBuf>,
    repository: &Repository,
) -> Result<BackupOptions, Failure> {
    let mut options = BackupOptions::new(snapshot_host(args.host.as_deref()), roots);
    options.tags = args.tag.iter().filter(|tag| !tag.is_empty()).cloned().collect();
    options.dry_run = args.dry_run;
    // The backup itself is no part of what is backed up: it changes while it is read, and would grow without end.
    let mut exclude_trees = vec![session.state_dir()?];
    exclude_trees.extend(repository.targets().iter().filter_map(|target| {
        match TargetUrl::parse(target.url()) {
            Ok(TargetUrl::Directory(path)) => Some(path),
            Err(_) => None,
        }
    }));
    options.rules = RuleOptions {
        exclude: args.exclude.clone(),
        exclude_files: args.exclude_file.clone(),
        exclude_caches: args.exclude_caches,
        exclude_if_present: args.exclude_if_present.clone(),
        exclude_trees,
        one_file_system: args.one_file_system,
        ..RuleOptions::default()
    };
    Ok(options)
}

/// The summary as restic writes it.
fn text(summary: &BackupSummary, dry_run: bool) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "\nFiles: {:>11} new, {:>5} changed, {:>5} unmodified",
        summary.files_new, summary.files_changed, summary.files_unmodified
    );
    let _ = writeln!(
        text,
        "Dirs: {:>12} new, {:>5} changed, {:>5} unmodified",
        summary.dirs_new, summary.dirs_changed, summary.dirs_unmodified
    );
    let added = if dry_run { "Would be added" } else { "Added" };
    let _ = writeln!(
        text,
        "{added} to the repository: {} ({} stored)\n",
        size::show(summary.bytes_new),
        size::show(summary.bytes_stored)
    );
    let _ = writeln!(
        text,
        "processed {} files, {} in {}",
        summary.files_processed,
        size::show(summary.bytes_processed),
        time::duration(summary.duration)
    );
    if let Some(id) = &summary.snapshot {
        let partial = if summary.is_partial() { ", without what could not be read" } else { "" };
        let _ = writeln!(text, "snapshot {} saved{partial}", snapshot::short(id));
        let whole = match summary.targets_complete.as_slice() {
            [] => "no target yet".to_owned(),
            targets => targets.join(", "),
        };
        let _ = writeln!(text, "whole on: {whole}");
    }
    if !summary.targets_behind.is_empty() {
        let _ = writeln!(
            text,
            "behind: {} (the next backup or `versions mirror` brings what is lacking)",
            summary.targets_behind.join(", ")
        );
    }
    text
}

/// restic's `summary`.
#[derive(Debug, Serialize)]
struct Json<'a> {
    message_type: &'static str,
    files_new: u64,
    files_changed: u64,
    files_unmodified: u64,
    dirs_new: u64,
    dirs_changed: u64,
    dirs_unmodified: u64,
    data_blobs: u64,
    tree_blobs: u64,
    data_added: u64,
    data_added_packed: u64,
    total_files_processed: u64,
    total_bytes_processed: u64,
    total_duration: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    backup_start: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    backup_end: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    snapshot_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    dry_run: bool,
    /// Whether something could not be read; ours, as are the next two.
    partial: bool,
    targets_complete: &'a [String],
    targets_behind: &'a [String],
}

impl<'a> Json<'a> {
    fn new(summary: &'a BackupSummary, dry_run: bool) -> Self {
        let stamp = |moment: std::time::SystemTime| {
            let since = moment.duration_since(std::time::UNIX_EPOCH).ok()?;
            let seconds = i64::try_from(since.as_secs()).ok()?;
            Some(time::rfc3339(Timestamp { seconds, nanoseconds: since.subsec_nanos() }))
        };
        Self {
            message_type: "summary",
            files_new: summary.files_new,
            files_changed: summary.files_changed,
            files_unmodified: summary.files_unmodified,
            dirs_new: summary.dirs_new,
            dirs_changed: summary.dirs_changed,
            dirs_unmodified: summary.dirs_unmodified,
            data_blobs: summary.chunks_new,
            // There are no tree objects here; what a directory holds is in the catalog's segments.
            tree_blobs: 0,
            data_added: summary.bytes_new,
            data_added_packed: summary.bytes_stored,
            total_files_processed: summary.files_processed,
            total_bytes_processed: summary.bytes_processed,
            total_duration: summary.duration.as_secs_f64(),
            backup_start: summary.started.and_then(stamp),
            backup_end: summary.started.and_then(|start| stamp(start + summary.duration)),
            snapshot_id: summary.snapshot.map(|id| id.to_string()),
            parent: summary.parent.map(|id| id.to_string()),
            dry_run,
            partial: summary.is_partial(),
            targets_complete: &summary.targets_complete,
            targets_behind: &summary.targets_behind,
        }
    }
}
