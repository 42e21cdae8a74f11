//! Lookups of many keys at once: each source is asked for all of them together, so that the waits for memory overlap.

use std::ops::Range;

use super::{live, newest_covering};
use crate::error::Result;
use crate::key::{self, Kind, SequenceNumber};
use crate::levels::{KeyspaceView, OpenTable};
use crate::table::{self, AnyTable, Found, Lookup, Table};
use crate::value::Lent;

/// Keys of a batch that are looked up together: each may keep a block alive until its value is used, which no budget knows of.
const TOGETHER: usize = 1024;

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
    // Those of level 0 may all hold the same keys: one after the other.
    for open in newest.iter() {
        let bounds = &open.reference.bounds;
        let start = lookups.partition_point(|lookup| lookup.user_key < bounds.lower.as_slice());
        let end = lookups.partition_point(|lookup| bounds.is_before_end(lookup.user_key));
        if let Some(inside) = lookups.get_mut(start..end) {
            missing -= if missing > 0 { ask_tables(|_| Some(open), inside, read_sequence)? } else { 0 };
        }
    }
    for (level, _) in (1..).zip(runs).filter(|(_, run)| !run.is_empty()) {
        let holding = |key: &[u8]| view.tables.find(level, key);
        missing -= if missing > 0 { ask_tables(holding, lookups, read_sequence)? } else { 0 };
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

/// Asks for each lookup that has found nothing yet the table which may hold its key, of several that have no key in common; returns how many that settled.
fn ask_tables<'t>(
    table_of: impl Fn(&[u8]) -> Option<&'t OpenTable>,
    lookups: &mut [Lookup<'_>],
    read_sequence: SequenceNumber,
) -> Result<usize> {
    let mut pending: Vec<(usize, &OpenTable)> = Vec::new();
    for (number, lookup) in lookups.iter().enumerate().filter(|(_, lookup)| lookup.found.is_none()) {
        pending.extend(table_of(lookup.user_key).map(|open| (number, open)));
    }
    if pending.is_empty() {
        return Ok(0);
    }
    let tables = pending.chunk_by(|(_, a), (_, b)| std::ptr::eq(*a, *b));
    let asked: Vec<(&Table, Range<usize>)> = tables
        .filter_map(|lookups| match lookups {
            [(first, OpenTable { table: AnyTable::Sorted(table), .. }), ..] => {
                Some((&**table, *first..lookups.last()?.0 + 1))
            }
            _ => None,
        })
        .collect();
    table::multi_get(&asked, lookups, read_sequence)?;
    let mut settled_count = 0;
    for (number, open) in pending {
        let Some(lookup) = lookups.get_mut(number) else { continue };
        let covered = newest_covering(open.tombstones.as_ref(), lookup.user_key, read_sequence);
        lookup.found = settled(lookup.found.take(), covered);
        settled_count += usize::from(lookup.found.is_some());
    }
    Ok(settled_count)
}
