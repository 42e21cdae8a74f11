//! The journal as a whole: power cuts, faults, threads, verdicts, golden files.

mod crash;
mod fault;
mod format;
mod golden;
mod group;
mod verdict;

use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::error::Result;
use crate::filename::FileName;
use crate::fs::{FileSystem, MemFs, SyncSite};

const SITE: SyncSite = SyncSite::new("test");

type Batches = Vec<(SequenceNumber, Vec<u8>)>;

fn directory() -> &'static Path {
    Path::new("/journal")
}

fn open(fs: Arc<dyn FileSystem>) -> Result<(TypedJournal<Vec<u8>>, JournalRecovery, Batches)> {
    open_with(fs, JournalOptions::default(), RecoveryMode::Tail)
}

fn open_with(
    fs: Arc<dyn FileSystem>,
    options: JournalOptions,
    mode: RecoveryMode,
) -> Result<(TypedJournal<Vec<u8>>, JournalRecovery, Batches)> {
    let mut found = Vec::new();
    let (journal, recovery) = TypedJournal::open(fs, directory(), options, mode, |sequence, payload| {
        found.push((sequence, payload));
        Ok(())
    })?;
    Ok((journal, recovery, found))
}

fn log_path(number: u64) -> std::path::PathBuf {
    FileName::Log(number).path(directory())
}

fn contents(fs: &dyn FileSystem, path: &Path) -> Option<Vec<u8>> {
    let file = fs.open_read(path).ok()?;
    let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
    file.read_exact_at(&mut bytes, 0).unwrap();
    Some(bytes)
}

/// Puts other bytes in the place of a file.
fn replace(fs: &MemFs, path: &Path, bytes: &[u8]) {
    if fs.exists(path).unwrap() {
        fs.remove_file(path).unwrap();
    }
    let file = fs.create_new(path).unwrap();
    file.write_all_at(bytes, 0).unwrap();
    file.sync_data(SITE).unwrap();
    fs.sync_dir(path.parent().unwrap(), SITE).unwrap();
}

/// A small generator of random numbers: the same seed, the same program.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % bound
    }
}
