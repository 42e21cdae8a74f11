//! Sorting rows by their prefixes, which are mostly spread evenly: dealt into as many buckets as there are rows, a few in each, which are then sorted
//! one by one. However they are spread, the result is the same; crowded buckets only take longer.

use std::cmp::Ordering;

/// A row to be sorted: the first eight bytes of its key as a number, and its own.
pub(crate) type Item = (u64, u32);

/// Below so many, dealing is not worth it.
const DEAL_MIN: usize = 1 << 10;

/// Most buckets: their counts should stay in the processor's cache.
const BUCKETS_MAX: usize = 1 << 18;

/// Sorts by `compare`, which agrees with the prefixes where they differ.
pub(crate) fn sort(items: Vec<Item>, compare: impl Fn(&Item, &Item) -> Ordering) -> Vec<Item> {
    let by_prefix = |a: &Item, b: &Item| a.0.cmp(&b.0).then_with(|| compare(a, b));
    let mut items = items;
    if items.len() < DEAL_MIN {
        items.sort_unstable_by(by_prefix);
        return items;
    }
    let (min, max) = items.iter().fold((u64::MAX, 0), |(min, max), item| (min.min(item.0), max.max(item.0)));
    let buckets = (items.len() / 4).next_power_of_two().min(BUCKETS_MAX);
    // The smallest shift that brings the largest distance below the number of buckets.
    let shift = (64 - (max - min).leading_zeros()).saturating_sub(buckets.trailing_zeros());
    let bucket_of = |item: &Item| usize::try_from((item.0 - min) >> shift).unwrap_or(0);
    let mut ends = vec![0u32; buckets];
    for item in &items {
        if let Some(count) = ends.get_mut(bucket_of(item)) {
            *count += 1;
        }
    }
    let mut sum = 0;
    for end in &mut ends {
        sum += *end;
        *end = sum;
    }
    let mut dealt = vec![(0, 0); items.len()];
    for item in items.iter().rev() {
        if let Some(end) = ends.get_mut(bucket_of(item)) {
            *end -= 1;
            if let Some(place) = dealt.get_mut(*end as usize) {
                *place = *item;
            }
        }
    }
    // `ends` are the beginnings now.
    let starts = ends.iter().copied().chain([sum]).zip(ends.iter().skip(1).copied().chain([sum]));
    for (start, end) in starts {
        if end > start + 1
            && let Some(bucket) = dealt.get_mut(start as usize..end as usize)
        {
            bucket.sort_unstable_by(by_prefix);
        }
    }
    dealt
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn by_number(a: &Item, b: &Item) -> Ordering {
        b.1.cmp(&a.1)
    }

    fn expect_sorted(items: Vec<Item>) {
        let mut expected = items.clone();
        expected.sort_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)));
        assert_eq!(sort(items, by_number), expected);
    }

    #[test]
    fn whatever_the_spread() {
        let mixed = |number: u32| u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        expect_sorted((0..50_000).map(|number| (mixed(number), number)).collect());
        expect_sorted((0..50_000).map(|number| (mixed(number) >> 40, number)).collect());
        expect_sorted((0..5_000).map(|number| (7, number)).collect());
        expect_sorted((0..5_000).map(|number| (if number == 9 { u64::MAX } else { 3 }, number)).collect());
        expect_sorted((0..5_000).map(|number| (u64::from(number / 3), number)).collect());
    }

    proptest! {
        #[test]
        fn any_items(items in proptest::collection::vec((any::<u64>(), any::<u32>()), 0..3000), shift in 0u32..64) {
            expect_sorted(items.into_iter().map(|(prefix, number)| (prefix >> shift, number)).collect());
        }
    }
}
