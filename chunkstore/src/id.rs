//! Ids as types: what they are made of, how they are written as text.
//!
//! 256-bit names are hashes: [`ObjectHash`] of an object's bytes, unkeyed, so that anyone can check it; [`ChunkId`] and
//! [`ListId`] of contents, keyed with a secret of the repository, so that an outsider cannot test whether a known
//! file is stored. 128-bit ids are random, or derived by a keyed hash where both ends can compute them: such an id needs no
//! byte in a segment (FORMAT.md, derived ids).

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, ErrorKind};

fn hex_digits(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for byte in bytes {
        write!(f, "{byte:02x}")?;
    }
    Ok(())
}

fn parse_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let mut bytes = [0u8; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let [high, low] = pair else { return None };
        let digit = |c: u8| match c {
            b'0'..=b'9' => Some(c - b'0'),
            b'a'..=b'f' => Some(c - b'a' + 10),
            _ => None,
        };
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(bytes)
}

macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident, $bytes:literal, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name([u8; $bytes]);

        impl $name {
            /// Its length in bytes.
            pub const BYTES: usize = $bytes;

            /// The id with these bytes.
            pub const fn from_bytes(bytes: [u8; $bytes]) -> Self {
                Self(bytes)
            }

            /// Its bytes.
            pub const fn as_bytes(&self) -> &[u8; $bytes] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                hex_digits(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self, Error> {
                parse_hex(text).map(Self).ok_or_else(|| {
                    Error::new(
                        ErrorKind::InvalidArgument,
                        format!(concat!("{:?} is not ", $what, " (", stringify!($bytes), " bytes as lower-case hexadecimal digits)"), text),
                    )
                })
            }
        }
    };
}

id_type!(
    /// BLAKE3 of an object's bytes: its name on every target.
    ObjectHash, 32, "an object's hash"
);
id_type!(
    /// Keyed BLAKE3 of a chunk's bytes.
    ChunkId, 32, "a chunk id"
);
id_type!(
    /// Keyed BLAKE3 of an encoded list of chunk ids or list ids.
    ListId, 32, "a list id"
);
id_type!(
    /// A repository: random, made by `init`, the same on all of its targets.
    RepositoryId, 16, "a repository id"
);
id_type!(
    /// A writer: one engine instance and its log; random.
    WriterId, 16, "a writer id"
);
id_type!(
    /// A writer at work: random, unique for each run.
    IntentId, 16, "an intent id"
);
id_type!(
    /// A snapshot: random.
    SnapshotId, 16, "a snapshot id"
);
id_type!(
    /// One host's one set of roots: derived from both by a keyed hash; random for one that begins afresh.
    TimelineId, 16, "a timeline id"
);
id_type!(
    /// A File: a UUID (version 8, derived at birth); stays the same when the file is renamed.
    FileId, 16, "a File's id"
);
id_type!(
    /// A Version of a File: a UUID (version 8), derived from timeline, entry key and snapshot number.
    VersionId, 16, "a Version's id"
);

macro_rules! random_id {
    ($($name:ident),*) => {$(
        impl $name {
            /// A fresh random id.
            ///
            /// # Errors
            /// If the system has no randomness to give.
            pub fn random() -> Result<Self, Error> {
                let mut bytes = [0u8; 16];
                getrandom::fill(&mut bytes)
                    .map_err(|error| Error::new(ErrorKind::Local, format!("the system gives no random bytes: {error}")))?;
                Ok(Self(bytes))
            }
        }
    )*};
}

random_id!(RepositoryId, WriterId, IntentId, SnapshotId, TimelineId);

macro_rules! uuid_id {
    ($($name:ident),*) => {$(
        impl $name {
            /// The id as the UUID that it is, to be shown.
            pub fn uuid(&self) -> uuid::Uuid {
                uuid::Uuid::from_bytes(self.0)
            }
        }
    )*};
}

uuid_id!(FileId, VersionId);

impl ObjectHash {
    /// The name of an object made of `parts`, one after the other.
    pub fn of(parts: &[&[u8]]) -> Self {
        let mut hasher = blake3::Hasher::new();
        for part in parts {
            hasher.update(part);
        }
        Self(*hasher.finalize().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back() {
        let id = ObjectHash::of(&[b"a", b"bc"]);
        assert_eq!(id, ObjectHash::of(&[b"abc"]));
        assert_eq!(id.to_string().parse::<ObjectHash>().unwrap(), id);
        for bad in ["", "0", "zz", &"A".repeat(64), &"é".repeat(32)] {
            assert!(bad.parse::<ObjectHash>().is_err(), "{bad}");
        }
    }
}
