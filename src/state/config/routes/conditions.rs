//! The conditions of a route: `host`, `path`, `methods`, `headers`, `query`, `cookies`, `client`.

use super::super::reader::Section;
use super::super::tree::{Node, Value};
use super::super::{networks, rules, spell};
use crate::http1::path::{self, EncodedSlash};
use crate::policy::route::{Field, Host, Path, Pattern, Rule, Test, literal};
use std::net::Ipv6Addr;

/// The longest path of a condition.
const PATH_MAX: usize = 2048;
/// The most hosts or paths of one route.
const ALTERNATIVES_MAX: usize = 1000;

/// The rules of a route: one for each pair of a host and a path. `known`: the names of the listeners.
pub(super) fn rules(s: &mut Section<'_, '_>, known: &[&str]) -> Vec<Rule> {
    let hosts = s.get("host", vec![Host::Any], |node| one_or_more(node, host));
    let paths = s.get("path", vec![Path::default()], |node| one_or_more(node, path));
    let rule = Rule {
        host: Host::Any,
        path: Path::default(),
        methods: s.values("methods", method).unwrap_or_default(),
        headers: s.pairs("headers", r#"{ "X-Env": "staging" }"#, header),
        query: s.pairs("query", r#"{ "version": "2" }"#, |name, node| field(name, name, node)),
        cookies: s.pairs("cookies", r#"{ "beta": true }"#, cookie),
        clients: s.values("client", networks::single).unwrap_or_default(),
        listeners: listeners(s, known),
    };
    let is_open = ["methods", "client"].map(|key| (key, s.is_empty_list(key)));
    for (key, _) in is_open.into_iter().filter(|(_, is_empty)| *is_empty) {
        s.fault(key, "is an empty list, which nothing matches; leave the key out for all".to_owned());
    }
    if hosts.len() * paths.len() > ALTERNATIVES_MAX {
        s.fault(
            "",
            format!("has more than {ALTERNATIVES_MAX} pairs of a host and a path; write several routes"),
        );
    }
    let pairs = hosts.iter().flat_map(|host| paths.iter().map(move |path| (host.clone(), path.clone())));
    pairs.take(ALTERNATIVES_MAX).map(|(host, path)| Rule { host, path, ..rule.clone() }).collect()
}

/// Names of listeners that there are.
fn listeners(s: &mut Section<'_, '_>, known: &[&str]) -> Vec<Box<str>> {
    let name = |node: &Node| rules::text(node, "write the name of a listener").map(Box::from);
    let names = s.get("listener", Vec::new(), |node| one_or_more(node, name));
    for name in names.iter().map(|name| &**name).filter(|name| !known.contains(name)) {
        let advice = match spell::nearest(name, known.iter().copied()) {
            Some(near) => format!("did you mean {near:?}?"),
            None => format!("write one of: {}", known.join(", ")),
        };
        s.fault("listener", format!("there is no listener {name:?}; {advice}"));
    }
    names
}

/// A text, or a list of them.
fn one_or_more<T>(node: &Node, rule: fn(&Node) -> Result<T, String>) -> Result<Vec<T>, String> {
    match &node.value {
        Value::List(nodes) if nodes.is_empty() => {
            Err("is an empty list, which nothing matches; leave the key out for all".to_owned())
        }
        Value::List(nodes) => nodes.iter().map(rule).collect(),
        _ => rule(node).map(|one| vec![one]),
    }
}

/// A host: exact, or `*.` and a name.
pub(super) fn host(node: &Node) -> Result<Host, String> {
    let advice = "write \"api.example.com\", or \"*.example.com\" for the names under it";
    let text = rules::text(node, advice)?;
    if let Some(advice) = foreign_host(text) {
        return Err(format!("{node} {advice}"));
    }
    let (name, is_wildcard) = match text.strip_prefix("*.") {
        Some(name) => (name, true),
        None => (text, false),
    };
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:[]".contains(&byte);
    let is_literal = name.starts_with('[') && name.ends_with(']');
    if name.is_empty()
        || name.len() > 253
        || !name.bytes().all(is_plain)
        || (name.contains(':') && !is_literal)
    {
        return Err(format!("{node} is not a valid host; {advice}"));
    }
    let plain = || name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    let name = literal(name.as_bytes()).unwrap_or_else(plain).into_bytes().into();
    Ok(if is_wildcard { Host::Under(name) } else { Host::Exact(name) })
}

/// What other programs write in place of a host.
fn foreign_host(text: &str) -> Option<String> {
    let lower = text.to_ascii_lowercase();
    Some(match text {
        _ if lower.starts_with("hostregexp(") => {
            "is a rule of Traefik; hosts are exact or \"*.example.com\"".to_owned()
        }
        _ if in_call(text).is_some() => {
            format!(
                "is a rule of Traefik; write the host alone, as in {:?}",
                in_call(text).unwrap_or_default()
            )
        }
        "*" | "_" | "" | "default_server" => "is any host; leave \"host\" out for that".to_owned(),
        _ if !text.is_ascii() => {
            "has letters that DNS does not have; write the name in its ASCII form, as in \"xn--bcher-kva.example\"".to_owned()
        }
        _ if text.starts_with('~') => {
            "is a regular expression; hosts are exact or \"*.example.com\"".to_owned()
        }
        _ if text.starts_with('.') => {
            format!("means two things in nginx; write [ {:?}, \"*{text}\" ]", text.trim_start_matches('.'))
        }
        _ if lower.contains("://") => {
            let host =
                lower.split("://").nth(1).unwrap_or_default().split(['/', ':']).next().unwrap_or_default();
            format!("is a URL; write the host alone, as in {host:?}")
        }
        _ if text.contains('/') => "has a path; write it as \"path\"".to_owned(),
        _ if text.contains([',', ' ']) => {
            let hosts: Vec<String> = text
                .split([',', ' '])
                .filter(|host| !host.is_empty())
                .map(|host| format!("{host:?}"))
                .collect();
            format!("has several hosts; write a list, as in [ {} ]", hosts.join(", "))
        }
        _ if text.contains('*') && !text.starts_with("*.") || text.matches('*').count() > 1 => {
            "has a * that does not stand for whole labels at the start; write \"*.example.com\"".to_owned()
        }
        _ if text.parse::<Ipv6Addr>().is_ok() => format!("is an IPv6 address; write \"[{text}]\""),
        _ => {
            let (host, port) = text.rsplit_once(':')?;
            let is_port = !host.contains(':') && port.parse::<u16>().is_ok();
            return is_port.then(|| format!("has a port, which conditions do not look at; write {host:?}"));
        }
    })
}

/// A path: exact, `/prefix/*` or `~expression`.
pub(in crate::state::config) fn path(node: &Node) -> Result<Path, String> {
    let advice = "write \"/exact\", \"/prefix/*\" or \"~^/expression$\"";
    let text = match &node.value {
        Value::Text(text) => text.as_str(),
        _ => return Err(format!("expected a string, found {node}; {advice}")),
    };
    if let Some(advice) = foreign_path(text) {
        return Err(format!("{node} {advice}"));
    }
    if let Some(pattern) = text.strip_prefix('~') {
        return Pattern::new(pattern).map(Path::Pattern).map_err(|fault| format!("{node} {fault}"));
    }
    if text.len() > PATH_MAX || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(format!(
            "{node} is not a valid path; write at most {PATH_MAX} visible ASCII characters, percent-encoded where needed"
        ));
    }
    let (plain, is_prefix) = match text.strip_suffix("/*") {
        Some(prefix) => (prefix, true),
        None => (text, false),
    };
    check_normalised(plain).map_err(|fault| format!("{node} {fault}"))?;
    let plain = plain.as_bytes().into();
    Ok(if is_prefix { Path::Prefix(plain) } else { Path::Exact(plain) })
}

/// A path in another form would never match.
fn check_normalised(plain: &str) -> Result<(), String> {
    // The prefix of every path is empty.
    let whole = if plain.is_empty() { "/" } else { plain };
    match path::normalise(whole.as_bytes(), EncodedSlash::Refuse) {
        Ok(normalised) if *normalised.path == *whole.as_bytes() => Ok(()),
        Ok(normalised) => {
            let path = String::from_utf8_lossy(&normalised.path).into_owned();
            Err(format!("is matched in its normalised form; write {path:?}"))
        }
        Err(_) => Err("can never match: requests with such a path are rejected; see docs/http.md".to_owned()),
    }
}

/// A path with a word for its kind before it, as it is written here.
fn without_kind(text: &str) -> Option<String> {
    let (kind, rest) = text.split_once(':')?;
    match (kind, rest.trim()) {
        ("prefix", path) => Some(format!("{}/*", path.trim_end_matches(['/', '*']))),
        ("regexp" | "regex" | "re", path) => Some(format!("~{path}")),
        ("exact", path) => Some(path.to_owned()),
        _ => None,
    }
}

/// What other programs write in place of a path.
fn foreign_path(text: &str) -> Option<String> {
    if let Some(inside) = in_call(text) {
        let path = match text.to_ascii_lowercase() {
            call if call.starts_with("pathprefix") => format!("{}/*", inside.trim_end_matches('/')),
            call if call.starts_with("pathregexp") => format!("~{inside}"),
            _ => inside.to_owned(),
        };
        return Some(format!("is a rule of Traefik; write {path:?}"));
    }
    let nginx = |sign: &str| text.strip_prefix(sign).map(str::trim_start);
    if let Some(path) = nginx("^~ ") {
        return Some(format!("is nginx's sign of a prefix; write \"{}/*\"", path.trim_end_matches('/')));
    }
    if let Some(path) = nginx("~* ") {
        return Some(format!(
            "is nginx's sign of an expression without case; write {:?}",
            format!("~(?i){path}")
        ));
    }
    if let Some(path) = nginx("~ ") {
        return Some(format!("has a space behind ~; write {:?}", format!("~{path}")));
    }
    if let Some(path) = nginx("= ") {
        return Some(format!("is nginx's sign of an exact path; write {path:?}"));
    }
    if text.starts_with('~') {
        return None;
    }
    if let Some(path) = without_kind(text) {
        return Some(format!("has a word for its kind; write {path:?}"));
    }
    Some(match text {
        "" | "*" => "is any path; leave \"path\" out for that, or write \"/*\"".to_owned(),
        _ if text.starts_with('^') || text.contains("(.*)") || text.contains("[^") || text.contains(".+") => {
            format!("looks like a regular expression; write ~ before it, as in {:?}", format!("~{text}"))
        }
        _ if text.starts_with('*') => {
            let rest = text.trim_start_matches('*').replace('.', "\\.");
            format!("has a * at its start; write a regular expression, as in {:?}", format!("~{rest}$"))
        }
        _ if text.starts_with('@') => {
            "is the name of a matcher of Caddy; write its conditions as keys of the route: \"path\", \"methods\", \"headers\""
                .to_owned()
        }
        _ if text.contains("://") => {
            let rest = text.split_once("://").map_or("", |(_, rest)| rest);
            let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            let path = if path.is_empty() { "/*" } else { path };
            format!("is a URL; write \"host\": {host:?}, \"path\": {path:?}")
        }
        _ if text.starts_with("/^") => {
            let pattern = text.trim_start_matches('/').trim_end_matches('/').replace("\\/", "/");
            format!("is a regular expression between slashes; write {:?}", format!("~{pattern}"))
        }
        _ if !text.starts_with('/') => format!("does not begin with /; write {:?}", format!("/{text}")),
        _ if text.contains('?') => {
            "has a query; write the path alone, and parameters as \"query\"".to_owned()
        }
        _ if text.contains('#') => "has a fragment, which no request has; write the path alone".to_owned(),
        _ if text.contains('{') || text.contains("/:") => {
            "has a parameter; write a regular expression, as in \"~^/users/([^/]+)$\"".to_owned()
        }
        _ if text.ends_with("/**") => {
            format!("has one * too many; write {:?}", text.trim_end_matches('*').to_owned() + "*")
        }
        _ if text.ends_with('*') && !text.ends_with("/*") && text.matches('*').count() == 1 => {
            let path = text.trim_end_matches('*');
            format!(
                "does not end at a segment; write \"{path}/*\" for {path} and what is below it, or \"~^{path}\""
            )
        }
        _ if text.trim_end_matches("/*").contains('*') => {
            "has a * in its middle; write a regular expression, as in \"~^/a/[^/]+/b$\"".to_owned()
        }
        _ => return None,
    })
}

/// The first argument of a call such as ``Host(`a`)``.
fn in_call(text: &str) -> Option<&str> {
    let (name, rest) = text.split_once('(')?;
    let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphabetic());
    let quote = rest.chars().next().filter(|first| "`'\"".contains(*first))?;
    rest[1..].split(quote).next().filter(|_| is_name)
}

fn method(node: &Node) -> Result<Box<[u8]>, String> {
    let advice = "write a method such as \"GET\"";
    let text = rules::text(node, advice)?;
    let upper = text.to_ascii_uppercase();
    let known = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"];
    if upper == "CONNECT" {
        return Err("CONNECT is always rejected; leave it out".to_owned());
    }
    if upper != text && known.contains(&upper.as_str()) {
        return Err(format!("{node} has small letters, and methods have a case; write {upper:?}"));
    }
    if text == "*" || upper == "ANY" || upper == "ALL" {
        return Err(format!("{node} is any method; leave \"methods\" out for that"));
    }
    match is_token(text) {
        true => Ok(text.as_bytes().into()),
        false => Err(format!("{node} is not a method; {advice}")),
    }
}

fn header(name: &str, node: &Node) -> Result<Field, String> {
    match name.to_ascii_lowercase().as_str() {
        _ if !is_token(name) => Err("is not the name of a header; write one such as \"X-Env\"".to_owned()),
        "host" => Err("is a condition of its own; write \"host\" in the route".to_owned()),
        lower => field(lower, name, node),
    }
}

fn cookie(name: &str, node: &Node) -> Result<Field, String> {
    match is_token(name) {
        true => field(name, name, node),
        false => Err("is not the name of a cookie; write one such as \"session\"".to_owned()),
    }
}

/// A condition on a value: true or false for its presence, a text, `text*` or `~expression`.
fn field(name: &str, shown: &str, node: &Node) -> Result<Field, String> {
    let advice = "write true (it is there), false (it is not), \"text\", \"start*\" or \"~expression\"";
    let test = match &node.value {
        Value::Flag(true) => Test::Present,
        Value::Flag(false) => Test::Absent,
        Value::Text(text) => match (text.strip_prefix('~'), text.strip_suffix('*')) {
            (Some(pattern), _) => {
                Test::Pattern(Pattern::new(pattern).map_err(|fault| format!("{node} {fault}"))?)
            }
            (None, Some("")) => return Err(format!("{node} is any value; write {shown:?}: true")),
            // `*/*` is a value of Accept.
            (None, Some(start)) if start.starts_with('*') && !start.starts_with("*/") => {
                let part = start.trim_start_matches('*');
                return Err(format!(
                    "{node} has a * at its start; write \"~{part}\" for a value that has it anywhere"
                ));
            }
            (None, Some(start)) => Test::Prefix(start.as_bytes().into()),
            (None, None) => Test::Exact(text.as_bytes().into()),
        },
        Value::Whole(number) => {
            return Err(format!("{number} is a number; write it in quotes: \"{number}\""));
        }
        Value::List(_) => {
            return Err(format!("expected one value, found a list; write \"~^(a|b)$\", or {advice}"));
        }
        _ => return Err(format!("expected a condition, found {node}; {advice}")),
    };
    match name.is_empty() {
        true => Err("is an empty name; write the name of what is looked at".to_owned()),
        false => Ok(Field { name: name.as_bytes().into(), test }),
    }
}

/// RFC 9110 section 5.6.2.
pub(in crate::state::config) fn is_token(text: &str) -> bool {
    let is_char = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.len() <= 256 && text.bytes().all(is_char)
}
