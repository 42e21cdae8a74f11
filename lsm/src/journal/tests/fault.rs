//! Each call of the file system fails once, or from then on; what was acknowledged as durable is there afterwards.

use super::*;
use crate::error::ErrorKind;
use crate::fs::{CrashPolicy, Fault, FaultCall, FaultEffect, FaultFs};

/// Appends until something fails; what was acknowledged as synced.
fn run(fs: &FaultFs, acknowledged: &mut Batches, appended: &mut Batches) -> Result<()> {
    let options =
        JournalOptions { zero_ahead_bytes_max: 1024, buffer_bytes: 512, ..JournalOptions::default() };
    let (journal, _, found) = open_with(Arc::new(fs.clone()), options, RecoveryMode::Tail)?;
    appended.retain(|batch| found.contains(batch));
    let mut failed = None;
    for number in 0..12u8 {
        let payload = vec![number; 200 + usize::from(number)];
        let durability = if number % 3 == 2 { Durability::Synced } else { Durability::System };
        let next = found.last().map_or(0, |(sequence, _)| *sequence) + 1 + u64::from(number);
        match journal.append(&payload, durability) {
            Ok(sequence) => {
                assert!(failed.is_none(), "acknowledged behind a failure");
                appended.push((sequence, payload));
                if durability == Durability::Synced {
                    *acknowledged = appended.clone();
                }
            }
            Err(error) => {
                // It may have got there, or not.
                appended.push((next, payload));
                if let Some(first) = &failed {
                    assert_eq!(error.kind(), ErrorKind::Failed, "{first:?}, then {error:?}");
                }
                failed.get_or_insert(error);
            }
        }
        if number == 7 && failed.is_none() {
            journal.rotate()?;
            *acknowledged = appended.clone();
        }
    }
    match failed {
        Some(error) => Err(error),
        None => {
            journal.close()?;
            *acknowledged = appended.clone();
            Ok(())
        }
    }
}

fn sweep(effect: FaultEffect, sticky: bool) {
    for call in FaultCall::ALL {
        for nth in 1.. {
            let mem = MemFs::new();
            let faulty = FaultFs::new(Arc::new(mem.clone()));
            faulty.inject(Fault { call, path: None, nth, sticky, effect });
            let (mut acknowledged, mut appended) = (Batches::new(), Batches::new());
            let result = run(&faulty, &mut acknowledged, &mut appended);
            if faulty.fired() == 0 {
                assert!(result.is_ok(), "{result:?}");
                break;
            }
            let harmless = matches!(effect, FaultEffect::Short(_) | FaultEffect::Interrupted);
            if harmless && !sticky && matches!(call, FaultCall::Read | FaultCall::Write) {
                assert!(result.is_ok(), "{call:?} {nth} {effect:?}: {result:?}");
            }
            faulty.clear();
            for fs in [
                mem.snapshot(),
                mem.crash(CrashPolicy::SyncedOnly, 0),
                mem.crash(CrashPolicy::Scattered, nth),
            ] {
                let (_, _, found) = open(Arc::new(fs))
                    .unwrap_or_else(|error| panic!("{call:?} {nth} {effect:?} {sticky}: {error}"));
                assert!(
                    found.starts_with(&acknowledged),
                    "{call:?} {nth} {effect:?}: acknowledged batches are gone"
                );
                assert!(
                    found.iter().all(|batch| appended.iter().any(|(_, payload)| *payload == batch.1)),
                    "{call:?} {nth} {effect:?}: batches that nobody appended"
                );
            }
        }
    }
}

#[test]
fn an_error_of_any_call_loses_nothing_acknowledged() {
    sweep(FaultEffect::Error, false);
    sweep(FaultEffect::Error, true);
}

#[test]
fn a_full_device_loses_nothing_acknowledged() {
    sweep(FaultEffect::NoSpace, false);
    sweep(FaultEffect::NoSpace, true);
}

#[test]
fn torn_writes_lose_nothing_acknowledged() {
    sweep(FaultEffect::Torn(0), false);
    sweep(FaultEffect::Torn(100), false);
}

#[test]
fn short_and_interrupted_calls_are_gone_on_with() {
    sweep(FaultEffect::Short(7), true);
    sweep(FaultEffect::Interrupted, false);
}

fn start(number: u64) -> Start {
    Start {
        number,
        identity: crate::checksum::Identity::from_bytes([7; 16]),
        database: crate::checksum::Identity::from_bytes([8; 16]),
        previous: None,
        next_sequence: 1,
    }
}

#[test]
fn after_a_failed_sync_nothing_is_tried_again() {
    let mem = MemFs::new();
    mem.create_dir_all(directory(), SITE).unwrap();
    let faulty = FaultFs::new(Arc::new(mem));
    let fs: Arc<dyn FileSystem> = Arc::new(faulty.clone());
    let journal = Journal::create(&fs, &log_path(1), start(1), JournalOptions::default()).unwrap();
    let batch = |first_sequence| BatchRecord { first_sequence, op_count: 1, sync: true, payload: b"x" };
    let first = journal.append(batch(1)).unwrap();
    journal.sync_through(first).unwrap();
    let cut = journal.durable_cut();
    assert_eq!(cut.last_sequence, 1);
    let second = journal.append(batch(2)).unwrap();
    faulty.inject(Fault::once(FaultCall::Sync, 1, FaultEffect::Error));
    let error = journal.sync_through(second).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    let syncs = faulty.calls(FaultCall::Sync);
    for result in [
        journal.sync_through(second),
        journal.append(batch(3)).map(drop),
        journal.write_through(second).and(journal.mark()),
        journal.end(2).map(drop),
    ] {
        let error = result.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Failed);
        assert!(error.to_string().contains("injected"), "the cause is kept: {error}");
    }
    assert_eq!(faulty.calls(FaultCall::Sync), syncs, "not tried again");
    journal.sync_through(first).unwrap();
    assert_eq!(journal.durable_cut(), cut, "what may be there and may be not is cut");
    assert_eq!(journal.failure().unwrap().kind(), ErrorKind::Io);
}

/// A batch that is synced, one that is written, one whose write or sync fails; then where the log is cut.
fn settle_after(fault: Fault, then: Option<Fault>) -> (Journal, FaultFs, crate::journal::Cut, [u64; 2]) {
    let mem = MemFs::new();
    mem.create_dir_all(directory(), SITE).unwrap();
    let faulty = FaultFs::new(Arc::new(mem));
    let fs: Arc<dyn FileSystem> = Arc::new(faulty.clone());
    let journal = Journal::create(&fs, &log_path(1), start(1), JournalOptions::default()).unwrap();
    let batch = |first_sequence| BatchRecord { first_sequence, op_count: 1, sync: false, payload: b"x" };
    let first = journal.append(batch(1)).unwrap();
    journal.sync_through(first).unwrap();
    let second = journal.append(batch(2)).unwrap();
    journal.write_through(second).unwrap();
    let places = [journal.durable().offset(), second.offset()];
    let third = journal.append(batch(3)).unwrap();
    faulty.inject(fault);
    journal.sync_through(third).unwrap_err();
    faulty.clear();
    then.into_iter().for_each(|fault| faulty.inject(fault));
    let cut = journal.settle();
    (journal, faulty, cut, places)
}

#[test]
fn after_a_failed_write_what_was_written_counts_if_one_sync_says_so() {
    let write_fails = || Fault::once(FaultCall::Write, 1, FaultEffect::NoSpace);
    let (journal, _, cut, [_, written]) = settle_after(write_fails(), None);
    assert_eq!((cut.offset, cut.last_sequence), (written, 2));
    assert_eq!((cut, cut), (journal.settle(), journal.durable_cut()), "once more is the same");
    assert_eq!(journal.end(3).unwrap_err().kind(), ErrorKind::Failed);
    // That sync fails: what had been synced counts, and nothing tries again.
    let sync_fails = || Fault::once(FaultCall::Sync, 1, FaultEffect::Error);
    let (journal, faulty, cut, [durable, _]) = settle_after(write_fails(), Some(sync_fails()));
    assert_eq!((cut.offset, cut.last_sequence), (durable, 1));
    let syncs = faulty.calls(FaultCall::Sync);
    assert_eq!(journal.settle(), cut);
    assert_eq!(faulty.calls(FaultCall::Sync), syncs);
}

#[test]
fn after_a_failed_sync_only_what_was_synced_counts() {
    let (_, _, cut, [durable, _]) = settle_after(Fault::once(FaultCall::Sync, 1, FaultEffect::Error), None);
    assert_eq!((cut.offset, cut.last_sequence), (durable, 1));
}

#[test]
fn after_a_full_device_the_error_says_so() {
    let mem = MemFs::new();
    mem.create_dir_all(directory(), SITE).unwrap();
    let fs: Arc<dyn FileSystem> = Arc::new(mem.clone());
    let journal = Journal::create(&fs, &log_path(1), start(1), JournalOptions::default()).unwrap();
    mem.set_capacity(Some(8192));
    let payload = vec![1; 20_000];
    let at = journal
        .append(BatchRecord { first_sequence: 1, op_count: 1, sync: false, payload: &payload })
        .unwrap();
    assert_eq!(journal.write_through(at).unwrap_err().kind(), ErrorKind::OutOfSpace);
    assert_eq!(journal.write_through(at).unwrap_err().kind(), ErrorKind::Failed);
    mem.set_capacity(None);
    assert_eq!(
        journal.sync_through(at).unwrap_err().kind(),
        ErrorKind::Failed,
        "space alone does not mend it"
    );
}

#[test]
fn no_room_for_zeros_ahead_is_no_failure() {
    for effect in [FaultEffect::NoSpace, FaultEffect::Quota] {
        let mem = MemFs::new();
        let faulty = FaultFs::new(Arc::new(mem.clone()));
        let (journal, _, _) = open(Arc::new(faulty.clone())).unwrap();
        faulty.inject(Fault::sticky(FaultCall::Zero, 1, effect));
        for number in 0..5u8 {
            journal.append(&vec![number], Durability::Synced).unwrap();
        }
        assert!(faulty.fired() > 0);
        assert_eq!(open(Arc::new(mem.crash(CrashPolicy::SyncedOnly, 0))).unwrap().2.len(), 5);
    }
}

/// A process whose sync failed ends; the next one reads from a cache that still holds what never reached the disk.
#[test]
fn what_only_the_cache_holds_is_not_recovered() {
    let mem = MemFs::new();
    let faulty = FaultFs::new(Arc::new(mem.clone()));
    let (journal, _, _) = open(Arc::new(faulty.clone())).unwrap();
    journal.append(&b"kept".to_vec(), Durability::Synced).unwrap();
    faulty.inject(Fault::once(FaultCall::Sync, 1, FaultEffect::Error));
    journal.append(&b"lost".to_vec(), Durability::Synced).unwrap_err();
    drop(journal);
    let (journal, _, found) = open(Arc::new(mem.clone())).unwrap();
    assert_eq!(found, [(1, b"kept".to_vec())]);
    journal.append(&b"next".to_vec(), Durability::Synced).unwrap();
    let (_, _, found) = open(Arc::new(mem.crash(CrashPolicy::SyncedOnly, 0))).unwrap();
    assert_eq!(found.len(), 2);
}
