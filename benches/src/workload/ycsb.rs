//! YCSB's core workloads (Cooper et al., SoCC 2010): records of 1,000 bytes under keys that are hashes, asked for by Zipf's distribution with the exponent
//! 0.99, spread over all records; the latest first in D. `--num` records, `--reads` operations.
//!
//! | | reads | updates | inserts | scans of 1 to 100 | reads with a write of the same |
//! | --- | --- | --- | --- | --- | --- |
//! | A | 50 | 50 | | | |
//! | B | 95 | 5 | | | |
//! | C | 100 | | | | |
//! | D | 95 | | 5 | | |
//! | E | | | 5 | 95 | |
//! | F | 50 | | | | 50 |

use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Result, fault};
use crate::generate::{Latest, Random, Scrambled, Values, user_key};
use crate::measure::Recorder;
use crate::store::{Operation, Reader, Scan, Store};
use crate::workload::Session;
use crate::workload::session::{EACH, share};

const RECORDS: u64 = 1_000_000;
const VALUE_BYTES: usize = 1000;
const KEY_BYTES: u64 = 24;
const SCAN_ENTRIES_MAX: u64 = 100;

/// Of a hundred operations, how many are what; the rest are reads.
#[derive(Clone, Copy, Default)]
struct Mix {
    updates: u64,
    inserts: u64,
    scans: u64,
    read_modify_writes: u64,
    latest: bool,
}

fn value_bytes(session: &Session<'_>) -> usize {
    session.arguments.value_size.unwrap_or(VALUE_BYTES)
}

pub(super) fn load(session: &mut Session<'_>) -> Result<()> {
    let (records, threads) = (session.num_or(RECORDS), session.threads());
    let data_bytes = records.saturating_mul(KEY_BYTES + value_bytes(session) as u64);
    let configuration = session.configuration(data_bytes);
    session.open_fresh(&configuration)?;
    let values = Values::new(session.arguments.seed, value_bytes(session));
    let durability = session.durability();
    session.measure("", threads, EACH, &|store, thread, recorder| {
        let (mut key, mut value) = (Vec::new(), Vec::new());
        for number in share(records, thread, threads) {
            user_key(number, &mut key);
            values.fill(number, 0, &mut value);
            recorder.time(1, || store.write(&[Operation::Put(&key, &value)], durability))?;
        }
        Ok(())
    })
}

/// What the threads of one workload share.
struct Shared<'m> {
    mix: &'m Mix,
    values: Values,
    /// Records that are there: inserts take the next number, and it counts once it is written.
    next: AtomicU64,
    there: AtomicU64,
    nonce: AtomicU64,
}

/// One thread of it.
struct Client<'c> {
    shared: &'c Shared<'c>,
    store: &'c dyn Store,
    reader: Box<dyn Reader + 'c>,
    durability: crate::store::Durability,
    random: Random,
    zipf: Scrambled,
    latest: Latest,
    key: Vec<u8>,
    value: Vec<u8>,
    /// Whether something was written since the reader's moment.
    stale: bool,
}

impl Client<'_> {
    fn draw(&mut self) -> u64 {
        if self.shared.mix.latest {
            let there = self.shared.there.load(Ordering::Acquire);
            self.latest.draw(there, &mut self.random)
        } else {
            self.zipf.draw(&mut self.random)
        }
    }

    fn refresh(&mut self) -> Result<()> {
        if std::mem::take(&mut self.stale) { self.reader.refresh() } else { Ok(()) }
    }

    fn read(&mut self, number: u64) -> Result<()> {
        user_key(number, &mut self.key);
        let mut right = true;
        let values = &self.shared.values;
        let found = self.reader.get(&self.key, &mut |value| right = values.check(number, value))?;
        if found && right {
            return Ok(());
        }
        fault(format!(
            "record {number} {}",
            if found { "has a value that is not its own" } else { "is not found" }
        ))
    }

    fn write(&mut self, number: u64) -> Result<()> {
        user_key(number, &mut self.key);
        let nonce = self.shared.nonce.fetch_add(1, Ordering::Relaxed);
        self.shared.values.fill(number, nonce, &mut self.value);
        self.stale = true;
        self.store.write(&[Operation::Put(&self.key, &self.value)], self.durability)
    }

    fn insert(&mut self) -> Result<()> {
        let number = self.shared.next.fetch_add(1, Ordering::Relaxed);
        self.write(number)?;
        // Readers may ask for it from now on; with several threads, only once those before it are written as well.
        while self
            .shared
            .there
            .compare_exchange(number, number + 1, Ordering::AcqRel, Ordering::Acquire)
            .is_err()
        {
            std::thread::yield_now();
        }
        Ok(())
    }

    fn scan(&mut self, number: u64) -> Result<()> {
        let limit = 1 + self.random.below(SCAN_ENTRIES_MAX);
        user_key(number, &mut self.key);
        let (mut first, mut last, mut in_order) = (None, Vec::new(), true);
        let value_bytes = self.shared.values.value_bytes();
        self.reader.scan(Scan::from(&self.key, limit), &mut |key, value| {
            in_order &= last.as_slice() < key && value.len() == value_bytes;
            last.clear();
            last.extend_from_slice(key);
            first.get_or_insert_with(|| key.to_vec());
        })?;
        if first.as_ref() == Some(&self.key) && in_order {
            return Ok(());
        }
        fault(format!("a scan from record {number} begins elsewhere or is out of order"))
    }

    fn operation(&mut self, recorder: &mut Recorder) -> Result<()> {
        let (mix, number) = (self.shared.mix, self.draw());
        // Of the moment before it is timed: a transaction is begun where one is needed, as a client would.
        let mut kind = self.random.below(100);
        let mut is = |part: u64| {
            let is = kind < part;
            kind = kind.saturating_sub(part);
            is
        };
        if is(mix.updates) {
            return recorder.time(1, || self.write(number));
        }
        if is(mix.inserts) {
            return recorder.time(1, || self.insert());
        }
        if is(mix.scans) {
            return recorder.time(1, || {
                self.refresh()?;
                self.scan(number)
            });
        }
        let writes = is(mix.read_modify_writes);
        recorder.time(1, || {
            self.refresh()?;
            self.read(number)?;
            if writes { self.write(number) } else { Ok(()) }
        })
    }
}

fn run(session: &mut Session<'_>, mix: Mix) -> Result<()> {
    let (records, threads) = (session.num_or(RECORDS), session.threads());
    let operations = session.arguments.reads.unwrap_or(records);
    let (seed, durability) = (session.arguments.seed, session.durability());
    session.store()?;
    session.settle()?;
    let shared = Shared {
        mix: &mix,
        values: Values::new(seed, value_bytes(session)),
        next: AtomicU64::new(records),
        there: AtomicU64::new(records),
        nonce: AtomicU64::new(1),
    };
    let (zipf, latest) = (Scrambled::new(records), Latest::new(records));
    session.measure("", threads, EACH, &|store, thread, recorder| {
        let mut client = Client {
            shared: &shared,
            store,
            reader: store.reader()?,
            durability,
            random: Random::new(seed, 1000 + thread as u64),
            zipf: zipf.clone(),
            latest: latest.clone(),
            key: Vec::new(),
            value: Vec::new(),
            stale: false,
        };
        for _ in share(operations, thread, threads) {
            // What another thread inserted is seen by a transaction begun after it only.
            client.stale |= mix.latest && threads > 1;
            client.operation(recorder)?;
        }
        Ok(())
    })
}

pub(super) fn a(session: &mut Session<'_>) -> Result<()> {
    run(session, Mix { updates: 50, ..Mix::default() })
}

pub(super) fn b(session: &mut Session<'_>) -> Result<()> {
    run(session, Mix { updates: 5, ..Mix::default() })
}

pub(super) fn c(session: &mut Session<'_>) -> Result<()> {
    run(session, Mix::default())
}

pub(super) fn d(session: &mut Session<'_>) -> Result<()> {
    run(session, Mix { inserts: 5, latest: true, ..Mix::default() })
}

pub(super) fn e(session: &mut Session<'_>) -> Result<()> {
    run(session, Mix { inserts: 5, scans: 95, ..Mix::default() })
}

pub(super) fn f(session: &mut Session<'_>) -> Result<()> {
    run(session, Mix { read_modify_writes: 50, ..Mix::default() })
}
