//! Writing a table out while it is being made: so that the sync at its end finds little left to do, and what others sync meanwhile (the journal) does not
//! stand behind a whole table.

use crate::fs::{Advice, File};

/// The system is told after so many bytes.
const BEHIND_BYTES: u64 = 1 << 20;

/// How far the system was told to write a file.
#[derive(Debug, Default)]
pub(super) struct WriteBehind {
    told: u64,
}

impl WriteBehind {
    /// Says that the file has so many bytes now, which are not written to again.
    pub(super) fn wrote(&mut self, file: &dyn File, bytes: u64) {
        let new = bytes.saturating_sub(self.told);
        if new >= BEHIND_BYTES {
            file.advise(Advice::WriteBack, self.told, new);
            self.told = bytes;
        }
    }
}
