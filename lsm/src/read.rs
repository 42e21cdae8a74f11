//! Lookups in a keyspace of either kind, one by one and many at once, with copies and without.

use crate::error::Result;
use crate::key::SequenceNumber;
use crate::levels::KeyspaceView;
use crate::lookup::{self, Expected};
use crate::row::KeyspaceKind;
use crate::value::{Lent, Value};
use crate::visible;

/// The value of `key` that a reader at `read_sequence` sees, given to `use_value` where it lies.
///
/// # Errors
/// Io or corruption, naming file and offset.
pub(crate) fn get_with<R>(
    view: &KeyspaceView,
    key: &[u8],
    read_sequence: SequenceNumber,
    use_value: impl FnOnce(&[u8]) -> R,
) -> Result<Option<R>> {
    match view.kind {
        KeyspaceKind::Sorted => Ok(visible::get(view, key, read_sequence)?.map(|value| use_value(&value))),
        KeyspaceKind::Fixed(widths) => {
            lookup::get_with(view, widths, key, read_sequence, Expected::Present, use_value)
        }
    }
}

/// Whether there is such a value.
///
/// # Errors
/// Io or corruption, naming file and offset.
pub(crate) fn contains(view: &KeyspaceView, key: &[u8], read_sequence: SequenceNumber) -> Result<bool> {
    Ok(match view.kind {
        KeyspaceKind::Sorted => visible::get(view, key, read_sequence)?.is_some(),
        KeyspaceKind::Fixed(widths) => {
            lookup::get_with(view, widths, key, read_sequence, Expected::Absent, |_| ())?.is_some()
        }
    })
}

/// A copy of that value, or a share in it.
///
/// # Errors
/// Io or corruption, naming file and offset.
pub(crate) fn get(view: &KeyspaceView, key: &[u8], read_sequence: SequenceNumber) -> Result<Option<Value>> {
    match view.kind {
        KeyspaceKind::Sorted => Ok(visible::get(view, key, read_sequence)?.map(Lent::into_value)),
        KeyspaceKind::Fixed(widths) => {
            lookup::get_with(view, widths, key, read_sequence, Expected::Present, |value| Value::from(value))
        }
    }
}

/// The values of many keys: `use_value` is called once for each, with its index, in no order.
///
/// # Errors
/// Io or corruption, naming file and offset: some calls may have been made before.
pub(crate) fn multi_get_with<K: AsRef<[u8]>>(
    view: &KeyspaceView,
    keys: &[K],
    read_sequence: SequenceNumber,
    mut use_value: impl FnMut(usize, Option<&[u8]>),
) -> Result<()> {
    match view.kind {
        KeyspaceKind::Sorted => {
            visible::multi_get(view, keys, read_sequence, |index, value| use_value(index, value.as_deref()))
        }
        KeyspaceKind::Fixed(widths) => {
            lookup::multi_get_with(view, widths, keys, read_sequence, &mut use_value)
        }
    }
}

/// Copies of those values, or shares in them, in the order of the keys.
///
/// # Errors
/// Io or corruption, naming file and offset.
pub(crate) fn multi_get<K: AsRef<[u8]>>(
    view: &KeyspaceView,
    keys: &[K],
    read_sequence: SequenceNumber,
) -> Result<Vec<Option<Value>>> {
    let mut values = vec![None; keys.len()];
    let mut keep = |index, value| {
        if let Some(place) = values.get_mut(index) {
            *place = value;
        }
    };
    match view.kind {
        KeyspaceKind::Sorted => visible::multi_get(view, keys, read_sequence, |index, value| {
            keep(index, value.map(Lent::into_value));
        }),
        KeyspaceKind::Fixed(_) => multi_get_with(view, keys, read_sequence, |index, value| {
            keep(index, value.map(Value::from));
        }),
    }?;
    Ok(values)
}

/// Whether there are such values, in the order of the keys.
///
/// # Errors
/// Io or corruption, naming file and offset.
pub(crate) fn multi_contains<K: AsRef<[u8]>>(
    view: &KeyspaceView,
    keys: &[K],
    read_sequence: SequenceNumber,
) -> Result<Vec<bool>> {
    let mut there = vec![false; keys.len()];
    multi_get_with(view, keys, read_sequence, |index, value| {
        if let Some(place) = there.get_mut(index) {
            *place = value.is_some();
        }
    })?;
    Ok(there)
}
