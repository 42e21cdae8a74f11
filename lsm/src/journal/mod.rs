//! The journal: logs of records, written by many threads at once, read back with a verdict. Usable alone.
//!
//! A batch is appended to the newest log before it is applied anywhere else, so that a crash loses nothing that was
//! acknowledged. Three things set this journal apart:
//!
//! - **It tells a torn tail from lost data.** Each record says how far the log was known to be durable when it was appended.
//!   Bad bytes before that place are damage to acknowledged data, and refused; bad bytes behind it are what a crash leaves, and
//!   cut. [`recover`] gives one [`Verdict`] per log.
//! - **A cut is recorded, not made.** Where a log was cut is written down durably (in the manifest, and in the first record of
//!   the next log) before the next log exists; what stands behind the cut is never replayed, and is set aside first.
//! - **Nothing is retried.** After a failed write or sync a log acknowledges nothing more, as the system may have taken the
//!   unwritten pages for clean. Opening again reads what is really on the disk.
//!
//! Every log file belongs to a chain: the first record of each repeats where the one before it ends. [`Journal`] is one open log;
//! [`TypedJournal`] keeps a directory of them, for use without a database around it. The manifest is written with
//! [`RecordWriter`] and read with [`read_records`]: the same records, one caller at a time. FORMAT.md, "Journal", has the bytes.

mod aside;
mod dump;
mod group;
mod logfile;
mod pass;
mod prepared;
mod reader;
mod record;
mod recover;
mod salvage;
mod stray;
mod typed;
mod writer;

pub use aside::{set_aside, set_aside_whole};
pub use dump::dump;
pub use group::{BatchRecord, Journal, JournalOptions, Position};
pub use logfile::{
    END_LAYOUT, END_PAYLOAD_BYTES, LOG_FORMAT_VERSION, LOG_HEADER_BYTES, LOG_HEADER_LAYOUT, LogEnd, LogKind,
    START_LAYOUT, START_PAYLOAD_BYTES, Start, random_identity,
};
pub use pass::{Hole, LogReport, Verdict, read_records};
pub use prepared::PreparedLog;
pub use reader::{Record, RecordReader};
pub use record::{
    FLAG_SYNC_ASKED, PAYLOAD_BYTES_MAX, RECORD_ALIGNMENT, RECORD_HEADER_BYTES, RECORD_HEADER_LAYOUT,
    RecordHeader, RecordKind,
};
pub(crate) use recover::FIRST_RECORD_END;
pub use recover::{
    Access, ExpectedLog, Flushed, JournalRecovery, RecoverOptions, RecoveredBatch, RecoveryMode, recover,
};
pub(crate) use salvage::start_of;
pub use salvage::{BadBytes, salvage_records};
pub use stray::{StrayLog, find_stray, is_whole};
pub use typed::{Payload, TypedJournal};
pub use writer::RecordWriter;

use crate::key::SequenceNumber;

/// What an acknowledged write survives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Durability {
    /// The return of the call: it is in the process's memory, for as long as nobody asks for more. What is written for anybody's commit takes it
    /// along; so does a full buffer ([`JournalOptions::buffer_bytes`]), a flush, the end of the log. No clock does: the last one before a
    /// silence may stay in memory until the database is closed.
    Process,
    /// The end of the process, however it comes: it was handed to the system.
    #[default]
    System,
    /// A power loss: the medium says that it has it.
    Synced,
}

/// Where the records of a log end that count, whatever stands behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// In bytes from the file's start. 0: nothing in the log counts.
    pub offset: u64,
    /// The last sequence number before it, in this log or in those before.
    pub last_sequence: SequenceNumber,
}

/// Each place where the journal makes something durable.
pub mod sites {
    use crate::fs::SyncSite;

    /// A new log's header and first record, before anybody is told of it.
    pub const CREATE: SyncSite = SyncSite::new("journal-create");
    /// A new log's name.
    pub const CREATE_DIRECTORY: SyncSite = SyncSite::new("journal-create-directory");
    /// Commits, and the end of a log.
    pub const COMMIT: SyncSite = SyncSite::new("journal-commit");
    /// What stands before a log's last record, before that says that it is durable.
    pub const BEFORE_END: SyncSite = SyncSite::new("journal-before-end");
    /// The newest log, before what a killed process had only written is taken as there.
    pub const RECOVER: SyncSite = SyncSite::new("journal-recover");
    /// A cut tail, set aside.
    pub const SET_ASIDE: SyncSite = SyncSite::new("journal-set-aside");
    /// The name of a cut tail, and of the directory for it.
    pub const SET_ASIDE_DIRECTORY: SyncSite = SyncSite::new("journal-set-aside-directory");

    /// The removal of one log, before the next is removed.
    pub const REMOVE_DIRECTORY: SyncSite = SyncSite::new("journal-remove-directory");

    /// All of them.
    pub const ALL: [SyncSite; 8] = [
        CREATE,
        CREATE_DIRECTORY,
        COMMIT,
        BEFORE_END,
        RECOVER,
        SET_ASIDE,
        SET_ASIDE_DIRECTORY,
        REMOVE_DIRECTORY,
    ];
}

#[cfg(test)]
mod tests;
