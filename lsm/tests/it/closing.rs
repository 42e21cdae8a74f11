//! Closing: beside callers who still write, after a failure, and by letting go of the last handle. Whoever opens next finds a database that is his alone.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};

use lsm::fs::{Fault, FaultCall, FaultEffect, FaultFs, FileSystem, MemFs};
use lsm::{Background, Batch, Db, Durability, ErrorKind, Keyspace, KeyspaceOptions, Tuning};

use crate::support::tiny;

fn open(fs: &MemFs, background: Background) -> lsm::Result<Db> {
    Db::builder("/db")
        .file_system(Arc::new(fs.clone()))
        .background(background)
        .memory_bytes(1 << 20)
        .tuning(Tuning::for_memory(1 << 20))
        .open()
}

fn keyspace(db: &Db, name: &str) -> Keyspace {
    db.keyspace(name, KeyspaceOptions::sorted()).unwrap()
}

fn open_tuned(fs: &MemFs, background: Background, tuning: Tuning) -> Db {
    let builder = Db::builder("/db").file_system(Arc::new(fs.clone())).background(background);
    builder.memory_bytes(1 << 20).tuning(tuning).open().unwrap()
}

/// Opens once more, and finds everything in order; returns how many entries there are.
fn examine(fs: &MemFs) -> usize {
    let db = open(fs, Background::Manual).unwrap();
    let report = db.check().unwrap();
    assert!(report.is_clean() && report.unknown_files.is_empty(), "{report:?}");
    let entries: lsm::Result<Vec<_>> = keyspace(&db, "a").iter().collect();
    entries.unwrap().len()
}

#[test]
fn a_merge_ends_with_the_session_that_began_it() {
    let fs = MemFs::new();
    let db = open_tuned(&fs, Background::Manual, tiny(1 << 20));
    let a = keyspace(&db, "a");
    for round in 0..2 {
        for number in 0..40 {
            a.put(format!("k{round}{number:02}"), "v".repeat(60)).unwrap();
        }
        db.flush().unwrap();
    }
    // While the merge makes its first table durable, another thread closes the database and opens it again.
    let (closing, opened) = mpsc::channel();
    let closing = Mutex::new(Some((closing, db.clone(), a.clone(), fs.clone())));
    fs.set_sync_hook(move |_: &Path, site| {
        if site.name() != "table-contents" {
            return;
        }
        let Some((closing, db, a, fs)) = closing.lock().unwrap().take() else { return };
        std::thread::spawn(move || {
            let closed = db.close();
            closing.send((closed, open(&fs, Background::Manual))).unwrap();
        });
        while a.get("k000").is_ok() {
            std::thread::yield_now();
        }
    });
    let error = db.compact().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
    let (closed, second) = opened.recv().unwrap();
    closed.unwrap();
    let second = second.unwrap();
    let again = keyspace(&second, "a");
    assert_eq!(again.iter().count(), 80);
    again.put("more", "v").unwrap();
    assert_eq!(db.compact().unwrap_err().kind(), ErrorKind::Closed);
    let report = second.check().unwrap();
    assert!(report.is_clean(), "{report:?}");
    drop(again);
    second.close().unwrap();
    assert_eq!(examine(&fs), 81);
}

/// What a thread does again and again beside the close.
type Caller = fn(&Db, &Keyspace, u32) -> lsm::Result<()>;

#[test]
fn closing_beside_callers_of_every_kind() {
    let callers: [Caller; 5] = [
        |db, _, number| db.keyspace(&format!("made {number}"), KeyspaceOptions::sorted()).map(drop),
        |db, _, _| db.compact(),
        |db, _, _| db.flush(),
        |db, a, number| {
            let mut batch = Batch::new();
            batch.put(a, format!("synced {number}"), "v");
            db.commit(batch, Durability::Synced).map(drop)
        },
        |db, _, _| db.step().map(drop),
    ];
    for round in 0..150 {
        let fs = MemFs::new();
        let background = if round % 3 == 0 { Background::Manual } else { Background::Threads };
        // With new keyspaces, and all flushed by the close; or without, and much left in the log.
        let flushes = round % 2 == 0;
        let mut tuning = Tuning::for_memory(1 << 20);
        tuning.write_buffer_bytes = if flushes { 1 } else { tuning.write_buffer_bytes };
        let callers = if flushes { &callers[..] } else { &callers[1..] };
        let db = open_tuned(&fs, background, tuning);
        let a = keyspace(&db, "a");
        for number in 0..20 {
            a.put(format!("base {number}"), "v").unwrap();
        }
        let (calls, acknowledged) = (AtomicU32::new(0), AtomicU32::new(0));
        std::thread::scope(|scope| {
            for (index, caller) in callers.iter().enumerate() {
                let (db, a, calls, acknowledged) = (&db, &a, &calls, &acknowledged);
                scope.spawn(move || {
                    for number in 0.. {
                        let put = a.put(format!("caller {index}, {number}"), "v".repeat(100));
                        let done = put.and_then(|_| {
                            acknowledged.fetch_add(1, Ordering::SeqCst);
                            caller(db, a, number)
                        });
                        calls.fetch_add(1, Ordering::SeqCst);
                        if let Err(error) = done {
                            assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
                            break;
                        }
                    }
                });
            }
            // In the midst of it, at another place each time.
            while calls.load(Ordering::SeqCst) < round {
                std::thread::yield_now();
            }
            db.clone().close().unwrap();
            // The others may not have noticed yet.
            let second = open(&fs, Background::Threads).unwrap();
            let again = keyspace(&second, "a");
            let mut batch = Batch::new();
            batch.put(&again, "second", "v");
            second.commit(batch, Durability::Synced).unwrap();
            second.flush().unwrap();
            let report = second.check().unwrap();
            assert!(report.is_clean(), "round {round}: {report:?}");
            drop(again);
            second.close().unwrap();
        });
        let db = open(&fs, Background::Manual).unwrap();
        let a = keyspace(&db, "a");
        assert!(a.contains("second").unwrap(), "round {round}");
        let found = a.prefix("caller").count();
        assert!(found >= acknowledged.load(Ordering::SeqCst) as usize, "round {round}: {found} are there");
        assert_eq!(a.prefix("base").count(), 20, "round {round}");
    }
}

#[test]
fn whoever_closes_second_waits_for_the_first() {
    for _ in 0..50 {
        let fs = MemFs::new();
        let db = open(&fs, Background::Threads).unwrap();
        keyspace(&db, "a").put("k", "v").unwrap();
        std::thread::scope(|scope| {
            for _ in 0..2 {
                let (db, fs) = (db.clone(), &fs);
                scope.spawn(move || {
                    db.close().unwrap();
                    // Closed means that the next one may come: but only one of us can be that.
                    match open(fs, Background::Threads) {
                        Ok(next) => std::mem::forget(next),
                        Err(error) => assert_eq!(error.kind(), ErrorKind::Locked, "{error}"),
                    }
                });
            }
        });
        assert_eq!(open(&fs, Background::Threads).unwrap_err().kind(), ErrorKind::Locked, "one is in");
    }
}

#[test]
fn the_last_handle_closes_and_a_merge_under_way_is_dropped() {
    let fs = MemFs::new();
    let db = open_tuned(&fs, Background::Manual, tiny(1 << 20));
    let a = keyspace(&db, "a");
    for round in 0..2 {
        for number in 0..40 {
            a.put(format!("k{number:02}{round}"), "v".repeat(60)).unwrap();
        }
        db.flush().unwrap();
    }
    // Far enough that a table of it is written and another begun.
    let tables = |fs: &MemFs| {
        let names = fs.read_dir(Path::new("/db")).unwrap();
        names.iter().filter(|name| name.extension().is_some_and(|extension| extension == "table")).count()
    };
    while tables(&fs) < 4 {
        db.step().unwrap();
    }
    let snapshot = db.snapshot();
    let mut scan = a.iter();
    drop(db);
    // A keyspace keeps the database open; a snapshot and a scan don't.
    a.put("more", "v").unwrap();
    assert_eq!(snapshot.iter(&a).count(), 80);
    drop(a);
    assert_eq!(tables(&fs), 2, "what the merge had written is gone");
    assert_eq!(examine(&fs), 81);
    assert_eq!(scan.by_ref().count(), 80, "a scan lives on");
    drop(snapshot);
}

#[test]
fn closing_after_a_failure_says_so_and_keeps_what_was_acknowledged() {
    let fs = MemFs::new();
    let faulty = FaultFs::new(Arc::new(fs.clone()));
    let mut tuning = Tuning::for_memory(1 << 20);
    tuning.write_buffer_bytes = 2000;
    let db = Db::builder("/db")
        .file_system(Arc::new(faulty.clone()))
        .memory_bytes(1 << 20)
        .tuning(tuning)
        .open()
        .unwrap();
    let a = keyspace(&db, "a");
    faulty.inject(Fault::sticky(FaultCall::Create, 1, FaultEffect::NoSpace).on(".table"));
    let mut acknowledged = 0;
    // The thread that flushes fails at some moment; a write may come between that and its being known.
    for number in 0..100_000 {
        let mut batch = Batch::new();
        batch.put(&a, format!("k{number:06}"), "v".repeat(50));
        if db.commit(batch, Durability::Process).is_err() {
            break;
        }
        acknowledged += 1;
    }
    assert!(db.stats().failure.is_some());
    drop(a);
    let error = db.close().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Failed, "{error}");
    faulty.clear();
    // The log did not fail: closing ended it.
    assert!(examine(&fs) >= acknowledged, "{acknowledged} were acknowledged");
}
