//! Writing records to a file, one caller at a time: what the manifest is made with, and the beginning of each log.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::logfile::{LOG_HEADER_BYTES, LogKind, encode_header};
use super::record::{RecordHeader, RecordKind, encode_record};
use crate::checksum::Identity;
use crate::error::{Error, IoContext, Result};
use crate::fs::{File, FileSystem, SyncSite};
use crate::key::SequenceNumber;

/// Appends records to a new file. Nothing is durable before [`RecordWriter::sync`], and the file's name not before its
/// directory is synced.
///
/// After the first failed write or sync every further call fails with [`ErrorKind::Failed`](crate::ErrorKind::Failed):
/// what the file holds is unknown then, and a record behind a torn one would never be read.
#[derive(Debug)]
pub struct RecordWriter {
    file: Arc<dyn File>,
    path: PathBuf,
    identity: Identity,
    /// Encoded, not yet written; begins at `written`.
    buffer: Vec<u8>,
    written: u64,
    durable: u64,
    failed: Option<Error>,
}

impl RecordWriter {
    /// Creates the file, which must not exist. Its header waits in the buffer.
    ///
    /// # Errors
    /// Those of creating a file.
    pub fn create(fs: &dyn FileSystem, path: &Path, kind: LogKind, identity: Identity) -> Result<Self> {
        let file = fs.create_new(path).context(&format!("create the {kind}"), path)?;
        Ok(Self {
            file,
            path: path.to_owned(),
            identity,
            buffer: encode_header(kind, identity).to_vec(),
            written: 0,
            durable: 0,
            failed: None,
        })
    }

    /// The file's identity.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Says by which name errors are to call the file from now on.
    pub fn was_renamed(&mut self, to: PathBuf) {
        self.path = to;
    }

    /// The file's path: as it was created, or was said to have been renamed.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the next record will begin, in bytes from the file's start.
    pub fn position(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    /// How far the file is known to be durable.
    pub fn durable(&self) -> u64 {
        self.durable
    }

    /// Appends a record to the buffer; returns where it ends. `op_count` is how many sequence numbers it takes from
    /// `first_sequence` on: 0 unless it is a batch.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) if the payload is too long; an earlier failure.
    pub fn append(
        &mut self,
        kind: RecordKind,
        sync_asked: bool,
        first_sequence: SequenceNumber,
        op_count: u32,
        payload: &[u8],
    ) -> Result<u64> {
        self.check()?;
        let header = RecordHeader {
            kind,
            sync_asked,
            op_count,
            first_sequence,
            // The header of the file is durable or not, but no record's loss is told by it.
            durable_offset: self.durable.max(LOG_HEADER_BYTES as u64),
        };
        let position = self.position();
        encode_record(&mut self.buffer, self.identity, position, &header, payload)
            .map_err(|error| error.at(&self.path))?;
        Ok(self.position())
    }

    /// Writes what is in the buffer.
    ///
    /// # Errors
    /// That of the write, or of an earlier failure.
    pub fn write(&mut self) -> Result<()> {
        self.check()?;
        let written = self.file.write_all_at(&self.buffer, self.written).context("write", &self.path);
        self.keep(written)?;
        self.written = self.position();
        self.buffer.clear();
        Ok(())
    }

    /// Writes what is in the buffer, and makes all of it durable.
    ///
    /// # Errors
    /// Those of the write and the sync, or of an earlier failure.
    pub fn sync(&mut self, site: SyncSite) -> Result<()> {
        self.write()?;
        let synced = self.file.sync_data(site).context("sync", &self.path);
        self.keep(synced)?;
        self.durable = self.written;
        Ok(())
    }

    /// The file.
    pub(super) fn file(&self) -> &dyn File {
        self.file.as_ref()
    }

    fn check(&self) -> Result<()> {
        self.failed.as_ref().map_or(Ok(()), |first| Err(Error::failed(first)))
    }

    fn keep(&mut self, result: Result<()>) -> Result<()> {
        result.inspect_err(|error| self.failed = Some(error.clone()))
    }

    /// The file, and how far it is written. Nothing may be left in the buffer.
    pub(super) fn into_parts(self) -> (Arc<dyn File>, u64) {
        assert!(self.buffer.is_empty() && self.failed.is_none(), "what was appended is written");
        (self.file, self.written)
    }
}
