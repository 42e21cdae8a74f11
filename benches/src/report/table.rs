//! Rows as they come, on the terminal.

use std::io::Write as _;

use crate::arguments::RunArguments;
use crate::convert::{short, short_time};
use crate::error::Result;
use crate::report::Row;

/// A table that is written row by row.
#[derive(Debug)]
pub(crate) struct Table;

/// Name and width of each column but the first; in the order of [`cells`].
const COLUMNS: [(&str, usize); 12] = [
    ("s", 8),
    ("op/s", 9),
    ("µs CPU", 8),
    ("p50", 9),
    ("p99", 9),
    ("p99.9", 9),
    ("max", 9),
    ("written", 9),
    ("on disk", 9),
    ("peak mem", 9),
    ("own mem", 9),
    ("reads/op", 9),
];

const NAME_WIDTH: usize = 66;

#[expect(clippy::cast_precision_loss, reason = "figures to be read by people")]
fn cells(row: &Row) -> [String; COLUMNS.len()] {
    let time = |nanoseconds: u64| short_time(nanoseconds as f64);
    let size = |bytes: u64| short(bytes as f64);
    [
        format!("{:.2}", row.seconds),
        short(row.operations_per_second),
        format!("{:.2}", row.cpu_microseconds_per_operation),
        time(row.latency.p50),
        time(row.latency.p99),
        time(row.latency.p999),
        time(row.latency.max),
        size(row.written_bytes),
        size(row.disk_bytes),
        size(row.peak_bytes),
        size(row.peak_anonymous_bytes),
        format!("{:.3}", row.reads_per_operation),
    ]
}

/// A row's name: engine, workload, part, threads, run.
fn name(row: &Row) -> String {
    let mut name = format!("{:<8}{}", row.engine, row.workload);
    if !row.row.is_empty() {
        name += &format!(": {}", row.row);
    }
    if row.threads > 1 {
        name += &format!(", {} threads", row.threads);
    }
    if row.run > 1 {
        name += &format!(" (run {})", row.run);
    }
    name
}

impl Table {
    /// Writes the head.
    pub(crate) fn begin(arguments: &RunArguments) -> Result<Self> {
        let mut out = std::io::stdout().lock();
        writeln!(
            out,
            "memory {} MiB, seed {}; CPU is of all threads, an operation; memory: mapped files included, and the process's own; \
             sizes in powers of ten",
            arguments.memory >> 20,
            arguments.seed
        )?;
        write!(out, "{:<NAME_WIDTH$}", "")?;
        for (column, width) in COLUMNS {
            write!(out, " {column:>width$}")?;
        }
        writeln!(out)?;
        Ok(Self)
    }

    #[expect(clippy::cast_precision_loss, reason = "figures to be read by people")]
    pub(crate) fn row(&mut self, row: &Row) -> Result<()> {
        let mut out = std::io::stdout().lock();
        write!(out, "{:<NAME_WIDTH$}", name(row))?;
        for (cell, (_, width)) in cells(row).iter().zip(COLUMNS) {
            write!(out, " {cell:>width$}")?;
        }
        if row.latency.own_max > 0 {
            write!(out, "  own max {}", short_time(row.latency.own_max as f64))?;
        }
        for (what, number) in &row.extra {
            write!(out, "  {what} {}", short(*number))?;
        }
        writeln!(out)?;
        Ok(out.flush()?)
    }
}
