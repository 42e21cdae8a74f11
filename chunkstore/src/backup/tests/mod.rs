//! Whole backups of real directories to targets in memory, with every kind of fault, read back chunk by chunk.

#![allow(clippy::cast_possible_truncation, reason = "all numbers here are small")]

mod absent;
mod afresh;
mod damage;
mod intents;
mod interrupted;
mod limits;
mod snapshots;

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::*;
use crate::catalog::{Catalog, ChunkPlace};
use crate::chunk::{ChunkSizes, Hasher};
use crate::entry_key::KeyRange;
use crate::error::{Error, ErrorKind, Result};
use crate::frame::Decompressor;
use crate::monitor::{Collector, Event, Fault, Monitor};
use crate::pack::Reader;
use crate::repository::connect::tests::Named;
use crate::repository::layout::ObjectName;
use crate::repository::state::StateDirectory;
use crate::repository::{InitOptions, OpenOptions, Protection, Repository, Unlock};
use crate::segment::Segment;
use crate::target::fault::{Fault as Outage, FaultTarget, Rule};
use crate::target::mem::MemTarget;
use crate::target::record::RecordTarget;
use crate::target::{Operation, Target};
use crate::testing::{caught_up_catalog, noise};
use crate::verify::{Outcome, ReadData, VerifyOptions, VerifyReport, verify_with_catalog};
use crate::version::{Snapshot, Version};

/// A tree: path below its top, mode, and bytes (of files).
type Tree = BTreeMap<PathBuf, (u32, Option<Vec<u8>>)>;

/// A source, a state directory, and targets in memory behind faults and records.
struct World {
    source: tempfile::TempDir,
    state: tempfile::TempDir,
    named: Arc<Named>,
    mem: Vec<Arc<MemTarget>>,
    faults: Vec<Arc<FaultTarget>>,
    records: Vec<Arc<RecordTarget>>,
}

const URLS: [&str; 3] = ["mem:a", "mem:b", "mem:c"];

/// The repository, reached through whichever target answers, and its catalog, caught up.
struct Open {
    repository: Repository,
    catalog: Catalog,
}

impl World {
    fn new(targets: usize) -> Self {
        let init = InitOptions {
            chunk_sizes: Some(ChunkSizes::new(256, 1024, 8192).unwrap()),
            frame_bytes: Some(64 << 10),
            pack_bytes: Some(128 << 10),
        };
        Self::with(targets, &init)
    }

    fn with(targets: usize, init: &InitOptions) -> Self {
        let mem: Vec<_> = URLS[..targets].iter().map(|url| MemTarget::new(&url["mem:".len()..])).collect();
        let records: Vec<_> = mem.iter().map(|target| RecordTarget::new(target.clone())).collect();
        let faults: Vec<_> = records.iter().map(|target| FaultTarget::new(target.clone())).collect();
        let named = Named::new(faults.iter().map(|target| target.clone() as Arc<dyn Target>));
        let world = Self {
            source: tempfile::tempdir().unwrap(),
            state: crate::testing::state_dir(),
            named,
            mem,
            faults,
            records,
        };
        let urls: Vec<String> = URLS[..targets].iter().map(|url| (*url).to_owned()).collect();
        Repository::init(&urls, &world.options(), Protection::Unencrypted, init).unwrap();
        world
    }

    fn options(&self) -> OpenOptions {
        OpenOptions {
            connect: self.named.clone(),
            ..OpenOptions::new(StateDirectory::new(self.state.path()))
        }
    }

    fn open(&self) -> Result<Open> {
        let monitor = Collector::default();
        let repository = Repository::open("mem:a", &self.options(), Unlock::Nothing, &monitor)
            .or_else(|_| Repository::open("mem:b", &self.options(), Unlock::Nothing, &monitor))?;
        let catalog = caught_up_catalog(&repository)?;
        Ok(Open { repository, catalog })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.source.path().join(name)
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    fn backup_options(&self) -> BackupOptions {
        BackupOptions::new("host", vec![self.source.path().to_owned()])
    }

    fn backup_with(&self, open: &Open, monitor: &dyn Monitor) -> Result<BackupSummary> {
        backup(&open.repository, &open.catalog, &self.backup_options(), monitor)
    }

    fn backup_in(&self, open: &Open) -> BackupSummary {
        self.backup_with(open, &Collector::default()).unwrap()
    }

    fn backup(&self) -> BackupSummary {
        self.backup_in(&self.open().unwrap())
    }

    /// Reads every file, whatever its timestamps say.
    fn backup_forced(&self, open: &Open) {
        let options = BackupOptions { force: true, ..self.backup_options() };
        backup(&open.repository, &open.catalog, &options, &Collector::default()).unwrap();
    }

    /// What is in the source now.
    fn truth(&self) -> Tree {
        fn go(dir: &Path, top: &Path, all: &mut Tree) {
            for entry in std::fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                let metadata = path.symlink_metadata().unwrap();
                let bytes = metadata.is_file().then(|| std::fs::read(&path).unwrap());
                all.insert(
                    path.strip_prefix(top).unwrap().to_owned(),
                    (metadata.permissions().mode() & 0o7777, bytes),
                );
                if metadata.is_dir() {
                    go(&path, top, all);
                }
            }
        }
        let mut all = BTreeMap::new();
        go(self.source.path(), self.source.path(), &mut all);
        all
    }

    /// What a snapshot holds, its bytes put together from one target alone.
    fn restored(&self, open: &Open, snapshot: &Snapshot, target: &dyn Target) -> Tree {
        let mut all = BTreeMap::new();
        for entry in open.catalog.state(snapshot, &KeyRange::all()).unwrap() {
            let (key, version) = entry.unwrap();
            let Ok(path) = key.path().strip_prefix(self.source.path()).map(Path::to_owned) else { continue };
            if path.as_os_str().is_empty() {
                continue;
            }
            let bytes = (version.metadata.kind == Kind::File).then(|| read(open, &version, target));
            all.insert(path, (u32::from(version.metadata.mode), bytes));
        }
        all
    }

    /// The source as it is now is what the snapshot holds, read from this target alone.
    fn assert_holds(&self, open: &Open, snapshot: &Snapshot, target: &MemTarget) {
        let number = snapshot.number;
        assert!(
            self.restored(open, snapshot, target) == self.truth(),
            "snapshot {number:?} on {}",
            target.url()
        );
    }

    /// Both targets hold the same, and all of it is as it should be.
    fn assert_the_same_and_clean(&self, open: &Open) {
        assert!(self.mem[0].objects() == self.mem[1].objects(), "both hold the same");
        assert_clean(open);
    }
}

impl Open {
    fn first(&self) -> Snapshot {
        self.catalog.snapshots().unwrap().remove(0)
    }

    fn last(&self) -> Snapshot {
        self.catalog.snapshots().unwrap().pop().unwrap()
    }

    fn verify(&self, heal: bool) -> (VerifyReport, Collector) {
        let monitor = Collector::default();
        let options = VerifyOptions { data: ReadData::All, heal };
        let report = verify_with_catalog(&self.repository, &self.catalog, "host", &options, &monitor);
        (report.unwrap(), monitor)
    }
}

/// The bytes of a Version, holes filled in.
fn read(open: &Open, version: &Version, target: &dyn Target) -> Vec<u8> {
    let secrets = open.repository.secrets().unwrap();
    let hasher = Hasher::new(secrets);
    let mut decompressor = Decompressor::new();
    let mut data = Vec::new();
    for span in open.catalog.spans(&version.contents).unwrap() {
        let span = span.unwrap();
        let key = |place: &ChunkPlace| ObjectName::Pack(place.pack).key();
        let is_there = |place: &&ChunkPlace| place.usable && target.length(&key(place)).unwrap().is_some();
        let place = span.places.iter().find(is_there).expect("a chunk of a snapshot is on the target");
        let bytes = target.get(&key(place)).unwrap();
        let reader = Reader::open(&bytes[..], secrets).unwrap();
        let frame = reader.read_frame(&place.frame, &mut decompressor).unwrap();
        data.extend_from_slice(frame.chunk(place.index as usize, &span.id, &hasher).unwrap());
    }
    let mut whole = Vec::new();
    let mut rest = data.as_slice();
    for hole in &version.metadata.holes {
        let (before, behind) = rest.split_at((hole.offset as usize) - whole.len());
        whole.extend_from_slice(before);
        whole.resize(whole.len() + hole.length as usize, 0);
        rest = behind;
    }
    whole.extend_from_slice(rest);
    assert_eq!(whole.len() as u64, version.metadata.size);
    whole
}

fn populate(world: &World) {
    for index in 0..60u64 {
        world.write(&format!("d{}/f{index}", index % 7), noise(index, (index as usize * 613) % 9000));
    }
    world.write("large", noise(1000, 700_000));
    world.write("empty", "");
    std::os::unix::fs::symlink("d1/f1", world.path("link")).unwrap();
    std::fs::create_dir(world.path("empty dir")).unwrap();
}

/// Waits until timestamps of what was written so far lie behind a new scan's tick.
fn settle() {
    std::thread::sleep(Duration::from_millis(60));
}

/// Every object that `verify` expects is there.
fn assert_clean(open: &Open) {
    let (report, monitor) = open.verify(false);
    assert_eq!(report.outcome(), Outcome::Clean, "{report:?} {:?}", monitor.faults());
}

/// Every segment that a mark of completeness on `target` speaks of is there, and every pack that one of them names, but for those that were
/// lost everywhere.
fn assert_marks_hold(open: &Open, target: &dyn Target) {
    let names: Vec<_> =
        target.list("").unwrap().iter().filter_map(|object| ObjectName::parse(&object.key)).collect();
    for name in &names {
        let ObjectName::Complete { writer, sequence } = name else { continue };
        for place in 1..=*sequence {
            let segment = names.iter().find(|name| {
                matches!(name, ObjectName::Segment { writer: owner, sequence, .. } if owner == writer && *sequence == place)
            });
            let segment =
                segment.unwrap_or_else(|| panic!("{name} promises segment {place}, which is missing"));
            let bytes = target.get(&segment.key()).unwrap();
            open.repository.inspector().check(segment, &bytes).unwrap();
            for pack in &Segment::parse(&bytes.into()).unwrap().names.packs {
                let key = ObjectName::Pack(pack.name).key();
                let has_it = |target: &dyn Target| target.length(&key).unwrap().is_some();
                let is_lost = !open.repository.reachable().any(|(_, target)| has_it(&**target));
                assert!(has_it(target) || is_lost, "{name} promises {key}, which is missing");
            }
        }
    }
}
