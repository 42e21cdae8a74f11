//! Golden and broken objects: files in `testdata`, written once.
//!
//! `golden/v1/NAME` was written by the first version of the format, `NAME.txt` says what each of its bytes is. Every version of the
//! program reads them, and this one still writes them, byte for byte (fixed secrets and salts, compression off). `broken/NAME` is an object
//! with one fault, `NAME.txt` the error that it must give. What fuzzing breaks joins them.
//!
//! A new file: add its entry, then run `cargo test -p chunkstore golden::write_missing -- --ignored`, and look at what it wrote.

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

/// Lines of an annotated dump: offset, what it is, bytes.
#[derive(Default)]
struct Dump {
    out: String,
    offset: usize,
}

impl Dump {
    fn field(&mut self, bytes: &[u8], length: usize, what: &str) {
        let field = &bytes[self.offset..self.offset + length];
        writeln!(self.out, "{:06x} {length:>5}  {what}", self.offset).unwrap();
        self.hex(field);
        self.offset += length;
    }

    fn hex(&mut self, bytes: &[u8]) {
        for line in bytes.chunks(32) {
            let digits: Vec<String> =
                line.chunks(4).map(|four| four.iter().map(|b| format!("{b:02x}")).collect()).collect();
            writeln!(self.out, "                  {}", digits.join(" ")).unwrap();
        }
    }
}

fn envelope(kind: EnvelopeKind, bytes: &[u8]) -> String {
    let mut dump = Dump::default();
    for (length, what) in [
        (8, "magic"),
        (2, "version"),
        (2, "reserved"),
        (4, "required features"),
        (4, "optional features"),
        (4, "length of the body"),
    ] {
        dump.field(bytes, length, what);
    }
    assert_eq!(dump.offset, ENVELOPE_HEADER_BYTES);
    Envelope::decode(kind, bytes)
        .unwrap()
        .fields(|field| {
            dump.field(
                bytes,
                field.before.len() - dump.offset,
                &format!("field {}: tag and length", field.number.0),
            );
            dump.field(bytes, field.value.len(), &format!("field {}: value", field.number.0));
            Ok(Known::Yes)
        })
        .unwrap();
    dump.field(bytes, 32, "BLAKE3 of all before");
    dump.out
}

fn explain_pack(bytes: &[u8]) -> String {
    let mut dump = Dump::default();
    let header = [
        (8, "magic"),
        (2, "version"),
        (1, "cipher"),
        (1, "key wrap"),
        (4, "required features"),
        (4, "optional features"),
        (4, "epoch"),
        (16, "intent"),
        (32, "salt"),
        (32, "key commitment"),
        (8, "XXH3-64 of all before"),
    ];
    for (length, what) in header {
        dump.field(bytes, length, what);
    }
    let reader = Reader::open(bytes, &secrets()).unwrap();
    let toc = reader.toc(&mut Decompressor::new()).unwrap().toc;
    let cipher = reader.header().cipher;
    let boxed = |dump: &mut Dump, stored: usize, what: &str| {
        dump.field(bytes, NONCE_BYTES, &format!("{what}: synthetic nonce"));
        let sealed = stored - cipher.overhead();
        dump.field(
            bytes,
            sealed,
            &format!("{what}: {}", if cipher == Cipher::None { "text" } else { "ciphertext" }),
        );
        if cipher != Cipher::None {
            dump.field(bytes, cipher.overhead() - NONCE_BYTES, &format!("{what}: authenticator"));
        }
    };
    let head = 48 + cipher.overhead();
    let plain = |dump: &mut Dump, what: &str, plain: &[u8]| {
        writeln!(dump.out, "                  {what}").unwrap();
        dump.hex(plain);
    };
    for (frame, parts) in toc.frames.iter().zip(reader.plaintexts(&toc)) {
        let number = frame.place.number;
        boxed(&mut dump, head, &format!("header of frame {number}"));
        plain(&mut dump, "which opens to", &parts.0);
        boxed(&mut dump, frame.place.stored_bytes as usize - head, &format!("body of frame {number}"));
        plain(&mut dump, "which opens to", &parts.1);
    }
    let trailer = 40 + cipher.overhead();
    let contents = toc.encode();
    let contents_box = contents.len() + cipher.overhead();
    let tables = bytes.len() - 112 - trailer - 2 * (head + contents_box);
    if dump.offset < tables {
        let padding = tables - dump.offset - head;
        boxed(&mut dump, head, "header of the padding");
        boxed(&mut dump, padding, "body of the padding");
    }
    for which in ["first", "second"] {
        boxed(&mut dump, head, &format!("header of the {which} table of contents"));
        boxed(&mut dump, contents_box, &format!("{which} table of contents"));
        plain(&mut dump, "which opens to", &contents);
    }
    boxed(&mut dump, trailer, "trailer");
    dump.field(bytes, 112, "the header again");
    dump.out
}

fn explain_segment(bytes: &[u8]) -> String {
    let mut dump = Dump::default();
    for field in segment::SEGMENT_HEADER_FIELDS {
        dump.field(bytes, field.bytes, field.name);
    }
    let segment = Segment::parse(&bytes.to_vec().into()).unwrap();
    let overhead = segment.header.cipher.overhead();
    let plain = segment.plaintexts(&segment::tests::keys());
    let sealed: usize = plain.iter().map(|part| part.len() + overhead).sum();
    dump.field(bytes, bytes.len() - dump.offset - sealed, "names");
    for (plain, what) in plain.iter().zip(["index part", "versions part"]) {
        dump.field(bytes, NONCE_BYTES, &format!("{what}: synthetic nonce"));
        dump.field(bytes, plain.len(), what);
        if overhead > NONCE_BYTES {
            dump.field(bytes, overhead - NONCE_BYTES, &format!("{what}: authenticator"));
        }
        writeln!(dump.out, "                  which opens to").unwrap();
        dump.hex(plain);
    }
    dump.out
}

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

/// An object with one fault, and how it is read.
struct Broken {
    name: &'static str,
    write: fn() -> Vec<u8>,
    read: fn(&[u8]) -> Result<()>,
}

fn read_pack(bytes: &[u8]) -> Result<()> {
    let check = Reader::open(bytes, &secrets())?.check(None, &mut Decompressor::new())?;
    let frames = check.bad_frames.iter().map(|(_, error)| error.to_string());
    let all: Vec<String> = frames.chain(check.faults.iter().map(Error::to_string)).collect();
    if all.is_empty() { Ok(()) } else { Err(Error::new(ErrorKind::Damage, all.join("; "))) }
}

fn read_config(bytes: &[u8]) -> Result<()> {
    Config::decode(bytes)?.authenticate(&secrets())
}

fn read_key(bytes: &[u8]) -> Result<()> {
    KeyObject::decode(bytes.to_vec())?.unwrap(b"golden").map(|_| ())
}

/// `bytes` with `value` at `offset`, and the hash of an envelope made right again.
fn rehashed(mut bytes: Vec<u8>, offset: usize, value: &[u8]) -> Vec<u8> {
    bytes[offset..offset + value.len()].copy_from_slice(value);
    renew_hash(&mut bytes);
    bytes
}

/// A pack with `value` at `offset` of both headers, their checksums made right again.
fn with_header(offset: usize, value: &[u8]) -> Vec<u8> {
    with_pack_header(&finished_pack(Cipher::ChaCha20Poly1305).bytes, offset, value)
}

fn flipped(mut bytes: Vec<u8>, offset: usize) -> Vec<u8> {
    bytes[offset] ^= 0x20;
    bytes
}

fn sealed_pack() -> Vec<u8> {
    finished_pack(Cipher::ChaCha20Poly1305).bytes
}

/// A segment read under its right name.
fn read_segment(bytes: &[u8]) -> Result<()> {
    let name = segment::tests::golden(Cipher::ChaCha20Poly1305).name;
    segment::tests::read_all(&SegmentObject { name, bytes: bytes.to_vec().into() }).map(|_| ())
}

/// A segment read without its name: what its header and seals find by themselves.
fn read_nameless_segment(bytes: &[u8]) -> Result<()> {
    segment::tests::read_all(&Segment::parse(&bytes.to_vec().into())?.object()).map(|_| ())
}

fn sealed_segment() -> Vec<u8> {
    segment(Cipher::ChaCha20Poly1305)
}

/// A segment with `value` at `offset` of its header, the checksum made right again.
fn segment_with_header(offset: usize, value: &[u8]) -> Vec<u8> {
    let mut bytes = sealed_segment();
    bytes[offset..offset + value.len()].copy_from_slice(value);
    let checksum = xxhash_rust::xxh3::xxh3_64(&bytes[..240]).to_le_bytes();
    bytes[240..248].copy_from_slice(&checksum);
    bytes
}

const BROKEN: &[Broken] = &[
    Broken { name: "segment-empty", write: Vec::new, read: read_nameless_segment },
    Broken { name: "segment-cut", write: || sealed_segment()[..400].to_vec(), read: read_nameless_segment },
    Broken { name: "segment-flipped", write: || flipped(sealed_segment(), 700), read: read_segment },
    Broken {
        name: "segment-header-flipped",
        write: || flipped(sealed_segment(), 50),
        read: read_nameless_segment,
    },
    Broken {
        name: "segment-names-flipped",
        write: || flipped(sealed_segment(), 260),
        read: read_nameless_segment,
    },
    Broken {
        name: "segment-part-flipped",
        write: || flipped(sealed_segment(), 700),
        read: read_nameless_segment,
    },
    Broken {
        name: "segment-newer-version",
        write: || segment_with_header(8, &[2]),
        read: read_nameless_segment,
    },
    Broken {
        name: "segment-newer-feature",
        write: || segment_with_header(15, &[1]),
        read: read_nameless_segment,
    },
    Broken {
        name: "segment-of-another-writer",
        write: || segment_with_header(24, &[9]),
        read: read_nameless_segment,
    },
    Broken {
        name: "segment-first-with-predecessor",
        write: || segment_with_header(40, &[1]),
        read: read_nameless_segment,
    },
    Broken { name: "pack-empty", write: Vec::new, read: read_pack },
    Broken { name: "pack-zeros", write: || vec![0; 512], read: read_pack },
    Broken {
        name: "pack-header-torn",
        write: || [&[0; 112], &sealed_pack()[112..]].concat(),
        read: read_pack,
    },
    Broken { name: "pack-header-flipped", write: || flipped(sealed_pack(), 30), read: read_pack },
    Broken {
        name: "pack-last-header-flipped",
        write: || {
            let pack = sealed_pack();
            let at = pack.len() - 20;
            flipped(pack, at)
        },
        read: read_pack,
    },
    Broken { name: "pack-frame-header-flipped", write: || flipped(sealed_pack(), 112 + 30), read: read_pack },
    Broken {
        name: "pack-frame-body-flipped",
        write: || flipped(sealed_pack(), 112 + 88 + 100),
        read: read_pack,
    },
    Broken {
        name: "pack-trailer-flipped",
        write: || {
            let pack = sealed_pack();
            let at = pack.len() - 130;
            flipped(pack, at)
        },
        read: read_pack,
    },
    Broken {
        name: "pack-cut-in-half",
        write: || {
            let mut pack = sealed_pack();
            pack.truncate(pack.len() / 2);
            pack
        },
        read: read_pack,
    },
    Broken { name: "pack-longer", write: || [&sealed_pack()[..], b"more"].concat(), read: read_pack },
    Broken { name: "pack-newer-version", write: || with_header(8, &[2, 0]), read: read_pack },
    Broken { name: "pack-newer-feature", write: || with_header(12, &[0, 0, 0, 1]), read: read_pack },
    Broken { name: "pack-newer-cipher", write: || with_header(10, &[3]), read: read_pack },
    Broken { name: "pack-unknown-epoch", write: || with_header(20, &[2, 0, 0, 0]), read: read_pack },
    Broken { name: "pack-other-salt", write: || with_header(40, &[0]), read: read_pack },
    Broken { name: "pack-forged-unencrypted", write: || with_header(10, &[1, 1]), read: read_pack },
    Broken { name: "config-empty", write: Vec::new, read: read_config },
    Broken { name: "config-flipped", write: || flipped(config(Mode::Encrypted), 60), read: read_config },
    Broken {
        name: "config-cut",
        write: || {
            let mut config = config(Mode::Encrypted);
            config.truncate(100);
            config
        },
        read: read_config,
    },
    Broken { name: "config-is-a-key", write: || key().bytes().to_vec(), read: read_config },
    Broken {
        name: "config-newer-version",
        write: || rehashed(config(Mode::Encrypted), 8, &[2]),
        read: read_config,
    },
    Broken {
        name: "config-newer-feature",
        write: || rehashed(config(Mode::Encrypted), 12, &[4]),
        read: read_config,
    },
    Broken {
        name: "config-newer-mode",
        write: || rehashed(config(Mode::Encrypted), 50, &[3]),
        read: read_config,
    },
    Broken {
        name: "config-turned-unencrypted",
        write: || rehashed(config(Mode::Encrypted), 50, &[2]),
        read: read_config,
    },
    Broken {
        name: "config-other-id",
        write: || rehashed(config(Mode::Encrypted), 26, &[0]),
        read: read_config,
    },
    Broken {
        name: "complete-flipped",
        write: || flipped(complete().encode(), 50),
        read: |bytes| Complete::decode(bytes).map(|_| ()),
    },
    Broken {
        name: "complete-is-an-intent",
        write: || intent().encode(),
        read: |bytes| Complete::decode(bytes).map(|_| ()),
    },
    Broken {
        name: "complete-newer-version",
        write: || rehashed(complete().encode(), 8, &[2]),
        read: |bytes| Complete::decode(bytes).map(|_| ()),
    },
    Broken {
        name: "intent-cut",
        write: || intent().encode()[..60].to_vec(),
        read: |bytes| Intent::decode(bytes).map(|_| ()),
    },
    Broken {
        name: "intent-host-no-text",
        write: || {
            let bytes = intent().encode();
            let host = bytes.len() - 32 - 6;
            rehashed(bytes, host, &[0xff])
        },
        read: |bytes| Intent::decode(bytes).map(|_| ()),
    },
    Broken { name: "key-flipped", write: || flipped(key().bytes().to_vec(), 70), read: read_key },
    Broken {
        name: "key-asks-for-4-tib",
        write: || rehashed(key().bytes().to_vec(), 45, &[0xff; 4]),
        read: read_key,
    },
    Broken {
        name: "key-newer-derivation",
        write: || rehashed(key().bytes().to_vec(), 44, &[2]),
        read: read_key,
    },
    Broken { name: "key-other-salt", write: || rehashed(key().bytes().to_vec(), 60, &[0]), read: read_key },
];

#[test]
fn broken_objects_give_the_error_that_they_must() {
    for broken in BROKEN {
        let path = folder("broken").join(broken.name);
        let stored = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let expected = std::fs::read_to_string(path.with_extension("txt")).unwrap();
        let error = (broken.read)(&stored).expect_err(broken.name);
        assert_eq!(format!("{error:?}\n"), expected, "{}", broken.name);
        assert!((broken.write)() == stored, "{}: other bytes than were written once", broken.name);
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
