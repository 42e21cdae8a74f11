//! Looking inside: snapshots, ls, log, cat, stats, keys, targets; as text and as JSON.

use std::fs;
use std::io::Write;
use std::process::Stdio;

use serde_json::Value;

use crate::run::text;
use crate::sandbox::{Sandbox, expect, lines, message, snapshot_id, snapshots_of};
use crate::tree::{Random, fill, oddities};

#[track_caller]
fn has(value: &Value, fields: &[&str]) {
    for field in fields {
        assert!(value.get(field).is_some(), "no {field} in {value}");
    }
}

#[test]
fn json_has_restics_fields() {
    let sandbox = Sandbox::new();
    fill(&sandbox.tree(), 30, &mut Random::new(51));
    let init = sandbox.expect(0, ["init", "--json"]);
    let initialized = lines(&init.stdout);
    has(message(&initialized, "initialized"), &["id", "repository"]);

    let backup = sandbox.expect(
        0,
        ["backup".into(), "--json".into(), "-v".into(), "--tag".into(), "one,two".into(), sandbox.tree()],
    );
    let said = lines(&backup.stdout);
    for line in &said {
        assert!(line["message_type"].is_string(), "{line}");
    }
    has(
        message(&said, "summary"),
        &[
            "files_new",
            "files_changed",
            "files_unmodified",
            "dirs_new",
            "dirs_changed",
            "dirs_unmodified",
            "data_blobs",
            "data_added",
            "data_added_packed",
            "total_files_processed",
            "total_bytes_processed",
            "total_duration",
            "backup_start",
            "backup_end",
            "snapshot_id",
        ],
    );
    assert_eq!(message(&said, "summary")["files_new"], 30);
    has(message(&said, "status"), &["percent_done", "files_done", "bytes_done", "seconds_elapsed"]);
    has(message(&said, "verbose_status"), &["action", "item", "data_size"]);
    let id = snapshot_id(&backup);

    let listed: Vec<Value> =
        serde_json::from_slice(&sandbox.expect(0, ["snapshots", "--json"]).stdout).unwrap();
    assert_eq!(listed.len(), 1);
    has(&listed[0], &["id", "short_id", "time", "hostname", "paths", "tags", "summary"]);
    assert_eq!(listed[0]["id"], id.as_str());
    assert_eq!(listed[0]["hostname"], "host-of-the-tests");
    assert_eq!(listed[0]["tags"], serde_json::json!(["one", "two"]));
    assert_eq!(listed[0]["paths"], serde_json::json!([sandbox.tree().to_str().unwrap()]));

    let ls = lines(&sandbox.expect(0, ["ls", "--json", "latest"]).stdout);
    assert_eq!(ls[0]["message_type"], "snapshot");
    has(&ls[0], &["id", "time", "hostname", "paths"]);
    let nodes: Vec<&Value> = ls.iter().filter(|line| line["message_type"] == "node").collect();
    assert_eq!(nodes.iter().filter(|node| node["type"] == "file").count(), 30);
    for node in nodes.iter().filter(|node| node["type"] == "file") {
        has(node, &["name", "path", "uid", "gid", "size", "mode", "permissions", "mtime", "ctime"]);
    }

    let out = sandbox.path("out");
    let restore = sandbox.expect(
        0,
        ["restore".as_ref(), "latest".as_ref(), "--json".as_ref(), "-t".as_ref(), out.as_os_str()],
    );
    let said = lines(&restore.stdout);
    has(message(&said, "summary"), &["total_files", "files_restored", "total_bytes", "bytes_restored"]);

    let verify = lines(&sandbox.expect(0, ["verify", "--json"]).stdout);
    assert_eq!(message(&verify, "summary")["num_errors"], 0);
    let stats = lines(&sandbox.expect(0, ["stats", "--json"]).stdout);
    assert_eq!(message(&stats, "stats")["snapshots_count"], 1);

    let failed = sandbox.expect(1, ["ls", "--json", "ffffffff"]);
    let said = lines(&failed.stderr);
    assert_eq!(message(&said, "exit_error")["code"], 1);
    assert!(failed.stdout.is_empty());
}

#[test]
fn snapshots_are_chosen_by_id_host_tag_and_path() {
    let sandbox = Sandbox::new();
    let other = sandbox.path("other");
    fs::create_dir(&other).unwrap();
    fs::write(sandbox.tree().join("a"), "a").unwrap();
    sandbox.init(&[]);
    let first = sandbox.backup();
    let tagged = snapshot_id(
        &sandbox.expect(0, ["backup".into(), "--json".into(), "--tag".into(), "x,y".into(), sandbox.tree()]),
    );
    let elsewhere =
        snapshot_id(&sandbox.expect(
            0,
            ["backup".into(), "--json".into(), "--host".into(), "elsewhere".into(), other.clone()],
        ));
    let choose = |args: &[&str]| {
        let all: Vec<&str> = ["snapshots", "--json"].iter().chain(args).copied().collect();
        snapshots_of(&sandbox.expect(0, all))
    };
    assert_eq!(choose(&[]), [first.as_str(), tagged.as_str(), elsewhere.as_str()]);
    assert_eq!(choose(&["--tag", "x"]), [tagged.as_str()]);
    assert_eq!(choose(&["--tag", "x,z"]), [""; 0]);
    assert_eq!(choose(&["--host", "elsewhere"]), [elsewhere.as_str()]);
    assert_eq!(choose(&["--path", other.to_str().unwrap()]), [elsewhere.as_str()]);
    assert_eq!(choose(&["--latest", "1"]), [tagged.as_str(), elsewhere.as_str()]);
    assert_eq!(choose(&["latest"]), [elsewhere.as_str()]);
    assert_eq!(choose(&[&first[..8]]), [first.as_str()]);
    let table = text(&sandbox.expect(0, ["snapshots"]).stdout);
    for part in [&first[..8], &tagged[..8], &elsewhere[..8], "elsewhere", "host-of-the-tests", "3 snapshots"]
    {
        assert!(table.contains(part), "{part}: {table}");
    }
    let unknown = sandbox.expect(1, ["snapshots", "0000000000000000"]);
    assert!(text(&unknown.stderr).contains("0000000000000000"));
    let ambiguous = sandbox.command(["ls", ""]).output().unwrap();
    assert!(!ambiguous.status.success());
}

#[test]
fn ls_shows_names_that_are_no_text_and_parts() {
    let sandbox = Sandbox::new();
    oddities(&sandbox.tree());
    sandbox.init(&[]);
    sandbox.expect(0, ["backup".into(), sandbox.tree()]);
    let all = text(&sandbox.expect(0, ["ls", "latest"]).stdout);
    for name in [
        "\\xff\\xfe no text",
        "new\\nline",
        "/back\\slash",
        "/ümläut",
        "/oddities/read-only directory/inside",
    ] {
        assert!(all.lines().any(|line| line.ends_with(name)), "{name}: {all}");
    }
    let odd = sandbox.tree().join("oddities");
    let part = text(&sandbox.expect(0, ["ls".as_ref(), "latest".as_ref(), odd.as_os_str()]).stdout);
    assert!(part.contains("/plain") && !part.contains("/inside"), "{part}");
    let recursive = text(
        &sandbox
            .expect(0, ["ls".as_ref(), "--recursive".as_ref(), "latest".as_ref(), odd.as_os_str()])
            .stdout,
    );
    assert!(recursive.contains("/inside"), "{recursive}");
    let long = text(&sandbox.expect(0, ["ls", "-l", "latest"]).stdout);
    for start in ["drwxrwxrwt", "-rwsr-xr-x", "prw-r-----", "srw-------", "lrwxrwxrwx"] {
        assert!(long.lines().any(|line| line.starts_with(start)), "{start}: {long}");
    }
    let missing = sandbox.path("missing");
    sandbox.expect(1, ["ls".as_ref(), "latest".as_ref(), missing.as_os_str()]);
}

#[test]
fn standard_input_is_a_file_with_a_name() {
    let sandbox = Sandbox::new();
    sandbox.init(&[]);
    let bytes = Random::new(52).noise(3_000_000);
    let mut command = sandbox.command(["backup", "--stdin", "--stdin-filename", "dump.sql", "--json"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(&bytes).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let id = snapshot_id(&output);
    let cat = sandbox.expect(0, ["dump", &id, "/dump.sql"]);
    assert!(cat.stdout == bytes);
    for name in [".", "/", "a/.", ".."] {
        let output = sandbox.expect(1, ["backup", "--stdin", "--stdin-filename", name]);
        assert!(text(&output.stderr).contains("name"), "{name}: {}", text(&output.stderr));
    }
    sandbox.expect(1, ["backup".into(), "--stdin-filename".into(), "x".into(), sandbox.tree()]);
    // Nothing at all is a file too.
    sandbox.expect(0, ["backup", "--stdin"]);
    assert!(sandbox.expect(0, ["cat", "latest", "/stdin"]).stdout.is_empty());
}

#[test]
fn cat_gives_the_bytes_holes_and_all() {
    let sandbox = Sandbox::new();
    oddities(&sandbox.tree());
    sandbox.init(&[]);
    sandbox.backup();
    for name in ["sparse", "all hole", "zeros", "plain"] {
        let file = sandbox.tree().join("oddities").join(name);
        let cat = sandbox.expect(0, ["cat".as_ref(), "latest".as_ref(), file.as_os_str()]);
        assert!(cat.stdout == fs::read(&file).unwrap(), "{name}");
    }
    let folder = sandbox.tree().join("oddities");
    let missing = folder.join("missing");
    sandbox.expect(1, ["cat".as_ref(), "latest".as_ref(), missing.as_os_str()]);
}

#[test]
fn a_dry_run_stores_nothing() {
    let sandbox = Sandbox::new();
    fill(&sandbox.tree(), 20, &mut Random::new(53));
    sandbox.init(&[]);
    let count = || crate::tree::files(&sandbox.target("a")).len();
    let before = count();
    let output = sandbox.expect(0, ["backup".into(), "--dry-run".into(), "--json".into(), sandbox.tree()]);
    let said = lines(&output.stdout);
    let summary = message(&said, "summary");
    assert_eq!(summary["files_new"], 20);
    assert_eq!(summary["dry_run"], true);
    assert!(summary.get("snapshot_id").is_none());
    assert_eq!(count(), before);
    assert!(sandbox.snapshots().is_empty());
}

#[test]
fn what_is_excluded_stays_out() {
    let sandbox = Sandbox::new();
    let tree = sandbox.tree();
    for folder in ["keep", "cache", "skip", "build"] {
        fs::create_dir(tree.join(folder)).unwrap();
        for name in ["a.c", "a.o", "b.tmp"] {
            fs::write(tree.join(folder).join(name), name).unwrap();
        }
    }
    fs::write(tree.join("cache/CACHEDIR.TAG"), "Signature: 8a477f597d28d172789f06886806bc55\n").unwrap();
    fs::write(tree.join("skip/.nobackup"), "").unwrap();
    let rules = sandbox.path("rules");
    fs::write(&rules, "# comments and blanks\n\n*.tmp\n").unwrap();
    sandbox.init(&[]);
    sandbox.expect(
        0,
        [
            "backup".as_ref(),
            "--exclude".as_ref(),
            "*.o".as_ref(),
            "--exclude".as_ref(),
            "build/".as_ref(),
            "--exclude-file".as_ref(),
            rules.as_os_str(),
            "--exclude-caches".as_ref(),
            "--exclude-if-present".as_ref(),
            ".nobackup".as_ref(),
            tree.as_os_str(),
        ],
    );
    let listed = text(&sandbox.expect(0, ["ls", "latest"]).stdout);
    let has = |name: &str| listed.lines().any(|line| line.ends_with(name));
    assert!(has("/keep/a.c"), "{listed}");
    for gone in ["a.o", "b.tmp", "/cache/a.c", "/skip/a.c", "/build/a.c"] {
        assert!(!has(gone), "{gone}: {listed}");
    }
}

#[test]
fn passwords_are_added_changed_and_removed() {
    let sandbox = Sandbox::new();
    fs::write(sandbox.tree().join("a"), "a").unwrap();
    sandbox.init(&["b"]);
    sandbox.backup();
    let file = sandbox.path("new-password");
    let with = |password: &str, code: i32, args: &[&str]| {
        let mut command = sandbox.command(args);
        command.env("VERSIONS_PASSWORD", password);
        expect(code, command)
    };
    let file_flag = ["--new-password-file", file.to_str().unwrap()];
    fs::write(&file, "second\n").unwrap();
    with("correct horse", 0, &[&["key", "add"][..], &file_flag].concat());
    with("second", 0, &["snapshots"]);
    let keys: Vec<Value> =
        serde_json::from_slice(&with("second", 0, &["key", "list", "--json"]).stdout).unwrap();
    assert_eq!(keys.len(), 2);
    has(&keys[0], &["current", "id", "userName", "hostName", "created"]);
    let current = keys.iter().find(|key| key["current"] == true).unwrap();
    let other = keys.iter().find(|key| key["current"] == false).unwrap();
    // The key in use stays: whoever removes it would lock himself out.
    with("second", 1, &["key", "remove", current["id"].as_str().unwrap()]);
    with("second", 0, &["key", "remove", other["id"].as_str().unwrap()]);
    with("correct horse", 12, &["snapshots"]);
    fs::write(&file, "third\n").unwrap();
    with("second", 0, &[&["key", "passwd"][..], &file_flag].concat());
    with("second", 12, &["snapshots"]);
    with("third", 0, &["snapshots"]);
    // On every target, and for good: healing does not bring a removed key back.
    with("third", 0, &["verify", "--heal"]);
    for target in ["a", "b"] {
        for (password, code) in [("correct horse", 12), ("second", 12), ("third", 0)] {
            let mut command =
                sandbox.command_on(target, &format!("fresh-{target}-{password}"), ["snapshots"]);
            command.env("VERSIONS_PASSWORD", password);
            expect(code, command);
        }
    }
}

#[test]
fn targets_are_listed_and_forgotten() {
    let sandbox = Sandbox::new();
    fs::write(sandbox.tree().join("a"), "a").unwrap();
    sandbox.init(&["b"]);
    sandbox.backup();
    let list = || text(&sandbox.expect(0, ["target", "list"]).stdout);
    assert!(list().contains("target-a") && list().contains("target-b"), "{}", list());
    sandbox.expect(0, ["target".as_ref(), "remove".as_ref(), sandbox.target("b").as_os_str()]);
    assert!(!list().contains("target-b"), "{}", list());
    assert!(sandbox.target("b").join("config").exists(), "what it holds stays");
    sandbox.backup();
    let nowhere = sandbox.path("nowhere");
    sandbox.expect(1, ["target".as_ref(), "remove".as_ref(), nowhere.as_os_str()]);
}

#[test]
fn an_unencrypted_repository_is_a_choice() {
    let sandbox = Sandbox::new();
    fill(&sandbox.tree(), 10, &mut Random::new(54));
    let open = |code: i32, args: Vec<std::ffi::OsString>| {
        let mut command = sandbox.command(args);
        command.env_remove("VERSIONS_PASSWORD");
        expect(code, command)
    };
    open(1, vec!["init".into()]);
    assert!(!sandbox.target("a").join("config").exists());
    open(0, vec!["--insecure-no-password".into(), "init".into()]);
    open(0, vec!["--insecure-no-password".into(), "backup".into(), sandbox.tree().into()]);
    open(0, vec!["--insecure-no-password".into(), "snapshots".into()]);
    // A password that opens nothing is a sign that this is not the repository that was meant.
    let output = sandbox.command_on("a", "fresh", ["snapshots"]).output().unwrap();
    assert!(!output.status.success(), "{output:?}");
    // And an encrypted one does not open without.
    let encrypted = Sandbox::new();
    encrypted.init(&[]);
    let mut command = encrypted.command(["--insecure-no-password", "snapshots"]);
    command.env_remove("VERSIONS_PASSWORD");
    expect(12, command);
}

#[test]
fn log_tells_what_changed() {
    let sandbox = Sandbox::new();
    let file = sandbox.tree().join("file");
    sandbox.init(&[]);
    for contents in ["one", "three", "three"] {
        fs::write(&file, contents).unwrap();
        sandbox.backup();
    }
    fs::remove_file(&file).unwrap();
    sandbox.backup();
    let log = text(&sandbox.expect(0, ["log".as_ref(), file.as_os_str()]).stdout);
    for part in ["new", "contents", "removed"] {
        assert!(log.contains(part), "{part}: {log}");
    }
    let missing = sandbox.tree().join("missing");
    sandbox.expect(1, ["log".as_ref(), missing.as_os_str()]);
}
