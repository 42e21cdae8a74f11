//! A repository in memory, filled by a walk.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use crate::catalog::{ChunkPlace, ChunkSpan};
use crate::chunk::{Cutter, Hasher};
use crate::entry_key::EntryKey;
use crate::error::{Error, Result};
use crate::frame::{Builder, Compressor, DecodedFrame, Decompressor, RawFrame};
use crate::id::{ChunkId, FileId, IntentId, ObjectHash, VersionId};
use crate::metadata::Kind;
use crate::metadata::unix::Owners;
use crate::monitor::{Event, Fault, Monitor};
use crate::pack::{FramePlace, Reader, Writer};
use crate::restore::{Entries, RestoreSource, Spans};
use crate::seal::Cipher;
use crate::secret::Epoch;
use crate::source::{Rules, Step, Walk};
use crate::testing::{secrets, small_cutter};
use crate::version::{Contents, Marks, SnapshotNumber, Version};

/// What was backed up, and the packs it is in.
pub(super) struct Store {
    pub(super) entries: Vec<(EntryKey, Version)>,
    chunks: BTreeMap<ChunkId, (u32, Vec<ChunkPlace>)>,
    packs: HashMap<ObjectHash, Vec<u8>>,
    lost: BTreeSet<(ObjectHash, u64)>,
    hasher: Hasher,
    reads: AtomicU64,
}

struct Filler {
    builder: Builder,
    compressor: Compressor,
    writer: Option<Writer>,
    done: Vec<Vec<u8>>,
}

impl Filler {
    fn new() -> Self {
        Self { builder: Builder::new(4096), compressor: Compressor::new(), writer: None, done: Vec::new() }
    }

    fn frame(&mut self, raw: RawFrame) {
        let frame = self.compressor.compress(raw, 3).unwrap();
        let writer = self.writer.get_or_insert_with(|| {
            let intent = IntentId::from_bytes([7; 16]);
            Writer::new(&secrets(), Epoch::FIRST, Cipher::ChaCha20Poly1305, intent, Vec::new()).unwrap()
        });
        writer.add(&frame).unwrap();
        if writer.stored_bytes() > 60_000 {
            self.done.push(self.writer.take().unwrap().finish().bytes);
        }
    }

    fn add(&mut self, id: ChunkId, bytes: &[u8]) {
        if let Some(raw) = self.builder.add(id, bytes) {
            self.frame(raw);
        }
    }

    fn finish(mut self) -> Vec<Vec<u8>> {
        if let Some(raw) = self.builder.take() {
            self.frame(raw);
        }
        self.done.extend(self.writer.take().map(|writer| writer.finish().bytes));
        self.done
    }
}

fn contents_of(
    cutter: &Cutter,
    hasher: &Hasher,
    bytes: &[u8],
    mut add: impl FnMut(ChunkId, &[u8]),
) -> Contents {
    let mut ids = Vec::new();
    for chunk in cutter.chunks(bytes) {
        let id = hasher.id(chunk);
        add(id, chunk);
        ids.push(id);
    }
    if ids.is_empty() { Contents::None } else { Contents::Inline(ids) }
}

impl Store {
    /// What is at `root` now.
    pub(super) fn of(root: &Path) -> Self {
        let (cutter, hasher, owners) = (small_cutter(), Hasher::new(&secrets()), Owners::default());
        let mut store = Self {
            entries: Vec::new(),
            chunks: BTreeMap::new(),
            packs: HashMap::new(),
            lost: BTreeSet::new(),
            hasher: Hasher::new(&secrets()),
            reads: AtomicU64::new(0),
        };
        let mut filler = Filler::new();
        for step in Walk::new(&[root.to_owned()], Rules::none()).unwrap() {
            let Step::Entry(entry) = step else { panic!("{step:?}") };
            let mut contents = Contents::None;
            let captured = if entry.stat().kind == Kind::File {
                let mut file = entry.open().unwrap();
                let mut captured = file.capture(&owners).unwrap();
                let (mut bytes, mut buffer) = (Vec::new(), vec![0; 1 << 16]);
                while let count @ 1.. = file.read(&mut buffer).unwrap() {
                    bytes.extend_from_slice(&buffer[..count]);
                }
                let outcome = file.finish().unwrap();
                assert!(!outcome.changed);
                outcome.complete(&mut captured.metadata);
                contents = contents_of(&cutter, &hasher, &bytes, |id, bytes| {
                    let length = u32::try_from(bytes.len()).unwrap();
                    if store.chunks.insert(id, (length, Vec::new())).is_none() {
                        filler.add(id, bytes);
                    }
                });
                captured
            } else {
                entry.capture(&owners).unwrap()
            };
            let version = Version {
                id: VersionId::from_bytes([1; 16]),
                file: FileId::from_bytes([2; 16]),
                birth: SnapshotNumber(1),
                marks: Marks::NONE,
                metadata: captured.metadata,
                contents,
            };
            store.entries.push((entry.key().clone(), version));
        }
        for bytes in filler.finish() {
            store.add_pack(bytes);
        }
        store
    }

    fn add_pack(&mut self, bytes: Vec<u8>) {
        let secrets = secrets();
        let name = ObjectHash::of(&[&bytes]);
        let reader = Reader::open(bytes.as_slice(), &secrets).unwrap();
        for frame in reader.toc(&mut Decompressor::new()).unwrap().toc.frames {
            let mut raw_offset = 0;
            for (index, chunk) in frame.chunks.iter().enumerate() {
                let place = ChunkPlace {
                    pack: name,
                    frame: frame.place,
                    index: u32::try_from(index).unwrap(),
                    raw_offset,
                    length: chunk.length,
                    usable: true,
                };
                raw_offset += chunk.length;
                self.chunks.entry(chunk.id).or_insert((chunk.length, Vec::new())).1.push(place);
            }
        }
        self.packs.insert(name, bytes);
    }

    /// Stores every chunk a second time, in other frames.
    pub(super) fn store_all_again(&mut self) {
        let mut filler = Filler::new();
        let places: Vec<(ChunkId, ChunkPlace)> =
            self.chunks.iter().map(|(id, (_, places))| (*id, places[0])).collect();
        for (id, place) in places {
            let frame = self.frame(&place.pack, &place.frame, &mut Decompressor::new()).unwrap();
            filler.add(id, frame.bytes(place.index as usize).unwrap());
        }
        for bytes in filler.finish() {
            self.add_pack(bytes);
        }
    }

    pub(super) fn version(&self, path: &Path) -> &Version {
        let key = EntryKey::from_path(path).unwrap();
        &self.entries.iter().find(|(other, _)| *other == key).unwrap().1
    }

    pub(super) fn chunks_of(&self, version: &Version) -> Vec<ChunkId> {
        match &version.contents {
            Contents::Inline(ids) => ids.clone(),
            _ => Vec::new(),
        }
    }

    /// Makes every frame unreadable that holds a chunk.
    pub(super) fn lose(&mut self, id: &ChunkId) {
        for place in &self.chunks[id].1 {
            self.lost.insert((place.pack, place.frame.offset));
        }
    }

    pub(super) fn lose_first_place(&mut self, id: &ChunkId) {
        let place = self.chunks[id].1[0];
        self.lost.insert((place.pack, place.frame.offset));
    }

    pub(super) fn frames_read(&self) -> u64 {
        self.reads.load(Ordering::Relaxed)
    }

    pub(super) fn frame_count(&self) -> u64 {
        let frames: BTreeSet<(ObjectHash, u64)> = self
            .chunks
            .values()
            .flat_map(|(_, places)| places)
            .map(|place| (place.pack, place.frame.offset))
            .collect();
        frames.len() as u64
    }
}

impl RestoreSource for Store {
    fn entries(&self) -> Result<Entries<'_>> {
        Ok(Box::new(self.entries.iter().cloned().map(Ok)))
    }

    fn spans(&self, contents: &Contents) -> Result<Spans<'_>> {
        let ids = match contents {
            Contents::Inline(ids) => ids.clone(),
            _ => Vec::new(),
        };
        let mut offset = 0;
        Ok(Box::new(ids.into_iter().map(move |id| {
            let (length, places) = self.chunks[&id].clone();
            offset += u64::from(length);
            Ok(ChunkSpan { id, offset: offset - u64::from(length), length, places })
        })))
    }

    fn frame(
        &self,
        pack: &ObjectHash,
        frame: &FramePlace,
        decompressor: &mut Decompressor,
    ) -> Result<DecodedFrame> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        if self.lost.contains(&(*pack, frame.offset)) {
            return Err(Error::damage("a test lost this frame"));
        }
        Reader::open(self.packs[pack].as_slice(), &secrets())?.read_frame(frame, decompressor)
    }

    fn hasher(&self) -> &Hasher {
        &self.hasher
    }
}

/// A monitor that asks to stop when it has been asked so many times.
pub(super) struct StopAfter(AtomicI64);

impl StopAfter {
    pub(super) fn new(questions: i64) -> Self {
        Self(AtomicI64::new(questions))
    }
}

impl Monitor for StopAfter {
    fn fault(&self, fault: Fault) {
        panic!("{fault:?}");
    }

    fn event(&self, _event: Event<'_>) {}

    fn cancelled(&self) -> bool {
        self.0.fetch_sub(1, Ordering::Relaxed) <= 0
    }
}

/// A file system of its own, half a MiB large; gone when dropped.
pub(super) struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts one, if that is allowed here.
    pub(super) fn at(path: &Path) -> Option<Self> {
        let mount =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=512k", "none"]).arg(path).output().ok()?;
        mount.status.success().then(|| Self(path.to_owned()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
        let _ = fs::remove_dir(&self.0);
    }
}
