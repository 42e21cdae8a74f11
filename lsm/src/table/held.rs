//! Data blocks that are laid out and not yet written: what they say, and what leads to them.

/// What a data block holds, for those that lead to it.
#[derive(Debug)]
pub(super) struct BlockKeys {
    pub(super) first_user: Vec<u8>,
    pub(super) last_user: Vec<u8>,
    pub(super) last_stamp: u64,
    pub(super) entries: u64,
    /// Of its user keys, each once.
    pub(super) hashes: Vec<u64>,
}

/// A data block that is laid out and not yet written.
#[derive(Debug)]
pub(super) struct HeldBlock {
    pub(super) payload: Vec<u8>,
    pub(super) keys: BlockKeys,
}
