//! Metadata of a Unix file system: what one `statx` says, what is read besides it. [`apply`](super::apply) puts both back.
//!
//! Everything goes by an open directory and a name, never by a path from `/`: no limit on a path's length, and nothing that is
//! swapped for a link in the meantime is followed. Extended attributes have no such call before Linux 6.13, but
//! `/proc/self/fd/N/NAME` is the same thing to the calls that take paths, works for every kind of entry and opens nothing.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use parking_lot::RwLock;
use rustix::fs::{AtFlags, FileType, Statx, StatxFlags, StatxTimestamp};
use rustix::io::Errno;

use super::xattrs::{XATTRS_BYTES_MAX, read_xattrs};
use super::{Kind, Metadata, Timestamp};
use crate::error::{Error, ErrorKind, Result};

/// What one `statx` says of an entry: all that change detection needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// What it is.
    pub kind: Kind,
    /// Permissions with setuid, setgid and sticky.
    pub mode: u16,
    /// Owner's number.
    pub uid: u32,
    /// Group's number.
    pub gid: u32,
    /// Bytes of contents, or of a link's target; 0 for every other kind, whatever the file system says.
    pub size: u64,
    /// Blocks of 512 bytes that it takes.
    pub blocks: u64,
    /// When the contents changed last.
    pub mtime: Timestamp,
    /// When the inode changed last.
    pub ctime: Timestamp,
    /// When it was created, where the file system knows.
    pub birth: Option<Timestamp>,
    /// The file system: major number << 32 | minor number.
    pub device: u64,
    /// The inode.
    pub inode: u64,
    /// Names of the inode; 1 for a directory, whatever the file system says.
    pub links: u64,
    /// Major and minor number of a device node.
    pub device_number: Option<(u32, u32)>,
}

fn timestamp(time: StatxTimestamp) -> Timestamp {
    // A file system that hands out more nanoseconds than a second has is broken; what it meant is anyone's guess.
    Timestamp { seconds: time.tv_sec, nanoseconds: time.tv_nsec.min(999_999_999) }
}

impl Stat {
    /// Of the entry `name` in `directory`, itself if it is a link.
    ///
    /// # Errors
    /// As `statx`; `NODEV` if it is of a kind that is not known.
    #[inline]
    pub fn at(directory: impl AsFd, name: &CStr) -> rustix::io::Result<Self> {
        Self::with(directory.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT)
    }

    /// Of what the entry `name` in `directory` leads to, if it is a link.
    ///
    /// # Errors
    /// As [`Stat::at`].
    pub fn at_followed(directory: impl AsFd, name: &CStr) -> rustix::io::Result<Self> {
        Self::with(directory.as_fd(), name, AtFlags::empty())
    }

    /// Of an open file.
    ///
    /// # Errors
    /// As [`Stat::at`].
    pub fn of(file: impl AsFd) -> rustix::io::Result<Self> {
        Self::with(file.as_fd(), c"", AtFlags::EMPTY_PATH)
    }

    fn with(directory: BorrowedFd<'_>, name: &CStr, flags: AtFlags) -> rustix::io::Result<Self> {
        let wanted = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
        Self::from_statx(&rustix::fs::statx(directory, name, flags, wanted)?)
    }

    fn from_statx(statx: &Statx) -> rustix::io::Result<Self> {
        let kind = match FileType::from_raw_mode(u32::from(statx.stx_mode)) {
            FileType::RegularFile => Kind::File,
            FileType::Directory => Kind::Directory,
            FileType::Symlink => Kind::Symlink,
            FileType::Fifo => Kind::Fifo,
            FileType::Socket => Kind::Socket,
            FileType::CharacterDevice => Kind::CharacterDevice,
            FileType::BlockDevice => Kind::BlockDevice,
            FileType::Unknown => return Err(Errno::NODEV),
        };
        let is_device = matches!(kind, Kind::CharacterDevice | Kind::BlockDevice);
        let knows_birth = statx.stx_mask & StatxFlags::BTIME.bits() != 0;
        Ok(Self {
            kind,
            mode: statx.stx_mode & 0o7777,
            uid: statx.stx_uid,
            gid: statx.stx_gid,
            size: if matches!(kind, Kind::File | Kind::Symlink) { statx.stx_size } else { 0 },
            blocks: statx.stx_blocks,
            mtime: timestamp(statx.stx_mtime),
            ctime: timestamp(statx.stx_ctime),
            birth: knows_birth.then(|| timestamp(statx.stx_btime)),
            device: u64::from(statx.stx_dev_major) << 32 | u64::from(statx.stx_dev_minor),
            inode: statx.stx_ino,
            links: if kind == Kind::Directory { 1 } else { u64::from(statx.stx_nlink) },
            device_number: is_device.then_some((statx.stx_rdev_major, statx.stx_rdev_minor)),
        })
    }

    /// Whether both are of the same inode.
    pub fn same_inode(&self, other: &Self) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }

    /// Whether nothing tells that the contents changed between the two.
    pub fn same_contents(&self, other: &Self) -> bool {
        self.same_inode(other)
            && (self.kind, self.size, self.mtime, self.ctime)
                == (other.kind, other.size, other.mtime, other.ctime)
    }

    /// The metadata that follow from it alone: no link target, no extended attributes, no holes.
    pub fn metadata(&self, owners: &Owners) -> Metadata {
        Metadata {
            mode: self.mode,
            uid: self.uid,
            gid: self.gid,
            user: owners.user(self.uid),
            group: owners.group(self.gid),
            mtime: self.mtime,
            ctime: self.ctime,
            birth: self.birth,
            size: self.size,
            device: self.device,
            inode: self.inode,
            links: self.links,
            device_number: self.device_number,
            ..Metadata::new(self.kind)
        }
    }
}

/// Names of users and groups by number, each asked for once: the system may have to ask a server.
#[derive(Debug, Default)]
pub struct Owners {
    users: RwLock<HashMap<u32, Vec<u8>>>,
    groups: RwLock<HashMap<u32, Vec<u8>>>,
}

impl Owners {
    /// The name of a user; empty if the number has none.
    pub fn user(&self, uid: u32) -> Vec<u8> {
        cached(&self.users, uid, |uid| Some(uzers::get_user_by_uid(uid)?.name().as_encoded_bytes().to_vec()))
    }

    /// The name of a group; empty if the number has none.
    pub fn group(&self, gid: u32) -> Vec<u8> {
        cached(&self.groups, gid, |gid| {
            Some(uzers::get_group_by_gid(gid)?.name().as_encoded_bytes().to_vec())
        })
    }
}

fn cached(
    names: &RwLock<HashMap<u32, Vec<u8>>>,
    number: u32,
    ask: impl Fn(u32) -> Option<Vec<u8>>,
) -> Vec<u8> {
    if let Some(name) = names.read().get(&number) {
        return name.clone();
    }
    let name = ask(number).unwrap_or_default();
    names.write().insert(number, name.clone());
    name
}

/// Metadata, and what of them could not be had.
#[derive(Clone, Debug)]
pub struct Captured {
    /// What was found.
    pub metadata: Metadata,
    /// Errors of kind `Source`: one for each attribute that could not be read, one for all that are too much. The entry is kept without them.
    pub faults: Vec<Error>,
}

/// An entry by what its calls need: an open file, or an open directory and a name in it.
#[derive(Clone, Copy, Debug)]
pub enum Place<'a> {
    /// An open file or directory; not one opened by `O_PATH`.
    Open(BorrowedFd<'a>),
    /// The entry `name` in a directory, itself if it is a link.
    Named(BorrowedFd<'a>, &'a CStr),
    /// What the entry `name` in a directory leads to, if it is a link.
    Followed(BorrowedFd<'a>, &'a CStr),
    /// What a path below `/proc/self/fd` leads to.
    Path(&'a CStr),
}

/// `/proc/self/fd/N/NAME`: the entry as the calls see it that know no open directories.
pub(crate) fn proc_path(directory: BorrowedFd<'_>, name: &CStr) -> CString {
    let mut path = format!("/proc/self/fd/{}/", directory.as_raw_fd()).into_bytes();
    path.extend_from_slice(name.to_bytes());
    // Neither the prefix nor a name out of a `CStr` holds a zero byte.
    CString::new(path).unwrap_or_default()
}

/// Reads everything about an entry that `stat` does not say.
///
/// # Errors
/// Of kind `NotFound` if it vanished or became something else, `Source` if a link's target cannot be read.
pub fn capture(place: Place<'_>, stat: &Stat, owners: &Owners) -> Result<Captured> {
    let mut metadata = stat.metadata(owners);
    if let (Kind::Symlink, Place::Named(directory, name)) = (stat.kind, place) {
        let target = rustix::fs::readlinkat(directory, name, Vec::with_capacity(256))
            .map_err(|errno| source_error("the link's target cannot be read", errno))?
            .into_bytes();
        if target.is_empty() {
            return Err(Error::new(ErrorKind::Source, "the link has an empty target"));
        }
        metadata.size = target.len() as u64;
        metadata.link_target = Some(target);
    }
    let mut faults = Vec::new();
    match read_xattrs(place, XATTRS_BYTES_MAX) {
        Ok(found) => {
            metadata.xattrs = found.attributes;
            faults.extend(found.faults);
        }
        Err(Errno::NOENT) => return Err(source_error("it vanished", Errno::NOENT)),
        Err(errno) => faults.push(source_error("its extended attributes cannot be listed", errno)),
    }
    Ok(Captured { metadata, faults })
}

/// An error of the source; of kind `NotFound` where the entry is not there any more.
pub(crate) fn source_error(what: impl Into<String>, errno: Errno) -> Error {
    let kind = match errno {
        Errno::NOENT | Errno::NOTDIR | Errno::STALE => ErrorKind::NotFound,
        _ => ErrorKind::Source,
    };
    Error::caused(kind, what, std::io::Error::from(errno))
}
