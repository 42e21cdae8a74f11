//! Restoring: whole, in part, one Version; never through a link, never outside the destination.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

use crate::compare::same;
use crate::run::text;
use crate::sandbox::{Sandbox, below, lines, message};
use crate::tree::{Random, age, copy, fill};

fn backed_up() -> (Sandbox, String) {
    let sandbox = Sandbox::new();
    let tree = sandbox.tree();
    fill(&tree, 21, &mut Random::new(41));
    fs::create_dir(tree.join("src")).unwrap();
    for name in ["main.c", "main.o", "other.c"] {
        fs::write(tree.join("src").join(name), name).unwrap();
    }
    sandbox.init(&[]);
    let id = sandbox.backup();
    (sandbox, id)
}

fn restore(
    sandbox: &Sandbox,
    expected: i32,
    what: impl Into<OsString>,
    out: &Path,
    more: &[&str],
) -> std::process::Output {
    let mut args: Vec<OsString> = vec!["restore".into(), what.into(), "--target".into(), out.into()];
    args.extend(more.iter().map(Into::into));
    sandbox.expect(expected, args)
}

#[test]
fn a_planted_link_is_never_followed() {
    let (sandbox, id) = backed_up();
    let outside = sandbox.path("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("main.c"), "not ours").unwrap();
    let before = fs::metadata(&outside).unwrap();

    // A link in a directory's place, in a file's place, and in a parent's place.
    for (round, place) in ["src", "src/main.c", ""].iter().enumerate() {
        let out = sandbox.path(format!("out-{round}"));
        let planted = below(&out, &sandbox.tree()).join(place);
        let planted = Path::new(planted.to_str().unwrap().trim_end_matches('/')).to_owned();
        fs::create_dir_all(planted.parent().unwrap()).unwrap();
        let to = if *place == "src/main.c" { outside.join("main.c") } else { outside.clone() };
        symlink(&to, &planted).unwrap();
        let mut command =
            sandbox.command(["restore".as_ref(), id.as_ref(), "--target".as_ref(), out.as_os_str()]);
        let output = command.output().unwrap();
        assert!(matches!(output.status.code(), Some(0 | 3)), "{place}: {output:?}");
        let names: Vec<_> = fs::read_dir(&outside).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["main.c"], "{place}");
        assert_eq!(fs::read_to_string(outside.join("main.c")).unwrap(), "not ours", "{place}");
        let after = fs::metadata(&outside).unwrap();
        assert_eq!((before.mode(), before.mtime_nsec()), (after.mode(), after.mtime_nsec()), "{place}");
    }
}

#[test]
fn what_stands_in_the_way_is_replaced() {
    let (sandbox, id) = backed_up();
    let out = sandbox.path("out");
    let there = below(&out, &sandbox.tree());
    // An older state of the file, a directory in a file's place, a file in a directory's place.
    fs::create_dir_all(there.join("src/main.c/full")).unwrap();
    fs::write(there.join("src/other.c"), "something much longer than what was backed up").unwrap();
    fs::write(there.join("folder 0"), "no folder").unwrap();
    let mut command =
        sandbox.command(["restore".as_ref(), id.as_ref(), "--target".as_ref(), out.as_os_str()]);
    let output = command.output().unwrap();
    // A directory that holds something else may be kept, and said.
    assert!(matches!(output.status.code(), Some(0 | 3)), "{output:?}");
    assert_eq!(fs::read_to_string(there.join("src/other.c")).unwrap(), "other.c");
    if output.status.success() {
        copy(&sandbox.tree(), &sandbox.path("then"));
        same(&sandbox.path("then"), &there);
    } else {
        assert!(text(&output.stderr).contains("main.c"), "{}", text(&output.stderr));
    }
    // Again, over what it has restored itself.
    let fresh = sandbox.path("fresh");
    restore(&sandbox, 0, &id, &fresh, &[]);
    restore(&sandbox, 0, &id, &fresh, &["--verify"]);
    same(&sandbox.tree(), &below(&fresh, &sandbox.tree()));
}

#[test]
fn parts_are_chosen_by_pattern_and_by_path() {
    let (sandbox, id) = backed_up();
    let names = |folder: &Path| {
        let mut names: Vec<String> = crate::tree::files(folder)
            .iter()
            .map(|file| file.file_name().unwrap().to_str().unwrap().to_owned())
            .collect();
        names.sort();
        names
    };
    let out = |name: &str| sandbox.path(name);
    restore(&sandbox, 0, &id, &out("included"), &["--include", "*.c"]);
    assert_eq!(names(&out("included")), ["main.c", "other.c"]);
    restore(&sandbox, 0, &id, &out("both"), &["--include", "src", "--exclude", "*.o"]);
    assert_eq!(names(&out("both")), ["main.c", "other.c"]);
    let whole = sandbox.tree().join("src");
    restore(&sandbox, 0, &id, &out("by-path"), &["--include", whole.to_str().unwrap()]);
    assert_eq!(names(&out("by-path")), ["main.c", "main.o", "other.c"]);
    restore(&sandbox, 0, &id, &out("excluded"), &["--exclude", "folder*"]);
    assert_eq!(names(&out("excluded")), ["main.c", "main.o", "other.c"]);
    // A subfolder's contents go to the top.
    restore(&sandbox, 0, format!("latest:{}", whole.display()), &out("top"), &[]);
    assert_eq!(fs::read_to_string(out("top").join("main.c")).unwrap(), "main.c");
    // Patterns count from there, as restic's do.
    let part = format!("latest:{}", whole.display());
    restore(&sandbox, 0, &part, &out("anchored"), &["--include", "/main.*", "--exclude", "/*.o"]);
    assert_eq!(names(&out("anchored")), ["main.c"]);
    let none = restore(&sandbox, 1, "latest:", &out("nothing"), &[]);
    assert!(text(&none.stderr).contains("path is missing"), "{}", text(&none.stderr));
    // What is nowhere in the snapshot is an error.
    let none = restore(&sandbox, 1, format!("latest:{}/none", whole.display()), &out("none"), &[]);
    assert!(text(&none.stderr).contains("none"), "{}", text(&none.stderr));
}

#[test]
fn a_dry_run_writes_nothing() {
    let (sandbox, id) = backed_up();
    let out = sandbox.path("out");
    let output = restore(&sandbox, 0, &id, &out, &["--dry-run", "--json"]);
    assert!(!out.exists());
    let lines = lines(&output.stdout);
    assert!(message(&lines, "summary")["total_files"].as_u64().unwrap() >= 24, "{lines:?}");
    let output = restore(&sandbox, 0, &id, &out, &["--dry-run"]);
    assert!(text(&output.stdout).starts_with("would restore"), "{}", text(&output.stdout));
}

#[test]
fn one_version_of_one_file() {
    let (sandbox, _) = backed_up();
    let file = sandbox.tree().join("src/main.c");
    for text in ["second", "third"] {
        fs::write(&file, text).unwrap();
        age(&file);
        sandbox.backup();
    }
    let log = sandbox.expect(0, ["log".as_ref(), "--json".as_ref(), file.as_os_str()]);
    let versions: Vec<String> = lines(&log.stdout)
        .iter()
        .filter(|line| line["message_type"] == "version")
        .map(|line| line["id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(versions.len(), 3, "{}", text(&log.stdout));
    for (version, contents) in versions.iter().zip(["main.c", "second", "third"]) {
        let cat = sandbox.expect(0, ["cat".as_ref(), version.as_ref(), file.as_os_str()]);
        assert_eq!(text(&cat.stdout), contents);
        let out = sandbox.path(format!("out-{contents}"));
        restore(&sandbox, 0, format!("{version}:{}", file.display()), &out, &[]);
        assert_eq!(fs::read_to_string(out.join("main.c")).unwrap(), contents);
    }
}
