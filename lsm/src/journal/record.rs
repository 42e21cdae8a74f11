//! One record: a header whose checksum is its own, a payload with another, zeros up to a multiple of eight.
//!
//! ```text
//!  0        4        8        12       16               24               32   33    34        40
//!  +--------+--------+--------+--------+----------------+----------------+----+-----+---------+---------+-----+
//!  | header | payload| payload| op     | first          | durable        |kind|flags| reserved| payload | 0.. |
//!  | crc    | crc    | length | count  | sequence       | offset         |    |     |         |         |     |
//!  +--------+--------+--------+--------+----------------+----------------+----+-----+---------+---------+-----+
//! ```
//!
//! The header's checksum is apart from the payload's so that damage in a payload does not lose the framing: the next record
//! is found, and with it how much was durable. Both are salted with the log's identity and the place, so that an old record,
//! or one in a copy of the log inside a payload, is no record here. FORMAT.md, "Journal".

use crate::checksum::{Identity, salted_crc32};
use crate::error::{Error, ErrorKind, Result};
use crate::key::{SEQUENCE_MAX, SequenceNumber};
use crate::layout::{Field, FieldPlace, tiles};

/// Bytes of a record's header.
pub const RECORD_HEADER_BYTES: usize = 40;
/// Records begin at multiples of this.
pub const RECORD_ALIGNMENT: usize = 8;
/// The longest payload: what one batch may hold, and what a reader reserves at most (and never more than the file has left).
pub const PAYLOAD_BYTES_MAX: usize = 1 << 30;

const HEADER_CRC: Field<4> = Field::new("header checksum", 0);
const PAYLOAD_CRC: Field<4> = Field::new("payload checksum", 4);
const PAYLOAD_BYTES: Field<4> = Field::new("payload length", 8);
const OP_COUNT: Field<4> = Field::new("op count", 12);
const FIRST_SEQUENCE: Field<8> = Field::new("first sequence", 16);
const DURABLE_OFFSET: Field<8> = Field::new("durable offset", 24);
const KIND: Field<1> = Field::new("kind", 32);
const FLAGS: Field<1> = Field::new("flags", 33);
const RESERVED: Field<6> = Field::new("reserved", 34);

/// The fields of a record's header.
pub const RECORD_HEADER_LAYOUT: [FieldPlace; 9] = [
    HEADER_CRC.place(),
    PAYLOAD_CRC.place(),
    PAYLOAD_BYTES.place(),
    OP_COUNT.place(),
    FIRST_SEQUENCE.place(),
    DURABLE_OFFSET.place(),
    KIND.place(),
    FLAGS.place(),
    RESERVED.place(),
];
const _: () = assert!(tiles(&RECORD_HEADER_LAYOUT, RECORD_HEADER_BYTES));
const _: () = assert!(RECORD_HEADER_BYTES.is_multiple_of(RECORD_ALIGNMENT));

/// What a header's checksum covers begins here, behind itself.
const COVERED_OFFSET: usize = PAYLOAD_CRC.place().offset;

/// What a record is. Zero is no valid kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RecordKind {
    /// The first of a log: which log it is, and where the one before it ends.
    Start = 1,
    /// What the log is for.
    Batch = 2,
    /// Nothing but the header: says how much is durable, or that a sync was asked for.
    Mark = 3,
    /// The last of a log that was ended in order.
    End = 4,
    /// Nothing: fills up to a boundary.
    Pad = 5,
}

impl RecordKind {
    fn from_u8(kind: u8) -> Option<Self> {
        match kind {
            1 => Some(Self::Start),
            2 => Some(Self::Batch),
            3 => Some(Self::Mark),
            4 => Some(Self::End),
            5 => Some(Self::Pad),
            _ => None,
        }
    }
}

/// Bit of the flags: durability was asked for, of this record and of all before it.
pub const FLAG_SYNC_ASKED: u8 = 1;

/// A record's header, but for its checksums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHeader {
    /// What it is.
    pub kind: RecordKind,
    /// Whether durability was asked for, of this record and of all before it.
    pub sync_asked: bool,
    /// How many sequence numbers it takes; 0 unless it is a batch.
    pub op_count: u32,
    /// The first of them. In a record that takes none: the next that a batch may have.
    pub first_sequence: SequenceNumber,
    /// This log is known to be durable up to here. At most the record's own offset.
    pub durable_offset: u64,
}

impl RecordHeader {
    /// The last sequence number that it takes, or, if it takes none, the one before its first.
    pub fn last_sequence(&self) -> SequenceNumber {
        self.first_sequence.saturating_add(u64::from(self.op_count)).saturating_sub(1)
    }
}

/// A header read back, with what it says of its payload. Its own checksum held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RawHeader {
    /// The header.
    pub(crate) header: RecordHeader,
    /// Bytes of its payload.
    pub(crate) payload_bytes: u32,
    payload_crc: u32,
}

impl RawHeader {
    /// Bytes of the whole record in the file.
    pub(crate) fn record_bytes(&self) -> u64 {
        (RECORD_HEADER_BYTES + padded(self.payload_bytes as usize)) as u64
    }

    /// Whether `body`, the payload and the zeros behind it, is what was written at `offset` (the record's).
    pub(crate) fn matches(&self, identity: Identity, offset: u64, body: &[u8]) -> bool {
        salted_crc32(identity, offset + RECORD_HEADER_BYTES as u64, &[body]) == self.payload_crc
    }
}

/// Bytes of a payload in the file.
pub(crate) fn padded(payload_bytes: usize) -> usize {
    payload_bytes.next_multiple_of(RECORD_ALIGNMENT)
}

/// Why bytes are no record.
#[derive(Clone, Debug)]
pub(crate) enum NoRecord {
    /// The header's checksum does not hold: torn, damaged, or never written.
    Checksum,
    /// It holds, but the header says what this version does not understand.
    Unknown(Error),
}

/// Appends a record that will stand at `offset` in the log of this identity.
///
/// # Errors
/// [`ErrorKind::InvalidArgument`] if the payload is longer than [`PAYLOAD_BYTES_MAX`]; nothing is appended.
pub(crate) fn encode_record(
    out: &mut Vec<u8>,
    identity: Identity,
    offset: u64,
    header: &RecordHeader,
    payload: &[u8],
) -> Result<()> {
    let payload_bytes = match u32::try_from(payload.len()) {
        Ok(bytes) if payload.len() <= PAYLOAD_BYTES_MAX => bytes,
        _ => {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                format!("a record of {} bytes; {PAYLOAD_BYTES_MAX} are the most", payload.len()),
            ));
        }
    };
    assert!(offset.is_multiple_of(RECORD_ALIGNMENT as u64), "records begin at multiples of eight");
    assert!(header.durable_offset <= offset, "a record cannot know that itself is durable");
    assert!(header.last_sequence() <= SEQUENCE_MAX, "sequence numbers have 56 bits");
    let zeros = [0; RECORD_ALIGNMENT];
    let (padding, _) = zeros.split_at(padded(payload.len()) - payload.len());
    let payload_crc = salted_crc32(identity, offset + RECORD_HEADER_BYTES as u64, &[payload, padding]);
    let mut bytes = [0; RECORD_HEADER_BYTES];
    PAYLOAD_CRC.put(&mut bytes, payload_crc.to_le_bytes());
    PAYLOAD_BYTES.put(&mut bytes, payload_bytes.to_le_bytes());
    OP_COUNT.put(&mut bytes, header.op_count.to_le_bytes());
    FIRST_SEQUENCE.put(&mut bytes, header.first_sequence.to_le_bytes());
    DURABLE_OFFSET.put(&mut bytes, header.durable_offset.to_le_bytes());
    KIND.put(&mut bytes, [header.kind as u8]);
    FLAGS.put(&mut bytes, [if header.sync_asked { FLAG_SYNC_ASKED } else { 0 }]);
    let (_, covered) = bytes.split_at(COVERED_OFFSET);
    let header_crc = salted_crc32(identity, offset, &[covered]);
    HEADER_CRC.put(&mut bytes, header_crc.to_le_bytes());
    out.reserve(RECORD_HEADER_BYTES + payload.len() + padding.len());
    out.extend_from_slice(&bytes);
    out.extend_from_slice(payload);
    out.extend_from_slice(padding);
    Ok(())
}

/// Reads the header of a record that would stand at `offset`.
pub(crate) fn decode_header(
    identity: Identity,
    offset: u64,
    bytes: &[u8; RECORD_HEADER_BYTES],
) -> Result<RawHeader, NoRecord> {
    let (_, covered) = bytes.split_at(COVERED_OFFSET);
    if salted_crc32(identity, offset, &[covered]) != u32::from_le_bytes(HEADER_CRC.get(bytes)) {
        return Err(NoRecord::Checksum);
    }
    fields(offset, bytes).map_err(|error| NoRecord::Unknown(error.at_offset(offset)))
}

/// A look without a checksum: most bytes are not the fields of a header at `offset`, of this version or a later one.
pub(crate) fn is_plausible(offset: u64, bytes: &[u8; RECORD_HEADER_BYTES]) -> bool {
    let first_sequence = u64::from_le_bytes(FIRST_SEQUENCE.get(bytes));
    u32::from_le_bytes(PAYLOAD_BYTES.get(bytes)) as usize <= PAYLOAD_BYTES_MAX
        && (1..=SEQUENCE_MAX).contains(&first_sequence)
        && u64::from_le_bytes(DURABLE_OFFSET.get(bytes)) <= offset
}

/// The fields behind the header's checksum, which holds: so what is wrong here was written so.
fn fields(offset: u64, bytes: &[u8; RECORD_HEADER_BYTES]) -> Result<RawHeader> {
    let payload_crc = u32::from_le_bytes(PAYLOAD_CRC.get(bytes));
    let payload_bytes = u32::from_le_bytes(PAYLOAD_BYTES.get(bytes));
    let op_count = u32::from_le_bytes(OP_COUNT.get(bytes));
    let first_sequence = u64::from_le_bytes(FIRST_SEQUENCE.get(bytes));
    let durable_offset = u64::from_le_bytes(DURABLE_OFFSET.get(bytes));
    let ([kind], [flags], reserved) = (KIND.get(bytes), FLAGS.get(bytes), RESERVED.get(bytes));
    let newer = |what: String| {
        Error::new(
            ErrorKind::NewerFormat,
            format!("{what}: written by a newer version; open it with that one"),
        )
    };
    let Some(kind) = RecordKind::from_u8(kind) else {
        return Err(newer(format!("a record of unknown kind {kind}")));
    };
    if flags & !FLAG_SYNC_ASKED != 0 || reserved != [0; 6] {
        return Err(newer(format!(
            "a record with unknown flags {flags:#04x} or reserved bytes {reserved:02x?}"
        )));
    }
    let header = RecordHeader {
        kind,
        sync_asked: flags & FLAG_SYNC_ASKED != 0,
        op_count,
        first_sequence,
        durable_offset,
    };
    let wrong = |what: &str| Err(Error::corruption(format!("a record that cannot be: {what}: {header:?}")));
    if payload_bytes as usize > PAYLOAD_BYTES_MAX {
        return wrong("its payload is too long");
    }
    if (kind == RecordKind::Batch) != (op_count > 0) {
        return wrong("batches, and only they, take sequence numbers");
    }
    if first_sequence == 0 || first_sequence > SEQUENCE_MAX || header.last_sequence() > SEQUENCE_MAX {
        return wrong("its sequence numbers are out of range");
    }
    if durable_offset > offset {
        return wrong("it says of itself that it is durable");
    }
    Ok(RawHeader { header, payload_bytes, payload_crc })
}
