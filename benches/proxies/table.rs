//! Prints reports: tables, ratios, and the differences between two.

use super::overload;
use super::result::{Overload, OverloadSample, PickCost, Report, Row, Sample, median};

/// A figure of a sample, with its name.
pub type Figure = (&'static str, fn(&Sample) -> f64);

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

/// The figures whose ratios are printed.
pub const COMPARED: usize = 4;

/// The figures of a row, the compared ones first.
pub fn figures(row: &Row) -> &'static [Figure] {
    if row.by_bytes { BY_BYTES } else { BY_REQUESTS }
}

/// Prints the machine and the versions.
pub fn print_machine(report: &Report) {
    let machine = &report.machine;
    println!("{} x {}, {} MiB, Linux {}", machine.cpus, machine.model, machine.memory_mib, machine.kernel);
    println!("commit {}", machine.commit);
    for program in &machine.programs {
        println!("{}: {}", program.proxy, program.version);
    }
    report.missing.iter().for_each(|missing| println!("! {missing}"));
}

/// Prints all of a report.
pub fn print_all(report: &Report) {
    print_machine(report);
    report.loads().into_iter().for_each(|(work, at)| print_load(report, work, at));
    print_overload(report);
    print_picks(report);
    print_idle(report);
    print_starts(report);
}

/// Prints the medians of one load, and the comparison with each peer.
pub fn print_load(report: &Report, work: &str, at: usize) {
    let is = |row: &&Row| row.work == work && row.at == at;
    let rows: Vec<&Row> = report.rows.iter().filter(is).collect();
    let Some(first) = rows.first() else { return };
    println!("\n{work}, {at} {}", first.unit.name());
    let names: String = figures(first).iter().map(|(name, _)| format!("{name:>14}")).collect();
    println!("  {:<18}{names}", "");
    for row in &rows {
        let cells: String =
            figures(row).iter().map(|(_, of)| format!("{:>14}", number(row.median(of)))).collect();
        println!("  {:<18}{cells}", row.proxy);
    }
    for peer in ["floor", "before", "nginx", "haproxy"] {
        if let (Some(ours), Some(theirs)) = (report.row(work, at, "evenkeel"), report.row(work, at, peer)) {
            print_ratios(&format!("evenkeel/{peer}"), ours, theirs);
        }
    }
    rows.iter().filter_map(|row| row.complaint()).for_each(|complaint| println!("  ! {complaint}"));
}

fn print_ratios(title: &str, ours: &Row, theirs: &Row) {
    if let Some(complaint) = ours.complaint().or(theirs.complaint()) {
        return println!("  {title:<18}no ratio: {complaint}");
    }
    let cells: String =
        figures(ours).iter().take(COMPARED).map(|(_, of)| times(ours.to(theirs, of))).collect();
    println!("  {title:<18}{cells}");
}

/// Prints the cost of idle connections.
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

/// Prints the time to the first response, and the sizes of the programs.
pub fn print_starts(report: &Report) {
    for start in &report.starts {
        let middle = median(start.start_ms.clone());
        println!("start to first response: {:<10} {middle:>8.1} ms", start.proxy);
    }
    for program in report.machine.programs.iter().filter(|program| program.file_bytes > 0) {
        println!(
            "program: {:<10} {:>6.1} MiB to load, {:>6.1} MiB with symbols",
            program.proxy,
            mib(program.loaded_bytes),
            mib(program.file_bytes)
        );
    }
}

/// Prints the results beyond the capacity of the servers.
pub fn print_overload(report: &Report) {
    if report.overload.is_empty() {
        return;
    }
    println!("\noverload: servers with a capacity of {:.0} requests/s", report.overload[0].capacity());
    println!(
        "  {:<18}{:>9}{:>10}{:>12}{:>12}{:>10}{:>12}{:>12}{:>12}",
        "",
        "offered",
        "good/s",
        "good p50 ms",
        "good p99 ms",
        "rejected",
        "ref p50 ms",
        "ref p99 ms",
        "cpu us/req"
    );
    for row in &report.overload {
        let ms = |of: fn(&OverloadSample) -> f64| number(row.median(of) / 1e3);
        println!(
            "  {:<18}{:>8}x{:>10.0}{:>12}{:>12}{:>8.1} %{:>12}{:>12}{:>12}",
            row.proxy,
            row.factor,
            row.median(|sample| sample.good_per_s),
            ms(|sample| sample.good_p50_us),
            ms(|sample| sample.good_p99_us),
            row.median(|sample| sample.rejected_share) * 100.0,
            ms(|sample| sample.rejected_p50_us),
            ms(|sample| sample.rejected_p99_us),
            number(row.median(|sample| sample.cpu_us_per_request)),
        );
        if let Some(sample) = row.samples.iter().find(|sample| sample.lost > 0) {
            println!(
                "  ! {} at {}x: {} got no response ({})",
                row.proxy, row.factor, sample.lost, sample.statuses
            );
        }
    }
    overload::broken_promises(report).iter().for_each(|broken| println!("  ! {broken}"));
}

/// Prints the cost of a pick.
pub fn print_picks(report: &Report) {
    let mut servers: Vec<usize> = report.picks.iter().map(|cost| cost.servers).collect();
    servers.dedup();
    let Some(first) = servers.first() else { return };
    println!("\npicks: nanoseconds each");
    let heads: String =
        servers.iter().map(|servers| format!("{:>14}", format!("{servers} servers"))).collect();
    println!("  {:<32}{heads}", "");
    for title in report.picks.iter().filter(|cost| cost.servers == *first).map(PickCost::title) {
        let costs = report.picks.iter().filter(|cost| cost.title() == title);
        let cells: String = costs.map(|cost| format!("{:>14}", number(cost.nanoseconds))).collect();
        println!("  {title:<32}{cells}");
    }
}

/// Prints the difference to an older report: new divided by old.
pub fn print_comparison(report: &Report, old: &Report) {
    println!("\n{} / {}", report.machine.commit, old.machine.commit);
    for row in &report.rows {
        let title = format!("{} {} {}", row.work, row.at, row.proxy);
        let Some(before) = old.row(&row.work, row.at, &row.proxy) else { continue };
        if let Some(complaint) = row.complaint().or(before.complaint()) {
            println!("  {title:<32}no ratio: {complaint}");
            continue;
        }
        let one =
            |(name, of): &Figure| format!("  {name} {}", ratio(row.median(of), before.median(of)).trim());
        let cells: String = figures(row).iter().take(COMPARED).map(one).collect();
        println!("  {title:<32}{cells}");
    }
    for row in &report.overload {
        let is = |before: &&Overload| before.proxy == row.proxy && before.factor == row.factor;
        let Some(before) = old.overload.iter().find(is) else { continue };
        let of = |of: fn(&OverloadSample) -> f64| ratio(row.median(of), before.median(of)).trim().to_string();
        let (good, rejected) = (of(|sample| sample.good_per_s), of(|sample| sample.rejected_p99_us));
        println!("  overload {}x {:<20}  good/s {good}  p99 to 503 {rejected}", row.factor, row.proxy);
    }
    for cost in &report.picks {
        let is = |before: &&PickCost| before.title() == cost.title() && before.servers == cost.servers;
        let Some(before) = old.picks.iter().find(is) else { continue };
        let nanoseconds = ratio(cost.nanoseconds, before.nanoseconds);
        println!("  pick {} of {}: ns {}", cost.title(), cost.servers, nanoseconds.trim());
    }
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / 1_048_576.0
}

fn ratio(ours: f64, theirs: f64) -> String {
    times((theirs > 0.0 && ours > 0.0).then(|| ours / theirs))
}

fn times(ratio: Option<f64>) -> String {
    ratio.map_or(format!("{:>14}", "-"), |ratio| format!("{ratio:>13.2}x"))
}

/// Only significant digits.
pub fn number(value: f64) -> String {
    match value {
        0.0 => "-".to_string(),
        value if value >= 100.0 => format!("{value:.0}"),
        value => format!("{value:.2}"),
    }
}
