//! Memory for memtables of rows, there before it is needed: the system zeroes each page that it gives anew, which costs as much as writing to it, and may have to look for it,
//! while a writer waits.
//!
//! While much is written one part is kept: the last that a memtable gave back, or, where none fits what will be needed next, one that a thread in the background makes ready. When
//! little is written, or without threads in the background, none is. It counts as memtables' memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::sync::Mutex;

use super::part::{Layout, Part, ROWS_MAX};
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
        let kept = self.kept.lock().take_if(|part| fits(part, layout, rows));
        match kept {
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

    /// Whether there may be so many bytes more.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        self.charge.bytes().saturating_add(bytes) <= self.bytes_max.load(Ordering::Relaxed)
    }

    /// Whether so many bytes may be kept, in the place of what is kept now.
    fn has_room_instead(&self, bytes: usize) -> bool {
        self.has_room(bytes.saturating_sub(self.bytes()))
    }

    /// Keeps a part, counted, that its memtable does not need any more, in the place of the one that was kept: if somebody was faster than its memtable went, and took new memory,
    /// it is one too many.
    pub(super) fn give(&self, mut part: Part) {
        let others = self.charge.bytes().saturating_sub(self.bytes());
        if part.capacity() >= ROWS_MIN
            && self.is_wanted.load(Ordering::Relaxed)
            && others <= self.bytes_max.load(Ordering::Relaxed)
        {
            part.clear();
            self.keep(part);
        } else {
            self.let_go(Some(part));
        }
    }

    /// Keeps a part that is counted already: whoever takes it counts it no more.
    fn keep(&self, part: Part) {
        let gone = {
            let mut kept = self.kept.lock();
            match self.is_wanted.load(Ordering::Relaxed) {
                true => kept.replace(part),
                false => Some(part),
            }
        };
        self.let_go(gone);
    }

    /// What goes is counted until it is gone.
    fn let_go(&self, gone: Option<Part>) {
        if let Some(part) = gone {
            let bytes = part.memory_bytes();
            drop(part);
            self.charge.subtract(bytes);
        }
    }

    /// Has a part ready for whoever takes one with room for about so many rows, the memory of the first of them (`rows_ahead`) and of all slots; from now on one that is given is
    /// kept. One of another keyspace's stays: two of them would drive each other out.
    pub(super) fn make_ready(&self, layout: Layout, rows: usize, rows_ahead: usize) {
        let is_good = |part: &Part| part.layout() != layout || fits(part, layout, rows);
        {
            let kept = self.kept.lock();
            self.is_wanted.store(true, Ordering::Relaxed);
            if kept.as_ref().is_some_and(is_good) {
                return;
            }
        }
        let rows = rows.min(ROWS_MAX);
        let rows_ahead = rows_ahead.min(rows);
        if rows < ROWS_MIN || !self.has_room_instead(Part::bytes_of_new(layout, rows, rows_ahead)) {
            return;
        }
        // What is kept does not fit: it goes before there is another.
        let unfit = self.kept.lock().take_if(|part| !is_good(part));
        self.let_go(unfit);
        let part = Part::new(layout, rows);
        // Counted before it is there: others give up theirs for it.
        part.rows_are_ready(rows_ahead);
        self.charge.add(part.memory_bytes());
        // A writer who needs one meanwhile has taken new memory, and this is one too many.
        let is_over = || !self.has_room(0);
        if part.make_ready_unless(rows_ahead, is_over) { self.keep(part) } else { self.let_go(Some(part)) }
    }

    /// Gives back what there is no room for any more, since others take more.
    pub(crate) fn trim(&self) {
        if self.charge.bytes() > self.bytes_max.load(Ordering::Relaxed) {
            let gone = self.kept.lock().take();
            self.let_go(gone);
        }
    }

    /// Gives it back, and keeps none until one is wanted again.
    pub(crate) fn clear(&self) {
        let gone = {
            let mut kept = self.kept.lock();
            self.is_wanted.store(false, Ordering::Relaxed);
            kept.take()
        };
        self.let_go(gone);
    }
}

/// Whether a part has room for so many rows, and not for many more.
fn fits(part: &Part, layout: Layout, rows: usize) -> bool {
    let rows = rows.min(ROWS_MAX);
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
        let give = |part: Part| {
            charge.add(part.memory_bytes());
            pool.give(part);
        };
        let filled = || {
            let part = pool.take(layout, 10_000);
            for number in 0..10_000u64 {
                assert!(part.add(&number.to_be_bytes(), b"abcd", number, number + 1, Kind::Put).is_some());
            }
            part
        };
        give(filled());
        assert_eq!(charge.bytes(), 0, "none is wanted");
        pool.make_ready(layout, 10_000, 0);
        pool.clear();
        give(filled());
        assert_eq!(charge.bytes(), 0, "none is wanted any more");
        pool.make_ready(layout, 10_000, 0);
        let part = filled();
        assert_eq!(charge.bytes(), 0, "what is in use is the memtable's to count");
        give(part);
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
        give(again);
        give(Part::new(layout, 5_000));
        let kept = pool.bytes();
        assert_eq!(charge.bytes(), kept);
        // Memtables take so much that there is no room for another part, which goes; the one that is there stays.
        charge.add(2 << 20);
        give(Part::new(layout, 10_000));
        pool.make_ready(layout, 20_000, 0);
        assert_eq!((pool.bytes(), charge.bytes()), (kept, kept + (2 << 20)));
        pool.limit(4 << 20);
        give(Part::new(layout, 10_000));
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
    fn there_is_never_more_than_one_however_it_comes_about() {
        let most = Arc::new(AtomicUsize::new(0));
        let others = Arc::new(AtomicUsize::new(0));
        let charge = {
            let (most, others) = (Arc::clone(&most), Arc::clone(&others));
            Arc::new(Charge::watched(10, move |charge| {
                most.fetch_max(charge.bytes(), Ordering::Relaxed);
                // Somebody takes as much, once.
                charge.add(others.swap(0, Ordering::Relaxed));
            }))
        };
        let pool = Pool::charged(Arc::clone(&charge), 4 << 20);
        let layout = layout(24);
        let most_while = |make: &dyn Fn()| {
            most.store(0, Ordering::Relaxed);
            make();
            most.load(Ordering::Relaxed)
        };
        pool.make_ready(layout, 20_000, 20_000);
        let small = pool.bytes();
        let large = most_while(&|| pool.make_ready(layout, 40_000, 40_000));
        assert!(pool.bytes() == large && large > small, "{small}, then {large}");
        // It is taken for another, and what takes its place is in the way of others.
        drop(pool.take(layout, 40_000));
        others.store(3 << 20, Ordering::Relaxed);
        pool.make_ready(layout, 40_000, 40_000);
        assert_eq!((pool.bytes(), charge.bytes()), (0, 3 << 20), "it is given up");
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
        let first = memtable(20_000);
        first.make_ready(200_000 * row_bytes, 200_000);
        assert_eq!(charge.bytes(), 0, "nobody wrote");
        add(&first, 0..1_000);
        let before = charge.bytes();
        // More are to come than there is room for: a part that follows.
        first.make_ready(5_000 * row_bytes, 100_000);
        let slots = Part::new(layout(24), 320_000).slot_bytes();
        assert_eq!(pool.bytes(), slots + 5_000 * row_bytes);
        assert_eq!(charge.bytes(), before + 5_000 * row_bytes + pool.bytes());
        first.make_ready(5_000 * row_bytes, 100_000);
        add(&first, 1_000..6_000);
        assert_eq!(charge.bytes(), before + 5_000 * row_bytes + pool.bytes(), "it was there, and charged");
        add(&first, 6_000..15_000);
        first.make_ready(5_000 * row_bytes, 100_000);
        assert_eq!(pool.bytes(), slots + 5_000 * row_bytes, "once is enough");
        let all = charge.bytes();
        assert_eq!(all, first.charged_bytes() + pool.bytes());
        add(&first, 15_000..20_001);
        assert_eq!((pool.bytes(), charge.bytes()), (0, all));
        first.make_ready(0, 80_000);
        assert_eq!(pool.bytes(), 0, "there is room for all that is to come");
        // It is half full: a part for the next memtable.
        add(&first, 20_001..80_000);
        first.make_ready(0, 80_000);
        assert!(pool.bytes() > 0);
        let next = memtable(FixedMemtable::rows_expected(160_000));
        add(&next, 0..1);
        assert_eq!(pool.bytes(), 0);
        drop((first, next));
        assert_eq!(charge.bytes(), pool.bytes());
    }

    #[test]
    fn one_of_another_keyspace_is_not_driven_out_and_none_is_larger_than_a_part_can_be() {
        let pool = Pool::charged(Arc::default(), usize::MAX);
        pool.make_ready(layout(4), 10_000, 0);
        let kept = pool.bytes();
        pool.make_ready(layout(24), 40_000, 0);
        assert_eq!(pool.bytes(), kept);
        pool.make_ready(layout(4), 40_000, 0);
        assert!(pool.bytes() > kept);
        pool.clear();
        pool.make_ready(layout(4), 3 * ROWS_MAX, 0);
        let charged = pool.bytes();
        assert_eq!(pool.take(layout(4), 3 * ROWS_MAX).memory_bytes(), charged);
    }

    #[test]
    fn what_is_charged_is_what_is_there_whoever_does_what_beside_each_other() {
        let charge = Arc::<Charge>::default();
        let pool = Arc::new(Pool::charged(Arc::clone(&charge), 4 << 20));
        let widths = Widths::new(8, 24).unwrap();
        let ahead_bytes = 3_000 * layout(24).row_bytes();
        let active = Mutex::new(None::<Arc<FixedMemtable>>);
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for turn in 0_u32.. {
                    let memtable = active.lock().clone();
                    if let Some(memtable) = memtable {
                        memtable.make_ready(ahead_bytes, 12_000 - memtable.entry_count());
                    }
                    pool.trim();
                    if turn % 64 == 63 {
                        pool.clear();
                    }
                    if is_over.load(Ordering::Relaxed) {
                        return;
                    }
                }
            });
            for round in 0..40_u64 {
                let expected = if round % 3 == 0 { 0 } else { 15_000 };
                let memtable =
                    FixedMemtable::charged(widths, expected, Arc::clone(&charge), Arc::clone(&pool));
                let memtable = Arc::new(memtable);
                *active.lock() = Some(Arc::clone(&memtable));
                for number in 0..12_000_u64 {
                    memtable.add(&number.to_be_bytes(), &[7; 24], number + 1, Kind::Put);
                }
                assert_eq!(memtable.entry_count(), 12_000);
            }
            is_over.store(true, Ordering::Relaxed);
        });
        active.into_inner();
        pool.clear();
        assert_eq!(charge.bytes(), 0);
    }
}
