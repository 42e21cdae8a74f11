//! Objects with one fault each, and the error that each must give.

use super::*;

/// An object with one fault, and how it is read.
pub(super) struct Broken {
    pub(super) name: &'static str,
    pub(super) write: fn() -> Vec<u8>,
    pub(super) read: fn(&[u8]) -> Result<()>,
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

pub(super) const BROKEN: &[Broken] = &[
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
