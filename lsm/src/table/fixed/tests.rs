//! A table of rows is a sorted map, whatever its widths, its columns, its keys and what of it is resident; and damage to any byte is noticed.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::block::BlockKind;
use crate::cache::BlockCache;
use crate::charge::Charge;
use crate::checksum::Identity;
use crate::error::{Error, ErrorKind, Result};
use crate::filter;
use crate::fs::{FaultCall, FaultFs, FileSystem, MemFs};
use crate::key::{self, Kind, SEQUENCE_MAX};
use crate::model::{Model, Step, internal};
use crate::range::KeyRange;
use crate::row::Widths;
use crate::table::{CheckLevel, ReadMode, TableSummary};

const IDENTITY: Identity = Identity::from_bytes(*b"table identity 1");
const DATABASE: Identity = Identity::from_bytes(*b"database of test");

fn new_fs() -> Arc<dyn FileSystem> {
    Arc::new(MemFs::new())
}

fn path() -> PathBuf {
    PathBuf::from("/1.table")
}

/// Entries by internal key; with several writes of a key only where there is a column for them.
fn write(fs: &Arc<dyn FileSystem>, widths: Widths, columns: Columns, model: &Model) -> TableSummary {
    let sequences: Vec<u64> = model.entries().iter().map(|(key, _)| sequence_of(key)).collect();
    let range = (*sequences.iter().min().unwrap(), *sequences.iter().max().unwrap());
    let mut writer =
        FixedWriter::create(fs, &path(), (IDENTITY, DATABASE), widths, columns, range, 10).unwrap();
    for (key, value) in model.entries() {
        let (user, trailer) = key::split(key).unwrap();
        let (sequence, kind) = key::parse_trailer(trailer).unwrap();
        writer.add(user, value, sequence, kind).unwrap();
    }
    writer.finish().unwrap()
}

fn sequence_of(internal: &[u8]) -> u64 {
    key::parse_trailer(key::split(internal).unwrap().1).unwrap().0
}

/// What is resident: nothing, index and filter, everything.
fn residents(table: &FixedTable, charge: &Arc<Charge>) -> [Resident; 3] {
    let meta = Some(table.new_meta(charge));
    let rows = table.new_region(charge);
    [Resident::default(), Resident { meta: meta.clone(), rows: None }, Resident { meta, rows }]
}

fn faults(table: &Arc<FixedTable>, level: CheckLevel) -> Vec<Error> {
    let mut faults = Vec::new();
    table.check(level, &mut |fault| faults.push(fault));
    faults
}

/// Keys of this width: few and crowded, all with one beginning, or spread.
fn some_key(width: usize) -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        proptest::collection::vec(0u8..3, width),
        (0u16..600).prop_map(move |number| {
            let mut key = vec![7; width];
            for (to, from) in key.iter_mut().rev().zip(number.to_le_bytes()) {
                *to = from;
            }
            key
        }),
        any::<u64>().prop_map(move |seed| {
            let mut number = seed;
            (0..width)
                .map(|_| {
                    number = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(17);
                    number.to_le_bytes()[7]
                })
                .collect()
        }),
    ]
}

/// Widths, columns, and entries that fit them.
fn some_table() -> impl Strategy<Value = (Widths, Columns, Model)> {
    let widths = prop_oneof![
        Just((32, 24)),
        Just((8, 0)),
        Just((3, 5)),
        Just((9, 1)),
        Just((20, 300)),
        Just((256, 1024))
    ];
    (widths, any::<bool>(), any::<bool>()).prop_flat_map(|((key, value), sequences, kinds)| {
        let columns = Columns { sequences, kinds };
        let widths = Widths::new(key, value).unwrap();
        proptest::collection::btree_map((some_key(key), 1u64..6), any::<bool>(), 1..700).prop_map(
            move |map| {
                let mut entries = Vec::new();
                let mut last: Option<Vec<u8>> = None;
                // Keys ascending, the newest write first.
                let mut ordered: Vec<_> = map.into_iter().collect();
                ordered.sort_by(|a, b| a.0.0.cmp(&b.0.0).then(b.0.1.cmp(&a.0.1)));
                for ((user, sequence), put) in ordered {
                    if !columns.sequences && last.as_ref() == Some(&user) {
                        continue;
                    }
                    let kind = if put || !columns.kinds { Kind::Put } else { Kind::Delete };
                    let filling = user.last().copied().unwrap_or(0) ^ u8::try_from(sequence).unwrap();
                    let value = if kind == Kind::Put { vec![filling; value] } else { Vec::new() };
                    entries.push((internal(&user, sequence, kind), value));
                    last = Some(user);
                }
                (widths, columns, Model::new(entries))
            },
        )
    })
}

/// Without the column of numbers every row has the largest.
fn as_read(model: &Model, columns: Columns, summary: &TableSummary) -> Model {
    if columns.sequences {
        return Model::new(model.entries().to_vec());
    }
    let all = model.entries().iter().map(|(internal_key, value)| {
        let (user, trailer) = key::split(internal_key).unwrap();
        let kind = key::parse_trailer(trailer).unwrap().1;
        (internal(user, summary.sequence_max, kind), value.clone())
    });
    Model::new(all.collect())
}

fn some_steps(model: &Model, seed: u64) -> Vec<Step> {
    let mut number = seed;
    let mut next = |below: usize| {
        number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(number >> 33).unwrap() % below
    };
    (0..60)
        .map(|_| {
            let mut key = model.entries()[next(model.entries().len())].0.clone();
            let at = next(key.len());
            match next(4) {
                0 => key[at] = key[at].wrapping_add(1),
                1 => key = [&key[..at], &key[key.len() - 8..]].concat(),
                2 => key = [&key[..key.len() - 8], &[0], &key[key.len() - 8..]].concat(),
                _ => {}
            }
            match next(8) {
                0 => Step::First,
                1 => Step::Last,
                2 => Step::Seek(key),
                3 => Step::SeekForPrev(key),
                4 | 5 => Step::Next,
                _ => Step::Prev,
            }
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn a_table_of_rows_is_a_sorted_map((widths, columns, model) in some_table(), seed in any::<u64>(), bypass in any::<bool>()) {
        let fs = new_fs();
        let summary = write(&fs, widths, columns, &model);
        let charge = Arc::<Charge>::default();
        let cache = Arc::new(BlockCache::new(if seed % 2 == 0 { 1 << 20 } else { 0 }));
        let table = FixedTable::open(&fs, &path(), None, &cache).unwrap();
        prop_assert_eq!(table.summary(), &summary);
        let found = faults(&table, CheckLevel::Full);
        prop_assert!(found.is_empty(), "{:?}", found);
        let shown = as_read(&model, columns, &summary);
        let mode = if bypass { ReadMode::Bypass } else { ReadMode::Cached };
        for resident in residents(&table, &charge) {
            let cursor = RowCursor::new(Arc::clone(&table), resident.clone(), mode, KeyRange::all());
            shown.compare(&mut FixedTableIter::new(cursor), &some_steps(&model, seed))?;
            for (internal_key, _) in model.entries().iter().step_by(7) {
                let (user, _) = key::split(internal_key).unwrap();
                for read_sequence in [1, 3, 5, SEQUENCE_MAX] {
                    let expected = shown.entries().iter().find(|(key, _)| {
                        key::split(key).unwrap().0 == user && sequence_of(key) <= read_sequence
                    });
                    let found = table.get(&resident, user, filter::hash(user), read_sequence).unwrap();
                    let found = found.map(|(sequence, kind, value)| (internal(user, sequence, kind), value.to_vec()));
                    prop_assert_eq!(found.as_ref(), expected);
                }
                let mut absent = user.to_vec();
                absent[user.len() - 1] ^= 0x80;
                let is_there = shown.entries().iter().any(|(key, _)| key::split(key).unwrap().0 == absent);
                prop_assert_eq!(table.get(&resident, &absent, filter::hash(&absent), SEQUENCE_MAX).unwrap().is_some(), is_there);
            }
        }
        prop_assert_eq!(charge.bytes(), 0);
    }

    #[test]
    fn bounds_clip((widths, columns, model) in some_table(), lower in some_key(4), upper in some_key(40), included in any::<bool>(), seed in any::<u64>()) {
        let fs = new_fs();
        let summary = write(&fs, widths, columns, &model);
        let table = FixedTable::open(&fs, &path(), None, &Arc::new(BlockCache::new(1 << 20))).unwrap();
        let one_of = |seed: u64, other: &Vec<u8>| match seed % 3 {
            0 => other.clone(),
            _ => key::split(&model.entries()[usize::try_from(seed % model.entries().len() as u64).unwrap()].0).unwrap().0.to_vec(),
        };
        let (lower, upper) = (one_of(seed, &lower), one_of(seed >> 20, &upper));
        let upper = if included { std::ops::Bound::Included(upper) } else { std::ops::Bound::Excluded(upper) };
        let bounds = KeyRange { lower, upper };
        let inside = as_read(&model, columns, &summary);
        let inside = Model::new(inside.entries().iter().filter(|(key, _)| bounds.contains(key::split(key).unwrap().0)).cloned().collect());
        let steps = some_steps(&model, seed);
        let cursor = RowCursor::new(Arc::clone(&table), Resident::default(), ReadMode::Cached, bounds);
        inside.compare(&mut FixedTableIter::new(cursor), &steps)?;
    }
}

fn small(fs: &Arc<dyn FileSystem>) -> Model {
    let widths = Widths::new(12, 6).unwrap();
    let entries = (0..400u64).map(|number| {
        let user = [&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()[..], b"tail"].concat();
        let kind = if number % 9 == 0 { Kind::Delete } else { Kind::Put };
        let value = if kind == Kind::Put { number.to_le_bytes()[..6].to_vec() } else { Vec::new() };
        (internal(&user, number + 1, kind), value)
    });
    let mut entries: Vec<_> = entries.collect();
    entries.sort_by(|a, b| key::compare(&a.0, &b.0));
    let model = Model::new(entries);
    write(fs, widths, Columns { sequences: true, kinds: true }, &model);
    model
}

fn damaged(bytes: &[u8], damage: impl FnOnce(&mut Vec<u8>)) -> Arc<dyn FileSystem> {
    let mut bytes = bytes.to_vec();
    damage(&mut bytes);
    let fs = new_fs();
    fs.create_new(&path()).unwrap().write_all_at(&bytes, 0).unwrap();
    fs
}

fn all_bytes(fs: &Arc<dyn FileSystem>, path: &Path) -> Vec<u8> {
    let file = fs.open_read(path).unwrap();
    let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

/// Every entry, read in every way; the first error.
fn read_all(table: &Arc<FixedTable>, resident: &Resident, model: &Model) -> Result<()> {
    for (internal_key, value) in model.entries() {
        let (user, _) = key::split(internal_key)?;
        let found = table.get(resident, user, filter::hash(user), SEQUENCE_MAX)?;
        let (sequence, kind, found) = found.ok_or_else(|| Error::corruption("an entry is not found"))?;
        assert_eq!(
            (&internal(user, sequence, kind), &*found),
            (internal_key, value.as_slice()),
            "never a wrong answer"
        );
    }
    Ok(())
}

#[test]
fn every_damaged_byte_is_noticed_and_no_answer_is_wrong() {
    let fs = new_fs();
    let model = small(&fs);
    let bytes = all_bytes(&fs, &path());
    let cache = Arc::new(BlockCache::new(0));
    for at in (0..bytes.len()).step_by(3) {
        let fs = damaged(&bytes, |bytes| bytes[at] ^= 1 << (at % 8));
        let Ok(table) = FixedTable::open(&fs, &path(), None, &cache) else { continue };
        assert!(!faults(&table, CheckLevel::Full).is_empty(), "byte {at}");
        for resident in residents(&table, &Arc::default()) {
            if let Err(error) = read_all(&table, &resident, &model) {
                assert_eq!(
                    (error.kind(), error.path()),
                    (ErrorKind::Corruption, Some(path().as_path())),
                    "{error}"
                );
                assert!(error.offset().is_some(), "{error}");
            }
        }
    }
    for cut in [0, 1, 64, 4096, bytes.len() - 64, bytes.len() - 1] {
        let fs = damaged(&bytes, |bytes| bytes.truncate(cut));
        assert!(FixedTable::open(&fs, &path(), None, &cache).is_err());
    }
}

#[test]
fn what_is_resident_is_read_once() {
    let disk = new_fs();
    let model = small(&disk);
    let counted = FaultFs::new(disk);
    let fs: Arc<dyn FileSystem> = Arc::new(counted.clone());
    let table = FixedTable::open(&fs, &path(), None, &Arc::new(BlockCache::new(0))).unwrap();
    let charge = Arc::<Charge>::default();
    let [.., resident] = residents(&table, &charge);
    table.load_all(resident.rows.as_ref().unwrap()).unwrap();
    read_all(&table, &resident, &model).unwrap();
    let reads = counted.calls(FaultCall::Read);
    read_all(&table, &resident, &model).unwrap();
    assert_eq!(counted.calls(FaultCall::Read), reads, "everything is in memory");
}

#[test]
fn who_finds_a_block_that_somebody_fills_reads_it_for_himself() {
    let fs = new_fs();
    let model = small(&fs);
    let table = FixedTable::open(&fs, &path(), None, &Arc::new(BlockCache::new(0))).unwrap();
    let charge = Arc::<Charge>::default();
    let [.., resident] = residents(&table, &charge);
    let region = resident.rows.as_ref().unwrap();
    assert!(table.blocks() > 1);
    region.hold(0);
    read_all(&table, &resident, &model).unwrap();
    assert!(region.get(0).is_none() && region.get(1).is_some(), "the other one is still at it");
    let own = table.rows_block(&resident, 0).unwrap();
    assert!(matches!(own, resident::BlockRef::Cached(_)));
    let handle = table.layout.handle(0);
    assert_eq!(own.payload(), table.file.block(handle, BlockKind::Rows).unwrap().bytes());
}

#[test]
fn of_keys_that_all_begin_alike_a_search_that_was_made_before_reads_nothing() {
    let disk = new_fs();
    let widths = Widths::new(16, 100).unwrap();
    // Some before and behind those that begin alike, of which there are several blocks of fences.
    let begin = |number: u64| match number {
        0..10 => 3_u64,
        10..40_000 => 5,
        _ => 7,
    };
    let entries = (0..40_010_u64).map(|number| {
        let user = [begin(number).to_be_bytes(), number.to_be_bytes()].concat();
        (internal(&user, 1, Kind::Put), vec![number.to_le_bytes()[0]; 100])
    });
    let model = Model::new(entries.collect());
    write(&disk, widths, Columns { sequences: false, kinds: false }, &model);
    let counted = FaultFs::new(disk);
    let fs: Arc<dyn FileSystem> = Arc::new(counted.clone());
    let table = FixedTable::open(&fs, &path(), None, &Arc::new(BlockCache::new(64 << 20))).unwrap();
    assert!(table.plan.fence_blocks() > 2);
    let resident = Resident::default();
    read_all(&table, &resident, &model).unwrap();
    let reads = counted.calls(FaultCall::Read);
    read_all(&table, &resident, &model).unwrap();
    assert_eq!(counted.calls(FaultCall::Read), reads, "all of it is in the cache");
    let [_, index, _] = residents(&table, &Arc::default());
    for prefix in [0, 3, 4, 5, 6, 7, 8] {
        assert_eq!(table.span(&resident, prefix).unwrap(), table.span(&index, prefix).unwrap(), "{prefix}");
    }
}

#[test]
fn a_table_of_the_other_kind_is_refused() {
    let fs = new_fs();
    small(&fs);
    let error =
        crate::table::Table::open_unexpected(&fs, &path(), &Arc::new(BlockCache::new(0))).unwrap_err();
    assert!(error.to_string().contains("kind"), "{error}");
}
