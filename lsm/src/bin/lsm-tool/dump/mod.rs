//! `lsm-tool dump`: what is in a file, or in a database. A damaged file shows what of it verifies.

mod database;
mod log;
mod manifest;
mod table;

use std::path::Path;
use std::sync::Arc;

use lsm::fs::{File, FileSystem, OsFs};
use lsm::range::KeyRange;
use lsm::{Error, ErrorKind};
use serde_json::{Map, Value};

use crate::Finding;
use crate::args::Dump;
use crate::output::{Output, Result, put_bytes, shown};

/// The first bytes of each kind of file.
const TABLE_MAGIC: [u8; 8] = *b"LSMTABLE";
const LOG_MAGIC: [u8; 8] = *b"LSM\x00LOG\n";
const MANIFEST_MAGIC: [u8; 8] = *b"LSM\x00MAN\n";

pub(crate) fn run(arguments: &Dump, out: &mut Output) -> Result<Finding> {
    let path = &arguments.path;
    if path.is_dir() {
        return match arguments.keys || arguments.values {
            true => database::run(arguments, out),
            false => manifest::run(arguments, &lsm::filename::FileName::Manifest.path(path), out),
        };
    }
    let fs: Arc<dyn FileSystem> = Arc::new(OsFs);
    let file = fs.open_read(path).map_err(|error| Error::io("open", error).at(path))?;
    match kind(&file, path)? {
        Kind::Table => table::run(arguments, &fs, out),
        Kind::Log => log::run(arguments, &file, out),
        Kind::Manifest => manifest::run(arguments, path, out),
    }
}

enum Kind {
    Table,
    Log,
    Manifest,
}

/// What the file says it is; where that is damaged, what its name says.
fn kind(file: &Arc<dyn File>, path: &Path) -> Result<Kind> {
    let mut magic = [0; 8];
    // A file too short for it says nothing.
    let _ = file.read_at(&mut magic, 0).map_err(|error| Error::io("read", error).at(path))?;
    match magic {
        TABLE_MAGIC => return Ok(Kind::Table),
        LOG_MAGIC => return Ok(Kind::Log),
        MANIFEST_MAGIC => return Ok(Kind::Manifest),
        _ => {}
    }
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    match name.as_str() {
        name if name.contains(".table") => Ok(Kind::Table),
        name if name.contains(".log") => Ok(Kind::Log),
        name if name.starts_with("MANIFEST") => Ok(Kind::Manifest),
        _ => Err(Error::new(
            ErrorKind::InvalidArgument,
            "neither its first bytes nor its name are those of a table, a log or a manifest",
        )
        .at(path)
        .into()),
    }
}

impl Dump {
    /// Which keys are wanted.
    fn range(&self) -> KeyRange {
        match &self.prefix {
            Some(prefix) => KeyRange::prefix(&prefix.0),
            None => KeyRange::until(
                self.from.as_ref().map(|key| key.0.clone()).unwrap_or_default(),
                self.to.as_ref().map(|key| key.0.clone()),
            ),
        }
    }

    fn wants_entries(&self) -> bool {
        self.keys || self.values
    }
}

/// One entry or operation.
struct Entry<'a> {
    keyspace: Option<&'a str>,
    sequence: Option<u64>,
    what: &'a str,
    key: &'a [u8],
    value: Option<&'a [u8]>,
}

fn entry(arguments: &Dump, entry: &Entry<'_>, out: &mut Output) -> Result<()> {
    let value = entry.value.filter(|_| arguments.values);
    if arguments.json {
        let mut object = Map::new();
        object.extend(entry.keyspace.map(|name| ("keyspace".to_owned(), Value::from(name))));
        object.extend(entry.sequence.map(|number| ("sequence".to_owned(), Value::from(number))));
        object.insert("what".to_owned(), entry.what.into());
        put_bytes(&mut object, "key", entry.key);
        if let Some(value) = value {
            put_bytes(&mut object, "value", value);
        }
        return out.json(&object.into());
    }
    let keyspace = entry.keyspace.map_or_else(String::new, |name| format!("{name}: "));
    let sequence = entry.sequence.map_or_else(String::new, |number| format!(" {number}"));
    let value = value.map_or_else(String::new, |value| format!(" = {}", shown(value)));
    out.line(format_args!("{keyspace}{}{sequence} {}{value}", shown(entry.key), entry.what))
}

/// A deleted range.
fn deleted_range(
    arguments: &Dump,
    keyspace: Option<&str>,
    sequence: u64,
    (start, end): (&[u8], Option<&[u8]>),
    out: &mut Output,
) -> Result<()> {
    if arguments.json {
        let mut object = Map::new();
        object.extend(keyspace.map(|name| ("keyspace".to_owned(), Value::from(name))));
        object.insert("sequence".to_owned(), sequence.into());
        object.insert("what".to_owned(), "delete range".into());
        put_bytes(&mut object, "from", start);
        if let Some(end) = end {
            put_bytes(&mut object, "before", end);
        }
        return out.json(&object.into());
    }
    let keyspace = keyspace.map_or_else(String::new, |name| format!("{name}: "));
    let end = end.map_or_else(|| "on".to_owned(), |end| format!("to before {}", shown(end)));
    out.line(format_args!("{keyspace}from {} {end} {sequence} delete range", shown(start)))
}
