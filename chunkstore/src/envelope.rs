//! The envelope of small objects: config, keys, marks of completeness, intents.
//!
//! Each begins with what it is and in which version, ends with BLAKE3 of all before, and holds tagged fields between. So each tells good
//! from bad without a password; a newer version may add fields, and say of each whether an older program may pass over it.
//! Magic, version and the hash's place are the same in every version: a flipped bit is never taken for a newer format.
//! FORMAT.md, objects and names.

use lsm::layout::{Field as Layout, FieldPlace, tiles};

use crate::codec::{Decoder, put_slice, put_varint};
use crate::error::{Error, Result};
use crate::seal::newer;

/// The longest small object, in bytes.
pub const ENVELOPE_BYTES_MAX: usize = 1 << 20;
/// Length of what stands before the fields.
pub const ENVELOPE_HEADER_BYTES: usize = 24;
/// Length of the hash behind them.
pub const ENVELOPE_HASH_BYTES: usize = 32;

const MAGIC: Layout<8> = Layout::new("magic", 0);
const VERSION: Layout<2> = Layout::new("version", 8);
const RESERVED: Layout<2> = Layout::new("reserved", 10);
const REQUIRED: Layout<4> = Layout::new("required features", 12);
const OPTIONAL: Layout<4> = Layout::new("optional features", 16);
const BODY_BYTES: Layout<4> = Layout::new("body bytes", 20);

/// The fields of the header in their order, as FORMAT.md has them.
pub(crate) const ENVELOPE_FIELDS: [FieldPlace; 6] = [
    MAGIC.place(),
    VERSION.place(),
    RESERVED.place(),
    REQUIRED.place(),
    OPTIONAL.place(),
    BODY_BYTES.place(),
];
const _: () = assert!(tiles(&ENVELOPE_FIELDS, ENVELOPE_HEADER_BYTES));

const VERSION_VALUE: u16 = 1;
/// Required feature bits that this version knows: none.
const REQUIRED_KNOWN: u32 = 0;

/// What a small object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EnvelopeKind {
    /// The repository's config.
    Config,
    /// Secrets wrapped under a password.
    Key,
    /// A key that was removed.
    KeyRemoval,
    /// A target holds everything that a writer's segments up to one name.
    Complete,
    /// A writer at work.
    Intent,
    /// What a client remembers of a repository: local, never on a target.
    Remembered,
}

impl EnvelopeKind {
    /// The eight bytes that such an object begins with.
    pub const fn magic(self) -> &'static [u8; 8] {
        match self {
            Self::Config => b"VRSNCONF",
            Self::Key => b"VRSNKEY\0",
            Self::KeyRemoval => b"VRSNKEYR",
            Self::Complete => b"VRSNDONE",
            Self::Intent => b"VRSNINTN",
            Self::Remembered => b"VRSNMEMO",
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::Key => "key",
            Self::KeyRemoval => "removal of a key",
            Self::Complete => "mark of completeness",
            Self::Intent => "intent",
            Self::Remembered => "what is remembered of the repository",
        }
    }
}

/// The number of a field: from 1 to [`FieldNumber::MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FieldNumber(pub u16);

impl FieldNumber {
    /// The last one there can be: for what must stand behind all others.
    pub const MAX: Self = Self(4095);
}

/// Whether a program that does not know a field may pass over it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unknown {
    /// It may.
    PassOver,
    /// It must not go on.
    Refuse,
}

/// Writes an envelope, field by field, numbers ascending.
#[derive(Debug)]
pub struct EnvelopeWriter {
    bytes: Vec<u8>,
    last: u16,
}

impl EnvelopeWriter {
    /// An envelope of this kind.
    pub fn new(kind: EnvelopeKind) -> Self {
        let mut header = [0; ENVELOPE_HEADER_BYTES];
        MAGIC.put(&mut header, *kind.magic());
        VERSION.put(&mut header, VERSION_VALUE.to_le_bytes());
        REQUIRED.put(&mut header, REQUIRED_KNOWN.to_le_bytes());
        Self { bytes: header.to_vec(), last: 0 }
    }

    /// Adds a field.
    ///
    /// # Panics
    /// If its number does not follow the last one's.
    pub fn field(&mut self, number: FieldNumber, unknown: Unknown, value: &[u8]) -> &mut Self {
        self.begin(number, unknown);
        put_slice(&mut self.bytes, value);
        self
    }

    fn begin(&mut self, number: FieldNumber, unknown: Unknown) {
        assert!(number.0 > self.last && number <= FieldNumber::MAX, "field {} after {}", number.0, self.last);
        self.last = number.0;
        put_varint(&mut self.bytes, u64::from(number.0) << 1 | u64::from(unknown == Unknown::Refuse));
    }

    /// Adds a field whose value depends on everything before it: `value` gets those bytes, with the length of the body already as it
    /// will be when this is the last field and `length` bytes long.
    ///
    /// # Panics
    /// If the number does not follow the last one's, or the value has another length.
    pub fn last_field(
        &mut self,
        number: FieldNumber,
        unknown: Unknown,
        length: usize,
        value: impl FnOnce(&[u8]) -> Vec<u8>,
    ) -> &mut Self {
        self.begin(number, unknown);
        put_varint(&mut self.bytes, length as u64);
        self.set_body_length(length);
        let value = value(&self.bytes);
        assert!(value.len() == length, "a field of {} bytes, {length} announced", value.len());
        self.bytes.extend_from_slice(&value);
        self
    }

    fn set_body_length(&mut self, more: usize) {
        let body = self.bytes.len() + more - ENVELOPE_HEADER_BYTES;
        if let Some(header) = self.bytes.first_chunk_mut::<ENVELOPE_HEADER_BYTES>() {
            BODY_BYTES.put(header, u32::try_from(body).unwrap_or(u32::MAX).to_le_bytes());
        }
    }

    /// Ends the envelope.
    ///
    /// # Panics
    /// If it is longer than [`ENVELOPE_BYTES_MAX`].
    pub fn finish(mut self) -> Vec<u8> {
        self.set_body_length(0);
        let hash = blake3::hash(&self.bytes);
        self.bytes.extend_from_slice(hash.as_bytes());
        assert!(self.bytes.len() <= ENVELOPE_BYTES_MAX, "a small object of {} bytes", self.bytes.len());
        self.bytes
    }
}

/// An envelope that was read: its hash was right, its version and features are known.
#[derive(Clone, Copy, Debug)]
pub struct Envelope<'a> {
    kind: EnvelopeKind,
    /// Header and body, without the hash.
    bytes: &'a [u8],
}

/// A field of an envelope.
#[derive(Clone, Copy, Debug)]
pub struct Field<'a> {
    /// Its number.
    pub number: FieldNumber,
    /// Its value.
    pub value: &'a [u8],
    /// Everything in the object before the value.
    pub before: &'a [u8],
    unknown: Unknown,
}

impl<'a> Envelope<'a> {
    /// The envelope of this kind that is all of `bytes`.
    ///
    /// # Errors
    /// Damage if it is something else or not what was written; newer format if a newer version wrote it.
    pub fn decode(kind: EnvelopeKind, bytes: &'a [u8]) -> Result<Self> {
        Self::decode_inner(kind, bytes).map_err(|error| error.at(kind.name()))
    }

    fn decode_inner(kind: EnvelopeKind, bytes: &'a [u8]) -> Result<Self> {
        if bytes.len() > ENVELOPE_BYTES_MAX {
            return Err(Error::damage(format!(
                "{} bytes, at most {ENVELOPE_BYTES_MAX} expected",
                bytes.len()
            )));
        }
        let (covered, hash) = bytes.split_last_chunk::<ENVELOPE_HASH_BYTES>().unwrap_or((&[], &[0; 32]));
        let (header, body) = covered
            .split_first_chunk::<ENVELOPE_HEADER_BYTES>()
            .ok_or_else(|| Error::damage(format!("cut short: only {} bytes are left", bytes.len())))?;
        let magic = MAGIC.get(header);
        if magic != *kind.magic() {
            return Err(Error::damage(format!("it begins with {}, not as it should", magic.escape_ascii())));
        }
        if blake3::hash(covered) != blake3::Hash::from_bytes(*hash) {
            return Err(Error::damage("the hash of its bytes is wrong"));
        }
        let version = u16::from_le_bytes(VERSION.get(header));
        if version != VERSION_VALUE {
            return Err(newer(format!("version {version}")));
        }
        let required = u32::from_le_bytes(REQUIRED.get(header));
        if required & !REQUIRED_KNOWN != 0 {
            return Err(newer(format!("required feature {required:#x}")));
        }
        let length = u32::from_le_bytes(BODY_BYTES.get(header));
        if RESERVED.get(header) != [0; 2] || length as usize != body.len() {
            return Err(Error::damage(format!("a body of {length} bytes in {}", bytes.len())));
        }
        Ok(Self { kind, bytes: covered })
    }

    /// Hands each field to `take`, which says whether it knows it; one that it does not know is passed over, if it may be.
    ///
    /// # Errors
    /// Those of `take`; damage if fields are malformed or not ascending; newer format for an unknown field that must not be passed over.
    pub fn fields(&self, mut take: impl FnMut(Field<'a>) -> Result<Known>) -> Result<()> {
        self.fields_inner(&mut take).map_err(|error| error.at(self.kind.name()))
    }

    fn fields_inner(&self, take: &mut dyn FnMut(Field<'a>) -> Result<Known>) -> Result<()> {
        let mut decoder = Decoder::new(self.bytes);
        decoder.bytes(ENVELOPE_HEADER_BYTES, "header")?;
        let mut last = 0;
        while !decoder.is_empty() {
            let tag = decoder.varint("tag of a field")?;
            let number = tag >> 1;
            if number <= last || number > u64::from(FieldNumber::MAX.0) {
                return Err(Error::damage(format!("field {number} after field {last}")));
            }
            last = number;
            let length = decoder.varint_usize("length of a field")?;
            let (before, _) = self.bytes.split_at_checked(decoder.position()).unwrap_or_default();
            let value = decoder.bytes(length, "field")?;
            let number = FieldNumber(u16::try_from(number).unwrap_or(u16::MAX));
            let unknown = if tag & 1 == 1 { Unknown::Refuse } else { Unknown::PassOver };
            let field = Field { number, value, before, unknown };
            if take(field)? == Known::No && field.unknown == Unknown::Refuse {
                return Err(newer(format!("field {}", number.0)));
            }
        }
        Ok(())
    }
}

/// Whether a field is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// It was taken.
    Yes,
    /// It is not known to this version.
    No,
}

impl<'a> Field<'a> {
    /// A cursor over its value.
    pub fn decoder(&self) -> Decoder<'a> {
        Decoder::new(self.value)
    }

    /// Its value, which must have `N` bytes.
    ///
    /// # Errors
    /// Damage, naming `what`, if it has another length.
    pub fn array<const N: usize>(&self, what: &str) -> Result<[u8; N]> {
        self.value
            .try_into()
            .map_err(|_| Error::damage(format!("{what}: {N} bytes expected, {} found", self.value.len())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;
    use proptest::prelude::*;

    const KIND: EnvelopeKind = EnvelopeKind::Intent;

    fn sample() -> Vec<u8> {
        let mut writer = EnvelopeWriter::new(KIND);
        writer.field(FieldNumber(1), Unknown::Refuse, b"one").field(FieldNumber(7), Unknown::PassOver, b"");
        writer.finish()
    }

    fn read(bytes: &[u8], known: &[u16]) -> Result<Vec<(u16, Vec<u8>)>> {
        let mut out = Vec::new();
        Envelope::decode(KIND, bytes)?.fields(|field| {
            out.push((field.number.0, field.value.to_vec()));
            Ok(if known.contains(&field.number.0) { Known::Yes } else { Known::No })
        })?;
        Ok(out)
    }

    /// The same envelope with other bytes at `offset`, and a hash that is right for them.
    fn with(offset: usize, bytes: &[u8]) -> Vec<u8> {
        let mut out = sample();
        out[offset..offset + bytes.len()].copy_from_slice(bytes);
        let end = out.len() - ENVELOPE_HASH_BYTES;
        let hash = blake3::hash(&out[..end]);
        out[end..].copy_from_slice(hash.as_bytes());
        out
    }

    #[test]
    fn fields_come_back() {
        assert_eq!(read(&sample(), &[1, 7]).unwrap(), [(1, b"one".to_vec()), (7, vec![])]);
        assert!(read(&EnvelopeWriter::new(KIND).finish(), &[]).unwrap().is_empty());
    }

    #[test]
    fn each_flipped_bit_and_each_cut_is_damage() {
        let good = sample();
        for index in 0..good.len() {
            for bit in 0..8 {
                let mut bad = good.clone();
                bad[index] ^= 1 << bit;
                assert_eq!(
                    read(&bad, &[1, 7]).unwrap_err().kind(),
                    ErrorKind::Damage,
                    "byte {index}: never newer"
                );
            }
            assert_eq!(read(&good[..index], &[1, 7]).unwrap_err().kind(), ErrorKind::Damage);
        }
        assert!(read(&[&good[..], &[0]].concat(), &[1, 7]).is_err());
        assert!(read(&vec![0; ENVELOPE_BYTES_MAX + 1], &[]).is_err());
    }

    #[test]
    fn another_kind_is_damage() {
        let error = Envelope::decode(EnvelopeKind::Config, &sample()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Damage);
        assert!(error.to_string().contains("VRSNINTN"), "{error}");
    }

    #[test]
    fn what_a_newer_version_writes_is_passed_over_or_refused_as_it_says() {
        assert_eq!(read(&sample(), &[1]).unwrap().len(), 2, "field 7 may be passed over");
        assert_eq!(read(&sample(), &[7]).unwrap_err().kind(), ErrorKind::NewerFormat, "field 1 may not");
        assert_eq!(read(&with(8, &[2, 0]), &[1]).unwrap_err().kind(), ErrorKind::NewerFormat, "version");
        assert_eq!(
            read(&with(12, &[1]), &[1]).unwrap_err().kind(),
            ErrorKind::NewerFormat,
            "required feature"
        );
        read(&with(16, &[1]), &[1]).unwrap();
        assert_eq!(read(&with(10, &[1]), &[1]).unwrap_err().kind(), ErrorKind::Damage, "reserved bytes");
        assert_eq!(read(&with(20, &[1]), &[1]).unwrap_err().kind(), ErrorKind::Damage, "length of the body");
    }

    #[test]
    fn fields_must_ascend_and_end_where_the_body_does() {
        let body = ENVELOPE_HEADER_BYTES;
        for (offset, byte) in
            [(body, 0x01), (body + 5, 0x02), (body + 5, 0x03), (body + 1, 9), (body + 6, 1), (body, 0x80)]
        {
            assert_eq!(
                read(&with(offset, &[byte]), &[1, 7]).unwrap_err().kind(),
                ErrorKind::Damage,
                "{offset}"
            );
        }
    }

    #[test]
    #[should_panic(expected = "field 1 after 1")]
    fn a_field_written_twice_stops_the_program() {
        let mut writer = EnvelopeWriter::new(KIND);
        writer.field(FieldNumber(1), Unknown::Refuse, b"").field(FieldNumber(1), Unknown::PassOver, b"");
    }

    #[test]
    fn a_last_field_sees_all_that_is_before_it() {
        let mut writer = EnvelopeWriter::new(KIND);
        writer.field(FieldNumber(1), Unknown::Refuse, b"one");
        let mut seen = Vec::new();
        writer.last_field(FieldNumber::MAX, Unknown::Refuse, 4, |before| {
            seen = before.to_vec();
            vec![1, 2, 3, 4]
        });
        let bytes = writer.finish();
        assert_eq!(bytes[..seen.len()], seen);
        Envelope::decode(KIND, &bytes)
            .unwrap()
            .fields(|field| {
                assert!(field.number.0 == 1 || field.before == seen);
                Ok(Known::Yes)
            })
            .unwrap();
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_fields_come_back(values in proptest::collection::btree_map(1u16..4096, proptest::collection::vec(any::<u8>(), 0..50), 0..8)) {
            let mut writer = EnvelopeWriter::new(KIND);
            for (number, value) in &values {
                writer.field(FieldNumber(*number), Unknown::Refuse, value);
            }
            let known: Vec<u16> = values.keys().copied().collect();
            prop_assert_eq!(read(&writer.finish(), &known).unwrap(), values.into_iter().collect::<Vec<_>>());
        }

        #[test]
        fn arbitrary_bodies_never_panic(body in proptest::collection::vec(any::<u8>(), 0..60)) {
            let mut bytes = EnvelopeWriter::new(KIND).finish();
            bytes.truncate(ENVELOPE_HEADER_BYTES);
            bytes.extend_from_slice(&body);
            bytes[20] = u8::try_from(body.len()).unwrap();
            let hash = blake3::hash(&bytes);
            bytes.extend_from_slice(hash.as_bytes());
            let _ = read(&bytes, &[1, 2, 3]);
        }
    }
}
