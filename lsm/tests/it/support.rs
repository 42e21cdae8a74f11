//! One model for all tests: a history of states, and a database that must always show one of them.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use lsm::fs::{FileSystem, MemFs};
use lsm::{Background, Batch, Db, Durability, Keyspace, KeyspaceOptions, Result, Tuning};

/// All keyspaces of a test. The first [`KEYSPACES_AT_FIRST`] are there from the beginning, the others are made in this order while it runs.
pub(crate) const KEYSPACES: [&str; 6] = ["one", "two", "three", "four", "five", "six"];
pub(crate) const KEYSPACES_AT_FIRST: usize = 2;

/// Which of them have fixed widths, and which: so narrow that every key comes again and again.
const FIXED: [(usize, (usize, usize)); 2] = [(2, (3, 10)), (4, (9, 0))];

/// How a keyspace is made.
pub(crate) fn options(index: usize) -> KeyspaceOptions {
    match FIXED.iter().find(|(fixed, _)| *fixed == index) {
        Some((_, (key, value))) => KeyspaceOptions::fixed(*key, *value).unwrap(),
        None => KeyspaceOptions::sorted(),
    }
}

/// A key or value of a keyspace, as wide as it must be there.
pub(crate) fn fitted(index: usize, bytes: &[u8], is_key: bool) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    if let Some((_, (key, value))) = FIXED.iter().find(|(fixed, _)| *fixed == index) {
        bytes.resize(if is_key { *key } else { *value }, b'a');
    }
    bytes
}

pub(crate) type Map = BTreeMap<Vec<u8>, Vec<u8>>;
/// What the keyspaces hold.
pub(crate) type State = [Map; KEYSPACES.len()];

/// One operation of a batch: a keyspace's index, and what happens to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Put(usize, Vec<u8>, Vec<u8>),
    Delete(usize, Vec<u8>),
    DeleteRange(usize, Bound<Vec<u8>>, Bound<Vec<u8>>),
    DeletePrefix(usize, Vec<u8>),
}

impl Op {
    /// The same on a keyspace that is there, if there are so many.
    pub(crate) fn within(mut self, keyspaces: usize) -> Self {
        match &mut self {
            Self::Put(keyspace, ..)
            | Self::Delete(keyspace, _)
            | Self::DeleteRange(keyspace, ..)
            | Self::DeletePrefix(keyspace, _) => *keyspace %= keyspaces,
        }
        self
    }

    pub(crate) fn add_to(&self, batch: &mut Batch, keyspaces: &[Keyspace]) {
        match self {
            Self::Put(keyspace, key, value) => {
                let (key, value) = (fitted(*keyspace, key, true), fitted(*keyspace, value, false));
                batch.put(&keyspaces[*keyspace], key, value);
            }
            Self::Delete(keyspace, key) => batch.delete(&keyspaces[*keyspace], fitted(*keyspace, key, true)),
            Self::DeleteRange(keyspace, start, end) => {
                batch.delete_range::<Vec<u8>>(&keyspaces[*keyspace], (start.clone(), end.clone()));
            }
            Self::DeletePrefix(keyspace, prefix) => batch.delete_prefix(&keyspaces[*keyspace], prefix),
        }
    }

    pub(crate) fn apply_to(&self, state: &mut State) {
        match self {
            Self::Put(keyspace, key, value) => {
                state[*keyspace].insert(fitted(*keyspace, key, true), fitted(*keyspace, value, false));
            }
            Self::Delete(keyspace, key) => {
                state[*keyspace].remove(&fitted(*keyspace, key, true));
            }
            Self::DeleteRange(keyspace, start, end) => {
                state[*keyspace].retain(|key, _| !is_inside(key, start, end));
            }
            Self::DeletePrefix(keyspace, prefix) => {
                state[*keyspace].retain(|key, _| !key.starts_with(prefix))
            }
        }
    }
}

/// Whether a key lies between two bounds, which may be in any order.
pub(crate) fn is_inside(key: &[u8], start: &Bound<Vec<u8>>, end: &Bound<Vec<u8>>) -> bool {
    let after_start = match start {
        Bound::Included(start) => key >= start.as_slice(),
        Bound::Excluded(start) => key > start.as_slice(),
        Bound::Unbounded => true,
    };
    let before_end = match end {
        Bound::Included(end) => key <= end.as_slice(),
        Bound::Excluded(end) => key < end.as_slice(),
        Bound::Unbounded => true,
    };
    after_start && before_end
}

/// What the database says that it holds.
pub(crate) fn dump(keyspaces: &[Keyspace]) -> Result<State> {
    let mut state = State::default();
    for (map, keyspace) in state.iter_mut().zip(keyspaces) {
        for item in keyspace.iter() {
            let (key, value) = item?;
            map.insert(key.to_vec(), value.to_vec());
        }
    }
    Ok(state)
}

/// Sizes at which everything happens all the time.
pub(crate) fn tiny(write_buffer_bytes: usize) -> Tuning {
    let mut tuning = Tuning::for_memory(1 << 20);
    tuning.write_buffer_bytes = write_buffer_bytes;
    tuning.frozen_max = 2;
    tuning.level0_tables = 2;
    tuning.level0_tables_slow = 4;
    tuning.level1_bytes = 1500;
    tuning.level_growth = 2;
    tuning.table_bytes = 700;
    tuning.block_bytes = 64;
    tuning.restart_interval = 2;
    tuning.tier_runs = 3;
    tuning.bulk_buffer_bytes = write_buffer_bytes;
    tuning.merge_threads = 2;
    tuning.step_entries = 5;
    tuning.manifest_bytes = 2000;
    tuning.journal.buffer_bytes = 300;
    tuning
}

/// A database whose background is the test's.
pub(crate) fn open(fs: &Arc<dyn FileSystem>, tuning: &Tuning) -> Result<(Db, Vec<Keyspace>)> {
    let db = Db::builder("/db")
        .file_system(Arc::clone(fs))
        .background(Background::Manual)
        .memory_bytes(1 << 20)
        .tuning(tuning.clone())
        .open()?;
    let keyspaces = keyspaces(&db)?;
    Ok((db, keyspaces))
}

/// Those that are there, those that always are, and between them the one that was dropped and not yet made again.
pub(crate) fn keyspaces(db: &Db) -> Result<Vec<Keyspace>> {
    let there = db.keyspace_names();
    let made = KEYSPACES.iter().rposition(|name| there.iter().any(|other| other == name));
    let count = made.map_or(0, |last| last + 1).max(KEYSPACES_AT_FIRST);
    let names = KEYSPACES[..count].iter().enumerate();
    names.map(|(index, name)| db.keyspace(name, options(index))).collect()
}

/// Makes the next one, if there is one left to be made.
pub(crate) fn make_keyspace(db: &Db, keyspaces: &mut Vec<Keyspace>) -> Result<()> {
    if let Some(name) = KEYSPACES.get(keyspaces.len()) {
        keyspaces.push(db.keyspace(name, options(keyspaces.len()))?);
    }
    Ok(())
}

/// Drops one, and makes another in its place.
pub(crate) fn drop_keyspace(db: &Db, keyspaces: &mut [Keyspace], index: usize) -> Result<()> {
    db.drop_keyspace(&keyspaces[index])?;
    keyspaces[index] = db.keyspace(KEYSPACES[index], options(index))?;
    Ok(())
}

/// Commits, in the database alone.
pub(crate) fn commit(db: &Db, keyspaces: &[Keyspace], ops: &[Op], durability: Durability) -> Result<u64> {
    let mut batch = Batch::new();
    for op in ops {
        op.add_to(&mut batch, keyspaces);
    }
    db.commit(batch, durability)
}

/// A small generator of random numbers (SplitMix64): a seed is a program.
#[derive(Clone, Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }

    pub(crate) fn key(&mut self) -> Vec<u8> {
        (0..self.below(4)).map(|_| b'a' + u8::try_from(self.below(3)).unwrap()).collect()
    }

    /// An operation on one of the first `keyspaces` keyspaces.
    pub(crate) fn op(&mut self, number: usize, keyspaces: usize) -> Op {
        let keyspace = self.below(keyspaces);
        match self.below(10) {
            0..=5 => {
                let mut value = format!("value {number}").into_bytes();
                value.resize(value.len() + self.below(3) * 40, b'.');
                Op::Put(keyspace, self.key(), value)
            }
            6..=7 => Op::Delete(keyspace, self.key()),
            8 => Op::DeleteRange(keyspace, Bound::Included(self.key()), Bound::Excluded(self.key())),
            _ => Op::DeletePrefix(keyspace, [self.key(), b"a".to_vec()].concat()),
        }
    }
}

/// The names of the logs in `/db`, in the order of their numbers.
pub(crate) fn logs(fs: &MemFs) -> Vec<String> {
    let names = fs.read_dir(Path::new("/db")).unwrap();
    let names = names.iter().map(|name| name.file_name().unwrap().to_str().unwrap().to_owned());
    let mut logs: Vec<String> = names.filter(|name| name.ends_with(".log")).collect();
    logs.sort();
    logs
}
