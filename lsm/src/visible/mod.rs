//! What a reader at one sequence number sees in a keyspace's view: lookups, and cursors in both directions.
//!
//! The sources of a view are ordered: the active memtable, the frozen ones, level 0 from its newest table, the levels below. For
//! one key, what a source holds is newer than what any later source does, and that goes for range tombstones over the key too. So a lookup
//! asks the sources in order and ends at the first that knows the key or deletes it; a scan merges them all, takes the newest
//! visible entry of each key, and asks the range tombstones of all.

mod many;
mod scan;
mod skyline;
mod source;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::error::Result;
use crate::key::{Kind, SequenceNumber};
use crate::levels::KeyspaceView;
use crate::range_tombstone::RangeTombstones;
use crate::table::{AnyTable, Found};
use crate::value::Lent;

pub use many::multi_get;
pub use scan::{Backward, Forward};
pub use source::Source;

/// Tables whose filters are fetched together for one key: as many as there are mostly; what is fetched in vain, because a newer table has the key, costs little.
const TABLES_TOGETHER: usize = 8;

fn live((sequence, kind, value): Found<'_>, covered: SequenceNumber) -> Option<Lent<'_>> {
    (kind == Kind::Put && sequence > covered).then_some(value)
}

fn newest_covering(
    tombstones: Option<&Arc<RangeTombstones>>,
    key: &[u8],
    read_sequence: SequenceNumber,
) -> SequenceNumber {
    tombstones.map_or(0, |tombstones| tombstones.newest_covering(key, read_sequence))
}

/// The value of `key` that a reader at `read_sequence` sees, where it lies.
///
/// # Errors
/// Io or corruption, naming file and offset.
pub fn get<'a>(
    view: &'a KeyspaceView,
    key: &[u8],
    read_sequence: SequenceNumber,
) -> Result<Option<Lent<'a>>> {
    let hash = crate::filter::hash(key);
    view.memtables().for_each(|memtable| memtable.prefetch(hash));
    for memtable in view.memtables() {
        let covered = memtable.newest_covering(key, read_sequence);
        if let Some(found) = memtable.get_hashed(key, hash, read_sequence)? {
            return Ok(live(found, covered));
        }
        if covered > 0 {
            return Ok(None);
        }
    }
    let mut tables = view.tables.holding(key).peekable();
    while tables.peek().is_some() {
        // The waits for what all of them need first overlap.
        let mut places = [None; TABLES_TOGETHER];
        for (to, open) in places.iter_mut().zip(&mut tables) {
            let AnyTable::Sorted(table) = &open.table else { continue };
            *to = Some((open, table, table.place(key, hash, read_sequence)?));
        }
        for (open, table, place) in places.into_iter().flatten() {
            let covered = newest_covering(open.tombstones.as_ref(), key, read_sequence);
            if let Some(place) = place
                && let Some(found) = table.get_at(place, key, hash, read_sequence)?
            {
                return Ok(live(found, covered));
            }
            if covered > 0 {
                return Ok(None);
            }
        }
    }
    Ok(None)
}
