//! Naming what is lost: which objects, which of their chunks, which files need these.

use std::collections::HashSet;

use super::HealSources;
use super::mend::lost_objects;
use super::salvage::Salvaged;
use crate::error::Result;
use crate::id::ObjectHash;
use crate::repository::layout::ObjectName;
use crate::verify::{Fate, Loss, Survey, VerifyReport};

/// How many Versions are named for one lost object: whoever has lost more than that has other worries than the rest of the list.
const REFERENCES_MAX: usize = 10_000;

/// What is lost as things stand, without trying to mend anything.
///
/// # Errors
/// Local.
pub(crate) fn losses(
    survey: &Survey<'_>,
    report: &mut VerifyReport,
    sources: &HealSources<'_>,
) -> Result<Vec<Loss>> {
    let lost = lost_objects(survey).into_iter().map(Salvaged::nothing).collect();
    explain(survey, report, lost, sources)
}

/// Says what the loss of these objects means. A pack whose chunks are all good elsewhere is no loss: its findings are marked so.
///
/// # Errors
/// Local.
pub(super) fn explain(
    survey: &Survey<'_>,
    report: &mut VerifyReport,
    lost: Vec<Salvaged>,
    sources: &HealSources<'_>,
) -> Result<Vec<Loss>> {
    let packs: HashSet<ObjectHash> = lost
        .iter()
        .filter_map(|salvaged| match salvaged.name {
            ObjectName::Pack(hash) => Some(hash),
            _ => None,
        })
        .collect();
    let mut losses = Vec::new();
    for salvaged in lost {
        let mut loss =
            Loss { name: salvaged.name, rescued: salvaged.rescued, chunks: None, references: Vec::new() };
        if let ObjectName::Pack(hash) = salvaged.name {
            // What nobody names needs nobody: it is damage on its target, and no loss.
            let named = survey.objects.get(&salvaged.name).is_some_and(|object| object.named);
            loss.chunks = match sources.meaning {
                Some(meaning) => meaning.chunks_of(&hash)?.or(salvaged.chunks),
                None => salvaged.chunks,
            };
            if let (Some(chunks), Some(meaning)) = (&mut loss.chunks, sources.meaning) {
                let elsewhere = meaning.is_elsewhere(chunks, &packs)?;
                let mut elsewhere = elsewhere.into_iter();
                chunks.retain(|_| !elsewhere.next().unwrap_or(false));
                if chunks.is_empty() || !named {
                    for finding in report.findings.iter_mut().filter(|finding| finding.name == salvaged.name)
                    {
                        finding.fate = Fate::NotNeeded;
                    }
                    continue;
                }
                let wanted: HashSet<_> = chunks.iter().copied().collect();
                meaning.references(&wanted, &mut |reference| {
                    if loss.references.len() < REFERENCES_MAX {
                        loss.references.push(reference);
                    }
                    Ok(())
                })?;
            } else if !named {
                continue;
            }
        }
        losses.push(loss);
    }
    Ok(losses)
}
