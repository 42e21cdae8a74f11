//! A piece of the history that no target has any more: the next backup does without it.

use std::fs;

use crate::compare::same;
use crate::run::text;
use crate::sandbox::{Sandbox, below, lines, snapshot_id};
use crate::tree::{Random, age, change, copy, files, fill, oddities};

#[test]
fn after_the_loss_of_a_segment_the_next_snapshot_needs_none_of_the_older() {
    let sandbox = Sandbox::new();
    fill(&sandbox.tree(), 40, &mut Random::new(5));
    oddities(&sandbox.tree());
    fs::write(sandbox.tree().join("large"), Random::new(6).noise(3 << 20)).unwrap();
    let known = sandbox.tree().join("known");
    fs::write(&known, "from the first to the last").unwrap();
    sandbox.init(&[]);
    for round in 1..=3 {
        change(&sandbox.tree(), round);
        sandbox.backup();
    }
    let segments = files(&sandbox.target("a").join("segments"));
    let second = segments
        .iter()
        .find(|file| file.file_name().unwrap().to_str().unwrap().starts_with("0000000000000002-"))
        .unwrap();
    let mut bytes = fs::read(second).unwrap();
    bytes[100] ^= 1;
    fs::write(second, bytes).unwrap();
    // Known to be damaged from now on.
    sandbox.expect(20, ["verify"]);
    age(&known);
    change(&sandbox.tree(), 4);
    let output = sandbox.expect(0, ["backup".into(), "--json".into(), sandbox.tree()]);
    assert!(text(&output.stderr).contains("says everything again"), "{}", text(&output.stderr));
    let then = sandbox.path("then");
    copy(&sandbox.tree(), &then);
    let log: Vec<&std::ffi::OsStr> = vec!["log".as_ref(), known.as_os_str(), "--json".as_ref()];
    let told = lines(&sandbox.expect(0, log).stdout);
    assert_eq!(told[0]["file_id"], told.last().unwrap()["file_id"], "the File is the same");
    assert!(!told.last().unwrap()["changed"].to_string().contains("new"), "{told:?}");
    // Exit code 20: what is damaged on the target is told of, whoever looks.
    let restored = |state: &str, id: &str| {
        let out = sandbox.path(format!("out-{state}-{id}"));
        let args = ["restore".as_ref(), id.as_ref(), "--target".as_ref(), out.as_os_str()];
        sandbox.expect_on("a", state, 20, args);
        same(&then, &below(&out, &sandbox.tree()));
    };
    restored("elsewhere", &snapshot_id(&output));
    // The machine goes on as ever, and so does another one that takes over.
    let next = sandbox.expect(0, ["backup".into(), "--json".into(), sandbox.tree()]);
    assert!(!text(&next.stderr).contains("says everything again"));
    restored("third", &snapshot_id(&next));
}
