//! Sealed blocks on their way into a table's file: put behind each other, and written where there are enough of them.
//!
//! The file is written out while it is being made, so that the sync at its end finds little left to do, and what others sync meanwhile (the journal) does not
//! stand behind a whole table.

use std::path::PathBuf;
use std::sync::Arc;

use crate::block::{BlockKind, Codec, Compressor, PAYLOAD_BYTES_MAX, seal};
use crate::checksum::Identity;
use crate::error::{Error, IoContext, Result};
use crate::fs::{Advice, File, SyncSite};
use crate::table::index::Handle;

/// Written at once: large enough that the calls cost nothing beside the copying.
pub(super) const WRITE_BYTES: usize = 256 << 10;

/// The system is told to write the file out after so many bytes.
const BEHIND_BYTES: u64 = 1 << 20;

/// The sync that makes a table's contents durable before the manifest names it.
const SYNC_CONTENTS: SyncSite = SyncSite::new("table-contents");

/// A payload as it will be stored, for what stands in a file more than once.
#[derive(Debug)]
pub(super) struct Packed {
    codec: Codec,
    pub(super) stored: Vec<u8>,
    payload_bytes: usize,
}

impl Packed {
    pub(super) fn new(compressor: &mut Compressor, payload: &[u8]) -> Result<Self> {
        let (codec, stored) = compressor.pack(payload)?;
        Ok(Self { codec, stored: stored.to_vec(), payload_bytes: payload.len() })
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Sealed {
    path: PathBuf,
    file: Arc<dyn File>,
    identity: Identity,
    /// What is not yet written, and where it will stand.
    bytes: Vec<u8>,
    written: u64,
    /// Up to where the system was told to write the file out; `None`: it need not be.
    told: Option<u64>,
}

impl Sealed {
    /// Nothing yet, of a file that is empty. `block_bytes` is about the length of a block.
    pub(super) fn new(path: PathBuf, file: Arc<dyn File>, identity: Identity, block_bytes: usize) -> Self {
        let bytes = Vec::with_capacity(WRITE_BYTES + 2 * block_bytes);
        Self { path, file, identity, bytes, written: 0, told: Some(0) }
    }

    /// Says that the file will soon be gone: it need not be written out.
    pub(super) fn set_temporary(&mut self) {
        self.told = None;
    }

    /// The error, of this file.
    pub(super) fn locate(&self, error: Error) -> Error {
        error.at(&self.path)
    }

    /// Where the next byte will stand.
    pub(super) fn offset(&self) -> u64 {
        self.written + self.bytes.len() as u64
    }

    /// Begins the file with `header`, and zeros up to `bytes`; also anew: what was put is forgotten.
    ///
    /// # Panics
    /// If something was written.
    pub(super) fn begin(&mut self, header: &[u8], bytes: usize) {
        assert!(self.written == 0, "what was written stays");
        self.bytes.clear();
        self.bytes.extend_from_slice(header);
        self.bytes.resize(bytes, 0);
    }

    /// Compresses and puts a block.
    ///
    /// # Errors
    /// Io if the compressor fails.
    pub(super) fn put(
        &mut self,
        compressor: &mut Compressor,
        kind: BlockKind,
        payload: &[u8],
    ) -> Result<Handle> {
        let (codec, stored) = compressor.pack(payload)?;
        Ok(self.put_stored(kind, codec, stored, payload.len()))
    }

    /// Puts a block as it is: filters don't compress, and what opening a table needs should not need a codec.
    pub(super) fn put_plain(&mut self, kind: BlockKind, payload: &[u8]) -> Handle {
        self.put_stored(kind, Codec::None, payload, payload.len())
    }

    /// Puts what was packed before.
    pub(super) fn put_packed(&mut self, kind: BlockKind, packed: &Packed) -> Handle {
        self.put_stored(kind, packed.codec, &packed.stored, packed.payload_bytes)
    }

    /// Puts a payload that is `stored` under `codec`.
    ///
    /// # Panics
    /// If it has more bytes than a reader takes.
    pub(super) fn put_stored(
        &mut self,
        kind: BlockKind,
        codec: Codec,
        stored: &[u8],
        payload_bytes: usize,
    ) -> Handle {
        assert!(payload_bytes <= PAYLOAD_BYTES_MAX, "a reader would refuse it");
        let offset = self.offset();
        seal(&mut self.bytes, self.identity, offset, kind, codec, stored, payload_bytes);
        let bytes = u32::try_from(self.offset() - offset).expect("payloads are below 2^29 bytes");
        Handle { offset, bytes }
    }

    /// Writes what there is, if it is enough.
    ///
    /// # Errors
    /// Io.
    pub(super) fn write_enough(&mut self) -> Result<()> {
        if self.bytes.len() >= WRITE_BYTES { self.write() } else { Ok(()) }
    }

    fn write(&mut self) -> Result<()> {
        self.file.write_all_at(&self.bytes, self.written).context("write a table", &self.path)?;
        self.written = self.offset();
        self.bytes.clear();
        if let Some(told) = &mut self.told
            && self.written - *told >= BEHIND_BYTES
        {
            self.file.advise(Advice::WriteBack, *told, self.written - *told);
            *told = self.written;
        }
        Ok(())
    }

    /// Ends the file with `footer`: all of it is written then, and not yet durable. Returns its length.
    ///
    /// # Errors
    /// Io.
    pub(super) fn end(&mut self, footer: &[u8]) -> Result<u64> {
        self.bytes.extend_from_slice(footer);
        self.write()?;
        Ok(self.written)
    }

    /// Makes what is written durable.
    ///
    /// # Errors
    /// Io.
    pub(super) fn sync(&self) -> Result<()> {
        self.file.sync_data(SYNC_CONTENTS).context("make a table durable", &self.path)
    }
}
