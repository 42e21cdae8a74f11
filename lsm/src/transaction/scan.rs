//! A scan of a transaction: what was there, with what it wrote itself laid over it, from both ends; and the memory of how far it came.

use std::cmp::Ordering;
use std::ops::Bound;

use crate::sync::Mutex;

use super::reads::Reads;
use super::writes::{Writes, Written, WrittenRange};
use crate::batch::KeyspaceId;
use crate::error::Result;
use crate::iterator::Iter;
use crate::range::KeyRange;
use crate::value::Value;

/// The entries of a range as a transaction sees them. What it passes over counts as read by the transaction; what lies behind the last item that
/// was taken does not.
pub struct TransactionIter<'a> {
    reads: &'a Mutex<Reads>,
    keyspace: KeyspaceId,
    /// Where the transaction remembers this scan.
    place: usize,
    range: KeyRange,
    own: Option<&'a Writes>,
    there: Peeked<Result<(Value, Value)>, Iter>,
    written: Peeked<Written<'a>, WrittenRange<'a>>,
    /// The last keys that were passed over from either end.
    front: Option<Vec<u8>>,
    back: Option<Vec<u8>>,
    /// Whether all of the range was passed over.
    is_exhausted: bool,
}

/// Both ends of an iterator, each looked at before it is taken.
struct Peeked<T, I> {
    iter: Option<I>,
    front: Option<T>,
    back: Option<T>,
}

impl<T, I: DoubleEndedIterator<Item = T>> Peeked<T, I> {
    fn new(iter: Option<I>) -> Self {
        Self { iter, front: None, back: None }
    }

    fn peek(&mut self) -> Option<&T> {
        if self.front.is_none() {
            self.front = self.iter.as_mut().and_then(Iterator::next).or_else(|| self.back.take());
        }
        self.front.as_ref()
    }

    fn peek_back(&mut self) -> Option<&T> {
        if self.back.is_none() {
            self.back =
                self.iter.as_mut().and_then(DoubleEndedIterator::next_back).or_else(|| self.front.take());
        }
        self.back.as_ref()
    }
}

impl<'a> TransactionIter<'a> {
    pub(super) fn new(
        reads: &'a Mutex<Reads>,
        own: Option<&'a Writes>,
        keyspace: KeyspaceId,
        range: KeyRange,
        there: Iter,
    ) -> Self {
        Self {
            place: reads.lock().scan(keyspace, &range),
            reads,
            keyspace,
            own,
            there: Peeked::new(Some(there)),
            written: Peeked::new(own.map(|own| own.range(&range))),
            range,
            front: None,
            back: None,
            is_exhausted: false,
        }
    }

    fn finish(&mut self) {
        self.is_exhausted = true;
        self.there = Peeked::new(None);
        self.written = Peeked::new(None);
    }

    /// The next item at one end, which `peek`, `take` and `order` are for; also where it is none that is shown.
    fn step(&mut self, end: End) -> Option<Result<Step>> {
        let there = match end {
            End::Front => self.there.peek(),
            End::Back => self.there.peek_back(),
        };
        let written = match end {
            End::Front => self.written.peek(),
            End::Back => self.written.peek_back(),
        };
        let order = match (there, written) {
            (None, None) => return None,
            (Some(Err(_)), _) | (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(Ok((there, _))), Some((written, _))) => match end {
                End::Front => there[..].cmp(&written[..]),
                End::Back => written[..].cmp(&there[..]),
            },
        };
        let there = match order {
            Ordering::Greater => None,
            _ => end.of(&mut self.there).take(),
        };
        let written = match order {
            Ordering::Less => None,
            _ => end.of(&mut self.written).take(),
        };
        // What was written stands before what was there.
        Some(match (there, written) {
            (_, Some((key, value))) => Ok(Step { key: Value::from(key.as_slice()), value: value.clone() }),
            (Some(Ok((key, value))), None) => {
                let is_deleted = self.own.is_some_and(|own| own.is_deleted(&key));
                Ok(Step { key, value: (!is_deleted).then_some(value) })
            }
            (Some(Err(error)), None) => Err(error),
            (None, None) => return None,
        })
    }

    fn advance(&mut self, end: End) -> Option<Result<(Value, Value)>> {
        loop {
            match self.step(end) {
                None => {
                    self.finish();
                    return None;
                }
                Some(Err(error)) => {
                    self.finish();
                    return Some(Err(error));
                }
                Some(Ok(Step { key, value })) => {
                    let passed = match end {
                        End::Front => &mut self.front,
                        End::Back => &mut self.back,
                    };
                    let passed = passed.get_or_insert_default();
                    passed.clear();
                    passed.extend_from_slice(&key);
                    if let Some(value) = value {
                        return Some(Ok((key, value)));
                    }
                }
            }
        }
    }
}

/// One key that was passed over, and what it shows.
struct Step {
    key: Value,
    value: Option<Value>,
}

#[derive(Clone, Copy)]
enum End {
    Front,
    Back,
}

impl End {
    fn of<T, I>(self, peeked: &mut Peeked<T, I>) -> &mut Option<T> {
        match self {
            Self::Front => &mut peeked.front,
            Self::Back => &mut peeked.back,
        }
    }
}

impl Iterator for TransactionIter<'_> {
    type Item = Result<(Value, Value)>;

    fn next(&mut self) -> Option<Self::Item> {
        self.advance(End::Front)
    }
}

impl DoubleEndedIterator for TransactionIter<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.advance(End::Back)
    }
}

impl std::iter::FusedIterator for TransactionIter<'_> {}

impl Drop for TransactionIter<'_> {
    fn drop(&mut self) {
        if self.is_exhausted {
            return;
        }
        let front = self.front.take().map(|last| KeyRange::inclusive(self.range.lower.clone(), last));
        let back = self.back.take().map(|first| KeyRange {
            lower: first,
            upper: std::mem::replace(&mut self.range.upper, Bound::Unbounded),
        });
        self.reads.lock().scanned(self.keyspace, self.place, [front, back]);
    }
}

impl std::fmt::Debug for TransactionIter<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TransactionIter").field("range", &self.range).finish_non_exhaustive()
    }
}
