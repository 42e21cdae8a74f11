//! Catalogs of another layout, and such as did not come to their end: what no segment tells lives on.

use std::fs;

use lsm::{Batch, Durability, KeyspaceOptions};

use super::*;
use crate::catalog::store::{LAYOUT, META, TARGETS, meta, open_engine, open_sorted};
use crate::catalog::{Holding, TargetNumber, Verdict};
use crate::target::ObjectKey;

/// The state of a machine whose catalog was written by the last version of layout 1: two targets, one that was forgotten, places of chunks, a snapshot; some of it
/// in tables, some in the journal.
fn of_layout_1() -> tempfile::TempDir {
    let written = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/catalog-layout-1");
    let dir = testing::state_dir();
    copy(&written, &dir.path().join("catalog"));
    dir
}

fn to_read(dir: &Path) -> CatalogOptions {
    CatalogOptions { access: Access::Read, ..options(dir) }
}

fn urls(catalog: &Catalog) -> Vec<(u32, String)> {
    catalog.targets().unwrap().into_iter().map(|(number, url)| (number.0, url)).collect()
}

fn pack_key(number: u8) -> ObjectKey {
    crate::repository::layout::ObjectName::Pack(crate::id::ObjectHash::from_bytes([number; 32])).key()
}

/// What the catalog of layout 1 knew of its targets, and nothing else.
fn assert_taken_over(dir: &Path, catalog: &Catalog) {
    assert!(catalog.is_empty() && catalog.snapshots().unwrap().is_empty());
    assert_eq!(catalog.places(&[chunk(1)]).unwrap(), [[]]);
    assert!(catalog.set_aside().is_none(), "it is not damaged");
    assert_eq!(urls(catalog), [(1, "/one".to_owned()), (2, "/two".to_owned())]);
    let (one, two) = (TargetNumber(1), TargetNumber(2));
    let damaged = Holding { verdict: Verdict::Damaged, verified: 77, ..Holding::put(1000) };
    assert_eq!(catalog.holdings(one, "").unwrap(), [(pack_key(1), Holding::put(1000))]);
    assert_eq!(
        catalog.holdings(two, "").unwrap(),
        [(pack_key(1), damaged), (pack_key(2), Holding::put(1500))]
    );
    assert!(dir.join("catalog.aside").exists() && !dir.join("catalog.new").exists());
}

#[test]
fn of_a_catalog_of_layout_1_the_targets_live_on() {
    let dir = of_layout_1();
    let error = Catalog::open(&to_read(dir.path())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("`versions rebuild` makes it"), "{error}");
    let catalog = Catalog::open(&options(dir.path())).unwrap();
    assert_taken_over(dir.path(), &catalog);
    let target = target("t");
    Machine::new().back_up("host", 1, &Tree::from([(key("/a"), file(1, 0o600, &[1]))]), &[&*target]);
    catalog.catch_up(&*target, &Collector::default()).unwrap();
    assert_eq!(catalog.snapshots().unwrap().len(), 1);
    catalog.close().unwrap();
    // And it stays.
    let catalog = Catalog::open(&options(dir.path())).unwrap();
    assert_eq!((catalog.snapshots().unwrap().len(), urls(&catalog).len()), (1, 2));
    catalog.close().unwrap();
    assert_eq!(urls(&Catalog::open(&to_read(dir.path())).unwrap()).len(), 2);
}

#[test]
fn a_new_one_in_its_place_that_was_asked_for_knows_them_too() {
    let dir = of_layout_1();
    assert_taken_over(dir.path(), &Catalog::open_anew(&options(dir.path())).unwrap());
}

#[test]
fn of_another_repository_or_a_layout_that_is_not_known_nothing_lives_on() {
    let dir = of_layout_1();
    let other = CatalogOptions { repository: RepositoryId::from_bytes([8; 16]), ..options(dir.path()) };
    assert!(urls(&Catalog::open(&other).unwrap()).is_empty());
    for layout in [0, LAYOUT + 1] {
        let dir = of_layout_1();
        let db = open_engine(&dir.path().join("catalog"), 32 << 20, false).unwrap();
        open_sorted(&db, META).unwrap().put(meta::LAYOUT, layout.to_le_bytes()).unwrap();
        db.close().unwrap();
        assert_eq!(Catalog::open(&to_read(dir.path())).unwrap_err().kind(), ErrorKind::NotFound);
        let catalog = Catalog::open(&options(dir.path())).unwrap();
        assert!(catalog.is_empty() && urls(&catalog).is_empty(), "layout {layout}");
    }
}

#[test]
fn one_of_another_layout_that_nobody_claimed_is_replaced() {
    let dir = testing::state_dir();
    let db = open_engine(&dir.path().join("catalog"), 32 << 20, false).unwrap();
    for name in ["meta", "chunks"] {
        db.keyspace(name, KeyspaceOptions::sorted()).unwrap();
    }
    db.close().unwrap();
    assert_eq!(Catalog::open(&to_read(dir.path())).unwrap_err().kind(), ErrorKind::NotFound);
    let catalog = Catalog::open(&options(dir.path())).unwrap();
    assert!(catalog.is_empty() && catalog.set_aside().is_none());
    catalog.close().unwrap();
    Catalog::open(&to_read(dir.path())).unwrap();
}

#[test]
fn a_reader_finds_none_where_one_is_being_made() {
    let dir = testing::state_dir();
    let db = open_engine(&dir.path().join("catalog"), 32 << 20, false).unwrap();
    assert_eq!(Catalog::open(&to_read(dir.path())).unwrap_err().kind(), ErrorKind::NotFound);
    open_sorted(&db, META).unwrap();
    assert_eq!(Catalog::open(&to_read(dir.path())).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn of_one_that_is_half_rebuilt_the_targets_live_on() {
    let Machine { dir, catalog } = Machine::new();
    catalog.target("/one").unwrap();
    let mut batch = Batch::new();
    batch.put(&catalog.inner.spaces.meta, meta::REBUILDING, []);
    catalog.inner.db.commit(batch, Durability::Synced).unwrap();
    catalog.close().unwrap();
    let catalog = Catalog::open(&options(dir.path())).unwrap();
    assert_eq!(urls(&catalog), [(1, "/one".to_owned())]);
}

#[test]
fn a_crash_while_another_takes_its_place_costs_nothing() {
    let place = |name: &str, dir: &tempfile::TempDir| dir.path().join(name);
    // Between the two renames: the new one is whole, and not yet in its place.
    let dir = of_layout_1();
    Catalog::open(&options(dir.path())).unwrap().close().unwrap();
    fs::rename(place("catalog", &dir), place("catalog.new", &dir)).unwrap();
    assert_eq!(Catalog::open(&to_read(dir.path())).unwrap_err().kind(), ErrorKind::NotFound);
    assert_taken_over(dir.path(), &Catalog::open(&options(dir.path())).unwrap());
    // Before: the old one is there, and the new one was begun.
    for anew in [false, true] {
        let dir = of_layout_1();
        let db = open_engine(&place("catalog.new", &dir), 32 << 20, false).unwrap();
        open_sorted(&db, TARGETS).unwrap().put(9u32.to_be_bytes(), "/nine").unwrap();
        db.close().unwrap();
        let opened = match anew {
            true => Catalog::open_anew(&options(dir.path())),
            false => Catalog::open(&options(dir.path())),
        };
        assert_taken_over(dir.path(), &opened.unwrap());
    }
    // One that is fit needs none.
    let Machine { dir, catalog } = Machine::new();
    catalog.target("/one").unwrap();
    catalog.close().unwrap();
    fs::create_dir(place("catalog.new", &dir)).unwrap();
    let catalog = Catalog::open(&options(dir.path())).unwrap();
    assert_eq!(urls(&catalog), [(1, "/one".to_owned())]);
    assert!(!place("catalog.new", &dir).exists());
}
