//! Memory for memtables of rows, there before it is needed: the system zeroes each page that it gives anew, which costs as much as writing to it, and may have to look for it,
//! while a writer waits.
//!
//! While much is written one part is kept, the last that a memtable gave back; where there is none, a thread in the background makes one ready. When little is written, it goes
//! back. It counts as memtables' memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::sync::Mutex;

use super::part::{Layout, Part};
use crate::charge::Charge;

/// Smaller parts are not worth keeping, in rows.
const ROWS_MIN: usize = 1 << 12;

/// See the module.
#[derive(Debug)]
pub(crate) struct Pool {
    kept: Mutex<Option<Part>>,
    /// Whether one is kept; changed under the lock of `kept`.
    is_wanted: AtomicBool,
    charge: Arc<Charge>,
    bytes_max: AtomicUsize,
}

impl Default for Pool {
    fn default() -> Self {
        Self::charged(Arc::default(), usize::MAX)
    }
}

impl Pool {
    /// A pool whose memory counts as this, which may come to so many bytes. Nothing is kept before [`Self::make_ready`].
    pub(crate) fn charged(charge: Arc<Charge>, bytes_max: usize) -> Self {
        let (is_wanted, bytes_max) = (AtomicBool::new(false), AtomicUsize::new(bytes_max));
        Self { kept: Mutex::default(), is_wanted, charge, bytes_max }
    }

    /// From now on it may come to so many bytes.
    pub(crate) fn limit(&self, bytes_max: usize) {
        self.bytes_max.store(bytes_max, Ordering::Relaxed);
    }

    /// A part with room for about so many rows.
    pub(super) fn take(&self, layout: Layout, rows: usize) -> Part {
        match self.kept.lock().take_if(|part| fits(part, layout, rows)) {
            Some(part) => {
                self.charge.subtract(part.memory_bytes());
                part
            }
            None => Part::new(layout, rows),
        }
    }

    /// Bytes of memory that are kept.
    pub(crate) fn bytes(&self) -> usize {
        self.kept.lock().as_ref().map_or(0, Part::memory_bytes)
    }

    /// Whether so many bytes may be kept, in the place of what is kept now.
    fn has_room(&self, bytes: usize) -> bool {
        let others = self.charge.bytes().saturating_sub(self.bytes());
        others.saturating_add(bytes) <= self.bytes_max.load(Ordering::Relaxed)
    }

    /// Keeps a part that its memtable does not need any more, in the place of the one that was kept: if somebody was faster than its memtable went, and took new memory, it is
    /// one too many.
    pub(super) fn give(&self, mut part: Part) {
        if part.capacity() >= ROWS_MIN
            && self.is_wanted.load(Ordering::Relaxed)
            && self.has_room(part.memory_bytes())
        {
            part.clear();
            self.keep(part);
        }
    }

    fn keep(&self, part: Part) {
        // Counted before it is there: whoever takes it counts it no more.
        let bytes = part.memory_bytes();
        self.charge.add(bytes);
        let gone = {
            let mut kept = self.kept.lock();
            match self.is_wanted.load(Ordering::Relaxed) {
                true => kept.replace(part),
                false => Some(part),
            }
        };
        self.charge.subtract(gone.as_ref().map_or(0, Part::memory_bytes));
    }

    /// Has a part ready for whoever takes one with room for about so many rows, the memory of the first of them (`rows_ahead`) and of all slots; from now on one that is given is kept.
    pub(super) fn make_ready(&self, layout: Layout, rows: usize, rows_ahead: usize) {
        {
            let kept = self.kept.lock();
            self.is_wanted.store(true, Ordering::Relaxed);
            if kept.as_ref().is_some_and(|part| fits(part, layout, rows)) {
                return;
            }
        }
        let part = Part::new(layout, rows);
        if part.capacity() >= ROWS_MIN && self.has_room(part.slot_bytes() + rows_ahead * layout.row_bytes()) {
            part.make_slots_ready();
            part.make_rows_ready(rows_ahead);
            self.keep(part);
        }
    }

    /// Gives back what there is no room for any more, since others take more.
    pub(crate) fn trim(&self) {
        if self.charge.bytes() > self.bytes_max.load(Ordering::Relaxed) {
            let gone = self.kept.lock().take();
            self.charge.subtract(gone.as_ref().map_or(0, Part::memory_bytes));
        }
    }

    /// Gives it back, and keeps none until one is wanted again.
    pub(crate) fn clear(&self) {
        let gone = {
            let mut kept = self.kept.lock();
            self.is_wanted.store(false, Ordering::Relaxed);
            kept.take()
        };
        self.charge.subtract(gone.as_ref().map_or(0, Part::memory_bytes));
    }
}

/// Whether a part has room for so many rows, and not for many more.
fn fits(part: &Part, layout: Layout, rows: usize) -> bool {
    part.layout() == layout && (rows - rows / 4..=rows.saturating_mul(2)).contains(&part.capacity())
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Kind;
    use crate::memtable::fixed::FixedMemtable;
    use crate::row::Widths;

    fn layout(value: usize) -> Layout {
        Layout::new(Widths::new(8, value).unwrap())
    }

    #[test]
    fn what_was_given_back_is_empty_and_counted() {
        let charge = Arc::<Charge>::default();
        let pool = Pool::charged(Arc::clone(&charge), 2 << 20);
        let layout = layout(4);
        let filled = || {
            let part = pool.take(layout, 10_000);
            for number in 0..10_000u64 {
                assert!(part.add(&number.to_be_bytes(), b"abcd", number, number + 1, Kind::Put).is_some());
            }
            part
        };
        pool.give(filled());
        assert_eq!(charge.bytes(), 0, "none is wanted");
        pool.make_ready(layout, 10_000, 0);
        pool.clear();
        pool.give(filled());
        assert_eq!(charge.bytes(), 0, "none is wanted any more");
        pool.make_ready(layout, 10_000, 0);
        let part = filled();
        assert_eq!(charge.bytes(), 0, "what is in use is the memtable's to count");
        pool.give(part);
        assert!(charge.bytes() > 10_000 * 20);
        assert_eq!(pool.take(layout, 100).capacity(), 100, "one that is much too large is left");
        let other = Layout::new(Widths::new(8, 12).unwrap());
        assert_eq!(pool.take(other, 10_000).count(), 0);
        let kept = pool.bytes();
        assert_eq!(charge.bytes(), kept);
        let again = pool.take(layout, 9_000);
        assert_eq!((again.capacity(), again.count(), charge.bytes()), (10_000, 0, 0));
        assert_eq!(again.memory_bytes(), kept, "its memory is there still");
        assert!((0..10_000u64).all(|number| again.get(&number.to_be_bytes(), number, u64::MAX).is_none()));
        pool.give(again);
        pool.give(Part::new(layout, 5_000));
        let kept = pool.bytes();
        assert_eq!(charge.bytes(), kept);
        // Memtables take so much that there is no room for another part, which goes; the one that is there stays.
        charge.add(2 << 20);
        pool.give(Part::new(layout, 10_000));
        pool.make_ready(layout, 20_000, 0);
        assert_eq!((pool.bytes(), charge.bytes()), (kept, kept + (2 << 20)));
        pool.limit(4 << 20);
        pool.give(Part::new(layout, 10_000));
        let kept = pool.bytes();
        assert_eq!(charge.bytes(), kept + (2 << 20));
        pool.trim();
        assert_eq!(pool.bytes(), kept);
        pool.limit(2 << 20);
        pool.trim();
        assert_eq!(pool.bytes(), 0, "others take all");
        charge.subtract(2 << 20);
        pool.make_ready(layout, 10_000, 0);
        drop(pool);
        assert_eq!(charge.bytes(), 0);
    }

    #[test]
    fn memory_is_charged_from_when_it_is_there() {
        let charge = Arc::<Charge>::default();
        let pool = Arc::new(Pool::charged(Arc::clone(&charge), 64 << 20));
        let widths = Widths::new(8, 24).unwrap();
        let memtable = || FixedMemtable::charged(widths, 10_000, Arc::clone(&charge), Arc::clone(&pool));
        let fill = |memtable: &FixedMemtable, numbers: std::ops::Range<u64>| {
            for number in numbers {
                memtable.add(&number.to_be_bytes(), &[7; 24], number + 1, Kind::Put);
            }
        };
        pool.make_ready(layout(24), 1 << 14, 0);
        drop(pool.take(layout(24), 1 << 14));
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
        fill(&second, 1..5_000);
        assert_eq!((charge.bytes(), second.charged_bytes()), (kept, kept));
        fill(&second, 5_000..10_000);
        let whole = second.memory_bytes();
        assert!(whole > kept && charge.bytes() == whole && second.charged_bytes() == whole, "new memory");
        fill(&second, 10_000..10_001);
        assert!(charge.bytes() > whole && charge.bytes() == second.charged_bytes(), "a second part");
        drop(second);
        assert_eq!(charge.bytes(), pool.bytes());
    }

    #[test]
    fn memory_is_made_ready_ahead_of_rows_and_a_part_ahead_of_its_need() {
        let charge = Arc::<Charge>::default();
        let pool = Arc::new(Pool::charged(Arc::clone(&charge), 64 << 20));
        let widths = Widths::new(8, 24).unwrap();
        let memtable = |rows| FixedMemtable::charged(widths, rows, Arc::clone(&charge), Arc::clone(&pool));
        let add = |memtable: &FixedMemtable, numbers: std::ops::Range<u64>| {
            for number in numbers {
                memtable.add(&number.to_be_bytes(), &[7; 24], number + 1, Kind::Put);
            }
        };
        let row_bytes = layout(24).row_bytes();
        let full = 200_000 * row_bytes;
        let first = memtable(20_000);
        first.make_ready(full, full);
        assert_eq!(charge.bytes(), 0, "nobody wrote");
        add(&first, 0..1_000);
        let before = charge.bytes();
        // More are to come than there is room for: a part that follows.
        first.make_ready(5_000 * row_bytes, full);
        let slots = Part::new(layout(24), 320_000).slot_bytes();
        assert_eq!(pool.bytes(), slots + 5_000 * row_bytes);
        assert_eq!(charge.bytes(), before + 5_000 * row_bytes + pool.bytes());
        first.make_ready(5_000 * row_bytes, full);
        add(&first, 1_000..6_000);
        assert_eq!(charge.bytes(), before + 5_000 * row_bytes + pool.bytes(), "it was there, and charged");
        add(&first, 6_000..15_000);
        first.make_ready(5_000 * row_bytes, full);
        assert_eq!(pool.bytes(), slots + 5_000 * row_bytes, "once is enough");
        let all = charge.bytes();
        assert_eq!(all, first.charged_bytes() + pool.bytes());
        add(&first, 15_000..20_001);
        assert_eq!((pool.bytes(), charge.bytes()), (0, all));
        first.make_ready(0, full);
        assert_eq!(pool.bytes(), 0, "there is room for all that is to come");
        // It is half full: a part for the next memtable.
        add(&first, 20_001..80_000);
        first.make_ready(0, full);
        assert!(pool.bytes() > 0);
        let next = memtable(FixedMemtable::rows_expected(160_000));
        add(&next, 0..1);
        assert_eq!(pool.bytes(), 0);
        drop((first, next));
        assert_eq!(charge.bytes(), pool.bytes());
    }
}
