//! The local catalog is a copy: damaged, in use, full or read-only, it is no reason to fail where the targets have everything.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::compare::same;
use crate::disk::TinyDisk;
use crate::nobody::as_nobody;
use crate::run::{code, text};
use crate::sandbox::{Sandbox, is_root, snapshot_id, snapshots_of};
use crate::tree::{Random, copy, fill};

/// The tables of the catalog of the only repository below a state directory.
fn tables(state: &Path) -> Vec<PathBuf> {
    let tables = |file: &PathBuf| {
        let parent = file.parent().and_then(Path::file_name);
        file.extension().is_some_and(|extension| extension == "table")
            && parent.is_some_and(|parent| parent == "catalog")
    };
    let mut found: Vec<PathBuf> = crate::tree::files(state).into_iter().filter(tables).collect();
    found.sort();
    assert!(!found.is_empty());
    found
}

/// What a bad sector leaves when it is written again.
fn harm(table: &Path) {
    let mut bytes = fs::read(table).unwrap();
    let third = bytes.len() / 3;
    bytes[third..].iter_mut().take(64).for_each(|byte| *byte = 0);
    fs::write(table, bytes).unwrap();
}

#[test]
fn a_damaged_catalog_is_set_aside_and_every_verb_does_what_it_was_asked() {
    let sandbox = Sandbox::new();
    let name = |number: u32| format!("file {number} with a long name {}", "x".repeat(150));
    // As much as a close writes into tables.
    for number in 0..1500 {
        fs::write(sandbox.tree().join(name(number)), format!("{number}")).unwrap();
    }
    sandbox.init(&[]);
    let first = sandbox.backup();
    copy(&sandbox.path("state"), &sandbox.path("good"));
    let lines = text(&sandbox.expect(0, ["ls", "latest"]).stdout).lines().count();
    let file = sandbox.tree().join(name(77));
    let out = sandbox.path("out");
    let words = |words: &[&str]| words.iter().map(Into::into).collect::<Vec<std::ffi::OsString>>();
    let mut verbs = vec![
        words(&["restore", "latest", "--target", out.to_str().unwrap()]),
        words(&["ls", "latest"]),
        words(&["snapshots"]),
        words(&["rebuild"]),
        words(&["verify", "--read-data"]),
        words(&["verify", "--heal"]),
        words(&["cat", "latest", file.to_str().unwrap()]),
        words(&["log", file.to_str().unwrap()]),
        words(&["stats"]),
        words(&["mirror"]),
        words(&["backup", sandbox.tree().to_str().unwrap()]),
    ];
    let again = |harmed: &[PathBuf]| {
        fs::remove_dir_all(sandbox.path("state")).unwrap();
        copy(&sandbox.path("good"), &sandbox.path("state"));
        harmed.iter().for_each(|table| harm(table));
    };
    let all = tables(&sandbox.path("state"));
    let large: Vec<_> = all.iter().filter(|table| fs::metadata(table).unwrap().len() > 8192).collect();
    assert!(!large.is_empty());
    for verb in &verbs {
        again(&all);
        let output = sandbox.expect(0, verb);
        let said = text(&output.stderr);
        assert!(verb[0] == "rebuild" || said.contains("it is set aside"), "{verb:?}: {said}");
        if verb[0] == "ls" {
            assert_eq!(text(&output.stdout).lines().count(), lines, "an answer is given once");
        }
        // And that was that.
        let output = sandbox.expect(0, ["ls", "--quiet", "latest"]);
        assert!(output.stderr.is_empty(), "{verb:?}: {}", text(&output.stderr));
    }
    // Each alone is met at another moment, some in the middle of a verb.
    verbs.retain(|verb| verb[0] == "restore" || verb[0] == "backup");
    copy(&sandbox.tree(), &sandbox.path("then"));
    for table in large {
        again(std::slice::from_ref(table));
        let _ = fs::remove_dir_all(&out);
        for verb in &verbs {
            sandbox.expect(0, verb);
        }
        same(&sandbox.path("then"), &crate::sandbox::below(&out, &sandbox.tree()));
    }
    again(&all);
    assert_eq!(sandbox.snapshots()[0], first);
}

/// A child that is killed at the end, if it still lives.
struct Running(Child);

impl Running {
    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn whoever_only_reads_keeps_no_backup_waiting() {
    let sandbox = Sandbox::new();
    // More than a pipe holds, so that whoever writes it out waits for its reader.
    let large = sandbox.tree().join("large");
    fs::write(&large, Random::new(51).noise(4_000_000)).unwrap();
    sandbox.init(&[]);
    sandbox.backup();
    let mut command = sandbox.command(["cat".into(), "latest".into(), large]);
    let mut reading = Running(command.stdout(Stdio::piped()).spawn().unwrap());
    let mut pipe = BufReader::new(reading.0.stdout.take().unwrap());
    pipe.fill_buf().unwrap();
    sandbox.backup();
    assert!(reading.0.try_wait().unwrap().is_none(), "it was still reading");
    std::io::copy(&mut pipe, &mut std::io::sink()).unwrap();
    assert!(reading.0.wait().unwrap().success());
}

/// Begins a verification and stops it while it reads packs.
fn verification_in_the_middle(sandbox: &Sandbox) -> Running {
    for _ in 0..50 {
        let mut command = sandbox.command(["verify", "--read-data", "--json"]);
        let mut running = Running(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
        let lines = BufReader::new(running.0.stdout.take().unwrap()).lines();
        let is_reading = |line: &String| line.contains("\"data\"");
        let found = lines.map_while(Result::ok).find(is_reading).is_some();
        running.signal(Signal::STOP);
        std::thread::sleep(Duration::from_millis(20));
        if found && running.0.try_wait().unwrap().is_none() {
            return running;
        }
        running.signal(Signal::CONT);
    }
    panic!("it was always done before it could be stopped");
}

#[test]
fn a_verification_keeps_no_backup_waiting_and_waits_for_one_to_write_down_what_it_saw() {
    let sandbox = Sandbox::new();
    let noise = Random::new(53).noise(4_000_000);
    for number in 0..12 {
        let other: Vec<u8> = noise.iter().map(|byte| byte ^ number).collect();
        fs::write(sandbox.tree().join(format!("large {number}")), other).unwrap();
    }
    sandbox.init(&[]);
    sandbox.backup();
    let mut verifying = verification_in_the_middle(&sandbox);
    sandbox.backup();
    // Another one that does not end before the verification does.
    let mut command = sandbox.command(["backup", "--stdin", "--json"]);
    let mut backing_up = Running(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap());
    let lines = BufReader::new(backing_up.0.stdout.take().unwrap()).lines();
    let has_begun = lines.map_while(Result::ok).find(|line| line.contains("\"backup\"")).is_some();
    assert!(has_begun);
    verifying.signal(Signal::CONT);
    let mut said = BufReader::new(verifying.0.stderr.take().unwrap()).lines().map_while(Result::ok);
    let waits = said.find(|line| line.contains("waiting to write down")).is_some();
    assert!(waits, "it has something to write down, and somebody else has the catalog");
    drop(backing_up.0.stdin.take());
    assert!(backing_up.0.wait().unwrap().success());
    let rest: Vec<String> = said.collect();
    assert!(verifying.0.wait().unwrap().success(), "{rest:?}");
    assert!(rest.is_empty(), "{rest:?}");
}

/// Reads what can be read with a local state that cannot be changed, and which lacks the snapshot `newer`.
fn read_all(sandbox: &Sandbox, newer: &str, run: &dyn Fn(Vec<std::ffi::OsString>) -> std::process::Output) {
    let check = |output: &std::process::Output| {
        assert_eq!(code(output), 0, "{}\n{}", text(&output.stdout), text(&output.stderr));
        let said = text(&output.stderr);
        assert!(said.contains("a temporary one is made"), "{said}");
    };
    let output = run(vec!["snapshots".into(), "--json".into()]);
    check(&output);
    assert_eq!(snapshots_of(&output).last().unwrap(), newer);
    let out = tempfile::tempdir().unwrap();
    fs::set_permissions(out.path(), fs::Permissions::from_mode(0o777)).unwrap();
    // Without the folders above, which are not nobody's.
    let part = format!("{newer}:{}", sandbox.tree().display());
    check(&run(vec!["restore".into(), part.into(), "--target".into(), out.path().into()]));
    let then = sandbox.path("then");
    for file in crate::tree::files(&then) {
        let restored = out.path().join(file.strip_prefix(&then).unwrap());
        assert!(fs::read(&file).unwrap() == fs::read(&restored).unwrap(), "{}", restored.display());
    }
    let output = run(vec!["verify".into(), "--read-data".into()]);
    check(&output);
    assert!(text(&output.stderr).contains("not remembered"), "{}", text(&output.stderr));
    // It could not be kept.
    let output = run(vec!["backup".into(), sandbox.tree().into()]);
    assert_eq!(code(&output), 1, "{}", text(&output.stderr));
    let left = fs::read_dir(sandbox.path("tmp")).unwrap().count();
    assert_eq!(left, 0, "temporary catalogs go");
}

#[test]
fn with_a_local_state_that_cannot_be_changed_everything_can_be_read() {
    let sandbox = Sandbox::new();
    fill(&sandbox.tree(), 30, &mut Random::new(52));
    if is_root() {
        // What nobody restores is nobody's.
        let owned = Command::new("chown").args(["-Rh", "65534:65534"]).arg(sandbox.tree()).status();
        assert!(owned.unwrap().success());
    }
    let tmp = sandbox.path("tmp");
    fs::create_dir(&tmp).unwrap();
    fs::set_permissions(&tmp, fs::Permissions::from_mode(0o777)).unwrap();
    let run = |args: Vec<std::ffi::OsString>| {
        let mut command = as_nobody(&sandbox, args);
        command.env("TMPDIR", &tmp).output().unwrap()
    };
    assert_eq!(code(&run(vec!["init".into()])), 0);
    assert_eq!(code(&run(vec!["backup".into(), sandbox.tree().into()])), 0);
    copy(&sandbox.tree(), &sandbox.path("then"));
    let set_mode = |write: bool| {
        for path in crate::tree::files(&sandbox.path("state")) {
            let mode = if write { 0o644 } else { 0o444 };
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            for folder in
                path.ancestors().skip(1).take_while(|folder| folder.starts_with(sandbox.path("state")))
            {
                let mode = if write { 0o755 } else { 0o555 };
                fs::set_permissions(folder, fs::Permissions::from_mode(mode)).unwrap();
            }
        }
    };
    set_mode(false);
    // As long as it knows everything, it is read as it is.
    let output = run(vec!["snapshots".into(), "--json".into()]);
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    assert!(!text(&output.stderr).contains("temporary"), "{}", text(&output.stderr));
    set_mode(true);
    let elsewhere = |args: Vec<std::ffi::OsString>| {
        let mut command = as_nobody(&sandbox, args);
        command.env("VERSIONS_STATE_DIR", sandbox.path("elsewhere")).output().unwrap()
    };
    let newer = elsewhere(vec!["backup".into(), "--json".into(), sandbox.tree().into()]);
    assert_eq!(code(&newer), 0, "{}", text(&newer.stderr));
    set_mode(false);
    read_all(&sandbox, &snapshot_id(&newer), &run);
    // Where there was none, one would have to be made.
    set_mode(true);
    for entry in fs::read_dir(sandbox.path("state")).unwrap() {
        fs::remove_dir_all(entry.unwrap().path()).unwrap();
    }
    fs::set_permissions(sandbox.path("state"), fs::Permissions::from_mode(0o555)).unwrap();
    read_all(&sandbox, &snapshot_id(&newer), &run);
    assert!(fs::read_dir(sandbox.path("state")).unwrap().next().is_none());
}

#[test]
fn with_a_full_disk_below_the_local_state_everything_can_be_read() {
    let sandbox = Sandbox::new();
    let Some(disk) = TinyDisk::mount(&sandbox.path("state"), 2) else {
        eprintln!("skipped: no file system may be mounted here");
        return;
    };
    let file =
        |number: u32| sandbox.tree().join(format!("file {number} with a long name {}", "x".repeat(150)));
    let write = |round: u32| {
        for number in 0..1500 {
            fs::write(file(number), format!("{number} {round}")).unwrap();
        }
    };
    write(0);
    sandbox.init(&[]);
    sandbox.backup();
    // Until there is no room for one more.
    let mut last = None;
    for round in 1..20 {
        write(round);
        let output = sandbox.command(["backup".into(), sandbox.tree()]).output().unwrap();
        if code(&output) != 0 || text(&output.stderr).contains("could not take it in") {
            last = Some(output);
            break;
        }
    }
    let last = last.expect("a disk of a few megabytes is full some time");
    let before = snapshots_of(&sandbox.expect_on("a", "elsewhere", 0, ["snapshots", "--json"]));
    let ids = sandbox.snapshots();
    assert_eq!(ids, before, "what the targets hold is what is shown");
    copy(&sandbox.tree(), &sandbox.path("then"));
    // What it said is true: there is a snapshot of what stands there now, or there is none.
    let restored = sandbox.restore(ids.last().unwrap());
    let is_there =
        fs::read(file(0)).unwrap() == fs::read(restored.join(file(0).file_name().unwrap())).unwrap();
    assert_eq!(is_there, code(&last) == 0, "{}", text(&last.stderr));
    sandbox.expect(0, ["verify", "--read-data"]);
    let grown =
        Command::new("mount").args(["-o", "remount,size=64m"]).arg(sandbox.path("state")).status().unwrap();
    assert!(grown.success());
    sandbox.backup();
    same(&sandbox.path("then"), &sandbox.restore("latest"));
    drop(disk);
}
