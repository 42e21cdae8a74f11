//! Keys: what is wrapped comes back under its password and no other, and what is forged never.

use super::*;
use crate::secret::Epoch;
use crate::testing::{other_secrets, secrets};

const WHEN: Timestamp = Timestamp { seconds: 1_790_000_000, nanoseconds: 7 };

fn repository() -> RepositoryId {
    RepositoryId::from_bytes([0xab; 16])
}

fn key(password: &str, salt: u8) -> KeyObject {
    let (cost, salt) = (PasswordCost::LEAST, [salt; 32]);
    KeyObject::wrap_with_salt(&secrets(), repository(), password.as_bytes(), "ada@engine", WHEN, cost, salt)
        .unwrap()
}

#[test]
fn a_key_opens_with_its_password_and_no_other() {
    let key = key("correct horse", 1);
    let read = KeyObject::decode(key.bytes().to_vec()).unwrap();
    assert_eq!(read, key);
    assert_eq!((read.label(), read.created(), read.repository()), ("ada@engine", WHEN, repository()));
    assert_eq!(*read.name(), ObjectHash::of(&[key.bytes()]));
    assert_eq!(read.unwrap(b"correct horse").unwrap(), secrets());
    for wrong in ["", "correct hors", "correct horse ", "Correct horse"] {
        assert_eq!(read.unwrap(wrong.as_bytes()).unwrap_err().kind(), ErrorKind::WrongPassword);
    }
}

#[test]
fn two_wrappings_of_one_secret_have_nothing_in_common() {
    let wrap =
        || KeyObject::wrap(&secrets(), repository(), b"password", "", WHEN, PasswordCost::LEAST).unwrap();
    let (one, two) = (wrap(), wrap());
    assert_ne!(one.name(), two.name());
    assert_eq!(one.unwrap(b"password").unwrap(), two.unwrap(b"password").unwrap());
    assert!(!one.bytes().windows(8).any(|window| window == [0x11; 8] || window == [0x22; 8]));
}

/// A cloned machine may draw the same salt again: the same password then gives the same key, so the nonce must differ with what is sealed.
#[test]
fn the_nonce_depends_on_all_that_is_sealed_and_bound() {
    let wrap = |secrets: &Secrets, label: &str| {
        let (cost, salt) = (PasswordCost::LEAST, [1; 32]);
        let key = KeyObject::wrap_with_salt(secrets, repository(), b"p", label, WHEN, cost, salt).unwrap();
        key.bytes[key.sealed_offset - NONCE_BYTES..key.sealed_offset].to_vec()
    };
    let more = secrets().with_epoch(Epoch::new(2).unwrap(), Secret::from_bytes([3; 32])).unwrap();
    let nonces =
        [wrap(&secrets(), "a"), wrap(&secrets(), "b"), wrap(&other_secrets(), "a"), wrap(&more, "a")];
    for (index, nonce) in nonces.iter().enumerate() {
        assert!(!nonces[..index].contains(nonce));
    }
    assert_eq!(wrap(&secrets(), "a"), nonces[0]);
}

#[test]
fn each_flipped_byte_and_each_cut_is_damage() {
    let good = key("p", 1);
    for index in 0..good.bytes().len() {
        for flip in [1, 2, 0x80, 0xff] {
            let mut bad = good.bytes().to_vec();
            bad[index] ^= flip;
            assert_eq!(KeyObject::decode(bad).unwrap_err().kind(), ErrorKind::Damage, "byte {index}");
        }
        assert_eq!(KeyObject::decode(good.bytes()[..index].to_vec()).unwrap_err().kind(), ErrorKind::Damage);
    }
}

fn forged(offset: usize, bytes: &[u8]) -> Result<KeyObject> {
    let mut out = key("p", 1).bytes().to_vec();
    out[offset..offset + bytes.len()].copy_from_slice(bytes);
    let end = out.len() - 32;
    let hash = blake3::hash(&out[..end]);
    out[end..].copy_from_slice(hash.as_bytes());
    KeyObject::decode(out)
}

#[test]
fn a_forged_key_never_opens() {
    for offset in 0..key("p", 1).bytes().len() - 32 {
        let byte = key("p", 1).bytes()[offset] ^ 1;
        let opened = forged(offset, &[byte]).and_then(|key| key.unwrap(b"p"));
        assert!(opened.is_err(), "byte {offset}: everything is bound to what is sealed");
    }
}

#[test]
fn costs_are_bounded_before_they_are_paid() {
    // Header, id (18), tag, length, kind: then memory, passes, lanes.
    let memory = 24 + 18 + 3;
    assert_eq!(key("p", 1).bytes()[memory..memory + 4], [8, 0, 0, 0]);
    for (offset, value) in [
        (memory, u32::MAX),
        (memory, PasswordCost::MEMORY_KIB_MAX + 1),
        (memory, 7),
        (memory, 0),
        (memory + 4, 0),
        (memory + 4, PasswordCost::PASSES_MAX + 1),
        (memory + 4, u32::MAX),
        (memory + 8, 0),
        (memory + 8, 2),
        (memory + 8, u32::MAX),
    ] {
        assert_eq!(
            forged(offset, &value.to_le_bytes()).unwrap_err().kind(),
            ErrorKind::Damage,
            "{offset} {value}"
        );
    }
    for (memory, passes, lanes) in
        [(8, 1, 0), (8, 0, 1), (7, 1, 1), (u32::MAX, 1, 1), (1024, 1, 65), (1024, 65, 1)]
    {
        assert_eq!(PasswordCost::new(memory, passes, lanes).unwrap_err().kind(), ErrorKind::InvalidArgument);
    }
    PasswordCost::new(PasswordCost::MEMORY_KIB_MAX, PasswordCost::PASSES_MAX, PasswordCost::LANES_MAX)
        .unwrap();
}

#[test]
fn newer_keys_say_so() {
    assert_eq!(forged(24 + 18 + 2, &[2]).unwrap_err().kind(), ErrorKind::NewerFormat, "derivation");
    let wrap = key("p", 1).sealed_offset - NONCE_BYTES - 1;
    assert_eq!(forged(wrap, &[2]).unwrap_err().kind(), ErrorKind::NewerFormat, "wrapping");
    assert_eq!(forged(wrap, &[0]).unwrap_err().kind(), ErrorKind::Damage);
    assert_eq!(forged(8, &[9]).unwrap_err().kind(), ErrorKind::NewerFormat, "version");
}

#[test]
fn any_of_several_passwords_opens() {
    let dear = PasswordCost::new(1024, 2, 2).unwrap();
    let keys = [
        KeyObject::wrap(&secrets(), repository(), b"dear", "", WHEN, dear).unwrap(),
        key("one", 1),
        key("two", 2),
    ];
    for (password, index) in [("dear", 0), ("one", 1), ("two", 2)] {
        let (key, opened) = unlock(&keys, password.as_bytes()).unwrap();
        assert_eq!((key.name(), opened), (keys[index].name(), secrets()));
    }
    for (keys, text) in
        [(&keys[..], "none of the 3 keys"), (&keys[1..2], "the key of this"), (&[], "none of the 0")]
    {
        let error = unlock(keys, b"three").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WrongPassword);
        assert!(error.to_string().contains(text), "{error}");
    }
}

#[test]
fn a_label_that_is_too_long_is_refused() {
    let wrap = |label: &str| {
        KeyObject::wrap(&secrets(), repository(), b"p", label, WHEN, PasswordCost::LEAST)
            .map(|key| key.label().len())
    };
    assert_eq!(wrap(&"é".repeat(128)).unwrap(), 256);
    assert_eq!(wrap(&"a".repeat(257)).unwrap_err().kind(), ErrorKind::InvalidArgument);
}

#[test]
fn the_derivation_is_argon2id() {
    // Made again through the crate's simple interface.
    let params = Params::new(8, 1, 1, Some(32)).unwrap();
    let mut key = [0; 32];
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(b"p", &[1; 32], &mut key)
        .unwrap();
    assert_eq!(*PasswordCost::LEAST.derive(b"p", &[1; 32]).unwrap().as_bytes(), key);
}

/// The figures are those of the reference implementation, by way of argon2-cffi.
#[test]
fn every_cost_derives_what_the_reference_does() {
    let four_lanes = PasswordCost::new(32, 3, 4).unwrap();
    for (cost, expected) in [
        (PasswordCost::DEFAULT, "564f0a22b3f2b8b417bc8099a49568061ecc18c3518bfd966ab7bdcb5b3b450a"),
        (PasswordCost::HIGH, "5c7800035833fb0d91a1c459420680c9457024947e0d191a15a66ab8c26df3bc"),
        (four_lanes, "79ab03d138163dd787aca0bccdbc4b9273230b39d1fce7314086a677e8602718"),
    ] {
        let key = cost.derive(b"p", &[1; 32]).unwrap();
        let digits: String = key.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(digits, expected, "{cost:?}");
    }
}

/// What this program made when its default was 64 MiB, three passes, four lanes.
#[test]
fn a_key_of_several_lanes_opens() {
    let cost = PasswordCost::new(64 << 10, 3, 4).unwrap();
    let key = KeyObject::wrap(&secrets(), repository(), b"p", "", WHEN, cost).unwrap();
    let read = KeyObject::decode(key.bytes().to_vec()).unwrap();
    assert_eq!((read.cost().memory_kib(), read.cost().passes(), read.cost().lanes()), (64 << 10, 3, 4));
    assert_eq!(read.unwrap(b"p").unwrap(), secrets());
}

#[test]
fn a_removal_comes_back_and_is_believed_only_from_who_has_the_secrets() {
    let name = *key("p", 1).name();
    let bytes = KeyRemoval::encode(&secrets(), repository(), &name, WHEN);
    let read = KeyRemoval::decode(&bytes).unwrap();
    assert_eq!((read.repository, read.key, read.when), (repository(), name, WHEN));
    read.authenticate(&secrets()).unwrap();
    assert_eq!(read.authenticate(&other_secrets()).unwrap_err().kind(), ErrorKind::NotTheSame);
    for index in 0..bytes.len() {
        let mut bad = bytes.clone();
        bad[index] ^= 1;
        assert_eq!(KeyRemoval::decode(&bad).unwrap_err().kind(), ErrorKind::Damage);
        // With the hash made right again, as a forger would.
        let end = bad.len() - 32;
        let hash = blake3::hash(&bad[..end]);
        bad[end..].copy_from_slice(hash.as_bytes());
        let believed = KeyRemoval::decode(&bad).and_then(|read| read.authenticate(&secrets()));
        assert!(believed.is_err() || index >= end, "byte {index}");
    }
}
