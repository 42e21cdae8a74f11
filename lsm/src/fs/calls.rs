//! The system calls that the standard library does not give: a positioned write of many buffers, and hints about a range.
//!
//! They are few, so they are called by hand: the crate that has a safe name for each (rustix) would be the largest of the dependencies, and take two
//! seconds and two more crates whenever the engine is built from nothing.

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::AsRawFd;

// Where `off_t` has 32 bits by default, these have 64.
#[cfg(target_os = "freebsd")]
use libc::posix_fadvise;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
use libc::{off_t as Offset, pwritev};
#[cfg(any(target_os = "linux", target_os = "android"))]
use libc::{off64_t as Offset, posix_fadvise64 as posix_fadvise, pwritev64 as pwritev};

use super::Advice;

/// How many buffers one vectored write takes: the limit (`IOV_MAX`) of Linux and the BSDs.
pub(super) const IO_SLICES_MAX: usize = 1024;

/// Writes the buffers one after the other at `offset`, or as many bytes of them as the system takes at once: says how many.
pub(super) fn write_vectored_at(file: &File, buffers: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
    let buffers = buffers.get(..IO_SLICES_MAX).unwrap_or(buffers);
    let offset = Offset::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
    let count = libc::c_int::try_from(buffers.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: the descriptor is open for as long as `file` is borrowed. `buffers` are `count` slices that stay borrowed during the call, each laid out as an
    // `iovec` (the standard library promises that of `IoSlice` on Unix), and the call only reads them.
    #[expect(unsafe_code, reason = "the standard library's name for the call is not stable")]
    let written = unsafe { pwritev(file.as_raw_fd(), buffers.as_ptr().cast(), count, offset) };
    // What is negative is -1, and the thread's error number says why.
    usize::try_from(written).map_err(|_| io::Error::last_os_error())
}

/// Tells the system how a range will be used. It may not listen: nothing depends on it.
pub(super) fn advise(file: &File, advice: Advice, offset: u64, length: u64) {
    #[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
    {
        let advice = match advice {
            Advice::Sequential => libc::POSIX_FADV_SEQUENTIAL,
            Advice::Random => libc::POSIX_FADV_RANDOM,
            Advice::DontNeed => libc::POSIX_FADV_DONTNEED,
            Advice::WriteBack => return write_back(file, offset, length),
            Advice::Reserve => return reserve(file, offset, length),
            Advice::Release => return release(file),
        };
        let (Ok(offset), Ok(length)) = (Offset::try_from(offset), Offset::try_from(length)) else { return };
        // SAFETY: the descriptor is open for as long as `file` is borrowed, and the call takes nothing by reference.
        #[expect(unsafe_code, reason = "the standard library has no name for the call")]
        let _ = unsafe { posix_fadvise(file.as_raw_fd(), offset, length, advice) };
    }
    #[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
    let _ = (file, advice, offset, length);
}

/// Has the system begin to write a range. Not by advice that it is not needed: that makes the system look at every page of it, on all processors, to throw away
/// those that are written already.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn write_back(file: &File, offset: u64, length: u64) {
    let (Ok(offset), Ok(length)) = (Offset::try_from(offset), Offset::try_from(length)) else { return };
    // SAFETY: as of `posix_fadvise`.
    #[expect(unsafe_code, reason = "the standard library has no name for the call")]
    // What goes wrong with the pages the next sync says too.
    let _ = unsafe { libc::sync_file_range(file.as_raw_fd(), offset, length, libc::SYNC_FILE_RANGE_WRITE) };
}

#[cfg(target_os = "freebsd")]
fn write_back(_file: &File, _offset: u64, _length: u64) {}

/// Of the room that is left, at most one part in so many is set aside for one file.
#[cfg(any(target_os = "linux", target_os = "android"))]
const RESERVED_PART: u128 = 16;

/// Allocates a range's blocks. Else the system does when it writes them out, for many at once, and holds a lock of the file's meanwhile for which those wait
/// who write to the file's end: for tens of milliseconds beside merges.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn reserve(file: &File, offset: u64, length: u64) {
    if available_bytes(file).is_none_or(|available| available / RESERVED_PART < u128::from(length)) {
        return;
    }
    let (Ok(offset), Ok(length)) = (Offset::try_from(offset), Offset::try_from(length)) else { return };
    // SAFETY: as of `posix_fadvise`.
    #[expect(unsafe_code, reason = "the standard library has no name for the call")]
    // A file system that cannot do it says so, and writes all the same.
    let _ = unsafe { libc::fallocate64(file.as_raw_fd(), libc::FALLOC_FL_KEEP_SIZE, offset, length) };
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn available_bytes(file: &File) -> Option<u128> {
    let mut found = std::mem::MaybeUninit::<libc::statvfs64>::uninit();
    // SAFETY: as of `posix_fadvise`, and what is written is one `statvfs64`, for which there is room.
    #[expect(unsafe_code, reason = "the standard library has no name for the call")]
    let found = unsafe {
        match libc::fstatvfs64(file.as_raw_fd(), found.as_mut_ptr()) {
            // The call succeeded: it filled all of it.
            0 => found.assume_init(),
            _ => return None,
        }
    };
    // Each has 32 or 64 bits.
    Some(u128::from(found.f_bavail) * u128::from(found.f_frsize))
}

/// Gives back the blocks behind the file's end, which nobody moves meanwhile.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn release(file: &File) {
    if let Ok(metadata) = file.metadata() {
        let _ = file.set_len(metadata.len());
    }
}

#[cfg(target_os = "freebsd")]
fn reserve(_file: &File, _offset: u64, _length: u64) {}

#[cfg(target_os = "freebsd")]
fn release(_file: &File) {}
