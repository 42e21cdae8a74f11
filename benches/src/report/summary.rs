//! One table of several metrics: an engine, the best of the merge trees beside it, and the best of all.

use crate::error::Result;
use crate::report::Row;
use crate::report::compare::{Metric, against, lines, rival};

/// What the ratios are of, and what their columns are called.
const RATIOS: [(&str, &str); 4] = [("rate", "rate"), ("cpu", "CPU"), ("p999", "p99.9"), ("total", "written")];

/// The rows as Markdown. `rate` leads; a row without operations has what it wrote alone.
pub(super) fn table(rows: &[Row], engine: &str) -> Result<String> {
    let mut text = format!("| | {engine}, op/s | best LSM peer, op/s |");
    let mut columns = Vec::new();
    for (name, shown) in RATIOS {
        let metric = Metric::find(name)?;
        columns.push((metric, lines(rows, metric)));
        text += &format!(" {shown} |");
    }
    text += " best of all, op/s | rate |\n| --- | ---: | ---: |";
    text += &" ---: |".repeat(RATIOS.len() + 2);
    let [(rate, rates), .., (_, all)] = columns.as_slice() else { return Ok(text) };
    for row in all {
        let find =
            |lines: &'_ [_]| lines.iter().position(|line: &super::compare::Line| line.name == row.name);
        let of_rate = find(rates).and_then(|place| rates.get(place));
        let peer = |merging_only| {
            let (name, value) = rival(of_rate?, engine, merging_only, rate)?;
            Some(format!("{name} {}", rate.show(value)))
        };
        let own = of_rate.and_then(|line| line.of(engine)).map(|value| rate.show(value));
        text +=
            &format!("\n| {} | {} | {} |", row.name, own.unwrap_or_default(), peer(true).unwrap_or_default());
        for (metric, lines) in &columns {
            let line = find(lines).and_then(|place| lines.get(place));
            let ratio = line.map(|line| against(line, engine, true, metric)).unwrap_or_default();
            text += &format!(" {ratio} |");
        }
        let ratio = of_rate.map(|line| against(line, engine, false, rate)).unwrap_or_default();
        text += &format!(" {} | {ratio} |", peer(false).unwrap_or_default());
    }
    text.push('\n');
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::compare::tests::rows;

    #[test]
    fn each_row_names_its_best_rivals() {
        let text = table(&rows(), "lsm").unwrap();
        let shown: Vec<&str> = text.lines().skip(2).collect();
        assert_eq!(
            shown,
            [
                "| work: a | 200 | fjall 50.0 | 4.00 | 4.00 | 0.00 | 1.00 | lmdb 400 | 0.50 |",
                "| work: b | 10.0 |  |  |  |  |  |  |  |",
                "| work: wait |  |  |  |  |  |  |  |  |",
            ]
        );
    }
}
