//! The names of a repository's objects on a target (FORMAT.md, "Objects and names"). No other module makes or reads such a name.

use std::fmt;

use crate::id::{IntentId, ObjectHash, WriterId};
use crate::target::{ASIDE_PREFIX, ObjectKey, within_prefix};

/// Prefix of the wrapped keys and their removal records.
pub const KEYS: &str = "keys";
/// Prefix of the packs.
pub const PACKS: &str = "packs";
/// Prefix of the segments.
pub const SEGMENTS: &str = "segments";
/// Prefix of the marks of completeness.
pub const COMPLETE: &str = "complete";
/// Prefix of the intents.
pub const INTENTS: &str = "intents";
/// Prefix that is kept free for ranges and parity beside packs and segments.
pub const SIDECARS: &str = "sidecars";

/// Config, keys, marks and intents are no longer than this: 1 MiB. Real ones have some hundred bytes.
pub const SMALL_OBJECT_BYTES_MAX: u64 = 1 << 20;
/// A segment is no longer than this: 64 MiB.
pub const SEGMENT_BYTES_MAX: u64 = 64 << 20;
/// A pack is no longer than this: 512 MiB, far above every sensible target size, far below what would hurt to read whole.
pub const PACK_BYTES_MAX: u64 = 512 << 20;

/// What an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ObjectKind {
    /// The config.
    Config,
    /// A master secret wrapped under a password.
    Key,
    /// The record that a key was removed.
    KeyRemoval,
    /// A pack of frames.
    Pack,
    /// A piece of a writer's log.
    Segment,
    /// A mark of completeness.
    Complete,
    /// A writer at work.
    Intent,
}

impl ObjectKind {
    /// No good object of this kind is longer.
    pub fn bytes_max(self) -> u64 {
        match self {
            Self::Pack => PACK_BYTES_MAX,
            Self::Segment => SEGMENT_BYTES_MAX,
            Self::Config | Self::Key | Self::KeyRemoval | Self::Complete | Self::Intent => {
                SMALL_OBJECT_BYTES_MAX
            }
        }
    }
}

impl fmt::Display for ObjectKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Config => "config",
            Self::Key => "key",
            Self::KeyRemoval => "removal of a key",
            Self::Pack => "pack",
            Self::Segment => "segment",
            Self::Complete => "mark of completeness",
            Self::Intent => "intent",
        })
    }
}

/// An object's name with its meaning.
///
/// The order is the order in which objects are copied, so that each stands on what is durable already: whoever finds a segment finds its
/// packs, whoever finds a mark of completeness finds its segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ObjectName {
    /// `config`
    Config,
    /// `keys/HASH.removed`: the key with that hash was removed and must not come back.
    KeyRemoval(ObjectHash),
    /// `keys/HASH`
    Key(ObjectHash),
    /// `packs/XX/HASH`, where `XX` are the first two digits of the hash.
    Pack(ObjectHash),
    /// `segments/WRITER/SEQUENCE-HASH`
    Segment {
        /// Whose log it belongs to.
        writer: WriterId,
        /// Its place in that log.
        sequence: u64,
        /// BLAKE3 of its bytes.
        hash: ObjectHash,
    },
    /// `complete/WRITER/SEQUENCE`
    Complete {
        /// Whose log it speaks of.
        writer: WriterId,
        /// Up to which segment of that log.
        sequence: u64,
    },
    /// `intents/ID`
    Intent(IntentId),
}

impl ObjectName {
    /// What it is.
    pub fn kind(&self) -> ObjectKind {
        match self {
            Self::Config => ObjectKind::Config,
            Self::Key(_) => ObjectKind::Key,
            Self::KeyRemoval(_) => ObjectKind::KeyRemoval,
            Self::Pack(_) => ObjectKind::Pack,
            Self::Segment { .. } => ObjectKind::Segment,
            Self::Complete { .. } => ObjectKind::Complete,
            Self::Intent(_) => ObjectKind::Intent,
        }
    }

    /// The hash of its bytes, where the name holds it.
    pub fn hash(&self) -> Option<ObjectHash> {
        match self {
            Self::Key(hash) | Self::Pack(hash) | Self::Segment { hash, .. } => Some(*hash),
            Self::Config | Self::KeyRemoval(_) | Self::Complete { .. } | Self::Intent(_) => None,
        }
    }

    /// The name as a target knows it.
    pub fn key(&self) -> ObjectKey {
        ObjectKey::new(self.to_string())
            .expect("digits, prefixes and at most 123 bytes break no rule of keys")
    }

    /// The meaning of a target's key; `None` for what is no object of this format.
    pub fn parse(key: &ObjectKey) -> Option<Self> {
        let name = Self::parse_text(key.as_str())?;
        // One object, one name: whatever would be written otherwise is not this object.
        (name.to_string() == key.as_str()).then_some(name)
    }

    /// Which object was set aside under that key (see [`ObjectKey::aside`]); `None` if it is no such key.
    pub fn parse_aside(key: &ObjectKey) -> Option<Self> {
        let flat = key.as_str().strip_prefix(ASIDE_PREFIX)?.strip_prefix('/')?;
        // No name has an underscore of its own.
        let name = |flat: &str| Self::parse(&ObjectKey::new(flat.replace('_', "/")).ok()?);
        name(flat).or_else(|| {
            let (flat, number) = flat.rsplit_once('.')?;
            number.parse::<u32>().ok()?;
            name(flat)
        })
    }

    fn parse_text(text: &str) -> Option<Self> {
        let mut segments = text.split('/');
        let (first, second, third) = (segments.next()?, segments.next(), segments.next());
        if segments.next().is_some() {
            return None;
        }
        match (first, second, third) {
            ("config", None, None) => Some(Self::Config),
            (KEYS, Some(name), None) => match name.strip_suffix(".removed") {
                Some(hash) => Some(Self::KeyRemoval(hash.parse().ok()?)),
                None => Some(Self::Key(name.parse().ok()?)),
            },
            (PACKS, Some(_), Some(hash)) => Some(Self::Pack(hash.parse().ok()?)),
            (SEGMENTS, Some(writer), Some(name)) => {
                let (sequence, hash) = name.split_once('-')?;
                let sequence = parse_sequence(sequence)?;
                Some(Self::Segment { writer: writer.parse().ok()?, sequence, hash: hash.parse().ok()? })
            }
            (COMPLETE, Some(writer), Some(sequence)) => {
                Some(Self::Complete { writer: writer.parse().ok()?, sequence: parse_sequence(sequence)? })
            }
            (INTENTS, Some(id), None) => Some(Self::Intent(id.parse().ok()?)),
            _ => None,
        }
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config => f.write_str("config"),
            Self::Key(hash) => write!(f, "{KEYS}/{hash}"),
            Self::KeyRemoval(hash) => write!(f, "{KEYS}/{hash}.removed"),
            Self::Pack(hash) => write!(f, "{PACKS}/{:02x}/{hash}", hash.as_bytes()[0]),
            Self::Segment { writer, sequence, hash } => {
                write!(f, "{SEGMENTS}/{writer}/{sequence:016x}-{hash}")
            }
            Self::Complete { writer, sequence } => write!(f, "{COMPLETE}/{writer}/{sequence:016x}"),
            Self::Intent(id) => write!(f, "{INTENTS}/{id}"),
        }
    }
}

/// The prefix of one writer's segments, for a listing.
pub fn segments_of(writer: WriterId) -> String {
    format!("{SEGMENTS}/{writer}")
}

/// The prefix of one writer's marks of completeness, for a listing.
pub fn complete_of(writer: WriterId) -> String {
    format!("{COMPLETE}/{writer}")
}

/// Whether a key lies in a place that later versions may fill and this one leaves alone.
pub fn is_kept_for_later(key: &ObjectKey) -> bool {
    within_prefix(key.as_str(), SIDECARS)
}

fn parse_sequence(digits: &str) -> Option<u64> {
    let plain = digits.len() == 16 && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if plain { u64::from_str_radix(digits, 16).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn names() -> impl Strategy<Value = ObjectName> {
        let hash = any::<[u8; 32]>().prop_map(ObjectHash::from_bytes);
        let id = any::<[u8; 16]>();
        prop_oneof![
            Just(ObjectName::Config),
            hash.clone().prop_map(ObjectName::Key),
            hash.clone().prop_map(ObjectName::KeyRemoval),
            hash.clone().prop_map(ObjectName::Pack),
            (id, any::<u64>(), hash).prop_map(|(id, sequence, hash)| ObjectName::Segment {
                writer: WriterId::from_bytes(id),
                sequence,
                hash
            }),
            (id, any::<u64>()).prop_map(|(id, sequence)| ObjectName::Complete {
                writer: WriterId::from_bytes(id),
                sequence
            }),
            id.prop_map(|id| ObjectName::Intent(IntentId::from_bytes(id))),
        ]
    }

    proptest! {
        #[test]
        fn names_come_back(name in names()) {
            prop_assert_eq!(ObjectName::parse(&name.key()), Some(name));
            for number in [0, 1, u32::MAX] {
                prop_assert_eq!(ObjectName::parse_aside(&name.key().aside(number).unwrap()), Some(name));
            }
        }
    }

    #[test]
    fn everything_else_is_no_object() {
        let hash = "ab".repeat(32);
        let writer = "01".repeat(16);
        for bad in [
            "configs".to_owned(),
            "config/x".into(),
            "keys".into(),
            format!("keys/{hash}.gone"),
            format!("keys/{hash}/x"),
            format!("packs/{hash}"),
            format!("packs/cd/{hash}"),
            format!("packs/ab/{hash}/x"),
            format!("segments/{writer}/1-{hash}"),
            format!("segments/{writer}/{:016}-{}", 1, &hash[2..]),
            format!("complete/{writer}/1"),
            format!("intents/{hash}"),
            format!("sidecars/{hash}"),
            "aside/config".into(),
        ] {
            assert_eq!(ObjectName::parse(&ObjectKey::new(bad.clone()).unwrap()), None, "{bad}");
        }
    }
}
