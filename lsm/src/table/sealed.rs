//! Sealed blocks on their way into a table's file: put behind each other, and given to the file ([`super::pen`]) where there are enough of them.

use std::path::PathBuf;
use std::sync::Arc;

use crate::block::{BlockKind, Codec, Compressor, PAYLOAD_BYTES_MAX, seal};
use crate::checksum::Identity;
use crate::error::{Error, Result};
use crate::fs::File;
use crate::table::index::Handle;
use crate::table::pen::Pen;

/// Written at once: large enough that the calls cost nothing beside the copying.
pub(super) const WRITE_BYTES: usize = 256 << 10;

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
    identity: Identity,
    /// What is not yet given to the file, and where it will stand.
    bytes: Vec<u8>,
    given: u64,
    pen: Pen,
}

impl Sealed {
    /// Nothing yet, of a file that is empty. `block_bytes` is about the length of a block.
    pub(super) fn new(path: PathBuf, file: Arc<dyn File>, identity: Identity, block_bytes: usize) -> Self {
        let bytes = Vec::with_capacity(WRITE_BYTES + 2 * block_bytes);
        Self { identity, bytes, given: 0, pen: Pen::new(path, file) }
    }

    /// How it is written.
    pub(super) fn pen(&mut self) -> &mut Pen {
        &mut self.pen
    }

    /// Where the next byte will stand.
    pub(super) fn offset(&self) -> u64 {
        self.given + self.bytes.len() as u64
    }

    /// Begins the file with `header`, and zeros up to `bytes`; also anew: what was put is forgotten.
    ///
    /// # Panics
    /// If something was given to the file.
    pub(super) fn begin(&mut self, header: &[u8], bytes: usize) {
        assert!(self.given == 0, "what was written stays");
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
        Ok(self.seal(kind, codec, stored, payload.len()))
    }

    /// Puts a block as it is: filters don't compress, and what opening a table needs should not need a codec.
    pub(super) fn put_plain(&mut self, kind: BlockKind, payload: &[u8]) -> Handle {
        self.seal(kind, Codec::None, payload, payload.len())
    }

    /// Puts what was packed before.
    pub(super) fn put_packed(&mut self, kind: BlockKind, packed: &Packed) -> Handle {
        self.seal(kind, packed.codec, &packed.stored, packed.payload_bytes)
    }

    fn seal(&mut self, kind: BlockKind, codec: Codec, stored: &[u8], payload_bytes: usize) -> Handle {
        assert!(payload_bytes <= PAYLOAD_BYTES_MAX, "a reader would refuse it");
        let offset = self.offset();
        seal(&mut self.bytes, self.identity, offset, kind, codec, stored, payload_bytes);
        let bytes = u32::try_from(self.offset() - offset).expect("payloads are below 2^29 bytes");
        Handle { offset, bytes }
    }

    /// Gives what there is to the file, if it is enough.
    ///
    /// # Errors
    /// Io.
    pub(super) fn give_enough(&mut self) -> Result<()> {
        let bytes = self.bytes.len();
        if bytes >= WRITE_BYTES {
            self.pen.write(&mut self.bytes, self.given)?;
            self.given += bytes as u64;
        }
        Ok(())
    }

    /// Ends the file with `footer`: all of it is written then, and not yet durable. Returns its length.
    ///
    /// # Errors
    /// Io.
    pub(super) fn end(&mut self, footer: &[u8]) -> Result<u64> {
        self.bytes.extend_from_slice(footer);
        let bytes = self.bytes.len() as u64;
        self.pen.write_last(&mut self.bytes, self.given)?;
        self.given += bytes;
        Ok(self.given)
    }

    /// The error, of this file.
    pub(super) fn locate(&self, error: Error) -> Error {
        self.pen.locate(error)
    }
}
