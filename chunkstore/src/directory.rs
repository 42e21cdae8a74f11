//! A directory by its place in the tree, open only while that is worth a descriptor.
//!
//! A walk stands in as many directories as the tree is deep, and what it found may wait in a queue for longer. Were each of them open, a
//! deep tree would use up the descriptors of the process; were each known by its path, a long path would be
//! refused and a swapped component followed. So a directory knows its parent and its name there. It is opened through the parent,
//! checked to be the inode that was seen, and closed when others need the place; the way back may open the whole
//! chain anew, which is what happens once in [`OPEN_MAX`] levels.
//!
//! Locks: a directory's own is never held while another one's is taken; the pool's only for a push and a pop.

use std::collections::VecDeque;
use std::ffi::{CStr, CString};
use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::metadata::unix::Stat;

/// How many directories are kept open: far below the 1,024 descriptors that a process may have by default, far above the depth
/// of ordinary trees.
const OPEN_MAX: usize = 128;

/// The directories that are open now, the longest open first.
#[derive(Debug, Default)]
struct OpenDirectories(Mutex<VecDeque<Weak<Directory>>>);

impl OpenDirectories {
    /// Notes one more, and closes the oldest if there are too many.
    fn note(&self, directory: &Arc<Directory>) {
        let oldest = {
            let mut queue = self.0.lock();
            queue.push_back(Arc::downgrade(directory));
            if queue.len() > OPEN_MAX { queue.pop_front() } else { None }
        };
        if let Some(oldest) = oldest.and_then(|weak| weak.upgrade()) {
            // Whoever works with it at this moment holds the descriptor itself.
            oldest.open.lock().take();
        }
    }
}

/// How a directory is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opening {
    /// To be listed; a link in its place is refused.
    List,
    /// To be passed through on the way to a root, by whatever links lead there.
    Pass,
    /// To make entries in; a link in its place is refused.
    Fill,
}

/// A directory that was seen.
pub(crate) struct Directory {
    parent: Option<Arc<Directory>>,
    name: CString,
    seen: Stat,
    opening: Opening,
    open: Mutex<Option<Arc<OwnedFd>>>,
    pool: Arc<OpenDirectories>,
}

impl Directory {
    /// `/`.
    pub(crate) fn root(opening: Opening) -> rustix::io::Result<Arc<Self>> {
        Self::at(c"/", opening)
    }

    /// The directory that `path` leads to, through links too, to be the top of others; it stays open.
    pub(crate) fn at(path: &CStr, opening: Opening) -> rustix::io::Result<Arc<Self>> {
        let flags = flags(opening, None) & !OFlags::NOFOLLOW;
        let open = rustix::fs::open(path, flags, Mode::empty())?;
        let seen = Stat::of(&open)?;
        let root = Self {
            parent: None,
            name: path.to_owned(),
            seen,
            opening,
            open: Mutex::new(Some(Arc::new(open))),
            pool: Arc::default(),
        };
        Ok(Arc::new(root))
    }

    /// The directory `name` in this one, as it was `seen`; not opened yet.
    pub(crate) fn child(self: &Arc<Self>, name: &CStr, seen: Stat, opening: Opening) -> Arc<Self> {
        Arc::new(Self {
            parent: Some(Arc::clone(self)),
            name: name.to_owned(),
            seen,
            opening,
            open: Mutex::new(None),
            pool: Arc::clone(&self.pool),
        })
    }

    /// What it was seen to be.
    pub(crate) fn seen(&self) -> &Stat {
        &self.seen
    }

    /// The open directory; opens it, and as much of what leads to it as is needed.
    ///
    /// # Errors
    /// `STALE` if something else is in its place by now, else as `openat`.
    pub(crate) fn open(self: &Arc<Self>) -> rustix::io::Result<Arc<OwnedFd>> {
        if let Some(open) = &*self.open.lock() {
            return Ok(Arc::clone(open));
        }
        // From the nearest one that is open down to this one: a loop, for the chain may be longer than the stack.
        let mut closed = vec![self];
        let mut at = loop {
            match closed.last().and_then(|directory| directory.parent.as_ref()) {
                None => break None,
                Some(parent) => match &*parent.open.lock() {
                    Some(open) => break Some(Arc::clone(open)),
                    None => closed.push(parent),
                },
            }
        };
        while let Some(directory) = closed.pop() {
            let flags = flags(directory.opening, Some(&directory.seen));
            let open = match &at {
                Some(parent) => open_at(parent, &directory.name, flags)?,
                None => rustix::fs::open(&*directory.name, flags, Mode::empty())?,
            };
            if !Stat::of(&open)?.same_inode(&directory.seen) {
                return Err(Errno::STALE);
            }
            let open = Arc::new(open);
            *directory.open.lock() = Some(Arc::clone(&open));
            self.pool.note(directory);
            at = Some(open);
        }
        at.ok_or(Errno::BADF)
    }
}

fn flags(opening: Opening, seen: Option<&Stat>) -> OFlags {
    let base = OFlags::DIRECTORY | OFlags::CLOEXEC;
    match opening {
        // Nothing but the right to pass is needed for passing.
        Opening::Pass => base | OFlags::PATH,
        Opening::Fill => base | OFlags::PATH | OFlags::NOFOLLOW,
        Opening::List => base | OFlags::RDONLY | OFlags::NOFOLLOW | seen.map_or(OFlags::empty(), no_atime),
    }
}

/// `O_NOATIME` where the kernel is likely to allow it: on what is one's own, or to root.
pub(crate) fn no_atime(seen: &Stat) -> OFlags {
    let user = rustix::process::geteuid();
    if user.is_root() || user.as_raw() == seen.uid { OFlags::NOATIME } else { OFlags::empty() }
}

/// Opens, and once more without `O_NOATIME` where that is refused: in a container root is not root of everything.
pub(crate) fn open_at(directory: impl AsFd, name: &CStr, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    match rustix::fs::openat(&directory, name, flags, Mode::empty()) {
        Err(Errno::PERM) if flags.contains(OFlags::NOATIME) => {
            rustix::fs::openat(&directory, name, flags & !OFlags::NOATIME, Mode::empty())
        }
        other => other,
    }
}

impl Drop for Directory {
    /// Takes the chain of parents apart in a loop: one call inside the other would overflow the stack on a deep tree.
    fn drop(&mut self) {
        let mut next = self.parent.take();
        while let Some(parent) = next {
            next = Arc::into_inner(parent).and_then(|mut parent| parent.parent.take());
        }
    }
}

impl fmt::Debug for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Directory({:?}, inode {})", self.name, self.seen.inode)
    }
}
