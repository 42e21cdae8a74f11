//! Comparing trees by means that share nothing with the program: a walk of our own, and rsync where it is installed.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::{BufReader, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Fails unless both trees are the same: entries, kinds, contents, modes, owners, times to the nanosecond, link targets, device
/// numbers, attributes, hard links.
#[track_caller]
pub(crate) fn same(expected: &Path, found: &Path) {
    let differences = differences(expected, found);
    assert!(
        differences.is_empty(),
        "{} differs from {}:\n{}",
        found.display(),
        expected.display(),
        differences.join("\n")
    );
    if let Some(listed) = rsync(expected, found) {
        assert!(listed.is_empty(), "rsync tells {} from {}:\n{listed}", found.display(), expected.display());
    }
}

/// What `rsync` would change, or `None` where it is not installed.
fn rsync(expected: &Path, found: &Path) -> Option<String> {
    let slash = |path: &Path| {
        let mut path = OsString::from(path);
        path.push("/");
        path
    };
    let output = Command::new("rsync")
        .args(["-n", "-aHAX", "--checksum", "--delete", "--itemize-changes"])
        .args([slash(expected), slash(found)])
        .output()
        .ok()?;
    assert!(output.status.success(), "rsync: {}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The first path that each inode was met under.
type Groups = BTreeMap<(u64, u64), PathBuf>;

/// What our own walk finds.
pub(crate) fn differences(expected: &Path, found: &Path) -> Vec<String> {
    let mut differences = Vec::new();
    let (mut left, mut right) = (BTreeMap::new(), BTreeMap::new());
    list(expected, Path::new(""), &mut left);
    list(found, Path::new(""), &mut right);
    let mut groups: (Groups, Groups) = Default::default();
    for (path, a) in &left {
        let Some(b) = right.remove(path) else {
            differences.push(format!("missing: {path:?}"));
            continue;
        };
        let mut tell = |what: &str, a: String, b: String| {
            if a != b {
                differences.push(format!("{path:?}: {what} is {b} instead of {a}"));
            }
        };
        tell("mode", format!("{:o}", a.mode()), format!("{:o}", b.mode()));
        tell("owner", format!("{}:{}", a.uid(), a.gid()), format!("{}:{}", b.uid(), b.gid()));
        tell(
            "mtime",
            format!("{}.{:09}", a.mtime(), a.mtime_nsec()),
            format!("{}.{:09}", b.mtime(), b.mtime_nsec()),
        );
        if !a.is_dir() {
            tell("size", a.len().to_string(), b.len().to_string());
            // Which earlier path has the same inode: equal on both sides when the groups are.
            let first = |groups: &mut Groups, m: &fs::Metadata| {
                groups.entry((m.dev(), m.ino())).or_insert_with(|| path.clone()).clone()
            };
            let firsts = (first(&mut groups.0, a), first(&mut groups.1, &b));
            tell("hard link", format!("{:?}", firsts.0), format!("{:?}", firsts.1));
        }
        let (x, y) = (expected.join(path), found.join(path));
        if a.file_type().is_symlink() && b.file_type().is_symlink() {
            tell(
                "target",
                format!("{:?}", fs::read_link(&x).unwrap()),
                format!("{:?}", fs::read_link(&y).unwrap()),
            );
        } else if a.file_type().is_char_device() || a.file_type().is_block_device() {
            tell("device", a.rdev().to_string(), b.rdev().to_string());
        } else if a.is_file() && b.is_file() && !equal(&x, &y) {
            differences.push(format!("{path:?}: contents differ"));
        }
        let attributes = |path: &Path| {
            attributes(path).into_iter().map(|(n, v)| format!("{n:?}={v:?}")).collect::<Vec<_>>().join(",")
        };
        if a.is_file() || a.is_dir() {
            let pair = (attributes(&x), attributes(&y));
            if pair.0 != pair.1 {
                differences.push(format!("{path:?}: attributes are {} instead of {}", pair.1, pair.0));
            }
        }
    }
    differences.extend(right.keys().map(|path| format!("too much: {path:?}")));
    differences
}

fn list(top: &Path, path: &Path, into: &mut BTreeMap<PathBuf, fs::Metadata>) {
    let full = top.join(path);
    let metadata = fs::symlink_metadata(&full).unwrap_or_else(|error| panic!("{}: {error}", full.display()));
    if metadata.is_dir() {
        for entry in fs::read_dir(&full).unwrap() {
            list(top, &path.join(entry.unwrap().file_name()), into);
        }
    }
    into.insert(path.to_owned(), metadata);
}

fn attributes(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut names = vec![0u8; 64 * 1024];
    let Ok(length) = rustix::fs::llistxattr(path, &mut names) else { return BTreeMap::new() };
    let mut attributes = BTreeMap::new();
    for name in names[..length].split(|b| *b == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0u8; 64 * 1024];
        if let Ok(length) = rustix::fs::lgetxattr(path, name, &mut value) {
            value.truncate(length);
            attributes.insert(name.to_vec(), value);
        }
    }
    attributes
}

fn equal(a: &Path, b: &Path) -> bool {
    let open = |path| BufReader::with_capacity(1 << 16, fs::File::open(path).unwrap());
    let (mut a, mut b) = (open(a), open(b));
    let (mut x, mut y) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        let n = a.read(&mut x).unwrap();
        if n == 0 {
            return b.read(&mut y[..1]).unwrap() == 0;
        }
        if b.read_exact(&mut y[..n]).is_err() || x[..n] != y[..n] {
            return false;
        }
    }
}

#[test]
fn the_comparer_can_tell() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (folder.path().join("a"), folder.path().join("b"));
    fs::create_dir(&a).unwrap();
    crate::tree::fill(&a, 20, &mut crate::tree::Random::new(1));
    crate::tree::oddities(&a);
    crate::tree::copy(&a, &b);
    same(&a, &b);
    let victim =
        crate::tree::files(&b).into_iter().find(|file| fs::metadata(file).unwrap().len() > 1000).unwrap();
    let time = fs::metadata(&victim).unwrap().modified().unwrap();
    let mut bytes = fs::read(&victim).unwrap();
    bytes[500] ^= 1;
    fs::write(&victim, bytes).unwrap();
    fs::File::options().write(true).open(&victim).unwrap().set_modified(time).unwrap();
    assert_eq!(differences(&a, &b).len(), 1);
    fs::remove_file(&victim).unwrap();
    // The folder's time changed as well.
    assert_eq!(differences(&a, &b).len(), 2);
}
