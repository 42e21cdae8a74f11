//! One queue and one thread for each target: a slow or failing one neither stops the others nor is forgotten.
//!
//! An object goes to all targets at once, its bytes shared. Each queue holds few objects, so memory is bounded. When the
//! fastest target has room but another has none, the sender waits for that one for a while, then lets it fall behind: what it
//! lacks is acknowledged as [`Outcome::Lagging`] and caught up later from a sister. A target whose put failed gets nothing more in this
//! run. The queue keeps order on each target, which is the order of durability: what a segment names comes before the segment.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, SendTimeoutError, Sender, TrySendError, bounded, unbounded};

use crate::error::{Error, ErrorKind, Result};
use crate::target::{ObjectKey, Target};

/// How long one target may keep the others waiting, in all, before it is let fall behind: long enough for a disk to write back its
/// cache, short enough that a hung network share costs a run no more than this.
const PATIENCE: Duration = Duration::from_secs(10);

/// An object on its way to all targets.
pub(crate) struct Upload<T> {
    /// Its name.
    pub(crate) key: ObjectKey,
    /// Its bytes.
    pub(crate) bytes: Arc<Vec<u8>>,
    /// What the sender needs to know it by when it is acknowledged.
    pub(crate) tag: T,
}

/// What became of an object on one target.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It is durable there.
    Stored,
    /// The put failed; nothing more is sent there in this run.
    Failed(Error),
    /// It was not sent: an earlier put failed.
    Skipped,
    /// It was not sent: the target is too slow for the others and is caught up later.
    Lagging,
}

/// One target's word on one object.
pub(crate) struct Acknowledgement<T> {
    /// Which target, as an index into the list given to [`Uploaders::start`].
    pub(crate) target: usize,
    /// The sender's tag.
    pub(crate) tag: T,
    /// The object's length in bytes.
    pub(crate) length: u64,
    /// What became of it.
    pub(crate) outcome: Outcome,
}

struct Queue<T> {
    objects: Sender<Arc<Upload<T>>>,
    failed: Arc<AtomicBool>,
    patience: Duration,
}

/// The queues of all targets.
pub(crate) struct Uploaders<T> {
    queues: Vec<Queue<T>>,
    acknowledgements: Sender<Acknowledgement<T>>,
}

impl<T: Clone + Send + Sync> Uploaders<T> {
    /// Starts a thread for each target. The receiver yields one acknowledgement for each object and target; it ends when the
    /// uploaders were dropped and every queue is drained.
    pub(crate) fn start<'scope, 'env>(
        scope: &'scope std::thread::Scope<'scope, 'env>,
        targets: &[Arc<dyn Target>],
        queue_length: usize,
    ) -> (Self, Receiver<Acknowledgement<T>>)
    where
        T: 'scope,
    {
        // Unbounded, but one small message for each object in flight: the senders of objects are bounded.
        let (acknowledgements, received) = unbounded();
        let queues = targets
            .iter()
            .enumerate()
            .map(|(index, target)| {
                let (objects, waiting) = bounded::<Arc<Upload<T>>>(queue_length);
                let failed = Arc::new(AtomicBool::new(false));
                let (target, acknowledge, broken) =
                    (target.clone(), acknowledgements.clone(), failed.clone());
                scope.spawn(move || upload_all(index, &*target, &waiting, &acknowledge, &broken));
                Queue { objects, failed, patience: PATIENCE }
            })
            .collect();
        (Self { queues, acknowledgements }, received)
    }

    #[cfg(test)]
    pub(crate) fn set_patience(&mut self, patience: Duration) {
        for queue in &mut self.queues {
            queue.patience = patience;
        }
    }

    /// Sends an object to every target; waits while all are busy, and for slow ones as long as patience lasts.
    pub(crate) fn send(&mut self, upload: Upload<T>) {
        let upload = Arc::new(upload);
        let mut waiting: Vec<usize> = Vec::with_capacity(self.queues.len());
        let mut accepted = false;
        for index in 0..self.queues.len() {
            match self.try_send(index, &upload) {
                Some(true) => accepted = true,
                Some(false) => waiting.push(index),
                None => {}
            }
        }
        // All are busy: wait for whichever has room first, so that nobody's patience is spent on being equally fast.
        while !accepted && !waiting.is_empty() {
            let mut still = Vec::with_capacity(waiting.len());
            for index in waiting {
                match self.send_within(index, &upload, Duration::from_millis(5)) {
                    Some(true) => accepted = true,
                    Some(false) => still.push(index),
                    None => {}
                }
            }
            waiting = still;
        }
        for index in waiting {
            let Some(patience) = self.queues.get(index).map(|queue| queue.patience) else { continue };
            let begun = Instant::now();
            let sent = self.send_within(index, &upload, patience);
            if let Some(queue) = self.queues.get_mut(index) {
                queue.patience = queue.patience.saturating_sub(begun.elapsed());
            }
            if sent == Some(false) {
                self.acknowledge(index, &upload, Outcome::Lagging);
            }
        }
    }

    /// `Some(true)`: queued; `Some(false)`: no room; `None`: nothing goes to this target, which was acknowledged.
    fn try_send(&self, index: usize, upload: &Arc<Upload<T>>) -> Option<bool> {
        let queue = self.queues.get(index)?;
        if !queue.failed.load(Ordering::Acquire) {
            match queue.objects.try_send(upload.clone()) {
                Ok(()) => return Some(true),
                Err(TrySendError::Full(_)) => return Some(false),
                Err(TrySendError::Disconnected(_)) => {}
            }
        }
        self.acknowledge(index, upload, Outcome::Skipped);
        None
    }

    fn send_within(&self, index: usize, upload: &Arc<Upload<T>>, limit: Duration) -> Option<bool> {
        let queue = self.queues.get(index)?;
        if !queue.failed.load(Ordering::Acquire) {
            match queue.objects.send_timeout(upload.clone(), limit) {
                Ok(()) => return Some(true),
                Err(SendTimeoutError::Timeout(_)) => return Some(false),
                Err(SendTimeoutError::Disconnected(_)) => {}
            }
        }
        self.acknowledge(index, upload, Outcome::Skipped);
        None
    }

    fn acknowledge(&self, target: usize, upload: &Upload<T>, outcome: Outcome) {
        let length = upload.bytes.len() as u64;
        // Whoever no longer listens has failed and says why.
        let _ =
            self.acknowledgements.send(Acknowledgement { target, tag: upload.tag.clone(), length, outcome });
    }
}

/// Puts an object. A panic is a failure of this target: whoever waits for word of each object would else wait for ever.
fn put<T>(target: &dyn Target, upload: &Upload<T>) -> Result<()> {
    // Nothing of the target is used any more after a failure.
    let put = AssertUnwindSafe(|| target.put(&upload.key, &[&upload.bytes]));
    catch_unwind(put).unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<&str>().copied();
        let said = said.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or_default();
        let what = format!("target {}: {}: a panic in the program: {said}", target.url(), upload.key);
        Err(Error::new(ErrorKind::Target, what))
    })
}

fn upload_all<T: Clone>(
    index: usize,
    target: &dyn Target,
    waiting: &Receiver<Arc<Upload<T>>>,
    acknowledgements: &Sender<Acknowledgement<T>>,
    failed: &AtomicBool,
) {
    for upload in waiting {
        let outcome = if failed.load(Ordering::Acquire) {
            Outcome::Skipped
        } else {
            match put(target, &upload) {
                Ok(()) => Outcome::Stored,
                Err(error) => {
                    failed.store(true, Ordering::Release);
                    Outcome::Failed(error)
                }
            }
        };
        let (tag, length) = (upload.tag.clone(), upload.bytes.len() as u64);
        // The bytes go before the word of it, so that who counts on their memory does not wait for nothing.
        drop(upload);
        let _ = acknowledgements.send(Acknowledgement { target: index, tag, length, outcome });
    }
}
