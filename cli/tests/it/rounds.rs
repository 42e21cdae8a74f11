//! Five rounds of change and backup to two targets; then every snapshot is restored from each and compared.

use std::fs;

use crate::compare::same;
use crate::sandbox::Sandbox;
use crate::tree::{Random, age, change, copy, files, fill, oddities};

#[test]
fn every_snapshot_of_five_rounds_restores_exactly_from_each_target() {
    let sandbox = Sandbox::new();
    let tree = sandbox.tree();
    fill(&tree, 120, &mut Random::new(1));
    oddities(&tree);
    sandbox.init(&["b"]);
    let mut made = Vec::new();
    for round in 1..=5 {
        if round > 1 {
            change(&tree, round);
        }
        made.push(sandbox.backup());
        copy(&tree, &sandbox.path(format!("then-{round}")));
    }
    assert_eq!(sandbox.snapshots(), made);
    for (round, id) in (1..).zip(&made) {
        let then = sandbox.path(format!("then-{round}"));
        same(&then, &sandbox.restore(id));
        // Another machine, which knows the second target only.
        same(&then, &sandbox.restore_on("b", "other-state", id));
    }
    sandbox.expect(0, ["verify", "--read-data"]);
}

#[test]
fn an_unchanged_backup_stores_next_to_nothing() {
    let sandbox = Sandbox::new();
    fill(&sandbox.tree(), 400, &mut Random::new(2));
    for file in files(&sandbox.tree()) {
        age(&file);
    }
    sandbox.init(&[]);
    sandbox.backup();
    let size =
        || files(&sandbox.target("a")).iter().map(|file| fs::metadata(file).unwrap().len()).sum::<u64>();
    let before = size();
    let output = sandbox.expect(0, ["backup".into(), "--json".into(), sandbox.tree()]);
    let lines = crate::sandbox::lines(&output.stdout);
    let summary = crate::sandbox::message(&lines, "summary");
    assert_eq!(summary["files_new"], 0);
    assert_eq!(summary["files_changed"], 0);
    assert_eq!(summary["files_unmodified"], 400);
    assert!(size() - before < 16 * 1024, "{} bytes more", size() - before);
}
