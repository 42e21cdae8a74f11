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
///
/// An item is a pair of handles that can be kept. Whoever only looks at each entry in passing takes [`step`](Self::step) and
/// [`step_back`](Self::step_back) instead, which lend it where it lies and allocate nothing for it. They are the same scan,
/// and can be mixed.
///
/// ```
/// # fn main() -> lsm::Result<()> {
/// # let directory = tempfile::tempdir().unwrap();
/// # let db = lsm::Db::open(directory.path())?;
/// # let map = db.keyspace("map", lsm::KeyspaceOptions::sorted())?;
/// # map.put("fruit/apple", "3")?;
/// # map.put("fruit/pear", "4")?;
/// let mut bytes = 0;
/// let mut scan = map.prefix("fruit/");
/// while let Some((_key, value)) = scan.step()? {
///     bytes += value.len();
/// }
/// assert_eq!(bytes, 2);
/// # db.close()
/// # }
/// ```
pub struct Iter {
    view: Option<Arc<KeyspaceView>>,
    range: KeyRange,
    read_sequence: SequenceNumber,
    front: Option<Box<Forward>>,
    back: Option<Box<Backward>>,
    /// Why there can be no item at all.
    fault: Option<Error>,
}

impl Iter {
    pub(crate) fn new(view: Arc<KeyspaceView>, range: KeyRange, read_sequence: SequenceNumber) -> Self {
        let view = (!range.is_empty()).then_some(view);
        Self { view, range, read_sequence, front: None, back: None, fault: None }
    }

    /// An iterator without items.
    pub(crate) fn empty() -> Self {
        Self { view: None, range: KeyRange::all(), read_sequence: 0, front: None, back: None, fault: None }
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

    /// Moves the front end on to the next entry, if there is one before the back end.
    #[inline]
    fn advance(&mut self) -> Result<Option<&Forward>> {
        if let Some(fault) = self.fault.take() {
            return Err(fault);
        }
        let Some(view) = &self.view else { return Ok(None) };
        let front = self
            .front
            .get_or_insert_with(|| Box::new(Forward::new(view, self.range.clone(), self.read_sequence)));
        let stepped = front.step();
        if let Ok(true) = stepped
            && self.back.as_ref().is_none_or(|back| front.key() < back.key())
        {
            return Ok(self.front.as_deref());
        }
        self.finish();
        stepped.map(|_| None)
    }

    /// Moves the back end on likewise.
    #[inline]
    fn advance_back(&mut self) -> Result<Option<&Backward>> {
        if let Some(fault) = self.fault.take() {
            return Err(fault);
        }
        let Some(view) = &self.view else { return Ok(None) };
        let back = self
            .back
            .get_or_insert_with(|| Box::new(Backward::new(view, self.range.clone(), self.read_sequence)));
        let stepped = back.step();
        if let Ok(true) = stepped
            && self.front.as_ref().is_none_or(|front| back.key() > front.key())
        {
            return Ok(self.back.as_deref());
        }
        self.finish();
        stepped.map(|_| None)
    }

    /// The next entry in ascending order, lent until the next call: key and value.
    ///
    /// # Errors
    /// Io or Corruption, naming file and offset; what the scan could not begin for. There are no more entries afterwards.
    #[inline]
    pub fn step(&mut self) -> Result<Option<(&[u8], &[u8])>> {
        Ok(self.advance()?.map(|front| (front.key(), front.value())))
    }

    /// The next entry in descending order, lent until the next call: key and value.
    ///
    /// # Errors
    /// As [`Self::step`].
    #[inline]
    pub fn step_back(&mut self) -> Result<Option<(&[u8], &[u8])>> {
        Ok(self.advance_back()?.map(|back| (back.key(), back.value())))
    }
}

impl Iterator for Iter {
    type Item = Result<(Value, Value)>;

    fn next(&mut self) -> Option<Self::Item> {
        let entry = self.advance().transpose()?;
        Some(entry.map(|front| (Value::from(front.key()), front.owned_value())))
    }
}

impl DoubleEndedIterator for Iter {
    fn next_back(&mut self) -> Option<Self::Item> {
        let entry = self.advance_back().transpose()?;
        Some(entry.map(|back| (Value::from(back.key()), back.owned_value())))
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
