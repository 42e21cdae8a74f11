//! The header of a pack: fixed length, in clear, checked by its own checksum and bound into every seal.

use crate::codec::Decoder;
use crate::error::{Error, Result};
use crate::id::IntentId;
use crate::seal::{Cipher, KeyWrap, newer};
use crate::secret::Epoch;

/// Length of a pack's header.
pub(crate) const PACK_HEADER_BYTES: usize = 112;
/// Where the key commitment begins: what stands before is hashed into the pack's key.
pub(crate) const COMMITMENT_OFFSET: usize = 72;
/// Where the checksum begins.
const CHECKSUM_OFFSET: usize = 104;
const MAGIC: [u8; 8] = *b"VRSNPACK";
const VERSION: u16 = 1;
/// Required feature bits that this version knows: none.
const REQUIRED_KNOWN: u32 = 0;

/// What a pack says of itself in clear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackHeader {
    /// How it is sealed.
    pub cipher: Cipher,
    /// Optional features of what wrote it: this version knows none, and passes over all.
    pub optional_features: u32,
    /// The epoch from whose secret its key is derived.
    pub epoch: Epoch,
    /// The writer's intent.
    pub intent: IntentId,
    /// 32 random bytes: make it, and its key, unique.
    pub salt: [u8; 32],
    /// What it shows of its key.
    pub commitment: [u8; 32],
}

impl PackHeader {
    /// What the pack's key is made from: the header up to the commitment.
    pub(crate) fn bound(&self) -> [u8; COMMITMENT_OFFSET] {
        let mut out = [0; COMMITMENT_OFFSET];
        let mut rest = &mut out[..];
        let mut put = |bytes: &[u8]| {
            let (place, after) = std::mem::take(&mut rest).split_at_mut(bytes.len());
            place.copy_from_slice(bytes);
            rest = after;
        };
        put(&MAGIC);
        put(&VERSION.to_le_bytes());
        put(&[self.cipher as u8, self.cipher.key_wrap() as u8]);
        put(&REQUIRED_KNOWN.to_le_bytes());
        put(&self.optional_features.to_le_bytes());
        put(&self.epoch.number().to_le_bytes());
        put(self.intent.as_bytes());
        put(&self.salt);
        out
    }

    /// Its bytes.
    pub(crate) fn encode(&self) -> [u8; PACK_HEADER_BYTES] {
        let mut out = [0; PACK_HEADER_BYTES];
        let (bound, rest) = out.split_at_mut(COMMITMENT_OFFSET);
        bound.copy_from_slice(&self.bound());
        let (commitment, checksum) = rest.split_at_mut(CHECKSUM_OFFSET - COMMITMENT_OFFSET);
        commitment.copy_from_slice(&self.commitment);
        let hash = xxhash_rust::xxh3::Xxh3Default::new();
        let mut hash = hash;
        hash.update(bound);
        hash.update(commitment);
        checksum.copy_from_slice(&hash.digest().to_le_bytes());
        out
    }

    /// The header at the front of `bytes`.
    ///
    /// # Errors
    /// Damage if these are no header of a pack, or not the bytes that were written; newer format if a newer version wrote them.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut decoder = Decoder::new(bytes);
        let header = decoder.bytes(PACK_HEADER_BYTES, "header of a pack")?;
        let mut decoder = Decoder::new(header);
        let magic: [u8; 8] = decoder.array("magic")?;
        if magic != MAGIC {
            return Err(Error::damage(format!("no pack: it begins with {magic:02x?}")));
        }
        // Magic, version, and the checksum's place are the same in every version: so a flipped bit is never taken for a newer format.
        let (covered, stored) = header.split_at(CHECKSUM_OFFSET);
        let checksum = xxhash_rust::xxh3::xxh3_64(covered).to_le_bytes();
        if stored != checksum {
            return Err(Error::damage("header of a pack: its checksum is wrong"));
        }
        let version = decoder.u16("version")?;
        if version != VERSION {
            return Err(newer(format!("version {version} of a pack")));
        }
        let (cipher, wrap) = (decoder.u8("cipher")?, decoder.u8("key wrap")?);
        let required = decoder.u32("required features")?;
        if required & !REQUIRED_KNOWN != 0 {
            return Err(newer(format!("required features {required:#x} of a pack")));
        }
        let (cipher, wrap) = (Cipher::from_number(cipher)?, KeyWrap::from_number(wrap)?);
        if wrap != cipher.key_wrap() {
            return Err(Error::damage(format!("header of a pack: {cipher:?} does not go with {wrap:?}")));
        }
        let optional_features = decoder.u32("optional features")?;
        let epoch = decoder.u32("epoch")?;
        let epoch = Epoch::new(epoch).ok_or_else(|| Error::damage("header of a pack: epoch 0 is none"))?;
        let intent = IntentId::from_bytes(decoder.array("intent")?);
        let salt = decoder.array("salt")?;
        let commitment = decoder.array("commitment")?;
        Ok(Self { cipher, optional_features, epoch, intent, salt, commitment })
    }
}
