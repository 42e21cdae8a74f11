//! Several runs of several engines become one table of medians and ratios.

use std::io::Write as _;

use crate::arguments::CompareArguments;
use crate::convert::{ratio, short, short_time};
use crate::engines::ENGINES;
use crate::error::{Result, fault};
use crate::report::{Report, Row, picture, summary};

/// What can be compared.
pub(super) struct Metric {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    /// Whether more is better.
    more: bool,
    /// Whether it is of operations or calls: of a row that counts none it says nothing.
    of_operations: bool,
    of: fn(&Row) -> f64,
    show: fn(f64) -> String,
}

#[expect(clippy::cast_precision_loss, reason = "figures to be read by people")]
const METRICS: [Metric; 11] = [
    Metric {
        name: "rate",
        about: "operations a second",
        more: true,
        of_operations: true,
        of: |row| row.operations_per_second,
        show: short,
    },
    Metric {
        name: "cpu",
        about: "processor time an operation, all threads",
        more: false,
        of_operations: true,
        of: |row| row.cpu_microseconds_per_operation * 1e3,
        show: short_time,
    },
    Metric {
        name: "written",
        about: "bytes written to the disk",
        more: false,
        of_operations: false,
        of: |row| row.written_bytes as f64,
        show: short,
    },
    Metric {
        name: "total",
        about: "bytes written to the disk since the database was made",
        more: false,
        of_operations: false,
        of: |row| row.total_written_bytes as f64,
        show: short,
    },
    Metric {
        name: "disk",
        about: "bytes on the disk afterwards",
        more: false,
        of_operations: false,
        of: |row| row.disk_bytes as f64,
        show: short,
    },
    Metric {
        name: "memory",
        about: "the most memory of its own, in bytes",
        more: false,
        of_operations: false,
        of: |row| row.peak_anonymous_bytes as f64,
        show: short,
    },
    Metric {
        name: "p50",
        about: "median time of a call",
        more: false,
        of_operations: true,
        of: |row| row.latency.p50 as f64,
        show: short_time,
    },
    Metric {
        name: "p99",
        about: "99th percentile of a call's time",
        more: false,
        of_operations: true,
        of: |row| row.latency.p99 as f64,
        show: short_time,
    },
    Metric {
        name: "p999",
        about: "99.9th percentile of a call's time",
        more: false,
        of_operations: true,
        of: |row| row.latency.p999 as f64,
        show: short_time,
    },
    Metric {
        name: "max",
        about: "longest call",
        more: false,
        of_operations: true,
        of: |row| row.latency.max as f64,
        show: short_time,
    },
    Metric {
        name: "reads",
        about: "read system calls an operation",
        more: false,
        of_operations: true,
        of: |row| row.reads_per_operation,
        show: short,
    },
];

impl Metric {
    /// Whether a row says something of it.
    fn is_in(&self, row: &Row) -> bool {
        // The writer of readwhilewriting has no processor time of its own: it is in the readers' row.
        let has_it = self.name != "cpu" || (self.of)(row) > 0.0;
        has_it && (row.operations > 0 || !self.of_operations)
    }

    pub(super) fn find(name: &str) -> Result<&'static Self> {
        match METRICS.iter().find(|metric| metric.name == name) {
            Some(metric) => Ok(metric),
            None => {
                let names: Vec<&str> = METRICS.iter().map(|metric| metric.name).collect();
                fault(format!("there is no metric {name:?}; there are {}", names.join(", ")))
            }
        }
    }

    pub(super) fn show(&self, value: f64) -> String {
        (self.show)(value)
    }

    /// The best of some values.
    fn best(&self, values: impl Iterator<Item = f64>) -> Option<f64> {
        if self.more { values.reduce(f64::max) } else { values.reduce(f64::min) }
    }

    /// How many times better `value` is than `other`.
    fn times_better(&self, value: f64, other: f64) -> f64 {
        if self.more { ratio(value, other) } else { ratio(other, value) }
    }
}

/// The same piece of work by all engines: medians, in the order of [`ENGINES`].
pub(super) struct Line {
    pub(super) name: String,
    pub(super) values: Vec<(&'static str, f64)>,
}

impl Line {
    pub(super) fn of(&self, engine: &str) -> Option<f64> {
        self.values.iter().find(|(name, _)| *name == engine).map(|(_, value)| *value)
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    if values.len() % 2 == 1 { Some(upper) } else { Some((values.get(middle - 1)? + upper) / 2.0) }
}

/// The rows of all engines side by side, in the order in which they were measured.
pub(super) fn lines(rows: &[Row], metric: &Metric) -> Vec<Line> {
    let name = |row: &Row| {
        let part = if row.row.is_empty() { String::new() } else { format!(": {}", row.row) };
        let threads = if row.threads > 1 { format!(", {} threads", row.threads) } else { String::new() };
        format!("{}{part}{threads}", row.workload)
    };
    let mut names: Vec<String> = Vec::new();
    for row in rows.iter().filter(|row| metric.is_in(row)) {
        let name = name(row);
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let line = |line_name: String| {
        let values = ENGINES.iter().filter_map(|engine| {
            let of_it = rows.iter().filter(|row| row.engine == engine.name && name(row) == line_name);
            Some((engine.name, median(of_it.map(metric.of).collect())?))
        });
        Line { values: values.collect(), name: line_name }
    };
    names.into_iter().map(line).collect()
}

/// The best of the others, or of those of them that are merge trees.
pub(super) fn rival(
    line: &Line,
    engine: &str,
    merging_only: bool,
    metric: &Metric,
) -> Option<(&'static str, f64)> {
    let is_rival = |name: &str| {
        let merges = ENGINES.iter().any(|engine| engine.name == name && engine.merges);
        name != engine && (merges || !merging_only)
    };
    let rivals = || line.values.iter().filter(|(name, _)| is_rival(name));
    let best = metric.best(rivals().map(|(_, value)| *value))?;
    rivals().find(|(_, value)| value.total_cmp(&best).is_eq()).copied()
}

/// How `engine` compares to the best of the others, or of those that are merge trees.
pub(super) fn against(line: &Line, engine: &str, merging_only: bool, metric: &Metric) -> String {
    match (line.of(engine), rival(line, engine, merging_only, metric)) {
        (Some(value), Some((_, rival))) => format!("{:.2}", metric.times_better(value, rival)),
        _ => String::new(),
    }
}

fn markdown(lines: &[Line], engine: &str, metric: &Metric) -> String {
    let named: Vec<&str> = ENGINES
        .iter()
        .map(|engine| engine.name)
        .filter(|name| lines.iter().any(|line| line.of(name).is_some()))
        .collect();
    let mut text = format!("{}; the ratios say how many times better {engine} is\n\n| |", metric.about);
    for name in &named {
        text += &format!(" {name} |");
    }
    text += &format!(
        " {engine} / best LSM peer | {engine} / best peer |\n| --- |{}",
        " ---: |".repeat(named.len() + 2)
    );
    for line in lines {
        text += &format!("\n| {} |", line.name);
        for name in &named {
            text += &format!(" {} |", line.of(name).map(|value| metric.show(value)).unwrap_or_default());
        }
        text +=
            &format!(" {} | {} |", against(line, engine, true, metric), against(line, engine, false, metric));
    }
    text.push('\n');
    text
}

/// The sub-command.
pub(crate) fn compare(arguments: &CompareArguments) -> Result<()> {
    let (mut rows, mut memory_bytes) = (Vec::new(), None);
    for file in &arguments.reports {
        let report = Report::read(file)?;
        let memory_bytes = *memory_bytes.get_or_insert(report.memory_bytes);
        if memory_bytes != report.memory_bytes {
            return fault(format!(
                "{}: measured with {} MiB of memory, the reports before it with {}: compare them apart",
                file.display(),
                report.memory_bytes >> 20,
                memory_bytes >> 20
            ));
        }
        rows.extend(report.rows);
    }
    if rows.is_empty() {
        return fault("the reports have no rows");
    }
    let mut out = std::io::stdout().lock();
    if arguments.summary {
        writeln!(out, "{}", summary::table(&rows, &arguments.engine)?)?;
        return Ok(());
    }
    for (place, name) in arguments.metrics.iter().enumerate() {
        let metric = Metric::find(name)?;
        let lines = lines(&rows, metric);
        writeln!(out, "{}", markdown(&lines, &arguments.engine, metric))?;
        if let (0, Some(file)) = (place, &arguments.svg) {
            std::fs::write(file, picture::draw(&lines, metric))?;
        }
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::measure::{Latency, Measured};

    pub(in crate::report) fn row(engine: &str, part: &str, run: u32, operations: u64) -> Row {
        let latency = Latency { p99: 1_000_000 / operations.max(1), ..Latency::default() };
        let measured = Measured {
            seconds: 1.0,
            cpu_seconds: 1.0,
            operations,
            latency,
            written_bytes: 1,
            fetched_bytes: 0,
            read_bytes: 0,
            reads: 0,
            major_faults: 0,
            peak_bytes: 1,
            peak_anonymous_bytes: 1,
            disk_bytes: 1,
        };
        Row::new([engine, "work", part], 1, run, &measured)
    }

    pub(in crate::report) fn rows() -> Vec<Row> {
        vec![
            row("lsm", "a", 1, 100),
            row("lsm", "a", 2, 300),
            row("lsm", "a", 3, 200),
            row("fjall", "a", 1, 50),
            row("lmdb", "a", 1, 400),
            row("lsm", "b", 1, 10),
            row("lsm", "wait", 1, 0),
        ]
    }

    #[test]
    fn medians_are_compared_with_the_best_of_the_peers() {
        let metric = Metric::find("rate").unwrap();
        let text = markdown(&lines(&rows(), metric), "lsm", metric);
        let shown: Vec<&str> = text.lines().skip(2).collect();
        assert_eq!(
            shown,
            [
                "| | lsm | fjall | lmdb | lsm / best LSM peer | lsm / best peer |",
                "| --- | ---: | ---: | ---: | ---: | ---: |",
                "| work: a | 200 | 50.0 | 400 | 4.00 | 0.50 |",
                "| work: b | 10.0 |  |  |  |  |",
            ]
        );
    }

    #[test]
    fn less_is_better_where_it_is() {
        let metric = Metric::find("p99").unwrap();
        let lines = lines(&rows(), metric);
        assert_eq!(against(&lines[0], "lsm", true, metric), "4.00", "5 µs against 20 µs");
        assert_eq!(against(&lines[0], "fjall", false, metric), "0.12");
    }

    #[test]
    fn the_median_of_an_even_count_lies_between_the_middle_two() {
        assert_eq!(median(vec![4.0, 1.0, 3.0, 2.0]), Some(2.5));
        assert_eq!(median(vec![]), None);
    }

    #[test]
    fn a_row_without_operations_is_compared_by_what_it_wrote_alone() {
        let has_it =
            |name| lines(&rows(), Metric::find(name).unwrap()).iter().any(|line| line.name == "work: wait");
        assert!(!has_it("rate") && !has_it("p999") && has_it("total"));
    }

    #[test]
    fn a_metric_that_is_not_there_is_refused() {
        assert!(Metric::find("beauty").is_err());
    }

    #[test]
    fn the_picture_has_a_bar_for_each_value() {
        let metric = Metric::find("rate").unwrap();
        let text = picture::draw(&lines(&rows(), metric), metric);
        assert_eq!(text.matches("class=\"bar\"").count(), 4);
        assert!(text.starts_with("<svg") && text.ends_with("</svg>\n"));
    }
}
