//! A balancer in a scenario, at a load, with a seed.

use super::client::Outcome;
use super::scenario::Scenario;
use evenkeel::state::simulation::Report;
use serde::Serialize;

/// What the names of simulated rows begin with.
pub const SIMULATED: &str = "simulated ";

#[derive(Clone, Debug, Serialize)]
pub struct Row {
    pub scenario: &'static str,
    pub load: f64,
    pub seed: u64,
    pub balancer: String,
    pub requests: usize,
    pub failures: usize,
    pub good_per_s: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub p99_9_ms: f64,
    /// The 99th percentile of how late the generator sent; 0 for what is computed.
    pub late_p99_ms: f64,
    /// Percent of the responses by server.
    pub shares: Vec<f64>,
}

impl Row {
    /// `[load, seconds]`: percent of the capacity, and for how long.
    pub fn of(
        scenario: &Scenario,
        [load, seconds]: [f64; 2],
        seed: u64,
        balancer: String,
        outcome: Outcome,
    ) -> Self {
        let [p50_ms, p99_ms, p99_9_ms] = outcome.quantiles_ms;
        Row {
            scenario: scenario.name,
            load,
            seed,
            balancer,
            requests: outcome.good + outcome.failures,
            failures: outcome.failures,
            good_per_s: outcome.good as f64 / seconds,
            p50_ms,
            p99_ms,
            p99_9_ms,
            late_p99_ms: outcome.late_p99_ms,
            shares: outcome.shares,
        }
    }

    pub fn print_json(&self) -> Result<(), String> {
        println!("{}", serde_json::to_string(self).map_err(|error| error.to_string())?);
        Ok(())
    }

    /// Neither computed nor Evenkeel.
    pub fn is_peer(&self) -> bool {
        self.balancer != "ideal" && !self.is_simulated() && !self.is_evenkeel()
    }

    pub fn is_simulated(&self) -> bool {
        self.balancer.starts_with(SIMULATED)
    }

    /// Measured, not simulated.
    pub fn is_evenkeel(&self) -> bool {
        self.balancer.starts_with("evenkeel")
    }
}

pub fn computed(report: &Report) -> Outcome {
    let ms = |share| report.quantile(share).as_secs_f64() * 1e3;
    let good = report.good as usize;
    Outcome {
        good,
        failures: report.requests as usize - good,
        quantiles_ms: [ms(0.5), ms(0.99), ms(0.999)],
        late_p99_ms: 0.0,
        shares: report.percent(0..report.shares.len()),
    }
}

pub fn print(rows: &[Row], scenario: &Scenario) {
    let Some(ideal) = rows.first() else { return };
    let Row { scenario: name, load, seed, requests, .. } = ideal;
    println!("\n{name} ({}) at {load} %, seed {seed}, {requests} requests", scenario.about);
    println!(
        "{:<37}{:>9}{:>9}{:>9}{:>9}{:>9}{:>9}{:>8}  shares",
        "", "p50 ms", "p99", "p99.9", "failures", "good/s", "to ideal", "late"
    );
    for row in rows {
        let shares: Vec<_> = row.shares.iter().take(8).map(|share| format!("{share:.0}")).collect();
        println!(
            "{:<37}{:>9.1}{:>9.1}{:>9.1}{:>9}{:>9.0}{:>9.2}{:>8.2}  {}",
            row.balancer,
            row.p50_ms,
            row.p99_ms,
            row.p99_9_ms,
            row.failures,
            row.good_per_s,
            row.p99_ms / ideal.p99_ms,
            row.late_p99_ms,
            shares.join("/")
        );
    }
}
