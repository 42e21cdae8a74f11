//! Dropping keyspaces: what is gone, what lives on, and who notices.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lsm::fs::{CrashPolicy, FileSystem, MemFs};
use lsm::{Background, Batch, Db, Durability, ErrorKind, Keyspace, KeyspaceOptions, Progress, Tuning};

use crate::support::tiny;

fn open_with(fs: &MemFs, background: Background, tuning: &Tuning) -> Db {
    Db::builder("/db")
        .file_system(Arc::new(fs.clone()))
        .background(background)
        .memory_bytes(1 << 20)
        .tuning(tuning.clone())
        .open()
        .unwrap()
}

fn open(fs: &MemFs) -> Db {
    open_with(fs, Background::Manual, &tiny(1 << 20))
}

fn keyspace(db: &Db, name: &str) -> Keyspace {
    db.keyspace(name, KeyspaceOptions::sorted()).unwrap()
}

fn tables(fs: &MemFs) -> usize {
    let names = fs.read_dir("/db".as_ref()).unwrap();
    names.iter().filter(|name| name.extension().is_some_and(|extension| extension == "table")).count()
}

/// The number in the handle's debug output: there is no other way to see it.
fn number(keyspace: &Keyspace) -> String {
    format!("{keyspace:?}")
}

fn check(db: &Db) {
    let report = db.check().unwrap();
    assert!(report.is_clean() && report.unknown_files.is_empty(), "{report:?}");
}

#[test]
fn what_a_dropped_keyspace_held_is_gone_and_its_files_too() {
    let fs = MemFs::new();
    let db = open(&fs);
    let (a, b) = (keyspace(&db, "a"), keyspace(&db, "b"));
    for round in 0..3 {
        for keyspace in [&a, &b] {
            keyspace.put(format!("key {round}"), "in a table").unwrap();
        }
        db.flush().unwrap();
    }
    a.put("more", "in memory").unwrap();
    assert_eq!(tables(&fs), 6);
    db.drop_keyspace(&a).unwrap();
    assert_eq!(tables(&fs), 3);
    assert_eq!(db.keyspace_names(), ["b"]);
    let again = keyspace(&db, "a");
    assert_ne!(number(&again), number(&a));
    assert_eq!(again.iter().count(), 0);
    again.put("new", "one").unwrap();
    check(&db);
    let error = a.get("key 0").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Dropped);
    assert!(error.to_string().contains("\"a\""), "{error}");
    drop((a, b, again));
    db.close().unwrap();
    let db = open(&fs);
    assert_eq!(keyspace(&db, "a").iter().count(), 1);
    assert_eq!(keyspace(&db, "b").iter().count(), 3);
    check(&db);
}

#[test]
fn a_keyspace_of_rows_goes_with_all_that_it_has_in_memory() {
    let fs = MemFs::new();
    let db = open(&fs);
    let rows = db.keyspace("rows", KeyspaceOptions::fixed(8, 24).unwrap()).unwrap();
    for number in 0u64..3000 {
        rows.put((number * 7919).to_be_bytes(), [1; 24]).unwrap();
    }
    db.flush().unwrap();
    rows.put(7u64.to_be_bytes(), [2; 24]).unwrap();
    let snapshot = db.snapshot();
    let open_bytes = db.stats().open_table_bytes;
    assert!(open_bytes > 0);
    let mut batch = Batch::new();
    batch.delete_range::<Vec<u8>>(&rows, ..);
    db.drop_keyspace(&rows).unwrap();
    assert_eq!(db.commit(batch, Durability::Process).unwrap_err().kind(), ErrorKind::Dropped);
    assert_eq!(rows.multi_contains(&[[0; 8]]).unwrap_err().kind(), ErrorKind::Dropped);
    assert_eq!(rows.get_with([0; 8], |_| ()).unwrap_err().kind(), ErrorKind::Dropped);
    assert_eq!(snapshot.get(&rows, 7u64.to_be_bytes()).unwrap().as_deref(), Some(&[2; 24][..]));
    assert_eq!(snapshot.iter(&rows).count(), 3001);
    drop(snapshot);
    assert_eq!((tables(&fs), db.stats().open_table_bytes), (0, 0));
    // The name may be of another kind then.
    assert_eq!(keyspace(&db, "rows").iter().count(), 0);
    check(&db);
}

#[test]
fn a_batch_that_writes_to_a_dropped_keyspace_fails_as_a_whole() {
    let fs = MemFs::new();
    let db = open(&fs);
    let (a, b) = (keyspace(&db, "a"), keyspace(&db, "b"));
    let mut batch = Batch::new();
    batch.put(&b, "k", "v");
    batch.put(&a, "k", "v");
    batch.put(&b, "l", "v");
    db.drop_keyspace(&a).unwrap();
    let before = db.stats().visible;
    let error = db.commit(batch, Durability::Synced).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Dropped);
    assert!(error.to_string().contains("\"a\""), "{error}");
    assert_eq!(db.stats().visible, before);
    assert_eq!(b.iter().count(), 0);
    // Nor does another keyspace of that name get it.
    let again = keyspace(&db, "a");
    let mut batch = Batch::new();
    batch.delete_prefix(&a, "");
    batch.put(&again, "k", "v");
    assert_eq!(db.commit(batch, Durability::Process).unwrap_err().kind(), ErrorKind::Dropped);
    assert_eq!(again.iter().count(), 0);
    b.put("k", "v").unwrap();
}

#[test]
fn readers_that_began_before_go_on() {
    let fs = MemFs::new();
    let db = open(&fs);
    let a = keyspace(&db, "a");
    for number in 0..100 {
        a.put(format!("key {number:02}"), "x".repeat(200)).unwrap();
        if number == 50 {
            db.flush().unwrap();
        }
    }
    let snapshot = db.snapshot();
    let mut scan = a.iter();
    assert!(scan.next().unwrap().is_ok());
    db.drop_keyspace(&a).unwrap();
    let other = keyspace(&db, "other");
    other.put("k", "v").unwrap();
    db.compact().unwrap();
    assert_eq!(scan.map(Result::unwrap).count(), 99);
    assert_eq!(snapshot.iter(&a).map(Result::unwrap).count(), 100);
    assert_eq!(snapshot.get(&a, "key 07").unwrap().unwrap().len(), 200);
    assert_eq!(snapshot.iter(&other).count(), 0, "made after it");
    let later = db.snapshot();
    assert_eq!(later.get(&a, "key 07").unwrap_err().kind(), ErrorKind::Dropped);
    assert_eq!(later.iter(&a).next().unwrap().unwrap_err().kind(), ErrorKind::Dropped);
    assert_eq!(later.multi_get(&a, &["k"]).unwrap_err().kind(), ErrorKind::Dropped);
}

#[test]
fn what_was_committed_before_a_drop_is_durable_with_it() {
    let fs = MemFs::new();
    let db = open(&fs);
    let (old, new) = (keyspace(&db, "old"), keyspace(&db, "new"));
    old.put("k", "v").unwrap();
    db.sync().unwrap();
    fs.record_snapshots();
    let mut batch = Batch::new();
    batch.put(&new, "k", "v");
    db.commit(batch, Durability::Process).unwrap();
    db.drop_keyspace(&old).unwrap();
    for snapshot in fs.take_snapshots() {
        for policy in CrashPolicy::ALL {
            let db = open(&snapshot.fs.crash(policy, snapshot.call.number));
            let has = |name: &str| {
                db.keyspace_names().iter().any(|there| there == name)
                    && keyspace(&db, name).contains("k").unwrap()
            };
            assert!(has("old") || has("new"), "{policy:?}, after {}: neither is there", snapshot.call);
        }
    }
}

#[test]
fn with_all_keyspaces_gone_logs_are_neither_missed_nor_found_again() {
    for flush in [false, true] {
        let fs = MemFs::new();
        for round in 0..4 {
            let db = open(&fs);
            assert_eq!(db.keyspace_names().len(), 0, "round {round}");
            let a = keyspace(&db, "a");
            for number in 0..20 {
                a.put(format!("key {number}"), "v").unwrap();
            }
            if flush {
                // A reader is opening: so the log's file stays.
                let readers = "/db/READERS".as_ref();
                let _opening = fs.try_lock(readers, lsm::fs::LockMode::Shared).unwrap().unwrap();
                db.flush().unwrap();
            }
            a.put("behind", "v").unwrap();
            db.drop_keyspace(&a).unwrap();
            db.flush().unwrap();
            let report = db.check().unwrap();
            assert!(report.is_clean(), "{report:?}");
            for policy in CrashPolicy::ALL {
                let db = open(&fs.crash(policy, round));
                assert_eq!(db.keyspace_names().len(), 0);
            }
            drop(a);
            if round % 2 == 0 {
                db.close().unwrap();
            }
        }
    }
}

#[test]
fn logs_that_hold_only_what_was_dropped_do_not_pile_up() {
    let fs = MemFs::new();
    for _ in 0..40 {
        let db = open(&fs);
        let a = keyspace(&db, "a");
        a.put("k", "v").unwrap();
        db.drop_keyspace(&a).unwrap();
        drop(a);
        db.close().unwrap();
    }
    let names = fs.read_dir("/db".as_ref()).unwrap();
    let logs = names.iter().filter(|name| name.extension().is_some_and(|extension| extension == "log"));
    assert!(logs.count() < 12, "{names:?}");
}

#[test]
fn a_log_of_what_is_dropped_is_ended_and_goes() {
    let fs = MemFs::new();
    let mut tuning = tiny(2000);
    tuning.journal.zero_ahead_bytes_max = 0;
    let db = open_with(&fs, Background::Manual, &tuning);
    for number in 0..200 {
        let a = keyspace(&db, "a");
        a.put("k", "v".repeat(500)).unwrap();
        db.drop_keyspace(&a).unwrap();
        while number % 10 == 0 && db.step().unwrap() == Progress::Working {}
    }
    let names = fs.read_dir("/db".as_ref()).unwrap();
    let logs = names.iter().filter(|name| name.extension().is_some_and(|extension| extension == "log"));
    let bytes =
        logs.map(|name| fs.open_read(&std::path::Path::new("/db").join(name)).unwrap().len().unwrap());
    let bytes = bytes.sum::<u64>();
    assert!(bytes < 20_000, "{bytes} in {names:?}");
}

#[test]
fn a_flush_under_way_leaves_out_what_is_dropped_meanwhile() {
    let kinds = || [KeyspaceOptions::sorted(), KeyspaceOptions::fixed(6, 30).unwrap()];
    for (steps, options) in (0..40).flat_map(|steps| kinds().map(|options| (steps, options))) {
        let fs = MemFs::new();
        let db = open_with(&fs, Background::Manual, &tiny(3000));
        let (a, b) = (db.keyspace("a", options).unwrap(), keyspace(&db, "b"));
        // Until it is frozen, and no further.
        for number in 0.. {
            a.put(format!("key {number:02}"), "v".repeat(30)).unwrap();
            b.put(format!("key {number:02}"), "v".repeat(30)).unwrap();
            let stats = db.stats().keyspaces;
            if stats.iter().any(|stats| stats.memtable_entries > 0 && stats.memtable_bytes > 4000) {
                break;
            }
        }
        let expected = b.iter().count();
        for _ in 0..steps {
            db.step().unwrap();
        }
        db.drop_keyspace(&a).unwrap();
        while db.step().unwrap() == Progress::Working {}
        db.flush().unwrap();
        assert_eq!(b.iter().count(), expected, "{steps} steps");
        check(&db);
        drop((a, b));
        db.close().unwrap();
        let db = open(&fs);
        assert_eq!(keyspace(&db, "b").iter().count(), expected);
        assert_eq!(db.keyspace_names(), ["b"]);
        check(&db);
    }
}

#[test]
fn a_merge_under_way_is_given_up_when_its_keyspace_is_dropped() {
    let kinds = || [KeyspaceOptions::sorted(), KeyspaceOptions::fixed(6, 30).unwrap()];
    let mut given_up = [0; 2];
    for (steps, (kind, options)) in
        (0..20).flat_map(|steps| kinds().into_iter().enumerate().map(move |kind| (steps, kind)))
    {
        let fs = MemFs::new();
        let mut tuning = tiny(1 << 20);
        tuning.level0_tables = 100;
        tuning.level0_tables_slow = 200;
        tuning.tier_runs = 100;
        let db = open_with(&fs, Background::Manual, &tuning);
        let (a, b) = (db.keyspace("a", options.clone()).unwrap(), keyspace(&db, "b"));
        for round in 0..2 {
            for number in 0..30 {
                a.put(format!("key {number:02}"), format!("{round}").repeat(30)).unwrap();
            }
            db.flush().unwrap();
        }
        b.put("k", "v").unwrap();
        drop((a, b));
        db.close().unwrap();
        // From here on there is something to merge, a few entries a step.
        (tuning.level0_tables, tuning.tier_runs) = (2, 2);
        let db = open_with(&fs, Background::Manual, &tuning);
        let (a, b) = (db.keyspace("a", options).unwrap(), keyspace(&db, "b"));
        for _ in 0..steps {
            db.step().unwrap();
        }
        let merges = db.stats().compactions;
        db.drop_keyspace(&a).unwrap();
        while db.step().unwrap() == Progress::Working {}
        given_up[kind] += u32::from(merges == 0 && steps > 0);
        assert_eq!(b.get("k").unwrap().as_deref(), Some(&b"v"[..]));
        assert!(db.stats().failure.is_none() && db.stats().compaction_error.is_none());
        check(&db);
        db.compact().unwrap();
        check(&db);
    }
    assert!(given_up.iter().all(|given_up| *given_up > 1), "{given_up:?} merges were under way");
}

#[test]
fn a_table_that_cannot_be_merged_is_forgotten_with_its_keyspace() {
    let fs = MemFs::new();
    let db = open(&fs);
    let a = keyspace(&db, "a");
    for round in 0..2 {
        for number in 0..30 {
            a.put(format!("key {number:02}"), format!("{round}").repeat(30)).unwrap();
        }
        db.flush().unwrap();
    }
    drop(a);
    db.close().unwrap();
    let names = fs.read_dir("/db".as_ref()).unwrap();
    let table =
        names.iter().find(|name| name.extension().is_some_and(|extension| extension == "table")).unwrap();
    let path = std::path::Path::new("/db").join(table);
    let mut bytes = vec![0; usize::try_from(fs.open_read(&path).unwrap().len().unwrap()).unwrap()];
    fs.open_read(&path).unwrap().read_exact_at(&mut bytes, 0).unwrap();
    bytes[100] ^= 1;
    fs.remove_file(&path).unwrap();
    fs.create_new(&path).unwrap().write_all_at(&bytes, 0).unwrap();
    let db = open(&fs);
    let a = keyspace(&db, "a");
    assert_eq!(db.compact().unwrap_err().kind(), ErrorKind::Corruption);
    assert!(db.stats().compaction_error.is_some());
    db.drop_keyspace(&a).unwrap();
    assert!(db.stats().compaction_error.is_none());
    db.compact().unwrap();
    check(&db);
}

#[test]
fn handles_of_another_database_are_refused() {
    let (one, two) = (open(&MemFs::new()), open(&MemFs::new()));
    let a = keyspace(&one, "a");
    assert_eq!(two.drop_keyspace(&a).unwrap_err().kind(), ErrorKind::InvalidArgument);
    one.drop_keyspace(&a).unwrap();
    assert_eq!(one.drop_keyspace(&a).unwrap_err().kind(), ErrorKind::Dropped);
}

#[test]
fn a_reader_drops_nothing() {
    let fs = MemFs::new();
    let db = open(&fs);
    keyspace(&db, "a").put("k", "v").unwrap();
    let reader = Db::builder("/db").file_system(Arc::new(fs.clone())).read_only(true).open().unwrap();
    let a = keyspace(&reader, "a");
    assert_eq!(reader.drop_keyspace(&a).unwrap_err().kind(), ErrorKind::ReadOnly);
    db.drop_keyspace(&keyspace(&db, "a")).unwrap();
    assert_eq!(a.get("k").unwrap().as_deref(), Some(&b"v"[..]), "what it opened");
    let reader = Db::builder("/db").file_system(Arc::new(fs.clone())).read_only(true).open().unwrap();
    assert_eq!(reader.keyspace_names().len(), 0);
}

#[test]
fn readers_open_beside_a_writer_that_makes_and_drops() {
    let fs = MemFs::new();
    let db = open_with(&fs, Background::Manual, &tiny(2000));
    keyspace(&db, "stays").put("k", "v").unwrap();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0.. {
                if is_over.load(Ordering::Acquire) {
                    return;
                }
                let goes = keyspace(&db, &format!("goes {number}"));
                for key in 0..10 {
                    goes.put(format!("{key}"), "v".repeat(20)).unwrap();
                }
                if number % 2 == 0 {
                    db.drop_keyspace(&goes).unwrap();
                }
                while db.step().unwrap() == Progress::Working {}
            }
        });
        for round in 0..200 {
            let reader = Db::builder("/db").file_system(Arc::new(fs.clone())).read_only(true).open();
            let reader = reader.unwrap_or_else(|error| {
                is_over.store(true, Ordering::Release);
                panic!("round {round}: {error}")
            });
            assert!(keyspace(&reader, "stays").contains("k").unwrap());
        }
        is_over.store(true, Ordering::Release);
    });
}

#[test]
fn dropping_beside_writers_flushes_and_merges() {
    let fs = MemFs::new();
    let mut tuning = tiny(4000);
    tuning.step_entries = 50;
    let db = open_with(&fs, Background::Threads, &tuning);
    let stays = keyspace(&db, "stays");
    let is_over = AtomicBool::new(false);
    let mut written = 0;
    std::thread::scope(|scope| {
        for writer in 0..2 {
            let (db, is_over) = (&db, &is_over);
            scope.spawn(move || {
                for number in 0.. {
                    if is_over.load(Ordering::Acquire) {
                        return;
                    }
                    let goes = keyspace(db, "goes");
                    for _ in 0..50 {
                        match goes.put(format!("writer {writer}, {number}"), "v".repeat(100)) {
                            Ok(_) => {}
                            Err(error) if error.kind() == ErrorKind::Dropped => break,
                            Err(error) => panic!("{error}"),
                        }
                    }
                }
            });
        }
        for round in 0..150 {
            for number in 0..20 {
                stays.put(format!("{round} {number}"), "v".repeat(20)).unwrap();
                written += 1;
            }
            db.drop_keyspace(&keyspace(&db, "goes")).unwrap();
        }
        is_over.store(true, Ordering::Release);
    });
    assert!(db.stats().failure.is_none() && db.stats().compaction_error.is_none());
    assert_eq!(stays.iter().count(), written);
    db.compact().unwrap();
    let report = db.check().unwrap();
    assert!(report.is_clean(), "{report:?}");
    drop(stays);
    db.close().unwrap();
    let db = open(&fs);
    assert_eq!(keyspace(&db, "stays").iter().count(), written);
    check(&db);
}
