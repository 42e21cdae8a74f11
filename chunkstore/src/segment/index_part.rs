//! The parts of a segment that every client can read: names in clear, and what the named packs hold.
//!
//! The names (packs with their sizes, heads of other writers' logs) are in clear so that a mirror or a verification without the password
//! knows what must exist. The header holds their hash, and both sealed parts are bound to the header: so a changed name is found by
//! whoever has the key, and by everybody through the segment's own name. Bytes: FORMAT.md, segments.

use super::Sequence;
use crate::codec::{Decoder, put_slice, put_varint};
use crate::error::{Error, Result};
use crate::id::{ObjectHash, WriterId};
use crate::pack::Toc;

/// A pack that a segment describes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackContents {
    /// Its name.
    pub name: ObjectHash,
    /// Its length on a target, in bytes.
    pub stored_bytes: u64,
    /// What it holds.
    pub toc: Toc,
}

/// A pack's name and length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackName {
    /// Its name.
    pub name: ObjectHash,
    /// Its length on a target, in bytes.
    pub stored_bytes: u64,
}

/// The newest segment of a writer's log that somebody has seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Whose log.
    pub writer: WriterId,
    /// Its place there.
    pub sequence: Sequence,
    /// Its name.
    pub hash: ObjectHash,
}

/// What a segment says in clear.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// The packs that its index part describes, in the same order.
    pub packs: Vec<PackName>,
    /// The heads of other writers that its writer knew.
    pub heads: Vec<Head>,
}

const PACK_NAME_BYTES_MIN: usize = 33;
const HEAD_BYTES_MIN: usize = 49;

/// A count of things of at least `bytes_min` bytes each, checked against the bytes that are left before room is made for them.
pub(super) fn take_count(from: &mut Decoder<'_>, bytes_min: usize, what: &str) -> Result<usize> {
    let count = from.varint_usize(what)?;
    if count > from.rest().len() / bytes_min {
        return Err(Error::damage(format!("{what}: a count of {count} in {} bytes", from.rest().len())));
    }
    Ok(count)
}

impl Names {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(4 + self.packs.len() * 36 + self.heads.len() * 52);
        put_varint(&mut out, self.packs.len() as u64);
        for pack in &self.packs {
            out.extend_from_slice(pack.name.as_bytes());
            put_varint(&mut out, pack.stored_bytes);
        }
        put_varint(&mut out, self.heads.len() as u64);
        for head in &self.heads {
            out.extend_from_slice(head.writer.as_bytes());
            put_varint(&mut out, head.sequence.0);
            out.extend_from_slice(head.hash.as_bytes());
        }
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self> {
        let mut from = Decoder::new(bytes);
        let count = take_count(&mut from, PACK_NAME_BYTES_MIN, "packs named by a segment")?;
        let mut packs = Vec::with_capacity(count);
        for _ in 0..count {
            let name = ObjectHash::from_bytes(from.array("name of a pack")?);
            packs.push(PackName { name, stored_bytes: from.varint("length of a pack")? });
        }
        let count = take_count(&mut from, HEAD_BYTES_MIN, "heads named by a segment")?;
        let mut heads = Vec::with_capacity(count);
        for _ in 0..count {
            heads.push(Head {
                writer: WriterId::from_bytes(from.array("writer of a head")?),
                sequence: Sequence(from.varint("sequence of a head")?),
                hash: ObjectHash::from_bytes(from.array("hash of a head")?),
            });
        }
        from.finish("names of a segment")?;
        Ok(Self { packs, heads })
    }
}

/// The plaintext of the index part: the table of contents of each pack, in the order of the names.
pub(super) fn encode_index(packs: &[PackContents]) -> Vec<u8> {
    let mut out = Vec::new();
    put_varint(&mut out, packs.len() as u64);
    for pack in packs {
        put_slice(&mut out, &pack.toc.encode());
    }
    out
}

/// The packs that an index part describes.
pub(super) fn decode_index(bytes: &[u8], names: &Names) -> Result<Vec<PackContents>> {
    let mut from = Decoder::new(bytes);
    let count = take_count(&mut from, 1, "packs of an index part")?;
    if count != names.packs.len() {
        return Err(Error::damage(format!(
            "index part: {} packs are named, {count} described",
            names.packs.len()
        )));
    }
    let mut packs = Vec::with_capacity(count);
    for PackName { name, stored_bytes } in &names.packs {
        let toc = Toc::decode(from.slice("table of contents")?).map_err(|e| e.at(format!("pack {name}")))?;
        packs.push(PackContents { name: *name, stored_bytes: *stored_bytes, toc });
    }
    from.finish("index part")?;
    Ok(packs)
}
