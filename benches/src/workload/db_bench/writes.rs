//! Filling, writing again, deleting; and what brings the tables in order.

use crate::error::Result;
use crate::generate::{Presence, Random, Shuffle, numbered_key};
use crate::measure::Recorder;
use crate::store::{Durability, Operation, Store};
use crate::workload::Session;
use crate::workload::db_bench::{Order, Writing, fresh, num, take_contents};
use crate::workload::session::{Contents, EACH, share};

/// Of the slow benchmarks, one in so many entries, as in db_bench; at least [`FEW`] where there are as many.
const SLOW_PART: u64 = 1000;
const FEW: u64 = 100;

const LARGE_VALUE_BYTES: usize = 100_000;

fn few(session: &Session<'_>) -> u64 {
    let num = num(session);
    (num / SLOW_PART).max(num.min(FEW))
}

impl Writing {
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

fn fill(session: &mut Session<'_>, order: Order) -> Result<()> {
    let durability = session.durability();
    fresh(session, session.arguments.value_size.unwrap_or(100), durability)?;
    write(session, order, num(session), durability)
}

pub(crate) fn fillseq(session: &mut Session<'_>) -> Result<()> {
    fill(session, Order::Sequential)
}

pub(crate) fn fillrandom(session: &mut Session<'_>) -> Result<()> {
    fill(session, Order::Random)
}

pub(crate) fn filluniquerandom(session: &mut Session<'_>) -> Result<()> {
    fill(session, Order::Unique)
}

pub(crate) fn fillsync(session: &mut Session<'_>) -> Result<()> {
    fresh(session, session.arguments.value_size.unwrap_or(100), Durability::Synced)?;
    write(session, Order::Random, few(session), Durability::Synced)
}

pub(crate) fn fill100k(session: &mut Session<'_>) -> Result<()> {
    let durability = session.durability();
    fresh(session, LARGE_VALUE_BYTES, durability)?;
    write(session, Order::Random, few(session), durability)
}

pub(crate) fn overwrite(session: &mut Session<'_>) -> Result<()> {
    let durability = session.durability();
    write(session, Order::Random, num(session), durability)
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

pub(crate) fn deleteseq(session: &mut Session<'_>) -> Result<()> {
    delete(session, Order::Sequential)
}

pub(crate) fn deleterandom(session: &mut Session<'_>) -> Result<()> {
    delete(session, Order::Random)
}

/// Entries that are thought to be there: what a benchmark over all of them does so many operations of.
fn entries(session: &Session<'_>) -> u64 {
    session.contents.presence.as_ref().map_or_else(|| num(session), Presence::count)
}

pub(crate) fn flush(session: &mut Session<'_>) -> Result<()> {
    let entries = entries(session);
    let row = session.measured_alone("", |session| {
        session.store()?.flush()?;
        Ok(entries)
    })?;
    session.emit(row)
}

pub(crate) fn compact(session: &mut Session<'_>) -> Result<()> {
    let entries = entries(session);
    let row = session.measured_alone("", |session| {
        session.store()?.compact()?;
        Ok(entries)
    })?;
    session.emit(row)
}

pub(crate) fn waitforcompaction(session: &mut Session<'_>) -> Result<()> {
    let row = session.measured_alone("", |session| {
        session.store()?;
        session.settle()?;
        Ok(0)
    })?;
    session.emit(row)
}
