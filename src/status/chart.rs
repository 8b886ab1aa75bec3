//! Charts as SVG: lines over the last minutes, the newest at the right.

use std::fmt::Write;

/// Units of the drawing, which is stretched to its place.
const WIDTH: f64 = 600.0;
const HEIGHT: f64 = 120.0;

/// A line of a chart.
pub(super) struct Line<'a> {
    /// The class of its style.
    pub(super) class: &'a str,
    /// The oldest first.
    pub(super) values: &'a [f64],
}

/// Draws lines in which `places` values span the whole width; returns the drawing and the value at its upper edge.
pub(super) fn draw(lines: &[Line<'_>], places: usize, label: &str) -> (String, f64) {
    let most = lines.iter().flat_map(|line| line.values).copied().fold(0.0, f64::max);
    let top = ceiling(most);
    let mut svg = format!(
        r#"<svg role="img" aria-label="{label}" viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none"><path class="grid" d="M0 {half}H{WIDTH}M0 {HEIGHT}H{WIDTH}M0 0H{WIDTH}"/>"#,
        half = HEIGHT / 2.0
    );
    for Line { class, values } in lines.iter().filter(|line| !line.values.is_empty()) {
        let step = WIDTH / (places.max(2) - 1) as f64;
        let x = |i: usize| WIDTH - (values.len() - 1 - i) as f64 * step;
        let mut path = String::new();
        for (i, value) in values.iter().enumerate() {
            let y = HEIGHT - value / top * HEIGHT;
            // Writing to a string does not fail.
            let _ = write!(path, "{}{:.1} {y:.1}", if i == 0 { 'M' } else { 'L' }, x(i));
        }
        let _ = write!(
            svg,
            r#"<path class="area {class}" d="{path}V{HEIGHT}H{:.1}Z"/><path class="line {class}" d="{path}"/>"#,
            x(0)
        );
    }
    svg.push_str("</svg>");
    (svg, top)
}

/// The next of 1, 2, 5, 10, 20, 50, …
fn ceiling(most: f64) -> f64 {
    let mut unit = 1.0;
    while unit * 10.0 < most {
        unit *= 10.0;
    }
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|n| n * unit).find(|n| *n >= most).unwrap_or(unit * 10.0)
}
