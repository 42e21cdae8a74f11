//! Healing with a real catalog: what is rescued, what is lost, what the next backup makes good.

use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use super::tests::{Action, damage};
use super::*;
use crate::backup::{BackupOptions, backup};
use crate::catalog::{Catalog, Verdict};
use crate::chunk::ChunkSizes;
use crate::monitor::Collector;
use crate::repository::InitOptions;
use crate::repository::layout::{ObjectKind, PACKS};
use crate::repository::tests::{PASSWORD, World};
use crate::target::Target;
use crate::testing::{catalog_to_read, caught_up_catalog, noise};

struct Backed {
    world: World,
    source: tempfile::TempDir,
}

impl Backed {
    /// A source of some files, backed up to two targets in several packs of several frames.
    fn new() -> Self {
        let world = World::new(&["a", "b"]);
        let init = InitOptions {
            chunk_sizes: Some(ChunkSizes::new(256, 1024, 8192).unwrap()),
            frame_bytes: Some(16 << 10),
            pack_bytes: Some(96 << 10),
        };
        Repository::init(&world.urls(), &world.options, PASSWORD, &init).unwrap();
        let source = tempfile::tempdir().unwrap();
        for number in 0..8 {
            std::fs::write(source.path().join(format!("file-{number}")), noise(number, 40_000)).unwrap();
        }
        let backed = Self { world, source };
        backed.backup(false);
        backed
    }

    fn open(&self) -> (Repository, Catalog) {
        let monitor = Collector::default();
        let repository = self.world.open(0, &monitor).unwrap();
        let catalog = caught_up_catalog(&repository).unwrap();
        (repository, catalog)
    }

    fn backup(&self, force: bool) {
        let (repository, catalog) = self.open();
        let mut options = BackupOptions::new("host", vec![self.source.path().to_owned()]);
        options.force = force;
        let monitor = Collector::default();
        let summary = backup(&repository, &catalog, &options, &monitor).unwrap();
        assert!(summary.targets_behind.is_empty(), "{:?}", monitor.faults());
    }

    fn verify(&self, data: ReadData, heal: bool) -> (VerifyReport, Collector) {
        let (repository, catalog) = self.open();
        let monitor = Collector::default();
        let options = VerifyOptions { data, heal };
        let later = (!heal).then(|| verify_and_write_later(&repository, &catalog, &options));
        let report = verify_with_catalog(&repository, &catalog, "host", &options, &monitor).unwrap();
        if let Some(later) = later {
            assert_eq!(told(&later), told(&report), "whether what is seen is written down at once or not");
        }
        (report, monitor)
    }

    fn names(&self, kind: ObjectKind) -> Vec<ObjectName> {
        let objects = self.world.targets[0].objects();
        objects.keys().filter_map(ObjectName::parse).filter(|name| name.kind() == kind).collect()
    }

    fn damage_on_both(&self, name: &ObjectName, offset: usize) {
        for target in &self.world.targets {
            target.flip(&name.key(), offset);
        }
    }
}

fn verify_and_write_later(
    repository: &Repository,
    catalog: &Catalog,
    options: &VerifyOptions,
) -> VerifyReport {
    let holdings = LaterHoldings::new(catalog, Duration::MAX, &|_| panic!("it is not yet time")).unwrap();
    let sources = HealSources { meaning: Some(&holdings), ..HealSources::default() };
    super::verify(repository, options, &holdings, &sources, &Collector::default()).unwrap()
}

/// What a report says of findings and losses.
fn told(report: &VerifyReport) -> Vec<String> {
    let findings = report.findings.iter().map(|finding| format!("{finding:?}"));
    let losses = report.losses.iter().map(|loss| format!("{loss:?}"));
    findings.chain(losses).chain([format!("{:?}", report.outcome())]).collect()
}

#[test]
fn what_was_seen_earlier_does_not_hide_what_was_seen_later() {
    let backed = Backed::new();
    let [first, second] = [0, 1].map(|index| backed.names(ObjectKind::Pack)[index]);
    let (repository, catalog) = backed.open();
    let reading = catalog_to_read(&repository).unwrap();
    let holdings = LaterHoldings::new(&reading, Duration::MAX, &|_| ()).unwrap();
    holdings.record("mem:a", 1000, &[(first, Seen::Damaged), (second, Seen::Damaged)]).unwrap();
    let ahead = i64::MAX;
    catalog::record(&catalog, "mem:a", 2000, &[(first, Seen::Good(7))]).unwrap();
    catalog::record(&catalog, "mem:a", ahead, &[(second, Seen::Good(7))]).unwrap();
    holdings.write_to(&catalog).unwrap();
    let number = catalog.target("mem:a").unwrap();
    let holding = |name: &ObjectName| catalog.holding(number, &name.key()).unwrap().unwrap();
    assert_eq!((holding(&first).verdict, holding(&first).verified), (Verdict::Good, 2000));
    assert_eq!((holding(&second).verdict, holding(&second).verified), (Verdict::Damaged, 1000));
    catalog::record(&catalog, "mem:a", 2000, &[(first, Seen::Damaged)]).unwrap();
    assert_eq!(holding(&first).verdict, Verdict::Damaged, "what is seen in the same second counts");
}

#[test]
fn what_is_seen_can_be_written_down_later_from_beside_a_writer() {
    let backed = Backed::new();
    let damaged = backed.names(ObjectKind::Pack)[0];
    damage(&backed.world.targets[1], &damaged, Action::FlipMiddle);
    let (repository, catalog) = backed.open();
    let reading = catalog_to_read(&repository).unwrap();
    let times = std::sync::atomic::AtomicU32::new(0);
    let count = |holdings: &LaterHoldings<'_>| {
        assert!(!holdings.is_empty());
        times.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    };
    let holdings = LaterHoldings::new(&reading, Duration::ZERO, &count).unwrap();
    let options = VerifyOptions { data: ReadData::All, heal: false };
    super::verify(&repository, &options, &holdings, &HealSources::default(), &Collector::default()).unwrap();
    assert!(times.load(std::sync::atomic::Ordering::Relaxed) > 1);
    let number = catalog.target("mem:b").unwrap();
    let verdicts = || {
        let all = catalog.holdings(number, PACKS).unwrap();
        all.into_iter().map(|(key, holding)| (key, holding.verdict)).collect::<Vec<_>>()
    };
    assert!(verdicts().iter().all(|(_, verdict)| *verdict == Verdict::Unverified));
    holdings.write_to(&reading).unwrap_err();
    holdings.write_to(&catalog).unwrap();
    assert!(holdings.is_empty());
    for (key, verdict) in verdicts() {
        let expected = if key == damaged.key() { Verdict::Damaged } else { Verdict::Good };
        assert_eq!(verdict, expected, "{key}");
    }
}

#[test]
fn a_backup_verifies_clean_and_is_remembered() {
    let backed = Backed::new();
    let (report, monitor) = backed.verify(ReadData::All, false);
    assert_eq!(report.outcome(), Outcome::Clean, "{:?} {:?}", report.findings, monitor.faults());
    assert!(backed.names(ObjectKind::Pack).len() > 2);
    assert_eq!(report.targets[0].packs_unnamed, 0);
    let (_, catalog) = backed.open();
    let number = catalog.target("mem:b").unwrap();
    let holdings = catalog.holdings(number, PACKS).unwrap();
    assert_eq!(holdings.len(), backed.names(ObjectKind::Pack).len());
    assert!(holdings.iter().all(|(_, holding)| holding.verdict == Verdict::Good && holding.verified > 0));
}

#[test]
fn what_is_damaged_on_one_target_is_healed_and_known_again() {
    let backed = Backed::new();
    let good = backed.world.targets[1].objects();
    for (number, name) in backed.names(ObjectKind::Pack).iter().enumerate() {
        damage(
            &backed.world.targets[1],
            name,
            [Action::FlipMiddle, Action::Delete, Action::Truncate][number % 3],
        );
    }
    let (report, _) = backed.verify(ReadData::All, false);
    assert_eq!(report.outcome(), Outcome::Damaged);
    assert!(report.losses.is_empty(), "all is good on the other");
    let (report, monitor) = backed.verify(ReadData::All, true);
    assert_eq!(report.outcome(), Outcome::Healed);
    assert!(monitor.faults().is_empty());
    assert!(backed.world.targets[1].objects() == good);
    let (_, catalog) = backed.open();
    let number = catalog.target("mem:b").unwrap();
    for (_, holding) in catalog.holdings(number, PACKS).unwrap() {
        assert!(holding.is_usable());
    }
}

#[test]
fn losses_are_named_by_file_and_made_good_by_the_next_backup() {
    let backed = Backed::new();
    let pack = backed.names(ObjectKind::Pack)[0];
    backed.damage_on_both(&pack, 5_000);
    let (report, monitor) = backed.verify(ReadData::All, true);
    assert_eq!(report.outcome(), Outcome::Damaged);
    let [loss] = report.losses.as_slice() else { panic!("{:?}", report.losses) };
    assert_eq!(loss.name, pack);
    let lost = loss.chunks.as_ref().unwrap().len();
    assert!(lost > 0 && loss.rescued > 0, "{lost} lost, {} rescued", loss.rescued);
    assert!(!loss.references.is_empty());
    for reference in &loss.references {
        let path = reference.key.path();
        assert!(path.as_os_str().as_bytes().starts_with(backed.source.path().as_os_str().as_bytes()));
        let bytes: u64 = reference.ranges.iter().map(|range| range.end - range.start).sum();
        assert!(bytes > 0 && bytes <= 40_000, "{:?}", reference.ranges);
    }
    assert!(!monitor.faults().is_empty());
    // The rescued chunks are on both targets, and a catalog made anew from one of them knows.
    let (repository, catalog) = backed.open();
    let target = repository.targets()[1].get().unwrap().clone();
    catalog.rebuild(&*target, &Collector::default()).unwrap();
    drop((catalog, repository));
    let (report, _) = backed.verify(ReadData::All, true);
    assert_eq!(report.losses[0].rescued, 0, "once is enough");
    assert_eq!(report.losses[0].chunks.as_ref().unwrap().len(), lost);
    // A backup that reads the files stores what is lost again. Then nothing needs the bad pack.
    backed.backup(false);
    let (report, monitor) = backed.verify(ReadData::All, false);
    assert!(report.losses.is_empty(), "{:?}", report.losses);
    assert_ne!(report.outcome(), Outcome::Damaged, "{:?} {:?}", report.findings, monitor.faults());
}

/// A pack that one target alone had goes bad there while the other is away.
#[test]
fn a_dead_pack_whose_chunks_are_elsewhere_keeps_no_target_behind() {
    let backed = Backed::new();
    let packs = backed.names(ObjectKind::Pack);
    std::fs::write(backed.source.path().join("more"), noise(99, 40_000)).unwrap();
    backed.backup(false);
    let news: Vec<_> =
        backed.names(ObjectKind::Pack).into_iter().filter(|pack| !packs.contains(pack)).collect();
    let [new] = news.as_slice() else { panic!("{news:?}") };
    // As if it had never come to the second target.
    backed.world.targets[1].tamper(|objects| {
        objects.remove(&new.key());
        objects.retain(|key, _| !key.as_str().starts_with("complete/"));
    });
    backed.world.targets[0].tamper(|objects| {
        let mut bytes = objects[&new.key()].to_vec();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        objects.insert(new.key(), bytes.into());
    });
    let (report, _) = backed.verify(ReadData::All, true);
    assert!(report.losses.is_empty(), "{:?}", report.losses);
    // It is known without reading all that it is damaged, and that nothing needs it.
    let (report, monitor) = backed.verify(ReadData::Nothing, false);
    assert_eq!(report.outcome(), Outcome::Clean, "{:?} {:?}", report.findings, monitor.faults());
    assert!(report.findings.iter().any(|finding| finding.name == *new));
    backed.backup(false);
    let (repository, catalog) = backed.open();
    let sources = CatalogSources::new(&repository, &catalog, "host");
    let report = crate::mirror::mirror(&repository, &sources, Some(&sources), &Collector::default()).unwrap();
    assert_eq!(report.outcome(), Outcome::Clean, "{:?}", report.findings);
    // The last backup's marks are on both.
    let marks = |target: usize| {
        let objects = backed.world.targets[target].objects();
        objects.keys().filter(|key| key.as_str().starts_with("complete/")).max().cloned()
    };
    assert_eq!(marks(0), marks(1));
}

#[test]
fn a_pack_that_is_bad_everywhere_stays_reported_when_it_is_not_read() {
    let backed = Backed::new();
    let pack = backed.names(ObjectKind::Pack)[0];
    backed.damage_on_both(&pack, 500);
    backed.verify(ReadData::All, false);
    let (report, monitor) = backed.verify(ReadData::Nothing, false);
    assert_eq!(report.outcome(), Outcome::Damaged, "{:?}", monitor.faults());
    assert_eq!(report.findings.iter().filter(|finding| finding.name == pack).count(), 2);
    // Mended by other hands, it is good again.
    backed.damage_on_both(&pack, 500);
    let (report, _) = backed.verify(ReadData::Nothing, false);
    assert_eq!(report.outcome(), Outcome::Clean, "{:?}", report.findings);
}

#[test]
fn a_segment_that_no_target_has_comes_back_from_the_outbox() {
    let backed = Backed::new();
    let segments = backed.names(ObjectKind::Segment);
    let last = segments.last().unwrap();
    let good = backed.world.targets[0].objects();
    for target in &backed.world.targets {
        target.delete(&last.key()).unwrap();
    }
    let (report, _) = backed.verify(ReadData::Nothing, true);
    assert_eq!(report.outcome(), Outcome::Healed, "{:?}", report.findings);
    assert!(backed.world.targets[0].objects() == good);
}

mod long {
    use super::*;
    use crate::heal::{Rescue as _, RescuedChunk};

    /// More chunks than one piece tells of.
    #[test]
    #[ignore = "long: half a million chunks, half a minute without optimisation"]
    fn every_chunk_of_a_large_rescue_is_known() {
        let backed = Backed::new();
        let (repository, catalog) = backed.open();
        let hasher = crate::chunk::Hasher::new(repository.secrets().unwrap());
        let chunk = |number: u32| {
            let bytes = number.to_le_bytes().to_vec();
            RescuedChunk { id: hasher.id(&bytes), bytes }
        };
        let chunks: Vec<_> = (0..520_000).map(chunk).collect();
        let ids: Vec<_> = chunks.iter().map(|chunk| chunk.id).collect();
        CatalogSources::new(&repository, &catalog, "host").store(chunks, &Collector::default()).unwrap();
        assert!(catalog.known(&ids).unwrap().into_iter().all(|known| known));
    }
}
