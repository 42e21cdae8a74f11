//! A table is a sorted map, whatever its options; and damage to any byte of it is noticed.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use proptest::prelude::*;

use crate::block::{Block, BlockBuilder, BlockKind, Compression, STAMP_LAST, rank_seen_by};
use crate::cache::BlockCache;
use crate::checksum::Identity;
use crate::error::{Error, ErrorKind, Result};
use crate::filter;
use crate::fs::{FileSystem, MemFs};
use crate::iter::InternalIterator;
use crate::key::{self, Kind, SEQUENCE_MAX};
use crate::model::{Model, internal, some_entries, some_user_key, some_walk};
use crate::range::KeyRange;
use crate::range_tombstone::RangeTombstone;
use crate::table::index::Handle;
use crate::table::{
    CheckLevel, ExpectedTable, FOOTER_BYTES, HEADER_BYTES, Lookup, ReadMode, Table, TableOptions,
    TableSummary, TableWriter,
};

mod ahead;

const IDENTITY: Identity = Identity::from_bytes(*b"table identity 1");
const DATABASE: Identity = Identity::from_bytes(*b"database of test");

fn new_fs() -> Arc<dyn FileSystem> {
    Arc::new(MemFs::new())
}

fn path() -> PathBuf {
    PathBuf::from("/1.table")
}

fn write(
    fs: &Arc<dyn FileSystem>,
    model: &Model,
    tombstones: &[RangeTombstone],
    options: TableOptions,
) -> TableSummary {
    let mut writer = TableWriter::create(fs, &path(), IDENTITY, DATABASE, options).unwrap();
    for tombstone in tombstones {
        writer.add_range_tombstone(&tombstone.start, tombstone.end.as_deref(), tombstone.sequence);
    }
    for (key, value) in model.entries() {
        writer.add(key, value).unwrap();
    }
    writer.finish().unwrap()
}

fn expected(summary: &TableSummary) -> ExpectedTable {
    ExpectedTable { identity: IDENTITY, database: DATABASE, file_bytes: summary.file_bytes }
}

fn written(
    model: &Model,
    tombstones: &[RangeTombstone],
    options: TableOptions,
    cache_bytes: usize,
) -> Arc<Table> {
    let fs = new_fs();
    let summary = write(&fs, model, tombstones, options);
    let table =
        Table::open(&fs, &path(), expected(&summary), &Arc::new(BlockCache::new(cache_bytes))).unwrap();
    assert_eq!(table.summary(), &summary, "the properties say what the writer said");
    table
}

fn sound(table: &Arc<Table>) {
    for level in [CheckLevel::Structure, CheckLevel::Full] {
        let mut faults = Vec::new();
        let figures = table.check(level, &mut |fault| faults.push(fault));
        assert!(faults.is_empty(), "{faults:?}");
        assert_eq!(figures.faults, 0);
        if level == CheckLevel::Full {
            assert_eq!(figures.entries, table.summary().entries + table.summary().range_tombstones);
            assert!(figures.bytes >= table.summary().file_bytes);
        }
    }
}

/// What this build has.
pub(super) fn compressions() -> Vec<Compression> {
    let zstd = cfg!(feature = "zstd").then_some(Compression::Zstd(1));
    [Compression::None, Compression::Lz4].into_iter().chain(zstd).collect()
}

fn tiny_options() -> impl Strategy<Value = TableOptions> {
    (
        prop::sample::select(vec![1usize, 60, 300, 4096]),
        prop::sample::select(vec![1usize, 2, 16]),
        prop::sample::select(compressions()),
        prop::sample::select(vec![0u32, 1, 10]),
        prop::sample::select(vec![1usize, 40, 200, 8192]),
        // So many that some of the blocks are held back, or all of them; so few that no dictionary comes of it.
        prop::sample::select(vec![0usize, 1, 10, 1000]),
    )
        .prop_map(
            |(
                block_bytes,
                restart_interval,
                compression,
                filter_bits_per_key,
                index_block_bytes,
                dictionary_bytes,
            )| {
                TableOptions {
                    block_bytes,
                    restart_interval,
                    compression,
                    filter_bits_per_key,
                    index_block_bytes,
                    dictionary_bytes,
                    origin: None,
                }
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_table_is_a_sorted_map(
        model in some_entries(1..80),
        options in tiny_options(),
        cache_bytes in prop::sample::select(vec![0usize, 20_000, 1 << 20]),
        mode in prop::sample::select(vec![ReadMode::Cached, ReadMode::Bypass]),
        walk in some_walk(),
        (lower, upper, end) in (some_user_key(), some_user_key(), 0..3),
    ) {
        let table = written(&model, &[], options, cache_bytes);
        sound(&table);
        model.compare(&mut table.iter(mode), &walk)?;

        let upper = match end {
            0 => std::ops::Bound::Included(upper),
            1 => std::ops::Bound::Excluded(upper),
            _ => std::ops::Bound::Unbounded,
        };
        let bounds = KeyRange { lower, upper };
        model.within(&bounds).compare(&mut table.iter_within(mode, bounds), &walk)?;

        for (user, sequence) in model.questions() {
            let found = table.get(&user, sequence).unwrap().map(|(sequence, _, value)| (sequence, value.to_vec()));
            prop_assert_eq!(found, model.get(&user, sequence));
        }
        let questions = model.questions();
        for sequence in [0, 3, 8, SEQUENCE_MAX] {
            let users: Vec<&[u8]> =
                questions.iter().filter(|(_, at)| *at == sequence).map(|(user, _)| user.as_slice()).collect();
            let mut lookups: Vec<Lookup<'_>> = users
                .iter()
                .map(|user| Lookup { user_key: user, hash: filter::hash(user), found: None })
                .collect();
            let asked = [(&*table, 0..lookups.len())];
            crate::table::multi_get(&asked, &mut lookups, sequence).unwrap();
            for lookup in lookups {
                let found = lookup.found.map(|(sequence, _, value)| (sequence, value.to_vec()));
                prop_assert_eq!(found, model.get(lookup.user_key, sequence));
            }
        }
    }
}

fn small_model() -> Model {
    let entry = |user: &str, sequence, value: &[u8]| {
        let kind = if value.is_empty() { Kind::Delete } else { Kind::Put };
        (internal(user.as_bytes(), sequence, kind), value.to_vec())
    };
    Model::new(vec![
        entry("directory/first", 7, b"one"),
        entry("directory/first", 3, b"an older one"),
        entry("directory/second", 8, b""),
        entry("directory/third", 0, b"zeroed sequence number"),
        entry("file", 9, &[b'x'; 40]),
        entry("zoo", 12, b"last"),
    ])
}

fn small_tombstones() -> Vec<RangeTombstone> {
    vec![
        RangeTombstone { start: b"dir".to_vec(), end: Some(b"dir9".to_vec()), sequence: 5 },
        RangeTombstone { start: b"e".to_vec(), end: None, sequence: 2 },
    ]
}

fn small_options() -> TableOptions {
    TableOptions { block_bytes: 60, index_block_bytes: 40, ..TableOptions::default() }
}

#[test]
fn an_index_block_that_ends_too_early_is_an_error_of_the_lookup_that_it_misleads() {
    let table = written(&small_model(), &[], small_options(), 1 << 20);
    let (mut builder, mut value) = (BlockBuilder::new(4), Vec::new());
    let (data, at) = (Handle { offset: 64, bytes: 100 }, Handle { offset: 4000, bytes: 90 });
    data.encode(&mut value);
    builder.add(b"m", STAMP_LAST, &value);
    let index = Block::sorted(builder.finish(), BlockKind::Index).unwrap();
    let lookup = |key: &[u8]| table.data_handle(&index, at, key, rank_seen_by(SEQUENCE_MAX));
    assert_eq!(lookup(b"m").unwrap(), data);
    let error = lookup(b"n").unwrap_err();
    assert_eq!((error.kind(), error.offset()), (ErrorKind::Corruption, Some(4000)));
    assert_eq!(error.path(), Some(path().as_path()));
}

#[test]
fn what_is_added_is_counted() {
    let table = written(&small_model(), &small_tombstones(), small_options(), 1 << 20);
    sound(&table);
    let summary = table.summary();
    assert_eq!((summary.entries, summary.deletions, summary.range_tombstones), (6, 1, 2));
    assert_eq!((summary.sequence_min, summary.sequence_max), (0, 12));
    assert_eq!(summary.bounds, KeyRange::until(*b"dir", None));
    assert!(summary.partitions > 1 && summary.data_blocks > summary.partitions);
    assert_eq!(table.range_tombstones().newest_covering(b"dir5", SEQUENCE_MAX), 5);
    assert_eq!(table.get(b"directory/second", 20).unwrap().map(|found| found.1), Some(Kind::Delete));
}

#[test]
fn a_table_of_range_tombstones_alone_is_a_table() {
    let table = written(&Model::default(), &small_tombstones()[..1], small_options(), 1 << 20);
    sound(&table);
    assert_eq!(table.summary().bounds, KeyRange::until(*b"dir", Some(b"dir9".to_vec())));
    assert!(table.get(b"dir5", SEQUENCE_MAX).unwrap().is_none());
    Model::default()
        .compare(&mut table.iter(ReadMode::Cached), &[crate::model::Step::First, crate::model::Step::Last])
        .unwrap();
}

#[test]
fn an_empty_table_is_not_written() {
    let writer = TableWriter::create(&new_fs(), &path(), IDENTITY, DATABASE, small_options()).unwrap();
    assert_eq!(writer.finish().unwrap_err().kind(), ErrorKind::InvalidArgument);
}

#[test]
#[should_panic(expected = "ascending")]
fn entries_out_of_order_are_not_written() {
    let mut writer = TableWriter::create(&new_fs(), &path(), IDENTITY, DATABASE, small_options()).unwrap();
    writer.add(&internal(b"b", 1, Kind::Put), b"").unwrap();
    writer.add(&internal(b"a", 1, Kind::Put), b"").unwrap();
}

#[test]
fn values_larger_than_a_block_have_one_of_their_own() {
    let model = Model::new(
        (0..5u8).map(|number| (internal(&[number], 1, Kind::Put), vec![number; 300_000])).collect(),
    );
    let table = written(&model, &[], TableOptions::default(), 1 << 20);
    sound(&table);
    assert_eq!(table.summary().data_blocks, 5);
    for mode in [ReadMode::Cached, ReadMode::Bypass] {
        let mut iter = table.iter(mode);
        iter.seek_to_last().unwrap();
        for number in (0..5u8).rev() {
            assert_eq!(iter.value(), vec![number; 300_000]);
            iter.prev().unwrap();
        }
        assert!(!iter.valid());
    }
}

#[test]
fn another_table_than_the_manifest_names_is_refused() {
    let fs = new_fs();
    let summary = write(&fs, &small_model(), &[], small_options());
    let cache = Arc::new(BlockCache::new(0));
    let right = expected(&summary);
    Table::open(&fs, &path(), right, &cache).unwrap();
    let other = Identity::from_bytes([0; 16]);
    for wrong in [
        ExpectedTable { identity: other, ..right },
        ExpectedTable { database: other, ..right },
        ExpectedTable { file_bytes: right.file_bytes + 1, ..right },
    ] {
        let error = Table::open(&fs, &path(), wrong, &cache).unwrap_err();
        assert_eq!((error.kind(), error.path()), (ErrorKind::Corruption, Some(path().as_path())));
    }
    let missing = Table::open(&fs, Path::new("/2.table"), right, &cache).unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
}

#[test]
fn index_and_filters_are_pinned_while_there_is_room_and_given_back() {
    let fs = new_fs();
    let summary = write(&fs, &small_model(), &[], TableOptions::default());
    for (cache_bytes, hits) in [(1 << 20, 1), (1200, 0), (0, 0)] {
        let cache = Arc::new(BlockCache::new(cache_bytes));
        let table = Table::open(&fs, &path(), expected(&summary), &cache).unwrap();
        let get = || table.get(b"file", SEQUENCE_MAX).unwrap().map(|found| found.2.to_vec());
        assert_eq!((get(), get()), (Some(vec![b'x'; 40]), Some(vec![b'x'; 40])));
        if hits > 0 {
            let stats = cache.stats();
            assert_eq!((stats.hits, stats.misses), (1, 3), "of the second time only the data is asked for");
            assert_eq!(stats.blocks, 1, "and nothing else is in the cache");
        }
        let pinned = cache.used_bytes();
        drop(table);
        assert!(cache.used_bytes() <= pinned);
        cache.set_capacity(0);
        assert_eq!(cache.used_bytes(), 0, "with a cache of {cache_bytes} bytes");
    }
}

/// Everything that can be asked of a table.
fn read_all(table: &Arc<Table>, model: &Model) -> Result<()> {
    let tombstones: Vec<RangeTombstone> =
        table.range_tombstones().iter().map(|tombstone| tombstone.to_owned()).collect();
    assert_eq!(tombstones, small_tombstones(), "never wrong data");
    for mode in [ReadMode::Cached, ReadMode::Bypass] {
        let mut iter = table.iter(mode);
        iter.seek_to_first()?;
        for (key, value) in model.entries() {
            assert_eq!((iter.key(), iter.value()), (key.as_slice(), value.as_slice()), "never wrong data");
            iter.next()?;
        }
        assert!(!iter.valid());
        iter.seek_to_last()?;
        for (key, value) in model.entries().iter().rev() {
            assert_eq!((iter.key(), iter.value()), (key.as_slice(), value.as_slice()), "never wrong data");
            iter.prev()?;
        }
    }
    for (user, sequence) in model.questions() {
        let found = table.get(&user, sequence)?.map(|(sequence, _, value)| (sequence, value.to_vec()));
        assert_eq!(found, model.get(&user, sequence), "never wrong data");
    }
    Ok(())
}

fn file_of(bytes: &[u8]) -> Arc<dyn FileSystem> {
    let fs = new_fs();
    fs.create_new(&path()).unwrap().write_all_at(bytes, 0).unwrap();
    fs
}

fn bytes_of(fs: &Arc<dyn FileSystem>) -> Vec<u8> {
    let file = fs.open_read(&path()).unwrap();
    let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

fn damaged_is_noticed(original: &[u8], damaged: &[u8], model: &Model, whole: ExpectedTable, what: &str) {
    let fs = file_of(damaged);
    let cache = Arc::new(BlockCache::new(1 << 20));
    let named = |error: &Error| {
        assert_eq!(error.path(), Some(path().as_path()), "{what}: {error}");
        assert_eq!(error.kind(), ErrorKind::Corruption, "{what}: {error}");
    };
    let table = match Table::open(&fs, &path(), whole, &cache) {
        Ok(table) => table,
        Err(error) => return named(&error),
    };
    let mut faults = Vec::new();
    table.check(CheckLevel::Full, &mut |fault| faults.push(fault));
    assert_eq!(faults.is_empty(), original == damaged, "{what}: the full check reads every byte");
    faults.iter().for_each(named);
    assert!(faults.iter().all(|fault| fault.offset().is_some()));
    match read_all(&table, model) {
        Ok(()) => {}
        Err(error) => {
            named(&error);
            assert!(error.offset().is_some());
            let again = read_all(&table, model).unwrap_err();
            assert_eq!(again.offset(), error.offset(), "{what}: what is damaged is so the next time too");
        }
    }
}

#[test]
fn every_flipped_byte_is_noticed_and_never_gives_wrong_data() {
    for compression in compressions() {
        let fs = new_fs();
        let options = TableOptions { compression, block_bytes: 130, ..small_options() };
        let summary = write(&fs, &small_model(), &small_tombstones(), options);
        let original = bytes_of(&fs);
        for at in 0..original.len() {
            for change in [0x01, 0x80, 0xff] {
                let mut damaged = original.clone();
                damaged[at] ^= change;
                damaged_is_noticed(
                    &original,
                    &damaged,
                    &small_model(),
                    expected(&summary),
                    &format!("byte {at}"),
                );
            }
        }
        damaged_is_noticed(&original, &original, &small_model(), expected(&summary), "nothing");
    }
}

#[test]
fn cut_files_swapped_and_zeroed_pieces_are_noticed() {
    let fs = new_fs();
    let summary = write(&fs, &small_model(), &small_tombstones(), small_options());
    let original = bytes_of(&fs);
    let cache = Arc::new(BlockCache::new(0));
    for length in 0..original.len() {
        let fs = file_of(&original[..length]);
        let error = Table::open(&fs, &path(), expected(&summary), &cache).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corruption);
        assert!(Table::open_unexpected(&fs, &path(), &cache).is_err());
    }
    let piece = 32;
    for start in (0..original.len() - piece).step_by(16) {
        let mut zeroed = original.clone();
        zeroed[start..start + piece].fill(0);
        damaged_is_noticed(
            &original,
            &zeroed,
            &small_model(),
            expected(&summary),
            &format!("zeros at {start}"),
        );
        for other in (0..original.len() - piece).step_by(48) {
            let mut copied = original.clone();
            copied.copy_within(other..other + piece, start);
            let what = format!("{other} copied to {start}");
            damaged_is_noticed(&original, &copied, &small_model(), expected(&summary), &what);
        }
    }
}

#[test]
fn an_iterator_repeats_its_error_and_a_seek_tries_anew() {
    let fs = new_fs();
    let summary = write(&fs, &small_model(), &[], small_options());
    let mut bytes = bytes_of(&fs);
    bytes[HEADER_BYTES + 100] ^= 1; // In the second data block.
    let table =
        Table::open(&file_of(&bytes), &path(), expected(&summary), &Arc::new(BlockCache::new(0))).unwrap();
    let mut iter = table.iter(ReadMode::Cached);
    iter.seek_to_first().unwrap();
    let error = loop {
        match iter.next() {
            Ok(()) => assert!(iter.valid(), "damage never looks like the end"),
            Err(error) => break error,
        }
    };
    assert!(!iter.valid());
    assert_eq!(iter.next().unwrap_err().to_string(), error.to_string());
    assert_eq!(iter.prev().unwrap_err().to_string(), error.to_string());
    iter.seek_to_last().unwrap();
    assert_eq!(key::split(iter.key()).unwrap().0, b"zoo");
}

#[test]
fn the_smallest_file_has_a_header_a_footer_and_something_between() {
    assert_eq!((HEADER_BYTES, FOOTER_BYTES), (64, 64));
}

#[test]
fn what_is_compressed_beside_stands_in_its_order_as_if_it_were_not() {
    // Blocks that shrink and blocks that don't, and now and then one that is larger than what is left to the thread.
    let entries = (0..3000u32).map(|number| {
        let word =
            |word: u32| ((number * 4096 + word) * (number / 16 % 2)).wrapping_mul(0x9e37_79b9).to_le_bytes();
        let words = if number % 700 == 699 { 30_000 } else { 64 };
        (internal(&number.to_be_bytes(), 1, Kind::Put), (0..words).flat_map(word).collect())
    });
    let model = Model::new(entries.collect());
    for compression in compressions() {
        let mut estimates = Vec::new();
        let files = [false, true].map(|is_beside| {
            let fs = new_fs();
            let options = TableOptions { compression, ..TableOptions::default() };
            let mut writer = TableWriter::create(&fs, &path(), IDENTITY, DATABASE, options).unwrap();
            if is_beside {
                writer.compress_beside();
            }
            for (number, (key, value)) in model.entries().iter().enumerate() {
                writer.add(key, value).unwrap();
                if number == 150 {
                    estimates.push(writer.estimated_bytes());
                }
            }
            let summary = writer.finish().unwrap();
            let mut bytes = vec![0; usize::try_from(summary.file_bytes).unwrap()];
            fs.open_read(&path()).unwrap().read_exact_at(&mut bytes, 0).unwrap();
            bytes
        });
        assert!(files[0] == files[1], "{compression:?}");
        let is_held = estimates[1] > estimates[0] + 10_000;
        assert_eq!(is_held, compression != Compression::None, "{compression:?}: {estimates:?}");
        assert!(files[0].len() > 700_000);
    }
}
