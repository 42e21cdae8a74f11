//! `versions verify`: is everything there, and as it was written? With `--heal`: then make it so.

use std::fmt::Write as _;

use chunkstore::catalog::Reference;
use chunkstore::heal::HealSources;
use chunkstore::repository::Repository;
use chunkstore::repository::layout::ObjectName;
use chunkstore::verify::{
    self, CatalogSources, Fate, Finding, Loss, MemHoldings, Outcome, ReadData, TargetReport, VerifyOptions,
    VerifyReport,
};
use serde::Serialize;

use super::later;
use crate::args;
use crate::exit::{Exit, Failure};
use crate::render::words::{self, count};
use crate::render::{path, size, snapshot};
use crate::reporter::Reporter;
use crate::session::{Session, host_name};

pub(super) fn run(session: &Session, args: &args::Verify) -> Result<Exit, Failure> {
    let reporter = session.reporter();
    let options = VerifyOptions {
        // Healing without reading would mend what is missing and leave what is damaged: it reads all, unless less is asked for.
        data: match args.read_data_subset {
            Some(subset) => subset,
            None if args.read_data || args.heal => ReadData::All,
            None => ReadData::Nothing,
        },
        heal: args.heal,
    };
    let (repository, has_secrets) = session.open_with_or_without_secrets(&reporter)?;
    let report = if !has_secrets {
        verify::verify(&repository, &options, &MemHoldings::default(), &HealSources::default(), &reporter)?
    } else if args.heal {
        heal(session, &repository, &options, &reporter)?
    } else {
        later::writing_down(session, &repository, &reporter, |holdings| {
            let sources = HealSources { meaning: Some(holdings), ..HealSources::default() };
            verify::verify(&repository, &options, holdings, &sources, &reporter)
        })?
    };
    reporter.finish();
    if session.output.is_json() {
        json(session, &report);
    } else {
        session.output.summary(&text(&report, &options));
    }
    Ok(exit(report.outcome()))
}

/// With all that the catalog can do, which is held meanwhile.
fn heal(
    session: &Session,
    repository: &Repository,
    options: &VerifyOptions,
    reporter: &Reporter,
) -> Result<VerifyReport, Failure> {
    let catalog = session.writable(repository, reporter)?;
    let host = host_name();
    let helper = CatalogSources::new(repository, &catalog, &host);
    let outbox = helper.outbox()?;
    let local = |name: &ObjectName| Ok(outbox.get(name).cloned());
    let sources = HealSources { local: Some(&local), ..helper.sources() };
    Ok(verify::verify(repository, options, &helper, &sources, reporter)?)
}

/// The exit code for how it ended. What was reported on the way (a config taken from another target, say) is in the outcome as far as it is still so.
pub(super) fn exit(outcome: Outcome) -> Exit {
    match outcome {
        Outcome::Clean => Exit::Success,
        Outcome::Healed => Exit::Healed,
        Outcome::TargetBehind => Exit::TargetUnreachable,
        Outcome::Damaged => Exit::Damage,
    }
}

fn text(report: &VerifyReport, options: &VerifyOptions) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    for target in &report.targets {
        let _ = writeln!(text, "{}", target_line(target));
    }
    for finding in &report.findings {
        if let Fate::Healed(from) = &finding.fate {
            let _ = writeln!(
                text,
                "healed {}/{}: {}; good from {from}",
                finding.url, finding.name, finding.problem
            );
        }
    }
    if report.objects_caught_up > 0 {
        let _ = writeln!(
            text,
            "brought {} ({}) to targets that lacked them",
            count(report.objects_caught_up, "object"),
            size::show(report.bytes_caught_up)
        );
    }
    for loss in &report.losses {
        let _ = writeln!(text, "{}", loss_text(loss));
    }
    let errors = |number: usize| count(number as u64, "error");
    let open = report.findings.len() - report.healed();
    // Whoever takes the listings for a reading finds out when it is too late.
    let unread =
        if options.data == ReadData::Nothing { "; packs were not read (`--read-data` does)" } else { "" };
    let mend =
        if options.heal { "" } else { "; `versions verify --heal` mends what another target has good" };
    let _ = match report.outcome() {
        Outcome::Clean => writeln!(text, "no errors were found{unread}"),
        Outcome::Healed => writeln!(text, "found {}, and healed all of it", errors(report.findings.len())),
        Outcome::TargetBehind if report.healed() > 0 => writeln!(
            text,
            "found {}, and healed all of it, but a target is away or behind",
            errors(report.findings.len())
        ),
        Outcome::TargetBehind => {
            writeln!(text, "no damage was found, but a target is away or behind{unread}")
        }
        Outcome::Damaged if report.healed() > 0 => {
            writeln!(text, "healed {}, left {}", errors(report.healed()), errors(open))
        }
        Outcome::Damaged => writeln!(text, "found {}{mend}", errors(open)),
    };
    text
}

fn target_line(target: &TargetReport) -> String {
    let url = path::show(target.url.as_bytes());
    if let Some(error) = &target.error {
        return format!("{url}: not looked at, or not to the end: {}", words::of_target(error, &target.url));
    }
    let mut line = format!("{url}: {}, {}", count(target.objects, "object"), size::show(target.bytes));
    if target.objects_read > 0 {
        let _ = write!(line, "; read {} ({})", target.objects_read, size::show(target.bytes_read));
    }
    if target.objects_behind > 0 {
        let _ = write!(line, "; lacks {} ({})", target.objects_behind, size::show(target.bytes_behind));
    }
    if target.packs_unnamed > 0 {
        let _ =
            write!(line, "; {} of a backup that runs or was cut short", count(target.packs_unnamed, "pack"));
    }
    if target.set_aside > 0 {
        let _ = write!(line, "; {} put aside", count(target.set_aside, "damaged object"));
    }
    line
}

fn loss_text(loss: &Loss) -> String {
    let chunks = match &loss.chunks {
        Some(chunks) => format!("{} good nowhere", count(chunks.len() as u64, "chunk")),
        None => "what it held is not known".to_owned(),
    };
    let mut text = format!("lost {}: {chunks}", loss.name);
    if loss.rescued > 0 {
        let _ = write!(text, ", {} were rescued", loss.rescued);
    }
    for reference in &loss.references {
        let _ = write!(
            text,
            "\n  {} (host {}, Version {}): {}",
            path::show(&reference.key.path_bytes()),
            path::show(&reference.host),
            snapshot::short(&reference.version.id.uuid()),
            ranges(reference)
        );
    }
    text
}

fn ranges(reference: &Reference) -> String {
    if reference.ranges.is_empty() {
        return "some of its bytes".to_owned();
    }
    let list: Vec<String> =
        reference.ranges.iter().map(|range| format!("{}..{}", range.start, range.end)).collect();
    format!("bytes {}", list.join(", "))
}

/// One file that lost something; ours.
#[derive(Serialize)]
struct LossJson {
    message_type: &'static str,
    object: String,
    path: String,
    hostname: String,
    version_id: String,
    /// Pairs of first byte and end.
    ranges: Vec<(u64, u64)>,
}

/// One object that was healed; ours.
#[derive(Serialize)]
struct HealedJson<'a> {
    message_type: &'static str,
    target: &'a str,
    object: String,
    problem: String,
    from: &'a str,
}

/// restic's summary of `check`, with ours behind it.
#[derive(Serialize)]
struct Summary {
    message_type: &'static str,
    num_errors: usize,
    broken_packs: Vec<String>,
    suggest_repair_index: bool,
    suggest_prune: bool,
    num_healed: usize,
    num_lost: usize,
    targets: Vec<TargetJson>,
}

#[derive(Serialize)]
struct TargetJson {
    url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    objects: u64,
    bytes: u64,
    objects_read: u64,
    bytes_read: u64,
    objects_behind: u64,
    bytes_behind: u64,
}

fn json(session: &Session, report: &VerifyReport) {
    for finding in &report.findings {
        if let Fate::Healed(from) = &finding.fate {
            session.output.json_line(&HealedJson {
                message_type: "healed",
                target: &finding.url,
                object: finding.name.to_string(),
                problem: finding.problem.to_string(),
                from,
            });
        }
    }
    for loss in &report.losses {
        for reference in &loss.references {
            session.output.json_line(&LossJson {
                message_type: "loss",
                object: loss.name.to_string(),
                path: path::show(&reference.key.path_bytes()).into_owned(),
                hostname: path::show(&reference.host).into_owned(),
                version_id: reference.version.id.uuid().to_string(),
                ranges: reference.ranges.iter().map(|range| (range.start, range.end)).collect(),
            });
        }
    }
    let is_open = |finding: &&Finding| !matches!(finding.fate, Fate::Healed(_) | Fate::NotNeeded);
    let open = || report.findings.iter().filter(is_open);
    session.output.json_line(&Summary {
        message_type: "summary",
        num_errors: open().count(),
        broken_packs: open()
            .filter(|finding| matches!(finding.name, ObjectName::Pack(_)))
            .filter_map(|finding| finding.name.hash().map(|hash| hash.to_string()))
            .collect(),
        suggest_repair_index: false,
        suggest_prune: false,
        num_healed: report.healed(),
        num_lost: report.losses.len(),
        targets: report
            .targets
            .iter()
            .map(|target| TargetJson {
                url: target.url.clone(),
                error: target.error.as_ref().map(ToString::to_string),
                objects: target.objects,
                bytes: target.bytes,
                objects_read: target.objects_read,
                bytes_read: target.bytes_read,
                objects_behind: target.objects_behind,
                bytes_behind: target.bytes_behind,
            })
            .collect(),
    });
}
