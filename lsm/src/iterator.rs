//! A scan: every key of a range with its value, from both ends, as of one moment.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::key::SequenceNumber;
use crate::levels::KeyspaceView;
use crate::range::KeyRange;
use crate::value::Value;
use crate::visible::{Backward, Forward};

/// An owned point-in-time scan. It can be sent to another thread and kept: it holds the tables that it reads, whatever is
/// flushed, compacted, written or closed meanwhile.
///
/// Items come in ascending order of keys from [`next`](Iterator::next), in descending order from
/// [`next_back`](DoubleEndedIterator::next_back); the two ends meet. After an error there are no more items.
pub struct Iter {
    view: Option<Arc<KeyspaceView>>,
    range: KeyRange,
    read_sequence: SequenceNumber,
    front: Option<Box<Forward>>,
    back: Option<Box<Backward>>,
    /// The last keys handed out at either end.
    front_key: Option<Value>,
    back_key: Option<Value>,
    /// Why there can be no item at all.
    fault: Option<Error>,
}

impl Iter {
    pub(crate) fn new(view: Arc<KeyspaceView>, range: KeyRange, read_sequence: SequenceNumber) -> Self {
        let view = (!range.is_empty()).then_some(view);
        Self {
            view,
            range,
            read_sequence,
            front: None,
            back: None,
            front_key: None,
            back_key: None,
            fault: None,
        }
    }

    /// An iterator without items.
    pub(crate) fn empty() -> Self {
        Self {
            view: None,
            range: KeyRange::all(),
            read_sequence: 0,
            front: None,
            back: None,
            front_key: None,
            back_key: None,
            fault: None,
        }
    }

    /// An iterator whose only item is this error.
    pub(crate) fn failed(fault: Error) -> Self {
        Self { fault: Some(fault), ..Self::empty() }
    }

    fn finish(&mut self) {
        self.view = None;
        self.front = None;
        self.back = None;
    }
}

impl Iterator for Iter {
    type Item = Result<(Value, Value)>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(fault) = self.fault.take() {
            return Some(Err(fault));
        }
        let view = self.view.as_ref()?;
        let front = self
            .front
            .get_or_insert_with(|| Box::new(Forward::new(view, self.range.clone(), self.read_sequence)));
        match front.step() {
            Ok(Some((key, value))) if self.back_key.as_ref().is_none_or(|back| key < *back) => {
                self.front_key = Some(key.clone());
                Some(Ok((key, value)))
            }
            Ok(_) => {
                self.finish();
                None
            }
            Err(error) => {
                self.finish();
                Some(Err(error))
            }
        }
    }
}

impl DoubleEndedIterator for Iter {
    fn next_back(&mut self) -> Option<Self::Item> {
        if let Some(fault) = self.fault.take() {
            return Some(Err(fault));
        }
        let view = self.view.as_ref()?;
        let back = self
            .back
            .get_or_insert_with(|| Box::new(Backward::new(view, self.range.clone(), self.read_sequence)));
        match back.step() {
            Ok(Some((key, value))) if self.front_key.as_ref().is_none_or(|front| key > *front) => {
                self.back_key = Some(key.clone());
                Some(Ok((key, value)))
            }
            Ok(_) => {
                self.finish();
                None
            }
            Err(error) => {
                self.finish();
                Some(Err(error))
            }
        }
    }
}

impl std::iter::FusedIterator for Iter {}

impl std::fmt::Debug for Iter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Iter")
            .field("range", &self.range)
            .field("read_sequence", &self.read_sequence)
            .field("finished", &self.view.is_none())
            .finish_non_exhaustive()
    }
}

const _: () = {
    const fn is_sendable<T: Send + 'static>() {}
    is_sendable::<Iter>();
};
