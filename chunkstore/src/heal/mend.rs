//! Putting good objects where they are missing or bad: the work of healing and of mirroring.

use std::collections::{BTreeSet, HashSet};

use super::HealSources;
use super::splice::splice;
use crate::error::{Error, ErrorKind, Result};
use crate::id::ObjectHash;
use crate::monitor::{Event, Fault, FaultSide, Monitor};
use crate::repository::complete::Complete;
use crate::repository::fetch::fetch;
use crate::repository::intent::Intent;
use crate::repository::key::KeyRemoval;
use crate::repository::layout::{ObjectKind, ObjectName};
use crate::repository::now;
use crate::target::ObjectKey;
use crate::verify::{
    Copy, Fate, Finding, Holdings, Need, Object, Problem, Seen, Survey, Surveyed, VerifyReport,
    check_cancelled, read,
};

/// How much is mended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mend {
    /// What is missing is brought; what is damaged stays as it is.
    Missing,
    /// What is damaged is replaced too, from whatever helps.
    Everything,
}

/// Goes through all objects in the order in which they stand on each other, and puts good ones where they are needed.
///
/// # Errors
/// Local; cancelled. Faults of targets are in the report.
pub(crate) fn mend(
    survey: &mut Survey<'_>,
    report: &mut VerifyReport,
    how: Mend,
    holdings: &dyn Holdings,
    sources: &HealSources<'_>,
    monitor: &dyn Monitor,
) -> Result<()> {
    let mut mender =
        Mender { how, holdings, sources, monitor, full: BTreeSet::new(), refused: BTreeSet::new() };
    remove_keys(survey, report);
    let names: Vec<_> = survey.objects.keys().copied().collect();
    let todo = names.iter().filter(|name| !mender.needy(survey, name).is_empty()).count() as u64;
    monitor.event(Event::Phase { name: "heal", bytes: None, items: Some(todo) });
    for name in names {
        check_cancelled(monitor)?;
        if !mender.needy(survey, &name).is_empty() {
            mender.object(survey, report, &name)?;
            monitor.event(Event::Advance { bytes: 0, items: 1 });
        }
    }
    if how == Mend::Everything {
        for index in 0..survey.targets.len() {
            mender.clear_aside(survey, index)?;
        }
    }
    Ok(())
}

/// Removed keys go, wherever they have come back or were never taken away: but only if someone with the secrets said so.
fn remove_keys(survey: &Survey<'_>, report: &mut VerifyReport) {
    for target in &survey.targets {
        for hash in &target.removed_keys {
            let name = ObjectName::Key(*hash);
            let removed = match survey.repository.secrets() {
                Ok(_) => target.handle.get().and_then(|open| open.delete(&name.key())),
                Err(error) => Err(error.at("whether it was removed can be told with the password only")),
            };
            let fate = match removed {
                Ok(()) => Fate::Healed("its record of removal".into()),
                Err(error) => Fate::Failed(error),
            };
            set_fate(report, target.url(), &name, Problem::RemovedKey, fate);
        }
    }
}

/// Notes what became of a problem, also of one that comes to light only now.
fn set_fate(report: &mut VerifyReport, url: &str, name: &ObjectName, problem: Problem, fate: Fate) {
    let known = report.findings.iter_mut().rev().find(|finding| finding.name == *name && finding.url == url);
    match known {
        Some(finding) => finding.fate = fate,
        None => report.findings.push(Finding { url: url.to_owned(), name: *name, problem, fate }),
    }
}

struct Mender<'a, 'b> {
    how: Mend,
    holdings: &'a dyn Holdings,
    sources: &'a HealSources<'b>,
    monitor: &'a dyn Monitor,
    /// Targets that have no room: what they only lack is not tried on them any more.
    full: BTreeSet<usize>,
    /// Targets that did not take something: it is said once, for the reason is mostly the same for all that comes.
    refused: BTreeSet<usize>,
}

impl Mender<'_, '_> {
    /// The targets on which the object is needed and not good.
    fn needy(&self, survey: &Survey<'_>, name: &ObjectName) -> Vec<usize> {
        let Some(object) = survey.objects.get(name) else { return Vec::new() };
        let removed = matches!(name, ObjectName::Key(hash) if survey.removed.contains(hash));
        let is_needy = |index: &usize| {
            let answers = survey.targets.get(*index).is_some_and(|target| target.handle.error().is_none());
            let lacking = match object.copies.get(*index) {
                Some(Copy::Absent) | None => match survey.need(name, object, *index) {
                    Need::None => false,
                    Need::Promised => true,
                    _ => !self.full.contains(index),
                },
                Some(Copy::Bad(_)) => self.how == Mend::Everything,
                Some(Copy::Listed(_) | Copy::Good(_)) => false,
            };
            answers && lacking && !removed
        };
        (0..survey.targets.len()).filter(is_needy).collect()
    }

    fn object(
        &mut self,
        survey: &mut Survey<'_>,
        report: &mut VerifyReport,
        name: &ObjectName,
    ) -> Result<()> {
        let found = self.obtain(survey, report, name)?;
        // Looking for a good copy may have found more bad ones, or that a bad one reads well after all.
        for index in self.needy(survey, name) {
            let Some(target) = survey.targets.get(index) else { continue };
            let object = survey.objects.get(name);
            let copy = object.and_then(|object| object.copies.get(index)).cloned().unwrap_or(Copy::Absent);
            let need = object.map_or(Need::None, |object| survey.need(name, object, index));
            let problem = match &copy {
                Copy::Bad(error) => Some(Problem::Damaged(error.clone())),
                _ if need == Need::Promised => Some(Problem::Missing),
                _ => None,
            };
            let Some((bytes, origin)) = &found else {
                if is_forged_removal(name, &copy) {
                    let deleted = target.handle.get().and_then(|open| open.delete(&name.key()));
                    let done = deleted.is_ok();
                    let fate = deleted.map_or_else(Fate::Failed, |()| Fate::Healed("removing it".into()));
                    let url = target.url().to_owned();
                    set_fate(report, &url, name, problem.unwrap_or(Problem::Missing), fate);
                    if let Some(object) = survey.objects.get_mut(name).filter(|_| done) {
                        object.set(index, Copy::Absent);
                        object.named = false;
                    }
                    continue;
                }
                if let Some(problem) = problem {
                    set_fate(report, target.url(), name, problem, Fate::Lost);
                }
                continue;
            };
            if matches!(copy, Copy::Absent) && !self.may_stand(survey, name, index, need)? {
                if let Some(problem) = problem {
                    let error = Error::damage("what it speaks of is not all there");
                    set_fate(report, target.url(), name, problem, Fate::Failed(error));
                }
                continue;
            }
            match self.put(survey, target, name, bytes, &copy) {
                Ok(()) => {
                    let length = bytes.len() as u64;
                    self.holdings.record(target.url(), now().seconds, &[(*name, Seen::Good(length))])?;
                    let item = target.item(name);
                    match problem {
                        Some(problem) => {
                            self.monitor.event(Event::Item { action: "healed", item: &item, bytes: length });
                            set_fate(report, target.url(), name, problem, Fate::Healed(origin.clone()));
                        }
                        None => {
                            self.monitor.event(Event::Item { action: "copied", item: &item, bytes: length });
                            report.objects_caught_up += 1;
                            report.bytes_caught_up += length;
                        }
                    }
                    if let Some(object) = survey.objects.get_mut(name) {
                        object.set(index, Copy::Good(length));
                    }
                }
                // It never had the object, and takes none: so it stays behind, and nothing is damaged.
                Err(error)
                    if problem.is_none()
                        && matches!(error.kind(), ErrorKind::Target | ErrorKind::TargetFull) =>
                {
                    if error.kind() == ErrorKind::TargetFull {
                        self.full.insert(index);
                    }
                    if self.refused.insert(index) {
                        let during = if self.how == Mend::Missing { "mirror" } else { "heal" };
                        let item = target.url().to_owned();
                        self.monitor.fault(Fault { side: FaultSide::Target, item, during, error });
                    }
                }
                Err(error) => {
                    let problem = problem.unwrap_or(Problem::Missing);
                    set_fate(report, target.url(), name, problem, Fate::Failed(error));
                }
            }
        }
        Ok(())
    }

    /// Good bytes of an object, and where they are from.
    fn obtain(
        &self,
        survey: &mut Survey<'_>,
        report: &mut VerifyReport,
        name: &ObjectName,
    ) -> Result<Option<(Vec<u8>, String)>> {
        for index in 0..survey.targets.len() {
            let bytes = survey.read_copy(name, index, self.monitor)?;
            let Some(target) = survey.targets.get(index) else { continue };
            if let Some(bytes) = bytes {
                return Ok(Some((bytes, target.url().to_owned())));
            }
            if let Some(Copy::Bad(error)) =
                survey.objects.get(name).and_then(|object| object.copies.get(index))
            {
                let fate = Fate::Found;
                let known = |finding: &Finding| finding.name == *name && finding.url == target.url();
                if !report.findings.iter().any(known) {
                    let problem = Problem::Damaged(error.clone());
                    report.findings.push(Finding {
                        url: target.url().to_owned(),
                        name: *name,
                        problem,
                        fate,
                    });
                }
            }
        }
        if self.how == Mend::Missing {
            return Ok(None);
        }
        if let Some(found) = self.read_again(survey, report, name)? {
            return Ok(Some(found));
        }
        let inspector = survey.repository.inspector();
        let good = |bytes: &[u8]| inspector.check(name, bytes).is_ok();
        if let Some(local) = self.sources.local
            && let Some(bytes) = local(name)?.filter(|bytes| good(bytes))
        {
            return Ok(Some((bytes, "this machine".into())));
        }
        for target in &survey.targets {
            for key in target.aside.iter().filter(|key| ObjectName::parse_aside(key) == Some(*name)) {
                if let Some(bytes) = get(target, key, name.kind().bytes_max()).filter(|bytes| good(bytes)) {
                    return Ok(Some((bytes, format!("{}/{key}", target.url()))));
                }
            }
        }
        if let Some(bytes) = reconstruct(survey, name).filter(|bytes| good(bytes)) {
            return Ok(Some((bytes, "what the others say".into())));
        }
        let copies = damaged_copies(survey, name);
        let length = survey.objects.get(name).and_then(|object| object.length);
        Ok(splice(&copies, length, good).map(|bytes| (bytes, "several damaged copies together".into())))
    }

    /// A copy that was bad, read once more: a cable or a memory cell may have been at fault, and nothing must be replaced then.
    fn read_again(
        &self,
        survey: &mut Survey<'_>,
        report: &mut VerifyReport,
        name: &ObjectName,
    ) -> Result<Option<(Vec<u8>, String)>> {
        for index in 0..survey.targets.len() {
            let (Some(target), Some(object)) = (survey.targets.get(index), survey.objects.get(name)) else {
                continue;
            };
            if !matches!(object.copies.get(index), Some(Copy::Bad(_))) {
                continue;
            }
            let (copy, bytes) = read(target, survey.repository.inspector(), name, self.monitor)?;
            if let Some(bytes) = bytes {
                let url = target.url().to_owned();
                let problem = Problem::Damaged(Error::damage("it read badly, and well the second time"));
                set_fate(report, &url, name, problem, Fate::Healed("reading it again".into()));
                self.holdings.record(&url, now().seconds, &[(*name, Seen::Good(bytes.len() as u64))])?;
                if let Some(object) = survey.objects.get_mut(name) {
                    object.set(index, copy);
                }
                return Ok(Some((bytes, url)));
            }
        }
        Ok(None)
    }

    /// Whether a target that has no mark may get it: it must hold what the mark speaks of. Where the mark was once, what nobody has any more was too;
    /// and a pack that is good nowhere keeps no mark back if other packs hold its chunks.
    ///
    /// # Errors
    /// Local.
    fn may_stand(&self, survey: &Survey<'_>, name: &ObjectName, index: usize, need: Need) -> Result<bool> {
        let ObjectName::Complete { writer, sequence } = name else { return Ok(true) };
        let has = |name: &ObjectName| {
            let copy = survey.objects.get(name).and_then(|object| object.copies.get(index));
            matches!(copy, Some(Copy::Listed(_) | Copy::Good(_)))
        };
        let had = need == Need::Promised;
        let mut next = 1;
        for (name, facts) in &survey.segments {
            let ObjectName::Segment { writer: owner, sequence: place, .. } = name else { continue };
            if owner != writer || place > sequence {
                continue;
            }
            if (*place > next && !had) || !has(name) {
                return Ok(false);
            }
            for (hash, _) in &facts.packs {
                let pack = ObjectName::Pack(*hash);
                if !has(&pack) && (is_anywhere(survey, &pack) || !(had || self.is_replaced(survey, hash)?)) {
                    return Ok(false);
                }
            }
            next = place.saturating_add(1);
        }
        Ok(had || next > *sequence)
    }

    /// Whether all that a pack held is in others, as is known of one that no target has where all were asked.
    fn is_replaced(&self, survey: &Survey<'_>, pack: &ObjectHash) -> Result<bool> {
        let all_answer = survey.repository.targets().iter().all(|target| target.error().is_none());
        let Some(meaning) = self.sources.meaning.filter(|_| all_answer) else { return Ok(false) };
        let Some(chunks) = meaning.chunks_of(pack)? else { return Ok(false) };
        Ok(meaning.is_elsewhere(&chunks, &HashSet::from([*pack]))?.into_iter().all(|elsewhere| elsewhere))
    }

    fn put(
        &self,
        survey: &Survey<'_>,
        target: &Surveyed,
        name: &ObjectName,
        bytes: &[u8],
        copy: &Copy,
    ) -> Result<()> {
        let open = target.handle.get()?;
        let (key, inspector) = (name.key(), survey.repository.inspector());
        if let Copy::Bad(error) = copy
            && error.kind() == ErrorKind::NotTheSame
            && *name == ObjectName::Config
        {
            return Err(error.clone().at("it is not replaced"));
        }
        let mut aside = None;
        let mut put = || -> Result<()> {
            if matches!(copy, Copy::Bad(_)) {
                // Read once more: a cable or a memory cell may have been at fault, and nothing must be replaced then.
                if fetch(&**open, name).and_then(|bytes| inspector.check(name, &bytes)).is_ok() {
                    return Ok(());
                }
                aside = set_aside(target, &key)?;
            }
            match open.put_new(&key, &[bytes]) {
                Ok(()) => {}
                // Someone else was faster, or a folder or a link stands in its place, which no listing shows.
                Err(error) if matches!(error.kind(), ErrorKind::AlreadyExists | ErrorKind::Target) => {
                    let there = fetch(&**open, name).and_then(|bytes| inspector.check(name, &bytes));
                    if there.is_err() {
                        if aside.is_some() || self.how == Mend::Missing {
                            return Err(error);
                        }
                        aside = Some(open.set_aside(&key).map_err(|_| error)?);
                        open.put_new(&key, &[bytes])?;
                    }
                }
                Err(error) => return Err(error),
            }
            let back = fetch(&**open, name)?;
            inspector.check(name, &back).map_err(|error| {
                error.at(format!("target {}: {name}: what was put does not come back", target.url()))
            })
        };
        let done = put();
        if let Some(aside) = aside {
            match &done {
                // The good one is there: what was in its way can stay where it is, if it must (a folder with something in it).
                Ok(()) => drop(open.delete(&aside)),
                // There is no room for it, most likely. What is good in the bad one can be read where it was, and only there.
                Err(_) => drop(open.put_back(&aside, &key)),
            }
        }
        done.inspect_err(|error| {
            // Is it the object, or the target? Of a target that is gone nothing more is asked.
            if error.kind() == ErrorKind::Target
                && let Err(gone) = open.length(&ObjectName::Config.key())
            {
                target.handle.fail(gone);
            }
        })
    }

    /// What was set aside goes where a good object stands in its place.
    fn clear_aside(&self, survey: &mut Survey<'_>, index: usize) -> Result<()> {
        let Some(target) = survey.targets.get(index) else { return Ok(()) };
        let mut left = Vec::new();
        for key in target.aside.clone() {
            check_cancelled(self.monitor)?;
            let good = match ObjectName::parse_aside(&key) {
                // Its writer is done, or it would be on a sister still and would have been brought back.
                Some(name @ ObjectName::Intent(_)) if !is_anywhere(survey, &name) => true,
                Some(name) => read(target, survey.repository.inspector(), &name, self.monitor)?.1.is_some(),
                None => false,
            };
            let gone = good && target.handle.get().and_then(|open| open.delete(&key)).is_ok();
            if !gone {
                left.push(key);
            }
        }
        if let Some(target) = survey.targets.get_mut(index) {
            target.aside = left;
        }
        Ok(())
    }
}

/// Whether it says that a key was removed and was not made by anyone who has the secrets: that is known of it only where they are.
fn is_forged_removal(name: &ObjectName, copy: &Copy) -> bool {
    let forged = matches!(copy, Copy::Bad(error) if error.kind() == ErrorKind::NotTheSame);
    forged && matches!(name, ObjectName::KeyRemoval(_))
}

/// Sets an object aside, if one is there still.
fn set_aside(target: &Surveyed, key: &ObjectKey) -> Result<Option<ObjectKey>> {
    match target.handle.get()?.set_aside(key) {
        Ok(aside) => Ok(Some(aside)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn get(target: &Surveyed, key: &ObjectKey, limit: u64) -> Option<Vec<u8>> {
    target.handle.get().and_then(|open| open.get_at_most(key, limit)).ok()
}

/// The bytes of every damaged copy, those set aside too.
pub(super) fn damaged_copies(survey: &Survey<'_>, name: &ObjectName) -> Vec<Vec<u8>> {
    let mut copies = Vec::new();
    let limit = name.kind().bytes_max();
    for (index, target) in survey.targets.iter().enumerate() {
        let copy = survey.objects.get(name).and_then(|object| object.copies.get(index));
        if matches!(copy, Some(Copy::Bad(_))) {
            copies.extend(get(target, &name.key(), limit));
        }
        let aside = target.aside.iter().filter(|key| ObjectName::parse_aside(key) == Some(*name));
        copies.extend(aside.filter_map(|key| get(target, key, limit)));
    }
    copies
}

/// What an object must be, where that follows from what is known otherwise.
fn reconstruct(survey: &Survey<'_>, name: &ObjectName) -> Option<Vec<u8>> {
    match name {
        ObjectName::Config => Some(survey.repository.config_bytes().to_vec()),
        ObjectName::Complete { writer, sequence } => {
            let named = |candidate: &&ObjectName| match candidate {
                ObjectName::Segment { writer: owner, sequence: place, .. } => {
                    owner == writer && place == sequence
                }
                _ => false,
            };
            let mut candidates = survey.segments.keys().filter(named);
            // With two segments in one place there is no telling which it spoke of.
            match (candidates.next().and_then(ObjectName::hash), candidates.next()) {
                (Some(segment), None) => {
                    Some(Complete { writer: *writer, sequence: *sequence, segment }.encode())
                }
                _ => None,
            }
        }
        // Only where no key is left that it could remove: else an enemy would have the record made by damaging one of the same name.
        ObjectName::KeyRemoval(hash) => {
            let all_answer = survey.repository.targets().iter().all(|target| target.error().is_none());
            let object = survey.objects.get(name)?;
            let forged = object.copies.iter().any(|copy| is_forged_removal(name, copy));
            if !all_answer || forged || survey.objects.contains_key(&ObjectName::Key(*hash)) {
                return None;
            }
            let secrets = survey.repository.secrets().ok()?;
            Some(KeyRemoval::encode(secrets, survey.repository.id(), hash, now()))
        }
        // Its name is what counts: it goes on delaying what it delays.
        ObjectName::Intent(id) => Some(Intent::unknown(*id).encode()),
        _ => None,
    }
}

/// Whether a good copy of an object is anywhere, as far as is known.
pub(super) fn is_anywhere(survey: &Survey<'_>, name: &ObjectName) -> bool {
    survey.objects.get(name).is_some_and(Object::is_anywhere)
}

/// Objects that must exist and are good nowhere.
pub(super) fn lost_objects(survey: &Survey<'_>) -> Vec<ObjectName> {
    let is_lost = |(name, object): (&ObjectName, &crate::verify::Object)| {
        let removed = matches!(name, ObjectName::Key(hash) if survey.removed.contains(hash));
        let damaged = object.copies.iter().any(|copy| matches!(copy, Copy::Bad(_)));
        let needed = object.named || (damaged && name.kind() != ObjectKind::Intent);
        (needed && !removed && !is_anywhere(survey, name)).then_some(*name)
    };
    survey.objects.iter().filter_map(is_lost).collect()
}
