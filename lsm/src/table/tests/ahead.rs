//! Scans that read ahead: they say what the table holds wherever they begin and turn, and a place that is bad is the fault of its own block alone.

use std::io;

use super::*;
use crate::fs::{Advice, File, SyncSite};

/// Several of the largest reads ahead.
const ENTRIES: u32 = 5000;

fn model() -> Model {
    let entry = |number: u32| {
        let value = number.to_le_bytes().repeat(75);
        (internal(format!("dir/{:02}/{number:06}", number / 100).as_bytes(), 1, Kind::Put), value)
    };
    Model::new((0..ENTRIES).map(entry).collect())
}

/// A file of which one byte cannot be read, as where a sector is bad.
#[derive(Debug)]
struct BadSector {
    file: Arc<dyn File>,
    at: u64,
}

impl File for BadSector {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        if (offset..offset + buffer.len() as u64).contains(&self.at) {
            return Err(io::Error::other("a bad sector"));
        }
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
            let file = Arc::clone(&table.file.file);
            Arc::get_mut(&mut table).unwrap().file.file = Arc::new(BadSector { file, at });
            all_but_one_block(&table, &model, at, ErrorKind::Io);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20))]

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
