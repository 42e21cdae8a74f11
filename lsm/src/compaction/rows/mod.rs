//! The work of a merge of rows: the same as of other entries, by a shorter way, and in several ranges of keys at once.
//!
//! The inputs are cut into ranges of about one size; each is merged for itself, into tables of its own. While nobody writes all processors
//! take part, each with one range; else one does, so that merging does not take from those who write.

mod merge;

use std::sync::Arc;

use super::drop::Retention;
use crate::charge::{Charge, Charged};
use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::filename::FileNumber;
use crate::key::Kind;
use crate::levels::OpenTable;
use crate::options::Tuning;
use crate::output::OutputPlan;
use crate::range::KeyRange;
use crate::table::fixed::AHEAD_BLOCKS;
use crate::table::{AnyTable, AnyTableWriter, TableSummary};
use merge::RowMerge;

/// Ranges for each processor that may take part: so that the last ones do not wait long for each other.
const RANGES_EACH: usize = 4;

/// Rows that a range handles in a step, in multiples of what a step of other merges does: they are cheap.
const STEP_FACTOR: usize = 8;

/// What all cursors of a merge together read ahead, in bytes, however many runs there are and however many threads merge them: this part of a write buffer, so that
/// it is little beside the budget; more, up to twice as much, where that is little in itself; at most so many.
const AHEAD_PART: usize = 8;
const AHEAD_BYTES_LITTLE: usize = 2 << 20;
const AHEAD_BYTES_MAX: usize = 8 << 20;

/// What a range came to.
#[derive(Debug)]
enum State {
    Waiting,
    Working(Box<Working>),
    Done,
}

#[derive(Debug)]
struct Working {
    merge: RowMerge,
    output: Option<(FileNumber, AnyTableWriter)>,
    /// The stripe of the last row that was looked at, of the key that was written or dropped last.
    last: Option<(Vec<u8>, usize)>,
}

/// One range of keys.
#[derive(Debug)]
struct Range {
    bounds: KeyRange,
    state: State,
    /// The files that were begun.
    begun: Vec<FileNumber>,
    done: Vec<(FileNumber, TableSummary)>,
}

/// What made a merge end: reading, which harms nobody else, or writing.
#[derive(Debug)]
pub(crate) enum RowsFault {
    Read(Error),
    Write(Error),
}

/// See the module.
#[derive(Debug)]
pub(crate) struct RowsWork {
    runs: Vec<Arc<[OpenTable]>>,
    plan: OutputPlan,
    retention: Retention,
    ahead_blocks: usize,
    ranges: Vec<Range>,
    _charged: Charged,
}

impl RowsWork {
    /// The merge of runs, the newest first; what it takes is charged as long as it is there.
    pub(crate) fn new(
        runs: Vec<Arc<[OpenTable]>>,
        plan: OutputPlan,
        retention: Retention,
        tuning: &Tuning,
        charge: &Arc<Charge>,
    ) -> Self {
        let bounds = cut(&runs, tuning.merge_threads.saturating_mul(RANGES_EACH), tuning.table_bytes);
        let ranges = bounds.into_iter().map(|bounds| Range {
            bounds,
            state: State::Waiting,
            begun: Vec::new(),
            done: Vec::new(),
        });
        let block_bytes = runs.iter().flat_map(|run| run.iter()).map(|open| match &open.table {
            AnyTable::Fixed(table) => table.block_bytes(),
            AnyTable::Sorted(_) => 0,
        });
        let part = tuning.write_buffer_bytes / AHEAD_PART;
        let ahead_bytes = part.max((2 * part).min(AHEAD_BYTES_LITTLE)).min(AHEAD_BYTES_MAX);
        let each = ahead_bytes / runs.len().saturating_mul(tuning.merge_threads).max(1);
        let ahead_blocks = (each / block_bytes.max().unwrap_or(0).max(1)).clamp(1, AHEAD_BLOCKS);
        let written = plan.buffer_bytes(tuning.fixed_table_bytes()).saturating_mul(tuning.merge_threads);
        let charged = Charged::new(charge, ahead_bytes.saturating_add(written));
        Self { ranges: ranges.collect(), runs, plan, retention, ahead_blocks, _charged: charged }
    }

    /// The files that were begun.
    pub(crate) fn files(&self) -> impl Iterator<Item = FileNumber> + '_ {
        self.ranges.iter().flat_map(|range| range.begun.iter().copied())
    }

    /// Goes on with as many ranges as processors may take part. `is_base` says of a key whether nothing of it lies deeper. Returns all tables once they are
    /// written.
    ///
    /// # Errors
    /// Of reading, after which the merge is to be given up, and of writing.
    pub(crate) fn step(
        &mut self,
        engine: &Engine,
        processors: usize,
        is_base: &(impl Fn(&[u8]) -> bool + Sync),
    ) -> Result<Option<Vec<(FileNumber, TableSummary)>>, RowsFault> {
        let (runs, plan, retention, ahead) = (&self.runs, &self.plan, &self.retention, self.ahead_blocks);
        let step = |range: &mut Range| range.step(engine, (runs, ahead), plan, retention, is_base);
        let open = self.ranges.iter_mut().filter(|range| !matches!(range.state, State::Done));
        let mut now: Vec<&mut Range> = open.take(processors.max(1)).collect();
        match now.as_mut_slice() {
            [] => {
                let done = self.ranges.iter_mut().flat_map(|range| std::mem::take(&mut range.done));
                return Ok(Some(done.collect()));
            }
            [only] => step(only)?,
            _ => {
                let results: Vec<Result<(), RowsFault>> = std::thread::scope(|scope| {
                    let threads: Vec<_> = now.into_iter().map(|range| scope.spawn(|| step(range))).collect();
                    threads
                        .into_iter()
                        .map(|thread| thread.join().unwrap_or_else(|_| Err(panicked())))
                        .collect()
                });
                results.into_iter().collect::<Result<(), _>>()?;
            }
        }
        Ok(None)
    }
}

fn panicked() -> RowsFault {
    RowsFault::Write(Error::new(ErrorKind::Failed, "a thread that merged panicked: a bug of this crate"))
}

impl Range {
    fn step(
        &mut self,
        engine: &Engine,
        (runs, ahead_blocks): (&[Arc<[OpenTable]>], usize),
        plan: &OutputPlan,
        retention: &Retention,
        is_base: &impl Fn(&[u8]) -> bool,
    ) -> Result<(), RowsFault> {
        if matches!(self.state, State::Waiting) {
            let merge = RowMerge::new(runs, &self.bounds, ahead_blocks).map_err(RowsFault::Read)?;
            self.state = State::Working(Box::new(Working { merge, output: None, last: None }));
        }
        let State::Working(working) = &mut self.state else { return Ok(()) };
        for _ in 0..engine.tuning.step_entries.saturating_mul(STEP_FACTOR) {
            if !working.merge.valid() {
                if let Some((file, writer)) = working.output.take() {
                    self.done.push((file, writer.finish().map_err(RowsFault::Write)?));
                }
                self.state = State::Done;
                break;
            }
            if working.keeps(retention, is_base) {
                let full = working.write(engine, plan, &mut self.begun).map_err(RowsFault::Write)?;
                self.done.extend(full);
            }
            working.merge.next().map_err(RowsFault::Read)?;
        }
        Ok(())
    }
}

impl Working {
    /// Whether the current row stays: as [`super::drop::Filter`] has it, without range tombstones.
    #[inline]
    fn keeps(&mut self, retention: &Retention, is_base: &impl Fn(&[u8]) -> bool) -> bool {
        let merge = &self.merge;
        let stripe = retention.stripe(merge.sequence());
        match &mut self.last {
            Some((key, last)) if key == merge.key() => {
                if *last == stripe {
                    return false;
                }
                *last = stripe;
            }
            Some((key, last)) => {
                key.clear();
                key.extend_from_slice(merge.key());
                *last = stripe;
            }
            none => *none = Some((merge.key().to_vec(), stripe)),
        }
        merge.kind() != Kind::Delete || stripe > 0 || !is_base(merge.key())
    }

    /// Writes the current row; returns the table that was full before it. The file of one that it begins goes to `begun`.
    #[inline]
    fn write(
        &mut self,
        engine: &Engine,
        plan: &OutputPlan,
        begun: &mut Vec<FileNumber>,
    ) -> Result<Option<(FileNumber, TableSummary)>> {
        let merge = &self.merge;
        let is_full = self.output.as_ref().is_some_and(|(_, writer)| {
            writer.estimated_bytes() >= engine.tuning.fixed_table_bytes()
                && !writer.ends_with_key(merge.key())
        });
        let full = if is_full { self.output.take() } else { None };
        let full = full.map(|(file, writer)| writer.finish().map(|summary| (file, summary))).transpose()?;
        let (_, writer) = match &mut self.output {
            Some(output) => output,
            None => {
                let output = plan.create(engine)?;
                begun.push(output.0);
                self.output.insert(output)
            }
        };
        writer.add_row(merge.key(), merge.value(), merge.sequence(), merge.kind())?;
        Ok(full)
    }
}

/// Ranges of about one size that together are everything; by where the blocks of all inputs begin.
fn cut(runs: &[Arc<[OpenTable]>], count: usize, table_bytes: u64) -> Vec<KeyRange> {
    let tables = || runs.iter().flat_map(|run| run.iter());
    let bytes: u64 = tables().map(|open| open.reference.file_bytes).sum();
    // None that is not worth a table of its own.
    let count = count.min(usize::try_from(bytes / table_bytes.max(1)).unwrap_or(usize::MAX)).max(1);
    let mut fences: Vec<u64> = tables()
        .filter_map(|open| match &open.table {
            AnyTable::Fixed(table) => Some(table.top_fences()),
            AnyTable::Sorted(_) => None,
        })
        .flatten()
        .copied()
        .collect();
    fences.sort_unstable();
    let mut cuts: Vec<u64> =
        (1..count).filter_map(|part| fences.get(fences.len() * part / count).copied()).collect();
    cuts.dedup();
    let mut lower = Vec::new();
    let mut ranges = Vec::with_capacity(cuts.len() + 1);
    for cut in cuts.into_iter().filter(|cut| *cut > 0) {
        let cut = cut.to_be_bytes().to_vec();
        ranges.push(KeyRange::until(std::mem::replace(&mut lower, cut.clone()), Some(cut)));
    }
    ranges.push(KeyRange::until(lower, None));
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::MemFs;
    use crate::{Background, Db, KeyspaceOptions, Tuning};

    const ROWS: u64 = 40_000;

    /// However keys lie, each is in one range, and ranges are about as large as each other where keys are spread.
    #[test]
    fn ranges_are_everything_once() {
        let crowded: fn(u64) -> u64 = |number| number % 3;
        let spread: fn(u64) -> u64 = |number| number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        for (is_spread, key) in [(true, spread), (false, crowded), (false, |number| u64::MAX - number % 2)] {
            let mut tuning = Tuning::for_memory(64 << 20);
            (tuning.tier_runs, tuning.level0_tables, tuning.level0_tables_slow) = (100, 100, 100);
            // Runs of one table each, and some thousand blocks, of which each five hundredth is told.
            (tuning.write_buffer_bytes, tuning.table_bytes) = (32 << 20, 32 << 20);
            let builder =
                Db::builder("/db").file_system(Arc::new(MemFs::new())).background(Background::Manual);
            let db = builder.memory_bytes(64 << 20).tuning(tuning).open().unwrap();
            let keyspace = db.keyspace("rows", KeyspaceOptions::fixed(12, 200).unwrap()).unwrap();
            for run in 0..3 {
                for number in 0..ROWS {
                    let mut row = key(number * 3 + run).to_be_bytes().to_vec();
                    row.extend_from_slice(&u32::try_from(number).unwrap().to_be_bytes());
                    keyspace.put(&row, [1; 200]).unwrap();
                }
                db.flush().unwrap();
            }
            let view = db.engine().view();
            let tables = &view.keyspaces.get(&keyspace.id()).unwrap().tables;
            let runs: Vec<Arc<[OpenTable]>> = tables.tables().map(|open| [open.clone()].into()).collect();
            assert_eq!(cut(&runs, 8, u64::MAX).len(), 1, "none that is smaller than a table");
            let ranges = cut(&runs, 8, 1);
            let mut counts = vec![0; ranges.len()];
            for entry in keyspace.iter() {
                let (row, _) = entry.unwrap();
                let found: Vec<usize> =
                    (0..).zip(&ranges).filter(|(_, range)| range.contains(&row)).map(|(at, _)| at).collect();
                let [only] = found[..] else { panic!("{:?} is in {found:?} of {ranges:?}", &*row) };
                counts[only] += 1;
            }
            assert_eq!(ranges.first().map(|range| range.lower.len()), Some(0));
            if is_spread {
                assert!(ranges.len() > 4 && counts.iter().all(|count| *count < 3 * ROWS / 4), "{counts:?}");
            }
        }
    }
}
