//! What `verify` tells a person.

use std::fs;

use crate::run::text;
use crate::sandbox::Sandbox;
use crate::tree::{Random, fill};

#[test]
fn a_listing_is_not_taken_for_a_reading() {
    let sandbox = Sandbox::new();
    fill(&sandbox.tree(), 5, &mut Random::new(71));
    sandbox.init(&["b"]);
    sandbox.backup();
    let listed = text(&sandbox.expect(0, ["verify"]).stdout);
    assert!(listed.contains("no errors were found; packs were not read (`--read-data` does)"), "{listed}");
    let read = text(&sandbox.expect(0, ["verify", "--read-data"]).stdout);
    assert!(read.ends_with("no errors were found\n"), "{read}");
}

#[test]
fn who_finds_damage_is_told_what_mends_it() {
    let sandbox = Sandbox::new();
    fill(&sandbox.tree(), 5, &mut Random::new(72));
    sandbox.init(&["b"]);
    sandbox.backup();
    let pack = crate::tree::files(&sandbox.target("a").join("packs")).into_iter().next().unwrap();
    let bytes = fs::read(&pack).unwrap();
    fs::write(&pack, &bytes[1..]).unwrap();
    let found = text(&sandbox.expect(20, ["verify"]).stdout);
    assert!(found.contains("found 1 error; `versions verify --heal`"), "{found}");
    let healed = text(&sandbox.expect(21, ["verify", "--heal"]).stdout);
    assert!(healed.ends_with("found 1 error, and healed all of it\n"), "{healed}");
}

#[test]
fn a_target_that_is_away_is_named_once() {
    let sandbox = Sandbox::new();
    sandbox.init(&["b"]);
    let away = sandbox.target("b");
    fs::remove_dir_all(&away).unwrap();
    let url = away.to_str().unwrap();
    for args in [&["verify"][..], &["target", "list"]] {
        let output = sandbox.command(args).output().unwrap();
        let shown = text(&output.stdout);
        let line = shown.lines().find(|line| line.starts_with(url)).unwrap_or_else(|| panic!("{shown}"));
        assert_eq!(line.matches(url).count(), 1, "{line}");
    }
}
