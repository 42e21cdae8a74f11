//! Opening: what is there is checked before it is believed; what is not fit is set aside, never a reason to fail.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lsm::{Batch, Db, Durability};
use parking_lot::Mutex;

use crate::error::{Error, ErrorKind, Result};
use crate::id::{RepositoryId, WriterId};
use crate::seal::Cipher;
use crate::secret::{Epoch, Purpose, Secret, Secrets};
use crate::segment::{ListKey, Outbox, SegmentKeys, SegmentName, SegmentObject};

use super::anew::{Kept, Opening, finish_replacing, replace};
use super::applier::Limits;
use super::chunks::PackCache;
use super::digest::DigestKey;
use super::holdings::UsablePacks;
use super::store::{Keyspaces, LAYOUT, META, meta, open_engine, open_sorted};
use super::targets::TargetNumber;

/// Whether the catalog is opened for changing it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// One process at a time; what was left half done is finished.
    Write,
    /// Beside a writer.
    Read,
}

/// Where a catalog is and whose.
#[derive(Clone, Debug)]
pub struct CatalogOptions {
    /// The folder of this repository's local state: the engine goes to `catalog/` in it, the outbox to `outbox/`.
    pub dir: PathBuf,
    /// Which repository.
    pub repository: RepositoryId,
    /// Its secrets.
    pub secrets: Secrets,
    /// How new segments are sealed.
    pub cipher: Cipher,
    /// The epoch under whose secret new segments are sealed.
    pub epoch: Epoch,
    /// For reading or for writing.
    pub access: Access,
    /// The engine's memory budget in bytes, 32 MiB or more; more makes lookups and large backups faster. 64 MiB is plenty for a million entries.
    pub memory_bytes: usize,
}

/// An open catalog; clones share it.
#[derive(Clone)]
pub struct Catalog {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) db: Db,
    pub(super) spaces: Keyspaces,
    pub(super) options: CatalogOptions,
    pub(super) segment_keys: SegmentKeys,
    pub(super) list_key: ListKey,
    pub(super) derived: Secret,
    pub(super) digest_key: DigestKey,
    /// `None` when opened for reading.
    pub(super) outbox: Option<Outbox>,
    /// Held by whoever changes the catalog: numbers are given out and rows read before they are changed under it.
    pub(super) change: Mutex<()>,
    pub(super) usable: Mutex<Option<UsablePacks>>,
    /// The targets whose packs are usable; `None`: all.
    pub(super) counted: Mutex<Option<BTreeSet<TargetNumber>>>,
    pub(super) pack_cache: Mutex<PackCache>,
    pub(super) limits: Limits,
    set_aside: Option<Error>,
    /// Where a test lets the process die.
    #[cfg(test)]
    pub(super) crash_point: super::tests::CrashPoint,
}

impl fmt::Debug for Catalog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Catalog({}, {:?})", self.inner.options.dir.display(), self.inner.options.access)
    }
}

pub(super) const ENGINE_DIR: &str = "catalog";
const OUTBOX_DIR: &str = "outbox";

/// What an engine that opened holds.
enum Found {
    /// This catalog.
    Fit,
    /// Nothing: nobody has claimed it.
    Fresh,
    /// A catalog of another layout or another repository, or one that is half rebuilt.
    Other,
    /// One that lost something that had been acknowledged.
    Lossy,
}

impl Catalog {
    /// Opens the catalog.
    ///
    /// For writing: one that is missing, found damaged, of another layout or another repository, or only half rebuilt is set aside and an empty
    /// one takes its place ([`Catalog::is_empty`] says so, [`Catalog::catch_up`] fills it), which knows of this repository's targets what that one did; a run that
    /// was half applied is finished, if the outbox has it.
    ///
    /// # Errors
    /// Locked, if another process writes; not found, if it is to be read and is not there or not fit; local, if the disk fails.
    pub fn open(options: &CatalogOptions) -> Result<Self> {
        Self::open_with(options, Limits::default())
    }

    pub(super) fn open_with(options: &CatalogOptions, limits: Limits) -> Result<Self> {
        let engine_dir = options.dir.join(ENGINE_DIR);
        match options.access {
            Access::Read => Self::open_for_reading(options, limits, &engine_dir),
            Access::Write => Self::open_for_writing(options, limits, &engine_dir),
        }
    }

    fn open_for_reading(options: &CatalogOptions, limits: Limits, engine_dir: &Path) -> Result<Self> {
        let absent = || {
            Error::new(
                ErrorKind::NotFound,
                format!(
                    "{}: no catalog of this repository; `versions rebuild` makes it",
                    engine_dir.display()
                ),
            )
        };
        if !engine_dir.exists() {
            return Err(absent());
        }
        let db = open_engine(engine_dir, options.memory_bytes, true)?;
        match look(options, &db)? {
            Found::Fit => {
                let spaces = Keyspaces::open(&db)?;
                Ok(Self::assemble(options, limits, db, spaces, None))
            }
            Found::Fresh | Found::Other | Found::Lossy => Err(absent()),
        }
    }

    fn open_for_writing(options: &CatalogOptions, limits: Limits, engine_dir: &Path) -> Result<Self> {
        let _alone = Opening::alone(&options.dir)?;
        finish_replacing(options, engine_dir)?;
        match Self::open_fit(options, limits, engine_dir) {
            // What is damaged is not repaired: all of it is on the targets.
            Err(error) if error.is_catalog_damage() => {
                let mut catalog = Self::make_anew(options, limits, engine_dir)?;
                if let Some(inner) = Arc::get_mut(&mut catalog.inner) {
                    inner.set_aside = Some(error);
                }
                Ok(catalog)
            }
            other => other,
        }
    }

    fn open_fit(options: &CatalogOptions, limits: Limits, engine_dir: &Path) -> Result<Self> {
        let (db, spaces) = match open_engine(engine_dir, options.memory_bytes, false) {
            Ok(db) => match look(options, &db)? {
                Found::Fit => {
                    let spaces = Keyspaces::open(&db)?;
                    (db, spaces)
                }
                Found::Fresh => match Keyspaces::open(&db) {
                    Ok(spaces) => {
                        claim(options, &db, &spaces)?;
                        (db, spaces)
                    }
                    // One of another layout, which did not come so far as to say so.
                    Err(error) if error.kind() == lsm::ErrorKind::InvalidArgument => {
                        db.close()?;
                        replace(options, engine_dir, Kept::Nothing)?
                    }
                    Err(error) => return Err(error.into()),
                },
                Found::Other => {
                    db.close()?;
                    replace(options, engine_dir, Kept::WhatNoSegmentTells)?
                }
                // A holding of yesterday may name as held what was found to be missing today.
                Found::Lossy => {
                    db.close()?;
                    replace(options, engine_dir, Kept::Nothing)?
                }
            },
            Err(error) if error.kind() == lsm::ErrorKind::NewerFormat => {
                replace(options, engine_dir, Kept::Nothing)?
            }
            Err(error) => return Err(error.into()),
        };
        let catalog = Self::assemble_to_write(options, limits, db, spaces)?;
        catalog.finish_from_outbox()?;
        Ok(catalog)
    }

    pub(super) fn assemble_to_write(
        options: &CatalogOptions,
        limits: Limits,
        db: Db,
        spaces: Keyspaces,
    ) -> Result<Self> {
        let outbox = Outbox::open(options.dir.join(OUTBOX_DIR))?;
        Ok(Self::assemble(options, limits, db, spaces, Some(outbox)))
    }

    fn assemble(
        options: &CatalogOptions,
        limits: Limits,
        db: Db,
        spaces: Keyspaces,
        outbox: Option<Outbox>,
    ) -> Self {
        let secrets = &options.secrets;
        let inner = Inner {
            db,
            spaces,
            options: options.clone(),
            segment_keys: SegmentKeys::new(secrets),
            list_key: ListKey::new(secrets),
            derived: secrets.of_master(Purpose::DerivedId),
            digest_key: DigestKey::new(secrets),
            outbox,
            change: Mutex::new(()),
            usable: Mutex::new(None),
            counted: Mutex::new(None),
            pack_cache: Mutex::default(),
            limits,
            set_aside: None,
            #[cfg(test)]
            crash_point: super::tests::CrashPoint::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Whether nothing was ever applied: to be filled from a target before it is believed.
    pub fn is_empty(&self) -> bool {
        // A row that cannot be read is one all the same: whoever reads on gets the error.
        self.inner.spaces.writers.iter().next().is_none()
    }

    /// Why the catalog that was there was set aside at this opening, if it was damaged.
    pub fn set_aside(&self) -> Option<&Error> {
        self.inner.set_aside.as_ref()
    }

    /// One atomic change.
    pub(super) fn commit(&self, batch: Batch, durability: Durability) -> Result<()> {
        #[cfg(test)]
        self.inner.crash_point.hit()?;
        self.inner.db.commit(batch, durability)?;
        Ok(())
    }

    /// Closes it in order, for all who have it: the next opening has nothing to put right. Dropping does the same, and keeps the error to itself.
    ///
    /// # Errors
    /// Local.
    pub fn close(self) -> Result<()> {
        Ok(self.inner.db.clone().close()?)
    }

    /// Makes everything durable that was applied so far.
    ///
    /// # Errors
    /// Local.
    pub fn sync(&self) -> Result<()> {
        Ok(self.inner.db.sync()?)
    }

    pub(super) fn outbox_ref(&self) -> Result<&Outbox> {
        self.inner
            .outbox
            .as_ref()
            .ok_or_else(|| Error::new(ErrorKind::Local, "the catalog was opened for reading only"))
    }

    /// The writer whose log this machine continues; `None` before its first segment, and in a catalog opened for reading.
    ///
    /// # Errors
    /// Local.
    pub fn writer(&self) -> Result<Option<WriterId>> {
        match &self.inner.outbox {
            Some(outbox) => Ok(outbox.end()?.map(|end| end.writer)),
            None => Ok(None),
        }
    }

    /// The names of the segments that lie in the outbox, in the order of their log: they may be missing on some targets.
    ///
    /// # Errors
    /// Local.
    pub fn outbox_names(&self) -> Result<Vec<SegmentName>> {
        self.outbox_ref()?.segments()
    }

    /// The segments that lie in the outbox, in the order of their log. One that is damaged is left out: nobody may be given it.
    ///
    /// # Errors
    /// Local.
    pub fn outbox(&self) -> Result<Vec<SegmentObject>> {
        let mut segments = Vec::new();
        for name in self.outbox_names()? {
            segments.extend(self.outbox_segment(&name)?);
        }
        Ok(segments)
    }

    /// A segment that lies in the outbox; `None` if it is not there or damaged: nobody may be given it.
    ///
    /// # Errors
    /// Local.
    pub fn outbox_segment(&self, name: &SegmentName) -> Result<Option<SegmentObject>> {
        match self.outbox_ref()?.read(name) {
            Ok(segment) => Ok(Some(segment)),
            Err(error) if matches!(error.kind(), ErrorKind::Damage | ErrorKind::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// What it holds. `meta` says it before any other keyspace is opened, since they are others, and of other kinds, in other layouts.
fn look(options: &CatalogOptions, db: &Db) -> Result<Found> {
    // A torn tail is no loss: the runs in it are caught up. But rows that were synced, and are gone, nobody would miss.
    if db.recovery_report().is_lossy {
        return Ok(Found::Lossy);
    }
    let rows = match open_sorted(db, META) {
        Ok(rows) => rows,
        // A reader beside the one who makes it.
        Err(error) if error.kind() == lsm::ErrorKind::NotFound => return Ok(Found::Fresh),
        Err(error) => return Err(error.into()),
    };
    let (Some(layout), Some(repository)) = (rows.get(meta::LAYOUT)?, rows.get(meta::REPOSITORY)?) else {
        return Ok(Found::Fresh);
    };
    let fits = layout[..] == LAYOUT.to_le_bytes()
        && repository[..] == *options.repository.as_bytes()
        && rows.get(meta::REBUILDING)?.is_none();
    Ok(if fits { Found::Fit } else { Found::Other })
}

/// Writes down whose catalog this is.
pub(super) fn claim(options: &CatalogOptions, db: &Db, spaces: &Keyspaces) -> Result<()> {
    let mut batch = Batch::new();
    batch.put(&spaces.meta, meta::LAYOUT, LAYOUT.to_le_bytes());
    batch.put(&spaces.meta, meta::REPOSITORY, options.repository.as_bytes());
    db.commit(batch, Durability::Synced)?;
    Ok(())
}
