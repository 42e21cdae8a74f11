//! Keys: the secrets of a repository, wrapped under a password.
//!
//! Several key objects may hold the same secrets under different passwords; each is named by its hash. A removed key leaves a record
//! behind, authenticated with the secrets: so that a target which was away does not bring the key back, and nobody without a password
//! can make a key disappear by forging a record. FORMAT.md, keys.

use std::fmt;

use argon2::{Algorithm, Argon2, Block, Params, Version};
use chacha20poly1305::aead::AeadInOut;
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};
use zeroize::Zeroizing;

use super::config::{decode_time, encode_time};
use crate::envelope::{Envelope, EnvelopeKind, EnvelopeWriter, Field, FieldNumber, Known, Unknown};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{ObjectHash, RepositoryId};
use crate::metadata::Timestamp;
use crate::seal::newer;
use crate::secret::{Purpose, Secret, Secrets, fill_random};

const REPOSITORY: FieldNumber = FieldNumber(1);
const DERIVATION: FieldNumber = FieldNumber(2);
const LABEL: FieldNumber = FieldNumber(3);
const CREATED: FieldNumber = FieldNumber(4);
const WRAPPED: FieldNumber = FieldNumber::MAX;

const REMOVED_KEY: FieldNumber = FieldNumber(2);
const REMOVED_WHEN: FieldNumber = FieldNumber(3);
const REMOVAL_MAC: FieldNumber = FieldNumber::MAX;

const DERIVATION_ARGON2ID: u8 = 1;
const WRAP_XCHACHA20_POLY1305: u8 = 1;
const NONCE_BYTES: usize = 24;
const TAG_BYTES: usize = 16;
/// The longest label, in bytes.
pub const LABEL_BYTES_MAX: usize = 256;

/// Above the largest allocation, 32 MiB, whose freeing makes glibc's allocator keep that much for later ones. Else each backup would take twice the memory.
const KEPT_BY_NOBODY_KIB: usize = 33 << 10;

/// What it costs to try a password: Argon2id's parameters.
///
/// More makes guessing dearer, for whoever stole a key object and for every honest opening; less is for tests and very small machines. The
/// cost is written in the key object: each key opens at its own, whatever the program's default is by then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PasswordCost {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
}

impl PasswordCost {
    /// 19 MiB, two passes, one lane: what OWASP's Password Storage Cheat Sheet recommends for Argon2id. Every command pays it once, about
    /// 0.03 s of CPU: little enough that looking something up stays quick. It is enough for a password that nobody would guess.
    pub const DEFAULT: Self = Self { memory_kib: 19 << 10, passes: 2, lanes: 1 };
    /// 64 MiB, three passes: the memory and passes of RFC 9106's second recommendation (section 4), and five times the work of
    /// [`PasswordCost::DEFAULT`], for a password that might be guessed. In one lane and not in four: here lanes are computed one after the other, so
    /// more of them would help only whoever guesses.
    pub const HIGH: Self = Self { memory_kib: 64 << 10, passes: 3, lanes: 1 };
    /// The least there is: for tests.
    pub const LEAST: Self = Self { memory_kib: 8, passes: 1, lanes: 1 };
    /// The most memory that a key object may ask for, in KiB: 4 GiB.
    pub const MEMORY_KIB_MAX: u32 = 4 << 20;
    /// The most passes that a key object may ask for.
    pub const PASSES_MAX: u32 = 64;
    /// The most lanes that a key object may ask for.
    pub const LANES_MAX: u32 = 64;

    /// A cost: `memory_kib` KiB, `passes` over it, in `lanes`.
    ///
    /// # Errors
    /// Invalid argument if one is zero or above its limit, or the memory is less than 8 KiB a lane.
    pub fn new(memory_kib: u32, passes: u32, lanes: u32) -> Result<Self> {
        let good = (1..=Self::LANES_MAX).contains(&lanes)
            && (1..=Self::PASSES_MAX).contains(&passes)
            && (8 * lanes..=Self::MEMORY_KIB_MAX).contains(&memory_kib);
        if good {
            return Ok(Self { memory_kib, passes, lanes });
        }
        Err(Error::new(
            ErrorKind::InvalidArgument,
            format!("Argon2id with {memory_kib} KiB, {passes} passes, {lanes} lanes is out of bounds"),
        ))
    }

    /// The memory it takes, in KiB.
    pub fn memory_kib(&self) -> u32 {
        self.memory_kib
    }

    /// The passes over that memory.
    pub fn passes(&self) -> u32 {
        self.passes
    }

    /// The lanes that the memory is cut into.
    pub fn lanes(&self) -> u32 {
        self.lanes
    }

    /// How much work it is: the more, the later a key is tried.
    pub(super) fn work(&self) -> u64 {
        u64::from(self.memory_kib) * u64::from(self.passes)
    }

    /// The key that `password` gives with `salt`.
    fn derive(&self, password: &[u8], salt: &[u8; 32]) -> Result<Secret> {
        let failed = |error: argon2::Error| Error::new(ErrorKind::Local, format!("Argon2id failed: {error}"));
        let params = Params::new(self.memory_kib, self.passes, self.lanes, Some(32)).map_err(failed)?;
        let mut blocks: Vec<Block> = Vec::new();
        let count = params.block_count();
        // Reserved so that too little memory is an error, not an abort. And so much that glibc does not take its size, when it is given back, for one
        // that comes again and is to be kept at hand (`mallopt`, M_MMAP_THRESHOLD): what is not touched costs nothing.
        blocks.try_reserve_exact(count.max(KEPT_BY_NOBODY_KIB)).map_err(|_| {
            Error::new(
                ErrorKind::Local,
                format!(
                    "trying this password takes {} MiB of memory, which there are not",
                    self.memory_kib >> 10
                ),
            )
        })?;
        blocks.resize(count, Block::default());
        let mut key = Zeroizing::new([0u8; 32]);
        let derived = Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into_with_memory(password, salt, &mut key[..], &mut blocks);
        derived.map_err(failed)?;
        Ok(Secret::from_bytes(*key))
    }
}

impl Default for PasswordCost {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// A key object that was read, or is about to be stored.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyObject {
    name: ObjectHash,
    repository: RepositoryId,
    label: String,
    created: Timestamp,
    cost: PasswordCost,
    salt: [u8; 32],
    bytes: Vec<u8>,
    /// Where the ciphertext begins in `bytes`: all before is authenticated with it. The nonce stands just before it.
    sealed_offset: usize,
    sealed_bytes: usize,
}

impl fmt::Debug for KeyObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyObject({}, {:?})", self.name, self.label)
    }
}

impl KeyObject {
    /// Wraps `secrets` under `password`.
    ///
    /// # Errors
    /// Invalid argument if the label is too long; local, if there is not enough memory or no randomness.
    pub fn wrap(
        secrets: &Secrets,
        repository: RepositoryId,
        password: &[u8],
        label: &str,
        created: Timestamp,
        cost: PasswordCost,
    ) -> Result<Self> {
        let mut salt = [0; 32];
        fill_random(&mut salt)?;
        Self::wrap_with_salt(secrets, repository, password, label, created, cost, salt)
    }

    /// As [`KeyObject::wrap`] with a given salt: never but in tests, whose keys must have the same bytes each time.
    pub(crate) fn wrap_with_salt(
        secrets: &Secrets,
        repository: RepositoryId,
        password: &[u8],
        label: &str,
        created: Timestamp,
        cost: PasswordCost,
        salt: [u8; 32],
    ) -> Result<Self> {
        if label.len() > LABEL_BYTES_MAX {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                format!("a label of {} bytes: at most {LABEL_BYTES_MAX} are possible", label.len()),
            ));
        }
        let password_key = cost.derive(password, &salt)?;
        let mut derivation = vec![DERIVATION_ARGON2ID];
        for number in [cost.memory_kib, cost.passes, cost.lanes] {
            derivation.extend_from_slice(&number.to_le_bytes());
        }
        derivation.extend_from_slice(&salt);
        let plain = secrets.encode();
        let mut writer = EnvelopeWriter::new(EnvelopeKind::Key);
        writer
            .field(REPOSITORY, Unknown::Refuse, repository.as_bytes())
            .field(DERIVATION, Unknown::Refuse, &derivation)
            .field(LABEL, Unknown::PassOver, label.as_bytes())
            .field(CREATED, Unknown::PassOver, &encode_time(created));
        let length = 1 + NONCE_BYTES + plain.len() + TAG_BYTES;
        writer.last_field(WRAPPED, Unknown::Refuse, length, |before| seal(&password_key, before, &plain));
        Self::decode(writer.finish())
    }

    /// The key object with these bytes.
    ///
    /// # Errors
    /// Damage; newer format.
    pub fn decode(bytes: Vec<u8>) -> Result<Self> {
        let mut read = Fields::default();
        Envelope::decode(EnvelopeKind::Key, &bytes)?.fields(|field| read.take(field))?;
        let missing = || Error::damage("key: a field is missing");
        let (cost, salt) = read.derivation.ok_or_else(missing)?;
        let (sealed_offset, sealed_bytes) = read.sealed.ok_or_else(missing)?;
        Ok(Self {
            name: ObjectHash::of(&[&bytes]),
            repository: read.repository.ok_or_else(missing)?,
            label: read.label.unwrap_or_default(),
            created: read.created.unwrap_or_default(),
            cost,
            salt,
            sealed_offset,
            sealed_bytes,
            bytes,
        })
    }

    /// Its name on a target, below `keys/`.
    pub fn name(&self) -> &ObjectHash {
        &self.name
    }

    /// Whose secrets it holds.
    pub fn repository(&self) -> RepositoryId {
        self.repository
    }

    /// Who made it: `user@host`, usually. Not secret.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// When it was made.
    pub fn created(&self) -> Timestamp {
        self.created
    }

    /// What it costs to try a password on it.
    pub fn cost(&self) -> PasswordCost {
        self.cost
    }

    /// The object's bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The secrets in it.
    ///
    /// # Errors
    /// Wrong password; local, if there is not enough memory; damage, if what the password opens is not what is written there.
    pub fn unwrap(&self, password: &[u8]) -> Result<Secrets> {
        let key = self.cost.derive(password, &self.salt)?;
        let wrong = || {
            Error::new(
                ErrorKind::WrongPassword,
                format!("key {:?} does not open with this password", self.label),
            )
        };
        let (associated, rest) = self.bytes.split_at_checked(self.sealed_offset).ok_or_else(wrong)?;
        let nonce = associated.last_chunk::<NONCE_BYTES>().ok_or_else(wrong)?;
        let sealed = rest.get(..self.sealed_bytes).ok_or_else(wrong)?;
        let (ciphertext, tag) = sealed.split_last_chunk::<TAG_BYTES>().ok_or_else(wrong)?;
        let mut plain = Zeroizing::new(ciphertext.to_vec());
        XChaCha20Poly1305::new(&(*key.as_bytes()).into())
            .decrypt_inout_detached(
                &XNonce::from(*nonce),
                associated,
                plain.as_mut_slice().into(),
                &(*tag).into(),
            )
            .map_err(|_| wrong())?;
        Secrets::decode(&plain).map_err(|error| error.at(format!("key {:?}", self.label)))
    }
}

/// Nonce, ciphertext and tag behind the kind of wrapping. The nonce is a keyed hash of all that is sealed and all it is bound to: two different key objects never
/// share key and nonce, even if a cloned machine draws the same salt again.
fn seal(password_key: &Secret, before: &[u8], plain: &[u8]) -> Vec<u8> {
    let hash = password_key.derive(Purpose::KeyWrapNonce).hash(&[
        &(before.len() as u64).to_le_bytes(),
        before,
        plain,
    ]);
    let (nonce, _) = hash.split_first_chunk::<NONCE_BYTES>().unwrap_or((&[0; NONCE_BYTES], &[]));
    let mut out = Vec::with_capacity(1 + NONCE_BYTES + plain.len() + TAG_BYTES);
    out.push(WRAP_XCHACHA20_POLY1305);
    out.extend_from_slice(nonce);
    let associated = [before, &out].concat();
    out.extend_from_slice(plain);
    let text = out.get_mut(1 + NONCE_BYTES..).unwrap_or_default();
    let sealed = XChaCha20Poly1305::new(&(*password_key.as_bytes()).into()).encrypt_inout_detached(
        &XNonce::from(*nonce),
        &associated,
        text.into(),
    );
    #[expect(
        clippy::expect_used,
        reason = "the cipher refuses only texts beyond 256 GiB; secrets have a few KiB"
    )]
    let tag = sealed.expect("secrets are shorter than 256 GiB");
    out.extend_from_slice(&tag);
    out
}

#[derive(Default)]
struct Fields {
    repository: Option<RepositoryId>,
    derivation: Option<(PasswordCost, [u8; 32])>,
    label: Option<String>,
    created: Option<Timestamp>,
    sealed: Option<(usize, usize)>,
}

impl Fields {
    fn take(&mut self, field: Field<'_>) -> Result<Known> {
        match field.number {
            REPOSITORY => self.repository = Some(RepositoryId::from_bytes(field.array("repository id")?)),
            DERIVATION => {
                let mut decoder = field.decoder();
                match decoder.u8("kind of derivation")? {
                    DERIVATION_ARGON2ID => {}
                    0 => return Err(Error::damage("kind 0 of derivation is none")),
                    kind => return Err(newer(format!("kind {kind} of deriving a key from a password"))),
                }
                let (memory, passes, lanes) =
                    (decoder.u32("memory")?, decoder.u32("passes")?, decoder.u32("lanes")?);
                let cost = PasswordCost::new(memory, passes, lanes);
                let salt = decoder.array("salt")?;
                decoder.finish("derivation")?;
                self.derivation = Some((cost.map_err(|error| error.with_kind(ErrorKind::Damage))?, salt));
            }
            LABEL => {
                let label =
                    std::str::from_utf8(field.value).ok().filter(|label| label.len() <= LABEL_BYTES_MAX);
                self.label =
                    Some(label.ok_or_else(|| Error::damage("the label is too long or no text"))?.to_owned());
            }
            CREATED => self.created = Some(decode_time(field.decoder())?),
            WRAPPED => {
                match field.decoder().u8("kind of wrapping")? {
                    WRAP_XCHACHA20_POLY1305 => {}
                    0 => return Err(Error::damage("kind 0 of wrapping is none")),
                    kind => return Err(newer(format!("kind {kind} of wrapping secrets"))),
                }
                let sealed =
                    field.value.len().checked_sub(1 + NONCE_BYTES).filter(|length| *length >= TAG_BYTES);
                let sealed = sealed.ok_or_else(|| Error::damage("the wrapped secrets are cut short"))?;
                self.sealed = Some((field.before.len() + 1 + NONCE_BYTES, sealed));
            }
            _ => return Ok(Known::No),
        }
        Ok(Known::Yes)
    }
}

/// The secrets that `password` opens among `keys`, and which key it was: the cheapest to try first, so that one dear key, put there by
/// whoever can write to a target, does not stand before the good ones.
///
/// # Errors
/// Wrong password, if it opens none; local, if there is not enough memory for any of them.
pub fn unlock<'a>(keys: &'a [KeyObject], password: &[u8]) -> Result<(&'a KeyObject, Secrets)> {
    let mut order: Vec<&KeyObject> = keys.iter().collect();
    order.sort_by_key(|key| key.cost.work());
    let mut other = None;
    for key in order {
        match key.unwrap(password) {
            Ok(secrets) => return Ok((key, secrets)),
            Err(error) if error.kind() == ErrorKind::WrongPassword => {}
            Err(error) => other = Some(error),
        }
    }
    Err(other.unwrap_or_else(|| {
        Error::new(
            ErrorKind::WrongPassword,
            match keys.len() {
                1 => "the key of this repository does not open with this password".to_owned(),
                count => format!("none of the {count} keys of this repository opens with this password"),
            },
        )
    }))
}

/// The record that a key was removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRemoval {
    /// Whose key it was.
    pub repository: RepositoryId,
    /// Which key.
    pub key: ObjectHash,
    /// When it was removed.
    pub when: Timestamp,
    mac: [u8; 32],
    covered: Vec<u8>,
}

impl KeyRemoval {
    /// The bytes of the record that `key` was removed.
    pub fn encode(secrets: &Secrets, repository: RepositoryId, key: &ObjectHash, when: Timestamp) -> Vec<u8> {
        let mut writer = EnvelopeWriter::new(EnvelopeKind::KeyRemoval);
        writer
            .field(REPOSITORY, Unknown::Refuse, repository.as_bytes())
            .field(REMOVED_KEY, Unknown::Refuse, key.as_bytes())
            .field(REMOVED_WHEN, Unknown::PassOver, &encode_time(when))
            .last_field(REMOVAL_MAC, Unknown::Refuse, 32, |before| {
                secrets.of_master(Purpose::KeyRemovalMac).hash(&[before]).to_vec()
            });
        writer.finish()
    }

    /// The record with these bytes. Believe it only after [`KeyRemoval::authenticate`].
    ///
    /// # Errors
    /// Damage; newer format.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let (mut repository, mut key, mut when, mut mac) = (None, None, Timestamp::default(), None);
        Envelope::decode(EnvelopeKind::KeyRemoval, bytes)?.fields(|field| {
            match field.number {
                REPOSITORY => repository = Some(RepositoryId::from_bytes(field.array("repository id")?)),
                REMOVED_KEY => key = Some(ObjectHash::from_bytes(field.array("name of the key")?)),
                REMOVED_WHEN => when = decode_time(field.decoder())?,
                REMOVAL_MAC => mac = Some((field.array("MAC")?, field.before.to_vec())),
                _ => return Ok(Known::No),
            }
            Ok(Known::Yes)
        })?;
        let missing = || Error::damage("removal of a key: a field is missing");
        let (mac, covered) = mac.ok_or_else(missing)?;
        Ok(Self {
            repository: repository.ok_or_else(missing)?,
            key: key.ok_or_else(missing)?,
            when,
            mac,
            covered,
        })
    }

    /// Succeeds if someone who has these secrets made the record.
    ///
    /// # Errors
    /// Not the same, if not: a forgery, or another repository's; the key must stay.
    pub fn authenticate(&self, secrets: &Secrets) -> Result<()> {
        let mac = secrets.of_master(Purpose::KeyRemovalMac).hash(&[&self.covered]);
        if blake3::Hash::from_bytes(mac) == blake3::Hash::from_bytes(self.mac) {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::NotTheSame,
            format!(
                "removal of key {}: it was not made by anyone who has a password of this repository",
                self.key
            ),
        ))
    }
}

#[cfg(test)]
mod tests;
