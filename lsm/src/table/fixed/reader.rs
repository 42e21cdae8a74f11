//! An open table of rows.
//!
//! A lookup asks the filter, then the index for the block, then the block for the row. Filter and index are in memory if the budget has room
//! ([`Resident::meta`]): read whole, by the first lookup that needs them. So are the rows ([`Resident::rows`]), block by block. What is not
//! resident is read through the cache, block by block; an open table itself keeps one fence in five hundred.

use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use super::index::{Index, Span, span};
use super::layout::{FENCES_PER_BLOCK, LINES_PER_BLOCK, Plan, RowLayout, Rows};
use super::region::Region;
use super::shared::SharedFilter;
use crate::block::{Block, BlockKind, TRAILER_BYTES};
use crate::cache::BlockCache;
use crate::charge::Charge;
use crate::checksum::Identity;
use crate::error::{Error, IoContext, Result};
use crate::filter;
use crate::fs::{File, FileSystem};
use crate::key::{Kind, SequenceNumber};
use crate::memory::{self, Bytes};
use crate::row::{self, Widths};
use crate::sync::Mutex;
use crate::table::file::TableFile;
use crate::table::header::TableKind;
use crate::table::index::Handle;
use crate::table::opening::Opening;
use crate::table::{ExpectedTable, TableOrigin, TableSummary};

/// Read at once when the index, the filter or all rows are loaded, in blocks.
const LOAD_BLOCKS: u64 = 64;

/// An open table of rows.
#[derive(Debug)]
pub struct FixedTable {
    pub(super) file: TableFile,
    pub(super) plan: Plan,
    pub(super) layout: RowLayout,
    pub(super) directory_handle: Handle,
    pub(super) sections: Vec<Handle>,
    pub(super) database: Identity,
    cache: Arc<BlockCache>,
    cache_table: u64,
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

/// A table's filter, for many keys.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ResidentFilter<'a> {
    lines: &'a [[u8; filter::LINE_BYTES]],
    probes: u8,
}

impl ResidentFilter<'_> {
    /// Has the line fetched that tells about a key.
    #[inline]
    pub(crate) fn prefetch(&self, hash: u64) {
        memory::prefetch_at(self.lines, filter::line(hash, self.lines.len()));
    }

    /// Whether the key may be in the table.
    #[inline]
    pub(crate) fn may_contain(&self, hash: u64) -> bool {
        let line = self.lines.get(filter::line(hash, self.lines.len()));
        line.is_none_or(|line| filter::line_may_contain(line, hash, self.probes))
    }
}

/// Index and filter of a table, in memory once somebody needs them.
#[derive(Debug)]
pub(crate) struct Meta {
    index: OnceLock<Index>,
    filter: OnceLock<Bytes>,
    bytes: usize,
    charge: Arc<Charge>,
}

impl Drop for Meta {
    fn drop(&mut self) {
        self.charge.subtract(self.bytes);
    }
}

/// What of a table is kept in memory beside the cache: as much as the budget had room for when somebody asked.
#[derive(Clone, Debug, Default)]
pub(crate) struct Resident {
    pub(crate) meta: Option<Arc<Meta>>,
    pub(crate) rows: Option<Arc<Region>>,
}

/// A block of rows, wherever it is.
#[derive(Clone, Debug)]
pub(super) enum BlockRef<'a> {
    Resident(&'a [u8]),
    Cached(Block),
}

impl BlockRef<'_> {
    #[inline]
    pub(super) fn payload(&self) -> &[u8] {
        match self {
            Self::Resident(bytes) => bytes.get(..bytes.len() - TRAILER_BYTES).unwrap_or_default(),
            Self::Cached(block) => block.bytes(),
        }
    }
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

    /// Bytes of memory that index and filter take when they are resident.
    pub(crate) fn meta_bytes(&self) -> usize {
        let lines = usize::try_from(self.plan.filter_lines).unwrap_or(usize::MAX / 128);
        Index::memory_bytes(self.plan.blocks) + lines * filter::LINE_BYTES
    }

    /// Room for index and filter, which are loaded when they are needed.
    pub(crate) fn new_meta(&self, charge: &Arc<Charge>) -> Arc<Meta> {
        let bytes = self.meta_bytes();
        charge.add(bytes);
        Arc::new(Meta { index: OnceLock::new(), filter: OnceLock::new(), bytes, charge: Arc::clone(charge) })
    }

    /// Bytes of memory that the rows take when they are resident.
    pub(crate) fn rows_bytes(&self) -> usize {
        Region::memory_bytes(usize::try_from(self.plan.blocks).unwrap_or(usize::MAX), self.layout.block_bytes)
    }

    /// Room for the rows, which are loaded when they are needed; `None` if the system has no memory to give.
    pub(crate) fn new_region(&self, charge: &Arc<Charge>) -> Option<Arc<Region>> {
        let blocks = usize::try_from(self.plan.blocks).ok()?;
        Region::new(blocks, self.layout.block_bytes, Arc::clone(charge)).map(Arc::new)
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

    /// The payload of a block that may be kept in the cache.
    fn cached(&self, handle: Handle, kind: BlockKind) -> Result<Block> {
        if let Some(block) = self.cache.get(self.cache_table, handle.offset) {
            return Ok(block);
        }
        let block = self.file.block(handle, kind)?;
        Ok(self.cache.insert(self.cache_table, handle.offset, block))
    }

    /// A block of rows, verified when it was read.
    #[inline]
    pub(super) fn rows_block<'a>(&self, resident: &'a Resident, block: usize) -> Result<BlockRef<'a>> {
        match &resident.rows {
            Some(region) => match region.get(block) {
                Some(bytes) => Ok(BlockRef::Resident(bytes)),
                None => self.load(region, block).map(BlockRef::Cached),
            },
            None => self.cached_rows(block).map(BlockRef::Cached),
        }
    }

    #[cold]
    fn cached_rows(&self, block: usize) -> Result<Block> {
        let handle = self.layout.handle(block as u64);
        if let Some(block) = self.cache.get(self.cache_table, handle.offset) {
            return Ok(block);
        }
        let read = self.rows_of(&self.file.read(handle)?, handle)?;
        Ok(self.cache.insert(self.cache_table, handle.offset, read))
    }

    /// A block of rows, if it is in the cache.
    pub(super) fn cached_block(&self, block: usize) -> Option<Block> {
        self.cache.get(self.cache_table, self.layout.handle(block as u64).offset)
    }

    /// Leaves a block of rows in the cache.
    pub(super) fn keep_block(&self, block: usize, read: Block) -> Block {
        self.cache.insert(self.cache_table, self.layout.handle(block as u64).offset, read)
    }

    #[cold]
    fn load(&self, region: &Region, block: usize) -> Result<Block> {
        let handle = self.layout.handle(block as u64);
        let bytes = self.file.read(handle)?;
        let read = self.rows_of(&bytes, handle)?;
        region.put(block, &bytes);
        Ok(read)
    }

    /// The block of rows that `bytes`, read at `handle`, hold; verified.
    pub(super) fn rows_of(&self, bytes: &[u8], handle: Handle) -> Result<Block> {
        let block = self.file.block_of(bytes, handle, BlockKind::Rows)?;
        self.check_rows(block.bytes(), handle)?;
        Ok(block)
    }

    fn check_rows(&self, payload: &[u8], handle: Handle) -> Result<()> {
        let number = (handle.offset / u64::from(handle.bytes.max(1))).saturating_sub(1);
        let rows = self.rows_in(usize::try_from(number).unwrap_or(usize::MAX));
        self.layout.check(payload, rows).map_err(|error| self.file.locate(error, handle.offset))
    }

    /// Loads all rows into memory that has room for them.
    ///
    /// # Errors
    /// Io or corruption, naming file and offset; what was loaded before is there.
    pub(crate) fn load_all(&self, region: &Region) -> Result<()> {
        let size = self.layout.block_bytes;
        let mut bytes = Vec::new();
        let mut block = 0;
        while block < self.plan.blocks {
            let count = LOAD_BLOCKS.min(self.plan.blocks - block);
            bytes.resize(usize::try_from(count).unwrap_or(0) * size, 0);
            let first = self.layout.handle(block);
            self.file
                .file
                .read_exact_at(&mut bytes, first.offset)
                .context("read rows of a table", self.path())?;
            for (number, bytes) in (block..).zip(bytes.chunks_exact(size)) {
                let handle = self.layout.handle(number);
                let payload = self.file.open(bytes, handle, BlockKind::Rows)?;
                self.check_rows(&payload, handle)?;
                region.put(usize::try_from(number).unwrap_or(usize::MAX), bytes);
            }
            block += count;
        }
        Ok(())
    }

    /// Loads index and filter into memory that has room for them.
    ///
    /// # Errors
    /// Io or corruption, naming file and offset.
    pub(crate) fn load_meta(&self, meta: &Meta) -> Result<()> {
        self.index(meta)?;
        if self.plan.filter_lines > 0 {
            self.filter(meta)?;
        }
        Ok(())
    }

    /// The index, loaded if it is not there.
    #[inline]
    fn index<'a>(&self, meta: &'a Meta) -> Result<&'a Index> {
        match meta.index.get() {
            Some(index) => Ok(index),
            None => {
                let index = self.load_index()?;
                Ok(meta.index.get_or_init(|| index))
            }
        }
    }

    #[cold]
    pub(super) fn load_index(&self) -> Result<Index> {
        let mut fences = Vec::with_capacity(self.blocks());
        for block in 0..self.plan.fence_blocks() {
            let payload = self.file.payload(self.plan.fence_handle(block), BlockKind::Fences)?;
            fences
                .extend(payload.chunks_exact(8).map(|fence| fence.try_into().map_or(0, u64::from_le_bytes)));
        }
        if !fences.is_sorted() || fences.len() != self.blocks() {
            let error = Error::corruption("the fences of a table are out of order");
            return Err(self.file.locate(error, self.plan.fence_handle(0).offset));
        }
        Ok(Index::new(fences))
    }

    /// The lines of the filter, loaded if they are not there.
    #[inline]
    fn filter<'a>(&self, meta: &'a Meta) -> Result<&'a [u8]> {
        match meta.filter.get() {
            Some(filter) => Ok(filter),
            None => {
                let filter = self.load_filter()?;
                Ok(meta.filter.get_or_init(|| filter))
            }
        }
    }

    #[cold]
    fn load_filter(&self) -> Result<Bytes> {
        let lines = usize::try_from(self.plan.filter_lines).unwrap_or(usize::MAX / 128);
        let lines_per_block = usize::try_from(LINES_PER_BLOCK).unwrap_or(1);
        let mut all = Bytes::zeroed(lines * filter::LINE_BYTES);
        for (block, lines) in (0..).zip(all.chunks_mut(lines_per_block * filter::LINE_BYTES)) {
            let handle = self.plan.filter_handle(block);
            let payload = self.file.payload(handle, BlockKind::Filter)?;
            match filter::parts(&payload) {
                Some((probes, read)) if probes == self.plan.filter_probes && read.len() == lines.len() => {
                    lines.copy_from_slice(read);
                }
                _ => {
                    let error = Error::corruption("a filter of another shape than the table says");
                    return Err(self.file.locate(error, handle.offset));
                }
            }
        }
        Ok(all)
    }

    /// The filter, if there is one and it is to be in memory.
    ///
    /// # Errors
    /// Io or corruption, naming file and offset.
    #[inline]
    pub(crate) fn resident_filter<'a>(&self, resident: &'a Resident) -> Result<Option<ResidentFilter<'a>>> {
        Ok(match (&resident.meta, self.plan.filter_lines) {
            (Some(meta), 1..) => Some(ResidentFilter {
                lines: self.filter(meta)?.as_chunks().0,
                probes: self.plan.filter_probes,
            }),
            _ => None,
        })
    }

    /// Has the line of the filter fetched that tells about a key.
    ///
    /// # Errors
    /// Io or corruption, naming file and offset.
    #[inline]
    pub(crate) fn prefetch_filter(&self, resident: &Resident, hash: u64) -> Result<()> {
        if let (Some(meta), 1..) = (&resident.meta, self.plan.filter_lines) {
            let filter = self.filter(meta)?;
            memory::prefetch_at(
                filter,
                filter::line(hash, filter.len() / filter::LINE_BYTES) * filter::LINE_BYTES,
            );
        }
        Ok(())
    }

    /// Whether a key may be here.
    ///
    /// # Errors
    /// Io or corruption, naming file and offset.
    #[inline]
    pub(crate) fn may_contain(&self, resident: &Resident, hash: u64) -> Result<bool> {
        if self.plan.filter_lines == 0 {
            return Ok(true);
        }
        let Some(meta) = &resident.meta else { return self.may_contain_cached(hash) };
        let filter = self.filter(meta)?;
        let at = filter::line(hash, filter.len() / filter::LINE_BYTES) * filter::LINE_BYTES;
        let line = filter.get(at..).and_then(<[u8]>::first_chunk);
        Ok(line.is_none_or(|line| filter::line_may_contain(line, hash, self.plan.filter_probes)))
    }

    #[cold]
    fn may_contain_cached(&self, hash: u64) -> Result<bool> {
        let lines = usize::try_from(self.plan.filter_lines).unwrap_or(usize::MAX);
        let line = filter::line(hash, lines) as u64;
        let handle = self.plan.filter_handle(line / LINES_PER_BLOCK);
        let block = self.cached(handle, BlockKind::Filter)?;
        let at = usize::try_from(line % LINES_PER_BLOCK).unwrap_or(0) * filter::LINE_BYTES;
        let found = filter::parts(block.bytes())
            .and_then(|(probes, lines)| Some((probes, lines.get(at..)?.first_chunk()?)));
        Ok(found.is_none_or(|(probes, line)| filter::line_may_contain(line, hash, probes)))
    }

    /// The blocks in which a prefix may be.
    #[inline]
    fn span(&self, resident: &Resident, prefix: u64) -> Result<Span> {
        match &resident.meta {
            Some(meta) => Ok(self.index(meta)?.find(prefix)),
            None => self.span_cached(prefix),
        }
    }

    #[cold]
    fn span_cached(&self, prefix: u64) -> Result<Span> {
        let top = self.plan.top.partition_point(|fence| *fence <= prefix).saturating_sub(1);
        let handle = self.plan.fence_handle(top as u64);
        let block = self.cached(handle, BlockKind::Fences)?;
        let fences: Vec<u64> = block
            .bytes()
            .chunks_exact(8)
            .map(|fence| fence.try_into().map_or(0, u64::from_le_bytes))
            .collect();
        let last = fences.partition_point(|fence| *fence <= prefix).saturating_sub(1);
        if fences.first() == Some(&prefix) && top > 0 {
            // Blocks before may begin with it too.
            return Ok(self.load_index()?.find(prefix));
        }
        let next = self.plan.top.get(top + 1).copied().unwrap_or(u64::MAX);
        let found = span(&[fences.as_slice(), &[next]].concat(), prefix, last);
        let offset = top * usize::try_from(FENCES_PER_BLOCK).unwrap_or(0);
        Ok(Span { first: found.first + offset, last: (found.last + offset).min(self.blocks() - 1), ..found })
    }

    /// Has what a search for a key in the rows needs first fetched: call it with all keys, then [`Self::prefetch_row`] with all, then search.
    ///
    /// # Errors
    /// Io or corruption, naming file and offset.
    #[inline]
    pub(crate) fn prefetch_index(&self, resident: &Resident, prefix: u64) -> Result<()> {
        if let Some(meta) = &resident.meta {
            self.index(meta)?.prefetch(prefix);
        }
        Ok(())
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
