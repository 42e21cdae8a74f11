//! The manifest loses its last edit: by a flipped bit, by zeros, by a cut. What that edit had named is not forgotten in silence.

use std::path::Path;
use std::sync::Arc;

use lsm::fs::{Fault, FaultCall, FaultEffect, FaultFs, FileSystem, MemFs};
use lsm::journal::{LogKind, read_records};
use lsm::{Background, Builder, Db, Durability, ErrorKind, RecoveryMode};

use crate::support::{self, Op, State, commit, dump, tiny};

const MANIFEST: &str = "/db/MANIFEST";

fn builder(fs: &MemFs, mode: RecoveryMode) -> Builder {
    let fs: Arc<dyn FileSystem> = Arc::new(fs.clone());
    Db::builder("/db").file_system(fs).background(Background::Manual).tuning(tiny(100_000)).recovery(mode)
}

fn open_dump(fs: &MemFs, mode: RecoveryMode) -> (Db, State) {
    let db = builder(fs, mode).open().unwrap();
    let state = dump(&support::keyspaces(&db).unwrap()).unwrap();
    (db, state)
}

/// A database whose newest edit names a log of synced commits: closed in order, or not.
fn written(in_order: bool) -> (MemFs, State) {
    let fs = MemFs::new();
    let mut state = State::default();
    let db = builder(&fs, RecoveryMode::Tail).open().unwrap();
    let keyspaces = support::keyspaces(&db).unwrap();
    let mut write = |number: u8| {
        let op = Op::Put(usize::from(number % 2), vec![number], b"value".to_vec());
        op.apply_to(&mut state);
        commit(&db, &keyspaces, &[op], Durability::Synced).unwrap();
    };
    (0..10).for_each(&mut write);
    db.flush().unwrap();
    (10..20).for_each(&mut write);
    let killed = fs.snapshot();
    drop(keyspaces);
    db.close().unwrap();
    (if in_order { fs } else { killed }, state)
}

fn contents(fs: &MemFs, path: &str) -> Vec<u8> {
    let file = fs.open_read(Path::new(path)).unwrap();
    let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

/// The same disk with another manifest.
fn with_manifest(fs: &MemFs, bytes: &[u8]) -> MemFs {
    let damaged = fs.snapshot();
    damaged.remove_file(Path::new(MANIFEST)).unwrap();
    damaged.create_new(Path::new(MANIFEST)).unwrap().write_all_at(bytes, 0).unwrap();
    damaged
}

/// Where the last edit begins.
fn last_edit(fs: &MemFs) -> usize {
    edits(fs).pop().unwrap()
}

/// Where each edit begins.
fn edits(fs: &MemFs) -> Vec<usize> {
    let mut offsets = Vec::new();
    let file = fs.open_read(Path::new(MANIFEST)).unwrap();
    read_records(file, Path::new(MANIFEST), LogKind::Manifest, &mut |record| {
        offsets.push(usize::try_from(record.offset).unwrap());
        Ok(())
    })
    .unwrap();
    offsets
}

/// Each way in which the last edit may be gone.
fn damaged() -> Vec<(String, MemFs, State)> {
    let mut cases = Vec::new();
    for in_order in [true, false] {
        let (fs, state) = written(in_order);
        let (bytes, at) = (contents(&fs, MANIFEST), last_edit(&fs));
        let mut case = |name: &str, bytes: &[u8]| {
            let name = format!("{name}, closed in order: {in_order}");
            cases.push((name, with_manifest(&fs, bytes), state.clone()));
        };
        for offset in [at, at + 20, at + 41] {
            let mut flipped = bytes.clone();
            flipped[offset] ^= 1;
            case(&format!("a bit of byte {offset}"), &flipped);
        }
        let mut zeros = bytes.clone();
        zeros[at..].fill(0);
        case("zeros", &zeros);
        case("cut", &bytes[..at]);
    }
    cases
}

#[test]
fn a_log_that_the_manifest_has_forgotten_is_an_error() {
    for (place, fs, _) in damaged() {
        let before = fs.calls();
        for (mode, read_only) in [
            (RecoveryMode::Tail, false),
            (RecoveryMode::Tail, true),
            (RecoveryMode::Strict, false),
            (RecoveryMode::Strict, true),
        ] {
            let error = builder(&fs, mode).read_only(read_only).open().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corruption, "{place}: {error}");
            assert_eq!(error.path(), Some(Path::new(MANIFEST)), "{place}: {error}");
            assert!(error.offset().is_some(), "{place}: {error}");
            if mode == RecoveryMode::Tail {
                for word in [".log", "sequence numbers 11 to 20", "Salvage", "PointInTime", "from a copy"] {
                    assert!(error.to_string().contains(word), "{place}: no {word:?} in {error}");
                }
            }
        }
        assert_eq!(fs.calls(), before, "{place}: nothing was changed");
    }
}

#[test]
fn salvage_takes_the_forgotten_log_and_point_in_time_sets_it_aside() {
    for (place, fs, state) in damaged() {
        let salvaged = fs.snapshot();
        {
            let (db, found) = open_dump(&salvaged, RecoveryMode::Salvage);
            assert_eq!(found, state, "{place}");
            assert!(db.recovery_report().is_lossy, "{place}");
            assert!(db.check().unwrap().is_clean(), "{place}");
        }
        let (db, found) = open_dump(&salvaged, RecoveryMode::Tail);
        assert_eq!(found, state, "{place}");
        assert!(!db.recovery_report().is_lossy, "{place}");

        let stopped = fs.snapshot();
        {
            let (db, found) = open_dump(&stopped, RecoveryMode::PointInTime);
            assert_eq!(found.iter().map(|map| map.len()).sum::<usize>(), 10, "{place}");
            assert!(db.recovery_report().is_lossy, "{place}");
            let lost = stopped.read_dir(Path::new("/db/lost")).unwrap();
            assert!(lost.iter().any(|name| name.to_string_lossy().ends_with(".log")), "{place}: {lost:?}");
            // Numbers that were given out are not given again.
            let keyspaces = support::keyspaces(&db).unwrap();
            let op = Op::Put(0, b"more".to_vec(), vec![]);
            assert!(commit(&db, &keyspaces, &[op], Durability::Synced).unwrap() > 20, "{place}");
        }
        open_dump(&stopped, RecoveryMode::Tail);

        for (mode, count) in [(RecoveryMode::Salvage, 20), (RecoveryMode::PointInTime, 10)] {
            let calls = fs.calls();
            let reader = builder(&fs, mode).read_only(true).open().unwrap();
            assert!(reader.recovery_report().is_lossy, "{place}");
            let found = dump(&support::keyspaces(&reader).unwrap()).unwrap();
            assert_eq!(found.iter().map(|map| map.len()).sum::<usize>(), count, "{place}");
            assert_eq!(fs.calls(), calls, "{place}");
        }
    }
}

/// What a crash leaves of a log that was being made, and logs that were flushed and not yet removed: neither is a loss.
#[test]
fn a_log_that_was_never_named_and_one_that_is_named_no_more_are_no_loss() {
    let (fs, state) = written(true);
    let named = fs.read_dir(Path::new("/db")).unwrap();
    let log = named.iter().find(|name| name.to_string_lossy().ends_with(".log")).unwrap();
    let log = Path::new("/db").join(log.file_name().unwrap());
    let path = log.to_str().unwrap().to_owned();
    let bytes = contents(&fs, &path);
    // Its header and first record stand; the edit that was to name it does not.
    let manifest = contents(&fs, MANIFEST);
    let begun = with_manifest(&fs, &manifest[..last_edit(&fs)]);
    begun.remove_file(&log).unwrap();
    begun.create_new(&log).unwrap().write_all_at(&bytes[..168], 0).unwrap();
    let (db, found) = open_dump(&begun, RecoveryMode::Tail);
    assert!(!db.recovery_report().is_lossy);
    assert_eq!(found.iter().map(|map| map.len()).sum::<usize>(), 10);

    let (db, _) = open_dump(&fs, RecoveryMode::Tail);
    db.flush().unwrap();
    db.close().unwrap();
    assert!(!fs.exists(&log).unwrap());
    fs.create_new(&log).unwrap().write_all_at(&bytes, 0).unwrap();
    for mode in [RecoveryMode::Strict, RecoveryMode::Tail] {
        let (db, found) = open_dump(&fs, mode);
        assert_eq!(found, state);
        assert!(!db.recovery_report().is_lossy);
    }
}

/// More is gone than the last edit: the ones too that gave out the number of the newest log.
#[test]
fn salvage_takes_a_log_in_whose_number_was_forgotten_too() {
    let fs = MemFs::new();
    let mut tuning = tiny(100_000);
    // Neither is a table merged away, nor a fresh manifest begun.
    (tuning.level0_tables_slow, tuning.manifest_bytes) = (100, 1 << 20);
    let db = builder(&fs, RecoveryMode::Tail).tuning(tuning).open().unwrap();
    let keyspaces = support::keyspaces(&db).unwrap();
    let write = |number: u8| {
        let op = Op::Put(usize::from(number % 2), vec![number], b"value".to_vec());
        commit(&db, &keyspaces, &[op], Durability::Synced).unwrap();
    };
    write(0);
    let early = edits(&fs).len();
    // Each takes the numbers of two files at least.
    for number in 1..20 {
        db.flush().unwrap();
        write(number);
    }
    let killed = fs.snapshot();
    let (bytes, edits) = (contents(&killed, MANIFEST), edits(&killed));
    let mut opened = 0;
    for at in &edits[early..] {
        let damaged = with_manifest(&killed, &bytes[..*at]);
        let found = {
            let (db, found) = open_dump(&damaged, RecoveryMode::Salvage);
            assert!(db.recovery_report().is_lossy, "cut at {at}");
            assert!(found[1].contains_key(&[19][..]), "cut at {at}: the newest log was taken in: {found:?}");
            assert!(db.check().unwrap().is_clean(), "cut at {at}");
            found
        };
        let (db, again) = open_dump(&damaged, RecoveryMode::Tail);
        assert_eq!(again, found, "cut at {at}");
        assert!(!db.recovery_report().is_lossy, "cut at {at}");
        opened += 1;
    }
    assert!(opened > 16, "{opened}");
}

/// The only log of a closed database, and what is in it.
fn the_log(fs: &MemFs) -> (String, Vec<u8>) {
    let names = fs.read_dir(Path::new("/db")).unwrap();
    let name = names.iter().find(|name| name.to_string_lossy().ends_with(".log")).unwrap();
    let path = Path::new("/db").join(name.file_name().unwrap()).to_str().unwrap().to_owned();
    let bytes = contents(fs, &path);
    (path, bytes)
}

/// A builder on a disk that cannot read a file.
fn cannot_read(fs: &MemFs, path: &str, call: FaultCall, mode: RecoveryMode) -> Builder {
    let faulty = FaultFs::new(Arc::new(fs.clone()));
    faulty.inject(Fault::sticky(call, 1, FaultEffect::Error).on(path));
    builder(fs, mode).file_system(Arc::new(faulty))
}

#[test]
fn a_log_of_no_name_that_cannot_be_read_is_lost_where_that_is_allowed() {
    let (fs, _) = written(true);
    let (path, _) = the_log(&fs);
    let fs = with_manifest(&fs, &contents(&fs, MANIFEST)[..last_edit(&fs)]);
    for call in [FaultCall::Open, FaultCall::Read] {
        for (mode, read_only) in [
            (RecoveryMode::Tail, false),
            (RecoveryMode::Tail, true),
            (RecoveryMode::Strict, false),
            (RecoveryMode::Strict, true),
        ] {
            let error = cannot_read(&fs, &path, call, mode).read_only(read_only).open().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Io, "{error}");
            assert_eq!(error.path(), Some(Path::new(&path)), "{error}");
        }
        for mode in [RecoveryMode::Salvage, RecoveryMode::PointInTime] {
            let entries = |db: &Db| {
                let found = dump(&support::keyspaces(db).unwrap()).unwrap();
                found.iter().map(|map| map.len()).sum::<usize>()
            };
            let disk = fs.snapshot();
            let reader = cannot_read(&disk, &path, call, mode).read_only(true).open().unwrap();
            assert!(reader.recovery_report().is_lossy);
            assert_eq!(entries(&reader), 10);
            assert!(disk.exists(Path::new(&path)).unwrap(), "a reader changes nothing");
            drop(reader);
            let db = cannot_read(&disk, &path, call, mode).open().unwrap();
            assert!(db.recovery_report().is_lossy);
            assert_eq!(entries(&db), 10);
            drop(db);
            assert!(!disk.exists(Path::new(&path)).unwrap());
            assert!(disk.exists(Path::new(&path.replace("/db/", "/db/lost/"))).unwrap());
            let (db, _) = open_dump(&disk, RecoveryMode::Tail);
            assert!(!db.recovery_report().is_lossy);
        }
    }
}

/// An edit took its name from it, as a later log's name says: whatever the disk makes of it, it is a leftover.
#[test]
fn nobody_reads_a_log_below_one_that_is_named() {
    let (fs, mut state) = written(true);
    let (path, bytes) = the_log(&fs);
    {
        let db = builder(&fs, RecoveryMode::Tail).open().unwrap();
        let keyspaces = support::keyspaces(&db).unwrap();
        db.flush().unwrap();
        let op = Op::Put(0, b"more".to_vec(), vec![]);
        op.apply_to(&mut state);
        commit(&db, &keyspaces, &[op], Durability::Synced).unwrap();
    }
    assert_ne!(the_log(&fs).0, path, "there is another");
    fs.create_new(Path::new(&path)).unwrap().write_all_at(&bytes, 0).unwrap();
    for mode in [RecoveryMode::Strict, RecoveryMode::Tail, RecoveryMode::Salvage, RecoveryMode::PointInTime] {
        for read_only in [true, false] {
            let disk = fs.snapshot();
            let opened = cannot_read(&disk, &path, FaultCall::Open, mode).read_only(read_only);
            let db = opened.open().unwrap();
            assert!(!db.recovery_report().is_lossy, "{mode:?}");
            assert_eq!(dump(&support::keyspaces(&db).unwrap()).unwrap(), state, "{mode:?}");
        }
    }
}
