//! `evenkeel status`: what a running balancer says of itself, over its admin API.

use super::{Failure, failed, find, reachable, say};
use crate::state::config::Config;
use clap::Args;
use serde_json::{Map, Value};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

/// For the whole call.
const PATIENCE: Duration = Duration::from_secs(3);
/// The largest answer, in bytes.
const ANSWER_MAX: u64 = 16 * 1024 * 1024;

pub(super) const LONG_ABOUT: &str = "\
Ask a running balancer how it is.

Finds the admin API through the same configuration as the balancer (admin.bind and
admin.token) and prints the worker pool, the totals and the servers.";

/// The arguments of `evenkeel status`.
#[derive(Clone, Copy, Debug, Args)]
pub struct Arguments {
    /// Print the answer of the API as it is, in JSON
    #[arg(long)]
    pub json: bool,
}

/// Asks and prints.
pub(super) fn run(arguments: &Arguments, file: Option<&Path>) -> Result<u8, Failure> {
    let config = find(file)?;
    let answer = ask(admin(&config)?, config.admin.token.as_deref()).map_err(failed)?;
    if arguments.json {
        say(answer.trim_end());
        return Ok(0);
    }
    let status = serde_json::from_str::<Map<String, Value>>(&answer);
    say(report(
        &status.map_err(|error| failed(format!("the admin API's answer is not to be read: {error}")))?,
    ));
    Ok(0)
}

fn admin(config: &Config) -> Result<SocketAddr, Failure> {
    let socket = config.admin.socket.as_ref().map_or("SOCKET".to_owned(), |path| path.display().to_string());
    let advice = || {
        failed(format!(
            "admin.bind is null in the configuration; ask with\n  \
             curl --unix-socket {socket} http://localhost/api/v1/status"
        ))
    };
    config.admin.bind.map(reachable).ok_or_else(advice)
}

/// The body of the API's answer, or a sentence on why there is none.
fn ask(admin: SocketAddr, token: Option<&str>) -> Result<String, String> {
    let config = ureq::Agent::config_builder().timeout_global(Some(PATIENCE)).http_status_as_error(false);
    let agent = config.proxy(None).max_redirects(0).build().new_agent();
    let mut request = agent.get(format!("http://{admin}/api/v1/status"));
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let unreachable = |error: ureq::Error| {
        format!(
            "no balancer answers at {admin} ({error}); start one with \"evenkeel\", or name its file with -c"
        )
    };
    let mut answer = request.call().map_err(unreachable)?;
    let status = answer.status().as_u16();
    match status {
        200 => answer.body_mut().with_config().limit(ANSWER_MAX).read_to_string().map_err(unreachable),
        401 | 403 => {
            Err(format!("{admin} answers {status}: its admin.token is not the one of this configuration"))
        }
        _ => Err(format!("{admin} answers {status}: this is not the admin API of a balancer that is well")),
    }
}

/// The status for a person: single values and objects as lines, lists of objects as tables. It takes what
/// the API says, so that a new figure shows up here by itself.
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

/// Rows under the names of their columns, which are the keys of the first row.
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

/// One value, short. What could move the cursor of a terminal is left out.
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
    use std::io::{Read, Write};
    use std::net::TcpListener;

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

    /// A balancer that gives one answer; what it was asked.
    fn check_ask(answer: &'static str, expected: Result<&str, &str>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let balancer = std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                socket.read_exact(&mut byte).unwrap();
                head.push(byte[0]);
            }
            socket.write_all(answer.as_bytes()).unwrap();
            String::from_utf8(head).unwrap()
        });
        let heard = ask(address, Some("secret"));
        let head = balancer.join().unwrap().to_ascii_lowercase();
        assert!(head.starts_with("get /api/v1/status http/1.1\r\n"), "{head}");
        assert!(head.contains("authorization: bearer secret\r\n"), "{head}");
        match expected {
            Ok(body) => assert_eq!(heard.unwrap(), body),
            Err(part) => assert!(heard.unwrap_err().contains(part)),
        }
    }

    #[test]
    fn answers_and_refusals_are_told_apart() {
        check_ask("HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}", Ok("{}"));
        check_ask("HTTP/1.1 401 No\r\ncontent-length: 0\r\nconnection: close\r\n\r\n", Err("admin.token"));
        check_ask("HTTP/1.1 302 Go\r\nlocation: /\r\ncontent-length: 0\r\n\r\n", Err("answers 302"));
    }

    #[test]
    fn a_balancer_that_is_not_there_is_a_sentence() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let said = ask(address, None).unwrap_err();
        assert!(said.contains("no balancer answers at") && said.contains("-c"), "{said}");
    }
}
