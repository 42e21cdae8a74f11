//! Metadata as bytes: one encoding for one value, as small as it gets without a table of names.
//!
//! What is usually absent (holes, attributes, device numbers) or usually the same (one link, a birth at the time of the last
//! change) costs a bit of a leading varint. Times after the first are written as the distance from it. The decoder
//! refuses every other spelling of a value, so that equal metadata are equal bytes and what a digest says of one it says of
//! the other. Bytes: FORMAT.md, metadata.

use super::{Hole, Kind, Metadata, Timestamp};
use crate::codec::{Decoder, put_slice, put_varint};
use crate::error::{Error, ErrorKind, Result};

/// The user's name follows.
const HAS_USER: u64 = 1 << 0;
/// The group's name follows.
const HAS_GROUP: u64 = 1 << 1;
/// The time of birth follows.
const HAS_BIRTH: u64 = 1 << 2;
/// The time of birth is `mtime`: nothing follows.
const BIRTH_IS_MTIME: u64 = 1 << 3;
/// `ctime` is `mtime`: nothing follows.
const CTIME_IS_MTIME: u64 = 1 << 4;
/// The number of links follows, for it is not 1.
const HAS_LINKS: u64 = 1 << 5;
/// Extended attributes follow.
const HAS_XATTRS: u64 = 1 << 6;
/// Holes follow.
const HAS_HOLES: u64 = 1 << 7;
/// Every bit that this version knows.
const KNOWN: u64 = (1 << 8) - 1;

/// The most nanoseconds that a timestamp has.
const NANOSECONDS_MAX: u32 = 999_999_999;

/// The twelve bits of a mode.
const MODE_MAX: u16 = 0o7777;

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}

fn put_time(out: &mut Vec<u8>, time: Timestamp, from: Timestamp) {
    // Wrapping, so that every pair of times has one distance and the sum is exact again.
    put_varint(out, zigzag(time.seconds.wrapping_sub(from.seconds)));
    put_varint(out, u64::from(time.nanoseconds));
}

fn take_time(decoder: &mut Decoder<'_>, from: Timestamp, field: &str) -> Result<Timestamp> {
    let seconds = from.seconds.wrapping_add(unzigzag(decoder.varint(field)?));
    let nanoseconds = decoder.varint_u32(field)?;
    Ok(Timestamp { seconds, nanoseconds })
}

fn refused(why: impl Into<String>) -> Error {
    Error::damage(format!("metadata: {}", why.into()))
}

impl Metadata {
    /// Checks what every value must hold, at both ends: before bytes leave and after they arrive.
    ///
    /// # Errors
    /// Damage, naming the field, if a value breaks a rule of FORMAT.md, metadata.
    pub fn check(&self) -> Result<()> {
        if self.mode > MODE_MAX {
            return Err(refused(format!("mode {:o} has more than twelve bits", self.mode)));
        }
        let times = [Some(self.mtime), Some(self.ctime), self.birth];
        if let Some(time) = times.iter().flatten().find(|time| time.nanoseconds > NANOSECONDS_MAX) {
            return Err(refused(format!("{} nanoseconds in a second", time.nanoseconds)));
        }
        if [&self.user, &self.group].iter().any(|name| name.contains(&0)) {
            return Err(refused("a zero byte in an owner's name"));
        }
        let is_device = matches!(self.kind, Kind::CharacterDevice | Kind::BlockDevice);
        if is_device != self.device_number.is_some() {
            return Err(refused(format!("a {:?} with device number {:?}", self.kind, self.device_number)));
        }
        match (&self.link_target, self.kind) {
            (Some(target), Kind::Symlink) => {
                if target.is_empty() || target.contains(&0) {
                    return Err(refused("a link's target is empty or holds a zero byte"));
                }
                if self.size != target.len() as u64 {
                    return Err(refused(format!(
                        "{} bytes of link target, size {}",
                        target.len(),
                        self.size
                    )));
                }
            }
            (None, Kind::Symlink) => return Err(refused("a symbolic link without a target")),
            (Some(_), _) => return Err(refused(format!("a {:?} with a link's target", self.kind))),
            (None, Kind::File) => {}
            (None, _) if self.size != 0 => return Err(refused(format!("a {:?} with a size", self.kind))),
            (None, _) => {}
        }
        let mut before: &[u8] = b"";
        for (name, _) in &self.xattrs {
            if name.as_slice() <= before || name.contains(&0) {
                return Err(refused(
                    "extended attributes are empty, out of order, or hold a zero byte in a name",
                ));
            }
            before = name;
        }
        self.check_holes()
    }

    fn check_holes(&self) -> Result<()> {
        if !self.holes.is_empty() && self.kind != Kind::File {
            return Err(refused(format!("a {:?} with holes", self.kind)));
        }
        let mut before: Option<u64> = None;
        for hole in &self.holes {
            let apart = before.is_none_or(|end| hole.offset > end);
            let end = hole.offset.checked_add(hole.length).filter(|end| *end <= self.size);
            match end {
                Some(end) if apart && hole.length > 0 => before = Some(end),
                _ => {
                    return Err(refused(format!(
                        "a hole of {} bytes at {} overlaps, touches the one before, is empty, or lies outside of {} bytes",
                        hole.length, hole.offset, self.size
                    )));
                }
            }
        }
        Ok(())
    }

    /// Appends its bytes.
    ///
    /// # Panics
    /// If the value breaks a rule that [`Metadata::check`] names: a stop beats a wrong write.
    pub fn encode(&self, out: &mut Vec<u8>) {
        if let Err(error) = self.check() {
            panic!("metadata that must not be written: {error}");
        }
        let birth_is_mtime = self.birth == Some(self.mtime);
        let mut present = 0;
        let mut set = |condition: bool, bit: u64| present |= if condition { bit } else { 0 };
        set(!self.user.is_empty(), HAS_USER);
        set(!self.group.is_empty(), HAS_GROUP);
        set(self.birth.is_some() && !birth_is_mtime, HAS_BIRTH);
        set(birth_is_mtime, BIRTH_IS_MTIME);
        set(self.ctime == self.mtime, CTIME_IS_MTIME);
        set(self.links != 1, HAS_LINKS);
        set(!self.xattrs.is_empty(), HAS_XATTRS);
        set(!self.holes.is_empty(), HAS_HOLES);

        out.push(self.kind as u8);
        put_varint(out, present);
        put_varint(out, u64::from(self.mode));
        put_varint(out, u64::from(self.uid));
        put_varint(out, u64::from(self.gid));
        if present & HAS_USER != 0 {
            put_slice(out, &self.user);
        }
        if present & HAS_GROUP != 0 {
            put_slice(out, &self.group);
        }
        put_time(out, self.mtime, Timestamp::default());
        if present & CTIME_IS_MTIME == 0 {
            put_time(out, self.ctime, self.mtime);
        }
        if let (Some(birth), true) = (self.birth, present & HAS_BIRTH != 0) {
            put_time(out, birth, self.mtime);
        }
        put_varint(out, self.device);
        put_varint(out, self.inode);
        if present & HAS_LINKS != 0 {
            put_varint(out, self.links);
        }
        if self.kind == Kind::File {
            put_varint(out, self.size);
        }
        if let Some((major, minor)) = self.device_number {
            put_varint(out, u64::from(major));
            put_varint(out, u64::from(minor));
        }
        if let Some(target) = &self.link_target {
            put_slice(out, target);
        }
        if present & HAS_XATTRS != 0 {
            put_varint(out, self.xattrs.len() as u64);
            for (name, value) in &self.xattrs {
                put_slice(out, name);
                put_slice(out, value);
            }
        }
        if present & HAS_HOLES != 0 {
            put_varint(out, self.holes.len() as u64);
            let mut end = 0;
            for hole in &self.holes {
                put_varint(out, hole.offset - end);
                put_varint(out, hole.length);
                end = hole.offset + hole.length;
            }
        }
    }

    /// Takes one from the front of `decoder`.
    ///
    /// # Errors
    /// Damage if the bytes are no metadata, or not in the one form that [`Metadata::encode`] writes; `NewerFormat` if they hold
    /// something that this version does not know.
    pub fn decode(decoder: &mut Decoder<'_>) -> Result<Self> {
        let kind_byte = decoder.u8("metadata: kind")?;
        let kind = Kind::from_byte(kind_byte).ok_or_else(|| refused(format!("kind {kind_byte}")))?;
        let present = decoder.varint("metadata: fields")?;
        if present & !KNOWN != 0 {
            return Err(Error::new(
                ErrorKind::NewerFormat,
                format!("metadata: fields {present:#x} were written by a newer version of the program"),
            ));
        }
        let has = |bit: u64| present & bit != 0;
        let mut metadata = Self::new(kind);
        metadata.mode =
            u16::try_from(decoder.varint("metadata: mode")?).map_err(|_| refused("mode too large"))?;
        metadata.uid = decoder.varint_u32("metadata: user id")?;
        metadata.gid = decoder.varint_u32("metadata: group id")?;
        let name = |decoder: &mut Decoder<'_>, field: &str| -> Result<Vec<u8>> {
            let name = decoder.slice(field)?;
            if name.is_empty() { Err(refused(format!("{field} is empty"))) } else { Ok(name.to_vec()) }
        };
        if has(HAS_USER) {
            metadata.user = name(decoder, "metadata: user")?;
        }
        if has(HAS_GROUP) {
            metadata.group = name(decoder, "metadata: group")?;
        }
        metadata.mtime = take_time(decoder, Timestamp::default(), "metadata: mtime")?;
        metadata.ctime = metadata.mtime;
        if !has(CTIME_IS_MTIME) {
            metadata.ctime = take_time(decoder, metadata.mtime, "metadata: ctime")?;
            different(metadata.ctime, metadata.mtime, "ctime")?;
        }
        metadata.birth = match (has(HAS_BIRTH), has(BIRTH_IS_MTIME)) {
            (false, false) => None,
            (false, true) => Some(metadata.mtime),
            (true, false) => {
                let birth = take_time(decoder, metadata.mtime, "metadata: birth")?;
                different(birth, metadata.mtime, "birth")?;
                Some(birth)
            }
            (true, true) => return Err(refused("two times of birth")),
        };
        metadata.device = decoder.varint("metadata: device")?;
        metadata.inode = decoder.varint("metadata: inode")?;
        metadata.links = 1;
        if has(HAS_LINKS) {
            metadata.links = decoder.varint("metadata: links")?;
            if metadata.links == 1 {
                return Err(refused("one link, spelled out"));
            }
        }
        if kind == Kind::File {
            metadata.size = decoder.varint("metadata: size")?;
        }
        if matches!(kind, Kind::CharacterDevice | Kind::BlockDevice) {
            let major = decoder.varint_u32("metadata: major number")?;
            metadata.device_number = Some((major, decoder.varint_u32("metadata: minor number")?));
        }
        if kind == Kind::Symlink {
            let target = decoder.slice("metadata: link target")?;
            metadata.size = target.len() as u64;
            metadata.link_target = Some(target.to_vec());
        }
        if has(HAS_XATTRS) {
            metadata.xattrs = take_xattrs(decoder)?;
        }
        if has(HAS_HOLES) {
            metadata.holes = take_holes(decoder)?;
        }
        metadata.check()?;
        Ok(metadata)
    }
}

fn different(time: Timestamp, mtime: Timestamp, field: &str) -> Result<()> {
    if time == mtime { Err(refused(format!("{field} is mtime, spelled out"))) } else { Ok(()) }
}

/// How many items to make room for: as many as are said to follow, if the bytes that are left can hold them at all.
fn count(decoder: &mut Decoder<'_>, item_bytes_min: usize, field: &str) -> Result<usize> {
    let count = decoder.varint_usize(field)?;
    if count == 0 || count > decoder.rest().len() / item_bytes_min {
        return Err(refused(format!("{field}: {count} in {} bytes", decoder.rest().len())));
    }
    Ok(count)
}

fn take_xattrs(decoder: &mut Decoder<'_>) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let count = count(decoder, 3, "metadata: number of attributes")?;
    let mut xattrs = Vec::with_capacity(count.min(64));
    for _ in 0..count {
        let name = decoder.slice("metadata: attribute's name")?;
        xattrs.push((name.to_vec(), decoder.slice("metadata: attribute's value")?.to_vec()));
    }
    Ok(xattrs)
}

fn take_holes(decoder: &mut Decoder<'_>) -> Result<Vec<Hole>> {
    let count = count(decoder, 2, "metadata: number of holes")?;
    let mut holes = Vec::with_capacity(count);
    let mut end = 0u64;
    for _ in 0..count {
        let offset = end.checked_add(decoder.varint("metadata: hole")?);
        let length = decoder.varint("metadata: hole")?;
        let hole = offset.and_then(|offset| Some((Hole { offset, length }, offset.checked_add(length)?)));
        let Some((hole, next)) = hole else { return Err(refused("a hole beyond 64 bits")) };
        holes.push(hole);
        end = next;
    }
    Ok(holes)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::collection::{btree_map, vec};
    use proptest::prelude::*;

    fn timestamp() -> impl Strategy<Value = Timestamp> {
        let seconds = prop_oneof![
            any::<i64>(),
            -10i64..10,
            Just(i64::MIN),
            Just(i64::MAX),
            1_700_000_000i64..1_800_000_000
        ];
        (seconds, 0..=NANOSECONDS_MAX).prop_map(|(seconds, nanoseconds)| Timestamp { seconds, nanoseconds })
    }

    fn kind() -> impl Strategy<Value = Kind> {
        (1u8..=7).prop_map(|byte| Kind::from_byte(byte).unwrap())
    }

    fn holes() -> impl Strategy<Value = (Vec<Hole>, u64)> {
        (vec((1u64..5000, 1u64..100_000), 0..5), 0u64..5000).prop_map(|(pairs, tail)| {
            let mut end = 0;
            let holes = pairs.into_iter().map(|(gap, length)| {
                let hole = Hole { offset: end + gap, length };
                end = hole.offset + length;
                hole
            });
            let holes: Vec<Hole> = holes.collect();
            (holes, end + tail)
        })
    }

    fn word() -> impl Strategy<Value = Vec<u8>> {
        vec(1u8..=255, 1..12)
    }

    prop_compose! {
        /// Any metadata that may be written.
        pub(crate) fn any_metadata()(
            kind in kind(), mode in 0..=MODE_MAX, owner in any::<(u32, u32)>(),
            names in (prop_oneof![Just(Vec::new()), word()], prop_oneof![Just(Vec::new()), word()]),
            times in (timestamp(), proptest::option::of(timestamp()), proptest::option::of(proptest::option::of(timestamp()))),
            place in any::<(u64, u64)>(), links in prop_oneof![Just(1u64), any::<u64>()],
            device_number in any::<(u32, u32)>(), target in word(),
            xattrs in btree_map(word(), vec(any::<u8>(), 0..20), 0..4), holes in holes(),
        ) -> Metadata {
            let mut metadata = Metadata::new(kind);
            metadata.mode = mode;
            (metadata.uid, metadata.gid) = owner;
            (metadata.user, metadata.group) = names;
            metadata.mtime = times.0;
            metadata.ctime = times.1.unwrap_or(times.0);
            metadata.birth = times.2.map(|birth| birth.unwrap_or(times.0));
            (metadata.device, metadata.inode) = place;
            metadata.links = links;
            metadata.xattrs = xattrs.into_iter().collect();
            match kind {
                Kind::File => (metadata.holes, metadata.size) = holes,
                Kind::Symlink => (metadata.size, metadata.link_target) = (target.len() as u64, Some(target)),
                Kind::CharacterDevice | Kind::BlockDevice => metadata.device_number = Some(device_number),
                Kind::Directory | Kind::Fifo | Kind::Socket => {}
            }
            metadata
        }
    }

    fn encoded(metadata: &Metadata) -> Vec<u8> {
        let mut bytes = Vec::new();
        metadata.encode(&mut bytes);
        bytes
    }

    fn full() -> Metadata {
        Metadata {
            mode: 0o4755,
            uid: 1000,
            gid: 100,
            user: b"ada".to_vec(),
            group: b"users".to_vec(),
            mtime: Timestamp { seconds: 1_700_000_000, nanoseconds: 123_456_789 },
            ctime: Timestamp { seconds: 1_700_000_001, nanoseconds: 5 },
            birth: Some(Timestamp { seconds: 1_600_000_000, nanoseconds: 0 }),
            size: 1 << 20,
            device: 0xfe00,
            inode: 77,
            links: 2,
            xattrs: vec![(b"user.a".to_vec(), b"1".to_vec()), (b"user.b".to_vec(), Vec::new())],
            holes: vec![Hole { offset: 4096, length: 8192 }, Hole { offset: 65536, length: 4096 }],
            ..Metadata::new(Kind::File)
        }
    }

    #[test]
    fn the_bytes_are_as_specified() {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let expected = [
            "01",                                       // kind: a file
            "e701",                                     // present: user, group, birth, links, xattrs, holes
            "ed13",                                     // mode 4755
            "e807",                                     // uid 1000
            "64",                                       // gid 100
            "03616461",                                 // "ada"
            "057573657273",                             // "users"
            "80c49fd50c 959aef3a",                      // mtime
            "0205",                                     // ctime: one second later, 5 ns
            "ff83af5f00",                               // birth: 100,000,000 seconds before mtime
            "80fc03",                                   // device
            "4d",                                       // inode
            "02",                                       // links
            "808040",                                   // size
            "02 06757365722e61 0131 06757365722e62 00", // attributes
            "02 8020 8040 80a003 8020",                 // holes: 4096 +8192; 53248 further +4096
        ]
        .concat()
        .replace(' ', "");
        assert_eq!(hex(&encoded(&full())), expected);

        let mut link = Metadata::new(Kind::Symlink);
        link.mode = 0o777;
        link.link_target = Some(b"x".to_vec());
        link.size = 1;
        assert_eq!(hex(&encoded(&link)), "03 10 ff03 00 00 00 00 00 00 0178".replace(' ', ""));

        let mut device = Metadata::new(Kind::BlockDevice);
        device.device_number = Some((8, 1));
        assert_eq!(hex(&encoded(&device)), "07 10 00 00 00 00 00 00 00 08 01".replace(' ', ""));
    }

    /// The example that stands in a section of FORMAT.md, its digits alone.
    fn example_of(section: &str) -> String {
        let law = include_str!("../../../docs/FORMAT.md");
        let (_, from) = law.split_once(&format!("\n## {section}\n")).unwrap();
        let section = from.split("\n## ").next().unwrap();
        section.split("```").nth(1).unwrap().split_whitespace().collect()
    }

    #[test]
    fn the_law_shows_these_bytes() {
        let hex: String = encoded(&full()).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(example_of("Metadata"), hex);
    }

    #[test]
    fn a_field_of_a_newer_version_is_refused_as_such() {
        let mut bytes = encoded(&Metadata::new(Kind::Directory));
        bytes.splice(1..2, [0x90, 0x02]);
        let error = Metadata::decode(&mut Decoder::new(&bytes)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NewerFormat);
    }

    #[test]
    fn what_breaks_a_rule_is_refused() {
        let breaks: [fn(&mut Metadata); 9] = [
            |m| m.mode = 0o10000,
            |m| m.mtime.nanoseconds = 1_000_000_000,
            |m| m.device_number = Some((1, 1)),
            |m| m.link_target = Some(b"x".to_vec()),
            |m| m.xattrs.reverse(),
            |m| m.xattrs.push((b"user.b".to_vec(), Vec::new())),
            |m| m.holes[1].offset = 4096 + 8192,
            |m| m.holes[0].length = 0,
            |m| m.holes[1].length = u64::MAX,
        ];
        for (number, spoil) in breaks.iter().enumerate() {
            let mut metadata = full();
            spoil(&mut metadata);
            assert_eq!(metadata.check().unwrap_err().kind(), ErrorKind::Damage, "{number}");
        }
    }

    #[test]
    fn a_huge_count_reserves_nothing() {
        let mut bytes = encoded(&Metadata::new(Kind::File));
        bytes[1] |= 0x80;
        put_varint(&mut bytes, u64::MAX >> 1);
        assert_eq!(Metadata::decode(&mut Decoder::new(&bytes)).unwrap_err().kind(), ErrorKind::Damage);
    }

    proptest! {
        #[test]
        fn metadata_come_back(metadata in any_metadata(), tail in vec(any::<u8>(), 0..4)) {
            let mut bytes = encoded(&metadata);
            let length = bytes.len();
            bytes.extend_from_slice(&tail);
            let mut decoder = Decoder::new(&bytes);
            prop_assert_eq!(Metadata::decode(&mut decoder).unwrap(), metadata);
            prop_assert_eq!(decoder.position(), length);
        }

        #[test]
        fn every_cut_is_refused(metadata in any_metadata()) {
            let bytes = encoded(&metadata);
            for length in 0..bytes.len() {
                prop_assert!(Metadata::decode(&mut Decoder::new(&bytes[..length])).is_err());
            }
        }

        #[test]
        fn one_value_has_one_encoding(metadata in any_metadata(), place in any::<prop::sample::Index>(), flip in 1u8..=255) {
            let mut bytes = encoded(&metadata);
            let place = place.index(bytes.len());
            bytes[place] ^= flip;
            let mut decoder = Decoder::new(&bytes);
            if let Ok(other) = Metadata::decode(&mut decoder) {
                prop_assert_eq!(encoded(&other), &bytes[..decoder.position()]);
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..80)) {
            let mut decoder = Decoder::new(&bytes);
            if let Ok(metadata) = Metadata::decode(&mut decoder) {
                prop_assert_eq!(encoded(&metadata), &bytes[..decoder.position()]);
            }
        }
    }
}
