//! The header of a frame: what its body is and how long, of fixed length, in a box of its own.
//!
//! Sealed, because lengths of chunks and frames are what the published attacks on keyed chunking read. In a box of its own, and of fixed
//! length, so that a pack whose table of contents is lost can be walked from frame to frame.

use lsm::layout::{Field, FieldPlace, tiles};

use super::{Codec, FRAME_CHUNKS_MAX, FRAME_RAW_BYTES_MAX};
use crate::error::{Error, Result};
use crate::seal::newer;

/// Length of an unsealed frame header.
pub(crate) const FRAME_HEADER_BYTES: usize = 48;

const KIND: Field<1> = Field::new("kind", 0);
const CODEC: Field<1> = Field::new("codec", 1);
const DEPTH: Field<2> = Field::new("depth", 2);
const CHUNKS: Field<4> = Field::new("chunks", 4);
const BASES: Field<4> = Field::new("bases", 8);
const TABLE_BYTES: Field<4> = Field::new("table bytes", 12);
const RAW_BYTES: Field<4> = Field::new("raw bytes", 16);
const BODY_BYTES: Field<4> = Field::new("body bytes", 20);
const CLOSURE_FRAMES: Field<4> = Field::new("closure frames", 24);
const CLOSURE_BYTES: Field<8> = Field::new("closure bytes", 28);
const RESERVED: Field<12> = Field::new("reserved", 36);

/// The fields in their order, as FORMAT.md has them.
pub(crate) const FRAME_HEADER_FIELDS: [FieldPlace; 11] = [
    KIND.place(),
    CODEC.place(),
    DEPTH.place(),
    CHUNKS.place(),
    BASES.place(),
    TABLE_BYTES.place(),
    RAW_BYTES.place(),
    BODY_BYTES.place(),
    CLOSURE_FRAMES.place(),
    CLOSURE_BYTES.place(),
    RESERVED.place(),
];
const _: () = assert!(tiles(&FRAME_HEADER_FIELDS, FRAME_HEADER_BYTES));

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
        KIND.put(&mut out, [self.kind as u8]);
        CODEC.put(&mut out, [self.codec as u8]);
        CHUNKS.put(&mut out, self.chunk_count.to_le_bytes());
        TABLE_BYTES.put(&mut out, self.table_bytes.to_le_bytes());
        RAW_BYTES.put(&mut out, self.raw_bytes.to_le_bytes());
        BODY_BYTES.put(&mut out, self.body_bytes.to_le_bytes());
        CLOSURE_FRAMES.put(&mut out, 1u32.to_le_bytes());
        CLOSURE_BYTES.put(&mut out, u64::from(self.raw_bytes).to_le_bytes());
        out
    }

    /// The header with these bytes, its lengths within the limits and consistent with each other.
    ///
    /// # Errors
    /// Newer format for a kind, codec, base or closure that this version cannot decode; damage for what no version writes.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self> {
        let bytes: &[u8; FRAME_HEADER_BYTES] = bytes.try_into().map_err(|_| {
            Error::damage(format!("frame header: {FRAME_HEADER_BYTES} bytes expected, {} found", bytes.len()))
        })?;
        let kind = match KIND.get(bytes) {
            [1] => FrameKind::Solid,
            [3] => FrameKind::Padding,
            [4] => FrameKind::Contents,
            [0] => return Err(Error::damage("frame kind 0 is none")),
            [other] => return Err(newer(format!("frame kind {other}"))),
        };
        let codec = match CODEC.get(bytes) {
            [1] => Codec::None,
            [2] => Codec::Zstd,
            [0] => return Err(Error::damage("frame codec 0 is none")),
            [other] => return Err(newer(format!("frame codec {other}"))),
        };
        let header = Self {
            kind,
            codec,
            chunk_count: u32::from_le_bytes(CHUNKS.get(bytes)),
            table_bytes: u32::from_le_bytes(TABLE_BYTES.get(bytes)),
            raw_bytes: u32::from_le_bytes(RAW_BYTES.get(bytes)),
            body_bytes: u32::from_le_bytes(BODY_BYTES.get(bytes)),
        };
        if DEPTH.get(bytes) != [0; 2]
            || BASES.get(bytes) != [0; 4]
            || u32::from_le_bytes(CLOSURE_FRAMES.get(bytes)) != 1
            || u64::from_le_bytes(CLOSURE_BYTES.get(bytes)) != u64::from(header.raw_bytes)
            || RESERVED.get(bytes) != [0; 12]
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;
    use proptest::prelude::*;

    const GOOD: FrameHeader = FrameHeader {
        kind: FrameKind::Solid,
        codec: Codec::Zstd,
        chunk_count: 2,
        table_bytes: 4,
        raw_bytes: 1000,
        body_bytes: 500,
    };

    #[test]
    fn a_header_comes_back() {
        assert_eq!(FrameHeader::decode(&GOOD.encode()).unwrap(), GOOD);
        let plain = FrameHeader {
            kind: FrameKind::Padding,
            codec: Codec::None,
            chunk_count: 0,
            table_bytes: 0,
            raw_bytes: 9,
            body_bytes: 9,
        };
        assert_eq!(FrameHeader::decode(&plain.encode()).unwrap(), plain);
        for length in 0..FRAME_HEADER_BYTES {
            assert_eq!(FrameHeader::decode(&GOOD.encode()[..length]).unwrap_err().kind(), ErrorKind::Damage);
        }
    }

    #[test]
    fn what_a_newer_version_writes_is_said_to_be_newer() {
        for (offset, value) in [(0, 2), (0, 5), (1, 3), (2, 1), (8, 1), (24, 2), (28, 1), (36, 1), (47, 1)] {
            let mut bytes = GOOD.encode();
            bytes[offset] = value;
            assert_eq!(FrameHeader::decode(&bytes).unwrap_err().kind(), ErrorKind::NewerFormat, "{offset}");
        }
    }

    #[test]
    fn what_cannot_be_is_damage() {
        let bad = [
            FrameHeader { chunk_count: 0, ..GOOD },
            FrameHeader {
                chunk_count: FRAME_CHUNKS_MAX + 1,
                raw_bytes: FRAME_RAW_BYTES_MAX,
                table_bytes: 1 << 17,
                ..GOOD
            },
            FrameHeader { raw_bytes: FRAME_RAW_BYTES_MAX + 1, ..GOOD },
            FrameHeader { raw_bytes: 1, ..GOOD },
            FrameHeader { table_bytes: 1, ..GOOD },
            FrameHeader { table_bytes: 9, ..GOOD },
            FrameHeader { body_bytes: 3, ..GOOD },
            FrameHeader { body_bytes: 1004, ..GOOD },
            FrameHeader { body_bytes: 1005, ..GOOD },
            FrameHeader { codec: Codec::None, ..GOOD },
            FrameHeader { kind: FrameKind::Padding, ..GOOD },
            FrameHeader { kind: FrameKind::Contents, codec: Codec::None, ..GOOD },
        ];
        for header in bad {
            assert_eq!(
                FrameHeader::decode(&header.encode()).unwrap_err().kind(),
                ErrorKind::Damage,
                "{header:?}"
            );
        }
        for (offset, value) in [(0, 0), (1, 0)] {
            let mut bytes = GOOD.encode();
            bytes[offset] = value;
            assert_eq!(FrameHeader::decode(&bytes).unwrap_err().kind(), ErrorKind::Damage, "zero is no kind");
        }
    }

    proptest! {
        #[test]
        fn what_decodes_is_within_the_limits(bytes in proptest::collection::vec(prop_oneof![4 => Just(0u8), 1 => any::<u8>()], FRAME_HEADER_BYTES)) {
            if let Ok(header) = FrameHeader::decode(&bytes)
                && header.kind == FrameKind::Solid
            {
                prop_assert!(header.raw_bytes <= FRAME_RAW_BYTES_MAX && header.body_bytes <= FRAME_BODY_BYTES_MAX);
                prop_assert_eq!(&header.encode()[..], &bytes[..]);
            }
        }
    }
}
