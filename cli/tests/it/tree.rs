//! Trees that hold what is hard to keep, and changes to them; the same from the same seed.

use std::ffi::OsStr;
use std::fs::{self, File, FileTimes};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags};

use crate::sandbox::is_root;

/// Numbers that look random and are not (SplitMix64).
pub(crate) struct Random(u64);

impl Random {
    /// From a seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next one.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// One below a limit.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(limit).unwrap()).unwrap()
    }

    /// So many bytes that compress about as text does.
    pub(crate) fn text(&mut self, length: usize) -> Vec<u8> {
        const WORDS: [&str; 12] = [
            "chunk ", "frame ", "pack ", "the ", "of ", "Version ", "target ", "and ", "\n", "is ", "a ",
            "segment ",
        ];
        let mut bytes = Vec::with_capacity(length + 12);
        while bytes.len() < length {
            bytes.extend_from_slice(WORDS[self.below(WORDS.len())].as_bytes());
            if self.below(9) == 0 {
                bytes.extend_from_slice(self.next().to_string().as_bytes());
            }
        }
        bytes.truncate(length);
        bytes
    }

    /// So many bytes that do not compress.
    pub(crate) fn noise(&mut self, length: usize) -> Vec<u8> {
        let mut bytes: Vec<u8> = (0..length.div_ceil(8)).flat_map(|_| self.next().to_le_bytes()).collect();
        bytes.truncate(length);
        bytes
    }
}

/// Fills a folder with `files` files in some directories.
pub(crate) fn fill(top: &Path, files: usize, random: &mut Random) {
    for number in 0..files {
        let folder = top.join(format!("folder {}", number % 7)).join(format!("{}", number % 3));
        fs::create_dir_all(&folder).unwrap();
        let length = match number % 5 {
            0 => 0,
            1 => random.below(200),
            2 => random.below(4000),
            3 => random.below(40_000),
            _ => random.below(300_000),
        };
        let bytes = if number % 4 == 0 { random.noise(length) } else { random.text(length) };
        fs::write(folder.join(format!("file-{number}")), bytes).unwrap();
    }
}

/// Puts every kind of entry into a folder that the user may make.
pub(crate) fn oddities(top: &Path) {
    let odd = top.join("oddities");
    fs::create_dir_all(odd.join("empty directory")).unwrap();
    for name in [
        &b"plain"[..],
        b"\xff\xfe no text",
        b"new\nline",
        b" leading",
        b"back\\slash",
        b"-dash",
        "ümläut".as_bytes(),
    ] {
        fs::write(odd.join(OsStr::from_bytes(name)), name).unwrap();
    }
    symlink("plain", odd.join("link")).unwrap();
    symlink(OsStr::from_bytes(b"nowhere \xfd"), odd.join("broken link")).unwrap();
    symlink("/", odd.join("link to a directory")).unwrap();
    fs::hard_link(odd.join("plain"), odd.join("second name")).unwrap();
    fs::hard_link(odd.join("plain"), top.join("third name")).unwrap();
    rustix::fs::mknodat(CWD, odd.join("pipe"), FileType::Fifo, Mode::from_bits_truncate(0o640), 0).unwrap();
    // Bound by a relative name: the address of a socket has room for a hundred bytes only.
    rustix::fs::mknodat(CWD, odd.join("socket"), FileType::Socket, Mode::from_bits_truncate(0o600), 0)
        .unwrap();

    let mode = |name: &str, mode: u32| {
        let path = odd.join(name);
        fs::write(&path, name).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    };
    mode("setuid", 0o4755);
    mode("setgid", 0o2755);
    mode("private", 0o600);
    mode("read-only", 0o444);
    fs::create_dir(odd.join("sticky")).unwrap();
    fs::set_permissions(odd.join("sticky"), fs::Permissions::from_mode(0o1777)).unwrap();
    fs::create_dir(odd.join("read-only directory")).unwrap();
    fs::write(odd.join("read-only directory/inside"), "x").unwrap();
    fs::set_permissions(odd.join("read-only directory"), fs::Permissions::from_mode(0o555)).unwrap();

    let time = |name: &str, seconds: i64, nanoseconds: i64| {
        let path = odd.join(name);
        if !path.exists() {
            fs::write(&path, name).unwrap();
        }
        let stamp = Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
        let times = Timestamps { last_access: stamp, last_modification: stamp };
        rustix::fs::utimensat(CWD, &path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    };
    time("before 1970", -86_400, 1);
    time("far ahead", 4_294_967_296 + 5, 999_999_999);
    time("empty directory", 1_000_000_000, 123_456_789);

    // Holes at the start, within, and at the end.
    let sparse = File::create(odd.join("sparse")).unwrap();
    sparse.write_all_at(&[1; 4096], 1 << 20).unwrap();
    sparse.write_all_at(&[2; 10_000], 3 << 20).unwrap();
    sparse.set_len(8 << 20).unwrap();
    File::create(odd.join("all hole")).unwrap().set_len(5 << 20).unwrap();
    // Zeros that are written are no hole.
    fs::write(odd.join("zeros"), vec![0; 200_000]).unwrap();

    // Attributes need a file system that has them.
    let _ = rustix::fs::setxattr(odd.join("plain"), "user.kept", b"a value\0\xff", XattrFlags::empty());
    let _ = rustix::fs::setxattr(odd.join("empty directory"), "user.kept", b"", XattrFlags::empty());
    if is_root() {
        rustix::fs::chownat(
            CWD,
            odd.join("private"),
            Some(rustix::fs::Uid::from_raw(12_345)),
            Some(rustix::fs::Gid::from_raw(54_321)),
            AtFlags::empty(),
        )
        .unwrap();
        let device = rustix::fs::makedev(1, 3);
        // A container may forbid devices even to root.
        let _ = rustix::fs::mknodat(
            CWD,
            odd.join("null"),
            FileType::CharacterDevice,
            Mode::from_bits_truncate(0o666),
            device,
        );
    }
}

/// A path longer than PATH_MAX below a folder, with a file at its end; made step by step, since no call takes it whole.
pub(crate) fn deep(top: &Path) {
    let name = "d".repeat(200);
    let mut folder = rustix::fs::open(top, rustix::fs::OFlags::DIRECTORY, Mode::empty()).unwrap();
    for _ in 0..25 {
        rustix::fs::mkdirat(&folder, &name, Mode::from_bits_truncate(0o755)).unwrap();
        folder = rustix::fs::openat(&folder, &name, rustix::fs::OFlags::DIRECTORY, Mode::empty()).unwrap();
    }
    let flags = rustix::fs::OFlags::CREATE | rustix::fs::OFlags::WRONLY;
    let file = rustix::fs::openat(&folder, "bottom", flags, Mode::from_bits_truncate(0o644)).unwrap();
    File::from(file).write_all(b"at the bottom").unwrap();
}

/// Changes about one file in eight: grows, shrinks, rewrites, renames, removes, links, changes modes; makes new ones.
pub(crate) fn change(top: &Path, round: u64) {
    let mut random = Random::new(round.wrapping_mul(7919));
    for path in files(top) {
        match random.below(40) {
            0 => fs::OpenOptions::new()
                .append(true)
                .open(&path)
                .unwrap()
                .write_all(&random.text(3000))
                .unwrap(),
            1 => {
                let length = fs::metadata(&path).unwrap().len();
                fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(length / 2).unwrap();
            }
            2 => {
                let mut file = fs::OpenOptions::new().write(true).open(&path).unwrap();
                file.seek(SeekFrom::Start(100)).unwrap();
                file.write_all(&random.noise(5000)).unwrap();
            }
            3 => fs::rename(&path, path.with_extension(format!("renamed{round}"))).unwrap(),
            4 => fs::remove_file(&path).unwrap(),
            5 => fs::hard_link(&path, path.with_extension(format!("link{round}"))).unwrap(),
            6 => fs::set_permissions(
                &path,
                fs::Permissions::from_mode(0o600 + u32::try_from(random.below(8)).unwrap()),
            )
            .unwrap(),
            _ => {}
        }
    }
    let fresh = top.join(format!("new in round {round}"));
    fill(&fresh, 8, &mut random);
    symlink(format!("target of round {round}"), top.join(format!("link of round {round}"))).unwrap();
    // A file becomes a directory and the other way round.
    let turns = top.join("turns");
    if turns.is_dir() {
        fs::remove_dir_all(&turns).unwrap();
        fs::write(&turns, "now a file").unwrap();
    } else {
        let _ = fs::remove_file(&turns);
        fs::create_dir(&turns).unwrap();
        fs::write(turns.join("inside"), round.to_string()).unwrap();
    }
}

/// All regular files below a folder, in order.
pub(crate) fn files(top: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![top.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let entry = entry.unwrap();
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    found
}

/// Makes a file look as if it had changed long ago, so that its timestamp is beyond doubt.
pub(crate) fn age(path: &Path) {
    let past = SystemTime::now() - Duration::from_secs(3600);
    File::options().write(true).open(path).unwrap().set_times(FileTimes::new().set_modified(past)).unwrap();
}

/// Copies a tree with everything that `cp -a` keeps, to be compared with later.
pub(crate) fn copy(from: &Path, to: &Path) {
    let status =
        std::process::Command::new("cp").arg("-a").arg("--sparse=always").arg(from).arg(to).status().unwrap();
    assert!(status.success());
}
