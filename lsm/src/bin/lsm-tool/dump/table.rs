//! A table: its figures, its entries, its bytes; of a damaged one, what verifies.

use std::sync::Arc;

use lsm::cache::BlockCache;
use lsm::fs::FileSystem;
use lsm::iter::InternalIterator;
use lsm::key::{Kind, parse_trailer, split};
use lsm::levels::{OpenTable, TableReference};
use lsm::range_tombstone::RangeTombstones;
use lsm::table::{AnyTable, ReadMode, TableOrigin, TableScan, TableSummary, scan};
use lsm::{Error, ErrorKind};
use serde_json::{Map, Value, json};

use crate::Finding;
use crate::args::Dump;
use crate::dump::{Entry, deleted_range, entry};
use crate::output::{Failure, Output, Result, count, put_range, range};

pub(super) fn run(arguments: &Dump, fs: &Arc<dyn FileSystem>, out: &mut Output) -> Result<Finding> {
    let cache = Arc::new(BlockCache::new(0));
    let error = match AnyTable::open_unexpected(fs, &arguments.path, &cache) {
        Ok(table) => match sound(arguments, &table, out) {
            Err(Failure::Database(error)) if error.kind() == ErrorKind::Corruption => error,
            done => return done.map(|()| Finding::Sound),
        },
        Err(error) if error.kind() == ErrorKind::Corruption => error,
        Err(error) => return Err(error.into()),
    };
    tell_fault(arguments, &error.to_string(), out)?;
    match scan(fs, &arguments.path, None)? {
        Some(scan) => damaged(arguments, &scan, out)?,
        None => tell_fault(arguments, "nothing in it verifies", out)?,
    }
    Ok(Finding::Damage)
}

fn tell_fault(arguments: &Dump, fault: &str, out: &mut Output) -> Result<()> {
    match arguments.json {
        true => out.json(&json!({ "damage": fault })),
        false => out.line(format_args!("damage: {fault}")),
    }
}

fn sound(arguments: &Dump, table: &AnyTable, out: &mut Output) -> Result<()> {
    if arguments.raw {
        let AnyTable::Sorted(table) = table else {
            let what = "a table of rows has no structure but its rows: leave out --raw, and say --values";
            return Err(Error::new(ErrorKind::InvalidArgument, what).at(table.path()).into());
        };
        let mut text = String::new();
        let dumped = table.dump(&mut text);
        out.line(text.trim_end())?;
        return dumped.map_err(Failure::Database);
    }
    figures(arguments, Some(table.summary()), table.origin(), out)?;
    if !arguments.wants_entries() {
        return Ok(());
    }
    let wanted = arguments.range();
    if let Some(ranges) = table.range_tombstones() {
        tombstones(arguments, ranges, out)?;
    }
    let whole = TableReference::whole(1, table.summary(), 0);
    let Some(mut entries) = OpenTable::new(Arc::new(whole), table.clone()).iter(ReadMode::Bypass, &wanted)
    else {
        return Ok(());
    };
    entries.seek_to_first()?;
    while entries.valid() {
        one(arguments, entries.key(), entries.value(), out)?;
        entries.next()?;
    }
    Ok(())
}

fn damaged(arguments: &Dump, scan: &TableScan, out: &mut Output) -> Result<()> {
    figures(arguments, scan.summary(), scan.origin(), out)?;
    for lost in scan.lost() {
        if arguments.json {
            let mut object = Map::new();
            object.insert("lost_bytes".into(), lost.bytes.into());
            object.insert("offset".into(), lost.offset.into());
            put_range(&mut object, &lost.range);
            out.json(&object.into())?;
        } else {
            out.line(format_args!(
                "lost: {} bytes at {}, with keys {}",
                lost.bytes,
                lost.offset,
                range(&lost.range)
            ))?;
        }
    }
    if !arguments.wants_entries() {
        return Ok(());
    }
    tombstones(arguments, scan.range_tombstones(), out)?;
    let wanted = arguments.range();
    // The library's visitor has the library's error: the output's waits outside.
    let mut failed = None;
    scan.entries(&mut |key, value| {
        if failed.is_none() && wanted.contains(split(key)?.0) {
            failed = one(arguments, key, value, out).err();
        }
        Ok(())
    })?;
    failed.map_or(Ok(()), Err)
}

fn one(arguments: &Dump, internal: &[u8], value: &[u8], out: &mut Output) -> Result<()> {
    let (key, trailer) = split(internal)?;
    let (sequence, kind) = parse_trailer(trailer)?;
    let (what, value) = match kind {
        Kind::Put => ("put", Some(value)),
        Kind::Delete => ("delete", None),
    };
    entry(arguments, &Entry { keyspace: None, sequence: Some(sequence), what, key, value }, out)
}

fn tombstones(arguments: &Dump, tombstones: &RangeTombstones, out: &mut Output) -> Result<()> {
    for tombstone in tombstones.clipped(&arguments.range()).iter() {
        deleted_range(arguments, None, tombstone.sequence, (tombstone.start, tombstone.end), out)?;
    }
    Ok(())
}

fn figures(
    arguments: &Dump,
    summary: Option<&TableSummary>,
    origin: Option<&TableOrigin>,
    out: &mut Output,
) -> Result<()> {
    if arguments.json {
        let mut object = Map::new();
        if let Some(summary) = summary {
            object.insert("table".into(), format!("{:?}", summary.identity).into());
            object.insert("bytes".into(), summary.file_bytes.into());
            object.insert("entries".into(), summary.entries.into());
            object.insert("deletions".into(), summary.deletions.into());
            object.insert("range_deletions".into(), summary.range_tombstones.into());
            object.insert("first_sequence".into(), summary.sequence_min.into());
            object.insert("last_sequence".into(), summary.sequence_max.into());
            object.insert("data_blocks".into(), summary.data_blocks.into());
            object.insert("key_bytes".into(), summary.key_bytes.into());
            object.insert("value_bytes".into(), summary.value_bytes.into());
            put_range(&mut object, &summary.bounds);
        }
        object.insert("keyspace".into(), origin.map(|origin| &*origin.name).into());
        object.insert("level".into(), origin.map_or(Value::Null, |origin| origin.level.into()));
        return out.json(&object.into());
    }
    if let Some(summary) = summary {
        out.line(format_args!(
            "table {:?}: {}, {} of them deletions, {}; keys {}; sequence numbers {} to {}",
            summary.identity,
            count(summary.entries, "entry", "entries"),
            summary.deletions,
            count(summary.range_tombstones, "deleted range", "deleted ranges"),
            range(&summary.bounds),
            summary.sequence_min,
            summary.sequence_max
        ))?;
        out.line(format_args!(
            "{} bytes; {} of keys and {} of values in {}",
            summary.file_bytes,
            summary.key_bytes,
            summary.value_bytes,
            count(summary.data_blocks, "data block", "data blocks")
        ))?;
    }
    match origin {
        Some(origin) => out.line(format_args!(
            "written for keyspace {:?} (number {}; {}), level {}, epoch {}",
            origin.name, origin.keyspace, origin.kind, origin.level, origin.epoch
        )),
        None => out.line("it does not say for which keyspace it was written"),
    }
}
