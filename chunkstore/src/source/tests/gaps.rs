//! What cannot be seen, or changes under the walk: a gap, never an entry that is taken for gone.

use super::*;

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
