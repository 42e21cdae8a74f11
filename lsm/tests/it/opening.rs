//! Opening: beside a writer, after accidents, over damage, with wrong arguments.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use lsm::fs::{FaultCall, FaultFs, FileSystem, LockMode, MemFs};
use lsm::{Background, Batch, Db, Durability, ErrorKind, Keyspace, KeyspaceOptions, RecoveryMode};

use crate::support::{self, Op, Random, State, commit, dump, tiny};

fn shared(fs: &MemFs) -> Arc<dyn FileSystem> {
    Arc::new(fs.clone())
}

fn open_read_only(fs: &MemFs) -> lsm::Result<Db> {
    let builder = Db::builder("/db").file_system(shared(fs)).tuning(tiny(600)).memory_bytes(1 << 20);
    builder.read_only(true).background(Background::Manual).open()
}

fn keyspaces(db: &Db) -> Vec<Keyspace> {
    support::keyspaces(db).unwrap()
}

fn names(fs: &MemFs, directory: &str) -> Vec<String> {
    let mut names: Vec<String> = fs
        .read_dir(Path::new(directory))
        .unwrap()
        .iter()
        .map(|name| name.file_name().unwrap().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// Random commits; the state after them.
fn fill(db: &Db, keyspaces: &[Keyspace], state: &mut State, seed: u64, commits: usize) {
    let mut random = Random(seed);
    for number in 0..commits {
        let ops: Vec<Op> = (0..3).map(|_| random.op(number, keyspaces.len())).collect();
        ops.iter().for_each(|op| op.apply_to(state));
        commit(db, keyspaces, &ops, Durability::System).unwrap();
    }
}

#[test]
fn a_reader_beside_a_writer_sees_one_moment_and_writes_nothing() {
    let fs = MemFs::new();
    let (db, writers) = support::open(&shared(&fs), &tiny(600)).unwrap();
    let mut state = State::default();
    for round in 0..10 {
        fill(&db, &writers, &mut state, round, 10);
        let calls = fs.calls();
        let reader = open_read_only(&fs).unwrap();
        let readers = keyspaces(&reader);
        assert_eq!(dump(&readers).unwrap(), state);
        assert!(reader.check().unwrap().is_clean());
        for error in [
            readers[0].put("a", "b").unwrap_err(),
            reader.flush().unwrap_err(),
            reader.sync().unwrap_err(),
            reader.compact().unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::ReadOnly, "{error}");
        }
        let error = reader.keyspace("none", KeyspaceOptions::sorted()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert_eq!(fs.calls(), calls, "{:?}", fs.last_call());
        // Whatever the writer does, the reader goes on seeing its moment.
        let before = state.clone();
        fill(&db, &writers, &mut state, round + 100, 10);
        db.compact().unwrap();
        assert_eq!(dump(&readers).unwrap(), before);
    }
}

#[test]
fn a_reader_reads_the_log_in_large_pieces() {
    let fs = MemFs::new();
    let open = |read_only: bool, fs: Arc<dyn FileSystem>| {
        let builder = Db::builder("/db").file_system(fs).background(Background::Manual).read_only(read_only);
        builder.open().unwrap()
    };
    let db = open(false, shared(&fs));
    let keyspace = db.keyspace("one", KeyspaceOptions::sorted()).unwrap();
    for number in 0u32..3000 {
        keyspace.put(number.to_be_bytes(), [0; 1000]).unwrap();
    }
    let counting = FaultFs::new(shared(&fs));
    let reader = open(true, Arc::new(counting.clone()));
    assert_eq!(reader.keyspace("one", KeyspaceOptions::sorted()).unwrap().iter().count(), 3000);
    // Three megabytes, gone over three times: for its end, for what it says of durability, for what is in it. (A full window
    // for each record would be 2,000 reads and more.)
    let reads = counting.calls(FaultCall::Read);
    assert!(reads < 30, "{reads} reads");
}

#[test]
fn nothing_is_removed_while_a_reader_opens() {
    let fs = MemFs::new();
    let (db, writers) = support::open(&shared(&fs), &tiny(600)).unwrap();
    let mut state = State::default();
    fill(&db, &writers, &mut state, 1, 20);
    db.flush().unwrap();
    let tables = |fs: &MemFs| names(fs, "/db").into_iter().filter(|name| name.ends_with(".table")).count();
    let before = names(&fs, "/db");
    let opening = fs.try_lock(Path::new("/db/READERS"), LockMode::Shared).unwrap().unwrap();
    db.compact().unwrap();
    let during = names(&fs, "/db");
    assert!(before.iter().all(|name| during.contains(name)), "{before:?} {during:?}");
    assert!(db.stats().obsolete_files > 0);
    drop(opening);
    fill(&db, &writers, &mut state, 2, 5);
    db.flush().unwrap();
    assert_eq!(db.stats().obsolete_files, 0);
    let live: usize = db.stats().keyspaces.iter().flat_map(|keyspace| keyspace.level_tables.clone()).sum();
    assert_eq!(tables(&fs), live);
    assert!(db.check().unwrap().unknown_files.is_empty());
}

#[test]
fn there_is_nothing_to_read_where_there_is_nothing() {
    let fs = MemFs::new();
    assert_eq!(open_read_only(&fs).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(fs.calls(), 0);
}

#[test]
fn leftovers_are_removed_and_unknown_files_set_aside() {
    let fs = MemFs::new();
    let (db, writers) = support::open(&shared(&fs), &tiny(600)).unwrap();
    let mut state = State::default();
    fill(&db, &writers, &mut state, 1, 20);
    db.flush().unwrap();
    let named = names(&fs, "/db");
    drop(writers);
    db.close().unwrap();
    let create = |name: &str| drop(fs.create_new(&Path::new("/db").join(name)).unwrap());
    create("00000001.table");
    create("00009999.table");
    create("notes.txt");
    let (db, writers) = support::open(&shared(&fs), &tiny(600)).unwrap();
    assert!(names(&fs, "/db").contains(&"00000001.table".to_owned()), "a clean opening removes nothing");
    assert_eq!(names(&fs, "/db/lost"), ["00009999.table"]);
    fill(&db, &writers, &mut state, 2, 5);
    db.flush().unwrap();
    let after = names(&fs, "/db");
    assert!(!after.contains(&"00000001.table".to_owned()), "{after:?}");
    assert!(after.contains(&"notes.txt".to_owned()), "what is none of ours stays");
    // The number of the unknown file is not given out.
    let numbers = after
        .iter()
        .filter(|name| !named.contains(name))
        .filter_map(|name| name.split('.').next()?.parse::<u64>().ok());
    assert!(numbers.min().unwrap() > 9999, "{after:?}");
    assert_eq!(dump(&writers).unwrap(), state);
}

#[test]
fn a_name_with_an_absurd_number_is_in_nobodys_way() {
    for number in [u64::MAX, u64::MAX - 1, 1 << 63] {
        let fs = MemFs::new();
        drop(support::open(&shared(&fs), &tiny(600)).unwrap());
        let name = format!("{number}.log");
        fs.create_new(&Path::new("/db").join(&name)).unwrap();
        let (db, writers) = support::open(&shared(&fs), &tiny(600)).unwrap();
        let mut state = State::default();
        fill(&db, &writers, &mut state, 1, 30);
        db.flush().unwrap();
        assert_eq!(names(&fs, "/db/lost"), [name]);
        assert!(names(&fs, "/db").iter().all(|name| name.len() <= "00000001.table".len()));
    }
}

/// A database with tables in several levels, and something in its log; closed in order.
fn closed(state: &mut State) -> MemFs {
    let fs = MemFs::new();
    let (db, writers) = support::open(&shared(&fs), &tiny(600)).unwrap();
    fill(&db, &writers, state, 3, 12);
    db.compact().unwrap();
    fill(&db, &writers, state, 4, 3);
    db.flush().unwrap();
    fill(&db, &writers, state, 5, 2);
    drop(writers);
    db.close().unwrap();
    fs
}

#[test]
fn what_is_missing_is_named() {
    let mut state = State::default();
    let fs = closed(&mut state);
    for name in names(&fs, "/db").into_iter().filter(|name| !["LOCK", "READERS"].contains(&name.as_str())) {
        let damaged = fs.snapshot();
        damaged.remove_file(&Path::new("/db").join(&name)).unwrap();
        let calls = damaged.calls();
        let error = support::open(&shared(&damaged), &tiny(600)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corruption, "{name}: {error}");
        let is_named = error.to_string().contains(&name);
        assert!(
            is_named || name == "MANIFEST" && error.to_string().contains("no MANIFEST"),
            "{name}: {error}"
        );
        // A sync of the log, of the parent directory: nothing was changed.
        assert!(damaged.calls() - calls <= 2, "{name}");
    }
}

#[test]
fn every_flipped_byte_is_found_or_harmless() {
    let mut state = State::default();
    let fs = closed(&mut state);
    let mut harmless = 0;
    let mut found_by_check = 0;
    let mut found_by_opening = 0;
    for name in names(&fs, "/db").into_iter().filter(|name| !["LOCK", "READERS"].contains(&name.as_str())) {
        let path: PathBuf = Path::new("/db").join(&name);
        let mut bytes = vec![0; usize::try_from(fs.open_read(&path).unwrap().len().unwrap()).unwrap()];
        fs.open_read(&path).unwrap().read_exact_at(&mut bytes, 0).unwrap();
        for index in 0..bytes.len() {
            let damaged = fs.snapshot();
            let mut copy = bytes.clone();
            copy[index] ^= 0x40;
            damaged.remove_file(&path).unwrap();
            damaged.create_new(&path).unwrap().write_all_at(&copy, 0).unwrap();
            let place = format!("{name}, byte {index}");
            let (db, readers) = match support::open(&shared(&damaged), &tiny(600)) {
                Ok(opened) => opened,
                Err(error) => {
                    assert!(error.path().is_some(), "{place}: {error}");
                    assert!(
                        matches!(error.kind(), ErrorKind::Corruption | ErrorKind::NewerFormat),
                        "{place}: {error}"
                    );
                    found_by_opening += 1;
                    continue;
                }
            };
            let report = db.check().unwrap();
            match dump(&readers) {
                Ok(found) if found == state => {
                    harmless += usize::from(report.is_clean() && db.recovery_report().is_clean());
                }
                // It was closed in order: nothing in it may be taken for torn.
                Ok(_) => assert!(db.recovery_report().is_lossy, "{place}: wrong data, and nobody says so"),
                Err(error) => assert_eq!(error.kind(), ErrorKind::Corruption, "{place}"),
            }
            if !report.is_clean() {
                found_by_check += 1;
                assert!(report.faults.iter().all(|fault| fault.path().is_some()), "{place}: {report:?}");
            }
        }
    }
    assert!(found_by_check > 100 && found_by_opening > 100);
    // Unused bytes, and optional features.
    assert!(harmless < 150, "{harmless} flips were noticed by nobody");
}

#[test]
fn a_strict_opening_refuses_what_was_not_closed() {
    let fs = MemFs::new();
    let (db, writers) = support::open(&shared(&fs), &tiny(600)).unwrap();
    fill(&db, &writers, &mut State::default(), 3, 2);
    let strict = |fs: &MemFs| {
        let builder = Db::builder("/db").file_system(shared(fs)).background(Background::Manual);
        builder.recovery(RecoveryMode::Strict).open()
    };
    assert_eq!(strict(&fs.snapshot()).unwrap_err().kind(), ErrorKind::Corruption);
    drop(writers);
    db.close().unwrap();
    strict(&fs).unwrap();
}

#[test]
fn wrong_arguments_are_refused_and_change_nothing() {
    let (one, other) = (MemFs::new(), MemFs::new());
    let (db, ours) = support::open(&shared(&one), &tiny(600)).unwrap();
    let (stranger, theirs) = support::open(&shared(&other), &tiny(600)).unwrap();
    let refused = |batch: Batch| {
        let error = db.commit(batch, Durability::Synced).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    };
    let mut batch = Batch::new();
    batch.put(&theirs[0], "a", "b");
    refused(batch);
    let mut batch = Batch::new();
    batch.put(&ours[0], "a", "b");
    batch.put(&theirs[0], "a", "b");
    refused(batch);
    let mut batch = Batch::new();
    batch.put(&ours[0], "fine", "b");
    batch.put(&ours[0], vec![0; lsm::key::KEY_BYTES_MAX + 1], "b");
    refused(batch);
    assert_eq!(dump(&ours).unwrap(), State::default());
    assert_eq!(stranger.snapshot().get(&ours[0], "a").unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert_eq!(db.commit(Batch::new(), Durability::Synced).unwrap(), 0);
    for name in ["", &"x".repeat(256)] {
        let error = db.keyspace(name, KeyspaceOptions::sorted()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    }
    db.keyspace(&"x".repeat(255), KeyspaceOptions::sorted()).unwrap();
    let mut endless = tiny(600);
    endless.frozen_max = usize::MAX;
    support::open(&shared(&MemFs::new()), &endless).unwrap();
    ours[0].put("fine", "now").unwrap();
}

#[test]
fn a_closed_database_says_so_and_scans_live_on() {
    let fs = MemFs::new();
    let (db, keyspaces) = support::open(&shared(&fs), &tiny(600)).unwrap();
    let mut state = State::default();
    fill(&db, &keyspaces, &mut state, 9, 20);
    let mut scan = keyspaces[0].iter();
    let first = scan.next().unwrap().unwrap();
    let snapshot = db.snapshot();
    db.clone().close().unwrap();
    for error in [
        keyspaces[0].get("a").unwrap_err(),
        keyspaces[0].put("a", "b").unwrap_err(),
        keyspaces[0].iter().next().unwrap().unwrap_err(),
        db.flush().unwrap_err(),
        db.check().unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
    }
    db.close().unwrap();
    assert_eq!(1 + scan.map(Result::unwrap).count(), state[0].len());
    assert_eq!(snapshot.get(&keyspaces[0], &first.0).unwrap().unwrap(), first.1);
    let (_, again) = support::open(&shared(&fs), &tiny(600)).unwrap();
    assert_eq!(dump(&again).unwrap(), state);
}
