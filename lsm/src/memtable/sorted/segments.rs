//! Memory for trees, made ready before it is needed: the system zeroes what it gives, and may have to look for it, while a writer waits.
//!
//! While much is written, what a memtable leaves is kept for the next, and a thread in the background sees to it that there always is some. When little is
//! written, all of it goes back. It counts as memtables' memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use memmap2::MmapRaw;

use crate::charge::Charge;
use crate::memory;
use crate::sync::Mutex;

/// What the system gives at once, a huge page where it has any: a tree of tens of megabytes pays for each page that the processor must find.
pub(crate) const SEGMENT_BYTES: usize = 2 << 20;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Segments {
    ready: Mutex<Vec<MmapRaw>>,
    /// So many are kept.
    count_max: AtomicUsize,
    charge: Arc<Charge>,
    /// All that counts as this may come to so many bytes.
    bytes_max: AtomicUsize,
}

impl Segments {
    /// Segments that count as this. None are kept before [`Self::fill`].
    pub(crate) fn charged(charge: Arc<Charge>, bytes_max: usize) -> Self {
        let (count_max, bytes_max) = (AtomicUsize::new(0), AtomicUsize::new(bytes_max));
        Self { ready: Mutex::default(), count_max, charge, bytes_max }
    }

    /// From now on all of it may come to so many bytes.
    pub(crate) fn limit(&self, bytes_max: usize) {
        self.bytes_max.store(bytes_max, Ordering::Relaxed);
    }

    /// Bytes that are kept.
    pub(crate) fn bytes(&self) -> usize {
        self.ready.lock().len() * SEGMENT_BYTES
    }

    /// A segment, with anything in it; `None` where the system has none to give.
    pub(super) fn take(&self) -> Option<MmapRaw> {
        let ready = self.ready.lock().pop();
        match ready {
            Some(segment) => {
                self.charge.subtract(SEGMENT_BYTES);
                Some(segment)
            }
            None => memory::map(SEGMENT_BYTES).map(MmapRaw::from),
        }
    }

    /// Whether one more would be kept.
    fn has_room(&self) -> bool {
        self.ready.lock().len() < self.count_max.load(Ordering::Relaxed)
            && self.charge.bytes().saturating_add(SEGMENT_BYTES) <= self.bytes_max.load(Ordering::Relaxed)
    }

    /// Keeps a segment that is not used any more, if one is wanted. (What was in it is counted no more.)
    pub(super) fn give(&self, segment: MmapRaw) {
        // Whoever takes one relies on its size.
        if segment.len() != SEGMENT_BYTES || !self.has_room() {
            return;
        }
        // Counted before it is there: whoever takes it counts it no more.
        self.charge.add(SEGMENT_BYTES);
        let mut ready = self.ready.lock();
        if ready.len() < self.count_max.load(Ordering::Relaxed) {
            return ready.push(segment);
        }
        drop(ready);
        self.charge.subtract(SEGMENT_BYTES);
    }

    /// Makes segments ready until there are so many bytes of them, touched page by page, so that nobody else waits for it; from now on so many that are given are kept.
    pub(crate) fn fill(&self, ready_bytes: usize, kept_bytes: usize) {
        self.count_max.store(kept_bytes / SEGMENT_BYTES, Ordering::Relaxed);
        while self.has_room() && self.bytes().saturating_add(SEGMENT_BYTES) <= ready_bytes {
            let Some(mut segment) = memory::map(SEGMENT_BYTES) else { return };
            segment.chunks_mut(memory::PAGE_BYTES).filter_map(|page| page.first_mut()).for_each(|first| {
                // Any write will do, as long as it is one.
                *std::hint::black_box(first) = 1;
            });
            self.give(segment.into());
        }
    }

    /// Gives back what there is no room for any more, since others take more.
    pub(crate) fn trim(&self) {
        while self.charge.bytes() > self.bytes_max.load(Ordering::Relaxed) {
            let Some(_gone) = self.ready.lock().pop() else { return };
            self.charge.subtract(SEGMENT_BYTES);
        }
    }

    /// Gives all of them back, and keeps none until they are wanted again.
    pub(crate) fn clear(&self) {
        let gone = {
            let mut ready = self.ready.lock();
            self.count_max.store(0, Ordering::Relaxed);
            std::mem::take(&mut *ready)
        };
        self.charge.subtract(gone.len() * SEGMENT_BYTES);
    }
}

impl Drop for Segments {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ready_is_counted_and_taken_first() {
        let charge = Arc::<Charge>::default();
        let segments = Segments::charged(Arc::clone(&charge), 5 * SEGMENT_BYTES);
        let counted = || (segments.bytes() / SEGMENT_BYTES, charge.bytes() / SEGMENT_BYTES);
        segments.give(segments.take().unwrap());
        assert_eq!(counted(), (0, 0), "none is wanted");
        segments.fill(2 * SEGMENT_BYTES, 3 * SEGMENT_BYTES);
        assert_eq!(counted(), (2, 2));
        let taken = [segments.take().unwrap(), segments.take().unwrap(), segments.take().unwrap()];
        assert_eq!(counted(), (0, 0), "the third was new");
        taken.into_iter().for_each(|segment| segments.give(segment));
        assert_eq!(counted(), (3, 3));
        segments.give(memory::map(SEGMENT_BYTES).unwrap().into());
        assert_eq!(counted(), (3, 3), "one too many");
        drop(segments.take());
        segments.give(memory::map(4096).unwrap().into());
        assert_eq!(counted(), (2, 2), "of another size");
        charge.add(3 * SEGMENT_BYTES);
        segments.give(memory::map(SEGMENT_BYTES).unwrap().into());
        assert_eq!(counted(), (2, 5), "no room");
        segments.limit(6 * SEGMENT_BYTES);
        segments.give(memory::map(SEGMENT_BYTES).unwrap().into());
        assert_eq!(counted(), (3, 6));
        charge.add(2 * SEGMENT_BYTES);
        segments.trim();
        assert_eq!(counted(), (1, 6), "others take more");
        charge.subtract(2 * SEGMENT_BYTES);
        segments.trim();
        segments.fill(4 * SEGMENT_BYTES, 4 * SEGMENT_BYTES);
        assert_eq!(counted(), (3, 6), "no room for more");
        segments.clear();
        segments.give(segments.take().unwrap());
        assert_eq!(counted(), (0, 3), "none is wanted");
        segments.fill(SEGMENT_BYTES, SEGMENT_BYTES);
        drop(segments);
        assert_eq!(charge.bytes(), 3 * SEGMENT_BYTES);
    }
}
