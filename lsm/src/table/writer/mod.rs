//! Writing a table: data blocks are laid out as entries come, and verified before they leave; what leads to them follows ([`ending`]).

mod beside;
mod ending;
mod hurry;

use std::path::Path;
use std::sync::Arc;

use crate::block::{BlockBuilder, BlockKind, Compression, Compressor, DICTIONARY_BYTES_MAX, stamp_of_rank};
use crate::checksum::Identity;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::filter;
use crate::fs::FileSystem;
use crate::key::{self, KEY_BYTES_MAX, Kind, SequenceNumber, VALUE_BYTES_MAX};
use crate::range_tombstone::RangeTombstone;
use crate::table::header::{Header, REQUIRED_DICTIONARY, REQUIRED_LZ4, REQUIRED_ZSTD, TableKind};
use crate::table::held::{BlockKeys, HeldBlock};
use crate::table::index::Handle;
use crate::table::sample::Sample;
use crate::table::sealed::{Packed, Sealed};
use crate::table::{HEADER_BYTES, TableOptions};

use beside::Beside;
use hurry::Hurry;

/// Entries between restarts in an index: a lookup decodes half as many.
const INDEX_RESTART_INTERVAL: usize = 4;

/// A data block that was written and whose separator waits for the key after it.
#[derive(Debug)]
struct Pending {
    handle: Handle,
    last_user: Vec<u8>,
    last_stamp: u64,
}

/// Writes a table, entry by entry, in order.
#[derive(Debug)]
pub struct TableWriter {
    options: TableOptions,
    identity: Identity,
    out: Sealed,
    header: Header,
    compressor: Compressor,
    /// Of data blocks, where there is a dictionary, and the dictionary as it is stored.
    with_dictionary: Option<(Compressor, Packed)>,
    /// Data blocks that wait for the decision whether there is one.
    sample: Option<Sample>,
    hurry: Hurry,
    /// Data blocks that wait until they are compressed, by a thread beside this one.
    beside: Option<Beside>,
    data: BlockBuilder,
    /// The first user key of this data block.
    data_first: Vec<u8>,
    /// Of the user keys of this data block, each once.
    data_hashes: Vec<u64>,
    index: BlockBuilder,
    top: BlockBuilder,
    pending: Option<Pending>,
    /// Of the user keys of this partition, each once.
    hashes: Vec<u64>,
    tombstones: Vec<RangeTombstone>,
    tombstone_bytes: usize,
    first_user: Option<Vec<u8>>,
    /// User key and rank of the last entry.
    last: (Vec<u8>, u64),
    entries: u64,
    deletions: u64,
    blocks_entries: u64,
    sequences: Option<(SequenceNumber, SequenceNumber)>,
    key_bytes: u64,
    value_bytes: u64,
    data_blocks: u64,
    partitions: u64,
}

impl TableWriter {
    /// Starts a new file at `path`, which must not exist.
    ///
    /// # Errors
    /// Io if it cannot be created; InvalidArgument if this build lacks the compression or an option makes no sense.
    pub fn create(
        fs: &Arc<dyn FileSystem>,
        path: &Path,
        identity: Identity,
        database: Identity,
        options: TableOptions,
    ) -> Result<Self> {
        if options.block_bytes == 0 || options.restart_interval == 0 || options.index_block_bytes == 0 {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                format!("blocks and restart intervals cannot be empty: {options:?}"),
            ));
        }
        if options.dictionary_bytes > DICTIONARY_BYTES_MAX {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                format!("a dictionary of {} bytes: at most {DICTIONARY_BYTES_MAX}", options.dictionary_bytes),
            ));
        }
        let compressor = Compressor::new(options.compression)?;
        let file = fs.create_new(path).context("create a table", path)?;
        let required = match options.compression {
            Compression::None => 0,
            Compression::Lz4 => REQUIRED_LZ4,
            Compression::Zstd(_) => REQUIRED_ZSTD,
        };
        let header = Header { kind: TableKind::Sorted, required, optional: 0, identity, database };
        let mut out = Sealed::new(path.to_owned(), file, identity, options.block_bytes);
        out.begin(&header.encode(), HEADER_BYTES);
        Ok(Self {
            identity,
            out,
            header,
            compressor,
            with_dictionary: None,
            sample: Sample::new(options.compression, options.dictionary_bytes),
            hurry: Hurry::default(),
            beside: None,
            data: BlockBuilder::new(options.restart_interval),
            data_first: Vec::new(),
            data_hashes: Vec::new(),
            index: BlockBuilder::new(INDEX_RESTART_INTERVAL),
            top: BlockBuilder::new(INDEX_RESTART_INTERVAL),
            options,
            pending: None,
            hashes: Vec::new(),
            tombstones: Vec::new(),
            tombstone_bytes: 0,
            first_user: None,
            last: (Vec::new(), 0),
            entries: 0,
            deletions: 0,
            blocks_entries: 0,
            sequences: None,
            key_bytes: 0,
            value_bytes: 0,
            data_blocks: 0,
            partitions: 0,
        })
    }

    /// Adds an entry.
    ///
    /// # Panics
    /// If the key is not above the one before it, or a deletion has a value: a wrong table must never be written.
    ///
    /// # Errors
    /// Io if a block cannot be written; InvalidArgument for a key or value above its limit, or no internal key.
    pub fn add(&mut self, internal_key: &[u8], value: &[u8]) -> Result<()> {
        let (user, trailer) = key::split(internal_key)?;
        let (sequence, kind) = key::parse_trailer(trailer)?;
        if user.len() > KEY_BYTES_MAX || value.len() > VALUE_BYTES_MAX {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                format!("a key of {} and a value of {} bytes are above the limits", user.len(), value.len()),
            ));
        }
        assert!(kind == Kind::Put || value.is_empty(), "a deletion has no value");
        let rank = u64::from_be_bytes(trailer);
        let new_user = self.entries == 0 || self.last.0 != user;
        if self.entries > 0 {
            let (last_user, last_rank) = &self.last;
            let above = if new_user { last_user.as_slice() < user } else { *last_rank < rank };
            assert!(above, "the entries of a table are added in ascending order");
        }
        let entry_bytes = user.len() + value.len() + 16;
        if !self.data.is_empty() && self.data.payload_bytes() + entry_bytes > self.options.block_bytes {
            self.finish_data_block()?;
        }
        if self.data.is_empty() {
            self.data_first.clear();
            self.data_first.extend_from_slice(user);
        }
        if self.options.filter_bits_per_key > 0 && (new_user || self.data.is_empty()) {
            self.data_hashes.push(filter::hash(user));
        }
        self.data.add(user, stamp_of_rank(rank), value);
        if self.first_user.is_none() {
            self.first_user = Some(user.to_vec());
        }
        if new_user {
            self.last.0.clear();
            self.last.0.extend_from_slice(user);
        }
        self.last.1 = rank;
        self.entries += 1;
        self.deletions += u64::from(kind == Kind::Delete);
        self.key_bytes += user.len() as u64;
        self.value_bytes += value.len() as u64;
        self.see(sequence);
        Ok(())
    }

    /// Adds a range tombstone; in any order, at any time. `end` is excluded; `None` deletes everything from `start` on.
    ///
    /// # Panics
    /// If the range is empty, its sequence number is 0, or a bound is above the limit for keys.
    pub fn add_range_tombstone(&mut self, start: &[u8], end: Option<&[u8]>, sequence: SequenceNumber) {
        assert!(end.is_none_or(|end| start < end), "a range tombstone covers something");
        assert!((1..=key::SEQUENCE_MAX).contains(&sequence), "a range tombstone was written once");
        assert!(start.len().max(end.map_or(0, <[u8]>::len)) <= KEY_BYTES_MAX + 1, "its bounds are keys");
        self.tombstone_bytes += start.len() + end.map_or(0, <[u8]>::len) + 12;
        self.tombstones.push(RangeTombstone {
            start: start.to_vec(),
            end: end.map(<[u8]>::to_vec),
            sequence,
        });
        self.see(sequence);
    }

    fn see(&mut self, sequence: SequenceNumber) {
        let (min, max) = self.sequences.unwrap_or((sequence, sequence));
        self.sequences = Some((min.min(sequence), max.max(sequence)));
    }

    /// Has a thread beside this one compress some of the data blocks, in which nothing is hurried then; before the first entry. Where nothing is compressed, or the system has no
    /// thread to give, it changes nothing; nor where there may be a dictionary, which is decided on the way.
    pub(crate) fn compress_beside(&mut self) {
        debug_assert!(self.is_empty() && !self.hurry.is_on());
        if self.options.compression != Compression::None && self.sample.is_none() {
            self.beside = Beside::start(self.options.compression);
        }
    }

    /// From here on, until it is said otherwise, data blocks are stored as they are: somebody waits for the table.
    pub(crate) fn hurry(&mut self, is_hurried: bool) {
        self.hurry.set(is_hurried);
    }

    /// About how long the file would be if it ended here (compression of the last block not counted).
    pub fn estimated_bytes(&self) -> u64 {
        let hashes = self.hashes.len() + self.data_hashes.len();
        let filter = hashes * self.options.filter_bits_per_key as usize / 8;
        // What is held back counts in full: it is a small part of a table.
        let held = self.sample.as_ref().map_or(0, Sample::bytes)
            + self.beside.as_ref().map_or(0, Beside::held_bytes);
        let open = held + self.data.payload_bytes() + self.index.payload_bytes() + self.top.payload_bytes();
        self.out.offset() + (open + filter + self.tombstone_bytes) as u64
    }

    /// How many entries were added, range tombstones not counted.
    pub fn entries(&self) -> u64 {
        self.entries
    }

    /// Whether nothing was added.
    pub fn is_empty(&self) -> bool {
        self.entries == 0 && self.tombstones.is_empty()
    }

    /// Closes the data block; it is written, or held back.
    fn finish_data_block(&mut self) -> Result<()> {
        let mut data = std::mem::replace(&mut self.data, BlockBuilder::new(1));
        let (last_user, last_stamp) = data.last();
        let keys = BlockKeys {
            first_user: std::mem::take(&mut self.data_first),
            last_user: last_user.to_vec(),
            last_stamp,
            entries: data.entries(),
            hashes: std::mem::take(&mut self.data_hashes),
        };
        if let Some(sample) = &mut self.sample {
            sample.push(HeldBlock { payload: data.finish().to_vec(), keys });
            if sample.is_full() {
                self.end_sample()?;
            }
        } else if let Some(beside) = &mut self.beside
            && Beside::takes(data.payload_bytes())
        {
            beside.push(HeldBlock { payload: data.finish().to_vec(), keys }, &mut self.compressor)?;
            self.write_packed(false)?;
        } else {
            self.end_beside()?;
            self.write_data_block(data.finish(), keys)?;
        }
        data.clear();
        self.data = data;
        Ok(())
    }

    /// Decides whether the table has a dictionary, and writes what was held back.
    fn end_sample(&mut self) -> Result<()> {
        let Some(sample) = self.sample.take() else { return Ok(()) };
        if let Some((compressor, dictionary)) = sample.decide(&mut self.compressor)? {
            assert!(self.out.offset() == HEADER_BYTES as u64, "only the header was put");
            self.header.required |= REQUIRED_DICTIONARY;
            self.out.begin(&self.header.encode(), HEADER_BYTES);
            self.out.put_packed(BlockKind::Dictionary, &dictionary);
            self.with_dictionary = Some((compressor, dictionary));
        }
        sample.blocks.into_iter().try_for_each(|block| self.write_data_block(&block.payload, block.keys))
    }

    /// Writes what is compressed of the blocks that were left to the thread beside; with `wait` all that it was given.
    fn write_packed(&mut self, wait: bool) -> Result<()> {
        while let Some(beside) = &mut self.beside
            && let Some(batch) = beside.next(wait)?
        {
            batch.give(|block, codec, stored| {
                self.begin_data_block(&block.keys)?;
                let handle = self.out.put_stored(BlockKind::Data, codec, stored, block.payload.len());
                self.end_data_block(handle, block.keys)
            })?;
        }
        Ok(())
    }

    /// Writes all that was left to the thread beside.
    fn end_beside(&mut self) -> Result<()> {
        if let Some(beside) = &mut self.beside {
            beside.hand_over(&mut self.compressor)?;
        }
        self.write_packed(true)
    }

    /// Writes a data block.
    fn write_data_block(&mut self, payload: &[u8], keys: BlockKeys) -> Result<()> {
        self.begin_data_block(&keys)?;
        let handle = if self.hurry.is_on() {
            self.hurry.pass(&mut self.compressor, payload)?;
            self.out.put_plain(BlockKind::Data, payload)
        } else {
            let compressor =
                self.with_dictionary.as_mut().map_or(&mut self.compressor, |(compressor, _)| compressor);
            self.out.put(compressor, BlockKind::Data, payload)?
        };
        self.end_data_block(handle, keys)
    }

    /// What comes before a data block: the one before it is entered in the index.
    fn begin_data_block(&mut self, keys: &BlockKeys) -> Result<()> {
        if let Some(pending) = self.pending.take() {
            self.index_block(&pending, Some(&keys.first_user));
            if self.index.payload_bytes() >= self.options.index_block_bytes {
                self.finish_partition()?;
            }
        }
        // Where the block goes on with the user key of the one before it, the partition has its hash already.
        let is_known = !self.hashes.is_empty() && self.hashes.last() == keys.hashes.first();
        self.hashes.extend_from_slice(keys.hashes.get(usize::from(is_known)..).unwrap_or_default());
        Ok(())
    }

    /// What comes behind a data block that was put. What its keys were kept in serves for the next.
    fn end_data_block(&mut self, handle: Handle, keys: BlockKeys) -> Result<()> {
        self.data_blocks += 1;
        self.blocks_entries += keys.entries;
        self.pending = Some(Pending { handle, last_user: keys.last_user, last_stamp: keys.last_stamp });
        (self.data_first, self.data_hashes) = (keys.first_user, keys.hashes);
        self.data_hashes.clear();
        self.out.write_enough()
    }
}
