//! The nodes of the tree, and searching in one.
//!
//! Every field is atomic: readers look while the writer writes. What they see may be half of a change; whether it was is asked afterwards
//! ([`super::Tree::stable`]). So nothing here may depend on what it finds for more than its answer.

use std::cmp::Ordering as KeyOrder;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::arena::{Entry, Link, Slot};
use crate::block::{common_prefix, prefix_number};
use crate::key;
use crate::memory;

/// Entries of a leaf: their order fits one word, the leaf four cache lines.
pub(super) const LEAF_ENTRIES: usize = 14;

/// Numbers of eight bytes in a line of the processor's cache.
const LINE_NUMBERS: usize = 8;

/// Children of an inner node.
pub(super) const INNER_CHILDREN: usize = 64;

const _: () = assert!(size_of::<Leaf>() == 256);

/// What is looked for: a user key, and the trailer as a number.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target<'a> {
    pub(super) user: &'a [u8],
    pub(super) trailer: u64,
}

impl<'a> Target<'a> {
    pub(super) fn of(entry: Entry<'a>) -> Self {
        Self { user: entry.user(), trailer: entry.trailer() }
    }

    /// The eight bytes behind the first `skip`, as a number that orders as they do.
    #[inline]
    pub(super) fn prefix(self, skip: usize) -> u64 {
        prefix_number(self.user.get(skip..).unwrap_or_default())
    }

    #[inline]
    pub(super) fn compare(self, entry: Entry<'_>) -> KeyOrder {
        key::order(self.user, entry.user()).then_with(|| self.trailer.cmp(&entry.trailer()))
    }
}

/// A node's new skip is worth the trouble when it is longer by this: then the eight bytes behind it tell keys apart that they did not before.
const SKIP_BYTES_MORE: u32 = 4;

/// How many bytes to skip in a node that takes keys from `lower` up to `upper`: those that all of them begin with alike, or `before`, which is known to be
/// right, where that is hardly fewer.
pub(super) fn skip_between(before: u32, [lower, upper]: [Option<Entry<'_>>; 2]) -> u32 {
    let (Some(lower), Some(upper)) = (lower, upper) else { return before };
    let skip = u32::try_from(common_prefix(lower.user(), upper.user())).unwrap_or(0);
    if skip >= before + SKIP_BYTES_MORE { skip } else { before }
}

/// An entry with its [`Target::prefix`] behind some skip.
pub(super) type Prefixed<'a> = (u64, Entry<'a>);

/// Which entries a leaf has and in which order, in one word: the count in the lowest four bits, then four bits for each rank: the slot of the
/// entry of that rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Order(u64);

impl Order {
    const EMPTY: Self = Self(0);

    /// The first `count` slots, in their order.
    fn identity(count: usize) -> Self {
        (0..count).fold(Self::EMPTY, |order, rank| order.insert(rank, rank))
    }

    #[inline]
    pub(super) fn count(self) -> usize {
        (self.0 & 0xf) as usize
    }

    #[inline]
    fn slot(self, rank: usize) -> usize {
        ((self.0 >> (4 + 4 * (rank & 0xf))) & 0xf) as usize
    }

    /// With one more entry, at `rank`, in `slot`.
    fn insert(self, rank: usize, slot: usize) -> Self {
        debug_assert!(rank <= self.count() && self.count() < LEAF_ENTRIES && slot < LEAF_ENTRIES);
        let slots = self.0 >> 4;
        let below = slots & ((1 << (4 * rank)) - 1);
        let above = slots >> (4 * rank) << (4 * rank + 4);
        Self((below | (slot as u64) << (4 * rank) | above) << 4 | (self.count() as u64 + 1))
    }
}

/// Entries in order, and where the next leaf is. The leaves alone are the sorted map; the inner nodes are there to find one.
#[derive(Debug)]
#[repr(C, align(64))]
pub(super) struct Leaf {
    order: AtomicU64,
    /// How many bytes all user keys that may come into it begin with alike.
    skip: AtomicU32,
    pub(super) next: Link<Leaf>,
    pub(super) prev: Link<Leaf>,
    /// The eight bytes behind those of each entry's user key.
    prefixes: [AtomicU64; LEAF_ENTRIES],
    entries: [Slot; LEAF_ENTRIES],
}

impl Leaf {
    /// Asks for all of it, before it is searched: its lines come together, not one after the other as a search asks for them.
    #[inline]
    pub(super) fn prefetch(&self) {
        memory::prefetch(self);
        memory::prefetch_at(&self.prefixes, LINE_NUMBERS);
        memory::prefetch_at(&self.entries, 0);
        memory::prefetch_at(&self.entries, LINE_NUMBERS);
    }

    pub(super) fn new() -> Self {
        Self {
            order: AtomicU64::new(0),
            skip: AtomicU32::new(0),
            next: Link::new(),
            prev: Link::new(),
            prefixes: [const { AtomicU64::new(0) }; LEAF_ENTRIES],
            entries: [const { Slot::new() }; LEAF_ENTRIES],
        }
    }

    pub(super) fn skip(&self) -> u32 {
        self.skip.load(Ordering::Relaxed)
    }

    #[inline]
    pub(super) fn order(&self) -> Order {
        Order(self.order.load(Ordering::Acquire))
    }

    #[inline]
    pub(super) fn entry(&self, order: Order, rank: usize) -> Option<Entry<'_>> {
        if rank < order.count() { self.entries.get(order.slot(rank))?.load() } else { None }
    }

    /// The entry of a rank, with its prefix behind this leaf's skip.
    pub(super) fn prefixed(&self, order: Order, rank: usize) -> Option<Prefixed<'_>> {
        let prefix = self.prefixes.get(order.slot(rank))?.load(Ordering::Relaxed);
        Some((prefix, self.entry(order, rank)?))
    }

    #[inline]
    fn set(&self, slot: usize, (prefix, entry): Prefixed<'_>) {
        if let (Some(to), Some(place)) = (self.entries.get(slot), self.prefixes.get(slot)) {
            place.store(prefix, Ordering::Relaxed);
            to.store(Some(entry));
        }
    }

    /// Puts these, at most [`LEAF_ENTRIES`], in the place of what is there. Their prefixes are behind `known_skip`. Readers may see any mixture
    /// meanwhile.
    pub(super) fn fill(&self, skip: u32, known_skip: u32, entries: &[Prefixed<'_>]) {
        self.skip.store(skip, Ordering::Relaxed);
        let mut count = 0;
        for (slot, &(known, entry)) in entries.iter().take(LEAF_ENTRIES).enumerate() {
            let prefix = if skip == known_skip { known } else { Target::of(entry).prefix(skip as usize) };
            self.set(slot, (prefix, entry));
            count = slot + 1;
        }
        self.order.store(Order::identity(count).0, Ordering::Release);
    }

    /// The rank of the first entry at or above `target`; the count where there is none.
    #[inline]
    pub(super) fn lower_bound(&self, order: Order, target: Target<'_>) -> usize {
        let wanted = target.prefix(self.skip() as usize);
        let (mut low, mut high) = (0, order.count());
        while low < high {
            let middle = (low + high) / 2;
            let prefix =
                self.prefixes.get(order.slot(middle)).map_or(0, |prefix| prefix.load(Ordering::Relaxed));
            let is_below = match prefix.cmp(&wanted) {
                KeyOrder::Equal => {
                    self.entry(order, middle).is_some_and(|entry| target.compare(entry) == KeyOrder::Greater)
                }
                unequal => unequal == KeyOrder::Less,
            };
            (low, high) = if is_below { (middle + 1, high) } else { (low, middle) };
        }
        low
    }

    /// Adds an entry that belongs at `rank`; whether there was room. Readers see the leaf with it or without.
    pub(super) fn insert(&self, order: Order, rank: usize, entry: Entry<'_>) -> bool {
        let slot = order.count();
        if slot == LEAF_ENTRIES {
            return false;
        }
        // Slots from the count on belong to nobody: entries are put in one after the other, and never go but with all behind them.
        self.set(slot, (Target::of(entry).prefix(self.skip() as usize), entry));
        self.order.store(order.insert(rank, slot).0, Ordering::Release);
        true
    }
}

/// What an inner node leads to, with the smallest entry that may be there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Child<'a> {
    /// `None`: the first of all.
    pub(super) lower: Option<Entry<'a>>,
    pub(super) node: Node<'a>,
}

impl Child<'_> {
    fn prefix(&self, skip: u32) -> u64 {
        self.lower.map_or(0, |lower| Target::of(lower).prefix(skip as usize))
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Node<'a> {
    Leaf(&'a Leaf),
    Inner(&'a Inner),
}

/// All of one kind, and that never changes: nobody takes one for the other, whatever else is being changed.
#[derive(Debug)]
enum Children {
    Leaves([Link<Leaf>; INNER_CHILDREN]),
    Inners([Link<Inner>; INNER_CHILDREN]),
}

/// Children in order. It is changed only while [`super::Tree`] says that it is.
#[derive(Debug)]
#[repr(align(64))]
pub(super) struct Inner {
    count: AtomicU32,
    skip: AtomicU32,
    prefixes: [AtomicU64; INNER_CHILDREN],
    lowers: [Slot; INNER_CHILDREN],
    children: Children,
}

impl Inner {
    /// Asks for what a search looks at, likewise.
    #[inline]
    pub(super) fn prefetch(&self) {
        memory::prefetch(self);
        for line in 1..=INNER_CHILDREN / LINE_NUMBERS {
            memory::prefetch_at(&self.prefixes, line * LINE_NUMBERS - 1);
        }
    }

    /// A node with these children, at most [`INNER_CHILDREN`], in order. The first tells the kind of all.
    pub(super) fn new<'a>(skip: u32, children: &[Child<'a>]) -> Self {
        let children_of_a_kind = match children.first().map(|child| child.node) {
            Some(Node::Inner(_)) => Children::Inners([const { Link::new() }; INNER_CHILDREN]),
            _ => Children::Leaves([const { Link::new() }; INNER_CHILDREN]),
        };
        let inner = Self {
            count: AtomicU32::new(0),
            skip: AtomicU32::new(0),
            prefixes: [const { AtomicU64::new(0) }; INNER_CHILDREN],
            lowers: [const { Slot::new() }; INNER_CHILDREN],
            children: children_of_a_kind,
        };
        inner.fill(skip, children);
        inner
    }

    #[inline]
    pub(super) fn count(&self) -> usize {
        (self.count.load(Ordering::Acquire) as usize).min(INNER_CHILDREN)
    }

    /// The smallest entry that may be under a child; `None` under the first of all, and where there is no child.
    #[inline]
    pub(super) fn lower(&self, index: usize) -> Option<Entry<'_>> {
        if index < self.count() { self.lowers.get(index)?.load() } else { None }
    }

    /// A child, of which one is about to be searched.
    #[inline]
    pub(super) fn descend(&self, index: usize) -> Option<Node<'_>> {
        let node = self.node(index)?;
        match node {
            Node::Leaf(leaf) => leaf.prefetch(),
            Node::Inner(inner) => inner.prefetch(),
        }
        Some(node)
    }

    #[inline]
    pub(super) fn node(&self, index: usize) -> Option<Node<'_>> {
        match &self.children {
            Children::Leaves(leaves) => leaves.get(index)?.load().map(Node::Leaf),
            Children::Inners(inners) => inners.get(index)?.load().map(Node::Inner),
        }
    }

    /// The children from `start` up to `end`.
    pub(super) fn children(&self, start: usize, end: usize) -> Vec<Child<'_>> {
        (start..end)
            .filter_map(|index| Some(Child { lower: self.lower(index), node: self.node(index)? }))
            .collect()
    }

    pub(super) fn skip(&self) -> u32 {
        self.skip.load(Ordering::Relaxed)
    }

    fn set(&self, index: usize, prefix: u64, child: Child<'_>) {
        if let (Some(to), Some(lower)) = (self.prefixes.get(index), self.lowers.get(index)) {
            to.store(prefix, Ordering::Relaxed);
            lower.store(child.lower);
        }
        match (&self.children, child.node) {
            (Children::Leaves(to), Node::Leaf(leaf)) => to.get(index).map(|to| to.store(Some(leaf))),
            (Children::Inners(to), Node::Inner(inner)) => to.get(index).map(|to| to.store(Some(inner))),
            _ => unreachable!("children of one node are as far from the leaves as each other"),
        };
    }

    /// Puts these in the place of what is there.
    pub(super) fn fill(&self, skip: u32, children: &[Child<'_>]) {
        self.skip.store(skip, Ordering::Relaxed);
        let children = children.get(..INNER_CHILDREN).unwrap_or(children);
        for (index, child) in children.iter().enumerate() {
            self.set(index, child.prefix(skip), *child);
        }
        self.count.store(u32::try_from(children.len()).unwrap_or(0), Ordering::Release);
    }

    /// Puts a child in at `index`, before those that are there and behind; the caller saw that there is room.
    pub(super) fn insert(&self, index: usize, child: Child<'_>) {
        let count = self.count();
        debug_assert!(index <= count && count < INNER_CHILDREN);
        for from in (index..count).rev() {
            if let (Some(prefix), Some(node)) = (self.prefixes.get(from), self.node(from)) {
                self.set(from + 1, prefix.load(Ordering::Relaxed), Child { lower: self.lower(from), node });
            }
        }
        self.set(index, child.prefix(self.skip()), child);
        self.count.store(u32::try_from(count + 1).unwrap_or(0), Ordering::Release);
    }

    /// The child under which `target` belongs: the last whose entries may be at or below it.
    #[inline]
    pub(super) fn search(&self, target: Target<'_>) -> usize {
        let wanted = target.prefix(self.skip() as usize);
        // The first child is the answer unless another is.
        let (mut low, mut high) = (1, self.count());
        while low < high {
            let middle = (low + high) / 2;
            let prefix = self.prefixes.get(middle).map_or(0, |prefix| prefix.load(Ordering::Relaxed));
            let is_through = match prefix.cmp(&wanted) {
                KeyOrder::Equal => {
                    self.lower(middle).is_some_and(|lower| target.compare(lower) != KeyOrder::Less)
                }
                unequal => unequal == KeyOrder::Less,
            };
            (low, high) = if is_through { (middle + 1, high) } else { (low, middle) };
        }
        low - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_order_is_a_list(ranks in proptest::collection::vec(any::<proptest::sample::Index>(), 0..LEAF_ENTRIES)) {
            let (mut order, mut list) = (Order::EMPTY, Vec::new());
            for (slot, rank) in ranks.iter().enumerate() {
                let rank = rank.index(slot + 1);
                order = order.insert(rank, slot);
                list.insert(rank, slot);
            }
            prop_assert_eq!(order.count(), list.len());
            prop_assert_eq!((0..list.len()).map(|rank| order.slot(rank)).collect::<Vec<_>>(), list);
        }
    }
}
