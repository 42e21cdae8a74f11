//! Keys in ascending order, of which eight bytes each are kept side by side: which of them lie below a key is mostly said by these alone.

use std::cmp::Ordering;
use std::ops::Range;

use super::{common_prefix, prefix_number};
use crate::key;

/// What is kept of the keys. Whoever has them all decides between those that it cannot tell apart.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fences {
    /// What all of them begin with.
    shared: Box<[u8]>,
    /// The eight bytes behind, as numbers.
    numbers: Box<[u64]>,
}

impl Fences {
    /// Of these keys, in ascending order. (Of others too, for a caller who expects damage: then what it says of them is of no use.)
    pub(crate) fn new<'k>(keys: impl Iterator<Item = &'k [u8]> + Clone) -> Self {
        let first = keys.clone().next().unwrap_or_default();
        let skip = common_prefix(first, keys.clone().last().unwrap_or_default());
        let number = |key: &[u8]| prefix_number(key.get(skip..).unwrap_or_default());
        Self { shared: first.get(..skip).unwrap_or_default().into(), numbers: keys.map(number).collect() }
    }

    /// Those before the range are below `key`, those behind it above; those in it may be either, or equal.
    #[inline]
    pub(crate) fn around(&self, key: &[u8]) -> Range<usize> {
        let count = self.numbers.len();
        let (head, tail) = key.split_at(key.len().min(self.shared.len()));
        match key::order(head, &self.shared) {
            Ordering::Less => return 0..0,
            Ordering::Greater => return count..count,
            Ordering::Equal => {}
        }
        let wanted = prefix_number(tail);
        let start = self.numbers.partition_point(|number| *number < wanted);
        let alike = self.numbers.get(start..).unwrap_or_default();
        let alike = match alike.first() {
            Some(number) if *number == wanted => alike.partition_point(|number| *number == wanted),
            _ => 0,
        };
        start..start + alike
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn of_no_keys_none_is_below() {
        assert_eq!(Fences::default().around(b"a"), 0..0);
        assert_eq!(Fences::new([].into_iter()).around(b""), 0..0);
    }

    #[test]
    fn a_short_key_is_below_what_it_begins() {
        let fences = Fences::new([&b"dir/a"[..], b"dir/b"].into_iter());
        assert_eq!((fences.around(b"dir"), fences.around(b"dir0")), (0..0, 2..2));
        assert_eq!((fences.around(b"dir/"), fences.around(b"dir/aa")), (0..0, 1..1));
    }

    proptest! {
        #[test]
        fn what_it_says_is_so(
            front in "[ab]{0,10}",
            mut keys in proptest::collection::vec("[\0ab]{0,11}".prop_map(String::into_bytes), 0..40),
            asked in proptest::collection::vec(("[\0ab]{0,14}", any::<bool>()), 1..40),
        ) {
            for key in &mut keys {
                key.splice(0..0, front.bytes());
            }
            keys.sort();
            let fences = Fences::new(keys.iter().map(Vec::as_slice));
            for (key, has_front) in asked {
                let key = if has_front { [&front, &*key].concat() } else { key }.into_bytes();
                let around = fences.around(&key);
                prop_assert!(keys[..around.start].iter().all(|fence| *fence < key), "{around:?}");
                prop_assert!(keys[around.end..].iter().all(|fence| *fence > key), "{around:?}");
            }
        }
    }
}
