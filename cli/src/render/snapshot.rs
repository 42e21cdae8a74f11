//! Snapshots, as a table and as restic's JSON.

use chunkstore::version::Snapshot;
use serde::Serialize;

use super::table::{Align, Table};
use super::words::count;
use super::{path, size, time};

/// The digits of an id that people are shown: enough for millions of snapshots without two alike.
const SHORT_ID_DIGITS: usize = 8;

/// The beginning of an id that is shown to people.
pub(crate) fn short(id: &impl ToString) -> String {
    id.to_string().chars().take(SHORT_ID_DIGITS).collect()
}

/// The table of `versions snapshots`, with the count below it.
pub(crate) fn table(snapshots: &[Snapshot]) -> String {
    let mut table = Table::new(&[
        ("ID", Align::Left),
        ("Time", Align::Left),
        ("Host", Align::Left),
        ("Tags", Align::Left),
        ("Paths", Align::Left),
        ("Size", Align::Right),
    ]);
    for snapshot in snapshots {
        let mut shown = time::show(snapshot.time);
        if snapshot.partial {
            shown.push_str("\npartial");
        }
        table.row(vec![
            short(&snapshot.id),
            shown,
            path::show(&snapshot.host).into_owned(),
            texts(&snapshot.tags).join("\n"),
            texts(&snapshot.roots).join("\n"),
            size::show(snapshot.stats.bytes_total),
        ]);
    }
    format!("{}{}\n", table.show(), count(snapshots.len() as u64, "snapshot"))
}

fn texts(names: &[Vec<u8>]) -> Vec<String> {
    names.iter().map(|name| path::show(name).into_owned()).collect()
}

/// A snapshot for programs.
#[derive(Debug, Serialize)]
pub(crate) struct Json {
    /// `snapshot` as a line of its own, absent within an array.
    #[serde(skip_serializing_if = "Option::is_none")]
    message_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    struct_type: Option<&'static str>,
    time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent: Option<String>,
    paths: Vec<String>,
    hostname: String,
    username: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    excludes: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<String>,
    program_version: String,
    /// Whether something could not be read; ours.
    partial: bool,
    summary: Summary,
    id: String,
    short_id: String,
}

#[derive(Debug, Serialize)]
struct Summary {
    backup_start: String,
    backup_end: String,
    files_new: u64,
    files_changed: u64,
    files_unmodified: u64,
    dirs_new: u64,
    dirs_changed: u64,
    dirs_unmodified: u64,
    data_blobs: u64,
    data_added: u64,
    data_added_packed: u64,
    total_files_processed: u64,
    total_bytes_processed: u64,
}

impl Json {
    /// An element of an array.
    pub(crate) fn element(snapshot: &Snapshot) -> Self {
        let stats = &snapshot.stats;
        Self {
            message_type: None,
            struct_type: None,
            time: time::rfc3339(snapshot.time),
            parent: snapshot.parent.map(|id| id.to_string()),
            paths: texts(&snapshot.roots),
            hostname: path::show(&snapshot.host).into_owned(),
            username: path::show(&snapshot.user).into_owned(),
            excludes: texts(&snapshot.excludes),
            tags: texts(&snapshot.tags),
            program_version: path::show(&snapshot.program).into_owned(),
            partial: snapshot.partial,
            summary: Summary {
                backup_start: time::rfc3339(snapshot.time),
                backup_end: time::rfc3339(snapshot.end),
                files_new: stats.files_new,
                files_changed: stats.files_changed,
                files_unmodified: stats.files_unmodified,
                dirs_new: stats.dirs_new,
                dirs_changed: stats.dirs_changed,
                dirs_unmodified: stats.dirs_unmodified,
                data_blobs: stats.chunks_new,
                data_added: stats.bytes_new,
                data_added_packed: stats.bytes_stored,
                total_files_processed: stats.files_total,
                total_bytes_processed: stats.bytes_total,
            },
            id: snapshot.id.to_string(),
            short_id: short(&snapshot.id),
        }
    }

    /// A line of its own, before the nodes.
    pub(crate) fn line(snapshot: &Snapshot) -> Self {
        Self { message_type: Some("snapshot"), struct_type: Some("snapshot"), ..Self::element(snapshot) }
    }
}
