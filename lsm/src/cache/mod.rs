//! A cache of decoded, verified blocks with a capacity in bytes, shared by all tables.
//!
//! *S3-FIFO* (Yang et al., SOSP 2023). New blocks enter a small queue, a tenth of the capacity; one that is asked for again before it reaches the
//! end moves to the main queue, the others leave and only their keys are remembered, in a third queue, the ghosts; a
//! block that comes back while its ghost is there enters the main queue at once. The main queue is a clock: a block that was asked for since it last came
//! by goes round again. So a scan, which asks for each block once, passes through the small queue and displaces nothing.
//!
//! Blocks that every lookup in a table needs (its index, its filters) are better kept by the table itself, where no lock and no search is between: as long as
//! they are a small part of the capacity, which they are taken off ([`BlockCache::pin`]).
//!
//! Keys are spread over shards, each behind its own lock. A hit takes the lock for reading and sets a counter.
//!
//! Of the blocks that have no ghost some are put into memory that is lent, as long as write buffers have no use for it ([`lent`]).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::sync::RwLock;

use crate::block::{Block, Buffers, zeros};
use crate::charge::Charge;

mod lent;
mod shard;

use lent::LentMemory;
use shard::{Key, Shard};

const SHARDS: usize = 16;

/// A shard below this many bytes would have no room for a large block: then fewer shards are used. One of more than sixteen times as many (so that a capacity that
/// goes up and down does not change the number each time) is divided again.
const SHARD_BYTES_MIN: usize = 256 << 10;

/// Times that a block can go round the main queue without being asked for.
const COUNT_MAX: u8 = 3;

/// Of the blocks that a long scan reads, the part that a full cache takes in: one in so many.
const PASSING_PART: u32 = 4;

/// The part of the capacity that tables may pin: one in so many. Beyond it, index and filters are cached as all else is.
const PINNED_PART: usize = 4;

/// The part of the capacity that is kept of blocks that went, for those that come: one in so many.
const LEFT_PART: usize = 32;

/// Bytes that a block costs beside its own: its places in map and queue, its counts, the allocator's share.
const OVERHEAD_BYTES: usize = 96;

/// What a cache did so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheStats {
    /// Blocks asked for and there. What tables have pinned they do not ask for.
    pub hits: u64,
    /// Blocks asked for that had to be read.
    pub misses: u64,
    /// Bytes held now: pinned ones too, memory that waits for blocks, and memory that is lent.
    pub used_bytes: usize,
    /// Blocks held now, pinned ones not included.
    pub blocks: usize,
    /// Bytes that may be held, those not counted that are lent.
    pub capacity_bytes: usize,
}

/// On a line of its own: shards that different cores use must not share one.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Padded {
    shard: RwLock<Shard>,
    hits: AtomicU64,
    misses: AtomicU64,
}

/// A cache of blocks, shared by all tables of a process.
#[derive(Debug)]
pub struct BlockCache {
    shards: [Padded; SHARDS],
    capacity: AtomicUsize,
    /// How many shards are in use, as a power of two.
    in_use: AtomicUsize,
    tables: AtomicU64,
    table_bytes: Charge,
    /// Bytes that tables keep of the capacity.
    pinned: AtomicUsize,
    /// What blocks left that went.
    left: Arc<Buffers>,
    lent: LentMemory,
}

impl BlockCache {
    /// A cache that holds at most about `capacity_bytes`. With 0 it holds nothing.
    pub fn new(capacity_bytes: usize) -> Self {
        let cache = Self {
            shards: Default::default(),
            capacity: AtomicUsize::new(0),
            in_use: AtomicUsize::new(SHARDS),
            tables: AtomicU64::new(1),
            table_bytes: Charge::default(),
            pinned: AtomicUsize::new(0),
            left: Arc::default(),
            lent: LentMemory::default(),
        };
        cache.set_capacity(capacity_bytes);
        cache
    }

    /// Changes the capacity; shrinking evicts at once.
    pub fn set_capacity(&self, capacity_bytes: usize) {
        let before = self.in_use.load(Ordering::Relaxed);
        let mut in_use = before;
        while in_use > 1 && capacity_bytes / in_use < SHARD_BYTES_MIN {
            in_use /= 2;
        }
        while in_use < SHARDS && capacity_bytes / in_use > 16 * SHARD_BYTES_MIN {
            in_use *= 2;
        }
        self.capacity.store(capacity_bytes, Ordering::Relaxed);
        self.in_use.store(in_use, Ordering::Relaxed);
        self.left.limit(capacity_bytes / LEFT_PART);
        for padded in &self.shards {
            let mut shard = padded.shard.write();
            if in_use == before {
                shard.shrink(self.shard_bytes(), &self.left);
            } else {
                // Most blocks would be looked for elsewhere now, and never be found to be evicted. This is rare.
                *shard = Shard::default();
            }
        }
    }

    /// So many bytes beside the capacity may be used until others want them. What is more than that is given back at once.
    pub(crate) fn lend(&self, bytes: usize) {
        self.lent.limit(bytes);
    }

    /// Bytes that may be held.
    pub fn capacity_bytes(&self) -> usize {
        self.capacity.load(Ordering::Relaxed)
    }

    /// What one shard may hold: its part of what tables have not pinned and what is not kept for blocks to come, but half of its part at least, should the capacity have shrunk below what is.
    fn shard_bytes(&self) -> usize {
        let capacity = self.capacity.load(Ordering::Relaxed);
        let capacity = capacity - capacity / LEFT_PART;
        let free = capacity.saturating_sub(self.pinned_bytes()).max(capacity / 2);
        free / self.in_use.load(Ordering::Relaxed)
    }

    /// Takes bytes off the capacity for a table that keeps a block, or what it made of one, for itself; whether there was enough left. The table gives them
    /// back ([`Self::unpin`]).
    pub(crate) fn pin(&self, bytes: usize) -> bool {
        let limit = self.capacity.load(Ordering::Relaxed) / PINNED_PART;
        let more = |pinned: usize| pinned.checked_add(bytes).filter(|pinned| *pinned <= limit);
        if self.pinned.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_err() {
            return false;
        }
        // This happens once for a block of a table: it may look at every shard.
        let shard_bytes = self.shard_bytes();
        self.shards.iter().for_each(|padded| padded.shard.write().shrink(shard_bytes, &self.left));
        true
    }

    /// Gives back what [`Self::pin`] took.
    pub(crate) fn unpin(&self, bytes: usize) {
        self.pinned.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Memory for blocks that will be put in: what others left.
    pub(crate) fn buffers(&self) -> Arc<Buffers> {
        Arc::clone(&self.left)
    }

    /// Bytes that tables have pinned.
    pub(crate) fn pinned_bytes(&self) -> usize {
        self.pinned.load(Ordering::Relaxed)
    }

    /// What a block takes of the capacity.
    pub(crate) fn bytes_of(block: &Block) -> usize {
        block.memory_bytes() + OVERHEAD_BYTES
    }

    /// What the open tables that read through this cache keep beside it, in bytes.
    pub(crate) fn table_bytes(&self) -> &Charge {
        &self.table_bytes
    }

    /// Bytes held now.
    pub fn used_bytes(&self) -> usize {
        self.own_bytes() + self.lent.bytes()
    }

    /// Those of them that are not lent.
    pub(crate) fn own_bytes(&self) -> usize {
        let cached: usize = self.shards.iter().map(|padded| padded.shard.read().bytes()).sum();
        cached + self.pinned_bytes() + self.left.bytes()
    }

    /// What it did so far.
    pub fn stats(&self) -> CacheStats {
        let mut stats =
            CacheStats { capacity_bytes: self.capacity.load(Ordering::Relaxed), ..CacheStats::default() };
        for padded in &self.shards {
            stats.hits += padded.hits.load(Ordering::Relaxed);
            stats.misses += padded.misses.load(Ordering::Relaxed);
            let shard = padded.shard.read();
            stats.used_bytes += shard.bytes();
            stats.blocks += shard.slots.len();
        }
        stats.used_bytes += self.pinned_bytes() + self.left.bytes() + self.lent.bytes();
        stats
    }

    /// A number for a table that is being opened: its blocks are known by it. Never given twice, so that the blocks of a table that is gone can
    /// never pass for those of another.
    pub(crate) fn new_table(&self) -> u64 {
        self.tables.fetch_add(1, Ordering::Relaxed)
    }

    fn shard_of(&self, key: Key) -> usize {
        // The map uses the lower bits.
        (key.hash() >> 60) as usize & (self.in_use.load(Ordering::Relaxed) - 1)
    }

    fn shard(&self, key: Key) -> &Padded {
        let [first, ..] = &self.shards;
        self.shards.get(self.shard_of(key)).unwrap_or(first)
    }

    /// Has the processor fetch what of several blocks, each of a table and at an offset, is looked at first, as far as they are here. Whoever asks for them afterwards
    /// waits for memory once and not for each; a shard that somebody changes is left out.
    pub(crate) fn prefetch(&self, blocks: impl Iterator<Item = (u64, u64)> + Clone) {
        let keys = blocks.map(|(table, offset)| Key { table, offset });
        // No lock is taken between two of them: that would make the second wait for the first.
        let needed = keys.clone().fold(0, |needed, key| needed | 1usize << self.shard_of(key));
        let shards: [_; SHARDS] = std::array::from_fn(|shard| {
            let padded = self.shards.get(shard).filter(|_| needed >> shard & 1 != 0)?;
            padded.shard.try_read()
        });
        for key in keys {
            if let Some(Some(shard)) = shards.get(self.shard_of(key))
                && let Some(slot) = shard.slots.get(&key)
            {
                slot.block.prefetch_front();
            }
        }
    }

    /// The block at `offset` of a table, if it is here.
    pub(crate) fn get(&self, table: u64, offset: u64) -> Option<Block> {
        let key = Key { table, offset };
        let padded = self.shard(key);
        let shard = padded.shard.read();
        if let Some(slot) = shard.slots.get(&key) {
            // Counting one more who shares it waits for its first line: the first entry comes meanwhile.
            slot.block.prefetch_front();
            let count = slot.count.load(Ordering::Relaxed);
            if count < COUNT_MAX {
                slot.count.store(count + 1, Ordering::Relaxed);
            }
            padded.hits.fetch_add(1, Ordering::Relaxed);
            return Some(slot.block.clone());
        }
        drop(shard);
        self.get_lent(key, padded)
    }

    #[cold]
    fn get_lent(&self, key: Key, padded: &Padded) -> Option<Block> {
        let Some((block, again)) = self.lent.get(key, &self.left) else {
            padded.misses.fetch_add(1, Ordering::Relaxed);
            return None;
        };
        padded.hits.fetch_add(1, Ordering::Relaxed);
        if !again {
            return Some(block);
        }
        let (bytes, capacity) = (Self::bytes_of(&block), self.shard_bytes());
        let mut shard = padded.shard.write();
        if let Some(slot) = shard.slots.get(&key) {
            return Some(slot.block.clone());
        }
        if bytes <= capacity {
            shard.insert(key, block.clone(), true, bytes, capacity, &self.left);
        }
        Some(block)
    }

    /// Puts a block in. Two readers may load the same block at once: both get what the first put in.
    pub(crate) fn insert(&self, table: u64, offset: u64, block: Block) -> Block {
        self.insert_where(table, offset, block, false)
    }

    /// As [`Self::insert`], for a scan that will read much more: where there is room, and else only one block in [`PASSING_PART`]. Were all of them put in, then of
    /// what is a little larger than the cache each scan would push out just what the next one reads first. So most of it stays; and if it is of no use any more,
    /// it is replaced bit by bit.
    pub(crate) fn insert_passing(&self, table: u64, offset: u64, block: Block) -> Block {
        self.insert_where(table, offset, block, true)
    }

    /// A block for whoever loaded it, which is not kept here. Its memory, which is for blocks that are, stays: else it would go bit by bit to the allocator, who
    /// gives each thread memory of its own, and keeps what no thread asks for.
    fn passed_on(&self, block: Block) -> Block {
        let copy = Block::copied(block.shape(), block.bytes(), zeros);
        self.left.give(block.into_memory());
        copy
    }

    fn insert_where(&self, table: u64, offset: u64, block: Block, passing: bool) -> Block {
        let key = Key { table, offset };
        let bytes = Self::bytes_of(&block);
        let capacity = self.shard_bytes();
        if bytes > capacity {
            return block;
        }
        let mut shard = self.shard(key).shard.write();
        if let Some(slot) = shard.slots.get(&key) {
            return slot.block.clone();
        }
        let is_full = shard.bytes() + bytes > capacity;
        if passing && is_full {
            shard.passed = shard.passed.wrapping_add(1);
            if !shard.passed.is_multiple_of(PASSING_PART) {
                return block;
            }
        }
        let is_known = shard.has_ghost(key);
        let is_lents = is_full && !is_known && !passing && self.lent.is_place_of(key, self.capacity_bytes());
        // The order of locks: a shard's, a lane's.
        if is_lents && self.lent.keep(key, &block) {
            drop(shard);
            return self.passed_on(block);
        }
        shard.insert(key, block.clone(), is_known, bytes, capacity, &self.left);
        block
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(bytes: usize) -> Block {
        Block::opaque(vec![0; bytes])
    }

    #[test]
    fn fetching_ahead_waits_for_nobody_who_changes_a_shard() {
        let cache = BlockCache::new(1 << 20);
        for offset in 0..100 {
            cache.insert(1, offset, block(100));
        }
        let changed = cache.shards[0].shard.write();
        cache.prefetch((0..200).map(|offset| (1, offset)));
        drop(changed);
        assert!((0..100).all(|offset| cache.get(1, offset).is_some()));
    }

    #[test]
    fn what_was_put_in_comes_out() {
        let cache = BlockCache::new(1 << 20);
        assert!(cache.get(1, 0).is_none());
        let first = cache.insert(1, 0, block(100));
        assert!(Arc::ptr_eq(&first.share(), &cache.get(1, 0).unwrap().share()));
        assert!(Arc::ptr_eq(&first.share(), &cache.insert(1, 0, block(100)).share()), "the first stays");
        assert!(cache.get(2, 0).is_none() && cache.get(1, 1).is_none());
        assert_eq!((cache.stats().hits, cache.stats().misses, cache.stats().blocks), (1, 3, 1));
    }

    #[test]
    fn the_capacity_holds() {
        let cache = BlockCache::new(1 << 20);
        for offset in 0..10_000 {
            cache.insert(1, offset, block(1000));
            if offset % 3 == 0 {
                cache.get(1, offset / 2);
            }
            assert!(cache.used_bytes() <= 1 << 20);
        }
        assert!(cache.used_bytes() > (1 << 20) * 8 / 10, "and it is used");
        cache.set_capacity(1 << 16);
        assert!(cache.used_bytes() <= 1 << 16);
        cache.set_capacity(0);
        assert_eq!(cache.stats().blocks, 0);
        cache.insert(1, 0, block(10));
        assert_eq!(cache.stats().blocks, 0);
    }

    #[test]
    fn a_small_cache_still_holds_large_blocks() {
        let cache = BlockCache::new(128 << 10);
        cache.insert(1, 0, block(64 << 10));
        assert!(cache.get(1, 0).is_some());
        cache.set_capacity(64 << 20);
        for offset in 0..1000 {
            cache.insert(1, offset, block(1000));
        }
        assert_eq!(cache.stats().blocks, 1000);
        cache.set_capacity(32 << 20);
        assert_eq!(cache.stats().blocks, 1000, "a capacity that changes within reason keeps what is there");
    }

    #[test]
    fn a_scan_displaces_nothing_that_is_in_use() {
        let cache = BlockCache::new(1 << 20);
        let hot = 200u64;
        for _ in 0..4 {
            for offset in 0..hot {
                if cache.get(1, offset).is_none() {
                    cache.insert(1, offset, block(1000));
                }
            }
        }
        for offset in 0..20_000 {
            cache.insert(2, offset, block(1000));
            if offset % 10 == 0 {
                cache.get(1, (offset / 10) % hot);
            }
        }
        let kept: u64 = (0..hot).map(|offset| u64::from(cache.get(1, offset).is_some())).sum();
        assert!(kept * 10 >= hot * 9, "{kept} of {hot}");
    }

    /// Long scans of `count` blocks of a table, forwards and backwards in turns; how many blocks the last one found.
    fn found_by_scans(cache: &BlockCache, table: u64, count: u64, scans: usize) -> u64 {
        let mut found = 0;
        for scan in 0..scans {
            found = 0;
            for place in 0..count {
                let offset = if scan % 2 == 0 { place } else { count - 1 - place };
                match cache.get(table, offset) {
                    Some(_) => found += 1,
                    None => drop(cache.insert_passing(table, offset, block(1000))),
                }
            }
        }
        found
    }

    #[test]
    fn of_what_is_larger_than_the_cache_scans_find_most() {
        let cache = BlockCache::new(1 << 20);
        let fits = (0..).take_while(|offset| {
            cache.insert_passing(1, *offset, block(1000));
            cache.stats().blocks as u64 > *offset
        });
        let fits = fits.count() as u64;
        let cache = BlockCache::new(1 << 20);
        let found = found_by_scans(&cache, 1, fits + fits / 5, 20);
        assert!(found > fits * 3 / 4, "{found} where {fits} fit");
        // And what nobody asks for any more does not stay.
        let found = found_by_scans(&cache, 2, fits * 4 / 5, 20);
        assert!(found > fits * 3 / 5, "{found} where {fits} fit");
    }

    #[test]
    fn what_is_pinned_is_taken_off_the_capacity_and_bounded() {
        let cache = BlockCache::new(1 << 20);
        (0..2000).for_each(|offset| drop(cache.insert(1, offset, block(1000))));
        let pinned: Vec<Block> = (0..1000)
            .map(|_| block(1000))
            .take_while(|block| cache.pin(BlockCache::bytes_of(block)))
            .collect();
        assert!(cache.used_bytes() <= 1 << 20, "what was cached makes room");
        assert!((200..=(1 << 18) / 1000).contains(&pinned.len()), "{} blocks: a quarter", pinned.len());
        for offset in 0..2000 {
            cache.insert(1, offset, block(1000));
            assert!(cache.used_bytes() <= 1 << 20);
        }
        assert!(cache.used_bytes() > (1 << 20) * 8 / 10);
        cache.set_capacity(1 << 18);
        (0..2000).for_each(|offset| drop(cache.insert(1, offset, block(1000))));
        assert!(cache.stats().blocks > 50, "half of it is left to the others");
        assert!(!cache.pin(1000));
        pinned.iter().for_each(|block| cache.unpin(BlockCache::bytes_of(block)));
        cache.set_capacity(0);
        assert_eq!(cache.used_bytes(), 0);
    }

    /// A full cache of small blocks that has as much again lent to it.
    fn with_lent_memory() -> BlockCache {
        let cache = BlockCache::new(16 << 20);
        cache.lend(17 << 20);
        (0..20_000).for_each(|offset| drop(cache.insert(1, offset, block(2000))));
        cache
    }

    #[test]
    fn what_is_lent_is_used_and_given_back() {
        let cache = with_lent_memory();
        let used = cache.used_bytes();
        assert!((30 << 20..=33 << 20).contains(&used), "{used}");
        assert!(cache.own_bytes() <= 16 << 20);
        let found = (0..20_000).filter(|offset| cache.get(1, *offset).is_some()).count();
        assert!(found > 13_000, "{found}");
        cache.lend(0);
        assert_eq!(cache.used_bytes(), cache.own_bytes());
        let found = (0..20_000).filter(|offset| cache.get(1, *offset).is_some()).count();
        assert!((6_000..9_000).contains(&found), "{found}");
    }

    #[test]
    fn what_is_asked_for_again_and_again_does_not_stay_in_lent_memory() {
        let cache = with_lent_memory();
        let is_own = |offset| {
            let places = (cache.get(1, offset), cache.get(1, offset));
            matches!(places, (Some(a), Some(b)) if Arc::ptr_eq(&a.share(), &b.share()))
        };
        let lent: Vec<u64> = (0..20_000)
            .filter(|offset| cache.lent.has(Key { table: 1, offset: *offset }))
            .filter(|offset| cache.get(1, *offset).is_some())
            .take(1000)
            .collect();
        assert_eq!(lent.len(), 1000);
        let own = lent.iter().filter(|offset| is_own(**offset)).count();
        assert!(own > 950, "{own}: the second time it is copied out for good");
        assert!(cache.own_bytes() <= 16 << 20);
    }

    #[test]
    fn what_lent_memory_does_not_take_the_cache_does() {
        let cache = with_lent_memory();
        for offset in 0..50 {
            cache.insert(2, offset, block(100 << 10));
            assert!(cache.get(2, offset).is_some(), "a large block, {offset}");
        }
        // One in four of a long scan, wherever it would have its place.
        let before = cache.lent.bytes();
        (0..400).for_each(|offset| drop(cache.insert_passing(3, offset, block(2000))));
        let found = (0..400).filter(|offset| cache.get(3, *offset).is_some()).count();
        assert!((90..=110).contains(&found), "{found}");
        assert_eq!(cache.lent.bytes(), before);
    }

    #[test]
    fn many_threads_get_and_put() {
        let cache = BlockCache::new(1 << 18);
        std::thread::scope(|scope| {
            for thread in 0..4u64 {
                let cache = &cache;
                scope.spawn(move || {
                    for step in 0..5_000u64 {
                        let offset = (step * (thread * 2 + 1)) % 700;
                        let found =
                            cache.get(1, offset).unwrap_or_else(|| cache.insert(1, offset, block(300)));
                        assert_eq!(found.bytes().len(), 300);
                    }
                });
            }
        });
        assert!(cache.used_bytes() <= 1 << 18);
    }
}
