//! A catalog with the limits that users have, and as many entries as they may have.
//!
//! `cargo test --release -p chunkstore --lib catalog::tests::long -- --ignored --nocapture` says how long each step takes. How long
//! questions take is measured by `benches/proofs/thousand-snapshots.sh`.

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

/// A run of the entries with these numbers: new ones the first time, changed ones later.
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
#[ignore = "long: half a minute without optimisation"]
fn a_first_backup_of_200_000_entries_comes_back() {
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
    unchanged.iter().for_each(|segment| machine.catalog.apply(segment).unwrap());
    unchanged.iter().for_each(|segment| put(segment, &[&*target]));
    let again = Machine::with(Limits::default());
    timed("rebuild", || again.catalog.catch_up(&*target, &Collector::default()).unwrap());
    let last = machine.catalog.snapshots().unwrap().pop().unwrap();
    let [before, after] = [&machine, &again]
        .map(|machine| machine.catalog.state(&last, &KeyRange::all()).unwrap().map(|entry| entry.unwrap()));
    assert!(before.eq(after), "the same as it was");
}
