//! The crate's one error: a kind for the program, a sentence for the person, and the place.
//!
//! The kinds answer the caller's only question: retry, correct the input, repair, free space, unlock, or report a bug?
//! Everything else is in the message. An [`Error`] is cheap to clone, because a failed write is remembered and handed
//! to every later caller until the database is reopened.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A result whose error is this crate's.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What the caller can do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The file system failed: the operation may be tried again after the cause is gone.
    Io,
    /// Bytes on disk are not what was written: repair, or restore from a copy.
    Corruption,
    /// The device is full: free space, then reopen.
    OutOfSpace,
    /// Another process has the database open for writing.
    Locked,
    /// A write was asked of a read-only handle.
    ReadOnly,
    /// An earlier write or sync failed: nothing more is acknowledged until the database is reopened.
    Failed,
    /// The files were written by a newer version of this crate.
    NewerFormat,
    /// An argument or option is wrong.
    InvalidArgument,
    /// The thing named does not exist.
    NotFound,
    /// The database was closed.
    Closed,
    /// Somebody else wrote what a transaction read or writes: run the transaction again.
    Conflict,
    /// The keyspace was dropped: get a handle to another, or make one of this name anew.
    Dropped,
}

/// What failed, where, and what to do about it.
#[derive(Clone)]
pub struct Error {
    inner: Arc<Inner>,
}

struct Inner {
    kind: ErrorKind,
    message: String,
    path: Option<PathBuf>,
    offset: Option<u64>,
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error of `kind` whose sentence is `message`.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            inner: Arc::new(Inner { kind, message: message.into(), path: None, offset: None, source: None }),
        }
    }

    /// Damage: what was being read, what was expected and what was found.
    pub fn corruption(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Corruption, message)
    }

    /// A failed call to the file system: `doing` says which ("sync the journal").
    pub fn io(doing: impl Into<String>, error: std::io::Error) -> Self {
        let kind = match error.kind() {
            kind if is_out_of_space(kind) => ErrorKind::OutOfSpace,
            std::io::ErrorKind::NotFound => ErrorKind::NotFound,
            _ => ErrorKind::Io,
        };
        Self {
            inner: Arc::new(Inner {
                kind,
                message: format!("could not {}", doing.into()),
                path: None,
                offset: None,
                source: Some(Arc::new(error)),
            }),
        }
    }

    /// The answer to everything after `first`, the failure that made the writer stop.
    pub fn failed(first: &Self) -> Self {
        if first.kind() == ErrorKind::Failed {
            return first.clone();
        }
        Self {
            inner: Arc::new(Inner {
                kind: ErrorKind::Failed,
                message: "an earlier write or sync failed, and nothing is acknowledged until the database is opened again (Db::reopen)"
                    .to_owned(),
                path: None,
                offset: None,
                source: Some(Arc::new(first.clone())),
            }),
        }
    }

    /// The answer to whoever holds a handle to a keyspace that is no more.
    pub(crate) fn dropped(keyspace: impl fmt::Debug) -> Self {
        Self::new(
            ErrorKind::Dropped,
            format!("keyspace {keyspace:?} was dropped: this handle to it can be used no more"),
        )
    }

    fn edit(self, change: impl FnOnce(&mut Inner)) -> Self {
        let mut inner = match Arc::try_unwrap(self.inner) {
            Ok(inner) => inner,
            Err(shared) => Inner {
                kind: shared.kind,
                message: shared.message.clone(),
                path: shared.path.clone(),
                offset: shared.offset,
                source: shared.source.clone(),
            },
        };
        change(&mut inner);
        Self { inner: Arc::new(inner) }
    }

    /// The same error, with the file it is about. A path that is already there stays.
    pub fn at(self, path: impl AsRef<Path>) -> Self {
        self.edit(|inner| {
            inner.path.get_or_insert_with(|| path.as_ref().to_owned());
        })
    }

    /// The same error, with the byte offset in its file. An offset that is already there stays.
    pub fn at_offset(self, offset: u64) -> Self {
        self.edit(|inner| {
            inner.offset.get_or_insert(offset);
        })
    }

    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        self.inner.kind
    }

    /// The file it is about, if one is.
    pub fn path(&self) -> Option<&Path> {
        self.inner.path.as_deref()
    }

    /// The byte offset in that file, if one is known.
    pub fn offset(&self) -> Option<u64> {
        self.inner.offset
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(path) = &self.inner.path {
            write!(f, "{}", path.display())?;
            if let Some(offset) = self.inner.offset {
                write!(f, " at byte {offset}")?;
            }
            write!(f, ": ")?;
        }
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

impl std::error::Error for Error {
    /// The system's own error, or the failure after which nothing is acknowledged any more.
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.inner.source {
            Some(source) => Some(&**source),
            None => None,
        }
    }
}

/// Whether there is no room left, on the device or for this user.
pub(crate) fn is_out_of_space(kind: std::io::ErrorKind) -> bool {
    matches!(kind, std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
}

/// Turns an [`std::io::Result`] into this crate's, saying what was being done and to which file.
pub(crate) trait IoContext<T> {
    /// `doing` completes "could not …".
    fn context(self, doing: &str, path: &Path) -> Result<T>;
}

impl<T> IoContext<T> for std::io::Result<T> {
    fn context(self, doing: &str, path: &Path) -> Result<T> {
        self.map_err(|error| Error::io(doing, error).at(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_names_file_and_offset() {
        let error = Error::corruption("block checksum differs").at("/db/7.table").at_offset(4096);
        assert_eq!(error.to_string(), "/db/7.table at byte 4096: block checksum differs");
        assert_eq!(error.kind(), ErrorKind::Corruption);
    }

    #[test]
    fn the_first_place_named_stays() {
        let error = Error::corruption("x").at("inner").at("outer");
        assert_eq!(error.path(), Some(Path::new("inner")));
    }

    #[test]
    fn the_systems_error_can_be_asked_for_whoever_else_has_the_error() {
        let error = Error::io("read", std::io::Error::from_raw_os_error(5));
        let failed = Error::failed(&error.clone().at("/db/7.table"));
        let first = std::error::Error::source(&failed).unwrap().downcast_ref::<Error>().unwrap();
        let system = std::error::Error::source(first).unwrap().downcast_ref::<std::io::Error>().unwrap();
        assert_eq!(system.raw_os_error(), Some(5));
    }

    #[test]
    fn a_full_device_is_its_own_kind() {
        let error = Error::io("write", std::io::Error::from(std::io::ErrorKind::StorageFull));
        assert_eq!(error.kind(), ErrorKind::OutOfSpace);
    }
}
