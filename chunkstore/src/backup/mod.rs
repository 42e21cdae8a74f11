//! `backup`: what changed in some directories becomes one more snapshot, on every target at once.
//!
//! A backup is a merge-join of the walk and of what the catalog knows of the last snapshot, both in the order of entry keys
//! ([`join`]); what differs is read, cut, hashed, looked up, gathered into frames, packed and stored ([`crate::pipeline`]); the
//! snapshot becomes visible when it is whole ([`commit`]).
//!
//! The order of durability, each step done before the next is begun: intent; packs; segment in the outbox; segment on every
//! target; the mark of completeness on each target that has all of it; the engine's commit, which makes the snapshot visible; the intent goes. A
//! crash between any two leaves whole snapshots only: packs that no segment names are adopted by the next run, pieces of a segment that was
//! never committed count for the chunks they tell of and for nothing else.

mod commit;
mod join;
mod prepare;
mod read;
mod record;
mod reread;
mod run;

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use crate::error::{Error, ErrorKind, Result};
use crate::id::SnapshotId;
use crate::metadata::Kind;
use crate::monitor::Monitor;
use crate::pipeline::gather::Gathered;
use crate::version::SnapshotStats;
use record::Recorded;

pub use run::{backup, backup_stream};

#[cfg(test)]
mod tests;

/// What to back up, and how.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct BackupOptions {
    /// The roots: absolute paths, without `.` and `..`.
    pub roots: Vec<PathBuf>,
    /// The machine's name, part of the timeline's identity.
    pub host: String,
    /// Tags of the snapshot.
    pub tags: Vec<String>,
    /// Walk and compare, read and look up, but store nothing.
    pub dry_run: bool,
    /// Read every file, whatever its timestamps say.
    pub force: bool,
    /// The time that the snapshot carries; now, unless it is given.
    pub time: Option<SystemTime>,
    /// Threads that read, cut and hash, and as many that compress. 0 means one for each core, at most eight.
    pub threads: usize,
    /// zstd's level, from 1 to 19.
    pub compression_level: i32,
    /// What to leave out.
    pub rules: crate::source::RuleOptions,
}

/// What a backup did.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct BackupSummary {
    /// The new snapshot; none on a dry run.
    pub snapshot: Option<SnapshotId>,
    /// The snapshot that it was compared with.
    pub parent: Option<SnapshotId>,
    /// Files that were not there before.
    pub files_new: u64,
    /// Files whose contents or metadata changed.
    pub files_changed: u64,
    /// Files that stayed as they were.
    pub files_unmodified: u64,
    /// Directories that were not there before.
    pub dirs_new: u64,
    /// Directories whose metadata changed.
    pub dirs_changed: u64,
    /// Directories that stayed as they were.
    pub dirs_unmodified: u64,
    /// Links, pipes, sockets and devices: new or changed.
    pub others_changed: u64,
    /// Links, pipes, sockets and devices that stayed as they were.
    pub others_unmodified: u64,
    /// Entries of the last snapshot that are gone.
    pub entries_gone: u64,
    /// Entries that could not be read, or not as a whole.
    pub source_faults: u64,
    /// Chunks that were not known before.
    pub chunks_new: u64,
    /// Their bytes.
    pub bytes_new: u64,
    /// What was stored for them on each target: compressed, sealed, with the packs' tables and the segments.
    pub bytes_stored: u64,
    /// Files looked at.
    pub files_processed: u64,
    /// Their bytes.
    pub bytes_processed: u64,
    /// When it began.
    pub started: Option<SystemTime>,
    /// How long it took.
    pub duration: Duration,
    /// Targets that hold the whole snapshot, by URL.
    pub targets_complete: Vec<String>,
    /// Targets that were absent, failed or fell behind, by URL: `mirror` or the next backup brings what they lack.
    pub targets_behind: Vec<String>,
    /// Why the catalog could not take in the snapshot, which is on the targets all the same: catching up brings it.
    pub catalog_error: Option<Error>,
}

impl BackupOptions {
    /// A backup of `roots` on the machine `host`, everything else as is usual.
    pub fn new(host: impl Into<String>, roots: Vec<PathBuf>) -> Self {
        Self {
            roots,
            host: host.into(),
            tags: Vec::new(),
            dry_run: false,
            force: false,
            time: None,
            threads: 0,
            compression_level: 3,
            rules: crate::source::RuleOptions::default(),
        }
    }
}

/// The most bytes of everything that is said of a snapshot itself: more than a command line can have, few enough that a segment holds them
/// beside its largest entry.
const TEXTS_BYTES_MAX: usize = 8 << 20;

impl BackupOptions {
    /// # Errors
    /// Invalid argument, if the snapshot would have more to say of itself than a segment can hold.
    fn check_texts(&self) -> Result<()> {
        use std::os::unix::ffi::OsStrExt;
        let texts = self.tags.iter().chain(&self.rules.exclude).chain([&self.host]).map(|text| text.len());
        let roots = self.roots.iter().map(|root| root.as_os_str().as_bytes().len());
        let bytes: usize = texts.chain(roots).map(|length| length + 5).sum();
        if bytes <= TEXTS_BYTES_MAX {
            return Ok(());
        }
        let what = format!(
            "host, paths, tags and patterns have {bytes} bytes together: a snapshot keeps {TEXTS_BYTES_MAX} at most (patterns can stand in files)"
        );
        Err(Error::new(ErrorKind::InvalidArgument, what))
    }
}

impl BackupSummary {
    fn count(&mut self, kind: Kind, recorded: Recorded, bytes: u64) {
        let count = match (kind, recorded) {
            (Kind::File, Recorded::New) => &mut self.files_new,
            (Kind::File, Recorded::Changed) => &mut self.files_changed,
            (Kind::File, Recorded::Same) => &mut self.files_unmodified,
            (Kind::Directory, Recorded::New) => &mut self.dirs_new,
            (Kind::Directory, Recorded::Changed) => &mut self.dirs_changed,
            (Kind::Directory, Recorded::Same) => &mut self.dirs_unmodified,
            (_, Recorded::New | Recorded::Changed) => &mut self.others_changed,
            (_, Recorded::Same) => &mut self.others_unmodified,
        };
        *count += 1;
        if kind == Kind::File {
            self.files_processed += 1;
            self.bytes_processed += bytes;
        }
    }

    /// On a dry run: what an entry would become, as far as can be told without its last Version.
    fn foresee(&mut self, ended: &read::Ended, monitor: &dyn Monitor) {
        match ended {
            read::Ended::Observed(observed) => {
                let recorded = if observed.previous.is_some() { Recorded::Changed } else { Recorded::New };
                self.count(observed.metadata.kind, recorded, observed.metadata.size);
                recorded.tell(observed, monitor);
            }
            read::Ended::Gone(..) => self.entries_gone += 1,
            read::Ended::Failed(..) => self.source_faults += 1,
            read::Ended::Kept(..) => {}
        }
    }

    fn gathered(&mut self, gathered: Gathered) {
        self.chunks_new += gathered.chunks;
        self.bytes_new += gathered.bytes;
    }

    fn unchanged(&mut self, unchanged: join::Unchanged) {
        self.files_unmodified += unchanged.files;
        self.files_processed += unchanged.files;
        self.bytes_processed += unchanged.bytes;
        self.dirs_unmodified += unchanged.directories;
        self.others_unmodified += unchanged.others;
        self.source_faults += unchanged.faults;
    }

    fn stats(&self) -> SnapshotStats {
        let others = self.others_changed + self.others_unmodified;
        let directories = self.dirs_new + self.dirs_changed + self.dirs_unmodified;
        SnapshotStats {
            files_new: self.files_new,
            files_changed: self.files_changed,
            files_unmodified: self.files_unmodified,
            dirs_new: self.dirs_new,
            dirs_changed: self.dirs_changed,
            dirs_unmodified: self.dirs_unmodified,
            others,
            entries_gone: self.entries_gone,
            entries_failed: self.source_faults,
            chunks_new: self.chunks_new,
            bytes_new: self.bytes_new,
            bytes_stored: self.bytes_stored,
            files_total: self.files_processed,
            entries_total: self.files_processed + directories + others,
            bytes_total: self.bytes_processed,
        }
    }

    /// Whether something of the source is not in the snapshot as it was.
    pub fn is_partial(&self) -> bool {
        self.source_faults > 0
    }
}
