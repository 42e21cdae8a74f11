//! Filters that runs share: which runs do, and that no answer depends on it.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use crate::fs::MemFs;
use crate::levels::OpenTree;
use crate::table::fixed::SharedFilter;
use crate::{Background, Batch, Db, Durability, Keyspace, KeyspaceOptions, Progress, Tuning};

type Rows = BTreeMap<[u8; 8], [u8; 4]>;

fn open(memory_bytes: usize, tier_runs: usize) -> (Db, Keyspace) {
    let tuning = Tuning { tier_runs, ..Tuning::for_memory(memory_bytes) };
    let db = Db::builder("/db")
        .file_system(Arc::new(MemFs::new()))
        .background(Background::Manual)
        .memory_bytes(memory_bytes)
        .tuning(tuning);
    let db = db.open().unwrap();
    let keyspace = db.keyspace("k", KeyspaceOptions::fixed(8, 4).unwrap()).unwrap();
    (db, keyspace)
}

fn key(number: u64) -> [u8; 8] {
    number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()
}

/// Writes 300 new rows, deletes and overwrites some of before, and flushes them.
fn flush(db: &Db, keyspace: &Keyspace, turn: u64, model: &mut Rows) {
    let mut batch = Batch::new();
    for number in turn * 300..(turn + 1) * 300 {
        let value = u32::try_from(number).unwrap().to_le_bytes();
        batch.put(keyspace, key(number), value);
        model.insert(key(number), value);
        if number % 3 == 0 {
            batch.put(keyspace, key(number / 2), [9; 4]);
            model.insert(key(number / 2), [9; 4]);
        }
        if number % 5 == 0 {
            batch.delete(keyspace, key(number / 3));
            model.remove(&key(number / 3));
        }
    }
    db.commit(batch, Durability::System).unwrap();
    db.flush().unwrap();
}

fn tables(db: &Db, keyspace: &Keyspace) -> Arc<OpenTree> {
    Arc::clone(&db.engine().view().keyspace(keyspace.id(), keyspace.name()).unwrap().tables)
}

fn shared(db: &Db, keyspace: &Keyspace) -> Vec<Option<usize>> {
    tables(db, keyspace).runs().runs().iter().map(crate::levels::FixedRun::shared).collect()
}

/// All lookups, of keys that are there, were there, and never were.
fn check(keyspace: &Keyspace, model: &Rows, turns: u64) {
    let keys: Vec<_> = (0..turns * 400).map(key).collect();
    let there: Vec<bool> = keys.iter().map(|key| model.contains_key(key)).collect();
    let values: Vec<_> = keys.iter().map(|key| model.get(key).map(|value| value.to_vec())).collect();
    assert_eq!(keyspace.multi_contains(&keys).unwrap(), there);
    assert_eq!(keys.iter().map(|key| keyspace.contains(key).unwrap()).collect::<Vec<_>>(), there);
    let got = |key| keyspace.get(key).unwrap().map(|value| value.to_vec());
    assert_eq!(keys.iter().map(got).collect::<Vec<_>>(), values);
    let all = keyspace.multi_get(&keys).unwrap();
    assert_eq!(all.iter().map(|value| value.as_deref().map(<[u8]>::to_vec)).collect::<Vec<_>>(), values);
}

#[test]
fn flushes_share_one_as_long_as_it_has_place_and_the_next_one_then() {
    let (db, keyspace) = open(4 << 20, 100);
    let mut model = Rows::new();
    for turn in 0..24 {
        flush(&db, &keyspace, turn, &mut model);
        check(&keyspace, &model, turn + 1);
    }
    // Each flush has 460 rows, and the first filter is for a hundred times as many; alone, a run asks its own.
    assert_eq!(shared(&db, &keyspace), [Some(0); 24]);
    let (db, keyspace) = open(4 << 20, 100);
    flush(&db, &keyspace, 0, &mut Rows::new());
    assert_eq!(shared(&db, &keyspace), [None]);
    let (db, keyspace) = open(4 << 20, 2);
    let mut model = Rows::new();
    (0..10).for_each(|turn| flush(&db, &keyspace, turn, &mut model));
    let place_for_eight = [&[Some(0); 2][..], &[Some(1); 8]].concat();
    assert_eq!(shared(&db, &keyspace), place_for_eight);
    check(&keyspace, &model, 10);
}

#[test]
fn a_merge_within_level_0_goes_on_sharing_and_the_last_run_is_alone() {
    let (db, keyspace) = open(4 << 20, 3);
    let mut model = Rows::new();
    let mut weak: Vec<Weak<SharedFilter>> = Vec::new();
    let mut were_merged = false;
    for turn in 0..12 {
        flush(&db, &keyspace, turn, &mut model);
        let before = tables(&db, &keyspace).tables().count();
        while db.step().unwrap() == Progress::Working {}
        let after = tables(&db, &keyspace);
        check(&keyspace, &model, turn + 1);
        weak.extend(after.runs().newest_filter().iter().map(Arc::downgrade));
        let [level0, level1, ..] = after.levels();
        were_merged |= after.tables().count() < before && !level0.is_empty() && !level1.is_empty();
        if level0.len() > 1 {
            let shared = shared(&db, &keyspace);
            let (last, above) = shared.split_last().unwrap();
            assert!(level1.is_empty() || last.is_none());
            assert!(above.iter().all(Option::is_some), "{shared:?}");
        }
    }
    assert!(were_merged, "above a last run");
    db.compact().unwrap();
    check(&keyspace, &model, 12);
    assert_eq!(shared(&db, &keyspace), [None]);
    assert!(!weak.is_empty() && weak.iter().all(|weak| weak.upgrade().is_none()), "they go with the tables");
}

#[test]
fn where_memory_is_short_no_filter_is_shared() {
    let (db, keyspace) = open(1 << 20, 100);
    let mut model = Rows::new();
    let before = db.engine().budget.room();
    let filler = before.saturating_sub(SharedFilter::bytes_for(4096));
    db.engine().budget.loads().add(filler);
    for turn in 0..3 {
        flush(&db, &keyspace, turn, &mut model);
    }
    assert_eq!(shared(&db, &keyspace), [None; 3]);
    check(&keyspace, &model, 3);
    db.engine().budget.loads().subtract(filler);
}
