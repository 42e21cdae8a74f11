//! Keyspaces of fixed widths through the public face: what is refused, what range deletes mean, and that no kind of key makes an answer wrong.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lsm::fs::{Fault, FaultCall, FaultEffect, FaultFs, FileSystem, MemFs};
use lsm::{Background, Batch, Db, Durability, ErrorKind, Keyspace, KeyspaceOptions, Tuning};

use crate::support::Random;

fn open_on(fs: &MemFs) -> Db {
    let fs: Arc<dyn FileSystem> = Arc::new(fs.clone());
    let mut tuning = Tuning::for_memory(1 << 20);
    tuning.write_buffer_bytes = 40_000;
    tuning.table_bytes = 20_000;
    tuning.tier_runs = 3;
    let db = Db::builder("/db")
        .file_system(fs)
        .background(Background::Manual)
        .memory_bytes(1 << 20)
        .tuning(tuning);
    db.open().unwrap()
}

fn fixed(db: &Db, key: usize, value: usize) -> Keyspace {
    db.keyspace("rows", KeyspaceOptions::fixed(key, value).unwrap()).unwrap()
}

#[test]
fn what_has_another_width_is_refused_when_it_is_added() {
    let db = open_on(&MemFs::new());
    let rows = fixed(&db, 4, 2);
    for (key, value) in [("abc", "xy"), ("abcde", "xy"), ("abcd", "x"), ("abcd", "xyz")] {
        let mut batch = Batch::new();
        batch.put(&rows, "good", "ok");
        batch.put(&rows, key, value);
        let fault = batch.fault().unwrap().to_string();
        assert!(fault.contains("\"rows\"") && fault.contains("bytes"), "{fault}");
        assert_eq!(db.commit(batch, Durability::System).unwrap_err().kind(), ErrorKind::InvalidArgument);
        assert_eq!(rows.put(key, value).unwrap_err().kind(), ErrorKind::InvalidArgument);
    }
    assert_eq!(rows.delete("abc").unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert_eq!(rows.iter().count(), 0, "nothing of a batch that is refused is there");
    rows.put("abcd", "xy").unwrap();
    assert_eq!(
        (rows.get("abc").unwrap(), rows.get("abcde").unwrap()),
        (None, None),
        "a key that cannot be is not there"
    );
}

#[test]
fn kind_and_widths_are_a_keyspaces_identity() {
    let fs = MemFs::new();
    let db = open_on(&fs);
    fixed(&db, 4, 2).put("abcd", "xy").unwrap();
    db.keyspace("sorted", KeyspaceOptions::sorted()).unwrap();
    db.close().unwrap();
    let db = open_on(&fs);
    for (name, options) in [
        ("rows", KeyspaceOptions::sorted()),
        ("rows", KeyspaceOptions::fixed(4, 3).unwrap()),
        ("sorted", KeyspaceOptions::fixed(4, 2).unwrap()),
    ] {
        let error = db.keyspace(name, options).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(
            error.to_string().contains("fixed, 4 + ") && error.to_string().contains("sorted")
                || error.to_string().contains("4 + 3"),
            "{error}"
        );
    }
    assert_eq!(fixed(&db, 4, 2).get("abcd").unwrap().as_deref(), Some(&b"xy"[..]));
    assert!(KeyspaceOptions::fixed(0, 1).is_err() && KeyspaceOptions::fixed(257, 1).is_err());
}

#[test]
fn a_range_delete_takes_what_was_there_and_what_its_batch_put_before() {
    let fs = MemFs::new();
    let db = open_on(&fs);
    let rows = fixed(&db, 2, 1);
    let sorted = db.keyspace("sorted", KeyspaceOptions::sorted()).unwrap();
    for key in ["aa", "ab", "ba", "bb", "ca"] {
        rows.put(key, "1").unwrap();
        sorted.put(key, "1").unwrap();
    }
    db.flush().unwrap();
    let before = db.snapshot();
    let mut batch = Batch::new();
    for keyspace in [&rows, &sorted] {
        batch.put(keyspace, "ac", "2");
        batch.delete(keyspace, "aa");
        batch.delete_prefix(keyspace, "a");
        batch.put(keyspace, "ab", "3");
        batch.delete_range(keyspace, "bb".."c");
        batch.delete_range(keyspace, "x".."z");
    }
    db.commit(batch, Durability::Synced).unwrap();
    let shown = |keyspace: &Keyspace| -> Vec<_> { keyspace.iter().map(Result::unwrap).collect() };
    assert_eq!(shown(&rows), shown(&sorted));
    assert_eq!(shown(&rows).iter().map(|(key, _)| key.to_vec()).collect::<Vec<_>>(), [b"ab", b"ba", b"ca"]);
    assert_eq!(before.iter(&rows).count(), 5);
    drop((rows, sorted, db));
    let db = open_on(&fs.snapshot());
    assert_eq!(fixed(&db, 2, 1).iter().count(), 3, "a log has deletions, no ranges");
    assert!(db.check().unwrap().is_clean());
}

/// Keys of the largest width, in order.
fn large_key(number: u32) -> [u8; 256] {
    let mut key = [7; 256];
    key[..4].copy_from_slice(&number.to_be_bytes());
    key
}

/// Of how many rows the keys take so many mebibytes.
const fn rows_of(mebibytes: u32) -> u32 {
    mebibytes * 4096
}

fn many_large(fs: &MemFs, count: u32) -> (Db, Keyspace) {
    let builder = Db::builder("/db").file_system(Arc::new(fs.clone())).background(Background::Manual);
    let db = builder.memory_bytes(64 << 20).open().unwrap();
    let rows = fixed(&db, 256, 0);
    let mut load = rows.ingest().unwrap();
    (0..count).for_each(|number| load.put(large_key(number), []).unwrap());
    load.finish().unwrap();
    (db, rows)
}

#[test]
fn a_range_of_many_rows_is_deleted_in_parts() {
    let fs = MemFs::new();
    let count = rows_of(5);
    let (db, rows) = many_large(&fs, count);
    let before = db.snapshot();
    let batches = db.stats().commits;
    let last = rows.delete_range(large_key(100)..=large_key(count - 101)).unwrap();
    let parts = db.stats().commits - batches;
    assert!((5..10).contains(&parts), "{parts} parts");
    assert_eq!(last, db.stats().visible);
    let left = |rows: &Keyspace| rows.iter().map(|row| row.unwrap().0.to_vec()).collect::<Vec<_>>();
    let expected: Vec<_> =
        (0..100).chain(count - 100..count).map(|number| large_key(number).to_vec()).collect();
    assert_eq!(left(&rows), expected);
    assert_eq!(before.iter(&rows).count(), count as usize, "a snapshot sees all of them");
    drop(before);
    // Few are deleted at once, and none by none.
    let batches = db.stats().commits;
    rows.delete_prefix(&large_key(50)[..4]).unwrap();
    assert_eq!(db.stats().commits, batches + 1);
    rows.delete_range(large_key(1000)..large_key(2000)).unwrap();
    rows.delete_range(large_key(3000)..large_key(2000)).unwrap();
    assert_eq!(db.stats().commits, batches + 1, "none by none");
    assert_eq!(left(&rows).len(), 199);
    drop((rows, db));
    let builder = Db::builder("/db").file_system(Arc::new(fs.clone())).background(Background::Manual);
    let db = builder.open().unwrap();
    assert_eq!(fixed(&db, 256, 0).iter().count(), 199);
    assert!(db.check().unwrap().is_clean());
}

#[test]
fn a_range_that_was_deleted_by_half_has_lost_whole_parts() {
    let fs = MemFs::new();
    let count = rows_of(5);
    let (db, rows) = many_large(&fs, count);
    drop(rows);
    db.close().unwrap();
    let faults = FaultFs::new(Arc::new(fs.clone()));
    let builder = Db::builder("/db").file_system(Arc::new(faults.clone())).background(Background::Manual);
    let db = builder.open().unwrap();
    let rows = fixed(&db, 256, 0);
    // There is a log, and the range has been looked through.
    rows.put([255; 256], []).unwrap();
    faults.inject(Fault::once(FaultCall::Write, 3, FaultEffect::Error).on(".log"));
    assert_eq!(rows.delete_range(..large_key(count)).unwrap_err().kind(), ErrorKind::Io);
    drop((rows, db));
    let builder = Db::builder("/db").file_system(Arc::new(fs)).background(Background::Manual);
    let db = builder.open().unwrap();
    let left: Vec<_> = fixed(&db, 256, 0).iter().map(|row| row.unwrap().0.to_vec()).collect();
    let gone = count as usize + 1 - left.len();
    assert!((2000..count as usize - 2000).contains(&gone), "{gone} of {count}");
    let first = u32::try_from(gone).unwrap();
    assert!(
        left[..left.len() - 1].iter().cloned().eq((first..count).map(|number| large_key(number).to_vec()))
    );
}

#[test]
fn beside_somebody_who_writes_a_range_is_deleted_all_the_same() {
    let db = Db::builder("/db").file_system(Arc::new(MemFs::new())).open().unwrap();
    let rows = fixed(&db, 4, 0);
    let other = db.keyspace("other", KeyspaceOptions::sorted()).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                other.put("written", "again and again").unwrap();
            }
        });
        for round in 0..200_u32 {
            for number in 0..20_u32 {
                rows.put(number.to_be_bytes(), []).unwrap();
            }
            rows.delete_range(5_u32.to_be_bytes()..15_u32.to_be_bytes()).unwrap();
            assert_eq!(rows.iter().count(), 10, "{round}");
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_batch_that_would_become_much_longer_by_a_range_is_refused() {
    let count = rows_of(17);
    let (db, rows) = many_large(&MemFs::new(), count);
    let mut batch = Batch::new();
    batch.delete_range(&rows, ..large_key(count / 2));
    batch.put(&rows, [0; 256], []);
    batch.delete_range(&rows, large_key(count / 2)..);
    // What it is itself is not counted.
    (0..8000).for_each(|number| batch.put(&rows, large_key(number), []));
    let refused = db.commit(batch, Durability::System).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidArgument);
    assert!(refused.to_string().contains("\"rows\"") && refused.to_string().contains("16 MiB"), "{refused}");
    assert_eq!(rows.iter().count(), count as usize, "nothing of it is applied");
    // Half of it is not too much.
    let mut batch = Batch::new();
    batch.delete_range(&rows, large_key(count / 2)..);
    db.commit(batch, Durability::System).unwrap();
    rows.delete_range::<&[u8]>(..).unwrap();
    assert_eq!(rows.iter().count(), 0);
}

/// Keys that an enemy, or a counter, would choose: 20 bytes each.
fn awkward_keys(kind: usize, count: usize) -> Vec<[u8; 20]> {
    let mut random = Random(9);
    (0..count)
        .map(|number| {
            let mut key = [0; 20];
            let number = number as u64;
            match kind {
                // All with one prefix, told apart at the end.
                0 => key[12..].copy_from_slice(&number.to_be_bytes()),
                // A counter.
                1 => key[..8].copy_from_slice(&number.to_be_bytes()),
                // A few prefixes far apart, crowded.
                2 => {
                    key[0] = [0, 1, 254, 255][random.below(4)];
                    key[10..18].copy_from_slice(&number.to_be_bytes());
                }
                // Nearly all in one place, one far away.
                3 if number == 0 => key = [255; 20],
                3 => key[6..14].copy_from_slice(&number.to_be_bytes()),
                // Spread, as they should be.
                _ => {
                    key[..8].copy_from_slice(&random.next().to_be_bytes());
                    key[8..16].copy_from_slice(&number.to_be_bytes());
                }
            }
            key
        })
        .collect()
}

#[test]
fn no_kind_of_key_makes_an_answer_wrong() {
    for kind in 0..5 {
        let db = open_on(&MemFs::new());
        let rows = fixed(&db, 20, 8);
        let keys = awkward_keys(kind, 6000);
        let mut model = BTreeMap::new();
        let mut random = Random(kind as u64);
        for (round, keys) in keys.chunks(500).enumerate() {
            let mut batch = Batch::new();
            for key in keys {
                batch.put(&rows, key, (round as u64).to_le_bytes());
                model.insert(*key, round as u64);
            }
            // Some of those before get another value, some go.
            let there: Vec<[u8; 20]> = model.keys().copied().collect();
            for _ in 0..60 {
                let key = there[random.below(there.len())];
                if random.below(2) == 0 {
                    batch.put(&rows, key, u64::MAX.to_le_bytes());
                    model.insert(key, u64::MAX);
                } else {
                    batch.delete(&rows, key);
                    model.remove(&key);
                }
            }
            db.commit(batch, Durability::System).unwrap();
            for _ in 0..random.below(8) {
                db.step().unwrap();
            }
        }
        let compare = || {
            let absent = keys.iter().map(|key| {
                let mut key = *key;
                key[19] ^= 0x55;
                key
            });
            let asked: Vec<[u8; 20]> = keys.iter().copied().chain(absent).collect();
            let values = rows.multi_get(&asked).unwrap();
            let there = rows.multi_contains(&asked).unwrap();
            for ((key, value), there) in asked.iter().zip(values).zip(there) {
                let expected = model.get(key).map(|value| value.to_le_bytes());
                assert_eq!(
                    value.as_deref(),
                    expected.as_ref().map(|value| &value[..]),
                    "kind {kind}, {key:?}"
                );
                assert_eq!(there, expected.is_some());
                let got = rows.get_with(key, |value| value.to_vec()).unwrap();
                assert_eq!(got.as_deref(), expected.as_ref().map(|value| &value[..]));
            }
            let shown: Vec<[u8; 20]> =
                rows.iter().map(|item| item.unwrap().0[..].try_into().unwrap()).collect();
            assert!(shown.iter().eq(model.keys()), "kind {kind}");
            let back: Vec<_> =
                rows.range::<[u8; 20]>(keys[7]..).rev().map(|item| item.unwrap().0.to_vec()).collect();
            assert!(back.iter().eq(model.range(keys[7]..).rev().map(|(key, _)| &key[..])), "kind {kind}");
        };
        compare();
        db.compact().unwrap();
        compare();
        assert!(db.check().unwrap().is_clean());
        assert_eq!(runs(&db, &rows), 1, "all is one run");
    }
}

/// How many tables level 0 has, and whether there is a last run.
fn runs(db: &Db, keyspace: &Keyspace) -> usize {
    let stats = db.stats();
    let own = stats.keyspaces.iter().find(|own| own.name == keyspace.name()).unwrap();
    own.level_tables[0] + usize::from(own.level_tables[1] > 0)
}

/// Of the newest table: whether it has sequence numbers, and kinds, by its header (docs/FORMAT.md).
fn newest_columns(fs: &MemFs) -> (bool, bool) {
    let directory = Path::new("/db");
    let names = fs.read_dir(directory).unwrap();
    let tables = names.into_iter().filter(|name| name.extension().is_some_and(|end| end == "table"));
    let file = fs.open_read(&directory.join(tables.max().unwrap())).unwrap();
    let mut features = [0; 4];
    file.read_exact_at(&mut features, 16).unwrap();
    let features = u32::from_le_bytes(features);
    (features & 1 != 0, features & 2 != 0)
}

#[test]
fn rows_say_their_sequence_numbers_only_where_a_snapshot_stands_between() {
    let fs = MemFs::new();
    let db = open_on(&fs);
    let rows = fixed(&db, 8, 8);
    let write = |value: u64| {
        for number in 0..100_u64 {
            rows.put(number.to_be_bytes(), value.to_be_bytes()).unwrap();
        }
    };
    write(1);
    db.flush().unwrap();
    assert_eq!(newest_columns(&fs), (false, false));
    write(2);
    let snapshot = db.snapshot();
    write(3);
    db.flush().unwrap();
    assert_eq!(newest_columns(&fs), (true, false), "flushed with a snapshot between");
    db.compact().unwrap();
    assert_eq!(newest_columns(&fs), (true, false), "merged with it");
    let value = |snapshot: &lsm::Snapshot| snapshot.get(&rows, 7_u64.to_be_bytes()).unwrap();
    assert_eq!(value(&snapshot).as_deref(), Some(&2_u64.to_be_bytes()[..]));
    assert_eq!(value(&db.snapshot()).as_deref(), Some(&3_u64.to_be_bytes()[..]));
    drop(snapshot);
    rows.delete(7_u64.to_be_bytes()).unwrap();
    db.flush().unwrap();
    assert_eq!(newest_columns(&fs), (false, true), "what is deleted says so");
    db.compact().unwrap();
    assert_eq!(newest_columns(&fs), (false, false));
    assert_eq!((value(&db.snapshot()), rows.iter().count()), (None, 99));
}

#[test]
fn a_batch_larger_than_any_buffer_is_taken() {
    let fs = MemFs::new();
    let db = open_on(&fs);
    let rows = fixed(&db, 8, 8);
    let mut batch = Batch::new();
    for number in 0..20_000u64 {
        batch.put(&rows, number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes(), number.to_le_bytes());
    }
    db.commit(batch, Durability::Synced).unwrap();
    assert_eq!(rows.iter().count(), 20_000);
    drop((rows, db));
    // And replayed.
    let db = open_on(&fs.snapshot());
    let rows = fixed(&db, 8, 8);
    assert_eq!(rows.iter().rev().count(), 20_000);
    db.flush().unwrap();
    assert_eq!(rows.get(0u64.to_be_bytes()).unwrap().as_deref(), Some(&0u64.to_le_bytes()[..]));
}
