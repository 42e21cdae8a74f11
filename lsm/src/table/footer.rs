//! The last 64 bytes, and the directory of sections to which they lead.

use crate::checksum::{Identity, salted_xxh3};
use crate::codec::{Decoder, put_varint};
use crate::error::{Error, ErrorKind, Result};
use crate::table::HEADER_BYTES;
use crate::table::index::Handle;

/// Bytes of a footer.
pub const FOOTER_BYTES: usize = 64;

/// Where the checksum of the bytes before it stands.
const CHECKSUM_OFFSET: usize = 48;

const MAGIC: [u8; 8] = *b"LSMTFOOT";

/// What a footer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Footer {
    pub(super) directory: Handle,
    pub(super) file_bytes: u64,
    pub(super) identity: Identity,
}

impl Footer {
    pub(super) fn offset(&self) -> u64 {
        self.file_bytes.saturating_sub(FOOTER_BYTES as u64)
    }

    pub(super) fn encode(&self) -> [u8; FOOTER_BYTES] {
        let mut out = Vec::with_capacity(FOOTER_BYTES);
        out.extend_from_slice(&self.directory.offset.to_le_bytes());
        out.extend_from_slice(&self.directory.bytes.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.file_bytes.to_le_bytes());
        out.extend_from_slice(&self.identity.to_bytes());
        out.extend_from_slice(&[0; 8]);
        let checksum = salted_xxh3(self.identity, self.offset(), &out);
        out.extend_from_slice(&checksum.to_le_bytes());
        out.extend_from_slice(&MAGIC);
        out.try_into().expect("the fields add up to 64 bytes")
    }

    /// The footer of a file of `file_bytes` with this identity.
    pub(super) fn decode(bytes: &[u8; FOOTER_BYTES], identity: Identity, file_bytes: u64) -> Result<Self> {
        let mut decoder = Decoder::new(bytes);
        let offset = decoder.u64("offset of the directory")?;
        let length = decoder.u32("length of the directory")?;
        let reserved = decoder.u32("reserved bytes of the footer")?;
        let stored_file_bytes = decoder.u64("length of the file")?;
        let stored_identity = Identity::decode(&mut decoder)?;
        let reserved_too = decoder.u64("reserved bytes of the footer")?;
        let expected = decoder.u64("checksum of the footer")?;
        if decoder.array("closing magic")? != MAGIC {
            return Err(Error::corruption(
                "the table has no footer: its last bytes are others; it was cut short",
            ));
        }
        let start = file_bytes.saturating_sub(FOOTER_BYTES as u64);
        let found = salted_xxh3(identity, start, bytes.get(..CHECKSUM_OFFSET).unwrap_or_default());
        if expected != found {
            return Err(Error::corruption(format!(
                "the checksum of the footer differs: {expected:016x} is stored, {found:016x} computed"
            )));
        }
        if stored_file_bytes != file_bytes || stored_identity != identity {
            return Err(Error::corruption(format!(
                "the footer is that of a file of {stored_file_bytes} bytes, {stored_identity:?}"
            )));
        }
        if reserved != 0 || reserved_too != 0 {
            return Err(Error::new(
                ErrorKind::NewerFormat,
                "reserved bytes of the footer are in use; a newer version wrote the table",
            ));
        }
        let directory = Handle { offset, bytes: length };
        Ok(Self { directory, file_bytes, identity })
    }
}

/// A section's tag. The low bit says that a reader who does not know the section must refuse the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Section {
    /// The top level of the index; there is none in a table without entries.
    TopIndex = 3,
    /// The range tombstones, if there are any.
    Tombstones = 5,
    /// Figures.
    Properties = 7,
    /// Where everything is in a table of rows.
    Rows = 9,
    /// What data blocks are compressed with, if they are; the same bytes stand behind the header.
    Dictionary = 11,
}

impl Section {
    fn known(tag: u64) -> Option<Self> {
        [Self::TopIndex, Self::Tombstones, Self::Properties, Self::Rows, Self::Dictionary]
            .into_iter()
            .find(|known| *known as u64 == tag)
    }
}

/// Where the sections are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Directory {
    pub(super) top_index: Option<Handle>,
    pub(super) tombstones: Option<Handle>,
    pub(super) properties: Option<Handle>,
    pub(super) rows: Option<Handle>,
    pub(super) dictionary: Option<Handle>,
    /// Sections that this version does not know and need not.
    pub(super) unknown: Vec<Handle>,
}

impl Directory {
    pub(super) fn encode(&self) -> Vec<u8> {
        let sections = [
            (Section::TopIndex, self.top_index),
            (Section::Tombstones, self.tombstones),
            (Section::Properties, self.properties),
            (Section::Rows, self.rows),
            (Section::Dictionary, self.dictionary),
        ];
        let mut out = Vec::new();
        for (section, handle) in sections {
            if let Some(handle) = handle {
                put_varint(&mut out, section as u64);
                handle.encode(&mut out);
            }
        }
        out
    }

    /// All sections by where they are.
    pub(super) fn handles(&self) -> Vec<Handle> {
        let known = [self.top_index, self.tombstones, self.properties, self.rows, self.dictionary];
        let mut all: Vec<Handle> = known.into_iter().flatten().chain(self.unknown.iter().copied()).collect();
        all.sort_unstable();
        all
    }

    /// Where the two copies of the dictionary are: the section, and behind the header, in the length of the section.
    pub(super) fn dictionary_copies(&self) -> Option<[Handle; 2]> {
        self.dictionary.map(|section| [section, Handle { offset: HEADER_BYTES as u64, ..section }])
    }

    /// Tags ascend, so that none can stand there twice.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self> {
        let mut decoder = Decoder::new(bytes);
        let mut directory = Self::default();
        let mut last = 0;
        while !decoder.is_empty() {
            let tag = decoder.varint("tag of a section")?;
            let handle = Handle::decode(&mut decoder)?;
            if tag <= last {
                return Err(Error::corruption(format!("section {tag} stands behind section {last}")));
            }
            last = tag;
            match Section::known(tag) {
                Some(Section::TopIndex) => directory.top_index = Some(handle),
                Some(Section::Tombstones) => directory.tombstones = Some(handle),
                Some(Section::Properties) => directory.properties = Some(handle),
                Some(Section::Rows) => directory.rows = Some(handle),
                Some(Section::Dictionary) => directory.dictionary = Some(handle),
                None if tag & 1 == 1 => {
                    return Err(Error::new(
                        ErrorKind::NewerFormat,
                        format!(
                            "section {tag} of the table must be understood and is not; a newer version wrote it"
                        ),
                    ));
                }
                None => directory.unknown.push(handle),
            }
        }
        Ok(directory)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn footer() -> Footer {
        Footer {
            directory: Handle { offset: 64, bytes: 99 },
            file_bytes: 300,
            identity: Identity::from_bytes([3; 16]),
        }
    }

    #[test]
    fn a_footer_comes_back_and_knows_its_place() {
        let footer = footer();
        assert_eq!(Footer::decode(&footer.encode(), footer.identity, 300).unwrap(), footer);
        assert!(Footer::decode(&footer.encode(), footer.identity, 301).is_err());
        assert!(Footer::decode(&footer.encode(), Identity::from_bytes([4; 16]), 300).is_err());
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        for byte in 0..FOOTER_BYTES {
            for bit in 0..8 {
                let mut bytes = footer().encode();
                bytes[byte] ^= 1 << bit;
                let error = Footer::decode(&bytes, footer().identity, 300).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Corruption);
            }
        }
    }

    #[test]
    fn unknown_sections_follow_their_low_bit() {
        let directory =
            Directory { properties: Some(Handle { offset: 64, bytes: 80 }), ..Directory::default() };
        let with = |tag: u64| {
            let mut bytes = directory.encode();
            put_varint(&mut bytes, tag);
            Handle { offset: 1, bytes: 1 }.encode(&mut bytes);
            Directory::decode(&bytes)
        };
        assert_eq!(with(8).unwrap().unknown, [Handle { offset: 1, bytes: 1 }]);
        assert_eq!(with(13).unwrap_err().kind(), ErrorKind::NewerFormat);
        assert_eq!(with(7).unwrap_err().kind(), ErrorKind::Corruption);
    }
}
