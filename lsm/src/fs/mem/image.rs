//! A file's bytes as pages that copies share until one of them changes.

use std::sync::Arc;

/// The unit in which a disk writes: after a crash each is as it was before an unsynced write, or after it.
pub(super) const SECTOR_BYTES: usize = 512;

/// The unit in which images share memory.
const PAGE_BYTES: usize = 4096;

/// One sector's bytes.
pub(super) type Sector = [u8; SECTOR_BYTES];

/// Bytes and a length. Bytes beyond the length are zero, as is a page that is not there.
#[derive(Clone, Debug, Default)]
pub(super) struct Image {
    length: u64,
    pages: Vec<Option<Arc<[u8; PAGE_BYTES]>>>,
}

/// An offset in memory.
#[expect(clippy::cast_possible_truncation, reason = "bytes held in memory have addresses")]
fn index(offset: u64) -> usize {
    offset as usize
}

impl Image {
    pub(super) fn len(&self) -> u64 {
        self.length
    }

    /// Bytes that the image takes in memory (and would on a disk).
    pub(super) fn allocated(&self) -> u64 {
        (self.pages.iter().flatten().count() * PAGE_BYTES) as u64
    }

    /// Copies bytes out, as many as there are before the end; returns how many.
    pub(super) fn read(&self, buffer: &mut [u8], offset: u64) -> usize {
        let left = index(self.length.saturating_sub(offset));
        let count = buffer.len().min(left);
        let Some(mut buffer) = buffer.get_mut(..count) else { return 0 };
        let mut at = index(offset);
        while !buffer.is_empty() {
            let in_page = at % PAGE_BYTES;
            let take = buffer.len().min(PAGE_BYTES - in_page);
            let (head, rest) = buffer.split_at_mut(take);
            match self.pages.get(at / PAGE_BYTES).and_then(Option::as_deref) {
                Some(page) => head.copy_from_slice(page.get(in_page..in_page + take).unwrap_or(&[])),
                None => head.fill(0),
            }
            buffer = rest;
            at += take;
        }
        count
    }

    /// Copies bytes in; the image grows as needed.
    pub(super) fn write(&mut self, mut bytes: &[u8], offset: u64) {
        let mut at = index(offset);
        self.length = self.length.max(offset + bytes.len() as u64);
        while !bytes.is_empty() {
            let in_page = at % PAGE_BYTES;
            let take = bytes.len().min(PAGE_BYTES - in_page);
            let (head, rest) = bytes.split_at(take);
            if let Some(target) = self.page_mut(at / PAGE_BYTES).get_mut(in_page..in_page + take) {
                target.copy_from_slice(head);
            }
            bytes = rest;
            at += take;
        }
    }

    fn page_mut(&mut self, page: usize) -> &mut [u8; PAGE_BYTES] {
        if self.pages.len() <= page {
            self.pages.resize(page + 1, None);
        }
        match self.pages.get_mut(page) {
            Some(slot) => Arc::make_mut(slot.get_or_insert_with(|| Arc::new([0; PAGE_BYTES]))),
            None => unreachable!("the vector was just made long enough"),
        }
    }

    /// One sector, zeros where the image ends in it or before it.
    pub(super) fn sector(&self, sector: u64) -> Sector {
        let mut bytes = [0; SECTOR_BYTES];
        self.read(&mut bytes, sector * SECTOR_BYTES as u64);
        bytes
    }

    /// Replaces a sector without changing the length: what lies beyond it stays invisible until the length grows.
    pub(super) fn set_sector(&mut self, sector: u64, bytes: &Sector) {
        let length = self.length;
        self.write(bytes, sector * SECTOR_BYTES as u64);
        self.length = length;
    }

    /// Sets the length; what is cut off is forgotten.
    pub(super) fn set_len(&mut self, length: u64) {
        self.length = length;
        let whole = index(length).div_ceil(PAGE_BYTES);
        self.pages.truncate(whole);
        let in_page = index(length) % PAGE_BYTES;
        if in_page > 0
            && let Some(Some(page)) = self.pages.get_mut(index(length) / PAGE_BYTES)
            && let Some(tail) = Arc::make_mut(page).get_mut(in_page..)
        {
            tail.fill(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_image_is_a_vector_of_bytes(
            steps in proptest::collection::vec((0usize..20_000, 0usize..9_000, any::<u8>(), any::<bool>()), 1..20)
        ) {
            let (mut image, mut model) = (Image::default(), Vec::<u8>::new());
            for (offset, count, byte, cut) in steps {
                if cut {
                    image.set_len(offset as u64);
                    model.resize(offset, 0);
                } else {
                    image.write(&vec![byte; count], offset as u64);
                    let end = offset + count;
                    if model.len() < end {
                        model.resize(end, 0);
                    }
                    model[offset..end].fill(byte);
                }
                prop_assert_eq!(image.len(), model.len() as u64);
                let mut back = vec![1; model.len() + 1];
                prop_assert_eq!(image.read(&mut back, 0), model.len());
                prop_assert_eq!(&back[..model.len()], &model[..]);
            }
        }
    }
}
