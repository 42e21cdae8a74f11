//! Dropping a keyspace: one edit, and what must come before and after it.
//!
//! 1. All that was committed before the call is made durable first. Else a power cut could take a batch that copied something into another keyspace, and leave
//!    the drop of what it was copied from.
//! 2. The edit, then the View, while others write on, but no more to this keyspace (`claims.rs`). Its number is never given out again, so that what logs hold of it is told from
//!    damage and passed over when they are replayed.
//! 3. Its tables are removed as those are that were merged: readers who hold them go on reading. A flush or a merge of it that is under
//!    way notices at its next step, or when it would install what it wrote.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::batch::KeyspaceId;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::event::Event;
use crate::filename::{FileName, FileNumber};
use crate::levels::{Change, Edit};

/// Names that are kept, the last ones: whoever commits a batch for a keyspace that was dropped long ago is told its number.
const NAMES_MAX: usize = 1000;

/// The names of keyspaces that this session dropped: batches know their numbers alone.
#[derive(Debug, Default)]
pub(crate) struct DroppedNames(VecDeque<(KeyspaceId, Arc<str>)>);

impl DroppedNames {
    fn add(&mut self, id: KeyspaceId, name: &str) {
        if self.0.len() == NAMES_MAX {
            self.0.pop_front();
        }
        self.0.push_back((id, name.into()));
    }

    pub(crate) fn get(&self, id: KeyspaceId) -> Option<&Arc<str>> {
        self.0.iter().find(|(other, _)| *other == id).map(|(_, name)| name)
    }
}

impl Engine {
    /// Drops a keyspace. When this returns, that is durable, and so is all that was committed before.
    ///
    /// # Errors
    /// Dropped, if it was before; ReadOnly; Closed; Failed and those of writing.
    pub(crate) fn drop_keyspace(&self, id: KeyspaceId, name: &str) -> Result<()> {
        let dropped = self.drop_keyspace_quietly(id, name);
        self.events.deliver();
        dropped
    }

    fn drop_keyspace_quietly(&self, id: KeyspaceId, name: &str) -> Result<()> {
        self.view().keyspace(id, name)?;
        let dropping = self.claim_for_drop(id, name)?;
        self.sync()?;
        let (files, dropped_bytes): (Vec<FileNumber>, usize) = {
            let mut manifest = self.manifest.lock();
            self.check_writable()?;
            let dropped_bytes = self.view().keyspace(id, name)?.active.memory_bytes();
            let record = manifest.levels().keyspaces.get(&id).ok_or_else(|| Error::dropped(name))?;
            let files = record.tree.tables().map(|(_, table)| table.file).collect();
            let edit = Edit { changes: vec![Change::KeyspaceRemoved(id)] };
            manifest.commit(edit).map_err(|error| self.fail(error))?;
            self.dropped.lock().add(id, name);
            self.install(|view| {
                view.keyspaces.remove(&id);
            });
            (files, dropped_bytes)
        };
        {
            // Who is at it now may have a View that has the keyspace: until he is done it is claimed.
            let mut state = self.commit.lock();
            state.dropped_bytes = state.dropped_bytes.saturating_add(dropped_bytes);
        }
        drop(dropping);
        self.events.tell(|| Event::KeyspaceDropped { keyspace: name.into() });
        self.avoid_no_more(files.iter().copied());
        self.add_obsolete(files.into_iter().map(FileName::Table));
        self.remove_obsolete();
        // Writers may wait for a merge of it, and threads have less to do.
        self.notify();
        Ok(())
    }

    /// The error of a batch that writes to a keyspace that is there no more.
    #[cold]
    pub(crate) fn dropped(&self, id: KeyspaceId) -> Error {
        match self.dropped.lock().get(id) {
            Some(name) => Error::dropped(name),
            None => Error::dropped(id.number()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::fs::MemFs;
    use crate::{Background, Db, Keyspace, KeyspaceOptions};

    fn open() -> (Db, Keyspace) {
        let builder = Db::builder("/db").file_system(Arc::new(MemFs::new())).background(Background::Manual);
        let db = builder.open().unwrap();
        let keyspace = db.keyspace("goes", KeyspaceOptions::sorted()).unwrap();
        (db, keyspace)
    }

    /// While an edit is made durable writers write.
    #[test]
    fn neither_a_drop_nor_the_end_of_a_load_holds_up_who_writes() {
        let (db, keyspace) = open();
        let engine = db.engine();
        let beside = |change: &(dyn Fn() + Sync)| {
            std::thread::scope(|scope| {
                let manifest = engine.manifest.lock();
                let changes = scope.spawn(change);
                for _ in 0..30 {
                    std::thread::sleep(Duration::from_millis(1));
                    let is_free = (0..1000).any(|_| engine.commit.try_lock().is_some());
                    assert!(is_free && !changes.is_finished());
                }
                drop(manifest);
            });
        };
        let mut load = keyspace.ingest().unwrap();
        load.put("key", "value").unwrap();
        let load = std::sync::Mutex::new(Some(load));
        beside(&|| {
            load.lock().unwrap().take().unwrap().finish().unwrap();
        });
        assert_eq!(keyspace.get("key").unwrap().unwrap(), b"value"[..]);
        beside(&|| db.drop_keyspace(&keyspace).unwrap());
        assert!(db.keyspace_names().is_empty());
    }

    /// A step of merging had looked at it before.
    #[test]
    fn tables_that_are_gone_with_their_keyspace_are_not_dropped_again() {
        let (db, keyspace) = open();
        keyspace.put("k", "v").unwrap();
        db.flush().unwrap();
        keyspace.delete_prefix("k").unwrap();
        db.flush().unwrap();
        let view = db.engine().view();
        let (id, before) = view.keyspaces.iter().next().unwrap();
        db.drop_keyspace(&keyspace).unwrap();
        assert!(!db.engine().drop_deleted(*id, before).unwrap());
        assert!(db.stats().failure.is_none());
    }
}
