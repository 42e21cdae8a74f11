//! What is bad on a target: segments and packs that are damaged, gone, swapped or of another time.

use super::*;
use crate::restore::{RepositorySource, RestoreOptions, restore, write_contents};
use crate::target::ObjectKey;
use crate::testing::renew_checksum;

#[test]
fn a_segment_that_is_damaged_where_it_is_stays_in_the_outbox_until_it_is_healed() {
    let world = World::new(1);
    populate(&world);
    world.backup();
    // The outbox keeps the newest; on the target it goes bad.
    let segment = world.mem[0].list("segments").unwrap().remove(0).key;
    let good = world.mem[0].get(&segment).unwrap();
    world.mem[0].flip(&segment, 200);
    let verify = |heal| world.open().unwrap().verify(heal).0.outcome();
    assert_eq!(verify(false), Outcome::Damaged);
    world.backup();
    world.backup();
    assert_eq!(verify(true), Outcome::Healed);
    assert_eq!(world.mem[0].get(&segment).unwrap(), good);
    assert_clean(&world.open().unwrap());
}

fn is_pack(key: &ObjectKey) -> bool {
    key.as_str().starts_with("packs/")
}

#[test]
fn a_pack_that_is_gone_is_stored_again_when_its_bytes_are_met() {
    let world = World::new(1);
    populate(&world);
    world.backup();
    world.mem[0].tamper(|objects| {
        let packs: Vec<_> = objects.keys().filter(|key| is_pack(key)).cloned().collect();
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
    let again = world.backup_in(&open);
    assert_eq!((again.chunks_new, again.files_changed), (0, 0), "once");
    assert!(
        world.restored(&open, &open.first(), &*world.mem[0]) == world.truth(),
        "the first snapshot is whole again too"
    );
}

/// The whole of a snapshot, as a restore reads it.
fn source<'a>(open: &'a Open, snapshot: &Snapshot, monitor: &'a dyn Monitor) -> RepositorySource<'a> {
    RepositorySource::snapshot(&open.repository, &open.catalog, snapshot, KeyRange::all(), monitor).unwrap()
}

/// What a restore of the newest snapshot reads of each file.
fn read_through_restore(open: &Open, snapshot: &Snapshot) -> BTreeMap<PathBuf, Result<Vec<u8>>> {
    let monitor = Collector::default();
    let source = source(open, snapshot, &monitor);
    let mut all = BTreeMap::new();
    for entry in open.catalog.state(snapshot, &KeyRange::all()).unwrap() {
        let (key, version) = entry.unwrap();
        if version.metadata.kind == Kind::File {
            let mut bytes = Vec::new();
            let read = write_contents(&source, &version, &mut bytes);
            all.insert(key.path(), read.map(|_| bytes));
        }
    }
    all
}

/// A pack is of a later format.
fn call_newer(pack: &mut [u8]) {
    pack[8] = 2;
    renew_checksum(pack);
}

#[test]
fn a_pack_that_is_newer_everywhere_costs_only_the_files_in_it() {
    let world = World::new(1);
    populate(&world);
    world.backup();
    let open = world.open().unwrap();
    world.mem[0].tamper(|objects| {
        let pack = objects.keys().find(|key| is_pack(key)).unwrap().clone();
        let mut bytes = objects[&pack].to_vec();
        call_newer(&mut bytes);
        objects.insert(pack, bytes.into());
    });
    let monitor = Collector::default();
    let source = source(&open, &open.first(), &monitor);
    let out = tempfile::tempdir().unwrap();
    let options = RestoreOptions::new(out.path().join("out"));
    let summary = restore(&source, &options, &monitor).unwrap();
    assert!(summary.files_restored > 10, "{summary:?}");
    assert!(!monitor.faults().is_empty());
}

/// Two targets, one of which has its packs changed; the other reads as it should.
fn assert_read_in_spite_of(change: impl Fn(&mut Vec<(ObjectKey, Vec<u8>)>)) {
    let world = World::new(2);
    populate(&world);
    world.backup();
    let open = world.open().unwrap();
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
    for (path, read) in read_through_restore(&open, &open.first()) {
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
                renew_checksum(bytes);
            }
        });
    }
}

#[test]
fn a_pack_that_calls_itself_newer_is_read_from_a_sister() {
    assert_read_in_spite_of(|packs| {
        packs.iter_mut().for_each(|(_, bytes)| call_newer(bytes));
    });
}

#[test]
fn a_target_that_is_known_to_hold_something_damaged_is_not_whole() {
    let world = World::new(2);
    populate(&world);
    world.backup();
    let open = world.open().unwrap();
    let pack = world.mem[0].list("packs").unwrap().remove(0).key;
    let mut bytes = world.mem[0].get(&pack).unwrap();
    bytes[100] ^= 1;
    world.mem[0].delete(&pack).unwrap();
    world.mem[0].put(&pack, &[&bytes]).unwrap();
    let check = |heal| {
        let options = VerifyOptions { data: ReadData::All, heal };
        verify_with_catalog(&open.repository, &open.catalog, "host", &options, &Collector::default())
            .unwrap();
    };
    check(false);
    let summary = world.backup_in(&open);
    assert_eq!(
        (summary.targets_complete, summary.targets_behind),
        (vec!["mem:b".to_owned()], vec!["mem:a".to_owned()])
    );
    check(true);
    assert_eq!(world.backup_in(&open).targets_complete, ["mem:a", "mem:b"]);
}
