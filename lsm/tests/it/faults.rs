//! The n-th call to the file system fails, for every n over a workload that does everything once: nothing panics, nothing that was acknowledged
//! is lost, what is read is right or an error.

use std::sync::Arc;

use lsm::fs::{CrashPolicy, Fault, FaultCall, FaultEffect, FaultFs, FileSystem, MemFs};
use lsm::{Db, Durability, ErrorKind, Keyspace, Progress};

use crate::support::{self, Op, Random, State, commit, dump, tiny};

/// A memtable's first node, or its first rows, are some hundred bytes: with this a generation has several commits, and there are several generations.
const WRITE_BUFFER_BYTES: usize = 4000;

/// What the workload was promised until it could not go on.
#[derive(Default)]
struct Promised {
    /// States of all commits that were begun, in order, the empty one first.
    history: Vec<State>,
    /// History up to here survives a kill, and a power loss.
    written: usize,
    durable: usize,
    /// Errors that were seen.
    errors: Vec<lsm::Error>,
}

fn open(fs: &FaultFs) -> lsm::Result<(Db, Vec<Keyspace>)> {
    let fs: Arc<dyn FileSystem> = Arc::new(fs.clone());
    support::open(&fs, &tiny(WRITE_BUFFER_BYTES))
}

/// Two sessions; after an error it goes on with what still works.
fn workload(fs: &FaultFs) -> Promised {
    let mut promised = Promised { history: vec![State::default()], ..Promised::default() };
    let mut random = Random(11);
    for session in 0..2 {
        let (db, mut keyspaces) = match open(fs) {
            Ok(opened) => opened,
            Err(error) => {
                promised.errors.push(error);
                return promised;
            }
        };
        let mut state = promised.history.last().unwrap().clone();
        match dump(&keyspaces) {
            // What was not acknowledged may be there or not; history goes on from what is.
            Ok(found) => {
                assert!(promised.history.iter().skip(promised.written).any(|state| *state == found));
                state = found;
                promised.history.push(state.clone());
            }
            Err(error) => promised.errors.push(error),
        }
        let mut failed = false;
        for step in 0..18 {
            let result = match step % 12 {
                5 => db.flush().map(|()| Some(Durability::Synced)),
                8 => db.step().map(|_| None),
                10 => {
                    let dropped = support::drop_keyspace(&db, &mut keyspaces, 1);
                    // It may have been dropped, and not been made again.
                    if dropped.is_ok()
                        || !db.keyspace_names().iter().any(|name| name == support::KEYSPACES[1])
                    {
                        state[1].clear();
                    }
                    let mut next = promised.history.last().unwrap().clone();
                    next[1].clear();
                    promised.history.push(next);
                    dropped.map(|()| Some(Durability::Synced))
                }
                9 => db.compact().map(|()| Some(Durability::Synced)),
                11 => db.sync().map(|()| Some(Durability::Synced)),
                _ => {
                    let durability =
                        [Durability::Process, Durability::System, Durability::Synced][random.below(3)];
                    let ops: Vec<Op> = (0..1 + random.below(4))
                        .map(|_| random.op(session * 100 + step, keyspaces.len()))
                        .collect();
                    let mut next = state.clone();
                    ops.iter().for_each(|op| op.apply_to(&mut next));
                    let before = db.stats().visible;
                    let result = commit(&db, &keyspaces, &ops, durability);
                    if db.stats().visible > before || result.is_ok() {
                        // Visible, even if its acknowledgement failed.
                        state = next.clone();
                    }
                    promised.history.push(next);
                    if result.is_err() && db.stats().failure.is_none() {
                        // Refused, because it could not be taken apart: it never was.
                        promised.history.push(state.clone());
                    }
                    result.map(|last| (last > before).then_some(durability))
                }
            };
            let last = promised.history.len() - 1;
            match result {
                Ok(Some(Durability::Synced)) => (promised.written, promised.durable) = (last, last),
                Ok(Some(Durability::System)) => promised.written = last,
                Ok(_) => {}
                Err(error) => {
                    failed |= db.stats().failure.is_some();
                    assert!(!failed || db.stats().failure.is_some());
                    promised.errors.push(error);
                }
            }
            if failed {
                // What a failed sync was to persist is gone from the cache too: it promises no more than the last good one.
                promised.written = promised.durable;
                // Nothing is acknowledged any more.
                let error = keyspaces[0].put("after", "failure").unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Failed, "{error}");
            }
            match dump(&keyspaces) {
                Ok(found) => assert_eq!(found, state, "session {session}, step {step}"),
                Err(error) => promised.errors.push(error),
            }
        }
        drop(keyspaces);
        match db.close() {
            Ok(()) => {
                assert!(!failed, "closing after a failure says so");
                let last = promised.history.len() - 1;
                (promised.written, promised.durable) = (last, last);
            }
            Err(error) => {
                promised.written = promised.durable;
                promised.errors.push(error);
            }
        }
    }
    promised
}

/// What a disk must hold.
fn examine(mem: MemFs, at_least: usize, promised: &Promised, place: &str) {
    let fs: Arc<dyn FileSystem> = Arc::new(mem);
    let (db, keyspaces) =
        support::open(&fs, &tiny(WRITE_BUFFER_BYTES)).unwrap_or_else(|error| panic!("{place}: {error}"));
    let found = dump(&keyspaces).unwrap_or_else(|error| panic!("{place}: {error}"));
    let survived = promised.history.iter().rposition(|state| *state == found);
    let Some(survived) = survived else { panic!("{place}: holds what never was: {found:?}") };
    assert!(survived >= at_least, "{place}: state {survived} survived, {at_least} was acknowledged");
    let report = db.check().unwrap();
    assert!(report.is_clean(), "{place}: {report:?}");
}

#[test]
fn a_generation_has_several_commits_and_there_are_several() {
    let fs: Arc<dyn FileSystem> = Arc::new(MemFs::new());
    let (db, keyspaces) = support::open(&fs, &tiny(WRITE_BUFFER_BYTES)).unwrap();
    let mut random = Random(11);
    for step in 0..200 {
        let ops: Vec<Op> = (0..1 + random.below(4)).map(|_| random.op(step, keyspaces.len())).collect();
        commit(&db, &keyspaces, &ops, Durability::Process).unwrap();
        while db.step().unwrap() == Progress::Working {}
    }
    let stats = db.stats();
    assert!(stats.flushes >= 5 && stats.commits >= 3 * stats.flushes, "{stats:?}");
}

fn every_call_fails(effect: FaultEffect, sticky: bool) {
    let mut fired = 0;
    for call in FaultCall::ALL {
        for nth in 1.. {
            let mem = MemFs::new();
            let fs = FaultFs::new(Arc::new(mem.clone()));
            fs.inject(Fault { call, path: None, nth, sticky, effect });
            let promised = workload(&fs);
            if fs.fired() == 0 {
                assert_eq!(promised.errors.len(), 0, "{:?}", promised.errors);
                break;
            }
            fired += 1;
            let place = format!("{call:?} number {nth}, {effect:?}, sticky: {sticky}");
            examine(mem.snapshot(), promised.written, &promised, &format!("{place}, killed"));
            let crashed = mem.crash(CrashPolicy::SyncedOnly, nth);
            examine(crashed, promised.durable, &promised, &format!("{place}, power cut"));
        }
    }
    assert!(fired > 200, "{fired} faults: the workload does nothing");
}

#[test]
fn an_error_once_loses_nothing_acknowledged() {
    every_call_fails(FaultEffect::Error, false);
}

#[test]
fn errors_from_then_on_lose_nothing_acknowledged() {
    every_call_fails(FaultEffect::NoSpace, true);
}

#[test]
fn a_torn_write_loses_nothing_acknowledged() {
    let calls = [FaultCall::Write];
    for call in calls {
        for nth in 1.. {
            let mem = MemFs::new();
            let fs = FaultFs::new(Arc::new(mem.clone()));
            fs.inject(Fault::once(call, nth, FaultEffect::Torn(7)));
            let promised = workload(&fs);
            if fs.fired() == 0 {
                break;
            }
            examine(mem.snapshot(), promised.written, &promised, &format!("write {nth} torn"));
        }
    }
}

#[test]
fn what_is_short_or_interrupted_is_gone_on_with() {
    for effect in [FaultEffect::Interrupted, FaultEffect::Short(3)] {
        for call in [FaultCall::Read, FaultCall::Write] {
            let mem = MemFs::new();
            let fs = FaultFs::new(Arc::new(mem.clone()));
            for nth in [1, 5, 20, 60] {
                fs.inject(Fault::once(call, nth, effect));
            }
            let promised = workload(&fs);
            assert!(promised.errors.is_empty(), "{:?}", promised.errors);
            examine(mem, promised.history.len() - 1, &promised, &format!("{call:?} {effect:?}"));
        }
    }
}
