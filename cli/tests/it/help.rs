//! What `--help` says, kept as files, so that no change of the command line goes unnoticed.
//!
//! `VERSIONS_BLESS=1 cargo test -p versions help` writes them anew.

use std::fs;
use std::path::Path;

use crate::run::{code, text, versions};

const VERBS: [&str; 17] = [
    "",
    "init",
    "backup",
    "snapshots",
    "ls",
    "log",
    "cat",
    "restore",
    "verify",
    "mirror",
    "target",
    "target add",
    "rebuild",
    "stats",
    "key",
    "key add",
    "key remove",
];

#[test]
fn help_is_as_it_was() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/testdata/help");
    let mut expected: Vec<String> = Vec::new();
    for verb in VERBS {
        let output = versions().args(verb.split_whitespace()).arg("--help").output().unwrap();
        assert_eq!(code(&output), 0, "{verb}");
        let shown = text(&output.stdout);
        let name =
            format!("{}.txt", if verb.is_empty() { "versions".into() } else { verb.replace(' ', "-") });
        let file = folder.join(&name);
        if std::env::var_os("VERSIONS_BLESS").is_some() {
            fs::write(&file, &shown).unwrap();
        }
        let kept = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(shown == kept, "{name} differs; the program says:\n{shown}");
        expected.push(name);
    }
    // None is forgotten in the folder when a verb goes.
    for entry in fs::read_dir(&folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(expected.contains(&name), "{name} belongs to no verb");
    }
}

#[test]
fn usage_errors_give_1_and_name_the_argument() {
    for (words, mention) in [
        (&["nonsense"][..], "nonsense"),
        (&["backup"], "<PATH>"),
        (&["restore", "latest"], "--target"),
        (&["verify", "--read-data-subset", "5/3"], "5/3"),
        (&["snapshots"], "-r URL"),
    ] {
        let output = versions().args(words).output().unwrap();
        assert_eq!(code(&output), 1, "{words:?}");
        assert!(text(&output.stderr).contains(mention), "{words:?}: {}", text(&output.stderr));
        assert!(output.stdout.is_empty(), "{words:?}");
    }
}

#[test]
fn errors_are_json_on_request() {
    let output = versions().args(["--json", "snapshots"]).output().unwrap();
    assert_eq!(code(&output), 1);
    let line: serde_json::Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!(line["message_type"], "exit_error");
    assert_eq!(line["code"], 1);
    assert!(line["message"].is_string());
}
