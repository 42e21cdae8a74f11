//! Looking chunks up, and gathering those that are new into frames: the one place that decides what is stored.
//!
//! A chunk is stored unless the catalog knows it on a target, or this run has gathered it already ([`Pending`]). Lookups go in
//! batches, as a batch of the reading stage brings them. Frames are filled in the order of the walk, so that small files of one
//! directory are compressed together.

use std::collections::HashSet;

use parking_lot::Mutex;

use crate::error::Result;
use crate::frame::{Builder, CompressedFrame, RawFrame};
use crate::id::ChunkId;
use crate::pipeline::order::Submitter;
use crate::pipeline::read::{Batch, Event, stopped};

/// Who knows which chunks are stored already.
pub(crate) trait KnownChunks: Sync {
    /// For each id, whether some target holds it, as far as is known, whole.
    fn known(&self, ids: &[ChunkId]) -> Result<Vec<bool>>;
}

/// Chunks that this run has gathered and the catalog does not know yet.
///
/// The committer takes ids out when the catalog has learned them, so the set stays as small as what is between two index pieces.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    ids: Mutex<HashSet<ChunkId>>,
}

impl Pending {
    /// Forgets chunks that the catalog knows by now.
    pub(crate) fn settled<'a>(&self, ids: impl Iterator<Item = &'a ChunkId>) {
        let mut pending = self.ids.lock();
        for id in ids {
            pending.remove(id);
        }
    }
}

/// What was gathered so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Gathered {
    /// Chunks that were new.
    pub(crate) chunks: u64,
    /// Their bytes.
    pub(crate) bytes: u64,
}

/// Fills frames with the chunks that are new, and hands each entry on with the ids of all its chunks.
pub(crate) struct Gatherer<'a> {
    known: &'a dyn KnownChunks,
    pending: &'a Pending,
    frames: Option<Submitter<RawFrame, Result<CompressedFrame>>>,
    builder: Builder,
    gathered: Gathered,
}

impl<'a> Gatherer<'a> {
    /// A gatherer whose frames go to `frames`; to nowhere (a dry run) if there is none.
    pub(crate) fn new(
        known: &'a dyn KnownChunks,
        pending: &'a Pending,
        frames: Option<Submitter<RawFrame, Result<CompressedFrame>>>,
        frame_bytes: u32,
    ) -> Self {
        Self { known, pending, frames, builder: Builder::new(frame_bytes), gathered: Gathered::default() }
    }

    /// Takes a batch: `chunk` sees each id in order, `end` each entry when its last chunk has been seen.
    ///
    /// # Errors
    /// The catalog's, `end`'s, or cancelled if the compressors stopped.
    pub(crate) fn batch<E>(
        &mut self,
        batch: Batch<E>,
        mut chunk: impl FnMut(ChunkId) -> Result<()>,
        mut end: impl FnMut(E) -> Result<()>,
    ) -> Result<()> {
        let ids: Vec<ChunkId> = batch
            .events
            .iter()
            .filter_map(|event| match event {
                Event::Chunk { id, .. } => Some(*id),
                Event::End(_) => None,
            })
            .collect();
        let known = if ids.is_empty() { Vec::new() } else { self.known.known(&ids)? };
        let mut known = known.into_iter();
        let mut rest = batch.data.as_slice();
        for event in batch.events {
            match event {
                Event::Chunk { id, length } => {
                    let (bytes, behind) = rest.split_at_checked(length).unwrap_or((rest, &[]));
                    assert!(bytes.len() == length, "a batch's events claim more bytes than it holds");
                    rest = behind;
                    if !known.next().unwrap_or(false) && self.pending.ids.lock().insert(id) {
                        self.store(id, bytes)?;
                    }
                    chunk(id)?;
                }
                Event::End(entry) => end(entry)?,
            }
        }
        Ok(())
    }

    fn store(&mut self, id: ChunkId, bytes: &[u8]) -> Result<()> {
        self.gathered.chunks += 1;
        self.gathered.bytes += bytes.len() as u64;
        if self.frames.is_none() {
            return Ok(());
        }
        match self.builder.add(id, bytes) {
            Some(full) => self.submit(full),
            None => Ok(()),
        }
    }

    fn submit(&self, frame: RawFrame) -> Result<()> {
        match &self.frames {
            Some(frames) => frames.submit(frame).map_err(|_| stopped()),
            None => Ok(()),
        }
    }

    /// Hands on the last frame; the compressors end when they have done it.
    ///
    /// # Errors
    /// Cancelled if the compressors stopped.
    pub(crate) fn finish(mut self) -> Result<Gathered> {
        if let Some(last) = self.builder.take() {
            self.submit(last)?;
        }
        Ok(self.gathered)
    }
}
