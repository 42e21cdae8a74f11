//! Tables that went with a View that nobody holds any more, until a thread in the background lets go of them.
//!
//! Whoever lets go of a View last (a writer, a reader of the moment) would close tables whose files have no name any more, which makes the system free their
//! blocks, and would give back what was resident of them: tens of milliseconds. So such a View hands over the tables that it alone has; a thread takes them
//! for which nobody waits who has not asked to. Memtables go at once: others wait for their memory.

use std::sync::Arc;
use std::time::Duration;

use super::OpenTree;
use crate::sync::{Condvar, Mutex};

/// Between two parts of a longer work: for those who wait for a lock that it takes.
const PAUSE: Duration = Duration::from_millis(2);

/// See the module. Its lock is taken by whoever drops a View, under whatever locks: nothing else is locked under it.
#[derive(Debug, Default)]
pub struct Retired {
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    trees: Vec<Arc<OpenTree>>,
    /// Something else is to be done.
    is_asked: bool,
    /// Whether there is a thread that takes what comes.
    is_served: bool,
    /// How many rounds it has begun, and ended.
    begun: u64,
    ended: u64,
}

/// Whether the other work that [`Retired::serve`] does is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// All of it.
    Nothing,
    /// There is more of it, after a pause for others.
    More,
}

impl Retired {
    /// Takes what a View held; gives it back where no thread serves.
    pub(super) fn take(&self, trees: Vec<Arc<OpenTree>>) -> Vec<Arc<OpenTree>> {
        if trees.is_empty() {
            return trees;
        }
        let mut queue = self.queue.lock();
        if !queue.is_served {
            return trees;
        }
        queue.trees.extend(trees);
        self.changed.notify_all();
        Vec::new()
    }

    /// Has the thread that serves do its other work too; `false` where none serves.
    pub fn ask(&self) -> bool {
        let mut queue = self.queue.lock();
        queue.is_asked |= queue.is_served;
        self.changed.notify_all();
        queue.is_served
    }

    /// Waits until the thread that serves has let go of everything that was handed over before, and has done its other work once; not where none serves.
    pub fn wait(&self) {
        let mut queue = self.queue.lock();
        let round = queue.begun + 1;
        queue.is_asked |= queue.is_served;
        self.changed.notify_all();
        while queue.is_served && queue.ended < round {
            queue = self.changed.wait(queue);
        }
    }

    /// Has the thread that serves ask again whether it is over.
    pub fn wake(&self) {
        let _queue = self.queue.lock();
        self.changed.notify_all();
    }

    /// Serves until it `is_over`: lets go of what comes, and calls `work` after it, and when it was asked for; that is told whether anything came. Then everybody lets go by themselves again.
    pub fn serve(&self, is_over: impl Fn() -> bool, work: impl Fn(bool) -> Rest) {
        struct End<'a>(&'a Retired);
        impl Drop for End<'_> {
            fn drop(&mut self) {
                let mut queue = self.0.queue.lock();
                queue.is_served = false;
                let trees = std::mem::take(&mut queue.trees);
                self.0.changed.notify_all();
                drop(queue);
                drop(trees);
            }
        }
        self.queue.lock().is_served = true;
        let _end = End(self);
        let mut rest = Rest::Nothing;
        loop {
            let trees = {
                let mut queue = self.queue.lock();
                if rest == Rest::More && !is_over() {
                    (queue, _) = self.changed.wait_for(queue, PAUSE);
                    queue.is_asked = true;
                }
                while queue.trees.is_empty() && !queue.is_asked && !is_over() {
                    queue = self.changed.wait(queue);
                }
                queue.is_asked = false;
                queue.begun += 1;
                std::mem::take(&mut queue.trees)
            };
            if is_over() {
                return;
            }
            let was_there = !trees.is_empty();
            drop(trees);
            rest = work(was_there);
            let mut queue = self.queue.lock();
            queue.ended = queue.begun;
            self.changed.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Weak;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::mpsc;

    use super::super::{KeyspaceKind, KeyspaceView, View};
    use super::*;
    use crate::batch::KeyspaceId;
    use crate::memtable::{Memtable, Supply};

    /// A View that alone holds something, which is told by what it returns.
    fn view(retired: &Arc<Retired>) -> (View, Weak<OpenTree>) {
        let mut view = View::empty(0);
        view.retire_to(retired);
        let tables = Arc::<OpenTree>::default();
        let told = Arc::downgrade(&tables);
        let keyspace = KeyspaceView {
            name: "k".into(),
            kind: KeyspaceKind::Sorted,
            active: Memtable::charged(KeyspaceKind::Sorted, 0, &Supply::default()),
            frozen: Vec::new(),
            tables,
        };
        view.keyspaces.insert(KeyspaceId::new(1).unwrap(), Arc::new(keyspace));
        (view, told)
    }

    #[test]
    fn where_no_thread_serves_everything_goes_at_once() {
        let retired = Arc::<Retired>::default();
        let (view, told) = view(&retired);
        let clone = view.clone();
        drop(view);
        assert!(told.upgrade().is_some(), "somebody has it");
        drop(clone);
        assert!(told.upgrade().is_none());
        assert!(!retired.ask());
    }

    #[test]
    fn who_serves_lets_go_of_it_and_does_what_it_was_asked_for() {
        let retired = Arc::<Retired>::default();
        let is_over = AtomicBool::new(false);
        let (told_work, work) = mpsc::channel();
        let (go_on, may_go_on) = mpsc::channel();
        std::thread::scope(|scope| {
            let (retired, is_over) = (&retired, &is_over);
            scope.spawn(move || {
                retired.serve(
                    || is_over.load(Ordering::SeqCst),
                    |_| {
                        let _ = told_work.send(());
                        let _ = may_go_on.recv();
                        Rest::Nothing
                    },
                );
            });
            while !retired.ask() {
                std::thread::yield_now();
            }
            work.recv().unwrap();
            // It is at work: what goes meanwhile waits for it.
            let (first, first_told) = view(retired);
            let memtable = first.keyspaces.values().next().map(|keyspace| keyspace.active.clone());
            let clone = first.clone();
            drop(first);
            drop(clone);
            assert!(first_told.upgrade().is_some());
            let Some(Memtable::Sorted(memtable)) = memtable else { unreachable!() };
            assert_eq!(Arc::strong_count(&memtable), 1, "memtables do not");
            go_on.send(()).unwrap();
            work.recv().unwrap();
            assert!(first_told.upgrade().is_none(), "let go of before the work");
            // And at the end.
            let (last, last_told) = view(retired);
            drop(last);
            assert!(last_told.upgrade().is_some());
            is_over.store(true, Ordering::SeqCst);
            go_on.send(()).unwrap();
            retired.wake();
            while last_told.upgrade().is_some() {
                std::thread::yield_now();
            }
        });
        let (view, told) = view(&retired);
        drop(view);
        assert!(told.upgrade().is_none(), "nobody serves any more");
    }
}
