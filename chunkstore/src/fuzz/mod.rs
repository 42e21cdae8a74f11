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
pub(crate) mod tests;
