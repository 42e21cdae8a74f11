//! Range deletes of keyspaces with fixed widths, taken apart: rows have no range tombstones, so each becomes a deletion of every key that is there.
//!
//! That happens under the commit lock, when all that came before is applied and nothing can come between: what the range deletes is what a reader would have
//! seen in it, and what the batch itself put into it before.

use std::collections::BTreeSet;

use crate::batch::{Encoder, KeyspaceId, Operation, Operations};
use crate::error::{Error, Result};
use crate::key::SequenceNumber;
use crate::levels::View;
use crate::ordered::OrderedMap;
use crate::range::KeyRange;
use crate::row::KeyspaceKind;
use crate::visible::Forward;

/// The batch with its range deletes of such keyspaces replaced; operations keep their order.
///
/// # Errors
/// InvalidArgument if it grows above the limit of batches: the range is to be deleted in parts. Io or corruption where the keys cannot be read.
pub(crate) fn expand(payload: &[u8], view: &View, visible: SequenceNumber) -> Result<Encoder> {
    let mut expanded = Encoder::default();
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
                    // A damaged table may have keys where they should not be; what was not asked for is not deleted.
                    if !range.contains(there.key()) {
                        return Err(Error::corruption(
                            "a scan for a range delete came upon a key outside of the range; check the database with lsm-tool",
                        ));
                    }
                    keys.insert(there.key().to_vec());
                    if expanded.fault().is_some() {
                        break;
                    }
                }
                keys.iter().for_each(|key| expanded.delete(id, key));
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
