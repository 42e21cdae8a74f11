//! Counts with their nouns.

/// `1 error`, `2 errors`.
pub(crate) fn count(number: u64, noun: &str) -> String {
    match number {
        1 => format!("1 {noun}"),
        number => format!("{number} {noun}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_no_plural() {
        assert_eq!(count(0, "pack"), "0 packs");
        assert_eq!(count(1, "pack"), "1 pack");
        assert_eq!(count(2, "pack"), "2 packs");
    }
}
