//! The newest state of each timeline: what a backup merges the walk with.

use lsm::Iter;

use crate::entry_key::EntryKey;
use crate::error::{Error, ErrorKind, Result};
use crate::id::TimelineId;
use crate::metadata::{Kind, Timestamp};
use crate::version::{Marks, SnapshotNumber, Version};

use super::Catalog;
use super::row::CurrentRow;
use super::store::{self, INODE_FRONT_BYTES, TimelineNumber, bad_row, entry_key_behind, local};

/// What change detection and listing need of an entry's newest Version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CurrentEntry {
    /// The entry's place.
    pub key: EntryKey,
    /// What it is.
    pub kind: Kind,
    /// Permissions.
    pub mode: u16,
    /// Owner's number.
    pub uid: u32,
    /// Group's number.
    pub gid: u32,
    /// Bytes of contents.
    pub size: u64,
    /// When the contents changed last.
    pub mtime: Timestamp,
    /// When the inode changed last.
    pub ctime: Timestamp,
    /// The file system it was on.
    pub device: u64,
    /// Its inode there.
    pub inode: u64,
    /// How many names the inode had.
    pub links: u64,
    /// How the Version came to be.
    pub marks: Marks,
    /// The snapshot that bore the Version.
    pub birth: SnapshotNumber,
}

/// The entries of a timeline's newest snapshot in the order of their keys; owned, a view of the moment it was made.
#[derive(Debug)]
pub struct CurrentIter {
    /// `None` for a timeline without snapshots.
    rows: Option<Iter>,
}

/// An entry that had an inode when it was seen last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InodeMatch {
    /// Where it was.
    pub key: EntryKey,
    /// Its newest Version.
    pub version: Version,
}

/// Length of what stands before the entry key in `current`.
const FRONT_BYTES: usize = 4;

impl Iterator for CurrentIter {
    type Item = Result<CurrentEntry>;

    fn next(&mut self) -> Option<Self::Item> {
        let row = self.rows.as_mut()?.next()?;
        Some(row.map_err(Error::from).and_then(|(key, value)| {
            let key = entry_key_behind(&key, FRONT_BYTES, "current")?;
            let row = CurrentRow::decode(&value).map_err(local("current"))?;
            Ok(CurrentEntry {
                key,
                kind: row.kind,
                mode: row.mode,
                uid: row.uid,
                gid: row.gid,
                size: row.size,
                mtime: row.mtime,
                ctime: row.ctime,
                device: row.device,
                inode: row.inode,
                links: row.links,
                marks: row.marks,
                birth: row.birth,
            })
        }))
    }
}

impl Catalog {
    pub(super) fn current_row(&self, timeline: TimelineNumber, key: &EntryKey) -> Result<Option<CurrentRow>> {
        match self.inner.spaces.current.get(store::current(timeline, key))? {
            Some(row) => CurrentRow::decode(&row).map(Some).map_err(local("current")),
            None => Ok(None),
        }
    }

    /// Refuses to serve `current` of a timeline to which a run is half applied.
    pub(super) fn check_settled(&self, timeline: TimelineNumber) -> Result<()> {
        if self.applying()?.is_some_and(|applying| applying.timeline == timeline) {
            return Err(Error::new(
                ErrorKind::Local,
                "the local catalog: a snapshot is half applied; bring it up to date from a target first",
            ));
        }
        Ok(())
    }

    /// The entries of the newest snapshot of a timeline, in order: for the merge with a walk.
    ///
    /// # Errors
    /// Local.
    pub fn current(&self, timeline: TimelineId) -> Result<CurrentIter> {
        let Some(number) = self.timeline_number(timeline)? else { return Ok(CurrentIter { rows: None }) };
        self.check_settled(number)?;
        let rows = self.inner.spaces.current.prefix(store::timeline_prefix(number));
        Ok(CurrentIter { rows: Some(rows) })
    }

    /// The newest Version of an entry, whole; `None` if it is gone or never was.
    ///
    /// # Errors
    /// Local.
    pub fn latest(&self, timeline: TimelineId, key: &EntryKey) -> Result<Option<Version>> {
        match self.timeline_number(timeline)? {
            Some(number) => self.latest_in(number, key),
            None => Ok(None),
        }
    }

    pub(super) fn latest_in(&self, timeline: TimelineNumber, key: &EntryKey) -> Result<Option<Version>> {
        let Some(row) = self.current_row(timeline, key)? else { return Ok(None) };
        let version = self.version_born(timeline, key, row.birth)?;
        let mut version = version.ok_or_else(|| bad_row("history", &format!("{key} has no Version")))?;
        version.marks = row.marks;
        version.metadata.ctime = row.ctime;
        version.metadata.inode = row.inode;
        version.metadata.device = row.device;
        Ok(Some(version))
    }

    /// Entries of a timeline's newest snapshot that had this inode when they were seen last: candidates for a rename.
    ///
    /// # Errors
    /// Local.
    pub fn by_inode(&self, timeline: TimelineId, device: u64, inode: u64) -> Result<Vec<InodeMatch>> {
        let Some(number) = self.timeline_number(timeline)? else { return Ok(Vec::new()) };
        let mut matches = Vec::new();
        for row in self.inner.spaces.inodes.prefix(store::inode(number, device, inode, &[])) {
            let key = entry_key_behind(&row?.0, INODE_FRONT_BYTES, "inodes")?;
            if let Some(version) = self.latest_in(number, &key)?
                && (version.metadata.device, version.metadata.inode) == (device, inode)
            {
                matches.push(InodeMatch { key, version });
            }
        }
        Ok(matches)
    }
}
