//! Tables alone, of which nobody says how they stood: the newest of each key is found by their sequence numbers.

use lsm::checksum::Identity;
use lsm::key::{Kind, trailer};
use lsm::row::{KeyspaceKind, Widths};
use lsm::table::fixed::{Columns, FixedWriter};
use lsm::table::{TableOptions, TableOrigin, TableWriter};

use super::*;

const DATABASE: Identity = Identity::from_bytes([5; 16]);

/// One write; its place in the list is its sequence number, from 1.
#[derive(Clone, Debug)]
enum Write {
    Put(Vec<u8>, Vec<u8>),
    Delete(Vec<u8>),
    DeleteRange(Vec<u8>, Vec<u8>),
}

fn origin(kind: KeyspaceKind, level: u64) -> Option<TableOrigin> {
    Some(TableOrigin { keyspace: 1, kind, level, epoch: 0, name: "one".into() })
}

/// What the writes leave, in their order.
fn left(writes: &[Write]) -> support::Map {
    let mut map = support::Map::new();
    for write in writes {
        match write {
            Write::Put(key, value) => drop(map.insert(key.clone(), value.clone())),
            Write::Delete(key) => drop(map.remove(key)),
            Write::DeleteRange(start, end) => map.retain(|key, _| !(start..end).contains(&key)),
        }
    }
    map
}

/// Puts each write into the table that `table_of` says.
fn sorted_tables(writes: &[Write], table_of: &[usize], level: u64) -> MemFs {
    let fs = MemFs::new();
    fs.create_dir(Path::new(DIRECTORY)).unwrap();
    for table in 0..=table_of.iter().copied().max().unwrap() {
        let numbered = writes.iter().zip(1u64..).zip(table_of).filter(|(_, of)| **of == table);
        let numbered: Vec<(&Write, u64)> = numbered.map(|(numbered, _)| numbered).collect();
        if numbered.is_empty() {
            continue;
        }
        let path = Path::new(DIRECTORY).join(format!("{:08}.table", table + 1));
        let identity = Identity::from_bytes([u8::try_from(table).unwrap() + 10; 16]);
        let options = TableOptions {
            block_bytes: 60,
            origin: origin(KeyspaceKind::Sorted, level),
            ..TableOptions::default()
        };
        let mut writer = TableWriter::create(&shared(&fs), &path, identity, DATABASE, options).unwrap();
        type Entry = (Vec<u8>, std::cmp::Reverse<u64>, Kind, Vec<u8>);
        let mut entries: Vec<Entry> = Vec::new();
        for (write, sequence) in numbered {
            match write {
                Write::Put(key, value) => {
                    entries.push((key.clone(), std::cmp::Reverse(sequence), Kind::Put, value.clone()))
                }
                Write::Delete(key) => {
                    entries.push((key.clone(), std::cmp::Reverse(sequence), Kind::Delete, vec![]))
                }
                Write::DeleteRange(start, end) => writer.add_range_tombstone(start, Some(end), sequence),
            }
        }
        entries.sort();
        for (key, std::cmp::Reverse(sequence), kind, value) in entries {
            writer.add(&[key.as_slice(), &trailer(sequence, kind)].concat(), &value).unwrap();
        }
        writer.finish().unwrap();
    }
    fs
}

fn some_writes(random: &mut Random, count: usize) -> Vec<Write> {
    let key = |random: &mut Random| format!("key {:02}", random.below(12)).into_bytes();
    let write = |number: usize| match random.below(12) {
        0 => {
            let (a, b) = (key(random), key(random));
            if a < b { Write::DeleteRange(a, b) } else { Write::DeleteRange(b, b"key 99".to_vec()) }
        }
        1 | 2 => Write::Delete(key(random)),
        _ => Write::Put(key(random), format!("value {number}").into_bytes()),
    };
    (0..count).map(write).collect()
}

#[test]
fn the_newest_of_each_key_wins_however_the_writes_are_scattered_over_tables() {
    let (mut merged, mut stacked) = (0, 0);
    for seed in 0..400 {
        let mut random = Random(seed);
        let count = 3 + random.below(40);
        let writes = some_writes(&mut random, count);
        let tables = 1 + random.below(9);
        // Now and then in the order of time, as flushes are; else anyhow.
        let in_time = random.below(2) == 0;
        let table_of: Vec<usize> = (0..writes.len())
            .map(|number| if in_time { number * tables / writes.len() } else { random.below(tables) })
            .collect();
        let fs = sorted_tables(&writes, &table_of, random.below(4) as u64);
        let report = run(&fs).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert!(
            report.is_lossless() && report.check.as_ref().unwrap().is_clean(),
            "seed {seed}: {report:#?}"
        );
        let found = contents(&fs).remove("one").unwrap_or_default();
        assert_eq!(found, left(&writes), "seed {seed}: {writes:?} in {table_of:?}: {report:#?}");
        match report.tables.iter().any(|table| table.fate == TableFate::Merged) {
            true => merged += 1,
            false => stacked += 1,
        }
        // And it can be gone on with: merges must not bring back what is hidden.
        let db = builder(&fs).open().unwrap();
        db.compact().unwrap();
        drop(db);
        assert_eq!(contents(&fs).remove("one").unwrap_or_default(), left(&writes), "seed {seed}, compacted");
        assert!(run(&fs).unwrap().was_sound, "seed {seed}");
    }
    assert!(merged > 50 && stacked > 100, "{merged} {stacked}");
}

/// Runs of rows, and beside them what one was merged from.
#[test]
fn rows_of_overlapping_ages_are_merged_and_those_of_others_stay() {
    let widths = Widths::new(4, 2).unwrap();
    let fs = MemFs::new();
    fs.create_dir(Path::new(DIRECTORY)).unwrap();
    let write = |file: u8, numbers: (u64, u64), rows: &[(&[u8; 4], &[u8])]| {
        let path = Path::new(DIRECTORY).join(format!("{file:08}.table"));
        let columns = Columns { sequences: false, kinds: true };
        let ids = (Identity::from_bytes([file; 16]), DATABASE);
        let mut writer = FixedWriter::create(&shared(&fs), &path, ids, widths, columns, numbers, 10).unwrap();
        writer.set_origin(origin(KeyspaceKind::Fixed(widths), 0));
        for (key, value) in rows {
            let kind = if value.is_empty() { Kind::Delete } else { Kind::Put };
            writer.add(*key, value, numbers.1, kind).unwrap();
        }
        writer.finish().unwrap();
    };
    write(1, (1, 10), &[(b"aaaa", b"1 "), (b"bbbb", b"1 "), (b"cccc", b"1 ")]);
    write(2, (11, 20), &[(b"bbbb", b"2 "), (b"cccc", b"")]);
    // The merge of both, whose inputs had not gone yet.
    write(3, (1, 20), &[(b"aaaa", b"1 "), (b"bbbb", b"2 ")]);
    write(4, (21, 30), &[(b"aaaa", b"4 "), (b"dddd", b"4 ")]);
    let report = run(&fs).unwrap();
    assert!(report.is_lossless() && report.check.as_ref().unwrap().is_clean(), "{report:#?}");
    assert_eq!(
        report.tables.iter().filter(|table| table.fate == TableFate::Merged).count(),
        3,
        "{report:#?}"
    );
    let expected: support::Map = [("aaaa", "4 "), ("bbbb", "2 "), ("dddd", "4 ")]
        .map(|(key, value)| (key.into(), value.into()))
        .into();
    assert_eq!(contents(&fs)["one"], expected);
    assert!(run(&fs).unwrap().was_sound);
}
