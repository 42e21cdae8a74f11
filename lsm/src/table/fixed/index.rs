//! Which block a key is in: a *fence* for each block, the first prefix in it, and a directory into the fences.
//!
//! The directory divides the distance between the first and the last fence into equal buckets, one for every eight blocks or so, and says where
//! in the fences each begins. It is small enough to stay in a processor's cache, and keys that are spread evenly leave a line or two of fences in a bucket: so a
//! block is found with one wait for memory, which can be begun early ([`Index::prefetch`]). However they are spread, the answer is the same; a crowded bucket is
//! searched by halves.

/// Fences in a bucket, of keys that are spread evenly.
const FENCES_PER_BUCKET: usize = 8;

/// Fences in a line of a processor's cache.
const FENCES_PER_LINE: usize = 8;

/// Fences in a bucket that are all looked at.
const COUNTED_MAX: usize = 4 * FENCES_PER_BUCKET;

/// See the module.
#[derive(Debug)]
pub(super) struct Index {
    fences: Vec<u64>,
    /// For each bucket how many fences are in those before it; one more behind the last.
    starts: Vec<u32>,
    shift: u32,
}

/// Blocks in which a prefix may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    /// The first and the last of them: more than one only where several blocks begin with this very prefix.
    pub(super) first: usize,
    pub(super) last: usize,
    /// Where in the last block the prefix may be, of so many parts of 1,024.
    pub(super) guess: usize,
}

impl Span {
    /// The row where a search begins.
    #[inline]
    pub(super) fn row(self, rows: usize) -> usize {
        (self.guess * rows) >> 10
    }
}

/// How far `prefix` is from `fence` to `next`, in parts of 1,024.
#[inline]
pub(super) fn guess(prefix: u64, fence: u64, next: u64) -> usize {
    let distance = prefix.saturating_sub(fence) >> 11;
    let whole = (next.saturating_sub(fence) >> 11) + 1;
    usize::try_from((distance << 10) / whole).unwrap_or(0).min(1024)
}

/// The blocks in which a prefix may be, by their fences.
pub(super) fn span(fences: &[u64], prefix: u64, last: usize) -> Span {
    let fence = fences.get(last).copied().unwrap_or(0);
    let first = match fence == prefix {
        true => fences.partition_point(|fence| *fence < prefix).saturating_sub(1),
        false => last,
    };
    let next = fences.get(last + 1).copied().unwrap_or(u64::MAX);
    Span { first, last, guess: guess(prefix, fence, next) }
}

/// How many the directory of so many blocks has; two at least, since no number can be shifted by all of its bits.
fn buckets(blocks: usize) -> usize {
    blocks.div_ceil(FENCES_PER_BUCKET).next_power_of_two().max(2)
}

impl Index {
    /// The index of blocks with these first prefixes, which ascend.
    pub(super) fn new(fences: Vec<u64>) -> Self {
        let (min, max) = (fences.first().copied().unwrap_or(0), fences.last().copied().unwrap_or(0));
        let buckets = buckets(fences.len());
        let shift = (64 - max.saturating_sub(min).leading_zeros()).saturating_sub(buckets.trailing_zeros());
        let mut index = Self { fences, starts: Vec::new(), shift };
        let mut starts = vec![0u32; buckets + 1];
        for fence in &index.fences {
            if let Some(count) = starts.get_mut(index.bucket(*fence) + 1) {
                *count += 1;
            }
        }
        let mut sum = 0;
        for start in &mut starts {
            sum += *start;
            *start = sum;
        }
        index.starts = starts;
        index
    }

    /// Bytes of memory that the index of so many blocks takes.
    pub(super) fn memory_bytes(blocks: u64) -> usize {
        let blocks = usize::try_from(blocks).unwrap_or(usize::MAX / 32);
        blocks * 8 + (buckets(blocks) + 1) * 4
    }

    #[inline]
    fn bucket(&self, prefix: u64) -> usize {
        let min = self.fences.first().copied().unwrap_or(0);
        usize::try_from(prefix.saturating_sub(min) >> self.shift.min(63)).unwrap_or(usize::MAX)
    }

    /// Where the fences of the bucket of a prefix begin and end.
    #[inline]
    fn fences_near(&self, prefix: u64) -> (usize, usize) {
        let bucket = self.bucket(prefix).min(self.starts.len().saturating_sub(2));
        let place = |at: usize| self.starts.get(at).map_or(0, |start| *start as usize);
        (place(bucket), place(bucket + 1))
    }

    /// Has the fences fetched that [`Self::find`] looks at, where they are as many as those of evenly spread keys.
    #[inline]
    pub(super) fn prefetch(&self, prefix: u64) {
        let (from, to) = self.fences_near(prefix);
        // The last one before the bucket may be the answer, and the first one behind it is looked at too.
        for line in 0..3 {
            let at = from.saturating_sub(1) + line * FENCES_PER_LINE;
            crate::memory::prefetch_at(&self.fences, at.min(to));
        }
    }

    /// The blocks in which a prefix may be.
    #[inline]
    pub(super) fn find(&self, prefix: u64) -> Span {
        let (from, to) = self.fences_near(prefix);
        let near = self.fences.get(from..to).unwrap_or_default();
        let before = match near.len() <= COUNTED_MAX {
            // No branch that depends on the key: each that is guessed wrongly takes longer than all of these.
            true => near.iter().map(|fence| usize::from(*fence <= prefix)).sum(),
            false => near.partition_point(|fence| *fence <= prefix),
        };
        span(&self.fences, prefix, (from + before).saturating_sub(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn expect_right(mut fences: Vec<u64>, asked: impl IntoIterator<Item = u64>) {
        fences.sort_unstable();
        let index = Index::new(fences.clone());
        for prefix in asked
            .into_iter()
            .chain(fences.iter().flat_map(|f| [f.saturating_sub(1), *f, f.saturating_add(1)]))
        {
            let span = index.find(prefix);
            let last = fences.partition_point(|fence| *fence <= prefix).saturating_sub(1);
            let first = fences.partition_point(|fence| *fence < prefix).saturating_sub(1).min(last);
            assert_eq!(
                (span.first, span.last),
                (if fences[last] == prefix { first } else { last }, last),
                "{prefix:#x}"
            );
            assert!(span.row(72) <= 72);
            index.prefetch(prefix);
        }
    }

    #[test]
    fn extremes() {
        expect_right(vec![5], [0, 4, 5, 6, u64::MAX]);
        expect_right(vec![0, u64::MAX], [1, u64::MAX / 2]);
        expect_right(vec![7; 100], [6, 7, 8]);
        expect_right((0..1000).collect(), [0, 2000]);
        expect_right((0..1000).map(|n| u64::MAX - n).collect(), [0, u64::MAX]);
        expect_right((0..1000u64).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15)).collect(), [0, u64::MAX]);
    }

    proptest! {
        #[test]
        fn any_fences(fences in proptest::collection::vec(any::<u64>(), 1..300), shift in 0u32..64, asked in proptest::collection::vec(any::<u64>(), 10)) {
            expect_right(fences.into_iter().map(|fence| fence >> shift).collect(), asked);
        }
    }
}
