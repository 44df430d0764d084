//! Spans as OTLP has them in JSON (opentelemetry-proto, `ExportTraceServiceRequest`), with the attributes of
//! OpenTelemetry's semantic conventions for HTTP servers. In this mapping ids are hexadecimal texts, and numbers of 64 bits are texts.

use crate::state::spans::Span;
use serde::Serialize;
use serde_json::{Value, json};
use std::time::Duration;

/// A span of a server (`SPAN_KIND_SERVER`).
const KIND_SERVER: u8 = 2;
/// A span that failed (`STATUS_CODE_ERROR`).
const STATUS_ERROR: u8 = 2;
/// Methods that have a name of their own in the conventions; others are `_OTHER`, so that clients make no new names.
const METHODS: [&str; 9] = ["CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"];

/// `ExportTraceServiceRequest`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Request {
    resource_spans: [ResourceSpans; 1],
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ResourceSpans {
    resource: Resource,
    scope_spans: [ScopeSpans; 1],
}

#[derive(Debug, Serialize)]
struct Resource {
    attributes: Vec<Attribute>,
}

#[derive(Debug, Serialize)]
struct ScopeSpans {
    scope: Scope,
    spans: Vec<OtlpSpan>,
}

#[derive(Debug, Serialize)]
struct Scope {
    name: &'static str,
    version: &'static str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct OtlpSpan {
    trace_id: String,
    span_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    parent_span_id: String,
    name: String,
    kind: u8,
    start_time_unix_nano: String,
    end_time_unix_nano: String,
    attributes: Vec<Attribute>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    events: Vec<Event>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    time_unix_nano: String,
    name: &'static str,
}

#[derive(Debug, Serialize)]
struct Status {
    code: u8,
    message: String,
}

#[derive(Debug, Serialize)]
struct Attribute {
    key: &'static str,
    value: Value,
}

/// The request that exports these spans.
pub(super) fn request(service: &str, spans: &[Span]) -> Request {
    let attributes = vec![
        text("service.name", service),
        text("service.version", env!("CARGO_PKG_VERSION")),
        number("process.pid", u64::from(std::process::id())),
    ];
    let scope = Scope { name: "evenkeel", version: env!("CARGO_PKG_VERSION") };
    let scope_spans = [ScopeSpans { scope, spans: spans.iter().map(span).collect() }];
    Request { resource_spans: [ResourceSpans { resource: Resource { attributes }, scope_spans }] }
}

fn span(span: &Span) -> OtlpSpan {
    let line = &span.line;
    let started = span.ended_unix_ns.saturating_sub(nanos(line.took));
    let is_error = line.status >= 500 || line.reason.is_some_and(|reason| reason.status() >= 499);
    let message = line.reason.map_or_else(String::new, |reason| reason.sentence().to_owned());
    let (method, _) = method(line.request.method());
    let route = line.names.as_ref().and_then(|names| names.route.as_ref());
    OtlpSpan {
        trace_id: format!("{:032x}", span.trace),
        span_id: format!("{:016x}", span.id),
        parent_span_id: span.parent.map_or_else(String::new, |parent| format!("{parent:016x}")),
        name: match (method, route) {
            ("_OTHER", None) => "HTTP".to_owned(),
            ("_OTHER", Some(route)) => format!("HTTP {}", route.name),
            (method, None) => method.to_owned(),
            (method, Some(route)) => format!("{method} {}", route.name),
        },
        kind: KIND_SERVER,
        start_time_unix_nano: started.to_string(),
        end_time_unix_nano: span.ended_unix_ns.to_string(),
        attributes: attributes(span),
        events: events(span, started),
        status: is_error.then_some(Status { code: STATUS_ERROR, message }),
    }
}

/// The method as the conventions name it, and whether it is another.
fn method(sent: &[u8]) -> (&'static str, bool) {
    let known = METHODS.into_iter().find(|known| known.as_bytes() == sent);
    (known.unwrap_or("_OTHER"), known.is_none())
}

fn attributes(span: &Span) -> Vec<Attribute> {
    let (line, request) = (&span.line, &span.line.request);
    let names = line.names.as_deref();
    let (method, is_other) = method(request.method());
    let mut target = request.target().splitn(2, |byte| *byte == b'?');
    let (path, query) = (target.next().unwrap_or_default(), target.next());
    let (host, port) = host_and_port(request.host());
    let mut all = vec![
        text("http.request.method", method),
        text("url.scheme", if names.is_some_and(|names| names.tls.is_some()) { "https" } else { "http" }),
        bytes("url.path", path),
        text("network.protocol.name", "http"),
        number("http.response.status_code", u64::from(line.status)),
        number("http.request.body.size", line.received),
        number("http.response.body.size", line.body_bytes),
        number("evenkeel.tries", u64::from(line.phases.tries)),
        text("evenkeel.request_id", &line.id.to_string()),
    ];
    let version = request.protocol().strip_prefix(b"HTTP/");
    let peer = line.peer.map(|peer| (peer.ip().to_string(), u64::from(peer.port())));
    let optional = [
        is_other.then(|| bytes("http.request.method_original", request.method())),
        query.map(|query| bytes("url.query", query)),
        version.map(|version| bytes("network.protocol.version", version)),
        (!host.is_empty()).then(|| bytes("server.address", host)),
        port.map(|port| number("server.port", port)),
        peer.as_ref().map(|(address, _)| text("network.peer.address", address)),
        peer.as_ref().map(|(_, port)| number("network.peer.port", *port)),
        line.client.map(|client| text("client.address", &client.to_string())),
        (!request.user_agent().is_empty()).then(|| bytes("user_agent.original", request.user_agent())),
        names
            .and_then(|names| names.tls.as_ref())
            .map(|(version, _)| text("tls.protocol.version", tls_version(version))),
        names.and_then(|names| names.tls.as_ref()).map(|(_, cipher)| text("tls.cipher", cipher)),
        names.and_then(|names| names.listener.as_ref()).map(|name| text("evenkeel.listener", name)),
        names.and_then(|names| names.route.as_ref()).map(|route| text("evenkeel.route", &route.name)),
        names.and_then(|names| names.pool.as_ref()).map(|name| text("evenkeel.pool", name)),
        line.server.as_ref().map(|server| text("evenkeel.server", &server.name)),
        line.server.as_ref().map(|server| text("evenkeel.server.address", &server.shown_address())),
        line.phases.queue.map(|took| ms("evenkeel.queue_ms", took)),
        line.phases.connect.map(|took| ms("evenkeel.connect_ms", took)),
        line.phases.first_byte.map(|took| ms("evenkeel.first_byte_ms", took)),
        match line.reason {
            Some(reason) => Some(text("error.type", reason.name())),
            None if line.status >= 500 => Some(text("error.type", &line.status.to_string())),
            None => None,
        },
    ];
    all.extend(optional.into_iter().flatten());
    all
}

/// When the phases were over that took time.
fn events(span: &Span, started: u64) -> Vec<Event> {
    let phases = &span.line.phases;
    let at = |name, at: Duration| Event { time_unix_nano: (started + nanos(at)).to_string(), name };
    let queued = phases.queue.unwrap_or_default();
    [
        phases.queue.map(|queue| at("evenkeel.dequeued", queue)),
        phases.connect.map(|connect| at("evenkeel.connected", queued + connect)),
        phases.first_byte.map(|first| at("evenkeel.response_headers", first)),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// `TLSv1.3` is `1.3` there.
fn tls_version(version: &str) -> &str {
    version.strip_prefix("TLSv").unwrap_or(version)
}

/// The host that was asked for, and its port if it names one.
fn host_and_port(host: &[u8]) -> (&[u8], Option<u64>) {
    let colon = host.iter().rposition(|byte| *byte == b':');
    let port = colon.and_then(|at| std::str::from_utf8(&host[at + 1..]).ok()?.parse().ok());
    match (colon, port) {
        (Some(at), Some(port)) => (&host[..at], Some(port)),
        _ => (host, None),
    }
}

fn text(key: &'static str, value: &str) -> Attribute {
    Attribute { key, value: json!({ "stringValue": value }) }
}

fn bytes(key: &'static str, value: &[u8]) -> Attribute {
    text(key, &String::from_utf8_lossy(value))
}

fn number(key: &'static str, value: u64) -> Attribute {
    Attribute { key, value: json!({ "intValue": value.to_string() }) }
}

fn ms(key: &'static str, took: Duration) -> Attribute {
    Attribute { key, value: json!({ "doubleValue": took.as_micros() as f64 / 1000.0 }) }
}

fn nanos(took: Duration) -> u64 {
    u64::try_from(took.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_methods_are_taken_apart() {
        for (host, expected) in [
            ("h.test", ("h.test", None)),
            ("h.test:8080", ("h.test", Some(8080))),
            ("[::1]:80", ("[::1]", Some(80))),
            ("[::1]", ("[::1]", None)),
            ("", ("", None)),
        ] {
            let (name, port) = host_and_port(host.as_bytes());
            assert_eq!((std::str::from_utf8(name).unwrap(), port), expected, "{host}");
        }
        assert_eq!((method(b"GET"), method(b"get")), (("GET", false), ("_OTHER", true)));
    }
}
