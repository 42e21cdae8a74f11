//! The only door to the disk: a file-system trait, and the implementations that stand behind it.
//!
//! Everything the engine reads or writes goes through [`FileSystem`] and [`File`], so that tests run the real code over
//! one that loses power, tears writes and returns errors at every step. Offsets are explicit: a file has no cursor.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

mod calls;
#[cfg(feature = "testing")]
mod fault;
#[cfg(feature = "testing")]
mod mem;
mod os;
mod site;

#[cfg(feature = "testing")]
pub use fault::{Fault, FaultCall, FaultEffect, FaultFs};
#[cfg(feature = "testing")]
pub use mem::{Call, CrashPolicy, MemFs, Snapshot};
pub use os::OsFs;
pub use site::SyncSite;

/// How the bytes of a range will be used; a hint, never needed for correctness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advice {
    /// They will be read in order: read ahead.
    Sequential,
    /// They will be read here and there: don't read ahead.
    Random,
    /// They won't be read again: don't keep them.
    DontNeed,
    /// They will be synced: begin to write them, and wait for nothing. Promises nothing.
    WriteBack,
    /// They will be written, though the file may end before them: set room aside for them, so that writing them changes little more than their bytes. Changes
    /// neither length nor contents. Where little room is left, nothing is set aside.
    Reserve,
    /// What was set aside behind the end of the file is not needed after all. Nobody writes to the file meanwhile.
    Release,
}

/// Which lock of a lock file is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockMode {
    /// Many may hold it at once.
    Shared,
    /// One alone may hold it.
    Exclusive,
}

/// A held lock; dropping it releases it.
pub trait Lock: Send + Sync + std::fmt::Debug {}

/// One read of [`File::read_many`].
#[derive(Debug)]
pub struct ReadRequest<'a> {
    /// Where in the file, in bytes.
    pub offset: u64,
    /// Filled whole, or the request failed.
    pub buffer: &'a mut [u8],
}

/// A directory tree, and what is durable in it.
///
/// A name becomes durable by [`FileSystem::sync_dir`] of its directory, contents by [`File::sync_data`]; neither implies
/// the other.
pub trait FileSystem: Send + Sync + std::fmt::Debug + 'static {
    /// Creates a directory that must not exist yet, in one that does. Its name is not durable yet.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// Creates a file that must not exist yet, for reading and writing.
    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn File>>;
    /// Opens an existing file for reading.
    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn File>>;
    /// Renames, replacing `to` atomically if it exists.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Gives a file a second name.
    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file's name; whoever has it open can go on reading it.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// The names in a directory, in no order, without `.` and `..`.
    fn read_dir(&self, path: &Path) -> io::Result<Vec<PathBuf>>;
    /// Whether the name exists.
    fn exists(&self, path: &Path) -> io::Result<bool>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, path: &Path, site: SyncSite) -> io::Result<()>;
    /// Locks a file (created if missing), or returns `None` at once where another holder excludes it. A lock belongs
    /// to the handle: a second one in the same process conflicts too.
    fn try_lock(&self, path: &Path, mode: LockMode) -> io::Result<Option<Box<dyn Lock>>>;

    /// The process that holds a lock on the file exclusively, if the system tells. For messages.
    fn lock_holder(&self, path: &Path) -> Option<u32> {
        let _ = path;
        None
    }

    /// Creates a directory and its parents; an existing one is fine. The names are durable when it returns.
    fn create_dir_all(&self, path: &Path, site: SyncSite) -> io::Result<()> {
        let parent = path.parent();
        match self.create_dir(path) {
            Ok(()) => {}
            Err(error)
                if error.kind() == io::ErrorKind::NotFound && parent.is_some_and(|parent| parent != path) =>
            {
                if let Some(parent) = parent {
                    self.create_dir_all(parent, site)?;
                }
                match self.create_dir(path) {
                    // Another process may have been quicker.
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                    made => made?,
                }
            }
            // Whoever made it may have been killed before its name was durable: so the parent is synced here too. Where
            // that is not allowed, the directory was not made by the likes of us.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.read_dir(path)?;
                return match parent.map(|parent| self.sync_dir(parent, site)) {
                    Some(Err(error)) if error.kind() != io::ErrorKind::PermissionDenied => Err(error),
                    _ => Ok(()),
                };
            }
            Err(error) => return Err(error),
        }
        parent.map_or(Ok(()), |parent| self.sync_dir(parent, site))
    }
}

/// An open file. Reads and writes are at explicit offsets and may run at the same time.
pub trait File: Send + Sync + std::fmt::Debug {
    /// Reads into `buffer` from `offset`; fewer bytes only at the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes from `buffer` at `offset`; may write fewer bytes.
    fn write_at(&self, buffer: &[u8], offset: u64) -> io::Result<usize>;
    /// Writes the buffers one after the other at `offset`; may write fewer bytes.
    fn write_vectored_at(&self, buffers: &[io::IoSlice<'_>], offset: u64) -> io::Result<usize>;
    /// Writes real zeros over a range, so that later writes there change no metadata.
    fn zero_range(&self, offset: u64, length: u64) -> io::Result<()>;
    /// Makes the writes that have returned, and the length, durable. Not the name.
    fn sync_data(&self, site: SyncSite) -> io::Result<()>;
    /// The length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Cuts or extends (with zeros) the file.
    fn set_len(&self, length: u64) -> io::Result<()>;
    /// Tells the system how a range will be used. A length of 0 means to the end.
    fn advise(&self, advice: Advice, offset: u64, length: u64);

    /// What a failed sync leaves behind, for [`FaultFs`]: the unsynced writes count as clean, so that later syncs pass over
    /// them and return `Ok`. A real file system does this by itself.
    #[doc(hidden)]
    fn forget_unsynced(&self) {}

    /// Whether the file holds no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Fills `buffer` from `offset`.
    fn read_exact_at(&self, mut buffer: &mut [u8], mut offset: u64) -> io::Result<()> {
        while !buffer.is_empty() {
            match self.read_at(buffer, offset) {
                Ok(0) => {
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file ends too early"));
                }
                Ok(count) => {
                    let (_, rest) = buffer.split_at_mut_checked(count).ok_or_else(overlong)?;
                    buffer = rest;
                    offset += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Fills the buffers of all requests. An implementation may do them at once and in any order.
    fn read_many(&self, requests: &mut [ReadRequest<'_>]) -> io::Result<()> {
        for request in requests {
            self.read_exact_at(request.buffer, request.offset)?;
        }
        Ok(())
    }

    /// Writes all of `buffer` at `offset`.
    fn write_all_at(&self, mut buffer: &[u8], mut offset: u64) -> io::Result<()> {
        while !buffer.is_empty() {
            match self.write_at(buffer, offset) {
                Ok(0) => return Err(io::Error::new(io::ErrorKind::WriteZero, "nothing could be written")),
                Ok(count) => {
                    buffer = buffer.get(count..).ok_or_else(overlong)?;
                    offset += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Writes all of the buffers, one after the other, at `offset`.
    fn write_all_vectored_at(&self, buffers: &mut [io::IoSlice<'_>], mut offset: u64) -> io::Result<()> {
        let mut buffers = buffers;
        io::IoSlice::advance_slices(&mut buffers, 0);
        while !buffers.is_empty() {
            match self.write_vectored_at(buffers, offset) {
                Ok(0) => return Err(io::Error::new(io::ErrorKind::WriteZero, "nothing could be written")),
                Ok(count) => {
                    let left: usize = buffers.iter().map(|buffer| buffer.len()).sum();
                    if count > left {
                        return Err(overlong());
                    }
                    io::IoSlice::advance_slices(&mut buffers, count);
                    offset += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn overlong() -> io::Error {
    io::Error::other("the system reports more bytes than it was given")
}
