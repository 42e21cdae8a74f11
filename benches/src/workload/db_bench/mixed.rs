//! Lookups and writes at once.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::convert::{float, ratio};
use crate::error::{Result, fault};
use crate::generate::{Random, numbered_key};
use crate::measure::Recorder;
use crate::store::Operation;
use crate::workload::Session;
use crate::workload::db_bench::pace::Pace;
use crate::workload::db_bench::reads::look_up;
use crate::workload::db_bench::{Order, Writing, expected, reads, take_contents};
use crate::workload::session::{EACH, SOME, share};

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

pub(crate) fn updaterandom(session: &mut Session<'_>) -> Result<()> {
    mixed(session, None)
}

pub(crate) fn readrandomwriterandom(session: &mut Session<'_>) -> Result<()> {
    mixed(session, Some(session.arguments.read_percent))
}

pub(crate) fn readwhilewriting(session: &mut Session<'_>) -> Result<()> {
    session.store()?;
    session.settle()?;
    let (writing, reads) = (Writing::new(session, Order::Random, 0), reads(session));
    let contents = take_contents(session);
    let (stop, written) = (AtomicBool::new(false), Mutex::new(Recorder::new(EACH)));
    let threads = writing.threads;
    let (rate_limit, turns) = (session.arguments.write_rate_limit, session.arguments.own_max);
    let read = session.measured("", threads + 1, SOME, &|store, thread, recorder| {
        if thread == threads {
            let mut writes = Recorder::with_turns(EACH, turns);
            let mut random = Random::new(writing.seed, 700);
            let (mut key, mut value) = (Vec::new(), Vec::new());
            let mut pace = Pace::new(rate_limit);
            while !stop.load(Ordering::Relaxed) {
                let number = random.below(writing.below);
                numbered_key(number, writing.key_bytes, &mut key);
                contents.values.fill(number, contents.next_nonce(), &mut value);
                writes.time(1, || store.write(&[Operation::Put(&key, &value)], writing.durability))?;
                if let Some(presence) = &contents.presence {
                    presence.insert(number);
                }
                pace.wait(key.len() + value.len(), &stop);
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
    writes.operations_per_second = ratio(float(written.operations()), row.seconds);
    writes.cpu_microseconds_per_operation = 0.0;
    writes.reads_per_operation = 0.0;
    writes.latency = written.latency();
    session.emit(row)?;
    session.emit(writes)
}
