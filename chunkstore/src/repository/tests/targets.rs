//! Targets: added, removed, begun anew.

use super::*;

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
