//! Every table that is there or should be: whose it is, what it is like, and what of it is lost.

use std::path::Path;
use std::sync::Arc;

use crate::batch::KeyspaceId;
use crate::error::{IoContext, Result};
use crate::filename::{FileName, FileNumber};
use crate::key::SequenceNumber;
use crate::levels::{LEVEL_COUNT, TableReference};
use crate::manifest::ToldTable;
use crate::ordered::{OrderedMap, OrderedSet};
use crate::range::KeyRange;
use crate::repair::report::{Loss, LossKind, shown_range};
use crate::repair::survey::{Condition, Survey};
use crate::row::KeyspaceKind;
use crate::table::{AnyTable, TableOrigin, TableScan};

/// The keyspace of a table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Owner {
    Known(KeyspaceId),
    /// Nobody says: it gets a keyspace of its own, so that what does not belong together is not mixed.
    Unknown(FileNumber),
}

/// What there is of a table.
#[derive(Clone, Debug)]
pub(super) enum Source {
    Sound(AnyTable),
    Damaged,
    Missing,
}

/// One table, or the part of it that a reference answers for.
#[derive(Clone, Debug)]
pub(super) struct Item {
    /// Its file; of one that is missing, the file that it should be.
    pub(super) file: FileNumber,
    pub(super) owner: Owner,
    pub(super) level: usize,
    pub(super) epoch: u64,
    /// The kind of keyspace that it fits into, if it can be read.
    pub(super) kind: Option<KeyspaceKind>,
    /// The keys that it answers for.
    pub(super) bounds: KeyRange,
    pub(super) source: Source,
    /// Whether it is as the manifest says.
    pub(super) as_told: bool,
    /// Whether the manifest names it at all.
    pub(super) is_named: bool,
}

/// All keyspaces that anybody tells of, and all tables.
#[derive(Debug, Default)]
pub(super) struct Items {
    pub(super) keyspaces: OrderedMap<KeyspaceId, (Arc<str>, KeyspaceKind)>,
    pub(super) items: Vec<Item>,
    pub(super) losses: Vec<(Owner, Loss)>,
    pub(super) doubts: Vec<String>,
}

impl Items {
    /// Brings together what the survey found.
    ///
    /// # Errors
    /// Io; NewerFormat.
    pub(super) fn gather(survey: &Survey) -> Result<Self> {
        let mut items = Self::default();
        let mut taken: OrderedSet<FileNumber> = OrderedSet::new();
        if let Some(told) = &survey.told {
            items.keyspaces.clone_from(&told.keyspaces);
            for table in told.tables.values() {
                let is_unsure = survey.distrust().is_some() && told.is_unsure_behind(table.offset);
                let item = items.named(survey, table, is_unsure)?;
                if !matches!(item.source, Source::Missing) {
                    taken.insert(item.file);
                }
                items.items.push(item);
            }
        }
        if survey.distrust().is_some() {
            for (file, condition) in survey.tables.iter().filter(|(file, _)| !taken.contains(file)) {
                items.unnamed(survey, *file, condition)?;
            }
        }
        items.part_misfits();
        Ok(items)
    }

    /// What does not fit into the keyspace that it is said to be of gets one of its own.
    fn part_misfits(&mut self) {
        for item in &mut self.items {
            let Owner::Known(id) = &item.owner else { continue };
            let known = self.keyspaces.get(id).map(|(_, kind)| *kind);
            if let (Some(known), Some(kind)) = (known, item.kind)
                && known != kind
            {
                self.doubts.push(format!(
                    "{} is said to be of a keyspace that is {known}, and is {kind}: it is kept apart",
                    FileName::Table(item.file)
                ));
                item.owner = Owner::Unknown(item.file);
                item.as_told = false;
            }
        }
    }

    fn named(&mut self, survey: &Survey, told: &ToldTable, is_unsure: bool) -> Result<Item> {
        let (owner, level, reference) = (Owner::Known(told.keyspace), told.level, &told.table);
        // Its own file first; else the one into which somebody has renamed it.
        let own = survey.tables.get(&reference.file).map(|condition| (&reference.file, condition));
        let found = own.into_iter().chain(&survey.tables).find_map(|(file, condition)| match condition {
            Condition::Sound(table) if table.summary().identity == reference.identity => Some((*file, table)),
            _ => None,
        });
        if let Some((_, table)) = found
            && let Some(origin) = table.origin().filter(|origin| origin.keyspace == told.keyspace.number())
        {
            // The edit that made the keyspace may be lost.
            self.origin(reference.file, Some(origin))?;
        }
        let mut item = Item {
            file: reference.file,
            owner,
            level: level.min(LEVEL_COUNT - 1),
            epoch: reference.epoch,
            kind: None,
            bounds: reference.bounds.clone(),
            source: Source::Missing,
            as_told: false,
            is_named: true,
        };
        if let Some((file, table)) = found {
            item.as_told = file == reference.file && agrees(table, reference);
            item.file = file;
            item.source = Source::Sound(table.clone());
            item.kind = Some(kind_of(table));
            if !item.as_told {
                let both = reference.bounds.intersection(&table.summary().bounds);
                item.bounds = both.unwrap_or_else(|| table.summary().bounds.clone());
            }
            return Ok(item);
        }
        let scan = match survey.tables.get(&reference.file) {
            Some(Condition::Damaged(_)) => survey.scan(reference.file)?,
            _ => None,
        };
        match scan {
            Some(scan) if scan.identity == reference.identity => {
                if let Some(origin) =
                    scan.origin.as_ref().filter(|origin| origin.keyspace == told.keyspace.number())
                {
                    self.origin(reference.file, Some(origin))?;
                }
                item.source = Source::Damaged;
                item.kind = Some(kind_of_scan(&scan));
                self.lose(survey, &item, &scan, Some(reference));
            }
            None if is_unsure && !survey.tables.contains_key(&reference.file) => {
                self.doubts.push(format!(
                    "{} is not there: the edit that took it out is one that cannot be read, and what it held is in others; or else the file is \
                     missing, and its entries are lost, with keys {}",
                    survey.path(FileName::Table(reference.file)).display(),
                    shown_range(&reference.bounds)
                ));
            }
            _ => {
                let reason = match survey.tables.get(&reference.file) {
                    None => "the table is missing".to_owned(),
                    Some(Condition::Damaged(error)) => error.to_string(),
                    Some(_) => "another table stands in its place".to_owned(),
                };
                self.losses.push((
                    item.owner.clone(),
                    Loss {
                        kind: LossKind::Entries,
                        keyspace: None,
                        file: survey.path(FileName::Table(reference.file)),
                        range: Some(reference.bounds.clone()),
                        sequences: Some((reference.sequence_min, Some(reference.sequence_max))),
                        entries: Some(reference.entries),
                        reason,
                    },
                ));
            }
        }
        Ok(item)
    }

    /// A table that speaks for itself.
    fn unnamed(&mut self, survey: &Survey, file: FileNumber, condition: &Condition) -> Result<()> {
        let path = survey.path(FileName::Table(file));
        match condition {
            Condition::Foreign => {
                self.doubts.push(format!("{} is of another database, and is set aside", path.display()));
            }
            Condition::Sound(table) if is_dropped(survey, table.origin()) => self.set_aside_dropped(&path),
            Condition::Sound(table) => {
                let (owner, level, epoch) = self.origin(file, table.origin())?;
                self.items.push(Item {
                    file,
                    owner,
                    level,
                    epoch,
                    kind: Some(kind_of(table)),
                    bounds: table.summary().bounds.clone(),
                    source: Source::Sound(table.clone()),
                    as_told: false,
                    is_named: false,
                });
            }
            Condition::Damaged(error) => {
                let Some(scan) = survey.scan(file)? else {
                    if is_blank(survey, &path)? {
                        self.doubts.push(format!(
                            "{} holds nothing but zeros: it was never finished, and nothing is lost, or all of it was lost",
                            path.display()
                        ));
                        return Ok(());
                    }
                    self.losses.push((
                        Owner::Unknown(file),
                        Loss {
                            kind: LossKind::File,
                            keyspace: None,
                            file: path,
                            range: None,
                            sequences: None,
                            entries: None,
                            reason: format!("nothing in it verifies ({error})"),
                        },
                    ));
                    return Ok(());
                };
                if is_dropped(survey, scan.origin.as_ref()) {
                    self.set_aside_dropped(&path);
                    return Ok(());
                }
                let (owner, level, epoch) = self.origin(file, scan.origin.as_ref())?;
                let bounds =
                    scan.summary.as_ref().map_or_else(KeyRange::all, |summary| summary.bounds.clone());
                let item = Item {
                    file,
                    owner,
                    level,
                    epoch,
                    kind: Some(kind_of_scan(&scan)),
                    bounds,
                    source: Source::Damaged,
                    as_told: false,
                    is_named: false,
                };
                self.lose(survey, &item, &scan, None);
                self.items.push(item);
            }
        }
        Ok(())
    }

    /// A table of a keyspace that is no more does not bring it back.
    fn set_aside_dropped(&mut self, path: &Path) {
        self.doubts.push(format!("{} is of a keyspace that was dropped, and is set aside", path.display()));
    }

    /// What a table says of its place: the keyspace is made known.
    fn origin(&mut self, file: FileNumber, origin: Option<&TableOrigin>) -> Result<(Owner, usize, u64)> {
        let Some(origin) = origin else { return Ok((Owner::Unknown(file), 0, 0)) };
        let id = KeyspaceId::new(origin.keyspace)?;
        self.keyspaces.get_or_insert_with(id, || (Arc::clone(&origin.name), origin.kind));
        let level = usize::try_from(origin.level).unwrap_or(0).min(LEVEL_COUNT - 1);
        Ok((Owner::Known(id), level, origin.epoch))
    }

    fn lose(&mut self, survey: &Survey, item: &Item, scan: &TableScan, told: Option<&Arc<TableReference>>) {
        let from_summary = scan.summary.as_ref().map(|summary| (summary.sequence_min, summary.sequence_max));
        let sequences = from_summary.or(told.map(|told| (told.sequence_min, told.sequence_max)));
        let sequences = sequences.map(|(min, max): (SequenceNumber, SequenceNumber)| (min, Some(max)));
        let unfinished = match told.is_none() && scan.is_cut() {
            true => "; the file has no end, and if it was never finished, nothing is lost by that",
            false => "",
        };
        let draft = |kind, range| Loss {
            kind,
            keyspace: None,
            file: survey.path(FileName::Table(item.file)),
            range: Some(range),
            sequences,
            entries: None,
            reason: String::new(),
        };
        // Where the table's own figures are gone there are those of the manifest.
        let entries_lost =
            scan.entries_lost.or_else(|| told.map(|told| told.entries.saturating_sub(scan.entries)));
        for lost in scan.lost.iter().filter(|_| entries_lost != Some(0)) {
            let Some(range) = lost.range.intersection(&item.bounds) else { continue };
            let loss = Loss {
                entries: entries_lost,
                reason: format!("{} bytes at {} do not verify{unfinished}", lost.bytes, lost.offset),
                ..draft(LossKind::Entries, range)
            };
            self.losses.push((item.owner.clone(), loss));
        }
        let has_gap = !scan.lost.is_empty();
        if !has_gap && scan.entries_lost.is_some_and(|lost| lost > 0) {
            // They are counted and no bytes are missing: a writer with a bug.
            let loss = Loss {
                entries: scan.entries_lost,
                reason: "the table counts more entries than are in it".to_owned(),
                ..draft(LossKind::Entries, item.bounds.clone())
            };
            self.losses.push((item.owner.clone(), loss));
        }
        if scan.lost_tombstones {
            let loss = Loss {
                reason: format!("the block of deleted ranges does not verify, if there was one{unfinished}"),
                ..draft(LossKind::RangeDeletions, item.bounds.clone())
            };
            self.losses.push((item.owner.clone(), loss));
        }
    }
}

/// The kind of keyspace into which a table fits.
fn kind_of(table: &AnyTable) -> KeyspaceKind {
    match table {
        AnyTable::Sorted(_) => KeyspaceKind::Sorted,
        AnyTable::Fixed(table) => KeyspaceKind::Fixed(table.widths()),
    }
}

fn kind_of_scan(scan: &TableScan) -> KeyspaceKind {
    scan.rows().map_or(KeyspaceKind::Sorted, |(widths, _)| KeyspaceKind::Fixed(widths))
}

/// Whether a table says of itself what the manifest says of it.
fn agrees(table: &AnyTable, reference: &TableReference) -> bool {
    let summary = table.summary();
    summary.bounds.encloses(&reference.bounds)
        && (summary.sequence_min, summary.sequence_max) == (reference.sequence_min, reference.sequence_max)
        && (summary.entries, summary.deletions + summary.range_tombstones)
            == (reference.entries, reference.deletions)
}

/// Whether a file holds nothing, or zeros alone, that could be read.
fn is_blank(survey: &Survey, path: &Path) -> Result<bool> {
    if survey.tolerant.unread_bytes(path) > 0 {
        return Ok(false);
    }
    let file = survey.fs.open_read(path).context("open a table", path)?;
    let length = file.len().context("ask a table for its length", path)?;
    let mut piece = vec![0; 1 << 16];
    let mut at = 0;
    while at < length {
        let count = file.read_at(&mut piece, at).context("read a table", path)?;
        if count == 0 {
            break;
        }
        if piece.iter().take(count).any(|byte| *byte != 0) {
            return Ok(false);
        }
        at += count as u64;
    }
    Ok(true)
}

/// Whether a table says that it is of a keyspace that the manifest says was dropped.
fn is_dropped(survey: &Survey, origin: Option<&TableOrigin>) -> bool {
    let id = origin.and_then(|origin| KeyspaceId::new(origin.keyspace).ok());
    id.is_some_and(|id| survey.told.as_ref().is_some_and(|told| told.is_dropped(id)))
}
