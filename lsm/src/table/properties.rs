//! A table's figures, as tagged fields: later versions add some, and a reader passes over those that it does not know unless they must
//! be understood.

use std::ops::Bound;

use crate::checksum::Identity;
use crate::codec::{Decoder, put_slice, put_varint};
use crate::error::{Error, ErrorKind, Result};
use crate::key::{KEY_BYTES_MAX, SEQUENCE_MAX};
use crate::range::KeyRange;
use crate::table::{TableOrigin, TableSummary};

/// Tags; the low bit says that a reader who does not know the field must refuse the table. All but the last two are required to be there.
mod tag {
    pub(super) const ENTRIES: u64 = 2;
    pub(super) const DELETIONS: u64 = 4;
    pub(super) const RANGE_TOMBSTONES: u64 = 6;
    pub(super) const LOWER: u64 = 8;
    pub(super) const UPPER: u64 = 10;
    pub(super) const SEQUENCE_MIN: u64 = 12;
    pub(super) const SEQUENCE_MAX: u64 = 14;
    pub(super) const KEY_BYTES: u64 = 16;
    pub(super) const VALUE_BYTES: u64 = 18;
    pub(super) const DATA_BLOCKS: u64 = 20;
    pub(super) const PARTITIONS: u64 = 22;
    /// Tables of older versions have none.
    pub(super) const ORIGIN: u64 = 24;
    /// Only where it is not 0.
    pub(super) const HURRIED_BLOCKS: u64 = 26;
}

const UPPER_INCLUDED: u8 = 1;
const UPPER_EXCLUDED: u8 = 2;
const UPPER_UNBOUNDED: u8 = 3;

fn numbers(summary: &TableSummary) -> [(u64, u64); 9] {
    [
        (tag::ENTRIES, summary.entries),
        (tag::DELETIONS, summary.deletions),
        (tag::RANGE_TOMBSTONES, summary.range_tombstones),
        (tag::SEQUENCE_MIN, summary.sequence_min),
        (tag::SEQUENCE_MAX, summary.sequence_max),
        (tag::KEY_BYTES, summary.key_bytes),
        (tag::VALUE_BYTES, summary.value_bytes),
        (tag::DATA_BLOCKS, summary.data_blocks),
        (tag::PARTITIONS, summary.partitions),
    ]
}

/// The payload of the properties block.
pub(super) fn encode(summary: &TableSummary, origin: Option<&TableOrigin>) -> Vec<u8> {
    let field = |(tag, number): (u64, u64)| {
        let mut value = Vec::new();
        put_varint(&mut value, number);
        (tag, value)
    };
    let mut fields: Vec<(u64, Vec<u8>)> = numbers(summary).into_iter().map(field).collect();
    fields.push((tag::LOWER, summary.bounds.lower.clone()));
    let (kind, key): (u8, &[u8]) = match &summary.bounds.upper {
        Bound::Included(key) => (UPPER_INCLUDED, key),
        Bound::Excluded(key) => (UPPER_EXCLUDED, key),
        Bound::Unbounded => (UPPER_UNBOUNDED, &[]),
    };
    fields.push((tag::UPPER, [&[kind], key].concat()));
    fields.extend(origin.map(|origin| (tag::ORIGIN, origin.encode())));
    if summary.hurried_blocks > 0 {
        fields.push(field((tag::HURRIED_BLOCKS, summary.hurried_blocks)));
    }
    fields.sort_unstable_by_key(|(tag, _)| *tag);
    let mut out = Vec::new();
    for (tag, value) in fields {
        put_varint(&mut out, tag);
        put_slice(&mut out, &value);
    }
    out
}

fn number(value: &[u8]) -> Result<u64> {
    let mut decoder = Decoder::new(value);
    let number = decoder.varint("property")?;
    decoder.finish("property")?;
    Ok(number)
}

fn upper(value: &[u8]) -> Result<Bound<Vec<u8>>> {
    match value.split_first() {
        Some((&UPPER_INCLUDED, key)) => Ok(Bound::Included(key.to_vec())),
        Some((&UPPER_EXCLUDED, key)) => Ok(Bound::Excluded(key.to_vec())),
        Some((&UPPER_UNBOUNDED, [])) => Ok(Bound::Unbounded),
        _ => Err(Error::corruption("the upper bound of the table is of no known kind")),
    }
}

/// What the properties block of the table `identity` of `file_bytes` says.
pub(super) fn decode(
    bytes: &[u8],
    identity: Identity,
    file_bytes: u64,
) -> Result<(TableSummary, Option<TableOrigin>)> {
    let mut decoder = Decoder::new(bytes);
    let mut last = 0;
    let mut origin = None;
    let mut seen = Vec::with_capacity(11);
    let mut summary = TableSummary {
        identity,
        file_bytes,
        entries: 0,
        deletions: 0,
        range_tombstones: 0,
        bounds: KeyRange::all(),
        sequence_min: 0,
        sequence_max: 0,
        key_bytes: 0,
        value_bytes: 0,
        data_blocks: 0,
        partitions: 0,
        hurried_blocks: 0,
    };
    while !decoder.is_empty() {
        let tag = decoder.varint("tag of a property")?;
        let value = decoder.slice("property")?;
        if tag <= last {
            return Err(Error::corruption(format!("property {tag} stands behind property {last}")));
        }
        last = tag;
        match tag {
            tag::ENTRIES => summary.entries = number(value)?,
            tag::DELETIONS => summary.deletions = number(value)?,
            tag::RANGE_TOMBSTONES => summary.range_tombstones = number(value)?,
            tag::LOWER => summary.bounds.lower = value.to_vec(),
            tag::UPPER => summary.bounds.upper = upper(value)?,
            tag::SEQUENCE_MIN => summary.sequence_min = number(value)?,
            tag::SEQUENCE_MAX => summary.sequence_max = number(value)?,
            tag::KEY_BYTES => summary.key_bytes = number(value)?,
            tag::VALUE_BYTES => summary.value_bytes = number(value)?,
            tag::DATA_BLOCKS => summary.data_blocks = number(value)?,
            tag::PARTITIONS => summary.partitions = number(value)?,
            tag::ORIGIN => {
                origin = TableOrigin::decode(value)?;
                continue;
            }
            tag::HURRIED_BLOCKS => {
                summary.hurried_blocks = number(value)?;
                continue;
            }
            _ if tag & 1 == 1 => {
                return Err(Error::new(
                    ErrorKind::NewerFormat,
                    format!(
                        "property {tag} of the table must be understood and is not; a newer version wrote it"
                    ),
                ));
            }
            _ => continue,
        }
        seen.push(tag);
    }
    if seen.len() != numbers(&summary).len() + 2 {
        return Err(Error::corruption(format!("properties are missing; only {seen:?} are there")));
    }
    check(&summary)?;
    Ok((summary, origin))
}

fn check(summary: &TableSummary) -> Result<()> {
    let sound = summary.deletions <= summary.entries
        && summary.entries.saturating_add(summary.range_tombstones) > 0
        && summary.sequence_min <= summary.sequence_max
        && summary.sequence_max <= SEQUENCE_MAX
        && summary.bounds.lower.len() <= KEY_BYTES_MAX + 1
        && !summary.bounds.is_empty()
        && (summary.entries == 0) == (summary.data_blocks == 0)
        && (summary.entries == 0) == (summary.partitions == 0)
        && summary.partitions <= summary.data_blocks
        && summary.hurried_blocks <= summary.data_blocks
        && summary.data_blocks <= summary.entries;
    if sound {
        return Ok(());
    }
    Err(Error::corruption(format!("the figures of the table contradict each other: {summary:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(upper: Bound<Vec<u8>>) -> TableSummary {
        TableSummary {
            identity: Identity::from_bytes([5; 16]),
            file_bytes: 1234,
            entries: 9,
            deletions: 2,
            range_tombstones: 1,
            bounds: KeyRange { lower: b"a".to_vec(), upper },
            sequence_min: 3,
            sequence_max: 300,
            key_bytes: 70,
            value_bytes: 800,
            data_blocks: 2,
            partitions: 1,
            hurried_blocks: 0,
        }
    }

    #[test]
    fn figures_come_back() {
        for upper in [Bound::Included(b"m".to_vec()), Bound::Excluded(b"m".to_vec()), Bound::Unbounded] {
            let summary = summary(upper);
            let bytes = encode(&summary, None);
            assert_eq!(decode(&bytes, summary.identity, 1234).unwrap(), (summary.clone(), None));
            for cut in 0..bytes.len() {
                assert!(decode(&bytes[..cut], summary.identity, 1234).is_err());
            }
        }
    }

    #[test]
    fn the_origin_comes_back_where_there_is_one() {
        let origin = TableOrigin {
            keyspace: 3,
            kind: crate::row::KeyspaceKind::Sorted,
            level: 0,
            epoch: 9,
            name: "k".into(),
        };
        let summary = summary(Bound::Unbounded);
        let bytes = encode(&summary, Some(&origin));
        assert_eq!(decode(&bytes, summary.identity, 1234).unwrap(), (summary, Some(origin)));
    }

    #[test]
    fn what_was_hurried_comes_back_and_takes_no_room_where_there_was_no_haste() {
        let (none, one) =
            (summary(Bound::Unbounded), TableSummary { hurried_blocks: 1, ..summary(Bound::Unbounded) });
        let bytes = encode(&one, None);
        assert_eq!(bytes.len(), encode(&none, None).len() + 3);
        assert_eq!(decode(&bytes, one.identity, 1234).unwrap(), (one, None));
    }

    #[test]
    fn unknown_properties_follow_their_low_bit() {
        let with = |tag: u64| {
            let mut bytes = encode(&summary(Bound::Unbounded), None);
            put_varint(&mut bytes, tag);
            put_slice(&mut bytes, b"new");
            decode(&bytes, Identity::from_bytes([5; 16]), 1234)
        };
        assert!(with(100).is_ok());
        assert_eq!(with(101).unwrap_err().kind(), ErrorKind::NewerFormat);
        assert_eq!(with(22).unwrap_err().kind(), ErrorKind::Corruption);
    }

    #[test]
    fn figures_that_contradict_each_other_are_refused() {
        let bad = TableSummary { deletions: 10, ..summary(Bound::Unbounded) };
        assert!(decode(&encode(&bad, None), bad.identity, 1234).is_err());
        let bad = TableSummary { hurried_blocks: 3, ..summary(Bound::Unbounded) };
        assert!(decode(&encode(&bad, None), bad.identity, 1234).is_err());
        let bad = summary(Bound::Excluded(b"a".to_vec()));
        assert!(decode(&encode(&bad, None), bad.identity, 1234).is_err());
    }
}
