//! Filling a pack: frames are sealed in place, at the end of one buffer.

use std::fmt;

use super::header::{PACK_HEADER_BYTES, PackHeader};
use super::toc::{ChunkEntry, FrameEntry, FramePlace, Toc, contents_bytes};
use super::trailer::{TRAILER_BYTES, Trailer};
use super::{CONTENTS, CONTENTS_BYTES_MAX, PACK_BYTES_MAX, TRAILER, padded};
use crate::error::{Error, ErrorKind, Result};
use crate::frame::{CompressedFrame, FrameKind, FrameSize, seal_frame, seal_plain};
use crate::id::{IntentId, ObjectHash};
use crate::seal::{BoxKind, BoxNumber, Cipher, Sealer};
use crate::secret::{Epoch, Purpose, Secrets, fill_random};

/// Encrypted packs shorter than this are padded: their number and sizes would tell what changed. Longer ones are as long as a full pack is.
const PADDED_BYTES_MAX: usize = 4 << 20;

/// A pack that is whole.
pub struct FinishedPack {
    /// Its name: BLAKE3 of its bytes.
    pub name: ObjectHash,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// What it holds.
    pub toc: Toc,
}

impl fmt::Debug for FinishedPack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FinishedPack({}, {} bytes)", self.name, self.bytes.len())
    }
}

/// A pack that is being filled.
pub struct Writer {
    sealer: Sealer,
    header: [u8; PACK_HEADER_BYTES],
    bytes: Vec<u8>,
    toc: Toc,
    chunks: usize,
    contents_bytes_max: usize,
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Writer({} frames, {} bytes)", self.toc.frames.len(), self.bytes.len())
    }
}

impl Writer {
    /// A pack of the writer with this `intent`, sealed by `cipher` under the secret of `epoch`.
    ///
    /// `buffer` is cleared and filled: give one with the capacity of a full pack and a frame (as from the pack before), and nothing is
    /// ever moved or reserved.
    ///
    /// # Errors
    /// Not the same, if the secret of that epoch is not there; local, if the system has no randomness to give.
    pub fn new(
        secrets: &Secrets,
        epoch: Epoch,
        cipher: Cipher,
        intent: IntentId,
        buffer: Vec<u8>,
    ) -> Result<Self> {
        let mut salt = [0; 32];
        fill_random(&mut salt)?;
        Self::with_salt(secrets, epoch, cipher, intent, salt, buffer)
    }

    /// As [`Writer::new`] with a given salt: never but in tests, whose packs must have the same bytes each time.
    pub(crate) fn with_salt(
        secrets: &Secrets,
        epoch: Epoch,
        cipher: Cipher,
        intent: IntentId,
        salt: [u8; 32],
        mut buffer: Vec<u8>,
    ) -> Result<Self> {
        let mut header =
            PackHeader { cipher, optional_features: 0, epoch, intent, salt, commitment: [0; 32] };
        let sealer = Sealer::new(cipher, &secrets.of_epoch(epoch, Purpose::Pack)?, &header.bound());
        header.commitment = *sealer.commitment();
        let header = header.encode();
        buffer.clear();
        buffer.extend_from_slice(&header);
        Ok(Self {
            sealer,
            header,
            bytes: buffer,
            toc: Toc::default(),
            chunks: 0,
            contents_bytes_max: CONTENTS_BYTES_MAX,
        })
    }

    /// As a writer that knew no bound of the table of contents.
    #[cfg(test)]
    pub(crate) fn without_bound(self) -> Self {
        Self { contents_bytes_max: usize::MAX, ..self }
    }

    /// Whether the pack takes the frame. An empty one takes any.
    pub fn has_room_for(&self, frame: &CompressedFrame) -> bool {
        // Half the limit is left to the tables of contents, which take a small part of that.
        let fits = (self.bytes.len() + frame.data_bytes()) as u64 <= PACK_BYTES_MAX / 2;
        let chunks = self.chunks + frame.chunks().len();
        fits && contents_bytes(self.toc.frames.len() + 1, chunks) <= self.contents_bytes_max
    }

    /// Seals a frame into the pack.
    ///
    /// # Errors
    /// Invalid argument if there is no room for it ([`Writer::has_room_for`]): finish the pack first.
    pub fn add(&mut self, frame: &CompressedFrame) -> Result<()> {
        let offset = self.bytes.len();
        let number = u32::try_from(self.toc.frames.len()).unwrap_or(u32::MAX);
        if !self.has_room_for(frame) || number == u32::MAX {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                format!("a pack of {offset} bytes and {} chunks takes no more frames", self.chunks),
            ));
        }
        seal_frame(&self.sealer, BoxNumber(number.into()), frame, &mut self.bytes);
        let stored_bytes = u32::try_from(self.bytes.len() - offset).unwrap_or(u32::MAX);
        self.chunks += frame.chunks().len();
        self.toc.frames.push(FrameEntry {
            place: FramePlace { number, offset: offset as u64, stored_bytes },
            raw_bytes: frame.raw_bytes(),
            chunks: frame
                .chunks()
                .iter()
                .map(|(id, length)| ChunkEntry { id: *id, length: *length })
                .collect(),
        });
        Ok(())
    }

    /// How long the pack is so far, without tables of contents and trailer.
    pub fn stored_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// What it holds so far.
    pub fn toc(&self) -> &Toc {
        &self.toc
    }

    /// Whether it holds nothing yet.
    pub fn is_empty(&self) -> bool {
        self.toc.frames.is_empty()
    }

    /// Ends the pack: pads it if it is small, adds its tables of contents, trailer and header once more, names it.
    pub fn finish(self) -> FinishedPack {
        let Self { sealer, header, mut bytes, toc, .. } = self;
        let cipher = sealer.cipher();
        let contents = toc.encode();
        let contents_bytes = FrameSize::of(cipher, contents.len());
        let rest = 2 * contents_bytes + TRAILER_BYTES + cipher.overhead() + PACK_HEADER_BYTES;
        let frame_count = u32::try_from(toc.frames.len()).unwrap_or(u32::MAX);
        let unpadded = bytes.len() + rest;
        let mut expected = unpadded;
        if cipher != Cipher::None && unpadded < PADDED_BYTES_MAX {
            let least = unpadded + FrameSize::of(cipher, 0);
            expected = padded(least);
            let padding = vec![0; expected - least];
            seal_plain(&sealer, BoxNumber(frame_count.into()), FrameKind::Padding, &padding, &mut bytes);
        }
        let offset = bytes.len();
        bytes.reserve(rest);
        for number in CONTENTS {
            seal_plain(&sealer, number, FrameKind::Contents, &contents, &mut bytes);
        }
        let trailer = Trailer {
            pack_bytes: expected as u64,
            contents_offsets: [offset as u64, (offset + contents_bytes) as u64],
            contents_stored_bytes: u32::try_from(contents_bytes).unwrap_or(u32::MAX),
            frame_count,
        };
        sealer.seal(TRAILER, BoxKind::PackTrailer, &[&trailer.encode()], &mut bytes);
        // Without salt and commitment nothing of a pack can be read: so they stand at both ends, and no torn one loses the rest.
        bytes.extend_from_slice(&header);
        assert!(bytes.len() == expected, "a pack of {} bytes, {expected} expected", bytes.len());
        assert!(bytes.len() > PACK_HEADER_BYTES && bytes.len() as u64 <= PACK_BYTES_MAX, "a pack's length");
        FinishedPack { name: ObjectHash::of(&[&bytes]), bytes, toc }
    }
}
