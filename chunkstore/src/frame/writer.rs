//! Gathering chunks until a frame is full.

use super::{Codec, FRAME_CHUNKS_MAX, FRAME_RAW_BYTES_MAX};
use crate::chunk::CHUNK_BYTES_MAX;
use crate::codec::put_varint;
use crate::id::ChunkId;

/// Chunks that will be compressed together.
#[derive(Debug, Default)]
pub struct RawFrame {
    /// Ids and lengths of the chunks, in order; lengths are never zero.
    pub chunks: Vec<(ChunkId, u32)>,
    /// Their bytes, one after the other.
    pub data: Vec<u8>,
}

impl RawFrame {
    /// Its length.
    ///
    /// # Panics
    /// If it is empty or too long, or its chunks are not as long as it is: a stop beats a wrong frame.
    pub(crate) fn check(&self) -> u32 {
        let raw_bytes = u32::try_from(self.data.len()).unwrap_or(u32::MAX);
        assert!(raw_bytes > 0 && raw_bytes <= FRAME_RAW_BYTES_MAX, "a frame of {raw_bytes} bytes");
        let sum: u64 = self.chunks.iter().map(|(_, length)| u64::from(*length)).sum();
        assert!(sum == u64::from(raw_bytes), "chunks of {sum} bytes in a frame of {raw_bytes}");
        raw_bytes
    }
}

/// Gathers chunks into frames of a bounded raw size: small chunks together, one that is larger than the bound alone.
#[derive(Debug)]
pub struct Builder {
    raw_bytes_max: usize,
    frame: RawFrame,
}

impl Builder {
    /// A builder of frames that are full at `raw_bytes_max` bytes, at most [`FRAME_RAW_BYTES_MAX`].
    pub fn new(raw_bytes_max: u32) -> Self {
        Self { raw_bytes_max: raw_bytes_max.min(FRAME_RAW_BYTES_MAX) as usize, frame: RawFrame::default() }
    }

    /// Adds a chunk, and returns the frame before it if the chunk found no room there.
    ///
    /// # Panics
    /// If the chunk is empty or longer than [`CHUNK_BYTES_MAX`]: the cutter makes neither.
    pub fn add(&mut self, id: ChunkId, bytes: &[u8]) -> Option<RawFrame> {
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        assert!(length > 0 && length <= CHUNK_BYTES_MAX, "a chunk of {} bytes", bytes.len());
        let full = !self.frame.chunks.is_empty()
            && (self.frame.data.len() + bytes.len() > self.raw_bytes_max
                || self.frame.chunks.len() >= FRAME_CHUNKS_MAX as usize);
        let before = if full { self.take() } else { None };
        if self.frame.data.capacity() == 0 {
            self.frame.data.reserve_exact(self.raw_bytes_max.max(bytes.len()));
        }
        self.frame.chunks.push((id, length));
        self.frame.data.extend_from_slice(bytes);
        before
    }

    /// The frame that is not yet full, if it holds any chunk; the builder begins anew.
    pub fn take(&mut self) -> Option<RawFrame> {
        (!self.frame.chunks.is_empty()).then(|| std::mem::take(&mut self.frame))
    }

    /// How many raw bytes the frame that is not yet full holds.
    pub fn raw_bytes(&self) -> usize {
        self.frame.data.len()
    }
}

/// A frame whose data is compressed (or not, where that gains nothing), ready to be sealed into any pack.
#[derive(Debug)]
pub struct CompressedFrame {
    pub(crate) chunks: Vec<(ChunkId, u32)>,
    pub(crate) codec: Codec,
    pub(crate) raw_bytes: u32,
    /// The data: compressed, or raw if `codec` says so.
    pub(crate) data: Vec<u8>,
}

impl CompressedFrame {
    /// The frame as it is: for what is known not to compress, and for tests that must have the same bytes with every version of zstd.
    ///
    /// # Panics
    /// If the frame is not one that [`Builder`] makes.
    pub fn uncompressed(frame: RawFrame) -> Self {
        let raw_bytes = frame.check();
        Self { chunks: frame.chunks, codec: Codec::None, raw_bytes, data: frame.data }
    }

    /// Ids and lengths of its chunks, in order.
    pub fn chunks(&self) -> &[(ChunkId, u32)] {
        &self.chunks
    }

    /// Length of its data, uncompressed.
    pub fn raw_bytes(&self) -> u32 {
        self.raw_bytes
    }

    /// Length of its data as it will be stored, without table, header and seals.
    pub fn data_bytes(&self) -> usize {
        self.data.len()
    }

    /// The table at the front of its body: the chunks' lengths.
    pub(crate) fn table(&self) -> Vec<u8> {
        let mut table = Vec::with_capacity(self.chunks.len() * 3);
        for (_, length) in &self.chunks {
            put_varint(&mut table, u64::from(*length));
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u8) -> ChunkId {
        ChunkId::from_bytes([number; 32])
    }

    #[test]
    fn small_chunks_together_a_large_one_alone() {
        let mut builder = Builder::new(100);
        assert!(builder.take().is_none());
        assert!(builder.add(id(1), &[1; 60]).is_none());
        assert!(builder.add(id(2), &[2; 40]).is_none(), "full to the last byte");
        let full = builder.add(id(3), &[3; 1]).unwrap();
        assert_eq!(full.chunks, [(id(1), 60), (id(2), 40)]);
        assert_eq!(full.data, [[1; 60].as_slice(), &[2; 40]].concat());
        let small = builder.add(id(4), &[4; 1000]).unwrap();
        assert_eq!(small.chunks, [(id(3), 1)]);
        let large = builder.add(id(5), &[5; 10]).unwrap();
        assert_eq!((large.chunks.len(), large.data.len()), (1, 1000));
        assert_eq!(builder.raw_bytes(), 10);
        assert_eq!(builder.take().unwrap().data, [5; 10]);
        assert_eq!(builder.raw_bytes(), 0);
    }

    #[test]
    fn a_frame_never_has_too_many_chunks() {
        let mut builder = Builder::new(u32::MAX);
        for _ in 0..FRAME_CHUNKS_MAX {
            assert!(builder.add(id(1), &[0]).is_none());
        }
        assert_eq!(builder.add(id(1), &[0]).unwrap().chunks.len(), FRAME_CHUNKS_MAX as usize);
    }

    #[test]
    #[should_panic(expected = "a chunk of 0 bytes")]
    fn an_empty_chunk_stops_the_program() {
        Builder::new(100).add(id(1), &[]);
    }
}
