//! Every engine that this build has is a sorted map.

use std::collections::BTreeMap;

use super::*;
use crate::store::Reader;
use crate::store::{Direction, Durability, Operation, Scan, Widths};

fn configuration(path: &std::path::Path, durability: Durability) -> Configuration {
    Configuration {
        path: path.to_owned(),
        memory_bytes: 64 << 20,
        write_buffer_bytes: None,
        durability,
        fixed: None,
        size_bytes_max: 256 << 20,
    }
}

fn key(number: u32) -> Vec<u8> {
    format!("{}/{:04}", number % 10, number).into_bytes()
}

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

fn scanned(reader: &mut dyn Reader, scan: Scan<'_>) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut seen = Vec::new();
    let count = reader.scan(scan, &mut |key, value| seen.push((key.to_vec(), value.to_vec()))).unwrap();
    assert_eq!(count, seen.len() as u64);
    seen
}

/// Whatever can be asked is answered as the model does.
fn check(name: &str, store: &dyn Store, model: &Model) {
    let mut reader = store.reader().unwrap();
    let keys: Vec<Vec<u8>> = (0..1200).map(key).collect();
    let borrowed: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
    let mut found = Vec::new();
    reader.multi_contains(&borrowed, &mut found).unwrap();
    let mut got = vec![None; keys.len()];
    reader.multi_get(&borrowed, &mut |place, value| got[place] = Some(value.to_vec())).unwrap();
    for (place, key) in keys.iter().enumerate() {
        let expected = model.get(key);
        let mut value = None;
        assert_eq!(
            reader.get(key, &mut |bytes| value = Some(bytes.to_vec())).unwrap(),
            expected.is_some(),
            "{name}"
        );
        assert_eq!(value.as_ref(), expected, "{name}: {}", key.escape_ascii());
        assert_eq!(got[place].as_ref(), expected, "{name}: batched");
        assert_eq!(found[place], expected.is_some(), "{name}: batched");
        assert_eq!(reader.contains(key).unwrap(), expected.is_some(), "{name}");
    }
    let all: Vec<_> = model.clone().into_iter().collect();
    let reversed: Vec<_> = model.clone().into_iter().rev().collect();
    assert_eq!(scanned(&mut *reader, Scan::all(Direction::Forward)), all, "{name}");
    assert_eq!(scanned(&mut *reader, Scan::all(Direction::Backward)), reversed, "{name}");
    let from = key(503);
    let ten: Vec<_> = model.range(from.clone()..).take(10).map(|(k, v)| (k.clone(), v.clone())).collect();
    assert_eq!(scanned(&mut *reader, Scan::from(&from, 10)), ten, "{name}");
    let backward = Scan { direction: Direction::Backward, ..Scan::from(&from, 10) };
    let ten: Vec<_> =
        model.range(..=from.clone()).rev().take(10).map(|(k, v)| (k.clone(), v.clone())).collect();
    assert_eq!(scanned(&mut *reader, backward), ten, "{name}");
    let fives: Vec<_> = all.iter().filter(|(key, _)| key.starts_with(b"5/")).take(20).cloned().collect();
    assert_eq!(scanned(&mut *reader, Scan::prefix(b"5/", 20)), fives, "{name}");
}

fn fill(store: &dyn Store, model: &mut Model, durability: Durability) {
    for start in (0..1000).step_by(50) {
        let entries: Vec<(Vec<u8>, Vec<u8>)> =
            (start..start + 50).map(|n| (key(n), format!("value {n}").into_bytes())).collect();
        let operations: Vec<Operation<'_>> = entries.iter().map(|(k, v)| Operation::Put(k, v)).collect();
        store.write(&operations, durability).unwrap();
        model.extend(entries);
    }
}

#[test]
fn every_engine_is_a_sorted_map() {
    for engine in ENGINES.iter().filter(|engine| engine.built) {
        for durability in [Durability::System, Durability::Synced] {
            let (name, directory) = (engine.name, tempfile::tempdir().unwrap());
            let configuration = configuration(directory.path(), durability);
            let mut store = open(name, &configuration).unwrap();
            let mut model = Model::new();
            fill(&*store, &mut model, durability);
            check(name, &*store, &model);

            store.write(&[Operation::Put(&key(7), b"again")], durability).unwrap();
            model.insert(key(7), b"again".to_vec());
            store.write(&[Operation::Delete(&key(8))], durability).unwrap();
            model.remove(&key(8));
            store.delete_prefix(b"3/").unwrap();
            model.retain(|key, _| !key.starts_with(b"3/"));
            check(name, &*store, &model);

            store.flush().unwrap();
            store.compact().unwrap();
            check(name, &*store, &model);
            store.sync().unwrap();
            store.close().unwrap();
            let store = open(name, &configuration).unwrap();
            check(name, &*store, &model);
            store.close().unwrap();
        }
    }
}

#[test]
fn a_reader_sees_what_was_written_before_it_was_refreshed() {
    for engine in ENGINES.iter().filter(|engine| engine.built) {
        let directory = tempfile::tempdir().unwrap();
        let store = open(engine.name, &configuration(directory.path(), Durability::System)).unwrap();
        let mut reader = store.reader().unwrap();
        store.write(&[Operation::Put(b"k", b"v")], Durability::System).unwrap();
        reader.refresh().unwrap();
        assert!(reader.contains(b"k").unwrap(), "{}", engine.name);
    }
}

#[test]
fn every_engine_loads_in_bulk() {
    for engine in ENGINES.iter().filter(|engine| engine.built) {
        let (name, directory) = (engine.name, tempfile::tempdir().unwrap());
        let mut configuration = configuration(directory.path(), Durability::System);
        configuration.fixed = Some(Widths { key: 6, value: 8 });
        let mut store = open(name, &configuration).unwrap();
        let mut model = Model::new();
        // Every number below 1,000 out of order, some of them a second time with another value: the last one counts.
        let mut numbers = (0..1100_u32).map(|n| (n, n * 7 % 1000));
        store
            .bulk_load(&mut |key_bytes, value| {
                let Some((place, number)) = numbers.next() else { return false };
                *key_bytes = key(number);
                *value = format!("{place:08}").into_bytes();
                model.insert(key_bytes.clone(), value.clone());
                true
            })
            .unwrap();
        check(name, &*store, &model);
        store.close().unwrap();
        check(name, &*open(name, &configuration).unwrap(), &model);
    }
}

#[test]
fn every_engine_loads_what_is_sorted() {
    for engine in ENGINES.iter().filter(|engine| engine.built) {
        let (name, directory) = (engine.name, tempfile::tempdir().unwrap());
        let configuration = configuration(directory.path(), Durability::System);
        let mut store = open(name, &configuration).unwrap();
        let model: Model =
            (0..1000).map(|number| (key(number), format!("value {number}").into_bytes())).collect();
        let mut entries = model.iter();
        store
            .load_sorted(&mut |key_bytes, value| {
                let Some(next) = entries.next() else { return false };
                (*key_bytes, *value) = (next.0.clone(), next.1.clone());
                true
            })
            .unwrap();
        check(name, &*store, &model);
        store.close().unwrap();
        check(name, &*open(name, &configuration).unwrap(), &model);
    }
}

#[test]
fn an_engine_that_is_not_there_is_refused_by_name() {
    assert!(find("leveldb").unwrap_err().to_string().contains("leveldb"));
    assert_eq!(find("lsm").unwrap().name, "lsm");
}
