//! A file opened for reading: its bytes between the holes, where the holes are, and whether it changed meanwhile.
//!
//! Opening never waits and never follows: what was a file when it was looked at may be a pipe or a link by now. What is read ends where
//! the file ended when it was opened, or where it ends now if that comes earlier: a log that is written to all the
//! time would else never end. The holes are what `SEEK_HOLE` and `SEEK_DATA` say as the reader passes, so bytes and holes
//! together always make up one file of the size that is told at the end. A file of very many holes keeps the first of them; the rest is read as
//! the zeros that it is.

use std::ffi::{CStr, CString};
use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::fs::{OFlags, SeekFrom};
use rustix::io::Errno;

use crate::directory::{no_atime, open_at};
use crate::error::{Error, ErrorKind, Result};
use crate::metadata::unix::{Captured, Owners, Place, Stat, capture, source_error};
use crate::metadata::{Hole, Kind, Metadata};

/// A file that is being read.
pub struct SourceFile {
    file: OwnedFd,
    opened: Stat,
    /// Where the next byte is read.
    offset: u64,
    /// Up to where there are bytes and no hole.
    data_end: u64,
    /// Where the file ends, as far as this reader cares.
    end: u64,
    holes: Vec<Hole>,
    /// Whether something was met that is not as it was at the opening.
    changed: bool,
}

/// What reading a file gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadOutcome {
    /// Bytes of the file as it was read, holes included.
    pub size: u64,
    /// Its holes.
    pub holes: Vec<Hole>,
    /// Whether it changed since it was opened: what was read may be of no one moment.
    pub changed: bool,
}

impl ReadOutcome {
    /// Puts size and holes where they belong.
    pub fn complete(self, metadata: &mut Metadata) {
        metadata.size = self.size;
        metadata.holes = self.holes;
    }
}

/// The most holes that are kept of a file: their list is part of one record.
const HOLES_MAX: usize = if cfg!(test) { 100 } else { 1 << 20 };

/// How often, and after which pause, a file is tried again that another process holds a lease on: the kernel asks that process to give it
/// back, and it has time to.
const LEASE_TRIES: u32 = 20;
const LEASE_PAUSE: Duration = Duration::from_millis(50);

/// Opens `name` in `directory`, which was `seen` as a file.
pub(super) fn open(directory: &OwnedFd, name: &CStr, seen: &Stat) -> Result<SourceFile> {
    let flags = OFlags::RDONLY
        | OFlags::NOFOLLOW
        | OFlags::NONBLOCK
        | OFlags::CLOEXEC
        | OFlags::NOCTTY
        | no_atime(seen);
    let mut tries = 0;
    let file = loop {
        match open_at(directory, name, flags) {
            Ok(file) => break file,
            Err(Errno::AGAIN) if tries < LEASE_TRIES => {
                tries += 1;
                std::thread::sleep(LEASE_PAUSE);
            }
            // A link or socket took the file's place.
            Err(Errno::LOOP | Errno::NXIO) => return Err(no_file_any_more()),
            Err(errno) => return Err(source_error("cannot be opened", errno)),
        }
    };
    let opened = Stat::of(&file).map_err(|errno| source_error("cannot be looked at", errno))?;
    if opened.kind != Kind::File {
        return Err(no_file_any_more());
    }
    Ok(SourceFile {
        file,
        opened,
        offset: 0,
        data_end: 0,
        end: opened.size,
        holes: Vec::new(),
        changed: false,
    })
}

fn no_file_any_more() -> Error {
    Error::new(ErrorKind::Source, "was a file when it was looked at and is none any more")
}

/// Whether the file `name` in `directory` can be read and begins with `header`.
pub(super) fn begins_with(directory: &OwnedFd, name: &[u8], header: &[u8]) -> bool {
    let Ok(name) = CString::new(name) else { return false };
    let Ok(seen) = Stat::at(directory, &name) else { return false };
    if header.is_empty() {
        return true;
    }
    let Ok(mut file) = open(directory, &name, &seen) else { return false };
    let mut found = vec![0; header.len()];
    let mut length = 0;
    while let Some(room) = found.get_mut(length..).filter(|room| !room.is_empty()) {
        match file.read(room) {
            Ok(0) | Err(_) => return false,
            Ok(count) => length += count,
        }
    }
    found == header
}

impl SourceFile {
    /// What it was when it was opened: newer than what the walk saw.
    pub fn stat(&self) -> &Stat {
        &self.opened
    }

    /// Everything about it but size and holes, which [`SourceFile::finish`] knows.
    ///
    /// # Errors
    /// `Source` if it cannot be read.
    pub fn capture(&self, owners: &Owners) -> Result<Captured> {
        capture(Place::Open(self.file.as_fd()), &self.opened, owners)
    }

    /// Reads some of the bytes between the holes, in order; 0 at the end.
    ///
    /// # Errors
    /// `Source` if the file cannot be read.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        loop {
            if self.offset == self.data_end && !self.find_data()? {
                return Ok(0);
            }
            let rest = usize::try_from(self.data_end - self.offset).unwrap_or(usize::MAX);
            let length = buffer.len().min(rest);
            let Some(room) = buffer.get_mut(..length).filter(|room| !room.is_empty()) else { return Ok(0) };
            match rustix::io::pread(&self.file, room, self.offset) {
                Ok(0) => {
                    // It was cut short since its end was asked for.
                    self.changed = true;
                    self.end = self.offset;
                    self.data_end = self.offset;
                }
                Ok(count) => {
                    self.offset += count as u64;
                    return Ok(count);
                }
                Err(Errno::INTR) => {}
                Err(errno) => {
                    return Err(source_error(format!("cannot be read at byte {}", self.offset), errno));
                }
            }
        }
    }

    /// Goes on to where the next bytes are, noting the hole before them. `false` at the end of the file.
    fn find_data(&mut self) -> Result<bool> {
        if self.offset >= self.end {
            return Ok(false);
        }
        if self.holes.len() >= HOLES_MAX {
            self.data_end = self.end;
            return Ok(true);
        }
        let data = match rustix::fs::seek(&self.file, SeekFrom::Data(self.offset)) {
            Ok(data) => data.min(self.end),
            // No bytes from here on: a hole up to the end, or the file was cut short.
            Err(Errno::NXIO) => {
                let now = Stat::of(&self.file).map_err(|errno| source_error("cannot be looked at", errno))?;
                if now.size < self.end {
                    self.changed = true;
                    self.end = now.size.max(self.offset);
                }
                self.end
            }
            // The file system cannot tell: all of it is bytes.
            Err(_) => self.offset,
        };
        if data > self.offset {
            self.holes.push(Hole { offset: self.offset, length: data - self.offset });
            self.offset = data;
        }
        if data >= self.end {
            self.data_end = self.offset;
            return Ok(false);
        }
        self.data_end = match rustix::fs::seek(&self.file, SeekFrom::Hole(data)) {
            Ok(hole) if hole > data => hole.min(self.end),
            _ => self.end,
        };
        Ok(true)
    }

    /// Ends the reading and says what was read.
    ///
    /// # Errors
    /// `Source` if the file cannot be looked at any more.
    pub fn finish(mut self) -> Result<ReadOutcome> {
        let now = Stat::of(&self.file).map_err(|errno| source_error("cannot be looked at", errno))?;
        let changed = self.changed || !now.same_contents(&self.opened);
        // A reader that stopped early: what it did not read is not part of what it has.
        self.end = self.end.min(self.offset);
        Ok(ReadOutcome { size: self.end, holes: merged(self.holes), changed })
    }
}

/// Holes that touch, made one: a hole that was dug while the reader stood before it may have met the one behind.
fn merged(holes: Vec<Hole>) -> Vec<Hole> {
    let mut merged: Vec<Hole> = Vec::with_capacity(holes.len());
    for hole in holes {
        match merged.last_mut() {
            Some(last) if last.offset + last.length == hole.offset => last.length += hole.length,
            _ => merged.push(hole),
        }
    }
    merged
}

impl fmt::Debug for SourceFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SourceFile(inode {}, at {} of {})", self.opened.inode, self.offset, self.end)
    }
}
