//! What comes out: rows, on the terminal and as JSON; ratios between engines as Markdown and as a picture.

mod compare;
mod picture;
mod summary;
mod table;

pub(crate) use compare::compare;
pub(crate) use table::Table;

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::arguments::RunArguments;
use crate::convert::ratio;
use crate::error::{Context as _, Result, fault};
use crate::measure::{Latency, Measured};

/// One piece of work of one engine in one run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) engine: String,
    /// The benchmark.
    pub(crate) workload: String,
    /// Which part of it; empty if it has but one.
    pub(crate) row: String,
    pub(crate) threads: usize,
    pub(crate) run: u32,
    pub(crate) operations: u64,
    pub(crate) seconds: f64,
    pub(crate) operations_per_second: f64,
    pub(crate) cpu_microseconds_per_operation: f64,
    /// Nanoseconds a call.
    pub(crate) latency: Latency,
    pub(crate) written_bytes: u64,
    /// Written since the database was made, in all rows up to this.
    pub(crate) total_written_bytes: u64,
    pub(crate) fetched_bytes: u64,
    pub(crate) read_bytes: u64,
    pub(crate) reads: u64,
    pub(crate) reads_per_operation: f64,
    pub(crate) major_faults: u64,
    pub(crate) peak_bytes: u64,
    pub(crate) peak_anonymous_bytes: u64,
    pub(crate) disk_bytes: u64,
    /// What only some rows have, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) extra: BTreeMap<String, f64>,
}

impl Row {
    #[expect(clippy::cast_precision_loss, reason = "figures to be read by people")]
    pub(crate) fn new(name: [&str; 3], threads: usize, run: u32, measured: &Measured) -> Self {
        let [engine, workload, row] = name.map(str::to_owned);
        let operations = measured.operations as f64;
        Self {
            engine,
            workload,
            row,
            threads,
            run,
            operations: measured.operations,
            seconds: measured.seconds,
            operations_per_second: ratio(operations, measured.seconds),
            cpu_microseconds_per_operation: ratio(measured.cpu_seconds * 1e6, operations),
            latency: measured.latency,
            written_bytes: measured.written_bytes,
            total_written_bytes: measured.written_bytes,
            fetched_bytes: measured.fetched_bytes,
            read_bytes: measured.read_bytes,
            reads: measured.reads,
            reads_per_operation: ratio(measured.reads as f64, operations),
            major_faults: measured.major_faults,
            peak_bytes: measured.peak_bytes,
            peak_anonymous_bytes: measured.peak_anonymous_bytes,
            disk_bytes: measured.disk_bytes,
            extra: BTreeMap::new(),
        }
    }
}

/// All rows of a start of the program, and what they were made with.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    /// The version of this form.
    pub(crate) lsm_bench: u32,
    /// The command line.
    pub(crate) command: Vec<String>,
    pub(crate) memory_bytes: u64,
    pub(crate) seed: u64,
    pub(crate) cores: usize,
    /// The system's name and version.
    pub(crate) system: String,
    pub(crate) rows: Vec<Row>,
}

/// The version of the form that is written, and the only one that is read.
const VERSION: u32 = 1;

impl Report {
    pub(crate) fn new(arguments: &RunArguments) -> Self {
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Self {
            lsm_bench: VERSION,
            command: std::env::args().skip(1).collect(),
            memory_bytes: arguments.memory,
            seed: arguments.seed,
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            system: format!("{} {}", std::env::consts::OS, kernel.trim()),
            rows: Vec::new(),
        }
    }

    pub(crate) fn write(&self, file: &Path) -> Result<()> {
        let mut text = serde_json::to_vec_pretty(self)?;
        text.push(b'\n');
        std::fs::write(file, text).context(|| format!("writing {}", file.display()))
    }

    pub(crate) fn read(file: &Path) -> Result<Self> {
        let what = || format!("reading {}", file.display());
        let text = std::fs::read(file).context(what)?;
        let report: Self = serde_json::from_slice(&text).context(what)?;
        if report.lsm_bench != VERSION {
            return fault(format!(
                "{}: version {} of a report, this program reads {VERSION}",
                file.display(),
                report.lsm_bench
            ));
        }
        Ok(report)
    }
}
