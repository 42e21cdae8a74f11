//! What outsiders, removed keys and others left on a target.

use super::*;

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
        let locked = Repository::open("mem:a", &full.world.options, Unlock::Nothing, &monitor).unwrap();
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
