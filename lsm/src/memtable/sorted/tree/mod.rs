//! The sorted map inside a memtable: a B+-tree that only grows, with one writer at a time and readers without locks.
//!
//! Why not a skip list: it goes from node to node, each a wait for memory, some twenty on the way down; a leaf has eight bytes of fourteen keys side by
//! side. Measured against `crossbeam-skiplist`, which was here before: a random insertion takes a third of the time, a lookup half.
//!
//! - *Entries* are written once and never change ([`arena`]). Nothing is removed; all goes at once.
//! - A *leaf* has up to fourteen of them. Their order is one word: the writer puts an entry in an unused slot and then stores the
//!   word that names it. Readers see the leaf before or after.
//! - Full leaves are *split*, and inner nodes changed, in place. Before and after it the writer counts up [`Tree::structure`]: while it is odd, or
//!   if it is another number afterwards, a reader has seen nothing that it may believe and looks again (a sequence lock). One leaf in
//!   seven insertions is split; a reader that keeps losing takes the writer's lock.
//! - Of the keys of a node, those of the least and the greatest that can come into it begin alike in so many bytes: these are *skipped*, and
//!   the eight behind them, as a number, are what searches compare. So long common prefixes cost nothing, and few comparisons touch the key itself.
//! - Keys in ascending order go into the leaf of the key before, without a search.
//!
//! `cargo test` runs the tests of this folder on the memory as it is; the addresses are checked by
//! `RUSTFLAGS=-Zsanitizer=address cargo +nightly test --target x86_64-unknown-linux-gnu -p lsm --lib memtable`.

mod arena;
mod cursor;
mod node;
#[cfg(test)]
mod tests;

use std::cmp::Ordering as KeyOrder;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence};

use crate::sync::Mutex;

use super::segments::Segments;
use crate::charge::Charge;
use crate::key::{self, TRAILER_BYTES};
use arena::{Arena, Entry, Link, Slot};
use node::{Child, INNER_CHILDREN, Inner, LEAF_ENTRIES, Leaf, Node, Order, Prefixed, Target, skip_between};

pub(super) use cursor::Cursor;

/// How often a reader looks again before it waits for the writer.
const ATTEMPTS: usize = 16;

/// See the module.
#[derive(Debug)]
pub(super) struct Tree {
    /// None before the first leaf was split.
    root: Link<Inner>,
    first: Link<Leaf>,
    last: Link<Leaf>,
    /// Odd while nodes are changed that readers may look at.
    structure: AtomicU64,
    entry_count: AtomicUsize,
    memory_bytes: AtomicUsize,
    charged_bytes: AtomicUsize,
    charge: Arc<Charge>,
    writer: Mutex<Writer>,
}

/// What the writer alone knows.
#[derive(Debug)]
struct Writer {
    entries: Arena,
    nodes: Arena,
    near: Near,
}

/// Where the last entry went: the next one may belong behind it.
#[derive(Debug)]
struct Near {
    leaf: Link<Leaf>,
    entry: Slot,
    /// The first entry of the next leaf.
    upper: Slot,
}

/// What came of putting an entry in below a node.
enum Put<'t> {
    /// It is in a leaf, before this entry of the next.
    Done(&'t Leaf, Option<Entry<'t>>),
    /// It is in, and there is a new node behind the one it was put into.
    Split(Child<'t>, &'t Leaf, Option<Entry<'t>>),
}

impl Tree {
    /// An empty one whose bytes are charged as long as it lives.
    pub(super) fn new(charge: Arc<Charge>, segments: Arc<Segments>) -> Self {
        Self {
            root: Link::new(),
            first: Link::new(),
            last: Link::new(),
            structure: AtomicU64::new(0),
            entry_count: AtomicUsize::new(0),
            memory_bytes: AtomicUsize::new(0),
            charged_bytes: AtomicUsize::new(0),
            charge,
            writer: Mutex::new(Writer {
                entries: Arena::new(Arc::clone(&segments)),
                nodes: Arena::new(segments),
                near: Near { leaf: Link::new(), entry: Slot::new(), upper: Slot::new() },
            }),
        }
    }

    /// How many entries there are.
    pub(super) fn entry_count(&self) -> usize {
        self.entry_count.load(Ordering::Acquire)
    }

    /// Bytes of memory that are in use.
    pub(super) fn memory_bytes(&self) -> usize {
        self.memory_bytes.load(Ordering::Relaxed)
    }

    /// Bytes of memory it takes.
    pub(super) fn charged_bytes(&self) -> usize {
        self.charged_bytes.load(Ordering::Relaxed)
    }

    /// Puts an entry in. There is none yet with this key and trailer.
    pub(super) fn insert(&self, user: &[u8], trailer: [u8; TRAILER_BYTES], value: &[u8]) {
        let mut writer = self.writer.lock();
        // SAFETY: the arena is dropped with the tree, and the entry is not used beyond `self`'s borrow.
        #[expect(unsafe_code, reason = "the arena cannot know how long the tree is borrowed")]
        let entry: Entry<'_> = unsafe { writer.entries.entry(user, trailer, value) };
        self.put(&mut writer, entry);
        self.entry_count.store(self.entry_count.load(Ordering::Relaxed) + 1, Ordering::Release);
        let used = writer.entries.used_bytes() + writer.nodes.used_bytes();
        self.memory_bytes.store(used, Ordering::Relaxed);
        let (held, charged) = (writer.entries.held_bytes() + writer.nodes.held_bytes(), self.charged_bytes());
        if held != charged {
            self.charged_bytes.store(held, Ordering::Relaxed);
            self.charge.add(held - charged);
        }
    }

    fn put<'t>(&'t self, writer: &mut Writer, entry: Entry<'t>) {
        if self.put_near(writer, entry) {
            return;
        }
        let (put, top) = match (self.root.load(), self.first.load()) {
            (Some(root), _) => (self.put_below(writer, root, [None, None], entry), Node::Inner(root)),
            (None, Some(leaf)) => (self.put_leaf(writer, leaf, [None, None], entry), Node::Leaf(leaf)),
            (None, None) => {
                let leaf = self.plant(writer, entry);
                (Put::Done(leaf, None), Node::Leaf(leaf))
            }
        };
        let (leaf, upper) = match put {
            Put::Done(leaf, upper) => (leaf, upper),
            Put::Split(right, leaf, upper) => {
                let higher = Inner::new(0, &[Child { lower: None, node: top }, right]);
                self.root.store(Some(self.node(writer, higher)));
                (leaf, upper)
            }
        };
        self.settle();
        writer.near.leaf.store(Some(leaf));
        writer.near.entry.store(Some(entry));
        writer.near.upper.store(upper);
    }

    /// Puts a node into the arena.
    fn node<'t, T>(&'t self, writer: &mut Writer, node: T) -> &'t T {
        // SAFETY: the arena is dropped with the tree, and the node is not used beyond `self`'s borrow.
        #[expect(unsafe_code, reason = "the arena cannot know how long the tree is borrowed")]
        unsafe {
            writer.nodes.place(node)
        }
    }

    /// The first leaf.
    fn plant<'t>(&'t self, writer: &mut Writer, entry: Entry<'t>) -> &'t Leaf {
        let leaf = self.node(writer, Leaf::new());
        leaf.fill(0, 0, &[(Target::of(entry).prefix(0), entry)]);
        self.first.store(Some(leaf));
        self.last.store(Some(leaf));
        leaf
    }

    /// Puts an entry in where the last one went, if it belongs there and there is room.
    fn put_near<'t>(&'t self, writer: &mut Writer, entry: Entry<'t>) -> bool {
        let target = Target::of(entry);
        let near = &writer.near;
        let (Some(leaf), Some(before)) = (near.leaf.load(), near.entry.load()) else { return false };
        if target.compare(before) != KeyOrder::Greater
            || near.upper.load().is_some_and(|upper| target.compare(upper) != KeyOrder::Less)
        {
            return false;
        }
        let order = leaf.order();
        let is_last = leaf.entry(order, order.count().wrapping_sub(1)).is_some_and(|last| last.is(before));
        let rank = if is_last { order.count() } else { leaf.lower_bound(order, target) };
        let is_in = leaf.insert(order, rank, entry);
        if is_in {
            near.entry.store(Some(entry));
        }
        is_in
    }

    /// Puts an entry in below `inner`, which answers for what is between the bounds.
    fn put_below<'t>(
        &'t self,
        writer: &mut Writer,
        inner: &'t Inner,
        [lower, upper]: [Option<Entry<'t>>; 2],
        entry: Entry<'t>,
    ) -> Put<'t> {
        let index = inner.search(Target::of(entry));
        let lower_below = inner.lower(index).or(lower);
        let upper_below = inner.lower(index + 1).or(upper);
        let put = match inner.descend(index) {
            Some(Node::Leaf(leaf)) => self.put_leaf(writer, leaf, [lower_below, upper_below], entry),
            Some(Node::Inner(below)) => self.put_below(writer, below, [lower_below, upper_below], entry),
            None => unreachable!("the writer alone changes nodes, and each has a child at least"),
        };
        let Put::Split(child, leaf, leaf_upper) = put else { return put };
        if inner.count() < INNER_CHILDREN {
            inner.insert(index + 1, child);
            return Put::Done(leaf, leaf_upper);
        }
        // A node that is full at its end mostly is so because keys ascend: it stays full.
        let middle = if index + 1 == INNER_CHILDREN { INNER_CHILDREN } else { INNER_CHILDREN / 2 };
        let mut above = inner.children(middle, INNER_CHILDREN);
        if index + 1 >= middle {
            above.insert(index + 1 - middle, child);
        }
        let cut = above.first().and_then(|child| child.lower);
        let right = self.node(writer, Inner::new(skip_between(inner.skip(), [cut, upper]), &above));
        inner.fill(skip_between(inner.skip(), [lower, cut]), &inner.children(0, middle));
        if index + 1 < middle {
            inner.insert(index + 1, child);
        }
        Put::Split(Child { lower: cut, node: Node::Inner(right) }, leaf, leaf_upper)
    }

    /// Puts an entry into a leaf, which answers for what is between the bounds.
    fn put_leaf<'t>(
        &'t self,
        writer: &mut Writer,
        leaf: &'t Leaf,
        [lower, upper]: [Option<Entry<'t>>; 2],
        entry: Entry<'t>,
    ) -> Put<'t> {
        let order = leaf.order();
        let rank = leaf.lower_bound(order, Target::of(entry));
        if leaf.insert(order, rank, entry) {
            return Put::Done(leaf, upper);
        }
        self.disturb();
        let skip = leaf.skip();
        let new: Prefixed<'t> = (Target::of(entry).prefix(skip as usize), entry);
        let mut entries = [new; LEAF_ENTRIES + 1];
        for (place, to) in entries.iter_mut().enumerate().filter(|(place, _)| *place != rank) {
            let from = if place < rank { place } else { place - 1 };
            *to = leaf.prefixed(order, from).unwrap_or(new);
        }
        // As with inner nodes.
        let middle = if rank == LEAF_ENTRIES { LEAF_ENTRIES } else { LEAF_ENTRIES.div_ceil(2) };
        let (below, above) = entries.split_at(if rank < middle { middle + 1 } else { middle });
        let cut = above.first().map(|(_, entry)| *entry);
        let right = self.node(writer, Leaf::new());
        right.fill(skip_between(skip, [cut, upper]), skip, above);
        leaf.fill(skip_between(skip, [lower, cut]), skip, below);
        let next = leaf.next.load();
        right.prev.store(Some(leaf));
        right.next.store(next);
        leaf.next.store(Some(right));
        match next {
            Some(next) => next.prev.store(Some(right)),
            None => self.last.store(Some(right)),
        }
        let (home, home_upper) = if rank < middle { (leaf, cut) } else { (right, upper) };
        Put::Split(Child { lower: cut, node: Node::Leaf(right) }, home, home_upper)
    }

    /// From here on readers may find anything.
    fn disturb(&self) {
        let structure = self.structure.load(Ordering::Relaxed);
        self.structure.store(structure | 1, Ordering::Relaxed);
        // Whoever sees one of the changes that follow sees the odd number too.
        fence(Ordering::Release);
    }

    /// All is in its place again.
    fn settle(&self) {
        let structure = self.structure.load(Ordering::Relaxed);
        if structure & 1 == 1 {
            self.structure.store(structure + 1, Ordering::Release);
        }
    }

    /// What `look` finds in a tree that was not being changed meanwhile. It may be called several times, on nodes in any state.
    fn stable<T>(&self, mut look: impl FnMut() -> T) -> T {
        for _ in 0..ATTEMPTS {
            let before = self.structure.load(Ordering::Acquire);
            if before & 1 == 0 {
                let found = look();
                // Whatever `look` read was read before the number is read again.
                fence(Ordering::Acquire);
                if self.structure.load(Ordering::Relaxed) == before {
                    return found;
                }
            }
            std::hint::spin_loop();
        }
        let _writer = self.writer.lock();
        look()
    }

    /// The leaf in which `target` belongs.
    #[inline]
    fn leaf(&self, target: Target<'_>) -> Option<&Leaf> {
        let Some(mut inner) = self.root.load() else { return self.first.load() };
        loop {
            match inner.descend(inner.search(target))? {
                Node::Leaf(leaf) => return Some(leaf),
                Node::Inner(below) => inner = below,
            }
        }
    }

    /// The leaf and the rank of the first entry at or above `target`.
    #[inline]
    fn lower_bound(&self, target: Target<'_>) -> Option<(&Leaf, Order, usize)> {
        let leaf = self.leaf(target)?;
        let order = leaf.order();
        let rank = leaf.lower_bound(order, target);
        if rank < order.count() {
            return Some((leaf, order, rank));
        }
        let next = leaf.next.load()?;
        Some((next, next.order(), 0))
    }

    /// The leaf and the rank of the last entry at or below `target`.
    fn last_at_or_below(&self, target: Target<'_>) -> Option<(&Leaf, Order, usize)> {
        let leaf = self.leaf(target)?;
        let order = leaf.order();
        let rank = leaf.lower_bound(order, target);
        let is_it = leaf.entry(order, rank).is_some_and(|entry| target.compare(entry).is_eq());
        if let Some(rank) = if is_it { Some(rank) } else { rank.checked_sub(1) } {
            return Some((leaf, order, rank));
        }
        let before = leaf.prev.load()?;
        let order = before.order();
        Some((before, order, order.count().checked_sub(1)?))
    }

    /// User key and trailer of the last entry at or below a user key and a trailer.
    pub(super) fn last_through(&self, user: &[u8], trailer: u64) -> Option<(&[u8], u64)> {
        let found = self.stable(|| {
            let (leaf, order, rank) = self.last_at_or_below(Target { user, trailer })?;
            leaf.entry(order, rank)
        })?;
        Some((found.user(), found.trailer()))
    }

    /// Trailer and value of the first entry of a user key at or behind a trailer.
    pub(super) fn get(&self, user: &[u8], trailer: u64) -> Option<(u64, &[u8])> {
        let found = self.stable(|| {
            let (leaf, order, rank) = self.lower_bound(Target { user, trailer })?;
            leaf.entry(order, rank)
        })?;
        key::is_same(found.user(), user).then(|| (found.trailer(), found.value()))
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        self.charge.subtract(self.charged_bytes());
    }
}
