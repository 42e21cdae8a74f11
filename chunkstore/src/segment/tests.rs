//! Segments: what comes back, what is refused.

use proptest::prelude::*;

use super::*;
use crate::entry_key::EntryKey;
use crate::error::ErrorKind;
use crate::id::{ChunkId, FileId, ListId, SnapshotId, TimelineId};
use crate::metadata::any_metadata;
use crate::metadata::{Kind, Metadata, Timestamp};
use crate::pack::{ChunkEntry, FrameEntry, FramePlace, Toc};
use crate::testing;
use crate::version::{Contents, FileOrigin, Marks, SnapshotNumber, SnapshotStats};

pub(crate) fn keys() -> SegmentKeys {
    SegmentKeys::new(&testing::secrets())
}

fn new(cipher: Cipher) -> NewSegment {
    NewSegment {
        cipher,
        epoch: Epoch::FIRST,
        writer: WriterId::from_bytes([3; 16]),
        sequence: Sequence(2),
        predecessor: ObjectHash::from_bytes([4; 32]),
        intent: IntentId::from_bytes([5; 16]),
        flags: PieceFlags { begins: true, commits: true },
        salt: [6; 32],
    }
}

fn run() -> RunRecord {
    RunRecord {
        snapshot: SnapshotId::from_bytes([1; 16]),
        timeline: TimelineId::from_bytes([2; 16]),
        number: SnapshotNumber(9),
        parent: Some(SnapshotId::from_bytes([3; 16])),
        time: Timestamp { seconds: -1, nanoseconds: 999_999_999 },
        host: b"host".to_vec(),
        roots: vec![b"/".to_vec(), b"/home".to_vec()],
    }
}

fn commit() -> CommitRecord {
    CommitRecord {
        end: Timestamp { seconds: 5, nanoseconds: 6 },
        user: b"ada".to_vec(),
        program: b"versions 0.1.0".to_vec(),
        tags: vec![b"tag".to_vec()],
        excludes: vec![b"*.o".to_vec()],
        partial: true,
        stats: SnapshotStats { files_new: 1, bytes_total: 700, ..SnapshotStats::default() },
        record_count: 1,
        digest: DigestRecord::Lanes(Box::new([7; DIGEST_LANES])),
    }
}

fn packs() -> Vec<PackContents> {
    let place = FramePlace { number: 0, offset: 112, stored_bytes: 900 };
    let chunks = vec![ChunkEntry { id: ChunkId::from_bytes([8; 32]), length: 1000 }];
    let toc = Toc { frames: vec![FrameEntry { place, raw_bytes: 1000, chunks }] };
    vec![PackContents { name: ObjectHash::from_bytes([9; 32]), stored_bytes: 1234, toc }]
}

fn head() -> Head {
    Head {
        writer: WriterId::from_bytes([1; 16]),
        sequence: Sequence(77),
        hash: ObjectHash::from_bytes([2; 32]),
    }
}

fn records() -> Vec<u8> {
    let mut writer = RecordWriter::new();
    writer.run(&run());
    let key = EntryKey::from_path("/etc/passwd").unwrap();
    let mut metadata = Metadata::new(Kind::File);
    metadata.size = 5;
    writer.entry(
        &key,
        FileOrigin::New,
        &metadata,
        &Contents::Inline(vec![ChunkId::from_bytes([8; 32])]),
        Marks::RACY,
    );
    writer.commit(&commit());
    writer.take()
}

/// The segment that the golden file holds.
pub(crate) fn golden(cipher: Cipher) -> SegmentObject {
    new(cipher).encode_with(&keys(), &packs(), &[head()], &records(), Packing::Plain).unwrap()
}

/// Opens everything in a segment.
pub(crate) fn read_all(object: &SegmentObject) -> Result<(Vec<PackContents>, Vec<Record>)> {
    let segment = Segment::open(object)?;
    let packs = segment.packs(&keys())?;
    let bytes = segment.records(&keys())?;
    let mut reader = RecordReader::new(&bytes);
    let mut records = Vec::new();
    while let Some(record) = reader.next_record()? {
        records.push(record);
    }
    Ok((packs, records))
}

#[test]
fn compression_makes_it_smaller_and_no_other() {
    let plain = golden(Cipher::None);
    let packed = new(Cipher::None).encode(&keys(), &packs(), &[head()], &records()).unwrap();
    assert!(packed.bytes.len() < plain.bytes.len());
    assert_eq!(read_all(&packed).unwrap(), read_all(&plain).unwrap());
}

#[test]
fn a_segment_comes_back() {
    for cipher in [Cipher::None, Cipher::ChaCha20Poly1305] {
        let object = golden(cipher);
        assert_eq!(SegmentName::from_key(&object.name.key()), Some(object.name));
        let segment = Segment::open(&object).unwrap();
        assert_eq!(segment.names.heads, [head()]);
        assert_eq!(segment.names.packs, [PackName { name: packs()[0].name, stored_bytes: 1234 }]);
        let (found, records) = read_all(&object).unwrap();
        assert_eq!(found, packs());
        assert_eq!(records.len(), 3);
        assert_eq!(records[0], Record::Run(run()));
        assert_eq!(records[2], Record::Commit(Box::new(commit())));
        assert!(matches!(&records[1], Record::Entry(entry) if entry.marks == Marks::RACY));
    }
}

#[test]
fn one_part_is_enough() {
    for cipher in [Cipher::None, Cipher::ChaCha20Poly1305] {
        let index = new(cipher).encode(&keys(), &packs(), &[], &[]).unwrap();
        assert_eq!(read_all(&index).unwrap(), (packs(), Vec::new()));
        let versions = new(cipher).encode(&keys(), &[], &[], &records()).unwrap();
        let (packs, records) = read_all(&versions).unwrap();
        assert_eq!((packs.len(), records.len()), (0, 3));
    }
}

#[test]
fn what_no_seal_vouches_for_is_no_segment() {
    let refused = new(Cipher::ChaCha20Poly1305).encode(&keys(), &[], &[head()], &[]).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidArgument);
    // As anybody can make it who has seen one: another writer's name in the header, both parts left out.
    let whole = golden(Cipher::ChaCha20Poly1305);
    let names = Segment::open(&whole).unwrap().names_part().to_vec();
    let mut bytes = [&whole.bytes[..SEGMENT_HEADER_BYTES], &names].concat();
    bytes[24..40].copy_from_slice(&[0x99; 16]);
    bytes[232..240].fill(0);
    let checksum = xxhash_rust::xxh3::xxh3_64(&bytes[..240]).to_le_bytes();
    bytes[240..248].copy_from_slice(&checksum);
    assert_eq!(Segment::parse(&bytes.into()).unwrap_err().kind(), ErrorKind::Damage);
}

#[test]
fn every_flip_and_every_cut_is_noticed_and_named() {
    for cipher in [Cipher::None, Cipher::ChaCha20Poly1305] {
        let object = golden(cipher);
        for place in 0..object.bytes.len() {
            for bit in [0x01, 0x80] {
                let mut bytes = (*object.bytes).clone();
                bytes[place] ^= bit;
                let error = read_all(&SegmentObject { name: object.name, bytes: bytes.into() }).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Damage, "byte {place}");
                assert!(error.to_string().contains(&object.name.hash.to_string()), "{error}");
            }
            let cut = SegmentObject { name: object.name, bytes: object.bytes[..place].to_vec().into() };
            assert_eq!(read_all(&cut).unwrap_err().kind(), ErrorKind::Damage, "cut at {place}");
        }
    }
}

/// Also who cannot trust names (a forger names what it made) gets nothing past the seals.
#[test]
fn every_flip_is_noticed_by_the_seals_alone() {
    for cipher in [Cipher::None, Cipher::ChaCha20Poly1305] {
        let object = golden(cipher);
        for place in 0..object.bytes.len() {
            let mut bytes = (*object.bytes).clone();
            bytes[place] ^= 0x10;
            let opened = Segment::parse(&bytes.into()).and_then(|segment| read_all(&segment.object()));
            assert!(opened.is_err(), "byte {place}");
        }
    }
}

#[test]
fn another_key_is_told_from_damage() {
    let object = golden(Cipher::ChaCha20Poly1305);
    let segment = Segment::open(&object).unwrap();
    let other = SegmentKeys::new(&testing::other_secrets());
    assert!(segment.packs(&other).unwrap_err().to_string().contains("another key"));
    assert!(segment.records(&other).unwrap_err().to_string().contains("another key"));
}

#[test]
fn what_a_newer_version_wrote_is_refused_or_passed_over() {
    let newer = |place: usize, value: u8| {
        let mut bytes = (*golden(Cipher::None).bytes).clone();
        bytes[place] = value;
        let checksum = xxhash_rust::xxh3::xxh3_64(&bytes[..240]).to_le_bytes();
        bytes[240..248].copy_from_slice(&checksum);
        Segment::parse(&bytes.into()).map(|_| ()).map_err(|error| error.kind())
    };
    assert_eq!(newer(8, 2), Err(ErrorKind::NewerFormat), "version");
    assert_eq!(newer(10, 9), Err(ErrorKind::NewerFormat), "cipher");
    assert_eq!(newer(12, 1), Err(ErrorKind::NewerFormat), "required feature");
    assert_eq!(newer(16, 1), Ok(()), "optional feature");
    assert_eq!(newer(96, 7), Err(ErrorKind::Damage), "reserved flag");
}

fn one_record(tag: u8) -> Result<Option<Record>> {
    let bytes = [tag, 2, 0xaa, 0xbb];
    RecordReader::new(&bytes).next_record()
}

#[test]
fn an_unknown_record_says_itself_whether_it_may_be_passed_over() {
    assert_eq!(one_record(20 << 1).unwrap(), None);
    assert_eq!(one_record(20 << 1 | 1).unwrap_err().kind(), ErrorKind::NewerFormat);
    assert_eq!(one_record(0).unwrap_err().kind(), ErrorKind::Damage);
    assert_eq!(one_record(1).unwrap_err().kind(), ErrorKind::Damage);
    let mut bytes = vec![20 << 1, 1, 0xff];
    bytes.extend(records());
    let mut reader = RecordReader::new(&bytes);
    assert_eq!(reader.next_record().unwrap(), Some(Record::Run(run())));
}

#[derive(Clone, Debug)]
enum Said {
    Entry(EntryKey, FileOrigin, Box<Metadata>, Contents, Marks),
    Gone(EntryKey),
    Seen(SeenRecord),
}

fn any_key() -> impl Strategy<Value = EntryKey> {
    proptest::collection::vec("[a-c]{1,2}", 0..4)
        .prop_map(|path| EntryKey::from_path(format!("/{}", path.join("/"))).unwrap())
}

fn any_contents() -> impl Strategy<Value = Contents> {
    prop_oneof![
        Just(Contents::None),
        (1..65usize, any::<u8>()).prop_map(|(n, b)| Contents::Inline(vec![ChunkId::from_bytes([b; 32]); n])),
        (65..u64::MAX, any::<u8>())
            .prop_map(|(count, b)| Contents::List { id: ListId::from_bytes([b; 32]), count }),
    ]
}

fn said() -> impl Strategy<Value = Said> {
    let origin = prop_oneof![
        Just(FileOrigin::New),
        Just(FileOrigin::SameAsPredecessor),
        any::<[u8; 16]>().prop_map(|id| FileOrigin::Explicit(FileId::from_bytes(id))),
    ];
    let marks = (0..8u8).prop_map(Marks);
    prop_oneof![
        4 => (any_key(), origin, any_metadata(), any_contents(), marks.clone())
            .prop_map(|(k, o, m, c, marks)| Said::Entry(k, o, Box::new(m), c, marks)),
        1 => any_key().prop_map(Said::Gone),
        1 => (any_key(), any::<i64>(), 0..1_000_000_000u32, any::<u64>(), any::<u64>(), marks).prop_map(
            |(key, seconds, nanoseconds, inode, device, marks)| Said::Seen(SeenRecord {
                key, ctime: Timestamp { seconds, nanoseconds }, inode, device, marks,
            })
        ),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn records_come_back(all in proptest::collection::vec(said(), 0..12)) {
        let mut writer = RecordWriter::new();
        let mut expected = Vec::new();
        for said in all {
            match said {
                Said::Entry(key, file, metadata, contents, marks) => {
                    writer.entry(&key, file, &metadata, &contents, marks);
                    expected.push(Record::Entry(Box::new(EntryRecord { key, file, metadata: *metadata, contents, marks })));
                }
                Said::Gone(key) => {
                    writer.gone(&key);
                    expected.push(Record::Gone(key));
                }
                Said::Seen(seen) => {
                    writer.seen(&seen);
                    expected.push(Record::Seen(seen));
                }
            }
        }
        let bytes = writer.take();
        let mut reader = RecordReader::new(&bytes);
        let mut found = Vec::new();
        while let Some(record) = reader.next_record().unwrap() {
            found.push(record);
        }
        prop_assert_eq!(found, expected);
        for length in 0..bytes.len() {
            let mut reader = RecordReader::new(&bytes[..length]);
            while let Ok(Some(_)) = reader.next_record() {}
        }
    }

    #[test]
    fn any_bytes_are_records_or_an_error(bytes in proptest::collection::vec(prop_oneof![0u8..16, any::<u8>()], 0..80)) {
        let mut reader = RecordReader::new(&bytes);
        while let Ok(Some(_)) = reader.next_record() {}
        let _ = Segment::parse(&bytes.into());
    }
}
