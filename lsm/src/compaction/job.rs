//! One merge, in steps.
//!
//! The inputs are merged, what nobody can see is dropped, the rest goes to tables of about the target size, cut between user keys. Each output
//! answers for the keys from its cut to the next; range tombstones are cut there too, so that the tables of a level never overlap. One edit takes
//! the inputs out and puts the outputs in; nothing in it is new to any reader.
//!
//! A merge that cannot *read* (a bad sector, a damaged block) is given up and kept as an error in the statistics; its inputs are
//! not touched, and the database works on: readers of other keys must not suffer. It is tried again by the next session. A merge that cannot *write*
//! fails the database, as every failed write does.

use std::collections::HashSet;
use std::sync::Arc;

use crate::batch::KeyspaceId;
use crate::compaction::drop::{Filter, Retention};
use crate::compaction::pick::{Pick, pick, pick_all, urgency};
use crate::engine::{Engine, Progress, sites};
use crate::error::{Error, IoContext, Result};
use crate::filename::{FileName, FileNumber};
use crate::flush::{open_table, update};
use crate::iter::InternalIterator;
use crate::journal::random_identity;
use crate::key::split;
use crate::levels::{Change, Edit, LEVEL_COUNT, OpenTable, OpenTree, RunIter, TableReference, View};
use crate::merge::MergingIterator;
use crate::range::KeyRange;
use crate::range_tombstone::{RangeTombstone, RangeTombstones};
use crate::table::{ReadMode, TableSummary, TableWriter};

/// An output overlaps at most so many times its own size in the level below that of the output: else merging it down will cost too much.
const OVERLAP_MAX: u64 = 10;

/// The right to merge, and the merge under way.
#[derive(Debug, Default)]
pub(crate) struct CompactionState {
    job: Option<Job>,
    /// Merges that were given up in this session: their inputs are not picked again.
    given_up: Vec<FileNumber>,
}

#[derive(Debug)]
struct Job {
    keyspace: KeyspaceId,
    pick: Pick,
    merge: MergingIterator<RunIter>,
    filter: Filter,
    /// Those of the inputs that stay.
    tombstones: RangeTombstones,
    /// The tree as it was; only level 0 and the levels not touched can change meanwhile, and they don't get older entries.
    tables: Arc<OpenTree>,
    /// Deepest first within each level that might hold older entries: where the scan for "is there anything deeper" stands.
    output: Option<Output>,
    /// Where the next output begins.
    lower: Vec<u8>,
    last_user: Vec<u8>,
    done: Vec<(FileNumber, TableSummary)>,
}

#[derive(Debug)]
struct Output {
    file: FileNumber,
    writer: TableWriter,
    /// The level below the output's: which of its tables this output reached, and their bytes.
    below_index: usize,
    below_bytes: u64,
}

impl Engine {
    /// Runs one step of a merge, starting one where one is wanted.
    ///
    /// # Errors
    /// Closed; ReadOnly; Failed and those of writing: the database has failed then.
    pub(crate) fn compaction_step(&self) -> Result<Progress> {
        let mut state = self.compaction_job.lock();
        self.check_writable()?;
        let CompactionState { job, given_up } = &mut *state;
        if job.is_none() {
            let view = self.view();
            let wanted = view
                .keyspaces
                .iter()
                .map(|(id, keyspace)| (urgency(&keyspace.tables.tree, &self.tuning), *id, keyspace))
                .filter(|(urgency, ..)| *urgency >= 1000)
                .filter_map(|(urgency, id, keyspace)| {
                    let pick = pick(&keyspace.tables.tree, &self.tuning)?;
                    let is_given_up = pick.inputs.iter().any(|(_, table)| given_up.contains(&table.file));
                    (!is_given_up).then_some((urgency, id, keyspace, pick))
                })
                .max_by_key(|(urgency, ..)| *urgency);
            let Some((_, id, keyspace, pick)) = wanted else { return Ok(Progress::Idle) };
            if pick.is_move() {
                self.move_down(id, &pick)?;
                drop(state);
                self.notify();
                return Ok(Progress::Working);
            }
            *job = self.begin_job(id, &keyspace.tables, pick, given_up)?;
            return Ok(Progress::Working);
        }
        self.step_job(job, given_up)?;
        drop(state);
        self.notify();
        Ok(Progress::Working)
    }

    /// Merges all tables of each keyspace into one run each.
    ///
    /// # Errors
    /// Closed, if that comes between: whoever closes waits for one step, not for all; ReadOnly; Failed; those of reading and writing.
    pub(crate) fn compact_all(&self) -> Result<()> {
        let mut state = self.compaction_job.lock();
        self.check_writable()?;
        let CompactionState { job, given_up } = &mut *state;
        while job.is_some() {
            self.check_writable()?;
            self.step_job(job, given_up)?;
        }
        let keyspaces: Vec<KeyspaceId> = self.view().keyspaces.keys().copied().collect();
        for id in keyspaces {
            self.check_writable()?;
            let view = self.view();
            let Some(keyspace) = view.keyspaces.get(&id) else { continue };
            let Some(pick) = pick_all(&keyspace.tables.tree) else { continue };
            if pick.is_move() {
                continue;
            }
            let known = given_up.len();
            *job = self.begin_job(id, &keyspace.tables, pick, given_up)?;
            while job.is_some() {
                self.check_writable()?;
                self.step_job(job, given_up)?;
            }
            if given_up.len() > known
                && let Some(error) = self.counters.compaction_error()
            {
                return Err(error);
            }
        }
        drop(state);
        self.notify();
        Ok(())
    }

    /// Drops the merge under way, if there is one, and what was written of it: its inputs are untouched.
    pub(crate) fn drop_merge(&self, state: &mut CompactionState) {
        if let Some(job) = state.job.take() {
            self.add_obsolete(job.files().map(FileName::Table));
        }
    }

    /// A table goes one level down as it is.
    fn move_down(&self, keyspace: KeyspaceId, pick: &Pick) -> Result<()> {
        let mut manifest = self.manifest.lock();
        let mut changes = Vec::new();
        for (level, table) in &pick.inputs {
            changes.push(removed(keyspace, *level, table));
            changes.push(Change::TableAdded { keyspace, level: pick.output_level, table: Arc::clone(table) });
        }
        let levels = manifest.commit(Edit { changes }).map_err(|error| self.fail(error))?;
        self.install(|view| update(view, &levels, |_| None));
        self.counters.moved();
        Ok(())
    }

    fn begin_job(
        &self,
        keyspace: KeyspaceId,
        tables: &Arc<OpenTree>,
        pick: Pick,
        given_up: &mut Vec<FileNumber>,
    ) -> Result<Option<Job>> {
        let files: Vec<FileNumber> = pick.inputs.iter().map(|(_, table)| table.file).collect();
        match Job::new(self, keyspace, Arc::clone(tables), pick) {
            Ok(job) => Ok(Some(job)),
            Err(error) => {
                self.counters.compaction_failed(error);
                given_up.extend(files);
                Ok(None)
            }
        }
    }

    fn step_job(&self, job: &mut Option<Job>, given_up: &mut Vec<FileNumber>) -> Result<()> {
        let Some(current) = job else { return Ok(()) };
        match current.step(self) {
            Ok(Progress::Working) => Ok(()),
            Ok(Progress::Idle) => {
                *job = None;
                Ok(())
            }
            Err(Fault::Read(error)) => {
                // What was written of it lies under numbers that the manifest has given out, and goes.
                self.add_obsolete(current.files().map(FileName::Table));
                given_up.extend(current.pick.inputs.iter().map(|(_, table)| table.file));
                self.counters.compaction_failed(error);
                *job = None;
                self.remove_obsolete();
                Ok(())
            }
            Err(Fault::Write(error)) => {
                *job = None;
                Err(self.fail(error))
            }
        }
    }
}

fn removed(keyspace: KeyspaceId, level: usize, table: &TableReference) -> Change {
    Change::TableRemoved { keyspace, level, file: table.file, lower: table.bounds.lower.clone() }
}

/// What made a merge end: reading, which harms nobody else, or writing.
enum Fault {
    Read(Error),
    Write(Error),
}

impl Job {
    fn new(engine: &Engine, keyspace: KeyspaceId, tables: Arc<OpenTree>, pick: Pick) -> Result<Self> {
        let mut sources = Vec::new();
        let mut tombstones: Vec<RangeTombstone> = Vec::new();
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
            let inputs: Vec<OpenTable> = open_tables.iter().filter(is_input).cloned().collect();
            for set in inputs.iter().filter_map(|open| open.tombstones.as_ref()) {
                tombstones.extend(set.iter().map(|tombstone| tombstone.to_owned()));
            }
            // One source for a run: each source reads far ahead, so their number is memory.
            if level == 0 {
                let alone = inputs.into_iter().map(|open| Arc::from([open]));
                sources.extend(alone.map(|open| RunIter::new(open, ReadMode::Bypass, KeyRange::all())));
            } else if !inputs.is_empty() {
                sources.push(RunIter::new(inputs.into(), ReadMode::Bypass, KeyRange::all()));
            }
        }
        let mut merge = MergingIterator::new(sources);
        merge.seek_to_first()?;
        let retention = Retention::new(engine.read_sequences());
        let all = Arc::new(RangeTombstones::new(tombstones.iter().cloned()));
        let output_level = pick.output_level;
        let staying = tombstones.into_iter().filter(|tombstone| {
            let range = KeyRange::until(tombstone.start.clone(), tombstone.end.clone());
            retention.stripe(tombstone.sequence) > 0 || is_deeper(&tables, output_level, &range)
        });
        Ok(Self {
            keyspace,
            pick,
            merge,
            tombstones: RangeTombstones::new(staying),
            filter: Filter::new(retention, all),
            tables,
            output: None,
            lower: Vec::new(),
            last_user: Vec::new(),
            done: Vec::new(),
        })
    }

    fn files(&self) -> impl Iterator<Item = FileNumber> + '_ {
        self.done.iter().map(|(file, _)| *file).chain(self.output.as_ref().map(|output| output.file))
    }

    /// Idle when the merge is done and in the View.
    fn step(&mut self, engine: &Engine) -> Result<Progress, Fault> {
        for _ in 0..engine.tuning.step_entries {
            if !self.merge.valid() {
                self.close_output(engine, None).map_err(Fault::Write)?;
                self.install(engine).map_err(Fault::Write)?;
                return Ok(Progress::Idle);
            }
            let (user, _) = split(self.merge.key()).map_err(Fault::Read)?;
            let (tables, output_level) = (&self.tables, self.pick.output_level);
            let keeps = self
                .filter
                .keeps(self.merge.key(), |user| !may_be_deeper(tables, output_level, user))
                .map_err(Fault::Read)?;
            if keeps {
                if user != self.last_user {
                    self.last_user.clear();
                    self.last_user.extend_from_slice(user);
                    if self.is_full(engine) {
                        let cut = self.last_user.clone();
                        self.close_output(engine, Some(cut)).map_err(Fault::Write)?;
                    }
                }
                let output = match &mut self.output {
                    Some(output) => output,
                    None => self.output.insert(Output::create(engine, output_level).map_err(Fault::Write)?),
                };
                output.writer.add(self.merge.key(), self.merge.value()).map_err(Fault::Write)?;
            }
            self.merge.next().map_err(Fault::Read)?;
        }
        Ok(Progress::Working)
    }

    /// Whether the output should end before `last_user`.
    fn is_full(&mut self, engine: &Engine) -> bool {
        // Tables of level 0 are told apart by their age: one merge makes one. The pick saw to it that it is small.
        if self.pick.output_level == 0 {
            return false;
        }
        let Some(output) = &mut self.output else { return false };
        let below = self.tables.levels().get(self.pick.output_level + 1).map_or(&[][..], |level| level);
        while let Some(open) = below.get(output.below_index)
            && !open.reference.bounds.is_before_end(&self.last_user)
        {
            output.below_index += 1;
            if output.writer.entries() > 0 {
                output.below_bytes += open.reference.file_bytes;
            }
        }
        output.writer.estimated_bytes() >= engine.tuning.table_bytes
            || output.below_bytes > OVERLAP_MAX * engine.tuning.table_bytes
    }

    /// Ends the output before the user key `cut`, or behind everything.
    fn close_output(&mut self, engine: &Engine, cut: Option<Vec<u8>>) -> Result<()> {
        let range = KeyRange::until(self.lower.clone(), cut.clone());
        let tombstones = self.tombstones.clipped(&range);
        if self.output.is_none() && !tombstones.is_empty() {
            self.output = Some(Output::create(engine, self.pick.output_level)?);
        }
        if let Some(mut output) = self.output.take() {
            crate::flush::add_tombstones(&mut output.writer, &tombstones);
            self.done.push((output.file, output.writer.finish()?));
        }
        if let Some(cut) = cut {
            self.lower = cut;
        }
        Ok(())
    }

    fn install(&mut self, engine: &Engine) -> Result<()> {
        if !self.done.is_empty() {
            engine
                .fs
                .sync_dir(&engine.directory, sites::TABLE_NAMES)
                .context("sync the directory", &engine.directory)?;
        }
        let mut opened = Vec::new();
        for (file, summary) in &self.done {
            opened.push((*file, open_table(engine, *file, summary)?));
        }
        let epoch = self.pick.inputs.iter().map(|(_, table)| table.epoch).max().unwrap_or(0);
        let keyspace = self.keyspace;
        let mut changes: Vec<Change> =
            self.pick.inputs.iter().map(|(level, table)| removed(keyspace, *level, table)).collect();
        changes.extend(self.done.iter().map(|(file, summary)| Change::TableAdded {
            keyspace,
            level: self.pick.output_level,
            table: Arc::new(TableReference::whole(*file, summary, epoch)),
        }));
        let mut manifest = engine.manifest.lock();
        let levels = manifest.commit(Edit { changes })?;
        engine.install(|view: &mut View| {
            update(view, &levels, |file| {
                opened.iter().find(|(opened, _)| *opened == file).map(|(_, table)| Arc::clone(table))
            });
        });
        drop(manifest);
        engine.counters.merged(self.pick.bytes(), &self.done);
        // A file may be referred to more than once; it goes with the last reference.
        let still_used = |file: FileNumber| {
            levels
                .keyspaces
                .values()
                .flat_map(|keyspace| keyspace.tree.tables())
                .any(|(_, table)| table.file == file)
        };
        let gone = self.pick.inputs.iter().map(|(_, table)| table.file).filter(|file| !still_used(*file));
        engine.add_obsolete(gone.map(FileName::Table));
        engine.remove_obsolete();
        Ok(())
    }
}

impl Output {
    fn create(engine: &Engine, level: usize) -> Result<Self> {
        let file = engine.manifest.lock().next_file()?;
        let writer = TableWriter::create(
            &engine.fs,
            &FileName::Table(file).path(&engine.directory),
            random_identity()?,
            engine.database,
            engine.tuning.table_options(level),
        )?;
        Ok(Self { file, writer, below_index: 0, below_bytes: 0 })
    }
}

/// Whether a level below `level` may hold something of a user key.
fn may_be_deeper(tables: &OpenTree, level: usize, user: &[u8]) -> bool {
    let deeper = tables.levels().iter().take(LEVEL_COUNT).skip(level + 1);
    deeper.into_iter().any(|level| OpenTree::find(level, user).is_some())
}

/// Whether a level below `level` may hold something in a range.
fn is_deeper(tables: &OpenTree, level: usize, range: &KeyRange) -> bool {
    let deeper = (level + 1)..LEVEL_COUNT;
    deeper.into_iter().any(|level| tables.tree.overlapping(level, range).next().is_some())
}
