//! FORMAT.md against the code: each row of its offset tables is looked up in bytes that the code wrote.

use crate::block::{BlockKind, Codec, TRAILER_BYTES, seal};
use crate::checksum::{Identity, salted_xxh3};
use crate::filter;
use crate::table::footer::Footer;
use crate::table::header::{Header, TableKind};
use crate::table::index::Handle;
use crate::table::{FOOTER_BYTES, HEADER_BYTES};

const IDENTITY: Identity = Identity::from_bytes(*b"identity in test");
const DATABASE: Identity = Identity::from_bytes(*b"database in test");

/// The rows of the first offset table behind `heading`: offset, size (`None` where it is not a number), field.
fn rows(heading: &str) -> Vec<(usize, Option<usize>, String)> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/FORMAT.md");
    let text = std::fs::read_to_string(path).unwrap();
    let (_, behind) = text.split_once(heading).unwrap_or_else(|| panic!("FORMAT.md has no {heading:?}"));
    let (_, table) = behind.split_once("| ---: | ---: | --- | --- |\n").unwrap();
    table
        .lines()
        .take_while(|line| line.starts_with('|'))
        .map(|line| {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            (cells[1].parse().unwrap(), cells[2].parse().ok(), cells[3].to_owned())
        })
        .collect()
}

/// Compares each row with what stands there, and that the rows leave no byte out.
fn compare(heading: &str, bytes: &[u8], expected: &[(&str, Vec<u8>)]) {
    let rows = rows(heading);
    assert_eq!(rows.len(), expected.len(), "{heading}");
    let mut end = 0;
    for ((offset, size, field), (name, value)) in rows.into_iter().zip(expected) {
        assert_eq!(field, *name, "{heading}");
        assert_eq!(offset, end, "{heading}, {field}: no gaps");
        let size = size.unwrap_or(value.len());
        end = offset + size;
        assert_eq!(&bytes[offset..end], value.as_slice(), "{heading}, {field}");
    }
    assert_eq!(end, bytes.len(), "{heading}");
}

#[test]
fn the_header_is_as_documented() {
    let bytes = Header {
        kind: TableKind::Sorted,
        required: 1,
        optional: 0x0102_0304,
        identity: IDENTITY,
        database: DATABASE,
    }
    .encode();
    assert_eq!(bytes.len(), HEADER_BYTES);
    compare(
        "### Header of a table",
        &bytes,
        &[
            ("magic", b"LSMTABLE".to_vec()),
            ("version", vec![1, 0]),
            ("kind", vec![1]),
            ("reserved", vec![0]),
            ("required features", vec![1, 0, 0, 0]),
            ("optional features", vec![4, 3, 2, 1]),
            ("reserved", vec![0; 4]),
            ("identity", IDENTITY.to_bytes().to_vec()),
            ("database", DATABASE.to_bytes().to_vec()),
            ("checksum", salted_xxh3(IDENTITY, 0, &bytes[..56]).to_le_bytes().to_vec()),
        ],
    );
}

#[test]
fn the_footer_is_as_documented() {
    let footer =
        Footer { directory: Handle { offset: 0x1234, bytes: 0x56 }, file_bytes: 0x2000, identity: IDENTITY };
    let bytes = footer.encode();
    assert_eq!(bytes.len(), FOOTER_BYTES);
    compare(
        "### Footer of a table",
        &bytes,
        &[
            ("directory offset", 0x1234u64.to_le_bytes().to_vec()),
            ("directory bytes", 0x56u32.to_le_bytes().to_vec()),
            ("reserved", vec![0; 4]),
            ("file bytes", 0x2000u64.to_le_bytes().to_vec()),
            ("identity", IDENTITY.to_bytes().to_vec()),
            ("reserved", vec![0; 8]),
            ("checksum", salted_xxh3(IDENTITY, 0x2000 - 64, &bytes[..48]).to_le_bytes().to_vec()),
            ("closing magic", b"LSMTFOOT".to_vec()),
        ],
    );
}

#[test]
fn the_trailer_of_a_block_is_as_documented() {
    let mut bytes = Vec::new();
    seal(&mut bytes, IDENTITY, 64, BlockKind::Properties, Codec::Zstd, b"stored", 0x0102);
    let trailer = &bytes[6..];
    assert_eq!(trailer.len(), TRAILER_BYTES);
    compare(
        "### Blocks",
        trailer,
        &[
            ("block kind", vec![6]),
            ("codec", vec![2]),
            ("reserved", vec![0; 2]),
            ("payload bytes", vec![2, 1, 0, 0]),
            ("block checksum", salted_xxh3(IDENTITY, 64, &bytes[..14]).to_le_bytes().to_vec()),
        ],
    );
}

#[test]
fn a_filter_is_as_documented() {
    let hash = 0x0123_4567_89ab_cdefu64;
    let payload = filter::build(&[hash], 10);
    // The algorithm of FORMAT.md, written down once more.
    let mut line = vec![0u8; 64];
    let mut x = hash.rotate_left(32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for _ in 0..7 {
        let bit = usize::try_from(x >> 55).unwrap();
        line[bit / 8] |= 1 << (bit % 8);
        x = x.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
    compare(
        "**Filters.**",
        &payload,
        &[("filter kind", vec![1]), ("probes", vec![7]), ("reserved", vec![0; 6]), ("lines", line)],
    );
}
