//! The Versions of a file, as `log` shows them.

use chunkstore::catalog::{Changed, LogEntry};
use chunkstore::entry_key::EntryKey;
use chunkstore::id::FileId;
use chunkstore::version::Marks;
use serde::Serialize;

use super::table::{Align, Table};
use super::{mode, path, size, snapshot, time};

/// What is different from the Version before, in words.
pub(crate) fn words(changed: &Changed) -> Vec<&'static str> {
    [
        (changed.born, "new"),
        (changed.gone, "removed"),
        (changed.renamed, "renamed"),
        (changed.kind, "kind"),
        (changed.contents, "contents"),
        (changed.mode, "mode"),
        (changed.owner, "owner"),
        (changed.mtime, "mtime"),
        (changed.xattrs, "xattrs"),
        (changed.other, "other"),
    ]
    .into_iter()
    .filter_map(|(set, word)| set.then_some(word))
    .collect()
}

fn mark_words(marks: Marks) -> Vec<&'static str> {
    // That a timestamp was too young to be trusted matters to the next backup only.
    [(Marks::CHANGED_WHILE_READ, "changed while it was read"), (Marks::NOT_READ, "could not be read")]
        .into_iter()
        .filter_map(|(mark, word)| marks.has(mark).then_some(word))
        .collect()
}

/// A Version as it is told.
#[derive(Debug)]
pub(crate) struct Row {
    entry: LogEntry,
    /// Where the file was before, if it was renamed.
    renamed_from: Option<EntryKey>,
}

/// The story of a file: a rename, which the catalog sees as one path gone and another one come, is told once.
pub(crate) fn story(entries: Vec<LogEntry>) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for mut entry in entries {
        let mut renamed_from = None;
        if entry.changed.born {
            // The first of its timeline, and yet no new File: a backup that began afresh said it again.
            let is_same =
                |row: &&Row| file_of(&row.entry).is_some() && file_of(&row.entry) == file_of(&entry);
            let before = rows.iter().rev().find(is_same);
            let before = before.and_then(|row| Some((&row.entry.key, row.entry.version.as_ref()?)));
            entry.changed = Changed::between(before, &entry.key, entry.version.as_ref());
        }
        if entry.changed.renamed {
            let is_before = |row: &&Row| file_of(&row.entry) == file_of(&entry);
            renamed_from = rows.iter().rev().find(is_before).map(|row| row.entry.key.clone());
            rows.retain(|row| {
                let is_gone = row.entry.version.is_none() && row.entry.snapshot.id == entry.snapshot.id;
                !(is_gone && Some(&row.entry.key) == renamed_from.as_ref())
            });
        }
        rows.push(Row { entry, renamed_from });
    }
    rows
}

fn file_of(entry: &LogEntry) -> Option<FileId> {
    entry.version.as_ref().map(|version| version.file)
}

/// What changed, in words; a rename as it looks from the path that was asked for.
fn told(row: &Row, asked: &EntryKey) -> String {
    let mut words: Vec<String> = words(&row.entry.changed).into_iter().map(str::to_owned).collect();
    if let Some(from) = &row.renamed_from {
        words.retain(|word| word != "renamed");
        words.push(match &row.entry.key {
            here if here == asked => format!("renamed from {}", path::show(&from.path_bytes())),
            there => format!("renamed to {}", path::show(&there.path_bytes())),
        });
    }
    if words.is_empty() {
        words.push("nothing".to_owned());
    }
    words.join(", ")
}

/// The table of `versions log` for the path that was asked for.
pub(crate) fn table(rows: &[Row], asked: &EntryKey) -> String {
    let mut table = Table::new(&[
        ("Version", Align::Left),
        ("Snapshot", Align::Left),
        ("Time", Align::Left),
        ("Host", Align::Left),
        ("Mode", Align::Left),
        ("Size", Align::Right),
        ("Modified", Align::Left),
        ("Changed", Align::Left),
    ]);
    for row in rows {
        let entry = &row.entry;
        let mut changed = told(row, asked);
        let (mut id, mut permissions, mut bytes, mut modified) =
            <(String, String, String, String)>::default();
        if let Some(version) = &entry.version {
            id = snapshot::short(&version.id.uuid());
            permissions = mode::letters(&version.metadata);
            bytes = size::show(version.metadata.size);
            modified = time::show(version.metadata.mtime);
            for mark in mark_words(version.marks) {
                changed.push('\n');
                changed.push_str(mark);
            }
        }
        table.row(vec![
            id,
            snapshot::short(&entry.snapshot.id),
            time::show(entry.snapshot.time),
            path::show(&entry.snapshot.host).into_owned(),
            permissions,
            bytes,
            modified,
            changed,
        ]);
    }
    table.show()
}

/// A Version for programs.
#[derive(Debug, Serialize)]
pub(crate) struct Json {
    message_type: &'static str,
    /// Absent where the file was gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file_id: Option<String>,
    snapshot_id: String,
    time: String,
    hostname: String,
    path: String,
    #[serde(skip_serializing_if = "Option::is_none", rename = "type")]
    kind: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    permissions: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mtime: Option<String>,
    changed: Vec<&'static str>,
    /// Where it was before, if it was renamed.
    #[serde(skip_serializing_if = "Option::is_none")]
    renamed_from: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    marks: Vec<&'static str>,
}

impl Json {
    /// A line.
    pub(crate) fn new(row: &Row) -> Self {
        let entry = &row.entry;
        let version = entry.version.as_ref();
        let metadata = version.map(|version| &version.metadata);
        Self {
            message_type: "version",
            id: version.map(|version| version.id.uuid().to_string()),
            file_id: version.map(|version| version.file.uuid().to_string()),
            snapshot_id: entry.snapshot.id.to_string(),
            time: time::rfc3339(entry.snapshot.time),
            hostname: path::show(&entry.snapshot.host).into_owned(),
            path: path::show(&entry.key.path_bytes()).into_owned(),
            kind: metadata.map(|metadata| mode::word(metadata.kind)),
            size: metadata.map(|metadata| metadata.size),
            mode: metadata.map(mode::number),
            permissions: metadata.map(mode::letters),
            mtime: metadata.map(|metadata| time::rfc3339(metadata.mtime)),
            changed: words(&entry.changed),
            renamed_from: row.renamed_from.as_ref().map(|from| path::show(&from.path_bytes()).into_owned()),
            marks: version.map(|version| mark_words(version.marks)).unwrap_or_default(),
        }
    }
}
