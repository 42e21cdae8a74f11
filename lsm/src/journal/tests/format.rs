//! FORMAT.md against the code: its offset tables, its limits, its example.

use super::*;
use crate::layout::FieldPlace;

fn section(heading: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/FORMAT.md");
    let text = std::fs::read_to_string(path).unwrap();
    let (_, behind) =
        text.split_once(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("FORMAT.md has no {heading:?}"));
    behind.split("\n## ").next().unwrap().split("\n### ").next().unwrap().to_owned()
}

/// The rows of a section's offset table: offset, size, name.
fn rows(heading: &str) -> Vec<(usize, usize, String)> {
    let section = section(heading);
    let rows = section.lines().filter_map(|line| {
        let cells: Vec<&str> = line.strip_prefix('|')?.split('|').map(str::trim).collect();
        Some((cells.first()?.parse().ok()?, cells.get(1)?.parse().ok()?, (*cells.get(2)?).to_owned()))
    });
    rows.collect()
}

fn agrees(heading: &str, layout: &[FieldPlace]) {
    let places: Vec<_> =
        layout.iter().map(|field| (field.offset, field.bytes, field.name.to_owned())).collect();
    assert_eq!(rows(heading), places, "{heading}");
}

#[test]
fn the_layouts_are_as_documented() {
    agrees("### Header of a log file", &LOG_HEADER_LAYOUT);
    agrees("### Header of a record", &RECORD_HEADER_LAYOUT);
    agrees("### First record", &START_LAYOUT);
    agrees("### Last record", &END_LAYOUT);
}

#[test]
fn magics_kinds_and_limits_are_as_documented() {
    let header = section("### Header of a log file");
    for kind in [LogKind::Journal, LogKind::Manifest] {
        let magic: Vec<String> = kind.magic().iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(header.contains(&magic.join(" ")), "{kind}");
    }
    assert!(header.contains(&format!("format version | {LOG_FORMAT_VERSION} |")));
    let record = section("### Header of a record");
    assert!(record.contains("at most 2^30") && PAYLOAD_BYTES_MAX == 1 << 30);
    for kind in [RecordKind::Start, RecordKind::Batch, RecordKind::Mark, RecordKind::End, RecordKind::Pad] {
        assert!(record.contains(&format!("| {} | {kind:?} |", kind as u8)), "{kind:?}");
    }
    let first_end = LOG_HEADER_BYTES + RECORD_HEADER_BYTES + START_PAYLOAD_BYTES;
    assert!(section("## Journal").contains(&format!("{first_end}     records")));
}

#[test]
fn the_example_is_a_log() {
    let example = section("### Example of a log");
    let mut bytes = Vec::new();
    for line in example
        .lines()
        .filter(|line| line.len() > 6 && line[..4].bytes().all(|byte| byte.is_ascii_hexdigit()))
    {
        assert_eq!(usize::from_str_radix(&line[..4], 16).unwrap(), bytes.len());
        let row = line[6..].chars().take(47).collect::<String>();
        bytes.extend(row.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap()));
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/golden/v1/every-kind.log");
    assert!(std::fs::read(path).unwrap().starts_with(&bytes) && bytes.len() > 200);
}
