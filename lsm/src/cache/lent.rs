//! Memory that is lent to the cache: write buffers that are empty, until somebody writes.
//!
//! It must be given back at once and as a whole, which the memory of cached blocks cannot be: they lie among each other. So blocks are copied, one
//! behind the other, into regions that come from the system and go back to it, the oldest first. It takes its part of the blocks that nobody knows yet, while
//! they are in the processor's cache. One that is found here is copied out; one that is found a second time belongs into the cache proper.
//!
//! ```text
//! region   block, block, .. one behind the other; a block that does not fit any more is put at the beginning of the next region
//! ```
//!
//! Keys are spread over lanes, each behind its own lock, with an equal part of the regions.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::shard::{ByKey, Key};
use crate::block::{Block, Buffers, Shape, zeros};
use crate::memory::Bytes;
use crate::sync::RwLock;

const LANES: usize = 4;

/// Bytes of a region; blocks that it holds at most; and what it costs with the map's entries, two for each: a map is half empty when it has grown.
const REGION_BYTES: usize = 1 << 20;
const REGION_BLOCKS_MAX: usize = 512;
const REGION_COST: usize =
    REGION_BYTES + REGION_BLOCKS_MAX * (size_of::<Key>() + 2 * size_of::<(Key, Place)>());

/// A larger block than one in so many parts of a region is not kept: there would be too few of them, and too much room left at the end.
const BLOCK_PART: usize = 16;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct LentMemory {
    lanes: [RwLock<Lane>; LANES],
    /// Regions that each lane may have.
    regions_max: AtomicUsize,
    /// Regions there are.
    regions: AtomicUsize,
}

#[derive(Debug, Default)]
struct Lane {
    places: ByKey<Place>,
    /// The oldest first; blocks are put into the last.
    regions: VecDeque<Region>,
    /// How many regions went before those.
    gone: u64,
}

#[derive(Debug)]
struct Region {
    bytes: Bytes,
    filled: usize,
    keys: Vec<Key>,
}

#[derive(Debug)]
struct Place {
    /// Which region, counted from the first that the lane had.
    region: u64,
    start: u32,
    bytes: u32,
    shape: Shape,
    was_found: AtomicBool,
}

impl LentMemory {
    /// From now on so many bytes may be taken; what is more is given back before this returns.
    pub(super) fn limit(&self, bytes: usize) {
        let regions_max = bytes / REGION_COST / LANES;
        let before = self.regions_max.swap(regions_max, Ordering::SeqCst);
        if regions_max < before {
            for lane in &self.lanes {
                let gone = lane.write().shrink(regions_max);
                self.regions.fetch_sub(gone, Ordering::Relaxed);
            }
        }
    }

    /// Bytes that are taken.
    pub(super) fn bytes(&self) -> usize {
        self.regions.load(Ordering::Relaxed) * REGION_COST
    }

    fn lane(&self, key: Key) -> &RwLock<Lane> {
        let [first, ..] = &self.lanes;
        // Shards and maps use the others.
        self.lanes.get((key.hash() >> 40) as usize % LANES).unwrap_or(first)
    }

    /// Whether a block should be kept here, beside a cache of so many bytes: each takes its part.
    pub(super) fn is_place_of(&self, key: Key, cache_bytes: usize) -> bool {
        let bytes = self.regions_max.load(Ordering::Relaxed) * LANES * REGION_BYTES;
        // A part of the hash that nothing else is chosen by, as a fraction.
        let part = (key.hash() >> 24) & 0xffff;
        (part as usize).saturating_mul(bytes.saturating_add(cache_bytes)) < bytes << 16
    }

    /// Keeps a copy of a block, if there is memory for it; whether it is here now.
    pub(super) fn keep(&self, key: Key, block: &Block) -> bool {
        if self.regions_max.load(Ordering::Relaxed) == 0 || block.bytes().len() > REGION_BYTES / BLOCK_PART {
            return false;
        }
        let mut lane = self.lane(key).write();
        // Read behind the lock: whoever lowers it takes the lock next, and looks again.
        let before = lane.regions.len();
        let kept = lane.keep(key, block, self.regions_max.load(Ordering::SeqCst)).is_some();
        let after = lane.regions.len();
        self.regions.fetch_add(after.saturating_sub(before), Ordering::Relaxed);
        kept
    }

    /// Whether a block is here.
    #[cfg(test)]
    pub(super) fn has(&self, key: Key) -> bool {
        self.lane(key).read().places.contains_key(&key)
    }

    /// A copy of the block, if it is here; and whether it was found before, and is to stay: then it is in memory from `buffers`, where what leaves the cache for it
    /// goes. What is only looked at is the allocator's.
    pub(super) fn get(&self, key: Key, buffers: &Buffers) -> Option<(Block, bool)> {
        if self.regions.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let lane = self.lane(key).read();
        let place = lane.places.get(&key)?;
        let region = usize::try_from(place.region.checked_sub(lane.gone)?).ok()?;
        let start = place.start as usize;
        let bytes = lane.regions.get(region)?.bytes.get(start..start + place.bytes as usize)?;
        let again = place.was_found.swap(true, Ordering::Relaxed);
        let memory = |bytes| if again { buffers.take(bytes) } else { zeros(bytes) };
        Some((Block::copied(place.shape, bytes, memory), again))
    }
}

impl Lane {
    /// Gives regions back until so many are left; how many went.
    fn shrink(&mut self, regions_max: usize) -> usize {
        let mut gone = 0;
        while self.regions.len() > regions_max && self.take_oldest().is_some() {
            gone += 1;
        }
        if self.places.capacity() > 4 * self.places.len() {
            self.places.shrink_to(2 * self.places.len());
        }
        gone
    }

    /// The oldest region, with nothing in it any more.
    fn take_oldest(&mut self) -> Option<Region> {
        let mut region = self.regions.pop_front()?;
        let number = self.gone;
        self.gone += 1;
        for key in region.keys.drain(..) {
            if self.places.get(&key).is_some_and(|place| place.region == number) {
                self.places.remove(&key);
            }
        }
        region.filled = 0;
        Some(region)
    }

    /// Keeps a copy of a block; `None` if there is no memory for it.
    fn keep(&mut self, key: Key, block: &Block, regions_max: usize) -> Option<()> {
        if regions_max == 0 {
            return None;
        }
        // What a table holds at a place never changes.
        if self.places.contains_key(&key) {
            return Some(());
        }
        let bytes = block.bytes();
        let has_room = |region: &Region| {
            region.bytes.len() - region.filled >= bytes.len() && region.keys.len() < REGION_BLOCKS_MAX
        };
        if !self.regions.back().is_some_and(has_room) {
            let next = if self.regions.len() < regions_max {
                Region { bytes: Bytes::scratch(REGION_BYTES), filled: 0, keys: Vec::new() }
            } else {
                self.take_oldest()?
            };
            self.regions.push_back(next);
        }
        let number = self.gone + self.regions.len() as u64 - 1;
        let region = self.regions.back_mut()?;
        let start = region.filled;
        let (start, length) = (u32::try_from(start).ok()?, u32::try_from(bytes.len()).ok()?);
        region.bytes.get_mut(region.filled..region.filled + bytes.len())?.copy_from_slice(bytes);
        region.filled += bytes.len();
        region.keys.push(key);
        let place = Place {
            region: number,
            start,
            bytes: length,
            shape: block.shape(),
            was_found: AtomicBool::new(false),
        };
        self.places.insert(key, place);
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u64) -> Key {
        Key { table: 1, offset: number * 4096 }
    }

    /// What stands in block `number`: of different lengths.
    fn contents(number: u64) -> Vec<u8> {
        let length = 1000 + (number * 977 % 5000) as usize;
        number.to_le_bytes().into_iter().cycle().take(length).collect()
    }

    fn keep(lent: &LentMemory, number: u64) -> bool {
        lent.keep(key(number), &Block::opaque(contents(number)))
    }

    /// Whether it was found, and right.
    fn has(lent: &LentMemory, number: u64) -> bool {
        let found = lent.get(key(number), &Buffers::default());
        if let Some((block, _)) = &found {
            assert_eq!(block.bytes(), contents(number));
        }
        found.is_some()
    }

    #[test]
    fn nothing_is_kept_without_memory() {
        let lent = LentMemory::default();
        assert!(!keep(&lent, 1) && !has(&lent, 1));
        lent.limit(REGION_BYTES);
        assert!(!keep(&lent, 1) && !has(&lent, 1), "too little for each lane to have a region");
        assert_eq!(lent.bytes(), 0);
    }

    #[test]
    fn what_left_is_found_and_the_second_time_said_to_be() {
        let lent = LentMemory::default();
        lent.limit(8 * REGION_COST);
        assert!((0..100).all(|number| keep(&lent, number)));
        for number in 0..100 {
            let again = |found: Option<(Block, bool)>| found.map(|(_, again)| again);
            assert_eq!(again(lent.get(key(number), &Buffers::default())), Some(false));
            assert_eq!(again(lent.get(key(number), &Buffers::default())), Some(true));
            assert!(has(&lent, number));
        }
        assert!(!has(&lent, 100));
    }

    #[test]
    fn the_oldest_go_first_and_the_limit_holds() {
        let lent = LentMemory::default();
        let limit = 12 * REGION_COST;
        lent.limit(limit);
        for number in 0..20_000 {
            keep(&lent, number);
            assert!(lent.bytes() <= limit);
        }
        assert_eq!(lent.bytes(), limit);
        let there: Vec<u64> = (0..20_000).filter(|number| has(&lent, *number)).collect();
        let bytes: usize = there.iter().map(|number| contents(*number).len()).sum();
        assert!(bytes > limit / 4 * 3, "{bytes} bytes of {limit}");
        assert!(there.first().is_some_and(|first| *first > 15_000), "{:?}", there.first());
        // A lane is behind another at most by what one region holds more.
        assert!(there.len() > (20_000 - 17_500), "{}", there.len());
        lent.limit(4 * REGION_COST);
        assert_eq!(lent.bytes(), 4 * REGION_COST);
        let left = (0..20_000).filter(|number| has(&lent, *number)).count();
        assert!((100..there.len() / 2).contains(&left), "{left} of {}", there.len());
        lent.limit(0);
        assert_eq!((lent.bytes(), has(&lent, 19_999)), (0, false));
        lent.limit(limit);
        keep(&lent, 19_999);
        assert!(has(&lent, 19_999));
    }

    #[test]
    fn what_is_there_is_not_put_twice_and_what_is_large_not_at_all() {
        let lent = LentMemory::default();
        lent.limit(4 * REGION_COST);
        for _ in 0..2000 {
            assert!(keep(&lent, 7));
        }
        keep(&lent, 8);
        assert!(has(&lent, 7) && has(&lent, 8));
        assert!(lent.bytes() <= 2 * REGION_COST);
        assert!(!lent.keep(key(9), &Block::opaque(vec![0; REGION_BYTES / BLOCK_PART + 1])));
        assert!(lent.get(key(9), &Buffers::default()).is_none());
    }

    #[test]
    fn threads_keep_and_find_while_the_limit_goes_up_and_down() {
        let lent = LentMemory::default();
        std::thread::scope(|scope| {
            for thread in 0..3_u64 {
                let lent = &lent;
                scope.spawn(move || {
                    for step in 0..20_000_u64 {
                        let number = (step * (2 * thread + 1)) % 9000;
                        if !has(lent, number) {
                            keep(lent, number);
                        }
                    }
                });
            }
            for round in 0..200 {
                let limit = (round * 7 % 20) * REGION_COST;
                lent.limit(limit);
                std::thread::yield_now();
            }
            lent.limit(8 * REGION_COST);
        });
        assert!(lent.bytes() <= 8 * REGION_COST);
        let regions: usize = lent.lanes.iter().map(|lane| lane.read().regions.len()).sum();
        assert_eq!(lent.bytes(), regions * REGION_COST);
    }
}
