//! `tracing`: spans of requests for a collector.

use super::reader::Section;
use super::rules;
use super::tree::Node;

/// `tracing`.
#[derive(Clone, Debug, PartialEq)]
pub struct Tracing {
    /// The URL of the collector's OTLP receiver, with its path.
    pub endpoint: String,
    /// The share of the traces that begin here which is recorded, 0 to 1.
    pub sample: f64,
    /// The name of this service in traces.
    pub service_name: String,
    /// Headers of each export.
    pub headers: Vec<(String, String)>,
}

/// Reads the section.
pub(super) fn read(s: &mut Section<'_, '_>) -> Tracing {
    let endpoint = s.required("endpoint", endpoint).unwrap_or_default();
    let headers = s.pairs("headers", "{ \"Authorization\": \"Bearer …\" }", header);
    Tracing {
        endpoint,
        sample: s.get("sample", 1.0, rules::share),
        service_name: s.get("service_name", "evenkeel".to_owned(), |node| {
            rules::text(node, "write a name such as \"edge\"").map(str::to_owned)
        }),
        headers,
    }
}

/// Where exporters of OpenTelemetry send traces if the URL names no path.
const PATH: &str = "/v1/traces";

fn endpoint(node: &Node) -> Result<String, String> {
    const ADVICE: &str = "write the URL of an OTLP receiver, such as \"http://127.0.0.1:4318/v1/traces\"";
    let text = rules::text(node, ADVICE)?;
    if text.starts_with("https://") {
        return Err(format!(
            "{node} is https, which is not supported here; {ADVICE} (an agent on this machine)"
        ));
    }
    let Some(rest) = text.strip_prefix("http://") else {
        return Err(format!("{node} is not a valid URL; {ADVICE}"));
    };
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let is_plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
    if host.is_empty() || !is_plain(rest) || host.contains('@') {
        return Err(format!("{node} is not a valid URL; {ADVICE}"));
    }
    Ok(format!("http://{host}{}", if path.len() > 1 { path } else { PATH }))
}

fn header(name: &str, node: &Node) -> Result<(String, String), String> {
    let value = rules::text(node, "write the value of the header")?;
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let is_valid = !name.is_empty()
        && name.bytes().all(is_token)
        && value.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
    is_valid.then(|| (name.to_owned(), value.to_owned())).ok_or_else(|| {
        format!("{name:?} with the value {node} is not a valid header; write visible ASCII characters")
    })
}
