//! How fast a table is written, looked up, scanned and merged, from the cache and past it, in time of one core (Linux).
//!
//! `cargo run --release -p lsm --example table_speed [ENTRIES [PART]]`, where PART is one of write, get, miss, multi, scan, back, bypass, seek,
//! merge, tombstones. Under `perf record`, PART picks what to look at.
#![expect(clippy::print_stdout, reason = "a program that reports")]

use std::error::Error;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use lsm::cache::BlockCache;
use lsm::checksum::Identity;
use lsm::fs::{FileSystem, OsFs};
use lsm::iter::InternalIterator;
use lsm::key::{Kind, SEQUENCE_MAX, trailer};
use lsm::merge::MergingIterator;
use lsm::range_tombstone::{RangeTombstone, RangeTombstones, TombstoneCursor};
use lsm::table::{ExpectedTable, Lookup, ReadMode, Table, TableOptions, TableWriter, multi_get};

type Outcome = Result<(), Box<dyn Error>>;

const DATABASE: Identity = Identity::from_bytes([1; 16]);

/// Keys as a catalog has them: a prefix that all share, then something that ascends. 16 bytes, with a value of 26 that makes 42, and the trailer 50.
fn key(number: u64, buffer: &mut Vec<u8>) {
    buffer.clear();
    buffer.extend_from_slice(b"timeline");
    buffer.extend_from_slice(&number.to_be_bytes());
}

struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// Time that this thread has been computing; what other programs take does not count.
fn busy() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = text.split(' ').next().and_then(|word| word.parse().ok());
    Duration::from_nanos(nanoseconds.unwrap_or(0))
}

fn report(what: &str, operations: u64, start: Duration) {
    let seconds = busy().saturating_sub(start).as_secs_f64();
    println!(
        "{what:<34} {:>8.2} M/s {:>8.0} ns each",
        operations as f64 / seconds / 1e6,
        seconds * 1e9 / operations as f64
    );
}

struct Place {
    fs: Arc<dyn FileSystem>,
    dir: tempfile::TempDir,
}

impl Place {
    fn write(&self, number: u8, keys: impl Iterator<Item = u64>) -> Result<ExpectedTable, lsm::Error> {
        let identity = Identity::from_bytes([number; 16]);
        let path = self.dir.path().join(format!("{number}.table"));
        let mut writer = TableWriter::create(&self.fs, &path, identity, DATABASE, TableOptions::default())?;
        let mut buffer = Vec::new();
        for number in keys {
            key(number, &mut buffer);
            buffer.extend_from_slice(&trailer(number + 1, Kind::Put));
            writer.add(&buffer, b"twenty-six bytes of value.")?;
        }
        let summary = writer.finish()?;
        Ok(ExpectedTable { identity, database: DATABASE, file_bytes: summary.file_bytes })
    }

    fn open(
        &self,
        number: u8,
        expected: ExpectedTable,
        cache: &Arc<BlockCache>,
    ) -> Result<Arc<Table>, lsm::Error> {
        Table::open(&self.fs, &self.dir.path().join(format!("{number}.table")), expected, cache)
    }
}

fn main() -> Outcome {
    let mut arguments = std::env::args().skip(1);
    let count: u64 = arguments.next().map_or(Ok(2_000_000), |text| text.parse())?;
    let part = arguments.next();
    let wanted = |name: &str| part.as_deref().is_none_or(|part| part == name);
    let place = Place { fs: Arc::new(OsFs), dir: tempfile::tempdir()? };
    let cache = Arc::new(BlockCache::new(1 << 30));

    let start = busy();
    let expected = place.write(1, (0..count).map(|number| number * 2))?;
    report("write (with a sync)", count, start);
    println!("{:<34} {:>8.1} bytes an entry", "", expected.file_bytes as f64 / count as f64);
    let start = busy();
    let table = place.open(1, expected, &cache)?;
    println!("{:<34} {:>8.2} ms", "open", busy().saturating_sub(start).as_secs_f64() * 1e3);

    if wanted("scan") {
        for what in ["scan, filling the cache", "scan, cached", "scan, cached, again"] {
            let start = busy();
            black_box(scan(&table, ReadMode::Cached)?);
            report(what, count, start);
        }
    }
    if wanted("back") {
        let start = busy();
        let mut iter = table.iter(ReadMode::Cached);
        iter.seek_to_last()?;
        while iter.valid() {
            black_box(iter.value().len());
            iter.prev()?;
        }
        report("scan backwards, cached", count, start);
    }
    if wanted("bypass") {
        let start = busy();
        black_box(scan(&table, ReadMode::Bypass)?);
        report("scan, past the cache", count, start);
    }
    scan(&table, ReadMode::Cached)?;
    gets(&table, count, &wanted)?;
    if wanted("merge") {
        merges(&place, count, &cache)?;
    }
    if wanted("tombstones") {
        tombstones();
    }
    println!("{:?}", cache.stats());
    Ok(())
}

fn scan(table: &Arc<Table>, mode: ReadMode) -> Result<usize, lsm::Error> {
    let mut iter = table.iter(mode);
    let mut bytes = 0;
    iter.seek_to_first()?;
    while iter.valid() {
        bytes += iter.key().len() + iter.value().len();
        iter.next()?;
    }
    Ok(bytes)
}

fn gets(table: &Arc<Table>, count: u64, wanted: &dyn Fn(&str) -> bool) -> Outcome {
    let operations = 2_000_000u64;
    let mut dice = Dice(88_172_645_463_325_252);
    let mut buffer = Vec::new();
    for (name, what, odd) in [("get", "get, cached, random", 0), ("miss", "get of a missing key", 1)] {
        if !wanted(name) {
            continue;
        }
        let start = busy();
        let mut found = 0u64;
        for _ in 0..operations {
            key(dice.below(count) * 2 + odd, &mut buffer);
            found += u64::from(table.get(&buffer, SEQUENCE_MAX)?.is_some());
        }
        report(what, operations, start);
        if (found == 0) != (odd == 1) {
            return Err(format!("{found} found").into());
        }
    }
    if wanted("multi") {
        for batch in [100u64, 1000] {
            let batches = operations / batch;
            let start = busy();
            for _ in 0..batches {
                let mut keys: Vec<u64> = (0..batch).map(|_| dice.below(count) * 2).collect();
                keys.sort_unstable();
                let keys: Vec<Vec<u8>> = keys
                    .into_iter()
                    .map(|number| {
                        key(number, &mut buffer);
                        buffer.clone()
                    })
                    .collect();
                let mut lookups: Vec<Lookup<'_>> = keys
                    .iter()
                    .map(|key| Lookup { user_key: key, hash: lsm::filter::hash(key), found: None })
                    .collect();
                multi_get(&[(table, 0..lookups.len())], &mut lookups, SEQUENCE_MAX)?;
                black_box(lookups);
            }
            report(&format!("multi_get of {batch}, sorting included"), operations, start);
        }
    }
    if wanted("seek") {
        let start = busy();
        let mut iter = table.iter(ReadMode::Cached);
        for _ in 0..operations / 4 {
            key(dice.below(count) * 2, &mut buffer);
            buffer.extend_from_slice(&trailer(SEQUENCE_MAX, Kind::Delete));
            iter.seek(&buffer)?;
            black_box(iter.value().len());
        }
        report("seek, cached, random", operations / 4, start);
    }
    Ok(())
}

fn merges(place: &Place, count: u64, cache: &Arc<BlockCache>) -> Outcome {
    for sources in [2u8, 8] {
        for runs in [1u64, 1000] {
            let mut tables = Vec::new();
            for source in 0..sources {
                let number = 10 + source + if runs == 1 { 0 } else { 100 } + sources;
                let mine = move |key: &u64| (key / runs) % u64::from(sources) == u64::from(source);
                let expected = place.write(number, (0..count).filter(mine))?;
                tables.push(place.open(number, expected, cache)?);
            }
            for _ in 0..2 {
                let iters = tables
                    .iter()
                    .map(|table| Box::new(table.iter(ReadMode::Cached)) as Box<dyn InternalIterator>)
                    .collect();
                let mut merged = MergingIterator::new(iters);
                let start = busy();
                merged.seek_to_first()?;
                while merged.valid() {
                    black_box(merged.value().len());
                    merged.next()?;
                }
                report(&format!("merge of {sources}, runs of {runs}"), count, start);
            }
            for table in &tables {
                std::fs::remove_file(table.path())?;
            }
        }
    }
    Ok(())
}

fn tombstones() {
    let count = 100_000u64;
    let mut buffer = Vec::new();
    let mut bound = |number: u64| {
        key(number, &mut buffer);
        buffer.clone()
    };
    let all: Vec<RangeTombstone> = (0..count)
        .map(|number| RangeTombstone {
            start: bound(number * 10),
            end: Some(bound(number * 10 + 5)),
            sequence: number + 1,
        })
        .collect();
    let start = busy();
    let set = Arc::new(RangeTombstones::new(all));
    report("range tombstones, building", count, start);
    let mut dice = Dice(3);
    let asked = 1_000_000;
    let start = busy();
    for _ in 0..asked {
        let key = bound(dice.below(count * 10));
        black_box(set.newest_covering(&key, SEQUENCE_MAX));
    }
    report("range tombstones, random lookups", asked, start);
    let mut cursor = TombstoneCursor::new(set, SEQUENCE_MAX);
    let start = busy();
    for number in 0..asked {
        black_box(cursor.newest_covering(&bound(number)));
    }
    report("range tombstones, in order", asked, start);
}
