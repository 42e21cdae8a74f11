//! Scans over deleted ranges: against a map, and how much of what is deleted they read.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use crate::fs::MemFs;
use crate::{Background, Batch, Compression, Db, Durability, Keyspace, KeyspaceOptions, Progress, Tuning};

fn open(memory_bytes: usize, tuning: Tuning) -> (Db, Keyspace) {
    let db = Db::builder("/db")
        .file_system(Arc::new(MemFs::new()))
        .background(Background::Manual)
        .memory_bytes(memory_bytes)
        .tuning(tuning)
        .open()
        .unwrap();
    let keyspace = db.keyspace("k", KeyspaceOptions::sorted()).unwrap();
    (db, keyspace)
}

fn tiny() -> Tuning {
    let mut tuning = Tuning::for_memory(1 << 20);
    tuning.write_buffer_bytes = 3000;
    tuning.level0_tables = 2;
    tuning.level1_bytes = 2000;
    tuning.level_growth = 2;
    tuning.table_bytes = 600;
    tuning.block_bytes = 100;
    tuning
}

#[derive(Clone, Debug)]
enum Step {
    Fill(u16),
    Put(u16),
    Delete(u16),
    /// Keys that agree in all but so many of their last digits.
    DeletePrefix(u16, usize),
    Background(usize),
    Flush,
    Snapshot,
    Scan(u16, u16),
}

fn some_steps() -> impl Strategy<Value = Vec<Step>> {
    let key = || 0..2000u16;
    let step = prop_oneof![
        3 => key().prop_map(Step::Fill),
        8 => key().prop_map(Step::Put),
        1 => key().prop_map(Step::Delete),
        8 => (key(), 1usize..4).prop_map(|(key, digits)| Step::DeletePrefix(key, digits)),
        4 => (1usize..30).prop_map(Step::Background),
        1 => Just(Step::Flush),
        1 => Just(Step::Snapshot),
        6 => (key(), key()).prop_map(|(a, b)| Step::Scan(a.min(b), a.max(b))),
    ];
    prop::collection::vec(step, 1..120)
}

fn key(number: u16) -> String {
    format!("key/{number:04}")
}

fn value(number: u16, round: usize) -> Vec<u8> {
    format!("{number}, {round}").into_bytes()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn scans_over_deleted_ranges_are_those_of_a_map(steps in some_steps()) {
        let (db, keyspace) = open(1 << 20, tiny());
        let mut map: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        let mut snapshots = Vec::new();
        for (round, step) in steps.iter().enumerate() {
            match *step {
                Step::Fill(first) => {
                    let mut batch = Batch::new();
                    for number in first..first + 100 {
                        batch.put(&keyspace, key(number), value(number, round));
                        map.insert(key(number), value(number, round));
                    }
                    db.commit(batch, Durability::Process).unwrap();
                }
                Step::Put(number) => {
                    keyspace.put(key(number), value(number, round)).unwrap();
                    map.insert(key(number), value(number, round));
                }
                Step::Delete(number) => {
                    keyspace.delete(key(number)).unwrap();
                    map.remove(&key(number));
                }
                Step::DeletePrefix(number, digits) => {
                    let key = key(number);
                    let prefix = &key[..key.len() - digits];
                    keyspace.delete_prefix(prefix).unwrap();
                    map.retain(|key, _| !key.starts_with(prefix));
                }
                Step::Background(count) => {
                    for _ in 0..count {
                        if db.step().unwrap() == Progress::Idle {
                            break;
                        }
                    }
                }
                Step::Flush => db.flush().unwrap(),
                Step::Snapshot => snapshots.push((db.snapshot(), map.clone())),
                Step::Scan(from, to) => {
                    let (from, to) = (key(from), key(to));
                    let expected: Vec<_> = map.range(from.clone()..to.clone()).collect();
                    let found: Vec<_> = keyspace.range(from.as_str()..to.as_str()).map(Result::unwrap).collect();
                    prop_assert!(found.iter().map(|(key, value)| (&key[..], &value[..]))
                        .eq(expected.iter().map(|(key, value)| (key.as_bytes(), &value[..]))));
                    let found: Vec<_> = keyspace.range(from.as_str()..to.as_str()).rev().map(Result::unwrap).collect();
                    prop_assert!(found.iter().map(|(key, value)| (&key[..], &value[..]))
                        .eq(expected.iter().rev().map(|(key, value)| (key.as_bytes(), &value[..]))));
                }
            }
        }
        snapshots.push((db.snapshot(), map));
        for (snapshot, map) in &snapshots {
            let keys = || map.keys().map(String::as_bytes);
            prop_assert!(snapshot.iter(&keyspace).map(|item| item.unwrap().0.to_vec()).eq(keys()));
            prop_assert!(snapshot.iter(&keyspace).rev().map(|item| item.unwrap().0.to_vec()).eq(keys().rev()));
            for key in (0..2100).map(key) {
                let found = snapshot.get(&keyspace, &key).unwrap();
                prop_assert_eq!(found.as_deref(), map.get(&key).map(Vec::as_slice));
            }
        }
    }
}

/// Blocks that were asked for so far.
fn blocks(db: &Db) -> u64 {
    let stats = db.engine().budget.cache().stats();
    stats.hits + stats.misses
}

/// A database whose memtable is frozen when somebody says so, with one run of many tables of `keys`.
fn run_of(keys: impl Iterator<Item = Vec<u8>>) -> (Db, Keyspace) {
    let mut tuning = Tuning::for_memory(256 << 20);
    tuning.write_buffer_bytes = 1 << 30;
    tuning.table_bytes = 1 << 20;
    (tuning.compression, tuning.shallow_compression) = (Compression::None, Compression::None);
    let (db, keyspace) = open(256 << 20, tuning);
    let mut batch = Batch::new();
    for key in keys {
        batch.put(&keyspace, key, [b'v'; 40]);
        if batch.len() == 1000 {
            db.commit(std::mem::take(&mut batch), Durability::Process).unwrap();
        }
    }
    db.commit(batch, Durability::Process).unwrap();
    db.flush().unwrap();
    db.compact().unwrap();
    let tables = db.stats().keyspaces[0].level_tables.iter().sum::<usize>();
    assert!(tables > 5, "a run of tables: {tables}");
    (db, keyspace)
}

/// Finds these keys and no other, both ways, asking for at most so many blocks each time.
fn finds(db: &Db, keyspace: &Keyspace, keys: &[&[u8]], blocks_max: u64, when: &str) {
    let before = blocks(db);
    assert!(keyspace.iter().map(|item| item.unwrap().0.to_vec()).eq(keys.iter().copied()), "{when}");
    let forward = blocks(db) - before;
    assert!(
        keyspace.iter().rev().map(|item| item.unwrap().0.to_vec()).eq(keys.iter().rev().copied()),
        "{when}"
    );
    let backward = blocks(db) - before - forward;
    assert!(forward < blocks_max && backward < blocks_max, "{when}: {forward} and {backward} blocks");
}

/// Ten to the fifth prefix deletes, each with reads beside it: what is deleted is not read, whoever holds the deletions and whoever what they delete.
#[test]
fn a_hundred_thousand_deleted_prefixes_are_passed_over() {
    const PREFIXES: u32 = 100_000;
    let key = |number: u32, last: u8| [&b"k"[..], &number.to_be_bytes(), &[last]].concat();
    let (db, keyspace) = run_of((0..PREFIXES).flat_map(|number| [key(number, 1), key(number, 2)]));
    keyspace.put("a", "first").unwrap();
    keyspace.put("z", "last").unwrap();
    // In no order.
    let number = |step: u32| step.wrapping_mul(7919) % PREFIXES;
    for step in 0..PREFIXES {
        keyspace.delete_prefix(&key(number(step), 0)[..5]).unwrap();
        if step % 50 == 0 && step + 1 < PREFIXES {
            let gone = number(step / 2);
            assert_eq!(keyspace.get(key(gone, 1)).unwrap(), None);
            assert_eq!(keyspace.prefix(&key(gone, 0)[..5]).count(), 0);
            let there = number(step + 1);
            let item = keyspace.range(key(there, 0)..).next().unwrap();
            assert_eq!(item.unwrap().0, key(there, 1));
            let item = keyspace.range(..key(there, 9)).next_back().unwrap();
            assert_eq!(item.unwrap().0, key(there, 2));
        }
    }
    // Behind each prefix that ends in 255 there is room for one key; else they lie side by side. Where there is room, an index block and a data block are
    // asked whether it is taken; the run has three times as many.
    let blocks_max = 2 * u64::from(PREFIXES / 256) + 40;
    finds(&db, &keyspace, &[b"a", b"z"], blocks_max, "deletions in the memtable, deleted keys in tables");
    db.flush().unwrap();
    finds(&db, &keyspace, &[b"a", b"z"], blocks_max, "both in tables");
    db.compact().unwrap();
    finds(&db, &keyspace, &[b"a", b"z"], 9, "merged");
    assert_eq!(db.stats().keyspaces[0].table_entries, 2);
}

/// A table of which everything is deleted goes when the deletion is in a table too, and nobody reads before it any more; no merge, no reading.
#[test]
fn tables_of_which_all_is_deleted_go_unread() {
    let (db, keyspace) = run_of((0..200_000u32).map(|number| number.to_be_bytes().to_vec()));
    let idle = || while db.step().unwrap() == Progress::Working {};
    idle();
    let before = db.stats();
    let tables = |stats: &crate::Stats| stats.keyspaces[0].level_tables.iter().sum::<usize>();
    let snapshot = db.snapshot();
    // One tombstone from within the first table to within the last.
    keyspace.delete_range(10u32.to_be_bytes()..199_990u32.to_be_bytes()).unwrap();
    db.flush().unwrap();
    idle();
    assert_eq!(
        (db.stats().dropped_tables, tables(&db.stats())),
        (0, tables(&before) + 1),
        "a snapshot reads them"
    );
    assert_eq!(snapshot.iter(&keyspace).count(), 200_000);
    drop(snapshot);
    keyspace.put("wakes", "v").unwrap();
    db.flush().unwrap();
    idle();
    let after = db.stats();
    assert_eq!(after.dropped_tables, tables(&before) as u64 - 2);
    assert_eq!(after.compaction_read_bytes, before.compaction_read_bytes);
    assert_eq!(keyspace.iter().count(), 10 + 10 + 1);
    db.check().unwrap();
    db.compact().unwrap();
    assert_eq!(keyspace.iter().count(), 10 + 10 + 1);
    assert_eq!(db.stats().keyspaces[0].table_entries, 21);
    let read_bytes = db.stats().compaction_read_bytes - after.compaction_read_bytes;
    assert!(read_bytes < before.table_bytes / 2, "the two tables at the ends: {read_bytes}");
}

/// Between the deleted directories there is room for keys, so each is passed over by itself; but not its entries one by one.
#[test]
fn deleted_directories_with_room_between_are_passed_over_one_by_one() {
    let directory = |number: u32| format!("home/{number:03}/");
    let names = (0..200u32).flat_map(|number| (0..1000u32).map(move |file| (number, file)));
    let (db, keyspace) =
        run_of(names.map(|(number, file)| format!("{}{file:04}", directory(number)).into_bytes()));
    for number in 0..200 {
        keyspace.delete_prefix(directory(number)).unwrap();
    }
    keyspace.put("home/100/new", "v").unwrap();
    // Each has about twenty data blocks, and a seek asks for an index block, a data block, and maybe the next.
    finds(&db, &keyspace, &[b"home/100/new"], 200 * 8, "deletions in the memtable");
    db.flush().unwrap();
    finds(&db, &keyspace, &[b"home/100/new"], 200 * 8, "deletions in a table");
}

#[test]
fn more_keys_than_are_looked_up_together_are_each_answered_once() {
    let (db, keyspace) = open(1 << 20, tiny());
    for number in (0..2000u16).filter(|number| !number.is_multiple_of(3)) {
        keyspace.put(key(number), value(number, 0)).unwrap();
    }
    db.flush().unwrap();
    // In no order, some of them twice.
    let numbers: Vec<u16> = (0..3000u32).map(|step| u16::try_from(step * 777 % 2000).unwrap()).collect();
    let keys: Vec<String> = numbers.iter().copied().map(key).collect();
    let mut answers = vec![0; keys.len()];
    keyspace
        .multi_get_with(&keys, |index, found| {
            answers[index] += 1;
            let number = numbers[index];
            assert_eq!(found, (!number.is_multiple_of(3)).then(|| value(number, 0)).as_deref());
        })
        .unwrap();
    assert!(answers.iter().all(|answers| *answers == 1));
    let found = keyspace.multi_get(&keys).unwrap();
    for (number, found) in numbers.iter().zip(found) {
        assert_eq!(found.as_deref(), (!number.is_multiple_of(3)).then(|| value(*number, 0)).as_deref());
    }
}
