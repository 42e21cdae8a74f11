//! What may vanish when entries are written anew.
//!
//! The sequence numbers that somebody reads at (snapshots, and the visible one) cut history into *stripes*: two versions of a key in one
//! stripe look the same to everybody but for the newer hiding the older. So of each key the newest version in each stripe stays. A version
//! that a range tombstone of its own stripe covers goes. A deletion in the oldest stripe goes if nothing older of its key can lie
//! anywhere below.

use std::sync::Arc;

use crate::error::Result;
use crate::key::{Kind, SequenceNumber, parse_trailer, split};
use crate::range_tombstone::RangeTombstones;

/// The sequence numbers that somebody reads at.
#[derive(Clone, Debug)]
pub struct Retention {
    /// Ascending.
    read_sequences: Arc<[SequenceNumber]>,
}

impl Retention {
    /// For readers at these numbers, ascending.
    pub fn new(read_sequences: Vec<SequenceNumber>) -> Self {
        debug_assert!(read_sequences.is_sorted());
        Self { read_sequences: read_sequences.into() }
    }

    /// Which stripe a version belongs to; 0 is the oldest.
    pub fn stripe(&self, sequence: SequenceNumber) -> usize {
        self.read_sequences.partition_point(|read| *read < sequence)
    }

    /// The newest number of a stripe: what is read at by whoever sees it.
    pub fn end(&self, stripe: usize) -> SequenceNumber {
        self.read_sequences.get(stripe).copied().unwrap_or(crate::key::SEQUENCE_MAX)
    }
}

/// Decides about entries that come in the order of internal keys.
#[derive(Debug)]
pub struct Filter {
    retention: Retention,
    tombstones: Arc<RangeTombstones>,
    user: Vec<u8>,
    /// The stripe of the last version of `user` that was seen.
    stripe: Option<usize>,
}

impl Filter {
    /// A filter for entries over which these range tombstones lie.
    pub fn new(retention: Retention, tombstones: Arc<RangeTombstones>) -> Self {
        Self { retention, tombstones, user: Vec::new(), stripe: None }
    }

    /// The sequence numbers that somebody reads at.
    pub fn retention(&self) -> &Retention {
        &self.retention
    }

    /// The range tombstones over the entries.
    pub fn tombstones(&self) -> &Arc<RangeTombstones> {
        &self.tombstones
    }

    /// Whether an entry stays. `is_base` says whether nothing of a user key can lie deeper.
    ///
    /// # Errors
    /// Corruption if it is no internal key.
    pub fn keeps(&mut self, internal: &[u8], is_base: impl FnOnce(&[u8]) -> bool) -> Result<bool> {
        let (user, trailer) = split(internal)?;
        let (sequence, kind) = parse_trailer(trailer)?;
        if self.stripe.is_none() || self.user != user {
            self.user.clear();
            self.user.extend_from_slice(user);
            self.stripe = None;
        }
        let stripe = self.retention.stripe(sequence);
        if self.stripe == Some(stripe) {
            return Ok(false);
        }
        self.stripe = Some(stripe);
        if !self.tombstones.is_empty()
            && self.tombstones.newest_covering(user, self.retention.end(stripe)) > sequence
        {
            return Ok(false);
        }
        Ok(kind != Kind::Delete || stripe > 0 || !is_base(user))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::trailer;
    use crate::range_tombstone::RangeTombstone;
    use proptest::prelude::*;

    fn kept(
        reads: &[SequenceNumber],
        tombstones: Vec<RangeTombstone>,
        entries: &[(&str, SequenceNumber, Kind)],
        base: bool,
    ) -> Vec<(String, SequenceNumber)> {
        let mut filter =
            Filter::new(Retention::new(reads.to_vec()), Arc::new(RangeTombstones::new(tombstones)));
        entries
            .iter()
            .filter(|(user, sequence, kind)| {
                let internal = [user.as_bytes(), &trailer(*sequence, *kind)].concat();
                filter.keeps(&internal, |_| base).unwrap()
            })
            .map(|(user, sequence, _)| ((*user).to_owned(), *sequence))
            .collect()
    }

    #[test]
    fn the_newest_of_each_stripe_stays() {
        let entries = [("a", 9, Kind::Put), ("a", 7, Kind::Put), ("a", 5, Kind::Delete), ("a", 4, Kind::Put)];
        assert_eq!(kept(&[9], vec![], &entries, false), [("a".into(), 9)]);
        assert_eq!(kept(&[5, 9], vec![], &entries, false), [("a".into(), 9), ("a".into(), 5)]);
        assert_eq!(kept(&[5, 9], vec![], &entries, true), [("a".into(), 9)]);
        assert_eq!(kept(&[4, 5, 7, 9], vec![], &entries, true).len(), 4);
    }

    #[test]
    fn a_range_tombstone_takes_its_own_stripe() {
        let tombstone = |sequence| RangeTombstone { start: b"a".to_vec(), end: None, sequence };
        let entries = [("a", 9, Kind::Put), ("b", 3, Kind::Put)];
        assert_eq!(kept(&[20], vec![tombstone(5)], &entries, false), [("a".into(), 9)]);
        assert_eq!(kept(&[4, 20], vec![tombstone(5)], &entries, false).len(), 2);
    }

    proptest! {
        /// Whoever reads at one of the numbers sees the same before and after.
        #[test]
        fn no_reader_notices(
            entries in proptest::collection::btree_map(("[ab]", 1u64..20), any::<bool>(), 0..30),
            tombstones in proptest::collection::vec(("[ab]", 1u64..20), 0..4),
            reads in proptest::collection::btree_set(1u64..25, 1..5),
            base in any::<bool>(),
        ) {
            let mut all: Vec<(String, u64, Kind)> = entries
                .iter()
                .map(|((user, sequence), put)| (user.clone(), *sequence, if *put { Kind::Put } else { Kind::Delete }))
                .collect();
            all.sort_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)));
            let mut reads: Vec<u64> = reads.into_iter().collect();
            reads.push(25);
            let set: Vec<RangeTombstone> = tombstones
                .iter()
                .map(|(user, sequence)| RangeTombstone {
                    start: user.clone().into_bytes(),
                    end: Some(crate::range::successor(user.as_bytes())),
                    sequence: *sequence,
                })
                .collect();
            let borrowed: Vec<(&str, u64, Kind)> = all.iter().map(|(user, sequence, kind)| (user.as_str(), *sequence, *kind)).collect();
            let kept = kept(&reads, set, &borrowed, base);
            for read in reads {
                for user in ["a", "b"] {
                    let covered = tombstones.iter().filter(|(key, sequence)| key == user && *sequence <= read).map(|(_, sequence)| *sequence).max().unwrap_or(0);
                    let seen = |mut entries: Box<dyn Iterator<Item = (String, u64, Kind)>>| {
                        entries.find(|(key, sequence, _)| key == user && *sequence <= read)
                            .filter(|(_, sequence, kind)| *kind == Kind::Put && *sequence > covered)
                            .map(|(_, sequence, _)| sequence)
                    };
                    let before = seen(Box::new(all.clone().into_iter()));
                    let left = all.clone().into_iter().filter(|(key, sequence, _)| kept.contains(&(key.clone(), *sequence)));
                    let after = seen(Box::new(left.collect::<Vec<_>>().into_iter()));
                    prop_assert_eq!(before, after, "{} at {}", user, read);
                }
            }
        }
    }
}
