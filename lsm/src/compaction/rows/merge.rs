//! Rows of several runs as one sorted stream, within a range of keys: compared by their first eight bytes, which nearly always differ.
//!
//! There are few runs, so the smallest is found by looking at all of them. Every row is looked at before it is believed, as in [`super::super::input`]: that it follows
//! the one before it in its run, and that its number is one that the manifest expects.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::key::{Kind, SequenceNumber};
use crate::levels::OpenTable;
use crate::range::KeyRange;
use crate::row;
use crate::table::fixed::RowCursor;
use crate::table::{AnyTable, ReadMode};

/// The rows of one run that lie in a range.
#[derive(Debug)]
struct RunRows {
    tables: Arc<[OpenTable]>,
    range: KeyRange,
    /// The table that comes after the current one.
    next_table: usize,
    /// Blocks that it reads at once.
    ahead_blocks: usize,
    current: Option<RowCursor>,
    /// What the current table's rows must be numbered.
    sequences: (SequenceNumber, SequenceNumber),
}

impl RunRows {
    fn new(tables: Arc<[OpenTable]>, range: KeyRange, ahead_blocks: usize) -> Result<Self> {
        let mut run = Self { tables, range, next_table: 0, ahead_blocks, current: None, sequences: (0, 0) };
        run.open_next()?;
        Ok(run)
    }

    /// Stands on the first row of the next table that has one in the range.
    fn open_next(&mut self) -> Result<()> {
        self.current = None;
        while let Some(open) = self.tables.get(self.next_table) {
            self.next_table += 1;
            let Some(bounds) = open.reference.bounds.intersection(&self.range) else { continue };
            let AnyTable::Fixed(table) = &open.table else {
                return Err(Error::corruption("a table of a keyspace with fixed widths has no rows")
                    .at(open.table.path()));
            };
            let rows = RowCursor::new(Arc::clone(table), open.resident.clone(), ReadMode::Bypass, bounds);
            let mut rows = rows.with_ahead(self.ahead_blocks);
            rows.seek_to_first()?;
            if rows.valid() {
                self.sequences = (open.reference.sequence_min, open.reference.sequence_max);
                self.current = Some(rows);
                return Ok(());
            }
        }
        Ok(())
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct RowMerge {
    /// The newest first.
    runs: Vec<RunRows>,
    /// The first eight bytes of each run's current key; the largest number where there is none.
    prefixes: Vec<u64>,
    /// The run of the current row.
    winner: Option<usize>,
    /// The key of the current row.
    key: Vec<u8>,
}

impl RowMerge {
    /// A stream over the rows of runs, the newest first, that lie in `range`; it stands on its first row. Of each run it reads so many blocks at once.
    ///
    /// # Errors
    /// Io or Corruption, naming the table.
    pub(super) fn new(runs: &[Arc<[OpenTable]>], range: &KeyRange, ahead_blocks: usize) -> Result<Self> {
        let runs: Vec<RunRows> = runs
            .iter()
            .map(|tables| RunRows::new(Arc::clone(tables), range.clone(), ahead_blocks))
            .collect::<Result<_>>()?;
        let mut merge = Self { prefixes: vec![u64::MAX; runs.len()], runs, winner: None, key: Vec::new() };
        for run in 0..merge.runs.len() {
            merge.refresh(run);
        }
        merge.settle()?;
        Ok(merge)
    }

    fn refresh(&mut self, run: usize) {
        let prefix = self.rows(run).map_or(u64::MAX, RowCursor::prefix);
        if let Some(place) = self.prefixes.get_mut(run) {
            *place = prefix;
        }
    }

    #[inline]
    fn rows(&self, run: usize) -> Option<&RowCursor> {
        self.runs.get(run)?.current.as_ref()
    }

    /// Finds the smallest row; of equal keys, the newest run's.
    #[inline]
    fn settle(&mut self) -> Result<()> {
        let mut best: Option<(usize, u64)> = None;
        for (run, prefix) in self.prefixes.iter().enumerate() {
            if best.is_some_and(|(_, smallest)| smallest < *prefix) {
                continue;
            }
            let Some(rows) = self.rows(run) else { continue };
            let is_smaller = match best {
                Some((other, smallest)) if smallest == *prefix => {
                    self.rows(other).is_none_or(|other| rows.tail() < other.tail())
                }
                _ => true,
            };
            if is_smaller {
                best = Some((run, *prefix));
            }
        }
        self.winner = best.map(|(run, _)| run);
        let Some((run, prefix)) = best else { return Ok(()) };
        let mut key = std::mem::take(&mut self.key);
        let is_behind = self.check(run, prefix, &key);
        key.clear();
        if let Some(rows) = self.rows(run) {
            rows.key(&mut key);
        }
        self.key = key;
        is_behind
    }

    /// Whether the row on which a run stands can follow the row with this key, and is such as the manifest expects.
    #[inline]
    fn check(&self, run: usize, prefix: u64, before: &[u8]) -> Result<()> {
        let Some(source) = self.runs.get(run) else { return Ok(()) };
        let Some(rows) = &source.current else { return Ok(()) };
        let fault = if !before.is_empty() && (prefix, rows.tail()) < (row::prefix(before), row::tail(before))
        {
            "its rows are out of order"
        } else if !(source.sequences.0..=source.sequences.1).contains(&rows.sequence()) {
            "a row has a sequence number that the manifest does not expect"
        } else {
            return Ok(());
        };
        let message = format!("{fault}, behind {}", before.escape_ascii());
        Err(Error::corruption(message).at(rows.table().path()))
    }

    #[inline]
    pub(super) fn valid(&self) -> bool {
        self.winner.is_some()
    }

    /// The key of the current row; empty where there is none.
    #[inline]
    pub(super) fn key(&self) -> &[u8] {
        &self.key
    }

    #[inline]
    fn current(&self) -> Option<&RowCursor> {
        self.rows(self.winner?)
    }

    /// The value of the current row; of a deletion zeros.
    #[inline]
    pub(super) fn value(&self) -> &[u8] {
        self.current().map_or(&[], RowCursor::value)
    }

    #[inline]
    pub(super) fn sequence(&self) -> SequenceNumber {
        self.current().map_or(0, RowCursor::sequence)
    }

    #[inline]
    pub(super) fn kind(&self) -> Kind {
        self.current().map_or(Kind::Delete, RowCursor::kind)
    }

    /// Moves on.
    ///
    /// # Errors
    /// As [`Self::new`].
    #[inline]
    pub(super) fn next(&mut self) -> Result<()> {
        let Some(winner) = self.winner else { return Ok(()) };
        if let Some(run) = self.runs.get_mut(winner)
            && let Some(rows) = &mut run.current
        {
            rows.next()?;
            if !rows.valid() {
                run.open_next()?;
            }
        }
        self.refresh(winner);
        self.settle()
    }
}
