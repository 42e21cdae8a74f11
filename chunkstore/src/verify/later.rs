//! What was seen, noted in memory and written down later: so a verification that takes hours keeps no backup from the catalog.
//!
//! The catalog that it asks is open for reading. Where what was seen in this run says other than that, what was seen counts.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::catalog::{chunks_of, damaged, last_verified, record};
use super::{Holdings, Seen};
use crate::catalog::{Catalog, Reference, TargetNumber};
use crate::error::Result;
use crate::heal::Meaning;
use crate::id::{ChunkId, ObjectHash};
use crate::repository::layout::ObjectName;

/// Called now and then, to write down what was seen so far, if that is possible just then ([`LaterHoldings::write_to`]).
pub type WriteDown<'a> = dyn Fn(&LaterHoldings<'_>) + Sync + 'a;

/// Remembers what is seen until it can be written down.
pub struct LaterHoldings<'a> {
    catalog: &'a Catalog,
    targets: Vec<(TargetNumber, String)>,
    seen: Mutex<Vec<SeenAt>>,
    /// Packs of which a target has, or has not, a usable copy, other than the catalog knows: by the target's URL.
    news: Mutex<HashMap<ObjectHash, HashMap<String, bool>>>,
    write_down: &'a WriteDown<'a>,
    interval: Duration,
    written: Mutex<Instant>,
}

/// What was seen of objects on the target with this URL, and when.
type SeenAt = (String, i64, Vec<(ObjectName, Seen)>);

impl std::fmt::Debug for LaterHoldings<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LaterHoldings({:?})", self.catalog)
    }
}

impl<'a> LaterHoldings<'a> {
    /// Beside `catalog`, which need not be open for writing. `write_down` is called once in an `interval`, by whoever sees something then.
    ///
    /// # Errors
    /// Local.
    pub fn new(catalog: &'a Catalog, interval: Duration, write_down: &'a WriteDown<'a>) -> Result<Self> {
        Ok(Self {
            catalog,
            targets: catalog.targets()?,
            seen: Mutex::default(),
            news: Mutex::default(),
            write_down,
            interval,
            written: Mutex::new(Instant::now()),
        })
    }

    /// Whether there is nothing to be written down.
    pub fn is_empty(&self) -> bool {
        self.seen.lock().is_empty()
    }

    /// Writes down what was not yet, in a catalog that is open for writing. What fails is kept, and may be tried again.
    ///
    /// # Errors
    /// Local.
    pub fn write_to(&self, catalog: &Catalog) -> Result<()> {
        let mut seen = self.seen.lock();
        for (url, time, objects) in seen.iter() {
            record(catalog, url, *time, objects)?;
        }
        seen.clear();
        Ok(())
    }

    fn number(&self, url: &str) -> Option<TargetNumber> {
        self.targets.iter().find(|(_, known)| known == url).map(|(number, _)| *number)
    }

    /// Whether the catalog knows a usable copy of an object on a target.
    fn was_usable(&self, url: &str, name: &ObjectName) -> Result<bool> {
        let Some(number) = self.number(url) else { return Ok(false) };
        Ok(self.catalog.holding(number, &name.key())?.is_some_and(|holding| holding.is_usable()))
    }

    fn note_news(&self, url: &str, name: &ObjectName, seen: Seen) -> Result<()> {
        let ObjectName::Pack(pack) = name else { return Ok(()) };
        let is_usable = matches!(seen, Seen::Good(_) | Seen::There(_));
        let was_usable = self.was_usable(url, name)?;
        let mut news = self.news.lock();
        if is_usable != was_usable {
            news.entry(*pack).or_default().insert(url.to_owned(), is_usable);
        } else if let Some(places) = news.get_mut(pack) {
            places.remove(url);
        }
        Ok(())
    }

    /// Whether a pack is usable on some target, by what was seen and else by what the catalog knows.
    fn is_usable(&self, pack: ObjectHash, as_known: bool) -> Result<bool> {
        let news = self.news.lock().get(&pack).cloned().unwrap_or_default();
        if news.values().any(|usable| *usable) {
            return Ok(true);
        }
        if news.is_empty() || !as_known {
            return Ok(as_known);
        }
        for (_, url) in self.targets.iter().filter(|(_, url)| !news.contains_key(url)) {
            if self.was_usable(url, &ObjectName::Pack(pack))? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl Holdings for LaterHoldings<'_> {
    fn last_verified(&self, url: &str, names: &[ObjectName]) -> Result<Vec<i64>> {
        match self.number(url) {
            Some(number) => last_verified(self.catalog, number, names),
            None => Ok(vec![0; names.len()]),
        }
    }

    fn damaged(&self, url: &str) -> Result<Vec<ObjectName>> {
        self.number(url).map_or_else(|| Ok(Vec::new()), |number| damaged(self.catalog, number))
    }

    fn record(&self, url: &str, time: i64, seen: &[(ObjectName, Seen)]) -> Result<()> {
        if seen.is_empty() {
            return Ok(());
        }
        for (name, seen) in seen {
            self.note_news(url, name, *seen)?;
        }
        self.seen.lock().push((url.to_owned(), time, seen.to_vec()));
        if let Some(mut written) = self.written.try_lock()
            && written.elapsed() >= self.interval
        {
            (self.write_down)(self);
            *written = Instant::now();
        }
        Ok(())
    }
}

impl Meaning for LaterHoldings<'_> {
    fn chunks_of(&self, pack: &ObjectHash) -> Result<Option<Vec<ChunkId>>> {
        chunks_of(self.catalog, pack)
    }

    fn is_elsewhere(&self, chunks: &[ChunkId], lost: &HashSet<ObjectHash>) -> Result<Vec<bool>> {
        let places = self.catalog.places(chunks)?;
        let is_there = |places: &Vec<crate::catalog::ChunkPlace>| {
            for place in places.iter().filter(|place| !lost.contains(&place.pack)) {
                if self.is_usable(place.pack, place.usable)? {
                    return Ok(true);
                }
            }
            Ok(false)
        };
        places.iter().map(is_there).collect()
    }

    fn references(
        &self,
        chunks: &HashSet<ChunkId>,
        visit: &mut dyn FnMut(Reference) -> Result<()>,
    ) -> Result<()> {
        self.catalog.references(chunks, visit)
    }
}
