//! The manifest: a log of edits, from which opening learns which tables and logs there are.
//!
//! One file, `MANIFEST`, in the journal's record format: the first record holds an edit that says everything, each further one what changed.
//! An edit is durable before anything acts on it: before a reader sees its tables, before a file that it no longer names is removed.
//!
//! Each session writes a fresh manifest before its first edit: to `MANIFEST.new`, synced, renamed, the directory synced. So nothing is ever
//! appended behind a torn tail, and there is no pointer file that could name the wrong one. A session that changes nothing writes nothing.

mod recover;
mod salvage;
mod writer;

pub use recover::{ManifestReport, Standing, read};
pub(crate) use salvage::{Told, ToldTable, salvage};
pub(crate) use writer::{Manifest, begin};

/// Each place where the manifest makes something durable.
pub mod sites {
    use crate::fs::SyncSite;

    /// A fresh manifest's contents, before it takes over.
    pub const FRESH: SyncSite = SyncSite::new("manifest-fresh");
    /// The name of a fresh manifest, before anything is appended to it.
    pub const FRESH_DIRECTORY: SyncSite = SyncSite::new("manifest-fresh-directory");
    /// An edit, before anything acts on it.
    pub const EDIT: SyncSite = SyncSite::new("manifest-edit");

    /// All of them.
    pub const ALL: [SyncSite; 3] = [FRESH, FRESH_DIRECTORY, EDIT];
}
