//! A whole database as version 1 wrote it: opened by every later version, and described as it was.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lsm::fs::{FileSystem, MemFs};
use lsm::journal::{LogKind, read_records};
use lsm::levels::Edit;
use lsm::{Background, Compression, Db, Durability};

use crate::support::{self, Op, commit, dump, tiny};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/golden/v1")
}

/// What the golden database was filled with: tables in two levels, tombstones of both kinds, something in the log alone.
fn fill(fs: &Arc<dyn FileSystem>) {
    let mut tuning = tiny(100_000);
    tuning.block_bytes = 200;
    tuning.table_bytes = 900;
    (tuning.compression, tuning.shallow_compression) = (Compression::None, Compression::None);
    let (db, keyspaces) = support::open(fs, &tuning).unwrap();
    let put = |keyspace, number: u32, value: &str| {
        Op::Put(keyspace, format!("key {number:02}").into_bytes(), value.as_bytes().to_vec())
    };
    let first: Vec<Op> = (0..40).map(|number| put(number as usize % 2, number, "first")).collect();
    commit(&db, &keyspaces, &first, Durability::Synced).unwrap();
    db.compact().unwrap();
    let second = [
        put(0, 6, "second"),
        Op::Delete(0, b"key 08".to_vec()),
        Op::DeletePrefix(0, b"key 1".to_vec()),
        put(0, 14, "second"),
        Op::DeleteRange(1, std::ops::Bound::Included(b"key 30".to_vec()), std::ops::Bound::Unbounded),
    ];
    commit(&db, &keyspaces, &second, Durability::Synced).unwrap();
    db.flush().unwrap();
    commit(&db, &keyspaces, &[put(1, 35, "third"), Op::Delete(0, b"key 00".to_vec())], Durability::Synced)
        .unwrap();
    drop(keyspaces);
    db.close().unwrap();
}

/// The files of a directory of the source tree, in memory.
fn load(directory: &Path) -> MemFs {
    let fs = MemFs::new();
    fs.create_dir(Path::new("/db")).unwrap();
    for file in std::fs::read_dir(directory).unwrap() {
        let path = file.unwrap().path();
        let to = fs.create_new(&Path::new("/db").join(path.file_name().unwrap())).unwrap();
        to.write_all_at(&std::fs::read(&path).unwrap(), 0).unwrap();
    }
    fs
}

/// Everything that it says, as text.
fn describe(fs: &MemFs) -> String {
    let mut text = String::new();
    let shared: Arc<dyn FileSystem> = Arc::new(fs.clone());
    let mut names = fs.read_dir(Path::new("/db")).unwrap();
    names.sort();
    for name in names {
        let path = Path::new("/db").join(name.file_name().unwrap());
        let bytes = fs.open_read(&path).unwrap().len().unwrap();
        writeln!(text, "file {}: {bytes} bytes", path.file_name().unwrap().to_string_lossy()).unwrap();
    }
    let manifest = Path::new("/db/MANIFEST");
    read_records(fs.open_read(manifest).unwrap(), manifest, LogKind::Manifest, &mut |record| {
        writeln!(text, "\nedit {} at {}", record.header.first_sequence, record.offset).unwrap();
        let edit = Edit::decode(record.payload).unwrap();
        assert_eq!(edit.encode(), record.payload, "an edit is written as it was");
        edit.changes.iter().for_each(|change| writeln!(text, "  {change:?}").unwrap());
        Ok(())
    })
    .unwrap();
    let db =
        Db::builder("/db").file_system(shared).read_only(true).background(Background::Manual).open().unwrap();
    assert!(db.recovery_report().is_clean());
    assert!(db.check().unwrap().is_clean());
    for name in db.keyspace_names() {
        writeln!(text, "\nkeyspace {name}").unwrap();
        let keyspace = db.keyspace(&name, lsm::KeyspaceOptions::sorted()).unwrap();
        for item in keyspace.iter() {
            let (key, value) = item.unwrap();
            writeln!(text, "  {key:?} = {value:?}").unwrap();
        }
    }
    text
}

#[test]
fn the_golden_database_is_read_as_it_was() {
    let fs = load(&folder().join("database"));
    assert_eq!(describe(&fs), std::fs::read_to_string(folder().join("database.txt")).unwrap());
}

#[test]
fn the_golden_database_can_be_gone_on_with() {
    let fs: Arc<dyn FileSystem> = Arc::new(load(&folder().join("database")));
    let before = {
        let (_, keyspaces) = support::open(&fs, &tiny(600)).unwrap();
        dump(&keyspaces).unwrap()
    };
    let (db, keyspaces) = support::open(&fs, &tiny(600)).unwrap();
    let op = Op::Put(1, b"more".to_vec(), b"now".to_vec());
    commit(&db, &keyspaces, std::slice::from_ref(&op), Durability::Synced).unwrap();
    db.compact().unwrap();
    let mut after = before;
    op.apply_to(&mut after);
    assert_eq!(dump(&keyspaces).unwrap(), after);
    assert!(db.check().unwrap().is_clean());
}

/// `cargo test -p lsm golden -- --ignored` writes it if it is missing, and never over one that is there.
#[test]
#[ignore = "writes files into the source tree"]
fn write_the_golden_database() {
    let target = folder().join("database");
    if target.exists() {
        return;
    }
    let mem = MemFs::new();
    let fs: Arc<dyn FileSystem> = Arc::new(mem.clone());
    fill(&fs);
    std::fs::create_dir_all(&target).unwrap();
    for name in mem.read_dir(Path::new("/db")).unwrap() {
        let name = name.file_name().unwrap().to_owned();
        let file = mem.open_read(&Path::new("/db").join(&name)).unwrap();
        let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
        file.read_exact_at(&mut bytes, 0).unwrap();
        std::fs::write(target.join(name), bytes).unwrap();
    }
    std::fs::write(folder().join("database.txt"), describe(&load(&target))).unwrap();
}
