//! Loading much at once: all of it is there at the end or nothing, newer than what was there, whatever comes between.

use std::collections::BTreeMap;
use std::sync::Arc;

use lsm::fs::{CrashPolicy, Fault, FaultCall, FaultEffect, FaultFs, FileSystem, MemFs};
use lsm::{Background, Batch, Db, Durability, ErrorKind, Keyspace, KeyspaceOptions, Tuning};
use proptest::prelude::*;

use crate::support::{Random, tiny};

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

fn open_on(fs: &MemFs) -> Db {
    open_with(Arc::new(fs.clone()), tiny(4000)).unwrap()
}

fn open_with(fs: Arc<dyn FileSystem>, tuning: Tuning) -> lsm::Result<Db> {
    let builder = Db::builder("/db").file_system(fs).background(Background::Manual).memory_bytes(1 << 20);
    builder.tuning(tuning).open()
}

/// A buffer of a few rows, so that there are many runs; tables that hold more.
fn spilling() -> Tuning {
    let mut tuning = tiny(600);
    tuning.table_bytes = 10_000;
    tuning
}

fn both(db: &Db) -> [Keyspace; 2] {
    [
        db.keyspace("sorted", KeyspaceOptions::sorted()).unwrap(),
        db.keyspace("rows", KeyspaceOptions::fixed(8, 4).unwrap()).unwrap(),
    ]
}

fn entries(seed: u64, count: usize) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut random = Random(seed);
    (0..count)
        .map(|number| {
            let key = random.next().to_be_bytes();
            (key.to_vec(), u32::try_from(number).unwrap().to_le_bytes().to_vec())
        })
        .collect()
}

fn shown(keyspace: &Keyspace) -> Map {
    keyspace.iter().map(|item| item.map(|(key, value)| (key.to_vec(), value.to_vec())).unwrap()).collect()
}

fn check(db: &Db) {
    let report = db.check().unwrap();
    assert!(report.is_clean(), "{report:?}");
}

#[test]
fn what_is_ingested_is_there_at_once_and_stays() {
    let fs = MemFs::new();
    let db = open_on(&fs);
    for (place, keyspace) in both(&db).iter().enumerate() {
        let mut model: Map = Map::new();
        for round in 0..3 {
            let sorted: Map = entries(round * 2 + place as u64, 500).into_iter().collect();
            let before = db.snapshot();
            let mut ingest = keyspace.ingest().unwrap();
            for (key, value) in &sorted {
                ingest.put(key, value).unwrap();
            }
            assert_eq!(shown(keyspace), model, "nothing before the end");
            let sequence = ingest.finish().unwrap();
            assert!(sequence > before.sequence());
            assert_eq!(before.iter(keyspace).count(), model.len(), "a snapshot is a moment");
            model.extend(sorted);
            assert_eq!(shown(keyspace), model);
            // And a write on top.
            let (key, _) = model.iter().nth(7).map(|(key, value)| (key.clone(), value.clone())).unwrap();
            keyspace.put(&key, b"newr").unwrap();
            model.insert(key, b"newr".to_vec());
            assert_eq!(shown(keyspace), model);
            check(&db);
        }
        db.compact().unwrap();
        assert_eq!(shown(keyspace), model);
        check(&db);
    }
    let models = both(&db).map(|keyspace| shown(&keyspace));
    drop(db);
    let db = open_on(&fs.crash(CrashPolicy::SyncedOnly, 1));
    assert_eq!(both(&db).map(|keyspace| shown(&keyspace).len()), models.map(|model| model.len()));
}

#[test]
fn what_is_loaded_in_any_order_is_sorted_and_the_last_of_a_key_holds() {
    for count in [3, 5_000] {
        let fs = MemFs::new();
        let db = open_on(&fs);
        for keyspace in both(&db) {
            keyspace.put(b"\0\0before", b"here").unwrap();
            let mut model = shown(&keyspace);
            let mut bulk = keyspace.bulk().unwrap();
            let all = entries(5, count);
            for (number, (key, value)) in all.iter().enumerate() {
                bulk.put(key, value).unwrap();
                model.insert(key.clone(), value.clone());
                if number % 3 == 0 {
                    let again = &all[number / 2].0;
                    bulk.put(again, b"last").unwrap();
                    model.insert(again.clone(), b"last".to_vec());
                }
            }
            assert_eq!(shown(&keyspace).len(), 1);
            bulk.finish().unwrap();
            assert!(shown(&keyspace) == model, "{count}");
            check(&db);
        }
        let files = fs.read_dir(std::path::Path::new("/db")).unwrap().len();
        let tables: usize =
            db.stats().keyspaces.iter().flat_map(|keyspace| keyspace.level_tables.clone()).sum();
        assert!(files <= tables + 6, "what was merged is removed: {files} files for {tables} tables");
    }
}

#[test]
fn meanwhile_others_write_elsewhere_and_not_here() {
    let db = open_on(&MemFs::new());
    let [sorted, rows] = both(&db);
    let mut bulk = rows.bulk().unwrap();
    bulk.put(b"12345678", b"abcd").unwrap();
    assert_eq!(bulk.put(b"1234567", b"abcd").unwrap_err().kind(), ErrorKind::InvalidArgument);
    let refused = rows.put(b"12345678", b"efgh").unwrap_err();
    assert!(
        refused.kind() == ErrorKind::InvalidArgument && refused.to_string().contains("loaded"),
        "{refused}"
    );
    let mut batch = Batch::new();
    batch.put(&sorted, "a", "b");
    batch.delete(&rows, b"12345678");
    assert!(db.commit(batch, Durability::System).is_err() && shown(&sorted).is_empty());
    assert!(rows.ingest().is_err(), "one loads at a time");
    for number in 0..200u32 {
        sorted.put(number.to_be_bytes(), [1; 30]).unwrap();
    }
    bulk.finish().unwrap();
    assert_eq!((shown(&sorted).len(), shown(&rows).len()), (200, 1));
    rows.put(b"12345678", b"efgh").unwrap();
    assert_eq!(rows.get(b"12345678").unwrap().as_deref(), Some(&b"efgh"[..]));
    let mut ingest = sorted.ingest().unwrap();
    ingest.put("b", "1").unwrap();
    assert_eq!(ingest.put("b", "2").unwrap_err().kind(), ErrorKind::InvalidArgument);
    ingest.put("c", "3").unwrap();
    ingest.finish().unwrap();
    assert_eq!(shown(&sorted).len(), 202);
    check(&db);
}

#[test]
fn a_load_that_is_given_up_leaves_nothing() {
    let fs = MemFs::new();
    let db = open_on(&fs);
    for keyspace in both(&db) {
        let mut bulk = keyspace.bulk().unwrap();
        for (key, value) in entries(1, 2_000) {
            bulk.put(key, value).unwrap();
        }
        drop(bulk);
        assert!(shown(&keyspace).is_empty());
        keyspace.put(b"afterall", b"good").unwrap();
        let empty = keyspace.ingest().unwrap();
        empty.finish().unwrap();
        assert_eq!(shown(&keyspace).len(), 1);
    }
    db.flush().unwrap();
    let tables = |name: &std::path::PathBuf| name.extension().is_some_and(|extension| extension == "table");
    assert_eq!(
        fs.read_dir(std::path::Path::new("/db")).unwrap().iter().filter(|name| tables(name)).count(),
        2
    );
}

#[test]
fn a_transaction_that_read_before_the_load_notices_it() {
    let db = open_on(&MemFs::new());
    for keyspace in both(&db) {
        let mut ingest = keyspace.ingest().unwrap();
        ingest.put(b"12345678", b"load").unwrap();
        let mut transaction = db.transaction();
        assert_eq!(transaction.get(&keyspace, b"12345678").unwrap(), None);
        ingest.finish().unwrap();
        transaction.put(&keyspace, b"87654321", b"mine");
        assert_eq!(transaction.commit(Durability::System).unwrap_err().kind(), ErrorKind::Conflict);
        assert_eq!(shown(&keyspace).len(), 1);
    }
}

#[test]
fn what_was_committed_before_a_load_is_shown_is_durable_with_it() {
    let mem = MemFs::new();
    let db = open_on(&mem);
    let [sorted, rows] = both(&db);
    let mut ingest = sorted.ingest().unwrap();
    ingest.put(b"loaded", b"load").unwrap();
    let mut batch = lsm::Batch::new();
    batch.put(&rows, b"87654321", b"mine");
    db.commit(batch, Durability::Process).unwrap();
    ingest.finish().unwrap();
    {
        let db = open_on(&mem.crash(CrashPolicy::SyncedOnly, 1));
        let [sorted, rows] = both(&db);
        assert_eq!((shown(&sorted).len(), shown(&rows).len()), (1, 1));
    }
    // And what comes behind it goes on from there.
    let mut batch = lsm::Batch::new();
    batch.put(&sorted, b"behind", b"it");
    db.commit(batch, Durability::Synced).unwrap();
    let db = open_on(&mem.crash(CrashPolicy::SyncedOnly, 1));
    let [sorted, rows] = both(&db);
    assert_eq!((shown(&sorted).len(), shown(&rows).len()), (2, 1));
    check(&db);
}

#[test]
fn a_crash_leaves_all_of_it_or_nothing() {
    let mem = MemFs::new();
    let db = open_on(&mem);
    let keyspaces = both(&db);
    for keyspace in &keyspaces {
        keyspace.put(b"\0\0before", b"here").unwrap();
    }
    db.sync().unwrap();
    mem.record_snapshots();
    let mut models: Vec<[Map; 2]> = vec![[0, 1].map(|place| shown(&keyspaces[place]))];
    let mut done = Vec::new();
    for (place, keyspace) in keyspaces.iter().enumerate() {
        let mut bulk = keyspace.bulk().unwrap();
        let mut next = models.last().unwrap().clone();
        for (key, value) in entries(8, 300) {
            bulk.put(&key, &value).unwrap();
            next[place].insert(key, value);
        }
        bulk.finish().unwrap();
        done.push(mem.calls());
        models.push(next);
    }
    for (number, snapshot) in mem.take_snapshots().into_iter().enumerate() {
        let at_least = done.iter().filter(|calls| **calls <= snapshot.call.number).count();
        for policy in CrashPolicy::ALL {
            let db = open_on(&snapshot.fs.crash(policy, number as u64));
            let found = both(&db).map(|keyspace| shown(&keyspace));
            let survived = models.iter().position(|model| *model == found);
            assert!(
                survived.is_some_and(|survived| survived >= at_least),
                "{policy:?}, after {}",
                snapshot.call
            );
            check(&db);
        }
    }
}

#[test]
fn a_crash_leaves_all_of_a_load_in_many_runs_or_nothing() {
    let mem = MemFs::new();
    let db = open_with(Arc::new(mem.clone()), spilling()).unwrap();
    let [_, rows] = both(&db);
    for (key, value) in entries(3, 50) {
        rows.put(&key, &value).unwrap();
    }
    db.flush().unwrap();
    mem.record_snapshots();
    let before = shown(&rows);
    let mut after = before.clone();
    let mut bulk = rows.bulk().unwrap();
    for (number, (key, value)) in entries(8, 400).into_iter().enumerate() {
        // Some of them again, and some that were there.
        let key = match number % 5 {
            1 => after.keys().nth(number % after.len()).unwrap().clone(),
            _ => key,
        };
        bulk.put(&key, &value).unwrap();
        after.insert(key, value);
    }
    bulk.finish().unwrap();
    let done = mem.calls();
    assert!(shown(&rows) == after);
    let snapshots = mem.take_snapshots();
    assert!(snapshots.len() > 50, "there were runs: {}", snapshots.len());
    for (number, snapshot) in snapshots.into_iter().enumerate() {
        for policy in CrashPolicy::ALL {
            let fs = snapshot.fs.crash(policy, number as u64);
            let db = open_with(Arc::new(fs), spilling()).unwrap();
            let found = shown(&both(&db)[1]);
            let is_new = found == after;
            assert!(is_new || found == before, "{policy:?}, after {}", snapshot.call);
            assert!(is_new || snapshot.call.number < done, "{policy:?}, after {}", snapshot.call);
            check(&db);
        }
    }
}

#[test]
fn a_load_in_which_anything_fails_shows_nothing_and_the_next_one_all() {
    let mut fired = BTreeMap::new();
    for call in [
        FaultCall::Create,
        FaultCall::Open,
        FaultCall::Read,
        FaultCall::Write,
        FaultCall::Sync,
        FaultCall::SyncDir,
    ] {
        for nth in 1..200 {
            let mem = MemFs::new();
            let faulty = FaultFs::new(Arc::new(mem.clone()));
            let db = open_with(Arc::new(faulty.clone()), spilling()).unwrap();
            let [_, rows] = both(&db);
            rows.put(b"\0\0before", b"here").unwrap();
            db.flush().unwrap();
            let load = |rows: &Keyspace| -> lsm::Result<()> {
                let mut bulk = rows.bulk()?;
                for (key, value) in entries(8, 150) {
                    bulk.put(&key, &value)?;
                }
                bulk.finish().map(|_| ())
            };
            faulty.inject(Fault::once(call, nth, FaultEffect::Error));
            let loaded = load(&rows);
            let has_fired = faulty.fired() > 0;
            faulty.clear();
            if has_fired {
                *fired.entry(call).or_insert(0) += 1;
            }
            let found = shown(&rows).len();
            if loaded.is_ok() {
                assert_eq!(found, 151, "{call:?} {nth}");
            } else {
                assert!(has_fired && found == 1, "{call:?} {nth}: {found}");
                if db.stats().failure.is_some() {
                    db.reopen().unwrap();
                }
                assert_eq!(shown(&rows).len(), 1);
                load(&rows).unwrap();
                assert_eq!(shown(&rows).len(), 151, "{call:?} {nth}");
            }
            check(&db);
            drop(rows);
            db.close().unwrap();
            let db = open_with(Arc::new(mem.crash(CrashPolicy::SyncedOnly, nth)), spilling()).unwrap();
            assert_eq!(shown(&both(&db)[1]).len(), 151);
            check(&db);
            if !has_fired {
                break;
            }
        }
    }
    assert!(fired.len() >= 5 && fired.values().all(|count| *count < 199), "{fired:?}");
}

/// A key, and a value of 300 bytes that compresses to a few, if its number is even.
fn wide_entry(number: u32) -> ([u8; 4], Vec<u8>) {
    let word = |word: u32| ((number * 75 + word) * (number % 2)).wrapping_mul(0x9e37_79b9).to_le_bytes();
    (number.to_be_bytes(), (0..75).flat_map(word).collect())
}

/// A database whose loads write tables of a megabyte, with a thread beside that compresses or not.
fn loading_with(fs: Arc<dyn FileSystem>, background: Background, threads: usize) -> Db {
    let mut tuning = Tuning::for_memory(1 << 20);
    (tuning.table_bytes, tuning.merge_threads) = (1 << 20, threads);
    let builder = Db::builder("/db").file_system(fs).background(background).memory_bytes(1 << 20);
    builder.tuning(tuning).open().unwrap()
}

#[test]
fn what_is_loaded_is_compressed_by_a_thread_beside_where_there_are_threads() {
    for (background, threads, entries, is_beside) in [
        (Background::Threads, 2, 2000, true),
        (Background::Threads, 2, 20, true),
        (Background::Threads, 1, 2000, false),
        (Background::Manual, 2, 2000, false),
    ] {
        let db = loading_with(Arc::new(MemFs::new()), background, threads);
        let [sorted, _] = both(&db);
        let mut ingest = sorted.ingest().unwrap();
        for (key, value) in (0..entries).map(wide_entry) {
            ingest.put(key, value).unwrap();
        }
        assert_eq!(
            format!("{ingest:?}").contains("beside: Some"),
            is_beside,
            "{background:?} {threads} {entries}"
        );
        ingest.finish().unwrap();
        assert!(
            shown(&sorted)
                == (0..entries).map(wide_entry).map(|(key, value)| (key.to_vec(), value)).collect()
        );
        check(&db);
    }
}

#[test]
fn what_a_load_could_not_write_fails_it_however_it_goes_on() {
    const ENTRIES: u32 = 8000;
    let kinds = [(true, Background::Threads), (false, Background::Threads), (true, Background::Manual)];
    for (is_sorted, background) in kinds {
        let mut faults = 0;
        for nth in 1..100 {
            let faulty = FaultFs::new(Arc::new(MemFs::new()));
            let db = loading_with(Arc::new(faulty.clone()), background, 2);
            let [sorted, _] = both(&db);
            // Whatever fails, it goes on; what came of each entry, and of all.
            let load = || {
                let mut results = Vec::new();
                if is_sorted {
                    let mut ingest = sorted.ingest().unwrap();
                    results.extend((0..ENTRIES).map(wide_entry).map(|(key, value)| ingest.put(key, value)));
                    results.push(ingest.finish().map(|_| ()));
                } else {
                    let mut bulk = sorted.bulk().unwrap();
                    let entries = (0..ENTRIES).rev().map(wide_entry);
                    results.extend(entries.map(|(key, value)| bulk.put(key, value)));
                    results.push(bulk.finish().map(|_| ()));
                }
                results
            };
            faulty.inject(Fault::once(FaultCall::Write, nth, FaultEffect::Error).on(".table"));
            let results = load();
            let has_fired = faulty.fired() > 0;
            faulty.clear();
            if has_fired {
                faults += 1;
                let first = results.iter().position(Result::is_err).expect("somebody was told");
                for result in &results[first..] {
                    let error = result.as_ref().expect_err("it is over");
                    assert!(error.kind() == ErrorKind::Io && error.to_string().contains(".table"), "{error}");
                }
                assert_eq!(sorted.iter().count(), 0);
                assert!(load().iter().all(Result::is_ok));
            } else {
                assert!(results.iter().all(Result::is_ok));
            }
            let keys = sorted.iter().map(|item| item.unwrap().0.to_vec());
            assert!(keys.eq((0..ENTRIES).map(|key| key.to_be_bytes().to_vec())));
            check(&db);
            db.close().unwrap();
            if !has_fired {
                break;
            }
        }
        assert!((4..99).contains(&faults), "{faults} pieces were written");
    }
}

#[test]
fn what_is_loaded_in_any_order_is_written_once_or_twice() {
    const ROWS: usize = 20_000;
    for (buffer_bytes, times) in [(4 << 20, 1), (50_000, 2)] {
        let fs = FaultFs::new(Arc::new(MemFs::new()));
        let mut tuning = Tuning::for_memory(8 << 20);
        (tuning.bulk_buffer_bytes, tuning.write_buffer_bytes) = (buffer_bytes, 50_000);
        let builder = Db::builder("/db").file_system(Arc::new(fs.clone())).background(Background::Manual);
        let db = builder.memory_bytes(8 << 20).tuning(tuning).open().unwrap();
        let rows = db.keyspace("rows", KeyspaceOptions::fixed(8, 56).unwrap()).unwrap();
        let before = fs.written_bytes();
        let mut random = Random(4);
        let mut bulk = rows.bulk().unwrap();
        for _ in 0..ROWS {
            bulk.put(random.next().to_be_bytes(), [7; 56]).unwrap();
        }
        bulk.finish().unwrap();
        assert_eq!(rows.iter().count(), ROWS);
        let (written, least) = (fs.written_bytes() - before, (ROWS * 64 * times) as u64);
        // With filters and fences, of many small tables where it is twice.
        assert!((least..least / 4 * 5).contains(&written), "{written} of {least}");
    }
}

#[test]
fn what_a_load_keeps_in_memory_is_the_caches_and_comes_back() {
    let mem = MemFs::new();
    let builder = Db::builder("/db").file_system(Arc::new(mem.clone())).background(Background::Manual);
    let db = builder.memory_bytes(20 << 20).tuning(Tuning::for_memory(20 << 20)).open().unwrap();
    let rows = db.keyspace("rows", KeyspaceOptions::fixed(8, 56).unwrap()).unwrap();
    let before = db.stats().cache_capacity_bytes;
    let mut random = Random(4);
    let mut bulk = rows.bulk().unwrap();
    let mut least = before;
    for _ in 0..300_000 {
        bulk.put(random.next().to_be_bytes(), [7; 56]).unwrap();
        least = least.min(db.stats().cache_capacity_bytes);
    }
    assert!(least < before / 2, "the cache is smaller meanwhile: {least} of {before}");
    bulk.finish().unwrap();
    assert_eq!(rows.iter().count(), 300_000);
    drop(db.snapshot());
    let stats = db.stats();
    assert!(stats.cache_capacity_bytes >= 2 << 20, "{}", stats.cache_capacity_bytes);
    let bulk = rows.bulk().unwrap();
    drop(bulk);
    assert_eq!(db.stats().cache_capacity_bytes, stats.cache_capacity_bytes);
    check(&db);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn any_load_is_a_map(
        there in proptest::collection::vec((0u16..300, any::<u32>()), 0..100),
        loads in proptest::collection::vec(proptest::collection::vec((0u16..300, any::<u32>()), 0..400), 1..3),
        buffer_bytes in 1usize..4000,
        shift in 0u32..64,
    ) {
        let mut tuning = tiny(4000);
        tuning.bulk_buffer_bytes = buffer_bytes;
        let mem = MemFs::new();
        let db = open_with(Arc::new(mem.clone()), tuning.clone()).unwrap();
        let [_, rows] = both(&db);
        // Few keys, spread over everything or crowded.
        let key = |number: u16| (u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> shift).to_be_bytes();
        let mut model = Map::new();
        for (number, value) in there {
            rows.put(key(number), value.to_le_bytes()).unwrap();
            model.insert(key(number).to_vec(), value.to_le_bytes().to_vec());
        }
        for load in loads {
            let mut bulk = rows.bulk().unwrap();
            for (number, value) in &load {
                bulk.put(key(*number), value.to_le_bytes()).unwrap();
            }
            bulk.finish().unwrap();
            model.extend(load.iter().map(|(number, value)| (key(*number).to_vec(), value.to_le_bytes().to_vec())));
            prop_assert_eq!(&shown(&rows), &model);
            let one = model.iter().nth(model.len() / 2).map(|(key, value)| (key.clone(), value.clone()));
            if let Some((key, value)) = one {
                prop_assert_eq!(rows.get(&key).unwrap().unwrap().to_vec(), value);
            }
        }
        check(&db);
        drop(rows);
        db.close().unwrap();
        let db = open_with(Arc::new(mem), tuning).unwrap();
        prop_assert_eq!(&shown(&both(&db)[1]), &model);
    }
}
