//! A whole database: its files are damaged, or say something else under checksums that are right. What is read then was written once, or is an
//! error.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a fuzz target reports by panicking"
)]

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use super::Choices;
use crate::batch::{Encoder, KeyspaceId, Operation, Operations};
use crate::block::Compression;
use crate::checksum::Identity;
use crate::db::{Batch, Db};
use crate::error::Result;
use crate::filename::FileName;
use crate::fs::{FileSystem, MemFs};
use crate::journal::{
    Durability, LogKind, RecordHeader, RecordKind, RecordWriter, RecoveryMode, read_records,
};
use crate::key::SEQUENCE_MAX;
use crate::keyspace::Keyspace;
use crate::levels::{Change, Edit, Levels, TableReference};
use crate::options::{Background, KeyspaceOptions, Tuning};
use crate::range::KeyRange;

/// More operations than any batch here has.
const MANY_OPERATIONS: u32 = 1000;
const KEYSPACES: [&str; 2] = ["one", "two"];
const MODES: [RecoveryMode; 4] =
    [RecoveryMode::Tail, RecoveryMode::Strict, RecoveryMode::PointInTime, RecoveryMode::Salvage];

type Bounds<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);
type State = BTreeMap<(String, Vec<u8>), Vec<u8>>;

fn directory() -> &'static Path {
    Path::new("/db")
}

/// The payload of a batch: an error, or operations that lie in it and whose encoding it is.
pub fn batch(bytes: &[u8]) {
    let mut encoder = Encoder::default();
    let mut is_whole = true;
    for operation in Operations::new(bytes) {
        let Ok((keyspace, operation)) = operation else {
            is_whole = false;
            break;
        };
        match operation {
            Operation::Put { key, value } => encoder.put(keyspace, &bytes[key], &bytes[value]),
            Operation::Delete { key } => encoder.delete(keyspace, &bytes[key]),
            Operation::DeleteRange { start, end } => {
                let start = Bound::Included(&bytes[start]);
                let end = end.map_or(Bound::Unbounded, |end| Bound::Excluded(&bytes[end]));
                encoder.delete_range::<&[u8]>(keyspace, &(start, end));
            }
        }
    }
    // Ranges that hold nothing are left out when they are written.
    if is_whole && encoder.fault().is_none() && encoder.payload().len() == bytes.len() {
        assert_eq!(encoder.payload(), bytes, "one batch has one encoding");
    }
}

/// The edits of a manifest, each behind its length in two bytes: an error, or a state that comes back from the edit that says all of it.
pub fn manifest(mut bytes: &[u8]) {
    let mut levels: Option<Levels> = None;
    while let Some((length, rest)) = bytes.split_first_chunk::<2>() {
        let (payload, rest) = rest.split_at(usize::from(u16::from_le_bytes(*length)).min(rest.len()));
        bytes = rest;
        let Ok(edit) = Edit::decode(payload) else { return };
        assert_eq!(Edit::decode(&edit.encode()).ok().as_ref(), Some(&edit), "what was read can be written");
        let next = match &levels {
            None => Levels::begin(&edit),
            Some(levels) => levels.apply(&edit),
        };
        let Ok(next) = next else { return };
        assert_eq!(Levels::begin(&next.to_edit()).ok().as_ref(), Some(&next), "a state comes back");
        assert!(next.sequence_max() <= SEQUENCE_MAX);
        for keyspace in next.keyspaces.values() {
            assert!(keyspace.tree.check().is_ok(), "what was taken is in order");
        }
        levels = Some(next);
    }
}

/// Where the damage is done.
struct Base {
    fs: MemFs,
    /// What the database held, from nothing on, after each batch.
    states: Vec<State>,
}

/// A database with tables in two levels, tombstones of both kinds, and something in the log alone; closed in order, and killed.
static BASES: LazyLock<[Base; 2]> = LazyLock::new(|| {
    let fs = MemFs::new();
    let mut states = vec![State::new()];
    let db = open(&fs, false, RecoveryMode::Tail).expect("an empty directory can be opened");
    let keyspaces = keyspaces(&db).expect("keyspaces can be made");
    let mut commit = |fill: &dyn Fn(&mut Batch)| {
        let mut batch = Batch::new();
        fill(&mut batch);
        db.commit(batch, Durability::Synced).unwrap();
        states.push(read(&db).unwrap());
    };
    let [one, two] = &keyspaces[..] else { unreachable!("two keyspaces") };
    commit(&|batch| {
        for number in 0..40u8 {
            batch.put(&keyspaces[usize::from(number % 2)], format!("key {number:02}"), "first");
        }
    });
    db.compact().unwrap();
    commit(&|batch| {
        batch.put(one, "key 06", "second");
        batch.delete(one, "key 08");
        batch.delete_prefix(one, "key 1");
        batch.put(one, "key 14", "second");
        batch.delete_range::<&str>(two, (Bound::Included("key 30"), Bound::Unbounded));
    });
    db.flush().unwrap();
    commit(&|batch| {
        batch.put(two, "key 35", "third");
        batch.delete(one, "key 00");
    });
    commit(&|batch| batch.put(one, "key 50", "fourth"));
    commit(&|batch| batch.delete_range(two, "key 03".."key 20"));
    let killed = fs.snapshot();
    drop(keyspaces);
    db.close().unwrap();
    [Base { fs, states: states.clone() }, Base { fs: killed, states }]
});

/// Sizes at which a few keys make several tables, of several blocks.
fn tuning() -> Tuning {
    let mut tuning = Tuning::for_memory(1 << 20);
    tuning.write_buffer_bytes = 100_000;
    tuning.level0_tables = 2;
    tuning.level1_bytes = 1500;
    tuning.level_growth = 2;
    tuning.table_bytes = 500;
    tuning.block_bytes = 100;
    tuning.restart_interval = 3;
    (tuning.compression, tuning.shallow_compression) = (Compression::None, Compression::None);
    tuning
}

fn open(fs: &MemFs, read_only: bool, mode: RecoveryMode) -> Result<Db> {
    Db::builder(directory())
        .file_system(Arc::new(fs.clone()))
        .background(Background::Manual)
        .memory_bytes(1 << 20)
        .tuning(tuning())
        .read_only(read_only)
        .recovery(mode)
        .open()
}

fn keyspaces(db: &Db) -> Result<Vec<Keyspace>> {
    KEYSPACES.iter().map(|name| db.keyspace(name, KeyspaceOptions::sorted())).collect()
}

/// All that can be read, forward; backward and by key it must be the same.
fn read(db: &Db) -> Result<State> {
    let mut state = State::new();
    for name in db.keyspace_names() {
        let keyspace = db.keyspace(&name, KeyspaceOptions::sorted())?;
        for item in keyspace.iter() {
            let (key, value) = item?;
            state.insert((name.clone(), key.to_vec()), value.to_vec());
        }
    }
    Ok(state)
}

/// What stands in a keyspace within bounds.
fn slice<'a>(state: &'a State, name: &str, bounds: Bounds<'_>) -> Vec<(&'a [u8], &'a [u8])> {
    let range = KeyRange::from_bounds::<&[u8]>(&bounds);
    let of_it = state.iter().filter(|((keyspace, key), _)| keyspace == name && range.contains(key));
    of_it.map(|((_, key), value)| (key.as_slice(), value.as_slice())).collect()
}

/// Scans within bounds, both ways: what one shows that comes to its end without an error stood there in one of these states; and where a check finds nothing, each does.
/// (A scan that meets no damage need not be one of a sound database: what is deleted is not read.)
fn scan_within_bounds(db: &Db, states: &[State], is_clean: bool) {
    let bounds: [Bounds<'_>; 5] = [
        (Bound::Included(b"key 03"), Bound::Excluded(b"key 14")),
        (Bound::Excluded(b"key 06"), Bound::Included(b"key 08")),
        (Bound::Included(b"key 1"), Bound::Excluded(b"key 2")),
        (Bound::Included(b"key 27"), Bound::Unbounded),
        (Bound::Unbounded, Bound::Included(b"key 35")),
    ];
    for name in db.keyspace_names() {
        let keyspace = db.keyspace(&name, KeyspaceOptions::sorted()).expect("it is there, of this kind");
        for bounds in bounds {
            let upward = keyspace.range::<&[u8]>(bounds).collect::<Result<Vec<_>>>();
            let downward = keyspace.range::<&[u8]>(bounds).rev().collect::<Result<Vec<_>>>();
            for (way, shown) in [("upward", upward), ("downward", downward)] {
                let mut shown = match shown {
                    Ok(shown) => shown,
                    Err(error) if is_clean => panic!("{name}, {bounds:?}, {way}: {error}"),
                    Err(_) => continue,
                };
                if way == "downward" {
                    shown.reverse();
                }
                let shown: Vec<(&[u8], &[u8])> =
                    shown.iter().map(|(key, value)| (&**key, &**value)).collect();
                let stood = states.iter().any(|state| slice(state, &name, bounds) == shown);
                assert!(stood, "{name}, {bounds:?}, {way}: {shown:?}");
            }
        }
    }
}

/// Damages a database, or makes its manifest and its logs say something else, and opens it. The first byte says how, and which database, then come the
/// changes.
pub fn database(data: &[u8]) {
    let mut choices = Choices(data);
    let how = usize::from(choices.byte());
    let (base, read_only, mode) = (&BASES[how & 1], how & 2 != 0, MODES[how >> 2 & 3]);
    let fs = base.fs.snapshot();
    let mut is_forged = false;
    while !choices.is_empty() {
        is_forged |= change(&fs, &mut choices);
    }
    judge(&fs, base, read_only, mode, is_forged);
}

fn files(fs: &MemFs) -> Vec<PathBuf> {
    let names = fs.read_dir(directory()).unwrap();
    let mut files: Vec<_> = names.iter().map(|name| directory().join(name.file_name().unwrap())).collect();
    files.retain(|path| fs.open_read(path).is_ok());
    files.sort();
    files
}

fn contents(fs: &MemFs, path: &Path) -> Vec<u8> {
    let file = fs.open_read(path).unwrap();
    let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

fn replace(fs: &MemFs, path: &Path, bytes: &[u8]) {
    let _ = fs.remove_file(path);
    fs.create_new(path).unwrap().write_all_at(bytes, 0).unwrap();
}

/// One change, anywhere; whether it has checksums that are right.
fn change(fs: &MemFs, choices: &mut Choices<'_>) -> bool {
    let files = files(fs);
    if files.is_empty() {
        choices.byte();
        return false;
    }
    let action = choices.byte() % 9;
    let path = &files[choices.below(files.len())];
    let mut bytes = contents(fs, path);
    let at = choices.below(bytes.len());
    match action {
        0 if !bytes.is_empty() => bytes[at] ^= choices.byte().max(1),
        1 => bytes.truncate(at),
        2 => {
            let end = (at + choices.below(200)).min(bytes.len());
            bytes[at..end].fill(choices.byte());
        }
        3 => bytes.extend_from_slice(&vec![choices.byte(); choices.below(100)]),
        4 => bytes = contents(fs, &files[choices.below(files.len())]),
        5 => {
            fs.remove_file(path).unwrap();
            return false;
        }
        6 => {
            let number = number(choices, 9).max(1);
            let to = if choices.byte() & 1 == 0 { FileName::Log(number) } else { FileName::Table(number) };
            replace(fs, &to.path(directory()), &bytes);
            return false;
        }
        7 => return forge(fs, &FileName::Manifest.path(directory()), LogKind::Manifest, choices),
        8 => {
            let mut logs = files.iter().filter(|path| path.extension().is_some_and(|end| end == "log"));
            return logs.next_back().is_some_and(|path| forge(fs, path, LogKind::Journal, choices));
        }
        _ => {}
    }
    replace(fs, path, &bytes);
    false
}

/// A number that is likely to be trouble, or near to what stood there.
fn number(choices: &mut Choices<'_>, old: u64) -> u64 {
    match choices.byte() % 12 {
        0 => 0,
        1 => old.wrapping_add(1),
        2 => old.wrapping_sub(1),
        3 => u64::MAX - u64::from(choices.byte() % 32),
        4 => SEQUENCE_MAX - u64::from(choices.byte() % 4),
        5 => SEQUENCE_MAX + u64::from(choices.byte() % 4),
        6 => u64::from(u32::MAX),
        7 => 1 << (choices.byte() % 64),
        8 => u64::from(choices.word()),
        _ => u64::from(choices.byte() % 64),
    }
}

/// Writes a log or the manifest anew with one record changed, all checksums right; whether that was done.
fn forge(fs: &MemFs, path: &Path, kind: LogKind, choices: &mut Choices<'_>) -> bool {
    let mut records: Vec<(RecordHeader, Vec<u8>)> = Vec::new();
    let Ok(file) = fs.open_read(path) else { return false };
    let visited = read_records(file, path, kind, &mut |record| {
        records.push((record.header, record.payload.to_vec()));
        Ok(())
    });
    if visited.is_err() || records.is_empty() {
        return false;
    }
    let identity = contents(fs, path).get(24..40).and_then(|bytes| bytes.try_into().ok());
    let Some(identity) = identity.map(Identity::from_bytes) else { return false };
    let index = choices.below(records.len());
    let (header, payload) = &mut records[index];
    match choices.byte() % 8 {
        0 => header.first_sequence = number(choices, header.first_sequence),
        1 => header.op_count = u32::try_from(number(choices, header.op_count.into())).unwrap_or(u32::MAX),
        2 => drop(records.remove(index)),
        3 => {
            let again = records[index].clone();
            records.insert(choices.below(index + 1), again);
        }
        4 if !payload.is_empty() => {
            let at = choices.below(payload.len());
            payload[at] = choices.byte();
        }
        _ if kind == LogKind::Manifest => {
            let Ok(mut edit) = Edit::decode(payload) else { return false };
            alter(&mut edit, choices);
            *payload = edit.encode();
        }
        _ => payload.extend_from_slice(&vec![choices.byte(); 1 + choices.below(12)]),
    }
    fs.remove_file(path).unwrap();
    let mut writer = RecordWriter::create(fs, path, kind, identity).unwrap();
    for (header, payload) in &records {
        let is_batch = header.kind == RecordKind::Batch;
        let first = header.first_sequence.clamp(1, SEQUENCE_MAX);
        let op_count = if is_batch { header.op_count.clamp(1, MANY_OPERATIONS) } else { 0 };
        // What no writer writes is left out: the reader of records refuses it, as the other target of the journal shows.
        if first + u64::from(op_count) <= SEQUENCE_MAX {
            writer.append(header.kind, header.sync_asked, first, op_count, payload).unwrap();
        }
    }
    writer.write().unwrap();
    true
}

/// Changes one change of an edit.
fn alter(edit: &mut Edit, choices: &mut Choices<'_>) {
    if edit.changes.is_empty() {
        return;
    }
    let index = choices.below(edit.changes.len());
    let how = choices.byte();
    match how % 4 {
        0 => drop(edit.changes.remove(index)),
        1 => {
            let again = edit.changes[index].clone();
            edit.changes.insert(choices.below(edit.changes.len()), again);
        }
        _ => match &mut edit.changes[index] {
            Change::Database(identity) => *identity = Identity::from_bytes([choices.byte(); 16]),
            Change::Keyspace { id, name, .. } => {
                *id = KeyspaceId::new(u32::from(choices.byte()) + 1).unwrap();
                *name = format!("{}", choices.byte()).into();
            }
            Change::TableAdded { keyspace, level, table } => {
                let altered = Arc::make_mut(table);
                match how / 4 % 4 {
                    0 => *keyspace = KeyspaceId::new(1 + u32::from(choices.byte() % 3)).unwrap(),
                    1 => *level = usize::from(choices.byte() % 8),
                    _ => alter_table(altered, choices),
                }
            }
            Change::TableRemoved { level, file, .. } => {
                *level = usize::from(choices.byte() % 8);
                *file = number(choices, *file);
            }
            Change::Flushed { through, .. } => *through = number(choices, *through),
            Change::LogAdded { number: file, .. } | Change::LogRemoved(file) | Change::NextFile(file) => {
                *file = number(choices, *file);
            }
            Change::LogCut { cut, .. } => {
                cut.offset = number(choices, cut.offset);
                cut.last_sequence = number(choices, cut.last_sequence);
            }
            Change::NextSequence(next) => *next = number(choices, *next),
            Change::KeyspaceRemoved(id) => *id = KeyspaceId::new(u32::from(choices.byte()) + 1).unwrap(),
            Change::Checkpoint | Change::Unfinished => {}
            Change::KeyspacesDropped { flushed, .. } => *flushed = number(choices, *flushed),
        },
    }
}

fn alter_table(table: &mut TableReference, choices: &mut Choices<'_>) {
    let key = |choices: &mut Choices<'_>| format!("key {:02}", choices.byte() % 60).into_bytes();
    match choices.byte() % 9 {
        0 => table.file = number(choices, table.file),
        1 => table.file_bytes = number(choices, table.file_bytes),
        2 => table.bounds.lower = key(choices),
        3 => {
            table.bounds.upper = match choices.byte() % 3 {
                0 => Bound::Unbounded,
                1 => Bound::Included(key(choices)),
                _ => Bound::Excluded(key(choices)),
            }
        }
        4 => table.sequence_min = number(choices, table.sequence_min),
        5 => table.sequence_max = number(choices, table.sequence_max),
        6 => table.epoch = number(choices, table.epoch),
        7 => table.entries = number(choices, table.entries),
        _ => table.deletions = number(choices, table.deletions),
    }
}

fn judge(fs: &MemFs, base: &Base, read_only: bool, mode: RecoveryMode, is_forged: bool) {
    let Ok(db) = open(fs, read_only, mode) else { return };
    let found = read(&db);
    let report = db.check();
    if !is_forged {
        let is_clean = report.is_ok_and(|report| report.is_clean());
        let states = found.as_ref().map_or(&base.states[..], std::slice::from_ref);
        if found.is_ok() || mode != RecoveryMode::Salvage {
            scan_within_bounds(&db, states, is_clean);
        }
        match &found {
            Err(error) => assert!(!is_clean, "a check found nothing where reading gives: {error}"),
            Ok(found) if mode == RecoveryMode::Salvage => {
                let is_known = |item| base.states.iter().any(|state| state.iter().any(|known| known == item));
                assert!(found.iter().all(is_known), "what nobody wrote");
            }
            Ok(found) => assert!(base.states.contains(found), "{mode:?}: a state that never was: {found:?}"),
        }
        // Where no file is left there is nothing to tell it from a new database.
        let report = db.recovery_report();
        if mode == RecoveryMode::Strict && report.is_clean() && !report.is_new {
            assert!(found.is_err() || found.as_ref().ok() == base.states.last(), "Strict lets nothing pass");
        }
    }
    if read_only {
        return;
    }
    let Ok(keyspaces) = keyspaces(&db) else { return };
    let steps = || -> Result<()> {
        keyspaces[1].put("key 99", "more")?;
        db.flush()?;
        db.compact()
    };
    let went_on = steps().is_ok();
    drop(keyspaces);
    let expected = read(&db);
    if db.close().is_err() || !went_on || is_forged {
        return;
    }
    if let (Ok(mut found), Ok(expected)) = (found, expected) {
        found.insert((KEYSPACES[1].to_owned(), b"key 99".to_vec()), b"more".to_vec());
        assert_eq!(expected, found, "writing changes nothing else");
        let db = open(fs, false, RecoveryMode::Tail).expect("what was opened and closed can be opened");
        assert_eq!(read(&db).expect("what could be read can be read"), found);
    }
}
