//! The catalog: everything known of a repository, in the engine's keyspaces; can be lost and made again from any one target.
//!
//! It is changed by applying segments and by nothing else: the same code runs when a backup ends ([`Catalog::apply`]) and when the
//! catalog is made again ([`Catalog::rebuild`]). Only what each target holds ([`Holding`]) comes from elsewhere: from acknowledged puts, listings
//! and verification.
//!
//! - A run is applied whole or not at all, as far as anyone can see: its rows carry the snapshot's number, and are looked at only once
//!   the snapshot's own row stands. A crash in the middle is finished at the next opening, from the outbox, or by [`Catalog::catch_up`].
//! - `current` holds the newest state of each timeline for change detection, `history` every Version: the state at any snapshot is a range scan
//!   of it, the history of a file a prefix scan.
//! - The engine is known only in this module. Keyspaces and rows: FORMAT.md, the catalog's keyspaces.
//!
//! Who may do what: one process opens for writing; a mutex orders its changes. Readers beside it see each batch whole.

mod anew;
mod applier;
mod apply;
mod basis;
mod behind;
mod changes;
mod chunks;
mod current;
mod damage;
mod digest;
mod files;
pub(crate) mod fuzz;
mod history;
mod holdings;
mod index;
mod lists;
mod lost;
mod open;
mod packs;
mod rebuild;
mod references;
mod row;
mod run;
mod runs;
mod snapshots;
mod store;
mod targets;
mod writers;

#[cfg(test)]
mod tests;

pub use basis::Basis;
pub use chunks::ChunkPlace;
pub use current::{CurrentEntry, CurrentIter, InodeMatch};
pub use digest::{DigestKey, StateDigest};
pub use history::{Changed, LogEntry, StateIter};
pub use holdings::{Counted, Holding, Verdict};
pub use lists::{ChunkSpan, ContentsIter, SpanIter};
pub use lost::{Losses, Suffering};
pub use open::{Access, Catalog, CatalogOptions};
pub use rebuild::CatchUp;
pub use references::Reference;
pub use run::{CommittedRun, NewEntry, NewRun, RunWriter, SnapshotSummary};
pub use targets::TargetNumber;
pub use writers::{SegmentInfo, WriterHead};

pub(crate) use damage::is_damage;
