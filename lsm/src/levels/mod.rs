//! Which tables there are now: an immutable set of references, changed by pure edits, held by whoever reads.
//!
//! - A [`TableReference`] is what the manifest knows of a table. Its bounds may be narrower than the file.
//! - A [`Tree`] is one keyspace's references by level. Level 0 is ordered by time: each flush adds one table in front, and any two may overlap.
//!   The levels below are runs: ordered by key, disjoint. For one key, what stands in an upper place is newer than what stands below.
//! - [`Levels`] is the whole database: its keyspaces with their trees, its logs, its counters: all that a manifest says.
//! - [`Edit`]s lead from one `Levels` to the next; each application checks the order of runs, in release builds too.
//! - A [`View`] is what a reader holds: memtables and opened tables, all as of one moment.

mod edit;
mod fixed_run;
mod retired;
mod state;
mod tree;
mod view;

pub use crate::row::KeyspaceKind;
pub(crate) use edit::KEYSPACE_NAME_BYTES_MAX;
pub use edit::{Change, Edit};
pub(crate) use fixed_run::{FixedRun, FixedRuns, RunTable, SHARED_MAX, common_filter};
pub use retired::{Rest, Retired};
pub use state::{KeyspaceRecord, Levels, LogRecord};
pub use tree::{LEVEL_COUNT, TableReference, Tree};
pub use view::{Generation, KeyspaceView, OpenTable, OpenTree, RunIter, View};

#[cfg(test)]
pub(crate) use tree::tests::tree as tests_tree;
