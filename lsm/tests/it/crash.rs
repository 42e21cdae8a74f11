//! The power is cut after every mutating call of a workload, under every policy of what survives, and inside the recovery too.
//!
//! What must hold each time: the database opens; what was acknowledged as durable is there; what is there is a prefix of history, whole batches over
//! both keyspaces; the check is clean; opening again gives the same; and writing goes on.
//!
//! The negative control: without the sync of any one site some of this must fail. A sync that nobody misses is not needed, or not tested.

use std::sync::Arc;

use lsm::fs::{CrashPolicy, Fault, FaultCall, FaultEffect, FaultFs, FileSystem, MemFs, SyncSite};
use lsm::{Compression, Db, Durability, Keyspace, Progress, Tuning};

use crate::support::{self, Op, Random, State, commit, dump, tiny};

/// A workload as it went: what was promised when.
struct Run {
    /// After each commit that was begun: the state, and how many calls had been made when it was begun.
    history: Vec<(State, u64)>,
    /// When so many calls had been made, history up to this index was durable.
    promises: Vec<(u64, usize)>,
}

impl Run {
    /// What a crash after a call must have left: history between these two indexes.
    fn allowed(&self, calls: u64) -> (usize, usize) {
        let promised = self.promises.iter().take_while(|(at, _)| *at <= calls).last();
        let begun = self.history.iter().rposition(|(_, at)| *at <= calls);
        (promised.map_or(0, |(_, index)| *index), begun.unwrap_or(0))
    }
}

/// What a workload does.
#[derive(Clone, Copy, Debug)]
enum Style {
    Everything,
    /// Sessions that write a little, sync nothing by themselves, and end in order or not.
    Sessions,
}

/// What is done, with which sizes.
type Setup = (Style, Tuning);

/// Everything that a session does: commits of each durability, keyspaces made and dropped on the way, flushes, merges, rotations, clean and unclean ends,
/// sessions that follow.
fn workload(mem: &MemFs, skipped: Option<SyncSite>, (style, tuning): &Setup, seed: u64, steps: usize) -> Run {
    let mut random = Random(seed);
    let mut state = State::default();
    let mut run = Run { history: vec![(state.clone(), 0)], promises: Vec::new() };
    let mut session = with_skipped(mem, skipped);
    let (mut db, mut keyspaces) = open_on(&session, tuning).unwrap();
    for step in 0..steps {
        let act = match style {
            Style::Everything => random.below(19),
            Style::Sessions => [0, 0, 0, 0, 0, 12, 17][random.below(7)],
        };
        match act {
            // One goes, with all that is in it; another of its name has nothing.
            18 => {
                let index = random.below(keyspaces.len());
                state[index].clear();
                run.history.push((state.clone(), mem.calls()));
                support::drop_keyspace(&db, &mut keyspaces, index).unwrap();
                run.promises.push((mem.calls(), run.history.len() - 1));
            }
            0..=10 => {
                let ops: Vec<Op> =
                    (0..1 + random.below(4)).map(|_| random.op(step, keyspaces.len())).collect();
                let durabilities = [Durability::Process, Durability::System, Durability::Synced];
                let durability = match style {
                    Style::Everything => durabilities[random.below(3)],
                    Style::Sessions => durabilities[random.below(2)],
                };
                ops.iter().for_each(|op| op.apply_to(&mut state));
                run.history.push((state.clone(), mem.calls()));
                let before = db.stats().visible;
                let last = commit(&db, &keyspaces, &ops, durability).unwrap();
                if durability == Durability::Synced && last > before {
                    run.promises.push((mem.calls(), run.history.len() - 1));
                }
            }
            // A keyspace that is made when others have been flushed, and rotated, for long.
            15..=16 => {
                support::make_keyspace(&db, &mut keyspaces).unwrap();
                let op = Op::Put(keyspaces.len() - 1, random.key(), format!("made {step}").into_bytes());
                op.apply_to(&mut state);
                run.history.push((state.clone(), mem.calls()));
                commit(&db, &keyspaces, &[op], Durability::Synced).unwrap();
                run.promises.push((mem.calls(), run.history.len() - 1));
            }
            11 => {
                db.sync().unwrap();
                run.promises.push((mem.calls(), run.history.len() - 1));
            }
            12 => {
                db.flush().unwrap();
                run.promises.push((mem.calls(), run.history.len() - 1));
            }
            13..=14 => {
                for _ in 0..random.below(30) {
                    if db.step().unwrap() == Progress::Idle {
                        break;
                    }
                }
            }
            _ => {
                drop(keyspaces);
                if random.below(2) == 0 {
                    db.close().unwrap();
                    run.promises.push((mem.calls(), run.history.len() - 1));
                } else {
                    // As if the process were killed: nothing more is written, the lock goes.
                    for call in [FaultCall::Write, FaultCall::Create, FaultCall::Remove] {
                        session.inject(Fault::sticky(call, 1, FaultEffect::Error));
                    }
                    drop(db);
                }
                session = with_skipped(mem, skipped);
                (db, keyspaces) = open_on(&session, tuning).unwrap();
                let found = dump(&keyspaces).unwrap();
                // What was killed before it was written is no part of history.
                let survived = run.history.iter().rposition(|(state, _)| *state == found).unwrap();
                state = found;
                run.history.push((state.clone(), run.history[survived].1));
                run.promises.push((mem.calls(), run.history.len() - 1));
            }
        }
    }
    run
}

/// Opens what a crash left and compares; `Err` says what is wrong.
fn examine(
    mem: &MemFs,
    skipped: Option<SyncSite>,
    tuning: &Tuning,
    run: &Run,
    calls: u64,
    thoroughly: bool,
) -> Result<(), String> {
    let fs = with_skipped(mem, skipped);
    let (db, keyspaces) = open_on(&fs, tuning).map_err(|error| format!("does not open: {error}"))?;
    let found = dump(&keyspaces).map_err(|error| format!("cannot be read: {error}"))?;
    let (at_least, at_most) = run.allowed(calls);
    let survived = run.history.iter().take(at_most + 1).rposition(|(state, _)| *state == found);
    match survived {
        None => return Err(format!("holds what never was: {found:?}")),
        Some(survived) if survived < at_least => {
            return Err(format!("state {survived} survived, {at_least} was acknowledged"));
        }
        Some(_) => {}
    }
    let report = db.check().map_err(|error| format!("cannot be checked: {error}"))?;
    if !report.is_clean() {
        return Err(format!("is not sound: {report:?}"));
    }
    if !thoroughly {
        return Ok(());
    }
    // Whatever is seen once stays: a second crash right behind, that takes all that is not durable.
    let again = mem.crash(CrashPolicy::SyncedOnly, calls);
    let again_fs = with_skipped(&again, skipped);
    let (_, after) = open_on(&again_fs, tuning).map_err(|error| format!("does not open again: {error}"))?;
    if dump(&after).map_err(|error| error.to_string())? != found {
        return Err("another opening shows something else".to_owned());
    }
    // And it goes on.
    let op = Op::Put(0, b"behind".to_vec(), b"the crash".to_vec());
    commit(&db, &keyspaces, std::slice::from_ref(&op), Durability::Synced)
        .map_err(|error| format!("takes no writes: {error}"))?;
    let mut expected = found;
    op.apply_to(&mut expected);
    let last = with_skipped(&mem.crash(CrashPolicy::SyncedOnly, calls), skipped);
    let (db, keyspaces) =
        open_on(&last, tuning).map_err(|error| format!("does not open a third time: {error}"))?;
    if dump(&keyspaces).map_err(|error| error.to_string())? != expected {
        return Err("a commit behind the crash is lost".to_owned());
    }
    db.flush().map_err(|error| format!("does not flush: {error}"))?;
    Ok(())
}

fn with_skipped(mem: &MemFs, skipped: Option<SyncSite>) -> FaultFs {
    let fs = FaultFs::new(Arc::new(mem.clone()));
    if let Some(site) = skipped {
        fs.skip_syncs(site);
    }
    fs
}

fn open_on(fs: &FaultFs, tuning: &Tuning) -> lsm::Result<(Db, Vec<Keyspace>)> {
    let fs: Arc<dyn FileSystem> = Arc::new(fs.clone());
    support::open(&fs, tuning)
}

/// Cuts the power everywhere; the first thing that goes wrong, if any. Returns how many crashes there were.
fn drive(setup: &Setup, seed: u64, steps: usize, skipped: Option<SyncSite>) -> Result<usize, String> {
    let (_, tuning) = setup;
    let mem = MemFs::new();
    mem.record_snapshots();
    let run = workload(&mem, skipped, setup, seed, steps);
    let snapshots = mem.take_snapshots();
    let mut crashes = 0;
    let mut random = Random(seed ^ 0x55);
    for snapshot in &snapshots {
        let number = snapshot.call.number;
        // The two ends each time; of what lies between, one after the other (all of them in a long run).
        let between = CrashPolicy::ALL[2 + random.below(CrashPolicy::ALL.len() - 2)];
        let policies = match is_long() {
            true => CrashPolicy::ALL.to_vec(),
            false => vec![CrashPolicy::SyncedOnly, CrashPolicy::Everything, between],
        };
        for policy in policies {
            let place = |error: String| format!("seed {seed}, {policy:?}, after {}: {error}", snapshot.call);
            let crashed = snapshot.fs.crash(policy, number);
            // Inside the recovery too, now and then.
            if random.below(12) == 0 {
                crashed.record_snapshots();
                let opened = open_on(&with_skipped(&crashed, skipped), tuning);
                drop(opened.map_err(|error| place(format!("does not open: {error}")))?);
                let inside = crashed.take_snapshots();
                if !inside.is_empty() {
                    let at = &inside[random.below(inside.len())];
                    let policy = CrashPolicy::ALL[random.below(CrashPolicy::ALL.len())];
                    crashes += 1;
                    examine(&at.fs.crash(policy, number), skipped, tuning, &run, number, true).map_err(
                        |error| place(format!("and in its recovery, {policy:?}, after {}: {error}", at.call)),
                    )?;
                }
                continue;
            }
            crashes += 1;
            let thoroughly = random.below(4) == 0;
            examine(&crashed, skipped, tuning, &run, number, thoroughly).map_err(place)?;
        }
    }
    Ok(crashes)
}

fn setups() -> [Setup; 3] {
    let mut every_commit = tiny(1);
    every_commit.frozen_max = 1;
    // A few commits a generation.
    let mut some = tiny(4000);
    (some.compression, some.shallow_compression) = (Compression::None, Compression::None);
    // Logs that are longer than a sector when they end, and blocks that are worth compressing.
    let mut many = tiny(4000);
    many.block_bytes = 1000;
    [(Style::Everything, some), (Style::Everything, every_commit), (Style::Sessions, many)]
}

/// `LSM_CRASH_SEEDS` makes a long run: so many workloads, each crashed under all policies.
fn long_seeds() -> Option<u64> {
    std::env::var("LSM_CRASH_SEEDS").ok().and_then(|seeds| seeds.parse().ok())
}

fn is_long() -> bool {
    long_seeds().is_some()
}

#[test]
fn no_crash_loses_what_was_acknowledged() {
    let mut crashes = 0;
    for seed in 0..long_seeds().unwrap_or(1) {
        for setup in setups() {
            crashes += drive(&setup, seed, 40, None).unwrap_or_else(|error| panic!("{error}"));
        }
    }
    assert!(crashes > 500, "{crashes} crashes: the workload does nothing");
}

#[test]
fn without_any_one_sync_a_crash_is_noticed() {
    let sites = [
        &lsm::journal::sites::ALL[..],
        &lsm::manifest::sites::ALL,
        &lsm::sites::ALL,
        &[SyncSite::new("table-contents")],
    ]
    .concat();
    // What is set aside is evidence, nothing that the database needs: the journal's own tests look for it.
    let evidence = [
        lsm::journal::sites::SET_ASIDE,
        lsm::journal::sites::SET_ASIDE_DIRECTORY,
        lsm::sites::LOST,
        // A journal without a database removes its logs in order; a database's are removed behind the manifest.
        lsm::journal::sites::REMOVE_DIRECTORY,
    ];
    let mut unmissed = Vec::new();
    for site in sites.into_iter().filter(|site| !evidence.contains(site)) {
        let mut noticed = None;
        'search: for seed in 0..24 {
            for setup in setups() {
                if let Err(error) = drive_quietly(&setup, seed, site) {
                    noticed = Some(error);
                    break 'search;
                }
            }
        }
        match noticed {
            Some(error) => println!("without {site}: {}", error.chars().take(300).collect::<String>()),
            None => unmissed.push(site),
        }
    }
    assert!(unmissed.is_empty(), "nobody misses the syncs of {unmissed:?}");
}

/// A workload may notice by itself (a reopening in its middle), and panic.
fn drive_quietly(setup: &Setup, seed: u64, site: SyncSite) -> Result<usize, String> {
    let setup = setup.clone();
    let run = std::panic::catch_unwind(move || drive(&setup, seed, 40, Some(site)));
    run.unwrap_or_else(|_| Err("the workload itself fails".to_owned()))
}

/// The process is killed, and the page cache lives; another session does little or nothing, and then the power goes, behind it or within: what
/// the killed process had written and not synced must not have been built upon. Returns how many cases there were.
fn drive_killed(setup: &Setup, seed: u64, steps: usize) -> Result<usize, String> {
    let (_, tuning) = setup;
    let mem = MemFs::new();
    mem.record_snapshots();
    let run = workload(&mem, None, setup, seed, steps);
    let mut random = Random(seed ^ 0x77);
    let mut cases = 0;
    for snapshot in mem.take_snapshots() {
        let number = snapshot.call.number;
        let killed = snapshot.fs.snapshot();
        killed.record_snapshots();
        let session = ["reads", "flushes", "compacts"][random.below(3)];
        let place = |error: String| {
            format!("seed {seed}, killed after {}, a session that {session}: {error}", snapshot.call)
        };
        run_session(&killed, tuning, session).map_err(|error| place(error.to_string()))?;
        let mut moments = killed.take_snapshots();
        if moments.is_empty() {
            moments.push(lsm::fs::Snapshot { call: snapshot.call.clone(), fs: killed.snapshot() });
        }
        for choice in 0..3 {
            let at = match choice {
                0 => moments.len() - 1,
                _ => random.below(moments.len()),
            };
            let policy = CrashPolicy::ALL[random.below(CrashPolicy::ALL.len())];
            cases += 1;
            let place = |error| place(format!("{policy:?}, after {}: {error}", moments[at].call));
            examine(&moments[at].fs.crash(policy, number), None, tuning, &run, number, false)
                .map_err(place)?;
        }
    }
    Ok(cases)
}

fn run_session(mem: &MemFs, tuning: &Tuning, what: &str) -> lsm::Result<()> {
    let (db, keyspaces) = open_on(&with_skipped(mem, None), tuning)?;
    match what {
        "flushes" => db.flush()?,
        "compacts" => db.compact()?,
        _ => drop(dump(&keyspaces)?),
    }
    drop(keyspaces);
    db.close()
}

#[test]
fn nothing_is_built_upon_what_a_killed_process_had_only_written() {
    let mut cases = 0;
    for seed in 0..long_seeds().unwrap_or(3) {
        for setup in setups() {
            cases += drive_killed(&setup, seed, 40).unwrap_or_else(|error| panic!("{error}"));
        }
    }
    assert!(cases > 1000, "{cases} cases: the workload does nothing");
}

#[test]
fn a_crash_while_the_first_manifest_is_made_leaves_nothing_or_a_database() {
    let mem = MemFs::new();
    mem.record_snapshots();
    let fs: Arc<dyn FileSystem> = Arc::new(mem.clone());
    drop(support::open(&fs, &tiny(600)).unwrap());
    for snapshot in mem.take_snapshots() {
        for policy in CrashPolicy::ALL {
            let fs: Arc<dyn FileSystem> = Arc::new(snapshot.fs.crash(policy, 1));
            let (_, keyspaces) = support::open(&fs, &tiny(600))
                .unwrap_or_else(|error| panic!("{policy:?}, after {}: {error}", snapshot.call));
            assert_eq!(dump(&keyspaces).unwrap(), State::default());
        }
    }
}

#[test]
fn a_session_that_writes_nothing_removes_nothing() {
    let mem = MemFs::new();
    let (db, keyspaces) = open_on(&with_skipped(&mem, None), &tiny(400)).unwrap();
    commit(&db, &keyspaces, &[Op::Put(0, b"k".to_vec(), b"v".to_vec())], Durability::Synced).unwrap();
    mem.record_snapshots();
    db.flush().unwrap();
    // Killed between the write of the flush's edit and its sync: the edit is there to be read, and not on the disk.
    let snapshots = mem.take_snapshots();
    let wrote_edit = |snapshot: &&lsm::fs::Snapshot| {
        snapshot.call.what.starts_with("write")
            && snapshot.call.path.to_string_lossy().starts_with("/db/MANIFEST")
    };
    let killed = &snapshots.iter().rev().find(wrote_edit).unwrap().fs;
    let (db, keyspaces) = open_on(&with_skipped(killed, None), &tiny(400)).unwrap();
    assert_eq!(dump(&keyspaces).unwrap()[0].len(), 1);
    drop(keyspaces);
    db.close().unwrap();
    for policy in CrashPolicy::ALL {
        let fs: Arc<dyn FileSystem> = Arc::new(killed.crash(policy, 1));
        let (_db, keyspaces) =
            support::open(&fs, &tiny(400)).unwrap_or_else(|error| panic!("{policy:?}: {error}"));
        assert_eq!(dump(&keyspaces).unwrap()[0].len(), 1, "{policy:?}: what was synced is there");
    }
}
