//! Segments that no target has any more: what is backed up from then on does without them.

use super::*;
use crate::catalog::Basis;
use crate::entry_key::EntryKey;
use crate::id::FileId;
use crate::segment::SegmentName;
use crate::target::ObjectKey;

impl World {
    /// The same targets, seen from a machine that knows nothing.
    fn elsewhere(&self) -> World {
        World {
            source: tempfile::tempdir().unwrap(),
            state: crate::testing::state_dir(),
            named: self.named.clone(),
            mem: self.mem.clone(),
            faults: self.faults.clone(),
            records: self.records.clone(),
        }
    }

    /// Opens what a machine finds that knows nothing, and lists what each target has.
    fn open_elsewhere(&self) -> (World, Open) {
        let other = self.elsewhere();
        let open = other.open().unwrap();
        for (entry, target) in open.repository.reachable() {
            let number = open.catalog.target(entry.url()).unwrap();
            open.catalog.record_listing(number, "packs", &target.list("packs").unwrap()).unwrap();
        }
        (other, open)
    }

    /// Asserts that a machine that knows nothing finds the newest snapshot, and in it what the source holds now, on each target.
    fn assert_newest_is_exact_elsewhere(&self) {
        let (_other, open) = self.open_elsewhere();
        let snapshot = open.catalog.snapshots().unwrap().pop().unwrap();
        for target in &self.mem {
            assert!(
                self.restored(&open, &snapshot, &**target) == self.truth(),
                "snapshot {:?}",
                snapshot.number
            );
        }
    }

    fn key(&self, name: &str) -> EntryKey {
        EntryKey::from_path(self.path(name)).unwrap()
    }

    fn latest(&self, open: &Open, name: &str) -> Version {
        let timeline = open
            .catalog
            .timeline(b"host", &[self.source.path().as_os_str().as_encoded_bytes().to_vec()])
            .unwrap();
        open.catalog.latest(timeline.id, &self.key(name)).unwrap().unwrap()
    }
}

/// The segments that commit runs, in their order.
fn commits(open: &Open) -> Vec<SegmentName> {
    let segments = open.catalog.segments().unwrap();
    segments.iter().filter(|segment| segment.flags.commits).map(|segment| segment.name).collect()
}

fn lose(world: &World, key: &ObjectKey) {
    for target in &world.mem {
        target.delete(key).unwrap();
    }
}

fn is_afresh(open: &Open, summary: &BackupSummary) -> bool {
    let snapshot = open.catalog.snapshot(summary.snapshot.unwrap()).unwrap().unwrap();
    summary.parent.is_some() && snapshot.parent.is_none()
}

#[test]
fn a_snapshot_says_everything_again_when_a_segment_is_lost_and_the_next_ones_do_not() {
    let world = World::new(2);
    populate(&world);
    std::fs::hard_link(world.path("large"), world.path("large too")).unwrap();
    settle();
    world.backup();
    world.write("d1/f1", noise(1, 2000));
    world.write("pair", noise(2, 3000));
    std::fs::hard_link(world.path("pair"), world.path("pair too")).unwrap();
    settle();
    world.backup();
    settle();
    world.backup();
    let open = world.open().unwrap();
    let before: Vec<FileId> = ["large", "d1/f1", "pair"].map(|name| world.latest(&open, name).file).to_vec();
    let lost = commits(&open)[1];
    lose(&world, &lost.key());
    drop(open);
    world.write("d2/f2", noise(3, 100));
    std::fs::remove_file(world.path("d3/f3")).unwrap();
    settle();
    let open = world.open().unwrap();
    let monitor = Collector::default();
    let summary = world.backup_with(&open, &monitor).unwrap();
    assert!(is_afresh(&open, &summary));
    assert_eq!((summary.files_changed, summary.entries_gone, summary.chunks_new), (1, 1, 1));
    assert_eq!(summary.targets_complete.len(), 2, "what is lost nobody lacks: {summary:?}");
    assert!(monitor.notes().iter().any(|note| note.contains("says everything again")));
    let after: Vec<FileId> = ["large", "d1/f1", "pair"].map(|name| world.latest(&open, name).file).to_vec();
    assert_eq!(before, after, "Files stay who they are");
    let group = |name: &str| {
        let metadata = world.latest(&open, name).metadata;
        (metadata.device, metadata.inode, metadata.links)
    };
    assert_eq!((group("large"), group("pair")), (group("large too"), group("pair too")));
    assert_ne!(group("large").0, group("pair").0, "inodes that were seen at different times are told apart");
    world.assert_newest_is_exact_elsewhere();
    let (_other, elsewhere) = world.open_elsewhere();
    let roots = [world.source.path().as_os_str().as_encoded_bytes().to_vec()];
    let goes_on = elsewhere.catalog.timeline(b"host", &roots).unwrap();
    let newest = elsewhere.catalog.snapshots().unwrap().pop().unwrap();
    assert_eq!(goes_on.id, newest.timeline, "who takes over goes on from the newest");
    drop(elsewhere);
    world.records[0].take_calls();
    let summary = world.backup_with(&open, &Collector::default()).unwrap();
    assert!(!is_afresh(&open, &summary));
    assert_eq!((summary.files_changed, summary.files_new), (0, 0));
    assert!(world.records[0].bytes_put() < 10_000, "{} bytes", world.records[0].bytes_put());
    world.assert_newest_is_exact_elsewhere();
}

#[test]
fn contents_whose_lists_were_in_a_lost_segment_are_written_again() {
    let world = World::new(1);
    world.write("large", noise(1, 700_000));
    settle();
    world.backup();
    world.write("large", noise(2, 700_000));
    settle();
    world.backup();
    let open = world.open().unwrap();
    lose(&world, &commits(&open)[0].key());
    assert!(is_afresh(&open, &world.backup_with(&open, &Collector::default()).unwrap()));
    world.write("large", noise(1, 700_000));
    settle();
    let summary = world.backup_with(&open, &Collector::default()).unwrap();
    assert_eq!((summary.files_changed, summary.chunks_new, is_afresh(&open, &summary)), (1, 0, false));
    world.assert_newest_is_exact_elsewhere();
}

#[test]
fn a_segment_that_some_target_or_the_outbox_has_is_not_lost() {
    let world = World::new(2);
    populate(&world);
    world.backup();
    let open = world.open().unwrap();
    let first = commits(&open)[0].key();
    // One target has it.
    world.mem[0].delete(&first).unwrap();
    let summary = world.backup_with(&open, &Collector::default()).unwrap();
    assert!(!is_afresh(&open, &summary));
    assert!(world.mem[0].length(&first).unwrap().is_some(), "it was caught up");
    // One that is away has it.
    world.mem[0].delete(&first).unwrap();
    world.faults[1].add(Rule::dies_after(0));
    drop(open);
    let open = world.open().unwrap();
    let summary = world.backup_with(&open, &Collector::default()).unwrap();
    assert!(!is_afresh(&open, &summary));
    // The same, though nobody knows what that one has.
    open.catalog.forget_target(open.catalog.target("mem:b").unwrap()).unwrap();
    let summary = world.backup_with(&open, &Collector::default()).unwrap();
    assert!(!is_afresh(&open, &summary));
    // The outbox has the newest.
    world.faults[1].clear();
    let newest = commits(&open).last().unwrap().key();
    lose(&world, &newest);
    drop(open);
    let open = world.open().unwrap();
    let summary = world.backup_with(&open, &Collector::default()).unwrap();
    assert!(!is_afresh(&open, &summary));
    world.assert_newest_is_exact_elsewhere();
}

#[test]
fn a_segment_that_is_known_to_be_damaged_everywhere_or_has_another_length_is_lost() {
    for cut in [false, true] {
        let world = World::new(1);
        populate(&world);
        settle();
        world.backup();
        world.backup();
        let open = world.open().unwrap();
        let first = commits(&open)[0].key();
        let mut bytes = world.mem[0].get(&first).unwrap();
        if cut {
            bytes.pop();
        } else {
            bytes[100] ^= 1;
        }
        world.mem[0].delete(&first).unwrap();
        world.mem[0].put(&first, &[&bytes]).unwrap();
        let options = VerifyOptions { data: ReadData::All, ..VerifyOptions::default() };
        verify_with_catalog(&open.repository, &open.catalog, "host", &options, &Collector::default())
            .unwrap();
        let summary = world.backup_with(&open, &Collector::default()).unwrap();
        assert!(is_afresh(&open, &summary), "cut: {cut}");
        world.assert_newest_is_exact_elsewhere();
    }
}

/// Two timelines with the same bytes, stored by the first. The segment that told of them is lost, and a new machine takes over.
fn two_timelines(length: usize) -> (World, World) {
    let world = World::new(1);
    world.write("one/file", noise(1, length));
    world.write("other/file", noise(1, length));
    settle();
    let open = world.open().unwrap();
    of(&world, &open, "one");
    of(&world, &open, "other");
    lose(&world, &commits(&open)[0].key());
    drop(open);
    let fresh = world.elsewhere();
    (world, fresh)
}

fn of(world: &World, open: &Open, name: &str) -> BackupSummary {
    let options = BackupOptions::new("host", vec![world.path(name)]);
    backup(&open.repository, &open.catalog, &options, &Collector::default()).unwrap()
}

fn assert_other_is_exact(world: &World, length: usize) {
    let (_later, open) = world.open_elsewhere();
    let snapshot = open.catalog.snapshots().unwrap().pop().unwrap();
    let restored = world.restored(&open, &snapshot, &*world.mem[0]);
    assert!(restored[Path::new("other/file")].1.as_deref() == Some(&noise(1, length)[..]));
}

#[test]
fn a_file_whose_lists_are_not_known_is_read_again() {
    let (world, fresh) = two_timelines(700_000);
    let open = fresh.open().unwrap();
    assert_eq!(open.catalog.snapshots().unwrap().len(), 1);
    let summary = of(&world, &open, "other");
    assert_eq!((summary.files_new, summary.files_changed), (0, 0), "{summary:?}");
    assert_eq!(summary.chunks_new, 0, "the packs of the lost segment are told of again");
    assert_other_is_exact(&world, 700_000);
    assert_eq!(open.catalog.unlogged_packs().unwrap().len(), 0);
}

#[test]
fn a_file_whose_chunks_nobody_knows_is_read_again() {
    for length in [2000, 700_000] {
        let (world, fresh) = two_timelines(length);
        for pack in world.mem[0].list("packs").unwrap() {
            world.mem[0].delete(&pack.key).unwrap();
        }
        let open = fresh.open().unwrap();
        let summary = of(&world, &open, "other");
        assert!(summary.chunks_new > 0, "{summary:?}");
        assert_other_is_exact(&world, length);
        assert_eq!(of(&world, &open, "other").chunks_new, 0);
    }
}

#[test]
fn a_file_whose_pack_vanishes_before_a_segment_tells_of_it_again_is_read_again() {
    let (world, fresh) = two_timelines(2000);
    let open = fresh.open().unwrap();
    assert_eq!(open.catalog.unlogged_packs().unwrap().len(), 1);
    for pack in world.mem[0].list("packs").unwrap() {
        world.mem[0].delete(&pack.key).unwrap();
    }
    assert!(of(&world, &open, "other").chunks_new > 0);
    assert_other_is_exact(&world, 2000);
}

#[test]
fn packs_of_who_is_at_work_are_not_told_of_by_another() {
    let (world, fresh) = two_timelines(2000);
    let pack = world.mem[0].list("packs").unwrap().remove(0).key;
    let bytes = world.mem[0].get(&pack).unwrap();
    let open = fresh.open().unwrap();
    let intent = Reader::open(&bytes[..], open.repository.secrets().unwrap()).unwrap().header().intent;
    let other = crate::repository::intent::Intent::new(crate::id::WriterId::random().unwrap(), "x").unwrap();
    crate::repository::intent::Intent { id: intent, ..other }.put(&*world.mem[0]).unwrap();
    assert!(of(&world, &open, "other").chunks_new > 0, "stored again");
    assert_eq!(open.catalog.unlogged_packs().unwrap().len(), 1);
}

#[test]
fn losses_that_harm_nobody_are_looked_for_once() {
    let world = World::new(1);
    world.write("kept", noise(1, 5000));
    world.write("lost", noise(2, 300_000));
    settle();
    world.backup();
    let open = world.open().unwrap();
    let pack_of = |name: &str| {
        let version = world.latest(&open, name);
        open.catalog.spans(&version.contents).unwrap().last().unwrap().unwrap().places[0].pack
    };
    let pack = pack_of("lost");
    assert_ne!(pack, pack_of("kept"), "or this tests nothing");
    lose(&world, &ObjectName::Pack(pack).key());
    std::fs::remove_file(world.path("lost")).unwrap();
    settle();
    let timeline = || open.catalog.timelines().unwrap().remove(0);
    let is_noted = || {
        let losses = open.catalog.losses().unwrap();
        assert!(!losses.is_none());
        // Looked at without what was noted, the first snapshot's head suffers or does not; with it, nothing is read.
        open.catalog.is_unharmed(&timeline(), &losses).unwrap()
    };
    let summary = world.backup_with(&open, &Collector::default()).unwrap();
    assert!(is_noted(), "the new snapshot does not need it");
    assert_eq!(summary.targets_complete, ["mem:a"]);
    // Something else is lost.
    lose(&world, &ObjectName::Pack(pack_of("kept")).key());
    let summary = world.backup_with(&open, &Collector::default()).unwrap();
    assert!(summary.chunks_new > 0, "it was read again");
    assert_eq!(summary.targets_complete, ["mem:a"], "and so it is whole again");
    assert!(is_noted());
}

#[test]
fn packs_that_only_a_lost_segment_told_of_are_told_of_again() {
    let world = World::new(1);
    let other = world.elsewhere();
    for name in ["big", "small"] {
        other.write(name, noise(7, 30_000));
        world.write(name, noise(7, 30_000));
    }
    settle();
    other.backup();
    let theirs = commits(&other.open().unwrap());
    let open = world.open().unwrap();
    assert_eq!(
        world.backup_with(&open, &Collector::default()).unwrap().chunks_new,
        0,
        "or this tests nothing"
    );
    drop(open);
    // The only one of its log: nothing stands on it, so nobody who comes later misses it.
    lose(&world, &theirs[0].key());
    for pass in 0..2 {
        let summary = world.backup();
        assert_eq!((summary.chunks_new, summary.targets_complete.len()), (0, 1), "pass {pass}");
        world.assert_newest_is_exact_elsewhere();
    }
}

#[test]
fn disks_that_take_turns_lose_nothing() {
    let world = World::new(2);
    let other = world.elsewhere();
    world.write("mine", noise(1, 3000));
    other.write("theirs", noise(2, 3000));
    settle();
    world.backup();
    let away = |index: usize| world.faults[index].add(Rule::dies_after(0));
    for round in 0..3u64 {
        away(1);
        other.write("theirs", noise(10 + round, 3000));
        settle();
        other.backup();
        world.backup();
        world.faults[1].clear();
        away(0);
        let open = world.open().unwrap();
        let summary = world.backup_with(&open, &Collector::default()).unwrap();
        assert!(!is_afresh(&open, &summary), "round {round}");
        world.faults[0].clear();
    }
}

#[test]
fn the_basis_of_a_timeline_without_snapshots_is_no_list() {
    let world = World::new(1);
    world.write("file", "x");
    world.backup();
    let open = world.open().unwrap();
    let lost = commits(&open);
    let new = open.catalog.timeline(b"another host", &[b"/".to_vec()]).unwrap();
    assert_eq!(open.catalog.basis(&new, &[]).unwrap(), Basis::Whole);
    assert_eq!(open.catalog.basis(&new, &lost).unwrap(), Basis::WithoutLists);
    let old = open.catalog.timelines().unwrap().remove(0);
    assert_eq!(open.catalog.basis(&old, &lost).unwrap(), Basis::Nothing);
    open.catalog.note_without(old.id, &lost).unwrap();
    assert_eq!(open.catalog.basis(&old, &lost).unwrap(), Basis::WithoutLists);
}
