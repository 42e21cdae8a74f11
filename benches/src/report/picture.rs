//! The comparison as a picture: for each piece of work a group of bars, the longest as long as the picture allows. Plain SVG.

use std::fmt::Write as _;

use crate::convert::ratio;
use crate::report::compare::{Line, Metric};

const WIDTH: f64 = 900.0;
const NAMES_WIDTH: f64 = 330.0;
const VALUES_WIDTH: f64 = 80.0;
const BAR_HEIGHT: f64 = 13.0;
const GROUP_GAP: f64 = 9.0;
const HEAD_HEIGHT: f64 = 58.0;

/// Each engine's colour, apart from each other for colour-blind eyes too (Okabe and Ito's).
const COLOURS: [(&str, &str); 5] = [
    ("lsm", "#0072b2"),
    ("fjall", "#e69f00"),
    ("rocksdb", "#009e73"),
    ("redb", "#cc79a7"),
    ("lmdb", "#999999"),
];

fn colour(engine: &str) -> &'static str {
    COLOURS.iter().find(|(name, _)| *name == engine).map_or("#000000", |(_, colour)| colour)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// The text of the picture.
pub(super) fn draw(lines: &[Line], metric: &Metric) -> String {
    let mut body = String::new();
    let mut y = HEAD_HEIGHT;
    for line in lines {
        let longest = line.values.iter().map(|(_, value)| *value).fold(0.0, f64::max);
        let middle = y + BAR_HEIGHT * f64::from(u16::try_from(line.values.len()).unwrap_or(u16::MAX)) / 2.0;
        let _ = writeln!(
            body,
            r#"<text x="{:.0}" y="{:.1}" text-anchor="end">{}</text>"#,
            NAMES_WIDTH - 8.0,
            middle + 4.0,
            escape(&line.name)
        );
        for (engine, value) in &line.values {
            let length = ratio(*value, longest) * (WIDTH - NAMES_WIDTH - VALUES_WIDTH);
            let _ = writeln!(
                body,
                r#"<rect class="bar" x="{NAMES_WIDTH:.0}" y="{y:.1}" width="{length:.1}" height="{:.0}" fill="{}"/>"#,
                BAR_HEIGHT - 2.0,
                colour(engine)
            );
            let _ = writeln!(
                body,
                r#"<text class="value" x="{:.1}" y="{:.1}">{}</text>"#,
                NAMES_WIDTH + length + 4.0,
                y + BAR_HEIGHT - 3.5,
                escape(&metric.show(*value))
            );
            y += BAR_HEIGHT;
        }
        y += GROUP_GAP;
    }
    let mut legend = String::new();
    for (place, (engine, colour)) in (0_u16..).zip(COLOURS) {
        let x = NAMES_WIDTH + 85.0 * f64::from(place);
        let _ = writeln!(
            legend,
            r#"<rect x="{x:.0}" y="34" width="11" height="11" fill="{colour}"/><text x="{:.0}" y="43">{engine}</text>"#,
            x + 16.0
        );
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH:.0} {y:.0}\" width=\"{WIDTH:.0}\" height=\"{y:.0}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<style>.value {{ font-size: 10px; fill: #444 }}</style>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n\
         <text x=\"{NAMES_WIDTH:.0}\" y=\"20\" font-size=\"14\" font-weight=\"bold\">{}</text>\n{legend}{body}</svg>\n",
        escape(metric.about)
    )
}
