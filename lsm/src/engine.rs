//! The state that all parts of an open database share, and who locks what.
//!
//! In this order, a thread that holds one takes only later ones:
//!
//! 1. `compaction_job`, `flush_job`: the right to run a step. Held across I/O.
//! 2. `commit`: the order of writes. Held to append to the journal's buffer and to apply to memtables; and across the end of a log, where the next one was not
//!    made ahead. Never across the sync of a commit.
//! 3. `turning`: who settles what is left of a turn from one log to the next. Held across its syncs.
//! 4. `next_log`: who makes the next log's file ahead of its use, or takes it. Held across its making.
//! 5. `manifest`: the order of edits. Held across the sync of an edit.
//! 6. `view_swap`: who swaps the one pointer that readers load (they take no lock), and who takes a snapshot. Held for moments, never across I/O: so no reader
//!    ever waits for a sync.
//! 7. `removing`: who removes files. Held across that, for a few of them.
//! 8. `snapshots`, `failure`, `obsolete`, `avoided`, `dropped`, `claims`, `bucket`, `backlog`, `progress`, and the locks within `retired` and `budget`:
//!    moments.
//!
//! Each of the first five is also a gate: whoever changes anything asks, *under* it, whether the database was closed. Closing says so first and
//! then goes through every gate once ([`Engine::finish`]); from then on nothing of this session touches the directory, and `LOCK` can be given up.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::ordered::OrderedMap;
use crate::sync::{Condvar, Mutex, RwLock};
use arc_swap::{ArcSwap, Guard};

use crate::backlog::Backlog;
use crate::batch::KeyspaceId;
use crate::budget::Budget;
use crate::checksum::Identity;
use crate::claims::Claims;
use crate::clock::Clock;
use crate::compaction::pace::Bucket;
use crate::compaction::{Avoided, Idle, Job};
use crate::dropping::DroppedNames;
use crate::error::{Error, ErrorKind, Result};
use crate::event::{Event, Events};
use crate::filename::FileName;
use crate::flush::FlushJob;
use crate::fs::{FileSystem, Lock, LockMode};
use crate::journal::{PreparedLog, RecoveryMode};
use crate::key::SequenceNumber;
use crate::levels::{KeyspaceView, Rest, Retired, View};
use crate::manifest::Manifest;
use crate::memory::GivesBack;
use crate::memtable::{FixedMemtable, Memtable};
use crate::options::{Background, Tuning};
use crate::row::KeyspaceKind;
use crate::stats::Counters;
use crate::turn::Turn;
use crate::write::CommitState;

/// Each place where the database (and not the journal, a table or the manifest) makes something durable.
pub mod sites {
    use crate::fs::SyncSite;

    /// The directory of a new database.
    pub const DIRECTORY: SyncSite = SyncSite::new("database-directory");
    /// The names of new tables, before an edit names them.
    pub const TABLE_NAMES: SyncSite = SyncSite::new("table-names");
    /// The names in `lost/`, before what is there now can be forgotten.
    pub const LOST: SyncSite = SyncSite::new("database-lost");

    /// All of them.
    pub const ALL: [SyncSite; 3] = [DIRECTORY, TABLE_NAMES, LOST];
}

/// So many files are removed before others get their turn.
const REMOVED_AT_ONCE: usize = 16;

/// Whether a job has more to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// There was nothing to do.
    Idle,
    /// A step was done; there may be more.
    Working,
}

/// Who is registered as reading at which sequence number.
#[derive(Debug, Default)]
struct LiveSnapshots {
    counts: OrderedMap<SequenceNumber, usize>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) fs: Arc<dyn FileSystem>,
    pub(crate) directory: PathBuf,
    pub(crate) database: Identity,
    pub(crate) tuning: Tuning,
    pub(crate) budget: Budget,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) background: Background,
    pub(crate) read_only: bool,
    pub(crate) recovery: RecoveryMode,
    pub(crate) counters: Counters,
    pub(crate) events: Arc<Events>,
    pub(crate) flush_job: Mutex<Option<FlushJob>>,
    pub(crate) compaction_job: Mutex<Option<Job>>,
    /// Whether the next step of the merge is its last. A hint for those who take turns.
    pub(crate) merge_ends: AtomicBool,
    pub(crate) commit: Mutex<CommitState>,
    /// The next log, if it was made ahead.
    pub(crate) next_log: Mutex<Option<PreparedLog>>,
    /// Two logs, while writers are in the second and it is not named yet.
    pub(crate) turning: Mutex<Option<Turn>>,
    /// Whether there are; asked without the lock.
    pub(crate) is_turning: AtomicBool,
    /// Whether the log is to be looked after.
    pub(crate) tend_due: AtomicBool,
    /// Whether memory is to be made ready for memtables.
    pub(crate) ready_due: AtomicBool,
    /// When that was asked for last, since it was given back.
    pub(crate) ready_asked: Mutex<Option<Duration>>,
    pub(crate) manifest: Mutex<Manifest>,
    /// What writers have paid for merging that lags.
    pub(crate) bucket: Mutex<Bucket>,
    /// What is paid for memtables that wait.
    pub(crate) backlog: Backlog,
    /// What merges keep away from.
    pub(crate) avoided: Mutex<Avoided>,
    /// When to merge although nothing is due.
    pub(crate) idle: Mutex<Idle>,
    /// The names of keyspaces that this session dropped, for messages.
    pub(crate) dropped: Mutex<DroppedNames>,
    /// Who has which keyspace for himself.
    pub(crate) claims: Mutex<Claims>,
    view: ArcSwap<View>,
    /// Tables that went with Views.
    pub(crate) retired: Arc<Retired>,
    /// Whether writers need not ask, as of the last View, whether they must pay or wait.
    at_ease: AtomicBool,
    /// Held exclusively by whoever swaps it, and by whoever wants no snapshot to be between its number and its registration.
    view_swap: RwLock<()>,
    /// How many batches there were when a merge last looked.
    commits_seen: AtomicU64,
    /// The last sequence number that readers see. Changed under `commit` alone.
    visible: AtomicU64,
    snapshots: Mutex<LiveSnapshots>,
    failure: Mutex<Option<Error>>,
    failed: AtomicBool,
    /// How often it was opened again after a failure. Changed under `commit` and `failure`.
    session: AtomicU64,
    closed: AtomicBool,
    /// Files that no edit names any more, to be removed when no reader is opening. `None`: the session has ended, and they are the next one's.
    obsolete: Mutex<Option<Vec<FileName>>>,
    /// Held by whoever removes them.
    removing: Mutex<()>,
    /// How often something happened that somebody may wait for.
    progress: Mutex<u64>,
    happened: Condvar,
    lock: Mutex<Option<Box<dyn Lock>>>,
    /// The last field: what the others held is free before it goes.
    behind: GivesBack,
}

impl Drop for Engine {
    /// What a database that is closed had in memory is the system's again: the next one in the process counts on it.
    fn drop(&mut self) {
        self.behind.0 = self.budget.frees_much();
    }
}

/// What an engine begins with.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) fs: Arc<dyn FileSystem>,
    pub(crate) directory: PathBuf,
    pub(crate) database: Identity,
    pub(crate) tuning: Tuning,
    pub(crate) budget: Budget,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) background: Background,
    pub(crate) read_only: bool,
    pub(crate) recovery: RecoveryMode,
    pub(crate) events: Arc<Events>,
    pub(crate) commit: CommitState,
    pub(crate) manifest: Manifest,
    pub(crate) view: View,
    pub(crate) visible: SequenceNumber,
    pub(crate) lock: Option<Box<dyn Lock>>,
}

impl Engine {
    pub(crate) fn new(parts: Parts) -> Self {
        let (mut view, retired) = (parts.view, Arc::default());
        view.retire_to(&retired);
        let engine = Self {
            fs: parts.fs,
            directory: parts.directory,
            database: parts.database,
            idle: Mutex::new(Idle::new(&parts.tuning)),
            tuning: parts.tuning,
            budget: parts.budget,
            clock: parts.clock,
            background: parts.background,
            read_only: parts.read_only,
            recovery: parts.recovery,
            events: parts.events,
            counters: Counters::default(),
            flush_job: Mutex::new(None),
            compaction_job: Mutex::new(None),
            merge_ends: AtomicBool::new(false),
            bucket: Mutex::default(),
            backlog: Backlog::default(),
            avoided: Mutex::default(),
            dropped: Mutex::default(),
            claims: Mutex::default(),
            commit: Mutex::new(parts.commit),
            next_log: Mutex::default(),
            turning: Mutex::default(),
            is_turning: AtomicBool::new(false),
            tend_due: AtomicBool::new(false),
            ready_due: AtomicBool::new(false),
            ready_asked: Mutex::default(),
            manifest: Mutex::new(parts.manifest),
            at_ease: AtomicBool::new(false),
            view: ArcSwap::from_pointee(view),
            retired,
            view_swap: RwLock::new(()),
            commits_seen: AtomicU64::new(0),
            visible: AtomicU64::new(parts.visible),
            snapshots: Mutex::new(LiveSnapshots::default()),
            failure: Mutex::new(None),
            failed: AtomicBool::new(false),
            session: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            obsolete: Mutex::new(Some(Vec::new())),
            removing: Mutex::default(),
            progress: Mutex::new(0),
            happened: Condvar::new(),
            lock: Mutex::new(parts.lock),
            behind: GivesBack::default(),
        };
        let view = engine.view();
        engine.at_ease.store(Self::is_easy(&view, &engine.tuning), Ordering::Release);
        engine.settle_memory(&view);
        engine
    }

    /// The View as of now.
    #[inline]
    pub(crate) fn view(&self) -> Arc<View> {
        self.view.load_full()
    }

    /// The View, and what is visible in it: loaded in this order, never the reverse.
    #[inline]
    pub(crate) fn read(&self) -> Result<(Guard<Arc<View>>, SequenceNumber)> {
        if self.closed.load(Ordering::Acquire) {
            return Err(closed());
        }
        let view = self.view.load();
        Ok((view, self.visible()))
    }

    /// The last sequence number that readers see.
    #[inline]
    pub(crate) fn visible(&self) -> SequenceNumber {
        self.visible.load(Ordering::Acquire)
    }

    /// Shows what was applied. The caller holds `commit`.
    pub(crate) fn publish(&self, _commit: &CommitState, through: SequenceNumber) {
        debug_assert!(through >= self.visible(), "history grows");
        self.visible.store(through, Ordering::Release);
    }

    /// Puts a changed View in the place of the current one.
    pub(crate) fn install(&self, change: impl FnOnce(&mut View)) {
        let (view, before) = {
            let _alone = self.view_swap.write();
            let mut next = View::clone(&self.view.load());
            change(&mut next);
            next.retire_to(&self.retired);
            let next = Arc::new(next);
            self.at_ease.store(Self::is_easy(&next, &self.tuning), Ordering::Release);
            (Arc::clone(&next), self.view.swap(next))
        };
        // What goes with it may take long: no reader waits for that.
        drop(before);
        self.settle_memory(&view);
    }

    /// Whether writers pay nothing and wait for nothing now. (In the moment in which that changes either may be said.)
    #[inline]
    pub(crate) fn is_at_ease(&self) -> bool {
        self.at_ease.load(Ordering::Acquire)
    }

    /// Gives the cache what the others leave.
    fn settle_memory(&self, view: &View) {
        let is_fixed = |keyspace: &Arc<KeyspaceView>| matches!(keyspace.kind, KeyspaceKind::Fixed(_));
        let has_fixed = view.keyspaces.values().any(is_fixed);
        self.budget.expect_writes(self.tuning.write_bytes_max(has_fixed));
        let (write_bytes, pinned_bytes) = self.memtable_bytes(view);
        self.budget.settle(write_bytes, pinned_bytes);
    }

    /// What memtables in a View may come to take, and what others take now.
    fn memtable_bytes(&self, view: &View) -> (usize, usize) {
        let all = self.budget.memtables().charge.bytes();
        let frozen: usize = view.frozen.iter().map(|generation| generation.charged_bytes()).sum();
        let active: usize = view.keyspaces.values().map(|keyspace| keyspace.active.charged_bytes()).sum();
        // What is kept for the next memtable is there in its place.
        let own = frozen.saturating_add(active).saturating_add(self.budget.memtables().kept_bytes());
        let pinned = all.saturating_sub(own);
        (frozen.saturating_add(self.tuning.write_buffer_bytes), pinned)
    }

    /// A memtable, charged; `before` is the one whose place it takes: what came into that may come into this.
    pub(crate) fn new_memtable(&self, kind: KeyspaceKind, before: Option<&Memtable>) -> Memtable {
        let entries_expected = before.map_or(0, |before| FixedMemtable::rows_expected(before.entry_count()));
        Memtable::charged(kind, entries_expected, self.budget.memtables())
    }

    /// Registers a reader at the visible number and gives it the View, both as of one moment.
    pub(crate) fn take_snapshot(&self) -> (Arc<View>, SequenceNumber) {
        let _no_swap = self.view_swap.read();
        let view = self.view();
        let sequence = self.visible();
        *self.snapshots.lock().counts.get_or_insert_with(sequence, || 0) += 1;
        (view, sequence)
    }

    /// Forgets a registered reader, which has let go of its View: memory may be free now.
    pub(crate) fn release_snapshot(&self, sequence: SequenceNumber) {
        {
            let mut snapshots = self.snapshots.lock();
            if let Some(count) = snapshots.counts.get_mut(&sequence) {
                *count -= 1;
                if *count == 0 {
                    snapshots.counts.remove(&sequence);
                }
            }
        }
        self.share_memory();
    }

    /// Gives the cache what the others leave now: somebody took memory, or let go of it.
    pub(crate) fn share_memory(&self) {
        let (write_bytes, pinned_bytes) = self.memtable_bytes(&self.view());
        self.budget.release(write_bytes, pinned_bytes);
    }

    /// Gives cache and system what a merge of so many bytes took.
    pub(crate) fn merge_ended(&self, bytes: u64) {
        self.share_memory();
        self.budget.freed(usize::try_from(bytes).unwrap_or(usize::MAX));
        self.give_memory_back();
    }

    /// Has the allocator give back what it keeps, if that is much: behind what tables let go of, by the thread that does.
    pub(crate) fn give_memory_back(&self) {
        if !self.retired.ask() {
            self.budget.give_back();
        }
    }

    /// The sequence numbers that somebody reads at, ascending, the visible one the last: what a flush or merge must keep.
    pub(crate) fn read_sequences(&self) -> Vec<SequenceNumber> {
        // Exclusive: no snapshot is between its number and its registration.
        let _alone = self.view_swap.write();
        let mut sequences: Vec<_> = self.snapshots.lock().counts.keys().copied().collect();
        let visible = self.visible();
        if sequences.last() != Some(&visible) {
            sequences.push(visible);
        }
        sequences
    }

    /// How many snapshots are registered.
    pub(crate) fn snapshot_count(&self) -> usize {
        self.snapshots.lock().counts.values().sum()
    }

    /// Succeeds if writes are taken.
    pub(crate) fn check_writable(&self) -> Result<()> {
        if self.closed.load(Ordering::Acquire) {
            return Err(closed());
        }
        if self.read_only {
            return Err(Error::new(
                ErrorKind::ReadOnly,
                "the database was opened read-only: open it without to write",
            )
            .at(&self.directory));
        }
        self.check_healthy()
    }

    /// Succeeds unless an earlier write or sync failed.
    pub(crate) fn check_healthy(&self) -> Result<()> {
        match self.has_failed() {
            true => Err(self.failure().map_or_else(closed, |first| Error::failed(&first))),
            false => Ok(()),
        }
    }

    /// Whether nothing was committed since this was asked the last time: then whoever merges may use all processors.
    pub(crate) fn is_quiet(&self) -> bool {
        let commits = self.counters.commits();
        self.commits_seen.swap(commits, Ordering::Relaxed) == commits
    }

    /// Remembers that a write or sync failed, if none did before: nothing is acknowledged any more.
    pub(crate) fn fail(&self, error: Error) -> Error {
        self.fail_in(self.session(), error)
    }

    /// As [`Self::fail`], unless it happened to what was given up by opening again since: to a log of before, say, that somebody still waited for.
    pub(crate) fn fail_in(&self, session: u64, error: Error) -> Error {
        {
            let mut failure = self.failure.lock();
            if self.session() != session {
                return error;
            }
            if failure.is_none() {
                *failure = Some(error.clone());
                self.events.tell(|| Event::Failed { error: error.clone() });
            }
            self.failed.store(true, Ordering::Release);
        }
        self.notify();
        self.retired.wake();
        error
    }

    /// Whether an earlier write or sync failed.
    pub(crate) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// Which opening this is: 0, then one more with each after a failure.
    pub(crate) fn session(&self) -> u64 {
        self.session.load(Ordering::Acquire)
    }

    /// Writes are taken again. The caller holds `commit`.
    pub(crate) fn recover_from_failure(&self, _commit: &CommitState) {
        let mut failure = self.failure.lock();
        *failure = None;
        self.session.fetch_add(1, Ordering::AcqRel);
        self.failed.store(false, Ordering::Release);
    }

    /// The failure after which nothing is acknowledged.
    pub(crate) fn failure(&self) -> Option<Error> {
        self.failure.lock().clone()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Takes no more calls.
    pub(crate) fn set_closed(&self) {
        self.closed.store(true, Ordering::Release);
        self.notify();
        self.retired.wake();
    }

    /// Lets the next writer in.
    pub(crate) fn unlock(&self) {
        self.lock.lock().take();
    }

    /// Wakes whoever waits for something to happen. The lock is held for moments only, by whoever waits too: a writer asks for it, and the thread that merges may be kept from
    /// the processors for long.
    pub(crate) fn notify(&self) {
        {
            let mut happened = self.progress.lock();
            *happened = happened.wrapping_add(1);
        }
        self.happened.notify_all();
    }

    /// Waits until `is_done`, which waits for no lock but `view` and moments. Returns `false` if `limit` passed before,
    /// however often something happened meanwhile.
    pub(crate) fn wait_until(&self, mut is_done: impl FnMut() -> bool, limit: Option<Duration>) -> bool {
        let deadline = limit.map(|limit| self.clock.now().saturating_add(limit));
        loop {
            // What happens from here on ends the wait.
            let seen = *self.progress.lock();
            if is_done() {
                return true;
            }
            let left = deadline.map(|deadline| deadline.saturating_sub(self.clock.now()));
            if left.is_some_and(|left| left.is_zero()) {
                return is_done();
            }
            let happened = self.progress.lock();
            if *happened == seen {
                match left {
                    None => drop(self.happened.wait(happened)),
                    Some(left) => drop(self.happened.wait_for(happened, left)),
                }
            }
        }
    }

    /// Files that no durable edit names any more.
    pub(crate) fn add_obsolete(&self, files: impl IntoIterator<Item = FileName>) {
        if let Some(obsolete) = &mut *self.obsolete.lock() {
            obsolete.extend(files);
        }
    }

    /// Removes files that nobody needs, unless a reader is opening: then another time. Whoever has one open can go on reading it. A
    /// file that cannot be removed costs space and no more; the next opening tries again.
    ///
    /// Before this session's manifest has taken over nothing is removed: what opening read may have been written and never synced, and a power
    /// cut would bring back a manifest that needs the files. Nor after a failure: it may have been an edit, of which nobody knows whether it is there. The caller holds neither `manifest` nor what comes after it.
    pub(crate) fn remove_obsolete(&self) {
        while self.remove_some_obsolete() == Rest::More {}
    }

    /// As [`Self::remove_obsolete`], a few of them: readers cannot open meanwhile.
    pub(crate) fn remove_some_obsolete(&self) -> Rest {
        if self.obsolete_count() == 0 || !self.manifest.lock().has_written() {
            return Rest::Nothing;
        }
        let _one = self.removing.lock();
        let readers = FileName::Readers.path(&self.directory);
        let Ok(Some(_alone)) = self.fs.try_lock(&readers, LockMode::Exclusive) else { return Rest::Nothing };
        let mut removed = 0;
        for _ in 0..REMOVED_AT_ONCE {
            let first = self.obsolete.lock().as_ref().and_then(|files| files.first().copied());
            let Some(name) = first else { return Rest::Nothing };
            // Asked behind the list: what comes into it after a failure comes after the failure.
            if self.check_healthy().is_err() {
                return Rest::Nothing;
            }
            // The system frees its blocks meanwhile, which takes long: nobody waits for that who has others to add.
            let result = self.fs.remove_file(&name.path(&self.directory));
            if let Some(files) = &mut *self.obsolete.lock() {
                files.remove(0);
                if result.as_ref().is_err_and(|error| error.kind() != std::io::ErrorKind::NotFound) {
                    files.push(name);
                    continue;
                }
            }
            removed += 1;
            if let (FileName::Table(file), Ok(())) = (name, result) {
                self.events.tell(|| Event::TableRemoved { file });
            }
        }
        // Where nothing can be removed, no work is left.
        if removed > 0 { Rest::More } else { Rest::Nothing }
    }

    /// As [`Self::remove_obsolete`], by a thread that nobody waits for, if there is one.
    pub(crate) fn ask_to_remove(&self) {
        if !self.retired.ask() {
            self.remove_obsolete();
        }
    }

    /// Waits until what was done with before is let go of and removed, as far as it can be.
    pub(crate) fn wait_for_removal(&self) {
        self.retired.wait();
        self.remove_obsolete();
    }

    /// Files that are to be removed.
    pub(crate) fn obsolete_files(&self) -> Vec<FileName> {
        self.obsolete.lock().clone().unwrap_or_default()
    }

    /// The name of a keyspace that is there, or was.
    pub(crate) fn keyspace_name(&self, id: KeyspaceId) -> Arc<str> {
        let there = self.view().keyspaces.get(&id).map(|keyspace| Arc::clone(&keyspace.name));
        there.or_else(|| self.dropped.lock().get(id).cloned()).unwrap_or_default()
    }

    /// How many files wait to be removed.
    pub(crate) fn obsolete_count(&self) -> usize {
        self.obsolete.lock().as_ref().map_or(0, Vec::len)
    }

    /// From now on nothing is removed: the files are the next session's.
    pub(crate) fn forget_obsolete(&self) {
        let _none = self.removing.lock();
        self.obsolete.lock().take();
    }
}

pub(crate) fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the database was closed")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Db;
    use crate::fs::MemFs;

    #[test]
    fn what_happens_meanwhile_does_not_make_a_wait_longer() {
        let db = Db::builder("/db")
            .file_system(Arc::new(MemFs::new()))
            .background(Background::Manual)
            .open()
            .unwrap();
        let engine = db.engine();
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::Acquire) {
                    engine.notify();
                    std::thread::sleep(Duration::from_millis(1));
                }
            });
            let start = engine.clock.now();
            // Gives up, so that a failure is one and not a wait for ever.
            let give_up = || engine.clock.now() - start > Duration::from_secs(20);
            let has_given_up = engine.wait_until(give_up, Some(Duration::from_millis(50)));
            is_over.store(true, Ordering::Release);
            assert!(!has_given_up);
        });
    }

    #[test]
    fn after_a_failure_nothing_is_removed_whenever_it_was_given_up() {
        let fs = MemFs::new();
        let db = Db::builder("/db")
            .file_system(Arc::new(fs.clone()))
            .background(Background::Manual)
            .open()
            .unwrap();
        let keyspace = db.keyspace("k", crate::KeyspaceOptions::sorted()).unwrap();
        keyspace.put("a", "b").unwrap();
        db.flush().unwrap();
        let engine = db.engine();
        let names = [FileName::Table(900), FileName::Table(901), FileName::Table(902)];
        let paths = names.map(|name| name.path(&engine.directory));
        paths.iter().for_each(|path| drop(fs.create_new(path).unwrap()));
        let is_there = || paths.each_ref().map(|path| fs.exists(path).unwrap());
        let [first, second, third] = names;
        engine.add_obsolete([first]);
        engine.remove_obsolete();
        assert_eq!(is_there(), [false, true, true]);
        engine.add_obsolete([second]);
        engine.fail(Error::new(ErrorKind::Io, "as if"));
        engine.add_obsolete([third]);
        engine.remove_obsolete();
        assert_eq!((is_there(), engine.obsolete_files()), ([false, true, true], vec![second, third]));
        db.reopen().unwrap();
        assert_eq!(is_there(), [false, false, false]);
        assert_eq!(keyspace.get("a").unwrap().as_deref(), Some(&b"b"[..]));
    }
}
