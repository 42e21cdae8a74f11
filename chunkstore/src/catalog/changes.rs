//! What each snapshot changed. The first of a timeline has no rows: it bore everything in it.

use crate::entry_key::{EntryKey, KeyRange};
use crate::error::Result;
use crate::version::Snapshot;

use super::Catalog;
use super::store::{self, bad_row, entry_key_behind};

/// Length of what stands before the entry key in `changes`.
const FRONT_BYTES: usize = 8;

impl Catalog {
    /// What a snapshot changed: each entry that it bore, changed or lost, in order.
    ///
    /// # Errors
    /// Local.
    pub fn changes(&self, snapshot: &Snapshot) -> Result<Vec<EntryKey>> {
        let timeline = self.timeline_number(snapshot.timeline)?;
        let timeline = timeline.ok_or_else(|| bad_row("timelines", "it is missing"))?;
        if snapshot.number.0 == 1 {
            let state = self.state_in(timeline, snapshot.number, &KeyRange::all());
            return state.map(|entry| entry.map(|(key, _)| key)).collect();
        }
        let prefix = store::changes(timeline, snapshot.number, &[]);
        let rows = self.inner.spaces.changes.prefix(prefix);
        rows.map(|row| entry_key_behind(&row?.0, FRONT_BYTES, "changes")).collect()
    }
}
