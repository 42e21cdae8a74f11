//! Which keys are surely not in a sorted memtable, so that a lookup of any other key need not search its tree.
//!
//! Filters as those of tables ([`crate::filter`]), of words that the one writer sets while readers look. Nobody knows at the beginning how many keys
//! come, so there are *stages*: the first for as many as the memtable before took, or a few; when one has what it was made for, the next is several times as large as all
//! before together, and takes what comes from then on. Nothing is ever put in again, and nobody waits. The memory follows what the memtable holds: ten bytes for each entry at
//! most, five where there are many, two where their number was known.
//!
//! A key is in the filter before its entry is visible: the bits are set before the sequence number is published, which a reader loads first.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use crate::charge::Charge;
use crate::filter::LiveFilter;

/// One for each that may be needed: so many, from the smallest first one on, are for eight million keys.
const STAGES: usize = 8;

/// Keys of the first stage where nothing is known: a memtable of few entries is small.
const KEYS_MIN: usize = 64;

/// A stage is for so many times as many keys as all before.
const GROWTH: usize = 3;

/// Likewise, as long as these are few: a lookup asks every stage.
const GROWTH_SMALL: usize = 7;

/// From so many keys on they are many.
const KEYS_MANY: usize = 1 << 15;

/// As many as in tables: one wrong answer in a hundred, from a stage that is full.
const BITS_PER_KEY: u32 = 10;

/// See the module. What readers look at shares no line of the processor's cache with what the writer changes at each key.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct Filter {
    stages: [OnceLock<LiveFilter>; STAGES],
    keys_min: usize,
    charge: Arc<Charge>,
    writer: Writer,
}

#[derive(Debug)]
#[repr(align(128))]
struct Writer {
    /// Keys that may still come into the last stage.
    left: AtomicUsize,
    /// Keys that all stages were made for.
    capacity: AtomicUsize,
    memory_bytes: AtomicUsize,
}

impl Filter {
    /// An empty one for about so many keys, charged as long as it lives; without memory before the first key.
    pub(super) fn new(keys_expected: usize, charge: Arc<Charge>) -> Self {
        Self {
            stages: [const { OnceLock::new() }; STAGES],
            keys_min: keys_expected.max(KEYS_MIN),
            charge,
            writer: Writer {
                left: AtomicUsize::new(0),
                capacity: AtomicUsize::new(0),
                memory_bytes: AtomicUsize::new(0),
            },
        }
    }

    /// Bytes of memory it takes.
    pub(super) fn memory_bytes(&self) -> usize {
        self.writer.memory_bytes.load(Ordering::Relaxed)
    }

    fn stages(&self) -> impl Iterator<Item = &LiveFilter> {
        self.stages.iter().map_while(OnceLock::get)
    }

    /// Puts a key in, by its hash. One caller at a time.
    pub(super) fn insert(&self, hash: u64) {
        let left = self.writer.left.load(Ordering::Relaxed);
        if left == 0 {
            self.grow();
        }
        // The last one goes on taking what comes when there is no place for another: it says "maybe" ever more often.
        if let Some(stage) = self.stages().last()
            && stage.insert(hash)
        {
            self.writer
                .left
                .store(self.writer.left.load(Ordering::Relaxed).saturating_sub(1), Ordering::Relaxed);
        }
    }

    #[cold]
    fn grow(&self) {
        let capacity = self.writer.capacity.load(Ordering::Relaxed);
        let keys = match capacity {
            0 => self.keys_min,
            1..KEYS_MANY => capacity * GROWTH_SMALL,
            KEYS_MANY.. => capacity.saturating_mul(GROWTH),
        };
        let Some(place) = self.stages.iter().find(|stage| stage.get().is_none()) else { return };
        let stage = LiveFilter::new(keys, BITS_PER_KEY);
        let bytes = stage.memory_bytes();
        if place.set(stage).is_ok() {
            self.writer.left.store(keys, Ordering::Relaxed);
            self.writer.capacity.store(capacity.saturating_add(keys), Ordering::Relaxed);
            self.writer.memory_bytes.fetch_add(bytes, Ordering::Relaxed);
            self.charge.add(bytes);
        }
    }

    /// Asks for the memory that [`Self::may_contain`] will look at.
    #[inline]
    pub(super) fn prefetch(&self, hash: u64) {
        self.stages().for_each(|stage| stage.prefetch(hash));
    }

    /// Whether a key with this hash may have been put in.
    #[inline]
    pub(super) fn may_contain(&self, hash: u64) -> bool {
        self.stages().any(|stage| stage.may_contain(hash))
    }
}

impl Drop for Filter {
    fn drop(&mut self) {
        self.charge.subtract(self.memory_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::{self, LINE_BYTES};

    fn hash(number: u64) -> u64 {
        filter::hash(&number.to_be_bytes())
    }

    #[test]
    fn what_was_put_in_is_found_in_any_stage() {
        for expected in [0, 5000, 100_000] {
            let filter = Filter::new(expected, Arc::default());
            assert!(!filter.may_contain(hash(0)));
            for number in 0..100_000 {
                filter.prefetch(hash(number));
                filter.insert(hash(number));
                assert!(filter.may_contain(hash(number)));
            }
            assert!((0..100_000).all(|number| filter.may_contain(hash(number))), "{expected} expected");
            assert_eq!(
                filter.stages().count(),
                match expected {
                    0 => 5,
                    5000 => 3,
                    _ => 1,
                }
            );
        }
    }

    #[test]
    fn one_that_is_overfull_still_finds_what_was_put_in() {
        let filter = Filter::new(0, Arc::default());
        filter.stages.iter().for_each(|stage| stage.set(LiveFilter::new(1, BITS_PER_KEY)).unwrap());
        (0..10_000).for_each(|number| filter.insert(hash(number)));
        assert!((0..10_000).all(|number| filter.may_contain(hash(number))));
        assert_eq!(filter.memory_bytes(), 0, "nothing was added");
    }

    #[test]
    fn what_was_not_is_mostly_not() {
        for expected in [0, 100_000] {
            let filter = Filter::new(expected, Arc::default());
            (0..100_000).for_each(|number| filter.insert(hash(number)));
            let wrong = (100_000..300_000).filter(|number| filter.may_contain(hash(*number))).count();
            assert!(wrong < 200_000 * 4 / 100, "{expected} expected: {wrong} of 200,000");
        }
    }

    #[test]
    fn its_memory_follows_what_was_put_in_and_is_charged() {
        let charge: Arc<Charge> = Arc::default();
        let filter = Filter::new(0, Arc::clone(&charge));
        assert_eq!(charge.bytes(), 0, "nothing before the first key");
        for number in 0..200_000usize {
            filter.insert(hash(number as u64));
            let each = if number < KEYS_MANY { 10 } else { 5 };
            let bound = number.max(KEYS_MIN) * each + STAGES * 2 * LINE_BYTES;
            assert!(filter.memory_bytes() <= bound, "{} for {number}", filter.memory_bytes());
        }
        assert_eq!(charge.bytes(), filter.memory_bytes());
        let before = charge.bytes();
        (0..200_000).for_each(|number| filter.insert(hash(number % 10)));
        assert_eq!(charge.bytes(), before, "the same keys again need no more");
        drop(filter);
        assert_eq!(charge.bytes(), 0);
    }
}
