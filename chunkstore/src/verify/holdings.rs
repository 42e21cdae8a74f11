//! What is remembered of each object on each target: whether it is there, when it was last read whole, how that ended.
//!
//! The catalog keeps it ([`crate::catalog::Holding`]); verification needs no more than this of it, so that it runs without a
//! catalog too, and without a password.

use std::collections::HashMap;

use parking_lot::Mutex;

use crate::error::Result;
use crate::repository::layout::ObjectName;

/// What was seen of an object on a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// A durable put was acknowledged, or a listing shows it where it was missing before: its length in bytes.
    There(u64),
    /// It was read whole and is good: its length in bytes.
    Good(u64),
    /// It is damaged.
    Damaged,
    /// It is not there, though it should be.
    Missing,
}

/// Remembers what was seen of objects on targets.
pub trait Holdings: Sync {
    /// When each of these objects was last read whole on the target with this URL and was good, in seconds since 1970; 0: never.
    ///
    /// # Errors
    /// Local.
    fn last_verified(&self, url: &str, names: &[ObjectName]) -> Result<Vec<i64>>;

    /// What was damaged on the target with this URL when it was last read.
    ///
    /// # Errors
    /// Local.
    fn damaged(&self, url: &str) -> Result<Vec<ObjectName>>;

    /// Notes what was seen at `time`, in seconds since 1970.
    ///
    /// # Errors
    /// Local.
    fn record(&self, url: &str, time: i64, seen: &[(ObjectName, Seen)]) -> Result<()>;
}

/// Remembers in memory: for a run without a catalog, and for tests.
#[derive(Debug, Default)]
pub struct MemHoldings {
    seen: Mutex<HashMap<(String, ObjectName), (i64, Seen)>>,
}

impl MemHoldings {
    /// What was seen last of an object, and when.
    pub fn get(&self, url: &str, name: &ObjectName) -> Option<(i64, Seen)> {
        self.seen.lock().get(&(url.to_owned(), *name)).copied()
    }
}

impl Holdings for MemHoldings {
    fn last_verified(&self, url: &str, names: &[ObjectName]) -> Result<Vec<i64>> {
        let when = |name: &ObjectName| match self.get(url, name) {
            Some((time, Seen::Good(_))) => time,
            _ => 0,
        };
        Ok(names.iter().map(when).collect())
    }

    fn damaged(&self, url: &str) -> Result<Vec<ObjectName>> {
        let all = self.seen.lock();
        let damaged = all.iter().filter(|((of, _), (_, seen))| of == url && *seen == Seen::Damaged);
        Ok(damaged.map(|((_, name), _)| *name).collect())
    }

    fn record(&self, url: &str, time: i64, seen: &[(ObjectName, Seen)]) -> Result<()> {
        let mut all = self.seen.lock();
        all.extend(seen.iter().map(|(name, seen)| ((url.to_owned(), *name), (time, *seen))));
        Ok(())
    }
}
