//! What a verification found, and what became of it.

use std::fmt;

use crate::catalog::Reference;
use crate::error::Error;
use crate::id::ChunkId;
use crate::repository::layout::ObjectName;

/// How a verification, a healing or a mirroring ended: it decides the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// All is well: what is damaged, if anything, nothing needs.
    Clean,
    /// There was damage, and all of it was mended.
    Healed,
    /// What was looked at is well, but a target could not be reached, or lacks what others have.
    TargetBehind,
    /// There is damage.
    Damaged,
}

/// What is wrong with an object on a target.
#[derive(Clone, Debug)]
pub enum Problem {
    /// It is not there, and must be.
    Missing,
    /// It is there, and is not what it should be.
    Damaged(Error),
    /// It is a key that was removed, and has come back.
    RemovedKey,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("it is missing"),
            Self::Damaged(error) => write!(f, "it is damaged: {error}"),
            Self::RemovedKey => f.write_str("this key was removed, and is there"),
        }
    }
}

/// What became of a problem.
#[derive(Clone, Debug)]
pub enum Fate {
    /// Nothing was tried.
    Found,
    /// A good object stands in its place; where that came from.
    Healed(String),
    /// Healing failed.
    Failed(Error),
    /// No good copy is anywhere.
    Lost,
    /// No good copy is anywhere, and nothing needs one: other packs hold its chunks.
    NotNeeded,
}

/// A problem of one object on one target.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The target.
    pub url: String,
    /// The object.
    pub name: ObjectName,
    /// What is wrong.
    pub problem: Problem,
    /// What became of it.
    pub fate: Fate,
}

/// An object of which no good copy is left.
#[derive(Clone, Debug)]
pub struct Loss {
    /// The object.
    pub name: ObjectName,
    /// Chunks that were rescued from damaged copies of it.
    pub rescued: u64,
    /// Chunks that it held and that are good nowhere now; `None` if nothing tells what it held.
    pub chunks: Option<Vec<ChunkId>>,
    /// The Versions that need one of these chunks, and which of their bytes.
    pub references: Vec<Reference>,
}

/// What was seen of one target.
#[derive(Clone, Debug, Default)]
pub struct TargetReport {
    /// Its URL.
    pub url: String,
    /// Why it could not be looked at, or not to the end.
    pub error: Option<Error>,
    /// Objects on it.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Objects that were read whole.
    pub objects_read: u64,
    /// Their bytes.
    pub bytes_read: u64,
    /// Objects that others have, and that it does not claim to have.
    pub objects_behind: u64,
    /// Their bytes.
    pub bytes_behind: u64,
    /// Packs on it that no segment names: of a backup that is running, or was cut short.
    pub packs_unnamed: u64,
    /// Damaged objects that were set aside and are still there.
    pub set_aside: u64,
}

/// What a verification found.
#[derive(Clone, Debug, Default)]
pub struct VerifyReport {
    /// Each target.
    pub targets: Vec<TargetReport>,
    /// What was wrong, object by object.
    pub findings: Vec<Finding>,
    /// What is lost. Only a verification with the data's reading or with healing can know that a pack is.
    pub losses: Vec<Loss>,
    /// Objects that were copied to targets which were behind.
    pub objects_caught_up: u64,
    /// Their bytes.
    pub bytes_caught_up: u64,
}

impl VerifyReport {
    /// How it ended.
    pub fn outcome(&self) -> Outcome {
        let open = |finding: &Finding| !matches!(finding.fate, Fate::Healed(_) | Fate::NotNeeded);
        if !self.losses.is_empty() || self.findings.iter().any(open) {
            Outcome::Damaged
        } else if self.targets.iter().any(|target| target.error.is_some() || target.objects_behind > 0) {
            Outcome::TargetBehind
        } else if self.healed() == 0 {
            Outcome::Clean
        } else {
            Outcome::Healed
        }
    }

    /// Findings that were mended.
    pub fn healed(&self) -> usize {
        self.findings.iter().filter(|finding| matches!(finding.fate, Fate::Healed(_))).count()
    }
}
