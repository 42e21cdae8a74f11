//! A log-structured-merge storage engine: ordered byte keys and values, several keyspaces, one journal.

pub mod batch;
pub mod block;
mod budget;
pub mod cache;
pub mod check;
pub mod checksum;
pub mod clock;
pub mod codec;
pub mod compaction;
mod db;
mod engine;
pub mod error;
pub mod filename;
pub mod filter;
mod flush;
pub mod fs;
#[doc(hidden)]
pub mod fuzz;
pub mod iter;
pub mod iterator;
pub mod journal;
pub mod key;
mod keyspace;
pub mod layout;
pub mod levels;
pub mod manifest;
pub mod memtable;
pub mod merge;
#[cfg(test)]
mod model;
pub mod options;
pub mod range;
pub mod range_tombstone;
pub mod recover;
mod snapshot;
pub mod stats;
pub mod table;
pub mod value;
pub mod visible;
mod worker;
mod write;

pub use check::CheckReport;
pub use db::{Batch, Builder, Db};
pub use engine::{Progress, sites};
pub use error::{Error, ErrorKind, Result};
pub use iterator::Iter;
pub use journal::{Durability, RecoveryMode};
pub use key::SequenceNumber;
pub use keyspace::Keyspace;
pub use options::{Background, JournalTuning, KeyspaceOptions, Tuning};
pub use recover::RecoveryReport;
pub use snapshot::Snapshot;
pub use stats::{KeyspaceStats, Stats};
pub use table::CheckLevel;
pub use value::Value;
