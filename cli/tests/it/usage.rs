//! What is asked for makes no sense: it is said, and nothing is done.

use std::fs;
use std::process::Command;

use crate::run::{text, versions};
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

#[test]
fn closed_standard_input_is_no_empty_file() {
    let sandbox = Sandbox::new();
    sandbox.init(&[]);
    let shell = |script: &str| {
        let program = sandbox.command(["backup", "--stdin"]);
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(format!("exec \"$0\" \"$@\" {script}")).arg(program.get_program());
        shell.args(program.get_args()).env_clear();
        shell.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
        shell
    };
    let said = text(&expect(1, shell("<&-")).stderr);
    assert!(said.contains("standard input is closed"), "{said}");
    assert!(sandbox.snapshots().is_empty());
    // Whoever wants an empty file gets it.
    expect(0, shell("</dev/null"));
    assert_eq!(sandbox.snapshots().len(), 1);
}

#[test]
fn a_path_behind_a_colon_is_explained_where_it_is_an_argument() {
    let sandbox = Sandbox::new();
    sandbox.init(&[]);
    let said = text(&sandbox.expect(1, ["ls", "latest:/etc"]).stderr);
    assert!(said.contains("`latest /etc`"), "{said}");
}

#[test]
fn help_is_a_verb_too() {
    let help = |words: &[&str]| {
        let output = versions().args(words).output().unwrap();
        assert!(output.status.success(), "{words:?}");
        text(&output.stdout)
    };
    assert_eq!(help(&["help"]), help(&["--help"]));
    assert_eq!(help(&["help", "restore"]), help(&["restore", "--help"]));
    assert_eq!(help(&["help", "key", "add"]), help(&["key", "add", "--help"]));
}
