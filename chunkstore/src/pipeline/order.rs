//! Work handed out in order, done by any worker, its results taken in the order of the work.
//!
//! Each job gets a bounded channel of its own for its results. The receiving ends stand in a bounded queue in the order of
//! the jobs, so the collector drains the oldest job first while workers are busy with younger ones; a worker that is too far ahead
//! waits on its own job's channel. Nothing is lost in a reorder buffer that could grow: at most `jobs_in_flight` jobs of at
//! most `results_per_job` results (and one in each worker's hand) exist at once.
//!
//! It cannot deadlock: jobs are taken from the queue oldest first, so the job that the collector waits for is always in
//! some worker's hand or next to be taken.

use crossbeam_channel::{Receiver, Sender, bounded};

/// Hands out jobs; the order of [`Submitter::submit`] is the order of the results.
pub(crate) struct Submitter<J, R> {
    work: Sender<(J, Sender<R>)>,
    order: Sender<Receiver<R>>,
    results_per_job: usize,
}

/// Where workers take jobs; clone one for each worker.
pub(crate) struct Work<J, R> {
    work: Receiver<(J, Sender<R>)>,
}

/// Where the results arrive, in order.
pub(crate) struct InOrder<R> {
    order: Receiver<Receiver<R>>,
    current: Option<Receiver<R>>,
}

/// The other end is gone: a stage stopped early, because it failed or because all was cancelled. The one that failed says why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Disconnected;

/// A queue of jobs with results in order.
pub(crate) fn ordered<J, R>(
    jobs_in_flight: usize,
    results_per_job: usize,
) -> (Submitter<J, R>, Work<J, R>, InOrder<R>) {
    let (work_in, work_out) = bounded(jobs_in_flight);
    let (order_in, order_out) = bounded(jobs_in_flight);
    (
        Submitter { work: work_in, order: order_in, results_per_job },
        Work { work: work_out },
        InOrder { order: order_out, current: None },
    )
}

impl<J, R> Submitter<J, R> {
    /// Queues a job; waits while too many are in flight.
    pub(crate) fn submit(&self, job: J) -> Result<(), Disconnected> {
        let (results_in, results_out) = bounded(self.results_per_job);
        self.order.send(results_out).map_err(|_| Disconnected)?;
        self.work.send((job, results_in)).map_err(|_| Disconnected)
    }
}

impl<J, R> Clone for Work<J, R> {
    fn clone(&self) -> Self {
        Self { work: self.work.clone() }
    }
}

impl<J, R> Work<J, R> {
    /// The next job and where its results go, or `None` when no more will come.
    pub(crate) fn take(&self) -> Option<(J, Sender<R>)> {
        self.work.recv().ok()
    }
}

impl<R> Iterator for InOrder<R> {
    type Item = R;

    fn next(&mut self) -> Option<R> {
        loop {
            if let Some(current) = &self.current
                && let Ok(result) = current.recv()
            {
                return Some(result);
            }
            self.current = Some(self.order.recv().ok()?);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_the_order_of_the_jobs() {
        let (submitter, work, results) = ordered::<u32, (u32, u32)>(3, 2);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                let work = work.clone();
                scope.spawn(move || {
                    while let Some((job, out)) = work.take() {
                        for part in 0..job % 5 {
                            if (job + part) % 7 == 0 {
                                std::thread::yield_now();
                            }
                            out.send((job, part)).unwrap();
                        }
                    }
                });
            }
            drop(work);
            scope.spawn(move || {
                for job in 0..500 {
                    submitter.submit(job).unwrap();
                }
            });
            let expected: Vec<_> =
                (0..500).flat_map(|job| (0..job % 5).map(move |part| (job, part))).collect();
            assert_eq!(results.collect::<Vec<_>>(), expected);
        });
    }

    #[test]
    fn a_collector_that_leaves_stops_the_rest() {
        let (submitter, work, results) = ordered::<u32, u32>(1, 1);
        drop(results);
        drop(work);
        assert_eq!(submitter.submit(1), Err(Disconnected));
    }
}
