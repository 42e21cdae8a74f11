//! What is not as the snapshot has it, and was told or is meant to be so: `--verify` has nothing to say of it.

use std::collections::HashSet;

use crate::entry_key::EntryKey;

/// Files that are not compared, and directories below which nothing is.
#[derive(Debug, Default)]
pub(super) struct Unlike {
    keys: HashSet<EntryKey>,
    /// Whether anything is compared at all: if not, nothing is kept.
    is_wanted: bool,
}

impl Unlike {
    /// None yet. They take memory, so they are kept only if they are wanted.
    pub(super) fn new(is_wanted: bool) -> Self {
        Self { keys: HashSet::new(), is_wanted }
    }

    pub(super) fn note(&mut self, key: &EntryKey) {
        if self.is_wanted {
            self.keys.insert(key.clone());
        }
    }

    pub(super) fn contains(&self, key: &EntryKey) -> bool {
        self.keys.contains(key)
    }
}
