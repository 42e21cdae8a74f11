//! Targets that die, are away, come back, or are removed: the others go on, and what only the absent one has is not counted on.

use super::*;

#[test]
fn a_target_that_dies_is_told_of_and_the_other_is_whole() {
    let world = World::new(2);
    populate(&world);
    let open = world.open().unwrap();
    world.faults[0].add(Rule { operation: Some(Operation::Put), ..Rule::dies_after(3) });
    let monitor = Collector::default();
    let summary = world.backup_with(&open, &monitor).unwrap();
    assert_eq!(
        (summary.targets_complete, summary.targets_behind),
        (vec!["mem:b".to_owned()], vec!["mem:a".to_owned()])
    );
    assert_eq!(monitor.faults().len(), 1, "told once: {:?}", monitor.faults());
    world.assert_holds(&open, &open.first(), &world.mem[1]);
    drop(open);
    // It is back: the next backup brings all that it lacks.
    world.faults[0].clear();
    let summary = world.backup();
    assert_eq!(summary.targets_complete.len(), 2);
    assert!(summary.targets_behind.is_empty());
    assert!(world.mem[0].objects() == world.mem[1].objects(), "both hold the same");
}

#[test]
fn a_target_that_lacks_what_an_absent_one_has_is_not_complete() {
    let world = World::new(2);
    world.write("first", noise(77, 1000));
    world.backup();
    populate(&world);
    world.faults[0].add(Rule::dies_after(0));
    assert_eq!(world.backup().targets_complete, ["mem:b"]);
    world.faults[0].clear();
    world.faults[1].add(Rule::dies_after(0));
    world.write("more", noise(78, 1000));
    let summary = world.backup();
    assert_eq!((summary.targets_complete.len(), summary.targets_behind.len()), (0, 2), "{summary:?}");
    world.faults[1].clear();
    let open = world.open().unwrap();
    assert_eq!(world.backup_in(&open).targets_complete.len(), 2);
    world.assert_the_same_and_clean(&open);
}

/// Is told to stop when a phase begins.
struct StopsAt(&'static str, Collector);

impl Monitor for StopsAt {
    fn fault(&self, fault: Fault) {
        self.1.fault(fault);
    }
    fn event(&self, event: Event<'_>) {
        if let Event::Phase { name, .. } = event
            && name == self.0
        {
            self.1.cancel();
        }
        self.1.event(event);
    }
    fn cancelled(&self) -> bool {
        self.1.cancelled()
    }
}

#[test]
fn a_snapshot_that_is_made_stays_made_when_catching_up_is_stopped() {
    let world = World::new(2);
    populate(&world);
    world.faults[0].add(Rule::dies_after(0));
    world.backup();
    world.faults[0].clear();
    world.write("more", noise(78, 1000));
    let open = world.open().unwrap();
    let monitor = StopsAt("list", Collector::default());
    let summary = world.backup_with(&open, &monitor).unwrap();
    assert!(monitor.cancelled(), "the missing objects were looked for");
    assert_eq!(
        (summary.targets_complete, summary.targets_behind),
        (vec![URLS[1].to_owned()], vec![URLS[0].to_owned()])
    );
    assert_eq!(summary.snapshot, open.catalog.snapshots().unwrap().pop().map(|snapshot| snapshot.id));
    assert!(world.mem[0].list("intents").unwrap().is_empty());
}

#[test]
fn what_only_a_target_has_that_is_not_there_is_stored_again() {
    let world = World::new(2);
    world.write("first", noise(70, 1000));
    settle();
    world.backup();
    // It reaches only one of both, which then dies.
    world.write("file", noise(71, 50_000));
    {
        let open = world.open().unwrap();
        world.faults[0].add(Rule::always(Operation::Put, "", Outage::Fail(ErrorKind::TargetFull)));
        let summary = world.backup_in(&open);
        assert_eq!(summary.targets_complete, ["mem:b"]);
    }
    world.faults[0].clear();
    world.named.remove("mem:b");
    world.write("the same again", noise(71, 50_000));
    for removed in [false, true] {
        let mut open = world.open().unwrap();
        if removed {
            open.repository.remove_target("mem:b").unwrap();
        }
        world.backup_forced(&open);
        let last = open.last();
        assert!(world.restored(&open, &last, &*world.mem[0]) == world.truth(), "removed: {removed}");
    }
}

#[test]
fn what_only_a_target_has_that_fails_at_once_is_stored_again() {
    let world = World::new(2);
    world.write("file", noise(71, 50_000));
    {
        let open = world.open().unwrap();
        world.faults[0].add(Rule::always(Operation::Put, "packs", Outage::Fail(ErrorKind::TargetFull)));
        world.backup_in(&open);
    }
    world.faults[0].clear();
    world.write("the same again", noise(71, 50_000));
    let open = world.open().unwrap();
    world.faults[1].add(Rule::always(Operation::Put, "intents", Outage::Fail(ErrorKind::Target)));
    world.backup_forced(&open);
    world.assert_holds(&open, &open.last(), &world.mem[0]);
}

#[test]
fn a_target_that_was_away_for_some_runs_can_stand_alone_when_the_other_is_lost() {
    let world = World::new(2);
    world.write("first", noise(70, 1000));
    world.backup();
    world.named.remove("mem:a");
    for round in 0..3u64 {
        world.write(&format!("file {round}"), noise(71 + round, 5000));
        assert_eq!(world.backup().targets_complete, ["mem:b"]);
    }
    world.named.insert(world.faults[0].clone());
    world.named.remove("mem:b");
    let mut open = world.open().unwrap();
    open.repository.remove_target("mem:b").unwrap();
    world.backup_forced(&open);
    world.write("last", noise(75, 5000));
    world.backup_in(&open);
    // The machine is lost too.
    let monitor = Collector::default();
    open.catalog.rebuild(&*world.mem[0], &monitor).unwrap();
    assert!(monitor.faults().is_empty(), "{:?}", monitor.faults());
    world.assert_holds(&open, &open.last(), &world.mem[0]);
    assert_marks_hold(&open, &*world.mem[0]);
}
