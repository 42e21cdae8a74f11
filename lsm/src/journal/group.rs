//! The log that is being written: many threads append, one at a time writes, one at a time syncs, for all who wait.
//!
//! Who locks what: `state` is held to append (a copy into the buffer and a checksum), and between I/O calls; never during
//! one. `State::writing` is the right to write, `State::syncing` the right to sync; a thread that needs something written or
//! durable takes the right if it is free, and waits for its owner otherwise. While a sync runs others append and write;
//! the next leader syncs all of that at once: the group is whatever came in meanwhile, nobody waits for company.
//!
//! A sync covers what was written before it was called. So the durable offset is sampled before the call, and
//! published after it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::sync::{Condvar, Mutex, MutexGuard};

use super::logfile::{LogEnd, LogKind, Start, encode_end};
use super::record::{RECORD_ALIGNMENT, RECORD_HEADER_BYTES, RecordHeader, RecordKind, encode_record};
use super::recover::FIRST_RECORD_END;
use super::{Cut, RecordWriter, sites};
use crate::checksum::Identity;
use crate::error::{Error, ErrorKind, IoContext, Result, is_out_of_space};
use crate::filename::FileNumber;
use crate::fs::{Advice, File, FileSystem, SyncSite};
use crate::key::{SEQUENCE_MAX, SequenceNumber};

/// The first range that is zeroed ahead; each further one is twice as long, up to the option's value.
const ZERO_AHEAD_BYTES_MIN: u64 = 16 << 10;

/// What the system writes at least, on most machines.
const PAGE_BYTES: u64 = 4 << 10;

/// A buffer that once was very long is not kept.
const BUFFER_KEPT_BYTES: usize = 4 << 20;

/// What [`JournalOptions::pad_synced_bytes`] may be: more than a record's header, no more than any medium's sector.
const PAD_BYTES: std::ops::RangeInclusive<u64> = 64..=1 << 20;

/// The knobs of a log.
#[derive(Clone, Debug)]
pub struct JournalOptions {
    /// An append that leaves more than this in the buffer writes it: what a killed process may lose at
    /// [`Durability::Process`](super::Durability::Process). More saves calls; the default is 256 KiB.
    pub buffer_bytes: usize,
    /// Zeros are written at most this far ahead of synced commits, so that their syncs change no metadata of the file;
    /// starts small, doubles, and happens only while synced commits arrive. 0 turns it off; the default is 1 MiB, where
    /// one sync in many pays for the metadata.
    pub zero_ahead_bytes_max: u64,
    /// Each sync is filled up to a multiple of this many bytes (a power of two, from 64 to 1 MiB), so that no later write
    /// touches a sector that holds synced bytes: for media that may lose a whole sector when a write to it is torn.
    /// Costs that much space a sync. 0, the default, turns it off.
    pub pad_synced_bytes: u64,
}

impl JournalOptions {
    /// Succeeds if a log can be written so.
    pub(super) fn check(&self) -> Result<()> {
        let pad = self.pad_synced_bytes;
        if pad != 0 && (!pad.is_power_of_two() || !PAD_BYTES.contains(&pad)) {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                format!("pad_synced_bytes is {pad}: a power of two in {PAD_BYTES:?} is expected, or 0"),
            ));
        }
        Ok(())
    }
}

impl Default for JournalOptions {
    fn default() -> Self {
        Self { buffer_bytes: 256 << 10, zero_ahead_bytes_max: 1 << 20, pad_synced_bytes: 0 }
    }
}

/// A place in one log: what was appended before it is what a caller waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(u64);

impl Position {
    /// Bytes from the file's start.
    pub fn offset(self) -> u64 {
        self.0
    }
}

/// What is appended.
#[derive(Clone, Copy, Debug)]
pub struct BatchRecord<'a> {
    /// The sequence number of its first operation; above every one before.
    pub first_sequence: SequenceNumber,
    /// How many sequence numbers it takes; at least 1.
    pub op_count: u32,
    /// Whether the caller will ask for it to be durable: after a crash this tells what may have been acknowledged.
    pub sync: bool,
    /// The batch.
    pub payload: &'a [u8],
}

/// One open log. See the module.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    number: FileNumber,
    identity: Identity,
    file: Arc<dyn File>,
    options: JournalOptions,
    /// Room for so many bytes of the file may be set aside.
    reserved: u64,
    state: Mutex<State>,
    /// Something was written, or durable, or failed.
    progress: Condvar,
}

#[derive(Debug)]
struct State {
    /// Appended, not yet taken by a leader.
    buffer: Vec<u8>,
    /// An empty one to put in its place.
    spare: Vec<u8>,
    /// The end of the buffer.
    position: u64,
    written: u64,
    /// The system was told to write out what is before this.
    written_back: u64,
    durable: u64,
    /// The largest durable offset in a record that is written or in the buffer.
    told_durable: u64,
    /// The end of the last record that says a sync was asked for.
    asked: u64,
    writing: bool,
    syncing: bool,
    ended: bool,
    failed: Option<Error>,
    /// Whether it was a sync that failed (or one that was under way when something else did): then what it was to make durable may be gone.
    sync_failed: bool,
    /// Calls that are under way: a failure of one thread does not end what another is in the middle of.
    calls: u32,
    last_sequence: SequenceNumber,
    /// The last sequence number at `written` and at `durable`.
    written_sequence: SequenceNumber,
    durable_sequence: SequenceNumber,
    /// Zeros stand in the file up to here.
    zeroed: u64,
    zero_ahead: u64,
    syncs: u64,
}

impl Journal {
    /// Creates the log. When this returns it exists durably: the file, its first record, its name.
    ///
    /// # Errors
    /// Those of creating, writing and syncing; the file may be there then, and its number is not to be used again.
    pub fn create(
        fs: &Arc<dyn FileSystem>,
        path: &Path,
        start: Start,
        options: JournalOptions,
    ) -> Result<Self> {
        options.check()?;
        let mut writer = RecordWriter::create(fs.as_ref(), path, LogKind::Journal, start.identity)?;
        writer.append(RecordKind::Start, false, start.next_sequence, 0, &start.encode())?;
        writer.sync(sites::CREATE)?;
        let directory = path.parent().unwrap_or(Path::new(""));
        fs.sync_dir(directory, sites::CREATE_DIRECTORY).context("sync the directory", directory)?;
        Ok(Self::of(writer, path.to_owned(), start, options, 0))
    }

    /// A log whose first record is written, and nothing behind it; room for `reserved` bytes may be set aside for it. All logs are taken to be durable so far;
    /// [`Self::sync_start`] makes it true.
    pub(super) fn of(
        writer: RecordWriter,
        path: PathBuf,
        start: Start,
        options: JournalOptions,
        reserved: u64,
    ) -> Self {
        let (file, written) = writer.into_parts();
        let durable = written;
        let last_sequence = start.next_sequence.saturating_sub(1);
        Self {
            path,
            number: start.number,
            identity: start.identity,
            file,
            state: Mutex::new(State {
                buffer: Vec::new(),
                spare: Vec::new(),
                position: written,
                written,
                written_back: 0,
                durable,
                told_durable: durable,
                asked: 0,
                writing: false,
                syncing: false,
                ended: false,
                failed: None,
                sync_failed: false,
                calls: 0,
                last_sequence,
                written_sequence: last_sequence,
                durable_sequence: last_sequence,
                zeroed: written,
                zero_ahead: ZERO_AHEAD_BYTES_MIN.min(options.zero_ahead_bytes_max),
                syncs: 0,
            }),
            options,
            reserved,
            progress: Condvar::new(),
        }
    }

    /// The log's number.
    pub fn number(&self) -> FileNumber {
        self.number
    }

    /// The log's identity.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// The log's file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the next record will begin.
    pub fn position(&self) -> Position {
        Position(self.state.lock().position)
    }

    /// Up to where the log is written: survives a killed process.
    pub fn written(&self) -> Position {
        Position(self.state.lock().written)
    }

    /// Up to where the log is known to be durable.
    pub fn durable(&self) -> Position {
        Position(self.state.lock().durable)
    }

    /// The last sequence number appended.
    pub fn last_sequence(&self) -> SequenceNumber {
        self.state.lock().last_sequence
    }

    /// The last sequence number known to be durable.
    pub fn durable_sequence(&self) -> SequenceNumber {
        self.state.lock().durable_sequence
    }

    /// Where this log must be cut after it failed, for opening again in the same process: at what is known to be durable.
    /// What stands behind it, and still reads back, may never have reached the disk.
    pub fn durable_cut(&self) -> Cut {
        Self::cut_of(&self.state.lock())
    }

    fn cut_of(state: &State) -> Cut {
        Cut { offset: state.durable, last_sequence: state.durable_sequence }
    }

    /// As [`Self::durable_cut`], when all calls have returned that were under way; and where no sync has failed yet, but a write (a full
    /// device), after one sync of what had been written before. If that succeeds it can be believed: nothing was taken for clean.
    pub fn settle(&self) -> Cut {
        let mut state = self.state.lock();
        while state.calls > 0 {
            state = self.progress.wait(state);
        }
        if state.sync_failed || state.durable >= state.written {
            return Self::cut_of(&state);
        }
        let (target, sequence) = (state.written, state.written_sequence);
        state.calls += 1;
        drop(state);
        let synced = self.file.sync_data(sites::COMMIT);
        let mut state = self.state.lock();
        state.calls -= 1;
        match synced {
            Ok(()) => {
                state.durable = state.durable.max(target);
                state.durable_sequence = state.durable_sequence.max(sequence);
            }
            Err(_) => state.sync_failed = true,
        }
        Self::cut_of(&state)
    }

    /// After [`Self::settle`]: nothing more is acknowledged of this log, and unless it `counts`, nothing that is durable already either.
    pub fn abandon(&self, counts: bool) {
        let mut state = self.state.lock();
        if !counts {
            // And no later sync makes it so.
            state.durable = state.durable.min(FIRST_RECORD_END);
            state.sync_failed = true;
        }
        let given_up =
            || Error::new(ErrorKind::Failed, "the log was given up after a failure").at(&self.path);
        state.failed.get_or_insert_with(given_up);
        self.progress.notify_all();
    }

    /// The failure after which nothing is acknowledged any more.
    pub fn failure(&self) -> Option<Error> {
        self.state.lock().failed.clone()
    }

    /// How many syncs were made, for statistics: fewer than commits, where commits came together.
    pub fn sync_count(&self) -> u64 {
        self.state.lock().syncs
    }

    /// Appends a batch to the buffer; returns the position behind it. It is not yet written; a caller who promised more
    /// than that goes on with [`Journal::write_through`] or [`Journal::sync_through`].
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] for a sequence number that is not above all before, or a payload that is too long:
    /// nothing is appended. [`ErrorKind::Closed`] after [`Journal::end`]. An earlier failure, and that of a write, if the
    /// buffer was full.
    pub fn append(&self, batch: BatchRecord<'_>) -> Result<Position> {
        let mut state = self.state.lock();
        Self::check(&state)?;
        let last_sequence =
            batch.first_sequence.checked_add(u64::from(batch.op_count)).map_or(u64::MAX, |end| end - 1);
        if batch.op_count == 0 || batch.first_sequence <= state.last_sequence || last_sequence > SEQUENCE_MAX
        {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                format!(
                    "a batch of {} operations from sequence number {} on, behind number {}",
                    batch.op_count, batch.first_sequence, state.last_sequence
                ),
            )
            .at(&self.path));
        }
        let header = RecordHeader {
            kind: RecordKind::Batch,
            sync_asked: batch.sync,
            op_count: batch.op_count,
            first_sequence: batch.first_sequence,
            durable_offset: state.durable,
        };
        self.put(&mut state, header, batch.payload)?;
        state.last_sequence = last_sequence;
        let position = Position(state.position);
        if state.buffer.len() > self.options.buffer_bytes {
            drop(self.write_until(state, position.0)?);
        }
        Ok(position)
    }

    /// Returns when everything before `at` was handed to the system: it survives a killed process.
    ///
    /// # Errors
    /// That of the write, or an earlier failure.
    pub fn write_through(&self, at: Position) -> Result<()> {
        let state = self.state.lock();
        self.write_until(state, at.0).map(drop)
    }

    /// Has the system begin to write out what it was handed, and waits for nothing: so that the sync that ends the log, for which everybody waits, finds little
    /// left to do. Promises nothing.
    pub fn write_back(&self) {
        let (from, to) = {
            let mut state = self.state.lock();
            // The last page is written to again.
            let to = state.written / PAGE_BYTES * PAGE_BYTES;
            let from = state.written_back;
            state.written_back = from.max(to);
            (from, to)
        };
        if from < to {
            self.file.advise(Advice::WriteBack, from, to - from);
        }
    }

    /// Makes the first record durable, and whatever else the system was handed.
    ///
    /// # Errors
    /// That of the sync, or an earlier failure.
    pub fn sync_start(&self) -> Result<()> {
        let mut state = self.state.lock();
        if let Some(first) = &state.failed {
            return Err(Error::failed(first));
        }
        state.calls += 1;
        drop(state);
        let synced = self.file.sync_data(sites::CREATE).context("sync the journal", &self.path);
        let mut state = self.state.lock();
        state.calls -= 1;
        self.progress.notify_all();
        state.sync_failed |= synced.is_err();
        synced.map_err(|error| self.fail(state, error))
    }

    /// Returns when everything before `at` is durable.
    ///
    /// # Errors
    /// That of the write or of the sync, or an earlier failure: then it is unknown what is durable.
    pub fn sync_through(&self, at: Position) -> Result<()> {
        self.sync_until(self.state.lock(), at.0, sites::COMMIT)
    }

    /// Writes (but does not sync) how much is durable, if the log does not say so yet. Called when nothing was committed
    /// for a moment: without it the last synced group could not be told from a torn tail.
    ///
    /// # Errors
    /// That of the write, or an earlier failure.
    pub fn mark(&self) -> Result<()> {
        let mut state = self.state.lock();
        Self::check(&state)?;
        if state.told_durable >= state.durable {
            return Ok(());
        }
        let header = self.bare(&state, RecordKind::Mark, false);
        self.put(&mut state, header, &[])?;
        let at = state.position;
        self.write_until(state, at).map(drop)
    }

    /// Ends the log where it is, without a last record: all of it is handed to the system, and nothing is appended any more. Where it ends is to be recorded
    /// elsewhere (in the first record of the next log, and in the manifest) when it is durable up to there, which [`Self::sync_through`] sees to.
    ///
    /// # Errors
    /// [`ErrorKind::Closed`] after [`Journal::end`]; those of [`Journal::write_through`].
    pub fn seal(&self) -> Result<LogEnd> {
        let mut state = self.state.lock();
        Self::check(&state)?;
        state.ended = true;
        let (offset, last_sequence) = (state.position, state.last_sequence);
        drop(self.write_until(state, offset)?);
        Ok(LogEnd { number: self.number, identity: self.identity, offset, last_sequence })
    }

    /// Ends the log in order: its last record, and all before it, are durable when this returns. Nothing is appended any
    /// more.
    ///
    /// All before it is durable first, so that the last record can say so: otherwise damage to it would be taken for a torn tail.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] if `last_sequence` is below what was appended; those of [`Journal::sync_through`].
    pub fn end(&self, last_sequence: SequenceNumber) -> Result<LogEnd> {
        let mut state = self.state.lock();
        Self::check(&state)?;
        if last_sequence < state.last_sequence || last_sequence > SEQUENCE_MAX {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                format!("a log ended at sequence number {last_sequence} that holds {}", state.last_sequence),
            )
            .at(&self.path));
        }
        state.last_sequence = last_sequence;
        state.ended = true;
        if state.durable < state.position && self.options.pad_synced_bytes > 0 {
            self.pad(&mut state)?;
        }
        let before = state.position;
        self.sync_until(state, before, sites::BEFORE_END)?;
        let mut state = self.state.lock();
        let header = self.bare(&state, RecordKind::End, true);
        self.put(&mut state, header, &encode_end(last_sequence))?;
        let offset = state.position;
        self.sync_until(state, offset, sites::COMMIT)?;
        self.release();
        Ok(LogEnd { number: self.number, identity: self.identity, offset, last_sequence })
    }

    /// Gives back the room that was set aside for it and is not needed, once it has ended and is durable.
    pub fn release(&self) {
        let is_whole = {
            let state = self.state.lock();
            state.ended && state.failed.is_none() && state.durable >= state.position
        };
        // Nobody writes to it any more, zeros ahead neither: its length stays what it is.
        if is_whole && self.position().offset() < self.reserved {
            self.file.advise(Advice::Release, 0, 0);
        }
    }

    fn check(state: &State) -> Result<()> {
        if let Some(first) = &state.failed {
            return Err(Error::failed(first));
        }
        if state.ended {
            return Err(Error::new(ErrorKind::Closed, "the log was ended"));
        }
        Ok(())
    }

    fn reachable(&self, state: &State, at: u64) -> Result<()> {
        if at <= state.position {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::InvalidArgument,
            format!("position {at} of another log: this one ends at {}", state.position),
        )
        .at(&self.path))
    }

    /// The header of a record that takes no sequence number.
    fn bare(&self, state: &State, kind: RecordKind, sync_asked: bool) -> RecordHeader {
        RecordHeader {
            kind,
            sync_asked,
            op_count: 0,
            first_sequence: (state.last_sequence + 1).min(SEQUENCE_MAX),
            durable_offset: state.durable,
        }
    }

    fn put(&self, state: &mut State, header: RecordHeader, payload: &[u8]) -> Result<()> {
        let before = state.buffer.len();
        encode_record(&mut state.buffer, self.identity, state.position, &header, payload)
            .map_err(|error| error.at(&self.path))?;
        state.position += (state.buffer.len() - before) as u64;
        state.told_durable = state.told_durable.max(header.durable_offset);
        if header.sync_asked {
            state.asked = state.position;
        }
        Ok(())
    }

    /// Waits until `at` is written, or writes it and all else that is in the buffer.
    fn write_until<'a>(&'a self, mut state: MutexGuard<'a, State>, at: u64) -> Result<MutexGuard<'a, State>> {
        self.reachable(&state, at)?;
        loop {
            if state.written >= at {
                return Ok(state);
            }
            if let Some(first) = &state.failed {
                return Err(Error::failed(first));
            }
            if state.writing {
                state = self.progress.wait(state);
                continue;
            }
            state = self.write_buffer(state, 0)?;
        }
    }

    /// Writes what is in the buffer, and `zeros` bytes of zeros behind it; the caller saw that nobody else is writing.
    fn write_buffer<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        zeros: u64,
    ) -> Result<MutexGuard<'a, State>> {
        state.writing = true;
        let spare = std::mem::take(&mut state.spare);
        let mut buffer = std::mem::replace(&mut state.buffer, spare);
        let (offset, last_sequence) = (state.written, state.last_sequence);
        state.calls += 1;
        drop(state);
        let end = offset + buffer.len() as u64;
        let mut result = self.file.write_all_at(&buffer, offset).context("write the journal", &self.path);
        let mut zeroed = None;
        if result.is_ok() && zeros > 0 {
            // Nobody else writes meanwhile: zeros must not fall on records.
            match self.file.zero_range(end, zeros) {
                Ok(()) => zeroed = Some(end + zeros),
                // No room for zeros is no failure: the records that come may still find theirs.
                Err(error) if is_out_of_space(error.kind()) => zeroed = Some(u64::MAX),
                Err(error) => result = Err(Error::io("zero the journal ahead", error).at(&self.path)),
            }
        }
        let mut state = self.state.lock();
        state.calls -= 1;
        state.writing = false;
        match result {
            Ok(()) => {
                state.written = end;
                state.written_sequence = last_sequence;
                state.zeroed = state.zeroed.max(end).max(zeroed.unwrap_or(0));
            }
            Err(error) => return Err(self.fail(state, error)),
        }
        buffer.clear();
        if buffer.capacity() <= BUFFER_KEPT_BYTES.max(2 * self.options.buffer_bytes) {
            state.spare = buffer;
        }
        self.progress.notify_all();
        Ok(state)
    }

    fn sync_until<'a>(&'a self, mut state: MutexGuard<'a, State>, at: u64, site: SyncSite) -> Result<()> {
        self.reachable(&state, at)?;
        loop {
            if state.durable >= at {
                return Ok(());
            }
            if let Some(first) = &state.failed {
                return Err(Error::failed(first));
            }
            // The right to write is taken before the sync begins, so that all that was appended by then is covered.
            if state.syncing || state.writing {
                state = self.progress.wait(state);
                continue;
            }
            state.syncing = true;
            let synced = self.sync_all(state, site);
            state = synced?;
        }
    }

    /// Writes and syncs everything; the caller took the right to sync and saw that nobody is writing.
    fn sync_all<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        site: SyncSite,
    ) -> Result<MutexGuard<'a, State>> {
        if state.asked <= state.durable && !state.ended {
            // Nobody asked with a batch (a sync of what others had committed): so that it is known after a crash.
            let header = self.bare(&state, RecordKind::Mark, true);
            if let Err(error) = self.put(&mut state, header, &[]) {
                return Err(self.fail(state, error));
            }
        }
        if self.options.pad_synced_bytes > 0
            && !state.ended
            && let Err(error) = self.pad(&mut state)
        {
            return Err(self.fail(state, error));
        }
        let mut zeros = 0;
        if state.position > state.zeroed && state.syncs > 0 && !state.ended && state.zero_ahead > 0 {
            zeros = state.zero_ahead;
            state.zero_ahead = (2 * zeros).min(self.options.zero_ahead_bytes_max);
        }
        state = self.write_buffer(state, zeros)?;
        // Sampled before the call: what is written while it runs is not covered by it.
        let (target, sequence) = (state.written, state.written_sequence);
        state.calls += 1;
        drop(state);
        let result = self.file.sync_data(site).context("sync the journal", &self.path);
        let mut state = self.state.lock();
        state.calls -= 1;
        state.sync_failed |= result.is_err();
        state.syncing = false;
        state.syncs += 1;
        match result {
            Ok(()) => {
                state.durable = state.durable.max(target);
                state.durable_sequence = state.durable_sequence.max(sequence);
            }
            Err(error) => return Err(self.fail(state, error)),
        }
        self.progress.notify_all();
        Ok(state)
    }

    /// Fills up to a multiple of the option.
    fn pad(&self, state: &mut State) -> Result<()> {
        const HEADER_BYTES: u64 = RECORD_HEADER_BYTES as u64;
        let to = self.options.pad_synced_bytes;
        if state.position.is_multiple_of(to) {
            return Ok(());
        }
        let mut end = state.position.next_multiple_of(to);
        if end - state.position < HEADER_BYTES {
            end += to;
        }
        let payload = usize::try_from(end - state.position - HEADER_BYTES).unwrap_or(0);
        debug_assert!(payload.is_multiple_of(RECORD_ALIGNMENT));
        let header = self.bare(state, RecordKind::Pad, false);
        self.put(state, header, &vec![0; payload])
    }

    /// Remembers the first failure. Who led the failed call gets it as it is; everybody else is told that it happened.
    #[cold]
    fn fail(&self, mut state: MutexGuard<'_, State>, error: Error) -> Error {
        state.writing = false;
        state.syncing = false;
        state.failed.get_or_insert_with(|| error.clone());
        self.progress.notify_all();
        error
    }
}
