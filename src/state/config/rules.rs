//! The rules for single values: what a node must be, and what to write if it is not.

mod statuses;

pub(super) use statuses::{error_statuses, statuses};

use super::tree::{Node, Value};
use super::{Via, placeholder, spell, units};
use crate::base::text::is_plain;
use crate::policy::backlog::Priority;
use crate::policy::limit::MaxInFlight;
use crate::policy::pick::Algorithm;
use crate::state::address::Address;
use crate::state::server::Mode;
use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The shortest time that is set.
pub(super) const MS: Duration = Duration::from_millis(1);
pub(super) const SECOND: Duration = Duration::from_secs(1);
/// Time between two queries of a server: up to an hour, and not so short that queries are all that a server does.
pub(super) const INTERVAL: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(3600);

/// The result of a rule: the value, or a sentence for the operator.
type Read<T> = Result<T, String>;

/// `true` or `false`.
pub(super) fn flag(node: &Node) -> Read<bool> {
    match node.unquoted().as_ref().unwrap_or(&node.value) {
        Value::Flag(flag) => Ok(*flag),
        Value::Text(text) if text == "true" || text == "false" => {
            Err(format!("{node} is text; write {text} without quotes"))
        }
        _ => Err(format!("expected true or false, found {node}; write true or false")),
    }
}

/// A whole number.
pub(super) fn whole<T: TryFrom<u64>>(range: RangeInclusive<u64>) -> impl Fn(&Node) -> Read<T> {
    move |node| {
        let bounds = format!("write {} to {}", range.start(), range.end());
        let number = match node.unquoted().as_ref().unwrap_or(&node.value) {
            Value::Whole(number) => *number,
            Value::Number(number) if number.fract() == 0.0 && *number >= 0.0 => *number as u64,
            Value::Number(number) if *number < 0.0 => return Err(format!("{node} is too small; {bounds}")),
            Value::Number(_) => return Err(format!("{node} is not a whole number; {bounds}")),
            Value::Text(text) if node.variables.is_none() && text.parse::<u64>().is_ok() => {
                return Err(format!("{node} is text; write {text} without quotes"));
            }
            Value::Text(text) if *range.end() == 100 && is_percentage(text) => {
                return Err(format!("{node} is text; write {} without quotes", text.trim_end_matches('%')));
            }
            _ => return Err(format!("expected a number, found {node}; {bounds}")),
        };
        within(number, &range, node, |bound| bound.to_string())
            .and_then(|number| T::try_from(number).map_err(|_| format!("{node} is too large; {bounds}")))
    }
}

fn is_percentage(text: &str) -> bool {
    text.strip_suffix('%').and_then(|number| number.parse::<u64>().ok()).is_some_and(|number| number <= 100)
}

/// A number from 0 to 1.
pub(super) fn share(node: &Node) -> Read<f64> {
    let number = match node.unquoted().as_ref().unwrap_or(&node.value) {
        Value::Whole(number) => *number as f64,
        Value::Number(number) => *number,
        _ => return Err(format!("expected a number, found {node}; write 0 to 1, such as 0.01")),
    };
    match number {
        number if (0.0..=1.0).contains(&number) => Ok(number),
        number if number < 0.0 => Err(format!("{node} is too small; write 0 to 1, such as 0.01")),
        _ => Err(format!("{node} is too large; write 0 to 1, such as 0.01 for 1 %")),
    }
}

/// A number that may have a fraction.
pub(super) fn decimal(range: RangeInclusive<f64>) -> impl Fn(&Node) -> Read<f64> {
    move |node| {
        let number = match node.unquoted().as_ref().unwrap_or(&node.value) {
            Value::Whole(number) => *number as f64,
            Value::Number(number) => *number,
            _ => {
                let (least, most) = (range.start(), range.end());
                return Err(format!("expected a number, found {node}; write {least} to {most}"));
            }
        };
        within(number, &range, node, |bound| bound.to_string())
    }
}

/// A duration with its unit.
pub(super) fn duration(range: RangeInclusive<Duration>) -> impl Fn(&Node) -> Read<Duration> {
    move |node| {
        let no_unit = |number: &dyn Display| {
            Err(format!("{node} has no unit; write \"{number}s\" or \"{number}ms\" with quotes"))
        };
        let text = match &node.value {
            Value::Text(text) => text,
            Value::Whole(number) => return no_unit(number),
            _ => {
                return Err(format!(
                    "expected a duration, found {node}; write one such as \"5s\" or \"500ms\""
                ));
            }
        };
        if text.parse::<u64>().is_ok() && text != "0" {
            return no_unit(text);
        }
        let duration = units::duration(text);
        let duration = duration.ok_or_else(|| {
            format!("{node} is not a valid duration; write one such as \"5s\" or \"500ms\"")
        })?;
        within(duration, &range, node, |bound| units::show_duration(*bound))
    }
}

/// A number of bytes, plain or with a unit.
pub(super) fn size<T: TryFrom<u64>>(range: RangeInclusive<u64>) -> impl Fn(&Node) -> Read<T> {
    move |node| {
        let bytes = match &node.value {
            Value::Whole(bytes) => Some(*bytes),
            Value::Text(text) => units::read_size(text),
            _ => None,
        };
        let advice =
            "write one such as \"16KiB\" (1024 bytes each), \"16KB\" (1000 each) or a number of bytes";
        let bytes = bytes.ok_or_else(|| match &node.value {
            Value::Text(text) if units::with_unit(text).is_some() => {
                let meant = units::with_unit(text).unwrap_or_default();
                format!("{node} has no unit of bytes; write \"{meant}\" (1024 bytes each)")
            }
            _ => format!("{node} is not a valid size; {advice}"),
        })?;
        let bytes = within(bytes, &range, node, |bound| units::show_size(*bound))?;
        T::try_from(bytes).map_err(|_| format!("{node} is too large for this machine"))
    }
}

/// A port as text or number.
pub(super) fn port(node: &Node) -> Read<u16> {
    match &node.value {
        Value::Text(text) if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) => {
            text.parse().map_err(|_| format!("{node} is too large; write 0 to 65535"))
        }
        Value::Text(text) if is_placeholder(node, text) => Err(not_expanded(text)),
        Value::Text(text) if text.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) => {
            Err(format!(
                "{node} has an address; write the port alone here, and the address in load_balancer.bind"
            ))
        }
        Value::Text(text) if text.starts_with("unix:") => {
            Err(format!("{node} is a Unix socket; write {{ \"port\": {node} }} into load_balancer.listeners"))
        }
        Value::Text(text) if text.split_once(' ').is_some_and(|(port, _)| port.parse::<u16>().is_ok()) => {
            Err(format!("{node} is more than a port; write the number alone, and TLS as \"tls\""))
        }
        Value::Text(_) => {
            Err(format!("{node} is not a valid port; write 0 to 65535, as in \"8000\" or 8000"))
        }
        Value::List(_) => {
            Err("expected a number, found a list; write an object for each port into load_balancer.listeners"
                .to_owned())
        }
        _ => whole(0..=65535)(node),
    }
}

/// An address to listen on, without a port.
pub(super) fn bind(node: &Node) -> Read<IpAddr> {
    let advice = "write an address such as \"127.0.0.1\", or \"0.0.0.0\" or \"::\" for all";
    let text = text(node, advice)?;
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    bare.parse().map_err(|_| match text.rsplit_once(':') {
        Some((address, _)) if address.parse::<IpAddr>().is_ok() => {
            format!("{node} has a port; the port goes to load_balancer_port")
        }
        _ => format!("{node} is not an IP address; {advice}"),
    })
}

/// An address to listen on, with its port.
pub(super) fn socket_address(node: &Node) -> Read<SocketAddr> {
    let advice = "write an address with a port, such as \"127.0.0.1:9301\"";
    let text = text(node, advice)?;
    text.parse().map_err(|_| format!("{node} is not an IP address with a port; {advice}"))
}

/// Where a server listens.
pub(super) fn address(node: &Node) -> Read<Address> {
    text(node, "write \"host:port\" or \"unix:/path\"")?.parse()
}

/// A server's name.
pub(super) fn server_name(node: &Node) -> Read<String> {
    let text = text(node, "write a name such as \"a\"")?;
    check_name(text).map(|()| text.to_owned()).map_err(|fault| format!("{node} {fault}"))
}

/// The longest name of a server, in bytes.
pub const NAME_BYTES_MAX: usize = 64;

/// Whether a text can be a server's name; the error says what is wrong, as in "is empty; write ...". A name stands in URL paths, headers, logs and metrics without escapes.
pub fn check_name(text: &str) -> Read<()> {
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !b"/\\\"'`?#%".contains(&byte);
    match text.len() {
        0 => Err("is empty; write 1 to 64 characters".to_owned()),
        len if len > NAME_BYTES_MAX => Err("is too long for a name; write 1 to 64 characters".to_owned()),
        _ if text == "." || text == ".." => Err("cannot stand in a URL; write another name".to_owned()),
        _ if text.bytes().all(is_plain) => Ok(()),
        _ => Err("has a character that is not allowed in a name; write visible ASCII without spaces, quotes, / \\ ? # %"
            .to_owned()),
    }
}

/// The path of a request to a server.
pub(super) fn target(node: &Node) -> Read<String> {
    let text = text(node, "write a path such as \"/health\"")?;
    if !text.starts_with('/') {
        return Err(format!("{node} is not a valid path; write one that begins with /, such as \"/health\""));
    }
    if text.len() > 2048 || !text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
        return Err(format!(
            "{node} is not a valid path; write at most 2048 visible ASCII characters without #"
        ));
    }
    Ok(text.to_owned())
}

/// The value of a `Host` header.
pub(super) fn host(node: &Node) -> Read<String> {
    let advice = "write a host such as \"example.org\"";
    let text = text(node, advice)?;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]~".contains(&byte);
    if text.is_empty() || text.len() > 255 || !text.bytes().all(is_plain) {
        return Err(format!("{node} is not a valid host; {advice}"));
    }
    Ok(text.to_owned())
}

/// The name in `Via`.
pub(super) fn via(node: &Node) -> Read<Via> {
    match node.unquoted().as_ref().unwrap_or(&node.value) {
        Value::Null => Ok(Via::Instance),
        Value::Flag(false) => Ok(Via::Off),
        _ => pseudonym(node).map(Via::Named),
    }
}

fn pseudonym(node: &Node) -> Read<String> {
    let advice = "write 1 to 64 letters, digits, - or _, such as \"edge-1\", null for one of its own, or false for none";
    let text = text(node, advice)?;
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if text.is_empty() || text.len() > 64 || !text.bytes().all(is_token) {
        return Err(format!("{node} is not a valid name; {advice}"));
    }
    Ok(text.to_owned())
}

/// The admin API's bearer token. The value is not part of the sentence, because it is a secret.
pub(super) fn token(node: &Node) -> Read<String> {
    let advice = "1 to 256 visible ASCII characters without spaces";
    match &node.value {
        Value::Text(text) if is_placeholder(node, text) => Err(format!(
            "this looks like a placeholder, and would be the token itself; write ${{NAME}} for a variable of the environment, \
             ${{file:PATH}} for the contents of a file, or {advice}"
        )),
        Value::Text(text)
            if (1..=256).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic()) =>
        {
            Ok(text.clone())
        }
        Value::Text(_) => Err(format!("this is not a valid token; write {advice}")),
        _ => Err(format!("expected a string, found {node}; write {advice}")),
    }
}

/// A path of the file system, from `folder` when it is relative.
pub(super) fn path(folder: &Path) -> impl Fn(&Node) -> Read<PathBuf> {
    move |node| {
        let text = text(node, "write the path of one file")?;
        if text.starts_with("-----BEGIN ") {
            return Err("is the text of a file; write it to a file, and the path of that here".to_owned());
        }
        if text.is_empty() || !text.chars().all(is_plain) {
            return Err(format!("{node} is not a valid path; write one"));
        }
        if let Some(rest) = text.strip_prefix("~/") {
            return Err(format!("{node}: ~ is the shell's; write \"${{HOME}}/{rest}\""));
        }
        if let Some(path) = text.strip_prefix("file://") {
            return Err(format!("{node} is a URL; write the path alone, {path:?}"));
        }
        Ok(folder.join(text))
    }
}

/// The place of a request in the queue in front of the servers.
pub(super) fn priority(node: &Node) -> Read<Priority> {
    let read = word(node, &Priority::ALL.map(|priority| (priority.name(), priority)));
    // Other programs order their routes by a number of this name.
    match node.value {
        Value::Whole(_) => read.map_err(|advice| format!("{advice}; the order of routes is fixed")),
        _ => read,
    }
}

/// The most requests in flight with a server.
pub(super) fn max_in_flight(node: &Node) -> Read<MaxInFlight> {
    let or_auto =
        |advice| format!("{advice}, or \"auto\" for as many as a server can use, which is measured");
    match &node.value {
        Value::Text(text) if text == "auto" => Ok(MaxInFlight::Auto),
        Value::Text(text) if text == "measured" => Err("that is what \"auto\" does".to_owned()),
        _ => whole(1..=1_000_000)(node).map(MaxInFlight::Fixed).map_err(or_auto),
    }
}

/// How a server is chosen.
pub(super) fn algorithm(node: &Node) -> Read<Algorithm> {
    let words = Algorithm::ALL.map(|algorithm| (algorithm.name(), algorithm));
    word(node, &words).map_err(|advice| match &node.value {
        Value::Text(text) => match elsewhere(text) {
            Some(ours) => {
                format!(
                    "{node} is not known; did you mean \"{}\"? Write one of {}",
                    ours.name(),
                    one_of(&words)
                )
            }
            None => advice,
        },
        _ => advice,
    })
}

/// The name used here for an algorithm of nginx, HAProxy, Caddy, Traefik or Envoy.
fn elsewhere(name: &str) -> Option<Algorithm> {
    let name: String = name.to_ascii_lowercase().replace(['-', ' '], "_");
    Some(match name.as_str() {
        "least_conn"
        | "leastconn"
        | "least_request"
        | "least_requests"
        | "least_connection"
        | "lc"
        | "wlc"
        | "least_outstanding_requests" => Algorithm::LeastConnections,
        "roundrobin" | "rr" | "wrr" | "weighted" | "weighted_round_robin" | "static_rr" => {
            Algorithm::RoundRobin
        }
        "source" | "hash" | "iphash" | "ip" | "client_ip" | "client_ip_hash" | "remote_addr"
        | "consistent" | "ring_hash" | "maglev" | "sticky" => Algorithm::IpHash,
        "random"
        | "p2c"
        | "power_of_two"
        | "power_of_two_choices"
        | "random_choose"
        | "random_two_least_conn"
        | "two_choices" => Algorithm::RandomTwo,
        "ewma" | "peak_ewma" | "least_time" | "fastest" | "least_response_time" | "adaptive" | "auto" => {
            Algorithm::Dynamic
        }
        _ => return None,
    })
}

/// The mode that an operator sets for a server.
pub(super) fn mode(node: &Node) -> Read<Mode> {
    let known = Mode::ALL.map(|mode| (mode.name(), mode));
    let other = if let Value::Text(text) = &node.value { other_mode(text) } else { None };
    let meant = |mode: Mode| format!("{node} is not a state; write \"{}\"", mode.name());
    word(node, &known).map_err(|advice| other.map_or(advice, meant))
}

/// What other programs call a mode.
fn other_mode(word: &str) -> Option<Mode> {
    match &*word.to_ascii_lowercase() {
        "up" | "on" | "online" | "active" | "enable" | "enabled" => Some(Mode::Ready),
        "down" | "off" | "offline" | "out" | "disable" | "disabled" | "maintenance" => Some(Mode::Maint),
        _ => None,
    }
}

/// The log level.
pub(super) fn level(node: &Node) -> Read<log::LevelFilter> {
    use log::LevelFilter::{Debug, Error, Info, Off, Trace, Warn};
    let levels = [Off, Error, Warn, Info, Debug, Trace];
    let names = levels.map(|level| level.as_str().to_ascii_lowercase());
    let named: Vec<_> = names.iter().map(String::as_str).zip(levels).collect();
    word(node, &named)
}

/// One of a few words.
pub(super) fn word<T: Copy>(node: &Node, words: &[(&str, T)]) -> Read<T> {
    let text = text(node, &format!("write one of {}", one_of(words)))?;
    let found = words.iter().find(|(name, _)| name == &text);
    found.map(|(_, value)| *value).ok_or_else(|| {
        match spell::nearest(text, words.iter().map(|(name, _)| *name)) {
            Some(near) => {
                format!("{node} is not known; did you mean \"{near}\"? Write one of {}", one_of(words))
            }
            None => format!("{node} is not known; write one of {}", one_of(words)),
        }
    })
}

fn one_of<T>(words: &[(&str, T)]) -> String {
    words.iter().map(|(name, _)| format!("\"{name}\"")).collect::<Vec<_>>().join(", ")
}

/// Whether a text is one that other programs would expand, and that is not expanded here.
fn is_placeholder(node: &Node, text: &str) -> bool {
    node.variables.is_none() && placeholder::is_variable(text)
}

fn not_expanded(text: &str) -> String {
    match text.contains("${") {
        // The file has no such texts left; the admin API expands none.
        true => format!("{text:?} has a variable, and variables are for the file alone; write the value"),
        false => format!(
            "{text:?} looks like a placeholder; write ${{NAME}} for a variable of the environment, or the value"
        ),
    }
}

/// A text; `advice` says what to write instead of another type.
pub(super) fn text<'n>(node: &'n Node, advice: &str) -> Read<&'n str> {
    match &node.value {
        Value::Text(text) if is_placeholder(node, text) => Err(not_expanded(text)),
        Value::Text(text) => Ok(text),
        _ => Err(format!("expected a string, found {node}; {advice}")),
    }
}

/// The value, if it is in the range.
pub(super) fn within<T: PartialOrd>(
    value: T,
    range: &RangeInclusive<T>,
    node: &Node,
    show: fn(&T) -> String,
) -> Read<T> {
    let bounds = || format!("write {} to {}", show(range.start()), show(range.end()));
    if value < *range.start() {
        Err(format!("{node} is too small; {}", bounds()))
    } else if value > *range.end() {
        Err(format!("{node} is too large; {}", bounds()))
    } else {
        Ok(value)
    }
}
