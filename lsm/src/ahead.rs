//! What is done before a writer would have to wait for it. For the log: having the system write out what it was handed, so that the next sync of it is
//! short; and making the next log's file when the memtables are half full, with room for what the log will hold. Both are done by the thread that flushes, between the steps of a flush (the file by whoever flushes or loads beside writers, too). For the
//! memtables: having memory at hand, by the thread that sweeps. Nothing depends on their being done.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::engine::{Engine, Progress};
use crate::error::{ErrorKind, Result};
use crate::filename::{FileName, FileNumber};
use crate::journal::{Journal, PreparedLog, random_identity};
use crate::levels::View;
use crate::memtable::sorted::SEGMENT_BYTES;
use crate::memtable::{FixedMemtable, Memtable};
use crate::write::{active_bytes, buffered_bytes};

/// After so many bytes of a log it is looked after: seldom enough that writers are not held up by being asked, and waking somebody, for it.
const TENDED_BYTES: u64 = 4 << 20;

/// Of the write buffer one part in so many is made ready, and no more than so many bytes: more than is written between two looks.
const READY_PART: usize = 4;
const READY_BYTES_MAX: usize = 16 << 20;

/// What is ready is kept for so long behind the last sign that much is written: a writer of a megabyte a second gives one in time.
const READY_FOR: Duration = Duration::from_secs(5);

impl Engine {
    /// How many bytes of a log are written before it is looked after again. Small memtables are full before that.
    pub(crate) fn tended_bytes(&self) -> u64 {
        TENDED_BYTES.min(self.tuning.write_buffer_bytes as u64 / 4)
    }

    /// Asks for [`Self::tend_log`] and [`Self::make_memory_ready`].
    pub(crate) fn ask_to_tend(&self) {
        *self.ready_asked.lock() = Some(self.clock.now());
        self.tend_due.store(true, Ordering::Release);
        self.notify();
        self.ready_due.store(true, Ordering::Release);
        self.retired.ask();
    }

    /// Makes memory ready that memtables will need soon, if that was asked for.
    pub(crate) fn make_memory_ready(&self) {
        let supply = self.budget.memtables();
        supply.trim();
        if !self.ready_due.swap(false, Ordering::AcqRel) {
            return;
        }
        let buffer = self.tuning.write_buffer_bytes;
        let ahead = (buffer / READY_PART).min(READY_BYTES_MAX);
        let (is_large_tree_there, rows) = {
            let view = self.view();
            // Small ones have small pieces.
            let is_large =
                |memtable: &Memtable| memtable.is_sorted() && memtable.memory_bytes() >= 2 * SEGMENT_BYTES;
            let mut memtables = view.keyspaces.values().flat_map(|keyspace| keyspace.memtables());
            (memtables.any(is_large), self.largest_rows(&view))
        };
        if is_large_tree_there {
            supply.segments.fill(ahead, buffer);
        }
        // It holds no View while it waits for memory.
        if let Some((memtable, to_come)) = rows {
            memtable.make_ready(ahead, to_come);
        }
        // It may have been given back meanwhile, before there was any.
        if self.ready_asked.lock().is_none() {
            supply.clear();
        }
    }

    /// The largest memtable of rows that is written, and how many rows will come before the write buffer is full, if all keyspaces go on as they do.
    fn largest_rows(&self, view: &View) -> Option<(Arc<FixedMemtable>, usize)> {
        let rows = view.keyspaces.values().filter_map(|keyspace| match &keyspace.active {
            Memtable::Fixed(memtable) => Some(memtable),
            Memtable::Sorted(_) => None,
        });
        let largest = rows.max_by_key(|memtable| memtable.memory_bytes())?;
        let buffered = buffered_bytes(view, &self.tuning);
        let left = self.tuning.write_buffer_bytes.saturating_sub(buffered) as u64;
        // Its slots were there with the first row.
        let grown = buffered.saturating_sub(largest.slot_bytes() / self.tuning.fixed_buffer_factor);
        let to_come = left.saturating_mul(largest.entry_count() as u64) / grown.max(1) as u64;
        Some((Arc::clone(largest), usize::try_from(to_come).unwrap_or(usize::MAX)))
    }

    /// Gives back what was made ready for memtables and logs to come, of memory and of the disk, if for some time there was no sign that much is written; otherwise says in what time to ask again.
    pub(crate) fn give_back_ready(&self) -> Option<Duration> {
        let asked = (*self.ready_asked.lock())?;
        let left = asked.saturating_add(READY_FOR).saturating_sub(self.clock.now());
        if left > Duration::ZERO {
            return Some(left);
        }
        self.keep_nothing_ready();
        None
    }

    /// Gives back what was made ready for memtables and logs to come. (What a memtable that is written has beyond its rows stays, for as long as that is there.)
    pub(crate) fn keep_nothing_ready(&self) {
        *self.ready_asked.lock() = None;
        self.budget.memtables().clear();
        if let Some(next_log) = &mut *self.next_log.lock() {
            next_log.release();
        }
    }

    /// Whether [`Self::tend_log`] was asked for.
    pub(crate) fn is_tend_due(&self) -> bool {
        self.tend_due.load(Ordering::Acquire)
    }

    /// Looks after the log, if that was asked for.
    ///
    /// # Errors
    /// Closed; ReadOnly; Failed and those of syncing: the database has failed then.
    pub(crate) fn tend_log(&self) -> Result<Progress> {
        if !self.tend_due.swap(false, Ordering::AcqRel) {
            return Ok(Progress::Idle);
        }
        let journal = self.commit.lock().journal.clone();
        let Some(journal) = journal else { return Ok(Progress::Idle) };
        journal.write_back();
        let view = self.view();
        if active_bytes(&view) >= self.tuning.write_buffer_bytes / 2 {
            self.prepare_log(self.expected_log_bytes(&view, &journal))?;
        }
        Ok(Progress::Working)
    }

    /// Makes the next log, if there is none, for whoever will go on in it before the memtables are full.
    ///
    /// # Errors
    /// As [`Self::tend_log`].
    pub(crate) fn expect_log(&self) -> Result<()> {
        let journal = self.commit.lock().journal.clone();
        let Some(journal) = journal else { return Ok(()) };
        let view = self.view();
        // From little that was written nothing follows.
        let is_half_full = active_bytes(&view) >= self.tuning.write_buffer_bytes / 2;
        self.prepare_log(if is_half_full { self.expected_log_bytes(&view, &journal) } else { 0 })
    }

    /// How long the next log will become, if it is written as this one is.
    fn expected_log_bytes(&self, view: &View, journal: &Journal) -> u64 {
        let full = buffered_bytes(view, &self.tuning).max(1) as u64;
        let buffer = self.tuning.write_buffer_bytes as u64;
        let whole = journal.position().offset().saturating_mul(buffer) / full;
        // A memtable may be a little more than full; one that is written over and over never is.
        let most = buffer.saturating_mul(2 * self.tuning.fixed_buffer_factor.max(1) as u64);
        whole.saturating_add(whole / 8).min(most)
    }

    /// Makes it, with room for so many bytes.
    fn prepare_log(&self, room: u64) -> Result<()> {
        let mut next_log = self.next_log.lock();
        self.check_writable()?;
        if next_log.is_some() {
            return Ok(());
        }
        let number = self.manifest.lock().next_file().map_err(|error| match error.kind() {
            ErrorKind::Closed => error,
            _ => self.fail(error),
        })?;
        match self.create_log_file(number) {
            Ok(mut prepared) => {
                if room > 0 {
                    prepared.reserve(room);
                }
                prepared.sync_name(self.fs.as_ref()).map_err(|error| self.fail(error))?;
                *next_log = Some(prepared);
            }
            // It is not needed yet. Whoever needs one makes it, and is told.
            Err(_) => self.add_obsolete([FileName::Log(number)]),
        }
        Ok(())
    }

    /// A log's file, with its header and no more; its name is not durable yet.
    pub(crate) fn create_log_file(&self, number: FileNumber) -> Result<PreparedLog> {
        let path = FileName::Log(number).path(&self.directory);
        PreparedLog::create(self.fs.as_ref(), &path, number, random_identity()?)
    }

    /// Removes the next log's file, at the end of a session. If it stays, the next one removes it.
    pub(crate) fn drop_next_log(&self) {
        if let Some(prepared) = self.next_log.lock().take() {
            let _ = self.fs.remove_file(prepared.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use super::*;
    use crate::fs::MemFs;
    use crate::memtable::Supply;
    use crate::options::Background;
    use crate::{Db, KeyspaceOptions, Tuning};

    fn memory_is_ready_while_much_is_written(options: KeyspaceOptions, kept_bytes: fn(&Supply) -> usize) {
        let db = Db::builder("/db")
            .file_system(Arc::new(MemFs::new()))
            .background(Background::Threads)
            .memory_bytes(128 << 20)
            .open()
            .unwrap();
        let keyspace = db.keyspace("k", options).unwrap();
        let kept_bytes = || kept_bytes(db.engine().budget.memtables());
        let wait = |is_done: &dyn Fn() -> bool| {
            let begun = Instant::now();
            while !is_done() {
                assert!(begun.elapsed() < Duration::from_secs(60), "{} bytes", kept_bytes());
                std::thread::sleep(Duration::from_millis(1));
            }
        };
        for round in 0..2_u64 {
            assert_eq!(kept_bytes(), 0, "nobody wrote");
            for number in 0..14_000 {
                keyspace.put((number * 2 + round).to_be_bytes(), [7; 1000]).unwrap();
            }
            wait(&|| kept_bytes() > 0);
            assert!(db.stats().memtable_bytes >= kept_bytes());
            // A synced commit now and then is not much.
            wait(&|| {
                std::thread::sleep(Duration::from_millis(50));
                keyspace.put([0; 8], [0; 1000]).unwrap();
                db.sync().unwrap();
                kept_bytes() == 0
            });
        }
        let all = db.stats().memtable_bytes;
        db.flush().unwrap();
        assert!(all > 0 && db.stats().memtable_bytes == 0);
    }

    #[test]
    fn memory_for_trees_is_made_ready_while_much_is_written_and_given_back_when_it_is_not() {
        memory_is_ready_while_much_is_written(KeyspaceOptions::sorted(), |supply| supply.segments.bytes());
    }

    #[test]
    fn memory_for_rows_is_made_ready_while_much_is_written_and_given_back_when_it_is_not() {
        let options = KeyspaceOptions::fixed(8, 1000).unwrap();
        memory_is_ready_while_much_is_written(options, |supply| supply.rows.bytes());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn logs_have_room_set_aside_and_give_it_back() {
        use std::os::unix::fs::MetadataExt;
        let temporary = tempfile::tempdir().unwrap();
        let tuning = Tuning { write_buffer_bytes: 4 << 20, ..Tuning::for_memory(64 << 20) };
        let db = Db::builder(temporary.path())
            .background(Background::Manual)
            .memory_bytes(64 << 20)
            .tuning(tuning)
            .open()
            .unwrap();
        let keyspace = db.keyspace("k", KeyspaceOptions::sorted()).unwrap();
        let engine = db.engine();
        let on_disk = |number: FileNumber| {
            let metadata = std::fs::metadata(FileName::Log(number).path(temporary.path())).unwrap();
            (metadata.len(), metadata.blocks() * 512)
        };
        let mut number = 0_u64;
        let mut write_until = |is_done: &dyn Fn() -> bool| {
            while !is_done() {
                keyspace.put(number.to_be_bytes(), [7; 1000]).unwrap();
                engine.tend_log().unwrap();
                number += 1;
            }
        };
        let next_log = || engine.next_log.lock().as_ref().map(PreparedLog::number);
        write_until(&|| next_log().is_some());
        let next = next_log().unwrap();
        let (length, reserved) = on_disk(next);
        assert!(length < 4096);
        if reserved < 1 << 20 {
            return eprintln!("this file system sets no room aside");
        }
        assert!((2 << 20..6 << 20).contains(&reserved), "{reserved}");
        // Nobody writes for a while; and then much again.
        engine.keep_nothing_ready();
        assert!(on_disk(next).1 < 1 << 20);
        write_until(&|| engine.is_turning());
        write_until(&|| next_log().is_some());
        let next = next_log().unwrap();
        assert!(on_disk(next).1 >= 2 << 20);
        while db.step().unwrap() == crate::Progress::Working {}
        // It is taken, and is much smaller than it was thought to become.
        write_until(&|| engine.is_turning());
        keyspace.put("one", "more").unwrap();
        let state = &mut *engine.commit.lock();
        engine.rotate(state, crate::write::Beside::Nobody).unwrap();
        let (length, bytes) = on_disk(next);
        assert!((1..1 << 20).contains(&length) && bytes < 1 << 20, "{length} of {bytes}");
    }

    #[test]
    fn beside_a_keyspace_that_takes_more_rows_get_what_they_will_need() {
        let db = Db::builder("/db")
            .file_system(Arc::new(MemFs::new()))
            .background(Background::Manual)
            .memory_bytes(128 << 20)
            .open()
            .unwrap();
        let rows = db.keyspace("rows", KeyspaceOptions::fixed(8, 24).unwrap()).unwrap();
        let map = db.keyspace("map", KeyspaceOptions::sorted()).unwrap();
        let engine = db.engine();
        let kept_bytes = || engine.budget.memtables().rows.bytes();
        let charged_bytes = || {
            let actives = engine.view();
            let actives = actives.keyspaces.values().filter(|keyspace| !keyspace.active.is_sorted());
            actives.map(|keyspace| keyspace.active.charged_bytes()).sum::<usize>()
        };
        let mut number = 0_u64;
        let mut whole = 0;
        for generation in 0..3 {
            while engine.view().frozen.is_empty() {
                number += 1;
                rows.put(number.to_be_bytes(), [7; 24]).unwrap();
                map.put(number.to_be_bytes(), [7; 400]).unwrap();
                if number.is_multiple_of(1000) {
                    engine.make_memory_ready();
                    whole = charged_bytes().max(whole);
                    let kept = kept_bytes();
                    assert!(generation == 0 || kept <= 2 * whole, "{kept} for {whole} of {generation}");
                }
            }
            // The first row of the next one is there, in a part that was ready.
            assert!(charged_bytes() > whole / 2, "{} for {whole} of {generation}", charged_bytes());
            while db.step().unwrap() == crate::Progress::Working {}
        }
    }
}
