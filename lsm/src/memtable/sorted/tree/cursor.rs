//! A place among the entries of a tree, which it keeps alive.

use std::sync::Arc;

use super::Tree;
use super::arena::{Entry, Link};
use super::node::{LEAF_ENTRIES, Leaf, Order, Target};

/// A cursor over the entries of a tree.
pub(in super::super) struct Cursor {
    tree: Arc<Tree>,
    copy: Copied,
}

/// The entries of a leaf as they were at one moment, and a place among them. What is put in meanwhile is not visible to whoever reads at an older
/// sequence number.
struct Copied {
    /// Where they come from, and which leaf followed then.
    leaf: Link<Leaf>,
    next: Link<Leaf>,
    entries: [Option<Entry<'static>>; LEAF_ENTRIES],
    count: usize,
    /// The count: nowhere.
    index: usize,
    /// How many copies were made.
    copies: u64,
}

/// Where to stand in a leaf.
#[derive(Clone, Copy)]
enum At {
    First,
    Last,
    Rank(usize),
}

type Place<'a> = Option<(&'a Leaf, Order, At)>;

fn first_of(leaf: &Leaf) -> Place<'_> {
    Some((leaf, leaf.order(), At::First))
}

fn last_of(leaf: &Leaf) -> Place<'_> {
    Some((leaf, leaf.order(), At::Last))
}

impl Copied {
    /// Stands at a place that is found in `tree` as it is now; nowhere, where there is none.
    fn enter<'a>(&mut self, tree: &'a Tree, find: impl Fn() -> Place<'a>) {
        self.copies += 1;
        tree.stable(|| {
            (self.count, self.index) = (0, 0);
            let Some((leaf, order, at)) = find() else { return };
            for (rank, to) in self.entries.iter_mut().take(order.count()).enumerate() {
                *to = leaf.entry(order, rank).map(Entry::detach);
            }
            self.count = order.count().min(LEAF_ENTRIES);
            self.index = match at {
                At::First => 0,
                At::Last => self.count.saturating_sub(1),
                At::Rank(rank) => rank,
            };
            self.leaf.store(Some(leaf));
            self.next.store(leaf.next.load());
        });
    }
}

impl Cursor {
    /// A cursor that stands nowhere yet.
    pub(in super::super) fn new(tree: Arc<Tree>) -> Self {
        let entries = [None; LEAF_ENTRIES];
        let copy = Copied { leaf: Link::new(), next: Link::new(), entries, count: 0, index: 0, copies: 0 };
        Self { tree, copy }
    }

    pub(in super::super) fn seek_to_first(&mut self) {
        let tree = &*self.tree;
        self.copy.enter(tree, || first_of(tree.first.load()?));
    }

    pub(in super::super) fn seek_to_last(&mut self) {
        let tree = &*self.tree;
        self.copy.enter(tree, || last_of(tree.last.load()?));
    }

    /// Stands on the first entry at or above the key.
    pub(in super::super) fn seek(&mut self, user: &[u8], trailer: u64) {
        let tree = &*self.tree;
        self.copy.enter(tree, || {
            let (leaf, order, rank) = tree.lower_bound(Target { user, trailer })?;
            Some((leaf, order, At::Rank(rank)))
        });
    }

    /// Stands on the last entry at or below the key.
    pub(in super::super) fn seek_for_prev(&mut self, user: &[u8], trailer: u64) {
        let tree = &*self.tree;
        self.copy.enter(tree, || {
            let (leaf, order, rank) = tree.last_at_or_below(Target { user, trailer })?;
            Some((leaf, order, At::Rank(rank)))
        });
    }

    /// One entry on, if it stands somewhere.
    #[inline]
    pub(in super::super) fn next(&mut self) {
        if self.copy.index + 1 < self.copy.count {
            self.copy.index += 1;
        } else if self.valid() {
            self.enter_next();
        }
    }

    /// One entry back, if it stands somewhere.
    #[inline]
    pub(in super::super) fn prev(&mut self) {
        match self.copy.index.checked_sub(1) {
            Some(index) if self.valid() => self.copy.index = index,
            None if self.valid() => self.enter_prev(),
            _ => {}
        }
    }

    /// The leaf that followed when this one was copied. (Another may follow by now, split off from this one; its entries are here.) It still
    /// begins where this copy ends: all but the first leaf begin for ever with the same entry.
    fn enter_next(&mut self) {
        let next = std::mem::replace(&mut self.copy.next, Link::new());
        self.copy.enter(&self.tree, || first_of(next.load()?));
    }

    /// The leaf before this one, as it is now: it ends where this one begins.
    fn enter_prev(&mut self) {
        let leaf = std::mem::replace(&mut self.copy.leaf, Link::new());
        self.copy.enter(&self.tree, || last_of(leaf.load()?.prev.load()?));
    }

    #[inline]
    pub(in super::super) fn valid(&self) -> bool {
        self.copy.index < self.copy.count
    }

    /// How often it copied a leaf: while that is the same, all that it stands on was there at one moment.
    pub(in super::super) fn copies(&self) -> u64 {
        self.copy.copies
    }

    #[inline]
    fn entry(&self) -> Option<Entry<'_>> {
        if self.valid() { self.copy.entries.get(self.copy.index).copied().flatten() } else { None }
    }

    /// The internal key of the entry; empty where there is none.
    #[inline]
    pub(in super::super) fn key(&self) -> &[u8] {
        self.entry().map_or(&[], Entry::internal_key)
    }

    /// User key and trailer of the entry.
    #[inline]
    pub(in super::super) fn place(&self) -> Option<(&[u8], u64)> {
        self.entry().map(|entry| (entry.user(), entry.trailer()))
    }

    /// The value of the entry; empty where there is none.
    #[inline]
    pub(in super::super) fn value(&self) -> &[u8] {
        self.entry().map_or(&[], Entry::value)
    }
}
