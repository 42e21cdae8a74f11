//! The targets of a repository as a client's list: adding, removing, and noticing one that went back in time.

use std::collections::BTreeMap;
use std::fmt;

use super::complete::Complete;
use super::fetch::fetch;
use super::layout::{ObjectName, PACKS, SEGMENTS};
use super::open::{Keys, tell_forgotten};
use super::{Repository, RepositoryTarget};
use crate::error::{Error, ErrorKind, Result};
use crate::id::WriterId;
use crate::monitor::{Fault, FaultSide, Monitor};
use crate::target::Target;

/// A target in a client's list.
#[derive(Clone, Debug)]
pub struct TargetInfo {
    /// Its URL.
    pub url: String,
    /// Whether it is in the list; if not, it was only named for this run.
    pub listed: bool,
    /// Why it cannot be used, if it cannot.
    pub error: Option<Error>,
    /// How far each writer's log was whole there when it was last looked at.
    pub heads: Vec<(WriterId, u64)>,
}

/// A target that serves an older state than this client has seen there: it was set back, or is another disk at the same place, or lost objects.
/// What was known to be on it must not be believed any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Age {
    /// The target's URL.
    pub url: String,
    /// Whose log.
    pub writer: WriterId,
    /// How far it was whole.
    pub seen: u64,
    /// How far it is now; `None` if nothing of that writer is.
    pub found: Option<u64>,
}

/// How a target became one of the repository's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Adopted {
    /// It held objects already.
    AsItIs,
    /// It was empty: what was seen there once is of no account.
    Anew,
}

impl fmt::Display for Age {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = self.found.map_or_else(|| "nothing".to_owned(), |found| format!("segment {found}"));
        write!(
            f,
            "target {}: it serves an older state than was seen there: writer {} was whole up to segment {}, now up to {found} (was it \
             restored from a copy, or is it another disk?); `mirror` or `verify --heal` brings it up to date",
            self.url, self.writer, self.seen
        )
    }
}

impl Repository {
    /// This client's list of targets, with their state.
    ///
    /// # Errors
    /// Local.
    pub fn target_list(&self) -> Result<Vec<TargetInfo>> {
        let memory = self.state.remembered()?;
        let heads = |url: &str| {
            memory.as_ref().and_then(|memory| memory.target(url)).map(|target| target.heads.clone())
        };
        Ok(self
            .targets
            .iter()
            .map(|target| TargetInfo {
                url: target.url.clone(),
                listed: target.listed,
                error: target.error(),
                heads: heads(&target.url).unwrap_or_default(),
            })
            .collect())
    }

    /// Adds a target to the list, and makes the repository there if it is not: keys, then the config. What else it lacks is brought by the next
    /// backup or by `mirror`. A config that is there is never replaced. One that is in the list and lost everything is begun anew.
    ///
    /// # Errors
    /// Invalid argument, if it is in the list already and can be used; not the same, if another repository is there; damage, if something is there of
    /// which nothing says that it is this repository; target, if it cannot be reached.
    pub fn add_target(&mut self, url: &str, monitor: &dyn Monitor) -> Result<()> {
        let url = self.connect.normalize(url)?;
        let works = |target: &RepositoryTarget| target.listed && target.get().is_ok();
        if self.targets.iter().any(|target| target.url == url && works(target)) {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                format!("target {url} is in the list already"),
            ));
        }
        let target = self.connect.create(&url)?;
        let adopted = self.adopt(&*target, monitor)?;
        self.state.remember(|memory| {
            let mut memory = memory.unwrap_or_else(|| self.memory());
            let target = memory.target_mut(&url);
            target.listed = true;
            if adopted == Adopted::Anew {
                target.heads.clear();
            }
            Ok(memory)
        })?;
        self.targets.retain(|target| target.url != url);
        self.targets.push(RepositoryTarget::reachable(url, true, target));
        Ok(())
    }

    /// Takes a target out of the list. Its objects stay as they are.
    ///
    /// # Errors
    /// Not found, if it is not in the list; invalid argument, if it is the only one.
    pub fn remove_target(&mut self, url: &str) -> Result<()> {
        let url = self.connect.normalize(url)?;
        self.state.remember(|memory| {
            let mut memory = memory.unwrap_or_else(|| self.memory());
            if !memory.target(&url).is_some_and(|target| target.listed) {
                return Err(Error::new(ErrorKind::NotFound, format!("target {url} is not in the list")));
            }
            if memory.targets.iter().filter(|target| target.listed).count() == 1 {
                let message = format!("target {url} is the only one in the list: add another first");
                return Err(Error::new(ErrorKind::InvalidArgument, message));
            }
            memory.target_mut(&url).listed = false;
            Ok(memory)
        })?;
        self.targets.retain(|target| target.url != url);
        Ok(())
    }

    fn memory(&self) -> super::state::Remembered {
        let mut memory = super::state::Remembered {
            repository: self.id(),
            mode: self.config.mode,
            epoch: self.config.epoch,
            targets: Vec::new(),
        };
        for target in self.targets.iter().filter(|target| target.listed) {
            memory.target_mut(&target.url).listed = true;
        }
        memory
    }

    /// Makes sure that a target belongs to this repository, or to none: then it is made to.
    fn adopt(&self, target: &dyn Target, monitor: &dyn Monitor) -> Result<Adopted> {
        let name = ObjectName::Config;
        let found = fetch(target, &name).and_then(|bytes| self.inspector.check(&name, &bytes));
        match found {
            Ok(()) => Ok(Adopted::AsItIs),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let vacant = self.is_vacant(target)?;
                if !vacant && !self.is_related(target)? {
                    return Err(Error::damage(format!(
                        "target {}: objects of a repository are there whose config is missing, and nothing says that it is this one",
                        target.url()
                    )));
                }
                let keys = Keys::read(&self.targets, self.id(), monitor)?;
                for name in keys.removals.keys().map(|hash| ObjectName::KeyRemoval(*hash)) {
                    target.put(&name.key(), &[&self.read(&name, monitor)?])?;
                }
                let removed = |hash| match &self.secrets {
                    Some(secrets) => keys.is_removed(hash, secrets),
                    None => keys.removals.contains_key(hash),
                };
                for (hash, key) in keys.keys.iter().filter(|(hash, _)| !removed(hash)) {
                    target.put(&ObjectName::Key(*hash).key(), &[key.bytes()])?;
                }
                target.put_new(&name.key(), &[&self.config_bytes])?;
                Ok(if vacant { Adopted::Anew } else { Adopted::AsItIs })
            }
            // Its config is damaged and its segments are ours: healing will mend it.
            Err(error) if error.kind() == ErrorKind::Damage && self.is_related(target)? => {
                Ok(Adopted::AsItIs)
            }
            Err(error) => Err(error.at(format!("target {}", target.url()))),
        }
    }

    fn is_vacant(&self, target: &dyn Target) -> Result<bool> {
        for prefix in [SEGMENTS, PACKS] {
            if target.list(prefix)?.iter().any(|object| ObjectName::parse(&object.key).is_some()) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether a segment is there that one of our targets has too.
    fn is_related(&self, other: &dyn Target) -> Result<bool> {
        let there = other.list(SEGMENTS)?;
        for (_, target) in self.reachable() {
            let here = target.list(SEGMENTS)?;
            if there.iter().any(|object| here.binary_search_by(|here| here.key.cmp(&object.key)).is_ok()) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Looks how far each writer's log is whole on each target that can be reached, and compares with what was seen there before. Targets that
    /// went back are reported and returned; how far the others have come is remembered.
    ///
    /// # Errors
    /// None as yet. Faults of targets are reported, and that something cannot be remembered.
    pub fn notice_ages(&self, monitor: &dyn Monitor) -> Result<Vec<Age>> {
        let ages = self.ages(monitor)?;
        self.report_ages(&ages, monitor);
        Ok(ages)
    }

    pub(crate) fn report_ages(&self, ages: &[Age], monitor: &dyn Monitor) {
        for age in ages {
            let error = Error::new(ErrorKind::NotTheSame, age.to_string());
            let item = format!("{}/complete/{}", age.url, age.writer);
            monitor.fault(Fault { side: FaultSide::Damage, item, during: "open", error });
        }
    }

    pub(crate) fn ages(&self, monitor: &dyn Monitor) -> Result<Vec<Age>> {
        // Opening has told of memory that cannot be read.
        let memory = self.state.remembered().unwrap_or_default();
        let mut ages = Vec::new();
        let mut seen_now = Vec::new();
        for (target, open) in self.reachable() {
            let heads: BTreeMap<WriterId, u64> = match Complete::heads(&**open) {
                Ok(heads) => heads.into_iter().collect(),
                Err(error) => {
                    if target.fail(error.clone()) {
                        let item = target.url().to_owned();
                        monitor.fault(Fault { side: FaultSide::Target, item, during: "open", error });
                    }
                    continue;
                }
            };
            let remembered = memory.as_ref().and_then(|memory| memory.target(target.url()));
            for (writer, seen) in remembered.map(|target| target.heads.as_slice()).unwrap_or_default() {
                let found = heads.get(writer).copied();
                if found.is_some_and(|found| found >= *seen) {
                    continue;
                }
                ages.push(Age { url: target.url().to_owned(), writer: *writer, seen: *seen, found });
            }
            seen_now.push((target.url().to_owned(), heads));
        }
        let heads: Vec<_> = seen_now
            .into_iter()
            .flat_map(|(url, heads)| {
                heads.into_iter().map(move |(writer, sequence)| (url.clone(), writer, sequence))
            })
            .collect();
        tell_forgotten(self.remember_heads(heads), monitor);
        Ok(ages)
    }

    /// Remembers how far a writer's log is whole on targets: after a mark of completeness was put there.
    ///
    /// # Errors
    /// Local.
    pub fn remember_heads(&self, heads: impl IntoIterator<Item = (String, WriterId, u64)>) -> Result<()> {
        let heads: Vec<_> = heads.into_iter().collect();
        self.state.remember(|memory| {
            let mut memory = memory.unwrap_or_else(|| self.memory());
            for (url, writer, sequence) in &heads {
                let target = memory.target_mut(url);
                match target.heads.iter_mut().find(|(known, _)| known == writer) {
                    Some((_, head)) => *head = (*head).max(*sequence),
                    None => target.heads.push((*writer, *sequence)),
                }
            }
            Ok(memory)
        })
    }
}
