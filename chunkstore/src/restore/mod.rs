//! `restore`: a snapshot, a part of it, or one Version of a file becomes a tree on disk again.
//!
//! - Entries come in the order of their keys. Directories are made as they come, files are gathered into batches ([`plan`]).
//! - A batch is done in the order of packs and frames, not of files: each frame is read and decoded once, each of its chunks is checked against
//!   its id and written to wherever it belongs, by several threads ([`batch`]). No byte that does not match its id reaches a file.
//! - A file appears under its name before it is whole only where nothing was there before; what exists is replaced by a rename. A file that
//!   cannot be had whole is not left behind.
//! - Directories get their permissions and times last, the deepest first ([`tree`]); also those that are there when a restore is stopped.
//!
//! **Never outside.** Every call goes by an open directory and a name in it, and refuses links; what leads to the target directory is the
//! only path that is followed. A link, or anything else, in the place of a directory is replaced, or refused with a
//! fault if nothing may be overwritten. An existing file is never written to: it may have another name elsewhere.
//!
//! **Durability.** What is restored is handed to the operating system; with [`RestoreOptions::sync`] the file system is asked to make it durable
//! before the restore ends.
//!
//! What could not be done is a [`Fault`](crate::monitor::Fault) of side `Destination`, or `Damage` where bytes are lost; the rest goes on. A full
//! disk ends the restore.

mod archive;
mod batch;
mod cat;
mod file;
mod names;
mod plan;
mod report;
mod repository;
mod select;
mod special;
mod tar;
#[cfg(test)]
mod tests;
mod tree;
mod unlike;
mod verify;

pub use archive::write_archive;
pub use cat::write_contents;
pub use repository::RepositorySource;

use std::path::PathBuf;

use crate::catalog::ChunkSpan;
use crate::chunk::Hasher;
use crate::entry_key::EntryKey;
use crate::error::{Error, ErrorKind, Result};
use crate::frame::{DecodedFrame, Decompressor};
use crate::id::ObjectHash;
use crate::metadata::apply::Ownership;
use crate::monitor::{Event, Monitor};
use crate::pack::FramePlace;
use crate::version::{Contents, Version};

/// Entries in the order of their keys.
pub type Entries<'a> = Box<dyn Iterator<Item = Result<(EntryKey, Version)>> + Send + 'a>;
/// Chunks of some contents in order.
pub type Spans<'a> = Box<dyn Iterator<Item = Result<ChunkSpan>> + 'a>;

/// From where a restore gets what it restores.
pub trait RestoreSource: Sync {
    /// The entries, in the order of their keys. May be asked for again.
    ///
    /// # Errors
    /// Local.
    fn entries(&self) -> Result<Entries<'_>>;

    /// The chunks of a Version and all their places.
    ///
    /// # Errors
    /// Local; damage, if a chunk is unknown.
    fn spans(&self, contents: &Contents) -> Result<Spans<'_>>;

    /// A frame, from whoever has it good.
    ///
    /// # Errors
    /// Damage, not found or target, if nobody has.
    fn frame(
        &self,
        pack: &ObjectHash,
        frame: &FramePlace,
        decompressor: &mut Decompressor,
    ) -> Result<DecodedFrame>;

    /// What makes ids of chunks.
    fn hasher(&self) -> &Hasher;

    /// Bytes of all files and number of all entries, where they are known beforehand.
    fn size(&self) -> Option<(u64, u64)> {
        None
    }
}

/// What to do with what is there already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overwrite {
    /// It is replaced.
    #[default]
    Always,
    /// A file of the same size and time of change is taken to be the same: only its metadata are put right. Everything else is replaced.
    IfChanged,
    /// It stays as it is, and is counted; directories are entered.
    Never,
}

/// What to restore where.
#[derive(Clone, Debug)]
pub struct RestoreOptions {
    /// The directory that becomes the top; made if it is not there.
    pub target: PathBuf,
    /// What goes to the top: `/` puts whole paths below the target, `/home/ada` what is in that directory directly.
    pub base: EntryKey,
    /// Whether the target directory itself gets the metadata of `base`, if that is among the entries.
    pub top: bool,
    /// Only what matches one of these patterns (as in [`crate::source::RuleOptions`]), and what is below it; everything if there are none.
    /// Patterns count from `base`.
    pub include: Vec<String>,
    /// Not what matches one of these, nor what is below it.
    pub exclude: Vec<String>,
    /// What to do with what is there already.
    pub overwrite: Overwrite,
    /// Whose the entries become.
    pub ownership: Ownership,
    /// Only say what would be done.
    pub dry_run: bool,
    /// Read every file again afterwards and compare it with the snapshot.
    pub verify: bool,
    /// Make everything durable before the end.
    pub sync: bool,
    /// How many threads read, decode and write. 0: one for each core, at least two, at most eight.
    pub threads: usize,
}

impl RestoreOptions {
    /// Everything, whole paths below `target`, replacing what is there.
    pub fn new(target: impl Into<PathBuf>) -> Self {
        Self {
            target: target.into(),
            base: EntryKey::root(),
            top: false,
            include: Vec::new(),
            exclude: Vec::new(),
            overwrite: Overwrite::Always,
            ownership: Ownership::Numbers,
            dry_run: false,
            verify: false,
            sync: false,
            threads: 0,
        }
    }

    fn thread_count(&self) -> usize {
        let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        if self.threads == 0 { cores.clamp(2, 8) } else { self.threads.min(64) }
    }
}

/// What a restore did, or would do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RestoreSummary {
    /// Directories made, or put right.
    pub directories: u64,
    /// Files made.
    pub files_restored: u64,
    /// Files that took the place of something else.
    pub files_updated: u64,
    /// Files that were the same already.
    pub files_unchanged: u64,
    /// Entries left as they were because nothing was to be overwritten.
    pub skipped: u64,
    /// Further names of files.
    pub hard_links: u64,
    /// Links, pipes, sockets, devices.
    pub others: u64,
    /// Bytes of the files made, holes not counted.
    pub bytes_restored: u64,
    /// Files read again and found to be what the snapshot has.
    pub files_verified: u64,
    /// What could not be done.
    pub faults: u64,
}

impl RestoreSummary {
    /// Whether something is not as the snapshot has it.
    pub fn is_partial(&self) -> bool {
        self.faults > 0
    }
}

/// Restores.
///
/// # Errors
/// Destination, if the target directory cannot be made or the disk is full; local, if the catalog fails; cancelled; invalid argument for
/// a pattern that cannot be understood.
pub fn restore(
    source: &dyn RestoreSource,
    options: &RestoreOptions,
    monitor: &dyn Monitor,
) -> Result<RestoreSummary> {
    let report = report::Report::new(monitor);
    let selection = select::Selection::new(&options.include, &options.exclude, &options.base)?;
    // Nobody knows how much patterns leave before they were asked.
    let size = if selection.is_everything() { source.size() } else { None };
    let (bytes, items) = size.unzip();
    monitor.event(Event::Phase { name: "restore", bytes, items });
    let mut planner = plan::Planner::new(source, options, &selection, &report)?;
    for entry in source.entries()? {
        let (key, version) = entry?;
        if monitor.cancelled() {
            return Err(cancelled());
        }
        planner.entry(key, version)?;
    }
    let unlike = planner.finish()?;
    if options.verify && !options.dry_run {
        monitor.event(Event::Phase { name: "verify", bytes, items: None });
        verify::verify(source, options, &selection, &unlike, &report)?;
    }
    Ok(report.finish())
}

fn cancelled() -> Error {
    Error::new(ErrorKind::Cancelled, "the restore was stopped; what is there so far is whole")
}
