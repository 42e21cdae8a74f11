//! Damage inside a catalog that opened: met while it is read, told from everything else that fails, and done away with by a new catalog.

use std::fs;
use std::path::PathBuf;

use super::*;
use crate::catalog::{Holding, Verdict};
use crate::monitor::Monitor;
use crate::target::ObjectKey;

/// A machine whose catalog lies in tables, and what it holds.
fn machine(target: &dyn Target) -> (Machine, Vec<String>) {
    let machine = Machine::with(Limits::default());
    for round in 1..=3u32 {
        let tree: Tree = (0..400)
            .map(|n| (key(&format!("/d/{n}")), file(n + 1, 0o600, &[n % 200, 300 + u64::from(round)])))
            .collect();
        machine.back_up("host", i64::from(round), &tree, &[target]);
    }
    let number = machine.catalog.target(target.url()).unwrap();
    machine.catalog.record_listing(number, "segments", &target.list("segments").unwrap()).unwrap();
    machine.catalog.inner.db.flush().unwrap();
    let dump = dump(&machine.catalog);
    (machine, dump)
}

fn tables(machine: &Machine) -> Vec<PathBuf> {
    let entries = fs::read_dir(machine.dir.path().join("catalog")).unwrap();
    let mut tables: Vec<PathBuf> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "table"))
        .collect();
    tables.sort();
    assert!(!tables.is_empty());
    tables
}

/// Reads everything that a verb could want to read.
fn read_all(catalog: &Catalog, target: &dyn Target, monitor: &dyn Monitor) -> Result<()> {
    catalog.catch_up(target, monitor)?;
    for snapshot in catalog.snapshots()? {
        for entry in catalog.state(&snapshot, &KeyRange::all())? {
            entry?;
        }
    }
    for timeline in catalog.timelines()? {
        for entry in catalog.current(timeline.id)? {
            let entry = entry?;
            catalog.by_inode(timeline.id, entry.device, entry.inode)?;
            catalog.latest(timeline.id, &entry.key)?;
            catalog.log(timeline.id, &entry.key)?;
        }
    }
    catalog.packs()?;
    for (number, _) in catalog.targets()? {
        catalog.holdings(number, "")?;
    }
    Ok(())
}

#[test]
fn a_damaged_block_is_met_as_damage_and_a_new_catalog_has_everything() {
    let target = target("t");
    let (machine, expected) = machine(&*target);
    let Machine { dir, catalog } = machine;
    drop(catalog);
    let pristine = tempfile::tempdir().unwrap();
    copy(dir.path(), pristine.path());
    let mut met_later = 0;
    let names = {
        let catalog = Catalog::open(&options(dir.path())).unwrap();
        tables(&Machine { dir, catalog })
    };
    for name in names {
        let dir = testing::state_dir();
        copy(pristine.path(), dir.path());
        let table = dir.path().join("catalog").join(name.file_name().unwrap());
        let mut bytes = fs::read(&table).unwrap();
        let at = bytes.len() / 3;
        bytes[at..].iter_mut().take(64).for_each(|byte| *byte = 0);
        fs::write(&table, bytes).unwrap();
        let monitor = Collector::default();
        let catalog = Catalog::open(&options(dir.path())).unwrap();
        if let Err(error) = read_all(&catalog, &*target, &monitor) {
            assert!(error.is_catalog_damage(), "{}: {error}", table.display());
            assert_eq!(error.kind(), ErrorKind::Local);
            met_later += 1;
        }
        drop(catalog);
        let catalog = Catalog::open_anew(&options(dir.path())).unwrap();
        assert!(catalog.is_empty());
        assert!(dir.path().join("catalog.aside").exists());
        catalog.catch_up(&*target, &monitor).unwrap();
        read_all(&catalog, &*target, &monitor).unwrap();
        assert_eq!(dump(&catalog), expected, "{}", table.display());
        assert!(monitor.faults().is_empty(), "{:?}", monitor.faults());
    }
    assert!(met_later > 0, "no table held anything that is read");
}

#[test]
fn a_new_catalog_knows_what_no_segment_tells() {
    let target = target("t");
    let (machine, expected) = machine(&*target);
    let Machine { dir, catalog } = machine;
    let number = catalog.target("/another").unwrap();
    let damaged = Holding { held: true, length: 7, verified: 99, verdict: Verdict::Damaged };
    let key = ObjectKey::new("packs/00/x").unwrap();
    catalog.record_holdings(number, &[(key.clone(), damaged)]).unwrap();
    let targets = catalog.targets().unwrap();
    let outbox = catalog.outbox_names().unwrap();
    assert_eq!(Catalog::open_anew(&options(dir.path())).unwrap_err().kind(), ErrorKind::Locked);
    catalog.close().unwrap();
    let catalog = Catalog::open_anew(&options(dir.path())).unwrap();
    assert!(catalog.is_empty());
    assert!(catalog.is_behind(&*target).unwrap());
    assert_eq!(catalog.targets().unwrap(), targets);
    assert_eq!(catalog.holding(number, &key).unwrap(), Some(damaged));
    assert_eq!(catalog.outbox_names().unwrap(), outbox);
    let done = catalog.rebuild(&*target, &Collector::default()).unwrap();
    assert!(done.rebuilt && done.faults == 0);
    assert!(!catalog.is_behind(&*target).unwrap());
    assert_eq!(dump(&catalog), expected);
    // Of another repository nothing is taken over.
    drop(catalog);
    let mut other = options(dir.path());
    other.repository = RepositoryId::from_bytes([8; 16]);
    assert!(Catalog::open_anew(&other).unwrap().targets().unwrap().is_empty());
}

/// Where what is damaged held no row, or may have been mended without losing one, it is taken over; where a row may be gone, nothing is, as one of yesterday
/// could be in its place.
#[test]
fn of_one_that_does_not_open_what_no_segment_tells_is_taken_over_if_nothing_is_lost() {
    let target = target("t");
    let (machine, _) = machine(&*target);
    let number = machine.catalog.target(target.url()).unwrap();
    let key = ObjectKey::new("packs/00/x").unwrap();
    let held = Holding { held: true, length: 7, verified: 99, verdict: Verdict::Good };
    machine.catalog.record_holdings(number, &[(key.clone(), held)]).unwrap();
    machine.catalog.inner.db.flush().unwrap();
    let names = tables(&machine);
    let Machine { dir: pristine, catalog } = machine;
    catalog.close().unwrap();
    let anew = |damage: &dyn Fn(&mut Vec<u8>), name: &std::path::Path| {
        let dir = testing::state_dir();
        copy(pristine.path(), dir.path());
        let path = dir.path().join("catalog").join(name.file_name().unwrap());
        let mut bytes = fs::read(&path).unwrap();
        damage(&mut bytes);
        fs::write(&path, bytes).unwrap();
        let opened = lsm::Db::builder(dir.path().join("catalog")).read_only(true).open();
        assert!(opened.is_err(), "{}", path.display());
        let catalog = Catalog::open_anew(&options(dir.path())).unwrap();
        assert!(catalog.is_empty());
        (catalog.targets().unwrap().len(), catalog.holding(number, &key).unwrap())
    };
    for name in &names {
        let footer = |bytes: &mut Vec<u8>| {
            let at = bytes.len() - 20;
            bytes[at] ^= 1;
        };
        assert_eq!(anew(&footer, name), (1, Some(held)), "{}", name.display());
        assert_eq!(anew(&|bytes| bytes.truncate(bytes.len() / 2), name), (0, None), "{}", name.display());
    }
    let manifest = std::path::Path::new("MANIFEST");
    assert_eq!(anew(&|bytes| bytes[64 + 45] ^= 1, manifest), (0, None));
}

#[test]
fn what_is_held_by_a_target_that_is_not_known_any_more_is_not_taken_over() {
    let Machine { dir, catalog } = Machine::new();
    let number = catalog.target("/lost").unwrap();
    let key = ObjectKey::new("packs/00/x").unwrap();
    let good = Holding { held: true, length: 7, verified: 99, verdict: Verdict::Good };
    catalog.record_holdings(number, &[(key.clone(), good)]).unwrap();
    let mut batch = lsm::Batch::new();
    batch.delete(&catalog.inner.spaces.targets, number.0.to_be_bytes());
    catalog.inner.db.commit(batch, lsm::Durability::Synced).unwrap();
    catalog.close().unwrap();
    let catalog = Catalog::open_anew(&options(dir.path())).unwrap();
    let other = catalog.target("/other").unwrap();
    assert_eq!((other, catalog.holding(other, &key).unwrap()), (number, None));
}

#[test]
fn nobody_waits_for_whoever_opens_it() {
    let Machine { dir, catalog } = Machine::new();
    catalog.close().unwrap();
    let opening = fs::File::options().write(true).open(dir.path().join("catalog.lock")).unwrap();
    opening.lock().unwrap();
    for opened in [Catalog::open(&options(dir.path())), Catalog::open_anew(&options(dir.path()))] {
        let error = opened.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Locked);
        assert!(error.to_string().contains("another process uses"), "{error}");
    }
    let mut reading = options(dir.path());
    reading.access = Access::Read;
    Catalog::open(&reading).unwrap();
    drop(opening);
    Catalog::open(&options(dir.path())).unwrap();
}
