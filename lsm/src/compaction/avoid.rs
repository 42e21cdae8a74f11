//! Tables that merges keep away from: those that one could not read, for a while or for good, and those of a merge of everything, until it is done.
//!
//! What failed once may succeed the next time (a disk that was busy, a network that was away): it is tried again after a pause, each time a longer
//! one. Damage stays: such a table is not tried again by this session. Either way nothing but that table is kept out, and merging goes on
//! around it ([`super::pick`]).

use std::sync::Arc;
use std::time::Duration;

use crate::batch::KeyspaceId;
use crate::filename::FileNumber;
use crate::ordered::{OrderedMap, OrderedSet};

/// The first pause; each further one is twice as long.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug)]
struct Pause {
    /// `None`: for good.
    until: Option<Duration>,
    length: Duration,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(crate) struct Avoided {
    tables: OrderedMap<FileNumber, Pause>,
    /// Of a merge of everything: of each keyspace what is merged now, or came of it.
    held: OrderedMap<KeyspaceId, Arc<OrderedSet<FileNumber>>>,
}

impl Avoided {
    /// A merge failed to read this table.
    pub(crate) fn failed(&mut self, file: FileNumber, is_damage: bool, now: Duration) {
        let length = self.tables.get(&file).map_or(PAUSE_MIN, |pause| (pause.length * 2).min(PAUSE_MAX));
        let until = (!is_damage).then(|| now.saturating_add(length));
        self.tables.insert(file, Pause { until, length });
    }

    /// This table is no more: a merge read it to its end, or its keyspace was dropped.
    pub(crate) fn gone(&mut self, file: FileNumber) {
        self.tables.remove(&file);
    }

    /// All of a keyspace is being merged, these tables, or was, and these came of it: others keep away from them.
    pub(super) fn hold(&mut self, keyspace: KeyspaceId, files: impl Iterator<Item = FileNumber>) {
        self.held.insert(keyspace, Arc::new(files.collect()));
    }

    /// It cannot be merged.
    pub(super) fn let_go_of(&mut self, keyspace: KeyspaceId) {
        self.held.remove(&keyspace);
    }

    /// All that is over.
    pub(super) fn let_go(&mut self) {
        self.held = OrderedMap::new();
    }

    /// Whether all of a keyspace is being merged, or was.
    pub(super) fn is_held(&self, keyspace: KeyspaceId) -> bool {
        self.held.contains_key(&keyspace)
    }

    /// Whether a merge has failed to read none of those that are there.
    pub(crate) fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }

    /// Whether merges keep away from a table now.
    pub(crate) fn contains(&self, file: FileNumber, now: Duration) -> bool {
        self.held.values().any(|files| files.contains(&file))
            || self.tables.get(&file).is_some_and(|pause| pause.until.is_none_or(|until| now < until))
    }

    /// How long until the next of those is tried again that are to be tried again.
    pub(crate) fn next_try(&self, now: Duration) -> Option<Duration> {
        let waiting = self.tables.values().filter_map(|pause| pause.until?.checked_sub(now));
        waiting.filter(|left| !left.is_zero()).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_end() {
        let mut avoided = Avoided::default();
        let mut now = Duration::ZERO;
        let mut last = Duration::ZERO;
        for _ in 0..20 {
            avoided.failed(1, false, now);
            let pause = avoided.next_try(now).unwrap();
            assert!(pause > last || pause == PAUSE_MAX, "{pause:?} after {last:?}");
            assert!(
                avoided.contains(1, now) && !avoided.contains(1, now + pause) && !avoided.contains(2, now)
            );
            last = pause;
            now += pause;
        }
        assert_eq!(avoided.next_try(now), None, "it can be tried");
        avoided.gone(1);
        assert!(avoided.is_empty());
    }

    #[test]
    fn damage_is_for_good() {
        let mut avoided = Avoided::default();
        avoided.failed(1, true, Duration::ZERO);
        assert!(avoided.contains(1, Duration::MAX));
        assert_eq!(avoided.next_try(Duration::ZERO), None);
    }
}
