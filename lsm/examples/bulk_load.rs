//! A database that is built from something else: loads past the journal, a keyspace for entries of one width, many lookups at once, and a keyspace that goes as a
//! whole. `cargo run -p lsm --example bulk_load`

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use lsm::{Db, ErrorKind, KeyspaceOptions, Result};

/// As a hash is: evenly spread, and in no order.
fn hash(number: u64) -> [u8; 16] {
    let mixed = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let more = (mixed ^ (mixed >> 31)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mut key = [0; 16];
    key[..8].copy_from_slice(&more.to_be_bytes());
    key[8..].copy_from_slice(&mixed.to_be_bytes());
    key
}

fn main() -> Result<()> {
    const COUNT: u64 = 100_000;
    let directory = tempfile::tempdir().map_err(|error| lsm::Error::io("make a directory", error))?;
    let db = Db::open(directory.path())?;

    // In order of its keys: written once. Nothing of it is there before the end, and then all of it.
    let lines = db.keyspace("lines", KeyspaceOptions::sorted())?;
    let mut ingest = lines.ingest()?;
    for number in 0..COUNT {
        ingest.put(number.to_be_bytes(), format!("line {number}"))?;
    }
    assert!(lines.iter().next().is_none());
    ingest.finish()?;

    // In any order: what does not fit into a buffer is sorted in pieces and merged, so that it is written twice.
    let by_hash = db.keyspace("by hash", KeyspaceOptions::fixed(16, 8)?)?;
    let mut bulk = by_hash.bulk()?;
    for number in 0..COUNT {
        bulk.put(hash(number), number.to_le_bytes())?;
    }
    bulk.finish()?;
    println!("{} entries by their hash", by_hash.iter().count());

    // Of many keys at once each waits for memory, and the disk, beside the others; values are lent where they lie.
    let asked: Vec<[u8; 16]> = (COUNT - 500..COUNT + 500).map(hash).collect();
    let mut sum = 0;
    by_hash.multi_get_with(&asked, |_, value| {
        sum += value.and_then(|value| value.try_into().ok()).map_or(0, u64::from_le_bytes);
    })?;
    let known = by_hash.multi_contains(&asked)?.into_iter().filter(|is_there| *is_there).count();
    println!("{known} of {} are there; their numbers add up to {sum}", asked.len());
    assert_eq!((known, sum), (500, (COUNT - 500..COUNT).sum()));

    // A keyspace goes as a whole, without a look at its entries; who still has a handle to it is told.
    db.drop_keyspace(&by_hash)?;
    assert_eq!(by_hash.get(hash(0)).map_err(|error| error.kind()), Err(ErrorKind::Dropped));
    drop((lines, by_hash));
    db.close()
}
