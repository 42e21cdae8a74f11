//! The model that blocks, tables and merges are tested against: a sorted list, and a walk over it.
//!
//! Keys are few and alike, so that shared prefixes, several writes of one key, keys that are prefixes of others and seeks between all of them are
//! common.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

use crate::iter::InternalIterator;
use crate::key::{self, Kind, SequenceNumber};

/// One step of a walk.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    First,
    Last,
    Seek(Vec<u8>),
    SeekForPrev(Vec<u8>),
    Next,
    Prev,
}

/// Sorted entries: internal keys and values.
#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    entries: Vec<(Vec<u8>, Vec<u8>)>,
}

pub(crate) fn internal(user: &[u8], sequence: SequenceNumber, kind: Kind) -> Vec<u8> {
    [user, &key::trailer(sequence, kind)].concat()
}

impl Model {
    pub(crate) fn new(mut entries: Vec<(Vec<u8>, Vec<u8>)>) -> Self {
        entries.sort_by(|a, b| key::compare(&a.0, &b.0));
        entries.dedup_by(|a, b| a.0 == b.0);
        Self { entries }
    }

    pub(crate) fn entries(&self) -> &[(Vec<u8>, Vec<u8>)] {
        &self.entries
    }

    /// What a reader at `sequence` finds.
    pub(crate) fn get(&self, user: &[u8], sequence: SequenceNumber) -> Option<(SequenceNumber, Vec<u8>)> {
        self.entries.iter().find_map(|(key, value)| {
            let (found, trailer) = key::split(key).unwrap();
            let (found_sequence, _) = key::parse_trailer(trailer).unwrap();
            (found == user && found_sequence <= sequence).then(|| (found_sequence, value.clone()))
        })
    }

    /// Keys that are there, keys that are not, each at several sequence numbers.
    pub(crate) fn questions(&self) -> Vec<(Vec<u8>, SequenceNumber)> {
        let mut questions = Vec::new();
        let mut users: Vec<Vec<u8>> = vec![Vec::new(), vec![0xff; 9]];
        for (key, _) in &self.entries {
            let (user, _) = key::split(key).unwrap();
            users.push(user.to_vec());
            users.push([user, b"\0"].concat());
            users.push(user.split_last().map_or(Vec::new(), |(_, front)| front.to_vec()));
        }
        users.sort();
        users.dedup();
        for user in users {
            for sequence in [0, 3, 8, key::SEQUENCE_MAX] {
                questions.push((user.clone(), sequence));
            }
        }
        questions
    }

    fn at(&self, target: &[u8]) -> usize {
        self.entries.partition_point(|(key, _)| key::compare(key, target).is_lt())
    }

    fn step(&self, place: Option<usize>, step: &Step) -> Option<usize> {
        match step {
            Step::First => Some(0),
            Step::Last => self.entries.len().checked_sub(1),
            Step::Seek(key) => Some(self.at(key)),
            Step::SeekForPrev(key) => {
                let at = self.at(key);
                let equal = self.entries.get(at).is_some_and(|(found, _)| found == key);
                if equal { Some(at) } else { at.checked_sub(1) }
            }
            Step::Next => place.map(|place| place + 1),
            Step::Prev => place.and_then(|place| place.checked_sub(1)),
        }
        .filter(|place| *place < self.entries.len())
    }

    /// Takes the same steps with `subject` and with the list.
    pub(crate) fn compare(
        &self,
        subject: &mut dyn InternalIterator,
        walk: &[Step],
    ) -> Result<(), TestCaseError> {
        let mut place = None;
        for (number, step) in walk.iter().enumerate() {
            place = self.step(place, step);
            take(subject, step).map_err(|error| TestCaseError::fail(format!("step {number}: {error}")))?;
            let expected = place.and_then(|place| self.entries.get(place));
            let found = subject.valid().then(|| (subject.key().to_vec(), subject.value().to_vec()));
            prop_assert_eq!(found.as_ref(), expected, "after step {}: {:?}", number, step);
            prop_assert_eq!(&subject.owned_value()[..], subject.value());
        }
        Ok(())
    }

    /// The entries whose user keys lie in `range`.
    pub(crate) fn within(&self, range: &crate::range::KeyRange) -> Self {
        let inside = |key: &[u8]| range.contains(key::split(key).unwrap().0);
        Self { entries: self.entries.iter().filter(|(key, _)| inside(key)).cloned().collect() }
    }
}

pub(crate) fn take(subject: &mut dyn InternalIterator, step: &Step) -> crate::Result<()> {
    match step {
        Step::First => subject.seek_to_first(),
        Step::Last => subject.seek_to_last(),
        Step::Seek(key) => subject.seek(key),
        Step::SeekForPrev(key) => subject.seek_for_prev(key),
        Step::Next => subject.next(),
        Step::Prev => subject.prev(),
    }
}

/// Takes the steps and looks at nothing: whatever is there, there is no panic.
pub(crate) fn stagger(subject: &mut dyn InternalIterator, walk: &[Step]) {
    for step in walk {
        let _ = take(subject, step);
        let _ = (subject.valid(), subject.key().len(), subject.value().len(), subject.owned_value());
    }
}

pub(crate) fn some_user_key() -> impl Strategy<Value = Vec<u8>> {
    let tail = || prop::collection::vec(prop::sample::select(vec![0u8, b'a', b'b', b'z', 0xff]), 0..4);
    prop_oneof![
        4 => (prop::sample::select(vec![&b""[..], b"directory/", b"directory/of/files/"]), tail())
            .prop_map(|(front, tail)| [front, &tail].concat()),
        1 => (tail(), tail()).prop_map(|(front, tail)| [&front[..], b"0123456789abcdefghij", &tail].concat()),
    ]
}

fn some_value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 0..12),
        1 => (any::<u8>(), 20usize..400).prop_map(|(byte, length)| vec![byte; length]),
    ]
}

/// Entries of few user keys with few sequence numbers.
pub(crate) fn some_entries(count: std::ops::Range<usize>) -> impl Strategy<Value = Model> {
    let one = (some_user_key(), 0u64..10, prop::bool::weighted(0.8), some_value());
    prop::collection::vec(one, count).prop_map(|all| {
        let mut entries = BTreeMap::new();
        for (user, sequence, put, value) in all {
            let kind = if put { Kind::Put } else { Kind::Delete };
            // One sequence number is one write.
            entries.insert((user, sequence), (kind, if put { value } else { Vec::new() }));
        }
        Model::new(
            entries
                .into_iter()
                .map(|((user, sequence), (kind, value))| (internal(&user, sequence, kind), value))
                .collect(),
        )
    })
}

/// A walk, mostly of single steps.
pub(crate) fn some_walk() -> impl Strategy<Value = Vec<Step>> {
    let key = || {
        (some_user_key(), 0u64..11, any::<bool>()).prop_map(|(user, sequence, put)| {
            internal(&user, sequence, if put { Kind::Put } else { Kind::Delete })
        })
    };
    let step = prop_oneof![
        1 => Just(Step::First),
        1 => Just(Step::Last),
        3 => key().prop_map(Step::Seek),
        3 => key().prop_map(Step::SeekForPrev),
        12 => Just(Step::Next),
        12 => Just(Step::Prev),
    ];
    prop::collection::vec(step, 1..80)
}
