//! The values of the catalog's rows. The layout is local: when it changes, the catalog is made again (FORMAT.md, the catalog's keyspaces).

use crate::codec::{Decoder, put_slice, put_varint};
use crate::error::{Error, Result};
use crate::id::{ChunkId, FileId, ListId, ObjectHash, TimelineId, WriterId};
use crate::metadata::{Kind, Metadata, Timestamp};
use crate::segment::fields::{put_time, take_mode, take_time};
use crate::segment::{CommitRecord, RunRecord, Sequence};
use crate::version::{Contents, INLINE_CHUNKS_MAX, Marks, SnapshotNumber};

use super::store::TimelineNumber;

/// Which File a Version is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileRef {
    /// The one born here, at this entry, in this snapshot: its id is derived when somebody asks.
    BornHere(SnapshotNumber),
    /// One that came from another entry.
    Explicit(FileId),
}

impl FileRef {
    fn put(self, out: &mut Vec<u8>) {
        match self {
            Self::BornHere(number) => {
                out.push(1);
                put_varint(out, u64::from(number.0));
            }
            Self::Explicit(id) => {
                out.push(2);
                out.extend_from_slice(id.as_bytes());
            }
        }
    }

    fn take(from: &mut Decoder<'_>) -> Result<Self> {
        match from.u8("File")? {
            1 => Ok(Self::BornHere(SnapshotNumber(from.varint_u32("File's birth")?))),
            2 => Ok(Self::Explicit(FileId::from_bytes(from.array("File")?))),
            other => Err(Error::damage(format!("File: 1 or 2 expected, {other} found"))),
        }
    }
}

/// Appends contents.
pub(super) fn put_contents(out: &mut Vec<u8>, contents: &Contents) {
    match contents {
        Contents::None => out.push(1),
        Contents::Inline(ids) => {
            out.push(2);
            put_varint(out, ids.len() as u64);
            for id in ids {
                out.extend_from_slice(id.as_bytes());
            }
        }
        Contents::List { id, count } => {
            out.push(3);
            put_varint(out, *count);
            out.extend_from_slice(id.as_bytes());
        }
    }
}

fn take_contents(from: &mut Decoder<'_>) -> Result<Contents> {
    match from.u8("contents")? {
        1 => Ok(Contents::None),
        2 => {
            let count = from.varint_usize("count of chunks")?;
            if count == 0 || count > INLINE_CHUNKS_MAX {
                return Err(Error::damage(format!("contents: {count} chunks inline")));
            }
            let mut ids = Vec::with_capacity(count);
            for _ in 0..count {
                ids.push(ChunkId::from_bytes(from.array("chunk id")?));
            }
            Ok(Contents::Inline(ids))
        }
        3 => {
            let count = from.varint("count of chunks")?;
            Ok(Contents::List { id: ListId::from_bytes(from.array("list")?), count })
        }
        other => Err(Error::damage(format!("contents: 1 to 3 expected, {other} found"))),
    }
}

/// A row of `history`: a Version, or that the entry is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum HistoryRow {
    Gone,
    Version(Box<VersionRow>),
}

/// A Version without what its place and derived ids say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct VersionRow {
    pub(super) file: FileRef,
    pub(super) marks: Marks,
    pub(super) contents: Contents,
    pub(super) metadata: Metadata,
}

impl HistoryRow {
    pub(super) fn encode(&self) -> Vec<u8> {
        match self {
            Self::Gone => vec![1],
            Self::Version(row) => row.encode(),
        }
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self> {
        let mut from = Decoder::new(bytes);
        let row = match from.u8("kind of a row")? {
            1 => Self::Gone,
            2 => Self::Version(Box::new(VersionRow {
                file: FileRef::take(&mut from)?,
                marks: Marks::from_bits(from.u8("marks")?)?,
                contents: take_contents(&mut from)?,
                metadata: Metadata::decode(&mut from)?,
            })),
            other => return Err(Error::damage(format!("kind of a row: 1 or 2 expected, {other} found"))),
        };
        from.finish("a row")?;
        Ok(row)
    }
}

impl VersionRow {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(160);
        out.push(2);
        self.file.put(&mut out);
        out.push(self.marks.0);
        put_contents(&mut out, &self.contents);
        self.metadata.encode(&mut out);
        out
    }
}

/// A row of `current`: what change detection and listing need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CurrentRow {
    pub(super) birth: SnapshotNumber,
    pub(super) file: FileRef,
    pub(super) marks: Marks,
    pub(super) kind: Kind,
    pub(super) mode: u16,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) size: u64,
    pub(super) links: u64,
    pub(super) mtime: Timestamp,
    pub(super) ctime: Timestamp,
    pub(super) inode: u64,
    pub(super) device: u64,
}

impl CurrentRow {
    pub(super) fn new(birth: SnapshotNumber, file: FileRef, marks: Marks, metadata: &Metadata) -> Self {
        Self {
            birth,
            file,
            marks,
            kind: metadata.kind,
            mode: metadata.mode,
            uid: metadata.uid,
            gid: metadata.gid,
            size: metadata.size,
            links: metadata.links,
            mtime: metadata.mtime,
            ctime: metadata.ctime,
            inode: metadata.inode,
            device: metadata.device,
        }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64);
        put_varint(&mut out, u64::from(self.birth.0));
        self.file.put(&mut out);
        out.push(self.marks.0);
        out.push(self.kind as u8);
        put_varint(&mut out, u64::from(self.mode));
        put_varint(&mut out, u64::from(self.uid));
        put_varint(&mut out, u64::from(self.gid));
        put_varint(&mut out, self.size);
        put_varint(&mut out, self.links);
        put_time(&mut out, self.mtime);
        put_time(&mut out, self.ctime);
        put_varint(&mut out, self.inode);
        put_varint(&mut out, self.device);
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self> {
        let mut from = Decoder::new(bytes);
        let row = Self {
            birth: SnapshotNumber(from.varint_u32("birth of a Version")?),
            file: FileRef::take(&mut from)?,
            marks: Marks::from_bits(from.u8("marks")?)?,
            kind: Kind::from_byte(from.u8("kind")?).ok_or_else(|| Error::damage("kind"))?,
            mode: take_mode(&mut from)?,
            uid: from.varint_u32("owner")?,
            gid: from.varint_u32("group")?,
            size: from.varint("size")?,
            links: from.varint("links")?,
            mtime: take_time(&mut from, "mtime")?,
            ctime: take_time(&mut from, "ctime")?,
            inode: from.varint("inode")?,
            device: from.varint("device")?,
        };
        from.finish("a row")?;
        Ok(row)
    }
}

/// A row of `timelines`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TimelineRow {
    pub(super) id: TimelineId,
    pub(super) forked_from: Option<(TimelineNumber, SnapshotNumber)>,
    pub(super) head: Option<SnapshotNumber>,
    pub(super) host: Vec<u8>,
    pub(super) roots: Vec<Vec<u8>>,
}

impl TimelineRow {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = self.id.as_bytes().to_vec();
        // Numbers of timelines are written one higher: zero stands for none.
        let (base, number) =
            self.forked_from.map_or((0, 0), |(base, number)| (u64::from(base.0) + 1, number.0));
        put_varint(&mut out, base);
        put_varint(&mut out, u64::from(number));
        put_varint(&mut out, u64::from(self.head.map_or(0, |number| number.0)));
        put_slice(&mut out, &self.host);
        put_varint(&mut out, self.roots.len() as u64);
        for root in &self.roots {
            put_slice(&mut out, root);
        }
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self> {
        let mut from = Decoder::new(bytes);
        let id = TimelineId::from_bytes(from.array("timeline")?);
        let base = from.varint("base of a timeline")?;
        let number = SnapshotNumber(from.varint_u32("fork of a timeline")?);
        let forked_from = match base.checked_sub(1) {
            None => None,
            Some(base) => {
                let base = u32::try_from(base).map_err(|_| Error::damage("base of a timeline: too large"))?;
                Some((TimelineNumber(base), number))
            }
        };
        let head = Some(from.varint_u32("head of a timeline")?).filter(|n| *n > 0).map(SnapshotNumber);
        let host = from.slice("host")?.to_vec();
        let count = from.varint_usize("roots")?;
        let mut roots = Vec::new();
        for _ in 0..count {
            roots.push(from.slice("root")?.to_vec());
        }
        from.finish("a row")?;
        Ok(Self { id, forked_from, head, host, roots })
    }
}

/// A row of `snapshots`: what its run said when it began and when it committed, and where that stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SnapshotRow {
    pub(super) writer: WriterId,
    pub(super) commit_sequence: Sequence,
    pub(super) commit_hash: ObjectHash,
    pub(super) digest: [u8; 32],
    pub(super) run: RunRecord,
    /// Its digest's lanes are not kept here.
    pub(super) commit: CommitRecord,
}

impl SnapshotRow {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = self.writer.as_bytes().to_vec();
        put_varint(&mut out, self.commit_sequence.0);
        out.extend_from_slice(self.commit_hash.as_bytes());
        out.extend_from_slice(&self.digest);
        self.run.put(&mut out);
        self.commit.put(&mut out);
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self> {
        let mut from = Decoder::new(bytes);
        let row = Self {
            writer: WriterId::from_bytes(from.array("writer")?),
            commit_sequence: Sequence(from.varint("sequence")?),
            commit_hash: ObjectHash::from_bytes(from.array("segment")?),
            digest: from.array("digest")?,
            run: RunRecord::take(&mut from)?,
            commit: CommitRecord::take(&mut from)?,
        };
        from.finish("a row")?;
        Ok(row)
    }
}

/// A row of `packs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PackRow {
    pub(super) name: ObjectHash,
    /// Whether a segment describes it; else its own table of contents told what it holds, because its segment is lost.
    pub(super) is_logged: bool,
    pub(super) stored_bytes: u64,
    pub(super) frame_count: u32,
    pub(super) chunk_count: u64,
    pub(super) raw_bytes: u64,
}

impl PackRow {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = self.name.as_bytes().to_vec();
        out.push(u8::from(self.is_logged));
        put_varint(&mut out, self.stored_bytes);
        put_varint(&mut out, u64::from(self.frame_count));
        put_varint(&mut out, self.chunk_count);
        put_varint(&mut out, self.raw_bytes);
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self> {
        let mut from = Decoder::new(bytes);
        let row = Self {
            name: ObjectHash::from_bytes(from.array("pack")?),
            is_logged: from.u8("whether a pack is logged")? != 0,
            stored_bytes: from.varint("length of a pack")?,
            frame_count: from.varint_u32("count of frames")?,
            chunk_count: from.varint("count of chunks")?,
            raw_bytes: from.varint("bytes of chunks")?,
        };
        from.finish("a row")?;
        Ok(row)
    }
}

/// A row of `frames`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameRow {
    pub(super) offset: u64,
    pub(super) stored_bytes: u32,
    pub(super) raw_bytes: u32,
}

impl FrameRow {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(12);
        put_varint(&mut out, self.offset);
        put_varint(&mut out, u64::from(self.stored_bytes));
        put_varint(&mut out, u64::from(self.raw_bytes));
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self> {
        let mut from = Decoder::new(bytes);
        let row = Self {
            offset: from.varint("offset of a frame")?,
            stored_bytes: from.varint_u32("length of a frame")?,
            raw_bytes: from.varint_u32("raw length of a frame")?,
        };
        from.finish("a row")?;
        Ok(row)
    }
}

/// A row of `chunks` or `elsewhere`: a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ChunkRow {
    pub(super) pack: u32,
    pub(super) frame: u32,
    pub(super) index: u32,
    pub(super) raw_offset: u32,
    pub(super) length: u32,
}

impl ChunkRow {
    /// Length of every row.
    pub(super) const BYTES: usize = 5 * size_of::<u32>();

    pub(super) fn encode(self) -> [u8; Self::BYTES] {
        let mut out = [0; Self::BYTES];
        let numbers = [self.pack, self.frame, self.index, self.raw_offset, self.length];
        for (to, number) in out.as_chunks_mut().0.iter_mut().zip(numbers) {
            *to = number.to_le_bytes();
        }
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self> {
        let (numbers, []) = bytes.as_chunks() else { return Err(Self::bad_length(bytes)) };
        let [pack, frame, index, raw_offset, length] = numbers else { return Err(Self::bad_length(bytes)) };
        Ok(Self {
            pack: u32::from_le_bytes(*pack),
            frame: u32::from_le_bytes(*frame),
            index: u32::from_le_bytes(*index),
            raw_offset: u32::from_le_bytes(*raw_offset),
            length: u32::from_le_bytes(*length),
        })
    }

    #[cold]
    fn bad_length(bytes: &[u8]) -> Error {
        Error::damage(format!("place of a chunk: {} bytes instead of {}", bytes.len(), Self::BYTES))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::any_metadata;
    use proptest::prelude::*;

    #[test]
    fn places_have_one_length() {
        let row = ChunkRow { pack: 1, frame: 2, index: u32::MAX, raw_offset: 4, length: 1 << 24 };
        let bytes = row.encode();
        assert_eq!(ChunkRow::decode(&bytes).unwrap(), row);
        for length in (0..ChunkRow::BYTES).chain(21..30) {
            let error = ChunkRow::decode(&vec![0; length]).unwrap_err();
            assert!(error.to_string().contains(&format!("{length} bytes")), "{error}");
        }
    }

    proptest! {
        #[test]
        fn versions_come_back(metadata in any_metadata(), birth in 1..9u32, file in any::<[u8; 16]>(), chunks in 0..65usize) {
            let contents = match chunks {
                0 => Contents::None,
                65.. => Contents::List { id: ListId::from_bytes([4; 32]), count: 99 },
                _ => Contents::Inline(vec![ChunkId::from_bytes([3; 32]); chunks]),
            };
            let file = if birth % 2 == 0 { FileRef::BornHere(SnapshotNumber(birth)) } else { FileRef::Explicit(FileId::from_bytes(file)) };
            let row = VersionRow { file, marks: Marks::RACY, contents, metadata };
            let bytes = row.encode();
            let current = CurrentRow::new(SnapshotNumber(birth), file, Marks::RACY, &row.metadata);
            prop_assert_eq!(CurrentRow::decode(&current.encode()).unwrap(), current);
            let row = HistoryRow::Version(Box::new(row));
            prop_assert_eq!(HistoryRow::decode(&bytes).unwrap(), row);
            for length in 0..bytes.len() {
                prop_assert!(HistoryRow::decode(&bytes[..length]).is_err());
            }
        }
    }
}
