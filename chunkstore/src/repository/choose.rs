//! Which of the configs on the targets is the repository's, and which targets are its own.
//!
//! Everything here is judged before a password is known; what the secrets say of the candidates comes after (`open`).

use std::sync::Arc;

use super::RepositoryTarget;
use super::config::{Config, ConfigObject, Mode};
use super::connect::Connect;
use super::fetch::fetch;
use super::layout::{KEYS, ObjectName, SEGMENTS};
use super::state::Remembered;
use crate::error::{Error, ErrorKind, Result};
use crate::id::RepositoryId;
use crate::monitor::{Fault, FaultSide, Monitor};
use crate::target::Target;

/// A target as it was found.
pub(super) struct Found {
    pub(super) url: String,
    pub(super) listed: bool,
    target: Option<Arc<dyn Target>>,
    pub(super) config: Result<(Vec<u8>, ConfigObject)>,
}

impl Found {
    pub(super) fn at(connect: &dyn Connect, url: &str, listed: bool) -> Self {
        let (target, config) = match connect.open(url) {
            Err(error) => (None, Err(error)),
            Ok(target) => {
                let config = read_config(&*target);
                (Some(target), config)
            }
        };
        Self { url: url.to_owned(), listed, target, config }
    }

    /// Whether there is a target which holds objects: its config was lost, rather than that nothing was ever there (a disk that is not mounted).
    fn holds_objects(&self) -> bool {
        let any = |target: &Arc<dyn Target>| {
            let listing = |prefix| target.list(prefix).unwrap_or_default();
            [KEYS, SEGMENTS]
                .into_iter()
                .any(|prefix| listing(prefix).iter().any(|object| ObjectName::parse(&object.key).is_some()))
        };
        self.target.as_ref().is_some_and(any)
    }
}

fn read_config(target: &dyn Target) -> Result<(Vec<u8>, ConfigObject)> {
    let bytes = fetch(target, &ObjectName::Config)?;
    let object = Config::decode(&bytes).map_err(|error| error.at(format!("target {}", target.url())))?;
    Ok((bytes, object))
}

pub(super) fn report(monitor: &dyn Monitor, side: FaultSide, url: &str, error: Error) {
    let item = match side {
        FaultSide::Damage => format!("{url}/config"),
        _ => url.to_owned(),
    };
    monitor.fault(Fault { side, item, during: "open", error });
}

/// What is remembered of the repository at the named target.
pub(super) fn choose_memory<'a>(memories: &'a [Remembered], named: &Found) -> Result<Option<&'a Remembered>> {
    let here: Vec<_> = memories.iter().filter(|memory| memory.target(&named.url).is_some()).collect();
    let error = match &named.config {
        Ok((_, object)) => {
            let id = object.config.repository;
            if let Some(other) = here.first()
                && !here.iter().any(|memory| memory.repository == id)
            {
                return Err(Error::new(
                    ErrorKind::NotTheSame,
                    format!(
                        "target {}: repository {id} is there, and this machine remembers repository {} at that place. If that is as it \
                         should be, remove {} from its state directory",
                        named.url, other.repository, other.repository
                    ),
                ));
            }
            return Ok(memories.iter().find(|memory| memory.repository == id));
        }
        Err(error) => error,
    };
    if error.kind() == ErrorKind::NewerFormat {
        return Err(error.clone());
    }
    if let Some(memory) =
        here.iter().find(|memory| memory.target(&named.url).is_some_and(|target| target.listed))
    {
        return Ok(Some(memory));
    }
    if let Some(memory) = here.first() {
        return Ok(Some(memory));
    }
    Err(unfit(named, error, false))
}

/// Why a target gives no config.
fn unfit(found: &Found, error: &Error, remembered: bool) -> Error {
    let url = &found.url;
    match error.kind() {
        ErrorKind::NotFound if found.holds_objects() => Error::damage(format!(
            "target {url}: its config is missing, but objects of a repository are there: open the repository by another of its targets, \
             and heal it"
        )),
        ErrorKind::NotFound if remembered => Error::new(
            ErrorKind::NoRepository,
            format!(
                "target {url}: the repository that this machine knows there is not there (is the disk mounted?)"
            ),
        ),
        ErrorKind::NotFound => Error::new(
            ErrorKind::NoRepository,
            format!("target {url}: there is no repository (`init` makes one)"),
        ),
        _ => error.clone(),
    }
}

pub(super) fn check_mode(
    found: Mode,
    id: RepositoryId,
    memory: Option<&Remembered>,
    expect: Option<Mode>,
) -> Result<()> {
    let refuse = |kind, message: String| Err(Error::new(kind, message));
    match (found, memory.map(|memory| memory.mode), expect) {
        (Mode::Unencrypted, Some(Mode::Encrypted), _) => refuse(
            ErrorKind::NotTheSame,
            format!(
                "repository {id} is not encrypted, and was when this machine saw it last: someone may have put another in its place"
            ),
        ),
        (Mode::Encrypted, Some(Mode::Unencrypted), _) => refuse(
            ErrorKind::NotTheSame,
            format!(
                "repository {id} asks for a password, and had none when this machine saw it last: don't type one in"
            ),
        ),
        (Mode::Unencrypted, _, Some(Mode::Encrypted)) => refuse(
            ErrorKind::NotTheSame,
            format!(
                "repository {id} is not encrypted, and a password was expected: say `--insecure-no-password` if that is as it should be"
            ),
        ),
        (Mode::Encrypted, _, Some(Mode::Unencrypted)) => {
            refuse(ErrorKind::WrongPassword, format!("repository {id} is encrypted: it needs a password"))
        }
        _ => Ok(()),
    }
}

/// The configs that may be the repository's: distinct ones, the best first.
pub(super) struct Chosen {
    pub(super) id: RepositoryId,
    pub(super) candidates: Vec<(Vec<u8>, ConfigObject)>,
    /// Where the first of them is.
    url: String,
    remembered_mode: Option<Mode>,
}

pub(super) fn choose_config(found: &[Found], memory: Option<&Remembered>) -> Result<Chosen> {
    let id_here =
        found.iter().find_map(|found| found.config.as_ref().ok().map(|(_, object)| object.config.repository));
    let named_error = || match found.first().map(|named| (named, &named.config)) {
        Some((named, Err(error))) => unfit(named, error, memory.is_some()),
        _ => Error::new(ErrorKind::NoRepository, "no target was named"),
    };
    let id = memory.map(|memory| memory.repository).or(id_here).ok_or_else(named_error)?;
    let mut good: Vec<(&str, &(Vec<u8>, ConfigObject))> = found
        .iter()
        .filter_map(|found| found.config.as_ref().ok().map(|config| (found.url.as_str(), config)))
        .filter(|(_, (_, object))| object.config.repository == id)
        .collect();
    // Stable: of equals the target that is read first. One that fits what is remembered comes before all others.
    let fits = |config: &Config| memory.is_none_or(|memory| memory.mode == config.mode);
    good.sort_by_key(|(_, (_, object))| (!fits(&object.config), std::cmp::Reverse(object.config.epoch)));
    let Some((url, (_, first))) = good.first() else {
        // Damage somewhere is the better explanation than that nothing is there.
        let damaged = found.iter().filter_map(|found| found.config.as_ref().err());
        let damaged = damaged
            .into_iter()
            .find(|error| matches!(error.kind(), ErrorKind::Damage | ErrorKind::NewerFormat));
        return Err(damaged.cloned().unwrap_or_else(named_error));
    };
    if let Some(memory) = memory
        && first.config.epoch < memory.epoch
    {
        return Err(Error::new(
            ErrorKind::NotTheSame,
            format!(
                "repository {id}: its config is of epoch {}, and this machine has seen epoch {}: its targets serve an older state",
                first.config.epoch, memory.epoch
            ),
        ));
    }
    let url = (*url).to_owned();
    let mut candidates: Vec<(Vec<u8>, ConfigObject)> = Vec::new();
    for (_, config) in good {
        if !candidates.iter().any(|(bytes, _)| *bytes == config.0) {
            candidates.push(config.clone());
        }
    }
    Ok(Chosen { id, candidates, url, remembered_mode: memory.map(|memory| memory.mode) })
}

impl Chosen {
    pub(super) fn mode(&self) -> Mode {
        self.candidates.first().map_or(Mode::Encrypted, |(_, object)| object.config.mode)
    }

    /// Whether a target can be used, and what is to be said about it.
    pub(super) fn judge(&self, found: &Found, monitor: &dyn Monitor) -> Arc<RepositoryTarget> {
        let (url, listed) = (found.url.clone(), found.listed);
        let fail = |error: Error| {
            report(monitor, FaultSide::Target, &url, error.clone());
            RepositoryTarget::failing(url.clone(), listed, found.target.clone(), error)
        };
        let Some(target) = &found.target else {
            let error = found.config.as_ref().err().cloned();
            let error = error.unwrap_or_else(|| Error::new(ErrorKind::NotFound, "it has no config"));
            return fail(error.with_kind(ErrorKind::Target));
        };
        match &found.config {
            Ok((_, object)) if object.config.repository != self.id => fail(Error::new(
                ErrorKind::NotTheSame,
                format!(
                    "target {url}: another repository is there, {}, not {}",
                    object.config.repository, self.id
                ),
            )),
            Ok((_, object)) if self.remembered_mode.is_some_and(|mode| mode != object.config.mode) => {
                fail(Error::new(
                    ErrorKind::NotTheSame,
                    format!(
                        "target {url}: its config says that the repository is {:?}, which it is not",
                        object.config.mode
                    ),
                ))
            }
            Ok(_) => RepositoryTarget::reachable(url, listed, target.clone()),
            Err(error)
                if error.kind() == ErrorKind::Damage
                    || (error.kind() == ErrorKind::NotFound && found.holds_objects()) =>
            {
                let message = format!("the config is taken from {} (`verify --heal` mends it)", self.url);
                report(
                    monitor,
                    FaultSide::Damage,
                    &url,
                    error.clone().with_kind(ErrorKind::Damage).at(message),
                );
                RepositoryTarget::reachable(url, listed, target.clone())
            }
            Err(error) if error.kind() == ErrorKind::NotFound => fail(Error::new(
                ErrorKind::Target,
                format!(
                    "target {url}: there is no repository any more (is its disk mounted? `target add` begins it anew)"
                ),
            )),
            Err(error) => fail(error.clone()),
        }
    }
}
