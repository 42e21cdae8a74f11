//! Which of the numbered keys are there: one bit each, kept beside the engine, so that a reader knows what it must find.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::convert::to_usize;

/// A set of numbers below a count.
#[derive(Debug)]
pub(crate) struct Presence {
    words: Box<[AtomicU64]>,
}

impl Presence {
    /// With none of them.
    pub(crate) fn new(count: u64) -> Self {
        Self { words: (0..count.div_ceil(64)).map(|_| AtomicU64::new(0)).collect() }
    }

    fn at(&self, number: u64) -> Option<(&AtomicU64, u64)> {
        Some((self.words.get(to_usize(number / 64))?, 1 << (number % 64)))
    }

    /// Numbers that it has place for are put in; whether it was there already.
    pub(crate) fn insert(&self, number: u64) -> bool {
        self.at(number).is_some_and(|(word, bit)| word.fetch_or(bit, Ordering::Relaxed) & bit != 0)
    }

    pub(crate) fn remove(&self, number: u64) {
        if let Some((word, bit)) = self.at(number) {
            word.fetch_and(!bit, Ordering::Relaxed);
        }
    }

    pub(crate) fn contains(&self, number: u64) -> bool {
        self.at(number).is_some_and(|(word, bit)| word.load(Ordering::Relaxed) & bit != 0)
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u64 {
        self.words.iter().map(|word| u64::from(word.load(Ordering::Relaxed).count_ones())).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_and_go() {
        let presence = Presence::new(130);
        for number in [0, 63, 64, 129] {
            assert!(!presence.contains(number));
            assert!(!presence.insert(number));
            assert!(presence.insert(number));
            assert!(presence.contains(number));
        }
        assert_eq!(presence.count(), 4);
        presence.remove(64);
        assert!(!presence.contains(64) && presence.contains(63));
        assert!(!presence.insert(1000) && !presence.contains(1000), "beyond its place is nothing");
    }
}
