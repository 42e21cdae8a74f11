//! The fixed header of a segment: who wrote it, where in the log it stands, how its parts are sealed.
//!
//! Its bytes up to the commitments are what the keys of both parts are made from: a part opens only under the header that it was
//! sealed with. Bytes: FORMAT.md, segments.

use xxhash_rust::xxh3::xxh3_64;

use super::Sequence;
use crate::codec::Decoder;
use crate::error::{Error, Result};
use crate::id::{IntentId, ObjectHash, WriterId};
use crate::seal::{Cipher, KeyWrap, newer};
use crate::secret::Epoch;

/// The first eight bytes of a segment.
pub const MAGIC: [u8; 8] = *b"VRSNSEGM";
/// The version of the format that this program writes.
pub const FORMAT_VERSION: u16 = 1;
/// Required feature bits that this version knows.
const REQUIRED_FEATURES_KNOWN: u32 = 0;
/// Length of the header in bytes.
pub const HEADER_BYTES: usize = 248;
/// Length of what the parts' keys are made from: everything before the commitments.
pub const BOUND_BYTES: usize = 164;

const _: () = assert!(BOUND_BYTES + 2 * 32 + 3 * 4 + 8 == HEADER_BYTES);

/// Which pieces of a run a segment is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PieceFlags {
    /// The first piece of a run: whatever this writer had begun before and not committed is given up.
    pub begins: bool,
    /// The last piece of a run: what its versions parts say is so from here on.
    pub commits: bool,
}

impl PieceFlags {
    const BEGINS: u32 = 1;
    const COMMITS: u32 = 2;

    fn bits(self) -> u32 {
        (if self.begins { Self::BEGINS } else { 0 }) | (if self.commits { Self::COMMITS } else { 0 })
    }

    fn from_bits(bits: u32) -> Result<Self> {
        if bits & !(Self::BEGINS | Self::COMMITS) != 0 {
            return Err(Error::damage(format!("flags of a segment: reserved bits set in {bits:#x}")));
        }
        Ok(Self { begins: bits & Self::BEGINS != 0, commits: bits & Self::COMMITS != 0 })
    }
}

/// A segment's header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// How the parts are sealed.
    pub cipher: Cipher,
    /// Optional feature bits: unknown ones are passed over.
    pub optional_features: u32,
    /// The epoch of the versions part's key.
    pub epoch: Epoch,
    /// Whose log it is in.
    pub writer: WriterId,
    /// Its place there.
    pub sequence: Sequence,
    /// The segment before it in the log; all zero for the first.
    pub predecessor: ObjectHash,
    /// The intent under which it was written.
    pub intent: IntentId,
    /// Its place in a run.
    pub flags: PieceFlags,
    /// BLAKE3 of the part in clear, which so is bound to the sealed ones.
    pub names_hash: ObjectHash,
    /// 32 random bytes.
    pub salt: [u8; 32],
}

/// What stands behind the bound bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tail {
    pub(super) index_commitment: [u8; 32],
    pub(super) versions_commitment: [u8; 32],
    pub(super) names_bytes: u32,
    pub(super) index_bytes: u32,
    pub(super) versions_bytes: u32,
}

impl Header {
    /// The bytes that the parts' keys are made from.
    pub(super) fn bound_bytes(&self) -> [u8; BOUND_BYTES] {
        let mut out = Vec::with_capacity(BOUND_BYTES);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        out.push(self.cipher as u8);
        out.push(self.cipher.key_wrap() as u8);
        out.extend_from_slice(&0u32.to_le_bytes());
        out.extend_from_slice(&self.optional_features.to_le_bytes());
        out.extend_from_slice(&self.epoch.number().to_le_bytes());
        out.extend_from_slice(self.writer.as_bytes());
        out.extend_from_slice(&self.sequence.0.to_le_bytes());
        out.extend_from_slice(self.predecessor.as_bytes());
        out.extend_from_slice(self.intent.as_bytes());
        out.extend_from_slice(&self.flags.bits().to_le_bytes());
        out.extend_from_slice(self.names_hash.as_bytes());
        out.extend_from_slice(&self.salt);
        let mut bytes = [0; BOUND_BYTES];
        assert_eq!(out.len(), BOUND_BYTES, "the fields fill the bound bytes");
        bytes.copy_from_slice(&out);
        bytes
    }

    pub(super) fn encode(&self, tail: &Tail) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_BYTES);
        out.extend_from_slice(&self.bound_bytes());
        out.extend_from_slice(&tail.index_commitment);
        out.extend_from_slice(&tail.versions_commitment);
        out.extend_from_slice(&tail.names_bytes.to_le_bytes());
        out.extend_from_slice(&tail.index_bytes.to_le_bytes());
        out.extend_from_slice(&tail.versions_bytes.to_le_bytes());
        let checksum = xxh3_64(&out);
        out.extend_from_slice(&checksum.to_le_bytes());
        assert_eq!(out.len(), HEADER_BYTES, "the fields fill the header");
        out
    }

    /// Reads the header at the front of `bytes`.
    pub(super) fn decode(bytes: &[u8]) -> Result<(Self, Tail)> {
        let mut from = Decoder::new(bytes);
        let raw = from.array::<HEADER_BYTES>("header of a segment")?;
        let mut from = Decoder::new(&raw);
        if from.array("magic")? != MAGIC {
            return Err(Error::damage("no segment: the first eight bytes are others"));
        }
        let version = from.u16("format version")?;
        let (covered, checksum) = raw.split_at(HEADER_BYTES - 8);
        if xxh3_64(covered).to_le_bytes() != *checksum {
            return Err(Error::damage("header of a segment: the checksum does not fit"));
        }
        if version != FORMAT_VERSION {
            return Err(newer(format!("format version {version} of a segment")));
        }
        let cipher = Cipher::from_number(from.u8("cipher")?)?;
        let wrap = KeyWrap::from_number(from.u8("key wrap")?)?;
        if wrap != cipher.key_wrap() {
            return Err(Error::damage("header of a segment: cipher and key wrap do not go together"));
        }
        let required = from.u32("required features")?;
        if required & !REQUIRED_FEATURES_KNOWN != 0 {
            return Err(newer(format!("required features {required:#x} of a segment")));
        }
        let optional_features = from.u32("optional features")?;
        let epoch =
            Epoch::new(from.u32("epoch")?).ok_or_else(|| Error::damage("header of a segment: epoch zero"))?;
        let writer = WriterId::from_bytes(from.array("writer")?);
        let sequence = Sequence(from.u64("sequence")?);
        let predecessor = ObjectHash::from_bytes(from.array("predecessor")?);
        if sequence.0 == 0 || (sequence.0 == 1) != (*predecessor.as_bytes() == [0; 32]) {
            return Err(Error::damage("header of a segment: sequence and predecessor do not go together"));
        }
        let header = Self {
            cipher,
            optional_features,
            epoch,
            writer,
            sequence,
            predecessor,
            intent: IntentId::from_bytes(from.array("intent")?),
            flags: PieceFlags::from_bits(from.u32("flags")?)?,
            names_hash: ObjectHash::from_bytes(from.array("hash of the names")?),
            salt: from.array("salt")?,
        };
        let tail = Tail {
            index_commitment: from.array("commitment")?,
            versions_commitment: from.array("commitment")?,
            names_bytes: from.u32("length of the names")?,
            index_bytes: from.u32("length of the index part")?,
            versions_bytes: from.u32("length of the versions part")?,
        };
        Ok((header, tail))
    }
}
