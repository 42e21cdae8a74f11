//! Crashes while a run is applied; damaged, missing and cut segments; catalogs that are not fit.

use super::*;
use crate::monitor::Event;
use crate::segment::SegmentName;
use crate::target::fault::{Fault, FaultTarget, Rule};
use crate::target::{ObjectKey, Operation};

fn trees() -> [Tree; 3] {
    let first: Tree = (0..20).map(|n| (key(&format!("/d/{n}")), file(n + 1, 0o600, &[n]))).collect();
    let mut second = first.clone();
    for n in 0..10 {
        second.remove(&key(&format!("/d/{n}")));
        second.insert(key(&format!("/e/{n}")), file(n + 1, 0o600, &[n]));
    }
    second.insert(key("/d/15"), file(16, 0o600, &[99]));
    let mut third = second.clone();
    for n in 0..15 {
        third.insert(key(&format!("/f/{n}")), file(100 + n, 0o600, &(0..70).collect::<Vec<_>>()));
    }
    [first, second, third]
}

#[test]
fn a_crash_at_any_change_is_finished_at_the_next_opening() {
    let [first, second, third] = trees();
    let straight = Machine::new();
    straight.back_up("host", 1, &first, &[]);
    let mut crashes = 0;
    for at in 1.. {
        let mut machine = Machine::new();
        machine.back_up("host", 1, &first, &[]);
        let before = dump(&machine.catalog);
        let segments = machine.write("host", 2, &second, 4);
        machine.catalog.inner.crash_point.set(at);
        let crashed = segments.iter().try_for_each(|segment| machine.catalog.apply(segment)).is_err();
        machine.catalog.inner.crash_point.set(0);
        // Readers see the state before, until all of the new one is there.
        if crashed {
            let snapshots = machine.catalog.snapshots().unwrap();
            assert_eq!(snapshots.len(), 1);
            assert_eq!(restored(&state(&machine.catalog, &snapshots[0])), restored(&first), "at change {at}");
            crashes += 1;
        }
        machine = machine.reopen();
        assert_eq!(machine.catalog.applying().unwrap(), None, "finished from the outbox");
        for segment in &segments {
            machine.catalog.apply(segment).unwrap();
            machine.catalog.apply(segment).unwrap();
        }
        let snapshots = machine.catalog.snapshots().unwrap();
        assert_eq!(restored(&state(&machine.catalog, &snapshots[1])), restored(&second));
        assert_ne!(dump(&machine.catalog), before);
        machine.back_up("host", 3, &third, &[]);
        let whole = target("whole");
        for segment in machine.catalog.outbox().unwrap() {
            put(&segment, &[&*whole]);
        }
        assert_eq!(dump(&machine.catalog), dump(&Machine::from_target(&*whole).catalog), "at change {at}");
        if !crashed {
            break;
        }
    }
    assert!(crashes > 8, "the run took several batches: {crashes}");
}

#[test]
fn a_run_half_applied_from_a_target_is_finished_from_a_target() {
    let [first, second, _] = trees();
    let target = target("t");
    let monitor = Collector::default();
    let writer = Machine::new();
    writer.back_up("host", 1, &first, &[&*target]);
    let old = target.objects();
    writer.back_up("host", 2, &second, &[&*target]);
    let new = target.objects();
    let mut half_applied = 0;
    for at in 1.. {
        target.set_objects(old.clone());
        let reader = Machine::from_target(&*target);
        target.set_objects(new.clone());
        reader.catalog.inner.crash_point.set(at);
        let died = reader.catalog.catch_up(&*target, &monitor).is_err();
        reader.catalog.inner.crash_point.set(0);
        let reader = reader.reopen();
        if reader.catalog.applying().unwrap().is_some() {
            half_applied += 1;
            let timeline = reader.catalog.timelines().unwrap()[0].id;
            let error = reader.catalog.current(timeline).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Local, "not believed half applied");
        }
        reader.catalog.catch_up(&*target, &monitor).unwrap();
        assert_eq!(dump(&reader.catalog), dump(&writer.catalog), "at change {at}");
        if !died {
            break;
        }
    }
    assert!(half_applied > 3, "the run took several batches: {half_applied}");
}

#[test]
fn a_run_half_applied_that_no_target_at_hand_has_is_forgotten_by_a_rebuild() {
    let [first, second, third] = trees();
    let (near, far) = (target("near"), target("far"));
    let monitor = Collector::default();
    let writer = Machine::new();
    writer.back_up("host", 1, &first, &[&*near, &*far]);
    let start = near.objects();
    writer.back_up("host", 2, &second, &[&*far]);
    let half_applied = (1..).find_map(|at| {
        near.set_objects(start.clone());
        let reader = Machine::from_target(&*near);
        reader.catalog.inner.crash_point.set(at);
        assert!(reader.catalog.catch_up(&*far, &monitor).is_err(), "the run took several changes");
        reader.catalog.inner.crash_point.set(0);
        let reader = reader.reopen();
        reader.catalog.applying().unwrap().is_some().then_some(reader)
    });
    let reader = half_applied.unwrap();
    // The far target is away.
    let other = Machine::from_target(&*near);
    other.back_up("other", 3, &third, &[&*near]);
    let done = reader.catalog.catch_up(&*near, &monitor).unwrap();
    assert!(done.stuck && !done.rebuilt, "{done:?}");
    assert!(!reader.catalog.rebuild(&*near, &monitor).unwrap().stuck);
    assert_eq!(dump(&reader.catalog), dump(&other.catalog));
    // It is back.
    let done = reader.catalog.catch_up(&*far, &monitor).unwrap();
    assert_eq!((done.stuck, done.snapshots), (false, 1));
}

#[test]
fn a_rebuild_that_dies_begins_anew() {
    let [first, second, _] = trees();
    let target = target("t");
    let monitor = Collector::default();
    let machine = Machine::new();
    machine.back_up("host", 1, &first, &[&*target]);
    machine.back_up("host", 2, &second, &[&*target]);
    let expected = dump(&machine.catalog);
    for at in 1..20 {
        let machine = Machine::from_target(&*target);
        machine.catalog.inner.crash_point.set(at);
        assert!(machine.catalog.rebuild(&*target, &monitor).is_err());
        machine.catalog.inner.crash_point.set(0);
        let machine = machine.reopen();
        machine.catalog.catch_up(&*target, &monitor).unwrap();
        assert_eq!(dump(&machine.catalog), expected, "at change {at}");
    }
}

#[test]
fn a_segment_in_a_bad_sector_costs_what_depends_on_it_and_a_dead_target_ends_it() {
    let [first, second, _] = trees();
    let mem = target("t");
    let writer = Machine::new();
    writer.back_up("host", 1, &first, &[&*mem]);
    writer.back_up("other", 2, &second, &[&*mem]);
    let segments = mem.list("segments").unwrap();
    let faulty = FaultTarget::new(mem.clone());
    let bad = Fault::Fail(ErrorKind::Target);
    faulty.add(Rule::always(Operation::Get, segments[0].key.as_str(), bad));
    let (machine, monitor) = (Machine::new(), Collector::default());
    let done = machine.catalog.catch_up(&*faulty, &monitor).unwrap();
    assert_eq!((done.snapshots, done.faults > 0), (1, true), "{done:?}");
    assert!(monitor.faults().iter().any(|fault| fault.item.contains(segments[0].key.as_str())));
    faulty.clear();
    assert_eq!(machine.catalog.catch_up(&*faulty, &monitor).unwrap().snapshots, 1);
    let machine = Machine::new();
    faulty.add(Rule::dies_after(4));
    assert_eq!(machine.catalog.catch_up(&*faulty, &monitor).unwrap_err().kind(), ErrorKind::Target);
}

/// Turns an object's bytes into others, or removes it.
type Damage = dyn Fn(&[u8]) -> Option<Vec<u8>>;

#[test]
fn a_damaged_segment_is_named_and_costs_what_depends_on_it() {
    let [first, second, third] = trees();
    let target = target("t");
    let machine = Machine::new();
    machine.back_up("host", 1, &first, &[&*target]);
    machine.back_up("host", 2, &second, &[&*target]);
    machine.back_up("other", 3, &third, &[&*target]);
    let good = target.objects();
    let keys: Vec<ObjectKey> = good.keys().cloned().collect();
    let shorten = |bytes: &[u8]| Some(bytes[..bytes.len() / 2].to_vec());
    let flip = |bytes: &[u8]| {
        let mut bytes = bytes.to_vec();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        Some(bytes)
    };
    let gone = |_: &[u8]| None;
    let empty = |_: &[u8]| Some(Vec::new());
    let faults: [&Damage; 4] = [&shorten, &flip, &gone, &empty];
    for key in &keys {
        for (number, fault) in faults.iter().enumerate() {
            target.set_objects(good.clone());
            target.tamper(|objects| {
                let old = objects.remove(key).unwrap();
                if let Some(new) = fault(&old) {
                    objects.insert(key.clone(), new.into());
                }
            });
            let monitor = Collector::default();
            let reader = Machine::new();
            let done = reader.catalog.catch_up(&*target, &monitor).unwrap();
            let newest_of_its_log = SegmentName::from_key(key).is_some_and(|name| {
                machine.catalog.heads().unwrap().iter().any(|head| head.hash == name.hash)
            });
            // The newest of a log can go without a trace here; holdings and heads that others saw tell of it.
            if !(number == 2 && newest_of_its_log) {
                assert!(done.faults > 0, "{key} with fault {number}");
                assert!(
                    monitor.faults().iter().any(|fault| fault.item.contains(key.as_str())),
                    "{key} is not named: {:?}",
                    monitor.faults()
                );
            }
            assert!(done.snapshots < 3, "what depends on it is not shown");
            for snapshot in reader.catalog.snapshots().unwrap() {
                let tree = [&first, &second, &third][usize::try_from(snapshot.time.seconds).unwrap() - 1];
                assert_eq!(
                    restored(&state(&reader.catalog, &snapshot)),
                    restored(tree),
                    "what is shown is right"
                );
            }
            // Another target has it whole: what was missing comes in.
            target.set_objects(good.clone());
            reader.catalog.catch_up(&*target, &Collector::default()).unwrap();
            assert_eq!(dump(&reader.catalog), dump(&machine.catalog));
        }
    }
}

#[test]
fn a_target_that_serves_an_older_state_is_noticed() {
    let [first, second, _] = trees();
    let target = target("t");
    let machine = Machine::new();
    machine.back_up("host", 1, &first, &[&*target]);
    let old = target.objects();
    machine.back_up("host", 2, &second, &[&*target]);
    let number = machine.catalog.target(target.url()).unwrap();
    machine.catalog.record_listing(number, "segments", &target.list("segments").unwrap()).unwrap();
    target.set_objects(old);
    let monitor = Collector::default();
    machine.catalog.catch_up(&*target, &monitor).unwrap();
    let faults = monitor.faults();
    assert!(!faults.is_empty());
    assert!(faults.iter().all(|fault| fault.error.kind() == ErrorKind::NotTheSame), "{faults:?}");
    assert_eq!(machine.catalog.snapshots().unwrap().len(), 2, "nothing is forgotten");
}

#[test]
fn another_repository_or_layout_is_set_aside() {
    let [first, ..] = trees();
    let target = target("t");
    let machine = Machine::new();
    machine.back_up("host", 1, &first, &[&*target]);
    let expected = dump(&machine.catalog);
    let Machine { dir, catalog } = machine;
    drop(catalog);
    let mut other = options(dir.path());
    other.repository = RepositoryId::from_bytes([8; 16]);
    other.access = Access::Read;
    assert_eq!(Catalog::open(&other).unwrap_err().kind(), ErrorKind::NotFound);
    other.access = Access::Write;
    let catalog = Catalog::open(&other).unwrap();
    assert!(catalog.is_empty());
    drop(catalog);
    let catalog = Catalog::open(&options(dir.path())).unwrap();
    assert!(catalog.is_empty(), "a catalog that was another's in between is not believed");
    catalog.catch_up(&*target, &Collector::default()).unwrap();
    assert_eq!(dump(&catalog), expected);
    let second = Catalog::open(&options(dir.path())).unwrap_err();
    assert_eq!(second.kind(), ErrorKind::Locked);
}

#[test]
fn a_catalog_whose_engine_lost_an_edit_is_made_again() {
    let [first, ..] = trees();
    let target = target("t");
    let machine = Machine::new();
    machine.back_up("host", 1, &first, &[&*target]);
    let expected = dump(&machine.catalog);
    let Machine { dir, catalog } = machine;
    drop(catalog);
    let manifest = dir.path().join("catalog/MANIFEST");
    let mut bytes = std::fs::read(&manifest).unwrap();
    let at = bytes.len() - 12;
    bytes[at] ^= 1;
    std::fs::write(&manifest, bytes).unwrap();
    let catalog = Catalog::open(&options(dir.path())).unwrap();
    assert!(catalog.is_empty(), "what lost something is not believed");
    assert!(catalog.set_aside().is_some_and(Error::is_catalog_damage), "and that is said");
    catalog.catch_up(&*target, &Collector::default()).unwrap();
    assert_eq!(dump(&catalog), expected);
}

#[test]
fn a_reader_beside_the_writer_sees_whole_snapshots() {
    let [first, second, _] = trees();
    let machine = Machine::new();
    let mut reading = options(machine.dir.path());
    reading.access = Access::Read;
    machine.back_up("host", 1, &first, &[]);
    let reader = Catalog::open(&reading).unwrap();
    let snapshots = reader.snapshots().unwrap();
    assert_eq!(restored(&state(&reader, &snapshots[0])), restored(&first));
    machine.back_up("host", 2, &second, &[]);
    assert_eq!(restored(&state(&reader, &snapshots[0])), restored(&first));
    let later = Catalog::open(&reading).unwrap();
    let snapshots = later.snapshots().unwrap();
    assert_eq!(restored(&state(&later, &snapshots[1])), restored(&second));
    let error = later.catch_up(&*target("t"), &Collector::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Local, "a reader changes nothing");
    assert_eq!(later.target("/t").unwrap_err().kind(), ErrorKind::Local);
}

#[test]
fn another_key_opens_nothing_and_says_so() {
    let [first, ..] = trees();
    let target = target("t");
    Machine::new().back_up("host", 1, &first, &[&*target]);
    let dir = testing::state_dir();
    let mut other = options(dir.path());
    other.secrets = testing::other_secrets();
    let catalog = Catalog::open(&other).unwrap();
    let monitor = Collector::default();
    let done = catalog.catch_up(&*target, &monitor).unwrap();
    assert_eq!(done.snapshots, 0);
    assert!(monitor.faults().iter().any(|fault| fault.error.to_string().contains("another key")));
}

#[test]
fn the_outbox_keeps_the_end_of_the_log() {
    let [first, second, _] = trees();
    let target = target("t");
    let machine = Machine::new();
    machine.back_up("host", 1, &first, &[&*target]);
    machine.back_up("host", 2, &second, &[&*target]);
    let all = machine.catalog.outbox_names().unwrap();
    let number = machine.catalog.target(target.url()).unwrap();
    machine.catalog.trim_outbox(&[number]).unwrap();
    assert_eq!(machine.catalog.outbox_names().unwrap(), all, "no target is known to hold them");
    machine.catalog.record_listing(number, "", &target.list("").unwrap()).unwrap();
    let away = machine.catalog.target("mem:away").unwrap();
    for some in [&[number, away][..], &[]] {
        machine.catalog.trim_outbox(some).unwrap();
        assert_eq!(machine.catalog.outbox_names().unwrap(), all, "one is not known to hold them");
    }
    machine.catalog.trim_outbox(&[number]).unwrap();
    assert_eq!(machine.catalog.outbox_names().unwrap(), all[all.len() - 1..]);
    // The log goes on, though the catalog is lost.
    let writer = machine.catalog.writer().unwrap();
    let Machine { dir, catalog } = machine;
    drop(catalog);
    std::fs::remove_dir_all(dir.path().join("catalog")).unwrap();
    let catalog = Catalog::open(&options(dir.path())).unwrap();
    let machine = Machine { dir, catalog };
    let monitor = Collector::default();
    machine.catalog.catch_up(&*target, &monitor).unwrap();
    assert_eq!(machine.catalog.writer().unwrap(), writer);
    machine.back_up("host", 3, &first, &[&*target]);
    assert_eq!(machine.catalog.writer().unwrap(), writer);
    assert_eq!(dump(&machine.catalog), dump(&Machine::from_target(&*target).catalog));
    // A torn end of the log is not continued: a new writer begins.
    let newest = machine.catalog.outbox_names().unwrap().pop().unwrap();
    let path = std::fs::read_dir(machine.dir.path().join("outbox")).unwrap();
    let path =
        path.map(|e| e.unwrap().path()).find(|p| p.to_string_lossy().contains(&newest.hash.to_string()));
    let path = path.unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    bytes.truncate(100);
    std::fs::write(&path, bytes).unwrap();
    machine.back_up("host", 4, &second, &[&*target]);
    assert_ne!(machine.catalog.writer().unwrap(), writer);
    assert_eq!(dump(&machine.catalog), dump(&Machine::from_target(&*target).catalog));
    assert!(monitor.faults().is_empty());
}

#[test]
fn a_log_whose_end_cannot_be_read_now_is_not_given_up() {
    let [first, second, _] = trees();
    let machine = Machine::new();
    machine.back_up("host", 1, &first, &[]);
    let writer = machine.catalog.writer().unwrap();
    let newest = machine.catalog.outbox_names().unwrap().pop().unwrap();
    let outbox = std::fs::read_dir(machine.dir.path().join("outbox")).unwrap();
    let path = outbox
        .map(|entry| entry.unwrap().path())
        .find(|path| path.to_string_lossy().contains(&newest.hash.to_string()))
        .unwrap();
    // Something that is neither there nor gone nor damaged: another error of the system.
    let bytes = std::fs::read(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    assert_eq!(machine.catalog.writer().unwrap_err().kind(), ErrorKind::Local);
    std::fs::remove_dir(&path).unwrap();
    std::fs::write(&path, bytes).unwrap();
    machine.back_up("host", 2, &second, &[]);
    assert_eq!(machine.catalog.writer().unwrap(), writer);
}

#[test]
fn a_run_that_was_given_up_counts_for_nothing() {
    let [first, second, third] = trees();
    let target = target("t");
    let machine = Machine::new();
    machine.back_up("host", 1, &first, &[&*target]);
    let mut given_up = machine.begin("host", 2);
    let m = file(77, 0o600, &[5]);
    let entry = NewEntry {
        key: &key("/never"),
        file: FileOrigin::New,
        metadata: &m.metadata,
        contents: Contents::None,
        marks: Marks::NONE,
    };
    given_up.entry(&entry).unwrap();
    let piece = given_up.flush().unwrap().unwrap();
    assert!(given_up.flush().unwrap().is_none(), "nothing more");
    machine.catalog.apply(&piece).unwrap();
    put(&piece, &[&*target]);
    drop(given_up);
    machine.back_up("host", 3, &second, &[&*target]);
    machine.back_up("host", 4, &third, &[&*target]);
    assert_eq!(machine.catalog.snapshots().unwrap().len(), 3);
    let rebuilt = Machine::from_target(&*target);
    assert_eq!(dump(&machine.catalog), dump(&rebuilt.catalog));
    let last = rebuilt.catalog.snapshots().unwrap().pop().unwrap();
    assert_eq!(rebuilt.catalog.entry(&last, &key("/never")).unwrap(), None);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let machine = Machine::new();
    let mut run = machine.begin("host", 1);
    assert_eq!(run.gone(&key("/a")).unwrap_err().kind(), ErrorKind::InvalidArgument);
    let node = file(1, 0o600, &[]);
    let entry = |file| NewEntry {
        key: &KEY,
        file,
        metadata: &node.metadata,
        contents: Contents::None,
        marks: Marks::NONE,
    };
    static KEY: std::sync::LazyLock<EntryKey> = std::sync::LazyLock::new(|| key("/a"));
    let error = run.entry(&entry(FileOrigin::SameAsPredecessor)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    run.entry(&entry(FileOrigin::New)).unwrap();
    let mut bad = node.metadata.clone();
    bad.mode = 0o70000;
    let error = run.entry(&NewEntry { metadata: &bad, ..entry(FileOrigin::New) }).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
}

/// Asks to stop at the first thing that happens.
struct Impatient;

impl crate::monitor::Monitor for Impatient {
    fn fault(&self, _: crate::monitor::Fault) {}
    fn event(&self, _: Event<'_>) {}
    fn cancelled(&self) -> bool {
        true
    }
}

#[test]
fn catching_up_can_be_stopped_and_goes_on() {
    let [first, ..] = trees();
    let target = target("t");
    let writer = Machine::new();
    writer.back_up("host", 1, &first, &[&*target]);
    let reader = Machine::new();
    assert_eq!(reader.catalog.catch_up(&*target, &Impatient).unwrap_err().kind(), ErrorKind::Cancelled);
    reader.catalog.catch_up(&*target, &Collector::default()).unwrap();
    assert_eq!(dump(&reader.catalog), dump(&writer.catalog));
}
