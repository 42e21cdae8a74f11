//! The bodies over the kept seeds, over seeds with damage, over anything; and how the seeds are made.

use super::*;
use crate::codec::put_varint;
use crate::id::{ChunkId, FileId, ListId, ObjectHash, SnapshotId, TimelineId, WriterId};
use crate::metadata::{Hole, Kind, Metadata, Timestamp};
use crate::segment::{CommitRecord, DigestRecord, RunRecord, SeenRecord};
use crate::testing::{frame_header, frames, noise, text};
use crate::version::{Contents, FileOrigin, Marks, SnapshotNumber, SnapshotStats};
use lsm::fuzz::seeds::{self, Seed};
use proptest::prelude::*;
use std::path::Path;

type Body = fn(&[u8]);
const BODIES: [(&str, Body); 10] = [
    ("frame", frame),
    ("toc", toc),
    ("envelope", envelope),
    ("config", config),
    ("pack", pack),
    ("segment", segment),
    ("records", records),
    ("path", path),
    ("name", name),
    ("row", row),
];

fn objects(folder: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(folder);
    let files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    let objects = files.iter().filter(|path| path.extension().is_none());
    objects
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read(path).unwrap()))
        .collect()
}

/// A record of each kind, entries of each sort.
pub(crate) fn some_records() -> Vec<u8> {
    let key = |path: &str| EntryKey::from_path(path).unwrap();
    let time = Timestamp { seconds: 1_764_061_200, nanoseconds: 123_456_789 };
    let mut writer = RecordWriter::new();
    writer.run(&RunRecord {
        snapshot: SnapshotId::from_bytes([1; 16]),
        timeline: TimelineId::from_bytes([2; 16]),
        number: SnapshotNumber(9),
        parent: Some(SnapshotId::from_bytes([3; 16])),
        time,
        host: b"engine".to_vec(),
        roots: vec![b"/home".to_vec()],
    });
    let mut file = Metadata::new(Kind::File);
    (file.mode, file.uid, file.gid, file.user, file.group) =
        (0o644, 1000, 1000, b"ada".to_vec(), b"ada".to_vec());
    (file.mtime, file.ctime, file.birth, file.inode, file.device) = (time, time, Some(time), 77, 5);
    let mut directory = Metadata { kind: Kind::Directory, mode: 0o755, ..file.clone() };
    directory.xattrs = vec![(b"user.a".to_vec(), b"1".to_vec()), (b"user.b".to_vec(), Vec::new())];
    writer.entry(&key("/home"), FileOrigin::SameAsPredecessor, &directory, &Contents::None, Marks::NONE);
    let target = Some(b"../x".to_vec());
    let link = Metadata { kind: Kind::Symlink, size: 4, link_target: target, ..file.clone() };
    writer.entry(&key("/home/link"), FileOrigin::New, &link, &Contents::None, Marks::NONE);
    let mut sparse = Metadata { size: 9000, links: 2, ..file.clone() };
    sparse.holes = vec![Hole { offset: 100, length: 50 }, Hole { offset: 4096, length: 4096 }];
    let inline = Contents::Inline(vec![ChunkId::from_bytes([8; 32])]);
    let renamed = FileOrigin::Explicit(FileId::from_bytes([4; 16]));
    writer.entry(&key("/home/sparse"), renamed, &sparse, &inline, Marks::RACY);
    let large = Metadata { size: 1 << 30, ..file };
    let listed = Contents::List { id: ListId::from_bytes([6; 32]), count: 70_000 };
    writer.entry(&key("/home/large"), FileOrigin::New, &large, &listed, Marks::CHANGED_WHILE_READ);
    writer.list(&ListNode::Chunks(vec![ChunkId::from_bytes([8; 32]), ChunkId::from_bytes([9; 32])]));
    writer.list(&ListNode::Lists { level: 2, lists: vec![(ListId::from_bytes([6; 32]), 300)] });
    writer.gone(&key("/home/old"));
    writer.seen(&SeenRecord {
        key: key("/home/seen"),
        ctime: time,
        inode: 78,
        device: 5,
        marks: Marks::NONE,
    });
    writer.commit(&CommitRecord {
        end: time,
        user: b"ada".to_vec(),
        program: b"versions".to_vec(),
        tags: vec![b"tag".to_vec()],
        excludes: vec![b"*.o".to_vec()],
        partial: false,
        stats: SnapshotStats { files_new: 3, bytes_total: 1 << 30, ..SnapshotStats::default() },
        record_count: 6,
        digest: DigestRecord::SameAsParent,
    });
    writer.take()
}

/// A frame as the frame target takes it.
fn plain_frame(pieces: &[Vec<u8>], level: Option<i32>) -> Vec<u8> {
    let frame = frames(&[pieces.to_vec()], level).remove(0);
    let header = frame_header(&frame, pieces.len());
    [&header.encode()[..], &frame.table(), &frame.data].concat()
}

/// What the segment target takes apart and seals.
fn parts(choice: u8, names: &[u8], index: &[u8], versions: &[u8]) -> Vec<u8> {
    let length = |part: &[u8]| u16::try_from(part.len()).unwrap().to_le_bytes();
    [&[choice][..], &length(names), &length(index), names, index, versions].concat()
}

/// All seeds, as they are made.
fn all() -> Vec<Seed> {
    let mut seeds: Vec<Seed> = Vec::new();
    let mut add = |target, name: &str, bytes: &[u8]| seeds.push((target, name.to_owned(), bytes.to_vec()));
    let (golden, broken) = (objects("golden/v1"), objects("broken"));
    let small = |name: &str| !name.starts_with("pack") && !name.starts_with("segment");
    for (name, bytes) in golden.iter().filter(|(name, _)| small(name)) {
        add("envelope", name, bytes);
        add("config", name, bytes);
    }
    for (name, bytes) in broken.iter().filter(|(name, _)| small(name)) {
        if ["newer", "asks", "turned", "no-text"].iter().any(|part| name.contains(part)) {
            add("config", name, bytes);
        }
    }
    add("frame", "uncompressed", &plain_frame(&[text(1, 60), text(2, 200)], None));
    add("frame", "one-chunk", &plain_frame(&[noise(3, 40)], None));
    add("frame", "zstd", &plain_frame(&[text(1, 2000), text(2, 200)], Some(3)));
    for (name, bytes) in golden.iter().filter(|(name, _)| name.starts_with("segment")) {
        add("segment", name, bytes);
    }
    let bytes = segment::tests::golden(Cipher::None).bytes;
    let golden = Segment::parse(&bytes).unwrap();
    let names = golden.names_part();
    let [index, _] = golden.plaintexts(&SegmentKeys::new(&secrets()));
    let plain = some_records();
    let mut versions = vec![1];
    put_varint(&mut versions, plain.len() as u64);
    versions.extend_from_slice(&plain);
    add("segment", "parts-unencrypted", &parts(0, names, &index, &versions));
    add("segment", "parts-encrypted", &parts(1, names, &index, &versions));
    add("segment", "parts-names-alone", &parts(0, &[0, 0], &[], &[]));
    add("records", "every-kind", &plain);
    add("records", "list-of-chunks", &ListNode::Chunks(vec![ChunkId::from_bytes([8; 32])]).encode());
    let lists = ListNode::Lists { level: 2, lists: vec![(ListId::from_bytes([6; 32]), 300)] };
    add("records", "list-of-lists", &lists.encode());
    let packs = golden.packs(&SegmentKeys::new(&secrets())).unwrap();
    add("toc", "one-frame", &packs[0].toc.encode());
    add("toc", "empty", &Toc { frames: Vec::new() }.encode());
    add("pack", "one-flip", &[1, 0, 1, 0]);
    add("pack", "both-tables", &[3, 0x90, 1, 1, 4, 0x40, 1, 1, 4, 0xf0, 1, 1, 5, 0x20, 1, 1, b'x']);
    let torn: Vec<u8> = (0..40u8).flat_map(|number| [0, number * 3, 0xff, 0xff]).collect();
    add("pack", "torn-front", &torn);
    add("path", "absolute", b"/usr/share/doc");
    add("path", "root", b"/");
    add("path", "key", EntryKey::from_path("/usr/share/doc").unwrap().as_bytes());
    let (hash, writer) = (ObjectHash::from_bytes([0xab; 32]), WriterId::from_bytes([0xcd; 16]));
    let intent = IntentId::from_bytes([0xef; 16]);
    for (name, object) in [
        ("config", ObjectName::Config),
        ("key", ObjectName::Key(hash)),
        ("key-removal", ObjectName::KeyRemoval(hash)),
        ("pack", ObjectName::Pack(hash)),
        ("segment", ObjectName::Segment { writer, sequence: 258, hash }),
        ("complete", ObjectName::Complete { writer, sequence: 258 }),
        ("intent", ObjectName::Intent(intent)),
    ] {
        add("name", name, object.key().as_str().as_bytes());
        add("name", &format!("{name}-aside"), object.key().aside(7).unwrap().as_str().as_bytes());
    }
    for (name, bytes) in catalog::fuzz::rows() {
        add("row", name, &bytes);
    }
    seeds
}

#[test]
fn seeds_are_there_as_they_are_made() {
    // What zstd makes of bytes may change with its version.
    seeds::check(&all(), "zstd");
}

/// `cargo test -p chunkstore fuzz -- --ignored` writes those that are missing, and never over one that is there.
#[test]
#[ignore = "writes files into the source tree"]
fn write_missing_seeds() {
    seeds::write_missing(&all()).unwrap();
}

/// The seeds of each target, and every golden and broken object through all of them.
#[test]
fn kept_inputs_get_a_verdict() {
    let objects = [objects("golden/v1"), objects("broken")].concat();
    for (name, body) in BODIES {
        seeds::kept(name).unwrap().iter().for_each(|bytes| body(bytes));
        objects.iter().for_each(|(_, bytes)| body(bytes));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_bytes_get_a_verdict(bytes in proptest::collection::vec(prop_oneof![2 => 0u8..3, 1 => any::<u8>()], 0..200)) {
        for (_, body) in BODIES {
            body(&bytes);
        }
    }

    #[test]
    fn seeds_with_damage_get_a_verdict(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let seeds = all();
        let (target, _, mut bytes) = seeds[which.index(seeds.len())].clone();
        if !bytes.is_empty() {
            for (at, byte) in changes {
                *at.get_mut(&mut bytes) = byte;
            }
        }
        let (_, body) = BODIES.iter().find(|(name, _)| *name == target).unwrap();
        body(&bytes);
    }
}
