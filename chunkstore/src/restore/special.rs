//! Entries without contents: links, pipes, sockets, devices, and further names of what was restored before.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};

use super::report::{Failure, destination};
use crate::error::{Error, ErrorKind};
use crate::metadata::apply::{Opened, Ownership, Shortfall, apply};
use crate::metadata::unix::Stat;
use crate::metadata::{Kind, Metadata};

/// Makes an entry that has no contents; what is there of the same kind and meaning is only put right. Returns what apart from that could
/// not be done.
pub(super) fn make(
    directory: &OwnedFd,
    name: &CStr,
    metadata: &Metadata,
    there: Option<&Stat>,
    ownership: Ownership,
) -> Result<rustix::io::Result<Vec<Shortfall>>, Failure> {
    let stays = there.is_some_and(|stat| is_same(directory, name, metadata, stat));
    if !stays {
        if there.is_some() {
            rustix::fs::unlinkat(directory, name, AtFlags::empty())
                .map_err(|errno| Failure::of("what is in its place cannot be removed", errno))?;
        }
        create(directory, name, metadata)?;
    }
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let made = rustix::fs::openat(directory, name, flags, Mode::empty())
        .map_err(|errno| Failure::Entry(destination("was made and cannot be opened", errno)))?;
    Ok(apply(Opened::ByPath(made.as_fd()), metadata, ownership))
}

/// Whether what is there is what would be made, and has no other name that would change with it.
fn is_same(directory: &OwnedFd, name: &CStr, metadata: &Metadata, there: &Stat) -> bool {
    there.kind == metadata.kind
        && there.links == 1
        && there.device_number == metadata.device_number
        && (metadata.kind != Kind::Symlink
            || rustix::fs::readlinkat(directory, name, Vec::new())
                .is_ok_and(|target| Some(target.as_bytes()) == metadata.link_target.as_deref()))
}

fn create(directory: &OwnedFd, name: &CStr, metadata: &Metadata) -> Result<(), Failure> {
    let node = |file_type, device| {
        rustix::fs::mknodat(directory, name, file_type, Mode::from_raw_mode(0o600), device)
    };
    let (what, result) = match (metadata.kind, &metadata.link_target, metadata.device_number) {
        (Kind::Symlink, Some(target), _) => {
            let target = std::ffi::OsStr::from_bytes(target);
            ("the link cannot be made", rustix::fs::symlinkat(target, directory, name))
        }
        (Kind::Fifo, ..) => ("the named pipe cannot be made", node(FileType::Fifo, 0)),
        (Kind::Socket, ..) => ("the socket cannot be made", node(FileType::Socket, 0)),
        (Kind::CharacterDevice, _, Some((major, minor))) => (
            "the device cannot be made (only root can)",
            node(FileType::CharacterDevice, rustix::fs::makedev(major, minor)),
        ),
        (Kind::BlockDevice, _, Some((major, minor))) => (
            "the device cannot be made (only root can)",
            node(FileType::BlockDevice, rustix::fs::makedev(major, minor)),
        ),
        (kind, ..) => {
            let what = format!("the snapshot does not say enough to make a {kind:?}");
            return Err(Failure::Entry(Error::new(ErrorKind::Damage, what)));
        }
    };
    result.map_err(|errno| Failure::of(what, errno))
}

/// Gives what is at `from` another name; what has that name goes, unless it is the same already.
pub(super) fn link(
    from: (&OwnedFd, &CStr),
    to: (&OwnedFd, &CStr),
    there: Option<&Stat>,
) -> Result<(), Failure> {
    if let Some(there) = there {
        if Stat::at(from.0, from.1).is_ok_and(|stat| stat.same_inode(there)) {
            return Ok(());
        }
        rustix::fs::unlinkat(to.0, to.1, AtFlags::empty())
            .map_err(|errno| Failure::of("what is in its place cannot be removed", errno))?;
    }
    rustix::fs::linkat(from.0, from.1, to.0, to.1, AtFlags::empty())
        .map_err(|errno| Failure::of("the further name cannot be made", errno))
}

/// An entry's name as the calls want it.
pub(super) fn c_name(name: &[u8]) -> CString {
    // Names out of entry keys hold no zero byte.
    CString::new(name).unwrap_or_default()
}
