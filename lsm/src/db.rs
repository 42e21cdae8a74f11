//! The database: opening, and the public face of what the other files do. Wiring and no more.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::sync::Mutex;

use crate::batch::{Encoder, KeyspaceId};
use crate::check::{self, CheckReport};
use crate::checkpoint::CheckpointInfo;
use crate::clock::Clock;
use crate::engine::{Engine, Progress, closed};
use crate::error::{Error, ErrorKind, Result};
use crate::event::{Event, Listener};
use crate::fs::FileSystem;
use crate::health::Health;
use crate::journal::{Durability, RecoveryMode};
use crate::key::SequenceNumber;
use crate::keyspace::Keyspace;
use crate::levels::{Change, Edit, KEYSPACE_NAME_BYTES_MAX, KeyspaceView};
use crate::options::{Background, KeyspaceOptions, Options, Tuning};
use crate::recover::{self, Opened, RecoveryReport};
use crate::snapshot::Snapshot;
use crate::stats::Stats;
use crate::table::CheckLevel;
use crate::transaction::{self, Transaction};
use crate::worker::{Teller, Workers};

/// How a database is to be opened. [`Db::builder`] makes one.
#[derive(Clone, Debug)]
pub struct Builder {
    directory: PathBuf,
    options: Options,
}

impl Builder {
    /// All the memory that the database may take, in bytes: write buffers, cache, what open tables keep. More: larger write buffers (less merged),
    /// more found in the cache; less: the reverse. Default: 128 MiB; at least 32 MiB (with [`Self::tuning`] 1 MiB, which its sizes may exceed). The one option worth setting: what the machine can spare. (Files that are
    /// read stay in the system's page cache besides, which is not counted.)
    #[must_use]
    pub fn memory_bytes(mut self, bytes: usize) -> Self {
        self.options.memory_bytes = bytes;
        self
    }

    /// Whether to open for reading alone: beside a live writer, as of now, writing nothing. Default: no. For programs that look, and media that cannot be
    /// written.
    #[must_use]
    pub fn read_only(mut self, yes: bool) -> Self {
        self.options.read_only = yes;
        self
    }

    /// The file system to work on. Default: the operating system's. For tests, which get [`fs::MemFs`](crate::fs::MemFs) and
    /// [`fs::FaultFs`](crate::fs::FaultFs).
    #[must_use]
    pub fn file_system(mut self, fs: Arc<dyn FileSystem>) -> Self {
        self.options.fs = fs;
        self
    }

    /// The clock to go by: for pauses and for how long writers are slowed; no data depends on it. Default: the system's. For tests.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.options.clock = clock;
        self
    }

    /// Who flushes and compacts. Default: threads. [`Background::Manual`] for tests that must be repeatable, and for programs that lend their own.
    #[must_use]
    pub fn background(mut self, background: Background) -> Self {
        self.options.background = background;
        self
    }

    /// What to do about damage in the journal. Default ([`RecoveryMode::Tail`]): cut a torn tail, refuse anything else. Leave it, and choose another only
    /// after an opening was refused, and once.
    #[must_use]
    pub fn recovery(mut self, mode: RecoveryMode) -> Self {
        self.options.recovery = mode;
        self
    }

    /// The sizes at which the engine acts, one by one; see [`Tuning`]. Default: what follows from the memory budget. For measurements; leave it otherwise.
    #[must_use]
    pub fn tuning(mut self, tuning: Tuning) -> Self {
        self.options.tuning = Some(tuning);
        self
    }

    /// Whom to tell what happens inside: see [`Event`]. Default: nobody.
    ///
    /// It is called by a thread of its own, one event after the other, so that it delays nothing but other events; in a database without threads
    /// ([`Background::Manual`], or read-only) by whoever calls, at the end of the call. It may use the database; but a handle that it keeps keeps the database
    /// open. When more than ten thousand events wait, further ones are lost, and counted. A panic in it ends that call of it, and no more.
    #[must_use]
    pub fn on_event(mut self, listener: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        self.options.listener = Some(Listener::new(listener));
        self
    }

    /// Opens the database; makes it if there is none (but for a read-only opening).
    ///
    /// # Errors
    /// Locked if another process writes to it; NotFound where there is none to read; Corruption, naming file and offset and what is lost;
    /// NewerFormat; InvalidArgument for options that cannot be; Io.
    pub fn open(self) -> Result<Db> {
        let opened = recover::open(&self.directory, &self.options)?;
        let handle = match (self.options.read_only, self.options.background) {
            (false, Background::Threads) => Handle::new(opened, Workers::start)?,
            _ => Handle::new(opened, |_, _| Ok(()))?,
        };
        Ok(Db { handle: Arc::new(handle) })
    }
}

/// What keeps a database open: the last one to go closes it.
#[derive(Debug)]
pub(crate) struct Handle {
    engine: Arc<Engine>,
    session: Mutex<Session>,
    report: RecoveryReport,
}

#[derive(Debug, Default)]
struct Session {
    workers: Workers,
    teller: Teller,
    /// What the last opening after a failure found.
    reopened: Option<RecoveryReport>,
    /// How it ended.
    ended: Option<Result<()>>,
}

impl Handle {
    /// A handle to what was opened; `start` starts its threads. If that fails, what was started is ended in order, and the next may open.
    fn new(opened: Opened, start: impl FnOnce(&mut Workers, &Arc<Engine>) -> Result<()>) -> Result<Self> {
        let handle = Self { engine: opened.engine, session: Mutex::default(), report: opened.report };
        let started = Teller::start(&handle.engine.events).and_then(|teller| {
            let mut session = handle.session.lock();
            session.teller = teller;
            start(&mut session.workers, &handle.engine)
        });
        started?;
        handle.engine.events.deliver();
        Ok(handle)
    }

    pub(crate) fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// Opens again after a failure, and starts the threads again. Whoever comes second finds it done.
    fn reopen(&self) -> Result<RecoveryReport> {
        let reopened = self.reopen_session();
        self.engine.events.deliver();
        reopened
    }

    fn reopen_session(&self) -> Result<RecoveryReport> {
        let mut session = self.session.lock();
        if session.ended.is_some() {
            return Err(closed());
        }
        if self.engine.failure().is_some() {
            // Having noticed the failure they stop by themselves.
            session.workers.join();
            session.reopened = self.engine.reopen()?.or(session.reopened.take());
            if self.engine.background == Background::Threads {
                let started = session.workers.start(&self.engine);
                started.map_err(|error| self.engine.fail(error))?;
            }
        }
        Ok(session.reopened.clone().unwrap_or_else(|| self.report.clone()))
    }

    /// Stops the threads, ends the log, lets the next writer in. Whoever comes second waits for the first, and gets the same answer.
    fn close(&self) -> Result<()> {
        let mut session = self.session.lock();
        if let Some(ended) = &session.ended {
            return ended.clone();
        }
        self.engine.set_closed();
        session.workers.join();
        let ended = self.engine.finish();
        self.engine.unlock();
        session.ended = Some(ended.clone());
        let teller = std::mem::take(&mut session.teller);
        // The listener may ask something of the handle that is closed here.
        drop(session);
        self.engine.events.tell(|| Event::Closed { error: ended.clone().err() });
        self.engine.events.end();
        teller.join();
        ended
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // Whoever wants to know calls `Db::close`.
        let _ = self.close();
    }
}

/// An open database. Clones are handles to the same one; it closes with the last of them, keyspaces included, or by [`Db::close`].
#[derive(Clone)]
pub struct Db {
    handle: Arc<Handle>,
}

impl Db {
    /// Opens the database in a directory with all defaults; makes it if there is none.
    ///
    /// # Errors
    /// As [`Builder::open`].
    pub fn open(directory: impl AsRef<Path>) -> Result<Self> {
        Self::builder(directory).open()
    }

    /// Options for opening the database in a directory.
    pub fn builder(directory: impl AsRef<Path>) -> Builder {
        Builder { directory: directory.as_ref().to_owned(), options: Options::default() }
    }

    pub(crate) fn engine(&self) -> &Arc<Engine> {
        &self.handle.engine
    }

    /// The keyspace of a name; made if there is none. Its making is durable when this returns.
    ///
    /// # Errors
    /// InvalidArgument for a name that is empty or longer than 255 bytes, or if there is one of another kind or other widths; NotFound if there is none and the database is read-only;
    /// Closed; Failed and those of writing.
    pub fn keyspace(&self, name: &str, options: KeyspaceOptions) -> Result<Keyspace> {
        let keyspace = self.open_keyspace(name, options);
        self.engine().events.deliver();
        keyspace
    }

    fn open_keyspace(&self, name: &str, options: KeyspaceOptions) -> Result<Keyspace> {
        if name.is_empty() || name.len() > KEYSPACE_NAME_BYTES_MAX {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                format!(
                    "a keyspace's name has 1 to {KEYSPACE_NAME_BYTES_MAX} bytes, {name:?} has {}",
                    name.len()
                ),
            ));
        }
        let engine = self.engine();
        let (view, _) = engine.read()?;
        let known = |view: &crate::levels::View| {
            view.keyspaces.iter().find(|(_, keyspace)| &*keyspace.name == name).map(|(id, keyspace)| {
                if keyspace.kind != options.kind {
                    return Err(Error::new(
                        ErrorKind::InvalidArgument,
                        format!("keyspace {name:?} is {}, not {}", keyspace.kind, options.kind),
                    ));
                }
                Ok(Keyspace::new(Arc::clone(&self.handle), *id, Arc::clone(&keyspace.name), keyspace.kind))
            })
        };
        if let Some(keyspace) = known(&view) {
            let keyspace = keyspace?;
            drop(view);
            if engine.is_being_dropped(keyspace.id()) {
                engine.wait_for_drop(keyspace.id())?;
            }
            // Whoever dropped it is done, and the View says what became of it.
            return known(&engine.view()).unwrap_or_else(|| self.open_keyspace(name, options));
        }
        if engine.read_only {
            return Err(Error::new(ErrorKind::NotFound, format!("there is no keyspace {name:?}"))
                .at(&engine.directory));
        }
        let mut manifest = engine.manifest.lock();
        engine.check_writable()?;
        // Another thread may have been quicker.
        if known(&engine.view()).is_some() {
            drop(manifest);
            return self.open_keyspace(name, options);
        }
        let last = manifest.levels().keyspace_last;
        let id = last
            .checked_add(1)
            .ok_or_else(|| Error::new(ErrorKind::InvalidArgument, "keyspaces are numbered up to 2^32 - 1"))?;
        let (id, name) = (KeyspaceId::new(id)?, Arc::<str>::from(name));
        let mut changes = vec![Change::Keyspace { id, name: Arc::clone(&name), kind: options.kind }];
        // Nothing was ever written to it: so all that is in the tables of the others is in its tables too, and what is in
        // the tables of every keyspace does not fall back to nothing.
        let through = manifest.levels().flushed_any();
        if through > 0 {
            changes.push(Change::Flushed { keyspace: id, through });
        }
        manifest.commit(Edit { changes }).map_err(|error| engine.fail(error))?;
        engine.install(|view| {
            let keyspace = KeyspaceView {
                name: Arc::clone(&name),
                active: engine.new_memtable(options.kind, None),
                kind: options.kind,
                frozen: Vec::new(),
                tables: Arc::default(),
            };
            view.keyspaces.insert(id, Arc::new(keyspace));
            view.keyspace_last = id.number();
        });
        engine.events.tell(|| Event::KeyspaceMade { keyspace: Arc::clone(&name) });
        Ok(Keyspace::new(Arc::clone(&self.handle), id, name, options.kind))
    }

    /// Drops a keyspace: all that it holds is gone, and its name is free for another. Durable when this returns, and so is everything that was
    /// committed before. Costs no more than a few syncs, however much it holds; the space of its tables is free at once, unless somebody still
    /// reads them.
    ///
    /// Snapshots that were taken before, and scans that were begun, go on. All handles to it answer with Dropped from then on, and so does the
    /// commit of a batch that writes to it, of which then nothing is applied, to no keyspace; that as soon as this is called.
    ///
    /// # Errors
    /// Dropped, if it was before; InvalidArgument if it is another database's; ReadOnly; Closed; Failed and those of writing: then it is unknown
    /// whether it is dropped.
    pub fn drop_keyspace(&self, keyspace: &Keyspace) -> Result<()> {
        if !Arc::ptr_eq(keyspace.engine(), self.engine()) {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                format!("keyspace {:?} belongs to another database", keyspace.name()),
            ));
        }
        self.engine().drop_keyspace(keyspace.id(), keyspace.name())
    }

    /// The names of all keyspaces, sorted.
    pub fn keyspace_names(&self) -> Vec<String> {
        let view = self.engine().view();
        let mut names: Vec<String> =
            view.keyspaces.values().map(|keyspace| keyspace.name.to_string()).collect();
        names.sort();
        names
    }

    /// All keyspaces, of whatever kind, sorted by name.
    pub fn keyspaces(&self) -> Vec<Keyspace> {
        let view = self.engine().view();
        let keyspace = |(id, keyspace): (&KeyspaceId, &Arc<KeyspaceView>)| {
            Keyspace::new(Arc::clone(&self.handle), *id, Arc::clone(&keyspace.name), keyspace.kind)
        };
        let mut keyspaces: Vec<Keyspace> = view.keyspaces.iter().map(keyspace).collect();
        keyspaces.sort_by(|a, b| a.name().cmp(b.name()));
        keyspaces
    }

    /// Commits a batch: all of it is visible, and survives, or nothing. Returns the sequence number of its last operation once it is
    /// as durable as asked. Readers see it before that: as soon as it is applied.
    ///
    /// # Errors
    /// InvalidArgument for a batch over keyspaces of another database, or with a key or value that is too long; Dropped for one that writes to a
    /// keyspace that was dropped; ReadOnly; Closed; Failed and those of writing: then it is unknown whether the batch survives.
    #[expect(clippy::needless_pass_by_value, reason = "a batch is committed once")]
    pub fn commit(&self, batch: Batch, durability: Durability) -> Result<SequenceNumber> {
        if let Some(engine) = &batch.engine
            && !Arc::ptr_eq(engine, self.engine())
        {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                "the batch writes to keyspaces of another database",
            ));
        }
        self.engine().commit(&batch.encoder, durability)
    }

    /// Makes everything durable that was committed before the call.
    ///
    /// # Errors
    /// ReadOnly; Closed; Failed and those of writing.
    pub fn sync(&self) -> Result<()> {
        self.engine().sync()
    }

    /// What all keyspaces hold now, for as long as it is kept.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::new(self.engine())
    }

    /// Begins a transaction: see [`Transaction`].
    pub fn transaction(&self) -> Transaction {
        Transaction::new(self.engine())
    }

    /// Runs `body` in a transaction and commits it; again, each time in a new one, as long as somebody else is quicker, and after a hundred tries no more.
    /// Returns what `body` returned in the one that was committed. So `body` should do nothing but read and write through what it is given.
    ///
    /// # Errors
    /// Those of `body`: then nothing is committed; those of [`Transaction::commit`], Conflict only after the last try.
    pub fn transact<R>(
        &self,
        durability: Durability,
        body: impl FnMut(&mut Transaction) -> Result<R>,
    ) -> Result<R> {
        transaction::transact(self.engine(), durability, body)
    }

    /// Writes everything that is in memory to tables; when it returns, they are durable.
    ///
    /// # Errors
    /// ReadOnly; Closed; Failed and those of writing.
    pub fn flush(&self) -> Result<()> {
        self.engine().flush()
    }

    /// Flushes, then merges all tables of each keyspace into one run: reads are fastest then, and nothing deleted takes space (but for what
    /// snapshots still see), and sorted keyspaces are compressed whole. Costs reading and writing everything; where all lies in one run already, only what is not compressed and would be
    /// smaller.
    ///
    /// What is written meanwhile is not part of it: of that, merges go on beside this one, a step of each in turns, so that whoever writes is slowed as by any merge of that
    /// size, and does not wait for the end of this one.
    ///
    /// # Errors
    /// ReadOnly; Closed; Failed and those of reading and writing.
    pub fn compact(&self) -> Result<()> {
        self.engine().flush()?;
        let compacted = self.engine().compact_all();
        self.engine().wait_for_removal();
        compacted
    }

    /// Makes a copy of the database in the directory `to`, while everybody goes on reading and writing: all that was committed before the
    /// call is in it, and perhaps some that was committed meanwhile, always whole batches in their order. It opens as a database of its own.
    ///
    /// Flushes first. The tables are linked where both directories are on one file system (at no cost of space or time, but then a bad sector is bad in both),
    /// otherwise copied, and each copy is read back and verified. If `to` holds an older checkpoint of this database, what is in it already stays, the rest
    /// is added, and what is needed no more is removed in the end: the old one is whole until the new one is. A checkpoint that somebody
    /// opened and wrote to is a database of its own, and refused, as is anything else that holds tables.
    ///
    /// # Errors
    /// InvalidArgument if `to` holds something else than a checkpoint of this database; Locked if somebody has that open for writing; Corruption if a table
    /// cannot be verified when it is copied; OutOfSpace, Io: then `to` holds the checkpoint that it held before, or none; ReadOnly; Closed; Failed and those
    /// of a flush.
    pub fn checkpoint(&self, to: impl AsRef<Path>) -> Result<CheckpointInfo> {
        self.engine().checkpoint(to.as_ref())
    }

    /// Runs one step of whatever there is to do in the background: what is done ahead for the log, then a flush, then a merge. For [`Background::Manual`].
    ///
    /// # Errors
    /// ReadOnly; Closed; Failed and those of writing.
    pub fn step(&self) -> Result<Progress> {
        let engine = self.engine();
        engine.check_writable()?;
        if engine.tend_log()? == Progress::Working || engine.flush_step()? == Progress::Working {
            return Ok(Progress::Working);
        }
        engine.compaction_step()
    }

    /// Reads everything and proves that it is sound; see [`crate::check`]. Damage is in the report, not an error.
    ///
    /// # Errors
    /// Closed; Io where the directory cannot be read at all.
    pub fn check(&self) -> Result<CheckReport> {
        self.check_at(CheckLevel::Full)
    }

    /// As [`Db::check`]; less than the full level does not read the data.
    ///
    /// # Errors
    /// As [`Db::check`].
    pub fn check_at(&self, level: CheckLevel) -> Result<CheckReport> {
        check::check(self.engine(), level)
    }

    /// Whether it takes writes, and if not, why.
    pub fn health(&self) -> Health {
        self.engine().health()
    }

    /// Opens the database again after a failed write, sync, flush or merge ([`Health::Failed`]), in this process: all handles that are there can be used
    /// again, background threads run again. First remove the cause. Where nothing has failed, nothing is done.
    ///
    /// What was acknowledged as durable ([`Durability::Synced`], [`Db::sync`]) is there. What was handed to the system alone ([`Durability::System`]) is
    /// there unless it was a sync that failed: what that was to make durable, and all that was committed behind it, is gone, although it
    /// was visible before; nobody can tell what the medium has of it. Snapshots and scans that are held go on showing what they showed; transactions that
    /// were begun before are refused when they commit. A [`Db::sync`] behind it says nothing of what was committed before it: whoever relies on that asks
    /// here first whether something failed.
    ///
    /// Returns what was found, as [`Db::recovery_report`] does for the opening before.
    ///
    /// # Errors
    /// Closed; those of opening a database, and of writing: it is as failed as it was, and this can be called again.
    pub fn reopen(&self) -> Result<RecoveryReport> {
        self.handle.reopen()
    }

    /// How far merging and flushing lag, from 0.0 (not at all) to 1.0: so far that writers wait until something is merged or flushed. What is above 0.0 slows them
    /// already, at first hardly, near 1.0 very much. Whoever has writes that can wait (an import, an index that is built anew) may hold them back while it grows. Costs no more than
    /// a look at how many tables there are.
    pub fn write_pressure(&self) -> f64 {
        self.engine().write_pressure()
    }

    /// Figures.
    pub fn stats(&self) -> Stats {
        self.engine().stats()
    }

    /// What opening found.
    pub fn recovery_report(&self) -> &RecoveryReport {
        &self.handle.report
    }

    /// Closes the database in order: what is in memory is flushed or durable in the log, and the next opening needs no repair. Other handles
    /// to it answer with Closed from then on; snapshots and scans live on.
    ///
    /// # Errors
    /// Failed, if a write, a flush or a merge failed before; those of writing: then the next opening recovers, as after a crash.
    pub fn close(self) -> Result<()> {
        self.handle.close()
    }
}

impl std::fmt::Debug for Db {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let engine = self.engine();
        f.debug_struct("Db")
            .field("directory", &engine.directory)
            .field("read_only", &engine.read_only)
            .field("visible", &engine.visible())
            .finish_non_exhaustive()
    }
}

/// Writes that become visible, and survive, together or not at all, over any keyspaces of one database. Later ones win.
#[derive(Debug, Default)]
pub struct Batch {
    encoder: Encoder,
    engine: Option<Arc<Engine>>,
}

impl Batch {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    fn to(&mut self, keyspace: &Keyspace) -> &mut Encoder {
        match &self.engine {
            None => self.engine = Some(Arc::clone(keyspace.engine())),
            Some(engine) if Arc::ptr_eq(engine, keyspace.engine()) => {}
            Some(_) => self.encoder.refuse(Error::new(
                ErrorKind::InvalidArgument,
                format!("a batch over two databases: keyspace {:?} is of the other", keyspace.name()),
            )),
        }
        &mut self.encoder
    }

    /// Adds: the key gets this value. A key or value that is too long (1 MiB, 256 MiB), or of another width than its keyspace's, makes the commit fail;
    /// [`Self::fault`] tells at once.
    pub fn put(&mut self, keyspace: &Keyspace, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        keyspace.add_put(self.to(keyspace), key.as_ref(), value.as_ref());
    }

    /// Adds: the key is gone.
    pub fn delete(&mut self, keyspace: &Keyspace, key: impl AsRef<[u8]>) {
        keyspace.add_delete(self.to(keyspace), key.as_ref());
    }

    /// Adds: the keys of this range are gone. One operation, however many they are; an empty range adds nothing.
    ///
    /// But of a keyspace with fixed widths it becomes a deletion of each key when it is committed, while others who write wait; if these take more than 16 MiB the
    /// commit fails, and nothing of it is applied. [`Keyspace::delete_range`] goes in parts.
    pub fn delete_range<K: AsRef<[u8]>>(
        &mut self,
        keyspace: &Keyspace,
        range: impl std::ops::RangeBounds<K>,
    ) {
        keyspace.add_delete_range(self.to(keyspace), &range);
    }

    /// Adds: the keys that start with `prefix` are gone. As [`Self::delete_range`].
    pub fn delete_prefix(&mut self, keyspace: &Keyspace, prefix: impl AsRef<[u8]>) {
        keyspace.add_delete_prefix(self.to(keyspace), prefix.as_ref());
    }

    /// The first operation that cannot be, if there is one: the commit will fail with this error.
    pub fn fault(&self) -> Option<&Error> {
        self.encoder.fault()
    }

    /// How many operations there are.
    pub fn len(&self) -> usize {
        self.encoder.operations() as usize
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.encoder.operations() == 0
    }

    /// Bytes of the encoded batch: what the journal and the memtables will take for it, about.
    pub fn encoded_bytes(&self) -> usize {
        self.encoder.payload().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::MemFs;

    #[test]
    fn a_database_whose_threads_cannot_be_started_is_closed_again() {
        let options = Options { fs: Arc::new(MemFs::new()), ..Options::default() };
        let opened = recover::open(Path::new("/db"), &options).unwrap();
        let engine = Arc::clone(&opened.engine);
        let error = Handle::new(opened, |workers, engine| {
            workers.start(engine)?;
            Err(Error::new(ErrorKind::Io, "no thread to give"))
        })
        .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io, "{error}");
        assert_eq!(Arc::strong_count(&engine), 1, "its threads are gone");
        recover::open(Path::new("/db"), &options).unwrap();
    }
}
