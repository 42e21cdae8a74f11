//! Scans over what a reader sees, upward and downward.

use super::live;
use super::skyline::Skyline;
use super::source::{Source, sources};
use crate::error::Result;
use crate::iter::InternalIterator;
use crate::key::{Kind, SequenceNumber, TRAILER_BYTES, parse_trailer, seek_key, split};
use crate::levels::KeyspaceView;
use crate::merge::MergingIterator;
use crate::range::KeyRange;
use crate::table::Found;
use crate::value::Value;

/// Older versions of a key that are stepped over before the cursor seeks past the rest.
const STEPS_BEFORE_SEEK: usize = 8;

/// Deleted entries that are stepped over before the cursor asks where the deleted range ends: a seek costs as much as some steps.
const STEPS_BEFORE_SKIP: usize = 4;

/// The trailer behind which no entry of a key stands.
const LAST_TRAILER: [u8; TRAILER_BYTES] = [0xff; TRAILER_BYTES];

/// Walks upward over what a reader sees.
#[derive(Debug)]
pub struct Forward {
    merge: MergingIterator<Source>,
    skyline: Skyline,
    range: KeyRange,
    read_sequence: SequenceNumber,
    started: bool,
    /// The last user key that was answered for, whatever the answer.
    last: Option<Vec<u8>>,
}

impl Forward {
    /// Stands before the first key of `range`.
    pub fn new(view: &KeyspaceView, range: KeyRange, read_sequence: SequenceNumber) -> Self {
        let (merge, skyline) = sources(view, &range, read_sequence);
        Self { merge, skyline, range, read_sequence, started: false, last: None }
    }

    /// The next visible key, with its value.
    ///
    /// # Errors
    /// Io or corruption, naming file and offset.
    pub fn step(&mut self) -> Result<Option<(Value, Value)>> {
        if self.started {
            self.merge.next()?;
        } else {
            self.merge.seek(&seek_key(&self.range.lower, crate::key::SEQUENCE_MAX))?;
            self.started = true;
        }
        let mut steps = 0;
        let mut hidden_steps = 0;
        while self.merge.valid() {
            let (user, trailer) = split(self.merge.key())?;
            if !self.range.is_before_end(user) {
                return Ok(None);
            }
            let is_older = self.last.as_deref() == Some(user);
            let (sequence, kind) = parse_trailer(trailer)?;
            if is_older || sequence > self.read_sequence {
                steps += 1;
                if steps > STEPS_BEFORE_SEEK {
                    steps = 0;
                    let target = match is_older {
                        true => [user, &LAST_TRAILER].concat(),
                        false => seek_key(user, self.read_sequence),
                    };
                    self.merge.seek(&target)?;
                } else {
                    self.merge.next()?;
                }
                continue;
            }
            let last = self.last.get_or_insert_default();
            last.clear();
            last.extend_from_slice(user);
            steps = 0;
            let covered = self.skyline.newest_covering(user);
            if sequence > covered {
                if kind == Kind::Put {
                    return Ok(Some((Value::from(user), self.merge.owned_value())));
                }
                self.merge.next()?;
            } else if hidden_steps < STEPS_BEFORE_SKIP {
                hidden_steps += 1;
                self.merge.next()?;
            } else {
                hidden_steps = 0;
                let (skyline, range) = (&mut self.skyline, &self.range);
                self.merge.move_current(|source| source.skip_forward(last, covered, skyline, range))?;
            }
        }
        Ok(None)
    }
}

/// Walks downward over what a reader sees.
#[derive(Debug)]
pub struct Backward {
    merge: MergingIterator<Source>,
    skyline: Skyline,
    range: KeyRange,
    read_sequence: SequenceNumber,
    started: bool,
    user: Vec<u8>,
}

impl Backward {
    /// Stands behind the last key of `range`.
    pub fn new(view: &KeyspaceView, range: KeyRange, read_sequence: SequenceNumber) -> Self {
        let (merge, skyline) = sources(view, &range, read_sequence);
        Self { merge, skyline, range, read_sequence, started: false, user: Vec::new() }
    }

    fn start(&mut self) -> Result<()> {
        self.started = true;
        match &self.range.upper {
            std::ops::Bound::Unbounded => self.merge.seek_to_last(),
            std::ops::Bound::Included(key) => self.merge.seek_for_prev(&[key, &LAST_TRAILER[..]].concat()),
            // Nothing stands at this internal key itself: no entry has its kind.
            std::ops::Bound::Excluded(key) => {
                self.merge.seek_for_prev(&seek_key(key, crate::key::SEQUENCE_MAX))
            }
        }
    }

    /// The next visible key downward, with its value.
    ///
    /// # Errors
    /// Io or corruption, naming file and offset.
    pub fn step(&mut self) -> Result<Option<(Value, Value)>> {
        if !self.started {
            self.start()?;
        }
        let mut hidden_steps = 0;
        // The merge stands on the oldest entry of a key that was not answered for.
        while self.merge.valid() {
            let (user, _) = split(self.merge.key())?;
            if user < self.range.lower.as_slice() {
                return Ok(None);
            }
            self.user.clear();
            self.user.extend_from_slice(user);
            let covered = self.skyline.newest_covering(&self.user);
            let is_hidden = |(_, source): (usize, &Source)| source.has_hidden(covered);
            if covered > 0 && hidden_steps >= STEPS_BEFORE_SKIP && self.merge.source().is_some_and(is_hidden)
            {
                hidden_steps = 0;
                // Of the source at hand alone: what another has of this key is answered for next.
                let (user, skyline, range) = (&self.user, &mut self.skyline, &self.range);
                self.merge.move_current(|source| source.skip_backward(user, covered, skyline, range))?;
                continue;
            }
            let mut newest: Option<Found> = None;
            while self.merge.valid() {
                let (user, trailer) = split(self.merge.key())?;
                if user != self.user {
                    break;
                }
                let (sequence, kind) = parse_trailer(trailer)?;
                if sequence <= self.read_sequence {
                    newest = Some((sequence, kind, self.merge.owned_value()));
                }
                self.merge.prev()?;
            }
            let Some(found) = newest else { continue };
            hidden_steps += usize::from(found.0 <= covered);
            if found.1 == Kind::Put
                && let Some(value) = live(found, covered)
            {
                return Ok(Some((Value::from(self.user.as_slice()), value)));
            }
        }
        Ok(None)
    }
}
