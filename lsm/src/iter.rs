//! The one shape of every sorted source inside the engine: memtables, blocks, tables, runs, merges of them.
//!
//! Keys are internal keys ([`crate::key`]), ascending in their order, values are bytes. An iterator is created unpositioned. It owns
//! what it reads (a table, a block), so that it can be sent and kept.

use crate::error::Result;
use crate::key::TRAILER_BYTES;
use crate::value::Value;

/// A cursor over sorted entries, moving both ways.
///
/// - After a successful call the iterator is *valid* (it stands on an entry) or not (there is none there).
/// - [`next`](Self::next) and [`prev`](Self::prev) on an invalid iterator do nothing: one that ran off an end comes back by a seek.
/// - After an error it is invalid, and `next` and `prev` repeat the error, so that a loop which drops one cannot take the
///   place of damage for the end. A seek tries anew: a failed read is an error and nothing more.
pub trait InternalIterator: Send {
    /// Moves to the smallest entry.
    ///
    /// # Errors
    /// Io or corruption, naming file and offset.
    fn seek_to_first(&mut self) -> Result<()>;

    /// Moves to the largest entry.
    ///
    /// # Errors
    /// Io or corruption, naming file and offset.
    fn seek_to_last(&mut self) -> Result<()>;

    /// Moves to the first entry whose internal key is `internal` or above.
    ///
    /// # Errors
    /// Io or corruption, naming file and offset.
    fn seek(&mut self, internal: &[u8]) -> Result<()>;

    /// Moves to the last entry whose internal key is `internal` or below.
    ///
    /// # Errors
    /// Io or corruption, naming file and offset.
    fn seek_for_prev(&mut self, internal: &[u8]) -> Result<()>;

    /// Moves to the next larger entry.
    ///
    /// # Errors
    /// Io or corruption, naming file and offset.
    fn next(&mut self) -> Result<()>;

    /// Moves to the next smaller entry.
    ///
    /// # Errors
    /// Io or corruption, naming file and offset.
    fn prev(&mut self) -> Result<()>;

    /// Whether it stands on an entry.
    fn valid(&self) -> bool;

    /// The internal key of the entry; empty where there is none.
    fn key(&self) -> &[u8];

    /// The user's part of it.
    #[inline]
    fn user_key(&self) -> &[u8] {
        let key = self.key();
        key.get(..key.len().saturating_sub(TRAILER_BYTES)).unwrap_or_default()
    }

    /// The value of the entry; empty where there is none.
    fn value(&self) -> &[u8];

    /// The value as an owned handle, without a copy where that is cheap.
    fn owned_value(&self) -> Value {
        Value::from(self.value())
    }
}

impl<I: InternalIterator + ?Sized> InternalIterator for Box<I> {
    fn seek_to_first(&mut self) -> Result<()> {
        (**self).seek_to_first()
    }

    fn seek_to_last(&mut self) -> Result<()> {
        (**self).seek_to_last()
    }

    fn seek(&mut self, internal: &[u8]) -> Result<()> {
        (**self).seek(internal)
    }

    fn seek_for_prev(&mut self, internal: &[u8]) -> Result<()> {
        (**self).seek_for_prev(internal)
    }

    fn next(&mut self) -> Result<()> {
        (**self).next()
    }

    fn prev(&mut self) -> Result<()> {
        (**self).prev()
    }

    fn valid(&self) -> bool {
        (**self).valid()
    }

    fn key(&self) -> &[u8] {
        (**self).key()
    }

    fn value(&self) -> &[u8] {
        (**self).value()
    }

    fn owned_value(&self) -> Value {
        (**self).owned_value()
    }
}
