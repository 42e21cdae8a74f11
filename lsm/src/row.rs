//! How a keyspace keeps its entries; and where they have a fixed width: how wide, and their first eight bytes as a number.

use crate::error::{Error, ErrorKind, Result};
use crate::key::Kind;

/// Widest key of a keyspace with fixed widths, in bytes.
pub const FIXED_KEY_BYTES_MAX: usize = 256;

/// Widest value of a keyspace with fixed widths, in bytes.
pub const FIXED_VALUE_BYTES_MAX: usize = 1024;

/// How many bytes each key and each value of a keyspace has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Widths {
    key: u16,
    value: u16,
}

impl Widths {
    /// Keys of 1 to 256 bytes, values of 0 to 1,024.
    ///
    /// # Errors
    /// InvalidArgument beyond that.
    pub fn new(key_bytes: usize, value_bytes: usize) -> Result<Self> {
        let fits = (1..=FIXED_KEY_BYTES_MAX).contains(&key_bytes) && value_bytes <= FIXED_VALUE_BYTES_MAX;
        match (fits, u16::try_from(key_bytes), u16::try_from(value_bytes)) {
            (true, Ok(key), Ok(value)) => Ok(Self { key, value }),
            _ => Err(Error::new(
                ErrorKind::InvalidArgument,
                format!(
                    "entries of {key_bytes} + {value_bytes} bytes: fixed keys have 1 to {FIXED_KEY_BYTES_MAX} bytes, values at most \
                     {FIXED_VALUE_BYTES_MAX}; use a sorted keyspace for others"
                ),
            )),
        }
    }

    /// Bytes of a key.
    #[inline]
    pub fn key(self) -> usize {
        usize::from(self.key)
    }

    /// Bytes of a value.
    #[inline]
    pub fn value(self) -> usize {
        usize::from(self.value)
    }

    /// Whether an entry has these widths; the value of a deletion is not looked at.
    ///
    /// # Errors
    /// InvalidArgument, which names both widths.
    pub fn check(self, key: &[u8], value: &[u8], kind: Kind) -> Result<()> {
        if key.len() != self.key() {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                format!("a key of {} bytes in a keyspace whose keys have {}", key.len(), self.key),
            ));
        }
        if kind == Kind::Put && value.len() != self.value() {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                format!("a value of {} bytes in a keyspace whose values have {}", value.len(), self.value),
            ));
        }
        Ok(())
    }
}

/// How a keyspace keeps its entries: its identity, which is decided when it is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyspaceKind {
    /// Keys and values of any length, in order, in prefix-compressed blocks.
    Sorted,
    /// Keys and values of these widths, best where keys are spread evenly (hashes); found by computing where they are.
    Fixed(Widths),
}

impl std::fmt::Display for KeyspaceKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Sorted => f.write_str("sorted"),
            Self::Fixed(widths) => write!(f, "fixed, {} + {} bytes", widths.key, widths.value),
        }
    }
}

/// The first eight bytes of a key as a big-endian number, zeros behind its end. Where two differ they order as the keys do; where they are
/// equal, what follows the eight bytes decides.
#[inline]
pub fn prefix(key: &[u8]) -> u64 {
    match key.first_chunk::<8>() {
        Some(bytes) => u64::from_be_bytes(*bytes),
        None => short_prefix(key),
    }
}

#[cold]
fn short_prefix(key: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    for (to, from) in bytes.iter_mut().zip(key) {
        *to = *from;
    }
    u64::from_be_bytes(bytes)
}

/// What follows the first eight bytes of a key.
#[inline]
pub fn tail(key: &[u8]) -> &[u8] {
    key.get(8..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_have_limits() {
        assert_eq!(Widths::new(32, 24).unwrap().key(), 32);
        for (key, value) in [(0, 1), (257, 1), (1, 1025), (1 << 20, 0), (1, 1 << 40)] {
            assert_eq!(Widths::new(key, value).unwrap_err().kind(), ErrorKind::InvalidArgument);
        }
        let widths = Widths::new(4, 2).unwrap();
        widths.check(b"abcd", b"xy", Kind::Put).unwrap();
        widths.check(b"abcd", b"", Kind::Delete).unwrap();
        assert!(widths.check(b"abc", b"xy", Kind::Put).is_err());
        assert!(widths.check(b"abcd", b"", Kind::Put).is_err());
        assert!(widths.check(b"abcde", b"", Kind::Delete).is_err());
    }

    #[test]
    fn prefixes_order_as_keys() {
        let keys: [&[u8]; 5] = [b"\0", b"a", b"ab", b"abcdefgh", b"abcdefgi"];
        for pair in keys.windows(2) {
            assert!(prefix(pair[0]) < prefix(pair[1]));
        }
        assert_eq!(prefix(b"abcdefghZ"), prefix(b"abcdefgh"));
        assert_eq!((tail(b"abcdefghZ"), tail(b"abc")), (&b"Z"[..], &b""[..]));
    }
}
