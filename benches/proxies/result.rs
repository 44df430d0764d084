//! What was measured: samples, rows, the file they are kept in.

use super::process::Memory;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// One proxy under one load in one round.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Sample {
    pub requests_per_s: f64,
    pub bytes_per_s: f64,
    pub p50_us: f64,
    pub p99_us: f64,
    /// Zero for the direct connection, which has no process.
    pub cpu_us_per_request: f64,
    pub cpu_us_per_mib: f64,
    pub switches_per_request: f64,
    pub memory: Memory,
    /// Why the sample is not to be trusted.
    pub complaint: Option<String>,
}

/// One proxy under one load, all rounds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    pub work: String,
    pub connections: usize,
    pub proxy: String,
    pub by_bytes: bool,
    pub samples: Vec<Sample>,
}

/// What a proxy holds when nothing but idle connections is on it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Idle {
    pub proxy: String,
    pub connections: usize,
    pub before: Memory,
    pub holding: Memory,
    pub complaint: Option<String>,
}

/// How long a proxy took to its first answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Start {
    pub proxy: String,
    pub start_ms: f64,
}

/// Where it was measured.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Machine {
    pub cpus: usize,
    pub model: String,
    pub kernel: String,
    pub versions: Vec<String>,
    pub evenkeel_bytes: u64,
}

/// A whole run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    pub machine: Machine,
    pub rounds: usize,
    pub seconds: f64,
    pub rows: Vec<Row>,
    pub idle: Vec<Idle>,
    pub starts: Vec<Start>,
    /// Proxies that were not measured, and why.
    pub missing: Vec<String>,
}

impl Row {
    /// The median of a figure over the rounds.
    pub fn median(&self, figure: impl Fn(&Sample) -> f64) -> f64 {
        median(self.samples.iter().map(figure).collect())
    }

    /// The first complaint, with its round.
    pub fn complaint(&self) -> Option<String> {
        let found = self
            .samples
            .iter()
            .enumerate()
            .find_map(|(round, sample)| Some((round, sample.complaint.as_ref()?)));
        found.map(|(round, complaint)| format!("{} in round {}: {complaint}", self.proxy, round + 1))
    }
}

impl Report {
    /// The row of a proxy under a load.
    pub fn row(&self, work: &str, connections: usize, proxy: &str) -> Option<&Row> {
        let is = |row: &&Row| row.work == work && row.connections == connections && row.proxy == proxy;
        self.rows.iter().find(is)
    }

    /// Reads a report that was kept.
    pub fn read(path: &Path) -> Result<Report, String> {
        let cannot = |error: &dyn std::fmt::Display| format!("cannot read {}: {error}", path.display());
        let text = std::fs::read_to_string(path).map_err(|error| cannot(&error))?;
        serde_json::from_str(&text).map_err(|error| cannot(&error))
    }

    /// Keeps the report.
    pub fn write(&self, path: &Path) -> Result<(), String> {
        let cannot = |error: &dyn std::fmt::Display| format!("cannot write {}: {error}", path.display());
        let text = serde_json::to_string_pretty(self).map_err(|error| cannot(&error))?;
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|error| cannot(&error))?;
        }
        std::fs::write(path, text + "\n").map_err(|error| cannot(&error))
    }
}

/// The value in the middle; the mean of the two in the middle of an even number.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        count if count % 2 == 1 => values[count / 2],
        count => (values[count / 2 - 1] + values[count / 2]) / 2.0,
    }
}
