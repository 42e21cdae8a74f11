//! A target in a directory.
//!
//! A put writes a file under `.tmp/` on the same target, syncs it, renames it to its name and syncs the directory that holds
//! the name; directories made on the way are synced into their parents first. So a name is either absent or stands for the whole
//! object, whatever happens to the power; a crash leaves at most a file in `.tmp/`, which no listing shows and which a later writer
//! removes once it is a day old (nothing in there was ever acknowledged).
//!
//! The directory is held open from [`LocalTarget::open`] on and everything is reached from it one path segment at a time, without
//! following a link: a key cannot lead outside, and a disk that is unmounted while we work gives errors. Names looked up from `/` would
//! have filled the disk below the empty mount point instead.

mod directory;

#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::ffi::CString;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::url::TargetUrl;
use super::{OBJECT_BYTES_MAX, ObjectInfo, ObjectKey, Target, too_long, within_prefix};
use crate::error::{Error, ErrorKind, Result};

/// Where unfinished objects are written: it starts with a dot, so that it can be no object's key.
const TEMPORARY_DIRECTORY: &str = ".tmp";

/// How old a file in [`TEMPORARY_DIRECTORY`] must be before another writer removes it. A put takes seconds; a day leaves room for a
/// machine that slept in the middle of one, and for clocks that disagree by hours.
const TEMPORARY_AGE_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// A target in a directory.
#[derive(Debug)]
pub struct LocalTarget {
    url: String,
    root: OwnedFd,
    swept: AtomicBool,
    next_temporary: AtomicU64,
    /// By directory: which of its names this process knows to be durable. A directory that another writer made may be there for us and not yet
    /// for the disk.
    durable: Mutex<HashMap<String, HashSet<CString>>>,
}

impl LocalTarget {
    /// The target in the directory at `path`.
    ///
    /// # Errors
    /// `NotFound` if there is none, `Target` if it cannot be opened.
    pub fn open(path: &Path) -> Result<Self> {
        let url = TargetUrl::Directory(path.to_owned()).to_string();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| {
            let what = if errno == Errno::NOTDIR { "it is not a directory" } else { "it cannot be opened" };
            Error::caused(kind_of(errno), format!("target {url}: {what}"), std::io::Error::from(errno))
        })?;
        Ok(Self {
            url,
            root,
            swept: AtomicBool::new(false),
            next_temporary: AtomicU64::new(0),
            durable: Mutex::default(),
        })
    }

    /// The target in the directory at `path`, which is made durably if it is not there, parents too.
    ///
    /// # Errors
    /// `Target` or `TargetFull` if it cannot be made or opened.
    pub fn create(path: &Path) -> Result<Self> {
        let url = TargetUrl::Directory(path.to_owned()).to_string();
        directory::make_all(path)
            .map_err(|error| io_error(error, format!("target {url}: its directory cannot be made")))?;
        Self::open(path)
    }

    fn fail(&self, errno: Errno, key: &ObjectKey, doing: &str) -> Error {
        io_error(errno.into(), format!("target {}: {key}: {doing}", self.url))
    }

    /// The open directory that holds `key`, and the key's last segment.
    ///
    /// With [`Missing::Create`], directories that are not there are made, and the names of all on the way are durable before anything is put into
    /// the last.
    fn parent(&self, key: &ObjectKey, missing: Missing) -> Result<(OwnedFd, CString), Errno> {
        let (parents, name) = key.as_str().rsplit_once('/').unwrap_or(("", key.as_str()));
        Ok((self.directory(parents, missing)?, c_string(name)?))
    }

    fn directory(&self, path: &str, missing: Missing) -> Result<OwnedFd, Errno> {
        let mut directory = directory::open(self.root.as_fd(), c".")?;
        let mut done = 0;
        for segment in path.split('/').filter(|segment| !segment.is_empty()) {
            let name = c_string(segment)?;
            if missing == Missing::Create {
                self.make_durable(directory.as_fd(), path.get(..done).unwrap_or_default(), &name)?;
            }
            directory = directory::open(directory.as_fd(), &name)?;
            done += segment.len() + 1;
        }
        Ok(directory)
    }

    /// Makes sure that the directory `name` is in `parent`, for the disk too.
    fn make_durable(&self, parent: BorrowedFd<'_>, parent_path: &str, name: &CString) -> Result<(), Errno> {
        let mut durable = self.durable.lock();
        if durable.get(parent_path).is_some_and(|names| names.contains(name)) {
            return Ok(());
        }
        directory::make(parent, name)?;
        // Every name that is there now will be durable with this one sync, and need none of its own.
        let names = directory::names(parent)?;
        directory::sync(parent, parent_path.trim_end_matches('/'))?;
        durable.entry(parent_path.to_owned()).or_default().extend(names);
        Ok(())
    }

    /// Writes and syncs a temporary file; returns the directory it is in and its name there.
    fn write_temporary(&self, key: &ObjectKey, parts: &[&[u8]]) -> Result<(OwnedFd, CString)> {
        let directory = self
            .directory(TEMPORARY_DIRECTORY, Missing::Create)
            .map_err(|errno| self.fail(errno, key, "a directory for unfinished objects cannot be made"))?;
        if !self.swept.swap(true, Ordering::Relaxed) {
            directory::remove_stale(&directory, TEMPORARY_AGE_MAX);
        }
        let (name, file) = self.create_temporary(&directory, key)?;
        let written = directory::write(&file, parts)
            .and_then(|()| directory::sync_file(file.as_fd(), "temporary").map_err(Into::into));
        if let Err(error) = written {
            let _ = directory::remove(directory.as_fd(), &name);
            return Err(io_error(error, format!("target {}: {key}: it cannot be written", self.url)));
        }
        Ok((directory, name))
    }

    fn create_temporary(&self, directory: &OwnedFd, key: &ObjectKey) -> Result<(CString, OwnedFd)> {
        loop {
            let mut random = [0u8; 8];
            getrandom::fill(&mut random).map_err(|error| {
                Error::new(ErrorKind::Local, format!("the system gives no random bytes: {error}"))
            })?;
            let number = self.next_temporary.fetch_add(1, Ordering::Relaxed);
            let name = format!("{}-{number}-{:016x}", std::process::id(), u64::from_le_bytes(random));
            let name = CString::new(name).map_err(|_| self.fail(Errno::INVAL, key, "no temporary name"))?;
            match directory::create_file(directory.as_fd(), &name) {
                Ok(file) => return Ok((name, file)),
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(self.fail(errno, key, "a file cannot be made for it")),
            }
        }
    }

    fn put_with(&self, key: &ObjectKey, parts: &[&[u8]], replace: Replace) -> Result<()> {
        let (temporary_directory, temporary) = self.write_temporary(key, parts)?;
        let landed = (|| {
            let (directory, name) = self.parent(key, Missing::Create)?;
            let (from, to) = (temporary_directory.as_fd(), directory.as_fd());
            match replace {
                Replace::Yes => directory::rename(from, &temporary, to, &name)?,
                Replace::No => directory::rename_new(from, &temporary, to, &name)?,
            }
            directory::sync(to, parent_of(key))
        })();
        landed.map_err(|errno| {
            // After a failed sync of the directory the name may or may not survive; what stands there is whole in either case.
            let _ = directory::remove(temporary_directory.as_fd(), &temporary);
            match (errno, replace) {
                (Errno::EXIST, Replace::No) => Error::new(
                    ErrorKind::AlreadyExists,
                    format!("target {}: {key}: it exists already and is not replaced", self.url),
                ),
                _ => self.fail(errno, key, "it cannot be put in its place"),
            }
        })
    }

    /// The open file of an object, and its length. What is no regular file is not an object, and a fifo must not hang us.
    fn open_object(&self, key: &ObjectKey) -> Result<(File, u64)> {
        let (directory, name) =
            self.parent(key, Missing::Fail).map_err(|errno| self.lookup_error(errno, key))?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&directory, &name, flags, Mode::empty())
            .map_err(|errno| self.lookup_error(errno, key))?;
        let stat =
            rustix::fs::fstat(&file).map_err(|errno| self.fail(errno, key, "it cannot be examined"))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(self.lookup_error(Errno::LOOP, key));
        }
        Ok((File::from(file), length_of(&stat)))
    }

    /// What it means that `key` could not be opened. A link, a directory or a device in an object's place is no object, so the object is
    /// missing; what is there is moved out of the way by [`Target::set_aside`], or replaced.
    fn lookup_error(&self, errno: Errno, key: &ObjectKey) -> Error {
        let missing =
            |what: &str| Error::new(ErrorKind::NotFound, format!("target {}: {key}: {what}", self.url));
        match errno {
            Errno::NOENT => missing("it is not there"),
            Errno::LOOP | Errno::NOTDIR | Errno::NXIO => missing("what stands in its place is not a file"),
            errno => self.fail(errno, key, "it cannot be opened"),
        }
    }

    /// Whether the directory itself was removed under us: its listing would be empty, and an empty listing is believed.
    fn check_root(&self) -> Result<()> {
        let stat = rustix::fs::fstat(&self.root)
            .map_err(|errno| io_error(errno.into(), format!("target {}: it cannot be examined", self.url)))?;
        if stat.st_nlink == 0 {
            return Err(Error::new(
                ErrorKind::Target,
                format!("target {}: its directory was removed", self.url),
            ));
        }
        Ok(())
    }

    fn list_directory(
        &self,
        directory: &OwnedFd,
        path: &str,
        depth: usize,
        into: &mut Vec<ObjectInfo>,
    ) -> Result<()> {
        let fail =
            |errno: Errno| io_error(errno.into(), format!("target {}: {path:?} cannot be listed", self.url));
        for entry in Dir::read_from(directory).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            let Ok(name) = entry.file_name().to_str() else { continue };
            let child = if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") };
            // Whatever has no valid key (`.tmp`, `.`, `..`, `lost+found`) is not ours.
            let Ok(key) = ObjectKey::new(child) else { continue };
            let stat = match rustix::fs::statat(directory, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                Err(Errno::NOENT) => continue,
                Err(errno) => return Err(fail(errno)),
            };
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::RegularFile => into.push(ObjectInfo { key, length: length_of(&stat) }),
                FileType::Directory if depth < KEY_SEGMENTS_MAX => {
                    match directory::open(directory.as_fd(), entry.file_name()) {
                        Ok(open) => self.list_directory(&open, key.as_str(), depth + 1, into)?,
                        Err(Errno::NOENT) => {}
                        Err(errno) => return Err(fail(errno)),
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Deeper directories hold nothing of ours (`segments/WRITER/NAME` has three segments); a bound keeps a foreign tree from costing stack.
const KEY_SEGMENTS_MAX: usize = 8;

impl Target for LocalTarget {
    fn url(&self) -> &str {
        &self.url
    }

    fn put(&self, key: &ObjectKey, parts: &[&[u8]]) -> Result<()> {
        let length: u64 = parts.iter().map(|part| part.len() as u64).sum();
        if let Ok((file, found)) = self.open_object(key)
            && found == length
        {
            // The name is there, but whoever put it may have lost power before it was durable: its answer is given only now.
            let (directory, _) =
                self.parent(key, Missing::Create).map_err(|errno| self.lookup_error(errno, key))?;
            return directory::sync_file(file.as_fd(), key.as_str())
                .and_then(|()| directory::sync(directory.as_fd(), parent_of(key)))
                .map_err(|errno| self.fail(errno, key, "it cannot be made durable"));
        }
        self.put_with(key, parts, Replace::Yes)
    }

    fn put_new(&self, key: &ObjectKey, parts: &[&[u8]]) -> Result<()> {
        self.put_with(key, parts, Replace::No)
    }

    fn get(&self, key: &ObjectKey) -> Result<Vec<u8>> {
        self.get_at_most(key, OBJECT_BYTES_MAX)
    }

    fn get_at_most(&self, key: &ObjectKey, limit: u64) -> Result<Vec<u8>> {
        let (file, length) = self.open_object(key)?;
        if length > limit {
            return Err(too_long(&self.url, key, limit));
        }
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(usize::try_from(length).unwrap_or(usize::MAX)).map_err(|error| {
            Error::caused(ErrorKind::Local, format!("{key}: no memory to read {length} bytes"), error)
        })?;
        file.take(length)
            .read_to_end(&mut bytes)
            .map_err(|error| io_error(error, format!("target {}: {key}: it cannot be read", self.url)))?;
        Ok(bytes)
    }

    fn get_range(&self, key: &ObjectKey, offset: u64, length: usize) -> Result<Vec<u8>> {
        let (file, file_bytes) = self.open_object(key)?;
        let there = usize::try_from(file_bytes.saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut bytes = vec![0u8; length.min(there)];
        let mut done = 0;
        while let Some(rest) = bytes.get_mut(done..)
            && !rest.is_empty()
        {
            match file.read_at(rest, offset + done as u64) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => {
                    let place =
                        format!("target {}: {key}: {length} bytes at {offset} cannot be read", self.url);
                    return Err(io_error(error, place));
                }
            }
        }
        bytes.truncate(done);
        Ok(bytes)
    }

    fn length(&self, key: &ObjectKey) -> Result<Option<u64>> {
        match self.open_object(key) {
            Ok((_, length)) => Ok(Some(length)),
            Err(error) if error.kind() == ErrorKind::NotFound => self.check_root().map(|()| None),
            Err(error) => Err(error),
        }
    }

    fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>> {
        self.check_root()?;
        let fail = |errno: Errno| {
            io_error(errno.into(), format!("target {}: {prefix:?} cannot be listed", self.url))
        };
        let mut objects = Vec::new();
        if !prefix.is_empty() {
            ObjectKey::new(prefix)?;
        }
        let directory = match self.directory(prefix, Missing::Fail) {
            Ok(directory) => directory,
            // An object's own key is a prefix of it too.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {
                let key = ObjectKey::new(prefix)?;
                return Ok(self.length(&key)?.map(|length| ObjectInfo { key, length }).into_iter().collect());
            }
            Err(errno) => return Err(fail(errno)),
        };
        self.list_directory(&directory, prefix, 0, &mut objects)?;
        objects.retain(|object| within_prefix(object.key.as_str(), prefix));
        objects.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        Ok(objects)
    }

    fn delete(&self, key: &ObjectKey) -> Result<()> {
        let removed = self.parent(key, Missing::Fail).and_then(|(directory, name)| {
            directory::remove(directory.as_fd(), &name)?;
            directory::sync(directory.as_fd(), parent_of(key))
        });
        match removed {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(self.fail(errno, key, "it cannot be removed")),
        }
    }

    fn set_aside(&self, key: &ObjectKey) -> Result<ObjectKey> {
        let (directory, name) =
            self.parent(key, Missing::Fail).map_err(|errno| self.lookup_error(errno, key))?;
        for number in 0u32.. {
            let aside = key.aside(number)?;
            let moved = self.parent(&aside, Missing::Create).and_then(|(aside_directory, aside_name)| {
                directory::rename_new(directory.as_fd(), &name, aside_directory.as_fd(), &aside_name)?;
                directory::sync(aside_directory.as_fd(), parent_of(&aside))?;
                directory::sync(directory.as_fd(), parent_of(key))
            });
            match moved {
                Ok(()) => return Ok(aside),
                Err(Errno::EXIST) => {}
                Err(Errno::NOENT) => return Err(self.lookup_error(Errno::NOENT, key)),
                Err(errno) => return Err(self.fail(errno, key, "it cannot be set aside")),
            }
        }
        Err(Error::new(
            ErrorKind::Target,
            format!("target {}: {key}: no name is left to set it aside", self.url),
        ))
    }

    fn put_back(&self, aside: &ObjectKey, key: &ObjectKey) -> Result<()> {
        let (from, from_name) =
            self.parent(aside, Missing::Fail).map_err(|errno| self.lookup_error(errno, aside))?;
        let moved = self.parent(key, Missing::Create).and_then(|(to, to_name)| {
            directory::rename_new(from.as_fd(), &from_name, to.as_fd(), &to_name)?;
            directory::sync(to.as_fd(), parent_of(key))?;
            directory::sync(from.as_fd(), parent_of(aside))
        });
        moved.map_err(|errno| match errno {
            Errno::NOENT => self.lookup_error(Errno::NOENT, aside),
            Errno::EXIST => Error::new(
                ErrorKind::AlreadyExists,
                format!("target {}: {key}: something is there already", self.url),
            ),
            errno => self.fail(errno, key, "it cannot be put back"),
        })
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Missing {
    Fail,
    Create,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Replace {
    Yes,
    No,
}

/// The directory in which an object's name stands.
fn parent_of(key: &ObjectKey) -> &str {
    key.as_str().rsplit_once('/').map_or("", |(parents, _)| parents)
}

fn c_string(name: &str) -> Result<CString, Errno> {
    CString::new(name).map_err(|_| Errno::INVAL)
}

fn length_of(stat: &rustix::fs::Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or(0)
}

fn kind_of(errno: Errno) -> ErrorKind {
    match errno {
        Errno::NOSPC | Errno::DQUOT => ErrorKind::TargetFull,
        Errno::NOENT => ErrorKind::NotFound,
        _ => ErrorKind::Target,
    }
}

/// An error of the system: a full disk is told apart, all else is the target's fault (a name that vanishes in the midst of a put is no
/// missing object).
fn io_error(error: std::io::Error, place: String) -> Error {
    let kind = match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::NOSPC | Errno::DQUOT) => ErrorKind::TargetFull,
        _ => ErrorKind::Target,
    };
    Error::caused(kind, place, error)
}
