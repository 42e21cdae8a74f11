//! What is done for the log before a writer would have to wait for it: having the system write out what it was handed, so that the next sync of it is
//! short; and making the next log's file when the memtables are half full. Both are done by the thread that flushes, between the steps of a flush; nothing
//! depends on their being done.

use std::sync::atomic::Ordering;

use crate::engine::{Engine, Progress};
use crate::error::{ErrorKind, Result};
use crate::filename::{FileName, FileNumber};
use crate::journal::{PreparedLog, random_identity};
use crate::write::active_bytes;

/// After so many bytes of a log it is looked after: seldom enough that writers are not held up by being asked, and waking somebody, for it.
const TENDED_BYTES: u64 = 4 << 20;

impl Engine {
    /// How many bytes of a log are written before it is looked after again. Small memtables are full before that.
    pub(crate) fn tended_bytes(&self) -> u64 {
        TENDED_BYTES.min(self.tuning.write_buffer_bytes as u64 / 4)
    }

    /// Asks for [`Self::tend_log`].
    pub(crate) fn ask_to_tend(&self) {
        self.tend_due.store(true, Ordering::Release);
        self.notify();
    }

    /// Whether that was asked for.
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
        if active_bytes(&self.view()) >= self.tuning.write_buffer_bytes / 2 {
            self.prepare_log()?;
        }
        Ok(Progress::Working)
    }

    fn prepare_log(&self) -> Result<()> {
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
            Ok(prepared) => {
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
