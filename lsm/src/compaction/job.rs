//! One merge, in steps.
//!
//! The inputs are merged, what nobody can see is dropped, the rest goes to tables of about the target size, cut between user keys. Each output
//! answers for the keys from its cut to the next; range tombstones are cut there too, so that the tables of a level never overlap. One edit takes
//! the inputs out and puts the outputs in; nothing in it is new to any reader.

use std::collections::HashSet;
use std::sync::Arc;

use crate::batch::KeyspaceId;
use crate::compaction::covered::{deleted_until, is_deleted};
use crate::compaction::drop::{Filter, Retention};
use crate::compaction::input::Input;
use crate::compaction::pick::Pick;
use crate::compaction::rows::{RowsFault, RowsWork};
use crate::engine::{Engine, Progress, sites};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::event::Event;
use crate::filename::FileNumber;
use crate::flush::{open_table, update};
use crate::key::split;
use crate::levels::{
    Change, Edit, KeyspaceView, LEVEL_COUNT, OpenTable, OpenTree, TableReference, View, common_filter,
};
use crate::output::OutputPlan;
use crate::range::KeyRange;
use crate::range_tombstone::{RangeTombstone, RangeTombstones};
use crate::row::KeyspaceKind;
use crate::table::fixed::SharedFilter;
use crate::table::{AnyTable, AnyTableWriter, TableSummary};

/// An output overlaps at most so many times its own size in the level below that of the output: else merging it down will cost too much. That is more than the
/// levels differ by: most outputs are as large as they may be.
const OVERLAP_MAX: u64 = 25;

/// Entries that are dropped one by one before it is asked how far all is deleted: a seek costs as much as some steps.
const STEPS_BEFORE_SKIP: usize = 16;

/// The merge under way.
#[derive(Debug)]
pub(crate) struct Job {
    pub(super) keyspace: KeyspaceId,
    kind: KeyspaceKind,
    plan: OutputPlan,
    pub(super) pick: Pick,
    input: Input,
    /// What is merged instead where entries have fixed widths.
    rows: Option<RowsWork>,
    filter: Filter,
    /// Those of the inputs that stay.
    tombstones: RangeTombstones,
    /// The tree as it was; only level 0 and the levels not touched can change meanwhile, and they don't get older entries.
    tables: Arc<OpenTree>,
    /// The bounds of what stays in level 0 below an output that stays there too: it is older.
    older: Vec<KeyRange>,
    output: Option<Output>,
    /// Of the tables in the level below that of the outputs, the first that does not end before the last key.
    below_index: usize,
    /// Where the next output begins.
    lower: Vec<u8>,
    last_user: Vec<u8>,
    /// Entries in a row that were dropped.
    dropped_steps: usize,
    /// Of the inputs that are read.
    pub(super) read_bytes: u64,
    done: Vec<(FileNumber, TableSummary)>,
}

#[derive(Debug)]
struct Output {
    file: FileNumber,
    writer: AnyTableWriter,
    /// Bytes of the tables that it overlaps, in the level below.
    below_bytes: u64,
}

pub(super) fn removed(keyspace: KeyspaceId, level: usize, table: &TableReference) -> Change {
    Change::TableRemoved { keyspace, level, file: table.file, lower: table.bounds.lower.clone() }
}

/// What made a merge end: reading, which harms nobody else; that there is no room for what would have saved some; writing; or that its inputs are no more (their
/// keyspace was dropped).
pub(super) enum Fault {
    Read(Error),
    NoRoom(Error),
    Write(Error),
    Overtaken,
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Write(error)
    }
}

impl Job {
    pub(super) fn new(engine: &Engine, id: KeyspaceId, keyspace: &KeyspaceView, pick: Pick) -> Result<Self> {
        let tables = Arc::clone(&keyspace.tables);
        let mut runs: Vec<Arc<[OpenTable]>> = Vec::new();
        let mut tombstones: Vec<RangeTombstone> = Vec::new();
        let mut older = Vec::new();
        for (level, open_tables) in tables.levels().iter().enumerate() {
            let inputs: HashSet<(FileNumber, &[u8])> = pick
                .inputs
                .iter()
                .filter(|(input_level, _)| *input_level == level)
                .map(|(_, table)| (table.file, table.bounds.lower.as_slice()))
                .collect();
            let is_input = |open: &&OpenTable| {
                inputs.contains(&(open.reference.file, open.reference.bounds.lower.as_slice()))
            };
            let (inputs, others): (Vec<&OpenTable>, Vec<&OpenTable>) = open_tables.iter().partition(is_input);
            if level == 0 && pick.output_level == 0 {
                older.extend(others.iter().map(|open| open.reference.bounds.clone()));
            }
            for open in &inputs {
                tombstones.extend(super::input::tombstones(open)?);
            }
            // One source for a run: each source reads far ahead, so their number is memory. In level 0 those of one epoch are one.
            let is_one_run =
                |a: &&OpenTable, b: &&OpenTable| level > 0 || a.reference.epoch == b.reference.epoch;
            runs.extend(
                inputs.chunk_by(is_one_run).map(|run| run.iter().map(|open| (*open).clone()).collect()),
            );
        }
        let retention = Retention::new(engine.read_sequences());
        let all = Arc::new(RangeTombstones::new(tombstones.iter().cloned()));
        for run in &mut runs {
            let is_read = |open: &&OpenTable| !is_deleted(&open.reference, &all, &retention);
            let read: Arc<[OpenTable]> = run.iter().filter(is_read).cloned().collect();
            engine.counters.dropped(run.len() - read.len());
            *run = read;
        }
        runs.retain(|run| !run.is_empty());
        let read_bytes = runs.iter().flat_map(|run| run.iter()).map(|open| open.reference.file_bytes).sum();
        let output_level = pick.output_level;
        let staying = tombstones.into_iter().filter(|tombstone| {
            let range = KeyRange::until(tombstone.start.clone(), tombstone.end.clone());
            retention.stripe(tombstone.sequence) > 0
                || older.iter().any(|bounds| bounds.overlaps(&range))
                || is_deeper(&tables, output_level, &range)
        });
        let inputs = || pick.inputs.iter().map(|(_, table)| table);
        let sequences = (
            inputs().map(|table| table.sequence_min).min().unwrap_or(0),
            inputs().map(|table| table.sequence_max).max().unwrap_or(0),
        );
        // Where nothing lies deeper, and nobody reads between, no deletion stays.
        let is_last = older.is_empty()
            && retention.stripe(sequences.1) == 0
            && !is_deeper(&tables, output_level, &KeyRange::all());
        let has_deletions = !is_last && inputs().any(|table| table.deletions > 0);
        let plan = OutputPlan::new(keyspace.kind, output_level, sequences, has_deletions, &retention)
            .of(id, pick.epoch());
        let (input, rows) = match keyspace.kind {
            KeyspaceKind::Sorted => (Input::new(runs)?, None),
            KeyspaceKind::Fixed(_) => {
                let charge = engine.budget.merges();
                let work = RowsWork::new(runs, plan.clone(), retention.clone(), &engine.tuning, charge);
                engine.share_memory();
                (Input::new(Vec::new())?, Some(work))
            }
        };
        Ok(Self {
            keyspace: id,
            rows,
            kind: keyspace.kind,
            plan,
            pick,
            input,
            tombstones: RangeTombstones::new(staying),
            filter: Filter::new(retention, all),
            tables,
            older,
            output: None,
            below_index: 0,
            lower: Vec::new(),
            last_user: Vec::new(),
            dropped_steps: 0,
            read_bytes,
            done: Vec::new(),
        })
    }

    pub(super) fn files(&self) -> impl Iterator<Item = FileNumber> + '_ {
        let rows = self.rows.iter().flat_map(RowsWork::files);
        let open = self.output.as_ref().map(|output| output.file);
        self.done.iter().map(|(file, _)| *file).chain(open).chain(rows)
    }

    /// Whether it only writes anew what lies in a level: nobody waits for that.
    fn is_in_place(&self) -> bool {
        let level = self.pick.output_level;
        level > 0 && self.pick.inputs.iter().all(|(input_level, _)| *input_level == level)
    }

    /// Whether everything is merged, and the next step brings it into the View.
    pub(super) fn is_at_end(&self) -> bool {
        self.rows.is_none() && !self.input.valid()
    }

    /// Idle when the merge is done and in the View.
    pub(super) fn step(&mut self, engine: &Engine) -> Result<Progress, Fault> {
        if !engine.view().keyspaces.contains_key(&self.keyspace) {
            return Err(Fault::Overtaken);
        }
        if self.rows.is_some() {
            return self.step_rows(engine);
        }
        let is_in_place = self.is_in_place();
        let not_written = |error: Error| match error.kind() {
            ErrorKind::OutOfSpace if is_in_place => Fault::NoRoom(error),
            _ => Fault::Write(error),
        };
        for stepped in 0..engine.tuning.step_entries {
            if !self.input.valid() {
                // That is a step of its own: others wait for locks that it takes.
                if stepped > 0 {
                    return Ok(Progress::Working);
                }
                self.close_output(engine, None).map_err(not_written)?;
                self.install(engine)?;
                return Ok(Progress::Idle);
            }
            let (user, _) = split(self.input.key()).map_err(Fault::Read)?;
            let (tables, older, output_level) = (&self.tables, &self.older, self.pick.output_level);
            let is_base = |user: &[u8]| {
                !may_be_deeper(tables, output_level, user)
                    && !older.iter().any(|bounds| bounds.contains(user))
            };
            let keeps = self.filter.keeps(self.input.key(), is_base).map_err(Fault::Read)?;
            self.dropped_steps = if keeps { 0 } else { self.dropped_steps + 1 };
            if self.dropped_steps > STEPS_BEFORE_SKIP
                && let Some(open) = self.input.table()
                && let Some(reach) =
                    deleted_until(&open.reference, user, self.filter.tombstones(), self.filter.retention())
            {
                self.dropped_steps = 0;
                self.input.skip(&reach).map_err(Fault::Read)?;
                continue;
            }
            if keeps {
                if user != self.last_user {
                    self.last_user.clear();
                    self.last_user.extend_from_slice(user);
                    if self.is_full(engine) {
                        let cut = self.last_user.clone();
                        self.close_output(engine, Some(cut)).map_err(not_written)?;
                    }
                }
                let output = match &mut self.output {
                    Some(output) => output,
                    None => self.output.insert(Output::create(engine, &self.plan).map_err(not_written)?),
                };
                output.writer.add(self.input.key(), self.input.value()).map_err(not_written)?;
            }
            self.input.next().map_err(Fault::Read)?;
        }
        Ok(Progress::Working)
    }

    /// As [`Self::step`], for rows.
    fn step_rows(&mut self, engine: &Engine) -> Result<Progress, Fault> {
        let Some(rows) = &mut self.rows else { return Ok(Progress::Idle) };
        let (tables, older, output_level) = (&self.tables, &self.older, self.pick.output_level);
        let is_base = |user: &[u8]| {
            !may_be_deeper(tables, output_level, user) && !older.iter().any(|bounds| bounds.contains(user))
        };
        let processors = if engine.is_quiet() { engine.tuning.merge_threads } else { 1 };
        match rows.step(engine, processors, &is_base) {
            Ok(None) => Ok(Progress::Working),
            Ok(Some(done)) => {
                self.rows = None;
                self.done = done;
                Ok(Progress::Working)
            }
            Err(RowsFault::Read(error)) => Err(Fault::Read(error)),
            Err(RowsFault::Write(error)) => Err(Fault::Write(error)),
        }
    }

    /// Whether the output should end before `last_user`.
    fn is_full(&mut self, engine: &Engine) -> bool {
        // Tables of level 0 are told apart by their age: one merge makes one. The pick saw to it that it is small. (Rows are found by run, and a run there may
        // be of several tables.)
        if self.pick.output_level == 0 && self.kind == KeyspaceKind::Sorted {
            return false;
        }
        let below = self.tables.levels().get(self.pick.output_level + 1).map_or(&[][..], |level| level);
        while let Some(open) = below.get(self.below_index)
            && !open.reference.bounds.is_before_end(&self.last_user)
        {
            self.below_index += 1;
            if let Some(output) = &mut self.output {
                output.below_bytes += open.reference.file_bytes;
            }
        }
        let Some(output) = &self.output else { return false };
        output.writer.estimated_bytes() >= engine.tuning.table_bytes
            || output.below_bytes > engine.tuning.table_bytes.saturating_mul(OVERLAP_MAX)
    }

    /// Ends the output before the user key `cut`, or behind everything.
    fn close_output(&mut self, engine: &Engine, cut: Option<Vec<u8>>) -> Result<()> {
        let range = KeyRange::until(self.lower.clone(), cut.clone());
        let tombstones = self.tombstones.clipped(&range);
        if self.output.is_none() && !tombstones.is_empty() {
            self.output = Some(Output::create(engine, &self.plan)?);
        }
        if let Some(mut output) = self.output.take() {
            crate::flush::add_tombstones(&mut output.writer, &tombstones)?;
            self.done.push((output.file, output.writer.finish()?));
        }
        if let Some(cut) = cut {
            self.lower = cut;
        }
        Ok(())
    }

    /// The filter that all inputs share: their keys are those of the output. The last run is alone: what is above it is to fill a filter of its own.
    fn shared_filter(&self) -> Option<Arc<SharedFilter>> {
        if self.pick.output_level > 0 {
            return None;
        }
        let inputs = self.pick.inputs.iter().map(|(_, input)| match self.tables.table(input.file) {
            Some(AnyTable::Fixed(table)) => Some(&**table),
            _ => None,
        });
        common_filter(inputs.collect::<Option<Vec<_>>>()?.into_iter())
    }

    fn install(&mut self, engine: &Engine) -> Result<(), Fault> {
        if !self.done.is_empty() {
            engine
                .fs
                .sync_dir(&engine.directory, sites::TABLE_NAMES)
                .context("sync the directory", &engine.directory)?;
        }
        let (mut opened, shared) = (Vec::new(), self.shared_filter());
        for (file, summary) in &self.done {
            let table = open_table(engine, *file, self.kind, summary)?;
            if let AnyTable::Fixed(table) = &table {
                table.share(shared.clone());
            }
            opened.push((*file, table));
        }
        let epoch = self.pick.epoch();
        let keyspace = self.keyspace;
        let mut changes: Vec<Change> =
            self.pick.inputs.iter().map(|(level, table)| removed(keyspace, *level, table)).collect();
        changes.extend(self.done.iter().map(|(file, summary)| Change::TableAdded {
            keyspace,
            level: self.pick.output_level,
            table: Arc::new(TableReference::whole(*file, summary, epoch)),
        }));
        let mut manifest = engine.manifest.lock();
        // The plan was made long ago; it is held against what is there now.
        if !manifest.levels().holds(keyspace, &self.pick.inputs) {
            return Err(Fault::Overtaken);
        }
        let levels = manifest.commit(Edit { changes })?;
        engine.install(|view: &mut View| {
            update(
                view,
                &levels,
                |file| opened.iter().find(|(opened, _)| *opened == file).map(|(_, table)| table.clone()),
                &engine.budget,
            );
        });
        drop(manifest);
        let level = self.pick.output_level;
        for (file, summary) in &self.done {
            let bytes = summary.file_bytes;
            engine.events.tell(|| Event::TableMade {
                keyspace: engine.keyspace_name(keyspace),
                file: *file,
                level,
                bytes,
            });
        }
        engine.events.tell(|| Event::MergeDone {
            keyspace: engine.keyspace_name(keyspace),
            tables: self.done.len(),
            bytes: self.done.iter().map(|(_, summary)| summary.file_bytes).sum(),
            level,
        });
        engine.preload(|file| self.done.iter().any(|(done, _)| *done == file));
        engine.counters.merged(self.read_bytes, &self.done);
        engine.forget_tables(&levels, self.pick.inputs.iter().map(|(_, table)| &**table));
        Ok(())
    }
}

impl Output {
    fn create(engine: &Engine, plan: &OutputPlan) -> Result<Self> {
        let (file, writer) = plan.create(engine)?;
        Ok(Self { file, writer, below_bytes: 0 })
    }
}

/// Whether a level below `level` may hold something of a user key.
fn may_be_deeper(tables: &OpenTree, level: usize, user: &[u8]) -> bool {
    ((level + 1)..LEVEL_COUNT).any(|level| tables.find(level, user).is_some())
}

/// Whether a level below `level` may hold something in a range.
fn is_deeper(tables: &OpenTree, level: usize, range: &KeyRange) -> bool {
    let deeper = (level + 1)..LEVEL_COUNT;
    deeper.into_iter().any(|level| tables.tree.overlapping(level, range).next().is_some())
}
