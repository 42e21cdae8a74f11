//! Reading records back from a file that may hold anything: the next record, the end, or bytes that are neither.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::logfile::{LOG_HEADER_BYTES, LogKind, decode_header as decode_file_header};
use super::record::{
    NoRecord, RECORD_ALIGNMENT, RECORD_HEADER_BYTES, RawHeader, decode_header, is_plausible, padded,
};
use crate::checksum::Identity;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::fs::{Advice, File};
use crate::key::SequenceNumber;

/// How much is read at a time: enough that the call costs nothing beside the checksums, little enough for the cache.
const WINDOW_BYTES: usize = 1 << 20;

/// One record, and where it stands.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// Where it begins in the file.
    pub offset: u64,
    /// Where the next one begins.
    pub end: u64,
    /// Its header.
    pub header: super::RecordHeader,
    /// Its payload.
    pub payload: &'a [u8],
}

/// What stands at some place of a log.
#[derive(Debug)]
pub(crate) enum Step<'a> {
    /// A record, whole.
    Record(Record<'a>),
    /// Nothing, up to the end of what is read: zeros, or no bytes.
    Nothing,
    /// Bytes that are no record; and the header, if at least that is whole.
    Bad { reason: String, header: Option<RawHeader> },
}

/// What a look over a part of a log found, whole records or not.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Survey {
    /// The largest durable offset that a header there knows.
    pub(crate) durable: u64,
    /// The largest sequence number that a header there takes.
    pub(crate) last_sequence: SequenceNumber,
    /// Whether a header there asks for durability.
    pub(crate) sync_asked: bool,
    /// Whether bytes there belong to no record whose header is whole.
    pub(crate) unidentified: bool,
    /// Behind the last byte that is not zero.
    pub(crate) end: u64,
}

/// Reads a file of records.
#[derive(Debug)]
pub struct RecordReader {
    window: Window,
    identity: Identity,
}

impl RecordReader {
    /// A reader of a file whose header says that it is of this kind.
    ///
    /// # Errors
    /// Those of reading; corruption if the header is damaged; [`ErrorKind::NewerFormat`](crate::ErrorKind::NewerFormat).
    pub fn open(file: Arc<dyn File>, path: &Path, kind: LogKind) -> Result<Self> {
        let mut window = Window::new(file, path)?;
        let header = window.at(0, LOG_HEADER_BYTES as u64)?;
        let identity = match header.first_chunk::<LOG_HEADER_BYTES>() {
            Some(header) => decode_file_header(kind, header),
            None => Err(Error::corruption(format!(
                "no {kind}: {LOG_HEADER_BYTES} bytes of header expected, {} there",
                header.len()
            ))),
        };
        Ok(Self { identity: identity.map_err(|error| error.at(path).at_offset(0))?, window })
    }

    /// A reader of a file whose header is damaged, but whose identity is known from elsewhere.
    pub(crate) fn with_identity(file: Arc<dyn File>, path: &Path, identity: Identity) -> Result<Self> {
        Ok(Self { window: Window::new(file, path)?, identity })
    }

    /// The file's identity.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// The file's length when it was opened; nothing behind it is read.
    pub fn file_bytes(&self) -> u64 {
        self.window.length
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.window.path
    }

    /// Forgets what was read, so that it is read anew.
    pub(crate) fn forget(&mut self) {
        self.window.filled = 0;
    }

    /// What stands at `at`, a multiple of eight. What is at `limit` and behind it is not looked at.
    ///
    /// # Errors
    /// Those of reading; a record whose checksum holds but that this version does not understand.
    pub(crate) fn step(&mut self, at: u64, limit: u64) -> Result<Step<'_>> {
        let limit = limit.min(self.window.length);
        let identity = self.identity;
        let bytes = self.window.at(at, limit.saturating_sub(at).min(RECORD_HEADER_BYTES as u64))?;
        if bytes.iter().all(|byte| *byte == 0) {
            if self.window.is_zero(at, limit)? {
                return Ok(Step::Nothing);
            }
            return Ok(Step::Bad { reason: "zeros where a record should begin".to_owned(), header: None });
        }
        let Some(header) = bytes.first_chunk::<RECORD_HEADER_BYTES>() else {
            let reason = format!("{} bytes, too few for a record", bytes.len());
            return Ok(Step::Bad { reason, header: None });
        };
        let raw = match decode_header(identity, at, header) {
            Ok(raw) => raw,
            Err(NoRecord::Checksum) => {
                return Ok(Step::Bad {
                    reason: "the checksum of a record's header".to_owned(),
                    header: None,
                });
            }
            Err(NoRecord::Unknown(error)) => return Err(error.at(&self.window.path)),
        };
        let end = at + raw.record_bytes();
        if end > limit {
            let reason = format!("a record of {} bytes, {} there", end - at, limit - at);
            return Ok(Step::Bad { reason, header: Some(raw) });
        }
        let body = self.window.at(at, raw.record_bytes())?.get(RECORD_HEADER_BYTES..).unwrap_or_default();
        let payload_bytes = raw.payload_bytes as usize;
        debug_assert_eq!(body.len(), padded(payload_bytes));
        if !raw.matches(identity, at, body) {
            let reason = "the checksum of a record's payload".to_owned();
            return Ok(Step::Bad { reason, header: Some(raw) });
        }
        if body.iter().skip(payload_bytes).any(|byte| *byte != 0) {
            return Err(Error::new(
                ErrorKind::NewerFormat,
                "a record with something behind its payload: written by a newer version; open it with that one",
            )
            .at(&self.window.path)
            .at_offset(at));
        }
        // The same bytes again: they are in the window, and the borrow of the first look had to end.
        let record = self.window.at(at, raw.record_bytes())?;
        let payload =
            record.get(RECORD_HEADER_BYTES..RECORD_HEADER_BYTES + payload_bytes).unwrap_or_default();
        Ok(Step::Record(Record { offset: at, end, header: raw.header, payload }))
    }

    /// The first place at `from` or behind it where the header of a record is whole. A chance match is as likely as that of
    /// a 32-bit checksum, a number of 56 bits in 64 and one that is no larger than the offset.
    ///
    /// # Errors
    /// Those of reading; a record whose checksum holds but that this version does not understand: it is never passed over.
    pub(crate) fn resync(&mut self, from: u64, limit: u64) -> Result<Option<(u64, RawHeader)>> {
        let limit = limit.min(self.window.length);
        let identity = self.identity;
        let mut at = from.next_multiple_of(RECORD_ALIGNMENT as u64);
        while at + RECORD_HEADER_BYTES as u64 <= limit {
            // What the window holds and no more: mostly a record begins right here, and whoever goes from one to the next with
            // this must not read a whole window for each.
            let mut rest = self.window.ahead(at, RECORD_HEADER_BYTES as u64, limit - at)?;
            while let Some(header) = rest.first_chunk::<RECORD_HEADER_BYTES>() {
                if is_plausible(at, header) {
                    match decode_header(identity, at, header) {
                        Ok(raw) => return Ok(Some((at, raw))),
                        Err(NoRecord::Checksum) => {}
                        Err(NoRecord::Unknown(error)) => return Err(error.at(&self.window.path)),
                    }
                }
                at += RECORD_ALIGNMENT as u64;
                rest = rest.get(RECORD_ALIGNMENT..).unwrap_or_default();
            }
        }
        Ok(None)
    }

    /// Looks over everything from `from` to `limit`.
    pub(crate) fn survey(&mut self, from: u64, limit: u64) -> Result<Survey> {
        let limit = limit.min(self.window.length);
        let mut survey = Survey { end: self.window.nonzero_end(from, limit)?, ..Survey::default() };
        let mut at = from;
        while at < survey.end {
            match self.resync(at, limit)? {
                Some((offset, raw)) => {
                    survey.unidentified |= offset > at;
                    survey.durable = survey.durable.max(raw.header.durable_offset);
                    survey.last_sequence = survey.last_sequence.max(raw.header.last_sequence());
                    survey.sync_asked |= raw.header.sync_asked;
                    at = offset + raw.record_bytes();
                    if at > limit {
                        // Its end is cut off; or its length is wrong, and there are others behind it.
                        match self.resync(offset + 1, limit)? {
                            Some((other, _)) => at = other,
                            None => break,
                        }
                    }
                }
                None => {
                    survey.unidentified = true;
                    break;
                }
            }
        }
        Ok(survey)
    }

    /// The file's bytes, for whoever sets some aside.
    pub(crate) fn bytes(&mut self, offset: u64, count: u64) -> Result<&[u8]> {
        self.window.at(offset, count)
    }
}

/// A part of the file in memory.
#[derive(Debug)]
struct Window {
    file: Arc<dyn File>,
    path: PathBuf,
    /// The file's length when it was opened.
    length: u64,
    start: u64,
    bytes: Vec<u8>,
    filled: usize,
}

impl Window {
    fn new(file: Arc<dyn File>, path: &Path) -> Result<Self> {
        let length = file.len().context("read the length", path)?;
        file.advise(Advice::Sequential, 0, 0);
        Ok(Self { file, path: path.to_owned(), length, start: 0, bytes: Vec::new(), filled: 0 })
    }

    /// Bytes of the file; fewer where it ends. Memory is reserved for no more than the file has.
    fn at(&mut self, offset: u64, count: u64) -> Result<&[u8]> {
        let count = count.min(self.length.saturating_sub(offset));
        let too_large = |_| Error::corruption("a record larger than memory").at(&self.path).at_offset(offset);
        let count = usize::try_from(count).map_err(too_large)?;
        let inside = offset.checked_sub(self.start).and_then(|from| usize::try_from(from).ok());
        let inside = inside.filter(|from| from.checked_add(count).is_some_and(|end| end <= self.filled));
        let from = match inside {
            Some(from) => from,
            None => {
                let left = usize::try_from(self.length.saturating_sub(offset)).unwrap_or(usize::MAX);
                let fill = count.max(WINDOW_BYTES).min(left);
                if self.bytes.len() < fill {
                    self.bytes.resize(fill, 0);
                }
                self.filled = 0;
                let target = self.bytes.get_mut(..fill).unwrap_or_default();
                self.file
                    .read_exact_at(target, offset)
                    .context("read", &self.path)
                    .map_err(|error| error.at_offset(offset))?;
                (self.start, self.filled) = (offset, fill);
                0
            }
        };
        Ok(self.bytes.get(from..from + count).unwrap_or_default())
    }

    /// Bytes of the file: at least so many, and as many more of those wanted as can be had without reading again.
    fn ahead(&mut self, offset: u64, at_least: u64, wanted: u64) -> Result<&[u8]> {
        self.at(offset, at_least)?;
        let held = (self.start + self.filled as u64).saturating_sub(offset);
        self.at(offset, held.min(wanted))
    }

    /// Where the last byte that is not zero ends; `from` if there is none.
    fn nonzero_end(&mut self, from: u64, limit: u64) -> Result<u64> {
        let (mut at, mut end) = (from, from);
        while at < limit {
            let bytes = self.at(at, (limit - at).min(WINDOW_BYTES as u64))?;
            if bytes.is_empty() {
                break;
            }
            if let Some(last) = bytes.iter().rposition(|byte| *byte != 0) {
                end = at + last as u64 + 1;
            }
            at += bytes.len() as u64;
        }
        Ok(end)
    }

    fn is_zero(&mut self, from: u64, limit: u64) -> Result<bool> {
        let mut at = from;
        while at < limit {
            let bytes = self.at(at, (limit - at).min(WINDOW_BYTES as u64))?;
            if bytes.is_empty() {
                break;
            }
            if bytes.iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
            at += bytes.len() as u64;
        }
        Ok(true)
    }
}
