//! What is told while something goes on: names, progress, each item; and what is asked first.

use std::fs;
use std::os::unix::ffi::OsStrExt;

use serde_json::Value;

use crate::run::text;
use crate::sandbox::{Sandbox, expect, lines, message};
use crate::tree::{Random, fill};

/// The lines of standard output that tell of an item.
fn items(said: &str, action: &str) -> Vec<String> {
    said.lines().filter_map(|line| line.strip_prefix(action)).map(|line| line.trim().to_owned()).collect()
}

#[test]
fn names_that_would_drive_the_terminal_are_escaped_wherever_they_are_told() {
    let sandbox = Sandbox::new();
    let name = std::ffi::OsStr::from_bytes(b"red\x1b[31m\nno text\xff");
    fs::write(sandbox.tree().join(name), "x").unwrap();
    sandbox.init(&[]);
    let shown = "red\\x1b[31m\\nno text\\xff";
    let stored = sandbox.expect(0, ["backup".into(), "-v".into(), sandbox.tree()]);
    let out = sandbox.path("out");
    let restored = sandbox
        .expect(0, ["restore".as_ref(), "latest".as_ref(), "-v".as_ref(), "-t".as_ref(), out.as_os_str()]);
    let missing = sandbox.tree().join(std::ffi::OsStr::from_bytes(b"missing\x1b\xff"));
    let partial = sandbox.expect(3, ["backup".into(), sandbox.tree(), missing]);
    for output in [&stored, &restored, &partial] {
        let said = [text(&output.stdout), text(&output.stderr)].concat();
        assert!(!said.contains('\x1b'), "{said:?}");
        assert!(said.contains(shown) || said.contains("missing\\x1b\\xff"), "{said:?}");
    }
}

#[test]
fn each_item_is_told_when_that_is_wanted() {
    let sandbox = Sandbox::new();
    fs::write(sandbox.tree().join("old"), "old").unwrap();
    sandbox.init(&[]);
    // What changed in the moment of a backup is read again by the next, and another way to be found unchanged.
    std::thread::sleep(std::time::Duration::from_millis(100));
    sandbox.backup();
    fs::write(sandbox.tree().join("young"), "young").unwrap();
    let ends_with = |lines: &[String], end: &str| lines.iter().any(|line| line.contains(end));
    for dry in [&["--dry-run"][..], &[]] {
        let run = |verbose: &str| {
            let mut args: Vec<std::ffi::OsString> = vec!["backup".into(), verbose.into()];
            args.extend(dry.iter().map(Into::into));
            args.push(sandbox.tree().into());
            text(&sandbox.expect(0, args).stdout)
        };
        let said = run("-v");
        assert!(ends_with(&items(&said, "new"), "/young"), "{dry:?} {said}");
        assert!(items(&said, "unchanged").is_empty(), "{dry:?} {said}");
    }
    let said = text(&sandbox.expect(0, ["backup".into(), "-vv".into(), sandbox.tree()]).stdout);
    assert!(ends_with(&items(&said, "unchanged"), "/old, 3 B"), "{said}");
}

#[test]
fn progress_is_measured_by_the_last_snapshot_and_by_what_is_restored() {
    let sandbox = Sandbox::new();
    fill(&sandbox.tree(), 20, &mut Random::new(81));
    sandbox.init(&[]);
    sandbox.backup();
    let again = sandbox.expect(0, ["backup".into(), "--json".into(), sandbox.tree()]);
    let said = lines(&again.stdout);
    let status = message(&said, "status");
    assert_eq!(status["phase"], "backup", "{said:?}");
    assert_eq!(status["total_files"], 20, "{said:?}");
    let bytes = message(&said, "summary")["total_bytes_processed"].clone();
    assert_eq!(status["total_bytes"], bytes, "{said:?}");

    let out = sandbox.path("out");
    let restore = |more: &[&str]| {
        let mut args = vec!["restore", "latest", "--json", "-t", out.to_str().unwrap()];
        args.extend(more);
        lines(&sandbox.expect(0, args).stdout)
    };
    let said = restore(&["--dry-run"]);
    let status = message(&said, "status");
    assert_eq!((&status["phase"], &status["total_bytes"]), (&Value::from("restore"), &bytes), "{said:?}");
    for field in ["percent_done", "total_files", "files_restored", "bytes_restored"] {
        assert!(status.get(field).is_some(), "{field}: {status}");
    }
}

#[test]
fn a_new_password_that_cannot_be_asked_for_is_named_as_such() {
    let sandbox = Sandbox::new();
    sandbox.init(&[]);
    let output = sandbox.expect(1, ["key", "add"]);
    assert!(text(&output.stderr).contains("--new-password-file"), "{}", text(&output.stderr));
}

#[test]
fn what_was_not_typed_is_not_in_the_usage() {
    let sandbox = Sandbox::new();
    let output = expect(1, sandbox.command(["restore", "latest"]));
    let said = text(&output.stderr);
    assert!(said.contains("--target") && !said.contains("--repo") && !said.contains("--state-dir"), "{said}");
    let alone = expect(1, sandbox.command::<&str>([]));
    assert!(text(&alone.stderr).contains("Commands:"), "{}", text(&alone.stderr));
}
