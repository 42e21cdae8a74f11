//! Everything of a database merged, on request; and what others need merged meanwhile.
//!
//! That may take long, and whoever writes fills level 0 meanwhile. So what is merged is *held*: other merges keep away from its tables, as from those that cannot be read, and
//! writers pay nothing for them; nor for what was merged already, which stays one run until all is done. A second merge runs beside, a step of one and a step of the other: of whatever
//! is wanted; of a keyspace that is being merged or was, only what came into level 0 since, which stays there, above all that is held.

use std::collections::HashSet;
use std::sync::{Arc, Weak};

use crate::batch::KeyspaceId;
use crate::compaction::job::Job;
use crate::compaction::late;
use crate::compaction::pick::{Pick, pick_all};
use crate::compaction::run::Stepped;
use crate::engine::Engine;
use crate::error::Result;
use crate::levels::{KeyspaceView, TableReference, View};
use crate::options::DEEP_LEVEL;
use crate::row::KeyspaceKind;

/// The merge beside the one that was asked for.
#[derive(Debug, Default)]
struct Beside {
    job: Option<Job>,
    /// What was looked at last, and wanted nothing.
    looked_at: Weak<View>,
}

/// The right to have others keep away from tables: in the end none is held.
struct Held<'a>(&'a Engine);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.avoided.lock().let_go();
    }
}

impl Beside {
    fn has_looked_at(&self, view: &Arc<View>) -> bool {
        Weak::ptr_eq(&self.looked_at, &Arc::downgrade(view))
    }
}

/// Where all of a keyspace goes, or deeper.
fn level_min(kind: KeyspaceKind) -> usize {
    match kind {
        KeyspaceKind::Sorted => DEEP_LEVEL,
        KeyspaceKind::Fixed(_) => 1,
    }
}

impl Engine {
    /// Merges all tables of each keyspace into one run each, those too that merges keep away from, and compresses what was not.
    ///
    /// # Errors
    /// Closed, if that comes between: whoever closes waits for one step, not for all; ReadOnly; Failed; those of writing; the first one of reading, after
    /// the other keyspaces are done.
    pub(crate) fn compact_all(&self) -> Result<()> {
        let mut job = self.compaction_job.lock();
        self.check_writable()?;
        while job.is_some() {
            self.check_writable()?;
            self.step_job(&mut job)?;
        }
        let mut beside = Beside::default();
        let held = Held(self);
        let compacted = self.compact_each(&mut job, &mut beside);
        drop(held);
        // There is one where something failed, or the database was closed.
        self.drop_merge(&mut job);
        // Whoever merges goes on with what was begun beside.
        *job = beside.job.take();
        drop(job);
        self.notify();
        self.events.deliver();
        compacted
    }

    fn compact_each(&self, job: &mut Option<Job>, beside: &mut Beside) -> Result<()> {
        let mut unread = Ok(());
        let keyspaces: Vec<KeyspaceId> = self.view().keyspaces.keys().copied().collect();
        for id in keyspaces {
            let all = |keyspace: &KeyspaceView| pick_all(&keyspace.tables.tree, level_min(keyspace.kind));
            let merged = self.merge_now(job, beside, id, all)?.unwrap_or(Ok(()));
            if merged.is_err() {
                unread = unread.and(merged);
                continue;
            }
            // Each once: one that cannot be read stays what it is.
            let mut tried = HashSet::new();
            let place =
                |level: usize, table: &TableReference| (level, table.file, table.bounds.lower.clone());
            let mut late = |keyspace: &KeyspaceView| {
                let is_tried = |level, table: &TableReference| tried.contains(&place(level, table));
                let pick = late::pick(&keyspace.tables, &self.tuning, late::ON_REQUEST, is_tried)?;
                tried.extend(pick.inputs.iter().map(|(level, table)| place(*level, table)));
                Some(pick)
            };
            while let Some(done) = self.merge_now(job, beside, id, &mut late)? {
                unread = unread.and(done);
            }
        }
        unread
    }

    /// Does what is picked of a keyspace, to its end; `None` where nothing is, and the error if it could not be read.
    fn merge_now(
        &self,
        job: &mut Option<Job>,
        beside: &mut Beside,
        id: KeyspaceId,
        pick: impl FnOnce(&KeyspaceView) -> Option<Pick>,
    ) -> Result<Option<Result<()>>> {
        // It may be about to write what is to be picked.
        while beside.job.is_some() {
            self.check_writable()?;
            self.step_job(&mut beside.job)?;
        }
        let view = self.view();
        let Some(keyspace) = view.keyspaces.get(&id) else { return Ok(None) };
        let Some(pick) = pick(keyspace) else { return Ok(None) };
        self.check_writable()?;
        self.avoided.lock().hold(id, pick.inputs.iter().map(|(_, table)| table.file));
        // Nobody pays for those any more.
        self.notify();
        let mut unread = Ok(());
        match self.begin_job(id, keyspace, pick) {
            Ok(begun) => *job = Some(begun),
            Err(error) => unread = Err(error),
        }
        // What is merged is kept in memory no longer than the merge needs it.
        drop(view);
        while job.is_some() {
            self.check_writable()?;
            self.step_beside(beside)?;
            if let Stepped::GivenUp(error) = self.step_job(job)? {
                unread = unread.and(Err(error));
            }
        }
        match unread {
            Ok(()) => self.hold_merged(id),
            Err(_) => self.avoided.lock().let_go_of(id),
        }
        // There may be fewer tables now, and writers who wait for that.
        self.notify();
        Ok(Some(unread))
    }

    /// A keyspace is merged: others keep away from what came of it.
    fn hold_merged(&self, id: KeyspaceId) {
        let view = self.view();
        let tables = view.keyspaces.get(&id).into_iter().flat_map(|keyspace| keyspace.tables.tree.tables());
        let merged = tables.filter(|(level, _)| *level > 0).map(|(_, table)| table.file);
        self.avoided.lock().hold(id, merged);
    }

    /// Runs a step of the merge beside that of what is held, starting one where one is wanted.
    fn step_beside(&self, beside: &mut Beside) -> Result<()> {
        if beside.job.is_some() {
            self.step_job(&mut beside.job)?;
            if beside.job.is_none() {
                self.notify();
            }
            return Ok(());
        }
        let view = self.view();
        if beside.has_looked_at(&view) {
            return Ok(());
        }
        match self.wanted(&view, &self.tuning, self.clock.now()) {
            Some((id, pick)) => beside.job = self.begin_picked(&view, id, pick)?,
            None => beside.looked_at = Arc::downgrade(&view),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::compaction::tiered;
    use crate::engine::Progress;
    use crate::fs::MemFs;
    use crate::{Background, Db, Keyspace, KeyspaceOptions, Tuning};

    type Model = BTreeMap<Vec<u8>, Vec<u8>>;
    type Inputs = Vec<(usize, Arc<TableReference>)>;

    const LEVEL0: usize = 3;

    fn open() -> Db {
        let tuning = Tuning {
            level0_tables: LEVEL0,
            level0_tables_slow: 2 * LEVEL0,
            level1_bytes: 8 << 10,
            tier_runs: LEVEL0,
            step_entries: 4,
            table_bytes: 4 << 10,
            ..Tuning::for_memory(1 << 20)
        };
        Db::builder("/db")
            .file_system(Arc::new(MemFs::new()))
            .background(Background::Manual)
            .memory_bytes(1 << 20)
            .tuning(tuning)
            .open()
            .unwrap()
    }

    fn write(keyspace: &Keyspace, model: &mut Model, round: u64) {
        for number in 0..100 {
            // Every other round between the keys of the others, as far as there is a between.
            let key = (number * 1000 + round % 7 * 100 + round % 2 * 7).to_be_bytes();
            let value = (round * 1000 + number).to_be_bytes();
            if (number + round).is_multiple_of(5) {
                keyspace.delete(key).unwrap();
                model.remove(&key[..]);
            } else {
                keyspace.put(key, value).unwrap();
                model.insert(key.to_vec(), value.to_vec());
            }
        }
    }

    fn is_as(keyspace: &Keyspace, model: &Model) -> bool {
        let all = keyspace.iter().map(|entry| entry.map(|(key, value)| (key.to_vec(), value.to_vec())));
        all.collect::<Result<Model>>().unwrap() == *model
    }

    /// How many runs level 0 has.
    fn level0(db: &Db, keyspace: &Keyspace) -> usize {
        tiered::runs(&db.engine().view().keyspaces.get(&keyspace.id()).unwrap().tables.tree).count()
    }

    /// All of keyspace `a` is merged step by step while both are written to and flushed.
    fn merged_beside_a_writer(options: KeyspaceOptions) {
        let db = open();
        let engine = db.engine();
        let keyspaces = ["a", "b"].map(|name| db.keyspace(name, options.clone()).unwrap());
        let mut models = [Model::new(), Model::new()];
        let mut rounds = 0;
        let mut write_and_flush = |models: &mut [Model; 2]| {
            rounds += 1;
            for (keyspace, model) in keyspaces.iter().zip(models) {
                write(keyspace, model, rounds);
            }
            while db.engine().flush_step().unwrap() == Progress::Working {}
            engine.flush().unwrap();
        };
        for _ in 0..2 * LEVEL0 {
            write_and_flush(&mut models);
        }
        let [before, _] = models.clone();
        let snapshot = db.snapshot();
        let mut beside = Beside::default();
        let (held, mut job, inputs) = begin(engine, &keyspaces[0]);
        let (mut written, mut most) = (0, 0);
        while job.is_some() {
            if written < 6 * LEVEL0 {
                write_and_flush(&mut models);
                written += 1;
            }
            run_beside(engine, &mut beside);
            most = keyspaces.iter().map(|keyspace| level0(&db, keyspace)).fold(most, usize::max);
            assert!(engine.manifest.lock().levels().holds(keyspaces[0].id(), &inputs), "what is held stays");
            assert!(!engine.debt().is_felt());
            engine.step_job(&mut job).unwrap();
        }
        assert_eq!(written, 6 * LEVEL0, "it takes as many steps");
        assert!(most < 4 * LEVEL0, "{most} runs in level 0");
        // What it became stays as it is until all is merged.
        engine.hold_merged(keyspaces[0].id());
        let below = || {
            engine
                .view()
                .keyspaces
                .get(&keyspaces[0].id())
                .unwrap()
                .tables
                .tree
                .tables()
                .filter(|(level, _)| *level > 0)
                .map(|(level, table)| (level, table.file))
                .collect::<Vec<_>>()
        };
        let merged = below();
        for _ in 0..6 * LEVEL0 {
            write_and_flush(&mut models);
            run_beside(engine, &mut beside);
            assert!(!engine.debt().is_felt() && level0(&db, &keyspaces[0]) < 4 * LEVEL0);
        }
        assert_eq!(below(), merged);
        engine.drop_merge(&mut beside.job);
        drop(held);
        for (keyspace, model) in keyspaces.iter().zip(&models) {
            assert!(is_as(keyspace, model));
        }
        let seen = snapshot
            .iter(&keyspaces[0])
            .map(|entry| entry.map(|(key, value)| (key.to_vec(), value.to_vec())));
        assert!(seen.collect::<Result<Model>>().unwrap() == before);
        drop(snapshot);
        let report = db.check().unwrap();
        assert!(report.is_clean(), "{report:?}");
        db.compact().unwrap();
        for (keyspace, model) in keyspaces.iter().zip(&models) {
            assert!(is_as(keyspace, model));
            assert_eq!(level0(&db, keyspace), 0);
        }
        assert!(db.check().unwrap().is_clean());
    }

    /// Begins the merge of all of a keyspace; which tables that takes.
    fn begin<'a>(engine: &'a Engine, keyspace: &Keyspace) -> (Held<'a>, Option<Job>, Inputs) {
        let view = engine.view();
        let id = keyspace.id();
        let keyspace = view.keyspaces.get(&id).unwrap();
        let pick = pick_all(&keyspace.tables.tree, level_min(keyspace.kind)).unwrap();
        let inputs = pick.inputs.clone();
        engine.avoided.lock().hold(id, inputs.iter().map(|(_, table)| table.file));
        (Held(engine), Some(engine.begin_job(id, keyspace, pick).unwrap()), inputs)
    }

    /// As a thread that keeps up: whatever is wanted is done.
    fn run_beside(engine: &Engine, beside: &mut Beside) {
        while beside.job.is_some() || !beside.has_looked_at(&engine.view()) {
            engine.step_beside(beside).unwrap();
        }
    }

    #[test]
    fn nothing_goes_down_between_tables_that_are_held() {
        let db = open();
        let keyspace = db.keyspace("a", KeyspaceOptions::sorted()).unwrap();
        let mut model = Model::new();
        let write = |model: &mut Model, keys: &mut dyn Iterator<Item = u64>| {
            for key in keys {
                // Nothing that could be compressed.
                let value: Vec<u8> = (1..8)
                    .flat_map(|part| (key * part).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes())
                    .collect();
                keyspace.put(key.to_be_bytes(), &value).unwrap();
                model.insert(key.to_be_bytes().to_vec(), value);
            }
            db.flush().unwrap();
        };
        // With room between one key and the next.
        let deep = (1..500).map(|number| number * 1000);
        write(&mut model, &mut deep.clone());
        db.compact().unwrap();
        // What comes in here moves the places where tables end.
        for _ in 0..LEVEL0 {
            write(&mut model, &mut (1..30));
        }
        while db.step().unwrap() == Progress::Working {}
        let levels = || db.stats().keyspaces.first().unwrap().level_tables.clone();
        assert_eq!(levels().get(..2), Some(&[0, 1][..]), "{:?}", levels());
        let first = {
            let view = db.engine().view();
            let tree = &view.keyspaces.get(&keyspace.id()).unwrap().tables.tree;
            let first = tree.level(DEEP_LEVEL).first().unwrap();
            deep.filter(|key| first.bounds.contains(&key.to_be_bytes())).max().unwrap()
        };
        let engine = db.engine();
        let mut beside = Beside::default();
        let (held, mut job, _) = begin(engine, &keyspace);
        // More than level 1 may hold.
        for _ in 0..4 * LEVEL0 {
            write(&mut model, &mut (first + 100..first + 400));
            run_beside(engine, &mut beside);
        }
        while job.is_some() {
            engine.step_job(&mut job).unwrap();
        }
        drop(held);
        assert!(is_as(&keyspace, &model) && db.check().unwrap().is_clean());
    }

    #[test]
    fn what_comes_meanwhile_is_merged_above_what_is_held() {
        merged_beside_a_writer(KeyspaceOptions::sorted());
    }

    #[test]
    fn so_are_runs_of_rows() {
        merged_beside_a_writer(KeyspaceOptions::fixed(8, 8).unwrap());
    }
}
