//! What stands behind each block on disk: sixteen bytes that say what it is, how it is stored, and whether it is whole.
//!
//! ```text
//! 0   kind           u8      BlockKind
//! 1   codec          u8      Codec
//! 2   reserved       u16     zero
//! 4   payload bytes  u32     before compression
//! 8   checksum       u64     XXH3-64 of the stored bytes and the eight bytes above, salted with the file's identity and the block's offset
//! ```

use crate::block::{Codec, Payload, Scratch, compress};
use crate::checksum::{Identity, salted_xxh3};
use crate::codec::Decoder;
use crate::error::{Error, ErrorKind, Result};

/// Bytes of a trailer.
pub const TRAILER_BYTES: usize = 16;

const CHECKED_BYTES: usize = 8;

/// What a block holds. Zero is no valid kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum BlockKind {
    /// Entries.
    Data = 1,
    /// One partition of the index: the separator behind each data block, and where it is.
    Index = 2,
    /// The separator behind each partition, where it is, and where its filter is.
    TopIndex = 3,
    /// The filter of one partition.
    Filter = 4,
    /// Range tombstones.
    Tombstones = 5,
    /// Figures.
    Properties = 6,
    /// Where the sections are.
    Directory = 7,
    /// Rows of one width.
    Rows = 8,
    /// The first prefix of each block of rows.
    Fences = 9,
    /// Where everything is in a table of rows.
    RowsPlan = 10,
    /// What data blocks are compressed with.
    Dictionary = 11,
}

impl BlockKind {
    /// The kind with this number, if there is one.
    pub fn from_u8(kind: u8) -> Option<Self> {
        let all = [
            Self::Data,
            Self::Index,
            Self::TopIndex,
            Self::Filter,
            Self::Tombstones,
            Self::Properties,
            Self::Directory,
            Self::Rows,
            Self::Fences,
            Self::RowsPlan,
            Self::Dictionary,
        ];
        all.into_iter().find(|known| *known as u8 == kind)
    }
}

/// Appends a block that will stand at `offset` of the file `identity`: `stored` under `codec`, then the trailer.
///
/// # Panics
/// If the payload is above 2^32 bytes.
pub fn seal(
    out: &mut Vec<u8>,
    identity: Identity,
    offset: u64,
    kind: BlockKind,
    codec: Codec,
    stored: &[u8],
    payload_bytes: usize,
) {
    let start = out.len();
    out.extend_from_slice(stored);
    out.extend_from_slice(&[kind as u8, codec as u8, 0, 0]);
    let payload_bytes = u32::try_from(payload_bytes).expect("payloads are below 2^29 bytes");
    out.extend_from_slice(&payload_bytes.to_le_bytes());
    let checksum = salted_xxh3(identity, offset, out.get(start..).unwrap_or_default());
    out.extend_from_slice(&checksum.to_le_bytes());
}

/// The payload of the block in `bytes` (trailer included), which was read at `offset` of the file `identity`: a part of them where that needs no
/// decompression.
///
/// # Errors
/// Corruption if the checksum differs or the block is of another kind; NewerFormat for an unknown codec.
pub fn open(bytes: &[u8], identity: Identity, offset: u64, kind: BlockKind) -> Result<Payload<'_>> {
    open_with(bytes, identity, offset, kind, |_, _| {
        Err(Error::corruption("a block that was compressed with a dictionary, where there is none"))
    })
}

/// As [`open`], for a block that may have been compressed with the table's dictionary: then `with_dictionary` decompresses what is stored, to so many
/// bytes.
///
/// # Errors
/// The same, and those of `with_dictionary`.
pub(crate) fn open_with(
    bytes: &[u8],
    identity: Identity,
    offset: u64,
    kind: BlockKind,
    with_dictionary: impl FnOnce(&[u8], usize) -> Result<Scratch>,
) -> Result<Payload<'_>> {
    let (codec, payload_bytes) = verify(bytes, identity, offset, kind)?;
    let stored = bytes.get(..bytes.len() - TRAILER_BYTES).unwrap_or_default();
    compress::unpack(codec, stored, payload_bytes, with_dictionary)
}

/// The bytes that the block in `bytes` says to have before compression, nothing of it verified: for what has a lower limit of its own.
pub(crate) fn stated_payload_bytes(bytes: &[u8]) -> usize {
    let trailer = bytes.last_chunk::<TRAILER_BYTES>();
    trailer.map_or(0, |[_, _, _, _, a, b, c, d, ..]| u32::from_le_bytes([*a, *b, *c, *d]) as usize)
}

fn verify(bytes: &[u8], identity: Identity, offset: u64, kind: BlockKind) -> Result<(Codec, usize)> {
    let Some((checked, checksum)) = bytes.split_last_chunk::<8>() else {
        return Err(too_short(bytes));
    };
    let Some((_, trailer)) = checked.split_last_chunk::<CHECKED_BYTES>() else {
        return Err(too_short(bytes));
    };
    let (expected, found) = (u64::from_le_bytes(*checksum), salted_xxh3(identity, offset, checked));
    if expected != found {
        return Err(Error::corruption(format!(
            "the checksum of a block of {} bytes differs: {expected:016x} is stored, {found:016x} computed",
            bytes.len()
        )));
    }
    let mut decoder = Decoder::new(trailer);
    let found_kind = decoder.u8("block kind")?;
    let codec = decoder.u8("block codec")?;
    let reserved = decoder.u16("block reserved bytes")?;
    let payload_bytes = decoder.u32("block payload bytes")? as usize;
    if found_kind != kind as u8 {
        return Err(Error::corruption(format!(
            "a block of kind {found_kind} stands where {kind:?} is expected"
        )));
    }
    if reserved != 0 {
        return Err(Error::new(
            ErrorKind::NewerFormat,
            format!("reserved bytes of a block are {reserved:#06x}; a newer version wrote them"),
        ));
    }
    Ok((Codec::from_u8(codec)?, payload_bytes))
}

#[cold]
fn too_short(bytes: &[u8]) -> Error {
    Error::corruption(format!("{} bytes are too short for a block", bytes.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDENTITY: Identity = Identity::from_bytes([9; 16]);

    fn sealed() -> Vec<u8> {
        let mut out = Vec::new();
        seal(&mut out, IDENTITY, 64, BlockKind::Data, Codec::None, b"payload", 7);
        out
    }

    #[test]
    fn what_was_sealed_opens() {
        assert_eq!(*open(&sealed(), IDENTITY, 64, BlockKind::Data).unwrap(), *b"payload");
    }

    #[test]
    fn another_place_another_file_another_kind_is_refused() {
        assert!(open(&sealed(), IDENTITY, 65, BlockKind::Data).is_err());
        assert!(open(&sealed(), Identity::from_bytes([8; 16]), 64, BlockKind::Data).is_err());
        assert!(open(&sealed(), IDENTITY, 64, BlockKind::Index).is_err());
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let whole = sealed();
        for byte in 0..whole.len() {
            for bit in 0..8 {
                let mut bytes = whole.clone();
                bytes[byte] ^= 1 << bit;
                assert!(open(&bytes, IDENTITY, 64, BlockKind::Data).is_err());
            }
            assert!(open(&whole[..byte], IDENTITY, 64, BlockKind::Data).is_err());
        }
    }
}
