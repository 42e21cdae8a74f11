//! Three kinds of harm, and what becomes of each: a crash, a damaged log, a damaged table. `cargo run -p lsm --example recovery`

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::path::{Path, PathBuf};

use lsm::{Db, ErrorKind, KeyspaceOptions, RecoveryMode, RepairOptions, repair};

type Done = Result<(), Box<dyn std::error::Error>>;

/// A database with a thousand entries in a table, and ten more in its log.
fn fill(directory: &Path) -> lsm::Result<()> {
    let db = Db::open(directory)?;
    let numbers = db.keyspace("numbers", KeyspaceOptions::sorted())?;
    for number in 0..1000u32 {
        numbers.put(format!("{number:04}"), "in a table")?;
    }
    db.flush()?;
    for number in 1000..1010u32 {
        numbers.put(format!("{number:04}"), "in the log")?;
    }
    drop(numbers);
    db.close()
}

fn count(directory: &Path) -> lsm::Result<usize> {
    let db = Db::open(directory)?;
    let numbers = db.keyspace("numbers", KeyspaceOptions::sorted())?;
    numbers.iter().try_fold(0, |count, item| item.map(|_| count + 1))
}

fn file(directory: &Path, ending: &str) -> std::io::Result<PathBuf> {
    let paths: Vec<PathBuf> = std::fs::read_dir(directory)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    let found = paths.into_iter().find(|path| path.to_string_lossy().ends_with(ending));
    found.ok_or_else(|| std::io::Error::other(format!("no {ending} in {}", directory.display())))
}

fn damage(path: &Path, at: usize) -> std::io::Result<()> {
    let mut bytes = std::fs::read(path)?;
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= 1;
    }
    std::fs::write(path, bytes)
}

/// The log ends in the middle of a record, as a crash leaves it: what is torn was never acknowledged as durable. It is cut, and that is said.
fn crash() -> Done {
    let directory = tempfile::tempdir()?;
    fill(directory.path())?;
    // Without what closing wrote, and without the end of the last commit.
    let log = file(directory.path(), ".log")?;
    let bytes = std::fs::read(&log)?;
    std::fs::write(&log, bytes.get(..bytes.len() - 120).unwrap_or(&bytes))?;
    let db = Db::open(directory.path())?;
    let report = db.recovery_report();
    assert!(!report.is_lossy);
    for log in &report.logs {
        println!(
            "after a crash: {} ends so: {:?}; {} commits were replayed",
            log.path.display(),
            log.verdict,
            log.batches
        );
    }
    Ok(())
}

/// A byte of the log changes that was durable: that is lost data, and opening says so instead of losing it.
fn damaged_log() -> Done {
    let directory = tempfile::tempdir()?;
    fill(directory.path())?;
    damage(&file(directory.path(), ".log")?, 300)?;
    let Err(error) = Db::open(directory.path()) else { return Err("damage was not found".into()) };
    assert_eq!(error.kind(), ErrorKind::Corruption);
    println!("a damaged log: {error}");
    // Stepping over it is the caller's decision; the damaged log is kept aside.
    let db = Db::builder(directory.path()).recovery(RecoveryMode::Salvage).open()?;
    assert!(db.recovery_report().is_lossy);
    drop(db);
    println!("  salvaged: {} of 1010 entries", count(directory.path())?);
    Ok(())
}

/// A block of a table: reads that need it are errors, all others go on; repair keeps everything but that block.
fn damaged_table() -> Done {
    let directory = tempfile::tempdir()?;
    fill(directory.path())?;
    damage(&file(directory.path(), ".table")?, 2000)?;
    match count(directory.path()) {
        Err(error) => println!("a damaged table: {error}"),
        Ok(_) => return Err("damage was not found".into()),
    }
    let report = repair(directory.path(), &RepairOptions::new())?;
    for loss in &report.losses {
        println!("  {loss}");
    }
    assert!(report.check.is_some_and(|check| check.is_clean()));
    println!("  repaired: {} of 1010 entries", count(directory.path())?);
    Ok(())
}

/// The manifest, which says what belongs to the database, is gone: tables and logs tell it again.
fn lost_manifest() -> Done {
    let directory = tempfile::tempdir()?;
    fill(directory.path())?;
    std::fs::remove_file(directory.path().join("MANIFEST"))?;
    let report = repair(directory.path(), &RepairOptions::new())?;
    assert!(report.is_lossless());
    println!("without a manifest: {} of 1010 entries", count(directory.path())?);
    Ok(())
}

fn main() -> Done {
    crash()?;
    damaged_log()?;
    damaged_table()?;
    lost_manifest()
}
