//! Memtables to tables: one generation at a time, the oldest first, in steps.
//!
//! Each keyspace of the generation becomes one table of level 0. When all are written and their names durable, one edit adds the tables, moves
//! the marks of *all* keyspaces (those with nothing to flush too) and drops the logs; then the View changes.

use std::sync::Arc;

use crate::batch::KeyspaceId;
use crate::compaction::drop::{Filter, Retention};
use crate::engine::{Engine, Progress, sites};
use crate::error::{Error, IoContext, Result};
use crate::filename::{FileName, FileNumber};
use crate::iter::InternalIterator;
use crate::journal::random_identity;
use crate::levels::{Change, Edit, Generation, KeyspaceView, Levels, OpenTree, TableReference, View};
use crate::memtable::{Memtable, SortedIter};
use crate::range_tombstone::RangeTombstones;
use crate::table::{ExpectedTable, Table, TableSummary, TableWriter};

/// One table being written.
#[derive(Debug)]
struct Open {
    keyspace: KeyspaceId,
    file: FileNumber,
    writer: TableWriter,
    iter: SortedIter,
    filter: Filter,
}

/// One generation on its way to disk.
#[derive(Debug)]
pub(crate) struct FlushJob {
    generation: Arc<Generation>,
    pending: Vec<(KeyspaceId, Memtable)>,
    open: Option<Open>,
    done: Vec<(KeyspaceId, FileNumber, TableSummary)>,
    retention: Retention,
}

impl Engine {
    /// Runs one step of the oldest generation's flush.
    ///
    /// # Errors
    /// Closed; ReadOnly; Failed and those of writing: the database has failed then.
    pub(crate) fn flush_step(&self) -> Result<Progress> {
        let mut job = self.flush_job.lock();
        self.check_writable()?;
        let had_job = job.is_some();
        let progress = self.step_flush(&mut job)?;
        let is_done = job.is_none();
        drop(job);
        if had_job && is_done {
            self.notify();
        }
        Ok(progress)
    }

    /// As [`Self::flush_step`], for whoever holds the lock.
    pub(crate) fn step_flush(&self, job: &mut Option<FlushJob>) -> Result<Progress> {
        let current = match job {
            Some(current) => current,
            None => match self.view().frozen.first() {
                Some(oldest) => job.insert(FlushJob::new(Arc::clone(oldest), self)),
                None => return Ok(Progress::Idle),
            },
        };
        let stepped = current.step(self).map_err(|error| self.fail(error))?;
        if stepped == Progress::Idle {
            *job = None;
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
            retention: Retention::new(engine.read_sequences()),
        }
    }

    /// Idle when the generation is on disk and in the View.
    fn step(&mut self, engine: &Engine) -> Result<Progress> {
        if let Some(open) = &mut self.open {
            for _ in 0..engine.tuning.step_entries {
                if !open.iter.valid() {
                    break;
                }
                if open.filter.keeps(open.iter.key(), |_| false)? {
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
            self.open = Some(self.begin(engine, keyspace, &memtable)?);
        } else {
            self.install(engine)?;
            return Ok(Progress::Idle);
        }
        Ok(Progress::Working)
    }

    fn begin(&self, engine: &Engine, keyspace: KeyspaceId, memtable: &Memtable) -> Result<Open> {
        let file = engine.manifest.lock().next_file()?;
        let mut writer = TableWriter::create(
            &engine.fs,
            &FileName::Table(file).path(&engine.directory),
            random_identity()?,
            engine.database,
            engine.tuning.table_options(0),
        )?;
        let tombstones = memtable.range_tombstones().unwrap_or_default();
        add_tombstones(&mut writer, &tombstones);
        let Memtable::Sorted(sorted) = memtable;
        let mut iter = sorted.iter();
        iter.seek_to_first()?;
        let filter = Filter::new(self.retention.clone(), tombstones);
        Ok(Open { keyspace, file, writer, iter, filter })
    }

    fn install(&mut self, engine: &Engine) -> Result<()> {
        engine
            .fs
            .sync_dir(&engine.directory, sites::TABLE_NAMES)
            .context("sync the directory", &engine.directory)?;
        let mut opened = Vec::new();
        for (keyspace, file, summary) in &self.done {
            opened.push((*keyspace, *file, summary, open_table(engine, *file, summary)?));
        }
        let through = self.generation.last_sequence;
        let mut manifest = engine.manifest.lock();
        let mut epoch = manifest.levels().epoch_max();
        let mut changes = Vec::new();
        for (keyspace, file, summary, _) in &opened {
            // A manifest may say any epoch.
            epoch =
                epoch.checked_add(1).ok_or_else(|| Error::corruption("the epochs of tables are used up"))?;
            let table = Arc::new(TableReference::whole(*file, summary, epoch));
            changes.push(Change::TableAdded { keyspace: *keyspace, level: 0, table });
        }
        changes
            .extend(manifest.levels().keyspaces.keys().map(|id| Change::Flushed { keyspace: *id, through }));
        changes.extend(self.generation.logs.iter().map(|number| Change::LogRemoved(*number)));
        changes.push(Change::NextSequence(through + 1));
        let levels = manifest.commit(Edit { changes })?;
        // Installed before the next edit can be made: Views follow edits in their order.
        let generation = &self.generation;
        engine.install(|view| {
            view.frozen.retain(|frozen| !Arc::ptr_eq(frozen, generation));
            update(view, &levels, |file| {
                opened.iter().find(|(_, opened, ..)| *opened == file).map(|(.., table)| Arc::clone(table))
            });
        });
        drop(manifest);
        engine.counters.flushed(&self.done);
        engine.add_obsolete(self.generation.logs.iter().map(|number| FileName::Log(*number)));
        engine.remove_obsolete();
        Ok(())
    }
}

/// Adds all of a set.
pub(crate) fn add_tombstones(writer: &mut TableWriter, tombstones: &RangeTombstones) {
    for tombstone in tombstones.iter() {
        writer.add_range_tombstone(tombstone.start, tombstone.end, tombstone.sequence);
    }
}

/// Opens a table that was just written. What cannot be read back was not written: an error here counts as one of writing, and no edit names
/// the table.
pub(crate) fn open_table(engine: &Engine, file: FileNumber, summary: &TableSummary) -> Result<Arc<Table>> {
    let expected = ExpectedTable {
        identity: summary.identity,
        database: engine.database,
        file_bytes: summary.file_bytes,
    };
    let path = FileName::Table(file).path(&engine.directory);
    Table::open(&engine.fs, &path, expected, engine.budget.cache())
}

/// Brings the tables of a View to what an edit left; memtables that the flushed generations held go. Tables that were not open before
/// are `new`.
pub(crate) fn update(view: &mut View, levels: &Levels, new: impl Fn(FileNumber) -> Option<Arc<Table>>) {
    let frozen = &view.frozen;
    for (id, keyspace) in &mut view.keyspaces {
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
                Ok(tree) => Arc::new(tree),
                Err(error) => unreachable!("an edit names only tables that are open: {error}"),
            }
        };
        *keyspace = Arc::new(KeyspaceView {
            name: Arc::clone(&keyspace.name),
            active: keyspace.active.clone(),
            frozen: keyspace.frozen.iter().filter(|memtable| is_waiting(memtable)).cloned().collect(),
            tables,
        });
    }
}
