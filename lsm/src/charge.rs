//! Counts of bytes in memory: grown by what is made, shrunk when it is dropped, whoever kept it alive until then.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes that all of one kind take together.
#[derive(Debug, Default)]
pub(crate) struct Charge {
    bytes: AtomicUsize,
    watcher: Option<Watcher>,
}

/// Who wants to know when they have changed.
struct Watcher {
    /// By how much, as a power of two.
    step_bits: u32,
    tell: Box<dyn Fn(&Charge) + Send + Sync>,
}

impl std::fmt::Debug for Watcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watcher").field("step_bits", &self.step_bits).finish_non_exhaustive()
    }
}

impl Charge {
    /// One that calls `tell` each time that its bytes come over a multiple of a power of two, up or down, on the thread that changes them. Changes may follow one another
    /// faster than calls: `tell` looks at what is there then.
    pub(crate) fn watched(step_bits: u32, tell: impl Fn(&Self) + Send + Sync + 'static) -> Self {
        let watcher = Watcher { step_bits, tell: Box::new(tell) };
        Self { bytes: AtomicUsize::new(0), watcher: Some(watcher) }
    }

    /// Something takes so many bytes more.
    pub(crate) fn add(&self, bytes: usize) {
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.changed(before, before.wrapping_add(bytes));
    }

    /// Something gives so many back, all of which were added.
    pub(crate) fn subtract(&self, bytes: usize) {
        let before = self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.changed(before, before.wrapping_sub(bytes));
    }

    #[inline]
    fn changed(&self, before: usize, after: usize) {
        if let Some(watcher) = &self.watcher
            && (before ^ after) >> watcher.step_bits != 0
        {
            (watcher.tell)(self);
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_watches_is_told_of_each_step_up_and_down() {
        let told = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&told);
        let charge = Charge::watched(10, move |charge| seen.store(charge.bytes(), Ordering::Relaxed));
        let told = || told.load(Ordering::Relaxed);
        charge.add(1000);
        assert_eq!(told(), 0, "no step yet");
        charge.add(24);
        assert_eq!(told(), 1024);
        charge.add(5000);
        assert_eq!(told(), 6024);
        charge.subtract(100);
        assert_eq!(told(), 6024);
        charge.subtract(5000);
        assert_eq!(told(), 924);
    }
}
