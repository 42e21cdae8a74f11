//! What a client keeps of a repository on its own disk, outside the engine: where things are, and what it remembers.
//!
//! ```text
//! STATE/REPOSITORY-ID/repository   what is remembered: mode, epoch, targets, how far each had come (FORMAT.md, local state)
//!                     lock         held for the moment in which `repository` is changed
//!                     catalog/     the engine, and in it the catalog; beside it catalog.lock; catalog.aside/, which is not believed any more; catalog.new/, for a moment
//!                     outbox/      segments that are durable here and not yet everywhere
//! ```
//!
//! All of it can be lost: it is built again from any one target. What is lost with `repository` is memory: that this address
//! stood for *that* repository, encrypted, and had come *so far*. While it is there, a target that turned into something else is noticed.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind as IoErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

use super::config::Mode;
use crate::codec::{Decoder, put_slice, put_varint};
use crate::envelope::{Envelope, EnvelopeKind, EnvelopeWriter, FieldNumber, Known, Unknown};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{RepositoryId, WriterId};
use crate::secret::Epoch;

const REPOSITORY: FieldNumber = FieldNumber(1);
const MODE: FieldNumber = FieldNumber(2);
const EPOCH: FieldNumber = FieldNumber(3);
const TARGETS: FieldNumber = FieldNumber(4);

const FILE_NAME: &str = "repository";

/// The directory in which a client keeps its state, for all repositories that it knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateDirectory {
    path: PathBuf,
}

/// The part of a [`StateDirectory`] that belongs to one repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepositoryState {
    path: PathBuf,
}

/// What a client remembers of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remembered {
    /// Which repository.
    pub repository: RepositoryId,
    /// Whether it is encrypted.
    pub mode: Mode,
    /// Its epoch, which never goes back.
    pub epoch: Epoch,
    /// Where it was seen.
    pub targets: Vec<RememberedTarget>,
}

/// What a client remembers of a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RememberedTarget {
    /// Its URL, as written by `TargetUrl`.
    pub url: String,
    /// Whether it is in use: a removed target is remembered, so that it is noticed if it turns into something else.
    pub listed: bool,
    /// How far each writer's log was whole there when it was last looked at.
    pub heads: Vec<(WriterId, u64)>,
}

impl StateDirectory {
    /// The state directory at `path`, which need not exist yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The part that belongs to `repository`.
    pub fn of(&self, repository: RepositoryId) -> RepositoryState {
        RepositoryState { path: self.path.join(repository.to_string()) }
    }

    /// The repositories that are remembered here. What cannot be read is handed to `damaged` and left out: memory may be lost, it must not
    /// keep anyone from a repository.
    ///
    /// # Errors
    /// Local, if the directory cannot be read at all.
    pub fn remembered(&self, damaged: &mut dyn FnMut(Error)) -> Result<Vec<Remembered>> {
        let entries = match std::fs::read_dir(&self.path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == IoErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(local(&self.path, "it cannot be read", error)),
        };
        let mut all = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|error| local(&self.path, "it cannot be read", error))?;
            let Some(id) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            match self.of(id).remembered() {
                Ok(Some(remembered)) => all.push(remembered),
                Ok(None) => {}
                Err(error) => damaged(error),
            }
        }
        all.sort_by_key(|remembered| remembered.repository);
        Ok(all)
    }
}

impl RepositoryState {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the catalog's engine lives.
    pub fn catalog_path(&self) -> PathBuf {
        self.path.join("catalog")
    }

    /// Where segments wait until they are on every target.
    pub fn outbox_path(&self) -> PathBuf {
        self.path.join("outbox")
    }

    /// Makes the directory if it is not there, for its owner only.
    ///
    /// # Errors
    /// Local, if it cannot be made.
    pub fn create(&self) -> Result<()> {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.path)
            .map_err(|error| local(&self.path, "it cannot be made", error))
    }

    /// What is remembered of the repository, if anything is.
    ///
    /// # Errors
    /// Local, if the file cannot be read; damage or newer format, if it is not what was written.
    pub fn remembered(&self) -> Result<Option<Remembered>> {
        let path = self.path.join(FILE_NAME);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if matches!(error.kind(), IoErrorKind::NotFound | IoErrorKind::NotADirectory) => {
                return Ok(None);
            }
            Err(error) => return Err(local(&path, "it cannot be read", error)),
        };
        Remembered::decode(&bytes).map(Some).map_err(|error| error.at(path.display()))
    }

    /// Changes what is remembered: `change` gets what is there now (nothing, if it is lost or damaged) and gives what shall be. Another process
    /// that does the same waits meanwhile. Where nothing changes nothing is written, so that a disk that is full or read-only is no matter.
    ///
    /// # Errors
    /// Local; those of `change`.
    pub fn remember(&self, change: impl Fn(Option<Remembered>) -> Result<Remembered>) -> Result<()> {
        if let Ok(Some(now)) = self.remembered()
            && change(Some(now.clone()))? == now
        {
            return Ok(());
        }
        self.create()?;
        let path = self.path.join("lock");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(|error| local(&path, "it cannot be opened", error))?;
        rustix::fs::flock(&lock, FlockOperation::LockExclusive)
            .map_err(|errno| local(&path, "it cannot be locked", errno.into()))?;
        let before = match self.remembered() {
            Ok(before) => before,
            Err(error) if error.kind() == ErrorKind::Damage => None,
            Err(error) => return Err(error),
        };
        let after = change(before.clone())?;
        // Another process may have been quicker.
        if before.as_ref() != Some(&after) {
            self.replace(&after.encode())?;
        }
        Ok(())
    }

    /// Old or new, whatever happens to the power: written aside, synced, renamed, the directory synced.
    fn replace(&self, bytes: &[u8]) -> Result<()> {
        let (path, new) = (self.path.join(FILE_NAME), self.path.join("repository.new"));
        let write = || {
            let mut file =
                OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&new)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            std::fs::rename(&new, &path)?;
            File::open(&self.path)?.sync_all()
        };
        write().map_err(|error| local(&path, "it cannot be written", error))
    }
}

fn local(path: &Path, what: &str, error: std::io::Error) -> Error {
    Error::caused(ErrorKind::Local, format!("{}: {what}", path.display()), error)
}

impl Remembered {
    /// What is remembered of the target at `url`.
    pub fn target(&self, url: &str) -> Option<&RememberedTarget> {
        self.targets.iter().find(|target| target.url == url)
    }

    /// Remembers a target, at the end of the list if it is new.
    pub fn target_mut(&mut self, url: &str) -> &mut RememberedTarget {
        let index = self.targets.iter().position(|target| target.url == url).unwrap_or_else(|| {
            self.targets.push(RememberedTarget { url: url.to_owned(), listed: false, heads: Vec::new() });
            self.targets.len() - 1
        });
        #[expect(clippy::indexing_slicing, reason = "the index was found or made in the line before")]
        &mut self.targets[index]
    }

    fn encode(&self) -> Vec<u8> {
        let mut targets = Vec::new();
        put_varint(&mut targets, self.targets.len() as u64);
        for target in &self.targets {
            put_slice(&mut targets, target.url.as_bytes());
            targets.push(u8::from(target.listed));
            put_varint(&mut targets, target.heads.len() as u64);
            for (writer, sequence) in &target.heads {
                targets.extend_from_slice(writer.as_bytes());
                targets.extend_from_slice(&sequence.to_le_bytes());
            }
        }
        let mut writer = EnvelopeWriter::new(EnvelopeKind::Remembered);
        writer
            .field(REPOSITORY, Unknown::Refuse, self.repository.as_bytes())
            .field(MODE, Unknown::Refuse, &[self.mode as u8])
            .field(EPOCH, Unknown::Refuse, &self.epoch.number().to_le_bytes())
            .field(TARGETS, Unknown::Refuse, &targets);
        writer.finish()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self> {
        let (mut repository, mut mode, mut epoch, mut targets) = (None, None, None, None);
        Envelope::decode(EnvelopeKind::Remembered, bytes)?.fields(|field| {
            match field.number {
                REPOSITORY => repository = Some(RepositoryId::from_bytes(field.array("repository id")?)),
                MODE => {
                    mode = Some(match field.array("mode")? {
                        [1] => Mode::Encrypted,
                        [2] => Mode::Unencrypted,
                        [other] => return Err(Error::damage(format!("mode {other} is none"))),
                    });
                }
                EPOCH => epoch = Epoch::new(u32::from_le_bytes(field.array("epoch")?)),
                TARGETS => targets = Some(decode_targets(field.decoder())?),
                _ => return Ok(Known::No),
            }
            Ok(Known::Yes)
        })?;
        match (repository, mode, epoch, targets) {
            (Some(repository), Some(mode), Some(epoch), Some(targets)) => {
                Ok(Self { repository, mode, epoch, targets })
            }
            _ => Err(Error::damage("what is remembered of the repository: a field is missing")),
        }
    }
}

fn decode_targets(mut decoder: Decoder<'_>) -> Result<Vec<RememberedTarget>> {
    let mut targets = Vec::new();
    for _ in 0..decoder.varint("count of targets")? {
        let url =
            std::str::from_utf8(decoder.slice("URL")?).map_err(|_| Error::damage("a URL is no text"))?;
        let listed = match decoder.u8("whether it is listed")? {
            0 => false,
            1 => true,
            other => return Err(Error::damage(format!("{other} is neither yes nor no"))),
        };
        let mut heads = Vec::new();
        for _ in 0..decoder.varint("count of heads")? {
            heads.push((WriterId::from_bytes(decoder.array("writer")?), decoder.u64("sequence")?));
        }
        targets.push(RememberedTarget { url: url.to_owned(), listed, heads });
    }
    decoder.finish("targets")?;
    Ok(targets)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some() -> Remembered {
        let mut some = Remembered {
            repository: RepositoryId::from_bytes([3; 16]),
            mode: Mode::Encrypted,
            epoch: Epoch::FIRST,
            targets: Vec::new(),
        };
        some.target_mut("/a").listed = true;
        some.target_mut("/b").heads.push((WriterId::from_bytes([9; 16]), 77));
        some
    }

    fn from_nothing(before: Option<Remembered>) -> Result<Remembered> {
        assert_eq!(before, None);
        Ok(some())
    }

    #[test]
    fn memory_comes_back_and_a_damaged_one_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let all = StateDirectory::new(dir.path().join("state"));
        let state = all.of(some().repository);
        assert_eq!(state.remembered().unwrap(), None);
        assert!(all.remembered(&mut |_| panic!()).unwrap().is_empty());
        state.remember(from_nothing).unwrap();
        assert_eq!(state.remembered().unwrap(), Some(some()));
        assert_eq!(all.remembered(&mut |_| panic!()).unwrap(), [some()]);
        let path = state.path().join(FILE_NAME);
        let bytes = std::fs::read(&path).unwrap();
        for index in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[index] ^= 1;
            std::fs::write(&path, &bad).unwrap();
            assert_eq!(state.remembered().unwrap_err().kind(), ErrorKind::Damage, "byte {index}");
        }
        let mut damaged = 0;
        assert!(all.remembered(&mut |_| damaged += 1).unwrap().is_empty());
        assert_eq!(damaged, 1);
        state.remember(from_nothing).unwrap();
        assert_eq!(state.remembered().unwrap(), Some(some()));
    }

    #[test]
    fn changes_at_once_are_all_kept() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDirectory::new(dir.path()).of(some().repository);
        std::thread::scope(|scope| {
            for number in 0..8 {
                let state = &state;
                scope.spawn(move || {
                    let change = |before: Option<Remembered>| {
                        let mut after = before.unwrap_or_else(some);
                        after.target_mut(&format!("/t{number}")).listed = true;
                        Ok(after)
                    };
                    state.remember(change).unwrap();
                });
            }
        });
        assert_eq!(state.remembered().unwrap().unwrap().targets.len(), 10);
    }
}
