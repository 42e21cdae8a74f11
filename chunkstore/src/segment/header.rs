//! The fixed header of a segment: who wrote it, where in the log it stands, how its parts are sealed.
//!
//! Its bytes up to the commitments are what the keys of both parts are made from: a part opens only under the header that it was
//! sealed with. Bytes: FORMAT.md, segments.

use lsm::layout::{Field, FieldPlace, tiles};
use xxhash_rust::xxh3::xxh3_64;

use super::Sequence;
use crate::error::{Error, Result};
use crate::id::{IntentId, ObjectHash, WriterId};
use crate::seal::{Cipher, KeyWrap, newer};
use crate::secret::Epoch;

/// Length of the header in bytes.
pub const SEGMENT_HEADER_BYTES: usize = 248;

const MAGIC: Field<8> = Field::new("magic", 0);
const VERSION: Field<2> = Field::new("version", 8);
const CIPHER: Field<1> = Field::new("cipher", 10);
const KEY_WRAP: Field<1> = Field::new("key wrap", 11);
const REQUIRED: Field<4> = Field::new("required features", 12);
const OPTIONAL: Field<4> = Field::new("optional features", 16);
const EPOCH: Field<4> = Field::new("epoch", 20);
const WRITER: Field<16> = Field::new("writer", 24);
const SEQUENCE: Field<8> = Field::new("sequence", 40);
const PREDECESSOR: Field<32> = Field::new("predecessor", 48);
const INTENT: Field<16> = Field::new("intent", 80);
const FLAGS: Field<4> = Field::new("flags", 96);
const NAMES_HASH: Field<32> = Field::new("hash of the names", 100);
const SALT: Field<32> = Field::new("salt", 132);
const INDEX_COMMITMENT: Field<32> = Field::new("commitment of the index part", 164);
const VERSIONS_COMMITMENT: Field<32> = Field::new("commitment of the versions part", 196);
const NAMES_BYTES: Field<4> = Field::new("length of the names", 228);
const INDEX_BYTES: Field<4> = Field::new("length of the index part", 232);
const VERSIONS_BYTES: Field<4> = Field::new("length of the versions part", 236);
const CHECKSUM: Field<8> = Field::new("checksum", 240);

/// The fields in their order, as FORMAT.md has them.
pub(crate) const SEGMENT_HEADER_FIELDS: [FieldPlace; 20] = [
    MAGIC.place(),
    VERSION.place(),
    CIPHER.place(),
    KEY_WRAP.place(),
    REQUIRED.place(),
    OPTIONAL.place(),
    EPOCH.place(),
    WRITER.place(),
    SEQUENCE.place(),
    PREDECESSOR.place(),
    INTENT.place(),
    FLAGS.place(),
    NAMES_HASH.place(),
    SALT.place(),
    INDEX_COMMITMENT.place(),
    VERSIONS_COMMITMENT.place(),
    NAMES_BYTES.place(),
    INDEX_BYTES.place(),
    VERSIONS_BYTES.place(),
    CHECKSUM.place(),
];
const _: () = assert!(tiles(&SEGMENT_HEADER_FIELDS, SEGMENT_HEADER_BYTES));

/// Length of what the parts' keys are made from: everything before the commitments.
pub(super) const BOUND_BYTES: usize = INDEX_COMMITMENT.place().offset;
/// Where the checksum begins.
const CHECKSUM_OFFSET: usize = CHECKSUM.place().offset;
const MAGIC_VALUE: [u8; 8] = *b"VRSNSEGM";
const VERSION_VALUE: u16 = 1;
/// Required feature bits that this version knows: none.
const REQUIRED_KNOWN: u32 = 0;

fn checksum(header: &[u8; SEGMENT_HEADER_BYTES]) -> [u8; 8] {
    let (covered, _) = header.split_at(CHECKSUM_OFFSET);
    xxh3_64(covered).to_le_bytes()
}

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
    pub(super) fn bound(&self) -> [u8; BOUND_BYTES] {
        let mut out = [0; BOUND_BYTES];
        MAGIC.put(&mut out, MAGIC_VALUE);
        VERSION.put(&mut out, VERSION_VALUE.to_le_bytes());
        CIPHER.put(&mut out, [self.cipher as u8]);
        KEY_WRAP.put(&mut out, [self.cipher.key_wrap() as u8]);
        REQUIRED.put(&mut out, REQUIRED_KNOWN.to_le_bytes());
        OPTIONAL.put(&mut out, self.optional_features.to_le_bytes());
        EPOCH.put(&mut out, self.epoch.number().to_le_bytes());
        WRITER.put(&mut out, *self.writer.as_bytes());
        SEQUENCE.put(&mut out, self.sequence.0.to_le_bytes());
        PREDECESSOR.put(&mut out, *self.predecessor.as_bytes());
        INTENT.put(&mut out, *self.intent.as_bytes());
        FLAGS.put(&mut out, self.flags.bits().to_le_bytes());
        NAMES_HASH.put(&mut out, *self.names_hash.as_bytes());
        SALT.put(&mut out, self.salt);
        out
    }

    pub(super) fn encode(&self, tail: &Tail) -> [u8; SEGMENT_HEADER_BYTES] {
        let mut out = [0; SEGMENT_HEADER_BYTES];
        let (bound, _) = out.split_at_mut(BOUND_BYTES);
        bound.copy_from_slice(&self.bound());
        INDEX_COMMITMENT.put(&mut out, tail.index_commitment);
        VERSIONS_COMMITMENT.put(&mut out, tail.versions_commitment);
        NAMES_BYTES.put(&mut out, tail.names_bytes.to_le_bytes());
        INDEX_BYTES.put(&mut out, tail.index_bytes.to_le_bytes());
        VERSIONS_BYTES.put(&mut out, tail.versions_bytes.to_le_bytes());
        let checksum = checksum(&out);
        CHECKSUM.put(&mut out, checksum);
        out
    }

    /// Reads the header at the front of `bytes`.
    pub(super) fn decode(bytes: &[u8]) -> Result<(Self, Tail)> {
        let raw: &[u8; SEGMENT_HEADER_BYTES] = bytes.first_chunk().ok_or_else(|| {
            Error::damage(format!(
                "header of a segment: {SEGMENT_HEADER_BYTES} bytes expected, {} found",
                bytes.len()
            ))
        })?;
        let magic = MAGIC.get(raw);
        if magic != MAGIC_VALUE {
            return Err(Error::damage(format!("no segment: it begins with {}", magic.escape_ascii())));
        }
        // Magic, version, and the checksum's place are the same in every version: so a flipped bit is never taken for a newer format.
        if CHECKSUM.get(raw) != checksum(raw) {
            return Err(Error::damage("header of a segment: the checksum does not fit"));
        }
        let version = u16::from_le_bytes(VERSION.get(raw));
        if version != VERSION_VALUE {
            return Err(newer(format!("format version {version} of a segment")));
        }
        let required = u32::from_le_bytes(REQUIRED.get(raw));
        if required & !REQUIRED_KNOWN != 0 {
            return Err(newer(format!("required features {required:#x} of a segment")));
        }
        let [cipher] = CIPHER.get(raw);
        let [wrap] = KEY_WRAP.get(raw);
        let cipher = Cipher::from_number(cipher)?;
        if KeyWrap::from_number(wrap)? != cipher.key_wrap() {
            return Err(Error::damage("header of a segment: cipher and key wrap do not go together"));
        }
        let epoch = Epoch::new(u32::from_le_bytes(EPOCH.get(raw)));
        let sequence = Sequence(u64::from_le_bytes(SEQUENCE.get(raw)));
        let predecessor = ObjectHash::from_bytes(PREDECESSOR.get(raw));
        if sequence.0 == 0 || (sequence.0 == 1) != (*predecessor.as_bytes() == [0; 32]) {
            return Err(Error::damage("header of a segment: sequence and predecessor do not go together"));
        }
        let header = Self {
            cipher,
            optional_features: u32::from_le_bytes(OPTIONAL.get(raw)),
            epoch: epoch.ok_or_else(|| Error::damage("header of a segment: epoch 0 is none"))?,
            writer: WriterId::from_bytes(WRITER.get(raw)),
            sequence,
            predecessor,
            intent: IntentId::from_bytes(INTENT.get(raw)),
            flags: PieceFlags::from_bits(u32::from_le_bytes(FLAGS.get(raw)))?,
            names_hash: ObjectHash::from_bytes(NAMES_HASH.get(raw)),
            salt: SALT.get(raw),
        };
        let tail = Tail {
            index_commitment: INDEX_COMMITMENT.get(raw),
            versions_commitment: VERSIONS_COMMITMENT.get(raw),
            names_bytes: u32::from_le_bytes(NAMES_BYTES.get(raw)),
            index_bytes: u32::from_le_bytes(INDEX_BYTES.get(raw)),
            versions_bytes: u32::from_le_bytes(VERSIONS_BYTES.get(raw)),
        };
        Ok((header, tail))
    }
}
