//! A repository with objects of every kind on several targets, and what verification says of damage to each.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::*;
use crate::chunk::Hasher;
use crate::entry_key::EntryKey;
use crate::frame::{Builder, Compressor};
use crate::id::{ChunkId, IntentId, ObjectHash, WriterId};
use crate::monitor::Collector;
use crate::pack;
use crate::repository::complete::Complete;
use crate::repository::intent::Intent;
use crate::repository::key::PasswordCost;
use crate::repository::layout::ObjectKind;
use crate::repository::tests::{PASSWORD, World};
use crate::segment::{NewSegment, PackContents, PieceFlags, RecordWriter, SegmentKeys, Sequence};
use crate::target::Operation;
use crate::target::Target;
use crate::target::fault::{Fault as Injected, FaultTarget, Rule};
use crate::target::mem::{MemTarget, Objects};

pub(crate) const WRITER: WriterId = WriterId::from_bytes([0x31; 16]);
pub(crate) const OTHER_WRITER: WriterId = WriterId::from_bytes([0x32; 16]);

/// A repository with two keys, a removed one, five packs, four segments of two writers, marks and an intent: the same on all targets.
pub(crate) struct Full {
    pub(crate) world: World,
    pub(crate) good: Objects,
    pub(crate) packs: Vec<(ObjectHash, Vec<ChunkId>)>,
    pub(crate) unnamed: ObjectHash,
}

impl Full {
    pub(crate) fn new(names: &[&str]) -> Self {
        let world = World::new(names);
        let made = world.init(PASSWORD).unwrap();
        let monitor = Collector::default();
        made.add_key(b"second", "you@there", PasswordCost::LEAST, &monitor).unwrap();
        let third = made.add_key(b"third", "gone@there", PasswordCost::LEAST, &monitor).unwrap();
        made.remove_key(&third, &monitor).unwrap();
        let target = Arc::clone(&world.targets[0]);
        let mut packs = Vec::new();
        let mut contents = Vec::new();
        for number in 0..5u8 {
            let pack = make_pack(&made, number);
            let ids =
                pack.toc.frames.iter().flat_map(|frame| frame.chunks.iter().map(|chunk| chunk.id)).collect();
            target.put(&ObjectName::Pack(pack.name).key(), &[&pack.bytes]).unwrap();
            packs.push((pack.name, ids));
            contents.push(PackContents {
                name: pack.name,
                stored_bytes: pack.bytes.len() as u64,
                toc: pack.toc,
            });
        }
        let keys = SegmentKeys::new(made.secrets().unwrap());
        let mut previous = None;
        for (writer, sequence, named) in
            [(WRITER, 1, 0..2), (WRITER, 2, 2..3), (WRITER, 3, 0..0), (OTHER_WRITER, 1, 3..4)]
        {
            previous = if sequence == 1 { None } else { previous };
            let segment = NewSegment {
                cipher: made.config().mode.cipher(),
                epoch: made.config().epoch,
                writer,
                sequence: Sequence(sequence),
                predecessor: previous.unwrap_or(ObjectHash::from_bytes([0; 32])),
                intent: IntentId::from_bytes([1; 16]),
                flags: PieceFlags { begins: true, commits: false },
                salt: NewSegment::fresh_salt().unwrap(),
            };
            let mut records = RecordWriter::new();
            records.gone(&EntryKey::root());
            let segment = segment.encode(&keys, &contents[named], &[], &records.take()).unwrap();
            let hash = segment.name.hash;
            target.put(&segment.name.key(), &[&segment.bytes]).unwrap();
            if sequence != 1 || writer == OTHER_WRITER {
                Complete { writer, sequence, segment: hash }.put(&*target).unwrap();
            }
            previous = Some(hash);
        }
        for id in [[8; 16], [9; 16]] {
            let intent = Intent { id: IntentId::from_bytes(id), ..Intent::new(WRITER, "here").unwrap() };
            intent.put(&*target).unwrap();
        }
        let good = target.objects();
        for target in &world.targets {
            target.set_objects(good.clone());
        }
        let (unnamed, _) = packs.pop().unwrap();
        Self { world, good, packs, unnamed }
    }

    pub(crate) fn open(&self, index: usize) -> Repository {
        self.world.open(index, &Collector::default()).unwrap()
    }

    pub(crate) fn names(&self, kind: ObjectKind) -> Vec<ObjectName> {
        let names = self.good.keys().filter_map(ObjectName::parse);
        names.filter(|name| name.kind() == kind).collect()
    }

    pub(crate) fn reset(&self) {
        for target in &self.world.targets {
            target.set_objects(self.good.clone());
        }
    }

    pub(crate) fn assert_whole(&self, what: &str) {
        for target in &self.world.targets {
            let objects = target.objects();
            let names = |objects: &Objects| objects.keys().cloned().collect::<Vec<_>>();
            assert_eq!(names(&objects), names(&self.good), "{what}: {}", target.url());
            for (key, bytes) in &objects {
                let same = *bytes == self.good[key];
                // A record that is made again carries another time; an intent that is lost everywhere, less.
                let remade =
                    matches!(ObjectName::parse(key), Some(ObjectName::KeyRemoval(_) | ObjectName::Intent(_)));
                assert!(same || remade, "{what}: {}/{key}", target.url());
            }
        }
    }
}

fn make_pack(repository: &Repository, number: u8) -> pack::FinishedPack {
    let secrets = repository.secrets().unwrap();
    let config = repository.config();
    let intent = IntentId::from_bytes([number; 16]);
    let mut writer =
        pack::Writer::new(secrets, config.epoch, config.mode.cipher(), intent, Vec::new()).unwrap();
    let (hasher, mut compressor) = (Hasher::new(secrets), Compressor::new());
    for frame in 0..3u8 {
        let mut builder = Builder::new(1 << 20);
        for chunk in 0..2u8 {
            // Does not compress, so that a frame is longer than a block of splicing.
            let mut bytes = vec![0; 3000];
            blake3::Hasher::new().update(&[number, frame, chunk]).finalize_xof().fill(&mut bytes);
            builder.add(hasher.id(&bytes), &bytes);
        }
        let raw = builder.take().unwrap();
        writer.add(&compressor.compress(raw, 3).unwrap()).unwrap();
    }
    writer.finish()
}

/// What is done to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Delete,
    Truncate,
    Empty,
    FlipFirst,
    FlipMiddle,
    FlipLast,
    Longer,
    Other,
    Huge,
}

pub(crate) const ACTIONS: [Action; 9] = [
    Action::Delete,
    Action::Truncate,
    Action::Empty,
    Action::FlipFirst,
    Action::FlipMiddle,
    Action::FlipLast,
    Action::Longer,
    Action::Other,
    Action::Huge,
];

pub(crate) fn damage(target: &MemTarget, name: &ObjectName, action: Action) {
    target.tamper(|objects| {
        let key = name.key();
        let Some(bytes) = objects.remove(&key) else { return };
        let mut bytes = bytes.to_vec();
        let length = bytes.len();
        match action {
            Action::Delete => return,
            Action::Truncate => bytes.truncate(length / 2),
            Action::Empty => bytes.clear(),
            Action::FlipFirst => bytes[0] ^= 1,
            Action::FlipMiddle => bytes[length / 2] ^= 0x80,
            Action::FlipLast => bytes[length - 1] ^= 1,
            Action::Longer => bytes.push(0),
            Action::Other => bytes.fill(b'x'),
            Action::Huge => bytes.resize(2 << 20, 0),
        }
        objects.insert(key, bytes.into());
    });
}

pub(crate) fn run(repository: &Repository, data: ReadData, heal: bool) -> (VerifyReport, Collector) {
    let monitor = Collector::default();
    let options = VerifyOptions { data, heal };
    let report =
        verify(repository, &options, &MemHoldings::default(), &HealSources::default(), &monitor).unwrap();
    (report, monitor)
}

pub(crate) const KINDS: [ObjectKind; 7] = [
    ObjectKind::Config,
    ObjectKind::Key,
    ObjectKind::KeyRemoval,
    ObjectKind::Pack,
    ObjectKind::Segment,
    ObjectKind::Complete,
    ObjectKind::Intent,
];

#[test]
fn what_is_whole_is_found_so() {
    let full = Full::new(&["a", "b"]);
    for data in
        [ReadData::Nothing, ReadData::All, ReadData::Share(50_000), ReadData::Part { part: 1, count: 3 }]
    {
        for heal in [false, true] {
            let (report, monitor) = run(&full.open(0), data, heal);
            assert_eq!(report.outcome(), Outcome::Clean, "{:?}", report.findings);
            assert!(monitor.faults().is_empty());
            assert_eq!(report.targets[0].objects, full.good.len() as u64);
            assert_eq!(report.targets[0].packs_unnamed, 1);
        }
    }
    full.assert_whole("verification alone");
    let (report, _) = run(&full.open(0), ReadData::All, false);
    assert_eq!(report.targets[1].objects_read, full.good.len() as u64);
    assert_eq!(report.targets[1].bytes_read, full.good.values().map(|bytes| bytes.len() as u64).sum());
}

#[test]
fn every_damage_to_every_kind_is_found_where_it_is() {
    let full = Full::new(&["a", "b"]);
    let repository = full.open(1);
    for kind in KINDS {
        for name in full.names(kind) {
            for (number, action) in ACTIONS.into_iter().enumerate() {
                let index = number % 2;
                damage(&full.world.targets[index], &name, action);
                let (report, monitor) = run(&repository, ReadData::All, false);
                let what = format!("{action:?} of {name} on {index}: {:?}", report.findings);
                let unimportant = action == Action::Delete
                    && (kind == ObjectKind::Intent || name == ObjectName::Pack(full.unnamed));
                if unimportant {
                    assert!(report.findings.is_empty(), "{what}");
                } else if name.kind() == ObjectKind::Complete && action == Action::Delete {
                    // A mark that is not there promises nothing, but that this client has seen it.
                    assert!(
                        !report.findings.is_empty() || report.outcome() == Outcome::TargetBehind,
                        "{what}"
                    );
                } else {
                    let found: Vec<_> = report.findings.iter().map(|f| (f.name, f.url.as_str())).collect();
                    assert_eq!(found, [(name, full.world.targets[index].url())], "{what}");
                    assert_eq!(report.outcome(), Outcome::Damaged);
                    assert!(!monitor.faults().is_empty());
                }
                full.reset();
            }
        }
    }
}

#[test]
fn structure_alone_finds_all_but_damage_within() {
    let full = Full::new(&["a", "b"]);
    let repository = full.open(1);
    for name in
        full.names(ObjectKind::Pack).into_iter().filter(|name| *name != ObjectName::Pack(full.unnamed))
    {
        for action in [Action::Delete, Action::Truncate, Action::Empty, Action::Longer, Action::Huge] {
            damage(&full.world.targets[0], &name, action);
            let (report, _) = run(&repository, ReadData::Nothing, false);
            assert_eq!(report.findings.len(), 1, "{action:?} of {name}");
            full.reset();
        }
    }
}

#[test]
fn no_password_is_needed_to_tell_good_from_bad() {
    let full = Full::new(&["a", "b"]);
    let monitor = Collector::default();
    let locked =
        Repository::open("mem:a", &full.world.options, crate::repository::Unlock::Nothing, &monitor).unwrap();
    assert!(!locked.is_unlocked());
    assert_eq!(run(&locked, ReadData::All, false).0.outcome(), Outcome::Clean);
    let pack = ObjectName::Pack(full.packs[0].0);
    damage(&full.world.targets[1], &pack, Action::FlipMiddle);
    assert_eq!(run(&locked, ReadData::All, false).0.outcome(), Outcome::Damaged);
    assert_eq!(run(&locked, ReadData::All, true).0.outcome(), Outcome::Healed);
    full.assert_whole("healing without a password");
}

#[test]
fn what_no_target_has_any_more_is_missed() {
    let full = Full::new(&["a", "b"]);
    let repository = full.open(0);
    // The first segment is named by the second, the last by its mark, each pack by a segment.
    let mut names = full.names(ObjectKind::Segment);
    names.extend(full.packs.iter().map(|(pack, _)| ObjectName::Pack(*pack)));
    for name in names {
        for target in &full.world.targets {
            damage(target, &name, Action::Delete);
        }
        let (report, _) = run(&repository, ReadData::Nothing, false);
        let lost: Vec<_> = report.losses.iter().map(|loss| loss.name).collect();
        assert_eq!(lost, [name]);
        assert_eq!(report.findings.iter().filter(|finding| finding.name == name).count(), 2);
        full.reset();
    }
}

#[test]
fn a_part_is_read_each_time_until_all_is() {
    let full = Full::new(&["a"]);
    let repository = full.open(0);
    let holdings = MemHoldings::default();
    let monitor = Collector::default();
    let all: BTreeSet<_> =
        [full.names(ObjectKind::Pack), full.names(ObjectKind::Segment)].concat().into_iter().collect();
    let read = |holdings: &MemHoldings| {
        all.iter().filter(|name| matches!(holdings.get("mem:a", name), Some((_, Seen::Good(_))))).count()
    };
    let packs = full.names(ObjectKind::Pack).len();
    for before in 0..packs {
        let options = VerifyOptions { data: ReadData::Bytes(1), heal: false };
        verify(&repository, &options, &holdings, &HealSources::default(), &monitor).unwrap();
        assert_eq!(read(&holdings), before + 1, "one more each time, the oldest first");
    }
    let parts: usize = (1..=3)
        .map(|part| {
            let holdings = MemHoldings::default();
            let options = VerifyOptions { data: ReadData::Part { part, count: 3 }, heal: false };
            verify(&repository, &options, &holdings, &HealSources::default(), &monitor).unwrap();
            read(&holdings)
        })
        .sum();
    assert_eq!(parts, packs, "the parts together are everything, each once");
}

#[test]
fn what_is_found_is_remembered() {
    let full = Full::new(&["a", "b"]);
    let repository = full.open(0);
    let holdings = MemHoldings::default();
    let monitor = Collector::default();
    let (missing, damaged) = (ObjectName::Pack(full.packs[0].0), ObjectName::Pack(full.packs[1].0));
    damage(&full.world.targets[1], &missing, Action::Delete);
    damage(&full.world.targets[1], &damaged, Action::FlipMiddle);
    let options = VerifyOptions { data: ReadData::All, heal: false };
    verify(&repository, &options, &holdings, &HealSources::default(), &monitor).unwrap();
    assert_eq!(holdings.get("mem:b", &missing).unwrap().1, Seen::Missing);
    assert_eq!(holdings.get("mem:b", &damaged).unwrap().1, Seen::Damaged);
    assert!(matches!(holdings.get("mem:a", &damaged).unwrap().1, Seen::Good(_)));
    let options = VerifyOptions { data: ReadData::All, heal: true };
    verify(&repository, &options, &holdings, &HealSources::default(), &monitor).unwrap();
    assert!(matches!(holdings.get("mem:b", &missing).unwrap().1, Seen::Good(_)));
    assert!(matches!(holdings.get("mem:b", &damaged).unwrap().1, Seen::Good(_)));
}

#[test]
fn a_target_that_dies_is_unreachable_not_damaged() {
    let full = Full::new(&["a", "b"]);
    for after in 0.. {
        let faulty = FaultTarget::new(full.world.targets[1].clone());
        full.world.connect.insert(faulty.clone());
        let repository = full.open(0);
        faulty.clear();
        faulty.add(Rule::dies_after(after));
        let (report, monitor) = run(&repository, ReadData::All, false);
        if faulty.hits() == 0 {
            assert_eq!(report.outcome(), Outcome::Clean);
            break;
        }
        assert!(report.findings.is_empty(), "call {after}: {:?}", report.findings);
        assert_eq!(report.outcome(), Outcome::TargetBehind, "call {after}");
        assert!(monitor.faults().iter().all(|fault| fault.side == FaultSide::Target), "call {after}");
    }
}

#[test]
fn an_object_that_cannot_be_read_is_damaged() {
    let full = Full::new(&["a", "b"]);
    let faulty = FaultTarget::new(full.world.targets[1].clone());
    full.world.connect.insert(faulty.clone());
    let repository = full.open(0);
    let pack = ObjectName::Pack(full.packs[2].0);
    let eio = Injected::Fail(ErrorKind::Target);
    faulty.add(Rule::always(Operation::Get, pack.key().as_str(), eio));
    let (report, _) = run(&repository, ReadData::All, false);
    let found: Vec<_> = report.findings.iter().map(|finding| (finding.name, finding.url.as_str())).collect();
    assert_eq!(found, [(pack, "mem:b")]);
}

#[test]
fn an_intent_of_a_newer_version_stops_nobody() {
    let full = Full::new(&["a", "b"]);
    let id = IntentId::random().unwrap();
    let mut bytes = Intent { id, ..Intent::new(WriterId::random().unwrap(), "x").unwrap() }.encode();
    bytes[8] = 9;
    let end = bytes.len() - 32;
    let hash = blake3::hash(&bytes[..end]);
    bytes[end..].copy_from_slice(hash.as_bytes());
    full.world.targets[0].put(&ObjectName::Intent(id).key(), &[&bytes]).unwrap();
    for heal in [false, true] {
        let (report, monitor) = run(&full.open(0), ReadData::All, heal);
        assert_eq!((report.outcome(), monitor.faults().len()), (Outcome::Clean, 0), "{report:?}");
        assert!(monitor.notes().iter().any(|note| note.contains("newer version")), "{:?}", monitor.notes());
    }
    assert!(full.world.targets[0].get(&ObjectName::Intent(id).key()).unwrap() == bytes);
}

#[test]
fn an_older_state_of_a_target_is_damage_there() {
    let full = Full::new(&["a", "b"]);
    let repository = full.open(0);
    assert_eq!(run(&repository, ReadData::Nothing, false).0.outcome(), Outcome::Clean);
    full.world.targets[1].tamper(|objects| {
        objects.retain(|key, _| {
            let newest = |sequence: u64| sequence > 1;
            !match ObjectName::parse(key) {
                Some(
                    ObjectName::Segment { writer, sequence, .. } | ObjectName::Complete { writer, sequence },
                ) => writer == WRITER && newest(sequence),
                Some(ObjectName::Pack(hash)) => hash == full.packs[2].0,
                _ => false,
            }
        });
    });
    let (report, monitor) = run(&repository, ReadData::Nothing, false);
    assert_eq!(report.outcome(), Outcome::Damaged);
    assert_eq!(report.findings.len(), 5, "two segments, two marks, a pack: {:?}", report.findings);
    assert!(monitor.faults().iter().any(|fault| fault.error.kind() == ErrorKind::NotTheSame));
    assert_eq!(run(&repository, ReadData::Nothing, true).0.outcome(), Outcome::Healed);
    full.assert_whole("an older state is brought up to date");
}
