//! Every Version of every entry: the state at any snapshot, the history of any file.
//!
//! A row's key ends with the complement of the number of the snapshot that bore the Version, so the newest comes first: what a snapshot
//! sees of an entry is the first row whose number is not above its own.

use std::collections::HashMap;

use lsm::Iter;

use crate::entry_key::{EntryKey, KeyRange};
use crate::error::Result;
use crate::id::{FileId, SnapshotId, TimelineId};
use crate::version::{Snapshot, SnapshotNumber, Version};

use super::Catalog;
use super::row::{FileRef, HistoryRow, VersionRow};
use super::store::{self, TimelineNumber, bad_row, local, split_history};

/// After so many rows of one entry that are too new, the rest is jumped over: a step is cheaper than a jump.
const STEPS_MAX: u32 = 12;

/// The entries of a snapshot in the order of their keys; owned, a view of the moment it was made.
pub struct StateIter {
    catalog: Catalog,
    view: lsm::Snapshot,
    timeline: TimelineNumber,
    number: SnapshotNumber,
    /// Where the range ends.
    end: std::ops::Bound<Vec<u8>>,
    rows: Iter,
    /// The entry whose row was decided on: its older rows are passed over.
    done: Vec<u8>,
    steps: u32,
    births: HashMap<SnapshotNumber, SnapshotId>,
    failed: bool,
}

impl std::fmt::Debug for StateIter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "StateIter(timeline {}, snapshot {})", self.timeline.0, self.number.0)
    }
}

impl StateIter {
    /// Jumps to `row_key`.
    fn jump(&mut self, row_key: Vec<u8>) {
        let range = (std::ops::Bound::Included(row_key), self.end.clone());
        self.rows = self.view.range(&self.catalog.inner.spaces.history, range);
        self.steps = 0;
    }

    fn birth_id(&mut self, number: SnapshotNumber) -> Result<SnapshotId> {
        if let Some(id) = self.births.get(&number) {
            return Ok(*id);
        }
        let id = self.catalog.snapshot_id_at(self.timeline, number)?;
        self.births.insert(number, id);
        Ok(id)
    }

    /// The next Version's entry key, birth and row.
    pub(super) fn next_row(&mut self) -> Result<Option<(EntryKey, SnapshotNumber, VersionRow)>> {
        while let Some(row) = self.rows.next() {
            let (row_key, value) = row?;
            let (key, number) = split_history(&row_key)?;
            self.steps += 1;
            if key == self.done {
                if self.steps > STEPS_MAX {
                    // Zero is no snapshot: behind every row of this entry.
                    let target = store::history(self.timeline, key, SnapshotNumber(0));
                    self.jump(target);
                }
                continue;
            }
            if number > self.number {
                if self.steps > STEPS_MAX {
                    let target = store::history(self.timeline, key, self.number);
                    self.jump(target);
                }
                continue;
            }
            self.steps = 0;
            self.done.clear();
            self.done.extend_from_slice(key);
            match HistoryRow::decode(&value).map_err(local("history"))? {
                HistoryRow::Gone => {}
                HistoryRow::Version(row) => {
                    let key = EntryKey::from_bytes(key).map_err(local("history"))?;
                    return Ok(Some((key, number, *row)));
                }
            }
        }
        Ok(None)
    }

    fn step(&mut self) -> Result<Option<(EntryKey, Version)>> {
        let Some((key, birth, row)) = self.next_row()? else { return Ok(None) };
        let born = self.birth_id(birth)?;
        let file = match row.file {
            FileRef::Explicit(id) => id,
            FileRef::BornHere(number) => {
                let snapshot = self.birth_id(number)?;
                self.catalog.new_file_id(snapshot, &key)
            }
        };
        let version = Version {
            id: self.catalog.version_id(born, &key),
            file,
            birth,
            marks: row.marks,
            metadata: row.metadata,
            contents: row.contents,
        };
        Ok(Some((key, version)))
    }
}

impl Iterator for StateIter {
    type Item = Result<(EntryKey, Version)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let item = self.step().transpose();
        self.failed = matches!(item, Some(Err(_)));
        item
    }
}

/// A Version in the history of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// The timeline it is in.
    pub timeline: TimelineId,
    /// Where the file was.
    pub key: EntryKey,
    /// The snapshot that bore it, or first saw it gone.
    pub snapshot: Snapshot,
    /// The Version; `None`: gone from here.
    pub version: Option<Version>,
    /// What is different from the Version before.
    pub changed: Changed,
}

/// In what a Version differs from the one before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// There was none before.
    pub born: bool,
    /// It came here from another path.
    pub renamed: bool,
    /// It is gone.
    pub gone: bool,
    /// Another File took the place.
    pub replaced: bool,
    /// Another kind of entry.
    pub kind: bool,
    /// The bytes.
    pub contents: bool,
    /// Permissions.
    pub mode: bool,
    /// Owner or group.
    pub owner: bool,
    /// Modification time.
    pub mtime: bool,
    /// Extended attributes, ACLs, capabilities.
    pub xattrs: bool,
    /// Something else: links, device number, link target, birth time, holes.
    pub other: bool,
}

impl Changed {
    /// In what `new` at `key` differs from `old`.
    pub fn between(old: Option<(&EntryKey, &Version)>, key: &EntryKey, new: Option<&Version>) -> Self {
        let (Some((old_key, old)), Some(new)) = (old, new) else {
            return Self { born: new.is_some(), gone: new.is_none(), ..Self::default() };
        };
        let (a, b) = (&old.metadata, &new.metadata);
        Self {
            born: false,
            gone: false,
            renamed: old_key != key && old.file == new.file,
            replaced: old.file != new.file,
            kind: a.kind != b.kind,
            contents: old.contents != new.contents || a.size != b.size,
            mode: a.mode != b.mode,
            owner: (a.uid, a.gid, &a.user, &a.group) != (b.uid, b.gid, &b.user, &b.group),
            mtime: a.mtime != b.mtime,
            xattrs: a.xattrs != b.xattrs,
            other: (a.links, a.device_number, &a.link_target, a.birth, &a.holes)
                != (b.links, b.device_number, &b.link_target, b.birth, &b.holes),
        }
    }
}

impl Catalog {
    pub(super) fn version_of_row(
        &self,
        timeline: TimelineNumber,
        key: &EntryKey,
        birth: SnapshotNumber,
        row: VersionRow,
    ) -> Result<Version> {
        Ok(Version {
            id: self.version_id(self.snapshot_id_at(timeline, birth)?, key),
            file: self.file_id(timeline, key, row.file)?,
            birth,
            marks: row.marks,
            metadata: row.metadata,
            contents: row.contents,
        })
    }

    /// The Version of an entry that one snapshot bore.
    pub(super) fn version_born(
        &self,
        timeline: TimelineNumber,
        key: &EntryKey,
        birth: SnapshotNumber,
    ) -> Result<Option<Version>> {
        let row_key = store::history(timeline, key.as_bytes(), birth);
        let Some(row) = self.inner.spaces.history.get(row_key)? else { return Ok(None) };
        match HistoryRow::decode(&row).map_err(local("history"))? {
            HistoryRow::Gone => Ok(None),
            HistoryRow::Version(row) => self.version_of_row(timeline, key, birth, *row).map(Some),
        }
    }

    pub(super) fn state_in(
        &self,
        timeline: TimelineNumber,
        number: SnapshotNumber,
        range: &KeyRange,
    ) -> StateIter {
        let view = self.inner.db.snapshot();
        let (start, end) = range.behind(&store::timeline_prefix(timeline));
        let rows = view.range(&self.inner.spaces.history, (start, end.clone()));
        StateIter {
            catalog: self.clone(),
            view,
            timeline,
            number,
            end,
            rows,
            done: Vec::new(),
            steps: 0,
            births: HashMap::new(),
            failed: false,
        }
    }

    fn number_of(&self, snapshot: &Snapshot) -> Result<TimelineNumber> {
        let number = self.timeline_number(snapshot.timeline)?;
        number.ok_or_else(|| bad_row("timelines", &format!("{} is missing", snapshot.timeline)))
    }

    /// The entries of a snapshot whose keys lie in `range`, in order. [`EntryKey::children`] and [`EntryKey::below`] give ranges.
    ///
    /// # Errors
    /// Local.
    pub fn state(&self, snapshot: &Snapshot, range: &KeyRange) -> Result<StateIter> {
        Ok(self.state_in(self.number_of(snapshot)?, snapshot.number, range))
    }

    /// One entry of a snapshot.
    ///
    /// # Errors
    /// Local.
    pub fn entry(&self, snapshot: &Snapshot, key: &EntryKey) -> Result<Option<Version>> {
        let timeline = self.number_of(snapshot)?;
        let first = store::history(timeline, key.as_bytes(), snapshot.number);
        let behind = store::history(timeline, key.as_bytes(), SnapshotNumber(0));
        match self.inner.spaces.history.range(first..behind).next() {
            None => Ok(None),
            Some(row) => {
                let (row_key, value) = row?;
                let (_, birth) = split_history(&row_key)?;
                match HistoryRow::decode(&value).map_err(local("history"))? {
                    HistoryRow::Gone => Ok(None),
                    HistoryRow::Version(row) => self.version_of_row(timeline, key, birth, *row).map(Some),
                }
            }
        }
    }

    /// The rows of one entry, the oldest first, that snapshots made visible: up to `until`.
    fn rows_of(
        &self,
        timeline: TimelineNumber,
        key: &EntryKey,
        until: SnapshotNumber,
    ) -> Result<Vec<(SnapshotNumber, Option<Version>)>> {
        let mut rows = Vec::new();
        for row in self.inner.spaces.history.prefix(store::history_of(timeline, key)) {
            let (row_key, value) = row?;
            let (_, number) = split_history(&row_key)?;
            if number > until {
                continue;
            }
            let version = match HistoryRow::decode(&value).map_err(local("history"))? {
                HistoryRow::Gone => None,
                HistoryRow::Version(row) => Some(self.version_of_row(timeline, key, number, *row)?),
            };
            rows.push((number, version));
        }
        rows.reverse();
        Ok(rows)
    }

    /// The timeline and those that it forked from, each with the last snapshot that counts.
    fn lineage(&self, timeline: TimelineNumber) -> Result<Vec<(TimelineNumber, SnapshotNumber)>> {
        let mut lineage = Vec::new();
        let mut at = timeline;
        let mut until = SnapshotNumber(u32::MAX);
        loop {
            let row = self.timeline_row(at)?;
            let head = row.head.unwrap_or(SnapshotNumber(0));
            lineage.push((at, head.min(until)));
            match row.forked_from {
                // Bases are older than what forked from them: the numbers descend, so this ends.
                Some((base, shared)) if base < at => {
                    at = base;
                    until = shared;
                }
                _ => return Ok(lineage),
            }
        }
    }

    /// The history of what is or was at `key`, the oldest Version first: everything that stood there, and the Versions that the File which
    /// stood there last had at other paths. Costs its Versions, not the snapshots.
    ///
    /// # Errors
    /// Local.
    pub fn log(&self, timeline: TimelineId, key: &EntryKey) -> Result<Vec<LogEntry>> {
        let Some(timeline) = self.timeline_number(timeline)? else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        for (at, until) in self.lineage(timeline)? {
            let shared_with_base = self.timeline_row(at)?.forked_from.map(|(_, shared)| shared);
            // A fork starts with copies of its base's newest rows: those are told by the base.
            let own = |number: &SnapshotNumber| shared_with_base.is_none_or(|shared| *number > shared);
            let here = self.rows_of(at, key, until)?;
            if let Some(file) = here.iter().rev().find_map(|(_, version)| version.as_ref().map(|v| v.file)) {
                for (place, elsewhere) in self.elsewhere(at, key, file, until)? {
                    found.extend(
                        elsewhere.into_iter().filter(|(n, _)| own(n)).map(|(n, v)| (at, place.clone(), n, v)),
                    );
                }
            }
            found.extend(here.into_iter().filter(|(n, _)| own(n)).map(|(n, v)| (at, key.clone(), n, v)));
        }
        found.sort_by_key(|(_, place, number, version)| (*number, version.is_some(), place == key));
        self.tell(found)
    }

    /// The Versions that a File had at other places than `key`.
    #[expect(clippy::type_complexity, reason = "a list of places, each with its rows")]
    fn elsewhere(
        &self,
        timeline: TimelineNumber,
        key: &EntryKey,
        file: FileId,
        until: SnapshotNumber,
    ) -> Result<Vec<(EntryKey, Vec<(SnapshotNumber, Option<Version>)>)>> {
        let mut found = Vec::new();
        for (at, place) in self.places_in(file)? {
            if at != timeline || place == *key {
                continue;
            }
            let mut rows = self.rows_of(at, &place, until)?;
            rows.retain(|(_, version)| version.as_ref().is_some_and(|version| version.file == file));
            found.push((place, rows));
        }
        Ok(found)
    }

    fn tell(
        &self,
        found: Vec<(TimelineNumber, EntryKey, SnapshotNumber, Option<Version>)>,
    ) -> Result<Vec<LogEntry>> {
        let mut entries: Vec<LogEntry> = Vec::new();
        for (at, key, number, version) in found {
            let Some(snapshot) = self.snapshot_in(at, number)? else { continue };
            let before = entries.iter().rev().find(|entry| {
                entry.key == key
                    || matches!((&entry.version, &version), (Some(a), Some(b)) if a.file == b.file)
            });
            let old = before.and_then(|entry| Some((&entry.key, entry.version.as_ref()?)));
            let changed = Changed::between(old, &key, version.as_ref());
            entries.push(LogEntry { timeline: snapshot.timeline, key, snapshot, version, changed });
        }
        Ok(entries)
    }

    /// A Version of an entry by its id.
    ///
    /// # Errors
    /// Local.
    pub fn version(
        &self,
        timeline: TimelineId,
        key: &EntryKey,
        id: crate::id::VersionId,
    ) -> Result<Option<Version>> {
        let Some(timeline) = self.timeline_number(timeline)? else { return Ok(None) };
        let head = self.timeline_row(timeline)?.head.unwrap_or(SnapshotNumber(0));
        let rows = self.rows_of(timeline, key, head)?;
        Ok(rows.into_iter().filter_map(|(_, version)| version).find(|version| version.id == id))
    }
}
