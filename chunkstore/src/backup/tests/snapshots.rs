//! What a snapshot holds, and what making one costs.

use super::*;
use crate::entry_key::EntryKey;
use crate::version::Marks;

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
    let summary = world.backup_in(&open);
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
    let top = EntryKey::from_path(world.source.path()).unwrap();
    for entry in open.catalog.current(timeline.id).unwrap() {
        let entry = entry.unwrap();
        // What leads to the source is other people's, and may change at any time.
        assert!(!entry.key.is_within(&top) || entry.marks == Marks::NONE, "{entry:?}");
    }
}

#[test]
fn a_large_file_goes_through_in_parts() {
    let world = World::new(1);
    let bytes = noise(5, 6 << 20);
    world.write("large", &bytes);
    world.write("small", b"s");
    world.backup();
    let open = world.open().unwrap();
    world.assert_holds(&open, &open.first(), &world.mem[0]);
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
        let key = EntryKey::from_path(world.path(name)).unwrap();
        open.catalog.entry(&snapshots[snapshot], &key).unwrap().map(|version| version.file)
    };
    assert!(file(0, "one").is_some());
    assert_eq!(file(0, "one"), file(1, "three"));
    assert_eq!(file(1, "one"), None);
    assert_eq!(file(0, "two"), file(1, "two"));
    assert_ne!(file(1, "two"), file(1, "copy"), "a copy is another File");
    let key = EntryKey::from_path(world.path("three")).unwrap();
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
        let snapshot = open.last();
        let key = EntryKey::from_path(path).unwrap();
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
    let done = world.backup_in(&open);
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
    world.assert_holds(&open, &open.first(), &world.mem[0]);
    assert!(!is_sparse || summary.bytes_new < 100_000, "{} bytes", summary.bytes_new);
}

#[test]
fn a_locked_catalog_is_said() {
    let world = World::new(1);
    let _open = world.open().unwrap();
    let error: Error = world.open().err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Locked);
}
