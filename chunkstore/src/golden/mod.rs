//! Golden and broken objects: files in `testdata`, written once.
//!
//! `golden/v1/NAME` was written by the first version of the format, `NAME.txt` says what each of its bytes is. Every version of the
//! program reads them, and this one still writes them, byte for byte (fixed secrets and salts, compression off). `broken/NAME` is an object
//! with one fault, `NAME.txt` the error that it must give. What fuzzing breaks joins them.
//!
//! A new file: add its entry, then run `cargo test -p chunkstore golden::write_missing -- --ignored`, and look at what it wrote.

mod broken;
mod explain;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::chunk::ChunkSizes;
use crate::envelope::{ENVELOPE_HEADER_BYTES, Envelope, EnvelopeKind, Known};
use crate::error::{Error, ErrorKind, Result};
use crate::frame::Decompressor;
use crate::id::{IntentId, ObjectHash, RepositoryId, WriterId};
use crate::metadata::Timestamp;
use crate::pack::{self, FinishedPack, Reader};
use crate::repository::complete::Complete;
use crate::repository::config::{Config, Mode};
use crate::repository::intent::Intent;
use crate::repository::key::{KeyObject, KeyRemoval, PasswordCost};
use crate::seal::{Cipher, NONCE_BYTES};
use crate::secret::Epoch;
use crate::segment::{self, Segment, SegmentObject};
use crate::testing::{frames, noise, renew_hash, secrets, text, with_pack_header};
use broken::BROKEN;
use explain::{envelope, explain_pack, explain_segment};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name)
}

const CREATED: Timestamp = Timestamp { seconds: 1_764_061_200, nanoseconds: 123_456_789 };

fn repository() -> RepositoryId {
    RepositoryId::from_bytes([0xab; 16])
}

fn config(mode: Mode) -> Vec<u8> {
    let config = Config {
        repository: repository(),
        epoch: Epoch::FIRST,
        mode,
        chunk_sizes: ChunkSizes::new(4 << 10, 16 << 10, 128 << 10).unwrap(),
        frame_bytes: 1 << 20,
        pack_bytes: 16 << 20,
        created: CREATED,
    };
    config.encode(&secrets()).unwrap()
}

fn key() -> KeyObject {
    let (cost, salt) = (PasswordCost::LEAST, [0x33; 32]);
    KeyObject::wrap_with_salt(&secrets(), repository(), b"golden", "ada@engine", CREATED, cost, salt).unwrap()
}

fn key_removal() -> Vec<u8> {
    KeyRemoval::encode(&secrets(), repository(), &ObjectHash::from_bytes([0x44; 32]), CREATED)
}

fn complete() -> Complete {
    let writer = WriterId::from_bytes([0x66; 16]);
    Complete { writer, sequence: 258, segment: ObjectHash::from_bytes([0x88; 32]) }
}

fn intent() -> Intent {
    Intent {
        id: IntentId::from_bytes([0x77; 16]),
        writer: WriterId::from_bytes([0x66; 16]),
        started: CREATED,
        host: "engine".into(),
    }
}

fn finished_pack(cipher: Cipher) -> FinishedPack {
    let intent = IntentId::from_bytes([0x77; 16]);
    let mut writer =
        pack::Writer::with_salt(&secrets(), Epoch::FIRST, cipher, intent, [0x55; 32], Vec::new()).unwrap();
    for frame in frames(&[vec![text(1, 60), text(2, 200)], vec![noise(3, 40)]], None) {
        writer.add(&frame).unwrap();
    }
    writer.finish()
}

fn segment(cipher: Cipher) -> Vec<u8> {
    segment::tests::golden(cipher).bytes.to_vec()
}

/// A golden object: how it is written, how its bytes are explained.
struct Golden {
    name: &'static str,
    write: fn() -> Vec<u8>,
    explain: fn(&[u8]) -> String,
}

const GOLDEN: &[Golden] = &[
    Golden {
        name: "config-encrypted",
        write: || config(Mode::Encrypted),
        explain: |bytes| envelope(EnvelopeKind::Config, bytes),
    },
    Golden {
        name: "config-unencrypted",
        write: || config(Mode::Unencrypted),
        explain: |bytes| envelope(EnvelopeKind::Config, bytes),
    },
    Golden {
        name: "key",
        write: || key().bytes().to_vec(),
        explain: |bytes| envelope(EnvelopeKind::Key, bytes),
    },
    Golden {
        name: "key-removal",
        write: key_removal,
        explain: |bytes| envelope(EnvelopeKind::KeyRemoval, bytes),
    },
    Golden {
        name: "complete",
        write: || complete().encode(),
        explain: |bytes| envelope(EnvelopeKind::Complete, bytes),
    },
    Golden {
        name: "intent",
        write: || intent().encode(),
        explain: |bytes| envelope(EnvelopeKind::Intent, bytes),
    },
    Golden {
        name: "pack-encrypted",
        write: || finished_pack(Cipher::ChaCha20Poly1305).bytes,
        explain: explain_pack,
    },
    Golden {
        name: "segment-encrypted",
        write: || segment(Cipher::ChaCha20Poly1305),
        explain: explain_segment,
    },
    Golden { name: "segment-unencrypted", write: || segment(Cipher::None), explain: explain_segment },
    Golden { name: "pack-unencrypted", write: || finished_pack(Cipher::None).bytes, explain: explain_pack },
];

#[test]
fn golden_objects_are_read_and_written_byte_for_byte() {
    for golden in GOLDEN {
        let path = folder("golden/v1").join(golden.name);
        let stored = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert!((golden.write)() == stored, "{}: other bytes than were written once", golden.name);
        let explained = std::fs::read_to_string(path.with_extension("txt")).unwrap();
        assert_eq!((golden.explain)(&stored), explained, "{}", golden.name);
    }
}

#[test]
fn golden_objects_hold_what_they_should() {
    let read = |name: &str| std::fs::read(folder("golden/v1").join(name)).unwrap();
    for (name, mode) in [("config-encrypted", Mode::Encrypted), ("config-unencrypted", Mode::Unencrypted)] {
        let config = Config::decode(&read(name)).unwrap();
        config.authenticate(&secrets()).unwrap();
        assert_eq!((config.config.mode, config.config.created), (mode, CREATED));
    }
    assert_eq!(KeyObject::decode(read("key")).unwrap().unwrap(b"golden").unwrap(), secrets());
    KeyRemoval::decode(&read("key-removal")).unwrap().authenticate(&secrets()).unwrap();
    assert_eq!(Complete::decode(&read("complete")).unwrap(), complete());
    assert_eq!(Intent::decode(&read("intent")).unwrap(), intent());
    for name in ["pack-encrypted", "pack-unencrypted"] {
        let bytes = read(name);
        let reader = Reader::open(&bytes[..], &secrets()).unwrap();
        let check = reader.check(None, &mut Decompressor::new()).unwrap();
        assert!(check.is_good(), "{name}: {check:?}");
        let frame = reader.read_checked(&check.toc.frames[0], &mut Decompressor::new()).unwrap();
        assert_eq!(frame.data(), [text(1, 60), text(2, 200)].concat());
    }
}

#[test]
fn golden_segments_hold_what_they_should() {
    for (name, cipher) in
        [("segment-encrypted", Cipher::ChaCha20Poly1305), ("segment-unencrypted", Cipher::None)]
    {
        let bytes = std::fs::read(folder("golden/v1").join(name)).unwrap();
        let found = segment::tests::read_all(&Segment::parse(&bytes.into()).unwrap().object()).unwrap();
        assert_eq!(found, segment::tests::read_all(&segment::tests::golden(cipher)).unwrap());
    }
}

#[test]
fn no_file_is_forgotten() {
    let names = |folder: PathBuf| -> BTreeSet<String> {
        let entries = std::fs::read_dir(folder).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    };
    let with_texts = |names: Vec<&str>| -> BTreeSet<String> {
        names.into_iter().flat_map(|name| [name.to_owned(), format!("{name}.txt")]).collect()
    };
    assert_eq!(names(folder("golden/v1")), with_texts(GOLDEN.iter().map(|golden| golden.name).collect()));
    assert_eq!(names(folder("broken")), with_texts(BROKEN.iter().map(|broken| broken.name).collect()));
}

/// Writes the files that are not there yet, and never another.
#[test]
#[ignore = "writes new golden and broken objects; see the head of this file"]
fn write_missing() {
    let put = |path: PathBuf, bytes: &[u8]| {
        if !path.exists() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
    };
    for golden in GOLDEN {
        let (path, bytes) = (folder("golden/v1").join(golden.name), (golden.write)());
        put(path.with_extension("txt"), (golden.explain)(&bytes).as_bytes());
        put(path, &bytes);
    }
    for broken in BROKEN {
        let (path, bytes) = (folder("broken").join(broken.name), (broken.write)());
        let error = (broken.read)(&bytes).expect_err(broken.name);
        put(path.with_extension("txt"), format!("{error:?}\n").as_bytes());
        put(path, &bytes);
    }
}
