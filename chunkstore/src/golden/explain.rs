//! What each byte of an object is, as text.

use super::*;

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

pub(super) fn envelope(kind: EnvelopeKind, bytes: &[u8]) -> String {
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

pub(super) fn explain_pack(bytes: &[u8]) -> String {
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

pub(super) fn explain_segment(bytes: &[u8]) -> String {
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
