//! One block: the unit that is read, verified, cached.

/// A verified block, decoded in place.
#[derive(Debug)]
pub struct Block {
    bytes: Vec<u8>,
}

impl Block {
    /// The whole payload.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// How the blocks of a table are compressed when it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Compression {
    /// Stored as they are.
    #[default]
    None,
    /// zstd at this level; a block that does not shrink by an eighth is stored as it is.
    Zstd(i32),
}
