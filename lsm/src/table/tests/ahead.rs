//! Scans that read ahead: they say what the table holds wherever they begin and turn, and a place that is bad is the fault of its own block alone.

use std::io;
use std::ops::Range;

use super::*;
use crate::fs::{Advice, File, SyncSite};
use crate::key::split;
use crate::sync::Mutex;
use crate::table::TableIter;

/// Several of the largest reads ahead.
const ENTRIES: u32 = 5000;

fn model() -> Model {
    let entry = |number: u32| {
        let value = number.to_le_bytes().repeat(75);
        (internal(format!("dir/{:02}/{number:06}", number / 100).as_bytes(), 1, Kind::Put), value)
    };
    Model::new((0..ENTRIES).map(entry).collect())
}

/// A file that notes what is read, and of which one byte cannot be, as where a sector is bad.
#[derive(Debug)]
struct Watched {
    file: Arc<dyn File>,
    bad: Option<u64>,
    reads: Arc<Mutex<Vec<Range<u64>>>>,
}

impl Watched {
    /// Puts itself before the file of a table; what will have been read.
    fn put_before(table: &mut Arc<Table>, bad: Option<u64>) -> Arc<Mutex<Vec<Range<u64>>>> {
        let (file, reads) = (Arc::clone(&table.file.file), Arc::default());
        let watched = Self { file, bad, reads: Arc::clone(&reads) };
        Arc::get_mut(table).unwrap().file.file = Arc::new(watched);
        reads
    }
}

impl File for Watched {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let range = offset..offset + buffer.len() as u64;
        if self.bad.is_some_and(|bad| range.contains(&bad)) {
            return Err(io::Error::other("a bad sector"));
        }
        self.reads.lock().push(range);
        self.file.read_at(buffer, offset)
    }

    fn write_at(&self, _: &[u8], _: u64) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn write_vectored_at(&self, _: &[io::IoSlice<'_>], _: u64) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn zero_range(&self, _: u64, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn sync_data(&self, _: SyncSite) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn advise(&self, _: Advice, _: u64, _: u64) {}
}

/// How many entries a scan gives before its first error, and that; each is compared with what should come.
fn scanned(table: &Arc<Table>, mode: ReadMode, model: &Model, forward: bool) -> (usize, Error) {
    let mut iter = table.iter(mode);
    let mut count = 0;
    let mut stepped = if forward { iter.seek_to_first() } else { iter.seek_to_last() };
    while stepped.is_ok() {
        assert!(iter.valid(), "damage never looks like the end");
        let (key, value) = &model.entries()[if forward { count } else { model.entries().len() - 1 - count }];
        assert_eq!((iter.key(), iter.value()), (key.as_slice(), value.as_slice()));
        count += 1;
        stepped = if forward { iter.next() } else { iter.prev() };
    }
    assert!(!iter.valid());
    (count, stepped.unwrap_err())
}

/// Both ways, every entry comes but those of the block in which `at` lies, and the error names that.
fn all_but_one_block(table: &Arc<Table>, model: &Model, at: u64, kind: ErrorKind) {
    for mode in [ReadMode::Cached, ReadMode::Bypass] {
        let (before, error) = scanned(table, mode, model, true);
        let (behind, again) = scanned(table, mode, model, false);
        let lost = model.entries().len() - before - behind;
        assert!((1..=16).contains(&lost), "{lost} entries are not there for a byte at {at}");
        for error in [error, again] {
            assert_eq!((error.kind(), error.path()), (kind, Some(path().as_path())));
            let start = error.offset().unwrap();
            assert!((start..start + 5000).contains(&at), "{start} where {at} is bad");
        }
    }
}

/// Places in data blocks: in the first, where single blocks are read, where reads ahead are small and where they are large, and near the end.
fn places(bytes: u64) -> [u64; 7] {
    [100, 9_000, 40_000, 300_000, 555_555, bytes / 2, bytes - bytes / 8]
}

#[test]
fn damage_ahead_is_the_fault_of_its_own_block() {
    let (fs, model) = (new_fs(), model());
    let summary = write(&fs, &model, &[], TableOptions::default());
    let original = bytes_of(&fs);
    for at in places(summary.file_bytes) {
        let mut bytes = original.clone();
        bytes[usize::try_from(at).unwrap()] ^= 4;
        for cache_bytes in [0, 200_000, 128 << 20] {
            let cache = Arc::new(BlockCache::new(cache_bytes));
            let table = Table::open(&file_of(&bytes), &path(), expected(&summary), &cache).unwrap();
            all_but_one_block(&table, &model, at, ErrorKind::Corruption);
        }
    }
}

#[test]
fn what_cannot_be_read_ahead_is_the_fault_of_its_own_block() {
    let (fs, model) = (new_fs(), model());
    let summary = write(&fs, &model, &[], TableOptions::default());
    for at in places(summary.file_bytes) {
        for cache_bytes in [0, 128 << 20] {
            let cache = Arc::new(BlockCache::new(cache_bytes));
            let mut table = Table::open(&fs, &path(), expected(&summary), &cache).unwrap();
            Watched::put_before(&mut table, Some(at));
            all_but_one_block(&table, &model, at, ErrorKind::Io);
        }
    }
}

/// The keys from one number of the model to before another.
fn bounds(from: usize, to: usize, model: &Model) -> KeyRange {
    let user = |number: usize| split(&model.entries()[number].0).unwrap().0.to_vec();
    KeyRange::until(user(from), (to < model.entries().len()).then(|| user(to)))
}

/// All that a cursor shows, one way.
fn shown(mut iter: TableIter, forward: bool) -> Vec<Vec<u8>> {
    let mut keys = Vec::new();
    if forward { iter.seek_to_first() } else { iter.seek_to_last() }.unwrap();
    while iter.valid() {
        keys.push(iter.key().to_vec());
        if forward { iter.next() } else { iter.prev() }.unwrap();
    }
    keys
}

#[test]
fn a_short_range_is_read_at_once_and_nothing_beside_it() {
    let (fs, model) = (new_fs(), model());
    let summary = write(&fs, &model, &[], TableOptions::default());
    for (from, to, forward) in
        [(2000, 2060, true), (2000, 2060, false), (3333, 3334, true), (990, 1060, false)]
    {
        let cache = Arc::new(BlockCache::new(128 << 20));
        let mut table = Table::open(&fs, &path(), expected(&summary), &cache).unwrap();
        let reads = Watched::put_before(&mut table, None);
        // Index and filter are there then, and a block far away.
        table.get(b"dir/00/000000", SEQUENCE_MAX).unwrap().unwrap();
        for number in [1950, 3300, 900] {
            table.get(split(&model.entries()[number].0).unwrap().0, SEQUENCE_MAX).unwrap().unwrap();
        }
        reads.lock().clear();
        assert_eq!(
            shown(table.iter_within(ReadMode::Cached, bounds(from, to, &model)), forward).len(),
            to - from
        );
        let read = reads.lock().clone();
        assert_eq!(read.len(), 1, "{from}..{to}: {read:?}");
        let bytes = read[0].end - read[0].start;
        let needed = (to - from) as u64 * 310;
        assert!((needed..needed + 2 * 4200).contains(&bytes), "{bytes} bytes where {needed} are wanted");
        // One that is long begins as any scan, and goes on in larger steps; but not beyond its end.
        reads.lock().clear();
        assert_eq!(
            shown(table.iter_within(ReadMode::Cached, bounds(4000, 4400, &model)), forward).len(),
            400
        );
        let read = reads.lock().clone();
        assert!((3..=8).contains(&read.len()) && read[0].end - read[0].start < 5000, "{read:?}");
        let bytes: u64 = read.iter().map(|read| read.end - read.start).sum();
        assert!(bytes < 400 * 320 + 20_000, "{bytes}: {read:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20))]

    /// Ranges of all lengths, both ways, within partitions and across them, in caches that hold nothing, a part, all of it, and that hold some blocks already.
    #[test]
    fn ranges_say_what_is_there(
        index_block_bytes in prop::sample::select(vec![100usize, 1000, 8 << 10]),
        mode in prop::sample::select(vec![ReadMode::Cached, ReadMode::Bypass]),
        cache_bytes in prop::sample::select(vec![0usize, 400_000, 128 << 20]),
        ranges in prop::collection::vec((0..ENTRIES as usize, prop_oneof![0..30usize, 0..200usize, 0..3000usize], any::<bool>()), 1..12),
    ) {
        let model = model();
        let table = written(&model, &[], TableOptions { index_block_bytes, ..TableOptions::default() }, cache_bytes);
        for (from, length, forward) in ranges {
            let to = (from + length).min(model.entries().len());
            let mut expected: Vec<_> = model.entries()[from..to].iter().map(|(key, _)| key.clone()).collect();
            if !forward {
                expected.reverse();
            }
            prop_assert_eq!(shown(table.iter_within(mode, bounds(from, to, &model)), forward), expected);
        }
    }

    /// Seeks, and long runs both ways from there, which begin and turn in the middle of what was read ahead; in caches that hold nothing, a part, all of it.
    #[test]
    fn long_runs_from_anywhere_say_what_is_there(
        mode in prop::sample::select(vec![ReadMode::Cached, ReadMode::Bypass]),
        cache_bytes in prop::sample::select(vec![0usize, 400_000, 128 << 20]),
        runs in prop::collection::vec((0..ENTRIES as usize, prop::collection::vec((any::<bool>(), 1..2500usize), 1..4)), 1..6),
    ) {
        let model = model();
        let table = written(&model, &[], TableOptions::default(), cache_bytes);
        let mut iter = table.iter(mode);
        for (mut at, turns) in runs {
            iter.seek(&model.entries()[at].0).unwrap();
            'turns: for (forward, steps) in turns {
                for _ in 0..steps {
                    let (key, value) = &model.entries()[at];
                    prop_assert_eq!((iter.key(), iter.value()), (key.as_slice(), value.as_slice()));
                    let next = if forward { Some(at + 1).filter(|at| *at < model.entries().len()) } else { at.checked_sub(1) };
                    if forward { iter.next() } else { iter.prev() }.unwrap();
                    prop_assert_eq!(iter.valid(), next.is_some());
                    let Some(next) = next else { break 'turns };
                    at = next;
                }
            }
        }
    }
}
