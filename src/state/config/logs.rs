//! `log`: the log of the process, and the access log.

use super::reader::Section;
use super::rules;
use super::tree::{Node, Value};
use crate::state::access::{Filter, Format, Template};
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The socket that most systems have.
const SYSLOG: &str = "/dev/log";
/// Limits above which a request counts as slow.
const SLOW: std::ops::RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(3600);

/// `log`.
#[derive(Clone, Debug, PartialEq)]
pub struct Log {
    /// The log level; `RUST_LOG` overrides it.
    pub level: log::LevelFilter,
    /// The form of its lines.
    pub format: LogFormat,
    /// The line of each request; `None` writes none.
    pub access: Option<AccessLog>,
}

/// `log.format`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Time, level and message.
    #[default]
    Text,
    /// An object with these.
    Json,
}

/// `log.access` and what belongs to it.
#[derive(Clone, Debug, PartialEq)]
pub struct AccessLog {
    /// Where lines are written.
    pub to: AccessTarget,
    /// Their form.
    pub format: Format,
    /// Which requests have one.
    pub filter: Filter,
}

/// `log.access`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessTarget {
    /// The standard output.
    Stdout,
    /// A file; a relative path starts at the folder of the configuration.
    File(PathBuf),
    /// Messages to a syslog daemon.
    Syslog(SyslogPlace),
}

/// Where syslog listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SyslogPlace {
    /// The path of a Unix datagram socket.
    Unix(PathBuf),
    /// Name or address, and port, for UDP.
    Udp(String),
}

impl fmt::Display for SyslogPlace {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SyslogPlace::Unix(path) => write!(out, "the socket of syslog {}", path.display()),
            SyslogPlace::Udp(target) => write!(out, "syslog at {target}"),
        }
    }
}

/// Reads the section.
pub(super) fn read(s: &mut Section<'_, '_>, folder: &Path) -> Log {
    let level = s.get("level", log::LevelFilter::Info, rules::level);
    let log_format = s.get("format", LogFormat::Text, |node| {
        rules::word(node, &[("text", LogFormat::Text), ("json", LogFormat::Json)])
    });
    let to = s.maybe("access", None, |node| target(node, folder));
    let format = s.get("access_format", Format::Default, format);
    let filter = Filter {
        errors_only: s.get("access_errors_only", false, rules::flag),
        slower_than: s.maybe("access_slower_than", None, rules::duration(SLOW)),
        sample: s.get("access_sample", 1.0, rules::share),
    };
    if to.is_none() {
        for key in ["access_format", "access_errors_only", "access_slower_than", "access_sample"] {
            if s.has(key) {
                s.warn(key, "says nothing without log.access; write where the lines go".to_owned());
            }
        }
    }
    Log { level, format: log_format, access: to.map(|to| AccessLog { to, format, filter }) }
}

fn target(node: &Node, folder: &Path) -> Result<AccessTarget, String> {
    let path = rules::path(folder)(node)?;
    let Value::Text(text) = &node.value else { return Ok(AccessTarget::File(path)) };
    if text == "stdout" {
        return Ok(AccessTarget::Stdout);
    }
    let syslog = |place| Ok(AccessTarget::Syslog(place));
    match text.strip_prefix("syslog") {
        Some("") => syslog(SyslogPlace::Unix(PathBuf::from(SYSLOG))),
        Some(rest) => match (rest.strip_prefix("://"), rest.strip_prefix(':')) {
            (Some(target), _) if is_host_and_port(target) => syslog(SyslogPlace::Udp(target.to_owned())),
            (Some(_), _) => {
                Err(format!("{node} has no host and port; write one such as \"syslog://127.0.0.1:514\""))
            }
            (None, Some(socket)) if socket.starts_with('/') => {
                syslog(SyslogPlace::Unix(PathBuf::from(socket)))
            }
            (None, Some(_)) => Err(format!(
                "{node} is not a place of syslog; write \"syslog\", \"syslog:/path/of/a/socket\" or \"syslog://HOST:PORT\" (over UDP)"
            )),
            (None, None) => Ok(AccessTarget::File(path)),
        },
        None => Ok(AccessTarget::File(path)),
    }
}

fn is_host_and_port(text: &str) -> bool {
    let is_plain =
        |host: &str| !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/');
    text.rsplit_once(':')
        .is_some_and(|(host, port)| is_plain(host) && port.parse::<u16>().is_ok_and(|port| port > 0))
}

fn format(node: &Node) -> Result<Format, String> {
    const ADVICE: &str = "write \"default\", \"combined\", \"json\", or a string with fields such as \"{client} {status} {total_ms}\"";
    // Not as other texts: braces are fields here, and "{{" is a brace, not what another program expands.
    let Value::Text(text) = &node.value else {
        return Err(format!("expected a string, found {node}; {ADVICE}"));
    };
    match text.as_str() {
        "default" => Ok(Format::Default),
        "combined" => Ok(Format::Combined),
        "json" => Ok(Format::Json),
        text if text.contains(['{', '}']) => {
            let template = Template::parse(text)
                .map_err(|wrong| format!("{node} {wrong}; the fields are the keys of the form \"json\""))?;
            Ok(Format::Template(template))
        }
        _ => Err(format!("{node} is not a form of lines; {ADVICE}")),
    }
}
