//! What each target holds, and when each object was read whole last: local knowledge, from acknowledged puts, listings and verification.
//!
//! A chunk counts as stored only through this: by a pack that at least one target holds, not known to be damaged there. What a
//! verification finds damaged or missing is not known any more, and the next backup that meets its bytes stores it again.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use lsm::{Batch, Durability};

use crate::codec::{Decoder, put_varint};
use crate::error::{Error, Result};
use crate::id::ObjectHash;
use crate::repository::layout::ObjectName;
use crate::segment::fields::{unzigzag, zigzag};
use crate::target::{ObjectInfo, ObjectKey};

use super::Catalog;
use super::store::{self, PackNumber, bad_row, local};
use super::targets::TargetNumber;

/// How the last look at an object on a target ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Verdict {
    /// Put or listed, never read.
    Unverified = 1,
    /// Read whole, and good.
    Good = 2,
    /// Read, and bad.
    Damaged = 3,
    /// Not there though it should be.
    Missing = 4,
}

/// What is known of an object on a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holding {
    /// Whether the target has it (damaged or not).
    pub held: bool,
    /// Its length there, in bytes.
    pub length: u64,
    /// When it was last read whole, in seconds since 1970; 0: never.
    pub verified: i64,
    /// How that ended.
    pub verdict: Verdict,
}

impl Holding {
    /// An object that was put and acknowledged, or listed.
    pub fn put(length: u64) -> Self {
        Self { held: true, length, verified: 0, verdict: Verdict::Unverified }
    }

    /// Whether data may be read from it, as far as is known.
    pub fn is_usable(&self) -> bool {
        self.held && matches!(self.verdict, Verdict::Unverified | Verdict::Good)
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = vec![u8::from(self.held), self.verdict as u8];
        put_varint(&mut out, self.length);
        put_varint(&mut out, zigzag(self.verified));
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self> {
        let mut from = Decoder::new(bytes);
        let held = from.u8("held")? != 0;
        let verdict = match from.u8("verdict")? {
            1 => Verdict::Unverified,
            2 => Verdict::Good,
            3 => Verdict::Damaged,
            4 => Verdict::Missing,
            other => return Err(Error::damage(format!("verdict: 1 to 4 expected, {other} found"))),
        };
        let length = from.varint("length")?;
        let verified = unzigzag(from.varint("time of verification")?);
        from.finish("a row")?;
        Ok(Self { held, length, verified, verdict })
    }
}

/// For each pack that is usable somewhere on how many targets.
#[derive(Debug, Default)]
pub(super) struct UsablePacks(HashMap<PackNumber, u8>);

impl UsablePacks {
    pub(super) fn has(&self, pack: PackNumber) -> bool {
        self.0.contains_key(&pack)
    }

    fn change(&mut self, pack: PackNumber, before: bool, after: bool) {
        let count = self.0.get(&pack).copied().unwrap_or(0);
        match count.saturating_sub(u8::from(before)).saturating_add(u8::from(after)) {
            0 => self.0.remove(&pack),
            count => self.0.insert(pack, count),
        };
    }
}

/// As long as it lives, only some targets count: see [`Catalog::count_only`].
#[derive(Debug)]
pub struct Counted {
    catalog: Catalog,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.catalog.set_counted(None);
    }
}

impl Catalog {
    /// From now on until what it gives is dropped, a pack is usable only if one of `targets` holds it: what only a target has that is away, or is none
    /// of the repository's any more, cannot be had.
    #[must_use = "all targets count again when it is dropped"]
    pub fn count_only(&self, targets: impl IntoIterator<Item = TargetNumber>) -> Counted {
        self.set_counted(Some(targets.into_iter().collect()));
        Counted { catalog: self.clone() }
    }

    fn set_counted(&self, targets: Option<BTreeSet<TargetNumber>>) {
        let mut usable = self.inner.usable.lock();
        *self.inner.counted.lock() = targets;
        *usable = None;
    }

    fn counts(&self, target: TargetNumber) -> bool {
        self.inner.counted.lock().as_ref().is_none_or(|counted| counted.contains(&target))
    }

    /// Lends the count of usable places of each pack; made from all holdings at the first call.
    pub(super) fn with_usable<T>(&self, look: impl FnOnce(&mut UsablePacks) -> T) -> Result<T> {
        let mut usable = self.inner.usable.lock();
        if usable.is_none() {
            *usable = Some(self.load_usable()?);
        }
        Ok(look(usable.get_or_insert_default()))
    }

    /// Counts a pack that has its number only now: targets may have been known to hold it before.
    pub(super) fn count_usable(&self, pack: PackNumber, name: &ObjectHash) -> Result<()> {
        if self.inner.usable.lock().is_none() {
            return Ok(());
        }
        let key = ObjectName::Pack(*name).key();
        let mut holders = 0u8;
        for (target, _) in self.targets()?.into_iter().filter(|(target, _)| self.counts(*target)) {
            holders = holders.saturating_add(u8::from(
                self.holding(target, &key)?.is_some_and(|holding| holding.is_usable()),
            ));
        }
        self.with_usable(|usable| {
            for _ in 0..holders {
                usable.change(pack, false, true);
            }
        })
    }

    fn load_usable(&self) -> Result<UsablePacks> {
        let mut usable = UsablePacks::default();
        for (target, _) in self.targets()?.into_iter().filter(|(target, _)| self.counts(*target)) {
            // Names of packs sort as their text does, so both scans go side by side.
            let mut packs = self.inner.spaces.packs.prefix(store::all_named()).peekable();
            for holding in self.each_holding(target, "packs") {
                let (key, holding) = holding?;
                let Some(ObjectName::Pack(name)) = ObjectName::parse(&key) else { continue };
                let wanted = store::pack_by_name(&name);
                while let Some(row) =
                    packs.next_if(|row| row.as_ref().is_ok_and(|(key, _)| key[..] < wanted[..]))
                {
                    row?;
                }
                match packs.peek() {
                    Some(Ok((key, value))) if key[..] == wanted[..] => {
                        let number = value.first_chunk::<4>().ok_or_else(|| bad_row("packs", "a number"))?;
                        usable.change(PackNumber(u32::from_be_bytes(*number)), false, holding.is_usable());
                    }
                    Some(Err(_)) => {
                        packs.next().transpose()?;
                    }
                    _ => {}
                }
            }
        }
        Ok(usable)
    }

    /// Notes what is known of objects on a target.
    ///
    /// # Errors
    /// Local.
    pub fn record_holdings(&self, target: TargetNumber, holdings: &[(ObjectKey, Holding)]) -> Result<()> {
        self.outbox_ref()?;
        holdings.chunks(HOLDINGS_BATCH).try_for_each(|part| self.record_batch(target, part))
    }

    fn record_batch(&self, target: TargetNumber, holdings: &[(ObjectKey, Holding)]) -> Result<()> {
        let _guard = self.inner.change.lock();
        let mut batch = Batch::new();
        let mut changes: Vec<(PackNumber, bool, bool)> = Vec::new();
        for (key, holding) in holdings {
            if self.counts(target)
                && let Some(ObjectName::Pack(name)) = ObjectName::parse(key)
                && let Some(number) = self.pack_number(&name)?
            {
                let before = self.holding(target, key)?.is_some_and(|holding| holding.is_usable());
                changes.push((number, before, holding.is_usable()));
            }
            batch.put(&self.inner.spaces.holdings, store::holding(target.0, key.as_str()), holding.encode());
        }
        // Whoever counts meanwhile counts all of it or nothing.
        let mut usable = self.inner.usable.lock();
        self.commit(batch, Durability::System)?;
        if let Some(usable) = usable.as_mut() {
            for (pack, before, after) in changes {
                usable.change(pack, before, after);
            }
        }
        Ok(())
    }

    /// Takes over a complete listing of the objects of a target below `prefix` (`"packs"`, `""` for all): what is listed is held, what
    /// was held and is not listed is missing. When and how each was verified stays, unless its length changed.
    ///
    /// # Errors
    /// Local.
    pub fn record_listing(&self, target: TargetNumber, prefix: &str, listed: &[ObjectInfo]) -> Result<()> {
        let mut known: BTreeMap<ObjectKey, Holding> = self.holdings(target, prefix)?.into_iter().collect();
        let mut news = Vec::new();
        for info in listed {
            let before = known.remove(&info.key);
            let now = match before {
                Some(before) if before.held && before.length == info.length => continue,
                _ => Holding::put(info.length),
            };
            news.push((info.key.clone(), now));
        }
        for (key, before) in known {
            if before.held {
                news.push((key, Holding { held: false, verdict: Verdict::Missing, ..before }));
            }
        }
        self.record_holdings(target, &news)
    }

    /// What is known of an object on a target.
    ///
    /// # Errors
    /// Local.
    pub fn holding(&self, target: TargetNumber, key: &ObjectKey) -> Result<Option<Holding>> {
        match self.inner.spaces.holdings.get(store::holding(target.0, key.as_str()))? {
            Some(row) => Holding::decode(&row).map(Some).map_err(local("holdings")),
            None => Ok(None),
        }
    }

    /// Everything known of the objects of a target whose keys start with the segments of `prefix` (all, if it is empty), in key order.
    ///
    /// # Errors
    /// Local.
    pub fn holdings(&self, target: TargetNumber, prefix: &str) -> Result<Vec<(ObjectKey, Holding)>> {
        self.each_holding(target, prefix).collect()
    }

    /// As [`Catalog::holdings`], one after the other: there is one for each object.
    pub fn each_holding(
        &self,
        target: TargetNumber,
        prefix: &str,
    ) -> impl Iterator<Item = Result<(ObjectKey, Holding)>> + use<> {
        let rows = self.inner.spaces.holdings.prefix(store::holding(target.0, prefix));
        let prefix = prefix.to_owned();
        let decode = |row: lsm::Result<(lsm::Value, lsm::Value)>| {
            let (key, value) = row?;
            let text = key.get(4..).and_then(|bytes| std::str::from_utf8(bytes).ok());
            let text = text.ok_or_else(|| bad_row("holdings", "a key is text"))?;
            let key = ObjectKey::new(text).map_err(local("holdings"))?;
            Ok((key, Holding::decode(&value).map_err(local("holdings"))?))
        };
        let is_within = move |row: &Result<(ObjectKey, Holding)>| {
            row.as_ref().map_or(true, |(key, _)| crate::target::within_prefix(key.as_str(), &prefix))
        };
        rows.map(decode).filter(is_within)
    }
}

/// How many holdings are written together.
const HOLDINGS_BATCH: usize = 4096;
