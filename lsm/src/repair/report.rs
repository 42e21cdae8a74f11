//! What repair found, did and could not keep.

use std::fmt;
use std::ops::Bound;
use std::path::PathBuf;

use crate::check::CheckReport;
use crate::error::Error;
use crate::journal::LogReport;
use crate::key::SequenceNumber;
use crate::range::KeyRange;

/// What the manifest was like.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ManifestCondition {
    /// It says everything.
    Whole,
    /// Edits are missing: it is damaged, or older than the files beside it.
    Damaged {
        /// Edits that could be read.
        edits: u64,
        /// What is wrong, first of all.
        reason: String,
    },
    /// There is none.
    Missing,
}

/// What was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LossKind {
    /// Entries of a table, deletions among them: keys in the range may be gone, or have an older value, or be back although they were deleted.
    Entries,
    /// Deletions of ranges in a table: keys in the range may be back.
    RangeDeletions,
    /// Commits of a log: with no other record of which keys they wrote.
    Commits,
    /// A file of which nothing can be told.
    File,
}

/// Something that could not be kept.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Loss {
    /// What.
    pub kind: LossKind,
    /// The keyspace; `None`: any may be concerned.
    pub keyspace: Option<String>,
    /// The file that it was in, as it was called in the directory.
    pub file: PathBuf,
    /// Which keys may be concerned; `None`: any.
    pub range: Option<KeyRange>,
    /// Which sequence numbers, as far as that is known: from the first, to the last.
    pub sequences: Option<(SequenceNumber, Option<SequenceNumber>)>,
    /// How many entries the file lost, where that is known.
    pub entries: Option<u64>,
    /// What is wrong.
    pub reason: String,
}

/// What became of a table that is not as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TableFate {
    /// It is damaged; what could be read of it was written anew.
    Salvaged,
    /// Nothing in it could be read, or it is not there.
    Lost,
    /// The manifest did not name it, and it was taken in on its own word.
    TakenIn,
    /// It was merged with others, as their order could not be kept otherwise.
    Merged,
}

/// A table that is not as it was.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RepairedTable {
    /// What it was called.
    pub file: PathBuf,
    /// The keyspace that it belongs to; `None`: nobody says.
    pub keyspace: Option<String>,
    /// What became of it.
    pub fate: TableFate,
    /// Entries that were kept, of one that was salvaged or taken in.
    pub entries: u64,
}

/// What [`repair`](super::repair()) found, did and could not keep.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RepairReport {
    /// Whether nothing had to be done, so that nothing was.
    pub was_sound: bool,
    /// What the manifest was like.
    pub manifest: ManifestCondition,
    /// Tables that stay as they are.
    pub tables_kept: u64,
    /// The others.
    pub tables: Vec<RepairedTable>,
    /// Logs that were read, if any had to be; what was in them is in tables now.
    pub logs: Vec<LogReport>,
    /// Keyspaces whose name or number nobody could tell, as they are called now.
    pub recovered_keyspaces: Vec<String>,
    /// What could not be kept.
    pub losses: Vec<Loss>,
    /// What may be wrong, and cannot be known.
    pub doubts: Vec<String>,
    /// Faults that were found in files, the first hundred.
    pub faults: Vec<Error>,
    /// Where the files lie that are not part of the database any more.
    pub set_aside: Vec<PathBuf>,
    /// The check of what came out, if it was asked for.
    pub check: Option<CheckReport>,
}

impl RepairReport {
    pub(super) fn new() -> Self {
        Self {
            was_sound: false,
            manifest: ManifestCondition::Missing,
            tables_kept: 0,
            tables: Vec::new(),
            logs: Vec::new(),
            recovered_keyspaces: Vec::new(),
            losses: Vec::new(),
            doubts: Vec::new(),
            faults: Vec::new(),
            set_aside: Vec::new(),
            check: None,
        }
    }

    /// Whether everything could be kept.
    pub fn is_lossless(&self) -> bool {
        self.losses.is_empty()
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.file.display())?;
        match (self.kind, self.entries) {
            (LossKind::Entries, Some(entries)) => write!(f, "of {entries} entries, those")?,
            (LossKind::Entries, None) => write!(f, "entries")?,
            (LossKind::RangeDeletions, _) => write!(f, "deletions of ranges")?,
            (LossKind::Commits, _) => write!(f, "commits")?,
            (LossKind::File, _) => write!(f, "all that it held")?,
        }
        if let Some(keyspace) = &self.keyspace {
            write!(f, " of keyspace {keyspace:?}")?;
        }
        if let Some(range) = &self.range {
            write!(f, " with keys {}", shown_range(range))?;
        }
        match self.sequences {
            Some((first, Some(last))) => write!(f, ", sequence numbers {first} to {last}")?,
            Some((first, None)) => write!(f, ", sequence numbers from {first} on")?,
            None => {}
        }
        write!(f, ": {}", self.reason)
    }
}

/// A range, for people.
pub(crate) fn shown_range(range: &KeyRange) -> String {
    let lower = format!("from {}", shown(&range.lower));
    match &range.upper {
        Bound::Included(upper) => format!("{lower} to {}", shown(upper)),
        Bound::Excluded(upper) => format!("{lower} to before {}", shown(upper)),
        Bound::Unbounded if range.lower.is_empty() => "of any kind".to_owned(),
        Bound::Unbounded => format!("{lower} on"),
    }
}

fn shown(key: &[u8]) -> String {
    const SHOWN_MAX: usize = 60;
    match key.get(..SHOWN_MAX) {
        Some(front) if key.len() > SHOWN_MAX => format!("\"{}\"...", front.escape_ascii()),
        _ => format!("\"{}\"", key.escape_ascii()),
    }
}
