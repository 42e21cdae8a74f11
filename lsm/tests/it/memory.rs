//! The memory budget: what is charged, and to whom.

use std::sync::Arc;

use lsm::fs::MemFs;
use lsm::{Background, Db, KeyspaceOptions};

#[test]
fn what_a_snapshot_keeps_in_memory_is_charged() {
    let db = Db::builder("/db")
        .file_system(Arc::new(MemFs::new()))
        .background(Background::Manual)
        .memory_bytes(4 << 20)
        .open()
        .unwrap();
    let a = db.keyspace("a", KeyspaceOptions::sorted()).unwrap();
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
