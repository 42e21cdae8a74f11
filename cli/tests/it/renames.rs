//! A file that was renamed: its history is one, from whichever path it is asked for.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::run::text;
use crate::sandbox::{Sandbox, lines};

fn log(sandbox: &Sandbox, path: &Path) -> (String, Vec<Value>) {
    let ask = |flags: &[&str]| {
        let mut args: Vec<&std::ffi::OsStr> = vec!["log".as_ref(), path.as_os_str()];
        args.extend(flags.iter().map(std::ffi::OsStr::new));
        sandbox.expect(0, args).stdout
    };
    (text(&ask(&[])), lines(&ask(&["--json"])))
}

#[test]
fn a_rename_is_told_once_from_either_path() {
    let sandbox = Sandbox::new();
    let (old, new) = (sandbox.tree().join("old"), sandbox.tree().join("new"));
    sandbox.init(&[]);
    fs::write(&old, "what is in it").unwrap();
    sandbox.backup();
    fs::rename(&old, &new).unwrap();
    sandbox.backup();
    fs::write(&new, "and something else").unwrap();
    sandbox.backup();
    for (asked, word) in
        [(&old, format!("renamed to {}", new.display())), (&new, format!("renamed from {}", old.display()))]
    {
        let (table, json) = log(&sandbox, asked);
        assert!(table.contains(&word) && !table.contains("removed"), "{table}");
        let changed: Vec<String> = json.iter().map(|line| line["changed"].to_string()).collect();
        assert_eq!(json.len(), 3, "{changed:?}");
        assert_eq!(json[1]["renamed_from"], old.to_str().unwrap());
        assert_eq!(json[1]["path"], new.to_str().unwrap());
        assert!(changed[2].contains("contents"), "{changed:?}");
    }
}

#[test]
fn what_is_gone_is_removed() {
    let sandbox = Sandbox::new();
    let file = sandbox.tree().join("file");
    sandbox.init(&[]);
    fs::write(&file, "what is in it").unwrap();
    sandbox.backup();
    fs::remove_file(&file).unwrap();
    sandbox.backup();
    let (table, json) = log(&sandbox, &file);
    assert!(table.contains("removed"), "{table}");
    assert_eq!(json.len(), 2);
}
