//! One good copy out of several damaged ones.
//!
//! Copies of an object differ only where one of them is damaged. So each place in which they differ offers a choice, and the object's
//! hash tells when all choices are right. Damage is rare and local: a few places, two or three candidates each. Neither a key nor the
//! format of the object is needed.

/// The unit of comparison, in bytes: what a disk loses at once.
const BLOCK_BYTES: usize = 4096;

/// How many bytes may be hashed in the search: some seconds' worth.
const HASHED_BYTES_MAX: u64 = 8 << 30;

/// Joins damaged `copies` to an object that `is_good`, if some choice of their parts is. `length` is its length, if known; else that of the
/// longest copy.
pub(super) fn splice(
    copies: &[Vec<u8>],
    length: Option<u64>,
    is_good: impl Fn(&[u8]) -> bool,
) -> Option<Vec<u8>> {
    let length = match length {
        Some(length) => usize::try_from(length).ok()?,
        None => copies.iter().map(Vec::len).max()?,
    };
    if copies.len() < 2 || length == 0 {
        return None;
    }
    let (mut joined, runs) = compare(copies, length)?;
    let choices =
        runs.iter().try_fold(1u64, |product, run| product.checked_mul(run.candidates.len() as u64))?;
    if choices.checked_mul(length as u64)? > HASHED_BYTES_MAX {
        return None;
    }
    for number in 0..choices {
        let mut rest = number;
        for run in &runs {
            let count = run.candidates.len() as u64;
            let pick = usize::try_from(rest % count).ok()?;
            rest /= count;
            let part = copies.get(*run.candidates.get(pick)?)?.get(run.start..run.end)?;
            joined.get_mut(run.start..run.end)?.copy_from_slice(part);
        }
        if is_good(&joined) {
            return Some(joined);
        }
    }
    None
}

/// A stretch in which copies differ, and the copies that offer something of their own for it, the most common first.
struct Run {
    start: usize,
    end: usize,
    candidates: Vec<usize>,
}

/// What the copies agree on, and where they don't. `None` if there is a place that no copy reaches.
fn compare(copies: &[Vec<u8>], length: usize) -> Option<(Vec<u8>, Vec<Run>)> {
    let mut joined = vec![0; length];
    let mut runs: Vec<Run> = Vec::new();
    let mut start = 0;
    while start < length {
        let end = (start + BLOCK_BYTES).min(length);
        let blocks: Vec<_> = copies.iter().map(|copy| copy.get(start..end)).collect();
        let mut there = blocks.iter().flatten();
        let first = *there.next()?;
        joined.get_mut(start..end)?.copy_from_slice(first);
        if blocks.iter().flatten().any(|block| *block != first) {
            match runs.last_mut() {
                // Neighbours were hit by one blow, most likely: one choice for all of them.
                Some(run) if run.end == start => run.end = end,
                _ => runs.push(Run { start, end, candidates: Vec::new() }),
            }
        }
        start = end;
    }
    for run in &mut runs {
        run.candidates = candidates(copies, run.start, run.end);
        if run.candidates.is_empty() {
            return None;
        }
    }
    Some((joined, runs))
}

fn candidates(copies: &[Vec<u8>], start: usize, end: usize) -> Vec<usize> {
    let mut distinct: Vec<(usize, usize)> = Vec::new();
    for (index, part) in
        copies.iter().enumerate().filter_map(|(index, copy)| Some((index, copy.get(start..end)?)))
    {
        let same = |(first, _): &&mut (usize, usize)| {
            copies.get(*first).and_then(|copy| copy.get(start..end)) == Some(part)
        };
        match distinct.iter_mut().find(same) {
            Some((_, count)) => *count += 1,
            None => distinct.push((index, 1)),
        }
    }
    distinct.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    distinct.into_iter().map(|(index, _)| index).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes(length: usize) -> Vec<u8> {
        (0..length).map(|i| u8::try_from((i * 7 + i / 251) % 256).unwrap()).collect()
    }

    #[test]
    fn damage_in_different_places_is_joined_away() {
        let good = bytes(50_000);
        let mut copies = vec![good.clone(), good.clone()];
        copies[0][100] ^= 1;
        copies[0][30_000] ^= 1;
        copies[1][45_000..].fill(0);
        let is_good = |candidate: &[u8]| candidate == good;
        assert_eq!(splice(&copies, Some(50_000), is_good), Some(good.clone()));
        assert_eq!(splice(&copies[..1], Some(50_000), is_good), None, "one copy joins with nothing");
        copies[1].truncate(40_000);
        assert_eq!(splice(&copies, Some(50_000), is_good), Some(good.clone()), "a cut copy has what it has");
        copies[1][100] ^= 2;
        assert_eq!(splice(&copies, Some(50_000), is_good), None, "both are bad there");
        assert_eq!(splice(&[Vec::new(), Vec::new()], None, is_good), None);
    }

    #[test]
    fn too_many_places_are_given_up() {
        let good = bytes(1 << 20);
        let mut copies = vec![good.clone(), good.clone()];
        for index in (0..good.len()).step_by(BLOCK_BYTES * 2) {
            copies[index / (BLOCK_BYTES * 2) % 2][index] ^= 1;
        }
        assert_eq!(splice(&copies, None, |candidate| candidate == good), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn what_is_good_somewhere_is_found(flips in proptest::collection::vec((0usize..40_000, 0usize..3), 0..5)) {
            let good = bytes(40_000);
            let mut copies = vec![good.clone(), good.clone(), good.clone()];
            let mut hit = std::collections::HashMap::new();
            for (place, copy) in flips {
                // Blocks that touch are one choice: keep the damage of different copies apart.
                if *hit.entry(place / (3 * BLOCK_BYTES)).or_insert(copy) == copy && place / BLOCK_BYTES % 3 == 1 {
                    copies[copy][place] ^= 0x80;
                }
            }
            prop_assert_eq!(splice(&copies, None, |candidate| candidate == good), Some(good.clone()));
        }
    }
}
