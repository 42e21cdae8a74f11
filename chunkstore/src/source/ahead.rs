//! A walk on a thread of its own, some entries ahead of whoever takes them: looking at entries waits for the disk and the kernel, and what
//! is done with them does not have to.

use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, bounded};

use super::walk::{Step, Walk};

/// Steps that go from one thread to the other at once: few enough to be no memory, enough to make the crossing cost nothing.
const STEPS_AT_ONCE: usize = 256;
/// How many such bundles wait at most.
const BUNDLES_WAITING: usize = 8;

/// The steps of a [`Walk`] that runs ahead; made by [`Walk::ahead`].
#[derive(Debug)]
pub struct WalkAhead {
    bundle: std::vec::IntoIter<Step>,
    bundles: Option<Receiver<Vec<Step>>>,
    thread: Option<JoinHandle<()>>,
}

impl WalkAhead {
    pub(super) fn new(mut walk: Walk) -> Self {
        let (sender, bundles) = bounded(BUNDLES_WAITING);
        let thread = std::thread::spawn(move || {
            loop {
                let bundle: Vec<Step> = walk.by_ref().take(STEPS_AT_ONCE).collect();
                let is_last = bundle.len() < STEPS_AT_ONCE;
                // Nobody takes them any more: the walk is over.
                if sender.send(bundle).is_err() || is_last {
                    return;
                }
            }
        });
        Self { bundle: Vec::new().into_iter(), bundles: Some(bundles), thread: Some(thread) }
    }

    /// Waits for the thread, and passes on its panic: a walk cut short must never look like one that came to its end.
    fn join(&mut self) {
        if let Some(Err(panic)) = self.thread.take().map(JoinHandle::join)
            && !std::thread::panicking()
        {
            std::panic::resume_unwind(panic);
        }
    }
}

impl Iterator for WalkAhead {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        loop {
            if let Some(step) = self.bundle.next() {
                return Some(step);
            }
            match self.bundles.as_ref()?.recv() {
                Ok(bundle) => self.bundle = bundle.into_iter(),
                Err(_) => {
                    self.bundles = None;
                    self.join();
                    return None;
                }
            }
        }
    }
}

impl Drop for WalkAhead {
    fn drop(&mut self) {
        // The walk notices at its next bundle.
        self.bundles = None;
        self.join();
    }
}
