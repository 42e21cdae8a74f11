//! Applying index parts: which packs there are, and which chunk is where in them.

use lsm::{Batch, Durability};

use crate::error::{Error, Result};
use crate::segment::{PackContents, Segment};

use super::Catalog;
use super::row::{ChunkRow, FrameRow, PackRow};
use super::store::{self, PackNumber, bad_row};
use super::writers::SegmentInfo;

impl Catalog {
    /// Applies an index part, and notes that the segment was read.
    pub(super) fn apply_index(&self, segment: &Segment) -> Result<()> {
        if self.has_segment(&segment.name)? {
            return Ok(());
        }
        let packs = segment.packs(&self.inner.segment_keys)?;
        let _guard = self.inner.change.lock();
        let mut batch = Batch::new();
        for pack in &packs {
            let is_new = self.pack_number(&pack.name)?.is_none();
            let number = self.apply_pack(pack, true, &mut batch)?;
            // The next pack must see this one: its number, and the first places of its chunks.
            self.commit(std::mem::take(&mut batch), Durability::System)?;
            if is_new {
                self.count_usable(number, &pack.name)?;
            }
        }
        let info = SegmentInfo::of(segment);
        batch.put(&self.inner.spaces.writers, store::segment(&segment.name), info.encode());
        if info.flags.commits {
            batch.put(&self.inner.spaces.meta, store::waiting(&segment.name), []);
        }
        self.commit(batch, Durability::System)?;
        Ok(())
    }

    pub(super) fn next_number(&self, keyspace: &lsm::Keyspace) -> Result<u32> {
        match keyspace.prefix(store::all_numbered()).next_back() {
            None => Ok(0),
            Some(row) => {
                let (key, _) = row?;
                let last = key.last_chunk::<4>().map(|bytes| u32::from_be_bytes(*bytes));
                last.and_then(|last| last.checked_add(1))
                    .ok_or_else(|| bad_row(keyspace.name(), "no number is left"))
            }
        }
    }

    /// Takes in what a pack says of itself, for the segment that described it is lost: it can be read from then on, but nothing new is built
    /// on it, as no log keeps it from being cleared away.
    pub(super) fn apply_unlogged_pack(&self, pack: &PackContents) -> Result<()> {
        let _guard = self.inner.change.lock();
        if self.pack_number(&pack.name)?.is_some() {
            return Ok(());
        }
        let mut batch = Batch::new();
        let number = self.apply_pack(pack, false, &mut batch)?;
        self.commit(batch, Durability::System)?;
        self.count_usable(number, &pack.name)
    }

    fn apply_pack(&self, pack: &PackContents, is_logged: bool, batch: &mut Batch) -> Result<PackNumber> {
        let spaces = &self.inner.spaces;
        let number = match self.pack_number(&pack.name)? {
            Some(number) => number,
            None => PackNumber(self.next_number(&spaces.packs)?),
        };
        let frame_count = u32::try_from(pack.toc.frames.len())
            .map_err(|_| Error::damage(format!("pack {}: too many frames", pack.name)))?;
        let row = PackRow {
            name: pack.name,
            is_logged,
            stored_bytes: pack.stored_bytes,
            frame_count,
            chunk_count: pack.toc.chunk_count() as u64,
            raw_bytes: pack.toc.raw_bytes(),
        };
        self.inner.pack_cache.lock().forget(number);
        batch.put(&spaces.packs, store::numbered(number.0), row.encode());
        batch.put(&spaces.packs, store::pack_by_name(&pack.name), number.0.to_be_bytes());
        let ids: Vec<_> = pack.toc.frames.iter().flat_map(|f| f.chunks.iter().map(|c| c.id)).collect();
        let mut first = self.first_places(&ids)?.into_iter();
        for frame in &pack.toc.frames {
            let place = frame.place;
            let row = FrameRow {
                offset: place.offset,
                stored_bytes: place.stored_bytes,
                raw_bytes: frame.raw_bytes,
            };
            batch.put(&spaces.frames, store::frame(number, place.number), row.encode());
            let mut raw_offset = 0u32;
            for (index, chunk) in frame.chunks.iter().enumerate() {
                let too_long = || Error::damage(format!("pack {}: a frame is too long", pack.name));
                let row = ChunkRow {
                    pack: number.0,
                    frame: place.number,
                    index: u32::try_from(index).map_err(|_| too_long())?,
                    raw_offset,
                    length: chunk.length,
                };
                raw_offset = raw_offset.checked_add(chunk.length).ok_or_else(too_long)?;
                match first.next().flatten() {
                    Some(other) if other.pack != number.0 => {
                        let key = store::chunk_elsewhere(&chunk.id, number);
                        batch.put(&spaces.elsewhere, key, row.encode());
                    }
                    _ => batch.put(&spaces.chunks, store::chunk(&chunk.id), row.encode()),
                }
            }
        }
        Ok(number)
    }
}
