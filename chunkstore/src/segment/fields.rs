//! Fields that several records share: times, extended attributes, holes, permissions.

use crate::codec::{Decoder, put_slice, put_varint};
use crate::error::{Error, Result};
use crate::metadata::{Hole, Timestamp, XATTRS_MAX};

/// The most holes of one file; each is a block apart from the next, so a file of a terabyte may have many.
pub(crate) const HOLES_MAX: usize = 1 << 28;

/// A signed number as an unsigned one that is small when the number is near zero.
pub(crate) fn zigzag(value: i64) -> u64 {
    (value << 1 ^ value >> 63).cast_unsigned()
}

/// The number of which `value` is the [`zigzag`].
pub(crate) fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}

/// Appends a time: zigzag seconds, nanoseconds.
pub(crate) fn put_time(out: &mut Vec<u8>, time: Timestamp) {
    put_varint(out, zigzag(time.seconds));
    put_varint(out, u64::from(time.nanoseconds));
}

/// Takes a time.
///
/// # Errors
/// Damage if it is cut short or has a second of nanoseconds or more.
pub(crate) fn take_time(from: &mut Decoder<'_>, field: &str) -> Result<Timestamp> {
    let seconds = unzigzag(from.varint(field)?);
    Ok(Timestamp { seconds, nanoseconds: take_nanoseconds(from, field)? })
}

/// Takes nanoseconds of a time.
///
/// # Errors
/// Damage if they are cut short or make a second or more.
pub(crate) fn take_nanoseconds(from: &mut Decoder<'_>, field: &str) -> Result<u32> {
    let nanoseconds = from.varint_u32(field)?;
    if nanoseconds >= 1_000_000_000 {
        return Err(Error::damage(format!("{field}: {nanoseconds} nanoseconds are a second or more")));
    }
    Ok(nanoseconds)
}

/// Appends extended attributes: their count, then name and value of each.
pub(crate) fn put_xattrs(out: &mut Vec<u8>, xattrs: &[(Vec<u8>, Vec<u8>)]) {
    put_varint(out, xattrs.len() as u64);
    for (name, value) in xattrs {
        put_slice(out, name);
        put_slice(out, value);
    }
}

/// Takes extended attributes.
///
/// # Errors
/// Damage if they are cut short, too many, or not ascending.
pub(crate) fn take_xattrs(from: &mut Decoder<'_>) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let count = from.varint_usize("extended attributes")?;
    if count == 0 || count > XATTRS_MAX {
        return Err(Error::damage(format!("extended attributes: a count of {count}")));
    }
    let mut xattrs: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    for _ in 0..count {
        let name = from.slice("name of an extended attribute")?;
        let value = from.slice("extended attribute")?;
        if xattrs.last().is_some_and(|(before, _)| before.as_slice() >= name) {
            return Err(Error::damage("extended attributes: names do not ascend"));
        }
        xattrs.push((name.to_vec(), value.to_vec()));
    }
    Ok(xattrs)
}

/// Appends holes: their count, then for each the bytes between it and the one before, and its length.
pub(crate) fn put_holes(out: &mut Vec<u8>, holes: &[Hole]) {
    put_varint(out, holes.len() as u64);
    let mut end = 0;
    for hole in holes {
        put_varint(out, hole.offset.wrapping_sub(end));
        put_varint(out, hole.length);
        end = hole.offset.wrapping_add(hole.length);
    }
}

/// Takes the holes of a file of `size` bytes.
///
/// # Errors
/// Damage if they are cut short, touch, are empty, or go beyond the file.
pub(crate) fn take_holes(from: &mut Decoder<'_>, size: u64) -> Result<Vec<Hole>> {
    let count = from.varint_usize("holes")?;
    if count == 0 || count > HOLES_MAX {
        return Err(Error::damage(format!("holes: a count of {count}")));
    }
    let mut holes: Vec<Hole> = Vec::new();
    let mut end = 0u64;
    for _ in 0..count {
        let gap = from.varint("place of a hole")?;
        let length = from.varint("length of a hole")?;
        let bad = || Error::damage("holes: not ascending, apart from each other and within the file");
        let offset = end.checked_add(gap).ok_or_else(bad)?;
        end = offset.checked_add(length).ok_or_else(bad)?;
        if length == 0 || end > size || (gap == 0 && !holes.is_empty()) {
            return Err(bad());
        }
        holes.push(Hole { offset, length });
    }
    Ok(holes)
}

/// Takes permissions.
///
/// # Errors
/// Damage if they have more than twelve bits.
pub(crate) fn take_mode(from: &mut Decoder<'_>) -> Result<u16> {
    let mode = from.varint("mode")?;
    u16::try_from(mode)
        .ok()
        .filter(|mode| *mode <= 0o7777)
        .ok_or_else(|| Error::damage(format!("mode: {mode:#o} has more than twelve bits")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn zigzag_comes_back(value in any::<i64>()) {
            prop_assert_eq!(unzigzag(zigzag(value)), value);
        }

        #[test]
        fn holes_are_what_was_written_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..16)) {
            let mut from = Decoder::new(&bytes);
            if let Ok(holes) = take_holes(&mut from, 1 << 40) {
                let mut again = Vec::new();
                put_holes(&mut again, &holes);
                prop_assert_eq!(&again[..], &bytes[..from.position()]);
            }
        }
    }
}
