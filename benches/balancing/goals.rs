//! Whether the goals are met: ratios are paired by seed, and the median of them counts.

use super::row::{Row, SIMULATED};
use super::scenario::Scenario;
use std::collections::BTreeSet;

/// With a larger share of failures a balancer is not taken for the best: what fails often is not good because the rest is
/// quick.
const MOST_FAILURES: f64 = 0.01;
/// To the best peer, p99 and p99.9.
const TO_PEER: f64 = 1.03;
/// To the best peer where servers are unlike, from this load on in percent.
const TO_PEER_UNLIKE: (f64, f64) = (0.75, 95.0);
/// To the ideal at p99, by the load in percent.
const TO_IDEAL: [(f64, f64); 2] = [(80.0, 1.25), (95.0, 1.5)];
/// Good responses in overload, of the capacity.
const GOODPUT: f64 = 0.98;
/// How far the simulation may be from what was measured, at p99.
const PREDICTED: f64 = 0.15;

/// Prints a table with a line for each goal.
pub fn print(rows: &[Row], scenarios: &[Scenario]) {
    println!(
        "\nGoals: medians of paired ratios over the seeds\n{:<16}{:>6}  {:<26}{:<30}{:>8}{:>8}",
        "", "load", "", "", "is", "goal"
    );
    for scenario in scenarios {
        let of_scenario: Vec<_> = rows.iter().filter(|row| row.scenario == scenario.name).collect();
        let loads: BTreeSet<u64> = of_scenario.iter().map(|row| row.load as u64).collect();
        for load in loads {
            let rows: Vec<_> = of_scenario.iter().copied().filter(|row| row.load as u64 == load).collect();
            let names: BTreeSet<&str> = rows.iter().map(|row| row.balancer.as_str()).collect();
            let own = names.iter().filter(|name| !name.starts_with("ideal"));
            for name in own.filter(|name| name.contains("evenkeel dynamic")) {
                judge(scenario, load as f64, name, &rows);
            }
        }
    }
}

fn judge(scenario: &Scenario, load: f64, name: &str, rows: &[&Row]) {
    let line = |what: &str, is: f64, goal: f64, met: bool| {
        let verdict = if met { "met" } else { "MISSED" };
        println!("{:<16}{load:>4} %  {name:<36}{what:<30}{is:>8.2}{goal:>8.2}  {verdict}", scenario.name);
    };
    let Some(ratio) = Ratios::new(rows, name) else { return };
    if load > 100.0 {
        let good = median(rows.iter().filter(|row| row.balancer == name).map(|row| row.good_per_s).collect());
        let is = good / scenario.capacity();
        return line("good responses to capacity", is, GOODPUT, is >= GOODPUT);
    }
    if let Some((_, goal)) = TO_IDEAL.iter().find(|(at, _)| *at == load) {
        if let Some(is) = ratio.to("ideal", |row| row.p99_ms) {
            line("p99 to the ideal", is, *goal, is <= *goal);
        }
    }
    if name.starts_with(SIMULATED) {
        // How it compares with peers is for the measured rows to say.
        let measured = name.trim_start_matches(SIMULATED);
        if let Some(is) = ratio.to(measured, |row| row.p99_ms) {
            line("p99 as measured (simulation)", is, 1.0 + PREDICTED, (is - 1.0).abs() <= PREDICTED);
        }
        return;
    }
    let goal = match scenario.is_unlike && load >= TO_PEER_UNLIKE.1 {
        true => TO_PEER_UNLIKE.0,
        false => TO_PEER,
    };
    for (what, of) in [("p99", (|row| row.p99_ms) as fn(&Row) -> f64), ("p99.9", |row: &Row| row.p99_9_ms)] {
        if let Some(best) = best_peer(rows, of) {
            if let Some(is) = ratio.to(best, of) {
                line(&format!("{what} to {best}"), is, goal, is <= goal);
            }
        }
    }
}

/// The peer with the lowest median, of those that responded.
fn best_peer<'r>(rows: &[&'r Row], of: fn(&Row) -> f64) -> Option<&'r str> {
    let names: BTreeSet<&str> =
        rows.iter().filter(|row| row.is_peer()).map(|row| row.balancer.as_str()).collect();
    let median_of = |name: &&str| {
        let own: Vec<_> = rows.iter().filter(|row| row.balancer == *name).collect();
        let failures: usize = own.iter().map(|row| row.failures).sum();
        let requests: usize = own.iter().map(|row| row.requests).sum();
        let median = median(own.iter().map(|row| of(row)).collect());
        (failures as f64 <= MOST_FAILURES * requests as f64).then_some(median)
    };
    let known = names.into_iter().filter_map(|name| median_of(&name).map(|median| (name, median)));
    known.min_by(|one, other| one.1.total_cmp(&other.1)).map(|(name, _)| name)
}

/// The rows of a balancer, to be set beside those of another one with the same seeds.
struct Ratios<'r> {
    own: Vec<&'r Row>,
    rows: &'r [&'r Row],
}

impl<'r> Ratios<'r> {
    fn new(rows: &'r [&'r Row], name: &str) -> Option<Self> {
        let own: Vec<_> = rows.iter().copied().filter(|row| row.balancer == name).collect();
        (!own.is_empty()).then_some(Ratios { own, rows })
    }

    fn to(&self, other: &str, of: fn(&Row) -> f64) -> Option<f64> {
        let pair = |own: &&Row| {
            let other = self.rows.iter().find(|row| row.balancer == other && row.seed == own.seed)?;
            (of(other) > 0.0).then(|| of(own) / of(other))
        };
        let ratios: Vec<_> = self.own.iter().filter_map(pair).collect();
        (!ratios.is_empty()).then(|| median(ratios))
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        count if count % 2 == 0 => (values[count / 2 - 1] + values[count / 2]) / 2.0,
        count => values[count / 2],
    }
}
