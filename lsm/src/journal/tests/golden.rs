//! Logs written once by version 1, kept for ever: every later version reads them, and writes them byte for byte (but for those that it would
//! write otherwise now, within the same format). Beside each file its annotated dump. In `broken/` one file a fault, with what must be said about it.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::*;
use crate::checksum::{Identity, salted_crc32};

const DATABASE: Identity = Identity::from_bytes(*b"golden database!");

fn identity(number: u64) -> Identity {
    let mut bytes = *b"golden log no. 0";
    bytes[15] += u8::try_from(number).unwrap();
    Identity::from_bytes(bytes)
}

fn options() -> JournalOptions {
    JournalOptions { zero_ahead_bytes_max: 0, ..JournalOptions::default() }
}

fn create(
    fs: &Arc<dyn FileSystem>,
    number: u64,
    previous: Option<LogEnd>,
    options: JournalOptions,
) -> Journal {
    let next_sequence = previous.map_or(1, |previous| previous.last_sequence + 1);
    let start = Start { number, identity: identity(number), database: DATABASE, previous, next_sequence };
    Journal::create(fs, &log_path(number), start, options).unwrap()
}

/// Each kind of record but Pad. Its last record does not say that all before it is durable: so they were written at first.
const EVERY_KIND: &str = "every-kind";

/// The logs of version 1 that are written so still, by name and number.
fn logs() -> Vec<(&'static str, u64, Vec<u8>)> {
    let mem = MemFs::new();
    mem.create_dir_all(directory(), SITE).unwrap();
    let fs: Arc<dyn FileSystem> = Arc::new(mem.clone());
    let append = |journal: &Journal, first_sequence, op_count, sync, payload: &[u8]| {
        let at = journal.append(BatchRecord { first_sequence, op_count, sync, payload }).unwrap();
        if sync { journal.sync_through(at).unwrap() } else { journal.write_through(at).unwrap() }
    };
    // As [`EVERY_KIND`].
    let first = create(&fs, 1, None, options());
    append(&first, 1, 1, true, b"synced");
    append(&first, 2, 3, false, b"three operations, not synced");
    first.sync_through(first.position()).unwrap();
    first.mark().unwrap();
    append(&first, 5, 1, false, b"");
    let end = first.end(5).unwrap();
    // Follows; not ended.
    let second = create(&fs, 2, Some(end), options());
    append(&second, 6, 2, true, &[0xab; 100]);
    append(&second, 8, 1, true, b"the last");
    // Synced groups filled up to sectors.
    let third = create(&fs, 3, Some(end), JournalOptions { pad_synced_bytes: 256, ..options() });
    append(&third, 6, 1, true, b"one sector");
    append(&third, 7, 1, true, b"another");
    let names = ["ended", "not-ended", "padded"];
    (1..=3)
        .zip(names)
        .map(|(number, name)| (name, number, contents(&mem, &log_path(number)).unwrap()))
        .collect()
}

/// A log with one fault.
fn broken() -> Vec<(&'static str, Vec<u8>)> {
    let golden = logs();
    let clean = std::fs::read(golden_folder().join(EVERY_KIND).with_extension("log")).unwrap();
    let changed = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = clean.clone();
        change(&mut bytes);
        bytes
    };
    let first = 64 + 40 + 64;
    let second = first + 40 + 8;
    let resealed = |at: usize, offset: usize, value: u8| {
        changed(&|bytes| {
            bytes[at + offset] = value;
            let crc = salted_crc32(identity(1), at as u64, &[&bytes[at + 4..at + 40]]);
            bytes[at..at + 4].copy_from_slice(&crc.to_le_bytes());
        })
    };
    let resealed_file = |offset: usize, value: u8| {
        changed(&|bytes| {
            bytes[offset] = value;
            let crc = salted_crc32(identity(1), 0, &[&bytes[..60]]);
            bytes[60..64].copy_from_slice(&crc.to_le_bytes());
        })
    };
    vec![
        ("empty", Vec::new()),
        ("other-magic", changed(&|bytes| bytes[3] = b'X')),
        ("file-header-flipped", changed(&|bytes| bytes[30] ^= 1)),
        ("file-header-cut", changed(&|bytes| bytes.truncate(63))),
        ("newer-version", resealed_file(8, 2)),
        ("newer-required-feature", resealed_file(12, 1)),
        ("reserved-bytes-of-the-file", resealed_file(50, 1)),
        ("first-record-flipped", changed(&|bytes| bytes[64 + 50] ^= 1)),
        ("record-header-flipped", changed(&|bytes| bytes[first + 16] ^= 1)),
        ("payload-flipped", changed(&|bytes| bytes[second + 40] ^= 1)),
        ("padding-flipped", changed(&|bytes| bytes[first + 40 + 7] ^= 1)),
        ("zeros-in-what-was-durable", changed(&|bytes| bytes[first..second].fill(0))),
        ("cut-in-what-was-durable", {
            let (_, _, not_ended) = &golden[1];
            let mut bytes = not_ended.clone();
            // The last record tells that the one before it was durable.
            let last = bytes.len() - 48;
            bytes[168..last].fill(0);
            bytes
        }),
        ("record-in-another-place", {
            changed(&|bytes| {
                let record = bytes[first..second].to_vec();
                bytes[second..second + record.len()].copy_from_slice(&record);
            })
        }),
        ("kind-unknown", resealed(first, 32, 6)),
        ("kind-zero", resealed(first, 32, 0)),
        ("flag-unknown", resealed(first, 33, 2)),
        ("reserved-bytes-of-a-record", resealed(first, 36, 1)),
        ("batch-of-no-operations", resealed(first, 12, 0)),
        ("mark-with-operations", resealed(first, 32, 3)),
        ("sequence-zero", resealed(first, 16, 0)),
        ("sequence-too-large", resealed(first, 23, 1)),
        ("durable-beyond-itself", resealed(first, 25, 0xff)),
        ("payload-too-long", resealed(first, 11, 0xff)),
        ("payload-longer-than-the-file", resealed(first, 10, 1)),
        ("torn-in-a-record", changed(&|bytes| bytes.truncate(bytes.len() - 60))),
        (
            "torn-and-garbage",
            changed(&|bytes| {
                let end = bytes.len();
                bytes[end - 48..].fill(0x5a);
            }),
        ),
        (
            "torn-to-zeros",
            changed(&|bytes| {
                let end = bytes.len();
                bytes[end - 48..].fill(0);
            }),
        ),
    ]
}

fn golden_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/golden/v1")
}

fn broken_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/broken")
}

fn mounted(number: u64, bytes: &[u8]) -> MemFs {
    let mem = MemFs::new();
    mem.create_dir_all(directory(), SITE).unwrap();
    replace(&mem, &log_path(number), bytes);
    mem
}

fn describe(number: u64, bytes: &[u8]) -> String {
    let mem = mounted(number, bytes);
    dump(mem.open_read(&log_path(number)).unwrap(), &log_path(number), LogKind::Journal).unwrap()
}

/// What recovery says of a log that the manifest names, in each mode.
fn verdict(bytes: &[u8]) -> String {
    let number = if bytes.get(39) == Some(&b'2') { 2 } else { 1 };
    let fs: Arc<dyn FileSystem> = Arc::new(mounted(number, bytes));
    let mut text = String::new();
    for mode in [RecoveryMode::Strict, RecoveryMode::Tail, RecoveryMode::PointInTime, RecoveryMode::Salvage] {
        let options = RecoverOptions {
            database: DATABASE,
            flushed: Flushed { every: 5 * (number - 1), any: 5 * (number - 1) },
            mode,
            access: Access::ReadOnly,
        };
        let expected = [ExpectedLog { number, identity: Some(identity(number)), cut: None }];
        let mut sequences = Vec::new();
        let outcome = recover(&fs, directory(), &expected, &options, &mut |batch| {
            sequences.push(batch.first_sequence);
            Ok(())
        });
        text += &match outcome {
            Ok(recovery) => format!(
                "{mode:?}: {:?}, batches {sequences:?}{}\n",
                recovery.logs[0].verdict,
                if recovery.is_lossy { ", lossy" } else { "" }
            ),
            Err(error) => format!("{mode:?}: {:?}: {error}\n", error.kind()),
        };
    }
    text
}

/// The names of the files in a folder that end so, without that.
fn names(folder: &Path, ending: &str) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter_map(|name| name.strip_suffix(ending).map(str::to_owned)).collect()
}

#[test]
fn every_golden_log_is_read_described_and_written_as_it_was() {
    let mut logs: Vec<_> =
        logs().into_iter().map(|(name, number, written)| (name, number, Some(written))).collect();
    logs.push((EVERY_KIND, 1, None));
    assert_eq!(
        names(&golden_folder(), ".log"),
        logs.iter().map(|(name, ..)| (*name).to_owned()).collect(),
        "the files, and what is tested"
    );
    for (name, number, written) in logs {
        let bytes = std::fs::read(golden_folder().join(name).with_extension("log")).unwrap();
        let text = std::fs::read_to_string(golden_folder().join(name).with_extension("log.txt")).unwrap();
        assert_eq!(describe(number, &bytes), text, "{name}");
        assert!(written.is_none_or(|written| written == bytes), "{name} is written otherwise");
    }
}

#[test]
fn every_broken_log_gives_the_error_that_it_must_give() {
    let broken = broken();
    assert_eq!(names(&broken_folder(), ".log"), broken.iter().map(|(name, _)| (*name).to_owned()).collect());
    for (name, made) in broken {
        let bytes = std::fs::read(broken_folder().join(name).with_extension("log")).unwrap();
        let text = std::fs::read_to_string(broken_folder().join(name).with_extension("log.txt")).unwrap();
        assert_eq!(verdict(&bytes), text, "{name}");
        assert!(made == bytes, "{name} is made otherwise");
    }
}

/// `cargo test -p lsm golden -- --ignored` writes those that are missing, and never one that is there.
#[test]
#[ignore = "writes files into the source tree"]
fn write_missing_logs() {
    let write = |folder: PathBuf, name: &str, bytes: &[u8], text: String| {
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join(name).with_extension("log");
        if !path.exists() {
            std::fs::write(&path, bytes).unwrap();
            std::fs::write(path.with_extension("log.txt"), text).unwrap();
        }
    };
    for (name, number, bytes) in logs() {
        write(golden_folder(), name, &bytes, describe(number, &bytes));
    }
    for (name, bytes) in broken() {
        write(broken_folder(), name, &bytes, verdict(&bytes));
    }
}
