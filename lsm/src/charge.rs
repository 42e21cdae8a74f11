//! Counts of bytes in memory: grown by what is made, shrunk when it is dropped, whoever kept it alive until then.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes that all of one kind take together.
#[derive(Debug, Default)]
pub(crate) struct Charge {
    bytes: AtomicUsize,
}

impl Charge {
    /// Something takes so many bytes more.
    pub(crate) fn add(&self, bytes: usize) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Something gives so many back, all of which were added.
    pub(crate) fn subtract(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// The bytes taken now.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }
}

/// Bytes that are charged for as long as this is kept.
#[derive(Debug)]
pub(crate) struct Charged {
    charge: Arc<Charge>,
    bytes: usize,
}

impl Charged {
    pub(crate) fn new(charge: &Arc<Charge>, bytes: usize) -> Self {
        charge.add(bytes);
        Self { charge: Arc::clone(charge), bytes }
    }
}

impl Drop for Charged {
    fn drop(&mut self) {
        self.charge.subtract(self.bytes);
    }
}
