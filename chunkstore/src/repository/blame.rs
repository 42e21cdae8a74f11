//! Of one object, or of the whole target? What a reading that failed says.
//!
//! A bad sector and a target that is gone give the same error. The first costs one copy of one object, and whoever has another copy reads that; for the
//! second nothing more is asked there. So after such an error the target is asked one thing that costs next to nothing: if it answers, it was the object.

use super::layout::ObjectName;
use crate::error::{Error, ErrorKind};
use crate::target::Target;

/// The error of *reading* an object, of the kind that it is: `Damage` of this object, with the sentence it had, if it is of kind `Target` and the
/// target answers all the same; of kind `Target`, with what the target says now, if it does not. Every other error stays as it is.
///
/// Not for writing: that nothing more can be written is the target's matter, whatever else it answers.
pub fn blame(target: &dyn Target, error: Error) -> Error {
    if error.kind() != ErrorKind::Target {
        return error;
    }
    // Whether a config is there is not asked.
    match target.length(&ObjectName::Config.key()) {
        Ok(_) => error.with_kind(ErrorKind::Damage),
        Err(gone) => gone.with_kind(ErrorKind::Target),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::ObjectHash;
    use crate::target::Operation;
    use crate::target::fault::{Fault, FaultTarget, Rule};
    use crate::target::mem::MemTarget;

    #[test]
    fn a_bad_sector_is_damage_and_a_dead_target_is_none() {
        let faulty = FaultTarget::new(MemTarget::new("a"));
        let key = ObjectName::Pack(ObjectHash::of(&[b"x"])).key();
        let read = || blame(&*faulty, faulty.get(&key).unwrap_err());
        assert_eq!(read().kind(), ErrorKind::NotFound, "what is not there can be read no better");
        faulty.add(Rule::always(Operation::Get, "packs", Fault::Fail(ErrorKind::Target)));
        let error = read();
        assert_eq!(error.kind(), ErrorKind::Damage);
        assert!(error.to_string().contains(key.as_str()), "{error}");
        faulty.add(Rule::dies_after(0));
        let error = read();
        assert_eq!(error.kind(), ErrorKind::Target);
        assert!(error.to_string().contains("config"), "{error}");
    }
}
