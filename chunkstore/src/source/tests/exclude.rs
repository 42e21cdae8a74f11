//! What is left out, and what never is.

use super::*;

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
