//! What a transaction has read: keys, and parts of ranges.

use std::collections::BTreeSet;

use crate::batch::KeyspaceId;
use crate::ordered::OrderedMap;
use crate::range::KeyRange;

/// What was read of one keyspace.
#[derive(Debug, Default)]
pub(super) struct KeyspaceReads {
    pub(super) keys: BTreeSet<Vec<u8>>,
    /// Each scan has a place: the whole of its range while it goes on, then what it has passed over from either end.
    scans: Vec<[Option<KeyRange>; 2]>,
}

impl KeyspaceReads {
    pub(super) fn ranges(&self) -> impl Iterator<Item = &KeyRange> {
        self.scans.iter().flatten().flatten()
    }
}

/// Nobody can write into a range that ends before it begins.
fn holds_keys(range: &KeyRange) -> bool {
    !range.is_empty()
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Reads {
    keyspaces: OrderedMap<KeyspaceId, KeyspaceReads>,
}

impl Reads {
    /// A key was looked up, found or not.
    pub(super) fn key(&mut self, keyspace: KeyspaceId, key: &[u8]) {
        let keys = &mut self.keyspaces.get_or_insert_with(keyspace, KeyspaceReads::default).keys;
        if !keys.contains(key) {
            keys.insert(key.to_vec());
        }
    }

    /// A scan begins; returns its place. Until it ends all of its range counts, so that one that is never dropped is not forgotten.
    pub(super) fn scan(&mut self, keyspace: KeyspaceId, range: &KeyRange) -> usize {
        let scans = &mut self.keyspaces.get_or_insert_with(keyspace, KeyspaceReads::default).scans;
        scans.push([Some(range.clone()).filter(holds_keys), None]);
        scans.len() - 1
    }

    /// A scan ended, and has passed over no more than this.
    pub(super) fn scanned(&mut self, keyspace: KeyspaceId, place: usize, ranges: [Option<KeyRange>; 2]) {
        let scans = self.keyspaces.get_mut(&keyspace).map(|reads| &mut reads.scans);
        if let Some(scan) = scans.and_then(|scans| scans.get_mut(place)) {
            *scan = ranges.map(|range| range.filter(holds_keys));
        }
    }

    pub(super) fn into_keyspaces(self) -> OrderedMap<KeyspaceId, KeyspaceReads> {
        self.keyspaces
    }
}
