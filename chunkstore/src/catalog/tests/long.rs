//! A catalog with the limits that users have, and as many entries as they may have.
//!
//! `cargo test --release -p chunkstore --lib catalog::tests::long -- --ignored --nocapture` says how long each step takes. How long
//! questions take is measured by `benches/proofs/thousand-snapshots.sh`.

use std::time::Instant;

use super::*;
use crate::catalog::Holding;
use crate::id::ObjectHash;
use crate::pack::{ChunkEntry, FrameEntry, FramePlace, Toc};
use crate::repository::layout::ObjectName;
use crate::segment::PackContents;

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

/// So many packs of ten frames of a hundred chunks, one behind the other; none of a number that stands below.
fn packs_of(numbers: std::ops::Range<u64>) -> impl Iterator<Item = PackContents> {
    let place = |number: u64| FramePlace {
        number: u32::try_from(number).unwrap(),
        offset: 112 + 70_000 * number,
        stored_bytes: 70_000,
    };
    let frame = move |pack: u64, number: u64| FrameEntry {
        place: place(number),
        raw_bytes: 800_000,
        chunks: (0..100)
            .map(|n| ChunkEntry { id: chunk(1000 * pack + 100 * number + n), length: 8000 })
            .collect(),
    };
    numbers.map(move |pack| PackContents {
        name: ObjectHash::from_bytes(*chunk(u64::MAX - pack).as_bytes()),
        stored_bytes: 112 + 700_000,
        toc: Toc { frames: (0..10).map(|number| frame(pack, number)).collect() },
    })
}

#[test]
#[ignore = "long: half a minute without optimisation"]
fn chunks_are_found_in_an_index_of_a_million() {
    const PACKS: u64 = 1000;
    let dir = testing::state_dir();
    // As much as the program gives it.
    let options = CatalogOptions { memory_bytes: 64 << 20, ..options(dir.path()) };
    let machine = Machine { catalog: Catalog::open(&options).unwrap(), dir };
    let target = machine.catalog.target("/t").unwrap();
    let packs: Vec<PackContents> = packs_of(0..PACKS).collect();
    let held: Vec<_> =
        packs.iter().map(|pack| (ObjectName::Pack(pack.name).key(), Holding::put(1))).collect();
    machine.catalog.record_holdings(target, &held).unwrap();
    let mut run = machine.begin("host", 1);
    let mut segments = Vec::new();
    timed("write the index", || {
        for pack in packs {
            run.pack(pack).unwrap();
            while run.is_full() {
                segments.extend(run.flush().unwrap());
            }
        }
        segments.extend(run.flush().unwrap());
    });
    drop(run);
    timed("apply it", || segments.iter().for_each(|segment| machine.catalog.apply(segment).unwrap()));
    let chunks = 1000 * PACKS;
    let look_up = |what: &str, catalog: &Catalog, numbers: &mut dyn Iterator<Item = u64>, known: bool| {
        let numbers: Vec<ChunkId> = numbers.map(chunk).collect();
        for size in [32, 1024] {
            let took = Instant::now();
            for ids in numbers.chunks(size) {
                assert!(catalog.known(ids).unwrap().into_iter().all(|found| found == known));
            }
            let each = took.elapsed().as_nanos() / numbers.len() as u128;
            println!("{what}, {size} at a time: {each} ns each");
        }
    };
    let all = |catalog: &Catalog| {
        look_up("stored together", catalog, &mut (0..chunks), true);
        look_up("scattered", catalog, &mut (0..chunks).map(|n| n * 611_953 % chunks), true);
        look_up("unknown", catalog, &mut (chunks..2 * chunks), false);
    };
    all(&machine.catalog);
    let Machine { dir, catalog } = machine;
    timed("close", || catalog.close().unwrap());
    let machine = timed("open again", || Machine { catalog: Catalog::open(&options).unwrap(), dir });
    all(&machine.catalog);
    timed("the contents of a pack", || {
        let wanted = packs_of(17..18).next().unwrap();
        assert_eq!(machine.catalog.pack(wanted.name).unwrap(), Some(wanted));
    });
    let bytes: u64 = std::fs::read_dir(machine.dir.path().join("catalog"))
        .unwrap()
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .sum();
    println!("{bytes} bytes in the catalog");
}
