//! Writes that become visible, and survive, together or not at all; and their encoding, which is the journal's payload.
//!
//! A batch is encoded as it is built: what is handed to the journal is what the memtable keeps and what recovery replays, so
//! that a commit copies its bytes once and nothing is encoded twice. Each operation has a sequence number of its own, the first one the
//! batch's: later operations of a batch win over earlier ones. FORMAT.md, "Batches", has the bytes:
//!
//! ```text
//! operation   tag u8 | keyspace varint | key slice [ | value slice, or end ]
//! tag         1 put: value    2 delete    3 delete range up to an end, excluded    4 delete range without end
//! ```

use std::ops::{Bound, Range, RangeBounds};

use crate::codec::{Decoder, put_slice, put_varint};
use crate::error::{Error, ErrorKind, Result};
use crate::key::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
use crate::range::{prefix_end, successor};

/// The number of a keyspace in its database, from 1 up; never given a second time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyspaceId(u32);

impl KeyspaceId {
    /// The id with this number.
    ///
    /// # Errors
    /// Corruption if it is 0.
    pub fn new(number: u32) -> Result<Self> {
        if number == 0 {
            return Err(Error::corruption("keyspace 0: keyspaces are numbered from 1"));
        }
        Ok(Self(number))
    }

    /// Its number.
    pub const fn number(self) -> u32 {
        self.0
    }
}

/// Longest batch, in encoded bytes: the journal's records say their length in 32 bits, and a batch is held in memory whole.
pub const BATCH_BYTES_MAX: usize = 1 << 30;

/// What an operation takes beside keys and value: a tag, a keyspace, two lengths.
const OPERATION_BYTES_MAX: usize = 1 + 5 + 2 * 5;

const TAG_PUT: u8 = 1;
const TAG_DELETE: u8 = 2;
const TAG_DELETE_RANGE: u8 = 3;
const TAG_DELETE_FROM: u8 = 4;

/// One decoded operation; ranges are places in the payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// The key gets this value.
    Put {
        /// Where the key lies in the payload.
        key: Range<usize>,
        /// Where the value lies in the payload.
        value: Range<usize>,
    },
    /// The key is gone.
    Delete {
        /// Where the key lies in the payload.
        key: Range<usize>,
    },
    /// The keys from `start` on are gone, up to `end` (excluded) if there is one.
    DeleteRange {
        /// Where the first key lies in the payload.
        start: Range<usize>,
        /// Where the end lies in the payload; `None`: no end.
        end: Option<Range<usize>>,
    },
}

/// Walks through the operations of an encoded batch, checking each.
#[derive(Debug)]
pub struct Operations<'a> {
    decoder: Decoder<'a>,
}

impl<'a> Operations<'a> {
    /// The operations in `payload`.
    pub fn new(payload: &'a [u8]) -> Self {
        Self { decoder: Decoder::new(payload) }
    }

    fn place(&mut self, field: &str, bytes_max: usize) -> Result<Range<usize>> {
        let length = self.decoder.slice(field)?.len();
        if length > bytes_max {
            return Err(Error::corruption(format!(
                "{field} of {length} bytes: at most {bytes_max} are allowed"
            )));
        }
        let end = self.decoder.position();
        Ok(end - length..end)
    }

    fn operation(&mut self) -> Result<(KeyspaceId, Operation)> {
        let tag = self.decoder.u8("operation's tag")?;
        let keyspace = KeyspaceId::new(self.decoder.varint_u32("operation's keyspace")?)?;
        let key = self.place("operation's key", KEY_BYTES_MAX)?;
        let operation = match tag {
            TAG_PUT => Operation::Put { key, value: self.place("operation's value", VALUE_BYTES_MAX)? },
            TAG_DELETE => Operation::Delete { key },
            TAG_DELETE_RANGE => Operation::DeleteRange {
                start: key,
                // One byte longer than a key: the successor of the longest.
                end: Some(self.place("end of the deleted range", KEY_BYTES_MAX + 1)?),
            },
            TAG_DELETE_FROM => Operation::DeleteRange { start: key, end: None },
            _ => return Err(Error::corruption(format!("unknown operation {tag} in a batch"))),
        };
        Ok((keyspace, operation))
    }
}

impl Iterator for Operations<'_> {
    type Item = Result<(KeyspaceId, Operation)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.decoder.is_empty() {
            return None;
        }
        let operation = self.operation();
        if operation.is_err() {
            self.decoder = Decoder::new(&[]);
        }
        Some(operation)
    }
}

/// Builds the encoding of a batch. Knows no databases: [`crate::Batch`] is the public face.
#[derive(Debug, Default)]
pub struct Encoder {
    payload: Vec<u8>,
    operations: u32,
    /// The keyspaces that it writes to, ascending; and the one that was written to last.
    keyspaces: Vec<KeyspaceId>,
    last: Option<KeyspaceId>,
    fault: Option<Error>,
    has_fixed_ranges: bool,
}

impl Encoder {
    /// One with room for a single operation of so many bytes of keys and value.
    pub fn for_one(bytes: usize) -> Self {
        Self { payload: Vec::with_capacity(bytes.saturating_add(OPERATION_BYTES_MAX)), ..Self::default() }
    }

    /// The encoded operations.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// How many operations there are.
    pub fn operations(&self) -> u32 {
        self.operations
    }

    /// The keyspaces that it writes to, ascending.
    pub fn keyspaces(&self) -> &[KeyspaceId] {
        &self.keyspaces
    }

    /// The first operation that cannot be: building goes on without it, the commit says so.
    pub fn fault(&self) -> Option<&Error> {
        self.fault.as_ref()
    }

    /// Whether there are range deletes of keyspaces with fixed widths, which are taken apart when the batch is committed.
    pub(crate) fn has_fixed_ranges(&self) -> bool {
        self.has_fixed_ranges
    }

    /// Says that there are.
    pub(crate) fn note_fixed_range(&mut self) {
        self.has_fixed_ranges = true;
    }

    /// Adds "the keys of this range are gone", for a range that has a start and excludes its end.
    pub(crate) fn delete_range_of(&mut self, keyspace: KeyspaceId, range: &crate::range::KeyRange) {
        self.delete_range::<&[u8]>(
            keyspace,
            &(Bound::Included(range.lower.as_slice()), range.upper.as_ref().map(Vec::as_slice)),
        );
    }

    /// Remembers an operation that cannot be; the first stays.
    pub fn refuse(&mut self, fault: Error) {
        self.fault.get_or_insert(fault);
    }

    fn start(&mut self, tag: u8, keyspace: KeyspaceId, bytes: usize) -> bool {
        if bytes.saturating_add(self.payload.len()).saturating_add(32) > BATCH_BYTES_MAX {
            self.refuse(Error::new(
                ErrorKind::InvalidArgument,
                format!("a batch of more than {BATCH_BYTES_MAX} bytes: commit it in parts"),
            ));
            return false;
        }
        if self.last != Some(keyspace) {
            self.last = Some(keyspace);
            if let Err(place) = self.keyspaces.binary_search(&keyspace) {
                self.keyspaces.insert(place, keyspace);
            }
        }
        self.payload.push(tag);
        put_varint(&mut self.payload, u64::from(keyspace.number()));
        self.operations = self.operations.saturating_add(1);
        true
    }

    fn fits(&mut self, what: &str, bytes: usize, bytes_max: usize) -> bool {
        if bytes > bytes_max {
            self.refuse(Error::new(
                ErrorKind::InvalidArgument,
                format!("a {what} of {bytes} bytes: at most {bytes_max} are allowed"),
            ));
        }
        bytes <= bytes_max
    }

    /// Adds "this key gets this value".
    pub fn put(&mut self, keyspace: KeyspaceId, key: &[u8], value: &[u8]) {
        if self.fits("key", key.len(), KEY_BYTES_MAX)
            && self.fits("value", value.len(), VALUE_BYTES_MAX)
            && self.start(TAG_PUT, keyspace, key.len() + value.len())
        {
            put_slice(&mut self.payload, key);
            put_slice(&mut self.payload, value);
        }
    }

    /// Adds "this key is gone".
    pub fn delete(&mut self, keyspace: KeyspaceId, key: &[u8]) {
        if self.fits("key", key.len(), KEY_BYTES_MAX) && self.start(TAG_DELETE, keyspace, key.len()) {
            put_slice(&mut self.payload, key);
        }
    }

    /// Adds "the keys of this range are gone". An empty range adds nothing.
    pub fn delete_range<K: AsRef<[u8]>>(&mut self, keyspace: KeyspaceId, range: &impl RangeBounds<K>) {
        if let Some((start, end)) = deleted_range(range) {
            self.delete_between(keyspace, &start, end.as_deref());
        }
    }

    /// Adds "the keys that start with these bytes are gone".
    pub fn delete_prefix(&mut self, keyspace: KeyspaceId, prefix: &[u8]) {
        self.delete_between(keyspace, prefix, prefix_end(prefix).as_deref());
    }

    fn delete_between(&mut self, keyspace: KeyspaceId, start: &[u8], end: Option<&[u8]>) {
        if end.is_some_and(|end| end <= start) || !self.fits("key", start.len(), KEY_BYTES_MAX) {
            return;
        }
        match end {
            Some(end) => {
                if self.fits("key", end.len(), KEY_BYTES_MAX + 1)
                    && self.start(TAG_DELETE_RANGE, keyspace, start.len() + end.len())
                {
                    put_slice(&mut self.payload, start);
                    put_slice(&mut self.payload, end);
                }
            }
            None => {
                if self.start(TAG_DELETE_FROM, keyspace, start.len()) {
                    put_slice(&mut self.payload, start);
                }
            }
        }
    }
}

/// A range of keys to delete: its first key, and the first one behind it; `None` where there can be no key in it.
pub(crate) fn deleted_range<K: AsRef<[u8]>>(
    range: &impl RangeBounds<K>,
) -> Option<(Vec<u8>, Option<Vec<u8>>)> {
    let start = match range.start_bound() {
        Bound::Included(key) => key.as_ref().to_vec(),
        // Nothing follows the longest key that begins with it: the range starts behind all that would.
        Bound::Excluded(key) if key.as_ref().len() == KEY_BYTES_MAX => prefix_end(key.as_ref())?,
        Bound::Excluded(key) => successor(key.as_ref()),
        Bound::Unbounded => Vec::new(),
    };
    let end = match range.end_bound() {
        Bound::Included(key) => Some(successor(key.as_ref())),
        Bound::Excluded(key) => Some(key.as_ref().to_vec()),
        Bound::Unbounded => None,
    };
    end.as_ref().is_none_or(|end| *end > start).then_some((start, end))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn keyspace(number: u32) -> KeyspaceId {
        KeyspaceId::new(number).unwrap()
    }

    #[test]
    fn operations_come_back_in_order() {
        let mut batch = Encoder::default();
        batch.put(keyspace(1), b"key", b"value");
        batch.delete(keyspace(300), b"");
        batch.delete_range(keyspace(2), &(b"a".as_slice()..b"b"));
        batch.delete_range::<&[u8]>(keyspace(2), &..);
        batch.delete_prefix(keyspace(2), b"p\xff");
        let payload = batch.payload();
        let read: Vec<_> = Operations::new(payload).map(Result::unwrap).collect();
        assert_eq!(batch.operations() as usize, read.len());
        assert_eq!(read[0].0, keyspace(1));
        match &read[0].1 {
            Operation::Put { key, value } => {
                assert_eq!(&payload[key.clone()], b"key");
                assert_eq!(&payload[value.clone()], b"value");
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(read[1].0, keyspace(300));
        assert!(matches!(&read[3].1, Operation::DeleteRange { end: None, .. }));
        match &read[4].1 {
            Operation::DeleteRange { start, end: Some(end) } => {
                assert_eq!((&payload[start.clone()], &payload[end.clone()]), (&b"p\xff"[..], &b"q"[..]));
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_bytes_are_as_documented() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/FORMAT.md");
        let document = std::fs::read_to_string(path).unwrap();
        for (name, tag) in [
            ("put", TAG_PUT),
            ("delete", TAG_DELETE),
            ("delete range", TAG_DELETE_RANGE),
            ("delete from", TAG_DELETE_FROM),
        ] {
            assert!(document.contains(&format!("\n| {name} | {tag} | keyspace varint")), "{name}: {tag}");
        }
        let mut batch = Encoder::default();
        batch.put(keyspace(1), b"key", b"value");
        batch.delete_prefix(keyspace(2), b"b");
        let example = [&[1, 1, 3][..], b"key", &[5], b"value", &[3, 2, 1, b'b', 1, b'c']].concat();
        assert_eq!(batch.payload(), example);
    }

    #[test]
    fn an_empty_range_is_no_operation() {
        let mut batch = Encoder::default();
        batch.delete_range(keyspace(1), &(b"b".as_slice()..b"a"));
        batch.delete_range(keyspace(1), &(b"a".as_slice()..b"a"));
        assert_eq!(batch.operations(), 0);
        batch.delete_range(keyspace(1), &(b"a".as_slice()..=b"a"));
        assert_eq!(batch.operations(), 1);
    }

    #[test]
    fn a_range_may_start_behind_the_longest_key() {
        let longest = |last: u8| [vec![b'k'; KEY_BYTES_MAX - 1], vec![last]].concat();
        let from = |key: Vec<u8>| {
            let mut batch = Encoder::default();
            batch.delete_range::<Vec<u8>>(keyspace(1), &(Bound::Excluded(key), Bound::Unbounded));
            assert!(batch.fault().is_none(), "{:?}", batch.fault());
            let payload = batch.payload().to_vec();
            let operation = Operations::new(&payload).next().map(Result::unwrap);
            operation.map(|(_, operation)| match operation {
                Operation::DeleteRange { start, end: None } => payload[start].to_vec(),
                other => panic!("{other:?}"),
            })
        };
        assert!(from(longest(b'a')) == Some(longest(b'b')));
        assert!(from(longest(255)) == Some([vec![b'k'; KEY_BYTES_MAX - 2], vec![b'l']].concat()));
        assert!(from(vec![255; KEY_BYTES_MAX]).is_none(), "no key follows the last");
        assert!(from(vec![b'k'; KEY_BYTES_MAX - 1]) == Some(longest(0)));
    }

    #[test]
    fn a_key_too_long_is_a_fault_of_the_batch() {
        let mut batch = Encoder::default();
        batch.put(keyspace(1), &vec![0; KEY_BYTES_MAX + 1], b"");
        assert_eq!(batch.fault().unwrap().kind(), ErrorKind::InvalidArgument);
        assert!(batch.payload().is_empty());
        let mut batch = Encoder::default();
        batch.put(keyspace(1), &vec![0; KEY_BYTES_MAX], b"");
        assert!(batch.fault().is_none());
    }

    #[test]
    fn bad_bytes_are_named() {
        let error = |bytes: &[u8]| Operations::new(bytes).find_map(Result::err).unwrap().to_string();
        assert!(error(&[0, 1, 0]).contains("unknown operation 0"));
        assert!(error(&[9, 1, 0]).contains("unknown operation 9"));
        assert!(error(&[1, 0, 0, 0]).contains("keyspace 0"));
        assert!(error(&[1, 1, 5, 0]).contains("operation's key"));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(0u8..8, 0..64)) {
            for operation in Operations::new(&bytes) {
                if operation.is_err() { break; }
            }
        }
    }
}
