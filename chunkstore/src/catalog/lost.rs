//! What the catalog knows to be lost, and which entries of a snapshot suffer from it: the next backup reads them again.

use std::collections::{HashMap, HashSet};

use lsm::{Batch, Durability};

use crate::entry_key::{EntryKey, KeyRange};
use crate::error::Result;
use crate::id::{ChunkId, ListId, ObjectHash};
use crate::segment::ListNode;
use crate::version::{Contents, Timeline};

use super::Catalog;
use super::row::PackRow;
use super::store::{self, PackNumber, bad_row, local, meta};

/// Entries that are held at once. Where more suffer, whoever wants to know reads everything.
const ENTRIES_MAX: usize = 1 << 20;
/// Chunks that are looked up together.
const LOOKUP_CHUNKS: usize = 4096;

/// Packs on which the next backup cannot build, and gaps in the writers' logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Losses {
    is_none: bool,
    /// The same for the same losses, as long as nobody else has written.
    fingerprint: [u8; 32],
}

impl Losses {
    /// Whether nothing is lost.
    pub fn is_none(&self) -> bool {
        self.is_none
    }
}

/// What of a snapshot suffers from losses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Suffering {
    /// These entries.
    Entries(HashSet<EntryKey>),
    /// So many that they were not gathered.
    Many,
}

impl Catalog {
    /// What is lost: looks at packs and logs alone. A pack counts as lost if no segment describes it, or no target is known to hold it undamaged, or none
    /// that counts ([`Catalog::count_only`]); in a log there is a gap where a segment stands on one that was never read.
    ///
    /// # Errors
    /// Local.
    pub fn losses(&self) -> Result<Losses> {
        let mut is_none = true;
        let mut hasher = blake3::Hasher::new();
        for row in self.inner.spaces.packs.prefix(store::all_numbered()) {
            let (key, value) = row?;
            let number = key.last_chunk::<4>().ok_or_else(|| bad_row("packs", "its key is too short"))?;
            let pack = PackNumber(u32::from_be_bytes(*number));
            let is_logged = PackRow::decode(&value).map_err(local("packs"))?.is_logged;
            if !is_logged || !self.with_usable(|usable| usable.has(pack))? {
                is_none = false;
                hasher.update(number);
            }
        }
        for segment in self.segments()? {
            if segment.name.sequence.0 > 1 && self.segment_before(&segment)?.is_none() {
                is_none = false;
                hasher.update(&store::segment(&segment.name));
            }
        }
        if !is_none {
            // Others may build on what only they can reach.
            let own = self.writer()?;
            for head in self.heads()?.iter().filter(|head| Some(head.writer) != own) {
                hasher.update(head.hash.as_bytes());
            }
        }
        Ok(Losses { is_none, fingerprint: *hasher.finalize().as_bytes() })
    }

    /// The packs that no segment describes and that were asked themselves: their segment is lost.
    ///
    /// # Errors
    /// Local.
    pub fn unlogged_packs(&self) -> Result<HashSet<ObjectHash>> {
        let mut names = HashSet::new();
        for row in self.inner.spaces.packs.prefix(store::all_numbered()) {
            let row = PackRow::decode(&row?.1).map_err(local("packs"))?;
            names.extend((!row.is_logged).then_some(row.name));
        }
        Ok(names)
    }

    /// The entries of the newest snapshot of `timeline` whose contents are not all where a backup can build on them: a list of their chunks is not known, or
    /// a chunk is in no pack, or only in lost ones. Walks the snapshot with all its chunks, if anything is lost or the catalog was made again
    /// from a target, and nobody has noted ([`Catalog::note_unharmed`]) that nothing was found.
    ///
    /// # Errors
    /// Local.
    pub fn suffering(&self, timeline: &Timeline, losses: &Losses) -> Result<Suffering> {
        let (Some(number), Some(head)) = (self.timeline_number(timeline.id)?, timeline.head) else {
            return Ok(Suffering::Entries(HashSet::new()));
        };
        if self.is_unharmed(timeline, losses)? {
            return Ok(Suffering::Entries(HashSet::new()));
        }
        let mut walk = Walk::new(self);
        let mut state = self.state_in(number, head, &KeyRange::all());
        while let Some((key, _, row)) = state.next_row()? {
            walk.entry(key, &row.contents)?;
            if walk.suffering.len() > ENTRIES_MAX {
                return Ok(Suffering::Many);
            }
        }
        walk.look_up()?;
        Ok(Suffering::Entries(walk.suffering))
    }

    /// Whether it is known that the newest snapshot of a timeline does not suffer from `losses`.
    pub(crate) fn is_unharmed(&self, timeline: &Timeline, losses: &Losses) -> Result<bool> {
        if losses.is_none && !self.inner.spaces.meta.contains(meta::MADE_AGAIN)? {
            return Ok(true);
        }
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
        if self.is_unharmed(timeline, losses)? {
            return Ok(());
        }
        let mut batch = Batch::new();
        batch.put(&self.inner.spaces.meta, store::unharmed(number), losses.fingerprint);
        self.commit(batch, Durability::System)
    }
}

/// A walk through the contents of a snapshot's entries.
struct Walk<'a> {
    catalog: &'a Catalog,
    suffering: HashSet<EntryKey>,
    /// Lists that were walked: whether something of them is lost.
    lists: HashMap<ListId, bool>,
    /// Chunks to be looked up, and the entry that each is of.
    waiting: Vec<(ChunkId, usize)>,
    entries: Vec<EntryKey>,
}

impl<'a> Walk<'a> {
    fn new(catalog: &'a Catalog) -> Self {
        Self {
            catalog,
            suffering: HashSet::new(),
            lists: HashMap::new(),
            waiting: Vec::new(),
            entries: Vec::new(),
        }
    }

    fn entry(&mut self, key: EntryKey, contents: &Contents) -> Result<()> {
        match contents {
            Contents::None => {}
            Contents::Inline(ids) => {
                let place = self.entries.len();
                self.waiting.extend(ids.iter().map(|id| (*id, place)));
                self.entries.push(key);
                if self.waiting.len() >= LOOKUP_CHUNKS {
                    self.look_up()?;
                }
            }
            Contents::List { id, .. } => {
                if self.list(id)? {
                    self.suffering.insert(key);
                }
            }
        }
        Ok(())
    }

    /// Whether something below a list is lost, the list itself included.
    fn list(&mut self, id: &ListId) -> Result<bool> {
        if let Some(lost) = self.lists.get(id) {
            return Ok(*lost);
        }
        let lost = match self.catalog.list_if_known(id)? {
            None => true,
            Some(ListNode::Chunks(ids)) => self.catalog.known(&ids)?.contains(&false),
            // A list's level is one above that of the lists in it, seven at most: this ends.
            Some(ListNode::Lists { lists, .. }) => {
                let mut lost = false;
                for (id, _) in &lists {
                    lost |= self.list(id)?;
                }
                lost
            }
        };
        self.lists.insert(*id, lost);
        Ok(lost)
    }

    fn look_up(&mut self) -> Result<()> {
        let ids: Vec<ChunkId> = self.waiting.iter().map(|(id, _)| *id).collect();
        let known = self.catalog.known(&ids)?;
        for ((_, place), known) in self.waiting.drain(..).zip(known) {
            if let (false, Some(key)) = (known, self.entries.get(place)) {
                self.suffering.insert(key.clone());
            }
        }
        self.entries.clear();
        Ok(())
    }
}
