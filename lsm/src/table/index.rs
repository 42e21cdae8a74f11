//! Where blocks are, and the keys that stand between them.
//!
//! An index block is a sorted block. Its keys are *separators*: at or above every key of the block they lead to, below every key of the next.
//! The value is where that block is; in the top index, where the partition's index block and its filter are.

use crate::block::common_prefix;
use crate::codec::{Decoder, put_varint};
use crate::error::{Error, Result};

/// Where a block is: its offset and its length on disk, trailer included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Handle {
    pub(super) offset: u64,
    pub(super) bytes: u32,
}

impl Handle {
    pub(super) fn end(self) -> u64 {
        self.offset.saturating_add(u64::from(self.bytes))
    }

    pub(super) fn encode(self, out: &mut Vec<u8>) {
        put_varint(out, self.offset);
        put_varint(out, u64::from(self.bytes));
    }

    #[inline]
    pub(super) fn decode(decoder: &mut Decoder<'_>) -> Result<Self> {
        let offset = decoder.varint("offset of a block")?;
        let bytes = decoder.varint_u32("length of a block")?;
        Ok(Self { offset, bytes })
    }

    /// From the value of an index entry.
    #[inline]
    pub(super) fn from_value(value: &[u8]) -> Result<Self> {
        let mut decoder = Decoder::new(value);
        let handle = Self::decode(&mut decoder)?;
        decoder.finish("entry of an index")?;
        Ok(handle)
    }
}

/// Where a partition's index block and its filter are. The filter follows the index block, so its length is enough; 0: there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Partition {
    pub(super) index: Handle,
    pub(super) filter_bytes: u32,
}

impl Partition {
    pub(super) fn filter(self) -> Option<Handle> {
        (self.filter_bytes > 0).then(|| Handle { offset: self.index.end(), bytes: self.filter_bytes })
    }

    pub(super) fn encode(self, out: &mut Vec<u8>) {
        self.index.encode(out);
        put_varint(out, u64::from(self.filter_bytes));
    }

    #[inline]
    pub(super) fn from_value(value: &[u8]) -> Result<Self> {
        let mut decoder = Decoder::new(value);
        let index = Handle::decode(&mut decoder)?;
        let filter_bytes = decoder.varint_u32("length of a filter")?;
        decoder.finish("entry of the top index")?;
        if index.offset.checked_add(u64::from(index.bytes)).is_none() {
            return Err(Error::corruption("an entry of the top index points beyond any file"));
        }
        Ok(Self { index, filter_bytes })
    }
}

/// Of an index block that ends before what the top index says is in its partition: only a bug or failing memory of a writer makes one.
#[cold]
pub(super) fn short_index() -> Error {
    Error::corruption("the last separator of an index block is not that of its partition")
}

/// A key `s` with `last <= s < next`, as short as that allows without a search: separators are what an index consists of.
///
/// # Panics
/// If `last` is not below `next`.
pub(super) fn separator(last: &[u8], next: &[u8]) -> Vec<u8> {
    assert!(last < next, "keys ascend");
    let common = common_prefix(last, next);
    let (Some(&low), Some(&high)) = (last.get(common), next.get(common)) else {
        return last.to_vec(); // `next` goes on where `last` ends.
    };
    let mut candidate = last.get(..=common).unwrap_or_default().to_vec();
    if high - low > 1 {
        if let Some(byte) = candidate.last_mut() {
            *byte = low + 1;
        }
    } else if next.len() > common + 1 {
        candidate = next.get(..=common).unwrap_or_default().to_vec();
    } else {
        // Only keys that begin as `last` does, up to here, lie between: one byte further on may go up.
        let place = last.iter().skip(common + 1).position(|byte| *byte != 0xff);
        let Some(place) = place.map(|place| place + common + 1) else { return last.to_vec() };
        candidate = last.get(..=place).unwrap_or_default().to_vec();
        if let Some(byte) = candidate.last_mut() {
            *byte += 1;
        }
    }
    if candidate.len() < last.len() { candidate } else { last.to_vec() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn a_separator_separates(
            a in prop::collection::vec(prop::sample::select(vec![0u8, 1, 2, 254, 255]), 0..6),
            b in prop::collection::vec(prop::sample::select(vec![0u8, 1, 2, 254, 255]), 0..6),
        ) {
            prop_assume!(a != b);
            let (last, next) = if a < b { (a, b) } else { (b, a) };
            let found = separator(&last, &next);
            prop_assert!(last <= found && found < next, "{last:?} {found:?} {next:?}");
            prop_assert!(found.len() <= last.len());
        }
    }

    #[test]
    fn separators_are_short() {
        assert_eq!(separator(b"apple pie", b"banana"), b"b");
        assert_eq!(separator(b"apple pie", b"b"), b"aq");
        assert_eq!(separator(b"a\xff\xff\x07\x09", b"b"), b"a\xff\xff\x08");
        assert_eq!(separator(b"a\xff", b"b"), b"a\xff");
        assert_eq!(separator(b"dir/file-17", b"dir/hero"), b"dir/g");
        assert_eq!(separator(b"dir", b"dir/file"), b"dir");
    }

    #[test]
    fn handles_come_back() {
        let partition = Partition { index: Handle { offset: 1 << 40, bytes: 77 }, filter_bytes: 9 };
        let mut out = Vec::new();
        partition.encode(&mut out);
        assert_eq!(Partition::from_value(&out).unwrap(), partition);
        assert!(Handle::from_value(&out).is_err(), "bytes left over");
        assert_eq!(partition.filter(), Some(Handle { offset: (1 << 40) + 77, bytes: 9 }));
    }
}
