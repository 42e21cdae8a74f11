//! A file system on which nothing is unreadable: what a disk cannot read is zeros, and remembered.
//!
//! Zeros pass no checksum, so whoever reads them takes them for damage, and everything around them is still had. Only repair may look at files so: for
//! everybody else a read that fails is an error, and says nothing about the bytes.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::fs::{Advice, File, FileSystem, Lock, LockMode, SyncSite};
use crate::ordered::OrderedMap;
use crate::sync::Mutex;

/// What is tried at a time where a larger read failed: a page, which is what a system reads.
const PIECE_BYTES: usize = 4096;

/// How many bytes of each file could not be read.
type Unread = Arc<Mutex<OrderedMap<PathBuf, OrderedMap<u64, u64>>>>;

/// See the module. Writing is as it is below.
#[derive(Clone, Debug)]
pub(super) struct TolerantFs {
    inner: Arc<dyn FileSystem>,
    unread: Unread,
}

impl TolerantFs {
    pub(super) fn new(inner: Arc<dyn FileSystem>) -> Self {
        Self { inner, unread: Arc::default() }
    }

    /// Bytes of a file that could not be read so far; 0 where all could. `u64::MAX` where it cannot be opened.
    pub(super) fn unread_bytes(&self, path: &Path) -> u64 {
        let unread = self.unread.lock();
        unread
            .get(&path.to_owned())
            .map_or(0, |pieces| pieces.values().fold(0, |sum: u64, bytes| sum.saturating_add(*bytes)))
    }
}

/// Whether it is the disk that fails, and not the caller who may not, or a name that is not there.
fn is_of_the_disk(error: &io::Error) -> bool {
    !matches!(
        error.kind(),
        io::ErrorKind::NotFound
            | io::ErrorKind::PermissionDenied
            | io::ErrorKind::Interrupted
            | io::ErrorKind::IsADirectory
            | io::ErrorKind::OutOfMemory
    )
}

impl FileSystem for TolerantFs {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.inner.create_dir(path)
    }

    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.inner.create_new(path)
    }

    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let inner = match self.inner.open_read(path) {
            Err(error) if is_of_the_disk(&error) => {
                self.unread.lock().get_or_insert_with(path.to_owned(), OrderedMap::new).insert(0, u64::MAX);
                None
            }
            opened => Some(opened?),
        };
        Ok(Arc::new(TolerantFile { inner, path: path.to_owned(), unread: Arc::clone(&self.unread) }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.rename(from, to)
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.hard_link(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.inner.remove_file(path)
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        self.inner.read_dir(path)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.inner.exists(path)
    }

    fn sync_dir(&self, path: &Path, site: SyncSite) -> io::Result<()> {
        self.inner.sync_dir(path, site)
    }

    fn try_lock(&self, path: &Path, mode: LockMode) -> io::Result<Option<Box<dyn Lock>>> {
        self.inner.try_lock(path, mode)
    }

    fn lock_holder(&self, path: &Path) -> Option<u32> {
        self.inner.lock_holder(path)
    }
}

#[derive(Debug)]
struct TolerantFile {
    /// `None`: it cannot be opened, and counts as empty.
    inner: Option<Arc<dyn File>>,
    path: PathBuf,
    unread: Unread,
}

impl TolerantFile {
    /// Reads piece by piece, up to the end of the file.
    fn read_pieces(&self, file: &Arc<dyn File>, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let length = file.len()?;
        let mut done = 0;
        while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let at = offset + done as u64;
            let Some(left) = length.checked_sub(at).filter(|left| *left > 0) else { break };
            let to_boundary = PIECE_BYTES - usize::try_from(at % PIECE_BYTES as u64).unwrap_or(0);
            let count = rest.len().min(to_boundary).min(usize::try_from(left).unwrap_or(usize::MAX));
            let piece = rest.get_mut(..count).unwrap_or_default();
            if let Err(error) = file.read_exact_at(piece, at) {
                if !is_of_the_disk(&error) {
                    return Err(error);
                }
                piece.fill(0);
                self.unread
                    .lock()
                    .get_or_insert_with(self.path.clone(), OrderedMap::new)
                    .insert(at, count as u64);
            }
            done += count;
        }
        Ok(done)
    }
}

impl File for TolerantFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let Some(file) = &self.inner else { return Ok(0) };
        match file.read_at(buffer, offset) {
            Err(error) if is_of_the_disk(&error) => self.read_pieces(file, buffer, offset),
            read => read,
        }
    }

    fn write_at(&self, _buffer: &[u8], _offset: u64) -> io::Result<usize> {
        Err(read_only())
    }

    fn write_vectored_at(&self, _buffers: &[io::IoSlice<'_>], _offset: u64) -> io::Result<usize> {
        Err(read_only())
    }

    fn zero_range(&self, _offset: u64, _length: u64) -> io::Result<()> {
        Err(read_only())
    }

    fn sync_data(&self, site: SyncSite) -> io::Result<()> {
        self.inner.as_ref().map_or(Ok(()), |file| file.sync_data(site))
    }

    fn len(&self) -> io::Result<u64> {
        self.inner.as_ref().map_or(Ok(0), |file| file.len())
    }

    fn set_len(&self, _length: u64) -> io::Result<()> {
        Err(read_only())
    }

    fn advise(&self, advice: Advice, offset: u64, length: u64) {
        if let Some(file) = &self.inner {
            file.advise(advice, offset, length);
        }
    }
}

fn read_only() -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, "opened for reading")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::{Fault, FaultCall, FaultEffect, FaultFs, MemFs};

    #[test]
    fn what_cannot_be_read_is_zeros_and_remembered() {
        let mem = MemFs::new();
        let path = Path::new("/a");
        mem.create_new(path).unwrap().write_all_at(&[7; 3 * PIECE_BYTES + 5], 0).unwrap();
        let faulty = FaultFs::new(Arc::new(mem));
        let tolerant = TolerantFs::new(Arc::new(faulty.clone()));
        let file = tolerant.open_read(path).unwrap();
        let mut bytes = vec![1; 3 * PIECE_BYTES + 5];
        file.read_exact_at(&mut bytes, 0).unwrap();
        assert!(bytes.iter().all(|byte| *byte == 7));
        assert_eq!(tolerant.unread_bytes(path), 0);
        // The first read, and of its pieces the second.
        faulty.inject(Fault::once(FaultCall::Read, 1, FaultEffect::Error));
        faulty.inject(Fault::once(FaultCall::Read, 3, FaultEffect::Error));
        let mut bytes = vec![1; 3 * PIECE_BYTES];
        file.read_exact_at(&mut bytes, 5).unwrap();
        let zeros = bytes.iter().filter(|byte| **byte == 0).count();
        assert_eq!((zeros, tolerant.unread_bytes(path)), (PIECE_BYTES, PIECE_BYTES as u64));
        assert!(bytes.iter().all(|byte| [0, 7].contains(byte)));
    }

    #[test]
    fn what_cannot_be_opened_is_empty_and_what_is_not_there_is_an_error() {
        let mem = MemFs::new();
        let path = Path::new("/a");
        mem.create_new(path).unwrap().write_all_at(b"abc", 0).unwrap();
        let faulty = FaultFs::new(Arc::new(mem));
        let tolerant = TolerantFs::new(Arc::new(faulty.clone()));
        assert_eq!(tolerant.open_read(Path::new("/b")).unwrap_err().kind(), io::ErrorKind::NotFound);
        faulty.inject(Fault::sticky(FaultCall::Open, 1, FaultEffect::Error));
        assert_eq!(tolerant.open_read(path).unwrap().len().unwrap(), 0);
        assert_eq!(tolerant.unread_bytes(path), u64::MAX);
    }
}
