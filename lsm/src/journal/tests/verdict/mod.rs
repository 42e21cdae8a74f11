//! Logs as a database keeps them: named, cut, flushed, missing, swapped, damaged; one verdict for each.

mod damage;
mod ends;
mod readers;

use super::*;
use crate::checksum::{Identity, salted_crc32};
use crate::error::ErrorKind;
use crate::fs::{CrashPolicy, Fault, FaultCall, FaultEffect, FaultFs};

const DATABASE: Identity = Identity::from_bytes([8; 16]);

fn identity(number: u64) -> Identity {
    Identity::from_bytes([u8::try_from(number).unwrap(); 16])
}

/// Logs being made, as a database makes them.
struct Maker {
    mem: MemFs,
    next_sequence: u64,
    end: Option<LogEnd>,
    /// Where each batch stands: log, offset, end.
    places: Vec<(u64, u64, u64)>,
}

impl Maker {
    fn new() -> Self {
        let mem = MemFs::new();
        mem.create_dir_all(directory(), SITE).unwrap();
        Self { mem, next_sequence: 1, end: None, places: Vec::new() }
    }

    fn fs(&self) -> Arc<dyn FileSystem> {
        Arc::new(self.mem.clone())
    }

    fn create(&self, number: u64) -> Journal {
        let start = Start {
            number,
            identity: identity(number),
            database: DATABASE,
            previous: self.end,
            next_sequence: self.next_sequence,
        };
        Journal::create(&self.fs(), &log_path(number), start, JournalOptions::default()).unwrap()
    }

    fn append(&mut self, journal: &Journal, synced: bool) {
        let payload = payload(self.next_sequence);
        let offset = journal.position().offset();
        let batch =
            BatchRecord { first_sequence: self.next_sequence, op_count: 1, sync: synced, payload: &payload };
        let at = journal.append(batch).unwrap();
        if synced {
            journal.sync_through(at).unwrap()
        } else {
            journal.write_through(at).unwrap()
        }
        self.next_sequence += 1;
        self.places.push((journal.number(), offset, at.offset()));
    }

    fn end(&mut self, journal: &Journal) {
        self.end = Some(journal.end(self.next_sequence - 1).unwrap());
    }

    /// A log of synced batches, ended.
    fn log(&mut self, number: u64, batches: usize) {
        let journal = self.create(number);
        for _ in 0..batches {
            self.append(&journal, true);
        }
        self.end(&journal);
    }

    /// A log of synced batches, not ended; its last record says how far it is durable.
    fn open_log(&mut self, number: u64, batches: usize) {
        let journal = self.create(number);
        for _ in 0..batches {
            self.append(&journal, true);
        }
        journal.mark().unwrap();
    }

    /// Flips a byte in the payload of the batch with this sequence number.
    fn damage(&self, sequence: u64) {
        let (log, offset, _) = self.places[usize::try_from(sequence).unwrap() - 1];
        self.flip(log, usize::try_from(offset).unwrap() + RECORD_HEADER_BYTES);
    }

    fn flip(&self, log: u64, at: usize) {
        let mut bytes = contents(&self.mem, &log_path(log)).unwrap();
        bytes[at] ^= 0x10;
        replace(&self.mem, &log_path(log), &bytes);
    }
}

fn payload(sequence: u64) -> Vec<u8> {
    vec![u8::try_from(sequence).unwrap(); 100]
}

fn named(numbers: &[u64]) -> Vec<ExpectedLog> {
    let log = |number| ExpectedLog { number, identity: Some(identity(number)), cut: None };
    numbers.iter().map(|number| log(*number)).collect()
}

fn options(mode: RecoveryMode) -> RecoverOptions {
    RecoverOptions { database: DATABASE, flushed: Flushed::default(), mode, access: Access::Write }
}

fn run(
    fs: &Arc<dyn FileSystem>,
    logs: &[ExpectedLog],
    options: &RecoverOptions,
) -> Result<(JournalRecovery, Vec<u64>)> {
    let mut found = Vec::new();
    let recovery = recover(fs, directory(), logs, options, &mut |batch| {
        assert_eq!(batch.payload, payload(batch.first_sequence));
        found.push(batch.first_sequence);
        Ok(())
    })?;
    Ok((recovery, found))
}

fn refused(result: Result<(JournalRecovery, Vec<u64>)>, words: &[&str]) {
    let error = result.map(|(recovery, found)| format!("{recovery:?} {found:?}")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corruption, "{error}");
    assert!(error.path().is_some());
    for word in words {
        assert!(error.to_string().contains(word), "{word:?} is not in: {error}");
    }
}
