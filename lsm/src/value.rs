//! A key or value handed to the caller: immutable, cheap to clone, free of lifetimes.
//!
//! Short ones (30 bytes) lie in the handle itself. Longer ones are copied to an allocation of their own or, where they are a good part of
//! a decoded block, share the block: a caller who keeps a thousand small values must not keep a thousand blocks alive with them.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::{Deref, Range};
use std::sync::Arc;

use crate::block::Block;

const INLINE_BYTES_MAX: usize = 30;

/// A value below this part of its block (one in so many) is copied out rather than shared.
const SHARED_PART: usize = 8;

/// Immutable bytes; a clone costs no copy (or one of at most 30 bytes).
#[derive(Clone)]
pub struct Value {
    repr: Repr,
}

#[derive(Clone)]
enum Repr {
    Inline { length: u8, bytes: [u8; INLINE_BYTES_MAX] },
    Heap(Arc<[u8]>),
    Shared { block: Arc<[u8]>, start: u32, length: u32 },
}

const _: () = assert!(size_of::<Value>() == 32, "four words");

impl Value {
    /// No bytes.
    pub const fn new() -> Self {
        Self { repr: Repr::Inline { length: 0, bytes: [0; INLINE_BYTES_MAX] } }
    }

    /// The bytes of `range` in `block`, which the value keeps alive if it shares it; a range beyond its end gives none.
    pub fn from_block(block: &Block, range: Range<usize>) -> Self {
        let Some(bytes) = block.bytes().get(range.clone()) else {
            debug_assert!(false, "ranges in a block are checked where they are decoded");
            return Self::new();
        };
        if bytes.len() <= INLINE_BYTES_MAX || bytes.len() * SHARED_PART < block.bytes().len() {
            return Self::from(bytes);
        }
        match (u32::try_from(range.start), u32::try_from(bytes.len())) {
            (Ok(start), Ok(length)) => Self { repr: Repr::Shared { block: block.share(), start, length } },
            _ => Self::from(bytes),
        }
    }

    /// The bytes.
    #[inline]
    pub fn as_slice(&self) -> &[u8] {
        match &self.repr {
            Repr::Inline { length, bytes } => bytes.get(..usize::from(*length)).unwrap_or_default(),
            Repr::Heap(bytes) => bytes,
            Repr::Shared { block, start, length } => {
                let start = *start as usize;
                block.get(start..start + *length as usize).unwrap_or_default()
            }
        }
    }
}

/// A value where it lies: in a memtable that lives for `'a`, in a block that is kept for it, or in a handle.
#[derive(Clone, Debug)]
pub struct Lent<'a>(Lying<'a>);

#[derive(Clone, Debug)]
enum Lying<'a> {
    Memory(&'a [u8]),
    Block(Block, Range<usize>),
    Handle(Value),
}

impl<'a> Lent<'a> {
    /// Bytes that live long enough.
    #[inline]
    pub fn memory(bytes: &'a [u8]) -> Self {
        Self(Lying::Memory(bytes))
    }

    /// The bytes of `range` in `block`; a range beyond its end gives none.
    #[inline]
    pub fn block(block: Block, range: Range<usize>) -> Self {
        Self(Lying::Block(block, range))
    }

    /// A handle: a copy, or a share in the block.
    pub fn into_value(self) -> Value {
        match self.0 {
            Lying::Memory(bytes) => Value::from(bytes),
            Lying::Block(block, range) => Value::from_block(&block, range),
            Lying::Handle(value) => value,
        }
    }
}

impl From<Value> for Lent<'_> {
    fn from(value: Value) -> Self {
        Self(Lying::Handle(value))
    }
}

impl Deref for Lent<'_> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match &self.0 {
            Lying::Memory(bytes) => bytes,
            Lying::Block(block, range) => block.bytes().get(range.clone()).unwrap_or_default(),
            Lying::Handle(value) => value,
        }
    }
}

impl Default for Value {
    fn default() -> Self {
        Self::new()
    }
}

impl Deref for Value {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl AsRef<[u8]> for Value {
    #[inline]
    fn as_ref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl Borrow<[u8]> for Value {
    fn borrow(&self) -> &[u8] {
        self.as_slice()
    }
}

impl From<&[u8]> for Value {
    #[inline]
    fn from(source: &[u8]) -> Self {
        let mut bytes = [0; INLINE_BYTES_MAX];
        match (bytes.get_mut(..source.len()), u8::try_from(source.len())) {
            (Some(front), Ok(length)) => {
                front.copy_from_slice(source);
                Self { repr: Repr::Inline { length, bytes } }
            }
            _ => Self { repr: Repr::Heap(source.into()) },
        }
    }
}

impl<const N: usize> From<&[u8; N]> for Value {
    fn from(source: &[u8; N]) -> Self {
        Self::from(source.as_slice())
    }
}

impl From<Vec<u8>> for Value {
    fn from(source: Vec<u8>) -> Self {
        if source.len() <= INLINE_BYTES_MAX {
            return Self::from(source.as_slice());
        }
        Self { repr: Repr::Heap(source.into()) }
    }
}

impl From<Arc<[u8]>> for Value {
    fn from(source: Arc<[u8]>) -> Self {
        Self { repr: Repr::Heap(source) }
    }
}

impl From<Value> for Vec<u8> {
    fn from(value: Value) -> Self {
        value.to_vec()
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b\"{}\"", self.escape_ascii())
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl Eq for Value {}

impl PartialEq<[u8]> for Value {
    fn eq(&self, other: &[u8]) -> bool {
        self.as_slice() == other
    }
}

impl PartialEq<&[u8]> for Value {
    fn eq(&self, other: &&[u8]) -> bool {
        self.as_slice() == *other
    }
}

impl<const N: usize> PartialEq<&[u8; N]> for Value {
    fn eq(&self, other: &&[u8; N]) -> bool {
        self.as_slice() == *other
    }
}

impl PartialEq<Vec<u8>> for Value {
    fn eq(&self, other: &Vec<u8>) -> bool {
        self.as_slice() == other
    }
}

impl PartialOrd for Value {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Value {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_slice().cmp(other.as_slice())
    }
}

impl Hash for Value {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_slice().hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_comes_back() {
        for length in 0..64 {
            let bytes: Vec<u8> = (0..length).collect();
            assert_eq!(Value::from(bytes.as_slice()), bytes);
            assert_eq!(Value::from(bytes.clone()), bytes);
            assert_eq!(Value::from(Arc::<[u8]>::from(bytes.clone())), bytes);
            assert_eq!(Vec::from(Value::from(bytes.clone())), bytes);
        }
    }

    #[test]
    fn where_the_bytes_lie_makes_no_difference() {
        let short = Value::from(b"abc");
        let heap = Value::from(Arc::<[u8]>::from(b"abc".as_slice()));
        assert_eq!(short, heap);
        assert_eq!(short.cmp(&heap), Ordering::Equal);
        let larger = Value::from(b"abd");
        assert!(heap < larger);
    }

    #[test]
    fn debug_shows_the_bytes() {
        assert_eq!(format!("{:?}", Value::from(b"a\0\xff")), r#"b"a\x00\xff""#);
    }
}
