//! How long the questions take. Run with `cargo test --release -p chunkstore catalog::tests::speed -- --ignored --nocapture`.

use std::time::Instant;

use super::*;

fn timed<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let value = work();
    println!("{what}: {:.4} s", start.elapsed().as_secs_f64());
    value
}

fn big_file(n: u64) -> Node {
    let mut node = file(1_000_000 + n, 0o644, &[n, n + 1]);
    node.metadata.ctime = Timestamp { seconds: 1_700_000_000, nanoseconds: 5 };
    node.metadata.device = 2049;
    node.metadata.uid = 1000;
    node.metadata.user = b"ada".to_vec();
    node
}

fn big_key(n: u64) -> EntryKey {
    key(&format!("/srv/data/{:03}/directory-{:02}/file-{n}", n / 1000, n / 100 % 10))
}

/// A run of the entries with these numbers: new ones, or changed ones in round `round`.
fn run_of(machine: &Machine, time: i64, numbers: impl Iterator<Item = u64>) -> Vec<SegmentObject> {
    let mut run = machine.begin("host", time);
    let mut segments = Vec::new();
    for n in numbers {
        let mut node = big_file(n);
        node.metadata.mtime.seconds = time;
        let file = if time == 1 { FileOrigin::New } else { FileOrigin::SameAsPredecessor };
        let contents = Contents::Inline(node.contents.clone());
        let entry =
            NewEntry { key: &big_key(n), file, metadata: &node.metadata, contents, marks: Marks::NONE };
        run.entry(&entry).unwrap();
        while run.is_full() {
            segments.extend(run.flush().unwrap());
        }
    }
    let committed = run.commit(SnapshotSummary::default()).unwrap();
    segments.extend(committed.earlier);
    segments.push(committed.segment);
    segments
}

#[test]
#[ignore = "measures"]
fn a_first_backup_of_200_000_entries() {
    let machine = Machine::with(Limits::default());
    let segments = timed("write 200,000 entries", || run_of(&machine, 1, 0..200_000));
    let bytes: usize = segments.iter().map(|segment| segment.bytes.len()).sum();
    println!("{} segments, {bytes} bytes", segments.len());
    timed("apply", || segments.iter().for_each(|segment| machine.catalog.apply(segment).unwrap()));
    let timeline = machine.catalog.timelines().unwrap()[0].id;
    let count = timed("iterate current", || {
        machine.catalog.current(timeline).unwrap().filter(|entry| entry.is_ok()).count()
    });
    assert_eq!(count, 200_000);
    let unchanged = timed("an unchanged run", || run_of(&machine, 2, 0..0));
    println!("{} bytes", unchanged[0].bytes.len());
    let target = target("t");
    segments.iter().for_each(|segment| put(segment, &[&*target]));
    let again = Machine::with(Limits::default());
    timed("rebuild", || again.catalog.catch_up(&*target, &Collector::default()).unwrap());
}

#[test]
#[ignore = "measures"]
fn questions_over_1_000_snapshots_of_20_000_files() {
    let machine = Machine::with(Limits::default());
    let apply = |segments: Vec<SegmentObject>| {
        segments.iter().for_each(|segment| machine.catalog.apply(segment).unwrap());
    };
    timed("the first", || apply(run_of(&machine, 1, 0..20_000)));
    timed("999 more of 20 changes", || {
        for time in 2..=1000u64 {
            let changed = (0..20).map(|i| (time * 37 + i * 997) % 20_000);
            let mut changed: Vec<u64> = changed.chain([77]).collect();
            changed.sort_unstable();
            changed.dedup();
            apply(run_of(&machine, time.cast_signed(), changed.into_iter()));
        }
    });
    let machine = timed("reopen", || machine.reopen());
    let catalog = &machine.catalog;
    let snapshots = timed("snapshots", || catalog.snapshots().unwrap());
    assert_eq!(snapshots.len(), 1000);
    let log = timed("log of a file with 1,000 Versions", || {
        catalog.log(snapshots[0].timeline, &big_key(77)).unwrap()
    });
    assert_eq!(log.len(), 1000);
    let log =
        timed("log of a file with one or two", || catalog.log(snapshots[0].timeline, &big_key(5)).unwrap());
    assert!(!log.is_empty());
    for snapshot in [&snapshots[0], &snapshots[500], &snapshots[999]] {
        let number = snapshot.number.0;
        let count = timed(&format!("ls of all of snapshot {number}"), || {
            catalog.state(snapshot, &KeyRange::all()).unwrap().filter(|entry| entry.is_ok()).count()
        });
        assert_eq!(count, 20_000);
        let directory = key("/srv/data/007/directory-03");
        let count = timed(&format!("ls of a directory of snapshot {number}"), || {
            catalog.state(snapshot, &directory.children()).unwrap().filter(|entry| entry.is_ok()).count()
        });
        assert_eq!(count, 100);
        timed(&format!("one file of snapshot {number}"), || {
            catalog.entry(snapshot, &big_key(77)).unwrap().unwrap()
        });
    }
}
