//! Data blocks that are stored as they are, because somebody waits for the table, and how many of them compressing would have made smaller.

use crate::block::{Codec, Compressor};
use crate::error::Result;

/// One of so many is compressed all the same, to see whether that gains anything.
const TRIED: u64 = 16;

#[derive(Debug, Default)]
pub(super) struct Hurry {
    is_on: bool,
    passed: u64,
    shrinks: bool,
    blocks: u64,
}

impl Hurry {
    pub(super) fn set(&mut self, is_on: bool) {
        self.is_on = is_on;
    }

    pub(super) fn is_on(&self) -> bool {
        self.is_on
    }

    /// Counts a block that is stored as it is.
    ///
    /// # Errors
    /// Io if the compressor fails.
    pub(super) fn pass(&mut self, compressor: &mut Compressor, payload: &[u8]) -> Result<()> {
        if self.passed.is_multiple_of(TRIED) {
            self.shrinks = compressor.pack(payload)?.0 != Codec::None;
        }
        self.passed += 1;
        self.blocks += u64::from(self.shrinks);
        Ok(())
    }

    /// Those that would be smaller, by what was tried.
    pub(super) fn blocks(&self) -> u64 {
        self.blocks
    }
}
