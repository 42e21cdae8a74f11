//! What is asked for makes no sense: it is said, and nothing is done.

use std::fs;

use crate::run::text;
use crate::sandbox::{Sandbox, expect};

#[test]
fn an_empty_pattern_is_a_mistake() {
    let sandbox = Sandbox::new();
    fs::write(sandbox.tree().join("a"), "a").unwrap();
    sandbox.init(&[]);
    sandbox.backup();
    let out = sandbox.path("out");
    for (flag, pattern) in [("--include", ""), ("--exclude", ""), ("--include", "#a")] {
        let mut restore = sandbox.command(["restore", "latest", flag, pattern, "--target"]);
        restore.arg(&out);
        let said = text(&expect(1, restore).stderr);
        assert!(said.contains(flag) && said.contains("gitignore"), "{said}");
        assert!(!out.exists());
    }
    let mut backup = sandbox.command(["backup", "--exclude", ""]);
    backup.arg(sandbox.tree());
    expect(1, backup);
    assert_eq!(sandbox.snapshots().len(), 1);
}
