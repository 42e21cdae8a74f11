//! Writing edits: the state as of the last one, and the file that says so.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::sites;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::filename::{FileName, FileNumber};
use crate::fs::FileSystem;
use crate::journal::{LogKind, RecordKind, RecordWriter, random_identity};
use crate::key::SequenceNumber;
use crate::levels::{Change, Edit, Levels};

/// File numbers that an edit sets aside for files not yet made: so that what a crash leaves of one has a number that the manifest has
/// given out, and is known for a leftover.
const NUMBERS_AHEAD: FileNumber = 16;

/// The state of the database as the manifest has it, and the way to change it. One at a time, under a lock that no reader takes.
#[derive(Debug)]
pub(crate) struct Manifest {
    fs: Arc<dyn FileSystem>,
    directory: PathBuf,
    levels: Arc<Levels>,
    /// This session's file; `None` before the first edit.
    writer: Option<RecordWriter>,
    /// Where its first record ends.
    fresh_bytes: u64,
    edit_count: u64,
    /// The next number to give out; below `levels.next_file`.
    next_file: FileNumber,
    /// Everything up to this sequence number is durable in the journal.
    journal_durable: SequenceNumber,
    bytes_max: u64,
    failed: Option<Error>,
    closed: bool,
}

impl Manifest {
    /// Goes on from `levels`. Numbers below `next_file` are in use as file names, whoever gave them.
    pub(crate) fn new(
        fs: Arc<dyn FileSystem>,
        directory: &Path,
        levels: Levels,
        next_file: FileNumber,
        bytes_max: u64,
    ) -> Self {
        Self {
            fs,
            directory: directory.to_owned(),
            next_file: next_file.max(levels.next_file),
            levels: Arc::new(levels),
            writer: None,
            fresh_bytes: 0,
            edit_count: 0,
            journal_durable: 0,
            bytes_max,
            failed: None,
            closed: false,
        }
    }

    /// The state as of the last edit.
    pub(crate) fn levels(&self) -> &Arc<Levels> {
        &self.levels
    }

    /// Whether this session has written anything.
    pub(crate) fn has_written(&self) -> bool {
        self.writer.is_some()
    }

    /// Says that the journal is durable through a sequence number, so that edits may build on it.
    pub(crate) fn journal_is_durable(&mut self, through: SequenceNumber) {
        self.journal_durable = self.journal_durable.max(through);
    }

    /// Forgets a failure, and the file that it happened to: what stands at its end is unknown. The next edit goes behind a fresh manifest, which
    /// says what was so before the edit that failed.
    pub(crate) fn renew(&mut self) {
        self.writer = None;
        self.failed = None;
    }

    /// Ends the session: no edit is made any more, no number given out. The next session writes a manifest of its own in the place of this
    /// one, and knows of nothing that would still be said here.
    pub(crate) fn close(&mut self) {
        self.closed = true;
    }

    fn check_open(&self) -> Result<()> {
        match self.closed {
            true => Err(Error::new(ErrorKind::Closed, "the manifest was closed")),
            false => Ok(()),
        }
    }

    /// A number for a new file.
    ///
    /// # Errors
    /// As [`Self::commit`]: now and then an edit is needed.
    pub(crate) fn next_file(&mut self) -> Result<FileNumber> {
        self.check_open()?;
        if self.next_file >= self.levels.next_file {
            self.commit(Edit::default())?;
        }
        let number = self.next_file;
        self.next_file += 1;
        Ok(number)
    }

    /// Whether an edit could not be written: then no other will be.
    pub(crate) fn has_failed(&self) -> bool {
        self.failed.is_some()
    }

    /// Makes an edit durable. When it returns, the state is the new one.
    ///
    /// # Errors
    /// Closed; Corruption if the edit does not fit, or file numbers are used up: nothing happened. Otherwise those of writing: it is unknown
    /// whether the edit is there, and no other will be written.
    ///
    /// # Panics
    /// If the edit makes a write visible that the journal might lose: a batch over two keyspaces would survive by half.
    pub(crate) fn commit(&mut self, mut edit: Edit) -> Result<Arc<Levels>> {
        self.check_open()?;
        if let Some(first) = &self.failed {
            return Err(Error::failed(first));
        }
        // A manifest may say any number, so that addition may end.
        let ahead = self.next_file.checked_add(NUMBERS_AHEAD);
        let ahead = ahead.ok_or_else(|| Error::corruption("the numbers of files are used up"))?;
        if ahead - NUMBERS_AHEAD / 2 > self.levels.next_file {
            // The number only rises: what the edit says of a smaller one is said with this one.
            edit.changes.retain(|change| !matches!(change, Change::NextFile(number) if *number <= ahead));
            edit.changes.insert(0, Change::NextFile(ahead));
        }
        for change in &edit.changes {
            let visible = match change {
                Change::TableAdded { table, .. } => table.sequence_max,
                Change::Flushed { through, .. } => *through,
                Change::KeyspacesDropped { flushed, .. } => *flushed,
                _ => 0,
            };
            assert!(
                visible <= self.journal_durable,
                "an edit must not overtake the journal: it shows sequence number {visible}, durable is {}",
                self.journal_durable
            );
        }
        let next = self.levels.apply(&edit)?;
        let written = self.write(&edit, &next);
        if let Err(error) = written {
            self.failed = Some(error.clone());
            return Err(error);
        }
        self.levels = Arc::new(next);
        Ok(Arc::clone(&self.levels))
    }

    fn write(&mut self, edit: &Edit, next: &Levels) -> Result<()> {
        match &mut self.writer {
            Some(writer) if writer.position() <= self.bytes_max.max(4 * self.fresh_bytes) => {
                self.edit_count += 1;
                writer.append(RecordKind::Batch, true, self.edit_count, 1, &edit.encode())?;
                writer.sync(sites::EDIT)
            }
            Some(_) => self.begin(next),
            None => {
                // The edit goes behind a manifest that says what the last session's says: two steps, so that what a crash leaves
                // is the state before, or the state after.
                self.begin(&Arc::clone(&self.levels))?;
                self.write(edit, next)
            }
        }
    }

    /// Writes a manifest that says `levels`, and lets it take over.
    fn begin(&mut self, levels: &Levels) -> Result<()> {
        let writer = begin(&self.fs, &self.directory, &levels.to_edit())?;
        self.fresh_bytes = writer.position();
        self.edit_count = 1;
        self.writer = Some(writer);
        Ok(())
    }

    /// Writes a first manifest, for a database that has none.
    ///
    /// # Errors
    /// Those of writing.
    pub(crate) fn create(&mut self) -> Result<()> {
        self.begin(&Arc::clone(&self.levels))
    }
}

/// Writes a manifest that begins with `edit`, and lets it take over. When this returns it is in force, durably.
///
/// # Errors
/// Those of writing: it is unknown then which one is in force, the one before or this one.
pub(crate) fn begin(fs: &Arc<dyn FileSystem>, directory: &Path, edit: &Edit) -> Result<RecordWriter> {
    let aside = FileName::ManifestNew.path(directory);
    let path = FileName::Manifest.path(directory);
    match fs.remove_file(&aside) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(Error::io("remove an unfinished manifest", error).at(&aside));
        }
        _ => {}
    }
    let mut writer = RecordWriter::create(fs.as_ref(), &aside, LogKind::Manifest, random_identity()?)?;
    writer.append(RecordKind::Batch, true, 1, 1, &edit.encode())?;
    writer.sync(sites::FRESH)?;
    fs.rename(&aside, &path).context("let a fresh manifest take over", &path)?;
    writer.was_renamed(path);
    fs.sync_dir(directory, sites::FRESH_DIRECTORY).context("sync the directory", directory)?;
    Ok(writer)
}

#[cfg(test)]
mod tests {
    use super::super::read;
    use super::*;
    use crate::batch::KeyspaceId;
    use crate::checksum::Identity;
    use crate::fs::{CrashPolicy, Fault, FaultCall, FaultEffect, FaultFs, MemFs};
    use crate::levels::KeyspaceKind;

    fn keyspace(number: u32) -> Change {
        let id = KeyspaceId::new(number).unwrap();
        Change::Keyspace { id, name: format!("keyspace {number}").into(), kind: KeyspaceKind::Sorted }
    }

    fn start(fs: &MemFs, bytes_max: u64) -> Manifest {
        let fs: Arc<dyn FileSystem> = Arc::new(fs.clone());
        let found = read(&fs, Path::new("/")).unwrap();
        let levels = found.map_or_else(|| Levels::new(Identity::from_bytes([3; 16])), |found| found.levels);
        Manifest::new(fs, Path::new("/"), levels, 1, bytes_max)
    }

    fn on_disk(fs: &MemFs) -> Levels {
        let fs: Arc<dyn FileSystem> = Arc::new(fs.clone());
        read(&fs, Path::new("/")).unwrap().unwrap().levels
    }

    #[test]
    fn edits_are_there_after_a_power_loss() {
        let fs = MemFs::new();
        let mut manifest = start(&fs, 1 << 20);
        for number in 1..20 {
            manifest.commit(Edit { changes: vec![keyspace(number)] }).unwrap();
            let crashed = fs.crash(CrashPolicy::SyncedOnly, u64::from(number));
            assert_eq!(on_disk(&crashed), **manifest.levels());
        }
        let mut manifest = start(&fs, 1 << 20);
        assert!(!manifest.has_written());
        manifest.commit(Edit { changes: vec![keyspace(30)] }).unwrap();
        assert_eq!(on_disk(&fs), **manifest.levels());
    }

    #[test]
    fn an_error_names_the_file_that_it_is_about() {
        let faulty = FaultFs::new(Arc::new(MemFs::new()));
        let fs: Arc<dyn FileSystem> = Arc::new(faulty.clone());
        let levels = Levels::new(Identity::from_bytes([3; 16]));
        let mut manifest = Manifest::new(fs, Path::new("/"), levels, 1, 1 << 20);
        manifest.commit(Edit { changes: vec![keyspace(1)] }).unwrap();
        faulty.inject(Fault::once(FaultCall::Sync, 1, FaultEffect::Error));
        let error = manifest.commit(Edit { changes: vec![keyspace(2)] }).unwrap_err();
        assert_eq!(error.path(), Some(Path::new("/MANIFEST")), "{error}");
    }

    #[test]
    fn a_long_manifest_is_replaced() {
        let fs = MemFs::new();
        let mut manifest = start(&fs, 1000);
        for number in 1..200 {
            manifest.commit(Edit { changes: vec![keyspace(number)] }).unwrap();
            assert_eq!(on_disk(&fs.crash(CrashPolicy::SyncedOnly, 1)), **manifest.levels());
        }
        let bytes = fs.open_read(Path::new("/MANIFEST")).unwrap().len().unwrap();
        assert!(bytes < 60_000, "{bytes}");
    }

    #[test]
    fn file_numbers_are_set_aside_durably() {
        let fs = MemFs::new();
        let mut manifest = start(&fs, 1 << 20);
        for _ in 0..100 {
            let number = manifest.next_file().unwrap();
            assert!(number < on_disk(&fs.crash(CrashPolicy::SyncedOnly, 1)).next_file);
        }
    }

    #[test]
    #[should_panic(expected = "overtake the journal")]
    fn an_edit_that_overtakes_the_journal_is_a_bug() {
        let mut manifest = start(&MemFs::new(), 1 << 20);
        manifest.commit(Edit { changes: vec![keyspace(1)] }).unwrap();
        manifest.journal_is_durable(4);
        let flushed = |through| Change::Flushed { keyspace: KeyspaceId::new(1).unwrap(), through };
        manifest.commit(Edit { changes: vec![flushed(4)] }).unwrap();
        let _ = manifest.commit(Edit { changes: vec![flushed(5)] });
    }

    #[test]
    fn every_flipped_bit_is_found_or_harmless() {
        let fs = MemFs::new();
        let mut manifest = start(&fs, 1 << 20);
        manifest.commit(Edit { changes: vec![keyspace(1)] }).unwrap();
        manifest.commit(Edit { changes: vec![keyspace(2)] }).unwrap();
        let file = fs.open_read(Path::new("/MANIFEST")).unwrap();
        let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
        file.read_exact_at(&mut bytes, 0).unwrap();
        for index in 0..bytes.len() {
            let damaged = MemFs::new();
            let mut copy = bytes.clone();
            copy[index] ^= 0x10;
            damaged.create_new(Path::new("/MANIFEST")).unwrap().write_all_at(&copy, 0).unwrap();
            let damaged: Arc<dyn FileSystem> = Arc::new(damaged);
            match read(&damaged, Path::new("/")) {
                Err(error) => assert_eq!(error.path(), Some(Path::new("/MANIFEST")), "{error}"),
                // Only the last edit can be taken for torn; and that is said.
                Ok(Some(report)) if report.ends_clean => assert_eq!(report.levels, **manifest.levels()),
                Ok(report) => assert_eq!(report.unwrap().edits, 2),
            }
        }
    }

    #[test]
    fn a_closed_manifest_says_nothing_more() {
        let fs = MemFs::new();
        let mut manifest = start(&fs, 1 << 20);
        manifest.commit(Edit { changes: vec![keyspace(1)] }).unwrap();
        manifest.close();
        let calls = fs.calls();
        let error = manifest.commit(Edit { changes: vec![keyspace(2)] }).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
        assert_eq!(manifest.next_file().unwrap_err().kind(), ErrorKind::Closed);
        assert_eq!(fs.calls(), calls);
    }

    #[test]
    fn file_numbers_that_are_used_up_are_an_error() {
        let fs: Arc<dyn FileSystem> = Arc::new(MemFs::new());
        let levels = Levels::new(Identity::from_bytes([3; 16]));
        for last in [FileNumber::MAX - NUMBERS_AHEAD + 1, FileNumber::MAX] {
            let mut manifest = Manifest::new(Arc::clone(&fs), Path::new("/"), levels.clone(), last, 1 << 20);
            assert_eq!(manifest.next_file().unwrap_err().kind(), crate::ErrorKind::Corruption);
        }
    }
}
