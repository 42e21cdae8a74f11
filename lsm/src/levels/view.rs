//! What a reader holds: memtables and open tables, all as of one moment.
//!
//! A View is one pointer. Whoever loads it *first* and the visible sequence number *after* sees all of one keyspace's history up to some moment: a
//! flush or compaction in between cannot take away what the number promises, because the View holds the tables; a rotation in between hides what
//! came after it, because the new memtable is not in the View. That may be so for one keyspace and not for another, whose memtable was empty and stayed:
//! whoever reads several as of *one* moment (a snapshot) takes View and number while no other can be installed.

use std::ops::Bound;
use std::sync::Arc;

use super::fixed_run::FixedRuns;
use super::retired::Retired;
use super::tree::{LEVEL_COUNT, TableReference, Tree};
use crate::batch::KeyspaceId;
use crate::block::Fences;
use crate::budget::Budget;
use crate::error::{Error, Result};
use crate::filename::FileNumber;
use crate::iter::InternalIterator;
use crate::key::{self, SequenceNumber};
use crate::memtable::Memtable;
use crate::ordered::OrderedMap;
use crate::range::KeyRange;
use crate::range_tombstone::RangeTombstones;
use crate::row::KeyspaceKind;
use crate::table::fixed::{FixedTableIter, Resident, RowCursor};
use crate::table::{AnyTable, AnyTableIter, ReadMode};

/// A reference and the open table that it refers to.
#[derive(Clone, Debug)]
pub struct OpenTable {
    /// The reference.
    pub reference: Arc<TableReference>,
    /// The table.
    pub table: AnyTable,
    /// Its range tombstones within the reference's bounds; `None` where there are none.
    pub tombstones: Option<Arc<RangeTombstones>>,
    /// What of it is in memory beside the cache.
    pub(crate) resident: Resident,
}

impl OpenTable {
    /// The reference to `table`.
    pub fn new(reference: Arc<TableReference>, table: AnyTable) -> Self {
        let tombstones = match table.range_tombstones() {
            Some(whole) if whole.is_empty() => None,
            None => None,
            Some(whole) if reference.bounds.encloses(&table.summary().bounds) => Some(Arc::clone(whole)),
            Some(whole) => {
                let clipped = whole.clipped(&reference.bounds);
                (!clipped.is_empty()).then(|| Arc::new(clipped))
            }
        };
        Self { reference, table, tombstones, resident: Resident::default() }
    }

    /// Bytes of memory that its index and filter would take, where they are not resident.
    fn meta_missing(&self) -> usize {
        match (&self.table, &self.resident.meta) {
            (AnyTable::Fixed(table), None) => table.meta_bytes(),
            _ => 0,
        }
    }

    /// Bytes of memory that its rows would take, where they are not resident and index and filter are.
    fn rows_missing(&self) -> usize {
        match (&self.table, &self.resident) {
            (AnyTable::Fixed(table), Resident { meta: Some(_), rows: None }) => table.rows_bytes(),
            _ => 0,
        }
    }

    /// Gives up a filter that it shares with others.
    fn unshare(&self) {
        if let AnyTable::Fixed(table) = &self.table {
            table.share(None);
        }
    }

    /// Makes index and filter resident, if the budget has room for them.
    fn settle_meta(&mut self, budget: &Budget) {
        if let AnyTable::Fixed(table) = &self.table
            && self.resident.meta.is_none()
            && budget.has_room(table.meta_bytes())
        {
            self.resident.meta = Some(table.new_meta(budget.resident()));
        }
    }

    /// Makes rows resident, if the budget has room for them.
    fn settle_rows(&mut self, budget: &Budget) {
        if let AnyTable::Fixed(table) = &self.table
            && self.rows_missing() > 0
            && budget.has_room(table.rows_bytes())
        {
            self.resident.rows = table.new_region(budget.resident());
        }
    }

    /// Loads what is to be resident. What cannot be read is an error for whoever asks for it.
    pub(crate) fn preload(&self) {
        let AnyTable::Fixed(table) = &self.table else { return };
        if let Some(meta) = &self.resident.meta {
            let _ = table.load_meta(meta);
        }
        if let Some(region) = &self.resident.rows {
            let _ = table.load_all(region);
        }
    }

    /// A cursor over the entries that lie both in the reference's bounds and in `range`; `None` where there can be none.
    pub fn iter(&self, mode: ReadMode, range: &KeyRange) -> Option<AnyTableIter> {
        let both = self.reference.bounds.intersection(range)?;
        Some(match &self.table {
            AnyTable::Sorted(table) => AnyTableIter::Sorted(table.iter_within(mode, both)),
            AnyTable::Fixed(table) => {
                let rows = RowCursor::new(Arc::clone(table), self.resident.clone(), mode, both);
                AnyTableIter::Fixed(FixedTableIter::new(rows))
            }
        })
    }
}

/// One keyspace's tables, open.
#[derive(Debug, Default)]
pub struct OpenTree {
    /// The tree.
    pub tree: Arc<Tree>,
    levels: [Arc<[OpenTable]>; LEVEL_COUNT],
    /// The lower bounds of each level's tables.
    lowers: [Fences; LEVEL_COUNT],
    /// Those of a keyspace with fixed widths, as a lookup asks them.
    runs: FixedRuns,
}

impl OpenTree {
    /// The tables of `tree`, of which `open` finds each.
    ///
    /// # Errors
    /// Those of `open`.
    pub fn new(
        tree: Arc<Tree>,
        mut open: impl FnMut(&Arc<TableReference>) -> Result<AnyTable>,
    ) -> Result<Self> {
        let mut levels: [Arc<[OpenTable]>; LEVEL_COUNT] = Default::default();
        for (tables, references) in levels.iter_mut().zip(tree.levels()) {
            *tables = references
                .iter()
                .map(|reference| Ok(OpenTable::new(Arc::clone(reference), open(reference)?)))
                .collect::<Result<_>>()?;
        }
        let (lowers, runs) = (levels.each_ref().map(|level| lowers(level)), FixedRuns::new(&levels));
        Ok(Self { tree, levels, lowers, runs })
    }

    /// The same tables; what was resident of them `before` is so again, and what the budget has room for besides: indexes and filters first, each of which saves
    /// more reads than its own bytes of rows do. For those rows make room that were resident; when whoever reads them now is done.
    pub(crate) fn settled(mut self, before: &Self, budget: &Budget) -> Self {
        if self.runs.runs().is_empty() {
            return self;
        }
        let mut open: Vec<Vec<OpenTable>> = self.levels.iter().map(|tables| tables.to_vec()).collect();
        for open in open.iter_mut().flatten() {
            let known = before.tables().find(|known| known.reference.file == open.reference.file);
            open.resident = known.map(|known| known.resident.clone()).unwrap_or_default();
        }
        let missing: usize = open.iter().flatten().map(OpenTable::meta_missing).sum();
        let mut wanting = missing.saturating_sub(budget.room());
        if wanting > 0 {
            // What several share only saves time.
            open.iter().flatten().for_each(OpenTable::unshare);
            let shared = self.runs.shared().iter().map(|shared| shared.memory_bytes());
            wanting = wanting.saturating_sub(shared.sum());
        }
        for open in open.iter_mut().rev().flatten().filter(|open| open.resident.rows.is_some()) {
            if wanting == 0 {
                break;
            }
            open.resident.rows = None;
            wanting = wanting.saturating_sub(open.rows_missing());
        }
        open.iter_mut().flatten().for_each(|open| open.settle_meta(budget));
        if open.iter().flatten().all(|open| open.resident.meta.is_some()) {
            open.iter_mut().flatten().for_each(|open| open.settle_rows(budget));
        }
        for (tables, open) in self.levels.iter_mut().zip(open) {
            *tables = open.into();
        }
        self.runs = FixedRuns::new(&self.levels);
        self
    }

    /// Whether the budget has room for more of them than is resident.
    pub(crate) fn may_gain(&self, budget: &Budget) -> bool {
        let has_meta = self.tables().all(|open| open.meta_missing() == 0);
        self.tables().any(|open| match (open.meta_missing(), open.rows_missing()) {
            (0, 0) => false,
            (0, rows) => has_meta && budget.has_room(rows),
            (meta, _) => budget.has_room(meta),
        })
    }

    /// The same tables with more of them resident, where the budget has room for more by now; and those of which more is so now.
    pub(crate) fn with_more_resident(&self, budget: &Budget) -> Option<(Self, Vec<FileNumber>)> {
        if !self.may_gain(budget) {
            return None;
        }
        let same = Self {
            tree: Arc::clone(&self.tree),
            levels: self.levels.clone(),
            lowers: self.lowers.clone(),
            runs: self.runs.clone(),
        };
        let settled = same.settled(self, budget);
        let has_gained = |(open, before): &(&OpenTable, &OpenTable)| {
            let (now, then) = (&open.resident, &before.resident);
            now.meta.is_some() != then.meta.is_some() || (now.rows.is_some() && then.rows.is_none())
        };
        let gained = settled.tables().zip(self.tables()).filter(has_gained);
        let gained = gained.map(|(open, _)| open.reference.file).collect();
        Some((settled, gained))
    }

    /// The runs of rows.
    #[inline]
    pub(crate) fn runs(&self) -> &FixedRuns {
        &self.runs
    }

    /// The tables of each level, in the tree's order.
    pub fn levels(&self) -> &[Arc<[OpenTable]>; LEVEL_COUNT] {
        &self.levels
    }

    /// Every table, from the newest to the oldest level.
    pub fn tables(&self) -> impl Iterator<Item = &OpenTable> {
        self.levels.iter().flat_map(|tables| tables.iter())
    }

    /// The open table of a file.
    pub fn table(&self, file: FileNumber) -> Option<&AnyTable> {
        self.tables().find(|open| open.reference.file == file).map(|open| &open.table)
    }

    /// The tables of a level below 0 that may have a part in `range`.
    pub fn overlapping<'a>(level: &'a [OpenTable], range: &KeyRange) -> &'a [OpenTable] {
        let start = level.partition_point(|open| !open.reference.bounds.is_before_end(&range.lower));
        let rest = level.get(start..).unwrap_or_default();
        let count = rest.partition_point(|open| range.is_before_end(&open.reference.bounds.lower));
        rest.get(..count).unwrap_or_default()
    }

    /// The one table of a level below 0 whose bounds hold `key`.
    #[inline]
    pub fn find(&self, level: usize, key: &[u8]) -> Option<&OpenTable> {
        let tables = self.levels.get(level)?;
        let around = self.lowers.get(level)?.around(key);
        let alike = tables.get(around.clone()).unwrap_or_default();
        let after = around.start
            + alike.partition_point(|open| key::order(&open.reference.bounds.lower, key).is_le());
        let open = tables.get(after.checked_sub(1)?)?;
        open.reference.bounds.is_before_end(key).then_some(open)
    }

    /// The tables that may hold `key`, from the newest to the oldest.
    #[inline]
    pub fn holding<'a>(&'a self, key: &'a [u8]) -> impl Iterator<Item = &'a OpenTable> {
        let newest = self.levels.first().map_or(&[][..], |newest| newest);
        let newest = newest.iter().filter(|open| open.reference.bounds.contains(key));
        newest.chain((1..LEVEL_COUNT).filter_map(|level| self.find(level, key)))
    }
}

fn lowers(tables: &[OpenTable]) -> Fences {
    Fences::new(tables.iter().map(|open| open.reference.bounds.lower.as_slice()))
}

/// One keyspace, as of one moment.
#[derive(Debug)]
pub struct KeyspaceView {
    /// Its name.
    pub name: Arc<str>,
    /// How it keeps its entries.
    pub kind: KeyspaceKind,
    /// What is being written.
    pub active: Memtable,
    /// What waits to be flushed, newest first.
    pub frozen: Vec<Memtable>,
    /// Its tables.
    pub tables: Arc<OpenTree>,
}

impl KeyspaceView {
    /// The memtables, newest first.
    pub fn memtables(&self) -> impl Iterator<Item = &Memtable> {
        std::iter::once(&self.active).chain(&self.frozen)
    }
}

/// All that was written between two rotations: the memtables that were frozen together, and the logs that hold the same.
#[derive(Debug, Default)]
pub struct Generation {
    /// The memtables that hold something.
    pub memtables: OrderedMap<KeyspaceId, Memtable>,
    /// The logs, which end durably.
    pub logs: Vec<FileNumber>,
    /// The last sequence number in it.
    pub last_sequence: SequenceNumber,
}

impl Generation {
    /// About how many bytes of memory it takes.
    pub fn memory_bytes(&self) -> usize {
        self.memtables.values().map(|memtable| memtable.memory_bytes()).sum()
    }

    /// What is charged for it.
    pub(crate) fn charged_bytes(&self) -> usize {
        self.memtables.values().map(|memtable| memtable.charged_bytes()).sum()
    }
}

/// Everything a reader needs. Immutable (but for the active memtables, which grow).
#[derive(Clone, Debug, Default)]
pub struct View {
    /// The keyspaces by number.
    pub keyspaces: OrderedMap<KeyspaceId, Arc<KeyspaceView>>,
    /// The frozen generations, oldest first.
    pub frozen: Vec<Arc<Generation>>,
    /// The largest number that was given to a keyspace by then.
    pub keyspace_last: u32,
    /// How many loads had been finished by then.
    pub(crate) loads: u64,
    /// Where to leave the tables that nobody else holds, at the end.
    retired: Option<Arc<Retired>>,
}

impl Drop for View {
    fn drop(&mut self) {
        let Some(retired) = self.retired.take() else { return };
        let keyspaces = std::mem::take(&mut self.keyspaces).into_values();
        let trees = keyspaces.filter_map(|keyspace| Some(Arc::into_inner(keyspace)?.tables));
        drop(retired.take(trees.filter(|tables| Arc::strong_count(tables) == 1).collect()));
    }
}

impl View {
    /// One without keyspaces, of which so many have had a number.
    pub fn empty(keyspace_last: u32) -> Self {
        Self { keyspaces: OrderedMap::new(), frozen: Vec::new(), keyspace_last, loads: 0, retired: None }
    }

    /// What it alone holds at its end goes there. So does that of its clones.
    pub fn retire_to(&mut self, retired: &Arc<Retired>) {
        self.retired = Some(Arc::clone(retired));
    }

    /// A keyspace, of which somebody has had a handle of this name.
    ///
    /// # Errors
    /// Dropped if it is there no more.
    #[inline]
    pub fn keyspace(&self, id: KeyspaceId, name: &str) -> Result<&Arc<KeyspaceView>> {
        self.keyspaces.get(&id).ok_or_else(|| Error::dropped(name))
    }

    /// Whether a keyspace was dropped by then. (If it is not there otherwise, it was made later.)
    pub fn was_dropped(&self, id: KeyspaceId) -> bool {
        id.number() <= self.keyspace_last && !self.keyspaces.contains_key(&id)
    }
}

/// A cursor over one run: tables in order of their keys, opened for reading one at a time.
pub struct RunIter {
    level: Arc<[OpenTable]>,
    mode: ReadMode,
    range: KeyRange,
    index: usize,
    current: Option<AnyTableIter>,
}

impl RunIter {
    /// A cursor over the entries of a level below 0 that lie in `range`.
    pub fn new(level: Arc<[OpenTable]>, mode: ReadMode, range: KeyRange) -> Self {
        Self { level, mode, range, index: 0, current: None }
    }

    /// The table of the current entry.
    pub fn table(&self) -> Option<&OpenTable> {
        self.level.get(self.index)
    }

    /// Stands before (or behind) the entries of the table at `index`; whether there is such a table.
    fn open(&mut self, index: usize) -> bool {
        self.index = index;
        self.current = self.level.get(index).and_then(|open| open.iter(self.mode, &self.range));
        self.current.is_some()
    }

    /// Whether the table after the current one may hold something of the range. (It and those behind it need not be asked otherwise.)
    fn has_next(&self) -> bool {
        self.level
            .get(self.index + 1)
            .is_some_and(|next| self.range.is_before_end(&next.reference.bounds.lower))
    }

    /// Whether the table before the current one may.
    fn has_previous(&self) -> bool {
        let previous = self.index.checked_sub(1).and_then(|index| self.level.get(index));
        previous.is_some_and(|previous| previous.reference.bounds.is_before_end(&self.range.lower))
    }

    fn skip_forward(&mut self) -> Result<()> {
        while !self.valid() && self.has_next() {
            if self.open(self.index + 1)
                && let Some(current) = &mut self.current
            {
                current.seek_to_first()?;
            }
        }
        Ok(())
    }

    fn skip_backward(&mut self) -> Result<()> {
        while !self.valid() && self.has_previous() {
            if self.open(self.index - 1)
                && let Some(current) = &mut self.current
            {
                current.seek_to_last()?;
            }
        }
        Ok(())
    }

    /// Whether `user` comes before all that the table after the current one may hold.
    pub fn is_before_next(&self, user: &[u8]) -> bool {
        self.level.get(self.index + 1).is_none_or(|next| user < next.reference.bounds.lower.as_slice())
    }

    /// Whether all that comes before `user` lies in tables before the current one.
    pub fn is_in_previous(&self, user: &[u8]) -> bool {
        self.table().is_none_or(|open| user <= open.reference.bounds.lower.as_slice())
    }

    /// Moves to the first entry behind the current table.
    ///
    /// # Errors
    /// Io or corruption, naming file and offset.
    pub fn next_table(&mut self) -> Result<()> {
        self.current = None;
        self.skip_forward()
    }

    /// Moves to the last entry before the current table.
    ///
    /// # Errors
    /// Io or corruption, naming file and offset.
    pub fn previous_table(&mut self) -> Result<()> {
        self.current = None;
        self.skip_backward()
    }

    /// The first table that may hold `user` or a larger key.
    fn table_at_or_after(&self, user: &[u8]) -> usize {
        self.level.partition_point(|open| !open.reference.bounds.is_before_end(user))
    }
}

impl InternalIterator for RunIter {
    fn seek_to_first(&mut self) -> Result<()> {
        let first = self.table_at_or_after(&self.range.lower);
        if self.open(first)
            && let Some(current) = &mut self.current
        {
            current.seek_to_first()?;
            self.skip_forward()?;
        }
        Ok(())
    }

    fn seek_to_last(&mut self) -> Result<()> {
        let after = match &self.range.upper {
            Bound::Unbounded => self.level.len(),
            Bound::Included(key) => self.level.partition_point(|open| open.reference.bounds.lower <= *key),
            Bound::Excluded(key) => self.level.partition_point(|open| open.reference.bounds.lower < *key),
        };
        self.current = None;
        let Some(last) = after.checked_sub(1) else { return Ok(()) };
        if self.open(last)
            && let Some(current) = &mut self.current
        {
            current.seek_to_last()?;
            self.skip_backward()?;
        }
        Ok(())
    }

    fn seek(&mut self, internal: &[u8]) -> Result<()> {
        let (user, _) = crate::key::split(internal)?;
        let first = self.table_at_or_after(user.max(&self.range.lower));
        if self.open(first)
            && let Some(current) = &mut self.current
        {
            current.seek(internal)?;
            self.skip_forward()?;
        }
        Ok(())
    }

    fn seek_for_prev(&mut self, internal: &[u8]) -> Result<()> {
        let (user, _) = crate::key::split(internal)?;
        if !self.range.is_before_end(user) {
            return self.seek_to_last();
        }
        let after = self.level.partition_point(|open| open.reference.bounds.lower.as_slice() <= user);
        self.current = None;
        let Some(last) = after.checked_sub(1) else { return Ok(()) };
        if self.open(last)
            && let Some(current) = &mut self.current
        {
            current.seek_for_prev(internal)?;
            self.skip_backward()?;
        }
        Ok(())
    }

    fn next(&mut self) -> Result<()> {
        if let Some(current) = &mut self.current {
            let was_valid = current.valid();
            current.next()?;
            if was_valid {
                self.skip_forward()?;
            }
        }
        Ok(())
    }

    fn prev(&mut self) -> Result<()> {
        if let Some(current) = &mut self.current {
            let was_valid = current.valid();
            current.prev()?;
            if was_valid {
                self.skip_backward()?;
            }
        }
        Ok(())
    }

    fn valid(&self) -> bool {
        self.current.as_ref().is_some_and(InternalIterator::valid)
    }

    fn key(&self) -> &[u8] {
        self.current.as_ref().map_or(&[], InternalIterator::key)
    }

    fn value(&self) -> &[u8] {
        self.current.as_ref().map_or(&[], InternalIterator::value)
    }

    fn owned_value(&self) -> crate::value::Value {
        self.current.as_ref().map(InternalIterator::owned_value).unwrap_or_default()
    }
}

impl std::fmt::Debug for RunIter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RunIter")
            .field("tables", &self.level.len())
            .field("index", &self.index)
            .finish_non_exhaustive()
    }
}
