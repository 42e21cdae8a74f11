//! What is found of a damaged table is what was in it, and what is not found is told.

use std::path::PathBuf;

use proptest::prelude::*;

use super::walk::ZSTD_MAGIC;
use super::*;
use crate::block::{Codec, Compression};
use crate::fs::MemFs;
use crate::model::internal;
use crate::row::KeyspaceKind;
use crate::table::fixed::FixedWriter;
use crate::table::tests::compressions;
use crate::table::{TableOptions, TableWriter};

const IDENTITY: Identity = Identity::from_bytes(*b"identity in test");
const DATABASE: Identity = Identity::from_bytes(*b"database in test");

fn path() -> PathBuf {
    PathBuf::from("/7.table")
}

type Entries = Vec<(Vec<u8>, Vec<u8>)>;

/// A table of several partitions, and what is in it.
fn table(count: u64, compression: Compression, with_tombstone: bool) -> (Vec<u8>, Entries) {
    let fs: Arc<dyn FileSystem> = Arc::new(MemFs::new());
    let options = TableOptions {
        block_bytes: 200,
        index_block_bytes: 100,
        compression,
        origin: Some(TableOrigin {
            keyspace: 3,
            kind: KeyspaceKind::Sorted,
            level: 2,
            epoch: 9,
            name: "k".into(),
        }),
        ..TableOptions::default()
    };
    let mut writer = TableWriter::create(&fs, &path(), IDENTITY, DATABASE, options).unwrap();
    let mut entries = Vec::new();
    for number in 0..count {
        let key = internal(format!("key {number:05}").as_bytes(), number + 1, Kind::Put);
        let value = [b'v'; 30];
        writer.add(&key, &value).unwrap();
        entries.push((key, value.to_vec()));
    }
    if with_tombstone {
        writer.add_range_tombstone(b"key 00003", Some(b"key 1"), 500);
    }
    let summary = writer.finish().unwrap();
    let mut bytes = vec![0; usize::try_from(summary.file_bytes).unwrap()];
    fs.open_read(&path()).unwrap().read_exact_at(&mut bytes, 0).unwrap();
    (bytes, entries)
}

fn scanned(bytes: &[u8], told: Option<(Identity, SequenceNumber)>) -> Option<TableScan> {
    let fs: Arc<dyn FileSystem> = Arc::new(MemFs::new());
    fs.create_new(&path()).unwrap().write_all_at(bytes, 0).unwrap();
    scan(&fs, &path(), told).unwrap()
}

fn entries(scan: &TableScan) -> Entries {
    let mut found = Vec::new();
    scan.entries(&mut |key, value| {
        found.push((key.to_vec(), value.to_vec()));
        Ok(())
    })
    .unwrap();
    found
}

#[test]
fn all_of_a_sound_table_is_found() {
    for compression in compressions() {
        let (bytes, expected) = table(100, compression, true);
        let scan = scanned(&bytes, None).unwrap();
        assert_eq!(entries(&scan), expected);
        assert_eq!((scan.identity, scan.database), (IDENTITY, (DATABASE, true)));
        assert_eq!((scan.tombstones.len(), scan.lost_tombstones), (1, false));
        assert!(scan.lost.is_empty() && !scan.is_cut());
        assert_eq!(scan.origin.as_ref().unwrap().keyspace, 3);
    }
}

/// Each block in turn, and each end of the file: only what was in the damaged block is missing, and it is said.
#[test]
fn every_flipped_byte_costs_one_block_at_most() {
    for compression in compressions() {
        let (bytes, expected) = table(60, compression, true);
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            // With the identity gone from both ends there is nothing to go by, and here one end is whole.
            let scan = scanned(&damaged, None).unwrap_or_else(|| panic!("at {at}"));
            let found = entries(&scan);
            assert!(found.iter().all(|entry| expected.contains(entry)), "at {at}");
            assert!(
                expected.len() - found.len() <= 12,
                "at {at}: {} are missing",
                expected.len() - found.len()
            );
            for (key, _) in expected.iter().filter(|entry| !found.contains(entry)) {
                let (user, _) = key::split(key).unwrap();
                assert!(scan.lost.iter().any(|lost| lost.range.contains(user)), "at {at}: {user:?}");
            }
            assert!(scan.tombstones.len() == 1 || scan.lost_tombstones, "at {at}");
        }
    }
}

#[test]
fn a_table_that_was_cut_keeps_what_stands_before_the_cut() {
    for compression in compressions() {
        let (bytes, expected) = table(60, compression, true);
        for end in 0..bytes.len() {
            let Some(scan) = scanned(&bytes[..end], None) else {
                assert!(end < HEADER_BYTES + 250, "cut at {end}");
                continue;
            };
            let found = entries(&scan);
            assert_eq!(found, expected[..found.len()], "cut at {end}");
            assert!(scan.is_cut(), "cut at {end}");
            assert!(scan.tombstones.len() == 1 || scan.lost_tombstones, "cut at {end}");
            for (key, _) in &expected[found.len()..] {
                let (user, _) = key::split(key).unwrap();
                let is_told = scan.lost.iter().any(|lost| lost.range.contains(user));
                assert!(is_told, "cut at {end} of {}: {user:?} {:?}", bytes.len(), scan.lost);
            }
        }
    }
}

/// What looks like a block and is none costs time, but not without a limit; and it is never taken.
#[test]
fn bytes_that_look_like_trailers_are_not_believed() {
    let mut bytes = table(3, Compression::None, false).0;
    let footer = bytes.split_off(bytes.len() - FOOTER_BYTES);
    for number in 0..20_000u32 {
        let length = (number * 7 % 5000).to_le_bytes();
        let codec = [Codec::None, Codec::Zstd, Codec::Lz4][number as usize % 3];
        bytes.extend_from_slice(&[1, codec as u8, 0, 0]);
        bytes.extend_from_slice(&length);
        bytes.extend_from_slice(&[9; 8]);
        bytes.extend_from_slice(&ZSTD_MAGIC);
    }
    bytes.extend(footer);
    let scan = scanned(&bytes, None).unwrap();
    assert_eq!(entries(&scan).len(), 3);
}

/// A megabyte of nothing but trailers, each eight bytes behind the one before: if each were tried with each, this would take minutes.
#[test]
fn a_value_that_is_made_of_trailers_costs_no_more_than_others() {
    for codec in [Codec::Lz4, Codec::Zstd] {
        let mut bytes = table(3, Compression::None, false).0;
        let footer = bytes.split_off(bytes.len() - FOOTER_BYTES);
        for _ in 0..1 << 17 {
            bytes.extend_from_slice(&[1, codec as u8, 0, 0, 1, 0, 0, 0]);
        }
        // One that says to hold so much that all of them are within its reach.
        bytes.extend_from_slice(&[1, codec as u8, 0, 0, 0, 0, 0, 2, 9, 9, 9, 9, 9, 9, 9, 9]);
        bytes.extend(footer);
        let scan = scanned(&bytes, None).unwrap();
        assert_eq!(entries(&scan).len(), 3);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_damage_makes_anything_up(
        pieces in prop::collection::vec((any::<prop::sample::Index>(), 1usize..120, any::<u8>()), 1..4),
        compression in prop::sample::select(compressions()),
        with_tombstone in any::<bool>(),
    ) {
        let (mut bytes, expected) = table(80, compression, with_tombstone);
        for (at, length, byte) in pieces {
            let start = at.index(bytes.len());
            let end = (start + length).min(bytes.len());
            bytes[start..end].fill(byte);
        }
        if let Some(scan) = scanned(&bytes, Some((IDENTITY, 1000))) {
            let found = entries(&scan);
            prop_assert!(found.iter().all(|entry| expected.contains(entry)));
            for (key, _) in expected.iter().filter(|entry| !found.contains(entry)) {
                let (user, _) = key::split(key).unwrap();
                prop_assert!(scan.lost.iter().any(|lost| lost.range.contains(user)), "{user:?} {:?}", scan.lost);
            }
            prop_assert!(!with_tombstone || scan.tombstones.len() == 1 || scan.lost_tombstones);
        }
    }
}

/// A table of rows in several blocks, with columns or without, and what is in it.
fn rows(count: u64, columns: Columns) -> (Vec<u8>, Entries) {
    let fs: Arc<dyn FileSystem> = Arc::new(MemFs::new());
    let widths = Widths::new(16, 100).unwrap();
    let (numbers, ids) = ((5, 5 + count), (IDENTITY, DATABASE));
    let mut writer = FixedWriter::create(&fs, &path(), ids, widths, columns, numbers, 12).unwrap();
    let kind = KeyspaceKind::Fixed(widths);
    writer.set_origin(Some(TableOrigin { keyspace: 3, kind, level: 2, epoch: 9, name: "k".into() }));
    let mut entries = Vec::new();
    for number in 0..count {
        let user = format!("key {number:012}").into_bytes();
        let kind = if columns.kinds && number % 7 == 0 { Kind::Delete } else { Kind::Put };
        let value: &[u8] = if kind == Kind::Put { &[b'v'; 100] } else { &[] };
        let sequence = if columns.sequences { 5 + number } else { 5 + count };
        writer.add(&user, value, sequence, kind).unwrap();
        entries.push((internal(&user, sequence, kind), value.to_vec()));
    }
    let summary = writer.finish().unwrap();
    let mut bytes = vec![0; usize::try_from(summary.file_bytes).unwrap()];
    fs.open_read(&path()).unwrap().read_exact_at(&mut bytes, 0).unwrap();
    (bytes, entries)
}

fn all_columns() -> impl Iterator<Item = Columns> {
    [false, true].into_iter().flat_map(|sequences| [false, true].map(|kinds| Columns { sequences, kinds }))
}

#[test]
fn all_rows_of_a_sound_table_are_found_without_its_end_too() {
    for columns in all_columns() {
        let (bytes, expected) = rows(150, columns);
        let scan = scanned(&bytes, None).unwrap();
        assert_eq!(entries(&scan), expected);
        assert!(scan.lost.is_empty() && !scan.lost_tombstones, "{:?}", scan.lost);
        assert_eq!(scan.rows().unwrap().1, columns);
        // Cut behind the rows: the header says how wide they are, the manifest which number they have.
        let blocks = scan.data.len();
        let cut = &bytes[..(blocks + 1) * 4096];
        let scan = scanned(cut, Some((IDENTITY, 155))).unwrap();
        assert_eq!(entries(&scan), expected, "{columns:?}");
        assert!(scan.is_cut() && !scan.lost.is_empty() && !scan.lost_tombstones);
    }
}

#[test]
fn a_flipped_byte_costs_one_block_of_rows_at_most() {
    for columns in all_columns() {
        let (bytes, expected) = rows(150, columns);
        for at in (0..bytes.len()).step_by(41).chain(bytes.len() - 300..bytes.len()).chain(0..70) {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            let scan = scanned(&damaged, Some((IDENTITY, 155))).unwrap_or_else(|| panic!("at {at}"));
            let found = entries(&scan);
            assert!(found.iter().all(|entry| expected.contains(entry)), "at {at}");
            assert!(expected.len() - found.len() <= 40, "at {at}: {}", expected.len() - found.len());
            for (key, _) in expected.iter().filter(|entry| !found.contains(entry)) {
                let (user, _) = key::split(key).unwrap();
                assert!(scan.lost.iter().any(|lost| lost.range.contains(user)), "at {at}: {user:?}");
            }
        }
    }
}
