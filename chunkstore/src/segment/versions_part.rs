//! The versions part: records, one behind the other, in as few bytes as they need.
//!
//! Between the records of one piece the writer and the reader remember the same things (the last key, time, owner, inode, device and mode), so
//! that a record says only in what it differs: keys share their front with the key before, times and inodes are distances,
//! owners have numbers. Each piece starts with nothing remembered: it can be read alone. Ids of Versions and of new Files are derived
//! and take no byte. Bytes: FORMAT.md, records.

use crate::codec::{Decoder, put_slice, put_varint};
use crate::entry_key::EntryKey;
use crate::error::{Error, Result};
use crate::id::{ChunkId, FileId, ListId};
use crate::metadata::{Kind, Metadata, Timestamp};
use crate::seal::newer;
use crate::version::{Contents, FileOrigin, INLINE_CHUNKS_MAX, Marks};

use super::fields::{
    put_holes, put_xattrs, take_holes, take_mode, take_nanoseconds, take_xattrs, unzigzag, zigzag,
};
use super::lists::ListNode;
use super::records::{CommitRecord, EntryRecord, Record, RunRecord, SeenRecord};

const RUN: u64 = 1;
const ENTRY: u64 = 2;
const GONE: u64 = 3;
const SEEN: u64 = 4;
const LIST: u64 = 5;
const COMMIT: u64 = 6;

/// The low bit of a tag: one that does not know the kind must refuse the piece, instead of passing over the record.
const MUST_UNDERSTAND: u64 = 1;

// Flags of an entry record, behind three bits of kind and two of origin.
const ORIGIN_SHIFT: u32 = 3;
const HAS_BIRTH: u64 = 1 << 5;
const HAS_CONTENTS: u64 = 1 << 6;
const NEW_OWNER: u64 = 1 << 7;
const NEW_MODE: u64 = 1 << 8;
const CTIME_IS_MTIME: u64 = 1 << 9;
const BIRTH_IS_MTIME: u64 = 1 << 10;
const HAS_LINKS: u64 = 1 << 11;
const HAS_XATTRS: u64 = 1 << 12;
const HAS_HOLES: u64 = 1 << 13;
const HAS_MARKS: u64 = 1 << 14;
const NEW_DEVICE: u64 = 1 << 15;
const CONTENTS_LIST: u64 = 1 << 16;
const HAS_DEVICE_NUMBER: u64 = 1 << 17;
const HAS_LINK_TARGET: u64 = 1 << 18;
const FLAGS_END: u64 = 1 << 19;

#[derive(Clone, Debug)]
struct Owner {
    uid: u32,
    gid: u32,
    user: Vec<u8>,
    group: Vec<u8>,
}

impl Owner {
    fn is_of(&self, metadata: &Metadata) -> bool {
        (self.uid, self.gid, &self.user, &self.group)
            == (metadata.uid, metadata.gid, &metadata.user, &metadata.group)
    }
}

/// What writer and reader remember between records.
#[derive(Debug, Default)]
struct Memory {
    key: Vec<u8>,
    mtime: i64,
    inode: u64,
    device: u64,
    /// The last mode of directories, and of everything else.
    modes: [u16; 2],
    owners: Vec<Owner>,
    owner: usize,
}

impl Memory {
    fn mode(&mut self, kind: Kind) -> &mut u16 {
        let [other, directory] = &mut self.modes;
        if kind == Kind::Directory { directory } else { other }
    }
}

/// Gathers the records of one piece.
#[derive(Debug, Default)]
pub struct RecordWriter {
    out: Vec<u8>,
    body: Vec<u8>,
    memory: Memory,
}

impl RecordWriter {
    /// A writer with no records.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes so far.
    pub fn len(&self) -> usize {
        self.out.len()
    }

    /// Whether there are no records.
    pub fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    /// The plaintext of the versions part; the writer starts anew.
    pub fn take(&mut self) -> Vec<u8> {
        let out = std::mem::take(&mut self.out);
        *self = Self::default();
        out
    }

    fn finish_record(&mut self, kind: u64) {
        put_varint(&mut self.out, kind << 1 | MUST_UNDERSTAND);
        put_slice(&mut self.out, &self.body);
        self.body.clear();
    }

    /// A run begins.
    pub fn run(&mut self, run: &RunRecord) {
        run.put(&mut self.body);
        self.finish_record(RUN);
    }

    /// The run is whole.
    pub fn commit(&mut self, commit: &CommitRecord) {
        commit.put(&mut self.body);
        self.finish_record(COMMIT);
    }

    /// A list.
    pub fn list(&mut self, node: &ListNode) {
        self.body.extend_from_slice(&node.encode());
        self.finish_record(LIST);
    }

    /// An entry is gone.
    pub fn gone(&mut self, key: &EntryKey) {
        self.put_key(key);
        self.finish_record(GONE);
    }

    /// An entry is as before.
    pub fn seen(&mut self, seen: &SeenRecord) {
        self.put_key(&seen.key);
        self.body.push(seen.marks.0);
        self.put_ctime(seen.ctime, self.memory.mtime);
        self.put_inode(seen.inode);
        put_varint(&mut self.body, seen.device);
        self.finish_record(SEEN);
    }

    fn put_key(&mut self, key: &EntryKey) {
        let bytes = key.as_bytes();
        let shared = bytes.iter().zip(&self.memory.key).take_while(|(a, b)| a == b).count();
        let (_, rest) = bytes.split_at_checked(shared).unwrap_or((&[], bytes));
        put_varint(&mut self.body, shared as u64);
        put_slice(&mut self.body, rest);
        self.memory.key.clear();
        self.memory.key.extend_from_slice(bytes);
    }

    fn put_ctime(&mut self, time: Timestamp, from: i64) {
        put_varint(&mut self.body, zigzag(time.seconds.wrapping_sub(from)));
        put_varint(&mut self.body, u64::from(time.nanoseconds));
    }

    fn put_inode(&mut self, inode: u64) {
        put_varint(&mut self.body, zigzag(inode.wrapping_sub(self.memory.inode).cast_signed()));
        self.memory.inode = inode;
    }

    /// An entry is new or changed.
    pub fn entry(
        &mut self,
        key: &EntryKey,
        file: FileOrigin,
        metadata: &Metadata,
        contents: &Contents,
        marks: Marks,
    ) {
        let same_owner = self.memory.owners.get(self.memory.owner).is_some_and(|owner| owner.is_of(metadata));
        let same_mode = *self.memory.mode(metadata.kind) == metadata.mode;
        let birth_is_mtime = metadata.birth == Some(metadata.mtime);
        let ctime_is_mtime = metadata.ctime == metadata.mtime;
        let origin = match file {
            FileOrigin::New => 0,
            FileOrigin::SameAsPredecessor => 1,
            FileOrigin::Explicit(_) => 2,
        };
        let mut flags = u64::from(metadata.kind as u8 - 1) | origin << ORIGIN_SHIFT;
        let mut set = |condition: bool, bit: u64| flags |= if condition { bit } else { 0 };
        set(metadata.birth.is_some() && !birth_is_mtime, HAS_BIRTH);
        set(*contents != Contents::None, HAS_CONTENTS);
        set(!same_owner, NEW_OWNER);
        set(!same_mode, NEW_MODE);
        set(ctime_is_mtime, CTIME_IS_MTIME);
        set(birth_is_mtime, BIRTH_IS_MTIME);
        set(metadata.links != 1, HAS_LINKS);
        set(!metadata.xattrs.is_empty(), HAS_XATTRS);
        set(!metadata.holes.is_empty(), HAS_HOLES);
        set(marks != Marks::NONE, HAS_MARKS);
        set(metadata.device != self.memory.device, NEW_DEVICE);
        set(matches!(contents, Contents::List { .. }), CONTENTS_LIST);
        set(metadata.device_number.is_some(), HAS_DEVICE_NUMBER);
        set(metadata.link_target.is_some(), HAS_LINK_TARGET);

        put_varint(&mut self.body, flags);
        self.put_key(key);
        if let FileOrigin::Explicit(id) = file {
            self.body.extend_from_slice(id.as_bytes());
        }
        if !same_owner {
            self.put_owner(metadata);
        }
        if !same_mode {
            put_varint(&mut self.body, u64::from(metadata.mode));
            *self.memory.mode(metadata.kind) = metadata.mode;
        }
        self.put_ctime(metadata.mtime, self.memory.mtime);
        self.memory.mtime = metadata.mtime.seconds;
        if !ctime_is_mtime {
            self.put_ctime(metadata.ctime, metadata.mtime.seconds);
        }
        if let (Some(birth), false) = (metadata.birth, birth_is_mtime) {
            self.put_ctime(birth, metadata.mtime.seconds);
        }
        put_varint(&mut self.body, metadata.size);
        self.put_inode(metadata.inode);
        if metadata.device != self.memory.device {
            put_varint(&mut self.body, metadata.device);
            self.memory.device = metadata.device;
        }
        if metadata.links != 1 {
            put_varint(&mut self.body, metadata.links);
        }
        if marks != Marks::NONE {
            self.body.push(marks.0);
        }
        if let Some((major, minor)) = metadata.device_number {
            put_varint(&mut self.body, u64::from(major));
            put_varint(&mut self.body, u64::from(minor));
        }
        if let Some(target) = &metadata.link_target {
            put_slice(&mut self.body, target);
        }
        if !metadata.xattrs.is_empty() {
            put_xattrs(&mut self.body, &metadata.xattrs);
        }
        if !metadata.holes.is_empty() {
            put_holes(&mut self.body, &metadata.holes);
        }
        self.put_contents(contents);
        self.finish_record(ENTRY);
    }

    fn put_owner(&mut self, metadata: &Metadata) {
        let known = self.memory.owners.iter().position(|known| known.is_of(metadata));
        self.memory.owner = known.unwrap_or(self.memory.owners.len());
        put_varint(&mut self.body, self.memory.owner as u64);
        if known.is_none() {
            put_varint(&mut self.body, u64::from(metadata.uid));
            put_varint(&mut self.body, u64::from(metadata.gid));
            put_slice(&mut self.body, &metadata.user);
            put_slice(&mut self.body, &metadata.group);
            self.memory.owners.push(Owner {
                uid: metadata.uid,
                gid: metadata.gid,
                user: metadata.user.clone(),
                group: metadata.group.clone(),
            });
        }
    }

    fn put_contents(&mut self, contents: &Contents) {
        match contents {
            Contents::None => {}
            Contents::Inline(ids) => {
                assert!((1..=INLINE_CHUNKS_MAX).contains(&ids.len()), "as many chunks as stay inline");
                put_varint(&mut self.body, ids.len() as u64);
                for id in ids {
                    self.body.extend_from_slice(id.as_bytes());
                }
            }
            Contents::List { id, count } => {
                put_varint(&mut self.body, *count);
                self.body.extend_from_slice(id.as_bytes());
            }
        }
    }
}

/// Gives the records of one piece, in order.
#[derive(Debug)]
pub struct RecordReader<'a> {
    from: Decoder<'a>,
    memory: Memory,
}

impl<'a> RecordReader<'a> {
    /// A reader at the front of the plaintext of a versions part.
    pub fn new(records: &'a [u8]) -> Self {
        Self { from: Decoder::new(records), memory: Memory::default() }
    }

    /// The next record; `None` behind the last. Records of unknown kinds are passed over if they allow it.
    ///
    /// # Errors
    /// Damage, naming the field; newer format if an unknown record must be understood.
    pub fn next_record(&mut self) -> Result<Option<Record>> {
        while !self.from.is_empty() {
            let position = self.from.position();
            let tag = self.from.varint("tag of a record")?;
            let body = self.from.slice("a record")?;
            match self.record(tag >> 1, body) {
                Ok(Some(record)) => return Ok(Some(record)),
                Ok(None) if tag >> 1 == 0 => return Err(Error::damage("kind 0 of a record is none")),
                Ok(None) if tag & MUST_UNDERSTAND != 0 => {
                    return Err(newer(format!("a record of kind {}", tag >> 1)));
                }
                Ok(None) => {}
                Err(error) => return Err(error.at(format!("record at {position}"))),
            }
        }
        Ok(None)
    }

    fn record(&mut self, kind: u64, body: &[u8]) -> Result<Option<Record>> {
        let mut from = Decoder::new(body);
        let record = match kind {
            RUN => Record::Run(RunRecord::take(&mut from)?),
            ENTRY => Record::Entry(Box::new(self.entry(&mut from)?)),
            GONE => Record::Gone(self.key(&mut from)?),
            SEEN => Record::Seen(self.seen(&mut from)?),
            LIST => return Ok(Some(Record::List(ListNode::decode(body)?))),
            COMMIT => Record::Commit(Box::new(CommitRecord::take(&mut from)?)),
            _ => return Ok(None),
        };
        from.finish("a record")?;
        Ok(Some(record))
    }

    fn key(&mut self, from: &mut Decoder<'_>) -> Result<EntryKey> {
        let shared = from.varint_usize("shared bytes of a key")?;
        let rest = from.slice("key")?;
        let Some(front) = self.memory.key.get(..shared) else {
            return Err(Error::damage("key: shares more bytes than the key before has"));
        };
        let key = EntryKey::from_vec([front, rest].concat())?;
        self.memory.key.clear();
        self.memory.key.extend_from_slice(key.as_bytes());
        Ok(key)
    }

    fn time(from: &mut Decoder<'_>, base: i64, field: &str) -> Result<Timestamp> {
        let seconds = base.wrapping_add(unzigzag(from.varint(field)?));
        Ok(Timestamp { seconds, nanoseconds: take_nanoseconds(from, field)? })
    }

    fn inode(&mut self, from: &mut Decoder<'_>) -> Result<u64> {
        let distance = unzigzag(from.varint("inode")?);
        self.memory.inode = self.memory.inode.wrapping_add_signed(distance);
        Ok(self.memory.inode)
    }

    fn seen(&mut self, from: &mut Decoder<'_>) -> Result<SeenRecord> {
        let key = self.key(from)?;
        let marks = Marks::from_bits(from.u8("marks")?)?;
        let ctime = Self::time(from, self.memory.mtime, "ctime")?;
        let inode = self.inode(from)?;
        Ok(SeenRecord { key, ctime, inode, device: from.varint("device")?, marks })
    }

    fn entry(&mut self, from: &mut Decoder<'_>) -> Result<EntryRecord> {
        let flags = from.varint("flags of an entry")?;
        if flags >= FLAGS_END {
            return Err(newer(format!("flags {flags:#x} of an entry")));
        }
        let has = |bit: u64| flags & bit != 0;
        let kind = Kind::from_byte((flags & 7).to_le_bytes()[0] + 1)
            .ok_or_else(|| Error::damage("kind of an entry: 8 is none"))?;
        let key = self.key(from)?;
        let file = match flags >> ORIGIN_SHIFT & 3 {
            0 => FileOrigin::New,
            1 => FileOrigin::SameAsPredecessor,
            2 => FileOrigin::Explicit(FileId::from_bytes(from.array("File")?)),
            _ => return Err(Error::damage("origin of a File: 3 is none")),
        };
        if has(NEW_OWNER) {
            self.new_owner(from)?;
        }
        let owner = self.memory.owners.get(self.memory.owner).cloned();
        let owner = owner.ok_or_else(|| Error::damage("owner: the first entry has none"))?;
        if has(NEW_MODE) {
            *self.memory.mode(kind) = take_mode(from)?;
        }
        let mode = *self.memory.mode(kind);
        let mtime = Self::time(from, self.memory.mtime, "mtime")?;
        self.memory.mtime = mtime.seconds;
        let ctime = if has(CTIME_IS_MTIME) { mtime } else { Self::time(from, mtime.seconds, "ctime")? };
        let birth = match (has(HAS_BIRTH), has(BIRTH_IS_MTIME)) {
            (true, _) => Some(Self::time(from, mtime.seconds, "birth time")?),
            (false, true) => Some(mtime),
            (false, false) => None,
        };
        let size = from.varint("size")?;
        let inode = self.inode(from)?;
        if has(NEW_DEVICE) {
            self.memory.device = from.varint("device")?;
        }
        let links = if has(HAS_LINKS) { from.varint("links")? } else { 1 };
        let marks = if has(HAS_MARKS) { Marks::from_bits(from.u8("marks")?)? } else { Marks::NONE };
        let device_number = if has(HAS_DEVICE_NUMBER) {
            Some((from.varint_u32("major number")?, from.varint_u32("minor number")?))
        } else {
            None
        };
        let link_target = if has(HAS_LINK_TARGET) { Some(from.slice("link target")?.to_vec()) } else { None };
        let xattrs = if has(HAS_XATTRS) { take_xattrs(from)? } else { Vec::new() };
        let holes = if has(HAS_HOLES) { take_holes(from, size)? } else { Vec::new() };
        let contents = match (has(HAS_CONTENTS), has(CONTENTS_LIST)) {
            (false, _) => Contents::None,
            (true, false) => take_inline(from)?,
            (true, true) => {
                let count = from.varint("count of chunks")?;
                if count <= INLINE_CHUNKS_MAX as u64 {
                    return Err(Error::damage(format!("contents: a list of {count} chunks")));
                }
                Contents::List { id: ListId::from_bytes(from.array("list")?), count }
            }
        };
        let Owner { uid, gid, user, group } = owner;
        let device = self.memory.device;
        let metadata = Metadata {
            kind,
            mode,
            uid,
            gid,
            user,
            group,
            mtime,
            ctime,
            birth,
            size,
            device,
            inode,
            links,
            device_number,
            link_target,
            xattrs,
            holes,
        };
        metadata.check()?;
        Ok(EntryRecord { key, file, metadata, contents, marks })
    }

    fn new_owner(&mut self, from: &mut Decoder<'_>) -> Result<()> {
        self.memory.owner = from.varint_usize("number of an owner")?;
        if self.memory.owner == self.memory.owners.len() {
            self.memory.owners.push(Owner {
                uid: from.varint_u32("owner")?,
                gid: from.varint_u32("group")?,
                user: from.slice("owner's name")?.to_vec(),
                group: from.slice("group's name")?.to_vec(),
            });
        } else if self.memory.owner > self.memory.owners.len() {
            return Err(Error::damage(format!(
                "number of an owner: {} was not given yet",
                self.memory.owner
            )));
        }
        Ok(())
    }
}

fn take_inline(from: &mut Decoder<'_>) -> Result<Contents> {
    let count = from.varint_usize("count of chunks")?;
    if count == 0 || count > INLINE_CHUNKS_MAX {
        return Err(Error::damage(format!(
            "contents: 1 to {INLINE_CHUNKS_MAX} chunks expected, {count} found"
        )));
    }
    let mut ids = Vec::with_capacity(count);
    for _ in 0..count {
        ids.push(ChunkId::from_bytes(from.array("chunk id")?));
    }
    Ok(Contents::Inline(ids))
}
