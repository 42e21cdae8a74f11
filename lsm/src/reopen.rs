//! Opening again after a failure, in the same process: the handles that are there work on.
//!
//! After a failed write or sync nothing is known of what was to become durable, and nothing is acknowledged. What the page cache shows of it proves nothing: a
//! failed sync takes its pages for clean, and they may never reach the medium. So the state is built anew, from what is known to be durable:
//!
//! 1. The log that was open is ended, if that is still possible; else it is cut where it is known to be durable. (If no sync has failed yet, but
//!    a write, what had been written is synced once more: then everything that was handed to the system counts.) Where one was sealed, and the next one not named
//!    yet, both are cut so; and if anything is lost of the first, nothing of the second counts.
//! 2. A fresh manifest says what was so before the edit that failed, if one did, and where the log is cut.
//! 3. The logs are replayed into new memtables, nothing at or above the cut. Frozen memtables go too: their logs are replayed with the others.
//! 4. What a flush or merge left that was under way is removed.
//!
//! What readers had seen of commits that are lost by this is gone from then on; snapshots and scans of before go on showing it. A transaction that was begun
//! before is refused: it may have read it.

use std::sync::Arc;

use crate::engine::{Engine, closed};
use crate::error::Result;
use crate::filename::FileName;
use crate::journal::{Access, Cut};
use crate::levels::{Change, Edit, KeyspaceRecord, KeyspaceView, Levels, OpenTree, View};
use crate::recover::{RecoveryReport, leftovers, list};
use crate::replay::Logs;
use crate::table::{AnyTable, ExpectedTable};
use crate::write::CommitState;

impl Engine {
    /// Opens again; `None` where nothing has failed. The threads have stopped, and are not started here.
    ///
    /// # Errors
    /// Closed; those of reading and writing, and of replaying, as when a database is opened: then it is as it was before the call.
    pub(crate) fn reopen(&self) -> Result<Option<RecoveryReport>> {
        let report = {
            let mut merge = self.compaction_job.lock();
            let mut flush = self.flush_job.lock();
            let mut state = self.commit.lock();
            if self.is_closed() {
                return Err(closed());
            }
            if self.check_healthy().is_ok() {
                return Ok(None);
            }
            self.drop_merge(&mut merge);
            *flush = None;
            let report = self.rebuild(&mut state)?;
            self.recover_from_failure(&state);
            self.events.tell(|| report.event(true));
            report
        };
        self.remove_obsolete();
        if report.is_lossy {
            self.heal(&report.logs)?;
        }
        self.notify();
        Ok(Some(report))
    }

    fn rebuild(&self, state: &mut CommitState) -> Result<RecoveryReport> {
        let turned = self.give_up_turn(state)?;
        let cut = if turned.is_none() { self.end_or_cut(state) } else { None };
        // Held until what the directory has too many is known: no log is made meanwhile that would be taken for one of those.
        let mut next_log = self.next_log.lock();
        *next_log = None;
        let levels = {
            let mut manifest = self.manifest.lock();
            manifest.renew();
            let mut changes = vec![Change::NextSequence(state.next_sequence)];
            changes.extend(turned.into_iter().flatten());
            if let Some((number, cut)) = cut
                && manifest.levels().logs.get(&number).is_some_and(|log| log.cut.is_none())
            {
                changes.push(Change::LogCut { number, cut });
            }
            manifest.commit(Edit { changes })?
        };
        self.forget_turn(state);
        let view = self.fresh_view(&levels)?;
        let logs =
            Logs { fs: &self.fs, directory: &self.directory, mode: self.recovery, access: Access::Write };
        let recovery = logs.replay(&levels, &view)?;
        let names = list(&self.fs, &self.directory)?;
        {
            let mut manifest = self.manifest.lock();
            // Everything that is in memory now was read from logs that are durable.
            manifest.journal_is_durable(recovery.last_sequence);
            let cuts =
                recovery.cuts.iter().map(|(number, cut)| Change::LogCut { number: *number, cut: *cut });
            let changes: Vec<Change> = cuts.collect();
            if !changes.is_empty() {
                manifest.commit(Edit { changes })?;
            }
            state.logs = manifest.levels().logs.keys().copied().collect();
            self.add_obsolete(leftovers(&names, manifest.levels(), &[], true).obsolete);
            self.install(|current| *current = view);
        }
        state.journal = None;
        state.previous = recovery.end;
        state.next_sequence = state.next_sequence.max(recovery.next_sequence);
        state.dropped_bytes = 0;
        Ok(RecoveryReport {
            is_new: false,
            batches: recovery.logs.iter().map(|log| log.batches).sum(),
            last_sequence: recovery.last_sequence,
            is_lossy: recovery.is_lossy,
            manifest_ends_clean: true,
            logs: recovery.logs,
        })
    }

    /// Ends the open log in order, or says where it must be cut.
    fn end_or_cut(&self, state: &mut CommitState) -> Option<(u64, Cut)> {
        let journal = state.journal.as_ref()?;
        match journal.end(state.next_sequence - 1) {
            Ok(_) => {
                state.journal = None;
                None
            }
            Err(_) => Some((journal.number(), journal.settle())),
        }
    }

    /// What the levels say, with empty memtables. Tables that are open stay so.
    fn fresh_view(&self, levels: &Levels) -> Result<View> {
        let current = self.view();
        let mut view = View::empty(levels.keyspace_last);
        view.loads = current.loads;
        for (id, record) in &levels.keyspaces {
            let known = current.keyspaces.get(id).map(|keyspace| &keyspace.tables);
            let tables = match known {
                Some(known) if known.tree == record.tree => Arc::clone(known),
                // The View follows the edits; but a thread may have panicked between the two.
                _ => Arc::new(self.open_tree(record, known)?),
            };
            let keyspace = KeyspaceView {
                name: Arc::clone(&record.name),
                kind: record.kind,
                active: self.new_memtable(record.kind, None),
                frozen: Vec::new(),
                tables,
            };
            view.keyspaces.insert(*id, Arc::new(keyspace));
        }
        Ok(view)
    }

    fn open_tree(&self, record: &KeyspaceRecord, known: Option<&Arc<OpenTree>>) -> Result<OpenTree> {
        let tree = OpenTree::new(Arc::clone(&record.tree), |reference| {
            if let Some(table) = known.and_then(|known| known.table(reference.file)) {
                return Ok(table.clone());
            }
            let expected = ExpectedTable {
                identity: reference.identity,
                database: self.database,
                file_bytes: reference.file_bytes,
            };
            let path = FileName::Table(reference.file).path(&self.directory);
            AnyTable::open(&self.fs, &path, record.kind, expected, self.budget.cache())
        })?;
        Ok(tree.settled(known.map_or(&OpenTree::default(), |known| known), &self.budget))
    }
}
