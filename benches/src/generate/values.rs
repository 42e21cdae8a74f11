//! Values from numbers: each says which key it belongs to, and about half of it can be compressed away, as in db_bench.
//!
//! ```text
//! value   number's mark 8 | nonce 8 | bytes of a pool, from a place that number and nonce give: half the value, then again
//! ```
//!
//! A value too short for that is cut; one below 16 bytes has no nonce.

use crate::convert::{scale, to_usize};
use crate::generate::random::{Random, mix};

/// Bytes of the pool from which values are taken: it stays in the second-level cache.
const POOL_BYTES: usize = 256 << 10;

const MARK_BYTES: usize = 8;
const HEAD_BYTES: usize = 16;

/// Makes and recognises the values of one length.
#[derive(Debug)]
pub(crate) struct Values {
    pool: Box<[u8]>,
    value_bytes: usize,
    /// What is taken from the pool, and repeated until the value is full.
    period_bytes: usize,
    seed: u64,
}

impl Values {
    pub(crate) fn new(seed: u64, value_bytes: usize) -> Self {
        let period_bytes = (value_bytes / 2).saturating_sub(HEAD_BYTES).max(8);
        let mut random = Random::new(seed, 0x0076_616c_7565);
        let mut pool = vec![0; POOL_BYTES.max(2 * period_bytes)].into_boxed_slice();
        for part in pool.chunks_mut(8) {
            let bytes = random.next().to_le_bytes();
            for (to, from) in part.iter_mut().zip(bytes) {
                *to = from;
            }
        }
        Self { pool, value_bytes, period_bytes, seed }
    }

    /// Their length.
    pub(crate) fn value_bytes(&self) -> usize {
        self.value_bytes
    }

    fn mark(&self, number: u64) -> [u8; MARK_BYTES] {
        mix(number ^ self.seed).to_le_bytes()
    }

    /// The part of the pool that a value repeats.
    #[inline]
    fn period(&self, number: u64, nonce: u64) -> &[u8] {
        let places = (self.pool.len() - self.period_bytes) as u64;
        let start = to_usize(scale(mix(number.wrapping_add(nonce.rotate_left(32))), places));
        self.pool.get(start..start + self.period_bytes).unwrap_or_default()
    }

    /// Makes the value of a number; another nonce, another value.
    #[inline]
    pub(crate) fn fill(&self, number: u64, nonce: u64, value: &mut Vec<u8>) {
        value.clear();
        value.extend_from_slice(&self.mark(number));
        let nonce = if self.value_bytes >= HEAD_BYTES {
            value.extend_from_slice(&nonce.to_le_bytes());
            nonce
        } else {
            0
        };
        let period = self.period(number, nonce);
        while value.len() < self.value_bytes {
            let rest = self.value_bytes - value.len();
            value.extend_from_slice(period.get(..rest).unwrap_or(period));
        }
        value.truncate(self.value_bytes);
    }

    /// Whether this is a value of that number.
    #[inline]
    pub(crate) fn check(&self, number: u64, value: &[u8]) -> bool {
        let mark = self.mark(number);
        if value.len() != self.value_bytes {
            return false;
        }
        let Some((head, rest)) = value.split_first_chunk::<MARK_BYTES>() else {
            return mark.starts_with(value);
        };
        let (nonce, body) = match rest.split_first_chunk::<8>() {
            Some((nonce, body)) => (u64::from_le_bytes(*nonce), body),
            None => (0, rest),
        };
        let period = self.period(number, nonce);
        *head == mark && body.chunks(period.len().max(1)).all(|part| period.starts_with(part))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(values: &Values, number: u64, nonce: u64) -> Vec<u8> {
        let mut value = Vec::new();
        values.fill(number, nonce, &mut value);
        value
    }

    #[test]
    fn a_value_is_recognised_as_its_numbers_and_no_others() {
        for bytes in [1, 7, 8, 12, 16, 24, 31, 100, 300, 1000, 100_000] {
            let values = Values::new(3, bytes);
            for nonce in [0, 1, u64::MAX] {
                let made = value(&values, 17, nonce);
                assert_eq!(made.len(), bytes);
                assert_eq!(made, value(&values, 17, nonce));
                assert!(values.check(17, &made), "{bytes} {nonce}");
                assert!(bytes < 4 || !values.check(18, &made), "{bytes} {nonce}");
                assert!(!values.check(17, &made[1..]), "too short");
            }
        }
    }

    #[test]
    fn any_changed_byte_is_noticed() {
        let values = Values::new(3, 100);
        let made = value(&values, 17, 5);
        for place in 0..made.len() {
            let mut wrong = made.clone();
            wrong[place] ^= 1;
            assert!(!values.check(17, &wrong), "byte {place}");
        }
    }

    #[test]
    fn about_half_of_a_value_repeats_the_other_half() {
        let values = Values::new(3, 300);
        let made = value(&values, 1, 1);
        let period = values.period_bytes;
        let new = HEAD_BYTES + period;
        assert_eq!(new, 150);
        assert!(made[new..].iter().eq(made[HEAD_BYTES..].iter().take(300 - new)));
        assert_ne!(
            value(&values, 1, 1)[HEAD_BYTES..],
            value(&values, 1, 2)[HEAD_BYTES..],
            "a nonce changes it"
        );
    }
}
