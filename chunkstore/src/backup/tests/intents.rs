//! Intents that stand on a target when a run begins.

use super::*;
use crate::id::WriterId;
use crate::repository::intent::Intent;

#[test]
fn an_intent_that_cannot_be_read_is_nobodys_and_the_target_is_no_worse() {
    let world = World::new(1);
    populate(&world);
    world.backup();
    let put = |change: &dyn Fn(&mut Vec<u8>)| {
        let intent = Intent::new(WriterId::from_bytes([9; 16]), "host").unwrap();
        let mut bytes = intent.encode();
        change(&mut bytes);
        world.mem[0].put(&intent.name().key(), &[&bytes]).unwrap();
        intent
    };
    // On a bad sector; damaged; of a later format.
    let unreadable = put(&|_| {});
    put(&|bytes| bytes[30] ^= 1);
    put(&|bytes| {
        bytes[8] = 2;
        crate::testing::renew_hash(bytes);
    });
    let name = unreadable.name().key();
    world.faults[0].add(Rule::always(Operation::Get, name.as_str(), Outage::Fail(ErrorKind::Target)));
    world.write("more", noise(70, 5000));
    let open = world.open().unwrap();
    let monitor = Collector::default();
    let summary = world.backup_with(&open, &monitor).unwrap();
    assert!(world.faults[0].hits() > 0, "it was read");
    assert_eq!(summary.targets_complete, ["mem:a"]);
    assert!(monitor.faults().is_empty(), "{:?}", monitor.faults());
    assert_eq!(world.mem[0].list("intents").unwrap().len(), 3, "they stay");
    world.assert_holds(&open, &open.last(), &world.mem[0]);
}

#[test]
fn a_target_that_dies_while_intents_are_read_is_left_out() {
    let world = World::new(2);
    populate(&world);
    world.backup();
    let intent = Intent::new(WriterId::from_bytes([9; 16]), "host").unwrap();
    intent.put(&*world.mem[0]).unwrap();
    let open = world.open().unwrap();
    let fails = Outage::Fail(ErrorKind::Target);
    world.faults[0].add(Rule::always(Operation::Get, "intents", fails));
    world.faults[0].add(Rule::always(Operation::Length, "config", fails));
    let monitor = Collector::default();
    let summary = world.backup_with(&open, &monitor).unwrap();
    assert_eq!(summary.targets_complete, ["mem:b"]);
    assert_eq!(monitor.faults().len(), 1, "{:?}", monitor.faults());
}
