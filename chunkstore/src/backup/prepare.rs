//! Before a run: what each target holds, what the writer left unfinished, and the intent.
//!
//! *Known* means present: a chunk counts as stored only while the target's own listing shows its pack. So each target's packs
//! are listed first, and what is missing, or has another length, is not known there any more: the run stores it anew if it meets the
//! bytes. Packs of an interrupted run of this writer that no segment names carry its intent; they are read and taken over, under
//! the new intent, before the old one goes. Only when all that is settled is it clear which targets lack something, and may not be marked
//! complete.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::BackupSummary;
use crate::catalog::{Catalog, Holding, RunWriter, TargetNumber, Verdict};
use crate::error::{Error, ErrorKind, Result};
use crate::frame::Decompressor;
use crate::id::{IntentId, ObjectHash};
use crate::monitor::{Event, Fault, FaultSide, Monitor};
use crate::pack::{ReadRanges, Reader};
use crate::repository::blame::blame;
use crate::repository::complete::Complete;
use crate::repository::fetch::fetch;
use crate::repository::intent::Intent;
use crate::repository::layout::{ObjectName, PACKS, SEGMENTS};
use crate::repository::{Repository, RepositoryTarget};
use crate::segment::{PackContents, SEGMENT_BYTES_MAX, Segment, SegmentName, SegmentObject};
use crate::target::{ObjectKey, Target};

/// A target as this run sees it.
pub(super) struct Destination {
    /// Its place in the repository.
    pub(super) entry: Arc<RepositoryTarget>,
    /// Itself.
    pub(super) target: Arc<dyn Target>,
    /// Its number in the catalog.
    pub(super) number: TargetNumber,
    /// Its packs and their lengths.
    packs: HashMap<ObjectHash, u64>,
    /// Those of them that were damaged when they were last read.
    damaged: HashSet<ObjectHash>,
    /// Its segments and their lengths.
    segments: BTreeMap<ObjectKey, u64>,
    /// Whether it held everything that any target holds when the run began; false until [`mark_whole`].
    pub(super) whole: bool,
}

impl Destination {
    /// A target with what it holds now; `None`, and reported, if it does not tell.
    fn listed(
        entry: &Arc<RepositoryTarget>,
        target: Arc<dyn Target>,
        number: TargetNumber,
        monitor: &dyn Monitor,
    ) -> Option<Self> {
        let (packs, segments) =
            list(&*target).inspect_err(|error| target_failed(entry, "list", error, monitor)).ok()?;
        let (entry, damaged) = (entry.clone(), HashSet::new());
        Some(Self { entry, target, number, packs, damaged, segments, whole: false })
    }

    /// Whether it did not fail, and yet does not have all of what the summary tells of.
    pub(super) fn is_behind(&self, summary: &BackupSummary) -> bool {
        let url = self.entry.url();
        self.entry.error().is_none() && !summary.targets_complete.iter().any(|done| done == url)
    }
}

/// Reports that a target failed, once, and passes it over from now on.
pub(super) fn target_failed(
    entry: &RepositoryTarget,
    during: &'static str,
    error: &Error,
    monitor: &dyn Monitor,
) {
    if entry.fail(error.clone()) {
        let item = entry.url().to_owned();
        monitor.fault(Fault { side: FaultSide::Target, item, during, error: error.clone() });
    }
}

/// Lists what each reachable target holds, brings it what the outbox still holds of earlier runs, and tells the catalog of both: so a run that was
/// committed here and nowhere else is what this one builds on.
///
/// # Errors
/// Local, if the catalog fails; a target's fault is reported and passed over.
pub(super) fn destinations(
    repository: &Repository,
    catalog: &Catalog,
    monitor: &dyn Monitor,
) -> Result<Vec<Destination>> {
    let mut destinations = Vec::new();
    for entry in repository.targets() {
        let Ok(target) = entry.get() else { continue };
        let target = target.clone();
        let number = catalog.target(entry.url())?;
        destinations.extend(Destination::listed(entry, target, number, monitor));
    }
    send_outbox(catalog, &mut destinations, monitor)?;
    note_listings(catalog, &mut destinations)?;
    Ok(destinations)
}

/// Lists what the destinations that did not fail hold now.
///
/// # Errors
/// Local, if the catalog fails; a target's fault is reported and passed over.
pub(super) fn look_again(
    catalog: &Catalog,
    before: &[Destination],
    monitor: &dyn Monitor,
) -> Result<Vec<Destination>> {
    let mut now = Vec::new();
    for destination in before.iter().filter(|destination| destination.entry.error().is_none()) {
        let Destination { entry, target, number, .. } = destination;
        now.extend(Destination::listed(entry, target.clone(), *number, monitor));
    }
    note_listings(catalog, &mut now)?;
    Ok(now)
}

fn note_listings(catalog: &Catalog, destinations: &mut [Destination]) -> Result<()> {
    let mut expected = catalog.packs()?;
    expected.sort_unstable();
    let outbox: HashSet<ObjectKey> = catalog.outbox_names()?.iter().map(SegmentName::key).collect();
    for destination in destinations {
        reconcile(catalog, destination, &expected)?;
        note_segments(catalog, destination, &outbox)?;
    }
    Ok(())
}

type Listing = (HashMap<ObjectHash, u64>, BTreeMap<ObjectKey, u64>);

fn list(target: &dyn Target) -> Result<Listing> {
    let pack = |object: &crate::target::ObjectInfo| match ObjectName::parse(&object.key) {
        Some(ObjectName::Pack(name)) => Some((name, object.length)),
        _ => None,
    };
    let packs = target.list(PACKS)?.iter().filter_map(pack).collect();
    let segments = target.list(SEGMENTS)?.into_iter().map(|object| (object.key, object.length)).collect();
    Ok((packs, segments))
}

/// Notes packs that are there and were not known to be, and packs that are gone or have another length. `expected` is in the order of names, as
/// what is known of the target is: both go side by side.
fn reconcile(catalog: &Catalog, destination: &mut Destination, expected: &[(ObjectHash, u64)]) -> Result<()> {
    let mut known = catalog.each_holding(destination.number, PACKS).peekable();
    let mut news = Vec::new();
    for (name, length) in expected {
        let key = ObjectName::Pack(*name).key();
        let there = destination.packs.get(name);
        while let Some(earlier) = known.next_if(|row| row.as_ref().map_or(true, |(known, _)| *known < key)) {
            earlier?;
        }
        let before = known.next_if(|row| row.as_ref().is_ok_and(|(known, _)| *known == key));
        let before = before.transpose()?.map(|(_, holding)| holding);
        let holding = match (there, before) {
            (Some(found), _) if found != length => {
                Holding { held: true, length: *found, verified: 0, verdict: Verdict::Damaged }
            }
            (Some(_), Some(before)) if before.held && before.verdict != Verdict::Missing => {
                if before.verdict == Verdict::Damaged {
                    destination.damaged.insert(*name);
                }
                continue;
            }
            (Some(_), _) => {
                Holding { held: true, length: *length, verified: 0, verdict: Verdict::Unverified }
            }
            (None, Some(before)) if before.held || before.verdict != Verdict::Missing => {
                Holding { held: false, length: 0, verified: before.verified, verdict: Verdict::Missing }
            }
            (None, _) => continue,
        };
        news.push((key, holding));
    }
    catalog.record_holdings(destination.number, &news)
}

/// Notes segments that are there, and those that were and are not any more. What the outbox has is known from puts alone: a listing does not say that
/// it is durable.
fn note_segments(catalog: &Catalog, destination: &Destination, outbox: &HashSet<ObjectKey>) -> Result<()> {
    let known: HashMap<ObjectKey, Holding> =
        catalog.holdings(destination.number, SEGMENTS)?.into_iter().collect();
    let mut news = Vec::new();
    for (key, length) in destination.segments.iter().filter(|(key, _)| !outbox.contains(*key)) {
        if known.get(key).is_none_or(|before| !before.held || before.verdict == Verdict::Missing) {
            news.push((key.clone(), Holding::put(*length)));
        }
    }
    for (key, before) in known {
        if before.held && !destination.segments.contains_key(&key) {
            news.push((key, Holding { held: false, verdict: Verdict::Missing, ..before }));
        }
    }
    catalog.record_holdings(destination.number, &news)
}

/// Notes which targets hold every pack that a segment names and every segment. A pack that is good on no target is lost, and nobody lacks it; one that is
/// on a target which is away now is not. So for segments: those that are `lost` nobody lacks. What is known to be damaged is lacked.
///
/// # Errors
/// Local, if the catalog fails.
pub(super) fn mark_whole(
    repository: &Repository,
    catalog: &Catalog,
    destinations: &mut [Destination],
    lost: &[SegmentName],
) -> Result<()> {
    let away = held_by_others(repository, catalog, destinations)?;
    let named = catalog.packs()?;
    let has = |destination: &Destination, name: &ObjectHash, length: u64| {
        destination.packs.get(name) == Some(&length)
    };
    let existing: Vec<&(ObjectHash, u64)> = named
        .iter()
        .filter(|(name, length)| {
            let is_good = |destination: &Destination| {
                has(destination, name, *length) && !destination.damaged.contains(name)
            };
            away.contains(name) || destinations.iter().any(is_good)
        })
        .collect();
    // The length, where it is known: a segment that was not read yet may be anything.
    let mut segments: BTreeMap<ObjectKey, Option<u64>> = BTreeMap::new();
    for destination in destinations.iter() {
        let names = destination.segments.keys().filter(|key| SegmentName::from_key(key).is_some());
        segments.extend(names.map(|key| (key.clone(), None)));
    }
    segments.extend(catalog.segments()?.iter().map(|segment| (segment.name.key(), Some(segment.length))));
    for name in lost {
        segments.remove(&name.key());
    }
    let mut whole = Vec::with_capacity(destinations.len());
    for destination in destinations.iter() {
        let has_good =
            |name: &ObjectHash, length| has(destination, name, length) && !destination.damaged.contains(name);
        let mut is_whole = existing.iter().all(|(name, length)| has_good(name, *length));
        for (key, length) in &segments {
            let listed = destination.segments.get(key);
            is_whole &= listed.is_some() && length.is_none_or(|length| listed == Some(&length));
            if is_whole {
                let holding = catalog.holding(destination.number, key)?;
                is_whole = holding.is_none_or(|holding| holding.verdict != Verdict::Damaged);
            }
        }
        whole.push(is_whole);
    }
    for (destination, whole) in destinations.iter_mut().zip(whole) {
        destination.whole = whole;
    }
    Ok(())
}

/// The segments that the catalog has read and that are lost: no target has them undamaged, nor has the outbox. A target that is away now has what
/// it is not known to lack: whoever says everything again because of a disk in a drawer does so for nothing.
///
/// # Errors
/// Local, if the catalog fails.
pub(super) fn lost_segments(
    repository: &Repository,
    catalog: &Catalog,
    destinations: &[Destination],
) -> Result<Vec<SegmentName>> {
    // Without a target nothing can be told, and nothing will be written.
    if destinations.is_empty() {
        return Ok(Vec::new());
    }
    let mut missing = Vec::new();
    for segment in catalog.segments()? {
        let key = segment.name.key();
        let mut is_there = false;
        for destination in destinations {
            let is_listed = destination.segments.get(&key) == Some(&segment.length);
            let is_good = |holding: Holding| holding.verdict != Verdict::Damaged;
            is_there |= is_listed && catalog.holding(destination.number, &key)?.is_none_or(is_good);
        }
        if !is_there {
            missing.push(segment.name);
        }
    }
    let away = away(repository, catalog, destinations)?;
    let mut lost = Vec::new();
    for name in missing {
        let mut is_there = catalog.outbox_segment(&name)?.is_some();
        for target in &away {
            is_there |= match target {
                Some(number) => catalog.holding(*number, &name.key())?.is_none_or(|held| held.is_usable()),
                None => true,
            };
        }
        if !is_there {
            lost.push(name);
        }
    }
    Ok(lost)
}

/// Sees to it that no pack counts as told of because a lost segment told of it: reads all segments that are left, once for each loss.
///
/// # Errors
/// Local, if the catalog fails; cancelled.
pub(super) fn untell_packs(
    catalog: &Catalog,
    destinations: &[Destination],
    lost: &[SegmentName],
    monitor: &dyn Monitor,
) -> Result<()> {
    if catalog.are_packs_untold(lost)? {
        return Ok(());
    }
    let lost_names: HashSet<&SegmentName> = lost.iter().collect();
    let names = catalog.segments()?.into_iter().map(|segment| segment.name);
    let left = names.filter(|name| !lost_names.contains(name)).filter_map(|name| {
        if monitor.cancelled() {
            return Some(Err(crate::pipeline::read::stopped()));
        }
        match catalog.outbox_segment(&name) {
            Ok(Some(segment)) => return Some(Segment::open(&segment)),
            Ok(None) => {}
            Err(error) => return Some(Err(error)),
        }
        // What only a target has that is away is told of again, if it must be: that costs some bytes and no data.
        let read = |destination: &Destination| {
            let bytes = destination.target.get_at_most(&name.key(), SEGMENT_BYTES_MAX as u64).ok()?;
            Segment::open(&SegmentObject { name, bytes: bytes.into() }).ok()
        };
        destinations.iter().find_map(read).map(Ok)
    });
    catalog.untell_packs(lost, left)
}

/// The targets of the repository that are not among the destinations, by their numbers; `None` for one that the catalog has never seen.
fn away(
    repository: &Repository,
    catalog: &Catalog,
    destinations: &[Destination],
) -> Result<Vec<Option<TargetNumber>>> {
    let known = catalog.targets()?;
    let mut away = Vec::new();
    for target in repository.targets() {
        let number = known.iter().find(|(_, url)| url == target.url()).map(|(number, _)| *number);
        if !destinations.iter().any(|destination| Some(destination.number) == number) {
            away.push(number);
        }
    }
    Ok(away)
}

/// The packs that are, as far as is known, on targets of the repository that are not among the destinations.
fn held_by_others(
    repository: &Repository,
    catalog: &Catalog,
    destinations: &[Destination],
) -> Result<HashSet<ObjectHash>> {
    let mut held = HashSet::new();
    for number in away(repository, catalog, destinations)?.into_iter().flatten() {
        for holding in catalog.each_holding(number, PACKS) {
            let (key, holding) = holding?;
            if let (true, Some(ObjectName::Pack(name))) = (holding.is_usable(), ObjectName::parse(&key)) {
                held.insert(name);
            }
        }
    }
    Ok(held)
}

/// Puts on every target what the outbox still holds of earlier runs, one segment in memory at a time; the catalog learns what it does not know yet and
/// some target has now. What a listing shows and no put has acknowledged is put too: so it is durable, and known to be there. A target that failed gets
/// nothing more: its log would have a gap.
fn send_outbox(catalog: &Catalog, destinations: &mut Vec<Destination>, monitor: &dyn Monitor) -> Result<()> {
    for name in catalog.outbox_names()? {
        let key = name.key();
        let mut lacking = Vec::new();
        for destination in destinations.iter() {
            let holding = catalog.holding(destination.number, &key)?;
            // Over a damaged one a put does nothing: it stays known as damaged, and stays in the outbox, until it is healed.
            let is_settled = |held: Holding| held.is_usable() || held.verdict == Verdict::Damaged;
            let has = destination.segments.contains_key(&key) && holding.is_some_and(is_settled);
            lacking.extend((!has).then_some(destination.number));
        }
        if lacking.is_empty() && catalog.is_applied(&name)? {
            continue;
        }
        let Some(segment) = catalog.outbox_segment(&name)? else { continue };
        destinations.retain_mut(|destination| {
            let lacks = lacking.contains(&destination.number);
            let put = if lacks { put_segments(destination, &[&segment]) } else { Ok(()) };
            put.inspect_err(|error| target_failed(&destination.entry, "put", error, monitor)).is_ok()
        });
        for destination in destinations.iter().filter(|destination| lacking.contains(&destination.number)) {
            let holding = Holding::put(segment.bytes.len() as u64);
            catalog.record_holdings(destination.number, &[(key.clone(), holding)])?;
        }
        if !destinations.is_empty() && !catalog.is_applied(&name)? {
            match catalog.apply(&segment) {
                Ok(()) => {}
                // Pieces of it are gone, or another run took its place: catching up sorts that out, from what is on the targets now.
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::NotTheSame | ErrorKind::NotFound | ErrorKind::Damage
                    ) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

fn put_segments(destination: &mut Destination, segments: &[&SegmentObject]) -> Result<()> {
    for segment in segments {
        destination.target.put(&segment.name.key(), &[&segment.bytes])?;
        destination.segments.insert(segment.name.key(), segment.bytes.len() as u64);
    }
    Ok(())
}

/// Puts the intent on every target, and says which ones an interrupted run of this writer left.
///
/// # Errors
/// Target, if not one target took it.
pub(super) fn announce(
    intent: &Intent,
    destinations: &mut Vec<Destination>,
    monitor: &dyn Monitor,
) -> Result<BTreeSet<IntentId>> {
    let mut left = BTreeSet::new();
    let mut last = None;
    destinations.retain(|destination| {
        let target = &*destination.target;
        match intent.put(target).and_then(|()| left_by(intent, target)) {
            Ok(ids) => {
                left.extend(ids);
                true
            }
            Err(error) => {
                target_failed(&destination.entry, "put", &error, monitor);
                last = Some(error);
                false
            }
        }
    });
    if destinations.is_empty() {
        return Err(crate::pipeline::pack::no_target_left(last));
    }
    Ok(left)
}

/// The intents on a target that the same writer put before. One that cannot be read is nobody's: it stays.
fn left_by(intent: &Intent, target: &dyn Target) -> Result<Vec<IntentId>> {
    let mut left = Vec::new();
    for id in Intent::ids(target)?.into_iter().filter(|id| *id != intent.id) {
        let read = fetch(target, &ObjectName::Intent(id)).map_err(|error| blame(target, error));
        match read.and_then(|bytes| Intent::decode(&bytes)) {
            Ok(found) if found.writer == intent.writer && found.id == id => left.push(id),
            Ok(_) => {}
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::NotFound | ErrorKind::Damage | ErrorKind::NewerFormat
                ) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(left)
}

/// Takes over packs that no segment names: those of interrupted runs of this writer, and those whose segment is lost, if nobody is at work who might
/// name them yet. Returns how many there were.
///
/// # Errors
/// Local, if the catalog fails; what cannot be read on a target is left alone.
pub(super) fn adopt(
    repository: &Repository,
    catalog: &Catalog,
    run: &mut RunWriter,
    destinations: &[Destination],
    left: &BTreeSet<IntentId>,
    monitor: &dyn Monitor,
) -> Result<u64> {
    let named: HashMap<ObjectHash, u64> = catalog.packs()?.into_iter().collect();
    let mut orphans: BTreeMap<ObjectHash, u64> = BTreeMap::new();
    for destination in destinations {
        orphans.extend(destination.packs.iter().filter(|(name, _)| !named.contains_key(name)));
    }
    let unlogged = catalog.unlogged_packs()?;
    let at_work = if unlogged.is_empty() { None } else { at_work(destinations) };
    let is_abandoned = |intent: &IntentId| at_work.as_ref().is_some_and(|at_work| !at_work.contains(intent));
    let is_ours = |name: &ObjectHash, intent: &IntentId| {
        left.contains(intent) || (unlogged.contains(name) && is_abandoned(intent))
    };
    let mut decompressor = Decompressor::new();
    let (mut adopted, mut untold) = (0, 0);
    for (name, length) in orphans {
        let holders: Vec<&Destination> =
            destinations.iter().filter(|destination| destination.packs.get(&name) == Some(&length)).collect();
        let contents = holders.iter().find_map(|holder| {
            read_own(repository, &*holder.target, name, length, &is_ours, &mut decompressor)
                .unwrap_or_default()
        });
        let Some(contents) = contents else { continue };
        match run.pack(contents) {
            Ok(()) => {}
            // Earlier versions packed so. It does no harm where it is; failing over it would end every run.
            Err(error) if error.kind() == ErrorKind::InvalidArgument => {
                monitor.event(Event::Note(&format!(
                    "pack {name} of an interrupted backup stays where it is, and what it holds is stored again: {error}"
                )));
                continue;
            }
            Err(error) => return Err(error),
        }
        let holding = Holding { held: true, length, verified: 0, verdict: Verdict::Unverified };
        for holder in holders {
            catalog.record_holdings(holder.number, &[(ObjectName::Pack(name).key(), holding)])?;
        }
        match unlogged.contains(&name) {
            true => untold += 1,
            false => adopted += 1,
        }
    }
    if adopted > 0 {
        monitor.event(Event::Note(&format!(
            "an interrupted backup goes on: {adopted} of its packs are taken over"
        )));
    }
    if untold > 0 {
        let which =
            if untold == 1 { "pack whose segment is lost is" } else { "packs whose segments are lost are" };
        monitor.event(Event::Note(&format!("{untold} {which} told of again")));
    }
    Ok(adopted + untold)
}

/// The intents of whoever is at work on any of the targets; `None` if one does not tell.
fn at_work(destinations: &[Destination]) -> Option<BTreeSet<IntentId>> {
    let mut ids = BTreeSet::new();
    for destination in destinations {
        ids.extend(Intent::ids(&*destination.target).ok()?);
    }
    Some(ids)
}

/// What a pack holds, if `is_ours` takes its name and the intent that wrote it.
fn read_own(
    repository: &Repository,
    target: &dyn Target,
    name: ObjectHash,
    length: u64,
    is_ours: &dyn Fn(&ObjectHash, &IntentId) -> bool,
    decompressor: &mut Decompressor,
) -> Result<Option<PackContents>> {
    let key = ObjectName::Pack(name).key();
    let source = ReadRanges { length, read: |offset, length| target.get_range(&key, offset, length) };
    let reader = Reader::open(&source, repository.secrets()?)?;
    if !is_ours(&name, &reader.header().intent) {
        return Ok(None);
    }
    let read = reader.toc(decompressor)?;
    if read.faults.is_empty() {
        Ok(Some(PackContents { name, stored_bytes: length, toc: read.toc }))
    } else {
        Ok(None)
    }
}

/// Puts a segment on every target.
///
/// # Errors
/// Target, if it was stored nowhere.
pub(super) fn put_everywhere(
    destinations: &mut [Destination],
    segment: &SegmentObject,
    monitor: &dyn Monitor,
) -> Result<()> {
    let (mut stored, mut last) = (false, None);
    for destination in destinations {
        match put_segments(destination, &[segment]) {
            Ok(()) => stored = true,
            Err(error) => {
                target_failed(&destination.entry, "put", &error, monitor);
                last = Some(error);
            }
        }
    }
    if stored { Ok(()) } else { Err(crate::pipeline::pack::no_target_left(last)) }
}

/// Says that a target has everything up to this segment, on the target.
///
/// # Errors
/// The target's.
pub(super) fn mark_complete(destination: &Destination, name: SegmentName) -> Result<()> {
    Complete { writer: name.writer, sequence: name.sequence.0, segment: name.hash }.put(&*destination.target)
}

/// Takes intents away where they are; what fails stays and only delays a later prune.
pub(super) fn withdraw(destinations: &[Destination], intents: &[IntentId]) {
    for destination in destinations.iter().filter(|destination| destination.entry.error().is_none()) {
        for id in intents {
            match destination.target.delete(&ObjectName::Intent(*id).key()) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(_) => break,
            }
        }
    }
}
