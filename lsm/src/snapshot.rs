//! A point in time of the whole database.

use std::ops::RangeBounds;
use std::sync::Arc;

use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::iterator::Iter;
use crate::key::SequenceNumber;
use crate::keyspace::Keyspace;
use crate::levels::{KeyspaceView, View};
use crate::range::KeyRange;
use crate::read;
use crate::value::Value;

/// What all keyspaces held at one moment, between two batches. Clones share it.
///
/// A snapshot keeps the memtables and tables alive that it reads; merges keep the versions that it sees. So hold it as long as it is
/// needed and no longer.
#[derive(Clone, Debug)]
pub struct Snapshot {
    held: Arc<Held>,
}

#[derive(Debug)]
struct Held {
    /// First to be dropped: what it keeps is free when the reader is forgotten.
    view: Arc<View>,
    reader: Reader,
}

/// A registered reader.
#[derive(Debug)]
struct Reader {
    engine: Arc<Engine>,
    sequence: SequenceNumber,
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.engine.release_snapshot(self.sequence);
    }
}

impl Snapshot {
    pub(crate) fn new(engine: &Arc<Engine>) -> Self {
        let (view, sequence) = engine.take_snapshot();
        let reader = Reader { engine: Arc::clone(engine), sequence };
        Self { held: Arc::new(Held { view, reader }) }
    }

    /// The last sequence number in it. (Of two with the same number the later one may see a load that was finished between them.)
    pub fn sequence(&self) -> SequenceNumber {
        self.held.reader.sequence
    }

    /// How many loads had been finished by then.
    pub(crate) fn loads(&self) -> u64 {
        self.held.view.loads
    }

    /// The view of a keyspace; `None` if it was made after the snapshot was taken: it was empty then. One that was dropped after it is still
    /// there.
    fn view(&self, keyspace: &Keyspace) -> Result<Option<&Arc<KeyspaceView>>> {
        if !Arc::ptr_eq(&self.held.reader.engine, keyspace.engine()) {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                format!("keyspace {:?} belongs to another database than the snapshot", keyspace.name()),
            ));
        }
        let found = self.held.view.keyspaces.get(&keyspace.id());
        if found.is_none() && self.held.view.was_dropped(keyspace.id()) {
            return Err(Error::dropped(keyspace.name()));
        }
        Ok(found)
    }

    /// The value of a key.
    ///
    /// # Errors
    /// Io or Corruption, naming file and offset; InvalidArgument if the keyspace is another database's; Dropped if it was dropped before the
    /// snapshot was taken.
    pub fn get(&self, keyspace: &Keyspace, key: impl AsRef<[u8]>) -> Result<Option<Value>> {
        match self.view(keyspace)? {
            Some(view) => read::get(view, key.as_ref(), self.held.reader.sequence),
            None => Ok(None),
        }
    }

    /// Whether a key has a value.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn contains(&self, keyspace: &Keyspace, key: impl AsRef<[u8]>) -> Result<bool> {
        match self.view(keyspace)? {
            Some(view) => read::contains(view, key.as_ref(), self.held.reader.sequence),
            None => Ok(false),
        }
    }

    /// What `use_value` makes of the value of a key, which it gets where it lies: nothing is copied.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn get_with<R>(
        &self,
        keyspace: &Keyspace,
        key: impl AsRef<[u8]>,
        use_value: impl FnOnce(&[u8]) -> R,
    ) -> Result<Option<R>> {
        match self.view(keyspace)? {
            Some(view) => read::get_with(view, key.as_ref(), self.held.reader.sequence, use_value),
            None => Ok(None),
        }
    }

    /// As [`Self::multi_get`] without copies: `use_value` is called once for each key, with its index, in no order.
    ///
    /// # Errors
    /// As [`Self::get`]; then some calls may have been made.
    pub fn multi_get_with<K: AsRef<[u8]>>(
        &self,
        keyspace: &Keyspace,
        keys: &[K],
        mut use_value: impl FnMut(usize, Option<&[u8]>),
    ) -> Result<()> {
        match self.view(keyspace)? {
            Some(view) => read::multi_get_with(view, keys, self.held.reader.sequence, use_value),
            None => {
                (0..keys.len()).for_each(|index| use_value(index, None));
                Ok(())
            }
        }
    }

    /// Which of many keys have values, in their order.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn multi_contains<K: AsRef<[u8]>>(&self, keyspace: &Keyspace, keys: &[K]) -> Result<Vec<bool>> {
        match self.view(keyspace)? {
            Some(view) => read::multi_contains(view, keys, self.held.reader.sequence),
            None => Ok(vec![false; keys.len()]),
        }
    }

    /// The values of many keys, in their order.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn multi_get<K: AsRef<[u8]>>(&self, keyspace: &Keyspace, keys: &[K]) -> Result<Vec<Option<Value>>> {
        match self.view(keyspace)? {
            Some(view) => read::multi_get(view, keys, self.held.reader.sequence),
            None => Ok(vec![None; keys.len()]),
        }
    }

    /// All entries.
    pub fn iter(&self, keyspace: &Keyspace) -> Iter {
        self.scan(keyspace, KeyRange::all())
    }

    /// The entries of a range of keys.
    pub fn range<K: AsRef<[u8]>>(&self, keyspace: &Keyspace, range: impl RangeBounds<K>) -> Iter {
        self.scan(keyspace, KeyRange::from_bounds(&range))
    }

    /// The entries whose keys start with `prefix`.
    pub fn prefix(&self, keyspace: &Keyspace, prefix: impl AsRef<[u8]>) -> Iter {
        self.scan(keyspace, KeyRange::prefix(prefix.as_ref()))
    }

    pub(crate) fn scan(&self, keyspace: &Keyspace, range: KeyRange) -> Iter {
        match self.view(keyspace) {
            Ok(Some(view)) => Iter::new(Arc::clone(view), range, self.held.reader.sequence),
            Ok(None) => Iter::empty(),
            Err(error) => Iter::failed(error),
        }
    }
}
