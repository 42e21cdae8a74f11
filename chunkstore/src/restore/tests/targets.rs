//! Restores from targets that fail: the whole way from a backup to files, with an outage in between.

use std::path::PathBuf;
use std::sync::Arc;

use super::*;
use crate::backup::{BackupOptions, backup};
use crate::catalog::Catalog;
use crate::entry_key::KeyRange;
use crate::repository::tests::World;
use crate::repository::{InitOptions, Protection, Repository};
use crate::restore::RepositorySource;
use crate::target::fault::{Fault as Outage, FaultTarget, Rule};
use crate::target::{ObjectKey, Operation, Target};
use crate::testing::{caught_up_catalog, noise};

/// Six files in several packs, backed up to targets behind faults.
struct BackedUp {
    world: World,
    faults: Vec<Arc<FaultTarget>>,
    repository: Repository,
    catalog: Catalog,
    source: PathBuf,
    target: PathBuf,
    _guard: tempfile::TempDir,
}

impl BackedUp {
    fn new(names: &[&str]) -> Self {
        let (guard, base) = scratch();
        let (source, target) = (base.join("source"), base.join("target"));
        fs::create_dir(&source).unwrap();
        for number in 0..6 {
            fs::write(source.join(number.to_string()), noise(number, 150_000)).unwrap();
        }
        let world = World::new(names);
        let faults: Vec<_> = world.targets.iter().map(|target| FaultTarget::new(target.clone())).collect();
        for target in &faults {
            world.connect.insert(target.clone());
        }
        let init = InitOptions {
            frame_bytes: Some(64 << 10),
            pack_bytes: Some(128 << 10),
            ..InitOptions::default()
        };
        let repository =
            Repository::init(&world.urls(), &world.options, Protection::Unencrypted, &init).unwrap();
        let catalog = caught_up_catalog(&repository).unwrap();
        let options = BackupOptions::new("host", vec![source.clone()]);
        backup(&repository, &catalog, &options, &Collector::default()).unwrap();
        Self { world, faults, repository, catalog, source, target, _guard: guard }
    }

    fn packs(&self) -> Vec<ObjectKey> {
        let packs: Vec<_> =
            self.world.targets[0].list("packs").unwrap().into_iter().map(|object| object.key).collect();
        assert!(packs.len() >= 3, "{packs:?}");
        packs
    }

    /// A sector of this object cannot be read on the target with that index.
    fn bad_sector(&self, index: usize, key: &ObjectKey) {
        let eio = Outage::Fail(ErrorKind::Target);
        self.faults[index].add(Rule::always(Operation::GetRange, key.as_str(), eio));
    }

    fn restore(&self) -> (RestoreSummary, Vec<Fault>) {
        let monitor = Collector::default();
        let snapshot = self.catalog.snapshots().unwrap().remove(0);
        let range = KeyRange::all();
        let source =
            RepositorySource::snapshot(&self.repository, &self.catalog, &snapshot, range, &monitor).unwrap();
        let options = RestoreOptions { verify: true, ..into(&self.source, &self.target) };
        let summary = restore(&source, &options, &monitor).unwrap();
        (summary, monitor.faults())
    }
}

#[test]
fn two_targets_with_a_bad_sector_each_restore_everything() {
    let backed_up = BackedUp::new(&["a", "b"]);
    let packs = backed_up.packs();
    backed_up.bad_sector(0, &packs[0]);
    backed_up.bad_sector(1, &packs[1]);
    let (summary, faults) = backed_up.restore();
    assert_same(&backed_up.source, &backed_up.target);
    assert_eq!((summary.files_restored, summary.faults), (6, 0), "{faults:?}");
    assert!(faults.iter().all(|fault| fault.side == FaultSide::Damage && fault.during == "read"));
    assert!(!faults.is_empty());
}

#[test]
fn a_bad_sector_that_no_target_makes_good_costs_the_files_in_it() {
    let backed_up = BackedUp::new(&["a"]);
    backed_up.bad_sector(0, &backed_up.packs()[0]);
    let (summary, faults) = backed_up.restore();
    assert!((1..=5).contains(&summary.files_restored), "{summary:?}");
    assert_eq!(summary.files_restored + summary.faults, 6);
    assert_eq!(summary.files_verified, summary.files_restored);
    assert!(faults.iter().all(|fault| fault.side == FaultSide::Damage), "{faults:?}");
}

#[test]
fn a_target_that_dies_makes_the_restore_partial() {
    for after in [0, 1, 5] {
        let backed_up = BackedUp::new(&["a"]);
        backed_up.faults[0].add(Rule::dies_after(after));
        let (summary, faults) = backed_up.restore();
        assert!(summary.is_partial());
        assert_eq!(summary.files_restored + summary.faults, 6);
        let lost: Vec<_> = faults.iter().filter(|fault| fault.during == "restore").collect();
        assert_eq!(lost.len() as u64, summary.faults);
        assert!(lost.iter().all(|fault| fault.side == FaultSide::Destination), "{lost:?}");
        let told = faults.iter().filter(|fault| fault.side == FaultSide::Target).count();
        assert_eq!(told, 1, "that it is gone is said once");
    }
}
