//! Runs: each engine in each run is a process of its own, this program started again, so that memory and processor time are that engine's alone. The
//! engines take turns, run by run, so that what the machine does meanwhile falls on all of them.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command as Process, ExitCode, Stdio};

use clap::Parser as _;

use crate::arguments::{Arguments, Command, RunArguments};
use crate::engines;
use crate::error::{Context as _, Result, fault};
use crate::report::{self, Report, Row};
use crate::workload::{self, Session};

/// The program.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match &arguments.command {
        Some(Command::Compare(compare)) => report::compare(compare),
        Some(Command::List) => list(),
        Some(Command::FillUntilKilled(fill)) => workload::fill_until_killed(fill),
        None if arguments.run.child.is_some() => child(&arguments.run),
        None => all(&arguments.run),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "lsm-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn list() -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "benchmarks:")?;
    for benchmark in workload::BENCHMARKS {
        writeln!(out, "  {:<22} {}", benchmark.name, benchmark.about)?;
    }
    writeln!(out, "engines:")?;
    for engine in &engines::ENGINES {
        let built = if engine.built { "" } else { " (not in this build)" };
        writeln!(out, "  {:<22} {}{built}", engine.name, engine.about)?;
    }
    Ok(())
}

/// Where a child's database goes.
enum Place {
    Temporary(tempfile::TempDir),
    Kept(PathBuf),
}

impl Place {
    fn new(arguments: &RunArguments, engine: &str) -> Result<Self> {
        let parent = arguments.db.clone().unwrap_or_else(std::env::temp_dir);
        std::fs::create_dir_all(&parent).context(|| format!("making {}", parent.display()))?;
        if arguments.use_existing_db {
            let folder = parent.join(engine);
            std::fs::create_dir_all(&folder).context(|| format!("making {}", folder.display()))?;
            return Ok(Self::Kept(folder));
        }
        let made = tempfile::Builder::new().prefix(&format!("lsm-bench-{engine}-")).tempdir_in(&parent);
        Ok(Self::Temporary(made.context(|| format!("making a folder in {}", parent.display()))?))
    }

    fn path(&self) -> &Path {
        match self {
            Self::Temporary(folder) => folder.path(),
            Self::Kept(folder) => folder,
        }
    }
}

/// Starts all children, in turns, and gathers their rows.
fn all(arguments: &RunArguments) -> Result<()> {
    for name in &arguments.engines {
        engines::find(name)?;
    }
    workload::expand(&arguments.benchmarks)?;
    let mut report = Report::new(arguments);
    let mut failed = Vec::new();
    let mut table = report::Table::begin(arguments)?;
    for run in 1..=arguments.runs {
        for engine in &arguments.engines {
            let place = Place::new(arguments, engine)?;
            if let Err(error) = start(run, engine, place.path(), &mut |row| {
                table.row(&row)?;
                report.rows.push(row);
                Ok(())
            }) {
                writeln!(std::io::stderr(), "lsm-bench: {engine}, run {run}: {error}")?;
                failed.push(engine.as_str());
            }
            if let Some(file) = &arguments.json {
                report.write(file)?;
            }
        }
    }
    if failed.is_empty() { Ok(()) } else { fault(format!("failed: {}", failed.join(", "))) }
}

/// Starts this program once more, for one engine.
fn start(run: u32, engine: &str, database: &Path, take: &mut dyn FnMut(Row) -> Result<()>) -> Result<()> {
    let program = std::env::current_exe()?;
    let mut child = Process::new(program)
        .args(std::env::args_os().skip(1))
        .args(["--child", engine, "--child_run", &run.to_string(), "--child_db"])
        .arg(database)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    if let Some(rows) = child.stdout.take() {
        for line in BufReader::new(rows).lines() {
            let taken = line.map_err(Into::into).and_then(|line| take(serde_json::from_str(&line)?));
            if let Err(error) = taken {
                let _ = child.kill();
                let _ = child.wait();
                return Err(error);
            }
        }
    }
    let ended = child.wait()?;
    if ended.success() { Ok(()) } else { fault(format!("it ended with {ended}")) }
}

/// One engine's part: the benchmarks, one after the other; each row goes out as a line.
fn child(arguments: &RunArguments) -> Result<()> {
    let (Some(engine), Some(database)) = (&arguments.child, &arguments.child_db) else {
        return fault("--child without --child_db");
    };
    let emit = |row: Row| -> Result<()> {
        let mut out = std::io::stdout().lock();
        serde_json::to_writer(&mut out, &row)?;
        writeln!(out)?;
        Ok(out.flush()?)
    };
    let mut session = Session::new(engines::find(engine)?, arguments, database.clone(), Box::new(emit));
    for benchmark in workload::expand(&arguments.benchmarks)? {
        session.begin(benchmark.name);
        (benchmark.run)(&mut session).context(|| benchmark.name.to_owned())?;
    }
    session.end()
}
