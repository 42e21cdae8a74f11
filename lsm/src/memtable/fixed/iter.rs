//! A cursor over one sorted run of a memtable's rows.

use std::cmp::Ordering;
use std::sync::Arc;

use super::FixedMemtable;
use super::part::Row;
use super::runs::Run;
use crate::error::Result;
use crate::iter::InternalIterator;
use crate::key::{self, Kind, TRAILER_BYTES};

/// Rows that are fetched ahead of the current one.
const AHEAD_ROWS: usize = 12;

/// A cursor over entries of a memtable, which it keeps alive.
pub struct FixedIter {
    memtable: Arc<FixedMemtable>,
    run: Arc<Run>,
    /// The current row's place in the run; the run's length where there is none.
    index: usize,
    /// The current internal key and value.
    key: Vec<u8>,
    value: Vec<u8>,
}

impl FixedIter {
    pub(super) fn new(memtable: Arc<FixedMemtable>, run: Arc<Run>) -> Self {
        let index = run.len();
        Self { memtable, run, index, key: Vec::new(), value: Vec::new() }
    }

    fn internal_key(&self, row: Row<'_>, out: &mut Vec<u8>) {
        let key_bytes = self.memtable.widths.key();
        out.resize(key_bytes + TRAILER_BYTES, 0);
        let (user, trailer) = out.split_at_mut(key_bytes);
        row.key(user);
        trailer.copy_from_slice(&key::trailer(row.sequence(), row.kind()));
    }

    fn go_to(&mut self, index: Option<usize>) {
        self.index = index.unwrap_or(self.run.len());
        let memtable = Arc::clone(&self.memtable);
        let Some(row) = self.run.get(self.index).and_then(|id| memtable.row(id)) else {
            self.index = self.run.len();
            self.key.clear();
            self.value.clear();
            return;
        };
        let mut key = std::mem::take(&mut self.key);
        self.internal_key(row, &mut key);
        self.key = key;
        let value_bytes = if row.kind() == Kind::Put { memtable.widths.value() } else { 0 };
        self.value.resize(value_bytes, 0);
        row.value(&mut self.value);
    }

    /// How many rows stand before `internal`, or at it where `inclusive`.
    fn rank(&self, internal: &[u8], inclusive: bool) -> usize {
        let mut key = Vec::new();
        self.run.partition_point(|id| {
            let Some(row) = self.memtable.row(id) else { return false };
            self.internal_key(row, &mut key);
            match key::compare(&key, internal) {
                Ordering::Less => true,
                Ordering::Equal => inclusive,
                Ordering::Greater => false,
            }
        })
    }
}

impl InternalIterator for FixedIter {
    fn seek_to_first(&mut self) -> Result<()> {
        self.go_to(Some(0));
        Ok(())
    }

    fn seek_to_last(&mut self) -> Result<()> {
        self.go_to(self.run.len().checked_sub(1));
        Ok(())
    }

    fn seek(&mut self, internal: &[u8]) -> Result<()> {
        self.go_to(Some(self.rank(internal, false)));
        Ok(())
    }

    fn seek_for_prev(&mut self, internal: &[u8]) -> Result<()> {
        self.go_to(self.rank(internal, true).checked_sub(1));
        Ok(())
    }

    fn next(&mut self) -> Result<()> {
        if self.valid() {
            // In their order, rows lie anywhere.
            if let Some(ahead) = self.run.get(self.index + AHEAD_ROWS) {
                self.memtable.prefetch_row(ahead);
            }
            self.go_to(Some(self.index + 1));
        }
        Ok(())
    }

    fn prev(&mut self) -> Result<()> {
        if self.valid() {
            self.go_to(self.index.checked_sub(1));
        }
        Ok(())
    }

    fn valid(&self) -> bool {
        self.index < self.run.len()
    }

    fn key(&self) -> &[u8] {
        &self.key
    }

    fn value(&self) -> &[u8] {
        &self.value
    }
}

impl std::fmt::Debug for FixedIter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FixedIter")
            .field("rows", &self.run.len())
            .field("index", &self.index)
            .finish_non_exhaustive()
    }
}
