//! Databases whose tables have dictionaries hold what others hold, in fewer bytes, and are opened, checked and repaired like them, whatever the options are by then.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use lsm::fs::{FileSystem, MemFs};
use lsm::{Background, Compression, Db, KeyspaceOptions, Progress, RepairOptions, Tuning, repair};

const MEMORY_BYTES: usize = 4 << 20;
const ENTRIES: u32 = 12_000;

type Entries = BTreeMap<String, String>;

fn tuning(dictionary_bytes: usize) -> Tuning {
    let mut tuning = Tuning::for_memory(MEMORY_BYTES);
    tuning.write_buffer_bytes = 100_000;
    tuning.level0_tables = 2;
    tuning.level1_bytes = 100_000;
    tuning.table_bytes = 150_000;
    tuning.block_bytes = 1000;
    // So that much gets into the levels that have them.
    tuning.shallow_compression = Compression::None;
    (tuning.compression, tuning.dictionary_bytes) = (Compression::Zstd(1), dictionary_bytes);
    tuning
}

fn open(fs: &MemFs, dictionary_bytes: usize) -> Db {
    let fs: Arc<dyn FileSystem> = Arc::new(fs.clone());
    let builder = Db::builder("/db").file_system(fs).background(Background::Manual);
    builder.memory_bytes(MEMORY_BYTES).tuning(tuning(dictionary_bytes)).open().unwrap()
}

fn entries(round: u32) -> Entries {
    let entry = |number: u32| {
        let mixed = (number + round).wrapping_mul(2_654_435_761);
        let value = format!(
            "{{\"id\":{mixed},\"round\":{round},\"name\":\"user {}\",\"email\":\"{}@example.org\",\"active\":true}}",
            mixed % 997,
            mixed % 89
        );
        (format!("{:08x}", number.wrapping_mul(2_246_822_519)), value)
    };
    (0..ENTRIES).map(entry).collect()
}

fn put(db: &Db, entries: &Entries) {
    let keyspace = db.keyspace("people", KeyspaceOptions::sorted()).unwrap();
    for (key, value) in entries {
        keyspace.put(key, value).unwrap();
    }
    // Down to level 2, from which on tables have dictionaries: alone, `compact` would make level 1 of all that is in level 0.
    db.flush().unwrap();
    while db.step().unwrap() != Progress::Idle {}
    db.compact().unwrap();
}

fn assert_holds(db: &Db, entries: &Entries) {
    let keyspace = db.keyspace("people", KeyspaceOptions::sorted()).unwrap();
    let mut expected = entries.iter();
    for item in keyspace.iter() {
        let (key, value) = item.unwrap();
        let (expected_key, expected_value) = expected.next().unwrap();
        assert_eq!((&key[..], &value[..]), (expected_key.as_bytes(), expected_value.as_bytes()));
    }
    assert!(expected.next().is_none());
    for (key, value) in entries.iter().step_by(101) {
        assert_eq!(keyspace.get(key).unwrap().as_deref(), Some(value.as_bytes()));
    }
    assert!(db.check().unwrap().is_clean());
}

/// The bytes of all tables, and how many of them have a dictionary.
fn tables(fs: &MemFs) -> (u64, usize) {
    let mut sums = (0, 0);
    for name in fs.read_dir(Path::new("/db")).unwrap() {
        let path = Path::new("/db").join(name);
        if path.extension().is_some_and(|extension| extension == "table") {
            let file = fs.open_read(&path).unwrap();
            let mut header = [0; 64];
            file.read_exact_at(&mut header, 0).unwrap();
            sums.0 += file.len().unwrap();
            // docs/FORMAT.md: required features.
            sums.1 += usize::from(header[12] & 2 != 0);
        }
    }
    sums
}

#[test]
fn databases_with_and_without_dictionaries_hold_the_same_and_become_each_other() {
    let (with, without) = (MemFs::new(), MemFs::new());
    let (first, second) = (entries(0), entries(1));
    for (fs, dictionary_bytes) in [(&with, 1024), (&without, 0)] {
        let db = open(fs, dictionary_bytes);
        put(&db, &first);
        assert_holds(&db, &first);
        db.close().unwrap();
    }
    let ((bytes_with, count), (bytes_without, none)) = (tables(&with), tables(&without));
    assert!(count >= 3 && none == 0, "{count} tables and {none} have one");
    assert!(bytes_with < bytes_without / 5 * 4, "{bytes_with} bytes with, {bytes_without} without");
    // Each is opened with the option of the other, and merged with what is written now.
    for (fs, dictionary_bytes) in [(&with, 0), (&without, 1024)] {
        let db = open(fs, dictionary_bytes);
        assert_holds(&db, &first);
        put(&db, &second);
        assert_holds(&db, &second);
        db.close().unwrap();
        assert_eq!(tables(fs).1 > 0, dictionary_bytes > 0);
    }
}

#[test]
fn one_damaged_copy_is_told_and_costs_nothing_and_repair_keeps_all() {
    let (fs, entries) = (MemFs::new(), entries(0));
    let db = open(&fs, 1024);
    put(&db, &entries);
    db.close().unwrap();
    for name in fs.read_dir(Path::new("/db")).unwrap() {
        let path = Path::new("/db").join(name);
        let file = fs.open_read(&path).unwrap();
        let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
        file.read_exact_at(&mut bytes, 0).unwrap();
        if path.extension().is_some_and(|extension| extension == "table") && bytes[12] & 2 != 0 {
            bytes[70] ^= 1;
            fs.remove_file(&path).unwrap();
            fs.create_new(&path).unwrap().write_all_at(&bytes, 0).unwrap();
        }
    }
    let db = open(&fs, 1024);
    assert!(!db.check().unwrap().is_clean());
    let keyspace = db.keyspace("people", KeyspaceOptions::sorted()).unwrap();
    assert_eq!(keyspace.iter().filter(|item| item.is_ok()).count(), entries.len());
    drop(keyspace);
    db.close().unwrap();
    let shared: Arc<dyn FileSystem> = Arc::new(fs.clone());
    repair("/db", &RepairOptions::new().file_system(shared)).unwrap();
    assert_holds(&open(&fs, 1024), &entries);
}
