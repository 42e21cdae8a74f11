//! A copy of a running database, by links, and the next one that adds only what is new. `cargo run -p lsm --example checkpoint`

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use lsm::{Db, KeyspaceOptions};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let db = Db::open(folder.path().join("live"))?;
    let events = db.keyspace("events", KeyspaceOptions::sorted())?;
    for number in 0..10_000u32 {
        events.put(number.to_be_bytes(), "happened")?;
    }

    let copy = folder.path().join("copy");
    let first = db.checkpoint(&copy)?;
    println!(
        "the first: {} tables, {} bytes, {} linked, {} copied",
        first.tables, first.bytes, first.linked, first.copied
    );

    for number in 10_000..10_100u32 {
        events.put(number.to_be_bytes(), "happened later")?;
    }
    let second = db.checkpoint(&copy)?;
    println!("the second: {} tables, of which {} were there already", second.tables, second.kept);

    // It is a database of its own; read-only, so that the next checkpoint may go on with it.
    let opened = Db::builder(&copy).read_only(true).open()?;
    let copied = opened.keyspace("events", KeyspaceOptions::sorted())?;
    assert_eq!(copied.iter().count(), 10_100);
    events.delete_prefix([])?;
    assert_eq!(copied.iter().count(), 10_100);
    println!("the copy has {} entries, the original {}", copied.iter().count(), events.iter().count());
    Ok(())
}
