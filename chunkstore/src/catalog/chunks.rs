//! The chunk index: where each chunk is stored, looked up in batches.
//!
//! A chunk's first place stands under its id in a keyspace of fixed widths, where a batch of ids costs little more than the waits for memory, and filters
//! answer for ids that are not there. Further places (a chunk that was stored again), of which there are few or none, stand in one of their own.

use std::collections::HashMap;

use crate::error::Result;
use crate::id::{ChunkId, ObjectHash};
use crate::pack::FramePlace;

use super::Catalog;
use super::holdings::UsablePacks;
use super::row::{ChunkRow, FrameRow, PackRow};
use super::store::{self, PackNumber, bad_row, local};

/// Where a chunk is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkPlace {
    /// The pack.
    pub pack: ObjectHash,
    /// The frame in it.
    pub frame: FramePlace,
    /// The chunk's place among the frame's chunks, from zero.
    pub index: u32,
    /// Where it begins in the decoded frame, in bytes.
    pub raw_offset: u32,
    /// Its length in bytes.
    pub length: u32,
    /// Whether a target (that counts, see [`Catalog::count_only`]) is known to hold the pack, not known to be damaged.
    pub usable: bool,
}

/// How many rows of packs and frames are remembered.
const CACHE_ROWS_MAX: usize = 1 << 14;

/// Rows of packs and frames that were read last. A restore asks for thousands of chunks of the same frame one after the other.
#[derive(Debug, Default)]
pub(super) struct PackCache {
    packs: HashMap<PackNumber, PackRow>,
    frames: HashMap<(PackNumber, u32), FrameRow>,
}

impl PackCache {
    /// A pack's row is about to change.
    pub(super) fn forget(&mut self, pack: PackNumber) {
        self.packs.remove(&pack);
    }
}

impl Catalog {
    pub(super) fn pack_row(&self, number: PackNumber) -> Result<PackRow> {
        if let Some(row) = self.inner.pack_cache.lock().packs.get(&number) {
            return Ok(*row);
        }
        let row = self.inner.spaces.packs.get(store::numbered(number.0))?;
        let row = row.ok_or_else(|| bad_row("packs", &format!("number {} is missing", number.0)))?;
        let row = PackRow::decode(&row).map_err(local("packs"))?;
        let mut cache = self.inner.pack_cache.lock();
        if cache.packs.len() >= CACHE_ROWS_MAX {
            cache.packs.clear();
        }
        cache.packs.insert(number, row);
        Ok(row)
    }

    fn frame_row(&self, pack: PackNumber, frame: u32) -> Result<FrameRow> {
        if let Some(row) = self.inner.pack_cache.lock().frames.get(&(pack, frame)) {
            return Ok(*row);
        }
        let row = self.inner.spaces.frames.get(store::frame(pack, frame))?;
        let row = row.ok_or_else(|| bad_row("frames", &format!("{frame} of pack {} is missing", pack.0)))?;
        let row = FrameRow::decode(&row).map_err(local("frames"))?;
        let mut cache = self.inner.pack_cache.lock();
        if cache.frames.len() >= CACHE_ROWS_MAX {
            cache.frames.clear();
        }
        cache.frames.insert((pack, frame), row);
        Ok(row)
    }

    /// For each id the place that was known first.
    pub(super) fn first_places(&self, ids: &[ChunkId]) -> Result<Vec<Option<ChunkRow>>> {
        let keys: Vec<_> = ids.iter().map(store::chunk).collect();
        let mut rows = vec![None; ids.len()];
        let mut bad = None;
        self.inner.spaces.chunks.multi_get_with(&keys, |index, value| {
            match (value.map(ChunkRow::decode).transpose(), rows.get_mut(index)) {
                (Ok(row), Some(place)) => *place = row,
                (Ok(_), None) => {}
                (Err(error), _) => bad = Some(error),
            }
        })?;
        bad.map_or(Ok(rows), |error| Err(local("chunks")(error)))
    }

    /// The other places of a chunk that has a first one.
    fn further_places(&self, id: &ChunkId) -> impl Iterator<Item = Result<ChunkRow>> + use<> {
        let rows = self.inner.spaces.elsewhere.prefix(store::all_elsewhere(id));
        rows.map(|row| ChunkRow::decode(&row?.1).map_err(local("elsewhere")))
    }

    /// For each id whether it need not be stored: a pack that holds it and that a segment describes is on at least one target and not known
    /// to be damaged there.
    ///
    /// # Errors
    /// Local.
    pub fn known(&self, ids: &[ChunkId]) -> Result<Vec<bool>> {
        let first = self.first_places(ids)?;
        let mut known = Vec::with_capacity(ids.len());
        // What was stored together is asked for together.
        let mut last = None;
        for (id, row) in ids.iter().zip(first) {
            let Some(row) = row else {
                known.push(false);
                continue;
            };
            let mut is_known = match last {
                Some((pack, is_known)) if pack == row.pack => is_known,
                _ => self.may_be_built_on(PackNumber(row.pack))?,
            };
            last = Some((row.pack, is_known));
            if !is_known {
                for row in self.further_places(id) {
                    is_known |= self.may_be_built_on(PackNumber(row?.pack))?;
                }
            }
            known.push(is_known);
        }
        Ok(known)
    }

    fn may_be_built_on(&self, pack: PackNumber) -> Result<bool> {
        Ok(self.is_usable(pack)? && self.pack_row(pack)?.is_logged)
    }

    fn is_usable(&self, pack: PackNumber) -> Result<bool> {
        self.with_usable(|usable: &mut UsablePacks| usable.has(pack))
    }

    /// For each id every place that holds it, those in usable packs first.
    ///
    /// # Errors
    /// Local.
    pub fn places(&self, ids: &[ChunkId]) -> Result<Vec<Vec<ChunkPlace>>> {
        let first = self.first_places(ids)?;
        let has_further = self.inner.spaces.elsewhere.iter().next().transpose()?.is_some();
        let all_of = |(id, first): (&ChunkId, Option<ChunkRow>)| {
            let Some(first) = first else { return Ok(Vec::new()) };
            let mut places = vec![self.place_of_row(&first)?];
            if has_further {
                for row in self.further_places(id) {
                    places.push(self.place_of_row(&row?)?);
                }
                places.sort_by_key(|place: &ChunkPlace| !place.usable);
            }
            Ok(places)
        };
        ids.iter().zip(first).map(all_of).collect()
    }

    fn place_of_row(&self, row: &ChunkRow) -> Result<ChunkPlace> {
        let pack = PackNumber(row.pack);
        let frame = self.frame_row(pack, row.frame)?;
        Ok(ChunkPlace {
            pack: self.pack_row(pack)?.name,
            frame: FramePlace { number: row.frame, offset: frame.offset, stored_bytes: frame.stored_bytes },
            index: row.index,
            raw_offset: row.raw_offset,
            length: row.length,
            usable: self.is_usable(pack)?,
        })
    }

    /// The length of a chunk, if any segment told it.
    pub(super) fn chunk_length(&self, id: &ChunkId) -> Result<Option<u32>> {
        let row = self.inner.spaces.chunks.get_with(store::chunk(id), ChunkRow::decode)?;
        Ok(row.transpose().map_err(local("chunks"))?.map(|row| row.length))
    }
}
