//! The digest of a snapshot's state: what two catalogs must agree on, whatever way they came to it.
//!
//! LtHash (Bellare and Micciancio's incremental hash over a lattice, in the form of Lewi and others, 2019): each entry is expanded to 1,024 lanes of
//! 16 bits by BLAKE3's extendable output, keyed; a state's lanes are the sums of its entries', modulo 2^16. So an entry is added or taken out
//! without a look at the others, in any order, and two states have the same lanes only if they have the same entries. Covered: entry
//! key, metadata that a restore gives back, contents; neither what only change detection compares nor ids. Bytes: FORMAT.md, digest.

use std::fmt;

use crate::codec::put_slice;
use crate::entry_key::{EntryKey, KeyRange};
use crate::error::Result;
use crate::metadata::Metadata;
use crate::secret::{Purpose, Secret, Secrets};
use crate::segment::DIGEST_LANES;
use crate::version::{Contents, SnapshotNumber};

use super::Catalog;
use super::row::{TimelineRow, put_contents};
use super::store::{TimelineNumber, bad_row};

/// The key of the digest.
#[derive(Clone, Debug)]
pub struct DigestKey(Secret);

impl DigestKey {
    /// The repository's.
    pub fn new(secrets: &Secrets) -> Self {
        Self(secrets.of_master(Purpose::StateDigest))
    }
}

/// The lanes of a state; those of an empty state are zero.
#[derive(Clone, PartialEq, Eq)]
pub struct StateDigest {
    lanes: Box<[u16; DIGEST_LANES]>,
}

impl Default for StateDigest {
    fn default() -> Self {
        Self { lanes: Box::new([0; DIGEST_LANES]) }
    }
}

impl fmt::Debug for StateDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StateDigest({})", blake3::Hash::from_bytes(self.hash()))
    }
}

impl StateDigest {
    /// The digest with these lanes.
    pub fn from_lanes(lanes: Box<[u16; DIGEST_LANES]>) -> Self {
        Self { lanes }
    }

    /// Its lanes.
    pub fn lanes(&self) -> &[u16; DIGEST_LANES] {
        &self.lanes
    }

    /// BLAKE3 of the lanes: what is shown and compared.
    pub fn hash(&self) -> [u8; 32] {
        *blake3::hash(&self.to_bytes()).as_bytes()
    }

    /// The lanes as bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.lanes.iter().flat_map(|lane| lane.to_le_bytes()).collect()
    }

    /// The digest with these bytes, if they are as many as lanes need.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (pairs, []) = bytes.as_chunks::<2>() else { return None };
        let lanes: Box<[u16]> = pairs.iter().map(|pair| u16::from_le_bytes(*pair)).collect();
        Some(Self { lanes: lanes.try_into().ok()? })
    }

    /// An entry comes to the state.
    pub fn add(&mut self, key: &DigestKey, entry: &EntryKey, metadata: &Metadata, contents: &Contents) {
        self.change(key, entry, metadata, contents, u16::wrapping_add);
    }

    /// An entry leaves the state.
    pub fn subtract(&mut self, key: &DigestKey, entry: &EntryKey, metadata: &Metadata, contents: &Contents) {
        self.change(key, entry, metadata, contents, u16::wrapping_sub);
    }

    fn change(
        &mut self,
        key: &DigestKey,
        entry: &EntryKey,
        metadata: &Metadata,
        contents: &Contents,
        change: impl Fn(u16, u16) -> u16,
    ) {
        let mut input = Vec::with_capacity(256);
        put_slice(&mut input, entry.as_bytes());
        restored(metadata).encode(&mut input);
        put_contents(&mut input, contents);
        let mut stream = [0u8; 2 * DIGEST_LANES];
        blake3::Hasher::new_keyed(key.0.as_bytes()).update(&input).finalize_xof().fill(&mut stream);
        for (lane, pair) in self.lanes.iter_mut().zip(stream.as_chunks::<2>().0) {
            *lane = change(*lane, u16::from_le_bytes(*pair));
        }
    }
}

impl Catalog {
    /// The digest of a timeline's newest state.
    pub(super) fn digest_of_head(&self, timeline: TimelineNumber) -> Result<StateDigest> {
        let head = self.timeline_row(timeline)?.head;
        if let Some(row) = self.inner.spaces.digests.get(timeline.0.to_be_bytes())?
            && let Some((number, lanes)) = row.split_first_chunk::<4>()
            && head == Some(SnapshotNumber(u32::from_be_bytes(*number)))
        {
            return StateDigest::from_bytes(lanes).ok_or_else(|| bad_row("digests", "its length"));
        }
        self.compute_digest(timeline, head.unwrap_or(SnapshotNumber(0)))
    }

    /// The digest of a state, from its entries.
    pub(super) fn compute_digest(
        &self,
        timeline: TimelineNumber,
        number: SnapshotNumber,
    ) -> Result<StateDigest> {
        let mut digest = StateDigest::default();
        let mut state = self.state_in(timeline, number, &KeyRange::all());
        while let Some((key, _, row)) = state.next_row()? {
            digest.add(&self.inner.digest_key, &key, &row.metadata, &row.contents);
        }
        Ok(digest)
    }

    /// The digest of the state that a run of `timeline` builds on, whose row is not changed yet.
    pub(super) fn digest_of_parent(
        &self,
        timeline: TimelineNumber,
        row: &TimelineRow,
    ) -> Result<StateDigest> {
        match (row.forked_from, row.head) {
            (Some((base, shared)), Some(head)) if shared == head => self.compute_digest(base, shared),
            _ => self.digest_of_head(timeline),
        }
    }
}

/// The metadata without what only change detection compares: the same for all entries that a restore would make alike.
fn restored(metadata: &Metadata) -> Metadata {
    Metadata { ctime: metadata.mtime, inode: 0, device: 0, ..metadata.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::any_metadata;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn the_order_of_changes_does_not_matter(all in proptest::collection::vec(any_metadata(), 1..6)) {
            let key = DigestKey::new(&crate::testing::secrets());
            let entries: Vec<_> = all.iter().enumerate().map(|(n, m)| (EntryKey::from_path(format!("/{n}")).unwrap(), m)).collect();
            let (mut forward, mut backward) = (StateDigest::default(), StateDigest::default());
            for (entry, metadata) in &entries {
                forward.add(&key, entry, metadata, &Contents::None);
            }
            for (entry, metadata) in entries.iter().rev() {
                backward.add(&key, entry, metadata, &Contents::None);
            }
            prop_assert_eq!(&forward, &backward);
            prop_assert_eq!(StateDigest::from_bytes(&forward.to_bytes()).unwrap(), forward.clone());
            prop_assert_ne!(&forward, &StateDigest::default());
            for (entry, metadata) in &entries {
                forward.subtract(&key, entry, metadata, &Contents::None);
            }
            prop_assert_eq!(forward, StateDigest::default());
        }

        #[test]
        fn what_change_detection_compares_is_left_out(metadata in any_metadata(), inode in any::<u64>()) {
            let key = DigestKey::new(&crate::testing::secrets());
            let entry = EntryKey::from_path("/a").unwrap();
            let mut other = metadata.clone();
            other.inode = inode;
            other.device = inode;
            other.ctime.seconds = 17;
            let (mut one, mut two) = (StateDigest::default(), StateDigest::default());
            one.add(&key, &entry, &metadata, &Contents::None);
            two.add(&key, &entry, &other, &Contents::None);
            prop_assert_eq!(&one, &two);
            other.mode ^= 1;
            two = StateDigest::default();
            two.add(&key, &entry, &other, &Contents::None);
            prop_assert_ne!(&one, &two);
        }
    }
}
