//! Passwords: what they cost.

use std::fs;

use serde_json::Value;

use crate::run::text;
use crate::sandbox::{Sandbox, expect};

#[test]
fn what_a_password_costs_is_chosen_and_shown() {
    let sandbox = Sandbox::new();
    sandbox.init(&[]);
    let file = sandbox.path("new-password");
    fs::write(&file, "correct horse").unwrap();
    let file_flag = ["--new-password-file", file.to_str().unwrap()];
    let costs = || {
        let keys: Vec<Value> =
            serde_json::from_slice(&sandbox.expect(0, ["key", "list", "--json"]).stdout).unwrap();
        let figures = |key: &Value| ["memory_kib", "passes", "lanes"].map(|name| key[name].as_u64().unwrap());
        keys.iter().map(figures).collect::<Vec<_>>()
    };
    assert_eq!(costs(), [[19 << 10, 2, 1]]);
    sandbox.expect(0, [&["key", "passwd", "--password-cost", "high"][..], &file_flag].concat());
    assert_eq!(costs(), [[64 << 10, 3, 1]]);
    sandbox.expect(0, [&["key", "add"][..], &file_flag].concat());
    let listed = text(&sandbox.expect(0, ["key", "list"]).stdout);
    assert!(listed.contains("64 MiB x3") && listed.contains("19 MiB x2"), "{listed}");
    // A repository that is made on the way takes it too.
    let mut backup = sandbox.command_on("c", "other-state", ["backup", "--init", "--password-cost", "high"]);
    backup.arg(sandbox.tree());
    expect(0, backup);
    let listed = text(&sandbox.expect_on("c", "other-state", 0, ["key", "list"]).stdout);
    assert!(listed.contains("64 MiB x3"), "{listed}");
}
