//! Memory straight from the system: zeroed, on huge pages where there are any, and given back as a whole. And the hint to fetch a
//! line of it early.
//!
//! What is looked up at random in tens of megabytes pays for each page that the processor must find: on huge pages there are five hundred
//! times fewer. The crate's unsafe code is here, in the region of a resident table (`table/fixed/region.rs`), in the tree of a sorted memtable (`memtable/sorted/tree`) and
//! around the system calls that have no other name (`fs/calls.rs`, `niceness.rs`).

use std::marker::PhantomData;
use std::ops::Range;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use memmap2::{Advice, MmapMut, MmapOptions, MmapRaw};

/// From so many bytes on the system is asked. What is smaller the allocator finds a place for among the rest; what is larger it would keep when it is
/// given back, in pieces that nothing else fits into, and the process would take much more than what is in use.
const MAPPED_BYTES_MIN: usize = 64 << 10;

/// What the system gives at least.
pub(crate) const PAGE_BYTES: usize = 4 << 10;

/// A number that threads share.
///
/// # Safety
/// Any bits, all zeros among them, must be a value; the alignment is at most eight.
#[expect(unsafe_code, reason = "says what the type system cannot: that zeroed memory is a value")]
pub(crate) unsafe trait Cell: Default {
    /// Makes it zero.
    fn zero(&self);
    /// Leaves it as it is, by a write. (An exchange that may be one: of what changes nothing whatever is there, the compiler would make a read.)
    fn touch(&self);
}

// SAFETY: an integer, of which any bits are a value.
#[expect(unsafe_code, reason = "see the trait")]
unsafe impl Cell for AtomicU32 {
    fn zero(&self) {
        self.store(0, Ordering::Relaxed);
    }
    fn touch(&self) {
        let _ = self.compare_exchange(0, 0, Ordering::Relaxed, Ordering::Relaxed);
    }
}
// SAFETY: an integer, of which any bits are a value.
#[expect(unsafe_code, reason = "see the trait")]
unsafe impl Cell for AtomicU64 {
    fn zero(&self) {
        self.store(0, Ordering::Relaxed);
    }
    fn touch(&self) {
        let _ = self.compare_exchange(0, 0, Ordering::Relaxed, Ordering::Relaxed);
    }
}

/// Cells that begin as zeros; those that nobody touches take no memory.
pub(crate) struct Cells<T> {
    memory: Memory<T>,
    count: usize,
}

enum Memory<T> {
    Mapped(MmapRaw, PhantomData<T>),
    Heap(Box<[T]>),
}

impl<T: Cell> Cells<T> {
    /// So many zeros.
    pub(crate) fn zeroed(count: usize) -> Self {
        let bytes = count.saturating_mul(size_of::<T>());
        let mapped = if bytes >= MAPPED_BYTES_MIN { map(bytes) } else { None };
        let memory = match mapped {
            Some(map) => Memory::Mapped(map.into(), PhantomData),
            None => Memory::Heap((0..count).map(|_| T::default()).collect()),
        };
        Self { memory, count }
    }

    /// All of them.
    #[inline]
    pub(crate) fn as_slice(&self) -> &[T] {
        match &self.memory {
            // SAFETY: the map is page-aligned, holds `count` cells (see `zeroed`), lives as long as `self`, and is reached in no other way than
            // through this slice of atomics. It began as zeros, which are a value (see `Cell`).
            #[expect(unsafe_code, reason = "a map of bytes as what it was made for")]
            Memory::Mapped(map, _) => unsafe { std::slice::from_raw_parts(map.as_ptr().cast(), self.count) },
            Memory::Heap(cells) => cells,
        }
    }
}

impl<T: Cell> Cells<T> {
    /// Makes all of them zeros again.
    pub(crate) fn clear(&mut self) {
        self.as_slice().iter().for_each(T::zero);
    }

    /// Has the system give the memory of these cells now, whatever is in them and whoever uses them meanwhile.
    pub(crate) fn make_ready(&self, cells: Range<usize>) {
        let per_page = (PAGE_BYTES / size_of::<T>()).max(1);
        self.as_slice().get(cells).unwrap_or_default().iter().step_by(per_page).for_each(T::touch);
    }
}

impl<T> std::fmt::Debug for Cells<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cells").field("count", &self.count).finish_non_exhaustive()
    }
}

/// Zeroed memory; `None` where the system has none to give this way.
pub(crate) fn map(bytes: usize) -> Option<MmapMut> {
    let map = MmapOptions::new().len(bytes).map_anon().ok()?;
    // Where there are no huge pages, small ones do.
    let _ = map.advise(Advice::HugePage);
    Some(map)
}

/// Bytes that are filled once, then mostly read.
pub(crate) enum Bytes {
    Mapped(MmapMut),
    Heap(Vec<u8>),
}

impl Bytes {
    /// So many zeros, to be kept.
    pub(crate) fn zeroed(bytes: usize) -> Self {
        match (bytes >= MAPPED_BYTES_MIN).then(|| map(bytes)).flatten() {
            Some(map) => Self::Mapped(map),
            None => Self::Heap(vec![0; bytes]),
        }
    }

    /// So many zeros, for the work of the moment: what is not touched takes no memory, and all of it goes back at once.
    pub(crate) fn scratch(bytes: usize) -> Self {
        let map = || MmapOptions::new().len(bytes).map_anon().ok();
        match (bytes >= MAPPED_BYTES_MIN).then(map).flatten() {
            Some(map) => Self::Mapped(map),
            None => Self::Heap(vec![0; bytes]),
        }
    }
}

impl std::ops::Deref for Bytes {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Heap(heap) => heap,
        }
    }
}

impl std::ops::DerefMut for Bytes {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Heap(heap) => heap,
        }
    }
}

impl std::fmt::Debug for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bytes").field("len", &self.len()).finish()
    }
}

/// Has the allocator give the system what it keeps and nobody uses: behind a merge, that are holes among what was made meanwhile, which it does not look at by itself.
/// The GNU allocator does so; others do it unasked, or not.
pub(crate) fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: takes nothing that is in use, and may be called at any time from any thread.
    #[expect(unsafe_code, reason = "a call of the C library")]
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Does so when it is dropped, if it was set: as the last field of what frees much.
#[derive(Debug, Default)]
pub(crate) struct GivesBack(pub(crate) bool);

impl Drop for GivesBack {
    fn drop(&mut self) {
        if self.0 {
            give_back();
        }
    }
}

/// Asks the processor to fetch the line in which `place` lies, which will be needed soon. Where there is no such hint, nothing happens.
#[inline(always)]
pub(crate) fn prefetch<T>(place: &T) {
    prefetch_pointer(std::ptr::from_ref(place).cast());
}

/// As [`prefetch`], for any address, valid or not.
#[inline(always)]
pub(crate) fn prefetch_pointer(place: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint, which reads nothing that the program sees and fails for no address.
    #[expect(unsafe_code, reason = "the hint is an intrinsic")]
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(place.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = place;
}

/// As [`prefetch`], for the byte at `index`; beyond the end nothing happens.
#[inline(always)]
pub(crate) fn prefetch_at<T>(slice: &[T], index: usize) {
    if let Some(place) = slice.get(index) {
        prefetch(place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_begin_as_zeros_and_keep_what_is_put_in() {
        for count in [0, 1, 1000, 1 << 19] {
            let cells = Cells::<AtomicU64>::zeroed(count);
            assert_eq!(cells.as_slice().len(), count);
            assert!(cells.as_slice().iter().all(|cell| cell.load(Ordering::Relaxed) == 0));
            std::thread::scope(|scope| {
                for thread in 0..4u64 {
                    let cells = cells.as_slice();
                    scope.spawn(move || {
                        cells.iter().for_each(|cell| _ = cell.fetch_add(thread, Ordering::Relaxed))
                    });
                }
            });
            assert!(cells.as_slice().iter().all(|cell| cell.load(Ordering::Relaxed) == 6));
            prefetch_at(cells.as_slice(), 0);
        }
        assert_eq!(Cells::<AtomicU32>::zeroed(1 << 20).as_slice().len(), 1 << 20);
    }

    #[test]
    fn bytes_begin_as_zeros_and_are_what_was_filled_in() {
        for count in [0, 10, MAPPED_BYTES_MIN, 3 << 20] {
            for mut bytes in [Bytes::zeroed(count), Bytes::scratch(count)] {
                assert_eq!(&*bytes, vec![0; count]);
                bytes.fill(7);
                assert_eq!(&*bytes, vec![7; count]);
            }
        }
    }

    /// Which pages of some cells the system has given memory for. (Elsewhere pages may be larger than the 4 KiB that this counts in.)
    #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
    fn pages_there(cells: &Cells<AtomicU64>) -> Vec<bool> {
        use std::os::unix::fs::FileExt;
        let map = std::fs::File::open("/proc/self/pagemap").unwrap();
        let slice = cells.as_slice();
        let first = slice.as_ptr().addr() / PAGE_BYTES;
        let page_is_there = |page: usize| {
            let mut entry = [0; 8];
            map.read_exact_at(&mut entry, page as u64 * 8).unwrap();
            u64::from_le_bytes(entry) >> 63 == 1
        };
        (first..first + size_of_val(slice) / PAGE_BYTES).map(page_is_there).collect()
    }

    #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
    #[test]
    fn memory_is_made_ready_beside_a_writer_that_loses_nothing() {
        let cells = Cells::<AtomicU64>::zeroed(4 << 20);
        let count = cells.as_slice().len();
        assert!(pages_there(&cells).iter().all(|is_there| !is_there));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for (number, cell) in cells.as_slice().iter().enumerate() {
                    cell.store(number as u64 + 1, Ordering::Relaxed);
                }
            });
            cells.make_ready(0..count);
        });
        assert!((1..).zip(cells.as_slice()).all(|(number, cell)| cell.load(Ordering::Relaxed) == number));
        let cells = Cells::<AtomicU64>::zeroed(4 << 20);
        cells.make_ready(0..count / 2);
        assert!(pages_there(&cells).iter().take(count / 2 * 8 / PAGE_BYTES).all(|is_there| *is_there));
        assert!(pages_there(&cells).last().is_some_and(|is_there| !is_there));
    }
}
