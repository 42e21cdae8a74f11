//! Passwords: what they cost, and what is said of their keys.

use std::fs;

use serde_json::Value;

use crate::run::text;
use crate::sandbox::{Sandbox, expect, lines, message};

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

#[test]
fn what_was_done_to_a_key_is_told_to_programs() {
    let sandbox = Sandbox::new();
    sandbox.init(&[]);
    let file = sandbox.path("new-password");
    fs::write(&file, "second").unwrap();
    let said = |args: &[&str], message_type: &str| {
        let mut command = sandbox.command(["key", "--json"]);
        command.args(args);
        if !args.contains(&"remove") {
            command.arg("--new-password-file").arg(&file);
        }
        let said = lines(&expect(0, command).stdout);
        assert_eq!(said.len(), 1, "{said:?}");
        message(&said, message_type).clone()
    };
    let added = said(&["add", "--user", "ada", "--host", "engine"], "key_added");
    assert_eq!(added["label"], "ada@engine");
    let removed = said(&["remove", added["id"].as_str().unwrap()], "key_removed");
    assert_eq!((&removed["id"], &removed["label"]), (&added["id"], &added["label"]));
    fs::write(&file, "correct horse").unwrap();
    let changed = said(&["passwd", "--user", "ada"], "key_changed");
    let keys: Vec<Value> =
        serde_json::from_slice(&sandbox.expect(0, ["key", "list", "--json"]).stdout).unwrap();
    assert_eq!(keys.len(), 1);
    assert_eq!(keys[0]["id"], changed["id"]);
}

#[test]
fn a_label_does_not_drive_the_terminal() {
    let sandbox = Sandbox::new();
    sandbox.init(&[]);
    let file = sandbox.path("new-password");
    fs::write(&file, "second").unwrap();
    let mut add = sandbox.command(["key", "add", "--user", "\x1b[31mada", "--new-password-file"]);
    add.arg(&file);
    let said = text(&expect(0, add).stdout);
    let id = said.split_whitespace().nth(2).unwrap();
    assert!(said.contains(r"\x1b[31mada"), "{said}");
    let said = text(&sandbox.expect(0, ["key", "remove", id]).stdout);
    assert!(said.contains(r"\x1b[31mada") && !said.contains('\x1b'), "{said}");
}
