//! Promises of a directory as a target that other targets cannot break.

use std::os::unix::fs::symlink;
use std::time::SystemTime;

use super::directory::FILE_MODE;
use super::directory::tests::LOG;
use super::*;
use crate::target::conformance;

fn key(text: &str) -> ObjectKey {
    ObjectKey::new(text).unwrap()
}

fn fresh() -> (tempfile::TempDir, LocalTarget) {
    let dir = tempfile::tempdir().unwrap();
    let target = LocalTarget::create(&dir.path().join("a/b")).unwrap();
    (dir, target)
}

#[test]
fn behaves_as_a_target() {
    conformance::check(&|| {
        let (dir, target) = fresh();
        (Box::new(dir), Box::new(target))
    });
}

#[test]
fn a_missing_directory_is_not_made_by_opening() {
    let dir = tempfile::tempdir().unwrap();
    let error = LocalTarget::open(&dir.path().join("none")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    std::fs::write(dir.path().join("file"), b"").unwrap();
    let error = LocalTarget::open(&dir.path().join("file")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Target);
}

#[test]
fn links_are_never_followed() {
    let (dir, target) = fresh();
    let outside = dir.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("x"), b"precious").unwrap();
    let root = dir.path().join("a/b");
    symlink(&outside, root.join("packs")).unwrap();
    symlink(outside.join("x"), root.join("config")).unwrap();
    assert_eq!(target.get(&key("packs/x")).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(target.get(&key("config")).unwrap_err().kind(), ErrorKind::NotFound);
    assert!(target.put(&key("packs/y"), &[b"new"]).is_err());
    assert!(target.list("").unwrap().is_empty());
    // A put over a link replaces the link, not what it points to.
    target.put(&key("config"), &[b"mine"]).unwrap();
    assert_eq!(std::fs::read(outside.join("x")).unwrap(), b"precious");
    assert_eq!(target.get(&key("config")).unwrap(), b"mine");
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 1);
}

#[test]
fn a_fifo_in_an_objects_place_does_not_hang() {
    let (dir, target) = fresh();
    let path = dir.path().join("a/b/config");
    rustix::fs::mknodat(rustix::fs::CWD, &path, FileType::Fifo, FILE_MODE, 0).unwrap();
    assert_eq!(target.get(&key("config")).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(target.length(&key("config")).unwrap(), None);
    let aside = target.set_aside(&key("config")).unwrap();
    assert_eq!(aside.as_str(), "aside/config");
    target.put_new(&key("config"), &[b"good"]).unwrap();
}

#[test]
fn a_directory_that_was_removed_is_no_empty_target() {
    let (dir, target) = fresh();
    target.put(&key("packs/ab/cd"), &[b"x"]).unwrap();
    std::fs::remove_dir_all(dir.path().join("a")).unwrap();
    assert_eq!(target.list("").unwrap_err().kind(), ErrorKind::Target);
    assert_eq!(target.length(&key("packs/ab/cd")).unwrap_err().kind(), ErrorKind::Target);
    assert!(target.put(&key("packs/ab/cd"), &[b"x"]).is_err());
}

#[test]
fn unfinished_objects_go_only_when_old() {
    let (dir, target) = fresh();
    let temporary = dir.path().join("a/b/.tmp");
    std::fs::create_dir(&temporary).unwrap();
    for (name, age) in [("young", 60), ("old", 60 * 60 * 25)] {
        let file = File::create(temporary.join(name)).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(age)).unwrap();
    }
    target.put(&key("config"), &[b"x"]).unwrap();
    assert!(temporary.join("young").exists());
    assert!(!temporary.join("old").exists());
    assert_eq!(std::fs::read_dir(&temporary).unwrap().count(), 1, "the put left nothing there");
    assert_eq!(target.list("").unwrap().len(), 1);
}

#[test]
fn foreign_files_are_not_listed() {
    let (dir, target) = fresh();
    let root = dir.path().join("a/b");
    std::fs::create_dir(root.join("lost+found")).unwrap();
    std::fs::write(root.join("lost+found/x"), b"").unwrap();
    std::fs::write(root.join("README"), b"").unwrap();
    std::fs::write(root.join(".hidden"), b"").unwrap();
    assert!(target.list("").unwrap().is_empty());
}

/// What the calls of `act` were, in order.
fn calls(act: impl FnOnce()) -> Vec<String> {
    LOG.with_borrow_mut(Vec::clear);
    act();
    LOG.with_borrow_mut(std::mem::take)
}

#[test]
fn what_is_put_is_durable_before_its_name_and_its_name_before_the_answer() {
    let (dir, target) = fresh();
    let object = key("packs/ab/cd");
    let write = ["write", "sync temporary"];
    let first = calls(|| target.put(&object, &[b"x"]).unwrap());
    let made = ["make packs", "sync /", "make ab", "sync packs/", "rename to cd", "sync packs/ab/"];
    assert_eq!(first, [&["make .tmp", "sync /"], &write[..], &made].concat());
    let second = calls(|| target.put(&key("packs/ab/ce"), &[b"x"]).unwrap());
    assert_eq!(second, [&write[..], &["rename to ce", "sync packs/ab/"]].concat());
    // Another process does not know that the directories are durable, though they are there.
    let other = LocalTarget::open(&dir.path().join("a/b")).unwrap();
    let third = calls(|| other.put_new(&key("packs/ab/cf"), &[b"x"]).unwrap());
    let made = ["make ab", "sync packs/", "rename to new cf", "sync packs/ab/"];
    assert_eq!(third, [&["make .tmp", "sync /"], &write[..], &made].concat());
}

#[test]
fn what_is_there_already_is_durable_before_the_answer() {
    let (dir, target) = fresh();
    target.put(&key("packs/ab/cd"), &[b"x"]).unwrap();
    let other = LocalTarget::open(&dir.path().join("a/b")).unwrap();
    let again = calls(|| other.put(&key("packs/ab/cd"), &[b"x"]).unwrap());
    assert_eq!(
        again,
        ["make packs", "sync /", "make ab", "sync packs/", "sync packs/ab/cd", "sync packs/ab/"]
    );
}

#[test]
fn what_is_set_aside_or_removed_is_so_for_the_disk_too() {
    let (_dir, target) = fresh();
    target.put(&key("packs/ab/cd"), &[b"x"]).unwrap();
    let aside = calls(|| drop(target.set_aside(&key("packs/ab/cd")).unwrap()));
    assert_eq!(aside, ["make aside", "sync /", "rename to new packs_ab_cd", "sync aside/", "sync packs/ab/"]);
    let removed = calls(|| target.delete(&key("aside/packs_ab_cd")).unwrap());
    assert_eq!(removed, ["remove packs_ab_cd", "sync aside/"]);
}

#[test]
fn a_failed_put_leaves_nothing_unfinished() {
    let (dir, target) = fresh();
    std::fs::create_dir_all(dir.path().join("a/b/packs/ab/cd")).unwrap();
    assert!(target.put(&key("packs/ab/cd"), &[b"x"]).is_err(), "a directory is in its place");
    assert_eq!(std::fs::read_dir(dir.path().join("a/b/.tmp")).unwrap().count(), 0);
    assert_eq!(target.set_aside(&key("packs/ab/cd")).unwrap().as_str(), "aside/packs_ab_cd");
    target.put(&key("packs/ab/cd"), &[b"x"]).unwrap();
}

#[test]
fn a_full_disk_is_told_from_a_broken_one() {
    let kind = |errno: Errno| io_error(errno.into(), String::new()).kind();
    assert_eq!(kind(Errno::NOSPC), ErrorKind::TargetFull);
    assert_eq!(kind(Errno::DQUOT), ErrorKind::TargetFull);
    for errno in [Errno::IO, Errno::NOENT, Errno::ROFS, Errno::ACCESS, Errno::STALE, Errno::FBIG] {
        assert_eq!(kind(errno), ErrorKind::Target, "{errno:?}");
    }
}
