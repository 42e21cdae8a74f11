//! `verify`: is everything on every target that must be there, and is it good?
//!
//! By structure: each target is listed, and compared with what segments and marks of completeness say must exist, in names and lengths
//! (`survey`). With the data: every object, or a part of them, is read whole and hashed (`data`). Neither needs a password: an object's name, or the hash
//! at its end, tells good from bad. With [`VerifyOptions::heal`], what is found is mended ([`crate::heal`]).

mod catalog;
mod data;
mod facts;
mod holdings;
mod later;
mod report;
mod survey;

#[cfg(test)]
mod catalog_tests;
#[cfg(test)]
pub(crate) mod tests;

pub use catalog::{CatalogSources, verify_with_catalog};
pub use data::ReadData;
pub use holdings::{Holdings, MemHoldings, Seen};
pub use later::{LaterHoldings, WriteDown};
pub use report::{Fate, Finding, Loss, Outcome, Problem, TargetReport, VerifyReport};

pub(crate) use survey::{Copy, Need, Object, Survey, Surveyed, check_cancelled, read};

use crate::error::{Error, ErrorKind, Result};
use crate::heal::{self, HealSources};
use crate::monitor::{Event, Fault, FaultSide, Monitor};
use crate::repository::layout::ObjectName;
use crate::repository::{Repository, now};

/// What to verify.
#[derive(Clone, Copy, Debug, Default)]
pub struct VerifyOptions {
    /// Which objects are read whole.
    pub data: ReadData,
    /// Whether to mend what is found.
    pub heal: bool,
}

/// Verifies all targets of a repository that can be reached, and mends what it finds if told to.
///
/// `holdings` remembers what was seen; `sources` is what helps to heal besides the targets, and tells what losses mean.
/// Each problem that stays is handed to `monitor` as a fault, each that was mended as an item.
///
/// # Errors
/// Target, if none can be reached; newer format; local; cancelled (what was read until then is remembered).
pub fn verify(
    repository: &Repository,
    options: &VerifyOptions,
    holdings: &dyn Holdings,
    sources: &HealSources<'_>,
    monitor: &dyn Monitor,
) -> Result<VerifyReport> {
    let ages = repository.ages(monitor)?;
    if options.heal {
        for age in &ages {
            monitor.event(Event::Note(&age.to_string()));
        }
    } else {
        repository.report_ages(&ages, monitor);
    }
    let mut survey = Survey::take(repository, holdings, monitor)?;
    if options.data != ReadData::Nothing {
        data::read_data(&mut survey, options.data, holdings, monitor)?;
    }
    let mut report = VerifyReport { findings: find(&survey), ..VerifyReport::default() };
    record_findings(&survey, &report.findings, holdings)?;
    let read_before: Vec<_> = (0..survey.targets.len()).map(|index| read_so_far(&survey, index)).collect();
    if options.heal {
        heal::heal(&mut survey, &mut report, holdings, sources, monitor)?;
    } else {
        report.losses = heal::losses(&survey, &mut report, sources)?;
    }
    report.targets = target_reports(&survey, &read_before, repository);
    tell(&report, options.heal, monitor);
    Ok(report)
}

/// Every problem of every copy on targets that answered to the end.
fn find(survey: &Survey<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, target) in survey.targets.iter().enumerate() {
        if target.handle.error().is_some() {
            continue;
        }
        for (name, object) in &survey.objects {
            let problem = match (object.copies.get(index), name) {
                (Some(Copy::Absent) | None, _) if survey.need(name, object, index) == Need::Promised => {
                    Problem::Missing
                }
                (Some(Copy::Absent) | None, _) => continue,
                (Some(_), ObjectName::Key(hash)) if survey.removed.contains(hash) => Problem::RemovedKey,
                (Some(Copy::Bad(error)), _) => Problem::Damaged(error.clone()),
                (Some(Copy::Listed(_) | Copy::Good(_)), _) => continue,
            };
            findings.push(Finding { url: target.url().to_owned(), name: *name, problem, fate: Fate::Found });
        }
    }
    findings
}

/// What is missing or damaged is not known to be there any more: the next backup stores it again.
fn record_findings(survey: &Survey<'_>, findings: &[Finding], holdings: &dyn Holdings) -> Result<()> {
    for target in &survey.targets {
        let seen: Vec<_> = findings
            .iter()
            .filter(|finding| finding.url == target.url())
            .filter_map(|finding| match finding.problem {
                Problem::Missing => Some((finding.name, Seen::Missing)),
                Problem::Damaged(_) => Some((finding.name, Seen::Damaged)),
                Problem::RemovedKey => None,
            })
            .collect();
        if !seen.is_empty() {
            holdings.record(target.url(), now().seconds, &seen)?;
        }
    }
    Ok(())
}

/// Objects and bytes of a target that were read whole.
fn read_so_far(survey: &Survey<'_>, index: usize) -> (u64, u64) {
    let mut sum = (0, 0);
    for (name, object) in &survey.objects {
        let length = match object.copies.get(index) {
            Some(Copy::Good(length)) => *length,
            Some(Copy::Bad(_)) if data::is_data(name.kind()) => object.any_length().unwrap_or(0),
            _ => continue,
        };
        sum = (sum.0 + 1, sum.1 + length);
    }
    sum
}

fn target_reports(survey: &Survey<'_>, read: &[(u64, u64)], repository: &Repository) -> Vec<TargetReport> {
    let mut reports = Vec::new();
    for handle in repository.targets() {
        let mut report =
            TargetReport { url: handle.url().to_owned(), error: handle.error(), ..TargetReport::default() };
        let index = survey.targets.iter().position(|target| target.url() == handle.url());
        if let Some(index) = index
            && let Some(target) = survey.targets.get(index)
        {
            (report.objects_read, report.bytes_read) = read.get(index).copied().unwrap_or_default();
            report.set_aside = target.aside.len() as u64;
            for (name, object) in &survey.objects {
                match object.copies.get(index) {
                    Some(Copy::Listed(length) | Copy::Good(length)) => {
                        report.objects += 1;
                        report.bytes += length;
                        report.packs_unnamed +=
                            u64::from(matches!(name, ObjectName::Pack(_)) && !object.named);
                    }
                    // What nobody has is lost, not behind.
                    Some(Copy::Absent)
                        if object.is_anywhere() && survey.need(name, object, index) == Need::Behind =>
                    {
                        report.objects_behind += 1;
                        report.bytes_behind += object.any_length().unwrap_or(0);
                    }
                    _ => {}
                }
            }
        }
        reports.push(report);
    }
    reports
}

fn tell(report: &VerifyReport, healing: bool, monitor: &dyn Monitor) {
    let during = if healing { "heal" } else { "verify" };
    for finding in &report.findings {
        let error = match (&finding.fate, &finding.problem) {
            (Fate::Healed(_) | Fate::NotNeeded, _) => continue,
            (Fate::Found, Problem::Damaged(error)) => error.clone(),
            (Fate::Found, problem) => Error::damage(problem.to_string()),
            (Fate::Failed(error), problem) => error.clone().at(format!("{problem}, and could not be healed")),
            (Fate::Lost, problem) => Error::damage(format!("{problem}, and no good copy is on any target")),
        };
        let side = match error.kind() {
            ErrorKind::Target | ErrorKind::TargetFull => FaultSide::Target,
            _ => FaultSide::Damage,
        };
        monitor.fault(Fault { side, item: format!("{}/{}", finding.url, finding.name), during, error });
    }
    for target in report.targets.iter().filter(|target| target.objects_behind > 0) {
        let message = format!(
            "it lacks {} objects ({} bytes) that other targets have: `mirror` brings them",
            target.objects_behind, target.bytes_behind
        );
        let error = Error::new(ErrorKind::Target, message);
        monitor.fault(Fault { side: FaultSide::Target, item: target.url.clone(), during, error });
    }
}
