//! The packs that segments describe.

use std::collections::{BTreeMap, HashMap};

use crate::error::Result;
use crate::id::{ChunkId, ObjectHash};
use crate::pack::{ChunkEntry, FrameEntry, FramePlace, Toc};
use crate::segment::PackContents;

use super::Catalog;
use super::row::{ChunkRow, FrameRow, PackRow};
use super::store::{self, PackNumber, bad_row, local};

impl Catalog {
    pub(super) fn pack_number(&self, name: &ObjectHash) -> Result<Option<PackNumber>> {
        let Some(row) = self.inner.spaces.packs.get(store::pack_by_name(name))? else { return Ok(None) };
        let number = row.first_chunk::<4>().ok_or_else(|| bad_row("packs", "a number of four bytes"))?;
        Ok(Some(PackNumber(u32::from_be_bytes(*number))))
    }

    /// Every pack that a segment describes: its name and length, in the order in which this catalog learned of them.
    ///
    /// # Errors
    /// Local.
    pub fn packs(&self) -> Result<Vec<(ObjectHash, u64)>> {
        let rows = self.inner.spaces.packs.prefix(store::all_numbered());
        let mut packs = Vec::new();
        for row in rows {
            let row = PackRow::decode(&row?.1).map_err(local("packs"))?;
            if row.is_logged {
                packs.push((row.name, row.stored_bytes));
            }
        }
        Ok(packs)
    }

    /// What a pack holds, as far as its segment said, or it itself where the segment is lost.
    ///
    /// # Errors
    /// Local.
    pub fn pack(&self, name: ObjectHash) -> Result<Option<PackContents>> {
        Ok(self.packs_contents(&[name])?.pop())
    }

    /// What some packs hold: those that the catalog knows, in the order of its numbers. Reads the whole chunk index once: for healing and
    /// reports, not for restoring.
    ///
    /// # Errors
    /// Local.
    pub fn packs_contents(&self, names: &[ObjectHash]) -> Result<Vec<PackContents>> {
        let mut wanted: BTreeMap<PackNumber, PackRow> = BTreeMap::new();
        for name in names {
            if let Some(number) = self.pack_number(name)? {
                wanted.insert(number, self.pack_row(number)?);
            }
        }
        let mut chunks: HashMap<(u32, u32), Vec<(u32, ChunkEntry)>> = HashMap::new();
        if !wanted.is_empty() {
            let spaces = &self.inner.spaces;
            for row in spaces.chunks.iter().chain(spaces.elsewhere.iter()) {
                let (key, value) = row?;
                let row = ChunkRow::decode(&value).map_err(local("chunks"))?;
                if wanted.contains_key(&PackNumber(row.pack)) {
                    let id = key.first_chunk().ok_or_else(|| bad_row("elsewhere", "its key is too short"))?;
                    let entry = ChunkEntry { id: ChunkId::from_bytes(*id), length: row.length };
                    chunks.entry((row.pack, row.frame)).or_default().push((row.index, entry));
                }
            }
        }
        let mut contents = Vec::new();
        for (number, pack) in wanted {
            let mut frames = Vec::new();
            for row in self.inner.spaces.frames.prefix(number.0.to_be_bytes()) {
                let (key, value) = row?;
                let frame = key.last_chunk::<4>().map(|bytes| u32::from_be_bytes(*bytes)).unwrap_or_default();
                let row = FrameRow::decode(&value).map_err(local("frames"))?;
                let mut inside = chunks.remove(&(number.0, frame)).unwrap_or_default();
                inside.sort_by_key(|(index, _)| *index);
                frames.push(FrameEntry {
                    place: FramePlace { number: frame, offset: row.offset, stored_bytes: row.stored_bytes },
                    raw_bytes: row.raw_bytes,
                    chunks: inside.into_iter().map(|(_, entry)| entry).collect(),
                });
            }
            let toc = Toc { frames };
            contents.push(PackContents { name: pack.name, stored_bytes: pack.stored_bytes, toc });
        }
        Ok(contents)
    }
}
