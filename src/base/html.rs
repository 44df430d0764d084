//! Reports as one HTML file with charts: no script, nothing from elsewhere.

use std::fmt::Write;

/// The width of a chart in pixels.
pub const WIDTH: f64 = 860.0;
/// The height of a chart over time.
const HEIGHT: f64 = 220.0;
/// The room for labels.
const LEFT: f64 = 70.0;
const BOTTOM: f64 = 28.0;

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:60em;margin:2em auto;padding:0 1em;color:#1c2530;background:#fff}\
h1{font-size:1.4em;overflow-wrap:anywhere}h2{font-size:1.1em;margin:2em 0 .4em}table{border-collapse:collapse}\
td,th{padding:.15em .9em .15em 0;text-align:right;vertical-align:top}td:first-child,th:first-child{text-align:left;overflow-wrap:anywhere}\
th{font-weight:600;border-bottom:1px solid #8886}pre{white-space:pre-wrap;overflow-wrap:anywhere;background:#8882;padding:.6em}\
svg{width:100%;height:auto}svg text{font:12px system-ui,sans-serif;fill:currentColor}\
.good{stroke:#1a7f5a;fill:#1a7f5a}.bad{stroke:#c2410c;fill:#c2410c}.mid{stroke:#2563eb;fill:#2563eb}.line{fill:none;stroke-width:2}\
.axis{stroke:#8888;stroke-width:1}@media(prefers-color-scheme:dark){body{color:#dde3ea;background:#14181d}}";

/// The beginning of a file, with its title as the first heading.
pub fn begin(title: &str) -> String {
    let title = escaped(title);
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width\"><title>{title}</title><style>{STYLE}</style></head><body>\n<h1>{title}</h1>\n"
    )
}

/// Its end.
pub const END: &str = "</body></html>\n";

/// A table; `heads` may be empty.
pub fn table(out: &mut String, heads: &[&str], rows: Vec<Vec<String>>) {
    let cells = |tag: &str, cells: &mut dyn Iterator<Item = String>| {
        cells.map(|cell| format!("<{tag}>{}</{tag}>", escaped(&cell))).collect::<String>()
    };
    out.push_str("<table>\n");
    if !heads.is_empty() {
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(out, "<tr>{}</tr>", cells("th", &mut heads.iter().map(|head| (*head).to_string())));
    }
    for row in rows {
        let _ = writeln!(out, "<tr>{}</tr>", cells("td", &mut row.into_iter()));
    }
    out.push_str("</table>\n");
}

/// A line of a chart: its class (`good`, `mid` or `bad`), its name and its points, in seconds and any unit.
pub type Line<'a> = (&'a str, &'a str, Vec<(f64, f64)>);

/// A chart of lines over time.
pub fn lines(series: &[Line<'_>], label: impl Fn(f64) -> String) -> String {
    let points = || series.iter().flat_map(|(_, _, points)| points);
    let most = points().map(|point| point.1).fold(1e-9, f64::max);
    let last = points().map(|point| point.0).fold(1.0, f64::max);
    let x = |seconds: f64| LEFT + (WIDTH - LEFT - 10.0) * seconds / last;
    let y = |value: f64| (HEIGHT - BOTTOM) - (HEIGHT - BOTTOM - 16.0) * value / most;
    let mut svg = frame(most, last, &label);
    for (at, (class, name, points)) in series.iter().enumerate() {
        let path: Vec<_> = points.iter().map(|(s, value)| format!("{:.1},{:.1}", x(*s), y(*value))).collect();
        let left = LEFT + 20.0 + at as f64 * 170.0;
        let _ = writeln!(
            svg,
            "<polyline class=\"line {class}\" points=\"{}\"/><rect class=\"{class}\" x=\"{left}\" y=\"2\" width=\"10\" \
             height=\"10\"/><text x=\"{}\" y=\"12\">{}</text>",
            path.join(" "),
            left + 15.0,
            escaped(name)
        );
    }
    svg + "</svg>\n"
}

/// The frame of a chart with its axes.
fn frame(most: f64, last_s: f64, label: &impl Fn(f64) -> String) -> String {
    let floor = HEIGHT - BOTTOM;
    let mut svg = format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\">\n");
    for part in [0.0, 0.5, 1.0] {
        let y = floor - (floor - 16.0) * part;
        let _ = writeln!(
            svg,
            "<line class=\"axis\" x1=\"{LEFT}\" y1=\"{y}\" x2=\"{WIDTH}\" y2=\"{y}\"/><text x=\"{}\" y=\"{}\" \
             text-anchor=\"end\">{}</text>",
            LEFT - 6.0,
            y + 4.0,
            label(most * part)
        );
    }
    let _ = writeln!(
        svg,
        "<text x=\"{LEFT}\" y=\"{y}\">0 s</text><text x=\"{WIDTH}\" y=\"{y}\" text-anchor=\"end\">{last_s:.0} s</text>",
        y = HEIGHT - 8.0
    );
    svg
}

/// Text that means nothing in HTML.
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_cannot_be_markup() {
        let mut out = begin("<a>");
        table(&mut out, &["x"], vec![vec!["<script>".to_owned()]]);
        out += &lines(&[("good", "<b>", vec![(0.0, 1.0), (2.0, 4.0)])], |value| format!("{value} ms"));
        assert!(out.contains("&lt;a&gt;") && out.contains("&lt;script&gt;") && out.contains("&lt;b&gt;"));
        assert!(out.contains("4 ms") && out.contains("polyline"), "{out}");
    }
}
