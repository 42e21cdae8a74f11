//! A disk that fails while the program runs, and a program that watches its database: events, figures, health, and going on in the same process.
//! `cargo run -p lsm --example failure`

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::sync::Arc;

use lsm::fs::{Fault, FaultCall, FaultEffect, FaultFs, OsFs};
use lsm::{Batch, Db, Durability, Event, Health, KeyspaceOptions};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = tempfile::tempdir()?;
    // Any file system that fails where it is told to: here in the place of a disk that is full or breaks.
    let disk = FaultFs::new(Arc::new(OsFs));
    let db = Db::builder(directory.path().join("db"))
        .file_system(Arc::new(disk.clone()))
        .on_event(|event| match event {
            Event::FlushDone { bytes, .. } => println!("event: {bytes} bytes were flushed"),
            Event::StallBegun { cause, .. } => println!("event: writers wait for {cause:?}"),
            _ => {}
        })
        .open()?;
    let readings = db.keyspace("readings", KeyspaceOptions::sorted())?;
    for number in 0..10_000u32 {
        readings.put(number.to_be_bytes(), "what was measured")?;
        // What can wait may be held back while this grows: at 1 writers wait.
        if db.write_pressure() > 0.5 {
            std::thread::yield_now();
        }
    }
    db.sync()?;
    let stats = db.stats();
    println!(
        "{} commits, {} KB in memtables, writers were slowed for {:?}",
        stats.commits,
        stats.memtable_bytes / 1000,
        stats.delay
    );

    // A sync that fails: what it was to make durable is not acknowledged, and neither is anything after it. Reads go on.
    disk.inject(Fault::sticky(FaultCall::Sync, 1, FaultEffect::Error));
    let mut batch = Batch::new();
    batch.put(&readings, "one", "more");
    let Err(error) = db.commit(batch, Durability::Synced) else { return Err("it was acknowledged".into()) };
    println!("the disk fails: {error}");
    assert!(matches!(db.health(), Health::Failed(_)));
    assert!(readings.put("another", "one").is_err() && readings.contains(0u32.to_be_bytes())?);

    // The cause is gone; the same handles go on with what is on the disk. What was synced before is there.
    disk.clear();
    let report = db.reopen()?;
    assert!(matches!(db.health(), Health::Ok) && !report.is_lossy);
    assert_eq!(
        readings.iter().filter(|item| item.as_ref().is_ok_and(|(key, _)| key.len() == 4)).count(),
        10_000
    );
    readings.put("another", "one")?;
    println!("opened again, and it takes writes");
    drop(readings);
    Ok(db.close()?)
}
