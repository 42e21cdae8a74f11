//! This machine's catalog, as a verb needs it: to write in, or only to look something up.
//!
//! Whoever writes holds it to the end; whoever reads only brings it up to date, lets go of it and reads on beside any writer. It is a copy of what the targets
//! hold, so it is never a reason to fail where something is only read: one that cannot be opened or brought up to date, because another process makes it
//! again or the disk is full or read-only, is passed over for a temporary one.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use chunkstore::catalog::{Access, Catalog, CatalogOptions};
use chunkstore::monitor::{Event, Monitor};
use chunkstore::repository::Repository;
use chunkstore::{Error, ErrorKind};

use crate::exit::Failure;
use crate::interrupt::Interrupt;
use crate::reporter::Reporter;
use crate::temporary::TemporaryFolder;

/// What the engine may use for its own: enough for a million entries to be walked and looked up without waiting for the disk.
const MEMORY_BYTES: usize = 64 << 20;

/// How often it is asked whether the other process is done.
const LOCK_INTERVAL: Duration = Duration::from_millis(200);

/// A catalog for reading.
#[derive(Debug)]
pub(crate) struct Readable {
    /// Itself.
    pub(crate) catalog: Catalog,
    /// Where it lies, if that is to go with it; dropped behind it.
    temporary: Option<TemporaryFolder>,
}

impl Readable {
    /// Whether what is written down lies where the next run finds it.
    pub(crate) fn is_temporary(&self) -> bool {
        self.temporary.is_some()
    }
}

/// Opens the catalog for the moments in which something is written down.
#[derive(Debug)]
pub(crate) struct ToWrite(CatalogOptions);

impl ToWrite {
    /// Opens it as it is.
    ///
    /// # Errors
    /// Locked, local.
    pub(crate) fn open(&self) -> chunkstore::Result<Catalog> {
        Catalog::open(&self.0)
    }
}

/// Opens catalogs, and remembers which was opened last, should that one turn out to be damaged.
#[derive(Debug, Default)]
pub(crate) struct Catalogs {
    last: RefCell<Option<CatalogOptions>>,
    /// Whether it is damaged and could not be set aside.
    is_distrusted: Cell<bool>,
}

impl Catalogs {
    /// Opens it to write in, up to date; waits as long as `patience` while another process has it.
    ///
    /// # Errors
    /// Locked, local; cancelled.
    pub(crate) fn to_write(
        &self,
        repository: &Repository,
        patience: Duration,
        interrupt: &Interrupt,
        reporter: &Reporter,
    ) -> Result<Catalog, Failure> {
        let options = self.options(repository)?;
        let catalog = waiting(patience, interrupt, reporter, || Catalog::open(&options))?;
        up_to_date(repository, &options, catalog, reporter)
    }

    /// Opens an empty one to write in, in the place of the one that is there.
    ///
    /// # Errors
    /// Locked, local.
    pub(crate) fn anew(
        &self,
        repository: &Repository,
        patience: Duration,
        interrupt: &Interrupt,
        reporter: &Reporter,
    ) -> Result<Catalog, Failure> {
        let options = self.options(repository)?;
        waiting(patience, interrupt, reporter, || Catalog::open_anew(&options))
    }

    /// Opens it to read: brought up to date if nobody else is at it, else as it is.
    ///
    /// # Errors
    /// Target, if it cannot be had from there either; local; cancelled.
    pub(crate) fn to_read(&self, repository: &Repository, reporter: &Reporter) -> Result<Readable, Failure> {
        let options = self.options(repository)?;
        if self.is_distrusted.get() {
            self.last.take();
            return temporary(repository, &options, reporter);
        }
        let why = match updated(repository, &options, reporter) {
            Ok(catalog) => return Ok(Readable { catalog, temporary: None }),
            Err(Failure::Library(error))
                if matches!(error.kind(), ErrorKind::Locked | ErrorKind::Local | ErrorKind::NotFound) =>
            {
                error
            }
            Err(other) => return Err(other),
        };
        let as_it_is = match Catalog::open(&to_read(&options)) {
            Ok(catalog) if is_good_enough(repository, &catalog, &why) => {
                return Ok(Readable { catalog, temporary: None });
            }
            Ok(catalog) => Some(catalog),
            Err(_) => None,
        };
        // What is damaged in a temporary one is not mended by setting the other one aside.
        self.last.take();
        reporter.event(Event::Note(&format!(
            "this machine's catalog cannot be brought up to date ({why}): a temporary one is made from the targets"
        )));
        match (temporary(repository, &options, reporter), as_it_is) {
            (Ok(readable), _) => Ok(readable),
            (Err(Failure::Library(error)), Some(catalog)) if error.kind() == ErrorKind::Local => {
                reporter.event(Event::Note(&format!(
                    "no temporary catalog can be made ({error}): what follows is what this machine knew before"
                )));
                Ok(Readable { catalog, temporary: None })
            }
            (Err(failure), _) => Err(failure),
        }
    }

    /// What opens it for moments.
    ///
    /// # Errors
    /// If the repository is open without its secrets.
    pub(crate) fn at_moments(&self, repository: &Repository) -> Result<ToWrite, Failure> {
        Ok(ToWrite(self.options(repository)?))
    }

    /// Sees to it that the next opening does without what is in the catalog that was opened last and turned out to be damaged. False if that was a temporary one.
    pub(crate) fn give_up(&self, error: &Error, reporter: &Reporter) -> bool {
        let Some(options) = self.last.take() else { return false };
        match Catalog::open_anew(&options).and_then(Catalog::close) {
            Ok(()) => tell_anew(error, reporter),
            Err(why) => {
                self.is_distrusted.set(true);
                reporter.event(Event::Note(&format!("{error}; it cannot be set aside ({why})")));
            }
        }
        true
    }

    fn options(&self, repository: &Repository) -> Result<CatalogOptions, Failure> {
        let config = repository.config();
        let options = CatalogOptions {
            dir: repository.state().path().to_owned(),
            repository: repository.id(),
            secrets: repository.secrets()?.clone(),
            cipher: config.mode.cipher(),
            epoch: config.epoch,
            access: Access::Write,
            memory_bytes: MEMORY_BYTES,
        };
        self.last.replace(Some(options.clone()));
        Ok(options)
    }
}

/// Says that what was there is done without.
fn tell_anew(error: &Error, reporter: &Reporter) {
    reporter.event(Event::Note(&format!("{error}; it is set aside and made again from the targets")));
}

/// Opens for writing as soon as no other process does, if that is soon.
fn waiting(
    patience: Duration,
    interrupt: &Interrupt,
    reporter: &Reporter,
    open: impl Fn() -> chunkstore::Result<Catalog>,
) -> Result<Catalog, Failure> {
    let begun = Instant::now();
    let mut has_told = false;
    loop {
        match open() {
            Err(error) if error.kind() == ErrorKind::Locked && begun.elapsed() < patience => {
                interrupt.check()?;
                if !has_told {
                    reporter.event(Event::Note(
                        "another process uses this machine's catalog of the repository: waiting for it",
                    ));
                    has_told = true;
                }
                std::thread::sleep(LOCK_INTERVAL);
            }
            opened => return Ok(opened?),
        }
    }
}

/// Brings a catalog up to date that is open for writing; in the place of one that is damaged comes a new one, once.
fn up_to_date(
    repository: &Repository,
    options: &CatalogOptions,
    catalog: Catalog,
    reporter: &Reporter,
) -> Result<Catalog, Failure> {
    if let Some(error) = catalog.set_aside() {
        tell_anew(error, reporter);
    }
    match catch_up(repository, &catalog, reporter) {
        Ok(()) => Ok(catalog),
        Err(Failure::Library(error)) if error.is_catalog_damage() => {
            // Whatever it has to say at its end: it is given up.
            let _ = catalog.close();
            let catalog = Catalog::open_anew(options)?;
            tell_anew(&error, reporter);
            catch_up(repository, &catalog, reporter)?;
            Ok(catalog)
        }
        Err(failure) => Err(failure),
    }
}

fn to_read(options: &CatalogOptions) -> CatalogOptions {
    CatalogOptions { access: Access::Read, ..options.clone() }
}

/// Brings the catalog up to date, lets go of it, and opens it to read.
fn updated(
    repository: &Repository,
    options: &CatalogOptions,
    reporter: &Reporter,
) -> Result<Catalog, Failure> {
    up_to_date(repository, options, Catalog::open(options)?, reporter)?.close()?;
    Ok(Catalog::open(&to_read(options))?)
}

/// Whether a catalog that could not be brought up to date can be read all the same: nothing is missing in it, or the other process that has it sees to
/// that, and does not make it from nothing just now.
fn is_good_enough(repository: &Repository, catalog: &Catalog, why: &Error) -> bool {
    let is_filled = || catalog.snapshots().is_ok_and(|snapshots| !snapshots.is_empty());
    if why.kind() == ErrorKind::Locked && is_filled() {
        return true;
    }
    // A target that fails now says so itself.
    let is_behind = |error: Error| matches!(error.kind(), ErrorKind::Local);
    repository.reachable().all(|(_, target)| !catalog.is_behind(&**target).unwrap_or_else(is_behind))
}

/// A catalog for this run alone.
fn temporary(
    repository: &Repository,
    options: &CatalogOptions,
    reporter: &Reporter,
) -> Result<Readable, Failure> {
    let place = std::env::temp_dir();
    let failed = |error: std::io::Error| {
        Error::caused(ErrorKind::Local, format!("no room for a catalog in {}", place.display()), error)
    };
    let folder = TemporaryFolder::new_in(&place).map_err(failed)?;
    let options = CatalogOptions { dir: folder.path().to_owned(), ..options.clone() };
    let catalog = Catalog::open(&options)?;
    catch_up(repository, &catalog, reporter)?;
    Ok(Readable { catalog, temporary: Some(folder) })
}

/// Applies what other machines did, and everything where the catalog was lost. One target that answers is enough, but only all of them together
/// know what was written while one of them was away.
fn catch_up(repository: &Repository, catalog: &Catalog, reporter: &Reporter) -> Result<(), Failure> {
    let mut last = None;
    let mut answered = false;
    // A second time if it was made anew on the way, from one target: what only those before it have is missing again then.
    for _ in 0..2 {
        let mut rebuilt = false;
        let mut stuck = None;
        for (entry, target) in repository.reachable() {
            match catalog.catch_up(&**target, reporter) {
                Ok(done) => {
                    answered = true;
                    rebuilt |= done.rebuilt;
                    // One after it may have what is missing.
                    stuck = done.stuck.then_some(target);
                }
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::Target | ErrorKind::TargetFull | ErrorKind::NotFound
                    ) =>
                {
                    reporter.target_failed(entry, "open", &error);
                    last = Some(error);
                }
                Err(error) => return Err(error.into()),
            }
        }
        if let Some(target) = stuck {
            reporter.event(Event::Note(
                "a snapshot that was taken over by half cannot be finished, as the target that has it is away: the local catalog is made again from the others",
            ));
            catalog.rebuild(&**target, reporter)?;
            rebuilt = true;
        }
        if !rebuilt {
            break;
        }
    }
    match last {
        Some(error) if !answered && catalog.is_empty() => Err(error.into()),
        _ => Ok(()),
    }
}
