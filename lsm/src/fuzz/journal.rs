//! The journal: damaged logs are read back, and what comes out is compared with what may be lost.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a fuzz target reports by panicking"
)]

use std::path::Path;
use std::sync::Arc;

use super::Choices;
use crate::checksum::Identity;
use crate::error::{ErrorKind, Result};
use crate::filename::FileName;
use crate::fs::{FileSystem, MemFs, SyncSite};
use crate::journal::{
    Access, Cut, Durability, ExpectedLog, Flushed, JournalOptions, JournalRecovery, LOG_HEADER_BYTES,
    LogKind, RECORD_HEADER_BYTES, RecordHeader, RecordKind, RecoverOptions, RecoveryMode,
    START_PAYLOAD_BYTES, TypedJournal, Verdict, read_records, recover,
};
use crate::key::SequenceNumber;

const SITE: SyncSite = SyncSite::new("fuzz");
const MODES: [RecoveryMode; 4] =
    [RecoveryMode::Tail, RecoveryMode::Strict, RecoveryMode::PointInTime, RecoveryMode::Salvage];

fn directory() -> &'static Path {
    Path::new("/journal")
}

/// A file system that holds nothing but these logs, durably.
fn disk(logs: &[(u64, Vec<u8>)]) -> MemFs {
    let fs = MemFs::new();
    fs.create_dir_all(directory(), SITE).unwrap();
    for (number, bytes) in logs {
        let file = fs.create_new(&FileName::Log(*number).path(directory())).unwrap();
        file.write_all_at(bytes, 0).unwrap();
        file.sync_data(SITE).unwrap();
    }
    fs.sync_dir(directory(), SITE).unwrap();
    fs
}

fn contents(fs: &MemFs, path: &Path) -> Vec<u8> {
    let file = fs.open_read(path).unwrap();
    let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

type Batches = Vec<(SequenceNumber, Vec<u8>)>;

fn open(fs: &MemFs, mode: RecoveryMode) -> Result<(TypedJournal<Vec<u8>>, JournalRecovery, Batches)> {
    let mut found = Vec::new();
    let options = JournalOptions::default();
    let (journal, recovery) =
        TypedJournal::open(Arc::new(fs.clone()), directory(), options, mode, |sequence, payload| {
            found.push((sequence, payload));
            Ok(())
        })?;
    Ok((journal, recovery, found))
}

/// Any bytes as a log, and as a manifest: an error or a verdict, never a panic; what was recovered once is recovered again.
pub fn journal_read(data: &[u8]) {
    let fs = disk(&[(1, data.to_vec())]);
    let path = FileName::Log(1).path(directory());
    let file = fs.open_read(&path).unwrap();
    for kind in [LogKind::Journal, LogKind::Manifest] {
        if let Ok(report) = read_records(Arc::clone(&file), &path, kind, &mut |_| Ok(())) {
            assert!(report.end <= data.len() as u64);
        }
    }
    for mode in MODES {
        let fs = fs.snapshot();
        let Ok((journal, recovery, found)) = open(&fs, mode) else { continue };
        assert!(recovery.next_sequence > recovery.last_sequence);
        assert!(found.iter().all(|(sequence, _)| *sequence <= recovery.last_sequence));
        // A loss is recorded by the caller, with the cuts; a directory of logs alone has no place for that.
        if !recovery.is_lossy {
            again(&fs, journal, &recovery, found);
        }
    }
    // As the database does it: the log is known, and so is its identity.
    let identity = data.get(24..40).and_then(|bytes| bytes.try_into().ok()).map(Identity::from_bytes);
    for access in [Access::Write, Access::ReadOnly] {
        for cut in [None, Some(Cut { offset: data.len() as u64 / 2, last_sequence: 1 })] {
            let expected = [ExpectedLog { number: 1, identity, cut }];
            for mode in MODES {
                let options = RecoverOptions {
                    database: Identity::from_bytes([0; 16]),
                    flushed: Flushed { every: 1, any: 2 },
                    mode,
                    access,
                };
                let fs: Arc<dyn FileSystem> = Arc::new(fs.snapshot());
                let _ = recover(&fs, directory(), &expected, &options, &mut |_| Ok(()));
            }
        }
    }
}

/// Appends one more batch, closes, opens again: all of it is there.
fn again(fs: &MemFs, journal: TypedJournal<Vec<u8>>, recovery: &JournalRecovery, mut found: Batches) {
    if recovery.next_sequence >= crate::key::SEQUENCE_MAX {
        return;
    }
    let next = journal.append(&b"next".to_vec(), Durability::Synced).unwrap();
    assert_eq!(next, recovery.next_sequence);
    journal.close().unwrap();
    found.push((next, b"next".to_vec()));
    // What is damaged but lost nothing stays so, and is passed over again.
    let (_, _, after) = open(fs, RecoveryMode::Tail).expect("what was recovered can be recovered again");
    assert_eq!(after, found);
}

/// One record of a log as it was written.
struct Written {
    start: usize,
    end: usize,
    header: RecordHeader,
    payload: Vec<u8>,
}

/// A log as it was written.
struct Log {
    number: u64,
    bytes: Vec<u8>,
    records: Vec<Written>,
}

/// Writes logs, damages one of them, recovers in every mode, and compares with what the damage allows to be lost.
pub fn journal_mutate(data: &[u8]) {
    let mut choices = Choices(data);
    let logs = write(&mut choices);
    if logs.is_empty() {
        return;
    }
    let target = choices.below(logs.len());
    let mut bytes = logs[target].bytes.clone();
    damage(&mut bytes, &mut choices);
    let mut damaged: Vec<(u64, Vec<u8>)> = logs.iter().map(|log| (log.number, log.bytes.clone())).collect();
    damaged[target].1 = bytes;
    let fs = disk(&damaged);
    for mode in MODES {
        judge(&fs.snapshot(), &logs, target, &damaged[target].1, mode);
    }
}

/// A few logs, by the fuzzer's choices.
fn write(choices: &mut Choices<'_>) -> Vec<Log> {
    let fs = MemFs::new();
    let options = JournalOptions {
        zero_ahead_bytes_max: if choices.byte().is_multiple_of(2) { 0 } else { 4096 },
        pad_synced_bytes: if choices.byte().is_multiple_of(4) { 512 } else { 0 },
        ..JournalOptions::default()
    };
    let open = |fs: &MemFs| {
        let (journal, _) = TypedJournal::<Vec<u8>>::open(
            Arc::new(fs.clone()),
            directory(),
            options.clone(),
            RecoveryMode::Tail,
            |_, _| Ok(()),
        )
        .expect("what was written can be read");
        journal
    };
    let mut journal = open(&fs);
    let steps = 1 + choices.byte() % 24;
    for step in 0..steps {
        match choices.byte() % 16 {
            kind @ 0..=8 => {
                let length = usize::from(choices.word()) % if kind == 0 { 3000 } else { 60 };
                let durability =
                    [Durability::Process, Durability::System, Durability::Synced][usize::from(kind % 3)];
                journal.append(&vec![step + 1; length], durability).unwrap();
            }
            9 | 10 => journal.sync().unwrap(),
            11 | 12 => journal.mark().unwrap(),
            13 => journal.rotate().unwrap(),
            14 => {
                journal.close().unwrap();
                journal = open(&fs);
            }
            _ => {
                // The process is killed: what waits in its memory is gone, the log has no last record.
                drop(journal);
                journal = open(&fs);
            }
        }
    }
    if choices.byte().is_multiple_of(3) {
        journal.close().unwrap();
    } else {
        drop(journal);
    }
    let mut logs = Vec::new();
    for number in 1..=u64::from(steps) + 1 {
        let path = FileName::Log(number).path(directory());
        let Ok(file) = fs.open_read(&path) else { continue };
        let mut records = Vec::new();
        read_records(file, &path, LogKind::Journal, &mut |record| {
            records.push(Written {
                start: usize::try_from(record.offset).unwrap(),
                end: usize::try_from(record.end).unwrap(),
                header: record.header,
                payload: record.payload.to_vec(),
            });
            Ok(())
        })
        .expect("what was written can be read");
        logs.push(Log { number, bytes: contents(&fs, &path), records });
    }
    logs
}

/// Changes bytes, lengths, places.
fn damage(bytes: &mut Vec<u8>, choices: &mut Choices<'_>) {
    loop {
        let at = choices.below(bytes.len());
        let count = (1 + choices.below(700)).min(bytes.len() - at);
        match choices.byte() % 6 {
            0 if !bytes.is_empty() => bytes[at] ^= choices.byte().max(1),
            1 => bytes[at..at + count].fill(0),
            2 => {
                let garbage = choices.byte() | 1;
                bytes[at..at + count].fill(garbage);
            }
            3 => bytes.truncate(at),
            4 => {
                // A piece of the log in another place.
                let piece = bytes[at..at + count].to_vec();
                let to = choices.below(bytes.len() - count + 1);
                bytes[to..to + count].copy_from_slice(&piece);
            }
            _ => bytes.extend_from_slice(&vec![choices.byte(); count]),
        }
        if choices.is_empty() || !choices.byte().is_multiple_of(4) {
            break;
        }
    }
}

impl Written {
    fn is_whole_in(&self, bytes: &[u8], clean: &[u8]) -> bool {
        bytes.get(self.start..self.end) == clean.get(self.start..self.end)
    }

    fn has_header_in(&self, bytes: &[u8], clean: &[u8]) -> bool {
        let header = self.start..self.start + RECORD_HEADER_BYTES;
        bytes.get(header.clone()) == clean.get(header)
    }

    fn is_batch(&self) -> bool {
        self.header.kind == RecordKind::Batch
    }
}

/// What must come out.
#[derive(Debug, PartialEq)]
enum Outcome {
    /// All batches but those of the damaged log from this record on.
    CutAt(usize),
    /// Damage that lost a batch: refused, or, in salvage, all batches but the broken ones (and those behind the record,
    /// if there is one, where the tail is torn).
    Lost(Option<usize>),
    /// The file is no log any more, or its first record is none. If it still counts as one, nothing but a torn tail may be missing: the index
    /// of the first record that does not count then.
    NoLog(Option<usize>),
}

fn outcome(log: &Log, is_newest: bool, bytes: &[u8]) -> Outcome {
    let clean = &log.bytes;
    let first_end = LOG_HEADER_BYTES + RECORD_HEADER_BYTES + START_PAYLOAD_BYTES;
    if bytes.get(..first_end) != clean.get(..first_end) {
        return Outcome::NoLog(match records_left(log, is_newest, bytes, 1) {
            Outcome::CutAt(index) => Some(index),
            _ => None,
        });
    }
    records_left(log, is_newest, bytes, 0)
}

/// What must come of the records from the one with this index on; those before it hold nothing that could be lost.
fn records_left(log: &Log, is_newest: bool, bytes: &[u8], first: usize) -> Outcome {
    let clean = &log.bytes;
    let durable = log.records.iter().filter(|record| record.has_header_in(bytes, clean));
    let durable = durable.map(|record| record.header.durable_offset).max().unwrap_or(0);
    let mut lost = false;
    let mut index = first;
    while let Some(record) = log.records.get(index) {
        if record.is_whole_in(bytes, clean) {
            index += 1;
            continue;
        }
        if is_newest && record.start as u64 >= durable {
            return if lost { Outcome::Lost(Some(index)) } else { Outcome::CutAt(index) };
        }
        // The hole: up to the next record whose header is whole.
        loop {
            lost |= log.records[index].is_batch();
            index += 1;
            match log.records.get(index) {
                Some(next) if !next.has_header_in(bytes, clean) => {}
                _ => break,
            }
        }
    }
    if lost { Outcome::Lost(None) } else { Outcome::CutAt(log.records.len()) }
}

fn judge(fs: &MemFs, logs: &[Log], target: usize, bytes: &[u8], mode: RecoveryMode) {
    let is_newest = target + 1 == logs.len();
    let log = &logs[target];
    let outcome = outcome(log, is_newest, bytes);
    let batches_of = |log: &Log, keep: &dyn Fn(usize, &Written) -> bool| -> Batches {
        let records = log
            .records
            .iter()
            .enumerate()
            .filter(|(index, record)| record.is_batch() && keep(*index, record));
        records.map(|(_, record)| (record.header.first_sequence, record.payload.clone())).collect()
    };
    let with = |keep: &dyn Fn(usize, &Written) -> bool| -> Batches {
        let all = logs.iter().enumerate();
        all.flat_map(
            |(index, log)| {
                if index == target { batches_of(log, keep) } else { batches_of(log, &|_, _| true) }
            },
        )
        .collect()
    };
    let everything = with(&|_, _| true);
    let result = open(fs, mode);
    let found = match &result {
        Ok((_, _, found)) => found,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Corruption, "{error}");
            assert!(error.path().is_some(), "{error}");
            match (&outcome, mode) {
                (
                    Outcome::CutAt(index),
                    RecoveryMode::Tail | RecoveryMode::PointInTime | RecoveryMode::Salvage,
                ) => {
                    panic!("refused, though only a torn tail was cut at record {index}: {error}")
                }
                (Outcome::Lost(_), RecoveryMode::PointInTime | RecoveryMode::Salvage) => {
                    panic!("refused, though the mode allows a loss: {error}")
                }
                _ => return,
            }
        }
    };
    // Whatever the mode: nothing that was not written, everything in its order.
    assert!(found.iter().all(|batch| everything.contains(batch)), "a batch that nobody wrote");
    assert!(found.is_sorted_by_key(|(sequence, _)| *sequence), "batches out of order");
    let recovery = &result.as_ref().unwrap().1;
    match (&outcome, mode) {
        (Outcome::CutAt(index), _) => {
            assert_eq!(*found, with(&|at, _| at < *index), "{mode:?}: wrong batches");
            assert!(!recovery.is_lossy);
            if mode == RecoveryMode::Strict {
                assert_eq!(*found, everything, "Strict lets nothing pass");
            }
        }
        (Outcome::Lost(_), RecoveryMode::Tail | RecoveryMode::Strict) => {
            panic!("{mode:?}: damage to what was durable was not noticed")
        }
        (Outcome::Lost(_), RecoveryMode::PointInTime) => {
            assert!(everything.starts_with(found), "a prefix of what was written");
            assert!(
                recovery.is_lossy
                    && recovery.logs.iter().any(|log| matches!(log.verdict, Verdict::Stopped { .. }))
            );
        }
        (Outcome::Lost(torn), _) => {
            let whole = with(&|at, record| {
                record.is_whole_in(bytes, &log.bytes) && torn.is_none_or(|torn| at < torn)
            });
            assert_eq!(*found, whole, "salvage keeps every whole record");
            assert!(recovery.is_lossy);
        }
        (Outcome::NoLog(cut), RecoveryMode::Tail | RecoveryMode::Strict) => {
            // Nothing may be missing that another log's first record tells of; what was the newest log may look as if it had
            // never been begun, if hardly anything is left of it.
            let first_end = LOG_HEADER_BYTES + RECORD_HEADER_BYTES + START_PAYLOAD_BYTES;
            let is_cut = mode == RecoveryMode::Tail
                && is_newest
                && cut.is_some_and(|cut| *found == with(&|at, _| at < cut));
            if *found != everything && !is_cut {
                assert!(is_newest && bytes.len() <= first_end, "a log is gone, and nobody noticed");
                assert_eq!(*found, with(&|_, _| false));
            }
        }
        (Outcome::NoLog(_), _) => {}
    }
    let (journal, recovery, found) = result.unwrap();
    if !recovery.is_lossy {
        again(fs, journal, &recovery, found);
    }
}
