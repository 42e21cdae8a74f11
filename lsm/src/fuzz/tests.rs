//! The bodies over the kept seeds, over seeds with damage, over anything; and how the seeds are made.

use std::path::Path;

use proptest::prelude::*;

use super::seeds::{self, Seed};
use crate::batch::{Encoder, KeyspaceId};
use crate::block::BlockKind;
use crate::fs::{FileSystem, MemFs};
use crate::journal::{LogKind, RecordKind, read_records};
use crate::table::fuzz::unsealed;
use crate::table::golden::golden_files;

fn golden(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/golden/v1");
    std::fs::read(folder.join(name)).unwrap()
}

/// The payloads of the batches of a log, or of the edits of a manifest.
fn payloads(bytes: &[u8], kind: LogKind) -> Vec<Vec<u8>> {
    let (fs, name) = (MemFs::new(), Path::new("/log"));
    fs.create_new(name).unwrap().write_all_at(bytes, 0).unwrap();
    let mut payloads = Vec::new();
    read_records(fs.open_read(name).unwrap(), name, kind, &mut |record| {
        if record.header.kind == RecordKind::Batch {
            payloads.push(record.payload.to_vec());
        }
        Ok(())
    })
    .unwrap();
    payloads
}

/// A batch with an operation of each kind.
fn some_batch() -> Vec<u8> {
    let id = |number| KeyspaceId::new(number).unwrap();
    let mut encoder = Encoder::default();
    encoder.put(id(1), b"key", b"value");
    encoder.put(id(300), b"", b"");
    encoder.delete(id(1), b"key");
    encoder.delete_range(id(2), &("a".."b"));
    encoder.delete_range(id(2), &("c"..));
    encoder.delete_prefix(id(2), b"pre");
    encoder.payload().to_vec()
}

/// All seeds, as they are made.
fn all() -> Vec<Seed> {
    let mut seeds: Vec<Seed> = Vec::new();
    let mut add = |target, name: &str, bytes: &[u8]| seeds.push((target, name.to_owned(), bytes.to_vec()));
    for name in ["every-kind.log", "not-ended.log", "padded.log"] {
        add("journal_read", name, &golden(name));
    }
    // Which logs are written: how, so many steps, the steps. Then the log that is damaged, and the damage: where, how much, what.
    let synced = [[2u8, 20, 0]; 3].concat();
    for (name, program) in [
        ("one-flip", [&[1, 1, 2][..], &synced, &[0, 0, 0, 200, 0, 0, 0, 0, 1]].concat()),
        ("zeros-at-the-end", [&[0, 0, 2][..], &synced, &[1, 0, 0, 44, 1, 200, 0, 1]].concat()),
        ("cut", [&[1, 1, 3][..], &synced, &[13, 1, 0, 0, 100, 1, 0, 0, 3]].concat()),
        ("piece-in-another-place", [&[1, 0, 2][..], &synced, &[0, 0, 0, 168, 0, 40, 0, 4, 9, 0]].concat()),
        (
            "rotated",
            [&[1, 1, 4, 2, 20, 0, 13, 2, 20, 0, 13][..], &[2, 9, 0, 1, 1, 0, 80, 0, 30, 0, 2, 5]].concat(),
        ),
        ("killed", [&[1, 1, 3, 1, 20, 0, 15, 1, 20, 0, 14][..], &[1, 0, 0, 150, 0, 60, 0, 1]].concat()),
    ] {
        add("journal_mutate", name, &program);
    }
    add("batch", "every-kind", &some_batch());
    let log = payloads(&golden("database/00000009.log"), LogKind::Journal);
    add("batch", "golden", &log[0]);
    for (name, bytes) in golden_files() {
        add("table", name, &bytes);
        let parts = unsealed(&bytes);
        add("table", &format!("parts-of-{name}"), &parts);
        if name == "no-filter" {
            // Of the first block the second restart, where a value has what may pass for an entry.
            let mut damaged = parts.clone();
            assert_eq!(std::mem::replace(&mut damaged[488], 0x79), 0xd7);
            add("table", "restart-within-an-entry", &damaged);
        }
        let mut rest = &parts[..];
        let mut kinds = vec![(BlockKind::Data as u8, 0), (BlockKind::Index as u8, 1)];
        while let Some(([kind, low, high], after)) = rest.split_first_chunk::<3>() {
            let (payload, after) = after.split_at(usize::from(u16::from_le_bytes([*low, *high])));
            rest = after;
            if let Some(first) = kinds.iter().position(|(of, _)| of == kind) {
                let (_, choice) = kinds.remove(first);
                let what = if choice == 0 { "data" } else { "index" };
                add("block", &format!("{what}-of-{name}"), &[&[choice][..], payload].concat());
            }
        }
    }
    // Which table; then places and what stands there.
    for (name, program) in [
        ("as-it-was", &[11][..]),
        ("narrow", &[7, 0, 16, 0, 2]),
        ("wide", &[2, 2, 16, 0, 255]),
        ("crowded", &[5, 8, 16, 0, 9, 9, 32, 0, 1]),
        ("behind-a-short-key", &[0, 0x20, 0xa0, 0, 1]),
    ] {
        add("rows", name, program);
    }
    let mut edits = Vec::new();
    for edit in payloads(&golden("database/MANIFEST"), LogKind::Manifest) {
        edits.extend_from_slice(&u16::try_from(edit.len()).unwrap().to_le_bytes());
        edits.extend_from_slice(&edit);
    }
    add("manifest", "golden", &edits);
    // How it is opened (1: killed, 2: to read, 4 to 12: in which mode); then changes: what, which file, where in it, and what belongs to it.
    for (name, program) in [
        ("as-it-was", &[0][..]),
        ("killed", &[1]),
        ("killed-strict", &[5]),
        ("killed-to-read", &[3]),
        ("flip-in-a-table", &[0, 0, 0, 0, 100, 0, 1]),
        ("cut-log", &[1, 1, 4, 0, 200, 0]),
        ("zeros-in-the-manifest", &[0, 2, 6, 0, 100, 0, 50, 0, 0]),
        ("garbage-behind-the-log", &[1, 3, 4, 0, 0, 0, 7, 30, 0]),
        ("table-over-a-table", &[0, 4, 0, 0, 0, 0, 1, 0]),
        ("no-table", &[0, 5, 2, 0, 0, 0]),
        ("no-log", &[1, 5, 4, 0, 0, 0]),
        ("no-file-at-all-strict", &[&[4][..], &[5, 0, 0, 0, 0].repeat(12)].concat()),
        ("no-log-salvage", &[13, 5, 4, 0, 0, 0]),
        ("flip-in-the-log-salvage", &[13, 0, 4, 0, 220, 0, 1]),
        ("flip-in-the-log-point-in-time", &[9, 0, 4, 0, 220, 0, 1]),
        ("unknown-log", &[0, 6, 4, 0, 0, 0, 10, 40, 0]),
        ("unknown-table-of-the-largest-number", &[0, 6, 0, 0, 0, 0, 3, 0, 1]),
        ("largest-sequence-number", &[0, 7, 0, 0, 0, 0, 0, 0, 5, 2, 0, 2, 3, 0]),
        ("largest-file-number", &[0, 7, 0, 0, 0, 0, 9, 0, 5, 0, 0, 2, 3, 0]),
        ("largest-epoch", &[0, 7, 0, 0, 0, 0, 8, 0, 5, 1, 0, 10, 6, 3, 0]),
        ("batch-of-another-length", &[1, 8, 0, 0, 0, 0, 1, 0, 1, 8, 3, 0]),
    ] {
        add("database", name, program);
    }
    seeds
}

#[test]
fn seeds_are_there_as_they_are_made() {
    // What zstd makes of a block may change with its version.
    seeds::check(&all(), "compressed");
}

/// `cargo test -p lsm fuzz -- --ignored` writes those that are missing, and never over one that is there.
#[test]
#[ignore = "writes files into the source tree"]
fn write_missing_seeds() {
    seeds::write_missing(&all()).unwrap();
}

type Body = fn(&[u8]);
const BODIES: [(&str, Body); 8] = [
    ("journal_read", super::journal_read),
    ("journal_mutate", super::journal_mutate),
    ("batch", super::batch),
    ("block", super::block),
    ("table", super::table),
    ("rows", super::rows),
    ("manifest", super::manifest),
    ("database", super::database),
];

#[test]
fn kept_seeds_get_a_verdict() {
    for (name, body) in BODIES {
        seeds::kept(name).unwrap().iter().for_each(|bytes| body(bytes));
    }
}

#[test]
fn golden_and_broken_files_get_a_verdict_as_logs() {
    for folder in ["testdata/golden/v1", "testdata/broken"] {
        for entry in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                super::journal_read(&std::fs::read(path).unwrap());
            }
        }
    }
}

/// A damaged first record, which loses nothing, and a torn tail in one log: two faults that are to be told apart.
#[test]
fn a_torn_tail_behind_a_damaged_first_record_is_cut() {
    super::journal_mutate(&[
        0, 0, 220, 233, 99, 89, 138, 99, 1, 36, 81, 161, 95, 131, 157, 235, 3, 0, 0, 40, 34, 0, 0, 42, 0,
        160, 0, 63, 0, 0, 216, 0, 5,
    ]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_bytes_get_a_verdict(data in proptest::collection::vec(any::<u8>(), 0..600)) {
        super::journal_read(&data);
    }

    #[test]
    fn damage_is_told_from_a_torn_tail(data in proptest::collection::vec(any::<u8>(), 0..120)) {
        super::journal_mutate(&data);
    }

    #[test]
    fn batches_and_manifests_get_a_verdict(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let seeds: Vec<_> =
            all().into_iter().filter(|(target, ..)| matches!(*target, "batch" | "manifest")).collect();
        let (target, _, mut bytes) = seeds[which.index(seeds.len())].clone();
        for (at, byte) in changes {
            *at.get_mut(&mut bytes) = byte;
        }
        if target == "batch" { super::batch(&bytes) } else { super::manifest(&bytes) }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn damaged_databases_say_nothing_wrong(data in proptest::collection::vec(any::<u8>(), 0..60)) {
        super::database(&data);
    }
}
