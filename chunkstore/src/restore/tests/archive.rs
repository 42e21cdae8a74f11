//! Archives: what they hold, and what becomes of them where bytes are lost.

use std::fs;
use std::path::Path;

use super::store::Store;
use super::zoo::make_zoo;
use crate::error::ErrorKind;
use crate::monitor::{Collector, FaultSide, Monitor};
use crate::restore::write_archive;
use crate::testing::scratch;

/// The paths of an archive's members below a folder; those of long ones are cut.
fn paths(archive: &[u8], below: &Path) -> Vec<String> {
    let mut paths = Vec::new();
    let mut rest = archive;
    let text = |bytes: &[u8]| bytes.split(|byte| *byte == 0).next().unwrap().to_vec();
    while let Some((header, behind)) = rest.split_first_chunk::<512>().filter(|(header, _)| header[0] != 0) {
        let size = std::str::from_utf8(&header[124..135]).unwrap();
        let size = usize::from_str_radix(size, 8).unwrap().next_multiple_of(512);
        if header[156] != b'x' {
            let (prefix, name) = (text(&header[345..500]), text(&header[..100]));
            let path = if prefix.is_empty() { name } else { [&prefix, &b"/"[..], &name].concat() };
            let path = format!("/{}", String::from_utf8_lossy(&path));
            // What the folder is in is there as well.
            let inside = path.strip_prefix(below.to_str().unwrap()).filter(|path| path.len() > 1);
            paths.extend(inside.map(str::to_owned));
        }
        rest = &behind[size..];
    }
    assert!(rest.len() == 1024 && rest.iter().all(|byte| *byte == 0), "it ends as it must");
    paths
}

/// How many entries are below a folder.
fn count(store: &Store, below: &Path) -> usize {
    store.entries.iter().filter(|(key, _)| key.path() != below && key.path().starts_with(below)).count()
}

#[test]
fn everything_but_sockets_is_in_it() {
    let (_guard, base) = scratch();
    let source = base.join("source");
    make_zoo(&source);
    let store = Store::of(&source);
    let monitor = Collector::default();
    let mut archive = Vec::new();
    write_archive(&[&store], &mut archive, &monitor).unwrap();
    let faults = monitor.faults();
    assert!(faults.iter().all(|fault| fault.side == FaultSide::Destination), "{faults:?}");
    assert_eq!(paths(&archive, &base).len() + faults.len(), count(&store, &base));
}

#[test]
fn small_files_beside_each_other_cost_one_frame() {
    let (_guard, base) = scratch();
    let source = base.join("source");
    for number in 0..300 {
        let folder = source.join((number % 7).to_string());
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(number.to_string()), crate::testing::noise(number, 300)).unwrap();
    }
    let store = Store::of(&source);
    write_archive(&[&store], &mut Vec::new(), &Collector::default()).unwrap();
    assert_eq!(store.frames_read(), store.frame_count());
}

#[test]
fn a_directory_stands_right_before_what_is_in_it() {
    let (_guard, base) = scratch();
    for folder in ["a/x/y", "a/empty", "a b", "a.b/x", "a-", "z/empty"] {
        fs::create_dir_all(base.join("s").join(folder)).unwrap();
    }
    for file in ["f", "a/f", "a/z", "a/x/f", "a/x/y/f", "a b/f", "a.b/x/f", "z/f"] {
        fs::write(base.join("s").join(file), file).unwrap();
    }
    let store = Store::of(&base.join("s"));
    let mut archive = Vec::new();
    write_archive(&[&store], &mut archive, &Collector::default()).unwrap();
    let paths = paths(&archive, &base);
    assert_eq!(paths.len(), count(&store, &base));
    for (place, path) in paths.iter().enumerate().filter(|(_, path)| path.ends_with('/')) {
        let inside = |other: &&String| other.starts_with(path.as_str());
        let behind = paths[place..].iter().take_while(inside).count();
        assert_eq!(behind, paths.iter().filter(inside).count(), "{path}: {paths:?}");
    }
}

#[test]
fn a_small_file_that_is_lost_is_left_out_and_a_large_one_ends_it() {
    let (_guard, base) = scratch();
    let source = base.join("source");
    fs::create_dir(&source).unwrap();
    for (name, length) in [("a small", 5_000), ("b large", 5 << 20), ("c last", 10)] {
        fs::write(source.join(name), crate::testing::noise(length as u64, length)).unwrap();
    }
    let mut store = Store::of(&source);
    let chunk = store.chunks_of(&store.version(&source.join("a small")).clone())[0];
    store.lose(&chunk);
    let monitor = Collector::default();
    let mut archive = Vec::new();
    write_archive(&[&store], &mut archive, &monitor).unwrap();
    assert_eq!(paths(&archive, &base), ["/source/", "/source/b large", "/source/c last"]);
    let faults = monitor.faults();
    assert_eq!((faults.len(), faults[0].side, faults[0].during), (1, FaultSide::Damage, "archive"));
    assert!(faults[0].item.ends_with("a small"));

    let chunk = *store.chunks_of(&store.version(&source.join("b large")).clone()).last().unwrap();
    store.lose(&chunk);
    let mut cut = Vec::new();
    let error = write_archive(&[&store], &mut cut, &Collector::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Damage);
    assert!(error.to_string().contains("b large: the archive ends here"), "{error}");
    assert!(archive.starts_with(&cut) && cut.len() < archive.len());
}

#[test]
fn who_wants_it_no_more_is_heard() {
    let (_guard, base) = scratch();
    let source = base.join("source");
    fs::create_dir(&source).unwrap();
    let store = Store::of(&source);
    let monitor = Collector::default();
    monitor.cancel();
    assert!(monitor.cancelled());
    let error = write_archive(&[&store], &mut Vec::new(), &monitor).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
}

#[test]
fn names_are_linked_only_where_the_snapshot_has_the_same_of_each() {
    let (_guard, base) = scratch();
    let source = base.join("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("a"), "one inode").unwrap();
    fs::hard_link(source.join("a"), source.join("b")).unwrap();
    let mut store = Store::of(&source);
    let links = |store: &Store| {
        let mut archive = Vec::new();
        write_archive(&[store], &mut archive, &Collector::default()).unwrap();
        archive.chunks(512).filter(|block| block[257..262] == *b"ustar" && block[156] == b'1').count()
    };
    assert_eq!(links(&store), 1);
    // It changed while the backup went from one name to the other.
    let (_, second) = store.entries.iter_mut().find(|(key, _)| key.path() == source.join("b")).unwrap();
    second.metadata.mtime.seconds += 1;
    assert_eq!(links(&store), 0);
}
