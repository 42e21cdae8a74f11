//! Numbers and names for keyspaces of which too little is known.

use std::sync::Arc;

use crate::batch::KeyspaceId;
use crate::levels::KEYSPACE_NAME_BYTES_MAX;
use crate::ordered::{OrderedMap, OrderedSet};
use crate::repair::items::{Item, Items, Owner};
use crate::repair::rebuild::Rebuild;
use crate::row::KeyspaceKind;
use crate::table::TableOrigin;

impl Rebuild {
    /// Gives numbers and names to those keyspaces that have none.
    pub(super) fn settle_keyspaces(
        &mut self,
        replayed: impl Iterator<Item = KeyspaceId>,
    ) -> OrderedMap<Owner, KeyspaceId> {
        let named = self.items.items.iter().filter_map(|item| match item.owner {
            Owner::Known(id) => Some(id),
            Owner::Unknown(_) => None,
        });
        let told: Vec<KeyspaceId> = named.chain(replayed).collect();
        let keyspaces = &mut self.items.keyspaces;
        for id in told {
            let of_table = |item: &&Item| item.owner == Owner::Known(id);
            let kind = self.items.items.iter().find(of_table).and_then(|item| item.kind);
            let kind = kind.unwrap_or(KeyspaceKind::Sorted);
            let recovered = &mut self.report.recovered_keyspaces;
            keyspaces.get_or_insert_with(id, || {
                let name = nameless(id);
                recovered.push(name.to_string());
                (name, kind)
            });
        }
        // Of two keyspaces with one name the younger keeps it: the other was dropped, or never was.
        let mut names: OrderedSet<Arc<str>> = OrderedSet::new();
        for (id, (name, _)) in keyspaces.iter_mut().rev() {
            if !names.insert(Arc::clone(name)) {
                let free = free_name(&names, &format!("recovered-{}-{name}", id.number()));
                self.report.recovered_keyspaces.push(free.to_string());
                names.insert(Arc::clone(&free));
                *name = free;
            }
        }
        let mut ids: OrderedMap<Owner, KeyspaceId> =
            keyspaces.keys().map(|id| (Owner::Known(*id), *id)).collect();
        let mut next = keyspaces.keys().next_back().map_or(0, |id| id.number());
        for item in &self.items.items {
            let Owner::Unknown(file) = item.owner else { continue };
            if ids.contains_key(&item.owner) {
                continue;
            }
            next = next.saturating_add(1);
            let Ok(id) = KeyspaceId::new(next) else { continue };
            let name = free_name(&names, &format!("recovered-{file}"));
            names.insert(Arc::clone(&name));
            self.report.recovered_keyspaces.push(name.to_string());
            keyspaces.insert(id, (name, item.kind.unwrap_or(KeyspaceKind::Sorted)));
            ids.insert(item.owner.clone(), id);
        }
        ids
    }
}

/// What a new table says of its place.
pub(super) fn origin(items: &Items, id: KeyspaceId, level: usize, epoch: u64) -> TableOrigin {
    let known = items.keyspaces.get(&id);
    TableOrigin {
        keyspace: id.number(),
        kind: known.map_or(KeyspaceKind::Sorted, |(_, kind)| *kind),
        level: level as u64,
        epoch,
        name: known.map_or_else(|| nameless(id), |(name, _)| Arc::clone(name)),
    }
}

/// The name of a keyspace of which only the number is known.
fn nameless(id: KeyspaceId) -> Arc<str> {
    format!("recovered-keyspace-{}", id.number()).into()
}

/// A name that no keyspace has: the one that is wished for, if that is one.
fn free_name(taken: &OrderedSet<Arc<str>>, wish: &str) -> Arc<str> {
    let wish = match wish
        .char_indices()
        .find(|(index, char)| index + char.len_utf8() > KEYSPACE_NAME_BYTES_MAX - 10)
    {
        Some((end, _)) => wish.get(..end).unwrap_or(wish),
        None => wish,
    };
    let mut name: Arc<str> = wish.into();
    let mut count = 1u32;
    while taken.contains(&name) {
        count += 1;
        name = format!("{wish}-{count}").into();
    }
    name
}
