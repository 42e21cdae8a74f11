//! A repository: what it is ([`config`]), who may open it ([`key`]), its objects by name ([`layout`]), its targets (`open`, `targets`),
//! who is at work ([`intent`]), what is whole ([`complete`]), whose fault a failed reading is ([`blame`]).
//!
//! [`Repository`] is an open repository without its catalog: config, secrets if a password was given, and targets, each of them
//! reachable or not. Everything in it stays as it is while it is shared between threads, but for the health of its targets.

pub mod blame;
pub mod complete;
pub mod config;
pub mod connect;
pub mod fetch;
pub mod inspect;
pub mod intent;
pub mod key;
pub mod layout;
pub mod state;

mod choose;
mod init;
mod keyring;
mod open;
mod read;
mod targets;

#[cfg(test)]
pub(crate) mod tests;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

pub use init::{InitOptions, Protection};
pub use keyring::KeyInfo;
pub use open::{AskPassword, OpenOptions, Unlock};
pub use targets::{Age, TargetInfo};

use crate::error::{Error, ErrorKind, Result};
use crate::id::{ObjectHash, RepositoryId};
use crate::metadata::Timestamp;
use crate::secret::Secrets;
use crate::target::Target;
use config::{Config, Mode};
use connect::Connect;
use inspect::Inspector;
use layout::ObjectName;
use state::RepositoryState;

/// An open repository.
#[derive(Debug)]
pub struct Repository {
    config: Config,
    config_bytes: Vec<u8>,
    secrets: Option<Secrets>,
    /// The key that opened it.
    key: Option<ObjectHash>,
    inspector: Inspector,
    targets: Vec<Arc<RepositoryTarget>>,
    state: RepositoryState,
    connect: Arc<dyn Connect>,
}

/// One target of an open repository: there, or failing.
#[derive(Debug)]
pub struct RepositoryTarget {
    url: String,
    listed: bool,
    target: Option<Arc<dyn Target>>,
    error: Mutex<Option<Error>>,
    /// What was found bad there by reading it.
    bad: Mutex<HashSet<ObjectName>>,
}

/// How many bad objects of a target are remembered: with more, some are told again.
const BAD_MAX: usize = 1 << 14;

impl RepositoryTarget {
    pub(crate) fn reachable(url: String, listed: bool, target: Arc<dyn Target>) -> Arc<Self> {
        Arc::new(Self { url, listed, target: Some(target), error: Mutex::default(), bad: Mutex::default() })
    }

    pub(crate) fn failing(
        url: String,
        listed: bool,
        target: Option<Arc<dyn Target>>,
        error: Error,
    ) -> Arc<Self> {
        Arc::new(Self { url, listed, target, error: Mutex::new(Some(error)), bad: Mutex::default() })
    }

    /// Its URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Whether it is in this client's list of targets; if not, it was only named for this run.
    pub fn is_listed(&self) -> bool {
        self.listed
    }

    /// The target, if it has not failed.
    ///
    /// # Errors
    /// Why it is passed over.
    pub fn get(&self) -> Result<&Arc<dyn Target>> {
        if let Some(error) = &*self.error.lock() {
            return Err(error.clone());
        }
        self.target
            .as_ref()
            .ok_or_else(|| Error::new(ErrorKind::Target, format!("target {}: it is not there", self.url)))
    }

    /// Why it is passed over, if it is.
    pub fn error(&self) -> Option<Error> {
        self.error.lock().clone()
    }

    /// From now on it is passed over. Whether this is news: the first error is the one that is kept.
    pub fn fail(&self, error: Error) -> bool {
        let mut kept = self.error.lock();
        let news = kept.is_none();
        kept.get_or_insert(error);
        news
    }

    /// An object, or a part of it, is bad there. Whether this is news.
    fn note_bad(&self, name: &ObjectName) -> bool {
        let mut bad = self.bad.lock();
        if bad.len() >= BAD_MAX {
            bad.clear();
        }
        bad.insert(*name)
    }

    fn is_bad(&self, name: &ObjectName) -> bool {
        self.bad.lock().contains(name)
    }
}

impl Repository {
    /// What the repository is.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Its id.
    pub fn id(&self) -> RepositoryId {
        self.config.repository
    }

    /// Its secrets.
    ///
    /// # Errors
    /// Wrong password, if it was opened without one.
    pub fn secrets(&self) -> Result<&Secrets> {
        self.secrets.as_ref().ok_or_else(|| {
            Error::new(
                ErrorKind::WrongPassword,
                format!("repository {} was opened without its password", self.id()),
            )
        })
    }

    /// Whether its secrets are known.
    pub fn is_unlocked(&self) -> bool {
        self.secrets.is_some()
    }

    /// The name of the key object that opened it.
    pub fn opened_by(&self) -> Option<ObjectHash> {
        self.key
    }

    /// Tells its good objects from bad ones.
    pub fn inspector(&self) -> &Inspector {
        &self.inspector
    }

    /// Its targets, in the order in which they are read: the one that was named first.
    pub fn targets(&self) -> &[Arc<RepositoryTarget>] {
        &self.targets
    }

    /// Its targets that have not failed so far.
    pub fn reachable(&self) -> impl Iterator<Item = (&Arc<RepositoryTarget>, &Arc<dyn Target>)> {
        self.targets.iter().filter_map(|target| target.get().ok().map(|open| (target, open)))
    }

    /// Where this client keeps its state of it.
    pub fn state(&self) -> &RepositoryState {
        &self.state
    }

    /// The bytes of its config.
    pub fn config_bytes(&self) -> &[u8] {
        &self.config_bytes
    }

    fn mode(&self) -> Mode {
        self.config.mode
    }
}

/// The time now, as objects keep it.
pub(crate) fn now() -> Timestamp {
    let since = |duration: std::time::Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(after) => Timestamp { seconds: since(after), nanoseconds: after.subsec_nanos() },
        // A clock before 1970 is wrong anyway: whole seconds will do.
        Err(before) => Timestamp { seconds: -since(before.duration()) - 1, nanoseconds: 0 },
    }
}
