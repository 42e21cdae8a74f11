//! What of a table of rows is in memory, how it comes there, and how a lookup gets at the rest.
//!
//! There are three parts: the index (which block a key's prefix is in), the filter (which keys are surely absent) and the rows. Index and filter
//! ([`Resident::meta`]) are read whole, by the first lookup that needs them; rows ([`Resident::rows`]) block by block, or all at once. Whoever holds
//! the table decides which of them there is room for; that memory is charged before anything is in it. What is not resident is read through the
//! cache, block by block. Every block is verified when it is read, wherever it goes.

use std::sync::{Arc, OnceLock};

use super::index::{Index, Span, span};
use super::layout::{FENCES_PER_BLOCK, LINES_PER_BLOCK};
use super::reader::FixedTable;
use super::region::Region;
use crate::block::{Block, BlockKind, TRAILER_BYTES};
use crate::charge::Charge;
use crate::error::{Error, IoContext, Result};
use crate::filter;
use crate::memory::{self, Bytes};
use crate::table::index::Handle;

/// Read at once when all rows are loaded, in blocks.
const LOAD_BLOCKS: u64 = 64;

/// What of a table is kept in memory beside the cache: as much as the budget had room for when somebody asked.
#[derive(Clone, Debug, Default)]
pub(crate) struct Resident {
    pub(crate) meta: Option<Arc<Meta>>,
    pub(crate) rows: Option<Arc<Region>>,
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

/// What is there, or is loaded now. Two may load it at once: both get what was there first.
#[inline]
fn loaded<T>(place: &OnceLock<T>, load: impl FnOnce() -> Result<T>) -> Result<&T> {
    match place.get() {
        Some(there) => Ok(there),
        None => {
            let new = load()?;
            Ok(place.get_or_init(|| new))
        }
    }
}

impl FixedTable {
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
        loaded(&meta.index, || self.load_index())
    }

    #[cold]
    fn load_index(&self) -> Result<Index> {
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
        Ok(loaded(&meta.filter, || self.load_filter())?)
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

    /// Has the line of the filter fetched that tells about a key, if the filter is in memory.
    #[inline]
    pub(crate) fn prefetch_filter(&self, resident: &Resident, hash: u64) {
        if let Some(filter) = resident.meta.as_ref().and_then(|meta| meta.filter.get()) {
            memory::prefetch_at(
                filter,
                filter::line(hash, filter.len() / filter::LINE_BYTES) * filter::LINE_BYTES,
            );
        }
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
    pub(super) fn span(&self, resident: &Resident, prefix: u64) -> Result<Span> {
        match &resident.meta {
            Some(meta) => Ok(self.index(meta)?.find(prefix)),
            None => self.span_cached(prefix),
        }
    }

    #[cold]
    fn span_cached(&self, prefix: u64) -> Result<Span> {
        let top = self.plan.top.partition_point(|fence| *fence <= prefix).saturating_sub(1);
        let mut fences = self.cached_fences(top)?;
        let last = fences.partition_point(|fence| *fence <= prefix).saturating_sub(1);
        let begins_before = top > 0 && fences.first() == Some(&prefix);
        fences.push(self.plan.top.get(top + 1).copied().unwrap_or(u64::MAX));
        let found = span(&fences, prefix, last);
        let number = |top: usize, fence: usize| top * usize::try_from(FENCES_PER_BLOCK).unwrap_or(0) + fence;
        let first = if begins_before {
            // Blocks before begin with it too, of however many blocks of fences: only where they begin is looked for.
            let top = self.plan.top.partition_point(|fence| *fence < prefix).saturating_sub(1);
            let fences = self.cached_fences(top)?;
            number(top, fences.partition_point(|fence| *fence < prefix).saturating_sub(1))
        } else {
            number(top, found.first)
        };
        Ok(Span { first, last: number(top, found.last).min(self.blocks() - 1), ..found })
    }

    /// The fences of one of their blocks.
    fn cached_fences(&self, top: usize) -> Result<Vec<u64>> {
        let block = self.cached(self.plan.fence_handle(top as u64), BlockKind::Fences)?;
        let fences = block.bytes().chunks_exact(8);
        Ok(fences.map(|fence| fence.try_into().map_or(0, u64::from_le_bytes)).collect())
    }

    /// Has what a search for a key in the rows needs first fetched, if the index is in memory: call it with all keys, then [`Self::begin`].
    #[inline]
    pub(crate) fn prefetch_index(&self, resident: &Resident, prefix: u64) {
        if let Some(index) = resident.meta.as_ref().and_then(|meta| meta.index.get()) {
            index.prefetch(prefix);
        }
    }
}
