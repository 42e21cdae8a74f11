//! The bodies of the fuzz targets: bytes that may be anything go in, a verdict comes out, never a panic or a huge allocation.
//!
//! They stand here so that the same code runs under the fuzzer and, over the kept corpus, in `cargo test`. Not a part of the public interface.

use crate::chunk::Hasher;
use crate::entry_key::EntryKey;
use crate::envelope::{Envelope, EnvelopeKind, Known};
use crate::error::ErrorKind;
use crate::frame::{self, Decompressor};
use crate::id::IntentId;
use crate::pack::{self, Reader, Toc};
use crate::repository::complete::Complete;
use crate::repository::config::Config;
use crate::repository::intent::Intent;
use crate::repository::key::{KeyObject, KeyRemoval};
use crate::repository::state::Remembered;
use crate::seal::Cipher;
use crate::secret::{Epoch, Secret, Secrets};
use crate::segment::{ListNode, Record, RecordReader, RecordWriter, Segment, SegmentKeys};

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
        if let Ok(read) = KeyRemoval::decode(bytes) {
            assert_eq!(
                read.authenticate(&secrets()).map_err(|error| error.kind()),
                Err(ErrorKind::NotTheSame)
            );
        }
    }
}

/// A pack, damaged: the bytes are instructions of four (where, three of what to write); then it is checked and read, and must not
/// hand out one wrong byte.
pub fn pack(bytes: &[u8]) {
    let secrets = secrets();
    let hasher = Hasher::new(&secrets);
    let cipher = if bytes.len().is_multiple_of(2) { Cipher::None } else { Cipher::ChaCha20Poly1305 };
    let intent = IntentId::from_bytes([7; 16]);
    let Ok(mut writer) = pack::Writer::with_salt(&secrets, Epoch::FIRST, cipher, intent, [5; 32], Vec::new())
    else {
        return;
    };
    let mut pieces = Vec::new();
    for number in 0..4u8 {
        let mut builder = frame::Builder::new(1 << 20);
        for piece in [vec![number; 40], vec![number ^ 0x80; usize::from(number) + 1]] {
            let _ = builder.add(hasher.id(&piece), &piece);
            pieces.push(piece);
        }
        if let Some(frame) = builder.take() {
            let _ = writer.add(&frame::CompressedFrame::uncompressed(frame));
        }
    }
    let good = writer.finish();
    let mut bad = good.bytes;
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

/// A segment as it is; and the bytes as the plaintexts of its parts, as if its seals had been whole.
pub fn segment(bytes: &[u8]) {
    let keys = SegmentKeys::new(&secrets());
    if let Ok(segment) = Segment::parse(&bytes.to_vec().into()) {
        let _ = segment.packs(&keys);
        let _ = segment.records(&keys);
    }
    let mut reader = RecordReader::new(bytes);
    while let Ok(Some(record)) = reader.next_record() {
        if let Record::Entry(entry) = record {
            let mut writer = RecordWriter::new();
            writer.entry(&entry.key, entry.file, &entry.metadata, &entry.contents, entry.marks);
            let again = writer.take();
            let again = RecordReader::new(&again).next_record();
            assert_eq!(again.ok().flatten(), Some(Record::Entry(entry)), "what was read can be written");
        }
    }
    let _ = ListNode::decode(bytes).map(|node| assert_eq!(node.encode(), bytes, "one list has one encoding"));
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
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::path::{Path, PathBuf};

    const BODIES: [(&str, fn(&[u8])); 7] = [
        ("frame", frame),
        ("toc", toc),
        ("envelope", envelope),
        ("config", config),
        ("pack", pack),
        ("segment", segment),
        ("path", path),
    ];

    fn files(folder: &str) -> Vec<PathBuf> {
        // A packaged crate comes without the fuzz crate beside it.
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
        let entries = std::fs::read_dir(folder).into_iter().flatten();
        entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_file()).collect()
    }

    /// The seeds of each target, and every golden and broken object through all of them.
    #[test]
    fn kept_inputs_get_a_verdict() {
        let objects = [files("testdata/golden/v1"), files("testdata/broken")].concat();
        for (name, body) in BODIES {
            for path in files(&format!("../fuzz/seeds/{name}")).iter().chain(&objects) {
                body(&std::fs::read(path).unwrap());
            }
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
    }
}
