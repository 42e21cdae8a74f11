//! Making a repository, on several targets at once.
//!
//! Each target gets the key first and the config last: where a config stands, the repository can be opened. A config is never
//! replaced, and the targets are taken in the order of their URLs, so that of two processes which make a repository at the same
//! places at once the second finds the first's config on the first target, before it has made any of its own.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::config::{Config, Mode};
use super::fetch::fetch;
use super::inspect::Inspector;
use super::key::{KeyObject, PasswordCost};
use super::layout::{COMPLETE, ObjectName, PACKS, SEGMENTS};
use super::open::OpenOptions;
use super::state::{Remembered, StateDirectory};
use super::{Repository, RepositoryTarget, now};
use crate::chunk::ChunkSizes;
use crate::error::{Error, ErrorKind, Result};
use crate::secret::Secrets;
use crate::target::Target;

/// Who may read a new repository.
#[derive(Clone, Copy)]
pub enum Protection<'a> {
    /// Whoever can read one of its targets.
    Unencrypted,
    /// Whoever has a password.
    Password {
        /// The first one.
        password: &'a [u8],
        /// Who it belongs to: `user@host`, usually. Not secret.
        label: &'a str,
        /// What it costs to try one.
        cost: PasswordCost,
    },
}

impl std::fmt::Debug for Protection<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Unencrypted => "Unencrypted",
            Self::Password { .. } => "Password(..)",
        })
    }
}

/// What may be chosen for a new repository; `None` is this version's default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InitOptions {
    /// How long chunks are.
    pub chunk_sizes: Option<ChunkSizes>,
    /// The raw size at which a frame is full, in bytes.
    pub frame_bytes: Option<u32>,
    /// The size at which a pack is full, in bytes.
    pub pack_bytes: Option<u32>,
}

impl Repository {
    /// Makes a repository on all targets at `urls`. If it fails on one it is on none.
    ///
    /// # Errors
    /// Already exists, if a target has a config, or objects of a repository that lost its config; invalid argument; target, target
    /// full, if one cannot be written; local.
    pub fn init(
        urls: &[String],
        options: &OpenOptions,
        protection: Protection<'_>,
        init: &InitOptions,
    ) -> Result<Self> {
        let invalid = |message: &str| Err(Error::new(ErrorKind::InvalidArgument, message));
        let urls = urls.iter().map(|url| options.connect.normalize(url)).collect::<Result<Vec<_>>>()?;
        let ordered: BTreeSet<&String> = urls.iter().collect();
        if ordered.len() != urls.len() {
            return invalid("a target was named twice");
        }
        if urls.is_empty() {
            return invalid("a repository needs at least one target");
        }
        let mode = match protection {
            Protection::Unencrypted => Mode::Unencrypted,
            Protection::Password { password: [], .. } => return invalid("the password is empty"),
            Protection::Password { .. } => Mode::Encrypted,
        };
        let mut config = Config::new(mode, now())?;
        config.chunk_sizes = init.chunk_sizes.unwrap_or(config.chunk_sizes);
        config.frame_bytes = init.frame_bytes.unwrap_or(config.frame_bytes);
        config.pack_bytes = init.pack_bytes.unwrap_or(config.pack_bytes);
        let secrets = Secrets::generate()?;
        let config_bytes = config.encode(&secrets)?;
        let key = match protection {
            Protection::Unencrypted => None,
            Protection::Password { password, label, cost } => {
                Some(KeyObject::wrap(&secrets, config.repository, password, label, config.created, cost)?)
            }
        };
        let mut targets = Vec::new();
        for url in &ordered {
            let target = options.connect.create(url)?;
            check_vacant(&*target)?;
            targets.push(target);
        }
        for (done, target) in targets.iter().enumerate() {
            if let Err(error) = make(&**target, &config_bytes, key.as_ref()) {
                for made in targets.iter().take(done + 1) {
                    unmake(&**made, &config_bytes, key.as_ref());
                }
                return Err(error);
            }
        }
        forget(&options.state, &urls)?;
        let state = options.state.of(config.repository);
        state.remember(|_| {
            let mut memory =
                Remembered { repository: config.repository, mode, epoch: config.epoch, targets: Vec::new() };
            for url in &urls {
                memory.target_mut(url).listed = true;
            }
            Ok(memory)
        })?;
        let by_url = |url: &String| targets.iter().find(|target| target.url() == url).or(targets.first());
        let targets = urls
            .iter()
            .filter_map(|url| {
                by_url(url).map(|target| RepositoryTarget::reachable(url.clone(), true, Arc::clone(target)))
            })
            .collect();
        Ok(Self {
            config,
            inspector: Inspector::new(config.repository, config_bytes.clone(), Some(secrets.clone())),
            config_bytes,
            secrets: Some(secrets),
            key: key.map(|key| *key.name()),
            targets,
            state,
            connect: options.connect.clone(),
        })
    }
}

/// Succeeds if a repository can be made on the target: nothing of another is there. Keys alone do not count: an `init` that was cut
/// short leaves one behind.
fn check_vacant(target: &dyn Target) -> Result<()> {
    let exists =
        |what: &str| Err(Error::new(ErrorKind::AlreadyExists, format!("target {}: {what}", target.url())));
    if target.length(&ObjectName::Config.key())?.is_some() {
        return exists("a repository is there already");
    }
    for prefix in [SEGMENTS, COMPLETE, PACKS] {
        if target.list(prefix)?.iter().any(|object| ObjectName::parse(&object.key).is_some()) {
            return exists(
                "objects of a repository are there whose config is missing: open it by another of its targets and heal it, or \
                 choose another place",
            );
        }
    }
    Ok(())
}

fn make(target: &dyn Target, config: &[u8], key: Option<&KeyObject>) -> Result<()> {
    if let Some(key) = key {
        target.put(&ObjectName::Key(*key.name()).key(), &[key.bytes()])?;
    }
    target.put_new(&ObjectName::Config.key(), &[config]).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => error.at("another process has just made a repository"),
        _ => error,
    })
}

/// Takes back what [`make`] did. Only what is ours to the byte: the key has a name of its own, the config is compared.
fn unmake(target: &dyn Target, config: &[u8], key: Option<&KeyObject>) {
    let name = ObjectName::Config.key();
    let read = || fetch(target, &ObjectName::Config);
    let ours = match read() {
        Ok(found) => found == config,
        // One that is longer than any is not ours.
        Err(error) => !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Damage),
    };
    // What cannot be read may be ours and needs its key; nothing that fails here can be mended here.
    if matches!(read(), Ok(found) if found == config) && target.delete(&name).is_err() {
        return;
    }
    let gone = matches!(read(), Err(error) if error.kind() == ErrorKind::NotFound);
    if (gone || !ours)
        && let Some(key) = key
    {
        let _ = target.delete(&ObjectName::Key(*key.name()).key());
    }
}

/// What was remembered of other repositories at these places is outdated: none of them had a config any more.
fn forget(state: &StateDirectory, urls: &[String]) -> Result<()> {
    for memory in state.remembered(&mut |_| {})? {
        if memory.targets.iter().any(|target| urls.contains(&target.url)) {
            state.of(memory.repository).remember(|before| {
                let mut memory = before.unwrap_or_else(|| memory.clone());
                memory.targets.retain(|target| !urls.contains(&target.url));
                Ok(memory)
            })?;
        }
    }
    Ok(())
}
