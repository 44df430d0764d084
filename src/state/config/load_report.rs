//! `servers.load_report`, and `load_report` of each pool: what servers say of their own load, where asked and in their responses.

use super::reader::Section;
use super::rules;
use super::tree::{Node, Value};
use crate::policy::orca::Metric;
use std::time::Duration;

/// `servers.load_report`.
#[derive(Clone, Debug, PartialEq)]
pub struct LoadReport {
    /// Ask the servers for load reports: all, none, or with `None` those that say that they have them.
    pub enabled: Option<bool>,
    /// The origin-form target; begins with `/`.
    pub path: String,
    /// Time between two queries of a server, 10 ms to 1 h.
    pub interval: Duration,
    /// The metric of `endpoint-load-metrics` in the servers' responses that counts; `None`: the header is as any other.
    pub orca: Option<Metric>,
}

/// Reads the section.
pub(super) fn read(s: &mut Section<'_, '_>) -> LoadReport {
    let names_page = s.has("path");
    LoadReport {
        enabled: s.maybe("enabled", names_page.then_some(true), rules::flag),
        path: s.get("path", "/queue/status".to_owned(), rules::target),
        interval: s.get("interval", 500 * rules::MS, rules::duration(rules::INTERVAL)),
        orca: s.get("orca", None, orca),
    }
}

/// `true`, `false`, or the name of a metric.
fn orca(node: &Node) -> Result<Option<Metric>, String> {
    let advice = "write true, or a metric: \"application_utilization\", \"cpu_utilization\", \"mem_utilization\" or \"named_metrics.queue\"";
    match node.unquoted().as_ref().unwrap_or(&node.value) {
        Value::Flag(is_on) => Ok(is_on.then(Metric::default)),
        Value::Text(text) if matches!(text.as_str(), "true" | "false") => rules::flag(node).map(|_| None),
        Value::Text(text) => {
            let metric = Metric::of_name(text.trim());
            metric
                .map(Some)
                .ok_or_else(|| format!("{node} is not a metric that says how much is in use; {advice}"))
        }
        _ => Err(format!("{node} is not a metric; {advice}")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;
    use std::path::Path;

    fn read(orca: &str) -> Result<Option<Metric>, String> {
        let text = format!(r#"{{"servers": {{"load_report": {{"orca": {orca}}}}}}}"#);
        let config = parse(&text, Path::new(""));
        config.map(|config| config.servers.load_report.orca).map_err(|faults| faults[0].advice.clone())
    }

    #[test]
    fn orca_is_off_on_or_a_metric() {
        assert_eq!(read("false"), Ok(None));
        assert_eq!(read("true"), Ok(Some(Metric::Usual)));
        assert_eq!(read("\"mem_utilization\""), Ok(Some(Metric::Memory)));
        assert_eq!(read("\"named_metrics.kv\""), Ok(Some(Metric::Named("kv".to_owned()))));
        for wrong in ["\"rps_fractional\"", "\"named_metrics.\"", "\"\"", "7", "[]"] {
            assert!(read(wrong).is_err_and(|fault| fault.contains("\"cpu_utilization\"")), "{wrong}");
        }
    }
}
