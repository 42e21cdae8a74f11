//! Checkpoints: what is in them, what they cost, who may be replaced, and the power cut at every call.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use lsm::fs::{
    CrashPolicy, Fault, FaultCall, FaultEffect, FaultFs, FileSystem, LockMode, MemFs, OsFs, SyncSite,
};
use lsm::{Background, CheckpointInfo, Db, Durability, ErrorKind, Keyspace, KeyspaceOptions, Tuning};

use crate::support::{self, Op, Random, State, commit, dump, tiny};

fn open_at(
    fs: &Arc<dyn FileSystem>,
    directory: &str,
    background: Background,
    tuning: &Tuning,
) -> lsm::Result<Db> {
    Db::builder(directory)
        .file_system(Arc::clone(fs))
        .background(background)
        .memory_bytes(1 << 20)
        .tuning(tuning.clone())
        .open()
}

fn open(mem: &MemFs, directory: &str) -> Db {
    let fs: Arc<dyn FileSystem> = Arc::new(mem.clone());
    open_at(&fs, directory, Background::Manual, &tiny(1 << 20)).unwrap()
}

fn keyspace(db: &Db, name: &str) -> Keyspace {
    db.keyspace(name, KeyspaceOptions::sorted()).unwrap()
}

/// The error of opening; `Err(opened)` is none.
fn open_error(mem: &MemFs, directory: &str) -> lsm::Error {
    let fs: Arc<dyn FileSystem> = Arc::new(mem.clone());
    open_at(&fs, directory, Background::Manual, &tiny(1 << 20)).unwrap_err()
}

fn check(db: &Db) {
    let report = db.check().unwrap();
    assert!(report.is_clean() && report.unknown_files.is_empty(), "{report:?}");
}

fn tables(mem: &MemFs, directory: &str) -> Vec<PathBuf> {
    let mut names = mem.read_dir(Path::new(directory)).unwrap();
    names.retain(|name| name.extension().is_some_and(|extension| extension == "table"));
    names.sort();
    names
}

fn contents(mem: &MemFs, path: &Path) -> Vec<u8> {
    let file = mem.open_read(path).unwrap();
    let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

fn replace(mem: &MemFs, path: &Path, bytes: &[u8]) {
    mem.remove_file(path).unwrap();
    mem.create_new(path).unwrap().write_all_at(bytes, 0).unwrap();
}

/// How many tables were kept, linked, copied, removed.
fn counts(info: &CheckpointInfo) -> [u64; 4] {
    assert_eq!(info.tables, info.kept + info.linked + info.copied);
    [info.kept, info.linked, info.copied, info.removed]
}

#[test]
fn a_checkpoint_holds_what_was_committed_and_goes_its_own_way() {
    let mem = MemFs::new();
    let db = open(&mem, "/db");
    let (a, b) = (keyspace(&db, "a"), keyspace(&db, "b"));
    a.put("flushed", "1").unwrap();
    db.flush().unwrap();
    a.put("in memory", "1").unwrap();
    b.put("too", "1").unwrap();
    let before = db.stats().visible;
    let info = db.checkpoint("/backups/monday").unwrap();
    assert_eq!((info.sequence, counts(&info)), (before, [0, 3, 0, 0]));
    a.put("later", "1").unwrap();

    let copy = open(&mem, "/backups/monday");
    check(&copy);
    assert!(copy.recovery_report().is_clean() && !copy.recovery_report().is_new);
    let copied = keyspace(&copy, "a");
    let keys: Vec<_> = copied.iter().map(|item| item.unwrap().0.to_vec()).collect();
    assert_eq!(keys, [&b"flushed"[..], b"in memory"]);
    assert_eq!(keyspace(&copy, "b").iter().count(), 1);
    // Both are written to, merged, dropped from, closed and opened.
    copied.delete("flushed").unwrap();
    copied.put("only in the copy", "1").unwrap();
    copy.compact().unwrap();
    db.drop_keyspace(&b).unwrap();
    db.compact().unwrap();
    check(&copy);
    check(&db);
    drop(copied);
    copy.close().unwrap();
    let copy = open(&mem, "/backups/monday");
    assert_eq!(keyspace(&copy, "a").iter().count(), 2);
    assert_eq!(keyspace(&copy, "b").iter().count(), 1);
    assert_eq!(a.iter().count(), 3);
    check(&copy);
}

#[test]
fn the_next_one_adds_what_is_new_and_removes_what_is_needed_no_more() {
    let mem = MemFs::new();
    let db = open(&mem, "/db");
    let a = keyspace(&db, "a");
    for number in 0..3 {
        a.put(format!("{number}"), "1").unwrap();
        db.flush().unwrap();
    }
    assert_eq!(counts(&db.checkpoint("/copy").unwrap()), [0, 3, 0, 0]);
    assert_eq!(counts(&db.checkpoint("/copy").unwrap()), [3, 0, 0, 0]);
    a.put("3", "1").unwrap();
    assert_eq!(counts(&db.checkpoint("/copy").unwrap()), [3, 1, 0, 0]);
    db.compact().unwrap();
    assert_eq!(counts(&db.checkpoint("/copy").unwrap()), [0, 1, 0, 4]);
    let copy = open(&mem, "/copy");
    check(&copy);
    assert_eq!(keyspace(&copy, "a").iter().count(), 4);
    // Somebody looked, and wrote nothing.
    copy.close().unwrap();
    a.put("4", "1").unwrap();
    assert_eq!(counts(&db.checkpoint("/copy").unwrap()), [1, 1, 0, 0]);
}

#[test]
fn an_empty_database_has_an_empty_checkpoint() {
    let mem = MemFs::new();
    let db = open(&mem, "/db");
    assert_eq!(db.checkpoint("/copy").unwrap(), CheckpointInfo::default());
    let copy = open(&mem, "/copy");
    assert!(!copy.recovery_report().is_new);
    keyspace(&copy, "a").put("k", "v").unwrap();
    // All that it held was dropped: numbers and marks are remembered.
    let a = keyspace(&db, "a");
    a.put("k", "v").unwrap();
    db.drop_keyspace(&a).unwrap();
    db.checkpoint("/copy 2").unwrap();
    let copy = open(&mem, "/copy 2");
    assert_eq!(copy.keyspace_names().len(), 0);
    assert_ne!(format!("{:?}", keyspace(&copy, "a")), format!("{a:?}"));
}

#[test]
fn what_cannot_be_linked_is_copied_and_read_back() {
    let mem = MemFs::new();
    let faulty = FaultFs::new(Arc::new(mem.clone()));
    let fs: Arc<dyn FileSystem> = Arc::new(faulty.clone());
    let db = open_at(&fs, "/db", Background::Manual, &tiny(1 << 20)).unwrap();
    let a = keyspace(&db, "a");
    a.put("k", "v".repeat(10_000)).unwrap();
    db.flush().unwrap();
    faulty.inject(Fault::sticky(FaultCall::Link, 1, FaultEffect::Error));
    let info = db.checkpoint("/copy").unwrap();
    assert_eq!(counts(&info), [0, 0, 1, 0]);
    assert_eq!(info.copied_bytes, info.bytes);
    let name = &tables(&mem, "/db")[0];
    assert_eq!(contents(&mem, &Path::new("/db").join(name)), contents(&mem, &Path::new("/copy").join(name)));
    // A copy shares nothing: what harms the one leaves the other whole.
    let mut bytes = contents(&mem, &Path::new("/db").join(name));
    bytes[200] ^= 1;
    replace(&mem, &Path::new("/db").join(name), &bytes);
    check(&open(&mem.snapshot(), "/copy"));
    assert_eq!(counts(&db.checkpoint("/copy").unwrap()), [1, 0, 0, 0]);
    // And what was damaged before is told of, not copied.
    drop(a);
    db.close().unwrap();
    let db = open_at(&fs, "/db", Background::Manual, &tiny(1 << 20)).unwrap();
    let error = db.checkpoint("/other").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corruption, "{error}");
    assert!(error.to_string().contains("/db/") && error.to_string().contains("damaged before"), "{error}");
    assert_eq!(tables(&mem, "/other").len(), 0, "what was copied of it is gone");
    assert_eq!(open_error(&mem, "/other").kind(), ErrorKind::NotFound);
    assert!(db.stats().failure.is_none());
}

#[test]
fn a_damaged_table_of_the_older_one_is_replaced() {
    let mem = MemFs::new();
    let db = open(&mem, "/db");
    keyspace(&db, "a").put("k", "v").unwrap();
    let faulty = FaultFs::new(Arc::new(mem.clone()));
    faulty.inject(Fault::sticky(FaultCall::Link, 1, FaultEffect::Error));
    db.checkpoint("/copy").unwrap();
    let name = &tables(&mem, "/copy")[0];
    let mut bytes = contents(&mem, &Path::new("/copy").join(name));
    bytes.pop();
    replace(&mem, &Path::new("/copy").join(name), &bytes);
    assert_eq!(counts(&db.checkpoint("/copy").unwrap()), [0, 1, 0, 1]);
    check(&open(&mem, "/copy"));
}

#[test]
fn what_is_no_checkpoint_of_this_database_is_not_touched() {
    let mem = MemFs::new();
    let db = open(&mem, "/db");
    keyspace(&db, "a").put("k", "v").unwrap();
    let kind = |directory: &str| db.checkpoint(directory).unwrap_err().kind();
    // Itself, and one that somebody has open.
    assert_eq!(kind("/db"), ErrorKind::Locked);
    db.checkpoint("/copy").unwrap();
    let copy = open(&mem, "/copy");
    assert_eq!(kind("/copy"), ErrorKind::Locked);
    // One that was written to.
    keyspace(&copy, "a").put("more", "v").unwrap();
    copy.close().unwrap();
    let error = db.checkpoint("/copy").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(error.to_string().contains("written to"), "{error}");
    assert_eq!(keyspace(&open(&mem, "/copy"), "a").iter().count(), 2);
    // Another database, and its checkpoint.
    let other = open(&mem, "/other");
    keyspace(&other, "b").put("k", "v").unwrap();
    other.checkpoint("/other copy").unwrap();
    other.close().unwrap();
    assert_eq!(kind("/other"), ErrorKind::InvalidArgument);
    assert_eq!(kind("/other copy"), ErrorKind::InvalidArgument);
    assert_eq!(keyspace(&open(&mem, "/other"), "b").iter().count(), 1);
    check(&open(&mem, "/other copy"));
    // One that lost its manifest.
    mem.remove_file(Path::new("/other copy/MANIFEST")).unwrap();
    let error = db.checkpoint("/other copy").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(error.to_string().contains("no MANIFEST"), "{error}");
    assert_eq!(tables(&mem, "/other copy").len(), 1);
    // Nothing of that harmed anybody.
    check(&db);
    db.checkpoint("/copy 2").unwrap();
}

#[test]
fn a_reader_makes_none() {
    let mem = MemFs::new();
    let db = open(&mem, "/db");
    keyspace(&db, "a").put("k", "v").unwrap();
    let reader = Db::builder("/db").file_system(Arc::new(mem.clone())).read_only(true).open().unwrap();
    assert_eq!(reader.checkpoint("/copy").unwrap_err().kind(), ErrorKind::ReadOnly);
    assert!(!mem.exists(Path::new("/copy")).unwrap());
}

#[test]
fn copies_that_went_their_own_ways_may_share_a_checkpoint() {
    let mem = MemFs::new();
    let mut tuning = tiny(1 << 20);
    (tuning.level0_tables, tuning.level0_tables_slow) = (100, 100);
    let fs: Arc<dyn FileSystem> = Arc::new(mem.clone());
    let db = open_at(&fs, "/db", Background::Manual, &tuning).unwrap();
    let a = keyspace(&db, "a");
    a.put("both", "v").unwrap();
    db.checkpoint("/twin").unwrap();
    // Numbers of files are set aside by the dozen: until it gives out those that the twin does.
    for number in 0..20 {
        a.put("db", format!("{number}")).unwrap();
        db.flush().unwrap();
    }
    let twin = open(&mem, "/twin");
    keyspace(&twin, "a").put("twin", "v").unwrap();
    db.checkpoint("/copy").unwrap();
    twin.flush().unwrap();
    // Both have given the same number to other tables.
    let both: Vec<_> =
        tables(&mem, "/db").into_iter().filter(|name| tables(&mem, "/twin").contains(name)).collect();
    assert!(both.len() > 1, "{both:?}");
    let there = tables(&mem, "/copy");
    assert!(there.contains(&both[1]));
    let info = twin.checkpoint("/copy").unwrap();
    assert_eq!(counts(&info)[..2], [1, 1]);
    assert!(!there.contains(&tables(&mem, "/copy")[1]), "it stands beside the one whose number it has");
    let copy = open(&mem, "/copy");
    let keys: Vec<_> = keyspace(&copy, "a").iter().map(|item| item.unwrap().0.to_vec()).collect();
    assert_eq!(keys, [&b"both"[..], b"twin"]);
    check(&copy);
    keyspace(&copy, "a").put("more", "v").unwrap();
    copy.compact().unwrap();
    check(&copy);
}

#[test]
fn a_reader_who_is_opening_keeps_what_he_needs() {
    let mem = MemFs::new();
    let db = open(&mem, "/db");
    let a = keyspace(&db, "a");
    a.put("k", "1").unwrap();
    db.checkpoint("/copy").unwrap();
    let before = tables(&mem, "/copy");
    let opening = mem.try_lock(Path::new("/copy/READERS"), LockMode::Shared).unwrap().unwrap();
    a.put("k", "2").unwrap();
    db.compact().unwrap();
    assert_eq!(counts(&db.checkpoint("/copy").unwrap()), [0, 1, 0, 0]);
    assert!(before.iter().all(|name| tables(&mem, "/copy").contains(name)));
    drop(opening);
    assert_eq!(counts(&db.checkpoint("/copy").unwrap()), [1, 0, 0, 0]);
    assert_eq!(tables(&mem, "/copy").len(), 1);
}

#[test]
fn while_it_is_made_others_write_flush_merge_and_drop() {
    let mem = MemFs::new();
    let faulty = FaultFs::new(Arc::new(mem.clone()));
    let fs: Arc<dyn FileSystem> = Arc::new(faulty.clone());
    let mut tuning = tiny(3000);
    tuning.step_entries = 100;
    let db = open_at(&fs, "/db", Background::Threads, &tuning).unwrap();
    let (a, b) = (keyspace(&db, "a"), keyspace(&db, "b"));
    let (is_over, committed) = (AtomicBool::new(false), AtomicU64::new(0));
    /// Ends the writer, if the test fails too: it would be waited for.
    struct Over<'a>(&'a AtomicBool);
    impl Drop for Over<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Release);
        }
    }
    std::thread::scope(|scope| {
        let _over = Over(&is_over);
        scope.spawn(|| {
            for number in 0u32.. {
                if is_over.load(Ordering::Acquire) {
                    return;
                }
                // The same in both, always.
                let mut batch = lsm::Batch::new();
                for keyspace in [&a, &b] {
                    batch.put(keyspace, format!("{:03}", number % 500), format!("{number}"));
                    batch.put(keyspace, "last", format!("{number}"));
                }
                committed.store(db.commit(batch, Durability::Process).unwrap(), Ordering::Release);
                if number.is_multiple_of(50) {
                    let goes = keyspace(&db, "goes");
                    goes.put("k", "v").unwrap();
                    db.drop_keyspace(&goes).unwrap();
                }
            }
        });
        for round in 0..40 {
            if round == 20 {
                faulty.inject(Fault::sticky(FaultCall::Link, 1, FaultEffect::Error));
            }
            // Not what is visible: the newest may be in a keyspace that is gone then, and nothing was written behind it.
            let before = committed.load(Ordering::Acquire);
            let info = db.checkpoint(["/copy", "/another"][round % 2]).unwrap();
            assert!(info.sequence >= before, "round {round}");
            let copy = open_at(&fs, ["/copy", "/another"][round % 2], Background::Manual, &tuning).unwrap();
            let entries =
                |name: &str| -> Vec<_> { keyspace(&copy, name).iter().map(|item| item.unwrap()).collect() };
            assert_eq!(entries("a"), entries("b"), "round {round}");
            assert_eq!(copy.stats().visible, info.sequence);
            check(&copy);
            copy.close().unwrap();
        }
    });
    assert!(db.stats().failure.is_none());
}

#[test]
fn what_was_loaded_meanwhile_brings_along_what_was_committed_before_it() {
    let mem = MemFs::new();
    // Behind the flush with which the load is finished, and before its tables are named.
    let before: Arc<Mutex<Option<Keyspace>>> = Arc::default();
    let own = Arc::clone(&before);
    let db = Db::builder("/db")
        .file_system(Arc::new(mem.clone()))
        .background(Background::Manual)
        .memory_bytes(1 << 20)
        .tuning(Tuning::for_memory(1 << 20))
        .on_event(move |event| {
            if matches!(event, lsm::Event::FlushDone { .. })
                && let Some(b) = own.lock().unwrap().take()
            {
                b.put("before", "v").unwrap();
            }
        })
        .open()
        .unwrap();
    let (a, b) = (keyspace(&db, "a"), keyspace(&db, "b"));
    let mut load = a.ingest().unwrap();
    load.put("loaded", "v").unwrap();
    // All that behind the first flush of the checkpoint, and before it takes its moment.
    let meanwhile = Mutex::new(Some((load, b)));
    mem.set_sync_hook(move |path: &Path, _| {
        if path.starts_with("/copy")
            && let Some((load, b)) = meanwhile.lock().unwrap().take()
        {
            b.put("k", "v").unwrap();
            *before.lock().unwrap() = Some(b);
            load.finish().unwrap();
        }
    });
    let info = db.checkpoint("/copy").unwrap();
    let copy = open(&mem, "/copy");
    let has = |name: &str, key: &str| keyspace(&copy, name).contains(key).unwrap();
    assert_eq!((has("a", "loaded"), has("b", "k"), has("b", "before")), (true, true, true));
    assert_eq!(copy.stats().visible, info.sequence);
    check(&copy);
}

#[test]
fn on_a_real_disk_tables_are_linked() {
    let directory = tempfile::tempdir().unwrap();
    let fs: Arc<dyn FileSystem> = Arc::new(OsFs);
    let place = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let db = open_at(&fs, &place("db"), Background::Threads, &tiny(1 << 20)).unwrap();
    keyspace(&db, "a").put("k", "v").unwrap();
    assert_eq!(counts(&db.checkpoint(place("copy")).unwrap()), [0, 1, 0, 0]);
    keyspace(&db, "a").put("l", "v").unwrap();
    assert_eq!(counts(&db.checkpoint(place("copy")).unwrap()), [1, 1, 0, 0]);
    let copy = open_at(&fs, &place("copy"), Background::Threads, &tiny(1 << 20)).unwrap();
    assert_eq!(keyspace(&copy, "a").iter().count(), 2);
    assert_eq!(db.checkpoint(place("copy")).unwrap_err().kind(), ErrorKind::Locked);
    assert!(copy.check().unwrap().is_clean());
}

/// What a run of checkpoints was promised.
struct Run {
    /// The states of the checkpoints, in order, each with the calls that had been made when it was begun and when it was done.
    checkpoints: Vec<(State, u64, u64)>,
}

/// A database, and checkpoints of it into one place, linked or copied; some attempts fail on the way.
fn workload(mem: &MemFs, skipped: Option<SyncSite>, seed: u64) -> Run {
    let mut random = Random(seed);
    let faulty = with_skipped(mem, skipped);
    let (db, mut keyspaces) = open_source(&faulty).unwrap();
    // One of rows, too.
    support::make_keyspace(&db, &mut keyspaces).unwrap();
    let mut state = State::default();
    let mut run = Run { checkpoints: Vec::new() };
    for step in 0..60 {
        match random.below(12) {
            0..=7 => {
                let op = random.op(step, keyspaces.len());
                op.apply_to(&mut state);
                commit(&db, &keyspaces, &[op], Durability::Process).unwrap();
            }
            8 => db.compact().unwrap(),
            9 => {
                // An attempt that ends somewhere on its way, as if the process were killed there.
                let nth = 1 + random.below(6) as u64;
                let call = [FaultCall::Write, FaultCall::SyncDir, FaultCall::Rename, FaultCall::Link]
                    [random.below(4)];
                db.flush().unwrap();
                faulty.inject(Fault::sticky(call, nth, FaultEffect::Error).on("/copy"));
                faulty.inject(Fault::sticky(FaultCall::Remove, 1, FaultEffect::Error).on("/copy"));
                let begun = mem.calls();
                let made = db.checkpoint("/copy");
                faulty.clear();
                // It may be in force all the same.
                let done = if made.is_ok() { mem.calls() } else { u64::MAX };
                run.checkpoints.push((state.clone(), begun, done));
            }
            _ => {
                if random.below(2) == 0 {
                    faulty.inject(Fault::sticky(FaultCall::Link, 1, FaultEffect::Error).on("/copy"));
                }
                let begun = mem.calls();
                db.checkpoint("/copy").unwrap();
                faulty.clear();
                run.checkpoints.push((state.clone(), begun, mem.calls()));
            }
        }
    }
    run
}

fn with_skipped(mem: &MemFs, skipped: Option<SyncSite>) -> FaultFs {
    let fs = FaultFs::new(Arc::new(mem.clone()));
    if let Some(site) = skipped {
        fs.skip_syncs(site);
    }
    fs
}

fn open_source(fs: &FaultFs) -> lsm::Result<(Db, Vec<Keyspace>)> {
    let fs: Arc<dyn FileSystem> = Arc::new(fs.clone());
    support::open(&fs, &tiny(900))
}

/// What the copy holds; `None`: it says itself that it is no database.
fn read_copy(fs: &FaultFs, read_only: bool) -> Result<Option<State>, String> {
    // Who opens the place of a checkpoint that was never begun makes a database there: that is asked before.
    if !fs.exists(Path::new("/copy/MANIFEST")).map_err(|error| error.to_string())? {
        let names = fs.read_dir(Path::new("/copy")).unwrap_or_default();
        let tables = names.iter().filter(|name| name.extension().is_some_and(|end| end == "table"));
        return match tables.count() {
            0 => Ok(None),
            _ => Err(format!("tables without a manifest: {names:?}")),
        };
    }
    let opened = Db::builder("/copy")
        .file_system(Arc::new(fs.clone()))
        .background(Background::Manual)
        .memory_bytes(1 << 20)
        .tuning(tiny(900))
        .read_only(read_only)
        .open();
    let copy = match opened {
        Err(error) if error.kind() == ErrorKind::NotFound && error.to_string().contains("never finished") => {
            return Ok(None);
        }
        opened => opened.map_err(|error| format!("does not open: {error}"))?,
    };
    let mut state = State::default();
    for (index, (map, name)) in state.iter_mut().zip(support::KEYSPACES).enumerate() {
        if copy.keyspace_names().iter().any(|there| there == name) {
            let keyspace = copy.keyspace(name, support::options(index)).map_err(|error| error.to_string())?;
            for item in keyspace.iter() {
                let (key, value) = item.map_err(|error| format!("cannot be read: {error}"))?;
                map.insert(key.to_vec(), value.to_vec());
            }
        }
    }
    let report = copy.check().map_err(|error| error.to_string())?;
    match report.is_clean() {
        true => Ok(Some(state)),
        false => Err(format!("is not sound: {report:?}")),
    }
}

fn examine(
    mem: &MemFs,
    skipped: Option<SyncSite>,
    run: &Run,
    calls: u64,
    thoroughly: bool,
) -> Result<(), String> {
    let fs = with_skipped(mem, skipped);
    let found = read_copy(&fs, true)?;
    let done = run.checkpoints.iter().rposition(|(.., done)| *done <= calls);
    let begun = run.checkpoints.iter().rposition(|(_, begun, _)| *begun <= calls);
    let allowed = done.unwrap_or(0)..begun.map_or(0, |last| last + 1);
    match &found {
        None if done.is_some() => return Err("there is none any more".to_owned()),
        None => {}
        Some(found) if run.checkpoints[allowed].iter().any(|(state, ..)| state == found) => {}
        Some(found) => return Err(format!("holds what was in no checkpoint of that time: {found:?}")),
    }
    if !thoroughly {
        return Ok(());
    }
    // The database goes on, and so do its checkpoints.
    let (db, keyspaces) = open_source(&fs).map_err(|error| format!("the database does not open: {error}"))?;
    let expected = dump(&keyspaces).map_err(|error| error.to_string())?;
    db.checkpoint("/copy").map_err(|error| format!("there can be no other: {error}"))?;
    for policy in [CrashPolicy::SyncedOnly, CrashPolicy::Everything] {
        let crashed = with_skipped(&mem.crash(policy, calls), skipped);
        if read_copy(&crashed, false)?.as_ref() != Some(&expected) {
            return Err(format!("the next one is not what it should be, {policy:?}"));
        }
    }
    Ok(())
}

fn drive(seed: u64, skipped: Option<SyncSite>) -> Result<usize, String> {
    let mem = MemFs::new();
    mem.record_snapshots();
    let run = workload(&mem, skipped, seed);
    let snapshots = mem.take_snapshots();
    let mut random = Random(seed ^ 0x99);
    let mut crashes = 0;
    for snapshot in snapshots.iter().filter(|snapshot| snapshot.call.path.starts_with("/copy")) {
        let number = snapshot.call.number;
        let between = CrashPolicy::ALL[2 + random.below(CrashPolicy::ALL.len() - 2)];
        for policy in [CrashPolicy::SyncedOnly, CrashPolicy::Everything, between] {
            crashes += 1;
            let thoroughly = random.below(4) == 0;
            examine(&snapshot.fs.crash(policy, number), skipped, &run, number, thoroughly)
                .map_err(|error| format!("seed {seed}, {policy:?}, after {}: {error}", snapshot.call))?;
        }
        // Killed here (behind each rename, which may not be durable), tried again, and then the power goes somewhere on the way.
        let is_rename = snapshot.call.what == "rename";
        if is_rename || random.below(8) == 0 {
            crashes += try_again(snapshot, skipped, &run, &mut random)
                .map_err(|error| format!("seed {seed}, killed after {}: {error}", snapshot.call))?;
        }
    }
    Ok(crashes)
}

fn try_again(
    snapshot: &lsm::fs::Snapshot,
    skipped: Option<SyncSite>,
    run: &Run,
    random: &mut Random,
) -> Result<usize, String> {
    let number = snapshot.call.number;
    let killed = snapshot.fs.snapshot();
    killed.record_snapshots();
    let (db, keyspaces) = open_source(&with_skipped(&killed, skipped)).map_err(|error| error.to_string())?;
    let state = dump(&keyspaces).map_err(|error| error.to_string())?;
    db.checkpoint("/copy").map_err(|error| format!("there can be no other: {error}"))?;
    let mut checkpoints = run.checkpoints.clone();
    checkpoints.retain(|(_, begun, _)| *begun <= number);
    checkpoints.push((state, number, u64::MAX));
    let again = Run { checkpoints };
    let mut moments = killed.take_snapshots();
    moments.retain(|moment| moment.call.path.starts_with("/copy"));
    for moment in &moments {
        let policy = CrashPolicy::ALL[random.below(CrashPolicy::ALL.len())];
        for policy in [policy, CrashPolicy::Suffix] {
            examine(&moment.fs.crash(policy, random.next()), skipped, &again, number, false)
                .map_err(|error| format!("and tried again, {policy:?}, after {}: {error}", moment.call))?;
        }
    }
    Ok(2 * moments.len())
}

#[test]
fn a_crash_leaves_the_old_one_or_the_new_one() {
    let seeds = std::env::var("LSM_CRASH_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(4);
    let crashes: usize =
        (0..seeds).map(|seed| drive(seed, None).unwrap_or_else(|error| panic!("{error}"))).sum();
    assert!(crashes > 500, "{crashes} crashes: the workload does nothing");
}

#[test]
fn without_any_one_sync_a_crash_is_noticed() {
    let sites = [
        &lsm::checkpoint_sites::ALL[..],
        &[lsm::manifest::sites::FRESH, lsm::manifest::sites::FRESH_DIRECTORY],
    ];
    let mut unmissed = Vec::new();
    for site in sites.concat() {
        let noticed = (0..20).find_map(|seed| {
            let run = std::panic::catch_unwind(|| drive(seed, Some(site)));
            run.unwrap_or_else(|_| Err("the workload itself fails".to_owned())).err()
        });
        match noticed {
            Some(error) => println!("without {site}: {}", error.chars().take(300).collect::<String>()),
            None => unmissed.push(site),
        }
    }
    assert!(unmissed.is_empty(), "nobody misses the syncs of {unmissed:?}");
}

#[test]
fn an_attempt_that_fails_harms_neither_the_database_nor_the_older_one() {
    let mut fired = 0;
    for links in [true, false] {
        for call in FaultCall::ALL {
            for nth in 1.. {
                let mem = MemFs::new();
                let linkless = FaultFs::new(Arc::new(mem.clone()));
                let faulty = FaultFs::new(Arc::new(linkless.clone()));
                let (db, keyspaces) = open_source(&faulty).unwrap();
                let put = |key: &[u8]| {
                    let op = Op::Put(0, key.to_vec(), vec![b'.'; 300]);
                    commit(&db, &keyspaces, &[op], Durability::Process).unwrap();
                };
                put(b"1");
                db.checkpoint("/copy").unwrap();
                let old = dump(&keyspaces).unwrap();
                put(b"2");
                db.flush().unwrap();
                put(b"3");
                db.compact().unwrap();
                let new = dump(&keyspaces).unwrap();
                if !links {
                    linkless.inject(Fault::sticky(FaultCall::Link, 1, FaultEffect::NoSpace));
                }
                faulty.inject(Fault {
                    call,
                    path: Some("/copy".to_owned()),
                    nth,
                    sticky: true,
                    effect: FaultEffect::NoSpace,
                });
                let made = db.checkpoint("/copy");
                let has_fired = faulty.fired() > 0;
                faulty.clear();
                let place = format!("{call:?} number {nth}, links: {links}");
                if !has_fired {
                    made.unwrap();
                    break;
                }
                fired += 1;
                assert!(db.stats().failure.is_none(), "{place}");
                let found = read_copy(&with_skipped(&mem.snapshot(), None), true).unwrap().unwrap();
                assert!(found == new || (made.is_err() && found == old), "{place}: {found:?}");
                db.checkpoint("/copy").unwrap();
                assert_eq!(read_copy(&with_skipped(&mem, None), true).unwrap(), Some(new), "{place}");
                assert_eq!(
                    tables(&mem, "/copy"),
                    tables(&mem, "/db"),
                    "{place}: what the attempt left is gone"
                );
            }
        }
    }
    assert!(fired > 20, "{fired} faults");
}
