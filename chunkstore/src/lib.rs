//! Deduplicated, compressed, encrypted, mirrored and self-healing backups, as a library.
//!
//! `docs/ARCHITECTURE.md` is the map, `docs/FORMAT.md` specifies every byte on a target.

pub mod backup;
pub mod catalog;
pub mod chunk;
pub mod codec;
mod directory;
pub mod entry_key;
pub mod envelope;
pub mod error;
pub mod frame;
#[doc(hidden)]
pub mod fuzz;
pub mod heal;
pub mod id;
pub mod metadata;
pub mod mirror;
pub mod monitor;
pub mod pack;
mod pipeline;
pub mod repository;
pub mod restore;
pub mod seal;
pub mod secret;
pub mod segment;
pub mod shown;
pub mod source;
pub mod target;
pub mod verify;
pub mod version;

#[cfg(test)]
mod docs;
#[cfg(test)]
mod golden;
#[cfg(test)]
pub(crate) mod testing;

pub use error::{Error, ErrorKind, Result};
