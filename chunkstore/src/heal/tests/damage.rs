//! Every damage of every kind, each object good somewhere or to be put together.

use super::*;

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
            Repository::open(url, &full.world.options, Unlock::Nothing, &monitor).unwrap()
        };
        let (report, monitor) = run(&repository, ReadData::All, true);
        prop_assert_eq!(report.outcome(), Outcome::Healed, "{:?}", report.findings);
        prop_assert!(monitor.faults().is_empty());
        full.assert_whole("all mended");
        prop_assert_eq!(run(&repository, ReadData::All, false).0.outcome(), Outcome::Clean);
    }
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
            target.flip(&name.key(), offset);
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
    let report = verify_with(&repository, &sources, ReadData::Nothing, true).unwrap();
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
        full.world.connect.insert(Arc::new(target));
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
