//! The commit path: append, apply, show, and then wait for what was asked.
//!
//! 1. Under the commit lock a batch gets its sequence numbers, is appended to the journal's buffer and applied to the memtables; then it is
//!    visible. One after the other: history is one line.
//! 2. Without the lock the caller waits until its batch is as durable as it asked. Whoever comes first writes or syncs for
//!    all who wait (the journal's group commit). Readers see the batch before: they may see what a crash then takes, and that is
//!    what [`Durability::Process`] means to everybody.
//!
//! When the memtables are full they are frozen together, for all keyspaces, with the log that holds the same: a *generation*. So a log is needed
//! exactly as long as its generation, a flush edit moves all marks at once, and a batch over two keyspaces is never flushed by half.
//! The log is durable, and where it ends is recorded, before anything of its generation is flushed.
//!
//! The first commit of a session creates the log: its number is set aside in the manifest, it is created durably, and the manifest names it, before
//! anything in it is acknowledged. When memtables are full the next log's file is there already (`ahead.rs`), and who writes goes on in it at once; what is to be
//! durable for that becomes so behind the writers, and before anything in it is acknowledged as durable (`turn.rs`).

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use crate::batch::{Encoder, KeyspaceId, Operation, Operations};
use crate::engine::{Engine, Progress};
use crate::error::{Error, ErrorKind, Result};
use crate::expand::expand;
use crate::filename::{FileName, FileNumber};
use crate::flush::FlushJob;
use crate::journal::{BatchRecord, Durability, Journal, LogEnd, Start, random_identity};
use crate::key::{Kind, SEQUENCE_MAX, SequenceNumber};
use crate::levels::{Change, Edit, Generation, KeyspaceView, View};
use crate::memtable::Memtable;
use crate::options::{Background, Tuning};
use crate::row::Widths;

/// What the commit lock guards.
#[derive(Debug)]
pub(crate) struct CommitState {
    /// The open log; `None` before the first commit of a session and after a rotation beside nobody.
    pub(crate) journal: Option<Arc<Journal>>,
    /// How far it was looked after.
    pub(crate) tended: u64,
    /// The logs that hold what the active memtables hold.
    pub(crate) logs: Vec<FileNumber>,
    /// The end of the newest log that was ended or cut.
    pub(crate) previous: Option<LogEnd>,
    /// The next sequence number to give out.
    pub(crate) next_sequence: SequenceNumber,
    /// Bytes that the logs hold of keyspaces that were dropped, as their memtables counted them: they take no memory, but the logs grow.
    pub(crate) dropped_bytes: usize,
}

/// Whether somebody writes while memtables and logs change: then he is not to wait for the disk, else no log is begun that nobody may need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Beside {
    Nobody,
    Writers,
}

/// Memtables of more bytes than this are flushed by a close: so that the next opening need not replay them.
const REPLAYED_BYTES_MAX: usize = 1 << 20;

/// Many short sessions leave many short logs: from so many on a close flushes them.
const REPLAYED_LOGS_MAX: usize = 8;

/// Bytes of all active memtables.
pub(crate) fn active_bytes(view: &View) -> usize {
    view.keyspaces.values().map(|keyspace| keyspace.active.memory_bytes()).sum()
}

/// How full the write buffer is, in bytes of it: rows may take more.
pub(crate) fn buffered_bytes(view: &View, tuning: &Tuning) -> usize {
    let bytes = |keyspace: &KeyspaceView| match keyspace.active {
        Memtable::Fixed(_) => keyspace.active.memory_bytes() / tuning.fixed_buffer_factor,
        Memtable::Sorted(_) => keyspace.active.memory_bytes(),
    };
    view.keyspaces.values().map(|keyspace| bytes(keyspace)).sum()
}

impl Engine {
    /// Commits a batch; returns its last sequence number once it is as durable as asked.
    pub(crate) fn commit(&self, batch: &Encoder, durability: Durability) -> Result<SequenceNumber> {
        self.commit_if(batch, durability, |_| Ok(()))
    }

    /// As [`Self::commit`], if `is_allowed` says so when all commits before this one are in the View, and no other can come between.
    pub(crate) fn commit_if(
        &self,
        batch: &Encoder,
        durability: Durability,
        is_allowed: impl FnOnce(&View) -> Result<()>,
    ) -> Result<SequenceNumber> {
        let committed = self.commit_quietly(batch, durability, is_allowed);
        self.events.deliver();
        committed
    }

    fn commit_quietly(
        &self,
        batch: &Encoder,
        durability: Durability,
        is_allowed: impl FnOnce(&View) -> Result<()>,
    ) -> Result<SequenceNumber> {
        self.check_writable()?;
        if let Some(fault) = batch.fault() {
            return Err(fault.clone());
        }
        if batch.operations() == 0 {
            return Ok(self.visible());
        }
        self.admit(batch.payload().len())?;
        let (journal, position, last, session) = {
            let mut state = self.commit.lock();
            self.check_writable()?;
            let claimed = self.claimed(batch.keyspaces());
            let mut view = self.view();
            if self.make_room(&mut state, &view)? {
                view = self.view();
            }
            // A batch that was built before a keyspace went fails as a whole.
            if let Some(gone) = batch.keyspaces().iter().find(|id| !view.keyspaces.contains_key(id)) {
                return Err(self.dropped(*gone));
            }
            claimed.check(&view)?;
            is_allowed(&view)?;
            let expanded;
            let batch = if batch.has_fixed_ranges() {
                expanded = expand(batch.payload(), &view, self.visible())?;
                &expanded
            } else {
                batch
            };
            if batch.operations() == 0 {
                return Ok(self.visible());
            }
            let payload = batch.payload();
            let first = state.next_sequence;
            let last = first + u64::from(batch.operations()) - 1;
            if last > SEQUENCE_MAX {
                return Err(Error::new(ErrorKind::InvalidArgument, "sequence numbers are used up"));
            }
            let journal = self.open_log(&mut state)?;
            let record = BatchRecord {
                first_sequence: first,
                op_count: batch.operations(),
                sync: durability == Durability::Synced,
                payload,
            };
            let position = journal.append(record).map_err(|error| self.fail(error))?;
            state.next_sequence = last + 1;
            let applied = apply_to(&view, payload, first, |_, _| true)?;
            assert!(
                applied == u64::from(batch.operations()),
                "a batch holds as many operations as were added"
            );
            self.publish(&state, last);
            self.counters.committed(batch.operations(), payload.len());
            if position.offset() >= state.tended.saturating_add(self.tended_bytes()) {
                state.tended = position.offset();
                self.ask_to_tend();
            }
            (journal, position, last, self.session())
        };
        match durability {
            Durability::Process => Ok(()),
            Durability::System => journal.write_through(position),
            Durability::Synced => {
                self.settle_turn()?;
                let synced = journal.sync_through(position);
                self.counters.mark_due(self);
                synced
            }
        }
        .map_err(|error| self.fail_in(session, error))?;
        Ok(last)
    }

    /// Makes everything durable that was committed before the call.
    pub(crate) fn sync(&self) -> Result<()> {
        self.check_writable()?;
        let (journal, session) = {
            let state = self.commit.lock();
            // Of what a failed log held nothing can be promised any more.
            self.check_writable()?;
            (state.journal.clone(), self.session())
        };
        self.settle_turn()?;
        // Without an open log everything lies in logs that ended durably, and in tables.
        match journal {
            Some(journal) => {
                journal.sync_through(journal.position()).map_err(|error| self.fail_in(session, error))
            }
            None => Ok(()),
        }
    }

    /// Rotates when the memtables are full and there is room for one more generation; whether it did.
    fn make_room(&self, state: &mut CommitState, view: &View) -> Result<bool> {
        let bytes = buffered_bytes(view, &self.tuning).saturating_add(state.dropped_bytes);
        if bytes < self.tuning.write_buffer_bytes || view.frozen.len() >= self.tuning.frozen_max {
            return Ok(false);
        }
        if self.background == Background::Threads
            && bytes < self.tuning.write_buffer_bytes / 8 * 9
            && self.next_log.try_lock().is_none_or(|next_log| next_log.is_none())
        {
            // Whoever makes the next log is late: a little more goes into the memtables, and nobody waits for that.
            return Ok(false);
        }
        self.go_on(state)?;
        Ok(true)
    }

    /// Freezes the active memtables, and goes on in the next log without a wait for the disk.
    fn go_on(&self, state: &mut CommitState) -> Result<()> {
        match self.turn(state)? {
            Some(next) => {
                self.freeze_memtables(state);
                self.begin_log(state, &next);
                Ok(())
            }
            None => self.freeze(state),
        }
    }

    /// Freezes the active memtables, whatever is in them, and ends their log, or goes on in the next one where somebody writes. Nothing happens where nothing was written.
    pub(crate) fn rotate(&self, state: &mut CommitState, beside: Beside) -> Result<()> {
        let view = self.view();
        if view.keyspaces.values().all(|keyspace| keyspace.active.is_empty()) {
            return Ok(());
        }
        match beside {
            Beside::Nobody => self.freeze(state),
            Beside::Writers => self.go_on(state),
        }
    }

    /// For whoever is about to rotate, before he holds anybody up: what the log holds becomes durable, and where somebody writes meanwhile the next log is made.
    pub(crate) fn expect_rotation(&self) -> Result<Beside> {
        if self.background == Background::Manual {
            return Ok(Beside::Nobody);
        }
        let before = self.visible();
        self.sync()?;
        if self.visible() == before {
            return Ok(Beside::Nobody);
        }
        self.expect_log()?;
        Ok(Beside::Writers)
    }

    /// As [`Self::rotate`], even where nothing was written: the flush then lets the logs go.
    pub(crate) fn freeze(&self, state: &mut CommitState) -> Result<()> {
        self.end_log(state)?;
        self.freeze_memtables(state);
        Ok(())
    }

    /// As [`Self::freeze`], when what goes into the log from now on is not of these memtables.
    fn freeze_memtables(&self, state: &mut CommitState) {
        let view = self.view();
        state.dropped_bytes = 0;
        let last_sequence = state.next_sequence - 1;
        let memtables = view
            .keyspaces
            .iter()
            .filter(|(_, keyspace)| !keyspace.active.is_empty())
            .map(|(id, keyspace)| (*id, keyspace.active.clone()))
            .collect();
        let generation =
            Arc::new(Generation { memtables, logs: std::mem::take(&mut state.logs), last_sequence });
        self.install(|view| {
            for id in generation.memtables.keys() {
                if let Some(keyspace) = view.keyspaces.get_mut(id) {
                    let mut frozen = Vec::with_capacity(keyspace.frozen.len() + 1);
                    frozen.push(keyspace.active.clone());
                    frozen.extend(keyspace.frozen.iter().cloned());
                    *keyspace = Arc::new(KeyspaceView {
                        name: Arc::clone(&keyspace.name),
                        kind: keyspace.kind,
                        active: self.new_memtable(keyspace.kind, Some(&keyspace.active)),
                        frozen,
                        tables: Arc::clone(&keyspace.tables),
                    });
                }
            }
            view.frozen.push(generation);
        });
        self.notify();
    }

    /// Ends the open log, if there is one: all of it is durable then, and the manifest may build on it.
    pub(crate) fn end_log(&self, state: &mut CommitState) -> Result<()> {
        let last_sequence = state.next_sequence - 1;
        self.settle_turn()?;
        if let Some(journal) = &state.journal {
            let end = journal.end(last_sequence).map_err(|error| self.fail(error))?;
            state.previous = Some(end);
            state.journal = None;
        }
        self.manifest.lock().journal_is_durable(last_sequence);
        Ok(())
    }

    /// The open log; created where there is none.
    fn open_log(&self, state: &mut CommitState) -> Result<Arc<Journal>> {
        if let Some(journal) = &state.journal {
            return Ok(Arc::clone(journal));
        }
        let created = self.create_log(state);
        let journal = created.map_err(|error| self.fail(error))?;
        self.begin_log(state, &journal);
        Ok(journal)
    }

    fn begin_log(&self, state: &mut CommitState, journal: &Arc<Journal>) {
        state.logs.push(journal.number());
        state.tended = 0;
        state.journal = Some(Arc::clone(journal));
    }

    fn create_log(&self, state: &CommitState) -> Result<Arc<Journal>> {
        // Held until the manifest names it: nobody finds a log that is neither.
        let mut next_log = self.next_log.lock();
        let prepared = next_log.take();
        let mut manifest = self.manifest.lock();
        let (number, identity) = match &prepared {
            Some(prepared) => (prepared.number(), prepared.identity()),
            None => (manifest.next_file()?, random_identity()?),
        };
        let start = Start {
            number,
            identity,
            database: self.database,
            previous: state.previous,
            next_sequence: state.next_sequence,
        };
        let options = self.tuning.journal.options();
        let journal = match prepared {
            Some(prepared) => prepared.begin(start, options)?,
            None => Journal::create(&self.fs, &FileName::Log(number).path(&self.directory), start, options)?,
        };
        manifest.commit(Edit { changes: vec![Change::LogAdded { number, identity }] })?;
        Ok(Arc::new(journal))
    }

    /// Writes everything that is in memtables to tables.
    pub(crate) fn flush(&self) -> Result<()> {
        self.check_writable()?;
        let beside = self.expect_rotation()?;
        let session = {
            let mut state = self.commit.lock();
            self.check_writable()?;
            self.rotate(&mut state, beside)?;
            self.session()
        };
        match self.background {
            Background::Manual => while self.flush_step()? == Progress::Working {},
            Background::Threads => {
                let target = self.view().frozen.last().map(|generation| generation.last_sequence);
                let is_flushed = || {
                    let view = self.view();
                    view.frozen.first().is_none_or(|oldest| Some(oldest.last_sequence) > target)
                };
                self.wait_until(|| is_flushed() || self.check_writable().is_err(), None);
                if !is_flushed() {
                    self.check_writable()?;
                }
                if self.session() != session {
                    // It failed, and was opened again: what waited was not flushed but replayed.
                    return self.flush();
                }
            }
        }
        Ok(())
    }
}

/// Operations that are looked at before they are applied: so many places in a memtable of rows are fetched at once.
const AHEAD: usize = 8;

/// Puts the operations of a batch into the active memtables of a view, those that `wanted` lets through; returns how many operations there
/// are.
///
/// # Errors
/// Corruption if the batch is damaged, or has operations for a keyspace that is not there.
pub(crate) fn apply_to(
    view: &View,
    payload: &[u8],
    first: SequenceNumber,
    mut wanted: impl FnMut(KeyspaceId, SequenceNumber) -> bool,
) -> Result<u64> {
    // Most batches stay in one keyspace for long stretches.
    let mut last: Option<(KeyspaceId, &Memtable)> = None;
    let mut count = 0;
    let mut operations = (first..).zip(Operations::new(payload));
    // What was taken from `operations` and not yet applied: rows are asked for some time before they are needed.
    let mut ahead: VecDeque<(SequenceNumber, Result<(KeyspaceId, Operation)>)> = VecDeque::new();
    loop {
        while let Some((last, Memtable::Fixed(memtable))) = last
            && ahead.len() < AHEAD
            && let Some(next) = operations.next()
        {
            if let (_, Ok((id, Operation::Put { key, .. } | Operation::Delete { key }))) = &next
                && last == *id
            {
                memtable.expect_key(payload.get(key.clone()).unwrap_or_default());
            }
            ahead.push_back(next);
        }
        let Some((sequence, operation)) = ahead.pop_front().or_else(|| operations.next()) else { break };
        let (keyspace, operation): (KeyspaceId, Operation) = operation?;
        count += 1;
        if !wanted(keyspace, sequence) {
            continue;
        }
        let memtable = match last {
            Some((id, memtable)) if id == keyspace => memtable,
            _ => {
                let found = view.keyspaces.get(&keyspace).ok_or_else(|| no_keyspace(keyspace))?;
                &found.active
            }
        };
        last = Some((keyspace, memtable));
        if let Memtable::Fixed(memtable) = memtable {
            check_row(memtable.widths(), payload, &operation)?;
        }
        memtable.apply(payload, operation, sequence);
    }
    Ok(count)
}

/// Whether an operation is one that a keyspace with fixed widths takes: batches are built so, logs are replayed only if they are.
pub(crate) fn check_row(widths: Widths, payload: &[u8], operation: &Operation) -> Result<()> {
    let slice = |range: &Range<usize>| payload.get(range.clone()).unwrap_or_default();
    let checked = match operation {
        Operation::Put { key, value } => widths.check(slice(key), slice(value), Kind::Put),
        Operation::Delete { key } => widths.check(slice(key), &[], Kind::Delete),
        Operation::DeleteRange { .. } => {
            Err(Error::new(ErrorKind::InvalidArgument, "a range delete in a keyspace with fixed widths"))
        }
    };
    checked.map_err(|error| Error::corruption(error.to_string()))
}

/// The error of a batch that writes to a keyspace that never was.
pub(crate) fn no_keyspace(id: KeyspaceId) -> Error {
    Error::corruption(format!("a batch writes to keyspace {}, which the manifest does not have", id.number()))
}

impl Engine {
    /// Ends the session, after [`Engine::set_closed`]: much is flushed, little stays in the log, which ends in order. Goes through every lock under
    /// which something changes: whoever waits for one finds the database closed, and when this returns nothing of this session will touch the
    /// directory.
    ///
    /// # Errors
    /// Failed, if something failed before, and those of writing: the next opening recovers, as after a crash.
    pub(crate) fn finish(&self) -> Result<()> {
        let mut merge = self.compaction_job.lock();
        let mut flush = self.flush_job.lock();
        let mut state = self.commit.lock();
        self.drop_merge(&mut merge);
        let ended = match self.read_only {
            true => Ok(()),
            false => self.end_session(&mut flush, &mut state),
        };
        *flush = None;
        self.drop_next_log();
        self.manifest.lock().close();
        self.forget_obsolete();
        ended
    }

    fn end_session(&self, flush: &mut Option<FlushJob>, state: &mut CommitState) -> Result<()> {
        if let Some(first) = self.failure() {
            // What failed may have been a flush or a merge. The log then still holds all that was acknowledged, some of it not yet
            // written: it ends in order, if it can.
            if self.end_turn() {
                let _ = self.end_log(state);
            }
            return Err(Error::failed(&first));
        }
        let bytes_max = REPLAYED_BYTES_MAX.min(self.tuning.write_buffer_bytes);
        if state.logs.len() >= REPLAYED_LOGS_MAX {
            // They may hold nothing but what was dropped.
            self.freeze(state)?;
        } else if active_bytes(&self.view()) > bytes_max {
            self.rotate(state, Beside::Nobody)?;
        } else {
            self.end_log(state)?;
        }
        while self.step_flush(flush)? == Progress::Working {}
        self.remove_obsolete();
        Ok(())
    }
}
