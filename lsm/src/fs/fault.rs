//! A file system that fails where a test wants it to, over any other.
//!
//! A [`Fault`] says which call fails (a kind of call, on paths that contain something, the n-th of them), how, and whether
//! all later ones do too. Independently, the syncs of one [`SyncSite`] can be left out: the negative control of
//! the crash tests.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::sync::Mutex;

use super::{Advice, File, FileSystem, Lock, LockMode, ReadRequest, SyncSite};

/// A kind of call that can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FaultCall {
    /// [`FileSystem::create_dir`].
    CreateDir,
    /// [`FileSystem::create_new`].
    Create,
    /// [`FileSystem::open_read`].
    Open,
    /// [`FileSystem::rename`].
    Rename,
    /// [`FileSystem::hard_link`].
    Link,
    /// [`FileSystem::remove_file`].
    Remove,
    /// [`FileSystem::read_dir`].
    List,
    /// [`FileSystem::sync_dir`].
    SyncDir,
    /// [`FileSystem::try_lock`].
    Lock,
    /// [`File::read_at`] and [`File::read_many`].
    Read,
    /// [`File::write_at`] and [`File::write_vectored_at`].
    Write,
    /// [`File::zero_range`].
    Zero,
    /// [`File::sync_data`].
    Sync,
    /// [`File::set_len`].
    SetLen,
}

impl FaultCall {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::CreateDir,
        Self::Create,
        Self::Open,
        Self::Rename,
        Self::Link,
        Self::Remove,
        Self::List,
        Self::SyncDir,
        Self::Lock,
        Self::Read,
        Self::Write,
        Self::Zero,
        Self::Sync,
        Self::SetLen,
    ];
}

/// How a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultEffect {
    /// An input/output error; a sync also takes its writes for clean.
    Error,
    /// The device is full; a sync also takes its writes for clean.
    NoSpace,
    /// The user may have no more of the device; otherwise the same.
    Quota,
    /// The call was interrupted and did nothing; a caller that may try again does.
    Interrupted,
    /// A read or a write moves at most this many bytes (at least one), and succeeds. Other calls are not changed.
    Short(usize),
    /// A write moves at most this many bytes, then fails; other calls fail.
    Torn(usize),
}

/// One wish.
#[derive(Clone, Debug)]
pub struct Fault {
    /// Which kind of call.
    pub call: FaultCall,
    /// Only calls on a path that contains this.
    pub path: Option<String>,
    /// The how-manieth matching call from now on fails; the next is 1.
    pub nth: u64,
    /// Whether the matching calls after it fail too.
    pub sticky: bool,
    /// How.
    pub effect: FaultEffect,
}

impl Fault {
    /// The n-th call of this kind, once.
    pub fn once(call: FaultCall, nth: u64, effect: FaultEffect) -> Self {
        Self { call, path: None, nth, sticky: false, effect }
    }

    /// The n-th call of this kind, and all behind it.
    pub fn sticky(call: FaultCall, nth: u64, effect: FaultEffect) -> Self {
        Self { call, path: None, nth, sticky: true, effect }
    }

    /// Only on paths that contain `part`.
    pub fn on(self, part: &str) -> Self {
        Self { path: Some(part.to_owned()), ..self }
    }
}

#[derive(Debug, Default)]
struct State {
    faults: Vec<Fault>,
    skipped: BTreeSet<SyncSite>,
    calls: HashMap<FaultCall, u64>,
    syncs: HashMap<SyncSite, u64>,
    fired: u64,
    written_bytes: u64,
}

/// See the module. A clone is the same file system.
#[derive(Clone, Debug)]
pub struct FaultFs {
    inner: Arc<dyn FileSystem>,
    state: Arc<Mutex<State>>,
}

impl FaultFs {
    /// A decorator that changes nothing yet.
    pub fn new(inner: Arc<dyn FileSystem>) -> Self {
        Self { inner, state: Arc::default() }
    }

    /// Adds a wish.
    pub fn inject(&self, fault: Fault) {
        self.state.lock().faults.push(fault);
    }

    /// Takes back all wishes for failures.
    pub fn clear(&self) {
        self.state.lock().faults.clear();
    }

    /// From now on the syncs of this site do nothing and return `Ok`.
    pub fn skip_syncs(&self, site: SyncSite) {
        self.state.lock().skipped.insert(site);
    }

    /// How many calls of a kind were made, failed ones included.
    pub fn calls(&self, call: FaultCall) -> u64 {
        self.state.lock().calls.get(&call).copied().unwrap_or(0)
    }

    /// How many syncs of a site were asked for, skipped ones included.
    pub fn syncs(&self, site: SyncSite) -> u64 {
        self.state.lock().syncs.get(&site).copied().unwrap_or(0)
    }

    /// How many calls were made to fail.
    pub fn fired(&self) -> u64 {
        self.state.lock().fired
    }

    /// How many bytes were written, to all files, by writes that succeeded.
    pub fn written_bytes(&self) -> u64 {
        self.state.lock().written_bytes
    }

    /// Counts the call; says whether it is to fail, and how.
    fn effect(&self, call: FaultCall, path: &Path) -> Option<FaultEffect> {
        let mut state = self.state.lock();
        *state.calls.entry(call).or_default() += 1;
        let path = path.to_string_lossy();
        let mut effect = None;
        for fault in &mut state.faults {
            let matches = fault.call == call && fault.path.as_ref().is_none_or(|part| path.contains(part));
            if !matches {
                continue;
            }
            match fault.nth {
                0 if fault.sticky => effect = effect.or(Some(fault.effect)),
                0 => {}
                1 => {
                    fault.nth = 0;
                    effect = effect.or(Some(fault.effect));
                }
                _ => fault.nth -= 1,
            }
        }
        state.fired += u64::from(effect.is_some());
        effect
    }

    /// For calls that fail whole or not at all.
    fn check(&self, call: FaultCall, path: &Path) -> io::Result<()> {
        match self.effect(call, path) {
            None | Some(FaultEffect::Short(_)) => Ok(()),
            Some(effect) => Err(error(effect)),
        }
    }

    /// Whether the sync is to be done.
    fn sync(&self, site: SyncSite) -> bool {
        let mut state = self.state.lock();
        *state.syncs.entry(site).or_default() += 1;
        !state.skipped.contains(&site)
    }

    fn file(&self, inner: Arc<dyn File>, path: &Path) -> Arc<dyn File> {
        Arc::new(FaultFile { fs: self.clone(), inner, path: path.to_owned() })
    }
}

fn error(effect: FaultEffect) -> io::Error {
    match effect {
        FaultEffect::NoSpace => {
            io::Error::new(io::ErrorKind::StorageFull, "injected: no space left on device")
        }
        FaultEffect::Quota => io::Error::new(io::ErrorKind::QuotaExceeded, "injected: quota exceeded"),
        FaultEffect::Interrupted => io::Error::new(io::ErrorKind::Interrupted, "injected: interrupted"),
        _ => io::Error::other("injected: input/output error"),
    }
}

impl FileSystem for FaultFs {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.check(FaultCall::CreateDir, path)?;
        self.inner.create_dir(path)
    }

    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.check(FaultCall::Create, path)?;
        Ok(self.file(self.inner.create_new(path)?, path))
    }

    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.check(FaultCall::Open, path)?;
        Ok(self.file(self.inner.open_read(path)?, path))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.check(FaultCall::Rename, to)?;
        self.inner.rename(from, to)
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.check(FaultCall::Link, to)?;
        self.inner.hard_link(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.check(FaultCall::Remove, path)?;
        self.inner.remove_file(path)
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        self.check(FaultCall::List, path)?;
        self.inner.read_dir(path)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.inner.exists(path)
    }

    fn sync_dir(&self, path: &Path, site: SyncSite) -> io::Result<()> {
        self.check(FaultCall::SyncDir, path)?;
        if self.sync(site) { self.inner.sync_dir(path, site) } else { Ok(()) }
    }

    fn try_lock(&self, path: &Path, mode: LockMode) -> io::Result<Option<Box<dyn Lock>>> {
        self.check(FaultCall::Lock, path)?;
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
    path: PathBuf,
}

impl FaultFile {
    fn write(&self, buffer: &[u8], offset: u64) -> io::Result<usize> {
        let part = |count: usize| buffer.get(..count).unwrap_or(buffer);
        let written = match self.fs.effect(FaultCall::Write, &self.path) {
            None => self.inner.write_at(buffer, offset)?,
            Some(FaultEffect::Short(count)) => self.inner.write_at(part(count.max(1)), offset)?,
            Some(FaultEffect::Torn(count)) => {
                self.inner.write_all_at(part(count), offset)?;
                return Err(error(FaultEffect::Error));
            }
            Some(effect) => return Err(error(effect)),
        };
        self.fs.state.lock().written_bytes += written as u64;
        Ok(written)
    }
}

impl File for FaultFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        match self.fs.effect(FaultCall::Read, &self.path) {
            None => self.inner.read_at(buffer, offset),
            Some(FaultEffect::Short(count)) => {
                let count = count.clamp(1, buffer.len().max(1)).min(buffer.len());
                let (buffer, _) = buffer.split_at_mut(count);
                self.inner.read_at(buffer, offset)
            }
            Some(effect) => Err(error(effect)),
        }
    }

    fn write_at(&self, buffer: &[u8], offset: u64) -> io::Result<usize> {
        self.write(buffer, offset)
    }

    fn write_vectored_at(&self, buffers: &[io::IoSlice<'_>], offset: u64) -> io::Result<usize> {
        let bytes: Vec<u8> = buffers.iter().flat_map(|buffer| buffer.iter().copied()).collect();
        self.write(&bytes, offset)
    }

    fn zero_range(&self, offset: u64, length: u64) -> io::Result<()> {
        self.fs.check(FaultCall::Zero, &self.path)?;
        self.inner.zero_range(offset, length)
    }

    fn sync_data(&self, site: SyncSite) -> io::Result<()> {
        match self.fs.effect(FaultCall::Sync, &self.path) {
            None | Some(FaultEffect::Short(_)) if self.fs.sync(site) => self.inner.sync_data(site),
            None | Some(FaultEffect::Short(_)) => Ok(()),
            Some(effect) => {
                if effect != FaultEffect::Interrupted {
                    self.inner.forget_unsynced();
                }
                Err(error(effect))
            }
        }
    }

    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.fs.check(FaultCall::SetLen, &self.path)?;
        self.inner.set_len(length)
    }

    fn advise(&self, advice: Advice, offset: u64, length: u64) {
        self.inner.advise(advice, offset, length);
    }

    fn read_many(&self, requests: &mut [ReadRequest<'_>]) -> io::Result<()> {
        self.fs.check(FaultCall::Read, &self.path)?;
        self.inner.read_many(requests)
    }

    fn forget_unsynced(&self) {
        self.inner.forget_unsynced();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::{CrashPolicy, MemFs};

    const SITE: SyncSite = SyncSite::new("test");

    fn setup() -> (MemFs, FaultFs, Arc<dyn File>) {
        let mem = MemFs::new();
        let faulty = FaultFs::new(Arc::new(mem.clone()));
        let file = faulty.create_new(Path::new("/a")).unwrap();
        faulty.sync_dir(Path::new("/"), SITE).unwrap();
        (mem, faulty, file)
    }

    #[test]
    fn the_nth_call_fails_once_or_for_ever() {
        let (_, faulty, file) = setup();
        faulty.inject(Fault::once(FaultCall::Write, 2, FaultEffect::NoSpace));
        assert!(file.write_at(b"x", 0).is_ok());
        assert_eq!(file.write_at(b"x", 1).unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert!(file.write_at(b"x", 1).is_ok());
        faulty.inject(Fault::sticky(FaultCall::Write, 1, FaultEffect::Error).on("b"));
        assert!(file.write_at(b"x", 2).is_ok(), "another file");
        let other = faulty.create_new(Path::new("/b")).unwrap();
        assert!(other.write_at(b"x", 0).is_err() && other.write_at(b"x", 0).is_err());
        assert_eq!(faulty.fired(), 3);
        faulty.clear();
        assert!(other.write_at(b"x", 0).is_ok());
        assert_eq!(faulty.calls(FaultCall::Write), 7);
    }

    #[test]
    fn short_and_interrupted_calls_are_gone_on_with() {
        let (_, faulty, file) = setup();
        faulty.inject(Fault::once(FaultCall::Write, 1, FaultEffect::Interrupted));
        faulty.inject(Fault::sticky(FaultCall::Write, 2, FaultEffect::Short(3)));
        faulty.inject(Fault::sticky(FaultCall::Read, 1, FaultEffect::Short(2)));
        file.write_all_at(b"abcdefgh", 0).unwrap();
        let mut back = [0; 8];
        file.read_exact_at(&mut back, 0).unwrap();
        assert_eq!(&back, b"abcdefgh");
    }

    #[test]
    fn a_torn_write_leaves_its_beginning() {
        let (_, faulty, file) = setup();
        faulty.inject(Fault::once(FaultCall::Write, 1, FaultEffect::Torn(3)));
        assert!(file.write_all_at(b"abcdefgh", 0).is_err());
        assert_eq!(file.len().unwrap(), 3);
    }

    #[test]
    fn a_failed_sync_loses_its_writes_and_the_next_one_says_ok() {
        let (mem, faulty, file) = setup();
        file.write_all_at(b"lost", 0).unwrap();
        faulty.inject(Fault::once(FaultCall::Sync, 1, FaultEffect::Error));
        assert!(file.sync_data(SITE).is_err());
        file.sync_data(SITE).unwrap();
        let mut back = [0; 4];
        file.read_exact_at(&mut back, 0).unwrap();
        assert_eq!(&back, b"lost", "the cache still has it");
        let after = mem.crash(CrashPolicy::SyncedOnly, 0).open_read(Path::new("/a")).unwrap();
        assert_eq!(after.len().unwrap(), 0);
        file.advise(Advice::DontNeed, 0, 0);
        assert_eq!(file.len().unwrap(), 0, "without the cache, what is on the disk");
    }

    #[test]
    fn a_site_is_left_out_alone() {
        let (mem, faulty, file) = setup();
        faulty.skip_syncs(SITE);
        file.write_all_at(b"x", 0).unwrap();
        file.sync_data(SITE).unwrap();
        let length = |mem: &MemFs| {
            mem.crash(CrashPolicy::SyncedOnly, 0).open_read(Path::new("/a")).unwrap().len().unwrap()
        };
        assert_eq!(length(&mem), 0);
        file.sync_data(SyncSite::new("other")).unwrap();
        assert_eq!(length(&mem), 1);
        assert_eq!(faulty.syncs(SITE), 2, "the directory's, and the one that was left out");
    }
}
