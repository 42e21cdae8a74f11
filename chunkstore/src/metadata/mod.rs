//! What a Version keeps of an entry besides its contents.
//!
//! The types stand here, free of any system. Their bytes, where the contents lie in a sparse file, how a Unix system fills the
//! types and how it puts them back are in the modules below.

pub mod apply;
mod encode;
mod extents;
pub mod unix;
mod xattrs;

#[cfg(test)]
pub(crate) use encode::tests::any_metadata;
pub use extents::{Extent, Extents};

/// The most extended attributes of one entry; a kernel gives 64 KiB of names, so at most some thirty thousand.
pub(crate) const XATTRS_MAX: usize = 1 << 16;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    /// A regular file.
    File = 1,
    /// A directory.
    Directory = 2,
    /// A symbolic link.
    Symlink = 3,
    /// A named pipe.
    Fifo = 4,
    /// A socket.
    Socket = 5,
    /// A character device.
    CharacterDevice = 6,
    /// A block device.
    BlockDevice = 7,
}

impl Kind {
    /// The kind with this number.
    pub const fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::File,
            2 => Self::Directory,
            3 => Self::Symlink,
            4 => Self::Fifo,
            5 => Self::Socket,
            6 => Self::CharacterDevice,
            7 => Self::BlockDevice,
            _ => return None,
        })
    }
}

/// A time: seconds since 1970 (negative before), and nanoseconds from 0 to 999,999,999 that always count forward.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Timestamp {
    /// Whole seconds, rounded down.
    pub seconds: i64,
    /// Nanoseconds behind them.
    pub nanoseconds: u32,
}

/// A hole of a sparse file: bytes that read as zeros and take no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Hole {
    /// Where it begins, in bytes from the start of the file.
    pub offset: u64,
    /// How long it is, in bytes; more than zero.
    pub length: u64,
}

/// What is kept of an entry besides its contents.
///
/// Two values are equal when a restore of either gives the same entry; [`Metadata::same_restored`] leaves out what only change
/// detection needs (`ctime`, `inode`, `device`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// What it is.
    pub kind: Kind,
    /// Permissions with setuid, setgid and sticky: the low twelve bits of `st_mode`.
    pub mode: u16,
    /// Owner's number.
    pub uid: u32,
    /// Group's number.
    pub gid: u32,
    /// Owner's name as bytes; empty if the number had none.
    pub user: Vec<u8>,
    /// Group's name as bytes; empty if the number had none.
    pub group: Vec<u8>,
    /// When the contents changed last.
    pub mtime: Timestamp,
    /// When the inode changed last.
    pub ctime: Timestamp,
    /// When it was created, where the file system knows.
    pub birth: Option<Timestamp>,
    /// Bytes of contents (files), of the link's target (symbolic links), else 0.
    pub size: u64,
    /// The file system it was on.
    pub device: u64,
    /// Its inode there.
    pub inode: u64,
    /// How many names the inode had.
    pub links: u64,
    /// Major and minor number of a device node.
    pub device_number: Option<(u32, u32)>,
    /// Where a symbolic link points, as bytes.
    pub link_target: Option<Vec<u8>>,
    /// Extended attributes, names ascending; ACLs and capabilities are among them.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Exact holes of a sparse file: ascending, apart from each other, within `size`.
    ///
    /// A Version's chunks hold the bytes *between* the holes, one after the other: a terabyte of nothing costs no chunk.
    /// Whoever turns contents into file offsets (restore, `cat`, byte ranges of losses) adds the holes before them.
    pub holes: Vec<Hole>,
}

impl Metadata {
    /// An entry of this kind, everything else zero, absent or empty, with one link. A symbolic link still needs its target, a device its number.
    pub fn new(kind: Kind) -> Self {
        Self {
            kind,
            mode: 0,
            uid: 0,
            gid: 0,
            user: Vec::new(),
            group: Vec::new(),
            mtime: Timestamp::default(),
            ctime: Timestamp::default(),
            birth: None,
            size: 0,
            device: 0,
            inode: 0,
            links: 1,
            device_number: None,
            link_target: None,
            xattrs: Vec::new(),
            holes: Vec::new(),
        }
    }

    /// Bytes of contents between the holes: what the chunks of its Version hold in all.
    pub fn data_bytes(&self) -> u64 {
        let holes: u64 = self.holes.iter().map(|hole| hole.length).fold(0, u64::saturating_add);
        if self.kind == Kind::File { self.size.saturating_sub(holes) } else { 0 }
    }

    /// What attributes and holes take in memory: of most entries nothing, of some megabytes.
    pub(crate) fn memory_bytes(&self) -> usize {
        let xattrs: usize = self.xattrs.iter().map(|(name, value)| name.len() + value.len() + 48).sum();
        xattrs + self.holes.len() * size_of::<Hole>()
    }

    /// Whether a restore of both gives the same entry: all but `ctime`, `inode` and `device`.
    pub fn same_restored(&self, other: &Self) -> bool {
        let strip = |m: &Self| Self { ctime: Timestamp::default(), inode: 0, device: 0, ..m.clone() };
        strip(self) == strip(other)
    }
}
