//! What is done for a log before it is needed: the next log's file is nothing to anybody until it begins, and then as good as any other.

use std::sync::Arc;

use lsm::fs::{CrashPolicy, FileSystem, MemFs};
use lsm::{Batch, Db, Durability, Keyspace, KeyspaceOptions, Progress};

use crate::support::{logs, tiny};

const BUFFER_BYTES: usize = 8000;

fn open(fs: &MemFs) -> (Db, Keyspace) {
    let fs: Arc<dyn FileSystem> = Arc::new(fs.clone());
    let builder = Db::builder("/db").file_system(fs).background(lsm::Background::Manual);
    let db = builder.memory_bytes(1 << 20).tuning(tiny(BUFFER_BYTES)).open().unwrap();
    let keyspace = db.keyspace("k", KeyspaceOptions::sorted()).unwrap();
    (db, keyspace)
}

fn put(db: &Db, keyspace: &Keyspace, number: usize, durability: Durability) {
    let mut batch = Batch::new();
    batch.put(keyspace, format!("{number:06}"), [b'v'; 100]);
    db.commit(batch, durability).unwrap();
}

/// Writes until the next log's file is there, beside the one in use; returns how many entries there are then.
fn fill_until_prepared(db: &Db, keyspace: &Keyspace, fs: &MemFs, first: usize) -> usize {
    for number in first.. {
        put(db, keyspace, number, Durability::Synced);
        db.step().unwrap();
        if logs(fs).len() > 1 {
            return number + 1;
        }
        assert!(number < first + BUFFER_BYTES / 100, "no log is made ahead");
    }
    unreachable!()
}

#[test]
fn a_log_made_ahead_is_nothing_to_anybody() {
    let fs = MemFs::new();
    let (db, keyspace) = open(&fs);
    let count = fill_until_prepared(&db, &keyspace, &fs, 0);
    let [_, next] = <[String; 2]>::try_from(logs(&fs)).unwrap();
    assert!(db.check().unwrap().is_clean(), "{:?}", db.check().unwrap());
    for policy in CrashPolicy::ALL {
        let after = fs.crash(policy, 3);
        let (db, keyspace) = open(&after);
        assert_eq!(keyspace.iter().count(), count, "{policy:?}");
        put(&db, &keyspace, count, Durability::Synced);
        assert!(!logs(&after).contains(&next), "{policy:?}: what an earlier session made ahead is removed");
        assert!(db.check().unwrap().is_clean(), "{policy:?}");
    }
    drop(keyspace);
    db.close().unwrap();
    assert!(!logs(&fs).contains(&next), "a session takes it along");
}

#[test]
fn what_is_committed_to_a_log_made_ahead_is_as_safe_as_elsewhere() {
    let fs = MemFs::new();
    let (db, keyspace) = open(&fs);
    let mut count = fill_until_prepared(&db, &keyspace, &fs, 0);
    let next = logs(&fs).pop().unwrap();
    // The memtable is frozen with the log; the next commit begins the one that is there.
    while db.stats().flushes == 0 {
        put(&db, &keyspace, count, Durability::System);
        count += 1;
        while db.step().unwrap() == Progress::Working {}
    }
    assert_eq!(logs(&fs).first(), Some(&next), "the log made ahead is in use");
    // Durable is what a flush wrote, and what was synced behind it; the rest may be there or not.
    let frozen = count - 1;
    for policy in CrashPolicy::ALL {
        for seed in 0..8 {
            let (_db, keyspace) = open(&fs.crash(policy, seed));
            let found = keyspace.iter().count();
            assert!((frozen..=count).contains(&found), "{policy:?} {seed}: {found} of {count}");
        }
    }
    put(&db, &keyspace, count, Durability::Synced);
    for policy in CrashPolicy::ALL {
        let (_db, keyspace) = open(&fs.crash(policy, 5));
        assert_eq!(keyspace.iter().count(), count + 1, "{policy:?}");
    }
}
