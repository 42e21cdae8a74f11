//! The first 64 bytes: what the file is, whose it is, what a reader must know.

use crate::checksum::{Identity, salted_xxh3};
use crate::codec::Decoder;
use crate::error::{Error, ErrorKind, Result};

/// Bytes of a header.
pub const HEADER_BYTES: usize = 64;

/// Bytes of [`HEADER_BYTES`] since the checksum covers those before it.
pub(super) const CHECKSUM_OFFSET: usize = 56;

pub(super) const MAGIC: [u8; 8] = *b"LSMTABLE";
pub(super) const VERSION: u16 = 1;

/// What kind of table the file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum TableKind {
    /// Entries of any length in sorted blocks.
    Sorted = 1,
    /// Rows of one width.
    Fixed = 2,
}

impl TableKind {
    fn from_u8(kind: u8) -> Option<Self> {
        [Self::Sorted, Self::Fixed].into_iter().find(|known| *known as u8 == kind)
    }
}

/// Feature bit, required: blocks may be compressed with zstd.
pub(super) const REQUIRED_ZSTD: u32 = 1;

/// Feature bit, required: data blocks may be compressed with the table's dictionary.
pub(super) const REQUIRED_DICTIONARY: u32 = 2;

/// Feature bit, required: blocks may be compressed with LZ4.
pub(super) const REQUIRED_LZ4: u32 = 4;

const REQUIRED_KNOWN: u32 = REQUIRED_ZSTD | REQUIRED_DICTIONARY | REQUIRED_LZ4;

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: TableKind,
    pub(super) required: u32,
    pub(super) optional: u32,
    pub(super) identity: Identity,
    pub(super) database: Identity,
}

impl Header {
    pub(super) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut out = Vec::with_capacity(HEADER_BYTES);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&[self.kind as u8, 0]);
        out.extend_from_slice(&self.required.to_le_bytes());
        out.extend_from_slice(&self.optional.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.identity.to_bytes());
        out.extend_from_slice(&self.database.to_bytes());
        let checksum = salted_xxh3(self.identity, 0, &out);
        out.extend_from_slice(&checksum.to_le_bytes());
        out.try_into().expect("the fields add up to 64 bytes")
    }

    pub(super) fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<Self> {
        let mut decoder = Decoder::new(bytes);
        if decoder.array("magic")? != MAGIC {
            return Err(Error::corruption("this is not a table: its first bytes are others"));
        }
        let version = decoder.u16("format version")?;
        let kind = decoder.u8("kind of table")?;
        let reserved = decoder.u8("reserved byte")?;
        let required = decoder.u32("required features")?;
        let optional = decoder.u32("optional features")?;
        let reserved_too = decoder.u32("reserved bytes")?;
        let identity = Identity::decode(&mut decoder)?;
        let database = Identity::decode(&mut decoder)?;
        let expected = decoder.u64("checksum of the header")?;
        // First whether the bytes are whole, then whether they are understood: a flipped bit is no newer version.
        let found = salted_xxh3(identity, 0, bytes.get(..CHECKSUM_OFFSET).unwrap_or_default());
        if expected != found {
            return Err(Error::corruption(format!(
                "the checksum of the header differs: {expected:016x} is stored, {found:016x} computed"
            )));
        }
        let known =
            TableKind::from_u8(kind).filter(|_| version == VERSION && reserved == 0 && reserved_too == 0);
        let Some(kind) = known else {
            return Err(newer(format!(
                "a table of version {version}, kind {kind} is unknown to this version"
            )));
        };
        let unknown = required & !REQUIRED_KNOWN;
        if unknown != 0 {
            return Err(newer(format!(
                "the table needs features {unknown:#x}, which this version does not know"
            )));
        }
        if required & (REQUIRED_ZSTD | REQUIRED_DICTIONARY) != 0 && cfg!(not(feature = "zstd")) {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                "the table is compressed with zstd, which is not part of this build; build it with the feature `zstd`",
            ));
        }
        Ok(Self { kind, required, optional, identity, database })
    }
}

fn newer(message: String) -> Error {
    Error::new(ErrorKind::NewerFormat, format!("{message}; a newer one wrote it"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
            kind: TableKind::Sorted,
            required: 0,
            optional: 4,
            identity: Identity::from_bytes([1; 16]),
            database: Identity::from_bytes([2; 16]),
        }
    }

    #[test]
    fn a_header_comes_back() {
        assert_eq!(Header::decode(&header().encode()).unwrap(), header());
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        for byte in 0..HEADER_BYTES {
            for bit in 0..8 {
                let mut bytes = header().encode();
                bytes[byte] ^= 1 << bit;
                assert_eq!(Header::decode(&bytes).unwrap_err().kind(), ErrorKind::Corruption);
            }
        }
    }

    #[test]
    fn unknown_required_features_refuse_the_file_and_optional_ones_do_not() {
        let bytes = Header { required: 8, ..header() }.encode();
        assert_eq!(Header::decode(&bytes).unwrap_err().kind(), ErrorKind::NewerFormat);
        Header::decode(&Header { optional: u32::MAX, ..header() }.encode()).unwrap();
    }
}
