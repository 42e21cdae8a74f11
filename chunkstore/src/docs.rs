//! FORMAT.md against the code: each offset table is compared with the layout that encoder and decoder use, each list of
//! contexts, kinds and masks with the constants.

use lsm::layout::FieldPlace;

use crate::chunk::{ChunkSizes, Cutter};
use crate::envelope::{ENVELOPE_FIELDS, EnvelopeKind};
use crate::frame::FRAME_HEADER_FIELDS;
use crate::pack::{PACK_HEADER_FIELDS, TRAILER_FIELDS};
use crate::secret::Purpose;
use crate::segment::SEGMENT_HEADER_FIELDS;
use crate::testing::secrets;

fn format_md() -> String {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/FORMAT.md");
    std::fs::read_to_string(path).unwrap()
}

/// The cells of the first table with this head behind `heading`.
fn table(heading: &str, head: &str) -> Vec<Vec<String>> {
    let text = format_md();
    let (_, behind) = text.split_once(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("no {heading:?}"));
    let (_, rows) =
        behind.split_once(&format!("\n{head}\n")).unwrap_or_else(|| panic!("no {head:?} in {heading:?}"));
    let rows = rows.lines().skip(1).take_while(|line| line.starts_with('|'));
    rows.map(|line| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()).collect()
}

#[test]
fn fixed_layouts_are_as_documented() {
    let layouts: [(&str, &[FieldPlace]); 5] = [
        ("### Header of an envelope", &ENVELOPE_FIELDS),
        ("### Header of a frame", &FRAME_HEADER_FIELDS),
        ("### Header of a pack", &PACK_HEADER_FIELDS),
        ("### Trailer of a pack", &TRAILER_FIELDS),
        ("### Header of a segment", &SEGMENT_HEADER_FIELDS),
    ];
    for (heading, fields) in layouts {
        let rows = table(heading, "| offset | size | field | meaning, valid values |");
        assert_eq!(rows.len(), fields.len(), "{heading}");
        for (row, field) in rows.iter().zip(fields) {
            assert_eq!(
                row[0..3],
                [field.offset.to_string(), field.bytes.to_string(), field.name.to_owned()],
                "{heading}"
            );
        }
    }
}

#[test]
fn every_context_is_documented() {
    let rows = table("## Derived secrets and ids", "| context | from | serves to |");
    let mut documented: Vec<String> = rows.iter().map(|row| row[0].trim_matches('`').to_owned()).collect();
    let mut known: Vec<String> = Purpose::ALL.iter().map(|purpose| purpose.context().to_owned()).collect();
    documented.sort();
    known.sort();
    assert_eq!(documented, known);
}

#[test]
fn every_mask_is_documented() {
    let rows = table("## Chunks", "| average | strict | lax |");
    assert_eq!(rows.len(), 15);
    for (row, log) in rows.iter().zip(8..) {
        let average = 1u32 << log;
        let sizes = ChunkSizes::new(64, average, 8 << 20).unwrap();
        let (strict, lax) = Cutter::new(&secrets(), sizes).masks();
        let text = match average {
            0..1024 => format!("{average} bytes"),
            1024..1_048_576 => format!("{} KiB", average >> 10),
            _ => format!("{} MiB", average >> 20),
        };
        assert_eq!(row[..], [text, format!("`{strict:016x}`"), format!("`{lax:016x}`")]);
    }
}

#[test]
fn every_kind_of_envelope_is_documented() {
    let rows = table("### Header of an envelope", "| offset | size | field | meaning, valid values |");
    let kinds = [
        EnvelopeKind::Config,
        EnvelopeKind::Key,
        EnvelopeKind::KeyRemoval,
        EnvelopeKind::Complete,
        EnvelopeKind::Intent,
    ];
    for kind in kinds {
        let magic = String::from_utf8_lossy(kind.magic()).trim_end_matches('\0').to_owned();
        assert!(rows[0][3].contains(&format!("`{magic}`")), "{magic}");
    }
}

/// The algorithm of FORMAT.md, written down once more, byte by byte.
#[test]
fn cuts_are_as_documented() {
    use crate::testing::{noise, text};
    for (min, average, max) in [(64, 256, 1024), (4 << 10, 16 << 10, 128 << 10), (100, 1024, 3000)] {
        let sizes = ChunkSizes::new(min, average, max).unwrap();
        let cutter = Cutter::new(&secrets(), sizes);
        let (strict, lax) = cutter.masks();
        let gear = secrets().gear_table();
        let (min, average, max) = (min as usize, average as usize, max as usize);
        let cut = |bytes: &[u8]| {
            if bytes.len() <= min {
                return bytes.len();
            }
            let n = bytes.len().min(max);
            let centre = average.min(n);
            let mut hash = 0u64;
            for i in (min..).step_by(2) {
                let Some(pair) = bytes[..n].get(i..i + 2) else { break };
                let mask = if i / 2 < centre / 2 { strict } else { lax };
                hash = (hash << 2).wrapping_add(gear[usize::from(pair[0])] << 1);
                if hash & (mask << 1) == 0 {
                    return i;
                }
                hash = hash.wrapping_add(gear[usize::from(pair[1])]);
                if hash & mask == 0 {
                    return i + 1;
                }
            }
            n
        };
        for bytes in [noise(7, 150_001), text(8, 60_000), vec![0; 9_999]] {
            let mut rest = &bytes[..];
            for chunk in cutter.chunks(&bytes) {
                assert_eq!(chunk.len(), cut(rest));
                rest = &rest[chunk.len()..];
            }
        }
    }
}
