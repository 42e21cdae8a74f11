//! The write buffer of one keyspace: its newest writes, in memory until a flush makes a table of them.
//!
//! One writer at a time (the commit lock) puts in; readers run beside it without locks. They see entries that are not yet visible; the sequence
//! number that they read at decides.

pub mod fixed;
pub mod sorted;
mod supply;

use std::sync::Arc;

use crate::batch::Operation;
use crate::error::Result;
use crate::key::SequenceNumber;
use crate::range_tombstone::RangeTombstones;
use crate::row::KeyspaceKind;
use crate::table::Found;

pub use fixed::{FixedIter, FixedMemtable};
pub use sorted::{FragmentCursor, SortedIter, SortedMemtable};
pub(crate) use supply::Supply;

/// A write buffer of either kind; a clone is a handle to the same one.
#[derive(Clone, Debug)]
pub enum Memtable {
    /// Of a keyspace with keys of any kind.
    Sorted(Arc<SortedMemtable>),
    /// Of a keyspace with fixed widths.
    Fixed(Arc<FixedMemtable>),
}

macro_rules! delegate {
    ($self:ident, $memtable:ident => $call:expr) => {
        match $self {
            Self::Sorted($memtable) => $call,
            Self::Fixed($memtable) => $call,
        }
    };
}

impl Memtable {
    /// An empty one for a keyspace of this kind, whose bytes are charged for as long as somebody keeps it. `entries_expected` is how many may come:
    /// a guess that makes it faster.
    pub(crate) fn charged(kind: KeyspaceKind, entries_expected: usize, supply: &Supply) -> Self {
        match kind {
            KeyspaceKind::Sorted => Self::Sorted(Arc::new(SortedMemtable::charged(entries_expected, supply))),
            KeyspaceKind::Fixed(widths) => {
                let (charge, rows) = (Arc::clone(&supply.charge), Arc::clone(&supply.rows));
                Self::Fixed(Arc::new(FixedMemtable::charged(widths, entries_expected, charge, rows)))
            }
        }
    }

    /// Whether both are handles to one memtable.
    pub fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Sorted(a), Self::Sorted(b)) => Arc::ptr_eq(a, b),
            (Self::Fixed(a), Self::Fixed(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }

    /// Whether it holds keys of any kind, not rows.
    pub(crate) fn is_sorted(&self) -> bool {
        matches!(self, Self::Sorted(_))
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        delegate!(self, memtable => memtable.is_empty())
    }

    /// Entries, range tombstones not counted.
    pub fn entry_count(&self) -> usize {
        delegate!(self, memtable => memtable.entry_count())
    }

    /// About how many bytes of memory it takes.
    pub fn memory_bytes(&self) -> usize {
        delegate!(self, memtable => memtable.memory_bytes())
    }

    /// What is charged for it, which may be more.
    pub(crate) fn charged_bytes(&self) -> usize {
        delegate!(self, memtable => memtable.charged_bytes())
    }

    /// The largest sequence number in it; 0 where it is empty.
    pub fn sequence_max(&self) -> SequenceNumber {
        delegate!(self, memtable => memtable.sequence_max())
    }

    /// The smallest sequence number in it; [`SEQUENCE_MAX`](crate::key::SEQUENCE_MAX) where it is empty.
    pub fn sequence_min(&self) -> SequenceNumber {
        delegate!(self, memtable => memtable.sequence_min())
    }

    /// Adds one operation of `batch`. One caller at a time; readers may run beside it.
    pub fn apply(&self, batch: &[u8], operation: Operation, sequence: SequenceNumber) {
        delegate!(self, memtable => memtable.apply(batch, operation, sequence))
    }

    /// The newest range tombstone over `key` that a reader at `read_sequence` sees: its sequence number, or 0 where there is none.
    #[inline]
    pub fn newest_covering(&self, key: &[u8], read_sequence: SequenceNumber) -> SequenceNumber {
        match self {
            Self::Sorted(memtable) => memtable.newest_covering(key, read_sequence),
            Self::Fixed(_) => 0,
        }
    }

    /// The range tombstones as one set, made anew, for whoever writes them elsewhere; `None` where there are none.
    pub fn range_tombstones(&self) -> Option<Arc<RangeTombstones>> {
        match self {
            Self::Sorted(memtable) => memtable.range_tombstones(),
            Self::Fixed(_) => None,
        }
    }

    /// Asks for the memory that [`Self::get_hashed`] looks at first, where it is worth it.
    #[inline]
    pub fn prefetch(&self, hash: u64) {
        if let Self::Sorted(memtable) = self {
            memtable.prefetch(hash);
        }
    }

    /// As [`Self::get`], for a caller who asks several sources and has computed [`crate::filter::hash`] already.
    ///
    /// # Errors
    /// As [`Self::get`].
    #[inline]
    pub fn get_hashed(
        &self,
        user_key: &[u8],
        hash: u64,
        read_sequence: SequenceNumber,
    ) -> Result<Option<Found<'_>>> {
        match self {
            Self::Sorted(memtable) => memtable.get_hashed(user_key, hash, read_sequence),
            // It hashes in a way of its own.
            Self::Fixed(memtable) => memtable.get(user_key, read_sequence),
        }
    }

    /// The newest entry of `user_key` that a reader at `read_sequence` sees. Range tombstones are not looked at.
    ///
    /// # Errors
    /// Never for what [`Self::apply`] put in; the signature is the tables'.
    pub fn get(&self, user_key: &[u8], read_sequence: SequenceNumber) -> Result<Option<Found<'_>>> {
        delegate!(self, memtable => memtable.get(user_key, read_sequence))
    }
}
