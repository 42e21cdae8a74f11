//! Numbers between types, and numbers with units: counts to floats, bytes from and to text.

use crate::error::{Result, fault};

/// A count or a size in memory.
pub(crate) fn to_usize(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// A float's whole part; 0 for what is below, the largest for what is above.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a cast of a float saturates, which is what is said above"
)]
pub(crate) fn whole(number: f64) -> u64 {
    number as u64
}

/// A count as a float: the nearest one, for figures that people read.
#[expect(clippy::cast_precision_loss, reason = "the nearest is what is said above")]
pub(crate) fn float(count: u64) -> f64 {
    count as f64
}

/// `part` per `whole`; 0 where there is no whole.
pub(crate) fn ratio(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

/// `numerator / denominator` of a number drawn from all 64 bits, scaled to `0..below`.
pub(crate) fn scale(draw: u64, below: u64) -> u64 {
    let product = u128::from(draw) * u128::from(below);
    u64::try_from(product >> 64).unwrap_or(u64::MAX)
}

/// Bytes from text such as `4096`, `192MiB`, `2GiB`, `64K`.
pub(crate) fn parse_bytes(text: &str) -> Result<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit.trim() {
        "" | "B" => 1,
        "K" | "KiB" => 1 << 10,
        "M" | "MiB" => 1 << 20,
        "G" | "GiB" => 1 << 30,
        _ => {
            return fault(format!(
                "{text:?} is no size: a number with nothing, KiB, MiB or GiB behind it is one"
            ));
        }
    };
    match number.parse::<u64>().ok().and_then(|number| number.checked_mul(factor)) {
        Some(bytes) => Ok(bytes),
        None => fault(format!("{text:?} is no size that fits")),
    }
}

/// A number as a person reads it: three digits and k, M or G.
pub(crate) fn short(number: f64) -> String {
    let (scaled, unit) = match number {
        n if n >= 1e9 => (n / 1e9, " G"),
        n if n >= 1e6 => (n / 1e6, " M"),
        n if n >= 1e3 => (n / 1e3, " k"),
        n => (n, ""),
    };
    let digits = match scaled {
        s if s >= 100.0 || s == 0.0 => 0,
        s if s >= 10.0 => 1,
        _ => 2,
    };
    format!("{scaled:.digits$}{unit}")
}

/// Nanoseconds as a person reads them.
pub(crate) fn short_time(nanoseconds: f64) -> String {
    match nanoseconds {
        n if n >= 1e9 => format!("{:.2} s", n / 1e9),
        n if n >= 1e6 => format!("{:.1} ms", n / 1e6),
        n if n >= 1e3 => format!("{:.1} µs", n / 1e3),
        n => format!("{n:.0} ns"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_their_units() {
        assert_eq!(parse_bytes("4096").unwrap(), 4096);
        assert_eq!(parse_bytes("192MiB").unwrap(), 192 << 20);
        assert_eq!(parse_bytes("2G").unwrap(), 2 << 30);
        for wrong in ["", "MiB", "-1", "1.5GiB", "3 apples", "99999999999GiB"] {
            assert!(parse_bytes(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn numbers_are_shortened_to_three_digits() {
        let shown: Vec<String> =
            [0.0, 9.5, 99.94, 1234.0, 123_456.0, 1.5e7, 2e9].into_iter().map(short).collect();
        assert_eq!(shown, ["0", "9.50", "99.9", "1.23 k", "123 k", "15.0 M", "2.00 G"]);
        assert_eq!(short_time(1500.0), "1.5 µs");
    }

    #[test]
    fn a_draw_is_scaled_below_its_bound() {
        assert_eq!(scale(0, 10), 0);
        assert_eq!(scale(u64::MAX, 10), 9);
        assert_eq!(scale(u64::MAX / 2, 10), 4);
    }
}
