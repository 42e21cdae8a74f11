//! One shard of the cache: the queues of S3-FIFO over a map (see the parent module).

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::AtomicU8;

use crate::block::{Block, Buffers};

/// The small queue's part of the capacity: one in so many.
const SMALL_PART: usize = 10;

/// Where a block comes from: a table (by [`BlockCache::new_table`](super::BlockCache::new_table)) and the offset in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) table: u64,
    pub(super) offset: u64,
}

impl Key {
    pub(super) fn hash(self) -> u64 {
        let mixed = (self.table ^ self.offset.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9)
    }
}

/// Takes the number that [`Key`] has hashed itself to.
#[derive(Default)]
pub(super) struct Hashed(u64);

/// A map by such keys.
pub(super) type ByKey<V> = HashMap<Key, V, BuildHasherDefault<Hashed>>;

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn write_u64(&mut self, number: u64) {
        let mixed = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ (mixed >> 32);
    }
}

#[derive(Debug)]
pub(super) struct Slot {
    pub(super) block: Block,
    bytes: usize,
    pub(super) count: AtomicU8,
    in_main: bool,
}

#[derive(Debug, Default)]
pub(super) struct Shard {
    pub(super) slots: ByKey<Slot>,
    small: VecDeque<Key>,
    main: VecDeque<Key>,
    /// Hashes of keys that left the small queue, and how often each stands in the queue.
    ghosts: VecDeque<u64>,
    ghost_counts: HashMap<u64, u32, BuildHasherDefault<Hashed>>,
    small_bytes: usize,
    main_bytes: usize,
    /// Blocks of long scans that came when there was no room.
    pub(super) passed: u32,
}

impl Shard {
    pub(super) fn bytes(&self) -> usize {
        self.small_bytes + self.main_bytes
    }

    /// Whether it was here not long ago.
    pub(super) fn has_ghost(&self, key: Key) -> bool {
        self.ghost_counts.contains_key(&key.hash())
    }

    /// Puts a block in that is not there yet, into the main queue or the small one, and lets others go for it.
    pub(super) fn insert(
        &mut self,
        key: Key,
        block: Block,
        in_main: bool,
        bytes: usize,
        capacity: usize,
        left: &Buffers,
    ) {
        if in_main {
            self.main.push_back(key);
            self.main_bytes += bytes;
        } else {
            self.small.push_back(key);
            self.small_bytes += bytes;
        }
        self.slots.insert(key, Slot { block, bytes, count: AtomicU8::new(0), in_main });
        self.shrink(capacity, left);
    }

    /// Lets blocks go until the others fit.
    pub(super) fn shrink(&mut self, capacity: usize, left: &Buffers) {
        while self.bytes() > capacity {
            let moved = if self.small_bytes > capacity / SMALL_PART || self.main.is_empty() {
                self.take_from_small(left)
            } else {
                self.take_from_main(left)
            };
            if !moved {
                break;
            }
        }
        while self.ghosts.len() > self.main.len().max(16) {
            self.forget_ghost();
        }
    }

    /// The oldest of the small queue: on to the main queue if it was asked for again, else out.
    fn take_from_small(&mut self, left: &Buffers) -> bool {
        let Some(key) = self.small.pop_front() else { return false };
        let Some(slot) = self.slots.get_mut(&key) else { return true };
        self.small_bytes -= slot.bytes;
        if *slot.count.get_mut() > 0 {
            *slot.count.get_mut() = 0;
            slot.in_main = true;
            self.main_bytes += slot.bytes;
            self.main.push_back(key);
        } else {
            self.remove(key, left);
            self.ghosts.push_back(key.hash());
            *self.ghost_counts.entry(key.hash()).or_default() += 1;
        }
        true
    }

    /// The oldest of the main queue: round again if it was asked for, else out.
    fn take_from_main(&mut self, left: &Buffers) -> bool {
        let Some(key) = self.main.pop_front() else { return false };
        let Some(slot) = self.slots.get_mut(&key) else { return true };
        let count = slot.count.get_mut();
        if *count > 0 {
            *count -= 1;
            self.main.push_back(key);
        } else {
            self.main_bytes -= slot.bytes;
            self.remove(key, left);
        }
        true
    }

    fn remove(&mut self, key: Key, left: &Buffers) {
        if let Some(slot) = self.slots.remove(&key) {
            left.give(slot.block.into_memory());
        }
    }

    fn forget_ghost(&mut self) {
        let Some(ghost) = self.ghosts.pop_front() else { return };
        if let Some(count) = self.ghost_counts.get_mut(&ghost) {
            *count -= 1;
            if *count == 0 {
                self.ghost_counts.remove(&ghost);
            }
        }
    }
}
