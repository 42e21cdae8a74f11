//! The reading stage as a backup uses it: entries in, findings out.

use std::io::Read;

use super::commit::Finding;
use super::join::Difference;
use super::record::Observed;
use crate::catalog::CurrentEntry;
use crate::entry_key::EntryKey;
use crate::error::{Error, ErrorKind, Result};
use crate::metadata::unix::{Captured, Owners};
use crate::metadata::{Kind, Metadata, Timestamp};
use crate::monitor::{Event, Fault, FaultSide, Monitor};
use crate::pipeline::order::Work;
use crate::pipeline::read::{BATCH_BYTES, Batch, BatchWriter, Contents, stopped};
use crate::source::{Entry, ScanStart, SourceFile};
use crate::version::Marks;

/// Entries that one worker takes at once.
pub(super) type Job = Vec<Item>;

/// One entry for a worker.
pub(super) enum Item {
    /// An entry of the walk.
    Difference(Difference),
    /// Bytes from elsewhere, as a file.
    Stream(Box<Stream>),
}

/// Bytes that come from no file.
pub(super) struct Stream {
    pub(super) key: EntryKey,
    pub(super) metadata: Metadata,
    pub(super) previous: Option<Box<CurrentEntry>>,
    pub(super) reader: Box<dyn Read + Send>,
}

/// A job is full at this many bytes of files: one batch.
const JOB_BYTES: u64 = BATCH_BYTES as u64;
/// Or at this many entries: enough that handing jobs over costs nothing, few enough that all workers are busy early.
const JOB_ENTRIES: usize = 64;

/// Gathers differences into jobs.
#[derive(Default)]
pub(super) struct JobBuilder {
    job: Job,
    bytes: u64,
}

impl JobBuilder {
    /// Adds one; a job that is full comes back.
    pub(super) fn add(&mut self, difference: Difference) -> Option<Job> {
        self.bytes += match &difference {
            Difference::Found { entry, .. } if entry.stat().kind == Kind::File => entry.stat().size,
            _ => 0,
        };
        self.job.push(Item::Difference(difference));
        (self.bytes >= JOB_BYTES || self.job.len() >= JOB_ENTRIES).then(|| self.take())
    }

    /// What is there.
    pub(super) fn take(&mut self) -> Job {
        self.bytes = 0;
        std::mem::take(&mut self.job)
    }
}

/// What all workers share.
pub(super) struct Reading<'a> {
    pub(super) cutter: &'a crate::chunk::Cutter,
    pub(super) hasher: &'a crate::chunk::Hasher,
    pub(super) owners: &'a Owners,
    pub(super) start: ScanStart,
    pub(super) monitor: &'a dyn Monitor,
}

impl Contents for SourceFile {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        SourceFile::read(self, buffer)
    }
}

/// Contents whose bytes are told as they come, and whose reading can be stopped: one file may take hours.
struct Watched<'a, C> {
    contents: &'a mut C,
    monitor: &'a dyn Monitor,
    /// Bytes so far.
    bytes: u64,
}

impl<'a, C: Contents> Watched<'a, C> {
    fn new(contents: &'a mut C, monitor: &'a dyn Monitor) -> Self {
        Self { contents, monitor, bytes: 0 }
    }

    /// Tells that a file of `size` bytes is done: holes are passed over, not read.
    fn finish(&self, size: u64) {
        self.monitor.event(Event::Advance { bytes: size.saturating_sub(self.bytes), items: 1 });
    }
}

impl<C: Contents> Contents for Watched<'_, C> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        if self.monitor.cancelled() {
            return Err(stopped());
        }
        let count = self.contents.read(buffer)?;
        if count > 0 {
            self.bytes += count as u64;
            self.monitor.event(Event::Advance { bytes: count as u64, items: 0 });
        }
        Ok(count)
    }
}

struct StreamContents<'a>(&'a mut dyn Read);

impl Contents for StreamContents<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        loop {
            match self.0.read(buffer) {
                Ok(count) => return Ok(count),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => {
                    return Err(Error::caused(ErrorKind::Source, "standard input cannot be read", error));
                }
            }
        }
    }
}

/// A finding in the making: its chunks are known to the gatherer.
pub(super) enum Ended {
    /// Looked at, and read if it is a file.
    Observed(Box<Observed>),
    /// Gone.
    Gone(EntryKey),
    /// As it was, and to be said again.
    Kept(EntryKey),
    /// Could not be read. If it was there before, its place.
    Failed(Option<EntryKey>),
}

impl Ended {
    pub(super) fn finding(self) -> Finding {
        match self {
            Self::Observed(observed) => Finding::Observed(observed),
            Self::Gone(key) => Finding::Gone(key),
            Self::Kept(key) => Finding::Kept(key),
            Self::Failed(key) => Finding::Failed(key),
        }
    }
}

/// Does jobs until no more come. Run on each of several threads.
pub(super) fn work(reading: &Reading<'_>, work: &Work<Job, Batch<Ended>>) {
    while let Some((job, out)) = work.take() {
        let mut writer = BatchWriter::new(reading.cutter, reading.hasher, &out);
        let done = job.into_iter().try_for_each(|item| reading.item(item, &mut writer));
        // A gatherer that stopped has said why.
        if done.and_then(|()| writer.finish()).is_err() {
            return;
        }
    }
}

/// Ends an entry in the batch.
fn end(ended: Ended, writer: &mut BatchWriter<'_, Ended>) -> Result<()> {
    let weight = match &ended {
        Ended::Observed(observed) => observed.metadata.memory_bytes(),
        Ended::Gone(_) | Ended::Kept(_) | Ended::Failed(_) => 0,
    };
    writer.end(ended, weight)
}

impl Reading<'_> {
    fn item(&self, item: Item, writer: &mut BatchWriter<'_, Ended>) -> Result<()> {
        match item {
            Item::Difference(Difference::Gone { key }) => end(Ended::Gone(key), writer),
            Item::Difference(Difference::Kept { key }) => end(Ended::Kept(key), writer),
            Item::Difference(Difference::Found { entry, previous }) => {
                let had = previous.is_some();
                match self.found(&entry, previous, writer) {
                    Ok(observed) => end(Ended::Observed(Box::new(observed)), writer),
                    Err(error) if error.kind() == ErrorKind::Cancelled => Err(error),
                    // Between the walk and now it went: so it is gone, and nothing is wrong, unless something was there before to be kept.
                    Err(error) => {
                        let during = if entry.stat().kind == Kind::File { "read" } else { "scan" };
                        let error = if error.kind() == ErrorKind::NotFound && !had {
                            Error::new(ErrorKind::Source, "vanished before it could be read")
                        } else {
                            error.with_kind(ErrorKind::Source)
                        };
                        self.fault(entry.key(), during, error);
                        end(Ended::Failed(had.then(|| entry.key().clone())), writer)
                    }
                }
            }
            Item::Stream(stream) => {
                let Stream { key, mut metadata, previous, mut reader } = *stream;
                let mut contents = StreamContents(&mut *reader);
                let mut watched = Watched::new(&mut contents, self.monitor);
                match writer.contents(&mut watched) {
                    Ok(size) => {
                        metadata.size = size;
                        watched.finish(size);
                        let observed = Observed { key, metadata, marks: Marks::NONE, previous };
                        end(Ended::Observed(Box::new(observed)), writer)
                    }
                    Err(error) if error.kind() == ErrorKind::Cancelled => Err(error),
                    Err(error) => {
                        self.fault(&key, "read", error);
                        end(Ended::Failed(previous.map(|_| key)), writer)
                    }
                }
            }
        }
    }

    fn found(
        &self,
        entry: &Entry,
        previous: Option<Box<CurrentEntry>>,
        writer: &mut BatchWriter<'_, Ended>,
    ) -> Result<Observed> {
        let mut marks = Marks::NONE;
        let captured = if entry.stat().kind == Kind::File {
            let mut file = entry.open()?;
            let mut captured = file.capture(self.owners)?;
            let mut watched = Watched::new(&mut file, self.monitor);
            writer.contents(&mut watched)?;
            watched.finish(captured.metadata.size);
            let outcome = file.finish()?;
            if outcome.changed {
                marks = marks.with(Marks::CHANGED_WHILE_READ);
                let error = Error::new(
                    ErrorKind::Source,
                    "changed while it was read; stored as it was read, and marked",
                );
                self.fault(entry.key(), "read", error);
            }
            outcome.complete(&mut captured.metadata);
            captured
        } else {
            entry.capture(self.owners)?
        };
        let Captured { metadata, faults } = captured;
        for error in faults {
            self.fault(entry.key(), "scan", error);
        }
        if self.start.is_racy(metadata.ctime) {
            marks = marks.with(Marks::RACY);
        }
        Ok(Observed { key: entry.key().clone(), metadata, marks, previous })
    }

    fn fault(&self, key: &EntryKey, during: &'static str, error: Error) {
        self.monitor.fault(Fault { side: FaultSide::Source, item: key.to_string(), during, error });
    }
}

/// The metadata of a file that is made of a stream.
pub(super) fn stream_metadata(owners: &Owners, now: Timestamp) -> Metadata {
    let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    Metadata {
        kind: Kind::File,
        mode: 0o600,
        uid,
        gid,
        user: owners.user(uid),
        group: owners.group(gid),
        mtime: now,
        ctime: now,
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
