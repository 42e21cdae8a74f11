//! redb 4: a copy-on-write B-tree in Rust, its cache in the process.
//!
//! - *Memory.* The whole budget is its cache.
//! - *Durability.* `Immediate` is [`Durability::Synced`]. There is nothing like [`Durability::System`]: `None` keeps a commit in the process until a later one is
//!   immediate. It is what comes nearest, and weaker than what the others do there: read its unsynced writes with that in mind. As its documentation asks,
//!   an immediate commit follows from time to time (after 10,000 commits, or 64 MiB of writes, the others' write buffer), without which no page is ever freed.
//! - *Reading.* A thread keeps its read transaction and table until it must see newer writes.
//! - *Filters, compression, journal.* None.
//! - *Prefix deletes.* `retain_in`, over the prefix's range.
//! - *Bulk loading.* One transaction with sorted inserts: the sorting is part of what is measured.

use std::sync::atomic::{AtomicU64, Ordering};

use redb::{Database, ReadOnlyTable, ReadableDatabase, TableDefinition};

use crate::convert::to_usize;
use crate::engines::sorted;
use crate::error::Result;
use crate::store::{Configuration, Direction, Durability, Entries, Operation, Reader, Scan, Store, Visit};

const TABLE: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("bench");

/// Bytes of unsynced writes after which one is, and commits: each keeps the pages that it replaced.
const UNSYNCED_BYTES_MAX: u64 = 64 << 20;
const UNSYNCED_COMMITS_MAX: u64 = 10_000;

type Map = ReadOnlyTable<&'static [u8], &'static [u8]>;

pub(crate) struct Redb {
    db: Database,
    /// Bytes written since the last immediate commit.
    unsynced_bytes: AtomicU64,
    /// And commits since.
    unsynced_commits: AtomicU64,
}

impl Redb {
    pub(crate) fn open(configuration: &Configuration) -> Result<Self> {
        let db = Database::builder()
            .set_cache_size(to_usize(configuration.memory_bytes))
            .create(configuration.path.join("bench.redb"))?;
        let store = Self { db, unsynced_bytes: AtomicU64::new(0), unsynced_commits: AtomicU64::new(0) };
        store.sync()?;
        Ok(store)
    }

    fn open_map(&self) -> Result<Map> {
        Ok(self.db.begin_read()?.open_table(TABLE)?)
    }

    fn commit(&self, operations: &[Operation<'_>], durability: redb::Durability) -> Result<()> {
        let mut transaction = self.db.begin_write()?;
        transaction.set_durability(durability)?;
        {
            let mut table = transaction.open_table(TABLE)?;
            for operation in operations {
                match operation {
                    Operation::Put(key, value) => {
                        table.insert(*key, *value)?;
                    }
                    Operation::Delete(key) => {
                        table.remove(*key)?;
                    }
                }
            }
        }
        Ok(transaction.commit()?)
    }
}

impl Store for Redb {
    fn write(&self, operations: &[Operation<'_>], durability: Durability) -> Result<()> {
        let bytes: usize = operations
            .iter()
            .map(|operation| match operation {
                Operation::Put(key, value) => key.len() + value.len(),
                Operation::Delete(key) => key.len(),
            })
            .sum();
        let unsynced = self.unsynced_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        let commits = self.unsynced_commits.fetch_add(1, Ordering::Relaxed);
        let immediate = durability == Durability::Synced
            || unsynced >= UNSYNCED_BYTES_MAX
            || commits >= UNSYNCED_COMMITS_MAX;
        if immediate {
            self.unsynced_bytes.store(0, Ordering::Relaxed);
            self.unsynced_commits.store(0, Ordering::Relaxed);
            self.commit(operations, redb::Durability::Immediate)
        } else {
            self.commit(operations, redb::Durability::None)
        }
    }

    fn delete_prefix(&self, prefix: &[u8]) -> Result<()> {
        let mut transaction = self.db.begin_write()?;
        transaction.set_durability(redb::Durability::None)?;
        {
            let scan = Scan::prefix(prefix, u64::MAX);
            let mut table = transaction.open_table(TABLE)?;
            table.retain_in::<&[u8], _>(scan.bounds().as_range(), |_, _| false)?;
        }
        Ok(transaction.commit()?)
    }

    fn bulk_load(&mut self, entries: &mut Entries<'_>) -> Result<()> {
        let transaction = self.db.begin_write()?;
        {
            let mut table = transaction.open_table(TABLE)?;
            for (key, value) in sorted(entries) {
                table.insert(&*key, &*value)?;
            }
        }
        Ok(transaction.commit()?)
    }

    fn load_sorted(&mut self, entries: &mut Entries<'_>) -> Result<()> {
        let (mut key, mut value) = (Vec::new(), Vec::new());
        let transaction = self.db.begin_write()?;
        {
            let mut table = transaction.open_table(TABLE)?;
            while entries(&mut key, &mut value) {
                table.insert(key.as_slice(), value.as_slice())?;
            }
        }
        Ok(transaction.commit()?)
    }

    fn reader(&self) -> Result<Box<dyn Reader + '_>> {
        Ok(Box::new(MapReader { store: self, map: self.open_map()? }))
    }

    fn flush(&self) -> Result<()> {
        self.sync()
    }

    fn compact(&mut self) -> Result<()> {
        self.sync()?;
        self.db.compact()?;
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        self.commit(&[], redb::Durability::Immediate)
    }

    fn close(self: Box<Self>) -> Result<()> {
        self.sync()?;
        Ok(self.db.close()?)
    }
}

struct MapReader<'s> {
    store: &'s Redb,
    map: Map,
}

impl Reader for MapReader<'_> {
    fn refresh(&mut self) -> Result<()> {
        self.map = self.store.open_map()?;
        Ok(())
    }

    fn get(&mut self, key: &[u8], read: &mut dyn FnMut(&[u8])) -> Result<bool> {
        Ok(match self.map.get(key)? {
            Some(value) => {
                read(value.value());
                true
            }
            None => false,
        })
    }

    fn scan(&mut self, scan: Scan<'_>, visit: &mut Visit<'_>) -> Result<u64> {
        let bounds = scan.bounds();
        let mut entries = self.map.range::<&[u8]>(bounds.as_range())?;
        let mut count = 0;
        while count < scan.limit {
            let entry = match scan.direction {
                Direction::Forward => entries.next(),
                Direction::Backward => entries.next_back(),
            };
            let Some(entry) = entry else { break };
            let (key, value) = entry?;
            visit(key.value(), value.value());
            count += 1;
        }
        Ok(count)
    }
}
