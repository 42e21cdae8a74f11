//! Loading a keyspace with fixed widths in any order: rows are dealt as they come ([`super::dealt`]), sorted and written by all processors when the buffer is
//! full, and merged once, in ranges of keys ([`crate::compaction::rows`]). What was never too much is written once, where it stays.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::sync::Mutex;

use super::Loading;
use super::dealt::Dealt;
use crate::compaction::drop::Retention;
use crate::compaction::rows::{RowsFault, RowsWork};
use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::filename::FileNumber;
use crate::flush::open_table;
use crate::key::{Kind, SequenceNumber};
use crate::levels::{OpenTable, TableReference};
use crate::output::OutputPlan;
use crate::row::Widths;
use crate::table::{AnyTableWriter, TableSummary};

/// Ranges for each processor that takes part: so that the last one is not waited for long.
const RANGES_EACH: usize = 4;

/// Tables with disjoint bounds, in their order.
type Run = Vec<(FileNumber, TableSummary)>;

/// Rows that are being loaded.
#[derive(Debug)]
pub(super) struct Rows {
    buffer: Dealt,
    /// The oldest first.
    spilled: Vec<Run>,
    engine: Arc<Engine>,
}

/// How tables of the buffer are written.
#[derive(Clone, Copy)]
enum Use {
    /// They stay.
    Kept,
    /// They are merged soon, and nobody else reads them.
    Merged,
}

impl Rows {
    pub(super) fn new(loading: &Loading, widths: Widths) -> Self {
        let engine = loading.engine();
        let bytes_max = engine.tuning.bulk_buffer_bytes.min(engine.budget.room());
        let bytes_max = bytes_max.max(engine.tuning.write_buffer_bytes.min(engine.tuning.bulk_buffer_bytes));
        Self {
            buffer: Dealt::new(widths, bytes_max, Arc::clone(engine.budget.loads())),
            spilled: Vec::new(),
            engine: Arc::clone(engine),
        }
    }

    /// Adds a row that was looked at.
    ///
    /// # Errors
    /// Those of writing: the load is over then.
    pub(super) fn put(&mut self, loading: &mut Loading, key: &[u8], value: &[u8]) -> Result<()> {
        if self.buffer.is_full() {
            self.spill(loading)?;
        }
        if self.buffer.add(key, value) {
            self.engine.share_memory();
        }
        Ok(())
    }

    /// Writes the buffer to tables that are merged later.
    fn spill(&mut self, loading: &mut Loading) -> Result<()> {
        let run = self.write(loading, Use::Merged);
        let run = loading.settle(run)?;
        self.spilled.push(run);
        self.buffer.clear();
        Ok(())
    }

    /// Writes the buffer, sorted, as a run.
    fn write(&self, loading: &mut Loading, tables: Use) -> Result<Run> {
        let tuning = &self.engine.tuning;
        let threads = tuning.merge_threads.max(1);
        let plan = loading.plan();
        let (plan, ranges) = match tables {
            Use::Kept => {
                // None that is not worth a table of its own.
                let worth = self.buffer.row_bytes() / tuning.table_bytes.max(1);
                (plan, usize::try_from(worth).unwrap_or(usize::MAX).clamp(1, threads * RANGES_EACH))
            }
            // Few files, each of which is open until all are merged.
            Use::Merged => (plan.temporary(), threads),
        };
        let ranges = self.buffer.cut(ranges);
        let begun = Mutex::new(Vec::new());
        let next = AtomicUsize::new(0);
        let write_some = || {
            let mut runs = Vec::new();
            while let number = next.fetch_add(1, Ordering::Relaxed)
                && let Some(range) = ranges.get(number)
            {
                let mut output = Output {
                    engine: &self.engine,
                    plan: &plan,
                    begun: &begun,
                    tables,
                    open: None,
                    done: Vec::new(),
                };
                self.buffer.sorted(range.clone(), |key, value| output.add(key, value, loading.sequence()))?;
                runs.push((number, output.finish()?));
            }
            Ok(runs)
        };
        let results: Vec<Result<Vec<(usize, Run)>>> = match threads.min(ranges.len()) {
            0 | 1 => vec![write_some()],
            threads => std::thread::scope(|scope| {
                let threads: Vec<_> = (0..threads).map(|_| scope.spawn(write_some)).collect();
                threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err(panicked()))).collect()
            }),
        };
        begun.into_inner().into_iter().for_each(|file| loading.began(file));
        let mut runs = Vec::new();
        for result in results {
            runs.extend(result?);
        }
        runs.sort_by_key(|(number, _)| *number);
        Ok(runs.into_iter().flat_map(|(_, run)| run).collect())
    }

    /// As [`super::Bulk::finish`].
    pub(super) fn finish(mut self, mut loading: Loading) -> Result<SequenceNumber> {
        if self.spilled.is_empty() {
            let run = self.write(&mut loading, Use::Kept)?;
            self.let_go();
            return loading.finish(run);
        }
        if self.buffer.rows() > 0 {
            self.spill(&mut loading)?;
        }
        let spilled = std::mem::take(&mut self.spilled);
        self.let_go();
        let merged = merge(&mut loading, &spilled)?;
        loading.finish(merged)
    }

    /// Gives its memory back.
    fn let_go(self) {
        let Self { buffer, engine, .. } = self;
        drop(buffer);
        engine.share_memory();
    }
}

/// Merges runs, the oldest first, into one.
fn merge(loading: &mut Loading, spilled: &[Run]) -> Result<Run> {
    let engine = Arc::clone(loading.engine());
    let mut runs: Vec<Arc<[OpenTable]>> = Vec::new();
    for run in spilled.iter().rev() {
        let open = |(file, summary): &(FileNumber, TableSummary)| {
            let table = open_table(&engine, *file, loading.kind, summary)?;
            Ok(OpenTable::new(Arc::new(TableReference::whole(*file, summary, 0)), table))
        };
        runs.push(run.iter().map(open).collect::<Result<_>>()?);
    }
    let bytes = spilled.iter().flatten().map(|(_, summary)| summary.file_bytes).sum();
    let retention = Retention::new(Vec::new());
    let charge = engine.budget.merges();
    let mut work = RowsWork::new(runs, loading.plan(), retention, &engine.tuning, charge);
    engine.share_memory();
    let merged = loop {
        let stepped = work.step(&engine, engine.tuning.merge_threads, &|_| true);
        match stepped.map_err(|(RowsFault::Read(error) | RowsFault::Write(error))| error) {
            Ok(None) => {}
            Ok(Some(merged)) => break Ok(merged),
            Err(error) => break Err(error),
        }
        // Whoever closes, or opens again after a failure, waits for one step.
        if let Err(error) = engine.check_writable() {
            break Err(error);
        }
    };
    work.files().for_each(|file| loading.began(file));
    drop(work);
    engine.merge_ended(bytes);
    merged
}

/// Tables that one range of the buffer is written to.
struct Output<'a> {
    engine: &'a Engine,
    plan: &'a OutputPlan,
    /// All files, whoever begins them.
    begun: &'a Mutex<Vec<FileNumber>>,
    tables: Use,
    open: Option<(FileNumber, AnyTableWriter)>,
    done: Run,
}

impl Output<'_> {
    #[inline]
    fn add(&mut self, key: &[u8], value: &[u8], sequence: SequenceNumber) -> Result<()> {
        if matches!(self.tables, Use::Kept)
            && self
                .open
                .as_ref()
                .is_some_and(|(_, writer)| writer.estimated_bytes() >= self.engine.tuning.fixed_table_bytes())
        {
            self.end_table()?;
        }
        let (_, writer) = match &mut self.open {
            Some(open) => open,
            None => {
                let open = self.plan.create(self.engine)?;
                self.begun.lock().push(open.0);
                self.open.insert(open)
            }
        };
        writer.add_row(key, value, sequence, Kind::Put)
    }

    fn end_table(&mut self) -> Result<()> {
        if let Some((file, writer)) = self.open.take() {
            let summary = match self.tables {
                Use::Kept => writer.finish()?,
                Use::Merged => writer.finish_temporary()?,
            };
            self.done.push((file, summary));
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Run> {
        self.end_table()?;
        Ok(self.done)
    }
}

fn panicked() -> Error {
    Error::new(ErrorKind::Failed, "a thread that sorted rows panicked: a bug of this crate")
}
