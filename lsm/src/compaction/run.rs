//! Which merge is done next, and what becomes of it, one step after the other by whoever has the right to. (All at once, on request: [`super::whole`].)
//!
//! A merge that cannot *read* (a bad sector, a damaged block) is given up and kept as an error in the statistics; its inputs are not touched, and the
//! database works on: readers of other keys must not suffer. Merges keep away from the table that failed, for a while or for good
//! ([`super::avoid`]). A merge that cannot *write* fails the database, as every failed write does; but where it only writes anew what lies in a level, and there
//! is no room for that, it is given up as well. One whose inputs are no more when it is done, because their keyspace was dropped, is forgotten: each plan is held
//! against the levels as they are when it is to be acted upon.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::batch::KeyspaceId;
use crate::compaction::job::{Fault, Job, removed};
use crate::compaction::late;
use crate::compaction::pick::{Pick, pick, pick_above, urgency};
use crate::compaction::tiered;
use crate::engine::{Engine, Progress};
use crate::error::{Error, ErrorKind, Result};
use crate::event::Event;
use crate::filename::{FileName, FileNumber};
use crate::flush::update;
use crate::levels::{Change, Edit, KeyspaceView, TableReference, View};
use crate::options::Tuning;
use crate::row::KeyspaceKind;

/// How a step of a merge went.
pub(super) enum Stepped {
    Working,
    Done,
    /// It could not read.
    GivenUp(Error),
    /// What it merged is no more.
    Overtaken,
}

impl Engine {
    /// Runs one step of a merge, starting one where one is wanted.
    ///
    /// # Errors
    /// Closed; ReadOnly; Failed and those of writing: the database has failed then.
    pub(crate) fn compaction_step(&self) -> Result<Progress> {
        let mut job = self.compaction_job.lock();
        let stepped = self.check_writable().and_then(|()| self.compaction_step_with(&mut job));
        drop(job);
        // Whoever waits may wait for the right to run a step, too.
        self.notify();
        self.events.deliver();
        stepped
    }

    /// As [`Self::compaction_step`]; `None` if somebody else is running one.
    pub(crate) fn try_compaction_step(&self) -> Result<Option<Progress>> {
        let Some(mut job) = self.compaction_job.try_lock() else { return Ok(None) };
        let stepped = self.check_writable().and_then(|()| self.compaction_step_with(&mut job));
        drop(job);
        self.notify();
        self.events.deliver();
        stepped.map(Some)
    }

    fn compaction_step_with(&self, job: &mut Option<Job>) -> Result<Progress> {
        if job.is_some() {
            let stepped = self.step_job(job);
            self.merge_ends.store(job.as_ref().is_some_and(Job::is_at_end), Ordering::Relaxed);
            stepped?;
            return Ok(Progress::Working);
        }
        let view = self.view();
        for (id, keyspace) in &view.keyspaces {
            if self.drop_deleted(*id, keyspace)? {
                return Ok(Progress::Working);
            }
        }
        let now = self.clock.now();
        let (idle, is_long) = {
            let mut idle = self.idle.lock();
            (idle.tuning(self.counters.commits(), now).cloned(), idle.is_long(now))
        };
        let wanted = self.wanted(&view, &self.tuning, now);
        let wanted = wanted.or_else(|| self.wanted(&view, idle.as_ref()?, now));
        let wanted = wanted.or_else(|| if is_long { self.wanted_late(&view, now) } else { None });
        let Some((id, pick)) = wanted else {
            if idle.is_some() {
                self.idle.lock().done(now);
            }
            return Ok(Progress::Idle);
        };
        *job = self.begin_picked(&view, id, pick)?;
        Ok(Progress::Working)
    }

    /// Begins what was picked, unless it is done at once. One that cannot be read is given up, and that is remembered: there may be others.
    pub(super) fn begin_picked(&self, view: &View, id: KeyspaceId, pick: Pick) -> Result<Option<Job>> {
        let Some(keyspace) = view.keyspaces.get(&id) else { return Ok(None) };
        if keyspace.kind == KeyspaceKind::Sorted && pick.is_move(&self.tuning) {
            self.move_down(id, &pick)?;
            return Ok(None);
        }
        Ok(self.begin_job(id, keyspace, pick).ok())
    }

    /// The most urgent merge by these limits.
    pub(super) fn wanted(&self, view: &View, tuning: &Tuning, now: Duration) -> Option<(KeyspaceId, Pick)> {
        // A few tables at most; writers who ask for the debt do not wait for the pick.
        let avoided = self.avoided.lock().clone();
        let picks = view.keyspaces.iter().filter_map(|(id, keyspace)| {
            let tree = &keyspace.tables.tree;
            let is_avoided = |file| avoided.contains(file, now);
            let (pick, urgency) = match keyspace.kind {
                // What all of it becomes answers for gaps between its tables too: nothing may have gone down there. And what would go down later cannot get past what is held.
                KeyspaceKind::Sorted if avoided.is_held(*id) => {
                    (pick_above(tree, tuning, is_avoided)?, urgency(tree, tuning))
                }
                KeyspaceKind::Sorted => (pick(tree, tuning, is_avoided)?, urgency(tree, tuning)),
                KeyspaceKind::Fixed(_) => {
                    let runs = tiered::runs(tree).count() as u64;
                    let urgency = (runs * 1000 / tuning.tier_runs as u64).max(1000);
                    (tiered::pick(tree, tuning, is_avoided)?, urgency)
                }
            };
            Some((urgency, *id, pick))
        });
        picks.max_by_key(|(urgency, ..)| *urgency).map(|(_, id, pick)| (id, pick))
    }

    /// A table to be compressed where it lies.
    fn wanted_late(&self, view: &View, now: Duration) -> Option<(KeyspaceId, Pick)> {
        let avoided = self.avoided.lock().clone();
        let is_avoided = |_, table: &TableReference| avoided.contains(table.file, now);
        view.keyspaces.iter().find_map(|(id, keyspace)| {
            let pick = late::pick(&keyspace.tables, &self.tuning, late::WHEN_IDLE, is_avoided)?;
            Some((*id, pick))
        })
    }

    /// Drops the merge under way, if there is one, and what was written of it: its inputs are untouched.
    pub(crate) fn drop_merge(&self, job: &mut Option<Job>) {
        self.give_up_merge(job, None);
    }

    fn give_up_merge(&self, job: &mut Option<Job>, error: Option<&Error>) {
        if let Some(job) = job.take() {
            self.merge_given_up(job.keyspace, error);
            self.add_obsolete(job.files().map(FileName::Table));
            drop(job);
            self.share_memory();
        }
    }

    fn merge_given_up(&self, id: KeyspaceId, error: Option<&Error>) {
        self.events.tell(|| Event::MergeGivenUp { keyspace: self.keyspace_name(id), error: error.cloned() });
    }

    /// A table goes one level down as it is.
    fn move_down(&self, keyspace: KeyspaceId, pick: &Pick) -> Result<()> {
        let mut manifest = self.manifest.lock();
        if !manifest.levels().holds(keyspace, &pick.inputs) {
            return Ok(());
        }
        let mut changes = Vec::new();
        for (level, table) in &pick.inputs {
            changes.push(removed(keyspace, *level, table));
            changes.push(Change::TableAdded { keyspace, level: pick.output_level, table: Arc::clone(table) });
        }
        let levels = manifest.commit(Edit { changes }).map_err(|error| self.fail(error))?;
        self.install(|view| update(view, &levels, |_| None, &self.budget));
        drop(manifest);
        for (_, table) in &pick.inputs {
            self.events.tell(|| Event::TableMoved {
                keyspace: self.keyspace_name(keyspace),
                file: table.file,
                level: pick.output_level,
            });
        }
        self.counters.moved();
        Ok(())
    }

    pub(super) fn begin_job(&self, id: KeyspaceId, keyspace: &KeyspaceView, pick: Pick) -> Result<Job> {
        let inputs = pick.inputs.clone();
        self.events.tell(|| Event::MergeBegun {
            keyspace: Arc::clone(&keyspace.name),
            tables: inputs.len(),
            bytes: pick.bytes(),
            level: pick.output_level,
        });
        Job::new(self, id, keyspace, pick).inspect_err(|error| {
            self.merge_failed(&inputs, error);
            self.merge_given_up(id, Some(error));
        })
    }

    pub(super) fn step_job(&self, job: &mut Option<Job>) -> Result<Stepped> {
        let Some(current) = job else { return Ok(Stepped::Done) };
        match current.step(self) {
            Ok(Progress::Working) => Ok(Stepped::Working),
            Ok(Progress::Idle) => {
                self.merge_succeeded(&current.pick.inputs);
                let bytes = current.read_bytes;
                *job = None;
                self.settle_resident();
                self.merge_ended(bytes);
                Ok(Stepped::Done)
            }
            Err(Fault::Read(error) | Fault::NoRoom(error)) => {
                self.merge_failed(&current.pick.inputs, &error);
                // What was written of it lies under numbers that the manifest has given out, and goes.
                self.give_up_merge(job, Some(&error));
                self.ask_to_remove();
                Ok(Stepped::GivenUp(error))
            }
            Err(Fault::Write(error)) => {
                // What it wrote stays where it is: if it was the edit that failed, nobody knows whether that names it.
                if let Some(job) = job.take() {
                    self.merge_given_up(job.keyspace, None);
                }
                Err(self.fail(error))
            }
            Err(Fault::Overtaken) => {
                self.drop_merge(job);
                self.ask_to_remove();
                Ok(Stepped::Overtaken)
            }
        }
    }

    /// Remembers which of its inputs a merge could not read.
    fn merge_failed(&self, inputs: &[(usize, Arc<TableReference>)], error: &Error) {
        let is_damage = error.kind() == ErrorKind::Corruption;
        let now = self.clock.now();
        let is_named = |file: FileNumber| error.path() == Some(&FileName::Table(file).path(&self.directory));
        let files = || inputs.iter().map(|(_, table)| table.file);
        let mut avoided = self.avoided.lock();
        match files().find(|file| is_named(*file)) {
            Some(file) => avoided.failed(file, is_damage, now),
            None => files().for_each(|file| avoided.failed(file, is_damage, now)),
        }
        self.counters.compaction_failed(Some(error.clone()));
    }

    fn merge_succeeded(&self, inputs: &[(usize, Arc<TableReference>)]) {
        self.avoid_no_more(inputs.iter().map(|(_, table)| table.file));
    }

    /// Merges need not keep away any more from tables that are gone.
    pub(crate) fn avoid_no_more(&self, gone: impl Iterator<Item = FileNumber>) {
        let mut avoided = self.avoided.lock();
        if avoided.is_empty() {
            return;
        }
        gone.for_each(|file| avoided.gone(file));
        if avoided.is_empty() {
            self.counters.compaction_failed(None);
        }
    }
}
