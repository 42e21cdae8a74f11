//! The writers' logs, as far as this catalog has read them: one row a segment.

use std::collections::BTreeMap;

use crate::codec::{Decoder, put_varint};
use crate::error::Result;
use crate::id::{ObjectHash, WriterId};
use crate::segment::{Head, PieceFlags, Segment, SegmentName, Sequence};

use super::Catalog;
use super::store::{self, bad_row, local};

/// A segment that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentInfo {
    /// Its name.
    pub name: SegmentName,
    /// Its length on a target, in bytes.
    pub length: u64,
    /// The segment before it in its log.
    pub predecessor: ObjectHash,
    /// Its place in a run.
    pub flags: PieceFlags,
}

/// The newest segment of a writer that was read.
pub type WriterHead = Head;

impl SegmentInfo {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = vec![u8::from(self.flags.begins) | u8::from(self.flags.commits) << 1];
        put_varint(&mut out, self.length);
        out.extend_from_slice(self.predecessor.as_bytes());
        out
    }

    pub(super) fn decode(key: &[u8], value: &[u8]) -> Result<Self> {
        let mut from = Decoder::new(value);
        let flags = from.u8("flags of a segment")?;
        let length = from.varint("length of a segment")?;
        let predecessor = ObjectHash::from_bytes(from.array("predecessor")?);
        from.finish("a row")?;
        Ok(Self {
            name: SegmentName::from_row_key(key)?,
            length,
            predecessor,
            flags: PieceFlags { begins: flags & 1 != 0, commits: flags & 2 != 0 },
        })
    }
}

impl SegmentInfo {
    /// What is noted of a segment.
    pub(super) fn of(segment: &Segment) -> Self {
        Self {
            name: segment.name,
            length: segment.object().bytes.len() as u64,
            predecessor: segment.header.predecessor,
            flags: segment.header.flags,
        }
    }
}

impl SegmentName {
    /// The name in a row's key.
    pub(super) fn from_row_key(key: &[u8]) -> Result<Self> {
        let mut from = Decoder::new(key);
        let name = Self {
            writer: WriterId::from_bytes(from.array("writer")?),
            sequence: Sequence(u64::from_be_bytes(from.array("sequence")?)),
            hash: ObjectHash::from_bytes(from.array("hash")?),
        };
        from.finish("name of a segment")?;
        Ok(name)
    }
}

impl Catalog {
    pub(super) fn has_segment(&self, name: &SegmentName) -> Result<bool> {
        Ok(self.inner.spaces.writers.contains(store::segment(name))?)
    }

    /// Every segment that was read, by writer, then by place in its log.
    ///
    /// # Errors
    /// Local.
    pub fn segments(&self) -> Result<Vec<SegmentInfo>> {
        let rows = self.inner.spaces.writers.iter();
        rows.map(|row| {
            let (key, value) = row?;
            SegmentInfo::decode(&key, &value).map_err(local("writers"))
        })
        .collect()
    }

    pub(super) fn segment_before(&self, info: &SegmentInfo) -> Result<Option<SegmentInfo>> {
        let Some(sequence) = info.name.sequence.0.checked_sub(1).filter(|sequence| *sequence > 0) else {
            return Ok(None);
        };
        let name =
            SegmentName { writer: info.name.writer, sequence: Sequence(sequence), hash: info.predecessor };
        self.segment_info(&name)
    }

    pub(super) fn segment_info(&self, name: &SegmentName) -> Result<Option<SegmentInfo>> {
        let key = store::segment(name);
        match self.inner.spaces.writers.get(&key)? {
            Some(value) => SegmentInfo::decode(&key, &value).map(Some).map_err(local("writers")),
            None => Ok(None),
        }
    }

    /// The newest segment of each writer that was read.
    ///
    /// # Errors
    /// Local.
    pub fn heads(&self) -> Result<Vec<WriterHead>> {
        let mut heads: BTreeMap<WriterId, Head> = BTreeMap::new();
        // One jump for each writer: from the last row of its log to the first of the next.
        let mut rows = self.inner.spaces.writers.iter();
        while let Some(row) = rows.next() {
            let (key, _) = row?;
            let writer = key.first_chunk::<16>().ok_or_else(|| bad_row("writers", "its key is too short"))?;
            let writer = WriterId::from_bytes(*writer);
            if let Some(last) = self.inner.spaces.writers.prefix(store::segments_of(&writer)).next_back() {
                let (key, value) = last?;
                let name = SegmentInfo::decode(&key, &value).map_err(local("writers"))?.name;
                heads.insert(writer, Head { writer, sequence: name.sequence, hash: name.hash });
            }
            match crate::entry_key::after_prefix(writer.as_bytes()) {
                Some(next) => rows = self.inner.spaces.writers.range(next..),
                None => break,
            }
        }
        Ok(heads.into_values().collect())
    }
}
