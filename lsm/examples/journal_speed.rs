//! How fast the journal alone is written and read on this machine: `cargo run --release -p lsm --example journal_speed`.
//!
//! Payloads of 100 bytes and of 1,000; what is read lies in the system's cache. Reading is what opening does first: every record is found, verified and visited.

#![allow(clippy::print_stdout, reason = "a measurement that is read by a person")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use lsm::fs::OsFs;
use lsm::journal::{Durability, JournalOptions, Payload, RecoveryMode, TypedJournal};

const BYTES: u32 = 500_000_000;

struct Bytes(Vec<u8>);

impl Payload for Bytes {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0);
    }

    fn decode(bytes: &[u8]) -> lsm::Result<Self> {
        Ok(Self(bytes.to_vec()))
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for size in [100, 1000] {
        let count = BYTES / size;
        let directory = tempfile::tempdir()?;
        let open = |visit: &mut dyn FnMut(&Bytes)| {
            TypedJournal::<Bytes>::open(
                Arc::new(OsFs),
                directory.path(),
                JournalOptions::default(),
                RecoveryMode::Tail,
                |_, payload| {
                    visit(&payload);
                    Ok(())
                },
            )
        };
        let (journal, _) = open(&mut |_| ())?;
        let payload = Bytes((0..size).map(|place| (place % 251).to_le_bytes()[0]).collect());
        let report = |what: &str, start: Instant| {
            let seconds = start.elapsed().as_secs_f64();
            println!(
                "{what} {count} records of {size} bytes: {:.0} MB/s, {:.2} million records a second",
                f64::from(BYTES) / seconds / 1e6,
                f64::from(count) / seconds / 1e6
            );
        };
        let start = Instant::now();
        for _ in 0..count {
            journal.append(&payload, Durability::Process)?;
        }
        report("wrote", start);
        journal.close()?;
        let mut visited = 0;
        let start = Instant::now();
        open(&mut |payload| visited += u32::from(black_box(payload).0.len() == payload.0.len()))?
            .0
            .close()?;
        report("read ", start);
        assert_eq!(visited, count, "all of them");
    }
    Ok(())
}
