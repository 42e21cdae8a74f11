//! A crash and a fault at every call of a healing.

use super::*;

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
        let same = |(key, bytes): &(ObjectKey, Arc<[u8]>)| full.good.get(key) == Some(bytes);
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
        let [one, two] = &full.world.targets[..] else { panic!("two targets") };
        let power = FaultTarget::new(one.clone());
        full.world.connect.insert(power.sharing(two.clone()));
        full.world.connect.insert(power.clone());
        let repository = full.open(0);
        power.add(Rule::dies_after(after));
        let before = good_somewhere(&full);
        let result = verify_with(&repository, &HealSources::default(), ReadData::All, true);
        let survived = power.hits() == 0;
        power.clear();
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
    let damaged = full.world.targets[1].objects();
    let faulty = FaultTarget::new(full.world.targets[1].clone());
    full.world.connect.insert(faulty.clone());
    let repository = full.open(0);
    faulty.add(Rule::always(Operation::PutNew, "packs", Injected::Fail(ErrorKind::TargetFull)));
    assert_eq!(run(&repository, ReadData::All, true).0.outcome(), Outcome::Damaged);
    assert!(
        full.world.targets[1].objects() == damaged,
        "the bad one is where it was: some of it may be good"
    );
    faulty.add(Rule::always(Operation::PutBack, "", Injected::Fail(ErrorKind::Target)));
    let (report, monitor) = run(&repository, ReadData::All, true);
    assert!(matches!(&report.findings[0].fate, Fate::Failed(error) if error.kind() == ErrorKind::TargetFull));
    assert_eq!(report.outcome(), Outcome::Damaged);
    assert_eq!(monitor.faults().len(), 1);
    assert!(full.world.targets[1].objects().keys().any(|key| key.as_str().starts_with("aside/packs_")));
    faulty.clear();
    assert_eq!(run(&repository, ReadData::All, true).0.outcome(), Outcome::Healed);
    full.assert_whole("when there is room again");
}
