//! What is good nowhere: rescued as far as it goes, and the rest is named.

use super::*;

/// The catalog's part, as a table.
#[derive(Default)]
struct Table {
    packs: Vec<(ObjectHash, Vec<ChunkId>)>,
    stored: Mutex<BTreeSet<ChunkId>>,
}

impl Table {
    fn sources(&self) -> HealSources<'_> {
        HealSources { meaning: Some(self), rescue: Some(self), ..HealSources::default() }
    }
}

impl Meaning for Table {
    fn chunks_of(&self, pack: &ObjectHash) -> Result<Option<Vec<ChunkId>>> {
        Ok(self.packs.iter().find(|(name, _)| name == pack).map(|(_, chunks)| chunks.clone()))
    }

    fn is_elsewhere(&self, chunks: &[ChunkId], _lost: &HashSet<ObjectHash>) -> Result<Vec<bool>> {
        Ok(chunks.iter().map(|chunk| self.stored.lock().contains(chunk)).collect())
    }

    fn references(
        &self,
        _chunks: &HashSet<ChunkId>,
        _visit: &mut dyn FnMut(Reference) -> Result<()>,
    ) -> Result<()> {
        Ok(())
    }
}

impl Rescue for Table {
    fn store(&self, chunks: Vec<RescuedChunk>, _monitor: &dyn Monitor) -> Result<()> {
        self.stored.lock().extend(chunks.into_iter().map(|chunk| chunk.id));
        Ok(())
    }
}

#[test]
fn what_is_left_of_a_lost_pack_is_rescued_and_the_rest_is_named() {
    let full = Full::new(&["a", "b"]);
    let repository = full.open(0);
    let (pack, chunks) = &full.packs[1];
    let name = ObjectName::Pack(*pack);
    // Both copies are bad at the same place, in the second of three frames; a copy may be cut as well.
    for target in &full.world.targets {
        target.flip(&name.key(), 112 + 9000);
    }
    let table = Table { packs: full.packs.clone(), ..Table::default() };
    let heal = || verify_with(&repository, &table.sources(), ReadData::All, true).unwrap();
    let report = heal();
    assert_eq!(report.outcome(), Outcome::Damaged);
    let [loss] = report.losses.as_slice() else { panic!("{:?}", report.losses) };
    assert_eq!((loss.name, loss.rescued), (name, 4));
    assert_eq!(loss.chunks.as_deref(), Some(&chunks[2..4]), "the chunks of the second frame");
    assert_eq!(table.stored.lock().len(), 4);
    let again = heal();
    assert_eq!(again.losses[0].rescued, 0, "what is elsewhere is not rescued twice");
    // The next backup has met the bytes again: now nothing is lost, though the pack stays bad.
    table.stored.lock().extend(&chunks[2..4]);
    let settled = heal();
    assert!(settled.losses.is_empty());
    assert!(settled.findings.iter().all(|finding| matches!(finding.fate, Fate::NotNeeded)));
    assert_ne!(settled.outcome(), Outcome::Damaged);
}

#[test]
fn a_pack_that_is_gone_everywhere_is_named_with_all_its_chunks() {
    let full = Full::new(&["a", "b"]);
    let repository = full.open(0);
    let (pack, chunks) = &full.packs[3];
    for target in &full.world.targets {
        target.delete(&ObjectName::Pack(*pack).key()).unwrap();
    }
    let table = Table { packs: full.packs.clone(), ..Table::default() };
    for heal in [false, true] {
        let report = verify_with(&repository, &table.sources(), ReadData::Nothing, heal).unwrap();
        assert_eq!(report.losses.len(), 1);
        assert_eq!(report.losses[0].chunks.as_ref(), Some(chunks));
    }
}
