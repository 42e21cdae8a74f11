//! This repository's engine.
//!
//! It takes one number, the memory budget, and derives the rest from it; nothing else is set but where a workload asks for a certain write buffer.
//! Its compression is LZ4, which is its default, as it is fjall's and RocksDB's here. Bulk loading is `Keyspace::bulk`, which sorts within the memory budget;
//! of sorted input `Keyspace::ingest`.

use crate::convert::to_usize;
use crate::error::{Context as _, Result};
use crate::store::{
    Configuration, Counts, Direction, Durability, Entries, Operation, Reader, Scan, Store, Visit,
};

pub(crate) struct Lsm {
    db: lsm::Db,
    map: lsm::Keyspace,
}

impl Lsm {
    pub(crate) fn open(configuration: &Configuration) -> Result<Self> {
        let memory_bytes = to_usize(configuration.memory_bytes);
        let mut builder = lsm::Db::builder(&configuration.path).memory_bytes(memory_bytes);
        if let Some(bytes) = configuration.write_buffer_bytes {
            let mut tuning = lsm::Tuning::for_memory(memory_bytes);
            tuning.write_buffer_bytes = to_usize(bytes);
            builder = builder.tuning(tuning);
        }
        let db = builder.open().context(|| "opening lsm".to_owned())?;
        let options = match configuration.fixed {
            Some(widths) => lsm::KeyspaceOptions::fixed(widths.key, widths.value)?,
            None => lsm::KeyspaceOptions::sorted(),
        };
        let map = db.keyspace("bench", options)?;
        Ok(Self { db, map })
    }
}

fn durability(durability: Durability) -> lsm::Durability {
    match durability {
        Durability::System => lsm::Durability::System,
        Durability::Synced => lsm::Durability::Synced,
    }
}

impl Store for Lsm {
    fn write(&self, operations: &[Operation<'_>], asked: Durability) -> Result<()> {
        // As with the others: a single write is not made to go through a batch.
        match (operations, asked) {
            ([Operation::Put(key, value)], Durability::System) => {
                self.map.put(key, value)?;
            }
            ([Operation::Delete(key)], Durability::System) => {
                self.map.delete(key)?;
            }
            _ => {
                let mut batch = lsm::Batch::new();
                for operation in operations {
                    match operation {
                        Operation::Put(key, value) => batch.put(&self.map, key, value),
                        Operation::Delete(key) => batch.delete(&self.map, key),
                    }
                }
                self.db.commit(batch, durability(asked))?;
            }
        }
        Ok(())
    }

    fn delete_prefix(&self, prefix: &[u8]) -> Result<()> {
        self.map.delete_prefix(prefix)?;
        Ok(())
    }

    fn bulk_load(&mut self, entries: &mut Entries<'_>) -> Result<()> {
        let (mut key, mut value) = (Vec::new(), Vec::new());
        let mut bulk = self.map.bulk()?;
        while entries(&mut key, &mut value) {
            bulk.put(&key, &value)?;
        }
        bulk.finish()?;
        Ok(())
    }

    fn load_sorted(&mut self, entries: &mut Entries<'_>) -> Result<()> {
        let (mut key, mut value) = (Vec::new(), Vec::new());
        let mut ingest = self.map.ingest()?;
        while entries(&mut key, &mut value) {
            ingest.put(&key, &value)?;
        }
        ingest.finish()?;
        Ok(())
    }

    fn reader(&self) -> Result<Box<dyn Reader + '_>> {
        Ok(Box::new(MapReader { map: &self.map }))
    }

    fn flush(&self) -> Result<()> {
        Ok(self.db.flush()?)
    }

    fn compact(&mut self) -> Result<()> {
        Ok(self.db.compact()?)
    }

    fn sync(&self) -> Result<()> {
        Ok(self.db.sync()?)
    }

    fn counts(&self) -> Option<Counts> {
        let stats = self.db.stats();
        Some(Counts {
            written_bytes: stats.batch_bytes + stats.flushed_bytes + stats.compaction_written_bytes,
            stalls: stats.stalls,
        })
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(self.db.close()?)
    }
}

struct MapReader<'s> {
    map: &'s lsm::Keyspace,
}

impl Reader for MapReader<'_> {
    fn get(&mut self, key: &[u8], read: &mut dyn FnMut(&[u8])) -> Result<bool> {
        Ok(self.map.get_with(key, |value| read(value))?.is_some())
    }

    fn contains(&mut self, key: &[u8]) -> Result<bool> {
        Ok(self.map.contains(key)?)
    }

    fn multi_get(&mut self, keys: &[&[u8]], read: &mut dyn FnMut(usize, &[u8])) -> Result<()> {
        self.map.multi_get_with(keys, |place, value| {
            if let Some(value) = value {
                read(place, value);
            }
        })?;
        Ok(())
    }

    fn multi_contains(&mut self, keys: &[&[u8]], found: &mut Vec<bool>) -> Result<()> {
        *found = self.map.multi_contains(keys)?;
        Ok(())
    }

    fn scan(&mut self, scan: Scan<'_>, visit: &mut Visit<'_>) -> Result<u64> {
        let bounds = scan.bounds();
        let mut entries = self.map.range::<&[u8]>(bounds.as_range());
        let mut count = 0;
        while count < scan.limit {
            let entry = match scan.direction {
                Direction::Forward => entries.step(),
                Direction::Backward => entries.step_back(),
            };
            let Some((key, value)) = entry? else { break };
            visit(key, value);
            count += 1;
        }
        Ok(count)
    }
}
