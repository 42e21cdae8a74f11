//! A file system that fails where a test wants it to, over any other.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::{Advice, File, FileSystem, Lock, LockMode, ReadRequest, SyncSite};

/// See the module.
#[derive(Clone, Debug)]
pub struct FaultFs {
    inner: Arc<dyn FileSystem>,
    skipped: Arc<Mutex<BTreeSet<SyncSite>>>,
}

impl FaultFs {
    /// A decorator that changes nothing yet.
    pub fn new(inner: Arc<dyn FileSystem>) -> Self {
        Self { inner, skipped: Arc::default() }
    }

    /// From now on the syncs of this site do nothing and return `Ok`.
    pub fn skip_syncs(&self, site: SyncSite) {
        self.skipped.lock().insert(site);
    }

    fn file(&self, inner: Arc<dyn File>) -> Arc<dyn File> {
        Arc::new(FaultFile { fs: self.clone(), inner })
    }
}

impl FileSystem for FaultFs {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.inner.create_dir(path)
    }

    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(self.file(self.inner.create_new(path)?))
    }

    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(self.file(self.inner.open_read(path)?))
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
        if self.skipped.lock().contains(&site) { Ok(()) } else { self.inner.sync_dir(path, site) }
    }

    fn try_lock(&self, path: &Path, mode: LockMode) -> io::Result<Option<Box<dyn Lock>>> {
        self.inner.try_lock(path, mode)
    }

    fn lock_holder(&self, path: &Path) -> Option<u32> {
        self.inner.lock_holder(path)
    }
}

#[derive(Debug)]
struct FaultFile {
    fs: FaultFs,
    inner: Arc<dyn File>,
}

impl File for FaultFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.inner.read_at(buffer, offset)
    }

    fn write_at(&self, buffer: &[u8], offset: u64) -> io::Result<usize> {
        self.inner.write_at(buffer, offset)
    }

    fn write_vectored_at(&self, buffers: &[io::IoSlice<'_>], offset: u64) -> io::Result<usize> {
        self.inner.write_vectored_at(buffers, offset)
    }

    fn zero_range(&self, offset: u64, length: u64) -> io::Result<()> {
        self.inner.zero_range(offset, length)
    }

    fn sync_data(&self, site: SyncSite) -> io::Result<()> {
        if self.fs.skipped.lock().contains(&site) { Ok(()) } else { self.inner.sync_data(site) }
    }

    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.inner.set_len(length)
    }

    fn advise(&self, advice: Advice, offset: u64, length: u64) {
        self.inner.advise(advice, offset, length);
    }

    fn read_many(&self, requests: &mut [ReadRequest<'_>]) -> io::Result<()> {
        self.inner.read_many(requests)
    }
}
