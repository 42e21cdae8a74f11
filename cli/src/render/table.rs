//! A plain table: a header, a rule, rows, a rule; columns as wide as their widest cell.

use std::fmt::Write as _;

/// On which side a column's cells stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

/// A table under construction.
#[derive(Debug)]
pub(crate) struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these columns and no rows.
    pub(crate) fn new(columns: &[(&'static str, Align)]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row. A cell may have several lines; the row is then as high as the highest.
    pub(crate) fn row(&mut self, cells: Vec<String>) {
        assert_eq!(cells.len(), self.columns.len(), "a row has a cell for each column");
        self.rows.push(cells);
    }

    /// The whole as text, each line ended.
    pub(crate) fn show(&self) -> String {
        let widths: Vec<usize> = self
            .columns
            .iter()
            .enumerate()
            .map(|(index, (title, _))| {
                let cells = self.rows.iter().filter_map(|row| row.get(index)).flat_map(|cell| cell.lines());
                cells.chain([*title]).map(width).max().unwrap_or(0)
            })
            .collect();
        let mut text = String::new();
        let titles: Vec<&str> = self.columns.iter().map(|(title, _)| *title).collect();
        self.line(&mut text, &widths, &titles);
        let rule = "-".repeat(widths.iter().sum::<usize>() + 2 * widths.len().saturating_sub(1));
        let _ = writeln!(text, "{rule}");
        for row in &self.rows {
            let height = row.iter().map(|cell| cell.lines().count()).max().unwrap_or(0).max(1);
            for line in 0..height {
                let cells: Vec<&str> = row.iter().map(|cell| cell.lines().nth(line).unwrap_or("")).collect();
                self.line(&mut text, &widths, &cells);
            }
        }
        let _ = writeln!(text, "{rule}");
        text
    }

    fn line(&self, text: &mut String, widths: &[usize], cells: &[&str]) {
        let mut line = String::new();
        for (((_, align), cell), wide) in self.columns.iter().zip(cells).zip(widths) {
            if !line.is_empty() {
                line.push_str("  ");
            }
            let padding = " ".repeat(wide.saturating_sub(width(cell)));
            match align {
                Align::Left => line.extend([*cell, &padding]),
                Align::Right => line.extend([padding.as_str(), cell]),
            }
        }
        let _ = writeln!(text, "{}", line.trim_end());
    }
}

/// Columns on a terminal.
fn width(text: &str) -> usize {
    console::measure_text_width(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(&[("ID", Align::Left), ("Size", Align::Right), ("Paths", Align::Left)]);
        table.row(vec!["日本".into(), "5 B".into(), "/a\n/long/path".into()]);
        table.row(vec!["ab".into(), "100 MiB".into(), String::new()]);
        let expected = "\
ID       Size  Paths
--------------------------
日本      5 B  /a
               /long/path
ab    100 MiB
--------------------------
";
        // The rule is as long as all columns with their gaps.
        let shown = table.show();
        assert_eq!(shown.lines().nth(1).unwrap().len(), 4 + 2 + 7 + 2 + 10);
        assert_eq!(shown, expected.replace("--------------------------", &"-".repeat(25)));
    }

    #[test]
    fn an_empty_table_shows_its_header() {
        assert_eq!(Table::new(&[("ID", Align::Left)]).show(), "ID\n--\n--\n");
    }
}
