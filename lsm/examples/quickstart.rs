//! The first five minutes: open, write, read, scan, close, open again. `cargo run -p lsm --example quickstart`

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use lsm::{Db, Durability, ErrorKind, KeyspaceOptions};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("people.db");

    // A database is a directory, made if it is not there. 32 MiB is all the memory that it takes.
    let db = Db::builder(&path).memory_bytes(32 << 20).open()?;
    let people = db.keyspace("people", KeyspaceOptions::sorted())?;

    people.put("ada", "London")?;
    people.put("grace", "New York")?;
    people.put("emmy", "Göttingen")?;
    // What was put is handed to the system: it survives the process, and from here on a power loss too.
    db.sync()?;

    if let Some(city) = people.get("ada")? {
        println!("ada lives in {}", String::from_utf8_lossy(&city));
    }
    assert!(people.get("alan")?.is_none());

    println!("everybody, in order:");
    for item in people.iter() {
        let (name, city) = item?;
        println!("  {} in {}", String::from_utf8_lossy(&name), String::from_utf8_lossy(&city));
    }
    println!("from f on, backwards:");
    for item in people.range("f"..).rev() {
        println!("  {}", String::from_utf8_lossy(&item?.0));
    }

    people.delete("grace")?;

    // One process writes; the second one is told who it is.
    match Db::open(&path) {
        Err(error) if error.kind() == ErrorKind::Locked => println!("a second writer: {error}"),
        _ => return Err("a second writer was let in".into()),
    }

    // Closing makes everything durable. (Dropping the last handle does too, but nobody hears of errors then.)
    drop(people);
    db.close()?;

    let db = Db::open(&path)?;
    let people = db.keyspace("people", KeyspaceOptions::sorted())?;
    assert_eq!(people.iter().count(), 2);
    println!("after closing and opening there are {}", people.iter().count());

    // Keys that are spread evenly, such as hashes, and all of one width: a keyspace that is faster for them.
    let hashes = db.keyspace("hashes", KeyspaceOptions::fixed(8, 4)?)?;
    let mut batch = lsm::Batch::new();
    for number in 0u32..1000 {
        let hash = u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
        batch.put(&hashes, hash, number.to_le_bytes());
    }
    db.commit(batch, Durability::Synced)?;
    println!("and {} hashes", hashes.iter().count());
    Ok(())
}
