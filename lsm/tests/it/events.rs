//! What a listener is told, when, and that it cannot do harm.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, mpsc};

use lsm::fs::{CrashPolicy, Fault, FaultCall, FaultEffect, FaultFs, FileSystem, MemFs};
use lsm::journal::Verdict;
use lsm::{
    Background, Batch, Builder, Db, Durability, ErrorKind, Event, Keyspace, KeyspaceOptions, StallCause,
    Tuning,
};

use crate::support::tiny;

fn builder(fs: impl FileSystem, background: Background, tuning: &Tuning) -> Builder {
    Db::builder("/db")
        .file_system(Arc::new(fs))
        .background(background)
        .memory_bytes(1 << 20)
        .tuning(tuning.clone())
}

fn keyspace(db: &Db, name: &str) -> Keyspace {
    db.keyspace(name, KeyspaceOptions::sorted()).unwrap()
}

/// What was told, each as the beginning of its name.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<Event>>>);

impl Told {
    fn listener(&self) -> impl Fn(&Event) + Send + Sync + 'static {
        let told = Arc::clone(&self.0);
        move |event| told.lock().unwrap().push(event.clone())
    }

    fn take(&self) -> Vec<Event> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }

    /// The names of what was told since it was last asked.
    fn names(&self) -> Vec<String> {
        self.take().iter().map(name).collect()
    }

    /// How many merges begun since it was last asked, and how many ended, one way or the other.
    fn merges(&self) -> (usize, usize) {
        let names = self.names();
        let count = |what: &str| names.iter().filter(|name| *name == what).count();
        (count("MergeBegun"), count("MergeDone") + count("MergeGivenUp"))
    }
}

fn name(event: &Event) -> String {
    let text = format!("{event:?}");
    text.split([' ', '{']).next().unwrap_or_default().to_owned()
}

#[test]
fn everything_is_told_in_its_order() {
    let mem = MemFs::new();
    let told = Told::default();
    let db =
        builder(mem.clone(), Background::Manual, &tiny(1 << 20)).on_event(told.listener()).open().unwrap();
    assert_eq!(told.names(), ["Opened"]);
    let a = keyspace(&db, "a");
    keyspace(&db, "a");
    assert_eq!(told.names(), ["KeyspaceMade"]);
    for round in 0..2 {
        a.put("k", format!("{round}")).unwrap();
        assert_eq!(told.names().len(), 0);
        db.flush().unwrap();
        let events = told.take();
        assert_eq!(events.iter().map(name).collect::<Vec<_>>(), ["FlushBegun", "TableMade", "FlushDone"]);
        match &events[1..] {
            [
                Event::TableMade { keyspace, level: 0, bytes, .. },
                Event::FlushDone { tables: 1, bytes: all, through, .. },
            ] => {
                assert_eq!((&**keyspace, bytes, *through), ("a", all, db.stats().visible));
            }
            other => panic!("{other:?}"),
        }
    }
    db.compact().unwrap();
    let events = told.take();
    let names: Vec<_> = events.iter().map(name).collect();
    assert_eq!(names, ["MergeBegun", "TableMade", "MergeDone", "TableRemoved", "TableRemoved"]);
    match (&events[0], &events[2]) {
        (
            Event::MergeBegun { tables: 2, level: 2, bytes, .. },
            Event::MergeDone { tables: 1, bytes: after, level: 2, .. },
        ) => {
            assert!(bytes > after);
        }
        other => panic!("{other:?}"),
    }
    db.drop_keyspace(&a).unwrap();
    assert_eq!(told.names(), ["KeyspaceDropped", "TableRemoved"]);
    let mut ingest = keyspace(&db, "loaded").ingest().unwrap();
    ingest.put("k", "v").unwrap();
    ingest.finish().unwrap();
    assert_eq!(told.names(), ["KeyspaceMade", "TableMade"]);
    let b = keyspace(&db, "b");
    b.put("k", "v").unwrap();
    drop((a, b));
    db.close().unwrap();
    let events = told.take();
    assert!(matches!(events.last(), Some(Event::Closed { error: None, .. })), "{events:?}");
    // What was found in the logs, and by whom.
    let db = builder(mem.crash(CrashPolicy::Everything, 1), Background::Manual, &tiny(1 << 20))
        .on_event(told.listener())
        .open()
        .unwrap();
    match told.take().as_slice() {
        [Event::Opened { again: false, logs, is_lossy: false, .. }] => {
            assert_eq!(logs.last().unwrap().verdict, Verdict::CleanEnd);
        }
        other => panic!("{other:?}"),
    }
    drop(db);
    assert_eq!(told.names(), ["Closed"]);
}

#[test]
fn failures_and_what_was_got_over_are_told() {
    let faulty = FaultFs::new(Arc::new(MemFs::new()));
    let told = Told::default();
    let db =
        builder(faulty.clone(), Background::Manual, &tiny(1 << 20)).on_event(told.listener()).open().unwrap();
    let a = keyspace(&db, "a");
    told.take();
    faulty.inject(Fault::once(FaultCall::Sync, 2, FaultEffect::Error).on(".log"));
    let mut batch = Batch::new();
    batch.put(&a, "k", "v");
    db.commit(batch, Durability::Synced).unwrap_err();
    match told.take().as_slice() {
        [Event::Failed { error, .. }] => assert_eq!(error.kind(), ErrorKind::Io),
        other => panic!("{other:?}"),
    }
    a.put("k", "v").unwrap_err();
    assert_eq!(told.names().len(), 0, "it fails once");
    db.reopen().unwrap();
    assert!(matches!(told.take().as_slice(), [Event::Opened { again: true, .. }]));
    for call in [FaultCall::Write, FaultCall::Create] {
        a.put("k", "v").unwrap();
        faulty.inject(Fault::once(call, 1, FaultEffect::NoSpace).on(".table"));
        db.flush().unwrap_err();
        assert_eq!(told.names(), ["FlushBegun", "Failed"]);
        db.reopen().unwrap();
        told.take();
    }
    faulty.inject(Fault::once(FaultCall::Sync, 1, FaultEffect::NoSpace).on("MANIFEST"));
    db.keyspace("b", KeyspaceOptions::sorted()).unwrap_err();
    assert_eq!(told.names(), ["Failed"]);
}

#[test]
fn merges_that_are_given_up_are_told() {
    let mem = MemFs::new();
    let mut tuning = tiny(1 << 20);
    (tuning.level0_tables, tuning.level0_tables_slow) = (3, 30);
    let told = Told::default();
    let db = builder(mem.clone(), Background::Manual, &tuning).on_event(told.listener()).open().unwrap();
    let (a, b) = (keyspace(&db, "a"), keyspace(&db, "b"));
    for keyspace in [&a, &b] {
        for round in 0..3 {
            for number in 0..30 {
                keyspace.put(format!("{number:02}"), format!("{round}").repeat(20)).unwrap();
            }
            db.flush().unwrap();
        }
    }
    told.take();
    db.step().unwrap();
    db.step().unwrap();
    let names = told.names();
    assert_eq!(names, ["MergeBegun"]);
    db.drop_keyspace(&a).unwrap();
    db.drop_keyspace(&b).unwrap();
    db.step().unwrap();
    let events = told.take();
    assert!(
        events.iter().any(
            |event| matches!(event, Event::MergeGivenUp { keyspace, error: None, .. } if !keyspace.is_empty())
        ),
        "{events:?}"
    );
    // Damage is said.
    let c = keyspace(&db, "c");
    for round in 0..3 {
        c.put("k", format!("{round}")).unwrap();
        db.flush().unwrap();
    }
    drop((a, b, c));
    db.close().unwrap();
    let names = mem.read_dir(Path::new("/db")).unwrap();
    let table =
        names.iter().find(|name| name.extension().is_some_and(|extension| extension == "table")).unwrap();
    let path = Path::new("/db").join(table);
    let mut bytes = vec![0; usize::try_from(mem.open_read(&path).unwrap().len().unwrap()).unwrap()];
    mem.open_read(&path).unwrap().read_exact_at(&mut bytes, 0).unwrap();
    bytes[66] ^= 1;
    mem.remove_file(&path).unwrap();
    mem.create_new(&path).unwrap().write_all_at(&bytes, 0).unwrap();
    let db = builder(mem, Background::Manual, &tuning).on_event(told.listener()).open().unwrap();
    told.take();
    db.compact().unwrap_err();
    match told.take().as_slice() {
        [Event::MergeBegun { .. }, Event::MergeGivenUp { error: Some(error), .. }] => {
            assert_eq!(error.kind(), ErrorKind::Corruption);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_writer_that_waits_is_told_of() {
    let told = Told::default();
    let mut tuning = tiny(1000);
    tuning.frozen_max = 1;
    let db = builder(MemFs::new(), Background::Manual, &tuning).on_event(told.listener()).open().unwrap();
    let a = keyspace(&db, "a");
    for number in 0..60 {
        a.put(format!("{number}"), "v".repeat(100)).unwrap();
    }
    let events = told.take();
    let begun = |wanted: StallCause| {
        events
            .iter()
            .filter(|event| matches!(event, Event::StallBegun { cause, .. } if *cause == wanted))
            .count()
    };
    let ended = |wanted: StallCause| {
        events
            .iter()
            .filter(|event| matches!(event, Event::StallEnded { cause, .. } if *cause == wanted))
            .count()
    };
    assert!(begun(StallCause::Flush) > 0, "{events:?}");
    assert_eq!(begun(StallCause::Flush), ended(StallCause::Flush));
    assert_eq!(begun(StallCause::Merge), ended(StallCause::Merge));
}

#[test]
fn a_listener_that_does_not_return_holds_up_nobody() {
    let (release, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let told = Told::default();
    let tell = told.listener();
    let mut tuning = tiny(2000);
    tuning.step_entries = 50;
    let db = builder(MemFs::new(), Background::Threads, &tuning)
        .on_event(move |event| {
            // Until the sender is gone.
            let _ = wait.lock().unwrap().recv();
            tell(event);
        })
        .open()
        .unwrap();
    let a = keyspace(&db, "a");
    for number in 0..500 {
        a.put(format!("{number}"), "v".repeat(50)).unwrap();
    }
    db.flush().unwrap();
    db.compact().unwrap();
    db.drop_keyspace(&a).unwrap();
    assert_eq!(told.names().len(), 0);
    drop(release);
    drop(a);
    db.close().unwrap();
    let names = told.names();
    assert_eq!(
        (names[0].as_str(), names.last().unwrap().as_str()),
        ("Opened", "Closed"),
        "all of it, before it is closed"
    );
    for expected in ["FlushDone", "MergeDone", "TableMade", "TableRemoved", "KeyspaceDropped"] {
        assert!(names.iter().any(|name| name == expected), "{expected}");
    }
}

#[test]
fn a_listener_that_panics_ends_nothing() {
    for background in [Background::Manual, Background::Threads] {
        let calls = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&calls);
        let db = builder(MemFs::new(), background, &tiny(1 << 20))
            .on_event(move |_| {
                count.fetch_add(1, Ordering::SeqCst);
                panic!("a listener's own fault");
            })
            .open()
            .unwrap();
        let a = keyspace(&db, "a");
        a.put("k", "v").unwrap();
        db.flush().unwrap();
        while calls.load(Ordering::SeqCst) < 4 {
            std::thread::yield_now();
        }
        while db.stats().listener_panics < 4 {
            std::thread::yield_now();
        }
        assert!(db.stats().failure.is_none());
        drop(a);
        db.close().unwrap();
        assert!(calls.load(Ordering::SeqCst) > 4);
    }
}

#[test]
fn a_listener_may_use_the_database_and_close_it() {
    for background in [Background::Manual, Background::Threads] {
        let shared: Arc<Mutex<Option<(Db, Keyspace)>>> = Arc::default();
        let has_closed = Arc::new(AtomicBool::new(false));
        let (own, closed) = (Arc::clone(&shared), Arc::clone(&has_closed));
        let db = builder(MemFs::new(), background, &tiny(1 << 20))
            .on_event(move |event| {
                let Some((db, log)) = own.lock().unwrap().clone() else { return };
                match event {
                    Event::FlushDone { through, .. } => {
                        log.put(format!("{through:05}"), "flushed").unwrap();
                    }
                    Event::KeyspaceDropped { .. } => {
                        own.lock().unwrap().take();
                        drop(log);
                        db.close().unwrap();
                        closed.store(true, Ordering::SeqCst);
                    }
                    _ => {}
                }
            })
            .open()
            .unwrap();
        let (a, log) = (keyspace(&db, "a"), keyspace(&db, "log"));
        *shared.lock().unwrap() = Some((db.clone(), log.clone()));
        for number in 0..3 {
            a.put(format!("{number}"), "v").unwrap();
            db.flush().unwrap();
        }
        // It is told of its own flushes too, and writes of them: three at least.
        while log.iter().count() < 3 {
            std::thread::yield_now();
        }
        // As it closes, others may be told so.
        let _ = db.drop_keyspace(&a);
        while !has_closed.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
        assert_eq!(a.put("k", "v").unwrap_err().kind(), ErrorKind::Closed);
        db.close().unwrap();
    }
}

#[test]
fn a_reader_is_told_too() {
    let mem = MemFs::new();
    let db = builder(mem.clone(), Background::Threads, &tiny(1 << 20)).open().unwrap();
    keyspace(&db, "a").put("k", "v").unwrap();
    let told = Told::default();
    let reader = builder(mem, Background::Threads, &tiny(1 << 20))
        .read_only(true)
        .on_event(told.listener())
        .open()
        .unwrap();
    assert_eq!(told.names(), ["Opened"]);
    drop(reader);
    assert_eq!(told.names(), ["Closed"]);
}

#[test]
fn a_merge_of_everything_that_fails_is_given_up() {
    for nth in 1..40 {
        let faulty = FaultFs::new(Arc::new(MemFs::new()));
        let told = Told::default();
        let db = builder(faulty.clone(), Background::Manual, &tiny(1 << 20))
            .on_event(told.listener())
            .open()
            .unwrap();
        let a = keyspace(&db, "a");
        for round in 0..3 {
            for number in 0..300 {
                a.put(format!("{number}"), format!("{round}")).unwrap();
            }
            db.flush().unwrap();
        }
        told.take();
        faulty.inject(Fault::once(FaultCall::Write, nth, FaultEffect::Error));
        let compacted = db.compact();
        if compacted.is_ok() {
            assert!(nth > 1, "something is written");
            return;
        }
        let (begun, ended) = told.merges();
        assert_eq!(begun, ended, "{nth}");
        db.reopen().unwrap();
        assert!(db.check().unwrap().is_clean());
        assert_eq!(a.iter().count(), 300);
    }
    panic!("it never succeeds");
}

#[test]
fn a_merge_of_everything_that_a_close_ends_is_given_up() {
    let told = Told::default();
    let mut tuning = tiny(1 << 20);
    (tuning.step_entries, tuning.level0_tables, tuning.level0_tables_slow) = (1, 100, 100);
    tuning.idle_after = None;
    let begun = Arc::new(AtomicBool::new(false));
    let (listener, seen) = (told.listener(), Arc::clone(&begun));
    let db = builder(MemFs::new(), Background::Threads, &tuning)
        .on_event(move |event| {
            listener(event);
            if matches!(event, Event::MergeBegun { .. }) {
                seen.store(true, Ordering::Release);
            }
        })
        .open()
        .unwrap();
    let a = keyspace(&db, "a");
    for round in 0..2 {
        for number in 0..20_000 {
            a.put(format!("{number}"), format!("{round}")).unwrap();
        }
        db.flush().unwrap();
    }
    std::thread::scope(|scope| {
        let compacting = scope.spawn(|| db.compact());
        while !begun.load(Ordering::Acquire) {
            std::thread::yield_now();
        }
        db.clone().close().unwrap();
        if let Err(error) = compacting.join().unwrap() {
            assert_eq!(error.kind(), ErrorKind::Closed);
        }
    });
    assert_eq!(told.merges(), (1, 1));
}
