//! A log-structured-merge storage engine: ordered byte keys and values in several *keyspaces*, with one journal.
//!
//! Writes go to a journal and to memory, from there to sorted immutable tables, which are merged in the background; reads look at all of
//! them, as of one moment. What that gives:
//!
//! - **Batches** over any keyspaces, visible and durable as a whole or not at all; each commit says what it must survive: the call
//!   ([`Durability::Process`]), the process ([`Durability::System`]), a power loss ([`Durability::Synced`]).
//! - **Snapshots**, and scans in both directions: points in time of everything, owned and sendable, that no writer waits for. No reader ever waits
//!   for a sync.
//! - **Transactions** ([`Db::transaction`]): optimistic, serialisable, with reads of their own writes; conflicts are found when they commit.
//! - **Range deletes** that cost the same however much they delete (of fixed widths each key is deleted); batched lookups ([`Keyspace::multi_get`]).
//! - **Keyspaces that come and go** at the cost of a few syncs, whatever they hold ([`Db::drop_keyspace`]).
//! - **One memory budget** for write buffers, cache and open tables.
//! - **Checkpoints** ([`Db::checkpoint`]): consistent copies that open as databases, made while everybody goes on, by links, and only of what is new.
//! - **Reading beside a writer**, from other processes, without writing a byte.
//! - **Failures that can be got over**: after a full disk or a failed sync [`Db::health`] says why nothing is acknowledged, and [`Db::reopen`] goes on in the
//!   same process from what is known to be durable.
//! - **Honest recovery**: a torn tail is told from damage to what was acknowledged; the first is cut and reported, the second refused, naming file,
//!   offset and what is lost. Every byte read back has passed a checksum that knows which file and place it belongs to.
//! - **Events** ([`Builder::on_event`]) and figures ([`Db::stats`]): what is flushed, merged, made, removed, waited for, and what failed.
//!
//! All disk access goes through one trait ([`fs::FileSystem`]), and the tests run the real code over one that loses power after every call, tears writes,
//! and fails.
//!
//! # Example
//!
//! ```
//! use lsm::{Batch, Db, Durability, KeyspaceOptions};
//!
//! # fn main() -> lsm::Result<()> {
//! # let directory = tempfile::tempdir().unwrap();
//! # let directory = directory.path();
//! let db = Db::open(directory)?;
//! let people = db.keyspace("people", KeyspaceOptions::sorted())?;
//! let by_city = db.keyspace("by city", KeyspaceOptions::sorted())?;
//!
//! let mut batch = Batch::new();
//! batch.put(&people, "ada", "London");
//! batch.put(&by_city, "London/ada", "");
//! db.commit(batch, Durability::Synced)?; // survives a power loss from here on
//!
//! let before = db.snapshot();
//! people.delete("ada")?;
//! assert_eq!(people.get("ada")?, None);
//! assert_eq!(before.get(&people, "ada")?.as_deref(), Some(&b"London"[..])); // a snapshot is a moment of everything
//!
//! for item in by_city.prefix("London/").rev() {
//!     let (key, _) = item?;
//!     println!("{}", key.escape_ascii());
//! }
//! by_city.delete_prefix("London/")?; // one operation, however much it deletes
//! db.close()?;
//! # Ok(())
//! # }
//! ```
//!
//! # The map
//!
//! | what | where |
//! | --- | --- |
//! | the public face | [`Db`], [`Keyspace`], [`Batch`], [`Snapshot`], [`Transaction`], [`Iter`], [`Builder`], [`Event`] |
//! | the disk | [`fs`], [`filename`] |
//! | the journal, usable alone | [`journal`] |
//! | tables | [`block`], [`filter`], [`range_tombstone`], [`table`], [`cache`] |
//! | which tables there are | [`levels`], [`manifest`] |
//! | in memory | [`batch`], [`memtable`] |
//! | reading | [`merge`], [`visible`], [`iterator`] |
//! | writing, in the background too | [`compaction`]; `write.rs`, `admit.rs`, `ahead.rs`, `flush.rs`, `worker.rs` |
//! | opening, proving, counting, repairing | [`recover`], [`check`], [`stats`], [`mod@repair`]; `forgotten.rs`, `heal.rs` |
//!
//! Every byte on disk is specified in `docs/FORMAT.md`. `engine.rs` says who locks what.

mod admit;
mod ahead;
mod backlog;
pub mod batch;
pub mod block;
mod budget;
pub mod cache;
mod charge;
pub mod check;
mod checkpoint;
pub mod checksum;
mod claims;
pub mod clock;
pub mod codec;
pub mod compaction;
mod db;
mod dropping;
mod engine;
pub mod error;
mod event;
mod expand;
pub mod filename;
pub mod filter;
mod flush;
mod forgotten;
pub mod fs;
#[cfg(feature = "testing")]
#[doc(hidden)]
pub mod fuzz;
mod heal;
mod health;
pub mod iter;
pub mod iterator;
pub mod journal;
pub mod key;
mod keyspace;
pub mod layout;
pub mod levels;
mod load;
mod lookup;
pub mod manifest;
mod memory;
pub mod memtable;
pub mod merge;
#[cfg(test)]
mod model;
mod niceness;
pub mod options;
pub mod ordered;
mod output;
pub mod range;
pub mod range_tombstone;
mod read;
pub mod recover;
mod reopen;
pub mod repair;
mod replay;
pub mod row;
mod snapshot;
pub mod stats;
mod sync;
pub mod table;
mod transaction;
mod turn;
pub mod value;
pub mod visible;
mod worker;
mod write;

pub use block::Compression;
pub use check::CheckReport;
pub use checkpoint::{CheckpointInfo, sites as checkpoint_sites};
pub use db::{Batch, Builder, Db};
pub use engine::{Progress, sites};
pub use error::{Error, ErrorKind, Result};
pub use event::{Event, StallCause};
pub use health::Health;
pub use iterator::Iter;
pub use journal::{Durability, RecoveryMode};
pub use key::SequenceNumber;
pub use keyspace::Keyspace;
pub use load::{Bulk, Ingest};
pub use options::{Background, JournalTuning, KeyspaceOptions, Tuning};
pub use recover::RecoveryReport;
pub use repair::{RepairOptions, RepairReport, repair};
pub use snapshot::Snapshot;
pub use stats::{KeyspaceStats, Stats};
pub use table::CheckLevel;
pub use transaction::{Transaction, TransactionIter};
pub use value::Value;
