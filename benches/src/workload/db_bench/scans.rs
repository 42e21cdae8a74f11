//! Scans of everything and from somewhere.

use crate::error::{Result, fault};
use crate::generate::{Presence, Random, numbered_key};
use crate::store::{Direction, Scan};
use crate::workload::Session;
use crate::workload::db_bench::{Order, Writing, expected, reads, take_contents};
use crate::workload::session::{Contents, EACH, SOME, share};

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

pub(crate) fn readseq(session: &mut Session<'_>) -> Result<()> {
    scan(session, Direction::Forward)
}

pub(crate) fn readreverse(session: &mut Session<'_>) -> Result<()> {
    scan(session, Direction::Backward)
}

pub(crate) fn seekrandom(session: &mut Session<'_>) -> Result<()> {
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
