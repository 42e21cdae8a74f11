//! Chunks, packs, and what targets hold.

use std::collections::HashSet;

use super::*;
use crate::catalog::{Holding, Verdict};
use crate::id::ObjectHash;
use crate::metadata::Hole;
use crate::pack::{ChunkEntry, FrameEntry, FramePlace, Toc};
use crate::repository::layout::ObjectName;
use crate::segment::{PackContents, Segment};
use crate::target::ObjectInfo;

/// Where the first frame of a pack begins.
const HEADER: u64 = 112;

/// A pack whose frames hold these chunks, each of 100 bytes.
fn pack(number: u8, frames: &[&[u64]]) -> PackContents {
    let mut offset = HEADER;
    let frames = frames
        .iter()
        .enumerate()
        .map(|(index, chunks)| {
            let place = FramePlace { number: u32::try_from(index).unwrap(), offset, stored_bytes: 500 };
            offset += 500;
            FrameEntry {
                place,
                raw_bytes: 100 * u32::try_from(chunks.len()).unwrap(),
                chunks: chunks.iter().map(|n| ChunkEntry { id: chunk(*n), length: 100 }).collect(),
            }
        })
        .collect();
    PackContents { name: ObjectHash::from_bytes([number; 32]), stored_bytes: offset, toc: Toc { frames } }
}

fn store(machine: &Machine, packs: &[PackContents]) -> SegmentObject {
    let mut run = machine.begin("host", 1);
    for pack in packs {
        run.pack(pack.clone()).unwrap();
    }
    let segment = run.flush().unwrap().unwrap();
    machine.catalog.apply(&segment).unwrap();
    segment
}

fn pack_key(number: u8) -> crate::target::ObjectKey {
    ObjectName::Pack(ObjectHash::from_bytes([number; 32])).key()
}

#[test]
fn known_means_on_a_target_and_not_known_to_be_damaged() {
    let machine = Machine::new();
    let catalog = &machine.catalog;
    let ids = [chunk(1), chunk(2), chunk(3), chunk(4)];
    let (one, two) = (catalog.target("/one").unwrap(), catalog.target("/two").unwrap());
    assert_eq!(catalog.target("/one").unwrap(), one);
    assert_eq!(catalog.known(&ids).unwrap(), [false; 4]);
    // A put that was acknowledged before the segment told what the pack holds.
    catalog.record_holdings(one, &[(pack_key(1), Holding::put(1000))]).unwrap();
    store(&machine, &[pack(1, &[&[1, 2], &[3]]), pack(2, &[&[3, 4]])]);
    assert_eq!(catalog.known(&ids).unwrap(), [true, true, true, false]);
    let damaged = Holding { verdict: Verdict::Damaged, ..Holding::put(1000) };
    catalog.record_holdings(one, &[(pack_key(1), damaged)]).unwrap();
    assert_eq!(catalog.known(&ids).unwrap(), [false; 4]);
    // A further place of chunk 3 is enough for it.
    catalog.record_holdings(two, &[(pack_key(2), Holding::put(1000))]).unwrap();
    assert_eq!(catalog.known(&ids).unwrap(), [false, false, true, true]);
    let machine = machine.reopen();
    assert_eq!(machine.catalog.known(&ids).unwrap(), [false, false, true, true], "made from the holdings");
    let places = machine.catalog.places(&ids[2..3]).unwrap();
    let packs: Vec<_> = places[0].iter().map(|place| (place.pack.as_bytes()[0], place.usable)).collect();
    assert_eq!(packs, [(2, true), (1, false)], "usable ones first");
    machine.catalog.forget_target(two).unwrap();
    assert_eq!(machine.catalog.known(&ids).unwrap(), [false; 4]);
    assert_eq!(machine.catalog.targets().unwrap().len(), 1);
}

#[test]
fn a_listing_says_what_is_held_and_what_is_missing() {
    let machine = Machine::new();
    let catalog = &machine.catalog;
    let target = catalog.target("/t").unwrap();
    let info = |number, length| ObjectInfo { key: pack_key(number), length };
    catalog.record_listing(target, "packs", &[info(1, 10), info(2, 20)]).unwrap();
    let good = Holding { verified: 77, verdict: Verdict::Good, ..Holding::put(20) };
    catalog.record_holdings(target, &[(pack_key(2), good)]).unwrap();
    catalog.record_listing(target, "packs", &[info(2, 20), info(3, 30)]).unwrap();
    assert_eq!(catalog.holding(target, &pack_key(2)).unwrap(), Some(good), "a verification is remembered");
    let missing = catalog.holding(target, &pack_key(1)).unwrap().unwrap();
    assert!(!missing.held && missing.verdict == Verdict::Missing);
    assert!(catalog.holding(target, &pack_key(3)).unwrap().unwrap().is_usable());
    catalog.record_listing(target, "packs", &[info(2, 21)]).unwrap();
    assert_eq!(
        catalog.holding(target, &pack_key(2)).unwrap(),
        Some(Holding::put(21)),
        "another length, another object"
    );
    assert_eq!(catalog.holdings(target, "packs").unwrap().len(), 3);
    assert_eq!(catalog.holdings(target, "pac").unwrap().len(), 0);
}

#[test]
fn packs_come_back_as_they_were_told() {
    let machine = Machine::new();
    let packs = [pack(1, &[&[1, 2], &[3]]), pack(2, &[&[3, 4, 5]])];
    let segment = store(&machine, &packs);
    let target = target("t");
    put(&segment, &[&*target]);
    let rebuilt = Machine::from_target(&*target);
    for catalog in [&machine.catalog, &rebuilt.catalog] {
        assert_eq!(catalog.packs().unwrap().len(), 2);
        for pack in &packs {
            assert_eq!(catalog.pack(pack.name).unwrap().as_ref(), Some(pack));
        }
        assert_eq!(catalog.pack(ObjectHash::from_bytes([9; 32])).unwrap(), None);
        let place = catalog.places(&[chunk(5)]).unwrap()[0][0];
        assert_eq!((place.index, place.raw_offset, place.length), (2, 200, 100));
        assert_eq!(place.frame, packs[1].toc.frames[0].place);
    }
}

#[test]
fn a_rebuild_forgets_every_place() {
    let machine = Machine::new();
    let (first, second): (Vec<u64>, Vec<u64>) = ((0..100).collect(), (50..150).collect());
    store(&machine, &[pack(1, &[&first]), pack(2, &[&second])]);
    let ids: Vec<ChunkId> = (0..150).map(chunk).collect();
    let count = |catalog: &Catalog| catalog.places(&ids).unwrap().iter().map(Vec::len).collect::<Vec<_>>();
    assert_eq!(count(&machine.catalog), [vec![1; 50], vec![2; 50], vec![1; 50]].concat());
    machine.catalog.rebuild(&*target("empty"), &Collector::default()).unwrap();
    assert_eq!(count(&machine.catalog), [0; 150]);
    let spaces = &machine.catalog.inner.spaces;
    assert!(spaces.chunks.iter().chain(spaces.elsewhere.iter()).next().is_none());
    let only = pack(3, &[&[7]]);
    store(&machine, std::slice::from_ref(&only));
    assert_eq!(machine.catalog.places(&[chunk(7)]).unwrap()[0][0].pack, only.name);
}

#[test]
fn packs_speak_for_themselves_when_their_segment_is_lost() {
    let target = target("t");
    let machine = Machine::new();
    let secrets = testing::secrets();
    let (cipher, intent) = (Cipher::ChaCha20Poly1305, IntentId::from_bytes([1; 16]));
    let mut writer = crate::pack::Writer::new(&secrets, Epoch::FIRST, cipher, intent, Vec::new()).unwrap();
    for frame in testing::frames(&[vec![testing::noise(1, 500), testing::noise(2, 300)]], None) {
        writer.add(&frame).unwrap();
    }
    let finished = writer.finish();
    target.put(&ObjectName::Pack(finished.name).key(), &[&finished.bytes]).unwrap();
    let stored_bytes = finished.bytes.len() as u64;
    let contents = PackContents { name: finished.name, stored_bytes, toc: finished.toc };
    let index_piece = store(&machine, std::slice::from_ref(&contents));
    put(&index_piece, &[&*target]);
    machine.back_up("host", 2, &Tree::from([(key("/a"), file(1, 0o600, &[1]))]), &[&*target]);
    target.tamper(|objects| {
        objects.insert(index_piece.name.key(), b"damaged"[..].into());
    });
    let reader = Machine::new();
    let number = reader.catalog.target(target.url()).unwrap();
    reader.catalog.record_listing(number, "packs", &target.list("packs").unwrap()).unwrap();
    let monitor = Collector::default();
    assert!(reader.catalog.catch_up(&*target, &monitor).unwrap().faults > 0);
    let ids: Vec<ChunkId> = contents.toc.frames[0].chunks.iter().map(|chunk| chunk.id).collect();
    let places = reader.catalog.places(&ids).unwrap();
    assert!(places.iter().all(|places| places.len() == 1 && places[0].usable), "{places:?}");
    assert_eq!(places[1][0].raw_offset, 500);
    assert_eq!(reader.catalog.known(&ids).unwrap(), [false, false], "nothing is built on what no log names");
    assert!(reader.catalog.packs().unwrap().is_empty());
    // The segment comes back, from another target, say.
    target.delete(&index_piece.name.key()).unwrap();
    put(&index_piece, &[&*target]);
    reader.catalog.catch_up(&*target, &monitor).unwrap();
    assert_eq!(reader.catalog.known(&ids).unwrap(), [true, true]);
    assert_eq!(reader.catalog.packs().unwrap(), [(contents.name, contents.stored_bytes)]);
    assert_eq!(reader.catalog.pack(contents.name).unwrap(), Some(contents));
}

#[test]
#[expect(clippy::single_range_in_vec_init, reason = "lists of ranges are what is tested")]
fn spans_and_losses_are_named_by_bytes() {
    let machine = Machine::new();
    let many: Vec<u64> = (0..300).collect();
    store(&machine, &[pack(1, &[&many])]);
    let mut tree =
        Tree::from([(key("/a"), file(1, 0o600, &[1, 2, 3])), (key("/long"), file(2, 0o600, &many))]);
    let mut sparse = file(3, 0o600, &[2, 7]);
    sparse.metadata.size = 1200;
    sparse.metadata.holes = vec![Hole { offset: 50, length: 1000 }];
    tree.insert(key("/sparse"), sparse);
    machine.back_up("host", 1, &tree, &[]);
    tree.remove(&key("/a"));
    machine.back_up("host", 2, &tree, &[]);
    let last = machine.back_up("host", 3, &tree, &[]);
    let catalog = &machine.catalog;
    let version = catalog.entry(&last, &key("/long")).unwrap().unwrap();
    assert!(matches!(version.contents, Contents::List { count: 300, .. }));
    let spans: Vec<_> = catalog.spans(&version.contents).unwrap().map(|span| span.unwrap()).collect();
    assert_eq!(spans.len(), 300);
    for (n, span) in spans.iter().enumerate() {
        assert_eq!((span.id, span.offset, span.length), (chunk(n as u64), 100 * n as u64, 100));
        assert_eq!(span.places.len(), 1);
    }
    let mut found = Vec::new();
    let lost = HashSet::from([chunk(2), chunk(299)]);
    catalog
        .references(&lost, &mut |reference| {
            found.push((
                reference.key.to_string(),
                reference.version.birth.0,
                reference.last.0,
                reference.ranges,
            ));
            Ok(())
        })
        .unwrap();
    assert_eq!(
        found,
        [
            ("/a".to_owned(), 1, 1, vec![100..200]),
            ("/long".to_owned(), 1, 3, vec![200..300, 29_900..30_000]),
            ("/sparse".to_owned(), 1, 3, vec![0..50, 1050..1100]),
        ]
    );
    // A chunk that nobody tells of ends the spans with an error, behind those before it.
    let unknown = Contents::Inline(vec![chunk(1), chunk(1000), chunk(2)]);
    let spans: Vec<_> = catalog.spans(&unknown).unwrap().collect();
    assert_eq!(spans.len(), 2);
    assert_eq!(spans[1].as_ref().unwrap_err().kind(), ErrorKind::NotFound);
}

/// A pack of so many frames of fifty thousand chunks, which look all the same.
fn pack_of(number: u8, frames: usize) -> PackContents {
    let mut contents = pack(number, &[&[u64::from(number)]]);
    let frame = contents.toc.frames.remove(0);
    let frame = FrameEntry { chunks: vec![frame.chunks[0]; 50_000], raw_bytes: 5_000_000, ..frame };
    contents.toc.frames = (0..frames)
        .map(|index| {
            let number = u32::try_from(index).unwrap();
            let place = FramePlace { number, offset: HEADER + 500 * u64::from(number), stored_bytes: 500 };
            FrameEntry { place, ..frame.clone() }
        })
        .collect();
    contents
}

#[test]
fn a_piece_is_made_before_a_pack_finds_no_room_in_it() {
    let machine = Machine::new();
    let mut run = machine.begin("host", 1);
    let packs = [pack_of(1, 8), pack_of(2, 7), pack_of(3, 1)];
    for pack in &packs {
        run.pack(pack.clone()).unwrap();
    }
    // It was stored by a version that knew no bound.
    let error = run.pack(pack_of(4, 40)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(error.to_string().contains("2000000 chunks"), "{error}");
    let mut named = Vec::new();
    while let Some(segment) = run.flush().unwrap() {
        let names = Segment::open(&segment).unwrap().names;
        named.push(names.packs.iter().map(|pack| pack.name.as_bytes()[0]).collect::<Vec<_>>());
    }
    assert_eq!(named, [vec![1], vec![2, 3]]);
    run.commit(SnapshotSummary::default()).unwrap();
}
