//! Damage: found, named, healed from the others; and everything lost but one target.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::compare::same;
use crate::run::text;
use crate::sandbox::{Sandbox, expect};
use crate::tree::{Random, change, copy, files, fill, oddities};

/// Ways to hurt an object.
#[derive(Clone, Copy, Debug)]
enum Harm {
    Flip,
    Cut,
    Empty,
    Delete,
    Grow,
    Swap,
}

const HARMS: [Harm; 6] = [Harm::Flip, Harm::Cut, Harm::Empty, Harm::Delete, Harm::Grow, Harm::Swap];

fn hurt(object: &Path, harm: Harm, random: &mut Random) {
    let mut bytes = fs::read(object).unwrap();
    match harm {
        Harm::Flip => {
            let at = random.below(bytes.len());
            bytes[at] ^= 1 << random.below(8);
        }
        Harm::Cut => bytes.truncate(bytes.len() / 2),
        Harm::Empty => bytes.clear(),
        Harm::Delete => return fs::remove_file(object).unwrap(),
        Harm::Grow => bytes.push(0),
        // Another object's bytes under this name, as a confused file system gives them.
        Harm::Swap => bytes = random.noise(bytes.len()),
    }
    fs::write(object, bytes).unwrap();
}

/// Every object of a target, by its key.
fn objects(target: &Path) -> BTreeSet<PathBuf> {
    files(target)
        .into_iter()
        .map(|file| file.strip_prefix(target).unwrap().to_owned())
        .filter(|key| !key.starts_with("aside"))
        .collect()
}

/// A repository on three targets with two snapshots, and what they held.
fn three_targets() -> (Sandbox, Vec<(String, PathBuf)>) {
    let sandbox = Sandbox::new();
    fill(&sandbox.tree(), 60, &mut Random::new(3));
    oddities(&sandbox.tree());
    sandbox.init(&["b", "c"]);
    let mut made = Vec::new();
    for round in 1..=2 {
        change(&sandbox.tree(), round);
        let then = sandbox.path(format!("then-{round}"));
        let id = sandbox.backup();
        copy(&sandbox.tree(), &then);
        made.push((id, then));
    }
    (sandbox, made)
}

#[test]
fn three_targets_each_damaged_in_every_kind_of_object_heal_each_other() {
    let (sandbox, made) = three_targets();
    let names = ["a", "b", "c"];
    let keys: Vec<PathBuf> = objects(&sandbox.target("a")).into_iter().collect();
    let mut random = Random::new(4);
    let mut kinds: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (number, key) in keys.iter().enumerate() {
        // Good on one target, hurt in two ways on the others; every target is hurt in every kind of object in turn.
        for (offset, harm) in [(1, HARMS[number % 6]), (2, HARMS[(number / 3 + 2) % 6])] {
            let name = names[(number + offset) % 3];
            hurt(&sandbox.target(name).join(key), harm, &mut random);
            let kind = key.iter().next().unwrap().to_string_lossy().into_owned();
            kinds.entry(kind).or_default().insert(name.to_owned());
        }
    }
    for kind in ["config", "keys", "packs", "segments", "complete"] {
        assert!(kinds.contains_key(kind), "no {kind} among {kinds:?}");
    }
    // What is only looked at is left as it is.
    sandbox.expect(20, ["verify", "--read-data"]);
    let report = sandbox.expect(21, ["verify", "--heal"]);
    assert!(!text(&report.stdout).is_empty());
    sandbox.expect(0, ["verify", "--read-data"]);
    for name in names {
        for key in &keys {
            let good = fs::read(sandbox.target("a").join(key)).unwrap();
            assert!(fs::read(sandbox.target(name).join(key)).unwrap() == good, "{name}/{}", key.display());
        }
    }
    // Everything else gone, each target has it all.
    fs::remove_dir_all(sandbox.path("state")).unwrap();
    for name in names {
        let away: Vec<_> = names.iter().filter(|other| **other != name).collect();
        for other in &away {
            fs::rename(sandbox.target(other), sandbox.path(format!("away-{other}"))).unwrap();
        }
        for (id, then) in &made {
            same(then, &sandbox.restore_on(name, &format!("fresh-{name}"), id));
        }
        for other in &away {
            fs::rename(sandbox.path(format!("away-{other}")), sandbox.target(other)).unwrap();
        }
    }
}

#[test]
fn what_no_target_holds_is_named_and_stored_again_by_the_next_backup() {
    let sandbox = Sandbox::new();
    let file = sandbox.tree().join("precious");
    fs::write(&file, Random::new(5).noise(300_000)).unwrap();
    sandbox.init(&["b"]);
    let id = sandbox.backup();
    for name in ["a", "b"] {
        for pack in files(&sandbox.target(name).join("packs")) {
            hurt(&pack, Harm::Flip, &mut Random::new(u64::from(name.as_bytes()[0])));
            // Whatever byte that was: no frame may be left.
            let length = fs::metadata(&pack).unwrap().len();
            fs::write(&pack, Random::new(6).noise(usize::try_from(length).unwrap())).unwrap();
        }
    }
    let report = sandbox.expect(20, ["verify", "--heal"]);
    let said = format!("{}{}", text(&report.stdout), text(&report.stderr));
    assert!(said.contains("precious"), "{said}");
    let out = sandbox.path("out");
    sandbox.expect(20, ["restore".as_ref(), id.as_ref(), "--target".as_ref(), out.as_os_str()]);
    // Never a wrong byte: the file is absent, or what is there of it is not passed off as the file.
    let restored = crate::sandbox::below(&out, &file);
    if restored.exists() {
        assert!(fs::read(&restored).unwrap() == fs::read(&file).unwrap());
    }
    // The source still holds the bytes; a touch makes the next backup look.
    fs::File::options().write(true).open(&file).unwrap().set_modified(std::time::SystemTime::now()).unwrap();
    sandbox.backup();
    copy(&sandbox.tree(), &sandbox.path("then"));
    same(&sandbox.path("then"), &sandbox.restore("latest"));
}

#[test]
fn verify_needs_no_password_to_tell_good_from_bad() {
    let (sandbox, _) = three_targets();
    let without = |args: &[&str]| {
        let mut command = sandbox.command(args);
        command.env_remove("VERSIONS_PASSWORD");
        command
    };
    expect(0, without(&["verify", "--read-data"]));
    let pack = files(&sandbox.target("b").join("packs")).remove(0);
    hurt(&pack, Harm::Flip, &mut Random::new(7));
    let report = expect(20, without(&["verify", "--read-data"]));
    let name = pack.file_name().unwrap().to_str().unwrap();
    let said = format!("{}{}", text(&report.stdout), text(&report.stderr));
    assert!(said.contains(name) && said.contains("target-b"), "{said}");
}

#[test]
fn a_damaged_object_is_read_from_another_target() {
    let (sandbox, made) = three_targets();
    let mut random = Random::new(8);
    for pack in files(&sandbox.target("a").join("packs")) {
        hurt(&pack, Harm::Flip, &mut random);
    }
    for (id, then) in &made {
        let out = sandbox.path(format!("out-{id}"));
        // All is restored; that a target holds damage is said by the exit code or not at all, never by less.
        let mut command =
            sandbox.command(["restore".as_ref(), id.as_ref(), "--target".as_ref(), out.as_os_str()]);
        let output = command.output().unwrap();
        assert!(matches!(output.status.code(), Some(0 | 20)), "{output:?}");
        same(then, &crate::sandbox::below(&out, &sandbox.tree()));
    }
}

#[test]
fn a_new_target_is_filled_by_mirror_and_an_absent_one_is_caught_up() {
    let sandbox = Sandbox::new();
    fill(&sandbox.tree(), 30, &mut Random::new(9));
    sandbox.init(&[]);
    let first = sandbox.backup();
    sandbox.expect(0, ["target".as_ref(), "add".as_ref(), sandbox.target("b").as_os_str()]);
    sandbox.expect(0, ["mirror"]);
    same(&sandbox.tree(), &sandbox.restore_on("b", "other", &first));

    // One target is away: said, not fatal, caught up later.
    fs::rename(sandbox.target("b"), sandbox.path("away")).unwrap();
    change(&sandbox.tree(), 1);
    let output = sandbox.expect(22, ["backup".into(), sandbox.tree()]);
    assert!(text(&output.stderr).contains("target-b"), "{}", text(&output.stderr));
    let second = sandbox.snapshots().pop().unwrap();
    fs::rename(sandbox.path("away"), sandbox.target("b")).unwrap();
    let third = sandbox.backup();
    fs::rename(sandbox.target("a"), sandbox.path("away")).unwrap();
    let ids = crate::sandbox::snapshots_of(&sandbox.expect_on("b", "third", 0, ["snapshots", "--json"]));
    assert_eq!(ids, [first, second.clone(), third]);
    copy(&sandbox.tree(), &sandbox.path("then"));
    same(&sandbox.path("then"), &sandbox.restore_on("b", "third", &second));
}
