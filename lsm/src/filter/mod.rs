//! Filters: a few bits a key that tell, mostly, that a key is not in a table.
//!
//! A *blocked Bloom filter*: the hash picks one line of 512 bits, as long as a cache line, and all probes fall into that line, so that a lookup waits
//! for memory once. It costs a few more bits for the same rate of false answers than bits spread over the whole filter would. Measured on
//! random keys: 10 bits a key answer "maybe" wrongly 1.0 % of the time, 12 bits 0.4 %, 16 bits 0.1 %.
//!
//! A filter's payload (FORMAT.md, "Tables"): kind, a byte; probes, a byte; six reserved bytes; the lines. The kind is there so that others can
//! follow (a fuse filter for tables that are written once); a reader that does not know it looks into the table instead.

mod live;

use crate::error::{Error, Result};
use crate::memory;

pub(crate) use live::LiveFilter;

/// Bytes of a line.
pub(crate) const LINE_BYTES: usize = 64;

/// Bytes before the lines.
const HEADER_BYTES: usize = 8;

/// The kind of filter that this version writes.
const KIND_BLOCKED_BLOOM: u8 = 1;

const PROBES_MAX: u8 = 16;

/// Keys that are put in together.
const INSERTED_TOGETHER: usize = 32;

/// Probes that are looked at before anything is decided.
const PROBES_TOGETHER: u8 = 4;

/// Most bits a key that make sense: beyond, lines are so empty that more bits change nothing.
pub const BITS_PER_KEY_MAX: u32 = 24;

/// 2^64 divided by the golden ratio: multiplying by it spreads the bits of a number over its upper ones.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// The hash of a user key that all filters share: computed once a lookup, whatever the number of tables.
#[inline]
pub fn hash(user_key: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(user_key)
}

/// The bits of a line for all probes that there may be, as the place of a word of eight bytes, the lowest first, and a bit of it (so of a byte of eight bits, and a bit of that): nine bits of a number that is multiplied on and on. The
/// line came from the upper half of the hash, so the lower half begins on top.
#[inline]
fn probes(hash: u64) -> impl Iterator<Item = (usize, u32)> {
    let mut number = hash.rotate_left(32).wrapping_mul(SPREAD);
    std::iter::repeat_with(move || {
        let bit = number >> 55;
        number = number.wrapping_mul(SPREAD);
        ((bit >> 6) as usize, (bit & 63) as u32)
    })
}

/// Whether all bits of a key are set in its line, of whose words `word` tells. Half of the bits are set, so whoever decides at each guesses wrong at each key that
/// is absent: four are looked at before.
#[inline]
fn all_set(hash: u64, count: u8, word: impl Fn(usize) -> u64) -> bool {
    let mut set = probes(hash).map(|(place, bit)| word(place) >> bit);
    let mut left = count;
    while let Some(fewer) = left.checked_sub(PROBES_TOGETHER) {
        if set.by_ref().take(usize::from(PROBES_TOGETHER)).fold(1, |all, bits| all & bits) == 0 {
            return false;
        }
        left = fewer;
    }
    set.take(usize::from(left)).fold(1, |all, bits| all & bits) != 0
}

#[inline]
fn line_of(hash: u64, lines: usize) -> usize {
    // Below `lines`: the upper half of the hash is a fraction of 2^32.
    usize::try_from((u128::from(hash >> 32) * lines as u128) >> 32).unwrap_or(0)
}

/// How many lines a filter for so many keys has; at least one.
pub(crate) fn lines_for(keys: usize, bits_per_key: u32) -> usize {
    let bits_per_key = bits_per_key.clamp(1, BITS_PER_KEY_MAX) as usize;
    (keys * bits_per_key).div_ceil(LINE_BYTES * 8).max(1)
}

/// How many bits a key has in its line: about 0.65 for each bit of filter, where one over all bits wants ln 2: a line is sometimes fuller than the
/// average.
pub(crate) fn probes_for(bits_per_key: u32) -> u8 {
    let bits_per_key = bits_per_key.clamp(1, BITS_PER_KEY_MAX);
    u8::try_from((bits_per_key * 13 + 10) / 20).unwrap_or(PROBES_MAX).clamp(1, PROBES_MAX)
}

/// Puts a key into the lines of a filter.
///
/// # Panics
/// If there is no line.
fn insert(lines: &mut [u8], hash: u64, count: u8) {
    let start = line_of(hash, lines.len() / LINE_BYTES) * LINE_BYTES;
    let line = lines.get_mut(start..start + LINE_BYTES).expect("a line below their number");
    let (words, _) = line.as_chunks_mut::<8>();
    for (place, bit) in probes(hash).take(usize::from(count)) {
        if let Some(word) = words.get_mut(place) {
            *word = (u64::from_le_bytes(*word) | 1 << bit).to_le_bytes();
        }
    }
}

/// Puts many keys in; in a large filter the waits for their lines overlap.
///
/// # Panics
/// If there is no line.
pub(crate) fn insert_all(lines: &mut [u8], hashes: impl Iterator<Item = u64>, count: u8) {
    let mut hashes = hashes.peekable();
    let mut next = [0; INSERTED_TOGETHER];
    while hashes.peek().is_some() {
        let mut filled = 0;
        for (place, hash) in next.iter_mut().zip(hashes.by_ref()) {
            memory::prefetch_at(lines, line_of(hash, lines.len() / LINE_BYTES) * LINE_BYTES);
            *place = hash;
            filled += 1;
        }
        next.iter().take(filled).for_each(|hash| insert(lines, *hash, count));
    }
}

/// A filter's payload.
pub(crate) fn payload(probes: u8, lines: &[u8]) -> Vec<u8> {
    [&[KIND_BLOCKED_BLOOM, probes, 0, 0, 0, 0, 0, 0], lines].concat()
}

/// The payload of a filter for keys with these hashes.
///
/// # Panics
/// If a key that was put in is not found: memory is failing, and a filter that hides keys hides data.
pub fn build(hashes: &[u64], bits_per_key: u32) -> Vec<u8> {
    let count = probes_for(bits_per_key);
    let mut lines = vec![0; lines_for(hashes.len(), bits_per_key) * LINE_BYTES];
    insert_all(&mut lines, hashes.iter().copied(), count);
    let payload = payload(count, &lines);
    assert!(hashes.iter().all(|hash| may_contain(&payload, *hash)), "a filter finds what was put into it");
    payload
}

/// Where, of so many lines, that of a key is.
#[inline]
pub(crate) fn line(hash: u64, lines: usize) -> usize {
    line_of(hash, lines)
}

/// Whether a key may be in its line.
#[inline]
pub(crate) fn line_may_contain(line: &[u8; LINE_BYTES], hash: u64, count: u8) -> bool {
    let (words, _) = line.as_chunks::<8>();
    all_set(hash, count, |place| words.get(place).map_or(u64::MAX, |word| u64::from_le_bytes(*word)))
}

/// The probes and the lines of a filter's payload; `None` for one of an unknown kind.
pub(crate) fn parts(payload: &[u8]) -> Option<(u8, &[u8])> {
    match payload.split_first_chunk::<HEADER_BYTES>()? {
        ([KIND_BLOCKED_BLOOM, count, ..], lines) => Some((*count, lines)),
        _ => None,
    }
}

/// Whether a key with this hash may be among those of the filter. A filter of an unknown kind says yes.
#[inline]
pub fn may_contain(payload: &[u8], hash: u64) -> bool {
    let [KIND_BLOCKED_BLOOM, count, ..] = payload else { return true };
    let Some(lines) = payload.get(HEADER_BYTES..) else { return true };
    let start = line_of(hash, lines.len() / LINE_BYTES) * LINE_BYTES;
    let Some(line) = lines.get(start..).and_then(|line| line.first_chunk::<LINE_BYTES>()) else {
        return true;
    };
    line_may_contain(line, hash, *count)
}

/// Verifies the shape of a filter.
///
/// # Errors
/// Corruption if it is of a known kind and not such as [`build`] makes it.
pub fn check(payload: &[u8]) -> Result<()> {
    let Some((header, lines)) = payload.split_first_chunk::<HEADER_BYTES>() else {
        return Err(Error::corruption(format!("a filter of {} bytes is too short", payload.len())));
    };
    let [kind, count, reserved @ ..] = header;
    if *kind == 0 {
        return Err(Error::corruption("0 is no kind of filter"));
    }
    if *kind != KIND_BLOCKED_BLOOM {
        return Ok(());
    }
    let whole = !lines.is_empty() && lines.len().is_multiple_of(LINE_BYTES);
    if !whole || *count == 0 || *count > PROBES_MAX || reserved != &[0; 6] {
        return Err(Error::corruption(format!(
            "a filter with {count} probes over {} bytes is not one that this version writes",
            lines.len()
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hashes(from: u64, to: u64) -> Vec<u64> {
        (from..to).map(|number| hash(&number.to_be_bytes())).collect()
    }

    #[test]
    fn every_key_put_in_is_found() {
        for count in [0, 1, 2, 63, 1000] {
            for bits in [1, 8, 10, 16, 24, 99] {
                let hashes = hashes(0, count);
                let payload = build(&hashes, bits);
                check(&payload).unwrap();
                assert!(hashes.iter().all(|hash| may_contain(&payload, *hash)));
            }
        }
    }

    #[test]
    fn other_keys_are_mostly_not() {
        for (bits, worst) in [(10, 0.0125), (12, 0.0055), (16, 0.0013)] {
            let payload = build(&hashes(0, 50_000), bits);
            let asked = hashes(50_000, 250_000);
            let wrong = asked.iter().filter(|hash| may_contain(&payload, **hash)).count();
            let rate = wrong as f64 / asked.len() as f64;
            assert!(rate < worst, "{bits} bits a key: {rate}");
        }
    }

    #[test]
    fn an_unknown_kind_says_maybe_and_a_damaged_one_is_refused() {
        let mut payload = build(&hashes(0, 10), 10);
        payload[0] = 9;
        assert!(may_contain(&payload, 1));
        check(&payload).unwrap();
        payload[0] = 0;
        assert!(check(&payload).is_err());
        for bytes in [&[][..], &[1], &[1, 7, 0, 0, 0, 0, 0, 0], &[1; 72], &[1, 0, 0, 0, 0, 0, 0, 0, 1]] {
            assert!(check(bytes).is_err());
            let _ = may_contain(bytes, 77);
        }
    }
}
