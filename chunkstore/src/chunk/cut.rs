//! Where files are cut: FastCDC (Wen Xia and others, 2020) with a gear table drawn from the repository's secret.
//!
//! A rolling hash of the last bytes is compared with a mask; where the masked bits are zero, a chunk ends. So a byte inserted into a file
//! moves the cuts with it, and all chunks but one or two stay what they were. Cuts are never nearer than the minimum, never farther
//! than the maximum; the mask is stricter before the average and laxer after it (normalisation level 2), which narrows the
//! spread of lengths. A file shorter than the minimum is one chunk. FORMAT.md, chunks.

use std::fmt;
use std::sync::Arc;

use fastcdc::v2020::{Normalization, cut_gear, select_masks};
use zeroize::Zeroizing;

use super::CHUNK_BYTES_MAX;
use crate::error::{Error, ErrorKind, Result};
use crate::secret::Secrets;

/// How long chunks are, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ChunkSizes {
    min: u32,
    average: u32,
    max: u32,
}

impl ChunkSizes {
    /// The sizes of a new repository.
    pub const DEFAULT: Self = Self { min: 4 << 10, average: 16 << 10, max: 128 << 10 };

    /// Chunks of at least `min` (but for the end of a file), about `average`, at most `max` bytes.
    ///
    /// # Errors
    /// Invalid argument unless 64 <= `min` <= `average` <= `max` <= [`CHUNK_BYTES_MAX`], all are even, `min` is at most 1 MiB, and `average` is a
    /// power of two from 256 bytes to 4 MiB: what the cutting algorithm is made for.
    pub fn new(min: u32, average: u32, max: u32) -> Result<Self> {
        let good = (64..=1 << 20).contains(&min)
            && (256..=4 << 20).contains(&average)
            && average.is_power_of_two()
            && min <= average
            && average <= max
            && (1024..=CHUNK_BYTES_MAX).contains(&max)
            && min.is_multiple_of(2)
            && max.is_multiple_of(2);
        if good {
            return Ok(Self { min, average, max });
        }
        Err(Error::new(
            ErrorKind::InvalidArgument,
            format!("chunks of {min} to {max} bytes, {average} on average, cannot be cut"),
        ))
    }

    /// The least length of a chunk that does not end a file.
    pub fn min(&self) -> u32 {
        self.min
    }

    /// The length that chunks have about on average.
    pub fn average(&self) -> u32 {
        self.average
    }

    /// The greatest length.
    pub fn max(&self) -> u32 {
        self.max
    }
}

impl Default for ChunkSizes {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Cuts bytes into chunks. Cheap to clone, one for each thread or shared.
#[derive(Clone)]
pub struct Cutter {
    sizes: ChunkSizes,
    mask_strict: u64,
    mask_lax: u64,
    tables: Arc<Tables>,
}

/// The gear table, and itself shifted left by one: the algorithm takes two bytes at a step.
struct Tables {
    gear: Zeroizing<[u64; 256]>,
    gear_shifted: Zeroizing<[u64; 256]>,
}

impl fmt::Debug for Cutter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cutter").field("sizes", &self.sizes).finish_non_exhaustive()
    }
}

impl Cutter {
    /// The cutter of the repository with these secrets and sizes.
    pub fn new(secrets: &Secrets, sizes: ChunkSizes) -> Self {
        let gear = secrets.gear_table();
        let gear_shifted = Zeroizing::new(gear.map(|entry| entry << 1));
        let (mask_strict, mask_lax) = select_masks(sizes.average as usize, Normalization::Level2);
        Self { sizes, mask_strict, mask_lax, tables: Arc::new(Tables { gear, gear_shifted }) }
    }

    /// The sizes it cuts to.
    pub fn sizes(&self) -> ChunkSizes {
        self.sizes
    }

    /// The length of the chunk at the front of `window`, when more bytes may follow: `None` if the window is shorter than the greatest
    /// length, so that the next cut would depend on how much was read at once.
    pub fn cut(&self, window: &[u8]) -> Option<usize> {
        (window.len() >= self.sizes.max as usize).then(|| self.cut_last(window))
    }

    /// The length of the chunk at the front of `window`, when no bytes follow it: the whole window, once it is short. Zero only for an empty window.
    pub fn cut_last(&self, window: &[u8]) -> usize {
        let (_, length) = cut_gear(
            window,
            self.sizes.min as usize,
            self.sizes.average as usize,
            self.sizes.max as usize,
            self.mask_strict,
            self.mask_lax,
            self.mask_strict << 1,
            self.mask_lax << 1,
            &self.tables.gear[..],
            &self.tables.gear_shifted[..],
        );
        length
    }

    /// The chunks of `bytes`, which are a whole file, one after the other.
    pub fn chunks<'a>(&'a self, bytes: &'a [u8]) -> impl Iterator<Item = &'a [u8]> + 'a {
        let mut rest = bytes;
        std::iter::from_fn(move || {
            let (chunk, after) = rest.split_at_checked(self.cut_last(rest))?;
            rest = after;
            (!chunk.is_empty()).then_some(chunk)
        })
    }
}
