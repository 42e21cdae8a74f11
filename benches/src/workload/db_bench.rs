//! db_bench's benchmarks, under its names. What is read is checked: a wrong value, a key that is there and not found, one that is found and must not be, end
//! the run.
//!
//! Where db_bench has every thread do `--num` or `--reads` operations, here the threads share them.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::convert::ratio;
use crate::error::{Result, fault};
use crate::generate::{Presence, Random, Shuffle, Values, missing_key, numbered_key};
use crate::measure::Recorder;
use crate::store::{Direction, Durability, Operation, Reader, Scan, Store};
use crate::workload::Session;
use crate::workload::session::{Contents, EACH, SOME, share};

const NUM: u64 = 1_000_000;

/// Of the slow benchmarks, one in so many entries, as in db_bench; at least [`FEW`] where there are as many.
const SLOW_PART: u64 = 1000;
const FEW: u64 = 100;

const LARGE_VALUE_BYTES: usize = 100_000;
const MULTI_READ_KEYS: usize = 32;

/// In what order keys are written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    Sequential,
    Random,
    Unique,
}

fn num(session: &Session<'_>) -> u64 {
    session.num_or(NUM)
}

fn reads(session: &Session<'_>) -> u64 {
    session.arguments.reads.unwrap_or_else(|| num(session))
}

fn few(session: &Session<'_>) -> u64 {
    let num = num(session);
    (num / SLOW_PART).max(num.min(FEW))
}

/// Opens a fresh database for entries of that kind.
fn fresh(session: &mut Session<'_>, value_bytes: usize, durability: Durability) -> Result<()> {
    let entry_bytes = (session.arguments.key_size + value_bytes) as u64;
    let mut configuration = session.configuration(num(session).saturating_mul(entry_bytes));
    configuration.durability = durability;
    session.open_fresh(&configuration)?;
    session.begin_contents(num(session), value_bytes);
    Ok(())
}

/// What writes need to know.
struct Writing {
    order: Order,
    /// Numbers are drawn below this.
    below: u64,
    /// Entries to write, of all threads.
    count: u64,
    batch: usize,
    key_bytes: usize,
    seed: u64,
    threads: usize,
    durability: Durability,
}

impl Writing {
    fn new(session: &Session<'_>, order: Order, count: u64) -> Self {
        Self {
            order,
            below: num(session),
            count,
            batch: session.arguments.batch_size.unwrap_or(1).max(1),
            key_bytes: session.arguments.key_size,
            seed: session.arguments.seed,
            threads: session.threads(),
            durability: session.durability(),
        }
    }

    /// A thread's part of it.
    fn write(
        &self,
        store: &dyn Store,
        contents: &Contents,
        thread: usize,
        recorder: &mut Recorder,
    ) -> Result<()> {
        let mut random = Random::new(self.seed, 100 + thread as u64);
        let shuffle = Shuffle::new(self.count, self.seed);
        let mut entries = vec![(Vec::new(), Vec::new()); self.batch];
        let mut mine = share(self.count, thread, self.threads).peekable();
        while mine.peek().is_some() {
            let mut filled = 0;
            for ((key, value), index) in entries.iter_mut().zip(mine.by_ref().take(self.batch)) {
                let number = match self.order {
                    Order::Sequential => index,
                    Order::Random => random.below(self.below),
                    Order::Unique => shuffle.at(index),
                };
                numbered_key(number, self.key_bytes, key);
                contents.values.fill(number, contents.next_nonce(), value);
                if let Some(presence) = &contents.presence {
                    presence.insert(number);
                }
                filled += 1;
            }
            put(store, entries.iter().take(filled), self.durability, recorder)?;
        }
        Ok(())
    }
}

/// Writes entries as one batch, timed.
fn put<'e>(
    store: &dyn Store,
    mut entries: impl ExactSizeIterator<Item = &'e (Vec<u8>, Vec<u8>)>,
    durability: Durability,
    recorder: &mut Recorder,
) -> Result<()> {
    let count = entries.len();
    if let (1, Some((key, value))) = (count, if count == 1 { entries.next() } else { None }) {
        return recorder.time(1, || store.write(&[Operation::Put(key, value)], durability));
    }
    let operations: Vec<Operation<'_>> = entries.map(|(key, value)| Operation::Put(key, value)).collect();
    recorder.time(count as u64, || store.write(&operations, durability))
}

fn write(session: &mut Session<'_>, order: Order, count: u64, durability: Durability) -> Result<()> {
    session.store()?;
    let mut writing = Writing::new(session, order, count);
    writing.durability = durability;
    let contents = take_contents(session);
    let written = session.measure("", writing.threads, EACH, &|store, thread, recorder| {
        writing.write(store, &contents, thread, recorder)
    });
    session.contents = contents;
    written
}

/// The contents for as long as a measurement has the session.
fn take_contents(session: &mut Session<'_>) -> Contents {
    let value_bytes = session.contents.values.value_bytes();
    let empty = Contents::unknown(Values::new(session.arguments.seed, value_bytes));
    std::mem::replace(&mut session.contents, empty)
}

fn fill(session: &mut Session<'_>, order: Order) -> Result<()> {
    let durability = session.durability();
    fresh(session, session.arguments.value_size.unwrap_or(100), durability)?;
    write(session, order, num(session), durability)
}

pub(super) fn fillseq(session: &mut Session<'_>) -> Result<()> {
    fill(session, Order::Sequential)
}

pub(super) fn fillrandom(session: &mut Session<'_>) -> Result<()> {
    fill(session, Order::Random)
}

pub(super) fn filluniquerandom(session: &mut Session<'_>) -> Result<()> {
    fill(session, Order::Unique)
}

pub(super) fn fillsync(session: &mut Session<'_>) -> Result<()> {
    fresh(session, session.arguments.value_size.unwrap_or(100), Durability::Synced)?;
    write(session, Order::Random, few(session), Durability::Synced)
}

pub(super) fn fill100k(session: &mut Session<'_>) -> Result<()> {
    let durability = session.durability();
    fresh(session, LARGE_VALUE_BYTES, durability)?;
    write(session, Order::Random, few(session), durability)
}

pub(super) fn overwrite(session: &mut Session<'_>) -> Result<()> {
    let durability = session.durability();
    write(session, Order::Random, num(session), durability)
}

/// Looks a key up, timed, and checks what comes.
fn look_up(
    reader: &mut dyn Reader,
    values: &Values,
    expected: Option<bool>,
    (number, key): (u64, &[u8]),
    recorder: &mut Recorder,
) -> Result<bool> {
    let mut right = true;
    let found = recorder.time(1, || reader.get(key, &mut |value| right = values.check(number, value)))?;
    if !right {
        return fault(format!("key {number} has a value that is not its own"));
    }
    match expected {
        Some(true) if !found => fault(format!("key {number} was written and is not found")),
        Some(false) if found => fault(format!("key {number} is found and was never written or is deleted")),
        _ => Ok(found),
    }
}

fn expected(presence: Option<&Presence>, number: u64) -> Option<bool> {
    presence.map(|presence| presence.contains(number))
}

pub(super) fn readrandom(session: &mut Session<'_>) -> Result<()> {
    session.store()?;
    session.settle()?;
    let (writing, reads) = (Writing::new(session, Order::Random, 0), reads(session));
    let contents = take_contents(session);
    let found = std::sync::atomic::AtomicU64::new(0);
    let read = session.measured("", writing.threads, SOME, &|store, thread, recorder| {
        let (mut reader, mut key) = (store.reader()?, Vec::new());
        let mut random = Random::new(writing.seed, 200 + thread as u64);
        let mut hits = 0;
        for _ in share(reads, thread, writing.threads) {
            let number = random.below(writing.below);
            numbered_key(number, writing.key_bytes, &mut key);
            let expected = expected(contents.presence.as_ref(), number);
            let hit = look_up(&mut *reader, &contents.values, expected, (number, &key), recorder)?;
            hits += u64::from(hit);
        }
        found.fetch_add(hits, Ordering::Relaxed);
        Ok(())
    });
    session.contents = contents;
    let mut row = read?;
    row.extra.insert("found".to_owned(), part(found.into_inner(), reads));
    session.emit(row)
}

#[expect(clippy::cast_precision_loss, reason = "a part to be read by people")]
fn part(count: u64, of: u64) -> f64 {
    ratio(count as f64, of as f64)
}

pub(super) fn readmissing(session: &mut Session<'_>) -> Result<()> {
    session.store()?;
    session.settle()?;
    let (writing, reads) = (Writing::new(session, Order::Random, 0), reads(session));
    session.measure("", writing.threads, SOME, &|store, thread, recorder| {
        let (mut reader, mut key) = (store.reader()?, Vec::new());
        let mut random = Random::new(writing.seed, 300 + thread as u64);
        for _ in share(reads, thread, writing.threads) {
            let number = random.below(writing.below);
            missing_key(number, writing.key_bytes, &mut key);
            if recorder.time(1, || reader.get(&key, &mut |_| ()))? {
                return fault(format!("a key beside {number} is found and was never written"));
            }
        }
        Ok(())
    })
}

pub(super) fn multireadrandom(session: &mut Session<'_>) -> Result<()> {
    session.store()?;
    session.settle()?;
    let (writing, reads) = (Writing::new(session, Order::Random, 0), reads(session));
    let batch = session.arguments.batch_size.unwrap_or(MULTI_READ_KEYS).max(1);
    let contents = take_contents(session);
    let read = session.measure("", writing.threads, EACH, &|store, thread, recorder| {
        let mut reader = store.reader()?;
        let mut random = Random::new(writing.seed, 400 + thread as u64);
        let (mut numbers, mut keys) = (vec![0; batch], vec![Vec::new(); batch]);
        let mut found = vec![false; batch];
        let mut mine = share(reads, thread, writing.threads).peekable();
        while mine.peek().is_some() {
            let count = mine.by_ref().take(batch).count();
            for (number, key) in numbers.iter_mut().zip(&mut keys) {
                *number = random.below(writing.below);
                numbered_key(*number, writing.key_bytes, key);
            }
            let keys: Vec<&[u8]> = keys.iter().take(count).map(Vec::as_slice).collect();
            found.fill(false);
            let mut wrong = None;
            recorder.time(count as u64, || {
                reader.multi_get(
                    &keys,
                    &mut |place, value| match (numbers.get(place), found.get_mut(place)) {
                        (Some(number), Some(found)) if contents.values.check(*number, value) => *found = true,
                        _ => wrong = Some(place),
                    },
                )
            })?;
            if let Some(place) = wrong {
                return fault(format!("key {:?} has a value that is not its own", numbers.get(place)));
            }
            for (number, found) in numbers.iter().zip(&found).take(count) {
                if expected(contents.presence.as_ref(), *number).is_some_and(|expected| expected != *found) {
                    return fault(format!(
                        "key {number} is {}",
                        if *found { "found and must not be" } else { "not found" }
                    ));
                }
            }
        }
        Ok(())
    });
    session.contents = contents;
    read
}

/// Checks what a scan hands out: values that are their keys', in order.
struct Seen<'c> {
    contents: &'c Contents,
    direction: Direction,
    first: Option<u64>,
    last: Option<u64>,
    wrong: Option<String>,
}

impl<'c> Seen<'c> {
    fn new(contents: &'c Contents, direction: Direction) -> Self {
        Self { contents, direction, first: None, last: None, wrong: None }
    }

    fn see(&mut self, key: &[u8], value: &[u8]) {
        let Some((number, _)) = key.split_first_chunk::<8>() else {
            self.wrong = Some(format!("a key of {} bytes", key.len()));
            return;
        };
        let number = u64::from_be_bytes(*number);
        if !self.contents.values.check(number, value) {
            self.wrong = Some(format!("key {number} has a value that is not its own"));
        }
        let in_order = self.last.is_none_or(|last| match self.direction {
            Direction::Forward => last < number,
            Direction::Backward => last > number,
        });
        if !in_order {
            self.wrong = Some(format!("key {number} comes after {:?}", self.last));
        }
        self.first.get_or_insert(number);
        self.last = Some(number);
    }

    fn end(&mut self) -> Result<()> {
        self.wrong.take().map_or(Ok(()), fault)
    }
}

fn scan(session: &mut Session<'_>, direction: Direction) -> Result<()> {
    session.store()?;
    session.settle()?;
    let (threads, limit) = (session.threads(), session.arguments.reads.unwrap_or(u64::MAX));
    let contents = take_contents(session);
    let read = session.measure("", threads, EACH, &|store, _, recorder| {
        let (mut reader, mut seen) = (store.reader()?, Seen::new(&contents, direction));
        let what = Scan { limit, ..Scan::all(direction) };
        let count = recorder.time(0, || reader.scan(what, &mut |key, value| seen.see(key, value)))?;
        recorder.count(count);
        seen.end()?;
        match contents.presence.as_ref().map(Presence::count) {
            Some(there) if there.min(limit) != count => fault(format!("{count} keys of {there} are found")),
            _ => Ok(()),
        }
    });
    session.contents = contents;
    read
}

pub(super) fn readseq(session: &mut Session<'_>) -> Result<()> {
    scan(session, Direction::Forward)
}

pub(super) fn readreverse(session: &mut Session<'_>) -> Result<()> {
    scan(session, Direction::Backward)
}

pub(super) fn seekrandom(session: &mut Session<'_>) -> Result<()> {
    session.store()?;
    session.settle()?;
    let (writing, reads) = (Writing::new(session, Order::Random, 0), reads(session));
    // The entry sought is read too.
    let limit = session.arguments.seek_nexts.saturating_add(1);
    let contents = take_contents(session);
    let read = session.measure("", writing.threads, SOME, &|store, thread, recorder| {
        let (mut reader, mut key) = (store.reader()?, Vec::new());
        let mut random = Random::new(writing.seed, 500 + thread as u64);
        for _ in share(reads, thread, writing.threads) {
            let number = random.below(writing.below);
            numbered_key(number, writing.key_bytes, &mut key);
            let mut seen = Seen::new(&contents, Direction::Forward);
            let what = Scan::from(&key, limit);
            recorder.time(1, || reader.scan(what, &mut |key, value| seen.see(key, value)))?;
            seen.end()?;
            let first = seen.first;
            if first.is_some_and(|first| first < number)
                || (expected(contents.presence.as_ref(), number) == Some(true) && first != Some(number))
            {
                return fault(format!("sought {number}, found {first:?}"));
            }
        }
        Ok(())
    });
    session.contents = contents;
    read
}

/// Lookups and writes by the same threads: of `percent` in a hundred operations a lookup, of the others a write, or both of every one.
fn mixed(session: &mut Session<'_>, percent: Option<u64>) -> Result<()> {
    session.store()?;
    session.settle()?;
    let (writing, reads) = (Writing::new(session, Order::Random, 0), reads(session));
    let contents = take_contents(session);
    let one_thread = writing.threads == 1;
    let done = session.measure("", writing.threads, EACH, &|store, thread, recorder| {
        let (mut reader, mut key, mut value) = (store.reader()?, Vec::new(), Vec::new());
        let mut random = Random::new(writing.seed, 600 + thread as u64);
        let mut stale = false;
        for _ in share(reads, thread, writing.threads) {
            let number = random.below(writing.below);
            numbered_key(number, writing.key_bytes, &mut key);
            let (looks, writes) = match percent {
                Some(percent) => {
                    let looks = random.below(100) < percent;
                    (looks, !looks)
                }
                None => (true, true),
            };
            if looks {
                if stale || !one_thread {
                    reader.refresh()?;
                    stale = false;
                }
                // With several threads another may have written it just now.
                let expected = if one_thread { expected(contents.presence.as_ref(), number) } else { None };
                look_up(&mut *reader, &contents.values, expected, (number, &key), recorder)?;
            }
            if writes {
                contents.values.fill(number, contents.next_nonce(), &mut value);
                let counted = u64::from(!looks);
                recorder
                    .time(counted, || store.write(&[Operation::Put(&key, &value)], writing.durability))?;
                if let Some(presence) = &contents.presence {
                    presence.insert(number);
                }
                stale = true;
            }
        }
        Ok(())
    });
    session.contents = contents;
    done
}

pub(super) fn updaterandom(session: &mut Session<'_>) -> Result<()> {
    mixed(session, None)
}

pub(super) fn readrandomwriterandom(session: &mut Session<'_>) -> Result<()> {
    mixed(session, Some(session.arguments.read_percent))
}

pub(super) fn readwhilewriting(session: &mut Session<'_>) -> Result<()> {
    session.store()?;
    session.settle()?;
    let (writing, reads) = (Writing::new(session, Order::Random, 0), reads(session));
    let contents = take_contents(session);
    let (stop, written) = (AtomicBool::new(false), Mutex::new(Recorder::new(EACH)));
    let threads = writing.threads;
    let read = session.measured("", threads + 1, SOME, &|store, thread, recorder| {
        if thread == threads {
            let mut writes = Recorder::new(EACH);
            let mut random = Random::new(writing.seed, 700);
            let (mut key, mut value) = (Vec::new(), Vec::new());
            while !stop.load(Ordering::Relaxed) {
                let number = random.below(writing.below);
                numbered_key(number, writing.key_bytes, &mut key);
                contents.values.fill(number, contents.next_nonce(), &mut value);
                writes.time(1, || store.write(&[Operation::Put(&key, &value)], writing.durability))?;
                if let Some(presence) = &contents.presence {
                    presence.insert(number);
                }
            }
            if let Ok(mut written) = written.lock() {
                written.add(&writes);
            }
            return Ok(());
        }
        let ended = (|| {
            let (mut reader, mut key) = (store.reader()?, Vec::new());
            let mut random = Random::new(writing.seed, 800 + thread as u64);
            for _ in share(reads, thread, threads) {
                let number = random.below(writing.below);
                numbered_key(number, writing.key_bytes, &mut key);
                // What was there before must be found; what was not may have come meanwhile.
                let expected = expected(contents.presence.as_ref(), number).filter(|there| *there);
                reader.refresh()?;
                look_up(&mut *reader, &contents.values, expected, (number, &key), recorder)?;
            }
            Ok(())
        })();
        // The first reader that is done, or fails, ends the writing.
        stop.store(true, Ordering::Relaxed);
        ended
    });
    session.contents = contents;
    let (mut row, Ok(written)) = (read?, written.into_inner()) else {
        return fault("the writing thread panicked");
    };
    // The writer is not one of the readers that were asked for.
    row.threads = threads;
    let mut writes = row.clone();
    writes.row = "the writer".to_owned();
    writes.operations = written.operations();
    writes.operations_per_second = part_per_second(written.operations(), row.seconds);
    writes.cpu_microseconds_per_operation = 0.0;
    writes.reads_per_operation = 0.0;
    writes.latency = written.latency();
    session.emit(row)?;
    session.emit(writes)
}

#[expect(clippy::cast_precision_loss, reason = "a rate to be read by people")]
fn part_per_second(operations: u64, seconds: f64) -> f64 {
    ratio(operations as f64, seconds)
}

fn delete(session: &mut Session<'_>, order: Order) -> Result<()> {
    session.store()?;
    let writing = Writing::new(session, order, num(session));
    let contents = take_contents(session);
    let deleted = session.measure("", writing.threads, EACH, &|store, thread, recorder| {
        let mut random = Random::new(writing.seed, 900 + thread as u64);
        let mut keys = vec![Vec::new(); writing.batch];
        let mut mine = share(writing.count, thread, writing.threads).peekable();
        while mine.peek().is_some() {
            let mut filled = 0;
            for (key, index) in keys.iter_mut().zip(mine.by_ref().take(writing.batch)) {
                let number = if order == Order::Random { random.below(writing.below) } else { index };
                numbered_key(number, writing.key_bytes, key);
                if let Some(presence) = &contents.presence {
                    presence.remove(number);
                }
                filled += 1;
            }
            let operations: Vec<Operation<'_>> =
                keys.iter().take(filled).map(|key| Operation::Delete(key)).collect();
            recorder.time(filled as u64, || store.write(&operations, writing.durability))?;
        }
        Ok(())
    });
    session.contents = contents;
    deleted
}

pub(super) fn deleteseq(session: &mut Session<'_>) -> Result<()> {
    delete(session, Order::Sequential)
}

pub(super) fn deleterandom(session: &mut Session<'_>) -> Result<()> {
    delete(session, Order::Random)
}

/// Entries that are thought to be there: what a benchmark over all of them does so many operations of.
fn entries(session: &Session<'_>) -> u64 {
    session.contents.presence.as_ref().map_or_else(|| num(session), Presence::count)
}

pub(super) fn flush(session: &mut Session<'_>) -> Result<()> {
    let entries = entries(session);
    let row = session.measured_alone("", |session| {
        session.store()?.flush()?;
        Ok(entries)
    })?;
    session.emit(row)
}

pub(super) fn compact(session: &mut Session<'_>) -> Result<()> {
    let entries = entries(session);
    let row = session.measured_alone("", |session| {
        session.store()?.compact()?;
        Ok(entries)
    })?;
    session.emit(row)
}

pub(super) fn waitforcompaction(session: &mut Session<'_>) -> Result<()> {
    let entries = entries(session);
    let row = session.measured_alone("", |session| {
        session.store()?;
        session.settle()?;
        Ok(entries)
    })?;
    session.emit(row)
}
