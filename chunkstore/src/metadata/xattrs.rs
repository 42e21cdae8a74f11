//! Extended attributes of an entry: read within bounds.
//!
//! The kernel bounds one attribute and the list of their names, not their sum: whoever may write one file could give it more than a record of a
//! segment can hold. So what is kept of an entry has a bound, far above what anybody uses (ext4 has room for a block of them,
//! ACLs and labels take some hundred bytes); what is beyond is left out and said.

use std::ffi::{CStr, CString};
use std::os::fd::BorrowedFd;

use rustix::io::Errno;

use super::XATTRS_MAX;
use super::unix::{Place, proc_path, source_error};
use crate::error::{Error, ErrorKind};

/// The most bytes of names and values that are kept of an entry.
pub(crate) const XATTRS_BYTES_MAX: usize = 4 << 20;

/// Extended attributes, and what of them is not there.
#[derive(Debug, Default)]
pub(crate) struct Xattrs {
    /// Names ascending.
    pub(crate) attributes: Vec<(Vec<u8>, Vec<u8>)>,
    /// One for each that could not be read, one for all that found no room.
    pub(crate) faults: Vec<Error>,
}

/// The extended attributes of an entry, those that `bytes_max` bytes have room for, in the order of their names; none where the file system
/// has no such thing.
pub(crate) fn read_xattrs(place: Place<'_>, bytes_max: usize) -> rustix::io::Result<Xattrs> {
    let calls = XattrCalls::new(place);
    let names = match grown(|buffer| calls.list(buffer)) {
        Ok(names) => names,
        Err(Errno::OPNOTSUPP) => return Ok(Xattrs::default()),
        Err(errno) => return Err(errno),
    };
    Ok(within(&names, bytes_max, |name| grown(|buffer| calls.get(name, buffer))))
}

/// The attributes of these names, each ended by 00.
fn within(names: &[u8], bytes_max: usize, get: impl Fn(&CStr) -> rustix::io::Result<Vec<u8>>) -> Xattrs {
    let mut names: Vec<&CStr> = names
        .split_inclusive(|byte| *byte == 0)
        .filter_map(|name| CStr::from_bytes_with_nul(name).ok())
        .filter(|name| !name.is_empty())
        .collect();
    names.sort_unstable();
    names.dedup();
    let mut found = Xattrs::default();
    let (mut bytes, mut left_out) = (0, 0u64);
    for name in names {
        match get(name) {
            Ok(value) => {
                let more = name.count_bytes() + value.len();
                if bytes + more <= bytes_max && found.attributes.len() < XATTRS_MAX {
                    bytes += more;
                    found.attributes.push((name.to_bytes().to_vec(), value));
                } else {
                    left_out += 1;
                }
            }
            // It went between the two calls, or is shown to all and given to none.
            Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
            Err(errno) => found.faults.push(source_error(
                format!("its extended attribute {:?} cannot be read", name.to_string_lossy()),
                errno,
            )),
        }
    }
    if left_out > 0 {
        let what = format!(
            "{left_out} of its extended attributes are left out: {bytes_max} bytes of them are kept, not more"
        );
        found.faults.push(Error::new(ErrorKind::Source, what));
    }
    found
}

/// Calls with a small buffer first, with larger ones while the answer does not fit.
fn grown(call: impl Fn(&mut Vec<u8>) -> rustix::io::Result<usize>) -> rustix::io::Result<Vec<u8>> {
    let mut buffer = Vec::new();
    // Nothing that Linux lets through is larger: XATTR_LIST_MAX and XATTR_SIZE_MAX are 64 KiB; some file systems go on to a few MiB.
    for capacity in [512usize, 64 << 10, 1 << 20, 16 << 20] {
        buffer.clear();
        buffer.reserve(capacity);
        match call(&mut buffer) {
            Ok(_) => {
                buffer.shrink_to_fit();
                return Ok(buffer);
            }
            Err(Errno::RANGE) => {}
            Err(errno) => return Err(errno),
        }
    }
    Err(Errno::TOOBIG)
}

/// The calls for extended attributes, by whatever leads to the entry.
#[derive(Debug)]
enum XattrCalls<'a> {
    Open(BorrowedFd<'a>),
    Named(CString),
    Followed(CString),
}

impl<'a> XattrCalls<'a> {
    fn new(place: Place<'a>) -> Self {
        match place {
            Place::Open(file) => Self::Open(file),
            Place::Named(directory, name) => Self::Named(proc_path(directory, name)),
            Place::Followed(directory, name) => Self::Followed(proc_path(directory, name)),
            Place::Path(path) => Self::Followed(path.to_owned()),
        }
    }

    fn list(&self, buffer: &mut Vec<u8>) -> rustix::io::Result<usize> {
        let room = rustix::buffer::spare_capacity(buffer);
        match self {
            Self::Open(file) => rustix::fs::flistxattr(file, room),
            Self::Named(path) => rustix::fs::llistxattr(path, room),
            Self::Followed(path) => rustix::fs::listxattr(path, room),
        }
    }

    fn get(&self, name: &CStr, buffer: &mut Vec<u8>) -> rustix::io::Result<usize> {
        let room = rustix::buffer::spare_capacity(buffer);
        match self {
            Self::Open(file) => rustix::fs::fgetxattr(file, name, room),
            Self::Named(path) => rustix::fs::lgetxattr(path, name, room),
            Self::Followed(path) => rustix::fs::getxattr(path, name, room),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_finds_no_room_is_left_out_and_said() {
        let get = |name: &CStr| match name.to_bytes() {
            b"user.c" => Ok(vec![0; 100]),
            b"user.denied" => Err(Errno::ACCESS),
            b"user.went" => Err(Errno::NODATA),
            _ => Ok(vec![0; 10]),
        };
        let names = b"user.d\0user.c\0user.b\0security.a\0user.b\0user.went\0user.denied\0";
        let kept = |found: &Xattrs| {
            let names = found.attributes.iter().map(|(name, _)| String::from_utf8_lossy(name).into_owned());
            names.collect::<Vec<_>>().join(" ")
        };
        let all = within(names, 1 << 20, get);
        assert_eq!((kept(&all).as_str(), all.faults.len()), ("security.a user.b user.c user.d", 1));
        let some = within(names, 60, get);
        assert_eq!((kept(&some).as_str(), some.faults.len()), ("security.a user.b user.d", 2));
        let fault = &some.faults[1];
        assert_eq!(fault.kind(), ErrorKind::Source);
        assert!(fault.to_string().starts_with("1 of its extended attributes"), "{fault}");
        assert_eq!(kept(&within(names, 0, get)), "");
    }

    #[test]
    fn very_many_are_too_many() {
        let names: Vec<u8> = (0..XATTRS_MAX + 5).flat_map(|n| format!("user.{n}\0").into_bytes()).collect();
        let found = within(&names, usize::MAX, |_| Ok(Vec::new()));
        assert_eq!((found.attributes.len(), found.faults.len()), (XATTRS_MAX, 1));
    }
}
