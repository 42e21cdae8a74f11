//! A file system in memory that keeps only its promises: for tests that cut the power.
//!
//! What it promises is what POSIX and the medium do (FORMAT.md, what we assume of the medium), and no more:
//!
//! - Files are distinct from their names. [`File::sync_data`] makes durable the writes that had returned before it was
//!   called, and the length, never the name; [`FileSystem::sync_dir`] makes names durable, never contents.
//! - After a crash each 512-byte sector of an unsynced write is old or new, independently; zeros or garbage only where no
//!   synced byte lives; a length is any intermediate one; of the directory operations any subset has happened, each rename
//!   whole or not at all, operations on one name in their order. [`CrashPolicy`] picks.
//! - A failed sync takes its writes for clean: they are seen until the cache drops them ([`Advice::DontNeed`]) or the crash,
//!   and no later sync persists them.
//! - A full device says so at the write or at the sync ([`MemFs::set_capacity`]).
//!
//! A [`MemFs::snapshot`] shares memory with its origin, so that a driver can keep one after every mutating call
//! ([`MemFs::record_snapshots`]) and crash each of them under each policy.

mod crash;
mod image;
mod inode;
mod names;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::sync::Mutex;

use self::crash::Fate;
use self::inode::Inode;
use self::names::{InodeNumber, Names, Node, normal};
use super::{Advice, File, FileSystem, Lock, LockMode, SyncSite};

pub use self::crash::CrashPolicy;

/// One mutating call, for a driver's report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Its number; the first is 1.
    pub number: u64,
    /// What was called: the function's name, and the site where it was a sync.
    pub what: String,
    /// The file or directory.
    pub path: PathBuf,
}

impl std::fmt::Display for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "call {}: {} {}", self.number, self.what, self.path.display())
    }
}

/// The state right after one mutating call.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The call.
    pub call: Call,
    /// The state; its own file system from then on.
    pub fs: MemFs,
}

/// When a full device says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Capacity {
    Unlimited,
    /// The write that does not fit is short, then fails.
    AtWrite(u64),
    /// Writes succeed, the sync fails (delayed allocation).
    AtSync(u64),
}

/// What [`MemFs::set_sync_hook`] calls.
type SyncHook = Arc<dyn Fn(&Path, SyncSite) + Send + Sync>;

#[derive(Clone)]
struct State {
    names: Names,
    inodes: HashMap<InodeNumber, Arc<Inode>>,
    next_inode: InodeNumber,
    /// How many mutating calls were made; each one's number is its place in history.
    calls: u64,
    last_call: Option<Call>,
    capacity: Capacity,
}

struct Shared {
    state: Mutex<State>,
    live: Mutex<Live>,
}

/// What belongs to the running machine and not to the disk: a snapshot has none of it.
#[derive(Default)]
struct Live {
    /// How many handles each file has.
    handles: HashMap<InodeNumber, u64>,
    locks: HashMap<InodeNumber, Held>,
    power_off_after: Option<u64>,
    power_is_off: bool,
    write_bytes_max: Option<usize>,
    snapshots: Option<Vec<Snapshot>>,
    sync_hook: Option<SyncHook>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Held {
    Shared(u64),
    Exclusive,
}

/// See the module. A clone is another handle to the same file system; a copy is a [`MemFs::snapshot`].
#[derive(Clone)]
pub struct MemFs {
    shared: Arc<Shared>,
}

impl Default for MemFs {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for MemFs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemFs").field("calls", &self.calls()).finish_non_exhaustive()
    }
}

/// The error of a machine without power.
fn power_is_off() -> io::Error {
    io::Error::other("the power is off")
}

fn full() -> io::Error {
    io::Error::new(io::ErrorKind::StorageFull, "no space left on device")
}

impl MemFs {
    /// An empty file system; its root is `/`.
    pub fn new() -> Self {
        Self::with_state(State {
            names: Names::default(),
            inodes: HashMap::new(),
            next_inode: 1,
            calls: 0,
            last_call: None,
            capacity: Capacity::Unlimited,
        })
    }

    fn with_state(state: State) -> Self {
        Self { shared: Arc::new(Shared { state: Mutex::new(state), live: Mutex::new(Live::default()) }) }
    }

    /// How many mutating calls were made.
    pub fn calls(&self) -> u64 {
        self.shared.state.lock().calls
    }

    /// The last mutating call.
    pub fn last_call(&self) -> Option<Call> {
        self.shared.state.lock().last_call.clone()
    }

    /// A copy as of now, independent of this one from then on, unsynced changes included; without locks, hooks, limits.
    pub fn snapshot(&self) -> Self {
        Self::with_state(self.shared.state.lock().clone())
    }

    /// What a machine finds that is started again after the power was cut now. The same policy and seed give the same
    /// answer.
    pub fn crash(&self, policy: CrashPolicy, seed: u64) -> Self {
        let state = self.shared.state.lock();
        let oldest = state.names.oldest_pending().into_iter();
        let oldest = oldest.chain(state.inodes.values().filter_map(|inode| inode.oldest_pending())).min();
        let mut fate = Fate::new(policy, seed, oldest.unwrap_or(state.calls), state.calls);
        let names = state.names.crash(&mut fate);
        // In the order of their numbers, so that the seed decides and not the hash map.
        let numbers: BTreeMap<_, _> = state.inodes.iter().collect();
        let inodes = numbers
            .into_iter()
            .map(|(number, inode)| (*number, Arc::new(inode.crash(&mut fate))))
            .filter(|(number, _)| names.refers_to(*number))
            .collect();
        Self::with_state(State {
            names,
            inodes,
            next_inode: state.next_inode,
            calls: 0,
            last_call: None,
            capacity: state.capacity,
        })
    }

    /// After mutating call number `calls` the power goes: each further mutating call fails without effect, and from the
    /// first such failure every call does.
    pub fn power_off_after(&self, calls: u64) {
        self.shared.live.lock().power_off_after = Some(calls);
    }

    /// Whether the power went, and somebody noticed.
    pub fn power_is_off(&self) -> bool {
        self.shared.live.lock().power_is_off
    }

    /// From now on keeps a snapshot after each mutating call.
    pub fn record_snapshots(&self) {
        self.shared.live.lock().snapshots = Some(Vec::new());
    }

    /// The snapshots kept since [`MemFs::record_snapshots`], or since this was last called.
    pub fn take_snapshots(&self) -> Vec<Snapshot> {
        self.shared.live.lock().snapshots.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// The device holds this many bytes (in 4 KiB pages); more, and the write is short, then fails.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.shared.state.lock().capacity = bytes.map_or(Capacity::Unlimited, Capacity::AtWrite);
    }

    /// The device holds this many bytes (in 4 KiB pages); more, and the next sync fails, and takes its writes for clean.
    pub fn set_capacity_at_sync(&self, bytes: Option<u64>) {
        self.shared.state.lock().capacity = bytes.map_or(Capacity::Unlimited, Capacity::AtSync);
    }

    /// A write takes at most this many bytes at once.
    pub fn set_write_bytes_max(&self, bytes: Option<usize>) {
        self.shared.live.lock().write_bytes_max = bytes.map(|bytes| bytes.max(1));
    }

    /// Calls `hook` in the middle of each data sync, after it has begun and before it is done: what is written there is not
    /// covered by that sync.
    pub fn set_sync_hook(&self, hook: impl Fn(&Path, SyncSite) + Send + Sync + 'static) {
        self.shared.live.lock().sync_hook = Some(Arc::new(hook));
    }

    /// Runs one mutating call; if it succeeds it is counted and kept.
    fn mutate<T>(
        &self,
        what: &str,
        site: Option<SyncSite>,
        path: &Path,
        change: impl FnOnce(&mut State, u64) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut live = self.shared.live.lock();
        let mut state = self.shared.state.lock();
        if live.power_is_off || live.power_off_after.is_some_and(|after| state.calls >= after) {
            live.power_is_off = true;
            return Err(power_is_off());
        }
        let number = state.calls + 1;
        let done = change(&mut state, number)?;
        state.calls = number;
        let what = site.map_or_else(|| what.to_owned(), |site| format!("{what} {site}"));
        let call = Call { number, what, path: path.to_owned() };
        state.last_call = Some(call.clone());
        if let Some(snapshots) = &mut live.snapshots {
            snapshots.push(Snapshot { call, fs: Self::with_state(state.clone()) });
        }
        Ok(done)
    }

    fn read<T>(&self, read: impl FnOnce(&State) -> io::Result<T>) -> io::Result<T> {
        if self.power_is_off() {
            return Err(power_is_off());
        }
        read(&self.shared.state.lock())
    }

    fn handle(&self, live: &mut Live, inode: InodeNumber, path: PathBuf) -> Arc<dyn File> {
        *live.handles.entry(inode).or_default() += 1;
        Arc::new(MemFile { fs: self.clone(), inode, path })
    }
}

impl State {
    fn inode(&self, number: InodeNumber) -> io::Result<&Inode> {
        self.inodes.get(&number).map(Arc::as_ref).ok_or_else(|| io::Error::other("a file without contents"))
    }

    fn inode_mut(&mut self, number: InodeNumber) -> io::Result<&mut Inode> {
        let inode =
            self.inodes.get_mut(&number).ok_or_else(|| io::Error::other("a file without contents"))?;
        Ok(Arc::make_mut(inode))
    }

    fn add_file(&mut self, path: &Path, sequence: u64) -> io::Result<InodeNumber> {
        let number = self.next_inode;
        self.names.add(path, Node::File(number), sequence)?;
        self.next_inode += 1;
        self.inodes.insert(number, Arc::default());
        Ok(number)
    }

    fn allocated(&self) -> u64 {
        self.inodes.values().map(|inode| inode.current().allocated()).sum()
    }

    /// Frees contents that no name leads to and nobody has open.
    fn collect(&mut self, handles: &HashMap<InodeNumber, u64>) {
        let names = &self.names;
        self.inodes.retain(|number, _| handles.contains_key(number) || names.refers_to(*number));
    }
}

impl FileSystem for MemFs {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let path = normal(path);
        self.mutate("create_dir", None, &path, |state, call| state.names.add(&path, Node::Directory, call))
    }

    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let path = normal(path);
        let inode = self.mutate("create_new", None, &path, |state, call| state.add_file(&path, call))?;
        Ok(self.handle(&mut self.shared.live.lock(), inode, path))
    }

    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let path = normal(path);
        // Held until the handle is counted: else the name may go between, and the contents with it.
        let mut live = self.shared.live.lock();
        if live.power_is_off {
            return Err(power_is_off());
        }
        let inode = self.shared.state.lock().names.file(&path)?;
        Ok(self.handle(&mut live, inode, path))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = (normal(from), normal(to));
        self.mutate("rename", None, &to, |state, call| state.names.rename(&from, &to, call))
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = (normal(from), normal(to));
        self.mutate("hard_link", None, &to, |state, call| {
            let inode = state.names.file(&from)?;
            state.names.add(&to, Node::File(inode), call)
        })
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let path = normal(path);
        self.mutate("remove_file", None, &path, |state, call| state.names.remove(&path, call).map(|_| ()))
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        self.read(|state| state.names.list(&normal(path)))
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.read(|state| Ok(state.names.get(&normal(path)).is_some()))
    }

    fn sync_dir(&self, path: &Path, site: SyncSite) -> io::Result<()> {
        let path = normal(path);
        self.mutate("sync_dir", Some(site), &path, |state, call| state.names.sync(&path, call))?;
        let live = self.shared.live.lock();
        self.shared.state.lock().collect(&live.handles);
        Ok(())
    }

    fn try_lock(&self, path: &Path, mode: LockMode) -> io::Result<Option<Box<dyn Lock>>> {
        let path = normal(path);
        let inode = match self.read(|state| state.names.file(&path)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.mutate("try_lock", None, &path, |state, call| state.add_file(&path, call))?
            }
            found => found?,
        };
        let mut live = self.shared.live.lock();
        let held = match (live.locks.get(&inode), mode) {
            (None, LockMode::Exclusive) => Held::Exclusive,
            (None, LockMode::Shared) => Held::Shared(1),
            (Some(Held::Shared(count)), LockMode::Shared) => Held::Shared(count + 1),
            _ => return Ok(None),
        };
        live.locks.insert(inode, held);
        *live.handles.entry(inode).or_default() += 1;
        Ok(Some(Box::new(MemLock { fs: self.clone(), inode })))
    }
}

impl Live {
    fn release(&mut self, inode: InodeNumber) {
        if let Some(count) = self.handles.get_mut(&inode) {
            *count -= 1;
            if *count == 0 {
                self.handles.remove(&inode);
            }
        }
    }
}

#[derive(Debug)]
struct MemLock {
    fs: MemFs,
    inode: InodeNumber,
}

impl Lock for MemLock {}

impl Drop for MemLock {
    fn drop(&mut self) {
        let mut live = self.fs.shared.live.lock();
        match live.locks.get(&self.inode).copied() {
            Some(Held::Shared(count)) if count > 1 => {
                live.locks.insert(self.inode, Held::Shared(count - 1));
            }
            _ => {
                live.locks.remove(&self.inode);
            }
        }
        live.release(self.inode);
    }
}

#[derive(Debug)]
struct MemFile {
    fs: MemFs,
    inode: InodeNumber,
    path: PathBuf,
}

impl Drop for MemFile {
    fn drop(&mut self) {
        let mut live = self.fs.shared.live.lock();
        live.release(self.inode);
        let mut state = self.fs.shared.state.lock();
        if !live.handles.contains_key(&self.inode) && !state.names.refers_to(self.inode) {
            state.inodes.remove(&self.inode);
        }
    }
}

impl MemFile {
    /// Writes what one call takes of `bytes`.
    fn write(&self, bytes: &[u8], offset: u64, what: &str) -> io::Result<usize> {
        let limit = self.fs.shared.live.lock().write_bytes_max.unwrap_or(usize::MAX);
        let mut bytes = bytes.get(..limit).unwrap_or(bytes);
        self.fs.mutate(what, None, &self.path, |state, call| {
            if let Capacity::AtWrite(capacity) = state.capacity {
                // What fits is what the file's own pages take already, and what is free.
                while !bytes.is_empty() {
                    let mut after = state.inode(self.inode)?.current().clone();
                    let before = after.allocated();
                    after.write(bytes, offset);
                    if state.allocated() - before + after.allocated() <= capacity {
                        break;
                    }
                    bytes = bytes.get(..bytes.len() / 2).unwrap_or_default();
                }
                if bytes.is_empty() {
                    return Err(full());
                }
            }
            state.inode_mut(self.inode)?.write(bytes, offset, call);
            Ok(bytes.len())
        })
    }
}

impl File for MemFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.fs.read(|state| Ok(state.inode(self.inode)?.current().read(buffer, offset)))
    }

    fn write_at(&self, buffer: &[u8], offset: u64) -> io::Result<usize> {
        if buffer.is_empty() { Ok(0) } else { self.write(buffer, offset, "write_at") }
    }

    fn write_vectored_at(&self, buffers: &[io::IoSlice<'_>], offset: u64) -> io::Result<usize> {
        let bytes: Vec<u8> = buffers.iter().flat_map(|buffer| buffer.iter().copied()).collect();
        if bytes.is_empty() { Ok(0) } else { self.write(&bytes, offset, "write_vectored_at") }
    }

    fn zero_range(&self, offset: u64, length: u64) -> io::Result<()> {
        let length = usize::try_from(length).map_err(|_| full())?;
        let zeros = vec![0; length];
        let mut zeros = zeros.as_slice();
        let mut at = offset;
        while !zeros.is_empty() {
            let count = self.write(zeros, at, "zero_range")?;
            zeros = zeros.get(count..).unwrap_or_default();
            at += count as u64;
        }
        Ok(())
    }

    fn sync_data(&self, site: SyncSite) -> io::Result<()> {
        // What had returned by now; what others write while the sync runs is not covered.
        let through = self.fs.calls();
        let hook = self.fs.shared.live.lock().sync_hook.clone();
        if let Some(hook) = hook {
            hook(&self.path, site);
        }
        let mut failed = false;
        self.fs.mutate("sync_data", Some(site), &self.path, |state, _| {
            if let Capacity::AtSync(capacity) = state.capacity
                && state.allocated() > capacity
                && state.inode(self.inode)?.is_dirty()
            {
                state.inode_mut(self.inode)?.forget();
                failed = true;
                return Ok(());
            }
            state.inode_mut(self.inode)?.sync(through);
            Ok(())
        })?;
        if failed { Err(full()) } else { Ok(()) }
    }

    fn len(&self) -> io::Result<u64> {
        self.fs.read(|state| Ok(state.inode(self.inode)?.current().len()))
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.fs.mutate("set_len", None, &self.path, |state, call| {
            state.inode_mut(self.inode)?.set_len(length, call);
            Ok(())
        })
    }

    fn advise(&self, advice: Advice, _offset: u64, _length: u64) {
        if advice == Advice::DontNeed
            && let Ok(inode) = self.fs.shared.state.lock().inode_mut(self.inode)
        {
            inode.drop_clean();
        }
    }

    fn forget_unsynced(&self) {
        if let Ok(inode) = self.fs.shared.state.lock().inode_mut(self.inode) {
            inode.forget();
        }
    }
}

#[cfg(test)]
mod tests;
