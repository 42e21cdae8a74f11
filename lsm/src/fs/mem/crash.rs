//! What a power loss leaves of the writes that were under way: the policies, each one corner of what a disk may do.

use super::image::{SECTOR_BYTES, Sector};

/// Which of the unsynced changes survive a power loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CrashPolicy {
    /// None: exactly what was synced.
    SyncedOnly,
    /// All: as after a kill without a power loss.
    Everything,
    /// Each sector is old or new (or zeros or garbage, where no synced byte lived), each length any intermediate one, each
    /// directory operation done or not; all by the seed.
    Scattered,
    /// Everything up to a moment chosen by the seed; the write of that moment is torn at a sector.
    Prefix,
    /// The reverse: what came before a moment chosen by the seed is lost, what came after survives.
    Suffix,
    /// Names and lengths survive, bytes do not: new sectors are zeros, as after delayed allocation.
    LengthsOnly,
    /// Names and lengths survive, bytes do not: new sectors are garbage, as from reused blocks.
    Garbage,
    /// Bytes and lengths survive, names do not.
    DataOnly,
    /// Names survive, bytes and lengths do not.
    NamesOnly,
}

impl CrashPolicy {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::SyncedOnly,
        Self::Everything,
        Self::Scattered,
        Self::Prefix,
        Self::Suffix,
        Self::LengthsOnly,
        Self::Garbage,
        Self::DataOnly,
        Self::NamesOnly,
    ];
}

/// A small generator of random numbers (SplitMix64): the same seed gives the same crash, on every machine.
#[derive(Clone, Debug)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from 0 up to but without `bound`; 0 for a bound of 0.
    fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.next() % bound }
    }

    fn sector(&mut self) -> Sector {
        let mut bytes = [0; SECTOR_BYTES];
        for part in bytes.chunks_exact_mut(8) {
            part.copy_from_slice(&self.next().to_le_bytes());
        }
        bytes
    }
}

/// What becomes of one sector.
pub(super) enum Choice {
    /// As it was last synced; zeros if it never was.
    Old,
    /// As the write with this index left it.
    Version(usize),
    /// These bytes, which nobody wrote.
    Garbage(Box<Sector>),
}

/// Decides what survives one crash.
pub(super) struct Fate {
    policy: CrashPolicy,
    random: Random,
    /// The moment of [`CrashPolicy::Prefix`] and [`CrashPolicy::Suffix`].
    cut: u64,
    /// How many sectors of the write at that moment survive.
    torn_sectors: u64,
}

impl Fate {
    /// `oldest..=newest` are the calls whose changes may be unsynced.
    pub(super) fn new(policy: CrashPolicy, seed: u64, oldest: u64, newest: u64) -> Self {
        let mut random = Random(seed);
        random.next();
        let cut = oldest + random.below(newest.saturating_sub(oldest) + 1);
        let torn_sectors = random.below(5);
        Self { policy, random, cut, torn_sectors }
    }

    /// Chooses among a sector's versions, oldest first. `holds_synced`: a synced byte lives in it.
    pub(super) fn sector(
        &mut self,
        sequences: impl ExactSizeIterator<Item = u64>,
        holds_synced: bool,
    ) -> Choice {
        let count = sequences.len();
        let newest = count.checked_sub(1).map_or(Choice::Old, Choice::Version);
        match self.policy {
            CrashPolicy::SyncedOnly | CrashPolicy::LengthsOnly | CrashPolicy::NamesOnly => Choice::Old,
            CrashPolicy::Everything | CrashPolicy::DataOnly => newest,
            CrashPolicy::Garbage if !holds_synced => Choice::Garbage(Box::new(self.random.sector())),
            CrashPolicy::Garbage => Choice::Old,
            CrashPolicy::Scattered => {
                let pick = self.random.below(count as u64 + 1);
                match usize::try_from(pick).ok().and_then(|pick| pick.checked_sub(1)) {
                    Some(index) => Choice::Version(index),
                    None if !holds_synced && self.random.below(2) == 0 => {
                        Choice::Garbage(Box::new(self.random.sector()))
                    }
                    None => Choice::Old,
                }
            }
            CrashPolicy::Prefix => {
                let mut choice = Choice::Old;
                for (index, sequence) in sequences.enumerate() {
                    if sequence < self.cut {
                        choice = Choice::Version(index);
                    } else if sequence == self.cut && self.torn_sectors > 0 {
                        self.torn_sectors -= 1;
                        choice = Choice::Version(index);
                    }
                }
                choice
            }
            CrashPolicy::Suffix => match sequences.last() {
                Some(last) if last >= self.cut => newest,
                _ => Choice::Old,
            },
        }
    }

    /// Chooses a length, given the synced one and the (call, length) steps since.
    pub(super) fn length(&mut self, synced: u64, steps: &[(u64, u64)]) -> u64 {
        let last = steps.last().map_or(synced, |(_, length)| *length);
        match self.policy {
            CrashPolicy::SyncedOnly | CrashPolicy::NamesOnly => synced,
            CrashPolicy::Everything
            | CrashPolicy::LengthsOnly
            | CrashPolicy::Garbage
            | CrashPolicy::DataOnly => last,
            CrashPolicy::Scattered => {
                let lengths: Vec<u64> =
                    std::iter::once(synced).chain(steps.iter().map(|(_, length)| *length)).collect();
                let index = usize::try_from(self.random.below(lengths.len() as u64)).unwrap_or(0);
                let chosen = lengths.get(index).copied().unwrap_or(synced);
                let next = lengths.get(index + 1).copied().unwrap_or(chosen);
                match self.random.below(2) {
                    0 => chosen,
                    _ => chosen.min(next) + self.random.below(chosen.abs_diff(next) + 1),
                }
            }
            CrashPolicy::Prefix => steps
                .iter()
                .rfind(|(sequence, _)| *sequence <= self.cut)
                .map_or(synced, |(_, length)| *length),
            CrashPolicy::Suffix => match steps.last() {
                Some((sequence, length)) if *sequence >= self.cut => *length,
                _ => synced,
            },
        }
    }

    /// Whether a directory operation survives.
    pub(super) fn name(&mut self, sequence: u64) -> bool {
        match self.policy {
            CrashPolicy::SyncedOnly | CrashPolicy::DataOnly => false,
            CrashPolicy::Everything
            | CrashPolicy::LengthsOnly
            | CrashPolicy::Garbage
            | CrashPolicy::NamesOnly => true,
            CrashPolicy::Scattered => self.random.below(2) == 0,
            CrashPolicy::Prefix => sequence <= self.cut,
            CrashPolicy::Suffix => sequence >= self.cut,
        }
    }
}
