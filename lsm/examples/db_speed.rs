//! How fast a whole database is on this machine: `cargo run --release -p lsm --example db_speed`.
//!
//! With the argument `replay` it shows how fast logs are replayed.
//!
//! Keys are paths, in the order of a walk; values have about 100 bytes. Times are of one thread, data in the cache.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a measurement that is read by a person")]

use std::path::Path;
use std::time::{Duration, Instant};

use lsm::{Batch, Db, Durability, KeyspaceOptions, Tuning};

const ENTRIES: u32 = 200_000;
const REPLAYED: u32 = 1_000_000;

fn key(number: u32) -> String {
    format!(
        "/home/user/project-{:03}/directory-{:03}/file-{:06}.txt",
        number / 5000,
        number / 100 % 50,
        number
    )
}

fn report(what: &str, count: u32, time: Duration) {
    println!(
        "{what:<42} {:>9.1} ms {:>9.0} ns each",
        time.as_secs_f64() * 1e3,
        time.as_secs_f64() * 1e9 / f64::from(count)
    );
}

/// Opens a copy of a database that was not closed, as a killed process leaves it: its log is replayed.
fn replay(what: &str, options: KeyspaceOptions, each: usize, make: impl Fn(u32) -> (Vec<u8>, Vec<u8>)) {
    let directory = std::env::temp_dir().join(format!("lsm-db-speed-replay-{}", std::process::id()));
    let copy = directory.with_extension("copy");
    let open = |path: &Path| {
        let memory_bytes = 2 << 30;
        let mut tuning = Tuning::for_memory(memory_bytes);
        tuning.write_buffer_bytes = 1 << 30;
        Db::builder(path).memory_bytes(memory_bytes).tuning(tuning).open().unwrap()
    };
    let db = open(&directory);
    let keyspace = db.keyspace("replayed", options).unwrap();
    let mut batch = Batch::new();
    for number in 0..REPLAYED {
        let (key, value) = make(number);
        batch.put(&keyspace, key, value);
        if batch.len() == each {
            db.commit(std::mem::take(&mut batch), Durability::System).unwrap();
        }
    }
    db.commit(batch, Durability::Synced).unwrap();
    std::fs::create_dir(&copy).unwrap();
    for entry in std::fs::read_dir(&directory).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), copy.join(entry.file_name())).unwrap();
    }
    drop(keyspace);
    db.close().unwrap();
    let start = Instant::now();
    let db = open(&copy);
    report(what, REPLAYED, start.elapsed());
    drop(db);
    std::fs::remove_dir_all(&directory).unwrap();
    std::fs::remove_dir_all(&copy).unwrap();
}

fn replays() {
    let random = |number: u32| number.wrapping_mul(2_654_435_761);
    let hash = |number: u32| {
        let mut key = vec![0; 32];
        let mut state = u64::from(number) + 1;
        for part in key.chunks_mut(8) {
            state = (state ^ state >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            part.copy_from_slice(&(state ^ state >> 32).to_be_bytes());
        }
        key
    };
    let value = vec![b'v'; 100];
    let sorted = KeyspaceOptions::sorted;
    let paths = |number| (key(number).into_bytes(), value.clone());
    replay("replay, paths in order, batches of 1,000", sorted(), 1000, paths);
    let numbers = |number| (format!("{:016}", random(number)).into_bytes(), value.clone());
    replay("replay, 16-byte keys at random, one by one", sorted(), 1, numbers);
    replay("replay, 16-byte keys at random, 1,000", sorted(), 1000, numbers);
    let rows = |number| (hash(number), vec![b'v'; 24]);
    replay("replay, rows of 32 + 24, batches of 1,000", KeyspaceOptions::fixed(32, 24).unwrap(), 1000, rows);
}

fn main() {
    if std::env::args().nth(1).as_deref() == Some("replay") {
        return replays();
    }
    let directory = std::env::temp_dir().join(format!("lsm-db-speed-{}", std::process::id()));
    let db = Db::open(&directory).unwrap();
    let paths = db.keyspace("paths", KeyspaceOptions::sorted()).unwrap();
    let value = [b'v'; 100];

    let start = Instant::now();
    let mut batch = Batch::new();
    for number in 0..ENTRIES {
        batch.put(&paths, key(number), value);
        if batch.len() == 1000 {
            db.commit(std::mem::take(&mut batch), Durability::System).unwrap();
        }
    }
    report("load, sorted, batches of 1,000", ENTRIES, start.elapsed());

    let scan = |what: &str| {
        let start = Instant::now();
        let bytes: usize =
            paths.iter().map(|item| item.map(|(key, value)| key.len() + value.len()).unwrap()).sum();
        report(what, ENTRIES, start.elapsed());
        assert!(bytes > 100 * ENTRIES as usize);
    };
    scan("scan forward, memtable");
    let start = Instant::now();
    db.flush().unwrap();
    report("flush", ENTRIES, start.elapsed());
    scan("scan forward, tables, first");
    scan("scan forward, tables");
    let start = Instant::now();
    assert_eq!(paths.iter().rev().count(), ENTRIES as usize);
    report("scan backward, tables", ENTRIES, start.elapsed());
    let start = Instant::now();
    db.compact().unwrap();
    report("compact", ENTRIES, start.elapsed());
    scan("scan forward, compacted");

    let random = |index: u32| index.wrapping_mul(2_654_435_761) % ENTRIES;
    let start = Instant::now();
    for index in 0..100_000 {
        assert!(paths.contains(key(random(index))).unwrap());
    }
    report("get, present, random", 100_000, start.elapsed());
    let start = Instant::now();
    for index in 0..100 {
        let keys: Vec<String> = (0..1000).map(|place| key(random(index * 1000 + place))).collect();
        assert!(paths.multi_get(&keys).unwrap().iter().all(Option::is_some));
    }
    report("multi_get of 1,000, present, random", 100_000, start.elapsed());
    let start = Instant::now();
    for index in 0..100 {
        let keys: Vec<String> = (0..1000).map(|place| key(random(index * 1000 + place)) + "x").collect();
        assert!(paths.multi_get(&keys).unwrap().iter().all(Option::is_none));
    }
    report("multi_get of 1,000, absent", 100_000, start.elapsed());
    let start = Instant::now();
    for index in 0..10_000 {
        let prefix = key(random(index));
        let (prefix, _) = prefix.rsplit_once("file-").unwrap();
        assert_eq!(paths.prefix(prefix).take(50).count(), 50);
    }
    report("prefix scan of 50", 10_000, start.elapsed());
    let start = Instant::now();
    for index in 0..100 {
        let mut batch = Batch::new();
        (0..1000).for_each(|place| batch.put(&paths, key(random(index * 1000 + place)), value));
        db.commit(batch, Durability::System).unwrap();
    }
    report("commit of 1,000 puts, random", 100_000, start.elapsed());
    let start = Instant::now();
    for index in 0..100 {
        paths.put(key(index), value).unwrap();
        db.sync().unwrap();
    }
    report("put and sync", 100, start.elapsed());
    drop(paths);
    let start = Instant::now();
    db.close().unwrap();
    report("close", 1, start.elapsed());
    let start = Instant::now();
    let db = Db::open(&directory).unwrap();
    report("open", 1, start.elapsed());
    drop(db);
    std::fs::remove_dir_all(&directory).unwrap();
}
