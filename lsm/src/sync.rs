//! The standard library's locks, that a panic does not poison.
//!
//! A thread that panicked while it held a lock is a defect of the engine, which then goes on by what the state says, as it would with locks that know no
//! poison: what is written to disk is proven by checksums and counts, not by who held what. Whoever waits is woken by the guard that falls.

use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

pub(crate) use std::sync::MutexGuard;

/// [`std::sync::Mutex`], without poison.
#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(std::sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(std::sync::Mutex::new(value))
    }

    /// Waits for the lock.
    #[inline]
    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lock, if nobody holds it.
    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        match self.0.try_lock() {
            Ok(guard) => Some(guard),
            Err(std::sync::TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(std::sync::TryLockError::WouldBlock) => None,
        }
    }

    /// What it guarded.
    pub(crate) fn into_inner(self) -> T {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

/// [`std::sync::RwLock`], without poison.
#[derive(Debug, Default)]
pub(crate) struct RwLock<T>(std::sync::RwLock<T>);

impl<T> RwLock<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(std::sync::RwLock::new(value))
    }

    /// Waits until nobody writes.
    #[inline]
    pub(crate) fn read(&self) -> std::sync::RwLockReadGuard<'_, T> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lock, if nobody writes.
    #[inline]
    pub(crate) fn try_read(&self) -> Option<std::sync::RwLockReadGuard<'_, T>> {
        match self.0.try_read() {
            Ok(guard) => Some(guard),
            Err(std::sync::TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(std::sync::TryLockError::WouldBlock) => None,
        }
    }

    /// Waits until nobody reads or writes.
    #[inline]
    pub(crate) fn write(&self) -> std::sync::RwLockWriteGuard<'_, T> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// [`std::sync::Condvar`], for a [`Mutex`] of this module. Waking costs no system call where nobody waits.
#[derive(Debug, Default)]
pub(crate) struct Condvar {
    condvar: std::sync::Condvar,
    /// Who waits. It is counted under the lock: whoever changes under that lock what somebody waits for, and wakes them afterwards, sees them here; or they see
    /// what was changed.
    waiting: AtomicUsize,
}

impl Condvar {
    pub(crate) const fn new() -> Self {
        Self { condvar: std::sync::Condvar::new(), waiting: AtomicUsize::new(0) }
    }

    /// Lets go of the lock, and takes it again when woken, or for no reason.
    pub(crate) fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let guard = self.condvar.wait(guard).unwrap_or_else(PoisonError::into_inner);
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        guard
    }

    /// As [`Self::wait`], and whether it was `limit` that ended it.
    pub(crate) fn wait_for<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        limit: Duration,
    ) -> (MutexGuard<'a, T>, bool) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let (guard, end) = self.condvar.wait_timeout(guard, limit).unwrap_or_else(PoisonError::into_inner);
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        (guard, end.timed_out())
    }

    /// Wakes one who waits. The caller has changed what they wait for under the lock.
    #[inline]
    pub(crate) fn notify_one(&self) {
        if self.waiting.load(Ordering::Relaxed) > 0 {
            self.condvar.notify_one();
        }
    }

    /// Wakes all who wait. The caller has changed what they wait for under the lock.
    #[inline]
    pub(crate) fn notify_all(&self) {
        if self.waiting.load(Ordering::Relaxed) > 0 {
            self.condvar.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_poisons_nothing() {
        let (mutex, lock) = (Mutex::new(1), RwLock::new(2));
        let panicked = std::thread::scope(|scope| {
            scope
                .spawn(|| {
                    let (_first, _second) = (mutex.lock(), lock.write());
                    panic!("on purpose");
                })
                .join()
        });
        assert!(panicked.is_err());
        assert_eq!(*mutex.lock(), 1);
        assert_eq!(mutex.try_lock().map(|value| *value), Some(1));
        assert_eq!(lock.try_read().map(|value| *value), Some(2));
        let read = *lock.read();
        assert_eq!((read, *lock.write()), (2, 2));
        assert_eq!(mutex.into_inner(), 1);
    }

    #[test]
    fn who_waits_is_woken_or_told_that_time_is_up() {
        let (mutex, condvar) = (Mutex::new(false), Condvar::new());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                *mutex.lock() = true;
                condvar.notify_all();
            });
            let mut is_done = mutex.lock();
            while !*is_done {
                is_done = condvar.wait(is_done);
            }
        });
        let (mut guard, mut is_over) = condvar.wait_for(mutex.lock(), Duration::from_millis(1));
        while !is_over {
            (guard, is_over) = condvar.wait_for(guard, Duration::from_millis(1));
        }
        assert!(*guard);
    }
}
