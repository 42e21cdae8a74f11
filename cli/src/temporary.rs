//! Folders for temporary catalogs. One whose process was ended at once, and could not remove it, is removed by the next that makes one.
//!
//! A folder is locked as long as its process lives; where that cannot be done, none is ever found to be free.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use rustix::fs::{FlockOperation, Mode, OFlags};

/// How the folders' names begin.
const PREFIX: &str = "versions-catalog.";

/// A folder that is removed when it is dropped.
#[derive(Debug)]
pub(crate) struct TemporaryFolder {
    folder: tempfile::TempDir,
    /// Dropped behind it.
    _lock: File,
}

impl TemporaryFolder {
    /// Makes one in `place`, after those there are removed that nobody has any more.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn new_in(place: &Path) -> io::Result<Self> {
        remove_abandoned(place);
        loop {
            let folder = tempfile::Builder::new().prefix(PREFIX).tempdir_in(place)?;
            let lock = match open(folder.path()) {
                Ok(lock) => lock,
                // Another process removed it before it was locked.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            // One that cannot be locked is not found to be free by others either.
            let is_free = !is_locked_by_another(&lock);
            if is_free && folder.path().exists() {
                return Ok(Self { folder, _lock: lock });
            }
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// What cannot be removed stays: it is no reason to fail.
fn remove_abandoned(place: &Path) {
    let Ok(entries) = fs::read_dir(place) else { return };
    for entry in entries.flatten() {
        if !entry.file_name().as_encoded_bytes().starts_with(PREFIX.as_bytes()) {
            continue;
        }
        let path = entry.path();
        let Ok(folder) = open(&path) else { continue };
        let is_ours =
            rustix::fs::fstat(&folder).is_ok_and(|found| found.st_uid == rustix::process::geteuid().as_raw());
        if is_ours && rustix::fs::flock(&folder, FlockOperation::NonBlockingLockExclusive).is_ok() {
            let _ = fs::remove_dir_all(&path);
        }
    }
}

/// Opens a folder, and nothing else.
fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?.into())
}

fn is_locked_by_another(folder: &File) -> bool {
    rustix::fs::flock(folder, FlockOperation::NonBlockingLockExclusive) == Err(rustix::io::Errno::WOULDBLOCK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_has_any_more_is_removed() {
        let place = tempfile::tempdir().unwrap();
        let abandoned = place.path().join("versions-catalog.x");
        let others = ["something", "versions-catalog.file", "versions-catalog.link"]
            .map(|name| place.path().join(name));
        fs::create_dir_all(abandoned.join("catalog")).unwrap();
        fs::write(abandoned.join("catalog/1.table"), "x").unwrap();
        fs::create_dir(&others[0]).unwrap();
        fs::write(&others[1], "x").unwrap();
        std::os::unix::fs::symlink(&others[0], &others[2]).unwrap();
        let first = TemporaryFolder::new_in(place.path()).unwrap();
        assert!(!abandoned.exists());
        fs::write(first.path().join("x"), "x").unwrap();
        let second = TemporaryFolder::new_in(place.path()).unwrap();
        assert!(first.path().join("x").exists() && second.path().exists(), "somebody has them");
        assert!(others.iter().all(|path| path.exists()), "none of them is one");
        let path = first.path().to_owned();
        drop(first);
        assert!(!path.exists());
    }
}
