//! What there is very much of: it costs at most the one entry that has it, never the backup.

use super::*;
use crate::frame::{CompressedFrame, FRAME_CHUNKS_MAX, RawFrame};
use crate::id::ChunkId;
use crate::monitor::FaultSide;
use crate::pack::{CONTENTS_BYTES_MAX, FinishedPack, Writer};
use crate::repository::intent::Intent;

#[test]
fn very_many_chunks_are_spread_over_packs_that_segments_can_tell_of() {
    let init = InitOptions {
        chunk_sizes: Some(ChunkSizes::new(64, 256, 1024).unwrap()),
        frame_bytes: Some(2 << 20),
        pack_bytes: Some(64 << 20),
    };
    let world = World::with(1, &init);
    world.write("many", noise(1, 36 << 20));
    let open = world.open().unwrap();
    let summary = world.backup_in(&open);
    assert!(
        summary.chunks_new * 33 > CONTENTS_BYTES_MAX as u64,
        "{} chunks are not many",
        summary.chunks_new
    );
    let mut decompressor = Decompressor::new();
    let packs = world.mem[0].list("packs").unwrap();
    for object in &packs {
        let bytes = world.mem[0].get(&object.key).unwrap();
        let toc = Reader::open(&bytes[..], open.repository.secrets().unwrap()).unwrap();
        let chunks = toc.toc(&mut decompressor).unwrap().toc.chunk_count();
        assert!(chunks * 33 < CONTENTS_BYTES_MAX, "{chunks} chunks in one pack");
    }
    assert_eq!(packs.len(), 2);
    assert_clean(&open);
}

/// The entries of which a backup said that something of them is left out.
fn source_faults(monitor: &Collector) -> Vec<String> {
    let faults = monitor.faults();
    assert!(faults.iter().all(|fault| fault.side == FaultSide::Source), "{faults:?}");
    faults.into_iter().map(|fault| fault.item).collect()
}

#[test]
fn attributes_beyond_all_measure_cost_only_themselves() {
    let world = World::new(1);
    // In memory: there an entry may have any number of attributes.
    let source = crate::testing::state_dir();
    let (odd, plain) = (source.path().join("odd"), source.path().join("plain"));
    std::fs::write(&odd, "odd").unwrap();
    std::fs::write(&plain, "plain").unwrap();
    for number in 0..70 {
        let (name, value) = (format!("user.{number:02}"), noise(number, 64 << 10));
        if rustix::fs::setxattr(&odd, &name, &value, rustix::fs::XattrFlags::empty()).is_err() {
            return;
        }
    }
    let open = world.open().unwrap();
    let options = BackupOptions::new("host", vec![source.path().to_owned()]);
    let monitor = Collector::default();
    backup(&open.repository, &open.catalog, &options, &monitor).unwrap();
    assert_eq!(source_faults(&monitor), [odd.to_str().unwrap()]);
    let version = |path: &Path| {
        let key = crate::entry_key::EntryKey::from_path(path).unwrap();
        open.catalog.entry(&open.last(), &key).unwrap().unwrap()
    };
    let kept = version(&odd).metadata.xattrs;
    assert_eq!(kept.iter().filter(|(name, _)| name.starts_with(b"user.")).count(), 63);
    assert_eq!(kept[0].1.len(), 64 << 10);
    assert_eq!(read(&open, &version(&odd), &*world.mem[0]), b"odd");
    assert_eq!(read(&open, &version(&plain), &*world.mem[0]), b"plain");
}

#[test]
fn an_entry_that_no_record_can_hold_stays_as_it_was() {
    let world = World::new(1);
    let link = |target: &str| {
        let _ = std::fs::remove_file(world.path("link"));
        std::os::unix::fs::symlink(target, world.path("link")).unwrap();
    };
    world.write("file", "one");
    link("short");
    world.backup();
    settle();
    world.write("file", "another");
    link(&"long/".repeat(700));
    world.write("new", "new");
    let repository = world.open().unwrap().repository;
    let catalog =
        crate::testing::catalog_of(&repository, |options| Catalog::open_with_records_of(options, 4000));
    let open = Open { repository, catalog: catalog.unwrap() };
    let monitor = Collector::default();
    let summary = world.backup_with(&open, &monitor).unwrap();
    assert_eq!(source_faults(&monitor), [world.path("link").to_str().unwrap()]);
    assert!(summary.is_partial() && open.last().partial);
    let state: BTreeMap<PathBuf, Version> = open
        .catalog
        .state(&open.last(), &KeyRange::all())
        .unwrap()
        .map(|entry| entry.map(|(key, version)| (key.path(), version)).unwrap())
        .collect();
    assert_eq!(state[&world.path("link")].metadata.link_target.as_deref(), Some(&b"short"[..]));
    for (name, bytes) in [("file", "another"), ("new", "new")] {
        assert_eq!(read(&open, &state[&world.path(name)], &*world.mem[0]), bytes.as_bytes());
    }
    assert_clean(&open);
}

#[test]
fn more_to_say_of_a_snapshot_than_a_segment_holds_is_refused_before_anything_is_stored() {
    let world = World::new(1);
    let open = world.open().unwrap();
    let mut options = world.backup_options();
    options.tags = vec!["t".repeat(5 << 20), "u".repeat(4 << 20)];
    let objects = world.mem[0].objects();
    let error = backup(&open.repository, &open.catalog, &options, &Collector::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(world.mem[0].objects() == objects);
    options.tags.pop();
    backup(&open.repository, &open.catalog, &options, &Collector::default()).unwrap();
}

/// A pack of more chunks than a segment can tell of, as a version made it that knew no bound.
fn boundless_pack(open: &Open, intent: &Intent) -> FinishedPack {
    let config = open.repository.config();
    let secrets = open.repository.secrets().unwrap();
    let writer = Writer::new(secrets, config.epoch, config.mode.cipher(), intent.id, Vec::new());
    let mut writer = writer.unwrap().without_bound();
    for number in 0..8u8 {
        let chunks = vec![(ChunkId::from_bytes([number; 32]), 1); FRAME_CHUNKS_MAX as usize];
        let data = vec![number; chunks.len()];
        writer.add(&CompressedFrame::uncompressed(RawFrame { chunks, data })).unwrap();
    }
    writer.finish()
}

#[test]
fn a_pack_that_no_segment_can_tell_of_is_left_alone() {
    let world = World::new(1);
    populate(&world);
    world.backup();
    let open = world.open().unwrap();
    let intent = Intent::new(open.catalog.writer().unwrap().unwrap(), "host").unwrap();
    intent.put(&*world.mem[0]).unwrap();
    let pack = boundless_pack(&open, &intent);
    let key = ObjectName::Pack(pack.name).key();
    world.mem[0].put(&key, &[&pack.bytes]).unwrap();
    world.write("more", noise(70, 5000));
    let monitor = Collector::default();
    let summary = world.backup_with(&open, &monitor).unwrap();
    assert_eq!(summary.targets_complete, ["mem:a"]);
    let notes = monitor.notes();
    assert!(notes.iter().any(|note| note.contains("stays where it is")), "{notes:?}");
    world.assert_holds(&open, &open.last(), &world.mem[0]);
    assert!(world.mem[0].length(&key).unwrap().is_some());
    assert!(world.mem[0].list("intents").unwrap().is_empty(), "told once");
    assert_clean(&open);
}
