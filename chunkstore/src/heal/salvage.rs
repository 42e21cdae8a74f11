//! Rescuing what can still be read of a pack that is good nowhere.
//!
//! Every damaged copy is read frame by frame. A chunk counts as rescued when its bytes have its id, so a frame that was pieced together wrongly, or
//! forged, gives nothing. What is good goes into a new pack, unless other packs have it anyway.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::mend::{damaged_copies, lost_objects};
use super::{HealSources, RescuedChunk};
use crate::error::{ErrorKind, Result};
use crate::frame::Decompressor;
use crate::id::{ChunkId, ObjectHash};
use crate::monitor::{Event, Fault, FaultSide, Monitor};
use crate::pack;
use crate::repository::layout::ObjectName;
use crate::secret::Secrets;
use crate::verify::{Survey, check_cancelled};

/// What became of a lost object.
#[derive(Debug)]
pub(super) struct Salvaged {
    pub(super) name: ObjectName,
    /// Chunks that were rescued from it.
    pub(super) rescued: u64,
    /// The chunks that it held, those that were rescued left out; as far as its damaged copies tell.
    pub(super) chunks: Option<Vec<ChunkId>>,
}

impl Salvaged {
    pub(super) fn nothing(name: ObjectName) -> Self {
        Self { name, rescued: 0, chunks: None }
    }
}

/// Tries to rescue what is in lost packs; gives all lost objects.
///
/// # Errors
/// Local; cancelled. A rescue that fails is reported.
pub(super) fn salvage(
    survey: &Survey<'_>,
    sources: &HealSources<'_>,
    monitor: &dyn Monitor,
) -> Result<Vec<Salvaged>> {
    let lost = lost_objects(survey);
    let packs: HashSet<ObjectHash> =
        lost.iter().filter(|name| matches!(name, ObjectName::Pack(_))).filter_map(ObjectName::hash).collect();
    let mut all = Vec::new();
    for name in lost {
        check_cancelled(monitor)?;
        let (ObjectName::Pack(_), Ok(secrets), Some(rescue)) =
            (name, survey.repository.secrets(), sources.rescue)
        else {
            all.push(Salvaged::nothing(name));
            continue;
        };
        let mut found = read_chunks(&damaged_copies(survey, &name), secrets)?;
        if let Some(meaning) = sources.meaning {
            let ids: Vec<_> = found.good.keys().copied().collect();
            let elsewhere = meaning.is_elsewhere(&ids, &packs)?;
            for (id, _) in ids.iter().zip(elsewhere).filter(|(_, elsewhere)| *elsewhere) {
                found.good.remove(id);
            }
        }
        let rescued = found.good.len() as u64;
        let ids: BTreeSet<_> = found.good.keys().copied().collect();
        let chunks: Vec<_> = found.good.into_iter().map(|(id, bytes)| RescuedChunk { id, bytes }).collect();
        let stored = if chunks.is_empty() { Ok(()) } else { rescue.store(chunks, monitor) };
        match stored {
            Ok(()) => {
                if rescued > 0 {
                    monitor.event(Event::Note(&format!(
                        "{rescued} chunks of {name} were rescued into a new pack"
                    )));
                }
                let chunks = found.all.difference(&ids).copied().collect();
                let chunks = found.complete.then_some(chunks);
                all.push(Salvaged { name, rescued, chunks });
            }
            Err(error) if matches!(error.kind(), ErrorKind::Cancelled | ErrorKind::Local) => {
                return Err(error);
            }
            Err(error) => {
                let item = name.to_string();
                monitor.fault(Fault { side: FaultSide::Target, item, during: "heal", error });
                all.push(Salvaged::nothing(name));
            }
        }
    }
    Ok(all)
}

/// What damaged copies of one pack still tell.
#[derive(Default)]
struct Found {
    good: BTreeMap<ChunkId, Vec<u8>>,
    /// Every chunk that a table of contents names.
    all: BTreeSet<ChunkId>,
    /// Whether a table of contents was good: `all` is all then.
    complete: bool,
}

fn read_chunks(copies: &[Vec<u8>], secrets: &Secrets) -> Result<Found> {
    let mut found = Found::default();
    let mut decompressor = Decompressor::new();
    for copy in copies {
        let reader = match pack::Reader::open(copy.as_slice(), secrets) {
            Ok(reader) => reader,
            Err(error) if is_about_bytes(error.kind()) => continue,
            Err(error) => return Err(error),
        };
        let contents = match reader.toc(&mut decompressor) {
            Ok(contents) => contents,
            Err(error) if is_about_bytes(error.kind()) => continue,
            Err(error) => return Err(error),
        };
        found.complete |= contents.origin != pack::TocOrigin::Frames;
        for entry in &contents.toc.frames {
            found.all.extend(entry.chunks.iter().map(|chunk| chunk.id));
            if entry.chunks.iter().all(|chunk| found.good.contains_key(&chunk.id)) {
                continue;
            }
            let Ok(frame) = reader.read_checked(entry, &mut decompressor) else { continue };
            for (index, chunk) in entry.chunks.iter().enumerate() {
                if let Some(bytes) = frame.bytes(index) {
                    found.good.entry(chunk.id).or_insert_with(|| bytes.to_vec());
                }
            }
        }
    }
    Ok(found)
}

fn is_about_bytes(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Damage | ErrorKind::NotTheSame | ErrorKind::NewerFormat)
}
