//! Tables that say what cannot be, under checksums that are right: an error that names the file, never a panic.

use std::path::PathBuf;

use lsm::checksum::{Identity, salted_xxh3};
use lsm::{Background, Batch, Db, Durability, ErrorKind, KeyspaceOptions};

fn open(directory: &std::path::Path) -> Db {
    Db::builder(directory).background(Background::Manual).open().unwrap()
}

fn only_table(directory: &std::path::Path) -> PathBuf {
    let files = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    files.into_iter().find(|path| path.extension().is_some_and(|extension| extension == "table")).unwrap()
}

/// Changes the first data block of a table, behind a header of 64 bytes, and puts a right checksum behind it.
fn change_first_block(path: &std::path::Path, change: impl FnOnce(&mut [u8])) {
    let mut bytes = std::fs::read(path).unwrap();
    let identity = Identity::from_bytes(bytes[24..40].try_into().unwrap());
    // The trailer: kind and compression, the length of the payload, the checksum.
    let is_trailer = |at: usize| {
        bytes[at..at + 4] == [1, 1, 0, 0]
            && u32::from_le_bytes(bytes[at + 4..at + 8].try_into().unwrap()) as usize == at - 64
    };
    let end = (64..bytes.len() - 16).find(|at| is_trailer(*at)).unwrap();
    change(&mut bytes[64..end]);
    let sum = salted_xxh3(identity, 64, &bytes[64..end + 8]);
    bytes[end + 8..end + 16].copy_from_slice(&sum.to_le_bytes());
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn entries_out_of_order_are_an_error_of_the_merge() {
    let dir = tempfile::tempdir().unwrap();
    {
        let db = open(dir.path());
        let a = db.keyspace("a", KeyspaceOptions::sorted()).unwrap();
        let mut batch = Batch::new();
        batch.put(&a, "a1", "v");
        batch.put(&a, "b1", "v");
        db.commit(batch, Durability::Synced).unwrap();
        db.flush().unwrap();
        drop(a);
        db.close().unwrap();
    }
    let path = only_table(dir.path());
    change_first_block(&path, |payload| {
        // What lies between the first key and the last is kept: the bounds of the table hold it.
        let at = payload.windows(2).position(|bytes| bytes == b"a1").unwrap();
        payload[at..at + 2].copy_from_slice(b"b2");
        let at = payload.windows(2).position(|bytes| bytes == b"b1").unwrap();
        payload[at..at + 2].copy_from_slice(b"a9");
    });
    let db = open(dir.path());
    let a = db.keyspace("a", KeyspaceOptions::sorted()).unwrap();
    assert!(!db.check().unwrap().is_clean());
    a.put("d", "v").unwrap();
    for _ in 0..2 {
        let error = db.compact().unwrap_err();
        assert_eq!((error.kind(), error.path()), (ErrorKind::Corruption, Some(path.as_path())), "{error}");
    }
    // It costs merges of this table, and nothing else.
    assert!(db.stats().failure.is_none());
    for round in 0..20 {
        a.put("d", format!("{round}")).unwrap();
        db.flush().unwrap();
        while db.step().unwrap() != lsm::Progress::Idle {}
    }
    assert!(db.stats().keyspaces[0].level_tables[0] < 8, "{:?}", db.stats());
    assert_eq!(a.get("d").unwrap().unwrap(), b"19");
    drop(a);
    db.close().unwrap();
}
