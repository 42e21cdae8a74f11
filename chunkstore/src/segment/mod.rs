//! Segments: what a writer did, shipped to every target; its hash-chained log.
//!
//! A segment has a header, the names of packs and heads in clear, an *index* part (what the packs hold: for every client) and a
//! *versions* part (entries, lists, snapshots), the last two under different keys. Its name on a target is its writer, its place in
//! the writer's log, and the BLAKE3 hash of its bytes; its header names the hash of the segment before it. A *run* is the pieces of one
//! backup, from one that begins to one that commits: index parts count in any case, versions parts from the commit on.
//!
//! ```text
//! header 248 bytes | names | box(index part) | box(versions part)
//! ```
//!
//! Bytes: FORMAT.md, segments.

mod bounds;
pub(crate) mod fields;
pub(crate) mod fuzz;
mod header;
mod index_part;
mod lists;
mod log;
mod records;
mod versions_part;

#[cfg(test)]
pub(crate) mod tests;

use std::fmt;
use std::sync::Arc;

pub(crate) use bounds::{ENTRY_RECORD_BYTES_MAX, commit_record_bytes, entry_record_bytes};
#[cfg(test)]
pub(crate) use header::SEGMENT_HEADER_FIELDS;
pub use header::{Header, PieceFlags, SEGMENT_HEADER_BYTES};
pub use index_part::{Head, Names, PackContents, PackName};
pub use lists::{LIST_IDS_MAX, ListCutter, ListKey, ListNode};
pub use log::{LogEnd, Outbox};
pub use records::{CommitRecord, DIGEST_LANES, DigestRecord, EntryRecord, Record, RunRecord, SeenRecord};
pub use versions_part::{RecordReader, RecordWriter};

use crate::codec::{Decoder, put_varint};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{IntentId, ObjectHash, WriterId};
use crate::repository::layout::ObjectName;
use crate::seal::{BoxKind, BoxNumber, Cipher, Sealer, newer};
use crate::secret::{Epoch, Purpose, Secret, Secrets, fill_random};
use crate::target::ObjectKey;
use header::Tail;

/// The most bytes of a segment, and of each of its parts when unpacked: checked before memory is reserved.
pub const SEGMENT_BYTES_MAX: usize = 64 << 20;
/// A piece is made when its versions part has this many bytes: some 50,000 entries, small enough to hold in memory at both ends.
pub const PIECE_VERSIONS_BYTES: usize = 4 << 20;
/// A piece is made when its index part has this many bytes: some 110,000 chunks.
pub const PIECE_INDEX_BYTES: usize = 4 << 20;
/// zstd level of both parts: ids do not compress, the rest compresses well at any level.
const PART_LEVEL: i32 = 3;

/// A segment's place in its writer's log: from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sequence(pub u64);

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A segment's name: writer, place in its log, hash of its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SegmentName {
    /// Whose log it is in.
    pub writer: WriterId,
    /// Its place there.
    pub sequence: Sequence,
    /// BLAKE3 of its bytes.
    pub hash: ObjectHash,
}

impl SegmentName {
    /// Its key on a target.
    pub fn key(&self) -> ObjectKey {
        ObjectName::Segment { writer: self.writer, sequence: self.sequence.0, hash: self.hash }.key()
    }

    /// The name of the segment that has `key` on a target; `None` if the key is none of a segment.
    pub fn from_key(key: &ObjectKey) -> Option<Self> {
        match ObjectName::parse(key)? {
            ObjectName::Segment { writer, sequence, hash } if sequence > 0 => {
                Some(Self { writer, sequence: Sequence(sequence), hash })
            }
            _ => None,
        }
    }
}

impl fmt::Display for SegmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "segment {}/{}-{}", self.writer, self.sequence, self.hash)
    }
}

/// A whole segment as it stands on targets.
#[derive(Clone, PartialEq, Eq)]
pub struct SegmentObject {
    /// Its name.
    pub name: SegmentName,
    /// Its bytes.
    pub bytes: Arc<Vec<u8>>,
}

impl fmt::Debug for SegmentObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SegmentObject({}, {} bytes)", self.name, self.bytes.len())
    }
}

/// The keys of both parts: made once, used for every segment.
#[derive(Clone, Debug)]
pub struct SegmentKeys {
    index: Secret,
    secrets: Secrets,
}

impl SegmentKeys {
    /// The keys that come from `secrets`.
    pub fn new(secrets: &Secrets) -> Self {
        Self { index: secrets.of_master(Purpose::SegmentIndex), secrets: secrets.clone() }
    }

    fn index(&self, header: &Header) -> Sealer {
        Sealer::new(header.cipher, &self.index, &header.bound())
    }

    fn versions(&self, header: &Header) -> Result<Sealer> {
        let secret = self.secrets.of_epoch(header.epoch, Purpose::SegmentVersions)?;
        Ok(Sealer::new(header.cipher, &secret, &header.bound()))
    }
}

/// What a new segment says, besides the contents of its parts.
#[derive(Clone, Debug)]
pub struct NewSegment {
    /// How the parts are sealed.
    pub cipher: Cipher,
    /// The epoch of the versions part's key.
    pub epoch: Epoch,
    /// Whose log.
    pub writer: WriterId,
    /// Its place there.
    pub sequence: Sequence,
    /// The segment before it; all zero for the first.
    pub predecessor: ObjectHash,
    /// The intent under which it is written.
    pub intent: IntentId,
    /// Its place in a run.
    pub flags: PieceFlags,
    /// 32 random bytes.
    pub salt: [u8; 32],
}

impl NewSegment {
    /// A fresh salt.
    ///
    /// # Errors
    /// Local, if the system has no randomness to give.
    pub fn fresh_salt() -> Result<[u8; 32]> {
        let mut salt = [0; 32];
        fill_random(&mut salt)?;
        Ok(salt)
    }

    /// The segment with these contents: packs, heads of other writers, and records as a [`RecordWriter`] gives them.
    ///
    /// # Errors
    /// Invalid argument if a part is beyond its limit, or there are neither packs nor records; not the same if the epoch's secret is missing.
    pub fn encode(
        &self,
        keys: &SegmentKeys,
        packs: &[PackContents],
        heads: &[Head],
        records: &[u8],
    ) -> Result<SegmentObject> {
        self.encode_with(keys, packs, heads, records, Packing::Zstd)
    }

    fn encode_with(
        &self,
        keys: &SegmentKeys,
        packs: &[PackContents],
        heads: &[Head],
        records: &[u8],
        packing: Packing,
    ) -> Result<SegmentObject> {
        if packs.is_empty() && records.is_empty() {
            return Err(Error::new(ErrorKind::InvalidArgument, "a segment that says nothing"));
        }
        let names = Names {
            packs: packs.iter().map(|p| PackName { name: p.name, stored_bytes: p.stored_bytes }).collect(),
            heads: heads.to_vec(),
        };
        let names = names.encode();
        let header = Header {
            cipher: self.cipher,
            optional_features: 0,
            epoch: self.epoch,
            writer: self.writer,
            sequence: self.sequence,
            predecessor: self.predecessor,
            intent: self.intent,
            flags: self.flags,
            names_hash: ObjectHash::of(&[&names]),
            salt: self.salt,
        };
        let (index_sealer, versions_sealer) = (keys.index(&header), keys.versions(&header)?);
        let (mut index, mut versions) = (Vec::new(), Vec::new());
        if !packs.is_empty() {
            seal_part(
                &index_sealer,
                BoxKind::SegmentIndex,
                &index_part::encode_index(packs),
                packing,
                &mut index,
            )?;
        }
        if !records.is_empty() {
            seal_part(&versions_sealer, BoxKind::SegmentVersions, records, packing, &mut versions)?;
        }
        let tail = Tail {
            index_commitment: *index_sealer.commitment(),
            versions_commitment: *versions_sealer.commitment(),
            names_bytes: part_length(&names)?,
            index_bytes: part_length(&index)?,
            versions_bytes: part_length(&versions)?,
        };
        let bytes = [&header.encode(&tail)[..], &names, &index, &versions].concat();
        if bytes.len() > SEGMENT_BYTES_MAX {
            return Err(too_long(bytes.len()));
        }
        let name =
            SegmentName { writer: self.writer, sequence: self.sequence, hash: ObjectHash::of(&[&bytes]) };
        Ok(SegmentObject { name, bytes: Arc::new(bytes) })
    }
}

fn too_long(length: usize) -> Error {
    Error::new(
        ErrorKind::InvalidArgument,
        format!("a segment of {length} bytes: {SEGMENT_BYTES_MAX} at most"),
    )
}

fn part_length(part: &[u8]) -> Result<u32> {
    u32::try_from(part.len()).map_err(|_| too_long(part.len()))
}

const CODEC_NONE: u8 = 1;
const CODEC_ZSTD: u8 = 2;

/// Whether parts are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Packing {
    /// As they are: for objects whose bytes must not depend on zstd's version.
    #[cfg(test)]
    Plain,
    /// With zstd, where that makes them smaller.
    Zstd,
}

/// Appends a part: codec, raw length and the compressed bytes, sealed as one box.
fn seal_part(sealer: &Sealer, kind: BoxKind, raw: &[u8], packing: Packing, out: &mut Vec<u8>) -> Result<()> {
    if raw.len() > SEGMENT_BYTES_MAX {
        return Err(too_long(raw.len()));
    }
    let compressed = zstd::bulk::compress(raw, PART_LEVEL).map_err(|error| {
        Error::new(ErrorKind::Local, format!("a segment could not be compressed: {error}"))
    })?;
    let mut front = Vec::with_capacity(12);
    let body = if packing == Packing::Zstd && compressed.len() < raw.len() {
        front.push(CODEC_ZSTD);
        compressed.as_slice()
    } else {
        front.push(CODEC_NONE);
        raw
    };
    put_varint(&mut front, raw.len() as u64);
    sealer.seal(BoxNumber(0), kind, &[&front, body], out);
    Ok(())
}

fn open_part(sealer: &Sealer, kind: BoxKind, stored: &[u8], what: &str) -> Result<Vec<u8>> {
    let opened = sealer.open(BoxNumber(0), kind, stored)?;
    let mut from = Decoder::new(&opened);
    let codec = from.u8("codec of a part")?;
    let raw_bytes = from.varint_usize("length of a part")?;
    if raw_bytes == 0 || raw_bytes > SEGMENT_BYTES_MAX {
        return Err(Error::damage(format!("{what}: a length of {raw_bytes} bytes")));
    }
    let raw = match codec {
        CODEC_NONE => from.rest().to_vec(),
        CODEC_ZSTD => zstd::bulk::decompress(from.rest(), raw_bytes)
            .map_err(|error| Error::damage(format!("{what} does not decompress: {error}")))?,
        0 => return Err(Error::damage(format!("{what}: codec 0 is none"))),
        _ => return Err(newer(format!("codec {codec} of {what}"))),
    };
    if raw.len() != raw_bytes {
        return Err(Error::damage(format!("{what}: {raw_bytes} bytes expected, {} found", raw.len())));
    }
    Ok(raw)
}

/// A segment whose hash, header and lengths are right; its parts are opened on demand.
#[derive(Clone, Debug)]
pub struct Segment {
    /// Its name.
    pub name: SegmentName,
    /// Its header.
    pub header: Header,
    /// What it says in clear.
    pub names: Names,
    bytes: Arc<Vec<u8>>,
    tail: Tail,
}

impl Segment {
    /// The segment in `object`: its bytes must hash to its name, its header must say the same as its name.
    ///
    /// # Errors
    /// Damage, naming the segment; newer format if this version cannot read it.
    pub fn open(object: &SegmentObject) -> Result<Self> {
        Self::open_inner(object).map_err(|error| error.at(object.name))
    }

    fn open_inner(object: &SegmentObject) -> Result<Self> {
        let bytes = &object.bytes;
        if bytes.len() > SEGMENT_BYTES_MAX {
            return Err(Error::damage(format!(
                "{} bytes: a segment has {SEGMENT_BYTES_MAX} at most",
                bytes.len()
            )));
        }
        let found = ObjectHash::of(&[bytes]);
        if found != object.name.hash {
            return Err(Error::damage(format!("its bytes ({}) have the hash {found}", bytes.len())));
        }
        let segment = Self::parse(bytes)?;
        if segment.name != object.name {
            return Err(Error::damage(format!("its header says that it is {}", segment.name)));
        }
        Ok(segment)
    }

    /// The segment with these bytes, named by themselves: for tools, and for reading what lies under a wrong name.
    ///
    /// # Errors
    /// As [`Segment::open`].
    pub fn parse(bytes: &Arc<Vec<u8>>) -> Result<Self> {
        let (header, tail) = Header::decode(bytes)?;
        let lengths = [tail.names_bytes, tail.index_bytes, tail.versions_bytes];
        let expected =
            lengths.iter().fold(SEGMENT_HEADER_BYTES as u64, |sum, length| sum + u64::from(*length));
        if bytes.len() as u64 != expected {
            return Err(Error::damage(format!("{expected} bytes expected, {} found", bytes.len())));
        }
        // Without a sealed part anybody could have made it, in any writer's name.
        if tail.index_bytes == 0 && tail.versions_bytes == 0 {
            return Err(Error::damage("a segment with neither part"));
        }
        let name =
            SegmentName { writer: header.writer, sequence: header.sequence, hash: ObjectHash::of(&[bytes]) };
        let mut segment = Self { name, header, names: Names::default(), bytes: Arc::clone(bytes), tail };
        let names = segment.part(0)?;
        if ObjectHash::of(&[names]) != segment.header.names_hash {
            return Err(Error::damage("the names are not those that the header was made for"));
        }
        segment.names = Names::decode(names)?;
        Ok(segment)
    }

    fn part(&self, index: usize) -> Result<&[u8]> {
        let lengths = [self.tail.names_bytes, self.tail.index_bytes, self.tail.versions_bytes];
        let mut from = Decoder::new(&self.bytes);
        from.bytes(SEGMENT_HEADER_BYTES, "header of a segment")?;
        for (place, length) in lengths.into_iter().enumerate() {
            let length = usize::try_from(length).map_err(|_| Error::damage("length of a part: too large"))?;
            let part = from.bytes(length, "part of a segment")?;
            if place == index {
                return Ok(part);
            }
        }
        Err(Error::damage("a segment has three parts"))
    }

    /// The names as they are written.
    #[cfg(test)]
    pub(crate) fn names_part(&self) -> &[u8] {
        self.part(0).unwrap()
    }

    /// What both parts open to, empty ones left empty: for annotated dumps.
    #[cfg(test)]
    pub(crate) fn plaintexts(&self, keys: &SegmentKeys) -> [Vec<u8>; 2] {
        let open = |sealer: Sealer, kind, index| match self.part(index).unwrap() {
            [] => Vec::new(),
            stored => sealer.open(BoxNumber(0), kind, stored).unwrap(),
        };
        [
            open(keys.index(&self.header), BoxKind::SegmentIndex, 1),
            open(keys.versions(&self.header).unwrap(), BoxKind::SegmentVersions, 2),
        ]
    }

    /// The whole object.
    pub fn object(&self) -> SegmentObject {
        SegmentObject { name: self.name, bytes: Arc::clone(&self.bytes) }
    }

    fn wrong_key(&self, part: &str) -> Error {
        Error::damage(format!(
            "{}: {part} was sealed under another key: damage, or a segment of another repository",
            self.name
        ))
    }

    /// The packs that the index part describes.
    ///
    /// # Errors
    /// Damage, naming the segment; newer format if this version cannot read it.
    pub fn packs(&self, keys: &SegmentKeys) -> Result<Vec<PackContents>> {
        let stored = self.part(1)?;
        if stored.is_empty() {
            if !self.names.packs.is_empty() {
                return Err(Error::damage(format!("{}: packs are named, none described", self.name)));
            }
            return Ok(Vec::new());
        }
        let sealer = keys.index(&self.header);
        if *sealer.commitment() != self.tail.index_commitment {
            return Err(self.wrong_key("its index part"));
        }
        let at = |error: Error| error.at(self.name);
        let raw = open_part(&sealer, BoxKind::SegmentIndex, stored, "index part").map_err(at)?;
        index_part::decode_index(&raw, &self.names).map_err(at)
    }

    /// The plaintext of the versions part, to be read by a [`RecordReader`]; empty if there is none.
    ///
    /// # Errors
    /// Damage, naming the segment; not the same if the epoch's secret is missing; newer format if this version cannot read it.
    pub fn records(&self, keys: &SegmentKeys) -> Result<Vec<u8>> {
        let stored = self.part(2)?;
        if stored.is_empty() {
            return Ok(Vec::new());
        }
        let at = |error: Error| error.at(self.name);
        let sealer = keys.versions(&self.header).map_err(at)?;
        if *sealer.commitment() != self.tail.versions_commitment {
            return Err(self.wrong_key("its versions part"));
        }
        open_part(&sealer, BoxKind::SegmentVersions, stored, "versions part").map_err(at)
    }
}
