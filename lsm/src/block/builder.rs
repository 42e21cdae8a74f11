//! Building a sorted block's payload.

use crate::block::{PAYLOAD_BYTES_MAX, common_prefix, rank_of_stamp};
use crate::codec::put_varint;

/// Bytes behind a restart from which on the next entry is one too, however few entries lie between: a search reads what each entry on its way begins
/// with, and where entries are large each of these is a wait for memory.
const RESTART_BYTES: usize = 512;

/// Such a restart repeats what its key shares with the one before: only where what lies between is this many times as much.
const RESTART_PART: usize = 16;

/// Gathers entries in order and lays out their block. It is used again and again, keeping its memory.
#[derive(Debug)]
pub struct BlockBuilder {
    bytes: Vec<u8>,
    restarts: Vec<u32>,
    restart_interval: usize,
    since_restart: usize,
    /// Where the whole key of the last restart ends.
    restart_key_end: usize,
    entries: u64,
    last_user: Vec<u8>,
    last_stamp: u64,
}

impl BlockBuilder {
    /// A builder that writes the whole key of each `restart_interval`th entry, and of more where entries are large.
    ///
    /// # Panics
    /// If the interval is 0.
    pub fn new(restart_interval: usize) -> Self {
        assert!(restart_interval > 0, "every entry needs a restart at or before it");
        Self {
            bytes: Vec::new(),
            restarts: Vec::new(),
            restart_interval,
            since_restart: 0,
            restart_key_end: 0,
            entries: 0,
            last_user: Vec::new(),
            last_stamp: 0,
        }
    }

    /// Adds an entry: `stamp` is its sequence number times eight, plus its kind.
    ///
    /// # Panics
    /// If it is not above the one before it.
    pub fn add(&mut self, user: &[u8], stamp: u64, value: &[u8]) {
        let shared = common_prefix(&self.last_user, user);
        if self.entries > 0 {
            let above = match (self.last_user.get(shared), user.get(shared)) {
                (Some(last), Some(this)) => this > last,
                (None, Some(_)) => true,
                (None, None) => rank_of_stamp(stamp) > rank_of_stamp(self.last_stamp),
                (Some(_), None) => false,
            };
            assert!(above, "entries are added in ascending order");
        }
        let is_restart = self.entries == 0
            || self.since_restart == self.restart_interval
            || self.bytes.len() - self.restart_key_end >= RESTART_BYTES.max(RESTART_PART * shared);
        let kept = if is_restart {
            let offset = u32::try_from(self.bytes.len()).expect("finish() holds blocks below 2^29 bytes");
            self.restarts.push(offset);
            self.since_restart = 0;
            0
        } else {
            shared
        };
        let suffix = user.get(kept..).unwrap_or_default();
        put_varint(&mut self.bytes, kept as u64);
        put_varint(&mut self.bytes, suffix.len() as u64);
        put_varint(&mut self.bytes, value.len() as u64);
        put_varint(&mut self.bytes, stamp);
        self.bytes.extend_from_slice(suffix);
        if is_restart {
            self.restart_key_end = self.bytes.len();
        }
        self.bytes.extend_from_slice(value);
        self.last_user.truncate(shared);
        self.last_user.extend_from_slice(user.get(shared..).unwrap_or_default());
        self.last_stamp = stamp;
        self.since_restart += 1;
        self.entries += 1;
    }

    /// How long the payload would be now.
    pub fn payload_bytes(&self) -> usize {
        self.bytes.len() + 4 * self.restarts.len() + 4
    }

    /// How many entries it holds.
    pub fn entries(&self) -> u64 {
        self.entries
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.entries == 0
    }

    /// The user key of the last entry, and its stamp.
    pub fn last(&self) -> (&[u8], u64) {
        (&self.last_user, self.last_stamp)
    }

    /// The finished payload. [`Self::clear`] then begins the next.
    ///
    /// # Panics
    /// If it is empty or above [`PAYLOAD_BYTES_MAX`]: its reader would refuse it.
    pub fn finish(&mut self) -> &[u8] {
        assert!(!self.is_empty(), "an empty block is not written");
        for restart in &self.restarts {
            self.bytes.extend_from_slice(&restart.to_le_bytes());
        }
        let count = u32::try_from(self.restarts.len()).expect("fewer restarts than bytes");
        self.bytes.extend_from_slice(&count.to_le_bytes());
        assert!(self.bytes.len() <= PAYLOAD_BYTES_MAX, "the caller closes blocks long before");
        &self.bytes
    }

    /// Begins anew.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.restarts.clear();
        self.since_restart = 0;
        self.restart_key_end = 0;
        self.entries = 0;
        self.last_user.clear();
        self.last_stamp = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::{Block, BlockIter, BlockKind};
    use crate::iter::InternalIterator;

    fn restarts(key: impl Fn(usize) -> Vec<u8>, value_bytes: usize) -> usize {
        let mut builder = BlockBuilder::new(16);
        let value = vec![7; value_bytes];
        (0..64).for_each(|number| builder.add(&key(number), 9, &value));
        let count = builder.restarts.len();
        let mut iter = BlockIter::new(Block::sorted(builder.finish(), BlockKind::Data).unwrap());
        iter.seek_to_first().unwrap();
        for number in 0..64 {
            assert_eq!((iter.user_key(), iter.value()), (&key(number)[..], &value[..]));
            iter.next().unwrap();
        }
        assert!(!iter.valid());
        count
    }

    #[test]
    fn large_entries_have_more_restarts_than_small_ones() {
        let short = |number: usize| format!("key/{number:04}").into_bytes();
        assert_eq!(restarts(short, 10), 4, "one in sixteen");
        assert_eq!(restarts(short, 1000), 64, "each");
        let long = |number: usize| [&[b'k'; 100][..], format!("{number:04}").as_bytes()].concat();
        assert_eq!(restarts(long, 10), 4);
        assert_eq!(
            restarts(long, 500),
            16,
            "no more than a sixteenth of the bytes are keys that are repeated"
        );
    }
}
