//! Prints reports: tables, ratios, and what changed between two.

use super::result::{Report, Row, Sample};

type Figure = (&'static str, fn(&Sample) -> f64);

const BY_REQUESTS: &[Figure] = &[
    ("requests/s", |sample| sample.requests_per_s),
    ("p50 us", |sample| sample.p50_us),
    ("p99 us", |sample| sample.p99_us),
    ("cpu us/req", |sample| sample.cpu_us_per_request),
    ("switches/req", |sample| sample.switches_per_request),
    ("peak MiB", |sample| sample.memory.peak_kib as f64 / 1024.0),
];

const BY_BYTES: &[Figure] = &[
    ("MiB/s", |sample| sample.bytes_per_s / 1_048_576.0),
    ("p50 us", |sample| sample.p50_us),
    ("p99 us", |sample| sample.p99_us),
    ("cpu us/MiB", |sample| sample.cpu_us_per_mib),
    ("switches/req", |sample| sample.switches_per_request),
    ("peak MiB", |sample| sample.memory.peak_kib as f64 / 1024.0),
];

/// The figures whose ratios are told.
const COMPARED: usize = 4;

fn figures(row: &Row) -> &'static [Figure] {
    if row.by_bytes { BY_BYTES } else { BY_REQUESTS }
}

/// Prints the machine.
pub fn print_machine(report: &Report) {
    let machine = &report.machine;
    println!("{} x {}, Linux {}", machine.cpus, machine.model, machine.kernel);
    println!("{}", machine.versions.join(" · "));
    println!("evenkeel's program has {:.1} MiB", machine.evenkeel_bytes as f64 / 1_048_576.0);
    report.missing.iter().for_each(|missing| println!("! {missing}"));
}

/// Prints the medians of one load, and how Evenkeel compares with each peer.
pub fn print_load(report: &Report, work: &str, connections: usize) {
    let is = |row: &&Row| row.work == work && row.connections == connections;
    let rows: Vec<&Row> = report.rows.iter().filter(is).collect();
    let Some(first) = rows.first() else { return };
    println!("\n{work}, {connections} connections");
    let names: String = figures(first).iter().map(|(name, _)| format!("{name:>14}")).collect();
    println!("  {:<18}{names}", "");
    for row in &rows {
        let cells: String =
            figures(row).iter().map(|(_, of)| format!("{:>14}", number(row.median(of)))).collect();
        println!("  {:<18}{cells}", row.proxy);
    }
    for peer in ["nginx", "haproxy"] {
        if let (Some(ours), Some(theirs)) =
            (report.row(work, connections, "evenkeel"), report.row(work, connections, peer))
        {
            print_ratios(&format!("evenkeel/{peer}"), ours, theirs);
        }
    }
    rows.iter().filter_map(|row| row.complaint()).for_each(|complaint| println!("  ! {complaint}"));
}

fn print_ratios(title: &str, ours: &Row, theirs: &Row) {
    if let Some(complaint) = ours.complaint().or(theirs.complaint()) {
        return println!("  {title:<18}no ratio: {complaint}");
    }
    let cells: String = figures(ours)
        .iter()
        .take(COMPARED)
        .map(|(_, of)| ratio(ours.median(of), theirs.median(of)))
        .collect();
    println!("  {title:<18}{cells}");
}

/// Prints what idle connections cost.
pub fn print_idle(report: &Report) {
    for idle in &report.idle {
        println!(
            "idle: {:<10} {:>6} connections: {:>7.1} MiB resident, {:>7.1} proportional ({:.1} before)",
            idle.proxy,
            idle.connections,
            idle.holding.resident_kib as f64 / 1024.0,
            idle.holding.proportional_kib as f64 / 1024.0,
            idle.before.resident_kib as f64 / 1024.0,
        );
        idle.complaint.iter().for_each(|complaint| println!("  ! {complaint}"));
    }
}

/// Prints the time to the first answer.
pub fn print_starts(report: &Report) {
    for start in &report.starts {
        println!("start to first answer: {:<10} {:>8.1} ms", start.proxy, start.start_ms);
    }
}

/// Prints how this report differs from an older one: new by old.
pub fn print_comparison(report: &Report, old: &Report) {
    println!("\nnew / old");
    for row in &report.rows {
        let title = format!("{} {} {}", row.work, row.connections, row.proxy);
        let Some(before) = old.row(&row.work, row.connections, &row.proxy) else { continue };
        if let Some(complaint) = row.complaint().or(before.complaint()) {
            println!("  {title:<32}no ratio: {complaint}");
            continue;
        }
        let one =
            |(name, of): &Figure| format!("  {name} {}", ratio(row.median(of), before.median(of)).trim());
        let cells: String = figures(row).iter().take(COMPARED).map(one).collect();
        println!("  {title:<32}{cells}");
    }
}

fn ratio(ours: f64, theirs: f64) -> String {
    if theirs > 0.0 && ours > 0.0 { format!("{:>13.2}x", ours / theirs) } else { format!("{:>14}", "-") }
}

fn number(value: f64) -> String {
    match value {
        0.0 => "-".to_string(),
        value if value >= 100.0 => format!("{value:.0}"),
        value => format!("{value:.2}"),
    }
}
