//! Memory of blocks that a cache has let go of, for those that come next.
//!
//! A full cache lets a block go for each that it takes, and the thread that loads one is seldom the one that loaded the other. An allocator that keeps
//! memory by threads would hold much of what is free where nobody asks for it: the process would take twice what the cache may. So what leaves
//! the cache is kept here, by size, and given to who loads next.
//!
//! Sizes are rounded up by a sixteenth at most. Small blocks and large ones are the allocator's.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::sync::Mutex;

/// Sizes from here, as a power of two, in bytes, ...
const BITS_MIN: u32 = 10;

/// ... up to here are kept: blocks of the usual sizes. Larger ones are rare, and go back to the system by themselves.
const BITS_MAX: u32 = 16;

/// Sizes between one power of two and the next, as a power of two.
const STEP_BITS: u32 = 4;

const CLASSES: usize = ((BITS_MAX - BITS_MIN) as usize) << STEP_BITS;

/// The class of a size that is kept, and that size: `bytes`, rounded up.
fn class(bytes: usize) -> Option<(usize, usize)> {
    if !(1 << BITS_MIN..=(1 << BITS_MAX) - (1 << (BITS_MAX - 1 - STEP_BITS))).contains(&bytes) {
        return None;
    }
    let step = 1 << (bytes.ilog2() - STEP_BITS);
    let rounded = bytes.next_multiple_of(step);
    let power = rounded.ilog2();
    let within = (rounded >> (power - STEP_BITS)) & ((1 << STEP_BITS) - 1);
    Some(((((power - BITS_MIN) as usize) << STEP_BITS) + within, rounded))
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Buffers {
    classes: [Mutex<Vec<Arc<[u8]>>>; CLASSES],
    bytes: AtomicUsize,
    bytes_max: AtomicUsize,
    /// Bytes that were not kept, and went to the allocator.
    refused: AtomicUsize,
}

impl Default for Buffers {
    fn default() -> Self {
        Self {
            classes: std::array::from_fn(|_| Mutex::default()),
            bytes: AtomicUsize::new(0),
            bytes_max: AtomicUsize::new(0),
            refused: AtomicUsize::new(0),
        }
    }
}

impl Buffers {
    /// Memory for so many bytes or a few more, which nobody else has. What stands in it means nothing.
    pub(crate) fn take(&self, bytes: usize) -> Arc<[u8]> {
        let Some((class, rounded)) = class(bytes) else { return zeros(bytes) };
        let kept = self.classes.get(class).and_then(|class| class.lock().pop());
        match kept {
            Some(kept) => {
                self.bytes.fetch_sub(kept.len(), Ordering::Relaxed);
                kept
            }
            None => zeros(rounded),
        }
    }

    /// Keeps memory that nobody else has, if there is room for it here.
    pub(crate) fn give(&self, mut buffer: Arc<[u8]>) {
        let bytes = buffer.len();
        let known = class(bytes).filter(|(_, rounded)| *rounded == bytes);
        let (Some((class, _)), Some(_)) = (known, Arc::get_mut(&mut buffer)) else {
            self.refused.fetch_add(bytes, Ordering::Relaxed);
            return;
        };
        let max = self.bytes_max.load(Ordering::Relaxed);
        let more = |kept: usize| kept.checked_add(bytes).filter(|kept| *kept <= max);
        let Some(class) = self.classes.get(class) else { return };
        if self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok() {
            class.lock().push(buffer);
        } else {
            self.refused.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    /// How many bytes went to the allocator since this was last asked.
    pub(crate) fn take_refused(&self) -> usize {
        self.refused.swap(0, Ordering::Relaxed)
    }

    /// From now on so many bytes may be kept, at most.
    pub(crate) fn limit(&self, bytes_max: usize) {
        self.bytes_max.store(bytes_max, Ordering::Relaxed);
        for class in &self.classes {
            let mut class = class.lock();
            while self.bytes.load(Ordering::Relaxed) > bytes_max
                && let Some(buffer) = class.pop()
            {
                self.bytes.fetch_sub(buffer.len(), Ordering::Relaxed);
            }
        }
    }

    /// Bytes kept now.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }
}

/// So many zeros, where nothing is kept.
pub(crate) fn zeros(bytes: usize) -> Arc<[u8]> {
    std::iter::repeat_n(0, bytes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_rounded_up_a_little_and_each_has_its_class() {
        let mut before = None;
        for bytes in 0..(1 << BITS_MAX) + 10 {
            let Some((class, rounded)) = class(bytes) else {
                assert!(!(1 << BITS_MIN..60_000).contains(&bytes), "{bytes}");
                continue;
            };
            assert!(class < CLASSES && rounded >= bytes && rounded - bytes <= bytes / 16, "{bytes}");
            assert_eq!(super::class(rounded), Some((class, rounded)));
            if let Some((class_before, rounded_before)) = before {
                assert_eq!(class == class_before, rounded == rounded_before);
                assert!(class >= class_before);
            }
            before = Some((class, rounded));
        }
    }

    #[test]
    fn what_is_given_back_is_taken_again() {
        let buffers = Buffers::default();
        buffers.limit(10_000);
        let first = buffers.take(4200);
        assert_eq!(first.len(), 4352);
        let place = first.as_ptr();
        buffers.give(first);
        assert_eq!(buffers.bytes(), 4352);
        let again = buffers.take(4300);
        assert_eq!((again.as_ptr(), buffers.bytes()), (place, 0));
        assert_ne!(buffers.take(4300).as_ptr(), place);
        assert_eq!((buffers.take(3).len(), buffers.take(1 << 20).len()), (3, 1 << 20));
    }

    #[test]
    fn nothing_is_kept_that_somebody_has_or_there_is_no_room_for() {
        let buffers = Buffers::default();
        buffers.give(buffers.take(4096));
        assert_eq!(buffers.bytes(), 0, "no room at first");
        buffers.limit(10_000);
        let held = buffers.take(4096);
        buffers.give(Arc::clone(&held));
        assert_eq!((buffers.bytes(), buffers.take_refused()), (0, 2 * 4096));
        for buffer in [buffers.take(4096), buffers.take(4096), buffers.take(4096)] {
            buffers.give(buffer);
        }
        assert_eq!((buffers.bytes(), buffers.take_refused()), (8192, 4096));
        buffers.limit(5000);
        assert_eq!((buffers.bytes(), buffers.take_refused()), (4096, 0));
    }
}
