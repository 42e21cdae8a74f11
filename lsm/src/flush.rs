//! Memtables to tables: one generation at a time, the oldest first, in steps.
//!
//! Each keyspace of the generation becomes one table of level 0. When all are written and their names durable, one edit adds the tables, moves
//! the marks of *all* keyspaces (those with nothing to flush too) and drops the logs; then the View changes. What belongs to a keyspace that was dropped
//! meanwhile is left out.

use std::sync::Arc;
use std::time::Duration;

use crate::batch::KeyspaceId;
use crate::budget::Budget;
use crate::compaction::drop::{Filter, Retention};
use crate::engine::{Engine, Progress, sites};
use crate::error::{Error, IoContext, Result};
use crate::event::Event;
use crate::filename::{FileName, FileNumber};
use crate::iter::InternalIterator;
use crate::levels::{Change, Edit, Generation, KeyspaceView, Levels, OpenTree, TableReference, View};
use crate::memtable::Memtable;
use crate::ordered::{OrderedMap, OrderedSet};
use crate::output::OutputPlan;
use crate::range_tombstone::RangeTombstones;
use crate::row::KeyspaceKind;
use crate::table::fixed::SharedFilter;
use crate::table::{AnyTable, AnyTableWriter, ExpectedTable, TableSummary};
use crate::visible::Source;

/// One table being written.
#[derive(Debug)]
struct Open {
    keyspace: KeyspaceId,
    file: FileNumber,
    writer: AnyTableWriter,
    plan: OutputPlan,
    iter: Source,
    filter: Filter,
    shared: Option<Arc<SharedFilter>>,
}

/// One generation on its way to disk.
#[derive(Debug)]
pub(crate) struct FlushJob {
    generation: Arc<Generation>,
    pending: Vec<(KeyspaceId, Memtable)>,
    open: Option<Open>,
    done: Vec<(KeyspaceId, FileNumber, TableSummary)>,
    /// The filters into which keys of these keyspaces went, beside their tables' own.
    shared: OrderedMap<KeyspaceId, Arc<SharedFilter>>,
    retention: Retention,
    /// When it began.
    begun: Duration,
}

/// Keys that a shared filter has place for at least: where flushes are small, several fit all the same.
const SHARED_KEYS_MIN: usize = 4096;

/// The budget must have room for so many times what a shared filter takes: the filters of tables, which save reads, come first.
const SHARED_ROOM: usize = 4;

impl Open {
    /// Whether a further entry goes to a further table. Those of sorted keyspaces are told apart by their age: one flush makes one.
    fn is_full(&self, engine: &Engine) -> bool {
        matches!(self.writer, AnyTableWriter::Fixed(_))
            && self.writer.entries() > 0
            && self.writer.estimated_bytes() >= engine.tuning.fixed_table_bytes()
            && !self.writer.ends_with(self.iter.key())
    }

    /// Begins the next table; returns the one that ends.
    fn next_table(&mut self, engine: &Engine) -> Result<(KeyspaceId, FileNumber, TableSummary)> {
        let (file, mut writer) = self.plan.create(engine)?;
        share(&mut writer, self.shared.as_ref());
        let full = std::mem::replace(&mut self.writer, writer);
        Ok((self.keyspace, std::mem::replace(&mut self.file, file), full.finish()?))
    }
}

impl Engine {
    /// Has tables that were just written, and are to be resident, loaded, on this thread rather than on that of whoever reads first. What cannot be read
    /// now is an error when it is asked for.
    pub(crate) fn preload(&self, is_new: impl Fn(FileNumber) -> bool) {
        let view = self.view();
        let tables = view.keyspaces.values().flat_map(|keyspace| keyspace.tables.tables());
        for open in tables.filter(|open| is_new(open.reference.file)) {
            open.preload();
        }
    }

    /// Makes more of tables of rows resident, after what was before them has gone: it counted until then.
    pub(crate) fn settle_resident(&self) {
        let more = |keyspace: &KeyspaceView| keyspace.tables.with_more_resident(&self.budget);
        if self.view().keyspaces.values().all(|keyspace| !keyspace.tables.may_gain(&self.budget)) {
            return;
        }
        let mut gained = OrderedSet::new();
        self.install(|view| {
            for keyspace in view.keyspaces.values_mut() {
                let Some((tables, files)) = more(keyspace) else { continue };
                gained.extend(files);
                *keyspace = Arc::new(KeyspaceView {
                    name: Arc::clone(&keyspace.name),
                    kind: keyspace.kind,
                    active: keyspace.active.clone(),
                    frozen: keyspace.frozen.clone(),
                    tables: Arc::new(tables),
                });
            }
        });
        self.preload(|file| gained.contains(&file));
    }

    /// Runs one step of the oldest generation's flush.
    ///
    /// # Errors
    /// Closed; ReadOnly; Failed and those of writing: the database has failed then.
    pub(crate) fn flush_step(&self) -> Result<Progress> {
        let stepped = self.flush_step_quietly();
        self.events.deliver();
        stepped
    }

    /// As [`Self::flush_step`], and nobody is told before somebody else tells.
    ///
    /// # Errors
    /// The same.
    pub(crate) fn flush_step_quietly(&self) -> Result<Progress> {
        let mut job = self.flush_job.lock();
        self.check_writable()?;
        let had_job = job.is_some();
        let progress = self.step_flush(&mut job)?;
        let is_done = job.is_none();
        drop(job);
        if had_job && is_done {
            self.notify();
            self.give_memory_back();
        }
        Ok(progress)
    }

    /// As [`Self::flush_step`], for whoever holds the lock.
    pub(crate) fn step_flush(&self, job: &mut Option<FlushJob>) -> Result<Progress> {
        let current = match job {
            Some(current) => current,
            None => match self.view().frozen.first() {
                Some(oldest) => {
                    self.events.tell(|| Event::FlushBegun {
                        memtables: oldest.memtables.len(),
                        bytes: oldest.memory_bytes(),
                    });
                    job.insert(FlushJob::new(Arc::clone(oldest), self))
                }
                None => return Ok(Progress::Idle),
            },
        };
        // No edit shows what the journal might lose: the turn that froze this generation is settled, whenever it was.
        self.settle_turn()?;
        let stepped = current.step(self).map_err(|error| self.fail(error))?;
        if stepped == Progress::Idle {
            *job = None;
            // The View that came without the generation was installed while the job still kept it.
            self.share_memory();
        }
        Ok(Progress::Working)
    }
}

impl FlushJob {
    fn new(generation: Arc<Generation>, engine: &Engine) -> Self {
        Self {
            pending: generation.memtables.iter().map(|(id, memtable)| (*id, memtable.clone())).collect(),
            generation,
            open: None,
            done: Vec::new(),
            shared: OrderedMap::new(),
            retention: Retention::new(engine.read_sequences()),
            begun: engine.clock.now(),
        }
    }

    /// Idle when the generation is on disk and in the View.
    fn step(&mut self, engine: &Engine) -> Result<Progress> {
        let is_dropped = |id: KeyspaceId| !engine.view().keyspaces.contains_key(&id);
        if let Some(open) = self.open.take_if(|open| is_dropped(open.keyspace)) {
            engine.add_obsolete([FileName::Table(open.file)]);
        } else if let Some(open) = &mut self.open {
            // Writers are about to wait for this; most of what is in level 0 is merged soon, and compressed then.
            open.writer.hurry(engine.all_wait_that_may(&engine.view()));
            for _ in 0..engine.tuning.step_entries {
                if !open.iter.valid() {
                    break;
                }
                if open.filter.keeps(open.iter.key(), |_| false)? {
                    if open.is_full(engine) {
                        self.done.push(open.next_table(engine)?);
                    }
                    open.writer.add(open.iter.key(), open.iter.value())?;
                }
                open.iter.next()?;
            }
            if !open.iter.valid()
                && let Some(open) = self.open.take()
            {
                self.done.push((open.keyspace, open.file, open.writer.finish()?));
            }
        } else if let Some((keyspace, memtable)) = self.pending.pop() {
            if !is_dropped(keyspace) {
                self.open = Some(self.begin(engine, keyspace, &memtable)?);
            }
        } else {
            let bytes = self.generation.memory_bytes();
            self.install(engine)?;
            let time = engine.clock.now().saturating_sub(self.begun);
            engine.backlog.flushed(bytes, time);
            return Ok(Progress::Idle);
        }
        Ok(Progress::Working)
    }

    fn begin(&mut self, engine: &Engine, keyspace: KeyspaceId, memtable: &Memtable) -> Result<Open> {
        let (kind, has_deletions, mut iter) = match memtable {
            Memtable::Sorted(memtable) => {
                let newest = memtable.sequence_max();
                (KeyspaceKind::Sorted, true, Source::Memtable(memtable.iter(), newest))
            }
            Memtable::Fixed(memtable) => (
                KeyspaceKind::Fixed(memtable.widths()),
                memtable.deletion_count() > 0,
                Source::Rows(memtable.sorted_iter()),
            ),
        };
        let sequences = (memtable.sequence_min(), memtable.sequence_max());
        // As `install` gives it; only flushes make new ones, one after the other.
        let keyspaces: OrderedSet<KeyspaceId> = self.done.iter().map(|(id, ..)| *id).collect();
        let epoch = engine.manifest.lock().levels().epoch_max().saturating_add(1 + keyspaces.len() as u64);
        let plan = OutputPlan::new(kind, 0, sequences, has_deletions, &self.retention).of(keyspace, epoch);
        let shared = shared_filter(engine, keyspace, memtable);
        if let Some(shared) = &shared {
            self.shared.insert(keyspace, Arc::clone(shared));
        }
        let (file, mut writer) = plan.create(engine)?;
        share(&mut writer, shared.as_ref());
        let tombstones = memtable.range_tombstones().unwrap_or_default();
        add_tombstones(&mut writer, &tombstones)?;
        iter.seek_to_first()?;
        let filter = Filter::new(self.retention.clone(), tombstones);
        Ok(Open { keyspace, file, writer, plan, iter, filter, shared })
    }

    /// Forgets tables of keyspaces that were dropped.
    fn leave_out(&mut self, engine: &Engine, is_dropped: impl Fn(&KeyspaceId) -> bool) {
        let gone = self.done.extract_if(.., |(id, ..)| is_dropped(id));
        engine.add_obsolete(gone.map(|(_, file, _)| FileName::Table(file)));
    }

    fn install(&mut self, engine: &Engine) -> Result<()> {
        engine
            .fs
            .sync_dir(&engine.directory, sites::TABLE_NAMES)
            .context("sync the directory", &engine.directory)?;
        let view = engine.view();
        let kinds: OrderedMap<_, _> =
            view.keyspaces.iter().map(|(id, keyspace)| (*id, keyspace.kind)).collect();
        drop(view);
        self.leave_out(engine, |id| !kinds.contains_key(id));
        let mut opened = Vec::new();
        for (keyspace, file, summary) in &self.done {
            if let Some(kind) = kinds.get(keyspace) {
                let table = open_table(engine, *file, *kind, summary)?;
                if let AnyTable::Fixed(table) = &table {
                    table.share(self.shared.get(keyspace).cloned());
                }
                opened.push((*file, table));
            }
        }
        let through = self.generation.last_sequence;
        let mut manifest = engine.manifest.lock();
        // From here on no keyspace goes.
        self.leave_out(engine, |id| !manifest.levels().keyspaces.contains_key(id));
        let mut epoch = manifest.levels().epoch_max();
        let mut changes = Vec::new();
        let mut before = None;
        for (keyspace, file, summary) in &self.done {
            // The tables of one keyspace are one run. A manifest may say any epoch.
            if before.replace(*keyspace) != Some(*keyspace) {
                epoch = epoch
                    .checked_add(1)
                    .ok_or_else(|| Error::corruption("the epochs of tables are used up"))?;
            }
            let table = Arc::new(TableReference::whole(*file, summary, epoch));
            changes.push(Change::TableAdded { keyspace: *keyspace, level: 0, table });
        }
        changes.extend(manifest.levels().flushed_through(through));
        changes.extend(self.generation.logs.iter().map(|number| Change::LogRemoved(*number)));
        changes.push(Change::NextSequence(through + 1));
        let levels = manifest.commit(Edit { changes })?;
        let logs = self.generation.logs.clone();
        // Installed before the next edit can be made: Views follow edits in their order.
        engine.install(|view| {
            view.frozen.retain(|frozen| !Arc::ptr_eq(frozen, &self.generation));
            update(
                view,
                &levels,
                |file| opened.iter().find(|(opened, _)| *opened == file).map(|(_, table)| table.clone()),
                &engine.budget,
            );
        });
        drop(manifest);
        // Whoever waited for that fills the next memtable from here on: with this one's memory, not with more.
        self.generation = Arc::default();
        for (id, file, summary) in &self.done {
            let bytes = summary.file_bytes;
            engine.events.tell(|| Event::TableMade {
                keyspace: engine.keyspace_name(*id),
                file: *file,
                level: 0,
                bytes,
            });
        }
        engine.events.tell(|| Event::FlushDone {
            tables: self.done.len(),
            bytes: self.done.iter().map(|(.., summary)| summary.file_bytes).sum(),
            through,
        });
        engine.preload(|file| self.done.iter().any(|(_, done, _)| *done == file));
        engine.counters.flushed(&self.done);
        engine.add_obsolete(logs.into_iter().map(FileName::Log));
        engine.ask_to_remove();
        engine.settle_resident();
        Ok(())
    }
}

/// The filter that the next table of a keyspace is to share with others: the newest table's, if it has place for all keys, or one for this table and those
/// after it, as many as are merged when all have its size; none where there is little memory.
fn shared_filter(engine: &Engine, keyspace: KeyspaceId, memtable: &Memtable) -> Option<Arc<SharedFilter>> {
    let Memtable::Fixed(memtable) = memtable else { return None };
    let rows = memtable.entry_count();
    if engine.tuning.filter_bits_per_key == 0 {
        return None;
    }
    let newest = engine.view().keyspaces.get(&keyspace)?.tables.runs().newest_filter();
    newest.filter(|newest| newest.reserve(rows)).or_else(|| {
        let keys = rows.saturating_mul(engine.tuning.tier_runs).max(SHARED_KEYS_MIN);
        let budget = &engine.budget;
        if !budget.has_room(SharedFilter::bytes_for(keys).saturating_mul(SHARED_ROOM)) {
            return None;
        }
        let shared = SharedFilter::new(keys, budget.resident());
        shared.reserve(rows).then(|| Arc::new(shared))
    })
}

/// Has the keys of a table put into a filter that others share.
fn share(writer: &mut AnyTableWriter, shared: Option<&Arc<SharedFilter>>) {
    if let (AnyTableWriter::Fixed(writer), Some(shared)) = (writer, shared) {
        writer.share(Arc::clone(shared));
    }
}

/// Adds all of a set.
pub(crate) fn add_tombstones(writer: &mut AnyTableWriter, tombstones: &RangeTombstones) -> Result<()> {
    tombstones.iter().try_for_each(|tombstone| {
        writer.add_range_tombstone(tombstone.start, tombstone.end, tombstone.sequence)
    })
}

/// Opens a table that was just written. What cannot be read back was not written: an error here counts as one of writing, and no edit names
/// the table.
pub(crate) fn open_table(
    engine: &Engine,
    file: FileNumber,
    kind: KeyspaceKind,
    summary: &TableSummary,
) -> Result<AnyTable> {
    let expected = ExpectedTable {
        identity: summary.identity,
        database: engine.database,
        file_bytes: summary.file_bytes,
    };
    let path = FileName::Table(file).path(&engine.directory);
    AnyTable::open(&engine.fs, &path, kind, expected, engine.budget.cache())
}

/// Brings the tables of a View to what an edit left; memtables that the flushed generations held go. Tables that were not open before
/// are `new`.
pub(crate) fn update(
    view: &mut View,
    levels: &Levels,
    new: impl Fn(FileNumber) -> Option<AnyTable>,
    budget: &Budget,
) {
    let frozen = &view.frozen;
    for (id, keyspace) in view.keyspaces.iter_mut() {
        let Some(record) = levels.keyspaces.get(id) else { continue };
        let is_waiting = |memtable: &Memtable| {
            frozen.iter().any(|generation| {
                generation.memtables.get(id).is_some_and(|waiting| waiting.is_same(memtable))
            })
        };
        let same_tables = Arc::ptr_eq(&keyspace.tables.tree, &record.tree);
        if same_tables && keyspace.frozen.iter().all(is_waiting) {
            continue;
        }
        let tables = if same_tables {
            Arc::clone(&keyspace.tables)
        } else {
            let known = &keyspace.tables;
            let open = |reference: &Arc<TableReference>| {
                known.table(reference.file).cloned().or_else(|| new(reference.file)).ok_or_else(|| {
                    crate::Error::corruption(format!("{} is not open", FileName::Table(reference.file)))
                })
            };
            match OpenTree::new(Arc::clone(&record.tree), open) {
                Ok(tree) => Arc::new(tree.settled(known, budget)),
                Err(error) => unreachable!("an edit names only tables that are open: {error}"),
            }
        };
        *keyspace = Arc::new(KeyspaceView {
            name: Arc::clone(&keyspace.name),
            kind: keyspace.kind,
            active: keyspace.active.clone(),
            frozen: keyspace.frozen.iter().filter(|memtable| is_waiting(memtable)).cloned().collect(),
            tables,
        });
    }
}
