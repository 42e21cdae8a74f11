//! The catalog as a whole, against a plain model: a list of snapshots, each a map from paths to what is there.

mod damage;
mod faults;
mod large;
mod layout;
mod long;
mod model;
mod packs;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::catalog::applier::Limits;
use crate::catalog::{
    Access, Basis, Catalog, CatalogOptions, CommittedRun, NewEntry, NewRun, RunWriter, SnapshotSummary,
    StateDigest,
};
use crate::entry_key::{EntryKey, KeyRange};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{ChunkId, IntentId, RepositoryId};
use crate::metadata::{Kind, Metadata, Timestamp};
use crate::monitor::Collector;
use crate::seal::Cipher;
use crate::secret::Epoch;
use crate::segment::{ENTRY_RECORD_BYTES_MAX, SegmentObject};
use crate::target::Target;
use crate::target::mem::MemTarget;
use crate::testing;
use crate::version::{Contents, FileOrigin, Marks, Snapshot, Version};

/// Lets the process die at one of its changes: the change and all that follow fail.
#[derive(Debug, Default)]
pub(super) struct CrashPoint(AtomicU64);

impl CrashPoint {
    /// Dies at the change with this number, counted from 1; 0: never.
    pub(super) fn set(&self, at: u64) {
        self.0.store(at, Ordering::Relaxed);
    }

    pub(super) fn hit(&self) -> Result<()> {
        match self.0.load(Ordering::Relaxed) {
            0 => Ok(()),
            1 => Err(Error::new(ErrorKind::Local, "the process died here")),
            left => {
                self.0.store(left - 1, Ordering::Relaxed);
                Ok(())
            }
        }
    }
}

/// What a path holds in the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) metadata: Metadata,
    pub(super) contents: Vec<ChunkId>,
}

/// The state of one snapshot in the model.
pub(super) type Tree = BTreeMap<EntryKey, Node>;

pub(super) fn key(path: &str) -> EntryKey {
    EntryKey::from_path(path).unwrap()
}

pub(super) fn chunk(number: u64) -> ChunkId {
    ChunkId::from_bytes(*blake3::hash(&number.to_le_bytes()).as_bytes())
}

pub(super) fn file(inode: u64, mode: u16, chunks: &[u64]) -> Node {
    let mut metadata = Metadata::new(Kind::File);
    metadata.inode = inode;
    metadata.mode = mode;
    metadata.size = 100 * chunks.len() as u64;
    metadata.links = 1;
    metadata.mtime =
        Timestamp { seconds: chunks.first().copied().unwrap_or_default().cast_signed(), nanoseconds: 5 };
    Node { metadata, contents: chunks.iter().copied().map(chunk).collect() }
}

pub(super) fn options(dir: &Path) -> CatalogOptions {
    CatalogOptions {
        dir: dir.to_path_buf(),
        repository: RepositoryId::from_bytes([7; 16]),
        secrets: testing::secrets(),
        cipher: Cipher::ChaCha20Poly1305,
        epoch: Epoch::FIRST,
        access: Access::Write,
        memory_bytes: 32 << 20,
    }
}

/// Batches of a few rows, so that each run takes several.
const TINY: Limits = Limits { batch_bytes: 512, lookup_records: 3, record_bytes: ENTRY_RECORD_BYTES_MAX };

impl Catalog {
    /// A catalog whose runs take no record of an entry that is longer.
    pub(crate) fn open_with_records_of(options: &CatalogOptions, record_bytes: usize) -> Result<Self> {
        Self::open_with(options, Limits { record_bytes, ..Limits::default() })
    }
}

/// A machine: its local state and its catalog.
pub(super) struct Machine {
    pub(super) dir: tempfile::TempDir,
    pub(super) catalog: Catalog,
}

impl Machine {
    pub(super) fn new() -> Self {
        Self::with(TINY)
    }

    pub(super) fn with(limits: Limits) -> Self {
        let dir = testing::state_dir();
        let catalog = Catalog::open_with(&options(dir.path()), limits).unwrap();
        Self { dir, catalog }
    }

    /// A machine whose catalog was made from a target.
    pub(super) fn from_target(target: &dyn Target) -> Self {
        let machine = Self::new();
        assert!(machine.catalog.is_empty());
        let monitor = Collector::default();
        machine.catalog.catch_up(target, &monitor).unwrap();
        assert!(monitor.faults().is_empty(), "{:?}", monitor.faults());
        machine
    }

    /// The process ends and another one starts.
    pub(super) fn reopen(self) -> Self {
        let Self { dir, catalog } = self;
        let limits = catalog.inner.limits;
        drop(catalog);
        let catalog = Catalog::open_with(&options(dir.path()), limits).unwrap();
        Self { dir, catalog }
    }

    pub(super) fn begin(&self, host: &str, time: i64) -> RunWriter {
        let run = NewRun {
            host: host.into(),
            roots: vec![b"/".to_vec()],
            intent: IntentId::from_bytes([1; 16]),
            time: Timestamp { seconds: time, nanoseconds: 0 },
            basis: Basis::Whole,
        };
        self.catalog.begin_run(run).unwrap()
    }

    /// Writes a run that turns the newest state into `tree`, in pieces of `piece_entries`.
    pub(super) fn write(
        &self,
        host: &str,
        time: i64,
        tree: &Tree,
        piece_entries: usize,
    ) -> Vec<SegmentObject> {
        let mut run = self.begin(host, time);
        let mut segments = Vec::new();
        let mut before: BTreeMap<EntryKey, Version> = BTreeMap::new();
        let timeline = run.timeline();
        for entry in self.catalog.current(timeline).unwrap() {
            let entry = entry.unwrap();
            let version = self.catalog.latest(timeline, &entry.key).unwrap().unwrap();
            before.insert(entry.key, version);
        }
        let mut count = 0;
        for (key, node) in tree {
            let old = before.remove(key);
            run.chunks(&node.contents).unwrap();
            let contents = run.contents().unwrap();
            let same = |old: &Version| old.metadata.same_restored(&node.metadata) && old.contents == contents;
            if let Some(old) = old.as_ref().filter(|old| same(old)) {
                if old.metadata != node.metadata {
                    let m = &node.metadata;
                    run.seen(key, m.ctime, m.inode, m.device, Marks::NONE).unwrap();
                }
                continue;
            }
            let m = &node.metadata;
            let moved = self.catalog.by_inode(timeline, m.device, m.inode).unwrap();
            let moved = moved
                .into_iter()
                .find(|found| found.key != *key && m.inode != 0 && !tree.contains_key(&found.key));
            let file = match (&old, moved) {
                (Some(old), _) if old.metadata.inode == m.inode => FileOrigin::SameAsPredecessor,
                (_, Some(moved)) => FileOrigin::Explicit(moved.version.file),
                _ => FileOrigin::New,
            };
            run.entry(&NewEntry { key, file, metadata: m, contents, marks: Marks::NONE }).unwrap();
            count += 1;
            if count % piece_entries == 0 {
                segments.extend(run.flush().unwrap());
            }
        }
        for key in before.keys() {
            run.gone(key).unwrap();
        }
        while let Some(segment) = run.flush().unwrap().filter(|_| piece_entries < 1000) {
            segments.push(segment);
        }
        let CommittedRun { earlier, segment, .. } = run.commit(SnapshotSummary::default()).unwrap();
        segments.extend(earlier);
        segments.push(segment);
        segments
    }

    /// Backs `tree` up: into the catalog and onto the targets.
    pub(super) fn back_up(&self, host: &str, time: i64, tree: &Tree, targets: &[&dyn Target]) -> Snapshot {
        let segments = self.write(host, time, tree, 3);
        for segment in &segments {
            put(segment, targets);
            self.catalog.apply(segment).unwrap();
            assert!(self.catalog.is_applied(&segment.name).unwrap());
        }
        self.catalog.snapshots().unwrap().into_iter().find(|s| s.time.seconds == time).unwrap()
    }
}

pub(super) fn put(segment: &SegmentObject, targets: &[&dyn Target]) {
    for target in targets {
        target.put(&segment.name.key(), &[&segment.bytes]).unwrap();
    }
}

pub(super) fn target(name: &str) -> Arc<MemTarget> {
    MemTarget::new(name)
}

/// What a catalog says of a snapshot, as the model has it.
pub(super) fn state(catalog: &Catalog, snapshot: &Snapshot) -> Tree {
    let state = catalog.state(snapshot, &KeyRange::all()).unwrap();
    state
        .map(|entry| {
            let (key, version) = entry.unwrap();
            let ids = catalog.contents(&version.contents).unwrap().map(|id| id.unwrap()).collect();
            (key, Node { metadata: version.metadata, contents: ids })
        })
        .collect()
}

/// What a restore would give back: the model compares this, for a Version keeps what change detection saw at its birth.
pub(super) fn restored(tree: &Tree) -> Tree {
    tree.iter()
        .map(|(key, node)| {
            let mut node = node.clone();
            (node.metadata.inode, node.metadata.device) = (0, 0);
            node.metadata.ctime = Timestamp::default();
            (key.clone(), node)
        })
        .collect()
}

/// Everything that two catalogs of the same repository must agree on.
pub(super) fn dump(catalog: &Catalog) -> Vec<String> {
    let mut lines = Vec::new();
    let mut timelines = catalog.timelines().unwrap();
    timelines.sort_by_key(|timeline| timeline.id);
    for timeline in &timelines {
        lines.push(format!("{timeline:?}"));
        for entry in catalog.current(timeline.id).unwrap() {
            let entry = entry.unwrap();
            let latest = catalog.latest(timeline.id, &entry.key).unwrap();
            let matches = catalog.by_inode(timeline.id, entry.device, entry.inode).unwrap();
            lines.push(format!("{entry:?} {latest:?} {matches:?}"));
            for entry in catalog.log(timeline.id, &entry.key).unwrap() {
                lines.push(format!("{entry:?}"));
            }
        }
    }
    for snapshot in catalog.snapshots().unwrap() {
        lines.push(format!("{snapshot:?}"));
        for entry in catalog.state(&snapshot, &KeyRange::all()).unwrap() {
            lines.push(format!("{:?}", entry.unwrap()));
        }
        lines.push(format!("{:?}", catalog.changes(&snapshot).unwrap()));
    }
    let mut packs = catalog.packs().unwrap();
    packs.sort();
    lines.push(format!("{packs:?} {:?}", catalog.heads().unwrap()));
    lines
}

/// The digest of the model's state.
pub(super) fn digest(catalog: &Catalog, tree: &Tree, lists: impl Fn(&EntryKey) -> Contents) -> StateDigest {
    let mut digest = StateDigest::default();
    for (key, node) in tree {
        digest.add(&catalog.inner.digest_key, key, &node.metadata, &lists(key));
    }
    digest
}

/// Copies a directory and what is in it.
pub(super) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to.join(entry.file_name()));
        } else {
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}
