//! Sealed boxes: how every part of a pack or segment is encrypted, so that a key never meets a nonce twice with two texts.
//!
//! An object (a pack, a segment) has a key of its own, made from a secret and from its header, random salt included. A *box* is
//! one part of it, with a number and a kind. Its plaintext, number and kind are hashed with a keyed hash to a 24-byte *synthetic
//! nonce* `s`; the box's own key is another keyed hash, of number, kind and `s`; what is stored is `s` and the ciphertext under that key.
//! So even when randomness repeats, as on a cloned virtual machine that draws the same salt, two different texts have different
//! keys, and equal texts at equal places merely look equal. Other programs lost this by counters that a refactoring stopped,
//! which no round trip shows: so the tests here look at the bytes.
//!
//! Bytes: FORMAT.md, sealed boxes.

use std::fmt;

use chacha20poly1305::aead::AeadInOut;
use chacha20poly1305::{ChaCha20Poly1305, KeyInit, Nonce, Tag};
use zeroize::Zeroize;

use crate::error::{Error, ErrorKind, Result};
use crate::secret::{Purpose, Secret};

/// Length of the synthetic nonce at the front of a box, in bytes. 192 bits: two texts share one after 2^96 boxes of one object.
pub const NONCE_BYTES: usize = 24;
/// Length of the authenticator at the end of an encrypted box, in bytes.
pub const TAG_BYTES: usize = 16;

/// How the boxes of an object are sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Cipher {
    /// Not encrypted: the synthetic nonce is checked instead, so damage is found all the same.
    None = 1,
    /// ChaCha20-Poly1305 (RFC 8439).
    ChaCha20Poly1305 = 2,
}

impl Cipher {
    /// The cipher with this number in a header.
    ///
    /// # Errors
    /// Newer format if it is none that this version knows.
    pub fn from_number(number: u8) -> Result<Self> {
        match number {
            1 => Ok(Self::None),
            2 => Ok(Self::ChaCha20Poly1305),
            _ => Err(newer(format!("cipher {number}"))),
        }
    }

    /// How many bytes a box is longer than its plaintext.
    pub const fn overhead(self) -> usize {
        match self {
            Self::None => NONCE_BYTES,
            Self::ChaCha20Poly1305 => NONCE_BYTES + TAG_BYTES,
        }
    }

    /// The way that goes with this cipher of getting at an object's key.
    pub const fn key_wrap(self) -> KeyWrap {
        match self {
            Self::None => KeyWrap::Unencrypted,
            Self::ChaCha20Poly1305 => KeyWrap::Derived,
        }
    }
}

/// How the key of an object is got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum KeyWrap {
    /// The repository is not encrypted: derived all the same, from the secrets in its config, for nonces and checks.
    Unencrypted = 1,
    /// Derived from a secret of the repository and the object's header with its salt.
    Derived = 2,
}

impl KeyWrap {
    /// The way with this number in a header.
    ///
    /// # Errors
    /// Newer format if it is none that this version knows.
    pub fn from_number(number: u8) -> Result<Self> {
        match number {
            1 => Ok(Self::Unencrypted),
            2 => Ok(Self::Derived),
            _ => Err(newer(format!("key wrap {number}"))),
        }
    }
}

/// What a box holds. The numbers are a part of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum BoxKind {
    /// The header of a pack's frame.
    FrameHeader = 1,
    /// The body of a pack's frame.
    FrameBody = 2,
    /// A pack's trailer.
    PackTrailer = 3,
    /// The index part of a segment.
    SegmentIndex = 4,
    /// The versions part of a segment.
    SegmentVersions = 5,
}

/// The place of a box in its object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BoxNumber(pub u64);

/// An error that says that a newer version of the program wrote what was found.
pub(crate) fn newer(what: String) -> Error {
    Error::new(
        ErrorKind::NewerFormat,
        format!("{what} is not known to this version of the program: a newer one wrote it; update"),
    )
}

/// The keys of one object: seals its boxes and opens them.
pub struct Sealer {
    cipher: Cipher,
    box_key: Secret,
    nonce_key: Secret,
    commitment: [u8; 32],
    /// What each box is bound to: the header up to the commitment; room for number and kind is added at each use.
    header: Vec<u8>,
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer").field("cipher", &self.cipher).finish_non_exhaustive()
    }
}

impl Sealer {
    /// The keys of the object whose header, up to but without the commitment, is `header`: its key is the keyed hash of that, under `secret`.
    ///
    /// The header must hold a salt of 32 random bytes, and everything by which two objects differ.
    pub fn new(cipher: Cipher, secret: &Secret, header: &[u8]) -> Self {
        let object_key = Secret::from_bytes(secret.hash(&[header]));
        Self {
            cipher,
            box_key: object_key.derive(Purpose::BoxKey),
            nonce_key: object_key.derive(Purpose::BoxNonce),
            commitment: *object_key.derive(Purpose::Commitment).as_bytes(),
            header: header.to_vec(),
        }
    }

    /// How boxes are sealed.
    pub fn cipher(&self) -> Cipher {
        self.cipher
    }

    /// What the object shows of its key: 32 bytes that only this key gives. Compared before anything is opened, it tells a wrong key
    /// from damage, and makes a ciphertext that opens under two keys impossible.
    pub fn commitment(&self) -> &[u8; 32] {
        &self.commitment
    }

    fn nonce(&self, number: BoxNumber, kind: BoxKind, parts: &[&[u8]]) -> [u8; NONCE_BYTES] {
        let mut hasher = blake3::Hasher::new_keyed(self.nonce_key.as_bytes());
        hasher.update(&number.0.to_le_bytes()).update(&[kind as u8]);
        for part in parts {
            hasher.update(part);
        }
        let mut nonce = [0; NONCE_BYTES];
        hasher.finalize_xof().fill(&mut nonce);
        hasher.zeroize();
        nonce
    }

    fn encryption(&self, number: BoxNumber, kind: BoxKind, nonce: &[u8; NONCE_BYTES]) -> Encryption {
        let place = [&number.0.to_le_bytes()[..], &[kind as u8]].concat();
        let mut key = self.box_key.hash(&[&place, nonce]);
        let cipher = ChaCha20Poly1305::new(&key.into());
        key.zeroize();
        let mut associated = Vec::with_capacity(self.header.len() + place.len());
        associated.extend_from_slice(&self.header);
        associated.extend_from_slice(&place);
        let (short_nonce, _) = nonce.split_first_chunk::<12>().unwrap_or((&[0; 12], &[]));
        Encryption { cipher, nonce: Nonce::from(*short_nonce), associated }
    }

    /// Appends the box with the plaintext `parts`, one after the other, to `out`: copied there once, encrypted in place.
    ///
    /// # Panics
    /// If the plaintext is longer than 256 GiB, the cipher's limit: all parts of our objects are bounded far below.
    pub fn seal(&self, number: BoxNumber, kind: BoxKind, parts: &[&[u8]], out: &mut Vec<u8>) {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        out.reserve(length + self.cipher.overhead());
        let nonce = self.nonce(number, kind, parts);
        out.extend_from_slice(&nonce);
        let start = out.len();
        for part in parts {
            out.extend_from_slice(part);
        }
        if self.cipher == Cipher::None {
            return;
        }
        let encryption = self.encryption(number, kind, &nonce);
        let plaintext = out.get_mut(start..).unwrap_or_default();
        let tag = encryption.cipher.encrypt_inout_detached(
            &encryption.nonce,
            &encryption.associated,
            plaintext.into(),
        );
        #[expect(clippy::expect_used, reason = "the cipher refuses only texts beyond 256 GiB; see Panics")]
        let tag = tag.expect("a box is shorter than 256 GiB");
        out.extend_from_slice(&tag);
    }

    /// Appends the plaintext of the box `stored` to `out`.
    ///
    /// # Errors
    /// Damage if one bit of it is not what was sealed under this number and kind; `out` is then as it was.
    pub fn open_into(
        &self,
        number: BoxNumber,
        kind: BoxKind,
        stored: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let refused = || Error::damage(format!("{kind:?} {}: the seal is broken", number.0));
        let (nonce, sealed) = stored.split_first_chunk::<NONCE_BYTES>().ok_or_else(refused)?;
        let start = out.len();
        match self.cipher {
            Cipher::None => {
                if self.nonce(number, kind, &[sealed]) != *nonce {
                    return Err(refused());
                }
                out.extend_from_slice(sealed);
            }
            Cipher::ChaCha20Poly1305 => {
                let (ciphertext, tag) = sealed.split_last_chunk::<TAG_BYTES>().ok_or_else(refused)?;
                out.extend_from_slice(ciphertext);
                let encryption = self.encryption(number, kind, nonce);
                let text = out.get_mut(start..).unwrap_or_default();
                let opened = encryption.cipher.decrypt_inout_detached(
                    &encryption.nonce,
                    &encryption.associated,
                    text.into(),
                    &Tag::from(*tag),
                );
                if opened.is_err() {
                    out.truncate(start);
                    return Err(refused());
                }
            }
        }
        Ok(())
    }

    /// The plaintext of the box `stored`.
    ///
    /// # Errors
    /// As [`Sealer::open_into`].
    pub fn open(&self, number: BoxNumber, kind: BoxKind, stored: &[u8]) -> Result<Vec<u8>> {
        let mut out = Vec::with_capacity(stored.len().saturating_sub(self.cipher.overhead()));
        self.open_into(number, kind, stored, &mut out)?;
        Ok(out)
    }
}

struct Encryption {
    cipher: ChaCha20Poly1305,
    nonce: Nonce,
    associated: Vec<u8>,
}
