//! Whole backups of real directories to targets in memory, with every kind of fault, read back chunk by chunk.

#![allow(clippy::cast_possible_truncation, reason = "all numbers here are small")]

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::*;
use crate::catalog::{Access, Catalog, CatalogOptions, ChunkPlace};
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
use crate::target::fault::{Fault as Outage, FaultTarget, Rule};
use crate::target::mem::MemTarget;
use crate::target::record::RecordTarget;
use crate::target::{Operation, Target};
use crate::verify::{Outcome, ReadData, VerifyOptions, verify_with_catalog};
use crate::version::{Snapshot, Version};

/// A source, a state directory, and targets in memory behind faults and records.
struct World {
    source: tempfile::TempDir,
    state: tempfile::TempDir,
    named: Arc<Named>,
    mem: Vec<Arc<MemTarget>>,
    faults: Vec<Arc<FaultTarget>>,
    records: Vec<Arc<RecordTarget>>,
}

struct Open {
    repository: Repository,
    catalog: Catalog,
}

const URLS: [&str; 3] = ["mem:a", "mem:b", "mem:c"];

impl World {
    fn new(targets: usize) -> Self {
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
        let init = InitOptions {
            chunk_sizes: Some(ChunkSizes::new(256, 1024, 8192).unwrap()),
            frame_bytes: Some(64 << 10),
            pack_bytes: Some(128 << 10),
        };
        Repository::init(&urls, &world.options(), Protection::Unencrypted, &init).unwrap();
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
        let catalog = Catalog::open(&CatalogOptions {
            dir: repository.state().path().to_owned(),
            repository: repository.id(),
            secrets: repository.secrets()?.clone(),
            cipher: repository.config().mode.cipher(),
            epoch: repository.config().epoch,
            access: Access::Write,
            memory_bytes: 16 << 20,
        })?;
        for (_, target) in repository.reachable() {
            catalog.catch_up(&**target, &monitor)?;
        }
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

    fn backup(&self) -> BackupSummary {
        self.backup_with(&self.open().unwrap(), &Collector::default()).unwrap()
    }

    /// What is in the source now: path below it, mode, and bytes (of files).
    fn truth(&self) -> BTreeMap<PathBuf, (u32, Option<Vec<u8>>)> {
        fn go(dir: &Path, top: &Path, all: &mut BTreeMap<PathBuf, (u32, Option<Vec<u8>>)>) {
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
    fn restored(
        &self,
        open: &Open,
        snapshot: &Snapshot,
        target: &dyn Target,
    ) -> BTreeMap<PathBuf, (u32, Option<Vec<u8>>)> {
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

fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
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

#[test]
fn every_snapshot_of_a_changing_tree_is_exact_on_every_target() {
    let world = World::new(2);
    populate(&world);
    let mut truths = Vec::new();
    for round in 0..5u64 {
        let summary = world.backup();
        assert_eq!(summary.targets_complete, ["mem:a", "mem:b"]);
        assert!(summary.targets_behind.is_empty() && !summary.is_partial());
        truths.push(world.truth());
        settle();
        world.write(&format!("d{round}/f{round}"), noise(5000 + round, 3000));
        world.write(&format!("new{round}/deep/er/file"), noise(6000 + round, 100));
        std::fs::remove_file(world.path(&format!("d{}/f{}", (round + 20) % 7, round + 20))).unwrap();
        std::fs::rename(world.path("large"), world.path("large2")).unwrap();
        std::fs::rename(world.path("large2"), world.path(if round % 2 == 0 { "moved" } else { "large" }))
            .ok();
        if !world.path("large").exists() {
            world.write("large", noise(7000 + round, 10));
        }
        let mode = std::fs::Permissions::from_mode(0o700 + round as u32);
        std::fs::set_permissions(world.path("empty"), mode).unwrap();
    }
    let open = world.open().unwrap();
    let snapshots = open.catalog.snapshots().unwrap();
    assert_eq!(snapshots.len(), 5);
    for (snapshot, truth) in snapshots.iter().zip(&truths) {
        for target in &world.mem {
            assert!(world.restored(&open, snapshot, &**target) == *truth, "snapshot {:?}", snapshot.number);
        }
    }
}

#[test]
fn an_unchanged_tree_costs_one_small_segment() {
    let world = World::new(1);
    populate(&world);
    settle();
    world.backup();
    let open = world.open().unwrap();
    world.records[0].take_calls();
    let summary = world.backup_with(&open, &Collector::default()).unwrap();
    assert_eq!((summary.files_new, summary.files_changed, summary.chunks_new), (0, 0, 0));
    assert_eq!(summary.files_unmodified, 62);
    assert!(world.records[0].bytes_put() < 10_000, "{} bytes", world.records[0].bytes_put());
    assert_eq!(world.records[0].count(Operation::Put), 3, "intent, segment, mark of completeness");
    assert_eq!(world.records[0].count(Operation::Get), 0);
}

#[test]
fn a_file_in_the_scans_own_tick_is_read_again_once() {
    let world = World::new(1);
    world.write("settled", "s");
    settle();
    world.write("file", "one");
    world.backup();
    settle();
    let second = world.backup();
    assert_eq!((second.files_changed, second.files_unmodified, second.chunks_new), (0, 2, 0));
    let open = world.open().unwrap();
    let timeline = open.catalog.timelines().unwrap().remove(0);
    let top = crate::entry_key::EntryKey::from_path(world.source.path()).unwrap();
    for entry in open.catalog.current(timeline.id).unwrap() {
        let entry = entry.unwrap();
        // What leads to the source is other people's, and may change at any time.
        assert!(!entry.key.is_within(&top) || entry.marks == crate::version::Marks::NONE, "{entry:?}");
    }
}

#[test]
fn a_target_that_dies_is_told_of_and_the_other_is_whole() {
    let world = World::new(2);
    populate(&world);
    let open = world.open().unwrap();
    world.faults[0].add(Rule { operation: Some(Operation::Put), ..Rule::dies_after(3) });
    let monitor = Collector::default();
    let summary = world.backup_with(&open, &monitor).unwrap();
    assert_eq!(
        (summary.targets_complete, summary.targets_behind),
        (vec!["mem:b".to_owned()], vec!["mem:a".to_owned()])
    );
    assert_eq!(monitor.faults().len(), 1, "told once: {:?}", monitor.faults());
    let snapshot = open.catalog.snapshots().unwrap().remove(0);
    assert!(world.restored(&open, &snapshot, &*world.mem[1]) == world.truth());
    drop(open);
    // It is back: the next backup brings all that it lacks.
    world.faults[0].clear();
    let summary = world.backup();
    assert_eq!(summary.targets_complete.len(), 2);
    assert!(summary.targets_behind.is_empty());
    assert!(world.mem[0].objects() == world.mem[1].objects(), "both hold the same");
}

#[test]
fn when_no_target_is_left_nothing_is_committed_and_the_next_run_goes_on() {
    let world = World::new(1);
    populate(&world);
    {
        let open = world.open().unwrap();
        world.faults[0].add(Rule { operation: Some(Operation::Put), ..Rule::dies_after(4) });
        let error = world.backup_with(&open, &Collector::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Target);
        assert!(open.catalog.snapshots().unwrap().is_empty());
    }
    world.faults[0].clear();
    let packs = |world: &World| world.mem[0].list("packs").unwrap().len();
    let before = packs(&world);
    assert!(before >= 2, "{before} packs were stored");
    let open = world.open().unwrap();
    let monitor = Collector::default();
    let summary = world.backup_with(&open, &monitor).unwrap();
    let whole: u64 =
        world.truth().values().filter_map(|(_, bytes)| bytes.as_ref()).map(|bytes| bytes.len() as u64).sum();
    assert!(summary.bytes_new < whole * 4 / 5, "{} of {whole} bytes were new", summary.bytes_new);
    assert!(world.mem[0].list("intents").unwrap().is_empty());
    let snapshot = open.catalog.snapshots().unwrap().remove(0);
    assert!(world.restored(&open, &snapshot, &*world.mem[0]) == world.truth());
}

fn copy_tree(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_tree(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[test]
fn packs_of_a_killed_run_are_taken_over() {
    let world = World::new(2);
    world.write("first", noise(77, 1000));
    world.backup();
    populate(&world);
    let before = tempfile::tempdir().unwrap();
    copy_tree(world.state.path(), before.path());
    {
        let open = world.open().unwrap();
        for fault in &world.faults {
            fault.add(Rule { operation: Some(Operation::Put), ..Rule::dies_after(4) });
        }
        world.backup_with(&open, &Collector::default()).unwrap_err();
    }
    // A process that is killed leaves its local state as it was before.
    std::fs::remove_dir_all(world.state.path()).unwrap();
    copy_tree(before.path(), world.state.path());
    for (fault, mem) in world.faults.iter().zip(&world.mem) {
        fault.clear();
        assert!(mem.list("packs").unwrap().len() > 2, "some packs were stored");
    }
    let open = world.open().unwrap();
    let monitor = Collector::default();
    let summary = world.backup_with(&open, &monitor).unwrap();
    assert!(monitor.notes().iter().any(|note| note.contains("taken over")), "{:?}", monitor.notes());
    let whole: u64 =
        world.truth().values().filter_map(|(_, bytes)| bytes.as_ref()).map(|bytes| bytes.len() as u64).sum();
    assert!(summary.bytes_new < whole * 4 / 5, "{} of {whole} bytes were new", summary.bytes_new);
    assert!(world.mem[0].list("intents").unwrap().is_empty());
    let last = open.catalog.snapshots().unwrap().pop().unwrap();
    assert!(world.restored(&open, &last, &*world.mem[1]) == world.truth());
}

/// Every object that `verify` expects is there.
fn assert_clean(open: &Open) {
    let monitor = Collector::default();
    let options = VerifyOptions { data: ReadData::All, heal: false };
    let report = verify_with_catalog(&open.repository, &open.catalog, "host", &options, &monitor).unwrap();
    assert_eq!(report.outcome(), Outcome::Clean, "{report:?} {:?}", monitor.faults());
}

#[test]
fn a_killed_runs_packs_that_are_on_one_target_only_come_to_the_other() {
    // The second: neither has all.
    for (left_on_a, left_on_b) in [(1, 5), (4, 5)] {
        let world = World::new(2);
        world.write("first", noise(77, 1000));
        world.backup();
        populate(&world);
        let before = tempfile::tempdir().unwrap();
        copy_tree(world.state.path(), before.path());
        {
            let open = world.open().unwrap();
            for (fault, calls) in world.faults.iter().zip([left_on_a, left_on_b]) {
                fault.add(Rule { operation: Some(Operation::Put), ..Rule::dies_after(calls) });
            }
            world.backup_with(&open, &Collector::default()).unwrap_err();
        }
        std::fs::remove_dir_all(world.state.path()).unwrap();
        copy_tree(before.path(), world.state.path());
        for fault in &world.faults {
            fault.clear();
        }
        if left_on_a > 1 {
            let lost = world.mem[0]
                .list("packs")
                .unwrap()
                .into_iter()
                .find(|pack| world.mem[1].length(&pack.key).unwrap().is_some());
            world.mem[1].tamper(|objects| {
                objects.remove(&lost.unwrap().key);
            });
        }
        let open = world.open().unwrap();
        let summary = world.backup_with(&open, &Collector::default()).unwrap();
        assert_eq!(summary.targets_complete.len(), 2, "{summary:?}");
        assert!(world.mem[0].objects() == world.mem[1].objects(), "both hold the same");
        assert_clean(&open);
    }
}

#[test]
fn a_target_that_lacks_what_an_absent_one_has_is_not_complete() {
    let world = World::new(2);
    world.write("first", noise(77, 1000));
    world.backup();
    populate(&world);
    world.faults[0].add(Rule::dies_after(0));
    assert_eq!(world.backup().targets_complete, ["mem:b"]);
    world.faults[0].clear();
    world.faults[1].add(Rule::dies_after(0));
    world.write("more", noise(78, 1000));
    let summary = world.backup();
    assert_eq!((summary.targets_complete.len(), summary.targets_behind.len()), (0, 2), "{summary:?}");
    world.faults[1].clear();
    let open = world.open().unwrap();
    assert_eq!(world.backup_with(&open, &Collector::default()).unwrap().targets_complete.len(), 2);
    assert!(world.mem[0].objects() == world.mem[1].objects(), "both hold the same");
    assert_clean(&open);
}

#[test]
fn a_segment_that_is_damaged_where_it_is_stays_in_the_outbox_until_it_is_healed() {
    let world = World::new(1);
    populate(&world);
    world.backup();
    // The outbox keeps the newest; on the target it goes bad.
    let segment = world.mem[0].list("segments").unwrap().remove(0).key;
    let good = world.mem[0].get(&segment).unwrap();
    world.mem[0].tamper(|objects| {
        let mut bytes = objects[&segment].to_vec();
        bytes[200] ^= 1;
        objects.insert(segment.clone(), bytes.into());
    });
    let verify = |heal| {
        let open = world.open().unwrap();
        let options = VerifyOptions { data: ReadData::All, heal };
        verify_with_catalog(&open.repository, &open.catalog, "host", &options, &Collector::default()).unwrap()
    };
    assert_eq!(verify(false).outcome(), Outcome::Damaged);
    world.backup();
    world.backup();
    assert_eq!(verify(true).outcome(), Outcome::Healed);
    assert_eq!(world.mem[0].get(&segment).unwrap(), good);
    assert_clean(&world.open().unwrap());
}

/// Is told to stop when a phase begins.
struct StopsAt(&'static str, Collector);

impl Monitor for StopsAt {
    fn fault(&self, fault: Fault) {
        self.1.fault(fault);
    }
    fn event(&self, event: Event<'_>) {
        if let Event::Phase { name, .. } = event
            && name == self.0
        {
            self.1.cancel();
        }
        self.1.event(event);
    }
    fn cancelled(&self) -> bool {
        self.1.cancelled()
    }
}

#[test]
fn a_snapshot_that_is_made_stays_made_when_catching_up_is_stopped() {
    let world = World::new(2);
    populate(&world);
    world.faults[0].add(Rule::dies_after(0));
    world.backup();
    world.faults[0].clear();
    world.write("more", noise(78, 1000));
    let open = world.open().unwrap();
    let monitor = StopsAt("list", Collector::default());
    let summary = world.backup_with(&open, &monitor).unwrap();
    assert!(monitor.cancelled(), "the missing objects were looked for");
    assert_eq!(
        (summary.targets_complete, summary.targets_behind),
        (vec![URLS[1].to_owned()], vec![URLS[0].to_owned()])
    );
    assert_eq!(summary.snapshot, open.catalog.snapshots().unwrap().pop().map(|snapshot| snapshot.id));
    assert!(world.mem[0].list("intents").unwrap().is_empty());
}

#[test]
fn a_large_file_goes_through_in_parts() {
    let world = World::new(1);
    let bytes = noise(5, 6 << 20);
    world.write("large", &bytes);
    world.write("small", b"s");
    world.backup();
    let open = world.open().unwrap();
    let snapshot = open.catalog.snapshots().unwrap().remove(0);
    assert!(world.restored(&open, &snapshot, &*world.mem[0]) == world.truth());
}

/// Stops by a signal after so many items.
struct StopsAfter(std::sync::atomic::AtomicI64);

impl Monitor for StopsAfter {
    fn fault(&self, fault: Fault) {
        panic!("{fault:?}");
    }
    fn event(&self, event: Event<'_>) {
        if let Event::Advance { items, .. } = event {
            self.0.fetch_sub(items as i64, std::sync::atomic::Ordering::Relaxed);
        }
    }
    fn cancelled(&self) -> bool {
        self.0.load(std::sync::atomic::Ordering::Relaxed) < 0
    }
}

#[test]
fn a_cancelled_run_commits_nothing_and_keeps_what_was_stored() {
    let world = World::new(2);
    for index in 0..400u64 {
        world.write(&format!("f{index}"), noise(index, 4000));
    }
    let open = world.open().unwrap();
    let error = world.backup_with(&open, &StopsAfter(300.into())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    assert!(open.catalog.snapshots().unwrap().is_empty());
    let summary = world.backup_with(&open, &Collector::default()).unwrap();
    assert!(summary.bytes_new < 400 * 4000, "{} bytes were new", summary.bytes_new);
    assert_eq!(summary.files_new, 400);
    assert_eq!(summary.targets_complete, ["mem:a", "mem:b"]);
    let snapshot = open.catalog.snapshots().unwrap().remove(0);
    assert!(world.restored(&open, &snapshot, &*world.mem[1]) == world.truth());
}

#[test]
fn whatever_call_is_the_last_before_the_power_goes_nothing_is_lost() {
    let world = World::new(1);
    populate(&world);
    world.backup();
    let first = world.truth();
    settle();
    let mut calls = 0;
    loop {
        world.write("d0/f0", noise(9000 + calls, 200_000));
        world.write("d1/f1", noise(9500 + calls, 200_000));
        let interrupted = {
            let open = world.open().unwrap();
            world.faults[0].add(Rule::dies_after(calls));
            world.backup_with(&open, &Collector::default())
        };
        world.faults[0].clear();
        let open = world.open().unwrap();
        let snapshots = open.catalog.snapshots().unwrap();
        assert!(world.restored(&open, &snapshots[0], &*world.mem[0]) == first, "after {calls} calls");
        world.backup_with(&open, &Collector::default()).unwrap();
        let last = open.catalog.snapshots().unwrap().pop().unwrap();
        assert!(world.restored(&open, &last, &*world.mem[0]) == world.truth(), "after {calls} calls");
        if interrupted.is_ok_and(|summary| summary.targets_complete.len() == 1) && calls > 5 {
            break;
        }
        calls += 1;
    }
    assert!(calls > 8, "each call of a run was the last one once: {calls}");
    assert!(world.mem[0].list("intents").unwrap().is_empty());
}

#[test]
fn a_pack_that_is_gone_is_stored_again_when_its_bytes_are_met() {
    let world = World::new(1);
    populate(&world);
    world.backup();
    world.mem[0].tamper(|objects| {
        let packs: Vec<_> =
            objects.keys().filter(|key| key.as_str().starts_with("packs/")).cloned().collect();
        for pack in packs {
            objects.remove(&pack);
        }
    });
    settle();
    let open = world.open().unwrap();
    let monitor = Collector::default();
    let summary = world.backup_with(&open, &monitor).unwrap();
    assert!(summary.chunks_new > 0);
    assert!(monitor.notes().iter().any(|note| note.contains("stored again")), "{:?}", monitor.notes());
    let again = world.backup_with(&open, &Collector::default()).unwrap();
    assert_eq!((again.chunks_new, again.files_changed), (0, 0), "once");
    let first = open.catalog.snapshots().unwrap().remove(0);
    assert!(
        world.restored(&open, &first, &*world.mem[0]) == world.truth(),
        "the first snapshot is whole again too"
    );
}

#[test]
fn a_renamed_file_stays_the_same_file() {
    let world = World::new(1);
    world.write("one", noise(1, 5000));
    world.write("two", noise(2, 5000));
    settle();
    world.backup();
    std::fs::rename(world.path("one"), world.path("three")).unwrap();
    std::fs::copy(world.path("two"), world.path("copy")).unwrap();
    world.backup();
    let open = world.open().unwrap();
    let timeline = open.catalog.timelines().unwrap().remove(0);
    let snapshots = open.catalog.snapshots().unwrap();
    let file = |snapshot: usize, name: &str| {
        let key = crate::entry_key::EntryKey::from_path(world.path(name)).unwrap();
        open.catalog.entry(&snapshots[snapshot], &key).unwrap().map(|version| version.file)
    };
    assert!(file(0, "one").is_some());
    assert_eq!(file(0, "one"), file(1, "three"));
    assert_eq!(file(1, "one"), None);
    assert_eq!(file(0, "two"), file(1, "two"));
    assert_ne!(file(1, "two"), file(1, "copy"), "a copy is another File");
    let key = crate::entry_key::EntryKey::from_path(world.path("three")).unwrap();
    assert_eq!(
        open.catalog.log(timeline.id, &key).unwrap().len(),
        2,
        "its history begins where it was before"
    );
}

#[test]
fn a_stream_is_a_file() {
    let world = World::new(1);
    let open = world.open().unwrap();
    let bytes = noise(3, 100_000);
    for expected_new in [true, false] {
        let reader = Box::new(std::io::Cursor::new(bytes.clone()));
        let path = Path::new("/dump.sql");
        let options = world.backup_options();
        let summary =
            backup_stream(&open.repository, &open.catalog, &options, path, reader, &Collector::default())
                .unwrap();
        assert_eq!(summary.chunks_new > 0, expected_new);
        let snapshot = open.catalog.snapshots().unwrap().pop().unwrap();
        let key = crate::entry_key::EntryKey::from_path(path).unwrap();
        let version = open.catalog.entry(&snapshot, &key).unwrap().unwrap();
        assert_eq!(read(&open, &version, &*world.mem[0]), bytes);
    }
}

#[test]
fn a_dry_run_stores_nothing_and_foresees_the_rest() {
    let world = World::new(1);
    populate(&world);
    let open = world.open().unwrap();
    world.records[0].take_calls();
    let options = BackupOptions { dry_run: true, ..world.backup_options() };
    let foreseen = backup(&open.repository, &open.catalog, &options, &Collector::default()).unwrap();
    assert!(world.records[0].calls().is_empty());
    assert!(foreseen.snapshot.is_none() && open.catalog.snapshots().unwrap().is_empty());
    let done = world.backup_with(&open, &Collector::default()).unwrap();
    assert_eq!(
        (foreseen.files_new, foreseen.chunks_new, foreseen.bytes_new),
        (done.files_new, done.chunks_new, done.bytes_new)
    );
}

#[test]
fn sparse_files_keep_their_holes_and_cost_nothing() {
    use std::os::unix::fs::FileExt;
    let world = World::new(1);
    let file = std::fs::File::create(world.path("sparse")).unwrap();
    file.write_all_at(b"begin", 0).unwrap();
    file.write_all_at(&noise(4, 10_000), 1 << 20).unwrap();
    file.set_len(3 << 20).unwrap();
    drop(file);
    let is_sparse = world.path("sparse").metadata().unwrap().blocks() * 512 < 1 << 20;
    let summary = world.backup();
    let open = world.open().unwrap();
    let snapshot = open.catalog.snapshots().unwrap().remove(0);
    assert!(world.restored(&open, &snapshot, &*world.mem[0]) == world.truth());
    assert!(!is_sparse || summary.bytes_new < 100_000, "{} bytes", summary.bytes_new);
}

#[test]
fn a_locked_catalog_is_said() {
    let world = World::new(1);
    let _open = world.open().unwrap();
    let error: Error = world.open().err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Locked);
}

/// Every segment that a mark of completeness on `target` speaks of is there, and every pack that one of them names.
fn assert_marks_hold(open: &Open, target: &dyn Target) {
    let names: Vec<_> =
        target.list("").unwrap().iter().filter_map(|object| ObjectName::parse(&object.key)).collect();
    let inspect = |name: &ObjectName| open.repository.inspector().check(name, &target.get(&name.key())?);
    for name in &names {
        let ObjectName::Complete { writer, sequence } = name else { continue };
        for place in 1..=*sequence {
            let segment = names.iter().find(|name| {
                matches!(name, ObjectName::Segment { writer: owner, sequence, .. } if owner == writer && *sequence == place)
            });
            let segment =
                segment.unwrap_or_else(|| panic!("{name} promises segment {place}, which is missing"));
            inspect(segment).unwrap();
        }
    }
}

/// A run whose last piece reaches no target: committed here, seen nowhere.
fn commit_to_the_outbox_only(world: &World) {
    let open = world.open().unwrap();
    for fault in &world.faults {
        fault.add(Rule::always(Operation::Put, "segments", Outage::Fail(ErrorKind::Target)));
    }
    world.backup_with(&open, &Collector::default()).unwrap_err();
    for fault in &world.faults {
        fault.clear();
    }
}

#[test]
fn a_run_that_only_the_outbox_has_is_what_the_next_one_builds_on() {
    let world = World::new(2);
    populate(&world);
    world.backup();
    settle();
    world.write("d0/more", noise(70, 5000));
    commit_to_the_outbox_only(&world);
    let second = world.truth();
    settle();
    world.write("d0/most", noise(71, 5000));
    world.backup();
    let open = world.open().unwrap();
    let snapshots = open.catalog.snapshots().unwrap();
    assert_eq!(open.catalog.timelines().unwrap().len(), 1, "no backup is torn from the line");
    assert_eq!(snapshots.len(), 3);
    for mem in &world.mem {
        assert!(world.restored(&open, &snapshots[1], &**mem) == second);
        assert!(world.restored(&open, &snapshots[2], &**mem) == world.truth());
        assert_marks_hold(&open, &**mem);
    }
}

#[test]
fn a_target_that_missed_a_piece_from_the_outbox_is_not_called_whole() {
    let world = World::new(2);
    populate(&world);
    world.backup();
    settle();
    world.write("d0/more", noise(70, 5000));
    commit_to_the_outbox_only(&world);
    let open = world.open().unwrap();
    let once =
        Rule { sticky: false, ..Rule::always(Operation::Put, "segments", Outage::Fail(ErrorKind::Target)) };
    world.faults[1].add(once);
    let summary = world.backup_with(&open, &Collector::default()).unwrap();
    assert_eq!(world.faults[1].hits(), 1);
    assert_marks_hold(&open, &*world.mem[1]);
    assert_eq!(summary.targets_complete, ["mem:a"]);
}

#[test]
fn what_only_a_target_has_that_is_not_there_is_stored_again() {
    let world = World::new(2);
    world.write("first", noise(70, 1000));
    settle();
    world.backup();
    // It reaches only one of both, which then dies.
    world.write("file", noise(71, 50_000));
    {
        let open = world.open().unwrap();
        world.faults[0].add(Rule::always(Operation::Put, "", Outage::Fail(ErrorKind::TargetFull)));
        let summary = world.backup_with(&open, &Collector::default()).unwrap();
        assert_eq!(summary.targets_complete, ["mem:b"]);
    }
    world.faults[0].clear();
    world.named.remove("mem:b");
    world.write("the same again", noise(71, 50_000));
    for removed in [false, true] {
        let mut open = world.open().unwrap();
        if removed {
            open.repository.remove_target("mem:b").unwrap();
        }
        let options = BackupOptions { force: true, ..world.backup_options() };
        backup(&open.repository, &open.catalog, &options, &Collector::default()).unwrap();
        let last = open.catalog.snapshots().unwrap().pop().unwrap();
        assert!(world.restored(&open, &last, &*world.mem[0]) == world.truth(), "removed: {removed}");
    }
}

#[test]
fn what_only_a_target_has_that_fails_at_once_is_stored_again() {
    let world = World::new(2);
    world.write("file", noise(71, 50_000));
    {
        let open = world.open().unwrap();
        world.faults[0].add(Rule::always(Operation::Put, "packs", Outage::Fail(ErrorKind::TargetFull)));
        world.backup_with(&open, &Collector::default()).unwrap();
    }
    world.faults[0].clear();
    world.write("the same again", noise(71, 50_000));
    let open = world.open().unwrap();
    world.faults[1].add(Rule::always(Operation::Put, "intents", Outage::Fail(ErrorKind::Target)));
    let options = BackupOptions { force: true, ..world.backup_options() };
    backup(&open.repository, &open.catalog, &options, &Collector::default()).unwrap();
    let last = open.catalog.snapshots().unwrap().pop().unwrap();
    assert!(world.restored(&open, &last, &*world.mem[0]) == world.truth());
}

#[test]
fn a_target_that_was_away_for_some_runs_can_stand_alone_when_the_other_is_lost() {
    let world = World::new(2);
    world.write("first", noise(70, 1000));
    world.backup();
    world.named.remove("mem:a");
    for round in 0..3u64 {
        world.write(&format!("file {round}"), noise(71 + round, 5000));
        assert_eq!(world.backup().targets_complete, ["mem:b"]);
    }
    world.named.insert(world.faults[0].clone());
    world.named.remove("mem:b");
    let mut open = world.open().unwrap();
    open.repository.remove_target("mem:b").unwrap();
    let options = BackupOptions { force: true, ..world.backup_options() };
    backup(&open.repository, &open.catalog, &options, &Collector::default()).unwrap();
    world.write("last", noise(75, 5000));
    world.backup_with(&open, &Collector::default()).unwrap();
    // The machine is lost too.
    let monitor = Collector::default();
    open.catalog.rebuild(&*world.mem[0], &monitor).unwrap();
    assert!(monitor.faults().is_empty(), "{:?}", monitor.faults());
    let last = open.catalog.snapshots().unwrap().pop().unwrap();
    assert!(world.restored(&open, &last, &*world.mem[0]) == world.truth());
    assert_marks_hold(&open, &*world.mem[0]);
}

/// What a restore of the newest snapshot reads of each file.
fn read_through_restore(open: &Open, snapshot: &Snapshot) -> BTreeMap<PathBuf, Result<Vec<u8>>> {
    let monitor = Collector::default();
    let source = crate::restore::RepositorySource::snapshot(
        &open.repository,
        &open.catalog,
        snapshot,
        KeyRange::all(),
        &monitor,
    )
    .unwrap();
    let mut all = BTreeMap::new();
    for entry in open.catalog.state(snapshot, &KeyRange::all()).unwrap() {
        let (key, version) = entry.unwrap();
        if version.metadata.kind == Kind::File {
            let mut bytes = Vec::new();
            let read = crate::restore::write_contents(&source, &version, &mut bytes);
            all.insert(key.path(), read.map(|_| bytes));
        }
    }
    all
}

#[test]
fn a_pack_that_is_newer_everywhere_costs_only_the_files_in_it() {
    let world = World::new(1);
    populate(&world);
    world.backup();
    let open = world.open().unwrap();
    world.mem[0].tamper(|objects| {
        let pack = objects.keys().find(|key| key.as_str().starts_with("packs/")).unwrap().clone();
        let mut bytes = objects[&pack].to_vec();
        bytes[8] = 2;
        let checksum = xxhash_rust::xxh3::xxh3_64(&bytes[..104]).to_le_bytes();
        bytes[104..112].copy_from_slice(&checksum);
        objects.insert(pack, bytes.into());
    });
    let snapshot = open.catalog.snapshots().unwrap().remove(0);
    let monitor = Collector::default();
    let source = crate::restore::RepositorySource::snapshot(
        &open.repository,
        &open.catalog,
        &snapshot,
        KeyRange::all(),
        &monitor,
    )
    .unwrap();
    let out = tempfile::tempdir().unwrap();
    let options = crate::restore::RestoreOptions::new(out.path().join("out"));
    let summary = crate::restore::restore(&source, &options, &monitor).unwrap();
    assert!(summary.files_restored > 10, "{summary:?}");
    assert!(!monitor.faults().is_empty());
}

/// Two targets, one of which has its packs changed; the other reads as it should.
fn assert_read_in_spite_of(change: impl Fn(&mut Vec<(crate::target::ObjectKey, Vec<u8>)>)) {
    let world = World::new(2);
    populate(&world);
    world.backup();
    let open = world.open().unwrap();
    let is_pack = |key: &crate::target::ObjectKey| key.as_str().starts_with("packs/");
    world.mem[0].tamper(|objects| {
        let mut packs: Vec<_> = objects
            .iter()
            .filter(|(key, _)| is_pack(key))
            .map(|(key, bytes)| (key.clone(), bytes.to_vec()))
            .collect();
        assert!(packs.len() >= 2);
        change(&mut packs);
        objects.extend(packs.into_iter().map(|(key, bytes)| (key, bytes.into())));
    });
    let snapshot = open.catalog.snapshots().unwrap().remove(0);
    for (path, read) in read_through_restore(&open, &snapshot) {
        assert!(read.unwrap() == std::fs::read(&path).unwrap(), "{path:?}");
    }
}

#[test]
fn a_pack_under_the_name_of_another_is_read_from_a_sister() {
    assert_read_in_spite_of(|packs| {
        let first = packs[0].1.clone();
        for at in 1..packs.len() {
            packs[at - 1].1 = packs[at].1.clone();
        }
        packs.last_mut().unwrap().1 = first;
    });
}

#[test]
fn a_pack_that_is_anothers_is_read_from_a_sister() {
    // The commitment of another key, an epoch that never was.
    for (place, value) in [(72, 0x55), (20, 0x55)] {
        assert_read_in_spite_of(|packs| {
            for (_, bytes) in packs {
                bytes[place] ^= value;
                let checksum = xxhash_rust::xxh3::xxh3_64(&bytes[..104]).to_le_bytes();
                bytes[104..112].copy_from_slice(&checksum);
            }
        });
    }
}

#[test]
fn a_pack_that_calls_itself_newer_is_read_from_a_sister() {
    assert_read_in_spite_of(|packs| {
        for (_, bytes) in packs {
            bytes[8] = 2;
            let checksum = xxhash_rust::xxh3::xxh3_64(&bytes[..104]).to_le_bytes();
            bytes[104..112].copy_from_slice(&checksum);
        }
    });
}
