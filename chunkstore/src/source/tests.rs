//! The walk and the reader on real directories.

use std::collections::BTreeSet;
use std::ffi::{CString, OsStr};
use std::fs;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use proptest::prelude::*;
use rustix::fs::{CWD, FileType, Mode, OFlags};

use super::{Entry, RuleOptions, Rules, ScanStart, Step, Unseen, Walk};
use crate::ErrorKind;
use crate::entry_key::EntryKey;
use crate::metadata::unix::Owners;
use crate::metadata::{Hole, Kind, Timestamp};

/// A temporary directory by its real path: what leads to it must not be a link for these tests.
fn scratch() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().canonicalize().unwrap();
    (dir, path)
}

fn steps(roots: &[&Path], options: &RuleOptions) -> (Vec<Entry>, Vec<Unseen>) {
    let roots: Vec<PathBuf> = roots.iter().map(|root| root.to_path_buf()).collect();
    let (mut entries, mut unseen) = (Vec::new(), Vec::new());
    let mut last: Option<EntryKey> = None;
    for step in Walk::new(&roots, Rules::new(options).unwrap()).unwrap() {
        match step {
            Step::Entry(entry) => {
                assert!(last.as_ref() < Some(entry.key()), "{last:?} before {:?}", entry.key());
                last = Some(entry.key().clone());
                entries.push(entry);
            }
            Step::Unseen(step) => unseen.push(step),
        }
    }
    (entries, unseen)
}

/// The paths below `base`, relative to it, that a walk of it finds, in its order.
fn below(base: &Path, options: &RuleOptions) -> Vec<String> {
    let (entries, unseen) = steps(&[base], options);
    assert!(unseen.is_empty(), "{unseen:?}");
    let relative = |entry: &Entry| Some(entry.path().strip_prefix(base).ok()?.to_string_lossy().into_owned());
    entries.iter().filter_map(relative).filter(|path| !path.is_empty()).collect()
}

fn make(base: &Path, paths: &[&str]) {
    for path in paths {
        let path = base.join(path);
        if path.as_os_str().as_bytes().ends_with(b"/") {
            fs::create_dir_all(&path).unwrap();
        } else {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, path.file_name().unwrap().as_bytes()).unwrap();
        }
    }
}

fn find(entries: Vec<Entry>, path: &Path) -> Entry {
    entries.into_iter().find(|entry| entry.path() == path).unwrap()
}

/// Runs `work` as a user who may do nothing, if the test may become one.
fn unprivileged<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        scope
            .spawn(|| {
                if rustix::process::geteuid().is_root() {
                    // Of this thread only: the system call knows threads, not processes.
                    let nobody = rustix::process::Uid::from_raw(65534);
                    rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
                }
                work()
            })
            .join()
            .unwrap()
    })
}

#[test]
fn a_tree_comes_in_order_with_what_leads_to_it() {
    let (_guard, base) = scratch();
    make(&base, &["b/x", "b/a/deep", "b-/y", "a", "c"]);
    let (entries, unseen) = steps(&[&base], &RuleOptions::default());
    assert!(unseen.is_empty());
    let paths: Vec<PathBuf> = entries.iter().map(Entry::path).collect();
    let mut expected: Vec<PathBuf> = base.ancestors().map(Path::to_path_buf).collect();
    expected.reverse();
    expected.extend(["a", "b", "b-", "c", "b/a", "b/x", "b/a/deep", "b-/y"].map(|path| base.join(path)));
    assert_eq!(paths, expected);
}

#[test]
fn several_roots_share_what_leads_to_them() {
    let (_guard, base) = scratch();
    make(&base, &["one/in", "one/sub/in", "two", "other/in", "three/x/y"]);
    let roots = [base.join("three/x"), base.join("one"), base.join("two"), base.join("one/sub")];
    let roots: Vec<&Path> = roots.iter().map(PathBuf::as_path).collect();
    let (entries, unseen) = steps(&roots, &RuleOptions::default());
    assert!(unseen.is_empty(), "{unseen:?}");
    let found: Vec<String> = entries
        .iter()
        .filter_map(|entry| Some(entry.path().strip_prefix(&base).ok()?.to_string_lossy().into_owned()))
        .collect();
    assert_eq!(found, ["", "one", "three", "two", "one/in", "one/sub", "one/sub/in", "three/x", "three/x/y"]);
}

#[test]
fn a_root_may_be_a_file_a_link_or_missing() {
    let (_guard, base) = scratch();
    make(&base, &["file", "dir/in"]);
    symlink("dir", base.join("link")).unwrap();
    let roots = [base.join("file"), base.join("link"), base.join("missing"), base.join("no/way")];
    let roots: Vec<&Path> = roots.iter().map(PathBuf::as_path).collect();
    let (entries, unseen) = steps(&roots, &RuleOptions::default());
    let kinds: Vec<Kind> = entries.iter().rev().take(2).map(|entry| entry.stat().kind).collect();
    assert_eq!(kinds, [Kind::Symlink, Kind::File], "a link is not followed");
    let missing: Vec<(PathBuf, bool, ErrorKind)> =
        unseen.iter().map(|gap| (gap.key.path(), gap.below_only, gap.error.kind())).collect();
    assert_eq!(
        missing,
        [(base.join("missing"), false, ErrorKind::NotFound), (base.join("no"), false, ErrorKind::NotFound)],
        "what was there before is not taken for gone"
    );
}

#[test]
fn links_on_the_way_to_a_root_are_passed() {
    let (_guard, base) = scratch();
    make(&base, &["real/dir/in"]);
    symlink("real", base.join("link")).unwrap();
    let root = base.join("link/dir");
    let (entries, unseen) = steps(&[&root], &RuleOptions::default());
    assert!(unseen.is_empty(), "{unseen:?}");
    let way = entries.iter().find(|entry| entry.path() == base.join("link")).unwrap();
    assert_eq!(way.stat().kind, Kind::Directory);
    way.capture(&Owners::default()).unwrap();
    assert_eq!(entries.last().unwrap().path(), root.join("in"));
    entries.last().unwrap().open().unwrap();
}

#[test]
fn the_root_of_everything_is_an_entry() {
    let walk = Walk::new(&[PathBuf::from("/")], Rules::none()).unwrap();
    let mut seen = 0;
    for (step, count) in walk.zip(0..50) {
        let Step::Entry(entry) = step else { continue };
        assert_eq!(entry.key().is_root(), count == 0);
        seen += usize::from(entry.key().depth() <= 1);
    }
    assert!(seen > 3, "its own entries come first");
}

#[test]
fn what_makes_no_walk_is_refused() {
    for roots in [&[][..], &["relative"], &["/a/../b"], &["/a", ""]] {
        let roots: Vec<PathBuf> = roots.iter().map(PathBuf::from).collect();
        assert_eq!(Walk::new(&roots, Rules::none()).unwrap_err().kind(), ErrorKind::InvalidArgument);
    }
}

#[test]
fn exclusion_follows_the_table() {
    let (_guard, base) = scratch();
    make(
        &base,
        &["a.o", "a.c", "keep/b.o", "build/x", "build/keep/y", "src/build/z", "Pictures/p.JPG", "big"],
    );
    fs::write(base.join("big"), vec![1; 5000]).unwrap();
    let exclude = |patterns: &[&str]| RuleOptions {
        exclude: patterns.iter().map(|pattern| (*pattern).to_owned()).collect(),
        ..RuleOptions::default()
    };
    let all = below(&base, &RuleOptions::default());
    let without = |gone: &[&str]| {
        let gone: BTreeSet<&str> = gone.iter().copied().collect();
        all.iter().filter(|path| !gone.contains(path.as_str())).cloned().collect::<Vec<_>>()
    };
    assert_eq!(all.len(), 14);
    let anchored = format!("{}/build", base.display());
    for (options, gone) in [
        (exclude(&["*.o"]), &["a.o", "keep/b.o"][..]),
        (exclude(&["*.o", "!b.o"]), &["a.o"]),
        (
            exclude(&["build"]),
            &["build", "build/x", "build/keep", "build/keep/y", "src/build", "src/build/z"],
        ),
        (exclude(&[&anchored]), &["build", "build/x", "build/keep", "build/keep/y"]),
        (exclude(&["src/build"]), &["src/build", "src/build/z"]),
        (exclude(&["build/*", "!build/keep"]), &["build/x", "src/build/z"]),
        (exclude(&["x/"]), &[]),
        (
            RuleOptions { exclude_ignoring_case: vec!["*.jpg".into()], ..RuleOptions::default() },
            &["Pictures/p.JPG"],
        ),
        (RuleOptions { exclude_larger_than: Some(4999), ..RuleOptions::default() }, &["big"]),
        (RuleOptions { exclude_larger_than: Some(5000), ..RuleOptions::default() }, &[]),
        (
            RuleOptions { exclude_trees: vec![base.join("build/../build")], ..RuleOptions::default() },
            &["build/x", "build/keep", "build/keep/y"],
        ),
    ] {
        assert_eq!(below(&base, &options), without(gone), "{options:?}");
    }
    let list = base.join("list");
    fs::write(&list, "# a comment\n\n*.o\n!keep/*.o\n").unwrap();
    let options = RuleOptions { exclude_files: vec![list], ..RuleOptions::default() };
    assert!(!below(&base, &options).contains(&"a.o".into()));
    assert!(below(&base, &options).contains(&"keep/b.o".into()));
}

#[test]
fn a_root_is_never_excluded() {
    let (_guard, base) = scratch();
    make(&base, &["out/x", "out/in/y", "z"]);
    let options = RuleOptions { exclude: vec!["out".into()], ..RuleOptions::default() };
    let (entries, _) = steps(&[&base.join("out")], &options);
    assert_eq!(entries.last().unwrap().path(), base.join("out/in/y"));
    let (entries, _) = steps(&[&base, &base.join("out/in")], &options);
    let found: Vec<PathBuf> =
        entries.iter().map(Entry::path).filter(|path| path.starts_with(base.join("out"))).collect();
    assert!(found.contains(&base.join("out/in/y")), "{found:?}");
}

#[test]
fn marked_directories_keep_only_their_mark() {
    let (_guard, base) = scratch();
    make(&base, &["cache/a", "cache/sub/b", "fake/CACHEDIR.TAG", "fake/c", "no/.nobackup", "no/d", "yes/e"]);
    fs::write(base.join("cache/CACHEDIR.TAG"), b"Signature: 8a477f597d28d172789f06886806bc55\n# by a test")
        .unwrap();
    let caches = RuleOptions { exclude_caches: true, ..RuleOptions::default() };
    let found = below(&base, &caches);
    assert!(!found.iter().any(|path| path == "cache/a" || path.starts_with("cache/sub")), "{found:?}");
    assert!(found.contains(&"cache/CACHEDIR.TAG".into()) && found.contains(&"fake/c".into()));
    for (mark, excluded) in
        [(".nobackup", true), (".nobackup:.nob", true), (".nobackup:other", false), ("missing", false)]
    {
        let options = RuleOptions { exclude_if_present: vec![mark.into()], ..RuleOptions::default() };
        let found = below(&base, &options);
        assert_eq!(found.contains(&"no/d".into()), !excluded, "{mark}");
        assert!(found.contains(&"no/.nobackup".into()) && found.contains(&"yes/e".into()));
    }
}

#[test]
fn a_mark_that_is_a_pipe_does_not_hang() {
    let (_guard, base) = scratch();
    make(&base, &["d/x"]);
    rustix::fs::mknodat(CWD, base.join("d/CACHEDIR.TAG"), FileType::Fifo, Mode::from_raw_mode(0o600), 0)
        .unwrap();
    let options = RuleOptions { exclude_caches: true, ..RuleOptions::default() };
    assert!(below(&base, &options).contains(&"d/x".into()));
}

#[test]
fn one_file_system_keeps_the_mount_point_empty() {
    // `/proc` is another file system wherever these tests run.
    let options = RuleOptions { one_file_system: true, ..RuleOptions::default() };
    let mut walk = Walk::new(&[PathBuf::from("/")], Rules::new(&options).unwrap()).unwrap();
    let top: Vec<Step> = walk
        .by_ref()
        .take_while(|step| match step {
            Step::Entry(entry) => entry.key().depth() <= 1,
            Step::Unseen(_) => true,
        })
        .collect();
    let proc = EntryKey::from_path("/proc").unwrap();
    assert!(top.iter().any(|step| matches!(step, Step::Entry(entry) if *entry.key() == proc)));

    assert!(!walk.is_to_enter(b"proc"));
}

#[test]
fn an_unreadable_directory_is_a_gap() {
    let (_guard, base) = scratch();
    make(&base, &["open/a", "shut/b", "z"]);
    fs::set_permissions(&base, fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(base.join("shut"), fs::Permissions::from_mode(0o000)).unwrap();
    let (found, gaps) = unprivileged(|| {
        let (entries, unseen) = steps(&[&base], &RuleOptions::default());
        let found: Vec<PathBuf> = entries.iter().map(Entry::path).collect();
        (found, unseen)
    });
    fs::set_permissions(base.join("shut"), fs::Permissions::from_mode(0o755)).unwrap();
    assert!(
        found.contains(&base.join("shut"))
            && found.contains(&base.join("open/a"))
            && found.contains(&base.join("z"))
    );
    assert_eq!(gaps.len(), 1);
    assert_eq!((gaps[0].key.path(), gaps[0].below_only), (base.join("shut"), true));
    assert_eq!(gaps[0].error.kind(), ErrorKind::Source);
}

#[test]
fn entries_that_cannot_be_looked_at_cost_only_themselves() {
    let (_guard, base) = scratch();
    make(&base, &["listed/a", "listed/b", "z"]);
    fs::set_permissions(&base, fs::Permissions::from_mode(0o755)).unwrap();
    // Readable but not to be searched: names can be had, nothing else.
    fs::set_permissions(base.join("listed"), fs::Permissions::from_mode(0o744)).unwrap();
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let gaps = unprivileged(|| steps(&[&base], &RuleOptions::default()).1);
    let gaps: Vec<(PathBuf, bool)> = gaps.iter().map(|gap| (gap.key.path(), gap.below_only)).collect();
    assert_eq!(gaps, [(base.join("listed/a"), false), (base.join("listed/b"), false)]);
}

/// Walks until `path` was emitted, does something, and goes on. Returns what came after.
fn interrupted(base: &Path, path: &Path, act: impl FnOnce()) -> Vec<Step> {
    let mut walk = Walk::new(&[base.to_path_buf()], Rules::none()).unwrap();
    assert!(walk.by_ref().any(|step| matches!(step, Step::Entry(entry) if entry.path() == path)));
    act();
    walk.collect()
}

#[test]
fn a_directory_that_vanishes_is_a_gap_and_an_entry_is_gone() {
    let (_guard, base) = scratch();
    make(&base, &["a", "b/x", "c", "d"]);
    let rest = interrupted(&base, &base.join("b"), || {
        fs::remove_dir_all(base.join("b")).unwrap();
        fs::remove_file(base.join("c")).unwrap();
    });
    let [Step::Entry(d), Step::Unseen(gap)] = &rest[..] else { panic!("{rest:?}") };
    assert_eq!(d.path(), base.join("d"));
    assert_eq!(
        (gap.key.path(), gap.below_only, gap.error.kind()),
        (base.join("b"), true, ErrorKind::NotFound)
    );
}

#[test]
fn a_directory_swapped_for_a_link_is_not_entered() {
    let (_guard, base) = scratch();
    make(&base, &["b/x", "secret/s"]);
    let rest = interrupted(&base, &base.join("secret"), || {
        fs::rename(base.join("b"), base.join("gone")).unwrap();
        symlink("secret", base.join("b")).unwrap();
    });
    let [Step::Unseen(gap), Step::Entry(inside)] = &rest[..] else { panic!("{rest:?}") };
    assert_eq!((gap.key.path(), gap.below_only), (base.join("b"), true));
    assert_eq!(inside.path(), base.join("secret/s"));
}

#[test]
fn a_directory_swapped_for_another_is_not_entered() {
    let (_guard, base) = scratch();
    make(&base, &["b/x", "c/y"]);
    let rest = interrupted(&base, &base.join("c"), || {
        fs::rename(base.join("b"), base.join("old")).unwrap();
        make(&base, &["b/z"]);
    });
    let [Step::Unseen(gap), Step::Entry(_)] = &rest[..] else { panic!("{rest:?}") };
    assert_eq!(gap.key.path(), base.join("b"));
}

#[test]
fn many_entries_in_one_directory() {
    let (_guard, base) = scratch();
    for number in 0..3000 {
        fs::write(base.join(format!("{number}-with-a-name-of-some-length")), b"").unwrap();
    }
    assert_eq!(below(&base, &RuleOptions::default()).len(), 3000);
}

/// Makes `depth` directories, each in the last one. Returns the innermost.
fn dig(base: &Path, name: &str, depth: usize) -> OwnedFd {
    let mut at = rustix::fs::open(base, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
    for _ in 0..depth {
        rustix::fs::mkdirat(&at, name, Mode::from_raw_mode(0o755)).unwrap();
        at = rustix::fs::openat(&at, name, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
    }
    at
}

#[test]
fn paths_longer_than_the_systems_limit() {
    let (_guard, base) = scratch();
    let name = "n".repeat(200);
    let inner = dig(&base, &name, 300);
    let file =
        rustix::fs::openat(&inner, "file", OFlags::CREATE | OFlags::WRONLY, Mode::from_raw_mode(0o644))
            .unwrap();
    rustix::io::write(&file, b"far down").unwrap();
    let (entries, unseen) = steps(&[&base], &RuleOptions::default());
    assert!(unseen.is_empty(), "{unseen:?}");
    let last = entries.last().unwrap();
    assert!(last.path().as_os_str().len() > 60_000);
    let mut buffer = [0; 16];
    assert_eq!(last.open().unwrap().read(&mut buffer).unwrap(), 8);
    // The way there is walked again from wherever a directory is still open.
    let middle = &entries[entries.len() / 2];
    middle.capture(&Owners::default()).unwrap();
    last.capture(&Owners::default()).unwrap();
}

#[test]
fn paths_too_long_for_a_key_are_a_gap() {
    let (_guard, base) = scratch();
    let inner = dig(&base, &"n".repeat(250), 252);
    for name in ["s", &"l".repeat(250)] {
        rustix::fs::mkdirat(&inner, name, Mode::from_raw_mode(0o755)).unwrap();
    }
    let (entries, unseen) = steps(&[&base], &RuleOptions::default());
    assert_eq!(unseen.len(), 1, "{unseen:?}");
    assert!(unseen[0].below_only && unseen[0].error.to_string().contains("longer"));
    assert!(entries.len() > 250);
}

#[test]
fn names_that_are_no_text() {
    let (_guard, base) = scratch();
    let name = OsStr::from_bytes(b"\xff\xfe \n\x01");
    fs::write(base.join(name), b"x").unwrap();
    symlink(OsStr::from_bytes(b"\xf0target"), base.join("link")).unwrap();
    let (entries, _) = steps(&[&base], &RuleOptions::default());
    assert_eq!(entries.last().unwrap().key().name(), name.as_bytes());
    let captured = find(entries, &base.join("link")).capture(&Owners::default()).unwrap();
    assert_eq!(captured.metadata.link_target.as_deref(), Some(&b"\xf0target"[..]));
    assert_eq!(captured.metadata.size, 7);
}

fn entry_of(path: &Path) -> Entry {
    let (entries, unseen) = steps(&[path], &RuleOptions::default());
    assert!(unseen.is_empty());
    find(entries, path)
}

fn read_all(file: &mut super::SourceFile) -> Vec<u8> {
    let (mut all, mut buffer) = (Vec::new(), [0; 700]);
    loop {
        match file.read(&mut buffer).unwrap() {
            0 => return all,
            count => all.extend_from_slice(&buffer[..count]),
        }
    }
}

/// A file with bytes at `data` (offset and length in blocks) and holes between, `blocks` long. `None` where holes are not kept.
fn sparse(path: &Path, blocks: u64, data: &[(u64, u64)]) -> Option<fs::File> {
    let file = fs::File::create_new(path).unwrap();
    file.set_len(blocks * 4096).unwrap();
    for &(offset, length) in data {
        file.write_all_at(&vec![7; usize::try_from(length * 4096).unwrap()], offset * 4096).unwrap();
    }
    let first = rustix::fs::seek(&file, rustix::fs::SeekFrom::Hole(0)).unwrap();
    (first < blocks * 4096).then_some(file)
}

#[test]
fn holes_are_found_and_not_read() {
    let (_guard, base) = scratch();
    for (number, data) in
        [&[(0, 4)][..], &[(8, 8)], &[(0, 1), (63, 1)], &[], &[(4, 4), (16, 8), (40, 4)]].iter().enumerate()
    {
        let path = base.join(number.to_string());
        if sparse(&path, 64, data).is_none() {
            return;
        }
        let mut file = entry_of(&path).open().unwrap();
        let bytes = read_all(&mut file);
        let length: u64 = data.iter().map(|(_, length)| length * 4096).sum();
        assert_eq!(bytes.len() as u64, length);
        let outcome = file.finish().unwrap();
        assert_eq!((outcome.size, outcome.changed), (64 * 4096, false));
        let mut at = 0;
        let mut expected = Vec::new();
        for &(offset, length) in data.iter().chain([&(64, 0)]) {
            if offset > at {
                expected.push(Hole { offset: at * 4096, length: (offset - at) * 4096 });
            }
            at = offset + length;
        }
        assert_eq!(outcome.holes, expected, "{data:?}");
    }
}

#[test]
fn beyond_very_many_holes_zeros_are_bytes() {
    let (_guard, base) = scratch();
    let data: Vec<(u64, u64)> = (0..120).map(|number| (2 * number + 1, 1)).collect();
    if sparse(&base.join("file"), 240, &data).is_none() {
        return;
    }
    let mut file = entry_of(&base.join("file")).open().unwrap();
    let bytes = read_all(&mut file);
    let outcome = file.finish().unwrap();
    assert_eq!((outcome.size, outcome.holes.len(), outcome.changed), (240 * 4096, 100, false));
    assert_eq!(bytes.len() as u64 + outcome.holes.iter().map(|hole| hole.length).sum::<u64>(), 240 * 4096);
    // The first hundred blocks of data, then hole and data as they come: zeros and sevens.
    assert_eq!(bytes.iter().filter(|byte| **byte == 7).count(), 120 * 4096);
    assert_eq!(&bytes[100 * 4096..100 * 4096 + 2], [0, 0]);
}

#[test]
fn zeros_that_are_written_are_bytes() {
    let (_guard, base) = scratch();
    fs::write(base.join("zeros"), vec![0; 65536]).unwrap();
    let mut file = entry_of(&base.join("zeros")).open().unwrap();
    assert_eq!(read_all(&mut file), vec![0; 65536]);
    assert_eq!(file.finish().unwrap().holes, []);
}

#[test]
fn a_file_that_changes_while_it_is_read_is_said_to_have() {
    let (_guard, base) = scratch();
    let path = base.join("file");
    let open = || {
        fs::write(&path, vec![1; 10_000]).unwrap();
        entry_of(&path).open().unwrap()
    };

    let mut still = open();
    assert_eq!(read_all(&mut still).len(), 10_000);
    assert!(!still.finish().unwrap().changed);

    let mut grows = open();
    assert_eq!(grows.read(&mut [0; 100]).unwrap(), 100);
    fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(&[2; 5000]).unwrap();
    assert_eq!(read_all(&mut grows).len(), 9_900, "a log that never ends must not keep the reader");
    let outcome = grows.finish().unwrap();
    assert_eq!((outcome.size, outcome.changed), (10_000, true));

    let mut shrinks = open();
    assert_eq!(shrinks.read(&mut [0; 100]).unwrap(), 100);
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(3000).unwrap();
    assert_eq!(read_all(&mut shrinks).len(), 2_900);
    let outcome = shrinks.finish().unwrap();
    assert_eq!((outcome.size, outcome.changed), (3000, true));

    let mut rewritten = open();
    rewritten.read(&mut [0; 100]).unwrap();
    fs::OpenOptions::new().write(true).open(&path).unwrap().write_all_at(&[9; 10], 50).unwrap();
    read_all(&mut rewritten);
    assert!(rewritten.finish().unwrap().changed);

    let emptied = open();
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(0).unwrap();
    let mut emptied = emptied;
    assert_eq!(read_all(&mut emptied), []);
    let outcome = emptied.finish().unwrap();
    assert_eq!((outcome.size, outcome.holes, outcome.changed), (0, vec![], true));
}

#[test]
fn what_took_a_files_place_is_not_read() {
    let (_guard, base) = scratch();
    make(&base, &["file", "secret"]);
    let path = base.join("file");
    let entry = entry_of(&path);
    let swap = |make: &dyn Fn()| {
        fs::remove_file(&path).unwrap();
        make();
        let kind = entry.open().map(|_| ()).unwrap_err().kind();
        assert_eq!(kind, ErrorKind::Source);
    };
    swap(&|| symlink("secret", &path).unwrap());
    swap(&|| rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap());
    swap(&|| drop(std::os::unix::net::UnixListener::bind(&path).unwrap()));
    fs::remove_file(&path).unwrap();
    assert_eq!(entry.open().unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn reading_leaves_the_time_of_access() {
    let (_guard, base) = scratch();
    make(&base, &["file"]);
    let path = base.join("file");
    let old = rustix::fs::Timestamps {
        last_access: rustix::fs::Timespec { tv_sec: 1000, tv_nsec: 0 },
        last_modification: rustix::fs::Timespec { tv_sec: 2000, tv_nsec: 0 },
    };
    rustix::fs::utimensat(CWD, &path, &old, rustix::fs::AtFlags::empty()).unwrap();
    read_all(&mut entry_of(&path).open().unwrap());
    let stat = rustix::fs::statat(CWD, &path, rustix::fs::AtFlags::empty()).unwrap();
    assert_eq!(stat.st_atime, 1000);
}

#[test]
fn every_kind_is_captured() {
    let (_guard, base) = scratch();
    make(&base, &["file", "dir/"]);
    symlink("file", base.join("link")).unwrap();
    let mode = Mode::from_raw_mode(0o640);
    rustix::fs::mknodat(CWD, base.join("fifo"), FileType::Fifo, mode, 0).unwrap();
    rustix::fs::mknodat(CWD, base.join("socket"), FileType::Socket, mode, 0).unwrap();
    let mut expected = vec![
        ("dir", Kind::Directory),
        ("fifo", Kind::Fifo),
        ("file", Kind::File),
        ("link", Kind::Symlink),
        ("socket", Kind::Socket),
    ];
    let device = rustix::fs::makedev(1, 300);
    if rustix::fs::mknodat(CWD, base.join("zdevice"), FileType::CharacterDevice, mode, device).is_ok() {
        expected.push(("zdevice", Kind::CharacterDevice));
    }
    let (entries, _) = steps(&[&base], &RuleOptions::default());
    let owners = Owners::default();
    let mut found = Vec::new();
    for entry in entries.iter().filter(|entry| entry.path().parent() == Some(&base)) {
        let captured = entry.capture(&owners).unwrap();
        captured.metadata.check().unwrap();
        assert!(captured.faults.is_empty(), "{:?}", captured.faults);
        if captured.metadata.kind == Kind::CharacterDevice {
            assert_eq!(captured.metadata.device_number, Some((1, 300)));
        }
        found.push((entry.key().name().to_vec(), captured.metadata.kind));
    }
    let expected: Vec<(Vec<u8>, Kind)> =
        expected.into_iter().map(|(name, kind)| (name.into(), kind)).collect();
    assert_eq!(found, expected);
}

#[test]
fn extended_attributes_are_captured() {
    let (_guard, base) = scratch();
    make(&base, &["file"]);
    let path = base.join("file");
    let long = vec![b'v'; 2000];
    let set =
        |name: &str, value: &[u8]| rustix::fs::setxattr(&path, name, value, rustix::fs::XattrFlags::empty());
    if set("user.z", b"").is_err() {
        return;
    }
    set("user.a", &long).unwrap();
    let entry = entry_of(&path);
    let expected = vec![(b"user.a".to_vec(), long), (b"user.z".to_vec(), Vec::new())];
    let user = |xattrs: &[(Vec<u8>, Vec<u8>)]| {
        xattrs.iter().filter(|(name, _)| name.starts_with(b"user.")).cloned().collect::<Vec<_>>()
    };
    assert_eq!(user(&entry.capture(&Owners::default()).unwrap().metadata.xattrs), expected);
    let file = entry.open().unwrap();
    assert_eq!(user(&file.capture(&Owners::default()).unwrap().metadata.xattrs), expected);
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![Just(1u8), Just(b'a'), Just(b'b'), Just(255u8), Just(b'.'), Just(b'-')];
    proptest::collection::vec(byte, 1..3).prop_filter("dots", |name| name != b"." && name != b"..")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn the_walk_is_in_the_order_of_keys(paths in proptest::collection::vec(proptest::collection::vec(name(), 1..5), 0..25)) {
        let (_guard, base) = scratch();
        let mut expected: BTreeSet<EntryKey> = base.ancestors().map(|path| EntryKey::from_path(path).unwrap()).collect();
        for path in &paths {
            let mut at = base.clone();
            for component in path {
                at.push(OsStr::from_bytes(component));
                expected.insert(EntryKey::from_path(&at).unwrap());
            }
            fs::create_dir_all(&at).unwrap();
        }
        let (entries, unseen) = steps(&[&base], &RuleOptions::default());
        prop_assert!(unseen.is_empty());
        let found: Vec<EntryKey> = entries.iter().map(|entry| entry.key().clone()).collect();
        prop_assert_eq!(found, expected.into_iter().collect::<Vec<_>>());
    }
}

#[test]
fn a_tree_that_changes_all_the_time_is_walked_to_the_end() {
    let (_guard, base) = scratch();
    for number in 0..40 {
        make(&base, &[&format!("{number}/a/x"), &format!("{number}/b/y")]);
    }
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut round = 0u64;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let number = round % 40;
                let _ = fs::remove_dir_all(base.join(format!("{number}/a")));
                let _ = fs::rename(base.join(format!("{number}/b")), base.join(format!("{number}/a")));
                let _ = fs::create_dir_all(base.join(format!("{number}/b/c")));
                let _ = fs::write(base.join(format!("{number}/b/c/f")), b"x");
                round += 7;
            }
        });
        for _ in 0..20 {
            let (entries, unseen) = steps(&[&base], &RuleOptions::default());
            assert!(entries.len() > 40);
            // Whatever could not be seen is below a directory that was there: never an error of another kind.
            assert!(
                unseen.iter().all(|gap| matches!(gap.error.kind(), ErrorKind::NotFound | ErrorKind::Source))
            );
            for entry in entries.iter().filter(|entry| entry.stat().kind == Kind::File) {
                let _ = entry.open().map(|mut file| read_all(&mut file));
            }
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

#[test]
fn few_descriptors_are_enough_for_many_entries_in_hand() {
    let (_guard, base) = scratch();
    for number in 0..400 {
        make(&base, &[&format!("{number}/x")]);
    }
    let (entries, _) = steps(&[&base], &RuleOptions::default());
    let open = || fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    let before = open();
    for entry in entries.iter().filter(|entry| entry.stat().kind == Kind::File) {
        entry.open().unwrap();
    }
    assert!(open() < before + 200, "{} descriptors, {before} before", open());
    let name = CString::new("x").unwrap();
    assert!(
        crate::metadata::unix::proc_path(fs::File::open(&base).unwrap().as_fd(), &name)
            .to_bytes()
            .ends_with(b"/x")
    );
}

#[test]
fn only_the_scans_own_tick_is_racy() {
    let start = ScanStart::at(UNIX_EPOCH + Duration::new(1000, 5_000_000));
    let racy = |seconds, nanoseconds| start.is_racy(Timestamp { seconds, nanoseconds });
    assert!(racy(1000, 5_000_001) && racy(1001, 1) && racy(1000, 1));
    assert!(racy(999, 985_000_000), "within a tick before the start");
    assert!(!racy(999, 984_999_999) && !racy(0, 1) && !racy(-5, 1));
    assert!(racy(998, 0) && !racy(997, 0), "whole seconds are a coarse clock's");
}

#[test]
fn a_walk_ahead_takes_the_same_steps() {
    let (_guard, base) = scratch();
    for number in 0..700 {
        make(&base, &[&format!("{}/{number}", number % 7)]);
    }
    let walk = || Walk::new(std::slice::from_ref(&base), Rules::none()).unwrap();
    let keys = |steps: &mut dyn Iterator<Item = Step>| -> Vec<EntryKey> {
        steps
            .filter_map(|step| if let Step::Entry(entry) = step { Some(entry.key().clone()) } else { None })
            .collect()
    };
    let expected = keys(&mut walk());
    assert!(expected.len() > 700);
    assert_eq!(keys(&mut walk().ahead()), expected);
    assert_eq!(keys(&mut walk().ahead().take(300)), expected[..300], "and may be left before its end");
}

/// Lists and stats everything below `directory`, and does nothing else: what a walk cannot be faster than.
fn bare_walk(directory: &OwnedFd) -> u64 {
    let mut count = 0;
    let mut subdirectories = Vec::new();
    for entry in rustix::fs::Dir::read_from(directory).unwrap() {
        let entry = entry.unwrap();
        if matches!(entry.file_name().to_bytes(), b"." | b"..") {
            continue;
        }
        count += 1;
        let Ok(stat) = crate::metadata::unix::Stat::at(directory, entry.file_name()) else { continue };
        if stat.kind == Kind::Directory {
            subdirectories.push(entry.file_name().to_owned());
        }
    }
    for name in subdirectories {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        if let Ok(open) = rustix::fs::openat(directory, name, flags, Mode::empty()) {
            count += bare_walk(&open);
        }
    }
    count
}

#[test]
#[ignore = "a measurement: run it with optimisation, on a machine with nothing else to do"]
fn a_walk_costs_little_more_than_a_bare_one() {
    let root = PathBuf::from("/usr");
    let open = || rustix::fs::open(&root, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
    let (mut bare, mut ours, mut ahead) = (Duration::MAX, Duration::MAX, Duration::MAX);
    for _ in 0..7 {
        let start = std::time::Instant::now();
        let expected = bare_walk(&open());
        bare = bare.min(start.elapsed());
        let start = std::time::Instant::now();
        let found = Walk::new(std::slice::from_ref(&root), Rules::none()).unwrap().count() as u64;
        ours = ours.min(start.elapsed());
        assert_eq!(found, expected + 2);
        let start = std::time::Instant::now();
        Walk::new(std::slice::from_ref(&root), Rules::none()).unwrap().ahead().count();
        ahead = ahead.min(start.elapsed());
    }
    let times = |time: Duration| time.as_secs_f64() / bare.as_secs_f64();
    println!("bare {bare:?}, ours {ours:?} ({:.2}), ahead {ahead:?} ({:.2})", times(ours), times(ahead));
    assert!(ours < bare * 3 / 2);
}
