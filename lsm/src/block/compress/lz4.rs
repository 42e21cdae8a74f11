//! LZ4, in its block format: bytes alone, which say nothing of their length. Quick to take apart, and it costs hardly more to make than the bytes that need not be written cost.

use lz4_flex::block::{
    CompressTable, compress_into, compress_into_with_table, decompress_into, get_maximum_output_size,
};

use crate::error::{Error, Result};

/// From so many bytes on the table is a larger one; a writer keeps the small one, for blocks are mostly small.
const SMALL_BYTES: usize = u16::MAX as usize;

/// A stored byte stands for so many of the payload, at most: those that say how long something is say it in steps of this.
pub(crate) const TIMES_MAX: usize = 255;

/// Compresses blocks, one after the other.
pub(super) struct Encoder {
    table: CompressTable,
}

impl Encoder {
    pub(super) fn new() -> Self {
        Self { table: CompressTable::small() }
    }

    /// Makes `out` the compressed bytes of `payload`.
    pub(super) fn compress(&mut self, payload: &[u8], out: &mut Vec<u8>) -> Result<()> {
        out.resize(get_maximum_output_size(payload.len()), 0);
        let packed = if payload.len() < SMALL_BYTES {
            compress_into_with_table(payload, out, &mut self.table)
        } else {
            compress_into(payload, out)
        };
        let bytes = packed.map_err(|error| Error::io("compress a block", std::io::Error::other(error)))?;
        out.truncate(bytes);
        Ok(())
    }
}

/// That `stored` may decompress to so many bytes, before memory is reserved for them.
///
/// # Errors
/// Corruption.
pub(super) fn check_length(stored: &[u8], payload_bytes: usize) -> Result<()> {
    if payload_bytes <= stored.len().saturating_mul(TIMES_MAX) {
        return Ok(());
    }
    Err(Error::corruption("a compressed block is too short for what it is to hold"))
}

/// Fills `out` with what `stored` decompresses to.
///
/// # Errors
/// Corruption unless it is as long as that.
pub(super) fn decompress(stored: &[u8], out: &mut [u8]) -> Result<()> {
    let bytes = decompress_into(stored, out)
        .map_err(|error| Error::corruption(format!("a block does not decompress: {error}")))?;
    if bytes != out.len() {
        return Err(Error::corruption(format!(
            "a block decompresses to {bytes} bytes where {} are expected",
            out.len()
        )));
    }
    Ok(())
}
