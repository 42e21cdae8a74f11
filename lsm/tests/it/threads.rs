//! Writers, readers, flushes and merges at the same time: whoever reads sees one moment, whole batches, and nothing twice.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test: what is wrong stops it")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use lsm::fs::{FileSystem, MemFs};
use lsm::{Batch, Db, Durability, Keyspace, KeyspaceOptions, Tuning};

/// Keys of a group: every batch replaces a whole group.
const GROUP: u8 = 12;

fn running_time() -> Duration {
    let seconds = std::env::var("LSM_THREADS_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    Duration::from_secs_f64(seconds.unwrap_or(1.0))
}

fn open(fs: &Arc<dyn FileSystem>, tuning: &Tuning) -> (Db, Vec<Keyspace>) {
    let db = Db::builder("/db")
        .file_system(Arc::clone(fs))
        .memory_bytes(1 << 20)
        .tuning(tuning.clone())
        .open()
        .unwrap();
    let keyspaces =
        ["one", "two"].iter().map(|name| db.keyspace(name, KeyspaceOptions::sorted()).unwrap()).collect();
    (db, keyspaces)
}

/// Sizes at which flushes and merges never cease, and what a merge reads is spread over many blocks.
fn busy() -> Tuning {
    let mut tuning = Tuning::for_memory(1 << 20);
    tuning.write_buffer_bytes = 20_000;
    tuning.level0_tables = 2;
    tuning.level0_tables_slow = 1000;
    tuning.level1_bytes = 40_000;
    tuning.level_growth = 3;
    tuning.table_bytes = 15_000;
    tuning.block_bytes = 300;
    tuning.step_entries = 50;
    tuning
}

fn key(group: u8, member: u8) -> Vec<u8> {
    format!("group-{group:02}/member-{member:02}").into_bytes()
}

/// Replaces a group in both keyspaces: by a range delete and puts, by puts alone, or by deletes and puts.
fn replace(batch: &mut Batch, keyspaces: &[Keyspace], group: u8, version: u64) {
    for keyspace in keyspaces {
        match version % 3 {
            0 => batch.delete_prefix(keyspace, format!("group-{group:02}/")),
            1 => {}
            _ => (0..GROUP).for_each(|member| batch.delete(keyspace, key(group, member))),
        }
        for member in 0..GROUP {
            batch.put(
                keyspace,
                key(group, member),
                format!("{version} {}", "x".repeat(usize::from(member) * 3)),
            );
        }
    }
}

fn version_of(value: &[u8]) -> u64 {
    std::str::from_utf8(value).unwrap().split(' ').next().unwrap().parse().unwrap()
}

/// All members of a group have one version; returns it.
fn same_version(found: &[(Vec<u8>, Vec<u8>)], group: u8, how: &str) -> u64 {
    let keys: Vec<Vec<u8>> = found.iter().map(|(key, _)| key.clone()).collect();
    let expected: Vec<Vec<u8>> = (0..GROUP).map(|member| key(group, member)).collect();
    assert_eq!(keys, expected, "{how}: every member once");
    let version = version_of(&found[0].1);
    assert!(found.iter().all(|(_, value)| version_of(value) == version), "{how}: a batch by half: {found:?}");
    version
}

fn prefix(group: u8) -> String {
    format!("group-{group:02}/")
}

fn owned(item: lsm::Result<(lsm::Value, lsm::Value)>) -> (Vec<u8>, Vec<u8>) {
    let (key, value) = item.unwrap();
    (key.to_vec(), value.to_vec())
}

fn read(db: &Db, keyspaces: &[Keyspace], group: u8, round: u64) -> u64 {
    let keys: Vec<Vec<u8>> = (0..GROUP).map(|member| key(group, member)).collect();
    let zip = |values: Vec<Option<lsm::Value>>| -> Vec<(Vec<u8>, Vec<u8>)> {
        keys.iter()
            .cloned()
            .zip(values.into_iter().map(|value| value.expect("a member is never gone").to_vec()))
            .collect()
    };
    match round % 4 {
        0 => {
            same_version(&keyspaces[0].prefix(prefix(group)).map(owned).collect::<Vec<_>>(), group, "forward")
        }
        1 => {
            let mut found: Vec<_> = keyspaces[1].prefix(prefix(group)).rev().map(owned).collect();
            found.reverse();
            same_version(&found, group, "backward")
        }
        2 => same_version(&zip(keyspaces[0].multi_get(&keys).unwrap()), group, "multi_get"),
        _ => {
            let snapshot = db.snapshot();
            let one = same_version(
                &snapshot.prefix(&keyspaces[0], prefix(group)).map(owned).collect::<Vec<_>>(),
                group,
                "snapshot",
            );
            std::thread::yield_now();
            let two = same_version(
                &zip(snapshot.multi_get(&keyspaces[1], &keys).unwrap()),
                group,
                "snapshot, multi_get",
            );
            assert_eq!(one, two, "both keyspaces as of one moment");
            let gets: Vec<_> = keys
                .iter()
                .map(|key| {
                    (key.clone(), snapshot.get(&keyspaces[0], key).unwrap().expect("a member").to_vec())
                })
                .collect();
            assert_eq!(one, same_version(&gets, group, "snapshot, get"));
            one
        }
    }
}

#[test]
fn readers_see_whole_batches_while_everything_moves() {
    let fs: Arc<dyn FileSystem> = Arc::new(MemFs::new());
    let (db, keyspaces) = open(&fs, &busy());
    let groups = 8u8;
    // Acknowledged: what a reader that begins now must see at least.
    let committed: Vec<AtomicU64> = (0..groups).map(|_| AtomicU64::new(0)).collect();
    for group in 0..groups {
        let mut batch = Batch::new();
        replace(&mut batch, &keyspaces, group, 0);
        db.commit(batch, Durability::System).unwrap();
    }
    let stop = AtomicBool::new(false);
    let until = Instant::now() + running_time();
    std::thread::scope(|scope| {
        for writer in 0..2u8 {
            let (db, keyspaces, committed, stop) = (&db, &keyspaces, &committed, &stop);
            scope.spawn(move || {
                let mut version = 0;
                while !stop.load(Ordering::Relaxed) {
                    version += 1;
                    for group in (0..groups).filter(|group| group % 2 == writer) {
                        let mut batch = Batch::new();
                        replace(&mut batch, keyspaces, group, version);
                        let durability =
                            if version % 50 == 0 { Durability::Synced } else { Durability::System };
                        db.commit(batch, durability).unwrap();
                        committed[usize::from(group)].store(version, Ordering::SeqCst);
                    }
                }
            });
        }
        for reader in 0..2u64 {
            let (db, keyspaces, committed, stop) = (&db, &keyspaces, &committed, &stop);
            scope.spawn(move || {
                let mut seen = [[0; 2]; 8];
                let mut round = reader;
                while !stop.load(Ordering::Relaxed) {
                    round += 1;
                    let group = u8::try_from((round / 4) % u64::from(groups)).unwrap();
                    let at_least = committed[usize::from(group)].load(Ordering::SeqCst);
                    let version = read(db, keyspaces, group, round);
                    assert!(
                        version >= at_least,
                        "group {group}: {version} is older than {at_least}, acknowledged before"
                    );
                    let last = &mut seen[usize::from(group)][0];
                    assert!(version >= *last, "group {group}: time goes backwards");
                    *last = version;
                }
            });
        }
        // A long scan, held over many flushes and merges, sees the moment when it was begun.
        let (db, keyspaces, stop) = (&db, &keyspaces, &stop);
        scope.spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let snapshot = db.snapshot();
                let mut ends = [snapshot.iter(&keyspaces[0]), keyspaces[1].iter()];
                let mut found = [Vec::new(), Vec::new()];
                for index in 0..usize::from(groups * GROUP) {
                    if index % 10 == 0 {
                        std::thread::sleep(Duration::from_millis(2));
                    }
                    for (scan, found) in ends.iter_mut().zip(&mut found) {
                        found.push(owned(scan.next().expect("all groups are there")));
                    }
                }
                assert!(ends.iter_mut().all(|scan| scan.next().is_none()));
                for found in found {
                    for (group, members) in (0..groups).zip(found.chunks(usize::from(GROUP))) {
                        same_version(members, group, "long scan");
                    }
                }
            }
        });
        // Another process, as it were: each opening sees at least what was acknowledged before it.
        let (fs, committed) = (&fs, &committed);
        scope.spawn(move || {
            let mut round = 0;
            while !stop.load(Ordering::Relaxed) {
                round += 1;
                let at_least: Vec<u64> =
                    committed.iter().map(|version| version.load(Ordering::SeqCst)).collect();
                let other = Db::builder("/db").file_system(Arc::clone(fs)).read_only(true).open().unwrap();
                let keyspaces =
                    ["one", "two"].map(|name| other.keyspace(name, KeyspaceOptions::sorted()).unwrap());
                for (group, at_least) in (0..groups).zip(at_least) {
                    let version = read(&other, &keyspaces, group, round);
                    assert!(
                        version >= at_least,
                        "group {group}, read-only: {version}, {at_least} was acknowledged"
                    );
                }
            }
        });
        scope.spawn(move || {
            while Instant::now() < until {
                std::thread::sleep(Duration::from_millis(20));
            }
            stop.store(true, Ordering::Relaxed);
        });
    });
    let stats = db.stats();
    assert!(stats.flushes > 3 && stats.compactions > 3, "there was something to race with: {stats:?}");
    let report = db.check().unwrap();
    assert!(report.is_clean(), "{report:?}");
    db.compact().unwrap();
    let report = db.check().unwrap();
    assert!(report.is_clean(), "{report:?}");
    for group in 0..groups {
        for round in 0..4 {
            assert_eq!(
                read(&db, &keyspaces, group, round),
                committed[usize::from(group)].load(Ordering::SeqCst)
            );
        }
    }
}
