//! What surrounds the records: the header of a log file, and the payloads of its first and its last record.
//!
//! The header holds no more than the identity, so that a file can be made before it is known what goes into it. Which log it
//! is, of which database, and where the one before it ends, stands in the first record: so a missing log is noticed by the
//! next one, the newest by the manifest, which names each log before anything in it is acknowledged.

use super::Cut;
use crate::checksum::{Identity, salted_crc32};
use crate::error::{Error, ErrorKind, Result};
use crate::filename::FileNumber;
use crate::key::SequenceNumber;
use crate::layout::{Field, FieldPlace, tiles};

/// Bytes of a log file's header.
pub const LOG_HEADER_BYTES: usize = 64;
/// The version of the format of log files and records that this crate writes.
pub const LOG_FORMAT_VERSION: u16 = 1;

const MAGIC: Field<8> = Field::new("magic", 0);
const VERSION: Field<2> = Field::new("format version", 8);
const UNUSED: Field<2> = Field::new("unused", 10);
const REQUIRED_FEATURES: Field<4> = Field::new("required features", 12);
const OPTIONAL_FEATURES: Field<4> = Field::new("optional features", 16);
const RESERVED: Field<4> = Field::new("reserved", 20);
const IDENTITY: Field<16> = Field::new("identity", 24);
const RESERVED_TOO: Field<20> = Field::new("reserved", 40);
const CRC: Field<4> = Field::new("header checksum", 60);

/// The fields of a log file's header.
pub const LOG_HEADER_LAYOUT: [FieldPlace; 9] = [
    MAGIC.place(),
    VERSION.place(),
    UNUSED.place(),
    REQUIRED_FEATURES.place(),
    OPTIONAL_FEATURES.place(),
    RESERVED.place(),
    IDENTITY.place(),
    RESERVED_TOO.place(),
    CRC.place(),
];
const _: () = assert!(tiles(&LOG_HEADER_LAYOUT, LOG_HEADER_BYTES));

/// Required features that this version understands: none yet.
const REQUIRED_FEATURES_KNOWN: u32 = 0;

/// What a file of records is for; each kind has a magic of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LogKind {
    /// A log of the journal.
    Journal,
    /// The manifest.
    Manifest,
}

impl LogKind {
    /// The first eight bytes of such a file.
    pub const fn magic(self) -> [u8; 8] {
        match self {
            Self::Journal => *b"LSM\x00LOG\n",
            Self::Manifest => *b"LSM\x00MAN\n",
        }
    }
}

impl std::fmt::Display for LogKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Journal => "log of the journal",
            Self::Manifest => "manifest",
        })
    }
}

/// The bytes of a header.
pub(crate) fn encode_header(kind: LogKind, identity: Identity) -> [u8; LOG_HEADER_BYTES] {
    let mut bytes = [0; LOG_HEADER_BYTES];
    MAGIC.put(&mut bytes, kind.magic());
    VERSION.put(&mut bytes, LOG_FORMAT_VERSION.to_le_bytes());
    IDENTITY.put(&mut bytes, identity.to_bytes());
    let crc = header_crc(identity, &bytes);
    CRC.put(&mut bytes, crc.to_le_bytes());
    bytes
}

/// The checksum of what stands before it.
fn header_crc(identity: Identity, bytes: &[u8; LOG_HEADER_BYTES]) -> u32 {
    let (covered, _) = bytes.split_at(CRC.place().offset);
    salted_crc32(identity, 0, &[covered])
}

/// The identity in a header, which is checked.
///
/// # Errors
/// Corruption if it is none, or damaged; [`ErrorKind::NewerFormat`] if a newer version wrote it.
pub(crate) fn decode_header(kind: LogKind, bytes: &[u8; LOG_HEADER_BYTES]) -> Result<Identity> {
    let magic = MAGIC.get(bytes);
    if magic != kind.magic() {
        return Err(Error::corruption(format!("no {kind}: it begins with {}", magic.escape_ascii())));
    }
    let identity = Identity::from_bytes(IDENTITY.get(bytes));
    let (found, written) = (header_crc(identity, bytes), u32::from_le_bytes(CRC.get(bytes)));
    if found != written {
        return Err(Error::corruption(format!(
            "the file's header is damaged: its checksum is {found:08x}, {written:08x} is written there"
        )));
    }
    // Behind the checksum: what is not understood here is not damage.
    let version = u16::from_le_bytes(VERSION.get(bytes));
    let required = u32::from_le_bytes(REQUIRED_FEATURES.get(bytes));
    if version != LOG_FORMAT_VERSION || required & !REQUIRED_FEATURES_KNOWN != 0 {
        return Err(Error::new(
            ErrorKind::NewerFormat,
            format!(
                "a {kind} of format version {version} with required features {required:#x}; this program knows version \
                 {LOG_FORMAT_VERSION} and features {REQUIRED_FEATURES_KNOWN:#x}: open it with a newer one"
            ),
        ));
    }
    if RESERVED.get(bytes) != [0; 4] || RESERVED_TOO.get(bytes) != [0; 20] {
        return Err(Error::new(
            ErrorKind::NewerFormat,
            format!("a {kind} with something in reserved bytes: open it with a newer program"),
        ));
    }
    Ok(identity)
}

/// Where a log ends: what the first record of the next one repeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogEnd {
    /// The log's number.
    pub number: FileNumber,
    /// The log's identity.
    pub identity: Identity,
    /// Its records end here, in bytes from the file's start.
    pub offset: u64,
    /// The last sequence number in it, or in those before it if it has none.
    pub last_sequence: SequenceNumber,
}

impl LogEnd {
    /// The same, as it is recorded of the log.
    pub fn cut(&self) -> Cut {
        Cut { offset: self.offset, last_sequence: self.last_sequence }
    }
}

/// The first record of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// The log's number, as in its name.
    pub number: FileNumber,
    /// The log's identity: random bits of its own.
    pub identity: Identity,
    /// The identity of the database.
    pub database: Identity,
    /// Where the log before it ends; `None` in a database's first.
    pub previous: Option<LogEnd>,
    /// A batch in this log has this sequence number or a later one.
    pub next_sequence: SequenceNumber,
}

/// Bytes of a first record's payload.
pub const START_PAYLOAD_BYTES: usize = 64;
/// Bytes of a last record's payload.
pub const END_PAYLOAD_BYTES: usize = 8;

const START_NUMBER: Field<8> = Field::new("number", 0);
const START_DATABASE: Field<16> = Field::new("database", 8);
const START_PREVIOUS_NUMBER: Field<8> = Field::new("previous number", 24);
const START_PREVIOUS_IDENTITY: Field<16> = Field::new("previous identity", 32);
const START_PREVIOUS_END: Field<8> = Field::new("previous end", 48);
const START_PREVIOUS_LAST_SEQUENCE: Field<8> = Field::new("previous last sequence", 56);

/// The fields of a first record's payload.
pub const START_LAYOUT: [FieldPlace; 6] = [
    START_NUMBER.place(),
    START_DATABASE.place(),
    START_PREVIOUS_NUMBER.place(),
    START_PREVIOUS_IDENTITY.place(),
    START_PREVIOUS_END.place(),
    START_PREVIOUS_LAST_SEQUENCE.place(),
];
const _: () = assert!(tiles(&START_LAYOUT, START_PAYLOAD_BYTES));

const END_LAST_SEQUENCE: Field<8> = Field::new("last sequence", 0);

/// The fields of a last record's payload.
pub const END_LAYOUT: [FieldPlace; 1] = [END_LAST_SEQUENCE.place()];
const _: () = assert!(tiles(&END_LAYOUT, END_PAYLOAD_BYTES));

impl Start {
    /// The payload. Number 0 for the previous log means that there is none: zero is no file's number.
    pub(crate) fn encode(&self) -> [u8; START_PAYLOAD_BYTES] {
        let none = LogEnd { number: 0, identity: Identity::from_bytes([0; 16]), offset: 0, last_sequence: 0 };
        let previous = self.previous.unwrap_or(none);
        let mut bytes = [0; START_PAYLOAD_BYTES];
        START_NUMBER.put(&mut bytes, self.number.to_le_bytes());
        START_DATABASE.put(&mut bytes, self.database.to_bytes());
        START_PREVIOUS_NUMBER.put(&mut bytes, previous.number.to_le_bytes());
        START_PREVIOUS_IDENTITY.put(&mut bytes, previous.identity.to_bytes());
        START_PREVIOUS_END.put(&mut bytes, previous.offset.to_le_bytes());
        START_PREVIOUS_LAST_SEQUENCE.put(&mut bytes, previous.last_sequence.to_le_bytes());
        bytes
    }

    /// From the payload, and what the file's and the record's headers say.
    pub(crate) fn decode(payload: &[u8], identity: Identity, next_sequence: SequenceNumber) -> Result<Self> {
        let Ok(payload) = <&[u8; START_PAYLOAD_BYTES]>::try_from(payload) else {
            return Err(Error::corruption(format!(
                "a first record of {} bytes, {START_PAYLOAD_BYTES} are expected",
                payload.len()
            )));
        };
        let number = u64::from_le_bytes(START_NUMBER.get(payload));
        let database = Identity::from_bytes(START_DATABASE.get(payload));
        let previous = LogEnd {
            number: u64::from_le_bytes(START_PREVIOUS_NUMBER.get(payload)),
            identity: Identity::from_bytes(START_PREVIOUS_IDENTITY.get(payload)),
            offset: u64::from_le_bytes(START_PREVIOUS_END.get(payload)),
            last_sequence: u64::from_le_bytes(START_PREVIOUS_LAST_SEQUENCE.get(payload)),
        };
        if number == 0 {
            return Err(Error::corruption("a log of number 0"));
        }
        let previous = (previous.number != 0).then_some(previous);
        if previous.is_some_and(|previous| previous.number >= number) {
            return Err(Error::corruption(format!("log {number} says that it follows {previous:?}")));
        }
        Ok(Self { number, identity, database, previous, next_sequence })
    }
}

/// The payload of a last record.
pub(crate) fn encode_end(last_sequence: SequenceNumber) -> [u8; END_PAYLOAD_BYTES] {
    let mut bytes = [0; END_PAYLOAD_BYTES];
    END_LAST_SEQUENCE.put(&mut bytes, last_sequence.to_le_bytes());
    bytes
}

/// The last sequence number in a last record's payload.
pub(crate) fn decode_end(payload: &[u8]) -> Result<SequenceNumber> {
    match <&[u8; END_PAYLOAD_BYTES]>::try_from(payload) {
        Ok(bytes) => Ok(SequenceNumber::from_le_bytes(END_LAST_SEQUENCE.get(bytes))),
        Err(_) => Err(Error::corruption(format!(
            "a last record of {} bytes, {END_PAYLOAD_BYTES} are expected",
            payload.len()
        ))),
    }
}

/// Draws the random identity of a new file.
///
/// # Errors
/// [`ErrorKind::Io`] if the system has no randomness.
pub fn random_identity() -> Result<Identity> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)
        .map_err(|error| Error::new(ErrorKind::Io, format!("the system gives no random bytes: {error}")))?;
    Ok(Identity::from_bytes(bytes))
}
