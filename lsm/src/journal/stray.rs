//! A log that nobody names: whether it holds what is nowhere else.

use std::path::Path;

use super::logfile::{LOG_HEADER_BYTES, LogEnd, LogKind, Start};
use super::reader::{RecordReader, Step};
use super::record::RecordKind;
use super::recover::{Access, FIRST_RECORD_END};
use super::sites;
use crate::checksum::Identity;
use crate::error::{ErrorKind, IoContext, Result};
use crate::filename::{FileName, FileNumber};
use crate::fs::{Advice, FileSystem};
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
    /// Where the log before it ends, as it says.
    pub previous: Option<LogEnd>,
    /// Whether a record in it knows that it is durable beyond its beginning: that is said of a log only when it is named.
    pub was_named: bool,
}

/// Whether a log holds nothing but whole records up to where it is told to end: then it is whole, last record or not.
///
/// Where files may be touched it is made durable first, and read from the medium: what is found is there to stay.
///
/// # Errors
/// Those of reading and syncing; [`ErrorKind::NewerFormat`].
pub fn is_whole(fs: &dyn FileSystem, directory: &Path, end: &LogEnd, access: Access) -> Result<bool> {
    let path = FileName::Log(end.number).path(directory);
    let file = match fs.open_read(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        opened => opened.context("open", &path)?,
    };
    if access == Access::Write {
        file.sync_data(sites::RECOVER).context("sync", &path)?;
        file.advise(Advice::DontNeed, 0, 0);
    }
    let mut reader = RecordReader::with_identity(file, &path, end.identity)?;
    let mut at = LOG_HEADER_BYTES as u64;
    while at < end.offset {
        match reader.step(at, end.offset)? {
            Step::Record(record) => at = record.end,
            Step::Nothing | Step::Bad { .. } => return Ok(false),
        }
    }
    Ok(at == end.offset)
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
    let start = match reader.step(LOG_HEADER_BYTES as u64, u64::MAX)? {
        Step::Record(record) if record.header.kind == RecordKind::Start => {
            Start::decode(record.payload, identity, record.header.first_sequence).ok()
        }
        _ => None,
    };
    let Some(start) = start.filter(|start| start.number == number && start.database == database) else {
        return Ok(None);
    };
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
    let rest = reader.survey(FIRST_RECORD_END, u64::MAX)?;
    let (last, was_named) = (rest.last_sequence, rest.durable > FIRST_RECORD_END);
    Ok(Some(StrayLog { number, identity, first, last, previous: start.previous, was_named }))
}
