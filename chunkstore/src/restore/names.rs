//! Names of one inode: which of them were restored, for others to be made names of the same.
//!
//! A file that changed while a backup went from one of its names to the next has a Version for each moment under these names. They are one inode
//! again only where nothing that is restored tells them apart: what the snapshot has of each name counts for more than that they were one.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use super::file::FileJob;
use crate::directory::Directory;
use crate::entry_key::EntryKey;
use crate::version::{SnapshotNumber, Version};

/// An inode as it was at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Moment {
    device: u64,
    inode: u64,
    /// The snapshot that bore the Version, for inodes are used again.
    birth: SnapshotNumber,
    /// Stands for all that is restored of it. It tells apart what one inode was at different moments, of which there are few.
    restored: u64,
}

/// Tells moments apart.
#[derive(Default)]
pub(super) struct Moments(RandomState);

impl Moments {
    /// Which inode an entry is a name of, and of when; `None` if it has no other name.
    pub(super) fn of(&self, version: &Version) -> Option<Moment> {
        let Version { birth, metadata: m, contents, .. } = version;
        let what = (m.kind, m.size, m.mtime, &m.holes, contents, &m.link_target, m.device_number);
        let restored = self.0.hash_one((what, m.mode, m.uid, m.gid, &m.xattrs));
        (m.links > 1).then_some(Moment { device: m.device, inode: m.inode, birth: *birth, restored })
    }
}

/// The name that was restored first.
pub(super) struct Leader {
    pub(super) key: EntryKey,
    pub(super) directory: Arc<Directory>,
    /// The file that it becomes, until it is whole.
    pub(super) job: Option<Arc<FileJob>>,
    /// Names that there are by now, and that there are in all as far as is known.
    names: u64,
    names_in_all: u64,
}

impl Leader {
    pub(super) fn new(
        key: EntryKey,
        directory: Arc<Directory>,
        job: Option<Arc<FileJob>>,
        version: &Version,
    ) -> Self {
        Self { key, directory, job, names: 1, names_in_all: version.metadata.links }
    }
}

/// The names that were restored first, as long as more may come.
#[derive(Default)]
pub(super) struct Leaders {
    known: BTreeMap<Moment, Leader>,
    /// Those of which it is not known whether they come out whole.
    unsettled: Vec<Moment>,
    moments: Moments,
}

impl Leaders {
    /// Which inode an entry is a name of, and of when; `None` if it has no other name.
    pub(super) fn moment(&self, version: &Version) -> Option<Moment> {
        self.moments.of(version)
    }

    /// The name that was restored first.
    pub(super) fn get(&self, moment: &Moment) -> Option<&Leader> {
        self.known.get(moment)
    }

    /// A name of the same inode as it was at another moment.
    pub(super) fn of_another_moment(&self, moment: &Moment) -> Option<&EntryKey> {
        let range = Moment { restored: 0, ..*moment }..=Moment { restored: u64::MAX, ..*moment };
        self.known.range(range).find(|(other, _)| *other != moment).map(|(_, leader)| &leader.key)
    }

    /// A name is restored, the first of its moment.
    pub(super) fn lead(&mut self, moment: Moment, leader: Leader) {
        if leader.job.is_some() {
            self.unsettled.push(moment);
        }
        self.known.insert(moment, leader);
    }

    /// Another name was made. With the last one nothing more needs to be known.
    pub(super) fn linked(&mut self, moment: &Moment, version: &Version) {
        let Some(leader) = self.known.get_mut(moment) else { return };
        leader.names += 1;
        // More may have been made while the backup ran.
        leader.names_in_all = leader.names_in_all.max(version.metadata.links);
        if leader.names >= leader.names_in_all {
            self.known.remove(moment);
        }
    }

    /// The next name is the first.
    pub(super) fn forget(&mut self, moment: &Moment) {
        self.known.remove(moment);
    }

    /// All files planned so far have ended: of those that are whole only their place is kept, the others lead nothing.
    pub(super) fn settle(&mut self) {
        for moment in self.unsettled.drain(..) {
            let Some(leader) = self.known.get_mut(&moment) else { continue };
            if leader.job.take().is_some_and(|job| !job.is_whole()) {
                self.known.remove(&moment);
            }
        }
    }
}
