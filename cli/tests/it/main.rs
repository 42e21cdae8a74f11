//! The program as its users meet it: the real binary, on real trees.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is how a test fails")]

mod afresh;
mod archive;
mod catalog;
mod compare;
mod course;
mod disk;
mod docs;
mod failures;
mod heal;
mod help;
mod look;
mod machines;
mod nobody;
mod passwords;
mod renames;
mod restore;
mod rounds;
mod run;
mod sandbox;
mod signals;
mod targets;
mod tree;
mod usage;
mod verify;
