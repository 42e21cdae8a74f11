//! Passwords of an open repository: listing, adding, removing, changing, on all of its targets.
//!
//! A key is on every target, so that each of them opens by itself. A target that cannot be reached now gets what it lacks from `mirror` or
//! `verify --heal`: new keys, and the records of removed ones, which then go there too.

use super::config::Mode;
use super::key::{KeyObject, KeyRemoval, PasswordCost};
use super::layout::ObjectName;
use super::open::Keys;
use super::{Repository, now};
use crate::error::{Error, ErrorKind, Result};
use crate::id::ObjectHash;
use crate::metadata::Timestamp;
use crate::monitor::{Fault, FaultSide, Monitor};
use crate::target::Target;

/// A key of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyInfo {
    /// Its name.
    pub name: ObjectHash,
    /// Who made it: `user@host`, usually.
    pub label: String,
    /// When.
    pub created: Timestamp,
    /// What it costs to try a password on it.
    pub cost: PasswordCost,
    /// Whether it opened the repository this time.
    pub current: bool,
}

impl Repository {
    /// The keys that open this repository, the oldest first.
    ///
    /// # Errors
    /// Newer format. Faults of targets are reported.
    pub fn keys(&self, monitor: &dyn Monitor) -> Result<Vec<KeyInfo>> {
        let all = Keys::read(&self.targets, self.id(), monitor)?;
        let removed = |key: &KeyObject| match &self.secrets {
            Some(secrets) => all.is_removed(key.name(), secrets),
            None => all.removals.contains_key(key.name()),
        };
        let mut keys: Vec<_> = all
            .keys
            .values()
            .filter(|key| !removed(key))
            .map(|key| KeyInfo {
                name: *key.name(),
                label: key.label().to_owned(),
                created: key.created(),
                cost: key.cost(),
                current: self.key == Some(*key.name()),
            })
            .collect();
        keys.sort_by_key(|key| (key.created, key.name));
        Ok(keys)
    }

    /// Adds a password; the new key's name.
    ///
    /// # Errors
    /// Invalid argument, if the repository is not encrypted or the password is empty; wrong password, if it was opened without one; target, if no
    /// target took the key.
    pub fn add_key(
        &self,
        password: &[u8],
        label: &str,
        cost: PasswordCost,
        monitor: &dyn Monitor,
    ) -> Result<ObjectHash> {
        self.check_encrypted()?;
        if password.is_empty() {
            return Err(Error::new(ErrorKind::InvalidArgument, "the password is empty"));
        }
        let key = KeyObject::wrap(self.secrets()?, self.id(), password, label, now(), cost)?;
        let name = ObjectName::Key(*key.name()).key();
        self.on_all("key add", monitor, |target| target.put(&name, &[key.bytes()]))?;
        Ok(*key.name())
    }

    /// Removes a key for good: a record stays behind, so that no target brings it back. Whoever has a copy of the key object and its password can
    /// still open copies of the data that he has.
    ///
    /// # Errors
    /// Not found, if there is no such key; invalid argument, if it is the one that opened the repository; wrong password, if it was opened
    /// without one, or by a key that somebody else has removed meanwhile: then nothing is removed, for it may be the last; target, if no target took
    /// the record.
    pub fn remove_key(&self, name: &ObjectHash, monitor: &dyn Monitor) -> Result<()> {
        self.check_encrypted()?;
        if self.key == Some(*name) {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                "this is the key that opened the repository: open it by another password to remove this one",
            ));
        }
        let keys = self.keys(monitor)?;
        if !keys.iter().any(|key| key.name == *name) {
            return Err(Error::new(
                ErrorKind::NotFound,
                format!("repository {}: there is no key {name}", self.id()),
            ));
        }
        self.check_own_key(&keys)?;
        // Of two who remove each other's keys at once, at least one finds the other's record behind his own, and takes his back.
        self.write_record(name, monitor)?;
        if let Err(error) = self.check_own_key(&self.keys(monitor)?) {
            let record = ObjectName::KeyRemoval(*name).key();
            self.on_all("key remove", monitor, |target| target.delete(&record))?;
            return Err(error);
        }
        self.delete_removed(name, monitor)
    }

    /// Whether the key that opened the repository is one of its keys still.
    fn check_own_key(&self, keys: &[KeyInfo]) -> Result<()> {
        if keys.iter().any(|key| key.current) {
            return Ok(());
        }
        let message = format!(
            "repository {}: the key that opened it was removed meanwhile; no other is removed by it",
            self.id()
        );
        Err(Error::new(ErrorKind::WrongPassword, message))
    }

    /// Changes the password that opened the repository; the new key's name. The new key is durable before the old one goes.
    ///
    /// # Errors
    /// As [`Repository::add_key`] and [`Repository::remove_key`].
    pub fn change_key(
        &mut self,
        password: &[u8],
        label: &str,
        cost: PasswordCost,
        monitor: &dyn Monitor,
    ) -> Result<ObjectHash> {
        let new = self.add_key(password, label, cost, monitor)?;
        if let Some(old) = self.key.replace(new) {
            self.write_record(&old, monitor)?;
            self.delete_removed(&old, monitor)?;
        }
        Ok(new)
    }

    /// Says that a key was removed.
    fn write_record(&self, name: &ObjectHash, monitor: &dyn Monitor) -> Result<()> {
        let record = KeyRemoval::encode(self.secrets()?, self.id(), name, now());
        let record_name = ObjectName::KeyRemoval(*name).key();
        self.on_all("key remove", monitor, |target| target.put(&record_name, &[&record]))
    }

    /// Takes a key away where its record is durable: a crash between leaves a key that counts as removed.
    fn delete_removed(&self, name: &ObjectHash, monitor: &dyn Monitor) -> Result<()> {
        let key_name = ObjectName::Key(*name).key();
        self.on_all("key remove", monitor, |target| target.delete(&key_name))
    }

    fn check_encrypted(&self) -> Result<()> {
        match self.mode() {
            Mode::Encrypted => Ok(()),
            Mode::Unencrypted => Err(Error::new(
                ErrorKind::InvalidArgument,
                format!("repository {} is not encrypted: it has no keys", self.id()),
            )),
        }
    }

    /// Does the same on every target that can be reached; reports those that cannot or fail.
    ///
    /// # Errors
    /// The last target's, if none succeeded.
    pub(crate) fn on_all(
        &self,
        during: &'static str,
        monitor: &dyn Monitor,
        call: impl Fn(&dyn Target) -> Result<()>,
    ) -> Result<()> {
        let mut done = 0;
        let mut last = None;
        for target in &self.targets {
            let result = target.get().and_then(|open| call(&**open));
            match result {
                Ok(()) => done += 1,
                Err(error) => {
                    target.fail(error.clone());
                    let item = target.url().to_owned();
                    monitor.fault(Fault { side: FaultSide::Target, item, during, error: error.clone() });
                    last = Some(error);
                }
            }
        }
        match last {
            Some(error) if done == 0 => Err(error),
            _ => Ok(()),
        }
    }
}
