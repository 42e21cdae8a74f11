//! Entries of which there is very much to be kept.

use super::*;
use crate::segment::Segment;

/// A file with so many bytes of extended attributes.
fn with_attributes(inode: u64, bytes: usize) -> Node {
    let mut node = file(inode, 0o600, &[]);
    node.metadata.xattrs = vec![(b"user.large".to_vec(), testing::noise(inode, bytes))];
    node
}

fn entry(run: &mut RunWriter, key: &EntryKey, node: &Node) -> Result<()> {
    let new = NewEntry {
        key,
        file: FileOrigin::New,
        metadata: &node.metadata,
        contents: Contents::None,
        marks: Marks::NONE,
    };
    run.entry(&new).map(|_| ())
}

#[test]
fn an_entry_that_no_record_can_hold_is_refused_and_the_run_goes_on() {
    let machine = Machine::new();
    let mut run = machine.begin("host", 1);
    let (before, behind) = (file(1, 0o600, &[]), file(3, 0o600, &[]));
    entry(&mut run, &key("/a"), &before).unwrap();
    let error = entry(&mut run, &key("/b"), &with_attributes(2, 70 << 20)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Source, "{error}");
    entry(&mut run, &key("/c"), &behind).unwrap();
    let committed = run.commit(SnapshotSummary::default()).unwrap();
    machine.catalog.apply(&committed.segment).unwrap();
    let kept = Tree::from([(key("/a"), before), (key("/c"), behind)]);
    assert_eq!(state(&machine.catalog, &committed.snapshot), kept);
}

#[test]
fn a_piece_is_made_before_a_large_record_finds_no_room_in_it() {
    let dir = testing::state_dir();
    let catalog = Catalog::open(&CatalogOptions { cipher: Cipher::None, ..options(dir.path()) }).unwrap();
    let machine = Machine { dir, catalog };
    let mut run = machine.begin("host", 1);
    for (inode, bytes) in [(1, 9 << 20), (2, 8 << 20), (3, 100), (4, 23 << 20), (5, 100)] {
        entry(&mut run, &key(&format!("/{inode}")), &with_attributes(inode, bytes)).unwrap();
    }
    let committed = run.commit(SnapshotSummary::default()).unwrap();
    let records = |segment| {
        let segment = Segment::open(segment).unwrap();
        segment.records(&machine.catalog.inner.segment_keys).unwrap().len() >> 20
    };
    let lengths: Vec<usize> = committed.earlier.iter().chain([&committed.segment]).map(records).collect();
    assert_eq!(lengths, [9, 8, 23, 0]);
}
