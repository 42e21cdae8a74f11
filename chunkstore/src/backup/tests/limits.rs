//! What there is very much of: it costs at most the one entry that has it, never the backup.

use super::*;
use crate::frame::{CompressedFrame, FRAME_CHUNKS_MAX, RawFrame};
use crate::id::ChunkId;
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
