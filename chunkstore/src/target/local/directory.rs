//! The few calls to the file system that change a target, or make a change durable: what a crash leaves is decided here.
//!
//! Tests read the log of these calls ([`log`]), and so assert their order.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

/// Objects are for their owner only: an unencrypted repository holds everybody's files.
pub(super) const FILE_MODE: Mode = Mode::RUSR.union(Mode::WUSR);
const DIRECTORY_MODE: Mode = Mode::RWXU;

/// Opens a directory below another, without following a link.
pub(super) fn open(parent: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty())
}

/// Makes a directory; one that is there is fine.
pub(super) fn make(parent: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
    log(|| format!("make {}", name.to_string_lossy()));
    match rustix::fs::mkdirat(parent, name, DIRECTORY_MODE) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// Makes the names in a directory durable.
pub(super) fn sync(directory: BorrowedFd<'_>, what: &str) -> Result<(), Errno> {
    log(|| format!("sync {what}/"));
    rustix::fs::fsync(directory)
}

/// Makes the bytes of a file durable.
pub(super) fn sync_file(file: BorrowedFd<'_>, what: &str) -> Result<(), Errno> {
    log(|| format!("sync {what}"));
    rustix::fs::fsync(file)
}

/// Makes a new file that nobody else has.
pub(super) fn create_file(parent: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, FILE_MODE)
}

/// Writes `parts` one after the other.
pub(super) fn write(file: &OwnedFd, parts: &[&[u8]]) -> std::io::Result<()> {
    log(|| "write".to_owned());
    let mut file = File::from(file.try_clone()?);
    parts.iter().try_for_each(|part| file.write_all(part))
}

/// Renames, over whatever has the new name.
pub(super) fn rename(from: BorrowedFd<'_>, name: &CStr, to: BorrowedFd<'_>, new: &CStr) -> Result<(), Errno> {
    log(|| format!("rename to {}", new.to_string_lossy()));
    rustix::fs::renameat(from, name, to, new)
}

/// Renames unless the new name is taken. Where the file system knows no such rename, a hard link does the same in two steps.
pub(super) fn rename_new(
    from: BorrowedFd<'_>,
    name: &CStr,
    to: BorrowedFd<'_>,
    new: &CStr,
) -> Result<(), Errno> {
    log(|| format!("rename to new {}", new.to_string_lossy()));
    match rustix::fs::renameat_with(from, name, to, new, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            rustix::fs::linkat(from, name, to, new, AtFlags::empty())?;
            rustix::fs::unlinkat(from, name, AtFlags::empty())
        }
        other => other,
    }
}

/// Removes a file.
pub(super) fn remove(parent: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
    log(|| format!("remove {}", name.to_string_lossy()));
    rustix::fs::unlinkat(parent, name, AtFlags::empty())
}

/// Makes the directory at `path` and those above it, each synced into its parent.
pub(super) fn make_all(path: &Path) -> std::io::Result<()> {
    let path = std::path::absolute(path)?;
    let missing: Vec<PathBuf> =
        path.ancestors().take_while(|ancestor| !ancestor.is_dir()).map(Path::to_owned).collect();
    for directory in missing.iter().rev() {
        match rustix::fs::mkdir(directory, DIRECTORY_MODE) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
        if let Some(parent) = directory.parent() {
            File::open(parent)?.sync_all()?;
        }
    }
    Ok(())
}

/// The names in a directory.
pub(super) fn names(directory: BorrowedFd<'_>) -> Result<Vec<CString>, Errno> {
    Dir::read_from(directory)?.map(|entry| entry.map(|entry| entry.file_name().to_owned())).collect()
}

/// Removes files that crashed writers left. Nobody waits for it and nothing depends on it, so its errors are no errors.
pub(super) fn remove_stale(directory: &OwnedFd, age_max: Duration) {
    let Ok(entries) = Dir::read_from(directory) else { return };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    for entry in entries.flatten() {
        let Ok(stat) = rustix::fs::statat(directory, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW) else {
            continue;
        };
        let modified = Duration::from_secs(u64::try_from(stat.st_mtime).unwrap_or(u64::MAX));
        let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        if is_file && now.checked_sub(modified).is_some_and(|age| age > age_max) {
            let _ = remove(directory.as_fd(), entry.file_name());
        }
    }
}

#[cfg(not(test))]
fn log(_: impl FnOnce() -> String) {}

#[cfg(test)]
fn log(line: impl FnOnce() -> String) {
    tests::LOG.with_borrow_mut(|log| log.push(line()));
}

#[cfg(test)]
pub(super) mod tests {
    use std::cell::RefCell;

    thread_local! {
        /// The calls of this thread's test so far.
        pub(in crate::target::local) static LOG: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
    }
}
