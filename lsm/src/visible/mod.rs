//! What a reader at one sequence number sees in a keyspace's view: lookups, and cursors in both directions.
//!
//! The sources of a view are ordered: the active memtable, the frozen ones, level 0 from its newest table, the levels below. For
//! one key, what a source holds is newer than what any later source does, and that goes for range tombstones over the key too. So a lookup
//! asks the sources in order and ends at the first that knows the key or deletes it; a scan merges them all, takes the newest
//! visible entry of each key, and asks the range tombstones of all.

mod scan;
mod skyline;
mod source;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::error::Result;
use crate::key::{self, Kind, SequenceNumber};
use crate::levels::{KeyspaceView, OpenTable};
use crate::range_tombstone::RangeTombstones;
use crate::table::{AnyTable, Found, Lookup};
use crate::value::Lent;

pub use scan::{Backward, Forward};
pub use source::Source;

/// Keys of a batch that are looked up together: each may keep a block alive until its value is used, which no budget knows of.
const TOGETHER: usize = 1024;

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

/// The values of many keys, where they lie: `use_value` is called once for each key, with its index, in the order of the keys' bytes. Each table is asked
/// once for all keys that may be in it (once for each [`TOGETHER`] of them).
///
/// # Errors
/// Io or corruption, naming file and offset; then some calls may have been made.
pub fn multi_get<'a, K: AsRef<[u8]>>(
    view: &'a KeyspaceView,
    keys: &'a [K],
    read_sequence: SequenceNumber,
    mut use_value: impl FnMut(usize, Option<Lent<'a>>),
) -> Result<()> {
    let mut order: Vec<usize> = (0..keys.len()).collect();
    let key_at = |index: usize| keys.get(index).map_or(&[][..], AsRef::as_ref);
    order.sort_unstable_by(|a, b| key::order(key_at(*a), key_at(*b)));
    for order in order.chunks(TOGETHER) {
        let lookup = |index: &usize| {
            let user_key = key_at(*index);
            Lookup { user_key, hash: crate::filter::hash(user_key), found: None }
        };
        let mut lookups: Vec<Lookup<'a>> = order.iter().map(lookup).collect();
        look_up(view, &mut lookups, read_sequence)?;
        for (index, lookup) in order.iter().zip(lookups) {
            use_value(*index, lookup.found.and_then(|found| live(found, 0)));
        }
    }
    Ok(())
}

/// Looks up keys in order.
fn look_up<'a>(
    view: &'a KeyspaceView,
    lookups: &mut [Lookup<'a>],
    read_sequence: SequenceNumber,
) -> Result<()> {
    let mut missing = lookups.len();
    for memtable in view.memtables() {
        if memtable.is_empty() {
            continue;
        }
        lookups.iter().for_each(|lookup| memtable.prefetch(lookup.hash));
        for lookup in lookups.iter_mut().filter(|lookup| lookup.found.is_none()) {
            let covered = memtable.newest_covering(lookup.user_key, read_sequence);
            let found = memtable.get_hashed(lookup.user_key, lookup.hash, read_sequence)?;
            lookup.found = settled(found, covered);
            missing -= usize::from(lookup.found.is_some());
        }
    }
    let [newest, runs @ ..] = view.tables.levels();
    for open in newest.iter().chain(runs.iter().flat_map(|level| level.iter())) {
        if missing == 0 {
            break;
        }
        missing -= multi_get_table(open, lookups, read_sequence)?;
    }
    Ok(())
}

/// What a source's answer means: a range tombstone over what was found (or over nothing) is a deletion.
fn settled(found: Option<Found<'_>>, covered: SequenceNumber) -> Option<Found<'_>> {
    match found {
        Some(found) if found.0 > covered => Some(found),
        _ if covered > 0 => Some((covered, Kind::Delete, Lent::memory(&[]))),
        found => found,
    }
}

/// Asks one table; returns how many lookups it settled.
fn multi_get_table(
    open: &OpenTable,
    lookups: &mut [Lookup<'_>],
    read_sequence: SequenceNumber,
) -> Result<usize> {
    let bounds = &open.reference.bounds;
    let start = lookups.partition_point(|lookup| lookup.user_key < bounds.lower.as_slice());
    let end = lookups.partition_point(|lookup| bounds.is_before_end(lookup.user_key));
    let Some(inside) = lookups.get_mut(start..end) else { return Ok(0) };
    let pending: Vec<bool> = inside.iter().map(|lookup| lookup.found.is_none()).collect();
    if !pending.contains(&true) {
        return Ok(0);
    }
    if let AnyTable::Sorted(table) = &open.table {
        table.multi_get(inside, read_sequence)?;
    }
    let mut settled_count = 0;
    for (lookup, was_pending) in inside.iter_mut().zip(pending) {
        if was_pending {
            let covered = newest_covering(open.tombstones.as_ref(), lookup.user_key, read_sequence);
            lookup.found = settled(lookup.found.take(), covered);
            settled_count += usize::from(lookup.found.is_some());
        }
    }
    Ok(settled_count)
}
