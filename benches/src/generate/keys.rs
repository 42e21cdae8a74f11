//! Keys from numbers.

use crate::generate::random::mix;

/// db_bench's keys: the number in 8 bytes, most significant first, and zeros (the digit) behind it up to the key's length. In the numbers' order.
#[inline]
pub(crate) fn numbered_key(number: u64, key_bytes: usize, key: &mut Vec<u8>) {
    key.clear();
    key.extend_from_slice(&number.to_be_bytes());
    key.resize(key_bytes.max(8), b'0');
}

/// A key beside the numbered one that is never written: its last byte is another. Of keys of 8 bytes there is none, they get one byte more.
#[inline]
pub(crate) fn missing_key(number: u64, key_bytes: usize, key: &mut Vec<u8>) {
    numbered_key(number, key_bytes.max(9), key);
    if let Some(last) = key.last_mut() {
        *last = b'.';
    }
}

/// The key of a chunk: 32 bytes as a cryptographic hash would give them.
///
/// The first two words are mixed each for itself: an engine may sort by one and filter by the other, which must not have to do with each other. The rest
/// is made of them in fewer steps: a lookup may take 40 ns, and this is part of what is measured.
#[inline]
pub(crate) fn chunk_key(seed: u64, number: u64) -> [u8; 32] {
    // A bijection of the number: no two chunks have the same key.
    let first = mix(number ^ seed);
    let second = mix(first);
    let third = first ^ second.rotate_left(29).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let fourth = second ^ first.rotate_left(41).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mut key = [0; 32];
    for (part, word) in key.chunks_exact_mut(8).zip([first, second, third, fourth]) {
        part.copy_from_slice(&word.to_le_bytes());
    }
    key
}

/// YCSB's keys: `user` and the FNV-1a hash of the number, in digits.
pub(crate) fn user_key(number: u64, key: &mut Vec<u8>) {
    key.clear();
    key.extend_from_slice(b"user");
    let mut digits = [b'0'; 20];
    let mut rest = fnv(number);
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + u8::try_from(rest % 10).unwrap_or(0);
        rest /= 10;
    }
    key.extend_from_slice(&digits);
}

/// FNV-1a of a number's 8 bytes, as YCSB scrambles with it.
#[inline]
pub(crate) fn fnv(number: u64) -> u64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in number.to_le_bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered(number: u64, bytes: usize) -> Vec<u8> {
        let mut key = Vec::new();
        numbered_key(number, bytes, &mut key);
        key
    }

    #[test]
    fn numbered_keys_have_their_length_and_the_numbers_order() {
        assert_eq!(numbered(258, 16), b"\0\0\0\0\0\0\x01\x0200000000");
        assert!(numbered(255, 16) < numbered(256, 16));
        assert_eq!(numbered(1, 3).len(), 8, "shorter than a number is none");
    }

    #[test]
    fn a_missing_key_is_as_long_and_beside_the_one_that_is_there() {
        let mut missing = Vec::new();
        missing_key(258, 16, &mut missing);
        assert_eq!(missing.len(), 16);
        assert!(missing < numbered(258, 16) && missing > numbered(257, 16));
        missing_key(258, 8, &mut missing);
        assert_ne!(missing, numbered(258, 8));
    }

    #[test]
    fn chunk_keys_are_the_same_for_the_same_seed_and_differ_otherwise() {
        assert_eq!(chunk_key(1, 5), chunk_key(1, 5));
        assert_ne!(chunk_key(1, 5), chunk_key(2, 5));
        let mut keys: Vec<_> = (0..10_000).map(|number| chunk_key(1, number)).collect();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), 10_000);
        for place in 0..32 {
            let sum: u64 = keys.iter().map(|key| u64::from(key[place])).sum();
            assert!((sum / 10_000).abs_diff(127) < 4, "byte {place} is uniform: mean {}", sum / 10_000);
        }
    }

    #[test]
    fn user_keys_are_ycsbs() {
        let mut key = Vec::new();
        user_key(0, &mut key);
        assert_eq!(key, format!("user{:020}", fnv(0)).into_bytes());
        assert_eq!(fnv(0), 0xa8c7_f832_281a_39c5, "the hash of eight zeros");
    }
}
