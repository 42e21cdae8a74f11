//! A manifest: its edits, those too behind damaged ones.

use std::path::Path;
use std::sync::Arc;

use lsm::fs::{FileSystem, OsFs};
use lsm::journal::{BadBytes, LogKind, RecordKind, salvage_records};
use lsm::levels::{Change, Edit};
use lsm::{Error, ErrorKind};
use serde_json::{Map, Value, json};

use crate::Finding;
use crate::args::Dump;
use crate::dump::log::tell_bad;
use crate::output::{Failure, Output, Result, put_range, range};

pub(super) fn run(arguments: &Dump, path: &Path, out: &mut Output) -> Result<Finding> {
    let fs: Arc<dyn FileSystem> = Arc::new(OsFs);
    let file = fs.open_read(path).map_err(|error| Error::io("open", error).at(path))?;
    let mut failed: Option<Failure> = None;
    let mut undecoded = Vec::new();
    let mut bad = salvage_records(&file, path, LogKind::Manifest, &mut |record| {
        if record.header.kind != RecordKind::Batch || failed.is_some() {
            return Ok(());
        }
        match Edit::decode(record.payload) {
            Ok(edit) => {
                failed = show(arguments, record.header.first_sequence, record.offset, &edit, out).err()
            }
            Err(error) if error.kind() == ErrorKind::Corruption => undecoded.push(BadBytes {
                offset: record.offset,
                bytes: record.end - record.offset,
                reason: error.to_string(),
            }),
            Err(error) => return Err(error.at(path).at_offset(record.offset)),
        }
        Ok(())
    })?;
    if let Some(failed) = failed {
        return Err(failed);
    }
    bad.append(&mut undecoded);
    tell_bad(arguments, &bad, out)?;
    Ok(if bad.is_empty() { Finding::Sound } else { Finding::Damage })
}

fn show(arguments: &Dump, number: u64, offset: u64, edit: &Edit, out: &mut Output) -> Result<()> {
    if arguments.json {
        let changes: Vec<Value> = edit.changes.iter().map(as_json).collect();
        return out.json(&json!({ "edit": number, "offset": offset, "changes": changes }));
    }
    out.line(format_args!("edit {number} at {offset}"))?;
    edit.changes.iter().try_for_each(|change| out.line(format_args!("  {}", line(change))))
}

fn line(change: &Change) -> String {
    match change {
        Change::Database(identity) => format!("database {identity:?}"),
        Change::Keyspace { id, name, kind } => format!("keyspace {}: {name:?}, {kind}", id.number()),
        Change::TableAdded { keyspace, level, table } => format!(
            "keyspace {}, level {level}: table {} added, {} bytes, {} entries, {} deletions, keys {}, sequence numbers {} to {}, \
             epoch {}",
            keyspace.number(),
            table.file,
            table.file_bytes,
            table.entries,
            table.deletions,
            range(&table.bounds),
            table.sequence_min,
            table.sequence_max,
            table.epoch
        ),
        Change::TableRemoved { keyspace, level, file, .. } => {
            format!("keyspace {}, level {level}: table {file} removed", keyspace.number())
        }
        Change::Flushed { keyspace, through } => {
            format!("keyspace {}: flushed through {through}", keyspace.number())
        }
        Change::LogAdded { number, identity } => format!("log {number} added, {identity:?}"),
        Change::LogCut { number, cut } => {
            format!("log {number} ends at {}, with sequence number {}", cut.offset, cut.last_sequence)
        }
        Change::LogRemoved(number) => format!("log {number} removed"),
        Change::NextFile(number) => format!("next file {number}"),
        Change::NextSequence(number) => format!("next sequence number {number}"),
        Change::KeyspaceRemoved(id) => format!("keyspace {} dropped", id.number()),
        Change::KeyspacesDropped { last, flushed } => {
            format!(
                "keyspaces were numbered up to {}, the dropped ones flushed through {flushed}",
                last.number()
            )
        }
        Change::Checkpoint => "this is a checkpoint that nobody has written to".to_owned(),
        Change::Unfinished => "this is to become a checkpoint, and is none yet".to_owned(),
    }
}

fn as_json(change: &Change) -> Value {
    let mut object = Map::new();
    let mut put = |name: &str, value: Value| {
        object.insert(name.to_owned(), value);
    };
    match change {
        Change::Database(identity) => put("database", format!("{identity:?}").into()),
        Change::Keyspace { id, name, kind } => {
            put("keyspace", id.number().into());
            put("name", (**name).into());
            put("kind", kind.to_string().into());
        }
        Change::TableAdded { keyspace, level, table } => {
            put("table_added", table.file.into());
            put("keyspace", keyspace.number().into());
            put("level", (*level).into());
            put("bytes", table.file_bytes.into());
            put("entries", table.entries.into());
            put("deletions", table.deletions.into());
            put("first_sequence", table.sequence_min.into());
            put("last_sequence", table.sequence_max.into());
            put("epoch", table.epoch.into());
            put_range(&mut object, &table.bounds);
        }
        Change::TableRemoved { keyspace, level, file, .. } => {
            put("table_removed", (*file).into());
            put("keyspace", keyspace.number().into());
            put("level", (*level).into());
        }
        Change::Flushed { keyspace, through } => {
            put("flushed", (*through).into());
            put("keyspace", keyspace.number().into());
        }
        Change::LogAdded { number, identity } => {
            put("log_added", (*number).into());
            put("identity", format!("{identity:?}").into());
        }
        Change::LogCut { number, cut } => {
            put("log_cut", (*number).into());
            put("offset", cut.offset.into());
            put("last_sequence", cut.last_sequence.into());
        }
        Change::LogRemoved(number) => put("log_removed", (*number).into()),
        Change::NextFile(number) => put("next_file", (*number).into()),
        Change::NextSequence(number) => put("next_sequence", (*number).into()),
        Change::KeyspaceRemoved(id) => put("keyspace_dropped", id.number().into()),
        Change::KeyspacesDropped { last, flushed } => {
            put("keyspace_last", last.number().into());
            put("flushed", (*flushed).into());
        }
        Change::Checkpoint => put("checkpoint", true.into()),
        Change::Unfinished => put("unfinished", true.into()),
    }
    object.into()
}
