//! The bodies of the fuzz targets: bytes that may be anything go in, a verdict comes out, never a panic or a huge allocation.
//!
//! They stand here so that the same code runs under the fuzzer and, over the kept corpus, in `cargo test`. Not a part of the public interface.

use std::sync::LazyLock;

use crate::catalog;
use crate::chunk::Hasher;
use crate::entry_key::EntryKey;
use crate::envelope::{Envelope, EnvelopeKind, Known};
use crate::frame::{self, Decompressor};
use crate::id::IntentId;
use crate::pack::{self, FinishedPack, Reader, Toc};
use crate::repository::complete::Complete;
use crate::repository::config::Config;
use crate::repository::intent::Intent;
use crate::repository::key::{KeyObject, KeyRemoval};
use crate::repository::layout::{ObjectName, is_kept_for_later};
use crate::repository::state::Remembered;
use crate::seal::Cipher;
use crate::secret::{Epoch, Secret, Secrets};
use crate::segment::{self, ListNode, Record, RecordReader, RecordWriter, Segment, SegmentKeys};
use crate::target::ObjectKey;

fn secrets() -> Secrets {
    Secrets::fixed(Secret::from_bytes([0x11; 32]), Epoch::FIRST, Secret::from_bytes([0x22; 32]))
}

/// A frame's header and body, as if their seals had been whole.
pub fn frame(bytes: &[u8]) {
    frame::decode_plain(bytes, &mut Decompressor::new());
}

/// A table of contents, as if its seal had been whole: what decodes encodes to the same bytes.
pub fn toc(bytes: &[u8]) {
    if let Ok(toc) = Toc::decode(bytes) {
        assert_eq!(toc.encode(), bytes, "one table has one encoding");
    }
}

/// A small object of any kind, with its hash made right, so that what is behind it is reached.
pub fn envelope(bytes: &[u8]) {
    let hashed = [bytes, blake3::hash(bytes).as_bytes()].concat();
    for kind in [
        EnvelopeKind::Config,
        EnvelopeKind::Key,
        EnvelopeKind::KeyRemoval,
        EnvelopeKind::Complete,
        EnvelopeKind::Intent,
        EnvelopeKind::Remembered,
    ] {
        for bytes in [bytes, &hashed] {
            if let Ok(envelope) = Envelope::decode(kind, bytes) {
                let _ = envelope.fields(|_| Ok(Known::Yes));
                let _ = envelope.fields(|_| Ok(Known::No));
            }
        }
    }
}

/// A config, a key, the removal of a key, a mark of completeness, an intent, what is remembered locally, as they are and with their hashes made right.
pub fn config(bytes: &[u8]) {
    let hashed = [bytes, blake3::hash(bytes).as_bytes()].concat();
    for bytes in [bytes, &hashed] {
        if let Ok(read) = Config::decode(bytes) {
            assert!(read.config.check().is_ok(), "what was decoded can be worked with");
            let _ = read.authenticate(&secrets());
        }
        if let Ok(mark) = Complete::decode(bytes) {
            assert_eq!(Complete::decode(&mark.encode()).ok(), Some(mark));
        }
        if let Ok(intent) = Intent::decode(bytes) {
            assert_eq!(Intent::decode(&intent.encode()).ok(), Some(intent));
        }
        let _ = Remembered::decode(bytes);
        // Opening one is left out: whoever forges a key may make trying a password dear, within the bounds.
        let _ = KeyObject::decode(bytes.to_vec());
        if let Ok(read) = KeyRemoval::decode(bytes)
            && read.authenticate(&secrets()).is_ok()
        {
            let made = KeyRemoval::encode(&secrets(), read.repository, &read.key, read.when);
            assert_eq!(KeyRemoval::decode(&made).ok(), Some(read), "what is believed was made so");
        }
    }
}

/// A whole pack, and what is in it.
struct Packed {
    good: FinishedPack,
    pieces: Vec<Vec<u8>>,
}

impl Packed {
    fn new(cipher: Cipher) -> Option<Self> {
        let secrets = secrets();
        let hasher = Hasher::new(&secrets);
        let intent = IntentId::from_bytes([7; 16]);
        let mut writer =
            pack::Writer::with_salt(&secrets, Epoch::FIRST, cipher, intent, [5; 32], Vec::new()).ok()?;
        let mut pieces = Vec::new();
        for number in 0..4u8 {
            let mut builder = frame::Builder::new(1 << 20);
            for piece in [vec![number; 40], vec![number ^ 0x80; usize::from(number) + 1]] {
                let _ = builder.add(hasher.id(&piece), &piece);
                pieces.push(piece);
            }
            if let Some(frame) = builder.take() {
                writer.add(&frame::CompressedFrame::uncompressed(frame)).ok()?;
            }
        }
        Some(Self { good: writer.finish(), pieces })
    }
}

/// A pack, damaged: the bytes are instructions of four (where, three of what to write); then it is checked and read, and must not
/// hand out one wrong byte.
pub fn pack(bytes: &[u8]) {
    static PACKS: LazyLock<[Option<Packed>; 2]> =
        LazyLock::new(|| [Cipher::None, Cipher::ChaCha20Poly1305].map(Packed::new));
    let secrets = secrets();
    let hasher = Hasher::new(&secrets);
    let [open, encrypted] = &*PACKS;
    let Some(Packed { good, pieces }) = (if bytes.len().is_multiple_of(2) { open } else { encrypted }) else {
        return;
    };
    let mut bad = good.bytes.clone();
    for [high, low, what @ ..] in bytes.as_chunks::<4>().0 {
        let place = (usize::from(*high) << 8 | usize::from(*low)) % bad.len();
        for (byte, what) in bad.iter_mut().skip(place).zip(what) {
            *byte ^= what;
        }
    }
    let mut decompressor = Decompressor::new();
    let Ok(reader) = Reader::open(&bad[..], &secrets) else { return };
    let _ = reader.check(Some(&good.name), &mut decompressor);
    let Ok(read) = reader.toc(&mut decompressor) else { return };
    for entry in &read.toc.frames {
        assert!(good.toc.frames.contains(entry), "a frame that nobody wrote");
        let Ok(frame) = reader.read_frame(&entry.place, &mut decompressor) else { continue };
        for (index, chunk) in entry.chunks.iter().enumerate() {
            if let Ok(bytes) = frame.chunk(index, &chunk.id, &hasher) {
                assert!(pieces.iter().any(|piece| piece == bytes), "bytes that nobody wrote");
            }
        }
    }
}

/// A segment as it is; and one whose hashes and seals are right over anything: a byte for the cipher, two bytes each for the lengths of the text
/// in clear and of the index part, then these, and the versions part behind them.
pub fn segment(bytes: &[u8]) {
    let keys = SegmentKeys::new(&secrets());
    read_segment(bytes, &keys);
    let Some(([choice, a, b, c, d], rest)) = bytes.split_first_chunk::<5>() else { return };
    let cipher = if choice & 1 == 0 { Cipher::None } else { Cipher::ChaCha20Poly1305 };
    let (names, rest) = rest.split_at(usize::from(u16::from_le_bytes([*a, *b])).min(rest.len()));
    let (index, versions) = rest.split_at(usize::from(u16::from_le_bytes([*c, *d])).min(rest.len()));
    if let Some(sealed) = segment::fuzz::sealed(&keys, cipher, names, index, versions) {
        read_segment(&sealed, &keys);
    }
}

fn read_segment(bytes: &[u8], keys: &SegmentKeys) {
    let Ok(segment) = Segment::parse(&bytes.to_vec().into()) else { return };
    if let Ok(packs) = segment.packs(keys) {
        let named = segment.names.packs.iter().map(|pack| (pack.name, pack.stored_bytes));
        assert!(
            packs.iter().map(|pack| (pack.name, pack.stored_bytes)).eq(named),
            "what is named is described"
        );
    }
    if let Ok(plain) = segment.records(keys) {
        records(&plain);
    }
}

/// The plaintext of a versions part, as if its seal had been whole; and a list.
pub fn records(bytes: &[u8]) {
    let mut reader = RecordReader::new(bytes);
    while let Ok(Some(record)) = reader.next_record() {
        let mut writer = RecordWriter::new();
        match &record {
            Record::Run(run) => writer.run(run),
            Record::Entry(entry) => {
                writer.entry(&entry.key, entry.file, &entry.metadata, &entry.contents, entry.marks);
            }
            Record::Gone(key) => writer.gone(key),
            Record::Seen(seen) => writer.seen(seen),
            Record::List(node) => writer.list(node),
            Record::Commit(commit) => writer.commit(commit),
        }
        let again = writer.take();
        let again = RecordReader::new(&again).next_record();
        assert_eq!(again.ok().flatten(), Some(record), "what was read can be written");
    }
    let _ = ListNode::decode(bytes).map(|node| assert_eq!(node.encode(), bytes, "one list has one encoding"));
}

/// The value of a row of the catalog.
pub fn row(bytes: &[u8]) {
    catalog::fuzz::row(bytes);
}

/// The name of an object as a listing of a target gives it.
pub fn name(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(key) = ObjectKey::new(text) else { return };
    if let Some(name) = ObjectName::parse(&key) {
        assert_eq!(name.key(), key, "one object has one name");
        for number in [0, 1, u32::MAX] {
            let aside = key.aside(number).ok();
            assert_eq!(
                aside.and_then(|aside| ObjectName::parse_aside(&aside)),
                Some(name),
                "aside, it is known"
            );
        }
    }
    let _ = ObjectName::parse_aside(&key);
    let _ = is_kept_for_later(&key);
}

/// An entry key, and a path.
pub fn path(bytes: &[u8]) {
    if let Ok(key) = EntryKey::from_bytes(bytes) {
        assert_eq!(EntryKey::from_path(key.path()).ok(), Some(key), "a key is that of its path");
    }
    if let Ok(key) = EntryKey::from_path_bytes(bytes) {
        assert_eq!(EntryKey::from_bytes(key.as_bytes()).ok().as_ref(), Some(&key), "a path's key is one");
        match key.parent() {
            Some(parent) => {
                assert!(parent.children().contains(&key) && parent.below().contains(&key));
                assert!(parent < key && !key.below().contains(&parent));
                assert_eq!(parent.child(key.name()).ok(), Some(key));
            }
            None => assert!(key.is_root()),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::codec::put_varint;
    use crate::id::{ChunkId, FileId, ListId, ObjectHash, SnapshotId, TimelineId, WriterId};
    use crate::metadata::{Hole, Kind, Metadata, Timestamp};
    use crate::segment::{CommitRecord, DigestRecord, RunRecord, SeenRecord};
    use crate::testing::{frame_header, frames, noise, text};
    use crate::version::{Contents, FileOrigin, Marks, SnapshotNumber, SnapshotStats};
    use proptest::prelude::*;
    use std::path::{Path, PathBuf};

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

    fn files(folder: &Path) -> Vec<PathBuf> {
        // A packaged crate comes without the fuzz crate beside it.
        let entries = std::fs::read_dir(folder).into_iter().flatten();
        entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_file()).collect()
    }

    fn objects(folder: &str) -> Vec<(String, Vec<u8>)> {
        let files = files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(folder));
        let objects = files.iter().filter(|path| path.extension().is_none());
        objects
            .map(|path| {
                (path.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read(path).unwrap())
            })
            .collect()
    }

    fn seeds_folder(target: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds").join(target)
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

    /// The seeds: target, name, bytes.
    fn seeds() -> Vec<(&'static str, String, Vec<u8>)> {
        let mut seeds: Vec<(&str, String, Vec<u8>)> = Vec::new();
        let mut add =
            |target, name: &str, bytes: &[u8]| seeds.push((target, name.to_owned(), bytes.to_vec()));
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

    /// Whether a seed's bytes are no matter of ours: what zstd makes of them may change with its version.
    fn depends_on_zstd(name: &str) -> bool {
        name == "zstd"
    }

    #[test]
    fn seeds_are_there_as_they_are_made() {
        if files(&seeds_folder("frame")).is_empty() {
            return;
        }
        for (target, name, bytes) in seeds() {
            let kept = std::fs::read(seeds_folder(target).join(&name));
            let kept = kept.unwrap_or_else(|error| panic!("{target}/{name}: {error}"));
            assert!(kept == bytes || depends_on_zstd(&name), "{target}/{name} is made otherwise now");
        }
    }

    /// `cargo test -p chunkstore fuzz -- --ignored` writes those that are missing, and never over one that is there.
    #[test]
    #[ignore = "writes files into the source tree"]
    fn write_missing_seeds() {
        for (target, name, bytes) in seeds() {
            let path = seeds_folder(target).join(name);
            if !path.exists() {
                std::fs::create_dir_all(seeds_folder(target)).unwrap();
                std::fs::write(path, bytes).unwrap();
            }
        }
    }

    /// The seeds of each target, and every golden and broken object through all of them.
    #[test]
    fn kept_inputs_get_a_verdict() {
        let objects = [objects("golden/v1"), objects("broken")].concat();
        for (name, body) in BODIES {
            for path in files(&seeds_folder(name)) {
                body(&std::fs::read(path).unwrap());
            }
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
            let seeds = seeds();
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
}
