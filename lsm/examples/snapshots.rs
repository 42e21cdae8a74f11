//! Batches are there as a whole, or not; snapshots are moments of everything; transactions notice who was quicker.
//! `cargo run -p lsm --example snapshots`

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use lsm::{Batch, Db, Durability, Keyspace, KeyspaceOptions, Result};

fn total(db: &Db, accounts: &Keyspace) -> Result<u64> {
    let snapshot = db.snapshot();
    snapshot.iter(accounts).map(|item| item.map(|(_, value)| amount(&value))).sum()
}

fn amount(value: &[u8]) -> u64 {
    value.try_into().map_or(0, u64::from_le_bytes)
}

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let directory = tempfile::tempdir()?;
    let db = Db::open(directory.path())?;
    let accounts = db.keyspace("accounts", KeyspaceOptions::sorted())?;
    let journal = db.keyspace("journal", KeyspaceOptions::sorted())?;
    for name in ["ada", "bob", "cleo", "dan"] {
        accounts.put(name, 100u64.to_le_bytes())?;
    }

    // Whoever reads while money is moved sees each transfer whole: in both accounts, and in the other keyspace.
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| -> Result<()> {
            for number in 0u64..500 {
                let mut batch = Batch::new();
                let (from, to) = if number % 2 == 0 { ("ada", "bob") } else { ("bob", "ada") };
                let take = amount(&accounts.get(from)?.unwrap_or_default()) - 1;
                let give = amount(&accounts.get(to)?.unwrap_or_default()) + 1;
                batch.put(&accounts, from, take.to_le_bytes());
                batch.put(&accounts, to, give.to_le_bytes());
                batch.put(&journal, number.to_be_bytes(), format!("1 from {from} to {to}"));
                db.commit(batch, Durability::Process)?;
            }
            Ok(())
        });
        let mut looks = 0;
        while !writer.is_finished() {
            assert_eq!(total(&db, &accounts)?, 400, "no transfer was seen by half");
            looks += 1;
        }
        println!("the sum was 400 each of {looks} times while 500 transfers ran");
        writer.join().map_err(|_| "the writer panicked")??;
        Ok::<(), Box<dyn std::error::Error>>(())
    })?;
    assert_eq!(journal.iter().count(), 500);

    // A snapshot keeps its moment, whatever happens after it.
    let before = db.snapshot();
    accounts.delete_prefix("a")?;
    assert!(before.contains(&accounts, "ada")? && !accounts.contains("ada")?);
    println!("ada is gone, and still in the snapshot");

    // A transaction reads and writes as of one moment, and is refused if somebody was quicker; this runs it again then.
    db.transact(Durability::System, |transaction| {
        let bob = transaction.get(&accounts, "bob")?.map_or(0, |value| amount(&value));
        transaction.put(&accounts, "bob", (bob + 1).to_le_bytes());
        Ok(())
    })?;
    Ok(())
}
