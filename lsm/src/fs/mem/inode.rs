//! A file's contents apart from its names: what is seen, what is durable, and what is on its way between them.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::crash::{Choice, Fate};
use super::image::{Image, SECTOR_BYTES, Sector};

/// A sector's contents as one write left them. Not yet durable.
#[derive(Clone, Debug)]
struct Version {
    sequence: u64,
    /// A failed sync took it for clean: no later sync persists it. A crash may still find it, or not.
    forgotten: bool,
    bytes: Arc<Sector>,
}

/// A length as one call left it. Not yet durable.
#[derive(Clone, Copy, Debug)]
struct Length {
    sequence: u64,
    forgotten: bool,
    length: u64,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Inode {
    current: Image,
    synced: Image,
    /// For each sector written since it was last durable, its versions, oldest first.
    sectors: BTreeMap<u64, Vec<Version>>,
    lengths: Vec<Length>,
}

impl Inode {
    pub(super) fn current(&self) -> &Image {
        &self.current
    }

    pub(super) fn write(&mut self, bytes: &[u8], offset: u64, sequence: u64) {
        if bytes.is_empty() {
            return;
        }
        let before = self.current.len();
        self.current.write(bytes, offset);
        self.note_sectors(offset, offset + bytes.len() as u64, sequence);
        self.note_length(before, sequence);
    }

    pub(super) fn set_len(&mut self, length: u64, sequence: u64) {
        let before = self.current.len();
        self.current.set_len(length);
        if length < before {
            // What was cut off reads as zeros from now on, should the file grow again; on the disk it may linger.
            self.note_sectors(length, before, sequence);
        }
        self.note_length(before, sequence);
    }

    fn note_sectors(&mut self, from: u64, to: u64, sequence: u64) {
        for sector in from / SECTOR_BYTES as u64..to.div_ceil(SECTOR_BYTES as u64) {
            let bytes = Arc::new(self.current.sector(sector));
            self.sectors.entry(sector).or_default().push(Version { sequence, forgotten: false, bytes });
        }
    }

    fn note_length(&mut self, before: u64, sequence: u64) {
        if self.current.len() != before {
            self.lengths.push(Length { sequence, forgotten: false, length: self.current.len() });
        }
    }

    /// Makes durable what was written up to and with call `through`.
    pub(super) fn sync(&mut self, through: u64) {
        let synced = &mut self.synced;
        self.sectors.retain(|sector, versions| {
            let last = versions.iter().rposition(|version| version.sequence <= through && !version.forgotten);
            if let Some(last) = last
                && let Some(version) = versions.drain(..=last).next_back()
            {
                synced.set_sector(*sector, &version.bytes);
            }
            !versions.is_empty()
        });
        let last = self.lengths.iter().rposition(|length| length.sequence <= through && !length.forgotten);
        if let Some(last) = last
            && let Some(length) = self.lengths.drain(..=last).next_back()
        {
            synced.set_len(length.length);
        }
    }

    /// What a failed sync leaves: everything counts as clean.
    pub(super) fn forget(&mut self) {
        for version in self.sectors.values_mut().flatten() {
            version.forgotten = true;
        }
        for length in &mut self.lengths {
            length.forgotten = true;
        }
    }

    /// Drops what is clean from the cache: what a failed sync forgot is read as it is on the disk, where it never arrived.
    pub(super) fn drop_clean(&mut self) {
        self.sectors.retain(|_, versions| {
            versions.retain(|version| !version.forgotten);
            !versions.is_empty()
        });
        self.lengths.retain(|length| !length.forgotten);
        let mut image = self.synced.clone();
        for (sector, versions) in &self.sectors {
            if let Some(version) = versions.last() {
                image.set_sector(*sector, &version.bytes);
            }
        }
        image.set_len(self.lengths.last().map_or(self.synced.len(), |length| length.length));
        self.current = image;
    }

    /// Whether a sync would have anything to do.
    pub(super) fn is_dirty(&self) -> bool {
        self.lengths.iter().any(|length| !length.forgotten)
            || self.sectors.values().flatten().any(|version| !version.forgotten)
    }

    /// The first call whose change is not durable.
    pub(super) fn oldest_pending(&self) -> Option<u64> {
        let sectors =
            self.sectors.values().filter_map(|versions| versions.first()).map(|version| version.sequence);
        sectors.chain(self.lengths.first().map(|length| length.sequence)).min()
    }

    /// The contents after a power loss.
    pub(super) fn crash(&self, fate: &mut Fate) -> Self {
        let mut image = self.synced.clone();
        let sectors_synced = self.synced.len().div_ceil(SECTOR_BYTES as u64);
        for (sector, versions) in &self.sectors {
            let sequences = versions.iter().map(|version| version.sequence);
            match fate.sector(sequences, *sector < sectors_synced) {
                Choice::Old => {}
                Choice::Version(index) => {
                    if let Some(version) = versions.get(index) {
                        image.set_sector(*sector, &version.bytes);
                    }
                }
                Choice::Garbage(bytes) => image.set_sector(*sector, &bytes),
            }
        }
        let steps: Vec<(u64, u64)> =
            self.lengths.iter().map(|length| (length.sequence, length.length)).collect();
        image.set_len(fate.length(self.synced.len(), &steps));
        Self { current: image.clone(), synced: image, sectors: BTreeMap::new(), lengths: Vec::new() }
    }
}
