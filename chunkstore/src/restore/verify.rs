//! `--verify`: every restored file is read again and compared with the snapshot, chunk by chunk.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use rustix::fs::{Mode, OFlags, SeekFrom};
use rustix::io::Errno;

use super::report::{Count, Report, destination};
use super::select::{Decision, Selection};
use super::special::c_name;
use super::tree::open_top;
use super::unlike::Unlike;
use super::{RestoreOptions, RestoreSource, cancelled};
use crate::directory::{Directory, Opening};
use crate::entry_key::EntryKey;
use crate::error::{Error, ErrorKind, Result};
use crate::metadata::unix::Stat;
use crate::metadata::{Extents, Kind};
use crate::version::Version;

/// How many files are compared before the next ones are gathered.
const FILES_AT_ONCE: usize = 512;

struct Job {
    key: EntryKey,
    directory: Arc<Directory>,
    version: Version,
}

/// Compares every selected file but those in `unlike`.
///
/// # Errors
/// Local; cancelled.
pub(super) fn verify(
    source: &dyn RestoreSource,
    options: &RestoreOptions,
    selection: &Selection,
    unlike: &Unlike,
    report: &Report<'_>,
) -> Result<()> {
    let top = open_top(&options.target)
        .map_err(|errno| destination("the target directory is not there any more", errno))?;
    let mut way = Way::new(options.base.clone(), top, selection, unlike);
    let mut jobs = Vec::new();
    let mut seen = 0u64;
    for entry in source.entries()? {
        let (key, version) = entry?;
        if report.monitor.cancelled() {
            return Err(cancelled());
        }
        let Some(parent) = key.parent().filter(|parent| parent.is_within(&options.base)) else { continue };
        if version.metadata.kind != Kind::File || unlike.contains(&key) {
            continue;
        }
        let Some(level) = way.enter(&parent) else { continue };
        if selection.decide(&key.path(), false, level.taken) != Decision::Take {
            continue;
        }
        seen += 1;
        match &level.directory {
            Ok(directory) => jobs.push(Job { key, directory: Arc::clone(directory), version }),
            Err(error) => report.fault(&key, "verify", error.clone()),
        }
        if jobs.len() >= FILES_AT_ONCE {
            compare_all(source, options, report, &std::mem::take(&mut jobs))?;
        }
    }
    compare_all(source, options, report, &jobs)?;
    // Whatever the reason: nobody is to believe that all was compared.
    if seen < report.files() {
        let what = format!("{seen} of {} restored files were compared", report.files());
        report.fault(&options.base, "verify", Error::new(ErrorKind::Destination, what));
    }
    Ok(())
}

/// A directory on the way from the target to where the comparison is.
struct Level {
    key: EntryKey,
    /// The directory, or why nothing in it can be read.
    directory: Result<Arc<Directory>>,
    /// Whether it was taken for its own sake.
    taken: bool,
}

struct Way<'a> {
    selection: &'a Selection,
    unlike: &'a Unlike,
    levels: Vec<Level>,
}

impl<'a> Way<'a> {
    fn new(base: EntryKey, top: Arc<Directory>, selection: &'a Selection, unlike: &'a Unlike) -> Self {
        Self { selection, unlike, levels: vec![Level { key: base, directory: Ok(top), taken: false }] }
    }

    /// Goes to `parent`; `None` if it was left out, or could not be made, which was told.
    fn enter(&mut self, parent: &EntryKey) -> Option<&Level> {
        while self.levels.len() > 1 && self.levels.last().is_some_and(|level| !parent.is_within(&level.key)) {
            self.levels.pop();
        }
        let depth = self.levels.last()?.key.depth();
        for name in parent.components().skip(depth) {
            let Level { key, directory, taken } = self.levels.last()?;
            let key = key.child(name).ok()?;
            let decision = self.selection.decide(&key.path(), true, *taken);
            if decision == Decision::Leave || self.unlike.contains(&key) {
                return None;
            }
            let directory = directory.clone().and_then(|directory| below(&directory, name));
            self.levels.push(Level { key, directory, taken: decision == Decision::Take });
        }
        self.levels.last()
    }
}

/// The directory `name` in another.
fn below(directory: &Arc<Directory>, name: &[u8]) -> Result<Arc<Directory>> {
    let name = c_name(name);
    let seen = directory.open().and_then(|open| Stat::at(open, &name));
    let seen =
        seen.map_err(|errno| destination("cannot be read again: a directory on the way to it", errno))?;
    Ok(directory.child(&name, seen, Opening::Fill))
}

fn compare_all(
    source: &dyn RestoreSource,
    options: &RestoreOptions,
    report: &Report<'_>,
    jobs: &[Job],
) -> Result<()> {
    let next = AtomicUsize::new(0);
    let end: Mutex<Option<Error>> = Mutex::default();
    let work = || {
        let mut buffer = Vec::new();
        while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
            if report.monitor.cancelled() {
                end.lock().get_or_insert_with(cancelled);
                return;
            }
            match compare(source, job, &mut buffer) {
                Ok(bytes) => report.done(Count::Verified, &job.key, bytes),
                Err(error) if error.kind() == ErrorKind::Local => {
                    end.lock().get_or_insert(error);
                    return;
                }
                Err(error) => report.fault(&job.key, "verify", error.with_kind(ErrorKind::Destination)),
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..options.thread_count().min(jobs.len()) {
            scope.spawn(work);
        }
    });
    end.into_inner().map_or(Ok(()), Err)
}

fn differs(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::Destination, what)
}

/// Compares a file with its Version. Returns how many bytes were read.
fn compare(source: &dyn RestoreSource, job: &Job, buffer: &mut Vec<u8>) -> Result<u64> {
    let read = |errno: Errno| destination("cannot be read again", errno);
    let directory = job.directory.open().map_err(read)?;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::openat(&directory, c_name(job.key.name()), flags, Mode::empty()).map_err(read)?;
    let stat = Stat::of(&file).map_err(read)?;
    let metadata = &job.version.metadata;
    if stat.kind != Kind::File || stat.size != metadata.size {
        return Err(differs(format!(
            "differs from the snapshot: {} bytes instead of {}",
            stat.size, metadata.size
        )));
    }
    let extents = Extents::of(metadata);
    let mut offset = 0u64;
    for span in source.spans(&job.version.contents)? {
        let span = span?;
        buffer.clear();
        let mut place = offset;
        for piece in extents.pieces(offset, u64::from(span.length)) {
            if buffer.is_empty() {
                place = piece.file_offset;
            }
            append(&file, piece.file_offset, piece.length, buffer).map_err(read)?;
        }
        if source.hasher().id(buffer) != span.id {
            let end = place + u64::from(span.length);
            return Err(differs(format!("differs from the snapshot somewhere in bytes {place} to {end}")));
        }
        offset += u64::from(span.length);
    }
    for hole in &metadata.holes {
        if !is_zero(&file, hole.offset, hole.offset + hole.length, buffer).map_err(read)? {
            let end = hole.offset + hole.length;
            return Err(differs(format!(
                "differs from the snapshot: bytes {} to {end} are not all zero",
                hole.offset
            )));
        }
    }
    Ok(offset)
}

/// Reads `length` bytes from `offset` behind what is in the buffer; fewer where the file ends.
fn append(file: &OwnedFd, offset: u64, length: u64, buffer: &mut Vec<u8>) -> rustix::io::Result<()> {
    let mut filled = buffer.len();
    let end = filled + usize::try_from(length).unwrap_or(0);
    let start = filled;
    buffer.resize(end, 0);
    while let Some(room) = buffer.get_mut(filled..end).filter(|room| !room.is_empty()) {
        match rustix::io::pread(file, room, offset + (filled - start) as u64) {
            Ok(0) => {
                buffer.truncate(filled);
                return Ok(());
            }
            Ok(count) => filled += count,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Whether all bytes from `at` to `end` are zero; those in holes are not read.
fn is_zero(file: &OwnedFd, mut at: u64, end: u64, buffer: &mut Vec<u8>) -> rustix::io::Result<bool> {
    while at < end {
        let data = match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Ok(data) => data,
            Err(Errno::NXIO) => return Ok(true),
            Err(_) => at,
        };
        if data >= end {
            return Ok(true);
        }
        buffer.clear();
        let length = (end - data).min(1 << 20);
        append(file, data, length, buffer)?;
        if buffer.iter().any(|byte| *byte != 0) {
            return Ok(false);
        }
        at = data + length;
    }
    Ok(true)
}
