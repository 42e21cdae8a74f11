//! The command line: db_bench's names where there are any.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::convert::parse_bytes;

/// Drives the engine and its peers through the same work, and compares them.
///
/// Each engine and run has a process and a database of its own. benches/README.md says what the workloads do.
#[derive(Debug, Parser)]
#[command(name = "lsm-bench", version, args_conflicts_with_subcommands = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) run: RunArguments,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Prints the ratios between engines of one or several reports, as Markdown, and draws them
    Compare(CompareArguments),
    /// Lists the benchmarks and the engines
    List,
    /// Writes to a database until the process is killed (started by the workload `open`)
    #[command(hide = true)]
    FillUntilKilled(FillArguments),
}

/// What to run.
#[derive(Clone, Debug, Args)]
pub(crate) struct RunArguments {
    /// What to run, in this order, separated by commas; see `lsm-bench list`
    #[arg(long, value_delimiter = ',', default_value = "fillseq,fillrandom,overwrite,readrandom,readseq")]
    pub(crate) benchmarks: Vec<String>,

    /// The engines, separated by commas
    #[arg(long, value_delimiter = ',', default_value = "lsm")]
    pub(crate) engines: Vec<String>,

    /// How often each engine goes through all of it, in turns: medians are compared
    #[arg(long, default_value_t = 1)]
    pub(crate) runs: u32,

    /// Entries [default: what the benchmark is made for: 1,000,000, chunkindex 20,000,000, pathmeta 5,000,000]
    #[arg(long)]
    pub(crate) num: Option<u64>,

    /// Lookups, scans or operations of a reading benchmark [default: as many as entries, in chunkindex and pathmeta at most 1,000,000]
    #[arg(long)]
    pub(crate) reads: Option<u64>,

    /// Bytes of a value [default: 100; YCSB 1,000]
    #[arg(long = "value_size", alias = "value-size")]
    pub(crate) value_size: Option<usize>,

    /// Bytes of a key
    #[arg(long = "key_size", alias = "key-size", default_value_t = 16, value_parser = key_size)]
    pub(crate) key_size: usize,

    /// Threads that do the work together
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) threads: u16,

    /// Entries of a batch [default: 1 for writes, 32 for multireadrandom, 1,000 in chunkindex]
    #[arg(long = "batch_size", alias = "batch-size")]
    pub(crate) batch_size: Option<usize>,

    /// Whether every write is synced
    #[arg(long, default_value_t = false, num_args = 0..=1, default_missing_value = "true", action = clap::ArgAction::Set,
          value_parser = clap::builder::BoolishValueParser::new())]
    pub(crate) sync: bool,

    /// Entries read after a seek
    #[arg(long = "seek_nexts", alias = "seek-nexts", default_value_t = 10)]
    pub(crate) seek_nexts: u64,

    /// Of readrandomwriterandom, how many of 100 operations read
    #[arg(long = "readwritepercent", default_value_t = 90)]
    pub(crate) read_percent: u64,

    /// Bytes of keys and values a second that the writer of readwhilewriting may write [default: as fast as it can]
    #[arg(long = "benchmark_write_rate_limit", alias = "benchmark-write-rate-limit", value_parser = bytes)]
    pub(crate) write_rate_limit: Option<u64>,

    /// What all keys, values and draws follow from
    #[arg(long, default_value_t = 42)]
    pub(crate) seed: u64,

    /// All the memory that an engine may take
    #[arg(long, default_value = "256MiB", value_parser = bytes)]
    pub(crate) memory: u64,

    /// The folder for the databases [default: the system's for temporary files]
    #[arg(long)]
    pub(crate) db: Option<PathBuf>,

    /// Keeps the databases, in folders named by engine, and opens those that are there; the filling benchmarks then add to them
    #[arg(long = "use_existing_db", alias = "use-existing-db")]
    pub(crate) use_existing_db: bool,

    /// chunkindex and pathmeta: load by the engine's bulk mode (chunkindex without lookups)
    #[arg(long)]
    pub(crate) bulk: bool,

    /// Does not wait until the engine is quiet before it reads
    #[arg(long = "no_settle", alias = "no-settle")]
    pub(crate) no_settle: bool,

    /// Asks the system at each timed call what the thread waited for: `own max` is the longest without waits for a processor
    #[arg(long = "own_max", alias = "own-max")]
    pub(crate) own_max: bool,

    /// Writes the report to this file
    #[arg(long)]
    pub(crate) json: Option<PathBuf>,

    /// The engine that this process measures
    #[arg(long, hide = true)]
    pub(crate) child: Option<String>,

    /// Which run it is
    #[arg(long = "child_run", hide = true, default_value_t = 1)]
    pub(crate) child_run: u32,

    /// The folder for its database
    #[arg(long = "child_db", hide = true)]
    pub(crate) child_db: Option<PathBuf>,
}

/// What to compare.
#[derive(Debug, Args)]
pub(crate) struct CompareArguments {
    /// Reports that `--json` wrote; their runs are taken together
    #[arg(required = true)]
    pub(crate) reports: Vec<PathBuf>,

    /// What to compare: rate, cpu, written, total, disk, memory, p50, p99, p999, max, reads
    #[arg(long, value_delimiter = ',', default_value = "rate")]
    pub(crate) metrics: Vec<String>,

    /// One table of all rows instead: the engine beside the best of the merge trees and the best of all, in what matters most
    #[arg(long, conflicts_with_all = ["metrics", "svg"])]
    pub(crate) summary: bool,

    /// The engine that the others are compared with
    #[arg(long, default_value = "lsm")]
    pub(crate) engine: String,

    /// Draws the first metric as a picture
    #[arg(long)]
    pub(crate) svg: Option<PathBuf>,
}

/// What the killed process does.
#[derive(Debug, Args)]
pub(crate) struct FillArguments {
    #[arg(long)]
    pub(crate) engine: String,
    #[arg(long)]
    pub(crate) db: PathBuf,
    #[arg(long)]
    pub(crate) memory: u64,
    #[arg(long = "write_buffer")]
    pub(crate) write_buffer: u64,
    #[arg(long)]
    pub(crate) seed: u64,
    #[arg(long)]
    pub(crate) num: u64,
    /// A keyspace of keys and values of any length
    #[arg(long)]
    pub(crate) sorted: bool,
}

fn bytes(text: &str) -> Result<u64, String> {
    parse_bytes(text).map_err(|error| error.to_string())
}

fn key_size(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(size @ 8..=65_535) => Ok(size),
        _ => Err("a key has 8 to 65,535 bytes: 8 are its number".to_owned()),
    }
}
