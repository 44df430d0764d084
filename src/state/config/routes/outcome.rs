//! What a route does: `pool`, `split`, `redirect`, `respond`, `rewrite`, and changes of headers.

use super::super::reader::Section;
use super::super::tree::{Node, Value};
use super::super::{pool_name, rules, spell};
use super::conditions::is_token;
use super::media::content_type;
use super::{Around, elsewhere, replacement};
use crate::base::ids::PoolId;
use crate::base::template::{Fault, Placeholder, Template};
use crate::http1::names::{Name, name_of};
use crate::http1::path::{self, EncodedSlash};
use crate::state::route::{
    Action, HeaderEdits, HeaderName, Key, NewHost, Redirect, Respond, Rewrite, Security, Split,
};
use crate::state::stamp::Stamped;
use std::cell::Cell;
use std::path::PathBuf;
use std::sync::Arc;

/// The keys of which a route has one at most.
const ACTIONS: [&str; 4] = ["pool", "split", "redirect", "respond"];
/// The longest body that is written in the file.
const INLINE_MAX: usize = 64 * 1024;

impl Around<'_> {
    /// The pool of a name.
    pub(super) fn pool(&self, node: &Node) -> Result<PoolId, String> {
        pool_name::pool(node, self.pools)
    }
}

/// Where requests go, and the file of a response.
pub(super) fn action(s: &mut Section<'_, '_>, around: &Around<'_>) -> (Action, Option<PathBuf>) {
    let given: Vec<&str> = ACTIONS.into_iter().filter(|key| s.has(key)).collect();
    let pool = s.get("pool", PoolId::default(), |node| around.pool(node));
    let split = s.optional("split", |section| split(section, around)).flatten();
    let redirect = s.optional("redirect", redirect).flatten();
    let respond = s.optional("respond", |section| respond(section, around));
    if let [first, second, ..] = given.as_slice() {
        s.fault(second, format!("excludes {first:?}: a request goes to one place; take one of them away"));
    }
    match (split, redirect, respond) {
        (Some(split), _, _) => (Action::Split(split), None),
        (_, Some(redirect), _) => (Action::Redirect(redirect), None),
        (_, _, Some((respond, file))) => (Action::Respond(respond), file),
        _ => (Action::Pool(pool), None),
    }
}

fn split(s: &mut Section<'_, '_>, around: &Around<'_>) -> Option<Split> {
    let weight = rules::whole::<u32>(0..=1_000_000);
    let example = r#"{ "stable": 95, "canary": 5 }"#;
    let are_read = Cell::new(true);
    let pools = s.pairs("pools", example, |name, node| {
        let text = Node::new(node.at, Value::Text(name.to_owned()));
        let pool = around.pool(&text).and_then(|pool| Ok((pool, name.to_owned(), weight(node)?)));
        pool.inspect_err(|_| are_read.set(false))
    });
    let key = s.get("key", Key::None, key);
    if s.is_there() && !s.has("pools") {
        s.fault("pools", format!("is missing; write \"pools\": {example}"));
    } else if s.is_there() && are_read.get() && pools.iter().all(|(_, _, weight)| *weight == 0) {
        s.fault("pools", format!("has no weight above 0; write {example}"));
    }
    Some(Split::new(key, pools.iter().map(|(pool, name, weight)| (*pool, name.as_str(), *weight))))
}

/// What requests that belong together have in common.
pub(in crate::state::config) fn key(node: &Node) -> Result<Key, String> {
    let advice = "write \"client\", \"header:X-User\", \"cookie:session\", \"query:id\", \"path\", \"uri\" or \"host\"";
    let text = rules::text(node, advice)?;
    match text.split_once(':') {
        None if text == "client" => Ok(Key::Client),
        None if text == "path" => Ok(Key::Path),
        None if text == "uri" => Ok(Key::Uri),
        None if text == "host" => Ok(Key::Host),
        Some(("query", name)) if is_token(name) => Ok(Key::Query(name.into())),
        Some(("header", name)) if is_token(name) => Ok(Key::Header(name.to_ascii_lowercase().into())),
        Some(("cookie", name)) if is_token(name) => Ok(Key::Cookie(name.into())),
        _ => Err(format!("{node} is not a key; {advice}")),
    }
}

fn redirect(s: &mut Section<'_, '_>) -> Option<Redirect> {
    let target = s.required("target", redirect_target);
    let status = s.get("status", 302, redirect_status);
    Some(Redirect { status, target: target? })
}

fn redirect_status(node: &Node) -> Result<u16, String> {
    let status = rules::whole(300..=399)(node)?;
    match status {
        301 | 302 | 303 | 307 | 308 => Ok(status),
        _ => {
            Err(format!("{node} is not a redirect; write 301 or 308 (for good), 302 or 307 (for now) or 303"))
        }
    }
}

fn redirect_target(node: &Node) -> Result<Template, String> {
    let (text, template) = template(node)?;
    let starts = ["/", "http://", "https://", "{scheme}://", "{uri}", "{path}"];
    if !starts.iter().any(|start| text.starts_with(start)) || text.starts_with("//") {
        return Err(format!(
            "{node} is not a target; write a path, or a URL such as \"https://{{host}}{{uri}}\": it must not be the request \
             that chooses the host"
        ));
    }
    match text.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Ok(template),
        false => Err(format!(
            "{node} is not a target; write visible ASCII characters, percent-encoded where needed"
        )),
    }
}

fn respond(s: &mut Section<'_, '_>, around: &Around<'_>) -> (Respond, Option<PathBuf>) {
    let status = s.get("status", 200, rules::whole(200..=599));
    let mut headers = s.pairs("headers", r#"{ "Content-Type": "text/plain" }"#, header_line(response_header));
    let body = s.maybe("body", None, inline_body);
    let file = s.maybe("file", None, rules::path(around.folder));
    s.has_contents(file.iter().map(Stamped::now));
    if body.is_some() && file.is_some() {
        s.fault("file", "excludes \"body\"; take one of them away".to_owned());
    }
    let has_body = body.as_ref().is_some_and(|body: &Vec<u8>| !body.is_empty()) || file.is_some();
    if has_body && matches!(status, 204 | 205 | 304) {
        s.fault("status", format!("{status} has no body; take the body away, or write another status"));
    }
    if (301..=308).contains(&status)
        && status != 304
        && !headers.iter().any(|(name, _)| name.matches(b"location"))
    {
        let advice = format!(
            "{status} without \"Location\" leads nowhere; write \"redirect\": {{ \"status\": {status}, \"target\": ... }}"
        );
        s.warn("status", advice);
    }
    if status == 444 {
        let advice =
            "is sent like any other status; in nginx it closes the connection, which no route does here";
        s.warn("status", advice.to_owned());
    }
    if has_body && !headers.iter().any(|(name, _)| name.matches(b"content-type")) {
        let kind = file.as_deref().map_or("text/plain; charset=utf-8", content_type);
        headers.extend(Template::parse(kind).map(|kind| (HeaderName::new("Content-Type"), kind)));
    }
    (Respond { status, headers, body: Arc::from(body.unwrap_or_default()) }, file)
}

fn inline_body(node: &Node) -> Result<Vec<u8>, String> {
    match &node.value {
        Value::Text(text) if text.len() <= INLINE_MAX => Ok(text.clone().into_bytes()),
        Value::Text(_) => {
            Err("is longer than 64KiB; write it to a file, and \"file\": \"page.html\" here".to_owned())
        }
        Value::Object(_) | Value::List(_) => {
            Err(format!("expected a string, found {node}; write JSON as a string, with \\\" for its quotes"))
        }
        _ => Err(format!("expected a string, found {node}; write it in quotes")),
    }
}

/// What changes in the request line and in Host.
pub(super) fn rewrite(s: &mut Section<'_, '_>) -> Option<Rewrite> {
    s.optional("rewrite", |s| {
        let rewrite = Rewrite {
            strip_prefix: s.get("strip_prefix", None, |node| strip_prefix(node).map(Some)),
            path: s.get("path", None, |node| rewrite_path(node).map(Some)),
            host: s.get("host", None, |node| rewrite_host(node).map(Some)),
        };
        if s.is_empty() {
            s.fault("", "has nothing to do; write \"strip_prefix\", \"path\" or \"host\"".to_owned());
        }
        rewrite
    })
}

fn strip_prefix(node: &Node) -> Result<Box<[u8]>, String> {
    let text = rules::target(node)?;
    let plain = text.trim_end_matches('*').trim_end_matches('/');
    if plain.is_empty() {
        return Err(format!("{node} removes nothing; leave it out"));
    }
    if text.contains(['*', '?']) || text.ends_with('/') {
        return Err(format!(
            "{node} is not a prefix of whole segments; write \"/{}\"",
            plain.trim_start_matches('/')
        ));
    }
    Ok(plain.as_bytes().into())
}

fn rewrite_path(node: &Node) -> Result<Template, String> {
    let (text, template) = template(node)?;
    let own = |placeholder: &Placeholder| matches!(placeholder, Placeholder::Uri | Placeholder::Query);
    if template.placeholders().any(own) {
        return Err(format!("{node} has the query, which is kept anyway; write {{path}} for the path alone"));
    }
    let is_start = text.starts_with('/') || text.starts_with("{path}") || text.starts_with("{1}");
    let is_plain = text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#' && byte != b'\\');
    let is_safe = template.constant().is_none_or(is_safe);
    match is_start && is_plain && is_safe && !text.contains("://") {
        true => Ok(template),
        false => Err(format!(
            "{node} is not a path; write one that begins with /, such as \"/new{{path}}\", without # and dot segments"
        )),
    }
}

fn is_safe(target: &[u8]) -> bool {
    let (path, _) = path::split(target);
    path::normalise(path, EncodedSlash::Refuse).is_ok_and(|normalised| !normalised.has_dot_dot)
}

fn rewrite_host(node: &Node) -> Result<NewHost, String> {
    let (text, template) = template(node)?;
    match template.constant() {
        _ if text == "server" => Ok(NewHost::OfServer),
        Some(_) => rules::host(node).map(|_| NewHost::Text(template)),
        None if template.placeholders().any(|placeholder| *placeholder == Placeholder::Server) => {
            Err(format!(
                "{node} has the name of a server, which is not chosen yet; write \"server\" for the host and port of its address"
            ))
        }
        None => Ok(NewHost::Text(template)),
    }
}

/// Changes of headers; the rules say which names may be changed, and which may be set.
pub(super) fn edits(
    s: &mut Section<'_, '_>,
    key: &'static str,
    rule: fn(&str) -> Result<HeaderName, String>,
    set: fn(&str) -> Result<HeaderName, String>,
) -> HeaderEdits {
    s.section(key, |s| HeaderEdits {
        set: s.pairs("set", r#"{ "X-Env": "staging" }"#, header_line(set)),
        add: s.pairs("add", r#"{ "X-Env": "staging" }"#, header_line(rule)),
        remove: s.values("remove", |node| removed(node, rule)).unwrap_or_default(),
        replace: replacement::all(s, rule),
    })
}

fn header_line(
    rule: fn(&str) -> Result<HeaderName, String>,
) -> impl Fn(&str, &Node) -> Result<(HeaderName, Template), String> {
    move |name, node| {
        let name = rule(name)?;
        match &node.value {
            Value::Null => Err("a header cannot be null; write its name in \"remove\"".to_owned()),
            Value::List(_) => {
                Err(format!("expected a string, found {node}; write one value, and a second one in \"add\""))
            }
            _ => Ok((name, template(node)?.1)),
        }
    }
}

fn removed(node: &Node, rule: fn(&str) -> Result<HeaderName, String>) -> Result<HeaderName, String> {
    let text = rules::text(node, "write the name of a header")?;
    match text.strip_suffix('*') {
        Some(start) if start.len() >= 2 && is_token(start) => Ok(HeaderName::new(text)),
        Some(_) => Err(format!("{node} is too much; write the start of names, such as \"X-Internal-*\"")),
        None => rule(text),
    }
}

/// A header of requests that a route may change.
pub(super) fn request_header(name: &str) -> Result<HeaderName, String> {
    match name_of(name.as_bytes()) {
        Name::Host => Err("is not changed here; write \"rewrite\": { \"host\": ... }".to_owned()),
        Name::XForwardedFor | Name::XForwardedProto | Name::XForwardedHost | Name::Forwarded => Err(
            "is written by the balancer, and believed by servers; write it in \"set\", with \"\" for none, or load_balancer.trusted_proxies to take it over from a proxy"
                .to_owned(),
        ),
        Name::XRequestId => Err("names the request in the log and is written by the balancer; choose another header for {request_id}".to_owned()),
        Name::XRequestDeadline => Err("tells a server how much time is left and is written by the balancer; write \"timeouts\": { \"request\": \"2s\" }".to_owned()),
        Name::MaxForwards => Err("is counted by proxies (RFC 9110 section 7.6.2); leave it out".to_owned()),
        _ => any_header(name),
    }
}

/// A header of requests that a route may set: the operator may know more of where they come from than the balancer sees.
pub(super) fn set_in_request(name: &str) -> Result<HeaderName, String> {
    if name_of(name.as_bytes()).is_of_proxies() { any_header(name) } else { request_header(name) }
}

/// A header of responses that a route may change.
pub(super) fn response_header(name: &str) -> Result<HeaderName, String> {
    any_header(name)
}

fn any_header(name: &str) -> Result<HeaderName, String> {
    match name_of(name.as_bytes()) {
        _ if !is_token(name) || name.contains('*') => {
            Err(format!("{name:?} is not the name of a header; write one such as \"X-Env\""))
        }
        Name::ContentLength | Name::TransferEncoding | Name::FramingLookalike | Name::Trailer => {
            Err("says where the message ends, which the balancer writes itself; leave it out".to_owned())
        }
        Name::Connection
        | Name::Close
        | Name::KeepAlive
        | Name::ProxyConnection
        | Name::Te
        | Name::Upgrade
        | Name::Http2Settings
        | Name::Expect => {
            Err("belongs to a single connection, which the balancer has its own of; leave it out".to_owned())
        }
        Name::Via => Err("protects from loops; write load_balancer.via to change the name in it".to_owned()),
        _ => Ok(HeaderName::new(name)),
    }
}

/// The preset of security headers.
pub(super) fn security(s: &mut Section<'_, '_>) -> Option<Security> {
    s.get("security_headers", None, |node| match node.unquoted().as_ref().unwrap_or(&node.value) {
        Value::Flag(true) => Ok(Some(Security::Usual)),
        Value::Flag(false) => Ok(None),
        Value::Text(text) if text == "strict" => Ok(Some(Security::Strict)),
        _ => Err(format!("expected true, false or \"strict\", found {node}; write one of these")),
    })
}

/// A text with placeholders, as it is written and parsed.
pub(super) fn template(node: &Node) -> Result<(&str, Template), String> {
    let Value::Text(text) = &node.value else {
        return Err(format!("expected a string, found {node}; write it in quotes"));
    };
    if let Some(advice) = dollar(text).or_else(|| of_haproxy(text)) {
        return Err(format!("{node} {advice}"));
    }
    let parsed = Template::parse(text).map_err(|fault| match &fault {
        Fault::Unknown(name) => format!("{node} {fault}{}", meant(name)),
        _ => format!("{node} {fault}"),
    });
    parsed.map(|template| (text.as_str(), template))
}

/// The placeholder that an unknown name may mean.
fn meant(name: &str) -> String {
    let names = Placeholder::names;
    if let Some(header) = elsewhere::header(name) {
        return format!("; write {{header:{header}}}");
    }
    let is_number = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit());
    match elsewhere::variable(name)
        .or_else(|| spell::nearest(name.trim_start_matches("http.request."), names()))
    {
        _ if is_number => "; groups are {1} to {9}".to_owned(),
        Some(near) => format!("; did you mean {{{near}}}?"),
        None => {
            let all: Vec<String> = names().map(|name| format!("{{{name}}}")).collect();
            format!("; known are {}, {{header:NAME}} and {{1}} to {{9}}", all.join(", "))
        }
    }
}

/// What to write instead of `%[src]`.
fn of_haproxy(text: &str) -> Option<String> {
    let (name, _) = text.split_once("%[")?.1.split_once(']')?;
    let known = elsewhere::variable(name).map(|known| format!("has %[{name}]; write {{{known}}}"));
    let call = || {
        format!(
            "has %[{name}], a form of HAProxy; placeholders are written {{client_ip}}, {{host}}, {{header:NAME}}"
        )
    };
    known.or_else(|| name.contains('(').then(call))
}

/// What to write instead of `$name`, `${name}` or `$1`.
fn dollar(text: &str) -> Option<String> {
    let (_, rest) = text.split_once('$')?;
    let rest = rest.strip_prefix('{').unwrap_or(rest);
    let is_name = |char: char| char.is_ascii_alphanumeric() || char == '_';
    let name = rest.split(|char| !is_name(char)).next().filter(|name| !name.is_empty())?;
    if let Some(header) = elsewhere::header(name) {
        return Some(format!("has ${name}; write {{header:{header}}}"));
    }
    let known = match name.as_bytes() {
        [b'1'..=b'9'] => Some(name),
        _ => elsewhere::variable(name).or_else(|| Placeholder::named(name).map(|_| name)),
    };
    known.map(|known| format!("has ${name}; write {{{known}}}"))
}
