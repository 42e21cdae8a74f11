//! What a table says of its place in the database: for repair, when the manifest can no longer say it.
//!
//! A property that nobody else reads, with an even tag, so that older versions pass over it; tables that they wrote have none. It is what was true
//! when the file was written: a table may have gone deeper since, and the epoch is what its writer expected to be given.

use std::sync::Arc;

use crate::codec::{Decoder, put_slice, put_varint};
use crate::error::{Error, Result};
use crate::row::{KeyspaceKind, Widths};

/// Longest name of a keyspace that is believed, in bytes.
const NAME_BYTES_MAX: usize = 255;

/// Kinds, as the manifest numbers them.
const KIND_SORTED: u8 = 1;
const KIND_FIXED: u8 = 2;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableOrigin {
    /// The number of the keyspace.
    pub keyspace: u32,
    /// How the keyspace keeps its entries.
    pub kind: KeyspaceKind,
    /// The level that the table was written for.
    pub level: u64,
    /// Its epoch, as far as its writer knew.
    pub epoch: u64,
    /// The name of the keyspace.
    pub name: Arc<str>,
}

impl TableOrigin {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.name.len() + 16);
        put_varint(&mut out, u64::from(self.keyspace));
        let mut widths = Vec::new();
        out.push(match self.kind {
            KeyspaceKind::Sorted => KIND_SORTED,
            KeyspaceKind::Fixed(fixed) => {
                put_varint(&mut widths, fixed.key() as u64);
                put_varint(&mut widths, fixed.value() as u64);
                KIND_FIXED
            }
        });
        put_slice(&mut out, &widths);
        put_varint(&mut out, self.level);
        put_varint(&mut out, self.epoch);
        put_slice(&mut out, self.name.as_bytes());
        out
    }

    /// What stands behind these fields is a later version's; so is a kind that is not known, and then there is nothing to say.
    pub(super) fn decode(bytes: &[u8]) -> Result<Option<Self>> {
        let mut decoder = Decoder::new(bytes);
        let keyspace = decoder.varint_u32("keyspace of the table")?;
        let kind = decoder.u8("kind of the keyspace")?;
        let Some(kind) = kind_of(kind, decoder.slice("widths of the keyspace")?)? else { return Ok(None) };
        let level = decoder.varint("level of the table")?;
        let epoch = decoder.varint("epoch of the table")?;
        let name = decoder.slice("name of the keyspace")?;
        let name = std::str::from_utf8(name)
            .ok()
            .filter(|name| !name.is_empty() && name.len() <= NAME_BYTES_MAX)
            .ok_or_else(|| Error::corruption("the keyspace's name in the table is none"))?;
        if keyspace == 0 {
            return Err(Error::corruption("a table of keyspace 0"));
        }
        Ok(Some(Self { keyspace, kind, level, epoch, name: name.into() }))
    }
}

fn kind_of(kind: u8, widths: &[u8]) -> Result<Option<KeyspaceKind>> {
    let mut decoder = Decoder::new(widths);
    let kind = match kind {
        KIND_SORTED => KeyspaceKind::Sorted,
        KIND_FIXED => {
            let (key, value) =
                (decoder.varint_usize("width of keys")?, decoder.varint_usize("width of values")?);
            let widths = Widths::new(key, value).map_err(|error| Error::corruption(error.to_string()))?;
            KeyspaceKind::Fixed(widths)
        }
        0 => return Err(Error::corruption("a table of a keyspace of kind 0")),
        _ => return Ok(None),
    };
    decoder.finish("widths of the keyspace")?;
    Ok(Some(kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin() -> TableOrigin {
        let kind = KeyspaceKind::Fixed(Widths::new(32, 24).unwrap());
        TableOrigin { keyspace: 7, kind, level: 2, epoch: 300, name: "ä".into() }
    }

    #[test]
    fn it_comes_back_and_later_fields_are_passed_over() {
        let mut bytes = origin().encode();
        assert_eq!(TableOrigin::decode(&bytes).unwrap().unwrap(), origin());
        for cut in 0..bytes.len() {
            assert!(TableOrigin::decode(&bytes[..cut]).is_err());
        }
        bytes.push(9);
        assert_eq!(TableOrigin::decode(&bytes).unwrap().unwrap(), origin());
        let sorted = TableOrigin { kind: KeyspaceKind::Sorted, ..origin() };
        assert_eq!(TableOrigin::decode(&sorted.encode()).unwrap().unwrap(), sorted);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for bad in [
            TableOrigin { keyspace: 0, ..origin() },
            TableOrigin { name: "".into(), ..origin() },
            TableOrigin { name: "x".repeat(256).into(), ..origin() },
        ] {
            assert!(TableOrigin::decode(&bad.encode()).is_err(), "{bad:?}");
        }
        // Its kind is the second byte.
        let mut bytes = origin().encode();
        bytes[1] = 9;
        assert_eq!(TableOrigin::decode(&bytes).unwrap(), None);
        bytes[1] = 0;
        assert!(TableOrigin::decode(&bytes).is_err());
    }
}
