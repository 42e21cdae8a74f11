//! Lookups of single keys and of batches.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::convert::{float, ratio};
use crate::error::{Result, fault};
use crate::generate::{Random, Values, missing_key, numbered_key};
use crate::measure::Recorder;
use crate::store::Reader;
use crate::workload::Session;
use crate::workload::db_bench::{Order, Writing, expected, reads, take_contents};
use crate::workload::session::{EACH, SOME, share};

const MULTI_READ_KEYS: usize = 32;

/// Looks a key up, timed, and checks what comes.
pub(crate) fn look_up(
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

pub(crate) fn readrandom(session: &mut Session<'_>) -> Result<()> {
    session.store()?;
    session.settle()?;
    let (writing, reads) = (Writing::new(session, Order::Random, 0), reads(session));
    let contents = take_contents(session);
    let found = AtomicU64::new(0);
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
    row.extra.insert("found".to_owned(), ratio(float(found.into_inner()), float(reads)));
    session.emit(row)
}

pub(crate) fn readmissing(session: &mut Session<'_>) -> Result<()> {
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

pub(crate) fn multireadrandom(session: &mut Session<'_>) -> Result<()> {
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
