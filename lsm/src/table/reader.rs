//! An open table: verified when it is opened, read block by block.

use std::path::Path;
use std::sync::Arc;

use crate::block::{Block, BlockKind, Rank, rank_seen_by, split_stamp};
use crate::cache::BlockCache;
use crate::checksum::Identity;
use crate::error::{Error, Result};
use crate::filter;
use crate::fs::{File, FileSystem};
use crate::key::{Kind, SequenceNumber};
use crate::range::KeyRange;
use crate::range_tombstone::RangeTombstones;
use crate::table::dictionary::TableDictionary;
use crate::table::file::TableFile;
use crate::table::footer::Directory;
use crate::table::header::TableKind;
use crate::table::index::{Handle, Partition, short_index};
use crate::table::opening::Opening;
use crate::table::pinned::{Held, PinnedBlocks, PinnedFilter, PinnedPartition, Route};
use crate::table::{ExpectedTable, Found, ReadMode, TableIter, TableOrigin, TableSummary};
use crate::value::Lent;

/// An open table. Blocks are read when they are asked for.
#[derive(Debug)]
pub struct Table {
    pub(super) file: TableFile,
    pub(super) directory: Directory,
    pub(super) directory_handle: Handle,
    pub(super) top: Block,
    pub(super) database: Identity,
    cache: Arc<BlockCache>,
    cache_table: u64,
    summary: TableSummary,
    origin: Option<TableOrigin>,
    tombstones: Arc<RangeTombstones>,
    pinned: PinnedBlocks,
}

impl Table {
    /// Opens the table at `path` and verifies that it is the one expected: length, identity, header, footer, sections.
    ///
    /// # Errors
    /// Io; NotFound; Corruption where something differs; NewerFormat for unknown required features.
    pub fn open(
        fs: &Arc<dyn FileSystem>,
        path: &Path,
        expected: ExpectedTable,
        cache: &Arc<BlockCache>,
    ) -> Result<Arc<Self>> {
        Self::open_with(fs, path, Some(expected), cache)
    }

    /// Opens a table of which nothing is known but its own word: for tools and repair.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_unexpected(
        fs: &Arc<dyn FileSystem>,
        path: &Path,
        cache: &Arc<BlockCache>,
    ) -> Result<Arc<Self>> {
        Self::open_with(fs, path, None, cache)
    }

    fn open_with(
        fs: &Arc<dyn FileSystem>,
        path: &Path,
        expected: Option<ExpectedTable>,
        cache: &Arc<BlockCache>,
    ) -> Result<Arc<Self>> {
        let Opening { mut file, tail, directory, directory_handle, header, summary, origin } =
            Opening::read(fs, path, expected, TableKind::Sorted, cache)?;
        let top = match directory.top_index {
            Some(handle) => file.block_of(&tail.bytes(&file, handle)?, handle, BlockKind::TopIndex)?,
            None => Block::opaque(Vec::new()),
        };
        let tombstones = match directory.tombstones {
            Some(handle) => {
                let payload = tail.payload(&file, handle, BlockKind::Tombstones)?;
                RangeTombstones::decode(&payload).map_err(|error| file.locate(error, handle.offset))?
            }
            None => RangeTombstones::default(),
        };
        if tombstones.len() as u64 != summary.range_tombstones
            || directory.top_index.is_some() != (summary.entries > 0)
        {
            let error =
                Error::corruption("the sections of the table are not those that its properties count");
            return Err(file.locate(error, directory_handle.offset));
        }
        let cache_table = cache.new_table();
        file.dictionary =
            directory.dictionary_copies().map(|copies| TableDictionary::new(copies, cache, cache_table));
        let table = Self {
            file,
            directory,
            directory_handle,
            top,
            database: header.database,
            cache: Arc::clone(cache),
            cache_table,
            summary,
            origin,
            tombstones: Arc::new(tombstones),
            pinned: PinnedBlocks::default(),
        };
        cache.table_bytes().add(table.memory_bytes());
        Ok(Arc::new(table))
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.file.path
    }

    /// The open file: readable even when it has no name any more.
    pub(crate) fn file(&self) -> &Arc<dyn File> {
        &self.file.file
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

    /// Its range tombstones.
    pub fn range_tombstones(&self) -> &Arc<RangeTombstones> {
        &self.tombstones
    }

    /// Bytes of memory that the open table takes, cached blocks not counted.
    pub fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.top.memory_bytes() + self.tombstones.memory_bytes()
    }

    /// The newest entry of `user_key` that a reader at `read_sequence` sees. Range tombstones are not looked at.
    ///
    /// # Errors
    /// Io or corruption, naming file and offset.
    pub fn get(&self, user_key: &[u8], read_sequence: SequenceNumber) -> Result<Option<Found<'static>>> {
        self.get_hashed(user_key, filter::hash(user_key), read_sequence)
    }

    /// As [`Self::get`], for a caller who asks several tables and has computed [`crate::filter::hash`] already.
    ///
    /// # Errors
    /// Io or corruption, naming file and offset.
    pub fn get_hashed(
        &self,
        user_key: &[u8],
        hash: u64,
        read_sequence: SequenceNumber,
    ) -> Result<Option<Found<'static>>> {
        match self.place(user_key, hash, read_sequence)? {
            Some(place) => self.get_at(place, user_key, hash, read_sequence),
            None => Ok(None),
        }
    }

    /// Where in the table the key is if it is here. What tells whether it is, is on its way then: a caller who asks several tables asks all of them for this
    /// first.
    ///
    /// # Errors
    /// Io or corruption, naming file and offset.
    #[inline]
    pub fn place(
        &self,
        user_key: &[u8],
        hash: u64,
        read_sequence: SequenceNumber,
    ) -> Result<Option<Place<'_>>> {
        let place = match self.pinned.route(&self.top, user_key) {
            Route::To(pinned) => Place { partition: pinned.partition, pinned: Some(pinned) },
            Route::Nowhere => return Ok(None),
            Route::Unknown => match self.partition(user_key, rank_seen_by(read_sequence))? {
                Some(partition) => Place { partition, pinned: self.pinned(partition) },
                None => return Ok(None),
            },
        };
        if let Some(filter) = place.filter() {
            filter.prefetch(hash);
        }
        Ok(Some(place))
    }

    /// What [`Self::get_hashed`] finds there.
    ///
    /// # Errors
    /// Io or corruption, naming file and offset.
    #[inline]
    pub fn get_at(
        &self,
        place: Place<'_>,
        user_key: &[u8],
        hash: u64,
        read_sequence: SequenceNumber,
    ) -> Result<Option<Found<'static>>> {
        match self.may_contain(place, hash)? {
            true => self.search(place, user_key, read_sequence),
            false => Ok(None),
        }
    }

    fn search(
        &self,
        place: Place<'_>,
        user_key: &[u8],
        read_sequence: SequenceNumber,
    ) -> Result<Option<Found<'static>>> {
        let (index, partition) = (self.index_at(place)?, place.partition);
        let rank = rank_seen_by(read_sequence);
        let handle = self.data_handle(&index, partition.index, user_key, rank)?;
        let block = self.block(handle, BlockKind::Data)?;
        self.find(block, handle, user_key, read_sequence)
    }

    /// The partition in which the key lies if it is here.
    #[inline]
    fn partition(&self, user_key: &[u8], rank: Rank) -> Result<Option<Partition>> {
        let found = self.top.lower_bound(user_key, rank, |_, _, _| Ok(())).and_then(|found| match found {
            Some((entry, _)) => Partition::from_value(self.top.slice(entry.value)).map(Some),
            None => Ok(None),
        });
        found.map_err(|error| self.file.locate(error, self.directory.top_index.map_or(0, |top| top.offset)))
    }

    /// Where the blocks of a partition are pinned, or can be.
    #[inline]
    pub(super) fn pinned(&self, partition: Partition) -> Option<&PinnedPartition> {
        self.pinned.of(&self.top, partition)
    }

    /// Whether the filter of a partition says that the key may be in it.
    #[inline]
    pub(super) fn may_contain(&self, place: Place<'_>, hash: u64) -> Result<bool> {
        match place.filter() {
            Some(filter) => Ok(filter.may_contain(hash)),
            None => self.may_contain_fetched(place, hash),
        }
    }

    /// Likewise; the filter is pinned from now on if there is room.
    #[cold]
    fn may_contain_fetched(&self, place: Place<'_>, hash: u64) -> Result<bool> {
        let Some(handle) = place.partition.filter() else { return Ok(true) };
        let known = self.cached(handle);
        let is_known = known.is_some();
        let block = known.map_or_else(|| self.file.block(handle, BlockKind::Filter), Ok)?;
        let bytes = BlockCache::bytes_of(&block);
        let block = match place.pinned {
            Some(pinned) if self.cache.pin(bytes) => {
                if pinned.filter.set(PinnedFilter::new(&block, bytes)).is_err() {
                    self.cache.unpin(bytes); // Another thread was faster.
                }
                block
            }
            _ if is_known => block,
            _ => self.keep(block, handle),
        };
        Ok(filter::may_contain(block.bytes(), hash))
    }

    /// The index block of a partition.
    #[inline]
    pub(super) fn index<'a>(
        &'a self,
        partition: Partition,
        pinned: Option<&'a PinnedPartition>,
    ) -> Result<Held<'a>> {
        match pinned.and_then(|pinned| pinned.index.get()) {
            Some(block) => Ok(Held::Pinned(block)),
            None => self.fetch_index(partition.index, pinned),
        }
    }

    /// The index block that leads to the key.
    #[inline]
    pub(super) fn index_at<'a>(&'a self, place: Place<'a>) -> Result<Held<'a>> {
        self.index(place.partition, place.pinned)
    }

    /// Likewise, pinned from now on if there is room.
    #[cold]
    fn fetch_index<'a>(&'a self, handle: Handle, pinned: Option<&'a PinnedPartition>) -> Result<Held<'a>> {
        let known = self.cached(handle);
        let is_known = known.is_some();
        let block = known.map_or_else(|| self.file.block(handle, BlockKind::Index), Ok)?;
        let bytes = BlockCache::bytes_of(&block);
        if let Some(pinned) = pinned
            && self.cache.pin(bytes)
        {
            if pinned.index.set(block.clone()).is_err() {
                self.cache.unpin(bytes); // Another thread was faster.
            }
            return Ok(pinned.index.get().map_or(Held::Own(block), Held::Pinned));
        }
        Ok(Held::Own(if is_known { block } else { self.keep(block, handle) }))
    }

    /// Where in the file the block is in which a key is if it is here, by the index of its partition, which stands at `at`.
    #[inline]
    pub(super) fn data_handle(
        &self,
        index: &Block,
        at: Handle,
        user_key: &[u8],
        rank: Rank,
    ) -> Result<Handle> {
        let found = index.lower_bound(user_key, rank, |_, _, _| Ok(())).and_then(|found| match found {
            Some((entry, _)) => Handle::from_value(index.slice(entry.value)),
            None => Err(short_index()),
        });
        found.map_err(|error| self.file.locate(error, at.offset))
    }

    /// What is known of a key in the block at `at`.
    #[inline]
    fn find(
        &self,
        block: Block,
        at: Handle,
        user_key: &[u8],
        read_sequence: SequenceNumber,
    ) -> Result<Option<Found<'static>>> {
        let rank = rank_seen_by(read_sequence);
        self.find_from(self.fetch_for(&block, at, user_key, rank)?, block, at, user_key, rank)
    }

    /// Where in the block at `at` a search begins; what it may see is on its way then.
    #[inline]
    pub(super) fn fetch_for(&self, block: &Block, at: Handle, user_key: &[u8], rank: Rank) -> Result<usize> {
        block.fetch_for(user_key, rank).map_err(|error| self.file.locate(error, at.offset))
    }

    /// As [`Self::find`], from there on.
    #[inline]
    pub(super) fn find_from(
        &self,
        start: usize,
        block: Block,
        at: Handle,
        user_key: &[u8],
        rank: Rank,
    ) -> Result<Option<Found<'static>>> {
        let found = block.get_from(start, user_key, rank).and_then(|entry| {
            let Some(entry) = entry else { return Ok(None) };
            let (sequence, kind) = split_stamp(entry.stamp);
            let range = block.range_of(entry.value);
            let value = Lent::block(block, range);
            Ok(Some((sequence, Kind::from_u8(kind)?, value)))
        });
        found.map_err(|error| self.file.locate(error, at.offset))
    }

    /// A data block, from the cache or into it.
    fn block(&self, handle: Handle, kind: BlockKind) -> Result<Block> {
        if let Some(block) = self.cached(handle) {
            return Ok(block);
        }
        let block = self.file.block(handle, kind)?;
        Ok(self.keep(block, handle))
    }

    /// The cache of its blocks.
    pub(super) fn cache(&self) -> &BlockCache {
        &self.cache
    }

    /// What the cache knows a block by.
    pub(super) fn cache_key(&self, handle: Handle) -> (u64, u64) {
        (self.cache_table, handle.offset)
    }

    pub(super) fn cached(&self, handle: Handle) -> Option<Block> {
        self.cache.get(self.cache_table, handle.offset)
    }

    pub(super) fn keep(&self, block: Block, handle: Handle) -> Block {
        self.cache.insert(self.cache_table, handle.offset, block)
    }

    /// As [`Self::keep`], of a scan that goes on and on.
    pub(super) fn keep_passing(&self, block: Block, handle: Handle) -> Block {
        self.cache.insert_passing(self.cache_table, handle.offset, block)
    }

    /// An iterator over all entries.
    pub fn iter(self: &Arc<Self>, mode: ReadMode) -> TableIter {
        self.iter_within(mode, KeyRange::all())
    }

    /// An iterator over the entries whose user keys lie in `bounds`; blocks that lie beyond are not read.
    pub fn iter_within(self: &Arc<Self>, mode: ReadMode, bounds: KeyRange) -> TableIter {
        TableIter::new(Arc::clone(self), mode, bounds)
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        self.cache.table_bytes().subtract(self.memory_bytes());
        self.cache.unpin(self.pinned.bytes());
    }
}

/// Where in a table a key is if it is in the table.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    partition: Partition,
    pinned: Option<&'a PinnedPartition>,
}

impl<'a> Place<'a> {
    #[inline]
    pub(super) fn partition(self) -> Partition {
        self.partition
    }

    #[inline]
    fn filter(self) -> Option<&'a PinnedFilter> {
        self.pinned?.filter.get()
    }
}
