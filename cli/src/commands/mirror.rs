//! `versions mirror`: each target gets what it lacks.

use chunkstore::mirror::{self, MirrorReport};
use chunkstore::verify::MemHoldings;
use serde::Serialize;

use super::later;
use super::verify::exit;
use crate::args;
use crate::exit::{Exit, Failure};
use crate::render::size;
use crate::render::words::count;
use crate::session::Session;

pub(super) fn run(session: &Session, _args: &args::Mirror) -> Result<Exit, Failure> {
    let reporter = session.reporter();
    let (repository, has_secrets) = session.open_with_or_without_secrets(&reporter)?;
    let report = if has_secrets {
        later::writing_down(session, &repository, &reporter, |holdings| {
            mirror::mirror(&repository, holdings, Some(holdings), &reporter)
        })?
    } else {
        mirror::mirror(&repository, &MemHoldings::default(), None, &reporter)?
    };
    reporter.finish();
    if session.output.is_json() {
        session.output.json_line(&Json::new(&report));
    } else {
        session.output.summary(&text(&report));
    }
    Ok(exit(report.outcome()))
}

fn text(report: &MirrorReport) -> String {
    let mut text = match report.objects {
        0 => "nothing had to be copied\n".to_owned(),
        number => format!("copied {}, {}\n", count(number, "object"), size::show(report.bytes)),
    };
    if report.objects_behind > 0 {
        text.push_str(&format!("still lacking somewhere: {}\n", count(report.objects_behind, "object")));
    }
    if !report.failed.is_empty() {
        text.push_str(&format!("not brought up to date: {}\n", report.failed.join(", ")));
    }
    if !report.findings.is_empty() {
        text.push_str(&format!(
            "damaged or lost: {} (`versions verify --heal`)\n",
            count(report.findings.len() as u64, "object")
        ));
    }
    text
}

#[derive(Serialize)]
struct Json<'a> {
    message_type: &'static str,
    objects_copied: u64,
    bytes_copied: u64,
    objects_behind: u64,
    num_errors: usize,
    targets_failed: &'a [String],
}

impl<'a> Json<'a> {
    fn new(report: &'a MirrorReport) -> Self {
        Self {
            message_type: "summary",
            objects_copied: report.objects,
            bytes_copied: report.bytes,
            objects_behind: report.objects_behind,
            num_errors: report.findings.len(),
            targets_failed: &report.failed,
        }
    }
}
