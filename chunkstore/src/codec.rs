//! Reading and writing the integers, varints and slices of objects: the engine's codec, whose errors mean *damage* here.
//!
//! The engine's own errors turn into "the local catalog failed" on their way up; what fails to decode here came from a
//! target, so each of these calls gives [`ErrorKind::Damage`](crate::ErrorKind::Damage) and names the field.

pub use lsm::codec::{put_slice, put_varint};

use crate::error::{Error, Result};

/// A cursor over bytes of an object: each call takes some from the front, or says which field was cut short.
#[derive(Clone, Copy, Debug)]
pub struct Decoder<'a>(lsm::codec::Decoder<'a>);

#[cold]
fn damage(error: lsm::Error) -> Error {
    Error::damage(error.to_string())
}

macro_rules! taking {
    ($($(#[$doc:meta])* $name:ident -> $type:ty;)*) => {$(
        $(#[$doc])*
        ///
        /// # Errors
        /// Damage, naming `field`, if it is cut short or malformed.
        #[inline]
        pub fn $name(&mut self, field: &str) -> Result<$type> {
            self.0.$name(field).map_err(damage)
        }
    )*};
}

impl<'a> Decoder<'a> {
    /// A cursor at the front of `bytes`.
    #[inline]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(lsm::codec::Decoder::new(bytes))
    }

    /// The bytes not yet taken.
    #[inline]
    pub fn rest(&self) -> &'a [u8] {
        self.0.rest()
    }

    /// How many bytes were taken.
    #[inline]
    pub fn position(&self) -> usize {
        self.0.position()
    }

    /// Whether every byte was taken.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes `count` bytes.
    ///
    /// # Errors
    /// Damage, naming `field`, if fewer are left.
    #[inline]
    pub fn bytes(&mut self, count: usize, field: &str) -> Result<&'a [u8]> {
        self.0.bytes(count, field).map_err(damage)
    }

    /// Takes `N` bytes as an array.
    ///
    /// # Errors
    /// Damage, naming `field`, if fewer are left.
    #[inline]
    pub fn array<const N: usize>(&mut self, field: &str) -> Result<[u8; N]> {
        self.0.array(field).map_err(damage)
    }

    taking! {
        /// Takes one byte.
        u8 -> u8;
        /// Takes a little-endian `u16`.
        u16 -> u16;
        /// Takes a little-endian `u32`.
        u32 -> u32;
        /// Takes a little-endian `u64`.
        u64 -> u64;
        /// Takes a varint in its shortest form.
        varint -> u64;
        /// Takes a varint that must fit a `usize`.
        varint_usize -> usize;
        /// Takes a varint that must fit a `u32`.
        varint_u32 -> u32;
        /// Takes a length and that many bytes.
        slice -> &'a [u8];
    }

    /// Succeeds if nothing is left.
    ///
    /// # Errors
    /// Damage, naming `structure`, if bytes are left over.
    pub fn finish(&self, structure: &str) -> Result<()> {
        self.0.finish(structure).map_err(damage)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn what_is_cut_short_is_damage() {
        let error = Decoder::new(&[1]).u32("length").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Damage);
        assert!(error.to_string().contains("length"), "{error}");
        assert_eq!(Decoder::new(&[0x80, 0]).varint("x").unwrap_err().kind(), ErrorKind::Damage);
        assert_eq!(Decoder::new(&[0]).finish("x").unwrap_err().kind(), ErrorKind::Damage);
    }
}
