//! A frame as it stands in a pack: a box with its header, a box with its body.

use super::Codec;
use super::header::{FRAME_HEADER_BYTES, FrameHeader, FrameKind};
use super::writer::CompressedFrame;
use crate::error::Result;
use crate::seal::{BoxKind, BoxNumber, Cipher, Sealer};

/// How long a sealed frame header is.
pub(crate) const fn header_box_bytes(cipher: Cipher) -> usize {
    FRAME_HEADER_BYTES + cipher.overhead()
}

/// How long a frame is in its pack, headers and seals included.
pub(crate) struct FrameSize;

impl FrameSize {
    /// The length of a frame whose body has `body_bytes` of plaintext.
    pub(crate) const fn of(cipher: Cipher, body_bytes: usize) -> usize {
        header_box_bytes(cipher) + body_bytes + cipher.overhead()
    }
}

/// Appends `frame` as number `number` of a pack.
pub(crate) fn seal_frame(sealer: &Sealer, number: BoxNumber, frame: &CompressedFrame, out: &mut Vec<u8>) {
    let table = frame.table();
    let length = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
    let header = FrameHeader {
        kind: FrameKind::Solid,
        codec: frame.codec,
        chunk_count: length(frame.chunks.len()),
        table_bytes: length(table.len()),
        raw_bytes: frame.raw_bytes,
        body_bytes: length(table.len() + frame.data.len()),
    }
    .encode();
    assert!(FrameHeader::decode(&header).is_ok(), "a frame that no reader would take must not be stored");
    sealer.seal(number, BoxKind::FrameHeader, &[&header], out);
    sealer.seal(number, BoxKind::FrameBody, &[&table, &frame.data], out);
}

/// Appends a frame of another kind whose body is `body`, as it is.
pub(crate) fn seal_plain(
    sealer: &Sealer,
    number: BoxNumber,
    kind: FrameKind,
    body: &[u8],
    out: &mut Vec<u8>,
) {
    let bytes = u32::try_from(body.len()).unwrap_or(u32::MAX);
    let header = FrameHeader {
        kind,
        codec: Codec::None,
        chunk_count: 0,
        table_bytes: 0,
        raw_bytes: bytes,
        body_bytes: bytes,
    };
    sealer.seal(number, BoxKind::FrameHeader, &[&header.encode()], out);
    sealer.seal(number, BoxKind::FrameBody, &[body], out);
}

/// The header of frame `number`, if its box is `stored`: for searches, which expect that it is not.
pub(crate) fn try_open_header(sealer: &Sealer, number: BoxNumber, stored: &[u8]) -> Option<FrameHeader> {
    let mut plain = Vec::with_capacity(FRAME_HEADER_BYTES);
    sealer.try_open_into(number, BoxKind::FrameHeader, stored, &mut plain)?;
    FrameHeader::decode(&plain).ok()
}

/// The header of frame `number`, whose box is `stored`.
pub(crate) fn open_header(sealer: &Sealer, number: BoxNumber, stored: &[u8]) -> Result<FrameHeader> {
    FrameHeader::decode(&sealer.open(number, BoxKind::FrameHeader, stored)?)
}

/// The body's plaintext of frame `number`, whose box is `stored`.
pub(crate) fn open_body(sealer: &Sealer, number: BoxNumber, stored: &[u8]) -> Result<Vec<u8>> {
    sealer.open(number, BoxKind::FrameBody, stored)
}
