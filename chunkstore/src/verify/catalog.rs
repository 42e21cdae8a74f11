//! The catalog's part in verification and healing: it remembers what was seen, knows what packs hold and who needs it, and learns where
//! rescued chunks are.

use std::collections::{HashMap, HashSet};

use super::{Holdings, Seen};
use crate::catalog::{Basis, Catalog, Holding, NewRun, Reference, TargetNumber, Verdict};
use crate::error::{Error, ErrorKind, Result};
use crate::frame::{Builder, Compressor, RawFrame};
use crate::heal::{HealSources, Meaning, Rescue, RescuedChunk};
use crate::id::{ChunkId, IntentId, ObjectHash};
use crate::monitor::Monitor;
use crate::pack;
use crate::repository::intent::Intent;
use crate::repository::layout::ObjectName;
use crate::repository::{Repository, now};
use crate::segment::PackContents;

/// zstd's level for rescued chunks: they were compressed once and nobody waits.
const RESCUE_LEVEL: i32 = 3;

/// A catalog that helps to verify and heal. It must be open for writing; beside a running backup, or to verify without keeping one waiting, use
/// [`super::LaterHoldings`].
#[derive(Debug)]
pub struct CatalogSources<'a> {
    repository: &'a Repository,
    catalog: &'a Catalog,
    host: &'a str,
}

impl<'a> CatalogSources<'a> {
    /// The catalog of `repository`, on the machine called `host`.
    pub fn new(repository: &'a Repository, catalog: &'a Catalog, host: &'a str) -> Self {
        Self { repository, catalog, host }
    }

    /// Everything that it can do for healing, but for segments in the outbox: see [`CatalogSources::outbox`].
    pub fn sources(&self) -> HealSources<'_> {
        HealSources { local: None, meaning: Some(self), rescue: Some(self) }
    }

    /// The segments that this machine has itself, by name: for [`HealSources::local`].
    ///
    /// # Errors
    /// Local.
    pub fn outbox(&self) -> Result<HashMap<ObjectName, Vec<u8>>> {
        let named = |segment: crate::segment::SegmentObject| {
            Some((ObjectName::parse(&segment.name.key())?, segment.bytes.to_vec()))
        };
        Ok(self.catalog.outbox()?.into_iter().filter_map(named).collect())
    }
}

/// As [`super::verify`], with all that the catalog and the outbox can do. What healing brings back (segments) is not yet in the catalog: catch up
/// afterwards.
///
/// # Errors
/// As [`super::verify`].
pub fn verify_with_catalog(
    repository: &Repository,
    catalog: &Catalog,
    host: &str,
    options: &super::VerifyOptions,
    monitor: &dyn Monitor,
) -> Result<super::VerifyReport> {
    // A chunk is not lost while a target has it that is away; what one had that is none any more helps nobody.
    let numbers = repository.targets().iter().map(|target| catalog.target(target.url()));
    let _counted = catalog.count_only(numbers.collect::<Result<Vec<_>>>()?);
    let sources = CatalogSources::new(repository, catalog, host);
    let outbox = sources.outbox()?;
    let local = |name: &ObjectName| Ok(outbox.get(name).cloned());
    let all = HealSources { local: Some(&local), ..sources.sources() };
    super::verify(repository, options, &sources, &all, monitor)
}

pub(super) fn last_verified(
    catalog: &Catalog,
    target: TargetNumber,
    names: &[ObjectName],
) -> Result<Vec<i64>> {
    let all: HashMap<_, _> = catalog.holdings(target, "")?.into_iter().collect();
    let when = |name: &ObjectName| match all.get(&name.key()) {
        Some(Holding { verdict: Verdict::Good, verified, .. }) => *verified,
        _ => 0,
    };
    Ok(names.iter().map(when).collect())
}

pub(super) fn damaged(catalog: &Catalog, target: TargetNumber) -> Result<Vec<ObjectName>> {
    let holdings = catalog.holdings(target, "")?;
    let damaged = holdings.into_iter().filter(|(_, holding)| holding.verdict == Verdict::Damaged);
    Ok(damaged.filter_map(|(key, _)| ObjectName::parse(&key)).collect())
}

pub(super) fn record(catalog: &Catalog, url: &str, time: i64, seen: &[(ObjectName, Seen)]) -> Result<()> {
    let number = catalog.target(url)?;
    let mut holdings = Vec::with_capacity(seen.len());
    for (name, seen) in seen {
        let key = name.key();
        let before = catalog.holding(number, &key)?;
        // Another process was quicker to write down what it saw later. What a clock said that was ahead does not count.
        if before.is_some_and(|before| before.verified > time && before.verified <= now().seconds) {
            continue;
        }
        let verified = before.map_or(0, |before| before.verified);
        let length = before.map_or(0, |before| before.length);
        let holding = match *seen {
            Seen::Good(length) => Holding { held: true, length, verified: time, verdict: Verdict::Good },
            Seen::There(length) => Holding { held: true, length, verified, verdict: Verdict::Unverified },
            Seen::Damaged => Holding { held: true, length, verified: time, verdict: Verdict::Damaged },
            Seen::Missing => Holding { held: false, length: 0, verified, verdict: Verdict::Missing },
        };
        holdings.push((key, holding));
    }
    catalog.record_holdings(number, &holdings)
}

pub(super) fn chunks_of(catalog: &Catalog, pack: &ObjectHash) -> Result<Option<Vec<ChunkId>>> {
    let chunks = |contents: PackContents| {
        contents.toc.frames.iter().flat_map(|frame| frame.chunks.iter().map(|chunk| chunk.id)).collect()
    };
    Ok(catalog.pack(*pack)?.map(chunks))
}

impl Holdings for CatalogSources<'_> {
    fn last_verified(&self, url: &str, names: &[ObjectName]) -> Result<Vec<i64>> {
        last_verified(self.catalog, self.catalog.target(url)?, names)
    }

    fn damaged(&self, url: &str) -> Result<Vec<ObjectName>> {
        damaged(self.catalog, self.catalog.target(url)?)
    }

    fn record(&self, url: &str, time: i64, seen: &[(ObjectName, Seen)]) -> Result<()> {
        record(self.catalog, url, time, seen)
    }
}

impl Meaning for CatalogSources<'_> {
    fn chunks_of(&self, pack: &ObjectHash) -> Result<Option<Vec<ChunkId>>> {
        chunks_of(self.catalog, pack)
    }

    fn is_elsewhere(&self, chunks: &[ChunkId], lost: &HashSet<ObjectHash>) -> Result<Vec<bool>> {
        let places = self.catalog.places(chunks)?;
        Ok(places
            .iter()
            .map(|places| places.iter().any(|place| place.usable && !lost.contains(&place.pack)))
            .collect())
    }

    fn references(
        &self,
        chunks: &HashSet<ChunkId>,
        visit: &mut dyn FnMut(Reference) -> Result<()>,
    ) -> Result<()> {
        self.catalog.references(chunks, visit)
    }
}

/// As a backup stores: the intent first, packs, a piece of this writer's log that tells of them, on every target; then the catalog learns it.
/// The run never commits: it has no entries, and its packs are known all the same.
impl Rescue for CatalogSources<'_> {
    fn store(&self, chunks: Vec<RescuedChunk>, monitor: &dyn Monitor) -> Result<()> {
        let intent = IntentId::random()?;
        let mut run = self.catalog.begin_run(NewRun {
            host: self.host.as_bytes().to_vec(),
            roots: Vec::new(),
            intent,
            time: now(),
            basis: Basis::Whole,
        })?;
        let writer = self.catalog.writer()?;
        let writer =
            writer.ok_or_else(|| Error::new(ErrorKind::Local, "the catalog has no writer in a run"))?;
        let intent = Intent { id: intent, ..Intent::new(writer, self.host)? };
        self.everywhere(monitor, |target| intent.put(target))?;
        let stored = self.store_packs(&mut run, &intent, chunks, monitor);
        if stored.is_ok() {
            self.everywhere(monitor, |target| intent.delete(target))?;
        }
        stored
    }
}

impl CatalogSources<'_> {
    fn store_packs(
        &self,
        run: &mut crate::catalog::RunWriter,
        intent: &Intent,
        chunks: Vec<RescuedChunk>,
        monitor: &dyn Monitor,
    ) -> Result<()> {
        let config = self.repository.config();
        let mut frames = Vec::new();
        let mut builder = Builder::new(config.frame_bytes);
        for chunk in chunks {
            frames.extend(builder.add(chunk.id, &chunk.bytes));
        }
        frames.extend(builder.take());
        let mut frames = frames.into_iter().peekable();
        while frames.peek().is_some() {
            let pack = self.fill_pack(&mut frames, intent)?;
            let name = ObjectName::Pack(pack.name);
            let length = pack.bytes.len() as u64;
            let urls = self.everywhere(monitor, |target| target.put(&name.key(), &[&pack.bytes]))?;
            run.pack(PackContents { name: pack.name, stored_bytes: length, toc: pack.toc })?;
            for url in urls {
                self.record(&url, now().seconds, &[(name, Seen::There(length))])?;
            }
        }
        while let Some(segment) = run.flush()? {
            self.everywhere(monitor, |target| target.put(&segment.name.key(), &[&segment.bytes]))?;
            self.catalog.apply(&segment)?;
        }
        Ok(())
    }

    fn fill_pack(
        &self,
        frames: &mut dyn Iterator<Item = RawFrame>,
        intent: &Intent,
    ) -> Result<pack::FinishedPack> {
        let config = self.repository.config();
        let (secrets, cipher) = (self.repository.secrets()?, config.mode.cipher());
        let mut writer = pack::Writer::new(secrets, config.epoch, cipher, intent.id, Vec::new())?;
        let mut compressor = Compressor::new();
        for frame in frames {
            writer.add(&compressor.compress(frame, RESCUE_LEVEL)?)?;
            if writer.stored_bytes() as u64 >= u64::from(config.pack_bytes) {
                break;
            }
        }
        Ok(writer.finish())
    }

    /// Does the same on every target that can be reached; the URLs of those on which it succeeded.
    fn everywhere(
        &self,
        monitor: &dyn Monitor,
        call: impl Fn(&dyn crate::target::Target) -> Result<()>,
    ) -> Result<Vec<String>> {
        let done = parking_lot::Mutex::new(Vec::new());
        self.repository.on_all("heal", monitor, |target| {
            call(target)?;
            done.lock().push(target.url().to_owned());
            Ok(())
        })?;
        Ok(done.into_inner())
    }
}
