//! Segments: what a writer did, shipped to every target; its hash-chained log.

use std::fmt;
use std::sync::Arc;

use crate::id::{ObjectHash, WriterId};
use crate::pack::Toc;
use crate::repository::layout::ObjectName;
use crate::target::ObjectKey;

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

/// A pack that a segment describes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackContents {
    /// Its name.
    pub name: ObjectHash,
    /// Its length on a target, in bytes.
    pub stored_bytes: u64,
    /// What it holds.
    pub toc: Toc,
}
