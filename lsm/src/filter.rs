//! Filters: a few bits a key that tell, mostly, that a key is not in a table.

/// The hash of a user key that all filters share: computed once a lookup.
#[inline]
pub fn hash(user_key: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(user_key)
}
