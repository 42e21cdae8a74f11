//! Versions of files: what one backup found at one place, and the snapshots that they belong to.
//!
//! A *File* keeps its id when it is renamed; a *Version* is what it was from the snapshot that bore it until the next
//! Version at the same place. A *timeline* is one host's one set of roots; its snapshots are numbered from 1.

use crate::error::{Error, Result};
use crate::id::{ChunkId, FileId, ListId, SnapshotId, TimelineId, VersionId, WriterId};
use crate::metadata::{Metadata, Timestamp};

/// The most chunk ids that a Version holds itself; longer lists are cut into lists of ids that have ids of their own.
pub const INLINE_CHUNKS_MAX: usize = 64;

/// A snapshot's place in its timeline: from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SnapshotNumber(pub u32);

/// Where the bytes of a Version are: chunks, one after the other, that hold the bytes between the holes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Contents {
    /// No bytes: an empty file, or no file.
    #[default]
    None,
    /// At most [`INLINE_CHUNKS_MAX`] chunks.
    Inline(Vec<ChunkId>),
    /// More: a list of ids, or of lists.
    List {
        /// The list at the root.
        id: ListId,
        /// How many chunks there are in all.
        count: u64,
    },
}

/// What is to be known about how a Version came to be; bit flags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Marks(pub u8);

impl Marks {
    /// Nothing to be said.
    pub const NONE: Self = Self(0);
    /// The file changed while it was read: the contents may be of no one moment.
    pub const CHANGED_WHILE_READ: Self = Self(1);
    /// The timestamp lay in the scan's own tick: not trusted as unchanged next time.
    pub const RACY: Self = Self(2);
    /// Could not be read: the contents are those of the Version before.
    pub const NOT_READ: Self = Self(4);
    /// Every mark there is.
    pub const ALL: Self = Self(7);

    /// Whether all of `other` are set.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// These and `other`.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The marks with these bits.
    ///
    /// # Errors
    /// Damage if a bit is set that means nothing.
    pub fn from_bits(bits: u8) -> Result<Self> {
        if bits & !Self::ALL.0 != 0 {
            return Err(Error::damage(format!("marks of a Version: unknown bits in {bits:#04x}")));
        }
        Ok(Self(bits))
    }
}

/// Which File an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileOrigin {
    /// A File that was not here before: its id is derived.
    New,
    /// The File that the entry's previous Version was of.
    SameAsPredecessor,
    /// A File known from elsewhere: it was renamed to here.
    Explicit(FileId),
}

/// All that is kept of an entry from one snapshot to the next change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// Its id.
    pub id: VersionId,
    /// The File that it is a Version of.
    pub file: FileId,
    /// The snapshot that bore it.
    pub birth: SnapshotNumber,
    /// How it came to be.
    pub marks: Marks,
    /// Everything but the contents.
    pub metadata: Metadata,
    /// The contents.
    pub contents: Contents,
}

/// One host's one set of roots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeline {
    /// Its id.
    pub id: TimelineId,
    /// The host's name.
    pub host: Vec<u8>,
    /// The roots as absolute paths, sorted.
    pub roots: Vec<Vec<u8>>,
    /// The timeline it split from and the last snapshot they share, when two runs built on one snapshot.
    pub forked_from: Option<(TimelineId, SnapshotNumber)>,
    /// The newest snapshot; `None` before the first.
    pub head: Option<SnapshotNumber>,
}

/// Counts and sums of one backup.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SnapshotStats {
    /// Files that were not there before.
    pub files_new: u64,
    /// Files that changed.
    pub files_changed: u64,
    /// Files as before.
    pub files_unmodified: u64,
    /// Directories that were not there before.
    pub dirs_new: u64,
    /// Directories that changed.
    pub dirs_changed: u64,
    /// Directories as before.
    pub dirs_unmodified: u64,
    /// Other entries (links, devices, …) in all.
    pub others: u64,
    /// Entries that are gone.
    pub entries_gone: u64,
    /// Entries that could not be read or seen.
    pub entries_failed: u64,
    /// Chunks that were stored.
    pub chunks_new: u64,
    /// Their bytes.
    pub bytes_new: u64,
    /// Their bytes as stored in packs.
    pub bytes_stored: u64,
    /// Files in the snapshot.
    pub files_total: u64,
    /// Entries in the snapshot.
    pub entries_total: u64,
    /// Bytes of all files in the snapshot.
    pub bytes_total: u64,
}

/// One backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Its id.
    pub id: SnapshotId,
    /// The timeline it is in.
    pub timeline: TimelineId,
    /// Its place there.
    pub number: SnapshotNumber,
    /// The snapshot it builds on.
    pub parent: Option<SnapshotId>,
    /// Who wrote it.
    pub writer: WriterId,
    /// When it began.
    pub time: Timestamp,
    /// When it ended.
    pub end: Timestamp,
    /// The host's name.
    pub host: Vec<u8>,
    /// Who ran it.
    pub user: Vec<u8>,
    /// Version of the program that made it.
    pub program: Vec<u8>,
    /// The roots as absolute paths, sorted.
    pub roots: Vec<Vec<u8>>,
    /// Its tags.
    pub tags: Vec<Vec<u8>>,
    /// Exclusion rules in force, as given.
    pub excludes: Vec<Vec<u8>>,
    /// Whether something could not be read.
    pub partial: bool,
    /// Counts and sums.
    pub stats: SnapshotStats,
    /// Digest of the state: the hash of the LtHash's lanes.
    pub digest: [u8; 32],
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_marks_are_refused() {
        assert_eq!(Marks::from_bits(7).unwrap(), Marks::ALL);
        assert!(Marks::from_bits(8).is_err());
        assert!(Marks::RACY.with(Marks::NOT_READ).has(Marks::NOT_READ));
        assert!(!Marks::RACY.has(Marks::ALL));
    }
}
