//! The trailer of a pack: where its two tables of contents are.

use lsm::layout::{Field, FieldPlace, tiles};

use crate::error::{Error, Result};

/// Length of a trailer's plaintext.
pub(super) const TRAILER_BYTES: usize = 40;

const PACK_BYTES: Field<8> = Field::new("pack bytes", 0);
const FIRST: Field<8> = Field::new("first table", 8);
const SECOND: Field<8> = Field::new("second table", 16);
const TABLE_BYTES: Field<4> = Field::new("table bytes", 24);
const FRAMES: Field<4> = Field::new("frames", 28);
const RESERVED: Field<8> = Field::new("reserved", 32);

/// The fields in their order, as FORMAT.md has them.
pub(crate) const TRAILER_FIELDS: [FieldPlace; 6] = [
    PACK_BYTES.place(),
    FIRST.place(),
    SECOND.place(),
    TABLE_BYTES.place(),
    FRAMES.place(),
    RESERVED.place(),
];
const _: () = assert!(tiles(&TRAILER_FIELDS, TRAILER_BYTES));

/// Where the two tables of contents of a pack are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Trailer {
    /// Length of the whole pack.
    pub(super) pack_bytes: u64,
    /// Where each of the two begins.
    pub(super) contents_offsets: [u64; 2],
    /// Length of each of the two, as a frame in the pack.
    pub(super) contents_stored_bytes: u32,
    /// How many frames of chunks there are.
    pub(super) frame_count: u32,
}

impl Trailer {
    pub(super) fn encode(&self) -> [u8; TRAILER_BYTES] {
        let mut out = [0; TRAILER_BYTES];
        let [first, second] = self.contents_offsets;
        PACK_BYTES.put(&mut out, self.pack_bytes.to_le_bytes());
        FIRST.put(&mut out, first.to_le_bytes());
        SECOND.put(&mut out, second.to_le_bytes());
        TABLE_BYTES.put(&mut out, self.contents_stored_bytes.to_le_bytes());
        FRAMES.put(&mut out, self.frame_count.to_le_bytes());
        out
    }

    /// The trailer with these bytes, which stands at `offset` of a pack of `pack_bytes`.
    ///
    /// # Errors
    /// Damage if its numbers do not fit each other, or the pack.
    pub(super) fn decode(bytes: &[u8], offset: u64, pack_bytes: u64) -> Result<Self> {
        let bytes: &[u8; TRAILER_BYTES] = bytes.try_into().map_err(|_| {
            Error::damage(format!("trailer: {TRAILER_BYTES} bytes expected, {} found", bytes.len()))
        })?;
        let number = |field: Field<8>| u64::from_le_bytes(field.get(bytes));
        let trailer = Self {
            pack_bytes: number(PACK_BYTES),
            contents_offsets: [number(FIRST), number(SECOND)],
            contents_stored_bytes: u32::from_le_bytes(TABLE_BYTES.get(bytes)),
            frame_count: u32::from_le_bytes(FRAMES.get(bytes)),
        };
        let [first, second] = trailer.contents_offsets;
        let contents = u64::from(trailer.contents_stored_bytes);
        let adjacent =
            first.checked_add(contents) == Some(second) && second.checked_add(contents) == Some(offset);
        if number(RESERVED) != 0 || trailer.pack_bytes != pack_bytes || !adjacent {
            return Err(Error::damage(format!("trailer: {trailer:?} in a pack of {pack_bytes} bytes")));
        }
        Ok(trailer)
    }
}
