//! A log of the journal: its records, or the operations of its batches. Every whole record is shown; which of them count an opening decides.

use std::sync::Arc;

use lsm::batch::{Operation, Operations};
use lsm::fs::File;
use lsm::journal::{BadBytes, LogKind, Record, RecordKind, salvage_records};
use serde_json::json;

use crate::Finding;
use crate::args::Dump;
use crate::dump::{Entry, deleted_range, entry};
use crate::output::{Failure, Output, Result};

pub(super) fn run(arguments: &Dump, file: &Arc<dyn File>, out: &mut Output) -> Result<Finding> {
    let path = &arguments.path;
    if arguments.raw {
        out.line(lsm::journal::dump(Arc::clone(file), path, LogKind::Journal)?.trim_end())?;
        return Ok(Finding::Sound);
    }
    let mut failed: Option<Failure> = None;
    let bad = salvage_records(file, path, LogKind::Journal, &mut |record| {
        if failed.is_none() {
            let shown = match arguments.wants_entries() {
                true => operations(arguments, record, out),
                false => header(arguments, record, out),
            };
            failed = shown.err();
        }
        Ok(())
    })?;
    if let Some(failed) = failed {
        return Err(failed);
    }
    tell_bad(arguments, &bad, out)?;
    Ok(if bad.is_empty() { Finding::Sound } else { Finding::Damage })
}

/// Tells of bytes that are no record.
pub(super) fn tell_bad(arguments: &Dump, bad: &[BadBytes], out: &mut Output) -> Result<()> {
    for bad in bad {
        if arguments.json {
            out.json(&json!({ "no_record_at": bad.offset, "bytes": bad.bytes, "reason": bad.reason }))?;
        } else {
            out.line(format_args!(
                "no record at {}, {} bytes: {} (torn by a crash, or damaged: an opening tells)",
                bad.offset, bad.bytes, bad.reason
            ))?;
        }
    }
    Ok(())
}

fn header(arguments: &Dump, record: &Record<'_>, out: &mut Output) -> Result<()> {
    let header = &record.header;
    if arguments.json {
        return out.json(&json!({
            "offset": record.offset,
            "kind": format!("{:?}", header.kind).to_lowercase(),
            "operations": header.op_count,
            "first_sequence": header.first_sequence,
            "durable_offset": header.durable_offset,
            "sync_asked": header.sync_asked,
            "payload_bytes": record.payload.len(),
        }));
    }
    let numbers = match header.kind {
        RecordKind::Batch => format!(
            "{} operations, sequence numbers {} to {}",
            header.op_count,
            header.first_sequence,
            header.last_sequence()
        ),
        _ => format!("next sequence number {}", header.first_sequence),
    };
    out.line(format_args!(
        "{} {:?}: {numbers}, durable to {}{}, {} bytes",
        record.offset,
        header.kind,
        header.durable_offset,
        if header.sync_asked { ", sync asked" } else { "" },
        record.payload.len()
    ))
}

fn operations(arguments: &Dump, record: &Record<'_>, out: &mut Output) -> Result<()> {
    if record.header.kind != RecordKind::Batch {
        return Ok(());
    }
    let wanted = arguments.range();
    let bytes = |place: &std::ops::Range<usize>| record.payload.get(place.clone()).unwrap_or_default();
    for (sequence, operation) in (record.header.first_sequence..).zip(Operations::new(record.payload)) {
        let (keyspace, operation) =
            operation.map_err(|error| error.at(&arguments.path).at_offset(record.offset))?;
        let keyspace = keyspace.number().to_string();
        if arguments.keyspace.as_ref().is_some_and(|wanted| *wanted != keyspace) {
            continue;
        }
        let (what, key, value) = match &operation {
            Operation::Put { key, value } => ("put", bytes(key), Some(bytes(value))),
            Operation::Delete { key } => ("delete", bytes(key), None),
            Operation::DeleteRange { start, end } => {
                let (start, end) = (bytes(start), end.as_ref().map(bytes));
                let deleted = lsm::range::KeyRange::until(start, end.map(<[u8]>::to_vec));
                if wanted.overlaps(&deleted) {
                    deleted_range(arguments, Some(&keyspace), sequence, (start, end), out)?;
                }
                continue;
            }
        };
        if wanted.contains(key) {
            let one = Entry { keyspace: Some(&keyspace), sequence: Some(sequence), what, key, value };
            entry(arguments, &one, out)?;
        }
    }
    Ok(())
}
