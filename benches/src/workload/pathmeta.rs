//! What a backup keeps of files: path-like keys of about 45 bytes with long common beginnings, values of 300 bytes, written in order.
//!
//! A sorted load in batches, scans of everything both ways, scans of one directory (50 entries), lookups at random; then every tenth directory is removed by its
//! prefix, and everything is scanned once more. With `--bulk`, the engine's bulk mode for sorted input loads instead. `--num` is the entries (5 million), `--reads` the directory scans and lookups (at most a million).

use crate::error::{Result, fault};
use crate::generate::{FILES_PER_DIRECTORY, Random, Values, directory_prefix, path_key};
use crate::measure::Recorder;
use crate::store::{Direction, Durability, Operation, Scan, Store};
use crate::workload::Session;
use crate::workload::chunkindex::settle;
use crate::workload::session::{EACH, SOME, share};

const NUM: u64 = 5_000_000;
const READS_MAX: u64 = 1_000_000;
const BATCH: usize = 1000;
const VALUE_BYTES: usize = 300;
const KEY_BYTES: u64 = 48;

/// One directory in so many is removed.
const REMOVED_PART: u64 = 10;

struct Tree {
    num: u64,
    reads: u64,
    batch: usize,
    seed: u64,
    threads: usize,
    values: Values,
    durability: Durability,
}

impl Tree {
    fn directories(&self) -> u64 {
        self.num.div_ceil(FILES_PER_DIRECTORY)
    }

    fn load(&self, store: &dyn Store, recorder: &mut Recorder) -> Result<()> {
        let mut entries = vec![(Vec::new(), Vec::new()); self.batch];
        let mut numbers = (0..self.num).peekable();
        while numbers.peek().is_some() {
            let mut filled = 0;
            for ((key, value), number) in entries.iter_mut().zip(numbers.by_ref().take(self.batch)) {
                path_key(number, key);
                self.values.fill(number, 0, value);
                filled += 1;
            }
            let operations: Vec<Operation<'_>> =
                entries.iter().take(filled).map(|(key, value)| Operation::Put(key, value)).collect();
            recorder.time(filled as u64, || store.write(&operations, self.durability))?;
        }
        Ok(())
    }

    /// A scan of everything: every entry that is there, in order, with its value.
    fn scan(
        &self,
        store: &dyn Store,
        direction: Direction,
        removed: bool,
        recorder: &mut Recorder,
    ) -> Result<()> {
        let is_there =
            |number: u64| !(removed && (number / FILES_PER_DIRECTORY).is_multiple_of(REMOVED_PART));
        let mut expected: Box<dyn Iterator<Item = u64>> = match direction {
            Direction::Forward => Box::new((0..self.num).filter(|number| is_there(*number))),
            Direction::Backward => Box::new((0..self.num).rev().filter(|number| is_there(*number))),
        };
        let (mut path, mut wrong, mut place) = (Vec::new(), None, 0_u64);
        let mut reader = store.reader()?;
        let count = recorder.time(0, || {
            reader.scan(Scan::all(direction), &mut |key, value| {
                let number = expected.next();
                // Each value says whose it is; the path is made for one in so many, which is enough to know that the keys are theirs.
                let right = number.is_some_and(|number| {
                    self.values.check(number, value)
                        && (!place.is_multiple_of(64) || {
                            path_key(number, &mut path);
                            path == key
                        })
                });
                if !right {
                    wrong.get_or_insert_with(|| key.escape_ascii().to_string());
                }
                place += 1;
            })
        })?;
        recorder.count(count);
        match (wrong, expected.next()) {
            (Some(key), _) => {
                fault(format!("{key} is not what comes next, or has a value that is not its own"))
            }
            (None, Some(number)) => fault(format!("the scan ends before entry {number}")),
            (None, None) => Ok(()),
        }
    }

    fn list_directories(&self, store: &dyn Store, thread: usize, recorder: &mut Recorder) -> Result<()> {
        let (mut reader, mut prefix) = (store.reader()?, Vec::new());
        let mut random = Random::new(self.seed, 3000 + thread as u64);
        for _ in share(self.reads.div_ceil(FILES_PER_DIRECTORY), thread, self.threads) {
            let directory = random.below(self.directories());
            directory_prefix(directory, &mut prefix);
            let (mut number, mut right) = (directory * FILES_PER_DIRECTORY, true);
            recorder.time(1, || {
                reader.scan(Scan::prefix(&prefix, FILES_PER_DIRECTORY), &mut |_, value| {
                    right &= self.values.check(number, value);
                    number += 1;
                })
            })?;
            if !right || number != ((directory + 1) * FILES_PER_DIRECTORY).min(self.num) {
                return fault(format!("directory {} is not whole", prefix.escape_ascii()));
            }
        }
        Ok(())
    }

    fn look_up(&self, store: &dyn Store, thread: usize, recorder: &mut Recorder) -> Result<()> {
        let (mut reader, mut path) = (store.reader()?, Vec::new());
        let mut random = Random::new(self.seed, 3100 + thread as u64);
        for _ in share(self.reads, thread, self.threads) {
            let number = random.below(self.num);
            path_key(number, &mut path);
            let mut right = true;
            let found = recorder
                .time(1, || reader.get(&path, &mut |value| right = self.values.check(number, value)))?;
            if !found || !right {
                return fault(format!(
                    "{} is not found or has a value that is not its own",
                    path.escape_ascii()
                ));
            }
        }
        Ok(())
    }

    fn remove_directories(&self, store: &dyn Store, recorder: &mut Recorder) -> Result<()> {
        let mut prefix = Vec::new();
        for directory in (0..self.directories()).filter(|directory| directory.is_multiple_of(REMOVED_PART)) {
            directory_prefix(directory, &mut prefix);
            recorder.time(1, || store.delete_prefix(&prefix))?;
        }
        Ok(())
    }
}

pub(super) fn run(session: &mut Session<'_>) -> Result<()> {
    let num = session.num_or(NUM);
    let tree = Tree {
        num,
        reads: session.arguments.reads.unwrap_or(num.min(READS_MAX)),
        batch: session.arguments.batch_size.unwrap_or(BATCH).max(1),
        seed: session.arguments.seed,
        threads: session.threads(),
        values: Values::new(session.arguments.seed, session.arguments.value_size.unwrap_or(VALUE_BYTES)),
        durability: session.durability(),
    };
    let entry_bytes = KEY_BYTES + tree.values.value_bytes() as u64;
    let configuration = session.configuration(num.saturating_mul(entry_bytes));
    session.open_fresh(&configuration)?;
    let (forward, backward) = (Direction::Forward, Direction::Backward);
    if session.arguments.bulk {
        let row = session.measured_alone("bulk load, sorted", |session| {
            let mut numbers = 0..num;
            session.store()?.load_sorted(&mut |key, value| {
                let Some(number) = numbers.next() else { return false };
                path_key(number, key);
                tree.values.fill(number, 0, value);
                true
            })?;
            Ok(num)
        })?;
        session.emit(row)?;
    } else {
        session.measure("sorted load", 1, EACH, &|store, _, recorder| tree.load(store, recorder))?;
    }
    settle(session, "settle")?;
    session
        .measure("scan forward", 1, EACH, &|store, _, recorder| tree.scan(store, forward, false, recorder))?;
    session.measure("scan backward", 1, EACH, &|store, _, recorder| {
        tree.scan(store, backward, false, recorder)
    })?;
    session.measure("prefix scans of 50", tree.threads, SOME, &|store, thread, recorder| {
        tree.list_directories(store, thread, recorder)
    })?;
    session.measure("random gets", tree.threads, SOME, &|store, thread, recorder| {
        tree.look_up(store, thread, recorder)
    })?;
    session
        .measure("prefix deletes", 1, EACH, &|store, _, recorder| tree.remove_directories(store, recorder))?;
    session.measure("scan after deletes", 1, EACH, &|store, _, recorder| {
        tree.scan(store, forward, true, recorder)
    })?;
    settle(session, "settle after deletes")?;
    session.measure("scan backward after deletes", 1, EACH, &|store, _, recorder| {
        tree.scan(store, backward, true, recorder)
    })
}
