//! Sets of tombstones against a list of them.

use std::sync::Arc;

use super::*;
use proptest::prelude::*;

fn tombstone(start: &str, end: Option<&str>, sequence: SequenceNumber) -> RangeTombstone {
    RangeTombstone { start: start.into(), end: end.map(Into::into), sequence }
}

fn covers(tombstone: &RangeTombstone, key: &[u8]) -> bool {
    key >= tombstone.start.as_slice() && tombstone.end.as_ref().is_none_or(|end| key < end.as_slice())
}

fn model(all: &[RangeTombstone], key: &[u8], read_sequence: SequenceNumber) -> SequenceNumber {
    all.iter()
        .filter(|tombstone| covers(tombstone, key) && tombstone.sequence <= read_sequence)
        .map(|tombstone| tombstone.sequence)
        .max()
        .unwrap_or(0)
}

fn small_key() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(0u8..4, 0..4)
}

fn some_tombstones() -> impl Strategy<Value = Vec<RangeTombstone>> {
    let one = (small_key(), prop::option::weighted(0.9, small_key()), 1u64..20)
        .prop_map(|(start, end, sequence)| RangeTombstone { start, end, sequence });
    prop::collection::vec(one, 0..24)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_set_answers_as_its_list_does(all in some_tombstones(), keys in prop::collection::vec(small_key(), 1..30)) {
        let set = Arc::new(RangeTombstones::new(all.clone()));
        for read_sequence in [0, 1, 7, 19, SEQUENCE_MAX] {
            let mut cursor = TombstoneCursor::new(Arc::clone(&set), read_sequence);
            for key in &keys {
                let expected = model(&all, key, read_sequence);
                prop_assert_eq!(set.newest_covering(key, read_sequence), expected);
                prop_assert_eq!(cursor.newest_covering(key), expected);
                let (from, until) = cursor.fragment();
                prop_assert!(from.is_none_or(|from| from <= key.as_slice()));
                prop_assert!(until.is_none_or(|until| until > key.as_slice()));
            }
        }
    }

    #[test]
    fn runs_end_where_nothing_newer_lies(all in some_tombstones(), key in small_key(), above in 0u64..20) {
        let set = Arc::new(RangeTombstones::new(all.clone()));
        // All the places at which an answer may change.
        let mut edges: Vec<Vec<u8>> = all.iter().flat_map(|one| [Some(one.start.clone()), one.end.clone()]).flatten().collect();
        edges.sort();
        edges.dedup();
        for read_sequence in [7, SEQUENCE_MAX] {
            let is_covered = |key: &[u8]| model(&all, key, read_sequence) > above;
            let mut cursor = TombstoneCursor::new(Arc::clone(&set), read_sequence);
            if cursor.newest_covering(&key) > above {
                let end = edges.iter().find(|edge| **edge > key && !is_covered(edge));
                prop_assert_eq!(cursor.end_of_run(above, |_| false), end.map(Vec::as_slice));
                prop_assert!(cursor.newest_before(end.map(Vec::as_slice)) > above);
                let start = cursor.start_of_run(above, |_| false).map(<[u8]>::to_vec);
                let start = start.unwrap_or_default();
                prop_assert!(start <= key && edges.iter().filter(|edge| start <= **edge && **edge <= key).all(|edge| is_covered(edge)));
                let mut before = TombstoneCursor::new(Arc::clone(&set), read_sequence);
                prop_assert!(before.newest_before(Some(&start)) <= above);
                cursor.newest_covering(&key);
                let near = cursor.end_of_run(above, |edge| edge > key.as_slice()).map(<[u8]>::to_vec);
                prop_assert!(near.is_none_or(|near| near > key && end.is_none_or(|end| near <= *end)));
            }
        }
    }

    #[test]
    fn a_set_comes_back_from_its_bytes(all in some_tombstones()) {
        let set = RangeTombstones::new(all);
        let mut bytes = Vec::new();
        set.encode(&mut bytes);
        let back = RangeTombstones::decode(&bytes).unwrap();
        prop_assert!(set.iter().eq(back.iter()));
        for cut in 0..bytes.len() {
            prop_assert!(RangeTombstones::decode(&bytes[..cut]).is_err());
        }
    }

    #[test]
    fn a_clipped_set_is_the_same_inside_and_empty_outside(
        all in some_tombstones(), lower in small_key(), upper in small_key(), end in 0..3, key in small_key()
    ) {
        let upper = match end { 0 => Bound::Included(upper), 1 => Bound::Excluded(upper), _ => Bound::Unbounded };
        let range = KeyRange { lower, upper };
        let clipped = RangeTombstones::new(all.clone()).clipped(&range);
        let expected = if range.contains(&key) { model(&all, &key, 10) } else { 0 };
        prop_assert_eq!(clipped.newest_covering(&key, 10), expected);
        if let Some(bounds) = clipped.bounds() {
            let within = KeyRange { lower: range.lower, upper: match range.upper {
                Bound::Included(upper) => Bound::Excluded(successor(&upper)), other => other } };
            prop_assert!(within.encloses(bounds));
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        let _ = RangeTombstones::decode(&bytes);
    }
}

#[test]
fn an_empty_set_covers_nothing() {
    let set = RangeTombstones::new([tombstone("b", Some("b"), 3), tombstone("c", Some("a"), 3)]);
    assert!(set.is_empty() && set.bounds().is_none());
    assert_eq!(set.newest_covering(b"b", SEQUENCE_MAX), 0);
}

#[test]
fn bounds_say_where_the_last_one_ends() {
    let set = RangeTombstones::new([tombstone("b", Some("d"), 3), tombstone("c", Some("x"), 1)]);
    assert_eq!(set.bounds(), Some(&KeyRange::until(*b"b", Some(b"x".to_vec()))));
    let set = RangeTombstones::new([tombstone("b", Some("d"), 3), tombstone("c", None, 1)]);
    assert_eq!(set.bounds(), Some(&KeyRange::until(*b"b", None)));
    assert_eq!((set.sequence_min(), set.sequence_max()), (1, 3));
}

#[test]
fn a_hundred_thousand_nested_ones_take_no_square_of_memory_or_time() {
    let count = 100_000u32;
    let key = |number: u32| number.to_be_bytes().to_vec();
    let set = RangeTombstones::new((0..count).map(|number| RangeTombstone {
        start: key(number),
        end: Some(key(2 * count - number)),
        sequence: u64::from(number) + 1,
    }));
    assert!(set.memory_bytes() < 64 << 20, "{}", set.memory_bytes());
    for number in (0..count).step_by(7) {
        assert_eq!(set.newest_covering(&key(number), SEQUENCE_MAX), u64::from(number) + 1);
        assert_eq!(set.newest_covering(&key(number), 5), u64::from(number + 1).min(5));
        assert_eq!(set.newest_covering(&key(2 * count - number), SEQUENCE_MAX), u64::from(number));
    }
}

#[test]
fn all_over_one_key_are_found_newest_first() {
    let set = RangeTombstones::new([
        tombstone("a", Some("m"), 3),
        tombstone("a", Some("z"), 9),
        tombstone("c", None, 5),
        tombstone("d", Some("e"), 9),
    ]);
    assert_eq!(set.all_covering(b"d"), [9, 5, 3]);
    assert_eq!(set.all_covering(b"z"), [5]);
    assert!(set.all_covering(b"A").is_empty());
}
