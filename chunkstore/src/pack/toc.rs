//! The table of contents: which chunks stand in which frame.

use super::header::PACK_HEADER_BYTES;
use crate::chunk::CHUNK_BYTES_MAX;
use crate::codec::{Decoder, put_varint};
use crate::error::{Error, Result};
use crate::frame::{FRAME_BODY_BYTES_MAX, FRAME_CHUNKS_MAX, FRAME_RAW_BYTES_MAX, FrameSize};
use crate::id::ChunkId;
use crate::seal::{Cipher, newer};

/// The fewest bytes that a chunk takes in a table: its id, one byte of length.
const CHUNK_ENTRY_BYTES_MIN: usize = 33;
/// The fewest bytes that a frame takes in a table: kind, three lengths, a chunk.
const FRAME_ENTRY_BYTES_MIN: usize = 4 + CHUNK_ENTRY_BYTES_MIN;
/// The most bytes that a chunk takes: its id, a length of up to [`CHUNK_BYTES_MAX`].
const CHUNK_ENTRY_BYTES_MAX: usize = 32 + 4;
const _: () = assert!(CHUNK_BYTES_MAX < 1 << 28, "a varint of four bytes");
/// The most bytes that a frame takes besides its chunks: kind, two lengths, their count.
const FRAME_ENTRY_BYTES_MAX: usize = 1 + 4 + 4 + 3;
const _: () = assert!(
    FRAME_STORED_BYTES_MAX < 1 << 28 && FRAME_CHUNKS_MAX < 1 << 21,
    "varints of four and three bytes"
);
/// The longest frame of chunks in a pack: the longest body, its header, two seals.
pub(super) const FRAME_STORED_BYTES_MAX: u32 = FRAME_BODY_BYTES_MAX + 256;
const _: () = assert!(FrameSize::of(Cipher::ChaCha20Poly1305, 0) <= 256);
/// Kind of a frame's entry: its chunks need no others.
const SOLID: u8 = 1;

/// A chunk in a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ChunkEntry {
    /// Its id.
    pub id: ChunkId,
    /// Its length in bytes, never zero.
    pub length: u32,
}

/// Where a frame is in its pack: enough to read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FramePlace {
    /// Its number, from zero: a part of what its seal binds.
    pub number: u32,
    /// Where it begins, in bytes from the start of the pack.
    pub offset: u64,
    /// How long it is there, seals and header included.
    pub stored_bytes: u32,
}

/// A frame and what it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrameEntry {
    /// Where it is.
    pub place: FramePlace,
    /// How long its chunks are together.
    pub raw_bytes: u32,
    /// Its chunks, in order.
    pub chunks: Vec<ChunkEntry>,
}

/// What a pack holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Toc {
    /// Its frames, in order. After damage, some may be missing.
    pub frames: Vec<FrameEntry>,
}

/// The most bytes that so many chunks in so many frames take in a table, its count of frames included.
pub(crate) const fn contents_bytes(frames: usize, chunks: usize) -> usize {
    10 + frames * FRAME_ENTRY_BYTES_MAX + chunks * CHUNK_ENTRY_BYTES_MAX
}

impl Toc {
    /// As many bytes as it takes at most, in a pack and in a segment.
    pub(crate) fn bytes_max(&self) -> usize {
        contents_bytes(self.frames.len(), self.chunk_count())
    }

    /// How many chunks the pack holds.
    pub fn chunk_count(&self) -> usize {
        self.frames.iter().map(|frame| frame.chunks.len()).sum()
    }

    /// How many bytes its chunks have together, uncompressed.
    pub fn raw_bytes(&self) -> u64 {
        self.frames.iter().map(|frame| u64::from(frame.raw_bytes)).sum()
    }

    /// Its bytes: FORMAT.md, table of contents. Numbers and offsets are implied: frames follow each other from the header on.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.bytes_max());
        put_varint(&mut out, self.frames.len() as u64);
        let mut end = PACK_HEADER_BYTES as u64;
        for (number, frame) in self.frames.iter().enumerate() {
            assert!(
                frame.place.number as usize == number && frame.place.offset == end,
                "frames follow each other"
            );
            end += u64::from(frame.place.stored_bytes);
            out.push(SOLID);
            put_varint(&mut out, u64::from(frame.place.stored_bytes));
            put_varint(&mut out, u64::from(frame.raw_bytes));
            put_varint(&mut out, frame.chunks.len() as u64);
            for chunk in &frame.chunks {
                out.extend_from_slice(chunk.id.as_bytes());
                put_varint(&mut out, u64::from(chunk.length));
            }
        }
        out
    }

    /// The table with these bytes.
    ///
    /// # Errors
    /// Damage for what no version writes; newer format for a kind of frame that this version cannot read.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self> {
        let mut decoder = Decoder::new(bytes);
        let count = decoder.varint_usize("count of frames")?;
        if count > decoder.rest().len() / FRAME_ENTRY_BYTES_MIN {
            return Err(Error::damage(format!("table of contents: {count} frames in {} bytes", bytes.len())));
        }
        let mut frames = Vec::with_capacity(count);
        let mut offset = PACK_HEADER_BYTES as u64;
        for number in 0..count {
            match decoder.u8("kind of a frame")? {
                SOLID => {}
                0 => return Err(Error::damage("table of contents: kind 0 of a frame is none")),
                kind => return Err(newer(format!("kind {kind} of a frame in a table of contents"))),
            }
            let stored_bytes = decoder.varint_u32("stored length of a frame")?;
            if stored_bytes > FRAME_STORED_BYTES_MAX {
                return Err(Error::damage(format!(
                    "table of contents: a frame of {stored_bytes} stored bytes"
                )));
            }
            let raw_bytes = decoder.varint_u32("raw length of a frame")?;
            let chunks = decode_chunks(&mut decoder, raw_bytes)?;
            let number =
                u32::try_from(number).map_err(|_| Error::damage("table of contents: too many frames"))?;
            frames.push(FrameEntry { place: FramePlace { number, offset, stored_bytes }, raw_bytes, chunks });
            offset += u64::from(stored_bytes);
        }
        decoder.finish("table of contents")?;
        Ok(Self { frames })
    }
}

fn decode_chunks(decoder: &mut Decoder<'_>, raw_bytes: u32) -> Result<Vec<ChunkEntry>> {
    let count = decoder.varint_usize("count of chunks")?;
    if count == 0 || count > FRAME_CHUNKS_MAX as usize || count > decoder.rest().len() / CHUNK_ENTRY_BYTES_MIN
    {
        return Err(Error::damage(format!("table of contents: a frame of {count} chunks")));
    }
    let mut chunks = Vec::with_capacity(count);
    let mut sum = 0u64;
    for _ in 0..count {
        let id = ChunkId::from_bytes(decoder.array("chunk id")?);
        let length = decoder.varint_u32("length of a chunk")?;
        if length == 0 || length > CHUNK_BYTES_MAX {
            return Err(Error::damage(format!("table of contents: a chunk of {length} bytes")));
        }
        sum += u64::from(length);
        chunks.push(ChunkEntry { id, length });
    }
    if sum != u64::from(raw_bytes) || raw_bytes > FRAME_RAW_BYTES_MAX {
        return Err(Error::damage(format!(
            "table of contents: chunks of {sum} bytes in a frame of {raw_bytes}"
        )));
    }
    Ok(chunks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_table_is_longer_than_is_reckoned_with() {
        let id = ChunkId::from_bytes([0xff; 32]);
        let largest = FrameEntry {
            place: FramePlace {
                number: 0,
                offset: PACK_HEADER_BYTES as u64,
                stored_bytes: FRAME_STORED_BYTES_MAX,
            },
            raw_bytes: FRAME_RAW_BYTES_MAX,
            chunks: vec![ChunkEntry { id, length: CHUNK_BYTES_MAX }; FRAME_CHUNKS_MAX as usize],
        };
        for frames in [vec![], vec![largest]] {
            let toc = Toc { frames };
            let bytes = toc.encode().len();
            assert!(bytes <= toc.bytes_max() && bytes + 10 >= toc.bytes_max(), "{bytes}");
        }
    }
}
