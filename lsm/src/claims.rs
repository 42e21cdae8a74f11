//! Who has a keyspace for himself: loads it, or drops it. Then it changes as a whole, by an edit that has nothing to do with the log, while others write on.
//!
//! Whatever is committed has one place in the order of all that happens. Most has it by its sequence number, given under the commit lock; a load or a drop has none of its own (what is
//! loaded is numbered as of when that began). So before a keyspace changes, that is said here, and then the commit lock is gone through once: who had looked before that was
//! said is in the View by then, before the change; who looks later finds it said, and what would have to be before the change is refused.

use crate::batch::KeyspaceId;
use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::levels::View;
use crate::ordered::{OrderedMap, OrderedSet};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    /// Keyspaces that somebody loads: nobody else writes to them.
    loading: OrderedSet<KeyspaceId>,
    /// Those of them of which what was loaded is about to be seen.
    showing: OrderedSet<KeyspaceId>,
    /// Keyspaces that are about to go.
    dropping: OrderedSet<KeyspaceId>,
    /// Which load of all was the last one into a keyspace.
    last_loads: OrderedMap<KeyspaceId, u64>,
    /// How many loads were shown. Changed under `manifest`.
    loads: u64,
}

/// What somebody does with a keyspace.
#[derive(Clone, Copy, Debug)]
enum Claim {
    Load,
    Drop,
}

/// Keyspaces that a batch writes to, looked at before the View: what is claimed no more is in that as it has become.
#[derive(Debug)]
#[must_use]
pub(crate) struct Claimed(Option<(KeyspaceId, Claim)>);

impl Claimed {
    /// Succeeds if nobody has any of them for himself.
    pub(crate) fn check(&self, view: &View) -> Result<()> {
        let Some((id, claim)) = &self.0 else { return Ok(()) };
        let name = view.keyspaces.get(id).map_or("", |keyspace| &keyspace.name);
        Err(match claim {
            Claim::Load => busy(name),
            Claim::Drop => Error::dropped(name),
        })
    }
}

impl Engine {
    /// Whether somebody has any of these keyspaces for himself. The caller holds `commit`, and loads the View after that.
    pub(crate) fn claimed(&self, keyspaces: &[KeyspaceId]) -> Claimed {
        let claims = self.claims.lock();
        if claims.loading.is_empty() && claims.dropping.is_empty() {
            return Claimed(None);
        }
        let found = keyspaces.iter().find_map(|id| {
            let drop = claims.dropping.contains(id).then_some(Claim::Drop);
            drop.or_else(|| claims.loading.contains(id).then_some(Claim::Load)).map(|claim| (*id, claim))
        });
        Claimed(found)
    }

    /// Lets nobody else write to a keyspace from now on. The caller holds `commit`, and has asked that it is nobody else's.
    pub(crate) fn claim_for_load(&self, id: KeyspaceId) {
        self.claims.lock().loading.insert(id);
    }

    /// What is loaded is about to be seen. Returns when whatever was committed without a thought of that is in the View.
    pub(crate) fn expect_load(&self, id: KeyspaceId) {
        self.claims.lock().showing.insert(id);
        drop(self.commit.lock());
    }

    /// What was loaded will be seen in the next View, which is one of so many [loads](View::loads). The caller holds `manifest`.
    pub(crate) fn load_is_shown(&self, id: KeyspaceId) -> u64 {
        let mut claims = self.claims.lock();
        claims.loads += 1;
        let loads = claims.loads;
        claims.last_loads.insert(id, loads);
        claims.showing.remove(&id);
        loads
    }

    /// A load is over, whatever has become of it.
    pub(crate) fn load_is_over(&self, id: KeyspaceId) {
        {
            let mut claims = self.claims.lock();
            claims.showing.remove(&id);
            claims.loading.remove(&id);
        }
        self.notify();
    }

    /// Returns when nothing that was loaded is about to be seen, or nothing will be: until then whoever read it is refused.
    pub(crate) fn wait_for_loads(&self) {
        self.wait_until(|| self.claims.lock().showing.is_empty() || self.check_writable().is_err(), None);
    }

    /// How many loads were shown: whoever holds `manifest` sees whether the tables hold one that no flush has followed.
    pub(crate) fn load_count(&self) -> u64 {
        self.claims.lock().loads
    }

    /// Whether a transaction that read from a View of so many [loads](View::loads) must not commit what depends on a keyspace any more: something was loaded since, or is about to be seen.
    pub(crate) fn was_loaded_since(&self, id: KeyspaceId, loads: u64) -> bool {
        let claims = self.claims.lock();
        claims.showing.contains(&id) || claims.last_loads.get(&id).is_some_and(|last| *last > loads)
    }

    /// A keyspace is about to go. Returns when whatever was committed without a thought of that is in the View. Whoever comes second waits for the first.
    ///
    /// # Errors
    /// Dropped, if it is there no more; ReadOnly; Closed; Failed.
    pub(crate) fn claim_for_drop(&self, id: KeyspaceId, name: &str) -> Result<Dropping<'_>> {
        while !self.claims.lock().dropping.insert(id) {
            self.wait_for_drop(id)?;
        }
        let dropping = Dropping { engine: self, id };
        self.view().keyspace(id, name)?;
        drop(self.commit.lock());
        Ok(dropping)
    }

    /// Returns when nobody drops a keyspace any more, which is there or not.
    ///
    /// # Errors
    /// ReadOnly; Closed; Failed.
    pub(crate) fn wait_for_drop(&self, id: KeyspaceId) -> Result<()> {
        self.wait_until(|| !self.is_being_dropped(id) || self.check_writable().is_err(), None);
        self.check_writable()
    }

    /// Whether somebody drops a keyspace that may still be there.
    pub(crate) fn is_being_dropped(&self, id: KeyspaceId) -> bool {
        self.claims.lock().dropping.contains(&id)
    }
}

/// The right to drop a keyspace.
pub(crate) struct Dropping<'a> {
    engine: &'a Engine,
    id: KeyspaceId,
}

impl Drop for Dropping<'_> {
    fn drop(&mut self) {
        self.engine.claims.lock().dropping.remove(&self.id);
        self.engine.notify();
    }
}

/// The error of a write to a keyspace that somebody loads.
fn busy(name: &str) -> Error {
    Error::new(
        ErrorKind::InvalidArgument,
        format!(
            "keyspace {name:?} is being loaded: until that is finished or given up nobody else writes to it"
        ),
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::fs::MemFs;
    use crate::levels::{Change, Edit};
    use crate::{Background, Db, Durability, Keyspace, KeyspaceOptions};

    fn open() -> (Db, Keyspace, Keyspace) {
        let builder = Db::builder("/db").file_system(Arc::new(MemFs::new())).background(Background::Manual);
        let db = builder.open().unwrap();
        let keyspace = |name| db.keyspace(name, KeyspaceOptions::sorted()).unwrap();
        let (read, written) = (keyspace("read"), keyspace("written"));
        (db, read, written)
    }

    /// What a transaction that reads one keyspace and writes to the other comes to, if `between` happens before its commit.
    fn transact(db: &Db, (read, written): (&Keyspace, &Keyspace), between: impl FnOnce()) -> Result<()> {
        let mut transaction = db.transaction();
        transaction.get(read, "k").unwrap();
        transaction.put(written, "k", "v");
        between();
        transaction.commit(Durability::Process).map(drop)
    }

    #[test]
    fn what_must_be_before_a_load_is_refused_as_soon_as_that_is_about_to_be_seen() {
        let (db, read, written) = open();
        let engine = db.engine();
        let commits =
            |between: &dyn Fn()| transact(&db, (&read, &written), between).map_err(|error| error.kind());
        let mut load = read.ingest().unwrap();
        load.put("k", "v").unwrap();
        commits(&|| {}).unwrap();
        assert_eq!(commits(&|| engine.expect_load(read.id())), Err(ErrorKind::Conflict));
        assert_eq!(commits(&|| {}), Err(ErrorKind::Conflict), "it is not seen yet");
        load.finish().unwrap();
        commits(&|| {}).unwrap();
        let given_up = read.ingest().unwrap();
        engine.expect_load(read.id());
        drop(given_up);
        commits(&|| {}).unwrap();
    }

    #[test]
    fn a_keyspace_that_is_about_to_go_is_gone_for_who_writes_and_comes_back_if_it_stays() {
        let (db, read, written) = open();
        let engine = db.engine();
        let commits = || transact(&db, (&read, &written), || {}).map_err(|error| error.kind());
        read.put("k", "v").unwrap();
        let dropping = engine.claim_for_drop(read.id(), "read").unwrap();
        let error = read.put("k", "w").unwrap_err();
        assert!(error.kind() == ErrorKind::Dropped && error.to_string().contains("read"), "{error}");
        assert_eq!(commits(), Err(ErrorKind::Dropped));
        assert_eq!(read.ingest().unwrap_err().kind(), ErrorKind::Dropped);
        written.put("k", "v").unwrap();
        drop(dropping);
        commits().unwrap();
        assert_eq!(read.get("k").unwrap().unwrap(), b"v"[..]);
        // Whoever comes second waits, and finds it gone.
        let dropping = engine.claim_for_drop(read.id(), "read").unwrap();
        std::thread::scope(|scope| {
            let second = scope.spawn(|| engine.claim_for_drop(read.id(), "read").map(drop));
            let again = scope.spawn(|| db.keyspace("read", KeyspaceOptions::sorted()).unwrap().id());
            std::thread::sleep(Duration::from_millis(20));
            assert!(!second.is_finished() && !again.is_finished());
            {
                let mut manifest = engine.manifest.lock();
                manifest.commit(Edit { changes: vec![Change::KeyspaceRemoved(read.id())] }).unwrap();
                engine.install(|view| drop(view.keyspaces.remove(&read.id())));
            }
            drop(dropping);
            assert_eq!(second.join().unwrap().unwrap_err().kind(), ErrorKind::Dropped);
            assert_ne!(again.join().unwrap(), read.id(), "another one of this name");
        });
    }

    /// However often it would be refused meanwhile.
    #[test]
    fn a_transaction_that_is_run_again_waits_for_what_is_about_to_be_seen() {
        let (db, read, written) = open();
        let engine = db.engine();
        engine.expect_load(read.id());
        std::thread::scope(|scope| {
            let transacting = scope.spawn(|| {
                db.transact(Durability::Process, |transaction| {
                    transaction.get(&read, "k")?;
                    transaction.put(&written, "k", "v");
                    Ok(())
                })
            });
            // As long as all tries would take.
            std::thread::sleep(Duration::from_millis(700));
            assert!(!transacting.is_finished());
            engine.load_is_over(read.id());
            transacting.join().unwrap().unwrap();
        });
    }

    /// Who has looked before something was claimed is in the View by then.
    #[test]
    fn whoever_claims_waits_for_the_commit_under_way() {
        let (db, read, _) = open();
        let engine = db.engine();
        let waits = |claim: &(dyn Fn() + Sync)| {
            std::thread::scope(|scope| {
                let commit = engine.commit.lock();
                let claiming = scope.spawn(claim);
                std::thread::sleep(Duration::from_millis(20));
                assert!(!claiming.is_finished());
                drop(commit);
            });
        };
        waits(&|| engine.expect_load(read.id()));
        engine.load_is_over(read.id());
        waits(&|| drop(engine.claim_for_drop(read.id(), "read").unwrap()));
    }
}
