//! Scans over what a reader sees, upward and downward.

use std::ops::Bound;

use super::skyline::Skyline;
use super::source::{Source, sources};
use crate::error::Result;
use crate::iter::InternalIterator;
use crate::key::{self, Kind, SequenceNumber, TRAILER_BYTES, parse_trailer, seek_key, split};
use crate::levels::KeyspaceView;
use crate::merge::MergingIterator;
use crate::range::KeyRange;
use crate::value::Value;

/// Room for most keys.
const KEY_CAPACITY: usize = 96;

/// Older versions of a key that are stepped over before the cursor seeks past the rest.
const STEPS_BEFORE_SEEK: usize = 8;

/// Deleted entries that are stepped over before the cursor asks where the deleted range ends: a seek costs as much as some steps.
const STEPS_BEFORE_SKIP: usize = 4;

/// The trailer behind which no entry of a key stands.
const LAST_TRAILER: [u8; TRAILER_BYTES] = [0xff; TRAILER_BYTES];

/// Values of at most this many bytes are copied by a walk downward, which has to move on before it knows that an entry is the one to show. Larger ones it
/// takes a share in, where the source has one to give.
const COPIED_BYTES_MAX: usize = 4 << 10;

/// Walks upward over what a reader sees.
#[derive(Debug)]
pub struct Forward {
    merge: MergingIterator<Source>,
    skyline: Skyline,
    range: KeyRange,
    read_sequence: SequenceNumber,
    started: bool,
    /// Whether no source goes on behind the end of the range.
    ends_with_range: bool,
    /// The last user key that was answered for, whatever the answer; and whether there was one.
    last: Vec<u8>,
    has_last: bool,
}

impl Forward {
    /// Stands before the first key of `range`.
    pub fn new(view: &KeyspaceView, range: KeyRange, read_sequence: SequenceNumber) -> Self {
        let (merge, skyline) = sources(view, &range, read_sequence);
        Self {
            merge,
            skyline,
            range,
            read_sequence,
            started: false,
            ends_with_range: false,
            last: Vec::with_capacity(KEY_CAPACITY),
            has_last: false,
        }
    }

    /// The key on which it stands after a step that found one.
    #[inline]
    pub fn key(&self) -> &[u8] {
        &self.last
    }

    /// The value of that key.
    #[inline]
    pub fn value(&self) -> &[u8] {
        self.merge.value()
    }

    /// The same as a handle that may share the block.
    pub fn owned_value(&self) -> Value {
        self.merge.owned_value()
    }

    #[cold]
    fn start(&mut self) -> Result<()> {
        // Not the last of anything yet: room for what is looked for.
        self.last.clear();
        self.last.extend_from_slice(&self.range.lower);
        self.last.extend_from_slice(&key::trailer_before(key::SEQUENCE_MAX));
        self.merge.seek(&self.last)?;
        self.started = true;
        // Memtables know no bounds, and tables may have nothing in these. Mostly one source is left, and nothing to merge.
        let range = &self.range;
        self.merge.retain(|source| source.valid() && range.is_before_end(source.user_key()));
        self.ends_with_range = self.merge.all_are(Source::ends_with_range);
        Ok(())
    }

    /// Moves to the next visible key; whether there is one.
    ///
    /// # Errors
    /// Io or corruption, naming file and offset.
    #[inline]
    pub fn step(&mut self) -> Result<bool> {
        if self.started {
            self.merge.next()?;
        } else {
            self.start()?;
        }
        let mut steps = 0;
        let mut hidden_steps = 0;
        while self.merge.valid() {
            let (user, trailer) = split(self.merge.key())?;
            if !self.ends_with_range && !self.range.is_before_end(user) {
                return Ok(false);
            }
            let is_older = self.has_last && key::is_same(&self.last, user);
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
            self.last.clear();
            self.last.extend_from_slice(user);
            self.has_last = true;
            steps = 0;
            let covered = self.skyline.newest_covering(&self.last);
            if sequence > covered {
                if kind == Kind::Put {
                    return Ok(true);
                }
                self.merge.next()?;
            } else if hidden_steps < STEPS_BEFORE_SKIP {
                hidden_steps += 1;
                self.merge.next()?;
            } else {
                hidden_steps = 0;
                let (last, skyline, range) = (&self.last, &mut self.skyline, &self.range);
                self.merge.move_current(|source| source.skip_forward(last, covered, skyline, range))?;
            }
        }
        Ok(false)
    }
}

/// The value of the newest visible entry of a key that a walk downward has met so far.
#[derive(Debug, Default)]
struct Kept {
    copied: Vec<u8>,
    /// In the place of a copy.
    shared: Option<Value>,
}

impl Kept {
    #[inline]
    fn set(&mut self, merge: &MergingIterator<Source>) {
        let value = merge.value();
        self.copied.clear();
        if value.len() <= COPIED_BYTES_MAX {
            self.copied.extend_from_slice(value);
            self.shared = None;
        } else {
            self.shared = Some(merge.owned_value());
        }
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
    value: Kept,
}

impl Backward {
    /// Stands behind the last key of `range`.
    pub fn new(view: &KeyspaceView, range: KeyRange, read_sequence: SequenceNumber) -> Self {
        let (merge, skyline) = sources(view, &range, read_sequence);
        let (user, value) = (Vec::new(), Kept::default());
        Self { merge, skyline, range, read_sequence, started: false, user, value }
    }

    /// The key on which it stands after a step that found one.
    #[inline]
    pub fn key(&self) -> &[u8] {
        &self.user
    }

    /// The value of that key.
    #[inline]
    pub fn value(&self) -> &[u8] {
        self.value.shared.as_deref().unwrap_or(&self.value.copied)
    }

    /// The same as a handle.
    pub fn owned_value(&self) -> Value {
        self.value.shared.clone().unwrap_or_else(|| Value::from(self.value.copied.as_slice()))
    }

    #[cold]
    fn start(&mut self) -> Result<()> {
        self.started = true;
        match &self.range.upper {
            Bound::Unbounded => self.merge.seek_to_last(),
            Bound::Included(upper) => self.merge.seek_for_prev(&[upper, &LAST_TRAILER[..]].concat()),
            // Nothing stands at this internal key itself: no entry has its kind.
            Bound::Excluded(upper) => self.merge.seek_for_prev(&seek_key(upper, key::SEQUENCE_MAX)),
        }?;
        let lower = &self.range.lower;
        self.merge.retain(|source| source.valid() && key::order(source.user_key(), lower).is_ge());
        Ok(())
    }

    /// Moves to the next visible key downward; whether there is one.
    ///
    /// # Errors
    /// Io or corruption, naming file and offset.
    #[inline]
    pub fn step(&mut self) -> Result<bool> {
        if !self.started {
            self.start()?;
        }
        let mut hidden_steps = 0;
        // The merge stands on the oldest entry of a key that was not answered for.
        while self.merge.valid() {
            let (user, _) = split(self.merge.key())?;
            if key::order(user, &self.range.lower).is_lt() {
                return Ok(false);
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
            let mut newest: Option<(SequenceNumber, Kind)> = None;
            while self.merge.valid() {
                let (user, trailer) = split(self.merge.key())?;
                if !key::is_same(user, &self.user) {
                    break;
                }
                let (sequence, kind) = parse_trailer(trailer)?;
                if sequence <= self.read_sequence {
                    newest = Some((sequence, kind));
                    if kind == Kind::Put && sequence > covered {
                        self.value.set(&self.merge);
                    }
                }
                self.merge.prev()?;
            }
            let Some((sequence, kind)) = newest else { continue };
            hidden_steps += usize::from(sequence <= covered);
            if kind == Kind::Put && sequence > covered {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
