//! The records of a versions part: what a run found.
//!
//! Each is a tag (kind, and whether one that does not know it must refuse), a length, a body. Kinds and bodies: FORMAT.md, records.

use crate::codec::{Decoder, put_slice, put_varint};
use crate::entry_key::EntryKey;
use crate::error::{Error, Result};
use crate::id::{SnapshotId, TimelineId};
use crate::metadata::{Metadata, Timestamp};
use crate::version::{Contents, FileOrigin, Marks, SnapshotNumber, SnapshotStats};

use super::fields::{put_time, take_time};
use super::index_part::take_count;
use super::lists::ListNode;

/// Numbers of u16 lanes in the digest of a state.
pub const DIGEST_LANES: usize = 1024;

/// What a run says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// A run begins: always the first record of its first piece.
    Run(RunRecord),
    /// An entry is new or changed.
    Entry(Box<EntryRecord>),
    /// An entry is gone.
    Gone(EntryKey),
    /// An entry is as before, but for what change detection compares.
    Seen(SeenRecord),
    /// A list of chunk ids or of lists.
    List(ListNode),
    /// The run is whole: always the last record of its last piece.
    Commit(Box<CommitRecord>),
}

/// A run begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunRecord {
    /// The id of the snapshot that it makes.
    pub snapshot: SnapshotId,
    /// The timeline that belongs to host and roots. The snapshot is in that of its parent, which is another after a fork.
    pub timeline: TimelineId,
    /// Its place in its timeline: one more than its parent's.
    pub number: SnapshotNumber,
    /// The snapshot that it builds on.
    pub parent: Option<SnapshotId>,
    /// When it began.
    pub time: Timestamp,
    /// The host's name.
    pub host: Vec<u8>,
    /// The roots as absolute paths, sorted.
    pub roots: Vec<Vec<u8>>,
}

/// An entry is new or changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryRecord {
    /// Its place.
    pub key: EntryKey,
    /// Which File it is.
    pub file: FileOrigin,
    /// Everything but the contents.
    pub metadata: Metadata,
    /// The contents.
    pub contents: Contents,
    /// How the Version came to be.
    pub marks: Marks,
}

/// An entry is as before, but for what change detection compares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenRecord {
    /// Its place.
    pub key: EntryKey,
    /// When the inode changed last.
    pub ctime: Timestamp,
    /// The inode.
    pub inode: u64,
    /// The file system.
    pub device: u64,
    /// The marks from now on.
    pub marks: Marks,
}

/// The digest of the state after a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DigestRecord {
    /// That of the parent: nothing changed.
    SameAsParent,
    /// Its lanes.
    Lanes(Box<[u16; DIGEST_LANES]>),
}

/// A run is whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitRecord {
    /// When it ended.
    pub end: Timestamp,
    /// Who ran it.
    pub user: Vec<u8>,
    /// Version of the program.
    pub program: Vec<u8>,
    /// Tags.
    pub tags: Vec<Vec<u8>>,
    /// Exclusion rules in force, as given.
    pub excludes: Vec<Vec<u8>>,
    /// Whether something could not be read.
    pub partial: bool,
    /// Counts and sums.
    pub stats: SnapshotStats,
    /// How many entry, gone and seen records the run has: one lost on the way is noticed.
    pub record_count: u64,
    /// The digest of the state.
    pub digest: DigestRecord,
}

fn put_texts(out: &mut Vec<u8>, texts: &[Vec<u8>]) {
    put_varint(out, texts.len() as u64);
    for text in texts {
        put_slice(out, text);
    }
}

fn take_texts(from: &mut Decoder<'_>, what: &str) -> Result<Vec<Vec<u8>>> {
    let count = take_count(from, 1, what)?;
    (0..count).map(|_| Ok(from.slice(what)?.to_vec())).collect()
}

impl RunRecord {
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.snapshot.as_bytes());
        out.extend_from_slice(self.timeline.as_bytes());
        put_varint(out, u64::from(self.number.0));
        match &self.parent {
            Some(parent) => {
                out.push(1);
                out.extend_from_slice(parent.as_bytes());
            }
            None => out.push(0),
        }
        put_time(out, self.time);
        put_slice(out, &self.host);
        put_texts(out, &self.roots);
    }

    pub(crate) fn take(from: &mut Decoder<'_>) -> Result<Self> {
        let snapshot = SnapshotId::from_bytes(from.array("snapshot")?);
        let timeline = TimelineId::from_bytes(from.array("timeline")?);
        let number = SnapshotNumber(from.varint_u32("number of a snapshot")?);
        let parent = match take_bool(from, "parent")? {
            true => Some(SnapshotId::from_bytes(from.array("parent")?)),
            false => None,
        };
        if number.0 == 0 || number.0 == u32::MAX || (parent.is_none() && number.0 != 1) {
            return Err(Error::damage(format!("number of a snapshot: {} cannot be", number.0)));
        }
        Ok(Self {
            snapshot,
            timeline,
            number,
            parent,
            time: take_time(from, "time of a snapshot")?,
            host: from.slice("host")?.to_vec(),
            roots: take_texts(from, "roots")?,
        })
    }
}

fn take_bool(from: &mut Decoder<'_>, field: &str) -> Result<bool> {
    match from.u8(field)? {
        0 => Ok(false),
        1 => Ok(true),
        other => Err(Error::damage(format!("{field}: 0 or 1 expected, {other} found"))),
    }
}

impl CommitRecord {
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        put_time(out, self.end);
        put_slice(out, &self.user);
        put_slice(out, &self.program);
        put_texts(out, &self.tags);
        put_texts(out, &self.excludes);
        out.push(u8::from(self.partial));
        let figures = figures(&self.stats);
        put_varint(out, figures.len() as u64);
        for figure in figures {
            put_varint(out, figure);
        }
        put_varint(out, self.record_count);
        match &self.digest {
            DigestRecord::SameAsParent => out.push(1),
            DigestRecord::Lanes(lanes) => {
                out.push(2);
                for lane in lanes.iter() {
                    out.extend_from_slice(&lane.to_le_bytes());
                }
            }
        }
    }

    pub(crate) fn take(from: &mut Decoder<'_>) -> Result<Self> {
        let end = take_time(from, "end of a snapshot")?;
        let user = from.slice("user")?.to_vec();
        let program = from.slice("program")?.to_vec();
        let tags = take_texts(from, "tags")?;
        let excludes = take_texts(from, "exclusion rules")?;
        let partial = take_bool(from, "partial")?;
        let count = take_count(from, 1, "figures of a snapshot")?;
        let mut found = Vec::with_capacity(count);
        for _ in 0..count {
            found.push(from.varint("figure of a snapshot")?);
        }
        let stats = stats(&found);
        let record_count = from.varint("count of records")?;
        let digest = match from.u8("digest")? {
            1 => DigestRecord::SameAsParent,
            2 => {
                let mut lanes = Box::new([0; DIGEST_LANES]);
                for lane in lanes.iter_mut() {
                    *lane = from.u16("digest")?;
                }
                DigestRecord::Lanes(lanes)
            }
            other => return Err(Error::damage(format!("digest: 1 or 2 expected, {other} found"))),
        };
        Ok(Self { end, user, program, tags, excludes, partial, stats, record_count, digest })
    }
}

/// The figures in the order of the format; later versions add at the end.
fn figures(stats: &SnapshotStats) -> [u64; 15] {
    [
        stats.files_new,
        stats.files_changed,
        stats.files_unmodified,
        stats.dirs_new,
        stats.dirs_changed,
        stats.dirs_unmodified,
        stats.others,
        stats.entries_gone,
        stats.entries_failed,
        stats.chunks_new,
        stats.bytes_new,
        stats.bytes_stored,
        stats.files_total,
        stats.entries_total,
        stats.bytes_total,
    ]
}

/// The reverse of [`figures`]: what is missing is zero, what is beyond is a later version's.
fn stats(figures: &[u64]) -> SnapshotStats {
    let mut rest = figures.iter().copied();
    let mut next = || rest.next().unwrap_or_default();
    SnapshotStats {
        files_new: next(),
        files_changed: next(),
        files_unmodified: next(),
        dirs_new: next(),
        dirs_changed: next(),
        dirs_unmodified: next(),
        others: next(),
        entries_gone: next(),
        entries_failed: next(),
        chunks_new: next(),
        bytes_new: next(),
        bytes_stored: next(),
        files_total: next(),
        entries_total: next(),
        bytes_total: next(),
    }
}
