//! The tables of docs/performance.md, to be pasted there.

use super::overload;
use super::result::{OverloadSample, PickCost, Report, Row, Sample, median};
use super::table::{COMPARED, figures, number};
use super::work::{self, Unit, Work};
use std::fmt::Write;

const PROXIES: [&str; 3] = ["evenkeel", "nginx", "haproxy"];

/// All tables for which the report has figures.
pub fn tables(report: &Report) -> String {
    let mut out = String::new();
    machine(&mut out, report);
    let versus = |work: &&Work| work.unit == Unit::Connections;
    let rows: Vec<&Work> = work::ALL.iter().filter(versus).collect();
    loads(&mut out, report, &rows);
    for work in work::ALL.iter().filter(|work| work.unit != Unit::Connections) {
        scale(&mut out, report, work);
    }
    overloads(&mut out, report);
    costs(&mut out, report);
    held(&mut out, report);
    out
}

fn line(out: &mut String, text: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{text}");
}

/// A table's heading, with its columns.
fn heading(out: &mut String, title: &str, columns: &[&str]) {
    line(out, &format!("\n### {title}\n\n| {} |", columns.join(" | ")));
    line(out, &format!("|{}", "---|".repeat(columns.len())));
}

fn machine(out: &mut String, report: &Report) {
    let machine = &report.machine;
    let versions: Vec<&str> = machine.programs.iter().map(|program| program.version.as_str()).collect();
    line(
        out,
        &format!(
            "{} × {}, {} MiB, Linux {}; commit {}; {}. {} rounds of {} s; medians. A ratio is the median of the ratios of each round.",
            machine.cpus,
            machine.model,
            machine.memory_mib,
            machine.kernel,
            machine.commit,
            versions.join("; "),
            report.rounds,
            report.seconds
        ),
    );
}

/// Evenkeel against the others, one line per load.
fn loads(out: &mut String, report: &Report, works: &[&Work]) {
    let of_works = |row: &&Row| works.iter().any(|work| work.name == row.work) && row.proxy == PROXIES[0];
    let rows: Vec<&Row> = report.rows.iter().filter(of_works).collect();
    if rows.is_empty() {
        return;
    }
    let columns = [
        "Load",
        "Connections",
        "Requests/s or MiB/s: Evenkeel · nginx · HAProxy · direct",
        "to nginx · HAProxy",
        "CPU us a request or MiB: Evenkeel · nginx · HAProxy",
        "to nginx · HAProxy",
        "p50 to nginx · HAProxy",
        "p99 to nginx · HAProxy",
    ];
    heading(out, "Loads", &columns);
    for ours in rows {
        let title = works.iter().find(|work| work.name == ours.work).map_or("", |work| work.title);
        let figures = &figures(ours)[..COMPARED];
        let [rate, p50, p99, cpu] = [0, 1, 2, 3].map(|at| figures[at].1);
        let all = ["evenkeel", "nginx", "haproxy", "direct"];
        let cells = [
            title.to_string(),
            grouped(ours.at as f64),
            values(report, ours, &all, rate),
            ratios(report, ours, rate),
            values(report, ours, &PROXIES, cpu),
            ratios(report, ours, cpu),
            ratios(report, ours, p50),
            ratios(report, ours, p99),
        ];
        line(out, &format!("| {} |", cells.join(" | ")));
    }
}

fn values(report: &Report, ours: &Row, proxies: &[&str], of: fn(&Sample) -> f64) -> String {
    let one = |proxy: &&str| match report.row(&ours.work, ours.at, proxy) {
        Some(row) if row.complaint().is_none() => grouped(row.median(of)),
        _ => "–".to_string(),
    };
    proxies.iter().map(one).collect::<Vec<_>>().join(" · ")
}

/// The ratio of our figure to theirs; none if one of them had errors.
fn ratios(report: &Report, ours: &Row, of: fn(&Sample) -> f64) -> String {
    let one = |peer: &&str| {
        let ratio = report.row(&ours.work, ours.at, peer).and_then(|theirs| ours.to(theirs, of));
        ratio.map_or("–".to_string(), |ratio| format!("{ratio:.2}"))
    };
    PROXIES[1..].iter().map(one).collect::<Vec<_>>().join(" · ")
}

/// One pair of columns per proxy, one line per step.
fn scale(out: &mut String, report: &Report, work: &Work) {
    let rows: Vec<&Row> =
        report.rows.iter().filter(|row| row.work == work.name && row.proxy == PROXIES[0]).collect();
    if rows.is_empty() {
        return;
    }
    let proxies: &[&str] = if work.unit == Unit::Workers { &PROXIES[..1] } else { &PROXIES };
    let names = if proxies.len() > 1 { ": Evenkeel · nginx · HAProxy" } else { "" };
    let (rate, cpu) = (format!("Requests/s{names}"), format!("CPU us a request{names}"));
    let p99 = format!("p99 ms{names}");
    let unit = work.unit.name();
    let title = format!("By {unit}: {}", work.title);
    heading(out, &title, &[&capitalised(unit), &rate, &cpu, &p99]);
    for row in rows {
        let cells = [
            grouped(row.at as f64),
            values(report, row, proxies, |sample| sample.requests_per_s),
            values(report, row, proxies, |sample| sample.cpu_us_per_request),
            values(report, row, proxies, |sample| sample.p99_us / 1e3),
        ];
        line(out, &format!("| {} |", cells.join(" | ")));
    }
}

fn overloads(out: &mut String, report: &Report) {
    if report.overload.is_empty() {
        return;
    }
    let columns = [
        "Offered",
        "Proxy",
        "Good responses/s",
        "of the capacity",
        "p50 · p99 of good responses, ms",
        "Rejected",
        "p50 · p99 to the rejection, ms",
        "Without a response",
    ];
    heading(
        out,
        &format!("Overload: servers that can do {:.0} requests/s", report.overload[0].capacity()),
        &columns,
    );
    for row in &report.overload {
        let ms = |of: fn(&OverloadSample) -> f64| number(row.median(of) / 1e3);
        let good = row.median(|sample| sample.good_per_s);
        let lost: u64 = row.samples.iter().map(|sample| sample.lost).sum();
        let cells = [
            format!("{} ×", row.factor),
            row.proxy.clone(),
            grouped(good),
            format!("{:.0} %", good / row.capacity() * 100.0),
            format!("{} · {}", ms(|sample| sample.good_p50_us), ms(|sample| sample.good_p99_us)),
            format!("{:.1} %", row.median(|sample| sample.rejected_share) * 100.0),
            format!("{} · {}", ms(|sample| sample.rejected_p50_us), ms(|sample| sample.rejected_p99_us)),
            lost.to_string(),
        ];
        line(out, &format!("| {} |", cells.join(" | ")));
    }
    for broken in overload::broken_promises(report) {
        line(out, &format!("\n**Violated:** {broken}."));
    }
}

fn costs(out: &mut String, report: &Report) {
    let mut servers: Vec<usize> = report.picks.iter().map(|cost| cost.servers).collect();
    servers.dedup();
    let Some(first) = servers.first() else { return };
    let columns: Vec<String> =
        servers.iter().map(|servers| format!("{} servers", grouped(*servers as f64))).collect();
    let columns: Vec<&str> = ["Algorithm"].into_iter().chain(columns.iter().map(String::as_str)).collect();
    heading(out, "Nanoseconds of a pick", &columns);
    for title in report.picks.iter().filter(|cost| cost.servers == *first).map(PickCost::title) {
        let costs = report.picks.iter().filter(|cost| cost.title() == title);
        let cells: Vec<String> = costs.map(|cost| grouped(cost.nanoseconds)).collect();
        line(out, &format!("| {title} | {} |", cells.join(" | ")));
    }
}

/// Memory, start and size.
fn held(out: &mut String, report: &Report) {
    if report.idle.is_empty() && report.starts.is_empty() {
        return;
    }
    let columns = ["", "Evenkeel", "nginx", "HAProxy"];
    heading(out, "Memory, start, size", &columns);
    let mut row = |title: &str, cell: &dyn Fn(&str) -> Option<String>| {
        let cells = PROXIES.map(|proxy| cell(proxy).unwrap_or("–".to_string()));
        line(out, &format!("| {title} | {} |", cells.join(" | ")));
    };
    let mib = |kib: u64| format!("{:.1} MiB", kib as f64 / 1024.0);
    let idle = |proxy: &str| report.idle.iter().find(|idle| idle.proxy == proxy && idle.complaint.is_none());
    let count = report.idle.first().map_or(0, |idle| idle.connections);
    row(&format!("{} idle connections, proportional set", grouped(count as f64)), &|proxy| {
        idle(proxy).map(|idle| mib(idle.holding.proportional_kib))
    });
    row("before them", &|proxy| idle(proxy).map(|idle| mib(idle.before.proportional_kib)));
    row("start to first response", &|proxy| {
        let start = report.starts.iter().find(|start| start.proxy == proxy)?;
        Some(format!("{:.1} ms", median(start.start_ms.clone())))
    });
    row("program, without symbols", &|proxy| {
        let program = report.machine.programs.iter().find(|program| program.proxy == proxy)?;
        (program.loaded_bytes > 0).then(|| mib(program.loaded_bytes / 1024))
    });
}

/// Large numbers with thousands separators, small ones with two decimal places.
fn grouped(value: f64) -> String {
    if value < 100.0 && value.fract() != 0.0 {
        return number(value);
    }
    let digits = format!("{value:.0}");
    let apart = |(place, digit): (usize, char)| {
        let comma = place > 0 && (digits.len() - place) % 3 == 0;
        comma.then_some(',').into_iter().chain([digit])
    };
    digits.chars().enumerate().flat_map(apart).collect()
}

fn capitalised(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}
