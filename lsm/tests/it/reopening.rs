//! Opening again after a failure, in the same process: what is there, what is gone, and that everything works on.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use lsm::fs::{CrashPolicy, Fault, FaultCall, FaultEffect, FaultFs, FileSystem, MemFs};
use lsm::{Background, Batch, Db, Durability, ErrorKind, Health, Keyspace, KeyspaceOptions, Tuning};

use crate::support::{self, KEYSPACES, Op, Random, State, commit, dump, tiny};

fn open_with(fs: &Arc<dyn FileSystem>, background: Background, tuning: &Tuning) -> lsm::Result<Db> {
    Db::builder("/db")
        .file_system(Arc::clone(fs))
        .background(background)
        .memory_bytes(1 << 20)
        .tuning(tuning.clone())
        .open()
}

fn keyspace(db: &Db, name: &str) -> Keyspace {
    db.keyspace(name, KeyspaceOptions::sorted()).unwrap()
}

struct Setup {
    mem: MemFs,
    faulty: FaultFs,
    db: Db,
    a: Keyspace,
}

fn setup(background: Background, tuning: &Tuning) -> Setup {
    let mem = MemFs::new();
    let faulty = FaultFs::new(Arc::new(mem.clone()));
    let fs: Arc<dyn FileSystem> = Arc::new(faulty.clone());
    let db = open_with(&fs, background, tuning).unwrap();
    let a = keyspace(&db, "a");
    Setup { mem, faulty, db, a }
}

impl Setup {
    fn manual() -> Self {
        setup(Background::Manual, &tiny(1 << 20))
    }

    fn put(&self, key: &str, durability: Durability) -> lsm::Result<u64> {
        let mut batch = Batch::new();
        batch.put(&self.a, key, "v");
        self.db.commit(batch, durability)
    }

    fn keys(&self) -> Vec<String> {
        keys(&self.a)
    }

    /// What the next session finds if the power goes now.
    fn after_power_loss(&self) -> Vec<String> {
        let fs: Arc<dyn FileSystem> = Arc::new(self.mem.crash(CrashPolicy::SyncedOnly, 1));
        let db = open_with(&fs, Background::Manual, &tiny(1 << 20)).unwrap();
        assert!(db.check().unwrap().is_clean());
        keys(&keyspace(&db, "a"))
    }

    fn error_kind(&self) -> Option<ErrorKind> {
        match self.db.health() {
            Health::Ok => None,
            Health::Failed(error) => Some(error.kind()),
            other => panic!("{other:?}"),
        }
    }

    fn check(&self) {
        let report = self.db.check().unwrap();
        assert!(report.is_clean() && report.unknown_files.is_empty(), "{report:?}");
    }
}

fn keys(keyspace: &Keyspace) -> Vec<String> {
    keyspace.iter().map(|item| String::from_utf8(item.unwrap().0.to_vec()).unwrap()).collect()
}

#[test]
fn what_a_failed_sync_was_to_make_durable_is_gone_and_does_not_come_back() {
    let setup = Setup::manual();
    setup.put("1 synced", Durability::Synced).unwrap();
    setup.put("2 written", Durability::System).unwrap();
    setup.faulty.inject(Fault::once(FaultCall::Sync, 1, FaultEffect::Error));
    setup.put("3 not synced", Durability::Synced).unwrap_err();
    assert_eq!(setup.error_kind(), Some(ErrorKind::Io));
    assert_eq!(setup.put("4", Durability::Process).unwrap_err().kind(), ErrorKind::Failed);
    assert_eq!(setup.keys(), ["1 synced", "2 written", "3 not synced"], "reads go on");
    let snapshot = setup.db.snapshot();
    let scan = setup.a.iter();

    let report = setup.db.reopen().unwrap();
    assert_eq!((report.batches, report.is_lossy, report.logs.len()), (1, false, 1));
    assert!(setup.error_kind().is_none());
    assert_eq!(setup.keys(), ["1 synced"]);
    assert_eq!(setup.after_power_loss(), ["1 synced"]);
    assert_eq!(snapshot.iter(&setup.a).count(), 3, "what was held is held");
    assert_eq!(scan.count(), 3);
    // The page cache still shows what was lost: nobody believes it, now or later.
    let before = setup.put("5 later", Durability::Synced).unwrap();
    assert!(before > snapshot.sequence(), "no sequence number is given twice");
    assert_eq!(setup.after_power_loss(), ["1 synced", "5 later"]);
    setup.check();
    let Setup { mem, db, a, .. } = setup;
    drop((a, snapshot));
    db.close().unwrap();
    let fs: Arc<dyn FileSystem> = Arc::new(mem);
    let db = open_with(&fs, Background::Manual, &tiny(1 << 20)).unwrap();
    assert!(db.recovery_report().is_clean());
    assert_eq!(keys(&keyspace(&db, "a")), ["1 synced", "5 later"]);
}

#[test]
fn after_a_full_disk_everything_written_is_there() {
    let setup = Setup::manual();
    setup.put("0", Durability::Synced).unwrap();
    let used = 16 << 12;
    setup.mem.set_capacity(Some(used));
    let mut written = vec!["0".to_owned()];
    let error = loop {
        let key = format!("{:03} {}", written.len(), "k".repeat(300));
        match setup.put(&key, Durability::System) {
            Ok(_) => written.push(key),
            Err(error) => break error,
        }
    };
    assert!(written.len() > 3, "{written:?}");
    assert_eq!((error.kind(), setup.error_kind()), (ErrorKind::OutOfSpace, Some(ErrorKind::OutOfSpace)));
    // As long as it is full it stays as it is.
    let error = setup.db.reopen().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutOfSpace, "{error}");
    assert_eq!(setup.error_kind(), Some(ErrorKind::OutOfSpace));
    setup.mem.set_capacity(None);
    setup.db.reopen().unwrap();
    assert_eq!(setup.keys(), written);
    assert_eq!(setup.after_power_loss(), written, "and durable now");
    setup.put("zzz", Durability::Synced).unwrap();
    setup.db.flush().unwrap();
    setup.check();
    written.push("zzz".to_owned());
    assert_eq!(setup.after_power_loss(), written);
}

#[test]
fn a_device_that_is_full_at_the_sync_keeps_what_was_synced() {
    let setup = Setup::manual();
    setup.put("1", Durability::Synced).unwrap();
    setup.mem.set_capacity_at_sync(Some(1));
    setup.put("2", Durability::Synced).unwrap_err();
    setup.mem.set_capacity_at_sync(None);
    setup.db.reopen().unwrap();
    assert_eq!(setup.keys(), ["1"]);
    setup.put("3", Durability::Synced).unwrap();
    assert_eq!(setup.after_power_loss(), ["1", "3"]);
}

#[test]
fn a_flush_that_failed_is_done_again() {
    for background in [Background::Manual, Background::Threads] {
        for call in [FaultCall::Create, FaultCall::Write, FaultCall::Sync] {
            let setup = setup(background, &tiny(1 << 20));
            for number in 0..20 {
                setup.put(&format!("{number:02}"), Durability::Process).unwrap();
            }
            let all = setup.keys();
            setup.faulty.inject(Fault::once(call, 1, FaultEffect::NoSpace).on(".table"));
            let error = setup.db.flush().unwrap_err();
            assert!([ErrorKind::OutOfSpace, ErrorKind::Failed].contains(&error.kind()), "{error}");
            assert_eq!(setup.error_kind(), Some(ErrorKind::OutOfSpace));
            let report = setup.db.reopen().unwrap();
            assert_eq!(report.batches, 20);
            assert_eq!(setup.keys(), all);
            assert_eq!(setup.after_power_loss(), all);
            setup.check();
            setup.db.flush().unwrap();
            assert_eq!((setup.keys(), setup.after_power_loss()), (all.clone(), all));
            setup.check();
            let stats = setup.db.stats();
            assert_eq!((stats.keyspaces[0].level_tables[0], stats.memtable_bytes), (1, 0));
        }
    }
}

#[test]
fn edits_that_failed_did_not_happen() {
    let setup = Setup::manual();
    setup.put("k", Durability::Synced).unwrap();
    for call in [FaultCall::Write, FaultCall::Sync] {
        setup.faulty.inject(Fault::once(call, 1, FaultEffect::Error).on("MANIFEST"));
        setup.db.keyspace("b", KeyspaceOptions::sorted()).unwrap_err();
        setup.db.reopen().unwrap();
        assert_eq!(setup.db.keyspace_names(), ["a"]);
    }
    let b = keyspace(&setup.db, "b");
    b.put("k", "v").unwrap();
    for call in [FaultCall::Write, FaultCall::Sync] {
        setup.faulty.inject(Fault::once(call, 1, FaultEffect::Error).on("MANIFEST"));
        setup.db.drop_keyspace(&b).unwrap_err();
        assert_eq!(setup.error_kind(), Some(ErrorKind::Io));
        setup.db.reopen().unwrap();
        assert_eq!(keys(&b), ["k"], "it is there, and what it held");
    }
    setup.db.drop_keyspace(&b).unwrap();
    // A log that could not be made, or not be named.
    setup.db.flush().unwrap();
    for (call, path) in
        [(FaultCall::Create, ".log"), (FaultCall::Sync, ".log"), (FaultCall::Sync, "MANIFEST")]
    {
        setup.faulty.inject(Fault::once(call, 1, FaultEffect::Error).on(path));
        setup.put("l", Durability::Process).unwrap_err();
        setup.db.reopen().unwrap();
        assert_eq!(setup.keys(), ["k"], "{call:?} {path}");
    }
    setup.put("l", Durability::Synced).unwrap();
    assert_eq!(setup.after_power_loss(), ["k", "l"]);
    setup.check();
}

#[test]
fn a_transaction_of_before_is_refused() {
    let setup = Setup::manual();
    setup.put("1", Durability::Synced).unwrap();
    setup.faulty.inject(Fault::once(FaultCall::Sync, 1, FaultEffect::Error));
    setup.put("lost", Durability::Synced).unwrap_err();
    let mut transaction = setup.db.transaction();
    assert!(transaction.contains(&setup.a, "lost").unwrap());
    transaction.put(&setup.a, "because of it", "v");
    setup.db.reopen().unwrap();
    assert_eq!(transaction.commit(Durability::Process).unwrap_err().kind(), ErrorKind::Conflict);
    let mut transaction = setup.db.transaction();
    assert!(!transaction.contains(&setup.a, "lost").unwrap());
    transaction.put(&setup.a, "2", "v");
    transaction.commit(Durability::Process).unwrap();
    assert_eq!(setup.keys(), ["1", "2"]);
}

#[test]
fn what_was_loaded_before_a_failure_is_new_to_no_transaction_behind_it() {
    let setup = Setup::manual();
    let b = keyspace(&setup.db, "b");
    let mut ingest = b.ingest().unwrap();
    ingest.put("k", "v").unwrap();
    ingest.finish().unwrap();
    setup.faulty.inject(Fault::once(FaultCall::Sync, 1, FaultEffect::Error));
    setup.put("2", Durability::Synced).unwrap_err();
    setup.db.reopen().unwrap();
    let mut transaction = setup.db.transaction();
    assert!(transaction.get(&b, "k").unwrap().is_some());
    transaction.put(&b, "l", "v");
    transaction.commit(Durability::Process).unwrap();
    assert_eq!(keys(&b), ["k", "l"]);
    setup.check();
}

#[test]
fn what_was_being_loaded_is_given_up() {
    let setup = Setup::manual();
    setup.put("1", Durability::Synced).unwrap();
    let b = keyspace(&setup.db, "b");
    let mut ingest = b.ingest().unwrap();
    ingest.put("k", "v").unwrap();
    let c = keyspace(&setup.db, "c");
    let mut bulk = c.bulk().unwrap();
    bulk.put("k", "v").unwrap();
    setup.faulty.inject(Fault::once(FaultCall::Sync, 1, FaultEffect::Error));
    setup.put("2", Durability::Synced).unwrap_err();
    setup.db.reopen().unwrap();
    // Its files were taken for what the failure left.
    ingest.put("l", "v").unwrap();
    assert_eq!(ingest.finish().unwrap_err().kind(), ErrorKind::Failed);
    assert_eq!(bulk.finish().unwrap_err().kind(), ErrorKind::Failed);
    assert!(setup.error_kind().is_none(), "that is no failure of the database");
    b.put("m", "v").unwrap();
    setup.db.flush().unwrap();
    assert_eq!((keys(&b), keys(&c).len()), (vec!["m".to_owned()], 0));
    setup.check();
    assert_eq!(setup.after_power_loss(), ["1"]);
    let mut again = b.ingest().unwrap();
    again.put("k", "v").unwrap();
    again.finish().unwrap();
    assert_eq!(keys(&b), ["k", "m"]);
    setup.check();
}

#[test]
fn where_nothing_failed_nothing_is_done() {
    let setup = Setup::manual();
    setup.put("1", Durability::Process).unwrap();
    let calls = setup.mem.calls();
    assert!(setup.db.reopen().unwrap().is_new);
    assert_eq!(setup.mem.calls(), calls);
    let reader = Db::builder("/db").file_system(Arc::new(setup.mem.clone())).read_only(true).open().unwrap();
    assert!(matches!(reader.health(), Health::Ok));
    assert!(!reader.reopen().unwrap().is_new);
    setup.db.clone().close().unwrap();
    assert!(matches!(setup.db.health(), Health::Closed));
    assert_eq!(setup.db.reopen().unwrap_err().kind(), ErrorKind::Closed);
}

#[test]
fn a_failure_that_nobody_repaired_is_told_by_the_close() {
    let setup = Setup::manual();
    setup.faulty.inject(Fault::once(FaultCall::Sync, 1, FaultEffect::Error));
    setup.put("1", Durability::Synced).unwrap_err();
    setup.db.reopen().unwrap();
    setup.put("2", Durability::Process).unwrap();
    setup.faulty.inject(Fault::once(FaultCall::Sync, 1, FaultEffect::Error));
    setup.put("3", Durability::Synced).unwrap_err();
    let Setup { db, a, mem, .. } = setup;
    drop(a);
    assert_eq!(db.close().unwrap_err().kind(), ErrorKind::Failed);
    let fs: Arc<dyn FileSystem> = Arc::new(mem.crash(CrashPolicy::SyncedOnly, 1));
    let db = open_with(&fs, Background::Manual, &tiny(1 << 20)).unwrap();
    assert!(db.check().unwrap().is_clean());
}

/// What a workload was promised, and what it saw.
struct Promised {
    history: Vec<State>,
    written: usize,
    durable: usize,
}

impl Promised {
    fn all(&mut self, durability: Durability) {
        let last = self.history.len() - 1;
        match durability {
            Durability::Synced => (self.written, self.durable) = (last, last),
            Durability::System => self.written = last,
            Durability::Process => {}
        }
    }
}

/// One session that opens again whenever something failed, until nothing fails any more. `false` if the fault never came.
fn workload(fault: Fault, clears: bool) -> bool {
    let mem = MemFs::new();
    let faulty = FaultFs::new(Arc::new(mem.clone()));
    let fs: Arc<dyn FileSystem> = Arc::new(faulty.clone());
    let place = format!("{fault:?}");
    let (db, mut keyspaces) = support::open(&fs, &tiny(500)).unwrap();
    // One of rows, too.
    support::make_keyspace(&db, &mut keyspaces).unwrap();
    let sync_may_fail = matches!(fault.call, FaultCall::Sync);
    faulty.inject(fault);
    let mut random = Random(5);
    let mut promised = Promised { history: vec![State::default()], written: 0, durable: 0 };
    let mut state = State::default();
    for step in 0..40 {
        let mut next = state.clone();
        let result = match step % 13 {
            5 => db.flush().map(|()| Durability::Synced),
            7 => db.compact().map(|()| Durability::Synced),
            9 => db.sync().map(|()| Durability::Synced),
            10 => db.step().map(|_| Durability::Process),
            11 => {
                next[1].clear();
                support::drop_keyspace(&db, &mut keyspaces, 1).map(|()| Durability::Synced)
            }
            _ => {
                let durability =
                    [Durability::Process, Durability::System, Durability::Synced][random.below(3)];
                let ops: Vec<Op> =
                    (0..1 + random.below(4)).map(|_| random.op(step, keyspaces.len())).collect();
                ops.iter().for_each(|op| op.apply_to(&mut next));
                let before = db.stats().visible;
                let result = commit(&db, &keyspaces, &ops, durability);
                result.map(|last| if last > before { durability } else { Durability::Process })
            }
        };
        promised.history.push(next.clone());
        match result {
            Ok(durability) => {
                state = next;
                promised.all(durability);
            }
            Err(error) => {
                if clears {
                    // It goes on failing, and then somebody frees the disk.
                    let _ = db.reopen();
                    faulty.clear();
                }
                while let Err(error) = db.reopen() {
                    assert!(faulty.fired() > 0, "{place}: {error}");
                }
                assert!(matches!(db.health(), Health::Ok), "{place}");
                // What the failed call was about may have happened or not, and its keyspace be gone or not.
                if !db.keyspace_names().iter().any(|name| name == KEYSPACES[1]) {
                    keyspaces[1] = keyspace(&db, KEYSPACES[1]);
                }
                let found = dump(&keyspaces).unwrap();
                let survived = promised.history.iter().rposition(|state| *state == found);
                let Some(survived) = survived else { panic!("{place}: {error}: what never was: {found:?}") };
                let at_least = if sync_may_fail { promised.durable } else { promised.written };
                assert!(
                    survived >= at_least,
                    "{place}: {error}: {survived} is there, {at_least} was promised"
                );
                let crashed: Arc<dyn FileSystem> = Arc::new(mem.crash(CrashPolicy::SyncedOnly, 3));
                let (_, after) = support::open(&crashed, &tiny(500)).unwrap();
                assert_eq!(dump(&after).unwrap(), found, "{place}: what is there is durable");
                state = found;
                promised.history.push(state.clone());
                promised.all(Durability::Synced);
            }
        }
        assert_eq!(dump(&keyspaces).unwrap(), state, "{place}, step {step}");
    }
    let fired = faulty.fired() > 0;
    faulty.clear();
    let report = db.check().unwrap();
    assert!(report.is_clean(), "{place}: {report:?}");
    drop(keyspaces);
    db.close().unwrap();
    let fs: Arc<dyn FileSystem> = Arc::new(mem.crash(CrashPolicy::SyncedOnly, 1));
    let (db, keyspaces) = support::open(&fs, &tiny(500)).unwrap();
    assert_eq!(dump(&keyspaces).unwrap(), state, "{place}");
    let report = db.check().unwrap();
    assert!(report.is_clean(), "{place}: {report:?}");
    fired
}

#[test]
fn whatever_call_fails_opening_again_finds_what_was_promised() {
    let mut fired = 0;
    let calls = [
        FaultCall::Create,
        FaultCall::Open,
        FaultCall::Rename,
        FaultCall::Remove,
        FaultCall::SyncDir,
        FaultCall::Write,
        FaultCall::Sync,
    ];
    for call in calls {
        for nth in 1.. {
            if !workload(Fault::once(call, nth, FaultEffect::Error), false) {
                break;
            }
            workload(Fault::sticky(call, nth, FaultEffect::NoSpace), true);
            fired += 1;
        }
    }
    assert!(fired > 100, "{fired} faults: the workload does nothing");
}

#[test]
fn many_writers_and_a_disk_that_fails_now_and_then() {
    let mut tuning = tiny(4000);
    tuning.step_entries = 100;
    let setup = setup(Background::Threads, &tuning);
    let is_over = AtomicBool::new(false);
    let reopened = AtomicU32::new(0);
    let acknowledged = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let (setup, is_over, acknowledged, reopened) = (&setup, &is_over, &acknowledged, &reopened);
            scope.spawn(move || {
                for number in 0.. {
                    if is_over.load(Ordering::Acquire) {
                        return;
                    }
                    let key = format!("{writer} {number}");
                    match setup.put(&key, Durability::Synced) {
                        Ok(_) => acknowledged.lock().unwrap().push(key),
                        // Each of them tries; one is the first.
                        Err(_) if setup.db.reopen().is_ok() => {
                            reopened.fetch_add(1, Ordering::AcqRel);
                        }
                        Err(_) => {}
                    }
                }
            });
        }
        let mut random = Random(1);
        for _ in 0..60 {
            let call = [FaultCall::Sync, FaultCall::Write, FaultCall::Create][random.below(3)];
            let fault = Fault::once(call, 1 + random.below(20) as u64, FaultEffect::Error);
            let before = setup.faulty.fired();
            setup.faulty.inject(fault);
            while setup.faulty.fired() == before {
                std::thread::yield_now();
            }
        }
        is_over.store(true, Ordering::Release);
    });
    setup.db.reopen().unwrap();
    assert!(reopened.load(Ordering::Acquire) >= 20, "{reopened:?}");
    let acknowledged = acknowledged.into_inner().unwrap();
    let found: std::collections::BTreeSet<String> = setup.keys().into_iter().collect();
    for key in &acknowledged {
        assert!(found.contains(key), "{key} was acknowledged");
    }
    setup.db.flush().unwrap();
    let after = setup.after_power_loss();
    assert_eq!(after, found.into_iter().collect::<Vec<_>>());
    let Setup { mem, db, a, .. } = setup;
    drop(a);
    db.close().unwrap();
    let fs: Arc<dyn FileSystem> = Arc::new(mem);
    let report = open_with(&fs, Background::Manual, &tuning).unwrap().check().unwrap();
    assert!(
        report.is_clean() && report.unknown_files.is_empty(),
        "what failed attempts left goes: {report:?}"
    );
}
