//! A log that nobody names: whether it holds what is nowhere else.

use std::path::Path;

use super::logfile::{LOG_HEADER_BYTES, LogKind, Start};
use super::reader::{RecordReader, Step};
use super::record::RecordKind;
use super::recover::FIRST_RECORD_END;
use crate::checksum::Identity;
use crate::error::{ErrorKind, IoContext, Result};
use crate::filename::{FileName, FileNumber};
use crate::fs::FileSystem;
use crate::key::SequenceNumber;

/// A log that holds batches, and was merely found in the directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StrayLog {
    /// Its number.
    pub number: FileNumber,
    /// Its identity.
    pub identity: Identity,
    /// The first sequence number of a batch in it.
    pub first: SequenceNumber,
    /// The last one.
    pub last: SequenceNumber,
}

/// Looks at a log in a directory: is it one of this database, under its own name, whose first batch lies above `above`? One that is not whole up to its
/// first batch holds nothing that anybody was told of.
///
/// # Errors
/// Those of reading; [`ErrorKind::NewerFormat`].
pub fn find_stray(
    fs: &dyn FileSystem,
    directory: &Path,
    number: FileNumber,
    database: Identity,
    above: SequenceNumber,
) -> Result<Option<StrayLog>> {
    let path = FileName::Log(number).path(directory);
    let file = match fs.open_read(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        opened => opened.context("open", &path)?,
    };
    let mut reader = match RecordReader::open(file, &path, LogKind::Journal) {
        Err(error) if error.kind() == ErrorKind::Corruption => return Ok(None),
        opened => opened?,
    };
    let identity = reader.identity();
    let is_ours = match reader.step(LOG_HEADER_BYTES as u64, u64::MAX)? {
        Step::Record(record) if record.header.kind == RecordKind::Start => {
            Start::decode(record.payload, identity, record.header.first_sequence)
                .is_ok_and(|start| start.number == number && start.database == database)
        }
        _ => false,
    };
    if !is_ours {
        return Ok(None);
    }
    // Numbers rise in a log, so that its first batch tells of all.
    let mut at = FIRST_RECORD_END;
    let first = loop {
        match reader.resync(at, u64::MAX)? {
            Some((_, raw)) if raw.header.kind == RecordKind::Batch => break raw.header.first_sequence,
            Some((offset, raw)) => at = offset + raw.record_bytes(),
            None => return Ok(None),
        }
    };
    if first <= above {
        return Ok(None);
    }
    let last = reader.survey(FIRST_RECORD_END, u64::MAX)?.last_sequence;
    Ok(Some(StrayLog { number, identity, first, last }))
}
