//! Tables written once by version 1, kept for ever: every later version reads them, and writes them byte for byte where nothing is compressed.
//! Beside each file its annotated dump.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::block::Compression;
use crate::cache::BlockCache;
use crate::checksum::Identity;
use crate::fs::{FileSystem, MemFs};
use crate::key::Kind;
use crate::model::{Model, internal};
use crate::range_tombstone::RangeTombstone;
use crate::table::{CheckLevel, Table, TableOptions, TableOrigin, TableWriter};

const IDENTITY: Identity = Identity::from_bytes(*b"golden identity!");
const DATABASE: Identity = Identity::from_bytes(*b"golden database!");

struct Golden {
    name: &'static str,
    entries: Vec<(Vec<u8>, Vec<u8>)>,
    tombstones: Vec<RangeTombstone>,
    options: TableOptions,
}

/// Of this one somebody was waiting for the first entries.
const HURRIED: &str = "hurried";
const HURRIED_ENTRIES: usize = 20;

fn entry(user: &str, sequence: u64, value: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let kind = if value.is_empty() { Kind::Delete } else { Kind::Put };
    (internal(user.as_bytes(), sequence, kind), value.to_vec())
}

fn files() -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut entries = Vec::new();
    for number in 0..24u8 {
        let user = format!("home/user/file-{:02}", number);
        entries.push(entry(&user, 100 + u64::from(number), &[b'a' + number; 9]));
        if number % 5 == 0 {
            entries.push(entry(&user, 40, b""));
            entries.push(entry(&user, 7, b"older"));
        }
    }
    entries
}

fn people() -> Vec<(Vec<u8>, Vec<u8>)> {
    let person = |number: u32| {
        let mixed = number.wrapping_mul(2_654_435_761);
        let value = format!("{{\"id\":{mixed},\"name\":\"user {}\",\"active\":true}}", mixed % 997);
        entry(&format!("user {number:06}"), 7, value.as_bytes())
    };
    (0..400).map(person).collect()
}

fn tombstones() -> Vec<RangeTombstone> {
    let tombstone = |start: &str, end: Option<&str>, sequence| RangeTombstone {
        start: start.into(),
        end: end.map(Into::into),
        sequence,
    };
    vec![
        tombstone("home/user/file-05", Some("home/user/file-08"), 90),
        tombstone("home/user/", Some("home/user0"), 20),
        tombstone("usr", None, 300),
    ]
}

fn all() -> Vec<Golden> {
    let small = TableOptions {
        block_bytes: 160,
        index_block_bytes: 40,
        restart_interval: 4,
        ..TableOptions::default()
    };
    let one = vec![entry("key", 1, b"value")];
    let origin = TableOrigin {
        keyspace: 300,
        kind: crate::row::KeyspaceKind::Sorted,
        level: 2,
        epoch: 77,
        name: "people".into(),
    };
    vec![
        Golden { name: "one-entry", entries: one, tombstones: Vec::new(), options: TableOptions::default() },
        Golden { name: "partitions", entries: files(), tombstones: Vec::new(), options: small.clone() },
        Golden {
            name: "no-filter",
            entries: files(),
            tombstones: tombstones(),
            options: TableOptions { filter_bits_per_key: 0, ..TableOptions::default() },
        },
        Golden {
            name: "range-tombstones-only",
            entries: Vec::new(),
            tombstones: tombstones(),
            options: TableOptions::default(),
        },
        Golden {
            name: "compressed",
            entries: files(),
            tombstones: tombstones(),
            options: TableOptions { compression: Compression::Zstd(3), ..TableOptions::default() },
        },
        Golden {
            name: "lz4",
            entries: files(),
            tombstones: tombstones(),
            options: TableOptions { compression: Compression::Lz4, ..TableOptions::default() },
        },
        Golden {
            name: HURRIED,
            entries: files(),
            tombstones: Vec::new(),
            options: TableOptions { compression: Compression::Lz4, ..small.clone() },
        },
        Golden {
            name: "origin",
            entries: vec![entry("key", 1, b"value")],
            tombstones: Vec::new(),
            options: TableOptions { origin: Some(origin), ..TableOptions::default() },
        },
        Golden {
            name: "dictionary",
            entries: people(),
            tombstones: tombstones(),
            options: TableOptions {
                block_bytes: 500,
                compression: Compression::Zstd(1),
                dictionary_bytes: 512,
                ..TableOptions::default()
            },
        },
    ]
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/golden/v1")
}

/// The name and the bytes of each file.
pub(crate) fn golden_files() -> Vec<(&'static str, Vec<u8>)> {
    let read = |golden: Golden| {
        let path = folder().join(golden.name).with_extension("table");
        (golden.name, std::fs::read(path).unwrap())
    };
    all().into_iter().map(read).collect()
}

fn write(golden: &Golden) -> Vec<u8> {
    let fs: Arc<dyn FileSystem> = Arc::new(MemFs::new());
    let path = Path::new("/golden.table");
    let mut writer = TableWriter::create(&fs, path, IDENTITY, DATABASE, golden.options.clone()).unwrap();
    for tombstone in &golden.tombstones {
        writer.add_range_tombstone(&tombstone.start, tombstone.end.as_deref(), tombstone.sequence);
    }
    for (number, (key, value)) in Model::new(golden.entries.clone()).entries().iter().enumerate() {
        writer.hurry(golden.name == HURRIED && number < HURRIED_ENTRIES);
        writer.add(key, value).unwrap();
    }
    let summary = writer.finish().unwrap();
    let mut bytes = vec![0; usize::try_from(summary.file_bytes).unwrap()];
    fs.open_read(path).unwrap().read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

fn dump(bytes: &[u8]) -> String {
    let fs: Arc<dyn FileSystem> = Arc::new(MemFs::new());
    let path = Path::new("/golden.table");
    fs.create_new(path).unwrap().write_all_at(bytes, 0).unwrap();
    let table = Table::open_unexpected(&fs, path, &Arc::new(BlockCache::new(1 << 20))).unwrap();
    let figures = table.check(CheckLevel::Full, &mut |fault| panic!("{fault}"));
    assert_eq!(figures.faults, 0);
    let mut text = String::new();
    table.dump(&mut text).unwrap();
    text
}

fn is_readable(golden: &Golden) -> bool {
    !matches!(golden.options.compression, Compression::Zstd(_)) || cfg!(feature = "zstd")
}

#[test]
fn every_golden_table_is_read_and_described_as_it_was() {
    let mut names = BTreeSet::new();
    for golden in all().iter().filter(|golden| is_readable(golden)) {
        let bytes = std::fs::read(folder().join(golden.name).with_extension("table")).unwrap();
        let text = std::fs::read_to_string(folder().join(golden.name).with_extension("table.txt")).unwrap();
        assert_eq!(dump(&bytes), text, "{}", golden.name);
    }
    for golden in all() {
        names.insert(format!("{}.table", golden.name));
    }
    for file in std::fs::read_dir(folder()).unwrap() {
        let name = file.unwrap().file_name().into_string().unwrap();
        if name.ends_with(".table") {
            assert!(names.remove(&name), "{name} is tested by nobody");
        }
    }
    assert!(names.is_empty(), "missing: {names:?}");
}

#[test]
fn the_newest_version_is_written_byte_for_byte() {
    for golden in all().iter().filter(|golden| golden.options.compression == Compression::None) {
        let bytes = std::fs::read(folder().join(golden.name).with_extension("table")).unwrap();
        assert!(write(golden) == bytes, "{} is written otherwise", golden.name);
    }
}

/// `cargo test -p lsm --features zstd golden -- --ignored` writes those that are missing, and never one that is there.
#[test]
#[ignore = "writes files into the source tree"]
fn write_missing_golden_tables() {
    std::fs::create_dir_all(folder()).unwrap();
    for golden in all() {
        let path = folder().join(golden.name).with_extension("table");
        if path.exists() {
            continue;
        }
        let bytes = write(&golden);
        std::fs::write(&path, &bytes).unwrap();
        std::fs::write(path.with_extension("table.txt"), dump(&bytes)).unwrap();
    }
}
