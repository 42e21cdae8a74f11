//! Making, opening and changing repositories, on good, absent, damaged and false targets.

use std::collections::BTreeSet;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::complete::Complete;
use super::config::{Config, Mode};
use super::connect::tests::Named;
use super::key::{KeyRemoval, PasswordCost};
use super::layout::ObjectName;
use super::state::StateDirectory;
use super::*;
use crate::id::WriterId;
use crate::monitor::{Collector, FaultSide, Monitor};
use crate::target::ObjectKey;
use crate::target::fault::{Fault, FaultTarget, Rule};
use crate::target::mem::MemTarget;

pub(crate) const PASSWORD: Protection<'static> =
    Protection::Password { password: b"secret", label: "me@here", cost: PasswordCost::LEAST };

pub(crate) struct World {
    pub(crate) targets: Vec<Arc<MemTarget>>,
    pub(crate) connect: Arc<Named>,
    pub(crate) options: OpenOptions,
    _state: tempfile::TempDir,
}

impl World {
    pub(crate) fn new(names: &[&str]) -> Self {
        let targets: Vec<_> = names.iter().map(|name| MemTarget::new(name)).collect();
        let connect = Named::new(targets.iter().map(|target| Arc::clone(target) as Arc<dyn Target>));
        let state = crate::testing::state_dir();
        let mut options = OpenOptions::new(StateDirectory::new(state.path().join("state")));
        options.connect = connect.clone();
        Self { targets, connect, options, _state: state }
    }

    pub(crate) fn urls(&self) -> Vec<String> {
        self.targets.iter().map(|target| target.url().to_owned()).collect()
    }

    pub(crate) fn init(&self, protection: Protection<'_>) -> Result<Repository> {
        Repository::init(&self.urls(), &self.options, protection, &InitOptions::default())
    }

    pub(crate) fn open(&self, index: usize, monitor: &dyn Monitor) -> Result<Repository> {
        self.open_with(index, b"secret", monitor)
    }

    pub(crate) fn open_with(
        &self,
        index: usize,
        password: &[u8],
        monitor: &dyn Monitor,
    ) -> Result<Repository> {
        let mut ask = once(password);
        Repository::open(self.targets[index].url(), &self.options, Unlock::Password(&mut ask), monitor)
    }

    /// As on a machine that has never seen the repository.
    pub(crate) fn elsewhere(&self) -> (tempfile::TempDir, OpenOptions) {
        let state = crate::testing::state_dir();
        let mut options = OpenOptions::new(StateDirectory::new(state.path()));
        options.connect = self.connect.clone();
        (state, options)
    }
}

pub(crate) fn once(password: &[u8]) -> impl FnMut(u32) -> Result<Option<Zeroizing<Vec<u8>>>> {
    let password = password.to_vec();
    move |attempt| Ok((attempt == 1).then(|| Zeroizing::new(password.clone())))
}

fn config_key() -> ObjectKey {
    ObjectName::Config.key()
}

fn mark(sequence: u64) -> Complete {
    Complete { writer: WriterId::from_bytes([5; 16]), sequence, segment: ObjectHash::of(&[b"s"]) }
}

fn sides(monitor: &Collector) -> Vec<FaultSide> {
    monitor.faults().iter().map(|fault| fault.side).collect()
}

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

#[test]
fn targets_are_added_and_removed() {
    let world = World::new(&["a"]);
    let made = world.init(PASSWORD).unwrap();
    let monitor = Collector::default();
    world.targets[0].put(&ObjectName::Pack(ObjectHash::of(&[b"x"])).key(), &[b"x"]).unwrap();
    let second = MemTarget::new("b");
    world.connect.insert(second.clone());
    let mut opened = world.open(0, &monitor).unwrap();
    assert_eq!(opened.remove_target("mem:a").unwrap_err().kind(), ErrorKind::InvalidArgument, "the only one");
    opened.add_target("mem:b", &monitor).unwrap();
    assert_eq!(opened.add_target("mem:b", &monitor).unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert_eq!(second.objects().len(), 2, "config and key; the rest comes with the next backup");
    assert_eq!(second.get(&config_key()).unwrap(), made.config_bytes());
    let list: Vec<_> = world.open(0, &monitor).unwrap().target_list().unwrap();
    assert_eq!(list.iter().map(|info| info.url.as_str()).collect::<Vec<_>>(), ["mem:a", "mem:b"]);
    opened.remove_target("mem:a").unwrap();
    assert_eq!(opened.remove_target("mem:a").unwrap_err().kind(), ErrorKind::NotFound);
    let by_name = world.open(0, &monitor).unwrap();
    assert!(!by_name.targets()[0].is_listed(), "named for this run, and not added again");
    assert_eq!(by_name.targets().len(), 2);
    assert_eq!(world.targets[0].objects().len(), 3, "its objects stay");
}

#[test]
fn a_target_of_another_repository_is_not_added() {
    let world = World::new(&["a"]);
    world.init(PASSWORD).unwrap();
    let other = World::new(&["b"]);
    other.init(PASSWORD).unwrap();
    world.connect.insert(other.targets[0].clone());
    let monitor = Collector::default();
    let mut opened = world.open(0, &monitor).unwrap();
    let before = other.targets[0].objects();
    assert_eq!(opened.add_target("mem:b", &monitor).unwrap_err().kind(), ErrorKind::NotTheSame);
    other.targets[0].put(&ObjectName::Pack(ObjectHash::of(&[b"x"])).key(), &[b"x"]).unwrap();
    other.targets[0].delete(&config_key()).unwrap();
    assert_eq!(opened.add_target("mem:b", &monitor).unwrap_err().kind(), ErrorKind::Damage);
    assert_eq!(other.targets[0].objects().len(), before.len());
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

#[test]
fn a_dead_target_is_reported_once_and_asked_no_more() {
    let world = World::new(&["a", "b"]);
    let faulty = FaultTarget::new(world.targets[0].clone());
    world.connect.insert(faulty.clone());
    world.init(PASSWORD).unwrap();
    let name = ObjectName::Pack(ObjectHash::of(&[b"x"]));
    world.targets[1].put(&name.key(), &[b"x"]).unwrap();
    let monitor = Collector::default();
    let opened = world.open(0, &monitor).unwrap();
    faulty.clear();
    faulty.add(Rule::dies_after(0));
    for _ in 0..3 {
        assert_eq!(opened.read(&name, &monitor).unwrap(), b"x");
    }
    assert_eq!(sides(&monitor), [FaultSide::Target]);
    assert_eq!(faulty.calls(), 1);
}

#[test]
fn a_target_that_lost_everything_is_begun_anew_only_when_told_to() {
    let world = World::new(&["a", "b"]);
    world.init(PASSWORD).unwrap();
    let monitor = Collector::default();
    mark(8).put(&*world.targets[1]).unwrap();
    world.open(0, &monitor).unwrap().notice_ages(&monitor).unwrap();
    world.targets[1].set_objects(crate::target::mem::Objects::default());
    let mut opened = world.open(0, &monitor).unwrap();
    assert!(opened.targets()[1].get().is_err(), "it may be a disk that is not mounted");
    assert!(world.targets[1].objects().is_empty());
    opened.add_target("mem:b", &monitor).unwrap();
    assert_eq!(world.targets[1].objects(), world.targets[0].objects());
    assert_eq!(opened.targets().len(), 2);
    let opened = world.open(1, &monitor).unwrap();
    assert!(opened.notice_ages(&monitor).unwrap().is_empty(), "what was seen there once is of no account");
}

/// Whoever can write to a target can put a key there that takes hours to try, or more memory than there is.
#[test]
fn a_dear_key_that_somebody_put_there_does_not_stand_before_the_good_ones() {
    let world = World::new(&["a"]);
    let made = world.init(PASSWORD).unwrap();
    let key = ObjectName::Key(made.opened_by().unwrap());
    let mut bytes = world.targets[0].objects()[&key.key()].to_vec();
    let least: Vec<u8> = [8u32, 1, 1].iter().flat_map(|number| number.to_le_bytes()).collect();
    let place = bytes.windows(12).position(|window| window == least).unwrap();
    bytes[place..place + 4].copy_from_slice(&PasswordCost::MEMORY_KIB_MAX.to_le_bytes());
    bytes[place + 4..place + 8].copy_from_slice(&PasswordCost::PASSES_MAX.to_le_bytes());
    // The newest of all: behind the label.
    let created = bytes.windows(7).position(|window| window == b"me@here").unwrap() + 9;
    bytes[created..created + 8].copy_from_slice(&(i64::MAX / 2).to_le_bytes());
    let end = bytes.len() - 32;
    let hash = blake3::hash(&bytes[..end]);
    bytes[end..].copy_from_slice(hash.as_bytes());
    let name = ObjectName::Key(ObjectHash::of(&[&bytes]));
    world.targets[0].tamper(|objects| {
        objects.insert(name.key(), bytes.into());
    });
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
    let mut bytes = world.targets[0].objects()[&key.key()].to_vec();
    bytes[8] = 2;
    let end = bytes.len() - 32;
    let hash = blake3::hash(&bytes[..end]);
    bytes[end..].copy_from_slice(hash.as_bytes());
    let name = ObjectName::Key(ObjectHash::of(&[&bytes]));
    world.targets[0].tamper(|objects| {
        objects.insert(name.key(), bytes.into());
    });
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
