//! Reading packs, whole or by ranges, good or damaged.

use std::borrow::Cow;
use std::fmt;

use super::header::{PACK_HEADER_BYTES, PackHeader};
use super::toc::{FRAME_STORED_BYTES_MAX, FrameEntry, FramePlace, Toc};
use super::trailer::{TRAILER_BYTES, Trailer};
use super::{CONTENTS, PACK_BYTES_MAX, TRAILER};
use crate::chunk::Hasher;
use crate::error::{Error, ErrorKind, Result};
use crate::frame::{
    DecodedFrame, Decompressor, FrameHeader, FrameKind, FrameSize, decode, header_box_bytes, open_body,
    open_header,
};
use crate::id::ObjectHash;
use crate::seal::{BoxKind, BoxNumber, Sealer};
use crate::secret::{Purpose, Secrets};

/// Bytes that can be read at places: a whole pack in memory, or an object on a target.
pub trait ReadAt {
    /// How long they are.
    fn length(&self) -> u64;
    /// `length` bytes from `offset`; fewer where they end early.
    ///
    /// # Errors
    /// Those of the target.
    fn read(&self, offset: u64, length: usize) -> Result<Cow<'_, [u8]>>;
}

impl ReadAt for [u8] {
    fn length(&self) -> u64 {
        self.len() as u64
    }

    fn read(&self, offset: u64, length: usize) -> Result<Cow<'_, [u8]>> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(self.len());
        let end = start.saturating_add(length).min(self.len());
        Ok(Cow::Borrowed(self.get(start..end).unwrap_or_default()))
    }
}

/// An object of known length, read by a function from offset and length: for instance `Target::get_range`.
pub struct ReadRanges<F> {
    /// How long the object is.
    pub length: u64,
    /// Reads `length` bytes from `offset`.
    pub read: F,
}

impl<F: Fn(u64, usize) -> Result<Vec<u8>>> ReadAt for ReadRanges<F> {
    fn length(&self) -> u64 {
        self.length
    }

    fn read(&self, offset: u64, length: usize) -> Result<Cow<'_, [u8]>> {
        (self.read)(offset, length).map(Cow::Owned)
    }
}

/// From where a table of contents was got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TocOrigin {
    /// The first one, where the trailer says it is.
    First,
    /// The second one, the first being damaged; or either, found without the trailer.
    Other,
    /// None: both are lost; made again from the frames, as far as these are good.
    Frames,
}

/// A table of contents, and what was wrong on the way to it.
#[derive(Debug)]
pub struct TocRead {
    /// What the pack holds.
    pub toc: Toc,
    /// From where it is. Anything but [`TocOrigin::First`] means that the pack is damaged and should be healed.
    pub origin: TocOrigin,
    /// What was wrong, in the order met; empty if the pack is good as far as it was read.
    pub faults: Vec<Error>,
}

/// What a full check of a pack found.
#[derive(Debug)]
pub struct PackCheck {
    /// What the pack holds, as far as that can be told.
    pub toc: Toc,
    /// The frames whose chunks are not all good, and why.
    pub bad_frames: Vec<(FramePlace, Error)>,
    /// What else is wrong.
    pub faults: Vec<Error>,
}

impl PackCheck {
    /// Whether nothing is wrong.
    pub fn is_good(&self) -> bool {
        self.bad_frames.is_empty() && self.faults.is_empty()
    }
}

/// A pack that is being read: its header was good, and sealed by a secret of this repository.
pub struct Reader<'a, S: ReadAt + ?Sized> {
    pub(super) source: &'a S,
    header: PackHeader,
    /// What was wrong with the header at the front, if the one at the end had to be taken.
    header_fault: Option<Error>,
    pub(super) sealer: Sealer,
    pub(super) hasher: Hasher,
}

impl<S: ReadAt + ?Sized> fmt::Debug for Reader<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("pack::Reader").field("header", &self.header).finish_non_exhaustive()
    }
}

impl<'a, S: ReadAt + ?Sized> Reader<'a, S> {
    /// Reads the header of the pack in `source`, the one at its end if the one at its front is damaged, and prepares its keys.
    ///
    /// # Errors
    /// Damage if this is no pack or both are damaged; newer format; not the same if it is sealed with a secret that is not
    /// among `secrets`; those of the target.
    pub fn open(source: &'a S, secrets: &Secrets) -> Result<Self> {
        let length = source.length();
        if length > PACK_BYTES_MAX {
            return Err(Error::damage(format!(
                "a pack of {length} bytes: at most {PACK_BYTES_MAX} are possible"
            )));
        }
        let (header, header_fault) = match PackHeader::decode(&source.read(0, PACK_HEADER_BYTES)?) {
            Ok(header) => (header, None),
            Err(error) if is_damage(&error) => {
                let offset = length.saturating_sub(PACK_HEADER_BYTES as u64);
                match PackHeader::decode(&source.read(offset, PACK_HEADER_BYTES)?) {
                    Ok(header) => (header, Some(error)),
                    // What is wrong with the front is the better thing to say.
                    Err(other) if is_damage(&other) => return Err(error),
                    Err(other) => return Err(other),
                }
            }
            Err(error) => return Err(error),
        };
        let secret = secrets.of_epoch(header.epoch, Purpose::Pack)?;
        let sealer = Sealer::new(header.cipher, &secret, &header.bound());
        if *sealer.commitment() != header.commitment {
            return Err(Error::new(
                ErrorKind::NotTheSame,
                "this pack is sealed with the secret of another repository, or is a forgery",
            ));
        }
        Ok(Self { source, header, header_fault, sealer, hasher: Hasher::new(secrets) })
    }

    /// Its header.
    pub fn header(&self) -> &PackHeader {
        &self.header
    }

    /// The table of contents: where the trailer says; else wherever it, or the second one, is found; else made from the frames.
    /// A good pack costs two reads more; one that lost its tables is read whole.
    ///
    /// # Errors
    /// Newer format; those of the target. Damage is in the result, not an error: what can be had is had.
    pub fn toc(&self, decompressor: &mut Decompressor) -> Result<TocRead> {
        let mut faults: Vec<Error> = self.header_fault.iter().cloned().collect();
        match self.trailer() {
            Ok(trailer) => {
                for ((number, offset), origin) in CONTENTS
                    .into_iter()
                    .zip(trailer.contents_offsets)
                    .zip([TocOrigin::First, TocOrigin::Other])
                {
                    match self.contents(number, offset, trailer.contents_stored_bytes, &trailer) {
                        Ok(toc) => return Ok(TocRead { toc, origin, faults }),
                        Err(error) => keep_damage(&mut faults, error)?,
                    }
                }
            }
            Err(error) => {
                keep_damage(&mut faults, error)?;
                if let Some(toc) = self.search_contents()? {
                    return Ok(TocRead { toc, origin: TocOrigin::Other, faults });
                }
                faults.push(Error::damage("no table of contents was found"));
            }
        }
        let toc = self.walk(decompressor, &mut faults)?;
        Ok(TocRead { toc, origin: TocOrigin::Frames, faults })
    }

    /// The frame at `place`, decoded.
    ///
    /// # Errors
    /// Damage if it is not what was written there; newer format; those of the target.
    pub fn read_frame(&self, place: &FramePlace, decompressor: &mut Decompressor) -> Result<DecodedFrame> {
        let what = || format!("frame {} at offset {}", place.number, place.offset);
        if place.stored_bytes > FRAME_STORED_BYTES_MAX {
            return Err(Error::damage(format!("{}: no frame has {} bytes", what(), place.stored_bytes)));
        }
        let stored = self
            .read_exactly(place.offset, u64::from(place.stored_bytes))
            .map_err(|error| error.at(what()))?;
        self.decode_stored(place.number, &stored, decompressor).map_err(|error| error.at(what()))
    }

    /// As [`Reader::read_frame`], from bytes of the pack that were read already: of several frames at once, for instance.
    ///
    /// # Errors
    /// Damage if they are not frame `number`; newer format.
    pub fn decode_stored(
        &self,
        number: u32,
        stored: &[u8],
        decompressor: &mut Decompressor,
    ) -> Result<DecodedFrame> {
        let number = BoxNumber(number.into());
        let (head, body) = stored
            .split_at_checked(header_box_bytes(self.sealer.cipher()))
            .ok_or_else(|| Error::damage(format!("{} bytes are no frame", stored.len())))?;
        let header = open_header(&self.sealer, number, head)?;
        decode(decompressor, &header, open_body(&self.sealer, number, body)?)
    }

    /// The chunks of the frame `entry`, each of them checked against its id.
    ///
    /// # Errors
    /// As [`Reader::read_frame`].
    pub fn read_checked(&self, entry: &FrameEntry, decompressor: &mut Decompressor) -> Result<DecodedFrame> {
        let frame = self.read_frame(&entry.place, decompressor)?;
        let what = || format!("frame {} at offset {}", entry.place.number, entry.place.offset);
        if frame.chunk_count() != entry.chunks.len() {
            return Err(Error::damage(format!(
                "{}: {} chunks expected, {} found",
                what(),
                entry.chunks.len(),
                frame.chunk_count()
            )));
        }
        for (index, chunk) in entry.chunks.iter().enumerate() {
            frame.chunk(index, &chunk.id, &self.hasher).map_err(|error| error.at(what()))?;
        }
        Ok(frame)
    }

    /// Reads everything: header, trailer, both tables, each frame, each chunk. With `name`, also whether the bytes have that hash.
    ///
    /// # Errors
    /// Newer format; those of the target. Damage is in the result.
    pub fn check(&self, name: Option<&ObjectHash>, decompressor: &mut Decompressor) -> Result<PackCheck> {
        let TocRead { toc, mut faults, .. } = self.toc(decompressor)?;
        let end = self.source.length().saturating_sub(PACK_HEADER_BYTES as u64);
        if *self.read_exactly(end, PACK_HEADER_BYTES as u64)? != self.header.encode() {
            faults.push(Error::damage("the header at its end is not the one at its front"));
        }
        if let Some(name) = name {
            let found = ObjectHash::of(&[&self.read_exactly(0, self.source.length())?]);
            if found != *name {
                faults.push(Error::damage(format!("its bytes hash to {found}")));
            }
        }
        if let Ok(trailer) = self.trailer() {
            let [_, offset] = trailer.contents_offsets;
            let [_, number] = CONTENTS;
            match self.contents(number, offset, trailer.contents_stored_bytes, &trailer) {
                Ok(second) if second == toc => {}
                Ok(_) => faults.push(Error::damage("its two tables of contents differ")),
                Err(error) => keep_damage(&mut faults, error)?,
            }
        }
        let mut bad_frames = Vec::new();
        let mut end = PACK_HEADER_BYTES as u64;
        for entry in &toc.frames {
            end = entry.place.offset + u64::from(entry.place.stored_bytes);
            if let Err(error) = self.read_checked(entry, decompressor) {
                if !is_damage(&error) {
                    return Err(error);
                }
                bad_frames.push((entry.place, error));
            }
        }
        if let Ok(trailer) = self.trailer()
            && let Err(error) = self.check_padding(end, &trailer)
        {
            keep_damage(&mut faults, error)?;
        }
        Ok(PackCheck { toc, bad_frames, faults })
    }

    /// Header and body of each frame, opened but not decoded: for annotated dumps.
    #[cfg(test)]
    pub(crate) fn plaintexts(&self, toc: &Toc) -> Vec<(Vec<u8>, Vec<u8>)> {
        let open = |entry: &FrameEntry| {
            let number = BoxNumber(entry.place.number.into());
            let stored = self.read_exactly(entry.place.offset, entry.place.stored_bytes.into()).unwrap();
            let (head, body) = stored.split_at(header_box_bytes(self.sealer.cipher()));
            let head = self.sealer.open(number, BoxKind::FrameHeader, head).unwrap();
            (head, open_body(&self.sealer, number, body).unwrap())
        };
        toc.frames.iter().map(open).collect()
    }

    /// What stands between the last frame and the first table: nothing, or a frame of padding.
    fn check_padding(&self, start: u64, trailer: &Trailer) -> Result<()> {
        let [end, _] = trailer.contents_offsets;
        if start == end {
            return Ok(());
        }
        let length =
            end.checked_sub(start).ok_or_else(|| Error::damage("frames and tables of contents overlap"))?;
        let stored = self.read_exactly(start, length)?;
        let number = BoxNumber(trailer.frame_count.into());
        let (head, body) = stored
            .split_at_checked(header_box_bytes(self.sealer.cipher()))
            .ok_or_else(|| Error::damage(format!("{length} bytes between frames and tables of contents")))?;
        let header = open_header(&self.sealer, number, head)?;
        if header.kind != FrameKind::Padding {
            return Err(Error::damage("a frame behind the last one"));
        }
        open_body(&self.sealer, number, body).map(|_| ())
    }

    pub(super) fn read_exactly(&self, offset: u64, length: u64) -> Result<Cow<'_, [u8]>> {
        let all = self.source.length();
        let short = |found: u64| {
            Error::damage(format!(
                "{length} bytes expected at offset {offset} of a pack of {all}, {found} found"
            ))
        };
        // Before anything is reserved: a length from a damaged or forged header must not exceed what is there.
        if offset.checked_add(length).is_none_or(|end| end > all) {
            return Err(short(all.saturating_sub(offset)));
        }
        let bytes = self.source.read(offset, usize::try_from(length).map_err(|_| short(0))?)?;
        if bytes.len() as u64 != length {
            return Err(short(bytes.len() as u64));
        }
        Ok(bytes)
    }

    fn trailer(&self) -> Result<Trailer> {
        let box_bytes = (TRAILER_BYTES + self.sealer.cipher().overhead()) as u64;
        let offset = self.source.length().saturating_sub(box_bytes + PACK_HEADER_BYTES as u64);
        let stored = self.read_exactly(offset, box_bytes).map_err(|error| error.at("trailer"))?;
        Trailer::decode(
            &self.sealer.open(TRAILER, BoxKind::PackTrailer, &stored)?,
            offset,
            self.source.length(),
        )
    }

    fn contents(&self, number: BoxNumber, offset: u64, stored_bytes: u32, trailer: &Trailer) -> Result<Toc> {
        let toc = self.read_contents(number, offset, Some(u64::from(stored_bytes)))?;
        if toc.frames.len() != trailer.frame_count as usize {
            return Err(Error::damage(format!(
                "table of contents: {} frames expected, {} found",
                trailer.frame_count,
                toc.frames.len()
            )));
        }
        Ok(toc)
    }

    /// The table of contents at `offset`, which is `stored_bytes` long; without these its own header says how long.
    pub(super) fn read_contents(
        &self,
        number: BoxNumber,
        offset: u64,
        stored_bytes: Option<u64>,
    ) -> Result<Toc> {
        let what = |error: Error| error.at(format!("table of contents at offset {offset}"));
        let head_bytes = header_box_bytes(self.sealer.cipher());
        let stored_bytes = match stored_bytes {
            Some(bytes) => bytes,
            None => {
                let head = self.read_exactly(offset, head_bytes as u64).map_err(what)?;
                let header = open_header(&self.sealer, number, &head).map_err(what)?;
                FrameSize::of(self.sealer.cipher(), header.body_bytes as usize) as u64
            }
        };
        let stored = self.read_exactly(offset, stored_bytes).map_err(what)?;
        let (head, body) = stored
            .split_at_checked(head_bytes)
            .ok_or_else(|| what(Error::damage(format!("{stored_bytes} bytes are too few"))))?;
        let header = open_header(&self.sealer, number, head).map_err(what)?;
        let body = open_body(&self.sealer, number, body).map_err(what)?;
        if header.kind != FrameKind::Contents || header.body_bytes as usize != body.len() {
            return Err(what(Error::damage("another kind or length of frame")));
        }
        let toc = Toc::decode(&body).map_err(what)?;
        let end =
            toc.frames.last().map_or(0, |frame| frame.place.offset + u64::from(frame.place.stored_bytes));
        if end > offset {
            return Err(what(Error::damage(format!("its frames end at {end}"))));
        }
        Ok(toc)
    }

    pub(super) fn header_at(&self, number: BoxNumber, offset: u64) -> Result<FrameHeader> {
        let head = self.read_exactly(offset, header_box_bytes(self.sealer.cipher()) as u64)?;
        open_header(&self.sealer, number, &head)
    }
}

pub(super) fn is_damage(error: &Error) -> bool {
    error.kind() == ErrorKind::Damage
}

/// Notes damage and goes on; any other error ends the reading.
pub(super) fn keep_damage(faults: &mut Vec<Error>, error: Error) -> Result<()> {
    if !is_damage(&error) {
        return Err(error);
    }
    faults.push(error);
    Ok(())
}
