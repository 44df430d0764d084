//! Draws line charts as SVG: one or more panels side by side with one legend, on a light background.

use std::fmt::Write;

const PANEL_WIDTH: f64 = 430.0;
const PANEL_HEIGHT: f64 = 320.0;
const TITLE_HEIGHT: f64 = 40.0;
const LEGEND_HEIGHT: f64 = 34.0;
/// The margins of a panel's plot.
const LEFT: f64 = 78.0;
const RIGHT: f64 = 18.0;
const TOP: f64 = 28.0;
const BOTTOM: f64 = 50.0;
/// Labels on the x axis that are closer than this would overlap.
const LABEL_WIDTH: f64 = 34.0;
/// Distinguishable without colour, too.
const MARKS: usize = 4;

/// One panel.
#[derive(Clone, Debug)]
pub struct Panel {
    pub title: String,
    pub x: Axis,
    pub y: Axis,
    pub lines: Vec<Line>,
    /// A limit, drawn as a dashed line with its name.
    pub bound: Option<(f64, String)>,
}

/// An axis: what it shows, with its unit.
#[derive(Clone, Debug)]
pub struct Axis {
    pub label: String,
    pub log: bool,
}

/// The points of one name, in the order of x. The name has the same colour in all panels.
#[derive(Clone, Debug)]
pub struct Line {
    pub name: String,
    pub color: &'static str,
    /// The index of the mark.
    pub mark: usize,
    pub points: Vec<(f64, f64)>,
}

/// The whole figure.
pub fn svg(title: &str, panels: &[Panel]) -> String {
    let (width, height) = (PANEL_WIDTH * panels.len() as f64, TITLE_HEIGHT + PANEL_HEIGHT + LEGEND_HEIGHT);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         height=\"{height}\" font-family=\"system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif\" font-size=\"12\" \
         fill=\"#222\">\n<rect width=\"{width}\" height=\"{height}\" fill=\"#fff\"/>\n"
    );
    text(&mut out, (width / 2.0, 25.0), "middle", "font-size=\"16\" font-weight=\"600\"", title);
    for (number, panel) in panels.iter().enumerate() {
        Plot::new(panel, PANEL_WIDTH * number as f64, TITLE_HEIGHT).draw(&mut out);
    }
    legend(&mut out, panels, width, TITLE_HEIGHT + PANEL_HEIGHT + 14.0);
    out + "</svg>\n"
}

/// The names of all panels, each once, with the mark of its first panel.
fn names(panels: &[Panel]) -> Vec<&Line> {
    let mut names: Vec<&Line> = Vec::new();
    for line in panels.iter().flat_map(|panel| &panel.lines) {
        if !names.iter().any(|known| known.name == line.name) {
            names.push(line);
        }
    }
    names
}

fn legend(out: &mut String, panels: &[Panel], width: f64, y: f64) {
    const GAP: f64 = 22.0;
    const SAMPLE: f64 = 30.0;
    let names = names(panels);
    let length = |line: &Line| SAMPLE + 6.0 + line.name.chars().count() as f64 * 6.6;
    let whole: f64 = names.iter().map(|line| length(line) + GAP).sum::<f64>() - GAP;
    let mut x = (width - whole) / 2.0;
    for line in names {
        stroke(out, &[(x, y), (x + SAMPLE, y)], line.color);
        mark(out, line.mark, (x + SAMPLE / 2.0, y), line.color);
        text(out, (x + SAMPLE + 6.0, y + 4.0), "start", "", &line.name);
        x += length(line) + GAP;
    }
}

/// A panel at its position, with the ranges of its axes.
struct Plot<'p> {
    panel: &'p Panel,
    left: f64,
    top: f64,
    x: Span,
    y: Span,
}

/// From the minimum to the maximum on an axis, both on ticks.
struct Span {
    from: f64,
    to: f64,
    log: bool,
    ticks: Vec<f64>,
}

impl Span {
    /// The position of a value, from 0 to 1.
    fn place(&self, value: f64) -> f64 {
        let scaled = |value: f64| if self.log { value.max(1e-12).log10() } else { value };
        (scaled(value) - scaled(self.from)) / (scaled(self.to) - scaled(self.from)).max(1e-12)
    }
}

impl<'p> Plot<'p> {
    fn new(panel: &'p Panel, left: f64, top: f64) -> Plot<'p> {
        let points = || panel.lines.iter().flat_map(|line| line.points.iter().copied());
        let xs: Vec<f64> = points().map(|point| point.0).collect();
        let bound = panel.bound.iter().map(|(bound, _)| *bound);
        let ys: Vec<f64> = points().map(|point| point.1).chain(bound).collect();
        Plot { panel, left, top, x: steps(xs, panel.x.log), y: span(&ys, panel.y.log) }
    }

    fn at(&self, (x, y): (f64, f64)) -> (f64, f64) {
        let (wide, high) = (PANEL_WIDTH - LEFT - RIGHT, PANEL_HEIGHT - TOP - BOTTOM);
        let (x, y) = (self.x.place(x).clamp(0.0, 1.0), self.y.place(y).clamp(0.0, 1.0));
        (self.left + LEFT + x * wide, self.top + TOP + (1.0 - y) * high)
    }

    fn draw(&self, out: &mut String) {
        let panel = self.panel;
        self.grid(out);
        let (middle, _) = self.at((self.x.from, self.y.from));
        let middle = middle + (PANEL_WIDTH - LEFT - RIGHT) / 2.0;
        text(out, (middle, self.top + TOP - 12.0), "middle", "font-weight=\"600\"", &panel.title);
        text(out, (middle, self.top + PANEL_HEIGHT - 12.0), "middle", "", &panel.x.label);
        let (x, y) = (self.left + 14.0, self.top + TOP + (PANEL_HEIGHT - TOP - BOTTOM) / 2.0);
        text(out, (x, y), "middle", &format!("transform=\"rotate(-90 {x} {y})\""), &panel.y.label);
        if let Some((bound, name)) = &panel.bound {
            let (from, to) = (self.at((self.x.from, *bound)), self.at((self.x.to, *bound)));
            let _ = writeln!(
                out,
                "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke=\"#c92a2a\" \
                 stroke-dasharray=\"5 4\"/>",
                from.0, from.1, to.0, to.1
            );
            text(out, (to.0 - 4.0, to.1 - 5.0), "end", "fill=\"#c92a2a\" font-size=\"11\"", name);
        }
        for line in &panel.lines {
            let points: Vec<_> = line.points.iter().map(|point| self.at(*point)).collect();
            stroke(out, &points, line.color);
            points.iter().for_each(|point| mark(out, line.mark, *point, line.color));
        }
    }

    fn grid(&self, out: &mut String) {
        let small = "font-size=\"11\" fill=\"#555\"";
        for tick in &self.y.ticks {
            let (from, to) = (self.at((self.x.from, *tick)), self.at((self.x.to, *tick)));
            rule(out, from, to, if *tick == self.y.from { "#888" } else { "#e3e3e3" });
            text(out, (from.0 - 6.0, from.1 + 4.0), "end", small, &number(*tick));
        }
        let mut free = f64::INFINITY;
        for tick in self.x.ticks.iter().rev() {
            let (from, to) = (self.at((*tick, self.y.from)), self.at((*tick, self.y.to)));
            rule(out, from, to, if *tick == self.x.from { "#888" } else { "#f0f0f0" });
            if from.0 <= free {
                text(out, (from.0, from.1 + 16.0), "middle", small, &number(*tick));
                free = from.0 - LABEL_WIDTH;
            }
        }
    }
}

/// The steps that were measured are the ticks.
fn steps(mut values: Vec<f64>, log: bool) -> Span {
    values.sort_by(f64::total_cmp);
    values.dedup();
    let (from, to) = (values.first().copied().unwrap_or(0.0), values.last().copied().unwrap_or(1.0));
    Span { from, to: if to > from { to } else { from + 1.0 }, log, ticks: values }
}

/// A linear axis starts at zero, a logarithmic one at a power of ten or half of one.
fn span(values: &[f64], log: bool) -> Span {
    let most = values.iter().copied().fold(0.0, f64::max).max(1e-9);
    if !log {
        let step = nice(most / 5.0);
        let count = (most / step).ceil();
        return Span {
            from: 0.0,
            to: step * count,
            log,
            ticks: (0..=count as u32).map(|n| step * f64::from(n)).collect(),
        };
    }
    let least = values.iter().copied().filter(|value| *value > 0.0).fold(most, f64::min);
    let decades = (least.log10().floor() as i32)..=(most.log10().ceil() as i32);
    let narrow = decades.clone().count() <= 4;
    let leads: &[f64] = if narrow { &[1.0, 2.0, 5.0] } else { &[1.0] };
    let all: Vec<f64> =
        decades.flat_map(|decade| leads.iter().map(move |lead| lead * 10_f64.powi(decade))).collect();
    let from = all.iter().copied().filter(|tick| *tick <= least).fold(all[0], f64::max);
    let to = all.iter().copied().find(|tick| *tick >= most).unwrap_or(most);
    Span { from, to, log, ticks: all.into_iter().filter(|tick| (from..=to).contains(tick)).collect() }
}

/// The next of 1, 2, 5 times a power of ten.
fn nice(value: f64) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    let lead = [1.0, 2.0, 5.0, 10.0].into_iter().find(|lead| lead * power >= value * 0.999);
    lead.unwrap_or(10.0) * power
}

/// With thousands separators; small numbers with the digits they need.
fn number(value: f64) -> String {
    if value < 10.0 && value.fract() != 0.0 {
        let text = format!("{value:.3}");
        return text.trim_end_matches('0').trim_end_matches('.').to_string();
    }
    let digits = format!("{value:.0}");
    let mut out = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn text(out: &mut String, (x, y): (f64, f64), anchor: &str, more: &str, text: &str) {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(out, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" {more}>{text}</text>");
}

fn rule(out: &mut String, from: (f64, f64), to: (f64, f64), color: &str) {
    let _ = writeln!(
        out,
        "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke=\"{color}\"/>",
        from.0, from.1, to.0, to.1
    );
}

fn stroke(out: &mut String, points: &[(f64, f64)], color: &str) {
    let points: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    let _ = writeln!(
        out,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"2\" stroke-linejoin=\"round\"/>",
        points.join(" ")
    );
}

fn mark(out: &mut String, number: usize, (x, y): (f64, f64), color: &str) {
    let shape = match number % MARKS {
        0 => format!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\""),
        1 => format!("<rect x=\"{:.1}\" y=\"{:.1}\" width=\"7\" height=\"7\"", x - 3.5, y - 3.5),
        2 => format!("<path d=\"M{x:.1} {:.1}l4.5 8h-9z\"", y - 5.0),
        _ => format!("<path d=\"M{x:.1} {:.1}l5 5l-5 5l-5 -5z\"", y - 5.0),
    };
    let _ = writeln!(out, "{shape} fill=\"{color}\" stroke=\"#fff\" stroke-width=\"0.8\"/>");
}
