//! What is read although it did not change: files whose bytes no target of the run holds any more.
//!
//! An unchanged file is not read, so the merge-join alone would never meet the bytes of a chunk that was lost. If every pack
//! that holds a chunk is missing or damaged on every target that can be reached, or the segment is that told of a chunk or a list of chunks, the
//! files of the last snapshot that need it are found by their contents, and read as if they had changed: what is still the same is stored again,
//! and older snapshots that need it are whole again too.

use std::collections::HashSet;

use crate::catalog::{Catalog, Suffering};
use crate::entry_key::EntryKey;
use crate::error::Result;
use crate::monitor::{Event, Monitor};
use crate::version::Timeline;

/// Which unchanged entries are read.
#[derive(Debug)]
pub(super) enum Reread {
    /// These.
    These(HashSet<EntryKey>),
    /// All.
    All,
}

impl Reread {
    /// The entries of the timeline's last snapshot some of whose bytes are lost. That there are none is noted, unless it is a dry run.
    ///
    /// # Errors
    /// Local.
    pub(super) fn lost(
        catalog: &Catalog,
        timeline: &Timeline,
        dry_run: bool,
        monitor: &dyn Monitor,
    ) -> Result<Self> {
        let losses = catalog.losses()?;
        let keys = match catalog.suffering(timeline, &losses)? {
            Suffering::Entries(keys) => keys,
            Suffering::Many => {
                monitor.event(Event::Note(
                    "so much is on no target that can be reached that all files are read: what is still the same is stored again",
                ));
                return Ok(Self::All);
            }
        };
        if !keys.is_empty() {
            monitor.event(Event::Note(&format!(
                "some bytes of {} entries are on no target that can be reached: what is still the same is stored again",
                keys.len()
            )));
        } else if !dry_run {
            catalog.note_unharmed(timeline, &losses)?;
        }
        Ok(Self::These(keys))
    }

    /// Whether nothing is to be read that did not change.
    pub(super) fn is_none(&self) -> bool {
        matches!(self, Self::These(keys) if keys.is_empty())
    }

    pub(super) fn has(&self, key: &EntryKey) -> bool {
        match self {
            Self::These(keys) => keys.contains(key),
            Self::All => true,
        }
    }
}
