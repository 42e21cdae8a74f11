//! The secrets of a repository, and every key that is derived from them.
//!
//! A repository has a random *master secret*, for as long as it lives, and one *epoch secret* for each epoch (today there
//! is one, numbered 1; a later one lets new objects be sealed under a secret that an old key object does not hold). Every key in
//! use is derived from one of these with BLAKE3's key derivation mode under a context string of its own, so no two purposes ever
//! share a key (FORMAT.md, derived secrets and ids). An unencrypted repository has the same secrets, in clear in its config: so
//! ids, cuts and digests are made by the same code.
//!
//! Secrets wipe themselves when dropped, and their `Debug` shows nothing.

use std::collections::BTreeMap;
use std::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::codec::{Decoder, put_varint};
use crate::error::{Error, ErrorKind, Result};

/// How many epochs a repository can have: far more than anyone changes keys; bounds what a key object makes us reserve.
pub const EPOCHS_MAX: usize = 1024;

/// The number of an epoch; the first is 1, zero is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Epoch(u32);

impl Epoch {
    /// The epoch of a new repository.
    pub const FIRST: Self = Self(1);

    /// The epoch with this number, or `None` for zero.
    pub const fn new(number: u32) -> Option<Self> {
        if number == 0 { None } else { Some(Self(number)) }
    }

    /// Its number.
    pub const fn number(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a derived key is for. Each has its own context string, so that keys for different purposes are independent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// Keys the hash that makes chunk ids.
    ChunkId,
    /// Gives the table that decides where files are cut.
    GearTable,
    /// Keys the hash that makes list ids.
    ListId,
    /// Keys the hash that makes the ids of Versions, Files and timelines.
    DerivedId,
    /// Keys the digest of a snapshot's state.
    StateDigest,
    /// Authenticates the config.
    ConfigMac,
    /// Authenticates the removal of a key.
    KeyRemovalMac,
    /// An epoch's secret from which packs get their keys.
    Pack,
    /// The secret from which index parts of segments get their keys.
    SegmentIndex,
    /// An epoch's secret from which versions parts of segments get their keys.
    SegmentVersions,
    /// From an object's key: what the object shows to prove which key it was sealed with.
    Commitment,
    /// From an object's key: gives each sealed box its own key.
    BoxKey,
    /// From an object's key: gives each sealed box its synthetic nonce.
    BoxNonce,
    /// From a password's key: gives a key object its synthetic nonce.
    KeyWrapNonce,
}

impl Purpose {
    /// Every purpose: for the test that no two share a context.
    pub const ALL: [Self; 14] = [
        Self::ChunkId,
        Self::GearTable,
        Self::ListId,
        Self::DerivedId,
        Self::StateDigest,
        Self::ConfigMac,
        Self::KeyRemovalMac,
        Self::Pack,
        Self::SegmentIndex,
        Self::SegmentVersions,
        Self::Commitment,
        Self::BoxKey,
        Self::BoxNonce,
        Self::KeyWrapNonce,
    ];

    /// The context string of BLAKE3's `derive_key`. A part of the format: never changed, only added to.
    pub const fn context(self) -> &'static str {
        match self {
            Self::ChunkId => "versions 2026 chunk id v1",
            Self::GearTable => "versions 2026 gear table v1",
            Self::ListId => "versions 2026 list id v1",
            Self::DerivedId => "versions 2026 derived id v1",
            Self::StateDigest => "versions 2026 state digest v1",
            Self::ConfigMac => "versions 2026 config mac v1",
            Self::KeyRemovalMac => "versions 2026 key removal mac v1",
            Self::Pack => "versions 2026 pack v1",
            Self::SegmentIndex => "versions 2026 segment index v1",
            Self::SegmentVersions => "versions 2026 segment versions v1",
            Self::Commitment => "versions 2026 key commitment v1",
            Self::BoxKey => "versions 2026 box key v1",
            Self::BoxNonce => "versions 2026 box nonce v1",
            Self::KeyWrapNonce => "versions 2026 key wrap nonce v1",
        }
    }
}

/// 32 secret bytes. Wiped when dropped, never shown.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct Secret([u8; 32]);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Secret {
    /// A fresh random secret.
    ///
    /// # Errors
    /// Local, if the system has no randomness to give.
    pub fn random() -> Result<Self> {
        let mut secret = Self([0; 32]);
        fill_random(&mut secret.0)?;
        Ok(secret)
    }

    /// The secret with these bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The key for `purpose` that is derived from this secret.
    pub fn derive(&self, purpose: Purpose) -> Self {
        Self(blake3::derive_key(purpose.context(), &self.0))
    }

    /// BLAKE3 keyed with this secret, of `parts` one after the other.
    pub fn hash(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        for part in parts {
            hasher.update(part);
        }
        let hash = *hasher.finalize().as_bytes();
        hasher.zeroize();
        hash
    }
}

/// Fills `bytes` with randomness of the system.
///
/// # Errors
/// Local, if the system has none to give.
pub fn fill_random(bytes: &mut [u8]) -> Result<()> {
    getrandom::fill(bytes)
        .map_err(|error| Error::new(ErrorKind::Local, format!("the system gives no random bytes: {error}")))
}

/// All secrets of a repository: what a password unlocks.
#[derive(Clone, PartialEq, Eq)]
pub struct Secrets {
    master: Secret,
    /// Never empty.
    epochs: BTreeMap<Epoch, Secret>,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secrets({} epochs)", self.epochs.len())
    }
}

impl Secrets {
    /// Fresh secrets, for a new repository.
    ///
    /// # Errors
    /// Local, if the system has no randomness to give.
    pub fn generate() -> Result<Self> {
        Ok(Self { master: Secret::random()?, epochs: BTreeMap::from([(Epoch::FIRST, Secret::random()?)]) })
    }

    /// Given secrets, with one epoch: for tests and tools that must write the same bytes twice.
    pub fn fixed(master: Secret, epoch: Epoch, epoch_secret: Secret) -> Self {
        Self { master, epochs: BTreeMap::from([(epoch, epoch_secret)]) }
    }

    /// The same secrets with those of one more epoch.
    ///
    /// # Errors
    /// Invalid argument if the epoch has a secret already, or there are too many.
    pub fn with_epoch(mut self, epoch: Epoch, secret: Secret) -> Result<Self> {
        if self.epochs.contains_key(&epoch) || self.epochs.len() >= EPOCHS_MAX {
            return Err(Error::new(ErrorKind::InvalidArgument, format!("epoch {epoch} cannot be added")));
        }
        self.epochs.insert(epoch, secret);
        Ok(self)
    }

    /// The epochs whose secrets are here, ascending.
    pub fn epochs(&self) -> impl Iterator<Item = Epoch> + '_ {
        self.epochs.keys().copied()
    }

    /// Keys the hash that makes list ids.
    pub fn list_id_key(&self) -> Secret {
        self.of_master(Purpose::ListId)
    }

    /// Keys the hash that makes the ids of Versions, Files and timelines.
    pub fn derived_id_key(&self) -> Secret {
        self.of_master(Purpose::DerivedId)
    }

    /// Keys the digest of a snapshot's state.
    pub fn state_digest_key(&self) -> Secret {
        self.of_master(Purpose::StateDigest)
    }

    /// The secret from which the index parts of segments get their keys.
    pub fn segment_index_secret(&self) -> Secret {
        self.of_master(Purpose::SegmentIndex)
    }

    /// The secret from which the versions parts of an epoch's segments get their keys.
    ///
    /// # Errors
    /// Not the same, if the secret of that epoch is not here.
    pub fn segment_versions_secret(&self, epoch: Epoch) -> Result<Secret> {
        self.of_epoch(epoch, Purpose::SegmentVersions)
    }

    pub(crate) fn of_master(&self, purpose: Purpose) -> Secret {
        self.master.derive(purpose)
    }

    pub(crate) fn of_epoch(&self, epoch: Epoch, purpose: Purpose) -> Result<Secret> {
        match self.epochs.get(&epoch) {
            Some(secret) => Ok(secret.derive(purpose)),
            None => Err(Error::new(
                ErrorKind::NotTheSame,
                format!("sealed in epoch {epoch}, whose secret the key of this repository does not hold"),
            )),
        }
    }

    /// The table that decides where files are cut: 256 integers, little-endian, from the derived stream of [`Purpose::GearTable`].
    pub fn gear_table(&self) -> Zeroizing<[u64; 256]> {
        let mut hasher = blake3::Hasher::new_derive_key(Purpose::GearTable.context());
        hasher.update(&self.master.0);
        let mut bytes = Zeroizing::new([0u8; 2048]);
        hasher.finalize_xof().fill(&mut bytes[..]);
        hasher.zeroize();
        let mut table = Zeroizing::new([0u64; 256]);
        for (entry, chunk) in table.iter_mut().zip(bytes.as_chunks::<8>().0) {
            *entry = u64::from_le_bytes(*chunk);
        }
        table
    }

    /// The secrets as bytes, for a key object or an unencrypted config: master, count, then number and secret of each epoch.
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let mut out = Zeroizing::new(Vec::with_capacity(32 + 10 + 36 * self.epochs.len()));
        out.extend_from_slice(self.master.as_bytes());
        put_varint(&mut out, self.epochs.len() as u64);
        for (epoch, secret) in &self.epochs {
            out.extend_from_slice(&epoch.0.to_le_bytes());
            out.extend_from_slice(secret.as_bytes());
        }
        out
    }

    /// Secrets from what [`Secrets::encode`] gave.
    ///
    /// # Errors
    /// Damage if the bytes are anything else.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut decoder = Decoder::new(bytes);
        let master = Secret(decoder.array("master secret")?);
        let count = decoder.varint_usize("count of epochs")?;
        if count == 0 || count > EPOCHS_MAX {
            return Err(Error::damage(format!("count of epochs: 1 to {EPOCHS_MAX} expected, {count} found")));
        }
        let mut epochs = BTreeMap::new();
        let mut last = 0;
        for _ in 0..count {
            let number = decoder.u32("epoch")?;
            let epoch = Epoch::new(number).filter(|epoch| epoch.0 > last);
            let epoch =
                epoch.ok_or_else(|| Error::damage(format!("epoch {number} does not follow {last}")))?;
            last = number;
            epochs.insert(epoch, Secret(decoder.array("epoch secret")?));
        }
        decoder.finish("secrets")?;
        Ok(Self { master, epochs })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::secrets as fixed;
    use std::collections::HashSet;

    #[test]
    fn no_two_purposes_share_a_key() {
        let secret = Secret([7; 32]);
        let keys: HashSet<_> =
            Purpose::ALL.iter().map(|purpose| *secret.derive(*purpose).as_bytes()).collect();
        assert_eq!(keys.len(), Purpose::ALL.len());
        let contexts: HashSet<_> = Purpose::ALL.iter().map(|purpose| purpose.context()).collect();
        assert_eq!(contexts.len(), Purpose::ALL.len());
        assert!(contexts.iter().all(|text| text.starts_with("versions 2026 ") && text.ends_with(" v1")));
    }

    #[test]
    fn secrets_come_back() {
        let secrets = fixed().with_epoch(Epoch(9), Secret([0x99; 32])).unwrap();
        let bytes = secrets.encode();
        assert_eq!(Secrets::decode(&bytes).unwrap(), secrets);
        assert_eq!(secrets.epochs().map(Epoch::number).collect::<Vec<_>>(), [1, 9]);
        for length in 0..bytes.len() {
            assert_eq!(Secrets::decode(&bytes[..length]).unwrap_err().kind(), ErrorKind::Damage);
        }
        let mut long = bytes.to_vec();
        long.push(0);
        assert!(Secrets::decode(&long).is_err());
    }

    #[test]
    fn epochs_must_ascend() {
        let mut bytes = fixed().encode().to_vec();
        bytes[33..37].fill(0);
        assert!(Secrets::decode(&bytes).is_err(), "zero is no epoch");
        let twice = [&bytes[..32], &[2], &fixed().encode()[33..], &fixed().encode()[33..]].concat();
        assert!(Secrets::decode(&twice).is_err(), "an epoch has one secret");
    }

    #[test]
    fn an_unknown_epoch_is_said() {
        let error = fixed().of_epoch(Epoch(2), Purpose::Pack).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotTheSame);
    }

    #[test]
    fn nothing_secret_is_shown() {
        let text = format!("{:?} {:?}", fixed(), Secret([0x11; 32]));
        assert!(!text.contains("11") && !text.contains("17"), "{text}");
    }
}
