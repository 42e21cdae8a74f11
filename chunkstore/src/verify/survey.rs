//! What each target holds, what should be there, and what is known of each copy.
//!
//! A survey lists every target, reads the small objects of each and one good copy of every segment, and follows what these say: a segment
//! names its predecessor and its packs with their lengths, a mark of completeness names the last segment of what is whole. So it knows
//! what must exist without a password, also what no target has any more. Reading the rest is [`super::data`]'s work.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::facts::{SegmentFacts, read_facts};
use super::holdings::{Holdings, Seen};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{ObjectHash, WriterId};
use crate::monitor::{Event, Fault, FaultSide, Monitor};
use crate::repository::blame::blame;
use crate::repository::complete::Complete;
use crate::repository::config::Mode;
use crate::repository::fetch::fetch;
use crate::repository::inspect::Inspector;
use crate::repository::key::{KeyObject, KeyRemoval};
use crate::repository::layout::{ObjectKind, ObjectName};
use crate::repository::{Repository, RepositoryTarget, now};
use crate::target::{ASIDE_PREFIX, ObjectKey, Target, within_prefix};

/// What is known of one copy of an object.
#[derive(Clone, Debug)]
pub(crate) enum Copy {
    /// It is not there.
    Absent,
    /// The listing has it, with this length, and nothing speaks against it.
    Listed(u64),
    /// It was read whole, and is good.
    Good(u64),
    /// It is damaged.
    Bad(Error),
}

/// Why an object is expected on a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Need {
    /// It is not: an intent, a pack that no segment names.
    None,
    /// Others have it, and this target does not claim to.
    Behind,
    /// The target once had it, or must have it to be opened.
    Promised,
}

/// An object, on all targets.
#[derive(Clone, Debug)]
pub(crate) struct Object {
    /// One a target, in the order of [`Survey::targets`].
    pub(crate) copies: Vec<Copy>,
    /// How long it must be, where something says so.
    pub(crate) length: Option<u64>,
    /// Whether a segment or a mark names it, or its kind alone makes it needed.
    pub(crate) named: bool,
}

impl Object {
    /// Whether a copy that is not bad is on some target, as far as is known.
    pub(crate) fn is_anywhere(&self) -> bool {
        self.copies.iter().any(|copy| matches!(copy, Copy::Listed(_) | Copy::Good(_)))
    }

    /// Its length, as something says or as a copy that is not bad has it.
    pub(crate) fn any_length(&self) -> Option<u64> {
        let listed = |copy: &Copy| match copy {
            Copy::Listed(length) | Copy::Good(length) => Some(*length),
            Copy::Absent | Copy::Bad(_) => None,
        };
        self.length.or_else(|| self.copies.iter().find_map(listed))
    }
}

/// A target that was surveyed.
#[derive(Debug)]
pub(crate) struct Surveyed {
    pub(crate) handle: Arc<RepositoryTarget>,
    pub(crate) target: Arc<dyn Target>,
    /// How far each writer's log must be whole there.
    pub(crate) heads: BTreeMap<WriterId, u64>,
    /// Objects that were set aside and are still there.
    pub(crate) aside: Vec<ObjectKey>,
    /// Keys that were removed, and are there.
    pub(crate) removed_keys: Vec<ObjectHash>,
}

impl Surveyed {
    pub(crate) fn url(&self) -> &str {
        self.handle.url()
    }

    /// The name of an object on this target, for people.
    pub(crate) fn item(&self, name: &ObjectName) -> String {
        format!("{}/{name}", self.url())
    }
}

/// What targets hold, and should.
#[derive(Debug)]
pub(crate) struct Survey<'a> {
    pub(crate) repository: &'a Repository,
    pub(crate) targets: Vec<Surveyed>,
    pub(crate) objects: BTreeMap<ObjectName, Object>,
    pub(crate) segments: BTreeMap<ObjectName, SegmentFacts>,
    /// By whose length a pack is known: the first segment that names it.
    pub(crate) pack_users: BTreeMap<ObjectHash, Vec<ObjectName>>,
    /// Whether every segment that should exist was read: else packs that nothing names may be named by one that is lost.
    pub(crate) gapless: bool,
    /// Keys that were removed for good.
    pub(crate) removed: BTreeSet<ObjectHash>,
}

impl<'a> Survey<'a> {
    /// Surveys all targets that can be reached. What `holdings` remembers as damaged is read again: it is so still, or was mended.
    ///
    /// # Errors
    /// Target, if none can be; newer format, if a newer version wrote to them; local; cancelled. Faults of targets are reported.
    pub(crate) fn take(
        repository: &'a Repository,
        holdings: &dyn Holdings,
        monitor: &dyn Monitor,
    ) -> Result<Self> {
        let mut survey = Self {
            repository,
            targets: Vec::new(),
            objects: BTreeMap::new(),
            segments: BTreeMap::new(),
            pack_users: BTreeMap::new(),
            gapless: true,
            removed: BTreeSet::new(),
        };
        survey.list(monitor)?;
        survey.read_small(monitor)?;
        survey.find_removed(monitor)?;
        survey.promise()?;
        survey.read_segments(monitor)?;
        survey.check_lengths(monitor)?;
        survey.confirm_missing(monitor)?;
        survey.confirm_damaged(holdings, monitor)?;
        Ok(survey)
    }

    fn confirm_damaged(&mut self, holdings: &dyn Holdings, monitor: &dyn Monitor) -> Result<()> {
        for index in 0..self.targets.len() {
            let Some(url) = self.targets.get(index).map(|target| target.url().to_owned()) else { continue };
            for name in holdings.damaged(&url)? {
                check_cancelled(monitor)?;
                if let Some(bytes) = self.read_copy(&name, index, monitor)? {
                    holdings.record(&url, now().seconds, &[(name, Seen::Good(bytes.len() as u64))])?;
                }
            }
        }
        Ok(())
    }

    fn list(&mut self, monitor: &dyn Monitor) -> Result<()> {
        monitor.event(Event::Phase { name: "list", bytes: None, items: None });
        let mut listings = Vec::new();
        let mut last_error = None;
        for handle in self.repository.targets() {
            let listed = handle.get().and_then(|target| Ok((Arc::clone(target), target.list("")?)));
            match listed {
                Ok((target, listing)) => listings.push((Arc::clone(handle), target, listing)),
                Err(error) => {
                    if handle.fail(error.clone()) {
                        let item = handle.url().to_owned();
                        monitor.fault(Fault {
                            side: FaultSide::Target,
                            item,
                            during: "list",
                            error: error.clone(),
                        });
                    }
                    last_error = Some(error);
                }
            }
        }
        if listings.is_empty() {
            return Err(last_error.unwrap_or_else(|| Error::new(ErrorKind::Target, "there is no target")));
        }
        let count = listings.len();
        for (index, (handle, target, listing)) in listings.into_iter().enumerate() {
            let mut aside = Vec::new();
            for object in listing {
                if within_prefix(object.key.as_str(), ASIDE_PREFIX) {
                    aside.push(object.key);
                    continue;
                }
                let Some(name) = ObjectName::parse(&object.key) else { continue };
                let copy = match Inspector::check_length(&name, object.length) {
                    Ok(()) => Copy::Listed(object.length),
                    Err(error) => Copy::Bad(error),
                };
                self.object(name, count).set(index, copy);
            }
            for name in aside.iter().filter_map(ObjectName::parse_aside) {
                self.object(name, count);
            }
            self.targets.push(Surveyed {
                handle,
                target,
                heads: BTreeMap::new(),
                aside,
                removed_keys: Vec::new(),
            });
        }
        self.object(ObjectName::Config, count);
        Ok(())
    }

    fn object(&mut self, name: ObjectName, targets: usize) -> &mut Object {
        self.objects.entry(name).or_insert_with(|| Object {
            copies: vec![Copy::Absent; targets],
            length: None,
            named: !matches!(name.kind(), ObjectKind::Pack | ObjectKind::Intent),
        })
    }

    /// Reads every copy of the objects of some hundred bytes: cheaper than to argue about which.
    fn read_small(&mut self, monitor: &dyn Monitor) -> Result<()> {
        let small = |name: &ObjectName| !matches!(name.kind(), ObjectKind::Pack | ObjectKind::Segment);
        let names: Vec<_> = self.objects.keys().filter(|name| small(name)).copied().collect();
        for name in names {
            let mut foreign = false;
            for index in 0..self.targets.len() {
                let bytes = self.read_copy(&name, index, monitor)?;
                // The trace of an `init` that was cut short. It is nobody's business here.
                if let (ObjectName::Key(_), Some(bytes)) = (name, bytes) {
                    let key = KeyObject::decode(bytes);
                    foreign |= key.is_ok_and(|key| key.repository() != self.repository.id());
                }
            }
            if foreign {
                self.objects.remove(&name);
            }
            check_cancelled(monitor)?;
        }
        Ok(())
    }

    /// Reads a copy that is listed, notes whether it is good, and gives its bytes if it is.
    pub(crate) fn read_copy(
        &mut self,
        name: &ObjectName,
        index: usize,
        monitor: &dyn Monitor,
    ) -> Result<Option<Vec<u8>>> {
        let (Some(target), Some(object)) = (self.targets.get(index), self.objects.get_mut(name)) else {
            return Ok(None);
        };
        if !matches!(object.copies.get(index), Some(Copy::Listed(_) | Copy::Good(_))) {
            return Ok(None);
        }
        let (copy, bytes) = read(target, self.repository.inspector(), name, monitor)?;
        object.set(index, copy);
        Ok(bytes)
    }

    /// Which keys were removed. Records that nobody with the secrets made count for nothing, where the secrets are known.
    fn find_removed(&mut self, monitor: &dyn Monitor) -> Result<()> {
        let records: Vec<_> = self
            .objects
            .iter()
            .filter_map(|(name, object)| match name {
                ObjectName::KeyRemoval(hash) => {
                    Some((*hash, *name, object.copies.iter().position(|copy| matches!(copy, Copy::Good(_)))?))
                }
                _ => None,
            })
            .collect();
        for (hash, name, index) in records {
            let Some(bytes) = self.read_copy(&name, index, monitor)? else { continue };
            let believed = match self.repository.secrets() {
                Ok(secrets) => KeyRemoval::decode(&bytes)?.authenticate(secrets).is_ok(),
                Err(_) => true,
            };
            if believed {
                self.removed.insert(hash);
            }
        }
        for (name, object) in &mut self.objects {
            // Of one that is forged or damaged wherever it is no other target needs a copy.
            let good = object.copies.iter().any(|copy| matches!(copy, Copy::Good(_)));
            if name.kind() == ObjectKind::KeyRemoval && !good {
                object.named = false;
            }
        }
        for hash in &self.removed {
            let Some(object) = self.objects.get_mut(&ObjectName::Key(*hash)) else { continue };
            object.named = false;
            for (copy, target) in object.copies.iter().zip(&mut self.targets) {
                if !matches!(copy, Copy::Absent) {
                    target.removed_keys.push(*hash);
                }
            }
        }
        Ok(())
    }

    /// How far each target says that logs are whole there, and how far this client has seen them to be.
    fn promise(&mut self) -> Result<()> {
        let memory = self.repository.state().remembered().unwrap_or_default();
        for target in &mut self.targets {
            let seen = memory.as_ref().and_then(|memory| memory.target(target.handle.url()));
            for (writer, sequence) in seen.map(|target| target.heads.as_slice()).unwrap_or_default() {
                raise(&mut target.heads, *writer, *sequence);
            }
        }
        for (name, object) in &self.objects {
            let ObjectName::Complete { writer, sequence } = name else { continue };
            for (copy, target) in object.copies.iter().zip(&mut self.targets) {
                // A damaged mark was a good one once: its name is as good a promise.
                if !matches!(copy, Copy::Absent) {
                    raise(&mut target.heads, *writer, *sequence);
                }
            }
        }
        Ok(())
    }

    fn read_segments(&mut self, monitor: &dyn Monitor) -> Result<()> {
        self.name_marked_segments(monitor)?;
        let mut todo: BTreeSet<ObjectName> =
            self.objects.keys().filter(|name| name.kind() == ObjectKind::Segment).copied().collect();
        monitor.event(Event::Phase { name: "segments", bytes: None, items: Some(todo.len() as u64) });
        // Downwards, so that a predecessor which is not listed anywhere is still to come when it is named.
        while let Some(name) = todo.pop_last() {
            check_cancelled(monitor)?;
            monitor.event(Event::Advance { bytes: 0, items: 1 });
            let ObjectName::Segment { writer, sequence, .. } = name else { continue };
            let Some(facts) = self.read_segment(&name, monitor)? else {
                self.gapless = false;
                continue;
            };
            match facts.previous {
                Some(hash) if sequence > 1 => {
                    let previous = ObjectName::Segment { writer, sequence: sequence - 1, hash };
                    if !self.objects.contains_key(&previous) {
                        self.object(previous, self.targets.len());
                        todo.insert(previous);
                    }
                }
                _ => {}
            }
            for (pack, length) in &facts.packs {
                let targets = self.targets.len();
                let object = self.object(ObjectName::Pack(*pack), targets);
                object.named = true;
                object.length = Some(*length);
                self.pack_users.entry(*pack).or_default().push(name);
            }
            self.segments.insert(name, facts);
        }
        Ok(())
    }

    /// Each mark names its segment, which so is known even if no target has it any more.
    fn name_marked_segments(&mut self, monitor: &dyn Monitor) -> Result<()> {
        let marks: Vec<_> = self
            .objects
            .iter()
            .filter(|(name, _)| name.kind() == ObjectKind::Complete)
            .filter_map(|(name, object)| {
                Some((*name, object.copies.iter().position(|copy| matches!(copy, Copy::Good(_)))?))
            })
            .collect();
        for (name, index) in marks {
            let Some(bytes) = self.read_copy(&name, index, monitor)? else { continue };
            let Complete { writer, sequence, segment } = Complete::decode(&bytes)?;
            self.object(ObjectName::Segment { writer, sequence, hash: segment }, self.targets.len());
        }
        Ok(())
    }

    /// The first good copy of a segment, and what it says.
    fn read_segment(&mut self, name: &ObjectName, monitor: &dyn Monitor) -> Result<Option<SegmentFacts>> {
        for index in 0..self.targets.len() {
            let Some(bytes) = self.read_copy(name, index, monitor)? else { continue };
            if let Some(object) = self.objects.get_mut(name) {
                object.length = Some(bytes.len() as u64);
            }
            return match read_facts(name, bytes) {
                Ok(facts) => Ok(Some(facts)),
                Err(error) if error.kind() == ErrorKind::NewerFormat => Err(error),
                // Its bytes are those that its name says: no copy is better. Whoever wrote it wrote it so.
                Err(error) => {
                    let item = name.to_string();
                    monitor.fault(Fault { side: FaultSide::Damage, item, during: "verify", error });
                    Ok(None)
                }
            };
        }
        Ok(None)
    }

    /// A copy of another length than it must have is read at once. It is bad, unless who said how long it must be was wrong: what is in clear in a
    /// segment may be an outsider's word, the hash is not.
    fn check_lengths(&mut self, monitor: &dyn Monitor) -> Result<()> {
        let mut differing = Vec::new();
        for (name, object) in &self.objects {
            let Some(expected) = object.length else { continue };
            for (index, copy) in object.copies.iter().enumerate() {
                match copy {
                    Copy::Listed(length) if *length != expected => {
                        differing.push((*name, index, expected, *length));
                    }
                    _ => {}
                }
            }
        }
        for (name, index, expected, length) in differing {
            check_cancelled(monitor)?;
            let good = self.read_copy(&name, index, monitor)?.is_some();
            let Some(object) = self.objects.get_mut(&name) else { continue };
            if good {
                object.length = Some(length);
            } else if matches!(object.copies.get(index), Some(Copy::Bad(_))) {
                let error = Error::damage(format!("{expected} bytes expected, {length} found"));
                object.set(index, Copy::Bad(error));
            }
        }
        Ok(())
    }

    /// What a listing does not show may have come since: the folders of a target are read one after the other, and a backup may have put a pack into
    /// one that was read already, and its segment into one that was not.
    fn confirm_missing(&mut self, monitor: &dyn Monitor) -> Result<()> {
        let mut arrived = Vec::new();
        for (index, target) in self.targets.iter().enumerate() {
            for (name, object) in &self.objects {
                let absent = matches!(object.copies.get(index), Some(Copy::Absent));
                if !absent
                    || target.handle.error().is_some()
                    || self.need(name, object, index) != Need::Promised
                {
                    continue;
                }
                check_cancelled(monitor)?;
                match target.target.length(&name.key()) {
                    Ok(Some(length)) => arrived.push((*name, index, length)),
                    Ok(None) => {}
                    Err(error) => {
                        if target.handle.fail(error.clone()) {
                            let item = target.url().to_owned();
                            monitor.fault(Fault { side: FaultSide::Target, item, during: "verify", error });
                        }
                    }
                }
            }
        }
        for (name, index, length) in arrived {
            if let Some(object) = self.objects.get_mut(&name) {
                let expected = object.length.is_none_or(|expected| expected == length);
                let fits = Inspector::check_length(&name, length).is_ok() && expected;
                let damage =
                    || Error::damage(format!("it has {length} bytes, which are not what it must have"));
                object.set(index, if fits { Copy::Listed(length) } else { Copy::Bad(damage()) });
            }
        }
        Ok(())
    }

    /// Why the object is expected on the target with that index.
    pub(crate) fn need(&self, name: &ObjectName, object: &Object, index: usize) -> Need {
        let Some(target) = self.targets.get(index) else { return Need::None };
        let promised =
            |writer: &WriterId, sequence: u64| target.heads.get(writer).is_some_and(|head| *head >= sequence);
        // Healing was cut short between setting it aside and putting the good one.
        let was_there = target.aside.iter().any(|key| ObjectName::parse_aside(key) == Some(*name));
        match name {
            ObjectName::Key(hash) if self.removed.contains(hash) => Need::None,
            // If no other target has it any more, its writer is done.
            ObjectName::Intent(_) if was_there && object.is_anywhere() => Need::Promised,
            ObjectName::Intent(_) => Need::None,
            _ if was_there => Need::Promised,
            ObjectName::KeyRemoval(_) if !object.named => Need::None,
            ObjectName::Key(_) if self.repository.config().mode == Mode::Unencrypted => Need::None,
            ObjectName::Config | ObjectName::Key(_) | ObjectName::KeyRemoval(_) => Need::Promised,
            ObjectName::Segment { writer, sequence, .. } | ObjectName::Complete { writer, sequence } => {
                if promised(writer, *sequence) {
                    Need::Promised
                } else {
                    Need::Behind
                }
            }
            ObjectName::Pack(hash) if object.named => {
                let user = |name: &ObjectName| match name {
                    ObjectName::Segment { writer, sequence, .. } => promised(writer, *sequence),
                    _ => false,
                };
                let users = self.pack_users.get(hash).map(Vec::as_slice).unwrap_or_default();
                if users.iter().any(user) { Need::Promised } else { Need::Behind }
            }
            // A segment that is lost may have named it.
            ObjectName::Pack(_) if !self.gapless => Need::Behind,
            ObjectName::Pack(_) => Need::None,
        }
    }
}

impl Object {
    pub(crate) fn set(&mut self, index: usize, copy: Copy) {
        if let Some(place) = self.copies.get_mut(index) {
            *place = copy;
        }
    }
}

/// Reads one copy: what it is, and its bytes if it is good. A target that fails is reported, passed over from then on, and its copies count as absent.
pub(crate) fn read(
    target: &Surveyed,
    inspector: &Inspector,
    name: &ObjectName,
    monitor: &dyn Monitor,
) -> Result<(Copy, Option<Vec<u8>>)> {
    // Of one that is passed over nothing is asked, so nothing of what it holds is known to be bad.
    if target.handle.error().is_some() {
        return Ok((Copy::Absent, None));
    }
    let read = fetch(&*target.target, name);
    let mut length = 0;
    let checked = read.and_then(|bytes| {
        length = bytes.len() as u64;
        inspector.check(name, &bytes).map(|()| bytes)
    });
    match checked {
        Ok(bytes) => Ok((Copy::Good(length), Some(bytes))),
        Err(error) => match error.kind() {
            // It may have gone since the listing: an intent whose writer is done.
            ErrorKind::NotFound => Ok((Copy::Absent, None)),
            ErrorKind::Damage | ErrorKind::NotTheSame => Ok((Copy::Bad(error), None)),
            ErrorKind::Target | ErrorKind::TargetFull => {
                let error = blame(&*target.target, error);
                if error.kind() == ErrorKind::Damage {
                    return Ok((Copy::Bad(error), None));
                }
                if target.handle.fail(error.clone()) {
                    let item = target.url().to_owned();
                    monitor.fault(Fault { side: FaultSide::Target, item, during: "verify", error });
                }
                Ok((Copy::Absent, None))
            }
            // Another version's client is at work, or says that it was. No data depends on it.
            ErrorKind::NewerFormat if matches!(name.kind(), ObjectKind::Intent | ObjectKind::Complete) => {
                monitor.event(Event::Note(&format!(
                    "{}: a newer version of the program wrote it: passed over",
                    target.item(name)
                )));
                Ok((Copy::Listed(length), None))
            }
            _ => Err(error.at(target.item(name))),
        },
    }
}

pub(crate) fn check_cancelled(monitor: &dyn Monitor) -> Result<()> {
    if monitor.cancelled() {
        return Err(Error::new(ErrorKind::Cancelled, "it was asked to stop"));
    }
    Ok(())
}

fn raise(heads: &mut BTreeMap<WriterId, u64>, writer: WriterId, sequence: u64) {
    let head = heads.entry(writer).or_insert(sequence);
    *head = (*head).max(sequence);
}
