//! Reading an object from whichever target has it good.

use super::*;
use crate::target::Operation;

#[test]
fn reading_falls_over() {
    let world = World::new(&["a", "b", "c"]);
    world.init(PASSWORD).unwrap();
    let bytes = b"a pack, as far as names go";
    let name = ObjectName::Pack(ObjectHash::of(&[bytes]));
    let monitor = Collector::default();
    let opened = world.open(0, &monitor).unwrap();
    assert_eq!(opened.read(&name, &monitor).unwrap_err().kind(), ErrorKind::NotFound);
    assert!(monitor.faults().is_empty(), "who asks knows whether it should be there");
    world.targets[1].put(&name.key(), &[b"something else, damaged...."]).unwrap();
    world.targets[2].put(&name.key(), &[bytes]).unwrap();
    assert_eq!(opened.read(&name, &monitor).unwrap(), bytes);
    assert_eq!(sides(&monitor), [FaultSide::Damage]);
    let part = opened
        .read_range(&name, 2, 4, &monitor, |bytes| match &*bytes {
            b"pack" => Ok(bytes),
            _ => Err(Error::damage("not what it should be")),
        })
        .unwrap();
    assert_eq!(part, b"pack");
    world.targets[2].delete(&name.key()).unwrap();
    assert_eq!(opened.read(&name, &monitor).unwrap_err().kind(), ErrorKind::Damage);
}

/// A pack's name and bytes.
type Pack = (ObjectName, &'static [u8]);

/// A repository on two targets behind faults, and two packs on both.
fn two_packs() -> (World, [Arc<FaultTarget>; 2], [Pack; 2]) {
    let world = World::new(&["a", "b"]);
    let faults = [0, 1].map(|index| FaultTarget::new(world.targets[index].clone()));
    for target in &faults {
        world.connect.insert(target.clone());
    }
    world.init(PASSWORD).unwrap();
    let packs =
        [&b"one pack"[..], b"another"].map(|bytes| (ObjectName::Pack(ObjectHash::of(&[bytes])), bytes));
    for (name, bytes) in &packs {
        for target in &world.targets {
            target.put(&name.key(), &[bytes]).unwrap();
        }
    }
    (world, faults, packs)
}

fn bad_sector(target: &FaultTarget, name: &ObjectName) {
    for operation in [Operation::Get, Operation::GetRange] {
        target.add(Rule::always(operation, name.key().as_str(), Fault::Fail(ErrorKind::Target)));
    }
}

#[test]
fn a_bad_sector_costs_one_object_on_one_target() {
    let (world, faults, packs) = two_packs();
    let monitor = Collector::default();
    let opened = world.open(0, &monitor).unwrap();
    bad_sector(&faults[0], &packs[0].0);
    bad_sector(&faults[1], &packs[1].0);
    for (name, bytes) in &packs {
        assert_eq!(opened.read(name, &monitor).unwrap(), *bytes);
        let part = opened.read_range(name, 0, 3, &monitor, Ok).unwrap();
        assert_eq!(part, bytes[..3]);
    }
    assert_eq!(sides(&monitor), [FaultSide::Damage], "the first target cannot read one of them");
    assert_eq!(faults[0].hits(), 1, "and is asked for it once, as long as there is another");
    assert_eq!(opened.reachable().count(), 2);
    bad_sector(&faults[1], &packs[0].0);
    let error = opened.read(&packs[0].0, &monitor).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Damage);
    assert!(error.to_string().contains("injected"), "{error}");
}

#[test]
fn a_dead_target_is_reported_once_and_asked_last() {
    let (world, faults, packs) = two_packs();
    let monitor = Collector::default();
    let opened = world.open(0, &monitor).unwrap();
    faults[0].clear();
    faults[0].add(Rule::dies_after(0));
    for _ in 0..3 {
        assert_eq!(opened.read(&packs[0].0, &monitor).unwrap(), packs[0].1);
    }
    assert_eq!(sides(&monitor), [FaultSide::Target]);
    assert_eq!(faults[0].calls(), 2, "the reading, and whether it answers at all");
    // What no other has is asked for all the same: it may be back.
    bad_sector(&faults[1], &packs[1].0);
    assert_eq!(opened.read(&packs[1].0, &monitor).unwrap_err().kind(), ErrorKind::Damage);
    assert_eq!(faults[0].calls(), 3);
    faults[0].clear();
    assert_eq!(opened.read(&packs[1].0, &monitor).unwrap(), packs[1].1);
    assert_eq!(opened.reachable().count(), 1, "for writing it stays out until the next run");
}

#[test]
fn another_repository_is_not_asked_even_last() {
    let (world, faults, packs) = two_packs();
    let other = World::new(&["a"]);
    other.init(PASSWORD).unwrap();
    world.targets[0].set_objects(other.targets[0].objects());
    let monitor = Collector::default();
    let opened = world.open(1, &monitor).unwrap();
    assert_eq!(sides(&monitor), [FaultSide::Target]);
    let before = faults[0].calls();
    world.targets[1].delete(&packs[0].0.key()).unwrap();
    assert!(opened.read(&packs[0].0, &monitor).is_err());
    assert_eq!(faults[0].calls(), before);
}

#[test]
fn what_is_longer_than_its_kind_is_passed_over() {
    let world = World::new(&["a", "b"]);
    world.init(PASSWORD).unwrap();
    let monitor = Collector::default();
    let opened = world.open(0, &monitor).unwrap();
    let config = opened.read(&ObjectName::Config, &monitor).unwrap();
    world.targets[0].delete(&ObjectName::Config.key()).unwrap();
    world.targets[0].put(&ObjectName::Config.key(), &[&vec![0; (1 << 20) + 1]]).unwrap();
    assert_eq!(opened.read(&ObjectName::Config, &monitor).unwrap(), config);
    let faults = monitor.faults();
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert_eq!(faults[0].error.kind(), ErrorKind::Damage);
}
