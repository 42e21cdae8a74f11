//! Opening one, on targets that are absent, damaged or false.

use super::*;

#[test]
fn a_wrong_password_is_asked_for_again() {
    let world = World::new(&["a"]);
    world.init(PASSWORD).unwrap();
    let monitor = Collector::default();
    assert_eq!(world.open_with(0, b"wrong", &monitor).unwrap_err().kind(), ErrorKind::WrongPassword);
    let mut attempts = Vec::new();
    let mut ask = |attempt: u32| {
        attempts.push(attempt);
        Ok(Some(Zeroizing::new(if attempt < 3 { b"no".to_vec() } else { b"secret".to_vec() })))
    };
    Repository::open("mem:a", &world.options, Unlock::Password(&mut ask), &monitor).unwrap();
    assert_eq!(attempts, [1, 2, 3]);
    let mut none = |_: u32| Ok(None);
    let error = Repository::open("mem:a", &world.options, Unlock::Password(&mut none), &monitor).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WrongPassword);
}

#[test]
fn no_repository_is_said() {
    let world = World::new(&["a"]);
    let monitor = Collector::default();
    assert_eq!(world.open(0, &monitor).unwrap_err().kind(), ErrorKind::NoRepository, "an empty target");
    let error = Repository::open("mem:zz", &world.options, Unlock::Nothing, &monitor).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoRepository, "no target at all");
}

#[test]
fn every_flipped_byte_of_a_config_is_mended_in_memory() {
    let world = World::new(&["a", "b"]);
    let made = world.init(PASSWORD).unwrap();
    let good = world.targets[0].objects();
    for index in (0..made.config_bytes().len()).step_by(7) {
        let mut bad = made.config_bytes().to_vec();
        bad[index] ^= 0x10;
        world.targets[0].tamper(|objects| drop(objects.insert(config_key(), bad.into())));
        let monitor = Collector::default();
        let opened = world.open(0, &monitor).unwrap();
        assert_eq!(opened.config_bytes(), made.config_bytes());
        assert_eq!(sides(&monitor), [FaultSide::Damage]);
        assert!(opened.targets()[0].get().is_ok(), "it is used on");
        // Without memory of its sister there is nothing to take the config from.
        let (_state, elsewhere) = world.elsewhere();
        let error = Repository::open("mem:a", &elsewhere, Unlock::Nothing, &monitor).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Damage);
        world.targets[0].set_objects(good.clone());
    }
}

#[test]
fn an_absent_target_is_reported_and_the_rest_opens() {
    let world = World::new(&["a", "b"]);
    world.init(PASSWORD).unwrap();
    world.connect.remove("mem:a");
    for index in 0..2 {
        let monitor = Collector::default();
        let opened = world.open(index, &monitor).unwrap();
        assert_eq!(sides(&monitor), [FaultSide::Target]);
        assert_eq!(opened.reachable().count(), 1);
    }
    // The place is there, and empty: a disk that is not mounted. It must not be written to.
    world.connect.insert(MemTarget::new("a"));
    let monitor = Collector::default();
    let opened = world.open(1, &monitor).unwrap();
    assert_eq!(sides(&monitor), [FaultSide::Target]);
    assert!(opened.targets()[1].get().is_err());
    world.connect.remove("mem:a");
    world.connect.remove("mem:b");
    assert_eq!(world.open(0, &Collector::default()).unwrap_err().kind(), ErrorKind::NoRepository);
}

#[test]
fn a_repository_that_lost_its_encryption_is_refused() {
    let world = World::new(&["a"]);
    let made = world.init(PASSWORD).unwrap();
    let mut plain = *made.config();
    plain.mode = Mode::Unencrypted;
    let forged = plain.encode(&crate::secret::Secrets::generate().unwrap()).unwrap();
    let good = world.targets[0].objects();
    world.targets[0].tamper(|objects| drop(objects.insert(config_key(), forged.into())));
    let monitor = Collector::default();
    assert_eq!(world.open(0, &monitor).unwrap_err().kind(), ErrorKind::NotTheSame);
    // Somewhere without memory, a password in hand says the same.
    let (_state, mut elsewhere) = world.elsewhere();
    elsewhere.expect = Some(Mode::Encrypted);
    let error = Repository::open("mem:a", &elsewhere, Unlock::Nothing, &monitor).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotTheSame);
    world.targets[0].set_objects(good);
    elsewhere.expect = Some(Mode::Unencrypted);
    let error = Repository::open("mem:a", &elsewhere, Unlock::Nothing, &monitor).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WrongPassword);
}

#[test]
fn a_forged_config_among_good_ones_is_passed_over() {
    let world = World::new(&["a", "b"]);
    let made = world.init(PASSWORD).unwrap();
    let mut other = *made.config();
    other.pack_bytes = 1 << 20;
    let forged = other.encode(&crate::secret::Secrets::generate().unwrap()).unwrap();
    world.targets[0].tamper(|objects| drop(objects.insert(config_key(), forged.into())));
    let monitor = Collector::default();
    let opened = world.open(0, &monitor).unwrap();
    assert_eq!(opened.config(), made.config());
    assert_eq!(sides(&monitor), [FaultSide::Damage]);
}

#[test]
fn another_repository_in_its_place_is_refused() {
    let world = World::new(&["a", "b"]);
    world.init(PASSWORD).unwrap();
    let other = World::new(&["b"]);
    let stranger = other.init(PASSWORD).unwrap();
    world.targets[1].set_objects(other.targets[0].objects());
    let monitor = Collector::default();
    let error = world.open(1, &monitor).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotTheSame);
    assert!(error.to_string().contains(&stranger.id().to_string()), "{error}");
    let opened = world.open(0, &monitor).unwrap();
    assert_eq!(sides(&monitor), [FaultSide::Target]);
    assert_eq!(opened.reachable().count(), 1, "and it is not written to");
}

#[test]
fn an_older_state_is_noticed() {
    let world = World::new(&["a", "b"]);
    world.init(PASSWORD).unwrap();
    let monitor = Collector::default();
    let opened = world.open(0, &monitor).unwrap();
    mark(3).put(&*world.targets[0]).unwrap();
    let old = world.targets[0].objects();
    mark(8).put(&*world.targets[0]).unwrap();
    assert!(opened.notice_ages(&monitor).unwrap().is_empty());
    assert!(monitor.faults().is_empty());
    world.targets[0].set_objects(old);
    let ages = world.open(0, &monitor).unwrap().notice_ages(&monitor).unwrap();
    assert_eq!(ages, [Age { url: "mem:a".into(), writer: mark(1).writer, seen: 8, found: Some(3) }]);
    assert_eq!(sides(&monitor), [FaultSide::Damage]);
    let again = world.open(0, &monitor).unwrap().notice_ages(&monitor).unwrap();
    assert_eq!(again, ages, "until it is mended");
    mark(9).put(&*world.targets[0]).unwrap();
    assert!(opened.notice_ages(&monitor).unwrap().is_empty());
}
