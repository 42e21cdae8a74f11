//! Pseudorandom numbers: splitmix64, which is one multiplication chain a number, and permutations made of the same steps.

use crate::convert::scale;

/// A bijection of 64-bit numbers that leaves no pattern (the finalizer of splitmix64).
#[inline]
pub(crate) fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A sequence of pseudorandom numbers.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// The sequence of a seed and a stream: streams of one seed have nothing to do with each other.
    pub(crate) fn new(seed: u64, stream: u64) -> Self {
        Self(mix(seed ^ mix(stream)))
    }

    /// Any number.
    #[inline]
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number below `bound`, 0 if that is 0.
    #[inline]
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        scale(self.next(), bound)
    }

    /// A number from 0 up to 1, excluded, with all the bits that a float has.
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit a float exactly")]
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// A permutation of the numbers below a count, without a table: rounds of odd multiplications and shifts on the next power of two, gone through
/// again while the result is too large.
#[derive(Clone, Debug)]
pub(crate) struct Shuffle {
    count: u64,
    bits: u32,
    keys: [u64; 3],
}

impl Shuffle {
    pub(crate) fn new(count: u64, seed: u64) -> Self {
        let bits = 64 - count.saturating_sub(1).leading_zeros();
        let mut random = Random::new(seed, 0x5u64);
        let keys = [(); 3].map(|()| random.next());
        Self { count, bits: bits.max(2), keys }
    }

    /// Where `index`, below the count, goes.
    pub(crate) fn at(&self, index: u64) -> u64 {
        let mask = u64::MAX >> (64 - self.bits);
        let mut number = index;
        loop {
            for key in self.keys {
                number = number.wrapping_mul(key | 1).wrapping_add(key >> 32) & mask;
                number ^= number >> (self.bits / 2);
            }
            if number < self.count {
                return number;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::convert::to_usize;

    #[test]
    fn the_same_seed_gives_the_same_numbers_and_another_stream_others() {
        let draw = |stream| {
            let mut random = Random::new(7, stream);
            [(); 4].map(|()| random.next())
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }

    #[test]
    fn draws_are_spread_evenly() {
        let (mut random, mut buckets) = (Random::new(1, 1), [0_u32; 16]);
        for _ in 0..160_000 {
            buckets[to_usize(random.below(16))] += 1;
        }
        assert!(buckets.iter().all(|count| (9_600..10_400).contains(count)), "{buckets:?}");
        let mean = (0..10_000).map(|_| random.unit()).sum::<f64>() / 10_000.0;
        assert!((0.49..0.51).contains(&mean), "{mean}");
    }

    #[test]
    fn a_shuffle_is_a_permutation_in_no_order() {
        for count in [1, 2, 3, 1000, 1024, 1025, 4999] {
            let shuffle = Shuffle::new(count, 9);
            let mut seen: Vec<u64> = (0..count).map(|index| shuffle.at(index)).collect();
            let rising = seen.windows(2).filter(|pair| pair[0] < pair[1]).count();
            if count >= 1000 {
                let part = rising as f64 / count as f64;
                assert!((0.4..0.6).contains(&part), "{count}: {part}");
            }
            seen.sort_unstable();
            assert!(seen.into_iter().eq(0..count), "{count}");
        }
    }
}
