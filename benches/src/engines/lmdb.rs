//! LMDB (by heed): a copy-on-write B-tree in C over a mapped file.
//!
//! - *Memory.* The map is page cache: it grows as far as the machine allows, and no budget holds it. What the report says of memory counts the pages that
//!   are mapped now; compare it to the others' budget with that in mind.
//! - *Durability.* Synced commits with its defaults. For unsynced ones `WRITEMAP | MAPASYNC`, which its documentation prefers to `NOSYNC` where speed
//!   matters: they survive the process, as [`Durability::System`] asks; after a power loss the database may be corrupt, which the others are not.
//! - *Readahead* is left on: with the data in memory it does nothing; off is advised for more data than memory only.
//! - *Reading.* A thread keeps its read transaction until it must see newer writes.
//! - *Prefix deletes.* A cursor over the range (`delete_range`).
//! - *Bulk loading.* One transaction of sorted puts with `APPEND`: the sorting is part of what is measured.
//! - *Compaction.* A compacting copy takes the file's place, as `mdb_copy -c` is used.

use std::fs;
use std::path::{Path, PathBuf};

use heed::types::Bytes;
use heed::{
    CommitOrAbort, CompactionOption, Database, Env, EnvFlags, EnvOpenOptions, PutFlags, RoTxn, WithTls,
};

use crate::convert::to_usize;
use crate::engines::sorted;
use crate::error::{Context as _, Result, fault};
use crate::store::{Configuration, Direction, Durability, Entries, Operation, Reader, Scan, Store, Visit};

type Map = Database<'static, Bytes, Bytes>;

/// Threads that may read at once.
const READERS_MAX: u32 = 126;

struct Opened {
    env: Env<WithTls>,
    map: Map,
}

pub(crate) struct Lmdb {
    /// `None` only while the file is replaced.
    opened: Option<Opened>,
    path: PathBuf,
    map_bytes: usize,
    durability: Durability,
}

impl Lmdb {
    pub(crate) fn open(configuration: &Configuration) -> Result<Self> {
        let page_bytes = 4096;
        let map_bytes = to_usize(configuration.size_bytes_max.next_multiple_of(page_bytes));
        let durability = configuration.durability;
        let path = configuration.path.clone();
        let opened = Some(open_at(&path, map_bytes, durability)?);
        Ok(Self { opened, path, map_bytes, durability })
    }

    fn opened(&self) -> Result<&Opened> {
        self.opened.as_ref().ok_or_else(|| "LMDB was not opened again after its file was replaced".into())
    }
}

fn open_at(path: &Path, map_bytes: usize, durability: Durability) -> Result<Opened> {
    let mut options = EnvOpenOptions::new();
    options.map_size(map_bytes).max_readers(READERS_MAX);
    #[expect(
        unsafe_code,
        reason = "heed calls it unsafe to write to the map and to open a map that another process may change: this process alone has the \
                  file, and no code here writes through references into the map"
    )]
    // SAFETY: the file lies in a folder that this run made; nobody else opens it meanwhile, and one process opens it once.
    let env = unsafe {
        if durability == Durability::System {
            options.flags(EnvFlags::WRITE_MAP | EnvFlags::MAP_ASYNC);
        }
        options.open(path)
    }
    .context(|| format!("opening LMDB in {}", path.display()))?;
    let map = env
        .create_databases_and_commit(env.write_txn()?, |opener, transaction| -> heed::Result<_> {
            opener.create_database::<Bytes, Bytes>(transaction, None).map(CommitOrAbort::<_, ()>::Commit)
        })?
        .unwrap_commit();
    Ok(Opened { env, map })
}

impl Store for Lmdb {
    fn write(&self, operations: &[Operation<'_>], durability: Durability) -> Result<()> {
        let Opened { env, map } = self.opened()?;
        let mut transaction = env.write_txn()?;
        for operation in operations {
            match operation {
                Operation::Put(key, value) => map.put(&mut transaction, key, value)?,
                Operation::Delete(key) => {
                    map.delete(&mut transaction, key)?;
                }
            }
        }
        transaction.commit()?;
        if durability == Durability::Synced && self.durability == Durability::System {
            env.force_sync()?;
        }
        Ok(())
    }

    fn delete_prefix(&self, prefix: &[u8]) -> Result<()> {
        let Opened { env, map } = self.opened()?;
        let mut transaction = env.write_txn()?;
        let scan = Scan::prefix(prefix, u64::MAX);
        map.delete_range(&mut transaction, &scan.bounds().as_range())?;
        Ok(transaction.commit()?)
    }

    fn bulk_load(&mut self, entries: &mut Entries<'_>) -> Result<()> {
        let Opened { env, map } = self.opened()?;
        let mut transaction = env.write_txn()?;
        for (key, value) in sorted(entries) {
            map.put_with_flags(&mut transaction, PutFlags::APPEND, &key, &value)?;
        }
        transaction.commit()?;
        Ok(env.force_sync()?)
    }

    fn load_sorted(&mut self, entries: &mut Entries<'_>) -> Result<()> {
        let Opened { env, map } = self.opened()?;
        let (mut key, mut value) = (Vec::new(), Vec::new());
        let mut transaction = env.write_txn()?;
        while entries(&mut key, &mut value) {
            map.put_with_flags(&mut transaction, PutFlags::APPEND, &key, &value)?;
        }
        transaction.commit()?;
        Ok(env.force_sync()?)
    }

    fn reader(&self) -> Result<Box<dyn Reader + '_>> {
        let Opened { env, map } = self.opened()?;
        Ok(Box::new(MapReader { env, map, transaction: Some(env.read_txn()?) }))
    }

    fn flush(&self) -> Result<()> {
        self.sync()
    }

    fn compact(&mut self) -> Result<()> {
        let Some(Opened { env, .. }) = self.opened.take() else {
            return fault("LMDB was not opened again after its file was replaced");
        };
        let copy = self.path.join("copy.mdb");
        drop(env.copy_to_path(&copy, CompactionOption::Enabled)?);
        env.prepare_for_closing().wait();
        fs::rename(&copy, self.path.join("data.mdb"))?;
        self.opened = Some(open_at(&self.path, self.map_bytes, self.durability)?);
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        Ok(self.opened()?.env.force_sync()?)
    }

    fn close(mut self: Box<Self>) -> Result<()> {
        self.sync()?;
        if let Some(Opened { env, .. }) = self.opened.take() {
            env.prepare_for_closing().wait();
        }
        Ok(())
    }
}

struct MapReader<'s> {
    env: &'s Env<WithTls>,
    map: &'s Map,
    /// `None` only while it is exchanged: a thread has one at a time.
    transaction: Option<RoTxn<'s, WithTls>>,
}

impl<'s> MapReader<'s> {
    fn transaction(&self) -> Result<&RoTxn<'s, WithTls>> {
        self.transaction.as_ref().ok_or_else(|| "LMDB gave no read transaction".into())
    }
}

impl Reader for MapReader<'_> {
    fn refresh(&mut self) -> Result<()> {
        self.transaction = None;
        self.transaction = Some(self.env.read_txn()?);
        Ok(())
    }

    fn get(&mut self, key: &[u8], read: &mut dyn FnMut(&[u8])) -> Result<bool> {
        Ok(match self.map.get(self.transaction()?, key)? {
            Some(value) => {
                read(value);
                true
            }
            None => false,
        })
    }

    fn scan(&mut self, scan: Scan<'_>, visit: &mut Visit<'_>) -> Result<u64> {
        let bounds = scan.bounds();
        let transaction = self.transaction()?;
        let limit = to_usize(scan.limit);
        let mut count = 0;
        let mut see = |entry: heed::Result<(&[u8], &[u8])>| -> Result<()> {
            let (key, value) = entry?;
            visit(key, value);
            count += 1;
            Ok(())
        };
        match scan.direction {
            Direction::Forward => {
                for entry in self.map.range(transaction, &bounds.as_range())?.take(limit) {
                    see(entry)?;
                }
            }
            Direction::Backward => {
                for entry in self.map.rev_range(transaction, &bounds.as_range())?.take(limit) {
                    see(entry)?;
                }
            }
        }
        Ok(count)
    }
}
