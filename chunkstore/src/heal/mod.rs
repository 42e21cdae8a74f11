//! `verify --heal`: each damaged or missing object gets a good one in its place.
//!
//! Healing only adds. A good copy is looked for on the sister targets, among what this client has itself, among what was set aside,
//! in what follows from the rest (a config that is in memory, a mark whose segment is there), and by joining several damaged copies (`splice`). It is
//! checked before it is used. What stands in its place is set aside, durably; the good one is put, durably, and read back; then what was set
//! aside goes. The power may go at any point: the object is the old one, the new one, or absent with the old one aside, and the
//! next healing goes on from there.
//!
//! Of a pack that is good nowhere the chunks that can still be read are rescued into a new one (`salvage`), and what is lost is
//! named: chunks, Versions, ranges of bytes.

mod losses;
mod mend;
mod salvage;
mod splice;

#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::fmt;

use crate::catalog::Reference;
use crate::error::Result;
use crate::id::{ChunkId, ObjectHash};
use crate::monitor::Monitor;
use crate::repository::layout::ObjectName;
use crate::verify::{Holdings, Survey, VerifyReport};

pub(crate) use losses::losses;
pub(crate) use mend::{Mend, mend};

/// Gives the bytes of an object that this client has besides its targets: a segment in its outbox.
pub type LocalCopies<'a> = dyn Fn(&ObjectName) -> Result<Option<Vec<u8>>> + 'a;

/// What helps to heal besides the targets, and tells what losses mean. All of it may be missing.
#[derive(Clone, Copy, Default)]
pub struct HealSources<'a> {
    /// Copies of its own.
    pub local: Option<&'a LocalCopies<'a>>,
    /// What the catalog knows of packs and chunks.
    pub meaning: Option<&'a dyn Meaning>,
    /// Where rescued chunks go.
    pub rescue: Option<&'a dyn Rescue>,
}

impl fmt::Debug for HealSources<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HealSources")
            .field("local", &self.local.is_some())
            .field("meaning", &self.meaning.is_some())
            .field("rescue", &self.rescue.is_some())
            .finish()
    }
}

/// What is known of packs and of who needs their chunks: the catalog.
pub trait Meaning {
    /// The chunks of a pack, if it is known.
    ///
    /// # Errors
    /// Local.
    fn chunks_of(&self, pack: &ObjectHash) -> Result<Option<Vec<ChunkId>>>;

    /// For each chunk whether a pack that is not among `lost` holds it, on a target, not known to be damaged.
    ///
    /// # Errors
    /// Local.
    fn is_elsewhere(&self, chunks: &[ChunkId], lost: &HashSet<ObjectHash>) -> Result<Vec<bool>>;

    /// Gives every Version that needs one of `chunks` to `visit`.
    ///
    /// # Errors
    /// Local; those of `visit`.
    fn references(
        &self,
        chunks: &HashSet<ChunkId>,
        visit: &mut dyn FnMut(Reference) -> Result<()>,
    ) -> Result<()>;
}

/// A chunk that was read from a damaged pack, and is good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RescuedChunk {
    /// Its id, which its bytes have.
    pub id: ChunkId,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// Stores chunks in a new pack, on every target that can be reached, and makes it known.
pub trait Rescue {
    /// Stores `chunks`, all of them or none: when this returns they are durable and known.
    ///
    /// # Errors
    /// Those of storing.
    fn store(&self, chunks: Vec<RescuedChunk>, monitor: &dyn Monitor) -> Result<()>;
}

/// Mends what `report` has found; writes down there what became of each problem.
///
/// # Errors
/// Local; cancelled. Faults of targets are in the report.
pub(crate) fn heal(
    survey: &mut Survey<'_>,
    report: &mut VerifyReport,
    holdings: &dyn Holdings,
    sources: &HealSources<'_>,
    monitor: &dyn Monitor,
) -> Result<()> {
    mend(survey, report, Mend::Everything, holdings, sources, monitor)?;
    let lost = salvage::salvage(survey, sources, monitor)?;
    if lost.iter().any(|salvaged| salvaged.rescued > 0) {
        // Marks that a lost pack kept back: others hold its chunks now.
        mend(survey, report, Mend::Missing, holdings, sources, monitor)?;
    }
    report.losses = losses::explain(survey, report, lost, sources)?;
    Ok(())
}
