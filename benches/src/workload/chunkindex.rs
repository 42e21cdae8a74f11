//! The index of a backup's chunks: 32-byte keys as a cryptographic hash gives them, 24-byte values that say where the chunk lies.
//!
//! 1. *load*: batches of 1,000 (`--batch_size`), each looked up before it is written. An operation is an entry: a lookup and a write. With `--bulk`, the
//!    engine's bulk mode instead, without lookups.
//! 2. *lookups*: absent keys, present keys at random, present keys in the order in which they were written (as the second backup of the same files asks for them);
//!    one by one and in batches; by one thread and by two.
//! 3. *delete*: 30 % of them, in batches.
//! 4. *compact*, and the lookups once more (*merged*).
//!
//! `--num` is the entries (20 million), `--reads` the lookups of each kind (a million). With `--memory 192MiB --num 50000000` the index is several times
//! larger than the memory; the column of reads says how many system calls a lookup takes. (Of LMDB that is nothing: its reads are page faults.)

use crate::error::{Result, fault};
use crate::generate::{Random, Values, chunk_key};
use crate::measure::Recorder;
use crate::store::{Durability, Operation, Reader, Store, Widths};
use crate::workload::Session;
use crate::workload::session::{EACH, SOME, share};

const NUM: u64 = 20_000_000;
const READS_MAX: u64 = 1_000_000;
const BATCH: usize = 1000;
const WIDTHS: Widths = Widths { key: 32, value: 24 };

/// Of ten entries, so many are deleted.
const DELETED_OF_TEN: u64 = 3;

/// Numbers from here on are never written.
const ABSENT: u64 = 1 << 40;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Absent,
    Present,
    InOrder,
}

struct Index {
    num: u64,
    reads: u64,
    batch: usize,
    seed: u64,
    values: Values,
    durability: Durability,
    /// Whether the deletions have been made.
    deleted: bool,
}

/// Whether this entry is one of those to be deleted.
fn is_deleted(number: u64) -> bool {
    number.wrapping_mul(7) % 10 < DELETED_OF_TEN
}

impl Index {
    fn key(&self, number: u64) -> [u8; WIDTHS.key] {
        chunk_key(self.seed, number)
    }

    /// An entry that is there, at or after this number, around the end.
    fn kept(&self, mut number: u64) -> u64 {
        for _ in 0..10 {
            if number >= self.num {
                number = 0;
            }
            if !(self.deleted && is_deleted(number)) {
                break;
            }
            number += 1;
        }
        number
    }

    /// The next number to look up.
    fn next(&self, kind: Kind, last: u64, random: &mut Random) -> u64 {
        match kind {
            Kind::Absent => ABSENT + random.below(ABSENT),
            Kind::Present => self.kept(random.below(self.num)),
            Kind::InOrder => self.kept(last.wrapping_add(1)),
        }
    }

    fn load(&self, store: &dyn Store, recorder: &mut Recorder) -> Result<()> {
        let mut reader = store.reader()?;
        let mut entries = vec![([0; WIDTHS.key], Vec::new()); self.batch];
        let mut found = Vec::new();
        let mut numbers = (0..self.num).peekable();
        while numbers.peek().is_some() {
            let mut filled = 0;
            for ((key, value), number) in entries.iter_mut().zip(numbers.by_ref().take(self.batch)) {
                *key = self.key(number);
                self.values.fill(number, number, value);
                filled += 1;
            }
            let keys: Vec<&[u8]> = entries.iter().take(filled).map(|(key, _)| key.as_slice()).collect();
            let operations: Vec<Operation<'_>> =
                entries.iter().take(filled).map(|(key, value)| Operation::Put(key, value)).collect();
            recorder.time(filled as u64, || {
                reader.refresh()?;
                reader.multi_contains(&keys, &mut found)?;
                store.write(&operations, self.durability)
            })?;
            if found.len() != filled || found.contains(&true) {
                return fault("a chunk is found before it is written");
            }
        }
        Ok(())
    }

    fn delete(&self, store: &dyn Store, recorder: &mut Recorder) -> Result<()> {
        let mut numbers = (0..self.num).filter(|number| is_deleted(*number)).peekable();
        while numbers.peek().is_some() {
            let keys: Vec<[u8; WIDTHS.key]> =
                numbers.by_ref().take(self.batch).map(|number| self.key(number)).collect();
            let operations: Vec<Operation<'_>> = keys.iter().map(|key| Operation::Delete(key)).collect();
            recorder.time(keys.len() as u64, || store.write(&operations, self.durability))?;
        }
        Ok(())
    }

    /// One thread's lookups, one by one.
    fn single(
        &self,
        kind: Kind,
        reader: &mut dyn Reader,
        part: std::ops::Range<u64>,
        stream: u64,
        recorder: &mut Recorder,
    ) -> Result<()> {
        let mut random = Random::new(self.seed, stream);
        let mut number = random.below(self.num);
        for _ in part {
            number = self.next(kind, number, &mut random);
            let key = self.key(number);
            let mut right = true;
            let found = recorder.time(1, || match kind {
                Kind::Absent => reader.contains(&key),
                _ => reader.get(&key, &mut |value| right = self.values.check(number, value)),
            })?;
            if found != (kind != Kind::Absent) || !right {
                return self.wrong(number, found);
            }
        }
        Ok(())
    }

    fn wrong(&self, number: u64, found: bool) -> Result<()> {
        fault(match (number >= ABSENT, found) {
            (true, _) => "a chunk is found that was never written".to_owned(),
            (false, true) => format!("chunk {number} has a value that is not its own"),
            (false, false) => format!("chunk {number} of {} is not found", self.num),
        })
    }

    /// One thread's lookups, in batches.
    fn batched(
        &self,
        kind: Kind,
        reader: &mut dyn Reader,
        part: std::ops::Range<u64>,
        stream: u64,
        recorder: &mut Recorder,
    ) -> Result<()> {
        let mut random = Random::new(self.seed, stream);
        let mut number = random.below(self.num);
        let (mut numbers, mut keys) = (vec![0; self.batch], vec![[0; WIDTHS.key]; self.batch]);
        let (mut found, mut part) = (Vec::new(), part.peekable());
        while part.peek().is_some() {
            let count = part.by_ref().take(self.batch).count();
            for (place, key) in numbers.iter_mut().zip(&mut keys) {
                number = self.next(kind, number, &mut random);
                *place = number;
                *key = self.key(number);
            }
            let keys: Vec<&[u8]> = keys.iter().take(count).map(<[u8; WIDTHS.key]>::as_slice).collect();
            if kind == Kind::Absent {
                recorder.time(count as u64, || reader.multi_contains(&keys, &mut found))?;
                if found.len() != count || found.contains(&true) {
                    return self.wrong(ABSENT, true);
                }
                continue;
            }
            let mut right = 0;
            recorder.time(count as u64, || {
                reader.multi_get(&keys, &mut |place, value| {
                    let number = numbers.get(place).copied().unwrap_or(ABSENT);
                    right += usize::from(self.values.check(number, value));
                })
            })?;
            if right != count {
                return self.wrong(number, false);
            }
        }
        Ok(())
    }

    /// All lookups.
    fn lookups(&self, session: &mut Session<'_>, suffix: &str) -> Result<()> {
        let kinds =
            [("absent", Kind::Absent), ("present", Kind::Present), ("present in order", Kind::InOrder)];
        for threads in [1, 2] {
            for (name, kind) in kinds {
                let stream = |thread: usize| 2000 + thread as u64;
                session.measure(&format!("{name}{suffix}"), threads, SOME, &|store, thread, recorder| {
                    let part = share(self.reads, thread, threads);
                    self.single(kind, &mut *store.reader()?, part, stream(thread), recorder)
                })?;
                session.measure(
                    &format!("{name} batched{suffix}"),
                    threads,
                    EACH,
                    &|store, thread, recorder| {
                        let part = share(self.reads, thread, threads);
                        self.batched(kind, &mut *store.reader()?, part, stream(thread), recorder)
                    },
                )?;
            }
        }
        Ok(())
    }

    /// What was deleted is gone; not measured.
    fn check_deleted(&self, store: &dyn Store) -> Result<()> {
        let mut reader = store.reader()?;
        let mut random = Random::new(self.seed, 2100);
        for _ in 0..self.reads.min(10_000) {
            let number = random.below(self.num);
            if reader.contains(&self.key(number))? == is_deleted(number) {
                return fault(format!(
                    "chunk {number} is {}",
                    if is_deleted(number) { "deleted and found" } else { "not found" }
                ));
            }
        }
        Ok(())
    }
}

pub(super) fn run(session: &mut Session<'_>) -> Result<()> {
    let num = session.num_or(NUM);
    let mut index = Index {
        num,
        reads: session.arguments.reads.unwrap_or(num.min(READS_MAX)),
        batch: session.arguments.batch_size.unwrap_or(BATCH).max(1),
        seed: session.arguments.seed,
        values: Values::new(session.arguments.seed, WIDTHS.value),
        durability: session.durability(),
        deleted: false,
    };
    let configuration = session.fixed_configuration(num, WIDTHS);
    session.open_fresh(&configuration)?;
    if session.arguments.bulk {
        let row = session.measured_alone("bulk load", |session| {
            let mut numbers = 0..num;
            session.store()?.bulk_load(&mut |key, value| {
                let Some(number) = numbers.next() else { return false };
                key.clear();
                key.extend_from_slice(&index.key(number));
                index.values.fill(number, number, value);
                true
            })?;
            Ok(num)
        })?;
        session.emit(row)?;
    } else {
        session.measure("load", 1, EACH, &|store, _, recorder| index.load(store, recorder))?;
    }
    settle(session, "settle")?;
    index.lookups(session, "")?;
    session.measure("delete 30 %", 1, EACH, &|store, _, recorder| index.delete(store, recorder))?;
    index.deleted = true;
    let row = session.measured_alone("compact", |session| {
        session.store()?.compact()?;
        Ok(num)
    })?;
    session.emit(row)?;
    session.settle()?;
    index.check_deleted(session.store()?)?;
    index.lookups(session, ", merged")
}

/// Waits for what the engine does in the background; a row of its own, since what it writes belongs to the load.
pub(super) fn settle(session: &mut Session<'_>, name: &str) -> Result<()> {
    let row = session.measured_alone(name, |session| {
        session.settle()?;
        Ok(0)
    })?;
    session.emit(row)
}
