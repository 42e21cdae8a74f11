//! Putting what was rebuilt in the place of what was there, so that a crash leaves one or the other.
//!
//! 1. Every file that is not kept as it is gets a second name in `lost/`; those names are durable. Nothing is moved yet: whoever finds the database now
//!    finds it as it was.
//! 2. Where the manifest is trusted, a fresh one says the same and gives out the numbers of the new tables: so that they are known for leftovers, and not
//!    for what the manifest has forgotten, if the power goes between here and 4.
//! 3. The new tables get their names in the directory, durably.
//! 4. The new manifest takes over, by a rename.
//! 5. The names that are now in `lost/` are removed from the directory. A crash before leaves files that nobody names.
//!
//! On a file system without second names, files are renamed into `lost/` in step 5 instead.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clock, SystemClock};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::filename::{FileName, FileNumber};
use crate::fs::{FileSystem, Lock, LockMode};
use crate::levels::{Change, Edit, Levels};
use crate::manifest::Manifest;
use crate::recover::free_name;
use crate::repair::sites;
use crate::repair::workshop::Workshop;

/// How often, and how long, readers that are opening are waited for.
const READERS_TRIES: u32 = 10_000;
const READERS_WAIT: Duration = Duration::from_millis(1);

/// A manifest is never as long as this when it is begun here, and nothing is appended to it.
const MANIFEST_BYTES_MAX: u64 = u64::MAX;

/// See the module. Returns where the files lie that were set aside.
///
/// # Errors
/// Those of writing; Locked, if readers are opening all the time: what was rebuilt is in force then.
pub(super) fn install(
    fs: &Arc<dyn FileSystem>,
    directory: &Path,
    trusted: Option<&Levels>,
    levels: &Levels,
    workshop: &Workshop,
    aside: &[FileName],
) -> Result<Vec<PathBuf>> {
    // One of the logs may not have been named before: what it holds, and its name, are durable before it is.
    let trusted_logs = trusted.into_iter().flat_map(|levels| levels.logs.keys());
    for number in trusted_logs.chain(levels.logs.keys()) {
        let path = FileName::Log(*number).path(directory);
        match fs.open_read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            opened => {
                opened.context("open", &path)?.sync_data(sites::LOGS).context("sync", &path)?;
            }
        }
    }
    fs.sync_dir(directory, sites::LOGS).context("sync the directory", directory)?;
    let lost = FileName::Lost.path(directory);
    let mut placed = Vec::new();
    let mut unlinked = Vec::new();
    for file in aside.iter().copied().chain([FileName::Manifest, FileName::ManifestNew]) {
        let from = file.path(directory);
        if !fs.exists(&from).context("look for", &from)? {
            continue;
        }
        let to = free_name(fs, &lost, file)?;
        match fs.hard_link(&from, &to) {
            Ok(()) => placed.push(to),
            Err(error) if has_no_links(&error) => {
                // The manifest is not needed any more; what it said is in the report.
                if aside.contains(&file) {
                    unlinked.push(file);
                }
            }
            Err(error) => return Err(Error::io("set aside", error).at(&from)),
        }
    }
    fs.sync_dir(&lost, sites::ASIDE).context("sync the directory", &lost)?;
    if let Some(before) = trusted {
        let ahead = before.apply(&Edit { changes: vec![Change::NextFile(levels.next_file)] })?;
        begin(fs, directory, ahead)?;
    }
    for (number, path) in workshop.made() {
        let to = FileName::Table(*number).path(directory);
        fs.rename(path, &to).context("give a table its name", &to)?;
    }
    fs.sync_dir(directory, sites::TABLES).context("sync the directory", directory)?;
    begin(fs, directory, levels.clone())?;
    let _alone = lock_readers(fs, directory)?;
    for file in aside.iter().filter(|file| !unlinked.contains(file)) {
        let path = file.path(directory);
        match fs.remove_file(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            removed => removed.context("remove the name of what was set aside", &path)?,
        }
    }
    for file in unlinked {
        let (from, to) = (file.path(directory), free_name(fs, &lost, file)?);
        fs.rename(&from, &to).context("set aside", &from)?;
        placed.push(to);
    }
    fs.sync_dir(&lost, sites::ASIDE).context("sync the directory", &lost)?;
    fs.sync_dir(directory, sites::ASIDE).context("sync the directory", directory)?;
    Ok(placed)
}

/// A manifest that says `levels`, in force.
fn begin(fs: &Arc<dyn FileSystem>, directory: &Path, levels: Levels) -> Result<()> {
    let next_file: FileNumber = levels.next_file;
    Manifest::new(Arc::clone(fs), directory, levels, next_file, MANIFEST_BYTES_MAX).create()
}

/// Whether the file system, and not the disk, refuses second names.
fn has_no_links(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{CrossesDevices, PermissionDenied, TooManyLinks, Unsupported};
    matches!(error.kind(), Unsupported | PermissionDenied | CrossesDevices | TooManyLinks)
}

/// Keeps readers from opening while names go that they may be about to open.
fn lock_readers(fs: &Arc<dyn FileSystem>, directory: &Path) -> Result<Box<dyn Lock>> {
    let path = FileName::Readers.path(directory);
    let clock = SystemClock::new();
    for _ in 0..READERS_TRIES {
        if let Some(lock) = fs.try_lock(&path, LockMode::Exclusive).context("lock out readers", &path)? {
            return Ok(lock);
        }
        clock.sleep(READERS_WAIT);
    }
    let what = "the database is repaired; readers that open all the time keep the old files from being taken out of the directory: \
                repair it again to do so";
    Err(Error::new(ErrorKind::Locked, what).at(&path))
}
