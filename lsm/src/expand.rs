//! Range deletes of keyspaces with fixed widths, taken apart: rows have no range tombstones, so each becomes a deletion of every key that is there.
//!
//! That happens under the commit lock, when all that came before is applied and nothing can come between: what the range deletes is what a reader would have
//! seen in it, and what the batch itself put into it before. Everybody else who writes waits meanwhile, so there is a limit; what is not part of a batch goes in parts
//! beyond that, each of which is looked for before anybody is held up.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;

use crate::batch::{Encoder, KeyspaceId, Operation, Operations};
use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::iterator::Iter;
use crate::journal::Durability;
use crate::key::SequenceNumber;
use crate::levels::View;
use crate::ordered::OrderedMap;
use crate::range::{KeyRange, successor};
use crate::row::KeyspaceKind;
use crate::visible::Forward;

/// What all deletions that a batch's ranges become may come to, encoded: half a million of keys of 24 bytes.
const GROWTH_BYTES_MAX: usize = 16 << 20;

/// Encoded deletions of a part: applied in a few milliseconds.
const PART_BYTES: usize = 1 << 20;

/// How often rows are looked for anew where somebody wrote between that and their deletion, before they are looked for while everybody waits.
const TRIES: usize = 3;

/// Deletes a range of a keyspace with fixed widths, with [`Durability::System`]: at once if there are not many rows, else in parts, in order of their keys, up to the last
/// that is there now.
///
/// # Errors
/// InvalidArgument, if somebody loads it; ReadOnly; Closed; Dropped; Failed and those of reading and writing: parts may be deleted then.
pub(crate) fn delete_rows(
    engine: &Engine,
    (id, name): (KeyspaceId, &str),
    range: &KeyRange,
) -> Result<SequenceNumber> {
    engine.check_writable()?;
    for _ in 0..TRIES {
        let found = find_rows(engine, (id, name), range)?;
        if found.rest.is_some() {
            return delete_parts(engine, (id, name), found);
        }
        let is_as_found = |view: &View| match engine.visible() == found.sequence && view.loads == found.loads
        {
            true => Ok(()),
            false => Err(Error::new(ErrorKind::Conflict, "somebody wrote meanwhile")),
        };
        match engine.commit_if(&found.deletions, Durability::System, is_as_found) {
            Err(error) if error.kind() == ErrorKind::Conflict => {}
            committed => return committed,
        }
    }
    let mut whole = Encoder::default();
    whole.note_fixed_range();
    whole.delete_range_of(id, range);
    engine.commit(&whole, Durability::System)
}

/// Deletes what was found, and goes on behind it.
fn delete_parts(engine: &Engine, (id, name): (KeyspaceId, &str), mut found: Found) -> Result<SequenceNumber> {
    if let Some(rest) = &mut found.rest {
        // Whoever puts keys in ascending order meanwhile is not run after.
        let (view, sequence) = engine.read()?;
        let last = Iter::new(Arc::clone(view.keyspace(id, name)?), rest.clone(), sequence).next_back();
        rest.upper =
            last.transpose()?.map_or(Bound::Excluded(Vec::new()), |(key, _)| Bound::Included(key.to_vec()));
    }
    loop {
        let last = engine.commit(&found.deletions, Durability::System)?;
        match found.rest {
            Some(range) => found = find_rows(engine, (id, name), &range)?,
            None => return Ok(last),
        }
    }
}

/// Rows of a range.
struct Found {
    /// Of as many as a part has.
    deletions: Encoder,
    /// As of when.
    sequence: SequenceNumber,
    loads: u64,
    /// What is behind them, if there may be more.
    rest: Option<KeyRange>,
}

fn find_rows(engine: &Engine, (id, name): (KeyspaceId, &str), range: &KeyRange) -> Result<Found> {
    let (view, sequence) = engine.read()?;
    let mut there = Forward::new(view.keyspace(id, name)?, range.clone(), sequence);
    let loads = view.loads;
    let mut deletions = Encoder::default();
    while there.step()? {
        check_inside(range, there.key())?;
        deletions.delete(id, there.key());
        if deletions.payload().len() >= PART_BYTES {
            let rest = Some(KeyRange { lower: successor(there.key()), upper: range.upper.clone() });
            return Ok(Found { deletions, sequence, loads, rest });
        }
    }
    Ok(Found { deletions, sequence, loads, rest: None })
}

/// A damaged table may have keys where they should not be; what was not asked for is not deleted.
fn check_inside(range: &KeyRange, key: &[u8]) -> Result<()> {
    if range.contains(key) {
        return Ok(());
    }
    Err(Error::corruption(
        "a scan for a range delete came upon a key outside of the range; check the database with lsm-tool",
    ))
}

/// The batch with its range deletes of such keyspaces replaced; operations keep their order.
///
/// # Errors
/// InvalidArgument if it grows by too much: the range is to be deleted in parts. Io or corruption where the keys cannot be read.
pub(crate) fn expand(payload: &[u8], view: &View, visible: SequenceNumber) -> Result<Encoder> {
    let mut expanded = Encoder::default();
    // By what range deletes became.
    let mut grown = 0;
    // What the batch put and did not delete so far.
    let mut put: OrderedMap<KeyspaceId, BTreeSet<Vec<u8>>> = OrderedMap::new();
    let slice = |range| payload.get(range).unwrap_or_default();
    for operation in Operations::new(payload) {
        let (id, operation) = operation?;
        let keyspace = view.keyspaces.get(&id).ok_or_else(|| Error::dropped(id.number()))?;
        let is_fixed = matches!(keyspace.kind, KeyspaceKind::Fixed(_));
        match operation {
            Operation::Put { key, value } => {
                expanded.put(id, slice(key.clone()), slice(value));
                if is_fixed {
                    put.get_or_insert_with(id, BTreeSet::new).insert(slice(key).to_vec());
                }
            }
            Operation::Delete { key } => {
                expanded.delete(id, slice(key.clone()));
                if let Some(put) = put.get_mut(&id) {
                    put.remove(slice(key));
                }
            }
            Operation::DeleteRange { start, end } => {
                let range = KeyRange::until(slice(start).to_vec(), end.map(|end| slice(end).to_vec()));
                if !is_fixed {
                    expanded.delete_range_of(id, &range);
                    continue;
                }
                let before = expanded.payload().len();
                let mut keys = BTreeSet::new();
                if let Some(put) = put.get_mut(&id) {
                    put.retain(|key| {
                        let inside = range.contains(key);
                        if inside {
                            keys.insert(key.clone());
                        }
                        !inside
                    });
                }
                let mut there = Forward::new(keyspace, range.clone(), visible);
                while there.step()? {
                    check_inside(&range, there.key())?;
                    if !keys.contains(there.key()) {
                        expanded.delete(id, there.key());
                    }
                    // Where the batch itself is full nothing is added any more.
                    if grown + expanded.payload().len() - before > GROWTH_BYTES_MAX
                        || expanded.fault().is_some()
                    {
                        return Err(too_many(&keyspace.name));
                    }
                }
                keys.iter().for_each(|key| expanded.delete(id, key));
                grown += expanded.payload().len() - before;
            }
        }
    }
    match expanded.fault() {
        Some(fault) => {
            Err(Error::new(fault.kind(), format!("a range delete of a keyspace with fixed widths: {fault}")))
        }
        None => Ok(expanded),
    }
}

fn too_many(name: &str) -> Error {
    Error::new(
        ErrorKind::InvalidArgument,
        format!(
            "a batch deletes ranges of keyspace {name:?}, of fixed widths, in which there are so many rows that their deletions take more than {} MiB: \
             delete them in parts, or by Keyspace::delete_range, which does so",
            GROWTH_BYTES_MAX >> 20
        ),
    )
}
