//! The fields of a fixed layout, each stated once: for the encoder, the decoder, and the test that reads FORMAT.md.

/// A field of `N` bytes.
#[derive(Clone, Copy, Debug)]
pub struct Field<const N: usize> {
    name: &'static str,
    offset: usize,
}

/// A field's name and place, whatever its size: what a table in FORMAT.md says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldPlace {
    /// Its name, as in FORMAT.md.
    pub name: &'static str,
    /// Where it begins.
    pub offset: usize,
    /// How many bytes it has.
    pub bytes: usize,
}

impl<const N: usize> Field<N> {
    /// A field that begins at `offset`.
    pub const fn new(name: &'static str, offset: usize) -> Self {
        Self { name, offset }
    }

    /// Its name and place.
    pub const fn place(&self) -> FieldPlace {
        FieldPlace { name: self.name, offset: self.offset, bytes: N }
    }

    /// The field's bytes.
    ///
    /// # Panics
    /// If the field lies outside of the structure: a constant of the program, checked by [`tiles`] when it is compiled.
    #[inline]
    pub fn get<const M: usize>(&self, bytes: &[u8; M]) -> [u8; N] {
        match bytes.get(self.offset..).and_then(<[u8]>::first_chunk) {
            Some(field) => *field,
            None => unreachable!("the fields of a layout lie inside of it"),
        }
    }

    /// Sets the field's bytes.
    ///
    /// # Panics
    /// As [`Field::get`].
    #[inline]
    pub fn put<const M: usize>(&self, bytes: &mut [u8; M], value: [u8; N]) {
        match bytes.get_mut(self.offset..).and_then(<[u8]>::first_chunk_mut) {
            Some(field) => *field = value,
            None => unreachable!("the fields of a layout lie inside of it"),
        }
    }
}

/// Whether the fields, in their order, cover `bytes` bytes without a gap. For a `const` assertion beside each layout.
#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler, which would stop")]
pub const fn tiles(fields: &[FieldPlace], bytes: usize) -> bool {
    let (mut index, mut at) = (0, 0);
    while index < fields.len() {
        if fields[index].offset != at {
            return false;
        }
        at += fields[index].bytes;
        index += 1;
    }
    at == bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Field<2> = Field::new("a", 0);
    const B: Field<4> = Field::new("b", 2);

    #[test]
    fn what_is_put_is_got() {
        let mut bytes = [0; 6];
        A.put(&mut bytes, [1, 2]);
        B.put(&mut bytes, 7u32.to_le_bytes());
        assert_eq!(bytes, [1, 2, 7, 0, 0, 0]);
        assert_eq!((A.get(&bytes), u32::from_le_bytes(B.get(&bytes))), ([1, 2], 7));
    }

    #[test]
    fn gaps_overlaps_and_ends_are_noticed() {
        assert!(tiles(&[A.place(), B.place()], 6));
        assert!(!tiles(&[A.place(), B.place()], 7));
        assert!(!tiles(&[B.place(), A.place()], 6));
        assert!(!tiles(&[A.place(), A.place()], 4));
    }
}
