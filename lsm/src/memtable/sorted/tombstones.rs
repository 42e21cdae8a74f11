//! The range tombstones of a memtable, searched while more are added.
//!
//! Starts and ends cut the keys into *fragments*. They are kept in a [`Tree`], as entries without values: under each boundary the sequence numbers of the
//! tombstones over the fragment that begins there, newest first, and last of all number 0. So to add one costs what few insertions do,
//! wherever it lies and however many there are; and readers take no lock.
//!
//! A boundary with what must stand under it is not put in at once. It counts when its number 0 is there, which comes last; before, the boundary
//! before it answers for the fragment too. The number of the new tombstone itself matters to nobody yet: it is not visible.
//!
//! A tombstone over very many fragments, or one of very many over one place, would cost as many insertions. Such *wide* ones stand in sets,
//! searched one after the other. A set is built when somebody asks, and with those before it that are no larger: there are few,
//! and each tombstone is built into a set few times.

use std::cmp::Ordering::{Equal, Greater, Less};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::sync::Mutex;

use super::tree::{Cursor, Tree};
use crate::block::rank_seen_by;
use crate::charge::Charge;
use crate::key::SequenceNumber;
use crate::range_tombstone::{RangeTombstone, RangeTombstones};

/// Entries that one tombstone may add to the tree, and steps that it may take to find out.
const INSERTIONS_MAX: usize = 512;

/// Bytes of a listed tombstone beside its keys, with what the flush takes to search them.
const LISTED_BYTES: usize = 128;

/// The trailer of number 0, behind those of all tombstones.
const SEAL: u64 = rank_seen_by(0);

fn sequence_of(trailer: u64) -> SequenceNumber {
    !trailer >> 8
}

/// See the module.
#[derive(Debug)]
pub(super) struct Tombstones {
    fragments: Arc<Tree>,
    /// All, as they came: for the flush.
    listed: Mutex<Vec<RangeTombstone>>,
    count: AtomicUsize,
    wide: Mutex<Wide>,
    wide_count: AtomicUsize,
    /// Beside the tree's.
    bytes: AtomicUsize,
    charge: Arc<Charge>,
}

#[derive(Debug, Default)]
struct Wide {
    added: Vec<RangeTombstone>,
    /// Each larger than the next.
    sets: Arc<[Arc<RangeTombstones>]>,
}

impl Tombstones {
    pub(super) fn new(charge: Arc<Charge>) -> Self {
        Self {
            fragments: Arc::new(Tree::new(Arc::clone(&charge), Arc::default())),
            listed: Mutex::default(),
            count: AtomicUsize::new(0),
            wide: Mutex::default(),
            wide_count: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            charge,
        }
    }

    /// Whether there are none.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    /// Bytes of memory they take.
    pub(super) fn memory_bytes(&self) -> usize {
        self.fragments.memory_bytes() + self.bytes.load(Ordering::Relaxed)
    }

    /// What is charged for them.
    pub(super) fn charged_bytes(&self) -> usize {
        self.fragments.charged_bytes() + self.bytes.load(Ordering::Relaxed)
    }

    /// All as one set, for whoever writes them elsewhere.
    pub(super) fn to_set(&self) -> RangeTombstones {
        RangeTombstones::new(self.listed.lock().iter().cloned())
    }

    /// Adds one.
    pub(super) fn insert(&self, tombstone: RangeTombstone) {
        let mut listed = self.listed.lock();
        let key_bytes = tombstone.start.len() + tombstone.end.as_ref().map_or(0, Vec::len);
        let mut bytes = key_bytes + LISTED_BYTES;
        if !self.insert_fragments(&tombstone) {
            bytes *= 2;
            let mut wide = self.wide.lock();
            wide.added.push(tombstone.clone());
            self.wide_count.fetch_add(1, Ordering::Release);
        }
        listed.push(tombstone);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.charge.add(bytes);
        self.count.store(listed.len(), Ordering::Release);
    }

    /// Puts one into the tree; `false` if it is wide.
    fn insert_fragments(&self, tombstone: &RangeTombstone) -> bool {
        let RangeTombstone { start, end, sequence } = tombstone;
        if end.as_ref().is_some_and(|end| end <= start) {
            return true;
        }
        let new = rank_seen_by(*sequence);
        let mut cursor = Cursor::new(Arc::clone(&self.fragments));
        let from = fragment_to_cut(&mut cursor, start);
        if let Some(over) = &from
            && let Some(ends) = self.is_whole_in_one(&mut cursor, start, end.as_deref())
        {
            // The usual case: it overlaps nothing, or lies whole in what was deleted before. In ascending order, so that one search is enough.
            if 2 * over.len() >= INSERTIONS_MAX {
                return false;
            }
            let rest = || over.iter().copied().chain([SEAL]);
            self.add(start, [new].into_iter().chain(rest()));
            if let (Ends::Between, Some(end)) = (ends, end) {
                self.add(end, rest());
            }
            return true;
        }
        let until = end.as_ref().and_then(|end| Some((end, fragment_to_cut(&mut cursor, end)?)));
        let missing = [from.map(|over| (start, over)), until];
        let mut insertions = 1 + missing.iter().flatten().map(|(_, over)| over.len() + 1).sum::<usize>();
        let mut boundaries = Vec::new();
        cursor.seek(start, 0);
        while let Some((user, trailer)) =
            cursor.place().filter(|(user, _)| end.as_ref().is_none_or(|end| *user < end))
        {
            insertions += 1;
            if insertions > INSERTIONS_MAX {
                break;
            }
            if trailer == SEAL {
                boundaries.push(user.to_vec());
            }
            cursor.next();
        }
        if insertions > INSERTIONS_MAX {
            return false;
        }
        if missing.iter().flatten().any(|(key, _)| *key == start) {
            boundaries.push(start.clone());
        }
        for (key, over) in missing.into_iter().flatten() {
            self.add(key, over.into_iter().chain([SEAL]));
        }
        for boundary in boundaries {
            self.add(&boundary, [new]);
        }
        true
    }

    fn add(&self, boundary: &[u8], trailers: impl IntoIterator<Item = u64>) {
        for trailer in trailers {
            self.fragments.insert(boundary, trailer.to_be_bytes(), &[]);
        }
    }

    /// Whether no boundary lies behind `start`, which is none, and before `end`: then how the fragment ends. The cursor stands at the last boundary before
    /// `start`, or nowhere. `None` where one does.
    fn is_whole_in_one(&self, cursor: &mut Cursor, start: &[u8], end: Option<&[u8]>) -> Option<Ends> {
        if cursor.valid() {
            cursor.next();
        } else {
            cursor.seek(start, 0);
        }
        let next = cursor.place().map(|(user, _)| user);
        match (next, end) {
            (None, None) => Some(Ends::With),
            (None, Some(_)) => Some(Ends::Between),
            (Some(_), None) => None,
            (Some(next), Some(end)) => match next.cmp(end) {
                Less => None,
                Equal => Some(Ends::With),
                Greater => Some(Ends::Between),
            },
        }
    }

    /// The newest over `key` that a reader at `read_sequence` sees: its sequence number, or 0 where there is none.
    pub(super) fn newest_covering(&self, key: &[u8], read_sequence: SequenceNumber) -> SequenceNumber {
        if self.is_empty() {
            return 0;
        }
        let mut place = self.fragments.last_through(key, SEAL);
        while let Some((boundary, trailer)) = place
            && trailer != SEAL
        {
            place = self.fragments.last_through(boundary, 0);
        }
        let newest = place.map_or(0, |(boundary, _)| self.newest_under(boundary, read_sequence));
        let wide = self.wide_sets();
        wide.iter().map(|set| set.newest_covering(key, read_sequence)).fold(newest, Ord::max)
    }

    fn newest_under(&self, boundary: &[u8], read_sequence: SequenceNumber) -> SequenceNumber {
        let newest = self.fragments.get(boundary, rank_seen_by(read_sequence));
        newest.map_or(0, |(trailer, _)| sequence_of(trailer))
    }

    /// The wide ones, in sets.
    pub(super) fn wide_sets(&self) -> Arc<[Arc<RangeTombstones>]> {
        if self.wide_count.load(Ordering::Acquire) == 0 {
            return Arc::default();
        }
        let mut wide = self.wide.lock();
        if !wide.added.is_empty() {
            let mut added = std::mem::take(&mut wide.added);
            let mut sets = wide.sets.to_vec();
            while let Some(set) = sets.pop_if(|set| set.len() <= added.len()) {
                added.extend(set.iter().map(|tombstone| tombstone.to_owned()));
            }
            sets.push(Arc::new(RangeTombstones::new(added)));
            wide.sets = sets.into();
        }
        Arc::clone(&wide.sets)
    }
}

impl Drop for Tombstones {
    fn drop(&mut self) {
        self.charge.subtract(self.bytes.load(Ordering::Relaxed));
    }
}

/// How a tombstone ends that lies in one fragment.
#[derive(Clone, Copy)]
enum Ends {
    /// With the fragment.
    With,
    /// Before it.
    Between,
}

/// The trailers under the boundary of the fragment in which `key` lies, without the last, or more of them than may be copied; `None` where `key`
/// itself is a boundary. The cursor stands at the last entry under that boundary then, or nowhere.
fn fragment_to_cut(cursor: &mut Cursor, key: &[u8]) -> Option<Vec<u64>> {
    cursor.seek_for_prev(key, SEAL);
    let boundary = match cursor.place() {
        Some((boundary, _)) if boundary == key => return None,
        Some((boundary, _)) => boundary.to_vec(),
        None => return Some(Vec::new()),
    };
    let mut over = Vec::new();
    cursor.prev();
    if cursor.place().is_some_and(|(user, _)| user == boundary) {
        cursor.seek(&boundary, 0);
        while let Some((user, trailer)) = cursor.place()
            && user == boundary
            && trailer != SEAL
            && over.len() <= INSERTIONS_MAX
        {
            over.push(trailer);
            cursor.next();
        }
    } else {
        cursor.next();
    }
    if !cursor.valid() || !over.is_empty() {
        cursor.seek_for_prev(key, SEAL);
    }
    Some(over)
}

/// Asks the fragments about keys that come in order, or nearly.
pub struct FragmentCursor {
    fragments: Arc<Tree>,
    read_sequence: SequenceNumber,
    /// Behind the fragment: at the first entry of the next one.
    cursor: Cursor,
    /// Which copy of a leaf the cursor stood in at the last entry of the fragment.
    copy: u64,
    is_placed: bool,
    from: Option<Vec<u8>>,
    until: Option<Vec<u8>>,
    newest: SequenceNumber,
}

impl FragmentCursor {
    /// A cursor for a reader at `read_sequence`.
    pub(super) fn new(tombstones: &Tombstones, read_sequence: SequenceNumber) -> Self {
        Self {
            fragments: Arc::clone(&tombstones.fragments),
            read_sequence,
            cursor: Cursor::new(Arc::clone(&tombstones.fragments)),
            copy: 0,
            is_placed: false,
            from: None,
            until: None,
            newest: 0,
        }
    }

    /// The newest over `key` that the reader sees, or 0.
    pub fn newest_covering(&mut self, key: &[u8]) -> SequenceNumber {
        if self.is_placed && self.from.as_deref().is_none_or(|from| from <= key) {
            if self.ends_behind(key) {
                return self.newest;
            }
            self.advance();
            if self.ends_behind(key) {
                return self.newest;
            }
        }
        self.cursor.seek_for_prev(key, SEAL);
        self.settle();
        self.newest
    }

    fn ends_behind(&self, key: &[u8]) -> bool {
        self.until.as_deref().is_none_or(|until| key < until)
    }

    /// The newest over the keys just before `key` (`None`: over the last of all) that the reader sees, or 0.
    pub fn newest_before(&mut self, key: Option<&[u8]>) -> SequenceNumber {
        match key {
            Some(key) => self.cursor.seek_for_prev(key, 0),
            None => self.cursor.seek_to_last(),
        }
        self.settle();
        self.newest
    }

    /// From where up to where everything has the answer that was given last; `None`: there is no end.
    pub fn fragment(&self) -> (Option<&[u8]>, Option<&[u8]>) {
        (self.from.as_deref(), self.until.as_deref())
    }

    /// Goes on from a fragment over which something newer than `above` lies, to the first over which nothing does; returns where that begins.
    /// `None`: there is none. It need not go further than where `is_far`.
    pub fn end_of_run(&mut self, above: SequenceNumber, is_far: impl Fn(&[u8]) -> bool) -> Option<&[u8]> {
        while !self.until.as_deref().is_none_or(&is_far) {
            self.advance();
            if self.newest <= above {
                return self.from.as_deref();
            }
        }
        self.until.as_deref()
    }

    /// As [`Self::end_of_run`], backwards: where the run begins.
    pub fn start_of_run(&mut self, above: SequenceNumber, is_far: impl Fn(&[u8]) -> bool) -> Option<Vec<u8>> {
        loop {
            let from = self.from.clone()?;
            if is_far(&from) || self.newest_before(Some(&from)) <= above {
                return Some(from);
            }
        }
    }

    /// Takes the fragment at whose last entry the cursor stands, or in front of which it stands where that does not count yet.
    fn settle(&mut self) {
        self.is_placed = true;
        while let Some((boundary, trailer)) = self.cursor.place()
            && trailer != SEAL
        {
            let boundary = boundary.to_vec();
            while self.cursor.place().is_some_and(|(user, _)| user == boundary) {
                self.cursor.prev();
            }
        }
        match self.cursor.place() {
            Some((boundary, _)) => {
                let from = self.from.get_or_insert_default();
                from.clear();
                from.extend_from_slice(boundary);
                self.newest = self.newest_from();
                self.copy = self.cursor.copies();
                self.cursor.next();
            }
            None => {
                (self.from, self.newest) = (None, 0);
                self.copy = u64::MAX;
                self.cursor.seek_to_first();
            }
        }
        self.take_until();
    }

    fn newest_from(&self) -> SequenceNumber {
        let from = self.from.as_deref().unwrap_or_default();
        let newest = self.fragments.get(from, rank_seen_by(self.read_sequence));
        newest.map_or(0, |(trailer, _)| sequence_of(trailer))
    }

    fn take_until(&mut self) {
        match self.cursor.place() {
            Some((boundary, _)) => {
                let until = self.until.get_or_insert_default();
                until.clear();
                until.extend_from_slice(boundary);
            }
            None => self.until = None,
        }
    }

    /// Takes the next fragment.
    fn advance(&mut self) {
        let seen = rank_seen_by(self.read_sequence);
        let mut newest = None;
        while let Some((boundary, trailer)) = self.cursor.place()
            && self.until.as_deref() == Some(boundary)
        {
            if newest.is_none() && trailer >= seen {
                newest = Some(sequence_of(trailer));
            }
            if trailer == SEAL {
                std::mem::swap(&mut self.from, &mut self.until);
                // All that stands between two last entries in one copy was there when the copy was made. Else some of it may have come
                // behind the cursor, and before the last entry.
                self.newest = match newest {
                    Some(newest) if self.cursor.copies() == self.copy => newest,
                    _ => self.newest_from(),
                };
                self.copy = self.cursor.copies();
                self.cursor.next();
                return self.take_until();
            }
            self.cursor.next();
        }
        // It does not count yet: what was over the fragment before is over it too.
        self.copy = u64::MAX;
        self.take_until();
    }
}

impl std::fmt::Debug for FragmentCursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FragmentCursor").field("newest", &self.newest).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicU64};

    use proptest::prelude::*;

    use super::*;
    use crate::key::SEQUENCE_MAX;

    fn small_key() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(0u8..4, 0..4)
    }

    fn check(
        subject: &Tombstones,
        expected: &RangeTombstones,
        keys: &[Vec<u8>],
        read_sequence: SequenceNumber,
    ) {
        let mut cursor = FragmentCursor::new(subject, read_sequence);
        let sets = subject.wide_sets();
        let wide =
            |key: &[u8]| sets.iter().map(|set| set.newest_covering(key, read_sequence)).max().unwrap_or(0);
        for key in keys {
            let newest = expected.newest_covering(key, read_sequence);
            assert_eq!(subject.newest_covering(key, read_sequence), newest);
            assert_eq!(cursor.newest_covering(key).max(wide(key)), newest);
            let (from, until) = cursor.fragment();
            assert!(from.is_none_or(|from| from <= key.as_slice()));
            assert!(until.is_none_or(|until| until > key.as_slice()));
            for above in [0, newest / 2] {
                if cursor.newest_covering(key) > above {
                    let end = cursor.end_of_run(above, |_| false).map(<[u8]>::to_vec);
                    assert!(end.as_ref().is_none_or(|end| end > key));
                    assert!(cursor.newest_before(end.as_deref()) > above);
                    if let Some(end) = end {
                        assert!(cursor.newest_covering(&end) <= above);
                    }
                    cursor.newest_covering(key);
                    let start = cursor.start_of_run(above, |_| false).unwrap();
                    assert!(start <= *key && cursor.newest_before(Some(&start)) <= above);
                    assert!(cursor.newest_covering(&start) > above);
                }
            }
        }
        for key in keys {
            // Nothing lies between a key without its last byte of 0 and the key: so this is the predecessor.
            let mut before = key.clone();
            if before.pop() == Some(0) {
                let newest = expected.newest_covering(&before, read_sequence);
                assert_eq!(cursor.newest_before(Some(key)).max(wide(&before)), newest);
            }
        }
        assert_eq!(
            cursor.newest_before(None).max(wide(&[0xff; 9])),
            expected.newest_covering(&[0xff; 9], read_sequence)
        );
    }

    proptest! {
        #[test]
        fn it_answers_as_a_set_does(
            all in prop::collection::vec((small_key(), prop::option::weighted(0.9, small_key())), 0..40),
            keys in prop::collection::vec(small_key(), 1..30),
        ) {
            let subject = Tombstones::new(Arc::default());
            let mut list = Vec::new();
            for (sequence, (start, end)) in (1..).zip(&all) {
                let tombstone = RangeTombstone { start: start.clone(), end: end.clone(), sequence };
                subject.insert(tombstone.clone());
                list.push(tombstone);
                let expected = RangeTombstones::new(list.clone());
                check(&subject, &expected, &keys, sequence);
                check(&subject, &expected, &keys, sequence / 2);
            }
            prop_assert!(subject.to_set().iter().eq(RangeTombstones::new(list).iter()));
        }
    }

    fn number_key(number: u64) -> Vec<u8> {
        number.to_be_bytes().to_vec()
    }

    /// Nested ones are over each other; those over all come between many small ones.
    #[test]
    fn wide_ones_cost_no_square_and_hide_nothing() {
        let (nested, apart) = (Tombstones::new(Arc::default()), Tombstones::new(Arc::default()));
        let (mut nested_list, mut apart_list) = (Vec::new(), Vec::new());
        for number in 0..3000 {
            let sequence = number + 1;
            let within = RangeTombstone {
                start: number_key(number),
                end: Some(number_key(10_000 - number)),
                sequence,
            };
            nested.insert(within.clone());
            nested_list.push(within);
            let one = match number % 100 {
                99 => RangeTombstone { start: number_key(number / 2), end: None, sequence },
                _ => RangeTombstone {
                    start: number_key(7 * number),
                    end: Some(number_key(7 * number + 3)),
                    sequence,
                },
            };
            apart.insert(one.clone());
            apart_list.push(one);
        }
        let keys: Vec<Vec<u8>> = (0..22_000).step_by(13).map(number_key).collect();
        for read_sequence in [SEQUENCE_MAX, 2000, 170] {
            check(&nested, &RangeTombstones::new(nested_list.clone()), &keys, read_sequence);
            check(&apart, &RangeTombstones::new(apart_list.clone()), &keys, read_sequence);
        }
        assert!(nested.wide_count.load(Ordering::Relaxed) > 2000);
        assert!(nested.fragments.entry_count() < 600_000, "{}", nested.fragments.entry_count());
        assert!((1..40).contains(&apart.wide_count.load(Ordering::Relaxed)));
        assert!(apart.wide_sets().len() < 8);
    }

    #[test]
    fn memory_is_charged_and_given_back() {
        let charge: Arc<Charge> = Arc::default();
        let tombstones = Tombstones::new(Arc::clone(&charge));
        for number in 0..500 {
            tombstones.insert(RangeTombstone { start: number_key(number), end: None, sequence: number + 1 });
        }
        assert_eq!(charge.bytes(), tombstones.charged_bytes());
        assert!(charge.bytes() > 500 * LISTED_BYTES);
        drop(tombstones);
        assert_eq!(charge.bytes(), 0);
    }

    /// A reader sees all that was in when it began, while boundaries are put between its fragments.
    #[test]
    fn readers_beside_the_writer_miss_none() {
        const COUNT: u64 = 4000;
        // Each twice as narrow as one before it, so that fragments are cut again and again.
        let one = |number: u64| {
            let (level, place) = (number.ilog2(), number - (1 << number.ilog2()));
            let width = (1 << 20) >> level;
            RangeTombstone {
                start: number_key(place * width),
                end: Some(number_key(place * width + width)),
                sequence: number,
            }
        };
        let (subject, visible, is_over) =
            (Tombstones::new(Arc::default()), AtomicU64::new(0), AtomicBool::new(false));
        std::thread::scope(|scope| {
            for reader in 0..3u64 {
                let (subject, visible, is_over) = (&subject, &visible, &is_over);
                scope.spawn(move || {
                    let mut turn = reader * 77;
                    while !is_over.load(Ordering::Acquire) {
                        let read_sequence = visible.load(Ordering::Acquire);
                        if read_sequence == 0 {
                            continue;
                        }
                        // The newest level that is complete covers all keys.
                        let level = (read_sequence + 1).ilog2() - 1;
                        let mut cursor = FragmentCursor::new(subject, read_sequence);
                        for step in 0..200 {
                            turn += 1;
                            let key = (turn * 7919 + step * 5003) % (1 << 20);
                            let least = (1 << level) + (key >> (20 - level));
                            let newest = subject.newest_covering(&number_key(key), read_sequence);
                            assert!(
                                (least..=read_sequence).contains(&newest),
                                "{least} {newest} {read_sequence}"
                            );
                            let key = step * 5000;
                            let least = (1 << level) + (key >> (20 - level));
                            let newest = cursor.newest_covering(&number_key(key));
                            assert!(
                                (least..=read_sequence).contains(&newest),
                                "{least} {newest} {read_sequence}"
                            );
                        }
                    }
                });
            }
            for number in 1..COUNT {
                subject.insert(one(number));
                visible.store(number, Ordering::Release);
            }
            is_over.store(true, Ordering::Release);
        });
        assert_eq!(subject.wide_count.load(Ordering::Relaxed), 0);
    }
}
