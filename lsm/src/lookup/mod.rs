//! What a reader at one sequence number sees of a keyspace with fixed widths: lookups, one by one ([`single`]) and many at once ([`many`]).
//!
//! The sources are asked from the newest to the oldest, and the first that knows a key answers, as in [`crate::visible`].

mod many;
mod single;
#[cfg(test)]
mod tests;

pub(crate) use many::multi_get_with;
pub(crate) use single::{Expected, get_with};

use crate::levels::KeyspaceView;
use crate::memtable::{FixedMemtable, Memtable};

#[inline]
fn fixed_memtables(view: &KeyspaceView) -> impl Iterator<Item = &FixedMemtable> {
    view.memtables().filter_map(|memtable| match memtable {
        Memtable::Fixed(memtable) if !memtable.is_empty() => Some(&**memtable),
        _ => None,
    })
}
