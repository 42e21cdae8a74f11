//! `lsm-tool repair`: the library's repair, and its report.

use lsm::RepairOptions;
use lsm::repair::{Loss, LossKind, ManifestCondition, RepairReport, TableFate};
use serde_json::{Map, Value, json};

use crate::Finding;
use crate::args::Repair;
use crate::output::{Output, Result, count, put_range};

pub(crate) fn run(arguments: &Repair, out: &mut Output) -> Result<Finding> {
    let options = RepairOptions::new().dry_run(arguments.dry_run).verify(!arguments.no_check);
    let report = lsm::repair(&arguments.directory, &options)?;
    let is_sound = report.check.as_ref().is_none_or(lsm::CheckReport::is_clean);
    let finding = if report.is_lossless() && is_sound { Finding::Sound } else { Finding::Damage };
    if arguments.json {
        out.json(&as_json(&report, arguments.dry_run))?;
        return Ok(finding);
    }
    if report.was_sound {
        out.line(format_args!(
            "sound: {}; nothing to repair, and nothing was changed",
            count(report.tables_kept, "table", "tables")
        ))?;
        return Ok(finding);
    }
    tell(&report, arguments, out)?;
    Ok(finding)
}

fn tell(report: &RepairReport, arguments: &Repair, out: &mut Output) -> Result<()> {
    for fault in &report.faults {
        out.line(format_args!("damage: {fault}"))?;
    }
    match &report.manifest {
        ManifestCondition::Missing => {
            out.line("the manifest is missing; tables and logs speak for themselves")?
        }
        ManifestCondition::Damaged { edits, reason } => out.line(format_args!(
            "the manifest does not say everything ({reason}); {} of it can be read",
            count(*edits, "edit", "edits")
        ))?,
        _ => {}
    }
    for table in &report.tables {
        let keyspace =
            table.keyspace.as_ref().map_or_else(String::new, |name| format!(" of keyspace {name:?}"));
        let entries = count(table.entries, "entry", "entries");
        out.line(match table.fate {
            TableFate::Salvaged => format!("salvaged: {}{keyspace}, {entries}", table.file.display()),
            TableFate::TakenIn => format!("taken in: {}{keyspace}, {entries}", table.file.display()),
            TableFate::Merged => format!("merged: {}{keyspace}, {entries}", table.file.display()),
            _ => format!("lost: {}{keyspace}", table.file.display()),
        })?;
    }
    for log in &report.logs {
        out.line(format_args!("read: {}, {}", log.path.display(), count(log.batches, "batch", "batches")))?;
    }
    for name in &report.recovered_keyspaces {
        out.line(format_args!("keyspace {name:?} holds what nobody says whose it is"))?;
    }
    for loss in &report.losses {
        out.line(format_args!("lost: {loss}"))?;
    }
    for doubt in &report.doubts {
        out.line(format_args!("unsure: {doubt}"))?;
    }
    for path in &report.set_aside {
        out.line(format_args!("set aside: {}", path.display()))?;
    }
    if arguments.dry_run {
        return out.line(match report.is_lossless() {
            true => "nothing would be lost; nothing was changed",
            false => "what is lost is said above, everything else can be kept; nothing was changed",
        });
    }
    match &report.check {
        Some(check) if check.is_clean() => out.line(format_args!(
            "repaired, and checked: {} sound",
            count(check.tables, "table is", "tables are")
        )),
        Some(check) => {
            for fault in &check.faults {
                out.line(format_args!("damage: {fault}"))?;
            }
            out.line("repaired, but the check of the result fails: this is a bug of lsm, please report it")
        }
        None => out.line("repaired, and not checked"),
    }
}

fn as_json(report: &RepairReport, dry_run: bool) -> Value {
    let (manifest, reason) = match &report.manifest {
        ManifestCondition::Missing => ("missing", None),
        ManifestCondition::Damaged { reason, .. } => ("damaged", Some(reason)),
        _ => ("whole", None),
    };
    let tables = report.tables.iter().map(|table| {
        let fate = match table.fate {
            TableFate::Salvaged => "salvaged",
            TableFate::TakenIn => "taken in",
            TableFate::Merged => "merged",
            _ => "lost",
        };
        json!({ "file": table.file, "keyspace": table.keyspace, "fate": fate, "entries": table.entries })
    });
    json!({
        "was_sound": report.was_sound,
        "dry_run": dry_run,
        "manifest": manifest,
        "manifest_fault": reason,
        "tables_kept": report.tables_kept,
        "tables": tables.collect::<Vec<Value>>(),
        "losses": report.losses.iter().map(loss).collect::<Vec<Value>>(),
        "doubts": report.doubts,
        "recovered_keyspaces": report.recovered_keyspaces,
        "set_aside": report.set_aside,
        "faults": report.faults.iter().map(ToString::to_string).collect::<Vec<String>>(),
        "sound_now": report.check.as_ref().map(lsm::CheckReport::is_clean),
    })
}

fn loss(loss: &Loss) -> Value {
    let kind = match loss.kind {
        LossKind::Entries => "entries",
        LossKind::RangeDeletions => "range deletions",
        LossKind::Commits => "commits",
        _ => "file",
    };
    let mut object = Map::new();
    object.insert("kind".into(), kind.into());
    object.insert("file".into(), json!(loss.file));
    object.insert("keyspace".into(), json!(loss.keyspace));
    if let Some(range) = &loss.range {
        put_range(&mut object, range);
    }
    if let Some((first, last)) = loss.sequences {
        object.insert("first_sequence".into(), first.into());
        object.insert("last_sequence".into(), last.into());
    }
    object.insert("entries".into(), loss.entries.into());
    object.insert("reason".into(), loss.reason.as_str().into());
    object.into()
}
