//! A log as text: each record, its fields, its bytes.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use super::logfile::{LOG_HEADER_BYTES, LogKind, Start, decode_end};
use super::reader::{Record, RecordReader, Step};
use super::record::RecordKind;
use crate::error::Result;
use crate::fs::File;

/// Of a payload at most this much is shown.
const SHOWN_BYTES: usize = 64;

/// Describes every record of a file, and what is between them. Damage is described too; only a file without a header, or what a
/// newer version wrote, is an error.
///
/// # Errors
/// Those of reading and of the file's header.
pub fn dump(file: Arc<dyn File>, path: &Path, kind: LogKind) -> Result<String> {
    let mut reader = RecordReader::open(file, path, kind)?;
    let length = reader.file_bytes();
    let mut out = String::new();
    line(&mut out, format_args!("{kind}, {length} bytes, identity {:?}", reader.identity()));
    line(&mut out, format_args!("0 header"));
    hex(&mut out, reader.bytes(0, LOG_HEADER_BYTES as u64)?);
    let mut at = LOG_HEADER_BYTES as u64;
    while at < length {
        let identity = reader.identity();
        let (reason, next) = match reader.step(at, u64::MAX)? {
            Step::Record(record) => {
                describe(&mut out, &record, identity)?;
                at = record.end;
                continue;
            }
            Step::Nothing => {
                line(&mut out, format_args!("{at} zeros: {} bytes to the end", length - at));
                break;
            }
            Step::Bad { reason, header } => {
                (reason, header.map_or(at + 8, |header| at + header.record_bytes()))
            }
        };
        let end = reader.resync(next, u64::MAX)?.map_or(length, |(next, _)| next);
        line(&mut out, format_args!("{at} no record ({reason}): {} bytes", end - at));
        hex(&mut out, reader.bytes(at, (end - at).min(SHOWN_BYTES as u64))?);
        at = end;
    }
    Ok(out)
}

fn describe(out: &mut String, record: &Record<'_>, identity: crate::checksum::Identity) -> Result<()> {
    let header = &record.header;
    let numbers = match header.kind {
        RecordKind::Batch => {
            format!("sequence numbers {} to {}", header.first_sequence, header.last_sequence())
        }
        _ => format!("next sequence number {}", header.first_sequence),
    };
    line(
        out,
        format_args!(
            "{} {:?}: {numbers}, durable to {}{}, payload of {} bytes",
            record.offset,
            header.kind,
            header.durable_offset,
            if header.sync_asked { ", sync asked" } else { "" },
            record.payload.len()
        ),
    );
    match header.kind {
        RecordKind::Start => {
            let start = Start::decode(record.payload, identity, header.first_sequence)?;
            line(out, format_args!("  log {} of database {:?}", start.number, start.database));
            match start.previous {
                Some(end) => line(
                    out,
                    format_args!(
                        "  follows log {} with identity {:?}, which ends at {} with sequence number {}",
                        end.number, end.identity, end.offset, end.last_sequence
                    ),
                ),
                None => line(out, format_args!("  follows no log")),
            }
        }
        RecordKind::End => {
            line(out, format_args!("  last sequence number {}", decode_end(record.payload)?));
        }
        _ => {}
    }
    hex(out, record.payload.get(..SHOWN_BYTES).unwrap_or(record.payload));
    Ok(())
}

fn hex(out: &mut String, bytes: &[u8]) {
    for row in bytes.chunks(16) {
        let hex: Vec<String> = row.iter().map(|byte| format!("{byte:02x}")).collect();
        let text: String = row
            .iter()
            .map(|byte| if byte.is_ascii_graphic() || *byte == b' ' { char::from(*byte) } else { '.' })
            .collect();
        line(out, format_args!("    {:47}  {text}", hex.join(" ")));
    }
}

fn line(out: &mut String, arguments: std::fmt::Arguments<'_>) {
    // Writing to a string does not fail.
    let _ = writeln!(out, "{arguments}");
}
