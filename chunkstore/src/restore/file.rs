//! A file that is being restored: made when its first bytes come, finished when its last have come.
//!
//! Its bytes come in any order, from any thread. Where something is in its place already, the file is made under a name of its own and takes
//! the place by a rename at the end, so that what is there is never written to (it may have other names elsewhere) and
//! stays until the new one is whole.
//!
//! Locks: a file's own, never two at once; the pool's for a push and a pop.

use std::collections::VecDeque;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::report::{Count, Failure, Report, destination};
use crate::directory::Directory;
use crate::entry_key::EntryKey;
use crate::error::{Error, ErrorKind, Result};
use crate::metadata::apply::{Opened, Ownership, apply};
use crate::metadata::unix::Stat;
use crate::metadata::{Extents, Metadata};

/// How many files are open at once: large ones whose bytes are spread over many frames. As for directories, well below what a process may have.
const OPEN_FILES_MAX: usize = 128;
/// Files of at least this size get it before their bytes come, so that the file system sees at once how large they are.
const SIZE_FIRST_BYTES: u64 = 1 << 20;

/// The files that are open now, the longest open first.
#[derive(Debug, Default)]
pub(super) struct OpenFiles(Mutex<VecDeque<Weak<FileJob>>>);

impl OpenFiles {
    fn note(&self, job: &Arc<FileJob>) {
        let oldest = {
            let mut queue = self.0.lock();
            queue.push_back(Arc::downgrade(job));
            if queue.len() > OPEN_FILES_MAX { queue.pop_front() } else { None }
        };
        if let Some(oldest) = oldest.and_then(|weak| weak.upgrade()) {
            oldest.state.lock().file = None;
        }
    }
}

/// A file to be restored.
#[derive(Debug)]
pub(super) struct FileJob {
    pub(super) key: EntryKey,
    pub(super) directory: Arc<Directory>,
    pub(super) name: CString,
    pub(super) metadata: Metadata,
    pub(super) extents: Extents,
    /// Whether something is in its place.
    pub(super) replaces: bool,
    state: Mutex<State>,
    /// Pieces that are still to come, and one more while the file is planned.
    left: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    file: Option<Arc<OwnedFd>>,
    /// Under which name it was made, and what it was then.
    made: Option<(CString, Stat)>,
    end: Option<End>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Whole,
    Failed,
}

impl FileJob {
    pub(super) fn new(
        key: EntryKey,
        directory: Arc<Directory>,
        name: CString,
        metadata: Metadata,
        replaces: bool,
    ) -> Arc<Self> {
        let extents = Extents::of(&metadata);
        Arc::new(Self {
            key,
            directory,
            name,
            metadata,
            extents,
            replaces,
            state: Mutex::default(),
            left: AtomicU64::new(1),
        })
    }

    /// One more piece is to come.
    pub(super) fn expect_piece(&self) {
        self.left.fetch_add(1, Ordering::Relaxed);
    }

    /// One piece has come, or the planning is over. Whether it was the last.
    pub(super) fn piece_done(&self) -> bool {
        self.left.fetch_sub(1, Ordering::AcqRel) == 1
    }

    /// Whether it is there, whole.
    pub(super) fn is_whole(&self) -> bool {
        self.state.lock().end == Some(End::Whole)
    }

    /// The file, open for writing; made if it is not there yet.
    fn open(self: &Arc<Self>, pool: &OpenFiles) -> Result<Arc<OwnedFd>, Failure> {
        let mut state = self.state.lock();
        if let Some(file) = &state.file {
            return Ok(Arc::clone(file));
        }
        if state.end.is_some() {
            // Another thread gave it up, and has told why.
            return Err(Failure::Entry(Error::new(ErrorKind::Destination, "was given up")));
        }
        let directory = self
            .directory
            .open()
            .map_err(|errno| Failure::of("the directory it is in is not there any more", errno))?;
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match &state.made {
            Some((name, made)) => {
                let file = rustix::fs::openat(&directory, name, flags, Mode::empty())
                    .map_err(|errno| Failure::of("the file cannot be opened again", errno))?;
                if !Stat::of(&file).is_ok_and(|stat| stat.same_inode(made)) {
                    let what = "something else took the file's place while it was restored";
                    return Err(Failure::Entry(Error::new(ErrorKind::Destination, what)));
                }
                file
            }
            None => {
                let name = if self.replaces { temporary_name()? } else { self.name.clone() };
                let create = flags | OFlags::CREATE | OFlags::EXCL;
                // Nobody else reads it before it has the permissions that it is to have.
                let file = rustix::fs::openat(&directory, &name, create, Mode::from_raw_mode(0o600))
                    .map_err(|errno| Failure::of("the file cannot be made", errno))?;
                let stat =
                    Stat::of(&file).map_err(|errno| Failure::of("the file cannot be looked at", errno))?;
                state.made = Some((name, stat));
                let ends_in_hole = self
                    .extents
                    .as_slice()
                    .last()
                    .is_none_or(|last| last.file_offset + last.length < self.metadata.size);
                if self.metadata.size >= SIZE_FIRST_BYTES || (ends_in_hole && self.metadata.size > 0) {
                    rustix::fs::ftruncate(&file, self.metadata.size)
                        .map_err(|errno| Failure::of("the file cannot get its size", errno))?;
                }
                file
            }
        };
        let file = Arc::new(file);
        state.file = Some(Arc::clone(&file));
        drop(state);
        pool.note(self);
        Ok(file)
    }

    /// Writes bytes of the contents where they belong.
    pub(super) fn write(
        self: &Arc<Self>,
        contents_offset: u64,
        bytes: &[u8],
        pool: &OpenFiles,
    ) -> Result<(), Failure> {
        if self.state.lock().end.is_some() {
            return Ok(());
        }
        let file = self.open(pool)?;
        let mut rest = bytes;
        for piece in self.extents.pieces(contents_offset, bytes.len() as u64) {
            let length = usize::try_from(piece.length).unwrap_or(usize::MAX);
            let (now, later) = rest.split_at_checked(length).unwrap_or((rest, &[]));
            rest = later;
            write_at(&file, now, piece.file_offset).map_err(|errno| {
                Failure::of(format!("cannot be written at byte {}", piece.file_offset), errno)
            })?;
        }
        Ok(())
    }

    /// All pieces have come: gives the file its metadata and its place.
    pub(super) fn finish(
        self: &Arc<Self>,
        ownership: Ownership,
        report: &Report<'_>,
        pool: &OpenFiles,
    ) -> Result<()> {
        if self.state.lock().end.is_some() {
            return Ok(());
        }
        let result = self.open(pool).and_then(|file| {
            report.shortfalls(&self.key, apply(Opened::Fully(file.as_fd()), &self.metadata, ownership));
            self.take_place()
        });
        match result {
            Ok(()) => {
                let mut state = self.state.lock();
                state.end = Some(End::Whole);
                state.file = None;
                drop(state);
                let count = if self.replaces { Count::FileUpdated } else { Count::FileRestored };
                let written = self.extents.data_bytes();
                report.done(count, &self.key, written);
                report.spared(self.metadata.size.saturating_sub(written));
                Ok(())
            }
            Err(failure) => self.fail(failure, report),
        }
    }

    fn take_place(&self) -> Result<(), Failure> {
        if !self.replaces {
            return Ok(());
        }
        let state = self.state.lock();
        let Some((name, _)) = &state.made else { return Ok(()) };
        let directory = self
            .directory
            .open()
            .map_err(|errno| Failure::of("the directory it is in is not there any more", errno))?;
        rustix::fs::renameat(&directory, name, &directory, &*self.name)
            .map_err(|errno| Failure::of("cannot take the place of what is there", errno))
    }

    /// Gives the file up and says why: what was made of it goes, what was in its place stays.
    ///
    /// # Errors
    /// What ends everything.
    pub(super) fn fail(&self, failure: Failure, report: &Report<'_>) -> Result<()> {
        if self.abandon() { failure.report(report, &self.key) } else { Ok(()) }
    }

    /// Removes what was made of a file that is not whole. `false` if it had ended before.
    pub(super) fn abandon(&self) -> bool {
        let mut state = self.state.lock();
        if state.end.is_some() {
            return false;
        }
        state.end = Some(End::Failed);
        state.file = None;
        if let (Some((name, _)), Ok(directory)) = (&state.made, self.directory.open()) {
            // If it cannot be removed, it stays as an ordinary file that nobody was told is whole.
            let _ = rustix::fs::unlinkat(&directory, name, AtFlags::empty());
        }
        true
    }
}

fn write_at(file: &OwnedFd, mut bytes: &[u8], mut offset: u64) -> rustix::io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::pwrite(file, bytes, offset) {
            Ok(0) => return Err(Errno::IO),
            Ok(count) => {
                bytes = bytes.get(count..).unwrap_or_default();
                offset += count as u64;
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// A name that nothing else has.
pub(super) fn temporary_name() -> Result<CString, Failure> {
    let mut random = [0u8; 8];
    getrandom::fill(&mut random).map_err(|error| {
        Failure::Everything(Error::new(
            ErrorKind::Destination,
            format!("the system gives no random bytes: {error}"),
        ))
    })?;
    let name = format!(".versions-restore-{:016x}", u64::from_le_bytes(random));
    Ok(CString::new(name).unwrap_or_default())
}

/// What is in the place where an entry, other than a directory, is to go.
pub(super) enum InPlace {
    /// Nothing.
    Nothing,
    /// This.
    Something(Stat),
}

/// Looks at the place of an entry that is no directory. If room is to be made, a directory that is in the way goes if it is empty.
pub(super) fn look(directory: &OwnedFd, name: &CStr, make_room: bool) -> Result<InPlace, Failure> {
    match Stat::at(directory, name) {
        Ok(stat) if stat.kind == crate::metadata::Kind::Directory => {
            if !make_room {
                return Ok(InPlace::Something(stat));
            }
            match rustix::fs::unlinkat(directory, name, AtFlags::REMOVEDIR) {
                Ok(()) => Ok(InPlace::Nothing),
                Err(Errno::NOTEMPTY | Errno::EXIST) => {
                    let what = "a directory that is not empty is in its place: remove it first";
                    Err(Failure::Entry(Error::new(ErrorKind::Destination, what)))
                }
                Err(errno) => {
                    Err(Failure::Entry(destination("a directory in its place cannot be removed", errno)))
                }
            }
        }
        Ok(stat) => Ok(InPlace::Something(stat)),
        Err(Errno::NOENT) => Ok(InPlace::Nothing),
        Err(errno) => Err(Failure::of("its place cannot be looked at", errno)),
    }
}
