//! A decorator that fails as told: the n-th call, every call from then on, reads that lie, a connection that dies.
//!
//! Tests run the real code over it and fail each call in turn. Puts and deletions of the interface are atomic, so a failed one has either
//! happened or not; both are here ([`Fault::Fail`], [`Fault::LostAnswer`]).

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::{ObjectInfo, ObjectKey, Operation, Target};
use crate::error::{Error, ErrorKind, Result};

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The call does nothing and fails with this kind.
    Fail(ErrorKind),
    /// The call is done, but its answer is lost: the caller sees an error of kind `Target`.
    LostAnswer,
    /// What is read is cut to this many bytes; listings to this many objects.
    Truncate(usize),
    /// One bit of the byte at this offset of what is read (counted from the start of the answer, modulo its length) is flipped.
    FlipBit(usize),
    /// The call takes this much longer.
    Slow(Duration),
}

/// Which calls go wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Only calls of this operation, or of every one.
    pub operation: Option<Operation>,
    /// Only calls whose key or prefix starts with this text.
    pub prefix: String,
    /// How many matching calls go well before.
    pub after: u64,
    /// Whether the calls after the first bad one go wrong too.
    pub sticky: bool,
    /// What happens.
    pub fault: Fault,
}

impl Rule {
    /// Every call fails, from the one behind the first `after` on: the power is gone, or the connection.
    pub fn dies_after(after: u64) -> Self {
        let fault = Fault::Fail(ErrorKind::Target);
        Self { operation: None, prefix: String::new(), after, sticky: true, fault }
    }

    /// One call fails, the one behind the first `after`.
    pub fn fails_once_after(after: u64) -> Self {
        Self { sticky: false, ..Self::dies_after(after) }
    }

    /// Every call of `operation` on keys that start with `prefix` goes wrong.
    pub fn always(operation: Operation, prefix: &str, fault: Fault) -> Self {
        Self { operation: Some(operation), prefix: prefix.to_owned(), after: 0, sticky: true, fault }
    }
}

/// Fails as told over another target.
#[derive(Debug)]
pub struct FaultTarget {
    inner: Arc<dyn Target>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    rules: Vec<(Rule, u64)>,
    calls: u64,
    hits: u64,
}

impl FaultTarget {
    /// Passes everything on to `inner` until rules are added.
    pub fn new(inner: Arc<dyn Target>) -> Arc<Self> {
        Arc::new(Self { inner, state: Arc::default() })
    }

    /// The same rules and counts over another target: one power that goes for both.
    pub fn sharing(&self, inner: Arc<dyn Target>) -> Arc<Self> {
        Arc::new(Self { inner, state: Arc::clone(&self.state) })
    }

    /// Adds a rule; it counts calls from now on.
    pub fn add(&self, rule: Rule) {
        self.state.lock().rules.push((rule, 0));
    }

    /// Takes all rules away and counts from zero again.
    pub fn clear(&self) {
        *self.state.lock() = State::default();
    }

    /// How many calls there were since the start or the last [`FaultTarget::clear`].
    pub fn calls(&self) -> u64 {
        self.state.lock().calls
    }

    /// How many of them a rule hit.
    pub fn hits(&self) -> u64 {
        self.state.lock().hits
    }

    fn pick(&self, operation: Operation, key: &str) -> Option<Fault> {
        let mut state = self.state.lock();
        state.calls += 1;
        let mut fault = None;
        for (rule, seen) in &mut state.rules {
            if rule.operation.is_some_and(|only| only != operation) || !key.starts_with(&rule.prefix) {
                continue;
            }
            let hit = if rule.sticky { *seen >= rule.after } else { *seen == rule.after };
            *seen += 1;
            if hit && fault.is_none() {
                fault = Some(rule.fault);
            }
        }
        state.hits += u64::from(fault.is_some());
        fault
    }

    fn call<T>(
        &self,
        operation: Operation,
        key: &str,
        call: impl FnOnce() -> Result<T>,
        lie: impl FnOnce(Fault, T) -> T,
    ) -> Result<T> {
        let injected = |kind| {
            Error::new(kind, format!("target {}: {key}: injected failure of {operation:?}", self.inner.url()))
        };
        match self.pick(operation, key) {
            None => call(),
            Some(Fault::Fail(kind)) => Err(injected(kind)),
            Some(Fault::LostAnswer) => call().and(Err(injected(ErrorKind::Target))),
            Some(Fault::Slow(time)) => {
                std::thread::sleep(time);
                call()
            }
            Some(fault @ (Fault::Truncate(_) | Fault::FlipBit(_))) => call().map(|answer| lie(fault, answer)),
        }
    }
}

fn lie_bytes(fault: Fault, mut bytes: Vec<u8>) -> Vec<u8> {
    match fault {
        Fault::Truncate(length) => bytes.truncate(length),
        Fault::FlipBit(offset) => {
            let length = bytes.len().max(1);
            if let Some(byte) = bytes.get_mut(offset % length) {
                *byte ^= 1;
            }
        }
        Fault::Fail(_) | Fault::LostAnswer | Fault::Slow(_) => {}
    }
    bytes
}

impl Target for FaultTarget {
    fn url(&self) -> &str {
        self.inner.url()
    }

    fn put(&self, key: &ObjectKey, parts: &[&[u8]]) -> Result<()> {
        self.call(Operation::Put, key.as_str(), || self.inner.put(key, parts), |_, ()| ())
    }

    fn put_new(&self, key: &ObjectKey, parts: &[&[u8]]) -> Result<()> {
        self.call(Operation::PutNew, key.as_str(), || self.inner.put_new(key, parts), |_, ()| ())
    }

    fn get(&self, key: &ObjectKey) -> Result<Vec<u8>> {
        self.call(Operation::Get, key.as_str(), || self.inner.get(key), lie_bytes)
    }

    fn get_at_most(&self, key: &ObjectKey, limit: u64) -> Result<Vec<u8>> {
        self.call(Operation::Get, key.as_str(), || self.inner.get_at_most(key, limit), lie_bytes)
    }

    fn get_range(&self, key: &ObjectKey, offset: u64, length: usize) -> Result<Vec<u8>> {
        self.call(Operation::GetRange, key.as_str(), || self.inner.get_range(key, offset, length), lie_bytes)
    }

    fn length(&self, key: &ObjectKey) -> Result<Option<u64>> {
        self.call(Operation::Length, key.as_str(), || self.inner.length(key), |_, length| length)
    }

    fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>> {
        let lie = |fault, mut objects: Vec<ObjectInfo>| {
            if let Fault::Truncate(count) = fault {
                objects.truncate(count);
            }
            objects
        };
        self.call(Operation::List, prefix, || self.inner.list(prefix), lie)
    }

    fn delete(&self, key: &ObjectKey) -> Result<()> {
        self.call(Operation::Delete, key.as_str(), || self.inner.delete(key), |_, ()| ())
    }

    fn set_aside(&self, key: &ObjectKey) -> Result<ObjectKey> {
        self.call(Operation::SetAside, key.as_str(), || self.inner.set_aside(key), |_, aside| aside)
    }

    fn put_back(&self, aside: &ObjectKey, key: &ObjectKey) -> Result<()> {
        self.call(Operation::PutBack, key.as_str(), || self.inner.put_back(aside, key), |_, ()| ())
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
            let target = FaultTarget::new(MemTarget::new("a"));
            (Box::new(()), Box::new(Arc::into_inner(target).unwrap()))
        });
    }

    #[test]
    fn rules_hit_the_calls_they_name() {
        let memory = MemTarget::new("a");
        let target = FaultTarget::new(memory.clone());
        let key = ObjectKey::new("packs/ab/cd").unwrap();
        target.add(Rule {
            after: 1,
            ..Rule::always(Operation::Put, "packs", Fault::Fail(ErrorKind::TargetFull))
        });
        target.put(&key, &[b"one"]).unwrap();
        assert_eq!(target.put(&key, &[b"two!"]).unwrap_err().kind(), ErrorKind::TargetFull);
        assert_eq!(target.put(&key, &[b"two!"]).unwrap_err().kind(), ErrorKind::TargetFull);
        assert_eq!((target.calls(), target.hits()), (3, 2));
        target.clear();
        target.add(Rule::always(Operation::Get, "", Fault::FlipBit(1)));
        assert_eq!(target.get(&key).unwrap(), b"ooe");
        target.clear();
        target.add(Rule::always(Operation::GetRange, "", Fault::Truncate(1)));
        assert_eq!(target.get_range(&key, 1, 2).unwrap(), b"n");
        target.clear();
        target.add(Rule { sticky: false, ..Rule::always(Operation::Delete, "", Fault::LostAnswer) });
        assert!(target.delete(&key).is_err());
        assert!(memory.objects().is_empty(), "it was done although its answer was lost");
        assert!(target.delete(&key).is_ok());
    }
}
