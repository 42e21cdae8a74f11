//! Sizes in bytes, for people: four digits and a binary unit.

const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

/// `bytes` as a person reads it: `0 B`, `1023 B`, `1.000 KiB`, `45.12 MiB`.
///
/// Three decimals below ten, two below a hundred, one above, as restic prints them.
pub(crate) fn show(bytes: u64) -> String {
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    #[expect(clippy::cast_precision_loss, reason = "four digits are shown, a double holds fifteen")]
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    // 1023.95 would round up to 1024.0 of this unit: that is 1.000 of the next.
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let name = UNITS.get(unit).copied().unwrap_or_default();
    match value {
        v if v < 9.9995 => format!("{value:.3} {name}"),
        v if v < 99.995 => format!("{value:.2} {name}"),
        _ => format!("{value:.1} {name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shown() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.000 KiB"),
            (1536, "1.500 KiB"),
            (10 * 1024, "10.00 KiB"),
            (100 * 1024, "100.0 KiB"),
            (1024 * 1024 - 1, "1.000 MiB"),
            (45 * 1024 * 1024, "45.00 MiB"),
            (u64::MAX, "16.00 EiB"),
        ] {
            assert_eq!(show(bytes), text, "{bytes}");
        }
    }
}
