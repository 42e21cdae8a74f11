//! Benchmarks: `lsm-bench` drives the engine and its peers through the same work and compares them.
//!
//! | what | where |
//! | --- | --- |
//! | what an engine must do, and the engines | `store`, `engines` |
//! | keys, values and draws, from a seed | `generate` |
//! | time, memory, bytes and processor time of a piece of work | `measure` |
//! | the pieces of work | `workload` |
//! | runs: each engine and run in a process of its own | `run`, `arguments` |
//! | tables, JSON, comparisons, pictures | `report` |
//!
//! `benches/README.md` says how to build it and what the workloads do.

mod arguments;
mod convert;
mod engines;
mod error;
mod generate;
mod measure;
mod report;
mod run;
mod store;
mod workload;

pub use run::main;
