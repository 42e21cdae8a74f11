//! Runs of rows as a lookup asks them: which of a run's tables may have a key, by the key's first eight bytes; and the filters that several runs share
//! ([`SharedFilter`]).

use std::ops::Bound;
use std::sync::Arc;

use super::tree::LEVEL_COUNT;
use super::view::OpenTable;
use crate::row::prefix;
use crate::table::AnyTable;
use crate::table::fixed::{FixedTable, Resident, SharedFilter};

/// Tables with disjoint bounds, in their order.
#[derive(Clone, Debug)]
pub(crate) struct FixedRun {
    /// The prefixes of their lower bounds.
    lowers: Vec<u64>,
    tables: Vec<RunTable>,
    /// Which of the filters that runs share has all of its keys.
    shared: Option<usize>,
}

/// The runs of a tree, from the newest to the oldest, and the filters that some of them share.
#[derive(Clone, Debug, Default)]
pub(crate) struct FixedRuns {
    runs: Vec<FixedRun>,
    shared: Vec<Arc<SharedFilter>>,
}

/// As many filters as a lookup asks before it comes to the runs.
pub(crate) const SHARED_MAX: usize = 2;

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

impl FixedRuns {
    /// Those of these levels; none of a sorted keyspace.
    pub(super) fn new(levels: &[Arc<[OpenTable]>; LEVEL_COUNT]) -> Self {
        let [newest, below @ ..] = levels;
        let upper = newest.chunk_by(|a, b| a.reference.epoch == b.reference.epoch);
        let runs = upper.chain(below.iter().map(|tables| &**tables)).filter(|tables| !tables.is_empty());
        let mut runs: Vec<FixedRun> = runs.filter_map(FixedRun::new).collect();
        // One that a single run has is not worth to be asked before that run's own.
        let filters: Vec<Option<Arc<SharedFilter>>> = runs.iter().map(FixedRun::filter).collect();
        let count = |filter: &Arc<SharedFilter>| {
            filters.iter().flatten().filter(|other| Arc::ptr_eq(other, filter)).count()
        };
        let mut shared: Vec<Arc<SharedFilter>> = Vec::new();
        for (run, filter) in runs.iter_mut().zip(&filters) {
            let Some(filter) = filter.as_ref().filter(|filter| count(filter) > 1) else { continue };
            let known = shared.iter().position(|known| Arc::ptr_eq(known, filter));
            run.shared = known.or_else(|| {
                (shared.len() < SHARED_MAX).then(|| {
                    shared.push(Arc::clone(filter));
                    shared.len() - 1
                })
            });
        }
        Self { runs, shared }
    }

    /// The runs.
    #[inline]
    pub(crate) fn runs(&self) -> &[FixedRun] {
        &self.runs
    }

    /// The filters that some of them share, at most [`SHARED_MAX`].
    #[inline]
    pub(crate) fn shared(&self) -> &[Arc<SharedFilter>] {
        &self.shared
    }

    /// The filter that the newest run shares, or may come to share with the next.
    pub(crate) fn newest_filter(&self) -> Option<Arc<SharedFilter>> {
        self.runs.first()?.filter()
    }
}

impl FixedRun {
    fn new(tables: &[OpenTable]) -> Option<Self> {
        let tables: Vec<RunTable> = tables.iter().map(RunTable::new).collect::<Option<_>>()?;
        Some(Self { lowers: tables.iter().map(|table| table.lower).collect(), tables, shared: None })
    }

    /// The filter that has the keys of all of its tables, if there is one.
    fn filter(&self) -> Option<Arc<SharedFilter>> {
        common_filter(self.tables.iter().map(|table| &*table.table))
    }

    /// Which of the filters that runs share has all of its keys.
    #[inline]
    pub(crate) fn shared(&self) -> Option<usize> {
        self.shared
    }

    /// Its table, if it has one only.
    #[inline]
    pub(crate) fn only(&self) -> Option<&RunTable> {
        match self.tables.as_slice() {
            [only] => Some(only),
            _ => None,
        }
    }

    /// The one table that answers for a key, if there is one. Where keys are spread evenly, as those of hashes, and tables of about one size, the prefix itself says which,
    /// or nearly.
    #[inline]
    pub(crate) fn find(&self, key: &[u8], prefix: u64) -> Option<&RunTable> {
        let guess = (u128::from(prefix) * self.tables.len() as u128) >> 64;
        let guessed = self.tables.get(usize::try_from(guess).unwrap_or(0))?;
        // Strictly between its bounds, there is nothing to compare.
        match guessed.lower < prefix && prefix < guessed.upper {
            true => Some(guessed),
            false => self.search(key, prefix),
        }
    }

    #[inline(never)]
    fn search(&self, key: &[u8], prefix: u64) -> Option<&RunTable> {
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

/// The filter that all of these tables share.
pub(crate) fn common_filter<'a>(
    mut tables: impl Iterator<Item = &'a FixedTable>,
) -> Option<Arc<SharedFilter>> {
    let first = tables.next()?.shared()?;
    tables.all(|table| table.shared().is_some_and(|other| Arc::ptr_eq(&first, &other))).then_some(first)
}
