//! One tree of the database: a sorted map of its own, in the same journal, the same batches and snapshots as the others.

use std::ops::RangeBounds;
use std::sync::Arc;

use crate::batch::{Encoder, KeyspaceId};
use crate::db::Handle;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::expand::delete_rows;
use crate::iterator::Iter;
use crate::journal::Durability;
use crate::key::{Kind, SequenceNumber};
use crate::load::{Bulk, Ingest};
use crate::range::KeyRange;
use crate::read;
use crate::row::KeyspaceKind;
use crate::value::Value;

/// A handle to one keyspace, cheap to clone; it keeps the database open.
///
/// Reads see everything that was committed before the call. A scan is a view of one moment: it does not see later writes.
///
/// Once the keyspace is dropped ([`Db::drop_keyspace`](crate::Db::drop_keyspace)) every call answers with Dropped, also when another of the same name was
/// made meanwhile; scans that were begun before go on.
#[derive(Clone)]
pub struct Keyspace {
    handle: Arc<Handle>,
    id: KeyspaceId,
    name: Arc<str>,
    kind: KeyspaceKind,
}

impl Keyspace {
    pub(crate) fn new(handle: Arc<Handle>, id: KeyspaceId, name: Arc<str>, kind: KeyspaceKind) -> Self {
        Self { handle, id, name, kind }
    }

    pub(crate) fn engine(&self) -> &Arc<Engine> {
        self.handle.engine()
    }

    pub(crate) fn id(&self) -> KeyspaceId {
        self.id
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How it keeps its entries.
    pub fn kind(&self) -> KeyspaceKind {
        self.kind
    }

    /// The value of a key.
    ///
    /// # Errors
    /// Io or Corruption, naming file and offset; Closed; Dropped.
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Value>> {
        let (view, sequence) = self.engine().read()?;
        read::get(view.keyspace(self.id, &self.name)?, key.as_ref(), sequence)
    }

    /// What `use_value` makes of the value of a key, which it gets where it lies: nothing is copied.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn get_with<R>(
        &self,
        key: impl AsRef<[u8]>,
        use_value: impl FnOnce(&[u8]) -> R,
    ) -> Result<Option<R>> {
        let (view, sequence) = self.engine().read()?;
        read::get_with(view.keyspace(self.id, &self.name)?, key.as_ref(), sequence, use_value)
    }

    /// Whether a key has a value.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn contains(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        let (view, sequence) = self.engine().read()?;
        read::contains(view.keyspace(self.id, &self.name)?, key.as_ref(), sequence)
    }

    /// The values of many keys, in their order, all as of one moment. Much cheaper than one by one where they are many: each table is asked
    /// once, each block fetched once.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn multi_get<K: AsRef<[u8]>>(&self, keys: &[K]) -> Result<Vec<Option<Value>>> {
        let (view, sequence) = self.engine().read()?;
        read::multi_get(view.keyspace(self.id, &self.name)?, keys, sequence)
    }

    /// As [`Self::multi_get`] without copies: `use_value` is called once for each key, with its index, in no order.
    ///
    /// # Errors
    /// As [`Self::get`]; then some calls may have been made.
    pub fn multi_get_with<K: AsRef<[u8]>>(
        &self,
        keys: &[K],
        use_value: impl FnMut(usize, Option<&[u8]>),
    ) -> Result<()> {
        let (view, sequence) = self.engine().read()?;
        read::multi_get_with(view.keyspace(self.id, &self.name)?, keys, sequence, use_value)
    }

    /// Which of many keys have values, in their order, all as of one moment.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn multi_contains<K: AsRef<[u8]>>(&self, keys: &[K]) -> Result<Vec<bool>> {
        let (view, sequence) = self.engine().read()?;
        read::multi_contains(view.keyspace(self.id, &self.name)?, keys, sequence)
    }

    /// All entries, in order of their keys.
    pub fn iter(&self) -> Iter {
        self.scan(KeyRange::all())
    }

    /// The entries of a range of keys: `keyspace.range("a".."c")`, or `keyspace.range::<&[u8]>(..)`.
    pub fn range<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Iter {
        self.scan(KeyRange::from_bounds(&range))
    }

    /// The entries whose keys start with `prefix`.
    pub fn prefix(&self, prefix: impl AsRef<[u8]>) -> Iter {
        self.scan(KeyRange::prefix(prefix.as_ref()))
    }

    fn scan(&self, range: KeyRange) -> Iter {
        let read = self.engine().read();
        match read
            .and_then(|(view, sequence)| Ok((Arc::clone(view.keyspace(self.id, &self.name)?), sequence)))
        {
            Ok((view, sequence)) => Iter::new(view, range, sequence),
            Err(error) => Iter::failed(error),
        }
    }

    /// Sets the value of a key, with [`Durability::System`]. Many writes at once go faster in a [`Batch`](crate::Batch).
    ///
    /// # Errors
    /// InvalidArgument for a key or value that is too long; ReadOnly; Closed; Dropped; Failed and those of writing.
    pub fn put(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<SequenceNumber> {
        let (key, value) = (key.as_ref(), value.as_ref());
        self.write(key.len() + value.len(), |batch| self.add_put(batch, key, value))
    }

    /// Removes a key, with [`Durability::System`]. One that is not there is fine.
    ///
    /// # Errors
    /// As [`Self::put`].
    pub fn delete(&self, key: impl AsRef<[u8]>) -> Result<SequenceNumber> {
        let key = key.as_ref();
        self.write(key.len(), |batch| self.add_delete(batch, key))
    }

    /// Removes all keys of a range, with [`Durability::System`]; costs the same however many they are.
    ///
    /// But of a keyspace with fixed widths each key is removed: all at once if their deletions take no more than a megabyte, else in parts that each are whole, in ascending order up
    /// to the last key that is there at the call, so that others may see some gone and some not, and what they put meanwhile may stay or go. (A [`Batch`](crate::Batch) takes up to 16 MiB of
    /// such deletions, at once.)
    ///
    /// # Errors
    /// As [`Self::put`], and of a keyspace with fixed widths those of reading; parts may be removed then.
    pub fn delete_range<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Result<SequenceNumber> {
        match self.kind {
            KeyspaceKind::Sorted => self.write(0, |batch| batch.delete_range(self.id, &range)),
            KeyspaceKind::Fixed(_) => self.delete_rows(&KeyRange::from_bounds(&range)),
        }
    }

    /// Removes all keys that start with `prefix`, as [`Self::delete_range`] does.
    ///
    /// # Errors
    /// As there.
    pub fn delete_prefix(&self, prefix: impl AsRef<[u8]>) -> Result<SequenceNumber> {
        match self.kind {
            KeyspaceKind::Sorted => self.write(0, |batch| batch.delete_prefix(self.id, prefix.as_ref())),
            KeyspaceKind::Fixed(_) => self.delete_rows(&KeyRange::prefix(prefix.as_ref())),
        }
    }

    fn delete_rows(&self, range: &KeyRange) -> Result<SequenceNumber> {
        delete_rows(self.engine(), (self.id, &self.name), range)
    }

    /// Begins to load entries that come in ascending order of their keys: written once, without the journal, and there all at once at its end. Nobody
    /// else writes to the keyspace meanwhile. Best into an empty one; on top of other entries of a sorted keyspace it makes one table, which is merged down later.
    ///
    /// # Errors
    /// InvalidArgument, if somebody loads it already; ReadOnly; Closed; Dropped; Failed and those of writing.
    pub fn ingest(&self) -> Result<Ingest> {
        Ingest::begin(self.engine(), self.id, &self.name)
    }

    /// Begins to load entries that come in any order, as [`Self::ingest`] does sorted ones. What does not fit into a buffer
    /// is written twice: of a keyspace with fixed widths that is up to [`Tuning::bulk_buffer_bytes`](crate::Tuning::bulk_buffer_bytes), else a write buffer. Of each buffer
    /// that was written a file is open in the end, so that more than a thousand of them need a higher limit of open files (`ulimit -n`), or more memory.
    ///
    /// # Errors
    /// As [`Self::ingest`].
    pub fn bulk(&self) -> Result<Bulk> {
        Bulk::begin(self.engine(), self.id, &self.name)
    }

    pub(crate) fn add_put(&self, batch: &mut Encoder, key: &[u8], value: &[u8]) {
        match self.check(key, value, Kind::Put) {
            Ok(()) => batch.put(self.id, key, value),
            Err(fault) => batch.refuse(fault),
        }
    }

    pub(crate) fn add_delete(&self, batch: &mut Encoder, key: &[u8]) {
        match self.check(key, &[], Kind::Delete) {
            Ok(()) => batch.delete(self.id, key),
            Err(fault) => batch.refuse(fault),
        }
    }

    pub(crate) fn add_delete_range<K: AsRef<[u8]>>(&self, batch: &mut Encoder, range: &impl RangeBounds<K>) {
        self.note_range(batch);
        batch.delete_range(self.id, range);
    }

    pub(crate) fn add_delete_prefix(&self, batch: &mut Encoder, prefix: &[u8]) {
        self.note_range(batch);
        batch.delete_prefix(self.id, prefix);
    }

    fn note_range(&self, batch: &mut Encoder) {
        if matches!(self.kind, KeyspaceKind::Fixed(_)) {
            batch.note_fixed_range();
        }
    }

    /// Whether an entry has the widths of this keyspace, if it has any.
    pub(crate) fn check(&self, key: &[u8], value: &[u8], kind: Kind) -> Result<()> {
        let KeyspaceKind::Fixed(widths) = self.kind else { return Ok(()) };
        let checked = widths.check(key, value, kind);
        checked.map_err(|error| Error::new(error.kind(), format!("keyspace {:?}: {error}", self.name)))
    }

    fn write(&self, bytes: usize, build: impl FnOnce(&mut Encoder)) -> Result<SequenceNumber> {
        let mut batch = Encoder::for_one(bytes);
        build(&mut batch);
        self.engine().commit(&batch, Durability::System)
    }
}

impl std::fmt::Debug for Keyspace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keyspace")
            .field("name", &self.name)
            .field("id", &self.id.number())
            .finish_non_exhaustive()
    }
}
