//! Figures: what is there now, and what was done since opening.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::sync::Mutex;

use crate::batch::KeyspaceId;
use crate::engine::Engine;
use crate::error::Error;
use crate::filename::FileNumber;
use crate::key::SequenceNumber;
use crate::table::TableSummary;

/// One keyspace.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyspaceStats {
    /// Its name.
    pub name: String,
    /// Tables in each level.
    pub level_tables: Vec<usize>,
    /// Bytes of the tables of each level.
    pub level_bytes: Vec<u64>,
    /// Entries in tables, older versions and deletions included.
    pub table_entries: u64,
    /// Bytes of its memtables.
    pub memtable_bytes: usize,
    /// Entries in memtables.
    pub memtable_entries: usize,
}

/// A database, as of one moment; counts are since it was opened.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Stats {
    /// The keyspaces, by name.
    pub keyspaces: Vec<KeyspaceStats>,
    /// Bytes of all tables.
    pub table_bytes: u64,
    /// Bytes of memory: memtables, those included that only snapshots and scans keep.
    pub memtable_bytes: usize,
    /// Bytes of memory: the block cache.
    pub cache_bytes: usize,
    /// Bytes that it may take now: what the others leave of the budget, and what nobody counts.
    pub cache_capacity_bytes: usize,
    /// Blocks that were asked for and were in the cache. (What tables keep for themselves is not asked for.)
    pub cache_hits: u64,
    /// Blocks that were asked for and had to be read.
    pub cache_misses: u64,
    /// Bytes of memory: what open tables keep, those included that only snapshots and scans keep.
    pub open_table_bytes: usize,
    /// Bytes of memory: rows, indexes and filters of keyspaces of fixed widths that are kept beside the cache.
    pub resident_bytes: usize,
    /// Bytes of memory: what bulk loads sort in.
    pub load_bytes: usize,
    /// Bytes of memory: what merges of rows sort and write in.
    pub merge_bytes: usize,
    /// The memory budget.
    pub memory_bytes: usize,
    /// Batches committed.
    pub commits: u64,
    /// Operations in them.
    pub operations: u64,
    /// Bytes of the encoded batches.
    pub batch_bytes: u64,
    /// Memtables that became tables.
    pub flushes: u64,
    /// Bytes of those tables.
    pub flushed_bytes: u64,
    /// Merges, and tables moved down without one.
    pub compactions: u64,
    /// Tables moved down.
    pub moves: u64,
    /// Tables that went unread, because range deletes had emptied them.
    pub dropped_tables: u64,
    /// Bytes read by merges.
    pub compaction_read_bytes: u64,
    /// Bytes written by merges.
    pub compaction_written_bytes: u64,
    /// Transactions that were refused because somebody else was quicker.
    pub conflicts: u64,
    /// How often a writer had to wait for a flush or a merge.
    pub stalls: u64,
    /// How long writers were slowed, in total.
    pub delay: Duration,
    /// [`Db::write_pressure`](crate::Db::write_pressure).
    pub write_pressure: f64,
    /// Snapshots that are held.
    pub snapshots: usize,
    /// How often the listener to events panicked.
    pub listener_panics: u64,
    /// Files that wait to be removed.
    pub obsolete_files: usize,
    /// The last sequence number that readers see.
    pub visible: SequenceNumber,
    /// The failure after which nothing is acknowledged, if there was one.
    pub failure: Option<Error>,
    /// Why the last merge was given up that was, as long as there is a table that could not be read. Merges keep away from it: for a
    /// while, or from a damaged one for good.
    pub compaction_error: Option<Error>,
}

/// Counts since opening.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    commits: AtomicU64,
    operations: AtomicU64,
    batch_bytes: AtomicU64,
    flushes: AtomicU64,
    flushed_bytes: AtomicU64,
    compactions: AtomicU64,
    moves: AtomicU64,
    dropped_tables: AtomicU64,
    compaction_read_bytes: AtomicU64,
    compaction_written_bytes: AtomicU64,
    conflicts: AtomicU64,
    stalls: AtomicU64,
    delay_nanoseconds: AtomicU64,
    /// A synced commit came in since the journal last said what is durable.
    mark_due: AtomicBool,
    compaction_error: Mutex<Option<Error>>,
}

fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

impl Counters {
    pub(crate) fn committed(&self, operations: u32, bytes: usize) {
        add(&self.commits, 1);
        add(&self.operations, u64::from(operations));
        add(&self.batch_bytes, bytes as u64);
    }

    pub(crate) fn flushed(&self, tables: &[(KeyspaceId, FileNumber, TableSummary)]) {
        add(&self.flushes, 1);
        add(&self.flushed_bytes, tables.iter().map(|(.., summary)| summary.file_bytes).sum());
    }

    pub(crate) fn merged(&self, read_bytes: u64, tables: &[(FileNumber, TableSummary)]) {
        add(&self.compactions, 1);
        add(&self.compaction_read_bytes, read_bytes);
        add(&self.compaction_written_bytes, tables.iter().map(|(_, summary)| summary.file_bytes).sum());
    }

    pub(crate) fn moved(&self) {
        add(&self.moves, 1);
    }

    pub(crate) fn dropped(&self, tables: usize) {
        add(&self.dropped_tables, tables as u64);
    }

    pub(crate) fn delayed(&self, delay: Duration) {
        add(&self.delay_nanoseconds, u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX));
    }

    pub(crate) fn conflicted(&self) {
        add(&self.conflicts, 1);
    }

    pub(crate) fn stalled(&self) {
        add(&self.stalls, 1);
    }

    /// Remembers why a merge was given up; `None`: there is nothing any more that could not be read.
    pub(crate) fn compaction_failed(&self, error: Option<Error>) {
        *self.compaction_error.lock() = error;
    }

    pub(crate) fn compaction_error(&self) -> Option<Error> {
        self.compaction_error.lock().clone()
    }

    /// How many batches were committed.
    pub(crate) fn commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }

    /// Asks the flush thread to have the journal say how much is durable, when it is quiet.
    pub(crate) fn mark_due(&self, engine: &Engine) {
        if !self.mark_due.swap(true, Ordering::AcqRel) {
            engine.notify();
        }
    }

    /// Whether that was asked for.
    pub(crate) fn is_mark_due(&self) -> bool {
        self.mark_due.load(Ordering::Acquire)
    }

    /// It is done.
    pub(crate) fn marked(&self) {
        self.mark_due.store(false, Ordering::Release);
    }
}

impl Engine {
    pub(crate) fn stats(&self) -> Stats {
        let view = self.view();
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let mut keyspaces: Vec<KeyspaceStats> = view
            .keyspaces
            .values()
            .map(|keyspace| {
                let tree = &keyspace.tables.tree;
                KeyspaceStats {
                    name: keyspace.name.to_string(),
                    level_tables: tree.levels().iter().map(Vec::len).collect(),
                    level_bytes: (0..tree.levels().len()).map(|level| tree.level_bytes(level)).collect(),
                    table_entries: tree.tables().map(|(_, table)| table.entries).sum(),
                    memtable_bytes: keyspace.memtables().map(|memtable| memtable.memory_bytes()).sum(),
                    memtable_entries: keyspace.memtables().map(|memtable| memtable.entry_count()).sum(),
                }
            })
            .collect();
        keyspaces.sort_by(|a, b| a.name.cmp(&b.name));
        let cache = self.budget.cache().stats();
        Stats {
            table_bytes: keyspaces.iter().flat_map(|keyspace| &keyspace.level_bytes).sum(),
            memtable_bytes: self.budget.memtables().charge.bytes(),
            keyspaces,
            cache_bytes: cache.used_bytes,
            cache_capacity_bytes: cache.capacity_bytes,
            cache_hits: cache.hits,
            cache_misses: cache.misses,
            open_table_bytes: self.budget.table_bytes(),
            resident_bytes: self.budget.resident().bytes(),
            load_bytes: self.budget.loads().bytes(),
            merge_bytes: self.budget.merges().bytes(),
            memory_bytes: self.budget.all_bytes(),
            commits: count(&self.counters.commits),
            operations: count(&self.counters.operations),
            batch_bytes: count(&self.counters.batch_bytes),
            flushes: count(&self.counters.flushes),
            flushed_bytes: count(&self.counters.flushed_bytes),
            compactions: count(&self.counters.compactions),
            moves: count(&self.counters.moves),
            dropped_tables: count(&self.counters.dropped_tables),
            compaction_read_bytes: count(&self.counters.compaction_read_bytes),
            compaction_written_bytes: count(&self.counters.compaction_written_bytes),
            conflicts: count(&self.counters.conflicts),
            stalls: count(&self.counters.stalls),
            delay: Duration::from_nanos(count(&self.counters.delay_nanoseconds)),
            write_pressure: self.write_pressure(),
            snapshots: self.snapshot_count(),
            listener_panics: self.events.panics(),
            obsolete_files: self.obsolete_count(),
            visible: self.visible(),
            failure: self.failure(),
            compaction_error: self.counters.compaction_error(),
        }
    }
}
