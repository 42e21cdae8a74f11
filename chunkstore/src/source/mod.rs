//! The source of a backup: a tree on disk, as a stream of entries in the order of their keys.
//!
//! [`Walk`] lists and stats, [`Rules`] say what is left out, [`Entry::open`] gives a file's bytes between its holes. Nothing here
//! follows a link, waits for a pipe, or takes what could not be seen for gone.

mod ahead;
mod open;
pub(crate) mod rules;
#[cfg(test)]
mod tests;
mod walk;

pub use ahead::WalkAhead;
pub use open::{ReadOutcome, SourceFile};
pub use rules::{RuleOptions, Rules};
pub use walk::{Entry, Step, Unseen, Walk};

use std::time::{SystemTime, UNIX_EPOCH};

use crate::metadata::Timestamp;

/// The moment at which a scan began, to tell which timestamps can be trusted next time.
///
/// A file that is written twice within one tick of the file system's clock carries the same timestamp both times. If the scan
/// saw it between the two, the second write would never be noticed. So an entry whose inode changed in the scan's own tick, or
/// later, is marked, and read again next time.
#[derive(Clone, Copy, Debug)]
pub struct ScanStart(Timestamp);

/// The longest tick of a kernel's clock for timestamps (10 ms at 100 Hz), doubled.
const TICK_NANOSECONDS: u32 = 20_000_000;
/// The longest tick of a file system that keeps whole seconds (FAT keeps even ones).
const COARSE_TICK_SECONDS: i64 = 2;

impl ScanStart {
    /// Now. To be taken before the first entry is looked at.
    pub fn now() -> Self {
        Self::at(SystemTime::now())
    }

    /// At `time`.
    pub fn at(time: SystemTime) -> Self {
        let seconds = |duration: std::time::Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
        Self(match time.duration_since(UNIX_EPOCH) {
            Ok(after) => Timestamp { seconds: seconds(after), nanoseconds: after.subsec_nanos() },
            Err(before) => Timestamp { seconds: -seconds(before.duration()) - 1, nanoseconds: 0 },
        })
    }

    /// Whether an inode that changed at `ctime` may change again without another timestamp. Only `ctime` counts: anybody may set
    /// `mtime` to any time, and every change of contents moves `ctime` too.
    pub fn is_racy(&self, ctime: Timestamp) -> bool {
        let Timestamp { seconds, nanoseconds } = self.0;
        let oldest = if ctime.nanoseconds == 0 {
            Timestamp { seconds: seconds.saturating_sub(COARSE_TICK_SECONDS), nanoseconds: 0 }
        } else if let Some(nanoseconds) = nanoseconds.checked_sub(TICK_NANOSECONDS) {
            Timestamp { seconds, nanoseconds }
        } else {
            let nanoseconds = nanoseconds + (1_000_000_000 - TICK_NANOSECONDS);
            Timestamp { seconds: seconds.saturating_sub(1), nanoseconds }
        };
        ctime >= oldest
    }
}
