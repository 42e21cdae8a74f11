//! What a walk finds, and in which order.

use super::*;

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
fn many_entries_in_one_directory() {
    let (_guard, base) = scratch();
    for number in 0..3000 {
        fs::write(base.join(format!("{number}-with-a-name-of-some-length")), b"").unwrap();
    }
    assert_eq!(below(&base, &RuleOptions::default()).len(), 3000);
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
