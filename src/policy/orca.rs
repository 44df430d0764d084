//! What a server says of its own load in the header `endpoint-load-metrics` of a response (ORCA, as Envoy and gRPC read it), in
//! its three forms: `TEXT name=value, …`, `JSON {…}`, and `BIN` with a protobuf message in base64, which is also the whole of
//! `endpoint-load-metrics-bin`.

mod binary;

use serde::Deserialize;
use std::collections::HashMap;

/// Which of the metrics says how much of a server is in use: 1 is all of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Metric {
    /// `application_utilization`, or where that is absent or 0, `cpu_utilization`.
    #[default]
    Usual,
    /// `application_utilization`.
    Application,
    /// `cpu_utilization`.
    Cpu,
    /// `mem_utilization`.
    Memory,
    /// The entry of `named_metrics` of this name.
    Named(String),
}

impl Metric {
    /// The metric of that name, as in the text form.
    pub fn of_name(name: &str) -> Option<Self> {
        match name {
            APPLICATION => Some(Metric::Application),
            CPU => Some(Metric::Cpu),
            MEMORY => Some(Metric::Memory),
            _ => name
                .strip_prefix(NAMED)
                .filter(|name| !name.is_empty())
                .map(|name| Metric::Named(name.to_owned())),
        }
    }
}

const APPLICATION: &str = "application_utilization";
const CPU: &str = "cpu_utilization";
const MEMORY: &str = "mem_utilization";
const NAMED: &str = "named_metrics.";

/// The metrics of a report that can say how much of a server is in use.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
struct Report {
    #[serde(alias = "applicationUtilization")]
    application_utilization: Option<f64>,
    #[serde(alias = "cpuUtilization")]
    cpu_utilization: Option<f64>,
    #[serde(alias = "memUtilization")]
    mem_utilization: Option<f64>,
    #[serde(alias = "namedMetrics")]
    named_metrics: HashMap<String, f64>,
}

/// How much of a server is in use, `None` where it does not say, or why what it says is not understood.
pub type Reported = Result<Option<f32>, &'static str>;

/// Reads the value of the header, if the response has it.
pub fn read_if_any(value: Option<&[u8]>, metric: &Metric) -> Reported {
    value.map_or(Ok(None), |value| read(value, metric))
}

fn read(value: &[u8], metric: &Metric) -> Reported {
    let report = match value.split_at_checked(5) {
        Some((b"TEXT ", rest)) => text(rest)?,
        Some((b"JSON ", rest)) => {
            serde_json::from_slice(rest).map_err(|_| "it is not JSON with numbers under the names of ORCA")?
        }
        _ => binary::read(value.strip_prefix(b"BIN ").unwrap_or(value))?,
    };
    let found = report.find(metric);
    match found {
        Some(value) if !value.is_finite() || value < 0.0 => Err("its value is not a number from 0 up"),
        found => Ok(found.map(|value| value as f32)),
    }
}

/// `name=value`, or `name:value` as some servers write it, between commas. Metrics that are not known are passed over.
fn text(rest: &[u8]) -> Result<Report, &'static str> {
    let rest = std::str::from_utf8(rest).map_err(|_| "it is not text")?;
    let mut report = Report::default();
    for entry in rest.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
        let (name, value) =
            entry.split_once(['=', ':']).ok_or("an entry has no value; it should be name=value")?;
        let value: f64 = value.trim().parse().map_err(|_| "a value is not a number")?;
        match name.trim() {
            APPLICATION => report.application_utilization = Some(value),
            CPU => report.cpu_utilization = Some(value),
            MEMORY => report.mem_utilization = Some(value),
            name => {
                if let Some(name) = name.strip_prefix(NAMED) {
                    report.named_metrics.insert(name.to_owned(), value);
                }
            }
        }
    }
    Ok(report)
}

impl Report {
    fn find(&self, metric: &Metric) -> Option<f64> {
        match metric {
            Metric::Usual => {
                self.application_utilization.filter(|value| *value > 0.0).or(self.cpu_utilization)
            }
            Metric::Application => self.application_utilization,
            Metric::Cpu => self.cpu_utilization,
            Metric::Memory => self.mem_utilization,
            Metric::Named(name) => self.named_metrics.get(name).copied(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(value: &str, metric: &str, expected: Result<Option<f32>, &str>) {
        let metric = Metric::of_name(metric).unwrap_or_default();
        let got = read(value.as_bytes(), &metric);
        match expected {
            Ok(expected) => assert_eq!(got, Ok(expected), "{value}"),
            Err(part) => assert!(got.is_err_and(|fault| fault.contains(part)), "{value}: {got:?}"),
        }
    }

    #[test]
    fn text_and_json_are_read() {
        let text = "TEXT cpu_utilization=0.3, mem_utilization=0.8,rps_fractional=12.5 , named_metrics.kv:0.4";
        check(text, "", Ok(Some(0.3)));
        check(text, "cpu_utilization", Ok(Some(0.3)));
        check(text, "mem_utilization", Ok(Some(0.8)));
        check(text, "application_utilization", Ok(None));
        check(text, "named_metrics.kv", Ok(Some(0.4)));
        check(text, "named_metrics.kw", Ok(None));
        check("TEXT application_utilization=1.5,cpu_utilization=0.3", "", Ok(Some(1.5)));
        check("TEXT application_utilization=0,cpu_utilization=0.3", "", Ok(Some(0.3)));
        check("TEXT ", "", Ok(None));
        check(
            r#"JSON {"cpu_utilization": 0.25, "eps": 1, "named_metrics": {"kv": 0.5}}"#,
            "",
            Ok(Some(0.25)),
        );
        check(
            r#"JSON {"cpuUtilization": 0.25, "namedMetrics": {"kv": 0.5}}"#,
            "named_metrics.kv",
            Ok(Some(0.5)),
        );
        check("JSON {}", "", Ok(None));
    }

    #[test]
    fn what_is_broken_is_told() {
        check("TEXT cpu_utilization", "", Err("has no value"));
        check("TEXT cpu_utilization=much", "", Err("not a number"));
        check("TEXT cpu_utilization=-1", "", Err("not a number from 0 up"));
        check("TEXT cpu_utilization=NaN", "", Err("not a number from 0 up"));
        check("JSON {", "", Err("not JSON"));
        check(r#"JSON {"cpu_utilization": "high"}"#, "", Err("not JSON"));
        check("cpu=0.3", "", Err("base64"));
        check("", "", Ok(None));
        assert_eq!(Metric::of_name("named_metrics."), None);
        assert_eq!(Metric::of_name("rps"), None);
    }
}
