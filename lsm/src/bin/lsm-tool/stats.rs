//! `lsm-tool stats`: what the manifest and the directory say, without opening anything else: so it works on a damaged database, and beside a writer.

use std::sync::Arc;

use lsm::fs::{FileSystem, OsFs};
use lsm::levels::{KeyspaceRecord, Levels};
use lsm::{Error, ErrorKind};
use serde_json::{Value, json};

use crate::Finding;
use crate::args::Stats;
use crate::output::{Output, Result, count, size};

/// The sums of one level.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    tables: u64,
    bytes: u64,
    entries: u64,
    deletions: u64,
}

pub(crate) fn run(arguments: &Stats, out: &mut Output) -> Result<Finding> {
    let fs: Arc<dyn FileSystem> = Arc::new(OsFs);
    let directory = &arguments.directory;
    let Some(found) = lsm::manifest::read(&fs, directory)? else {
        return Err(Error::new(ErrorKind::NotFound, "there is no database here").at(directory).into());
    };
    let levels = found.levels;
    let mut log_bytes = 0;
    for number in levels.logs.keys() {
        let path = lsm::filename::FileName::Log(*number).path(directory);
        match fs.open_read(&path).and_then(|file| file.len()) {
            Ok(bytes) => log_bytes += bytes,
            // A writer may have flushed and removed it meanwhile; `check` says whether it is missing.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::io("look at a log", error).at(path).into()),
        }
    }
    if arguments.json {
        out.json(&as_json(&levels, log_bytes))?;
    } else {
        tell(&levels, log_bytes, out)?;
    }
    Ok(Finding::Sound)
}

fn sums(keyspace: &KeyspaceRecord, level: usize) -> Sums {
    keyspace.tree.level(level).iter().fold(Sums::default(), |sums, table| Sums {
        tables: sums.tables + 1,
        bytes: sums.bytes.saturating_add(table.file_bytes),
        entries: sums.entries.saturating_add(table.entries),
        deletions: sums.deletions.saturating_add(table.deletions),
    })
}

fn level_sums(keyspace: &KeyspaceRecord) -> Vec<Sums> {
    (0..keyspace.tree.levels().len()).map(|level| sums(keyspace, level)).collect()
}

fn tell(levels: &Levels, log_bytes: u64, out: &mut Output) -> Result<()> {
    out.line(format_args!("database {:?}", levels.database))?;
    for (id, keyspace) in &levels.keyspaces {
        out.line(format_args!("\nkeyspace {:?} (number {}; {})", keyspace.name, id.number(), keyspace.kind))?;
        out.line("  level  tables         size      entries    deletions")?;
        let mut all = Sums::default();
        for (level, sums) in level_sums(keyspace).into_iter().enumerate().filter(|(_, sums)| sums.tables > 0)
        {
            out.line(format_args!(
                "  {level:>5}  {:>6}  {:>11}  {:>11}  {:>11}",
                sums.tables,
                size(sums.bytes),
                sums.entries,
                sums.deletions
            ))?;
            all.tables += sums.tables;
            all.bytes = all.bytes.saturating_add(sums.bytes);
            all.entries = all.entries.saturating_add(sums.entries);
            all.deletions = all.deletions.saturating_add(sums.deletions);
        }
        out.line(format_args!(
            "    all  {:>6}  {:>11}  {:>11}  {:>11}",
            all.tables,
            size(all.bytes),
            all.entries,
            all.deletions
        ))?;
    }
    out.line(format_args!(
        "\n{} of {}; what is in them alone is not counted above",
        count(levels.logs.len() as u64, "log", "logs"),
        size(log_bytes)
    ))?;
    out.line("write amplification: known only to the process that writes (`Db::stats`)")
}

fn as_json(levels: &Levels, log_bytes: u64) -> Value {
    let keyspaces = levels.keyspaces.iter().map(|(id, keyspace)| {
        let levels = level_sums(keyspace).into_iter().enumerate().map(|(level, sums)| {
            json!({
                "level": level, "tables": sums.tables, "bytes": sums.bytes, "entries": sums.entries,
                "deletions": sums.deletions,
            })
        });
        json!({
            "name": &*keyspace.name,
            "number": id.number(),
            "kind": keyspace.kind.to_string(),
            "flushed": keyspace.flushed,
            "levels": levels.collect::<Vec<Value>>(),
        })
    });
    json!({
        "database": format!("{:?}", levels.database),
        "keyspaces": keyspaces.collect::<Vec<Value>>(),
        "logs": levels.logs.len(),
        "log_bytes": log_bytes,
        "next_file": levels.next_file,
        "next_sequence": levels.next_sequence,
        "write_amplification": Value::Null,
    })
}
