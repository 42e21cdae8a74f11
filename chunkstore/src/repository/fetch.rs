//! An object by its name, and never more of it than an object of that name can have.

use super::layout::ObjectName;
use crate::error::Result;
use crate::target::Target;

/// All bytes of an object. What they are is not looked at.
///
/// # Errors
/// The target's; damage, if it is longer than any of its kind.
pub fn fetch(target: &dyn Target, name: &ObjectName) -> Result<Vec<u8>> {
    target.get_at_most(&name.key(), name.kind().bytes_max())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;
    use crate::id::{IntentId, ObjectHash, WriterId};
    use crate::target::mem::MemTarget;

    #[test]
    fn nothing_is_longer_than_its_kind() {
        let target = MemTarget::new("a");
        let hash = ObjectHash::of(&[b"x"]);
        let small = [
            ObjectName::Config,
            ObjectName::Key(hash),
            ObjectName::KeyRemoval(hash),
            ObjectName::Intent(IntentId::from_bytes([1; 16])),
            ObjectName::Complete { writer: WriterId::from_bytes([1; 16]), sequence: 1 },
        ];
        for name in small {
            target.put(&name.key(), &[&vec![0; 1 << 20]]).unwrap();
            assert_eq!(fetch(&*target, &name).unwrap().len(), 1 << 20);
            target.put(&name.key(), &[&vec![0; (1 << 20) + 1]]).unwrap();
            assert_eq!(fetch(&*target, &name).unwrap_err().kind(), ErrorKind::Damage, "{name}");
        }
    }
}
