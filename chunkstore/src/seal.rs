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

impl fmt::Display for BoxKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::FrameHeader => "frame header",
            Self::FrameBody => "frame body",
            Self::PackTrailer => "trailer",
            Self::SegmentIndex => "index part",
            Self::SegmentVersions => "versions part",
        })
    }
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
        self.try_open_into(number, kind, stored, out)
            .ok_or_else(|| Error::damage(format!("{kind}: the seal is broken")))
    }

    /// As [`Sealer::open_into`], for searches, which try at each byte and expect to fail: makes no error.
    pub(crate) fn try_open_into(
        &self,
        number: BoxNumber,
        kind: BoxKind,
        stored: &[u8],
        out: &mut Vec<u8>,
    ) -> Option<()> {
        let (nonce, sealed) = stored.split_first_chunk::<NONCE_BYTES>()?;
        match self.cipher {
            Cipher::None => {
                if self.nonce(number, kind, &[sealed]) != *nonce {
                    return None;
                }
                out.extend_from_slice(sealed);
            }
            Cipher::ChaCha20Poly1305 => {
                let (ciphertext, tag) = sealed.split_last_chunk::<TAG_BYTES>()?;
                let start = out.len();
                out.extend_from_slice(ciphertext);
                let encryption = self.encryption(number, kind, nonce);
                let text = out.get_mut(start..)?;
                let opened = encryption.cipher.decrypt_inout_detached(
                    &encryption.nonce,
                    &encryption.associated,
                    text.into(),
                    &Tag::from(*tag),
                );
                if opened.is_err() {
                    out.truncate(start);
                    return None;
                }
            }
        }
        Some(())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{noise, secrets};
    use proptest::prelude::*;
    use std::collections::HashSet;

    const CIPHERS: [Cipher; 2] = [Cipher::None, Cipher::ChaCha20Poly1305];
    const BODY: BoxKind = BoxKind::FrameBody;

    fn sealer(cipher: Cipher, header: &[u8]) -> Sealer {
        Sealer::new(cipher, &secrets().of_master(Purpose::Pack), header)
    }

    fn sealed(sealer: &Sealer, number: u64, kind: BoxKind, plain: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        sealer.seal(BoxNumber(number), kind, &[plain], &mut out);
        out
    }

    /// The keystream of an encrypted box whose plaintext is known.
    fn keystream(stored: &[u8], plain: &[u8]) -> Vec<u8> {
        stored[NONCE_BYTES..].iter().zip(plain).map(|(a, b)| a ^ b).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_box_comes_back(
            plain in proptest::collection::vec(any::<u8>(), 0..300), cut in any::<prop::sample::Index>(), number in any::<u64>(),
            encrypted in any::<bool>(), before in proptest::collection::vec(any::<u8>(), 0..8),
        ) {
            let sealer = sealer(CIPHERS[usize::from(encrypted)], b"header");
            let (first, second) = plain.split_at(cut.index(plain.len() + 1));
            let mut out = before.clone();
            sealer.seal(BoxNumber(number), BODY, &[first, second], &mut out);
            let stored = &out[before.len()..];
            prop_assert_eq!(stored.len(), plain.len() + sealer.cipher().overhead());
            prop_assert_eq!(stored, &sealed(&sealer, number, BODY, &plain)[..], "parts are one text");
            prop_assert_eq!(sealer.open(BoxNumber(number), BODY, stored).unwrap(), plain);
        }
    }

    #[test]
    fn each_flipped_bit_and_each_cut_is_damage_and_hands_out_nothing() {
        for cipher in CIPHERS {
            let sealer = sealer(cipher, b"header");
            let good = sealed(&sealer, 3, BODY, b"what is sealed stays sealed");
            let mut out = b"before".to_vec();
            for index in 0..good.len() {
                for bit in 0..8 {
                    let mut bad = good.clone();
                    bad[index] ^= 1 << bit;
                    let error = sealer.open_into(BoxNumber(3), BODY, &bad, &mut out).unwrap_err();
                    assert_eq!((error.kind(), &out[..]), (ErrorKind::Damage, &b"before"[..]));
                }
                assert!(sealer.open_into(BoxNumber(3), BODY, &good[..index], &mut out).is_err());
            }
            assert!(sealer.open(BoxNumber(3), BODY, &[&good[..], &[0]].concat()).is_err());
        }
    }

    #[test]
    fn a_box_opens_only_in_its_place_in_its_object() {
        for cipher in CIPHERS {
            let one = sealer(cipher, b"header");
            let stored = sealed(&one, 3, BODY, b"text");
            assert!(one.open(BoxNumber(4), BODY, &stored).is_err());
            assert!(one.open(BoxNumber(3), BoxKind::FrameHeader, &stored).is_err());
            assert!(sealer(cipher, b"Header").open(BoxNumber(3), BODY, &stored).is_err());
            let secret = Secret::from_bytes([9; 32]);
            assert!(Sealer::new(cipher, &secret, b"header").open(BoxNumber(3), BODY, &stored).is_err());
        }
    }

    /// The wire format itself, not a round trip: a round trip cannot see a nonce that repeats.
    #[test]
    fn no_two_texts_ever_share_a_keystream() {
        // One object: as if a cloned machine had drawn the same salt, and then stored something else.
        let sealer = sealer(Cipher::ChaCha20Poly1305, b"the same header and salt");
        let plains: Vec<Vec<u8>> = (0..24u8)
            .map(|index| {
                let mut plain = noise(1, 96);
                plain[usize::from(index) * 4] ^= 1;
                plain
            })
            .chain([Vec::from([0; 96]), Vec::from([1; 96])])
            .collect();
        let (mut nonces, mut streams, mut tags) = (HashSet::new(), HashSet::new(), HashSet::new());
        let mut boxes = 0;
        for plain in &plains {
            for number in [0, 1, 2, 1 << 32, u64::MAX] {
                for kind in [BoxKind::FrameHeader, BODY, BoxKind::PackTrailer] {
                    let stored = sealed(&sealer, number, kind, plain);
                    boxes += 1;
                    nonces.insert(stored[..NONCE_BYTES].to_vec());
                    // 16 bytes in, so that no stream is another one shifted by a block either.
                    let stream = keystream(&stored, plain);
                    streams.extend(stream.chunks_exact(16).map(<[u8]>::to_vec));
                    tags.insert(stored[stored.len() - TAG_BYTES..].to_vec());
                }
            }
        }
        assert_eq!((nonces.len(), tags.len(), streams.len()), (boxes, boxes, boxes * 6));
    }

    #[test]
    fn the_same_text_in_another_object_looks_different() {
        let (a, b) =
            (sealer(Cipher::ChaCha20Poly1305, b"salt a"), sealer(Cipher::ChaCha20Poly1305, b"salt b"));
        let plain = [0; 64];
        let (a, b) = (sealed(&a, 0, BODY, &plain), sealed(&b, 0, BODY, &plain));
        assert_ne!(a[..NONCE_BYTES], b[..NONCE_BYTES]);
        assert_ne!(keystream(&a, &plain), keystream(&b, &plain));
    }

    #[test]
    fn the_keys_of_an_object_are_its_own() {
        let one = sealer(Cipher::ChaCha20Poly1305, b"header");
        assert_eq!(one.commitment(), sealer(Cipher::ChaCha20Poly1305, b"header").commitment());
        assert_ne!(one.commitment(), sealer(Cipher::ChaCha20Poly1305, b"headers").commitment());
        let keys = HashSet::from([*one.box_key.as_bytes(), *one.nonce_key.as_bytes(), one.commitment]);
        assert_eq!(keys.len(), 3);
    }

    #[test]
    fn the_scheme_is_what_format_md_says() {
        // Made again from primitives, step by step, so that the text and the code can be compared.
        let secret = Secret::from_bytes([5; 32]);
        let (header, plain, number, kind) = (b"any header".as_slice(), b"plain".as_slice(), 7u64, 2u8);
        let object_key = blake3::keyed_hash(&[5; 32], header);
        let derive = |context: &str| blake3::derive_key(context, object_key.as_bytes());
        let place = [&number.to_le_bytes()[..], &[kind]].concat();
        let s = blake3::keyed_hash(&derive("versions 2026 box nonce v1"), &[&place[..], plain].concat());
        let s = &s.as_bytes()[..24];
        let key = blake3::keyed_hash(&derive("versions 2026 box key v1"), &[&place[..], s].concat());
        let mut text = plain.to_vec();
        let nonce: [u8; 12] = s[..12].try_into().unwrap();
        let tag = ChaCha20Poly1305::new(&(*key.as_bytes()).into())
            .encrypt_inout_detached(&nonce.into(), &[header, &place].concat(), text.as_mut_slice().into())
            .unwrap();
        let sealer = Sealer::new(Cipher::ChaCha20Poly1305, &secret, header);
        assert_eq!(sealed(&sealer, number, BODY, plain), [s, &text, &tag].concat());
        assert_eq!(*sealer.commitment(), derive("versions 2026 key commitment v1"));
        let sealer = Sealer::new(Cipher::None, &secret, header);
        assert_eq!(sealed(&sealer, number, BODY, plain), [s, plain].concat());
    }

    #[test]
    fn unknown_numbers_are_newer() {
        assert_eq!(Cipher::from_number(3).unwrap_err().kind(), ErrorKind::NewerFormat);
        assert_eq!(KeyWrap::from_number(9).unwrap_err().kind(), ErrorKind::NewerFormat);
        for cipher in CIPHERS {
            assert_eq!(Cipher::from_number(cipher as u8).unwrap(), cipher);
            assert_eq!(KeyWrap::from_number(cipher.key_wrap() as u8).unwrap(), cipher.key_wrap());
        }
    }
}
