//! A run of rows as a lookup asks it: which of its tables may have a key, by the key's first eight bytes.

use std::ops::Bound;
use std::sync::Arc;

use super::tree::LEVEL_COUNT;
use super::view::OpenTable;
use crate::row::prefix;
use crate::table::AnyTable;
use crate::table::fixed::{FixedTable, Resident};

/// Tables with disjoint bounds, in their order.
#[derive(Clone, Debug)]
pub(crate) struct FixedRun {
    /// The prefixes of their lower bounds.
    lowers: Vec<u64>,
    tables: Vec<RunTable>,
}

/// One of its tables.
#[derive(Clone, Debug)]
pub(crate) struct RunTable {
    open: OpenTable,
    pub(crate) table: Arc<FixedTable>,
    pub(crate) resident: Resident,
    lower: u64,
    upper: u64,
}

impl RunTable {
    fn new(open: &OpenTable) -> Option<Self> {
        let AnyTable::Fixed(table) = &open.table else { return None };
        let bounds = &open.reference.bounds;
        let upper = match &bounds.upper {
            Bound::Included(key) | Bound::Excluded(key) => prefix(key),
            Bound::Unbounded => u64::MAX,
        };
        Some(Self {
            open: open.clone(),
            table: Arc::clone(table),
            resident: open.resident.clone(),
            lower: prefix(&bounds.lower),
            upper,
        })
    }

    /// Whether a key with this prefix lies in its bounds.
    #[inline]
    pub(crate) fn answers_for(&self, key: &[u8], prefix: u64) -> bool {
        // Strictly between, there is nothing to compare.
        (self.lower < prefix && prefix < self.upper)
            || ((self.lower..=self.upper).contains(&prefix) && self.open.reference.bounds.contains(key))
    }
}

impl FixedRun {
    /// The runs of a tree, from the newest to the oldest; none of a sorted keyspace.
    pub(super) fn all(levels: &[Arc<[OpenTable]>; LEVEL_COUNT]) -> Vec<Self> {
        let [newest, below @ ..] = levels;
        let upper = newest.chunk_by(|a, b| a.reference.epoch == b.reference.epoch);
        let runs = upper.chain(below.iter().map(|tables| &**tables)).filter(|tables| !tables.is_empty());
        runs.filter_map(Self::new).collect()
    }

    fn new(tables: &[OpenTable]) -> Option<Self> {
        let tables: Vec<RunTable> = tables.iter().map(RunTable::new).collect::<Option<_>>()?;
        Some(Self { lowers: tables.iter().map(|table| table.lower).collect(), tables })
    }

    /// Its table, if it has one only.
    #[inline]
    pub(crate) fn only(&self) -> Option<&RunTable> {
        match self.tables.as_slice() {
            [only] => Some(only),
            _ => None,
        }
    }

    /// The one table that answers for a key, if there is one.
    #[inline]
    pub(crate) fn find(&self, key: &[u8], prefix: u64) -> Option<&RunTable> {
        let mut after = self.lowers.partition_point(|lower| *lower <= prefix);
        // Several may begin with one prefix: then the key decides, from the last on.
        loop {
            let table = self.tables.get(after.checked_sub(1)?)?;
            if table.answers_for(key, prefix) {
                return Some(table);
            }
            if table.lower != prefix {
                return None;
            }
            after -= 1;
        }
    }
}
