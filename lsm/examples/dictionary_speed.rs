//! What a dictionary gains for your values, in space and time: `cargo run --release -p lsm --features zstd --example dictionary_speed [FILE]`.
//!
//! Each line of FILE is a value (without FILE: records as a program might write them, in JSON); their keys are hashes, so that what lies next to each other has nothing to do
//! with each other. The same goes into a database with LZ4, one with zstd, and one with zstd and a dictionary for each table; all is merged, then looked up at random, mostly not
//! in the cache.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a measurement that is read by a person")]
#![allow(clippy::cast_possible_truncation, reason = "sixteen bits of more")]

use std::time::Instant;

use lsm::{Batch, Compression, Db, Durability, KeyspaceOptions, Tuning};

const RECORDS: u64 = 2_000_000;
const LOOKUPS: u64 = 300_000;
/// A small one: most of what is looked up is not in the cache.
const MEMORY_BYTES: usize = 48 << 20;

fn mixed(number: u64) -> u64 {
    let mut state = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    state = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    state ^ state >> 29
}

fn record(number: u64) -> String {
    const NAMES: [&str; 8] = ["Ada", "Barbara", "Donald", "Edsger", "Frances", "Grace", "John", "Ken"];
    const CITIES: [&str; 6] = ["Amsterdam", "Berlin", "Cambridge", "Lisbon", "Oslo", "Zurich"];
    let part = |shift: u32, limit: u16| (mixed(number) >> shift & 0xffff) as u16 % limit;
    let one_of = |words: &[&'static str], shift| {
        let count = u16::try_from(words.len()).unwrap();
        words.get(usize::from(part(shift, count))).copied().unwrap_or_default()
    };
    format!(
        r#"{{"id":{},"name":"{}","city":"{}","email":"user{}@example.org","active":{},"created":"2024-{:02}-{:02}T{:02}:{:02}:00Z","score":{}}}"#,
        mixed(number) % 1_000_000_000,
        one_of(&NAMES, 3),
        one_of(&CITIES, 7),
        part(11, 50_000),
        part(13, 2) == 0,
        part(17, 12) + 1,
        part(19, 28) + 1,
        part(23, 24),
        part(29, 60),
        part(31, 1000)
    )
}

fn measure(
    what: &str,
    compression: Compression,
    dictionary_bytes: usize,
    value: &dyn Fn(u64) -> String,
    count: u64,
) {
    let directory = std::env::temp_dir().join(format!("lsm-dictionary-speed-{}", std::process::id()));
    let mut tuning = Tuning::for_memory(MEMORY_BYTES);
    (tuning.compression, tuning.dictionary_bytes) = (compression, dictionary_bytes);
    let db = Db::builder(&directory).memory_bytes(MEMORY_BYTES).tuning(tuning).open().unwrap();
    let values = db.keyspace("values", KeyspaceOptions::sorted()).unwrap();
    let key = |number: u64| mixed(number).to_be_bytes();
    let start = Instant::now();
    let mut batch = Batch::new();
    for number in 0..count {
        batch.put(&values, key(number), value(number));
        if batch.len() == 100 {
            db.commit(std::mem::take(&mut batch), Durability::Process).unwrap();
        }
    }
    db.commit(batch, Durability::Process).unwrap();
    db.compact().unwrap();
    let written = start.elapsed();
    let start = Instant::now();
    for number in 0..LOOKUPS {
        assert!(values.get(key(mixed(number) % count)).unwrap().is_some());
    }
    println!(
        "{what:<28} {:>8.1} MB {:>10.1} s written {:>8.1} µs a lookup",
        db.stats().table_bytes as f64 / 1e6,
        written.as_secs_f64(),
        start.elapsed().as_secs_f64() * 1e6 / LOOKUPS as f64
    );
    drop(values);
    db.close().unwrap();
    std::fs::remove_dir_all(&directory).unwrap();
}

fn main() {
    let text = std::env::args_os().nth(1).map(|file| std::fs::read_to_string(file).unwrap());
    let lines: Vec<&str> =
        text.iter().flat_map(|text| text.lines()).filter(|line| !line.is_empty()).collect();
    let count = if lines.is_empty() { RECORDS } else { lines.len() as u64 };
    let value = |number: u64| match lines.is_empty() {
        true => record(number),
        false => lines.get(usize::try_from(number).unwrap()).unwrap().to_string(),
    };
    let raw: u64 = (0..count).map(|number| value(number).len() as u64).sum();
    println!("{count} values of {} bytes, {:.1} MB", raw / count, raw as f64 / 1e6);
    measure("LZ4", Compression::Lz4, 0, &value, count);
    measure("zstd 1", Compression::Zstd(1), 0, &value, count);
    measure("zstd 1, dictionary of 16 KiB", Compression::Zstd(1), 16 << 10, &value, count);
}
