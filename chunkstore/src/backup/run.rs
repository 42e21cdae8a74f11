//! One run, from the intent to the snapshot: wires the stages, and keeps the order of durability.

use std::collections::HashSet;
use std::io::Read;
use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::{Sender, bounded};
use parking_lot::Mutex;

use super::commit::{Committer, Finding, SharedUploaders, Tag, send};
use super::join::{Difference, Unchanged, Wanted, join};
use super::prepare::{self, Destination};
use super::read::{Item, Job, JobBuilder, Reading, Stream, stream_metadata, work};
use super::record::Compared;
use super::reread::Reread;
use super::{BackupOptions, BackupSummary};
use crate::catalog::{Basis, Catalog, NewRun, RunWriter, SnapshotSummary, Suffering};
use crate::chunk::{Cutter, Hasher};
use crate::entry_key::EntryKey;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{ChunkId, IntentId, TimelineId};
use crate::metadata::Timestamp;
use crate::metadata::unix::Owners;
use crate::mirror::mirror;
use crate::monitor::{Event, Fault, FaultSide, Monitor};
use crate::pipeline::gather::{Gathered, Gatherer, KnownChunks, Pending};
use crate::pipeline::order::{InOrder, Submitter, ordered};
use crate::pipeline::pack::{Sealing, compress, pack};
use crate::pipeline::read::{Batch, stopped};
use crate::pipeline::upload::Uploaders;
use crate::repository::Repository;
use crate::repository::intent::Intent;
use crate::repository::layout::ObjectName;
use crate::segment::{Head, SegmentName};
use crate::source::{Rules, ScanStart, Walk};
use crate::verify::CatalogSources;
use crate::version::Timeline;

/// Objects that wait for each target besides the one that is being put: none, so that two packs are in memory, one on its way and one
/// being filled, whose filling takes longer than a local put.
const UPLOADS_WAITING: usize = 0;

/// Where entries come from.
enum Origin {
    /// A walk through the roots.
    Tree,
    /// One file, made of a stream.
    Stream { name: EntryKey, reader: Box<dyn Read + Send> },
}

impl KnownChunks for Catalog {
    fn known(&self, ids: &[ChunkId]) -> Result<Vec<bool>> {
        Catalog::known(self, ids)
    }
}

/// Backs up the roots: one more snapshot on every reachable target.
///
/// Faults of the source and of targets are reported to `monitor` and do not end it. Without `options.dry_run` the catalog must be open for writing, and
/// up to date ([`Catalog::catch_up`]).
///
/// # Errors
/// Invalid argument, for roots or rules that make no sense; target, if none is left; local, if the catalog fails; cancelled: what was
/// stored by then is kept, and the next run goes on from there.
pub fn backup(
    repository: &Repository,
    catalog: &Catalog,
    options: &BackupOptions,
    monitor: &dyn Monitor,
) -> Result<BackupSummary> {
    run(repository, catalog, options, Origin::Tree, monitor)
}

/// Backs up what `reader` gives as the one file `path` (absolute), its only root; `options.roots` is not looked at.
///
/// # Errors
/// As [`backup`].
pub fn backup_stream(
    repository: &Repository,
    catalog: &Catalog,
    options: &BackupOptions,
    path: &std::path::Path,
    reader: Box<dyn Read + Send>,
    monitor: &dyn Monitor,
) -> Result<BackupSummary> {
    let name = EntryKey::from_path(path)?;
    let options = BackupOptions { roots: vec![path.to_owned()], ..options.clone() };
    run(repository, catalog, &options, Origin::Stream { name, reader }, monitor)
}

fn run(
    repository: &Repository,
    catalog: &Catalog,
    options: &BackupOptions,
    origin: Origin,
    monitor: &dyn Monitor,
) -> Result<BackupSummary> {
    let begun = Instant::now();
    let started = options.time.unwrap_or_else(std::time::SystemTime::now);
    let start = ScanStart::now();
    options.check_texts()?;
    let rules = Rules::new(&options.rules)?;
    let roots: Vec<Vec<u8>> = {
        use std::os::unix::ffi::OsStrExt;
        options.roots.iter().map(|root| root.as_os_str().as_bytes().to_vec()).collect()
    };
    // What they bring into the catalog may be what the timeline ends with.
    let destinations = match options.dry_run {
        true => Vec::new(),
        false => prepare::destinations(repository, catalog, monitor)?,
    };
    let timeline = catalog.timeline(options.host.as_bytes(), &roots)?;
    let lost = prepare::lost_segments(repository, catalog, &destinations)?;
    if !lost.is_empty() {
        prepare::untell_packs(catalog, &destinations, &lost, monitor)?;
    }
    let basis = catalog.basis(&timeline, &lost)?;
    if basis == Basis::Nothing {
        let (count, which) = (lost.len(), if lost.len() == 1 { "segment is" } else { "segments are" });
        monitor.event(Event::Note(&format!(
            "{count} {which} whole on no target any more: this snapshot says everything again, so that it needs no older one",
        )));
    }
    let parent = match timeline.head {
        Some(head) => catalog.snapshot_at(timeline.id, head)?,
        None => None,
    };
    // How much there is this time nobody knows before the walk is over: most probably about as much as last time.
    let last = parent.as_ref().map(|parent| &parent.stats).filter(|stats| stats.files_total > 0);
    monitor.event(Event::Phase {
        name: "backup",
        bytes: last.map(|stats| stats.bytes_total).filter(|bytes| *bytes > 0),
        items: last.map(|stats| stats.files_total),
    });
    let stages = Stages { repository, catalog, options, start, timeline: &timeline, basis, lost, monitor };
    let mut summary = if options.dry_run {
        stages.dry_run(rules, origin)?
    } else {
        stages.store(rules, origin, &roots, timestamp(started), destinations)?
    };
    summary.parent = parent.map(|snapshot| snapshot.id);
    summary.started = Some(started);
    summary.duration = begun.elapsed();
    Ok(summary)
}

fn timestamp(time: std::time::SystemTime) -> Timestamp {
    let seconds = |duration: std::time::Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    match time.duration_since(std::time::UNIX_EPOCH) {
        Ok(after) => Timestamp { seconds: seconds(after), nanoseconds: after.subsec_nanos() },
        Err(before) => Timestamp { seconds: -seconds(before.duration()) - 1, nanoseconds: 0 },
    }
}

/// What all stages look at.
struct Stages<'a> {
    repository: &'a Repository,
    catalog: &'a Catalog,
    options: &'a BackupOptions,
    start: ScanStart,
    /// The timeline whose newest snapshot the run is compared with.
    timeline: &'a Timeline,
    basis: Basis,
    /// Segments that no target has any more.
    lost: Vec<SegmentName>,
    monitor: &'a dyn Monitor,
}

impl Stages<'_> {
    fn threads(&self) -> usize {
        match self.options.threads {
            0 => std::thread::available_parallelism().map_or(2, usize::from).min(8),
            given => given.min(64),
        }
    }

    /// The first stage: walk and merge-join, or the stream as it is.
    fn find(
        &self,
        rules: Rules,
        origin: Origin,
        reread: Reread,
        jobs: &Submitter<Job, Batch<super::read::Ended>>,
    ) -> Result<Unchanged> {
        let known = self.catalog.current(self.timeline.id)?;
        match origin {
            Origin::Tree => {
                let wanted = Wanted { reread, kept: self.basis == Basis::Nothing };
                let walk = Walk::new(&self.options.roots, rules)?.ahead();
                let mut builder = JobBuilder::default();
                let submit = |job: Job| jobs.submit(job).map_err(|_| stopped());
                let unchanged = join(walk, known, &wanted, self.monitor, |difference| {
                    builder.add(difference).map_or(Ok(()), submit)
                })?;
                match builder.take() {
                    last if last.is_empty() => {}
                    last => submit(last)?,
                }
                Ok(unchanged)
            }
            Origin::Stream { name, reader } => {
                let mut previous = None;
                for entry in known {
                    let entry = entry?;
                    if entry.key == name {
                        previous = Some(Box::new(entry));
                    } else if self.basis == Basis::Nothing {
                        let kept = vec![Item::Difference(Difference::Kept { key: entry.key })];
                        jobs.submit(kept).map_err(|_| stopped())?;
                    }
                }
                let metadata = stream_metadata(&Owners::default(), crate::repository::now());
                let stream = Item::Stream(Box::new(Stream { key: name, metadata, previous, reader }));
                jobs.submit(vec![stream]).map_err(|_| stopped())?;
                Ok(Unchanged::default())
            }
        }
    }

    fn dry_run(&self, rules: Rules, origin: Origin) -> Result<BackupSummary> {
        let secrets = self.repository.secrets()?;
        let cutter = Cutter::new(secrets, self.repository.config().chunk_sizes);
        let (hasher, owners, pending) = (Hasher::new(secrets), Owners::default(), Pending::default());
        let reading = Reading {
            cutter: &cutter,
            hasher: &hasher,
            owners: &owners,
            start: self.start,
            monitor: self.monitor,
        };
        let (jobs, queue, batches) = ordered(2 * self.threads(), 2);
        let reread = self.reread(self.lost_entries()?);
        std::thread::scope(|scope| {
            let found = scope.spawn(move || self.find(rules, origin, reread, &jobs));
            for _ in 0..self.threads() {
                let (queue, reading) = (queue.clone(), &reading);
                scope.spawn(move || work(reading, &queue));
            }
            drop(queue);
            let mut summary = BackupSummary::default();
            let mut gatherer =
                Gatherer::new(self.catalog, &pending, None, self.repository.config().frame_bytes);
            for batch in batches {
                gatherer.batch(
                    batch,
                    |_| Ok(()),
                    |ended| {
                        summary.foresee(&ended, self.monitor);
                        Ok(())
                    },
                )?;
            }
            let gathered = gatherer.finish()?;
            summary.gathered(gathered);
            summary.unchanged(joined(found)?);
            if self.monitor.cancelled() { Err(stopped()) } else { Ok(summary) }
        })
    }

    fn store(
        &self,
        rules: Rules,
        origin: Origin,
        roots: &[Vec<u8>],
        time: Timestamp,
        mut destinations: Vec<Destination>,
    ) -> Result<BackupSummary> {
        let Self { repository, catalog, monitor, .. } = *self;
        let intent = IntentId::random()?;
        let mut run = catalog.begin_run(NewRun {
            host: self.options.host.clone().into_bytes(),
            roots: roots.to_vec(),
            intent,
            time,
            basis: self.basis,
        })?;
        let writer = catalog.writer()?.ok_or_else(|| {
            Error::new(ErrorKind::Local, "a run was begun, but the catalog does not say by which writer")
        })?;
        let intent = Intent { id: intent, ..Intent::new(writer, &self.options.host)? };
        let left = prepare::announce(&intent, &mut destinations, monitor)?;
        // Nothing is built on what only others have: whether they come back nobody knows.
        let _counted = catalog.count_only(destinations.iter().map(|destination| destination.number));
        if (!left.is_empty() || !catalog.unlogged_packs()?.is_empty())
            && prepare::adopt(repository, catalog, &mut run, &destinations, &left, monitor)? > 0
        {
            while let Some(segment) = run.flush()? {
                prepare::put_everywhere(&mut destinations, &segment, monitor)?;
                catalog.apply(&segment)?;
            }
        }
        prepare::mark_whole(repository, catalog, &mut destinations, &self.lost)?;
        let lost = self.lost_entries()?;
        let is_harmed = !lost.is_none();
        if is_harmed {
            // Only when it is read again, and stored, is anything whole.
            destinations.iter_mut().for_each(|destination| destination.whole = false);
        }
        let timeline = run.timeline();
        let reread = self.reread(lost);
        let mut summary = self.pipeline(rules, origin, reread, run, &destinations, &intent)?;
        // The snapshot is made: a catalog that fails now is told of, and is no reason to make it once more.
        if summary.catalog_error.is_none() {
            summary.catalog_error = self.put_in_order(timeline, is_harmed, &destinations, &mut summary).err();
        }
        let ours: Vec<_> = left.into_iter().chain([intent.id]).collect();
        prepare::withdraw(&destinations, &ours);
        let complete = |url: &str| summary.targets_complete.iter().any(|done| done == url);
        summary.targets_behind = repository
            .targets()
            .iter()
            .map(|target| target.url().to_owned())
            .filter(|url| !complete(url))
            .collect();
        Ok(summary)
    }

    /// The entries of the last snapshot that are not whole anywhere.
    fn lost_entries(&self) -> Result<Reread> {
        Reread::lost(self.catalog, self.timeline, self.options.dry_run, self.monitor)
    }

    fn reread(&self, lost: Reread) -> Reread {
        if self.options.force { Reread::All } else { lost }
    }

    /// After the snapshot: what it does without is noted, targets that lag behind are caught up, and the outbox keeps what one of them still lacks.
    fn put_in_order(
        &self,
        timeline: TimelineId,
        is_harmed: bool,
        destinations: &[Destination],
        summary: &mut BackupSummary,
    ) -> Result<()> {
        let Self { repository, catalog, .. } = *self;
        if self.basis != Basis::Whole {
            catalog.note_without(timeline, &self.lost)?;
        }
        self.catch_up(destinations, summary)?;
        self.complete(timeline, is_harmed, destinations, summary)?;
        let listed = repository.targets().iter().filter(|target| target.is_listed());
        let listed = listed.map(|target| catalog.target(target.url())).collect::<Result<Vec<_>>>()?;
        catalog.trim_outbox(&listed)
    }

    /// Brings targets that can be reached and are not whole what they lack, from the others: they were absent or slow.
    fn catch_up(&self, destinations: &[Destination], summary: &BackupSummary) -> Result<()> {
        let behind: Vec<_> =
            destinations.iter().filter(|destination| destination.is_behind(summary)).collect();
        // Each of two may have what the other lacks.
        if behind.is_empty() || destinations.len() < 2 {
            return Ok(());
        }
        let sources = CatalogSources::new(self.repository, self.catalog, &self.options.host);
        // The snapshot is made, whatever becomes of this.
        match mirror(self.repository, &sources, Some(&sources), self.monitor) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Cancelled => {}
            Err(error) if error.kind() == ErrorKind::Local => return Err(error),
            Err(error) => {
                for destination in behind {
                    let (item, error) = (destination.entry.url().to_owned(), error.clone());
                    self.monitor.fault(Fault { side: FaultSide::Target, item, during: "mirror", error });
                }
            }
        }
        Ok(())
    }

    /// Looks again at targets that were not whole when the run began, and marks those that are now. If entries of the last snapshot were lost, none is
    /// before they were read again.
    fn complete(
        &self,
        timeline: TimelineId,
        is_harmed: bool,
        destinations: &[Destination],
        summary: &mut BackupSummary,
    ) -> Result<()> {
        let Self { repository, catalog, monitor, .. } = *self;
        let is_any_behind = destinations.iter().any(|destination| destination.is_behind(summary));
        if !is_any_behind || (is_harmed && !self.is_whole_now(timeline)?) {
            return Ok(());
        }
        let mut now = prepare::look_again(catalog, destinations, monitor)?;
        prepare::mark_whole(repository, catalog, &mut now, &self.lost)?;
        let writer = catalog.writer()?;
        let Some(newest) = catalog.heads()?.into_iter().find(|head| Some(head.writer) == writer) else {
            return Ok(());
        };
        let Head { writer, sequence, hash } = newest;
        for destination in now.iter().filter(|destination| destination.whole) {
            if !destination.is_behind(summary) {
                continue;
            }
            match prepare::mark_complete(destination, SegmentName { writer, sequence, hash }) {
                Ok(()) => summary.targets_complete.push(destination.entry.url().to_owned()),
                Err(error) => prepare::target_failed(&destination.entry, "put", &error, monitor),
            }
        }
        Ok(())
    }

    /// Whether all entries of the new snapshot are whole; tells of those that are not.
    fn is_whole_now(&self, timeline: TimelineId) -> Result<bool> {
        let timeline = self.catalog.timelines()?.into_iter().find(|found| found.id == timeline);
        let Some(timeline) = timeline else { return Ok(false) };
        let losses = self.catalog.losses()?;
        let keys = match self.catalog.suffering(&timeline, &losses)? {
            Suffering::Entries(keys) if keys.is_empty() => {
                self.catalog.note_unharmed(&timeline, &losses)?;
                return Ok(true);
            }
            Suffering::Entries(keys) => keys,
            Suffering::Many => HashSet::new(),
        };
        let lost = |item: String| {
            let error = Error::damage(
                "some of its bytes are on no target that can be reached, and it could not be read again",
            );
            self.monitor.fault(Fault { side: FaultSide::Damage, item, during: "backup", error });
        };
        if keys.is_empty() {
            lost("a million entries or more".to_owned());
        }
        keys.iter().map(ToString::to_string).for_each(lost);
        Ok(false)
    }

    /// All stages but the first ones, on threads; the committer on this one.
    fn pipeline(
        &self,
        rules: Rules,
        origin: Origin,
        reread: Reread,
        mut run: RunWriter,
        destinations: &[Destination],
        intent: &Intent,
    ) -> Result<BackupSummary> {
        let config = self.repository.config();
        let secrets = Arc::new(self.repository.secrets()?.clone());
        let sealing = Sealing {
            secrets: secrets.clone(),
            epoch: config.epoch,
            cipher: config.mode.cipher(),
            intent: intent.id,
            pack_bytes: config.pack_bytes as usize,
        };
        let (cutter, hasher) = (Cutter::new(&secrets, config.chunk_sizes), Hasher::new(&secrets));
        let (owners, pending) = (Owners::default(), Pending::default());
        let reading = Reading {
            cutter: &cutter,
            hasher: &hasher,
            owners: &owners,
            start: self.start,
            monitor: self.monitor,
        };
        let targets: Vec<_> = destinations.iter().map(|destination| destination.target.clone()).collect();
        let threads = self.threads();
        let (jobs, queue, batches) = ordered(2 * threads, 2);
        let (raw, raw_queue, compressed) = ordered(threads, 1);
        let (findings_in, findings) = bounded(16);
        let (packed_in, packed) = bounded(16);
        let compared = Compared {
            timeline: self.timeline.id,
            exists: self.timeline.head.is_some(),
            is_basis: self.basis != Basis::Nothing,
        };
        let mut committer = Committer::new(self.catalog, destinations, &pending, self.monitor, compared);
        std::thread::scope(|scope| {
            let (uploaders, acknowledgements) = Uploaders::start(scope, &targets, UPLOADS_WAITING);
            let uploaders: Arc<SharedUploaders> = Arc::new(Mutex::new(Some(uploaders)));
            let found = scope.spawn(move || self.find(rules, origin, reread, &jobs));
            let mut workers = Vec::with_capacity(2 * threads);
            for _ in 0..threads {
                let (queue, reading) = (queue.clone(), &reading);
                workers.push(scope.spawn(move || work(reading, &queue)));
                let raw_queue = raw_queue.clone();
                workers.push(scope.spawn(move || compress(&raw_queue, self.options.compression_level)));
            }
            drop((queue, raw_queue));
            let gatherer = Gatherer::new(self.catalog, &pending, Some(raw), config.frame_bytes);
            let gathered = scope.spawn(move || gather(gatherer, batches, &findings_in));
            let (sealing, packer_uploaders) = (&sealing, uploaders.clone());
            let packing = scope.spawn(move || {
                pack(compressed, sealing, |pack| {
                    packed_in.send(()).map_err(|_| stopped())?;
                    let tag = Tag::Pack(pack.name, Arc::new(pack.toc));
                    send(&packer_uploaders, ObjectName::Pack(pack.name).key(), Arc::new(pack.bytes), tag);
                    Ok(())
                })
            });
            let heard = committer.listen(&mut run, &findings, &packed, &acknowledgements, &uploaders);
            // Whoever still has something to hand on learns here that nobody takes it.
            drop((findings, packed));
            // A worker that panicked has lost entries or chunks: nothing may be committed then.
            for worker in workers {
                worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            }
            let outcomes = [
                heard,
                joined(packing),
                joined(gathered).map(|gathered| committer.summary.gathered(gathered)),
            ];
            let found = joined(found).map(|unchanged| committer.summary.unchanged(unchanged));
            let outcome = first_cause(outcomes.into_iter().chain([found]));
            let outcome =
                outcome.and_then(|()| if self.monitor.cancelled() { Err(stopped()) } else { Ok(()) });
            let finished = match outcome {
                Ok(()) => {
                    committer.assert_all_told();
                    let summary = self.snapshot_summary(&committer.summary);
                    committer.finish(run, summary, &acknowledgements, &uploaders)
                }
                Err(error) => {
                    // What is stored so far is told of, so that the next run need not store it again. The first error is the one to be told.
                    run.give_up_entries();
                    let _ = committer.flush(&mut run, &uploaders);
                    Err(error)
                }
            };
            uploaders.lock().take();
            finished
        })
    }
}

impl Stages<'_> {
    fn snapshot_summary(&self, summary: &BackupSummary) -> SnapshotSummary {
        let uid = rustix::process::getuid().as_raw();
        let texts = |texts: &[String]| texts.iter().map(|text| text.clone().into_bytes()).collect();
        SnapshotSummary {
            end: crate::repository::now(),
            user: Owners::default().user(uid),
            program: concat!("versions ", env!("CARGO_PKG_VERSION")).into(),
            tags: texts(&self.options.tags),
            excludes: texts(&self.options.rules.exclude),
            partial: summary.is_partial(),
            stats: summary.stats(),
        }
    }
}

/// Of several stages' errors the one that made the others stop.
fn first_cause(outcomes: impl Iterator<Item = Result<()>>) -> Result<()> {
    let mut worst: Result<()> = Ok(());
    for outcome in outcomes {
        if let Err(error) = outcome
            && worst.as_ref().err().is_none_or(|before| before.kind() == ErrorKind::Cancelled)
        {
            worst = Err(error);
        }
    }
    worst
}

fn joined<T>(thread: std::thread::ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    match thread.join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// The gathering stage: entries with their chunks to the committer, new chunks to the compressors. A batch's worth of either is in memory, however
/// large a file is.
fn gather(
    mut gatherer: Gatherer<'_>,
    batches: InOrder<Batch<super::read::Ended>>,
    findings: &Sender<Vec<Finding>>,
) -> Result<Gathered> {
    for batch in batches {
        let found = std::cell::RefCell::new(Vec::new());
        gatherer.batch(
            batch,
            |id| {
                let mut found = found.borrow_mut();
                match found.last_mut() {
                    Some(Finding::Chunks(ids)) => ids.push(id),
                    _ => found.push(Finding::Chunks(vec![id])),
                }
                Ok(())
            },
            |ended| {
                found.borrow_mut().push(ended.finding());
                Ok(())
            },
        )?;
        let found = found.into_inner();
        if !found.is_empty() {
            findings.send(found).map_err(|_| stopped())?;
        }
    }
    gatherer.finish()
}
