//! Logs as a database keeps them: named, cut, flushed, missing, swapped, damaged; one verdict for each.

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

#[test]
fn clean_logs_end_clean_in_every_mode() {
    let mut maker = Maker::new();
    maker.log(1, 3);
    maker.log(2, 0);
    maker.log(5, 2);
    for mode in [RecoveryMode::Strict, RecoveryMode::Tail, RecoveryMode::PointInTime, RecoveryMode::Salvage] {
        let (recovery, found) = run(&maker.fs(), &named(&[1, 2, 5]), &options(mode)).unwrap();
        assert_eq!(found, [1, 2, 3, 4, 5]);
        assert!(recovery.logs.iter().all(|log| log.verdict == Verdict::CleanEnd && log.holes.is_empty()));
        assert!(recovery.cuts.is_empty() && !recovery.is_lossy);
        assert_eq!((recovery.last_sequence, recovery.next_sequence), (5, 6));
        assert_eq!(recovery.end, maker.end);
    }
}

#[test]
fn no_logs_are_a_beginning() {
    let maker = Maker::new();
    let (recovery, found) = run(&maker.fs(), &[], &options(RecoveryMode::Strict)).unwrap();
    assert!(found.is_empty() && recovery.end.is_none());
    assert_eq!(recovery.next_sequence, 1);
    let flushed = RecoverOptions { flushed: Flushed { every: 7, any: 9 }, ..options(RecoveryMode::Strict) };
    assert_eq!(run(&maker.fs(), &[], &flushed).unwrap().0.next_sequence, 10);
}

#[test]
fn a_torn_tail_is_cut_and_set_aside_and_its_numbers_are_not_given_again() {
    let mut maker = Maker::new();
    let journal = maker.create(1);
    maker.append(&journal, true);
    maker.append(&journal, false);
    maker.append(&journal, false);
    let whole = contents(&maker.mem, &log_path(1)).unwrap();
    let (_, second, third) = (maker.places[0], maker.places[1], maker.places[2]);
    maker.damage(2);
    refused(run(&maker.fs(), &named(&[1]), &options(RecoveryMode::Strict)), &["00000001.log", "not closed"]);
    let before = maker.mem.snapshot();
    let (recovery, found) = run(&maker.fs(), &named(&[1]), &options(RecoveryMode::Tail)).unwrap();
    assert_eq!(found, [1]);
    let log = &recovery.logs[0];
    assert_eq!(log.verdict, Verdict::Torn { at: second.1 }, "no sync was asked for what is cut");
    assert_eq!(
        (recovery.last_sequence, recovery.next_sequence),
        (1, 4),
        "3 was seen, and is never given again"
    );
    let cut = Cut { offset: second.1, last_sequence: 1 };
    assert_eq!(recovery.cuts, [(1, cut)]);
    assert!(!recovery.is_lossy);
    let aside = contents(&maker.mem, log.set_aside.as_ref().unwrap()).unwrap();
    assert_eq!(aside.len() as u64, log.cut_end - second.1);
    assert_eq!(
        aside[200..],
        whole[usize::try_from(second.1).unwrap() + 200..usize::try_from(log.cut_end).unwrap()]
    );
    assert!(log.cut_end > third.1);

    // Interrupted before the cut was recorded: the same again, and no second copy.
    let again = run(&maker.fs(), &named(&[1]), &options(RecoveryMode::Tail)).unwrap().0;
    assert_eq!(again.logs[0].set_aside, log.set_aside);
    assert_eq!(maker.mem.read_dir(&directory().join("lost")).unwrap().len(), 1);
    // Another tail at the same place gets another name.
    replace(&maker.mem, log.set_aside.as_ref().unwrap(), b"somebody else's");
    let other = run(&maker.fs(), &named(&[1]), &options(RecoveryMode::Tail)).unwrap().0;
    assert_ne!(other.logs[0].set_aside, log.set_aside);

    // Once recorded, the cut holds in every mode, whatever stands behind it.
    let fs: Arc<dyn FileSystem> = Arc::new(before);
    replace(&maker.mem, &log_path(1), &whole);
    for fs in [fs, maker.fs()] {
        for mode in
            [RecoveryMode::Strict, RecoveryMode::Tail, RecoveryMode::PointInTime, RecoveryMode::Salvage]
        {
            let logs = [ExpectedLog { cut: Some(cut), ..named(&[1])[0] }];
            let (recovery, found) = run(&fs, &logs, &options(mode)).unwrap();
            assert_eq!(found, [1], "{mode:?}");
            assert!(recovery.cuts.is_empty() && recovery.logs[0].set_aside.is_none());
        }
    }
}

#[test]
fn a_torn_tail_for_which_a_sync_was_asked_is_said_to_be_one() {
    let mut maker = Maker::new();
    let journal = maker.create(1);
    maker.append(&journal, true);
    maker.append(&journal, true);
    // The last group that was synced: no later record says that it is durable.
    let at = maker.places[1].1;
    maker.damage(2);
    let (recovery, found) = run(&maker.fs(), &named(&[1]), &options(RecoveryMode::Tail)).unwrap();
    assert_eq!((found, recovery.logs[0].verdict), (vec![1], Verdict::TornMaybeAcknowledged { at }));
    // With a mark behind it, it is damage.
    let mut maker = Maker::new();
    maker.open_log(1, 2);
    maker.damage(2);
    refused(
        run(&maker.fs(), &named(&[1]), &options(RecoveryMode::Tail)),
        &["Sequence numbers 2 to 2 are lost", "payload", "PointInTime", "Salvage"],
    );
}

#[test]
fn zeros_are_damage_below_what_is_durable_and_the_end_above() {
    let mut maker = Maker::new();
    maker.open_log(1, 3);
    let bytes = contents(&maker.mem, &log_path(1)).unwrap();
    let (_, offset, end) = maker.places[1];
    let (offset, end) = (usize::try_from(offset).unwrap(), usize::try_from(end).unwrap());
    let mut hole = bytes.clone();
    hole[offset..end].fill(0);
    replace(&maker.mem, &log_path(1), &hole);
    refused(run(&maker.fs(), &named(&[1]), &options(RecoveryMode::Tail)), &["zeros", "2 to 2"]);
    // Everything from there on, with all that told of it: that is how a log ends.
    hole[offset..].fill(0);
    replace(&maker.mem, &log_path(1), &hole);
    let (recovery, found) = run(&maker.fs(), &named(&[1]), &options(RecoveryMode::Tail)).unwrap();
    assert_eq!((found, recovery.logs[0].verdict), (vec![1], Verdict::Torn { at: offset as u64 }));
    assert_eq!(recovery.logs[0].set_aside, None, "there is nothing to keep");
}

#[test]
fn damage_to_what_is_in_tables_is_reported_and_passed_over() {
    let mut maker = Maker::new();
    maker.log(1, 4);
    maker.log(2, 2);
    maker.damage(2);
    let flushed = |every, any, mode| RecoverOptions { flushed: Flushed { every, any }, ..options(mode) };
    let (recovery, found) = run(&maker.fs(), &named(&[1, 2]), &flushed(2, 3, RecoveryMode::Tail)).unwrap();
    assert_eq!(found, [3, 4, 5, 6], "what is wholly in tables is not visited");
    let hole = &recovery.logs[0].holes[0];
    assert!(hole.harmless && hole.sequences == Some((2, Some(2))) && hole.offset == maker.places[1].1);
    assert!(!recovery.is_lossy);
    refused(run(&maker.fs(), &named(&[1, 2]), &flushed(1, 6, RecoveryMode::Tail)), &["2 to 2"]);
    refused(run(&maker.fs(), &named(&[1, 2]), &flushed(2, 6, RecoveryMode::Strict)), &["2 to 2"]);
}

#[test]
fn point_in_time_stops_before_damage_unless_tables_are_beyond() {
    let mut maker = Maker::new();
    maker.log(1, 3);
    maker.log(2, 2);
    maker.damage(2);
    let mode = RecoveryMode::PointInTime;
    let beyond = RecoverOptions { flushed: Flushed { every: 0, any: 2 }, ..options(mode) };
    refused(run(&maker.fs(), &named(&[1, 2]), &beyond), &["tables hold what came later, up to 2"]);
    let (recovery, found) = run(&maker.fs(), &named(&[1, 2]), &options(mode)).unwrap();
    assert_eq!(found, [1]);
    assert!(recovery.is_lossy);
    assert_eq!((recovery.last_sequence, recovery.next_sequence), (1, 6));
    let cut = Cut { offset: maker.places[1].1, last_sequence: 1 };
    let dropped = Cut { offset: 0, last_sequence: 1 };
    assert_eq!(recovery.cuts, [(1, cut), (2, dropped)]);
    assert!(recovery.logs.iter().all(|log| log.set_aside.is_some()), "both are kept aside");
    // With the cuts recorded, and the next log behind them, all is well, in every mode.
    maker.end = recovery.end;
    maker.next_sequence = recovery.next_sequence;
    let journal = maker.create(3);
    let batch = BatchRecord { first_sequence: 6, op_count: 1, sync: true, payload: &payload(6) };
    journal.append(batch).unwrap();
    journal.end(6).unwrap();
    let mut logs = named(&[1, 2, 3]);
    logs[0].cut = Some(cut);
    logs[1].cut = Some(dropped);
    for mode in [RecoveryMode::Strict, RecoveryMode::Tail, RecoveryMode::PointInTime, RecoveryMode::Salvage] {
        let (recovery, found) = run(&maker.fs(), &logs, &options(mode)).unwrap();
        assert_eq!(found, [1, 6], "{mode:?}");
        assert_eq!(recovery.next_sequence, 7);
        assert!(recovery.cuts.is_empty() && !recovery.is_lossy);
    }
}

#[test]
fn salvage_steps_over_damage_and_says_so() {
    let mut maker = Maker::new();
    maker.log(1, 4);
    maker.open_log(2, 4);
    maker.damage(2);
    maker.damage(6);
    let (recovery, found) = run(&maker.fs(), &named(&[1, 2]), &options(RecoveryMode::Salvage)).unwrap();
    assert_eq!(found, [1, 3, 4, 5, 7, 8]);
    assert!(recovery.is_lossy);
    let lost: Vec<_> = recovery.logs.iter().flat_map(|log| &log.holes).map(|hole| hole.sequences).collect();
    assert_eq!(lost, [Some((2, Some(2))), Some((6, Some(6)))]);
    assert_eq!(recovery.next_sequence, 9);
}

#[test]
fn a_missing_log_is_noticed_wherever_it_was() {
    let mut maker = Maker::new();
    for number in 1..=3 {
        maker.log(number, 2);
    }
    for missing in 1..=3 {
        let mem = maker.mem.snapshot();
        mem.remove_file(&log_path(missing)).unwrap();
        let fs: Arc<dyn FileSystem> = Arc::new(mem);
        let what = format!("{missing:08}.log: the log is missing");
        refused(run(&fs, &named(&[1, 2, 3]), &options(RecoveryMode::Tail)), &[&what]);
        let (recovery, found) = run(&fs, &named(&[1, 2, 3]), &options(RecoveryMode::Salvage)).unwrap();
        assert_eq!(found.len(), 4);
        assert!(recovery.is_lossy);
        // Even where nobody expects it, the next log does.
        let others: Vec<u64> = (1..=3).filter(|number| *number != missing).collect();
        let result = run(&fs, &named(&others), &options(RecoveryMode::Tail));
        if missing < 3 {
            refused(result, &[&format!("log {missing} is missing")]);
        } else {
            result.unwrap();
        }
        // What is in tables may be missing: that is how logs go.
        let every = 2 * missing;
        let flushed =
            RecoverOptions { flushed: Flushed { every, any: every }, ..options(RecoveryMode::Tail) };
        let (_, found) = run(&fs, &named(&others), &flushed).unwrap();
        assert!(found.iter().all(|sequence| *sequence > every));
    }
}

#[test]
fn logs_in_each_others_place_are_refused() {
    let mut maker = Maker::new();
    maker.log(1, 2);
    maker.log(2, 2);
    let bytes: Vec<_> = (1..=2).map(|number| contents(&maker.mem, &log_path(number)).unwrap()).collect();
    let swapped = maker.mem.snapshot();
    replace(&swapped, &log_path(1), &bytes[1]);
    replace(&swapped, &log_path(2), &bytes[0]);
    let fs: Arc<dyn FileSystem> = Arc::new(swapped.clone());
    refused(run(&fs, &named(&[1, 2]), &options(RecoveryMode::Tail)), &["another log in the place"]);
    refused(open(Arc::new(swapped)).map(|_| unreachable!()), &["says that it is log"]);
    let other = RecoverOptions { database: identity(99), ..options(RecoveryMode::Tail) };
    refused(run(&maker.fs(), &named(&[1, 2]), &other), &["another database"]);
    // A record of the log in another place of it is none.
    let mut bytes = bytes[0].clone();
    let (_, first, second) = maker.places[0];
    let (first, second) = (usize::try_from(first).unwrap(), usize::try_from(second).unwrap());
    let copy = bytes[first..second].to_vec();
    bytes[second..second + copy.len()].copy_from_slice(&copy);
    replace(&maker.mem, &log_path(1), &bytes);
    refused(run(&maker.fs(), &named(&[1, 2]), &options(RecoveryMode::Tail)), &["checksum", "2 to 2"]);
}

#[test]
fn a_damaged_header_costs_nothing_where_the_identity_is_known() {
    let mut maker = Maker::new();
    maker.log(1, 2);
    maker.flip(1, 30);
    let (_, found) = run(&maker.fs(), &named(&[1]), &options(RecoveryMode::Tail)).unwrap();
    assert_eq!(found, [1, 2]);
    refused(open(maker.fs()).map(|_| unreachable!()), &["header is damaged"]);
}

#[test]
fn a_log_that_was_never_begun_is_none_unless_it_was_named() {
    let mut maker = Maker::new();
    maker.log(1, 2);
    replace(&maker.mem, &log_path(2), &[0; 100]);
    let mut logs = named(&[1, 2]);
    refused(run(&maker.fs(), &logs, &options(RecoveryMode::Tail)), &["00000002.log"]);
    logs[1].identity = None;
    let (recovery, found) = run(&maker.fs(), &logs, &options(RecoveryMode::Tail)).unwrap();
    assert_eq!(found, [1, 2]);
    assert_eq!(recovery.logs[1].verdict, Verdict::NeverBegun);
    assert_eq!(recovery.end, maker.end);
    // The same length, but the next log knows it: it was begun.
    let end = LogEnd { number: 2, identity: identity(2), offset: 500, last_sequence: 4 };
    maker.end = Some(end);
    maker.next_sequence = 5;
    maker.log(3, 1);
    logs.push(named(&[3])[0]);
    refused(run(&maker.fs(), &logs, &options(RecoveryMode::Tail)), &["log 2 is missing"]);
}

#[test]
fn a_read_that_fails_is_an_error_and_not_the_end() {
    let mut maker = Maker::new();
    maker.open_log(1, 3);
    let faulty = FaultFs::new(maker.fs());
    for nth in 1..=2 {
        faulty.inject(Fault::once(FaultCall::Read, nth, FaultEffect::Error));
        let fs: Arc<dyn FileSystem> = Arc::new(faulty.clone());
        match run(&fs, &named(&[1]), &options(RecoveryMode::Salvage)) {
            Err(error) => assert_eq!(error.kind(), ErrorKind::Io),
            Ok(_) => assert_eq!(faulty.fired(), nth - 1),
        }
        faulty.clear();
    }
    assert!(faulty.fired() > 0);
}

#[test]
fn reading_only_changes_nothing_and_may_stand_beside_a_writer() {
    let mut maker = Maker::new();
    let journal = maker.create(1);
    maker.append(&journal, true);
    maker.append(&journal, false);
    maker.damage(2);
    let read_only = RecoverOptions { access: Access::ReadOnly, ..options(RecoveryMode::Tail) };
    let calls = maker.mem.calls();
    let (recovery, found) = run(&maker.fs(), &named(&[1]), &read_only).unwrap();
    assert_eq!(found, [1]);
    assert_eq!(recovery.logs[0].set_aside, None);
    assert_eq!(maker.mem.calls(), calls, "no mutating call");
}

/// A reader that opens while another process commits: what it reads later is newer than what it read before, and must not
/// make that look like damage.
#[test]
fn a_reader_beside_a_busy_writer_never_sees_damage() {
    let mem = MemFs::new();
    mem.create_dir_all(directory(), SITE).unwrap();
    let fs: Arc<dyn FileSystem> = Arc::new(mem.clone());
    let maker = Maker { mem, next_sequence: 1, end: None, places: Vec::new() };
    let journal = maker.create(1);
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut sequence = 1;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) && sequence < 3000 {
                let payload = vec![1; 4000];
                let at = journal
                    .append(BatchRecord {
                        first_sequence: sequence,
                        op_count: 1,
                        sync: true,
                        payload: &payload,
                    })
                    .unwrap();
                journal.sync_through(at).unwrap();
                sequence += 1;
            }
        });
        let mut last = 0;
        for _ in 0..60 {
            let options = RecoverOptions { access: Access::ReadOnly, ..options(RecoveryMode::Tail) };
            let before = journal.durable_sequence();
            let recovery = recover(&fs, directory(), &named(&[1]), &options, &mut |_| Ok(())).unwrap();
            assert!(recovery.last_sequence >= before.max(last));
            last = recovery.last_sequence;
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

#[test]
fn reopening_after_a_failure_replays_nothing_at_or_above_what_is_durable() {
    let mut maker = Maker::new();
    let journal = maker.create(1);
    maker.append(&journal, true);
    maker.append(&journal, false);
    let logs = [ExpectedLog { cut: Some(journal.durable_cut()), ..named(&[1])[0] }];
    let (recovery, found) = run(&maker.fs(), &logs, &options(RecoveryMode::Tail)).unwrap();
    assert_eq!(found, [1]);
    assert_eq!(recovery.end.unwrap().offset, journal.durable().offset());
}

#[test]
fn what_a_newer_version_wrote_is_refused_and_never_cut() {
    let mut maker = Maker::new();
    let journal = maker.create(1);
    maker.append(&journal, true);
    maker.append(&journal, true);
    let clean = contents(&maker.mem, &log_path(1)).unwrap();
    let at = usize::try_from(maker.places[1].1).unwrap();
    // A kind, a flag and a reserved byte of the future, and a kind that is zero: each with a checksum that holds.
    for (offset, value) in [(32, 6), (32, 0), (33, 2), (39, 1)] {
        let mut bytes = clean.clone();
        bytes[at + offset] = value;
        let crc = salted_crc32(identity(1), at as u64, &[&bytes[at + 4..at + 40]]);
        bytes[at..at + 4].copy_from_slice(&crc.to_le_bytes());
        replace(&maker.mem, &log_path(1), &bytes);
        for mode in [RecoveryMode::Tail, RecoveryMode::Salvage] {
            let error = run(&maker.fs(), &named(&[1]), &options(mode)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NewerFormat, "{error}");
            assert_eq!(error.offset(), Some(at as u64));
        }
    }
    for (offset, value) in [(8, 2), (12, 1), (20, 1), (40, 1)] {
        let mut bytes = clean.clone();
        bytes[offset] = value;
        let crc = salted_crc32(identity(1), 0, &[&bytes[..60]]);
        bytes[60..64].copy_from_slice(&crc.to_le_bytes());
        replace(&maker.mem, &log_path(1), &bytes);
        let error = run(&maker.fs(), &named(&[1]), &options(RecoveryMode::Salvage)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NewerFormat, "{error}");
    }
    // An optional feature of the future, and an unused byte: passed over.
    for offset in [10, 16] {
        let mut bytes = clean.clone();
        bytes[offset] = 1;
        let crc = salted_crc32(identity(1), 0, &[&bytes[..60]]);
        bytes[60..64].copy_from_slice(&crc.to_le_bytes());
        replace(&maker.mem, &log_path(1), &bytes);
        assert_eq!(run(&maker.fs(), &named(&[1]), &options(RecoveryMode::Tail)).unwrap().1, [1, 2]);
    }
}

#[test]
fn a_recorded_end_that_does_not_fit_the_log_is_refused() {
    let mut maker = Maker::new();
    maker.log(1, 3);
    for cut in [
        Cut { offset: maker.places[1].1 + 8, last_sequence: 2 },
        Cut { offset: maker.places[1].1, last_sequence: 2 },
        Cut { offset: 1 << 40, last_sequence: 3 },
    ] {
        let logs = [ExpectedLog { cut: Some(cut), ..named(&[1])[0] }];
        refused(run(&maker.fs(), &logs, &options(RecoveryMode::Tail)), &["00000001.log"]);
    }
    maker.log(2, 1);
    let mut logs = named(&[1, 2]);
    logs[0].cut = Some(Cut { offset: maker.places[1].1, last_sequence: 1 });
    refused(run(&maker.fs(), &logs, &options(RecoveryMode::Tail)), &["the next log says"]);
}

#[test]
fn two_openings_conflict() {
    let mem = MemFs::new();
    let (journal, _, _) = open(Arc::new(mem.clone())).unwrap();
    assert_eq!(open(Arc::new(mem.clone())).unwrap_err().kind(), ErrorKind::Locked);
    drop(journal);
    open(Arc::new(mem)).unwrap();
}

#[test]
fn a_killed_process_loses_only_what_it_had_not_written() {
    let mem = MemFs::new();
    let (journal, _, _) = open(Arc::new(mem.clone())).unwrap();
    journal.append(&b"written".to_vec(), Durability::System).unwrap();
    journal.append(&b"in memory".to_vec(), Durability::Process).unwrap();
    drop(journal);
    let (journal, _, found) = open(Arc::new(mem.clone())).unwrap();
    assert_eq!(found, [(1, b"written".to_vec())]);
    drop(journal);
    // And what it had written is durable since.
    let (_, _, found) = open(Arc::new(mem.crash(CrashPolicy::SyncedOnly, 0))).unwrap();
    assert_eq!(found, [(1, b"written".to_vec())]);
}

#[test]
fn the_manifest_is_read_with_the_same_verdicts() {
    let mem = MemFs::new();
    let path = Path::new("/MANIFEST");
    let mut writer = RecordWriter::create(&mem, path, LogKind::Manifest, identity(3)).unwrap();
    mem.sync_dir(Path::new("/"), SITE).unwrap();
    for edit in 1..=3u64 {
        writer.append(RecordKind::Batch, true, edit, 1, &payload(edit)).unwrap();
        writer.sync(SITE).unwrap();
    }
    writer.append(RecordKind::Batch, true, 4, 1, &payload(4)).unwrap();
    writer.write().unwrap();
    let read = |mem: &MemFs| {
        let mut edits = Vec::new();
        let report = read_records(mem.open_read(path).unwrap(), path, LogKind::Manifest, &mut |record| {
            edits.push(record.header.first_sequence);
            Ok(())
        });
        report.map(|report| (report.verdict, edits))
    };
    assert_eq!(read(&mem).unwrap().1, [1, 2, 3, 4]);
    let (verdict, edits) = read(&mem.crash(CrashPolicy::LengthsOnly, 0)).unwrap();
    assert_eq!((verdict, edits), (Verdict::Torn { at: writer.durable() }, vec![1, 2, 3]));
    let mut bytes = contents(&mem, path).unwrap();
    bytes[200] ^= 1;
    replace(&mem, path, &bytes);
    assert_eq!(read(&mem).unwrap_err().kind(), ErrorKind::Corruption);
    let error =
        read_records(mem.open_read(path).unwrap(), path, LogKind::Journal, &mut |_| Ok(())).unwrap_err();
    assert!(error.to_string().contains("no log of the journal"), "{error}");
}
