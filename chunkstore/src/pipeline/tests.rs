//! All stages together, from bytes to targets and back.

#![allow(clippy::cast_possible_truncation, reason = "all numbers here are small")]

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use super::gather::{Gathered, Gatherer, KnownChunks, Pending};
use super::order::ordered;
use super::pack::{Sealing, compress, pack};
use super::read::{Batch, BatchWriter, Contents};
use super::upload::{Outcome, Upload, Uploaders};
use crate::chunk::{ChunkSizes, Cutter, Hasher};
use crate::error::{Error, ErrorKind, Result};
use crate::frame::{CompressedFrame, Decompressor, FRAME_CHUNKS_MAX, RawFrame};
use crate::id::{ChunkId, IntentId};
use crate::pack::{CONTENTS_BYTES_MAX, Reader};
use crate::repository::layout::ObjectName;
use crate::seal::Cipher;
use crate::secret::{Epoch, Secrets};
use crate::target::fault::{FaultTarget, Rule};
use crate::target::mem::MemTarget;
use crate::target::{ObjectInfo, ObjectKey, Target};
use crate::testing::noise;

struct Slice<'a>(&'a [u8]);

impl Contents for Slice<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        // Odd sizes: where a read ends must not decide where a chunk ends.
        let count = self.0.len().min(buffer.len()).min(7919);
        buffer[..count].copy_from_slice(&self.0[..count]);
        self.0 = &self.0[count..];
        Ok(count)
    }
}

struct Knows(HashSet<ChunkId>);

impl KnownChunks for Knows {
    fn known(&self, ids: &[ChunkId]) -> Result<Vec<bool>> {
        Ok(ids.iter().map(|id| self.0.contains(id)).collect())
    }
}

struct Stored {
    entries: Vec<(usize, Vec<ChunkId>)>,
    gathered: Gathered,
    outcomes: Vec<Vec<&'static str>>,
}

/// Stores `files` on `targets`; the stages run as a backup runs them.
fn store(
    files: &[Vec<u8>],
    known: &Knows,
    secrets: &Arc<Secrets>,
    targets: &[Arc<dyn Target>],
    threads: usize,
) -> Stored {
    let sizes = ChunkSizes::new(256, 1024, 8192).unwrap();
    let (cutter, hasher) = (Cutter::new(secrets, sizes), Hasher::new(secrets));
    let sealing = Sealing {
        secrets: secrets.clone(),
        epoch: Epoch::FIRST,
        cipher: Cipher::ChaCha20Poly1305,
        intent: IntentId::from_bytes([3; 16]),
        pack_bytes: 300_000,
    };
    let pending = Pending::default();
    let (jobs, work, batches) = ordered::<Vec<usize>, Batch<usize>>(4, 2);
    let (raw, raw_work, compressed) = ordered(4, 1);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for first in (0..files.len()).step_by(3) {
                jobs.submit((first..files.len().min(first + 3)).collect()).unwrap();
            }
        });
        for _ in 0..threads {
            let (work, cutter, hasher) = (work.clone(), &cutter, &hasher);
            scope.spawn(move || {
                while let Some((job, out)) = work.take() {
                    let mut writer = BatchWriter::new(cutter, hasher, &out);
                    for index in job {
                        let total = writer.contents(&mut Slice(&files[index])).unwrap();
                        assert_eq!(total, files[index].len() as u64);
                        writer.end(index, 0).unwrap();
                    }
                    writer.finish().unwrap();
                }
            });
            let raw_work = raw_work.clone();
            scope.spawn(move || compress(&raw_work, 3));
        }
        drop((work, raw_work));
        let (mut uploaders, acknowledgements) = Uploaders::start(scope, targets, 1);
        let sealing = &sealing;
        scope.spawn(move || {
            pack(compressed, sealing, |packed| {
                let key = ObjectName::Pack(packed.name).key();
                uploaders.send(Upload { key, bytes: Arc::new(packed.bytes), tag: packed.name });
                Ok(())
            })
            .unwrap();
        });
        let mut gatherer = Gatherer::new(known, &pending, Some(raw), 64 << 10);
        let mut entries = Vec::new();
        let ids = std::cell::RefCell::new(Vec::new());
        for batch in batches {
            gatherer
                .batch(
                    batch,
                    |id| {
                        ids.borrow_mut().push(id);
                        Ok(())
                    },
                    |entry| {
                        entries.push((entry, ids.take()));
                        Ok(())
                    },
                )
                .unwrap();
        }
        let gathered = gatherer.finish().unwrap();
        let mut outcomes = vec![Vec::new(); targets.len()];
        for acknowledgement in acknowledgements {
            outcomes[acknowledgement.target].push(match acknowledgement.outcome {
                Outcome::Stored => "stored",
                Outcome::Failed(_) => "failed",
                Outcome::Skipped => "skipped",
                Outcome::Lagging => "lagging",
            });
        }
        Stored { entries, gathered, outcomes }
    })
}

/// Every chunk on a target, by id.
fn chunks_of(target: &dyn Target, secrets: &Secrets) -> BTreeMap<ChunkId, Vec<u8>> {
    let hasher = Hasher::new(secrets);
    let mut decompressor = Decompressor::new();
    let mut all = BTreeMap::new();
    for object in target.list("packs").unwrap() {
        let bytes = target.get(&object.key).unwrap();
        let reader = Reader::open(&bytes[..], secrets).unwrap();
        for entry in reader.toc(&mut decompressor).unwrap().toc.frames {
            let frame = reader.read_checked(&entry, &mut decompressor).unwrap();
            for (index, chunk) in entry.chunks.iter().enumerate() {
                let bytes = frame.chunk(index, &chunk.id, &hasher).unwrap().to_vec();
                assert!(all.insert(chunk.id, bytes).is_none(), "a chunk was stored twice");
            }
        }
    }
    all
}

fn some_files() -> Vec<Vec<u8>> {
    let mut files: Vec<Vec<u8>> =
        (0..200).map(|seed| noise(seed % 150, (seed as usize * 977) % 20_000)).collect();
    files.push(Vec::new());
    files.push(noise(900, 3 << 20));
    files.push([&[1, 2, 3], &noise(900, 3 << 20)[..]].concat());
    files.push(vec![0; 1 << 20]);
    files
}

#[test]
fn what_went_in_can_be_put_together_from_any_target() {
    let secrets = Arc::new(Secrets::generate().unwrap());
    let (a, b) = (MemTarget::new("a"), MemTarget::new("b"));
    let targets: Vec<Arc<dyn Target>> = vec![a.clone(), b.clone()];
    let files = some_files();
    let stored = store(&files, &Knows(HashSet::new()), &secrets, &targets, 3);
    assert_eq!(
        stored.entries.iter().map(|(index, _)| *index).collect::<Vec<_>>(),
        (0..files.len()).collect::<Vec<_>>()
    );
    for target in [&*a, &*b] {
        let chunks = chunks_of(target, &secrets);
        assert_eq!(chunks.len() as u64, stored.gathered.chunks);
        for (index, ids) in &stored.entries {
            let whole: Vec<u8> = ids.iter().flat_map(|id| chunks[id].iter().copied()).collect();
            assert!(whole == files[*index], "file {index} differs");
        }
    }
    let raw: usize = files.iter().map(Vec::len).sum();
    assert!(stored.gathered.bytes < raw as u64 * 2 / 3, "the shifted copy is mostly the same chunks");
    assert!(
        stored.outcomes.iter().all(|outcomes| outcomes.len() > 5 && outcomes.iter().all(|o| *o == "stored"))
    );
}

#[test]
fn known_chunks_are_not_stored_again_and_threads_change_nothing() {
    let secrets = Arc::new(Secrets::generate().unwrap());
    let files = some_files();
    let (one, many) = (MemTarget::new("one"), MemTarget::new("many"));
    let first = store(&files, &Knows(HashSet::new()), &secrets, &[one.clone() as Arc<dyn Target>], 1);
    let again = store(&files, &Knows(HashSet::new()), &secrets, &[many.clone() as Arc<dyn Target>], 4);
    assert_eq!(first.entries, again.entries);
    assert_eq!(one.objects().len(), many.objects().len(), "the same packs, but for their salt");
    let known = Knows(first.entries.into_iter().flat_map(|(_, ids)| ids).collect());
    let third = store(&files, &known, &secrets, &[one.clone() as Arc<dyn Target>], 2);
    assert_eq!((third.gathered.chunks, third.outcomes), (0, vec![vec![]]));
}

/// A frame of so many chunks of one byte: as many tiny files make it.
fn tiny_chunks(first: u64, count: u32) -> CompressedFrame {
    let id = |number: u64| ChunkId::from_bytes(*blake3::hash(&number.to_le_bytes()).as_bytes());
    let chunks = (0..u64::from(count)).map(|number| (id(first + number), 1)).collect();
    CompressedFrame::uncompressed(RawFrame { chunks, data: vec![0; count as usize] })
}

#[test]
fn a_pack_of_many_tiny_chunks_is_full_before_no_segment_can_tell_of_it() {
    let sealing = Sealing {
        secrets: Arc::new(Secrets::generate().unwrap()),
        epoch: Epoch::FIRST,
        cipher: Cipher::None,
        intent: IntentId::from_bytes([3; 16]),
        pack_bytes: 64 << 20,
    };
    let (frames, work, packed) = ordered::<u64, Result<CompressedFrame>>(8, 1);
    for number in 0..6 {
        frames.submit(number).unwrap();
    }
    drop(frames);
    let mut chunks = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            while let Some((number, out)) = work.take() {
                let count = if number == 4 { FRAME_CHUNKS_MAX } else { 40_000 };
                out.send(Ok(tiny_chunks(number << 20, count))).unwrap();
            }
        });
        pack(packed, &sealing, |pack| {
            assert!(pack.toc.encode().len() <= CONTENTS_BYTES_MAX, "{} chunks", pack.toc.chunk_count());
            chunks.push(pack.toc.chunk_count());
            Ok(())
        })
        .unwrap();
    });
    assert_eq!(chunks, [80_000, 80_000, 105_536], "each takes what it can");
}

#[test]
fn a_target_that_dies_does_not_stop_the_other() {
    let secrets = Arc::new(Secrets::generate().unwrap());
    let (good, dying) = (MemTarget::new("good"), FaultTarget::new(MemTarget::new("dying")));
    dying.add(Rule::dies_after(2));
    let files = some_files();
    let stored = store(&files, &Knows(HashSet::new()), &secrets, &[dying.clone(), good.clone()], 2);
    assert_eq!(stored.outcomes[0][..4], ["stored", "stored", "failed", "skipped"]);
    assert!(stored.outcomes[1].iter().all(|outcome| *outcome == "stored"));
    assert_eq!(
        stored.outcomes[0].len(),
        stored.outcomes[1].len(),
        "each object is acknowledged by each target"
    );
    assert_eq!(chunks_of(&*good, &secrets).len() as u64, stored.gathered.chunks);
}

/// Does nothing but put, and that as it is told.
struct OnlyPuts<F>(F);

impl<F> std::fmt::Debug for OnlyPuts<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OnlyPuts")
    }
}

fn refused<T>() -> Result<T> {
    Err(Error::new(ErrorKind::Target, "nothing but put is there"))
}

impl<F: Fn() + Send + Sync> Target for OnlyPuts<F> {
    fn url(&self) -> &str {
        "only puts"
    }
    fn put(&self, _: &ObjectKey, _: &[&[u8]]) -> Result<()> {
        (self.0)();
        Ok(())
    }
    fn put_new(&self, key: &ObjectKey, parts: &[&[u8]]) -> Result<()> {
        self.put(key, parts)
    }
    fn get(&self, _: &ObjectKey) -> Result<Vec<u8>> {
        refused()
    }
    fn get_range(&self, _: &ObjectKey, _: u64, _: usize) -> Result<Vec<u8>> {
        refused()
    }
    fn length(&self, _: &ObjectKey) -> Result<Option<u64>> {
        refused()
    }
    fn list(&self, _: &str) -> Result<Vec<ObjectInfo>> {
        refused()
    }
    fn delete(&self, _: &ObjectKey) -> Result<()> {
        refused()
    }
    fn set_aside(&self, _: &ObjectKey) -> Result<ObjectKey> {
        refused()
    }
    fn put_back(&self, _: &ObjectKey, _: &ObjectKey) -> Result<()> {
        refused()
    }
}

#[test]
fn a_target_that_panics_has_failed_and_keeps_nobody_waiting() {
    let good = MemTarget::new("good");
    let targets: Vec<Arc<dyn Target>> = vec![Arc::new(OnlyPuts(|| panic!("a bug of this target"))), good];
    let outcomes = std::thread::scope(|scope| {
        let (mut uploaders, acknowledgements) = Uploaders::start(scope, &targets, 1);
        for tag in 0..4u32 {
            let key = ObjectKey::new(format!("packs/{tag}")).unwrap();
            uploaders.send(Upload { key, bytes: Arc::new(vec![0; 10]), tag });
        }
        drop(uploaders);
        acknowledgements.into_iter().map(|a| (a.target, a.outcome)).collect::<Vec<_>>()
    });
    let of = |index| outcomes.iter().filter(move |(target, _)| *target == index).map(|(_, outcome)| outcome);
    assert!(of(1).filter(|outcome| matches!(outcome, Outcome::Stored)).count() == 4);
    assert_eq!(of(0).count(), 4, "each object is acknowledged");
    let failed: Vec<_> = of(0)
        .filter_map(|outcome| match outcome {
            Outcome::Failed(error) => Some(error),
            _ => None,
        })
        .collect();
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0].kind(), ErrorKind::Target);
    assert!(failed[0].to_string().contains("a bug of this target"), "{}", failed[0]);
}

#[test]
fn a_slow_target_falls_behind_and_is_told_of() {
    let (release, stuck) = crossbeam_channel::bounded::<()>(0);
    let quick = MemTarget::new("quick");
    let put = move || {
        let _ = stuck.recv();
    };
    let targets: Vec<Arc<dyn Target>> = vec![Arc::new(OnlyPuts(put)), quick.clone()];
    std::thread::scope(|scope| {
        let (mut uploaders, acknowledgements) = Uploaders::start(scope, &targets, 1);
        uploaders.set_patience(std::time::Duration::from_millis(20));
        for tag in 0..6u32 {
            let key = ObjectKey::new(format!("packs/{tag}")).unwrap();
            uploaders.send(Upload { key, bytes: Arc::new(vec![0; 10]), tag });
        }
        drop((uploaders, release));
        let all: Vec<_> = acknowledgements.into_iter().collect();
        let stored = |target| {
            let stored = |a: &&super::upload::Acknowledgement<u32>| {
                a.target == target && matches!(a.outcome, Outcome::Stored)
            };
            all.iter().filter(stored).count()
        };
        assert_eq!(stored(1), 6, "the quick one holds everything");
        assert_eq!(stored(0), 2, "one in hand and one in the queue");
        assert_eq!(all.iter().filter(|a| matches!(a.outcome, Outcome::Lagging)).count(), 4);
    });
}
