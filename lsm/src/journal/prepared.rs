//! A log made before it is needed: its file is there, with its name, when the log before it ends. Whoever begins it then writes its first record and syncs
//! that, and waits for nothing else.
//!
//! Until then it holds its header and no more: every recovery takes it for a file that was being made and never was a log.

use std::path::{Path, PathBuf};

use super::group::{Journal, JournalOptions};
use super::logfile::{LogKind, Start};
use super::record::RecordKind;
use super::{RecordWriter, sites};
use crate::checksum::Identity;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::filename::FileNumber;
use crate::fs::{Advice, FileSystem};

/// A log that nobody writes to yet.
#[derive(Debug)]
pub struct PreparedLog {
    writer: RecordWriter,
    number: FileNumber,
    identity: Identity,
    reserved: u64,
}

impl PreparedLog {
    /// Makes the file. Nothing is durable before [`Self::sync_name`].
    ///
    /// # Errors
    /// Those of creating and writing; the file may be there then, and its number is not to be used again.
    pub fn create(fs: &dyn FileSystem, path: &Path, number: FileNumber, identity: Identity) -> Result<Self> {
        let mut writer = RecordWriter::create(fs, path, LogKind::Journal, identity)?;
        writer.write()?;
        Ok(Self { writer, number, identity, reserved: 0 })
    }

    /// Has the system set room aside for so many bytes, where it can and has enough. While the system allocates a log's blocks, those wait who write to the log.
    pub fn reserve(&mut self, bytes: u64) {
        self.writer.file().advise(Advice::Reserve, 0, bytes);
        self.reserved = bytes;
    }

    /// Gives that room back: it is not needed soon.
    pub fn release(&mut self) {
        if std::mem::take(&mut self.reserved) > 0 {
            self.writer.file().advise(Advice::Release, 0, 0);
        }
    }

    /// Makes its name durable, and has the system write what is in it; that is durable when it begins.
    ///
    /// # Errors
    /// That of the sync: it is unknown then which names in the directory are durable.
    pub fn sync_name(&self, fs: &dyn FileSystem) -> Result<()> {
        self.writer.file().advise(Advice::WriteBack, 0, 0);
        let directory = self.path().parent().unwrap_or(Path::new(""));
        fs.sync_dir(directory, sites::CREATE_DIRECTORY).context("sync the directory", directory)
    }

    /// Its number.
    pub fn number(&self) -> FileNumber {
        self.number
    }

    /// Its identity.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Its file.
    pub fn path(&self) -> &Path {
        self.writer.path()
    }

    /// Begins it. When this returns, its first record is durable.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] if `start` is that of another log, or for options that cannot be; those of writing and syncing.
    pub fn begin(self, start: Start, options: JournalOptions) -> Result<Journal> {
        let journal = self.begin_unsynced(start, options)?;
        journal.sync_start()?;
        Ok(journal)
    }

    /// As [`Self::begin`], but its first record is merely handed to the system. Nothing in the log may count as durable before [`Journal::sync_start`].
    ///
    /// # Errors
    /// As [`Self::begin`], those of syncing not among them.
    pub fn begin_unsynced(mut self, start: Start, options: JournalOptions) -> Result<Journal> {
        if (start.number, start.identity) != (self.number, self.identity) {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                format!("log {} was prepared, not log {}", self.number, start.number),
            ));
        }
        options.check()?;
        self.writer.append(RecordKind::Start, false, start.next_sequence, 0, &start.encode())?;
        self.writer.write()?;
        let path: PathBuf = self.path().to_owned();
        Ok(Journal::of(self.writer, path, start, options, self.reserved))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::{CrashPolicy, MemFs};
    use crate::journal::{
        Access, BatchRecord, ExpectedLog, Flushed, LogEnd, RecoverOptions, RecoveryMode, find_stray,
        random_identity, recover,
    };
    use std::sync::Arc;

    #[test]
    fn a_prepared_log_is_nothing_until_it_begins_and_then_as_any_other() {
        let mem = MemFs::new();
        let fs: Arc<dyn FileSystem> = Arc::new(mem.clone());
        let directory = Path::new("/db");
        fs.create_dir_all(directory, sites::CREATE_DIRECTORY).unwrap();
        let path = crate::filename::FileName::Log(7).path(directory);
        let (identity, database) = (random_identity().unwrap(), random_identity().unwrap());
        let prepared = PreparedLog::create(fs.as_ref(), &path, 7, identity).unwrap();
        prepared.sync_name(fs.as_ref()).unwrap();
        for policy in CrashPolicy::ALL {
            let after = mem.crash(policy, 1);
            assert_eq!(find_stray(&after, directory, 7, database, 0).unwrap(), None, "{policy:?}");
        }
        let start = Start { number: 7, identity, database, previous: None, next_sequence: 5 };
        let other = Start { number: 8, ..start };
        let wrong = PreparedLog::create(fs.as_ref(), &directory.join("x"), 7, identity).unwrap();
        assert_eq!(
            wrong.begin(other, JournalOptions::default()).unwrap_err().kind(),
            ErrorKind::InvalidArgument
        );
        let log = prepared.begin(start, JournalOptions::default()).unwrap();
        let batch = BatchRecord { first_sequence: 5, op_count: 2, sync: true, payload: b"payload" };
        log.sync_through(log.append(batch).unwrap()).unwrap();
        let after = mem.crash(CrashPolicy::SyncedOnly, 1);
        let stray = find_stray(&after, directory, 7, database, 0).unwrap().unwrap();
        assert_eq!((stray.first, stray.last, stray.identity), (5, 6, identity));
        assert_eq!(log.end(6).unwrap().last_sequence, 6);
    }

    #[test]
    fn a_log_that_failed_before_its_first_batch_may_begin_behind_numbers_that_were_given_up() {
        let fs: Arc<dyn FileSystem> = Arc::new(MemFs::new());
        let directory = Path::new("/db");
        fs.create_dir_all(directory, sites::CREATE_DIRECTORY).unwrap();
        let (identity, database) = (random_identity().unwrap(), random_identity().unwrap());
        let previous = LogEnd { number: 1, identity: database, offset: 200, last_sequence: 10 };
        let start = Start { number: 2, identity, database, previous: Some(previous), next_sequence: 13 };
        let path = crate::filename::FileName::Log(2).path(directory);
        let log = Journal::create(&fs, &path, start, JournalOptions::default()).unwrap();
        let cut = log.durable_cut();
        let expected = [ExpectedLog { number: 2, identity: Some(identity), cut: Some(cut) }];
        let options = RecoverOptions {
            database,
            flushed: Flushed { every: 10, any: 10 },
            mode: RecoveryMode::Tail,
            access: Access::Write,
        };
        let recovery = recover(&fs, directory, &expected, &options, &mut |_| Ok(())).unwrap();
        assert_eq!((recovery.last_sequence, recovery.next_sequence), (12, 13));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn room_that_a_log_does_not_need_goes_back_when_it_ends() {
        use std::os::unix::fs::MetadataExt;
        let temporary = tempfile::tempdir().unwrap();
        let path = crate::filename::FileName::Log(7).path(temporary.path());
        let bytes_on_disk = || std::fs::metadata(&path).unwrap().blocks() * 512;
        let (identity, database) = (random_identity().unwrap(), random_identity().unwrap());
        let mut prepared = PreparedLog::create(&crate::fs::OsFs, &path, 7, identity).unwrap();
        prepared.reserve(4 << 20);
        prepared.sync_name(&crate::fs::OsFs).unwrap();
        let start = Start { number: 7, identity, database, previous: None, next_sequence: 1 };
        let log = prepared.begin(start, JournalOptions::default()).unwrap();
        let batch = BatchRecord { first_sequence: 1, op_count: 1, sync: true, payload: &[7; 10_000] };
        log.sync_through(log.append(batch).unwrap()).unwrap();
        // Unless the file system cannot, or has too little.
        let reserved = bytes_on_disk();
        assert!(!(1 << 20..4 << 20).contains(&reserved), "{reserved}");
        let end = log.end(1).unwrap();
        assert!(bytes_on_disk() < 1 << 20);
        assert!(std::fs::metadata(&path).unwrap().len() >= end.offset);
    }
}
