//! A range of user keys: from an inclusive lower bound to an upper bound of any kind.
//!
//! One form everywhere: a table's extent, the bounds of a reference to a table, the limits of a scan. The lower bound is always
//! inclusive, because the key just after `k` can be written down (`k` followed by a zero byte); the upper is not, because
//! a range tombstone ends *before* its end and may have none.

use std::cmp::Ordering;
use std::ops::{Bound, RangeBounds};

use crate::key;

/// The key right after `key`: nothing sorts between the two.
pub fn successor(key: &[u8]) -> Vec<u8> {
    let mut next = Vec::with_capacity(key.len() + 1);
    next.extend_from_slice(key);
    next.push(0);
    next
}

/// The first key after all those that start with `prefix`; `None` where there is none (the prefix is empty, or all 255s).
pub fn prefix_end(prefix: &[u8]) -> Option<Vec<u8>> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.last_mut() {
        if let Some(next) = last.checked_add(1) {
            *last = next;
            return Some(end);
        }
        end.pop();
    }
    None
}

/// Orders two upper bounds by where they end: one that includes its key ends after one that excludes it.
pub fn compare_upper(a: Bound<&[u8]>, b: Bound<&[u8]>) -> Ordering {
    match (a, b) {
        (Bound::Unbounded, Bound::Unbounded) => Ordering::Equal,
        (Bound::Unbounded, _) => Ordering::Greater,
        (_, Bound::Unbounded) => Ordering::Less,
        (Bound::Included(a), Bound::Included(b)) | (Bound::Excluded(a), Bound::Excluded(b)) => a.cmp(b),
        (Bound::Included(a), Bound::Excluded(b)) => a.cmp(b).then(Ordering::Greater),
        (Bound::Excluded(a), Bound::Included(b)) => a.cmp(b).then(Ordering::Less),
    }
}

/// User keys from `lower`, included, to `upper`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KeyRange {
    /// The first key that may be in it.
    pub lower: Vec<u8>,
    /// Where it ends.
    pub upper: Bound<Vec<u8>>,
}

impl KeyRange {
    /// Every key.
    pub fn all() -> Self {
        Self { lower: Vec::new(), upper: Bound::Unbounded }
    }

    /// From `lower` to `upper`, both included.
    pub fn inclusive(lower: impl Into<Vec<u8>>, upper: impl Into<Vec<u8>>) -> Self {
        Self { lower: lower.into(), upper: Bound::Included(upper.into()) }
    }

    /// From `lower`, included, to before `upper`; to the end of all keys where that is `None`.
    pub fn until(lower: impl Into<Vec<u8>>, upper: Option<Vec<u8>>) -> Self {
        Self { lower: lower.into(), upper: upper.map_or(Bound::Unbounded, Bound::Excluded) }
    }

    /// The keys that start with `prefix`.
    pub fn prefix(prefix: &[u8]) -> Self {
        Self::until(prefix, prefix_end(prefix))
    }

    /// A range as Rust writes them.
    pub fn from_bounds<K: AsRef<[u8]>>(bounds: &impl RangeBounds<K>) -> Self {
        Self {
            lower: match bounds.start_bound() {
                Bound::Included(key) => key.as_ref().to_vec(),
                Bound::Excluded(key) => successor(key.as_ref()),
                Bound::Unbounded => Vec::new(),
            },
            upper: bounds.end_bound().map(|key| key.as_ref().to_vec()),
        }
    }

    /// The upper bound, borrowed.
    pub fn upper(&self) -> Bound<&[u8]> {
        self.upper.as_ref().map(Vec::as_slice)
    }

    /// Whether `key` lies before the end. (It may lie before the start too.)
    #[inline]
    pub fn is_before_end(&self, key: &[u8]) -> bool {
        match &self.upper {
            Bound::Included(upper) => key::order(key, upper).is_le(),
            Bound::Excluded(upper) => key::order(key, upper).is_lt(),
            Bound::Unbounded => true,
        }
    }

    /// Whether `key` lies in it.
    #[inline]
    pub fn contains(&self, key: &[u8]) -> bool {
        key::order(key, &self.lower).is_ge() && self.is_before_end(key)
    }

    /// Whether no key can lie in it.
    pub fn is_empty(&self) -> bool {
        !self.is_before_end(&self.lower)
    }

    /// Whether some key may lie in both.
    pub fn overlaps(&self, other: &Self) -> bool {
        let lower = self.lower.as_slice().max(&other.lower);
        self.is_before_end(lower) && other.is_before_end(lower)
    }

    /// Whether every key of `other` lies in this range.
    pub fn encloses(&self, other: &Self) -> bool {
        other.is_empty()
            || (self.lower <= other.lower && compare_upper(other.upper(), self.upper()) != Ordering::Greater)
    }

    /// The keys in both, if there can be any.
    pub fn intersection(&self, other: &Self) -> Option<Self> {
        let lower = self.lower.as_slice().max(&other.lower);
        let upper = match compare_upper(self.upper(), other.upper()) {
            Ordering::Greater => &other.upper,
            _ => &self.upper,
        };
        let both = Self { lower: lower.to_vec(), upper: upper.clone() };
        (!both.is_empty()).then_some(both)
    }

    /// The smallest range that encloses both.
    pub fn union(&self, other: &Self) -> Self {
        let upper = match compare_upper(self.upper(), other.upper()) {
            Ordering::Less => &other.upper,
            _ => &self.upper,
        };
        Self { lower: self.lower.as_slice().min(&other.lower).to_vec(), upper: upper.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(lower: &str, upper: Bound<&str>) -> KeyRange {
        KeyRange { lower: lower.into(), upper: upper.map(|key| key.as_bytes().to_vec()) }
    }

    #[test]
    fn ends_that_touch_overlap_only_where_both_hold_the_key() {
        let excluded = range("a", Bound::Excluded("m"));
        let included = range("a", Bound::Included("m"));
        let after = range("m", Bound::Unbounded);
        assert!(!excluded.overlaps(&after));
        assert!(included.overlaps(&after));
        assert_eq!(included.intersection(&after), Some(range("m", Bound::Included("m"))));
    }

    #[test]
    fn a_prefix_ends_before_the_next_key_without_it() {
        assert_eq!(prefix_end(b"ab"), Some(b"ac".to_vec()));
        assert_eq!(prefix_end(b"a\xff\xff"), Some(b"b".to_vec()));
        assert_eq!(prefix_end(b"\xff"), None);
        assert_eq!(prefix_end(b""), None);
    }

    #[test]
    fn bounds_order_by_where_they_end() {
        let order = [Bound::Excluded("m"), Bound::Included("m"), Bound::Excluded("m\0"), Bound::Unbounded];
        for pair in order.windows(2) {
            let [a, b] = [pair[0], pair[1]].map(|bound| bound.map(str::as_bytes));
            assert_eq!(compare_upper(a, b), Ordering::Less);
            assert_eq!(compare_upper(b, a), Ordering::Greater);
        }
    }

    #[test]
    fn a_range_encloses_itself_and_its_parts() {
        let whole = range("b", Bound::Excluded("x"));
        assert!(whole.encloses(&whole));
        assert!(whole.encloses(&range("c", Bound::Included("d"))));
        assert!(!whole.encloses(&range("c", Bound::Included("x"))));
        assert!(!whole.encloses(&range("a", Bound::Excluded("c"))));
        assert!(whole.encloses(&range("q", Bound::Excluded("q"))), "an empty one lies everywhere");
        assert_eq!(range("c", Bound::Unbounded).union(&whole), range("b", Bound::Unbounded));
    }

    #[test]
    fn nothing_sorts_between_a_key_and_its_successor() {
        assert!(successor(b"k").as_slice() > b"k".as_slice());
        let between = KeyRange::until(b"k".to_vec(), Some(successor(b"k")));
        assert!(between.contains(b"k") && !between.contains(b"k\0"));
    }
}
