//! Every record of a file that is whole, wherever it stands, and what lies between: for repair, which judges nothing.
//!
//! Only where each record is durable before the next one is written may one behind bad bytes be believed: that is so in a manifest, and not in a log of
//! the journal, for which [`recover`](super::recover()) knows what counts.

use std::path::Path;
use std::sync::Arc;

use super::logfile::{LOG_HEADER_BYTES, LogKind, Start};
use super::reader::{Record, RecordReader, Step};
use super::recover::first_record;
use crate::checksum::Identity;
use crate::error::{ErrorKind, IoContext, Result};
use crate::fs::{File, FileSystem};

/// Where a header keeps the identity: bytes that may be right when others of the header are not.
const IDENTITY_OFFSET: u64 = 24;

/// Bytes that are no record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadBytes {
    /// Where they begin.
    pub offset: u64,
    /// How many.
    pub bytes: u64,
    /// What is wrong with them.
    pub reason: String,
}

/// Visits every whole record of a file. Where the header is damaged, the identity that stands in it is tried: the records vouch for
/// themselves. Returns what is between them, zeros at the end left out.
///
/// # Errors
/// Those of reading; [`ErrorKind::NewerFormat`]; those of `visit`.
pub fn salvage_records(
    file: &Arc<dyn File>,
    path: &Path,
    kind: LogKind,
    visit: &mut dyn FnMut(&Record<'_>) -> Result<()>,
) -> Result<Vec<BadBytes>> {
    let mut bad = Vec::new();
    let mut reader = match RecordReader::open(Arc::clone(file), path, kind) {
        Ok(reader) => reader,
        Err(error) if error.kind() == ErrorKind::Corruption => {
            bad.push(BadBytes { offset: 0, bytes: LOG_HEADER_BYTES as u64, reason: error.to_string() });
            let length = file.len().context("read the length", path)?;
            let mut identity = [0; 16];
            if length < LOG_HEADER_BYTES as u64 {
                return Ok(bad);
            }
            file.read_exact_at(&mut identity, IDENTITY_OFFSET).context("read", path)?;
            RecordReader::with_identity(Arc::clone(file), path, Identity::from_bytes(identity))?
        }
        Err(error) => return Err(error),
    };
    let length = reader.file_bytes();
    let mut at = LOG_HEADER_BYTES as u64;
    while at < length {
        let (reason, next) = match reader.step(at, u64::MAX)? {
            Step::Record(record) => {
                let end = record.end;
                visit(&record)?;
                at = end;
                continue;
            }
            Step::Nothing => break,
            Step::Bad { reason, header } => {
                (reason, header.map_or(at + 1, |header| at + header.record_bytes()))
            }
        };
        // A header whose payload is damaged may say a wrong length only if its checksum lies; one that ends behind the file was cut.
        let found = match reader.resync(next.min(length), u64::MAX)? {
            Some((found, _)) => found,
            None => length,
        };
        bad.push(BadBytes { offset: at, bytes: found - at, reason });
        at = found;
    }
    Ok(bad)
}

/// The first record of a log, if header and record are whole.
///
/// # Errors
/// Those of reading; [`ErrorKind::NewerFormat`].
pub(crate) fn start_of(fs: &dyn FileSystem, path: &Path) -> Result<Option<Start>> {
    let file = fs.open_read(path).context("open", path)?;
    let start =
        RecordReader::open(file, path, LogKind::Journal).and_then(|mut reader| first_record(&mut reader));
    match start {
        Err(error) if error.kind() == ErrorKind::Corruption => Ok(None),
        start => start,
    }
}
