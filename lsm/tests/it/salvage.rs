//! After a loss that was accepted once nobody is asked to accept it again.

use std::path::Path;
use std::sync::Arc;

use lsm::fs::{CrashPolicy, FileSystem, MemFs};
use lsm::{Background, Builder, Db, Durability, ErrorKind, KeyspaceOptions, RecoveryMode};

use crate::support::tiny;

const LOG: &str = "/db/00000001.log";
const DAMAGED: usize = 1000;

fn builder(fs: &MemFs, mode: RecoveryMode) -> Builder {
    let fs: Arc<dyn FileSystem> = Arc::new(fs.clone());
    Db::builder("/db").file_system(fs).background(Background::Manual).tuning(tiny(100_000)).recovery(mode)
}

fn contents(fs: &MemFs, path: &Path) -> Vec<u8> {
    let file = fs.open_read(path).unwrap();
    let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

/// A hundred entries in a log that was closed in order, behind which others came; one of them is damaged, or the log is gone.
fn damaged(is_gone: bool) -> MemFs {
    let fs = MemFs::new();
    for session in 0..2 {
        let db = builder(&fs, RecoveryMode::Tail).open().unwrap();
        let keyspace = db.keyspace("k", KeyspaceOptions::sorted()).unwrap();
        for number in 0..50 {
            keyspace.put(format!("{session} {number:02}"), "v").unwrap();
        }
        drop(keyspace);
        db.close().unwrap();
    }
    let mut bytes = contents(&fs, Path::new(LOG));
    bytes[DAMAGED] ^= 1;
    fs.remove_file(Path::new(LOG)).unwrap();
    if !is_gone {
        fs.create_new(Path::new(LOG)).unwrap().write_all_at(&bytes, 0).unwrap();
    }
    // All of it is on the medium.
    fs.crash(CrashPolicy::Everything, 0)
}

fn count(db: &Db) -> usize {
    db.keyspace("k", KeyspaceOptions::sorted()).unwrap().iter().count()
}

#[test]
fn what_was_salvaged_opens_in_every_mode() {
    for (is_gone, mode, left) in [
        (false, RecoveryMode::Salvage, 99),
        (true, RecoveryMode::Salvage, 50),
        (false, RecoveryMode::PointInTime, 14),
        (true, RecoveryMode::PointInTime, 0),
    ] {
        let fs = damaged(is_gone);
        assert_eq!(builder(&fs, RecoveryMode::Tail).open().unwrap_err().kind(), ErrorKind::Corruption);
        let db = builder(&fs, mode).open().unwrap();
        assert!(db.recovery_report().is_lossy);
        let found = count(&db);
        assert_eq!(found, left, "{mode:?}");
        assert!(db.check().unwrap().is_clean());
        // Killed at once: it is durable as it is.
        let killed = fs.crash(CrashPolicy::SyncedOnly, 0);
        db.keyspace("k", KeyspaceOptions::sorted()).unwrap().put("new", "v").unwrap();
        db.close().unwrap();
        for (fs, expected) in [(killed, found), (fs, found + 1)] {
            for mode in [RecoveryMode::Strict, RecoveryMode::Tail, RecoveryMode::Salvage] {
                let db = builder(&fs, mode).open().unwrap();
                assert_eq!(count(&db), expected);
                assert!(!db.recovery_report().is_lossy && db.recovery_report().is_clean());
                assert!(db.check().unwrap().is_clean());
            }
        }
    }
}

#[test]
fn what_was_damaged_is_kept_aside() {
    let fs = damaged(false);
    let before = contents(&fs, Path::new(LOG));
    drop(builder(&fs, RecoveryMode::Salvage).open().unwrap());
    assert!(!fs.exists(Path::new(LOG)).unwrap());
    assert_eq!(contents(&fs, Path::new("/db/lost/00000001.log-0")), before);
}

#[test]
fn a_power_loss_while_it_salvages_leaves_it_to_be_salvaged_again() {
    let fs = damaged(false);
    fs.record_snapshots();
    let db = builder(&fs, RecoveryMode::Salvage).open().unwrap();
    let found = count(&db);
    let mut healed = 0;
    for snapshot in fs.take_snapshots() {
        for policy in CrashPolicy::ALL {
            let place = format!("{policy:?} after {}", snapshot.call);
            let crashed = snapshot.fs.crash(policy, snapshot.call.number);
            let again = match builder(&crashed, RecoveryMode::Tail).open() {
                Ok(db) => {
                    healed += 1;
                    db
                }
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Corruption, "{place}: {error}");
                    builder(&crashed, RecoveryMode::Salvage)
                        .open()
                        .unwrap_or_else(|error| panic!("{place}: {error}"))
                }
            };
            assert_eq!(count(&again), found, "{place}");
            assert!(again.check().unwrap().is_clean(), "{place}");
            // In any case what was damaged can still be looked at.
            let aside = crashed.exists(Path::new("/db/lost/00000001.log-0")).unwrap();
            assert!(aside || crashed.exists(Path::new(LOG)).unwrap(), "{place}");
        }
    }
    assert!(healed > 0);
}

#[test]
fn a_reader_salvages_nothing() {
    let fs = damaged(false);
    let calls = fs.calls();
    let db = builder(&fs, RecoveryMode::Salvage).read_only(true).open().unwrap();
    assert_eq!(count(&db), 99);
    assert_eq!(fs.calls(), calls);
}

/// Durable, whatever the mode asks to be salvaged: an opening that finds nothing wrong writes nothing.
#[test]
fn where_nothing_is_lost_nothing_is_salvaged() {
    let fs = MemFs::new();
    let db = builder(&fs, RecoveryMode::Tail).open().unwrap();
    let keyspace = db.keyspace("k", KeyspaceOptions::sorted()).unwrap();
    let mut batch = lsm::Batch::new();
    batch.put(&keyspace, "a", "b");
    db.commit(batch, Durability::Synced).unwrap();
    drop(keyspace);
    db.close().unwrap();
    fs.record_snapshots();
    let db = builder(&fs, RecoveryMode::Salvage).open().unwrap();
    assert_eq!(count(&db), 1);
    for snapshot in fs.take_snapshots() {
        assert!(snapshot.call.what.ends_with("journal-recover"), "{}", snapshot.call);
    }
}
