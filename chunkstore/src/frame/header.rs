//! The header of a frame: what its body is and how long, of fixed length, in a box of its own.
//!
//! Sealed, because lengths of chunks and frames are what the published attacks on keyed chunking read. In a box of its own, and of fixed
//! length, so that a pack whose table of contents is lost can be walked from frame to frame.

use super::{Codec, FRAME_CHUNKS_MAX, FRAME_RAW_BYTES_MAX};
use crate::codec::Decoder;
use crate::error::{Error, Result};
use crate::seal::newer;

/// Length of an unsealed frame header.
pub(crate) const FRAME_HEADER_BYTES: usize = 48;

/// The longest plaintext of a frame's body: lengths of chunks (at most four bytes each: below 2^28), then data that is never longer than raw.
/// Tables of contents are bounded apart, by [`crate::pack`].
pub(crate) const FRAME_BODY_BYTES_MAX: u32 = FRAME_RAW_BYTES_MAX + 4 * FRAME_CHUNKS_MAX;

/// What a frame is. The numbers are a part of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub(crate) enum FrameKind {
    /// Chunks that need no others to be decoded.
    Solid = 1,
    // 2 is a delta frame: compressed with other chunks as its prefix. This version writes none and cannot decode one.
    /// Nothing: makes a small pack's length tell less.
    Padding = 3,
    /// A table of contents.
    Contents = 4,
}

/// The header of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    pub(crate) kind: FrameKind,
    pub(crate) codec: Codec,
    /// How many chunks it holds.
    pub(crate) chunk_count: u32,
    /// Length of the table at the front of the body, in bytes.
    pub(crate) table_bytes: u32,
    /// Length of the data, uncompressed.
    pub(crate) raw_bytes: u32,
    /// Length of the body's plaintext: table and data.
    pub(crate) body_bytes: u32,
}

impl FrameHeader {
    /// Its bytes: FORMAT.md, frame header.
    pub(crate) fn encode(&self) -> [u8; FRAME_HEADER_BYTES] {
        let mut out = [0; FRAME_HEADER_BYTES];
        let fields: [(usize, &[u8]); 6] = [
            (0, &[self.kind as u8, self.codec as u8]),
            (4, &self.chunk_count.to_le_bytes()),
            (12, &self.table_bytes.to_le_bytes()),
            (16, &self.raw_bytes.to_le_bytes()),
            (20, &self.body_bytes.to_le_bytes()),
            (24, &1u32.to_le_bytes()),
        ];
        for (offset, bytes) in fields {
            if let Some(place) = out.get_mut(offset..offset + bytes.len()) {
                place.copy_from_slice(bytes);
            }
        }
        if let Some(place) = out.get_mut(28..36) {
            place.copy_from_slice(&u64::from(self.raw_bytes).to_le_bytes());
        }
        out
    }

    /// The header with these bytes, its lengths within the limits and consistent with each other.
    ///
    /// # Errors
    /// Newer format for a kind, codec, base or closure that this version cannot decode; damage for what no version writes.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self> {
        let mut decoder = Decoder::new(bytes);
        let kind = match decoder.u8("frame kind")? {
            1 => FrameKind::Solid,
            3 => FrameKind::Padding,
            4 => FrameKind::Contents,
            0 => return Err(Error::damage("frame kind 0 is none")),
            other => return Err(newer(format!("frame kind {other}"))),
        };
        let codec = match decoder.u8("frame codec")? {
            1 => Codec::None,
            2 => Codec::Zstd,
            0 => return Err(Error::damage("frame codec 0 is none")),
            other => return Err(newer(format!("frame codec {other}"))),
        };
        let depth = decoder.u16("frame depth")?;
        let chunk_count = decoder.u32("count of chunks")?;
        let base_count = decoder.u32("count of bases")?;
        let header = Self {
            kind,
            codec,
            chunk_count,
            table_bytes: decoder.u32("length of the table")?,
            raw_bytes: decoder.u32("raw length")?,
            body_bytes: decoder.u32("length of the body")?,
        };
        let closure_frames = decoder.u32("frames of the closure")?;
        let closure_bytes = decoder.u64("bytes of the closure")?;
        let reserved: [u8; 12] = decoder.array("reserved bytes")?;
        decoder.finish("frame header")?;
        if depth != 0
            || base_count != 0
            || closure_frames != 1
            || closure_bytes != u64::from(header.raw_bytes)
            || reserved != [0; 12]
        {
            return Err(newer("a frame that needs others to be decoded".to_owned()));
        }
        header.check()?;
        Ok(header)
    }

    fn check(&self) -> Result<()> {
        let impossible =
            |what: &str| Err(Error::damage(format!("a frame header that cannot be: {what}: {self:?}")));
        match self.kind {
            FrameKind::Solid => {
                if self.chunk_count == 0 || self.chunk_count > FRAME_CHUNKS_MAX {
                    return impossible("count of chunks");
                }
                if self.raw_bytes > FRAME_RAW_BYTES_MAX || self.chunk_count > self.raw_bytes {
                    return impossible("raw length");
                }
                if self.body_bytes > FRAME_BODY_BYTES_MAX || self.body_bytes < self.table_bytes {
                    return impossible("length of the body");
                }
                let stored = self.body_bytes - self.table_bytes;
                if stored > self.raw_bytes || (self.codec == Codec::None) != (stored == self.raw_bytes) {
                    return impossible("data longer than its raw length, or not compressed");
                }
                if self.table_bytes < self.chunk_count || self.table_bytes > self.chunk_count * 4 {
                    return impossible("length of the table");
                }
            }
            FrameKind::Padding | FrameKind::Contents => {
                if self.codec != Codec::None
                    || self.chunk_count != 0
                    || self.table_bytes != 0
                    || self.raw_bytes != self.body_bytes
                {
                    return impossible("padding and tables of contents are stored plain");
                }
            }
        }
        Ok(())
    }
}
