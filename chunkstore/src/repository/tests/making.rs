//! Making a repository: on all targets, or on none.

use super::*;

#[test]
fn a_repository_is_made_on_all_targets_and_opens_from_each() {
    let world = World::new(&["a", "b", "c"]);
    let made = world.init(PASSWORD).unwrap();
    assert_eq!(made.config().mode, Mode::Encrypted);
    for index in 0..3 {
        let monitor = Collector::default();
        let opened = world.open(index, &monitor).unwrap();
        assert_eq!(opened.id(), made.id());
        assert_eq!(opened.secrets().unwrap(), made.secrets().unwrap());
        assert_eq!(opened.targets()[0].url(), world.urls()[index], "the named one is read first");
        assert_eq!(
            opened.targets().iter().map(|target| target.url().to_owned()).collect::<BTreeSet<_>>().len(),
            3
        );
        assert!(opened.targets().iter().all(|target| target.is_listed() && target.get().is_ok()));
        assert!(monitor.faults().is_empty());
    }
    let objects = world.targets[0].objects();
    assert_eq!(objects.len(), 2, "config and key");
    assert!(world.targets.iter().all(|target| target.objects() == objects));
    let error = world.init(PASSWORD).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert_eq!(world.targets[1].objects(), objects);
}

#[test]
fn an_unencrypted_repository_needs_no_password() {
    let world = World::new(&["a"]);
    let made = world.init(Protection::Unencrypted).unwrap();
    let monitor = Collector::default();
    let mut ask = |_: u32| -> Result<Option<Zeroizing<Vec<u8>>>> { panic!("nothing to ask for") };
    let opened = Repository::open("mem:a", &world.options, Unlock::Password(&mut ask), &monitor).unwrap();
    assert_eq!(opened.secrets().unwrap(), made.secrets().unwrap());
    assert!(opened.keys(&monitor).unwrap().is_empty());
    let error = opened.add_key(b"x", "me", PasswordCost::LEAST, &monitor).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
}

#[test]
fn what_cannot_be_made_is_nowhere() {
    let world = World::new(&["a", "b"]);
    let url = |name: &str| vec![format!("mem:{name}")];
    let init = |urls: &[String], protection| {
        Repository::init(urls, &world.options, protection, &InitOptions::default())
    };
    assert_eq!(init(&[], PASSWORD).unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert_eq!(
        init(&[url("a"), url("a")].concat(), PASSWORD).unwrap_err().kind(),
        ErrorKind::InvalidArgument
    );
    let empty = Protection::Password { password: b"", label: "", cost: PasswordCost::LEAST };
    assert_eq!(init(&url("a"), empty).unwrap_err().kind(), ErrorKind::InvalidArgument);
    // A failure of any call on the second target leaves neither of them with anything.
    for after in 0.. {
        let faulty = FaultTarget::new(world.targets[1].clone());
        faulty.add(Rule::fails_once_after(after));
        world.connect.insert(faulty.clone());
        let result = world.init(PASSWORD);
        if faulty.hits() == 0 {
            result.unwrap();
            break;
        }
        result.unwrap_err();
        assert!(world.targets.iter().all(|target| target.objects().is_empty()), "call {after}");
    }
}

#[test]
fn a_lost_answer_while_making_leaves_nothing_behind() {
    let world = World::new(&["a"]);
    for after in 0..8 {
        let faulty = FaultTarget::new(world.targets[0].clone());
        faulty.add(Rule { fault: Fault::LostAnswer, ..Rule::fails_once_after(after) });
        world.connect.insert(faulty.clone());
        if world.init(PASSWORD).is_ok() {
            return;
        }
        assert!(world.targets[0].objects().is_empty(), "call {after}");
    }
    panic!("it never succeeds");
}

#[test]
fn objects_without_a_config_are_not_built_over() {
    let world = World::new(&["a"]);
    world.init(PASSWORD).unwrap();
    let key = ObjectName::Pack(ObjectHash::of(&[b"x"])).key();
    world.targets[0].put(&key, &[b"x"]).unwrap();
    world.targets[0].delete(&config_key()).unwrap();
    assert_eq!(world.init(PASSWORD).unwrap_err().kind(), ErrorKind::AlreadyExists);
    let (_state, elsewhere) = world.elsewhere();
    let error = Repository::open("mem:a", &elsewhere, Unlock::Nothing, &Collector::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Damage, "{error}");
}

#[test]
fn two_at_once_make_one_repository() {
    for _ in 0..20 {
        let world = World::new(&["a", "b", "c"]);
        let (_one, first) = world.elsewhere();
        let (_two, second) = world.elsewhere();
        let urls = world.urls();
        let reversed: Vec<_> = urls.iter().rev().cloned().collect();
        let make = |urls: &[String], options: &OpenOptions| {
            Repository::init(urls, options, PASSWORD, &InitOptions::default()).map(|made| made.id())
        };
        let results = std::thread::scope(|scope| {
            let a = scope.spawn(|| make(&urls, &first));
            let b = scope.spawn(|| make(&reversed, &second));
            [a.join().unwrap(), b.join().unwrap()]
        });
        let made: Vec<_> = results.into_iter().flatten().collect();
        assert_eq!(made.len(), 1);
        for target in &world.targets {
            let config = Config::decode(&target.get(&config_key()).unwrap()).unwrap();
            assert_eq!(config.config.repository, made[0]);
            assert_eq!(target.objects().len(), 2, "the loser's key is gone");
        }
    }
}
