//! A table: a sorted, immutable file of blocks.
//!
//! ```text
//! header             64 bytes: what it is, its identity, the features that a reader must know
//! dictionary         what data blocks are compressed with, if they are: one block
//! partition*         data blocks, the index block that leads to them, the filter of their keys
//! sections           range tombstones, top index, properties, the dictionary once more: one block each
//! directory          where the sections are: one block
//! footer             64 bytes: where the directory is, how long the file is
//! ```
//!
//! Every byte belongs to exactly one of these, and each has a checksum salted with the file's identity and the offset: bytes of another
//! file, or of another place in this one, don't pass. FORMAT.md, "Tables", has the offsets.
//!
//! The index has two levels. An open table keeps only the top one in memory, a separator for each partition of about a megabyte; the partitions' index
//! blocks and filters it keeps when they have been asked for, as long as the cache has room to spare, and beyond that they are read through the cache as data
//! blocks are ([`pinned`]). So what an open table must have is a thousandth of a percent of what it holds, and a writer needs memory for one partition,
//! whatever the size of the file.

use crate::block::Compression;
use crate::checksum::Identity;
use crate::key::{Kind, SequenceNumber};
use crate::range::KeyRange;
use crate::value::Lent;

mod any;
mod check;
mod dictionary;
mod dump;
mod file;
pub mod fixed;
mod footer;
#[cfg(feature = "testing")]
pub(crate) mod fuzz;
#[cfg(test)]
pub(crate) mod golden;
mod header;
mod held;
mod index;
mod iter;
#[cfg(test)]
mod layout;
mod many;
mod opening;
mod origin;
mod pinned;
mod properties;
mod reader;
mod salvage;
mod sample;
mod sealed;
#[cfg(test)]
mod tests;
mod writer;

pub(crate) use any::AnyTableWriter;
pub use any::{AnyTable, AnyTableIter};
pub use check::{CheckLevel, TableCheck};
pub use footer::FOOTER_BYTES;
pub use header::HEADER_BYTES;
pub use iter::TableIter;
pub use many::multi_get;
pub use origin::TableOrigin;
pub use reader::{Place, Table};
pub use salvage::{LostKeys, TableScan, scan};
pub use writer::TableWriter;

/// How a table is written.
#[derive(Clone, Debug)]
pub struct TableOptions {
    /// Raw bytes at which a block is closed. More: better compression, shorter index; less: less read for one key. Default: 4 KiB.
    pub block_bytes: usize,
    /// Entries between two that hold their whole key. Less: faster seeks; more: smaller blocks. Default: 16.
    pub restart_interval: usize,
    /// How blocks are compressed. Default: not.
    pub compression: Compression,
    /// Bits of filter a key; 0: no filter. 10, the default: one useless read in a hundred. 16: one in a thousand.
    pub filter_bits_per_key: u32,
    /// Bytes at which an index block is closed: with its filter and its data blocks it makes up a partition. Default: 8 KiB.
    pub index_block_bytes: usize,
    /// Bytes of a dictionary with which data blocks are compressed, where they are compressed, there are enough of them and it pays; 0: none. More: somewhat
    /// smaller blocks; less: less memory for each open table. Default: none.
    pub dictionary_bytes: usize,
    /// What the table is to say of its place in the database, for repair. Default: nothing.
    pub origin: Option<TableOrigin>,
}

impl Default for TableOptions {
    fn default() -> Self {
        Self {
            block_bytes: 4 << 10,
            restart_interval: 16,
            compression: Compression::None,
            filter_bits_per_key: 10,
            index_block_bytes: 8 << 10,
            dictionary_bytes: 0,
            origin: None,
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
    /// Data blocks.
    pub data_blocks: u64,
    /// Partitions.
    pub partitions: u64,
    /// Those data blocks that are stored as they are because somebody waited for the table, and would be smaller compressed (one of sixteen is tried).
    pub hurried_blocks: u64,
}

/// Whether reading leaves blocks in the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadMode {
    /// For readers: blocks are taken from the cache and left there.
    Cached,
    /// For compaction and scrubbing: large reads ahead, the cache untouched.
    Bypass,
}

/// What a lookup found: the sequence number of the write, what it did, the value where it lies (empty for a deletion).
pub type Found<'a> = (SequenceNumber, Kind, Lent<'a>);

/// One key of several ([`multi_get`]).
#[derive(Debug)]
pub struct Lookup<'a> {
    /// The user's key.
    pub user_key: &'a [u8],
    /// Its [`crate::filter::hash`].
    pub hash: u64,
    /// Filled where the table has an entry; a lookup that has one already is passed over.
    pub found: Option<Found<'a>>,
}
