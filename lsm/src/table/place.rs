//! Where sealed blocks go: into the bytes of a table that are not yet written.

use crate::block::{BlockKind, Codec, Compressor, PAYLOAD_BYTES_MAX, seal};
use crate::checksum::Identity;
use crate::error::Result;
use crate::table::index::Handle;

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
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) identity: Identity,
    /// Where the first of those bytes will stand.
    pub(super) out_offset: u64,
}

impl Place {
    /// Compresses and appends a block.
    pub(super) fn put(
        self,
        out: &mut Vec<u8>,
        compressor: &mut Compressor,
        kind: BlockKind,
        payload: &[u8],
    ) -> Result<Handle> {
        let (codec, stored) = compressor.pack(payload)?;
        Ok(self.seal(out, kind, codec, stored, payload.len()))
    }

    /// Appends a block as it is: filters don't compress, and what opening a table needs should not need a codec.
    pub(super) fn put_plain(self, out: &mut Vec<u8>, kind: BlockKind, payload: &[u8]) -> Handle {
        self.seal(out, kind, Codec::None, payload, payload.len())
    }

    /// Appends what was packed before.
    pub(super) fn put_packed(self, out: &mut Vec<u8>, kind: BlockKind, packed: &Packed) -> Handle {
        self.seal(out, kind, packed.codec, &packed.stored, packed.payload_bytes)
    }

    fn seal(
        self,
        out: &mut Vec<u8>,
        kind: BlockKind,
        codec: Codec,
        stored: &[u8],
        payload_bytes: usize,
    ) -> Handle {
        assert!(payload_bytes <= PAYLOAD_BYTES_MAX, "a reader would refuse it");
        let start = out.len();
        let offset = self.out_offset + start as u64;
        seal(out, self.identity, offset, kind, codec, stored, payload_bytes);
        let bytes = u32::try_from(out.len() - start).expect("payloads are below 2^29 bytes");
        Handle { offset, bytes }
    }
}
