//! A new catalog in the place of one that is not believed any more: the old one is moved aside as a whole, whatever it holds.
//!
//! Nothing is deleted in the old one, since that would read its tables and merge them. What no segment tells, the targets' numbers and what each of them holds,
//! is taken over as far as it can be read; everything else comes from the targets again.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use lsm::{Batch, Db, Durability, Keyspace};
use rustix::fs::FlockOperation;
use rustix::io::Errno;

use crate::error::{CATALOG_IN_USE, Error, ErrorKind, Result};

use super::Catalog;
use super::applier::Limits;
use super::open::{CatalogOptions, ENGINE_DIR, claim};
use super::store::{Keyspaces, LAYOUT, meta, open_engine};

/// Where a catalog goes that is not believed any more; the one that was there before is removed.
const ASIDE_DIR: &str = "catalog.aside";
/// Locked by whoever opens the catalog for writing, as long as it opens.
const LOCK_FILE: &str = "catalog.lock";
/// Rows that are taken over at once.
const KEPT_BATCH: usize = 4096;
/// A target's number, in front of the key of what it holds.
const TARGET_BYTES: usize = size_of::<u32>();

/// The right to open the engine for writing, or to put another in its place: without it one process could move a directory away that another has just
/// opened.
pub(super) struct Opening {
    _lock: File,
}

impl Opening {
    /// Makes the folder of the local state, and sees to it that no other process opens there. Whoever opens may take its time, so nobody waits here for it.
    ///
    /// # Errors
    /// Locked, if another process opens there; local.
    pub(super) fn alone(dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir).map_err(|error| failed("create", dir, error))?;
        let path = dir.join(LOCK_FILE);
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(|error| failed("open", &path, error))?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { _lock: lock }),
            Err(Errno::WOULDBLOCK) => Err(Error::new(ErrorKind::Locked, CATALOG_IN_USE)),
            Err(errno) => Err(failed("lock", &path, errno.into())),
        }
    }
}

impl Catalog {
    /// Opens an empty catalog for writing; the one that was there, if any, is set aside. For one that is damaged, or not wanted any more.
    /// [`Catalog::catch_up`] or [`Catalog::rebuild`] fills it.
    ///
    /// # Errors
    /// Locked, if another process writes; local, if the disk fails.
    pub fn open_anew(options: &CatalogOptions) -> Result<Self> {
        let engine_dir = options.dir.join(ENGINE_DIR);
        let _alone = Opening::alone(&options.dir)?;
        if engine_dir.exists() {
            match open_engine(&engine_dir, options.memory_bytes, false) {
                // Whatever it has to say at its end: it is not needed any more.
                Ok(db) => {
                    let _ = db.close();
                }
                Err(error) if error.kind() == lsm::ErrorKind::Locked => return Err(error.into()),
                Err(_) => {}
            }
        }
        Self::make_anew(options, Limits::default(), &engine_dir)
    }

    /// The same, for one who has seen that nobody writes there and sees to it that nobody begins to.
    pub(super) fn make_anew(options: &CatalogOptions, limits: Limits, engine_dir: &Path) -> Result<Self> {
        let was_there = engine_dir.exists();
        let (db, spaces) = replace(options, engine_dir)?;
        if was_there {
            take_over(options, &db, &spaces)?;
        }
        Self::assemble_to_write(options, limits, db, spaces)
    }
}

/// Sets aside what is at `engine_dir` and makes an empty catalog there.
pub(super) fn replace(options: &CatalogOptions, engine_dir: &Path) -> Result<(Db, Keyspaces)> {
    let aside = options.dir.join(ASIDE_DIR);
    if engine_dir.exists() {
        if aside.exists() {
            fs::remove_dir_all(&aside).map_err(|error| failed("remove", &aside, error))?;
        }
        fs::rename(engine_dir, &aside).map_err(|error| failed("set aside", engine_dir, error))?;
    }
    let db = open_engine(engine_dir, options.memory_bytes, false)?;
    let spaces = Keyspaces::open(&db)?;
    claim(options, &db, &spaces)?;
    Ok((db, spaces))
}

/// Takes over what no segment tells from the catalog that was set aside: what of it can be read.
fn take_over(options: &CatalogOptions, db: &Db, spaces: &Keyspaces) -> Result<()> {
    let aside = options.dir.join(ASIDE_DIR);
    let Ok(old) = open_engine(&aside, options.memory_bytes, true) else { return Ok(()) };
    let Ok(before) = Keyspaces::open(&old) else { return Ok(()) };
    // A rebuild that did not end has not touched them.
    let is_ours = |key: &[u8], value: &[u8]| {
        before.meta.get(key).is_ok_and(|found| found.is_some_and(|found| found[..] == *value))
    };
    if !is_ours(meta::LAYOUT, &LAYOUT.to_le_bytes())
        || !is_ours(meta::REPOSITORY, options.repository.as_bytes())
    {
        return Ok(());
    }
    copy(&before.targets, db, &spaces.targets, |_| true)?;
    // The number of a target that cannot be read is given to another one.
    copy(&before.holdings, db, &spaces.holdings, |key| {
        key.get(..TARGET_BYTES).is_some_and(|number| spaces.targets.contains(number).is_ok_and(|known| known))
    })
}

/// Copies the rows that are wanted, up to the first that cannot be read.
fn copy(from: &Keyspace, db: &Db, to: &Keyspace, is_wanted: impl Fn(&[u8]) -> bool) -> Result<()> {
    let rows = from.iter().map_while(lsm::Result::ok);
    let mut rows = rows.filter(|(key, _)| is_wanted(key)).peekable();
    while rows.peek().is_some() {
        let mut batch = Batch::new();
        for (key, value) in rows.by_ref().take(KEPT_BATCH) {
            batch.put(to, &key[..], &value[..]);
        }
        db.commit(batch, Durability::System)?;
    }
    Ok(())
}

fn failed(doing: &str, path: &Path, error: io::Error) -> Error {
    Error::caused(ErrorKind::Local, format!("the local catalog: {doing} {}", path.display()), error)
}
