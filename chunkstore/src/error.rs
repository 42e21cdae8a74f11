//! The crate's one error: a kind for the program (it decides the exit code), a sentence for the person.
//!
//! Errors of the source and errors of a target are different kinds and never pass for each other: swallowing a full
//! disk as "this file could not be read" has lost data in other programs, twice in the same one.

use std::fmt;
use std::sync::Arc;

/// A result whose error is this crate's.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What the caller can do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Something to back up could not be read: the backup goes on without it and is partial.
    Source,
    /// A target could not be reached, read or written: it is left out, the others go on.
    Target,
    /// A target has no room left.
    TargetFull,
    /// An object is not on a target.
    NotFound,
    /// An object exists already and must not be replaced.
    AlreadyExists,
    /// Bytes are not what was written: heal them from another target.
    Damage,
    /// No repository is at this place.
    NoRepository,
    /// Another process is using the local state of this repository for writing.
    Locked,
    /// No key of the repository opens with this password.
    WrongPassword,
    /// Written by a newer version of the program.
    NewerFormat,
    /// The repository or target is not the one that was seen before: another id, another mode, an older state.
    NotTheSame,
    /// The destination of a restore could not be written as it should be.
    Destination,
    /// The local state (catalog, outbox) failed; nothing on a target is in danger.
    Local,
    /// An argument is wrong.
    InvalidArgument,
    /// A signal asked to stop.
    Cancelled,
}

/// What failed, where, and what to do about it.
#[derive(Clone)]
pub struct Error {
    inner: Arc<Inner>,
}

struct Inner {
    kind: ErrorKind,
    message: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
    /// See [`Error::is_catalog_damage`].
    catalog_damage: bool,
}

impl Error {
    /// An error of `kind` whose sentence is `message`.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { inner: Arc::new(Inner { kind, message: message.into(), source: None, catalog_damage: false }) }
    }

    /// An error of `kind` caused by another: `message` completes the sentence before the cause.
    pub fn caused(
        kind: ErrorKind,
        message: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        let inner =
            Inner { kind, message: message.into(), source: Some(source.into()), catalog_damage: false };
        Self { inner: Arc::new(inner) }
    }

    /// Damage of the local catalog, which is of kind local: see [`Error::is_catalog_damage`].
    pub(crate) fn catalog_damage(message: impl Into<String>) -> Self {
        let inner =
            Inner { kind: ErrorKind::Local, message: message.into(), source: None, catalog_damage: true };
        Self { inner: Arc::new(inner) }
    }

    /// Damage: what was read, what was expected, what was found.
    pub fn damage(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Damage, message)
    }

    /// The same error with what was being read or done in front: `"{place}: {message}"`.
    pub fn at(self, place: impl fmt::Display) -> Self {
        Self {
            inner: Arc::new(Inner {
                kind: self.inner.kind,
                message: format!("{place}: {}", self.inner.message),
                source: self.inner.source.as_ref().map(|source| source.to_string().into()),
                catalog_damage: self.inner.catalog_damage,
            }),
        }
    }

    /// The same sentence under another kind: for instance what is damage of a file is a fault of its target.
    pub fn with_kind(self, kind: ErrorKind) -> Self {
        Self {
            inner: Arc::new(Inner {
                kind,
                message: self.inner.message.clone(),
                source: self.inner.source.as_ref().map(|source| source.to_string().into()),
                catalog_damage: self.inner.catalog_damage && kind == ErrorKind::Local,
            }),
        }
    }

    /// Whether the local catalog holds bytes that are not what was written, or that the disk does not give back: nothing is to be expected of it any
    /// more, and everything of one that is made again ([`crate::catalog::Catalog::open_anew`]).
    pub fn is_catalog_damage(&self) -> bool {
        self.inner.catalog_damage
    }

    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        self.inner.kind
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.inner.message)?;
        if let Some(source) = &self.inner.source {
            write!(f, ": {source}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}({self})", self.inner.kind)
    }
}

impl std::error::Error for Error {}

/// What is said of a catalog that another process opens, or has open, for writing.
pub(crate) const CATALOG_IN_USE: &str =
    "another process uses this machine's catalog of the repository: try again when it is done";

impl From<lsm::Error> for Error {
    fn from(error: lsm::Error) -> Self {
        match error.kind() {
            lsm::ErrorKind::Locked => Self::caused(ErrorKind::Locked, CATALOG_IN_USE, error),
            _ if crate::catalog::is_damage(&error) => {
                Self::catalog_damage(format!("the local catalog is damaged: {error}"))
            }
            _ => Self::caused(ErrorKind::Local, "the local catalog failed", error),
        }
    }
}
