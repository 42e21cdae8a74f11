//! Buffers that a thread keeps for the blocks it reads: so a lookup of what is not in the cache asks the allocator for nothing. That saves it some time, and more where the
//! allocator is busy: giving memory back to the system holds it for tens of milliseconds.

use std::cell::RefCell;

/// Buffers that a thread keeps: of what was read, and of what that decompresses to.
const KEPT_MAX: usize = 2;

/// A larger one is given back.
const KEPT_BYTES_MAX: usize = 64 << 10;

thread_local! {
    static KEPT: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// A buffer; what stands in it means nothing.
pub(crate) fn take() -> Vec<u8> {
    KEPT.try_with(|kept| kept.borrow_mut().pop()).ok().flatten().unwrap_or_default()
}

/// A buffer of so many bytes, which mean nothing.
pub(crate) fn take_bytes(bytes: usize) -> Vec<u8> {
    let mut buffer = take();
    buffer.resize(bytes, 0);
    buffer
}

/// Keeps a buffer that is done with.
pub(crate) fn give(buffer: Vec<u8>) {
    // Where the thread ends there is nobody to keep it for.
    let _ = KEPT.try_with(|kept| {
        let mut kept = kept.borrow_mut();
        if kept.len() < KEPT_MAX && buffer.capacity() <= KEPT_BYTES_MAX {
            kept.push(buffer);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_is_taken_again_unless_it_is_large_or_one_of_many() {
        let (first, second) = (take_bytes(3000), take_bytes(1000));
        let places = [first.as_ptr(), second.as_ptr()];
        give(first);
        give(second);
        give(vec![0; 100]);
        let (second, first) = (take_bytes(100), take_bytes(2000));
        assert_eq!([first.as_ptr(), second.as_ptr()], places);
        assert_eq!((first.len(), second.len()), (2000, 100));
        assert!(take().is_empty());
        give(vec![0; KEPT_BYTES_MAX + 1]);
        assert!(take().is_empty());
    }
}
