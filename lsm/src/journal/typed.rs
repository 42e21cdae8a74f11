//! A directory of logs, for use without a database around it: payloads of one type in, the same out after a crash.
//!
//! The chain of first records does what the manifest does for a database: where a log was cut is durable when the next one exists.
//! What it cannot notice is that the newest log is missing, or that the oldest ones are; and a loss that was accepted once
//! ([`RecoveryMode::PointInTime`], [`RecoveryMode::Salvage`]: for reading out what is left) has to be accepted at each opening.
//! Who needs more keeps a record of the logs, as the database does.

use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::sync::Mutex;

use super::logfile::{LogEnd, LogKind, Start, random_identity};
use super::reader::RecordReader;
use super::recover::{
    Access, ExpectedLog, Flushed, JournalRecovery, RecoverOptions, RecoveryMode, first_record, recover,
};
use super::{BatchRecord, Durability, Journal, JournalOptions, Verdict, sites};
use crate::checksum::Identity;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::filename::{FileName, FileNumber};
use crate::fs::{FileSystem, Lock, LockMode};
use crate::key::SequenceNumber;

/// What a [`TypedJournal`] holds.
pub trait Payload: Sized {
    /// Appends the encoding.
    fn encode(&self, out: &mut Vec<u8>);

    /// The payload from its encoding.
    ///
    /// # Errors
    /// Corruption, if the bytes are no encoding: their checksum held, so another program wrote them.
    fn decode(bytes: &[u8]) -> Result<Self>;
}

/// Bytes are a payload.
impl Payload for Vec<u8> {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }

    fn decode(bytes: &[u8]) -> Result<Self> {
        Ok(bytes.to_vec())
    }
}

/// See the module. Methods may be called from many threads; commits that come together share a sync.
#[derive(Debug)]
pub struct TypedJournal<P> {
    fs: Arc<dyn FileSystem>,
    directory: PathBuf,
    database: Identity,
    options: JournalOptions,
    state: Mutex<State>,
    _lock: Box<dyn Lock>,
    _payload: PhantomData<fn(P) -> P>,
}

#[derive(Debug)]
struct State {
    journal: Option<Arc<Journal>>,
    next_number: FileNumber,
    next_sequence: SequenceNumber,
    /// The end of the newest log that was ended or cut.
    previous: Option<LogEnd>,
    /// The logs before the open one, and the last sequence number of each.
    ended: Vec<(FileNumber, SequenceNumber)>,
    /// Files that were being created when a crash came.
    never_begun: Vec<FileNumber>,
    closed: bool,
    /// The error of a log that could not be created.
    failed: Option<Error>,
}

impl<P: Payload> TypedJournal<P> {
    /// Opens the journal in a directory, which is made if there is none, and calls `visit` for every payload that is there,
    /// in order. Opening after [`TypedJournal::close`] writes nothing; the first append creates a log.
    ///
    /// # Errors
    /// [`ErrorKind::Locked`] if it is open elsewhere; those of [`recover`], of decoding, and of `visit`.
    pub fn open(
        fs: Arc<dyn FileSystem>,
        directory: &Path,
        options: JournalOptions,
        mode: RecoveryMode,
        mut visit: impl FnMut(SequenceNumber, P) -> Result<()>,
    ) -> Result<(Self, JournalRecovery)> {
        fs.create_dir_all(directory, sites::CREATE_DIRECTORY).context("create the directory", directory)?;
        let lock_path = FileName::Lock.path(directory);
        let lock =
            fs.try_lock(&lock_path, LockMode::Exclusive).context("lock", &lock_path)?.ok_or_else(|| {
                Error::new(ErrorKind::Locked, "the journal is open elsewhere; close it there first")
                    .at(&lock_path)
            })?;
        let names = fs.read_dir(directory).context("list", directory)?;
        let mut numbers: Vec<FileNumber> = names
            .iter()
            .filter_map(|name| match FileName::parse(name) {
                Some(FileName::Log(number)) => Some(number),
                _ => None,
            })
            .collect();
        numbers.sort_unstable();
        let next_number = match numbers.last() {
            None => 1,
            Some(last) => last.checked_add(1).ok_or_else(|| {
                let what =
                    "the numbers of logs are used up: if this file is none of the journal's, move it away";
                Error::corruption(what).at(FileName::Log(*last).path(directory))
            })?,
        };
        let first = oldest_start(fs.as_ref(), directory, &numbers)?;
        let database = first.map_or_else(random_identity, |start| Ok(start.database))?;
        // What the removed logs held is taken to be where it belongs. But if the log before the oldest readable one is
        // there, and is not readable, then it was not removed.
        let removed = first.and_then(|start| start.previous).filter(|log| !numbers.contains(&log.number));
        let every = removed.map_or(0, |log| log.last_sequence);
        let flushed = Flushed { every, any: every };
        let options_of_recovery = RecoverOptions { database, flushed, mode, access: Access::Write };
        let expected: Vec<ExpectedLog> =
            numbers.iter().map(|number| ExpectedLog { number: *number, identity: None, cut: None }).collect();
        let recovery = recover(&fs, directory, &expected, &options_of_recovery, &mut |batch| {
            let payload = P::decode(batch.payload).map_err(|error| {
                error.at(FileName::Log(batch.log).path(directory)).at_offset(batch.offset)
            })?;
            visit(batch.first_sequence, payload)
        })?;
        let state = State {
            journal: None,
            next_number,
            next_sequence: recovery.next_sequence,
            previous: recovery.end,
            never_begun: recovery
                .logs
                .iter()
                .filter(|log| log.verdict == Verdict::NeverBegun)
                .map(|log| log.number)
                .collect(),
            ended: recovery
                .logs
                .iter()
                .filter(|log| log.verdict != Verdict::NeverBegun)
                .map(|log| (log.number, log.last_sequence))
                .collect(),
            closed: false,
            failed: None,
        };
        let journal = Self {
            fs,
            directory: directory.to_owned(),
            database,
            options,
            state: Mutex::new(state),
            _lock: lock,
            _payload: PhantomData,
        };
        Ok((journal, recovery))
    }

    /// Appends a payload; returns its sequence number once it is as durable as asked.
    ///
    /// # Errors
    /// Those of [`Journal::append`] and of the durability; of creating a log.
    pub fn append(&self, payload: &P, durability: Durability) -> Result<SequenceNumber> {
        let mut bytes = Vec::new();
        payload.encode(&mut bytes);
        let (journal, position, sequence) = {
            let mut state = self.state.lock();
            let journal = self.open_log(&mut state)?;
            let sequence = state.next_sequence;
            let position = journal.append(BatchRecord {
                first_sequence: sequence,
                op_count: 1,
                sync: durability == Durability::Synced,
                payload: &bytes,
            })?;
            state.next_sequence += 1;
            (journal, position, sequence)
        };
        match durability {
            Durability::Process => {}
            Durability::System => journal.write_through(position)?,
            Durability::Synced => journal.sync_through(position)?,
        }
        Ok(sequence)
    }

    /// The open log; the first append makes one.
    fn open_log(&self, state: &mut State) -> Result<Arc<Journal>> {
        if state.closed {
            return Err(Error::new(ErrorKind::Closed, "the journal was closed").at(&self.directory));
        }
        if let Some(first) = &state.failed {
            return Err(Error::failed(first));
        }
        if let Some(journal) = &state.journal {
            return Ok(Arc::clone(journal));
        }
        let number = state.next_number;
        // Whatever comes of it, the name is used up.
        state.next_number += 1;
        let start = Start {
            number,
            identity: random_identity()?,
            database: self.database,
            previous: state.previous,
            next_sequence: state.next_sequence,
        };
        let path = FileName::Log(number).path(&self.directory);
        // Half a log may be there now. It must not stand between two whole ones: so there is no second try.
        let journal = Journal::create(&self.fs, &path, start, self.options.clone())
            .inspect_err(|error| state.failed = Some(error.clone()))?;
        let journal = Arc::new(journal);
        state.journal = Some(Arc::clone(&journal));
        Ok(journal)
    }

    /// Makes everything appended so far durable.
    ///
    /// # Errors
    /// Those of [`Journal::sync_through`].
    pub fn sync(&self) -> Result<()> {
        let journal = self.state.lock().journal.clone();
        journal.map_or(Ok(()), |journal| journal.sync_through(journal.position()))
    }

    /// Notes durably-known progress in the log, without a sync: see [`Journal::mark`].
    ///
    /// # Errors
    /// Those of [`Journal::mark`].
    pub fn mark(&self) -> Result<()> {
        let journal = self.state.lock().journal.clone();
        journal.map_or(Ok(()), |journal| journal.mark())
    }

    /// Ends the open log, so that it can be removed; the next append begins another.
    ///
    /// # Errors
    /// Those of [`Journal::end`].
    pub fn rotate(&self) -> Result<()> {
        let mut state = self.state.lock();
        if let Some(journal) = &state.journal {
            let end = journal.end(state.next_sequence - 1)?;
            state.journal = None;
            state.previous = Some(end);
            state.ended.push((end.number, end.last_sequence));
        }
        Ok(())
    }

    /// Removes each log that is ended and holds nothing above `sequence`; returns how many. The newest ended log stays
    /// until the next one exists, as it alone says how the journal ended.
    ///
    /// # Errors
    /// Those of removing and of syncing the directory.
    pub fn remove_through(&self, sequence: SequenceNumber) -> Result<usize> {
        let mut state = self.state.lock();
        // These first: so that the oldest file is always a log that says what was before it.
        while let Some(number) = state.never_begun.last().copied() {
            self.remove(number)?;
            state.never_begun.pop();
        }
        let mut count = 0;
        while let Some((number, last_sequence)) = state.ended.first().copied()
            && last_sequence <= sequence
            && (state.journal.is_some() || state.ended.len() > 1)
        {
            self.remove(number)?;
            state.ended.remove(0);
            count += 1;
        }
        Ok(count)
    }

    /// One at a time, durably: were a later one to go first, an earlier one would stand before a gap after a crash.
    fn remove(&self, number: FileNumber) -> Result<()> {
        let path = FileName::Log(number).path(&self.directory);
        match self.fs.remove_file(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            removed => removed.context("remove", &path)?,
        }
        self.fs
            .sync_dir(&self.directory, sites::REMOVE_DIRECTORY)
            .context("sync the directory", &self.directory)
    }

    /// Ends the open log: opening again finds a clean end.
    ///
    /// # Errors
    /// Those of [`Journal::end`].
    pub fn close(self) -> Result<()> {
        self.rotate()?;
        self.state.lock().closed = true;
        Ok(())
    }
}

/// The first record of the oldest log in which it is whole.
fn oldest_start(fs: &dyn FileSystem, directory: &Path, numbers: &[FileNumber]) -> Result<Option<Start>> {
    for number in numbers {
        let path = FileName::Log(*number).path(directory);
        let file = fs.open_read(&path).context("open", &path)?;
        match RecordReader::open(file, &path, LogKind::Journal) {
            Ok(mut reader) => {
                if let Some(start) = first_record(&mut reader)? {
                    return Ok(Some(start));
                }
            }
            // Recovery says what it is, or that it does not matter.
            Err(error) if error.kind() == ErrorKind::Corruption => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::{CrashPolicy, MemFs};

    type Bytes = Vec<u8>;

    fn open(fs: &MemFs) -> (TypedJournal<Bytes>, JournalRecovery, Vec<(SequenceNumber, Bytes)>) {
        let mut found = Vec::new();
        let (journal, recovery) = TypedJournal::open(
            Arc::new(fs.clone()),
            Path::new("/j"),
            JournalOptions::default(),
            RecoveryMode::Tail,
            |sequence, payload| {
                found.push((sequence, payload));
                Ok(())
            },
        )
        .unwrap();
        (journal, recovery, found)
    }

    #[test]
    fn what_was_appended_comes_back_after_a_clean_close() {
        let fs = MemFs::new();
        let (journal, recovery, found) = open(&fs);
        assert!(found.is_empty() && recovery.logs.is_empty());
        for payload in [&b"one"[..], b"", b"three"] {
            journal.append(&payload.to_vec(), Durability::Process).unwrap();
        }
        journal.close().unwrap();
        let calls = fs.calls();
        let (journal, recovery, found) = open(&fs);
        assert_eq!(found, [(1, b"one".to_vec()), (2, vec![]), (3, b"three".to_vec())]);
        assert_eq!(recovery.logs[0].verdict, Verdict::CleanEnd);
        assert!(recovery.cuts.is_empty());
        drop(journal);
        let names: Vec<_> = fs.read_dir(Path::new("/j")).unwrap();
        assert_eq!(names.len(), 2, "the lock and one log: {names:?}");
        assert!(fs.calls() - calls <= 2, "nothing but syncs: {:?}", fs.last_call());
    }

    #[test]
    fn numbers_that_are_used_up_are_an_error() {
        let fs = MemFs::new();
        drop(open(&fs));
        let last = FileName::Log(FileNumber::MAX).path(Path::new("/j"));
        fs.create_new(&last).unwrap();
        let opened = TypedJournal::<Bytes>::open(
            Arc::new(fs),
            Path::new("/j"),
            JournalOptions::default(),
            RecoveryMode::Tail,
            |_, _| Ok(()),
        );
        let error = opened.unwrap_err();
        assert_eq!((error.kind(), error.path()), (ErrorKind::Corruption, Some(last.as_path())));
    }

    #[test]
    fn synced_payloads_survive_a_power_loss() {
        let fs = MemFs::new();
        let (journal, _, _) = open(&fs);
        journal.append(&b"one".to_vec(), Durability::Synced).unwrap();
        journal.append(&b"two".to_vec(), Durability::System).unwrap();
        let (journal, recovery, found) = open(&fs.crash(CrashPolicy::SyncedOnly, 0));
        assert_eq!(found, [(1, b"one".to_vec())]);
        assert_eq!(recovery.cuts.len(), 1);
        assert_eq!(journal.append(&b"three".to_vec(), Durability::Synced).unwrap(), recovery.next_sequence);
    }
}
