//! Entry keys: a path as bytes whose order is the order of a walk.
//!
//! The key of `/a/b/c` is each component of its parent ended by 00, then 00, then its name and 00: `a 00 b 00 00 c 00`. No name holds a
//! 00, so:
//!
//! - the children of a directory are one range: its components, then 00;
//! - what is below a directory is one range: its components (for `/`, everything but `/` itself);
//! - the order is that of a walk which emits a directory's entries sorted by name, then enters its subdirectories in the same order: a 00 after
//!   the parent sorts before every component that goes deeper. So a backup is a merge of two streams that are both in order, and nothing
//!   is looked up at random;
//! - no key is a prefix of another.
//!
//! `/` itself has the key `00 00`: no parent, an empty name; it sorts before everything. Bytes: FORMAT.md, entry keys.

use std::ffi::OsStr;
use std::fmt;
use std::ops::Bound;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind, Result};

/// The longest key, in bytes. Deeper than any tree that a person made (245 directories with names of the longest kind), well within what the
/// engine takes as a key with the snapshot's number around it.
pub const ENTRY_KEY_BYTES_MAX: usize = 62 * 1024;

/// An entry's place: its absolute path in the order of a walk.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntryKey(Vec<u8>);

/// What the keys of a directory's own entries begin with: for who makes many of them.
#[derive(Clone, Debug)]
pub(crate) struct KeyPrefix(Vec<u8>);

impl KeyPrefix {
    /// The key of the entry `name`.
    ///
    /// # Errors
    /// As [`EntryKey::child`].
    pub(crate) fn with_name(&self, name: &[u8]) -> Result<EntryKey> {
        check_name(name).map_err(|why| invalid(name, why))?;
        let mut bytes = Vec::with_capacity(self.0.len() + name.len() + 1);
        bytes.extend_from_slice(&self.0);
        bytes.extend_from_slice(name);
        bytes.push(0);
        EntryKey::checked(bytes)
    }
}

/// A range of entry keys: from the first, inclusive, to before the second; unbounded where `None`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRange {
    /// The first key's bytes, or a prefix of it.
    pub start: Vec<u8>,
    /// Bytes behind the last key; `None`: to the end.
    pub end: Option<Vec<u8>>,
}

impl KeyRange {
    /// Every key.
    pub fn all() -> Self {
        Self { start: Vec::new(), end: None }
    }

    /// Whether `key` lies in it.
    pub fn contains(&self, key: &EntryKey) -> bool {
        key.0.as_slice() >= self.start.as_slice()
            && self.end.as_ref().is_none_or(|end| key.0.as_slice() < end.as_slice())
    }

    /// The bounds of the keys that begin with `front` and go on with a key of this range.
    pub fn behind(&self, front: &[u8]) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
        let start = [front, &self.start].concat();
        let end = match &self.end {
            Some(end) => Bound::Excluded([front, end].concat()),
            None => match after_prefix(front) {
                Some(end) => Bound::Excluded(end),
                None => Bound::Unbounded,
            },
        };
        (Bound::Included(start), end)
    }
}

/// The first bytes that sort behind everything that starts with `prefix`, if there are any.
pub fn after_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if let Some(next) = last.checked_add(1) {
            end.push(next);
            return Some(end);
        }
    }
    None
}

fn invalid(path: &[u8], why: &str) -> Error {
    Error::new(ErrorKind::InvalidArgument, format!("{}: {why}", String::from_utf8_lossy(path)))
}

impl EntryKey {
    /// The key of `/`.
    pub fn root() -> Self {
        Self(vec![0, 0])
    }

    /// The key of an absolute path. Doubled slashes and `.` count for nothing.
    ///
    /// # Errors
    /// Invalid argument if the path is not absolute, holds `..` or a zero byte, or is too long.
    pub fn from_path(path: impl AsRef<Path>) -> Result<Self> {
        Self::from_path_bytes(path.as_ref().as_os_str().as_bytes())
    }

    /// The key of an absolute path given as bytes: as [`EntryKey::from_path`].
    ///
    /// # Errors
    /// As [`EntryKey::from_path`].
    pub fn from_path_bytes(path: &[u8]) -> Result<Self> {
        let Some((b'/', relative)) = path.split_first() else {
            return Err(invalid(path, "not an absolute path"));
        };
        let components: Vec<&[u8]> = relative
            .split(|byte| *byte == b'/')
            .filter(|component| !component.is_empty() && *component != b".")
            .collect();
        Self::from_components(&components)
    }

    /// The key of the entry that is reached from `/` through `components`, the last one its name; none: `/` itself.
    ///
    /// # Errors
    /// Invalid argument if a component is empty, `.` or `..`, or holds a zero byte or a slash, or the whole is too long.
    pub fn from_components(components: &[&[u8]]) -> Result<Self> {
        for component in components {
            check_name(component).map_err(|why| invalid(component, why))?;
        }
        let Some((name, parents)) = components.split_last() else { return Ok(Self::root()) };
        let mut bytes = Vec::with_capacity(components.iter().map(|c| c.len() + 1).sum::<usize>() + 1);
        for parent in parents {
            bytes.extend_from_slice(parent);
            bytes.push(0);
        }
        bytes.push(0);
        bytes.extend_from_slice(name);
        bytes.push(0);
        Self::checked(bytes)
    }

    /// The key of the entry `name` in this directory.
    ///
    /// # Errors
    /// Invalid argument as for a component, or if the whole is too long.
    pub fn child(&self, name: &[u8]) -> Result<Self> {
        self.prefix().with_name(name)
    }

    /// What the keys of this directory's entries begin with.
    pub(crate) fn prefix(&self) -> KeyPrefix {
        let mut bytes = Vec::with_capacity(self.0.len() + 1);
        self.put_components(&mut bytes);
        bytes.push(0);
        KeyPrefix(bytes)
    }

    fn checked(bytes: Vec<u8>) -> Result<Self> {
        if bytes.len() > ENTRY_KEY_BYTES_MAX {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                format!("a path of {} bytes is too long: {ENTRY_KEY_BYTES_MAX} at most", bytes.len()),
            ));
        }
        Ok(Self(bytes))
    }

    /// The key with these bytes, if they are one.
    ///
    /// # Errors
    /// Damage if they are not.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        Self::from_vec(bytes.to_vec())
    }

    /// The key made of these bytes, if they are one.
    ///
    /// # Errors
    /// Damage if they are not.
    pub fn from_vec(bytes: Vec<u8>) -> Result<Self> {
        match check(&bytes) {
            Ok(()) => Ok(Self(bytes)),
            Err(why) => Err(Error::damage(format!("an entry key: {why}"))),
        }
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether it is the key of `/`.
    pub fn is_root(&self) -> bool {
        self.0 == [0, 0]
    }

    /// Parent's components with their 00s, and the name; empty both for `/`.
    fn split(&self) -> (&[u8], &[u8]) {
        // A key ends with 00, name, 00 and neither name nor components hold a 00: the name begins behind the last 00 but one.
        let body = self.0.strip_suffix(&[0]).unwrap_or(&self.0);
        match body.iter().rposition(|byte| *byte == 0) {
            Some(place) => {
                let (parent, name) = body.split_at(place);
                (parent, name.strip_prefix(&[0]).unwrap_or(name))
            }
            None => (&[], body),
        }
    }

    /// The components from `/` to here; none for `/`.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        let (parent, name) = self.split();
        parent.split(|byte| *byte == 0).chain([name]).filter(|component| !component.is_empty())
    }

    /// Its name; empty for `/`.
    pub fn name(&self) -> &[u8] {
        self.split().1
    }

    /// The directory that holds it; `None` for `/`.
    pub fn parent(&self) -> Option<Self> {
        let (parent, name) = self.split();
        if name.is_empty() {
            return None;
        }
        let Some(inner) = parent.strip_suffix(&[0]) else { return Some(Self::root()) };
        let place = inner.iter().rposition(|byte| *byte == 0).map_or(0, |place| place + 1);
        let (front, name) = inner.split_at_checked(place).unwrap_or((&[], inner));
        Some(Self([front, &[0], name, &[0]].concat()))
    }

    /// How many components lead here: 0 for `/`.
    pub fn depth(&self) -> usize {
        self.components().count()
    }

    /// The absolute path as bytes.
    pub fn path_bytes(&self) -> Vec<u8> {
        let mut path = Vec::with_capacity(self.0.len());
        for component in self.components() {
            path.push(b'/');
            path.extend_from_slice(component);
        }
        if path.is_empty() {
            path.push(b'/');
        }
        path
    }

    /// The absolute path.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(OsStr::from_bytes(&self.path_bytes()))
    }

    fn put_components(&self, out: &mut Vec<u8>) {
        let (parent, name) = self.split();
        if !name.is_empty() {
            out.extend_from_slice(parent);
            out.extend_from_slice(name);
            out.push(0);
        }
    }

    /// The range of the entries directly in this directory.
    pub fn children(&self) -> KeyRange {
        let mut start = Vec::new();
        self.put_components(&mut start);
        start.push(0);
        if self.is_root() {
            // `00 00` is `/` itself; a name's first byte is at least 01.
            return KeyRange { start: vec![0, 1], end: Some(vec![1]) };
        }
        let end = after_prefix(&start);
        KeyRange { start, end }
    }

    /// The range of everything below this directory, itself not among it.
    pub fn below(&self) -> KeyRange {
        if self.is_root() {
            return KeyRange { start: vec![0, 1], end: None };
        }
        let mut start = Vec::new();
        self.put_components(&mut start);
        let end = after_prefix(&start);
        KeyRange { start, end }
    }

    /// The range of this one key.
    pub fn only(&self) -> KeyRange {
        KeyRange { start: self.0.clone(), end: after_prefix(&self.0) }
    }

    /// Whether this entry is `other` or lies below it.
    pub fn is_within(&self, other: &Self) -> bool {
        self == other || other.below().contains(self)
    }
}

/// Why these bytes are no name of an entry.
fn check_name(name: &[u8]) -> Result<(), &'static str> {
    match name {
        [] => Err("an empty name"),
        b"." | b".." => Err("a name that means another directory"),
        _ if name.iter().any(|byte| matches!(byte, 0 | b'/')) => Err("a zero byte or a slash in a name"),
        _ => Ok(()),
    }
}

fn check(bytes: &[u8]) -> Result<(), &'static str> {
    if bytes.len() > ENTRY_KEY_BYTES_MAX {
        return Err("too long");
    }
    let mut rest = bytes;
    loop {
        let Some(place) = rest.iter().position(|byte| *byte == 0) else { return Err("does not end with 00") };
        let (component, behind) = rest.split_at(place);
        rest = behind.strip_prefix(&[0]).unwrap_or(behind);
        if component.is_empty() {
            break;
        }
        check_name(component)?;
    }
    let Some(name) = rest.strip_suffix(&[0]) else { return Err("does not end with 00") };
    if name.is_empty() && bytes == [0, 0] {
        return Ok(());
    }
    check_name(name)
}

impl fmt::Display for EntryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&crate::shown::show(&self.path_bytes()))
    }
}

impl fmt::Debug for EntryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EntryKey({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    fn key(path: &str) -> EntryKey {
        EntryKey::from_path(path).unwrap()
    }

    #[test]
    fn the_bytes_are_as_specified() {
        assert_eq!(key("/").as_bytes(), [0, 0]);
        assert_eq!(key("/a").as_bytes(), b"\0a\0");
        assert_eq!(key("/a/b/c").as_bytes(), b"a\0b\0\0c\0");
        assert_eq!(key("//a/./b//"), key("/a/b"));
        assert_eq!(key("/a/b").path(), Path::new("/a/b"));
        assert_eq!(key("/").path(), Path::new("/"));
        assert_eq!(key("/").parent(), None);
        assert_eq!(key("/a").parent(), Some(EntryKey::root()));
        assert_eq!(key("/a/b/c").parent(), Some(key("/a/b")));
        assert_eq!(key("/a/b/c").name(), b"c");
        assert_eq!(key("/a/b/c").depth(), 3);
        assert!(key("/a/b").is_within(&key("/")) && key("/").is_within(&key("/")));
        assert!(key("/a/b").is_within(&key("/a")) && !key("/ab").is_within(&key("/a")));
    }

    #[test]
    fn what_is_no_path_is_refused() {
        for bad in ["", "a", "/a/../b", "/..", "/a\0b"] {
            assert_eq!(EntryKey::from_path(bad).unwrap_err().kind(), ErrorKind::InvalidArgument, "{bad:?}");
        }
        assert!(EntryKey::from_path(format!("/{}", "a/".repeat(40_000))).is_err());
        assert!(key("/a").child(b"x/y").is_err());
        assert!(key("/a").child(b"").is_err());
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for bad in [
            &b""[..],
            b"\0",
            b"a",
            b"a\0",
            b"a\0\0",
            b"a\0\0\0",
            b"\0\0\0",
            b"\0a",
            b"\0a\0\0",
            b"\0.\0",
            b"..\0\0a\0",
            b"a/b\0\0c\0",
        ] {
            assert_eq!(EntryKey::from_bytes(bad).unwrap_err().kind(), ErrorKind::Damage, "{bad:?}");
        }
    }

    fn name() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![Just(1u8), Just(b'a'), Just(b'b'), Just(255u8), Just(b'.'), Just(b'-')];
        proptest::collection::vec(byte, 1..3).prop_filter("dots", |name| check_name(name).is_ok())
    }

    fn path() -> impl Strategy<Value = Vec<Vec<u8>>> {
        proptest::collection::vec(name(), 0..4)
    }

    fn of(path: &[Vec<u8>]) -> EntryKey {
        EntryKey::from_components(&path.iter().map(Vec::as_slice).collect::<Vec<_>>()).unwrap()
    }

    /// Emits a directory's entries sorted, then enters them in the same order.
    fn walk(tree: &BTreeMap<Vec<Vec<u8>>, BTreeSet<Vec<u8>>>, at: &[Vec<u8>], out: &mut Vec<Vec<Vec<u8>>>) {
        let Some(names) = tree.get(at) else { return };
        let paths = names.iter().map(|name| [at, std::slice::from_ref(name)].concat());
        out.extend(paths.clone());
        for path in paths {
            walk(tree, &path, out);
        }
    }

    proptest! {
        #[test]
        fn keys_come_back(path in path()) {
            let key = of(&path);
            prop_assert_eq!(key.components().map(<[u8]>::to_vec).collect::<Vec<_>>(), path.clone());
            prop_assert_eq!(&EntryKey::from_bytes(key.as_bytes()).unwrap(), &key);
            prop_assert_eq!(&EntryKey::from_path(key.path()).unwrap(), &key);
            prop_assert_eq!(key.depth(), path.len());
            if let Some((name, parent)) = path.split_last() {
                prop_assert_eq!(key.parent().unwrap(), of(parent));
                prop_assert_eq!(of(parent).child(name).unwrap(), key);
            }
        }

        #[test]
        fn the_order_is_that_of_a_walk(paths in proptest::collection::vec(path(), 0..40)) {
            let mut tree: BTreeMap<Vec<Vec<u8>>, BTreeSet<Vec<u8>>> = BTreeMap::new();
            for path in &paths {
                for length in 1..=path.len() {
                    tree.entry(path[..length - 1].to_vec()).or_default().insert(path[length - 1].clone());
                }
            }
            let mut walked = vec![Vec::new()];
            walk(&tree, &[], &mut walked);
            let keys: Vec<EntryKey> = walked.iter().map(|path| of(path)).collect();
            prop_assert!(keys.is_sorted());
            for directory in &walked {
                let directory_key = of(directory);
                let (children, below) = (directory_key.children(), directory_key.below());
                for (path, key) in walked.iter().zip(&keys) {
                    let is_child = path.len() == directory.len() + 1 && path.starts_with(directory);
                    let is_below = path.len() > directory.len() && path.starts_with(directory);
                    prop_assert_eq!(children.contains(key), is_child);
                    prop_assert_eq!(below.contains(key), is_below);
                    prop_assert_eq!(key.is_within(&directory_key), is_below || key == &directory_key);
                    prop_assert_eq!(directory_key.only().contains(key), key == &directory_key);
                }
            }
        }

        #[test]
        fn no_key_is_a_prefix_of_another(a in path(), b in path()) {
            let (a, b) = (of(&a), of(&b));
            prop_assert!(a == b || !b.as_bytes().starts_with(a.as_bytes()));
        }

        #[test]
        fn arbitrary_bytes_are_a_key_or_an_error(bytes in proptest::collection::vec(prop_oneof![Just(0u8), Just(b'a'), any::<u8>()], 0..12)) {
            if let Ok(key) = EntryKey::from_bytes(&bytes) {
                prop_assert_eq!(EntryKey::from_path(key.path()).unwrap(), key);
            }
        }
    }
}
