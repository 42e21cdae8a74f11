//! A new catalog in the place of one that is not believed any more: the old one is moved aside as a whole, whatever it holds.
//!
//! Nothing is deleted in the old one, since that would read its tables and merge them. What no segment tells, the targets' numbers and what each of them holds,
//! is taken over as far as it can be read; everything else comes from the targets again.
//!
//! The new one is made beside the old one, and is whole and durable before that is moved: a crash leaves the old one, to be replaced again, or the new one, or for
//! a moment none, with the new one beside ([`finish_replacing`]).

use std::fs::{self, File};
use std::io;
use std::path::Path;

use lsm::{Batch, Db, Durability, Keyspace, RepairOptions, repair};
use rustix::fs::FlockOperation;
use rustix::io::Errno;

use crate::error::{CATALOG_IN_USE, Error, ErrorKind, Result};

use super::Catalog;
use super::applier::Limits;
use super::damage::is_damage;
use super::open::{CatalogOptions, ENGINE_DIR, claim};
use super::store::{HOLDINGS, Keyspaces, LAYOUTS_TAKEN_OVER, META, TARGETS, meta, open_engine, open_sorted};

/// Where a catalog goes that is not believed any more; the one that was there before is removed.
const ASIDE_DIR: &str = "catalog.aside";
/// Where one is made that is to take another's place.
const NEW_DIR: &str = "catalog.new";
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
        finish_replacing(options, &engine_dir)?;
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
        let (db, spaces) = replace(options, engine_dir, Kept::WhatNoSegmentTells)?;
        Self::assemble_to_write(options, limits, db, spaces)
    }
}

/// What comes into a new catalog from the one whose place it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kept {
    /// Its targets and holdings, if it is of this repository, and as far as they can be read.
    WhatNoSegmentTells,
    Nothing,
}

/// Sets aside what is at `engine_dir`, which nobody has open, and puts an empty catalog there.
pub(super) fn replace(options: &CatalogOptions, engine_dir: &Path, kept: Kept) -> Result<(Db, Keyspaces)> {
    let (new, aside) = (options.dir.join(NEW_DIR), options.dir.join(ASIDE_DIR));
    remove(&new)?;
    let db = open_engine(&new, options.memory_bytes, false)?;
    let spaces = Keyspaces::open(&db)?;
    if kept == Kept::WhatNoSegmentTells && engine_dir.exists() {
        take_over(options, engine_dir, &db, &spaces)?;
    }
    // Durable, and with it all that was written before.
    claim(options, &db, &spaces)?;
    drop(spaces);
    db.close()?;
    if engine_dir.exists() {
        remove(&aside)?;
        fs::rename(engine_dir, &aside).map_err(|error| failed("set aside", engine_dir, error))?;
    }
    put_in_place(options, &new, engine_dir)?;
    let db = open_engine(engine_dir, options.memory_bytes, false)?;
    let spaces = Keyspaces::open(&db)?;
    Ok((db, spaces))
}

/// Ends what a crash in [`replace`] left. For whoever opens alone.
pub(super) fn finish_replacing(options: &CatalogOptions, engine_dir: &Path) -> Result<()> {
    let new = options.dir.join(NEW_DIR);
    if engine_dir.exists() {
        // It may not be whole; if one is wanted still, it is made again.
        return remove(&new);
    }
    if new.exists() { put_in_place(options, &new, engine_dir) } else { Ok(()) }
}

fn put_in_place(options: &CatalogOptions, new: &Path, engine_dir: &Path) -> Result<()> {
    fs::rename(new, engine_dir).map_err(|error| failed("put in place", new, error))?;
    let synced = File::open(&options.dir).and_then(|dir| dir.sync_all());
    synced.map_err(|error| failed("sync", &options.dir, error))
}

fn remove(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", dir, error)),
        _ => Ok(()),
    }
}

/// Takes over what no segment tells from the catalog in `old_dir`: what of it can be read.
fn take_over(options: &CatalogOptions, old_dir: &Path, db: &Db, spaces: &Keyspaces) -> Result<()> {
    let old = match open_engine(old_dir, options.memory_bytes, true) {
        Err(error) if is_damage(&error) => mended(options, old_dir),
        opened => opened.ok(),
    };
    let Some(old) = old else { return Ok(()) };
    // A holding of yesterday may name as held what was found to be missing today.
    if old.recovery_report().is_lossy {
        return Ok(());
    }
    let Ok(meta) = open_sorted(&old, META) else { return Ok(()) };
    // A rebuild that did not end has not touched them.
    let says = |key: &[u8], is_right: &dyn Fn(&[u8]) -> bool| {
        meta.get(key).is_ok_and(|found| found.is_some_and(|found| is_right(&found)))
    };
    let is_ours = says(meta::REPOSITORY, &|id| id == options.repository.as_bytes())
        && says(meta::LAYOUT, &|layout| LAYOUTS_TAKEN_OVER.iter().any(|kept| layout == kept.to_le_bytes()));
    if !is_ours {
        return Ok(());
    }
    let (Ok(targets), Ok(holdings)) = (open_sorted(&old, TARGETS), open_sorted(&old, HOLDINGS)) else {
        return Ok(());
    };
    copy(&targets, db, &spaces.targets, |_| true)?;
    // The number of a target that cannot be read is given to another one.
    copy(&holdings, db, &spaces.holdings, |key| {
        key.get(..TARGET_BYTES).is_some_and(|number| spaces.targets.contains(number).is_ok_and(|known| known))
    })
}

/// The engine in `dir`, repaired where nothing is lost by that and nothing is left in doubt (an index, a filter, a header): only then is it known that no
/// row of yesterday is in it. Otherwise it is not touched, as what is repaired opens, and must not pass for whole.
fn mended(options: &CatalogOptions, dir: &Path) -> Option<Db> {
    let look = RepairOptions::new().dry_run(true);
    let found = repair(dir, &look).ok()?;
    if !found.is_lossless() || !found.doubts.is_empty() {
        return None;
    }
    repair(dir, &look.dry_run(false).verify(false)).ok()?;
    open_engine(dir, options.memory_bytes, true).ok()
}

/// Copies the rows that are wanted, up to the first that is damaged. Another error (too many open files, say) is one: nothing is replaced yet.
fn copy(from: &Keyspace, db: &Db, to: &Keyspace, is_wanted: impl Fn(&[u8]) -> bool) -> Result<()> {
    let mut end = None;
    let rows = from.iter().map_while(|row| row.map_err(|error| end = Some(error)).ok());
    let mut rows = rows.filter(|(key, _)| is_wanted(key)).peekable();
    while rows.peek().is_some() {
        let mut batch = Batch::new();
        for (key, value) in rows.by_ref().take(KEPT_BATCH) {
            batch.put(to, &key[..], &value[..]);
        }
        db.commit(batch, Durability::System)?;
    }
    drop(rows);
    match end {
        Some(error) if !is_damage(&error) => Err(error.into()),
        _ => Ok(()),
    }
}

fn failed(doing: &str, path: &Path, error: io::Error) -> Error {
    Error::caused(ErrorKind::Local, format!("the local catalog: {doing} {}", path.display()), error)
}
