//! Putting metadata back on an entry that was made, or that is there already: only what differs is changed.
//!
//! The order matters to the kernel. A change of owner clears setuid, setgid and capabilities; whoever is not root needs to be able to write
//! an entry to set its attributes; an access ACL and the mode share bits. So: owner; attributes but for the ACLs; mode; ACLs; times. At the end the
//! entry is looked at once more, and what did not come out as it should be is said, whatever the calls returned: some file systems take a
//! mode or a time and keep another.

use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::fs::{AtFlags, Gid, Mode, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags};
use rustix::io::Errno;

use super::unix::{Place, Stat};
use super::xattrs::read_xattrs;
use super::{Kind, Metadata, Timestamp};

/// Whose numbers an entry gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ownership {
    /// The numbers that were kept.
    #[default]
    Numbers,
    /// The numbers that the names which were kept have on this system; where a name is not known here, the numbers.
    Names,
    /// Whoever makes the entry owns it. Setuid and setgid come back only if it is the owner that was kept.
    Ignore,
}

/// What could not be put back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shortfall {
    /// Owner or group.
    Owner(Errno),
    /// Permissions, or some of them.
    Mode(Errno),
    /// An extended attribute, by its name.
    Attribute(Vec<u8>, Errno),
    /// The time of the last change; with what it came out as.
    Time(Errno),
}

impl Shortfall {
    /// What and why, as the end of a sentence about the entry.
    pub fn describe(&self) -> String {
        let why = |errno: &Errno| std::io::Error::from(*errno).to_string();
        match self {
            Self::Owner(errno) => format!("owner and group could not be set: {}", why(errno)),
            Self::Mode(errno) => format!("permissions could not be set: {}", why(errno)),
            Self::Attribute(name, errno) => {
                format!(
                    "extended attribute {:?} could not be set: {}",
                    String::from_utf8_lossy(name),
                    why(errno)
                )
            }
            Self::Time(errno) => format!("the time of the last change could not be set: {}", why(errno)),
        }
    }

    /// Whether it is only for want of privileges that nobody expects an ordinary user to have.
    pub fn is_privilege(&self) -> bool {
        match self {
            Self::Owner(errno) => *errno == Errno::PERM,
            Self::Attribute(name, errno) => {
                *errno == Errno::PERM && (name.starts_with(b"security.") || name.starts_with(b"trusted."))
            }
            Self::Mode(_) | Self::Time(_) => false,
        }
    }
}

/// An entry that is open: for reading or writing, or by `O_PATH` only.
#[derive(Clone, Copy, Debug)]
pub enum Opened<'a> {
    /// A file or directory.
    Fully(BorrowedFd<'a>),
    /// Anything; needs `/proc` for what has no other call.
    ByPath(BorrowedFd<'a>),
}

const ACCESS_ACL: &[u8] = b"system.posix_acl_access";
const DEFAULT_ACL: &[u8] = b"system.posix_acl_default";
const CAPABILITY: &[u8] = b"security.capability";

fn is_acl(name: &[u8]) -> bool {
    name == ACCESS_ACL || name == DEFAULT_ACL
}

/// What the system puts on entries by itself, such as labels, is not taken away because the snapshot has none.
fn is_ours_to_remove(name: &[u8]) -> bool {
    is_acl(name) || name == CAPABILITY || name.starts_with(b"user.") || name.starts_with(b"trusted.")
}

impl<'a> Opened<'a> {
    fn fd(self) -> BorrowedFd<'a> {
        match self {
            Self::Fully(fd) | Self::ByPath(fd) => fd,
        }
    }

    /// `/proc/self/fd/N`: leads to the very inode, a link not followed any further.
    fn proc_path(self) -> CString {
        CString::new(format!("/proc/self/fd/{}", self.fd().as_raw_fd())).unwrap_or_default()
    }

    fn chown(self, uid: u32, gid: u32) -> rustix::io::Result<()> {
        let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        rustix::fs::chownat(self.fd(), c"", uid, gid, AtFlags::EMPTY_PATH)
    }

    fn chmod(self, mode: u16) -> rustix::io::Result<()> {
        let mode = Mode::from_raw_mode(u32::from(mode));
        match self {
            Self::Fully(fd) => rustix::fs::fchmod(fd, mode),
            Self::ByPath(_) => rustix::fs::chmodat(rustix::fs::CWD, self.proc_path(), mode, AtFlags::empty()),
        }
    }

    fn set_mtime(self, time: Timestamp) -> rustix::io::Result<()> {
        let times = Timestamps {
            last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
            last_modification: Timespec { tv_sec: time.seconds, tv_nsec: time.nanoseconds.into() },
        };
        match self {
            Self::Fully(fd) => rustix::fs::futimens(fd, &times),
            Self::ByPath(fd) => rustix::fs::utimensat(fd, c"", &times, AtFlags::EMPTY_PATH),
        }
    }

    fn xattrs(self) -> rustix::io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let path = self.proc_path();
        let place = match self {
            Self::Fully(fd) => Place::Open(fd),
            // An absolute path makes the directory count for nothing.
            Self::ByPath(_) => Place::Path(&path),
        };
        // All of them: what the snapshot has not must go, however much it is.
        Ok(read_xattrs(place, usize::MAX)?.attributes)
    }

    fn set_xattr(self, name: &CStr, value: &[u8]) -> rustix::io::Result<()> {
        match self {
            Self::Fully(fd) => rustix::fs::fsetxattr(fd, name, value, XattrFlags::empty()),
            Self::ByPath(_) => rustix::fs::setxattr(self.proc_path(), name, value, XattrFlags::empty()),
        }
    }

    fn remove_xattr(self, name: &CStr) -> rustix::io::Result<()> {
        match self {
            Self::Fully(fd) => rustix::fs::fremovexattr(fd, name),
            Self::ByPath(_) => rustix::fs::removexattr(self.proc_path(), name),
        }
    }
}

/// The numbers that an entry is to get.
fn numbers(metadata: &Metadata, ownership: Ownership, now: &Stat) -> (u32, u32) {
    match ownership {
        Ownership::Ignore => (now.uid, now.gid),
        Ownership::Numbers => (metadata.uid, metadata.gid),
        Ownership::Names => {
            use std::os::unix::ffi::OsStrExt;
            let name = |bytes: &[u8]| std::ffi::OsStr::from_bytes(bytes).to_owned();
            let user =
                (!metadata.user.is_empty()).then(|| uzers::get_user_by_name(&name(&metadata.user))).flatten();
            let group = (!metadata.group.is_empty())
                .then(|| uzers::get_group_by_name(&name(&metadata.group)))
                .flatten();
            (user.map_or(metadata.uid, |user| user.uid()), group.map_or(metadata.gid, |group| group.gid()))
        }
    }
}

/// Puts owner, permissions, extended attributes and the time of the last change on an entry of the right kind. Returns what it could not.
///
/// # Errors
/// If the entry cannot be looked at at all.
pub fn apply(
    entry: Opened<'_>,
    metadata: &Metadata,
    ownership: Ownership,
) -> rustix::io::Result<Vec<Shortfall>> {
    let now = Stat::of(entry.fd())?;
    if now.kind != metadata.kind {
        return Err(Errno::STALE);
    }
    let mut shortfalls = Vec::new();
    let (uid, gid) = numbers(metadata, ownership, &now);
    let mut owned = (now.uid, now.gid) == (uid, gid);
    if !owned {
        // The group alone may be allowed where the owner is not.
        match entry.chown(uid, gid).or_else(|errno| entry.chown(now.uid, gid).and(Err(errno))) {
            Ok(()) => owned = true,
            Err(errno) => shortfalls.push(Shortfall::Owner(errno)),
        }
    }
    let has = match entry.xattrs() {
        Ok(has) => has,
        Err(errno) => {
            let wanted = metadata.xattrs.iter();
            shortfalls.extend(wanted.map(|(name, _)| Shortfall::Attribute(name.clone(), errno)));
            Vec::new()
        }
    };
    apply_xattrs(entry, metadata, &has, Phase::BeforeMode, &mut shortfalls);
    // With `Names` the numbers may differ and be those that were meant.
    let is_meant =
        owned && (ownership != Ownership::Ignore || (now.uid, now.gid) == (metadata.uid, metadata.gid));
    let mut mode = metadata.mode;
    if !is_meant {
        // Running as another user or group than it was meant to is worse than not running as either.
        mode &= !0o6000;
    }
    if metadata.kind != Kind::Symlink
        && let Err(errno) = chmod_if_needed(entry, mode)
    {
        shortfalls.push(Shortfall::Mode(errno));
    }
    apply_xattrs(entry, metadata, &has, Phase::AfterMode, &mut shortfalls);
    if let Err(errno) = entry.set_mtime(metadata.mtime) {
        shortfalls.push(Shortfall::Time(errno));
    }
    look_again(entry, metadata, is_meant, &mut shortfalls)?;
    Ok(shortfalls)
}

fn chmod_if_needed(entry: Opened<'_>, mode: u16) -> rustix::io::Result<()> {
    // After `chown`: it may have cleared bits.
    if Stat::of(entry.fd())?.mode == mode { Ok(()) } else { entry.chmod(mode) }
}

/// Compares with what should be; only what no call complained of.
fn look_again(
    entry: Opened<'_>,
    metadata: &Metadata,
    is_owner_meant: bool,
    shortfalls: &mut Vec<Shortfall>,
) -> rustix::io::Result<()> {
    let came_out = Stat::of(entry.fd())?;
    let told = |matches: fn(&Shortfall) -> bool| shortfalls.iter().any(matches);
    let mode_differs = metadata.kind != Kind::Symlink && came_out.mode != metadata.mode;
    // Without its owner an entry goes without setuid and setgid: said once, by the owner, or asked for.
    let only_set_id = !is_owner_meant && (came_out.mode ^ metadata.mode) & !0o6000 == 0;
    let mode = mode_differs && !only_set_id && !told(|shortfall| matches!(shortfall, Shortfall::Mode(_)));
    let time = came_out.mtime != metadata.mtime && !told(|shortfall| matches!(shortfall, Shortfall::Time(_)));
    if mode {
        shortfalls.push(Shortfall::Mode(Errno::OPNOTSUPP));
    }
    if time {
        shortfalls.push(Shortfall::Time(Errno::OVERFLOW));
    }
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Everything that is too much goes, everything but ACLs comes.
    BeforeMode,
    /// ACLs come.
    AfterMode,
}

fn apply_xattrs(
    entry: Opened<'_>,
    metadata: &Metadata,
    has: &[(Vec<u8>, Vec<u8>)],
    phase: Phase,
    shortfalls: &mut Vec<Shortfall>,
) {
    let mut attempt = |name: &[u8], call: &dyn Fn(&CStr) -> rustix::io::Result<()>| {
        let result = CString::new(name).map_err(|_| Errno::INVAL).and_then(|name| call(&name));
        match result {
            Ok(()) | Err(Errno::NODATA) => {}
            Err(errno) => shortfalls.push(Shortfall::Attribute(name.to_vec(), errno)),
        }
    };
    let wanted = |name: &[u8]| metadata.xattrs.iter().find(|(wanted, _)| wanted == name);
    if phase == Phase::BeforeMode {
        for (name, _) in has.iter().filter(|(name, _)| wanted(name).is_none() && is_ours_to_remove(name)) {
            attempt(name, &|name| entry.remove_xattr(name));
        }
    }
    for (name, value) in &metadata.xattrs {
        let now = is_acl(name) == (phase == Phase::AfterMode);
        // A change of owner has taken the capability away by now; the mode an ACL's bits.
        let same = !is_acl(name)
            && name != CAPABILITY
            && has.iter().any(|(other, other_value)| (other, other_value) == (name, value));
        if now && !same {
            attempt(name, &|name| entry.set_xattr(name, value));
        }
    }
}
