//! A target in memory, for tests: everything put is durable, and what it holds can be tampered with.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::{ObjectInfo, ObjectKey, Target, within_prefix};
use crate::error::{Error, ErrorKind, Result};

/// The objects of a [`MemTarget`].
pub type Objects = BTreeMap<ObjectKey, Arc<[u8]>>;

/// A target in memory.
#[derive(Debug)]
pub struct MemTarget {
    url: String,
    objects: Mutex<Objects>,
}

impl MemTarget {
    /// An empty target that calls itself `mem:NAME`.
    pub fn new(name: &str) -> Arc<Self> {
        Arc::new(Self { url: format!("mem:{name}"), objects: Mutex::default() })
    }

    /// A copy of all it holds (the bytes are shared).
    pub fn objects(&self) -> Objects {
        self.objects.lock().clone()
    }

    /// Replaces all it holds.
    pub fn set_objects(&self, objects: Objects) {
        *self.objects.lock() = objects;
    }

    /// Changes what it holds behind everybody's back.
    pub fn tamper(&self, change: impl FnOnce(&mut Objects)) {
        change(&mut self.objects.lock());
    }

    /// Flips a bit of the byte at this offset of an object, if both are there.
    pub fn flip(&self, key: &ObjectKey, offset: usize) {
        self.tamper(|objects| {
            let mut bytes = objects.get(key).map(|bytes| bytes.to_vec()).unwrap_or_default();
            if let Some(byte) = bytes.get_mut(offset) {
                *byte ^= 1;
                objects.insert(key.clone(), bytes.into());
            }
        });
    }

    fn not_found(&self, key: &ObjectKey) -> Error {
        Error::new(ErrorKind::NotFound, format!("target {}: {key}: it is not there", self.url))
    }
}

impl Target for MemTarget {
    fn url(&self) -> &str {
        &self.url
    }

    fn put(&self, key: &ObjectKey, parts: &[&[u8]]) -> Result<()> {
        let bytes = parts.concat();
        let mut objects = self.objects.lock();
        if objects.get(key).is_none_or(|found| found.len() != bytes.len()) {
            objects.insert(key.clone(), bytes.into());
        }
        Ok(())
    }

    fn put_new(&self, key: &ObjectKey, parts: &[&[u8]]) -> Result<()> {
        let mut objects = self.objects.lock();
        if objects.contains_key(key) {
            return Err(Error::new(
                ErrorKind::AlreadyExists,
                format!("target {}: {key}: it exists already and is not replaced", self.url),
            ));
        }
        objects.insert(key.clone(), parts.concat().into());
        Ok(())
    }

    fn get(&self, key: &ObjectKey) -> Result<Vec<u8>> {
        self.objects.lock().get(key).map(|bytes| bytes.to_vec()).ok_or_else(|| self.not_found(key))
    }

    fn get_range(&self, key: &ObjectKey, offset: u64, length: usize) -> Result<Vec<u8>> {
        let objects = self.objects.lock();
        let bytes = objects.get(key).ok_or_else(|| self.not_found(key))?;
        let offset = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
        let end = offset.saturating_add(length).min(bytes.len());
        Ok(bytes.get(offset..end).unwrap_or_default().to_vec())
    }

    fn length(&self, key: &ObjectKey) -> Result<Option<u64>> {
        Ok(self.objects.lock().get(key).map(|bytes| bytes.len() as u64))
    }

    fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>> {
        if !prefix.is_empty() {
            ObjectKey::new(prefix)?;
        }
        let objects = self.objects.lock();
        Ok(objects
            .iter()
            .filter(|(key, _)| within_prefix(key.as_str(), prefix))
            .map(|(key, bytes)| ObjectInfo { key: key.clone(), length: bytes.len() as u64 })
            .collect())
    }

    fn delete(&self, key: &ObjectKey) -> Result<()> {
        self.objects.lock().remove(key);
        Ok(())
    }

    fn set_aside(&self, key: &ObjectKey) -> Result<ObjectKey> {
        let mut objects = self.objects.lock();
        let bytes = objects.remove(key).ok_or_else(|| self.not_found(key))?;
        let mut number = 0;
        let aside = loop {
            let aside = key.aside(number)?;
            if !objects.contains_key(&aside) {
                break aside;
            }
            number += 1;
        };
        objects.insert(aside.clone(), bytes);
        Ok(aside)
    }

    fn put_back(&self, aside: &ObjectKey, key: &ObjectKey) -> Result<()> {
        let mut objects = self.objects.lock();
        if objects.contains_key(key) {
            let what = format!("target {}: {key}: something is there already", self.url);
            return Err(Error::new(ErrorKind::AlreadyExists, what));
        }
        let bytes = objects.remove(aside).ok_or_else(|| self.not_found(aside))?;
        objects.insert(key.clone(), bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::conformance;

    #[test]
    fn behaves_as_a_target() {
        conformance::check(&|| (Box::new(()), Box::new(Arc::into_inner(MemTarget::new("a")).unwrap())));
    }
}
