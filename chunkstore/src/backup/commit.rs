//! The committer: one thread that owns the run, hears what the other stages did, and makes segments of it.
//!
//! A pack is told of in a segment when the first target has acknowledged it, never before. When enough is told of, a piece goes to
//! the outbox, to the targets behind the packs it names, and into the catalog: from then on its chunks are known, whatever
//! becomes of the run. The last piece commits.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crossbeam_channel::{Receiver, never, select};
use parking_lot::Mutex;

use super::BackupSummary;
use super::prepare::{Destination, mark_complete, target_failed};
use super::record::{Compared, Observed, keep, record};
use crate::catalog::{Catalog, Holding, RunWriter, SnapshotSummary, Verdict};
use crate::entry_key::EntryKey;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{ChunkId, ObjectHash};
use crate::monitor::{Fault, FaultSide, Monitor};
use crate::pack::Toc;
use crate::pipeline::gather::Pending;
use crate::pipeline::pack::no_target_left;
use crate::pipeline::upload::{Acknowledgement, Outcome, Upload, Uploaders};
use crate::repository::layout::ObjectName;
use crate::segment::{PackContents, SegmentObject};
use crate::target::ObjectKey;

/// What the gatherer tells of an entry.
pub(super) enum Finding {
    /// The next chunks of the entry to come.
    Chunks(Vec<ChunkId>),
    /// It was looked at, and read if it is a file: the chunks before are its.
    Observed(Box<Observed>),
    /// It is gone.
    Gone(EntryKey),
    /// It stays as it was, and is to be said again.
    Kept(EntryKey),
    /// It could not be read, as was reported: it stays as it was, if it was there.
    Failed(Option<EntryKey>),
}

/// What an uploaded object is.
#[derive(Clone)]
pub(super) enum Tag {
    /// A pack and what it holds.
    Pack(ObjectHash, Arc<Toc>),
    /// A segment.
    Segment(ObjectKey),
}

impl Tag {
    fn key(&self) -> ObjectKey {
        match self {
            Self::Pack(name, _) => ObjectName::Pack(*name).key(),
            Self::Segment(key) => key.clone(),
        }
    }
}

/// Word of one object, until every target has said what became of it.
#[derive(Default)]
struct InFlight {
    heard: usize,
    stored: bool,
}

/// The uploaders, shared by the packer and the committer; `None` when nothing more will be sent.
pub(super) type SharedUploaders = Mutex<Option<Uploaders<Tag>>>;

/// Sends an object to every target.
pub(super) fn send(uploaders: &SharedUploaders, key: ObjectKey, bytes: Arc<Vec<u8>>, tag: Tag) {
    if let Some(uploaders) = &mut *uploaders.lock() {
        uploaders.send(Upload { key, bytes, tag });
    }
}

fn send_segment(segment: &SegmentObject, uploaders: &SharedUploaders) {
    let key = segment.name.key();
    send(uploaders, key.clone(), segment.bytes.clone(), Tag::Segment(key));
}

/// The state of the committing thread.
pub(super) struct Committer<'a> {
    pub(super) catalog: &'a Catalog,
    pub(super) destinations: &'a [Destination],
    pub(super) pending: &'a Pending,
    pub(super) monitor: &'a dyn Monitor,
    pub(super) compared: Compared,
    pub(super) summary: BackupSummary,
    /// For each destination, whether it missed something in this run.
    pub(super) lacking: Vec<bool>,
    /// Objects of which some target has said something, but not yet all.
    in_flight: HashMap<ObjectKey, InFlight>,
    /// Objects known to be sent, less those that all targets have spoken of. An acknowledgement may overtake the packer's word, so
    /// it can be below zero for a while.
    outstanding: i64,
    /// Packs told of in the piece that is being gathered: their chunks are pending until it is applied.
    told: Vec<Arc<Toc>>,
    holdings: BTreeMap<usize, Vec<(ObjectKey, Holding)>>,
    last_error: Option<Error>,
    /// Chunks in packs that segments tell of.
    chunks_told: u64,
}

impl<'a> Committer<'a> {
    pub(super) fn new(
        catalog: &'a Catalog,
        destinations: &'a [Destination],
        pending: &'a Pending,
        monitor: &'a dyn Monitor,
        compared: Compared,
    ) -> Self {
        Self {
            catalog,
            destinations,
            pending,
            monitor,
            compared,
            summary: BackupSummary::default(),
            lacking: vec![false; destinations.len()],
            in_flight: HashMap::new(),
            outstanding: 0,
            told: Vec::new(),
            holdings: BTreeMap::new(),
            last_error: None,
            chunks_told: 0,
        }
    }

    /// Hears findings and acknowledgements until no more findings come and all that was sent is acknowledged.
    ///
    /// `findings` ends when the gatherer has ended; `packed`, which tells of each pack before it is sent, when the packer has.
    ///
    /// # Errors
    /// The catalog's; target, if an object was stored nowhere.
    pub(super) fn listen(
        &mut self,
        run: &mut RunWriter,
        findings: &Receiver<Vec<Finding>>,
        packed: &Receiver<()>,
        acknowledgements: &Receiver<Acknowledgement<Tag>>,
        uploaders: &SharedUploaders,
    ) -> Result<()> {
        let (no_findings, no_packed) = (never(), never());
        let (mut findings, mut packed) = (Some(findings), Some(packed));
        while findings.is_some() || packed.is_some() || self.outstanding != 0 {
            select! {
                recv(findings.unwrap_or(&no_findings)) -> batch => match batch {
                    Ok(batch) => self.findings(run, batch)?,
                    Err(_) => findings = None,
                },
                recv(packed.unwrap_or(&no_packed)) -> sent => match sent {
                    Ok(()) => self.outstanding += 1,
                    Err(_) => packed = None,
                },
                recv(acknowledgements) -> acknowledgement => match acknowledgement {
                    Ok(acknowledgement) => self.acknowledged(Some(run), acknowledgement)?,
                    // No uploader lives: nothing that is still in flight will be heard of.
                    Err(_) => return Err(no_target_left(self.last_error.take())),
                },
            }
            if run.is_full() {
                self.flush(run, uploaders)?;
            }
        }
        Ok(())
    }

    fn findings(&mut self, run: &mut RunWriter, batch: Vec<Finding>) -> Result<()> {
        for finding in batch {
            match finding {
                Finding::Chunks(ids) => run.chunks(&ids)?,
                Finding::Observed(observed) => self.observed(run, &observed)?,
                Finding::Gone(key) => {
                    self.summary.entries_gone += 1;
                    if self.compared.is_basis {
                        run.gone(&key)?;
                    }
                }
                Finding::Kept(key) => self.keep(run, &key)?,
                Finding::Failed(key) => {
                    run.discard_chunks();
                    self.summary.source_faults += 1;
                    if let Some(key) = key.filter(|_| !self.compared.is_basis) {
                        self.keep(run, &key)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn keep(&mut self, run: &mut RunWriter, key: &EntryKey) -> Result<()> {
        match keep(self.catalog, run, key, self.compared) {
            // It could not be read now, and what it was is lost, or more than a record holds now.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Source) => {
                self.fails(run, key, "keep", error);
                Ok(())
            }
            kept => kept,
        }
    }

    /// Tells of an entry that cannot be recorded: it costs the entry, not the run.
    fn fails(&mut self, run: &mut RunWriter, key: &EntryKey, during: &'static str, error: Error) {
        run.discard_chunks();
        self.summary.source_faults += 1;
        let (item, error) = (key.to_string(), error.with_kind(ErrorKind::Source));
        self.monitor.fault(Fault { side: FaultSide::Source, item, during, error });
    }

    fn observed(&mut self, run: &mut RunWriter, observed: &Observed) -> Result<()> {
        let recorded = match record(self.catalog, run, observed, self.compared) {
            Err(error) if error.kind() == ErrorKind::Source => {
                self.fails(run, &observed.key, "record", error);
                let stays = observed.previous.is_some() && !self.compared.is_basis;
                return if stays { self.keep(run, &observed.key) } else { Ok(()) };
            }
            recorded => recorded?,
        };
        self.summary.count(observed.metadata.kind, recorded, observed.metadata.size);
        recorded.tell(observed, self.monitor);
        Ok(())
    }

    fn acknowledged(
        &mut self,
        run: Option<&mut RunWriter>,
        acknowledgement: Acknowledgement<Tag>,
    ) -> Result<()> {
        let Acknowledgement { target, tag, length, outcome } = acknowledgement;
        let key = tag.key();
        let in_flight = self.in_flight.entry(key.clone()).or_default();
        in_flight.heard += 1;
        let finished = in_flight.heard == self.destinations.len();
        let first = matches!(outcome, Outcome::Stored) && !std::mem::replace(&mut in_flight.stored, true);
        let stored = in_flight.stored;
        match outcome {
            Outcome::Stored => {
                let holding = Holding { held: true, length, verified: 0, verdict: Verdict::Unverified };
                self.holdings.entry(target).or_default().push((key.clone(), holding));
            }
            Outcome::Failed(error) => {
                self.lack(target);
                if let Some(destination) = self.destinations.get(target) {
                    target_failed(&destination.entry, "put", &error, self.monitor);
                }
                self.last_error = Some(error);
            }
            Outcome::Skipped | Outcome::Lagging => self.lack(target),
        }
        if first {
            self.summary.bytes_stored += length;
            if let (Tag::Pack(name, toc), Some(run)) = (tag, run) {
                run.pack(PackContents { name, stored_bytes: length, toc: (*toc).clone() })?;
                self.chunks_told += toc.chunk_count() as u64;
                self.told.push(toc);
            }
        }
        if finished {
            self.in_flight.remove(&key);
            self.outstanding -= 1;
            if !stored {
                return Err(no_target_left(self.last_error.take()));
            }
        }
        Ok(())
    }

    fn lack(&mut self, target: usize) {
        if let Some(lacking) = self.lacking.get_mut(target) {
            *lacking = true;
        }
    }

    /// Every chunk that was gathered is in a pack that is stored and told of: what a snapshot refers to is there.
    ///
    /// # Panics
    /// If not. A stop beats a snapshot that cannot be restored.
    pub(super) fn assert_all_told(&self) {
        assert_eq!(
            self.chunks_told, self.summary.chunks_new,
            "chunks in stored packs, and chunks that were gathered"
        );
    }

    /// Makes a piece of what was told so far: into the outbox, to the targets, into the catalog.
    ///
    /// # Errors
    /// The catalog's.
    pub(super) fn flush(&mut self, run: &mut RunWriter, uploaders: &SharedUploaders) -> Result<()> {
        // What targets hold comes first: a chunk whose pack no target is known to hold is not known.
        self.note_holdings()?;
        while let Some(segment) = run.flush()? {
            self.outstanding += 1;
            send_segment(&segment, uploaders);
            self.catalog.apply(&segment)?;
        }
        for toc in self.told.drain(..) {
            let ids = toc.frames.iter().flat_map(|frame| &frame.chunks).map(|chunk| &chunk.id);
            self.pending.settled(ids);
        }
        Ok(())
    }

    /// Tells the catalog what the targets have acknowledged.
    ///
    /// # Errors
    /// The catalog's.
    pub(super) fn note_holdings(&mut self) -> Result<()> {
        for (target, holdings) in std::mem::take(&mut self.holdings) {
            if let Some(destination) = self.destinations.get(target) {
                self.catalog.record_holdings(destination.number, &holdings)?;
            }
        }
        Ok(())
    }
}

impl Committer<'_> {
    /// Commits: the last piece to every target, the mark of completeness where all of it is, then the catalog.
    ///
    /// # Errors
    /// The catalog's, until the snapshot is on a target; target, if the last piece was stored nowhere: then it waits in the outbox, and the next
    /// run brings it.
    pub(super) fn finish(
        mut self,
        run: RunWriter,
        summary: SnapshotSummary,
        acknowledgements: &Receiver<Acknowledgement<Tag>>,
        uploaders: &SharedUploaders,
    ) -> Result<BackupSummary> {
        self.note_holdings()?;
        let committed = run.commit(summary)?;
        for segment in committed.earlier.iter().chain([&committed.segment]) {
            self.outstanding += 1;
            send_segment(segment, uploaders);
        }
        while self.outstanding != 0 {
            match acknowledgements.recv() {
                Ok(acknowledgement) => {
                    self.acknowledged(None, acknowledgement)?;
                }
                Err(_) => return Err(no_target_left(self.last_error.take())),
            }
        }
        // From here on the snapshot is there, whatever becomes of the local copy of it.
        self.summary.snapshot = Some(committed.snapshot.id);
        let noted = self.note_holdings();
        for (destination, lacking) in self.destinations.iter().zip(&self.lacking) {
            if *lacking || !destination.whole {
                continue;
            }
            match mark_complete(destination, committed.segment.name) {
                Ok(()) => self.summary.targets_complete.push(destination.entry.url().to_owned()),
                Err(error) => target_failed(&destination.entry, "put", &error, self.monitor),
            }
        }
        let mut segments = committed.earlier.iter().chain([&committed.segment]);
        let applied = noted.and_then(|()| segments.try_for_each(|segment| self.catalog.apply(segment)));
        self.summary.catalog_error = applied.err();
        Ok(self.summary)
    }
}
