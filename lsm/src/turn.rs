//! From one log to the next while writers go on: what is to be durable for that becomes so behind them.
//!
//! A writer that finds the memtables full, or whoever flushes or begins to load beside writers, *seals* the log, which hands all of it to the system, and begins the next one, whose file was mostly made ahead (`ahead.rs`).
//! Its first record says where the sealed one ends. Writers go on there; nobody has waited for the disk. What remains is *settled* by the thread that flushes, or by
//! whoever cannot go on without:
//!
//! 1. the sealed log becomes durable, as far as it counts;
//! 2. then the first record of the next one, and its name, if it was not made ahead;
//! 3. then one edit says where the sealed log ends, and names the next.
//!
//! Until then nothing in the next log may count as durable, and no record in it says so: who asks for that settles first. So recovery can tell a log that is not
//! named *yet* from one that was forgotten (`forgotten.rs`): if the sealed one is whole, nothing is missing between the two, and the next one counts; if not,
//! the power was lost, and the next one held nothing that anybody was promised to find.
//!
//! Nothing is flushed, nor another log begun, before it is settled: there is never more than one log without a name.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::engine::Engine;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::filename::FileNumber;
use crate::journal::{Cut, FIRST_RECORD_END, Journal, LogEnd, PreparedLog, Start, sites};
use crate::key::SequenceNumber;
use crate::levels::{Change, Edit};
use crate::write::CommitState;

/// Two logs, and between them what is not settled yet.
#[derive(Debug)]
pub(crate) struct Turn {
    /// Sealed.
    pub(crate) from: Arc<Journal>,
    /// Where it ends.
    pub(crate) end: LogEnd,
    /// The last number before the next log: those behind the last batch of the sealed one are in no record.
    through: SequenceNumber,
    /// Whether the name of the next log's file is durable.
    has_name: bool,
    /// In use, and not named.
    pub(crate) to: Arc<Journal>,
    /// Whether it could not be settled.
    has_failed: bool,
}

impl Turn {
    /// What names the next log, and says where the sealed one ends.
    pub(crate) fn changes(&self) -> Vec<Change> {
        vec![
            Change::LogCut { number: self.end.number, cut: self.end.cut() },
            Change::LogAdded { number: self.to.number(), identity: self.to.identity() },
        ]
    }
}

impl Engine {
    /// Seals the open log, and begins the next one: that which was made ahead, if there is one. `None` where no log is open: the first commit makes it.
    pub(crate) fn turn(&self, state: &CommitState) -> Result<Option<Arc<Journal>>> {
        let Some(from) = &state.journal else { return Ok(None) };
        self.settle_turn()?;
        let mut turning = self.turning.lock();
        // Held until there is one: numbers of logs ascend.
        let mut next_log = self.next_log.lock();
        let has_name = next_log.is_some();
        let prepared = match next_log.take() {
            Some(prepared) => prepared,
            None => self.make_log().map_err(|error| self.fail(error))?,
        };
        drop(next_log);
        let end = from.seal().map_err(|error| self.fail(error))?;
        let start = Start {
            number: prepared.number(),
            identity: prepared.identity(),
            database: self.database,
            previous: Some(end),
            next_sequence: state.next_sequence,
        };
        let begun = prepared.begin_unsynced(start, self.tuning.journal.options());
        let to = Arc::new(begun.map_err(|error| self.fail(error))?);
        *turning = Some(Turn {
            from: Arc::clone(from),
            end,
            through: state.next_sequence - 1,
            has_name,
            to: Arc::clone(&to),
            has_failed: false,
        });
        self.is_turning.store(true, Ordering::Release);
        Ok(Some(to))
    }

    /// Whether a log is in use that is not named.
    pub(crate) fn is_turning(&self) -> bool {
        self.is_turning.load(Ordering::Acquire)
    }

    /// The log that is in use and not named. The caller holds `commit`.
    pub(crate) fn unnamed_log(&self, _commit: &CommitState) -> Option<FileNumber> {
        self.turning.lock().as_ref().map(|turn| turn.to.number())
    }

    /// Returns when what is left of a turn is done, if there was one: then the sealed log is durable, and the next one is named, durably.
    ///
    /// # Errors
    /// Failed, if anything failed before; those of syncing, and of the edit: the database has failed then.
    pub(crate) fn settle_turn(&self) -> Result<()> {
        if !self.is_turning() {
            return Ok(());
        }
        let mut turning = self.turning.lock();
        let Some(turn) = &mut *turning else { return Ok(()) };
        self.check_healthy()?;
        if let Err(error) = self.settle(turn) {
            turn.has_failed = true;
            return Err(if error.kind() == ErrorKind::Closed { error } else { self.fail(error) });
        }
        *turning = None;
        self.is_turning.store(false, Ordering::Release);
        Ok(())
    }

    fn make_log(&self) -> Result<PreparedLog> {
        let number = self.manifest.lock().next_file()?;
        self.create_log_file(number)
    }

    /// As [`Self::settle_turn`], for the end of a session in which something else failed: what can be made durable still is. Whether the log that is in use has a name: one
    /// that has none must not be ended, since its last record would say that it is durable; it is sealed, as the next opening wants it.
    pub(crate) fn end_turn(&self) -> bool {
        let mut turning = self.turning.lock();
        let Some(turn) = &mut *turning else { return true };
        // What failed to become durable once is not tried again: that it then seems to work proves nothing.
        if !turn.has_failed && self.settle(turn).is_ok() {
            *turning = None;
            self.is_turning.store(false, Ordering::Release);
            return true;
        }
        turn.has_failed = true;
        let _ = turn.to.seal();
        let _ = turn.to.settle();
        false
    }

    fn settle(&self, turn: &Turn) -> std::result::Result<(), Error> {
        turn.from.sync_through(turn.from.position())?;
        turn.from.release();
        self.sync_name(turn)?;
        turn.to.sync_start()?;
        let mut manifest = self.manifest.lock();
        manifest.journal_is_durable(turn.through);
        manifest.commit(Edit { changes: turn.changes() })?;
        Ok(())
    }

    fn sync_name(&self, turn: &Turn) -> Result<()> {
        match turn.has_name {
            true => Ok(()),
            false => self
                .fs
                .sync_dir(&self.directory, sites::CREATE_DIRECTORY)
                .context("sync the directory", &self.directory),
        }
    }

    /// Gives up a turn after a failure: says what of the two logs is known to be durable, for the edit with which the database is opened again. When that is
    /// durable [`Self::forget_turn`] is due; if it is not, this may be asked again. The caller holds `commit`.
    ///
    /// # Errors
    /// That of making a name durable.
    pub(crate) fn give_up_turn(&self, _commit: &CommitState) -> Result<Option<Vec<Change>>> {
        let turning = self.turning.lock();
        let Some(turn) = &*turning else { return Ok(None) };
        self.sync_name(turn)?;
        // What was appended is written, and no more is: whoever is still to hand theirs to the system finds that it was, and counts.
        let _ = turn.to.seal();
        let (from, to) = (turn.from.settle(), turn.to.settle());
        let mut changes = turn.changes();
        let is_whole = from.offset == turn.end.offset;
        if !is_whole {
            changes.push(Change::LogCut { number: turn.end.number, cut: from });
        }
        // Behind what is lost nothing counts; it is named, so that nobody takes it for a log that was forgotten.
        let counts = is_whole && to.offset > FIRST_RECORD_END;
        turn.from.abandon(true);
        turn.to.abandon(counts);
        let cut = Cut { offset: if counts { to.offset } else { 0 }, last_sequence: to.last_sequence };
        changes.push(Change::LogCut { number: turn.to.number(), cut });
        Ok(Some(changes))
    }

    /// The logs of a turn are named, and where they end is recorded.
    pub(crate) fn forget_turn(&self, _commit: &CommitState) {
        *self.turning.lock() = None;
        self.is_turning.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::fs::{CrashPolicy, MemFs};
    use crate::options::{Background, KeyspaceOptions, Tuning};
    use crate::write::Beside;
    use crate::{Db, Keyspace};

    fn open(mem: &MemFs, background: Background) -> (Db, Keyspace) {
        let db = Db::builder("/db")
            .file_system(Arc::new(mem.clone()))
            .background(background)
            .memory_bytes(1 << 20)
            .tuning(Tuning::for_memory(1 << 20))
            .open()
            .unwrap();
        let keyspace = db.keyspace("k", KeyspaceOptions::sorted()).unwrap();
        (db, keyspace)
    }

    #[test]
    fn beside_writers_a_rotation_goes_on_in_the_next_log_and_begins_none_for_nobody() {
        for (beside, goes_on) in [(Beside::Nobody, false), (Beside::Writers, true)] {
            let mem = MemFs::new();
            let (db, keyspace) = open(&mem, Background::Manual);
            keyspace.put("before", "").unwrap();
            let engine = db.engine();
            assert_eq!(engine.expect_rotation().unwrap(), Beside::Nobody);
            let state = &mut *engine.commit.lock();
            engine.rotate(state, beside).unwrap();
            assert_eq!((state.journal.is_some(), engine.is_turning()), (goes_on, goes_on));
            assert_eq!(engine.view().frozen.len(), 1);
        }
    }

    /// What is there is a prefix of what was written, with all that was promised, wherever the power goes.
    #[test]
    fn a_crash_in_a_rotation_beside_writers_takes_nothing_that_was_promised() {
        let mem = MemFs::new();
        mem.record_snapshots();
        let (db, keyspace) = open(&mem, Background::Manual);
        let loaded = db.keyspace("loaded", KeyspaceOptions::sorted()).unwrap();
        let engine = db.engine();
        let (mut written, mut promised) = (0_u32, vec![(0, 0)]);
        let put = |written: &mut u32| {
            keyspace.put(written.to_be_bytes(), [1; 100]).unwrap();
            *written += 1;
        };
        for round in 0..6 {
            (0..5).for_each(|_| put(&mut written));
            engine.rotate(&mut engine.commit.lock(), Beside::Writers).unwrap();
            // The load's number is the first that the log might hold, and the log may hold nothing.
            (0..round % 3).for_each(|_| put(&mut written));
            if round < 3 {
                let mut load = loaded.bulk().unwrap();
                load.put([round], "loaded").unwrap();
                load.finish().unwrap();
            } else {
                db.flush().unwrap();
            }
            promised.push((mem.calls(), written));
        }
        for (number, snapshot) in mem.take_snapshots().iter().enumerate() {
            let between = CrashPolicy::ALL[2 + number % (CrashPolicy::ALL.len() - 2)];
            for policy in [CrashPolicy::SyncedOnly, CrashPolicy::Everything, between] {
                let what = format!("{policy:?}, after {}", snapshot.call);
                let (db, keyspace) =
                    open(&snapshot.fs.crash(policy, snapshot.call.number), Background::Manual);
                let found: Vec<_> = keyspace.iter().map(|item| item.unwrap().0.to_vec()).collect();
                let prefix = (0_u32..).take(found.len()).map(|number| number.to_be_bytes().to_vec());
                assert!(prefix.eq(found.iter().cloned()), "{what}");
                let before = promised.iter().take_while(|(calls, _)| *calls <= snapshot.call.number);
                let least = before.last().map_or(0, |(_, written)| *written as usize);
                assert!(found.len() >= least, "{what}: {} of {least}", found.len());
                assert!(db.check().unwrap().is_clean(), "{what}");
            }
        }
    }

    #[test]
    fn whoever_flushes_or_loads_notices_writers_and_loses_nothing_of_theirs() {
        let mem = MemFs::new();
        let (db, keyspace) = open(&mem, Background::Threads);
        let loaded = db.keyspace("loaded", KeyspaceOptions::sorted()).unwrap();
        let stop = AtomicBool::new(false);
        let written = std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let mut number = 0_u32;
                while !stop.load(Ordering::Relaxed) {
                    keyspace.put(number.to_be_bytes(), "written").unwrap();
                    number += 1;
                }
                number
            });
            let begun = Instant::now();
            while db.engine().expect_rotation().unwrap() == Beside::Nobody {
                assert!(begun.elapsed() < Duration::from_secs(60), "somebody writes");
            }
            for number in 0..20_u32 {
                db.flush().unwrap();
                let mut load = loaded.bulk().unwrap();
                load.put(number.to_be_bytes(), "loaded").unwrap();
                load.finish().unwrap();
            }
            stop.store(true, Ordering::Relaxed);
            writer.join().unwrap()
        });
        assert!(db.check().unwrap().is_clean());
        db.close().unwrap();
        drop((keyspace, loaded));
        let (db, keyspace) = open(&mem, Background::Manual);
        let found = keyspace.iter().map(|item| item.unwrap().0.to_vec());
        assert!(found.eq((0..written).map(|number| number.to_be_bytes().to_vec())));
        let loaded = db.keyspace("loaded", KeyspaceOptions::sorted()).unwrap();
        assert_eq!(loaded.iter().count(), 20);
        assert!(db.check().unwrap().is_clean());
    }
}
