//! Chunk ids: BLAKE3 of a chunk's bytes, keyed with a secret of the repository.
//!
//! Keyed, so that an outsider who sees ids (or the sizes of what they name) cannot test whether a known file is stored.

use std::fmt;

use zeroize::Zeroizing;

use crate::error::{Error, Result};
use crate::id::ChunkId;
use crate::secret::{Purpose, Secrets};

/// Makes chunk ids. Cheap to clone, one for each thread or shared.
#[derive(Clone)]
pub struct Hasher {
    key: Zeroizing<[u8; 32]>,
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hasher(..)")
    }
}

impl Hasher {
    /// The hasher of the repository with these secrets.
    pub fn new(secrets: &Secrets) -> Self {
        Self { key: Zeroizing::new(*secrets.of_master(Purpose::ChunkId).as_bytes()) }
    }

    /// The id of the chunk with these bytes.
    pub fn id(&self, bytes: &[u8]) -> ChunkId {
        ChunkId::from_bytes(*blake3::keyed_hash(&self.key, bytes).as_bytes())
    }

    /// Succeeds if `bytes` are the chunk `id`: the last check before bytes are handed out.
    ///
    /// # Errors
    /// Damage if they are not.
    pub fn check(&self, id: &ChunkId, bytes: &[u8]) -> Result<()> {
        let found = self.id(bytes);
        if found == *id {
            return Ok(());
        }
        Err(Error::damage(format!("chunk {id}: its {} bytes hash to {found}", bytes.len())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;
    use crate::secret::{Epoch, Secret};
    use crate::testing::secrets as fixed;

    #[test]
    fn an_id_depends_on_bytes_and_secret() {
        let hasher = Hasher::new(&fixed());
        let other = Hasher::new(&Secrets::fixed(
            Secret::from_bytes([0x12; 32]),
            Epoch::FIRST,
            Secret::from_bytes([0x22; 32]),
        ));
        assert_eq!(hasher.id(b"a"), hasher.id(b"a"));
        assert_ne!(hasher.id(b"a"), hasher.id(b"b"));
        assert_ne!(hasher.id(b"a"), other.id(b"a"));
        assert_ne!(hasher.id(b"a").as_bytes(), blake3::hash(b"a").as_bytes());
        let epoch = Secrets::fixed(Secret::from_bytes([0x11; 32]), Epoch::FIRST, Secret::from_bytes([9; 32]));
        assert_eq!(
            hasher.id(b"a"),
            Hasher::new(&epoch).id(b"a"),
            "a new epoch keeps ids: chunks stay deduplicated"
        );
    }

    #[test]
    fn a_wrong_byte_is_damage() {
        let hasher = Hasher::new(&fixed());
        let id = hasher.id(b"right");
        hasher.check(&id, b"right").unwrap();
        assert_eq!(hasher.check(&id, b"wrong").unwrap_err().kind(), ErrorKind::Damage);
    }
}
