//! What trying a password costs: as it is chosen, as it is shown.

use chunkstore::repository::key::PasswordCost;
use clap::ValueEnum;

/// The choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Cost {
    // No docstrings: the help would tell them, and have another layout for their sake.
    // What is enough for a password that nobody would guess.
    Normal,
    // Five times the work, for one that might be guessed.
    High,
}

impl From<Cost> for PasswordCost {
    fn from(cost: Cost) -> Self {
        match cost {
            Cost::Normal => Self::DEFAULT,
            Cost::High => Self::HIGH,
        }
    }
}

/// The memory, and how often it is gone over: `19 MiB x2`.
pub(crate) fn show(cost: PasswordCost) -> String {
    // Keys of this program have whole mebibytes; those of others are told to the kibibyte.
    let memory = match cost.memory_kib() {
        kib if kib.is_multiple_of(1024) => format!("{} MiB", kib >> 10),
        kib => format!("{kib} KiB"),
    };
    format!("{memory} x{}", cost.passes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shown() {
        assert_eq!(show(PasswordCost::DEFAULT), "19 MiB x2");
        assert_eq!(show(PasswordCost::HIGH), "64 MiB x3");
        assert_eq!(show(PasswordCost::LEAST), "8 KiB x1");
    }
}
