//! A directory comes out as a tar archive that the system's tar unpacks to what was backed up.

use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::compare::same;
use crate::run::text;
use crate::sandbox::{Sandbox, below, is_root};
use crate::tree::{Random, fill, oddities};

/// Unpacks an archive with everything that is in it.
fn unpack(archive: &Path, out: &Path, locale: &str) {
    fs::create_dir(out).unwrap();
    let tar = Command::new("tar")
        .args(["--xattrs", "--xattrs-include=*", "--numeric-owner", "--warning=no-timestamp", "-xpf"])
        .arg(archive)
        .arg("-C")
        .arg(out)
        .env("LC_ALL", locale)
        .output()
        .unwrap();
    assert!(tar.status.success() && tar.stderr.is_empty(), "{}", text(&tar.stderr));
}

/// Writes the archive of a path; the exit code and where it is.
fn dump(sandbox: &Sandbox, path: &Path) -> (Option<i32>, PathBuf) {
    let file = sandbox.path("archive.tar");
    let mut command = sandbox.command(["dump".as_ref(), "latest".as_ref(), path.as_os_str()]);
    let status = command.stdout(fs::File::create(&file).unwrap()).stderr(Stdio::null()).status().unwrap();
    (status.code(), file)
}

/// Takes the sockets away: an archive has no place for them.
fn without_sockets(folder: &Path) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            without_sockets(&entry.path());
        } else if kind.is_socket() {
            let time = fs::metadata(folder).unwrap().modified().unwrap();
            fs::remove_file(entry.path()).unwrap();
            fs::File::open(folder).unwrap().set_modified(time).unwrap();
        }
    }
}

#[test]
fn an_archive_unpacks_to_what_was_backed_up() {
    // Owners come back by root only.
    if !is_root() {
        return;
    }
    let sandbox = Sandbox::new();
    let tree = sandbox.tree();
    fill(&tree, 60, &mut Random::new(61));
    oddities(&tree);
    let long = tree.join("n".repeat(120)).join("m".repeat(150));
    fs::create_dir_all(&long).unwrap();
    fs::write(long.join("o".repeat(200)), "far down").unwrap();
    fs::write(long.join("p"), Random::new(62).noise(9_000_000)).unwrap();
    fs::hard_link(long.join("p"), tree.join("the same")).unwrap();
    sandbox.init(&[]);
    sandbox.expect(0, ["backup".into(), tree.clone()]);
    // For the sockets in it.
    let (code, archive) = dump(&sandbox, &tree);
    assert_eq!(code, Some(3));
    without_sockets(&tree);
    sandbox.expect(0, ["backup".into(), tree.clone()]);
    for (name, locale) in [("out", "C"), ("out-utf8", "C.UTF-8")] {
        let out = sandbox.path(name);
        unpack(&archive, &out, locale);
        same(&tree, &below(&out, &tree));
    }
    // What is above the roots is an archive as well.
    let (code, archive) = dump(&sandbox, Path::new("/"));
    assert_eq!(code, Some(0));
    let out = sandbox.path("out-of-all");
    unpack(&archive, &out, "C");
    same(&tree, &below(&out, &tree));
}

#[test]
fn a_reader_that_leaves_is_no_error_of_the_repository() {
    let sandbox = Sandbox::new();
    fs::write(sandbox.tree().join("large"), Random::new(63).noise(3_000_000)).unwrap();
    sandbox.init(&[]);
    sandbox.backup();
    let mut dump = sandbox
        .command(["dump".as_ref(), "latest".as_ref(), sandbox.tree().as_os_str()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    drop(dump.stdout.take());
    assert_eq!(dump.wait().unwrap().code(), Some(141));
}

#[test]
fn a_link_has_no_contents() {
    let sandbox = Sandbox::new();
    let link = sandbox.tree().join("link");
    std::os::unix::fs::symlink("somewhere", &link).unwrap();
    sandbox.init(&[]);
    sandbox.backup();
    let output = sandbox.expect(1, ["cat".as_ref(), "latest".as_ref(), link.as_os_str()]);
    assert!(text(&output.stderr).contains("symlink"), "{}", text(&output.stderr));
}
