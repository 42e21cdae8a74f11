//! What can go wrong around a backup: each with its exit code, a sentence that names what and where, and nothing lost.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::compare::same;
use crate::disk::TinyDisk;
use crate::nobody::as_nobody;
use crate::run::{code, text};
use crate::sandbox::{Sandbox, below, expect, is_root, lines, message};
use crate::tree::{Random, copy, deep, files, fill};

fn small() -> Sandbox {
    let sandbox = Sandbox::new();
    fill(&sandbox.tree(), 12, &mut Random::new(11));
    sandbox
}

#[test]
fn a_wrong_password_gives_12_and_says_so() {
    let sandbox = small();
    sandbox.init(&[]);
    sandbox.backup();
    for state in ["state", "fresh"] {
        let mut command = sandbox.command_on("a", state, ["snapshots"]);
        command.env("VERSIONS_PASSWORD", "wrong");
        let output = expect(12, command);
        assert!(text(&output.stderr).contains("password"), "{}", text(&output.stderr));
    }
}

#[test]
fn no_repository_gives_10_and_names_the_place() {
    let sandbox = small();
    fs::create_dir(sandbox.path("empty")).unwrap();
    for (place, made) in [("nowhere", false), ("empty", true)] {
        for verb in [vec!["snapshots".into()], vec!["backup".into(), sandbox.tree().into_os_string()]] {
            let mut command = sandbox.command(verb);
            command.env("VERSIONS_REPO", sandbox.path(place));
            let output = expect(10, command);
            assert!(text(&output.stderr).contains(place), "{}", text(&output.stderr));
        }
        assert_eq!(sandbox.path(place).exists(), made, "nothing is made by asking");
    }
}

#[test]
fn init_never_replaces_a_repository() {
    let sandbox = small();
    sandbox.init(&[]);
    let id = sandbox.backup();
    sandbox.expect(1, ["init"]);
    let mut command = sandbox.command(["init"]);
    command.env("VERSIONS_PASSWORD", "another");
    expect(1, command);
    assert_eq!(sandbox.snapshots(), [id]);
}

#[test]
fn backup_init_makes_the_repository_once() {
    let sandbox = small();
    let backup = || {
        sandbox.expect(
            0,
            ["backup".into(), "--init".into(), "--mirror".into(), sandbox.target("b"), sandbox.tree()],
        )
    };
    backup();
    backup();
    assert_eq!(sandbox.snapshots().len(), 2);
    copy(&sandbox.tree(), &sandbox.path("then"));
    same(&sandbox.path("then"), &sandbox.restore_on("b", "other", "latest"));
}

#[test]
fn a_second_writer_gets_11() {
    let sandbox = small();
    sandbox.init(&[]);
    sandbox.backup();
    // The first writer waits for its input, its hand on the local state.
    let begin = || sandbox.command(["backup", "--stdin"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut first = begin();
    let mut last = None;
    for _ in 0..100 {
        std::thread::sleep(std::time::Duration::from_millis(50));
        // On a busy machine it may be the one that came second.
        if first.try_wait().unwrap().is_some() {
            first = begin();
            continue;
        }
        let output = sandbox.command(["backup".into(), sandbox.tree()]).output().unwrap();
        last = Some(code(&output));
        if last == Some(11) {
            let said = text(&output.stderr);
            assert!(said.contains("another process uses") && said.contains("process "), "{said}");
            break;
        }
        assert_eq!(last, Some(0), "{}", text(&output.stderr));
    }
    // Whoever only reads is not kept out.
    sandbox.expect(0, ["snapshots"]);
    drop(first.stdin.take());
    assert!(first.wait().unwrap().success());
    assert_eq!(last, Some(11));
    sandbox.backup();
}

#[test]
fn a_newer_format_is_refused_and_left_alone() {
    let sandbox = small();
    sandbox.init(&[]);
    sandbox.backup();
    // The format's number follows the eight bytes of magic.
    let config = sandbox.target("a").join("config");
    let mut bytes = fs::read(&config).unwrap();
    bytes[8] = 2;
    fs::write(&config, &bytes).unwrap();
    for state in ["state", "fresh"] {
        let output = sandbox.command_on("a", state, ["snapshots"]).output().unwrap();
        assert!(matches!(code(&output), 1 | 20), "{output:?}");
        assert!(text(&output.stderr).contains("config"), "{}", text(&output.stderr));
    }
    let output = sandbox.command(["backup".into(), sandbox.tree()]).output().unwrap();
    assert!(!output.status.success());
    assert_eq!(fs::read(&config).unwrap(), bytes);
}

#[test]
fn a_damaged_config_is_named_and_never_replaced_by_a_new_repository() {
    let sandbox = small();
    sandbox.init(&[]);
    sandbox.backup();
    let config = sandbox.target("a").join("config");
    for harm in [&b""[..], b"garbage"] {
        fs::write(&config, harm).unwrap();
        for args in [
            vec!["snapshots".into()],
            vec!["backup".into(), "--init".into(), sandbox.tree().into_os_string()],
        ] {
            let output = sandbox.command_on("a", "fresh", args).output().unwrap();
            assert!(matches!(code(&output), 1 | 20), "{output:?}");
            assert!(text(&output.stderr).contains("config"), "{}", text(&output.stderr));
        }
        assert_eq!(fs::read(&config).unwrap(), harm);
    }
    // A lost config is no empty place either.
    fs::remove_file(&config).unwrap();
    let output = sandbox.command_on("a", "fresh", ["init"]).output().unwrap();
    assert!(!output.status.success(), "{output:?}");
    assert!(!config.exists());
    // Nor is it one for a machine that knows the repository.
    let output = sandbox.expect(20, ["backup".into(), "--init".into(), sandbox.tree().into_os_string()]);
    assert!(text(&output.stderr).contains("config"), "{}", text(&output.stderr));
    // With nothing there at all the disk may not be mounted: no one is told to make another.
    fs::rename(sandbox.target("a"), sandbox.path("unplugged")).unwrap();
    let output = sandbox.expect(10, ["snapshots"]);
    assert!(text(&output.stderr).contains("mounted"), "{}", text(&output.stderr));
}

#[test]
fn a_missing_path_is_partial_and_only_missing_paths_are_nothing() {
    let sandbox = small();
    sandbox.init(&[]);
    let missing = sandbox.path("missing");
    let output = sandbox.expect(3, ["backup".into(), "--json".into(), sandbox.tree(), missing.clone()]);
    let faults = lines(&output.stderr);
    assert!(message(&faults, "error")["item"].as_str().unwrap().contains("missing"));
    assert_eq!(sandbox.snapshots().len(), 1);
    sandbox.expect(1, ["backup".into(), missing]);
    assert_eq!(sandbox.snapshots().len(), 1);
}

#[test]
fn an_unreadable_file_costs_itself_and_gives_3() {
    let sandbox = small();
    let secret = sandbox.tree().join("secret");
    let closed = sandbox.tree().join("closed");
    fs::write(&secret, "s").unwrap();
    fs::create_dir(&closed).unwrap();
    fs::write(closed.join("below"), "b").unwrap();
    let tree = sandbox.tree().into_os_string();
    expect(0, as_nobody(&sandbox, vec!["init".into()]));
    expect(0, as_nobody(&sandbox, vec!["backup".into(), tree.clone()]));
    let close = |mode| {
        fs::set_permissions(&secret, fs::Permissions::from_mode(mode)).unwrap();
        fs::set_permissions(&closed, fs::Permissions::from_mode(if mode == 0 { 0 } else { 0o755 })).unwrap();
    };
    close(0);
    fs::write(sandbox.tree().join("another"), "changed").unwrap();
    let output = expect(3, as_nobody(&sandbox, vec!["backup".into(), "--json".into(), tree]));
    let items: Vec<String> = lines(&output.stderr)
        .iter()
        .filter(|line| line["message_type"] == "error")
        .map(|line| line["item"].as_str().unwrap().to_owned())
        .collect();
    assert!(items.iter().any(|item| item.ends_with("/secret")), "{items:?}");
    assert!(items.iter().any(|item| item.ends_with("/closed")), "{items:?}");
    close(0o644);
    // What could not be seen is not gone.
    let listed = expect(0, as_nobody(&sandbox, vec!["ls".into(), "latest".into()]));
    let listed = text(&listed.stdout);
    for name in ["/secret", "/closed/below", "/another"] {
        assert!(listed.lines().any(|line| line.ends_with(name)), "{name}: {listed}");
    }
}

#[test]
fn a_fifo_does_not_hang_the_scan_and_paths_may_be_longer_than_path_max() {
    let sandbox = small();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        sandbox.tree().join("pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_bits_truncate(0o600),
        0,
    )
    .unwrap();
    deep(&sandbox.tree());
    sandbox.init(&[]);
    sandbox.expect(0, ["backup".into(), sandbox.tree()]);
    let out = sandbox.path("out");
    sandbox.expect(0, ["restore".as_ref(), "latest".as_ref(), "--target".as_ref(), out.as_os_str()]);
    // No call takes such a path: go down step by step.
    let mut folder = rustix::fs::open(
        below(&out, &sandbox.tree()),
        rustix::fs::OFlags::DIRECTORY,
        rustix::fs::Mode::empty(),
    )
    .unwrap();
    for _ in 0..25 {
        folder = rustix::fs::openat(
            &folder,
            "d".repeat(200),
            rustix::fs::OFlags::DIRECTORY,
            rustix::fs::Mode::empty(),
        )
        .unwrap();
    }
    let file =
        rustix::fs::openat(&folder, "bottom", rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty()).unwrap();
    assert_eq!(std::io::read_to_string(fs::File::from(file)).unwrap(), "at the bottom");
}

#[test]
fn a_full_disk_stops_its_target_only() {
    let sandbox = small();
    fs::write(sandbox.tree().join("large"), Random::new(12).noise(12_000_000)).unwrap();
    let Some(disk) = TinyDisk::mount(&sandbox.target("b"), 4) else {
        eprintln!("skipped: no file system may be mounted here");
        return;
    };
    sandbox.init(&["b"]);
    let output = sandbox.expect(22, ["backup".into(), sandbox.tree()]);
    assert!(text(&output.stderr).contains("target-b"), "{}", text(&output.stderr));
    copy(&sandbox.tree(), &sandbox.path("then"));
    same(&sandbox.path("then"), &sandbox.restore("latest"));
    // That it has no room makes nothing on it damaged.
    let output = sandbox.expect(22, ["mirror"]);
    assert!(text(&output.stdout).contains("still lacking"), "{}", text(&output.stdout));
    assert_eq!(text(&output.stderr).lines().count(), 1, "{}", text(&output.stderr));
    sandbox.expect(22, ["verify", "--heal"]);
    // Alone, a full target is no backup.
    let alone = sandbox.command_on("b", "other", ["backup".into(), sandbox.tree()]).output().unwrap();
    assert!(!matches!(code(&alone), 0 | 3 | 22), "{alone:?}");
    let message = text(&alone.stderr);
    assert!(message.contains("space") || message.contains("room"), "{message}");
    // With room again, the next run brings it up to date.
    let grown =
        Command::new("mount").args(["-o", "remount,size=64m"]).arg(sandbox.target("b")).status().unwrap();
    assert!(grown.success());
    sandbox.backup();
    same(&sandbox.path("then"), &sandbox.restore_on("b", "third", "latest"));
    drop(disk);
}

#[test]
fn nobody_reading_is_no_panic() {
    let sandbox = Sandbox::new();
    // A listing that no pipe holds.
    for number in 0..3000 {
        fs::write(
            sandbox.tree().join(format!("a file with a name that is as long as it is dull, number {number}")),
            "",
        )
        .unwrap();
    }
    sandbox.init(&[]);
    sandbox.backup();
    let mut ls = sandbox
        .command(["ls", "--quiet", "latest"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(ls.stdout.take());
    let output = ls.wait_with_output().unwrap();
    assert_eq!(code(&output), 141, "{}", text(&output.stderr));
    assert!(output.stderr.is_empty(), "{}", text(&output.stderr));
    // What does something goes on doing it.
    let mut backup = sandbox
        .command(["backup".into(), "-v".into(), sandbox.tree()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    drop(backup.stdout.take());
    assert_eq!(backup.wait().unwrap().code(), Some(0));
    assert_eq!(sandbox.snapshots().len(), 2);
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let status = sandbox.command(["ls", "latest"]).stdout(full).status().unwrap();
    assert_eq!(status.code(), Some(1));
}

#[test]
fn a_target_of_another_repository_or_an_older_state_is_noticed() {
    let sandbox = small();
    sandbox.init(&[]);
    sandbox.backup();
    copy(&sandbox.target("a"), &sandbox.path("older"));
    fs::write(sandbox.tree().join("more"), "more").unwrap();
    sandbox.backup();
    // The target is set back to what it was, as a restored disk image is.
    fs::remove_dir_all(sandbox.target("a")).unwrap();
    copy(&sandbox.path("older"), &sandbox.target("a"));
    let output = sandbox.command(["backup".into(), sandbox.tree()]).output().unwrap();
    let said = text(&output.stderr);
    // Either refused with a sentence, or made whole again from what this machine knows, and said.
    if output.status.success() {
        assert!(!said.is_empty(), "noticed, or not?");
        copy(&sandbox.tree(), &sandbox.path("then"));
        same(&sandbox.path("then"), &sandbox.restore_on("a", "fresh", "latest"));
    } else {
        assert!(said.contains("older") || said.contains("lacks"), "{said}");
    }
    // Another repository in the same place.
    fs::remove_dir_all(sandbox.target("a")).unwrap();
    sandbox.expect_on("a", "stranger", 0, ["init"]);
    let output = sandbox.command(["backup".into(), sandbox.tree()]).output().unwrap();
    assert!(!output.status.success(), "{output:?}");
    assert!(files(&sandbox.target("a")).len() < 10);
}

/// A restore from a repository whose packs cannot be had says so, by this code too; and `cat` fails.
#[track_caller]
fn restores_nothing(sandbox: &Sandbox, expected: i32) {
    let file = sandbox.tree().join("kept");
    for more in [&[][..], &["--verify"]] {
        let out = sandbox.path("out");
        let _ = fs::remove_dir_all(&out);
        // Without what leads there, whose owner nobody could restore.
        let what = format!("latest:{}", sandbox.tree().display());
        let mut args: Vec<_> = vec!["restore".into(), what.into(), "--target".into(), out.clone().into()];
        args.extend(more.iter().map(Into::into));
        let output = expect(expected, as_nobody(sandbox, args));
        let said = text(&output.stderr);
        assert!(said.contains("error: restore:") && said.contains("/kept"), "{said}");
        assert!(!out.join("kept").exists());
    }
    for verb in ["cat", "dump"] {
        let mut command = as_nobody(sandbox, vec![verb.into(), "latest".into(), file.clone().into()]);
        let output = command.output().unwrap();
        assert!(matches!(code(&output), 1 | 20), "{output:?}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn a_restore_that_restores_nothing_does_not_end_well() {
    let sandbox = Sandbox::new();
    let kept = sandbox.tree().join("kept");
    fs::write(&kept, Random::new(3).noise(20_000)).unwrap();
    if is_root() {
        std::os::unix::fs::chown(&kept, Some(65_534), Some(65_534)).unwrap();
    }
    let mirror = sandbox.target("b").into_os_string();
    expect(0, as_nobody(&sandbox, vec!["init".into(), "--mirror".into(), mirror]));
    expect(0, as_nobody(&sandbox, vec!["backup".into(), sandbox.tree().into_os_string()]));
    let packs = |target: &str| sandbox.target(target).join("packs");
    let close = |path: &Path| fs::set_permissions(path, fs::Permissions::from_mode(0o000)).unwrap();
    // They are not there.
    for target in ["a", "b"] {
        fs::rename(packs(target), sandbox.path(format!("packs-{target}"))).unwrap();
    }
    restores_nothing(&sandbox, 20);
    // They are there and cannot be read.
    for target in ["a", "b"] {
        fs::rename(sandbox.path(format!("packs-{target}")), packs(target)).unwrap();
        close(&packs(target));
    }
    restores_nothing(&sandbox, 20);
    // One target does not answer at all, the other has none: nothing says that bytes are lost.
    close(&sandbox.target("a").join("config"));
    fs::remove_dir_all(packs("b")).unwrap();
    restores_nothing(&sandbox, 3);
}
