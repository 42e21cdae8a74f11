//! The header of a pack: fixed length, in clear, checked by its own checksum and bound into every seal.

use lsm::layout::{Field, FieldPlace, tiles};

use crate::error::{Error, Result};
use crate::id::IntentId;
use crate::seal::{Cipher, KeyWrap, newer};
use crate::secret::Epoch;

/// Length of a pack's header.
pub(crate) const PACK_HEADER_BYTES: usize = 112;

const MAGIC: Field<8> = Field::new("magic", 0);
const VERSION: Field<2> = Field::new("version", 8);
const CIPHER: Field<1> = Field::new("cipher", 10);
const KEY_WRAP: Field<1> = Field::new("key wrap", 11);
const REQUIRED: Field<4> = Field::new("required features", 12);
const OPTIONAL: Field<4> = Field::new("optional features", 16);
const EPOCH: Field<4> = Field::new("epoch", 20);
const INTENT: Field<16> = Field::new("intent", 24);
const SALT: Field<32> = Field::new("salt", 40);
const COMMITMENT: Field<32> = Field::new("key commitment", 72);
const CHECKSUM: Field<8> = Field::new("checksum", 104);

/// The fields in their order, as FORMAT.md has them.
pub(crate) const PACK_HEADER_FIELDS: [FieldPlace; 11] = [
    MAGIC.place(),
    VERSION.place(),
    CIPHER.place(),
    KEY_WRAP.place(),
    REQUIRED.place(),
    OPTIONAL.place(),
    EPOCH.place(),
    INTENT.place(),
    SALT.place(),
    COMMITMENT.place(),
    CHECKSUM.place(),
];
const _: () = assert!(tiles(&PACK_HEADER_FIELDS, PACK_HEADER_BYTES));

/// Where the key commitment begins: what stands before is hashed into the pack's key.
pub(crate) const COMMITMENT_OFFSET: usize = COMMITMENT.place().offset;
/// Where the checksum begins.
const CHECKSUM_OFFSET: usize = CHECKSUM.place().offset;
const MAGIC_VALUE: [u8; 8] = *b"VRSNPACK";
const VERSION_VALUE: u16 = 1;
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
        MAGIC.put(&mut out, MAGIC_VALUE);
        VERSION.put(&mut out, VERSION_VALUE.to_le_bytes());
        CIPHER.put(&mut out, [self.cipher as u8]);
        KEY_WRAP.put(&mut out, [self.cipher.key_wrap() as u8]);
        REQUIRED.put(&mut out, REQUIRED_KNOWN.to_le_bytes());
        OPTIONAL.put(&mut out, self.optional_features.to_le_bytes());
        EPOCH.put(&mut out, self.epoch.number().to_le_bytes());
        INTENT.put(&mut out, *self.intent.as_bytes());
        SALT.put(&mut out, self.salt);
        out
    }

    /// Its bytes.
    pub(crate) fn encode(&self) -> [u8; PACK_HEADER_BYTES] {
        let mut out = [0; PACK_HEADER_BYTES];
        let (bound, _) = out.split_at_mut(COMMITMENT_OFFSET);
        bound.copy_from_slice(&self.bound());
        COMMITMENT.put(&mut out, self.commitment);
        let checksum = checksum(&out);
        CHECKSUM.put(&mut out, checksum);
        out
    }

    /// The header at the front of `bytes`.
    ///
    /// # Errors
    /// Damage if these are no header of a pack, or not the bytes that were written; newer format if a newer version wrote them.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let header: &[u8; PACK_HEADER_BYTES] = bytes.first_chunk().ok_or_else(|| {
            Error::damage(format!(
                "header of a pack: {PACK_HEADER_BYTES} bytes expected, {} found",
                bytes.len()
            ))
        })?;
        let magic = MAGIC.get(header);
        if magic != MAGIC_VALUE {
            return Err(Error::damage(format!("no pack: it begins with {}", magic.escape_ascii())));
        }
        // Magic, version, and the checksum's place are the same in every version: so a flipped bit is never taken for a newer format.
        if CHECKSUM.get(header) != checksum(header) {
            return Err(Error::damage("header of a pack: its checksum is wrong"));
        }
        let version = u16::from_le_bytes(VERSION.get(header));
        if version != VERSION_VALUE {
            return Err(newer(format!("version {version} of a pack")));
        }
        let required = u32::from_le_bytes(REQUIRED.get(header));
        if required & !REQUIRED_KNOWN != 0 {
            return Err(newer(format!("required feature {required:#x} of a pack")));
        }
        let ([cipher], [wrap]) = (CIPHER.get(header), KEY_WRAP.get(header));
        let (cipher, wrap) = (Cipher::from_number(cipher)?, KeyWrap::from_number(wrap)?);
        if wrap != cipher.key_wrap() {
            return Err(Error::damage(format!("header of a pack: {cipher:?} does not go with {wrap:?}")));
        }
        let epoch = Epoch::new(u32::from_le_bytes(EPOCH.get(header)));
        let epoch = epoch.ok_or_else(|| Error::damage("header of a pack: epoch 0 is none"))?;
        Ok(Self {
            cipher,
            optional_features: u32::from_le_bytes(OPTIONAL.get(header)),
            epoch,
            intent: IntentId::from_bytes(INTENT.get(header)),
            salt: SALT.get(header),
            commitment: COMMITMENT.get(header),
        })
    }
}

/// XXH3-64 of the header before its checksum.
fn checksum(header: &[u8; PACK_HEADER_BYTES]) -> [u8; 8] {
    let (covered, _) = header.split_at(CHECKSUM_OFFSET);
    xxhash_rust::xxh3::xxh3_64(covered).to_le_bytes()
}
