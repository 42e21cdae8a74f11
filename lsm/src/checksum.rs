//! Checksums: CRC-32 for the journal's short records, XXH3-64 for blocks; both salted with where the bytes belong.
//!
//! A checksum that covers the bytes alone accepts them wherever they turn up: a record of an old log, a block written to
//! the wrong place. Each of ours is salted with the file's identity and the offset in it.

use crate::codec::Decoder;
use crate::error::Result;

/// The identity of one file: 128 random bits, drawn when it is created, stored in its header.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity([u8; 16]);

impl Identity {
    /// An identity with these bits.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Its bits.
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0
    }

    /// Takes an identity from the front of `decoder`.
    ///
    /// # Errors
    /// Corruption if fewer than 16 bytes are left.
    pub fn decode(decoder: &mut Decoder<'_>) -> Result<Self> {
        Ok(Self(decoder.array("identity")?))
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for byte in self.0 {
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

/// CRC-32 (IEEE) of identity, offset (eight bytes, little-endian), then `parts` in order.
pub fn salted_crc32(identity: Identity, offset: u64, parts: &[&[u8]]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&salt(identity, offset));
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize()
}

/// Identity, then offset.
fn salt(identity: Identity, offset: u64) -> [u8; 24] {
    let mut salt = [0; 24];
    salt[..16].copy_from_slice(&identity.0);
    salt[16..].copy_from_slice(&offset.to_le_bytes());
    salt
}

/// XXH3-64 of `bytes`, its seed being XXH3-64 of identity and offset (eight bytes, little-endian).
pub fn salted_xxh3(identity: Identity, offset: u64, bytes: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64_with_seed(bytes, xxhash_rust::xxh3::xxh3_64(&salt(identity, offset)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_is_part_of_the_checksum() {
        let (a, b) = (Identity::from_bytes([1; 16]), Identity::from_bytes([2; 16]));
        assert_ne!(salted_crc32(a, 0, &[b"x"]), salted_crc32(b, 0, &[b"x"]));
        assert_ne!(salted_crc32(a, 0, &[b"x"]), salted_crc32(a, 8, &[b"x"]));
        assert_ne!(salted_xxh3(a, 0, b"x"), salted_xxh3(b, 0, b"x"));
        assert_ne!(salted_xxh3(a, 0, b"x"), salted_xxh3(a, 8, b"x"));
    }

    #[test]
    fn parts_are_one_message() {
        let id = Identity::from_bytes([7; 16]);
        assert_eq!(salted_crc32(id, 3, &[b"ab", b"c"]), salted_crc32(id, 3, &[b"abc"]));
    }
}
