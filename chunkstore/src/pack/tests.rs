//! Packs as a whole: round trips, every flipped byte, every fallback, what the wire shows.

use std::collections::HashSet;

use proptest::prelude::*;

use super::header::PACK_HEADER_BYTES;
use super::*;
use crate::chunk::Hasher;
use crate::error::{Error, ErrorKind};
use crate::frame::{CompressedFrame, Decompressor};
use crate::id::{IntentId, ObjectHash};
use crate::seal::Cipher;
use crate::secret::{Epoch, Secret, Secrets};
use crate::testing::{frames, noise, other_secrets, secrets, text, with_pack_header};

const CIPHERS: [Cipher; 2] = [Cipher::None, Cipher::ChaCha20Poly1305];

fn pack_with_salt(cipher: Cipher, salt: u8, frames: &[CompressedFrame]) -> FinishedPack {
    let intent = IntentId::from_bytes([0x77; 16]);
    let mut writer =
        Writer::with_salt(&secrets(), Epoch::FIRST, cipher, intent, [salt; 32], Vec::new()).unwrap();
    for frame in frames {
        writer.add(frame).unwrap();
    }
    writer.finish()
}

fn pack(cipher: Cipher, frames: &[CompressedFrame]) -> FinishedPack {
    pack_with_salt(cipher, 0x55, frames)
}

/// Three small frames: compressed, not compressible, one tiny chunk.
fn pieces() -> Vec<Vec<Vec<u8>>> {
    vec![vec![text(1, 200), text(2, 90), text(3, 30)], vec![noise(4, 40), noise(5, 20)], vec![vec![9]]]
}

fn small(cipher: Cipher) -> FinishedPack {
    pack(cipher, &frames(&pieces(), Some(3)))
}

/// Reads what can be read of `bytes`, and fails if one wrong byte is handed out. Returns how many chunks came back.
fn read_all(bytes: &[u8], good: &Toc) -> Result<(usize, PackCheck), Error> {
    let reader = Reader::open(bytes, &secrets())?;
    let mut decompressor = Decompressor::new();
    let hasher = Hasher::new(&secrets());
    let check = reader.check(None, &mut decompressor)?;
    for entry in &check.toc.frames {
        let same = good.frames.iter().find(|frame| frame.place == entry.place);
        assert_eq!(same, Some(entry), "a frame that is listed is one that was written");
    }
    let mut count = 0;
    for (entry, pieces) in good.frames.iter().zip(pieces()) {
        let Ok(frame) = reader.read_frame(&entry.place, &mut decompressor) else { continue };
        for (index, (chunk, piece)) in entry.chunks.iter().zip(pieces).enumerate() {
            if let Ok(bytes) = frame.chunk(index, &chunk.id, &hasher) {
                assert_eq!(bytes, piece, "never a wrong byte");
                count += 1;
            }
        }
    }
    Ok((count, check))
}

#[test]
fn a_good_pack_is_good() {
    for cipher in CIPHERS {
        let pack = small(cipher);
        assert_eq!(pack.name, ObjectHash::of(&[&pack.bytes]));
        let (count, check) = read_all(&pack.bytes, &pack.toc).unwrap();
        assert!(check.is_good(), "{check:?}");
        assert_eq!((count, check.toc), (6, pack.toc.clone()));
        let reader = Reader::open(&pack.bytes[..], &secrets()).unwrap();
        let read = reader.toc(&mut Decompressor::new()).unwrap();
        assert_eq!((read.origin, read.faults.len()), (TocOrigin::First, 0));
        assert_eq!(reader.header().intent, IntentId::from_bytes([0x77; 16]));
        assert!(reader.check(Some(&pack.name), &mut Decompressor::new()).unwrap().is_good());
        let other = ObjectHash::of(&[b"another"]);
        assert!(!reader.check(Some(&other), &mut Decompressor::new()).unwrap().is_good(), "a swapped object");
    }
}

#[test]
fn a_pack_is_read_by_ranges() {
    let pack = small(Cipher::ChaCha20Poly1305);
    let reads = std::cell::RefCell::new(Vec::new());
    let source = ReadRanges {
        length: pack.bytes.len() as u64,
        read: |offset: u64, length: usize| {
            reads.borrow_mut().push((offset, length));
            let start = usize::try_from(offset).unwrap();
            Ok(pack.bytes[start..pack.bytes.len().min(start + length)].to_vec())
        },
    };
    let reader = Reader::open(&source, &secrets()).unwrap();
    let toc = reader.toc(&mut Decompressor::new()).unwrap().toc;
    assert_eq!(reads.take().len(), 3, "header, trailer, table");
    let place = toc.frames[1].place;
    let frame = reader.read_checked(&toc.frames[1], &mut Decompressor::new()).unwrap();
    assert_eq!(frame.iter().collect::<Vec<_>>(), pieces()[1]);
    assert_eq!(reads.take(), [(place.offset, place.stored_bytes as usize)], "one read for a frame");
}

#[test]
fn an_empty_pack_is_possible() {
    for cipher in CIPHERS {
        let pack = pack(cipher, &[]);
        let (count, check) = read_all(&pack.bytes, &pack.toc).unwrap();
        assert!(check.is_good() && count == 0 && check.toc.frames.is_empty());
    }
}

#[test]
fn each_flipped_byte_is_found_and_costs_no_more_than_its_frame() {
    for cipher in CIPHERS {
        let pack = small(cipher);
        for index in 0..pack.bytes.len() {
            let mut bad = pack.bytes.clone();
            bad[index] ^= 1 << (index % 8);
            assert_ne!(ObjectHash::of(&[&bad]), pack.name);
            let (count, check) = read_all(&bad, &pack.toc).unwrap();
            assert!(!check.is_good(), "{cipher:?}: byte {index} flipped, not noticed");
            let hit = pack.toc.frames.iter().find(|frame| {
                let (start, end) =
                    (frame.place.offset, frame.place.offset + u64::from(frame.place.stored_bytes));
                (start..end).contains(&(index as u64))
            });
            assert_eq!(count, 6 - hit.map_or(0, |frame| frame.chunks.len()), "{cipher:?}: byte {index}");
            assert_eq!(check.toc, pack.toc, "one flipped byte never loses the table of contents");
            let bad_frames: Vec<_> = check.bad_frames.iter().map(|(place, _)| *place).collect();
            assert_eq!(bad_frames, hit.map(|frame| frame.place).into_iter().collect::<Vec<_>>());
        }
    }
}

#[test]
fn each_cut_is_found_and_keeps_the_frames_before_it() {
    for cipher in CIPHERS {
        let pack = small(cipher);
        // Every place where a part ends, one byte before and behind it, and some between: each costs a search.
        let ends =
            pack.toc.frames.iter().map(|frame| frame.place.offset + u64::from(frame.place.stored_bytes));
        let ends: Vec<usize> = ends
            .map(|end| usize::try_from(end).unwrap())
            .chain(parts(&pack, cipher))
            .chain([0, 112])
            .collect();
        let near =
            |length: &usize| ends.iter().any(|end| end.abs_diff(*length) <= 1) || length.is_multiple_of(29);
        for length in (0..pack.bytes.len()).filter(near) {
            let Ok((count, check)) = read_all(&pack.bytes[..length], &pack.toc) else {
                assert!(length < PACK_HEADER_BYTES);
                continue;
            };
            let whole =
                pack.toc.frames.iter().filter(|frame| {
                    frame.place.offset + u64::from(frame.place.stored_bytes) <= length as u64
                });
            assert_eq!(count, whole.map(|frame| frame.chunks.len()).sum::<usize>());
            assert!(!check.is_good());
        }
        let longer = [&pack.bytes[..], &[0; 100]].concat();
        let (count, check) = read_all(&longer, &pack.toc).unwrap();
        assert!(count == 6 && !check.is_good() && check.toc == pack.toc);
    }
}

/// Where the parts of a small pack begin: frames, padding or first table, first table, second table, trailer, last header.
fn parts(pack: &FinishedPack, cipher: Cipher) -> [usize; 3] {
    let trailer = pack.bytes.len() - PACK_HEADER_BYTES - trailer::TRAILER_BYTES - cipher.overhead();
    let contents = 48 + 2 * cipher.overhead() + pack.toc.encode().len();
    [trailer - 2 * contents, trailer - contents, trailer]
}

#[test]
fn each_fallback_finds_the_table_of_contents() {
    for cipher in CIPHERS {
        let pack = small(cipher);
        let [first, second, trailer] = parts(&pack, cipher);
        let read = |broken: &[usize]| {
            let mut bad = pack.bytes.clone();
            for index in broken {
                bad[*index] ^= 0x40;
            }
            let reader = Reader::open(&bad[..], &secrets()).unwrap();
            let read = reader.toc(&mut Decompressor::new()).unwrap();
            assert!(!read.faults.is_empty() || read.origin == TocOrigin::First);
            (read.origin, read.toc == pack.toc)
        };
        let frame = pack.toc.frames[1].place;
        let header = usize::try_from(frame.offset).unwrap();
        let body = header + 48 + cipher.overhead();
        assert_eq!(read(&[]), (TocOrigin::First, true));
        assert_eq!(read(&[0]), (TocOrigin::First, true), "the header at the end");
        assert_eq!(read(&[first]), (TocOrigin::Other, true));
        assert_eq!(read(&[first + 48 + cipher.overhead()]), (TocOrigin::Other, true));
        assert_eq!(read(&[trailer]), (TocOrigin::Other, true), "by walking to the first");
        assert_eq!(
            read(&[trailer, first + 60 + cipher.overhead()]),
            (TocOrigin::Other, true),
            "walking to the second"
        );
        assert_eq!(read(&[trailer, first]), (TocOrigin::Other, true), "a search");
        assert_eq!(read(&[trailer, header]), (TocOrigin::Other, true), "a search, the walk being broken");
        assert_eq!(read(&[trailer, first, header]), (TocOrigin::Other, true));
        assert_eq!(read(&[first, second]), (TocOrigin::Frames, true));
        assert_eq!(read(&[trailer, first, second]), (TocOrigin::Frames, true));
        assert_eq!(read(&[0, trailer, first, second]), (TocOrigin::Frames, true));
        assert_eq!(read(&[trailer, first, second, body]), (TocOrigin::Frames, false));
        assert_eq!(read(&[trailer, first, second, header]), (TocOrigin::Frames, false));
    }
}

#[test]
fn a_walk_leaves_out_what_is_lost_and_nothing_else() {
    for cipher in CIPHERS {
        let pack = small(cipher);
        let [first, second, _] = parts(&pack, cipher);
        for lost in 0..3 {
            let mut bad = pack.bytes.clone();
            let offset = usize::try_from(pack.toc.frames[lost].place.offset).unwrap();
            for index in [first, second, offset] {
                bad[index] ^= 1;
            }
            let reader = Reader::open(&bad[..], &secrets()).unwrap();
            let read = reader.toc(&mut Decompressor::new()).unwrap();
            let mut expected = pack.toc.clone();
            expected.frames.remove(lost);
            assert_eq!((read.toc, read.origin), (expected, TocOrigin::Frames), "{cipher:?} frame {lost}");
        }
    }
}

#[test]
fn both_headers_lost_is_damage_and_a_torn_front_is_not_the_end() {
    let pack = small(Cipher::ChaCha20Poly1305);
    let mut bad = pack.bytes.clone();
    bad[..PACK_HEADER_BYTES + 20].fill(0);
    let (count, check) = read_all(&bad, &pack.toc).unwrap();
    assert_eq!((count, check.bad_frames.len(), check.is_good()), (3, 1, false));
    let end = bad.len() - 1;
    bad[end] ^= 1;
    assert_eq!(Reader::open(&bad[..], &secrets()).unwrap_err().kind(), ErrorKind::Damage);
    for bytes in [&b""[..], b"VRSNPACK", &[0; 5000]] {
        assert_eq!(Reader::open(bytes, &secrets()).unwrap_err().kind(), ErrorKind::Damage);
    }
}

#[test]
fn other_secrets_and_unknown_epochs_are_told_from_damage() {
    for cipher in CIPHERS {
        let pack = small(cipher);
        let open = |secrets: &Secrets| Reader::open(&pack.bytes[..], secrets).unwrap_err().kind();
        assert_eq!(open(&other_secrets()), ErrorKind::NotTheSame);
        let same_master = Secret::from_bytes([0x11; 32]);
        let epoch = |number, secret| {
            Secrets::fixed(same_master.clone(), Epoch::new(number).unwrap(), Secret::from_bytes([secret; 32]))
        };
        assert_eq!(open(&epoch(1, 0x23)), ErrorKind::NotTheSame);
        assert_eq!(open(&epoch(2, 0x22)), ErrorKind::NotTheSame);
    }
}

#[test]
fn newer_packs_say_so_and_forged_headers_do_not_open() {
    for cipher in CIPHERS {
        let pack = small(cipher);
        let open = |offset, bytes: &[u8]| {
            Reader::open(&with_pack_header(&pack.bytes, offset, bytes)[..], &secrets())
                .map(|_| ())
                .unwrap_err()
                .kind()
        };
        assert_eq!(open(8, &[2, 0]), ErrorKind::NewerFormat, "version");
        assert_eq!(open(10, &[3]), ErrorKind::NewerFormat, "cipher");
        assert_eq!(open(11, &[3]), ErrorKind::NewerFormat, "key wrap");
        assert_eq!(open(12, &[1]), ErrorKind::NewerFormat, "required feature");
        assert_eq!(open(20, &[0, 0, 0, 0]), ErrorKind::Damage, "no epoch");
        let wrong_pair = cipher.key_wrap() as u8 ^ 3;
        assert_eq!(open(11, &[wrong_pair]), ErrorKind::Damage, "cipher and key wrap that do not go together");
        assert_eq!(open(16, &[1]), ErrorKind::NotTheSame, "optional features are bound into the key");
        assert_eq!(open(24, &[1]), ErrorKind::NotTheSame, "the intent too");
        assert_eq!(open(40, &[1]), ErrorKind::NotTheSame, "the salt");
        assert_eq!(open(72, &[1]), ErrorKind::NotTheSame, "the commitment");
        let swapped =
            [Cipher::None as u8 ^ Cipher::ChaCha20Poly1305 as u8 ^ cipher as u8, cipher.key_wrap() as u8 ^ 3];
        assert_eq!(open(10, &swapped), ErrorKind::NotTheSame, "encrypted never passes for unencrypted");
    }
}

#[test]
fn every_pack_is_another_object() {
    let frames = frames(&pieces(), Some(3));
    let write = || {
        let intent = IntentId::from_bytes([1; 16]);
        let mut writer =
            Writer::new(&secrets(), Epoch::FIRST, Cipher::None, intent, Vec::with_capacity(1 << 16)).unwrap();
        frames.iter().for_each(|frame| writer.add(frame).unwrap());
        writer.finish()
    };
    let (one, two) = (write(), write());
    assert_ne!(one.name, two.name, "a pack stored again never gets the name of one that was condemned");
    assert_eq!(one.toc, two.toc);
}

/// The boxes of a pack as they stand in it, with their plaintexts.
fn boxes(pack: &FinishedPack, frames: &[CompressedFrame]) -> Vec<(Vec<u8>, Vec<u8>)> {
    pack.toc
        .frames
        .iter()
        .zip(frames)
        .map(|(entry, frame)| {
            let start = usize::try_from(entry.place.offset).unwrap();
            let stored = &pack.bytes[start..start + entry.place.stored_bytes as usize];
            let body = stored[88..].to_vec();
            (body, [frame.table(), frame.data.clone()].concat())
        })
        .collect()
}

/// On the wire: the same contents twice in a pack, in packs with the same salt (a cloned machine), in packs with other salts.
#[test]
fn nonces_and_keystreams_never_repeat_with_another_text() {
    let one = noise(1, 64);
    let same = frames(&[vec![one.clone()], vec![one.clone()], vec![noise(2, 64)]], None);
    let other = frames(&[vec![noise(3, 64)], vec![one], vec![noise(2, 64)]], None);
    let cipher = Cipher::ChaCha20Poly1305;
    let mut seen: HashSet<(Vec<u8>, Vec<u8>)> = HashSet::new();
    let (mut nonces, mut streams, mut count) = (HashSet::new(), HashSet::new(), 0);
    for (salt, frames) in [(1, &same), (1, &other), (2, &same), (2, &other)] {
        for (stored, plain) in boxes(&pack_with_salt(cipher, salt, frames), frames) {
            let stream: Vec<u8> = stored[24..].iter().zip(&plain).map(|(a, b)| a ^ b).collect();
            // The very same box: the same salt, place and text. It must be the same in all bytes, and tells nothing but that.
            if seen.insert((stored.clone(), plain)) {
                count += 1;
                nonces.insert(stored[..24].to_vec());
                streams.insert(stream[..32].to_vec());
            }
        }
    }
    // Of twelve, the second and third bodies of two packs with one salt are the same text in the same place.
    assert_eq!((count, nonces.len(), streams.len()), (8, 8, 8));
}

#[test]
fn small_encrypted_packs_are_padded_and_tell_nothing_of_their_chunks() {
    let lengths: HashSet<usize> = (0..40)
        .map(|more| {
            let pack = pack(Cipher::ChaCha20Poly1305, &frames(&[vec![noise(1, 2_000 + more * 8)]], None));
            assert_eq!(pack.bytes.len(), padded(pack.bytes.len()));
            pack.bytes.len()
        })
        .collect();
    assert!(lengths.len() <= 4, "{lengths:?}");
    let pack = small(Cipher::ChaCha20Poly1305);
    let id = pack.toc.frames[0].chunks[0].id;
    assert!(!pack.bytes.windows(32).any(|window| window == id.as_bytes()), "ids are sealed");
}

#[test]
fn padme_costs_an_eighth_at_most() {
    assert_eq!([0, 1, 2, 3, 4, 8, 9, 1001].map(padded), [0, 1, 2, 3, 4, 8, 10, 1024]);
    for bytes in (1..100_000).chain((1 << 20..5 << 20).step_by(997)) {
        let padded_bytes = padded(bytes);
        assert!(padded_bytes >= bytes && padded_bytes - bytes <= bytes / 8, "{bytes} {padded_bytes}");
        assert_eq!(padded(padded_bytes), padded_bytes);
    }
}

#[test]
fn a_pack_that_would_be_too_long_takes_no_more() {
    let mut writer =
        Writer::new(&secrets(), Epoch::FIRST, Cipher::None, IntentId::from_bytes([1; 16]), Vec::new())
            .unwrap();
    let frame = frames(&[vec![noise(1, 8 << 20), noise(2, 8 << 20)]], None).remove(0);
    let added = (0..40).find_map(|_| writer.add(&frame).err()).unwrap();
    assert_eq!(added.kind(), ErrorKind::InvalidArgument);
    assert!(writer.stored_bytes() as u64 <= PACK_BYTES_MAX / 2 + (1 << 20));
}

#[test]
fn tables_that_cannot_be_are_refused_before_memory_is_reserved() {
    let good = small(Cipher::None).toc.encode();
    Toc::decode(&good).unwrap();
    for length in 0..good.len() {
        assert_eq!(Toc::decode(&good[..length]).unwrap_err().kind(), ErrorKind::Damage);
    }
    assert!(Toc::decode(&[&good[..], &[0]].concat()).is_err());
    let mut newer = good.clone();
    newer[1] = 2;
    assert_eq!(Toc::decode(&newer).unwrap_err().kind(), ErrorKind::NewerFormat);
    newer[1] = 0;
    assert_eq!(Toc::decode(&newer).unwrap_err().kind(), ErrorKind::Damage);
    let huge = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
    assert_eq!(Toc::decode(&huge).unwrap_err().kind(), ErrorKind::Damage);
    let many_chunks = [&[1, 1, 10, 10][..], &huge[..]].concat();
    assert!(Toc::decode(&[&many_chunks[..], &[0; 40]].concat()).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn what_is_packed_comes_back(
        lengths in proptest::collection::vec(proptest::collection::vec(1usize..3_000, 1..6), 0..6),
        seed in any::<u64>(), encrypted in any::<bool>(), level in prop_oneof![Just(None), (-3i32..6).prop_map(Some)],
    ) {
        let pieces: Vec<Vec<Vec<u8>>> = lengths.iter().enumerate().map(|(frame, lengths)| {
            let seed = |index: usize| seed.wrapping_add((frame * 8 + index) as u64);
            lengths.iter().enumerate().map(|(index, length)| {
                if index % 2 == 0 { text(seed(index), *length) } else { noise(seed(index), *length) }
            }).collect()
        }).collect();
        let pack = pack(CIPHERS[usize::from(encrypted)], &frames(&pieces, level));
        let reader = Reader::open(&pack.bytes[..], &secrets()).unwrap();
        let mut decompressor = Decompressor::new();
        prop_assert!(reader.check(Some(&pack.name), &mut decompressor).unwrap().is_good());
        prop_assert_eq!(&reader.toc(&mut decompressor).unwrap().toc, &pack.toc);
        prop_assert_eq!(&Toc::decode(&pack.toc.encode()).unwrap(), &pack.toc);
        for (entry, pieces) in pack.toc.frames.iter().zip(&pieces) {
            let frame = reader.read_checked(entry, &mut decompressor).unwrap();
            prop_assert_eq!(&frame.iter().collect::<Vec<_>>(), pieces);
        }
    }

    #[test]
    fn much_damage_never_hands_out_a_wrong_byte(
        encrypted in any::<bool>(), damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 1usize..200), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let pack = small(CIPHERS[usize::from(encrypted)]);
        let mut bad = pack.bytes.clone();
        for (place, value, length) in damage {
            let start = place.index(bad.len());
            let end = bad.len().min(start + length);
            bad[start..end].fill(value);
        }
        bad.truncate(cut.index(bad.len() * 4) + 1);
        if let Ok((_, check)) = read_all(&bad, &pack.toc) {
            prop_assert!(!check.is_good() || bad == pack.bytes);
        }
    }

    #[test]
    fn arbitrary_bytes_are_no_pack(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(Reader::open(&bytes[..], &secrets()).is_err());
        let _ = Toc::decode(&bytes);
        let _ = PackHeader::decode(&bytes);
    }
}
