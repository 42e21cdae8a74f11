//! A table: a sorted, immutable file of blocks.

use std::path::Path;
use std::sync::Arc;

use crate::block::Compression;
use crate::cache::BlockCache;
use crate::checksum::Identity;
use crate::error::{Error, ErrorKind, Result};
use crate::fs::FileSystem;
use crate::iter::InternalIterator;
use crate::key::{Kind, SequenceNumber};
use crate::range::KeyRange;
use crate::range_tombstone::RangeTombstones;
use crate::value::Value;

/// How a table is written.
#[derive(Clone, Debug)]
pub struct TableOptions {
    /// Raw bytes at which a block is closed. More: better compression, shorter index; less: less read for one key.
    pub block_bytes: usize,
    /// Entries between two that hold their whole key. Less: faster seeks; more: smaller blocks.
    pub restart_interval: usize,
    /// How blocks are compressed.
    pub compression: Compression,
    /// Bits of filter a key; 0: no filter. 10: one useless read in a hundred.
    pub filter_bits_per_key: u32,
}

impl Default for TableOptions {
    fn default() -> Self {
        Self {
            block_bytes: 4096,
            restart_interval: 16,
            compression: Compression::None,
            filter_bits_per_key: 10,
        }
    }
}

/// What the manifest knows of a table; a file that differs is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExpectedTable {
    /// The identity in its header.
    pub identity: Identity,
    /// The database it belongs to.
    pub database: Identity,
    /// The length of the file.
    pub file_bytes: u64,
}

/// What a table holds, as its writer counted it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableSummary {
    /// The identity in its header.
    pub identity: Identity,
    /// The length of the file.
    pub file_bytes: u64,
    /// Entries, deletions included, range tombstones not.
    pub entries: u64,
    /// Those entries that are deletions.
    pub deletions: u64,
    /// Range tombstones.
    pub range_tombstones: u64,
    /// The user keys that it says something about, range tombstones included.
    pub bounds: KeyRange,
    /// The smallest sequence number in it, range tombstones included.
    pub sequence_min: SequenceNumber,
    /// The largest.
    pub sequence_max: SequenceNumber,
    /// Bytes of user keys, uncompressed.
    pub key_bytes: u64,
    /// Bytes of values, uncompressed.
    pub value_bytes: u64,
}

/// Whether reading leaves blocks in the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadMode {
    /// For readers: blocks are taken from the cache and left there.
    Cached,
    /// For compaction and scrubbing: large reads ahead, the cache untouched.
    Bypass,
}

/// What a lookup found: the sequence number of the write, what it did, the value (empty for a deletion).
pub type Found = (SequenceNumber, Kind, Value);

/// One key of a [`Table::multi_get`].
#[derive(Debug)]
pub struct Lookup<'a> {
    /// The user's key.
    pub user_key: &'a [u8],
    /// Its [`crate::filter::hash`].
    pub hash: u64,
    /// Filled where the table has an entry; a lookup that has one already is passed over.
    pub found: Option<Found>,
}

/// Writes a table, entry by entry, in order.
#[derive(Debug)]
pub struct TableWriter {}

impl TableWriter {
    /// Starts a new file at `path`, which must not exist.
    ///
    /// # Errors
    /// Io if it cannot be created.
    pub fn create(
        fs: &Arc<dyn FileSystem>,
        path: &Path,
        identity: Identity,
        database: Identity,
        options: TableOptions,
    ) -> Result<Self> {
        let _ = (fs, path, identity, database, options);
        Err(Error::new(ErrorKind::Io, "not written yet"))
    }

    /// Adds an entry.
    ///
    /// # Panics
    /// If the key is not above the one before it: a wrong table must never be written.
    ///
    /// # Errors
    /// Io if a block cannot be written.
    pub fn add(&mut self, internal_key: &[u8], value: &[u8]) -> Result<()> {
        let _ = (internal_key, value);
        Ok(())
    }

    /// Adds a range tombstone; in any order, at any time. `end` is excluded; `None` deletes everything from `start` on.
    pub fn add_range_tombstone(&mut self, start: &[u8], end: Option<&[u8]>, sequence: SequenceNumber) {
        let _ = (start, end, sequence);
    }

    /// About how long the file would be if it ended here.
    pub fn estimated_bytes(&self) -> u64 {
        0
    }

    /// Whether nothing was added.
    pub fn is_empty(&self) -> bool {
        true
    }

    /// Writes what is left and makes the file's contents durable; its name is the caller's to sync.
    ///
    /// # Errors
    /// Io; InvalidArgument if nothing was added.
    pub fn finish(self) -> Result<TableSummary> {
        Err(Error::new(ErrorKind::Io, "not written yet"))
    }
}

/// An open table. Cheap to keep: blocks are read when they are asked for.
#[derive(Debug)]
pub struct Table {
    summary: TableSummary,
    tombstones: Arc<RangeTombstones>,
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
        let _ = (fs, path, expected, cache);
        Err(Error::new(ErrorKind::Io, "not written yet"))
    }

    /// What it holds.
    pub fn summary(&self) -> &TableSummary {
        &self.summary
    }

    /// Its range tombstones.
    pub fn range_tombstones(&self) -> &Arc<RangeTombstones> {
        &self.tombstones
    }

    /// Bytes of memory that the open table takes, cached blocks not counted.
    pub fn memory_bytes(&self) -> usize {
        0
    }

    /// The newest entry of `user_key` that a reader at `read_sequence` sees. Range tombstones are not looked at.
    ///
    /// # Errors
    /// Io or corruption, naming file and offset.
    pub fn get(&self, user_key: &[u8], read_sequence: SequenceNumber) -> Result<Option<Found>> {
        self.get_hashed(user_key, crate::filter::hash(user_key), read_sequence)
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
    ) -> Result<Option<Found>> {
        let _ = (user_key, hash, read_sequence);
        Ok(None)
    }

    /// Looks up many keys, given in ascending order, each as [`Self::get`] would.
    ///
    /// # Errors
    /// Io or corruption, naming file and offset.
    pub fn multi_get(&self, lookups: &mut [Lookup<'_>], read_sequence: SequenceNumber) -> Result<()> {
        let _ = (lookups, read_sequence);
        Ok(())
    }

    /// An iterator over all entries.
    pub fn iter(self: &Arc<Self>, mode: ReadMode) -> TableIter {
        self.iter_within(mode, KeyRange::all())
    }

    /// An iterator over the entries whose user keys lie in `bounds`; blocks that lie beyond are not read.
    pub fn iter_within(self: &Arc<Self>, mode: ReadMode, bounds: KeyRange) -> TableIter {
        let _ = (mode, bounds);
        TableIter {}
    }
}

/// A cursor over a table; it keeps the table open.
#[derive(Debug)]
pub struct TableIter {}

impl InternalIterator for TableIter {
    fn seek_to_first(&mut self) -> Result<()> {
        Ok(())
    }

    fn seek_to_last(&mut self) -> Result<()> {
        Ok(())
    }

    fn seek(&mut self, _internal: &[u8]) -> Result<()> {
        Ok(())
    }

    fn seek_for_prev(&mut self, _internal: &[u8]) -> Result<()> {
        Ok(())
    }

    fn next(&mut self) -> Result<()> {
        Ok(())
    }

    fn prev(&mut self) -> Result<()> {
        Ok(())
    }

    fn valid(&self) -> bool {
        false
    }

    fn key(&self) -> &[u8] {
        &[]
    }

    fn value(&self) -> &[u8] {
        &[]
    }
}
