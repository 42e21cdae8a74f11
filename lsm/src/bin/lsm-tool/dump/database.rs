//! The entries of a database, as a reader sees them now.

use lsm::{Background, Db, Error, ErrorKind};

use crate::Finding;
use crate::args::Dump;
use crate::dump::{Entry, entry};
use crate::output::{Output, Result};

pub(super) fn run(arguments: &Dump, out: &mut Output) -> Result<Finding> {
    let db = Db::builder(&arguments.path).read_only(true).background(Background::Manual).open()?;
    let mut keyspaces = db.keyspaces();
    if let Some(wanted) = &arguments.keyspace {
        if !keyspaces.iter().any(|keyspace| keyspace.name() == wanted) {
            let there = db.keyspace_names().join(", ");
            let what = format!("there is no keyspace {wanted:?}; there are: {there}");
            return Err(Error::new(ErrorKind::NotFound, what).at(&arguments.path).into());
        }
        keyspaces.retain(|keyspace| keyspace.name() == wanted);
    }
    let range = arguments.range();
    for keyspace in keyspaces {
        let bounds = (std::ops::Bound::Included(range.lower.as_slice()), range.upper());
        for item in keyspace.range::<&[u8]>(bounds) {
            let (key, value) = item?;
            let one = Entry {
                keyspace: Some(keyspace.name()),
                sequence: None,
                what: "put",
                key: &key,
                value: Some(&value),
            };
            entry(arguments, &one, out)?;
        }
    }
    Ok(Finding::Sound)
}
