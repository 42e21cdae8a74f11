//! The tree's memory: it only grows, nothing in it moves, and it goes all at once.
//!
//! An *entry* is written once, before anybody knows its place:
//!
//! ```text
//! user key length u32 | value length u32 | user key | trailer (8 bytes) | value
//! ```
//!
//! so that the internal key and the value are slices of it, without a copy.

#![expect(
    unsafe_code,
    reason = "an entry and its lengths are one piece of memory, and readers step from piece to piece without locks; in \
              safe Rust each step would look up a segment and check its bounds"
)]

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, Ordering};

use memmap2::MmapRaw;

use super::super::segments::{SEGMENT_BYTES, Segments};
use crate::key::TRAILER_BYTES;

/// The first segment, in bytes: a memtable of a keyspace that is hardly written is small.
const SEGMENT_BYTES_MIN: usize = 4 << 10;

/// Segments double up to this: what is not yet used of the last one is a small part of a memtable. Such segments come from a supply of them.
const SEGMENT_BYTES_MAX: usize = SEGMENT_BYTES;

/// Segments begin at a multiple of this, a cache line, and so can nodes.
const SEGMENT_ALIGNMENT: usize = 64;

const HEADER_BYTES: usize = 8;

/// Memory that only grows. One thread allocates.
#[derive(Debug)]
pub(super) struct Arena {
    segments: Vec<(NonNull<u8>, Layout)>,
    /// Segments that came from there.
    maps: Vec<MmapRaw>,
    source: Arc<Segments>,
    /// The free part of the last segment.
    free: NonNull<u8>,
    free_bytes: usize,
    segment_bytes: usize,
    used_bytes: usize,
    held_bytes: usize,
}

// SAFETY: the arena owns its segments alone; pointers into them are handed out under the conditions of `place` and `entry`.
unsafe impl Send for Arena {}

impl Arena {
    pub(super) fn new(source: Arc<Segments>) -> Self {
        Self {
            segments: Vec::new(),
            maps: Vec::new(),
            source,
            free: NonNull::dangling(),
            free_bytes: 0,
            segment_bytes: SEGMENT_BYTES_MIN,
            used_bytes: 0,
            held_bytes: 0,
        }
    }

    /// Bytes handed out, what alignment wasted included.
    pub(super) fn used_bytes(&self) -> usize {
        self.used_bytes
    }

    /// Bytes of all segments: of one that was used before all are there, whatever was handed out.
    pub(super) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    fn segment(&mut self, bytes: usize) -> NonNull<u8> {
        self.held_bytes += bytes;
        if bytes == SEGMENT_BYTES_MAX
            && let Some(map) = self.source.take()
            && let Some(start) = NonNull::new(map.as_mut_ptr())
        {
            self.maps.push(map);
            return start;
        }
        let layout = Layout::from_size_align(bytes, SEGMENT_ALIGNMENT)
            .expect("an entry is bounded by its 32-bit lengths, far below the address space");
        // SAFETY: `bytes` is not 0: no caller asks for less than a header.
        let Some(start) = NonNull::new(unsafe { alloc(layout) }) else { handle_alloc_error(layout) };
        self.segments.push((start, layout));
        start
    }

    /// Uninitialised memory, valid until the arena is dropped.
    fn allocate(&mut self, layout: Layout) -> NonNull<u8> {
        debug_assert!(layout.size() > 0 && layout.align() <= SEGMENT_ALIGNMENT);
        let waste = self.free.align_offset(layout.align());
        let wanted = waste.saturating_add(layout.size());
        if wanted <= self.free_bytes {
            // SAFETY: `wanted` bytes from `free` on lie in the last segment and were not handed out.
            let (place, free) = unsafe { (self.free.add(waste), self.free.add(wanted)) };
            (self.free, self.free_bytes) = (free, self.free_bytes - wanted);
            self.used_bytes += wanted;
            return place;
        }
        self.used_bytes += layout.size();
        let segment_bytes = self.segment_bytes;
        // After large entries too: where there are many, they come to lie in huge pages.
        self.segment_bytes = (segment_bytes * 2).min(SEGMENT_BYTES_MAX);
        if layout.size() > segment_bytes / 4 {
            // A segment of its own: what is free in the last one is not given up.
            return self.segment(layout.size());
        }
        let start = self.segment(segment_bytes);
        // SAFETY: a quarter of the segment at most: still within it.
        self.free = unsafe { start.add(layout.size()) };
        self.free_bytes = segment_bytes - layout.size();
        start
    }

    /// Puts a value down.
    ///
    /// # Safety
    /// `'a` ends before the arena is dropped. Nothing drops the value.
    pub(super) unsafe fn place<'a, T>(&mut self, value: T) -> &'a T {
        const { assert!(!std::mem::needs_drop::<T>() && align_of::<T>() <= SEGMENT_ALIGNMENT) };
        let place = self.allocate(Layout::new::<T>()).cast::<T>();
        // SAFETY: memory of `T`'s size and alignment that nobody else has, initialised before the reference is made; it stays as long as the
        // arena, which the caller promises to be long enough.
        unsafe {
            place.write(value);
            place.as_ref()
        }
    }

    /// Writes an entry.
    ///
    /// # Safety
    /// `'a` ends before the arena is dropped.
    ///
    /// # Panics
    /// If key or value do not fit 32 bits: both are bounded where batches are built and read.
    pub(super) unsafe fn entry<'a>(
        &mut self,
        user: &[u8],
        trailer: [u8; TRAILER_BYTES],
        value: &[u8],
    ) -> Entry<'a> {
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).expect("keys and values are below 2^30 bytes");
        let header = [length(user).to_le_bytes(), length(value).to_le_bytes()];
        let parts: [&[u8]; 5] = [&header[0], &header[1], user, &trailer, value];
        let bytes = HEADER_BYTES + user.len() + TRAILER_BYTES + value.len();
        let layout = Layout::from_size_align(bytes, align_of::<u32>()).expect("three lengths below 2^30");
        let start = self.allocate(layout);
        let mut at = start;
        for part in parts {
            // SAFETY: the parts together have `bytes` bytes, all of them allocated just now and known to nobody else.
            unsafe {
                at.copy_from_nonoverlapping(NonNull::from(part).cast(), part.len());
                at = at.add(part.len());
            }
        }
        Entry { start, arena: PhantomData }
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        for (start, layout) in &self.segments {
            // SAFETY: allocated with this layout; whoever has a place in it has promised to be gone.
            unsafe { dealloc(start.as_ptr(), *layout) };
        }
        // Likewise: whoever takes them next finds nobody else in them.
        self.maps.drain(..).for_each(|map| self.source.give(map));
    }
}

/// A written entry: it never changes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry<'a> {
    start: NonNull<u8>,
    arena: PhantomData<&'a [u8]>,
}

// SAFETY: it is a shared reference to bytes that nobody writes any more.
unsafe impl Send for Entry<'_> {}
// SAFETY: likewise.
unsafe impl Sync for Entry<'_> {}

impl<'a> Entry<'a> {
    /// Lengths of user key and value.
    #[inline]
    fn lengths(self) -> (usize, usize) {
        // SAFETY: every entry begins with its header, at a multiple of four; `Arena::entry` wrote it.
        let [user, value] = unsafe { self.start.cast::<[u32; 2]>().read() };
        (u32::from_le(user) as usize, u32::from_le(value) as usize)
    }

    #[inline]
    fn slice(self, offset: usize, bytes: usize) -> &'a [u8] {
        // SAFETY: the callers stay within what the header says was written, which is not changed and stays for `'a`.
        unsafe { std::slice::from_raw_parts(self.start.add(offset).as_ptr(), bytes) }
    }

    /// The user's key.
    #[inline]
    pub(super) fn user(self) -> &'a [u8] {
        self.slice(HEADER_BYTES, self.lengths().0)
    }

    /// The user's key with the trailer.
    #[inline]
    pub(super) fn internal_key(self) -> &'a [u8] {
        self.slice(HEADER_BYTES, self.lengths().0 + TRAILER_BYTES)
    }

    /// The trailer, as a number.
    #[inline]
    pub(super) fn trailer(self) -> u64 {
        let trailer = self.slice(HEADER_BYTES + self.lengths().0, TRAILER_BYTES);
        trailer.try_into().map_or(0, u64::from_be_bytes)
    }

    #[inline]
    pub(super) fn value(self) -> &'a [u8] {
        let (user, value) = self.lengths();
        self.slice(HEADER_BYTES + user + TRAILER_BYTES, value)
    }

    /// Whether both are the same entry.
    pub(super) fn is(self, other: Entry<'_>) -> bool {
        self.start == other.start
    }

    /// The same place without a lifetime, for whoever keeps the arena alive by other means.
    #[inline]
    pub(super) fn detach(self) -> Entry<'static> {
        Entry { start: self.start, arena: PhantomData }
    }
}

/// A place for an entry that one thread sets and others read. Whoever reads it sees the entry whole.
///
/// A slot and the entry in it lie in memory that goes together (the tree sees to that): so a borrow of the slot is one of the entry.
#[derive(Debug)]
pub(super) struct Slot(AtomicPtr<u8>);

impl Slot {
    pub(super) const fn new() -> Self {
        Self(AtomicPtr::new(std::ptr::null_mut()))
    }

    #[inline]
    pub(super) fn load(&self) -> Option<Entry<'_>> {
        NonNull::new(self.0.load(Ordering::Acquire)).map(|start| Entry { start, arena: PhantomData })
    }

    #[inline]
    pub(super) fn store(&self, entry: Option<Entry<'_>>) {
        self.0.store(entry.map_or(std::ptr::null_mut(), |entry| entry.start.as_ptr()), Ordering::Release);
    }
}

/// A place for a node, likewise.
#[derive(Debug)]
pub(super) struct Link<T>(AtomicPtr<T>);

impl<T> Link<T> {
    pub(super) const fn new() -> Self {
        Self(AtomicPtr::new(std::ptr::null_mut()))
    }

    #[inline]
    pub(super) fn load(&self) -> Option<&T> {
        // SAFETY: null, or what `store` was given: a node in the tree's arena, which goes with the memory of this link.
        unsafe { self.0.load(Ordering::Acquire).as_ref() }
    }

    #[inline]
    pub(super) fn store(&self, node: Option<&T>) {
        let node = node.map_or(std::ptr::null(), std::ptr::from_ref);
        self.0.store(node.cast_mut(), Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_of_all_sizes_come_back() {
        let mut arena = Arena::new(Arc::default());
        let sizes = [0, 1, 3, 8, 100, 1000, 5000, 70_000, 3 << 20];
        let mut written = Vec::new();
        for (number, bytes) in sizes.iter().cycle().take(200).enumerate() {
            let key = vec![b'k'; number % 50];
            let value = vec![u8::try_from(number).unwrap(); *bytes];
            // SAFETY: used before `arena` is dropped, below.
            let entry = unsafe { arena.entry(&key, number.to_be_bytes(), &value) };
            written.push((key, number, value, entry));
        }
        for (key, number, value, entry) in &written {
            assert_eq!((entry.user(), entry.value()), (&key[..], &value[..]));
            assert_eq!(entry.trailer(), *number as u64);
            assert_eq!(entry.internal_key(), [&key[..], &number.to_be_bytes()].concat());
        }
        let bytes: usize = written.iter().map(|(key, _, value, _)| key.len() + value.len() + 16).sum();
        assert!((bytes..bytes + 4 * written.len()).contains(&arena.used_bytes()));
        drop(written);
        drop(arena);
    }
}
