//! A filter that is asked while keys are still put in.
//!
//! As those of tables, of words that one writer sets while readers look; made for a number of keys that is known at the beginning. Whoever publishes something that tells readers
//! of a key (a sequence number, a View) does so after the key was put in.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{LINE_BYTES, all_set, line, lines_for, probes, probes_for};
use crate::memory::{self, Cells};

/// Words of a line.
const LINE_WORDS: usize = LINE_BYTES / size_of::<u64>();

/// See the module.
#[derive(Debug)]
pub(crate) struct LiveFilter {
    words: Cells<AtomicU64>,
    /// Where the first line begins, so that each lies in one line of the processor's cache.
    start: usize,
    lines: usize,
    probes: u8,
}

impl LiveFilter {
    /// Bytes of memory that one for so many keys takes.
    pub(crate) fn bytes_for(keys: usize, bits_per_key: u32) -> usize {
        (lines_for(keys, bits_per_key) + 1) * LINE_BYTES
    }

    /// An empty one for so many keys.
    pub(crate) fn new(keys: usize, bits_per_key: u32) -> Self {
        let lines = lines_for(keys, bits_per_key);
        let words = Cells::<AtomicU64>::zeroed((lines + 1) * LINE_WORDS);
        let start = words.as_slice().as_ptr().align_offset(LINE_BYTES).min(LINE_WORDS);
        Self { words, start, lines, probes: probes_for(bits_per_key) }
    }

    /// Bytes of memory it takes.
    pub(crate) fn memory_bytes(&self) -> usize {
        (self.lines + 1) * LINE_BYTES
    }

    #[inline]
    fn line(&self, hash: u64) -> &[AtomicU64] {
        let start = self.start + line(hash, self.lines) * LINE_WORDS;
        self.words.as_slice().get(start..start + LINE_WORDS).unwrap_or_default()
    }

    /// Asks for the memory that the others will look at.
    #[inline]
    pub(crate) fn prefetch(&self, hash: u64) {
        memory::prefetch_at(self.line(hash), 0);
    }

    /// Puts a key in, by its hash; whether one of its bits was not set. One caller at a time.
    pub(crate) fn insert(&self, hash: u64) -> bool {
        let line = self.line(hash);
        let mut is_new = false;
        for (place, bit) in probes(hash).take(usize::from(self.probes)) {
            if let Some(word) = line.get(place) {
                // One writer: nobody sets another bit between.
                let bits = word.load(Ordering::Relaxed);
                if bits >> bit & 1 == 0 {
                    word.store(bits | 1 << bit, Ordering::Relaxed);
                    is_new = true;
                }
            }
        }
        is_new
    }

    /// Whether a key with this hash may have been put in.
    #[inline]
    pub(crate) fn may_contain(&self, hash: u64) -> bool {
        let line = self.line(hash);
        all_set(hash, self.probes, |place| {
            line.get(place).map_or(u64::MAX, |word| word.load(Ordering::Relaxed))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_lines_of_the_processor_s_cache() {
        for keys in [1, 1000, 5000, 2_000_000] {
            let filter = LiveFilter::new(keys, 10);
            assert_eq!(filter.memory_bytes(), LiveFilter::bytes_for(keys, 10));
            for number in 0..100u64 {
                let line = filter.line(crate::filter::hash(&number.to_be_bytes()));
                assert_eq!((line.len(), line.as_ptr() as usize % LINE_BYTES), (LINE_WORDS, 0));
            }
        }
    }

    #[test]
    fn what_was_put_in_is_found_while_it_is_put_in_and_others_mostly_not() {
        let hash = |number: u64| crate::filter::hash(&number.to_be_bytes());
        for (bits, wrong_max) in [(10, 2000), (12, 900)] {
            let filter = LiveFilter::new(50_000, bits);
            for number in 0..50_000 {
                filter.insert(hash(number));
                assert!(filter.may_contain(hash(number)) && filter.may_contain(hash(number / 2)));
            }
            let wrong = (50_000..200_000).filter(|number| filter.may_contain(hash(*number))).count();
            assert!(wrong < wrong_max, "{bits} bits a key: {wrong} of 150,000");
        }
    }
}
