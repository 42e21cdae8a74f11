//! What the README promises, once each, on a real directory and in memory.

use std::sync::Arc;

use lsm::fs::MemFs;
use lsm::{Background, Batch, Db, Durability, ErrorKind, KeyspaceOptions};

fn sorted() -> KeyspaceOptions {
    KeyspaceOptions::sorted()
}

#[test]
fn a_first_database() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path().join("db")).unwrap();
    let fruit = db.keyspace("fruit", sorted()).unwrap();
    let count = db.keyspace("count", sorted()).unwrap();
    let mut batch = Batch::new();
    batch.put(&fruit, "apple", "red");
    batch.put(&fruit, "pear", "green");
    batch.put(&count, "fruit", "2");
    assert_eq!(batch.len(), 3);
    db.commit(batch, Durability::Synced).unwrap();
    assert_eq!(fruit.get("apple").unwrap().unwrap(), b"red");
    assert!(!fruit.contains("quince").unwrap());
    let snapshot = db.snapshot();
    fruit.delete("apple").unwrap();
    fruit.put("quince", "yellow").unwrap();
    let keys = |iter: lsm::Iter| -> Vec<String> {
        iter.map(|item| String::from_utf8(item.unwrap().0.to_vec()).unwrap()).collect()
    };
    assert_eq!(keys(fruit.iter()), ["pear", "quince"]);
    assert_eq!(keys(snapshot.iter(&fruit)), ["apple", "pear"]);
    assert_eq!(fruit.iter().next_back().unwrap().unwrap().0, b"quince");
    let answers = fruit.multi_get(&["quince", "apple", "pear", "pear"]).unwrap();
    let answers: Vec<_> = answers.iter().map(|value| value.as_deref()).collect();
    assert_eq!(answers, [Some(&b"yellow"[..]), None, Some(b"green"), Some(b"green")]);
    drop((fruit, count, snapshot));
    db.close().unwrap();

    let db = Db::open(dir.path().join("db")).unwrap();
    assert!(db.recovery_report().is_clean(), "{:?}", db.recovery_report());
    assert_eq!(db.keyspace_names(), ["count", "fruit"]);
    let fruit = db.keyspace("fruit", sorted()).unwrap();
    assert_eq!(keys(fruit.iter()), ["pear", "quince"]);
    db.flush().unwrap();
    assert_eq!(keys(fruit.iter()), ["pear", "quince"]);
    assert_eq!(keys(fruit.range("p".."q")), ["pear"]);
    fruit.delete_prefix("p").unwrap();
    assert_eq!(keys(fruit.iter()), ["quince"]);
    db.compact().unwrap();
    assert_eq!(keys(fruit.iter()), ["quince"]);
    let report = db.check().unwrap();
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(db.stats().keyspaces.len(), 2);
}

#[test]
fn a_second_writer_is_told_who_the_first_is() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path()).unwrap();
    let error = Db::open(dir.path()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Locked);
    if cfg!(target_os = "linux") {
        assert!(error.to_string().contains(&format!("process {}", std::process::id())), "{error}");
    }
    db.close().unwrap();
    Db::open(dir.path()).unwrap();
}

#[test]
fn what_was_not_closed_is_recovered() {
    let fs = MemFs::new();
    let open = |fs: &MemFs| {
        Db::builder("/db").file_system(Arc::new(fs.clone())).background(Background::Manual).open().unwrap()
    };
    let db = open(&fs);
    let keyspace = db.keyspace("k", sorted()).unwrap();
    for number in 0u32..100 {
        keyspace.put(number.to_be_bytes(), format!("value {number}")).unwrap();
    }
    let crashed = fs.snapshot();
    let again = open(&crashed);
    assert!(!again.recovery_report().is_clean());
    let keyspace = again.keyspace("k", sorted()).unwrap();
    assert_eq!(keyspace.iter().count(), 100);
    keyspace.put("more", "").unwrap();
    again.flush().unwrap();
    let twice = open(&crashed.snapshot());
    assert_eq!(twice.keyspace("k", sorted()).unwrap().iter().count(), 101);
    assert!(twice.check().unwrap().is_clean());
}

#[test]
fn a_keyspace_may_be_made_at_any_time() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path()).unwrap();
    let early = db.keyspace("early", sorted()).unwrap();
    early.put("flushed", "").unwrap();
    db.flush().unwrap();
    early.put("in a log that follows a log that is gone", "").unwrap();
    let late = db.keyspace("late", sorted()).unwrap();
    late.put("key", "").unwrap();
    drop((early, late));
    db.close().unwrap();
    let db = Db::open(dir.path()).unwrap();
    let count = |name: &str| db.keyspace(name, sorted()).unwrap().iter().count();
    assert_eq!((count("early"), count("late")), (2, 1));
    assert!(db.check().unwrap().is_clean());
}
