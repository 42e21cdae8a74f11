//! What the catalog knows to be lost, and which entries of a snapshot suffer from it: the next backup reads them again.

use std::collections::HashSet;

use lsm::{Batch, Durability};

use crate::entry_key::EntryKey;
use crate::error::Result;
use crate::id::ChunkId;
use crate::version::Timeline;

use super::Catalog;
use super::row::{ChunkRow, PackRow};
use super::store::{self, PackNumber, bad_row, local};

/// Ids of lost chunks that are held at once: 16 GiB of chunks of 16 KiB. Where more is lost, whoever wants to know reads everything.
const LOST_CHUNKS_MAX: usize = 1 << 20;

/// Packs that no target has undamaged, as far as is known, and gaps in the writers' logs.
#[derive(Debug)]
pub struct Losses {
    /// Packs on which the next backup can build.
    good: HashSet<PackNumber>,
    is_any_pack_lost: bool,
    has_gaps: bool,
    /// The same for the same losses, as long as nobody else has written.
    fingerprint: [u8; 32],
}

impl Losses {
    /// Whether nothing is lost.
    pub fn is_none(&self) -> bool {
        !self.is_any_pack_lost && !self.has_gaps
    }
}

/// What of a snapshot suffers from losses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Suffering {
    /// These entries.
    Entries(HashSet<EntryKey>),
    /// So much is lost that it was not looked at entry by entry.
    Unknown,
}

impl Catalog {
    /// What is lost: looks at packs and logs alone. A pack that segments describe counts as lost if no target is known to hold it undamaged, or none that
    /// counts ([`Catalog::count_only`]); in a log there is a gap where a segment stands on one that was never read.
    ///
    /// # Errors
    /// Local.
    pub fn losses(&self) -> Result<Losses> {
        let mut losses =
            Losses { good: HashSet::new(), is_any_pack_lost: false, has_gaps: false, fingerprint: [0; 32] };
        let mut hasher = blake3::Hasher::new();
        for row in self.inner.spaces.packs.prefix(store::all_numbered()) {
            let (key, value) = row?;
            let number = key.last_chunk::<4>().ok_or_else(|| bad_row("packs", "its key is too short"))?;
            let pack = PackNumber(u32::from_be_bytes(*number));
            if !PackRow::decode(&value).map_err(local("packs"))?.is_logged {
                continue;
            }
            if self.with_usable(|usable| usable.has(pack))? {
                losses.good.insert(pack);
            } else {
                losses.is_any_pack_lost = true;
                hasher.update(number);
            }
        }
        for segment in self.segments()? {
            if segment.name.sequence.0 > 1 && self.segment_before(&segment)?.is_none() {
                losses.has_gaps = true;
                hasher.update(&store::segment(&segment.name));
            }
        }
        // Others may build on what only they can reach.
        let own = self.writer()?;
        for head in self.heads()?.iter().filter(|head| Some(head.writer) != own) {
            hasher.update(head.hash.as_bytes());
        }
        losses.fingerprint = *hasher.finalize().as_bytes();
        Ok(losses)
    }

    /// The entries of the newest snapshot of `timeline` some of whose chunks, or lists of chunks, are lost. If anything is, the whole chunk index and
    /// history are read, once: that nothing was found is noted ([`Catalog::note_unharmed`]).
    ///
    /// # Errors
    /// Local.
    pub fn suffering(&self, timeline: &Timeline, losses: &Losses) -> Result<Suffering> {
        let mut keys = HashSet::new();
        if losses.is_none() || self.is_unharmed(timeline, losses)? {
            return Ok(Suffering::Entries(keys));
        }
        let Some(chunks) = self.lost_chunks(losses)? else { return Ok(Suffering::Unknown) };
        self.references(&chunks, &mut |reference| {
            if reference.timeline == timeline.id && Some(reference.last) == timeline.head {
                keys.insert(reference.key);
            }
            Ok(())
        })?;
        Ok(Suffering::Entries(keys))
    }

    /// Chunks that are in lost packs only; `None` if they are too many to be held.
    fn lost_chunks(&self, losses: &Losses) -> Result<Option<HashSet<ChunkId>>> {
        let mut lost = HashSet::new();
        if !losses.is_any_pack_lost {
            return Ok(Some(lost));
        }
        // All places of a chunk are one behind the other.
        let mut stored = None;
        for row in self.inner.spaces.chunks.iter() {
            let (key, value) = row?;
            let id = key.first_chunk::<32>().ok_or_else(|| bad_row("chunks", "its key is too short"))?;
            let id = ChunkId::from_bytes(*id);
            if stored == Some(id) {
                continue;
            }
            let row = ChunkRow::decode(&value).map_err(local("chunks"))?;
            if losses.good.contains(&PackNumber(row.pack)) {
                lost.remove(&id);
                stored = Some(id);
            } else {
                lost.insert(id);
                if lost.len() > LOST_CHUNKS_MAX {
                    return Ok(None);
                }
            }
        }
        Ok(Some(lost))
    }

    pub(crate) fn is_unharmed(&self, timeline: &Timeline, losses: &Losses) -> Result<bool> {
        let Some(number) = self.timeline_number(timeline.id)? else { return Ok(true) };
        let noted = self.inner.spaces.meta.get(store::unharmed(number))?;
        Ok(noted.is_some_and(|noted| noted[..] == losses.fingerprint))
    }

    /// Notes that no entry of the newest snapshot of `timeline` suffers from `losses`. That stays so as long as nothing else is lost: what comes
    /// later builds on nothing that is lost.
    ///
    /// # Errors
    /// Local.
    pub fn note_unharmed(&self, timeline: &Timeline, losses: &Losses) -> Result<()> {
        let Some(number) = self.timeline_number(timeline.id)? else { return Ok(()) };
        let mut batch = Batch::new();
        batch.put(&self.inner.spaces.meta, store::unharmed(number), losses.fingerprint);
        self.commit(batch, Durability::System)
    }
}
