//! Buffers that a thread keeps for the blocks it reads: so a lookup of what is not in the cache asks the allocator for nothing. That saves it some time, and more where the
//! allocator is busy: giving memory back to the system holds it for tens of milliseconds.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};

/// Buffers that a thread keeps: of what was read, and of what that decompresses to.
const KEPT_MAX: usize = 2;

/// A larger one is not kept: blocks of the usual sizes, up to 64 KiB and a little more.
const KEPT_BYTES_MAX: usize = 65 << 10;

thread_local! {
    static KEPT: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// Bytes of such a buffer, which goes back to the thread at the end; by default no bytes and no buffer.
#[derive(Debug, Default)]
pub struct Scratch(Vec<u8>);

impl Scratch {
    /// None yet.
    pub(crate) fn new() -> Self {
        Self(KEPT.try_with(|kept| kept.borrow_mut().pop()).ok().flatten().unwrap_or_default())
    }

    /// So many, which mean nothing.
    pub(crate) fn with_bytes(bytes: usize) -> Self {
        if bytes > KEPT_BYTES_MAX {
            return Self(vec![0; bytes]);
        }
        let mut scratch = Self::new();
        scratch.0.resize(bytes, 0);
        scratch
    }

    /// Makes it so many bytes, which mean nothing: in the same buffer if that is large enough.
    pub(crate) fn resize(&mut self, bytes: usize) {
        if bytes > self.0.capacity() {
            *self = Self::default();
            *self = Self::with_bytes(bytes);
        } else {
            self.0.resize(bytes, 0);
        }
    }

    /// The buffer, to be filled.
    pub(super) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }

    /// The bytes, for good.
    pub(crate) fn into_vec(mut self) -> Vec<u8> {
        std::mem::take(&mut self.0)
    }
}

impl Deref for Scratch {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl DerefMut for Scratch {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let buffer = std::mem::take(&mut self.0);
        if (1..=KEPT_BYTES_MAX).contains(&buffer.capacity()) {
            // Where the thread ends there is nobody to keep it for.
            let _ = KEPT.try_with(|kept| {
                let mut kept = kept.borrow_mut();
                if kept.len() < KEPT_MAX {
                    kept.push(buffer);
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_thread_is_done_with_it_takes_again_unless_it_is_large_or_one_of_many() {
        let some = [3000, 1000, 100].map(Scratch::with_bytes);
        let places = some.each_ref().map(|scratch| scratch.as_ptr());
        drop(some);
        let (second, first, third) =
            (Scratch::with_bytes(100), Scratch::with_bytes(2000), Scratch::with_bytes(5000));
        assert_eq!([first.as_ptr(), second.as_ptr()], [places[0], places[1]]);
        assert_eq!([first.len(), second.len(), third.len()], [2000, 100, 5000]);
        drop((first, second, third));
        drop(Scratch::with_bytes(KEPT_BYTES_MAX + 1));
        assert!(Scratch::new().0.capacity() < 5000);
        assert_eq!(Scratch::with_bytes(7).into_vec().len(), 7);
        assert_eq!(KEPT.with(|kept| kept.borrow().len()), 1, "what was taken for good is not there");
    }
}
