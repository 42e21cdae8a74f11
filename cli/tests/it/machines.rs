//! Two machines, one repository.

use std::fs;

use crate::compare::same;
use crate::sandbox::{Sandbox, snapshots_of};
use crate::tree::{Random, copy, fill};

#[test]
fn two_machines_back_up_to_one_repository_at_the_same_time() {
    let sandbox = Sandbox::new();
    let trees = [sandbox.path("one"), sandbox.path("two")];
    for (number, tree) in trees.iter().enumerate() {
        fs::create_dir(tree).unwrap();
        fill(tree, 80, &mut Random::new(31 + u64::try_from(number).unwrap()));
    }
    // Something that both hold: stored by whoever comes first, known to the other later.
    let common = Random::new(33).noise(2_000_000);
    for tree in &trees {
        fs::write(tree.join("common"), &common).unwrap();
    }
    sandbox.init(&["b"]);
    // Each machine knows the targets that it was told of.
    let args = |tree: &std::path::Path, host: &str| {
        let mirror = sandbox.target("b").into_os_string();
        [
            "backup".into(),
            "--mirror".into(),
            mirror,
            "--host".into(),
            host.into(),
            tree.as_os_str().to_owned(),
        ]
    };
    for round in 0..3 {
        for tree in &trees {
            fs::write(tree.join("changing"), format!("round {round}")).unwrap();
        }
        let mut running: Vec<_> = [("state", "one"), ("second-state", "two")]
            .iter()
            .zip(&trees)
            .map(|((state, host), tree)| sandbox.command_on("a", state, args(tree, host)).spawn().unwrap())
            .collect();
        for child in &mut running {
            assert!(child.wait().unwrap().success());
        }
    }
    // Each sees what the other did, and so does a third that has nothing but a target.
    let mut seen = Vec::new();
    for state in ["state", "second-state", "third-state"] {
        let mut ids = snapshots_of(&sandbox.expect_on("b", state, 0, ["snapshots", "--json"]));
        assert_eq!(ids.len(), 6, "{state}");
        ids.sort();
        seen.push(ids);
    }
    assert!(seen.iter().all(|ids| *ids == seen[0]));
    for (host, tree) in ["one", "two"].iter().zip(&trees) {
        let then = sandbox.path(format!("then-{host}"));
        copy(tree, &then);
        for state in ["state", "second-state", "third-state"] {
            let out = sandbox.path(format!("out-{host}-{state}"));
            sandbox.expect_on(
                "a",
                state,
                0,
                [
                    "restore".as_ref(),
                    "latest".as_ref(),
                    "--host".as_ref(),
                    host.as_ref(),
                    "-t".as_ref(),
                    out.as_os_str(),
                ],
            );
            same(&then, &crate::sandbox::below(&out, tree));
        }
    }
    sandbox.expect(0, ["verify", "--read-data"]);
}

#[test]
fn a_lost_or_torn_local_state_is_made_again_by_itself() {
    let sandbox = Sandbox::new();
    fill(&sandbox.tree(), 40, &mut Random::new(34));
    sandbox.init(&["b"]);
    let first = sandbox.backup();
    copy(&sandbox.tree(), &sandbox.path("then"));
    fs::remove_dir_all(sandbox.path("state")).unwrap();
    same(&sandbox.path("then"), &sandbox.restore(&first));
    let second = sandbox.backup();
    // Every file of the state damaged in turn: found, made again, never believed.
    let state = crate::tree::files(&sandbox.path("state"));
    assert!(!state.is_empty());
    for file in state {
        let Ok(mut bytes) = fs::read(&file) else { continue };
        if bytes.is_empty() {
            continue;
        }
        let at = bytes.len() / 2;
        bytes[at] ^= 0x10;
        fs::write(&file, &bytes).unwrap();
        assert_eq!(sandbox.snapshots(), [first.clone(), second.clone()], "{}", file.display());
        same(&sandbox.path("then"), &sandbox.restore(&first));
    }
    sandbox.expect(0, ["rebuild"]);
    assert_eq!(sandbox.snapshots(), [first, second]);
}
