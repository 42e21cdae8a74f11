//! A target: a set of immutable objects, and who keeps them.
//!
//! The interface that a directory implements, and that S3 and sftp will. Puts are atomic and durable: when
//! [`Target::put`] returns, the whole object survives a power cut under its name, and no crash leaves a part of it there.
//! Nothing is changed in place.

pub mod fault;
pub mod local;
pub mod mem;
pub mod record;
pub mod url;

#[cfg(test)]
pub(crate) mod conformance;

use std::fmt;

use crate::error::{Error, ErrorKind, Result};

/// No object of any kind is longer, so that one read whole never takes more memory: 1 GiB. (What writers make is far below, see
/// `repository::layout`.)
pub const OBJECT_BYTES_MAX: u64 = 1 << 30;

/// Where objects wait that were moved out of the way of good ones.
pub const ASIDE_PREFIX: &str = "aside";

/// An object's name on a target: lower-case path segments joined by `/`, such as `packs/4f/4f03…`.
///
/// A key holds only `[a-z0-9._-]` and `/`, no empty segment and none that starts with a dot, so that it means the same on every
/// store and can never leave the target's folder.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey(String);

impl ObjectKey {
    /// The key with this text.
    ///
    /// # Errors
    /// Invalid argument if it breaks the rules above or is longer than 200 bytes.
    pub fn new(text: impl Into<String>) -> Result<Self> {
        let text = text.into();
        let good_byte = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
        let good = text.len() <= 200
            && text.split('/').all(|segment| {
                !segment.is_empty() && !segment.starts_with('.') && segment.bytes().all(good_byte)
            });
        if good {
            return Ok(Self(text));
        }
        Err(Error::new(ErrorKind::InvalidArgument, format!("{text:?} is no valid name of an object")))
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Where the object goes when it is set aside: `aside/KEY`, with `_` for `/`, and a number behind it unless that is zero.
    ///
    /// # Errors
    /// Invalid argument if the name would be too long.
    pub fn aside(&self, number: u32) -> Result<Self> {
        let flat = self.0.replace('/', "_");
        match number {
            0 => Self::new(format!("{ASIDE_PREFIX}/{flat}")),
            _ => Self::new(format!("{ASIDE_PREFIX}/{flat}.{number}")),
        }
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ObjectKey({})", self.0)
    }
}

/// What a listing says of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Its name.
    pub key: ObjectKey,
    /// Its length in bytes.
    pub length: u64,
}

/// Whether `key` lies within `prefix`: is it, or starts with its segments.
pub fn within_prefix(key: &str, prefix: &str) -> bool {
    prefix.is_empty() || key.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The calls that a target answers, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// [`Target::put`].
    Put,
    /// [`Target::put_new`].
    PutNew,
    /// [`Target::get`], [`Target::get_at_most`].
    Get,
    /// [`Target::get_range`].
    GetRange,
    /// [`Target::length`].
    Length,
    /// [`Target::list`].
    List,
    /// [`Target::delete`].
    Delete,
    /// [`Target::set_aside`].
    SetAside,
    /// [`Target::put_back`].
    PutBack,
}

/// A keeper of objects. Every error's kind is `Target`, `TargetFull`, `NotFound`, `AlreadyExists`, or `Damage` for what no object can
/// be (longer than [`OBJECT_BYTES_MAX`]); its sentence names the target and the object.
pub trait Target: Send + Sync + fmt::Debug {
    /// The URL or path that a person knows it by.
    fn url(&self) -> &str;
    /// Stores an object whose bytes are `parts`, one after the other: atomically and durably. An object with that name
    /// and that length is left as it is (names are hashes; a retry is harmless); one of another length is replaced
    /// by the new one, whole.
    fn put(&self, key: &ObjectKey, parts: &[&[u8]]) -> Result<()>;
    /// Stores an object only if none has its name, else an `AlreadyExists` error.
    fn put_new(&self, key: &ObjectKey, parts: &[&[u8]]) -> Result<()>;
    /// All bytes of an object.
    fn get(&self, key: &ObjectKey) -> Result<Vec<u8>>;
    /// All bytes of an object that is no longer than `limit`; `Damage` if it is longer, and no more of it than that is ever in memory. For whatever has a
    /// limit of its own: who can write to a target must not make its readers reserve a gigabyte for a mark of some hundred bytes.
    fn get_at_most(&self, key: &ObjectKey, limit: u64) -> Result<Vec<u8>> {
        let length = usize::try_from(limit.saturating_add(1)).unwrap_or(usize::MAX);
        let bytes = self.get_range(key, 0, length)?;
        if bytes.len() as u64 > limit { Err(too_long(self.url(), key, limit)) } else { Ok(bytes) }
    }
    /// `length` bytes from `offset`; a `NotFound` error if the object is missing, a shorter answer where it ends early.
    fn get_range(&self, key: &ObjectKey, offset: u64, length: usize) -> Result<Vec<u8>>;
    /// An object's length, or `None` if it is missing.
    fn length(&self, key: &ObjectKey) -> Result<Option<u64>>;
    /// Every object whose key starts with the segments of `prefix` (`"packs"`, `"segments/4f…"`, or `""` for all), in key order.
    fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>>;
    /// Removes an object; a missing one is fine.
    fn delete(&self, key: &ObjectKey) -> Result<()>;
    /// Moves an object out of the way, durably, to `aside/KEY` (`/` as `_`; numbered if taken), so that a good copy can take its
    /// name; returns where it is now.
    fn set_aside(&self, key: &ObjectKey) -> Result<ObjectKey>;
    /// Moves what was set aside back to `key`, durably, if nothing has its name; else an `AlreadyExists` error.
    fn put_back(&self, aside: &ObjectKey, key: &ObjectKey) -> Result<()>;
}

/// The error of an object that is longer than it can be.
fn too_long(url: &str, key: &ObjectKey, limit: u64) -> Error {
    Error::damage(format!("target {url}: {key}: it is longer than {limit} bytes, which no such object is"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_never_leaves_the_target() {
        for good in ["config", "packs/4f/4f03", "segments/ab/00-cd", "keys/a.removed"] {
            assert!(ObjectKey::new(good).is_ok(), "{good}");
        }
        for bad in ["", "/", "/a", "a/", "a//b", "..", "a/../b", ".hidden", "a/.b", "A", "a b", "a\\b", "a\0"]
        {
            assert!(ObjectKey::new(bad).is_err(), "{bad}");
        }
        assert!(ObjectKey::new("a".repeat(201)).is_err());
    }
}
