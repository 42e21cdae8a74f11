//! A turn from one log to the next that is not settled: writers are in a log that nobody names. The power goes, the process is killed, the disk fails, a reader
//! comes: what was promised is there, and what is there is a prefix of what was written.

use std::path::Path;
use std::sync::Arc;

use lsm::fs::{CrashPolicy, Fault, FaultCall, FaultEffect, FaultFs, FileSystem, MemFs};
use lsm::journal::{LogKind, read_records};
use lsm::{Batch, Builder, Db, Durability, ErrorKind, Keyspace, KeyspaceOptions, Progress, RecoveryMode};

use crate::support::{logs, tiny};

const BUFFER_BYTES: usize = 8000;

fn builder(fs: Arc<dyn FileSystem>) -> Builder {
    let builder = Db::builder("/db").file_system(fs).background(lsm::Background::Manual);
    builder.memory_bytes(1 << 20).tuning(tiny(BUFFER_BYTES))
}

fn open(fs: Arc<dyn FileSystem>) -> lsm::Result<(Db, Keyspace)> {
    let db = builder(fs).open()?;
    let keyspace = db.keyspace("k", KeyspaceOptions::sorted())?;
    Ok((db, keyspace))
}

fn open_mem(mem: &MemFs) -> (Db, Keyspace) {
    open(Arc::new(mem.clone())).unwrap()
}

fn put(db: &Db, keyspace: &Keyspace, number: usize, durability: Durability) -> lsm::Result<()> {
    let mut batch = Batch::new();
    batch.put(keyspace, format!("{number:06}"), [b'v'; 100]);
    db.commit(batch, durability).map(drop)
}

/// How many entries there are: those that were written first.
fn prefix(keyspace: &Keyspace) -> usize {
    let mut count = 0;
    for entry in keyspace.iter() {
        assert_eq!(entry.unwrap().0, format!("{count:06}").as_bytes(), "a prefix of what was written");
        count += 1;
    }
    count
}

fn edits(fs: &MemFs) -> Vec<u64> {
    let mut offsets = Vec::new();
    let path = Path::new("/db/MANIFEST");
    read_records(fs.open_read(path).unwrap(), path, LogKind::Manifest, &mut |record| {
        offsets.push(record.offset);
        Ok(())
    })
    .unwrap();
    offsets
}

/// Whether there are two logs, and the second is in use: before, it has its header and no more.
fn is_turned(fs: &MemFs) -> bool {
    let logs = logs(fs);
    let bytes = |name: &String| fs.open_read(&Path::new("/db").join(name)).unwrap().len().unwrap();
    logs.len() == 2 && logs.last().is_some_and(|newest| bytes(newest) > 64)
}

/// Writes until the next log is in use, which was made ahead or not; nothing of that is settled. Returns how many entries there are.
fn turn(db: &Db, keyspace: &Keyspace, fs: &MemFs, ahead: bool) -> usize {
    put(db, keyspace, 0, Durability::System).unwrap();
    let mut number = 1;
    while ahead && logs(fs).len() < 2 {
        put(db, keyspace, number, Durability::System).unwrap();
        db.step().unwrap();
        number += 1;
    }
    let syncs = edits(fs).len();
    while !is_turned(fs) {
        put(db, keyspace, number, Durability::System).unwrap();
        number += 1;
    }
    for _ in 0..5 {
        put(db, keyspace, number, Durability::System).unwrap();
        number += 1;
    }
    assert_eq!(edits(fs).len(), syncs, "no edit names the log that is in use");
    number
}

#[test]
fn nobody_waits_for_the_disk_in_a_turn() {
    let mem = MemFs::new();
    let (db, keyspace) = open_mem(&mem);
    mem.record_snapshots();
    turn(&db, &keyspace, &mem, true);
    let calls = mem.take_snapshots();
    let begun = calls.iter().rposition(|at| at.call.what.starts_with("sync")).unwrap();
    let written = calls[begun..].iter().filter(|at| at.call.path.to_string_lossy().ends_with(".log"));
    assert!(written.count() > 20, "the last sync was that of the file that was made ahead");
    assert!(db.check().unwrap().is_clean(), "{:?}", db.check().unwrap());
}

#[test]
fn a_killed_process_loses_nothing_in_a_turn() {
    for ahead in [true, false] {
        kill_in_a_turn(ahead);
    }
}

fn kill_in_a_turn(ahead: bool) {
    let mem = MemFs::new();
    let (db, keyspace) = open_mem(&mem);
    let count = turn(&db, &keyspace, &mem, ahead);
    let killed = mem.snapshot();
    // A reader beside the writer sees all of it, and changes nothing.
    let calls = killed.calls();
    {
        let reader = builder(Arc::new(killed.clone())).read_only(true).open().unwrap();
        assert_eq!(prefix(&reader.keyspace("k", KeyspaceOptions::sorted()).unwrap()), count);
        assert!(!reader.recovery_report().is_lossy);
    }
    assert_eq!(killed.calls(), calls);
    let (db, keyspace) = open_mem(&killed);
    assert_eq!(prefix(&keyspace), count);
    assert!(!db.recovery_report().is_lossy);
    assert!(db.check().unwrap().is_clean(), "{:?}", db.check().unwrap());
    // And what was seen once stays.
    for policy in CrashPolicy::ALL {
        let after = killed.crash(policy, 1);
        let (db, keyspace) = open_mem(&after);
        assert_eq!(prefix(&keyspace), count, "{policy:?}");
        put(&db, &keyspace, count, Durability::Synced).unwrap();
        let (_db, keyspace) = open_mem(&after.crash(CrashPolicy::SyncedOnly, 2));
        assert_eq!(prefix(&keyspace), count + 1, "{policy:?}");
    }
}

#[test]
fn the_power_may_go_anywhere_in_a_turn() {
    for ahead in [true, false] {
        cut_power_in_turns(ahead);
    }
}

fn cut_power_in_turns(ahead: bool) {
    let mem = MemFs::new();
    let (db, keyspace) = open_mem(&mem);
    mem.record_snapshots();
    // How many calls there had been when so many entries were begun, and promised.
    let (mut begun, mut promised) = (vec![0], vec![(0, 0)]);
    let mut number = 0;
    for round in 0..3 {
        for turned in 0.. {
            let durability = match (round, turned) {
                (1, 20..) | (_, 6) => Durability::Synced,
                _ => Durability::System,
            };
            begun.push(mem.calls());
            put(&db, &keyspace, number, durability).unwrap();
            number += 1;
            if durability == Durability::Synced {
                promised.push((mem.calls(), number));
            }
            if !is_turned(&mem) {
                if ahead {
                    db.step().unwrap();
                }
            } else if turned > 8 && begun.len() % 7 == 0 {
                break;
            }
        }
        while db.step().unwrap() == Progress::Working {}
    }
    db.flush().unwrap();
    promised.push((mem.calls(), number));
    let (mut dropped, mut taken) = (0, 0);
    for snapshot in mem.take_snapshots() {
        let calls = snapshot.call.number;
        let at_least = promised.iter().filter(|(at, _)| *at <= calls).map(|(_, count)| *count).max().unwrap();
        let at_most = begun.iter().filter(|at| **at <= calls).count() - 1;
        for policy in CrashPolicy::ALL {
            for seed in 0..2 {
                let place = format!("{policy:?} {seed} after {}", snapshot.call);
                let after = snapshot.fs.crash(policy, seed);
                let before = logs(&after).len();
                let (db, keyspace) =
                    open(Arc::new(after.clone())).unwrap_or_else(|error| panic!("{place}: {error}"));
                let found = prefix(&keyspace);
                assert!(
                    (at_least..=at_most).contains(&found),
                    "{place}: {found}, not {at_least} to {at_most}"
                );
                assert!(!db.recovery_report().is_lossy, "{place}");
                assert!(db.check().unwrap().unknown_files.len() <= before, "{place}");
                let lost = Path::new("/db/lost");
                let aside = after.exists(lost).unwrap() && !after.read_dir(lost).unwrap().is_empty();
                dropped += usize::from(aside);
                taken += usize::from(found == at_most);
                // A second crash, that takes all that is not durable, changes nothing; and it goes on.
                let again = after.crash(CrashPolicy::SyncedOnly, seed);
                let (db, keyspace) = open_mem(&again);
                assert_eq!(prefix(&keyspace), found, "{place}");
                put(&db, &keyspace, found, Durability::Synced).unwrap();
                let (_db, keyspace) = open_mem(&again.crash(CrashPolicy::SyncedOnly, seed));
                assert_eq!(prefix(&keyspace), found + 1, "{place}");
            }
        }
    }
    assert!(dropped > 10 && taken > 10, "{dropped} {taken}");
}

#[test]
fn a_disk_that_fails_in_a_turn_takes_nothing_that_was_promised() {
    let mut failures = 0;
    for (call, last) in [(FaultCall::Sync, 12), (FaultCall::Write, 400)] {
        for nth in (1..last).step_by(if last > 100 { 7 } else { 1 }) {
            for effect in [FaultEffect::Error, FaultEffect::Torn(90)] {
                let mem = MemFs::new();
                let faulty = FaultFs::new(Arc::new(mem.clone()));
                let (db, keyspace) = open(Arc::new(faulty.clone())).unwrap();
                turn(&db, &keyspace, &mem, nth % 2 == 0);
                let mut number = prefix(&keyspace);
                let mut promised = 0;
                faulty.inject(Fault::once(call, nth, effect));
                let mut has_failed = false;
                for turned in 0..300 {
                    let durability = if turned % 97 == 96 { Durability::Synced } else { Durability::System };
                    let done = put(&db, &keyspace, number, durability);
                    let done = if turned % 40 < 30 { done } else { done.and(db.step().map(drop)) };
                    number += 1;
                    if done.is_err() {
                        has_failed = true;
                        let report = db.reopen().unwrap();
                        assert!(!report.is_lossy, "{call:?} {nth}");
                        let found = prefix(&keyspace);
                        assert!(
                            (promised..=number).contains(&found),
                            "{call:?} {nth}: {found} of {promised}"
                        );
                        number = found;
                    } else if durability == Durability::Synced {
                        promised = number;
                    }
                }
                if put(&db, &keyspace, number, Durability::Synced).is_err() {
                    // The fault was late.
                    db.reopen().unwrap();
                    has_failed = true;
                    number = prefix(&keyspace);
                    put(&db, &keyspace, number, Durability::Synced).unwrap();
                }
                failures += usize::from(has_failed);
                assert!(db.check().unwrap().is_clean(), "{call:?} {nth}: {:?}", db.check().unwrap());
                for policy in CrashPolicy::ALL {
                    let (_db, keyspace) = open_mem(&mem.crash(policy, 1));
                    assert_eq!(prefix(&keyspace), number + 1, "{call:?} {nth} {policy:?}");
                }
            }
        }
    }
    assert!(failures > 40, "{failures}");
}

#[test]
fn a_log_that_was_named_is_not_taken_for_one_that_was_not_yet() {
    for synced in [true, false] {
        let mem = MemFs::new();
        let (db, keyspace) = open_mem(&mem);
        let mut count = turn(&db, &keyspace, &mem, true);
        for _ in 0..2 {
            let durability = if synced { Durability::Synced } else { Durability::System };
            put(&db, &keyspace, count, durability).unwrap();
            count += 1;
        }
        let before = edits(&mem).len();
        while !synced && edits(&mem).len() == before {
            db.step().unwrap();
        }
        // The edit that named it goes.
        let at = usize::try_from(edits(&mem).pop().unwrap()).unwrap();
        let path = Path::new("/db/MANIFEST");
        let mut bytes = vec![0; at];
        mem.open_read(path).unwrap().read_exact_at(&mut bytes, 0).unwrap();
        let damaged = mem.snapshot();
        damaged.remove_file(path).unwrap();
        damaged.create_new(path).unwrap().write_all_at(&bytes, 0).unwrap();
        let opened = |mode| builder(Arc::new(damaged.snapshot())).recovery(mode).open();
        if synced {
            // Something in it was durable, and known to be: whatever else the manifest has forgotten, nobody may pass over it.
            let error = opened(RecoveryMode::Tail).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corruption, "{error}");
            assert!(opened(RecoveryMode::Salvage).unwrap().recovery_report().is_lossy);
        } else {
            let db = opened(RecoveryMode::Tail).unwrap();
            assert_eq!(prefix(&db.keyspace("k", KeyspaceOptions::sorted()).unwrap()), count);
            assert_eq!(opened(RecoveryMode::Strict).unwrap_err().kind(), ErrorKind::Corruption);
        }
    }
}

/// What is left of commits that were not even handed to the system when something fails that has nothing to do with the log: `before` is told how to go on.
fn after_another_failure(is_turned: bool, go_on: impl FnOnce(Db, &MemFs, usize, Keyspace)) {
    let mem = MemFs::new();
    let fs = FaultFs::new(Arc::new(mem.clone()));
    let (db, keyspace) = open(Arc::new(fs.clone())).unwrap();
    let mut count = if is_turned { turn(&db, &keyspace, &mem, true) } else { 0 };
    for _ in 0..5 {
        put(&db, &keyspace, count, Durability::Process).unwrap();
        count += 1;
    }
    fs.inject(Fault::once(FaultCall::Sync, 1, FaultEffect::Error));
    db.keyspace("other", KeyspaceOptions::sorted()).unwrap_err();
    go_on(db, &mem, count, keyspace);
}

#[test]
fn what_waits_to_be_written_in_a_turn_survives_another_failure_and_reopening() {
    for is_turned in [false, true] {
        after_another_failure(is_turned, |db, _, count, keyspace| {
            let report = db.reopen().unwrap();
            assert!(!report.is_lossy);
            assert_eq!(prefix(&keyspace), count, "turned: {is_turned}");
            put(&db, &keyspace, count, Durability::Synced).unwrap();
            assert!(db.check().unwrap().is_clean());
        });
    }
}

#[test]
fn closing_in_a_turn_makes_durable_what_it_can_after_another_failure() {
    for is_turned in [false, true] {
        after_another_failure(is_turned, |db, mem, count, keyspace| {
            assert_eq!(db.close().unwrap_err().kind(), ErrorKind::Failed);
            drop(keyspace);
            let cut = mem.crash(CrashPolicy::SyncedOnly, 1);
            for fs in [mem, &cut] {
                let (db, keyspace) = open_mem(fs);
                assert_eq!(prefix(&keyspace), count, "turned: {is_turned}");
                assert!(!db.recovery_report().is_lossy);
            }
        });
    }
}

#[test]
fn repair_leaves_alone_a_database_whose_writer_was_killed_in_a_turn() {
    for is_turned in [false, true] {
        let mem = MemFs::new();
        let (db, keyspace) = open_mem(&mem);
        // Its tables are nobody's yet.
        let mut ingest = db.keyspace("bulk", KeyspaceOptions::sorted()).unwrap().ingest().unwrap();
        for number in 0..2000u32 {
            ingest.put(number.to_be_bytes(), [b'x'; 200]).unwrap();
        }
        let count = if is_turned {
            turn(&db, &keyspace, &mem, true)
        } else {
            put(&db, &keyspace, 0, Durability::System).unwrap();
            1
        };
        // And if the power goes, too.
        for (policy, seed) in
            CrashPolicy::ALL.into_iter().flat_map(|policy| (0..4).map(move |seed| (policy, seed)))
        {
            let left = mem.crash(policy, seed);
            let fs: Arc<dyn FileSystem> = Arc::new(left.clone());
            let report =
                lsm::repair(Path::new("/db"), &lsm::RepairOptions::default().file_system(fs)).unwrap();
            assert!(report.was_sound, "turned: {is_turned}, {policy:?} {seed}: {report:?}");
            let (_db, keyspace) = open_mem(&left);
            let there = prefix(&keyspace);
            assert!(there == count || policy != CrashPolicy::Everything, "{there} of {count}");
        }
    }
}

#[test]
fn repair_makes_durable_the_log_that_it_names() {
    for skipped in [None, Some(lsm::repair::sites::LOGS)] {
        let mem = MemFs::new();
        let (db, keyspace) = open_mem(&mem);
        put(&db, &keyspace, 0, Durability::Synced).unwrap();
        db.flush().unwrap();
        let count = turn(&db, &keyspace, &mem, true);
        let killed = mem.snapshot();
        // Something is to be repaired: the end of a table, whose entries are whole.
        let tables = killed.read_dir(Path::new("/db")).unwrap();
        let table = tables.iter().find(|name| name.extension().is_some_and(|kind| kind == "table")).unwrap();
        let table = &Path::new("/db").join(table.file_name().unwrap());
        let file = killed.open_read(table).unwrap();
        let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
        file.read_exact_at(&mut bytes, 0).unwrap();
        let footer = bytes.len() - 20;
        bytes[footer] ^= 1;
        killed.remove_file(table).unwrap();
        killed.create_new(table).unwrap().write_all_at(&bytes, 0).unwrap();

        let faulty = FaultFs::new(Arc::new(killed.clone()));
        skipped.into_iter().for_each(|site| faulty.skip_syncs(site));
        let options = lsm::RepairOptions::default().file_system(Arc::new(faulty)).verify(false);
        assert!(!lsm::repair("/db", &options).unwrap().was_sound);
        let cut = killed.crash(CrashPolicy::SyncedOnly, 1);
        let found = open(Arc::new(cut)).map(|(_db, keyspace)| prefix(&keyspace));
        assert_eq!(
            found.as_ref().is_ok_and(|found| *found == count),
            skipped.is_none(),
            "{found:?} of {count}"
        );
    }
}
