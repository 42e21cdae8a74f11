//! An open table of rows.
//!
//! A lookup asks the filter, then the index for the block, then the block for the row. Where those are, in memory or in the file, is the matter of
//! [`super::resident`]; an open table itself keeps one fence in five hundred.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::index::Span;
use super::layout::{Plan, RowLayout, Rows};
use super::resident::{BlockRef, Resident};
use super::shared::SharedFilter;
use crate::block::BlockKind;
use crate::cache::BlockCache;
use crate::checksum::Identity;
use crate::error::{Error, Result};
use crate::fs::{File, FileSystem};
use crate::key::{Kind, SequenceNumber};
use crate::row::{self, Widths};
use crate::sync::Mutex;
use crate::table::file::TableFile;
use crate::table::header::TableKind;
use crate::table::index::Handle;
use crate::table::opening::Opening;
use crate::table::{ExpectedTable, TableOrigin, TableSummary};

/// An open table of rows.
#[derive(Debug)]
pub struct FixedTable {
    pub(super) file: TableFile,
    pub(super) plan: Plan,
    pub(super) layout: RowLayout,
    pub(super) directory_handle: Handle,
    pub(super) sections: Vec<Handle>,
    pub(super) database: Identity,
    pub(super) cache: Arc<BlockCache>,
    pub(super) cache_table: u64,
    pub(super) summary: TableSummary,
    origin: Option<TableOrigin>,
    /// Rows in the last block; all others are full.
    rows_last: usize,
    /// A filter that has all of its keys, and those of other tables.
    shared: Mutex<Option<Arc<SharedFilter>>>,
}

/// Where the search for one of several keys has come to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Search {
    span: Span,
    /// The first row whose prefix is not below the key's; `None`: only a whole search can tell.
    row: Option<usize>,
}

impl FixedTable {
    /// Opens the table at `path` and verifies that it is the one expected, if anything is.
    ///
    /// # Errors
    /// Io; NotFound; Corruption where something differs; NewerFormat for what is unknown and must not be.
    pub fn open(
        fs: &Arc<dyn FileSystem>,
        path: &Path,
        expected: Option<ExpectedTable>,
        cache: &Arc<BlockCache>,
    ) -> Result<Arc<Self>> {
        let opening = Opening::read(fs, path, expected, TableKind::Fixed, cache)?;
        let Opening { file, tail, directory, directory_handle, header, summary, origin } = opening;
        let Some(handle) = directory.rows else {
            let error = Error::corruption("a table of rows without the section that says where they are");
            return Err(file.locate(error, directory_handle.offset));
        };
        let payload = tail.payload(&file, handle, BlockKind::RowsPlan)?;
        let plan =
            Plan::decode(&payload, file.file_bytes).map_err(|error| file.locate(error, handle.offset))?;
        let layout = plan.row_layout();
        let rows_max = plan.blocks.saturating_mul(layout.capacity as u64);
        if plan.blocks != summary.data_blocks
            || summary.entries > rows_max
            || summary.entries <= rows_max - layout.capacity as u64
            || summary.range_tombstones != 0
        {
            let error = Error::corruption("the rows of the table are not those that its properties count");
            return Err(file.locate(error, handle.offset));
        }
        let rows_before = (plan.blocks - 1).saturating_mul(layout.capacity as u64);
        let rows_last = usize::try_from(summary.entries - rows_before).unwrap_or(usize::MAX);
        let table = Self {
            rows_last,
            file,
            plan,
            layout,
            directory_handle,
            sections: directory.handles(),
            database: header.database,
            cache: Arc::clone(cache),
            cache_table: cache.new_table(),
            summary,
            origin,
            shared: Mutex::default(),
        };
        cache.table_bytes().add(table.memory_bytes());
        Ok(Arc::new(table))
    }

    /// The widths of its rows.
    pub fn widths(&self) -> Widths {
        self.plan.widths
    }

    /// The open file: readable even when it has no name any more.
    pub(crate) fn file(&self) -> &Arc<dyn File> {
        &self.file.file
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.file.path
    }

    /// The database that it was written for.
    pub fn database(&self) -> Identity {
        self.database
    }

    /// What it holds.
    pub fn summary(&self) -> &TableSummary {
        &self.summary
    }

    /// What it says of its place in the database, if it does.
    pub fn origin(&self) -> Option<&TableOrigin> {
        self.origin.as_ref()
    }

    /// A filter that has all of its keys, and those of other tables; whoever makes a View looks for it.
    pub(crate) fn shared(&self) -> Option<Arc<SharedFilter>> {
        self.shared.lock().clone()
    }

    /// Says which that is.
    pub(crate) fn share(&self, shared: Option<Arc<SharedFilter>>) {
        *self.shared.lock() = shared;
    }

    /// The first prefix of each five hundred blocks: where rows are, roughly.
    pub(crate) fn top_fences(&self) -> &[u64] {
        &self.plan.top
    }

    /// Bytes of memory that the open table takes; what is resident or cached not counted.
    pub fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.plan.top.len() * 8
    }

    /// What the sequence number of a row without one of its own is.
    #[inline]
    pub(super) fn sequence_of_all(&self) -> SequenceNumber {
        self.summary.sequence_max
    }

    /// Rows in a block.
    #[inline]
    pub(super) fn rows_in(&self, block: usize) -> usize {
        if block as u64 + 1 < self.plan.blocks { self.layout.capacity } else { self.rows_last }
    }

    /// Bytes of a block of rows.
    pub(crate) fn block_bytes(&self) -> usize {
        self.layout.block_bytes
    }

    /// Blocks of rows.
    pub(super) fn blocks(&self) -> usize {
        usize::try_from(self.plan.blocks).unwrap_or(usize::MAX)
    }

    /// Begins the search for one of several keys: has the prefixes fetched among which its own would be. Call it for all after [`Self::prefetch_index`], then
    /// [`Self::narrow`], then [`Self::conclude`].
    ///
    /// # Errors
    /// Io or corruption, naming file and offset.
    #[inline]
    pub(crate) fn begin(&self, resident: &Resident, prefix: u64) -> Result<Search> {
        let span = self.span(resident, prefix)?;
        if let Some(region) = &resident.rows {
            for offset in self.layout.prefix_lines(span.row(self.layout.capacity)) {
                region.prefetch(span.last, offset);
            }
        }
        Ok(Search { span, row: None })
    }

    /// Goes on with it: has the row fetched that may be the key's.
    #[inline]
    pub(crate) fn narrow(&self, resident: &Resident, search: &mut Search, prefix: u64) {
        let Search { span, row } = search;
        if let Some(region) = &resident.rows
            && span.first == span.last
            && let Some(bytes) = region.get(span.last)
        {
            let rows = self.layout.rows(bytes);
            let at = rows.lower_bound(prefix, span.row(self.layout.capacity), self.rows_in(span.last));
            *row = Some(at);
            for offset in self.layout.row_lines(at) {
                region.prefetch(span.last, offset);
            }
        }
    }

    /// Ends it, as [`Self::find`] would.
    ///
    /// # Errors
    /// As [`Self::find`].
    #[inline]
    pub(crate) fn conclude<R>(
        &self,
        resident: &Resident,
        search: Search,
        key: &[u8],
        read_sequence: SequenceNumber,
        use_value: impl FnOnce(SequenceNumber, Kind, &[u8]) -> R,
    ) -> Result<Option<R>> {
        let Search { span, row } = search;
        if let (Some(at), Some(region)) = (row, &resident.rows)
            && let Some(bytes) = region.get(span.last)
        {
            // No other block begins with this prefix: it is in this one or nowhere.
            let rows = self.layout.rows(bytes);
            if at >= self.rows_in(span.last) || rows.prefix(at) != row::prefix(key) {
                return Ok(None);
            }
            if rows.tail(at) == row::tail(key) {
                let sequence = rows.sequence(at).unwrap_or(self.sequence_of_all());
                if sequence <= read_sequence {
                    return Ok(Some(use_value(sequence, rows.kind(at)?, rows.value(at))));
                }
            }
        }
        self.find(resident, key, read_sequence, use_value)
    }

    /// Where the first row stands that is `key` as of `sequence`, or behind that: its block, and its place there, which may be behind the block's last.
    pub(super) fn lower_bound<'a>(
        &self,
        resident: &'a Resident,
        key: &[u8],
        sequence: SequenceNumber,
    ) -> Result<(usize, usize, BlockRef<'a>)> {
        let prefix = row::prefix(key);
        let span = self.span(resident, prefix)?;
        let Span { mut first, mut last, guess } = span;
        let is_one = first == last;
        if let (true, Some(region)) = (is_one, &resident.rows) {
            // The row is waited for together with the prefixes that tell where it is.
            let row = span.row(self.layout.capacity);
            for offset in self.layout.prefix_lines(row).into_iter().chain(self.layout.lines_near(row)) {
                region.prefetch(last, offset);
            }
        }
        while first < last {
            let middle = last - (last - first) / 2;
            let block = self.rows_block(resident, middle)?;
            let rows = self.layout.rows(block.payload());
            if rows.compare(0, key, sequence, self.sequence_of_all()).is_le() {
                first = middle;
            } else {
                last = middle - 1;
            }
        }
        let block = self.rows_block(resident, last)?;
        let rows = self.layout.rows(block.payload());
        let guess = if is_one { (guess * self.layout.capacity) >> 10 } else { 0 };
        let count = self.rows_in(last);
        let mut at = rows.lower_bound(prefix, guess, count);
        if at < count && rows.compare(at, key, sequence, self.sequence_of_all()).is_lt() {
            at = self.step_over(&rows, at + 1..count, key, sequence);
        }
        Ok((last, at, block))
    }

    /// As [`Self::lower_bound`] within a block, from a row on whose prefix is the key's: by halves, for they may be many.
    #[cold]
    fn step_over(&self, rows: &Rows<'_>, among: Range<usize>, key: &[u8], sequence: SequenceNumber) -> usize {
        let (mut low, mut high) = (among.start, among.end);
        while low < high {
            let middle = low + (high - low) / 2;
            if rows.compare(middle, key, sequence, self.sequence_of_all()).is_lt() {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// What the newest row of `key` is that a reader at `read_sequence` sees; `use_value` gets the sequence number, the kind and the value (of a deletion: zeros).
    ///
    /// # Errors
    /// Io or corruption, naming file and offset.
    #[inline]
    pub(crate) fn find<R>(
        &self,
        resident: &Resident,
        key: &[u8],
        read_sequence: SequenceNumber,
        use_value: impl FnOnce(SequenceNumber, Kind, &[u8]) -> R,
    ) -> Result<Option<R>> {
        let (mut number, mut at, mut block) = self.lower_bound(resident, key, read_sequence)?;
        if at >= self.rows_in(number) {
            if number + 1 >= self.blocks() {
                return Ok(None);
            }
            (number, at) = (number + 1, 0);
            // Only where a key's writes go on in the next block does it begin with the same key.
            block = self.rows_block(resident, number)?;
        }
        let rows = self.layout.rows(block.payload());
        if rows.prefix(at) != row::prefix(key) || rows.tail(at) != row::tail(key) {
            return Ok(None);
        }
        let sequence = rows.sequence(at).unwrap_or(self.sequence_of_all());
        if sequence > read_sequence {
            return Ok(None);
        }
        let kind = rows.kind(at)?;
        Ok(Some(use_value(sequence, kind, rows.value(at))))
    }

    /// As [`Self::find`], behind the filter.
    ///
    /// # Errors
    /// Io or corruption, naming file and offset.
    #[cfg(feature = "testing")]
    pub(crate) fn get(
        &self,
        resident: &Resident,
        key: &[u8],
        hash: u64,
        read_sequence: SequenceNumber,
    ) -> Result<Option<crate::table::Found<'static>>> {
        if key.len() != self.layout.widths.key() || !self.may_contain(resident, hash)? {
            return Ok(None);
        }
        self.find(resident, key, read_sequence, |sequence, kind, value| {
            let value =
                if kind == Kind::Put { crate::value::Value::from(value) } else { crate::value::Value::new() };
            (sequence, kind, value.into())
        })
    }
}

impl Drop for FixedTable {
    fn drop(&mut self) {
        self.cache.table_bytes().subtract(self.memory_bytes());
    }
}
