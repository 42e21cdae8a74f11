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

    /// The strict and the lax mask.
    #[cfg(test)]
    pub(crate) fn masks(&self) -> (u64, u64) {
        (self.mask_strict, self.mask_lax)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{noise, other_secrets, secrets, small_cutter, text};
    use proptest::prelude::*;
    use std::collections::HashSet;

    fn lengths(cutter: &Cutter, bytes: &[u8]) -> Vec<usize> {
        cutter.chunks(bytes).map(<[u8]>::len).collect()
    }

    /// Cuts are a part of the format: were they to move, the next backup would store everything again.
    #[test]
    fn fixed_bytes_are_always_cut_at_the_same_places() {
        let cutter = Cutter::new(&secrets(), ChunkSizes::DEFAULT);
        let bytes = noise(1, 200_000);
        assert_eq!(
            lengths(&cutter, &bytes),
            [24533, 16605, 15166, 21126, 19975, 18531, 17942, 32350, 27663, 6109]
        );
        assert_eq!(
            lengths(&small_cutter(), &text(2, 3_000)),
            [362, 294, 267, 349, 364, 393, 337, 256, 286, 92]
        );
    }

    #[test]
    fn the_masks_are_what_format_md_says() {
        let cutter = Cutter::new(&secrets(), ChunkSizes::DEFAULT);
        assert_eq!((cutter.mask_strict, cutter.mask_lax), (0x0000_d903_0353_7000, 0x0000_d901_0353_0000));
    }

    #[test]
    fn one_byte_more_changes_few_chunks() {
        let cutter = Cutter::new(&secrets(), ChunkSizes::new(1 << 10, 4 << 10, 32 << 10).unwrap());
        let before = noise(3, 1 << 20);
        let mut after = before.clone();
        after.insert(300_000, 7);
        let old: HashSet<&[u8]> = cutter.chunks(&before).collect();
        let new: Vec<&[u8]> = cutter.chunks(&after).collect();
        let changed = new.iter().filter(|chunk| !old.contains(*chunk)).count();
        assert!(changed <= 4 && new.len() > 150, "{changed} of {} chunks changed", new.len());
    }

    #[test]
    fn other_secrets_cut_elsewhere() {
        let bytes = noise(4, 500_000);
        let sizes = ChunkSizes::DEFAULT;
        let ends = |cutter: Cutter| -> HashSet<usize> {
            lengths(&cutter, &bytes)
                .iter()
                .scan(0, |end, length| {
                    *end += length;
                    Some(*end)
                })
                .collect()
        };
        let (one, other) = (ends(Cutter::new(&secrets(), sizes)), ends(Cutter::new(&other_secrets(), sizes)));
        assert!(one.intersection(&other).count() <= 2, "only the end of the file is sure to be common");
    }

    #[test]
    fn empty_small_and_constant_bytes() {
        let cutter = Cutter::new(&secrets(), ChunkSizes::DEFAULT);
        assert_eq!(cutter.cut_last(&[]), 0);
        assert_eq!(lengths(&cutter, &[]), [] as [usize; 0]);
        assert_eq!(lengths(&cutter, &[1]), [1]);
        assert_eq!(lengths(&cutter, &noise(5, 4 << 10)), [4 << 10], "no longer than the minimum: one chunk");
        assert_eq!(
            lengths(&cutter, &vec![0; 300 << 10]),
            [128 << 10, 128 << 10, 44 << 10],
            "never beyond the maximum"
        );
        assert_eq!(cutter.cut(&vec![0; (128 << 10) - 1]), None, "too few bytes to tell");
    }

    #[test]
    fn sizes_that_cannot_be_cut_are_refused() {
        for (min, average, max) in [
            (0, 256, 1024),
            (62, 256, 1024),
            (65, 256, 1024),
            (64, 300, 1024),
            (512, 256, 1024),
            (64, 256, 1023),
            (64, 2048, 1024),
        ] {
            let error = ChunkSizes::new(min, average, max).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{min} {average} {max}");
        }
        assert!(ChunkSizes::new(64, 256, CHUNK_BYTES_MAX + 2).is_err());
        ChunkSizes::new(1 << 20, 4 << 20, CHUNK_BYTES_MAX).unwrap();
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn cuts_do_not_depend_on_how_much_is_read_at_once(seed in any::<u64>(), length in 0usize..12_000, reads in proptest::collection::vec(1usize..5_000, 1..20)) {
            let cutter = small_cutter();
            let bytes = noise(seed, length);
            let whole = lengths(&cutter, &bytes);
            prop_assert_eq!(whole.iter().sum::<usize>(), length);
            for (index, chunk) in whole.iter().enumerate() {
                prop_assert!(*chunk <= 1024 && (*chunk >= 64 || index + 1 == whole.len()));
            }
            let (mut window, mut rest, mut found) = (Vec::new(), &bytes[..], Vec::new());
            for read in reads.iter().cycle() {
                let (now, later) = rest.split_at((*read).min(rest.len()));
                window.extend_from_slice(now);
                rest = later;
                while let Some(length) = cutter.cut(&window) {
                    found.push(length);
                    window.drain(..length);
                }
                if rest.is_empty() {
                    break;
                }
            }
            found.extend(lengths(&cutter, &window));
            prop_assert_eq!(found, whole);
        }
    }
}
