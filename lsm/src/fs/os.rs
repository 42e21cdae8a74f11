//! The real file system: positioned and vectored calls, data syncs, directory syncs, advice, locks.
//!
//! - Positioned I/O only: no cursor to race for, one descriptor serves every reader.
//! - `sync_data` is fdatasync(2): contents and length, not timestamps. A directory is synced through a descriptor of its own.
//! - Locks are flock(2): they belong to the open file description, so that a second opener conflicts even within one
//!   process, and the kernel drops them with the process, however it ends.

use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Advice, File, FileSystem, Lock, LockMode, SyncSite, calls};

/// How much one call of [`File::zero_range`] writes at a time: one page. What is written at once the kernel may keep as one piece of its cache; and when some
/// bytes of it are written later and synced, it counts all of the piece as written again, and some file systems do write all of it.
static ZEROS: [u8; 4 << 10] = [0; 4 << 10];

/// The file system of the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsFs;

impl FileSystem for OsFs {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        fs::create_dir(path)
    }

    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let file = fs::OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
        Ok(Arc::new(OsFile(file)))
    }

    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(OsFile(fs::File::open(path)?)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::hard_link(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        fs::read_dir(path)?.map(|entry| Ok(PathBuf::from(entry?.file_name()))).collect()
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        // Not `try_exists`, which follows links: a dangling link is a name, and `create_new` would refuse it.
        match fs::symlink_metadata(path) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn sync_dir(&self, path: &Path, _site: SyncSite) -> io::Result<()> {
        fs::File::open(or_current(path))?.sync_all()
    }

    fn try_lock(&self, path: &Path, mode: LockMode) -> io::Result<Option<Box<dyn Lock>>> {
        // An existing file is locked through a read-only descriptor, so that a reader without the right to write can
        // lock too; only a missing one is created.
        let file = match fs::File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?
            }
            opened => opened?,
        };
        let locked = match mode {
            LockMode::Shared => file.try_lock_shared(),
            LockMode::Exclusive => file.try_lock(),
        };
        match locked {
            Ok(()) => Ok(Some(Box::new(OsLock { _file: file }))),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(error)) => Err(error),
        }
    }

    fn lock_holder(&self, path: &Path) -> Option<u32> {
        use std::os::unix::fs::MetadataExt;
        // Linux lists `1: FLOCK  ADVISORY  WRITE 12345 fe:01:678 0 EOF`: process, then device and inode.
        let inode = fs::metadata(path).ok()?.ino();
        fs::read_to_string("/proc/locks").ok()?.lines().find_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let [_, "FLOCK", _, "WRITE", pid, file, ..] = fields.as_slice() else { return None };
            let is_it = file.rsplit(':').next()?.parse() == Ok(inode);
            is_it.then(|| pid.parse().ok()).flatten()
        })
    }
}

/// The empty path is the current directory, as the parent of a bare name.
fn or_current(path: &Path) -> &Path {
    if path.as_os_str().is_empty() { Path::new(".") } else { path }
}

/// Closing the descriptor releases the lock: nothing else holds a copy of it.
#[derive(Debug)]
struct OsLock {
    _file: fs::File,
}

impl Lock for OsLock {}

#[derive(Debug)]
struct OsFile(fs::File);

impl File for OsFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buffer, offset)
    }

    fn write_at(&self, buffer: &[u8], offset: u64) -> io::Result<usize> {
        self.0.write_at(buffer, offset)
    }

    fn write_vectored_at(&self, buffers: &[io::IoSlice<'_>], offset: u64) -> io::Result<usize> {
        calls::write_vectored_at(&self.0, buffers, offset)
    }

    fn zero_range(&self, mut offset: u64, mut length: u64) -> io::Result<()> {
        // Zeros are written, not allocated: over unwritten extents the first write of each block would change metadata,
        // and the next fdatasync would have to commit the file system's own journal, which zeroing ahead is to avoid.
        while length > 0 {
            let count = usize::try_from(length).map_or(ZEROS.len(), |length| length.min(ZEROS.len()));
            let (zeros, _) = ZEROS.split_at(count);
            self.write_all_at(zeros, offset)?;
            offset += count as u64;
            length -= count as u64;
        }
        Ok(())
    }

    fn sync_data(&self, _site: SyncSite) -> io::Result<()> {
        self.0.sync_data()
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.0.set_len(length)
    }

    fn advise(&self, advice: Advice, offset: u64, length: u64) {
        calls::advise(&self.0, advice, offset, length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SITE: SyncSite = SyncSite::new("test");

    #[test]
    fn a_lock_conflicts_within_the_process() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("LOCK");
        let exclusive = OsFs.try_lock(&path, LockMode::Exclusive).unwrap();
        assert!(exclusive.is_some());
        assert!(OsFs.try_lock(&path, LockMode::Exclusive).unwrap().is_none());
        assert!(OsFs.try_lock(&path, LockMode::Shared).unwrap().is_none());
        drop(exclusive);
        let shared = OsFs.try_lock(&path, LockMode::Shared).unwrap();
        assert!(shared.is_some());
        assert!(OsFs.try_lock(&path, LockMode::Shared).unwrap().is_some());
        assert!(OsFs.try_lock(&path, LockMode::Exclusive).unwrap().is_none());
    }

    #[test]
    fn more_buffers_than_the_system_takes_are_all_written() {
        let dir = tempfile::tempdir().unwrap();
        let file = OsFs.create_new(&dir.path().join("a")).unwrap();
        let bytes: Vec<u8> = (0u32..5000).map(|index| index.to_le_bytes()[0]).collect();
        let mut slices: Vec<_> = bytes.chunks(2).map(io::IoSlice::new).collect();
        assert!(slices.len() > calls::IO_SLICES_MAX);
        file.write_all_vectored_at(&mut slices, 3).unwrap();
        let mut back = vec![0; 5003];
        file.read_exact_at(&mut back, 0).unwrap();
        assert_eq!(back[..3], [0, 0, 0]);
        assert_eq!(back[3..], bytes);
        file.sync_data(SITE).unwrap();
        OsFs.sync_dir(dir.path(), SITE).unwrap();
    }

    #[test]
    fn a_vectored_write_that_fails_says_why() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        OsFs.create_new(&path).unwrap();
        let file = OsFs.open_read(&path).unwrap();
        let bytes = [io::IoSlice::new(b"a")];
        assert_eq!(file.write_vectored_at(&bytes, 0).unwrap_err().raw_os_error(), Some(libc::EBADF));
        assert_eq!(file.write_vectored_at(&bytes, u64::MAX).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn advice_changes_no_contents() {
        let dir = tempfile::tempdir().unwrap();
        let file = OsFs.create_new(&dir.path().join("a")).unwrap();
        file.write_all_at(b"abcdef", 0).unwrap();
        let all = [
            Advice::Sequential,
            Advice::Random,
            Advice::WriteBack,
            Advice::DontNeed,
            Advice::Reserve,
            Advice::Release,
        ];
        for advice in all {
            for (offset, length) in [(0, 6), (3, 0), (100, 1), (0, u64::MAX)] {
                file.advise(advice, offset, length);
            }
        }
        let mut back = [0; 6];
        file.read_exact_at(&mut back, 0).unwrap();
        assert_eq!(&back, b"abcdef");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn room_is_set_aside_behind_the_end_and_given_back() {
        use std::os::unix::fs::MetadataExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let file = OsFs.create_new(&path).unwrap();
        let on_disk = || {
            let metadata = fs::metadata(&path).unwrap();
            (metadata.len(), metadata.blocks() * 512)
        };
        file.write_all_at(b"abcdef", 0).unwrap();
        file.sync_data(SITE).unwrap();
        let before = on_disk();
        file.advise(Advice::Reserve, 0, 1 << 50);
        assert_eq!(on_disk(), before, "more than there is");
        file.advise(Advice::Reserve, 0, 1 << 20);
        let reserved = on_disk();
        assert_eq!(reserved.0, 6);
        // Some file systems cannot.
        assert!(reserved == before || reserved.1 >= 1 << 20, "{reserved:?}");
        file.write_all_at(b"ghi", 6).unwrap();
        file.sync_data(SITE).unwrap();
        file.advise(Advice::Release, 9, 0);
        let (length, bytes) = on_disk();
        assert_eq!(length, 9);
        assert!(bytes < 1 << 20, "{bytes}");
        let mut back = [0; 9];
        file.read_exact_at(&mut back, 0).unwrap();
        assert_eq!(&back, b"abcdefghi");
    }

    #[test]
    fn zeros_replace_what_was_there_and_extend_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = OsFs.create_new(&dir.path().join("a")).unwrap();
        file.write_all_at(b"abcdef", 0).unwrap();
        file.zero_range(2, 200_000).unwrap();
        assert_eq!(file.len().unwrap(), 200_002);
        let mut back = [1; 10];
        file.read_exact_at(&mut back, 0).unwrap();
        assert_eq!(&back, b"ab\0\0\0\0\0\0\0\0");
    }

    #[test]
    fn directories_are_made_with_their_parents_and_again() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("a/b/c");
        OsFs.create_dir_all(&deep, SITE).unwrap();
        OsFs.create_dir_all(&deep, SITE).unwrap();
        assert!(OsFs.exists(&deep).unwrap());
        OsFs.create_new(&deep.join("x")).unwrap();
        assert_eq!(OsFs.read_dir(&deep).unwrap(), [PathBuf::from("x")]);
        assert!(OsFs.create_dir_all(&deep.join("x"), SITE).is_err(), "a file is in the way");
    }
}
