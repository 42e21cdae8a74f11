//! Getting the chunks of a frame back.

use std::fmt;

use zstd::zstd_safe::{DCtx, get_error_name};

use super::Codec;
use super::header::{FrameHeader, FrameKind};
use crate::chunk::Hasher;
use crate::codec::Decoder;
use crate::error::{Error, Result};
use crate::id::ChunkId;

/// Decompresses frames. Keeps its context from one to the next: one for each thread.
pub struct Decompressor {
    context: DCtx<'static>,
}

impl fmt::Debug for Decompressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Decompressor")
    }
}

impl Default for Decompressor {
    fn default() -> Self {
        Self::new()
    }
}

impl Decompressor {
    /// A decompressor.
    pub fn new() -> Self {
        Self { context: DCtx::create() }
    }
}

/// The chunks of one frame, decoded. Its seal was whole; that a chunk is the one asked for is for [`DecodedFrame::chunk`] to check.
pub struct DecodedFrame {
    /// The chunks' bytes follow each other from `data_start` on.
    data: Vec<u8>,
    data_start: usize,
    /// Where each chunk ends, counted from `data_start`.
    ends: Vec<u32>,
}

impl fmt::Debug for DecodedFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DecodedFrame({} chunks, {} bytes)", self.ends.len(), self.data().len())
    }
}

impl DecodedFrame {
    /// How many chunks it holds.
    pub fn chunk_count(&self) -> usize {
        self.ends.len()
    }

    /// The bytes of all its chunks, one after the other.
    pub fn data(&self) -> &[u8] {
        self.data.get(self.data_start..).unwrap_or_default()
    }

    /// The bytes of its chunk at `index`, unchecked; `None` if it has none there.
    pub fn bytes(&self, index: usize) -> Option<&[u8]> {
        let end = *self.ends.get(index)? as usize;
        let start = match index.checked_sub(1) {
            Some(before) => *self.ends.get(before)? as usize,
            None => 0,
        };
        self.data().get(start..end)
    }

    /// The bytes of its chunk at `index`, which must be the chunk `id`: hashed now, so that no wrong byte is ever handed out.
    ///
    /// # Errors
    /// Damage if there is no such chunk or it is another one.
    pub fn chunk(&self, index: usize, id: &ChunkId, hasher: &Hasher) -> Result<&[u8]> {
        let bytes = self.bytes(index).ok_or_else(|| {
            Error::damage(format!(
                "chunk {id}: expected at place {index} of a frame of {} chunks",
                self.ends.len()
            ))
        })?;
        hasher.check(id, bytes)?;
        Ok(bytes)
    }

    /// The bytes of its chunks, in order, unchecked.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.ends.len()).filter_map(|index| self.bytes(index))
    }
}

/// Decodes the `body` of a frame with this `header`: lengths are checked before memory is reserved for what they say.
pub(crate) fn decode(
    decompressor: &mut Decompressor,
    header: &FrameHeader,
    body: Vec<u8>,
) -> Result<DecodedFrame> {
    if header.kind != FrameKind::Solid {
        return Err(Error::damage(format!(
            "a frame of chunks expected, one of kind {:?} found",
            header.kind
        )));
    }
    if body.len() != header.body_bytes as usize {
        return Err(Error::damage(format!(
            "frame body: {} bytes expected, {} found",
            header.body_bytes,
            body.len()
        )));
    }
    let (table, stored) = body
        .split_at_checked(header.table_bytes as usize)
        .ok_or_else(|| Error::damage("frame body: its table is cut short"))?;
    let ends = decode_table(table, header)?;
    let (data, data_start) = match header.codec {
        Codec::None => {
            if stored.len() != header.raw_bytes as usize {
                return Err(Error::damage(format!(
                    "frame data: {} bytes expected, {} found",
                    header.raw_bytes,
                    stored.len()
                )));
            }
            (body, header.table_bytes as usize)
        }
        Codec::Zstd => {
            let mut data = Vec::with_capacity(header.raw_bytes as usize);
            let length = decompressor.context.decompress(&mut data, stored).map_err(|code| {
                Error::damage(format!("frame data: zstd cannot decompress it: {}", get_error_name(code)))
            })?;
            if length != header.raw_bytes as usize {
                return Err(Error::damage(format!(
                    "frame data: {} bytes expected, {length} decompressed",
                    header.raw_bytes
                )));
            }
            (data, 0)
        }
    };
    Ok(DecodedFrame { data, data_start, ends })
}

fn decode_table(table: &[u8], header: &FrameHeader) -> Result<Vec<u32>> {
    let mut decoder = Decoder::new(table);
    let mut ends = Vec::with_capacity(header.chunk_count as usize);
    let mut end = 0u32;
    for _ in 0..header.chunk_count {
        let length = decoder.varint_u32("length of a chunk")?;
        end = match end.checked_add(length) {
            Some(end) if length > 0 && end <= header.raw_bytes => end,
            _ => {
                return Err(Error::damage(format!(
                    "chunk of {length} bytes after {end} of {}",
                    header.raw_bytes
                )));
            }
        };
        ends.push(end);
    }
    decoder.finish("table of a frame")?;
    if end != header.raw_bytes {
        return Err(Error::damage(format!("chunks of {end} bytes in a frame of {}", header.raw_bytes)));
    }
    Ok(ends)
}
