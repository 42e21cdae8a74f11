//! Opening: how long it takes and what it writes, after a clean close; and after kill -9 with all entries in the journal alone, which is the rate of replay.
//!
//! For the second a process of its own writes `--num` entries (at most a million by default) in batches into a fresh database whose write buffer is so large that nothing is
//! flushed, says so, and is killed: once into one of fixed widths, once into a sorted one, which to the peers is the same. What it acknowledged must be there afterwards. (redb acknowledges unsynced commits that do not survive the process: it must have
//! some beginning of them.)

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::arguments::FillArguments;
use crate::convert::{float, ratio};
use crate::engines;
use crate::error::{Result, fault};
use crate::generate::{Random, Values, chunk_key};
use crate::store::{Configuration, Durability, Operation, Store, Widths};
use crate::workload::Session;
use crate::workload::session::EACH;

const NUM: u64 = 20_000_000;
const KILLED_NUM_MAX: u64 = 1_000_000;
const BATCH: u64 = 1000;
const WIDTHS: Widths = Widths { key: 32, value: 24 };
const CLEAN_OPENINGS: usize = 5;
const CHECKS: u64 = 1000;

/// Of an entry in a memtable, at most: so large must the write buffer be that nothing is flushed.
const MEMTABLE_ENTRY_BYTES: u64 = 400;

/// Writes a batch of entries.
fn write_batch(store: &dyn Store, values: &Values, seed: u64, numbers: std::ops::Range<u64>) -> Result<()> {
    let entries: Vec<([u8; 32], Vec<u8>)> = numbers
        .map(|number| {
            let mut value = Vec::new();
            values.fill(number, 0, &mut value);
            (chunk_key(seed, number), value)
        })
        .collect();
    let operations: Vec<Operation<'_>> =
        entries.iter().map(|(key, value)| Operation::Put(key, value)).collect();
    store.write(&operations, Durability::System)
}

fn batches(num: u64) -> impl Iterator<Item = std::ops::Range<u64>> {
    (0..num.div_ceil(BATCH)).map(move |batch| batch * BATCH..((batch + 1) * BATCH).min(num))
}

/// Checks some entries, the last one among them.
fn check(store: &dyn Store, values: &Values, seed: u64, num: u64) -> Result<()> {
    let (mut reader, mut random) = (store.reader()?, Random::new(seed, 4000));
    for check in 0..CHECKS.min(num) {
        let number = if check == 0 { num - 1 } else { random.below(num) };
        let mut right = false;
        reader.get(&chunk_key(seed, number), &mut |value| right = values.check(number, value))?;
        if !right {
            return fault(format!(
                "entry {number} of {num} is not there after opening, or has another's value"
            ));
        }
    }
    Ok(())
}

pub(super) fn run(session: &mut Session<'_>) -> Result<()> {
    clean(session)?;
    killed(session, false, "open after kill -9, entries replayed")?;
    killed(session, true, "open after kill -9, entries replayed, sorted")
}

fn clean(session: &mut Session<'_>) -> Result<()> {
    let (num, seed) = (session.num_or(NUM), session.arguments.seed);
    let values = Values::new(seed, WIDTHS.value);
    let configuration = session.fixed_configuration(num, WIDTHS);
    session.open_fresh(&configuration)?;
    session.measure("load", 1, EACH, &|store, _, recorder| {
        for numbers in batches(num) {
            recorder.time(numbers.end - numbers.start, || write_batch(store, &values, seed, numbers))?;
        }
        Ok(())
    })?;
    session.settle()?;
    let row = session.measured_alone("clean close", |session| {
        session.close()?;
        Ok(1)
    })?;
    session.emit(row)?;
    for _ in 0..CLEAN_OPENINGS {
        let row = session.measured_alone("open after a clean close", |session| {
            session.open(&configuration)?;
            Ok(1)
        })?;
        session.emit(row)?;
        check(session.store()?, &values, seed, num)?;
        session.close()?;
    }
    Ok(())
}

fn killed(session: &mut Session<'_>, sorted: bool, name: &str) -> Result<()> {
    let (num, seed) = (session.num_or(NUM).min(KILLED_NUM_MAX), session.arguments.seed);
    let values = Values::new(seed, WIDTHS.value);
    session.remove_database()?;
    let write_buffer = num.saturating_mul(MEMTABLE_ENTRY_BYTES).max(64 << 20);
    let memory = session.arguments.memory.max(write_buffer.saturating_mul(4));
    let mut child = Command::new(std::env::current_exe()?)
        .arg("fill-until-killed")
        .args(["--engine", session.engine().name, "--seed", &seed.to_string(), "--num", &num.to_string()])
        .args(["--memory", &memory.to_string(), "--write_buffer", &write_buffer.to_string()])
        .args(sorted.then_some("--sorted"))
        .arg("--db")
        .arg(session.database())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    if let Some(out) = child.stdout.take() {
        BufReader::new(out).read_line(&mut line)?;
    }
    child.kill()?;
    child.wait()?;
    if line.trim() != num.to_string() {
        return fault(format!("the process that was to write {num} entries says {line:?}"));
    }
    let configuration = killed_configuration(session.database().to_owned(), memory, write_buffer, sorted);
    let mut row = session.measured_alone(name, |session| {
        session.open(&configuration)?;
        Ok(num)
    })?;
    row.extra.insert("MB/s read".to_owned(), ratio(float(row.read_bytes) / 1e6, row.seconds));
    session.emit(row)?;
    // What redb acknowledges unsynced it may lose; the others must have it all.
    if session.engine().name != "redb" {
        check(session.store()?, &values, seed, num)?;
    }
    session.close()
}

fn killed_configuration(
    path: std::path::PathBuf,
    memory_bytes: u64,
    write_buffer_bytes: u64,
    sorted: bool,
) -> Configuration {
    Configuration {
        path,
        memory_bytes,
        write_buffer_bytes: Some(write_buffer_bytes),
        durability: Durability::System,
        fixed: (!sorted).then_some(WIDTHS),
        size_bytes_max: 16 << 30,
    }
}

/// The process that is killed: writes, says how much, waits for its end.
pub(crate) fn fill_until_killed(arguments: &FillArguments) -> Result<()> {
    let configuration = killed_configuration(
        arguments.db.clone(),
        arguments.memory,
        arguments.write_buffer,
        arguments.sorted,
    );
    let store = engines::open(engines::find(&arguments.engine)?.name, &configuration)?;
    let values = Values::new(arguments.seed, WIDTHS.value);
    for numbers in batches(arguments.num) {
        write_batch(&*store, &values, arguments.seed, numbers)?;
    }
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", arguments.num)?;
    out.flush()?;
    // Whoever started it kills it at once; nobody may find it here for ever.
    std::thread::sleep(Duration::from_secs(60));
    fault("nobody killed this process")
}
