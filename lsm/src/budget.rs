//! The one memory budget: memtables, block cache, what open tables keep; and who yields.
//!
//! Memtables are bounded by freezing and flushing them, open tables by their number; the cache takes what is left and is the one
//! that shrinks. What is set aside for memtables is lent to the cache while they do not need it. Nobody waits for pinned memory (tables and memtables that a snapshot or a scan keeps alive): it is charged, because each memtable and
//! table counts itself from when it is made until it is dropped ([`crate::charge`]), and the cache is smaller meanwhile. So are the buffers of a merge of rows,
//! for which the cache gives half of its own part too.
//!
//! What the budget means is anonymous memory, and a tenth of it above it for buffers of other jobs, those that each thread keeps for what it reads (two of up to 65 KiB), and what the allocator cannot
//! give back. Where a tenth is not enough for those, some of the budget is left to them. What the allocator can give back, and would keep, it is asked for when the cache has shrunk, a merge has ended or the database is closed; what is large, and there for a moment, comes from
//! the system ([`crate::memory`]).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::cache::BlockCache;
use crate::charge::Charge;
use crate::memory;
use crate::memtable::Supply;
use crate::sync::Mutex;

/// The part of the budget that the cache keeps whatever the others take: without any, each lookup would read and decode.
const CACHE_PART_MIN: usize = 8;

/// What nobody counts comes to so much, mostly; as far as a tenth of a budget is less, it is taken off it, up to one part in so many.
const UNCOUNTED_BYTES: usize = 14 << 20;
const UNCOUNTED_PART_MAX: usize = 3;

/// Of the memory that is set aside for memtables, a part of the budget is never lent: for what is charged to nobody. One in so many.
const UNLENT_PART: usize = 8;

/// What is lent follows the memtables in steps of such a part of the budget, of a power of two above this many bits.
const STEP_PART: usize = 64;
const STEP_BITS_MIN: u32 = 16;

/// When so large a part of the budget was freed in small pieces, between these bounds, the allocator is asked to give the system what nobody uses: it would keep it.
const FREED_PART: usize = 32;
const FREED_BYTES_MIN: usize = 1 << 20;
const FREED_BYTES_MAX: usize = 64 << 20;

/// The budget, and the cache that fills what others leave.
#[derive(Debug)]
pub(crate) struct Budget {
    /// What is shared out: all of it but what is left to what nobody counts.
    memory_bytes: usize,
    left_bytes: usize,
    cache: Arc<BlockCache>,
    lender: Arc<Lender>,
    /// What all memtables take.
    memtables: Supply,
    /// What tables keep in memory beside the cache.
    resident: Arc<Charge>,
    /// Buffers of loads.
    loads: Arc<Charge>,
    /// Buffers of merges of rows.
    merges: Arc<Charge>,
    /// What was pinned when a View was last installed.
    pinned_before: AtomicUsize,
    /// What was freed since the allocator was last asked to give back what it keeps.
    freed: AtomicUsize,
}

/// Lends the cache what memtables may take and have not taken.
#[derive(Debug)]
struct Lender {
    cache: Arc<BlockCache>,
    /// Memtables may take this much when all that may wait are waiting.
    write_bytes_max: AtomicUsize,
    /// So much of it is not lent; and the step, as a power of two, in which they are followed.
    unlent_bytes: usize,
    step_bits: u32,
    turn: Mutex<()>,
}

impl Lender {
    fn new(cache: Arc<BlockCache>, memory_bytes: usize, write_bytes_max: usize) -> Self {
        Self {
            cache,
            write_bytes_max: AtomicUsize::new(write_bytes_max),
            unlent_bytes: memory_bytes / UNLENT_PART,
            step_bits: (memory_bytes / STEP_PART).checked_ilog2().unwrap_or(0).max(STEP_BITS_MIN),
            turn: Mutex::default(),
        }
    }

    fn lend(&self, memtables: &Charge) {
        // One at a time, and each looks itself: the last one knows what is there.
        let _turn = self.turn.lock();
        let taken = memtables.bytes() | ((1 << self.step_bits) - 1);
        let kept = taken.saturating_add(self.unlent_bytes);
        self.cache.lend(self.write_bytes_max.load(Ordering::Relaxed).saturating_sub(kept));
    }
}

impl Budget {
    /// A budget of which the write buffers may take so much.
    pub(crate) fn new(memory_bytes: usize, write_bytes_max: usize) -> Self {
        let wanted = UNCOUNTED_BYTES.saturating_sub(memory_bytes / 10);
        Self::shared_out(memory_bytes, wanted.min(memory_bytes / UNCOUNTED_PART_MAX), write_bytes_max)
    }

    fn shared_out(all_bytes: usize, left_bytes: usize, write_bytes_max: usize) -> Self {
        let memory_bytes = all_bytes - left_bytes;
        let cache = Arc::new(BlockCache::new(0));
        let lender = Arc::new(Lender::new(Arc::clone(&cache), memory_bytes, write_bytes_max));
        let watcher = Arc::clone(&lender);
        let memtables = Arc::new(Charge::watched(lender.step_bits, move |memtables| watcher.lend(memtables)));
        let budget = Self {
            memory_bytes,
            left_bytes,
            cache,
            lender,
            memtables: Supply::charged(memtables, write_bytes_max),
            resident: Arc::default(),
            loads: Arc::default(),
            merges: Arc::default(),
            pinned_before: AtomicUsize::new(0),
            freed: AtomicUsize::new(0),
        };
        budget.lender.lend(&budget.memtables.charge);
        budget.settle(0, 0);
        budget
    }

    /// The cache.
    pub(crate) fn cache(&self) -> &Arc<BlockCache> {
        &self.cache
    }

    /// All of it, in bytes.
    pub(crate) fn all_bytes(&self) -> usize {
        self.memory_bytes + self.left_bytes
    }

    /// From now on the write buffers may take so much.
    pub(crate) fn expect_writes(&self, write_bytes_max: usize) {
        let before = self.lender.write_bytes_max.swap(write_bytes_max, Ordering::Relaxed);
        if before != write_bytes_max {
            self.memtables.limit(write_bytes_max);
            self.lender.lend(&self.memtables.charge);
        }
    }

    /// What memtables may come to take.
    fn write_bytes_max(&self) -> usize {
        self.lender.write_bytes_max.load(Ordering::Relaxed)
    }

    /// Where memtables get their memory.
    pub(crate) fn memtables(&self) -> &Supply {
        &self.memtables
    }

    /// What tables of fixed widths keep in memory beside the cache: rows, indexes and filters, as if all of it were loaded.
    pub(crate) fn resident(&self) -> &Arc<Charge> {
        &self.resident
    }

    /// What loads keep in memory before they write it.
    pub(crate) fn loads(&self) -> &Arc<Charge> {
        &self.loads
    }

    /// What merges of rows need while they run: the cache makes room for it, out of its part too, and nothing else does.
    pub(crate) fn merges(&self) -> &Arc<Charge> {
        &self.merges
    }

    /// How many bytes are left, and leave the cache its part: twice what tables have pinned at least, which nobody can take from them.
    pub(crate) fn room(&self) -> usize {
        let cache = (self.memory_bytes / CACHE_PART_MIN).max(self.cache.pinned_bytes().saturating_mul(2));
        let taken =
            [self.write_bytes_max(), self.table_bytes(), self.resident.bytes(), self.loads.bytes(), cache];
        self.memory_bytes.saturating_sub(taken.into_iter().fold(0, usize::saturating_add))
    }

    /// Whether so many bytes more may be resident.
    pub(crate) fn has_room(&self, bytes: usize) -> bool {
        bytes <= self.room()
    }

    /// What all open tables take, likewise.
    pub(crate) fn table_bytes(&self) -> usize {
        self.cache.table_bytes().bytes()
    }

    /// Gives the cache what open tables and memtables leave, when a View is installed: those that are written and flushed may come to take
    /// `write_bytes`, others that somebody keeps take `pinned_bytes`.
    pub(crate) fn settle(&self, write_bytes: usize, pinned_bytes: usize) {
        // Whoever reads just now has the View of before, for a moment: what is pinned is what was so the last time too.
        let before = self.pinned_before.swap(pinned_bytes, Ordering::Relaxed);
        self.give(write_bytes, pinned_bytes.min(before));
    }

    /// Gives the cache what somebody has let go of, too.
    pub(crate) fn release(&self, write_bytes: usize, pinned_bytes: usize) {
        let before = self.pinned_before.fetch_min(pinned_bytes, Ordering::Relaxed);
        self.give(write_bytes, pinned_bytes.min(before));
    }

    fn give(&self, write_bytes: usize, pinned_bytes: usize) {
        // The write buffers are set aside before they fill: a cache that breathes with each flush keeps nothing.
        let taken = write_bytes.max(self.write_bytes_max()).saturating_add(pinned_bytes);
        let kept =
            self.table_bytes().saturating_add(self.resident.bytes()).saturating_add(self.loads.bytes());
        let left = self.memory_bytes.saturating_sub(taken.saturating_add(kept));
        let (part, merges) = (self.memory_bytes / CACHE_PART_MIN, self.merges.bytes());
        let capacity = left.saturating_sub(merges).max(part - merges.min(part / 2));
        let before = self.cache.capacity_bytes();
        if capacity != before {
            let used = if capacity < before { self.cache.own_bytes() } else { 0 };
            self.cache.set_capacity(capacity);
            self.freed(used.saturating_sub(capacity));
        }
    }

    /// So much was freed in pieces that went through the allocator, which may keep it.
    pub(crate) fn freed(&self, bytes: usize) {
        let more = |freed: usize| Some(freed.saturating_add(bytes));
        let _ = self.freed.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
    }

    /// Asks the allocator for what it keeps, if enough was freed since the last time. It looks through all that the process has: for a thread in the background that
    /// no reader and no writer waits for.
    pub(crate) fn give_back(&self) {
        self.freed(self.cache.buffers().take_refused());
        if self.is_much(self.freed.load(Ordering::Relaxed)) {
            self.freed.store(0, Ordering::Relaxed);
            memory::give_back();
        }
    }

    /// Whether its end frees so much that the allocator is to be asked for it.
    pub(crate) fn frees_much(&self) -> bool {
        let freed = self.freed.load(Ordering::Relaxed);
        self.is_much(freed.saturating_add(self.cache.own_bytes()).saturating_add(self.table_bytes()))
    }

    fn is_much(&self, freed: usize) -> bool {
        freed >= (self.memory_bytes / FREED_PART).clamp(FREED_BYTES_MIN, FREED_BYTES_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::MEMORY_BYTES_MIN;

    #[test]
    fn the_cache_takes_what_is_left_and_keeps_a_part() {
        let budget = Budget::shared_out(1000, 0, 300);
        let capacity = |write_bytes, pinned_bytes| {
            budget.settle(write_bytes, pinned_bytes);
            budget.settle(write_bytes, pinned_bytes);
            budget.cache.capacity_bytes()
        };
        assert_eq!(capacity(0, 0), 700);
        assert_eq!(capacity(200, 0), 700);
        assert_eq!(capacity(500, 0), 500);
        assert_eq!(capacity(0, 200), 500);
        assert_eq!(capacity(500, 5000), 125);
        budget.cache.table_bytes().add(100);
        assert_eq!(capacity(200, 0), 600);
        budget.cache.table_bytes().subtract(100);
        assert_eq!(capacity(200, 0), 700);
        budget.loads().add(300);
        assert_eq!((capacity(200, 0), budget.room()), (400, 275));
        assert!(budget.has_room(275) && !budget.has_room(276));
        budget.merges().add(150);
        assert_eq!((capacity(200, 0), budget.room()), (250, 275), "tables that are resident stay so");
        budget.loads().add(1000);
        assert_eq!((capacity(200, 0), budget.room()), (63, 0));
        budget.merges().subtract(120);
        assert_eq!(capacity(200, 0), 95);
        budget.merges().subtract(30);
        assert_eq!(capacity(200, 0), 125);
    }

    #[test]
    fn of_a_small_budget_some_is_left_to_what_nobody_counts() {
        let shared = |mebibytes: usize| {
            let budget = Budget::new(mebibytes << 20, 0);
            assert_eq!(budget.all_bytes(), mebibytes << 20);
            budget.memory_bytes >> 10
        };
        assert_eq!([4, 40, 100, 140, 256].map(shared), [2730, 30 << 10, 96 << 10, 140 << 10, 256 << 10]);
        for mebibytes in MEMORY_BYTES_MIN >> 20..300 {
            // Of the least budget a third is a little less than that.
            let uncounted = (UNCOUNTED_BYTES >> 10) - (1 << 8);
            let allowed = (mebibytes << 10) / 10 * 11;
            assert!(shared(mebibytes) + uncounted <= allowed + 16, "{mebibytes} MiB");
        }
    }

    #[test]
    fn what_memtables_do_not_use_is_lent() {
        let budget = Budget::shared_out(64 << 20, 0, 24 << 20);
        let fill = || {
            for offset in 0..100_000 {
                budget.cache.insert(1, offset, crate::block::Block::opaque(vec![0; 4000]));
            }
            budget.cache.used_bytes()
        };
        let all = (64 << 20) - (64 << 20) / UNLENT_PART;
        let used = fill();
        assert!((all / 20 * 17..=all).contains(&used), "{used} of {all}");
        // A memtable grows, faster than anything is read: what it takes is free before it is taken.
        for step in 1..=24 {
            budget.memtables.charge.add(1 << 20);
            let used = budget.cache.used_bytes();
            assert!(used <= all - (step << 20).min(all / 4), "{used} at {step}");
        }
        assert!(fill() <= 40 << 20);
        budget.memtables.charge.subtract(24 << 20);
        assert!(fill() >= all / 20 * 17);
        budget.expect_writes(8 << 20);
        budget.settle(0, 0);
        let used = fill();
        assert!((all / 20 * 17..=all).contains(&used), "{used} of {all}");
    }

    #[test]
    fn what_tables_have_pinned_is_nobody_elses() {
        let budget = Budget::shared_out(1 << 20, 0, 1 << 18);
        let block = crate::block::Block::opaque(vec![0; 1 << 17]);
        let before = budget.room();
        assert_eq!(before, (1 << 20) - (1 << 18) - (1 << 17));
        assert!(budget.cache.pin(BlockCache::bytes_of(&block)));
        let pinned = budget.cache.pinned_bytes();
        assert_eq!(budget.room(), before + (1 << 17) - 2 * pinned);
        budget.loads().add(budget.room());
        budget.settle(0, 0);
        assert!(budget.cache.capacity_bytes() >= 2 * pinned, "so that what is pinned and what is cached fit");
        budget.cache.unpin(BlockCache::bytes_of(&block));
    }

    #[test]
    fn only_what_stays_pinned_counts_and_what_is_let_go_of_does_not() {
        let budget = Budget::shared_out(1000, 0, 300);
        let capacity = || budget.cache.capacity_bytes();
        budget.settle(0, 200);
        assert_eq!(capacity(), 700, "a reader of the moment");
        budget.release(0, 300);
        budget.settle(0, 200);
        assert_eq!(capacity(), 500);
        budget.release(0, 50);
        assert_eq!(capacity(), 650);
        budget.settle(0, 0);
        assert_eq!(capacity(), 700);
    }
}
