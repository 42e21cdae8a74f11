//! fjall 3: a log-structured merge tree in Rust.
//!
//! - *Memory.* Its documentation advises a cache of a quarter of the memory, "or more if the data set fits", and memtables of 8 to 64 MiB. The budget here is
//!   for all of it: what is not cache is two memtables, the one written to and one that is being flushed. (More may be waiting for a flush: the
//!   limit on all of them, `max_write_buffer_size`, is deprecated and hidden; the peak memory in the report says what came of it.)
//! - *Filters.* Its default: 10 bits a key, more in level 0; 15 where keys and values are of fixed width, as `lsm` has there. `expect_point_read_hits`, which leaves out the last level's filters, would be
//!   wrong for workloads that ask for absent keys, and all of them do.
//! - *Compression.* Its default: LZ4 from the third level on.
//! - *Blocks, compaction.* Its defaults: 4 KiB (what it advises for point reads), leveled.
//! - *Journal.* By default each commit hands the journal to the system, as [`Durability::System`] asks; `SyncData` is `Synced`. Its limit on journals (512 MiB) is
//!   raised where a workload asks for a write buffer of its own.
//! - *Prefix deletes.* There are none: the keys are read and deleted in a batch.
//! - *Bulk loading.* `start_ingestion`, which wants sorted input: the sorting is part of what is measured.

use fjall::config::{BlockSizePolicy, BloomConstructionPolicy, FilterPolicy, FilterPolicyEntry};
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use crate::engines::sorted;
use crate::error::Result;
use crate::store::{Configuration, Direction, Durability, Entries, Operation, Reader, Scan, Store, Visit};

const BLOCK_BYTES: u32 = 4 << 10;

pub(crate) struct Fjall {
    db: Database,
    map: Keyspace,
}

impl Fjall {
    pub(crate) fn open(configuration: &Configuration) -> Result<Self> {
        let memtable_bytes = configuration.write_buffer();
        let cache_bytes = configuration.memory_bytes.saturating_sub(2 * memtable_bytes).max(1 << 20);
        let mut builder = Database::builder(&configuration.path).cache_size(cache_bytes);
        if configuration.write_buffer_bytes.is_some() {
            builder = builder.max_journaling_size((4 * memtable_bytes).max(512 << 20));
        }
        let db = builder.open()?;
        let options = || {
            let options = KeyspaceCreateOptions::default()
                .max_memtable_size(memtable_bytes)
                .data_block_size_policy(BlockSizePolicy::all(BLOCK_BYTES));
            if configuration.fixed.is_none() {
                return options;
            }
            let bits = BloomConstructionPolicy::BitsPerKey(f32::from(configuration.filter_bits_per_key()));
            options.filter_policy(FilterPolicy::all(FilterPolicyEntry::Bloom(bits)))
        };
        let map = db.keyspace("bench", options)?;
        Ok(Self { db, map })
    }
}

fn persist(durability: Durability) -> PersistMode {
    match durability {
        Durability::System => PersistMode::Buffer,
        Durability::Synced => PersistMode::SyncData,
    }
}

impl Store for Fjall {
    fn write(&self, operations: &[Operation<'_>], durability: Durability) -> Result<()> {
        // A single write is not made to go through a batch, which is the slower way.
        match (operations, durability) {
            ([Operation::Put(key, value)], Durability::System) => self.map.insert(*key, *value)?,
            ([Operation::Delete(key)], Durability::System) => self.map.remove(*key)?,
            _ => {
                let mut batch = self.db.batch().durability(Some(persist(durability)));
                for operation in operations {
                    match operation {
                        Operation::Put(key, value) => batch.insert(&self.map, *key, *value),
                        Operation::Delete(key) => batch.remove(&self.map, *key),
                    }
                }
                batch.commit()?;
            }
        }
        Ok(())
    }

    fn delete_prefix(&self, prefix: &[u8]) -> Result<()> {
        let mut batch = self.db.batch();
        for entry in self.map.prefix(prefix) {
            batch.remove(&self.map, entry.key()?);
        }
        Ok(batch.commit()?)
    }

    fn bulk_load(&mut self, entries: &mut Entries<'_>) -> Result<()> {
        let mut ingestion = self.map.start_ingestion()?;
        for (key, value) in sorted(entries) {
            ingestion.write(&*key, &*value)?;
        }
        Ok(ingestion.finish()?)
    }

    fn load_sorted(&mut self, entries: &mut Entries<'_>) -> Result<()> {
        let (mut key, mut value) = (Vec::new(), Vec::new());
        let mut ingestion = self.map.start_ingestion()?;
        while entries(&mut key, &mut value) {
            ingestion.write(key.as_slice(), value.as_slice())?;
        }
        Ok(ingestion.finish()?)
    }

    fn reader(&self) -> Result<Box<dyn Reader + '_>> {
        Ok(Box::new(MapReader { map: &self.map }))
    }

    fn flush(&self) -> Result<()> {
        Ok(self.map.rotate_memtable_and_wait()?)
    }

    fn compact(&mut self) -> Result<()> {
        self.flush()?;
        Ok(self.map.major_compact()?)
    }

    fn sync(&self) -> Result<()> {
        Ok(self.db.persist(PersistMode::SyncData)?)
    }

    fn close(self: Box<Self>) -> Result<()> {
        // What is dropped is closed; its journal is synced before, so that nothing rests on how that ends.
        self.db.persist(PersistMode::SyncAll)?;
        Ok(())
    }
}

struct MapReader<'s> {
    map: &'s Keyspace,
}

impl Reader for MapReader<'_> {
    fn get(&mut self, key: &[u8], read: &mut dyn FnMut(&[u8])) -> Result<bool> {
        Ok(match self.map.get(key)? {
            Some(value) => {
                read(&value);
                true
            }
            None => false,
        })
    }

    fn contains(&mut self, key: &[u8]) -> Result<bool> {
        Ok(self.map.contains_key(key)?)
    }

    fn scan(&mut self, scan: Scan<'_>, visit: &mut Visit<'_>) -> Result<u64> {
        let mut entries = match scan.prefix {
            Some(prefix) => self.map.prefix(prefix),
            None => self.map.range::<&[u8], _>(scan.bounds().as_range()),
        };
        let mut count = 0;
        while count < scan.limit {
            let entry = match scan.direction {
                Direction::Forward => entries.next(),
                Direction::Backward => entries.next_back(),
            };
            let Some(entry) = entry else { break };
            let (key, value) = entry.into_inner()?;
            visit(&key, &value);
            count += 1;
        }
        Ok(count)
    }
}
