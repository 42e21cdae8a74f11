//! The power is cut after every mutating call, under every policy, also while recovering from such a cut.

use std::path::PathBuf;

use super::*;
use crate::fs::{CrashPolicy, FaultFs};

/// What the program was promised, and when (in mutating calls).
#[derive(Default)]
struct Witness {
    epochs: Vec<Epoch>,
    /// After this call, everything up to this sequence number is durable.
    durable: Vec<(u64, SequenceNumber)>,
    /// From this call on, everything up to this sequence number may be gone.
    removed: Vec<(u64, SequenceNumber)>,
    calls: u64,
}

/// From one opening to the next.
struct Epoch {
    /// When the opening returned.
    from: u64,
    /// What was there then: visible, and so durable.
    base: SequenceNumber,
    /// All batches, those appended later in the epoch too.
    batches: Batches,
}

struct Machine {
    mem: MemFs,
    without: Option<SyncSite>,
}

impl Machine {
    fn fs(&self) -> Arc<dyn FileSystem> {
        let fs = FaultFs::new(Arc::new(self.mem.clone()));
        if let Some(site) = self.without {
            fs.skip_syncs(site);
        }
        Arc::new(fs)
    }

    fn open(&self, witness: &mut Witness) -> Result<TypedJournal<Vec<u8>>, String> {
        let options = JournalOptions { zero_ahead_bytes_max: 2048, ..JournalOptions::default() };
        let (journal, _, batches) = open_with(self.fs(), options, RecoveryMode::Tail)
            .map_err(|error| format!("open again: {error}"))?;
        let base = batches.last().map_or(0, |(sequence, _)| *sequence);
        witness.epochs.push(Epoch { from: self.mem.calls(), base, batches });
        Ok(journal)
    }
}

/// A program of appends, syncs, rotations, kills and openings.
fn run(machine: &Machine, seed: u64, steps: usize) -> Result<Witness, String> {
    let mut random = Random(seed);
    let mut witness = Witness::default();
    let mut journal = machine.open(&mut witness)?;
    let durable = |witness: &mut Witness| {
        let last = witness.epochs.last().unwrap().batches.last().map_or(0, |(sequence, _)| *sequence);
        witness.durable.push((machine.mem.calls(), last));
    };
    for step in 0..steps {
        match random.below(16) {
            kind @ 0..=8 => {
                let durability = [Durability::Process, Durability::System, Durability::Synced][kind % 3];
                let payload = vec![u8::try_from(step % 251).unwrap(); random.below(1200)];
                let sequence = journal.append(&payload, durability).map_err(|error| error.to_string())?;
                witness.epochs.last_mut().unwrap().batches.push((sequence, payload));
                if durability == Durability::Synced {
                    durable(&mut witness);
                }
            }
            9 => {
                journal.sync().map_err(|error| error.to_string())?;
                durable(&mut witness);
            }
            10 => journal.mark().map_err(|error| error.to_string())?,
            11 | 12 => {
                journal.rotate().map_err(|error| error.to_string())?;
                durable(&mut witness);
            }
            13 => {
                let batches = &witness.epochs.last().unwrap().batches;
                let through =
                    batches.get(random.below(batches.len() + 1)).map_or(0, |(sequence, _)| *sequence);
                witness.removed.push((machine.mem.calls(), through));
                journal.remove_through(through).map_err(|error| error.to_string())?;
            }
            14 => {
                journal.close().map_err(|error| error.to_string())?;
                durable(&mut witness);
                journal = machine.open(&mut witness)?;
            }
            _ => {
                drop(journal);
                journal = machine.open(&mut witness)?;
            }
        }
    }
    witness.calls = machine.mem.calls();
    Ok(witness)
}

impl Witness {
    /// Whether `found` is what a crash after this call may leave.
    fn judge(&self, call: u64, found: &Batches) -> Result<(), String> {
        let epoch = self.epochs.iter().rfind(|epoch| epoch.from <= call);
        let Some(epoch) = epoch else {
            return if found.is_empty() { Ok(()) } else { Err("batches before the first".to_owned()) };
        };
        let durable = self.durable.iter().filter(|(when, _)| *when <= call).map(|(_, sequence)| *sequence);
        let durable = durable.max().unwrap_or(0).max(epoch.base);
        let removed = self.removed.iter().filter(|(when, _)| *when <= call).map(|(_, sequence)| *sequence);
        let removed = removed.max().unwrap_or(0);
        // One stretch of history, without a gap.
        let start = match found.first() {
            Some(first) => epoch
                .batches
                .iter()
                .position(|batch| batch == first)
                .ok_or_else(|| format!("batch {} was never there", first.0))?,
            None => epoch.batches.iter().filter(|(sequence, _)| *sequence <= removed).count(),
        };
        if !epoch.batches[start..].starts_with(found) {
            return Err("not a prefix of what was written".to_owned());
        }
        if let Some((lost, _)) = epoch.batches[..start].iter().find(|(sequence, _)| *sequence > removed) {
            return Err(format!("batch {lost} is gone from the front"));
        }
        let behind = epoch.batches[start + found.len()..].iter().map(|(sequence, _)| *sequence);
        match behind.into_iter().find(|sequence| *sequence <= durable && *sequence > removed) {
            Some(lost) => Err(format!("batch {lost} was durable (up to {durable}) and is gone")),
            None => Ok(()),
        }
    }
}

/// Cuts the power everywhere; the first broken promise is the error.
fn sweep(without: Option<SyncSite>, seed: u64, steps: usize) -> Result<u64, String> {
    let machine = Machine { mem: MemFs::new(), without };
    machine.mem.record_snapshots();
    let witness = run(&machine, seed, steps)?;
    let mut states = 0;
    for snapshot in machine.mem.take_snapshots() {
        for (index, policy) in CrashPolicy::ALL.into_iter().enumerate() {
            let context = |stage: &str, what: String| {
                format!("seed {seed}, {}, then {policy:?}, {stage}: {what}", snapshot.call)
            };
            let crash_seed = seed ^ (snapshot.call.number << 8) ^ index as u64;
            let after = Machine { mem: snapshot.fs.crash(policy, crash_seed), without };
            after.mem.record_snapshots();
            states += 1;
            let (journal, recovery, found) =
                open(after.fs()).map_err(|error| context("open", error.to_string()))?;
            witness.judge(snapshot.call.number, &found).map_err(|what| context("recovered", what))?;
            let aside = set_aside_files(&after.mem, &recovery)?;

            // Again, at some of the moments of the recovery itself.
            let moments = after.mem.take_snapshots();
            for moment in moments.iter().filter(|moment| (moment.call.number + snapshot.call.number) % 3 == 0)
            {
                for policy in [CrashPolicy::SyncedOnly, CrashPolicy::Scattered, CrashPolicy::Everything] {
                    let twice = Machine { mem: moment.fs.crash(policy, crash_seed), without };
                    states += 1;
                    let (_, _, found) = open(twice.fs()).map_err(|error| {
                        context(&format!("{}, {policy:?}", moment.call), error.to_string())
                    })?;
                    witness
                        .judge(snapshot.call.number, &found)
                        .map_err(|what| context(&format!("{}, {policy:?}", moment.call), what))?;
                }
            }

            // What recovery showed is durable, and what it set aside; and one can go on.
            let shown = after.mem.crash(CrashPolicy::SyncedOnly, 0);
            for (path, bytes) in &aside {
                if contents(&shown, path).as_ref() != Some(bytes) {
                    return Err(context("set aside", format!("{} is not durable", path.display())));
                }
            }
            let next = b"next".to_vec();
            let sequence = journal.append(&next, Durability::Synced).map_err(|error| error.to_string())?;
            let last = Machine { mem: after.mem.crash(CrashPolicy::SyncedOnly, 0), without };
            let (_, _, again) =
                open(last.fs()).map_err(|error| context("open after that", error.to_string()))?;
            let mut expected = found;
            expected.push((sequence, next));
            if again != expected {
                return Err(context(
                    "after that",
                    "what was recovered, and one batch more, are not there".to_owned(),
                ));
            }
        }
    }
    Ok(states)
}

/// What was set aside, checked against the log that it was cut from.
fn set_aside_files(mem: &MemFs, recovery: &JournalRecovery) -> Result<Vec<(PathBuf, Vec<u8>)>, String> {
    let mut files = Vec::new();
    for log in &recovery.logs {
        let Some(path) = &log.set_aside else { continue };
        let whole = contents(mem, &log.path).unwrap();
        let (from, to) = (usize::try_from(log.end).unwrap(), usize::try_from(log.cut_end).unwrap());
        let cut = whole[from..to].to_vec();
        if contents(mem, path).as_ref() != Some(&cut) {
            return Err(format!("{} does not hold what was cut", path.display()));
        }
        files.push((path.clone(), cut));
    }
    Ok(files)
}

#[test]
fn no_power_cut_breaks_a_promise() {
    let mut states = 0;
    for seed in 0..6 {
        states += sweep(None, seed, 40).unwrap();
    }
    assert!(states > 5_000, "{states} states are too few");
}

/// The negative control: without the sync of any one site, a crash breaks a promise.
#[test]
fn every_sync_is_needed() {
    for site in sites::ALL {
        let broken = (0..40).find_map(|seed| sweep(Some(site), seed, 30).err());
        assert!(broken.is_some(), "nobody misses the sync of {site}: it is not tested, or not needed");
    }
}

#[test]
fn the_sweep_covers_cuts_kills_removals_and_tails_set_aside() {
    let machine = Machine { mem: MemFs::new(), without: None };
    let witness = run(&machine, 1, 200).unwrap();
    assert!(witness.epochs.len() > 10 && witness.removed.len() > 5 && witness.durable.len() > 50);
}
