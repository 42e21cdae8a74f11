//! Keys: added, removed, changed, forged.

use super::*;

#[test]
fn keys_are_added_removed_and_stay_removed() {
    let world = World::new(&["a", "b", "c"]);
    world.init(PASSWORD).unwrap();
    let monitor = Collector::default();
    let opened = world.open(0, &monitor).unwrap();
    let first = opened.opened_by().unwrap();
    let away = world.targets[2].clone();
    world.connect.remove("mem:c");
    let opened = {
        drop(opened);
        world.open(0, &monitor).unwrap()
    };
    let second = opened.add_key(b"other", "you@there", PasswordCost::LEAST, &monitor).unwrap();
    assert_eq!(opened.keys(&monitor).unwrap().len(), 2);
    assert_eq!(opened.remove_key(&first, &monitor).unwrap_err().kind(), ErrorKind::InvalidArgument, "in use");
    let by_other = world.open_with(1, b"other", &monitor).unwrap();
    assert_eq!(by_other.opened_by(), Some(second));
    by_other.remove_key(&first, &monitor).unwrap();
    assert_eq!(by_other.remove_key(&first, &monitor).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(world.open(0, &monitor).unwrap_err().kind(), ErrorKind::WrongPassword);
    // The third target was away and still has the key: the record on its sisters counts.
    world.connect.insert(away);
    assert_eq!(world.open(2, &monitor).unwrap_err().kind(), ErrorKind::WrongPassword);
    let keys = world.open_with(2, b"other", &monitor).unwrap().keys(&monitor).unwrap();
    assert_eq!(keys.iter().map(|key| key.name).collect::<Vec<_>>(), [second]);
}

#[test]
fn a_changed_password_replaces_the_old_one() {
    let world = World::new(&["a", "b"]);
    world.init(PASSWORD).unwrap();
    let monitor = Collector::default();
    let mut opened = world.open(0, &monitor).unwrap();
    opened.change_key(b"new", "me@here", PasswordCost::LEAST, &monitor).unwrap();
    assert_eq!(opened.keys(&monitor).unwrap().len(), 1);
    assert_eq!(world.open(1, &monitor).unwrap_err().kind(), ErrorKind::WrongPassword);
    world.open_with(1, b"new", &monitor).unwrap();
}

#[test]
fn a_forged_removal_removes_nothing() {
    let world = World::new(&["a"]);
    let made = world.init(PASSWORD).unwrap();
    let key = made.opened_by().unwrap();
    let forged = KeyRemoval::encode(&crate::secret::Secrets::generate().unwrap(), made.id(), &key, now());
    world.targets[0].put(&ObjectName::KeyRemoval(key).key(), &[&forged]).unwrap();
    let monitor = Collector::default();
    let opened = world.open(0, &monitor).unwrap();
    assert_eq!(opened.keys(&monitor).unwrap().len(), 1);
}

#[test]
fn changing_a_password_survives_a_crash_at_every_call() {
    for after in 0.. {
        let world = World::new(&["a"]);
        world.init(PASSWORD).unwrap();
        let faulty = FaultTarget::new(world.targets[0].clone());
        world.connect.insert(faulty.clone());
        let monitor = Collector::default();
        let mut opened = world.open(0, &monitor).unwrap();
        faulty.clear();
        faulty.add(Rule::dies_after(after));
        let result = opened.change_key(b"new", "me@here", PasswordCost::LEAST, &monitor);
        let hits = faulty.hits();
        faulty.clear();
        let old = world.open(0, &monitor);
        let new = world.open_with(0, b"new", &monitor);
        assert!(old.is_ok() || new.is_ok(), "call {after}: one of the passwords must open");
        if hits == 0 {
            result.unwrap();
            assert!(old.is_err());
            break;
        }
    }
}

/// Puts a key that somebody made of another's bytes on a target, under the name that it must have.
fn put_forged_key(world: &World, mut bytes: Vec<u8>) {
    renew_hash(&mut bytes);
    let name = ObjectName::Key(ObjectHash::of(&[&bytes]));
    world.targets[0].put(&name.key(), &[&bytes]).unwrap();
}

/// Whoever can write to a target can put a key there that takes hours to try, or more memory than there is.
#[test]
fn a_dear_key_that_somebody_put_there_does_not_stand_before_the_good_ones() {
    let world = World::new(&["a"]);
    let made = world.init(PASSWORD).unwrap();
    let key = ObjectName::Key(made.opened_by().unwrap());
    let mut bytes = world.targets[0].get(&key.key()).unwrap();
    let least: Vec<u8> = [8u32, 1, 1].iter().flat_map(|number| number.to_le_bytes()).collect();
    let place = bytes.windows(12).position(|window| window == least).unwrap();
    bytes[place..place + 4].copy_from_slice(&PasswordCost::MEMORY_KIB_MAX.to_le_bytes());
    bytes[place + 4..place + 8].copy_from_slice(&PasswordCost::PASSES_MAX.to_le_bytes());
    // The newest of all: behind the label.
    let created = bytes.windows(7).position(|window| window == b"me@here").unwrap() + 9;
    bytes[created..created + 8].copy_from_slice(&(i64::MAX / 2).to_le_bytes());
    put_forged_key(&world, bytes);
    let monitor = Collector::default();
    assert_eq!(made.keys(&monitor).unwrap().len(), 2, "it is a key like any other");
    let before = std::time::Instant::now();
    world.open(0, &monitor).unwrap();
    assert!(before.elapsed().as_secs() < 20);
}

#[test]
fn a_key_that_calls_itself_newer_keeps_nobody_out() {
    let world = World::new(&["a"]);
    let made = world.init(PASSWORD).unwrap();
    let key = ObjectName::Key(made.opened_by().unwrap());
    let mut bytes = world.targets[0].get(&key.key()).unwrap();
    bytes[8] = 2;
    put_forged_key(&world, bytes);
    let monitor = Collector::default();
    world.open(0, &monitor).unwrap();
    let error = world.open_with(0, b"wrong", &monitor).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WrongPassword);
    assert!(error.to_string().contains("newer"), "{error}");
    world.targets[0].delete(&key.key()).unwrap();
    assert_eq!(world.open(0, &monitor).unwrap_err().kind(), ErrorKind::NewerFormat);
}

#[test]
fn two_who_remove_each_others_key_leave_one() {
    let world = World::new(&["a", "b"]);
    let monitor = Collector::default();
    let first = world.init(PASSWORD).unwrap();
    let name = first.add_key(b"other", "you@there", PasswordCost::LEAST, &monitor).unwrap();
    let second = world.open_with(0, b"other", &monitor).unwrap();
    first.remove_key(&name, &monitor).unwrap();
    let other = first.opened_by().unwrap();
    assert_eq!(second.remove_key(&other, &monitor).unwrap_err().kind(), ErrorKind::WrongPassword);
    world.open(0, &monitor).unwrap();
    world.open(1, &monitor).unwrap();
}
