//! The one memory budget: memtables, block cache, what open tables keep; and who yields.
//!
//! Memtables are bounded by freezing and flushing them, open tables by their number; the cache takes what is left and is the one
//! that shrinks. Nobody waits for pinned memory (tables and memtables that a snapshot or a scan keeps alive): it is charged, and the cache is
//! smaller meanwhile. What the budget means is anonymous memory, and about 16 MiB above it for buffers of jobs and the code.

use std::sync::Arc;

use crate::cache::BlockCache;

/// The part of the budget that the cache keeps whatever the others take: without any, each lookup would read and decode.
const CACHE_PART_MIN: usize = 8;

/// The budget, and the cache that fills what others leave.
#[derive(Debug)]
pub(crate) struct Budget {
    memory_bytes: usize,
    /// Memtables may take this much when all that may wait are waiting.
    write_bytes_max: usize,
    cache: Arc<BlockCache>,
}

impl Budget {
    /// A budget of which the write buffers may take so much.
    pub(crate) fn new(memory_bytes: usize, write_bytes_max: usize) -> Self {
        let budget = Self { memory_bytes, write_bytes_max, cache: Arc::new(BlockCache::new(0)) };
        budget.settle(0, 0);
        budget
    }

    /// The cache.
    pub(crate) fn cache(&self) -> &Arc<BlockCache> {
        &self.cache
    }

    /// All of it, in bytes.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }

    /// Gives the cache what is left when open tables and memtables take so much.
    pub(crate) fn settle(&self, table_bytes: usize, memtable_bytes: usize) {
        self.cache.set_capacity(self.cache_bytes(table_bytes, memtable_bytes));
    }

    fn cache_bytes(&self, table_bytes: usize, memtable_bytes: usize) -> usize {
        // The write buffers are set aside before they fill: a cache that breathes with each flush keeps nothing.
        let taken = table_bytes.saturating_add(memtable_bytes.max(self.write_bytes_max));
        self.memory_bytes.saturating_sub(taken).max(self.memory_bytes / CACHE_PART_MIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_takes_what_is_left_and_keeps_a_part() {
        let budget = Budget::new(1000, 300);
        assert_eq!(budget.cache_bytes(0, 0), 700);
        assert_eq!(budget.cache_bytes(100, 200), 600);
        assert_eq!(budget.cache_bytes(100, 500), 400);
        assert_eq!(budget.cache_bytes(5000, 500), 125);
    }
}
