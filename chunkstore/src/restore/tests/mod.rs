//! Restores on real directories, from a repository that is a few maps.

mod archive;
mod store;
mod targets;
mod zoo;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use self::store::Store;
use self::zoo::{assert_same, compare, make_zoo};
use super::{Overwrite, RestoreOptions, RestoreSummary, restore, verify, write_contents};
use crate::entry_key::EntryKey;
use crate::error::ErrorKind;
use crate::metadata::Kind;
use crate::metadata::apply::Ownership;
use crate::monitor::{Collector, Event, Fault, FaultSide, Monitor};
use crate::testing::{scratch, unprivileged};
use crate::version::Version;

/// Options that put what is in `source` directly into `target`, made to be what `source` is.
fn into(source: &Path, target: &Path) -> RestoreOptions {
    let base = EntryKey::from_path(source).unwrap();
    RestoreOptions { base, top: true, threads: 3, ..RestoreOptions::new(target) }
}

fn run(store: &Store, options: &RestoreOptions) -> (RestoreSummary, Vec<String>) {
    let monitor = Collector::default();
    let summary = restore(store, options, &monitor).unwrap();
    let faults: Vec<String> = monitor
        .faults()
        .iter()
        .map(|fault| format!("{:?} {}: {}", fault.side, fault.item, fault.error))
        .collect();
    assert_eq!(summary.faults, faults.len() as u64, "{faults:?}");
    (summary, faults)
}

fn run_well(store: &Store, options: &RestoreOptions) -> RestoreSummary {
    let (summary, faults) = run(store, options);
    assert!(faults.is_empty(), "{faults:#?}");
    summary
}

/// Every path below `base` with what `ls` would say of it.
fn listing(base: &Path) -> BTreeMap<PathBuf, (u32, u64, i64)> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![base.to_owned()];
    while let Some(directory) = waiting.pop() {
        // Paths longer than the system takes are for other tests.
        let Ok(entries) = fs::read_dir(directory) else { continue };
        for entry in entries {
            let entry = entry.unwrap();
            let metadata = entry.metadata().unwrap();
            if metadata.is_dir() {
                waiting.push(entry.path());
            }
            found.insert(entry.path(), (metadata.mode(), metadata.len(), metadata.mtime()));
        }
    }
    found
}

#[test]
fn everything_comes_back() {
    let (_guard, base) = scratch();
    let (source, target) = (base.join("source"), base.join("target"));
    make_zoo(&source);
    let store = Store::of(&source);
    let summary = run_well(&store, &RestoreOptions { verify: true, ..into(&source, &target) });
    assert_same(&source, &target);
    assert_eq!(
        summary.files_verified,
        summary.files_restored + summary.hard_links - summary_special_links(&source)
    );
    // Once more over what is there, in every way: nothing is lost by it.
    for overwrite in [Overwrite::IfChanged, Overwrite::Always, Overwrite::Never] {
        let summary = run_well(&store, &RestoreOptions { overwrite, ..into(&source, &target) });
        match overwrite {
            Overwrite::IfChanged => assert!(summary.files_unchanged > 5 && summary.files_restored == 0),
            Overwrite::Always => assert!(summary.files_updated > 5 && summary.files_restored == 0),
            Overwrite::Never => assert!(summary.skipped > 5 && summary.files_updated == 0),
        }
        assert_same(&source, &target);
    }
}

/// Hard links between entries that are no files.
fn summary_special_links(source: &Path) -> u64 {
    u64::from(source.join("link to link").symlink_metadata().is_ok())
}

#[test]
fn a_user_restores_what_is_his() {
    let (_guard, base) = scratch();
    fs::set_permissions(&base, fs::Permissions::from_mode(0o777)).unwrap();
    let (source, target) = (base.join("source"), base.join("target"));
    unprivileged(|| {
        make_zoo(&source);
        let store = Store::of(&source);
        run_well(&store, &into(&source, &target));
        assert_same(&source, &target);
        // Into what is there, directories that cannot be written included.
        run_well(&store, &into(&source, &target));
        assert_same(&source, &target);
    });
}

#[test]
fn a_user_hears_once_what_only_root_can_do() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let (_guard, base) = scratch();
    fs::set_permissions(&base, fs::Permissions::from_mode(0o777)).unwrap();
    let (source, target) = (base.join("source"), base.join("target"));
    fs::create_dir(&source).unwrap();
    for name in ["a", "b", "c"] {
        fs::write(source.join(name), name).unwrap();
        fs::set_permissions(source.join(name), fs::Permissions::from_mode(0o6755)).unwrap();
    }
    let store = Store::of(&source);
    let (summary, faults) = unprivileged(|| run(&store, &into(&source, &target)));
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert!(faults[0].contains("first of 4"), "{faults:?}");
    assert_eq!(summary.files_restored, 3);
    let mode = fs::metadata(target.join("a")).unwrap().mode();
    assert_eq!(mode & 0o7777, 0o755, "nobody runs as somebody else than was meant");
}

#[test]
fn whoever_owns_what_he_restores_runs_nothing_as_somebody_else() {
    let (_guard, base) = scratch();
    fs::set_permissions(&base, fs::Permissions::from_mode(0o777)).unwrap();
    let (source, target) = (base.join("source"), base.join("target"));
    fs::create_dir(&source).unwrap();
    for name in ["mine", "another's"] {
        fs::write(source.join(name), name).unwrap();
        fs::set_permissions(source.join(name), fs::Permissions::from_mode(0o6755)).unwrap();
    }
    let mut store = Store::of(&source);
    for (key, version) in &mut store.entries {
        if key.name() == b"another's" {
            version.metadata.uid += 1;
        }
    }
    let options = RestoreOptions { ownership: Ownership::Ignore, ..into(&source, &target) };
    run_well(&store, &options);
    let mode = |name: &str| fs::metadata(target.join(name)).unwrap().mode() & 0o7777;
    assert_eq!((mode("mine"), mode("another's")), (0o6755, 0o755));
}

#[test]
fn an_empty_directory_in_a_files_place_stays_if_nothing_may_be_overwritten() {
    let (_guard, base) = scratch();
    let (source, target) = (base.join("source"), base.join("target"));
    fs::create_dir(&source).unwrap();
    fs::write(source.join("file"), "x").unwrap();
    symlink("x", source.join("link")).unwrap();
    let store = Store::of(&source);
    for name in ["file", "link"] {
        fs::create_dir_all(target.join(name)).unwrap();
    }
    let options = into(&source, &target);
    let summary =
        run_well(&store, &RestoreOptions { overwrite: Overwrite::Never, verify: true, ..options.clone() });
    assert_eq!((summary.skipped, summary.files_verified), (2, 0));
    assert!(target.join("file").is_dir() && target.join("link").is_dir());
    run_well(&store, &options);
    assert_same(&source, &target);
}

#[test]
fn whole_paths_go_below_the_target() {
    let (_guard, base) = scratch();
    let (source, target) = (base.join("source"), base.join("deep/target"));
    fs::create_dir_all(source.join("sub")).unwrap();
    fs::write(source.join("sub/file"), "x").unwrap();
    let store = Store::of(&source);
    run_well(&store, &RestoreOptions::new(&target));
    let inside = target.join(source.strip_prefix("/").unwrap());
    assert_same(&source, &inside);
    assert_eq!(
        fs::metadata(&target).unwrap().mode() & 0o7777,
        fs::metadata(base.join("deep")).unwrap().mode() & 0o7777
    );
}

#[test]
fn links_in_the_way_are_never_followed() {
    let (_guard, base) = scratch();
    let (source, target, outside) = (base.join("source"), base.join("target"), base.join("outside"));
    fs::create_dir_all(source.join("directory/inner")).unwrap();
    fs::write(source.join("directory/inner/file"), "inner").unwrap();
    fs::write(source.join("directory/file"), "file").unwrap();
    fs::write(source.join("file"), "file").unwrap();
    fs::hard_link(source.join("file"), source.join("further name")).unwrap();
    symlink("file", source.join("link")).unwrap();
    let store = Store::of(&source);
    let paths: Vec<PathBuf> = store
        .entries
        .iter()
        .filter_map(|(key, _)| Some(key.path().strip_prefix(&source).ok()?.to_owned()))
        .collect();
    for overwrite in [Overwrite::Always, Overwrite::IfChanged, Overwrite::Never] {
        for path in paths.iter().filter(|path| path.components().count() < 4 && !path.as_os_str().is_empty())
        {
            for what in ["directory", "file", "nothing"] {
                let _ = fs::remove_dir_all(&target);
                let _ = fs::remove_dir_all(&outside);
                fs::create_dir_all(outside.join("directory")).unwrap();
                fs::write(outside.join("file"), "precious").unwrap();
                let before = listing(&outside);
                let place = target.join(path);
                fs::create_dir_all(place.parent().unwrap()).unwrap();
                symlink(outside.join(what), &place).unwrap();
                let (_, faults) = run(&store, &RestoreOptions { overwrite, ..into(&source, &target) });
                assert_eq!(listing(&outside), before, "{path:?} {what} {overwrite:?}");
                assert_eq!(fs::read(outside.join("file")).unwrap(), b"precious");
                if overwrite == Overwrite::Never {
                    assert_eq!(fs::read_link(&place).unwrap(), outside.join(what));
                } else {
                    assert!(faults.is_empty(), "{faults:?}");
                    assert_eq!(compare(&source, &target), Vec::<String>::new());
                }
            }
        }
    }
}

#[test]
fn a_file_with_another_name_elsewhere_is_not_written_to() {
    let (_guard, base) = scratch();
    let (source, target) = (base.join("source"), base.join("target"));
    fs::create_dir_all(&source).unwrap();
    fs::create_dir_all(&target).unwrap();
    fs::write(source.join("file"), "new").unwrap();
    fs::write(base.join("outside"), "old").unwrap();
    fs::hard_link(base.join("outside"), target.join("file")).unwrap();
    let store = Store::of(&source);
    for overwrite in [Overwrite::Always, Overwrite::IfChanged] {
        run_well(&store, &RestoreOptions { overwrite, ..into(&source, &target) });
        assert_eq!(fs::read(base.join("outside")).unwrap(), b"old");
        assert_eq!(fs::read(target.join("file")).unwrap(), b"new");
    }
}

#[test]
fn what_is_in_the_way_goes_or_is_named() {
    let (_guard, base) = scratch();
    let (source, target) = (base.join("source"), base.join("target"));
    fs::create_dir_all(source.join("directory")).unwrap();
    fs::write(source.join("directory/in"), "x").unwrap();
    fs::write(source.join("file"), "y").unwrap();
    fs::write(source.join("full"), "z").unwrap();
    fs::create_dir_all(target.join("full")).unwrap();
    fs::write(target.join("full/keep"), "k").unwrap();
    fs::write(target.join("directory"), "was a file").unwrap();
    fs::create_dir_all(target.join("file")).unwrap();
    let store = Store::of(&source);
    let (_, faults) = run(&store, &into(&source, &target));
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert!(faults[0].contains("full") && faults[0].contains("not empty"), "{faults:?}");
    assert_eq!(fs::read(target.join("full/keep")).unwrap(), b"k");
    assert_eq!(fs::read(target.join("directory/in")).unwrap(), b"x");
    assert_eq!(fs::read(target.join("file")).unwrap(), b"y");
    let temporary =
        listing(&target).into_keys().any(|path| path.to_string_lossy().contains("versions-restore"));
    assert!(!temporary);
}

#[test]
fn parts_come_by_patterns() {
    let (_guard, base) = scratch();
    let source = base.join("source");
    for path in ["a/x.c", "a/x.o", "b/y.c", "b/sub/z.c", "c/only.o"] {
        fs::create_dir_all(source.join(path).parent().unwrap()).unwrap();
        fs::write(source.join(path), path).unwrap();
    }
    fs::set_permissions(source.join("b"), fs::Permissions::from_mode(0o750)).unwrap();
    let store = Store::of(&source);
    let of = |patterns: &[&str]| patterns.iter().map(|pattern| (*pattern).to_owned()).collect::<Vec<_>>();
    for (number, (include, exclude, expected)) in [
        (&["*.c"][..], &[][..], &["a", "a/x.c", "b", "b/sub", "b/sub/z.c", "b/y.c"][..]),
        (&["b"], &["sub"], &["b", "b/y.c"]),
        (&[], &["*.o", "b"], &["a", "a/x.c", "c"]),
        (&["nothing"], &[], &[]),
        (&["sub/z.c"], &[], &["b", "b/sub", "b/sub/z.c"]),
    ]
    .into_iter()
    .enumerate()
    {
        let target = base.join(format!("target{number}"));
        let options = RestoreOptions {
            include: of(include),
            exclude: of(exclude),
            verify: true,
            ..into(&source, &target)
        };
        run_well(&store, &options);
        let found: Vec<String> = listing(&target)
            .into_keys()
            .map(|path| path.strip_prefix(&target).unwrap().to_string_lossy().into_owned())
            .collect();
        assert_eq!(found, expected, "{include:?} {exclude:?}");
        if target.join("b").exists() {
            assert_eq!(
                fs::metadata(target.join("b")).unwrap().mode() & 0o777,
                0o750,
                "made on the way: as it was"
            );
        }
    }
    // What is there already and only passed stays as it is.
    let target = base.join("passed");
    fs::create_dir_all(target.join("b")).unwrap();
    fs::set_permissions(target.join("b"), fs::Permissions::from_mode(0o711)).unwrap();
    run_well(&store, &RestoreOptions { include: of(&["*.c"]), ..into(&source, &target) });
    assert_eq!(fs::metadata(target.join("b")).unwrap().mode() & 0o777, 0o711);
}

#[test]
fn one_version_of_a_file_is_enough() {
    let (_guard, base) = scratch();
    let source = base.join("source");
    fs::create_dir_all(source.join("a/b")).unwrap();
    fs::write(source.join("a/b/file"), "x").unwrap();
    let mut store = Store::of(&source);
    let path = source.join("a/b/file");
    store.entries.retain(|(key, _)| key.path() == path);
    let target = base.join("direct");
    let base_key = EntryKey::from_path(source.join("a/b")).unwrap();
    run_well(&store, &RestoreOptions { base: base_key, ..RestoreOptions::new(&target) });
    assert_eq!(fs::read(target.join("file")).unwrap(), b"x");
    // Below directories that nobody described.
    let target = base.join("below");
    run_well(&store, &into(&source, &target));
    assert_eq!(fs::read(target.join("a/b/file")).unwrap(), b"x");
}

#[test]
fn a_dry_run_writes_nothing() {
    let (_guard, base) = scratch();
    let (source, target) = (base.join("source"), base.join("target"));
    make_zoo(&source);
    let store = Store::of(&source);
    let dry = RestoreOptions { dry_run: true, ..into(&source, &target) };
    let would = run_well(&store, &dry);
    assert!(!target.exists());
    let did = run_well(&store, &into(&source, &target));
    assert_eq!(
        (would.files_restored + would.others, would.bytes_restored > 0),
        (did.files_restored + did.others + did.hard_links, true)
    );
    let before = listing(&target);
    let would = run_well(&store, &RestoreOptions { overwrite: Overwrite::IfChanged, ..dry });
    assert!(would.files_unchanged > 5);
    assert_eq!(listing(&target), before);
}

#[test]
fn what_is_lost_is_named_and_not_made_up() {
    let (_guard, base) = scratch();
    let (source, target) = (base.join("source"), base.join("target"));
    make_zoo(&source);
    let mut store = Store::of(&source);
    let large = store.version(&source.join("large")).clone();
    let chunk = store.chunks_of(&large)[7];
    store.lose(&chunk);
    fs::create_dir_all(&target).unwrap();
    fs::write(target.join("large"), "was there").unwrap();
    let (summary, faults) = run(&store, &into(&source, &target));
    assert!(
        faults.iter().any(|fault| fault.starts_with("Damage")
            && fault.contains("large")
            && fault.contains("are lost"))
    );
    assert!(summary.is_partial());
    assert_eq!(fs::read(target.join("large")).unwrap(), b"was there");
    for (path, _) in listing(&target) {
        let relative = path.strip_prefix(&target).unwrap();
        if relative != Path::new("large") && path.is_file() {
            assert_eq!(fs::read(&path).unwrap(), fs::read(source.join(relative)).unwrap(), "{path:?}");
        }
    }
    let mut out = Vec::new();
    let error = write_contents(&store, &large, &mut out).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Damage);
    let whole = fs::read(source.join("large")).unwrap();
    assert!(whole.starts_with(&out) && out.len() < whole.len());
}

#[test]
fn what_is_stored_twice_is_read_from_the_other_place() {
    let (_guard, base) = scratch();
    let (source, target) = (base.join("source"), base.join("target"));
    make_zoo(&source);
    let mut store = Store::of(&source);
    store.store_all_again();
    let large = store.version(&source.join("large")).clone();
    for chunk in store.chunks_of(&large).iter().step_by(3) {
        store.lose_first_place(chunk);
    }
    run_well(&store, &into(&source, &target));
    assert_same(&source, &target);
    let mut out = Vec::new();
    write_contents(&store, &large, &mut out).unwrap();
    assert_eq!(out, fs::read(source.join("large")).unwrap());
}

#[test]
fn a_frame_is_decoded_once_however_many_files_want_it() {
    let (_guard, base) = scratch();
    let (source, target) = (base.join("source"), base.join("target"));
    fs::create_dir_all(&source).unwrap();
    for number in 0..300 {
        fs::write(source.join(number.to_string()), crate::testing::text(number % 50, 3000)).unwrap();
    }
    let store = Store::of(&source);
    run_well(&store, &into(&source, &target));
    assert_same(&source, &target);
    assert_eq!(store.frames_read(), store.frame_count());
}

#[test]
fn contents_come_with_their_holes() {
    let (_guard, base) = scratch();
    let source = base.join("source");
    make_zoo(&source);
    let store = Store::of(&source);
    for (key, version) in &store.entries {
        if version.metadata.kind == Kind::File {
            let mut out = Vec::new();
            let length = write_contents(&store, version, &mut out).unwrap();
            assert_eq!(length, version.metadata.size);
            // The path may be longer than the system takes.
            if let Ok(expected) = fs::read(key.path()) {
                assert!(out == expected, "{key}");
            }
        }
    }
}

#[test]
fn a_restored_file_that_changed_is_noticed() {
    let (_guard, base) = scratch();
    let (source, target) = (base.join("source"), base.join("target"));
    make_zoo(&source);
    let store = Store::of(&source);
    let options = into(&source, &target);
    run_well(&store, &options);
    type Spoil = fn(&Path);
    let spoil: [(&str, Spoil); 4] = [
        ("large", |path| flip(path, 100_000)),
        ("sparse", |path| flip(path, 2 << 20)),
        ("small", |path| fs::write(path, "longer than it was").unwrap()),
        ("duplicate", |path| fs::remove_file(path).unwrap()),
    ];
    for (name, spoil) in &spoil {
        let path = target.join(name);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        spoil(&path);
    }
    let monitor = Collector::default();
    let report = super::report::Report::new(&monitor);
    let selection = super::select::Selection::new(&[], &[], &EntryKey::root()).unwrap();
    verify::verify(&store, &options, &selection, &Default::default(), &report).unwrap();
    let mut named: Vec<String> = monitor.faults().into_iter().map(|fault| fault.item).collect();
    named.sort();
    let names = spoil.iter().map(|(name, _)| *name).chain(["hard link", "directory/hard link"]);
    let mut expected: Vec<String> =
        names.map(|name| source.join(name).to_string_lossy().into_owned()).collect();
    expected.sort();
    assert_eq!(named, expected);
}

/// What `verify` says of a restored tree: the items and their faults.
fn verified(store: &Store, options: &RestoreOptions, report_files: u64) -> Vec<String> {
    let monitor = Collector::default();
    let report = super::report::Report::new(&monitor);
    for _ in 0..report_files {
        report.done(super::report::Count::FileRestored, &EntryKey::root(), 0);
    }
    let selection = super::select::Selection::new(&options.include, &options.exclude, &options.base).unwrap();
    verify::verify(store, options, &selection, &super::unlike::Unlike::new(true), &report).unwrap();
    assert!(monitor.faults().iter().all(|fault| fault.during == "verify"));
    monitor.faults().iter().map(|fault| format!("{}: {}", fault.item, fault.error)).collect()
}

#[test]
fn a_directory_that_cannot_be_read_again_costs_each_file_below_it() {
    let (_guard, base) = scratch();
    fs::set_permissions(&base, fs::Permissions::from_mode(0o777)).unwrap();
    let (source, target) = (base.join("source"), base.join("target"));
    unprivileged(|| {
        fs::create_dir_all(source.join("a/b")).unwrap();
        for name in ["a/1", "a/b/2", "3"] {
            fs::write(source.join(name), name).unwrap();
        }
        let store = Store::of(&source);
        let options = into(&source, &target);
        run_well(&store, &options);
        fs::set_permissions(target.join("a"), fs::Permissions::from_mode(0o000)).unwrap();
        let mut told = verified(&store, &options, 3);
        told.sort();
        fs::set_permissions(target.join("a"), fs::Permissions::from_mode(0o700)).unwrap();
        assert_eq!(told.len(), 2, "{told:#?}");
        assert!(told[0].contains("/a/1: ") && told[1].contains("/a/b/2: "), "{told:#?}");
        assert!(told.iter().all(|told| told.contains("cannot be read again")), "{told:#?}");
        // What was left out is not missed.
        let options = RestoreOptions { exclude: vec!["a".into()], ..options };
        assert!(verified(&store, &options, 1).is_empty());
        fs::remove_dir_all(target.join("a")).unwrap();
        assert!(verified(&store, &options, 1).is_empty());
        let options = RestoreOptions { exclude: Vec::new(), include: vec!["3".into()], ..options };
        assert!(verified(&store, &options, 1).is_empty());
        // And if fewer files were compared than were restored, whatever the reason, that is said.
        let told = verified(&store, &options, 2);
        assert!(told.len() == 1 && told[0].contains("1 of 2"), "{told:#?}");
    });
}

#[test]
fn what_is_told_to_be_missing_is_not_missed_again() {
    let (_guard, base) = scratch();
    let (source, target) = (base.join("source"), base.join("target"));
    fs::create_dir_all(source.join("a/b")).unwrap();
    fs::write(source.join("a/b/1"), "1").unwrap();
    fs::write(source.join("a/2"), "2").unwrap();
    fs::write(source.join("3"), "3").unwrap();
    let store = Store::of(&source);
    fs::create_dir_all(&target).unwrap();
    fs::write(target.join("a"), "no directory").unwrap();
    let options = RestoreOptions { overwrite: Overwrite::Never, verify: true, ..into(&source, &target) };
    let (summary, faults) = run(&store, &options);
    assert_eq!((faults.len(), summary.files_verified), (1, 1), "{faults:?}");
    // Without the directory for its own sake it is the same.
    let options = RestoreOptions { include: vec!["1".into(), "2".into(), "3".into()], ..options };
    let (_, faults) = run(&store, &options);
    assert_eq!(faults.len(), 1, "{faults:?}");
}

fn flip(path: &Path, offset: u64) {
    use std::os::unix::fs::FileExt;
    let file = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 1], offset).unwrap();
}

#[test]
fn a_stopped_restore_leaves_only_what_is_whole() {
    let (_guard, base) = scratch();
    let (source, target) = (base.join("source"), base.join("target"));
    make_zoo(&source);
    let store = Store::of(&source);
    for after in [0, 1, 3, 10, 30] {
        let _ = fs::remove_dir_all(&target);
        let monitor = store::StopAfter::new(after);
        let error = restore(&store, &into(&source, &target), &monitor).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Cancelled);
        for (path, _) in listing(&target) {
            let relative = path.strip_prefix(&target).unwrap();
            let made = path.symlink_metadata().unwrap();
            if made.is_file() {
                assert_eq!(fs::read(&path).unwrap(), fs::read(source.join(relative)).unwrap(), "{path:?}");
            }
            let was = source.join(relative).symlink_metadata().unwrap();
            let seen = |metadata: &fs::Metadata| (metadata.mode(), metadata.mtime(), metadata.mtime_nsec());
            assert_eq!(seen(&made), seen(&was), "{after}: {path:?}");
        }
    }
}

#[test]
fn a_target_that_cannot_be_is_refused() {
    let (_guard, base) = scratch();
    fs::create_dir(base.join("source")).unwrap();
    fs::write(base.join("file"), "x").unwrap();
    let store = Store::of(&base.join("source"));
    let monitor = Collector::default();
    for target in [base.join("file"), base.join("file/below")] {
        let error = restore(&store, &RestoreOptions::new(target), &monitor).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Destination);
    }
    let patterns = RestoreOptions { include: vec!["[z-a]".into()], ..RestoreOptions::new(base.join("t")) };
    assert_eq!(restore(&store, &patterns, &monitor).unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert!(monitor.faults().is_empty());
}

#[test]
fn a_full_disk_ends_the_restore() {
    let (_guard, base) = scratch();
    let (source, target) = (base.join("source"), base.join("target"));
    fs::create_dir_all(&source).unwrap();
    fs::create_dir_all(&target).unwrap();
    for number in 0..20 {
        fs::write(source.join(number.to_string()), crate::testing::noise(number, 50_000)).unwrap();
    }
    let store = Store::of(&source);
    let Some(_mounted) = store::SmallDisk::at(&target) else { return };
    let monitor = Collector::default();
    let error = restore(&store, &into(&source, &target), &monitor).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Destination);
    assert!(error.to_string().contains("space"), "{error}");
    assert!(monitor.faults().iter().all(|fault| fault.side == FaultSide::Destination));
    for (path, _) in listing(&target) {
        assert_eq!(fs::read(&path).unwrap().len(), 50_000, "{path:?} was left behind in part");
    }
}

#[test]
fn hard_links_that_cannot_be_made_become_files() {
    let (_guard, base) = scratch();
    let (source, target) = (base.join("source"), base.join("target"));
    fs::create_dir_all(source.join("a")).unwrap();
    fs::create_dir_all(source.join("b")).unwrap();
    fs::write(source.join("a/one"), "x").unwrap();
    fs::hard_link(source.join("a/one"), source.join("b/two")).unwrap();
    fs::hard_link(source.join("a/one"), source.join("b/three")).unwrap();
    let store = Store::of(&source);
    fs::create_dir_all(target.join("b")).unwrap();
    let Some(_mounted) = store::SmallDisk::at(&target.join("b")) else { return };
    let (summary, faults) = run(&store, &into(&source, &target));
    assert!(faults.iter().any(|fault| fault.contains("file of its own")), "{faults:?}");
    assert_eq!((summary.files_restored, summary.hard_links), (2, 1), "{faults:?}");
    assert_eq!(fs::read(target.join("b/two")).unwrap(), b"x");
    assert_eq!(
        fs::metadata(target.join("b/two")).unwrap().ino(),
        fs::metadata(target.join("b/three")).unwrap().ino()
    );
}

/// Five names of one inode; it changed while the backup was at the third, and was as before when the backup came to the fifth.
fn changed_between_its_names(source: &Path, change: impl Fn(&mut Version, &Version)) -> Store {
    fs::create_dir_all(source).unwrap();
    fs::write(source.join("1"), crate::testing::noise(1, 3000)).unwrap();
    for name in ["2", "3", "4", "5"] {
        fs::hard_link(source.join("1"), source.join(name)).unwrap();
    }
    fs::write(source.join("later"), crate::testing::noise(2, 3000)).unwrap();
    fs::File::open(source.join("later")).unwrap().set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    let mut store = Store::of(source);
    let later = store.version(&source.join("later")).clone();
    for (key, version) in &mut store.entries {
        if [&b"3"[..], b"4"].contains(&key.name()) {
            change(version, &later);
        }
    }
    store
}

#[test]
fn names_of_one_inode_get_the_bytes_that_the_snapshot_has_of_each() {
    type Change = fn(&mut Version, &Version);
    let changes: [Change; 4] = [
        |version, later| {
            version.contents = later.contents.clone();
            version.metadata.mtime = later.metadata.mtime;
        },
        // In the clock's own tick.
        |version, later| version.contents = later.contents.clone(),
        |version, later| version.metadata.mtime = later.metadata.mtime,
        |version, _| version.metadata.mode = 0o600,
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let (_guard, base) = scratch();
        let (source, target) = (base.join("source"), base.join("target"));
        let store = changed_between_its_names(&source, change);
        let (summary, faults) = run(&store, &RestoreOptions { verify: true, ..into(&source, &target) });
        assert_eq!(summary.files_verified, 6, "{number}: {faults:?}");
        for (key, version) in &store.entries {
            if version.metadata.kind != Kind::File {
                continue;
            }
            let path = target.join(key.path().file_name().unwrap());
            let mut expected = Vec::new();
            write_contents(&store, version, &mut expected).unwrap();
            assert!(fs::read(&path).unwrap() == expected, "{number}: {path:?}");
            let there = fs::metadata(&path).unwrap();
            assert_eq!(there.mtime(), version.metadata.mtime.seconds, "{number}: {path:?}");
            assert_eq!(there.mode() & 0o7777, u32::from(version.metadata.mode), "{number}: {path:?}");
        }
        let inode = |name: &str| fs::metadata(target.join(name)).unwrap().ino();
        assert_eq!((inode("1"), inode("1"), inode("3")), (inode("2"), inode("5"), inode("4")), "{number}");
        assert_ne!(inode("1"), inode("3"));
        assert_eq!((summary.files_restored, summary.hard_links), (3, 3), "{number}");
        assert_eq!(faults.len(), 1, "{number}: {faults:?}");
        assert!(faults[0].contains("/source/3: restored as a file of its own"), "{faults:?}");
        assert!(faults[0].contains("/source/1"), "{faults:?}");
    }
}

#[test]
fn names_that_came_while_the_backup_ran_are_linked_too() {
    let (_guard, base) = scratch();
    let (source, target) = (base.join("source"), base.join("target"));
    // The inode had two names when the first was read, and three from then on.
    let mut store = changed_between_its_names(&source, |_, _| {});
    for (key, version) in &mut store.entries {
        version.metadata.links = if key.name() == b"1" { 2 } else { version.metadata.links };
    }
    run_well(&store, &into(&source, &target));
    let inodes = ["1", "2", "3", "4", "5"].map(|name| fs::metadata(target.join(name)).unwrap().ino());
    assert_eq!(inodes, [inodes[0]; 5]);
}

#[test]
fn a_first_name_that_is_left_out_passes_its_place_on() {
    let (_guard, base) = scratch();
    let (source, target) = (base.join("source"), base.join("target"));
    fs::create_dir_all(&source).unwrap();
    fs::write(source.join("a"), "x").unwrap();
    fs::hard_link(source.join("a"), source.join("b")).unwrap();
    fs::hard_link(source.join("a"), source.join("c")).unwrap();
    let store = Store::of(&source);
    run_well(&store, &RestoreOptions { exclude: vec!["a".into()], ..into(&source, &target) });
    assert!(!target.join("a").exists());
    assert_eq!(fs::metadata(target.join("b")).unwrap().ino(), fs::metadata(target.join("c")).unwrap().ino());
}

/// A monitor that remembers whether a path was there when the first entry was told.
struct AtFirst {
    path: PathBuf,
    was_there: std::sync::OnceLock<bool>,
}

impl Monitor for AtFirst {
    fn fault(&self, fault: Fault) {
        panic!("{fault:?}");
    }

    fn event(&self, event: Event<'_>) {
        if let Event::Item { .. } = event {
            self.was_there.get_or_init(|| self.path.exists());
        }
    }

    fn cancelled(&self) -> bool {
        false
    }
}

#[test]
fn directories_are_put_right_as_the_restore_goes_on() {
    let (_guard, base) = scratch();
    let (source, target) = (base.join("source"), base.join("target"));
    for number in 0..600 {
        fs::create_dir_all(source.join(format!("{}/{}", number / 60, number % 60))).unwrap();
    }
    let store = Store::of(&source);
    let monitor = AtFirst { path: target.join("9/59"), was_there: Default::default() };
    let summary = restore(&store, &into(&source, &target), &monitor).unwrap();
    assert_eq!(summary.directories, 611);
    assert_eq!(monitor.was_there.get(), Some(&false), "all of them waited for the end");
    assert_same(&source, &target);
}

#[test]
fn names_that_are_no_text_come_back() {
    let (_guard, base) = scratch();
    let (source, target) = (base.join("source"), base.join("target"));
    let name = OsStr::from_bytes(b"\xff\xfe\n");
    fs::create_dir_all(source.join(name)).unwrap();
    fs::write(source.join(name).join(name), "x").unwrap();
    run_well(&Store::of(&source), &into(&source, &target));
    assert_eq!(fs::read(target.join(name).join(name)).unwrap(), b"x");
    assert!(compare(&source, &target).is_empty());
}
