//! From what is there to what will be: marks, logs, damaged tables, order, a new manifest.

use std::sync::Arc;

use crate::batch::KeyspaceId;
use crate::check::{CheckReport, check_order};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::filename::{FileName, FileNumber};
use crate::key::{SEQUENCE_MAX, SequenceNumber};
use crate::levels::{Change, Edit, KeyspaceView, Levels, OpenTable, OpenTree, TableReference};
use crate::memtable::{Memtable, Supply};
use crate::ordered::{OrderedMap, OrderedSet};
use crate::recover::next_file;
use crate::repair::install::install;
use crate::repair::items::{Item, Items, Owner, Source};
use crate::repair::keyspaces::origin;
use crate::repair::logs::{Logs, Lost};
use crate::repair::place::{Piece, place, runs};
use crate::repair::replay::{Replay, Replayed};
use crate::repair::report::{ManifestCondition, RepairReport, RepairedTable, TableFate};
use crate::repair::survey::Survey;
use crate::repair::workshop::Workshop;
use crate::row::KeyspaceKind;
use crate::table::AnyTable;

/// The doubts that remain where the manifest does not say what belongs to the database.
const DOUBT_OF_MISSING: &str = "nothing says which tables and logs there should be: if others were there that are not, what they held is missing";
const DOUBT_OF_TAKEN_IN: &str = "tables were taken in on their own word: one that had been merged away, and was not yet removed, looks like any other, so that \
                     something that was deleted or replaced may be back";

/// See the module.
#[derive(Debug)]
pub(super) struct Rebuild {
    pub(super) survey: Survey,
    pub(super) items: Items,
    pub(super) report: RepairReport,
}

impl Rebuild {
    pub(super) fn new(survey: Survey) -> Result<Self> {
        let items = Items::gather(&survey)?;
        Ok(Self { survey, items, report: RepairReport::new() })
    }

    /// Does it, or says what it would do.
    pub(super) fn run(mut self, dry_run: bool) -> Result<RepairReport> {
        self.report.manifest = self.manifest_condition();
        let disordered = self.disordered()?;
        let mut lost = Lost::default();
        let logs_fault = self.logs_fault()?;
        let all_as_told = self.items.items.iter().all(|item| item.as_told);
        if self.survey.distrust().is_none() && all_as_told && disordered.is_empty() && logs_fault.is_none() {
            self.report.was_sound = true;
            self.report.tables_kept = self.items.items.len() as u64;
            return Ok(self.report);
        }
        if let Some(fault) = &logs_fault {
            self.survey.fault(fault.clone());
        }
        let replay = match self.survey.distrust().is_some() || logs_fault.is_some() {
            true => Some(self.replay(&mut lost)?),
            false => None,
        };
        if let Some(replay) = &replay {
            let every = self.flushed_in_every(&replay.marks);
            let tolerant = self.survey.tolerant.clone();
            Logs::judge(&replay.recovery, every, |path| tolerant.unread_bytes(path), &mut lost);
            self.report.logs.clone_from(&replay.recovery.logs);
        }
        if self.survey.distrust().is_some() {
            self.items.doubts.push(DOUBT_OF_MISSING.to_owned());
            if self.items.items.iter().any(|item| !item.is_named) {
                self.items.doubts.push(DOUBT_OF_TAKEN_IN.to_owned());
            }
        }
        if dry_run {
            self.tell(lost, &OrderedMap::new());
            return Ok(self.report);
        }
        self.rebuild(replay, lost, &disordered)
    }

    fn manifest_condition(&self) -> ManifestCondition {
        match (&self.survey.told, self.survey.distrust()) {
            (None, _) => ManifestCondition::Missing,
            (Some(_), None) => ManifestCondition::Whole,
            (Some(told), Some(reason)) => {
                ManifestCondition::Damaged { edits: told.edits, reason: reason.to_owned() }
            }
        }
    }

    /// The keyspaces whose tables are all sound and do not stand in order, of a manifest that is trusted.
    fn disordered(&mut self) -> Result<OrderedSet<KeyspaceId>> {
        let mut disordered = OrderedSet::new();
        let Some(levels) = self.survey.trusted().cloned() else { return Ok(disordered) };
        for (id, record) in &levels.keyspaces {
            let mut tables: OrderedMap<FileNumber, AnyTable> = OrderedMap::new();
            for item in self.items.items.iter().filter(|item| item.owner == Owner::Known(*id)) {
                if let (true, Source::Sound(table)) = (item.as_told, &item.source) {
                    tables.insert(item.file, table.clone());
                }
            }
            let open = |reference: &Arc<TableReference>| {
                let table = tables.get(&reference.file).cloned();
                table.ok_or_else(|| Error::new(ErrorKind::NotFound, "looked at elsewhere"))
            };
            // Where one is missing or damaged, the order is found out anew anyway.
            let Ok(tree) = OpenTree::new(Arc::clone(&record.tree), open) else { continue };
            let view = KeyspaceView {
                name: Arc::clone(&record.name),
                kind: record.kind,
                active: Memtable::charged(record.kind, 0, &Supply::default()),
                frozen: Vec::new(),
                tables: Arc::new(tree),
            };
            let mut report = CheckReport::default();
            check_order(&view, SEQUENCE_MAX, &mut report)?;
            if !report.is_clean() {
                disordered.insert(*id);
                report.faults.into_iter().for_each(|fault| self.survey.fault(fault));
            }
        }
        Ok(disordered)
    }

    fn rebuild(
        mut self,
        replay: Option<Replay>,
        mut lost: Lost,
        disordered: &OrderedSet<KeyspaceId>,
    ) -> Result<RepairReport> {
        let mut workshop = Workshop::open(
            &self.survey.fs,
            &self.survey.directory,
            self.survey.database,
            self.next_number()?,
        )?;
        let mut replayed = Replayed::default();
        if let Some(replay) = &replay {
            replayed.read(&self.survey, &self.items, replay, &mut workshop, &mut lost)?;
        }
        let ids = self.settle_keyspaces(replayed.tables.keys().copied());
        let mut next_sequence = self.next_sequence();
        if let Some(replay) = &replay {
            next_sequence = next_sequence.max(replay.recovery.next_sequence);
        }
        let mut pieces: OrderedMap<KeyspaceId, Vec<Piece>> = OrderedMap::new();
        let mut changed: OrderedSet<KeyspaceId> = disordered.clone();
        for item in std::mem::take(&mut self.items.items) {
            let Some(id) = ids.get(&item.owner).copied() else { continue };
            if !item.as_told || self.survey.distrust().is_some() {
                changed.insert(id);
            }
            pieces.get_or_insert_with(id, Vec::new).extend(self.piece(&item, id, &mut workshop)?);
        }
        for (id, tables) in replayed.tables {
            changed.insert(id);
            pieces.get_or_insert_with(id, Vec::new).extend(tables);
        }
        let mut trees = OrderedMap::new();
        for (id, pieces) in pieces {
            let tree = match changed.contains(&id) {
                true => self.order(id, pieces, &mut workshop)?,
                false => pieces.into_iter().map(|piece| (piece.level, piece.open.reference)).collect(),
            };
            trees.insert(id, tree);
        }
        let tables = trees.values().flatten();
        next_sequence =
            tables.map(|(_, table)| table.sequence_max + 1).chain([next_sequence]).max().unwrap_or(1);
        let is_nothing = |replay: &Replay| replay.recovery.logs.iter().all(|log| log.records == 0);
        if self.survey.told.as_ref().is_none_or(|told| told.edits == 0)
            && trees.is_empty()
            && replay.as_ref().is_none_or(is_nothing)
        {
            let what = "nothing here verifies: no edit, no table, no log. Restore the directory from a copy";
            return Err(Error::corruption(what).at(&self.survey.directory));
        }
        self.tell(lost, &ids);
        let levels = self.levels(&trees, replay.is_some(), next_sequence, workshop.next_number())?;
        let kept: OrderedSet<FileName> = trees
            .values()
            .flatten()
            .map(|(_, table)| FileName::Table(table.file))
            .chain(levels.logs.keys().map(|log| FileName::Log(*log)))
            .collect();
        let survey = &self.survey;
        let aside: Vec<FileName> = survey
            .names
            .iter()
            .copied()
            .filter(|name| name.number().is_some() && !kept.contains(name))
            .collect();
        let on_disk = |(_, table): &&(usize, Arc<TableReference>)| !workshop.made().contains_key(&table.file);
        self.report.tables_kept = trees.values().flatten().filter(on_disk).count() as u64;
        self.report.set_aside =
            install(&survey.fs, &survey.directory, survey.trusted(), &levels, &workshop, &aside)?;
        Ok(self.report)
    }

    /// Above every number that is in use, or was set aside.
    fn next_number(&self) -> Result<FileNumber> {
        let survey = &self.survey;
        let known = survey.told.as_ref().map_or(1, |told| told.next_file).max(1);
        let lost = FileName::Lost.path(&survey.directory);
        let mut names = survey.names.clone();
        if survey.fs.exists(&lost).context("look for", &lost)? {
            let set_aside = survey.fs.read_dir(&lost).context("list the directory", &lost)?;
            names.extend(set_aside.iter().filter_map(|path| {
                let number = path.file_name()?.to_str()?.split('.').next()?.parse().ok()?;
                Some(FileName::Table(number))
            }));
        }
        Ok(next_file(&names, known).max(known))
    }

    fn next_sequence(&self) -> SequenceNumber {
        let told = self.survey.told.iter().flat_map(|told| {
            told.flushed
                .values()
                .map(|mark| mark + 1)
                .chain([told.next_sequence])
                .chain(told.tables.values().map(|told| told.table.sequence_max + 1))
        });
        told.max().unwrap_or(1).max(1)
    }

    /// The table of an item: as it is, or what can be read of it.
    fn piece(&mut self, item: &Item, id: KeyspaceId, workshop: &mut Workshop) -> Result<Option<Piece>> {
        let name = self.items.keyspaces.get(&id).map(|(name, _)| name.to_string());
        let mut repaired = RepairedTable {
            file: self.survey.path(FileName::Table(item.file)),
            keyspace: name,
            fate: TableFate::Lost,
            entries: 0,
        };
        let piece = match &item.source {
            Source::Sound(table) => {
                let whole = TableReference::whole(item.file, table.summary(), item.epoch);
                let reference = TableReference { bounds: item.bounds.clone(), ..whole };
                if item.is_named {
                    let open = OpenTable::new(Arc::new(reference), table.clone());
                    return Ok(Some(Piece { open, level: item.level }));
                }
                repaired.fate = TableFate::TakenIn;
                let open = OpenTable::new(Arc::new(reference), table.clone());
                Some(Piece { open, level: item.level })
            }
            Source::Damaged => match self.survey.scan(item.file)? {
                Some(scan) => {
                    let origin = origin(&self.items, id, item.level, item.epoch);
                    let piece = workshop.salvage(&scan, &item.bounds, &origin)?;
                    if piece.is_some() {
                        repaired.fate = TableFate::Salvaged;
                    }
                    piece
                }
                None => None,
            },
            Source::Missing => None,
        };
        if matches!(item.source, Source::Missing) && self.survey.distrust().is_some() {
            // It is in the doubts, or in the losses.
            return Ok(None);
        }
        repaired.entries = piece.as_ref().map_or(0, |piece| piece.open.reference.entries);
        self.report.tables.push(repaired);
        Ok(piece)
    }

    /// Where each table of a keyspace stands; they are merged if it must be.
    fn order(
        &mut self,
        id: KeyspaceId,
        pieces: Vec<Piece>,
        workshop: &mut Workshop,
    ) -> Result<Vec<(usize, Arc<TableReference>)>> {
        match self.items.keyspaces.get(&id).map(|(_, kind)| *kind) {
            Some(KeyspaceKind::Fixed(_)) => self.order_runs(id, pieces, workshop),
            _ => self.order_levels(id, pieces, workshop),
        }
    }

    fn order_levels(
        &mut self,
        id: KeyspaceId,
        pieces: Vec<Piece>,
        workshop: &mut Workshop,
    ) -> Result<Vec<(usize, Arc<TableReference>)>> {
        let (levels, pieces) = match place(&pieces)? {
            Some(levels) => (levels, pieces),
            None => {
                let deepest = pieces.iter().map(|piece| piece.level).max().unwrap_or(0).max(1);
                let merged = self.merge(id, deepest, &pieces, workshop)?;
                (vec![deepest; merged.len()], merged)
            }
        };
        let mut placed: Vec<(usize, Arc<TableReference>)> =
            levels.into_iter().zip(pieces).map(|(level, piece)| (level, piece.open.reference)).collect();
        // Level 0 is ordered by epochs, which must be those of its tables' ages.
        placed.sort_by_key(|(_, table)| table.sequence_max);
        let mut epoch = placed.iter().map(|(_, table)| table.epoch).max().unwrap_or(0);
        for (_, table) in placed.iter_mut().filter(|(level, _)| *level == 0) {
            epoch = epoch.saturating_add(1);
            *table = Arc::new(TableReference { epoch, ..TableReference::clone(table) });
        }
        Ok(placed)
    }

    /// Of a keyspace with fixed widths: the oldest run in level 1, the others above it, each of one epoch.
    fn order_runs(
        &mut self,
        id: KeyspaceId,
        pieces: Vec<Piece>,
        workshop: &mut Workshop,
    ) -> Result<Vec<(usize, Arc<TableReference>)>> {
        let mut epoch = pieces.iter().map(|piece| piece.open.reference.epoch).max().unwrap_or(0);
        let mut placed = Vec::new();
        for (place, run) in runs(pieces).into_iter().enumerate() {
            let level = usize::from(place == 0);
            let tables = match run.is_disjoint {
                true => run.pieces,
                false => self.merge(id, level, &run.pieces, workshop)?,
            };
            epoch = epoch.saturating_add(1);
            placed.extend(tables.into_iter().map(|piece| {
                let reference = TableReference { epoch, ..TableReference::clone(&piece.open.reference) };
                (level, Arc::new(reference))
            }));
        }
        Ok(placed)
    }

    /// Puts tables into one run that says the same.
    fn merge(
        &mut self,
        id: KeyspaceId,
        level: usize,
        pieces: &[Piece],
        workshop: &mut Workshop,
    ) -> Result<Vec<Piece>> {
        let epoch = pieces.iter().map(|piece| piece.open.reference.epoch).max().unwrap_or(0);
        let merged = workshop.merge(pieces, &origin(&self.items, id, level, epoch))?;
        for piece in pieces {
            let file = piece.open.reference.file;
            if workshop.made().contains_key(&file) {
                workshop.discard(file)?;
                continue;
            }
            self.report.tables.push(RepairedTable {
                file: self.survey.path(FileName::Table(file)),
                keyspace: self.items.keyspaces.get(&id).map(|(name, _)| name.to_string()),
                fate: TableFate::Merged,
                entries: piece.open.reference.entries,
            });
        }
        Ok(merged)
    }

    /// All that the new manifest says.
    fn levels(
        &self,
        trees: &OrderedMap<KeyspaceId, Vec<(usize, Arc<TableReference>)>>,
        replayed: bool,
        next_sequence: SequenceNumber,
        next_file: FileNumber,
    ) -> Result<Levels> {
        let mut changes = vec![Change::NextFile(next_file), Change::NextSequence(next_sequence)];
        for (id, (name, kind)) in &self.items.keyspaces {
            changes.push(Change::Keyspace { id: *id, name: Arc::clone(name), kind: *kind });
            let told = self.survey.trusted().and_then(|levels| levels.keyspaces.get(id));
            let through = match replayed {
                true => next_sequence.saturating_sub(1),
                false => told.map_or(0, |record| record.flushed),
            };
            changes.push(Change::Flushed { keyspace: *id, through });
            changes.extend(trees.get(id).into_iter().flatten().map(|(level, table)| Change::TableAdded {
                keyspace: *id,
                level: *level,
                table: Arc::clone(table),
            }));
        }
        // Numbers of keyspaces are never given again.
        if let Some(told) = &self.survey.told {
            let largest = self.items.keyspaces.keys().next_back().copied();
            if let Some(last) = told.keyspace_last.max(largest)
                && (Some(last) > largest || told.flushed_dropped > 0)
            {
                changes.push(Change::KeyspacesDropped { last, flushed: told.flushed_dropped });
            }
        }
        if let (false, Some(levels)) = (replayed, self.survey.trusted()) {
            for (number, log) in &levels.logs {
                changes.push(Change::LogAdded { number: *number, identity: log.identity });
                changes.extend(log.cut.map(|cut| Change::LogCut { number: *number, cut }));
            }
        }
        Levels::new(self.survey.database).apply(&Edit { changes })
    }

    /// Puts everything into the report.
    fn tell(&mut self, lost: Lost, ids: &OrderedMap<Owner, KeyspaceId>) {
        for (owner, mut loss) in std::mem::take(&mut self.items.losses) {
            let id = match &owner {
                Owner::Known(id) => Some(*id),
                Owner::Unknown(_) => ids.get(&owner).copied(),
            };
            loss.keyspace = id.and_then(|id| self.items.keyspaces.get(&id)).map(|(name, _)| name.to_string());
            self.report.losses.push(loss);
        }
        self.report.losses.extend(lost.losses);
        self.report.doubts.append(&mut self.items.doubts);
        self.report.doubts.extend(lost.doubts);
        self.report.faults.append(&mut self.survey.faults);
    }
}
