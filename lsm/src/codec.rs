//! Integers, varints and slices: reading them from bytes that may be anything, writing them to a buffer.
//!
//! Fixed-width integers are little-endian. A varint is unsigned LEB128 of at most ten bytes, in its shortest form: a
//! longer form of the same number is refused, so that one value has one encoding (FORMAT.md, conventions).

use crate::error::{Error, Result};

/// Appends `value` as a varint.
#[inline]
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

/// Appends the length of `bytes` as a varint, then the bytes.
#[inline]
pub fn put_slice(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// A cursor over bytes from disk: each call takes some from the front, or says which field was cut short.
#[derive(Clone, Copy, Debug)]
pub struct Decoder<'a> {
    rest: &'a [u8],
    total: usize,
}

impl<'a> Decoder<'a> {
    /// A cursor at the front of `bytes`.
    #[inline]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, total: bytes.len() }
    }

    /// The bytes not yet taken.
    #[inline]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// How many bytes were taken.
    #[inline]
    pub fn position(&self) -> usize {
        self.total - self.rest.len()
    }

    /// Whether every byte was taken.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Takes `count` bytes.
    ///
    /// # Errors
    /// Corruption, naming `field`, if fewer are left.
    #[inline]
    pub fn bytes(&mut self, count: usize, field: &str) -> Result<&'a [u8]> {
        match self.rest.split_at_checked(count) {
            Some((taken, rest)) => {
                self.rest = rest;
                Ok(taken)
            }
            None => Err(self.short(field, count)),
        }
    }

    #[cold]
    fn short(&self, field: &str, count: usize) -> Error {
        Error::corruption(format!("{field}: {count} bytes expected, {} left", self.rest.len()))
    }

    /// Takes `N` bytes as an array.
    ///
    /// # Errors
    /// Corruption, naming `field`, if fewer are left.
    #[inline]
    pub fn array<const N: usize>(&mut self, field: &str) -> Result<[u8; N]> {
        match self.rest.split_first_chunk::<N>() {
            Some((taken, rest)) => {
                self.rest = rest;
                Ok(*taken)
            }
            None => Err(self.short(field, N)),
        }
    }

    /// Takes one byte.
    ///
    /// # Errors
    /// Corruption, naming `field`, at the end.
    #[inline]
    pub fn u8(&mut self, field: &str) -> Result<u8> {
        Ok(self.array::<1>(field)?[0])
    }

    /// Takes a little-endian `u16`.
    ///
    /// # Errors
    /// Corruption, naming `field`, if fewer than two bytes are left.
    #[inline]
    pub fn u16(&mut self, field: &str) -> Result<u16> {
        Ok(u16::from_le_bytes(self.array(field)?))
    }

    /// Takes a little-endian `u32`.
    ///
    /// # Errors
    /// Corruption, naming `field`, if fewer than four bytes are left.
    #[inline]
    pub fn u32(&mut self, field: &str) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array(field)?))
    }

    /// Takes a little-endian `u64`.
    ///
    /// # Errors
    /// Corruption, naming `field`, if fewer than eight bytes are left.
    #[inline]
    pub fn u64(&mut self, field: &str) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array(field)?))
    }

    /// Takes a varint.
    ///
    /// # Errors
    /// Corruption, naming `field`, if it is cut short, longer than needed, or above 64 bits.
    #[inline]
    pub fn varint(&mut self, field: &str) -> Result<u64> {
        if let Some((&first, rest)) = self.rest.split_first()
            && first < 0x80
        {
            self.rest = rest;
            return Ok(u64::from(first));
        }
        self.long_varint(field)
    }

    fn long_varint(&mut self, field: &str) -> Result<u64> {
        let mut value = 0u64;
        for index in 0..10 {
            let byte = self.u8(field)?;
            let bits = u64::from(byte & 0x7f);
            if index == 9 && bits > 1 {
                break;
            }
            value |= bits << (7 * index);
            if byte < 0x80 {
                if byte == 0 && index > 0 {
                    break;
                }
                return Ok(value);
            }
        }
        Err(Error::corruption(format!("{field}: not a varint in its shortest form")))
    }

    /// Takes a varint that must fit a `usize`.
    ///
    /// # Errors
    /// As [`Decoder::varint`]; also if it does not fit.
    #[inline]
    pub fn varint_usize(&mut self, field: &str) -> Result<usize> {
        usize::try_from(self.varint(field)?).map_err(|_| Error::corruption(format!("{field}: too large")))
    }

    /// Takes a varint that must fit a `u32`.
    ///
    /// # Errors
    /// As [`Decoder::varint`]; also if it does not fit.
    #[inline]
    pub fn varint_u32(&mut self, field: &str) -> Result<u32> {
        u32::try_from(self.varint(field)?).map_err(|_| Error::corruption(format!("{field}: too large")))
    }

    /// Takes a slice as [`put_slice`] wrote it.
    ///
    /// # Errors
    /// Corruption, naming `field`, if the length or the bytes are cut short.
    #[inline]
    pub fn slice(&mut self, field: &str) -> Result<&'a [u8]> {
        let length = self.varint_usize(field)?;
        self.bytes(length, field)
    }

    /// Succeeds if nothing is left.
    ///
    /// # Errors
    /// Corruption, naming `structure`, if bytes are left over.
    pub fn finish(&self, structure: &str) -> Result<()> {
        if self.rest.is_empty() {
            return Ok(());
        }
        Err(Error::corruption(format!("{structure}: {} bytes too many", self.rest.len())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn varints_come_back(value in any::<u64>(), shift in 0u32..64) {
            let value = value >> shift;
            let mut out = Vec::new();
            put_varint(&mut out, value);
            let mut decoder = Decoder::new(&out);
            prop_assert_eq!(decoder.varint("value").unwrap(), value);
            prop_assert!(decoder.is_empty());
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..24)) {
            let mut decoder = Decoder::new(&bytes);
            while decoder.slice("slice").is_ok() && !decoder.is_empty() {}
            let mut decoder = Decoder::new(&bytes);
            if let Ok(value) = decoder.varint("value") {
                let mut out = Vec::new();
                put_varint(&mut out, value);
                prop_assert_eq!(&out[..], &bytes[..decoder.position()], "one value has one encoding");
            }
        }
    }

    #[test]
    fn a_longer_form_is_refused() {
        assert!(Decoder::new(&[0x80, 0x00]).varint("x").is_err());
        assert!(Decoder::new(&[0xff; 10]).varint("x").is_err());
        assert!(Decoder::new(&[0x80]).varint("x").is_err());
    }
}
