//! `lsm-tool check`: opens a database read-only, beside a writer or alone, and reads as much as is asked for.

use lsm::{Background, CheckLevel, Db, ErrorKind};
use serde_json::json;

use crate::Finding;
use crate::args::{Check, Level};
use crate::output::{Output, Result, count, size};

pub(crate) fn run(arguments: &Check, out: &mut Output) -> Result<Finding> {
    let opened = Db::builder(&arguments.directory).read_only(true).background(Background::Manual).open();
    let db = match opened {
        Ok(db) => db,
        // Said as a finding, so that it is in the JSON.
        Err(error) if error.kind() == ErrorKind::Corruption && arguments.json => {
            out.json(&json!({ "sound": false, "level": level(arguments), "faults": [error.to_string()] }))?;
            return Ok(Finding::Damage);
        }
        Err(error) => return Err(error.into()),
    };
    let report = match arguments.level {
        Level::Quick => None,
        Level::Structure => Some(db.check_at(CheckLevel::Structure)?),
        Level::Full => Some(db.check_at(CheckLevel::Full)?),
    };
    let recovery = db.recovery_report();
    let logs = recovery.logs.len() as u64;
    let faults: Vec<String> =
        report.iter().flat_map(|report| &report.faults).map(ToString::to_string).collect();
    let fault_count = report.as_ref().map_or(0, |report| report.fault_count);
    let finding = if fault_count == 0 { Finding::Sound } else { Finding::Damage };
    if arguments.json {
        let read = report.as_ref().map(|report| report.read).unwrap_or_default();
        out.json(&json!({
            "sound": finding == Finding::Sound,
            "level": level(arguments),
            "faults": faults,
            "fault_count": fault_count,
            "tables": db.stats().keyspaces.iter().flat_map(|keyspace| &keyspace.level_tables).sum::<usize>(),
            "logs": logs,
            "blocks_read": read.blocks,
            "bytes_read": read.bytes,
            "entries_read": read.entries,
            "unknown_files": report.as_ref().map(|report| report.unknown_files.clone()).unwrap_or_default(),
            "closed_in_order": recovery.is_clean(),
        }))?;
        return Ok(finding);
    }
    for fault in &faults {
        out.line(format_args!("damage: {fault}"))?;
    }
    let more = fault_count.saturating_sub(faults.len() as u64);
    if more > 0 {
        out.line(format_args!("and {} more", count(more, "fault", "faults")))?;
    }
    if let Some(report) = &report {
        for name in &report.unknown_files {
            out.line(format_args!(
                "note: {name} is named by nobody: it costs space, and the next session that writes sees to it"
            ))?;
        }
        let read = report.read;
        out.line(format_args!(
            "{} and {} read: {}, {}, {}",
            count(report.tables, "table", "tables"),
            count(logs, "log", "logs"),
            count(read.blocks, "block", "blocks"),
            size(read.bytes),
            count(read.entries, "entry", "entries"),
        ))?;
    }
    if !recovery.is_clean() {
        out.line("note: it was not closed in order, or is open: what its log holds was replayed")?;
    }
    match finding {
        Finding::Sound => out.line(format_args!("sound, as far as level {} looks", level(arguments)))?,
        Finding::Damage => out.line(format_args!(
            "damaged: `lsm-tool repair --dry-run {}` says what can be kept",
            arguments.directory.display()
        ))?,
    }
    Ok(finding)
}

fn level(arguments: &Check) -> &'static str {
    match arguments.level {
        Level::Quick => "quick",
        Level::Structure => "structure",
        Level::Full => "full",
    }
}
