//! `evenkeel status`: the status of a running balancer, through its admin API.

use super::admin::{Client, Place};
use super::{Failure, File, changes, failed, find, say};
use clap::Args;
use serde_json::{Map, Value};
use std::path::Path;

pub(super) const LONG_ABOUT: &str = "\
Show the workers, servers and totals of a running balancer.

Finds the balancer through the same configuration: by its Unix socket (admin.socket), or by
admin.bind if the balancer there runs with this file. Prints the worker pool, the
totals and the servers. The admin.token of the configuration is sent along.";

/// The arguments of `evenkeel status`.
#[derive(Clone, Debug, Args)]
pub struct Arguments {
    /// Print the response of the API unchanged, as JSON
    #[arg(long)]
    pub json: bool,
    /// Show what the admin API has made of the file's servers
    #[arg(long)]
    changes: bool,
    /// Ask the balancer at this address, whatever its configuration [default: that of the configuration]
    #[arg(long, value_name = "ADDRESS|unix:PATH")]
    pub admin: Option<Place>,
    #[command(flatten)]
    pub(super) file: File,
}

/// Gets the status and prints it.
pub(super) fn run(arguments: &Arguments, file: Option<&Path>) -> Result<u8, Failure> {
    let config = find(file)?;
    let client = Client::of(&config, arguments.admin.as_ref())?;
    if arguments.changes {
        return changes::show(&client, arguments.json);
    }
    let response = client.status().map_err(failed)?;
    if arguments.json {
        say(response.trim_end());
        return Ok(0);
    }
    let status = serde_json::from_str::<Map<String, Value>>(&response);
    say(report(
        &status.map_err(|error| failed(format!("the response of the admin API is not valid: {error}")))?,
    ));
    Ok(0)
}

/// The status for display: single values and objects as lines, lists of objects as tables. It shows whatever the API
/// returns, so that new values appear without a change here.
fn report(status: &Map<String, Value>) -> String {
    let wide = status.keys().map(|key| key.len()).max().unwrap_or(0);
    let is_table = |value: &Value| matches!(value, Value::Array(_));
    let lines = status.iter().filter(|(_, value)| !is_table(value)).map(|(key, value)| match value {
        Value::Object(parts) => format!("{key:wide$}  {}", parts_of(parts)),
        _ => format!("{key:wide$}  {}", cell(value)),
    });
    let tables =
        status.iter().filter_map(|(key, value)| Some(format!("\n{}", table(key, value.as_array()?))));
    lines.chain(tables).collect::<Vec<_>>().join("\n")
}

fn parts_of(parts: &Map<String, Value>) -> String {
    parts.iter().map(|(key, value)| format!("{key} {}", cell(value))).collect::<Vec<_>>().join(", ")
}

/// Rows under their column names, which are the keys of the first row.
fn table(title: &str, rows: &[Value]) -> String {
    let Some(Value::Object(first)) = rows.first() else { return format!("{title}: none") };
    let order = ["name", "address", "state", "weight"];
    let mut columns: Vec<&str> = order.into_iter().filter(|column| first.contains_key(*column)).collect();
    columns.extend(first.keys().map(String::as_str).filter(|column| !order.contains(column)));
    let head = columns.iter().map(|column| (*column).to_owned()).collect();
    let cells =
        |row: &Value| columns.iter().map(|column| cell(row.get(column).unwrap_or(&Value::Null))).collect();
    aligned(&std::iter::once(head).chain(rows.iter().map(cells)).collect::<Vec<_>>())
}

fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width =
        |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// One value, short. Characters that could control a terminal are left out.
fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.chars().filter(|character| !character.is_control()).collect(),
        Value::Number(number) if number.is_f64() => format!("{:.1}", number.as_f64().unwrap_or(0.0)),
        Value::Object(parts) => parts_of(parts),
        Value::Array(items) => items.iter().map(cell).collect::<Vec<_>>().join(" "),
        _ => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_reads_as_lines_and_tables() {
        let status = serde_json::json!({
            "uptime_seconds": 12,
            "threadpool": { "workers": 3, "busy": 1 },
            "servers": [
                { "ewma_ms": 1.26, "name": "a", "state": "ready", "reported_queue": null },
                { "ewma_ms": 20.0, "name": "long\u{1b}name", "state": "maint", "reported_queue": 4 }
            ]
        });
        let expected = "\
threadpool      busy 1, workers 3
uptime_seconds  12

name      state  ewma_ms  reported_queue
a         ready  1.3      -
longname  maint  20.0     4";
        assert_eq!(report(status.as_object().unwrap()), expected);
        assert_eq!(report(serde_json::json!({"servers": []}).as_object().unwrap()), "\nservers: none");
    }
}
