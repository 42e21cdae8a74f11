//! A database whose files are damaged, swapped, cut or gone is repaired: what verifies is there, what is lost is told, nothing is ever made up.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lsm::fs::{CrashPolicy, Fault, FaultCall, FaultEffect, FaultFs, FileSystem, MemFs};
use lsm::repair::{LossKind, ManifestCondition, TableFate};
use lsm::{Background, Builder, Compression, Db, Durability, ErrorKind, KeyspaceOptions, RecoveryMode};
use lsm::{RepairOptions, RepairReport, Tuning, repair};

use crate::support::{self, KEYSPACES, Op, Random, State, commit, dump, tiny};

mod crash;
mod damage;
mod order;

const DIRECTORY: &str = "/db";
const MANIFEST: &str = "/db/MANIFEST";

fn shared(fs: &MemFs) -> Arc<dyn FileSystem> {
    Arc::new(fs.clone())
}

fn builder(fs: &MemFs) -> Builder {
    Db::builder(DIRECTORY)
        .file_system(shared(fs))
        .background(Background::Manual)
        .memory_bytes(1 << 20)
        .tuning(Tuning::for_memory(1 << 20))
}

fn run(fs: &MemFs) -> lsm::Result<RepairReport> {
    repair(DIRECTORY, &RepairOptions::new().file_system(shared(fs)))
}

/// All values that a key ever had, in each keyspace.
type History = Vec<BTreeMap<Vec<u8>, BTreeSet<Option<Vec<u8>>>>>;

/// A database with tables in several levels and something in its log, what it holds, and what it ever held.
struct Written {
    fs: MemFs,
    state: State,
    history: History,
}

fn write(seed: u64, steps: usize, tuning: &Tuning, in_order: bool) -> Written {
    let fs = MemFs::new();
    let mut random = Random(seed);
    let mut state = State::default();
    let mut history: History = vec![BTreeMap::new(); KEYSPACES.len()];
    let (db, mut keyspaces) = support::open(&shared(&fs), tuning).unwrap();
    for step in 0..steps {
        match random.below(20) {
            0 => support::make_keyspace(&db, &mut keyspaces).unwrap(),
            1 => db.flush().unwrap(),
            2 | 3 => {
                for _ in 0..random.below(40) {
                    db.step().unwrap();
                }
            }
            _ => {
                let ops: Vec<Op> =
                    (0..1 + random.below(5)).map(|_| wide_op(&mut random, step, keyspaces.len())).collect();
                let before = state.clone();
                ops.iter().for_each(|op| op.apply_to(&mut state));
                note(&mut history, &before, &state);
                // A batch may write a key twice.
                for op in &ops {
                    if let Op::Put(keyspace, key, value) = op {
                        let key = support::fitted(*keyspace, key, true);
                        let value = support::fitted(*keyspace, value, false);
                        history[*keyspace].entry(key).or_default().extend([None, Some(value)]);
                    }
                }
                commit(&db, &keyspaces, &ops, Durability::Synced).unwrap();
            }
        }
    }
    drop(keyspaces);
    if in_order {
        db.close().unwrap();
        return Written { fs, state, history };
    }
    // Killed: nothing more is written.
    let killed = fs.crash(CrashPolicy::Everything, seed);
    drop(db);
    Written { fs: killed, state, history }
}

/// More keys than the other tests have, so that tables have many blocks.
fn wide_op(random: &mut Random, step: usize, keyspaces: usize) -> Op {
    match random.op(step, keyspaces) {
        Op::Put(keyspace, mut key, value) => {
            key.extend(format!("{:02}", random.below(30)).into_bytes());
            Op::Put(keyspace, key, value)
        }
        Op::Delete(keyspace, mut key) => {
            key.extend(format!("{:02}", random.below(30)).into_bytes());
            Op::Delete(keyspace, key)
        }
        // Few, or nothing is left.
        Op::DeletePrefix(keyspace, mut prefix) => {
            prefix.extend(b"b0");
            Op::DeletePrefix(keyspace, prefix)
        }
        other => other,
    }
}

fn note(history: &mut History, before: &State, after: &State) {
    for (keyspace, known) in history.iter_mut().enumerate() {
        for key in before[keyspace].keys().chain(after[keyspace].keys()) {
            let values = known.entry(key.clone()).or_default();
            values.insert(None);
            values.extend([before[keyspace].get(key).cloned(), after[keyspace].get(key).cloned()]);
        }
    }
}

/// What each keyspace holds, by name.
fn contents(fs: &MemFs) -> BTreeMap<String, support::Map> {
    let db = builder(fs).open().unwrap();
    let map = |keyspace: &lsm::Keyspace| {
        let items =
            keyspace.iter().map(|item| item.map(|(key, value)| (key.to_vec(), value.to_vec())).unwrap());
        (keyspace.name().to_owned(), items.collect())
    };
    db.keyspaces().iter().map(map).collect()
}

/// Everything is as the report says: the same where it tells of no loss, and nowhere what never was.
fn compare(place: &str, written: &Written, fs: &MemFs, report: &RepairReport) {
    // A file of which nobody knows that it was there.
    let mut unknowable = place.contains("is gone") && !report.doubts.is_empty();
    // What was synced last cannot be told from what a crash tore: FORMAT.md, "Verdicts".
    unknowable |= place.contains("newest log");
    assert!(report.was_sound || report.check.as_ref().unwrap().is_clean(), "{place}: {:?}", report.check);
    let found = contents(fs);
    for (index, name) in KEYSPACES.iter().enumerate() {
        let (expected, empty) = (&written.state[index], support::Map::new());
        let found = found.get(*name).unwrap_or(&empty);
        let keys: BTreeSet<&Vec<u8>> = expected.keys().chain(found.keys()).collect();
        for key in keys {
            let (is, was) = (found.get(key).cloned(), expected.get(key).cloned());
            if is == was {
                continue;
            }
            let ever = written.history[index].get(key).is_some_and(|values| values.contains(&is));
            assert!(ever, "{place}: {name} {key:?} is {is:?}, which it never was: {report:?}");
            let excused = report.losses.iter().any(|loss| {
                loss.keyspace.as_ref().is_none_or(|keyspace| keyspace == name)
                    && loss.range.as_ref().is_none_or(|range| range.contains(key))
            });
            assert!(
                excused || !report.recovered_keyspaces.is_empty() || unknowable,
                "{place}: {name} {:?} is {is:?} and not {was:?}, and nothing is said to be lost there: {report:#?}",
                String::from_utf8_lossy(key)
            );
        }
    }
}

fn bytes_of(fs: &MemFs, path: &Path) -> Vec<u8> {
    let file = fs.open_read(path).unwrap();
    let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

fn replace(fs: &MemFs, path: &Path, bytes: &[u8]) {
    fs.remove_file(path).unwrap();
    fs.create_new(path).unwrap().write_all_at(bytes, 0).unwrap();
}

/// The files with this ending, in order.
fn files(fs: &MemFs, ending: &str) -> Vec<PathBuf> {
    let names = fs.read_dir(Path::new(DIRECTORY)).unwrap();
    let names = names.iter().map(|name| Path::new(DIRECTORY).join(name.file_name().unwrap()));
    let mut files: Vec<PathBuf> = names.filter(|path| path.to_string_lossy().ends_with(ending)).collect();
    files.sort();
    files
}

/// All of it is on the medium.
fn settled(fs: &MemFs) -> MemFs {
    fs.crash(CrashPolicy::Everything, 0)
}

fn many_levels() -> Tuning {
    let mut tuning = tiny(1500);
    tuning.compression = if cfg!(feature = "zstd") { Compression::Zstd(1) } else { Compression::Lz4 };
    tuning
}

#[test]
fn a_sound_database_is_not_touched() {
    for in_order in [true, false] {
        let written = write(1, 200, &many_levels(), in_order);
        let before = written.fs.calls();
        let report = run(&written.fs).unwrap();
        assert!(report.was_sound && report.is_lossless(), "{report:?}");
        assert!(matches!(report.manifest, ManifestCondition::Whole));
        assert_eq!(written.fs.calls(), before, "{:?}", written.fs.last_call());
        compare("sound", &written, &written.fs, &report);
    }
}

#[test]
fn where_nothing_is_there_is_nothing_to_repair() {
    let fs = MemFs::new();
    assert_eq!(run(&fs).unwrap_err().kind(), ErrorKind::NotFound);
    fs.create_dir(Path::new(DIRECTORY)).unwrap();
    assert_eq!(run(&fs).unwrap_err().kind(), ErrorKind::NotFound);
    fs.create_new(Path::new("/db/00000001.table")).unwrap().write_all_at(&[7; 500], 0).unwrap();
    assert_eq!(run(&fs).unwrap_err().kind(), ErrorKind::Corruption);
    assert!(fs.exists(Path::new("/db/00000001.table")).unwrap());
}

#[test]
fn somebody_who_writes_keeps_repair_out() {
    let fs = MemFs::new();
    let _db = builder(&fs).open().unwrap();
    assert_eq!(run(&fs).unwrap_err().kind(), ErrorKind::Locked);
}

/// The tables and the logs tell everything: a manifest that is gone, or of which any part is, loses nothing.
#[test]
fn without_a_manifest_nothing_is_lost() {
    for seed in 0..12 {
        let written = write(seed, 250, &many_levels(), seed % 2 == 0);
        let fs = settled(&written.fs);
        fs.remove_file(Path::new(MANIFEST)).unwrap();
        let report = run(&fs).unwrap();
        assert!(matches!(report.manifest, ManifestCondition::Missing));
        assert!(report.is_lossless(), "seed {seed}: {report:#?}");
        let place = format!("seed {seed}");
        compare(&place, &written, &fs, &report);
        for (name, map) in KEYSPACES.iter().zip(&written.state) {
            assert_eq!(contents(&fs).get(*name).cloned().unwrap_or_default(), *map, "{place}");
        }
        let again = run(&fs).unwrap();
        assert!(again.was_sound, "{place}: {again:#?}");
    }
}

/// What an edit took out of a manifest that can be read does not come back, whatever lies in the directory.
#[test]
fn what_an_edit_removed_stays_out() {
    let fs = MemFs::new();
    let mut tuning = tiny(1 << 20);
    tuning.manifest_bytes = 1 << 20;
    let (db, keyspaces) = support::open(&shared(&fs), &tuning).unwrap();
    let put = |key: &str| Op::Put(0, key.into(), b"deleted".to_vec());
    commit(&db, &keyspaces, &[put("a"), put("b")], Durability::Synced).unwrap();
    db.flush().unwrap();
    let old: Vec<(PathBuf, Vec<u8>)> =
        files(&fs, ".table").into_iter().map(|path| (path.clone(), bytes_of(&fs, &path))).collect();
    commit(&db, &keyspaces, &[Op::Delete(0, b"a".to_vec())], Durability::Synced).unwrap();
    db.compact().unwrap();
    commit(&db, &keyspaces, &[Op::Put(1, b"x".to_vec(), b"y".to_vec())], Durability::Synced).unwrap();
    db.flush().unwrap();
    drop(keyspaces);
    db.close().unwrap();
    for (path, bytes) in old {
        fs.create_new(&path).unwrap().write_all_at(&bytes, 0).unwrap();
    }
    // An edit in the middle that removed nothing: the first one, which says what was there at first.
    let mut bytes = bytes_of(&fs, Path::new(MANIFEST));
    bytes[64 + 45] ^= 1;
    replace(&fs, Path::new(MANIFEST), &bytes);
    assert_eq!(builder(&fs).open().unwrap_err().kind(), ErrorKind::Corruption);
    let report = run(&fs).unwrap();
    assert!(matches!(report.manifest, ManifestCondition::Damaged { .. }), "{report:#?}");
    assert!(report.is_lossless(), "{report:#?}");
    let found = contents(&fs);
    assert_eq!(found["one"].keys().collect::<Vec<_>>(), [b"b"], "{report:#?}");
    assert_eq!(found["two"].len(), 1);
}

/// Tables that older versions wrote do not say whose they are: each gets a keyspace of its own.
#[test]
fn tables_that_do_not_say_whose_they_are_are_kept_apart() {
    let fs = MemFs::new();
    fs.create_dir(Path::new(DIRECTORY)).unwrap();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/golden/v1/database");
    for file in std::fs::read_dir(golden).unwrap() {
        let path = file.unwrap().path();
        let to = fs.create_new(&Path::new(DIRECTORY).join(path.file_name().unwrap())).unwrap();
        to.write_all_at(&std::fs::read(&path).unwrap(), 0).unwrap();
    }
    let before = contents(&fs.snapshot());
    fs.remove_file(Path::new(MANIFEST)).unwrap();
    let tables = files(&fs, ".table").len();
    let report = run(&fs).unwrap();
    assert!(report.check.as_ref().unwrap().is_clean(), "{report:#?}");
    assert!(report.recovered_keyspaces.len() >= tables, "{report:#?}");
    let found = contents(&fs);
    for (name, map) in before {
        for (key, value) in map {
            let is_somewhere = found.values().any(|found| found.get(&key) == Some(&value));
            assert!(is_somewhere, "{name} {key:?} is lost: {report:#?}");
        }
    }
    assert!(run(&fs).unwrap().was_sound);
}

#[test]
fn a_dry_run_changes_nothing_and_says_the_same() {
    let written = write(3, 200, &many_levels(), true);
    let fs = settled(&written.fs);
    let table = files(&fs, ".table").pop().unwrap();
    fs.remove_file(&table).unwrap();
    fs.remove_file(Path::new(MANIFEST)).unwrap();
    let log = files(&fs, ".log").pop();
    let before = fs.calls();
    let dry = repair(DIRECTORY, &RepairOptions::new().file_system(shared(&fs)).dry_run(true)).unwrap();
    assert_eq!(fs.calls(), before, "{:?}, {log:?}", fs.last_call());
    let report = run(&fs).unwrap();
    assert_eq!(format!("{:?}", dry.losses), format!("{:?}", report.losses));
    assert_eq!(dump(&[]).unwrap(), State::default());
}

#[test]
fn a_keyspace_that_was_dropped_does_not_come_back() {
    for damage in [MANIFEST, "table"] {
        let fs = MemFs::new();
        let db = builder(&fs).tuning(tiny(1 << 20)).open().unwrap();
        let [kept, gone] = ["kept", "gone"].map(|name| db.keyspace(name, KeyspaceOptions::sorted()).unwrap());
        for number in 0..50u32 {
            kept.put(number.to_be_bytes(), [1; 30]).unwrap();
            gone.put(number.to_be_bytes(), [2; 30]).unwrap();
        }
        db.flush().unwrap();
        gone.put("later", "in the log").unwrap();
        kept.put("later", "in the log").unwrap();
        // A reader keeps the files of what goes.
        let held = db.snapshot();
        db.drop_keyspace(&gone).unwrap();
        db.sync().unwrap();
        let killed = fs.snapshot();
        drop((held, kept, gone, db));
        let names = killed.read_dir(Path::new(DIRECTORY)).unwrap();
        let name = names.iter().find(|name| name.to_string_lossy().ends_with(damage)).cloned();
        let path = Path::new(DIRECTORY).join(name.unwrap_or_else(|| PathBuf::from(damage)));
        let file = killed.open_read(&path).unwrap();
        let mut byte = [0];
        // In a manifest the checksum of the header, which says nothing of the edits.
        let at = if damage == MANIFEST { 60 } else { 100 };
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 1], at).unwrap();
        run(&killed).unwrap();
        let db = builder(&killed).open().unwrap();
        assert_eq!(db.keyspace_names(), ["kept"], "{damage}");
        let kept = db.keyspace("kept", KeyspaceOptions::sorted()).unwrap();
        assert!(kept.contains("later").unwrap());
        let again = db.keyspace("gone", KeyspaceOptions::sorted()).unwrap();
        assert_eq!(again.iter().count(), 0);
        assert!(db.check().unwrap().is_clean());
    }
}
