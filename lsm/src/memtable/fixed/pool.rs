//! Memory of memtables that are no more, kept for the next: the system zeroes each page that it gives anew, which costs as much as writing to it.
//!
//! One part is kept, the last that was given back, where memtables may take so much more; it counts as their memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::sync::Mutex;

use super::part::{Layout, Part};
use crate::charge::Charge;

/// Smaller parts are not worth keeping, in rows.
const ROWS_MIN: usize = 1 << 12;

/// See the module.
#[derive(Debug)]
pub(crate) struct Pool {
    kept: Mutex<Option<Part>>,
    charge: Arc<Charge>,
    bytes_max: AtomicUsize,
}

impl Default for Pool {
    fn default() -> Self {
        Self::charged(Arc::default(), usize::MAX)
    }
}

impl Pool {
    /// A pool whose memory counts as this, which may come to so many bytes.
    pub(crate) fn charged(charge: Arc<Charge>, bytes_max: usize) -> Self {
        Self { kept: Mutex::default(), charge, bytes_max: AtomicUsize::new(bytes_max) }
    }

    /// From now on it may come to so many bytes.
    pub(crate) fn limit(&self, bytes_max: usize) {
        self.bytes_max.store(bytes_max, Ordering::Relaxed);
    }

    /// A part with room for about so many rows; and whether all of it is memory that was used before.
    pub(super) fn take(&self, layout: Layout, rows: usize) -> (Part, bool) {
        let mut kept = self.kept.lock();
        let fits = |part: &mut Part| {
            part.layout() == layout && (rows - rows / 4..=rows.saturating_mul(2)).contains(&part.capacity())
        };
        match kept.take_if(|part| fits(part)) {
            Some(part) => {
                self.charge.subtract(part.memory_bytes());
                (part, true)
            }
            None => (Part::new(layout, rows), false),
        }
    }

    /// Bytes of memory that are kept.
    pub(crate) fn bytes(&self) -> usize {
        self.kept.lock().as_ref().map_or(0, Part::memory_bytes)
    }

    /// Keeps a part, empty, in the place of the one that was kept. If somebody was faster than its memtable went, and took new memory, it is one too many.
    pub(super) fn give(&self, mut part: Part) {
        let others = self.charge.bytes().saturating_sub(self.bytes());
        if part.capacity() < ROWS_MIN
            || others.saturating_add(part.memory_bytes()) > self.bytes_max.load(Ordering::Relaxed)
        {
            return;
        }
        part.clear();
        self.charge.add(part.memory_bytes());
        let before = self.kept.lock().replace(part);
        if let Some(before) = before {
            self.charge.subtract(before.memory_bytes());
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if let Some(part) = self.kept.get_mut() {
            self.charge.subtract(part.memory_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Kind;
    use crate::row::Widths;

    #[test]
    fn what_was_given_back_is_empty_and_counted() {
        let charge = Arc::<Charge>::default();
        let pool = Pool::charged(Arc::clone(&charge), 2 << 20);
        let layout = Layout::new(Widths::new(8, 4).unwrap());
        let (part, is_used) = pool.take(layout, 10_000);
        assert!(!is_used);
        for number in 0..10_000u64 {
            assert!(part.add(&number.to_be_bytes(), b"abcd", number, number + 1, Kind::Put));
        }
        assert_eq!(charge.bytes(), 0, "what is in use is the memtable's to count");
        pool.give(part);
        assert!(charge.bytes() > 10_000 * 20);
        assert_eq!(pool.take(layout, 100).0.capacity(), 100, "one that is much too large is left");
        let other = Layout::new(Widths::new(8, 12).unwrap());
        assert_eq!(pool.take(other, 10_000).0.count(), 0);
        let (again, is_used) = pool.take(layout, 9_000);
        assert!(is_used);
        assert_eq!((again.capacity(), again.count(), charge.bytes()), (10_000, 0, 0));
        assert!((0..10_000u64).all(|number| again.get(&number.to_be_bytes(), number, u64::MAX).is_none()));
        pool.give(again);
        pool.give(Part::new(layout, 5_000));
        let kept = pool.bytes();
        assert_eq!(charge.bytes(), kept);
        // Memtables take so much that there is no room for another part, which goes; the one that is there stays.
        charge.add(2 << 20);
        pool.give(Part::new(layout, 10_000));
        assert_eq!((pool.bytes(), charge.bytes()), (kept, kept + (2 << 20)));
        pool.limit(4 << 20);
        pool.give(Part::new(layout, 10_000));
        assert!(pool.bytes() > kept);
        charge.subtract(2 << 20);
        drop(pool);
        assert_eq!(charge.bytes(), 0);
    }

    #[test]
    fn memory_that_was_used_before_is_charged_whole_from_the_first_row_on() {
        use crate::memtable::fixed::FixedMemtable;
        let charge = Arc::<Charge>::default();
        let pool = Arc::new(Pool::charged(Arc::clone(&charge), 64 << 20));
        let widths = Widths::new(8, 24).unwrap();
        let memtable = || FixedMemtable::charged(widths, 10_000, Arc::clone(&charge), Arc::clone(&pool));
        let fill = |memtable: &FixedMemtable, numbers: std::ops::Range<u64>| {
            for number in numbers {
                memtable.add(&number.to_be_bytes(), &[7; 24], number + 1, Kind::Put);
            }
        };
        let first = memtable();
        fill(&first, 0..5_000);
        assert_eq!((first.charged_bytes(), charge.bytes()), (first.memory_bytes(), first.memory_bytes()));
        drop(first);
        let kept = pool.bytes();
        assert_eq!(charge.bytes(), kept);
        let second = memtable();
        fill(&second, 0..1);
        assert!(second.memory_bytes() < kept / 2, "it is not full");
        assert_eq!((pool.bytes(), charge.bytes(), second.charged_bytes()), (0, kept, kept));
        fill(&second, 1..10_000);
        assert_eq!((charge.bytes(), second.charged_bytes()), (kept, kept));
        fill(&second, 10_000..10_001);
        assert!(charge.bytes() > kept && charge.bytes() == second.charged_bytes(), "a second part");
        drop(second);
        assert_eq!(charge.bytes(), pool.bytes());
    }
}
