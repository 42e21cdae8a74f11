//! The seeds of the fuzz targets, through the same code as the fuzzer runs.

use std::path::{Path, PathBuf};

fn files(folder: &Path) -> Vec<PathBuf> {
    // A packaged crate comes without the fuzz crate beside it.
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<_> =
        entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_file()).collect();
    files.sort();
    files
}

fn replay(target: &str, body: impl Fn(&[u8])) {
    for seed in files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds").join(target)) {
        body(&std::fs::read(seed).unwrap());
    }
}

#[test]
fn journal_read() {
    replay("journal_read", lsm::fuzz::journal_read);
    for folder in ["testdata/golden/v1", "testdata/broken"] {
        for file in files(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)) {
            lsm::fuzz::journal_read(&std::fs::read(file).unwrap());
        }
    }
}

#[test]
fn journal_mutate() {
    replay("journal_mutate", lsm::fuzz::journal_mutate);
}

#[test]
fn batch() {
    replay("batch", lsm::fuzz::batch);
}

#[test]
fn block() {
    replay("block", lsm::fuzz::block);
}

#[test]
fn table() {
    replay("table", lsm::fuzz::table);
}

#[test]
fn manifest() {
    replay("manifest", lsm::fuzz::manifest);
}

#[test]
fn database() {
    replay("database", lsm::fuzz::database);
}
