//! A decorator that remembers every call: tests assert how much work was done.

use std::sync::Arc;

use parking_lot::Mutex;

use super::{ObjectInfo, ObjectKey, Operation, Target};
use crate::error::Result;

/// One call of a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// What was asked for.
    pub operation: Operation,
    /// The object's key, or the prefix of a listing.
    pub key: String,
    /// Bytes that went to the target (puts) or came from it (gets).
    pub bytes: u64,
    /// Whether it succeeded.
    pub ok: bool,
}

/// Remembers the calls of another target.
#[derive(Debug)]
pub struct RecordTarget {
    inner: Arc<dyn Target>,
    calls: Mutex<Vec<Call>>,
}

impl RecordTarget {
    /// Remembers the calls of `inner`.
    pub fn new(inner: Arc<dyn Target>) -> Arc<Self> {
        Arc::new(Self { inner, calls: Mutex::default() })
    }

    /// The calls so far.
    pub fn calls(&self) -> Vec<Call> {
        self.calls.lock().clone()
    }

    /// The calls so far, which are then forgotten.
    pub fn take_calls(&self) -> Vec<Call> {
        std::mem::take(&mut self.calls.lock())
    }

    /// How many calls of an operation there were.
    pub fn count(&self, operation: Operation) -> usize {
        self.calls.lock().iter().filter(|call| call.operation == operation).count()
    }

    /// Bytes put so far.
    pub fn bytes_put(&self) -> u64 {
        let put = |call: &&Call| call.ok && matches!(call.operation, Operation::Put | Operation::PutNew);
        self.calls.lock().iter().filter(put).map(|call| call.bytes).sum()
    }

    fn note<T>(&self, operation: Operation, key: &str, bytes: u64, result: Result<T>) -> Result<T> {
        self.calls.lock().push(Call { operation, key: key.to_owned(), bytes, ok: result.is_ok() });
        result
    }
}

fn sum(parts: &[&[u8]]) -> u64 {
    parts.iter().map(|part| part.len() as u64).sum()
}

fn got(result: &Result<Vec<u8>>) -> u64 {
    result.as_ref().map_or(0, |bytes| bytes.len() as u64)
}

impl Target for RecordTarget {
    fn url(&self) -> &str {
        self.inner.url()
    }

    fn put(&self, key: &ObjectKey, parts: &[&[u8]]) -> Result<()> {
        self.note(Operation::Put, key.as_str(), sum(parts), self.inner.put(key, parts))
    }

    fn put_new(&self, key: &ObjectKey, parts: &[&[u8]]) -> Result<()> {
        self.note(Operation::PutNew, key.as_str(), sum(parts), self.inner.put_new(key, parts))
    }

    fn get(&self, key: &ObjectKey) -> Result<Vec<u8>> {
        let result = self.inner.get(key);
        self.note(Operation::Get, key.as_str(), got(&result), result)
    }

    fn get_at_most(&self, key: &ObjectKey, limit: u64) -> Result<Vec<u8>> {
        let result = self.inner.get_at_most(key, limit);
        self.note(Operation::Get, key.as_str(), got(&result), result)
    }

    fn get_range(&self, key: &ObjectKey, offset: u64, length: usize) -> Result<Vec<u8>> {
        let result = self.inner.get_range(key, offset, length);
        self.note(Operation::GetRange, key.as_str(), got(&result), result)
    }

    fn length(&self, key: &ObjectKey) -> Result<Option<u64>> {
        self.note(Operation::Length, key.as_str(), 0, self.inner.length(key))
    }

    fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>> {
        self.note(Operation::List, prefix, 0, self.inner.list(prefix))
    }

    fn delete(&self, key: &ObjectKey) -> Result<()> {
        self.note(Operation::Delete, key.as_str(), 0, self.inner.delete(key))
    }

    fn set_aside(&self, key: &ObjectKey) -> Result<ObjectKey> {
        self.note(Operation::SetAside, key.as_str(), 0, self.inner.set_aside(key))
    }

    fn put_back(&self, aside: &ObjectKey, key: &ObjectKey) -> Result<()> {
        self.note(Operation::PutBack, key.as_str(), 0, self.inner.put_back(aside, key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::conformance;
    use crate::target::mem::MemTarget;

    #[test]
    fn behaves_as_the_target_within() {
        conformance::check(&|| {
            let target = RecordTarget::new(MemTarget::new("a"));
            (Box::new(()), Box::new(Arc::into_inner(target).unwrap()))
        });
    }

    #[test]
    fn calls_are_counted() {
        let target = RecordTarget::new(MemTarget::new("a"));
        let key = ObjectKey::new("config").unwrap();
        target.put(&key, &[b"ab", b"c"]).unwrap();
        target.get(&key).unwrap();
        assert!(target.put_new(&key, &[b"x"]).is_err());
        assert_eq!(target.bytes_put(), 3);
        assert_eq!(target.count(Operation::Get), 1);
        assert_eq!(target.take_calls().len(), 3);
        assert!(target.calls().is_empty());
    }
}
