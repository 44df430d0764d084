//! What a listener with `redirect_to_https` does with a request.

use super::{Response, Routed, target_of};
use crate::http1::head::RequestHead;
use crate::http1::path::{self, EncodedSlash};
use crate::http1::reason::Reason;
use crate::policy::route::without_port;
use crate::state::listener::OpenListener;
use std::sync::Arc;

/// Whether the listener redirects no request for this path.
pub(super) fn is_excepted(listener: &OpenListener, head: &RequestHead<'_, '_>) -> bool {
    let except = &listener.settings.redirect_except;
    let is_one = |path: &[u8]| except.iter().any(|one| one.matches(path));
    let normalised = (!except.is_empty()).then(|| path::normalise(target_of(head).0, EncodedSlash::Refuse));
    normalised.is_some_and(|found| found.is_ok_and(|found| found.others.is_empty() && is_one(&found.path)))
}

/// Leads a client to the same resource over TLS, on this port. 301 where the method stays the same for every client;
/// elsewhere 308, because clients repeat a POST as a GET after a 301 (RFC 9110 section 15.4.2).
pub(super) fn to_https(head: &RequestHead<'_, '_>, port: u16) -> Result<Routed, Reason> {
    if head.host.is_empty() {
        return Err(Reason::BadHost);
    }
    let mut headers = b"Location: https://".to_vec();
    headers.extend_from_slice(without_port(head.host));
    if port != 443 {
        headers.extend_from_slice(format!(":{port}").as_bytes());
    }
    if head.target != b"*" {
        headers.extend_from_slice(if head.slash_first { b"/" } else { b"" });
        headers.extend_from_slice(head.target);
    }
    headers.extend_from_slice(b"\r\n");
    let status = if matches!(head.method, b"GET" | b"HEAD") { 301 } else { 308 };
    Ok(Routed::Respond(None, Response { status, headers, body: Arc::default() }))
}
