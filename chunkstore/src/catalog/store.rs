//! The engine's keyspaces and how their keys are made. Numbers in keys are big-endian, so that they sort as numbers.

use std::path::Path;

use lsm::{Db, Keyspace, KeyspaceOptions};

use crate::entry_key::EntryKey;
use crate::error::{Error, Result};
use crate::id::{ChunkId, FileId, ObjectHash, SnapshotId, TimelineId, WriterId};
use crate::segment::SegmentName;
use crate::version::SnapshotNumber;

use super::row::ChunkRow;

/// The layout of keys and values. Another one is not converted: the catalog is made again from a target.
pub(super) const LAYOUT: u32 = 2;

/// Layouts in which `meta`, `targets` and `holdings` are as they are now: what no segment tells is taken over from a catalog of any of them.
pub(super) const LAYOUTS_TAKEN_OVER: [u32; 2] = [1, LAYOUT];

/// A timeline's number in this catalog.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct TimelineNumber(pub(super) u32);

/// A pack's number in this catalog.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct PackNumber(pub(super) u32);

/// Every keyspace; what is in each: FORMAT.md, the catalog's keyspaces.
#[derive(Clone, Debug)]
pub(super) struct Keyspaces {
    pub(super) meta: Keyspace,
    pub(super) chunks: Keyspace,
    pub(super) elsewhere: Keyspace,
    pub(super) packs: Keyspace,
    pub(super) frames: Keyspace,
    pub(super) current: Keyspace,
    pub(super) history: Keyspace,
    pub(super) changes: Keyspace,
    pub(super) lists: Keyspace,
    pub(super) files: Keyspace,
    pub(super) inodes: Keyspace,
    pub(super) timelines: Keyspace,
    pub(super) snapshots: Keyspace,
    pub(super) digests: Keyspace,
    pub(super) writers: Keyspace,
    pub(super) targets: Keyspace,
    pub(super) holdings: Keyspace,
}

impl Keyspaces {
    /// Opens them all. InvalidArgument for those of another layout, in which one of these names may be of another kind: `meta` tells which it is.
    pub(super) fn open(db: &Db) -> lsm::Result<Self> {
        let open = |name| open_sorted(db, name);
        Ok(Self {
            meta: open(META)?,
            chunks: db.keyspace("chunks", KeyspaceOptions::fixed(CHUNK_KEY_BYTES, ChunkRow::BYTES)?)?,
            elsewhere: open("elsewhere")?,
            packs: open("packs")?,
            frames: open("frames")?,
            current: open("current")?,
            history: open("history")?,
            changes: open("changes")?,
            lists: open("lists")?,
            files: open("files")?,
            inodes: open("inodes")?,
            timelines: open("timelines")?,
            snapshots: open("snapshots")?,
            digests: open("digests")?,
            writers: open("writers")?,
            targets: open(TARGETS)?,
            holdings: open(HOLDINGS)?,
        })
    }
}

/// The keyspaces that are the same in every layout so far.
pub(super) const META: &str = "meta";
pub(super) const TARGETS: &str = "targets";
pub(super) const HOLDINGS: &str = "holdings";

/// Opens one of them.
pub(super) fn open_sorted(db: &Db, name: &str) -> lsm::Result<Keyspace> {
    db.keyspace(name, KeyspaceOptions::sorted())
}

/// Keys of `meta`.
pub(super) mod meta {
    /// Layout of the catalog: `u32`.
    pub(in crate::catalog) const LAYOUT: &[u8] = b"layout";
    /// The repository's id.
    pub(in crate::catalog) const REPOSITORY: &[u8] = b"repository";
    /// The run that is being applied in several batches; absent otherwise.
    pub(in crate::catalog) const APPLYING: &[u8] = b"applying";
    /// In front of the names of segments that commit runs which are not visible yet.
    pub(in crate::catalog) const WAITING: &[u8] = b"waiting/";
    /// In front of a timeline's number and the name of a segment that is lost: the timeline does not stand on it.
    pub(in crate::catalog) const WITHOUT: &[u8] = b"without/";
    /// In front of a timeline's number: the losses from which its newest snapshot does not suffer.
    pub(in crate::catalog) const UNHARMED: &[u8] = b"unharmed/";
    /// In front of the name of a segment that is lost, or stands on one that is: somebody was told.
    pub(in crate::catalog) const TOLD: &[u8] = b"told/";
    /// There if this catalog was made from what a target had: then nobody has seen yet that its snapshots are whole.
    pub(in crate::catalog) const MADE_AGAIN: &[u8] = b"made again";
    /// There while a rebuild is under way: what is here is not whole.
    pub(in crate::catalog) const REBUILDING: &[u8] = b"rebuilding";
}

/// Rows of a keyspace that has two kinds: by number, and from an id to its number.
const BY_NUMBER: u8 = b'n';
const BY_ID: u8 = b'i';

pub(super) fn numbered(number: u32) -> Vec<u8> {
    join(&[&[BY_NUMBER], &number.to_be_bytes()])
}

pub(super) fn all_numbered() -> [u8; 1] {
    [BY_NUMBER]
}

pub(super) fn all_named() -> [u8; 1] {
    [BY_ID]
}

pub(super) fn pack_by_name(name: &ObjectHash) -> Vec<u8> {
    join(&[&[BY_ID], name.as_bytes()])
}

pub(super) fn timeline_by_id(id: &TimelineId) -> Vec<u8> {
    join(&[&[BY_ID], id.as_bytes()])
}

pub(super) fn snapshot_by_id(id: &SnapshotId) -> Vec<u8> {
    join(&[&[BY_ID], id.as_bytes()])
}

pub(super) fn snapshot_by_number(timeline: TimelineNumber, number: SnapshotNumber) -> Vec<u8> {
    join(&[&[BY_NUMBER], &timeline.0.to_be_bytes(), &number.0.to_be_bytes()])
}

/// Length of a key of `chunks`.
pub(super) const CHUNK_KEY_BYTES: usize = 32;

/// A chunk's first place.
pub(super) fn chunk(id: &ChunkId) -> [u8; CHUNK_KEY_BYTES] {
    *id.as_bytes()
}

/// Its further places, in the order of their packs.
pub(super) fn all_elsewhere(id: &ChunkId) -> [u8; CHUNK_KEY_BYTES] {
    chunk(id)
}

pub(super) fn chunk_elsewhere(id: &ChunkId, pack: PackNumber) -> Vec<u8> {
    join(&[id.as_bytes(), &pack.0.to_be_bytes()])
}

pub(super) fn frame(pack: PackNumber, frame: u32) -> Vec<u8> {
    join(&[&pack.0.to_be_bytes(), &frame.to_be_bytes()])
}

pub(super) fn timeline_prefix(timeline: TimelineNumber) -> [u8; 4] {
    timeline.0.to_be_bytes()
}

pub(super) fn current(timeline: TimelineNumber, key: &EntryKey) -> Vec<u8> {
    join(&[&timeline.0.to_be_bytes(), key.as_bytes()])
}

/// All Versions of an entry, the newest first.
pub(super) fn history_of(timeline: TimelineNumber, key: &EntryKey) -> Vec<u8> {
    current(timeline, key)
}

pub(super) fn history(timeline: TimelineNumber, key: &[u8], number: SnapshotNumber) -> Vec<u8> {
    join(&[&timeline.0.to_be_bytes(), key, &(!number.0).to_be_bytes()])
}

/// Takes a key of `history` apart: entry key, snapshot's number.
pub(super) fn split_history(row_key: &[u8]) -> Result<(&[u8], SnapshotNumber)> {
    let behind = row_key.get(4..).and_then(|rest| rest.split_last_chunk::<4>());
    let (key, number) = behind.ok_or_else(|| bad_row("history", "its key is too short"))?;
    Ok((key, SnapshotNumber(!u32::from_be_bytes(*number))))
}

/// The entry key at the end of a row's key, behind `front` bytes.
pub(super) fn entry_key_behind(row_key: &[u8], front: usize, keyspace: &str) -> Result<EntryKey> {
    let bytes = row_key.get(front..).ok_or_else(|| bad_row(keyspace, "its key is too short"))?;
    EntryKey::from_bytes(bytes).map_err(|error| bad_row(keyspace, &error.to_string()))
}

pub(super) fn changes(timeline: TimelineNumber, number: SnapshotNumber, key: &[u8]) -> Vec<u8> {
    join(&[&timeline.0.to_be_bytes(), &number.0.to_be_bytes(), key])
}

pub(super) fn inode(timeline: TimelineNumber, device: u64, inode: u64, key: &[u8]) -> Vec<u8> {
    join(&[&timeline.0.to_be_bytes(), &device.to_be_bytes(), &inode.to_be_bytes(), key])
}

/// Length of what stands before the entry key in `inodes`.
pub(super) const INODE_FRONT_BYTES: usize = 20;

pub(super) fn file(id: &FileId, timeline: TimelineNumber, key: &[u8]) -> Vec<u8> {
    join(&[id.as_bytes(), &timeline.0.to_be_bytes(), key])
}

/// Length of what stands before the entry key in `files`.
pub(super) const FILE_FRONT_BYTES: usize = 20;

pub(super) fn segment(name: &SegmentName) -> Vec<u8> {
    join(&[name.writer.as_bytes(), &name.sequence.0.to_be_bytes(), name.hash.as_bytes()])
}

/// Length of what [`segment`] gives.
pub(super) const SEGMENT_KEY_BYTES: usize = 56;

pub(super) fn segments_of(writer: &WriterId) -> [u8; 16] {
    *writer.as_bytes()
}

/// The row of `meta` that says that a committed run is not visible yet.
pub(super) fn waiting(commit: &SegmentName) -> Vec<u8> {
    join(&[meta::WAITING, &segment(commit)])
}

/// The row of `meta` that says that a timeline does without a segment.
pub(super) fn without(timeline: TimelineNumber, lost: &SegmentName) -> Vec<u8> {
    join(&[meta::WITHOUT, &timeline.0.to_be_bytes(), &segment(lost)])
}

/// The row of `meta` that says from which losses a timeline does not suffer.
pub(super) fn unharmed(timeline: TimelineNumber) -> Vec<u8> {
    join(&[meta::UNHARMED, &timeline.0.to_be_bytes()])
}

/// The row of `meta` that says that the loss of a segment was told of.
pub(super) fn told(lost: &SegmentName) -> Vec<u8> {
    join(&[meta::TOLD, &segment(lost)])
}

pub(super) fn holding(target: u32, object: &str) -> Vec<u8> {
    join(&[&target.to_be_bytes(), object.as_bytes()])
}

fn join(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

/// A row that the engine gave back whole though it is none of this layout: the catalog is to be made again.
pub(super) fn bad_row(keyspace: &str, why: &str) -> Error {
    Error::catalog_damage(format!("the local catalog: a row of {keyspace} makes no sense ({why})"))
}

/// What the catalog's own decoding calls damage is a fault of the local state, not of a target.
pub(super) fn local(keyspace: &'static str) -> impl Fn(Error) -> Error {
    move |error| bad_row(keyspace, &error.to_string())
}

/// Opens the engine.
pub(super) fn open_engine(dir: &Path, memory_bytes: usize, read_only: bool) -> lsm::Result<Db> {
    Db::builder(dir).memory_bytes(memory_bytes).read_only(read_only).open()
}
