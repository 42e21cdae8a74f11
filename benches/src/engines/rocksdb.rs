//! RocksDB 11 (by rust-rocksdb): a log-structured merge tree in C++.
//!
//! After its wiki's "Setup Options and Basic Tuning" and the notes at the options themselves:
//!
//! - *Memory.* One HyperClock cache ("now generally recommended over LRUCache") of the whole budget; index and filter blocks live in it, those of level 0
//!   pinned, and memtables are charged to it by a write buffer manager of half the budget: so nothing it knows of is outside. Table files stay open
//!   (`max_open_files` -1, the default).
//! - *Filters.* 10 bits a key (15 where keys and values are of fixed width, as `lsm` has there), sized to memory; the memtable's own filter (`memtable_prefix_bloom_ratio` with whole keys) at the 2 % that it is made for, as the anchors
//!   found it to be better for looking up absent keys.
//! - *Blocks.* 16 KiB is what the wiki advises for disks; 4 KiB is the default, better for point reads with the data in memory, and what the other two
//!   engines use. Format version 6. A hash index in data blocks where keys and values are of fixed width (the index of chunks is point lookups alone).
//! - *Compression.* LZ4 (zstd for the last level would be the wiki's advice; LZ4 is the faster of the two and what fjall has).
//! - *Compaction.* Leveled with dynamic level sizes, both cores (`increase_parallelism(2)`), `bytes_per_sync` 1 MiB, compaction priority by least overlap.
//! - *Writes.* Pipelined, which the wiki advises for many writers; the journal is written at each commit and synced if asked.
//! - *Batched lookups.* `batched_multi_get_cf` with pinned values, unsorted: it sorts its input itself.
//! - *Prefix deletes.* `DeleteRange`.
//! - *Bulk loading.* As `prepare_for_bulk_load` does it: a vector memtable, no journal, no compaction; then one compaction. What is sorted is written to table files, which are moved in
//!   ("Creating and Ingesting SST files"), each as large as those of its compactions.

use std::path::{Path, PathBuf};

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, CompactOptions, DB, DBCompressionType,
    DEFAULT_COLUMN_FAMILY_NAME, DataBlockIndexType, IngestExternalFileOptions, MemtableFactory, Options,
    ReadOptions, SstFileWriter, WaitForCompactOptions, WriteBatch, WriteBufferManager, WriteOptions,
};

use crate::convert::to_usize;
use crate::error::{Result, fault};
use crate::store::{
    Configuration, Direction, Durability, End, Entries, Operation, Reader, Scan, Store, Visit, prefix_end,
};

const BLOCK_BYTES: usize = 4 << 10;
const MEMTABLE_FILTER_PART: f64 = 0.02;
const CORES: i32 = 2;
/// Bytes of a table file, as `target_file_size_base` has it.
const TABLE_BYTES: u64 = 64 << 20;

pub(crate) struct Rocks {
    /// `None` only while it is opened again with other options.
    db: Option<DB>,
    path: PathBuf,
    options: Options,
    /// For writes that are not synced, and for those that are.
    write_options: [WriteOptions; 2],
}

fn open_at(path: &Path, options: &Options) -> Result<DB> {
    // Opened by its name, so that there is a handle to it: batched lookups want one.
    let map = ColumnFamilyDescriptor::new(DEFAULT_COLUMN_FAMILY_NAME, options.clone());
    Ok(DB::open_cf_descriptors(options, path, [map])?)
}

impl Rocks {
    pub(crate) fn open(configuration: &Configuration) -> Result<Self> {
        let memory_bytes = to_usize(configuration.memory_bytes);
        let cache = Cache::new_hyper_clock_cache(memory_bytes, 0);

        let mut blocks = BlockBasedOptions::default();
        blocks.set_block_cache(&cache);
        blocks.set_block_size(BLOCK_BYTES);
        blocks.set_format_version(6);
        blocks.set_bloom_filter(f64::from(configuration.filter_bits_per_key()), false);
        blocks.set_optimize_filters_for_memory(true);
        blocks.set_cache_index_and_filter_blocks(true);
        blocks.set_cache_index_and_filter_blocks_with_high_priority(true);
        blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
        if configuration.fixed.is_some() {
            blocks.set_data_block_index_type(DataBlockIndexType::BinaryAndHash);
            blocks.set_data_block_hash_ratio(0.75);
        }

        let mut options = Options::default();
        options.create_if_missing(true);
        options.increase_parallelism(CORES);
        options.set_block_based_table_factory(&blocks);
        options.set_compression_type(DBCompressionType::Lz4);
        options.set_level_compaction_dynamic_level_bytes(true);
        options.set_bytes_per_sync(1 << 20);
        options.set_enable_pipelined_write(true);
        options.set_write_buffer_size(to_usize(configuration.write_buffer()));
        options.set_memtable_whole_key_filtering(true);
        options.set_memtable_prefix_bloom_ratio(MEMTABLE_FILTER_PART);
        if configuration.write_buffer_bytes.is_none() {
            let manager =
                WriteBufferManager::new_write_buffer_manager_with_cache(memory_bytes / 2, false, cache);
            options.set_write_buffer_manager(&manager);
        }
        let path = configuration.path.clone();
        let write_options = [false, true].map(|sync| {
            let mut options = WriteOptions::default();
            options.set_sync(sync);
            options
        });
        Ok(Self { db: Some(open_at(&path, &options)?), path, options, write_options })
    }

    fn db(&self) -> Result<&DB> {
        self.db.as_ref().ok_or_else(|| "RocksDB was not opened again".into())
    }

    /// Closes it and opens it with other options.
    fn open_again(&mut self, options: &Options) -> Result<()> {
        self.db = None;
        self.db = Some(open_at(&self.path, options)?);
        Ok(())
    }
}

fn map(db: &DB) -> Result<&ColumnFamily> {
    db.cf_handle(DEFAULT_COLUMN_FAMILY_NAME).ok_or_else(|| "RocksDB opened without its default map".into())
}

impl Store for Rocks {
    fn write(&self, operations: &[Operation<'_>], durability: Durability) -> Result<()> {
        let db = self.db()?;
        let [unsynced, synced] = &self.write_options;
        let options = if durability == Durability::Synced { synced } else { unsynced };
        match operations {
            [Operation::Put(key, value)] => db.put_opt(key, value, options)?,
            [Operation::Delete(key)] => db.delete_opt(key, options)?,
            _ => {
                let mut batch = WriteBatch::default();
                for operation in operations {
                    match operation {
                        Operation::Put(key, value) => batch.put(key, value),
                        Operation::Delete(key) => batch.delete(key),
                    }
                }
                db.write_opt(batch, options)?;
            }
        }
        Ok(())
    }

    fn delete_prefix(&self, prefix: &[u8]) -> Result<()> {
        let db = self.db()?;
        let Some(end) = prefix_end(prefix) else {
            return fault("RocksDB deletes ranges with an end only");
        };
        Ok(db.delete_range_cf(map(db)?, prefix, &end)?)
    }

    fn bulk_load(&mut self, entries: &mut Entries<'_>) -> Result<()> {
        let mut bulk = self.options.clone();
        bulk.prepare_for_bulk_load();
        bulk.set_memtable_factory(MemtableFactory::Vector);
        bulk.set_allow_concurrent_memtable_write(false);
        bulk.set_memtable_prefix_bloom_ratio(0.0);
        self.open_again(&bulk)?;
        {
            let db = self.db()?;
            let mut options = WriteOptions::default();
            options.disable_wal(true);
            let (mut key, mut value) = (Vec::new(), Vec::new());
            let mut batch = WriteBatch::default();
            while entries(&mut key, &mut value) {
                batch.put(&key, &value);
                if batch.size_in_bytes() >= 1 << 20 {
                    db.write_opt(std::mem::take(&mut batch), &options)?;
                }
            }
            db.write_opt(batch, &options)?;
            db.flush()?;
        }
        let options = self.options.clone();
        self.open_again(&options)?;
        self.compact()
    }

    fn load_sorted(&mut self, entries: &mut Entries<'_>) -> Result<()> {
        let db = self.db()?;
        let mut paths = Vec::new();
        let (mut key, mut value) = (Vec::new(), Vec::new());
        let mut has_more = entries(&mut key, &mut value);
        while has_more {
            let path = self.path.join(format!("load-{}.sst", paths.len()));
            let mut file = SstFileWriter::create(&self.options);
            file.open(&path)?;
            while has_more && file.file_size() < TABLE_BYTES {
                file.put(&key, &value)?;
                has_more = entries(&mut key, &mut value);
            }
            file.finish()?;
            paths.push(path);
        }
        if paths.is_empty() {
            return Ok(());
        }
        let mut options = IngestExternalFileOptions::default();
        options.set_move_files(true);
        Ok(db.ingest_external_file_opts(&options, paths)?)
    }

    fn reader(&self) -> Result<Box<dyn Reader + '_>> {
        let db = self.db()?;
        Ok(Box::new(MapReader { db, map: map(db)?, options: ReadOptions::default() }))
    }

    fn flush(&self) -> Result<()> {
        Ok(self.db()?.flush()?)
    }

    fn compact(&mut self) -> Result<()> {
        let db = self.db()?;
        db.compact_range_opt(None::<&[u8]>, None::<&[u8]>, &CompactOptions::default());
        Ok(db.wait_for_compact(&WaitForCompactOptions::default())?)
    }

    fn sync(&self) -> Result<()> {
        Ok(self.db()?.flush_wal(true)?)
    }

    fn close(self: Box<Self>) -> Result<()> {
        let db = self.db()?;
        db.flush_wal(true)?;
        db.cancel_all_background_work(true);
        Ok(())
    }
}

struct MapReader<'s> {
    db: &'s DB,
    map: &'s ColumnFamily,
    options: ReadOptions,
}

impl Reader for MapReader<'_> {
    fn get(&mut self, key: &[u8], read: &mut dyn FnMut(&[u8])) -> Result<bool> {
        Ok(match self.db.get_pinned_opt(key, &self.options)? {
            Some(value) => {
                read(&value);
                true
            }
            None => false,
        })
    }

    fn multi_get(&mut self, keys: &[&[u8]], read: &mut dyn FnMut(usize, &[u8])) -> Result<()> {
        let values = self.db.batched_multi_get_cf_opt(self.map, keys.iter().copied(), false, &self.options);
        for (place, value) in values.into_iter().enumerate() {
            if let Some(value) = value? {
                read(place, &value);
            }
        }
        Ok(())
    }

    fn multi_contains(&mut self, keys: &[&[u8]], found: &mut Vec<bool>) -> Result<()> {
        found.clear();
        found.resize(keys.len(), false);
        self.multi_get(keys, &mut |place, _| {
            if let Some(found) = found.get_mut(place) {
                *found = true;
            }
        })
    }

    fn scan(&mut self, scan: Scan<'_>, visit: &mut Visit<'_>) -> Result<u64> {
        let mut options = ReadOptions::default();
        let bounds = scan.bounds();
        if let (Some(prefix), End::Before(end)) = (scan.prefix, &bounds.end) {
            // Bounds spare the iterator what lies behind the prefix, tombstones above all.
            options.set_iterate_range(prefix.to_vec()..end.clone());
        }
        let mut entries = self.db.raw_iterator_opt(options);
        match (scan.direction, bounds.start, &bounds.end) {
            (Direction::Forward, Some(start), _) => entries.seek(start),
            (Direction::Forward, None, _) => entries.seek_to_first(),
            (Direction::Backward, _, End::Through(key)) => entries.seek_for_prev(key),
            (Direction::Backward, ..) => entries.seek_to_last(),
        }
        let mut count = 0;
        while count < scan.limit {
            let Some((key, value)) = entries.item() else { break };
            visit(key, value);
            count += 1;
            match scan.direction {
                Direction::Forward => entries.next(),
                Direction::Backward => entries.prev(),
            }
        }
        entries.status()?;
        Ok(count)
    }
}
