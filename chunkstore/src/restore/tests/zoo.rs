//! One of everything that a file system holds, and a comparison that notices any difference.

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};

use crate::metadata::unix::Owners;
use crate::metadata::{Kind, Metadata};
use crate::source::{Rules, Step, Walk};
use crate::testing::{noise, text};

fn set_time(path: &Path, seconds: i64, nanoseconds: i64) {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// An access control list that lets one user more do something, as the kernel keeps it.
fn acl(user: u32) -> Vec<u8> {
    let mut bytes = 2u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in
        [(1u16, 6u16, u32::MAX), (2, 4, user), (4, 4, u32::MAX), (16, 4, u32::MAX), (32, 0, u32::MAX)]
    {
        bytes.extend_from_slice(&tag.to_le_bytes());
        bytes.extend_from_slice(&permissions.to_le_bytes());
        bytes.extend_from_slice(&id.to_le_bytes());
    }
    bytes
}

/// The capability to listen on low ports, as the kernel keeps it.
fn capability() -> Vec<u8> {
    let words: [u32; 5] = [0x0200_0001, 1 << 10, 0, 0, 0];
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// Makes one of everything below `base`, as far as the system and the user's rights go.
pub(super) fn make_zoo(base: &Path) {
    fs::create_dir_all(base.join("directory/inner/empty")).unwrap();
    fs::write(base.join("empty"), "").unwrap();
    fs::write(base.join("small"), "small").unwrap();
    fs::write(base.join("large"), [text(1, 200_000), noise(2, 100_000)].concat()).unwrap();
    fs::write(base.join("duplicate"), text(1, 200_000)).unwrap();
    fs::write(base.join("directory/inner/file"), "inner").unwrap();
    fs::write(base.join(OsStr::from_bytes(b"name \xff\n")), "no text").unwrap();

    let sparse = fs::File::create(base.join("sparse")).unwrap();
    sparse.set_len(4 << 20).unwrap();
    for offset in [0, 1 << 20, (3 << 20) + 8192] {
        sparse.write_all_at(&text(offset, 20_000), offset).unwrap();
    }
    fs::File::create(base.join("hole")).unwrap().set_len(1 << 20).unwrap();
    fs::File::create(base.join("zeros")).unwrap().write_all(&[0; 50_000]).unwrap();

    for (number, mode) in [0o000, 0o444, 0o777, 0o4711, 0o2755, 0o600].into_iter().enumerate() {
        // Who is not root cannot read what nobody may.
        let mode = if rustix::process::geteuid().is_root() { mode } else { mode | 0o400 };
        let path = base.join(format!("mode {number}"));
        fs::write(&path, "mode").unwrap();
        set_mode(&path, mode);
    }
    symlink("small", base.join("link")).unwrap();
    symlink("/nowhere/at/all", base.join("dangling")).unwrap();
    symlink("directory", base.join("link to directory")).unwrap();
    symlink(OsStr::from_bytes(b"\xfe\xff"), base.join("link to no text")).unwrap();
    let mode = Mode::from_raw_mode(0o640);
    rustix::fs::mknodat(CWD, base.join("fifo"), FileType::Fifo, mode, 0).unwrap();
    rustix::fs::mknodat(CWD, base.join("socket"), FileType::Socket, mode, 0).unwrap();
    for (name, file_type) in [("character", FileType::CharacterDevice), ("block", FileType::BlockDevice)] {
        // Only root can.
        let _ = rustix::fs::mknodat(CWD, base.join(name), file_type, mode, rustix::fs::makedev(7, 1_000_001));
    }
    for other in ["hard link", "directory/hard link"] {
        fs::hard_link(base.join("large"), base.join(other)).unwrap();
    }
    // Protected against in some systems.
    let _ = fs::hard_link(base.join("dangling"), base.join("link to link"));

    let attribute = |path: &str, name: &str, value: &[u8]| {
        let _ = rustix::fs::lsetxattr(base.join(path), name, value, XattrFlags::empty());
    };
    attribute("small", "user.one", b"value");
    attribute("small", "user.two", &[b'x'; 1500]);
    attribute("directory", "user.directory", b"");
    attribute("mode 5", "system.posix_acl_access", &acl(1000));
    attribute("directory/inner", "system.posix_acl_default", &acl(1001));
    attribute("mode 2", "security.capability", &capability());
    attribute("dangling", "trusted.link", b"of the link itself");

    for (name, user, group) in
        [("zeros", 1234, 5678), ("dangling", 1234, 5678), ("mode 3", 1234, 0), ("directory/inner", 1, 1)]
    {
        let _ = rustix::fs::chownat(
            CWD,
            base.join(name),
            Some(Uid::from_raw(user)),
            Some(Gid::from_raw(group)),
            AtFlags::SYMLINK_NOFOLLOW,
        );
    }
    if rustix::process::geteuid().is_root() {
        // The change of owner took these away.
        set_mode(&base.join("mode 3"), 0o4711);
        set_mode(&base.join("directory/inner"), 0o2750);
    }

    // Below a path that is longer than the system takes.
    let name = "long name ".repeat(20);
    let mut at = rustix::fs::open(base, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
    for _ in 0..25 {
        rustix::fs::mkdirat(&at, &*name, Mode::from_raw_mode(0o755)).unwrap();
        at = rustix::fs::openat(&at, &*name, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
    }
    let deep =
        rustix::fs::openat(&at, "deep", OFlags::CREATE | OFlags::WRONLY, Mode::from_raw_mode(0o640)).unwrap();
    fs::File::from(deep).write_all(b"deep").unwrap();

    set_time(&base.join("small"), -1, 999_999_999);
    set_time(&base.join("empty"), -1_000_000_000, 1);
    set_time(&base.join("zeros"), 7_000_000_000, 123_456_789);
    set_time(&base.join("dangling"), 1, 2);
    set_time(&base.join("fifo"), 3, 4);
    set_mode(&base.join("directory/inner/empty"), 0o555);
    set_time(&base.join("directory/inner/empty"), 5, 6);
    set_time(&base.join("directory/inner"), 1_000_000, 7);
    set_time(&base.join("directory"), 2_000_000, 8);
    set_time(base, 3_000_000, 9);
}

/// Everything below and at `base` that a restore should bring back, by path from there.
fn state(base: &Path) -> Vec<(String, Metadata, blake3::Hash)> {
    let owners = Owners::default();
    let mut found: Vec<(String, Metadata, blake3::Hash)> = Vec::new();
    let mut first_names: std::collections::HashMap<u64, u64> = std::collections::HashMap::new();
    for step in Walk::new(&[base.to_owned()], Rules::none()).unwrap() {
        let Step::Entry(entry) = step else { panic!("{step:?}") };
        let path = entry.path();
        let Ok(path) = path.strip_prefix(base) else { continue };
        let mut hasher = blake3::Hasher::new();
        let mut metadata = if entry.stat().kind == Kind::File && entry.stat().mode & 0o400 != 0 {
            let mut file = entry.open().unwrap();
            let mut metadata = file.capture(&owners).unwrap().metadata;
            let mut buffer = vec![0; 1 << 16];
            while let count @ 1.. = file.read(&mut buffer).unwrap() {
                hasher.update(&buffer[..count]);
            }
            file.finish().unwrap().complete(&mut metadata);
            metadata
        } else {
            entry.capture(&owners).unwrap().metadata
        };
        // What no restore brings back, and inodes as the order in which they first appear.
        let next = first_names.len() as u64;
        metadata.inode = *first_names.entry(metadata.inode).or_insert(next);
        (metadata.ctime, metadata.birth, metadata.device) = (Default::default(), None, 0);
        found.push((
            String::from_utf8_lossy(path.as_os_str().as_bytes()).into_owned(),
            metadata,
            hasher.finalize(),
        ));
    }
    found
}

/// What differs between two trees.
pub(super) fn compare(source: &Path, target: &Path) -> Vec<String> {
    let (expected, found) = (state(source), state(target));
    let mut differences = Vec::new();
    for entry in &expected {
        match found.iter().find(|other| other.0 == entry.0) {
            None => differences.push(format!("{} is missing", entry.0)),
            Some(other) if other != entry => differences.push(format!("{entry:?}\n became {other:?}")),
            Some(_) => {}
        }
    }
    for (path, ..) in &found {
        if !expected.iter().any(|(other, ..)| other == path) {
            differences.push(format!("{path} is too much"));
        }
    }
    differences
}

/// Fails unless both trees are the same, by our own comparison and by rsync's where there is one.
pub(super) fn assert_same(source: &Path, target: &Path) {
    let differences = compare(source, target);
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    if !rustix::process::geteuid().is_root() {
        // It would not be allowed to read all of it.
        return;
    }
    let slash = |path: &Path| {
        let mut path = path.as_os_str().to_owned();
        path.push("/");
        path
    };
    let rsync = Command::new("rsync")
        .args(["-n", "-aHAX", "--checksum", "--delete", "--itemize-changes", "--exclude=long name*"])
        .arg(slash(source))
        .arg(slash(target))
        .output();
    if let Ok(rsync) = rsync {
        let said = String::from_utf8_lossy(&rsync.stdout);
        assert!(
            rsync.status.success() && said.is_empty(),
            "{said}{}",
            String::from_utf8_lossy(&rsync.stderr)
        );
    }
}
