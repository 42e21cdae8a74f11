//! A terminal whose last columns are left free.
//!
//! The bar is filled up to the right edge, so that whatever is printed next begins a new line. But what is typed meanwhile (`^C`) is echoed behind
//! it too, and the line with the bar, no longer the last one, could not be taken away again. With some columns to spare it stays in its line.

use std::io;

use console::Term;
use indicatif::TermLike;

/// Columns that stay free: for two key strokes.
const FREE_COLUMNS: u16 = 4;

/// The terminal, narrower than it is.
#[derive(Debug)]
pub(crate) struct WithMargin(Term);

impl WithMargin {
    /// Standard error's terminal.
    pub(crate) fn stderr() -> Self {
        Self(Term::buffered_stderr())
    }
}

impl TermLike for WithMargin {
    fn width(&self) -> u16 {
        self.0.size().1.saturating_sub(FREE_COLUMNS).max(1)
    }

    fn height(&self) -> u16 {
        self.0.size().0
    }

    fn move_cursor_up(&self, lines: usize) -> io::Result<()> {
        self.0.move_cursor_up(lines)
    }

    fn move_cursor_down(&self, lines: usize) -> io::Result<()> {
        self.0.move_cursor_down(lines)
    }

    fn move_cursor_right(&self, columns: usize) -> io::Result<()> {
        self.0.move_cursor_right(columns)
    }

    fn move_cursor_left(&self, columns: usize) -> io::Result<()> {
        self.0.move_cursor_left(columns)
    }

    fn write_line(&self, text: &str) -> io::Result<()> {
        self.0.write_line(text)
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        self.0.write_str(text)
    }

    fn clear_line(&self) -> io::Result<()> {
        self.0.clear_line()
    }

    fn flush(&self) -> io::Result<()> {
        self.0.flush()
    }
}
