//! Optimistic transactions: reads as of one moment plus its own writes, and a commit that is refused where somebody else was quicker.
//!
//! Nothing is locked while a transaction runs. It remembers what it read (keys, and the parts of ranges that its scans have passed over, found
//! or not) and what it writes. At the commit, under the lock that orders all commits, it is asked whether anything of that was
//! written since the transaction's snapshot was taken ([`conflict`]). If not, what it read is what it would read now, so that it might as well have run now,
//! whole, in one moment: transactions are *serialisable*. Otherwise it is refused with [`ErrorKind::Conflict`], and nothing of it is applied.
//!
//! Writes that nobody read before conflict too: of two transactions that write one key, the one that commits first wins. Plain writes and batches
//! never wait and are never refused; a transaction sees that they came between.

mod conflict;
mod reads;
mod scan;
mod writes;

use std::ops::RangeBounds;
use std::sync::Arc;
use std::time::Duration;

use crate::ordered::OrderedMap;
use crate::sync::Mutex;

use self::conflict::{Footprint, check};
use self::reads::Reads;
pub use self::scan::TransactionIter;
use self::writes::{Own, Writes};
use crate::batch::{Encoder, KeyspaceId, deleted_range};
use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::journal::Durability;
use crate::key::{Kind, SequenceNumber};
use crate::keyspace::Keyspace;
use crate::range::KeyRange;
use crate::snapshot::Snapshot;
use crate::value::Value;

/// A transaction; see the module. [`Db::transaction`](crate::Db::transaction) begins one. Dropped without a commit it leaves nothing.
///
/// It can be sent to other threads, and read from by several at once. It holds a [`Snapshot`], with all that this keeps: so commit it soon.
///
/// ```
/// # use lsm::{Db, Durability, ErrorKind, KeyspaceOptions};
/// # fn main() -> lsm::Result<()> {
/// # let directory = tempfile::tempdir().unwrap();
/// # let db = Db::open(directory.path())?;
/// let accounts = db.keyspace("accounts", KeyspaceOptions::sorted())?;
/// accounts.put("ada", [30])?;
/// accounts.put("bob", [10])?;
///
/// let mut transfer = db.transaction();
/// let ada = transfer.get(&accounts, "ada")?.unwrap()[0];
/// let bob = transfer.get(&accounts, "bob")?.unwrap()[0];
/// transfer.put(&accounts, "ada", [ada - 5]);
/// transfer.put(&accounts, "bob", [bob + 5]);
/// accounts.put("ada", [0])?; // somebody else, meanwhile
/// let error = transfer.commit(Durability::System).unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::Conflict);
/// assert_eq!(accounts.get("bob")?.unwrap()[0], 10);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Transaction {
    engine: Arc<Engine>,
    /// Which opening of the engine its reads are of.
    session: u64,
    snapshot: Snapshot,
    reads: Mutex<Reads>,
    writes: OrderedMap<KeyspaceId, Writes>,
    /// The first write that cannot be: the commit says so.
    fault: Option<Error>,
}

impl Transaction {
    pub(crate) fn new(engine: &Arc<Engine>) -> Self {
        Self {
            engine: Arc::clone(engine),
            // Before the snapshot: if it is opened again between the two, the transaction is refused, and not what it read believed.
            session: engine.session(),
            snapshot: Snapshot::new(engine),
            reads: Mutex::default(),
            writes: OrderedMap::new(),
            fault: None,
        }
    }

    /// The snapshot that it reads from. What is read there does not count: it is no reason to refuse the commit.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// Succeeds for keyspaces of this database.
    fn check(&self, keyspace: &Keyspace) -> Result<()> {
        match Arc::ptr_eq(&self.engine, keyspace.engine()) {
            true => Ok(()),
            false => Err(Error::new(
                ErrorKind::InvalidArgument,
                format!("keyspace {:?} belongs to another database than the transaction", keyspace.name()),
            )),
        }
    }

    /// What it wrote itself about a key.
    fn own(&self, keyspace: &Keyspace, key: &[u8]) -> Own<'_> {
        self.writes.get(&keyspace.id()).map_or(Own::Nothing, |writes| writes.get(key))
    }

    /// The value of a key: what this transaction wrote, or else what was there when it began.
    ///
    /// # Errors
    /// Io or Corruption, naming file and offset; InvalidArgument if the keyspace is another database's; Dropped.
    pub fn get(&self, keyspace: &Keyspace, key: impl AsRef<[u8]>) -> Result<Option<Value>> {
        self.check(keyspace)?;
        let key = key.as_ref();
        match self.own(keyspace, key) {
            Own::Value(value) => Ok(Some(value.clone())),
            Own::Deleted => Ok(None),
            Own::Nothing => {
                self.reads.lock().key(keyspace.id(), key);
                self.snapshot.get(keyspace, key)
            }
        }
    }

    /// Whether a key has a value.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn contains(&self, keyspace: &Keyspace, key: impl AsRef<[u8]>) -> Result<bool> {
        self.check(keyspace)?;
        let key = key.as_ref();
        match self.own(keyspace, key) {
            Own::Value(_) => Ok(true),
            Own::Deleted => Ok(false),
            Own::Nothing => {
                self.reads.lock().key(keyspace.id(), key);
                self.snapshot.contains(keyspace, key)
            }
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
        self.check(keyspace)?;
        let key = key.as_ref();
        match self.own(keyspace, key) {
            Own::Value(value) => Ok(Some(use_value(value))),
            Own::Deleted => Ok(None),
            Own::Nothing => {
                self.reads.lock().key(keyspace.id(), key);
                self.snapshot.get_with(keyspace, key, use_value)
            }
        }
    }

    /// Says of each key what the transaction itself wrote about it (its value, or that it is gone), and gives back those of which it wrote nothing, each with its index;
    /// these count as read.
    fn asked_beyond_own<'k, K: AsRef<[u8]>>(
        &self,
        keyspace: &Keyspace,
        keys: &'k [K],
        mut own: impl FnMut(usize, Option<&Value>),
    ) -> Result<(Vec<usize>, Vec<&'k [u8]>)> {
        self.check(keyspace)?;
        let (mut indexes, mut asked) = (Vec::new(), Vec::new());
        for (index, key) in keys.iter().map(AsRef::as_ref).enumerate() {
            match self.own(keyspace, key) {
                Own::Value(value) => own(index, Some(value)),
                Own::Deleted => own(index, None),
                Own::Nothing => {
                    indexes.push(index);
                    asked.push(key);
                }
            }
        }
        // Not while `own` runs, which may be the caller's: that may read from the transaction too.
        let mut reads = self.reads.lock();
        asked.iter().for_each(|key| reads.key(keyspace.id(), key));
        Ok((indexes, asked))
    }

    /// An answer for each of many keys: `own` of what the transaction wrote about it, and what `ask` says of all others.
    fn many<K: AsRef<[u8]>, T: Clone>(
        &self,
        keyspace: &Keyspace,
        keys: &[K],
        nothing: T,
        own: impl Fn(Option<&Value>) -> T,
        ask: impl FnOnce(&[&[u8]]) -> Result<Vec<T>>,
    ) -> Result<Vec<T>> {
        let mut answers = vec![nothing; keys.len()];
        let mut set = |index, answer| {
            if let Some(place) = answers.get_mut(index) {
                *place = answer;
            }
        };
        let (indexes, asked) =
            self.asked_beyond_own(keyspace, keys, |index, value| set(index, own(value)))?;
        indexes.into_iter().zip(ask(&asked)?).for_each(|(index, answer)| set(index, answer));
        Ok(answers)
    }

    /// The values of many keys, in their order.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn multi_get<K: AsRef<[u8]>>(&self, keyspace: &Keyspace, keys: &[K]) -> Result<Vec<Option<Value>>> {
        let ask = |asked: &[&[u8]]| self.snapshot.multi_get(keyspace, asked);
        self.many(keyspace, keys, None, |value| value.cloned(), ask)
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
        let (indexes, asked) = self
            .asked_beyond_own(keyspace, keys, |index, value| use_value(index, value.map(|value| &**value)))?;
        self.snapshot.multi_get_with(keyspace, &asked, |index, value| {
            if let Some(index) = indexes.get(index) {
                use_value(*index, value);
            }
        })
    }

    /// Which of many keys have values, in their order.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn multi_contains<K: AsRef<[u8]>>(&self, keyspace: &Keyspace, keys: &[K]) -> Result<Vec<bool>> {
        let ask = |asked: &[&[u8]]| self.snapshot.multi_contains(keyspace, asked);
        self.many(keyspace, keys, false, |value| value.is_some(), ask)
    }

    /// All entries, in order of their keys.
    pub fn iter(&self, keyspace: &Keyspace) -> TransactionIter<'_> {
        self.scan(keyspace, KeyRange::all())
    }

    /// The entries of a range of keys. What the scan has passed over counts as read, also where nothing was: if somebody else adds something
    /// there, the commit is refused.
    pub fn range<K: AsRef<[u8]>>(
        &self,
        keyspace: &Keyspace,
        range: impl RangeBounds<K>,
    ) -> TransactionIter<'_> {
        self.scan(keyspace, KeyRange::from_bounds(&range))
    }

    /// The entries whose keys start with `prefix`.
    pub fn prefix(&self, keyspace: &Keyspace, prefix: impl AsRef<[u8]>) -> TransactionIter<'_> {
        self.scan(keyspace, KeyRange::prefix(prefix.as_ref()))
    }

    fn scan(&self, keyspace: &Keyspace, range: KeyRange) -> TransactionIter<'_> {
        // Of another database's keyspace it is the error that says so.
        let there = self.snapshot.scan(keyspace, range.clone());
        let own = self.check(keyspace).ok().and_then(|()| self.writes.get(&keyspace.id()));
        TransactionIter::new(&self.reads, own, keyspace.id(), range, there)
    }

    /// Writes to a keyspace of this database, if `checked` says that it can be.
    fn write(&mut self, keyspace: &Keyspace, checked: Result<()>, write: impl FnOnce(&mut Writes)) {
        match self.check(keyspace).and(checked) {
            Ok(()) => {
                let new = || Writes::new(keyspace.kind());
                write(self.writes.get_or_insert_with(keyspace.id(), new));
            }
            Err(fault) => {
                self.fault.get_or_insert(fault);
            }
        }
    }

    /// The key gets this value. One that is too long (1 MiB, 256 MiB), or has not the keyspace's width, makes the commit fail.
    pub fn put(&mut self, keyspace: &Keyspace, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        let (key, value) = (key.as_ref(), value.as_ref());
        self.write(keyspace, keyspace.check(key, value, Kind::Put), |writes| writes.put(key, value));
    }

    /// The key is gone.
    pub fn delete(&mut self, keyspace: &Keyspace, key: impl AsRef<[u8]>) {
        let key = key.as_ref();
        self.write(keyspace, keyspace.check(key, &[], Kind::Delete), |writes| writes.delete(key));
    }

    /// The keys of this range are gone. Of a keyspace with fixed widths as many as [`Batch::delete_range`](crate::Batch::delete_range) takes.
    pub fn delete_range<K: AsRef<[u8]>>(&mut self, keyspace: &Keyspace, range: impl RangeBounds<K>) {
        self.write(keyspace, Ok(()), |writes| {
            if let Some((start, end)) = deleted_range(&range) {
                writes.delete_range(start, end);
            }
        });
    }

    /// The keys that start with `prefix` are gone.
    pub fn delete_prefix(&mut self, keyspace: &Keyspace, prefix: impl AsRef<[u8]>) {
        let range = KeyRange::prefix(prefix.as_ref());
        self.delete_range::<Vec<u8>>(keyspace, (std::ops::Bound::Included(range.lower), range.upper));
    }

    /// Commits it: all of its writes are visible, and survive, or none. Returns the sequence number of the last one (of the snapshot, if there was
    /// nothing to write) once they are as durable as asked.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] if somebody else wrote since it began what this one read or writes: begin again, or see
    /// [`Db::transact`](crate::Db::transact). InvalidArgument for a key or value that is too long, or a keyspace of another database; Dropped for a keyspace
    /// that was dropped; ReadOnly; Closed; Failed and those of writing.
    pub fn commit(self, durability: Durability) -> Result<SequenceNumber> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        let mut batch = Encoder::default();
        for (id, writes) in &self.writes {
            writes.encode(*id, &mut batch);
        }
        if batch.operations() == 0 && batch.fault().is_none() {
            // What it read was so at one moment: that it was another one than now harms nobody.
            return Ok(self.snapshot.sequence());
        }
        let footprint = Footprint::new(self.reads.into_inner(), &self.writes);
        // Most of the work before the lock: under it only what came in meanwhile is looked at. The number comes before the view: that holds all up to it.
        let seen = self.engine.visible();
        let current = self.engine.view();
        check(&current, &footprint, (self.snapshot.sequence(), self.snapshot.loads()), &self.engine)?;
        let seen = (seen, current.loads);
        drop(current);
        self.engine.commit_if(&batch, durability, |view| {
            if self.engine.session() != self.session {
                return Err(Error::new(
                    ErrorKind::Conflict,
                    "the database failed and was opened again since the transaction began: it may have read what is lost. Begin it again",
                ));
            }
            check(view, &footprint, seen, &self.engine)
        })
    }
}

/// How often a transaction is run before it is given up.
const TRIES_MAX: u32 = 100;

/// What is run again gives others more room each time: it waits so long first, then twice as long with each try, up to 256 times.
const WAIT: Duration = Duration::from_micros(20);
const WAIT_DOUBLINGS_MAX: u32 = 8;

/// See [`crate::Db::transact`].
pub(crate) fn transact<R>(
    engine: &Arc<Engine>,
    durability: Durability,
    mut body: impl FnMut(&mut Transaction) -> Result<R>,
) -> Result<R> {
    let mut tries = 0;
    loop {
        let mut transaction = Transaction::new(engine);
        let returned = body(&mut transaction)?;
        tries += 1;
        match transaction.commit(durability) {
            Err(error) if error.kind() == ErrorKind::Conflict && tries < TRIES_MAX => {
                engine.wait_for_loads();
                engine.clock.sleep(WAIT * (1 << tries.min(WAIT_DOUBLINGS_MAX)));
            }
            committed => return committed.map(|_| returned),
        }
    }
}
