//! A repository as the source of a restore: entries and places from the catalog, frames from whichever target has them good.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::{Entries, RestoreSource, Spans};
use crate::catalog::Catalog;
use crate::chunk::Hasher;
use crate::entry_key::{EntryKey, KeyRange};
use crate::error::{Error, ErrorKind, Result};
use crate::frame::{DecodedFrame, Decompressor};
use crate::id::ObjectHash;
use crate::monitor::Monitor;
use crate::pack::{FramePlace, PACK_HEADER_BYTES, Reader};
use crate::repository::Repository;
use crate::repository::layout::ObjectName;
use crate::secret::Secrets;
use crate::target::Target;
use crate::version::{Contents, Snapshot, Version};

/// How many packs' headers are remembered.
const HEADERS_MAX: usize = 4096;

/// What of a repository is restored.
enum Scope {
    Snapshot(Box<Snapshot>, KeyRange),
    Version(EntryKey, Box<Version>),
}

/// The entries of a snapshot, or one Version of a file, in a repository.
pub struct RepositorySource<'a> {
    repository: &'a Repository,
    catalog: &'a Catalog,
    monitor: &'a dyn Monitor,
    secrets: &'a Secrets,
    hasher: Hasher,
    scope: Scope,
    /// Headers of packs that were read from before.
    headers: Mutex<HashMap<ObjectHash, Arc<[u8]>>>,
}

impl std::fmt::Debug for RepositorySource<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RepositorySource")
    }
}

impl<'a> RepositorySource<'a> {
    fn new(
        repository: &'a Repository,
        catalog: &'a Catalog,
        scope: Scope,
        monitor: &'a dyn Monitor,
    ) -> Result<Self> {
        let secrets = repository.secrets()?;
        let hasher = Hasher::new(secrets);
        Ok(Self { repository, catalog, monitor, secrets, hasher, scope, headers: Mutex::default() })
    }

    /// The entries of `snapshot` whose keys lie in `range`.
    ///
    /// # Errors
    /// If the repository was opened without a password.
    pub fn snapshot(
        repository: &'a Repository,
        catalog: &'a Catalog,
        snapshot: &Snapshot,
        range: KeyRange,
        monitor: &'a dyn Monitor,
    ) -> Result<Self> {
        Self::new(repository, catalog, Scope::Snapshot(Box::new(snapshot.clone()), range), monitor)
    }

    /// One Version of a file, as the entry `key`.
    ///
    /// # Errors
    /// If the repository was opened without a password.
    pub fn version(
        repository: &'a Repository,
        catalog: &'a Catalog,
        key: EntryKey,
        version: Version,
        monitor: &'a dyn Monitor,
    ) -> Result<Self> {
        Self::new(repository, catalog, Scope::Version(key, Box::new(version)), monitor)
    }

    /// The header of a pack: good, and of this repository. At the front of the pack, else at its end.
    fn header(&self, pack: &ObjectHash) -> Result<Arc<[u8]>> {
        if let Some(header) = self.headers.lock().get(pack) {
            return Ok(Arc::clone(header));
        }
        let name = ObjectName::Pack(*pack);
        let front = |bytes| self.check_header(bytes);
        let front = self.repository.read_range(&name, 0, PACK_HEADER_BYTES, self.monitor, front);
        let header = match front {
            Err(error) if error.kind() == ErrorKind::Damage => self
                .repository
                .read_from_any(&name, self.monitor, |target| self.header_at_end(target, &name))
                .map_err(|_| error)?,
            other => other?,
        };
        let header: Arc<[u8]> = header.into();
        self.remember(pack, Arc::clone(&header));
        Ok(header)
    }

    fn check_header(&self, bytes: Vec<u8>) -> Result<Vec<u8>> {
        Reader::open(bytes.as_slice(), self.secrets)?;
        Ok(bytes)
    }

    fn header_at_end(&self, target: &dyn Target, name: &ObjectName) -> Result<Vec<u8>> {
        let length = target.length(&name.key())?;
        let length = length.ok_or_else(|| Error::new(ErrorKind::NotFound, format!("{name} is not there")))?;
        let offset = length.saturating_sub(PACK_HEADER_BYTES as u64);
        self.check_header(target.get_range(&name.key(), offset, PACK_HEADER_BYTES)?)
    }

    /// The header of a pack as one target has it.
    fn own_header(&self, target: &dyn Target, name: &ObjectName) -> Result<Vec<u8>> {
        let front = target.get_range(&name.key(), 0, PACK_HEADER_BYTES)?;
        match self.check_header(front) {
            // Bytes that are wrong, or that cannot be read: the copy at the end has its own.
            Err(error) if matches!(error.kind(), ErrorKind::Damage | ErrorKind::Target) => {
                self.header_at_end(target, name)
            }
            other => other,
        }
    }

    fn remember(&self, pack: &ObjectHash, header: Arc<[u8]>) {
        let mut headers = self.headers.lock();
        if headers.len() >= HEADERS_MAX {
            headers.clear();
        }
        headers.insert(*pack, header);
    }
}

impl RestoreSource for RepositorySource<'_> {
    fn entries(&self) -> Result<Entries<'_>> {
        Ok(match &self.scope {
            Scope::Snapshot(snapshot, range) => Box::new(self.catalog.state(snapshot, range)?),
            Scope::Version(key, version) => {
                Box::new(std::iter::once(Ok((key.clone(), Version::clone(version)))))
            }
        })
    }

    fn size(&self) -> Option<(u64, u64)> {
        match &self.scope {
            Scope::Snapshot(snapshot, range) if *range == KeyRange::all() => {
                Some((snapshot.stats.bytes_total, snapshot.stats.entries_total))
            }
            Scope::Snapshot(..) => None,
            Scope::Version(_, version) => Some((version.metadata.size, 1)),
        }
    }

    fn spans(&self, contents: &Contents) -> Result<Spans<'_>> {
        Ok(Box::new(self.catalog.spans(contents)?))
    }

    fn frame(
        &self,
        pack: &ObjectHash,
        frame: &FramePlace,
        decompressor: &mut Decompressor,
    ) -> Result<DecodedFrame> {
        let header = self.header(pack)?;
        let decompressor = Mutex::new(decompressor);
        let length = frame.stored_bytes as usize;
        let name = ObjectName::Pack(*pack);
        let decode = |header: &[u8], bytes: &[u8]| {
            Reader::open(header, self.secrets)?
                .decode_stored(frame.number, bytes, &mut decompressor.lock())
                .map_err(|error| error.at(format!("frame {} at offset {}", frame.number, frame.offset)))
        };
        let read = |bytes: Vec<u8>| decode(&header, &bytes);
        match self.repository.read_range(&name, frame.offset, length, self.monitor, read) {
            Err(error) if error.kind() == ErrorKind::Damage => {
                // A header says nothing of the pack's name: the one that was read may be that of another pack, which a target has in its place. So each
                // target's frame is tried with its own.
                let found = self.repository.read_from_any(&name, self.monitor, |target| {
                    let own = self.own_header(target, &name)?;
                    if own == *header {
                        return Err(error.clone());
                    }
                    let frame = decode(&own, &target.get_range(&name.key(), frame.offset, length)?)?;
                    Ok((own, frame))
                });
                let Ok((header, frame)) = found else { return Err(error) };
                self.remember(pack, header.into());
                Ok(frame)
            }
            other => other,
        }
    }

    fn hasher(&self) -> &Hasher {
        &self.hasher
    }
}
