//! What a synced commit takes beside what the disk itself does: `cargo run --release -p lsm --example sync_speed -- [DIRECTORY]`, of the disk that is asked about.
//!
//! In one process and in turns, so that both meet the same disk: fifty commits of one small entry, fifty times a page of a file written again and synced,
//! and fifty times a hundred and sixty bytes, as a record of the log takes, written into a file of zeros and synced.

#![allow(clippy::print_stdout, reason = "a measurement that is read by a person")]

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use lsm::{Batch, Db, Durability, KeyspaceOptions};

const TURNS: u64 = 160;
const IN_A_TURN: u64 = 50;
const PAGE_BYTES: u64 = 4096;
const PAGE: [u8; 4096] = [1; 4096];
const PAGES: u64 = 512;
const RECORD_BYTES: u64 = 160;
const RECORD: [u8; 160] = [1; 160];

/// A file of zeros that are on the disk.
fn zeros(path: &Path) -> std::io::Result<File> {
    let file = OpenOptions::new().create(true).truncate(true).write(true).open(path)?;
    for page in 0..PAGES {
        file.write_all_at(&[0; PAGE.len()], page * PAGE_BYTES)?;
    }
    file.sync_all()?;
    Ok(file)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = match std::env::args_os().nth(1) {
        Some(path) => tempfile::tempdir_in(path)?,
        None => tempfile::tempdir()?,
    };
    let db = Db::open(directory.path().join("db"))?;
    let keyspace = db.keyspace("k", KeyspaceOptions::sorted())?;
    let (pages, records) =
        (zeros(&directory.path().join("pages"))?, zeros(&directory.path().join("records"))?);
    let mut times: [Vec<Duration>; 3] = Default::default();
    for number in 0..TURNS {
        let (first, last) = (number * IN_A_TURN, (number + 1) * IN_A_TURN);
        for (what, times) in times.iter_mut().enumerate() {
            for index in first..last {
                let start = Instant::now();
                match what {
                    0 => {
                        let mut batch = Batch::new();
                        batch.put(&keyspace, format!("{index:016}"), [7; 100]);
                        db.commit(batch, Durability::Synced)?;
                    }
                    1 => {
                        pages.write_all_at(&PAGE, index % PAGES * PAGE_BYTES)?;
                        pages.sync_data()?;
                    }
                    _ => {
                        records.write_all_at(&RECORD, index * RECORD_BYTES)?;
                        records.sync_data()?;
                    }
                }
                times.push(start.elapsed());
            }
        }
    }
    db.close()?;
    for (what, times) in ["a commit", "a page", "a record's bytes"].iter().zip(&mut times) {
        times.sort_unstable();
        let mean = times.iter().map(Duration::as_secs_f64).sum::<f64>() / (TURNS * IN_A_TURN) as f64;
        let part = |part: usize| times.get(times.len() * part / 1000).copied().unwrap_or_default();
        println!(
            "{what:16} {:5.0} a second; p50 {:.1?}, p99 {:.1?}, p99.9 {:.1?}",
            1.0 / mean,
            part(500),
            part(990),
            part(999)
        );
    }
    Ok(())
}
