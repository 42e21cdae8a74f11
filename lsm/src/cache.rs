//! A sharded cache of decoded, verified blocks with a capacity in bytes.

/// A cache of blocks, shared by all tables of a process.
#[derive(Debug)]
pub struct BlockCache {}

impl BlockCache {
    /// A cache that holds at most about `capacity_bytes`.
    pub fn new(capacity_bytes: usize) -> Self {
        let _ = capacity_bytes;
        Self {}
    }

    /// Changes the capacity; shrinking evicts at once.
    pub fn set_capacity(&self, capacity_bytes: usize) {
        let _ = capacity_bytes;
    }

    /// Bytes held now.
    pub fn used_bytes(&self) -> usize {
        0
    }
}
