//! The memory budget: what is charged, and to whom.

use std::sync::Arc;

use lsm::fs::{FaultCall, FaultFs, MemFs};
use lsm::{Background, Db, Keyspace, KeyspaceOptions, Progress, Tuning};

use crate::support::Random;

fn open() -> (Db, Keyspace) {
    let db = Db::builder("/db")
        .file_system(Arc::new(MemFs::new()))
        .background(Background::Manual)
        .memory_bytes(4 << 20)
        .tuning(Tuning::for_memory(4 << 20))
        .open()
        .unwrap();
    let a = db.keyspace("a", KeyspaceOptions::sorted()).unwrap();
    (db, a)
}

#[test]
fn what_a_snapshot_keeps_in_memory_is_charged() {
    let (db, a) = open();
    let fill = || {
        for number in 0..300 {
            a.put(format!("k{number}"), [b'v'; 1000]).unwrap();
        }
    };
    fill();
    db.flush().unwrap();
    let before = db.stats();
    assert_eq!(before.memtable_bytes, 0);
    fill();
    let snapshot = db.snapshot();
    let scan = a.iter();
    db.flush().unwrap();
    db.compact().unwrap();
    let kept = db.stats();
    assert!(kept.memtable_bytes > 300_000, "{kept:?}");
    assert!(kept.open_table_bytes > before.open_table_bytes, "{kept:?}");
    assert_eq!(kept.keyspaces[0].memtable_bytes, 0, "only the snapshot and the scan have them");
    assert!(
        kept.cache_capacity_bytes + 300_000 < before.cache_capacity_bytes,
        "the cache is smaller meanwhile"
    );
    drop(snapshot);
    assert!(db.stats().memtable_bytes > 300_000, "the scan has them still");
    drop(scan);
    drop(db.snapshot());
    let after = db.stats();
    assert_eq!(after.memtable_bytes, 0);
    assert!(after.open_table_bytes < kept.open_table_bytes, "{after:?}");
    assert!(after.cache_capacity_bytes > kept.cache_capacity_bytes + 300_000, "{after:?}");
}

#[test]
fn the_cache_has_all_that_is_left_when_the_last_memtable_was_flushed() {
    let (db, a) = open();
    let cache_and_tables = || db.stats().cache_capacity_bytes + db.stats().open_table_bytes;
    let before = cache_and_tables();
    // Two memtables wait, and are flushed one right after the other.
    for number in 0..1200 {
        a.put(format!("k{number}"), [b'v'; 1000]).unwrap();
    }
    db.flush().unwrap();
    let stats = db.stats();
    assert!(stats.flushes >= 2, "{stats:?}");
    assert_eq!((stats.memtable_bytes, cache_and_tables()), (0, before), "{stats:?}");
}

#[test]
fn filters_come_before_rows_and_back_when_what_was_merged_is_gone() {
    let fs = FaultFs::new(Arc::new(MemFs::new()));
    let builder = Db::builder("/db").file_system(Arc::new(fs.clone())).background(Background::Manual);
    // Room for the filters of all rows once and not twice, and for few of the rows.
    let db = builder.memory_bytes(9 << 18).tuning(Tuning::for_memory(2 << 20)).open().unwrap();
    let rows = db.keyspace("rows", KeyspaceOptions::fixed(8, 8).unwrap()).unwrap();
    let reads_each = |lookups: u32, absent: bool| {
        let mut random = Random(3);
        let before = fs.calls(FaultCall::Read);
        for _ in 0..lookups {
            let mut key = random.next().to_be_bytes();
            key[7] = u8::from(absent);
            assert_eq!(rows.contains(key).unwrap(), !absent);
        }
        f64::from(u32::try_from(fs.calls(FaultCall::Read) - before).unwrap()) / f64::from(lookups)
    };
    for round in 0..2 {
        let mut random = Random(3);
        let mut bulk = rows.bulk().unwrap();
        for _ in 0..400_000 {
            let mut key = random.next().to_be_bytes();
            key[7] = 0;
            bulk.put(key, [round; 8]).unwrap();
        }
        bulk.finish().unwrap();
        rows.put([1; 8], [0; 8]).unwrap();
        db.compact().unwrap();
        // What is in memory is read when it is needed first.
        reads_each(1000, true);
        let absent = reads_each(4000, true);
        let present = reads_each(4000, false);
        assert!(absent <= 0.05 && present <= 1.05, "round {round}: {absent} {present}");
    }
}

#[test]
fn the_cache_makes_room_for_a_merge_of_rows_while_it_runs() {
    let (db, _) = open();
    let rows = db.keyspace("rows", KeyspaceOptions::fixed(8, 8).unwrap()).unwrap();
    let capacity = || db.stats().cache_capacity_bytes;
    let mut number = 0u64;
    while db.stats().flushes < 12 {
        for _ in 0..100 {
            number += 1;
            rows.put(number.to_be_bytes(), [0; 8]).unwrap();
        }
        db.flush().unwrap();
    }
    let before = capacity();
    let mut smallest = before;
    while db.step().unwrap() == Progress::Working {
        smallest = smallest.min(capacity());
    }
    assert!(db.stats().compactions > 0, "{:?}", db.stats());
    assert!(smallest + 500_000 < before, "{smallest} {before}");
    assert!(capacity() + 100_000 > before, "{} {before}", capacity());
}
