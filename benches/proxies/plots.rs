//! The charts and their contents.

use super::chart::{self, Axis, Line, Panel};
use super::overload;
use super::result::{Overload, Report, Row, Sample, write_text};
use std::path::Path;

/// In the order of the legend.
const PROXIES: [&str; 4] = ["evenkeel", "nginx", "haproxy", "direct"];
const COLORS: [&str; 6] = ["#1864ab", "#2b8a3e", "#e8590c", "#868e96", "#9c36b5", "#0b7285"];

/// Draws the charts for which the report has figures into this folder; returns the names of the files.
pub fn draw(report: &Report, folder: &Path) -> Result<Vec<String>, String> {
    let charts = [connections(report), servers(report), workers(report), picks(report), overloads(report)];
    let mut drawn = Vec::new();
    for (name, title, panels) in charts {
        if panels.iter().any(|panel| panel.lines.is_empty()) {
            continue;
        }
        let name = format!("performance-{name}.svg");
        write_text(&chart::svg(title, &panels), &folder.join(&name))?;
        drawn.push(name);
    }
    Ok(drawn)
}

type Chart = (&'static str, &'static str, Vec<Panel>);

fn connections(report: &Report) -> Chart {
    let panels = two_panels(report, "connections", "connections");
    ("connections", "Small responses, by the number of connections", panels)
}

fn servers(report: &Report) -> Chart {
    let panels = two_panels(report, "servers", "configured servers");
    ("servers", "Small responses with 64 connections, by the number of servers", panels)
}

/// Requests per second, and what they cost.
fn two_panels(report: &Report, work: &str, label: &str) -> Vec<Panel> {
    let lines = |of: fn(&Sample) -> f64| -> Vec<Line> {
        let one = |(at, name): (usize, &str)| line(name, at, points(report, work, name, of));
        // The direct connection would compress the scale for the others, and has no process to be measured.
        PROXIES[..3].iter().copied().enumerate().map(one).filter(has_points).collect()
    };
    vec![
        panel("Requests per second", label, "requests/s", lines(|sample| sample.requests_per_s)),
        panel("Processor time", label, "us of CPU per request", lines(|sample| sample.cpu_us_per_request)),
    ]
}

fn workers(report: &Report) -> Chart {
    let loads = [
        ("workers", "servers that respond at once, 256 connections"),
        ("workers-10ms", "servers that take 10 ms, 1,000 connections"),
    ];
    let lines = |of: fn(&Sample) -> f64| -> Vec<Line> {
        let one =
            |(at, (work, name)): (usize, (&str, &str))| line(name, at, points(report, work, "evenkeel", of));
        loads.into_iter().enumerate().map(one).filter(has_points).collect()
    };
    let label = "max_workers";
    let panels = vec![
        panel("Requests per second", label, "requests/s", lines(|sample| sample.requests_per_s)),
        panel("Processor time", label, "us of CPU per request", lines(|sample| sample.cpu_us_per_request)),
    ];
    ("workers", "Evenkeel, by the number of its workers", panels)
}

fn picks(report: &Report) -> Chart {
    let lines = |whole: bool| {
        let mut lines: Vec<Line> = Vec::new();
        for cost in report.picks.iter().filter(|cost| cost.whole == whole) {
            let point = (cost.servers as f64, cost.nanoseconds.max(1.0));
            match lines.iter_mut().find(|line| line.name == cost.algorithm) {
                Some(line) => line.points.push(point),
                None => lines.push(line(&cost.algorithm, lines.len(), vec![point])),
            }
        }
        lines
    };
    let mut panels = vec![
        panel("The algorithm alone, given every server", "servers", "nanoseconds", lines(false)),
        panel("In a request: table, candidates, pick, lease", "servers", "nanoseconds", lines(true)),
    ];
    panels.iter_mut().for_each(|panel| panel.y.log = true);
    ("picks", "Picking a server, by the number of servers", panels)
}

fn overloads(report: &Report) -> Chart {
    let lines = |of: &dyn Fn(&Overload) -> f64| -> Vec<Line> {
        let one = |(at, name): (usize, &str)| {
            let rows = report.overload.iter().filter(|row| row.proxy == name);
            let points = rows.map(|row| (row.factor, of(row))).filter(|point| point.1 > 0.0);
            line(name, at, points.collect())
        };
        PROXIES.into_iter().enumerate().map(one).filter(has_points).collect()
    };
    let label = "offered load, times the capacity";
    let share = |row: &Overload| row.median(|sample| sample.good_per_s) / row.capacity() * 100.0;
    let responses = |row: &Overload| row.median(|sample| sample.good_p99_us) / 1e3;
    let rejected = |row: &Overload| row.median(|sample| sample.rejected_p99_us) / 1e3;
    let mut panels = vec![
        panel("Goodput", label, "good responses, % of the capacity", lines(&share)),
        panel("Good responses, p99", label, "milliseconds", lines(&responses)),
        panel("Time to a rejection, p99", label, "milliseconds", lines(&rejected)),
    ];
    panels[1].y.log = true;
    panels[1].bound = Some((overload::RESPONSE_WITHIN_US / 1e3, "5 s".to_string()));
    panels[2].y.log = true;
    panels[2].bound = Some((overload::REJECTED_WITHIN_US / 1e3, "50 ms".to_string()));
    ("overload", "Overload: an open load of 1 to 8 times the capacity of the servers", panels)
}

fn points(report: &Report, work: &str, proxy: &str, of: fn(&Sample) -> f64) -> Vec<(f64, f64)> {
    let is = |row: &&Row| row.work == work && row.proxy == proxy && row.complaint().is_none();
    report.rows.iter().filter(is).map(|row| (row.at as f64, row.median(of))).collect()
}

/// The line with this index has its own colour and mark.
fn line(name: &str, at: usize, points: Vec<(f64, f64)>) -> Line {
    Line { name: name.to_string(), color: COLORS[at % COLORS.len()], mark: at, points }
}

fn has_points(line: &Line) -> bool {
    !line.points.is_empty()
}

/// All steps are geometric, so x is logarithmic.
fn panel(title: &str, x: &str, y: &str, lines: Vec<Line>) -> Panel {
    Panel {
        title: title.to_string(),
        x: Axis { label: format!("{x} (logarithmic)"), log: true },
        y: Axis { label: y.to_string(), log: false },
        lines,
        bound: None,
    }
}
