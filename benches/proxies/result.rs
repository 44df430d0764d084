//! The measurements: samples, rows, and the file that stores them.

use super::process::Memory;
use super::work::Unit;
use super::{arguments, overload, picks};
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
    /// Why the sample is not reliable.
    pub complaint: Option<String>,
}

/// One proxy under one load, all rounds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    pub work: String,
    pub unit: Unit,
    /// The number of connections, servers or workers.
    pub at: usize,
    pub proxy: String,
    pub by_bytes: bool,
    pub samples: Vec<Sample>,
}

/// One proxy under an open load that is a multiple of the servers' capacity, in one round.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OverloadSample {
    /// Good responses per second.
    pub good_per_s: f64,
    /// Latency of the good responses, from the moment the request was due.
    pub good_p50_us: f64,
    pub good_p99_us: f64,
    /// The part of all responses that were neither 2xx nor 3xx.
    pub rejected_share: f64,
    /// Time to a rejection, from the moment the request was due; zero when nothing was rejected.
    pub rejected_p50_us: f64,
    pub rejected_p99_us: f64,
    /// Requests without a response, and those that found no free connection.
    pub lost: u64,
    pub statuses: String,
    pub cpu_us_per_request: f64,
    pub memory: Memory,
}

/// One proxy at one multiple of the capacity, all rounds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Overload {
    pub proxy: String,
    /// Offered load divided by capacity.
    pub factor: f64,
    pub offered_per_s: f64,
    pub samples: Vec<OverloadSample>,
}

/// The in-process cost of a pick.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PickCost {
    pub algorithm: String,
    /// Everything that is done per request: the version check of the table, the candidates, the pick, the lease.
    /// Otherwise the algorithm alone, with every server as a candidate.
    pub whole: bool,
    pub servers: usize,
    pub nanoseconds: f64,
}

/// The memory of a proxy with only idle connections.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Idle {
    pub proxy: String,
    pub connections: usize,
    pub before: Memory,
    pub holding: Memory,
    pub complaint: Option<String>,
}

/// The times from a proxy's start to its first response.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Start {
    pub proxy: String,
    pub start_ms: Vec<f64>,
}

/// A proxy's program.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Program {
    pub proxy: String,
    pub version: String,
    pub file_bytes: u64,
    /// Without symbols and debug information.
    pub loaded_bytes: u64,
}

/// The machine of the measurement.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Machine {
    pub cpus: usize,
    pub model: String,
    pub memory_mib: u64,
    pub kernel: String,
    pub commit: String,
    pub programs: Vec<Program>,
}

/// A whole run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    pub machine: Machine,
    pub rounds: usize,
    pub seconds: f64,
    pub rows: Vec<Row>,
    pub overload: Vec<Overload>,
    pub picks: Vec<PickCost>,
    pub idle: Vec<Idle>,
    pub starts: Vec<Start>,
    /// Proxies that were not measured, with the reason.
    pub missing: Vec<String>,
}

impl PickCost {
    /// The name in the tables.
    pub fn title(&self) -> String {
        if self.whole { format!("{}, in a request", self.algorithm) } else { self.algorithm.clone() }
    }
}

impl Row {
    /// The median of a figure over the rounds.
    pub fn median(&self, figure: impl Fn(&Sample) -> f64) -> f64 {
        median(self.samples.iter().map(figure).collect())
    }

    /// A figure relative to that of another row: the median of the ratios of each round. Neighbours in a round ran
    /// under the same conditions; the medians of two rows may come from different ones. `None` if a figure is missing,
    /// or either row has a complaint.
    pub fn to(&self, theirs: &Row, figure: impl Fn(&Sample) -> f64) -> Option<f64> {
        let rounds = self.samples.iter().zip(&theirs.samples);
        let pairs: Vec<(f64, f64)> = rounds.map(|(ours, theirs)| (figure(ours), figure(theirs))).collect();
        let are_whole = !pairs.is_empty() && pairs.iter().all(|(ours, theirs)| *ours > 0.0 && *theirs > 0.0);
        let are_good = self.complaint().is_none() && theirs.complaint().is_none();
        (are_whole && are_good).then(|| median(pairs.iter().map(|(ours, theirs)| ours / theirs).collect()))
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

impl Overload {
    /// The servers' capacity in requests per second.
    pub fn capacity(&self) -> f64 {
        self.offered_per_s / self.factor
    }

    /// The median of a figure over the rounds.
    pub fn median(&self, figure: impl Fn(&OverloadSample) -> f64) -> f64 {
        median(self.samples.iter().map(figure).collect())
    }
}

impl Report {
    /// The row of a proxy under a load.
    pub fn row(&self, work: &str, at: usize, proxy: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.work == work && row.at == at && row.proxy == proxy)
    }

    /// Removes the results that are about to be measured again.
    pub fn forget(&mut self, is_measured: impl Fn(&str) -> bool) {
        self.rows.retain(|row| !is_measured(&row.work));
        self.missing.clear();
        let mut empty = |name: &str, clear: fn(&mut Report)| {
            if is_measured(name) {
                clear(self);
            }
        };
        empty(overload::NAME, |report| report.overload.clear());
        empty(picks::NAME, |report| report.picks.clear());
        empty(arguments::IDLE, |report| report.idle.clear());
        empty(arguments::START, |report| report.starts.clear());
    }

    /// The loads that were measured, as workload and step, in order.
    pub fn loads(&self) -> Vec<(&str, usize)> {
        let mut loads: Vec<_> = self.rows.iter().map(|row| (row.work.as_str(), row.at)).collect();
        loads.dedup();
        loads
    }

    /// Reads a stored report.
    pub fn read(path: &Path) -> Result<Report, String> {
        let cannot = |error: &dyn std::fmt::Display| format!("cannot read {}: {error}", path.display());
        let text = std::fs::read_to_string(path).map_err(|error| cannot(&error))?;
        serde_json::from_str(&text).map_err(|error| cannot(&error))
    }

    /// Stores the report.
    pub fn write(&self, path: &Path) -> Result<(), String> {
        write_json(self, path)
    }
}

/// Writes anything as indented JSON.
pub fn write_json(value: &impl Serialize, path: &Path) -> Result<(), String> {
    let text = serde_json::to_string_pretty(value).map_err(|error| error.to_string())?;
    write_text(&(text + "\n"), path)
}

/// Writes a file, and creates its folder if that is missing.
pub fn write_text(text: &str, path: &Path) -> Result<(), String> {
    let cannot = |error: &dyn std::fmt::Display| format!("cannot write {}: {error}", path.display());
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|error| cannot(&error))?;
    }
    std::fs::write(path, text).map_err(|error| cannot(&error))
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
