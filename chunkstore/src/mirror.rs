//! `mirror`: brings every target what it lacks and others have.
//!
//! Set difference by listing: names are hashes, so what has the same name is the same. Copies are checked before they land, one object
//! in memory at a time, in the order in which objects stand on each other: config, records of removed keys, keys, packs, segments, and last the
//! marks which say that all before is there. Keys that were removed are never brought back; where they still are, they go. What is damaged is
//! reported, not replaced: that is healing's.

use crate::error::{Error, Result};
use crate::heal::{HealSources, Meaning, Mend, losses, mend};
use crate::monitor::{Event, Fault, FaultSide, Monitor};
use crate::repository::Repository;
use crate::verify::{Copy, Fate, Finding, Holdings, Need, Outcome, Problem, Survey, VerifyReport};

/// What a mirroring did.
#[derive(Clone, Debug, Default)]
pub struct MirrorReport {
    /// Objects that were copied.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Targets that could not be reached, or failed, by URL.
    pub failed: Vec<String>,
    /// Objects that could not be brought or are damaged: healing is needed.
    pub findings: Vec<Finding>,
    /// Objects that targets still lack.
    pub objects_behind: u64,
}

impl MirrorReport {
    /// How it ended.
    pub fn outcome(&self) -> Outcome {
        if !self.findings.is_empty() {
            Outcome::Damaged
        } else if !self.failed.is_empty() || self.objects_behind > 0 {
            Outcome::TargetBehind
        } else {
            Outcome::Clean
        }
    }
}

/// Brings every target that can be reached what it lacks. Faults are reported; they do not stop the rest. `meaning` tells whether a damaged pack
/// is needed.
///
/// # Errors
/// Target, if none can be reached; newer format; local; cancelled.
pub fn mirror(
    repository: &Repository,
    holdings: &dyn Holdings,
    meaning: Option<&dyn Meaning>,
    monitor: &dyn Monitor,
) -> Result<MirrorReport> {
    for age in repository.ages(monitor)? {
        monitor.event(Event::Note(&age.to_string()));
    }
    let mut survey = Survey::take(repository, holdings, monitor)?;
    let mut done = VerifyReport::default();
    let sources = HealSources { meaning, ..HealSources::default() };
    mend(&mut survey, &mut done, Mend::Missing, holdings, &sources, monitor)?;
    for (index, target) in
        survey.targets.iter().enumerate().filter(|(_, target)| target.handle.error().is_none())
    {
        for (name, object) in &survey.objects {
            if let Some(Copy::Bad(error)) = object.copies.get(index)
                && !is_known(&done.findings, target.url(), name)
            {
                let (url, problem) = (target.url().to_owned(), Problem::Damaged(error.clone()));
                done.findings.push(Finding { url, name: *name, problem, fate: Fate::Found });
            }
        }
    }
    // Says of packs that nothing needs that it is so.
    losses(&survey, &mut done, &sources)?;
    let mut report = MirrorReport {
        objects: done.objects_caught_up,
        bytes: done.bytes_caught_up,
        ..MirrorReport::default()
    };
    report.failed.extend(
        repository
            .targets()
            .iter()
            .filter(|target| target.error().is_some())
            .map(|target| target.url().to_owned()),
    );
    for finding in done.findings {
        match finding.fate {
            // What was promised and is here again.
            Fate::Healed(_) if !matches!(finding.problem, Problem::RemovedKey) => report.objects += 1,
            Fate::Healed(_) | Fate::NotNeeded => {}
            _ => report.findings.push(finding),
        }
    }
    for (index, _) in survey.targets.iter().enumerate().filter(|(_, target)| target.handle.error().is_none())
    {
        for (name, object) in &survey.objects {
            match object.copies.get(index) {
                // What nobody has is lost, not behind.
                Some(Copy::Absent)
                    if object.is_anywhere() && survey.need(name, object, index) != Need::None =>
                {
                    report.objects_behind += 1
                }
                _ => {}
            }
        }
    }
    for finding in &report.findings {
        let error = match &finding.fate {
            Fate::Failed(error) => error.clone(),
            _ => Error::damage(format!("{} (`verify --heal` mends what can be mended)", finding.problem)),
        };
        let side = match error.kind() {
            crate::ErrorKind::Target | crate::ErrorKind::TargetFull => FaultSide::Target,
            _ => FaultSide::Damage,
        };
        monitor.fault(Fault {
            side,
            item: format!("{}/{}", finding.url, finding.name),
            during: "mirror",
            error,
        });
    }
    Ok(report)
}

fn is_known(findings: &[Finding], url: &str, name: &crate::repository::layout::ObjectName) -> bool {
    findings.iter().any(|finding| finding.url == url && finding.name == *name)
}
