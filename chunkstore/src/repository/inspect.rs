//! Is an object good? What can be said of its bytes from its name alone, without a password where there is none.

use super::complete::Complete;
use super::config::Config;
use super::intent::Intent;
use super::key::KeyRemoval;
use super::layout::ObjectName;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{ObjectHash, RepositoryId};
use crate::secret::Secrets;

/// Tells good objects of one repository from bad ones.
#[derive(Clone, Debug)]
pub struct Inspector {
    repository: RepositoryId,
    config: Vec<u8>,
    secrets: Option<Secrets>,
}

impl Inspector {
    /// Tells good objects of `repository` from bad ones, given the bytes of its good config, and its secrets if they are known.
    pub(crate) fn new(repository: RepositoryId, config: Vec<u8>, secrets: Option<Secrets>) -> Self {
        Self { repository, config, secrets }
    }

    /// Succeeds if `bytes` are what an object of that name must be.
    ///
    /// # Errors
    /// Damage if they are not; not the same, if they are a good object of another repository or epoch, which is never overwritten,
    /// or the forged removal of a key; newer format.
    pub fn check(&self, name: &ObjectName, bytes: &[u8]) -> Result<()> {
        Self::check_length(name, bytes.len() as u64)?;
        match name {
            ObjectName::Pack(hash) | ObjectName::Segment { hash, .. } | ObjectName::Key(hash) => {
                check_hash(hash, bytes)
            }
            ObjectName::Config => self.check_config(bytes),
            ObjectName::KeyRemoval(key) => {
                let removal = KeyRemoval::decode(bytes)?;
                if removal.key != *key || removal.repository != self.repository {
                    return Err(Error::damage(format!("it is the removal of key {}", removal.key)));
                }
                // Without a password a forged one cannot be told; it is passed on, and believed by nobody who has one.
                self.secrets.as_ref().map_or(Ok(()), |secrets| removal.authenticate(secrets))
            }
            ObjectName::Complete { .. } => {
                let mark = Complete::decode(bytes)?;
                same_name(name, &mark.name())
            }
            ObjectName::Intent(_) => same_name(name, &Intent::decode(bytes)?.name()),
        }
    }

    /// Succeeds if an object of that name can be that long.
    ///
    /// # Errors
    /// Damage if not: it is empty, or longer than any.
    pub fn check_length(name: &ObjectName, length: u64) -> Result<()> {
        let max = name.kind().bytes_max();
        match length {
            0 => Err(Error::damage("it is empty")),
            length if length > max => {
                Err(Error::damage(format!("it has {length} bytes, {max} are the most")))
            }
            _ => Ok(()),
        }
    }

    fn check_config(&self, bytes: &[u8]) -> Result<()> {
        if bytes == self.config {
            return Ok(());
        }
        let object = Config::decode(bytes)?;
        let found = object.config.repository;
        if found != self.repository {
            let message =
                format!("it is the config of another repository, {found}, not of {}", self.repository);
            return Err(Error::new(ErrorKind::NotTheSame, message));
        }
        // A config of this repository which is not the one chosen when it was opened: older, if the secrets vouch for it, or forged.
        // Both may be replaced, by someone who has the secrets.
        match &self.secrets {
            Some(_) => Err(Error::damage("it is an older config of this repository, or a forged one")),
            None => Err(Error::new(
                ErrorKind::NotTheSame,
                "it differs from that of another target; which is right can be told with the password only",
            )),
        }
    }
}

fn check_hash(expected: &ObjectHash, bytes: &[u8]) -> Result<()> {
    let found = ObjectHash::of(&[bytes]);
    if found == *expected {
        return Ok(());
    }
    Err(Error::damage(format!("its {} bytes hash to {found}", bytes.len())))
}

fn same_name(expected: &ObjectName, found: &ObjectName) -> Result<()> {
    if expected == found {
        return Ok(());
    }
    Err(Error::damage(format!("it is {found}")))
}
