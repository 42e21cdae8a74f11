//! The blocks of one table in memory: filled one by one as they are asked for, each verified before it is there, then only read.
//!
//! Memory comes straight from the system ([`crate::memory`]); a block that nobody asked for takes none, but all are charged from the beginning. Who asks for a block
//! that is not there reads it for himself, verifies it, and puts a copy in, unless somebody else is just doing that: nobody waits for
//! anybody's disk.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use memmap2::MmapRaw;

use crate::charge::Charge;

const ABSENT: u8 = 0;
const FILLING: u8 = 1;
const WHOLE: u8 = 2;

/// See the module.
pub(crate) struct Region {
    memory: MmapRaw,
    block_bytes: usize,
    states: Box<[AtomicU8]>,
    charge: Arc<Charge>,
}

impl Region {
    /// Room for so many blocks; `None` if the system has no memory to give.
    pub(super) fn new(blocks: usize, block_bytes: usize, charge: Arc<Charge>) -> Option<Self> {
        let memory = crate::memory::map(blocks.checked_mul(block_bytes)?)?.into();
        charge.add(Self::memory_bytes(blocks, block_bytes));
        let states = (0..blocks).map(|_| AtomicU8::new(ABSENT)).collect();
        Some(Self { memory, block_bytes, states, charge })
    }

    /// What the blocks take when all are there.
    pub(super) fn memory_bytes(blocks: usize, block_bytes: usize) -> usize {
        blocks.saturating_mul(block_bytes + 1)
    }

    /// Where a block begins, if there is one of this number.
    #[inline]
    fn place(&self, block: usize) -> Option<*mut u8> {
        // Below the length of the map, which holds as many blocks as there are states: no overflow.
        (block < self.states.len()).then(|| self.memory.as_mut_ptr().wrapping_add(block * self.block_bytes))
    }

    /// A block that is there.
    #[inline]
    pub(super) fn get(&self, block: usize) -> Option<&[u8]> {
        if self.states.get(block)?.load(Ordering::Acquire) != WHOLE {
            return None;
        }
        let place = self.place(block)?;
        #[expect(
            unsafe_code,
            reason = "a block that is written once, by one thread, and read by many afterwards"
        )]
        // SAFETY: `place` begins `block_bytes` bytes inside the map, which lives as long as `self`. The state was WHOLE when it was loaded (acquire): `put` stored that
        // (release) after its copy, and nobody writes to a block whose state is not ABSENT before. WHOLE is never left.
        let bytes = unsafe { std::slice::from_raw_parts(place, self.block_bytes) };
        Some(bytes)
    }

    /// Puts a block in, whose bytes were verified, unless it is there or somebody is putting it in.
    pub(super) fn put(&self, block: usize, bytes: &[u8]) {
        let (Some(state), Some(place)) = (self.states.get(block), self.place(block)) else { return };
        if bytes.len() != self.block_bytes
            || state.compare_exchange(ABSENT, FILLING, Ordering::Acquire, Ordering::Relaxed).is_err()
        {
            return;
        }
        // SAFETY: `place` begins `block_bytes` bytes inside the map, `bytes` has as many and is elsewhere. Whoever turned ABSENT into FILLING is alone with them:
        // others write only after doing that, and read only after WHOLE.
        #[expect(unsafe_code, reason = "see `get`")]
        unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), place, self.block_bytes);
        }
        state.store(WHOLE, Ordering::Release);
    }

    /// Has the line at `offset` of a block fetched, and the block's state.
    #[inline]
    pub(super) fn prefetch(&self, block: usize, offset: usize) {
        if let Some(place) = self.place(block)
            && offset < self.block_bytes
        {
            crate::memory::prefetch_pointer(place.wrapping_add(offset));
            crate::memory::prefetch_at(&self.states, block);
        }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        self.charge.subtract(Self::memory_bytes(self.states.len(), self.block_bytes));
    }
}

impl std::fmt::Debug for Region {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Region").field("blocks", &self.states.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
impl Region {
    /// Has a block look as while somebody is filling it; he never ends.
    pub(super) fn hold(&self, block: usize) {
        self.states[block].store(FILLING, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_fill_and_read_the_same_blocks() {
        let charge = Arc::<Charge>::default();
        let region = Region::new(64, 4096, Arc::clone(&charge)).unwrap();
        assert_eq!(charge.bytes(), 64 * 4097);
        let bytes_of = |block: usize| vec![u8::try_from(block).unwrap() + 1; 4096];
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let region = &region;
                scope.spawn(move || {
                    for step in 0..6400 {
                        let block = (step * (2 * thread + 1)) % 64;
                        match region.get(block) {
                            Some(bytes) => assert_eq!(bytes, bytes_of(block)),
                            None => region.put(block, &bytes_of(block)),
                        }
                        region.prefetch(block, step % 4096);
                    }
                });
            }
        });
        assert!((0..64).all(|block| region.get(block) == Some(&bytes_of(block)[..])));
        region.put(3, &[0; 4096]);
        assert_eq!(region.get(3).unwrap()[0], 4, "what is there stays");
        assert!(region.get(64).is_none());
        region.put(64, &[0; 4096]);
        region.put(3, &[0; 10]);
        drop(region);
        assert_eq!(charge.bytes(), 0);
    }
}
