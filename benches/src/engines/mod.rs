//! The engines that can be measured, each in its module with the reasons for the way it is set up.
//!
//! What is alike for all: the memory ([`Configuration::memory_bytes`]) is all that caches and write buffers may take together; filters of 10 bits a
//! key where there are filters, of 15 for fixed widths; LZ4 where there is compression; the journal on.

use crate::error::{Result, fault};
use crate::store::{Configuration, Store};

#[cfg(feature = "fjall")]
mod fjall;
#[cfg(feature = "lmdb")]
mod lmdb;
mod lsm;
#[cfg(feature = "redb")]
mod redb;
#[cfg(feature = "rocksdb")]
mod rocksdb;

/// An engine's name, whether this build has it, and whether it is a log-structured merge tree.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) name: &'static str,
    pub(crate) built: bool,
    pub(crate) merges: bool,
    /// Where its version stands: for the report.
    pub(crate) about: &'static str,
}

/// All engines, in the order of tables.
pub(crate) const ENGINES: [Engine; 5] = [
    Engine { name: "lsm", built: true, merges: true, about: "this repository's" },
    Engine {
        name: "fjall",
        built: cfg!(feature = "fjall"),
        merges: true,
        about: "log-structured merge tree in Rust, 3.1",
    },
    Engine {
        name: "rocksdb",
        built: cfg!(feature = "rocksdb"),
        merges: true,
        about: "log-structured merge tree in C++, 11.8",
    },
    Engine { name: "redb", built: cfg!(feature = "redb"), merges: false, about: "B-tree in Rust, 4.6" },
    Engine {
        name: "lmdb",
        built: cfg!(feature = "lmdb"),
        merges: false,
        about: "B-tree in C, mapped: all its memory is page cache, no budget holds it",
    },
];

/// The engine of a name, if this build has it.
pub(crate) fn find(name: &str) -> Result<&'static Engine> {
    match ENGINES.iter().find(|engine| engine.name == name) {
        Some(engine) if engine.built => Ok(engine),
        Some(_) => fault(format!("this build has no {name}: build with --features {name}")),
        None => {
            let names: Vec<&str> = ENGINES.iter().map(|engine| engine.name).collect();
            fault(format!("there is no engine {name:?}; there are {}", names.join(", ")))
        }
    }
}

/// Opens an engine's database; makes it if there is none.
pub(crate) fn open(name: &str, configuration: &Configuration) -> Result<Box<dyn Store>> {
    match name {
        "lsm" => Ok(Box::new(lsm::Lsm::open(configuration)?)),
        #[cfg(feature = "fjall")]
        "fjall" => Ok(Box::new(fjall::Fjall::open(configuration)?)),
        #[cfg(feature = "rocksdb")]
        "rocksdb" => Ok(Box::new(rocksdb::Rocks::open(configuration)?)),
        #[cfg(feature = "redb")]
        "redb" => Ok(Box::new(redb::Redb::open(configuration)?)),
        #[cfg(feature = "lmdb")]
        "lmdb" => Ok(Box::new(lmdb::Lmdb::open(configuration)?)),
        _ => fault(format!("there is no engine {name:?} in this build")),
    }
}

/// An entry, as bulk loading sorts it.
#[cfg(any(feature = "fjall", feature = "redb", feature = "lmdb"))]
type Entry = (Box<[u8]>, Box<[u8]>);

/// Collects entries and sorts them by key, for the engines whose bulk loading wants them in order. Later ones of the same key win.
#[cfg(any(feature = "fjall", feature = "redb", feature = "lmdb"))]
fn sorted(entries: &mut crate::store::Entries<'_>) -> Vec<Entry> {
    let (mut key, mut value) = (Vec::new(), Vec::new());
    let mut all = Vec::new();
    while entries(&mut key, &mut value) {
        all.push((Box::from(key.as_slice()), Box::from(value.as_slice())));
    }
    // The last of a key's entries becomes the first, which the sorting leaves so, and the first is kept.
    all.reverse();
    all.sort_by(|(a, _): &Entry, (b, _)| a.cmp(b));
    all.dedup_by(|(a, _), (b, _)| a == b);
    all
}

#[cfg(test)]
mod tests;
