//! One filter for the keys of several tables, so that a lookup of a key which is in none of them waits for memory once and not once for each.
//!
//! It is in memory only. A flush puts the keys of its table in while it writes it; so do the flushes after it, as long as there is place; a merge of tables that share
//! a filter makes one that shares it too, since it has no other keys. Keys of tables that are there no more stay in it until it goes, with the last
//! table that shares it: they are wrong answers of "maybe", which each table's own filter sets right.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::charge::Charge;
use crate::filter::LiveFilter;

/// A wrong answer asks the filters of all tables: it may be rarer than theirs.
const BITS_PER_KEY: u32 = 12;

/// Keys that are put in together: so many waits for memory overlap.
const TOGETHER: usize = 32;

/// See the module.
#[derive(Debug)]
pub(crate) struct SharedFilter {
    filter: LiveFilter,
    /// Keys that may still be promised.
    left: AtomicUsize,
    charge: Arc<Charge>,
}

impl SharedFilter {
    /// Bytes of memory that one for so many keys takes.
    pub(crate) fn bytes_for(keys: usize) -> usize {
        LiveFilter::bytes_for(keys, BITS_PER_KEY)
    }

    /// An empty one for so many keys, charged as long as it lives.
    pub(crate) fn new(keys: usize, charge: &Arc<Charge>) -> Self {
        let filter = LiveFilter::new(keys, BITS_PER_KEY);
        charge.add(filter.memory_bytes());
        Self { filter, left: AtomicUsize::new(keys), charge: Arc::clone(charge) }
    }

    /// Bytes of memory it takes.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.filter.memory_bytes()
    }

    /// Keeps place for so many keys; whether there was enough.
    pub(crate) fn reserve(&self, keys: usize) -> bool {
        let less = |left: usize| left.checked_sub(keys);
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
    }

    /// Asks for the memory that [`Self::may_contain`] will look at.
    #[inline]
    pub(crate) fn prefetch(&self, hash: u64) {
        self.filter.prefetch(hash);
    }

    /// Whether a key with this hash may be in one of the tables.
    #[inline]
    pub(crate) fn may_contain(&self, hash: u64) -> bool {
        self.filter.may_contain(hash)
    }
}

impl Drop for SharedFilter {
    fn drop(&mut self) {
        self.charge.subtract(self.memory_bytes());
    }
}

/// What puts the keys of one table in. There is one at a time.
#[derive(Debug)]
pub(super) struct Sharing {
    shared: Arc<SharedFilter>,
    /// Keys that wait until they are so many.
    waiting: Vec<u64>,
}

impl Sharing {
    pub(super) fn new(shared: Arc<SharedFilter>) -> Self {
        Self { shared, waiting: Vec::with_capacity(TOGETHER) }
    }

    #[inline]
    pub(super) fn push(&mut self, hash: u64) {
        self.shared.prefetch(hash);
        self.waiting.push(hash);
        if self.waiting.len() == TOGETHER {
            self.put();
        }
    }

    /// Puts in what waits: to be called when the table ends.
    pub(super) fn put(&mut self) {
        for hash in self.waiting.drain(..) {
            self.shared.filter.insert(hash);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_promised_is_no_more_than_it_was_made_for_and_what_it_takes_is_charged() {
        let charge = Arc::default();
        let shared = SharedFilter::new(1000, &charge);
        assert_eq!((charge.bytes(), shared.memory_bytes()), (SharedFilter::bytes_for(1000), charge.bytes()));
        assert!(shared.reserve(600) && !shared.reserve(401) && shared.reserve(400) && !shared.reserve(1));
        drop(shared);
        assert_eq!(charge.bytes(), 0);
    }

    #[test]
    fn every_key_is_in_it_when_the_table_ends() {
        let shared = Arc::new(SharedFilter::new(1000, &Arc::default()));
        let hash = |number: u64| crate::filter::hash(&number.to_be_bytes());
        for tables in 0..5 {
            let mut sharing = Sharing::new(Arc::clone(&shared));
            (0..tables * 33).for_each(|number| sharing.push(hash(number)));
            sharing.put();
            assert!((0..tables * 33).all(|number| shared.may_contain(hash(number))));
        }
        assert!((2000..3000).filter(|number| shared.may_contain(hash(*number))).count() < 10);
    }
}
