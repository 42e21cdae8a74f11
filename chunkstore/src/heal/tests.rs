//! Healing: every damage, every fault, a crash at every call.

use std::collections::BTreeSet;

use parking_lot::Mutex;
use proptest::prelude::*;

use super::*;
use crate::catalog::Reference;
use crate::error::ErrorKind;
use crate::mirror::mirror;
use crate::monitor::Collector;
use crate::repository::Repository;
use crate::repository::complete::Complete;
use crate::repository::key::KeyRemoval;
use crate::repository::layout::ObjectKind;
use crate::target::fault::{Fault as Injected, FaultTarget, Rule};
use crate::target::mem::{MemTarget, Objects};
use crate::target::record::RecordTarget;
use crate::target::{Operation, Target};
use crate::verify::tests::{ACTIONS, Action, Full, KINDS, damage, run};
use crate::verify::{Fate, MemHoldings, Outcome, ReadData, VerifyOptions, verify};

#[test]
fn every_damage_of_every_kind_is_mended() {
    let full = Full::new(&["a", "b"]);
    let repository = full.open(1);
    // So that this client has seen the marks.
    run(&repository, ReadData::Nothing, false);
    for kind in KINDS {
        for name in full.names(kind) {
            for action in ACTIONS {
                for index in 0..2 {
                    let unimportant = action == Action::Delete
                        && (kind == ObjectKind::Intent || name == ObjectName::Pack(full.unnamed));
                    if unimportant {
                        continue;
                    }
                    damage(&full.world.targets[index], &name, action);
                    let (report, monitor) = run(&repository, ReadData::All, true);
                    let what = format!("{action:?} of {name} on {index}");
                    assert_eq!(report.outcome(), Outcome::Healed, "{what}: {:?}", report.findings);
                    assert!(monitor.faults().is_empty(), "{what}: {:?}", monitor.faults());
                    full.assert_whole(&what);
                }
            }
        }
    }
}

#[test]
fn swapped_objects_are_put_right() {
    let full = Full::new(&["a", "b"]);
    let repository = full.open(1);
    for kind in KINDS {
        let names = full.names(kind);
        let [first, second, ..] = names.as_slice() else { continue };
        full.world.targets[0].tamper(|objects| {
            let (one, two) = (objects[&first.key()].clone(), objects[&second.key()].clone());
            objects.insert(first.key(), two);
            objects.insert(second.key(), one);
        });
        let (report, _) = run(&repository, ReadData::All, true);
        assert_eq!(report.outcome(), Outcome::Healed, "{kind}: {:?}", report.findings);
        assert_eq!(report.healed(), 2, "{kind}");
        full.assert_whole(&format!("swapped {kind}"));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// Three targets, each damaged differently in objects of every kind, each object good somewhere.
    #[test]
    fn what_is_good_somewhere_is_good_everywhere_afterwards(
        choices in proptest::collection::vec((0usize..3, 0usize..ACTIONS.len(), 0usize..ACTIONS.len()), 40),
        open_at in 0usize..3,
        password in any::<bool>(),
    ) {
        let full = Full::new(&["a", "b", "c"]);
        run(&full.open(0), ReadData::Nothing, false);
        let mut choices = choices.into_iter().cycle();
        for key in full.good.keys() {
            let name = ObjectName::parse(key).unwrap();
            let (good_on, one, two) = choices.next().unwrap();
            let mut actions = [ACTIONS[one], ACTIONS[two]].into_iter();
            // What may be absent may be absent: it would not come back.
            let optional = name.kind() == ObjectKind::Intent || name == ObjectName::Pack(full.unnamed);
            for index in (0..3).filter(|index| *index != good_on) {
                match actions.next().unwrap() {
                    Action::Delete if optional => {}
                    action => damage(&full.world.targets[index], &name, action),
                }
            }
        }
        let monitor = Collector::default();
        let repository = if password {
            full.world.open(open_at, &monitor).unwrap()
        } else {
            let url = full.world.targets[open_at].url();
            Repository::open(url, &full.world.options, crate::repository::Unlock::Nothing, &monitor).unwrap()
        };
        let (report, monitor) = run(&repository, ReadData::All, true);
        prop_assert_eq!(report.outcome(), Outcome::Healed, "{:?}", report.findings);
        prop_assert!(monitor.faults().is_empty());
        full.assert_whole("all mended");
        prop_assert_eq!(run(&repository, ReadData::All, false).0.outcome(), Outcome::Clean);
    }
}

/// Damage on both targets, nothing bad on both: what the sweeps below heal.
fn damage_both(full: &Full) {
    full.reset();
    for (number, name) in KINDS.iter().flat_map(|kind| full.names(*kind)).enumerate() {
        let action = [Action::FlipMiddle, Action::Truncate, Action::FlipLast, Action::Empty][number % 4];
        damage(&full.world.targets[number / 4 % 2], &name, action);
    }
}

/// Every key that holds good bytes on some target.
fn good_somewhere(full: &Full) -> BTreeSet<String> {
    let good = |objects: Objects| {
        let same = |(key, bytes): &(crate::target::ObjectKey, std::sync::Arc<[u8]>)| {
            full.good.get(key) == Some(bytes)
        };
        objects.into_iter().filter(same).map(|(key, _)| key.to_string()).collect::<Vec<_>>()
    };
    full.world.targets.iter().flat_map(|target| good(target.objects())).collect()
}

#[test]
fn a_crash_at_every_call_loses_nothing_and_the_next_healing_goes_on() {
    let full = Full::new(&["a", "b"]);
    run(&full.open(0), ReadData::Nothing, false);
    for after in 0.. {
        damage_both(&full);
        // Both targets die at once: the machine that heals lost its power.
        let power = Power::cut_after(&full, after);
        let repository = full.open(0);
        power.arm();
        let before = good_somewhere(&full);
        let monitor = Collector::default();
        let options = VerifyOptions { data: ReadData::All, heal: true };
        let result =
            verify(&repository, &options, &MemHoldings::default(), &HealSources::default(), &monitor);
        let survived = power.survived();
        power.restore(&full);
        let kept = good_somewhere(&full);
        assert!(before.is_subset(&kept), "call {after}: {:?} lost", before.difference(&kept));
        let (report, _) = run(&full.open(0), ReadData::All, true);
        assert!(
            matches!(report.outcome(), Outcome::Healed | Outcome::Clean),
            "call {after}: {:?}",
            report.findings
        );
        full.assert_whole(&format!("call {after}"));
        if survived {
            assert_eq!(result.unwrap().outcome(), Outcome::Healed);
            break;
        }
    }
}

/// The power of the machine that heals: its calls to all targets are counted together.
struct Power {
    calls_left: std::sync::Arc<Mutex<Option<u64>>>,
    after: u64,
}

#[derive(Debug)]
struct Powered {
    inner: std::sync::Arc<MemTarget>,
    calls_left: std::sync::Arc<Mutex<Option<u64>>>,
}

impl Power {
    fn cut_after(full: &Full, after: u64) -> Self {
        let calls_left = std::sync::Arc::new(Mutex::new(None));
        for target in &full.world.targets {
            let powered = Powered { inner: target.clone(), calls_left: calls_left.clone() };
            full.world.connect.insert(std::sync::Arc::new(powered));
        }
        Self { calls_left, after }
    }

    fn arm(&self) {
        *self.calls_left.lock() = Some(self.after);
    }

    fn survived(&self) -> bool {
        *self.calls_left.lock() != Some(0)
    }

    fn restore(&self, full: &Full) {
        for target in &full.world.targets {
            full.world.connect.insert(target.clone());
        }
    }
}

impl Powered {
    fn call<T>(&self, call: impl FnOnce(&MemTarget) -> crate::Result<T>) -> crate::Result<T> {
        match &mut *self.calls_left.lock() {
            Some(0) => return Err(crate::Error::new(ErrorKind::Target, "the power is gone")),
            Some(left) => *left -= 1,
            None => {}
        }
        call(&self.inner)
    }
}

impl Target for Powered {
    fn url(&self) -> &str {
        self.inner.url()
    }
    fn put(&self, key: &crate::target::ObjectKey, parts: &[&[u8]]) -> crate::Result<()> {
        self.call(|inner| inner.put(key, parts))
    }
    fn put_new(&self, key: &crate::target::ObjectKey, parts: &[&[u8]]) -> crate::Result<()> {
        self.call(|inner| inner.put_new(key, parts))
    }
    fn get(&self, key: &crate::target::ObjectKey) -> crate::Result<Vec<u8>> {
        self.call(|inner| inner.get(key))
    }
    fn get_range(
        &self,
        key: &crate::target::ObjectKey,
        offset: u64,
        length: usize,
    ) -> crate::Result<Vec<u8>> {
        self.call(|inner| inner.get_range(key, offset, length))
    }
    fn length(&self, key: &crate::target::ObjectKey) -> crate::Result<Option<u64>> {
        self.call(|inner| inner.length(key))
    }
    fn list(&self, prefix: &str) -> crate::Result<Vec<crate::target::ObjectInfo>> {
        self.call(|inner| inner.list(prefix))
    }
    fn delete(&self, key: &crate::target::ObjectKey) -> crate::Result<()> {
        self.call(|inner| inner.delete(key))
    }
    fn set_aside(&self, key: &crate::target::ObjectKey) -> crate::Result<crate::target::ObjectKey> {
        self.call(|inner| inner.set_aside(key))
    }
}

#[test]
fn every_fault_at_every_call_is_survived() {
    let full = Full::new(&["a", "b"]);
    run(&full.open(0), ReadData::Nothing, false);
    let faults = [
        Injected::Fail(ErrorKind::Target),
        Injected::Fail(ErrorKind::TargetFull),
        Injected::LostAnswer,
        Injected::FlipBit(77),
        Injected::Truncate(5),
    ];
    for fault in faults {
        for after in 0.. {
            damage_both(&full);
            let faulty = FaultTarget::new(full.world.targets[1].clone());
            full.world.connect.insert(faulty.clone());
            let repository = full.open(0);
            faulty.clear();
            faulty.add(Rule { fault, ..Rule::fails_once_after(after) });
            let before = good_somewhere(&full);
            let (report, _) = run(&repository, ReadData::All, true);
            let hits = faulty.hits();
            let kept = good_somewhere(&full);
            assert!(before.is_subset(&kept), "{fault:?} at {after}: {:?} lost", before.difference(&kept));
            full.world.connect.insert(full.world.targets[1].clone());
            run(&full.open(0), ReadData::All, true);
            full.assert_whole(&format!("{fault:?} at {after}"));
            if hits == 0 {
                assert_eq!(report.outcome(), Outcome::Healed);
                break;
            }
        }
    }
}

#[test]
fn a_full_target_keeps_what_it_has() {
    let full = Full::new(&["a", "b"]);
    let pack = ObjectName::Pack(full.packs[0].0);
    damage(&full.world.targets[1], &pack, Action::FlipMiddle);
    let faulty = FaultTarget::new(full.world.targets[1].clone());
    full.world.connect.insert(faulty.clone());
    let repository = full.open(0);
    faulty.add(Rule::always(Operation::PutNew, "packs", Injected::Fail(ErrorKind::TargetFull)));
    let (report, monitor) = run(&repository, ReadData::All, true);
    assert!(matches!(&report.findings[0].fate, Fate::Failed(error) if error.kind() == ErrorKind::TargetFull));
    assert_eq!(report.outcome(), Outcome::Damaged);
    assert_eq!(monitor.faults().len(), 1);
    assert!(full.world.targets[1].objects().keys().any(|key| key.as_str().starts_with("aside/packs_")));
    faulty.clear();
    assert_eq!(run(&repository, ReadData::All, true).0.outcome(), Outcome::Healed);
    full.assert_whole("when there is room again");
}

#[test]
fn two_damaged_copies_make_one_good() {
    let full = Full::new(&["a", "b"]);
    let repository = full.open(0);
    for name in [ObjectName::Pack(full.packs[0].0), full.names(ObjectKind::Segment)[0]] {
        if full.good[&name.key()].len() < 8192 {
            continue;
        }
        for (target, offset) in full.world.targets.iter().zip([10, 9000]) {
            target.tamper(|objects| {
                let mut bytes = objects[&name.key()].to_vec();
                bytes[offset] ^= 1;
                objects.insert(name.key(), bytes.into());
            });
        }
        let (report, _) = run(&repository, ReadData::All, true);
        assert_eq!(report.outcome(), Outcome::Healed);
        assert_eq!(report.healed(), 2);
        full.assert_whole("joined");
    }
}

#[test]
fn a_read_that_went_wrong_once_replaces_nothing() {
    let full = Full::new(&["a"]);
    let faulty = FaultTarget::new(full.world.targets[0].clone());
    full.world.connect.insert(faulty.clone());
    let repository = full.open(0);
    let pack = ObjectName::Pack(full.packs[0].0);
    let flip = Rule::always(Operation::Get, pack.key().as_str(), Injected::FlipBit(9));
    faulty.add(Rule { sticky: false, ..flip });
    let recorded = RecordTarget::new(faulty);
    full.world.connect.insert(recorded.clone());
    let repository = {
        drop(repository);
        full.open(0)
    };
    recorded.take_calls();
    let (report, _) = run(&repository, ReadData::All, true);
    assert_eq!(report.outcome(), Outcome::Healed);
    assert_eq!(
        recorded.count(Operation::SetAside)
            + recorded.count(Operation::PutNew)
            + recorded.count(Operation::Delete),
        0
    );
    full.assert_whole("nothing was touched");
}

#[test]
fn a_read_that_went_wrong_once_replaces_nothing_where_a_sister_is_good() {
    let full = Full::new(&["a", "b"]);
    let faulty = FaultTarget::new(full.world.targets[1].clone());
    let recorded = RecordTarget::new(faulty.clone());
    full.world.connect.insert(recorded.clone());
    let repository = full.open(0);
    let pack = ObjectName::Pack(full.packs[0].0);
    let flip = Rule::always(Operation::Get, pack.key().as_str(), Injected::FlipBit(9));
    faulty.add(Rule { sticky: false, ..flip });
    recorded.take_calls();
    let (report, _) = run(&repository, ReadData::All, true);
    assert_eq!((faulty.hits(), report.outcome()), (1, Outcome::Healed));
    assert_eq!(recorded.count(Operation::SetAside), 0, "it is good: nothing takes its place");
    full.assert_whole("nothing was touched");
}

/// Somebody who can write to one target and has no key says that packs have other lengths than they have.
#[test]
fn a_segment_that_an_outsider_made_up_makes_no_good_object_bad() {
    let full = Full::new(&["a", "b"]);
    let others = crate::segment::SegmentKeys::new(&crate::testing::other_secrets());
    let packs: Vec<_> = full
        .packs
        .iter()
        .map(|(name, _)| crate::segment::PackContents {
            name: *name,
            stored_bytes: 77,
            toc: crate::pack::Toc::default(),
        })
        .collect();
    let forged = crate::segment::NewSegment {
        cipher: full.open(0).config().mode.cipher(),
        epoch: crate::secret::Epoch::FIRST,
        writer: crate::id::WriterId::from_bytes([0x01; 16]),
        sequence: crate::segment::Sequence(1),
        predecessor: ObjectHash::from_bytes([0; 32]),
        intent: crate::id::IntentId::from_bytes([1; 16]),
        flags: crate::segment::PieceFlags { begins: true, commits: false },
        salt: [9; 32],
    };
    let forged = forged.encode(&others, &packs, &[], &[]).unwrap();
    full.world.targets[1].put(&forged.name.key(), &[&forged.bytes]).unwrap();
    let recorded: Vec<_> =
        full.world.targets.iter().map(|target| RecordTarget::new(target.clone())).collect();
    for recorded in &recorded {
        full.world.connect.insert(recorded.clone());
    }
    let repository = full.open(0);
    for heal in [false, true] {
        let (report, _) = run(&repository, ReadData::Nothing, heal);
        assert!(report.findings.is_empty(), "{:?}", report.findings);
    }
    assert_eq!(recorded.iter().map(|target| target.count(Operation::SetAside)).sum::<usize>(), 0);
}

#[test]
fn removed_keys_stay_removed() {
    for by_mirror in [false, true] {
        let full = Full::new(&["a", "b", "c"]);
        let monitor = Collector::default();
        let away = full.world.targets[2].clone();
        full.world.connect.remove("mem:c");
        let repository = full.world.open_with(0, b"second", &monitor).unwrap();
        let first = repository.keys(&monitor).unwrap().into_iter().find(|key| !key.current).unwrap().name;
        repository.remove_key(&first, &monitor).unwrap();
        full.world.connect.insert(away.clone());
        assert!(away.objects().contains_key(&ObjectName::Key(first).key()));
        // Without the password nobody can know whether the record is true: nothing is deleted, nothing brought back.
        let locked =
            Repository::open("mem:a", &full.world.options, crate::repository::Unlock::Nothing, &monitor)
                .unwrap();
        mirror(&locked, &MemHoldings::default(), None, &monitor).unwrap();
        assert!(away.objects().contains_key(&ObjectName::Key(first).key()));
        assert!(!full.world.targets[0].objects().contains_key(&ObjectName::Key(first).key()));
        let repository = full.world.open_with(0, b"second", &monitor).unwrap();
        if by_mirror {
            let report = mirror(&repository, &MemHoldings::default(), None, &monitor).unwrap();
            assert_eq!(report.outcome(), Outcome::Clean);
        } else {
            assert_eq!(run(&repository, ReadData::Nothing, true).0.outcome(), Outcome::Healed);
        }
        let expected = full.world.targets[0].objects();
        for target in &full.world.targets {
            assert_eq!(target.objects(), expected);
            assert!(!target.objects().contains_key(&ObjectName::Key(first).key()));
            assert!(target.objects().contains_key(&ObjectName::KeyRemoval(first).key()));
        }
    }
}

#[test]
fn a_mirror_brings_everything_in_order_and_once() {
    let full = Full::new(&["a"]);
    let empty = MemTarget::new("b");
    let recorded = RecordTarget::new(empty.clone());
    full.world.connect.insert(recorded.clone());
    let monitor = Collector::default();
    let mut repository = full.open(0);
    repository.add_target("mem:b", &monitor).unwrap();
    recorded.take_calls();
    let report = mirror(&repository, &MemHoldings::default(), None, &monitor).unwrap();
    assert_eq!(report.outcome(), Outcome::Clean);
    assert_eq!(report.bytes, recorded.bytes_put());
    let kinds: Vec<_> = recorded
        .take_calls()
        .iter()
        .filter(|call| call.operation == Operation::PutNew)
        .filter_map(|call| ObjectName::parse(&crate::target::ObjectKey::new(call.key.clone()).unwrap()))
        .map(|name| name.kind())
        .collect();
    assert!(kinds.is_sorted_by_key(|kind| *kind as u8), "{kinds:?}");
    let mut expected = full.good.clone();
    expected.retain(|key, _| {
        !key.as_str().starts_with("intents/") && *key != ObjectName::Pack(full.unnamed).key()
    });
    assert_eq!(empty.objects(), expected, "all but intents and what nothing names");
    let again = mirror(&repository, &MemHoldings::default(), None, &monitor).unwrap();
    assert_eq!((again.objects, recorded.bytes_put()), (0, 0));
}

/// Whoever reads a mark may believe it, at every moment.
fn assert_marks_are_true(full: &Full, target: &MemTarget) {
    let objects = target.objects();
    for key in objects.keys() {
        let Some(ObjectName::Complete { writer, .. }) = ObjectName::parse(key) else { continue };
        let mark = Complete::decode(&objects[key]).unwrap();
        for good in full.good.keys() {
            let covered = match ObjectName::parse(good) {
                Some(ObjectName::Segment { writer: owner, sequence, .. }) => {
                    owner == writer && sequence <= mark.sequence
                }
                _ => false,
            };
            assert!(!covered || objects.contains_key(good), "{key} without {good}");
        }
        let packs = if writer == crate::verify::tests::WRITER { 0..3 } else { 3..4 };
        for (pack, _) in &full.packs[packs] {
            assert!(
                mark.sequence < 2 && *pack == full.packs[2].0
                    || objects.contains_key(&ObjectName::Pack(*pack).key())
            );
        }
    }
}

#[test]
fn a_mirror_that_dies_leaves_only_true_marks() {
    let full = Full::new(&["a"]);
    let mut expected = full.good.clone();
    expected.retain(|key, _| {
        !key.as_str().starts_with("intents/") && *key != ObjectName::Pack(full.unnamed).key()
    });
    for fault in
        [Injected::Fail(ErrorKind::Target), Injected::LostAnswer, Injected::Fail(ErrorKind::TargetFull)]
    {
        for sticky in [false, true] {
            for after in 0.. {
                let empty = MemTarget::new("b");
                let faulty = FaultTarget::new(empty.clone());
                full.world.connect.insert(faulty.clone());
                let monitor = Collector::default();
                let mut repository = full.open(0);
                if repository.targets().len() == 1 {
                    repository.add_target("mem:b", &monitor).unwrap();
                } else {
                    // Listed by an earlier round: an empty place is not believed until it is added again.
                    repository.remove_target("mem:b").unwrap();
                    repository.add_target("mem:b", &monitor).unwrap();
                }
                faulty.clear();
                faulty.add(Rule { fault, sticky, ..Rule::fails_once_after(after) });
                let result = mirror(&repository, &MemHoldings::default(), None, &monitor);
                let hits = faulty.hits();
                assert_marks_are_true(&full, &empty);
                faulty.clear();
                let repository = full.open(0);
                let report = mirror(&repository, &MemHoldings::default(), None, &monitor).unwrap();
                assert_eq!(report.outcome(), Outcome::Clean, "{fault:?} at {after}: {:?}", report.findings);
                assert_eq!(empty.objects(), expected);
                if hits == 0 {
                    result.unwrap();
                    break;
                }
            }
        }
    }
}

#[test]
fn a_mark_that_was_there_once_does_not_come_back_before_what_it_speaks_of() {
    for heal in [false, true] {
        let full = Full::new(&["a", "b"]);
        // So that this client has seen the marks.
        run(&full.open(0), ReadData::Nothing, false);
        // An older copy takes the place of one target, and is full.
        let lost = full.world.targets[1].clone();
        lost.tamper(|objects| {
            objects.retain(|key, _| key.as_str() == "config" || key.as_str().starts_with("keys/"));
        });
        let faulty = FaultTarget::new(lost.clone());
        faulty.add(Rule::always(Operation::PutNew, "packs", Injected::Fail(ErrorKind::TargetFull)));
        full.world.connect.insert(faulty.clone());
        let repository = full.open(0);
        let monitor = Collector::default();
        if heal {
            run(&repository, ReadData::All, true);
        } else {
            mirror(&repository, &MemHoldings::default(), None, &monitor).unwrap();
        }
        assert_marks_are_true(&full, &lost);
        faulty.clear();
        let repository = full.open(0);
        assert_eq!(run(&repository, ReadData::All, true).0.outcome(), Outcome::Healed);
        assert_eq!(lost.objects().keys().filter(|key| key.as_str().starts_with("complete/")).count(), 3);
    }
}

#[test]
fn a_damaged_source_does_not_spread() {
    let full = Full::new(&["a"]);
    let empty = MemTarget::new("b");
    full.world.connect.insert(empty.clone());
    let monitor = Collector::default();
    let mut repository = full.open(0);
    repository.add_target("mem:b", &monitor).unwrap();
    let pack = ObjectName::Pack(full.packs[1].0);
    damage(&full.world.targets[0], &pack, Action::FlipMiddle);
    let report = mirror(&repository, &MemHoldings::default(), None, &monitor).unwrap();
    assert_eq!(report.outcome(), Outcome::Damaged);
    assert!(!empty.objects().contains_key(&pack.key()));
    assert_marks_are_true(&full, &empty);
}

/// The catalog's part, as a table.
#[derive(Default)]
struct Table {
    packs: Vec<(ObjectHash, Vec<ChunkId>)>,
    stored: Mutex<BTreeSet<ChunkId>>,
}

impl Meaning for Table {
    fn chunks_of(&self, pack: &ObjectHash) -> Result<Option<Vec<ChunkId>>> {
        Ok(self.packs.iter().find(|(name, _)| name == pack).map(|(_, chunks)| chunks.clone()))
    }

    fn is_elsewhere(&self, chunks: &[ChunkId], _lost: &HashSet<ObjectHash>) -> Result<Vec<bool>> {
        Ok(chunks.iter().map(|chunk| self.stored.lock().contains(chunk)).collect())
    }

    fn references(
        &self,
        _chunks: &HashSet<ChunkId>,
        _visit: &mut dyn FnMut(Reference) -> Result<()>,
    ) -> Result<()> {
        Ok(())
    }
}

impl Rescue for Table {
    fn store(&self, chunks: Vec<RescuedChunk>, _monitor: &dyn Monitor) -> Result<()> {
        self.stored.lock().extend(chunks.into_iter().map(|chunk| chunk.id));
        Ok(())
    }
}

#[test]
fn what_is_left_of_a_lost_pack_is_rescued_and_the_rest_is_named() {
    let full = Full::new(&["a", "b"]);
    let repository = full.open(0);
    let (pack, chunks) = &full.packs[1];
    let name = ObjectName::Pack(*pack);
    // Both copies are bad at the same place, in the second of three frames; a copy may be cut as well.
    for target in &full.world.targets {
        target.tamper(|objects| {
            let mut bytes = objects[&name.key()].to_vec();
            bytes[112 + 9000] ^= 1;
            objects.insert(name.key(), bytes.into());
        });
    }
    let table = Table { packs: full.packs.clone(), ..Table::default() };
    let sources = HealSources { meaning: Some(&table), rescue: Some(&table), ..HealSources::default() };
    let heal = |data| {
        let monitor = Collector::default();
        let options = VerifyOptions { data, heal: true };
        verify(&repository, &options, &MemHoldings::default(), &sources, &monitor).unwrap()
    };
    let report = heal(ReadData::All);
    assert_eq!(report.outcome(), Outcome::Damaged);
    let [loss] = report.losses.as_slice() else { panic!("{:?}", report.losses) };
    assert_eq!((loss.name, loss.rescued), (name, 4));
    assert_eq!(loss.chunks.as_deref(), Some(&chunks[2..4]), "the chunks of the second frame");
    assert_eq!(table.stored.lock().len(), 4);
    let again = heal(ReadData::All);
    assert_eq!(again.losses[0].rescued, 0, "what is elsewhere is not rescued twice");
    // The next backup has met the bytes again: now nothing is lost, though the pack stays bad.
    table.stored.lock().extend(&chunks[2..4]);
    let settled = heal(ReadData::All);
    assert!(settled.losses.is_empty());
    assert!(settled.findings.iter().all(|finding| matches!(finding.fate, Fate::NotNeeded)));
    assert_ne!(settled.outcome(), Outcome::Damaged);
}

#[test]
fn a_pack_that_is_gone_everywhere_is_named_with_all_its_chunks() {
    let full = Full::new(&["a", "b"]);
    let repository = full.open(0);
    let (pack, chunks) = &full.packs[3];
    for target in &full.world.targets {
        target.delete(&ObjectName::Pack(*pack).key()).unwrap();
    }
    let table = Table { packs: full.packs.clone(), ..Table::default() };
    let sources = HealSources { meaning: Some(&table), rescue: Some(&table), ..HealSources::default() };
    for heal in [false, true] {
        let monitor = Collector::default();
        let options = VerifyOptions { data: ReadData::Nothing, heal };
        let report = verify(&repository, &options, &MemHoldings::default(), &sources, &monitor).unwrap();
        assert_eq!(report.losses.len(), 1);
        assert_eq!(report.losses[0].chunks.as_ref(), Some(chunks));
    }
}

#[test]
fn this_machines_own_copy_heals() {
    let full = Full::new(&["a", "b"]);
    let repository = full.open(0);
    let segment = full.names(ObjectKind::Segment)[0];
    for target in &full.world.targets {
        target.delete(&segment.key()).unwrap();
    }
    let local = |name: &ObjectName| Ok((*name == segment).then(|| full.good[&segment.key()].to_vec()));
    let sources = HealSources { local: Some(&local), ..HealSources::default() };
    let monitor = Collector::default();
    let options = VerifyOptions { data: ReadData::Nothing, heal: true };
    let report = verify(&repository, &options, &MemHoldings::default(), &sources, &monitor).unwrap();
    assert_eq!(report.outcome(), Outcome::Healed);
    full.assert_whole("from the outbox");
}

#[test]
fn a_good_copy_that_was_set_aside_comes_back() {
    let full = Full::new(&["a"]);
    let repository = full.open(0);
    let pack = ObjectName::Pack(full.packs[0].0);
    full.world.targets[0].set_aside(&pack.key()).unwrap();
    let (report, _) = run(&repository, ReadData::Nothing, true);
    assert_eq!(report.outcome(), Outcome::Healed);
    full.assert_whole("it was there all the time");
}

#[test]
fn names_of_what_was_set_aside_are_read_back() {
    let full = Full::new(&["a"]);
    for key in full.good.keys() {
        for number in [0, 1, 4_000_000_000] {
            assert_eq!(ObjectName::parse_aside(&key.aside(number).unwrap()), ObjectName::parse(key));
        }
    }
}

#[test]
fn directories_heal_whatever_stands_in_an_objects_place() {
    let full = Full::new(&["a"]);
    let dir = tempfile::tempdir().unwrap();
    let monitor = Collector::default();
    let mut repository = full.open(0);
    let paths = [dir.path().join("one"), dir.path().join("two")];
    for path in &paths {
        let target = crate::target::local::LocalTarget::create(path).unwrap();
        full.world.connect.insert(std::sync::Arc::new(target));
        repository.add_target(path.to_str().unwrap(), &monitor).unwrap();
    }
    mirror(&repository, &MemHoldings::default(), None, &monitor).unwrap();
    repository.remove_target("mem:a").unwrap();
    let listing = |path: &std::path::Path| {
        let target = crate::target::local::LocalTarget::open(path).unwrap();
        let objects = target.list("").unwrap();
        objects.into_iter().map(|object| (target.get(&object.key).unwrap(), object.key)).collect::<Vec<_>>()
    };
    let expected = listing(&paths[0]);
    assert!(expected.len() > 10);
    for (number, (bytes, key)) in expected.iter().enumerate() {
        let path = paths[number / 7 % 2].join(key.as_str());
        std::fs::remove_file(&path).unwrap();
        match number % 7 {
            0 => {}
            1 => std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap(),
            2 => std::fs::write(&path, b"").unwrap(),
            3 => std::os::unix::fs::symlink("/etc/passwd", &path).unwrap(),
            4 => {
                std::fs::create_dir(&path).unwrap();
                std::fs::write(path.join("x"), b"").unwrap();
            }
            5 => {
                let mode = rustix::fs::Mode::RUSR;
                rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
            }
            _ => std::fs::write(&path, vec![b'x'; bytes.len()]).unwrap(),
        }
    }
    let (report, monitor) = run(&repository, ReadData::All, true);
    assert_eq!(report.outcome(), Outcome::Healed, "{:?}", report.findings);
    assert!(monitor.faults().is_empty(), "{:?}", monitor.faults());
    for path in &paths {
        let mut found = listing(path);
        // A folder with something in it is nothing that we made: it stays aside.
        found.retain(|(_, key)| !key.as_str().starts_with("aside/") || !key.as_str().ends_with("/x"));
        assert!(found == expected, "{}", path.display());
        assert_eq!(std::fs::read_dir(path.join(".tmp")).unwrap().count(), 0);
    }
}

#[test]
fn a_forged_removal_goes_and_its_key_stays() {
    let full = Full::new(&["a", "b"]);
    let repository = full.open(0);
    let key = repository.opened_by().unwrap();
    let stranger = crate::secret::Secrets::generate().unwrap();
    let name = ObjectName::KeyRemoval(key);
    let forged = KeyRemoval::encode(&stranger, repository.id(), &key, crate::repository::now());
    full.world.targets[0].put(&name.key(), &[&forged]).unwrap();
    let (report, _) = run(&repository, ReadData::All, false);
    assert_eq!(report.findings.iter().map(|finding| finding.name).collect::<Vec<_>>(), [name]);
    let (report, _) = run(&repository, ReadData::All, true);
    assert_eq!(report.outcome(), Outcome::Healed, "{:?}", report.findings);
    full.assert_whole("without the forgery");
    // One that is damaged instead is not made good: who damaged it may not decide that the key goes.
    full.world.targets[0].put(&name.key(), &[&forged[..forged.len() / 2]]).unwrap();
    let (report, _) = run(&repository, ReadData::All, true);
    assert_eq!(report.outcome(), Outcome::Damaged);
    assert!(full.world.open(0, &Collector::default()).is_ok());
}

#[test]
fn what_an_init_that_was_cut_short_left_is_nobodys() {
    let full = Full::new(&["a", "b"]);
    let other = Full::new(&["x"]);
    let stranger = other.names(ObjectKind::Key)[0];
    full.world.targets[0].put(&stranger.key(), &[&other.good[&stranger.key()]]).unwrap();
    let (report, monitor) = run(&full.open(0), ReadData::All, true);
    assert_eq!(report.outcome(), Outcome::Clean, "{:?}", report.findings);
    assert!(monitor.faults().is_empty());
    assert!(!full.world.targets[1].objects().contains_key(&stranger.key()));
}
