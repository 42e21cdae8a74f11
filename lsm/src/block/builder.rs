//! Building a sorted block's payload.

use crate::block::{PAYLOAD_BYTES_MAX, common_prefix, rank_of_stamp};
use crate::codec::put_varint;

/// Gathers entries in order and lays out their block. It is used again and again, keeping its memory.
#[derive(Debug)]
pub struct BlockBuilder {
    bytes: Vec<u8>,
    restarts: Vec<u32>,
    restart_interval: usize,
    since_restart: usize,
    entries: u64,
    last_user: Vec<u8>,
    last_stamp: u64,
}

impl BlockBuilder {
    /// A builder that writes the whole key of each `restart_interval`th entry.
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
        let kept = if self.entries == 0 || self.since_restart == self.restart_interval {
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
        self.entries = 0;
        self.last_user.clear();
        self.last_stamp = 0;
    }
}
