//! The database is sorted maps with a history: random programs over it and over `BTreeMap`s, which must answer alike, whatever the options.
//!
//! `LSM_MODEL_CASES` sets how many programs (64 by default; let it run over night with 1,000,000).

use std::ops::Bound;
use std::sync::Arc;

use lsm::fs::{CrashPolicy, FileSystem, MemFs};
use lsm::{Compression, Db, Durability, Keyspace, Snapshot, Tuning};
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

use crate::support::{self, KEYSPACES, Op, State, is_inside, tiny};

#[derive(Clone, Debug)]
enum Step {
    Commit(Vec<Op>, Durability),
    MakeKeyspace,
    DropKeyspace(usize),
    Sync,
    GetAll(usize),
    Scan { keyspace: usize, start: Bound<Vec<u8>>, end: Bound<Vec<u8>>, ends: Vec<(bool, bool)> },
    Prefix(usize, Vec<u8>),
    TakeSnapshot,
    ReadSnapshots,
    DropSnapshot,
    Flush,
    Compact,
    Background(usize),
    Close,
    Kill,
    PowerLoss(CrashPolicy, u64),
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(prop_oneof![Just(b'a'), Just(b'b'), Just(0u8), Just(255u8)], 0..4)
}

fn bound() -> impl Strategy<Value = Bound<Vec<u8>>> {
    prop_oneof![
        3 => key().prop_map(Bound::Included),
        3 => key().prop_map(Bound::Excluded),
        1 => Just(Bound::Unbounded),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let keyspace = 0..KEYSPACES.len();
    let value = proptest::collection::vec(any::<u8>(), 0..60);
    prop_oneof![
        6 => (keyspace.clone(), key(), value).prop_map(|(keyspace, key, value)| Op::Put(keyspace, key, value)),
        2 => (keyspace.clone(), key()).prop_map(|(keyspace, key)| Op::Delete(keyspace, key)),
        1 => (keyspace.clone(), bound(), bound()).prop_map(|(keyspace, start, end)| Op::DeleteRange(keyspace, start, end)),
        1 => (keyspace, key()).prop_map(|(keyspace, prefix)| Op::DeletePrefix(keyspace, prefix)),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let durability =
        prop_oneof![Just(Durability::Process), Just(Durability::System), Just(Durability::Synced)];
    let keyspace = 0..KEYSPACES.len();
    let ends = proptest::collection::vec(any::<(bool, bool)>(), 0..40);
    prop_oneof![
        20 => (proptest::collection::vec(op(), 1..5), durability).prop_map(|(ops, durability)| Step::Commit(ops, durability)),
        1 => Just(Step::MakeKeyspace),
        1 => keyspace.clone().prop_map(Step::DropKeyspace),
        1 => Just(Step::Sync),
        3 => keyspace.clone().prop_map(Step::GetAll),
        4 => (keyspace.clone(), bound(), bound(), ends)
            .prop_map(|(keyspace, start, end, ends)| Step::Scan { keyspace, start, end, ends }),
        2 => (keyspace, key()).prop_map(|(keyspace, prefix)| Step::Prefix(keyspace, prefix)),
        2 => Just(Step::TakeSnapshot),
        2 => Just(Step::ReadSnapshots),
        1 => Just(Step::DropSnapshot),
        2 => Just(Step::Flush),
        1 => Just(Step::Compact),
        3 => (1usize..20).prop_map(Step::Background),
        1 => Just(Step::Close),
        1 => Just(Step::Kill),
        1 => (proptest::sample::select(CrashPolicy::ALL.to_vec()), any::<u64>())
            .prop_map(|(policy, seed)| Step::PowerLoss(policy, seed)),
    ]
}

/// The database, and what it must show.
struct Subject {
    fs: MemFs,
    /// Which of the options it began with, how often it was opened since, and those it is open with.
    first_options: usize,
    openings: usize,
    tuning: Tuning,
    db: Option<Db>,
    keyspaces: Vec<Keyspace>,
    /// Each with the keyspaces of its time, and what they held.
    snapshots: Vec<(Snapshot, Vec<Keyspace>, State)>,
    /// All states since the start, the current one last.
    history: Vec<State>,
    /// History up to this index survives the end of the process.
    written: usize,
    /// History up to this index survives a power loss.
    durable: usize,
}

type Checked = Result<(), TestCaseError>;

macro_rules! fine {
    ($result:expr) => {
        match $result {
            Ok(value) => value,
            Err(error) => return Err(TestCaseError::fail(format!("{}: {error:?}", stringify!($result)))),
        }
    };
}

impl Subject {
    fn new(first_options: usize) -> Self {
        let fs = MemFs::new();
        let mut subject = Self {
            fs,
            first_options,
            openings: 0,
            tuning: option_sets().swap_remove(first_options),
            db: None,
            keyspaces: Vec::new(),
            snapshots: Vec::new(),
            history: vec![State::default()],
            written: 0,
            durable: 0,
        };
        subject.open().unwrap();
        subject
    }

    fn db(&self) -> &Db {
        self.db.as_ref().unwrap()
    }

    fn now(&self) -> &State {
        self.history.last().unwrap()
    }

    fn open(&mut self) -> Checked {
        let fs: Arc<dyn FileSystem> = Arc::new(self.fs.clone());
        let (db, keyspaces) = fine!(support::open(&fs, &self.tuning));
        (self.db, self.keyspaces) = (Some(db), keyspaces);
        Ok(())
    }

    /// Forgets the process, goes on with this disk; history up to `at_least` must be there.
    fn restart(&mut self, fs: MemFs, at_least: usize) -> Checked {
        let made = self.keyspaces.len();
        self.snapshots.clear();
        self.keyspaces.clear();
        self.db = None;
        self.fs = fs;
        // All options but kind and widths may be others at each opening.
        self.openings += 1;
        let mut options = option_sets();
        self.tuning = options.swap_remove((self.first_options + self.openings) % options.len());
        self.open()?;
        prop_assert!(self.keyspaces.len() >= made, "a keyspace that was made is gone");
        let found = fine!(support::dump(&self.keyspaces));
        let Some(survived) = self.history.iter().rposition(|state| *state == found) else {
            return Err(TestCaseError::fail(format!("no state of history: {found:?}")));
        };
        prop_assert!(survived >= at_least, "state {survived} survived, {at_least} was promised");
        self.history.truncate(survived + 1);
        (self.written, self.durable) = (survived, survived);
        self.check()
    }

    fn check(&self) -> Checked {
        let report = fine!(self.db().check());
        prop_assert!(report.is_clean(), "{:?}", report);
        Ok(())
    }

    fn is_durable(&mut self) {
        self.written = self.history.len() - 1;
        self.durable = self.written;
    }

    fn run(&mut self, step: &Step) -> Checked {
        match step {
            Step::Commit(ops, durability) => {
                let ops: Vec<Op> = ops.iter().map(|op| op.clone().within(self.keyspaces.len())).collect();
                let before = self.db().stats().visible;
                let last = fine!(support::commit(self.db(), &self.keyspaces, &ops, *durability));
                prop_assert!(last >= before);
                let mut state = self.now().clone();
                ops.iter().for_each(|op| op.apply_to(&mut state));
                self.history.push(state);
                // A batch of empty ranges asks for nothing, and gets nothing written.
                if last > before {
                    match durability {
                        Durability::Process => {}
                        Durability::System => self.written = self.history.len() - 1,
                        Durability::Synced => self.is_durable(),
                    }
                }
            }
            Step::MakeKeyspace => {
                let db = self.db().clone();
                fine!(support::make_keyspace(&db, &mut self.keyspaces));
            }
            Step::DropKeyspace(index) => {
                let (db, index) = (self.db().clone(), index % self.keyspaces.len());
                let gone = self.keyspaces[index].clone();
                fine!(support::drop_keyspace(&db, &mut self.keyspaces, index));
                let errors = [
                    gone.get("a").map(drop),
                    gone.delete_range::<&[u8]>(..).map(drop),
                    gone.iter().next().transpose().map(drop),
                    self.db().snapshot().get(&gone, "a").map(drop),
                    self.db().drop_keyspace(&gone),
                ];
                for error in errors {
                    prop_assert_eq!(error.unwrap_err().kind(), lsm::ErrorKind::Dropped);
                }
                let mut state = self.now().clone();
                state[index].clear();
                self.history.push(state);
                self.is_durable();
            }
            Step::Sync => {
                fine!(self.db().sync());
                self.is_durable();
            }
            Step::GetAll(keyspace) => self.get_all(keyspace % self.keyspaces.len())?,
            Step::Scan { keyspace, start, end, ends } => {
                let keyspace = keyspace % self.keyspaces.len();
                let scan = self.keyspaces[keyspace].range::<Vec<u8>>((start.clone(), end.clone()));
                self.scan(scan, &self.now()[keyspace], ends, |key| is_inside(key, start, end))?;
            }
            Step::Prefix(keyspace, prefix) => {
                let keyspace = keyspace % self.keyspaces.len();
                let scan = self.keyspaces[keyspace].prefix(prefix);
                self.scan(scan, &self.now()[keyspace], &[], |key| key.starts_with(prefix))?;
            }
            Step::TakeSnapshot => {
                let snapshot = (self.db().snapshot(), self.keyspaces.clone(), self.now().clone());
                self.snapshots.push(snapshot);
            }
            Step::ReadSnapshots => {
                for (snapshot, keyspaces, state) in &self.snapshots {
                    for (keyspace, map) in keyspaces.iter().zip(state) {
                        self.scan(snapshot.iter(keyspace), map, &[], |_| true)?;
                        let keys: Vec<_> = map.keys().collect();
                        let values = fine!(snapshot.multi_get(keyspace, &keys));
                        for ((key, value), found) in map.iter().zip(values) {
                            prop_assert_eq!(found.as_deref(), Some(&value[..]));
                            let found = fine!(snapshot.get(keyspace, key));
                            prop_assert_eq!(found.as_deref(), Some(&value[..]));
                        }
                    }
                }
            }
            Step::DropSnapshot => {
                if !self.snapshots.is_empty() {
                    self.snapshots.remove(0);
                }
            }
            Step::Flush => {
                fine!(self.db().flush());
                self.is_durable();
            }
            Step::Compact => {
                fine!(self.db().compact());
                self.is_durable();
                self.check()?;
            }
            Step::Background(steps) => {
                for _ in 0..*steps {
                    fine!(self.db().step());
                }
            }
            Step::Close => {
                self.keyspaces.clear();
                fine!(self.db.take().unwrap().close());
                self.fs.record_snapshots();
                let last = self.history.len() - 1;
                self.restart(self.fs.clone(), last)?;
                let report = self.db().recovery_report();
                prop_assert!(report.is_clean(), "{:?}", report);
                for snapshot in self.fs.take_snapshots() {
                    let call = snapshot.call;
                    prop_assert!(
                        call.what.ends_with("journal-recover"),
                        "opening after a clean close: {}",
                        call
                    );
                }
            }
            Step::Kill => self.restart(self.fs.snapshot(), self.written)?,
            Step::PowerLoss(policy, seed) => self.restart(self.fs.crash(*policy, *seed), self.durable)?,
        }
        Ok(())
    }

    fn get_all(&self, keyspace: usize) -> Checked {
        let mut keys: Vec<Vec<u8>> =
            self.history.iter().rev().take(20).flat_map(|state| state[keyspace].keys().cloned()).collect();
        keys.push(b"not there".to_vec());
        let values = fine!(self.keyspaces[keyspace].multi_get(&keys));
        for (key, value) in keys.iter().zip(values) {
            let expected = self.now()[keyspace].get(key).map(Vec::as_slice);
            prop_assert_eq!(value.as_deref(), expected, "multi_get of {:?}", key);
            let value = fine!(self.keyspaces[keyspace].get(key));
            prop_assert_eq!(value.as_deref(), expected, "get of {:?}", key);
        }
        Ok(())
    }

    /// Takes items at either end as `ends` says, some of them lent, then the rest forward.
    fn scan(
        &self,
        mut scan: lsm::Iter,
        map: &support::Map,
        ends: &[(bool, bool)],
        wanted: impl Fn(&[u8]) -> bool,
    ) -> Checked {
        let mut expected: std::collections::VecDeque<_> = map.iter().filter(|(key, _)| wanted(key)).collect();
        let rest = [(true, true), (true, false)].into_iter().cycle();
        for (front, lent) in ends.iter().copied().chain(rest) {
            let expected = if front { expected.pop_front() } else { expected.pop_back() };
            let expected = expected.map(|(key, value)| (&key[..], &value[..]));
            if lent {
                let found = fine!(if front { scan.step() } else { scan.step_back() });
                prop_assert_eq!(found, expected);
            } else {
                let found = fine!((if front { scan.next() } else { scan.next_back() }).transpose());
                prop_assert_eq!(found.as_ref().map(|(key, value)| (&key[..], &value[..])), expected);
            }
            if expected.is_none() {
                break;
            }
        }
        prop_assert!(fine!(scan.step()).is_none() && fine!(scan.step_back()).is_none());
        prop_assert!(scan.next().is_none() && scan.next_back().is_none());
        Ok(())
    }
}

fn option_sets() -> Vec<Tuning> {
    // A memtable's first node, or its first rows, are some hundred bytes: with these a generation has several commits, but where each is to be one.
    let mut plain = tiny(4000);
    plain.filter_bits_per_key = 0;
    (plain.compression, plain.shallow_compression) = (Compression::None, Compression::None);
    let mut every_commit = tiny(1);
    every_commit.frozen_max = 1;
    every_commit.table_bytes = 200;
    every_commit.block_bytes = 1;
    every_commit.restart_interval = 1;
    every_commit.dictionary_bytes = 3;
    let mut wide = tiny(8000);
    wide.level0_tables = 5;
    wide.level0_tables_slow = 9;
    wide.block_bytes = 4096;
    wide.table_bytes = 1 << 20;
    wide.dictionary_bytes = 20;
    wide.journal.pad_synced_bytes = 512;
    vec![Tuning::for_memory(1 << 20), plain, every_commit, wide]
}

fn cases() -> u32 {
    std::env::var("LSM_MODEL_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(64)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn the_engine_is_sorted_maps_with_a_history(steps in proptest::collection::vec(step(), 1..80)) {
        for first_options in 0..option_sets().len() {
            let mut subject = Subject::new(first_options);
            for (index, step) in steps.iter().enumerate() {
                subject.run(step).map_err(|error| {
                    TestCaseError::fail(format!("step {index} ({step:?}) with {:?}: {error}", subject.tuning))
                })?;
            }
            for keyspace in 0..subject.keyspaces.len() {
                subject.get_all(keyspace)?;
            }
            subject.check()?;
        }
    }
}
