//! The outbox: a writer's own segments, durable here before anything of them leaves.
//!
//! A segment is written aside, synced, renamed, and the folder synced, before it is put on any target; it is never made a second time with other
//! contents, for the next one is chained to what lies here. The newest segment always stays: it is the end of the chain. A file
//! `writer` says whose log it is; when it is lost or damaged the log is not continued, a new writer begins. What each crash point leaves:
//! FORMAT.md, the outbox.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};
use crate::id::{ObjectHash, WriterId};

use super::{SEGMENT_BYTES_MAX, Segment, SegmentName, SegmentObject, Sequence};

const SUFFIX: &str = ".segment";
const ASIDE_SUFFIX: &str = ".tmp";
const WRITER_FILE: &str = "writer";

/// The folder of the segments that this machine wrote.
#[derive(Debug)]
pub struct Outbox {
    dir: PathBuf,
}

/// Where a writer's log ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogEnd {
    /// Whose log.
    pub writer: WriterId,
    /// The newest segment, if there is one.
    pub newest: Option<(Sequence, ObjectHash)>,
}

impl LogEnd {
    /// The place of the next segment.
    pub fn next_sequence(&self) -> Sequence {
        Sequence(self.newest.map_or(1, |(sequence, _)| sequence.0 + 1))
    }

    /// What the next segment names as the one before.
    pub fn predecessor(&self) -> ObjectHash {
        self.newest.map_or(ObjectHash::from_bytes([0; 32]), |(_, hash)| hash)
    }
}

fn failed(doing: &str, path: &Path, error: io::Error) -> Error {
    Error::caused(ErrorKind::Local, format!("the outbox: {doing} {}", path.display()), error)
}

fn sync_dir(path: &Path) -> Result<()> {
    let dir = File::open(path).map_err(|error| failed("open", path, error))?;
    dir.sync_all().map_err(|error| failed("sync", path, error))
}

fn file_name(name: &SegmentName) -> String {
    format!("{}-{}-{}{SUFFIX}", name.writer, name.sequence, name.hash)
}

fn parse_file_name(text: &str) -> Option<SegmentName> {
    let mut parts = text.strip_suffix(SUFFIX)?.split('-');
    let (writer, sequence, hash) = (parts.next()?, parts.next()?, parts.next()?);
    let name = SegmentName {
        writer: writer.parse().ok()?,
        sequence: Sequence(u64::from_str_radix(sequence, 16).ok()?),
        hash: hash.parse().ok()?,
    };
    (file_name(&name) == text).then_some(name)
}

impl Outbox {
    /// Opens the folder; makes it if there is none, and clears away what a crash left half written.
    ///
    /// # Errors
    /// Local.
    pub fn open(dir: impl Into<PathBuf>) -> Result<Self> {
        let outbox = Self { dir: dir.into() };
        fs::create_dir_all(&outbox.dir).map_err(|error| failed("create", &outbox.dir, error))?;
        for path in outbox.files()? {
            if path.to_string_lossy().ends_with(ASIDE_SUFFIX) {
                fs::remove_file(&path).map_err(|error| failed("remove", &path, error))?;
            }
        }
        Ok(outbox)
    }

    fn files(&self) -> Result<Vec<PathBuf>> {
        let at = |error| failed("list", &self.dir, error);
        fs::read_dir(&self.dir).map_err(at)?.map(|entry| Ok(entry.map_err(at)?.path())).collect()
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let path = self.dir.join(name);
        let aside = self.dir.join(format!("{name}{ASIDE_SUFFIX}"));
        let mut file = File::create(&aside).map_err(|error| failed("create", &aside, error))?;
        file.write_all(bytes).map_err(|error| failed("write", &aside, error))?;
        file.sync_all().map_err(|error| failed("sync", &aside, error))?;
        drop(file);
        fs::rename(&aside, &path).map_err(|error| failed("rename", &path, error))?;
        sync_dir(&self.dir)
    }

    /// Keeps a segment: durable when this returns.
    ///
    /// # Errors
    /// Local.
    ///
    /// # Panics
    /// If another segment of the same place is here: a segment is never made twice with other contents.
    pub fn add(&self, segment: &SegmentObject) -> Result<()> {
        let name = segment.name;
        let twice = self
            .segments()?
            .iter()
            .any(|old| old.writer == name.writer && old.sequence == name.sequence && old.hash != name.hash);
        assert!(!twice, "{name}: another segment was made for this place before");
        self.write(&file_name(&name), &segment.bytes)
    }

    /// The segments here: by writer, then by place in its log.
    ///
    /// # Errors
    /// Local.
    pub fn segments(&self) -> Result<Vec<SegmentName>> {
        let mut names: Vec<SegmentName> =
            self.files()?.iter().filter_map(|path| parse_file_name(path.file_name()?.to_str()?)).collect();
        names.sort();
        Ok(names)
    }

    /// A segment that is here.
    ///
    /// # Errors
    /// Not found, if it is not; damage, naming it, if its bytes are not those of its name, or its place on the disk is bad; local.
    pub fn read(&self, name: &SegmentName) -> Result<SegmentObject> {
        let path = self.dir.join(file_name(name));
        let length = match fs::metadata(&path) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Error::new(ErrorKind::NotFound, format!("{name} is not in the outbox")));
            }
            Err(error) => return Err(failed("look at", &path, error)),
        };
        if length > SEGMENT_BYTES_MAX as u64 {
            return Err(Error::damage(format!("{}: {length} bytes are too many", path.display())));
        }
        let bytes = fs::read(&path).map_err(|error| match error.raw_os_error() {
            // A bad sector: it will not be read tomorrow either.
            Some(errno) if errno == rustix::io::Errno::IO.raw_os_error() => {
                failed("read", &path, error).with_kind(ErrorKind::Damage)
            }
            _ => failed("read", &path, error),
        })?;
        let object = SegmentObject { name: *name, bytes: Arc::new(bytes) };
        Segment::open(&object).map_err(|error| error.at(path.display()))?;
        Ok(object)
    }

    /// Removes a segment that targets hold.
    ///
    /// # Errors
    /// Local.
    pub fn remove(&self, name: &SegmentName) -> Result<()> {
        let path = self.dir.join(file_name(name));
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", &path, error)),
            _ => Ok(()),
        }
    }

    /// The end of the log that is written here; `None` if there is none that can be continued for certain.
    ///
    /// # Errors
    /// Local.
    pub fn end(&self) -> Result<Option<LogEnd>> {
        let path = self.dir.join(WRITER_FILE);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData) => {
                return Ok(None);
            }
            Err(error) => return Err(failed("read", &path, error)),
        };
        let Some(writer) = parse_writer_file(&text) else { return Ok(None) };
        let newest = self.segments()?.into_iter().rfind(|name| name.writer == writer);
        let Some(name) = newest else { return Ok(Some(LogEnd { writer, newest: None })) };
        // The end of the chain must be whole: its hash is what the next segment names.
        match self.read(&name) {
            Ok(_) => Ok(Some(LogEnd { writer, newest: Some((name.sequence, name.hash)) })),
            Err(error) if matches!(error.kind(), ErrorKind::Damage | ErrorKind::NotFound) => Ok(None),
            // What cannot be read for another reason may be whole: a log is not given up for that.
            Err(error) => Err(error),
        }
    }

    /// Begins the log of a new writer.
    ///
    /// # Errors
    /// Local.
    pub fn begin_log(&self) -> Result<LogEnd> {
        let writer = WriterId::random()?;
        // The folder may have been made just now: what is written in it is durable only if its own name is.
        if let Some(parent) = self.dir.parent() {
            sync_dir(parent)?;
        }
        self.write(WRITER_FILE, writer_file(writer).as_bytes())?;
        Ok(LogEnd { writer, newest: None })
    }
}

/// The id, and the first 16 digits of its hash: a torn or edited file names no writer.
fn writer_file(writer: WriterId) -> String {
    let check = ObjectHash::of(&[writer.as_bytes()]).to_string();
    format!("{writer} {}\n", check.get(..16).unwrap_or_default())
}

fn parse_writer_file(text: &str) -> Option<WriterId> {
    let writer = text.get(..32)?.parse().ok()?;
    (writer_file(writer) == text).then_some(writer)
}
