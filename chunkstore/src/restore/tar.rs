//! The headers of a tar archive: POSIX ustar, and before it an extended header (pax) for what ustar has no room for.
//!
//! Names are bytes. Those that are no UTF-8 stand as they are, in the extended header too, where POSIX wants UTF-8: that is what GNU tar writes
//! and reads.

use crate::error::{Error, ErrorKind, Result};
use crate::metadata::{Kind, Metadata};

/// Everything in an archive begins at a multiple of this.
pub(super) const BLOCK_BYTES: u64 = 512;
/// What an archive ends with.
pub(super) const END: [u8; 1024] = [0; 1024];

const NAME_BYTES: usize = 100;
const PREFIX_BYTES: usize = 155;
const OWNER_BYTES: usize = 32;
/// The largest numbers that the fields hold.
const ID_MAX: u64 = 0o7_777_777;
const SIZE_MAX: u64 = 0o77_777_777_777;

/// What is told of a member besides its metadata.
pub(super) struct Member<'a> {
    /// Its path, without a slash in front.
    pub(super) path: &'a [u8],
    /// The path of the member whose inode it is another name of.
    pub(super) hard_link: Option<&'a [u8]>,
    pub(super) metadata: &'a Metadata,
}

impl Member<'_> {
    /// Whether its contents follow the header.
    pub(super) fn has_contents(&self) -> bool {
        self.metadata.kind == Kind::File && self.hard_link.is_none()
    }

    /// Its header, extended header included.
    ///
    /// # Errors
    /// Destination, if there is no place for such a member in an archive.
    pub(super) fn header(&self) -> Result<Vec<u8>> {
        let metadata = self.metadata;
        let type_flag = self.type_flag()?;
        let mut path = self.path.to_vec();
        if type_flag == b'5' && path.last() != Some(&b'/') {
            path.push(b'/');
        }
        let symlink = metadata.link_target.as_deref().filter(|_| metadata.kind == Kind::Symlink);
        let link = self.hard_link.or(symlink).unwrap_or(&[]);
        let size = if self.has_contents() { metadata.size } else { 0 };
        let (major, minor) = metadata.device_number.unwrap_or((0, 0));
        if u64::from(major.max(minor)) > ID_MAX {
            return Err(no_place("its device number is too large"));
        }
        let mut extended = Vec::new();
        let (prefix, name) = match split(&path) {
            Some(parts) => parts,
            None => {
                record(&mut extended, b"path", &path);
                (&[][..], path.get(..NAME_BYTES).unwrap_or(&path))
            }
        };
        if link.len() > NAME_BYTES {
            record(&mut extended, b"linkpath", link);
        }
        for (keyword, number, max) in [
            (&b"size"[..], size, SIZE_MAX),
            (b"uid", u64::from(metadata.uid), ID_MAX),
            (b"gid", u64::from(metadata.gid), ID_MAX),
        ] {
            if number > max {
                record(&mut extended, keyword, number.to_string().as_bytes());
            }
        }
        let seconds = u64::try_from(metadata.mtime.seconds).ok().filter(|seconds| *seconds <= SIZE_MAX);
        if seconds.is_none() || metadata.mtime.nanoseconds != 0 {
            record(&mut extended, b"mtime", self.time().as_bytes());
        }
        for (keyword, owner) in [(&b"uname"[..], &metadata.user), (b"gname", &metadata.group)] {
            if owner.len() >= OWNER_BYTES {
                record(&mut extended, keyword, owner);
            }
        }
        // A further name has the attributes of the first.
        for (name, value) in metadata.xattrs.iter().filter(|_| self.hard_link.is_none()) {
            record(&mut extended, &xattr_keyword(name), value);
        }
        let mut out = Vec::new();
        if !extended.is_empty() {
            let fields = Fields {
                name: b"PaxHeaders/member",
                mode: 0o644,
                size: extended.len() as u64,
                type_flag: b'x',
                ..Fields::default()
            };
            fields.put(&mut out);
            out.extend_from_slice(&extended);
            out.resize(out.len().next_multiple_of(512), 0);
        }
        let fields = Fields {
            prefix,
            name,
            mode: u64::from(metadata.mode),
            uid: u64::from(metadata.uid),
            gid: u64::from(metadata.gid),
            size,
            mtime: seconds.unwrap_or(0),
            type_flag,
            link,
            user: &metadata.user,
            group: &metadata.group,
            major: u64::from(major),
            minor: u64::from(minor),
        };
        fields.put(&mut out);
        Ok(out)
    }

    fn type_flag(&self) -> Result<u8> {
        Ok(match self.metadata.kind {
            // First, for nobody could restore it: not even as a further name.
            Kind::Socket => return Err(no_place("a socket")),
            _ if self.hard_link.is_some() => b'1',
            Kind::File => b'0',
            Kind::Symlink => b'2',
            Kind::CharacterDevice => b'3',
            Kind::BlockDevice => b'4',
            Kind::Directory => b'5',
            Kind::Fifo => b'6',
        })
    }

    /// The time of change as a decimal fraction; before 1970 it counts backwards.
    fn time(&self) -> String {
        let time = self.metadata.mtime;
        let nanoseconds = i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanoseconds);
        let sign = if nanoseconds < 0 { "-" } else { "" };
        let size = nanoseconds.unsigned_abs();
        format!("{sign}{}.{:09}", size / 1_000_000_000, size % 1_000_000_000)
    }
}

fn no_place(what: &str) -> Error {
    Error::new(ErrorKind::Destination, format!("{what}: there is no place for it in a tar archive"))
}

/// The path as ustar keeps it, in two parts with a slash between, if it can.
fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    if path.len() <= NAME_BYTES {
        return Some((&[], path));
    }
    // A slash at the end belongs to the name.
    let places = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(place, _)| place);
    places.rev().find_map(|place| {
        let (prefix, name) = (path.get(..place)?, path.get(place + 1..)?);
        let fits = (1..=PREFIX_BYTES).contains(&prefix.len()) && (1..=NAME_BYTES).contains(&name.len());
        fits.then_some((prefix, name))
    })
}

/// `SCHILY.xattr.NAME`, with what would end the keyword escaped, as GNU tar does.
fn xattr_keyword(name: &[u8]) -> Vec<u8> {
    let mut keyword = b"SCHILY.xattr.".to_vec();
    for byte in name {
        match byte {
            b'%' => keyword.extend_from_slice(b"%25"),
            b'=' => keyword.extend_from_slice(b"%3D"),
            other => keyword.push(*other),
        }
    }
    keyword
}

/// Adds a record of an extended header: `LENGTH KEYWORD=VALUE`, a line whose length counts itself.
fn record(out: &mut Vec<u8>, keyword: &[u8], value: &[u8]) {
    let rest = 1 + keyword.len() + 1 + value.len() + 1;
    let mut length = rest;
    // Each digit makes it longer, and may need another digit.
    while rest + length.to_string().len() != length {
        length = rest + length.to_string().len();
    }
    out.extend_from_slice(length.to_string().as_bytes());
    for part in [&b" "[..], keyword, b"=", value, b"\n"] {
        out.extend_from_slice(part);
    }
}

/// The fields of one ustar header.
#[derive(Default)]
struct Fields<'a> {
    prefix: &'a [u8],
    name: &'a [u8],
    mode: u64,
    uid: u64,
    gid: u64,
    size: u64,
    mtime: u64,
    type_flag: u8,
    link: &'a [u8],
    user: &'a [u8],
    group: &'a [u8],
    major: u64,
    minor: u64,
}

impl Fields<'_> {
    fn put(&self, out: &mut Vec<u8>) {
        let mut front = Vec::with_capacity(512);
        text(&mut front, self.name, NAME_BYTES);
        for (number, width) in
            [(self.mode, 8), (self.uid, 8), (self.gid, 8), (self.size, 12), (self.mtime, 12)]
        {
            octal(&mut front, number, width);
        }
        let mut back = vec![self.type_flag];
        text(&mut back, self.link, NAME_BYTES);
        back.extend_from_slice(b"ustar\x0000");
        text(&mut back, self.user, OWNER_BYTES);
        text(&mut back, self.group, OWNER_BYTES);
        octal(&mut back, self.major, 8);
        octal(&mut back, self.minor, 8);
        text(&mut back, self.prefix, PREFIX_BYTES);
        back.resize(back.len() + 12, 0);
        // The checksum counts its own field as blanks.
        let blanks = 8 * u64::from(b' ');
        let sum: u64 = front.iter().chain(&back).map(|byte| u64::from(*byte)).sum::<u64>() + blanks;
        out.append(&mut front);
        out.extend_from_slice(format!("{sum:06o}\0 ").as_bytes());
        out.append(&mut back);
    }
}

/// A text, cut to what there is room for, zeros behind it.
fn text(out: &mut Vec<u8>, text: &[u8], width: usize) {
    let end = out.len() + width;
    out.extend(text.iter().take(width));
    out.resize(end, 0);
}

/// A number in octal digits, a zero byte behind it; 0 for one that stands in the extended header.
fn octal(out: &mut Vec<u8>, number: u64, width: usize) {
    let digits = width - 1;
    let number = if number < 1 << (3 * digits) { number } else { 0 };
    out.extend_from_slice(format!("{number:0digits$o}\0").as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::Timestamp;

    #[test]
    fn records_count_their_own_length() {
        // At each length where a digit is added.
        for value in 0..2000 {
            let mut out = Vec::new();
            record(&mut out, b"path", &vec![b'x'; value]);
            let digits: Vec<u8> = out.iter().copied().take_while(u8::is_ascii_digit).collect();
            assert_eq!(String::from_utf8(digits).unwrap().parse::<usize>().unwrap(), out.len());
        }
    }

    #[test]
    fn long_paths_are_split_where_they_can_be() {
        let long =
            |parts: &[usize]| parts.iter().map(|n| "x".repeat(*n)).collect::<Vec<_>>().join("/").into_bytes();
        assert_eq!(split(b"a/b"), Some((&b""[..], &b"a/b"[..])));
        let path = long(&[60, 60]);
        assert_eq!(split(&path), Some((&path[..60], &path[61..])));
        let directory = [&path[..], b"/"].concat();
        assert_eq!(split(&directory), Some((&path[..60], &directory[61..])));
        assert_eq!(split(&long(&[101])), None);
        assert_eq!(split(&long(&[10, 101])), None);
        assert_eq!(split(&long(&[156, 1])), None);
        assert!(split(&long(&[155, 100])).is_some());
    }

    #[test]
    fn a_header_is_a_block_and_its_checksum_right() {
        let metadata = Metadata { mode: 0o644, size: 7, ..Metadata::new(Kind::File) };
        let header = Member { path: b"a", hard_link: None, metadata: &metadata }.header().unwrap();
        assert_eq!(header.len() as u64, BLOCK_BYTES);
        let told = u64::from_str_radix(std::str::from_utf8(&header[148..154]).unwrap(), 8).unwrap();
        let sum: u64 = header
            .iter()
            .enumerate()
            .map(|(place, byte)| if (148..156).contains(&place) { 32 } else { u64::from(*byte) })
            .sum();
        assert_eq!(told, sum);
        assert_eq!(&header[257..265], b"ustar\x0000");
    }

    #[test]
    fn times_before_1970_count_backwards() {
        for (seconds, nanoseconds, text) in [
            (1, 5, "1.000000005"),
            (-1, 0, "-1.000000000"),
            (-1, 500_000_000, "-0.500000000"),
            (-2, 999_999_999, "-1.000000001"),
        ] {
            let mtime = Timestamp { seconds, nanoseconds };
            let metadata = Metadata { mtime, ..Metadata::new(Kind::File) };
            assert_eq!(Member { path: b"a", hard_link: None, metadata: &metadata }.time(), text);
        }
    }

    #[test]
    fn what_has_no_room_stands_in_the_extended_header() {
        let metadata = Metadata {
            uid: u32::MAX,
            size: 1 << 40,
            user: vec![b'u'; 32],
            xattrs: vec![(b"user.a=b%".to_vec(), b"\0\n=".to_vec())],
            ..Metadata::new(Kind::File)
        };
        let path = vec![b'p'; 300];
        let header = Member { path: &path, hard_link: None, metadata: &metadata }.header().unwrap();
        assert!(header.len().is_multiple_of(512) && header.len() > 1024);
        let shown = String::from_utf8_lossy(&header);
        for part in [
            "path=ppp",
            "uid=4294967295\n",
            "size=1099511627776\n",
            "SCHILY.xattr.user.a%3Db%25=\0\n=\n",
            "uname=uu",
        ] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
    }

    #[test]
    fn a_socket_has_no_place() {
        let metadata = Metadata::new(Kind::Socket);
        for hard_link in [None, Some(&b"a"[..])] {
            let error = Member { path: b"a", hard_link, metadata: &metadata }.header().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Destination);
        }
    }
}
