//! Opening a repository by the URL of one of its targets.
//!
//! What is remembered of that URL says which repository it was, and where its other targets are. So one target may be absent or have
//! a damaged config, and the repository still opens; and a target that turned into something else (another repository, an unencrypted one,
//! an older epoch) is refused instead of written to.

use std::collections::BTreeMap;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::choose::{Chosen, Found, check_mode, choose_config, choose_memory, report};
use super::config::{Config, Mode};
use super::connect::{Connect, UrlConnect};
use super::fetch::fetch;
use super::inspect::Inspector;
use super::key::{KeyObject, KeyRemoval};
use super::layout::{KEYS, ObjectName};
use super::state::{Remembered, StateDirectory};
use super::{Repository, RepositoryTarget};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{ObjectHash, RepositoryId};
use crate::monitor::{Event, Fault, FaultSide, Monitor};
use crate::secret::Secrets;
use crate::target::Target;

/// How to open or make repositories.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    /// Where this client keeps its state.
    pub state: StateDirectory,
    /// Whether the caller knows that the repository is encrypted, or that it is not: anything else is refused then. Who has a password
    /// in hand should say `Encrypted`, so that an enemy cannot offer a repository without encryption in its place.
    pub expect: Option<Mode>,
    /// How URLs become targets.
    pub connect: Arc<dyn Connect>,
}

impl OpenOptions {
    /// With state below `state`, nothing expected, targets by their URLs.
    pub fn new(state: StateDirectory) -> Self {
        Self { state, expect: None, connect: Arc::new(UrlConnect) }
    }
}

/// Asks for a password: gets 1 for the first time, 2 after a wrong one, and so on; `None` gives up.
pub type AskPassword<'a> = dyn FnMut(u32) -> Result<Option<Zeroizing<Vec<u8>>>> + 'a;

/// How to get at the secrets.
pub enum Unlock<'a> {
    /// By a password, which is asked for only if the repository is encrypted.
    Password(&'a mut AskPassword<'a>),
    /// Not at all: enough to tell good objects from bad ones, and to copy them.
    Nothing,
}

impl std::fmt::Debug for Unlock<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Password(_) => "Unlock::Password(..)",
            Self::Nothing => "Unlock::Nothing",
        })
    }
}

impl Repository {
    /// Opens the repository that has a target at `url`, with all its other targets that this client knows. Faults of targets are reported
    /// and not fatal, as long as one of them has what is needed.
    ///
    /// # Errors
    /// No repository; wrong password; newer format; damage, if no target has a good config, or none a good key; not the same, if the
    /// repository is not the one remembered at this URL, or not of the expected mode; target, if none can be reached; invalid argument, if the URL is
    /// none. What cannot be remembered is a note.
    pub fn open(url: &str, options: &OpenOptions, unlock: Unlock<'_>, monitor: &dyn Monitor) -> Result<Self> {
        let url = options.connect.normalize(url)?;
        let tell_lost = |error| {
            let note = format!(
                "what this machine remembered of a repository is lost and will be learned again ({error})"
            );
            monitor.event(Event::Note(&note));
        };
        let memories = options.state.remembered(&mut |error| tell_lost(error)).unwrap_or_else(|error| {
            tell_lost(error);
            Vec::new()
        });
        let named = Found::at(&*options.connect, &url, false);
        let memory = choose_memory(&memories, &named)?;
        let mut found = vec![named];
        if let Some(memory) = memory {
            let sisters = memory.targets.iter().filter(|target| target.listed && target.url != url);
            found.extend(sisters.map(|target| Found::at(&*options.connect, &target.url, true)));
            if let Some(named) = found.first_mut() {
                named.listed = memory.target(&url).is_some_and(|target| target.listed);
            }
        }
        let chosen = choose_config(&found, memory)?;
        let id = chosen.id;
        check_mode(chosen.mode(), id, memory, options.expect)?;
        let targets: Vec<_> = found.iter().map(|found| chosen.judge(found, monitor)).collect();
        let unlocked = chosen.unlock(&targets, unlock, monitor)?;
        let repository = Self {
            config: unlocked.config,
            inspector: Inspector::new(id, unlocked.bytes.clone(), unlocked.secrets.clone()),
            config_bytes: unlocked.bytes,
            secrets: unlocked.secrets,
            key: unlocked.key,
            targets,
            state: options.state.of(id),
            connect: options.connect.clone(),
        };
        repository.note_other_configs(&found, monitor);
        let config = repository.config;
        let remembered = repository.state.remember(|before| {
            let mut memory = before.unwrap_or_else(|| Remembered {
                repository: id,
                mode: config.mode,
                epoch: config.epoch,
                targets: Vec::new(),
            });
            memory.epoch = memory.epoch.max(config.epoch);
            let first = !memory.targets.iter().any(|target| target.listed);
            let named = memory.target_mut(&url);
            named.listed |= first;
            Ok(memory)
        });
        // Memory may be lost, and must not keep anyone from a repository: least of all from restoring, when the disk is full.
        tell_forgotten(remembered, monitor);
        Ok(repository.relisted())
    }

    /// The same, each target knowing whether it is in the list as it is now.
    fn relisted(mut self) -> Self {
        let memory = self.state.remembered().unwrap_or_default();
        for target in &mut self.targets {
            let listed = memory
                .as_ref()
                .and_then(|memory| memory.target(&target.url))
                .is_some_and(|target| target.listed);
            if listed != target.listed
                && let Some(target) = Arc::get_mut(target)
            {
                target.listed = listed;
            }
        }
        self
    }

    /// Targets whose config is good in itself, and not the one that was chosen.
    fn note_other_configs(&self, found: &[Found], monitor: &dyn Monitor) {
        for (found, target) in found.iter().zip(&self.targets) {
            if let Ok((bytes, _)) = &found.config
                && target.error().is_none()
                && let Err(error) = self.inspector.check(&ObjectName::Config, bytes)
            {
                report(monitor, FaultSide::Damage, &found.url, error);
            }
        }
    }
}

/// Says that something could not be remembered.
pub(super) fn tell_forgotten(remembered: Result<()>, monitor: &dyn Monitor) {
    if let Err(error) = remembered {
        let note = format!("what is seen of the repository cannot be remembered on this machine ({error})");
        monitor.event(Event::Note(&note));
    }
}

/// The config that counts, and what a password gave.
struct Unlocked {
    bytes: Vec<u8>,
    config: Config,
    secrets: Option<Secrets>,
    key: Option<ObjectHash>,
}

impl Chosen {
    /// The config that the secrets vouch for, the secrets, and the key that held them.
    fn unlock(
        self,
        targets: &[Arc<RepositoryTarget>],
        unlock: Unlock<'_>,
        monitor: &dyn Monitor,
    ) -> Result<Unlocked> {
        let mode = self.mode();
        let mut candidates = self.candidates.into_iter().filter(|(_, object)| object.config.mode == mode);
        let none = || Error::damage(format!("repository {}: no config is left", self.id));
        let ask = match (mode, unlock) {
            (Mode::Unencrypted, _) => {
                let (bytes, object) = candidates.next().ok_or_else(none)?;
                let secrets = object.secrets.clone();
                return Ok(Unlocked { bytes, config: object.config, secrets, key: None });
            }
            (Mode::Encrypted, Unlock::Nothing) => {
                let (bytes, object) = candidates.next().ok_or_else(none)?;
                return Ok(Unlocked { bytes, config: object.config, secrets: None, key: None });
            }
            (Mode::Encrypted, Unlock::Password(ask)) => ask,
        };
        let keys = Keys::read(targets, self.id, monitor)?;
        let (secrets, key) = keys.unlock(self.id, ask, monitor)?;
        let mut refused = None;
        for (bytes, object) in candidates {
            match object.authenticate(&secrets) {
                Ok(()) => {
                    return Ok(Unlocked {
                        bytes,
                        config: object.config,
                        secrets: Some(secrets),
                        key: Some(key),
                    });
                }
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        Err(refused.unwrap_or_else(none))
    }
}

/// The key objects and removal records of a repository, from all of its targets.
#[derive(Debug, Default)]
pub(super) struct Keys {
    pub(super) keys: BTreeMap<ObjectHash, KeyObject>,
    /// Several for one key, if it was removed on two machines at once.
    pub(super) removals: BTreeMap<ObjectHash, Vec<KeyRemoval>>,
    /// Why a key that a newer version made, or that was forged so, cannot be tried.
    newer: Option<Error>,
}

impl Keys {
    /// Reads them: of each key the first good copy; every removal record. Faults are reported.
    pub(super) fn read(
        targets: &[Arc<RepositoryTarget>],
        id: RepositoryId,
        monitor: &dyn Monitor,
    ) -> Result<Self> {
        let mut all = Self::default();
        for target in targets {
            let Ok(open) = target.get() else { continue };
            if let Err(error) = all.read_target(target, &**open, id, monitor) {
                if error.kind() == ErrorKind::NewerFormat {
                    return Err(error);
                }
                if target.fail(error.clone()) {
                    report(monitor, FaultSide::Target, target.url(), error);
                }
            }
        }
        Ok(all)
    }

    fn read_target(
        &mut self,
        target: &RepositoryTarget,
        open: &dyn Target,
        id: RepositoryId,
        monitor: &dyn Monitor,
    ) -> Result<()> {
        for object in open.list(KEYS)? {
            let Some(name) = ObjectName::parse(&object.key) else { continue };
            if matches!(name, ObjectName::Key(hash) if self.keys.contains_key(&hash)) {
                continue;
            }
            let read = fetch(open, &name).and_then(|bytes| match name {
                ObjectName::Key(hash) => {
                    let key = KeyObject::decode(bytes)?;
                    if *key.name() != hash {
                        return Err(Error::damage("its bytes hash to another name"));
                    }
                    // One of another repository is a trace of an `init` that was cut short.
                    if key.repository() == id {
                        self.keys.insert(hash, key);
                    }
                    Ok(())
                }
                ObjectName::KeyRemoval(hash) => {
                    let removal = KeyRemoval::decode(&bytes)?;
                    if removal.key == hash && removal.repository == id {
                        self.removals.entry(hash).or_default().push(removal);
                    }
                    Ok(())
                }
                _ => Ok(()),
            });
            match read {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) if error.kind() == ErrorKind::Damage => {
                    let item = format!("{}/{name}", target.url());
                    monitor.fault(Fault { side: FaultSide::Damage, item, during: "open", error });
                }
                // The others may do; if not, it is said.
                Err(error)
                    if error.kind() == ErrorKind::NewerFormat && matches!(name, ObjectName::Key(_)) =>
                {
                    self.newer =
                        self.newer.take().or(Some(error.at(format!("target {}: {name}", target.url()))));
                }
                Err(error) => return Err(error.at(format!("target {}: {name}", target.url()))),
            }
        }
        Ok(())
    }

    /// Whether the key was removed by someone who had the secrets.
    pub(super) fn is_removed(&self, key: &ObjectHash, secrets: &Secrets) -> bool {
        let removals = self.removals.get(key).map(Vec::as_slice).unwrap_or_default();
        removals.iter().any(|removal| removal.authenticate(secrets).is_ok())
    }

    fn unlock(
        &self,
        id: RepositoryId,
        ask: &mut AskPassword<'_>,
        monitor: &dyn Monitor,
    ) -> Result<(Secrets, ObjectHash)> {
        if let (true, Some(newer)) = (self.keys.is_empty(), &self.newer) {
            return Err(newer.clone());
        }
        if self.keys.is_empty() {
            return Err(Error::damage(format!(
                "repository {id} is encrypted, and no target that can be reached has a key: bring back a target that has one"
            )));
        }
        // One that seems removed is tried last: the record may be a forgery, which shows only when the key has opened. The cheapest comes first: one
        // that takes hours, or more memory than there is, may have been put there by whoever can write to a target.
        let mut keys: Vec<_> = self.keys.values().collect();
        keys.sort_by_key(|key| {
            (self.removals.contains_key(key.name()), key.cost().work(), std::cmp::Reverse(key.created()))
        });
        let mut wrong = Error::new(
            ErrorKind::WrongPassword,
            format!("repository {id} is encrypted, and no password was given"),
        );
        let mut attempt = 1;
        while let Some(password) = ask(attempt)? {
            attempt += 1;
            wrong = Error::new(
                ErrorKind::WrongPassword,
                format!("repository {id}: none of its keys opens with this password"),
            );
            let mut cannot_try = None;
            for key in &keys {
                match key.unwrap(&password) {
                    Ok(secrets) if self.is_removed(key.name(), &secrets) => {
                        wrong = Error::new(
                            ErrorKind::WrongPassword,
                            format!(
                                "repository {id}: the key {:?} of this password was removed",
                                key.label()
                            ),
                        );
                    }
                    Ok(secrets) => return Ok((secrets, *key.name())),
                    Err(error) if error.kind() == ErrorKind::WrongPassword => {}
                    Err(error) if error.kind() == ErrorKind::Damage => {
                        let item = ObjectName::Key(*key.name()).to_string();
                        monitor.fault(Fault { side: FaultSide::Damage, item, during: "open", error });
                    }
                    Err(error) => cannot_try = cannot_try.or(Some(error)),
                }
            }
            if let Some(error) = cannot_try {
                return Err(error);
            }
        }
        if let Some(newer) = &self.newer {
            wrong = wrong.at(format!("{newer}; of the others"));
        }
        Err(wrong)
    }
}
